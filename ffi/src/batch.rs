//! The data path: packets in the caller's memory become frames, and verdicts go back.

use core::net::IpAddr;
use core::ops::Range;

use overlane::addr::PortId;
use overlane::engine::{BATCH, Engine, Frame, Heap};
use overlane::time::Instant;
use overlane::wire::vxlan::GroupPolicy;

use crate::convert::verdict;
use crate::failure::{Failure, Refusal};
use crate::raw::{Arena, Array, Buffers, Turn, Window, zeroed};
use crate::status::OVERLANE_E_RANGE;
use crate::types::*;

/// Which way the packets of a batch go.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// From this port.
    Encap(PortId),
    /// From the underlay; from this address, where a packet does not say otherwise.
    Decap(Option<IpAddr>),
}

/// A packet of a batch: where it lies, and what is said of it.
pub(crate) struct Packet<'c> {
    window: Window<'c>,
    /// Within the window.
    range: Range<usize>,
    ecn: u8,
    source: Option<IpAddr>,
    group: Option<GroupPolicy>,
    segment_len: usize,
}

/// The packets of a batch.
pub(crate) trait Packets<'c> {
    /// How many there are.
    fn len(&self) -> usize;
    /// Whether [`get`](Self::get) gives packet `index`.
    fn check(&self, index: usize, way: Way) -> Result<(), Failure>;
    /// Packet `index`, if its fields make sense.
    fn get(&self, index: usize, way: Way) -> Result<Packet<'c>, Failure>;
    /// Writes down what became of packet `index`, whose window is as `get` said.
    fn done(&self, index: usize, way: Way, frame: &Frame<'_>);
}

/// Descriptors into one arena.
pub(crate) struct InArena<'c> {
    pub(crate) arena: Arena<'c>,
    /// Octets before each packet that belong to it.
    pub(crate) headroom: usize,
    pub(crate) descs: Array<'c, overlane_desc>,
    pub(crate) metas: Option<Array<'c, overlane_meta>>,
}

#[cold]
fn out_of_range() -> Failure {
    Failure::Status(OVERLANE_E_RANGE)
}

impl<'c> InArena<'c> {
    /// The place of a packet and its headroom, if it lies in the arena.
    #[inline(always)]
    fn window(&self, desc: &overlane_desc) -> Option<Window<'c>> {
        let start = (desc.offset as usize).checked_sub(self.headroom)?;
        // An offset must be able to say where the packet is afterwards, wherever in it that is.
        let end = desc.offset.checked_add(desc.len)?;
        self.arena.window(start, end as usize)
    }

    #[cold]
    fn outside(&self, desc: &overlane_desc) -> Failure {
        let (offset, len) = (desc.offset as usize, desc.len as usize);
        Failure::Range { offset, len, headroom: self.headroom, memory: self.arena.len() }
    }
}

impl<'c> Packets<'c> for InArena<'c> {
    fn len(&self) -> usize {
        self.descs.len()
    }

    #[inline(always)]
    fn check(&self, index: usize, way: Way) -> Result<(), Failure> {
        if self.metas.is_some() {
            return Packets::get(self, index, way).map(|_| ());
        }
        let desc = self.descs.get(index).ok_or_else(out_of_range)?;
        if self.window(&desc).is_none() {
            return Err(self.outside(&desc));
        }
        check_ecn(desc.ecn, way)
    }

    #[inline(always)]
    fn get(&self, index: usize, way: Way) -> Result<Packet<'c>, Failure> {
        let desc = self.descs.get(index).ok_or_else(out_of_range)?;
        let Some(window) = self.window(&desc) else { return Err(self.outside(&desc)) };
        let meta = self.metas.as_ref().and_then(|metas| metas.get(index));
        packet(window, self.headroom..self.headroom + desc.len as usize, desc.ecn, meta.as_ref(), way)
    }

    #[inline(always)]
    fn done(&self, index: usize, way: Way, frame: &Frame<'_>) {
        let Some(mut desc) = self.descs.get(index) else { return };
        let start = (desc.offset as usize).saturating_sub(self.headroom);
        desc.offset = (start + frame.range().start) as u32;
        desc.len = frame.len() as u32;
        desc.vni = frame.vni().map_or(OVERLANE_NONE, |vni| vni.get());
        (desc.verdict, desc.target) = verdict(frame.verdict());
        if let Way::Encap(_) = way {
            desc.ecn = frame.ecn();
        }
        self.descs.set(index, desc);
        if let Some(metas) = &self.metas
            && let Some(mut meta) = metas.get(index)
        {
            describe(&mut meta, way, frame);
            metas.set(index, meta);
        }
    }
}

impl<'c> Packets<'c> for Buffers<'c> {
    fn len(&self) -> usize {
        Buffers::len(self)
    }

    #[inline]
    fn check(&self, index: usize, way: Way) -> Result<(), Failure> {
        Packets::get(self, index, way).map(|_| ())
    }

    #[inline]
    fn get(&self, index: usize, way: Way) -> Result<Packet<'c>, Failure> {
        let (buffer, window) = Buffers::get(self, index).ok_or_else(out_of_range)??;
        let (offset, len, memory) = (buffer.offset, buffer.len, buffer.capacity);
        let end = offset.checked_add(len).filter(|end| *end <= memory && u32::try_from(len).is_ok());
        let end = end.ok_or(Failure::Range { offset, len, headroom: 0, memory })?;
        packet(window, offset..end, buffer.ecn, Some(&buffer.meta), way)
    }

    #[inline]
    fn done(&self, index: usize, way: Way, frame: &Frame<'_>) {
        let Some(Ok((mut buffer, _))) = Buffers::get(self, index) else { return };
        (buffer.offset, buffer.len) = (frame.range().start, frame.len());
        buffer.vni = frame.vni().map_or(OVERLANE_NONE, |vni| vni.get());
        (buffer.verdict, buffer.target) = verdict(frame.verdict());
        if let Way::Encap(_) = way {
            buffer.ecn = frame.ecn();
        }
        describe(&mut buffer.meta, way, frame);
        self.set(index, buffer);
    }
}

#[inline(always)]
fn check_ecn(ecn: u8, way: Way) -> Result<(), Failure> {
    match way {
        Way::Decap(_) if ecn > 3 => Err(Failure::Value { what: "ecn", value: ecn.into() }),
        _ => Ok(()),
    }
}

#[inline(always)]
fn packet<'c>(
    window: Window<'c>,
    range: Range<usize>,
    ecn: u8,
    meta: Option<&overlane_meta>,
    way: Way,
) -> Result<Packet<'c>, Failure> {
    let mut packet = Packet { window, range, ecn: 0, source: None, group: None, segment_len: 0 };
    check_ecn(ecn, way)?;
    if let Way::Decap(source) = way {
        (packet.ecn, packet.source) = (ecn, source);
    }
    if let Some(meta) = meta {
        let group = meta.group()?;
        match way {
            Way::Encap(_) => (packet.group, packet.segment_len) = (group, meta.segment_len as usize),
            Way::Decap(_) => packet.source = meta.source.stated()?.or(packet.source),
        }
    }
    Ok(packet)
}

#[inline]
fn describe(meta: &mut overlane_meta, way: Way, frame: &Frame<'_>) {
    match way {
        Way::Encap(_) => meta.flow_hash = frame.flow_hash(),
        Way::Decap(_) => meta.set_group(frame.group()),
    }
}

/// Decides on a batch in an arena: refuses it whole, or gives every packet its verdict.
#[inline(always)]
pub(crate) fn run_arena<'c>(
    engine: &mut Engine<Heap>,
    now: u64,
    way: Way,
    packets: InArena<'c>,
    turn: &mut Turn<'c>,
) -> Result<(), Refusal> {
    // Compiled for the one way, without `metas`, as most batches are.
    if packets.metas.is_none() {
        let packets = InArena { metas: None, ..packets };
        return run_here(engine, now, way, &packets, turn);
    }
    run(engine, now, way, &packets, turn)
}

/// Decides on a batch: refuses it whole, or gives every packet its verdict.
#[inline(never)]
pub(crate) fn run<'c>(
    engine: &mut Engine<Heap>,
    now: u64,
    way: Way,
    packets: &impl Packets<'c>,
    turn: &mut Turn<'c>,
) -> Result<(), Refusal> {
    run_here(engine, now, way, packets, turn)
}

#[inline(always)]
fn run_here<'c>(
    engine: &mut Engine<Heap>,
    now: u64,
    way: Way,
    packets: &impl Packets<'c>,
    turn: &mut Turn<'c>,
) -> Result<(), Refusal> {
    let now = Instant::from_millis(now);
    if let Way::Encap(port) = way {
        engine.encap(now, port, &mut [])?;
    }
    // What fits one group is checked as it is gathered, for it is decided on behind that.
    let mut checked = packets.len() > BATCH;
    if checked {
        check_from(packets, way, 0)?;
    }
    let mut first = 0;
    while first < packets.len() {
        first += group(engine, now, way, packets, turn, first, checked)?;
        checked = true;
    }
    Ok(())
}

/// Checks the packets from `first` on.
fn check_from<'c>(packets: &impl Packets<'c>, way: Way, first: usize) -> Result<(), Refusal> {
    for index in first..packets.len() {
        packets.check(index, way).map_err(|e| e.of_packet(index))?;
    }
    Ok(())
}

/// Decides on the packets from `first` on that lie one behind the other, and says how many: at
/// least one. Those that do not, or overlap, are taken after it. All are in order before one is
/// decided on: `checked` says that they are known to be.
#[inline(always)]
fn group<'c>(
    engine: &mut Engine<Heap>,
    now: Instant,
    way: Way,
    packets: &impl Packets<'c>,
    turn: &mut Turn<'c>,
    first: usize,
    checked: bool,
) -> Result<usize, Refusal> {
    let mut group = turn.group();
    let mut frames: heapless::Vec<Frame<'_>, BATCH> = heapless::Vec::new();
    for index in first..packets.len().min(first.saturating_add(BATCH)) {
        let packet = packets.get(index, way).map_err(|e| e.of_packet(index))?;
        let Some(octets) = group.take(&packet.window) else {
            if !checked {
                check_from(packets, way, index)?;
            }
            break;
        };
        let mut frame = Frame::new(octets, packet.range)?;
        if packet.segment_len != 0 || packet.ecn != 0 {
            frame = frame.with_segment_len(packet.segment_len).with_ecn(packet.ecn);
        }
        if let Some(source) = packet.source {
            frame = frame.with_source(source);
        }
        if let Some(group) = packet.group {
            frame = frame.with_group(group);
        }
        if frames.push(frame).is_err() {
            break;
        }
    }
    match way {
        Way::Encap(port) => engine.encap(now, port, &mut frames)?,
        Way::Decap(_) => engine.decap(now, &mut frames),
    }
    for (index, frame) in (first..).zip(&frames) {
        packets.done(index, way, frame);
    }
    // The first of a group always finds room.
    Ok(frames.len().max(1))
}

/// The copies of a frame that was flooded, from place `cursor` of the list on: how many there were, and
/// where to go on.
pub(crate) fn replicas(
    engine: &Engine<Heap>,
    frame: Frame<'_>,
    cursor: u32,
    to: &Array<'_, overlane_replica>,
) -> (usize, u32) {
    use overlane::engine::Replica;
    let (mut count, mut cursor) = (0, cursor);
    for (next, replica) in engine.replicas_from(&frame, cursor as usize).take(to.len()) {
        let mut copy = overlane_replica { ecn: frame.ecn(), ..zeroed() };
        match replica {
            Replica::Port(p) => (copy.kind, copy.id) = (OVERLANE_AT_PORT, p.0),
            Replica::Underlay { vtep, header } => {
                (copy.kind, copy.id, copy.header_len) = (OVERLANE_AT_VTEP, vtep.0, header.len() as u8);
                for (to, from) in copy.header.iter_mut().zip(header.as_slice()) {
                    *to = *from;
                }
            }
        }
        to.set(count, copy);
        (count, cursor) = (count + 1, next as u32);
    }
    (count, cursor)
}
