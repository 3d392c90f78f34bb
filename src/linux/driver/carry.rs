//! Carrying verdicts out: devices and sockets, and what they refuse.

use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::DriverCounters;
use super::slow::SlowPath;
use crate::addr::{PortId, VtepId};
use crate::engine::{Engine, Frame, Heap, Replica, Verdict};
use crate::error::DropReason;
use crate::linux::{Error, Refused, Sent, Tap, TapCounters, Underlay, UnderlayCounters};
use crate::table::vtep::Vtep;
use crate::time::Instant;

/// Where a packet came from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin {
    Port(PortId),
    Underlay(IpAddr),
}

impl Origin {
    fn port(self) -> Option<PortId> {
        match self {
            Origin::Port(port) => Some(port),
            Origin::Underlay(_) => None,
        }
    }
}

/// A device on a port, and what of its counters the engine knows.
pub(super) struct TapSlot {
    pub(super) port: PortId,
    pub(super) tap: Tap,
    counted: TapCounters,
}

impl TapSlot {
    /// Tells the engine what the device threw away since the last time.
    pub(super) fn count_lost(&mut self, engine: &mut Engine<Heap>) {
        let (now, before) = (self.tap.counters(), self.counted);
        if now == before {
            return;
        }
        let vni = engine.tables().ports().get(self.port).map(|p| p.config.vni);
        for (reason, now, before) in [
            (DropReason::RxTruncated, now.truncated, before.truncated),
            (DropReason::NotHandled, now.unsegmented, before.unsegmented),
            (DropReason::NotHandled, now.malformed, before.malformed),
        ] {
            for _ in 0..now.wrapping_sub(before) {
                engine.count_drop(reason, vni, None, Some(self.port));
            }
        }
        self.counted = now;
    }
}

/// An underlay socket, and what of its counters the engine knows.
pub(super) struct SocketSlot {
    pub(super) socket: Underlay,
    counted: UnderlayCounters,
}

impl SocketSlot {
    /// Tells the engine what the socket threw away since the last time.
    pub(super) fn count_lost(&mut self, engine: &mut Engine<Heap>) {
        let now = self.socket.counters();
        for _ in 0..now.truncated.wrapping_sub(self.counted.truncated) {
            engine.count_drop(DropReason::RxTruncated, None, None, None);
        }
        self.counted = now;
    }
}

/// A copy of a flooded frame that was not taken, and whose it was.
type Lost = (DropReason, Option<VtepId>, Option<PortId>);

/// Everything that packets leave by.
pub(super) struct Io {
    pub(super) taps: Vec<TapSlot>,
    /// For each port of the engine, the place of its device in `taps`.
    by_port: Vec<Option<u32>>,
    pub(super) sockets: Vec<SocketSlot>,
    /// Places in `sockets`, by family.
    v4: Vec<usize>,
    v6: Vec<usize>,
    pub(super) slow: SlowPath,
    /// Has room for every member of a flood list.
    lost: Vec<Lost>,
    pub(super) counters: DriverCounters,
    /// The first thing in this turn that no longer works.
    pub(super) failure: Option<Error>,
}

impl Io {
    pub(super) fn new(ports: usize, vteps: usize) -> Io {
        Io {
            taps: Vec::new(),
            by_port: vec![None; ports],
            sockets: Vec::new(),
            v4: Vec::new(),
            v6: Vec::new(),
            slow: SlowPath::default(),
            lost: Vec::with_capacity(ports.saturating_add(vteps)),
            counters: DriverCounters::default(),
            failure: None,
        }
    }

    pub(super) fn add_tap(&mut self, port: PortId, tap: Tap) -> Result<(), Error> {
        let place = self.taps.len() as u32;
        match self.by_port.get_mut(usize::from(port.0)) {
            Some(free @ None) => *free = Some(place),
            _ => return Err(Error::refused("attach", tap.name(), "the port has a device")),
        }
        let counted = tap.counters();
        self.taps.push(TapSlot { port, tap, counted });
        Ok(())
    }

    pub(super) fn remove_tap(&mut self, port: PortId) -> Option<Tap> {
        let place = self.by_port.get_mut(usize::from(port.0))?.take()?;
        let slot = self.taps.swap_remove(place as usize);
        // The last one moved to the free place.
        if let Some(moved) = self.taps.get(place as usize).map(|s| s.port)
            && let Some(entry) = self.by_port.get_mut(usize::from(moved.0))
        {
            *entry = Some(place);
        }
        Some(slot.tap)
    }

    fn place(&self, port: PortId) -> Option<usize> {
        self.by_port.get(usize::from(port.0)).copied().flatten().map(|at| at as usize)
    }

    pub(super) fn tap(&self, port: PortId) -> Option<&Tap> {
        self.place(port).and_then(|at| self.taps.get(at)).map(|s| &s.tap)
    }

    pub(super) fn tap_mut(&mut self, port: PortId) -> Option<&mut Tap> {
        self.place(port).and_then(|at| self.taps.get_mut(at)).map(|s| &mut s.tap)
    }

    pub(super) fn add_socket(&mut self, socket: Underlay) {
        let family = if socket.local_addr().is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        family.push(self.sockets.len());
        let counted = socket.counters();
        self.sockets.push(SocketSlot { socket, counted });
    }

    /// Does what the engine decided.
    pub(super) fn carry(&mut self, engine: &mut Engine<Heap>, now: Instant, frame: &Frame<'_>, from: Origin) {
        match frame.verdict() {
            Some(Verdict::ToUnderlay(vtep)) => {
                let to = engine.vtep(vtep).map(address);
                let lost = self.send(to, &[frame.bytes()], frame.ecn(), frame.flow_hash());
                if let Some(reason) = lost {
                    engine.count_drop(reason, frame.vni(), Some(vtep), from.port());
                }
            }
            Some(Verdict::ToPort(port)) => {
                if let Some(reason) = self.write(port, frame.bytes()) {
                    engine.count_drop(reason, frame.vni(), None, Some(port));
                }
            }
            Some(Verdict::Flood(_)) => self.flood(engine, frame),
            Some(Verdict::Punt(reason)) => {
                if let Some(drop) = self.punt(engine, now, frame, from, reason) {
                    let vtep = match from {
                        Origin::Port(_) => None,
                        Origin::Underlay(addr) => engine.tables().vteps().by_addr(addr),
                    };
                    engine.count_drop(drop, frame.vni(), vtep, from.port());
                }
            }
            Some(Verdict::Drop(_)) | None => {}
        }
    }

    fn flood(&mut self, engine: &mut Engine<Heap>, frame: &Frame<'_>) {
        let mut lost = core::mem::take(&mut self.lost);
        for replica in engine.replicas(frame) {
            let (reason, vtep, port) = match replica {
                Replica::Port(port) => (self.write(port, frame.bytes()), None, Some(port)),
                Replica::Underlay { vtep, header } => {
                    let to = engine.vtep(vtep).map(address);
                    let parts = [header.as_slice(), frame.bytes()];
                    (self.send(to, &parts, frame.ecn(), frame.flow_hash()), Some(vtep), None)
                }
            };
            if let Some(reason) = reason {
                lost.push((reason, vtep, port));
            }
        }
        for (reason, vtep, port) in lost.drain(..) {
            engine.count_drop(reason, frame.vni(), vtep, port);
        }
        self.lost = lost;
    }

    /// Writes a frame to the device of a port.
    pub(super) fn write(&mut self, port: PortId, frame: &[u8]) -> Option<DropReason> {
        let Some(tap) = self.tap_mut(port) else { return Some(self.nowhere()) };
        match tap.send(frame) {
            Ok(Sent::Taken) => {
                self.counters.tap_tx = self.counters.tap_tx.wrapping_add(1);
                None
            }
            Ok(Sent::Refused(why)) => Some(self.refused(why)),
            Err(error) => Some(self.failed(error)),
        }
    }

    /// Sends a datagram to a VTEP.
    pub(super) fn send(
        &mut self,
        to: Option<SocketAddr>,
        parts: &[&[u8]],
        ecn: u8,
        flow: u32,
    ) -> Option<DropReason> {
        let Some(to) = to else { return Some(self.nowhere()) };
        let family = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        // Multiply and shift: even for any number of sockets, and the same one for the same flow.
        let chosen = (u64::from(flow).wrapping_mul(family.len() as u64) >> 32) as usize;
        let slot = family.get(chosen).and_then(|at| self.sockets.get_mut(*at));
        let Some(slot) = slot else { return Some(self.nowhere()) };
        match slot.socket.send(parts, to, Some(ecn)) {
            Ok(Sent::Taken) => {
                self.counters.udp_tx = self.counters.udp_tx.wrapping_add(1);
                None
            }
            Ok(Sent::Refused(why)) => Some(self.refused(why)),
            Err(error) => Some(self.failed(error)),
        }
    }

    fn nowhere(&mut self) -> DropReason {
        self.counters.down = self.counters.down.wrapping_add(1);
        DropReason::NotHandled
    }

    fn refused(&mut self, why: Refused) -> DropReason {
        let c = &mut self.counters;
        let counter = match why {
            Refused::WouldBlock | Refused::NoBuffers => &mut c.queue_full,
            Refused::TooBig => &mut c.too_big,
            Refused::Unreachable => &mut c.unreachable,
            Refused::Down => &mut c.down,
            Refused::Malformed => &mut c.malformed,
        };
        *counter = counter.wrapping_add(1);
        why.into()
    }

    fn failed(&mut self, error: Error) -> DropReason {
        self.failure.get_or_insert(error);
        DropReason::TxFailed
    }
}

/// Where a VTEP listens.
pub(super) fn address(vtep: &Vtep) -> SocketAddr {
    SocketAddr::new(vtep.config.addr, vtep.config.port)
}
