//! Cutting a superframe into segments, as the kernel's own software segmentation does.

use core::ops::Range;

use super::virtio::{TCP_CHECKSUM, UDP_CHECKSUM, VirtioNetHeader};
use crate::wire::checksum::Sum;
use crate::wire::inner::{Inner, Network};
use crate::wire::ipv4::protocol;
use crate::wire::ipv6;

/// The most octets that the headers of a segment may have, Ethernet to TCP or UDP. All that IPv4 can
/// have fits; with two VLAN tags and the longest TCP header, 134 octets are left for the extension
/// headers of IPv6.
pub const MAX_HEADER_LEN: usize = 256;

/// The most segments that a superframe may have: 65,535 octets in the smallest segments that Linux
/// sends (48 octets of TCP payload, `net.ipv4.tcp_min_snd_mss`). Linux stops at 128 for UDP.
pub const MAX_SEGMENTS: usize = 1366;

/// Why a superframe is dropped: what its virtio header says is not true of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// A `gso_type` other than TCP over IPv4 or IPv6 and UDP_L4, or one that is not what the frame
    /// holds: another protocol, a fragment, headers that end behind the frame.
    Type,
    /// Headers over [`MAX_HEADER_LEN`], or extension headers that cannot be repeated in every
    /// segment (authentication, fragment).
    Headers,
    /// No `NEEDS_CSUM`, or one that names another field than the checksum of the TCP or UDP header.
    Checksum,
    /// A `gso_size` of 0, or so small that there would be over [`MAX_SEGMENTS`] segments.
    SegmentSize,
    /// An IP packet of over 65,535 octets.
    TooLong,
}

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Malformed::Type => "the frame is not what the segmentation type says",
            Malformed::Headers => "headers that cannot be repeated in each segment",
            Malformed::Checksum => "the checksum request is not about the TCP or UDP checksum",
            Malformed::SegmentSize => "a segment size of 0, or too many segments",
            Malformed::TooLong => "an IP packet of over 65,535 octets",
        })
    }
}

impl core::error::Error for Malformed {}

/// A superframe from a TAP whose header was held against the frame: how it is cut.
///
/// The segments are those of the kernel's software segmentation (`net/ipv4/tcp_offload.c`,
/// `udp_offload.c`): each has the headers of the superframe, with lengths and checksums of its own.
/// The IPv4 identification goes up by 1 from segment to segment, also with DF. TCP: the sequence
/// number goes on; CWR stays on the first segment, FIN and PSH on the last; all other flags, the
/// urgent pointer and the options are on every one.
///
/// ```
/// use overlane::linux::offload::{MAX_HEADER_LEN, Superframe, VirtioNetHeader};
/// // 3000 octets over UDP, in datagrams of 1400.
/// let mut frame = vec![0u8; 14 + 20 + 8 + 3000];
/// frame[12..14].copy_from_slice(&[0x08, 0x00]);
/// frame[14..24].copy_from_slice(&[0x45, 0, 0x0b, 0xd4, 0, 7, 0x40, 0, 64, 17]);
/// frame[34..40].copy_from_slice(&[0x30, 0x39, 0, 0x35, 0x0b, 0xc0]);
/// let header = VirtioNetHeader {
///     flags: VirtioNetHeader::NEEDS_CSUM,
///     gso_type: VirtioNetHeader::GSO_UDP_L4,
///     hdr_len: 42,
///     gso_size: 1400,
///     csum_start: 34,
///     csum_offset: 6,
/// };
/// let cut = Superframe::parse(&header, &frame)?.expect("a superframe");
/// assert_eq!((cut.segments(), cut.segment_len()), (3, 1442));
/// let mut headers = [0; MAX_HEADER_LEN];
/// let len = cut.write_header(2, &frame, &mut headers).expect("the same frame");
/// assert_eq!(headers[16..20], [0, 228, 0, 9]); // 20 + 8 + 200 octets, the identification two on
/// assert_eq!(cut.payload(2), 42 + 2800..3042);
/// # Ok::<(), overlane::linux::offload::Malformed>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superframe {
    /// Where the payload ends in the frame; it starts at `header_len`.
    payload_end: u32,
    gso_size: u16,
    segments: u16,
    network: u16,
    transport: u16,
    header_len: u16,
    v6: bool,
    tcp: bool,
    /// Of the first segment.
    seq: u32,
    /// Of the first segment.
    id: u16,
    /// Data offset, reserved bits and flags of TCP.
    flags: u16,
    /// The sum of what is the same in the IPv4 header of every segment.
    network_sum: Sum,
    /// The sum of what is the same in the pseudo header and the TCP or UDP header of every segment.
    transport_sum: Sum,
}

const FIN: u16 = 0x01;
const PSH: u16 = 0x08;
const CWR: u16 = 0x80;

impl Superframe {
    /// Holds `header` against `frame` (from the destination MAC, without FCS). `None`: an ordinary
    /// frame, whose checksum may still want finishing ([`VirtioNetHeader::checksum`]).
    ///
    /// The lengths are those of the frame's own headers; `hdr_len` is a hint only and ignored. Octets
    /// behind the end of the IP packet belong to no segment.
    ///
    /// # Errors
    ///
    /// The frame is to be dropped, see [`Malformed`].
    pub fn parse(header: &VirtioNetHeader, frame: &[u8]) -> Result<Option<Superframe>, Malformed> {
        let wants_v6 = match header.gso_type {
            VirtioNetHeader::GSO_NONE => return Ok(None),
            VirtioNetHeader::GSO_UDP_L4 => None,
            tcp => match tcp & !VirtioNetHeader::GSO_ECN {
                VirtioNetHeader::GSO_TCPV4 => Some(false),
                VirtioNetHeader::GSO_TCPV6 => Some(true),
                _ => return Err(Malformed::Type),
            },
        };
        let inner = Inner::classify(frame).map_err(|_| Malformed::Type)?;
        let (tcp, checksum) = match wants_v6 {
            Some(_) => (true, TCP_CHECKSUM),
            None => (false, UDP_CHECKSUM),
        };
        let upper = if tcp { protocol::TCP } else { protocol::UDP };
        if inner.protocol() != Some(upper) || inner.is_fragment() {
            return Err(Malformed::Type);
        }
        let network = inner.ethernet.payload_offset;
        let packet = frame.get(usize::from(network)..).ok_or(Malformed::Type)?;
        let (v6, ip_len, total) = match &inner.network {
            Network::Ipv4(ip) => (false, u16::from(ip.header_len), ip.packet_len(packet.len())),
            Network::Ipv6(ip, payload) => (true, payload.offset, ip.packet_len(packet.len())),
            _ => return Err(Malformed::Type),
        };
        if wants_v6.is_some_and(|wanted| wanted != v6) {
            return Err(Malformed::Type);
        }
        if total > usize::from(u16::MAX) {
            return Err(Malformed::TooLong);
        }
        let (ip, segment) = packet
            .get(..total)
            .and_then(|whole| whole.split_at_checked(usize::from(ip_len)))
            .ok_or(Malformed::Type)?;
        if v6 && !repeatable(ip) {
            return Err(Malformed::Headers);
        }
        let (transport_len, seq, flags, constant) =
            if tcp { tcp_constants(segment) } else { udp_constants(segment) }.ok_or(Malformed::Type)?;
        let addresses = if v6 { ip.get(8..40) } else { ip.get(12..20) }.ok_or(Malformed::Type)?;
        let (network_sum, id) =
            if v6 { (Sum::new(), 0) } else { ipv4_constants(ip).ok_or(Malformed::Type)? };

        let transport = network.saturating_add(ip_len);
        let header_len = transport.saturating_add(transport_len);
        if usize::from(header_len) > MAX_HEADER_LEN {
            return Err(Malformed::Headers);
        }
        let needs = header.flags & VirtioNetHeader::NEEDS_CSUM != 0;
        if !needs || header.csum_start != transport || header.csum_offset != checksum {
            return Err(Malformed::Checksum);
        }
        let payload = segment.len().saturating_sub(usize::from(transport_len));
        let size = usize::from(header.gso_size);
        if size == 0 {
            return Err(Malformed::SegmentSize);
        }
        // An empty payload is one segment.
        let segments = payload.max(1).div_ceil(size);
        if segments > MAX_SEGMENTS {
            return Err(Malformed::SegmentSize);
        }
        Ok(Some(Superframe {
            payload_end: u32::from(header_len).saturating_add(payload as u32),
            gso_size: header.gso_size,
            segments: segments as u16,
            network,
            transport,
            header_len,
            v6,
            tcp,
            seq,
            id,
            flags,
            network_sum,
            transport_sum: constant.add_bytes(addresses).add_u16(u16::from(upper)),
        }))
    }

    /// How many segments there are, 1 to [`MAX_SEGMENTS`]; all but the last of equal length.
    #[inline]
    pub fn segments(&self) -> usize {
        usize::from(self.segments)
    }

    /// Octets of the headers of each segment, Ethernet to TCP or UDP: [`MAX_HEADER_LEN`] at most.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.header_len)
    }

    /// Octets of every segment but the last, headers included; the length of the only one where
    /// there is one.
    #[inline]
    pub fn segment_len(&self) -> usize {
        self.header_len().saturating_add(self.payload(0).len())
    }

    /// Where the payload of segment `index` lies in the frame; empty behind the last.
    #[inline]
    pub fn payload(&self, index: usize) -> Range<usize> {
        let (end, size) = (self.payload_end as usize, usize::from(self.gso_size));
        let start = self.header_len().saturating_add(index.saturating_mul(size)).min(end);
        start..start.saturating_add(size).min(end)
    }

    /// Writes the headers of segment `index` to the start of `out`, final in every field, and gives
    /// their length. `frame` is the one that was parsed.
    ///
    /// `None`, with `out` in any state, where there is no such segment, where `out` is too small, or
    /// where `frame` is shorter than the one that was parsed.
    #[inline]
    pub fn write_header(&self, index: usize, frame: &[u8], out: &mut [u8]) -> Option<usize> {
        if index >= self.segments() {
            return None;
        }
        let range = self.payload(index);
        let payload_len = range.len();
        let payload = frame.get(range)?;
        let out = out.get_mut(..self.header_len())?;
        out.copy_from_slice(frame.get(..self.header_len())?);
        let (ip, transport) =
            out.get_mut(usize::from(self.network)..)?.split_at_mut_checked(self.ip_len())?;

        let transport_len = transport.len().wrapping_add(payload_len) as u16;
        let ip_len = ip.len() as u16;
        if self.v6 {
            let h = ip.first_chunk_mut::<{ ipv6::HEADER_LEN }>()?;
            let len = ip_len.wrapping_sub(ipv6::HEADER_LEN as u16).wrapping_add(transport_len);
            [h[4], h[5]] = len.to_be_bytes();
        } else {
            let h = ip.first_chunk_mut::<20>()?;
            let total = ip_len.wrapping_add(transport_len);
            let id = self.id.wrapping_add(index as u16);
            [h[2], h[3]] = total.to_be_bytes();
            [h[4], h[5]] = id.to_be_bytes();
            [h[10], h[11]] = self.network_sum.add_u16(total).add_u16(id).finish().to_be_bytes();
        }
        // The headers are of even length, so the payload's words lie as the pseudo header's do.
        let sum = self.transport_sum.add_u16(transport_len).add_bytes(payload);
        if self.tcp {
            let h = transport.first_chunk_mut::<20>()?;
            let seq = self.seq.wrapping_add((index as u32).wrapping_mul(u32::from(self.gso_size)));
            let flags = self.segment_flags(index);
            [h[4], h[5], h[6], h[7]] = seq.to_be_bytes();
            [h[12], h[13]] = flags.to_be_bytes();
            let check = sum.add_u16((seq >> 16) as u16).add_u16(seq as u16).add_u16(flags).finish();
            [h[16], h[17]] = check.to_be_bytes();
        } else {
            let h = transport.first_chunk_mut::<8>()?;
            [h[4], h[5]] = transport_len.to_be_bytes();
            // The length stands in the pseudo header and in the header. A sum of 0 is sent as its
            // other form, as 0 means "none" (RFC 768).
            let check = match sum.add_u16(transport_len).finish() {
                0 => 0xffff,
                check => check,
            };
            [h[6], h[7]] = check.to_be_bytes();
        }
        Some(self.header_len())
    }

    #[inline]
    fn ip_len(&self) -> usize {
        usize::from(self.transport.wrapping_sub(self.network))
    }

    #[inline]
    fn segment_flags(&self, index: usize) -> u16 {
        let mut flags = self.flags;
        if index != 0 {
            flags &= !CWR;
        }
        if index.wrapping_add(1) != self.segments() {
            flags &= !(FIN | PSH);
        }
        flags
    }
}

/// Header length, sequence number, flags, and the sum of the rest without the checksum.
type Constants = (u16, u32, u16, Sum);

fn tcp_constants(segment: &[u8]) -> Option<Constants> {
    let h = segment.first_chunk::<20>()?;
    let len = u16::from(h[12] >> 4).saturating_mul(4);
    let options = segment.get(20..usize::from(len))?;
    let sum = Sum::new()
        .add_bytes(&[h[0], h[1], h[2], h[3], h[8], h[9], h[10], h[11], h[14], h[15], h[18], h[19]])
        .add_bytes(options);
    let seq = u32::from_be_bytes([h[4], h[5], h[6], h[7]]);
    Some((len, seq, u16::from_be_bytes([h[12], h[13]]), sum))
}

fn udp_constants(segment: &[u8]) -> Option<Constants> {
    let h = segment.first_chunk::<8>()?;
    Some((8, 0, 0, Sum::new().add_bytes(&[h[0], h[1], h[2], h[3]])))
}

/// The sum of the header without total length, identification and checksum, and the identification.
fn ipv4_constants(ip: &[u8]) -> Option<(Sum, u16)> {
    let (h, options) = ip.split_first_chunk::<20>()?;
    let same = [h[0], h[1], h[6], h[7], h[8], h[9], h[12], h[13], h[14], h[15], h[16], h[17], h[18], h[19]];
    Some((Sum::new().add_bytes(&same).add_bytes(options), u16::from_be_bytes([h[4], h[5]])))
}

/// Whether the extension headers in `ip`, which has all of them, may stand in every segment:
/// hop-by-hop options, routing and destination options, which Linux segments behind as well.
fn repeatable(ip: &[u8]) -> bool {
    let Some((h, mut rest)) = ip.split_first_chunk::<{ ipv6::HEADER_LEN }>() else { return false };
    let mut next = h[6];
    while let Some((extension, _)) = rest.split_first_chunk::<2>() {
        if !matches!(next, 0 | 43 | 60) {
            return false;
        }
        next = extension[0];
        let len = usize::from(extension[1]).saturating_add(1).saturating_mul(8);
        let Some((_, behind)) = rest.split_at_checked(len) else { return false };
        rest = behind;
    }
    true
}
