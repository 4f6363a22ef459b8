//! The daemon under a service manager: what it says, and which sockets it takes over.
//!
//! The service manager here is a unix datagram socket and a shell that passes files; the real one
//! starts the installed package in `tests/packages.sh`.

mod wire_client;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use turnpike::wire::attribute;
use wire_client::{Reply, binding};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// As long as a message to a service manager gets here.
const MESSAGE_LEN_MAX: usize = 4096;

/// A directory of one test with the service manager's socket in it, gone with it.
struct Manager {
    folder: PathBuf,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("service-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        let socket = UnixDatagram::bind(folder.join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { folder, socket }
    }

    fn configure(&self, listen: &str) {
        let rest =
            "realm = \"example.org\"\nworkers = 2\n[http]\nlisten = \"\"\nadmin_listen = \"\"\nadmin_socket = \"\"\n";
        fs::write(self.folder.join("turnpike.toml"), format!("{rest}[listen]\n{listen}")).unwrap();
    }

    /// The server, with two sockets as a socket unit passes them.
    fn command(&self, passed: Option<[OwnedFd; 2]>) -> Command {
        let pass = "exec 3<&0 4<&1 </dev/null >/dev/null; export LISTEN_PID=$$ LISTEN_FDS=2; exec \"$0\" \"$@\"";
        let binary = env!("CARGO_BIN_EXE_turnpike");
        let mut command = match passed {
            None => Command::new(binary),
            Some([one, other]) => {
                let mut command = Command::new("sh");
                command.args(["-c", pass, binary]).env("LISTEN_FDNAMES", "turnpike.socket:turnpike.socket");
                command.stdin(Stdio::from(one)).stdout(Stdio::from(other));
                command
            }
        };
        command.args(["run", "-c"]).arg(self.folder.join("turnpike.toml"));
        command.env("NOTIFY_SOCKET", self.folder.join("notify")).env_remove("FDSTORE");
        command
    }

    fn start(&self, passed: Option<[OwnedFd; 2]>) -> Running {
        let running = Running(self.command(passed).stderr(Stdio::null()).spawn().unwrap());
        self.until("READY=1");
        running
    }

    /// What a server that must not start says.
    fn refused(&self, passed: [OwnedFd; 2]) -> (Option<i32>, String) {
        let Output { status, stderr, .. } = self.command(Some(passed)).stderr(Stdio::piped()).output().unwrap();
        (status.code(), String::from_utf8(stderr).unwrap())
    }

    /// The next message.
    fn message(&self) -> String {
        let mut room = [0; MESSAGE_LEN_MAX];
        let len = self.socket.recv(&mut room).expect("the server tells the service manager");
        String::from_utf8(room[..len].to_vec()).unwrap()
    }

    /// The next message with this line.
    fn until(&self, line: &str) -> String {
        loop {
            let message = self.message();
            if message.lines().any(|of_it| of_it == line) {
                return message;
            }
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

struct Running(Child);

impl Running {
    fn signal(&self, name: &str) {
        let told = Command::new("kill").args([format!("-{name}"), self.0.id().to_string()]).status();
        assert!(told.unwrap().success());
    }

    fn end(mut self, signal: &str) {
        self.signal(signal);
        assert_eq!(self.0.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn value<'a>(message: &'a str, key: &str) -> &'a str {
    message.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_else(|| panic!("{message}"))
}

/// A UDP and a TCP socket on one port each.
fn sockets(ip: [Ipv4Addr; 2]) -> (UdpSocket, TcpListener) {
    (UdpSocket::bind((ip[0], 0)).unwrap(), TcpListener::bind((ip[1], 0)).unwrap())
}

fn listen(udp: SocketAddr, tcp: SocketAddr) -> String {
    format!("udp = [\"{udp}\"]\ntcp = [\"{tcp}\"]\n")
}

/// Asks by UDP once: nothing is lost on loopback while there is room.
fn ask(server: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(&binding().encode(), server).unwrap();
    client
}

fn answered(client: &UdpSocket) {
    let mut room = [0; 1500];
    let len = client.recv(&mut room).expect("the server answers");
    let reply = Reply::decode(&room[..len]);
    assert_eq!(reply.address(attribute::XOR_MAPPED_ADDRESS), client.local_addr().unwrap());
}

fn answered_by_tcp(server: SocketAddr) {
    let mut client = TcpStream::connect(server).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(&binding().encode()).unwrap();
    let mut head = [0; 20];
    client.read_exact(&mut head).expect("the server answers");
    let mut message = head.to_vec();
    message.resize(20 + usize::from(u16::from_be_bytes([head[2], head[3]])), 0);
    client.read_exact(&mut message[20..]).unwrap();
    let reply = Reply::decode(&message);
    assert_eq!(reply.address(attribute::XOR_MAPPED_ADDRESS), client.local_addr().unwrap());
}

#[test]
fn the_service_manager_hears_of_the_start_each_reload_and_the_end() {
    let manager = Manager::new();
    manager.configure("udp = [\"127.0.0.1:0\"]\ntcp = [\"127.0.0.1:0\"]\n");
    let mut command = manager.command(None);
    let mut running = Running(command.stderr(Stdio::null()).spawn().unwrap());
    // Two workers' sockets of two listeners, each under a name of its own; then all is ready.
    let mut names: Vec<String> = Vec::new();
    let ready = loop {
        let message = manager.message();
        match message.starts_with("FDSTORE=1\n") {
            true => names.push(value(&message, "FDNAME").to_owned()),
            false => break message,
        }
    };
    assert!(names.iter().all(|name| name.starts_with("stored-")), "{names:?}");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(ready.starts_with("READY=1\n"), "{ready}");
    assert!(value(&ready, "STATUS").starts_with("serving: udp 127.0.0.1:"), "{ready}");

    running.signal("HUP");
    let reloading = manager.message();
    assert!(reloading.starts_with("RELOADING=1\n"), "{reloading}");
    assert!(value(&reloading, "MONOTONIC_USEC").parse::<u64>().unwrap() > 0);
    assert!(value(&manager.until("READY=1"), "STATUS").starts_with("serving by the configuration"));
    fs::write(manager.folder.join("turnpike.toml"), "nonsense = 1\n").unwrap();
    running.signal("HUP");
    let refused = manager.until("READY=1");
    assert!(value(&refused, "STATUS").contains("the old configuration stays"), "{refused}");
    assert!(running.0.try_wait().unwrap().is_none());

    running.signal("TERM");
    let stopping = manager.until("STOPPING=1");
    // The default minute of draining, and some more to end.
    assert!(value(&stopping, "EXTEND_TIMEOUT_USEC").parse::<u64>().unwrap() > 60_000_000, "{stopping}");
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_service_manager_without_a_file_is_told_too() {
    let mut manager = Manager::new();
    manager.configure("udp = [\"127.0.0.1:0\"]\ntcp = []\n");
    let name = format!("turnpike-{}", manager.folder.display());
    manager.socket = UnixDatagram::bind_addr(&net::SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = manager.command(None);
    let running = Running(command.env("NOTIFY_SOCKET", format!("@{name}")).stderr(Stdio::null()).spawn().unwrap());
    assert!(manager.message().starts_with("FDSTORE=1\n"));
    manager.until("READY=1");
    running.end("INT");
}

#[test]
fn nothing_is_opened_before_the_service_manager_has_given_up_what_is_for_no_listener() {
    let manager = Manager::new();
    let (udp, tcp) = sockets([Ipv4Addr::LOCALHOST; 2]);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let wanted = listener.local_addr().unwrap();
    drop(listener);
    manager.configure(&format!("udp = []\ntcp = [\"{wanted}\"]\n"));
    let mut command = manager.command(Some([udp.into(), tcp.into()]));
    command.env("LISTEN_FDNAMES", "stored-1:stored-2").stderr(Stdio::null());
    let running = Running(command.spawn().unwrap());
    for name in ["stored-1", "stored-2"] {
        assert_eq!(manager.message(), format!("FDSTOREREMOVE=1\nFDNAME={name}\n"));
    }
    // Looked at and left there: the file that came with it stays open.
    let mut room = [std::mem::MaybeUninit::uninit(); MESSAGE_LEN_MAX];
    assert_eq!(socket2::SockRef::from(&manager.socket).peek(&mut room).unwrap(), "BARRIER=1".len());
    TcpStream::connect(wanted).expect_err("it waits");
    assert_eq!(manager.message(), "BARRIER=1");
    manager.until("READY=1");
    answered_by_tcp(wanted);
    running.end("INT");
}

#[test]
fn the_watchdog_is_fed_if_the_service_manager_asks() {
    let manager = Manager::new();
    manager.configure("udp = [\"127.0.0.1:0\"]\ntcp = []\n");
    let mut command = manager.command(None);
    let running = Running(command.env("WATCHDOG_USEC", "300000").stderr(Stdio::null()).spawn().unwrap());
    for _ in 0..5 {
        manager.until("WATCHDOG=1");
    }
    running.end("INT");
    // One that is meant for another process is not.
    manager.socket.set_nonblocking(true).unwrap();
    while manager.socket.recv(&mut [0; MESSAGE_LEN_MAX]).is_ok() {}
    manager.socket.set_nonblocking(false).unwrap();
    let mut command = manager.command(None);
    command.env("WATCHDOG_USEC", "3000").env("WATCHDOG_PID", "1");
    let running = Running(command.stderr(Stdio::null()).spawn().unwrap());
    manager.until("READY=1");
    running.signal("HUP");
    let before = std::iter::repeat_with(|| manager.message()).take_while(|message| !message.starts_with("READY"));
    assert!(before.into_iter().all(|message| !message.contains("WATCHDOG")));
    running.end("INT");
}

#[test]
fn passed_sockets_are_served_and_what_waited_in_them_too() {
    let manager = Manager::new();
    let (udp, tcp) = sockets([Ipv4Addr::LOCALHOST; 2]);
    let (udp_addr, tcp_addr) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    manager.configure(&listen(udp_addr, tcp_addr));
    let early = ask(udp_addr);
    let waiting = TcpStream::connect(tcp_addr).unwrap();
    let running = manager.start(Some([udp.into(), tcp.into()]));
    answered(&early);
    assert_eq!(waiting.peer_addr().unwrap(), tcp_addr);
    // Whichever worker a client comes to.
    for _ in 0..20 {
        answered(&ask(udp_addr));
        answered_by_tcp(tcp_addr);
    }
    running.end("INT");
}

#[test]
fn a_passed_tcp_socket_may_stand_for_every_address() {
    let manager = Manager::new();
    let (udp, tcp) = sockets([Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED]);
    let (udp_addr, tcp_addr) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    manager.configure(&listen(udp_addr, tcp_addr));
    let running = manager.start(Some([udp.into(), tcp.into()]));
    for last in 1..20 {
        answered_by_tcp(SocketAddr::new(Ipv4Addr::new(127, 0, 0, last).into(), tcp_addr.port()));
    }
    running.end("INT");
}

#[test]
fn a_passed_socket_that_can_not_be_served_stops_the_start_with_what_to_do() {
    let manager = Manager::new();
    let (udp, tcp) = sockets([Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST]);
    let (udp_addr, tcp_addr) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    manager.configure(&listen(udp_addr, tcp_addr));
    let (code, said) = manager.refused([udp.into(), tcp.into()]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("is a wildcard") && said.contains("name each address in the socket unit"), "{said}");

    let (udp, tcp) = sockets([Ipv4Addr::LOCALHOST; 2]);
    let (udp_addr, tcp_addr) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    manager.configure(&format!("udp = [\"{udp_addr}\"]\n tcp = []\n"));
    let (code, said) = manager.refused([udp.into(), tcp.into()]);
    assert_eq!(code, Some(78), "{said}");
    let wanted = format!("add \"{tcp_addr}\" to listen.tcp, or listen.tls");
    assert!(said.contains(&wanted) && said.contains("(turnpike.socket)"), "{said}");

    // A socket on every address is more than the configuration asks for.
    let (udp, tcp) = sockets([Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED]);
    let udp_addr = udp.local_addr().unwrap();
    let named = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), tcp.local_addr().unwrap().port());
    manager.configure(&listen(udp_addr, named));
    let (code, said) = manager.refused([udp.into(), tcp.into()]);
    assert!(code == Some(78) && said.contains("no listener is configured for tcp 0.0.0.0:"), "{said}");
}
