//! A listening socket that this process was started with: what it is, whether it can be served,
//! and whom it stands for.

use super::socket::local_addr;
use super::{Listen, Protocol};
use socket2::{Domain, Socket, Type};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

/// Listening sockets from whoever started this process.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// Each serves the listeners that [`Inherited::serves`] tells of.
    pub sockets: Vec<Inherited>,
    /// Whether somebody is to keep the others too: [`Engine::take_kept`](super::Engine::take_kept).
    pub keep: bool,
}

/// A socket that was examined and found fit to listen on.
#[derive(Debug)]
pub struct Inherited {
    pub(super) socket: Socket,
    addr: SocketAddr,
    is_stream: bool,
    /// Whether more sockets of the same owner may share its address.
    pub(super) is_shared: bool,
}

impl Inherited {
    /// Examines a socket. The error says what is wrong with it, and what would be right.
    pub fn examine(fd: OwnedFd) -> Result<Self, String> {
        let socket = Socket::from(fd);
        let unreadable = |error| format!("it can not be examined: {error}");
        let domain = socket.domain().map_err(unreadable)?;
        if domain != Domain::IPV4 && domain != Domain::IPV6 {
            return Err("it is no internet socket; the sockets of [listen] are the only ones taken over".into());
        }
        let is_stream = match (socket.r#type().map_err(unreadable)?, socket.protocol().map_err(unreadable)?) {
            (Type::STREAM, Some(socket2::Protocol::TCP)) => true,
            (Type::DGRAM, Some(socket2::Protocol::UDP)) => false,
            _ => return Err("it is neither UDP nor TCP".into()),
        };
        let addr = local_addr(&socket).map_err(unreadable)?;
        let it = Inherited { is_shared: socket.reuse_port().map_err(unreadable)?, socket, addr, is_stream };
        it.judge().map(|()| it)
    }

    fn judge(&self) -> Result<(), String> {
        let unreadable = |error| format!("it can not be examined: {error}");
        if self.addr.port() == 0 {
            return Err(format!("{self} is bound to no port"));
        }
        if self.is_stream && !self.socket.is_listener().map_err(unreadable)? {
            return Err(format!("{self} does not listen; with Accept=no in the socket unit it does"));
        }
        if !self.is_stream && self.is_wildcard() {
            return Err(format!(
                "{self} is a wildcard, and an answer has to leave from the address it was asked at: \
                 name each address in the socket unit, or leave UDP out of it, and turnpike binds each"
            ));
        }
        match self.addr.ip() {
            IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
                Err(format!("{self} is an IPv4 address in IPv6's clothes: name it as IPv4"))
            }
            IpAddr::V6(ip) if ip.is_unspecified() && !self.socket.only_v6().map_err(unreadable)? => {
                Err(format!("{self} takes IPv4 too: set BindIPv6Only=ipv6-only in the socket unit"))
            }
            _ => Ok(()),
        }
    }

    /// Whether clients of this listener come to the socket: it is of the same kind and port, and
    /// of the same address or TCP on every address.
    pub fn serves(&self, listen: &Listen) -> bool {
        let alike = self.is_stream == (listen.protocol != Protocol::Udp) && self.addr.port() == listen.addr.port();
        let every = self.is_wildcard() && self.addr.is_ipv4() == listen.addr.is_ipv4();
        alike && (every || self.addr.ip() == listen.addr.ip())
    }

    /// Whether the configuration asks for it: a socket on every address, by a wildcard.
    pub fn is_wanted(&self, listen: &[Listen]) -> bool {
        // What came from a wildcard is not required.
        listen.iter().any(|listen| self.serves(listen) && !(self.is_wildcard() && listen.required))
    }

    /// Whether it is bound to every address.
    pub fn is_wildcard(&self) -> bool {
        self.addr.ip().is_unspecified()
    }

    /// Where it is bound.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether it is TCP; otherwise it is UDP.
    pub fn is_stream(&self) -> bool {
        self.is_stream
    }
}

impl std::fmt::Display for Inherited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", if self.is_stream { "tcp" } else { "udp" }, self.addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(kind: Type, addr: &str) -> Socket {
        let addr: SocketAddr = addr.parse().unwrap();
        let socket = Socket::new(Domain::for_address(addr), kind, None).unwrap();
        if addr.is_ipv6() {
            socket.set_only_v6(true).unwrap();
        }
        socket.bind(&addr.into()).unwrap();
        socket
    }

    fn listening(addr: &str) -> Socket {
        let socket = bound(Type::STREAM, addr);
        socket.listen(1).unwrap();
        socket
    }

    fn refusal(socket: Socket) -> String {
        Inherited::examine(socket.into()).unwrap_err()
    }

    #[test]
    fn what_can_not_be_served_is_refused_with_the_reason() {
        assert!(refusal(bound(Type::STREAM, "127.0.0.1:0")).contains("does not listen"));
        let udp = refusal(bound(Type::DGRAM, "0.0.0.0:0"));
        assert!(udp.starts_with("udp 0.0.0.0:") && udp.contains("name each address"), "{udp}");
        assert!(refusal(bound(Type::DGRAM, "[::]:0")).contains("is a wildcard"));
        assert!(refusal(Socket::new(Domain::UNIX, Type::STREAM, None).unwrap()).contains("no internet socket"));
        assert!(refusal(Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap()).contains("no port"));
        let dual = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        dual.set_only_v6(false).unwrap();
        dual.bind(&"[::]:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        dual.listen(1).unwrap();
        assert!(refusal(dual).contains("BindIPv6Only"));
        let mapped = Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap();
        mapped.set_only_v6(false).unwrap();
        mapped.bind(&"[::ffff:127.0.0.1]:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        assert!(refusal(mapped).contains("name it as IPv4"));
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Inherited::examine(file.into()).unwrap_err().contains("can not be examined"));
    }

    #[test]
    fn a_socket_serves_the_listeners_of_its_kind_port_and_address() {
        let udp = Inherited::examine(bound(Type::DGRAM, "127.0.0.1:0").into()).unwrap();
        let tcp = Inherited::examine(listening("0.0.0.0:0").into()).unwrap();
        let v6 = Inherited::examine(listening("[::]:0").into()).unwrap();
        let listen = |addr: &str, port, protocol, required| {
            let addr = SocketAddr::new(addr.parse().unwrap(), port);
            Listen { addr, protocol, required }
        };
        let port = udp.addr().port();
        assert!(udp.serves(&listen("127.0.0.1", port, Protocol::Udp, true)) && !udp.is_stream());
        assert!(!udp.serves(&listen("127.0.0.1", port, Protocol::Tcp, true)));
        assert!(!udp.serves(&listen("127.0.0.2", port, Protocol::Udp, true)));
        assert!(!udp.serves(&listen("127.0.0.1", port ^ 1, Protocol::Udp, true)));
        let port = tcp.addr().port();
        assert!(tcp.serves(&listen("192.0.2.7", port, Protocol::Tcp, false)) && tcp.is_stream());
        assert!(tcp.serves(&listen("192.0.2.7", port, Protocol::Tls, false)));
        assert!(!tcp.serves(&listen("2001:db8::7", port, Protocol::Tcp, false)));
        assert!(v6.serves(&listen("2001:db8::7", v6.addr().port(), Protocol::Tcp, false)));
    }

    #[test]
    fn a_socket_on_every_address_is_wanted_by_a_wildcard_only() {
        let tcp = Inherited::examine(listening("0.0.0.0:0").into()).unwrap();
        let addr = SocketAddr::new("192.0.2.7".parse().unwrap(), tcp.addr().port());
        let named = Listen { addr, protocol: Protocol::Tcp, required: true };
        assert!(tcp.serves(&named) && !tcp.is_wanted(&[named]));
        assert!(tcp.is_wanted(&[named, Listen { required: false, ..named }]));
        assert!(!tcp.is_wanted(&[]));
    }
}
