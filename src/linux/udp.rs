//! The underlay: UDP sockets that carry VXLAN between VTEPs.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use super::Sent;
use super::error::{Error, Refused};
use super::sys::batch::{Incoming, Outgoing, RecvBatch, SendBatch};
use super::sys::{self, IntOption, errno};
use crate::engine::EngineConfig;

/// Errors that one [`Underlay::recv`] reads over before it gives way to the other descriptors.
const SKIP_LIMIT: usize = 64;

/// How an [`Underlay`] behaves. `UnderlayConfig::default()` is what a VTEP usually wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnderlayConfig {
    /// Sets DF and refuses what is longer than the path MTU ([`Refused::TooBig`]), for IPv6 too
    /// (`IP_MTU_DISCOVER`, `IPV6_MTU_DISCOVER`). Off: DF is clear and the kernel fragments.
    /// RFC 7348, section 4.3 says a VTEP must not fragment. Default: on.
    pub dont_fragment: bool,
    /// Sends with a zero UDP checksum, as RFC 7348, section 5 prefers for IPv4 and RFC 6935 allows for
    /// tunnels over IPv6 (`SO_NO_CHECK`, `UDP_NO_CHECK6_TX`). Default: off.
    pub zero_checksum: bool,
    /// Accepts a zero UDP checksum over IPv6 (`UDP_NO_CHECK6_RX`); over IPv4 it is always accepted.
    /// Default: off, as in Linux.
    pub accept_zero_checksum6: bool,
    /// The kernel's receive and send buffers in octets, each as it accounts them (`SO_RCVBUFFORCE`,
    /// else `SO_RCVBUF`, which `net.core.rmem_max` limits). The default of Linux, 208 KiB, loses
    /// packets in tens of thousands under load. Default: 8 MiB.
    pub buffer: u32,
    /// TTL or hop limit of the outer header, 1-255 (`IP_TTL`, `IPV6_UNICAST_HOPS`). Default: 64.
    pub ttl: u8,
    /// DSCP of the outer header, 0-63, beside the ECN field (`IP_TOS`, `IPV6_TCLASS`). Default: 0.
    pub dscp: u8,
}

impl Default for UnderlayConfig {
    fn default() -> UnderlayConfig {
        UnderlayConfig {
            dont_fragment: true,
            zero_checksum: false,
            accept_zero_checksum6: false,
            buffer: 8 << 20,
            ttl: 64,
            dscp: 0,
        }
    }
}

impl UnderlayConfig {
    /// What an engine's configuration says of the headers that a socket writes, `ttl`, `dscp` and
    /// `dont_fragment`; the rest as by default.
    pub fn of(engine: &EngineConfig) -> UnderlayConfig {
        let EngineConfig { ttl, dscp, dont_fragment, .. } = *engine;
        UnderlayConfig { ttl, dscp, dont_fragment, ..UnderlayConfig::default() }
    }

    /// Checks what the types cannot.
    pub(super) fn check(&self, what: &'static str, object: &str) -> Result<(), Error> {
        if self.ttl == 0 {
            return Err(Error::refused(what, object, "a TTL of 0 reaches nobody: give 1 to 255"));
        }
        if self.dscp > 63 {
            return Err(Error::refused(what, object, "a DSCP has six bits: give 0 to 63"));
        }
        Ok(())
    }
}

/// One datagram that [`Underlay::recv`] put into the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// Octets in the buffer, the VXLAN header first.
    pub len: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// The ECN field of the outer IP header, 0 to 3 (RFC 6040 needs it to decapsulate).
    pub ecn: u8,
}

/// Datagrams that an [`Underlay`] read and threw away, and errors that it read over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnderlayCounters {
    /// Longer than the buffer that was given; or with more control messages than there is room for, so
    /// that the size of merged ones is not known.
    pub truncated: u64,
    /// ICMP errors that the kernel reported for datagrams sent earlier.
    pub icmp_errors: u64,
}

/// A bound, non-blocking UDP socket. IPv4 or IPv6, never both: an IPv6 socket is `IPV6_V6ONLY`.
#[derive(Debug)]
pub struct Underlay {
    socket: UdpSocket,
    local: SocketAddr,
    buffer: u32,
    zero_checksum: bool,
    /// TOS or traffic class of a datagram that says nothing of it.
    tos: u8,
    /// What the kernel does for us, in one call and with one look at its routes.
    offload: UdpOffload,
    counters: UnderlayCounters,
}

/// What the kernel does with many datagrams at once; see [`Underlay::set_offload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UdpOffload {
    /// How many datagrams one send may hold for the kernel to cut (`UDP_SEGMENT`); 0 or 1: none.
    pub segments: u16,
    /// Datagrams that follow each other arrive as one (`UDP_GRO`).
    pub merged: bool,
}

/// Segments that `UDP_SEGMENT` takes: 128 since Linux 6.9, 64 before.
pub(super) const MAX_UDP_SEGMENTS: u16 = 128;

impl Underlay {
    /// Binds to `local` in the network namespace of the calling thread. Port 0 lets the kernel choose.
    pub fn bind(local: SocketAddr, config: &UnderlayConfig) -> Result<Underlay, Error> {
        let socket = match local {
            SocketAddr::V4(_) => UdpSocket::bind(local),
            SocketAddr::V6(_) => sys::bind_udp(local, false),
        };
        let socket = socket.map_err(|e| {
            let hint = bind_hint(e.raw_os_error());
            Error::new("bind UDP", local.to_string(), e).hint(hint)
        })?;
        Underlay::from_socket(socket, config)
    }

    /// Binds `sockets` sockets to the same address, over which the kernel spreads what comes in by the
    /// addresses and ports of both ends (`SO_REUSEPORT`). Port 0 lets the kernel choose one for all. The
    /// address must be free: another group that has it is not joined (`EADDRINUSE`).
    pub fn bind_group(
        local: SocketAddr,
        config: &UnderlayConfig,
        sockets: usize,
    ) -> Result<Vec<Underlay>, Error> {
        let mut group: Vec<Underlay> = Vec::with_capacity(sockets);
        for n in 0..sockets {
            let local = group.first().map_or(local, Underlay::local_addr);
            let failed = |e: io::Error| {
                let hint = bind_hint(e.raw_os_error());
                Error::new("bind UDP", local.to_string(), e).hint(hint)
            };
            // The first one binds as if it were alone. With the option it would join the group of another
            // program of this user, and take its datagrams.
            let socket = sys::bind_udp(local, n > 0).map_err(failed)?;
            if n == 0 {
                sys::set_option(socket.as_fd(), IntOption::REUSE_PORT, 1).map_err(failed)?;
            }
            group.push(Underlay::from_socket(socket, config)?);
        }
        Ok(group)
    }

    /// Another handle on the same socket. What one of them reads the other does not see.
    pub(super) fn try_clone(&self) -> Result<Underlay, Error> {
        let socket = self.socket.try_clone();
        let socket = socket.map_err(|e| Error::new("duplicate", self.local.to_string(), e))?;
        Ok(Underlay { socket, counters: UnderlayCounters::default(), ..*self })
    }

    /// Takes over a socket that is bound already; its options are set as for [`Underlay::bind`].
    /// An IPv6 socket that also takes IPv4 is refused.
    pub fn from_socket(socket: UdpSocket, config: &UnderlayConfig) -> Result<Underlay, Error> {
        Underlay::take_over(socket, config, "the socket")
    }

    fn take_over(socket: UdpSocket, config: &UnderlayConfig, object: &str) -> Result<Underlay, Error> {
        let fd = socket.as_fd();
        let local = socket.local_addr().map_err(|e| {
            Error::new("read the address of", object, e)
                .hint_if(errno::ENOTSOCK, "it must be a UDP socket that is bound")
        })?;
        let name = local.to_string();
        config.check("use as an underlay", &name)?;
        let failed = |what: &'static str| {
            let name = name.clone();
            move |e: io::Error| Error::new(what, name, e)
        };
        let kind = sys::get_option(fd, IntOption::SOCKET_TYPE).map_err(failed("read the type of"))?;
        let protocol = sys::get_option(fd, IntOption::PROTOCOL).map_err(failed("read the protocol of"))?;
        if (kind, protocol) != (sys::SOCK_DGRAM, sys::IPPROTO_UDP) {
            return Err(Error::refused("use as an underlay", name, "it is not a UDP socket"));
        }
        if local.is_ipv6()
            && sys::get_option(fd, IntOption::V6ONLY).map_err(failed("read IPV6_V6ONLY of"))? == 0
        {
            return Err(Error::refused("use as an underlay", name, "it is not IPV6_V6ONLY"));
        }
        socket.set_nonblocking(true).map_err(failed("make non-blocking"))?;

        let discover = if config.dont_fragment { sys::PMTUDISC_DO } else { sys::PMTUDISC_DONT };
        let own = Options::of(local);
        sys::set_option(fd, own.mtu, discover).map_err(failed("set path MTU discovery of"))?;
        sys::set_option(fd, own.receive_class, 1).map_err(failed("ask for the ECN field on"))?;
        // What it may have been told outside. A kernel that does not know an option has not been told it.
        for option in [IntOption::TIMESTAMPING, IntOption::UDP_SEGMENT, IntOption::UDP_CORK] {
            let _ = sys::set_option(fd, option, 0);
        }
        // Nobody reads it, and one that is not empty keeps the socket ready for ever.
        sys::set_option(fd, own.error_queue, 0).map_err(failed("turn off the error queue of"))?;
        sys::drop_reports(fd);
        let tos = config.dscp << 2;
        sys::set_option(fd, own.class, i32::from(tos)).map_err(failed("set the DSCP of"))?;
        sys::set_option(fd, own.hops, i32::from(config.ttl)).map_err(failed("set the TTL of"))?;
        let zero = i32::from(config.zero_checksum);
        match local {
            SocketAddr::V4(_) => sys::set_option(fd, IntOption::NO_CHECKSUM, zero),
            SocketAddr::V6(_) => sys::set_option(fd, IntOption::NO_CHECKSUM6_TX, zero).and_then(|()| {
                sys::set_option(fd, IntOption::NO_CHECKSUM6_RX, i32::from(config.accept_zero_checksum6))
            }),
        }
        .map_err(failed("set the UDP checksum of"))?;

        let receive = raise(fd, IntOption::RECEIVE_BUFFER_FORCE, IntOption::RECEIVE_BUFFER, config.buffer)
            .map_err(failed("set the receive buffer of"))?;
        raise(fd, IntOption::SEND_BUFFER_FORCE, IntOption::SEND_BUFFER, config.buffer)
            .map_err(failed("set the send buffer of"))?;
        let (offload, counters) = (UdpOffload::default(), UnderlayCounters::default());
        let zero_checksum = config.zero_checksum;
        Ok(Underlay { socket, local, buffer: receive, zero_checksum, tos, offload, counters })
    }

    /// Asks the kernel to cut and merge datagrams, or to stop it; what it will do. Where this is on,
    /// [`recv`](Underlay::recv) may give several datagrams as one: only a
    /// [`Driver`](super::Driver) knows how to take them apart.
    ///
    /// # Errors
    /// A socket that sends zero checksums: the kernel refuses to cut for it (`UDP_SEGMENT` and
    /// `SO_NO_CHECK` exclude each other).
    pub fn set_offload(&mut self, on: bool) -> Result<UdpOffload, Error> {
        if on && self.zero_checksum {
            let why = "it sends zero UDP checksums, and segmentation offload needs real ones: choose one";
            return Err(Error::refused("turn on the offloads of", self.local.to_string(), why));
        }
        let fd = self.socket.as_fd();
        // 0 changes nothing, and is refused by a kernel that does not know the option.
        let segments = on && sys::set_option(fd, IntOption::UDP_SEGMENT, 0).is_ok();
        let merged = sys::set_option(fd, IntOption::UDP_GRO, i32::from(on)).is_ok() && on;
        self.offload = UdpOffload { segments: if segments { MAX_UDP_SEGMENTS } else { 0 }, merged };
        Ok(self.offload)
    }

    /// Sends with a flow label of 0, as an uplink does: packets of one flow are to look the same to routers that choose
    /// ways by it (RFC 6438).
    pub(super) fn without_flow_label(&self) -> Result<(), Error> {
        if self.local.is_ipv4() {
            return Ok(());
        }
        sys::set_option(self.socket.as_fd(), IntOption::AUTO_FLOW_LABEL, 0)
            .map_err(|e| Error::new("turn off the flow label of", self.local.to_string(), e))
    }

    /// What the kernel does with many datagrams at once. It learns: a send that the kernel refuses
    /// to cut lowers [`segments`](UdpOffload::segments).
    pub fn offload(&self) -> UdpOffload {
        self.offload
    }

    pub(super) fn limit_segments(&mut self, segments: u16) {
        self.offload.segments = self.offload.segments.min(segments);
    }

    /// The TOS that must be sent with a datagram for it to have this ECN field.
    #[inline]
    pub(super) fn tos(&self, ecn: u8) -> Option<u8> {
        if ecn & 3 == 0 { None } else { Some(self.tos | ecn & 3) }
    }

    /// Takes over descriptor `number` of this process, as [`Underlay::from_socket`]: one that the
    /// process was started with. It is duplicated; the number itself stays open.
    pub fn from_inherited(number: RawFd, config: &UnderlayConfig) -> Result<Underlay, Error> {
        let object = format!("descriptor {number}");
        let fd =
            sys::duplicate(number).map_err(|e| Error::new("take over as a socket", object.as_str(), e))?;
        Underlay::take_over(fd.into(), config, &object)
    }

    /// The address and port that it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The MTU in octets of the route from `local` to `to`, as the calling thread's network namespace
    /// has it now: the interface's, the route's own, or less where the path was found to carry less
    /// (`IP_MTU`, `IPV6_MTU`). Nothing is sent.
    pub fn route_mtu(local: IpAddr, to: IpAddr) -> Result<u32, Error> {
        let option = if to.is_ipv4() { IntOption::ROUTE_MTU4 } else { IntOption::ROUTE_MTU6 };
        let read = || {
            let socket = UdpSocket::bind((local, 0))?;
            // Connecting a UDP socket looks the route up; the port does not matter.
            socket.connect((to, 9))?;
            sys::get_option(socket.as_fd(), option)
        };
        let mtu = read().map_err(|e| Error::new("find the MTU of the route to", to.to_string(), e))?;
        Ok(u32::try_from(mtu).unwrap_or(0))
    }

    /// The receive buffer that the kernel gave, in octets, as it accounts them. Less than what was
    /// asked for means that `net.core.rmem_max` should be raised.
    pub fn receive_buffer(&self) -> u32 {
        self.buffer
    }

    /// What was thrown away or read over so far.
    pub fn counters(&self) -> UnderlayCounters {
        self.counters
    }

    /// Reads one datagram into `buf`; `None` when none waits.
    ///
    /// A datagram that does not fit is thrown away and counted. Give 65,535 octets: a kernel VXLAN
    /// peer on the same machine sends inner superframes as one datagram, whatever the MTU.
    pub fn recv(&mut self, buf: &mut [u8]) -> Result<Option<Datagram>, Error> {
        for _ in 0..SKIP_LIMIT {
            let error = match sys::recv_message(self.socket.as_fd(), buf) {
                Ok(message) if message.truncated => {
                    self.counters.truncated = self.counters.truncated.wrapping_add(1);
                    continue;
                }
                Ok(message) => {
                    let Some(from) = message.from else { continue };
                    let ecn = message.tos.unwrap_or(0) & 3;
                    return Ok(Some(Datagram { len: message.len, from, ecn }));
                }
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(errno::EINTR) => {}
                Some(number) => match Refused::from_errno(number) {
                    Some(Refused::WouldBlock) => return Ok(None),
                    Some(_) => self.counters.icmp_errors = self.counters.icmp_errors.wrapping_add(1),
                    None => return Err(Error::new("receive on", self.local.to_string(), error)),
                },
                None => return Err(Error::new("receive on", self.local.to_string(), error)),
            }
        }
        Ok(None)
    }

    /// Sends the parts (at most 4, say the VXLAN header and the inner frame) as one datagram.
    ///
    /// An address that this socket cannot send to at all (link-local without a zone, or the socket's own
    /// address was taken off its interface) is [`Refused::Unreachable`]: it says nothing about others.
    ///
    /// `ecn` sets the ECN field of the outer header, 0 to 3; `None` is 0.
    pub fn send(&mut self, parts: &[&[u8]], to: SocketAddr, ecn: Option<u8>) -> Result<Sent, Error> {
        let tos = self.tos(ecn.unwrap_or(0));
        let mut retried = false;
        loop {
            let error = match sys::send_message(self.socket.as_fd(), parts, to, tos) {
                Ok(_) => return Ok(Sent::Taken),
                Err(error) => error,
            };
            if error.raw_os_error() == Some(errno::EINTR) {
                continue;
            }
            if Underlay::may_be_of_another(&error) && !retried {
                retried = true;
                continue;
            }
            return self.judge(error, to).map(Sent::Refused);
        }
    }

    /// Whether a send may have failed for a datagram sent before it: an ICMP error is told once, to whoever
    /// sends next, and that datagram is not sent.
    pub(super) fn may_be_of_another(error: &io::Error) -> bool {
        let refused = error.raw_os_error().and_then(Refused::from_errno);
        matches!(refused, Some(Refused::Unreachable | Refused::Down))
    }

    /// What the errno of a send says about it.
    pub(super) fn judge(&self, error: io::Error, to: SocketAddr) -> Result<Refused, Error> {
        match error.raw_os_error() {
            Some(errno::EINVAL | errno::EADDRNOTAVAIL) => Ok(Refused::Unreachable),
            Some(number) => match Refused::from_errno(number) {
                Some(refused) => Ok(refused),
                None => Err(Error::new("send to", to.to_string(), error)),
            },
            None => Err(Error::new("send to", to.to_string(), error)),
        }
    }

    /// Sends many at once: how many of the first were taken. An error is about the first one.
    #[inline]
    pub(super) fn send_batch<'a, I: Iterator<Item = &'a [u8]>>(
        &self,
        batch: &mut SendBatch,
        messages: impl Iterator<Item = Outgoing<I>>,
    ) -> io::Result<usize> {
        batch.send(self.socket.as_fd(), messages)
    }

    /// Receives at most `count` datagrams, number n at `n * room` of `buffer`; how many rooms were
    /// filled. One that was cut short is counted and told with a length of 0.
    pub(super) fn recv_batch(
        &mut self,
        batch: &mut RecvBatch,
        buffer: &mut [u8],
        room: usize,
        count: usize,
        mut each: impl FnMut(Incoming),
    ) -> Result<usize, Error> {
        for _ in 0..SKIP_LIMIT {
            let truncated = &mut self.counters.truncated;
            let received = batch.receive(self.socket.as_fd(), buffer, room, count, |mut incoming| {
                if incoming.truncated || incoming.from.is_none() {
                    *truncated = truncated.wrapping_add(u64::from(incoming.truncated));
                    incoming.len = 0;
                }
                each(incoming);
            });
            let error = match received {
                Ok(n) => return Ok(n),
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(errno::EINTR) => {}
                Some(number) => match Refused::from_errno(number) {
                    Some(Refused::WouldBlock) => return Ok(0),
                    Some(_) => self.counters.icmp_errors = self.counters.icmp_errors.wrapping_add(1),
                    None => return Err(Error::new("receive on", self.local.to_string(), error)),
                },
                None => return Err(Error::new("receive on", self.local.to_string(), error)),
            }
        }
        Ok(0)
    }
}

impl AsFd for Underlay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<Underlay> for OwnedFd {
    fn from(underlay: Underlay) -> OwnedFd {
        underlay.socket.into()
    }
}

/// What both address families have under different names.
struct Options {
    mtu: IntOption,
    receive_class: IntOption,
    error_queue: IntOption,
    class: IntOption,
    hops: IntOption,
}

impl Options {
    fn of(local: SocketAddr) -> Options {
        match local {
            SocketAddr::V4(_) => Options {
                mtu: IntOption::MTU_DISCOVER4,
                receive_class: IntOption::RECEIVE_TOS,
                error_queue: IntOption::ERROR_QUEUE4,
                class: IntOption::TOS,
                hops: IntOption::TTL,
            },
            SocketAddr::V6(_) => Options {
                mtu: IntOption::MTU_DISCOVER6,
                receive_class: IntOption::RECEIVE_CLASS,
                error_queue: IntOption::ERROR_QUEUE6,
                class: IntOption::CLASS,
                hops: IntOption::HOP_LIMIT,
            },
        }
    }
}

/// Raises a buffer past the system's limit if we may, up to it if not; never lowers it.
fn raise(fd: BorrowedFd<'_>, force: IntOption, plain: IntOption, octets: u32) -> io::Result<u32> {
    let now = sys::get_option(fd, plain)?;
    // The kernel doubles what it is told, to account for its own bookkeeping.
    let half = i32::try_from(octets / 2).unwrap_or(i32::MAX);
    if now < half.saturating_mul(2) && sys::set_option(fd, force, half).is_err() {
        sys::set_option(fd, plain, half)?;
    }
    Ok(u32::try_from(sys::get_option(fd, plain)?).unwrap_or(0))
}

fn bind_hint(number: Option<i32>) -> Option<&'static str> {
    match number? {
        errno::EADDRINUSE => {
            Some("another program, or a kernel vxlan device in this network namespace, has the port")
        }
        errno::EADDRNOTAVAIL => Some("the address is not on any interface of this network namespace"),
        errno::EACCES => Some("ports below 1024 need CAP_NET_BIND_SERVICE"),
        _ => None,
    }
}

#[cfg(test)]
#[path = "udp_tests.rs"]
mod tests;
