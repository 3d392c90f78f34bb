//! The two address families as left-aligned bit strings.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

/// Bits of an address consumed by one node.
pub(super) const STRIDE: u32 = 6;

/// By how many bits an IPv4 address is turned right so that it ends with the chunk of a node at depth 0.
pub(super) const TURN: u8 = 26;

/// A depth that no node skips: those below check the bits from 64 on only.
pub(super) const CHECKPOINT: u32 = 60;

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
        /// The most nodes that one lookup can pass.
        const STEPS: u32;
        /// The depth of the deepest index.
        const MAX_DEPTH: u8;
        /// The table's name in errors.
        const NAME: &'static str;
        fn to_key(self) -> Self::Bits;
        fn from_key(bits: Self::Bits) -> Self;
    }
}

impl sealed::Key for Ipv4Addr {
    type Bits = u64;
    const STEPS: u32 = 32u32.div_ceil(STRIDE);
    const MAX_DEPTH: u8 = 30;
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
    const STEPS: u32 = 128u32.div_ceil(STRIDE);
    const MAX_DEPTH: u8 = CHECKPOINT as u8;
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
    /// The six bits from `depth` (a multiple of six) on, zero-filled.
    fn chunk(self, depth: u32) -> u32;
    /// As [`chunk`](Bits::chunk), but what is behind the end is whatever.
    fn step(self, depth: u32) -> u32;
    /// By how much the first `depth` bits are behind `base`. `turn` is [`TURN`] less `depth`.
    fn behind(self, depth: u32, turn: u8, base: u64) -> u64;
    /// As [`step`](Bits::step), with whatever above the six bits.
    fn within(self, depth: u32, turn: u8) -> u32;
    /// The first 64 bits, or those there are, left-aligned.
    fn high(self) -> u64;
    /// What a node at `depth` (a multiple of six) checks: the first `depth` bits, or above
    /// [`CHECKPOINT`] those from 64 on.
    fn before(self, depth: u32) -> u64;
    /// The address for which [`before`](Bits::before) is that; the first 64 bits where it does not
    /// tell.
    fn with_before(self, depth: u32, before: u64) -> Self;
    /// The first `depth` (at most 64) bits are these; nothing else.
    fn from_first(depth: u32, first: u64) -> Self;
    /// The first `len` bits; the others are cleared.
    fn prefix(self, len: u32) -> Self;
    /// The first `depth` bits, followed by the six of `chunk`.
    fn with_chunk(self, depth: u32, chunk: u32) -> Self;
}

macro_rules! bits {
    ($int:ty) => {
        const ZERO: $int = 0;

        #[inline]
        fn chunk(self, depth: u32) -> u32 {
            (self.wrapping_shl(depth) >> (<$int>::BITS - STRIDE)) as u32
        }

        fn from_first(depth: u32, first: u64) -> $int {
            (first as $int).wrapping_shl(<$int>::BITS.wrapping_sub(depth))
        }

        #[inline]
        fn prefix(self, len: u32) -> $int {
            self & !<$int>::MAX.checked_shr(len).unwrap_or(0)
        }

        #[inline]
        fn with_chunk(self, depth: u32, chunk: u32) -> $int {
            self.prefix(depth) | ((chunk as $int) << (<$int>::BITS - STRIDE)).wrapping_shr(depth)
        }
    };
}

impl Bits for u64 {
    bits!(u64);

    #[inline]
    fn step(self, depth: u32) -> u32 {
        self.chunk(depth)
    }

    #[inline(always)]
    fn behind(self, _: u32, turn: u8, base: u64) -> u64 {
        // One turn for both: what leaves the lower end is too high to count.
        let turned = (self >> 32).rotate_right(turn as u32);
        ((turned >> STRIDE) as u32).wrapping_sub(base as u32) as u64
    }

    #[inline(always)]
    fn within(self, _: u32, turn: u8) -> u32 {
        (self >> 32).rotate_right(turn as u32) as u32
    }

    #[inline]
    fn high(self) -> u64 {
        self
    }

    #[inline]
    fn before(self, depth: u32) -> u64 {
        (self >> 1).wrapping_shr(63u32.wrapping_sub(depth))
    }

    fn with_before(self, depth: u32, before: u64) -> u64 {
        Self::from_first(depth, before)
    }
}

impl Bits for u128 {
    bits!(u128);

    // Words in place of shifts of 128 bits, which are slow. A table has most of its nodes on one
    // side.
    #[inline]
    fn step(self, depth: u32) -> u32 {
        let (high, low) = ((self >> 64) as u64, self as u64);
        let word = if depth < CHECKPOINT {
            high
        } else if depth == CHECKPOINT {
            low & 3 << 62 | high & 15
        } else {
            low
        };
        word.rotate_left(depth.wrapping_add(STRIDE)) as u32 & 63
    }

    #[inline(always)]
    fn behind(self, depth: u32, _: u8, base: u64) -> u64 {
        self.high().wrapping_shr(64u32.wrapping_sub(depth)).wrapping_sub(base)
    }

    #[inline(always)]
    fn within(self, depth: u32, _: u8) -> u32 {
        self.step(depth)
    }

    #[inline]
    fn high(self) -> u64 {
        (self >> 64) as u64
    }

    #[inline]
    fn before(self, depth: u32) -> u64 {
        let word = if depth > CHECKPOINT { self as u64 } else { self.high() };
        (word >> 1).wrapping_shr(63u32.wrapping_sub(depth))
    }

    fn with_before(self, depth: u32, before: u64) -> u128 {
        if depth > CHECKPOINT {
            self.prefix(64) | (before as u128) << (128 - depth)
        } else {
            Self::from_first(depth, before)
        }
    }
}

/// The depth of the node that holds a prefix of `len` bits (not zero): nodes stand at multiples of
/// [`STRIDE`] and hold the lengths from one to six bits below them.
#[inline]
pub(super) const fn home(len: u32) -> u32 {
    len.wrapping_sub(1) / STRIDE * STRIDE
}
