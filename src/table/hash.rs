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
        Seed([v as u64 ^ 0x243f_6a88_85a3_08d3, (v >> 64) as u64 ^ 0x1319_8a2e_0370_7344])
    }

    /// A seed for tests and simulations, the same for the same `n`.
    pub const fn fixed(n: u64) -> Seed {
        Seed([n ^ 0x243f_6a88_85a3_08d3, n.rotate_left(32) ^ 0x1319_8a2e_0370_7344])
    }

    /// The hash of 128 bits of key.
    ///
    /// Two folded 64x64->128 multiplications (the construction of wyhash and foldhash), each with
    /// a secret operand: every input bit reaches every output bit.
    #[inline]
    pub(crate) const fn hash(&self, a: u64, b: u64) -> u64 {
        let h = fold(a ^ self.0[0], b ^ self.0[1]);
        fold(h ^ 0xa409_3822_299f_31d0, self.0[0] | 1)
    }
    /// The hash of 128 bits of key as the two halves of a product, lower first: of the lower half
    /// the high bits are the best, of the higher half all octets but the highest are as good.
    ///
    /// As [`hash`](Self::hash), but what the second multiplication spreads, by a public constant, is
    /// not folded.
    #[inline]
    pub(crate) const fn hash_wide(&self, a: u64, b: u64) -> (u64, u64) {
        let h = fold(a ^ self.0[0], b ^ self.0[1]);
        let m = (h as u128).wrapping_mul(self.0[0] as u128);
        (m as u64, (m >> 64) as u64)
    }
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
