//! Every `unsafe` of this program: the system calls that no crate wraps as the packet path
//! needs them.
//!
//! What leaves this module is safe to call with any arguments. Buffers are owned here and
//! pointers into them are made for one call and never kept.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Messages of one `sendmmsg`.
pub const SEND_MAX: usize = 128;
/// Pieces of memory that one `sendmmsg` gathers.
const VECTORS_MAX: usize = 1024;
/// Datagrams that leave as one message: what every kernel with UDP_SEGMENT takes.
const SEGMENTS_MAX: usize = 64;
/// Bytes that leave as one message: an IPv6 packet without jumbograms, headers left out.
const TRAIN_MAX: usize = 65_000;

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

/// An ancillary message that says how long the segments of a message are: 16 bits when it is
/// sent, 32 when it is received, at the same place.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct SegmentLen {
    header: libc::cmsghdr,
    value: [u8; 8],
}

impl SegmentLen {
    fn empty() -> Self {
        // SAFETY: a plain C struct of integers; zero is a valid value.
        unsafe { mem::zeroed() }
    }

    fn set(&mut self, len: u16) {
        self.header.cmsg_len = mem::size_of::<libc::cmsghdr>() + mem::size_of::<u16>();
        self.header.cmsg_level = libc::SOL_UDP;
        self.header.cmsg_type = libc::UDP_SEGMENT;
        self.value[..2].copy_from_slice(&len.to_ne_bytes());
    }

    fn get(&self) -> Option<usize> {
        let is_gro = (self.header.cmsg_level, self.header.cmsg_type) == (libc::SOL_UDP, libc::UDP_GRO);
        let value = i32::from_ne_bytes([self.value[0], self.value[1], self.value[2], self.value[3]]);
        usize::try_from(value).ok().filter(|&len| is_gro && len > 0)
    }
}

/// Receives datagrams into equal slots of one buffer, many a system call.
///
/// On a socket with [`enable_gro`] a slot may hold several datagrams of one sender, one behind
/// the other: all as long as the first, but for the last, which may be shorter.
pub struct Receiver {
    bytes: Box<[u8]>,
    stride: usize,
    headroom: usize,
    capacity: usize,
    controls: Box<[SegmentLen]>,
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
            controls: vec![SegmentLen::empty(); slots].into_boxed_slice(),
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
        let controls = &mut self.controls[slots.clone()];
        let vectors = &mut self.vectors[slots.clone()];
        let headers = &mut self.headers[slots];
        let rooms = vectors.iter_mut().zip(names.iter_mut()).zip(controls.iter_mut());
        for (i, (header, ((vector, name), control))) in headers.iter_mut().zip(rooms).enumerate() {
            // SAFETY: `first + count` slots exist (the slices above would have panicked), so
            // the slot's headroom lies inside `bytes`.
            let at = unsafe { base.add((first + i) * self.stride + self.headroom) };
            *vector = libc::iovec { iov_base: at.cast(), iov_len: self.capacity };
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = NAME_LEN;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = ptr::from_mut(control).cast();
            header.msg_hdr.msg_controllen = mem::size_of::<SegmentLen>();
            header.msg_hdr.msg_flags = 0;
        }
        // SAFETY: each header points at one name, one vector and one control that live in `self`
        // for the call, and each vector at `capacity` writable bytes of a slot no other vector
        // covers.
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

    /// Bytes of each datagram in a slot; the last may be shorter. As long as all of it when
    /// there is one.
    #[inline]
    pub fn segment_len(&self, slot: usize) -> usize {
        let header = &self.headers[slot];
        let one = header.msg_len as usize;
        if header.msg_hdr.msg_controllen == 0 { one } else { self.controls[slot].get().unwrap_or(one) }
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

/// A datagram to send, in up to three pieces.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Where it goes; `None` on a connected socket.
    pub to: Option<SocketAddr>,
    /// Its bytes; empty pieces are left out.
    pub parts: [&'a [u8]; 3],
}

/// A message that is being put together: datagrams to one place, all of one length but for the
/// last.
#[derive(Clone, Copy, Default)]
struct Train {
    to: Option<SocketAddr>,
    segment: usize,
    len: usize,
    segments: usize,
    is_closed: bool,
}

impl Train {
    #[inline]
    fn takes(&self, to: Option<SocketAddr>, len: usize) -> bool {
        !self.is_closed
            && (1..=self.segment).contains(&len)
            && self.segments < SEGMENTS_MAX
            && self.len + len <= TRAIN_MAX
            && self.to == to
    }
}

/// Sends datagrams, many a system call.
pub struct Transmitter {
    names: Box<[Name]>,
    controls: Box<[SegmentLen]>,
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    /// Datagrams in each message.
    counts: Box<[usize]>,
}

impl Transmitter {
    /// Room for [`SEND_MAX`] messages.
    pub fn new() -> Self {
        // SAFETY: both are plain C structs of integers and pointers; zero is a valid value.
        let (header, vector) = unsafe { (mem::zeroed::<libc::mmsghdr>(), mem::zeroed::<libc::iovec>()) };
        Transmitter {
            names: vec![Name::empty(); SEND_MAX].into_boxed_slice(),
            controls: vec![SegmentLen::empty(); SEND_MAX].into_boxed_slice(),
            vectors: vec![vector; VECTORS_MAX].into_boxed_slice(),
            headers: vec![header; SEND_MAX].into_boxed_slice(),
            counts: vec![0; SEND_MAX].into_boxed_slice(),
        }
    }

    /// Sends the first of these datagrams, as many as one call takes, without waiting, and
    /// returns how many went. An error is that of the first message; later ones show at the
    /// next call.
    ///
    /// When `segmented`, a run of datagrams of one length to one place leaves as one message
    /// that the kernel or the network card takes apart (UDP_SEGMENT). It is refused as a whole
    /// where they do not fit the link's MTU or the card has no checksum offload: see
    /// [`refuses_segments`].
    #[inline]
    pub fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        segmented: bool,
        datagrams: impl Iterator<Item = Datagram<'a>>,
    ) -> io::Result<usize> {
        let (mut messages, mut vectors) = (0, 0);
        let all_vectors = self.vectors.as_mut_ptr();
        let mut train = Train::default();
        for Datagram { to, parts } in datagrams {
            if vectors + parts.len() > VECTORS_MAX {
                break;
            }
            let len = parts.iter().map(|part| part.len()).sum();
            if !(segmented && messages > 0 && train.takes(to, len)) {
                if messages == SEND_MAX {
                    break;
                }
                train = Train { to, segment: len, ..Train::default() };
                // SAFETY: fewer than VECTORS_MAX are used, so the next lies in `self.vectors`.
                let first = unsafe { all_vectors.add(vectors) };
                self.begin_message(messages, first, to);
                messages += 1;
            }
            let header = &mut self.headers[messages - 1].msg_hdr;
            for part in parts.into_iter().filter(|part| !part.is_empty()) {
                let vector = libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
                // SAFETY: a datagram was begun only with room for all its parts.
                unsafe { all_vectors.add(vectors).write(vector) };
                header.msg_iovlen += 1;
                vectors += 1;
            }
            train.len += len;
            train.segments += 1;
            train.is_closed = len < train.segment;
            self.counts[messages - 1] = train.segments;
            if train.segments == 2 {
                let control = &mut self.controls[messages - 1];
                control.set(train.segment as u16);
                header.msg_control = ptr::from_mut(control).cast();
                header.msg_controllen = mem::size_of::<SegmentLen>();
            }
        }
        if messages == 0 {
            return Ok(0);
        }
        if messages == 1 && self.headers[0].msg_hdr.msg_iovlen == 1 {
            return self.send_one(socket);
        }
        // SAFETY: the first `messages` headers point at names, controls and vectors of `self`,
        // each vector at a slice that outlives the call ('a); the kernel only reads them.
        let sent = unsafe {
            libc::sendmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), messages as u32, libc::MSG_DONTWAIT)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(self.counts[..sent as usize].iter().sum()) }
    }

    /// Sends the first message, of one piece: thin traffic leaves one by one, and this call is
    /// the cheaper one then.
    #[inline]
    fn send_one(&self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let header = &self.headers[0].msg_hdr;
        let (fd, flags) = (socket.as_raw_fd(), libc::MSG_DONTWAIT);
        // SAFETY: the caller has just filled header, name and vector, and the vector's slice
        // outlives its call; the kernel only reads them.
        let sent = unsafe {
            let piece = header.msg_iov.read();
            libc::sendto(fd, piece.iov_base, piece.iov_len, flags, header.msg_name.cast(), header.msg_namelen)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(1) }
    }

    #[inline]
    fn begin_message(&mut self, message: usize, first: *mut libc::iovec, to: Option<SocketAddr>) {
        let header = &mut self.headers[message].msg_hdr;
        match to {
            Some(to) => {
                header.msg_namelen = self.names[message].set(to);
                header.msg_name = ptr::from_mut(&mut self.names[message]).cast();
            }
            None => (header.msg_name, header.msg_namelen) = (ptr::null_mut(), 0),
        }
        header.msg_iov = first;
        header.msg_iovlen = 0;
        header.msg_control = ptr::null_mut();
        header.msg_controllen = 0;
    }
}

/// Whether an error of [`Transmitter::send`] may be that of a message of several datagrams, so
/// that they are worth sending one by one.
pub fn refuses_segments(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE | libc::EOPNOTSUPP))
}

/// Asks the kernel to hand over datagrams of one sender together (UDP_GRO). Kernels before 5.0
/// refuse: then they come one by one.
pub fn enable_gro(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1)
}

/// Has no ancillary messages come with datagrams but those of [`enable_gro`], whoever made the
/// socket: there is room for one, and without its lengths a burst can not be taken apart.
pub fn refuse_ancillary(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    let packet = if v6 { (libc::SOL_IPV6, libc::IPV6_RECVPKTINFO) } else { (libc::SOL_IP, libc::IP_PKTINFO) };
    let of_any = [libc::SO_TIMESTAMP, libc::SO_TIMESTAMPNS, libc::SO_RXQ_OVFL].map(|name| (libc::SOL_SOCKET, name));
    let mut all = of_any.into_iter().chain([packet]);
    all.try_for_each(|(level, name)| set_option(socket, level, name, 0))
}

/// Has an epoll instance report under `token` whenever there is something to read, again and
/// again until it is read. mio registers edges only, after which a socket has to be read until
/// it is empty: one more system call a packet where packets come one by one.
pub fn watch_level(epoll: &impl AsRawFd, socket: BorrowedFd<'_>, token: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
    // SAFETY: the event lives for the call; a wrong descriptor is an error of the kernel's.
    let result = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &mut event) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
    Ok(change_limit(libc::RLIMIT_NOFILE.into(), |limit| limit.rlim_cur = limit.rlim_max)?.rlim_cur)
}

/// Keeps the memory of this process, which holds secrets, out of core files. At one byte none is
/// written, and none handed to a program, for which the kernel asks for this very limit; where it is
/// 0 already, a program would get one.
pub fn forbid_core_dumps() -> io::Result<()> {
    if change_limit(libc::RLIMIT_CORE.into(), |limit| (limit.rlim_cur, limit.rlim_max) = (1, 1)).is_ok() {
        return Ok(());
    }
    // SAFETY: this prctl takes numbers alone.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn change_limit(what: i64, change: impl FnOnce(&mut libc::rlimit)) -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is an rlimit that lives for both calls.
    let is_changed = unsafe {
        libc::getrlimit(what as _, &mut limit) == 0 && {
            change(&mut limit);
            libc::setrlimit(what as _, &limit) == 0
        }
    };
    if is_changed { Ok(limit) } else { Err(io::Error::last_os_error()) }
}

/// The files that whoever started this process says it passed (`LISTEN_FDS`), in their order;
/// none the second time. Call it before anything else is opened.
pub fn passed_files() -> io::Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    // Numbers that are open, and only if they are meant for this very process.
    let numbers = sd_notify::listen_fds()?;
    // SAFETY: the files were passed to this process by number, so nobody else in it owns them,
    // and they are taken once.
    Ok(numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect())
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
mod tests;
