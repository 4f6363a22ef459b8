//! The servers under test: started on their cores with fresh state, and ended again.

use crate::scenario::{Scenario, Transport};
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
const REALM: &str = "bench.example";

/// Lowest port a server may relay from; its listeners stay below.
const RELAY_PORT_FIRST: u16 = 49152;
/// How often a fresh server is asked whether it answers, 50 ms apart.
const READY_TRIES: u32 = 200;

/// Raises the limit of open files, binds the server's life to ours, and pins it to cores.
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
    /// Its relay threads.
    pub workers: u32,
    /// Whether it knows `relay.moderation_max`, which an older `base` may not.
    pub moderates: bool,
}

/// Files and directories that servers need.
#[derive(Debug)]
pub struct Premises<'a> {
    /// Where each gets a directory of its own.
    pub rooms: &'a Path,
    /// A certificate, PEM.
    pub certificate: &'a Path,
    /// Its key, PEM.
    pub key: &'a Path,
}

/// A running server. It ends when this is dropped, and when this program dies.
#[derive(Debug)]
pub struct Server {
    child: Child,
    room: PathBuf,
    /// Where clients reach it by UDP and TCP.
    pub addr: SocketAddr,
    /// Where clients reach it by TLS, in scenarios that do.
    pub tls_addr: SocketAddr,
}

impl Candidate {
    /// A candidate with one relay thread.
    pub fn new(name: &str, flavour: Flavour, program: PathBuf, rooms: &Path) -> io::Result<Self> {
        let mut candidate = Candidate { name: name.to_owned(), flavour, program, workers: 1, moderates: false };
        candidate.moderates = flavour == Flavour::Turnpike;
        if name == "base" {
            let file = rooms.join("moderation.toml");
            fs::write(&file, "[relay]\nmoderation_max = \"0\"\n")?;
            // An older build refuses a key that it does not know.
            let check = Command::new(&candidate.program).arg("check").arg("-c").arg(&file).output()?;
            candidate.moderates = !String::from_utf8_lossy(&check.stderr).contains("moderation_max");
        }
        Ok(candidate)
    }

    /// Whether it is a turnpike that does not know `relay.moderation_max`.
    pub fn lacks_moderation(&self) -> bool {
        self.flavour == Flavour::Turnpike && !self.moderates
    }

    /// What the binary says when asked for its version, one line.
    pub fn version(&self) -> String {
        let run = Command::new(&self.program).arg("--version").output();
        let text = run.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
        text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("unknown").to_owned()
    }

    /// Starts the server on its cores for a scenario and waits until it answers.
    pub fn start(&self, cores: &str, scenario: &Scenario, premises: &Premises<'_>) -> io::Result<Server> {
        let (addr, tls_addr) = (free_port()?, free_port()?);
        let room = premises.rooms.join(format!("{}-{}", self.name, addr.port()));
        fs::create_dir_all(&room)?;
        let log = File::create(room.join("output"))?;
        let tls_addr = (scenario.transport == Transport::Tls).then_some(tls_addr);
        let arguments = match self.flavour {
            Flavour::Turnpike => {
                let file = room.join("turnpike.toml");
                fs::write(&file, self.turnpike_config(addr, tls_addr, scenario, premises))?;
                vec!["run".into(), "-c".into(), file.display().to_string()]
            }
            Flavour::Coturn => coturn_flags(addr, tls_addr, &room, premises),
        };
        let child = Command::new("sh")
            .args(["-c", LAUNCH, cores])
            .arg(&self.program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut server = Server { child, room, addr, tls_addr: tls_addr.unwrap_or(addr) };
        server.wait_until_ready().map_err(|error| {
            let output = fs::read_to_string(server.room.join("output")).unwrap_or_default();
            io::Error::other(format!("{}: {error}\n{}", self.program.display(), output.trim_end()))
        })?;
        Ok(server)
    }

    fn turnpike_config(
        &self,
        addr: SocketAddr,
        tls: Option<SocketAddr>,
        scenario: &Scenario,
        premises: &Premises<'_>,
    ) -> String {
        let moderation = match self.moderates {
            true => format!("moderation_max = \"{}\"\n", scenario.moderation),
            false => String::new(),
        };
        let tls = tls.map_or_else(String::new, |tls| {
            let (cert, key) = (premises.certificate.display(), premises.key.display());
            format!("tls = [\"{tls}\"]\n[tls]\ncert = \"{cert}\"\nkey = \"{key}\"\n")
        });
        format!(
            "realm = \"{REALM}\"\n\
             workers = {workers}\n\
             [relay]\nports = \"{RELAY_PORT_FIRST}-65535\"\naddresses = [\"{ip}\"]\nallow_loopback_peers = true\n\
             {moderation}\
             [auth]\nusers = {{ {USER} = \"{PASSWORD}\" }}\n\
             [http]\nlisten = \"\"\nadmin_listen = \"\"\nadmin_socket = \"\"\n\
             [limits]\nunverified_per_second = 0\n\
             [listen]\nudp = [\"{addr}\"]\ntcp = [\"{addr}\"]\n{tls}",
            workers = self.workers,
            ip = addr.ip(),
        )
    }
}

fn coturn_flags(addr: SocketAddr, tls: Option<SocketAddr>, room: &Path, premises: &Premises<'_>) -> Vec<String> {
    let path = |name: &str| room.join(name).display().to_string();
    let flags = format!(
        "-n --no-cli --no-dtls --no-software-attribute --relay-threads=1 --lt-cred-mech --allow-loopback-peers \
         --no-stdout-log --simple-log --log-file=/dev/null -r {REALM} -L {ip} -E {ip} -p {port}",
        ip = addr.ip(),
        port = addr.port(),
    );
    let mut list: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    list.extend(["-u".into(), format!("{USER}:{PASSWORD}")]);
    list.extend(["--pidfile".into(), path("pid"), "--userdb".into(), path("turndb")]);
    match tls {
        None => list.push("--no-tls".into()),
        Some(tls) => {
            list.push(format!("--tls-listening-port={}", tls.port()));
            list.push(format!("--cert={}", premises.certificate.display()));
            list.push(format!("--pkey={}", premises.key.display()));
        }
    }
    list
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

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
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
