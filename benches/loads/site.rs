//! A fresh turnpike with everything on: UDP, TCP, TLS, the public part and the admin part, each on a port of its own.

use crate::certificate;
use crate::daemon::{Daemon, RELAY_PORT_FIRST, free_port};
use crate::gauges::{Metrics, Reading, wait_until};
use crate::server::{PASSWORD, USER};
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Who may ask for credentials.
pub const API_KEY: &str = "the key of the benchmarks";

/// How long the admin part may take to answer after the relay does.
const ADMIN_PATIENCE: Duration = Duration::from_secs(10);

/// What a load wants of its server besides the defaults.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The cores it runs on, as `taskset` takes them.
    pub cores: String,
    /// Relay threads.
    pub workers: usize,
    /// Lines of `[limits]`.
    pub limits: &'static str,
    /// Lines of `[rooms]`.
    pub rooms: &'static str,
}

/// A running server. It ends when this is dropped; its files stay.
#[derive(Debug)]
pub struct Site {
    daemon: Daemon,
    /// Where clients reach it by UDP and TCP.
    pub addr: SocketAddr,
    /// Where clients reach it by TLS.
    pub tls: SocketAddr,
    /// The public part.
    pub public: SocketAddr,
    /// The admin part.
    pub admin: SocketAddr,
    /// Its configuration, certificate and log.
    pub room: PathBuf,
    wish: Wish,
}

impl Site {
    /// Starts it in a directory of its own below `rooms` and waits until it answers.
    pub fn start(program: &Path, rooms: &Path, wish: Wish) -> io::Result<Site> {
        let [addr, tls, public, admin] = [free_port()?, free_port()?, free_port()?, free_port()?];
        let room = rooms.join(format!("server-{}", addr.port()));
        fs::create_dir_all(&room)?;
        certificate::write(&room)?;
        let file = room.join("turnpike.toml");
        certificate::private(&file, &configuration([addr, tls, public, admin], &wish, 0))?;
        let log = File::create(room.join("log"))?;
        let arguments = ["run".to_owned(), "-c".to_owned(), file.display().to_string()];
        let mut daemon = Daemon::launch(&wish.cores, program, &arguments, log)?;
        daemon.wait_until_ready(addr).map_err(|error| {
            let said = fs::read_to_string(room.join("log")).unwrap_or_default();
            io::Error::other(format!("{}: {error}\n{}", program.display(), said.trim_end()))
        })?;
        if !wait_until(ADMIN_PATIENCE, || Ok(Metrics::scrape(admin).is_ok()))? {
            return Err(io::Error::other(format!("no answer at {admin}")));
        }
        Ok(Site { daemon, addr, tls, public, admin, room, wish })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// What it counts, by its own account.
    pub fn metrics(&self) -> io::Result<Metrics> {
        Metrics::scrape(self.admin)
    }

    /// What it holds, by the kernel's account.
    pub fn reading(&self) -> io::Result<Reading> {
        Reading::of(self.pid())
    }

    /// Gives it a configuration that differs in one limit, which nobody reaches, to be read at the next reload.
    pub fn reconfigure(&self, allocations_per_user: u32) -> io::Result<()> {
        let addrs = [self.addr, self.tls, self.public, self.admin];
        certificate::private(&self.room.join("turnpike.toml"), &configuration(addrs, &self.wish, allocations_per_user))
    }
}

fn configuration([addr, tls, public, admin]: [SocketAddr; 4], wish: &Wish, allocations_per_user: u32) -> String {
    format!(
        "realm = \"bench.example\"\n\
         workers = {workers}\n\
         [listen]\nudp = [\"{addr}\"]\ntcp = [\"{addr}\"]\ntls = [\"{tls}\"]\n\
         [tls]\ncert = \"certificate.pem\"\nkey = \"certificate.pem\"\n\
         [relay]\nports = \"{RELAY_PORT_FIRST}-65535\"\naddresses = [\"{ip}\"]\nallow_loopback_peers = true\n\
         [auth]\nusers = {{ {USER} = \"{PASSWORD}\" }}\nsecrets = [\"the secret of the benchmarks\"]\n\
         [limits]\nallocations_per_user = {allocations_per_user}\n{limits}\n\
         [http]\nlisten = \"{public}\"\nadmin_listen = \"{admin}\"\nadmin_socket = \"\"\napi_keys = [\"{API_KEY}\"]\n\
         [rooms]\n{rooms}\n\
         [log]\nformat = \"json\"\n",
        workers = wish.workers,
        // An address of its own: other programs of this host take ports of 127.0.0.1, which would count as not free.
        ip = Ipv4Addr::from_bits(Ipv4Addr::new(127, 200, 0, 0).to_bits() + u32::from(addr.port())),
        limits = wish.limits,
        rooms = wish.rooms,
    )
}
