//! The outer headers of a received packet: exactly one shape, parsed once.

use core::net::{IpAddr, Ipv4Addr};
use core::ops::Range;

use super::checksum;
use super::ecn;
use super::ethernet::{self, EthernetHeader, ethertype};
use super::inner;
use super::ipv4::{self, Ipv4Header, protocol};
use super::ipv6::{self, Ipv6Header};
use super::udp::{self, UdpHeader};
use super::vxlan::{self, PlainVxlan, VxlanHeader, VxlanPolicy};
use crate::addr::{MacAddr, Vni};
use crate::error::{DropReason, Layer, ParseError};

/// With which header a packet on the underlay side starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Shape {
    /// VXLAN: the payload of a datagram, as a UDP socket gives and takes it.
    #[default]
    Udp,
    /// IPv4 or IPv6, as a raw IP socket or a TUN gives and takes it.
    Ip,
    /// Ethernet, as a packet socket or AF_XDP gives and takes it.
    Ethernet,
}

/// How many UDP ports can be tunnel ports.
pub const MAX_PORTS: usize = 4;

/// What an outer packet must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OuterPolicy {
    /// The UDP destination ports that carry VXLAN; 0 stands for no port. Not looked at in
    /// [`Shape::Udp`], where the socket has chosen already.
    pub ports: [u16; MAX_PORTS],
    /// How VXLAN headers are read.
    pub vxlan: VxlanPolicy,
    /// Whether IPv4 header checksums are verified (RFC 1122, 3.2.1.2 demands it of the receiving
    /// host; off where the network card has done it).
    pub verify_ipv4_checksum: bool,
    /// Whether non-zero UDP checksums are verified (RFC 7348, section 5 leaves it open). It reads the
    /// whole packet. Off where the network card has done it, and for packets seen before checksum or
    /// segmentation offload has filled the field in, as in captures on a sending host. Superframes
    /// with length zero are exempt: theirs is never final.
    pub verify_udp_checksum: bool,
    /// Whether a zero UDP checksum over IPv6 is accepted (RFC 7348, section 5; RFC 6935, section 5).
    pub allow_zero_udp6: bool,
}

impl Default for OuterPolicy {
    /// [`vxlan::PORT`] alone, RFC 7348's rules, checksums verified where present.
    fn default() -> OuterPolicy {
        OuterPolicy {
            ports: [vxlan::PORT, 0, 0, 0],
            vxlan: VxlanPolicy::default(),
            verify_ipv4_checksum: true,
            verify_udp_checksum: true,
            allow_zero_udp6: true,
        }
    }
}

/// The outer headers of a packet. What a shape does not have is `None` or 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outer {
    /// Underlay source address.
    pub src: Option<IpAddr>,
    /// Underlay destination address.
    pub dst: Option<IpAddr>,
    /// UDP source port.
    pub udp_src: u16,
    /// UDP destination port.
    pub udp_dst: u16,
    /// Ethernet source address.
    pub src_mac: Option<MacAddr>,
    /// The outer ECN codepoint (see [`ecn`]).
    pub ecn: u8,
    /// The VXLAN header.
    pub vxlan: VxlanHeader,
    /// Where the inner frame lies in the slice. It ends with the UDP length, so padding is cut off.
    pub payload: Range<usize>,
}

/// Reads the outer headers of `packet`, which starts as `shape` says.
///
/// Each level is cut to the length that the level before it states. IPv4 options and IPv6 extension
/// headers are skipped. The inner frame is not looked at and may be empty.
///
/// # Errors
///
/// Those of the headers' own parsers, with offsets from the start of `packet`, and:
///
/// - [`OuterNotIp`](DropReason::OuterNotIp), [`OuterNotUdp`](DropReason::OuterNotUdp),
///   [`NotTunnelPort`](DropReason::NotTunnelPort): it is not for a tunnel.
/// - [`OuterFragment`](DropReason::OuterFragment): a fragment (RFC 7348, section 4.3).
/// - [`BadChecksum`](DropReason::BadChecksum), [`ZeroChecksum`](DropReason::ZeroChecksum): as the
///   policy demands.
///
/// ```
/// use overlane::addr::Vni;
/// use overlane::wire::outer::{self, OuterPolicy, Shape};
/// use overlane::wire::vxlan::VxlanHeader;
/// let mut datagram = [0u8; 8 + 60];
/// datagram[..8].copy_from_slice(&VxlanHeader::emit(Vni::truncate(7), None));
/// let outer = outer::parse(Shape::Udp, &datagram, &OuterPolicy::default())?;
/// assert_eq!((outer.vxlan.vni.get(), outer.payload), (7, 8..68));
/// # Ok::<(), overlane::error::ParseError>(())
/// ```
#[inline]
pub fn parse(shape: Shape, packet: &[u8], policy: &OuterPolicy) -> Result<Outer, ParseError> {
    match shape {
        Shape::Udp => {
            let vxlan = VxlanHeader::parse(packet, &policy.vxlan)?;
            Ok(Outer {
                src: None,
                dst: None,
                udp_src: 0,
                udp_dst: 0,
                src_mac: None,
                ecn: 0,
                vxlan,
                payload: vxlan::HEADER_LEN..packet.len(),
            })
        }
        Shape::Ip => match packet.first() {
            Some(first) if first >> 4 == 6 => over_ipv6(packet, 0, None, policy),
            // IPv4's parser is the one that says what is wrong with anything else.
            _ => over_ipv4(packet, 0, None, policy),
        },
        Shape::Ethernet => {
            let ethernet = EthernetHeader::parse(packet)?;
            let at = usize::from(ethernet.payload_offset);
            match ethernet.ethertype {
                ethertype::IPV4 => over_ipv4(packet, at, Some(ethernet.src), policy),
                ethertype::IPV6 => over_ipv6(packet, at, Some(ethernet.src), policy),
                _ => Err(ParseError::new(Layer::Ethernet, DropReason::OuterNotIp, at.saturating_sub(2))),
            }
        }
    }
}

/// A policy's view of what nearly every packet is, worked out beforehand: IPv4 without options, behind an
/// untagged Ethernet header where there is one, UDP whose checksum need not be looked at, VXLAN without
/// a group policy, and nothing wrong or marked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainPolicy {
    vxlan: PlainVxlan,
    verify_ipv4_checksum: bool,
    /// Of these bits of the UDP header, those of `udp` alone are set: the port, and no checksum that is looked at.
    udp_mask: u64,
    udp: u64,
}

impl PlainPolicy {
    pub(crate) const fn new(policy: &OuterPolicy) -> PlainPolicy {
        PlainPolicy {
            vxlan: policy.vxlan.plain(),
            verify_ipv4_checksum: policy.verify_ipv4_checksum,
            udp_mask: 0xffff << 32 | if policy.verify_udp_checksum { 0xffff } else { 0 },
            udp: (policy.ports[0] as u64) << 32,
        }
    }

    /// A packet in [`Shape::Udp`]; `None` where it is not plain.
    #[inline(always)]
    pub(crate) fn udp(&self, packet: &[u8]) -> Option<Plain> {
        let (vxlan, inner) = packet.split_first_chunk()?;
        if !inner::is_untagged(inner) {
            return None;
        }
        Some(Plain {
            underlay: [Ipv4Addr::UNSPECIFIED; 2],
            vni: self.vxlan.read(vxlan)?,
            start: vxlan::HEADER_LEN,
            end: packet.len(),
        })
    }

    /// A packet in [`Shape::Ethernet`]; `None` where it is not plain.
    #[inline(always)]
    pub(crate) fn ethernet(&self, packet: &[u8]) -> Option<Plain> {
        const START: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN + udp::HEADER_LEN + vxlan::HEADER_LEN;
        let (h, inner) = packet.split_first_chunk::<START>()?;
        // Few and wide reads: of the source and EtherType, and of those of the IPv4 and UDP headers.
        let link = u64::from_le_bytes(*h.get(6..14)?.first_chunk()?);
        let kind = u32::from_be_bytes(*h.get(12..16)?.first_chunk()?);
        let rest = u64::from_be_bytes(*h.get(16..24)?.first_chunk()?);
        let udp = u64::from_be_bytes(*h.get(34..42)?.first_chunk()?);
        let (total_len, udp_len) = ((rest >> 48) as usize, usize::from((udp >> 16) as u16));
        // IPv4 without options; ECT(0), the usual mark, changes nothing inside. No fragment, and UDP.
        let plain = kind & (!0xff | ecn::ECT1 as u32) == 0x0800_4500
            && rest & 0x3fff_00ff == protocol::UDP as u64
            && udp & self.udp_mask == self.udp
            && link & 1 == 0
            && link << 16 != 0
            && total_len <= packet.len() - ethernet::HEADER_LEN
            && udp_len + ipv4::HEADER_LEN <= total_len
            && (!self.verify_ipv4_checksum || ipv4::is_right(h.get(14..34)?.first_chunk()?));
        if !plain {
            return None;
        }
        let len = udp_len.checked_sub(udp::HEADER_LEN + vxlan::HEADER_LEN)?;
        if !inner::is_untagged(inner.get(..len)?) {
            return None;
        }
        Some(Plain {
            underlay: [Ipv4Addr::new(h[26], h[27], h[28], h[29]), Ipv4Addr::new(h[30], h[31], h[32], h[33])],
            vni: self.vxlan.read(h.last_chunk()?)?,
            start: START,
            end: START + len,
        })
    }
}

/// What a plain packet says; [`parse`] says the same of it.
pub(crate) struct Plain {
    /// Source and destination, unspecified in [`Shape::Udp`].
    pub(crate) underlay: [Ipv4Addr; 2],
    pub(crate) vni: Vni,
    /// Where the inner frame lies, which has no VLAN tag.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// What an IP header says about the datagram behind it.
struct Underlay {
    src: IpAddr,
    dst: IpAddr,
    src_mac: Option<MacAddr>,
    tos: u8,
    /// The UDP datagram within the whole slice.
    datagram: Range<usize>,
}

#[inline]
fn over_ipv4(
    whole: &[u8],
    at: usize,
    src_mac: Option<MacAddr>,
    policy: &OuterPolicy,
) -> Result<Outer, ParseError> {
    let error = |reason, offset: usize| Err(ParseError::new(Layer::Ipv4, reason, at.saturating_add(offset)));
    let packet = whole.get(at..).unwrap_or(&[]);
    let ip = Ipv4Header::parse(packet).map_err(|e| e.within(at))?;
    if policy.verify_ipv4_checksum && !ipv4::verify_checksum(packet) {
        return error(DropReason::BadChecksum, 10);
    }
    if ip.is_fragment() {
        return error(DropReason::OuterFragment, 6);
    }
    if ip.protocol != protocol::UDP {
        return error(DropReason::OuterNotUdp, 9);
    }
    let underlay = Underlay {
        src: IpAddr::V4(ip.src),
        dst: IpAddr::V4(ip.dst),
        src_mac,
        tos: ip.tos,
        datagram: at.saturating_add(usize::from(ip.header_len))
            ..at.saturating_add(ip.packet_len(packet.len())),
    };
    over_udp(whole, underlay, policy)
}

#[inline]
fn over_ipv6(
    whole: &[u8],
    at: usize,
    src_mac: Option<MacAddr>,
    policy: &OuterPolicy,
) -> Result<Outer, ParseError> {
    let packet = whole.get(at..).unwrap_or(&[]);
    let ip = Ipv6Header::parse(packet).map_err(|e| e.within(at))?;
    let payload = ipv6::skip_extensions(packet, &ip).map_err(|e| e.within(at))?;
    let start = at.saturating_add(usize::from(payload.offset));
    if payload.is_fragment() {
        return Err(ParseError::new(Layer::Ipv6, DropReason::OuterFragment, start));
    }
    if payload.protocol != protocol::UDP {
        return Err(ParseError::new(Layer::Ipv6, DropReason::OuterNotUdp, start));
    }
    let underlay = Underlay {
        src: IpAddr::V6(ip.src),
        dst: IpAddr::V6(ip.dst),
        src_mac,
        tos: ip.traffic_class,
        datagram: start..at.saturating_add(ip.packet_len(packet.len())),
    };
    over_udp(whole, underlay, policy)
}

#[inline]
fn over_udp(whole: &[u8], ip: Underlay, policy: &OuterPolicy) -> Result<Outer, ParseError> {
    let at = ip.datagram.start;
    let error = |reason, offset: usize| Err(ParseError::new(Layer::Udp, reason, at.saturating_add(offset)));
    let datagram = whole.get(ip.datagram).unwrap_or(&[]);
    let udp = UdpHeader::parse(datagram).map_err(|e| e.within(at))?;
    if udp.dst_port == 0 || !policy.ports.contains(&udp.dst_port) {
        return error(DropReason::NotTunnelPort, 2);
    }
    let len = udp.datagram_len(datagram.len());
    let datagram = datagram.get(..len).unwrap_or(&[]);
    if udp.checksum == 0 {
        if ip.src.is_ipv6() && !policy.allow_zero_udp6 {
            return error(DropReason::ZeroChecksum, 6);
        }
    } else if policy.verify_udp_checksum && udp.length != 0 && !checksum::verify_udp(ip.src, ip.dst, datagram)
    {
        return error(DropReason::BadChecksum, 6);
    }
    let at_vxlan = at.saturating_add(udp::HEADER_LEN);
    let vxlan = VxlanHeader::parse(datagram.get(udp::HEADER_LEN..).unwrap_or(&[]), &policy.vxlan)
        .map_err(|e| e.within(at_vxlan))?;
    Ok(Outer {
        src: Some(ip.src),
        dst: Some(ip.dst),
        udp_src: udp.src_port,
        udp_dst: udp.dst_port,
        src_mac: ip.src_mac,
        ecn: ecn::encapsulate(ip.tos),
        vxlan,
        payload: at_vxlan.saturating_add(vxlan::HEADER_LEN)..at.saturating_add(len),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::vxlan::ReservedBits;

    /// Ethernet, IPv4, UDP, VXLAN and an Ethernet header; two octets of padding.
    fn packet() -> [u8; 66] {
        let mut p = [0; 66];
        (p[6], p[11], p[12]) = (2, 1, 0x08);
        p[14..34].copy_from_slice(&[0x45, 2, 0, 50, 0, 7, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1]);
        p[34..42].copy_from_slice(&[0xc3, 0x50, 0x12, 0xb5, 0, 30, 0, 0]);
        p[42..50].copy_from_slice(&[8, 0, 0, 0, 0, 0, 42, 0]);
        p[50..64].copy_from_slice(&[2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 4, 0x88, 0xb5]);
        p
    }

    fn set_checksum(p: &mut [u8]) {
        p[24..26].fill(0);
        let sum = checksum::Sum::new().add_bytes(&p[14..34]).finish();
        p[24..26].copy_from_slice(&sum.to_be_bytes());
    }

    /// What is plain is what the long way says, and nothing else was to be seen to.
    fn check(shape: Shape, packet: &[u8], policy: &OuterPolicy) -> bool {
        let plain = PlainPolicy::new(policy);
        let plain = if shape == Shape::Udp { plain.udp(packet) } else { plain.ethernet(packet) };
        let Some(plain) = plain else { return false };
        let outer = parse(shape, packet, policy).unwrap();
        assert_eq!((outer.vxlan.vni, outer.vxlan.group), (plain.vni, None), "{packet:02x?}");
        assert_eq!(outer.payload, plain.start..plain.end, "{packet:02x?}");
        if shape == Shape::Ethernet {
            assert_eq!([outer.src, outer.dst], plain.underlay.map(|a| Some(IpAddr::V4(a))), "{packet:02x?}");
        }
        assert!(
            outer.src_mac.is_none_or(|mac| mac.is_unicast()) && outer.ecn & ecn::ECT1 == 0,
            "{packet:02x?}"
        );
        let inner = EthernetHeader::parse(&packet[outer.payload]).unwrap();
        assert_eq!(inner.tags, 0, "{packet:02x?}");
        true
    }

    #[test]
    fn plain_packets_are_read_as_any_other() {
        let mut policies = [OuterPolicy::default(); 5];
        policies[1].vxlan.group_policy = true;
        policies[2].vxlan.reserved = ReservedBits::Strict;
        (policies[3].verify_ipv4_checksum, policies[3].verify_udp_checksum) = (false, false);
        policies[4].ports = [0; MAX_PORTS];
        let mut whole = packet();
        set_checksum(&mut whole);
        let plain = policies.map(|p| check(Shape::Ethernet, &whole, &p));
        assert_eq!(plain, [true, true, true, true, false]);
        assert!(check(Shape::Udp, &whole[42..], &policies[0]));
        let mut others = 0;
        for policy in &policies {
            for (at, bit) in (0..66).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
                let mut changed = packet();
                changed[at] ^= 1 << bit;
                others += usize::from(check(Shape::Ethernet, &changed, policy));
                set_checksum(&mut changed);
                others += usize::from(check(Shape::Ethernet, &changed, policy));
                check(Shape::Udp, &changed[42..], policy);
            }
            for (total, udp) in (0..80).flat_map(|total| (0..60).map(move |udp| (total, udp))) {
                let mut changed = packet();
                (changed[17], changed[39]) = (total, udp);
                set_checksum(&mut changed);
                check(Shape::Ethernet, &changed, policy);
            }
            for len in 0..66 {
                check(Shape::Ethernet, &whole[..len], policy);
                check(Shape::Udp, &whole[42..][..len.min(24)], policy);
            }
            for first in [[0x81, 0x00], [0x88, 0xa8]] {
                let mut tagged = whole;
                tagged[62..64].copy_from_slice(&first);
                assert!(
                    !check(Shape::Ethernet, &tagged, policy) && !check(Shape::Udp, &tagged[42..], policy)
                );
            }
        }
        assert!(others > 1000, "{others}");
    }
    #[test]
    fn one_checksum_of_all_is_right() {
        let mut header = [0u8; 20];
        header.copy_from_slice(&packet()[14..34]);
        for first in [0x45, 0xff] {
            header[0] = first;
            for check in 0..=u16::MAX {
                [header[10], header[11]] = check.to_be_bytes();
                let right = checksum::Sum::new().add_bytes(&header).finish() == 0;
                assert_eq!(ipv4::is_right(&header), right, "{check:#x}");
            }
        }
    }
}
