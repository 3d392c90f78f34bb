//! All routes of a table, in order.

use super::cell::{self, BRANCH, Cell, LEAF, Place, SKIP};
use super::find::{at, child, result};
use super::key::{Bits, LpmKey, STRIDE};
use super::{LpmNode, LpmRoot, arena};
use crate::addr::NextHop;

/// The routes of one table, in order of their addresses, and of their lengths where those are
/// equal. Made by [`Lpm::iter`](super::Lpm::iter).
#[derive(Clone)]
pub struct Routes<'a, K: LpmKey> {
    cells: &'a [LpmNode<K>],
    root: &'a LpmRoot,
    /// The default route, before it was given.
    default: Option<u32>,
    /// The routes of the root's trie: with an index, the short ones.
    short: Walk<'a, K>,
    /// The routes behind the index's entry before `entry`.
    long: Walk<'a, K>,
    entry: u32,
    /// The next of each, where it is known.
    ahead: [Option<Route<K>>; 2],
}

type Route<K> = (K, u8, NextHop);

impl<'a, K: LpmKey> Routes<'a, K> {
    pub(super) fn new(cells: &'a [LpmNode<K>], root: &'a LpmRoot) -> Self {
        Routes {
            cells,
            root,
            default: root.default_route(),
            short: Walk::new(cells, Some(&root.cell), 0, K::Bits::ZERO),
            long: Walk::new(cells, None, 0, K::Bits::ZERO),
            entry: 0,
            ahead: [None; 2],
        }
    }

    fn next_long(&mut self) -> Option<Route<K>> {
        loop {
            if let Some(route) = self.long.next() {
                return Some(route);
            }
            let bits = self.root.index_bits;
            if bits == 0 || self.entry >= 1 << bits {
                return None;
            }
            let entry = arena::entry(self.cells, self.root.index.wrapping_sub(self.entry));
            if let Some(number) = entry.checked_sub(1) {
                let key = K::Bits::from_top(self.entry, bits);
                self.long = Walk::new(self.cells, at(self.cells, number), bits, key);
            }
            self.entry += 1;
        }
    }
}

impl<K: LpmKey> Iterator for Routes<'_, K> {
    type Item = Route<K>;

    fn next(&mut self) -> Option<Route<K>> {
        if let Some(hop) = self.default.take() {
            return Some((K::from_key(K::Bits::ZERO), 0, cell::unpack(hop)));
        }
        let short = self.ahead[0].take().or_else(|| self.short.next());
        if self.root.index_bits == 0 {
            return short;
        }
        let long = self.ahead[1].take().or_else(|| self.next_long());
        match (short, long) {
            (Some(s), Some(l)) if (l.0, l.1) < (s.0, s.1) => {
                self.ahead[0] = short;
                long
            }
            (Some(_), _) => {
                self.ahead[1] = long;
                short
            }
            (None, _) => long,
        }
    }
}

/// Branches above each other: one for every stride of an IPv6 address.
const MAX_BRANCHES: usize = 128usize.div_ceil(STRIDE as usize);

/// A walk through one trie.
#[derive(Clone)]
struct Walk<'a, K: LpmKey> {
    cells: &'a [LpmNode<K>],
    /// Where to begin, before that was done.
    start: Option<(&'a Cell, u32)>,
    /// The branches that the walk is in, from the top.
    path: [Frame<'a>; MAX_BRANCHES],
    depth: usize,
    key: K::Bits,
}

#[derive(Clone, Copy)]
struct Frame<'a> {
    branch: Option<&'a Cell>,
    depth: u32,
    /// Eight for each chunk: the routes that begin there, by length, and then the child.
    next: u32,
}

impl<'a, K: LpmKey> Walk<'a, K> {
    fn new(cells: &'a [LpmNode<K>], start: Option<&'a Cell>, depth: u32, key: K::Bits) -> Self {
        Walk {
            cells,
            start: start.map(|cell| (cell, depth)),
            path: [Frame { branch: None, depth: 0, next: 0 }; MAX_BRANCHES],
            depth: 0,
            key,
        }
    }

    /// Goes to a cell at `depth`: gives its route, or steps into its branch.
    fn enter(&mut self, cell: &'a Cell, depth: u32) -> Option<Route<K>> {
        let (branch, depth) = match cell::kind(cell) {
            BRANCH => (Some(cell), depth),
            SKIP => {
                self.key = K::Bits::from_words(cell::key_words(cell));
                (child(self.cells, cell, 0), cell::skip_depth(cell))
            }
            LEAF => {
                let key = K::Bits::from_words(cell::key_words(cell));
                let hop = cell::unpack(cell::leaf_hop(cell));
                return Some((K::from_key(key), cell::leaf_len(cell) as u8, hop));
            }
            _ => return None,
        };
        if let Some(frame) = self.path.get_mut(self.depth) {
            *frame = Frame { branch, depth, next: 0 };
            self.depth += 1;
        }
        None
    }

    fn next(&mut self) -> Option<Route<K>> {
        if let Some((cell, depth)) = self.start.take()
            && let Some(route) = self.enter(cell, depth)
        {
            return Some(route);
        }
        loop {
            let top = self.depth.checked_sub(1)?;
            let frame = self.path.get_mut(top)?;
            let (Some(branch), true) = (frame.branch, frame.next < 64 * 8) else {
                self.depth = top;
                continue;
            };
            let (chunk, n, depth) = (frame.next / 8, frame.next % 8, frame.depth);
            frame.next += 1;
            match n {
                0 => {}
                7 => {
                    if cell::bit(branch[1], chunk) {
                        self.key = self.key.with_chunk(depth, chunk);
                        let below = child(self.cells, branch, cell::rank(branch[1], chunk))?;
                        if let Some(route) = self.enter(below, depth + STRIDE) {
                            return Some(route);
                        }
                    }
                }
                _ => {
                    let place = Place::new(chunk, n);
                    if place.chunk().0 == chunk && place.is_set(branch) {
                        let hop = result(self.cells, branch, place.rank(branch))?;
                        let addr = K::from_key(self.key.with_chunk(depth, chunk));
                        return Some((addr, (depth + n) as u8, cell::unpack(hop)));
                    }
                }
            }
        }
    }
}
