//! The VTEPs: the tunnel ends on other nodes (RFC 7348, section 4).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::hash::Hash;
use super::index::{Index, IndexSlot};
use super::{Seed, Store, ids};
use crate::addr::{MacAddr, VtepId};
use crate::error::{CapacityError, VtepError};

const NAME: &str = "VTEP table";

/// How a VTEP came into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The host asked for it.
    Configured,
    /// A packet came from its address.
    Learned,
}

/// What is known of a VTEP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VtepConfig {
    /// The underlay address. An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) means, and is
    /// kept as, the IPv4 address in it.
    pub addr: IpAddr,
    /// The UDP port that it listens on; not 0.
    pub port: u16,
    /// The MAC address of the underlay's next hop, for an Ethernet outer shape; zero otherwise.
    pub underlay_mac: MacAddr,
    /// The router MAC address of that node: the inner destination in routed VNIs.
    pub inner_mac: Option<MacAddr>,
    /// The largest outer IP packet in octets, at least 128; 0 for no limit.
    pub mtu: u16,
    /// How many MAC addresses may be learned behind it; `u32::MAX` for no limit.
    pub learn_limit: u32,
}

impl VtepConfig {
    /// The smallest MTU, 0 apart.
    pub const MIN_MTU: u16 = 128;

    /// A VTEP at `addr`, UDP port `port`, with no MAC addresses and no limits.
    pub const fn new(addr: IpAddr, port: u16) -> VtepConfig {
        VtepConfig { addr, port, underlay_mac: MacAddr::ZERO, inner_mac: None, mtu: 0, learn_limit: u32::MAX }
    }

    /// The largest inner IP packet that fits [`mtu`](Self::mtu), behind an Ethernet header without tags: 50 octets less
    /// over IPv4, 70 over IPv6. `None` where there is no limit.
    pub fn inner_mtu(&self) -> Option<u16> {
        let around = if self.addr.to_canonical().is_ipv4() { 50 } else { 70 };
        (self.mtu != 0).then(|| self.mtu.saturating_sub(around))
    }

    /// The same with a canonical address, where everything else makes sense.
    fn checked(mut self) -> Result<VtepConfig, VtepError> {
        self.addr = self.addr.to_canonical();
        let broadcast = matches!(self.addr, IpAddr::V4(v4) if v4.is_broadcast());
        if broadcast || self.addr.is_unspecified() || self.addr.is_multicast() {
            return Err(VtepError::Address(self.addr));
        }
        if self.port == 0 {
            return Err(VtepError::Port);
        }
        if let Some(mac) = self.inner_mac.filter(|mac| !mac.is_unicast()) {
            return Err(VtepError::InnerMac(mac));
        }
        if self.mtu != 0 && self.mtu < Self::MIN_MTU {
            return Err(VtepError::Mtu(self.mtu));
        }
        Ok(self)
    }
}

/// A VTEP of a [`VtepTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vtep {
    /// What is known of it.
    pub config: VtepConfig,
    /// How it came here.
    pub origin: Origin,
    /// Which holder of the id this is: 1 for the first, and one more each time the id is given out
    /// anew (wrapping at 2^32). Tells a VTEP from an earlier one with the same id.
    pub epoch: u32,
    /// How many routes lead to it.
    pub routes: u32,
}

/// The memory of one record of a [`VtepTable`].
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub struct VtepSlot {
    vtep: Option<Vtep>,
    /// While somebody has the id, when that one came (see [`VtepTable::set_since`]); else the epoch of the last holder.
    mark: u32,
    word: u64,
}

const _: () = assert!(size_of::<VtepSlot>() == 64);

impl VtepSlot {
    /// A slot without a record.
    pub const EMPTY: VtepSlot = VtepSlot { vtep: None, mark: 0, word: 0 };
}

impl Default for VtepSlot {
    fn default() -> VtepSlot {
        VtepSlot::EMPTY
    }
}

impl ids::Carrier for VtepSlot {
    fn word(&self) -> u64 {
        self.word
    }

    fn word_mut(&mut self) -> &mut u64 {
        &mut self.word
    }
}

/// The table of VTEPs, over memory lent by two stores: the hash index and the records.
///
/// A lookup by address reads two cache lines, three where the index slot overflowed; one by id
/// reads one. Changes take bounded time too; [`iter`](Self::iter) takes O(capacity).
///
/// ```
/// use overlane::table::{IndexSlot, Origin, Seed, VtepConfig, VtepSlot, VtepTable};
/// let mut table = VtepTable::new([IndexSlot::EMPTY; 1], [VtepSlot::EMPTY; 8], Seed::fixed(1))?;
/// let id = table.insert(VtepConfig::new("192.0.2.7".parse()?, 4789), Origin::Configured)?;
/// assert_eq!(table.by_addr("192.0.2.7".parse()?), Some(id));
/// assert_eq!(table.by_addr("::ffff:192.0.2.7".parse()?), Some(id));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct VtepTable<I, R> {
    index: Index<I>,
    records: R,
    seed: Seed,
    len: u32,
}

/// The hash of a canonical address.
#[inline]
fn hash(seed: &Seed, addr: IpAddr) -> Hash {
    match addr {
        IpAddr::V4(v4) => hash_v4(seed, v4),
        IpAddr::V6(v6) => seed.hash((v6.to_bits() >> 64) as u64, v6.to_bits() as u64),
    }
}

#[inline]
fn hash_v4(seed: &Seed, addr: Ipv4Addr) -> Hash {
    // The constant keeps a weak seed (all zero) from sending every address to one place.
    seed.hash(u64::from(addr.to_bits()), 0xd1b5_4a32_d192_ed03)
}

fn hash_of(seed: &Seed, records: &[VtepSlot], id: u32) -> Hash {
    let vtep = records.get(id as usize).and_then(|slot| slot.vtep.as_ref());
    vtep.map_or(Hash::NONE, |vtep| hash(seed, vtep.config.addr))
}

impl<I: Store<IndexSlot>, R: Store<VtepSlot>> VtepTable<I, R> {
    /// The most records a table can have: as many as there are ids.
    pub const MAX_CAPACITY: usize = 1 << 16;

    /// An empty table; both stores are reset, and every epoch starts anew.
    ///
    /// The capacity is the number of `records`. Lend
    /// [`index_slots_for`](super::index_slots_for) that many index slots.
    pub fn new(index: I, mut records: R, seed: Seed) -> Result<VtepTable<I, R>, CapacityError> {
        let entries = records.as_slice().len();
        if entries == 0 {
            return Err(CapacityError::Empty { table: NAME });
        }
        if entries > Self::MAX_CAPACITY {
            return Err(CapacityError::TooLarge { table: NAME, entries, max: Self::MAX_CAPACITY });
        }
        let index = Index::new(index, "VTEP index")?;
        records.as_mut_slice().fill(VtepSlot::EMPTY);
        ids::reset(records.as_mut_slice());
        Ok(VtepTable { index, records, seed, len: 0 })
    }

    /// Adds a VTEP under the lowest free id.
    ///
    /// Refused as `Address` (unspecified, multicast or broadcast), `Port` (0), `Mtu` (1 to 127),
    /// `Exists` (the address is taken) or `Full`.
    pub fn insert(&mut self, config: VtepConfig, origin: Origin) -> Result<VtepId, VtepError> {
        let config = config.checked()?;
        if self.by_addr(config.addr).is_some() {
            return Err(VtepError::Exists(config.addr));
        }
        let VtepTable { index, records, seed, len } = self;
        let records = records.as_mut_slice();
        let id = ids::lowest(records).ok_or(VtepError::Full(config.addr))?;
        if !index.insert(hash(seed, config.addr), id, |id| hash_of(seed, records, id)) {
            return Err(VtepError::Full(config.addr));
        }
        ids::take(records, id);
        if let Some(slot) = records.get_mut(id as usize) {
            slot.vtep = Some(Vtep { config, origin, epoch: slot.mark.wrapping_add(1), routes: 0 });
        }
        *len += 1;
        Ok(VtepId(id as u16))
    }

    /// Removes a VTEP and gives it back.
    ///
    /// What other tables keep by the id is the caller's to clear. Refused as `Unknown`, or as
    /// `InUse` while routes lead to it.
    pub fn remove(&mut self, id: VtepId) -> Result<Vtep, VtepError> {
        let vtep = *self.get(id).ok_or(VtepError::Unknown(id))?;
        if vtep.routes > 0 {
            return Err(VtepError::InUse { vtep: id, routes: vtep.routes });
        }
        self.index.remove(hash(&self.seed, vtep.config.addr), u32::from(id.0));
        let records = self.records.as_mut_slice();
        if let Some(slot) = records.get_mut(usize::from(id.0)) {
            (slot.vtep, slot.mark) = (None, vtep.epoch);
        }
        ids::give(records, u32::from(id.0));
        self.len = self.len.saturating_sub(1);
        Ok(vtep)
    }

    /// Replaces what is known of a VTEP, its address included, and gives back what was.
    ///
    /// Id, origin, epoch and routes stay. Refused as [`insert`](Self::insert), or as `Unknown`.
    pub fn set(&mut self, id: VtepId, config: VtepConfig) -> Result<VtepConfig, VtepError> {
        let old = self.get(id).ok_or(VtepError::Unknown(id))?.config;
        let config = config.checked()?;
        if config.addr != old.addr {
            if self.by_addr(config.addr).is_some() {
                return Err(VtepError::Exists(config.addr));
            }
            let VtepTable { index, records, seed, .. } = self;
            let (records, key) = (records.as_slice(), u32::from(id.0));
            index.remove(hash(seed, old.addr), key);
            if !index.insert(hash(seed, config.addr), key, |id| hash_of(seed, records, id)) {
                // A refused insert moved nothing, so the place left above is free still.
                let back = index.insert(hash(seed, old.addr), key, |id| hash_of(seed, records, id));
                debug_assert!(back);
                return Err(VtepError::Full(config.addr));
            }
        }
        let vtep = self.get_mut(id).ok_or(VtepError::Unknown(id))?;
        vtep.config = config;
        Ok(old)
    }

    /// Writes down when the VTEP came, on a clock of the caller's.
    pub(crate) fn set_since(&mut self, id: VtepId, since: u32) {
        let slot = self.records.as_mut_slice().get_mut(usize::from(id.0));
        if let Some(slot) = slot.filter(|slot| slot.vtep.is_some()) {
            slot.mark = since;
        }
    }

    /// When the VTEP came.
    pub(crate) fn since(&self, id: VtepId) -> Option<u32> {
        let slot = self.records.as_slice().get(usize::from(id.0))?;
        slot.vtep.map(|_| slot.mark)
    }

    /// Changes how the table says the VTEP came here: the host adopts a learned one, or lets go.
    pub fn set_origin(&mut self, id: VtepId, origin: Origin) -> Result<(), VtepError> {
        self.get_mut(id).ok_or(VtepError::Unknown(id))?.origin = origin;
        Ok(())
    }

    /// Counts one more route that leads to the VTEP.
    pub fn add_route(&mut self, id: VtepId) -> Result<(), VtepError> {
        let vtep = self.get_mut(id).ok_or(VtepError::Unknown(id))?;
        vtep.routes = vtep.routes.saturating_add(1);
        Ok(())
    }

    /// Counts one route fewer; a count of zero stays.
    pub fn remove_route(&mut self, id: VtepId) -> Result<(), VtepError> {
        let vtep = self.get_mut(id).ok_or(VtepError::Unknown(id))?;
        vtep.routes = vtep.routes.saturating_sub(1);
        Ok(())
    }

    /// The VTEP at an underlay address; an IPv4-mapped IPv6 address means the IPv4 address in it.
    #[inline]
    pub fn by_addr(&self, addr: IpAddr) -> Option<VtepId> {
        match addr.to_canonical() {
            IpAddr::V4(v4) => self.by_v4(v4),
            IpAddr::V6(v6) => self.by_v6(v6),
        }
    }

    /// The VTEP at an IPv4 underlay address.
    #[inline]
    pub(crate) fn by_v4(&self, addr: Ipv4Addr) -> Option<VtepId> {
        self.find(hash_v4(&self.seed, addr), |known| matches!(known, IpAddr::V4(v4) if *v4 == addr))
    }

    #[inline]
    fn by_v6(&self, addr: Ipv6Addr) -> Option<VtepId> {
        self.find(hash(&self.seed, addr.into()), |known| matches!(known, IpAddr::V6(v6) if *v6 == addr))
    }

    /// The VTEP at the address for which `is` holds. One family at a time: an address costs what its own takes.
    #[inline(always)]
    fn find(&self, hash: Hash, is: impl Fn(&IpAddr) -> bool) -> Option<VtepId> {
        let records = self.records.as_slice();
        let is = |id: u32| match records.get(id as usize) {
            Some(VtepSlot { vtep: Some(vtep), .. }) => is(&vtep.config.addr),
            _ => false,
        };
        self.index.find(hash, is).map(|id| VtepId(id as u16))
    }

    /// The VTEP that has this id.
    #[inline]
    pub fn get(&self, id: VtepId) -> Option<&Vtep> {
        self.records.as_slice().get(usize::from(id.0))?.vtep.as_ref()
    }

    fn get_mut(&mut self, id: VtepId) -> Option<&mut Vtep> {
        self.records.as_mut_slice().get_mut(usize::from(id.0))?.vtep.as_mut()
    }

    /// Every VTEP, by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = (VtepId, &Vtep)> + Clone {
        let slots = self.records.as_slice().iter().enumerate();
        slots.filter_map(|(id, slot)| Some((VtepId(id as u16), slot.vtep.as_ref()?)))
    }

    /// How many VTEPs there are.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many VTEPs there can be; every [`VtepId`] is below it.
    pub fn capacity(&self) -> usize {
        self.records.as_slice().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> VtepTable<[IndexSlot; 1], [VtepSlot; 2]> {
        VtepTable::new([IndexSlot::EMPTY; 1], [VtepSlot::EMPTY; 2], Seed::fixed(0)).unwrap()
    }

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_around_an_inner_packet_depends_on_the_family() {
        let inner = |text, mtu| VtepConfig { mtu, ..VtepConfig::new(addr(text), 4789) }.inner_mtu();
        assert_eq!(inner("192.0.2.1", 1500), Some(1450));
        assert_eq!(inner("::ffff:192.0.2.1", 1500), Some(1450));
        assert_eq!(inner("2001:db8::1", 1500), Some(1430));
        assert_eq!(inner("192.0.2.1", 0), None);
    }

    #[test]
    fn memory_is_needed_and_no_more_than_there_are_ids() {
        let empty = VtepTable::new([IndexSlot::EMPTY; 1], [VtepSlot::EMPTY; 0], Seed::fixed(0));
        assert_eq!(empty.unwrap_err(), CapacityError::Empty { table: "VTEP table" });
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn more_records_than_ids_are_refused() {
        let records = alloc::vec![VtepSlot::EMPTY; 65_537];
        let refused = VtepTable::new([IndexSlot::EMPTY; 1], records, Seed::fixed(0));
        let too_large = CapacityError::TooLarge { table: "VTEP table", entries: 65_537, max: 65_536 };
        assert_eq!(refused.unwrap_err(), too_large);
    }

    #[test]
    fn nonsense_is_refused_by_insert_and_set() {
        let good = VtepConfig::new(addr("192.0.2.1"), 4789);
        let mut table = table();
        let id = table.insert(good, Origin::Configured).unwrap();
        for (config, refusal) in [
            (VtepConfig::new(addr("0.0.0.0"), 4789), VtepError::Address(addr("0.0.0.0"))),
            (VtepConfig::new(addr("::"), 4789), VtepError::Address(addr("::"))),
            // RFC 5771 and RFC 4291, section 2.7.
            (VtepConfig::new(addr("239.1.1.1"), 4789), VtepError::Address(addr("239.1.1.1"))),
            (VtepConfig::new(addr("ff05::1"), 4789), VtepError::Address(addr("ff05::1"))),
            // RFC 919, section 7.
            (VtepConfig::new(addr("255.255.255.255"), 4789), VtepError::Address(addr("255.255.255.255"))),
            // The mapped address is named as the IPv4 address that it means.
            (VtepConfig::new(addr("::ffff:239.1.1.1"), 4789), VtepError::Address(addr("239.1.1.1"))),
            (VtepConfig { port: 0, ..good }, VtepError::Port),
            (VtepConfig { mtu: 1, ..good }, VtepError::Mtu(1)),
            (VtepConfig { mtu: 127, ..good }, VtepError::Mtu(127)),
        ] {
            assert_eq!(table.insert(config, Origin::Learned), Err(refusal));
            assert_eq!(table.set(id, config), Err(refusal));
        }
        assert_eq!(table.get(id).map(|v| v.config), Some(good));
        for mtu in [0, 128, u16::MAX] {
            assert!(table.set(id, VtepConfig { mtu, ..good }).is_ok());
        }
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let mut table = table();
        let id = table.insert(VtepConfig::new(addr("::ffff:192.0.2.1"), 4789), Origin::Learned).unwrap();
        assert_eq!(table.get(id).map(|v| v.config.addr), Some(addr("192.0.2.1")));
        assert_eq!(table.by_addr(addr("192.0.2.1")), Some(id));
        assert_eq!(table.by_addr(addr("::ffff:192.0.2.1")), Some(id));
        // The old IPv4-compatible form (RFC 4291, section 2.5.5.1) is another address.
        assert_eq!(table.by_addr(addr("::192.0.2.1")), None);
        let again = table.insert(VtepConfig::new(addr("192.0.2.1"), 8472), Origin::Configured);
        assert_eq!(again, Err(VtepError::Exists(addr("192.0.2.1"))));
    }

    #[test]
    fn a_new_address_is_found_and_the_old_one_is_not() {
        let mut table = table();
        let old = VtepConfig::new(addr("192.0.2.1"), 4789);
        let new = VtepConfig::new(addr("2001:db8::1"), 4789);
        let id = table.insert(old, Origin::Configured).unwrap();
        table.add_route(id).unwrap();
        assert_eq!(table.set(id, new), Ok(old));
        assert_eq!((table.by_addr(old.addr), table.by_addr(new.addr)), (None, Some(id)));
        let vtep = Vtep { config: new, origin: Origin::Configured, epoch: 1, routes: 1 };
        assert_eq!(table.get(id), Some(&vtep));
    }

    #[test]
    fn routes_hold_a_vtep_and_a_new_holder_has_a_new_epoch() {
        let mut table = table();
        let config = VtepConfig::new(addr("192.0.2.1"), 4789);
        let id = table.insert(config, Origin::Configured).unwrap();
        table.add_route(id).unwrap();
        assert_eq!(table.remove(id), Err(VtepError::InUse { vtep: id, routes: 1 }));
        table.remove_route(id).unwrap();
        assert_eq!(table.remove(id).map(|v| v.epoch), Ok(1));
        assert_eq!(table.remove(id), Err(VtepError::Unknown(id)));
        assert_eq!(table.insert(config, Origin::Configured), Ok(id));
        assert_eq!(table.get(id).map(|v| v.epoch), Some(2));
    }
}
