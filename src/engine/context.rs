//! What a worker changes while it reads the tables: counters, events, and a log of addresses to learn.

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;

use super::event::{Event, EventRing};
use super::stats::{Counters, ScopeCounters};
use super::storage::{ContextParts, Storage};
use crate::addr::{MacAddr, PortId, Vni, VtepId};
use crate::error::{CapacityError, DropReason};
use crate::table::Store;
use crate::table::fdb::{EntryKind, FdbEntry, Learned, Sighting};
use crate::table::vni::VniIndex;
use crate::time::Instant;

/// How many addresses a context notes before they must be merged into the tables; also the size
/// in which [`Engine`](super::Engine) takes its batches.
pub const BATCH: usize = 32;

/// Where a source address was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Port(PortId),
    Vtep(VtepId),
    /// Behind an underlay address that is no VTEP yet, on a VNI that accepts any.
    Source {
        addr: IpAddr,
        mac: MacAddr,
    },
}

/// An address to learn, or to refresh. Without a MAC it is the source alone that is to be learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) vni: Vni,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) seen: Seen,
    /// The tables' [`epoch`](super::Tables) when it was seen.
    pub(crate) epoch: u32,
}

/// The part of an engine that each worker has for itself.
///
/// Several workers may read one [`Tables`](super::Tables), each with a context; the one writer
/// takes what they learned with [`Engine::merge`](super::Engine::merge).
pub struct Context<S: Storage> {
    pub(crate) totals: Counters,
    vni: S::VniCounterStore,
    vtep: S::VtepCounterStore,
    port: S::PortCounterStore,
    events: EventRing<S::EventStore>,
    notes: [Option<Note>; BATCH],
    noted: usize,
    ip_id: u16,
    /// The tables' [`epoch`](super::Tables) when its counters were last told apart, or before anything was counted.
    since: Option<u32>,
}

impl<S: Storage> Context<S> {
    /// A context with all counters at zero.
    ///
    /// # Errors
    /// [`CapacityError::Empty`] where a part of the memory has no entries.
    pub fn new(mut parts: ContextParts<S>) -> Result<Self, CapacityError> {
        for (table, counters) in [
            ("VNI counters", parts.vni_counters.as_mut_slice()),
            ("VTEP counters", parts.vtep_counters.as_mut_slice()),
            ("port counters", parts.port_counters.as_mut_slice()),
        ] {
            if counters.is_empty() {
                return Err(CapacityError::Empty { table });
            }
            counters.fill(ScopeCounters::default());
        }
        Ok(Context {
            totals: Counters::default(),
            vni: parts.vni_counters,
            vtep: parts.vtep_counters,
            port: parts.port_counters,
            events: EventRing::new(parts.events),
            notes: [None; BATCH],
            noted: 0,
            ip_id: 0,
            since: None,
        })
    }

    /// Notes the tables' epoch before anything is counted for what is in them.
    #[inline]
    pub(crate) fn begin(&mut self, epoch: u32) {
        self.since.get_or_insert(epoch);
    }

    /// The tables' epoch when counting began; it begins anew.
    pub(crate) fn begin_anew(&mut self, epoch: u32) -> u32 {
        self.since.replace(epoch).unwrap_or(epoch)
    }

    /// What went through this context.
    pub fn counters(&self) -> &Counters {
        &self.totals
    }

    /// The oldest event that was not read yet.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop()
    }

    pub(crate) fn vni(&self, vni: VniIndex) -> Option<&ScopeCounters> {
        self.vni.as_slice().get(vni.0 as usize)
    }

    pub(crate) fn vtep(&self, vtep: VtepId) -> Option<&ScopeCounters> {
        self.vtep.as_slice().get(usize::from(vtep.0))
    }

    pub(crate) fn port(&self, port: PortId) -> Option<&ScopeCounters> {
        self.port.as_slice().get(usize::from(port.0))
    }

    #[inline]
    pub(crate) fn vni_mut(&mut self, vni: VniIndex) -> Option<&mut ScopeCounters> {
        self.vni.as_mut_slice().get_mut(vni.0 as usize)
    }

    #[inline]
    pub(crate) fn vtep_mut(&mut self, vtep: VtepId) -> Option<&mut ScopeCounters> {
        self.vtep.as_mut_slice().get_mut(usize::from(vtep.0))
    }

    /// Sets the counters of a VTEP to zero.
    pub(crate) fn forget_vtep(&mut self, vtep: VtepId) {
        if let Some(counters) = self.vtep_mut(vtep) {
            *counters = ScopeCounters::default();
        }
    }

    #[inline]
    pub(crate) fn port_mut(&mut self, port: PortId) -> Option<&mut ScopeCounters> {
        self.port.as_mut_slice().get_mut(usize::from(port.0))
    }

    pub(crate) fn event(&mut self, event: Event) {
        if !self.events.push(event) {
            self.totals.events_lost = self.totals.events_lost.wrapping_add(1);
        }
    }

    /// Counts and tells that an address was not seen for the ageing time and is forgotten.
    pub(crate) fn aged(&mut self, entry: &FdbEntry) {
        self.totals.aged = self.totals.aged.wrapping_add(1);
        self.event(Event::Aged { vni: entry.vni, mac: entry.mac, at: entry.destination });
    }

    /// Counts and tells that an address had to make room.
    pub(crate) fn evicted(&mut self, entry: &FdbEntry) {
        self.totals.evicted = self.totals.evicted.wrapping_add(1);
        self.event(Event::Evicted { vni: entry.vni, mac: entry.mac, at: entry.destination });
    }

    /// Counts and tells of an entry whose place was taken: it had aged and was not swept yet, or it
    /// was evicted.
    pub(crate) fn gone(&mut self, now: Instant, entry: &FdbEntry, ageing: Duration) {
        let aged = entry.kind != EntryKind::Static && now.saturating_since(entry.last_seen) >= ageing;
        if aged { self.aged(entry) } else { self.evicted(entry) }
    }

    /// Counts and tells what the FDB has learned of a sighting.
    #[inline(never)]
    pub(crate) fn taught(&mut self, now: Instant, seen: &Sighting, learned: Learned, ageing: Duration) {
        let Sighting { vni, mac, from: at } = *seen;
        match learned {
            Learned::New { evicted } => {
                self.totals.learned = self.totals.learned.wrapping_add(1);
                if let Some(e) = evicted {
                    self.gone(now, &e, ageing);
                }
                self.event(Event::Learned { vni, mac, at });
            }
            Learned::Moved { from } => {
                self.totals.moved = self.totals.moved.wrapping_add(1);
                self.event(Event::Moved { vni, mac, from, to: at });
            }
            Learned::QuotaHit => {
                self.totals.not_learned = self.totals.not_learned.wrapping_add(1);
                self.event(Event::QuotaHit { vni, mac, at });
            }
            Learned::Full => {
                self.totals.not_learned = self.totals.not_learned.wrapping_add(1);
                self.event(Event::FdbFull { vni, mac });
            }
            Learned::Refreshed | Learned::Pinned | Learned::NotUnicast => {}
        }
    }

    /// Notes an address for the next merge; where the log is full the next frame will bring it again.
    #[inline]
    pub(crate) fn note(&mut self, note: Note) {
        if let Some(slot) = self.notes.get_mut(self.noted) {
            *slot = Some(note);
            self.noted += 1;
        }
    }

    /// How many more can be noted.
    #[cfg(feature = "linux")]
    pub(crate) fn room(&self) -> usize {
        BATCH.saturating_sub(self.noted)
    }

    /// Moves the notes to a longer log, where that has room for them.
    #[cfg(feature = "linux")]
    pub(crate) fn hand_over(&mut self, log: &mut alloc::vec::Vec<Note>) {
        if log.capacity().saturating_sub(log.len()) >= self.noted {
            let (notes, noted) = self.take_notes();
            log.extend(notes.into_iter().take(noted).flatten());
        }
    }

    /// Notes again what was noted before, in place of what is noted now.
    #[cfg(feature = "linux")]
    pub(crate) fn take_back(&mut self, notes: impl Iterator<Item = Note>) {
        self.noted = 0;
        for (slot, note) in self.notes.iter_mut().zip(notes) {
            *slot = Some(note);
            self.noted += 1;
        }
    }

    /// The identification of the next outer IPv4 header, which stays the next one.
    #[inline(always)]
    pub(crate) fn ip_id(&self) -> u16 {
        self.ip_id
    }

    /// The identification of the next outer IPv4 header.
    #[inline]
    pub(crate) fn next_ip_id(&mut self) -> u16 {
        let id = self.ip_id;
        self.ip_id = id.wrapping_add(1);
        id
    }

    /// Takes the notes out, oldest first.
    #[inline]
    pub(crate) fn take_notes(&mut self) -> ([Option<Note>; BATCH], usize) {
        let noted = core::mem::take(&mut self.noted);
        (self.notes, noted)
    }

    #[inline]
    pub(crate) fn has_notes(&self) -> bool {
        self.noted > 0
    }

    /// Counts an inner frame of a VNI from a VTEP.
    #[inline(always)]
    pub(crate) fn landed(&mut self, vni: VniIndex, vtep: Option<VtepId>, len: usize) {
        if let Some(c) = self.vni_mut(vni) {
            c.traffic.rx(len);
        }
        if let Some(c) = vtep.and_then(|v| self.vtep_mut(v)) {
            c.traffic.rx(len);
        }
    }

    /// Counts a frame for a local port.
    #[inline]
    pub(crate) fn delivered(&mut self, port: PortId, len: usize) {
        self.totals.to_port = self.totals.to_port.wrapping_add(1);
        if let Some(c) = self.port_mut(port) {
            c.traffic.tx(len);
        }
    }

    /// Counts drops in every scope that is known.
    #[inline(never)]
    pub(crate) fn dropped(
        &mut self,
        reason: DropReason,
        vni: Option<VniIndex>,
        vtep: Option<VtepId>,
        port: Option<PortId>,
    ) {
        self.totals.drops.count(reason, 1);
        if let Some(c) = vni.and_then(|v| self.vni_mut(v)) {
            c.drops.count(reason, 1);
        }
        if let Some(c) = vtep.and_then(|v| self.vtep_mut(v)) {
            c.drops.count(reason, 1);
        }
        if let Some(c) = port.and_then(|p| self.port_mut(p)) {
            c.drops.count(reason, 1);
        }
    }

    /// Adds another context's counters to this one's and sets those to zero.
    pub(crate) fn absorb(&mut self, other: &mut Context<S>) {
        self.totals.add(&core::mem::take(&mut other.totals));
        for (mine, theirs) in [
            (self.vni.as_mut_slice(), other.vni.as_mut_slice()),
            (self.vtep.as_mut_slice(), other.vtep.as_mut_slice()),
            (self.port.as_mut_slice(), other.port.as_mut_slice()),
        ] {
            for (a, b) in mine.iter_mut().zip(theirs) {
                a.add(&core::mem::take(b));
            }
        }
        while let Some(event) = other.events.pop() {
            self.event(event);
        }
    }
}

impl<S: Storage> fmt::Debug for Context<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("counters", &self.totals).finish_non_exhaustive()
    }
}
