//! The slow path's answers, as functions from a frame to a frame.
//!
//! Each reads the frame that gives rise to it, decides by the protocol's own rules whether an
//! answer may be sent at all, and writes the answer into `out`: `Some(length)`, or `None` where
//! nothing is to be sent, `out` is too short, or the frame cannot be read. After `None` the content
//! of `out` means nothing. The answer goes back to where the frame came from and has its VLAN tags.
//! Nothing here limits rates (RFC 4443, section 2.4 f): the caller does.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::arp::{self, ArpPacket};
use super::checksum::{Sum, pseudo_header_v6};
use super::inner::{Inner, Network};
use super::ipv4::{self, Ipv4Header, protocol};
use super::ipv6::{self, Ipv6Header, Ipv6Payload};
use crate::addr::MacAddr;

/// Enough for any answer written here: an ICMPv6 error of 1280 octets behind a header with two tags.
pub const MAX_LEN: usize = 22 + ICMPV6_MAX;

/// An ICMPv4 error does not exceed this, IP header included (RFC 1812, 4.3.2.3).
const ICMPV4_MAX: usize = 576;
/// An ICMPv6 error does not exceed the IPv6 minimum MTU (RFC 4443, section 2.4 c).
const ICMPV6_MAX: usize = 1280;
const ICMP_HEADER_LEN: usize = 8;

/// ICMPv6 types of neighbour discovery (RFC 4861, section 4).
mod nd {
    pub(super) const ROUTER_SOLICITATION: u8 = 133;
    pub(super) const NEIGHBOR_SOLICITATION: u8 = 135;
    pub(super) const NEIGHBOR_ADVERTISEMENT: u8 = 136;
    pub(super) const REDIRECT: u8 = 137;
}

/// Puts parts one behind the other.
struct Writer<'a> {
    rest: &'a mut [u8],
    written: usize,
}

impl Writer<'_> {
    fn put(mut self, part: &[u8]) -> Option<Self> {
        let (to, rest) = self.rest.split_at_mut_checked(part.len())?;
        to.copy_from_slice(part);
        self.rest = rest;
        self.written = self.written.saturating_add(part.len());
        Some(self)
    }

    /// Starts `out` with an Ethernet header that has the tags and the EtherType of `request`.
    fn ethernet<'a>(
        out: &'a mut [u8],
        request: &[u8],
        inner: &Inner,
        dst: MacAddr,
        src: MacAddr,
    ) -> Option<Writer<'a>> {
        let tags = request.get(12..usize::from(inner.ethernet.payload_offset))?;
        Writer { rest: out, written: 0 }.put(&dst.0)?.put(&src.0)?.put(tags)
    }
}

/// Answers the ARP request in the frame `request`: the address it asks for is at `mac` (RFC 826).
/// Whether that is so is the caller's knowledge.
///
/// Probes are answered too (RFC 5227, section 2.1.1). Announcements, whose sender asks for its own
/// address, are not: the answer would be taken for a conflict. Nor are questions for addresses that
/// no host can have, or from a sender without a unicast MAC address.
///
/// ```
/// use core::net::Ipv4Addr;
/// use overlane::addr::MacAddr;
/// use overlane::wire::arp::{self, ArpPacket};
/// use overlane::wire::reply;
///
/// let pod = MacAddr([2, 0, 0, 0, 0, 1]);
/// let who_has = ArpPacket {
///     op: arp::REQUEST,
///     sender_mac: pod,
///     sender_ip: Ipv4Addr::new(10, 244, 1, 2),
///     target_mac: MacAddr::ZERO,
///     target_ip: Ipv4Addr::new(10, 244, 1, 1),
/// };
/// let mut request = [0u8; 42];
/// request[..6].copy_from_slice(&MacAddr::BROADCAST.0);
/// request[6..12].copy_from_slice(&pod.0);
/// request[12..14].copy_from_slice(&[0x08, 0x06]);
/// request[14..].copy_from_slice(&who_has.emit());
///
/// let router = MacAddr([2, 0, 0, 0, 0, 0xfe]);
/// let mut out = [0u8; reply::MAX_LEN];
/// let len = reply::arp_reply(&request, router, &mut out).unwrap();
/// let is_at = ArpPacket::parse(&out[14..len])?;
/// assert_eq!((is_at.sender_ip, is_at.sender_mac), (who_has.target_ip, router));
/// # Ok::<(), overlane::error::ParseError>(())
/// ```
pub fn arp_reply(request: &[u8], mac: MacAddr, out: &mut [u8]) -> Option<usize> {
    let inner = Inner::classify(request).ok()?;
    let Network::Arp(arp) = inner.network else { return None };
    let ArpPacket { op, sender_mac, sender_ip, target_ip, .. } = arp;
    if op != arp::REQUEST || !sender_mac.is_unicast() || sender_ip == target_ip || !is_host_v4(target_ip) {
        return None;
    }
    let answer = ArpPacket {
        op: arp::REPLY,
        sender_mac: mac,
        sender_ip: target_ip,
        target_mac: sender_mac,
        target_ip: sender_ip,
    };
    let w = Writer::ethernet(out, request, &inner, sender_mac, mac)?.put(&answer.emit())?;
    Some(w.written)
}

/// Answers the neighbour solicitation in the frame `solicitation`: its target is at `mac`
/// (RFC 4861, section 7.2.4). Whether that is so is the caller's knowledge.
///
/// The solicitation is checked as section 7.1.1 says: hop limit 255, checksum, code, length,
/// options, and for duplicate address detection (an unspecified source) the solicited-node
/// destination and no source option. The answer to that goes to all nodes, unsolicited. The answer
/// has the Router flag, since a router gives it, and not Override, since it stands in for others
/// (section 7.2.8). What has a fragment header is not answered, be it whole (RFC 6980, section 5).
pub fn neighbor_advertisement(solicitation: &[u8], mac: MacAddr, out: &mut [u8]) -> Option<usize> {
    const TARGET_LINK_LAYER: u8 = 2;
    const ROUTER: u8 = 0x80;
    const SOLICITED: u8 = 0x40;
    let inner = Inner::classify(solicitation).ok()?;
    let (ip, icmp) = icmpv6(&inner, solicitation)?;
    let target = solicited_target(&ip, icmp)?;
    let eth_src = inner.ethernet.src;
    if !eth_src.is_unicast()
        || matches!(inner.network, Network::Ipv6(_, payload) if payload.fragment.is_some())
    {
        return None;
    }
    let (to_mac, to, flags) = if ip.src.is_unspecified() {
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        (MacAddr([0x33, 0x33, 0, 0, 0, 1]), all_nodes, ROUTER)
    } else {
        (eth_src, ip.src, ROUTER | SOLICITED)
    };
    let m = mac.0;
    let option = [TARGET_LINK_LAYER, 1, m[0], m[1], m[2], m[3], m[4], m[5]];
    let mut head = [nd::NEIGHBOR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    let len = (head.len() + 16 + option.len()) as u16;
    let check = pseudo_header_v6(target, to, protocol::ICMPV6, u32::from(len))
        .add_bytes(&head)
        .add_bytes(&target.octets())
        .add_bytes(&option)
        .finish();
    [head[2], head[3]] = check.to_be_bytes();
    let header = Ipv6Header {
        src: target,
        dst: to,
        traffic_class: 0,
        flow_label: 0,
        payload_len: len,
        hop_limit: 255,
        next_header: protocol::ICMPV6,
    };
    let w = Writer::ethernet(out, solicitation, &inner, to_mac, mac)?
        .put(&header.emit())?
        .put(&head)?
        .put(&target.octets())?
        .put(&option)?;
    Some(w.written)
}

/// The IPv6 header of `frame` and the ICMPv6 message behind it.
fn icmpv6<'a>(inner: &Inner, frame: &'a [u8]) -> Option<(Ipv6Header, &'a [u8])> {
    let Network::Ipv6(ip, payload) = inner.network else { return None };
    if payload.protocol != protocol::ICMPV6 || payload.fragment.is_some_and(|f| f.offset != 0) {
        return None;
    }
    let packet = frame.get(usize::from(inner.ethernet.payload_offset)..)?;
    let message = packet.get(usize::from(payload.offset)..ip.packet_len(packet.len()))?;
    Some((ip, message))
}

/// The target of a valid neighbour solicitation (RFC 4861, section 7.1.1).
fn solicited_target(ip: &Ipv6Header, icmp: &[u8]) -> Option<Ipv6Addr> {
    const SOURCE_LINK_LAYER: u8 = 1;
    let (head, rest) = icmp.split_first_chunk::<8>()?;
    let (target, mut options) = rest.split_first_chunk::<16>()?;
    let target = Ipv6Addr::from_bits(u128::from_be_bytes(*target));
    let len = u32::try_from(icmp.len()).ok()?;
    let valid = head[0] == nd::NEIGHBOR_SOLICITATION
        && head[1] == 0
        && ip.hop_limit == 255
        && !target.is_multicast()
        && !target.is_unspecified()
        && pseudo_header_v6(ip.src, ip.dst, protocol::ICMPV6, len).add_bytes(icmp).finish() == 0;
    if !valid || ip.src.is_multicast() {
        return None;
    }
    let mut source_option = false;
    while let Some((option, _)) = options.split_first_chunk::<2>() {
        // Each is at least 8 octets long, so this ends.
        let len = usize::from(option[1]) * 8;
        if len == 0 {
            return None;
        }
        source_option |= option[0] == SOURCE_LINK_LAYER;
        options = options.get(len..)?;
    }
    if !options.is_empty() {
        return None;
    }
    // RFC 4291, section 2.7.1: the solicited-node address ends in the target's last 24 bits.
    let solicited_node = 0xff02_0000_0000_0000_0000_0001_ff00_0000 | (target.to_bits() & 0x00ff_ffff);
    if ip.src.is_unspecified() && (source_option || ip.dst.to_bits() != solicited_node) {
        return None;
    }
    Some(target)
}

/// Says to the sender of the frame `frame` that its IP packet exceeds `mtu`: ICMP "fragmentation
/// needed and DF set" with the next-hop MTU (RFC 1191, section 4), or ICMPv6 "packet too big"
/// (RFC 4443, section 3.2).
///
/// `from` is the answer's source address, of the packet's family; `router_mac` its source MAC;
/// `mtu` counts the octets of an inner IP packet. `None` for an IPv4 packet without DF, which may
/// not be answered so (RFC 792), and as [`time_exceeded`] says.
pub fn packet_too_big(
    frame: &[u8],
    router_mac: MacAddr,
    from: IpAddr,
    mtu: u32,
    out: &mut [u8],
) -> Option<usize> {
    let inner = Inner::classify(frame).ok()?;
    match (inner.network, from) {
        (Network::Ipv4(ip), IpAddr::V4(from)) if ip.dont_fragment => {
            let mtu = u32::from(u16::try_from(mtu).unwrap_or(u16::MAX));
            let message = Message { router_mac, from, kind: 3, code: 4, rest: mtu };
            icmpv4_error(frame, &inner, &ip, &message, out)
        }
        (Network::Ipv6(ip, payload), IpAddr::V6(from)) => {
            let message = Message { router_mac, from, kind: 2, code: 0, rest: mtu };
            icmpv6_error(frame, &inner, (&ip, &payload), &message, out)
        }
        _ => None,
    }
}

/// Says to the sender of the frame `frame` that its IP packet ran out of TTL or hop limit in
/// transit: ICMP time exceeded (RFC 792), or ICMPv6's (RFC 4443, section 3.3).
///
/// `from` is the answer's source address, of the packet's family, and `router_mac` its source MAC.
///
/// `None`, besides what the [module](self) says, where an error message must not be sent
/// (RFC 1122, 3.2.2; RFC 1812, 4.3.2.7; RFC 4443, section 2.4 e): about an ICMP error or redirect;
/// about a fragment other than the first; about a packet to, or in a frame to, a group or
/// broadcast; to a source that is no single host; about an IPv4 header with a wrong checksum.
pub fn time_exceeded(frame: &[u8], router_mac: MacAddr, from: IpAddr, out: &mut [u8]) -> Option<usize> {
    let inner = Inner::classify(frame).ok()?;
    match (inner.network, from) {
        (Network::Ipv4(ip), IpAddr::V4(from)) => {
            let message = Message { router_mac, from, kind: 11, code: 0, rest: 0 };
            icmpv4_error(frame, &inner, &ip, &message, out)
        }
        (Network::Ipv6(ip, payload), IpAddr::V6(from)) => {
            let message = Message { router_mac, from, kind: 3, code: 0, rest: 0 };
            icmpv6_error(frame, &inner, (&ip, &payload), &message, out)
        }
        _ => None,
    }
}

/// An ICMP error message to be written.
struct Message<A> {
    router_mac: MacAddr,
    from: A,
    kind: u8,
    code: u8,
    /// The second half of the ICMP header: an MTU, or unused.
    rest: u32,
}

impl<A> Message<A> {
    /// The ICMP header, its checksum zero.
    fn head(&self) -> [u8; ICMP_HEADER_LEN] {
        let rest = self.rest.to_be_bytes();
        [self.kind, self.code, 0, 0, rest[0], rest[1], rest[2], rest[3]]
    }
}

fn icmpv4_error(
    frame: &[u8],
    inner: &Inner,
    ip: &Ipv4Header,
    message: &Message<Ipv4Addr>,
    out: &mut [u8],
) -> Option<usize> {
    /// RFC 1812, 4.3.2.5: precedence "internetwork control".
    const TOS: u8 = 0xc0;
    let packet = frame.get(usize::from(inner.ethernet.payload_offset)..)?;
    let packet = packet.get(..ip.packet_len(packet.len()))?;
    let upper = packet.get(usize::from(ip.header_len)..)?;
    let about_error = ip.protocol == protocol::ICMP && is_icmpv4_error(upper.first().copied());
    let allowed = is_between_stations(inner)
        && is_host_v4(ip.src)
        && is_host_v4(ip.dst)
        && is_host_v4(message.from)
        && ip.fragment_offset == 0
        && !about_error
        && ipv4::verify_checksum(packet);
    if !allowed {
        return None;
    }
    let quoted = packet.get(..ICMPV4_MAX - ipv4::HEADER_LEN - ICMP_HEADER_LEN).unwrap_or(packet);
    let mut head = message.head();
    [head[2], head[3]] = Sum::new().add_bytes(&head).add_bytes(quoted).finish().to_be_bytes();
    let header = Ipv4Header {
        src: message.from,
        dst: ip.src,
        protocol: protocol::ICMP,
        ttl: 64,
        tos: TOS,
        // DF makes any identification unique enough (RFC 6864, section 4.1).
        id: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        header_len: ipv4::HEADER_LEN as u8,
        total_len: (ipv4::HEADER_LEN + ICMP_HEADER_LEN + quoted.len()) as u16,
    };
    let w = Writer::ethernet(out, frame, inner, inner.ethernet.src, message.router_mac)?
        .put(&header.emit())?
        .put(&head)?
        .put(quoted)?;
    Some(w.written)
}

fn icmpv6_error(
    frame: &[u8],
    inner: &Inner,
    (ip, payload): (&Ipv6Header, &Ipv6Payload),
    message: &Message<Ipv6Addr>,
    out: &mut [u8],
) -> Option<usize> {
    let packet = frame.get(usize::from(inner.ethernet.payload_offset)..)?;
    let packet = packet.get(..ip.packet_len(packet.len()))?;
    let upper = packet.get(usize::from(payload.offset)..)?;
    let later_fragment = payload.fragment.is_some_and(|f| f.offset != 0);
    // Types below 128 are errors; one that cannot be seen might be (RFC 4443, section 2.4 e).
    let about_error = payload.protocol == protocol::ICMPV6
        && upper.first().is_none_or(|kind| *kind < 128 || *kind == nd::REDIRECT);
    let allowed = is_between_stations(inner)
        && is_host_v6(ip.src)
        && is_host_v6(ip.dst)
        && is_host_v6(message.from)
        && !later_fragment
        && !about_error;
    if !allowed {
        return None;
    }
    let quoted = packet.get(..ICMPV6_MAX - ipv6::HEADER_LEN - ICMP_HEADER_LEN).unwrap_or(packet);
    let mut head = message.head();
    let len = (ICMP_HEADER_LEN + quoted.len()) as u16;
    let sum = pseudo_header_v6(message.from, ip.src, protocol::ICMPV6, u32::from(len))
        .add_bytes(&head)
        .add_bytes(quoted);
    [head[2], head[3]] = sum.finish().to_be_bytes();
    let header = Ipv6Header {
        src: message.from,
        dst: ip.src,
        traffic_class: 0,
        flow_label: 0,
        payload_len: len,
        hop_limit: 64,
        next_header: protocol::ICMPV6,
    };
    let w = Writer::ethernet(out, frame, inner, inner.ethernet.src, message.router_mac)?
        .put(&header.emit())?
        .put(&head)?
        .put(quoted)?;
    Some(w.written)
}

/// Whether a message of this ICMPv4 type is an error message or a redirect, or its type is unknown:
/// destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 1122, 3.2.2).
fn is_icmpv4_error(kind: Option<u8>) -> bool {
    kind.is_none_or(|kind| matches!(kind, 3 | 4 | 5 | 11 | 12))
}

/// Whether the frame went from one station to one station.
fn is_between_stations(inner: &Inner) -> bool {
    inner.ethernet.src.is_unicast() && !inner.ethernet.dst.is_multicast()
}

/// Whether one host on the network may have this address (RFC 1122, 3.2.1.3; RFC 1112, section 4).
fn is_host_v4(addr: Ipv4Addr) -> bool {
    let [first, ..] = addr.octets();
    first != 0 && first < 224 && !addr.is_loopback()
}

fn is_host_v6(addr: Ipv6Addr) -> bool {
    !addr.is_unspecified() && !addr.is_multicast() && !addr.is_loopback()
}

/// Whether `frame`, whose headers are `inner`, is IPv6 neighbour discovery: router and neighbour
/// solicitation and advertisement, redirect (RFC 4861, section 4).
pub fn is_neighbor_discovery(inner: &Inner, frame: &[u8]) -> bool {
    let kind = icmpv6(inner, frame).and_then(|(_, message)| message.first().copied());
    kind.is_some_and(|kind| (nd::ROUTER_SOLICITATION..=nd::REDIRECT).contains(&kind))
}
