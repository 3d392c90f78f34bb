//! What one inner Ethernet frame holds: its headers, its flow, and the source port that flow gets.

use core::net::IpAddr;

use super::arp::ArpPacket;
use super::ethernet::{EthernetHeader, ethertype};
use super::ipv4::{Ipv4Header, protocol};
use super::ipv6::{self, Ipv6Header, Ipv6Payload};
use crate::addr::MacAddr;
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
        self.tos().map(|tos| tos & 0b11)
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
            Some((src, dst)) => (u32::from(src) << 16) | u32::from(dst),
            None => 0,
        };
        match &self.network {
            Network::Ipv4(ip) => {
                let addrs = (u64::from(ip.src.to_bits()) << 32) | u64::from(ip.dst.to_bits());
                hash_v4(addrs, ip.protocol, ports, seed)
            }
            Network::Ipv6(ip, payload) => {
                // The same in every fragment, where the first may have further headers behind it.
                let protocol = match payload.fragment {
                    Some(f) if f.is_partial() => f.next_header,
                    _ => payload.protocol,
                };
                hash_v6(ip.src.to_bits(), ip.dst.to_bits(), protocol, ports, seed)
            }
            _ => {
                let (src, dst) = (self.ethernet.src.to_u64(), self.ethernet.dst.to_u64());
                finish(mix(src ^ K[0], dst ^ K[1]), u64::from(self.ethernet.ethertype), seed)
            }
        }
    }
}

/// What a bridge needs of a frame: the addresses, and for the outer header the flow's hash and the
/// ECN codepoint. The same as [`Inner`] says, in a fraction of its time where the frame is an
/// untagged, whole TCP or UDP packet without options.
///
/// ```
/// use overlane::wire::inner::{Flow, Inner};
/// let frame = [0u8; 60];
/// assert_eq!(Flow::of(&frame, 1)?.hash, Inner::classify(&frame)?.flow_hash(1));
/// # Ok::<(), overlane::error::ParseError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The destination address.
    pub dst: MacAddr,
    /// The source address.
    pub src: MacAddr,
    /// [`Inner::flow_hash`].
    pub hash: u32,
    /// [`Inner::ecn`], or 0 where there is none.
    pub ecn: u8,
}

impl Flow {
    /// Reads the headers of `frame`.
    ///
    /// # Errors
    ///
    /// As [`Inner::classify`].
    #[inline(always)]
    pub fn of(frame: &[u8], seed: u32) -> Result<Flow, ParseError> {
        match (Flow::plain_v4(frame, seed), addresses(frame)) {
            (Some((hash, ecn)), Some((dst, src))) => Ok(Flow { dst, src, hash, ecn }),
            _ => Flow::any(frame, seed),
        }
    }

    /// Hash and ECN codepoint of an untagged, whole TCP or UDP packet over IPv4 without options.
    #[inline(always)]
    pub(crate) fn plain_v4(frame: &[u8], seed: u32) -> Option<(u32, u8)> {
        const PORTS_END: usize = 14 + 20 + 4;
        let h = frame.first_chunk::<PORTS_END>()?;
        // Few and wide reads: EtherType, version, header length and ECN; then total length, fragment and protocol.
        let kind = u32::from_be_bytes([h[12], h[13], h[14], h[15]]);
        let rest = u64::from_be_bytes([h[16], h[17], h[18], h[19], h[20], h[21], h[22], h[23]]);
        let (total_len, protocol) = ((rest >> 48) as usize, rest as u8);
        // Version 4 without options, no fragment, and the ports within the packet.
        let plain = kind >> 8 == 0x08_0045
            && rest & 0x3fff_0000 == 0
            && (protocol == protocol::TCP || protocol == protocol::UDP)
            && total_len.wrapping_sub(24) <= frame.len().wrapping_sub(PORTS_END);
        if !plain {
            return None;
        }
        let addrs = u64::from_be_bytes([h[26], h[27], h[28], h[29], h[30], h[31], h[32], h[33]]);
        let ports = u32::from_be_bytes([h[34], h[35], h[36], h[37]]);
        Some((hash_v4(addrs, protocol, ports, seed), kind as u8 & 3))
    }

    #[inline(never)]
    pub(crate) fn any(frame: &[u8], seed: u32) -> Result<Flow, ParseError> {
        if let Some(flow) = Flow::plain_v6(frame, seed) {
            return Ok(flow);
        }
        let inner = Inner::classify(frame)?;
        let (dst, src) = (inner.ethernet.dst, inner.ethernet.src);
        Ok(Flow { dst, src, hash: inner.flow_hash(seed), ecn: inner.ecn().unwrap_or(0) })
    }

    #[inline]
    fn plain_v6(frame: &[u8], seed: u32) -> Option<Flow> {
        const PORTS_END: usize = 14 + 40 + 4;
        let h = frame.first_chunk::<PORTS_END>()?;
        let payload_len = usize::from(u16::from_be_bytes([h[18], h[19]]));
        let plain = (h[12], h[13], h[14] >> 4) == (0x86, 0xdd, 6)
            && (h[20] == protocol::TCP || h[20] == protocol::UDP)
            && payload_len >= 4
            && payload_len <= frame.len().wrapping_sub(14 + 40);
        if !plain {
            return None;
        }
        let (src, rest) = h.get(22..)?.split_first_chunk()?;
        let (dst, rest) = rest.split_first_chunk()?;
        let ports = u32::from_be_bytes(*rest.first_chunk()?);
        Some(Flow {
            dst: MacAddr([h[0], h[1], h[2], h[3], h[4], h[5]]),
            src: MacAddr([h[6], h[7], h[8], h[9], h[10], h[11]]),
            hash: hash_v6(u128::from_be_bytes(*src), u128::from_be_bytes(*dst), h[20], ports, seed),
            ecn: h[15] >> 4 & 3,
        })
    }
}

/// Whether a frame has a whole Ethernet header without VLAN tags.
#[inline(always)]
pub(crate) fn is_untagged(frame: &[u8]) -> bool {
    match frame.first_chunk::<14>() {
        Some(h) => !matches!(u16::from_be_bytes([h[12], h[13]]), 0x8100 | 0x88a8),
        None => false,
    }
}

/// Destination and source of a frame.
#[inline(always)]
pub(crate) fn addresses(frame: &[u8]) -> Option<(MacAddr, MacAddr)> {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = frame.first_chunk()?;
    Some((MacAddr([*a, *b, *c, *d, *e, *f]), MacAddr([*g, *h, *i, *j, *k, *l])))
}

/// `addrs` is the source in the high half, the destination in the low one; `ports` likewise.
#[inline]
const fn hash_v4(addrs: u64, protocol: u8, ports: u32, seed: u32) -> u32 {
    finish(addrs, ports as u64 | (protocol as u64) << 32 | 4 << 40, seed)
}

#[inline]
const fn hash_v6(src: u128, dst: u128, protocol: u8, ports: u32, seed: u32) -> u32 {
    let src = mix(high(src) ^ K[0], src as u64 ^ K[1]);
    let dst = mix(high(dst) ^ K[2], dst as u64 ^ K[3]);
    finish(src ^ dst.rotate_left(32), ports as u64 | (protocol as u64) << 32 | 6 << 40, seed)
}

#[inline]
const fn finish(addrs: u64, rest: u64, seed: u32) -> u32 {
    let seed = (seed as u64) << 32;
    (mix(mix(addrs ^ K[2] ^ seed, rest ^ K[3]) ^ seed, K[4]) >> 32) as u32
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
