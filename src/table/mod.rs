//! State that knows no packets.
//!
//! Every table is written once, over memory that a [`Store`] lends: an array inside the table, a
//! slice that the host lends, or a box. No table allocates after it is made.

pub mod fdb;
pub mod flood;
pub mod hash;
mod ids;
pub mod index;
pub mod lpm;
pub mod port;
pub mod store;
mod tags;
pub mod vni;
pub mod vtep;

pub use fdb::{EntryKind, Fdb, FdbEntry, Learned, Probe, Quota, SlotGroup, TagGroup};
pub use flood::{FloodHead, FloodNode, FloodPorts, FloodTable, FloodVteps, flood_nodes_for};
pub use hash::Seed;
pub use index::{IndexSlot, index_slots_for};
pub use lpm::{Lpm, LpmError, LpmKey, LpmNode, LpmRoot};
pub use port::{Port, PortConfig, PortSlot, PortTable};
pub use store::Store;
pub use vni::{Accept, Mode, VniConfig, VniEntry, VniIndex, VniSlot, VniTable};
pub use vtep::{Origin, Vtep, VtepConfig, VtepSlot, VtepTable};
