//! From the underlay to the devices.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::array;
use core::net::{IpAddr, Ipv4Addr};
use std::io::IoSlice;

use super::Clock;
use super::carry::{COPIES, Io, Origin, link_len};
use super::mind::Mind;
use crate::addr::{PortId, Vni};
use crate::engine::{BATCH, Frame, Verdict};
use crate::error::{DropReason, PuntReason};
use crate::linux::Offload;
use crate::linux::offload::{Gro, Group, MAX_HEADER_LEN, MAX_PARTS, Merger};
use crate::linux::sys::batch::RecvBatch;
use crate::linux::{BUFFER_LEN, Refused, Sent, VirtioNetHeader};
use crate::time::Instant;

/// Datagrams, each of them perhaps merged from many, that one turn takes from one socket.
pub(super) const SOCKET_QUOTA: usize = 16;

/// Datagrams of one turn from one socket, where the kernel merges as many as it does.
pub(super) const SOCKET_FRAMES: usize = SOCKET_QUOTA * 64;

/// Frames that are decided on and merged together.
const FRAMES: usize = 1024;

/// A lane of the merger that is a VNI's flood list and no port.
const FLOOD: u32 = 1 << 31;

/// What was received into one room.
#[derive(Debug, Clone, Copy)]
struct Got {
    len: usize,
    /// Length of each datagram in it; the last one may be shorter.
    segment: usize,
    /// UDP payload per datagram of an inner superframe that came whole.
    uso: u16,
    from: IpAddr,
    ecn: u8,
}

impl Got {
    const NONE: Got = Got { len: 0, segment: 1, uso: 0, from: IpAddr::V4(Ipv4Addr::UNSPECIFIED), ecn: 0 };

    fn datagrams(&self) -> usize {
        self.len.div_ceil(self.segment.max(1))
    }
}

/// An inner frame that waits to be written to a device.
#[derive(Debug, Clone, Copy)]
struct Item {
    at: u32,
    len: u32,
    /// A port, or a VNI whose flood list it goes to.
    lane: u32,
    vni: Option<Vni>,
    uso: u16,
}

/// Packets from the underlay, on their way.
pub(super) struct Rx {
    rooms: Box<[u8]>,
    got: [Got; SOCKET_QUOTA],
    batch: RecvBatch,
    items: Vec<Item>,
    merger: Merger,
    /// Copies of floods from the socket that is served.
    copies: usize,
    /// Whether frames may be joined.
    merge: bool,
    /// How many datagrams one call receives.
    at_once: usize,
}

impl Rx {
    pub(super) fn new(level: Offload) -> Rx {
        Rx {
            rooms: vec![0; SOCKET_QUOTA * BUFFER_LEN].into_boxed_slice(),
            got: [Got::NONE; SOCKET_QUOTA],
            batch: RecvBatch::new(SOCKET_QUOTA),
            items: Vec::with_capacity(FRAMES),
            merger: Merger::new(FRAMES),
            copies: 0,
            merge: level >= Offload::Gso,
            at_once: if level == Offload::None { 1 } else { SOCKET_QUOTA },
        }
    }

    /// Takes datagrams from one socket; how many.
    pub(super) fn serve<M: Mind>(&mut self, mind: &mut M, io: &mut Io, clock: Clock, index: usize) -> usize {
        let Some(quota) = io.sockets.get(index).map(|slot| slot.quota.get()) else { return 0 };
        let (mut rooms, mut total) = (0, 0);
        self.copies = 0;
        while rooms < quota && self.copies < COPIES {
            let want = (quota - rooms).min(self.at_once);
            let (filled, lost) = self.receive(mind, io, index, want);
            rooms += filled;
            total += lost;
            let mut first = 0;
            while first < filled {
                let last = self.portion(first, filled);
                total += match last - first {
                    1 if self.got.get(first).map_or(0, Got::datagrams) == 1 => {
                        self.open::<_, 1>(mind, io, clock.now, first, last)
                    }
                    _ => self.open::<_, BATCH>(mind, io, clock.now, first, last),
                };
                if !self.items.is_empty() {
                    self.deliver(mind, io);
                }
                first = last;
            }
            if filled < want {
                break;
            }
        }
        if let Some(slot) = io.sockets.get_mut(index) {
            // Several in one room mean that more are coming.
            slot.quota.had(rooms, total > rooms, clock.micros);
            slot.quota.flooded(rooms, self.copies);
            slot.count_lost(mind);
        }
        total
    }

    /// Fills rooms; how many, and how many datagrams were dropped: empty ones, and those that nobody can
    /// take apart.
    fn receive<M: Mind>(&mut self, mind: &mut M, io: &mut Io, index: usize, want: usize) -> (usize, usize) {
        let Some(slot) = io.sockets.get_mut(index) else { return (0, 0) };
        let (got, mut at, mut empty) = (&mut self.got, 0, 0);
        let received =
            slot.socket.recv_batch(&mut self.batch, &mut self.rooms, BUFFER_LEN, want, |incoming| {
                if let Some(place) = got.get_mut(at) {
                    let from = incoming.from.map_or(Got::NONE.from, |a| a.ip());
                    let segment = incoming.segment.map_or(incoming.len, usize::from).max(1);
                    *place = Got { len: incoming.len, segment, uso: 0, from, ecn: incoming.tos & 3 };
                }
                at += 1;
                empty += usize::from(incoming.len == 0 && !incoming.truncated);
            });
        let filled = match received {
            Ok(filled) => filled,
            Err(error) => {
                io.failure.get_or_insert(error);
                0
            }
        };
        for _ in 0..empty {
            mind.count_drop(DropReason::Truncated, None, None, None);
        }
        let mut lost = empty;
        for (got, room) in self.got.iter_mut().zip(self.rooms.chunks_exact(BUFFER_LEN)).take(filled) {
            if got.segment >= got.len {
                continue;
            }
            match Gro::of(room.get(..got.len).unwrap_or_default(), got.segment) {
                Gro::Datagrams => {}
                Gro::Superframe => {
                    got.uso = got.segment as u16;
                    got.segment = got.len;
                }
                Gro::Unclear => {
                    let vtep = mind.tables().vteps().by_addr(got.from);
                    for _ in 0..got.datagrams() {
                        mind.count_drop(DropReason::BadLength, None, vtep, None);
                    }
                    lost += got.datagrams();
                    got.len = 0;
                }
            }
        }
        (filled, lost)
    }

    /// The end of the rooms from `first` on whose datagrams fit the memory for frames.
    fn portion(&self, first: usize, filled: usize) -> usize {
        let (mut last, mut frames) = (first, 0);
        while last < filled {
            frames += self.got.get(last).map_or(0, Got::datagrams);
            if frames > FRAMES && last > first {
                break;
            }
            last += 1;
        }
        last
    }

    /// Decides on the datagrams of some rooms, and notes the frames that go to devices; how many
    /// datagrams there were. `N` are handed to the engine at a time.
    fn open<M: Mind, const N: usize>(
        &mut self,
        mind: &mut M,
        io: &mut Io,
        now: Instant,
        first: usize,
        last: usize,
    ) -> usize {
        let Rx { rooms, got, items, merger, merge, .. } = self;
        let got = got.get(first..last).unwrap_or_default();
        let rooms = rooms.chunks_exact_mut(BUFFER_LEN).skip(first);
        let mut datagrams = rooms.zip(got).flat_map(|(room, got)| {
            let datagrams = room.get_mut(..got.len).unwrap_or_default().chunks_mut(got.segment.max(1));
            datagrams.map(move |d| (d, got))
        });
        let mut places = got.iter().enumerate().flat_map(|(n, got)| {
            let start = (first + n) * BUFFER_LEN;
            (start..start.saturating_add(got.len)).step_by(got.segment.max(1)).map(move |at| (at, got))
        });
        let mut total = 0;
        loop {
            let mut count = 0;
            let mut frames: [Frame<'_>; N] = array::from_fn(|_| match datagrams.next() {
                Some((datagram, got)) => {
                    count += 1;
                    let len = datagram.len();
                    let frame = Frame::new(datagram, 0..len).unwrap_or_default();
                    frame.with_source(got.from).with_ecn(got.ecn)
                }
                None => Frame::default(),
            });
            if count == 0 {
                return total;
            }
            total += count;
            let batch = frames.get_mut(..count).unwrap_or_default();
            mind.decap(now, batch);
            for frame in batch {
                let Some((at, got)) = places.next() else { return total };
                let (range, vni) = (frame.range(), frame.vni());
                let (lane, joined) = match frame.verdict() {
                    // Alone, it has nobody to be joined with.
                    Some(Verdict::ToPort(port)) if N == 1 => {
                        let header = if got.uso > 0 { uso_header(frame.bytes(), got.uso) } else { None };
                        if let Some(reason) = io.write(port, frame.bytes(), header) {
                            mind.count_drop(reason, vni, None, Some(port));
                        }
                        continue;
                    }
                    Some(Verdict::ToPort(port)) => {
                        let joined = merge.then(|| Joined::of(io, port, frame.bytes()));
                        (u32::from(port.0), joined.unwrap_or_default())
                    }
                    Some(Verdict::Flood(vni)) => {
                        let mut joined = Joined { any: *merge, udp: *merge };
                        for port in flood_ports(mind, vni) {
                            let one = Joined::of(io, port, frame.bytes());
                            joined = Joined { any: joined.any && one.any, udp: joined.udp && one.udp };
                            if !joined.any {
                                break;
                            }
                        }
                        (FLOOD | vni.get(), joined)
                    }
                    Some(Verdict::Punt(reason)) => {
                        punt(mind, io, now, frame, got.from, reason);
                        continue;
                    }
                    Some(Verdict::ToUnderlay(_) | Verdict::Drop(_)) | None => continue,
                };
                let number = items.len();
                let start = at.saturating_add(range.start) as u32;
                let item = Item { at: start, len: range.len() as u32, lane, vni, uso: got.uso };
                merger.merge_udp(joined.udp);
                let taken = if joined.any && item.uso == 0 {
                    merger.push(number as u16, lane, frame.bytes())
                } else {
                    merger.push_alone(number as u16, lane, frame.bytes())
                };
                match taken {
                    Ok(()) => items.push(item),
                    // Not from a kernel: one room had more datagrams than fit.
                    Err(_) => {
                        let port = (lane & FLOOD == 0).then_some(PortId(lane as u16));
                        mind.count_drop(DropReason::RxTruncated, vni, None, port);
                    }
                }
            }
        }
    }

    /// Writes the frames that were noted, joined where they may be.
    fn deliver<M: Mind>(&mut self, mind: &mut M, io: &mut Io) {
        let Rx { rooms, items, merger, .. } = self;
        for group in merger.groups() {
            let Some(item) = items.get(usize::from(group.head())).copied() else { continue };
            let lane = item.lane;
            let (flood, ports) = match lane & FLOOD {
                0 => (None, 1),
                _ => {
                    let vni = Vni::truncate(lane & !FLOOD);
                    let ports = flood_ports(mind, vni).count();
                    self.copies = self.copies.saturating_add(ports);
                    (Some(vni), ports)
                }
            };
            let port_at = |mind: &M, n: usize| match flood {
                None => Some(PortId(lane as u16)),
                Some(vni) => flood_ports(mind, vni).nth(n),
            };
            if group.frames() == 1 {
                for n in 0..ports {
                    let Some(port) = port_at(mind, n) else { continue };
                    write_one(mind, io, rooms, &item, port);
                }
                continue;
            }
            let head_at = item.at as usize..(item.at as usize).saturating_add(item.len as usize);
            let mut before = [0; MAX_HEADER_LEN];
            let head = rooms.get_mut(head_at).unwrap_or_default();
            for (to, from) in before.iter_mut().zip(&*head) {
                *to = *from;
            }
            for n in 0..ports {
                let Some(port) = port_at(mind, n) else { continue };
                let written = write_group(io, rooms, items, merger, &group, port);
                if let (Some(slot), Ok(()) | Err(Refusal::Join)) = (io.slot_mut(port), &written) {
                    slot.had_joined(written.is_ok());
                }
                match written {
                    Ok(()) => {}
                    Err(Refusal::Lost(reason)) => {
                        for _ in 0..group.frames() {
                            mind.count_drop(reason, item.vni, None, Some(port));
                        }
                    }
                    Err(Refusal::Join) => {
                        // Whole again, and one by one.
                        let head = rooms.get_mut(item.at as usize..).unwrap_or_default();
                        for (to, from) in head.iter_mut().zip(before).take(item.len as usize) {
                            *to = from;
                        }
                        io.counters.joining_refused = io.counters.joining_refused.wrapping_add(1);
                        for (number, _) in merger.parts(&group) {
                            let Some(item) = items.get(usize::from(number)).copied() else { continue };
                            write_one(mind, io, rooms, &item, port);
                        }
                    }
                }
            }
        }
        merger.clear();
        items.clear();
    }
}

/// The devices that a flood from the tunnel goes to.
fn flood_ports<M: Mind>(mind: &M, vni: Vni) -> impl Iterator<Item = PortId> + '_ {
    let tables = mind.tables();
    tables.vnis().index_of(vni).into_iter().flat_map(|index| tables.floods().ports(index))
}

/// Whether a frame may become a part of a joined one on a device.
#[derive(Debug, Clone, Copy, Default)]
struct Joined {
    any: bool,
    /// Even if it is of UDP, which Linux takes joined since 6.2.
    udp: bool,
}

impl Joined {
    #[inline]
    fn of(io: &Io, port: PortId, frame: &[u8]) -> Joined {
        io.slot(port).map_or(Joined::default(), |slot| {
            let mtu = usize::from(slot.tap.mtu());
            let fits = frame.len() <= mtu || frame.len().saturating_sub(link_len(frame)) <= mtu;
            Joined { any: slot.merges && fits, udp: slot.merges_udp }
        })
    }
}

/// Why a joined frame was not written.
enum Refusal {
    Lost(DropReason),
    /// The device takes none of this kind.
    Join,
}

fn write_group(
    io: &mut Io,
    rooms: &mut [u8],
    items: &[Item],
    merger: &Merger,
    group: &Group,
    port: PortId,
) -> Result<(), Refusal> {
    let place = |number: u16| items.get(usize::from(number));
    let Some(mtu) = io.slot(port).map(|slot| slot.tap.mtu()) else {
        return Err(Refusal::Lost(io.nowhere()));
    };
    let head =
        place(group.head()).map_or(0..0, |i| i.at as usize..(i.at as usize).saturating_add(i.len as usize));
    let Ok(header) = merger.finish(group, rooms.get_mut(head).unwrap_or_default(), mtu) else {
        return Err(Refusal::Lost(io.refused(Refused::TooBig, group.frames() as u64)));
    };
    let header = header.to_bytes();
    let mut parts = [IoSlice::new(&[]); MAX_PARTS + 1];
    let mut used = 0;
    let bodies = merger.parts(group).map(|(number, range)| {
        let start = place(number).map_or(0, |i| i.at as usize);
        rooms.get(start.saturating_add(range.start)..start.saturating_add(range.end)).unwrap_or_default()
    });
    for (part, bytes) in parts.iter_mut().zip(core::iter::once(&header[..]).chain(bodies)) {
        *part = IoSlice::new(bytes);
        used += 1;
    }
    let Some(slot) = io.slot_mut(port) else { return Ok(()) };
    let result = slot.tap.write_parts(parts.get(..used).unwrap_or_default());
    if let Ok(Sent::Refused(Refused::Malformed)) = result {
        return Err(Refusal::Join);
    }
    io.counters.joined = io.counters.joined.wrapping_add(1);
    match io.written(result, group.frames() as u64) {
        None => Ok(()),
        Some(reason) => Err(Refusal::Lost(reason)),
    }
}

fn write_one<M: Mind>(mind: &mut M, io: &mut Io, rooms: &[u8], item: &Item, port: PortId) {
    let start = item.at as usize;
    let frame = rooms.get(start..start.saturating_add(item.len as usize)).unwrap_or_default();
    let header = if item.uso > 0 { uso_header(frame, item.uso) } else { None };
    if let Some(reason) = io.write(port, frame, header) {
        mind.count_drop(reason, item.vni, None, Some(port));
    }
}

#[cold]
fn punt<M: Mind>(
    mind: &mut M,
    io: &mut Io,
    now: Instant,
    frame: &Frame<'_>,
    from: IpAddr,
    reason: PuntReason,
) {
    let packet = (frame.bytes(), frame.vni(), frame.flow_hash());
    if let Some(drop) = io.punt(mind.tables(), now, packet, Origin::Underlay(from), reason) {
        let vtep = mind.tables().vteps().by_addr(from);
        mind.count_drop(drop, frame.vni(), vtep, None);
    }
}

/// What is still to be done to an inner UDP superframe that a kernel peer handed over.
#[cold]
fn uso_header(frame: &[u8], size: u16) -> Option<VirtioNetHeader> {
    let planned = VirtioNetHeader::plan(frame, u16::MAX).ok()?;
    if planned.flags & VirtioNetHeader::NEEDS_CSUM == 0 || planned.csum_offset != 6 {
        return None;
    }
    let hdr_len = planned.csum_start.checked_add(8)?;
    Some(VirtioNetHeader { gso_type: VirtioNetHeader::GSO_UDP_L4, gso_size: size, hdr_len, ..planned })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ipv4::protocol;

    #[test]
    fn an_inner_superframe_without_tags_says_its_size() {
        // 14 + 20 + 8 octets and a payload of 8, the checksum field the pseudo-header sum.
        let mut frame = vec![0; 50];
        frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
        frame[16..18].copy_from_slice(&[0, 36]);
        frame[23] = protocol::UDP;
        frame[38..40].copy_from_slice(&[0, 16]);
        frame[40..42].copy_from_slice(&[0, 33]);
        let header = uso_header(&frame, 4).unwrap();
        assert_eq!((header.gso_type, header.gso_size, header.hdr_len), (VirtioNetHeader::GSO_UDP_L4, 4, 42));
        assert_eq!((header.flags, header.csum_start, header.csum_offset), (1, 34, 6));
        frame[41] = 34;
        assert_eq!(uso_header(&frame, 4), None, "a checksum that was finished: nobody left it open");
    }
}
