//! What the kernel must still do to a frame that is written to a TAP: finish its checksum, cut it
//! into segments. Pure: bytes and an MTU in, a virtio-net header out.
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

/// The 10 octets before a frame on a TAP with `IFF_VNET_HDR` (`struct virtio_net_hdr`, virtio 1.2,
/// section 5.1.6), in the machine's byte order as the kernel's legacy layout wants them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VirtioNetHeader {
    /// [`NEEDS_CSUM`](VirtioNetHeader::NEEDS_CSUM) or 0.
    pub flags: u8,
    /// [`GSO_NONE`](VirtioNetHeader::GSO_NONE), [`GSO_TCPV4`](VirtioNetHeader::GSO_TCPV4) or
    /// [`GSO_TCPV6`](VirtioNetHeader::GSO_TCPV6).
    pub gso_type: u8,
    /// Octets of the Ethernet, IP and TCP headers together. 0 without segmentation.
    pub hdr_len: u16,
    /// TCP payload octets per segment. 0 without segmentation.
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
    /// `VIRTIO_NET_HDR_GSO_NONE`: not a superframe.
    pub const GSO_NONE: u8 = 0;
    /// `VIRTIO_NET_HDR_GSO_TCPV4`.
    pub const GSO_TCPV4: u8 = 1;
    /// `VIRTIO_NET_HDR_GSO_TCPV6`.
    pub const GSO_TCPV6: u8 = 4;
    /// Nothing left to do.
    pub const NONE: VirtioNetHeader =
        VirtioNetHeader { flags: 0, gso_type: 0, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 };

    /// Decides for an Ethernet frame (from the destination MAC, without FCS) that goes to a device
    /// whose `mtu` counts what follows the Ethernet header and its VLAN tags.
    ///
    /// Any bytes are allowed; what is not understood asks for nothing. A UDP superframe is
    /// [`Oversize`]: its segment size was lost on the way.
    pub fn plan(frame: &[u8], mtu: u16) -> Result<VirtioNetHeader, Oversize> {
        let network = network_offset(frame);
        let oversize = match network {
            Some((_, offset)) => frame.len().saturating_sub(offset) > usize::from(mtu),
            None => frame.len() > usize::from(mtu).saturating_add(ETHERNET_LEN),
        };
        let Some(transport) = network.and_then(|(kind, offset)| Transport::locate(frame, kind, offset))
        else {
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
    pub(crate) fn checksum(&self, frame: &[u8]) -> Option<(usize, [u8; 2])> {
        if self.flags & Self::NEEDS_CSUM == 0 {
            return None;
        }
        let start = usize::from(self.csum_start);
        let at = start.checked_add(usize::from(self.csum_offset))?;
        frame.get(at..)?.first_chunk::<2>()?;
        // The field holds the pseudo-header sum, so summing over it adds that in.
        let check = !fold(sum(frame.get(start..)?));
        // In UDP an all-zero field means "none"; ones' complement has a second zero (RFC 768).
        let check = if check == 0 && self.csum_offset == UDP_CHECKSUM { 0xffff } else { check };
        Some((at, check.to_be_bytes()))
    }
}

const ETHERNET_LEN: usize = 14;
const TCP_CHECKSUM: u16 = 16;
const UDP_CHECKSUM: u16 = 6;
const TCP: u8 = 6;
const UDP: u8 = 17;

#[derive(Clone, Copy)]
enum Ip {
    V4,
    V6,
}

/// The IP version by EtherType, behind up to two VLAN tags, and the offset of the network header.
fn network_offset(frame: &[u8]) -> Option<(Ip, usize)> {
    let mut offset = ETHERNET_LEN;
    for _ in 0..=2 {
        match be16(frame, offset.checked_sub(2)?)? {
            0x0800 => return Some((Ip::V4, offset)),
            0x86dd => return Some((Ip::V6, offset)),
            0x8100 | 0x88a8 => offset = offset.checked_add(4)?,
            _ => return None,
        }
    }
    None
}

/// A whole (not fragmented) TCP segment or UDP datagram in a frame.
struct Transport {
    v6: bool,
    protocol: u8,
    /// Of the transport header in the frame.
    offset: u16,
    /// Octets of the IP header with its options or extension headers.
    ip_len: u16,
    /// Octets of the transport header and its payload, as the IP header states.
    len: u16,
    /// Sum of the addresses, for the pseudo-header.
    addresses: u64,
}

impl Transport {
    fn locate(frame: &[u8], kind: Ip, network: usize) -> Option<Transport> {
        let packet = frame.get(network..)?;
        let (protocol, ip_len, total, addresses) = match kind {
            Ip::V4 => ipv4(packet)?,
            Ip::V6 => ipv6(packet)?,
        };
        let len = total.checked_sub(ip_len)?;
        let least = match protocol {
            TCP => 20,
            UDP => 8,
            _ => return None,
        };
        if len < least || total > packet.len() {
            return None;
        }
        Some(Transport {
            v6: matches!(kind, Ip::V6),
            protocol,
            offset: u16::try_from(network.checked_add(ip_len)?).ok()?,
            ip_len: u16::try_from(ip_len).ok()?,
            len: u16::try_from(len).ok()?,
            addresses,
        })
    }

    fn checksum_offset(&self) -> u16 {
        if self.protocol == TCP { TCP_CHECKSUM } else { UDP_CHECKSUM }
    }

    /// The checksum field holds the folded pseudo-header sum (RFC 9293, section 3.1; RFC 8200,
    /// section 8.1) and nothing of the payload.
    fn unfinished(&self, frame: &[u8]) -> bool {
        let pseudo =
            fold(self.addresses.saturating_add(u64::from(self.protocol)).saturating_add(u64::from(self.len)));
        let at = usize::from(self.offset).saturating_add(usize::from(self.checksum_offset()));
        be16(frame, at) == Some(pseudo)
    }

    fn tcp_header_len(&self, frame: &[u8]) -> Option<u16> {
        if self.protocol != TCP {
            return None;
        }
        let data_offset = frame.get(usize::from(self.offset).checked_add(12)?)?;
        let len = u16::from(data_offset >> 4).saturating_mul(4);
        (len >= 20 && len <= self.len).then_some(len)
    }
}

/// Protocol, header length, total length and address sum of a whole IPv4 packet (RFC 791).
fn ipv4(packet: &[u8]) -> Option<(u8, usize, usize, u64)> {
    let header = packet.first_chunk::<20>()?;
    let [first, _, t0, t1, _, _, f0, f1, _, protocol, ..] = *header;
    let len = usize::from(first & 0x0f).saturating_mul(4);
    // More fragments, or an offset: the transport header is not whole here.
    if first >> 4 != 4 || len < 20 || u16::from_be_bytes([f0, f1]) & 0x3fff != 0 {
        return None;
    }
    Some((protocol, len, usize::from(u16::from_be_bytes([t0, t1])), sum(header.get(12..20)?)))
}

/// The same for IPv6, extension headers counted as header (RFC 8200, section 4).
fn ipv6(packet: &[u8]) -> Option<(u8, usize, usize, u64)> {
    let header = packet.first_chunk::<40>()?;
    let [first, _, _, _, l0, l1, next, ..] = *header;
    if first >> 4 != 6 {
        return None;
    }
    let total = usize::from(u16::from_be_bytes([l0, l1])).checked_add(40)?;
    let (mut next, mut len) = (next, 40usize);
    for _ in 0..8 {
        match next {
            // Hop-by-hop, destination options; a routing header that has been served.
            0 | 43 | 60 => {
                let [following, octets, _, segments_left] = *packet.get(len..)?.first_chunk::<4>()?;
                if next == 43 && segments_left != 0 {
                    return None;
                }
                next = following;
                len = len.checked_add(usize::from(octets).saturating_add(1).saturating_mul(8))?;
            }
            protocol => return Some((protocol, len, total, sum(header.get(8..40)?))),
        }
    }
    None
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk::<2>().map(|two| u16::from_be_bytes(*two))
}

/// Sum of the 16-bit words; an odd last octet counts as the upper half of a word (RFC 1071).
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let total = words.iter().fold(0u64, |acc, w| acc.wrapping_add(u64::from(u16::from_be_bytes(*w))));
    match rest {
        [last] => total.wrapping_add(u64::from(*last) << 8),
        _ => total,
    }
}

/// Adds the carries back in until 16 bits remain.
fn fold(sum: u64) -> u16 {
    let mut sum = sum;
    for _ in 0..4 {
        sum = (sum & 0xffff).wrapping_add(sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
#[path = "offload_tests.rs"]
mod tests;
