//! Counters.

use crate::error::{DropReason, PuntReason};

/// One counter for each [`DropReason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drops([u64; DropReason::COUNT]);

impl Drops {
    /// How many were dropped for `reason`.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0.get(reason.index()).copied().unwrap_or(0)
    }

    /// All of them, wrapping.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |a, n| a.wrapping_add(*n))
    }

    /// The reasons that were seen, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().zip(self.0).filter(|(_, n)| *n > 0).map(|(r, n)| (*r, n))
    }

    #[inline]
    pub(crate) fn count(&mut self, reason: DropReason, n: u64) {
        if let Some(c) = self.0.get_mut(reason.index()) {
            *c = c.wrapping_add(n);
        }
    }

    fn add(&mut self, other: &Drops) {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a = a.wrapping_add(b);
        }
    }
}

impl Default for Drops {
    fn default() -> Drops {
        Drops([0; DropReason::COUNT])
    }
}

/// Frames and octets in both directions. Octets are of the inner frame, without outer headers. A
/// superframe counts as one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Frames that came from the underlay (for a port: that came from the port).
    pub rx_frames: u64,
    /// Their octets.
    pub rx_octets: u64,
    /// Frames that went to the underlay (for a port: that went to the port; for a VNI: those that were flooded
    /// too, whoever is on the list).
    pub tx_frames: u64,
    /// Their octets.
    pub tx_octets: u64,
}

/// Some frames and their octets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Load {
    pub(crate) frames: u64,
    pub(crate) octets: u64,
}

impl Load {
    #[inline]
    pub(crate) fn add(&mut self, octets: usize) {
        self.frames = self.frames.wrapping_add(1);
        self.octets = self.octets.wrapping_add(octets as u64);
    }
}

impl Traffic {
    #[inline]
    pub(crate) fn rx_all(&mut self, load: Load) {
        self.rx_frames = self.rx_frames.wrapping_add(load.frames);
        self.rx_octets = self.rx_octets.wrapping_add(load.octets);
    }

    #[inline]
    pub(crate) fn tx_all(&mut self, load: Load) {
        self.tx_frames = self.tx_frames.wrapping_add(load.frames);
        self.tx_octets = self.tx_octets.wrapping_add(load.octets);
    }

    #[inline]
    pub(crate) fn rx(&mut self, octets: usize) {
        self.rx_frames = self.rx_frames.wrapping_add(1);
        self.rx_octets = self.rx_octets.wrapping_add(octets as u64);
    }

    #[inline]
    pub(crate) fn tx(&mut self, octets: usize) {
        self.tx_frames = self.tx_frames.wrapping_add(1);
        self.tx_octets = self.tx_octets.wrapping_add(octets as u64);
    }

    fn add(&mut self, other: &Traffic) {
        self.rx_frames = self.rx_frames.wrapping_add(other.rx_frames);
        self.rx_octets = self.rx_octets.wrapping_add(other.rx_octets);
        self.tx_frames = self.tx_frames.wrapping_add(other.tx_frames);
        self.tx_octets = self.tx_octets.wrapping_add(other.tx_octets);
    }
}

/// What one VNI, VTEP or port carried and dropped.
///
/// A VTEP counts a copy of every flooded frame that goes to it; a VNI counts a flooded frame once.
// Aligned so that what nearly every frame adds to lies in one cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C, align(32))]
pub struct ScopeCounters {
    /// Carried.
    pub traffic: Traffic,
    /// Dropped, by reason. A drop is counted in every scope that was known by then.
    pub drops: Drops,
}

const _: () = assert!(size_of::<ScopeCounters>() == 352);

impl ScopeCounters {
    /// Nothing counted.
    pub const ZERO: ScopeCounters = ScopeCounters {
        traffic: Traffic { rx_frames: 0, rx_octets: 0, tx_frames: 0, tx_octets: 0 },
        drops: Drops([0; DropReason::COUNT]),
    };

    /// Anything of the line that every frame adds to.
    #[inline]
    pub(crate) fn word(&self) -> u64 {
        self.traffic.rx_frames
    }

    pub(crate) fn add(&mut self, other: &ScopeCounters) {
        self.traffic.add(&other.traffic);
        self.drops.add(&other.drops);
    }
}

/// What the whole engine did. All counters wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Frames given to `encap`.
    pub encap_frames: u64,
    /// Datagrams given to `decap`.
    pub decap_frames: u64,
    /// Verdicts [`ToUnderlay`](super::Verdict::ToUnderlay).
    pub to_underlay: u64,
    /// Verdicts [`ToPort`](super::Verdict::ToPort).
    pub to_port: u64,
    /// Verdicts [`Flood`](super::Verdict::Flood).
    pub flooded: u64,
    /// Verdicts [`Punt`](super::Verdict::Punt), by reason.
    pub punts: Punts,
    /// Verdicts [`Drop`](super::Verdict::Drop), copies of a flood that exceed a VTEP's MTU or a length field, and what
    /// a backend could not carry, by reason.
    pub drops: Drops,
    /// MAC addresses learned.
    pub learned: u64,
    /// MAC addresses that moved.
    pub moved: u64,
    /// Learned entries that aged out.
    pub aged: u64,
    /// Entries evicted to make room for others.
    pub evicted: u64,
    /// Addresses not learned because the table had no place, or their port or VTEP was at its limit.
    pub not_learned: u64,
    /// Events lost because the ring was full.
    pub events_lost: u64,
}

/// One counter for each [`PuntReason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Punts([u64; PuntReason::COUNT]);

impl Punts {
    /// How many were punted for `reason`.
    pub fn get(&self, reason: PuntReason) -> u64 {
        self.0.get(reason.index()).copied().unwrap_or(0)
    }

    /// All of them, wrapping.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |a, n| a.wrapping_add(*n))
    }

    /// The reasons that were seen, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (PuntReason, u64)> + '_ {
        PuntReason::ALL.iter().zip(self.0).filter(|(_, n)| *n > 0).map(|(r, n)| (*r, n))
    }

    #[inline]
    pub(crate) fn count(&mut self, reason: PuntReason) {
        if let Some(c) = self.0.get_mut(reason.index()) {
            *c = c.wrapping_add(1);
        }
    }

    fn add(&mut self, other: &Punts) {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a = a.wrapping_add(b);
        }
    }
}

impl Counters {
    pub(crate) fn add(&mut self, o: &Counters) {
        for (a, b) in [
            (&mut self.encap_frames, o.encap_frames),
            (&mut self.decap_frames, o.decap_frames),
            (&mut self.to_underlay, o.to_underlay),
            (&mut self.to_port, o.to_port),
            (&mut self.flooded, o.flooded),
            (&mut self.learned, o.learned),
            (&mut self.moved, o.moved),
            (&mut self.aged, o.aged),
            (&mut self.evicted, o.evicted),
            (&mut self.not_learned, o.not_learned),
            (&mut self.events_lost, o.events_lost),
        ] {
            *a = a.wrapping_add(b);
        }
        self.punts.add(&o.punts);
        self.drops.add(&o.drops);
    }
}
