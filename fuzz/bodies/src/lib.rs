//! What overlane's fuzz targets do with the bytes they are given.
//!
//! Each target is a function from bytes to nothing that panics where a promise is broken, not only
//! where the engine itself panics. cargo-fuzz drives them from `fuzz/fuzz_targets`; `cargo test`
//! drives them over the committed seeds and some thousand inputs made from those, with no nightly
//! compiler (`tests/seeds.rs`).
//!
//! | target | its bytes | what must hold |
//! |---|---|---|
//! | [`wire`] | a packet, or part of one | what is read lies inside the slice; what is written reads the same |
//! | [`decap`] | a datagram of any outer shape | dropped: untouched and not learned from; else: the inner frame, to a port of its VNI |
//! | [`engine_ops`] | an engine and operations on it | every memory agrees; counters add up; refused commands change nothing; no table refers to what is gone |
//! | [`fdb_ops`] | operations on an FDB | as a map, but for evictions that the rules allow |
//! | [`lpm_ops`] | operations on route tables | as a list |
//! | [`superframe`] | a virtio-net header and a frame | every segment lies inside, and its headers are right; arrived as one with others, no datagram becomes part of another |
//! | [`merge`] | segments of some flows, damaged | each frame is in one group; cut again, a group is what went in |
//! | [`ffi_calls`] | calls through the C ABI, sensible and not | two engines agree, packets in an arena or in buffers; no bug's status; a refused call changes nothing; no octet beyond what was lent is touched |
//! | [`ffi_twin`] | those of `engine_ops` | an engine in Rust and one behind the C ABI agree in all that they say and hold |
//!
//! The work for one input is bounded: [`MAX_OPERATIONS`] operations, a few frames in each.

mod check;
mod decap;
mod engine_ops;
mod fdb_ops;
mod ffi_calls;
mod lpm_ops;
mod memory;
mod offload;
mod packet;
mod wire;

use arbitrary::{Arbitrary, Unstructured};

pub use decap::decap;
pub use engine_ops::engine_ops;
pub use fdb_ops::fdb_ops;
pub use ffi_calls::{ffi_calls, ffi_twin};
pub use lpm_ops::lpm_ops;
pub use offload::{merge, superframe};
pub use wire::wire;

/// Operations behind this many in one input are ignored.
pub const MAX_OPERATIONS: usize = 256;

/// Operations until the bytes end. (A `Vec` spends an octet before each element on whether there is
/// another, so that most inputs would be short.)
#[derive(Debug)]
struct Operations<T>(Vec<T>);

impl<'a, T: Arbitrary<'a>> Arbitrary<'a> for Operations<T> {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let mut operations = Vec::new();
        while !u.is_empty() && operations.len() < MAX_OPERATIONS {
            operations.push(u.arbitrary()?);
        }
        Ok(Operations(operations))
    }
}

/// A fuzz target's function.
pub type Body = fn(&[u8]);

/// Every target by name: that of its file in `fuzz/fuzz_targets` and of its folder in `fuzz/seeds`.
pub const TARGETS: &[(&str, Body)] = &[
    ("wire", wire),
    ("decap", decap),
    ("engine_ops", engine_ops),
    ("fdb_ops", fdb_ops),
    ("lpm_ops", lpm_ops),
    ("ffi_calls", ffi_calls),
    ("ffi_twin", ffi_twin),
    ("superframe", superframe),
    ("merge", merge),
];
