//! Many lookups side by side.
//!
//! All lanes take their first step, then all that go on their second, and so on: a step of one
//! lane depends on no other, and which lanes go on is decided without a branch on each.

use core::hint::select_unpredictable;

use super::cell::{self, Raw, SPECIAL};
use super::find::{self, or};
use super::key::{Bits, LpmKey};
use super::{LpmNode, LpmRoot, arena, index};
use crate::addr::{NextHop, VtepId};

/// Lookups under way together.
const LANES: usize = 32;

/// Answers that are read before any is given: as many as there are registers for.
const GROUP: usize = 8;

/// Cells of a table of answers.
const ANSWER_CELLS: usize = index::ANSWERS as usize / 16;

#[inline]
pub(super) fn lookup<K: LpmKey>(
    cells: &[LpmNode<K>],
    root: &LpmRoot,
    addrs: &[K],
    out: &mut [Option<NextHop>],
) {
    let answers = root.direct.checked_sub(1).and_then(|first| cells.get(first as usize..)?.first_chunk());
    if let (32, Some(answers)) = (K::MAX_LEN, answers) {
        return direct(cells, root, answers, addrs, out);
    }
    let (mut addrs, mut out, mut walks) = (addrs, out, Walks::new());
    while let (Some((group, more)), true) = (addrs.split_first_chunk(), out.len() >= LANES) {
        let Some((outs, more_out)) = core::mem::take(&mut out).split_first_chunk_mut() else { break };
        if root.entries == 0 {
            alone(cells, root, group, outs);
        } else if K::MAX_LEN == 32 {
            steps(cells, root, group, outs);
        } else {
            walks.run(cells, root, group, outs);
        }
        (addrs, out) = (more, more_out);
    }
    if !addrs.is_empty() {
        alone(cells, root, addrs, out);
    }
}

/// One after the other: with few routes, or few lookups.
fn alone<K: LpmKey>(cells: &[LpmNode<K>], root: &LpmRoot, addrs: &[K], out: &mut [Option<NextHop>]) {
    for (addr, out) in addrs.iter().zip(out) {
        *out = find::lookup(cells, root, *addr);
    }
}

/// Lookups of which most end at their answer.
#[inline(never)]
fn direct<K: LpmKey>(
    cells: &[LpmNode<K>],
    root: &LpmRoot,
    answers: &[LpmNode<K>; ANSWER_CELLS],
    addrs: &[K],
    out: &mut [Option<NextHop>],
) {
    let count = addrs.len().min(out.len());
    let (Some(addrs), Some(out)) = (addrs.get(..count), out.get_mut(..count)) else { return };
    let ((groups, rest), (outs, rest_out)) = (addrs.as_chunks(), out.as_chunks_mut());
    for (addrs, out) in groups.iter().zip(outs) {
        match answered(answers, addrs) {
            Some(values) => *out = values.map(|value| Some(NextHop::Vtep(VtepId(value)))),
            None => alone(cells, root, addrs, out),
        }
    }
    if !rest.is_empty() {
        alone(cells, root, rest, rest_out);
    }
}

/// The answers for some addresses, if all are VTEPs.
///
/// Leaving at what is none keeps the compiler from vectors of addresses, which it would take apart again at
/// more cost than all the rest; and the fewer instructions, the more reads are under way.
#[inline(always)]
fn answered<K: LpmKey>(answers: &[LpmNode<K>; ANSWER_CELLS], addrs: &[K; GROUP]) -> Option<[u16; GROUP]> {
    let mut values = [0; GROUP];
    for (addr, value) in addrs.iter().zip(&mut values) {
        let top = (addr.to_key().high() >> 40) as u32;
        let answer = answers[(top / 16) as usize % ANSWER_CELLS].raw.half(top);
        if answer >= SPECIAL {
            return None;
        }
        *value = answer as u16;
    }
    Some(values)
}

/// Gives the next hops; a bit for each lane where they are not VTEPs or there is more to do.
#[inline(always)]
fn finish(values: &[u32; LANES], entries: &[u32; LANES], out: &mut [Option<NextHop>; LANES]) -> u32 {
    let mut others = 0;
    for (((lane, out), value), entry) in out.iter_mut().enumerate().zip(values).zip(entries) {
        *out = Some(NextHop::Vtep(VtepId(*value as u16)));
        others |= (((*entry & arena::PARENT != 0) | (*value >= SPECIAL)) as u32) << lane;
    }
    others
}

/// Lookups of which most end at the node behind the index, if there is one: IPv4's.
///
/// In passes, so that little stands between two reads of what may be far.
#[inline(never)]
fn steps<K: LpmKey>(
    cells: &[LpmNode<K>],
    root: &LpmRoot,
    addrs: &[K; LANES],
    out: &mut [Option<NextHop>; LANES],
) {
    let (mut entries, mut chunks, mut values) = ([0; LANES], [0; LANES], [SPECIAL; LANES]);
    for ((addr, entry), chunk) in addrs.iter().zip(&mut entries).zip(&mut chunks) {
        *entry = root.entry(addr.to_key()).unwrap_or(u32::MAX);
        *chunk = addr.to_key().within(root.depth(), root.turn);
    }
    for entry in &mut entries {
        *entry = cells.get((*entry / 8) as usize).map_or(OUTSIDE, |c| c.raw.entry(*entry));
    }
    touch(cells, &entries, 0);
    touch(cells, &entries, 2);
    for ((entry, chunk), value) in entries.iter().zip(&chunks).zip(&mut values) {
        // Where the entry is an answer, whatever is at the arena's begin is read: no branch is
        // as cheap as that.
        let is_head = *entry < arena::PARENT;
        let Some(head) = find::head(cells, select_unpredictable(is_head, *entry, 0)) else { continue };
        let own = find::head_value(head, *chunk);
        *value = select_unpredictable(is_head, own, arena::fallback_hop(*entry));
    }
    let mut others = finish(&values, &entries, out);
    while others != 0 {
        let lane = others.trailing_zeros() as usize % LANES;
        out[lane] = find::lookup(cells, root, addrs[lane]);
        others &= others - 1;
    }
}

/// The entry of the index for an address.
#[inline(always)]
fn entry<K: LpmKey>(cells: &[LpmNode<K>], root: &LpmRoot, addr: K) -> u32 {
    root.entry(addr.to_key()).map_or(OUTSIDE, |at| arena::entry(cells, at))
}

/// Has cells brought near, if that is what these name: reads that nothing waits for.
#[inline(never)]
fn touch<K>(cells: &[LpmNode<K>], numbers: &[u32], ahead: usize) {
    let mut any = 0;
    for at in numbers {
        any |= cells.get((*at as usize).wrapping_add(ahead)).map_or(0, |c| c.raw.word(0));
    }
    core::hint::black_box(any);
}

/// Lookups under way together, each in a lane.
///
/// Each of the functions is for itself, so that little stands between two reads of what may be far.
struct Walks {
    /// Who goes on, and to which cell.
    lanes: [u8; LANES],
    cells: [u32; LANES],
    /// Whose values are to be read, and where.
    found: [u8; LANES],
    values: [u32; LANES],
    best: [u32; LANES],
}

/// How many values were found and how many lanes go on.
type Counts = (usize, usize);

impl Walks {
    fn new() -> Walks {
        Walks {
            lanes: [0; LANES],
            cells: [0; LANES],
            found: [0; LANES],
            values: [0; LANES],
            best: [0; LANES],
        }
    }

    #[inline]
    fn run<K: LpmKey>(
        &mut self,
        cells: &[LpmNode<K>],
        root: &LpmRoot,
        addrs: &[K; LANES],
        out: &mut [Option<NextHop>; LANES],
    ) {
        let live = self.enter(cells, root, addrs);
        touch(cells, self.cells.get(..live).unwrap_or(&[]), 0);
        let (found, mut live) = self.first(cells, root.depth(), addrs, live);
        self.read(cells, found);
        for _ in 0..K::STEPS {
            if live == 0 {
                break;
            }
            touch(cells, self.cells.get(..live).unwrap_or(&[]), 0);
            let counts = self.next(cells, addrs, live);
            self.read(cells, counts.0);
            live = counts.1;
        }
        for ((out, value), addr) in out.iter_mut().zip(&self.best).zip(addrs) {
            *out = if *value < SPECIAL {
                Some(NextHop::Vtep(VtepId(*value as u16)))
            } else {
                find::special(cells, root, addr.to_key(), *value)
            };
        }
    }

    /// Reads the entries of the index.
    #[inline(never)]
    fn enter<K: LpmKey>(&mut self, cells: &[LpmNode<K>], root: &LpmRoot, addrs: &[K; LANES]) -> usize {
        let mut live = 0;
        for (lane, (addr, best)) in addrs.iter().zip(&mut self.best).enumerate() {
            let entry = entry(cells, root, *addr);
            *best = arena::fallback_hop(entry);
            self.lanes[live % LANES] = lane as u8;
            self.cells[live % LANES] = arena::number(entry);
            live += (entry & arena::FALLBACK == 0) as usize;
        }
        live
    }

    /// The first step, of the lanes that go on.
    #[inline(never)]
    fn first<K: LpmKey>(
        &mut self,
        cells: &[LpmNode<K>],
        depth: u32,
        addrs: &[K; LANES],
        live: usize,
    ) -> Counts {
        let mut counts = (0, 0);
        for n in 0..live.min(LANES) {
            let lane = self.lanes[n] as usize % LANES;
            let (chunk, entry) = (addrs[lane].to_key().step(depth), self.cells[n]);
            let Some(node) = arena::behind(cells, entry) else { break };
            self.best[lane] = cell::fallback_value(node.word(3));
            counts = self.step(lane, node, chunk, true, counts);
        }
        counts
    }

    /// Another step, of the lanes that go on.
    #[inline(never)]
    fn next<K: LpmKey>(&mut self, cells: &[LpmNode<K>], addrs: &[K; LANES], live: usize) -> Counts {
        let mut counts = (0, 0);
        for n in 0..live.min(LANES) {
            let lane = self.lanes[n] as usize % LANES;
            let Some(node) = cells.get(self.cells[n] as usize) else { break };
            let (chunk, held) = find::enter(&node.raw, addrs[lane].to_key());
            counts = self.step(lane, &node.raw, chunk, held, counts);
        }
        counts
    }

    #[inline(always)]
    fn step(&mut self, lane: usize, node: &Raw, chunk: u32, held: bool, (found, next): Counts) -> Counts {
        let (value, shown) = find::value_at(node, chunk);
        self.found[found % LANES] = lane as u8;
        self.values[found % LANES] = value;
        let (child, there) = find::child_at(node, chunk);
        self.lanes[next % LANES] = lane as u8;
        self.cells[next % LANES] = child;
        (found + (held & shown) as usize, next + (held & there) as usize)
    }

    /// Reads the values that a step has found.
    #[inline(never)]
    fn read<K>(&mut self, cells: &[LpmNode<K>], found: usize) {
        for (lane, at) in self.found.iter().zip(&self.values).take(found) {
            let Some(cell) = cells.get((at / 16) as usize) else { break };
            let best = &mut self.best[*lane as usize % LANES];
            *best = or(cell.raw.half(*at), *best);
        }
    }
}

/// What stands for the entry of an address that is not behind the index.
const OUTSIDE: u32 = arena::fallback(cell::OUTSIDE, 0);
