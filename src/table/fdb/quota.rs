//! Accounts of what each port and each VTEP has in the table.

use crate::addr::Destination;
use crate::table::Store;

/// The account of one port or one VTEP: how many entries that age lead to it, and how many it may
/// learn. 8 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    held: u32,
    limit: u32,
}

impl Quota {
    /// An account with nothing in it and no limit.
    pub const UNLIMITED: Quota = Quota { held: 0, limit: u32::MAX };
}

impl Default for Quota {
    fn default() -> Quota {
        Quota::UNLIMITED
    }
}

/// All accounts; an id beyond the memory lent has none.
#[derive(Debug, Clone)]
pub(super) struct Accounts<P, V> {
    ports: P,
    vteps: V,
}

impl<P: Store<Quota>, V: Store<Quota>> Accounts<P, V> {
    pub(super) fn new(mut ports: P, mut vteps: V) -> Self {
        ports.as_mut_slice().fill(Quota::UNLIMITED);
        vteps.as_mut_slice().fill(Quota::UNLIMITED);
        Accounts { ports, vteps }
    }

    #[inline]
    fn get(&self, destination: Destination) -> Option<&Quota> {
        match destination {
            Destination::Port(p) => self.ports.as_slice().get(p.0 as usize),
            Destination::Vtep(v) => self.vteps.as_slice().get(v.0 as usize),
        }
    }

    #[inline]
    fn get_mut(&mut self, destination: Destination) -> Option<&mut Quota> {
        match destination {
            Destination::Port(p) => self.ports.as_mut_slice().get_mut(p.0 as usize),
            Destination::Vtep(v) => self.vteps.as_mut_slice().get_mut(v.0 as usize),
        }
    }

    pub(super) fn exists(&self, destination: Destination) -> bool {
        self.get(destination).is_some()
    }

    pub(super) fn held(&self, destination: Destination) -> u32 {
        self.get(destination).map_or(0, |q| q.held)
    }

    /// Sets a limit; false where there is no such account.
    pub(super) fn set_limit(&mut self, destination: Destination, limit: u32) -> bool {
        self.get_mut(destination).map(|q| q.limit = limit).is_some()
    }

    /// Whether `destination` may learn one more.
    #[inline]
    pub(super) fn has_room(&self, destination: Destination) -> bool {
        self.get(destination).is_some_and(|q| q.held < q.limit)
    }

    /// Counts one more that `destination` learns, if it may.
    #[inline]
    pub(super) fn admit(&mut self, destination: Destination) -> bool {
        match self.get_mut(destination) {
            Some(q) if q.held < q.limit => {
                q.held += 1;
                true
            }
            _ => false,
        }
    }

    #[inline]
    pub(super) fn add(&mut self, destination: Destination) {
        if let Some(q) = self.get_mut(destination) {
            q.held = q.held.saturating_add(1);
        }
    }

    #[inline]
    pub(super) fn sub(&mut self, destination: Destination) {
        if let Some(q) = self.get_mut(destination) {
            q.held = q.held.saturating_sub(1);
        }
    }

    /// Closes every account to zero; limits stay.
    pub(super) fn clear(&mut self) {
        let (ports, vteps) = (self.ports.as_mut_slice(), self.vteps.as_mut_slice());
        ports.iter_mut().chain(vteps).for_each(|q| q.held = 0);
    }
}
