//! Listening sockets that outlive this process: those a socket unit passes, and those the service
//! manager keeps between a crash and the next start.
//!
//! A kept socket is named `stored-INODE`. One that no listener needs any more must be given up by
//! the service manager as well: as a member of a `SO_REUSEPORT` group it would go on to take some
//! of the clients' datagrams, and nobody would read them.

use crate::config::Fault;
use crate::engine::{Inheritance, Inherited, Listen};
use crate::sys;
use socket2::{Domain, MsgHdr, SockAddr, Socket, Type};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Sockets that are given to the service manager to keep, unless it says another number
/// (`FDSTORE`): `FileDescriptorStoreMax` of the unit. Those beyond it are lost in a crash.
const STORED_MAX: usize = 64;
/// What the name of a kept socket begins with.
const STORED: &str = "stored-";
/// How long the service manager may take to give up sockets before the start goes on.
const OBEY: Duration = Duration::from_secs(5);

/// Files that the service manager passed, with their names.
#[derive(Debug)]
pub struct Passed(Vec<(String, OwnedFd)>);

impl Passed {
    /// Takes them; there are none the second time.
    pub(super) fn take() -> io::Result<Passed> {
        let files = sys::passed_files()?;
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names = names.split(':').chain(std::iter::repeat(""));
        let names = names.map(|name| if name.is_empty() { "unnamed" } else { name }.to_owned());
        Ok(Passed(names.zip(files).collect()))
    }

    /// Finds out which listener each is for. One that a socket unit passed and that is for none is
    /// a fault of the configuration; a kept one is given up.
    pub fn adopt(self, listen: &[Listen], workers: usize) -> Result<(Inheritance, Store), Fault> {
        let mut sockets: Vec<(bool, u64, Inherited)> = Vec::new();
        let mut is_less = false;
        for (name, file) in self.0 {
            let is_stored = name.starts_with(STORED);
            let fault =
                |what: String| Fault::new(format!("a socket that was passed can not be used: {what}")).at(&name);
            let inode = inode(file.as_fd()).map_err(|error| fault(error.to_string()))?;
            if sockets.iter().any(|(_, known, _)| *known == inode) {
                continue; // both passed and kept
            }
            let socket = Inherited::examine(file);
            let is_wanted = socket.as_ref().is_ok_and(|socket| {
                let others = sockets.iter().filter(|(.., other)| is_alike(other, socket)).count();
                socket.is_wanted(listen) && others < workers
            });
            match (socket, is_stored) {
                (Ok(socket), _) if is_wanted => sockets.push((is_stored, inode, socket)),
                (_, true) => {
                    give_up(&name);
                    is_less = true;
                }
                (Ok(socket), false) => return Err(unwanted(&name, &socket)),
                (Err(what), false) => return Err(fault(what)),
            }
        }
        if is_less && let Err(error) = barrier() {
            tracing::warn!(%error, "the service manager does not say that it gave up sockets");
        }
        let stored = sockets.iter().filter(|(is_stored, ..)| *is_stored).count();
        let room = room().saturating_sub(stored);
        if !sockets.is_empty() {
            tracing::info!(sockets = sockets.len(), kept = stored, "listening sockets are taken over");
        }
        let sockets = sockets.into_iter().map(|(.., socket)| socket).collect();
        Ok((Inheritance { sockets, keep: room > 0 }, Store { room }))
    }
}

fn is_alike(one: &Inherited, other: &Inherited) -> bool {
    one.addr() == other.addr() && one.is_stream() == other.is_stream()
}

fn unwanted(name: &str, socket: &Inherited) -> Fault {
    let lists = if socket.is_stream() { "listen.tcp, or listen.tls" } else { "listen.udp" };
    Fault::new(format!("no listener is configured for {socket}, a socket that was passed"))
        .at(name)
        .hint(format!("add \"{}\" to {lists}, or take it out of the socket unit", socket.addr()))
}

/// How many sockets the service manager keeps.
fn room() -> usize {
    match (env::var_os("NOTIFY_SOCKET"), env::var("FDSTORE")) {
        (None, _) => 0,
        (Some(_), Ok(number)) => number.parse().map_or(STORED_MAX, |number: usize| number.min(STORED_MAX)),
        (Some(_), Err(_)) => STORED_MAX,
    }
}

/// The service manager's store.
#[derive(Debug)]
pub struct Store {
    room: usize,
}

impl Store {
    /// Has sockets kept, as many as there is room for.
    pub fn keep(self, sockets: Vec<OwnedFd>) {
        if sockets.len() > self.room {
            tracing::debug!(
                sockets = sockets.len(),
                room = self.room,
                "some listening sockets are not kept over a crash"
            );
        }
        for socket in sockets.into_iter().take(self.room) {
            // FDPOLL=0: an error waiting on a listener is no reason to give it up.
            let kept = inode(socket.as_fd()).and_then(|inode| {
                send(&format!("FDSTORE=1\nFDPOLL=0\nFDNAME={STORED}{inode}\n"), Some(socket.as_fd()))
            });
            if let Err(error) = kept {
                tracing::warn!(%error, "a listening socket can not be kept over a crash");
                return;
            }
        }
    }
}

fn give_up(name: &str) {
    tracing::info!(name, "a kept socket is for no listener any more: given up");
    if let Err(error) = send(&format!("FDSTOREREMOVE=1\nFDNAME={name}\n"), None) {
        tracing::warn!(%error, name, "it can not be given up");
    }
}

/// Waits until the service manager has done what it was told: it closes the file it is passed with
/// this. Meanwhile a member of a group could still take datagrams.
fn barrier() -> io::Result<()> {
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(OBEY))?;
    send("BARRIER=1", Some(theirs.as_fd()))?;
    drop(theirs);
    ours.read_to_end(&mut Vec::new()).map(drop)
}

/// A number that no other open socket has.
fn inode(socket: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(File::from(socket.try_clone_to_owned()?).metadata()?.ino())
}

/// Tells the service manager something, and passes a file with it.
pub(super) fn send(state: &str, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let addr = SockAddr::unix(bound_name(&path))?;
    let socket = Socket::new(Domain::UNIX, Type::DGRAM.cloexec(), None)?;
    let text = [IoSlice::new(state.as_bytes())];
    let rights = file.map(rights).unwrap_or_default();
    let message = MsgHdr::new().with_addr(&addr).with_buffers(&text);
    let message = if rights.is_empty() { message } else { message.with_control(&rights) };
    match socket.sendmsg(&message, 0)? {
        sent if sent == state.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// The name a socket is bound to: where `NOTIFY_SOCKET` begins with `@` it is in no file system,
/// which the kernel knows by a NUL.
fn bound_name(path: &OsStr) -> OsString {
    let mut name = path.as_bytes().to_vec();
    if let Some(first @ b'@') = name.first_mut() {
        *first = 0;
    }
    OsString::from_vec(name)
}

/// The ancillary message that passes a file, as the kernel reads it: its length, its level, its
/// type, the file's number.
fn rights(file: BorrowedFd<'_>) -> Vec<u8> {
    let head = size_of::<usize>() + 2 * size_of::<i32>();
    let mut message = (head + size_of::<i32>()).to_ne_bytes().to_vec();
    for word in [libc::SOL_SOCKET, libc::SCM_RIGHTS, file.as_raw_fd()] {
        message.extend(word.to_ne_bytes());
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Protocol;
    use std::net::{SocketAddr, TcpListener, UdpSocket};

    fn passed(files: Vec<(&str, OwnedFd)>) -> Passed {
        Passed(files.into_iter().map(|(name, file)| (name.to_owned(), file)).collect())
    }

    fn listen(protocol: Protocol, addr: SocketAddr) -> Listen {
        Listen { addr, protocol, required: true }
    }

    #[test]
    fn a_socket_goes_to_its_listener_and_another_is_refused_by_name() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp_listen = listen(Protocol::Udp, udp.local_addr().unwrap());
        let tcp_listen = listen(Protocol::Tls, tcp.local_addr().unwrap());
        let files = |with: bool| {
            let tcp = with.then(|| ("turnpike.socket", tcp.try_clone().unwrap().into()));
            passed(tcp.into_iter().chain([("", udp.try_clone().unwrap().into())]).collect())
        };
        let (inheritance, _) = files(true).adopt(&[udp_listen, tcp_listen], 1).unwrap();
        assert_eq!(inheritance.sockets.len(), 2);
        let (inheritance, _) = files(false).adopt(&[udp_listen, tcp_listen], 1).unwrap();
        assert_eq!(inheritance.sockets.len(), 1);
        let fault = files(true).adopt(&[udp_listen], 1).unwrap_err().to_string();
        let wanted = format!("add \"{}\" to listen.tcp, or listen.tls", tcp_listen.addr);
        assert!(fault.contains("(turnpike.socket)") && fault.contains(&wanted), "{fault}");
        let fault = files(false).adopt(&[tcp_listen], 1).unwrap_err().to_string();
        assert!(fault.contains("to listen.udp, or take it out"), "{fault}");
    }

    #[test]
    fn kept_sockets_are_taken_up_to_the_workers_and_the_rest_is_given_up() {
        let first = socket2::Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        first.set_reuse_port(true).unwrap();
        first.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        let addr = first.local_addr().unwrap();
        let mut files = vec![("stored-1", OwnedFd::from(first))];
        for name in ["stored-2", "stored-3"] {
            let more = socket2::Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            more.set_reuse_port(true).unwrap();
            more.bind(&addr).unwrap();
            files.push((name, more.into()));
        }
        // The same socket under a second handle counts once.
        files.push(("turnpike.socket", files[0].1.try_clone().unwrap()));
        let addr = addr.as_socket().unwrap();
        let (inheritance, _) = passed(files).adopt(&[listen(Protocol::Udp, addr)], 2).unwrap();
        assert_eq!(inheritance.sockets.len(), 2);
        let stale = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (inheritance, _) = passed(vec![("stored-4", stale.into())]).adopt(&[], 2).unwrap();
        assert_eq!(inheritance.sockets.len(), 0, "what was once a listener is no fault");
    }

    #[test]
    fn a_file_that_is_no_listener_is_a_fault() {
        let file = || OwnedFd::from(File::open("/dev/null").unwrap());
        let fault = passed(vec![("x", file())]).adopt(&[], 1).unwrap_err().to_string();
        assert!(fault.starts_with("a socket that was passed can not be used: ") && fault.contains("(x)"), "{fault}");
        assert!(passed(vec![("stored-1", file())]).adopt(&[], 1).unwrap().0.sockets.is_empty());
    }
}
