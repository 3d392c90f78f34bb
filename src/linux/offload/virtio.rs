//! The header that a TAP puts before every frame, and what it asks of a frame that is written.
//!
//! A kernel VXLAN peer that shares the machine (its underlay is a veth pair, say) hands over inner
//! frames as its stack had them: TCP and UDP checksums not yet finished (the field holds the folded
//! pseudo-header sum) and TCP superframes of up to 64 KiB, since neither was ever needed on a wire.
//! A pod drops the first and a bridge the second, so the TAP is told: `NEEDS_CSUM`, and
//! `GSO_TCPV4`/`GSO_TCPV6` with a segment size that fits the MTU.
//!
//! A finished checksum that happens to equal the pseudo-header sum is marked too. That is harmless:
//! the kernel computes the same number again. A corrupted frame of that kind (one in 65536 of the
//! corrupted ones) is not noticed; the outer UDP checksum is what protects against that.

use crate::wire::checksum::{Sum, pseudo_header_v4, pseudo_header_v6};
use crate::wire::ethernet;
use crate::wire::inner::{Inner, Network};
use crate::wire::ipv4::protocol;

/// The 10 octets before a frame on a TAP with `IFF_VNET_HDR` (`struct virtio_net_hdr`, virtio 1.2,
/// section 5.1.6), in the machine's byte order as the kernel's legacy layout wants them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VirtioNetHeader {
    /// [`NEEDS_CSUM`](VirtioNetHeader::NEEDS_CSUM), [`DATA_VALID`](VirtioNetHeader::DATA_VALID) or 0.
    pub flags: u8,
    /// [`GSO_NONE`](VirtioNetHeader::GSO_NONE), [`GSO_TCPV4`](VirtioNetHeader::GSO_TCPV4),
    /// [`GSO_TCPV6`](VirtioNetHeader::GSO_TCPV6) or [`GSO_UDP_L4`](VirtioNetHeader::GSO_UDP_L4), and with TCP
    /// perhaps the bit [`GSO_ECN`](VirtioNetHeader::GSO_ECN).
    pub gso_type: u8,
    /// Octets of the Ethernet, IP and TCP or UDP headers together; from the kernel no more than a
    /// hint (it may be larger). 0 without segmentation.
    pub hdr_len: u16,
    /// Payload octets of every segment but the last. 0 without segmentation.
    pub gso_size: u16,
    /// Where checksumming starts: the offset of the transport header in the frame.
    pub csum_start: u16,
    /// Where the checksum goes, counted from `csum_start`.
    pub csum_offset: u16,
}

/// The frame is longer than the device's MTU and is not a TCP frame that the kernel could segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oversize;

impl core::fmt::Display for Oversize {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("frame longer than the MTU, and not TCP that can be segmented")
    }
}

impl core::error::Error for Oversize {}

impl VirtioNetHeader {
    /// The size on the TAP in octets.
    pub const LEN: usize = 10;
    /// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum field holds the pseudo-header sum only.
    pub const NEEDS_CSUM: u8 = 1;
    /// `VIRTIO_NET_HDR_F_DATA_VALID`: the checksum was verified. Linux says it on reading; on
    /// writing it does not listen.
    pub const DATA_VALID: u8 = 2;
    /// `VIRTIO_NET_HDR_GSO_NONE`: not a superframe.
    pub const GSO_NONE: u8 = 0;
    /// `VIRTIO_NET_HDR_GSO_TCPV4`.
    pub const GSO_TCPV4: u8 = 1;
    /// `VIRTIO_NET_HDR_GSO_TCPV6`.
    pub const GSO_TCPV6: u8 = 4;
    /// `VIRTIO_NET_HDR_GSO_UDP_L4`: equal UDP datagrams of one flow over either IP (Linux 6.2 on a TAP).
    pub const GSO_UDP_L4: u8 = 5;
    /// `VIRTIO_NET_HDR_GSO_ECN`, a bit beside a TCP type: the first segment alone has CWR.
    pub const GSO_ECN: u8 = 0x80;
    /// Nothing left to do.
    pub const NONE: VirtioNetHeader =
        VirtioNetHeader { flags: 0, gso_type: 0, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 };

    /// Decides for an Ethernet frame (from the destination MAC, without FCS) that goes to a device
    /// whose `mtu` counts what follows the Ethernet header and its VLAN tags.
    ///
    /// Any bytes are allowed; what is not understood asks for nothing. A UDP superframe is
    /// [`Oversize`]: its segment size was lost on the way.
    pub fn plan(frame: &[u8], mtu: u16) -> Result<VirtioNetHeader, Oversize> {
        let inner = Inner::classify(frame).ok();
        let header_len = inner.map_or(ethernet::HEADER_LEN, |i| usize::from(i.ethernet.payload_offset));
        let oversize = frame.len().saturating_sub(header_len) > usize::from(mtu);
        let Some(transport) = inner.and_then(|i| Transport::locate(&i, frame)) else {
            return if oversize { Err(Oversize) } else { Ok(Self::NONE) };
        };
        let mut header = Self::NONE;
        if transport.unfinished(frame) {
            header.flags = Self::NEEDS_CSUM;
            header.csum_start = transport.offset;
            header.csum_offset = transport.checksum_offset();
        }
        if oversize {
            let tcp_len = transport.tcp_header_len(frame).ok_or(Oversize)?;
            let headers = transport.ip_len.saturating_add(tcp_len);
            header.gso_size = mtu.checked_sub(headers).filter(|size| *size > 0).ok_or(Oversize)?;
            header.gso_type = if transport.v6 { Self::GSO_TCPV6 } else { Self::GSO_TCPV4 };
            header.hdr_len = transport.offset.saturating_add(tcp_len);
        }
        Ok(header)
    }

    /// The octets as the kernel takes them.
    pub const fn to_bytes(self) -> [u8; Self::LEN] {
        let [h0, h1] = self.hdr_len.to_ne_bytes();
        let [g0, g1] = self.gso_size.to_ne_bytes();
        let [s0, s1] = self.csum_start.to_ne_bytes();
        let [o0, o1] = self.csum_offset.to_ne_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1]
    }

    /// Reads the octets that the kernel gave.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> VirtioNetHeader {
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1] = bytes;
        VirtioNetHeader {
            flags,
            gso_type,
            hdr_len: u16::from_ne_bytes([h0, h1]),
            gso_size: u16::from_ne_bytes([g0, g1]),
            csum_start: u16::from_ne_bytes([s0, s1]),
            csum_offset: u16::from_ne_bytes([o0, o1]),
        }
    }

    /// The checksum that `NEEDS_CSUM` asks for, and the offset of its two octets in the frame;
    /// `None` when the header does not ask, or asks for octets that are not there.
    pub fn checksum(&self, frame: &[u8]) -> Option<(usize, [u8; 2])> {
        if self.flags & Self::NEEDS_CSUM == 0 {
            return None;
        }
        let start = usize::from(self.csum_start);
        let at = start.checked_add(usize::from(self.csum_offset))?;
        frame.get(at..)?.first_chunk::<2>()?;
        // The field holds the pseudo-header sum, so summing over it adds that in.
        let check = Sum::new().add_bytes(frame.get(start..)?).finish();
        // In UDP an all-zero field means "none"; ones' complement has a second zero (RFC 768).
        let check = if check == 0 && self.csum_offset == UDP_CHECKSUM { 0xffff } else { check };
        Some((at, check.to_be_bytes()))
    }
}

/// The 24 octets before a frame on a TAP whose `TUNSETOFFLOAD` has the UDP tunnel bits
/// (`struct virtio_net_hdr_v1_hash_tunnel`, Linux 6.17): a superframe within a VXLAN packet, cut by
/// the kernel, outer headers included.
///
/// The plain part is about the inner packet, with offsets from the start of the outer frame. What
/// lies between the two parts (buffer count, hash) is zero.
///
/// ```
/// use overlane::linux::offload::{VirtioNetHeader, VirtioNetTunnelHeader};
/// // TCP over IPv4 in VXLAN over IPv4.
/// let header = VirtioNetTunnelHeader {
///     inner: VirtioNetHeader {
///         flags: VirtioNetHeader::NEEDS_CSUM,
///         gso_type: VirtioNetHeader::GSO_TCPV4 | VirtioNetTunnelHeader::GSO_UDP_TUNNEL_IPV4,
///         hdr_len: 116,
///         gso_size: 1398,
///         csum_start: 84,
///         csum_offset: 16,
///     },
///     outer_th_offset: 34,
///     inner_nh_offset: 64,
/// };
/// assert_eq!(VirtioNetTunnelHeader::from_bytes(header.to_bytes()), header);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VirtioNetTunnelHeader {
    /// The plain header, for the inner packet.
    pub inner: VirtioNetHeader,
    /// Offset of the outer UDP header in the frame. 0 without a tunnel.
    pub outer_th_offset: u16,
    /// Offset of the inner IP header in the frame. 0 without a tunnel.
    pub inner_nh_offset: u16,
}

impl VirtioNetTunnelHeader {
    /// The size on the TAP in octets (`TUNSETVNETHDRSZ`).
    pub const LEN: usize = 24;
    /// `VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4`, a bit beside the inner type: the outer packet is IPv4.
    pub const GSO_UDP_TUNNEL_IPV4: u8 = 0x20;
    /// `VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV6`, a bit beside the inner type: the outer packet is IPv6.
    pub const GSO_UDP_TUNNEL_IPV6: u8 = 0x40;
    /// `VIRTIO_NET_HDR_F_UDP_TUNNEL_CSUM`, a bit of `flags`: the outer UDP checksum is wanted too.
    pub const UDP_TUNNEL_CSUM: u8 = 8;
    /// Nothing left to do.
    pub const NONE: VirtioNetTunnelHeader =
        VirtioNetTunnelHeader { inner: VirtioNetHeader::NONE, outer_th_offset: 0, inner_nh_offset: 0 };

    /// The octets as the kernel takes them. The tunnel's offsets are little-endian on every machine.
    pub const fn to_bytes(self) -> [u8; Self::LEN] {
        let [a, b, c, d, e, f, g, h, i, j] = self.inner.to_bytes();
        let [t0, t1] = self.outer_th_offset.to_le_bytes();
        let [n0, n1] = self.inner_nh_offset.to_le_bytes();
        [a, b, c, d, e, f, g, h, i, j, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, t0, t1, n0, n1]
    }

    /// Reads the octets that the kernel gave.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> VirtioNetTunnelHeader {
        let [a, b, c, d, e, f, g, h, i, j, .., t0, t1, n0, n1] = bytes;
        VirtioNetTunnelHeader {
            inner: VirtioNetHeader::from_bytes([a, b, c, d, e, f, g, h, i, j]),
            outer_th_offset: u16::from_le_bytes([t0, t1]),
            inner_nh_offset: u16::from_le_bytes([n0, n1]),
        }
    }
}

/// Offset of the checksum in a TCP header.
pub(super) const TCP_CHECKSUM: u16 = 16;
/// Offset of the checksum in a UDP header.
pub(super) const UDP_CHECKSUM: u16 = 6;

/// A whole (not fragmented) TCP segment or UDP datagram in a frame.
struct Transport {
    v6: bool,
    tcp: bool,
    /// Of the transport header in the frame.
    offset: u16,
    /// Octets of the IP header with its options or extension headers.
    ip_len: u16,
    /// Octets of the transport header and its payload, as the IP header states.
    len: usize,
    /// The sum of the pseudo header alone.
    pseudo: u16,
}

impl Transport {
    fn locate(inner: &Inner, frame: &[u8]) -> Option<Transport> {
        let network = inner.ethernet.payload_offset;
        let available = frame.len().checked_sub(usize::from(network))?;
        if inner.is_fragment() {
            return None;
        }
        let protocol = inner.protocol()?;
        let (tcp, least) = match protocol {
            protocol::TCP => (true, 20),
            protocol::UDP => (false, 8),
            _ => return None,
        };
        let (v6, ip_len, total) = match &inner.network {
            Network::Ipv4(ip) => (false, u16::from(ip.header_len), ip.packet_len(available)),
            Network::Ipv6(ip, payload) => (true, payload.offset, ip.packet_len(available)),
            _ => return None,
        };
        let len = total.checked_sub(usize::from(ip_len))?;
        if len < least || total > available {
            return None;
        }
        let pseudo = match &inner.network {
            Network::Ipv4(ip) => pseudo_header_v4(ip.src, ip.dst, protocol, u16::try_from(len).ok()?),
            Network::Ipv6(ip, _) => pseudo_header_v6(ip.src, ip.dst, protocol, u32::try_from(len).ok()?),
            _ => return None,
        };
        Some(Transport { v6, tcp, offset: network.checked_add(ip_len)?, ip_len, len, pseudo: pseudo.value() })
    }

    fn checksum_offset(&self) -> u16 {
        if self.tcp { TCP_CHECKSUM } else { UDP_CHECKSUM }
    }

    /// The checksum field holds the folded pseudo-header sum (RFC 9293, section 3.1; RFC 8200,
    /// section 8.1) and nothing of the payload.
    fn unfinished(&self, frame: &[u8]) -> bool {
        let at = usize::from(self.offset).saturating_add(usize::from(self.checksum_offset()));
        frame.get(at..).and_then(|f| f.first_chunk()) == Some(&self.pseudo.to_be_bytes())
    }

    fn tcp_header_len(&self, frame: &[u8]) -> Option<u16> {
        if !self.tcp {
            return None;
        }
        let data_offset = frame.get(usize::from(self.offset).checked_add(12)?)?;
        let len = u16::from(data_offset >> 4).saturating_mul(4);
        (len >= 20 && usize::from(len) <= self.len).then_some(len)
    }
}

#[cfg(test)]
#[path = "virtio_tests.rs"]
mod tests;
