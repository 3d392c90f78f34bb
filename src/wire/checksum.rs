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

/// Sums the 16-bit words of `bytes`, in host order and in wide words, as neither matters until the
/// end (RFC 1071, section 2, B and 2, C). Blocks of 64 octets go into two chains of additions with
/// carry that do not wait for each other; what overflows is counted apart.
#[inline]
fn sum_words(bytes: &[u8]) -> u16 {
    let (blocks, rest) = bytes.as_chunks::<64>();
    let mut chains = [(0u64, 0u64); 2];
    for block in blocks {
        let (halves, _) = block.as_chunks::<32>();
        for (chain, half) in chains.iter_mut().zip(halves) {
            *chain = add_chain(*chain, half);
        }
    }
    let [first, mut second] = chains;
    let (halves, rest) = rest.as_chunks::<32>();
    if let Some(half) = halves.first() {
        second = add_chain(second, half);
    }
    let wide = |(sum, carries): (u64, u64)| u128::from(carries) << 64 | u128::from(sum);
    let (words, tail) = rest.as_chunks::<8>();
    let mut sum = wide(first).wrapping_add(wide(second)).wrapping_add(u128::from(last_word(tail)));
    for word in words {
        sum = sum.wrapping_add(u128::from(u64::from_ne_bytes(*word)));
    }
    let (sum, carry) = (sum as u64).overflowing_add((sum >> 64) as u64);
    u16::from_be(fold(sum.wrapping_add(u64::from(carry))))
}

/// Four words onto a sum and the number of its overflows.
#[inline]
fn add_chain((mut sum, carries): (u64, u64), words: &[u8; 32]) -> (u64, u64) {
    let (words, _) = words.as_chunks::<8>();
    let mut carry = false;
    for word in words {
        (sum, carry) = sum.carrying_add(u64::from_ne_bytes(*word), carry);
    }
    (sum, carries.wrapping_add(u64::from(carry)))
}

/// Up to seven octets with zeros behind them, in host order.
#[inline]
fn last_word(tail: &[u8]) -> u64 {
    let (four, tail) = tail.as_chunks::<4>();
    let (two, one) = tail.as_chunks::<2>();
    let four = four.first().map_or(0, |w| u64::from(u32::from_ne_bytes(*w)));
    // The order of the words is free.
    let two = two.first().map_or(0, |w| u64::from(u16::from_ne_bytes(*w)));
    let one = one.first().map_or(0, |octet| u64::from(u16::from_ne_bytes([*octet, 0])));
    four.wrapping_add(two).wrapping_add(one)
}

/// Adds the 16-bit parts of `sum` with end-around carry.
#[inline]
pub(crate) const fn fold(sum: u64) -> u16 {
    // The upper half of the sum of both halves, once as they are and once changed over, has the
    // carry of the lower.
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
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
