//! The version of the ABI. `build.rs` reads this file too.

/// The ABI that this header describes; the number in the shared library's SONAME. It rises when a
/// program built against the old one would no longer work. Compare with `overlane_abi_version()`.
pub const OVERLANE_ABI_VERSION: u32 = 1;
