//! Every `unsafe` of this program: the system calls that no crate wraps as the packet path
//! needs them.
//!
//! What leaves this module is safe to call with any arguments. Buffers are owned here and
//! pointers into them are made for one call and never kept.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Messages of one `sendmmsg`.
pub const SEND_MAX: usize = 128;

/// A socket address as the kernel reads and writes it.
#[repr(C)]
#[derive(Clone, Copy)]
union Name {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// Bytes the kernel may write into a [`Name`].
const NAME_LEN: libc::socklen_t = mem::size_of::<Name>() as libc::socklen_t;

impl Name {
    fn empty() -> Self {
        // SAFETY: all-zero bytes are a valid value of each member, which are plain integers.
        unsafe { mem::zeroed() }
    }

    #[inline]
    fn set(&mut self, addr: SocketAddr) -> libc::socklen_t {
        match addr {
            SocketAddr::V4(addr) => {
                self.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: addr.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(addr.ip().octets()) },
                    sin_zero: [0; 8],
                };
                mem::size_of::<libc::sockaddr_in>() as libc::socklen_t
            }
            SocketAddr::V6(addr) => {
                self.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: addr.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr { s6_addr: addr.ip().octets() },
                    sin6_scope_id: addr.scope_id(),
                };
                mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t
            }
        }
    }

    /// Flow labels are left out: they are no part of a transport address.
    #[inline]
    fn get(&self) -> Option<SocketAddr> {
        // SAFETY: every member begins with the family, and the union is fully initialised, so
        // reading any member reads initialised plain integers.
        unsafe {
            match i32::from(self.family) {
                libc::AF_INET => {
                    let ip = Ipv4Addr::from(self.v4.sin_addr.s_addr.to_ne_bytes());
                    Some(SocketAddr::new(ip.into(), u16::from_be(self.v4.sin_port)))
                }
                libc::AF_INET6 => {
                    let (ip, port) = (Ipv6Addr::from(self.v6.sin6_addr.s6_addr), u16::from_be(self.v6.sin6_port));
                    Some(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, self.v6.sin6_scope_id)))
                }
                _ => None,
            }
        }
    }
}

/// Receives datagrams into equal slots of one buffer, many a system call.
pub struct Receiver {
    bytes: Box<[u8]>,
    stride: usize,
    headroom: usize,
    capacity: usize,
    names: Box<[Name]>,
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
}

impl Receiver {
    /// `slots` slots of `stride` bytes; a datagram of up to `capacity` bytes is written at
    /// `headroom`. The pages of a slot are used only as far as datagrams reach.
    pub fn new(slots: usize, stride: usize, headroom: usize, capacity: usize) -> Self {
        assert!(headroom + capacity <= stride, "a slot holds its headroom and its datagram");
        // SAFETY: both are plain C structs of integers and pointers; zero is a valid value.
        let (header, vector) = unsafe { (mem::zeroed::<libc::mmsghdr>(), mem::zeroed::<libc::iovec>()) };
        Receiver {
            bytes: vec![0; slots * stride].into_boxed_slice(),
            stride,
            headroom,
            capacity,
            names: vec![Name::empty(); slots].into_boxed_slice(),
            headers: vec![header; slots].into_boxed_slice(),
            vectors: vec![vector; slots].into_boxed_slice(),
        }
    }

    /// Receives up to `count` datagrams into the slots from `first` on, without waiting, and
    /// returns how many came.
    pub fn recv(&mut self, socket: BorrowedFd<'_>, first: usize, count: usize) -> io::Result<usize> {
        let slots = first..first + count;
        let base = self.bytes.as_mut_ptr();
        let names = &mut self.names[slots.clone()];
        let vectors = &mut self.vectors[slots.clone()];
        let headers = &mut self.headers[slots];
        for (i, ((header, vector), name)) in headers.iter_mut().zip(vectors).zip(names).enumerate() {
            // SAFETY: `first + count` slots exist (the slices above would have panicked), so
            // the slot's headroom lies inside `bytes`.
            let at = unsafe { base.add((first + i) * self.stride + self.headroom) };
            *vector = libc::iovec { iov_base: at.cast(), iov_len: self.capacity };
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = NAME_LEN;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_flags = 0;
        }
        // SAFETY: each header points at one name and one vector that live in `self` for the
        // call, and each vector at `capacity` writable bytes of a slot no other vector covers.
        let received = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count as u32, libc::MSG_DONTWAIT, ptr::null_mut())
        };
        if received < 0 { Err(io::Error::last_os_error()) } else { Ok(received as usize) }
    }

    /// Bytes of the datagram in a slot; `None` if it was longer than the slot.
    #[inline]
    pub fn datagram_len(&self, slot: usize) -> Option<usize> {
        let header = &self.headers[slot];
        (header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0).then_some((header.msg_len as usize).min(self.capacity))
    }

    /// Where the datagram in a slot came from.
    #[inline]
    pub fn source(&self, slot: usize) -> Option<SocketAddr> {
        self.names[slot].get()
    }

    /// All bytes of a slot.
    #[inline]
    pub fn slot(&self, slot: usize) -> &[u8] {
        &self.bytes[slot * self.stride..(slot + 1) * self.stride]
    }

    /// All bytes of a slot, to write.
    #[inline]
    pub fn slot_mut(&mut self, slot: usize) -> &mut [u8] {
        &mut self.bytes[slot * self.stride..(slot + 1) * self.stride]
    }
}

/// Sends datagrams, many a system call.
pub struct Transmitter {
    names: Box<[Name]>,
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

impl Transmitter {
    /// Room for [`SEND_MAX`] messages.
    pub fn new() -> Self {
        // SAFETY: both are plain C structs of integers and pointers; zero is a valid value.
        let (header, vector) = unsafe { (mem::zeroed::<libc::mmsghdr>(), mem::zeroed::<libc::iovec>()) };
        Transmitter {
            names: vec![Name::empty(); SEND_MAX].into_boxed_slice(),
            vectors: vec![vector; SEND_MAX].into_boxed_slice(),
            headers: vec![header; SEND_MAX].into_boxed_slice(),
        }
    }

    /// Sends the first [`SEND_MAX`] of these messages without waiting and returns how many
    /// went. An error is that of the first message; later ones show at the next call.
    pub fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        messages: impl Iterator<Item = (&'a [u8], SocketAddr)>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for (bytes, to) in messages.take(SEND_MAX) {
            let header = &mut self.headers[count].msg_hdr;
            header.msg_namelen = self.names[count].set(to);
            header.msg_name = ptr::from_mut(&mut self.names[count]).cast();
            self.vectors[count] = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            header.msg_iov = &mut self.vectors[count];
            header.msg_iovlen = 1;
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        // SAFETY: the first `count` headers point at names and vectors of `self` and at slices
        // that outlive the call ('a); the kernel only reads them.
        let sent =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), count as u32, libc::MSG_DONTWAIT) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
    }
}

/// An error a socket's earlier datagram met, from the error queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedError {
    /// Where that datagram went.
    pub peer: SocketAddr,
    /// Who found the error.
    pub origin: ErrorOrigin,
    /// ICMP type and code, when it came by ICMP.
    pub icmp: (u8, u8),
    /// The MTU, when the datagram was too big.
    pub mtu: u32,
}

/// Who found an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorOrigin {
    /// This host, before sending.
    Local,
    /// ICMP or ICMPv6.
    Icmp,
}

/// Takes one error from the error queue; `None` when it is empty.
pub fn next_queued_error(socket: BorrowedFd<'_>) -> Option<QueuedError> {
    #[repr(C, align(8))]
    struct Control([u8; 512]);
    let (mut name, mut control, mut byte) = (Name::empty(), Control([0; 512]), 0u8);
    let mut vector = libc::iovec { iov_base: ptr::from_mut(&mut byte).cast(), iov_len: 1 };
    // SAFETY: a plain C struct of integers and pointers; zero is a valid value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_name = ptr::from_mut(&mut name).cast();
    header.msg_namelen = NAME_LEN;
    header.msg_iov = &mut vector;
    header.msg_iovlen = 1;
    header.msg_control = ptr::from_mut(&mut control).cast();
    header.msg_controllen = mem::size_of::<Control>();
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: name, vector and control live on this frame and have the lengths given.
    if unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, flags) } < 0 {
        return None;
    }
    let peer = name.get()?;
    // SAFETY: the header was filled by the kernel; CMSG_FIRSTHDR and CMSG_NXTHDR stay within
    // `control` by its length. An IP_RECVERR message holds a sock_extended_err, read unaligned.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&header);
        while let Some(cmsg) = message.as_ref() {
            let wanted = [(libc::SOL_IP, libc::IP_RECVERR), (libc::SOL_IPV6, libc::IPV6_RECVERR)];
            if wanted.contains(&(cmsg.cmsg_level, cmsg.cmsg_type)) {
                let error: libc::sock_extended_err = ptr::read_unaligned(libc::CMSG_DATA(message).cast());
                let origin = match error.ee_origin {
                    libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6 => ErrorOrigin::Icmp,
                    _ => ErrorOrigin::Local,
                };
                let icmp = (error.ee_type, error.ee_code);
                return Some(QueuedError { peer, origin, icmp, mtu: error.ee_info });
            }
            message = libc::CMSG_NXTHDR(&header, message);
        }
    }
    None
}

fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = mem::size_of::<i32>() as libc::socklen_t;
    // SAFETY: the value is an i32 that lives for the call, and its length is given.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, ptr::from_ref(&value).cast(), len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// How a socket's datagrams may be fragmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragmentation {
    /// DF clear, path MTU never learned: forged ICMP can not shrink us.
    Allowed,
    /// DF set; a datagram longer than the interface's MTU is an error.
    Forbidden,
}

/// Sets how datagrams sent from now on may be fragmented.
pub fn set_fragmentation(socket: BorrowedFd<'_>, v6: bool, fragmentation: Fragmentation) -> io::Result<()> {
    match (v6, fragmentation) {
        (false, Fragmentation::Allowed) => {
            set_option(socket, libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT)
        }
        (false, Fragmentation::Forbidden) => {
            set_option(socket, libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)
        }
        (true, Fragmentation::Allowed) => {
            set_option(socket, libc::SOL_IPV6, libc::IPV6_DONTFRAG, 0)?;
            set_option(socket, libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_OMIT)
        }
        (true, Fragmentation::Forbidden) => {
            set_option(socket, libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)?;
            set_option(socket, libc::SOL_IPV6, libc::IPV6_DONTFRAG, 1)
        }
    }
}

/// Asks for ICMP errors on the error queue.
pub fn receive_errors(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    let (level, name) = if v6 { (libc::SOL_IPV6, libc::IPV6_RECVERR) } else { (libc::SOL_IP, libc::IP_RECVERR) };
    set_option(socket, level, name, 1)
}

/// Sets a receive buffer beyond `rmem_max` where the process may, else up to it.
pub fn set_receive_buffer(socket: BorrowedFd<'_>, bytes: i32) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
        .or_else(|_| set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes))
}

/// Sets a send buffer beyond `wmem_max` where the process may, else up to it.
pub fn set_send_buffer(socket: BorrowedFd<'_>, bytes: i32) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)
        .or_else(|_| set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes))
}

/// Milliseconds of the boot clock, which goes on while the machine sleeps and never jumps.
pub fn boot_clock_ms() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec that lives for the call. CLOCK_BOOTTIME is in every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// Raises the soft limit of open files to the hard one and returns it.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is an rlimit that lives for both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) < 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &limit) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// The addresses of this host's interfaces.
pub fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let mut first: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: getifaddrs writes one pointer, which is freed below.
    if unsafe { libc::getifaddrs(&mut first) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = first;
    // SAFETY: the list is valid until freeifaddrs; an address is read only as far as its
    // family says it reaches, and copied.
    unsafe {
        while let Some(entry) = next.as_ref() {
            next = entry.ifa_next;
            let Some(addr) = entry.ifa_addr.as_ref() else { continue };
            let mut name = Name::empty();
            match i32::from(addr.sa_family) {
                libc::AF_INET => name.v4 = ptr::read_unaligned(entry.ifa_addr.cast()),
                libc::AF_INET6 => name.v6 = ptr::read_unaligned(entry.ifa_addr.cast()),
                _ => continue,
            }
            found.extend(name.get().map(|addr| addr.ip()));
        }
        libc::freeifaddrs(first);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn names_round_trip() {
        for text in ["192.0.2.1:3478", "[2001:db8::1]:1", "0.0.0.0:0", "[fe80::1%7]:9"] {
            let addr: SocketAddr = text.parse().unwrap();
            let mut name = Name::empty();
            name.set(addr);
            assert_eq!(name.get(), Some(addr));
        }
        assert_eq!(Name::empty().get(), None);
    }

    #[test]
    fn batches_carry_datagrams_and_tell_the_truncated() {
        let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let to = b.local_addr().unwrap();
        let texts: [&[u8]; 3] = [b"one", b"", b"longer than the slot"];
        let sent = Transmitter::new().send(a.as_fd(), texts.iter().map(|t| (*t, to))).unwrap();
        assert_eq!(sent, 3);
        let mut receiver = Receiver::new(4, 32, 8, 16);
        assert_eq!(receiver.recv(b.as_fd(), 1, 3).unwrap(), 3);
        assert_eq!(receiver.source(1), Some(a.local_addr().unwrap()));
        assert_eq!((receiver.datagram_len(1), &receiver.slot(1)[8..11]), (Some(3), &b"one"[..]));
        assert_eq!((receiver.datagram_len(2), receiver.datagram_len(3)), (Some(0), None));
        let empty = receiver.recv(b.as_fd(), 0, 4).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_dead_peer_is_on_the_error_queue_with_its_address() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        receive_errors(socket.as_fd(), false).unwrap();
        let dead = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        socket.send_to(b"x", dead).unwrap();
        // On loopback the ICMP error is queued before send_to returns.
        let error = next_queued_error(socket.as_fd()).unwrap();
        assert_eq!((error.peer, error.origin, error.icmp), (dead, ErrorOrigin::Icmp, (3, 3)));
        assert_eq!(next_queued_error(socket.as_fd()), None);
    }

    #[test]
    fn this_host_has_a_loopback_address() {
        assert!(interface_addresses().unwrap().contains(&"127.0.0.1".parse().unwrap()));
    }
}
