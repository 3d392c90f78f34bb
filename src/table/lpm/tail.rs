//! What a node's block holds behind the children, taken out to be changed.

use core::ops::Range;

use super::arena::Arena;
use super::cell::{self, CELL_WORDS, Cell, NONE, Place, Routes};
use super::{LpmNode, find};

/// The most values of one node: 64 runs and 62 hidden routes.
const MAX_VALUES: usize = 126;
/// The spare halves before the first value: those of a node that is no head.
const LEAD: usize = 2;
/// Halves that move at once.
const STEP: usize = 8;
/// Whole cells of halves, from the first value of a head on, and a step beyond the last value.
const ROOM: usize = LEAD + (MAX_VALUES + STEP).next_multiple_of(16);
const WIDE_ROOM: usize = LEAD + (2 * MAX_VALUES).next_multiple_of(16);

/// The routes of a node: which there are, and their next hops.
///
/// The runs follow from the routes alone, not from their next hops, so that to take a route out
/// never makes more of them.
pub(super) struct Tail {
    pub(super) routes: Routes,
    pub(super) runs: u64,
    /// The values of the runs, then those of the hidden routes, from [`LEAD`] on: the lower halves,
    /// and, if it is wide, the upper.
    low: [u16; ROOM],
    rest: Option<[u16; ROOM]>,
    len: usize,
}

impl Tail {
    pub(super) const fn new() -> Tail {
        Tail { routes: Routes { full: 0, inner: 0 }, runs: 0, low: [0; ROOM], rest: None, len: 0 }
    }

    /// The order of the block of `cell`, which has its children, for these routes.
    pub(super) fn order(&self, cell: &Cell) -> u32 {
        cell::order_for(&self.mark(*cell), self.len as u32, self.rest.is_some())
    }

    /// `cell` with the runs and the width of these values.
    pub(super) fn mark(&self, mut cell: Cell) -> Cell {
        cell[2] = self.runs;
        cell::with_routes(cell::with_wide(cell, self.rest.is_some()), &self.routes)
    }

    fn get(&self, i: usize) -> u32 {
        let half = |halves: &[u16]| halves.get(LEAD + i).map_or(0, |v| *v as u32);
        half(&self.low) | self.rest.as_ref().map_or(0, |rest| half(rest) << 16)
    }

    fn set(&mut self, i: usize, value: u32) {
        if cell::has_rest(value) && self.rest.is_none() {
            self.rest = Some([0; ROOM]);
        }
        if let Some(v) = self.low.get_mut(LEAD + i) {
            *v = value as u16;
        }
        if let Some(v) = self.rest.as_mut().and_then(|rest| rest.get_mut(LEAD + i)) {
            *v = (value >> 16) as u16;
        }
    }

    fn insert(&mut self, i: usize, value: u32) {
        if i <= self.len && self.len < MAX_VALUES {
            open(&mut self.low, LEAD + i, LEAD + self.len);
            if let Some(rest) = &mut self.rest {
                open(rest, LEAD + i, LEAD + self.len);
            }
            self.len += 1;
            self.set(i, value);
        }
    }

    fn remove(&mut self, i: usize) -> u32 {
        let value = self.get(i);
        if i < self.len {
            close(&mut self.low, LEAD + i, LEAD + self.len);
            if let Some(rest) = &mut self.rest {
                close(rest, LEAD + i, LEAD + self.len);
            }
            self.len -= 1;
        }
        value
    }

    /// Is wide no more if no value needs it.
    fn narrow(&mut self) {
        let values = self.low.get(LEAD..LEAD + self.len).unwrap_or(&[]);
        if self.rest.is_some() && !values.iter().any(|v| cell::has_rest(*v as u32)) {
            self.rest = None;
        }
    }

    /// For the values of the runs and for those of the hidden routes of a wide node: their halves
    /// here, and where both are in its block.
    fn rearrange(&mut self, mut each: impl FnMut(&mut [u16], &mut [u16], Range<usize>) -> Option<()>) {
        let (shown, end) = (LEAD + self.shown(), LEAD + self.len);
        let Some(rest) = &mut self.rest else { return };
        for here in [LEAD..shown, shown..end] {
            let block = LEAD + 2 * (here.start - LEAD)..LEAD + 2 * (here.end - LEAD);
            if let (Some(low), Some(rest)) = (self.low.get_mut(here.clone()), rest.get_mut(here)) {
                each(low, rest, block);
            }
        }
    }

    /// Reads what the block of `node` holds behind the children. It was [`new`](Tail::new).
    ///
    /// In place: it is too large to be handed on.
    pub(super) fn load<K>(&mut self, cells: &[LpmNode<K>], node: &Cell) {
        self.routes = routes(cells, node);
        self.runs = node[2];
        self.len = self.shown() + self.routes.hidden().count_ones() as usize;
        let (first, spare) = (cell::children_end(node[0]), cell::spare(node) as usize);
        if !cell::is_wide(node) {
            return read(&mut self.low, spare, self.len, cells, first);
        }
        self.rest = Some([0; ROOM]);
        let mut halves = [0; WIDE_ROOM];
        read(&mut halves, spare, 2 * self.len, cells, first);
        self.rearrange(|low, rest, part| {
            let half = part.len() / 2;
            let (from_low, from_rest) = (part.start..part.start + half, part.start + half..part.end);
            low.copy_from_slice(halves.get(from_low)?);
            rest.copy_from_slice(halves.get(from_rest)?);
            Some(())
        });
    }

    /// How many values the runs have.
    fn shown(&self) -> usize {
        self.runs.count_ones() as usize
    }

    /// How many runs begin before `chunk`.
    fn before(&self, chunk: u32) -> usize {
        cell::rank(self.runs, chunk) as usize
    }

    /// The value for `chunk`.
    fn at(&self, chunk: u32) -> u32 {
        let runs = self.before(chunk) + cell::bit(self.runs, chunk) as usize;
        runs.checked_sub(1).map_or(NONE, |i| self.get(i))
    }

    /// The place among the values of hidden route `at`, when `hidden` are.
    fn hidden(&self, hidden: u64, at: u32) -> usize {
        self.shown() + cell::rank(hidden, at) as usize
    }

    /// Adds or replaces a route; gives the next hop replaced.
    pub(super) fn insert_route(&mut self, place: Place, hop: u32) -> Option<u32> {
        let (routes, visible) = (self.routes, self.routes.visible(place));
        let hidden = routes.hidden();
        if routes.has(place) {
            let old;
            match place {
                Place::Inner(at) if visible == 0 => {
                    let i = self.hidden(hidden, at);
                    old = self.get(i);
                    self.set(i, hop);
                }
                _ => {
                    old = self.at(visible.trailing_zeros());
                    for (start, _) in Segments(visible) {
                        self.set(self.before(start), hop);
                    }
                }
            }
            self.narrow();
            return Some(old);
        }
        self.routes = routes.flip(place);
        let above = (visible != 0).then(|| self.at(visible.trailing_zeros()));
        for (start, end) in Segments(visible) {
            let i = self.before(start);
            if cell::bit(self.runs, start) {
                self.set(i, hop);
            } else {
                self.insert(i, hop);
                self.runs |= 1 << start;
            }
            if end < 64 && !cell::bit(self.runs, end) {
                self.insert(i + 1, above.unwrap_or(NONE));
                self.runs |= 1 << end;
            }
        }
        // Either the new route is hidden, or it may hide the one above it.
        let now_hidden = self.routes.hidden();
        let new = now_hidden & !hidden;
        if new != 0 {
            let value = if visible == 0 { hop } else { above.unwrap_or(NONE) };
            self.insert(self.hidden(now_hidden, new.trailing_zeros()), value);
        }
        None
    }

    /// Takes out a route that is there; gives its next hop.
    pub(super) fn remove_route(&mut self, place: Place) -> u32 {
        let (routes, visible) = (self.routes, self.routes.visible(place));
        let hidden = routes.hidden();
        self.routes = routes.flip(place);
        if let (Place::Inner(at), 0) = (place, visible) {
            let hop = self.remove(self.hidden(hidden, at));
            self.narrow();
            return hop;
        }
        let hop = self.at(visible.trailing_zeros());
        let above = routes.above(place);
        let value = match above {
            Some(Place::Inner(at)) if cell::bit(hidden, at) => self.remove(self.hidden(hidden, at)),
            Some(above) => self.at(routes.visible(above).trailing_zeros()),
            None => NONE,
        };
        for (start, end) in Segments(visible) {
            // A run goes on over a border where the same route is on both sides.
            if end < 64 && self.routes.longest(end) == above {
                self.remove(self.before(end));
                self.runs &= !(1 << end);
            }
            let i = self.before(start);
            if start.checked_sub(1).and_then(|left| self.routes.longest(left)) == above {
                self.remove(i);
                self.runs &= !(1 << start);
            } else {
                self.set(i, value);
            }
        }
        self.narrow();
        hop
    }

    /// The next hop of a route that is there.
    pub(super) fn route(&self, place: Place) -> u32 {
        let visible = self.routes.visible(place);
        match place {
            Place::Inner(at) if visible == 0 => self.get(self.hidden(self.routes.hidden(), at)),
            _ => self.at(visible.trailing_zeros()),
        }
    }
}

/// Moves the halves from `at` to before `end` up by one. What was behind them is lost.
///
/// Here and in [`close`] in steps: they are few, and a call of `memmove` would take longer.
fn open(halves: &mut [u16; ROOM], at: usize, end: usize) {
    let step =
        |halves: &[u16; ROOM], at: usize| halves.get(at..).and_then(|h| h.first_chunk::<STEP>()).copied();
    let (mut at, mut held) = (at, step(halves, at));
    while let (Some(moved), true) = (held, at < end) {
        held = step(halves, at + STEP);
        if let Some(to) = halves.get_mut(at + 1..).and_then(|h| h.first_chunk_mut()) {
            *to = moved;
        }
        at += STEP;
    }
}

/// Moves the halves behind `at` to before `end` down by one. What was behind them is lost.
fn close(halves: &mut [u16; ROOM], at: usize, end: usize) {
    let mut at = at;
    while at + 1 < end {
        let Some(moved) = halves.get(at + 1..).and_then(|h| h.first_chunk::<STEP>()).copied() else { break };
        if let Some(to) = halves.get_mut(at..).and_then(|h| h.first_chunk_mut()) {
            *to = moved;
        }
        at += STEP;
    }
}

/// The runs of set bits of a map: first bit, and the bit behind the last.
struct Segments(u64);

impl Iterator for Segments {
    type Item = (u32, u32);

    fn next(&mut self) -> Option<(u32, u32)> {
        if self.0 == 0 {
            return None;
        }
        let start = self.0.trailing_zeros();
        let end = start + (self.0 >> start).trailing_ones();
        self.0 &= u64::MAX.checked_shl(end).unwrap_or(0);
        Some((start, end))
    }
}

/// The routes of a node.
pub(super) fn routes<K>(cells: &[LpmNode<K>], node: &Cell) -> Routes {
    if node[2] == 0 {
        return Routes::default();
    }
    let block = cell::block(node);
    let end = block + (1 << cell::order(find::word(cells, block)));
    let (full, inner) = cell::route_words(node);
    Routes {
        full: if full { find::word(cells, end - 1 - inner as u32) } else { 0 },
        inner: if inner { find::word(cells, end - 1) } else { 0 },
    }
}

/// The next hop of a route of `node` that is there.
pub(super) fn hop<K>(cells: &[LpmNode<K>], node: &Cell, place: Place) -> u32 {
    let mut tail = Tail::new();
    tail.load(cells, node);
    tail.route(place)
}

/// Reads so many spare halves and values from cell `first` on, in whole cells.
fn read<K>(halves: &mut [u16], spare: usize, values: usize, cells: &[LpmNode<K>], first: u32) {
    let cells = cells.get(first as usize..).unwrap_or(&[]);
    let (halves, count) = (halves.get_mut(LEAD - spare..).unwrap_or(&mut []), (spare + values).div_ceil(16));
    for (halves, cell) in halves.as_chunks_mut().0.iter_mut().zip(cells).take(count) {
        *halves = cell.raw.halves();
    }
}

impl<K> Arena<'_, K> {
    /// Writes what the block of `node`, of this order, holds behind the children.
    pub(super) fn put_tail(&mut self, node: &Cell, order: u32, tail: &mut Tail) {
        if tail.routes.is_empty() {
            return;
        }
        let block = cell::block(node);
        let (first, spare) = (cell::children_end(node[0]), cell::spare(node) as usize);
        // The spare halves stay: they may tell the block's owner.
        let word = self.word(first * CELL_WORDS);
        (tail.low[0], tail.low[1]) = (word as u16, (word >> 16) as u16);
        if tail.rest.is_some() {
            let mut halves = [0; WIDE_ROOM];
            (halves[0], halves[1]) = (tail.low[0], tail.low[1]);
            tail.rearrange(|low, rest, part| {
                let half = part.len() / 2;
                let (to_low, to_rest) = (part.start..part.start + half, part.start + half..part.end);
                halves.get_mut(to_low)?.copy_from_slice(low);
                halves.get_mut(to_rest)?.copy_from_slice(rest);
                Some(())
            });
            self.write(&halves, spare, 2 * tail.len, first);
        } else {
            self.write(&tail.low, spare, tail.len, first);
        }
        let end = block + (1 << order);
        let (full, inner) = cell::route_words(node);
        if full {
            self.set_word(end - 1 - inner as u32, tail.routes.full);
        }
        if inner {
            self.set_word(end - 1, tail.routes.inner);
        }
    }

    /// Writes so many spare halves and values from cell `first` on, in whole cells.
    fn write(&mut self, halves: &[u16], spare: usize, values: usize, first: u32) {
        let cells = self.cells_mut().get_mut(first as usize..).unwrap_or(&mut []);
        let (halves, count) = (halves.get(LEAD - spare..).unwrap_or(&[]), (spare + values).div_ceil(16));
        for (halves, cell) in halves.as_chunks().0.iter().zip(cells).take(count) {
            cell.raw.set_halves(halves);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_move_as_memmove_moves_them() {
        let before: [u16; ROOM] = core::array::from_fn(|i| i as u16 + 1);
        for end in LEAD..=LEAD + MAX_VALUES {
            for at in LEAD..=end {
                let (mut ours, mut plain) = (before, before);
                if end < LEAD + MAX_VALUES {
                    open(&mut ours, at, end);
                    plain.copy_within(at..end, at + 1);
                    assert_eq!(ours[at + 1..=end], plain[at + 1..=end], "up, {at} to {end}");
                    assert_eq!(ours[..at], before[..at], "up, {at} to {end}");
                }
                if at < end {
                    (ours, plain) = (before, before);
                    close(&mut ours, at, end);
                    plain.copy_within(at + 1..end, at);
                    assert_eq!(ours[at..end - 1], plain[at..end - 1], "down, {at} to {end}");
                    assert_eq!(ours[..at], before[..at], "down, {at} to {end}");
                }
            }
        }
    }
}
