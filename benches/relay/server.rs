//! The servers under test: started on their cores with fresh state, and ended again.

use crate::daemon::{Daemon, RELAY_PORT_FIRST, free_port};
use crate::scenario::{Scenario, Transport};
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The user every server knows.
pub const USER: &str = "bench";
/// The user's password.
pub const PASSWORD: &str = "correct horse battery staple";
/// The realm of every server.
const REALM: &str = "bench.example";

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
    daemon: Daemon,
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
        let daemon = Daemon::launch(cores, &self.program, &arguments, log)?;
        let mut server = Server { daemon, room, addr, tls_addr: tls_addr.unwrap_or(addr) };
        server.daemon.wait_until_ready(addr).map_err(|error| {
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

impl Server {
    /// The process.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A directory that stays behind is no reason to lose the figures.
        let _ = fs::remove_dir_all(&self.room);
    }
}
