//! The Internet checksum: one's complement sums (RFC 1071) and their update (RFC 1624).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ipv4::protocol;

/// A one's complement sum that grows part by part. A part may have any length: the next one goes on
/// in the middle of a 16-bit word where the last one ended there.
///
/// ```
/// use overlane::wire::checksum::Sum;
/// let whole = Sum::new().add_bytes(&[0x45, 0x00, 0x00, 0x54, 0xaa]);
/// let parts = Sum::new().add_bytes(&[0x45]).add_bytes(&[0x00, 0x00]).add_bytes(&[0x54, 0xaa]);
/// assert_eq!(whole.finish(), parts.finish());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// Folded to 16 bits after each part.
    sum: u16,
    /// An odd number of octets was added so far.
    odd: bool,
}

impl Sum {
    /// The sum of nothing.
    #[inline]
    pub const fn new() -> Sum {
        Sum { sum: 0, odd: false }
    }

    /// The sum with `bytes` added, a few GiB at most. The last octet of an odd total counts as if a
    /// zero followed.
    #[inline]
    #[must_use]
    pub fn add_bytes(self, bytes: &[u8]) -> Sum {
        let part = sum_words(bytes);
        // A sum of words that start one octet later is the same sum with its octets swapped
        // (RFC 1071, section 2, B).
        let part = if self.odd { part.swap_bytes() } else { part };
        Sum { sum: add16(self.sum, part), odd: self.odd ^ (!bytes.len().is_multiple_of(2)) }
    }

    /// The sum with one 16-bit word added, as if on an even boundary.
    #[inline]
    #[must_use]
    pub const fn add_u16(self, word: u16) -> Sum {
        Sum { sum: add16(self.sum, word), odd: self.odd }
    }

    /// The sum itself, not complemented.
    #[inline]
    pub const fn value(self) -> u16 {
        self.sum
    }

    /// The checksum: the complement of the sum. Over data that holds its own correct checksum it is 0.
    #[inline]
    pub const fn finish(self) -> u16 {
        !self.sum
    }
}

/// Sums the 16-bit words of `bytes`. Four octets at a time in host order, which the compiler turns
/// into vector additions; the order of octets does not matter until the end (RFC 1071, section 2, B).
#[inline]
fn sum_words(bytes: &[u8]) -> u16 {
    let (words, tail) = bytes.as_chunks::<4>();
    let mut sum = 0u64;
    for word in words {
        sum = sum.wrapping_add(u64::from(u32::from_ne_bytes(*word)));
    }
    let last = match *tail {
        [a] => [a, 0, 0, 0],
        [a, b] => [a, b, 0, 0],
        [a, b, c] => [a, b, c, 0],
        _ => [0; 4],
    };
    sum = sum.wrapping_add(u64::from(u32::from_ne_bytes(last)));
    u16::from_be(fold(sum))
}

/// Adds the 16-bit parts of `sum` with end-around carry.
#[inline]
pub(crate) const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

#[inline]
const fn add16(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum.wrapping_add(carry as u16)
}

/// The sum over the pseudo header of UDP and TCP over IPv4 (RFC 768); `len` is that of the upper
/// layer's header and payload.
#[inline]
pub fn pseudo_header_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: u16) -> Sum {
    Sum::new().add_bytes(&src.octets()).add_bytes(&dst.octets()).add_u16(u16::from(protocol)).add_u16(len)
}

/// The sum over the pseudo header of upper layers over IPv6 (RFC 8200, section 8.1); `len` is that
/// of the upper layer's header and payload.
#[inline]
pub fn pseudo_header_v6(src: Ipv6Addr, dst: Ipv6Addr, next_header: u8, len: u32) -> Sum {
    Sum::new()
        .add_bytes(&src.octets())
        .add_bytes(&dst.octets())
        .add_bytes(&len.to_be_bytes())
        .add_u16(u16::from(next_header))
}

/// The checksum of a header in which one 16-bit word changed from `old` to `new`, from its former
/// checksum (RFC 1624, equation 3).
#[inline]
pub const fn update16(check: u16, old: u16, new: u16) -> u16 {
    !add16(add16(!check, !old), new)
}

/// The checksum that belongs into the UDP header of `datagram` (header and payload), whatever its
/// checksum field holds now. Never 0, which says "no checksum" (RFC 768).
///
/// If the families differ, the IPv4 address is taken as IPv4-mapped.
pub fn udp_checksum(src: IpAddr, dst: IpAddr, datagram: &[u8]) -> u16 {
    let (ports_and_length, rest) = datagram.split_at_checked(6).unwrap_or((datagram, &[]));
    let payload = rest.get(2..).unwrap_or(&[]);
    let sum = pseudo_header(src, dst, datagram.len()).add_bytes(ports_and_length).add_bytes(payload);
    match sum.finish() {
        0 => 0xffff,
        check => check,
    }
}

/// Whether the checksum in the UDP header of `datagram` (header and payload) is right. A zero
/// checksum, "none", is not right; ask for it first.
pub fn verify_udp(src: IpAddr, dst: IpAddr, datagram: &[u8]) -> bool {
    pseudo_header(src, dst, datagram.len()).add_bytes(datagram).finish() == 0
}

fn pseudo_header(src: IpAddr, dst: IpAddr, len: usize) -> Sum {
    let mapped = |addr| match addr {
        IpAddr::V4(a) => Ipv4Addr::to_ipv6_mapped(&a),
        IpAddr::V6(a) => a,
    };
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => pseudo_header_v4(src, dst, protocol::UDP, len as u16),
        _ => pseudo_header_v6(mapped(src), mapped(dst), protocol::UDP, len as u32),
    }
}
