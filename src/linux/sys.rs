//! The system calls that the standard library does not offer: this file and those below it are the
//! ones with `unsafe`.
//!
//! Every function here is safe to call with any arguments; the proofs are beside the blocks.
#![allow(unsafe_code)]

pub(super) mod batch;
pub(super) mod epoll;
pub(super) mod filter;

use alloc::vec::Vec;
use core::ffi::{c_int, c_short, c_void};
use core::mem::{MaybeUninit, size_of};
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

pub(super) mod privilege;

/// `IFNAMSIZ`: a device name is at most 15 octets and a zero.
pub(super) const NAME_SIZE: usize = libc::IFNAMSIZ;

/// The flags of a TAP device, as `TUNSETIFF` and `TUNGETIFF` carry them.
pub(super) const IFF_TAP: c_short = libc::IFF_TAP as c_short;
pub(super) const IFF_NO_PI: c_short = libc::IFF_NO_PI as c_short;
pub(super) const IFF_VNET_HDR: c_short = libc::IFF_VNET_HDR as c_short;
pub(super) const IFF_MULTI_QUEUE: c_short = libc::IFF_MULTI_QUEUE as c_short;

/// Flags and kinds that the other files hand to calls of theirs.
pub(super) const O_NONBLOCK: c_int = libc::O_NONBLOCK;
pub(super) const SOCK_DGRAM: c_int = libc::SOCK_DGRAM;
pub(super) const IPPROTO_UDP: c_int = libc::IPPROTO_UDP;
pub(super) const MSG_DONTWAIT: c_int = libc::MSG_DONTWAIT;
pub(super) const MSG_TRUNC: c_int = libc::MSG_TRUNC;

macro_rules! errnos {
    ($($name:ident)*) => {
        /// The errnos that sockets, devices and netlink answer with.
        pub(super) mod errno {
            $(pub(in crate::linux) const $name: i32 = libc::$name;)*
        }

        /// Their symbolic names.
        pub(super) fn errno_name(number: i32) -> Option<&'static str> {
            match number {
                $(errno::$name => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

errnos! {
    EPERM ENOENT EINTR EIO ENXIO E2BIG EBADF EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST EXDEV ENODEV
    ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY EFBIG ENOSPC EPIPE ERANGE ENAMETOOLONG ENOSYS
    ELOOP EPROTO EBADMSG EOVERFLOW EBADFD EILSEQ ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT
    EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL
    ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN
    ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EDQUOT ECANCELED
    ENOKEY EKEYREJECTED ENONET
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A timeout as `poll` and `epoll_wait` take it. Rounded up: a timer must not spin through its last
/// millisecond.
fn milliseconds(timeout: Option<Duration>) -> c_int {
    match timeout {
        None => -1,
        Some(t) => c_int::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX),
    }
}

fn interface_request(name: &[u8; NAME_SIZE], flags: c_short) -> libc::ifreq {
    // SAFETY: ifreq is plain old data (an array of octets and a union of integers, addresses and a
    // pointer that these requests do not follow): all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as core::ffi::c_char;
    }
    request.ifr_ifru.ifru_flags = flags;
    request
}

/// `c_char` is signed on some architectures and not on others.
fn octet(c: core::ffi::c_char) -> u8 {
    let [octet] = c.to_ne_bytes();
    octet
}

fn name_of(request: &libc::ifreq) -> [u8; NAME_SIZE] {
    request.ifr_name.map(octet)
}

/// Attaches the open clone device `fd` to the device `name` (`TUNSETIFF`); answers with the name
/// that the kernel chose for a pattern such as `tap%d`.
pub(super) fn tun_attach(
    fd: BorrowedFd<'_>,
    name: &[u8; NAME_SIZE],
    flags: c_short,
) -> io::Result<[u8; NAME_SIZE]> {
    let mut request = interface_request(name, flags);
    // SAFETY: `fd` is open for the length of the borrow; TUNSETIFF reads and writes one ifreq at the
    // pointer, which is a live, exclusively borrowed ifreq.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    Ok(name_of(&request))
}

/// The name and flags of the device behind `fd` (`TUNGETIFF`). What they say of `IFF_NO_PI` is not the
/// whole truth: see [`filter::tun_without_packet_info`].
pub(super) fn tun_attached(fd: BorrowedFd<'_>) -> io::Result<([u8; NAME_SIZE], c_short)> {
    let mut request = interface_request(&[0; NAME_SIZE], 0);
    // SAFETY: as in tun_attach; TUNGETIFF writes one ifreq.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
    // SAFETY: the whole union was initialised with zeroes, and every bit pattern is a valid c_short.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok((name_of(&request), flags))
}

/// The hardware address of the device behind `fd` (`SIOCGIFHWADDR`), wherever the device lives.
pub(super) fn tun_mac(fd: BorrowedFd<'_>) -> io::Result<[u8; 6]> {
    let mut request = interface_request(&[0; NAME_SIZE], 0);
    // SAFETY: as in tun_attach; SIOCGIFHWADDR writes one ifreq.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCGIFHWADDR as libc::Ioctl, &raw mut request) })?;
    // SAFETY: the whole union was initialised with zeroes, and every bit pattern is a valid sockaddr.
    let [a, b, c, d, e, f, ..] = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
    Ok([a, b, c, d, e, f].map(octet))
}

/// Which offloads the kernel may leave to the reader of the TAP (`TUNSETOFFLOAD`).
pub(super) fn tun_set_offload(fd: BorrowedFd<'_>, offloads: u32) -> io::Result<()> {
    let offloads = offloads as core::ffi::c_ulong;
    // SAFETY: `fd` is open for the borrow; TUNSETOFFLOAD takes its argument by value.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, offloads) })?;
    Ok(())
}

/// The flags that a device may be attached with (`TUNGETFEATURES`), as the clone device `fd` tells
/// anybody.
pub(super) fn tun_features(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut features: core::ffi::c_uint = 0;
    // SAFETY: `fd` is open for the borrow; the request writes one unsigned int at the pointer, which is
    // a live, exclusively borrowed one.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETFEATURES, &raw mut features) })?;
    Ok(features)
}

/// The size in octets of the virtio-net header before each frame (`TUNSETVNETHDRSZ`).
pub(super) fn tun_set_header_size(fd: BorrowedFd<'_>, size: c_int) -> io::Result<()> {
    // SAFETY: `fd` is open for the borrow; the request reads one int at the pointer, a live int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const size) })?;
    Ok(())
}

/// Puts the virtio-net header into the machine's own byte order (`TUNSETVNETLE` off).
pub(super) fn tun_set_native_endian(fd: BorrowedFd<'_>) -> io::Result<()> {
    let off: c_int = 0;
    // SAFETY: `fd` is open for the borrow; the request reads one int at the pointer, a live int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETVNETLE, &raw const off) })?;
    Ok(())
}

/// Whether the device has a link (`TUNSETCARRIER`): without one, the kernel sends nothing by it.
pub(super) fn tun_set_carrier(fd: BorrowedFd<'_>, carrier: bool) -> io::Result<()> {
    let carrier = c_int::from(carrier);
    // SAFETY: `fd` is open for the borrow; the request reads one int at the pointer, a live int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETCARRIER, &raw const carrier) })?;
    Ok(())
}

/// A descriptor of our own for the open file behind descriptor `number` of this process.
pub(super) fn duplicate(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes an integer; a number that is no open descriptor gives EBADF.
    let fd = check(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: fcntl() gave this descriptor just now; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets `O_NONBLOCK`.
pub(super) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `fd` is open for the borrow; F_GETFL takes no argument and gives an integer.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: `fd` is open for the borrow; F_SETFL takes an integer.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    Ok(())
}

/// A socket option whose value is an `int`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IntOption {
    level: c_int,
    name: c_int,
}

impl IntOption {
    #[cfg(test)]
    pub(super) const TIMESTAMPS: [(IntOption, i32); 2] = [
        (IntOption::new(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS), 1),
        (
            IntOption::TIMESTAMPING,
            (libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE) as i32,
        ),
    ];
    #[cfg(test)]
    pub(super) const TRANSMIT_STAMPS: (IntOption, i32) = (
        IntOption::TIMESTAMPING,
        (libc::SOF_TIMESTAMPING_TX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE) as i32,
    );
    pub(super) const RECEIVE_BUFFER: IntOption = IntOption::new(libc::SOL_SOCKET, libc::SO_RCVBUF);
    pub(super) const RECEIVE_BUFFER_FORCE: IntOption = IntOption::new(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE);
    pub(super) const SEND_BUFFER: IntOption = IntOption::new(libc::SOL_SOCKET, libc::SO_SNDBUF);
    pub(super) const SEND_BUFFER_FORCE: IntOption = IntOption::new(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE);
    pub(super) const NO_CHECKSUM: IntOption = IntOption::new(libc::SOL_SOCKET, libc::SO_NO_CHECK);
    pub(super) const NO_CHECKSUM6_TX: IntOption = IntOption::new(libc::IPPROTO_UDP, libc::UDP_NO_CHECK6_TX);
    pub(super) const NO_CHECKSUM6_RX: IntOption = IntOption::new(libc::IPPROTO_UDP, libc::UDP_NO_CHECK6_RX);
    pub(super) const MTU_DISCOVER4: IntOption = IntOption::new(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER);
    pub(super) const MTU_DISCOVER6: IntOption = IntOption::new(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER);
    pub(super) const ROUTE_MTU4: IntOption = IntOption::new(libc::IPPROTO_IP, libc::IP_MTU);
    pub(super) const ROUTE_MTU6: IntOption = IntOption::new(libc::IPPROTO_IPV6, libc::IPV6_MTU);
    pub(super) const RECEIVE_TOS: IntOption = IntOption::new(libc::IPPROTO_IP, libc::IP_RECVTOS);
    pub(super) const RECEIVE_CLASS: IntOption = IntOption::new(libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS);
    pub(super) const ERROR_QUEUE4: IntOption = IntOption::new(libc::IPPROTO_IP, libc::IP_RECVERR);
    pub(super) const ERROR_QUEUE6: IntOption = IntOption::new(libc::IPPROTO_IPV6, libc::IPV6_RECVERR);
    pub(super) const V6ONLY: IntOption = IntOption::new(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);
    pub(super) const SOCKET_TYPE: IntOption = IntOption::new(libc::SOL_SOCKET, libc::SO_TYPE);
    pub(super) const REUSE_PORT: IntOption = IntOption::new(libc::SOL_SOCKET, libc::SO_REUSEPORT);
    pub(super) const UDP_SEGMENT: IntOption = IntOption::new(libc::SOL_UDP, libc::UDP_SEGMENT);
    pub(super) const UDP_CORK: IntOption = IntOption::new(libc::SOL_UDP, libc::UDP_CORK);
    pub(super) const TIMESTAMPING: IntOption = IntOption::new(libc::SOL_SOCKET, libc::SO_TIMESTAMPING);
    pub(super) const UDP_GRO: IntOption = IntOption::new(libc::SOL_UDP, libc::UDP_GRO);
    pub(super) const PROTOCOL: IntOption = IntOption::new(libc::SOL_SOCKET, libc::SO_PROTOCOL);
    pub(super) const TOS: IntOption = IntOption::new(libc::IPPROTO_IP, libc::IP_TOS);
    pub(super) const TTL: IntOption = IntOption::new(libc::IPPROTO_IP, libc::IP_TTL);
    pub(super) const HOP_LIMIT: IntOption = IntOption::new(libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS);
    pub(super) const AUTO_FLOW_LABEL: IntOption =
        IntOption::new(libc::IPPROTO_IPV6, libc::IPV6_AUTOFLOWLABEL);
    pub(super) const CLASS: IntOption = IntOption::new(libc::IPPROTO_IPV6, libc::IPV6_TCLASS);

    const fn new(level: c_int, name: c_int) -> IntOption {
        IntOption { level, name }
    }
}

/// `IP_PMTUDISC_DO` and `IPV6_PMTUDISC_DO`: set DF, never fragment, `EMSGSIZE` instead.
pub(super) const PMTUDISC_DO: c_int = libc::IP_PMTUDISC_DO;
/// `IP_PMTUDISC_DONT` and `IPV6_PMTUDISC_DONT`: DF clear, fragment as needed.
pub(super) const PMTUDISC_DONT: c_int = libc::IP_PMTUDISC_DONT;

pub(super) fn set_option(fd: BorrowedFd<'_>, option: IntOption, value: c_int) -> io::Result<()> {
    // SAFETY: `fd` is open for the borrow; the kernel reads size_of::<int> octets at the pointer,
    // which is a live int of that size.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            option.level,
            option.name,
            (&raw const value).cast::<c_void>(),
            size_of::<c_int>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

pub(super) fn get_option(fd: BorrowedFd<'_>, option: IntOption) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: `fd` is open for the borrow; the kernel writes at most `len` octets, the size of the
    // live, exclusively borrowed int, and the length back.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            option.level,
            option.name,
            (&raw mut value).cast::<c_void>(),
            &raw mut len,
        )
    })?;
    Ok(value)
}

/// A bound UDP socket, that shares the address with others that may be shared with if `shared`
/// (`SO_REUSEPORT`). One over IPv6 is for IPv6 alone. The standard library binds before either could be set.
pub(super) fn bind_udp(local: SocketAddr, shared: bool) -> io::Result<std::net::UdpSocket> {
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no pointers are passed.
    let fd =
        check(unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, libc::IPPROTO_UDP) })?;
    // SAFETY: socket() gave this descriptor just now; nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if local.is_ipv6() {
        set_option(fd.as_fd(), IntOption::V6ONLY, 1)?;
    }
    if shared {
        set_option(fd.as_fd(), IntOption::REUSE_PORT, 1)?;
    }
    let address = RawAddr::new(local);
    // SAFETY: `fd` is open; the kernel reads address.len() octets at the pointer, all of them inside
    // the live, initialised union.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), address.len()) })?;
    Ok(fd.into())
}

/// A socket address as the kernel takes it. Always made from zeroes, so every octet is initialised.
#[derive(Clone, Copy)]
#[repr(C)]
union RawAddr {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl RawAddr {
    fn zeroed() -> RawAddr {
        // SAFETY: all members are integers and arrays of integers: zero is a valid value.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }

    fn new(addr: SocketAddr) -> RawAddr {
        let mut raw = RawAddr::zeroed();
        match addr {
            SocketAddr::V4(a) => {
                // SAFETY: every octet of the union is initialised and every bit pattern is a valid sockaddr_in.
                let v4 = unsafe { &mut raw.v4 };
                v4.sin_family = libc::AF_INET as libc::sa_family_t;
                v4.sin_port = a.port().to_be();
                v4.sin_addr.s_addr = u32::from(*a.ip()).to_be();
            }
            SocketAddr::V6(a) => {
                // SAFETY: every octet of the union is initialised and every bit pattern is a valid sockaddr_in6.
                let v6 = unsafe { &mut raw.v6 };
                v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                v6.sin6_port = a.port().to_be();
                v6.sin6_addr.s6_addr = a.ip().octets();
                v6.sin6_flowinfo = a.flowinfo();
                v6.sin6_scope_id = a.scope_id();
            }
        }
        raw
    }

    fn family(&self) -> c_int {
        // SAFETY: every octet of the union is initialised; the family is the first field of both members.
        c_int::from(unsafe { self.family })
    }

    fn len(&self) -> libc::socklen_t {
        let len = match self.family() {
            libc::AF_INET => size_of::<libc::sockaddr_in>(),
            _ => size_of::<libc::sockaddr_in6>(),
        };
        len as libc::socklen_t
    }

    fn get(&self) -> Option<SocketAddr> {
        match self.family() {
            libc::AF_INET => {
                // SAFETY: every octet of the union is initialised and every bit pattern is a valid sockaddr_in.
                let v4 = unsafe { self.v4 };
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(v4.sin_port))))
            }
            libc::AF_INET6 => {
                // SAFETY: every octet of the union is initialised and every bit pattern is a valid sockaddr_in6.
                let v6 = unsafe { self.v6 };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                Some(SocketAddr::V6(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id)))
            }
            _ => None,
        }
    }
}

/// Control-message space: room for a few `int`s, aligned as a `cmsghdr` must be.
#[repr(C, align(8))]
struct Control([u8; 128]);

/// Throws away what waits in a socket's error queue: at most as many reports as a receive buffer of 32 MiB holds.
pub(super) fn drop_reports(fd: BorrowedFd<'_>) {
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    for _ in 0..1 << 16 {
        // SAFETY: `fd` is open for the borrow; the kernel writes zero octets.
        if unsafe { libc::recv(fd.as_raw_fd(), core::ptr::null_mut(), 0, flags) } < 0 {
            return;
        }
    }
}

/// What `recvmsg` gave.
pub(super) struct Message {
    pub(super) len: usize,
    pub(super) from: Option<SocketAddr>,
    /// The outer TOS or traffic class, if the socket was asked to tell it.
    pub(super) tos: Option<u8>,
    pub(super) truncated: bool,
}

pub(super) fn recv_message(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<Message> {
    let mut from = RawAddr::zeroed();
    let mut control = Control([0; 128]);
    let mut part = libc::iovec { iov_base: buf.as_mut_ptr().cast::<c_void>(), iov_len: buf.len() };
    // SAFETY: msghdr is plain old data: null pointers and zero lengths are valid values.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_name = (&raw mut from).cast::<c_void>();
    header.msg_namelen = size_of::<RawAddr>() as libc::socklen_t;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control.0).cast::<c_void>();
    header.msg_controllen = size_of::<Control>() as _;
    // SAFETY: `fd` is open for the borrow. `header` names three live, exclusively borrowed areas
    // (`from`, `buf` through `part`, `control`) with their true lengths; the kernel writes no further.
    let len = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, 0) };
    if len < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut tos = None;
    // SAFETY: after success, `header` describes the control area that the kernel filled:
    // msg_controllen is what was written, at most the size of `control`. CMSG_FIRSTHDR and
    // CMSG_NXTHDR stay inside it, and `control` is aligned for cmsghdr. The data of a message is
    // readable for as many octets as its cmsg_len says, and is read unaligned.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&raw const header);
        while !message.is_null() {
            let data = libc::CMSG_DATA(message);
            let data_len = ((*message).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            match ((*message).cmsg_level, (*message).cmsg_type) {
                // IPv4 hands over one octet, IPv6 an int.
                (libc::IPPROTO_IP, libc::IP_TOS) if data_len >= 1 => tos = Some(data.read()),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) if data_len >= size_of::<c_int>() => {
                    tos = Some(data.cast::<c_int>().read_unaligned() as u8);
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(&raw const header, message);
        }
    }
    Ok(Message {
        len: len as usize,
        from: from.get(),
        tos,
        truncated: header.msg_flags & libc::MSG_TRUNC != 0,
    })
}

/// Parts of one datagram that [`send_message`] takes.
pub(super) const MAX_PARTS: usize = 4;

/// Sends the parts as one datagram. `tos` of `None` leaves the socket's own.
pub(super) fn send_message(
    fd: BorrowedFd<'_>,
    parts: &[&[u8]],
    to: SocketAddr,
    tos: Option<u8>,
) -> io::Result<usize> {
    let mut iov = [libc::iovec { iov_base: core::ptr::null_mut(), iov_len: 0 }; MAX_PARTS];
    if parts.len() > MAX_PARTS {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    for (slot, part) in iov.iter_mut().zip(parts) {
        // sendmsg does not write through these pointers; the type has no const form.
        *slot = libc::iovec { iov_base: part.as_ptr().cast_mut().cast::<c_void>(), iov_len: part.len() };
    }
    let mut address = RawAddr::new(to);
    let mut control = Control([0; 128]);
    // SAFETY: msghdr is plain old data: null pointers and zero lengths are valid values.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_namelen = address.len();
    header.msg_name = (&raw mut address).cast::<c_void>();
    header.msg_iov = (&raw mut iov).cast::<libc::iovec>();
    header.msg_iovlen = parts.len() as _;
    if let Some(tos) = tos {
        let (level, kind) = match to {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        };
        header.msg_control = (&raw mut control.0).cast::<c_void>();
        // SAFETY: CMSG_SPACE and CMSG_LEN only compute. The control area is aligned for cmsghdr and,
        // with 128 octets, longer than CMSG_SPACE of an int (24 at most), so CMSG_FIRSTHDR gives a
        // pointer into it and the data after it has room for an int, written unaligned.
        unsafe {
            header.msg_controllen = libc::CMSG_SPACE(size_of::<c_int>() as u32) as _;
            let message = libc::CMSG_FIRSTHDR(&raw const header);
            if !message.is_null() {
                (*message).cmsg_level = level;
                (*message).cmsg_type = kind;
                (*message).cmsg_len = libc::CMSG_LEN(size_of::<c_int>() as u32) as _;
                libc::CMSG_DATA(message).cast::<c_int>().write_unaligned(c_int::from(tos));
            }
        }
    }
    // SAFETY: `fd` is open for the borrow. `header` names live areas with their true lengths:
    // `address`, the first parts.len() <= MAX_PARTS elements of `iov` (each a borrowed slice), and
    // `control`. sendmsg only reads them.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const header, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// Descriptors to wait for, kept so that waiting again allocates nothing.
#[derive(Debug, Default)]
pub(super) struct PollFds(Vec<libc::pollfd>);

impl PollFds {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn push(&mut self, fd: BorrowedFd<'_>, writable: bool) {
        let events = if writable { libc::POLLIN | libc::POLLOUT } else { libc::POLLIN };
        self.0.push(libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 });
    }

    pub(super) fn pop(&mut self) {
        self.0.pop();
    }

    /// The number of ready descriptors; a signal counts as none.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = milliseconds(timeout);
        // SAFETY: the pointer and length are those of a live, exclusively borrowed slice of pollfd;
        // the kernel writes the `revents` fields only. A descriptor closed meanwhile gives POLLNVAL.
        let ready = unsafe { libc::poll(self.0.as_mut_ptr(), self.0.len() as libc::nfds_t, timeout) };
        match check(ready) {
            Ok(n) => Ok(n as usize),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                self.0.iter_mut().for_each(|p| p.revents = 0);
                Ok(0)
            }
            Err(e) => Err(e),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Something to read, or an error or hang-up that a read will report.
    pub(super) fn readable(&self, index: usize) -> bool {
        self.has(index, libc::POLLIN | libc::POLLERR | libc::POLLHUP)
    }

    pub(super) fn writable(&self, index: usize) -> bool {
        self.has(index, libc::POLLOUT | libc::POLLERR)
    }

    fn has(&self, index: usize, bits: c_short) -> bool {
        self.0.get(index).is_some_and(|p| p.revents & bits != 0)
    }
}
