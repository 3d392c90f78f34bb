//! The outer headers of a received packet: exactly one shape, parsed once.

use core::net::IpAddr;
use core::ops::Range;

use super::checksum;
use super::ethernet::{EthernetHeader, ethertype};
use super::ipv4::{self, Ipv4Header, protocol};
use super::ipv6::{self, Ipv6Header};
use super::udp::{self, UdpHeader};
use super::vxlan::{self, VxlanHeader, VxlanPolicy};
use crate::addr::MacAddr;
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
    /// The outer ECN codepoint (see [`ecn`](super::ecn)).
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
        ecn: super::ecn::encapsulate(ip.tos),
        vxlan,
        payload: at_vxlan.saturating_add(vxlan::HEADER_LEN)..at.saturating_add(len),
    })
}
