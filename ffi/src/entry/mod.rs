//! The functions of the ABI. What each asks of its caller: see the [crate](crate#safety).
// Exported names and pointer arguments are unsafe to declare; the blocks that use them are in `raw`.
#![allow(unsafe_code)]
#![allow(clippy::missing_safety_doc)]

mod control;
mod data;
mod lifecycle;
mod read;

pub use control::*;
pub use data::*;
pub use lifecycle::*;
pub use read::*;
