//! From the devices to the underlay and to each other.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::array;
use core::ops::Range;

use super::Clock;
use super::carry::{COPIES, Io, Origin, address};
use super::mind::Mind;
use super::outbox::{Outbox, Piece, Target};
use crate::addr::{Destination, PortId, Vni, VtepId};
use crate::engine::{BATCH, Frame, HEADROOM, Verdict};
use crate::error::DropReason;
use crate::linux::Offload;
use crate::linux::offload::{MAX_HEADER_LEN, Superframe};
use crate::linux::tunnel::Whole;
use crate::linux::{BUFFER_LEN, VirtioNetHeader};
use crate::time::Instant;
use crate::wire::vxlan::{self, GroupPolicy, VxlanHeader};

/// Room that a read needs: headers before the packet, the longest packet, and an octet or more that
/// shows that it was no longer than that.
const ROOM: usize = HEADROOM + BUFFER_LEN + 56;

/// Octets of packets that wait for one flush: 32 of the longest, or thousands of small ones. A stream's
/// superframe is a little more than one send carries; the more of them are cut together, the fewer sends
/// are nearly empty.
const PACKETS: usize = 32 * ROOM;

/// Frames that one turn takes from one device.
pub(super) const TAP_QUOTA: usize = 256;

/// Headers of segments that are written at a time.
const WINDOW: usize = 256;

/// A frame as it was read.
#[derive(Debug, Clone, Copy, Default)]
struct Read {
    /// Where its room in the packet memory begins and ends; the frame lies `HEADROOM` behind the begin.
    room: (usize, usize),
    len: usize,
    header: VirtioNetHeader,
    cut: Option<Superframe>,
}

/// A frame that the engine has looked at.
#[derive(Clone, Copy)]
struct Decided {
    verdict: Verdict,
    /// Where it lies in the packet memory, with its outer headers if the engine wrote any.
    at: usize,
    len: usize,
    vni: Option<Vni>,
    group: Option<GroupPolicy>,
    flow: u32,
    ecn: u8,
    header: VirtioNetHeader,
    cut: bool,
}

impl Decided {
    fn range(&self) -> Range<usize> {
        self.at..self.at.saturating_add(self.len)
    }
}

/// Packets from devices, on their way.
pub(super) struct Tx {
    packets: Box<[u8]>,
    used: usize,
    /// A batch of frames as they were read, and as the engine decided on them. Kept, for one frame is
    /// not to cost the initialisation of places for many.
    reads: Box<[Read]>,
    decided: Box<[Option<Decided>]>,
    pub(super) outbox: Outbox,
    /// Whom a flood goes to; has room for every VTEP.
    targets: Vec<Target>,
    /// Copies of floods from the device that is served.
    copies: usize,
    /// Whether sends may be cut by the kernel.
    segments: bool,
    /// Whether each datagram is sent by itself.
    single: bool,
}

impl Tx {
    pub(super) fn new(level: Offload, vteps: usize) -> Tx {
        Tx {
            packets: vec![0; PACKETS].into_boxed_slice(),
            used: 0,
            reads: vec![Read::default(); BATCH].into_boxed_slice(),
            decided: vec![None; BATCH].into_boxed_slice(),
            outbox: Outbox::new(level),
            targets: Vec::with_capacity(vteps),
            copies: 0,
            segments: level >= Offload::Gso,
            single: level == Offload::None,
        }
    }

    /// Sends what waits. The packet memory is free afterwards.
    pub(super) fn flush<M: Mind>(&mut self, mind: &mut M, io: &mut Io) {
        self.outbox.flush(mind, io, &self.packets, false);
        self.used = 0;
    }

    /// Takes frames from a device, as many as it is due or the packet memory has room for; how many.
    /// What those before it have left of that memory is no limit: it leaves first.
    pub(super) fn serve<M: Mind>(&mut self, mind: &mut M, io: &mut Io, clock: Clock, index: usize) -> usize {
        let Some(slot) = io.taps.get(index) else { return 0 };
        let (port, quota) = (slot.port, slot.quota.get());
        let (mut total, mut superframe) = (0, false);
        let mut shared = self.used > 0;
        self.copies = 0;
        let mut reads = core::mem::take(&mut self.reads);
        loop {
            let want = quota.saturating_sub(total).min(BATCH);
            let (count, read, more) = self.read(io, index, reads.get_mut(..want).unwrap_or_default());
            total += read;
            let batch = reads.get(..count).unwrap_or_default();
            superframe = superframe || batch.iter().any(|read| read.cut.is_some());
            match batch {
                [] => {}
                [_] => self.decide::<_, 1>(mind, io, clock.now, port, batch),
                _ => self.decide::<_, BATCH>(mind, io, clock.now, port, batch),
            }
            // What has left needs no memory, and what is read next finds this in the cache.
            if self.outbox.is_empty() {
                self.used = 0;
            }
            if total >= quota || self.copies >= COPIES {
                break;
            }
            if !more && shared && !self.has_room() {
                self.flush(mind, io);
                shared = false;
            } else if !more {
                break;
            }
        }
        self.reads = reads;
        if let Some(slot) = io.taps.get_mut(index) {
            slot.quota.had(total, superframe, clock.micros);
            slot.quota.flooded(total, self.copies);
            slot.count_lost(mind);
        }
        total
    }

    fn has_room(&self) -> bool {
        self.used.saturating_add(ROOM) <= self.packets.len()
    }

    /// Reads frames behind each other: how many are of use, how many there were, and whether there
    /// may be more that there is room for.
    fn read(&mut self, io: &mut Io, index: usize, reads: &mut [Read]) -> (usize, usize, bool) {
        let (mut count, mut total) = (0, 0);
        // A superframe that may leave whole does so before the next one is read.
        let alone = io.tunnel.is_some();
        let Some(slot) = io.taps.get_mut(index) else { return (0, 0, false) };
        // One that is of no use counts as well: a device may have nothing else.
        while total < reads.len() {
            let start = self.used;
            let Some(room) = self.packets.get_mut(start..start.saturating_add(ROOM)) else {
                return (count, total, false);
            };
            let got = match slot.tap.read(room, HEADROOM) {
                Ok(Some(got)) => got,
                Ok(None) => return (count, total, false),
                Err(error) => {
                    io.failure.get_or_insert(error);
                    return (count, total, false);
                }
            };
            total += 1;
            let frame = room.get(HEADROOM..HEADROOM.saturating_add(got.len)).unwrap_or_default();
            let header = got.header;
            let cut = match Superframe::parse(&header, frame) {
                Ok(None) if !asks_for_what_is_there(&header, frame) => Err(()),
                parsed => parsed.map_err(|_| ()),
            };
            let Ok(cut) = cut else {
                slot.tap.count_malformed();
                continue;
            };
            let end = (start + HEADROOM).saturating_add(got.len).next_multiple_of(8);
            if let Some(read) = reads.get_mut(count) {
                *read = Read { room: (start, end), len: got.len, header, cut };
            }
            self.used = end;
            count += 1;
            if alone && cut.is_some() {
                break;
            }
        }
        (count, total, true)
    }

    /// Has the engine decide about frames that were read behind each other, `N` at most, and does what
    /// it says.
    fn decide<M: Mind, const N: usize>(
        &mut self,
        mind: &mut M,
        io: &mut Io,
        now: Instant,
        port: PortId,
        reads: &[Read],
    ) {
        let mut decided = core::mem::take(&mut self.decided);
        {
            let start = reads.first().map_or(0, |r| r.room.0);
            let mut rest = self.packets.get_mut(start..).unwrap_or_default();
            let mut waiting = reads.iter();
            let mut frames: [Frame<'_>; N] = array::from_fn(|_| {
                let Some(read) = waiting.next() else { return Frame::default() };
                let size = read.room.1.saturating_sub(read.room.0);
                let (room, tail) = core::mem::take(&mut rest).split_at_mut_checked(size).unwrap_or_default();
                rest = tail;
                let frame = Frame::new(room, HEADROOM..HEADROOM.saturating_add(read.len)).unwrap_or_default();
                frame.with_segment_len(read.cut.as_ref().map_or(0, Superframe::segment_len))
            });
            let batch = frames.get_mut(..reads.len()).unwrap_or_default();
            if mind.encap(now, port, batch).is_err() {
                // The host removed the port and left the device.
                for _ in batch {
                    mind.count_drop(DropReason::NotHandled, None, None, None);
                }
                self.decided = decided;
                return;
            }
            for ((frame, read), place) in batch.iter().zip(reads).zip(&mut *decided) {
                let range = frame.range();
                *place = frame.verdict().map(|verdict| Decided {
                    verdict,
                    at: read.room.0.saturating_add(range.start),
                    len: range.len(),
                    vni: frame.vni(),
                    group: frame.group(),
                    flow: frame.flow_hash(),
                    ecn: frame.ecn(),
                    header: read.header,
                    cut: read.cut.is_some(),
                });
            }
        }
        for d in decided.iter().take(reads.len()).flatten() {
            self.carry(mind, io, now, port, d);
        }
        self.decided = decided;
    }

    fn carry<M: Mind>(&mut self, mind: &mut M, io: &mut Io, now: Instant, port: PortId, d: &Decided) {
        match d.verdict {
            Verdict::ToUnderlay(vtep) => self.tunnel(mind, io, now, port, d, vtep),
            Verdict::ToPort(to) => {
                let frame = self.packets.get(d.range()).unwrap_or_default();
                if let Some(reason) = io.write(to, frame, Some(d.header)) {
                    mind.count_drop(reason, d.vni, None, Some(to));
                }
            }
            Verdict::Flood(vni) => self.flood(mind, io, port, d, vni),
            Verdict::Punt(reason) => {
                let frame = self.packets.get(d.range()).unwrap_or_default();
                let packet = (frame, d.vni, d.flow);
                if let Some(drop) = io.punt(mind.tables(), now, packet, Origin::Port(port), reason) {
                    mind.count_drop(drop, d.vni, None, Some(port));
                }
            }
            Verdict::Drop(_) => {}
        }
    }

    fn target<M: Mind>(mind: &M, io: &Io, vtep: VtepId, flow: u32) -> Option<Target> {
        let to = address(mind.tables().vteps().get(vtep)?);
        Some(Target { vtep, to, socket: io.socket_for(to, flow)? })
    }

    /// A frame with its VXLAN header, to one VTEP.
    #[inline]
    fn tunnel<M: Mind>(
        &mut self,
        mind: &mut M,
        io: &mut Io,
        now: Instant,
        port: PortId,
        d: &Decided,
        vtep: VtepId,
    ) {
        let Some(target) = Self::target(mind, io, vtep, d.flow) else {
            let reason = io.nowhere();
            mind.count_drop(reason, d.vni, Some(vtep), Some(port));
            return;
        };
        let inner = d.at.saturating_add(vxlan::HEADER_LEN)..d.range().end;
        if d.cut {
            if io.tunnel.is_some() && self.whole(mind, io, now, d, &target) {
                return;
            }
            let vxlan = self.packets.get(d.range()).and_then(|p| p.first_chunk()).copied();
            self.cut(mind, io, port, d, (vxlan.unwrap_or_default(), inner), &[target]);
            return;
        }
        finish(self.packets.get_mut(inner).unwrap_or_default(), &d.header);
        self.post(mind, io, Piece::new(0..0, d.range(), d.vni, port), &target, d.ecn);
    }

    /// Tries to send a superframe to one VTEP as it is.
    fn whole<M: Mind>(
        &mut self,
        mind: &mut M,
        io: &mut Io,
        now: Instant,
        d: &Decided,
        target: &Target,
    ) -> bool {
        // What came before it leaves before it.
        if self.outbox.holds(target) {
            self.outbox.flush(mind, io, &self.packets, true);
        }
        let Some(slot) = io.sockets.get(target.socket) else { return false };
        let packet = self.packets.get(d.range()).unwrap_or_default();
        let whole = Whole {
            vtep: target.vtep,
            socket: target.socket,
            from: slot.socket.local_addr(),
            to: target.to,
            packet,
            header: &d.header,
            ecn: d.ecn,
        };
        io.tunnel.as_mut().is_some_and(|tunnel| tunnel.send(now, &whole))
    }

    /// Copies to every other port and every VTEP of the VNI.
    #[cold]
    fn flood<M: Mind>(&mut self, mind: &mut M, io: &mut Io, port: PortId, d: &Decided, vni: Vni) {
        let frame = self.packets.get(d.range()).unwrap_or_default();
        let cut = d.cut.then(|| Superframe::parse(&d.header, frame).ok().flatten()).flatten();
        let lengths = (d.len, cut.as_ref().map_or(0, Superframe::segment_len));
        let mut targets = core::mem::take(&mut self.targets);
        targets.clear();
        let (mut ports, mut lost) = (0usize, 0usize);
        for copy in mind.tables().copies(vni, Some(port), lengths) {
            match copy {
                Destination::Port(_) => ports += 1,
                Destination::Vtep(vtep) => match Self::target(mind, io, vtep, d.flow) {
                    Some(target) if targets.len() < targets.capacity() => targets.push(target),
                    _ => lost += 1,
                },
            }
        }
        let segments = cut.as_ref().map_or(1, Superframe::segments);
        self.copies =
            self.copies.saturating_add(ports).saturating_add(targets.len().saturating_mul(segments));
        // The tables may not change while they are read, and a lost copy is counted in them: one port
        // at a time.
        for n in 0..ports {
            let to = mind.tables().copies(vni, Some(port), lengths).nth(n);
            let Some(Destination::Port(to)) = to else { continue };
            if let Some(reason) = io.write(to, frame, Some(d.header)) {
                mind.count_drop(reason, d.vni, None, Some(to));
            }
        }
        for n in 0..lost {
            let vteps = mind.tables().copies(vni, Some(port), lengths).filter_map(|copy| match copy {
                Destination::Vtep(vtep) => Some(vtep),
                Destination::Port(_) => None,
            });
            let unreached = vteps.filter(|v| Self::target(mind, io, *v, d.flow).is_none()).nth(n);
            let reason = io.nowhere();
            mind.count_drop(reason, d.vni, unreached, Some(port));
        }
        let vxlan = VxlanHeader::emit(vni, d.group);
        if d.cut {
            self.cut(mind, io, port, d, (vxlan, d.range()), &targets);
        } else if !targets.is_empty() {
            finish(self.packets.get_mut(d.range()).unwrap_or_default(), &d.header);
            if self.outbox.headers_free(vxlan.len()) == 0 {
                self.outbox.flush(mind, io, &self.packets, false);
            }
            if let Some((at, room)) = self.outbox.header_room(vxlan.len()) {
                room.copy_from_slice(&vxlan);
                for target in &targets {
                    let piece = Piece::new(at..at + vxlan.len(), d.range(), d.vni, port);
                    self.post(mind, io, piece, target, d.ecn);
                }
            }
        }
        self.targets = targets;
    }

    /// Cuts the superframe in `inner` and sends the segments behind a VXLAN header to each target.
    fn cut<M: Mind>(
        &mut self,
        mind: &mut M,
        io: &mut Io,
        port: PortId,
        d: &Decided,
        (vxlan, inner): (VxlanHeader8, Range<usize>),
        targets: &[Target],
    ) {
        // Routing has changed the headers since they were read.
        let frame = self.packets.get(inner.clone()).unwrap_or_default();
        let Ok(Some(cut)) = Superframe::parse(&d.header, frame) else { return };
        io.counters.superframes = io.counters.superframes.wrapping_add(1);
        let header_len = vxlan.len().saturating_add(cut.header_len());
        let mut done = 0;
        while done < cut.segments() {
            let window = cut.segments().saturating_sub(done).min(WINDOW);
            if self.outbox.headers_free(header_len) < window {
                self.outbox.flush(mind, io, &self.packets, false);
            }
            let frame = self.packets.get(inner.clone()).unwrap_or_default();
            let Some((at, room)) = self.outbox.header_room(header_len.saturating_mul(window)) else { return };
            for (index, header) in room.chunks_exact_mut(header_len).enumerate() {
                let Some((outer, rest)) = header.split_first_chunk_mut() else { return };
                *outer = vxlan;
                if cut.write_header(done + index, frame, rest).is_none() {
                    return;
                }
            }
            for target in targets {
                for index in 0..window {
                    let head = at + index * header_len;
                    let payload = cut.payload(done + index);
                    let body = inner.start + payload.start..inner.start + payload.end;
                    let piece = Piece::new(head..head + header_len, body, d.vni, port);
                    self.post(mind, io, piece, target, d.ecn);
                }
            }
            done += window;
        }
    }

    #[inline]
    fn post<M: Mind>(&mut self, mind: &mut M, io: &mut Io, piece: Piece, target: &Target, ecn: u8) {
        let segments = match io.sockets.get(target.socket) {
            Some(slot) if self.segments => slot.socket.offload().segments,
            _ => 1,
        };
        self.outbox.push(piece, target, ecn, segments.max(1));
        if self.single || self.outbox.is_full() {
            self.outbox.flush(mind, io, &self.packets, true);
        }
    }
}

type VxlanHeader8 = [u8; vxlan::HEADER_LEN];

const _: () = assert!(WINDOW * (vxlan::HEADER_LEN + MAX_HEADER_LEN) <= super::outbox::HEADERS);

/// Whether a checksum that is left to the reader lies in the frame.
#[inline]
fn asks_for_what_is_there(header: &VirtioNetHeader, frame: &[u8]) -> bool {
    header.flags & VirtioNetHeader::NEEDS_CSUM == 0
        || usize::from(header.csum_start) + usize::from(header.csum_offset) + 2 <= frame.len()
}

/// Writes the checksum that was left to the reader.
#[inline]
fn finish(frame: &mut [u8], header: &VirtioNetHeader) {
    if let Some((at, check)) = header.checksum(frame)
        && let Some(field) = frame.get_mut(at..).and_then(|f| f.first_chunk_mut())
    {
        *field = check;
    }
}
