//! The two address families as left-aligned bit strings.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

/// Bits of an address consumed by one node.
pub(super) const STRIDE: u32 = 6;

/// An address family that a route table can hold: [`Ipv4Addr`] or [`Ipv6Addr`]. Sealed.
pub trait LpmKey: Copy + Eq + Ord + fmt::Debug + sealed::Key {
    /// The longest prefix length, in bits: 32 or 128.
    const MAX_LEN: u8;
}

impl LpmKey for Ipv4Addr {
    const MAX_LEN: u8 = 32;
}

impl LpmKey for Ipv6Addr {
    const MAX_LEN: u8 = 128;
}

pub(super) mod sealed {
    /// The bits of an address of one family.
    pub trait Key {
        /// An integer that holds the address in its most significant bits.
        type Bits: super::Bits;
        /// The most cells that one lookup can pass: a branch and a skip for every stride, and a leaf.
        const STEPS: u32;
        /// The table's name in errors.
        const NAME: &'static str;
        fn to_key(self) -> Self::Bits;
        fn from_key(bits: Self::Bits) -> Self;
    }
}

impl sealed::Key for Ipv4Addr {
    type Bits = u64;
    const STEPS: u32 = 2 * 32u32.div_ceil(STRIDE) + 1;
    const NAME: &'static str = "IPv4 route table";

    #[inline]
    fn to_key(self) -> u64 {
        (self.to_bits() as u64) << 32
    }

    #[inline]
    fn from_key(bits: u64) -> Ipv4Addr {
        Ipv4Addr::from_bits((bits >> 32) as u32)
    }
}

impl sealed::Key for Ipv6Addr {
    type Bits = u128;
    const STEPS: u32 = 2 * 128u32.div_ceil(STRIDE) + 1;
    const NAME: &'static str = "IPv6 route table";

    #[inline]
    fn to_key(self) -> u128 {
        self.to_bits()
    }

    #[inline]
    fn from_key(bits: u128) -> Ipv6Addr {
        Ipv6Addr::from_bits(bits)
    }
}

/// A bit string, most significant bit first.
pub trait Bits: Copy + Eq {
    const ZERO: Self;
    /// The six bits from `depth` on, zero-filled.
    fn chunk(self, depth: u32) -> u32;
    /// The first `n` (1 to 24) bits.
    fn top(self, n: u32) -> u32;
    /// The address of which `v` is the first `n` (1 to 24) bits, zero-filled.
    fn from_top(v: u32, n: u32) -> Self;
    /// How many leading bits both have in common.
    fn common(self, other: Self) -> u32;
    /// The first `len` bits; the others are cleared.
    fn prefix(self, len: u32) -> Self;
    /// The first `depth` bits, followed by the six of `chunk`.
    fn with_chunk(self, depth: u32, chunk: u32) -> Self;
    /// As two words of a cell.
    fn to_words(self) -> [u64; 2];
    fn from_words(words: [u64; 2]) -> Self;
}

macro_rules! bits {
    ($int:ty, $to:expr, $from:expr) => {
        impl Bits for $int {
            const ZERO: $int = 0;

            #[inline]
            fn chunk(self, depth: u32) -> u32 {
                (self.wrapping_shl(depth) >> (<$int>::BITS - STRIDE)) as u32
            }

            #[inline]
            fn top(self, n: u32) -> u32 {
                self.wrapping_shr(<$int>::BITS.wrapping_sub(n)) as u32
            }

            fn from_top(v: u32, n: u32) -> $int {
                (v as $int).wrapping_shl(<$int>::BITS.wrapping_sub(n))
            }

            #[inline]
            fn common(self, other: $int) -> u32 {
                (self ^ other).leading_zeros()
            }

            #[inline]
            fn prefix(self, len: u32) -> $int {
                self & !<$int>::MAX.checked_shr(len).unwrap_or(0)
            }

            #[inline]
            fn with_chunk(self, depth: u32, chunk: u32) -> $int {
                self.prefix(depth) | ((chunk as $int) << (<$int>::BITS - STRIDE)).wrapping_shr(depth)
            }

            #[inline]
            fn to_words(self) -> [u64; 2] {
                $to(self)
            }

            #[inline]
            fn from_words(words: [u64; 2]) -> $int {
                $from(words)
            }
        }
    };
}

bits!(u64, |v: u64| [v, 0], |w: [u64; 2]| w[0]);
bits!(u128, |v: u128| [(v >> 64) as u64, v as u64], |w: [u64; 2]| (w[0] as u128) << 64 | w[1] as u128);

/// The depth of the branch that holds a prefix of `len` bits (not zero): branches stand at
/// multiples of [`STRIDE`] and hold the lengths from one to six bits below them.
#[inline]
pub(super) const fn home(len: u32) -> u32 {
    len.wrapping_sub(1) / STRIDE * STRIDE
}
