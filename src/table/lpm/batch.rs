//! Many lookups side by side.
//!
//! All lanes take their first step, then all that go on their second, and so on: a step of one
//! lane depends on no other, and which lanes go on is decided without a branch on each.

use core::hint::select_unpredictable;

use super::cell::{self, NONE, Raw, SPECIAL};
use super::find::{self, or};
use super::key::{Bits, LpmKey};
use super::{LpmNode, LpmRoot, arena, index};
use crate::addr::{NextHop, VtepId};

/// Lookups under way together.
const LANES: usize = 32;

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
    if let Some(answers) = answers {
        direct(cells, root, answers, addrs, out);
        return;
    }
    let (mut addrs, mut out) = (addrs, out);
    if root.entries != 0 {
        let (mut steps, mut walks) = (Steps::new(), Walks::new());
        while let (Some((group, more)), true) = (addrs.split_first_chunk(), out.len() >= LANES) {
            let Some((outs, more_out)) = core::mem::take(&mut out).split_first_chunk_mut() else { break };
            if K::MAX_LEN == 32 {
                steps.run(cells, root, group, outs);
            } else {
                walks.run(cells, root, group, outs);
            }
            (addrs, out) = (more, more_out);
        }
    }
    // Few routes, or few lookups.
    for (addr, out) in addrs.iter().zip(out) {
        *out = find::lookup(cells, root, *addr);
    }
}

#[inline(never)]
fn direct<K: LpmKey>(
    cells: &[LpmNode<K>],
    root: &LpmRoot,
    answers: &[LpmNode<K>; ANSWER_CELLS],
    addrs: &[K],
    out: &mut [Option<NextHop>],
) {
    for (addr, out) in addrs.iter().zip(out) {
        let top = (addr.to_key().high() >> 40) as u32;
        let value = answers[(top / 16) as usize % ANSWER_CELLS].raw.half(top);
        *out = if value < SPECIAL {
            Some(NextHop::Vtep(VtepId(value as u16)))
        } else {
            find::behind_direct(cells, root, *addr, value)
        };
    }
}

/// Lookups of which most end at the node behind the index, if there is one: IPv4's.
struct Steps {
    /// The entries of the index, and where they are.
    entries: [u32; LANES],
    places: [u32; LANES],
    /// Where the value is to be read, and what holds if that is none.
    values: [u32; LANES],
    fallbacks: [u32; LANES],
}

impl Steps {
    fn new() -> Steps {
        Steps { entries: [0; LANES], places: [0; LANES], values: [0; LANES], fallbacks: [0; LANES] }
    }

    #[inline]
    fn run<K: LpmKey>(
        &mut self,
        cells: &[LpmNode<K>],
        root: &LpmRoot,
        addrs: &[K; LANES],
        out: &mut [Option<NextHop>; LANES],
    ) {
        self.enter(cells, root, addrs);
        touch(cells, &self.entries);
        let mut others = self.step(cells, root.depth(), addrs);
        others |= self.read(cells, out);
        while others != 0 {
            let lane = others.trailing_zeros() as usize % LANES;
            out[lane] = find::lookup(cells, root, addrs[lane]);
            others &= others - 1;
        }
    }

    #[inline(never)]
    fn enter<K: LpmKey>(&mut self, cells: &[LpmNode<K>], root: &LpmRoot, addrs: &[K; LANES]) {
        for ((addr, entry), place) in addrs.iter().zip(&mut self.entries).zip(&mut self.places) {
            (*entry, *place) = match root.entry(addr.to_key()) {
                Some(at) => (arena::entry(cells, at), at),
                None => (OUTSIDE, 0),
            };
        }
    }

    /// Finds where the values are; gives a bit for each lane that this is not enough for.
    #[inline(never)]
    fn step<K: LpmKey>(&mut self, cells: &[LpmNode<K>], depth: u32, addrs: &[K; LANES]) -> u32 {
        let mut others = 0;
        for (lane, addr) in addrs.iter().enumerate() {
            let entry = self.entries[lane];
            let Some(node) = arena::behind(cells, entry) else {
                others |= ((entry == OUTSIDE) as u32) << lane;
                // An entry's lower half is its next hop.
                self.values[lane] = self.places[lane] << 1;
                self.fallbacks[lane] = NONE;
                continue;
            };
            let chunk = addr.to_key().step(depth);
            let (value, there) = find::value_at(node, chunk);
            // So is that of the word that tells the fallback.
            let fallback = entry << 4 | 12;
            self.values[lane] = select_unpredictable(there, value, fallback);
            self.fallbacks[lane] = arena::fallback_hop(node.word(3) as u32);
            others |= (cell::bit(node.word(1), chunk) as u32) << lane;
        }
        others
    }

    /// Reads the values; gives a bit for each lane whose next hop is not a VTEP.
    #[inline(never)]
    fn read<K>(&mut self, cells: &[LpmNode<K>], out: &mut [Option<NextHop>; LANES]) -> u32 {
        let mut others = 0;
        for (lane, out) in out.iter_mut().enumerate() {
            let value = or(find::half(cells, self.values[lane]), self.fallbacks[lane]);
            *out = Some(NextHop::Vtep(VtepId(value as u16)));
            others |= ((value >= SPECIAL) as u32) << lane;
        }
        others
    }
}

/// Has cells brought near, if that is what these name: reads that nothing waits for.
#[inline(never)]
fn touch<K>(cells: &[LpmNode<K>], numbers: &[u32]) {
    let mut any = 0;
    for at in numbers {
        any |= cells.get(*at as usize).map_or(0, |c| c.raw.word(0));
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
        touch(cells, self.cells.get(..live).unwrap_or(&[]));
        let (found, mut live) = self.first(cells, root.depth(), addrs, live);
        self.read(cells, found);
        for _ in 0..K::STEPS {
            if live == 0 {
                break;
            }
            touch(cells, self.cells.get(..live).unwrap_or(&[]));
            let counts = self.next(cells, addrs, live);
            self.read(cells, counts.0);
            live = counts.1;
        }
        for ((out, value), addr) in out.iter_mut().zip(&self.best).zip(addrs) {
            *out = if *value < SPECIAL {
                Some(NextHop::Vtep(VtepId(*value as u16)))
            } else {
                find::special(cells, root, *addr, *value)
            };
        }
    }

    /// Reads the entries of the index.
    #[inline(never)]
    fn enter<K: LpmKey>(&mut self, cells: &[LpmNode<K>], root: &LpmRoot, addrs: &[K; LANES]) -> usize {
        let mut live = 0;
        for (lane, (addr, best)) in addrs.iter().zip(&mut self.best).enumerate() {
            let entry = match root.entry(addr.to_key()) {
                Some(at) => arena::entry(cells, at),
                None => OUTSIDE,
            };
            *best = arena::fallback_hop(entry);
            self.lanes[live % LANES] = lane as u8;
            self.cells[live % LANES] = entry;
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
            let Some(node) = cells.get(self.cells[n] as usize) else { break };
            self.best[lane] = arena::fallback_hop(node.raw.word(3) as u32);
            counts = self.step(lane, &node.raw, addrs[lane].to_key().step(depth), true, counts);
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
