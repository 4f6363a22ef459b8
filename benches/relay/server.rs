//! The servers under test: started on one core, watched through `/proc`, and ended again.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use turnpike::wire::stun::{Class, Message, Method, TransactionId, Writer};

/// The user every server knows.
pub const USER: &str = "bench";
/// The user's password.
pub const PASSWORD: &str = "correct horse battery staple";
/// The realm of every server.
pub const REALM: &str = "bench.example";

/// Lowest port a server may relay from; its listener stays below.
const RELAY_PORT_FIRST: u16 = 49152;
/// How often a fresh server is asked whether it answers, 50 ms apart.
const READY_TRIES: u32 = 200;

/// Raises the limit of open files, binds the server's life to ours, and pins it to a core.
const LAUNCH: &str = "ulimit -n \"$(ulimit -H -n)\"; exec setpriv --pdeathsig KILL taskset -c \"$0\" \"$@\"";

/// Which command line a server is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// `turnpike run -c FILE`.
    Turnpike,
    /// `turnserver` with flags.
    Coturn,
}

/// A server that can be started.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name in tables.
    pub name: String,
    /// Its command line.
    pub flavour: Flavour,
    /// Its binary.
    pub program: PathBuf,
}

/// CPU time and wake-ups of a process up to some moment, over all of its threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time on the core, user and kernel, in nanoseconds.
    pub cpu_ns: u64,
    /// Times a thread was put on the core.
    pub wakeups: u64,
}

impl Usage {
    /// What a process has used so far.
    pub fn of(pid: u32) -> io::Result<Self> {
        let mut usage = Usage::default();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            // Time on the core, time in the queue, number of turns: nanoseconds, where `stat`
            // counts in hundredths of a second. Threads of either server outlive a window.
            let line = fs::read_to_string(thread?.path().join("schedstat"))?;
            let mut fields = line.split_whitespace().map(|field| field.parse().unwrap_or(0));
            usage.cpu_ns += fields.next().unwrap_or(0);
            usage.wakeups += fields.nth(1).unwrap_or(0);
        }
        Ok(usage)
    }
}

/// A running server. It ends when this is dropped, and when this program dies.
#[derive(Debug)]
pub struct Server {
    child: Child,
    room: PathBuf,
    /// Where clients reach it.
    pub addr: SocketAddr,
}

impl Candidate {
    /// What the binary says when asked for its version, one line.
    pub fn version(&self) -> String {
        let run = Command::new(&self.program).arg("--version").output();
        let text = run.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
        text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("unknown").to_owned()
    }

    /// Starts the server on a core, with fresh state in a directory of its own under `rooms`,
    /// and waits until it answers.
    pub fn start(&self, core: usize, rooms: &Path) -> io::Result<Server> {
        let addr = free_port()?;
        let room = rooms.join(format!("{}-{}", self.name, addr.port()));
        fs::create_dir_all(&room)?;
        let log = File::create(room.join("output"))?;
        let child = Command::new("sh")
            .args(["-c", LAUNCH, &core.to_string()])
            .arg(&self.program)
            .args(self.arguments(addr, &room)?)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut server = Server { child, room, addr };
        server.wait_until_ready().map_err(|error| {
            let output = fs::read_to_string(server.room.join("output")).unwrap_or_default();
            io::Error::other(format!("{}: {error}\n{}", self.program.display(), output.trim_end()))
        })?;
        Ok(server)
    }

    fn arguments(&self, addr: SocketAddr, room: &Path) -> io::Result<Vec<String>> {
        let path = |name: &str| room.join(name).display().to_string();
        match self.flavour {
            Flavour::Turnpike => {
                fs::write(room.join("turnpike.toml"), turnpike_config(addr))?;
                Ok(vec!["run".into(), "-c".into(), path("turnpike.toml")])
            }
            Flavour::Coturn => {
                let flags = format!(
                    "-n --no-cli --no-tls --no-dtls --no-software-attribute --relay-threads=1 --lt-cred-mech \
                     --allow-loopback-peers --no-stdout-log --simple-log --log-file=/dev/null \
                     -r {REALM} -L {ip} -E {ip} -p {port}",
                    ip = addr.ip(),
                    port = addr.port(),
                );
                let mut list: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
                list.extend(["-u".into(), format!("{USER}:{PASSWORD}")]);
                list.extend(["--pidfile".into(), path("pid"), "--userdb".into(), path("turndb")]);
                Ok(list)
            }
        }
    }
}

fn turnpike_config(addr: SocketAddr) -> String {
    format!(
        "realm = \"{REALM}\"\n\
         workers = 1\n\
         [listen]\nudp = [\"{addr}\"]\ntcp = [\"{addr}\"]\n\
         [relay]\nports = \"{RELAY_PORT_FIRST}-65535\"\naddresses = [\"{ip}\"]\nallow_loopback_peers = true\n\
         [auth]\nusers = {{ {USER} = \"{PASSWORD}\" }}\n\
         [http]\nlisten = \"\"\nadmin_listen = \"\"\nadmin_socket = \"\"\n\
         [limits]\nunverified_per_second = 0\n",
        ip = addr.ip(),
    )
}

/// A port that is free for UDP and TCP and that no relayed address can take.
fn free_port() -> io::Result<SocketAddr> {
    for _ in 0..1000 {
        let addr = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        if addr.port() < RELAY_PORT_FIRST && TcpListener::bind(addr).is_ok() {
            return Ok(addr);
        }
    }
    Err(io::Error::other("no free port below the relay range"))
}

impl Server {
    fn wait_until_ready(&mut self) -> io::Result<()> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut out = [0; 20];
        let ask = Writer::new(&mut out, Class::Request, Method::BINDING, TransactionId(*b"are you here"));
        let len = ask.finish().map_err(|_| io::Error::other("a header did not fit"))?;
        for _ in 0..READY_TRIES {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("ended at once ({status})")));
            }
            socket.send_to(&out[..len], self.addr)?;
            let mut answer = [0; 512];
            match socket.recv(&mut answer) {
                Ok(len) if Message::parse(&answer[..len]).is_ok_and(|m| m.class() == Class::Success) => {
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(io::Error::other(format!("no answer to a Binding request within 10 s ({})", self.addr)))
    }

    /// What the server has used so far.
    pub fn usage(&self) -> io::Result<Usage> {
        Usage::of(self.child.id())
    }

    /// Memory the server holds, in KiB.
    pub fn rss_kib(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|n| n.parse().ok()).ok_or_else(|| io::Error::other("the server has ended"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Errors here mean that it has ended by itself, which the measurement has noticed.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.room);
    }
}
