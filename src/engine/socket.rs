//! Sockets as this server wants them.

use super::sys::{self, Fragmentation};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

/// Receive and send buffer of a UDP listener: all clients of a worker share it.
const LISTENER_BUFFER: i32 = 4 << 20;
/// Receive buffer of a relayed address. Small, because there are thousands.
const RELAY_BUFFER: i32 = 128 << 10;
/// Connections waiting to be accepted.
const BACKLOG: i32 = 4096;
/// How long data to a TCP client may stay unacknowledged.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

fn socket(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind.nonblocking().cloexec(), Some(protocol))?;
    if addr.is_ipv6() {
        // Never dual: an IPv4-mapped address must not reach anything.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Fails if another program serves an address. `SO_REUSEPORT` alone would not tell: two servers
/// of one user would each get some of the clients.
pub fn check_unused(addr: SocketAddr, kind: Type) -> io::Result<()> {
    let protocol = if kind == Type::DGRAM { Protocol::UDP } else { Protocol::TCP };
    let socket = socket(addr, kind, protocol)?;
    // Connections of an earlier run that wait for their time to pass are no server.
    socket.set_reuse_address(kind == Type::STREAM)?;
    socket.bind(&addr.into())
}

/// A UDP listener; one of a group of `SO_REUSEPORT` sockets, one a worker.
pub fn udp_listener(addr: SocketAddr) -> io::Result<Socket> {
    let socket = socket(addr, Type::DGRAM, Protocol::UDP)?;
    socket.set_reuse_port(true)?;
    prepare_udp_listener(&socket, addr.is_ipv6())?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// Prepares a UDP listener, bound or not.
pub fn prepare_udp_listener(socket: &Socket, v6: bool) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    sys::set_receive_buffer(socket.as_fd(), LISTENER_BUFFER)?;
    sys::set_send_buffer(socket.as_fd(), LISTENER_BUFFER)?;
    sys::set_fragmentation(socket.as_fd(), v6, Fragmentation::Allowed)?;
    sys::refuse_ancillary(socket.as_fd(), v6)?;
    take_bursts(socket);
    Ok(())
}

/// Has bursts handed over in one piece, where the kernel can.
pub fn take_bursts(socket: &Socket) {
    if let Err(error) = sys::enable_gro(socket.as_fd()) {
        tracing::debug!(%error, "bursts arrive one by one");
    }
}

/// A TCP listener; one of a group of `SO_REUSEPORT` sockets, one a worker.
pub fn tcp_listener(addr: SocketAddr) -> io::Result<Socket> {
    let socket = socket(addr, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_port(true)?;
    // A restart must not wait for connections of the last run to time out.
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    prepare_tcp_listener(&socket)?;
    Ok(socket)
}

/// Has a bound TCP socket listen, or an inherited one listen as those bound here do.
pub fn prepare_tcp_listener(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)
}

/// Prepares an accepted connection: no delay, keepalive after 30 s, gone after 30 s of silence
/// on either timer.
pub fn prepare_connection(socket: &Socket) -> io::Result<()> {
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3);
    socket.set_nonblocking(true)?;
    // Or a read would come back short at an urgent byte, with more behind it.
    socket.set_out_of_band_inline(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// A relayed address. Never `SO_REUSEADDR`: a second socket on the port would steal its packets.
pub fn relay(addr: SocketAddr) -> io::Result<Socket> {
    let socket = socket(addr, Type::DGRAM, Protocol::UDP)?;
    socket.set_recv_buffer_size(RELAY_BUFFER as usize)?;
    sys::set_fragmentation(socket.as_fd(), addr.is_ipv6(), Fragmentation::Allowed)?;
    sys::receive_errors(socket.as_fd(), addr.is_ipv6())?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// The address a socket is bound to.
pub fn local_addr(socket: &Socket) -> io::Result<SocketAddr> {
    let addr = socket.local_addr()?;
    addr.as_socket().ok_or_else(|| io::Error::other("the socket is bound to no internet address"))
}
