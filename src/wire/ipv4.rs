//! IPv4 headers (RFC 791), and the in-place changes a forwarder makes to them.

use core::net::Ipv4Addr;

use super::checksum::{self, Sum};
use crate::error::{DropReason, Layer, ParseError};

/// Octets of a header without options.
pub const HEADER_LEN: usize = 20;

/// IP protocol numbers (Protocol Numbers registry of IANA) that this engine looks at.
pub mod protocol {
    /// ICMP for IPv4 (RFC 792).
    pub const ICMP: u8 = 1;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// DCCP (RFC 4340).
    pub const DCCP: u8 = 33;
    /// ICMP for IPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// SCTP (RFC 9260).
    pub const SCTP: u8 = 132;
    /// UDP-Lite (RFC 3828).
    pub const UDP_LITE: u8 = 136;
}

/// An IPv4 header; options are skipped.
///
/// ```
/// use overlane::wire::ipv4::{self, Ipv4Header};
/// let mut packet = [
///     0x45, 0, 0, 20, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
/// ];
/// let header = Ipv4Header::parse(&packet)?;
/// assert_eq!((header.protocol, header.ttl, header.dont_fragment), (17, 64, true));
/// packet = header.emit(); // with its checksum
/// assert!(ipv4::verify_checksum(&packet));
/// # Ok::<(), overlane::error::ParseError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Header {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// The protocol behind the header.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// The type of service octet: DSCP in the upper six bits, ECN in the lower two.
    pub tos: u8,
    /// Identification, shared by the fragments of one datagram.
    pub id: u16,
    /// The DF flag.
    pub dont_fragment: bool,
    /// The MF flag: another fragment follows this one.
    pub more_fragments: bool,
    /// Where this fragment belongs in its datagram, in units of 8 octets (13 bits).
    pub fragment_offset: u16,
    /// Octets of the header, options included: 20 to 60.
    pub header_len: u8,
    /// Octets of header and payload as the field says them: 0 in a superframe above 65,535.
    pub total_len: u16,
}

const fn error(reason: DropReason, offset: usize) -> ParseError {
    ParseError::new(Layer::Ipv4, reason, offset)
}

impl Ipv4Header {
    /// Reads the header at the start of `packet`. Octets behind the total length (Ethernet padding)
    /// are allowed. The checksum is not verified; see [`verify_checksum`].
    ///
    /// # Errors
    ///
    /// - [`Truncated`](DropReason::Truncated): the slice ends before the header, or before the
    ///   total length.
    /// - [`BadVersion`](DropReason::BadVersion): the version is not 4.
    /// - [`BadHeaderLength`](DropReason::BadHeaderLength): an IHL below 5.
    /// - [`BadLength`](DropReason::BadLength): a total length below the header length. Zero is
    ///   accepted where the slice exceeds 65,535 octets (see [superframes](super#superframes)).
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Ipv4Header, ParseError> {
        let Some(h) = packet.first_chunk::<HEADER_LEN>() else {
            return Err(error(DropReason::Truncated, 0));
        };
        if h[0] >> 4 != 4 {
            return Err(error(DropReason::BadVersion, 0));
        }
        let header_len = (h[0] & 0x0f) * 4;
        if usize::from(header_len) < HEADER_LEN {
            return Err(error(DropReason::BadHeaderLength, 0));
        }
        if usize::from(header_len) > packet.len() {
            return Err(error(DropReason::Truncated, 0));
        }
        let total_len = u16::from_be_bytes([h[2], h[3]]);
        if usize::from(total_len) > packet.len() {
            return Err(error(DropReason::Truncated, 2));
        }
        let superframe = total_len == 0 && packet.len() > usize::from(u16::MAX);
        if total_len < u16::from(header_len) && !superframe {
            return Err(error(DropReason::BadLength, 2));
        }
        let fragment = u16::from_be_bytes([h[6], h[7]]);
        Ok(Ipv4Header {
            src: Ipv4Addr::new(h[12], h[13], h[14], h[15]),
            dst: Ipv4Addr::new(h[16], h[17], h[18], h[19]),
            protocol: h[9],
            ttl: h[8],
            tos: h[1],
            id: u16::from_be_bytes([h[4], h[5]]),
            dont_fragment: fragment & 0x4000 != 0,
            more_fragments: fragment & 0x2000 != 0,
            fragment_offset: fragment & 0x1fff,
            header_len,
            total_len,
        })
    }

    /// Whether this is one of several fragments, the first included.
    #[inline]
    pub const fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }

    /// Octets of the whole packet in a slice of `available` octets: the total length, or all of the
    /// slice for a superframe.
    #[inline]
    pub const fn packet_len(&self, available: usize) -> usize {
        if self.total_len == 0 { available } else { self.total_len as usize }
    }

    /// The header without options and with its checksum. [`header_len`](Self::header_len) is taken
    /// as 20; of [`fragment_offset`](Self::fragment_offset) the low 13 bits count.
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let len = self.total_len.to_be_bytes();
        let id = self.id.to_be_bytes();
        let fragment = (u16::from(self.dont_fragment) << 14)
            | (u16::from(self.more_fragments) << 13)
            | (self.fragment_offset & 0x1fff);
        let fragment = fragment.to_be_bytes();
        let (s, d) = (self.src.octets(), self.dst.octets());
        let mut h = [
            0x45,
            self.tos,
            len[0],
            len[1],
            id[0],
            id[1],
            fragment[0],
            fragment[1], //
            self.ttl,
            self.protocol,
            0,
            0,
            s[0],
            s[1],
            s[2],
            s[3],
            d[0],
            d[1],
            d[2],
            d[3],
        ];
        [h[10], h[11]] = Sum::new().add_bytes(&h).finish().to_be_bytes();
        h
    }
}

/// Whether the header checksum at the start of `packet` is right, options included (RFC 1122,
/// 3.2.1.2); false where there is no whole header.
#[inline]
pub fn verify_checksum(packet: &[u8]) -> bool {
    let Some(first) = packet.first() else { return false };
    let len = usize::from(first & 0x0f) * 4;
    match packet.get(..len) {
        Some(header) if len >= HEADER_LEN => Sum::new().add_bytes(header).finish() == 0,
        _ => false,
    }
}

/// Whether the checksum of a header without options is right, as [`verify_checksum`] says.
#[inline(always)]
pub(crate) fn is_right(h: &[u8; HEADER_LEN]) -> bool {
    let [a, b, c, d, e] = h.as_chunks::<4>().0 else { return false };
    let word = |high: &[u8; 4], low: &[u8; 4]| {
        u64::from(u32::from_ne_bytes(*high)) << 32 | u64::from(u32::from_ne_bytes(*low))
    };
    // One's complement sums of wider words fold into that of narrower ones (RFC 1071, section 2, B and C).
    let (sum, carry) = word(b, a).overflowing_add(word(d, c));
    let (sum, last) = sum.overflowing_add(u64::from(u32::from_ne_bytes(*e)) + u64::from(carry));
    // Where this one wraps, the sum is far from its end.
    let sum = sum.wrapping_add(u64::from(last));
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    sum.wrapping_add(sum.rotate_left(16)) >> 16 == 0xffff
}

/// Lowers the TTL of the header at the start of `packet` by one and updates the checksum by the
/// difference (RFC 1624, equation 3). Gives the new TTL.
///
/// `None`, with nothing written, where the TTL is 0 or 1 or no header fits.
#[inline]
pub fn decrement_ttl(packet: &mut [u8]) -> Option<u8> {
    let h = packet.first_chunk_mut::<HEADER_LEN>()?;
    if h[8] <= 1 {
        return None;
    }
    let ttl = h[8].wrapping_sub(1);
    let (old, new) = (u16::from_be_bytes([h[8], h[9]]), u16::from_be_bytes([ttl, h[9]]));
    h[8] = ttl;
    [h[10], h[11]] = checksum::update16(u16::from_be_bytes([h[10], h[11]]), old, new).to_be_bytes();
    Some(ttl)
}

/// Writes the low two bits of `ecn` as the ECN field of the header at the start of `packet` and
/// updates the checksum by the difference. `None` where no header fits.
#[inline]
pub fn set_ecn(packet: &mut [u8], ecn: u8) -> Option<()> {
    let h = packet.first_chunk_mut::<HEADER_LEN>()?;
    let tos = (h[1] & !3) | (ecn & 3);
    let (old, new) = (u16::from_be_bytes([h[0], h[1]]), u16::from_be_bytes([h[0], tos]));
    h[1] = tos;
    [h[10], h[11]] = checksum::update16(u16::from_be_bytes([h[10], h[11]]), old, new).to_be_bytes();
    Some(())
}
