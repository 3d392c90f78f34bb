//! The local ports: where pods, virtual machines and TAP devices are attached.

use super::{Store, VniIndex, ids};
use crate::addr::{MacAddr, PortId, Vni};
use crate::error::{CapacityError, PortError};

const NAME: &str = "port table";

/// The settings of a local port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortConfig {
    /// The VNI that the port is in.
    pub vni: Vni,
    /// The MAC address of who is attached, a unicast one; what a routed VNI writes as destination.
    pub peer_mac: Option<MacAddr>,
    /// Whether source MAC addresses are learned on the port.
    pub learning: bool,
    /// How many MAC addresses may be learned behind it; `u32::MAX` for no limit.
    pub learn_limit: u32,
}

impl PortConfig {
    /// A port in `vni` that learns without limit, with no peer MAC address.
    pub const fn new(vni: Vni) -> PortConfig {
        PortConfig { vni, peer_mac: None, learning: true, learn_limit: u32::MAX }
    }
}

/// A port of a [`PortTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Port {
    /// Its settings.
    pub config: PortConfig,
    /// The index of its VNI.
    pub vni_index: VniIndex,
    /// How many routes lead to it.
    pub routes: u32,
}

/// The memory of one record of a [`PortTable`].
// Aligned so that no record straddles two cache lines.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
pub struct PortSlot {
    port: Option<Port>,
    word: u64,
}

const _: () = assert!(size_of::<PortSlot>() == 32);

impl PortSlot {
    /// A slot without a record.
    pub const EMPTY: PortSlot = PortSlot { port: None, word: 0 };
}

impl Default for PortSlot {
    fn default() -> PortSlot {
        PortSlot::EMPTY
    }
}

impl ids::Carrier for PortSlot {
    fn word(&self) -> u64 {
        self.word
    }

    fn word_mut(&mut self) -> &mut u64 {
        &mut self.word
    }
}

/// The table of local ports, over the memory of one store.
///
/// A lookup reads one cache line. Changes take bounded time; [`iter`](Self::iter) and
/// [`of_vni`](Self::of_vni) take O(capacity).
///
/// ```
/// use overlane::addr::{PortId, Vni};
/// use overlane::table::{PortConfig, PortSlot, PortTable, VniIndex};
/// let mut table = PortTable::new([PortSlot::EMPTY; 4])?;
/// let id = table.insert(PortConfig::new(Vni::new(42)?), VniIndex(0))?;
/// assert_eq!(id, PortId(0));
/// assert_eq!(table.get(id).map(|port| port.vni_index), Some(VniIndex(0)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct PortTable<R> {
    records: R,
    len: u32,
}

impl<R: Store<PortSlot>> PortTable<R> {
    /// The most records a table can have: as many as there are ids.
    pub const MAX_CAPACITY: usize = 1 << 16;

    /// An empty table; the store is reset. The capacity is the number of `records`.
    pub fn new(mut records: R) -> Result<PortTable<R>, CapacityError> {
        let entries = records.as_slice().len();
        if entries == 0 {
            return Err(CapacityError::Empty { table: NAME });
        }
        if entries > Self::MAX_CAPACITY {
            return Err(CapacityError::TooLarge { table: NAME, entries, max: Self::MAX_CAPACITY });
        }
        records.as_mut_slice().fill(PortSlot::EMPTY);
        ids::reset(records.as_mut_slice());
        Ok(PortTable { records, len: 0 })
    }

    /// Adds a port under the lowest free id; `vni_index` is the index of `config.vni`.
    ///
    /// Refused as `PeerMac` (not unicast) or `Full`.
    pub fn insert(&mut self, config: PortConfig, vni_index: VniIndex) -> Result<PortId, PortError> {
        if let Some(mac) = config.peer_mac.filter(|mac| !mac.is_unicast()) {
            return Err(PortError::PeerMac(mac));
        }
        let records = self.records.as_mut_slice();
        let id = ids::lowest(records).ok_or(PortError::Full)?;
        ids::take(records, id);
        if let Some(slot) = records.get_mut(id as usize) {
            slot.port = Some(Port { config, vni_index, routes: 0 });
        }
        self.len += 1;
        Ok(PortId(id as u16))
    }

    /// Changes a port's settings, all but its VNI, and gives the old ones.
    ///
    /// Refused as `Unknown`, `PeerMac` (not unicast) or `OtherVni`.
    pub fn set(&mut self, id: PortId, config: PortConfig) -> Result<PortConfig, PortError> {
        if let Some(mac) = config.peer_mac.filter(|mac| !mac.is_unicast()) {
            return Err(PortError::PeerMac(mac));
        }
        let slot = self.records.as_mut_slice().get_mut(usize::from(id.0));
        let port = slot.and_then(|slot| slot.port.as_mut()).ok_or(PortError::Unknown(id))?;
        if port.config.vni != config.vni {
            return Err(PortError::OtherVni { port: id, vni: port.config.vni });
        }
        Ok(core::mem::replace(&mut port.config, config))
    }

    /// Removes a port and gives it back.
    ///
    /// What other tables keep by the id is the caller's to clear. Refused as `Unknown`, or as
    /// `InUse` while routes lead to it.
    pub fn remove(&mut self, id: PortId) -> Result<Port, PortError> {
        let port = *self.get(id).ok_or(PortError::Unknown(id))?;
        if port.routes > 0 {
            return Err(PortError::InUse { port: id, routes: port.routes });
        }
        let records = self.records.as_mut_slice();
        if let Some(slot) = records.get_mut(usize::from(id.0)) {
            slot.port = None;
        }
        ids::give(records, u32::from(id.0));
        self.len = self.len.saturating_sub(1);
        Ok(port)
    }

    /// Counts one more route that leads to the port.
    pub fn add_route(&mut self, id: PortId) -> Result<(), PortError> {
        let port = self.get_mut(id).ok_or(PortError::Unknown(id))?;
        port.routes = port.routes.saturating_add(1);
        Ok(())
    }

    /// Counts one route fewer; a count of zero stays.
    pub fn remove_route(&mut self, id: PortId) -> Result<(), PortError> {
        let port = self.get_mut(id).ok_or(PortError::Unknown(id))?;
        port.routes = port.routes.saturating_sub(1);
        Ok(())
    }

    /// The port that has this id.
    #[inline]
    pub fn get(&self, id: PortId) -> Option<&Port> {
        self.records.as_slice().get(usize::from(id.0))?.port.as_ref()
    }

    fn get_mut(&mut self, id: PortId) -> Option<&mut Port> {
        self.records.as_mut_slice().get_mut(usize::from(id.0))?.port.as_mut()
    }

    /// Every port, by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = (PortId, &Port)> + Clone {
        let slots = self.records.as_slice().iter().enumerate();
        slots.filter_map(|(id, slot)| Some((PortId(id as u16), slot.port.as_ref()?)))
    }

    /// The ports of one VNI, by ascending id.
    pub fn of_vni(&self, vni_index: VniIndex) -> impl Iterator<Item = (PortId, &Port)> + Clone {
        self.iter().filter(move |(_, port)| port.vni_index == vni_index)
    }

    /// How many ports there are.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many ports there can be; every [`PortId`] is below it.
    pub fn capacity(&self) -> usize {
        self.records.as_slice().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_needed() {
        let empty = PortTable::new([PortSlot::EMPTY; 0]);
        assert_eq!(empty.unwrap_err(), CapacityError::Empty { table: "port table" });
    }

    #[test]
    fn a_peer_mac_is_unicast() {
        let mut table = PortTable::new([PortSlot::EMPTY; 1]).unwrap();
        for mac in [MacAddr::ZERO, MacAddr::BROADCAST, MacAddr([0x33, 0x33, 0, 0, 0, 1])] {
            let config = PortConfig { peer_mac: Some(mac), ..PortConfig::new(Vni::MAX) };
            assert_eq!(table.insert(config, VniIndex(0)), Err(PortError::PeerMac(mac)));
        }
        assert!(table.is_empty());
    }

    #[test]
    fn routes_hold_a_port() {
        let mut table = PortTable::new([PortSlot::EMPTY; 1]).unwrap();
        let id = table.insert(PortConfig::new(Vni::MAX), VniIndex(7)).unwrap();
        assert_eq!(table.insert(PortConfig::new(Vni::MAX), VniIndex(7)), Err(PortError::Full));
        table.add_route(id).unwrap();
        assert_eq!(table.remove(id), Err(PortError::InUse { port: id, routes: 1 }));
        table.remove_route(id).unwrap();
        assert_eq!(table.remove(id).map(|port| port.vni_index), Ok(VniIndex(7)));
        assert_eq!(table.add_route(id), Err(PortError::Unknown(id)));
    }
}
