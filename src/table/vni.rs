//! The VNIs that this node takes part in, and the settings of each.
//!
//! Any of the 2^24 identifiers of RFC 7348, section 5, in any number up to the table's capacity.
//! Each gets a small dense [`VniIndex`], by which other tables keep what belongs to it.

use super::hash::Hash;
use super::index::{Index, IndexSlot};
use super::{Seed, Store, ids};
use crate::addr::{MacAddr, Vni};
use crate::error::{CapacityError, VniError};

const NAME: &str = "VNI table";

/// How frames of a VNI find their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// By destination MAC address: the FDB, flooding and learning (RFC 7348, section 4).
    #[default]
    Bridged,
    /// By destination IP address: the longest matching route, inner MAC addresses rewritten.
    Routed {
        /// This node's own MAC address in the VNI, a unicast one: the gateway of its pods and the
        /// inner source of what it sends.
        router_mac: MacAddr,
    },
}

/// Whose packets a VNI takes from the underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Accept {
    /// Those from addresses in the VTEP table.
    #[default]
    KnownVteps,
    /// Those from anywhere: an unknown source from which a MAC address is learned becomes a learned VTEP (RFC 7348,
    /// section 4.1).
    AnySource,
}

/// The settings of one VNI. The default is a bridged VNI that learns and floods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VniConfig {
    /// Bridged or routed.
    pub mode: Mode,
    /// Whose packets are taken.
    pub accept: Accept,
    /// Whether source MAC addresses are learned (Linux: `learning`).
    pub learning: bool,
    /// Whether a frame for an unknown unicast MAC address is flooded; otherwise it is dropped.
    pub flood_unknown: bool,
    /// Whether the host is told of a MAC or IP address that no entry leads to (Linux: `l2miss`, `l3miss`).
    pub notify_miss: bool,
    /// The group id written on what local ports send
    /// (draft-smith-vxlan-group-policy-05, section 2.1); none leaves the extension out.
    pub group_policy: Option<u16>,
}

impl VniConfig {
    /// A bridged VNI: known VTEPs only, learning, flooding, no notices of misses, no group.
    pub const BRIDGED: VniConfig = VniConfig {
        mode: Mode::Bridged,
        accept: Accept::KnownVteps,
        learning: true,
        flood_unknown: true,
        notify_miss: false,
        group_policy: None,
    };

    /// A routed VNI with this router MAC address, otherwise as [`BRIDGED`](Self::BRIDGED).
    pub const fn routed(router_mac: MacAddr) -> VniConfig {
        VniConfig { mode: Mode::Routed { router_mac }, ..VniConfig::BRIDGED }
    }

    fn check(&self) -> Result<(), VniError> {
        match self.mode {
            Mode::Routed { router_mac } if !router_mac.is_unicast() => Err(VniError::RouterMac(router_mac)),
            _ => Ok(()),
        }
    }
}

impl Default for VniConfig {
    fn default() -> VniConfig {
        VniConfig::BRIDGED
    }
}

/// The dense id of a VNI in one table: below the table's capacity, the lowest that was free.
///
/// It is given out again after the VNI was removed: what is kept by it must be cleared first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct VniIndex(pub u32);

/// A VNI and its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VniEntry {
    /// The identifier on the wire.
    pub vni: Vni,
    /// Its settings.
    pub config: VniConfig,
}

/// The memory of one record of a [`VniTable`].
// Aligned so that no record straddles two cache lines.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
pub struct VniSlot {
    entry: Option<VniEntry>,
    word: u64,
}

const _: () = assert!(size_of::<VniSlot>() == 32);

impl VniSlot {
    /// A slot without a record.
    pub const EMPTY: VniSlot = VniSlot { entry: None, word: 0 };
}

impl Default for VniSlot {
    fn default() -> VniSlot {
        VniSlot::EMPTY
    }
}

impl ids::Carrier for VniSlot {
    fn word(&self) -> u64 {
        self.word
    }

    fn word_mut(&mut self) -> &mut u64 {
        &mut self.word
    }
}

/// The table of VNIs, over memory lent by two stores: the hash index and the records.
///
/// A lookup reads two cache lines, three where the index slot overflowed. Changes take bounded
/// time too; [`iter`](Self::iter) takes O(capacity).
///
/// ```
/// use overlane::addr::Vni;
/// use overlane::table::{IndexSlot, Seed, VniConfig, VniSlot, VniTable};
/// let mut table = VniTable::new([IndexSlot::EMPTY; 1], [VniSlot::EMPTY; 8], Seed::fixed(1))?;
/// let red = table.insert(Vni::new(42)?, VniConfig::BRIDGED)?;
/// assert_eq!(table.index_of(Vni::new(42)?), Some(red));
/// assert_eq!(table.index_of(Vni::new(43)?), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct VniTable<I, R> {
    index: Index<I>,
    records: R,
    seed: Seed,
    len: u32,
}

#[inline]
fn hash(seed: &Seed, vni: Vni) -> Hash {
    // The constant keeps a weak seed (all zero) from sending every VNI to one place.
    seed.hash(u64::from(vni.get()), 0x9e37_79b9_7f4a_7c15)
}

impl<I: Store<IndexSlot>, R: Store<VniSlot>> VniTable<I, R> {
    /// The most records a table can have: as many as there are identifiers.
    pub const MAX_CAPACITY: usize = 1 << 24;

    /// An empty table; both stores are reset.
    ///
    /// The capacity is the number of `records`. Lend
    /// [`index_slots_for`](super::index_slots_for) that many index slots.
    pub fn new(index: I, mut records: R, seed: Seed) -> Result<VniTable<I, R>, CapacityError> {
        let entries = records.as_slice().len();
        if entries == 0 {
            return Err(CapacityError::Empty { table: NAME });
        }
        if entries > Self::MAX_CAPACITY {
            return Err(CapacityError::TooLarge { table: NAME, entries, max: Self::MAX_CAPACITY });
        }
        let index = Index::new(index, "VNI index")?;
        records.as_mut_slice().fill(VniSlot::EMPTY);
        ids::reset(records.as_mut_slice());
        Ok(VniTable { index, records, seed, len: 0 })
    }

    /// Adds a VNI under the lowest free index.
    ///
    /// Refused as `RouterMac` (not unicast), `Exists` or `Full`.
    pub fn insert(&mut self, vni: Vni, config: VniConfig) -> Result<VniIndex, VniError> {
        config.check()?;
        if self.index_of(vni).is_some() {
            return Err(VniError::Exists(vni));
        }
        let VniTable { index, records, seed, len } = self;
        let records = records.as_mut_slice();
        let id = ids::lowest(records).ok_or(VniError::Full(vni))?;
        let hash_of = |id: u32| {
            let entry = records.get(id as usize).and_then(|slot| slot.entry);
            entry.map_or(Hash::NONE, |entry| hash(seed, entry.vni))
        };
        if !index.insert(hash(seed, vni), id, hash_of) {
            return Err(VniError::Full(vni));
        }
        ids::take(records, id);
        if let Some(slot) = records.get_mut(id as usize) {
            slot.entry = Some(VniEntry { vni, config });
        }
        *len += 1;
        Ok(VniIndex(id))
    }

    /// Replaces the settings of a VNI and gives back the old ones.
    ///
    /// Refused as `RouterMac` (not unicast) or `Unknown`.
    pub fn set(&mut self, vni: Vni, config: VniConfig) -> Result<VniConfig, VniError> {
        config.check()?;
        let index = self.index_of(vni).ok_or(VniError::Unknown(vni))?;
        let slot = self.records.as_mut_slice().get_mut(index.0 as usize);
        let entry = slot.and_then(|slot| slot.entry.as_mut()).ok_or(VniError::Unknown(vni))?;
        Ok(core::mem::replace(&mut entry.config, config))
    }

    /// Removes a VNI and gives back the index that is free now.
    ///
    /// What other tables keep by the index is the caller's to clear. Refused as `Unknown`.
    pub fn remove(&mut self, vni: Vni) -> Result<VniIndex, VniError> {
        let id = self.index_of(vni).ok_or(VniError::Unknown(vni))?;
        self.index.remove(hash(&self.seed, vni), id.0);
        let records = self.records.as_mut_slice();
        if let Some(slot) = records.get_mut(id.0 as usize) {
            slot.entry = None;
        }
        ids::give(records, id.0);
        self.len = self.len.saturating_sub(1);
        Ok(id)
    }

    /// The index of a VNI, or none where this node does not take part in it.
    #[inline]
    pub fn index_of(&self, vni: Vni) -> Option<VniIndex> {
        let records = self.records.as_slice();
        let is = |id: u32| match records.get(id as usize) {
            Some(VniSlot { entry: Some(entry), .. }) => entry.vni == vni,
            _ => false,
        };
        self.index.find(hash(&self.seed, vni), is).map(VniIndex)
    }

    /// The VNI that has this index.
    #[inline]
    pub fn get(&self, index: VniIndex) -> Option<&VniEntry> {
        self.records.as_slice().get(index.0 as usize)?.entry.as_ref()
    }

    /// Every VNI, by ascending index.
    pub fn iter(&self) -> impl Iterator<Item = (VniIndex, &VniEntry)> + Clone {
        let slots = self.records.as_slice().iter().enumerate();
        slots.filter_map(|(id, slot)| Some((VniIndex(id as u32), slot.entry.as_ref()?)))
    }

    /// How many VNIs there are.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many VNIs there can be; every [`VniIndex`] is below it.
    pub fn capacity(&self) -> usize {
        self.records.as_slice().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: Seed = Seed::fixed(0);

    fn table() -> VniTable<[IndexSlot; 1], [VniSlot; 2]> {
        VniTable::new([IndexSlot::EMPTY; 1], [VniSlot::EMPTY; 2], SEED).unwrap()
    }

    #[test]
    fn memory_is_needed_and_reset() {
        let no_records = VniTable::new([IndexSlot::EMPTY; 1], [VniSlot::EMPTY; 0], SEED);
        assert_eq!(no_records.unwrap_err(), CapacityError::Empty { table: "VNI table" });
        let no_index = VniTable::new([IndexSlot::EMPTY; 0], [VniSlot::EMPTY; 1], SEED);
        assert_eq!(no_index.unwrap_err(), CapacityError::Empty { table: "VNI index" });

        let (mut index, mut records) = ([IndexSlot::EMPTY; 1], [VniSlot::EMPTY; 2]);
        let mut used = VniTable::new(&mut index[..], &mut records[..], SEED).unwrap();
        used.insert(Vni::MAX, VniConfig::BRIDGED).unwrap();
        let fresh = VniTable::new(&mut index[..], &mut records[..], SEED).unwrap();
        assert!(fresh.is_empty() && fresh.index_of(Vni::MAX).is_none() && fresh.iter().next().is_none());
    }

    #[test]
    fn the_default_is_a_bridge_that_learns_and_floods() {
        let config = VniConfig::default();
        assert_eq!((config.mode, config.accept), (Mode::Bridged, Accept::KnownVteps));
        assert!(config.learning && config.flood_unknown && !config.notify_miss);
        assert_eq!(config.group_policy, None);
    }

    #[test]
    fn a_router_mac_is_unicast() {
        let mut table = table();
        table.insert(Vni::MAX, VniConfig::BRIDGED).unwrap();
        for mac in [MacAddr::ZERO, MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 0, 0, 1])] {
            let refused = VniConfig::routed(mac);
            assert_eq!(table.insert(Vni::default(), refused), Err(VniError::RouterMac(mac)));
            assert_eq!(table.set(Vni::MAX, refused), Err(VniError::RouterMac(mac)));
        }
        let routed = VniConfig::routed(MacAddr([2, 0, 0, 0, 0, 1]));
        assert_eq!(table.set(Vni::MAX, routed), Ok(VniConfig::BRIDGED));
        assert_eq!(table.get(VniIndex(0)), Some(&VniEntry { vni: Vni::MAX, config: routed }));
    }

    #[test]
    fn both_ends_of_the_range_are_identifiers() {
        let mut table = table();
        assert_eq!(table.insert(Vni::default(), VniConfig::BRIDGED), Ok(VniIndex(0)));
        assert_eq!(table.insert(Vni::MAX, VniConfig::BRIDGED), Ok(VniIndex(1)));
        assert_eq!(table.index_of(Vni::default()), Some(VniIndex(0)));
        assert_eq!(table.index_of(Vni::MAX), Some(VniIndex(1)));
        assert_eq!(table.get(VniIndex(2)), None);
    }
}
