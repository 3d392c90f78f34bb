//! State that knows no packets.
//!
//! Every table is written once, over memory that a [`Store`] lends: an array inside the table, a
//! slice that the host lends, or a box. No table allocates after it is made.

pub mod hash;
pub mod store;

pub use hash::Seed;
pub use store::Store;
