//! The listening sockets of all workers: bound here, or taken over from whoever started this
//! process.
//!
//! A UDP socket belongs to one worker, because an allocation does; a TCP listener may be several
//! workers', because a connection is whose that accepted it.

use super::batch::Appetite;
use super::clients::TcpListener;
use super::inherited::{Inheritance, Inherited};
use super::worker::UdpListener;
use super::{Listen, Protocol, socket};
use socket2::{Socket, Type};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// The listeners of one worker.
#[derive(Default)]
pub(super) struct Share {
    pub udp: Vec<UdpListener>,
    pub tcp: Vec<TcpListener>,
}

/// What was bound and taken over.
#[derive(Default)]
pub(super) struct Bound {
    /// Where clients are served, with the ports that the kernel chose.
    pub listening: Vec<Listen>,
    /// A share for each worker.
    pub shares: Vec<Share>,
    /// A second handle on each socket that was bound here, for whoever is to keep them: first
    /// one of each listener, then their seconds, and so on.
    pub kept: Vec<OwnedFd>,
}

/// Binds each address once a worker, but for what is inherited. Where the kernel chooses the
/// port, all workers share it.
pub(super) fn bind(listen: &[Listen], workers: usize, inheritance: Inheritance) -> io::Result<Bound> {
    let (wildcards, mut specific): (Vec<_>, Vec<_>) = inheritance.sockets.into_iter().partition(Inherited::is_wildcard);
    let mut bound = Bound { shares: (0..workers).map(|_| Share::default()).collect(), ..Bound::default() };
    let mut kept = Vec::new();
    for wildcard in &wildcards {
        bound.share_out(Protocol::Tcp, wildcard.addr(), take_over(wildcard, workers)?, 0);
    }
    for listen in listen {
        let taken: Vec<Inherited> = specific.extract_if(.., |socket| socket.serves(listen)).collect();
        // Beside a socket on every address the kernel prefers those of this one, if there are any.
        if taken.is_empty() && wildcards.iter().any(|wildcard| wildcard.serves(listen)) {
            bound.listening.push(*listen);
            continue;
        }
        let group = match Group::complete(*listen, workers, taken) {
            Ok(group) => group,
            Err(error) if !listen.required && error.kind() == ErrorKind::AddrNotAvailable => {
                tracing::warn!(%error, address = %listen.addr, "passed over: the address is not there any more");
                continue;
            }
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("cannot listen on {}: {error}", listen.addr)));
            }
        };
        if inheritance.keep {
            for (place, socket) in group.members.iter().enumerate().skip(group.taken) {
                kept.push((place, OwnedFd::from(socket.try_clone()?)));
            }
        }
        bound.listening.push(Listen { addr: group.addr, ..*listen });
        let first = bound.listening.len();
        bound.share_out(listen.protocol, group.addr, group.members, first);
    }
    if bound.listening.is_empty() {
        return Err(io::Error::other("there is no address to listen on: set listen.udp or listen.tcp"));
    }
    kept.sort_by_key(|(place, _)| *place);
    bound.kept = kept.into_iter().map(|(_, socket)| socket).collect();
    Ok(bound)
}

impl Bound {
    /// Gives a listener's sockets to the workers. Where there are fewer sockets than workers,
    /// another worker begins for each listener.
    fn share_out(&mut self, protocol: Protocol, addr: SocketAddr, sockets: Vec<Socket>, first: usize) {
        let workers = self.shares.len();
        let first = if sockets.len() < workers { first } else { 0 };
        for (place, socket) in sockets.into_iter().enumerate() {
            let share = &mut self.shares[(first + place) % workers];
            match protocol {
                Protocol::Udp => {
                    share.udp.push(UdpListener { socket, addr, segmented: true, appetite: Appetite::default() })
                }
                Protocol::Tcp | Protocol::Tls => share.tcp.push(TcpListener { socket, addr }),
            }
        }
    }
}

/// The sockets of one address, one a worker where that can be.
struct Group {
    addr: SocketAddr,
    /// Those taken over first.
    members: Vec<Socket>,
    /// How many those are.
    taken: usize,
}

impl Group {
    /// Binds what is missing. Other users' sockets can not be joined: then their UDP socket is
    /// one worker's, and their TCP socket every worker's.
    fn complete(listen: Listen, workers: usize, taken: Vec<Inherited>) -> io::Result<Group> {
        let mut group =
            Group { addr: listen.addr, members: Vec::with_capacity(workers), taken: taken.len().min(workers) };
        let Some(first) = taken.first() else {
            check_unused(listen)?;
            for _ in 0..workers {
                group.bind_one(listen)?;
            }
            return Ok(group);
        };
        let can_join = first.is_shared;
        let over_all = match listen.protocol {
            Protocol::Udp => None,
            Protocol::Tcp | Protocol::Tls => Some(first.socket.try_clone()?),
        };
        for inherited in taken.into_iter().take(workers) {
            prepare(&inherited)?;
            group.members.push(inherited.socket);
        }
        while can_join && group.members.len() < workers {
            match group.bind_one(listen) {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => break,
                Err(error) => return Err(error),
            }
        }
        match over_all {
            Some(over_all) => {
                while group.members.len() < workers {
                    group.members.push(over_all.try_clone()?);
                    // A second handle on what somebody else keeps is nothing to be kept.
                    group.taken = group.members.len();
                }
            }
            None if group.members.len() < workers => {
                tracing::info!(
                    address = %listen.addr,
                    workers = group.members.len(),
                    "UDP here is served by fewer workers: the socket is another user's and can not be shared"
                );
            }
            None => {}
        }
        Ok(group)
    }

    fn bind_one(&mut self, listen: Listen) -> io::Result<()> {
        let socket = match listen.protocol {
            Protocol::Udp => socket::udp_listener(self.addr),
            Protocol::Tcp | Protocol::Tls => socket::tcp_listener(self.addr),
        }?;
        self.addr = socket::local_addr(&socket)?;
        self.members.push(socket);
        Ok(())
    }
}

/// A handle for each worker on a TCP listener that was taken over.
fn take_over(inherited: &Inherited, workers: usize) -> io::Result<Vec<Socket>> {
    prepare(inherited)?;
    (0..workers).map(|_| inherited.socket.try_clone()).collect()
}

/// Gives a socket that was bound elsewhere the options of those bound here.
fn prepare(inherited: &Inherited) -> io::Result<()> {
    match inherited.is_stream() {
        true => socket::prepare_tcp_listener(&inherited.socket),
        false => socket::prepare_udp_listener(&inherited.socket, inherited.addr().is_ipv6()),
    }
}

fn check_unused(listen: Listen) -> io::Result<()> {
    match listen.protocol {
        Protocol::Udp => socket::check_unused(listen.addr, Type::DGRAM),
        Protocol::Tcp | Protocol::Tls => socket::check_unused(listen.addr, Type::STREAM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::Domain;
    use std::os::unix::fs::MetadataExt;

    /// A socket as somebody else made it, and the listener it is for.
    fn passed(kind: Type, addr: &str, shared: bool) -> (Inherited, Listen) {
        let addr: SocketAddr = addr.parse().unwrap();
        let socket = Socket::new(Domain::for_address(addr), kind, None).unwrap();
        socket.set_reuse_port(shared).unwrap();
        socket.bind(&addr.into()).unwrap();
        let protocol = match kind {
            Type::STREAM => {
                socket.listen(1).unwrap();
                Protocol::Tcp
            }
            _ => Protocol::Udp,
        };
        let listen = Listen { addr: socket::local_addr(&socket).unwrap(), protocol, required: true };
        (Inherited::examine(socket.into()).unwrap(), listen)
    }

    fn bind_all(listen: &[Listen], sockets: Vec<Inherited>) -> Bound {
        bind(listen, 2, Inheritance { sockets, keep: true }).unwrap()
    }

    fn shares(bound: &Bound) -> Vec<(usize, usize)> {
        bound.shares.iter().map(|share| (share.udp.len(), share.tcp.len())).collect()
    }

    fn inode(socket: &Socket) -> u64 {
        std::fs::File::from(OwnedFd::from(socket.try_clone().unwrap())).metadata().unwrap().ino()
    }

    #[test]
    fn what_is_bound_here_is_each_workers_and_kept_first_one_of_each() {
        let udp = Listen { addr: "127.0.0.1:0".parse().unwrap(), protocol: Protocol::Udp, required: true };
        let bound = bind_all(&[udp, Listen { protocol: Protocol::Tcp, ..udp }], Vec::new());
        assert_eq!(shares(&bound), [(1, 1), (1, 1)]);
        let kinds = bound.kept.into_iter().map(|kept| Socket::from(kept).r#type().unwrap());
        assert_eq!(kinds.collect::<Vec<_>>(), [Type::DGRAM, Type::STREAM, Type::DGRAM, Type::STREAM]);
        let nobody = bind(&[udp], 2, Inheritance::default()).unwrap();
        assert!(nobody.kept.is_empty());
    }

    #[test]
    fn a_udp_socket_that_none_can_join_is_one_workers_and_the_next_anothers() {
        let (one, listen_one) = passed(Type::DGRAM, "127.0.0.1:0", false);
        let (two, listen_two) = passed(Type::DGRAM, "127.0.0.1:0", false);
        let bound = bind_all(&[listen_one, listen_two], vec![one, two]);
        assert_eq!(shares(&bound), [(1, 0), (1, 0)]);
        assert!(bound.kept.is_empty(), "who passed them keeps them");
        assert_eq!(bound.listening, [listen_one, listen_two]);
    }

    #[test]
    fn a_shared_udp_socket_is_joined_and_only_the_new_one_is_to_be_kept() {
        let (one, listen) = passed(Type::DGRAM, "127.0.0.1:0", true);
        let bound = bind_all(&[listen], vec![one]);
        assert_eq!(shares(&bound), [(1, 0), (1, 0)]);
        assert_eq!(bound.kept.len(), 1);
    }

    #[test]
    fn more_sockets_than_workers_are_closed() {
        let (one, listen) = passed(Type::DGRAM, "127.0.0.1:0", true);
        let same = listen.addr.to_string();
        let more = [(); 2].map(|()| passed(Type::DGRAM, &same, true).0);
        let bound = bind_all(&[listen], std::iter::once(one).chain(more).collect());
        assert_eq!((shares(&bound), bound.kept.len()), (vec![(1, 0), (1, 0)], 0));
    }

    #[test]
    fn a_tcp_socket_that_none_can_join_is_every_workers() {
        let (tcp, listen) = passed(Type::STREAM, "127.0.0.1:0", false);
        let bound = bind_all(&[listen], vec![tcp]);
        assert_eq!((shares(&bound), bound.kept.len()), (vec![(0, 1), (0, 1)], 0));
        let [one, two] = [0, 1].map(|worker| inode(&bound.shares[worker].tcp[0].socket));
        assert_eq!(one, two);
    }

    #[test]
    fn a_tcp_socket_on_every_address_stands_for_its_listeners() {
        let (tcp, listen) = passed(Type::STREAM, "0.0.0.0:0", false);
        let on = |ip: &str| Listen { addr: SocketAddr::new(ip.parse().unwrap(), listen.addr.port()), ..listen };
        let listens = [on("127.0.0.1"), on("127.0.0.2")];
        let udp = Listen { protocol: Protocol::Udp, ..listens[0] };
        let bound = bind_all(&[listens[0], listens[1], udp], vec![tcp]);
        assert_eq!((shares(&bound), bound.kept.len()), (vec![(1, 1), (1, 1)], 2));
        assert_eq!(bound.listening, [listens[0], listens[1], udp]);
    }

    #[test]
    fn a_tcp_socket_of_one_address_beside_one_on_every_address_is_served_too() {
        let (every, listen) = passed(Type::STREAM, "0.0.0.0:0", true);
        let on = |ip: &str| Listen { addr: SocketAddr::new(ip.parse().unwrap(), listen.addr.port()), ..listen };
        let (one, _) = passed(Type::STREAM, &on("127.0.0.1").addr.to_string(), true);
        let listens = [on("127.0.0.1"), on("127.0.0.2")];
        let [passed_on, passed_every] = [&one, &every].map(|inherited| inode(&inherited.socket));
        let bound = bind_all(&listens, vec![every, one]);
        assert_eq!((shares(&bound), &bound.listening[..]), (vec![(0, 2), (0, 2)], &listens[..]));
        let served: Vec<u64> = bound.shares.iter().flat_map(|share| &share.tcp).map(|tcp| inode(&tcp.socket)).collect();
        assert!(served.contains(&passed_on), "nobody accepts what comes to it");
        assert_eq!(served.iter().filter(|&&served| served == passed_every).count(), 2);
    }

    #[test]
    fn an_address_in_use_is_named() {
        let (_other, listen) = passed(Type::DGRAM, "127.0.0.1:0", false);
        let Err(error) = bind(&[listen], 2, Inheritance::default()) else { panic!("it is in use") };
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&format!("cannot listen on {}", listen.addr)), "{error}");
        assert!(bind(&[], 1, Inheritance::default()).is_err());
    }
}
