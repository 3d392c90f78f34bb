//! What one inner Ethernet frame holds: its headers, its flow, and the source port that flow gets.

use core::net::IpAddr;

use super::arp::ArpPacket;
use super::ethernet::{EthernetHeader, ethertype};
use super::ipv4::{Ipv4Header, protocol};
use super::ipv6::{self, Ipv6Header, Ipv6Payload};
use crate::error::ParseError;

/// The network layer of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Neither IP nor ARP.
    None,
    /// ARP.
    Arp(ArpPacket),
    /// IPv4.
    Ipv4(Ipv4Header),
    /// IPv6, and what is behind its extension headers.
    Ipv6(Ipv6Header, Ipv6Payload),
    /// The EtherType says ARP or IP and the bytes are not that. Offsets count from the frame's
    /// start, layers are inner ones.
    Malformed(ParseError),
}

/// The headers of one inner frame. Classification is lenient: a bridge carries what it cannot read.
///
/// ```
/// use overlane::wire::inner::{Inner, Network, source_port};
/// let mut frame = [0u8; 42];
/// frame[12..14].copy_from_slice(&[0x08, 0x00]);
/// frame[14..34].copy_from_slice(&[
///     0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
/// ]);
/// frame[34..38].copy_from_slice(&[0x30, 0x39, 0x00, 0x35]);
/// let inner = Inner::classify(&frame)?;
/// assert!(matches!(inner.network, Network::Ipv4(_)));
/// assert_eq!(inner.ports, Some((12345, 53)));
/// let port = source_port(inner.flow_hash(1), 49152, 65535);
/// assert!(port >= 49152);
/// # Ok::<(), overlane::error::ParseError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner {
    /// The Ethernet header, tags included.
    pub ethernet: EthernetHeader,
    /// The network layer behind it.
    pub network: Network,
    /// Source and destination port of TCP, UDP, SCTP, UDP-Lite or DCCP; never of a fragment, not
    /// even of the first, so that all fragments of a datagram look the same.
    pub ports: Option<(u16, u16)>,
}

impl Inner {
    /// Reads the headers of `frame`.
    ///
    /// # Errors
    ///
    /// Only when the Ethernet header itself is bad, in layer
    /// [`InnerEthernet`](crate::error::Layer::InnerEthernet). What is wrong behind it is
    /// [`Network::Malformed`].
    #[inline]
    pub fn classify(frame: &[u8]) -> Result<Inner, ParseError> {
        let ethernet = EthernetHeader::parse(frame).map_err(ParseError::inner)?;
        let offset = usize::from(ethernet.payload_offset);
        let packet = frame.get(offset..).unwrap_or(&[]);
        let read = match ethernet.ethertype {
            ethertype::IPV4 => ipv4_network(packet),
            ethertype::IPV6 => ipv6_network(packet),
            ethertype::ARP => ArpPacket::parse(packet).map(|arp| (Network::Arp(arp), None)),
            _ => Ok((Network::None, None)),
        };
        let (network, ports) = read.unwrap_or_else(|e| (Network::Malformed(e.within(offset).inner()), None));
        Ok(Inner { ethernet, network, ports })
    }

    /// The upper layer's protocol number, if this is IP.
    #[inline]
    pub fn protocol(&self) -> Option<u8> {
        match &self.network {
            Network::Ipv4(ip) => Some(ip.protocol),
            Network::Ipv6(_, payload) => Some(payload.protocol),
            _ => None,
        }
    }

    /// The IP source and destination, if this is IP.
    #[inline]
    pub fn addrs(&self) -> Option<(IpAddr, IpAddr)> {
        match &self.network {
            Network::Ipv4(ip) => Some((IpAddr::V4(ip.src), IpAddr::V4(ip.dst))),
            Network::Ipv6(ip, _) => Some((IpAddr::V6(ip.src), IpAddr::V6(ip.dst))),
            _ => None,
        }
    }

    /// Whether this is one of several IP fragments, the first included.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        match &self.network {
            Network::Ipv4(ip) => ip.is_fragment(),
            Network::Ipv6(_, payload) => payload.is_fragment(),
            _ => false,
        }
    }

    /// The type of service or traffic class, DSCP and ECN, if this is IP.
    #[inline]
    pub fn tos(&self) -> Option<u8> {
        match &self.network {
            Network::Ipv4(ip) => Some(ip.tos),
            Network::Ipv6(ip, _) => Some(ip.traffic_class),
            _ => None,
        }
    }

    /// The ECN codepoint, if this is IP (see [`ecn`](super::ecn)).
    #[inline]
    pub fn ecn(&self) -> Option<u8> {
        self.tos().map(super::ecn::encapsulate)
    }

    /// A hash of the flow, for the choice of a path (RFC 7348, section 5: the outer source port).
    ///
    /// IP: addresses and protocol, and the ports where [`ports`](Self::ports) has them; so all
    /// fragments of a datagram have one hash. Anything else: MAC addresses and EtherType. The same
    /// flow and seed give the same hash on every machine. It is no defence against a sender who
    /// picks flows to collide; such a sender harms its own path only.
    #[inline]
    pub fn flow_hash(&self, seed: u32) -> u32 {
        let ports = match self.ports {
            Some((src, dst)) => (u64::from(src) << 16) | u64::from(dst),
            None => 0,
        };
        let seed = u64::from(seed) << 32;
        let (addrs, rest) = match &self.network {
            Network::Ipv4(ip) => {
                let addrs = (u64::from(ip.src.to_bits()) << 32) | u64::from(ip.dst.to_bits());
                (addrs, ports | (u64::from(ip.protocol) << 32) | (4 << 40))
            }
            Network::Ipv6(ip, payload) => {
                // The same in every fragment, where the first may have further headers behind it.
                let protocol = match payload.fragment {
                    Some(f) if f.is_partial() => f.next_header,
                    _ => payload.protocol,
                };
                let src = mix(high(ip.src.to_bits()) ^ K[0], ip.src.to_bits() as u64 ^ K[1]);
                let dst = mix(high(ip.dst.to_bits()) ^ K[2], ip.dst.to_bits() as u64 ^ K[3]);
                (src ^ dst.rotate_left(32), ports | (u64::from(protocol) << 32) | (6 << 40))
            }
            _ => {
                let (src, dst) = (self.ethernet.src.to_u64(), self.ethernet.dst.to_u64());
                (mix(src ^ K[0], dst ^ K[1]), u64::from(self.ethernet.ethertype))
            }
        };
        let hash = mix(mix(addrs ^ K[2] ^ seed, rest ^ K[3]) ^ seed, K[4]);
        (hash >> 32) as u32
    }
}

/// Odd constants with about as many ones as zeros: fractional digits of pi.
const K: [u64; 5] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7345,
    0xa409_3822_299f_31d1,
    0x082e_fa98_ec4e_6c89,
    0x4528_21e6_38d0_1377,
];

/// Multiplies to 128 bits and folds the halves, so that every bit of a factor reaches every output bit.
#[inline]
const fn mix(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    (product >> 64) as u64 ^ product as u64
}

const fn high(v: u128) -> u64 {
    (v >> 64) as u64
}

type Read = Result<(Network, Option<(u16, u16)>), ParseError>;

#[inline]
fn ipv4_network(packet: &[u8]) -> Read {
    let ip = Ipv4Header::parse(packet)?;
    let range = usize::from(ip.header_len)..ip.packet_len(packet.len());
    let ports = if ip.is_fragment() { None } else { ports(ip.protocol, packet.get(range)) };
    Ok((Network::Ipv4(ip), ports))
}

#[inline]
fn ipv6_network(packet: &[u8]) -> Read {
    let ip = Ipv6Header::parse(packet)?;
    let payload = ipv6::skip_extensions(packet, &ip)?;
    let range = usize::from(payload.offset)..ip.packet_len(packet.len());
    let ports = if payload.is_fragment() { None } else { ports(payload.protocol, packet.get(range)) };
    Ok((Network::Ipv6(ip, payload), ports))
}

/// The ports of an upper layer whose header starts with them, cut to the IP packet's end: padding
/// is nobody's port.
#[inline]
fn ports(protocol: u8, upper: Option<&[u8]>) -> Option<(u16, u16)> {
    use protocol::{DCCP, SCTP, TCP, UDP, UDP_LITE};
    if !matches!(protocol, TCP | UDP | SCTP | UDP_LITE | DCCP) {
        return None;
    }
    let p = upper?.first_chunk::<4>()?;
    Some((u16::from_be_bytes([p[0], p[1]]), u16::from_be_bytes([p[2], p[3]])))
}

/// The UDP source port of a flow with this hash: `first..=last`, uniform over the hash's high bits
/// (RFC 7348, section 5, which recommends 49152 to 65535). It is `first` when `last` is below it.
#[inline]
pub const fn source_port(hash: u32, first: u16, last: u16) -> u16 {
    let ports = last.saturating_sub(first) as u64 + 1;
    first.wrapping_add(((hash as u64 * ports) >> 32) as u16)
}
