//! A program under a benchmark: started on its cores, waited for, and ended with whoever started it.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use turnpike::wire::stun::{Class, Message, Method, TransactionId, Writer};

/// Lowest port a server may relay from; its listeners stay below.
pub const RELAY_PORT_FIRST: u16 = 49152;
/// How often a fresh server is asked whether it answers, 50 ms apart.
const READY_TRIES: u32 = 200;

/// Raises the limit of open files, binds the program's life to ours, and pins it to cores.
pub const LAUNCH: &str = "ulimit -n \"$(ulimit -H -n)\"; exec setpriv --pdeathsig KILL taskset -c \"$0\" \"$@\"";

/// A running program. It ends when this is dropped, and when the thread that started it does.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts it on these cores; what it says goes to `log`.
    pub fn launch(cores: &str, program: &Path, arguments: &[String], log: File) -> io::Result<Daemon> {
        let mut command = Command::new("sh");
        command.args(["-c", LAUNCH, cores]).arg(program).args(arguments);
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Daemon { child })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it answers a Binding request.
    pub fn wait_until_ready(&mut self, addr: SocketAddr) -> io::Result<()> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut out = [0; 20];
        let ask = Writer::new(&mut out, Class::Request, Method::BINDING, TransactionId(*b"are you here"));
        let len = ask.finish().map_err(|_| io::Error::other("a header did not fit"))?;
        for _ in 0..READY_TRIES {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("ended at once ({status})")));
            }
            socket.send_to(&out[..len], addr)?;
            let mut answer = [0; 512];
            match socket.recv(&mut answer) {
                Ok(len) if Message::parse(&answer[..len]).is_ok_and(|m| m.class() == Class::Success) => {
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(io::Error::other(format!("no answer to a Binding request within 10 s ({addr})")))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Errors here mean that it has ended by itself, which the measurement has noticed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is free for UDP and TCP and that no relayed address can take.
pub fn free_port() -> io::Result<SocketAddr> {
    for _ in 0..1000 {
        let addr = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        if addr.port() < RELAY_PORT_FIRST && TcpListener::bind(addr).is_ok() {
            return Ok(addr);
        }
    }
    Err(io::Error::other("no free port below the relay range"))
}
