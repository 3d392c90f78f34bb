//! What the engine noticed, for the host to read when it likes.

use core::fmt;
use core::net::IpAddr;

use crate::addr::{Destination, MacAddr, Vni, VtepId};
use crate::table::Store;

/// Something the engine noticed. Events wait in a ring of fixed size; what does not fit is counted
/// in [`Counters::events_lost`](super::Counters::events_lost).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A new MAC address was learned.
    Learned {
        /// Its VNI.
        vni: Vni,
        /// The address.
        mac: MacAddr,
        /// Where it lives.
        at: Destination,
    },
    /// A learned MAC address now lives elsewhere.
    Moved {
        /// Its VNI.
        vni: Vni,
        /// The address.
        mac: MacAddr,
        /// Where it lived.
        from: Destination,
        /// Where it lives.
        to: Destination,
    },
    /// A MAC address was not seen for the ageing time and forgotten.
    Aged {
        /// Its VNI.
        vni: Vni,
        /// The address.
        mac: MacAddr,
        /// Where it lived.
        at: Destination,
    },
    /// A MAC address was forgotten to make room for another.
    Evicted {
        /// Its VNI.
        vni: Vni,
        /// The address.
        mac: MacAddr,
        /// Where it lived.
        at: Destination,
    },
    /// An address was not learned: its port or VTEP has as many as it may have.
    QuotaHit {
        /// The VNI of the address.
        vni: Vni,
        /// The address.
        mac: MacAddr,
        /// The port or VTEP at its limit.
        at: Destination,
    },
    /// An address was not learned: every place it may take is held by an entry that may not be evicted.
    FdbFull {
        /// The VNI of the address.
        vni: Vni,
        /// The address.
        mac: MacAddr,
    },
    /// A frame to an unknown MAC address, on a VNI that asks for this (Linux `l2miss`).
    UnknownMac {
        /// The VNI.
        vni: Vni,
        /// The address that was not found.
        mac: MacAddr,
    },
    /// A packet without a route, on a VNI that asks for this (Linux `l3miss`).
    NoRoute {
        /// The VNI.
        vni: Vni,
        /// The address that was not found.
        addr: IpAddr,
    },
    /// A VTEP that nobody configured was accepted (VNIs with [`Accept::AnySource`](crate::table::vni::Accept)).
    VtepLearned {
        /// Its id here.
        vtep: VtepId,
        /// Its underlay address.
        addr: IpAddr,
    },
    /// A VTEP that would have been accepted found the table full; its MACs are not learned.
    VtepTableFull {
        /// Its underlay address.
        addr: IpAddr,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Learned { vni, mac, at } => write!(f, "learned {mac} in VNI {vni} at {at}"),
            Event::Moved { vni, mac, from, to } => write!(f, "moved {mac} in VNI {vni} from {from} to {to}"),
            Event::Aged { vni, mac, at } => write!(f, "aged out {mac} in VNI {vni} at {at}"),
            Event::Evicted { vni, mac, at } => write!(f, "evicted {mac} in VNI {vni} at {at}"),
            Event::QuotaHit { vni, mac, at } => {
                write!(f, "not learned {mac} in VNI {vni}: {at} is at its limit")
            }
            Event::FdbFull { vni, mac } => write!(f, "not learned {mac} in VNI {vni}: the FDB is full"),
            Event::UnknownMac { vni, mac } => write!(f, "unknown MAC {mac} in VNI {vni}"),
            Event::NoRoute { vni, addr } => write!(f, "no route to {addr} in VNI {vni}"),
            Event::VtepLearned { vtep, addr } => write!(f, "learned {vtep} at {addr}"),
            Event::VtepTableFull { addr } => write!(f, "VTEP {addr} not learned: the table is full"),
        }
    }
}

/// A ring of events over lent memory.
#[derive(Debug)]
pub(crate) struct EventRing<E> {
    store: E,
    head: usize,
    len: usize,
}

impl<E: Store<Option<Event>>> EventRing<E> {
    pub(crate) fn new(mut store: E) -> Self {
        store.as_mut_slice().fill(None);
        EventRing { store, head: 0, len: 0 }
    }

    /// Adds an event; false where the ring is full.
    pub(crate) fn push(&mut self, event: Event) -> bool {
        let slots = self.store.as_mut_slice();
        if self.len >= slots.len() {
            return false;
        }
        let mut at = self.head.wrapping_add(self.len);
        if at >= slots.len() {
            at -= slots.len();
        }
        if let Some(slot) = slots.get_mut(at) {
            *slot = Some(event);
            self.len += 1;
        }
        true
    }

    /// The oldest event.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        if self.len == 0 {
            return None;
        }
        let slots = self.store.as_mut_slice();
        let event = slots.get_mut(self.head)?.take();
        self.head = if self.head + 1 >= slots.len() { 0 } else { self.head + 1 };
        self.len -= 1;
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_order_and_refuses_when_full() {
        let mut ring = EventRing::new([None; 3]);
        let event = |n| Event::UnknownMac { vni: Vni::truncate(n), mac: MacAddr::ZERO };
        for round in 0..5 {
            assert!((0..3).all(|i| ring.push(event(round + i))));
            assert!(!ring.push(event(99)));
            assert!((0..3).all(|i| ring.pop() == Some(event(round + i))));
            assert_eq!(ring.pop(), None);
            assert!(ring.push(event(7)) && ring.pop() == Some(event(7)));
        }
        let mut none = EventRing::new([None; 0]);
        assert!(!none.push(event(1)) && none.pop().is_none());
    }
}
