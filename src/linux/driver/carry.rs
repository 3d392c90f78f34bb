//! Devices and sockets, and what they refuse.

use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use std::io::IoSlice;

use super::DriverCounters;
use super::mind::Mind;
use super::slow::SlowPath;
use crate::addr::PortId;
use crate::error::DropReason;
use crate::linux::offload::{MAX_HEADER_LEN, Superframe};
use crate::linux::{
    Error, Refused, Sent, Tap, TapCounters, Tunnel, Underlay, UnderlayCounters, VirtioNetHeader,
};
use crate::table::vtep::Vtep;
use crate::wire::ethernet::{self, EthernetHeader};

/// Where a packet came from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin {
    Port(PortId),
    Underlay(IpAddr),
}

/// How many packets to ask a descriptor for. Asking for one more than there are costs time, so one
/// whose packets come far apart is asked for one: if there are more, it is ready again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quota {
    next: usize,
    max: usize,
    /// When it was served last, in microseconds.
    served: u64,
}

/// Copies of floods that one turn makes for one device or socket, and asks for no more packets then: to many VTEPs or
/// ports they take far longer than packets do, and the others wait.
pub(super) const COPIES: usize = 2048;

/// Small packets that come further apart than this, in microseconds, come one by one.
pub(super) const APART: u64 = 25;

impl Quota {
    pub(super) fn new(max: usize) -> Quota {
        Quota { next: 1, max, served: 0 }
    }

    pub(super) fn get(self) -> usize {
        self.next
    }

    /// Learns how many there were at this time, and whether one stood for many: those seldom come
    /// alone.
    pub(super) fn had(&mut self, packets: usize, many: bool, micros: u64) {
        if packets < self.next {
            self.next = packets.max(1);
        } else if many || micros.saturating_sub(self.served) < APART {
            self.next = self.next.saturating_mul(8).min(self.max);
        }
        self.served = micros;
    }

    /// Learns how many copies of floods so many packets took: the next ones are to take [`COPIES`], or be one.
    pub(super) fn flooded(&mut self, packets: usize, copies: usize) {
        if let Some(most) = packets.saturating_mul(COPIES).checked_div(copies) {
            self.next = self.next.min(most.max(1));
        }
    }
}

/// Joined writes that a device refuses, one after the other, before it is given no more.
const STRIKES: u32 = 8;

/// A device on a port, and what of its counters the engine knows.
pub(super) struct TapSlot {
    pub(super) port: PortId,
    pub(super) tap: Tap,
    pub(super) quota: Quota,
    /// Frames are read from it; another worker's queue of a device may only be written to.
    pub(super) reads: bool,
    /// The device takes joined frames, as far as we know.
    pub(super) merges: bool,
    /// It takes joined UDP datagrams, too.
    pub(super) merges_udp: bool,
    /// Joined writes that it refused, one after the other.
    refusals: u32,
    counted: TapCounters,
}

impl TapSlot {
    /// Learns whether the device took a joined frame.
    pub(super) fn had_joined(&mut self, taken: bool) {
        self.refusals = if taken { 0 } else { self.refusals.saturating_add(1) };
        self.merges = self.merges && self.refusals < STRIKES;
    }

    /// Tells the engine what the device threw away since the last time.
    pub(super) fn count_lost<M: Mind>(&mut self, mind: &mut M) {
        let (now, before) = (self.tap.counters(), self.counted);
        if now == before {
            return;
        }
        let vni = mind.tables().ports().get(self.port).map(|p| p.config.vni);
        for (reason, now, before) in [
            (DropReason::RxTruncated, now.truncated, before.truncated),
            (DropReason::NotHandled, now.unsegmented, before.unsegmented),
            (DropReason::NotHandled, now.malformed, before.malformed),
        ] {
            for _ in 0..now.wrapping_sub(before) {
                mind.count_drop(reason, vni, None, Some(self.port));
            }
        }
        self.counted = now;
    }
}

/// An underlay socket, and what of its counters the engine knows.
pub(super) struct SocketSlot {
    pub(super) socket: Underlay,
    /// Something may come in by it; others are only sent from.
    pub(super) receives: bool,
    pub(super) quota: Quota,
    counted: UnderlayCounters,
}

impl SocketSlot {
    /// Tells the engine what the socket threw away since the last time.
    pub(super) fn count_lost<M: Mind>(&mut self, mind: &mut M) {
        let now = self.socket.counters();
        for _ in 0..now.truncated.wrapping_sub(self.counted.truncated) {
            mind.count_drop(DropReason::RxTruncated, None, None, None);
        }
        self.counted = now;
    }
}

/// Everything that packets leave by.
pub(super) struct Io {
    pub(super) taps: Vec<TapSlot>,
    /// For each port of the engine, the place of its device in `taps`.
    by_port: Vec<Option<u32>>,
    pub(super) sockets: Vec<SocketSlot>,
    /// Places in `sockets`, by family.
    v4: Vec<usize>,
    v6: Vec<usize>,
    /// Sends superframes whole.
    pub(super) tunnel: Option<Tunnel>,
    pub(super) slow: SlowPath,
    pub(super) counters: DriverCounters,
    /// The first thing in this turn that no longer works.
    pub(super) failure: Option<Error>,
}

impl Io {
    pub(super) fn new(ports: usize) -> Io {
        Io {
            taps: Vec::new(),
            by_port: vec![None; ports],
            sockets: Vec::new(),
            v4: Vec::new(),
            v6: Vec::new(),
            tunnel: None,
            slow: SlowPath::default(),
            counters: DriverCounters::default(),
            failure: None,
        }
    }

    pub(super) fn add_tap(&mut self, port: PortId, tap: Tap, reads: bool, quota: usize) -> Result<(), Error> {
        let place = self.taps.len();
        match self.by_port.get_mut(usize::from(port.0)) {
            Some(free @ None) => *free = Some(place as u32),
            _ => return Err(Error::refused("attach", tap.name(), "the port has a device")),
        }
        let counted = tap.counters();
        let (merges, merges_udp) = (tap.has_virtio_header(), tap.offloads().udp);
        let quota = Quota::new(quota);
        self.taps.push(TapSlot { port, tap, quota, reads, merges, merges_udp, refusals: 0, counted });
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

    pub(super) fn has_tap(&self, port: PortId) -> bool {
        self.place(port).is_some()
    }

    fn place(&self, port: PortId) -> Option<usize> {
        self.by_port.get(usize::from(port.0)).copied().flatten().map(|at| at as usize)
    }

    pub(super) fn slot(&self, port: PortId) -> Option<&TapSlot> {
        self.place(port).and_then(|at| self.taps.get(at))
    }

    pub(super) fn slot_mut(&mut self, port: PortId) -> Option<&mut TapSlot> {
        self.place(port).and_then(|at| self.taps.get_mut(at))
    }

    pub(super) fn add_socket(&mut self, socket: Underlay, receives: bool, quota: usize) {
        let place = self.sockets.len();
        let family = if socket.local_addr().is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        family.push(place);
        let counted = socket.counters();
        self.sockets.push(SocketSlot { socket, receives, quota: Quota::new(quota), counted });
    }

    /// Undoes the last [`add_socket`](Io::add_socket).
    pub(super) fn remove_last_socket(&mut self) {
        let Some(slot) = self.sockets.pop() else { return };
        let family = if slot.socket.local_addr().is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        family.pop();
    }

    /// The place of the socket for a flow to this address.
    #[inline]
    pub(super) fn socket_for(&self, to: SocketAddr, flow: u32) -> Option<usize> {
        let family = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        // Multiply and shift: even for any number of sockets, and the same one for the same flow.
        let chosen = (u64::from(flow).wrapping_mul(family.len() as u64) >> 32) as usize;
        family.get(chosen).copied()
    }

    /// Writes a frame to the device of a port; `header` is what is still to be done to it, as its
    /// sender's device said, and `None` where that is to be found out.
    pub(super) fn write(
        &mut self,
        port: PortId,
        frame: &[u8],
        header: Option<VirtioNetHeader>,
    ) -> Option<DropReason> {
        let Some(slot) = self.slot_mut(port) else { return Some(self.nowhere()) };
        let mtu = slot.tap.mtu();
        let tap = &mut slot.tap;
        let result = match header {
            None => tap.send(frame),
            Some(header) if header.gso_type == VirtioNetHeader::GSO_NONE => {
                match VirtioNetHeader::plan(frame, mtu) {
                    // The sender's word on the checksum holds.
                    Ok(planned) if planned.gso_type == VirtioNetHeader::GSO_NONE => {
                        tap.send_with(frame, header)
                    }
                    Ok(planned) => tap.send_with(frame, planned),
                    Err(_) => Ok(Sent::Refused(Refused::TooBig)),
                }
            }
            Some(header) => match Superframe::parse(&header, frame) {
                Ok(Some(cut)) if cut.segment_len().saturating_sub(link_len(frame)) > usize::from(mtu) => {
                    Ok(Sent::Refused(Refused::TooBig))
                }
                Ok(Some(cut)) if !tap.has_virtio_header() => return self.write_cut(port, frame, &cut),
                _ => tap.send_with(frame, header),
            },
        };
        self.written(result, 1)
    }

    /// Writes a superframe to a device that takes none, segment by segment.
    #[cold]
    fn write_cut(&mut self, port: PortId, frame: &[u8], cut: &Superframe) -> Option<DropReason> {
        let mut lost = None;
        for index in 0..cut.segments() {
            let mut headers = [0; MAX_HEADER_LEN];
            let parts = cut
                .write_header(index, frame, &mut headers)
                .and_then(|len| Some([headers.get(..len)?, frame.get(cut.payload(index))?]));
            let Some([headers, payload]) = parts else { continue };
            let Some(slot) = self.slot_mut(port) else { return Some(self.nowhere()) };
            let result = slot.tap.write_parts(&[IoSlice::new(headers), IoSlice::new(payload)]);
            lost = lost.or(self.written(result, 1));
        }
        lost
    }

    /// Counts a write of `frames` frames; why they were lost, if they were.
    pub(super) fn written(&mut self, result: Result<Sent, Error>, frames: u64) -> Option<DropReason> {
        match result {
            Ok(Sent::Taken) => {
                self.counters.tap_tx = self.counters.tap_tx.wrapping_add(frames);
                None
            }
            Ok(Sent::Refused(why)) => Some(self.refused(why, frames)),
            Err(error) => Some(self.failed(error)),
        }
    }

    /// Sends one datagram to a VTEP.
    pub(super) fn send(
        &mut self,
        to: Option<SocketAddr>,
        parts: &[&[u8]],
        ecn: u8,
        flow: u32,
    ) -> Option<DropReason> {
        let Some(to) = to else { return Some(self.nowhere()) };
        let slot = self.socket_for(to, flow).and_then(|at| self.sockets.get_mut(at));
        let Some(slot) = slot else { return Some(self.nowhere()) };
        match slot.socket.send(parts, to, Some(ecn)) {
            Ok(Sent::Taken) => {
                self.counters.udp_tx = self.counters.udp_tx.wrapping_add(1);
                None
            }
            Ok(Sent::Refused(why)) => Some(self.refused(why, 1)),
            Err(error) => Some(self.failed(error)),
        }
    }

    pub(super) fn nowhere(&mut self) -> DropReason {
        self.counters.down = self.counters.down.wrapping_add(1);
        DropReason::NotHandled
    }

    pub(super) fn refused(&mut self, why: Refused, packets: u64) -> DropReason {
        let c = &mut self.counters;
        let counter = match why {
            Refused::WouldBlock | Refused::NoBuffers => &mut c.queue_full,
            Refused::TooBig => &mut c.too_big,
            Refused::Unreachable => &mut c.unreachable,
            Refused::Down => &mut c.down,
            Refused::Malformed => &mut c.malformed,
        };
        *counter = counter.wrapping_add(packets);
        why.into()
    }

    pub(super) fn failed(&mut self, error: Error) -> DropReason {
        self.failure.get_or_insert(error);
        DropReason::TxFailed
    }
}

/// Octets of the Ethernet header and its tags, which no MTU counts.
pub(super) fn link_len(frame: &[u8]) -> usize {
    EthernetHeader::parse(frame).map_or(ethernet::HEADER_LEN, |e| usize::from(e.payload_offset))
}

/// Where a VTEP listens.
#[inline]
pub(super) fn address(vtep: &Vtep) -> SocketAddr {
    SocketAddr::new(vtep.config.addr, vtep.config.port)
}
