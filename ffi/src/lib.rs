//! The C ABI of overlane: an [`Engine`](overlane::engine::Engine) on the heap behind an opaque handle.
//!
//! The header is `include/overlane.h`, `README.md` says how to link, who owns what, and when the
//! ABI changes. Rust programs use the crate `overlane` itself; this one is a library for Rust
//! only so that its tests and fuzz targets can call it.
//!
//! - [`types`]: numbers and structures; [`status`]: status codes; [`version`]: the ABI's version.
//! - [`entry`]: the functions, each a few lines over the engine's own call.
//! - `raw`: every pointer becomes a type here, and a panic an error: the only file with `unsafe` blocks.
//! - `convert`, `batch`, `failure`: safe code between the two.
//!
//! # Safety
//!
//! Every function of [`entry`] asks the same of its caller: a pointer is NULL or points to as much
//! memory as its type and the length beside it say, until the call returns; an engine pointer came
//! from `overlane_engine_new` and was not freed; nobody else touches the packets' memory
//! meanwhile. NULL, bad alignment, lengths and numbers that make no sense, and a second call on an
//! engine that is in one are checked and refused.
#![deny(unsafe_code)]
#![warn(unreachable_pub)]

mod batch;
mod convert;
pub mod entry;
mod failure;
mod raw;
pub mod status;
pub mod types;
pub mod version;

pub use raw::{Field, overlane_engine};

/// Name, size, alignment and fields of every structure of the ABI, for the test that guards it.
#[doc(hidden)]
pub fn layouts() -> &'static [(&'static str, usize, usize, &'static [Field])] {
    raw::LAYOUTS
}

#[cfg(test)]
mod tests;
