//! The keyed hash of the tables.
//!
//! MAC addresses, VNIs and VTEP addresses come from strangers. The hash is keyed with a secret
//! [`Seed`], so that nobody outside can choose keys that meet in one place; the bound on probes in
//! every table holds even if somebody could.

use core::fmt;

/// The secret key of a table's hash: 128 bits that the host draws at random, once per engine.
///
/// A fixed seed makes a run repeatable, and lets a sender who knows it fill chosen places of a
/// table; use one in tests only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed([u64; 2]);

impl Seed {
    /// A seed from 16 random octets.
    pub const fn new(bytes: [u8; 16]) -> Seed {
        let v = u128::from_le_bytes(bytes);
        // Offset, so that not even sixteen zeros multiply everything by zero.
        Seed::of(v as u64 ^ 0x243f_6a88_85a3_08d3, (v >> 64) as u64 ^ 0x1319_8a2e_0370_7344)
    }

    /// A seed for tests and simulations, the same for the same `n`.
    pub const fn fixed(n: u64) -> Seed {
        Seed::of(n ^ 0x243f_6a88_85a3_08d3, n.rotate_left(32) ^ 0x1319_8a2e_0370_7344)
    }

    /// The second word is odd: a multiplication by it loses nothing.
    const fn of(first: u64, second: u64) -> Seed {
        Seed([first, second | 1])
    }

    /// The hash of 128 bits of key.
    ///
    /// A folded 64x64->128 multiplication with both operands secret (the construction of wyhash and
    /// foldhash), so that every input bit reaches every output bit. That is enough for tags; but under one
    /// seed in twelve, keys in arithmetic progression, as addresses are assigned, crowd together in places
    /// chosen by it. A second, plain multiplication ends that.
    #[inline]
    pub(crate) const fn hash(&self, a: u64, b: u64) -> Hash {
        let tag = fold(a ^ self.0[0], b ^ self.0[1]);
        Hash { tag, place: tag.wrapping_mul(self.0[1]) }
    }
}

/// A hash of 64 bits, in two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hash {
    /// What tells keys apart that have met in one place: any bits of it.
    pub(crate) tag: u64,
    /// What places keys: its bits are better the higher they are.
    pub(crate) place: u64,
}

impl Hash {
    /// Of what is not there.
    pub(crate) const NONE: Hash = Hash { tag: 0, place: 0 };
}

/// `place` scaled to `0..places`, no power of two needed: its high bits decide.
#[inline]
pub(crate) const fn scale(place: u64, places: usize) -> usize {
    ((place as u128).wrapping_mul(places as u128) >> 64) as usize
}

#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let m = (a as u128).wrapping_mul(b as u128);
    (m as u64) ^ ((m >> 64) as u64)
}

impl fmt::Debug for Seed {
    /// Prints no bit of the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}
