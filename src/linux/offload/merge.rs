//! Merging the frames of one receive batch, as the kernel's generic receive offload does.

use core::ops::Range;

use super::flow::{Alone, CWR, FIN, Key, MAX_PACKET, PSH, RST, SYN, Segment, URG};
use super::virtio::{Oversize, TCP_CHECKSUM, UDP_CHECKSUM, VirtioNetHeader};
use crate::wire::checksum::{Sum, update16};
use crate::wire::ipv4::protocol;

/// The most frames that one group joins, for TCP and UDP (Linux stops UDP at 64 as well). A write of
/// a group with its virtio header takes one `iovec` more.
pub const MAX_PARTS: usize = 64;

/// Flows that may be open at a time: two for each value of four bits of their hash.
const SETS: usize = 16;

/// The merger has as many frames as it was made for: write its groups, then [`Merger::clear`] it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl core::fmt::Display for Full {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the batch holds no more frames")
    }
}

impl core::error::Error for Full {}

/// Frames that are written as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    lane: u32,
    head: u16,
    /// In the merger's list.
    first: u16,
    last: u16,
    parts: u16,
    /// Payload octets of the head.
    gso_size: u16,
    network: u16,
    transport: u16,
    header_len: u16,
    v6: bool,
    tcp: bool,
    /// FIN and PSH of all parts.
    flags: u8,
    /// Of the IP packet.
    packet_len: u32,
    /// Of the whole frame.
    len: u32,
}

impl Group {
    /// Where the group goes, as [`Merger::push`] was told.
    #[inline]
    pub fn lane(&self) -> u32 {
        self.lane
    }

    /// The number of the frame whose headers the group has, the first one.
    #[inline]
    pub fn head(&self) -> u16 {
        self.head
    }

    /// How many frames were joined: 1 to [`MAX_PARTS`].
    #[inline]
    pub fn frames(&self) -> usize {
        usize::from(self.parts)
    }

    /// Octets of the joined frame, 65,557 at most where frames were joined.
    #[inline]
    pub fn octets(&self) -> usize {
        self.len as usize
    }
}

/// Merges consecutive TCP segments and equal UDP datagrams of a batch into superframes, by the rules of
/// the kernel's GRO (`net/core/gro.c`, `net/ipv4/tcp_offload.c`, `udp_offload.c`). It keeps numbers
/// and copies of headers, and borrows no frame; its memory is what [`new`](Merger::new) took.
///
/// A frame joins the open group of its flow where all of this holds; otherwise the group is closed,
/// and the frame opens one of its own or stands alone. So frames of a flow are never reordered.
///
/// - Lane, MAC addresses, VLAN tags, IP addresses, ports, type of service or traffic class, flow
///   label, TTL or hop limit, DF: equal. IPv4 has no options and a right header checksum, IPv6 no
///   extension headers; no fragment; no octets behind the IP packet.
/// - IPv4 identification: one up from frame to frame; or with DF the same in all, which means nothing
///   there (RFC 6864, section 4.1).
/// - The checksum is right, or unfinished: the field holds the pseudo-header sum, which a kernel peer
///   on the same machine leaves. A frame with a wrong one stands alone, as it is.
/// - TCP: the sequence number is the next one; acknowledgement number, window, urgent pointer and
///   options (octet for octet) are equal, flags too but for FIN and PSH. CWR only on the first. SYN,
///   RST and URG never. There is payload, no longer than the first's. A shorter one, FIN and PSH end
///   the group with that frame.
/// - UDP: a checksum is there (not zero), and payload, no longer than the first's. A shorter one ends
///   the group. This is what the kernel does where UDP packets are forwarded (`rx-udp-gro-forwarding`).
///   It wants a device that cuts them again (USO): see [`merge_udp`](Merger::merge_udp).
/// - No more than [`MAX_PARTS`] frames and 65,535 octets of IP packet in a group.
///
/// Up to 32 flows are open at a time; two flows share a place at most, and a third closes the one
/// that was quiet for longer.
///
/// ```
/// use overlane::linux::offload::Merger;
/// let mut merger = Merger::new(64);
/// let mut arp = [0u8; 60];
/// arp[12..14].copy_from_slice(&[0x08, 0x06]);
/// merger.push(0, 7, &arp)?;
/// let group = merger.groups().next().expect("a group of one");
/// assert_eq!((group.lane(), group.head(), group.frames()), (7, 0, 1));
/// assert_eq!(merger.parts(&group).collect::<Vec<_>>(), [(0, 0..60)]);
/// assert!(merger.finish(&group, &mut arp, 1450).is_ok());
/// # Ok::<(), overlane::linux::offload::Full>(())
/// ```
#[derive(Debug, Clone)]
pub struct Merger {
    parts: Box<[Part]>,
    used: usize,
    groups: Box<[Group]>,
    grouped: usize,
    sets: [Set; SETS],
    udp: bool,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    frame: u16,
    /// The next part of the group; the last one names itself.
    next: u16,
    start: u32,
    end: u32,
}

/// Two places for flows whose hashes begin alike.
#[derive(Debug, Clone, Copy)]
struct Set {
    ways: [Open; 2],
    /// The place that was used last is the second one.
    second: bool,
}

/// The open group of a flow, and what the next frame must have.
#[derive(Debug, Clone, Copy)]
struct Open {
    open: bool,
    hash: u32,
    group: u16,
    key: Key,
    seq: u32,
    first_id: u16,
    /// All frames have the same identification.
    fixed_id: bool,
}

impl Open {
    const CLOSED: Open =
        Open { open: false, hash: 0, group: 0, key: Key::EMPTY, seq: 0, first_id: 0, fixed_id: false };

    #[inline]
    fn is_of(&self, hash: u32) -> bool {
        self.open && self.hash == hash
    }

    /// Whether `new` goes on where the open group ends; its checksum apart.
    #[inline]
    fn is_followed_by(&self, new: &Segment, group: &Group) -> bool {
        let offset = new.id.wrapping_sub(self.first_id);
        let fixed = self.fixed_id || (group.parts == 1 && new.dont_fragment);
        let counts = offset == group.parts && !self.fixed_id;
        (new.v6 || counts || (offset == 0 && fixed))
            && (!new.tcp || new.seq == self.seq)
            && new.flags & CWR == 0
            && new.payload_len <= group.gso_size
            && group.packet_len.wrapping_add(u32::from(new.payload_len)) <= MAX_PACKET
            && new.key == self.key
    }
}

impl Merger {
    /// A merger for batches of up to `capacity` frames, 65,534 at most: 44 octets of memory for each.
    /// UDP is merged, too.
    pub fn new(capacity: usize) -> Merger {
        let capacity = capacity.min(usize::from(u16::MAX) - 1);
        let group = Group {
            lane: 0,
            head: 0,
            first: 0,
            last: 0,
            parts: 0,
            gso_size: 0,
            network: 0,
            transport: 0,
            header_len: 0,
            v6: false,
            tcp: false,
            flags: 0,
            packet_len: 0,
            len: 0,
        };
        Merger {
            parts: vec![Part { frame: 0, next: 0, start: 0, end: 0 }; capacity].into(),
            used: 0,
            groups: vec![group; capacity].into(),
            grouped: 0,
            sets: [Set { ways: [Open::CLOSED; 2], second: false }; SETS],
            udp: true,
        }
    }

    /// Whether UDP datagrams are merged from now on. Off where the device does not cut them again:
    /// a TAP has USO since Linux 6.2.
    pub fn merge_udp(&mut self, on: bool) {
        self.udp = on;
    }

    /// Takes frame number `index` of the batch, which goes to `lane` (a port, a device: frames of
    /// different lanes are never joined). The order of the calls is the order of the frames.
    ///
    /// # Errors
    ///
    /// [`Full`]: there are `capacity` frames; this one was not taken.
    pub fn push(&mut self, index: u16, lane: u32, frame: &[u8]) -> Result<(), Full> {
        if self.used >= self.parts.len() {
            return Err(Full);
        }
        let mut segment = Segment::EMPTY;
        match segment.read(frame, lane, self.udp) {
            Ok(()) => self.push_segment(index, frame, &segment),
            Err(alone) => {
                self.close_for(alone);
                self.start(index, lane, frame);
            }
        }
        Ok(())
    }

    /// Takes a frame as [`push`](Merger::push) does, but as one that stands alone: it joins no group, none
    /// joins it, and the open group of its flow is closed, so that the flow keeps its order. A fragment
    /// closes all. For what the device of this lane does not take joined.
    ///
    /// # Errors
    ///
    /// [`Full`], as there.
    pub fn push_alone(&mut self, index: u16, lane: u32, frame: &[u8]) -> Result<(), Full> {
        if self.used >= self.parts.len() {
            return Err(Full);
        }
        let mut segment = Segment::EMPTY;
        match segment.read(frame, lane, self.udp) {
            Ok(()) => self.close(segment.hash),
            Err(alone) => self.close_for(alone),
        }
        self.start(index, lane, frame);
        Ok(())
    }

    /// The groups in the order of their first frames, which is the order to write them in.
    pub fn groups(&self) -> impl Iterator<Item = Group> {
        self.groups.iter().take(self.grouped).copied()
    }

    /// The parts of a group of this merger, in order: the number of a frame, and a range of octets in
    /// that frame. First all of the head, then payloads.
    pub fn parts(&self, group: &Group) -> impl Iterator<Item = (u16, Range<usize>)> {
        let mut at = group.first;
        let parts = (0..group.parts).map_while(move |_| {
            let part = self.parts.get(usize::from(at))?;
            at = part.next;
            Some((part.frame, part.start as usize..part.end as usize))
        });
        parts.fuse()
    }

    /// Makes `head`, the first frame of `group`, the head of the joined frame, and gives the virtio
    /// header to write before it: IP and UDP length, FIN and PSH are those of the whole, the checksum
    /// field has the pseudo-header sum. `mtu` is the device's, as for [`VirtioNetHeader::plan`].
    ///
    /// A group of one is left as it is, and gets what `plan` gives. So does a `head` that is not the
    /// group's.
    ///
    /// TCP segments longer than the MTU allows (superframes, from a kernel peer) are cut to fit.
    ///
    /// # Errors
    ///
    /// [`Oversize`], with nothing written: UDP datagrams longer than the MTU allows, or as `plan` says.
    pub fn finish(&self, group: &Group, head: &mut [u8], mtu: u16) -> Result<VirtioNetHeader, Oversize> {
        if group.parts < 2 || head.len() < usize::from(group.header_len) {
            return VirtioNetHeader::plan(head, mtu);
        }
        let headers = group.header_len.saturating_sub(group.network);
        let room = mtu.checked_sub(headers).filter(|room| *room > 0).ok_or(Oversize)?;
        if !group.tcp && room < group.gso_size {
            return Err(Oversize);
        }
        let (gso_type, csum_offset) = match (group.tcp, group.v6) {
            (true, false) => (VirtioNetHeader::GSO_TCPV4, TCP_CHECKSUM),
            (true, true) => (VirtioNetHeader::GSO_TCPV6, TCP_CHECKSUM),
            (false, _) => (VirtioNetHeader::GSO_UDP_L4, UDP_CHECKSUM),
        };
        let Some(cwr) = group.patch(head) else {
            return VirtioNetHeader::plan(head, mtu);
        };
        Ok(VirtioNetHeader {
            flags: VirtioNetHeader::NEEDS_CSUM,
            gso_type: if cwr { gso_type | VirtioNetHeader::GSO_ECN } else { gso_type },
            hdr_len: group.header_len,
            gso_size: group.gso_size.min(room),
            csum_start: group.transport,
            csum_offset,
        })
    }

    /// Forgets all frames, for the next batch.
    pub fn clear(&mut self) {
        self.used = 0;
        self.grouped = 0;
        self.close_all();
    }

    fn push_segment(&mut self, index: u16, frame: &[u8], segment: &Segment) {
        if let Some(open) = way_of(&mut self.sets, segment.hash) {
            if let Some(group) = self.groups.get_mut(usize::from(open.group))
                && open.is_followed_by(segment, group)
                && segment.is_intact(frame)
            {
                let at = self.used as u16;
                let start = u32::from(segment.header_len);
                let len = u32::from(segment.payload_len);
                if let Some(part) = self.parts.get_mut(usize::from(at)) {
                    *part = Part { frame: index, next: at, start, end: start.wrapping_add(len) };
                }
                if let Some(before) = self.parts.get_mut(usize::from(group.last)) {
                    before.next = at;
                }
                self.used = self.used.wrapping_add(1);
                group.last = at;
                group.parts = group.parts.wrapping_add(1);
                group.flags |= segment.flags & (FIN | PSH);
                group.packet_len = group.packet_len.wrapping_add(len);
                group.len = group.len.wrapping_add(len);
                open.seq = open.seq.wrapping_add(len);
                open.fixed_id |= segment.id == open.first_id;
                open.open = !segment.ends(group.gso_size) && usize::from(group.parts) < MAX_PARTS;
                return;
            }
            open.open = false;
        }
        let number = self.start(index, segment.key.lane, frame);
        let Some(group) = self.groups.get_mut(usize::from(number)) else { return };
        let stops = segment.flags & (SYN | RST | URG | FIN | PSH) != 0;
        if stops || !segment.is_intact(frame) {
            return;
        }
        group.gso_size = segment.payload_len;
        group.network = segment.network;
        group.transport = segment.transport;
        group.header_len = segment.header_len;
        group.v6 = segment.v6;
        group.tcp = segment.tcp;
        group.packet_len = group.len.wrapping_sub(u32::from(segment.network));
        let open = Open {
            open: true,
            hash: segment.hash,
            group: number,
            key: segment.key,
            seq: segment.seq.wrapping_add(u32::from(segment.payload_len)),
            first_id: segment.id,
            fixed_id: false,
        };
        place(&mut self.sets, open);
    }

    /// A new group of this frame alone; its number.
    fn start(&mut self, index: u16, lane: u32, frame: &[u8]) -> u16 {
        let (at, number, len) = (self.used as u16, self.grouped as u16, frame.len() as u32);
        if let Some(part) = self.parts.get_mut(usize::from(at)) {
            *part = Part { frame: index, next: at, start: 0, end: len };
        }
        if let Some(group) = self.groups.get_mut(usize::from(number)) {
            *group = Group {
                lane,
                head: index,
                first: at,
                last: at,
                parts: 1,
                gso_size: 0,
                network: 0,
                transport: 0,
                header_len: 0,
                v6: false,
                tcp: false,
                flags: 0,
                packet_len: 0,
                len,
            };
        }
        self.used = self.used.wrapping_add(1);
        self.grouped = self.grouped.wrapping_add(1);
        number
    }

    fn close_for(&mut self, alone: Alone) {
        match alone {
            Alone::NoFlow => {}
            Alone::Flow(hash) => self.close(hash),
            Alone::AnyFlow => self.close_all(),
        }
    }

    fn close(&mut self, hash: u32) {
        if let Some(open) = way_of(&mut self.sets, hash) {
            open.open = false;
        }
    }

    fn close_all(&mut self) {
        for set in &mut self.sets {
            for way in &mut set.ways {
                way.open = false;
            }
        }
    }
}

#[inline]
fn set_of(sets: &mut [Set; SETS], hash: u32) -> &mut Set {
    &mut sets[(hash >> 28) as usize]
}

/// The open group of the flow with this hash; its place counts as used.
#[inline]
fn way_of(sets: &mut [Set; SETS], hash: u32) -> Option<&mut Open> {
    let set = set_of(sets, hash);
    let [first, second] = &mut set.ways;
    if first.is_of(hash) {
        set.second = false;
        return Some(first);
    }
    if second.is_of(hash) {
        set.second = true;
        return Some(second);
    }
    None
}

/// Puts a flow that is in neither place into one that is free, or into the one that was not used last.
#[inline]
fn place(sets: &mut [Set; SETS], open: Open) {
    let set = set_of(sets, open.hash);
    let [first, second] = &mut set.ways;
    set.second = match (first.open, second.open) {
        (false, _) => false,
        (true, false) => true,
        (true, true) => !set.second,
    };
    *(if set.second { second } else { first }) = open;
}

impl Group {
    /// Writes what the joined frame's headers have; whether CWR is set. `None` where it does not fit.
    fn patch(&self, head: &mut [u8]) -> Option<bool> {
        let (ip, transport) = head
            .get_mut(usize::from(self.network)..)?
            .split_at_mut_checked(usize::from(self.transport.wrapping_sub(self.network)))?;
        let transport_len = (self.packet_len as u16).wrapping_sub(ip.len() as u16);
        let upper = if self.tcp { protocol::TCP } else { protocol::UDP };
        let pseudo = if self.v6 {
            let h = ip.first_chunk_mut::<40>()?;
            [h[4], h[5]] = transport_len.to_be_bytes();
            Sum::new().add_bytes(h.get(8..)?)
        } else {
            let h = ip.first_chunk_mut::<20>()?;
            let (check, old) = (u16::from_be_bytes([h[10], h[11]]), u16::from_be_bytes([h[2], h[3]]));
            let total = self.packet_len as u16;
            [h[2], h[3]] = total.to_be_bytes();
            [h[10], h[11]] = update16(check, old, total).to_be_bytes();
            Sum::new().add_bytes(h.get(12..)?)
        };
        let pseudo = pseudo.add_u16(u16::from(upper)).add_u16(transport_len).value().to_be_bytes();
        if self.tcp {
            let h = transport.first_chunk_mut::<20>()?;
            h[13] |= self.flags;
            [h[16], h[17]] = pseudo;
            Some(h[13] & CWR != 0)
        } else {
            let h = transport.first_chunk_mut::<8>()?;
            [h[4], h[5]] = transport_len.to_be_bytes();
            [h[6], h[7]] = pseudo;
            Some(false)
        }
    }
}
