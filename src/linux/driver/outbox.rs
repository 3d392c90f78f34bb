//! Datagrams on their way out, gathered to runs of equal length that leave in one send each.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::ops::Range;

use super::carry::Io;
use super::mind::Mind;
use crate::addr::{PortId, Vni, VtepId};
use crate::linux::Offload;
use crate::linux::sys::batch::{Outgoing, SendBatch};
use crate::linux::sys::errno;
use crate::linux::udp::MAX_UDP_SEGMENTS;
use crate::linux::{Refused, Sent, Underlay};

/// Datagrams that wait for one flush.
const PIECES: usize = 2048;
/// Sends of one flush, and of one system call.
const RUNS: usize = 256;
const MESSAGES: usize = 64;
/// Parts of one system call: some sends of many segments, each in two parts.
const PARTS: usize = 1024;
/// Octets of headers that wait for one flush.
pub(super) const HEADERS: usize = 128 << 10;
/// Octets of one send: with Ethernet, IPv6 and UDP headers less than the 65,536 of a superframe.
const MAX_OCTETS: usize = 65_400;
/// Places for last runs, each of one VTEP and socket: with as many as there are runs, a flood closes
/// none of its own.
const OPEN: usize = RUNS;
/// Sends that are refused to be cut, one after the other, before no more are tried.
const STRIKES: u8 = 8;

const NOWHERE: u32 = u32::MAX;

/// One datagram: up to two parts, and who loses it if it is not taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    head: u32,
    head_len: u32,
    body: u32,
    body_len: u32,
    /// The next one of its run.
    next: u32,
    vni: Option<Vni>,
    port: PortId,
}

impl Piece {
    /// `head` in the outbox's header memory, `body` in the packet memory.
    pub(super) fn new(head: Range<usize>, body: Range<usize>, vni: Option<Vni>, port: PortId) -> Piece {
        Piece {
            head: head.start as u32,
            head_len: head.len() as u32,
            body: body.start as u32,
            body_len: body.len() as u32,
            next: NOWHERE,
            vni,
            port,
        }
    }

    fn len(&self) -> usize {
        (self.head_len as usize).saturating_add(self.body_len as usize)
    }

    fn parts<'a>(&self, headers: &'a [u8], packets: &'a [u8]) -> [&'a [u8]; 2] {
        let part = |memory: &'a [u8], at: u32, len: u32| {
            memory.get(at as usize..(at as usize).saturating_add(len as usize)).unwrap_or_default()
        };
        [part(headers, self.head, self.head_len), part(packets, self.body, self.body_len)]
    }
}

/// Where a datagram goes, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) vtep: VtepId,
    pub(super) to: SocketAddr,
    /// The place of the socket.
    pub(super) socket: usize,
}

impl Target {
    /// Datagrams of one key keep their order.
    fn key(&self) -> (VtepId, usize) {
        (self.vtep, self.socket)
    }

    /// Its place among the last runs. VTEPs have the lowest ids that are free, so those of a flood lie side
    /// by side; the golden section of all places sets the sockets far apart.
    fn place(&self) -> usize {
        const APART: usize = 157;
        usize::from(self.vtep.0).wrapping_add(self.socket.wrapping_mul(APART)) % OPEN
    }
}

/// Datagrams of equal length to one VTEP; the last one may be shorter.
#[derive(Debug, Clone, Copy)]
struct Run {
    target: Target,
    ecn: u8,
    segment: usize,
    octets: usize,
    count: u16,
    first: u32,
    last: u32,
    closed: bool,
}

/// What waits to be sent. It keeps offsets: the packets themselves stay where they were received.
pub(super) struct Outbox {
    headers: Box<[u8]>,
    headers_used: usize,
    pieces: Vec<Piece>,
    runs: Vec<Run>,
    /// For each place, the number of the run that began there last. A datagram is added to the last run of
    /// its VTEP and socket or begins another, so that they keep their order. Numbers of earlier flushes
    /// stay: whatever run has such a number now is not of this place, else it had put its own here.
    open: [u32; OPEN],
    batch: SendBatch,
    strikes: u8,
}

impl Outbox {
    pub(super) fn new(level: Offload) -> Outbox {
        let messages = if level == Offload::None { 1 } else { MESSAGES };
        Outbox {
            headers: vec![0; HEADERS].into_boxed_slice(),
            headers_used: 0,
            pieces: Vec::with_capacity(PIECES),
            runs: Vec::with_capacity(RUNS),
            open: [NOWHERE; OPEN],
            batch: SendBatch::new(messages, PARTS),
            strikes: 0,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.pieces.len() >= PIECES || self.runs.len() >= RUNS
    }

    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether something waits for this VTEP and socket.
    pub(super) fn holds(&self, target: &Target) -> bool {
        self.runs.iter().any(|run| run.target.key() == target.key())
    }

    /// Room for `len` octets of headers that stay until the next flush.
    pub(super) fn header_room(&mut self, len: usize) -> Option<(usize, &mut [u8])> {
        let at = self.headers_used;
        let room = self.headers.get_mut(at..at.checked_add(len)?)?;
        self.headers_used = at + len;
        Some((at, room))
    }

    /// How many headers of `len` octets there is room for.
    pub(super) fn headers_free(&self, len: usize) -> usize {
        self.headers.len().saturating_sub(self.headers_used).checked_div(len).unwrap_or(0)
    }

    /// Takes a datagram; the outbox must not be [full](Self::is_full). `segments` is how many may go
    /// in one send.
    #[inline]
    pub(super) fn push(&mut self, piece: Piece, target: &Target, ecn: u8, segments: u16) {
        let (at, len) = (self.pieces.len() as u32, piece.len());
        let place = target.place();
        let last = self.open.get(place).and_then(|last| self.runs.get_mut(*last as usize));
        if let Some(run) = last
            && run.target.key() == target.key()
            && !run.closed
            && run.ecn == ecn
            && len <= run.segment
            && run.count < segments
            && run.octets.saturating_add(len) <= MAX_OCTETS
        {
            if let Some(last) = self.pieces.get_mut(run.last as usize) {
                last.next = at;
            }
            run.last = at;
            run.count += 1;
            run.octets = run.octets.saturating_add(len);
            run.closed = len < run.segment;
            self.pieces.push(piece);
            return;
        }
        if let Some(last) = self.open.get_mut(place) {
            *last = self.runs.len() as u32;
        }
        let closed = len == 0 || len > usize::from(u16::MAX);
        let (target, segment, octets) = (*target, len, len);
        self.runs.push(Run { target, ecn, segment, octets, count: 1, first: at, last: at, closed });
        self.pieces.push(piece);
    }

    /// Sends everything. With `keep_headers` the header memory in use stays in use.
    pub(super) fn flush<M: Mind>(&mut self, mind: &mut M, io: &mut Io, packets: &[u8], keep_headers: bool) {
        if !self.runs.is_empty() {
            for socket in 0..io.sockets.len() {
                self.flush_socket(mind, io, packets, socket);
            }
            self.pieces.clear();
            self.runs.clear();
        }
        if !keep_headers {
            self.headers_used = 0;
        }
    }

    fn flush_socket<M: Mind>(&mut self, mind: &mut M, io: &mut Io, packets: &[u8], socket: usize) {
        let (headers, pieces, runs) = (&self.headers[..], &self.pieces[..], &self.runs[..]);
        let mut waiting = runs.iter().filter(|r| r.target.socket == socket);
        let mut retried = false;
        loop {
            let Some(slot) = io.sockets.get_mut(socket) else { return };
            let underlay = &mut slot.socket;
            let messages = waiting.clone().map(|run| Outgoing {
                to: run.target.to,
                tos: underlay.tos(run.ecn),
                segment: (run.count > 1).then_some(run.segment as u16),
                parts: parts(run, pieces, headers, packets),
            });
            let error = match underlay.send_batch(&mut self.batch, messages) {
                Ok(0) => return,
                Ok(sent) => {
                    for run in waiting.by_ref().take(sent) {
                        let counters = &mut io.counters;
                        counters.udp_tx = counters.udp_tx.wrapping_add(u64::from(run.count));
                        if run.count > 1 {
                            counters.segmented_sends = counters.segmented_sends.wrapping_add(1);
                            self.strikes = 0;
                        }
                    }
                    retried = false;
                    continue;
                }
                Err(error) => error,
            };
            let number = error.raw_os_error();
            let stale = Underlay::may_be_of_another(&error);
            if number == Some(errno::EINTR) || (stale && !retried) {
                retried = stale;
                continue;
            }
            retried = false;
            let Some(run) = waiting.next() else { return };
            if run.count > 1 && matches!(number, Some(errno::EINVAL | errno::EIO | errno::EMSGSIZE)) {
                io.counters.segmenting_refused = io.counters.segmenting_refused.wrapping_add(1);
                let taken = send_singly(mind, io, run, pieces, headers, packets);
                // What is not taken singly either says nothing about cutting: the path takes none.
                if taken && number != Some(errno::EMSGSIZE) {
                    // Linux before 6.9 takes 64 at most.
                    self.strikes = self.strikes.saturating_add(1);
                    let limit = match (self.strikes >= STRIKES, run.count > MAX_UDP_SEGMENTS / 2) {
                        (true, _) => 0,
                        (false, true) => MAX_UDP_SEGMENTS / 2,
                        (false, false) => MAX_UDP_SEGMENTS,
                    };
                    if let Some(slot) = io.sockets.get_mut(socket) {
                        slot.socket.limit_segments(limit);
                    }
                }
                continue;
            }
            let reason = match underlay.judge(error, run.target.to) {
                Ok(why) => io.refused(why, u64::from(run.count)),
                Err(error) => io.failed(error),
            };
            for piece in members(run, pieces) {
                mind.count_drop(reason, piece.vni, Some(run.target.vtep), Some(piece.port));
            }
        }
    }
}

/// The datagrams of a run, in order.
fn members<'a>(run: &Run, pieces: &'a [Piece]) -> impl Iterator<Item = &'a Piece> + use<'a> {
    let mut next = run.first;
    core::iter::from_fn(move || {
        let piece = pieces.get(next as usize)?;
        next = piece.next;
        Some(piece)
    })
}

fn parts<'a>(
    run: &Run,
    pieces: &'a [Piece],
    headers: &'a [u8],
    packets: &'a [u8],
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    members(run, pieces).flat_map(|p| p.parts(headers, packets)).filter(|part| !part.is_empty())
}

/// Sends the datagrams of a run that the kernel does not cut one by one; whether one of the length that
/// it was to cut them to was taken.
#[cold]
fn send_singly<M: Mind>(
    mind: &mut M,
    io: &mut Io,
    run: &Run,
    pieces: &[Piece],
    headers: &[u8],
    packets: &[u8],
) -> bool {
    // They are of one length, all but the last: what is too big for the path is so for all of them.
    let (mut too_big, mut taken) = (usize::MAX, false);
    for piece in members(run, pieces) {
        let lost = if piece.len() >= too_big {
            Some(io.refused(Refused::TooBig, 1))
        } else {
            let Some(slot) = io.sockets.get_mut(run.target.socket) else { return taken };
            match slot.socket.send(&piece.parts(headers, packets), run.target.to, Some(run.ecn)) {
                Ok(Sent::Taken) => {
                    io.counters.udp_tx = io.counters.udp_tx.wrapping_add(1);
                    taken = taken || piece.len() == run.segment;
                    None
                }
                Ok(Sent::Refused(why)) => {
                    if why == Refused::TooBig {
                        too_big = piece.len();
                    }
                    Some(io.refused(why, 1))
                }
                Err(error) => Some(io.failed(error)),
            }
        };
        if let Some(reason) = lost {
            mind.count_drop(reason, piece.vni, Some(run.target.vtep), Some(piece.port));
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::super::tests::{A, driver_with};
    use super::*;
    use crate::linux::DriverConfig;
    use alloc::collections::BTreeMap;

    fn target(vtep: u16, socket: usize) -> Target {
        Target { vtep: VtepId(vtep), to: ([192, 0, 2, 1], 4789).into(), socket }
    }

    /// Some of these share a place.
    #[test]
    fn datagrams_of_one_vtep_and_socket_keep_their_order() {
        let mut node = driver_with(A, &DriverConfig::default());
        let (mut outbox, mut io) = (Outbox::new(Offload::Gso), Io::new(0));
        assert_eq!(target(1, 0).place(), target(257, 0).place());
        let mut state = 1u32;
        for flush in 0..50 {
            let mut want: BTreeMap<_, Vec<u32>> = BTreeMap::new();
            while !outbox.is_full() {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let random = (state >> 16) as usize;
                // Streaks, as flows come in, and now and then another length or mark.
                let target = target([0, 1, 256, 257, 513][random % 5], random / 5 % 3);
                let (len, ecn) = ([90, 100, 100, 100][random / 5 % 4], [1, 0, 0, 0, 0][random / 20 % 5]);
                for _ in 0..random / 256 % 32 {
                    if outbox.is_full() {
                        break;
                    }
                    let number = outbox.pieces.len();
                    let piece = Piece::new(number..number + len, 0..0, None, PortId(0));
                    outbox.push(piece, &target, ecn, 20);
                    want.entry(target.key()).or_default().push(number as u32);
                }
            }
            let mut sent: BTreeMap<_, Vec<u32>> = BTreeMap::new();
            for run in &outbox.runs {
                let pieces = members(run, &outbox.pieces).map(|piece| piece.head);
                sent.entry(run.target.key()).or_default().extend(pieces);
            }
            assert_eq!(sent, want, "flush {flush}");
            assert!(outbox.runs.iter().any(|run| run.count == 20));
            outbox.flush(&mut node.engine, &mut io, &[], false);
        }
    }

    #[test]
    fn other_vteps_and_other_sockets_close_no_run() {
        let many = RUNS - 1;
        let vteps: Vec<_> = (0..many).map(|n| target(n as u16, 1)).collect();
        let sockets: Vec<_> = (0..many).map(|n| target(7, n)).collect();
        for targets in [vteps, sockets] {
            let mut outbox = Outbox::new(Offload::Gso);
            for number in 0..PIECES / RUNS {
                for target in &targets {
                    assert!(!outbox.is_full());
                    let piece = Piece::new(number..number + 100, 0..0, None, PortId(0));
                    outbox.push(piece, target, 0, 128);
                }
            }
            assert_eq!(outbox.runs.len(), many);
        }
    }
}
