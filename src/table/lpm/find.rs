//! Reading: the longest match, the exact route, all routes in order.

use super::cell::{self, BRANCH, CELL_WORDS, Cell, LEAF, Place, SKIP, Shape};
use super::key::{Bits, LpmKey, STRIDE, home};
use super::{LpmNode, LpmRoot};
use crate::addr::NextHop;

#[inline]
fn at<K>(cells: &[LpmNode<K>], index: u32) -> Option<&Cell> {
    cells.get(index as usize).map(|c| &c.words)
}

/// Child `rank` of a branch or a skip.
#[inline]
fn child<'a, K>(cells: &'a [LpmNode<K>], cell: &Cell, rank: u32) -> Option<&'a Cell> {
    at(cells, (cell::block(cell) / CELL_WORDS).wrapping_add(rank))
}

/// Next hop `rank` of a branch, packed.
#[inline]
fn result<K>(cells: &[LpmNode<K>], branch: &Cell, rank: u32) -> Option<u32> {
    let shape = Shape::of(branch);
    let half = (rank << shape.wide as u32).wrapping_add(shape.results_at());
    let half = half.wrapping_add(cell::block(branch) << 2);
    let word = at(cells, half / (4 * CELL_WORDS))?[(half / 4 % CELL_WORDS) as usize];
    let value = (word >> (16 * (half % 4))) as u32;
    Some(if shape.wide { value } else { value & 0xffff })
}

/// The next hop of the longest route that holds `addr`, packed.
#[inline]
pub(super) fn lookup<K: LpmKey>(cells: &[LpmNode<K>], root: &LpmRoot, addr: K) -> Option<u32> {
    let key = addr.to_key();
    let mut cell = &root.cell;
    let mut best: Option<(&Cell, u32)> = None;
    let mut depth = 0;
    for _ in 0..K::STEPS {
        match cell::kind(cell) {
            BRANCH => {
                let chunk = key.chunk(depth);
                if cell::bit(cell[2], chunk) || cell::covering(cell[3], chunk) != 0 {
                    best = Some((cell, chunk));
                }
                if !cell::bit(cell[1], chunk) {
                    break;
                }
                match child(cells, cell, cell::rank(cell[1], chunk)) {
                    Some(below) => cell = below,
                    None => break,
                }
                depth += STRIDE;
            }
            SKIP => {
                depth = cell::skip_depth(cell);
                if K::Bits::from_words(cell::key_words(cell)).common(key) < depth {
                    break;
                }
                match child(cells, cell, 0) {
                    Some(below) => cell = below,
                    None => break,
                }
            }
            LEAF => {
                if K::Bits::from_words(cell::key_words(cell)).common(key) >= cell::leaf_len(cell) {
                    return Some(cell::leaf_hop(cell));
                }
                break;
            }
            _ => break,
        }
    }
    match best {
        Some((branch, chunk)) => {
            let (rank, _) = cell::longest(branch, chunk)?;
            result(cells, branch, rank)
        }
        None => root.default_route(),
    }
}

/// The longest route that holds `addr`: its prefix length and next hop, packed.
pub(super) fn lookup_prefix<K: LpmKey>(cells: &[LpmNode<K>], root: &LpmRoot, addr: K) -> Option<(u32, u32)> {
    let key = addr.to_key();
    let mut best = root.default_route().map(|hop| (0, hop));
    let mut cell = &root.cell;
    let mut depth = 0;
    for _ in 0..K::STEPS {
        match cell::kind(cell) {
            BRANCH => {
                let chunk = key.chunk(depth);
                if let Some((rank, n)) = cell::longest(cell, chunk) {
                    best = result(cells, cell, rank).map(|hop| (depth + n, hop));
                }
                if !cell::bit(cell[1], chunk) {
                    return best;
                }
                cell = child(cells, cell, cell::rank(cell[1], chunk))?;
                depth += STRIDE;
            }
            SKIP => {
                depth = cell::skip_depth(cell);
                if K::Bits::from_words(cell::key_words(cell)).common(key) < depth {
                    return best;
                }
                cell = child(cells, cell, 0)?;
            }
            LEAF => {
                let len = cell::leaf_len(cell);
                let holds = K::Bits::from_words(cell::key_words(cell)).common(key) >= len;
                return if holds { Some((len, cell::leaf_hop(cell))) } else { best };
            }
            _ => return best,
        }
    }
    best
}

/// The next hop of the route of `len` bits of `addr`, packed.
pub(super) fn get<K: LpmKey>(cells: &[LpmNode<K>], root: &LpmRoot, addr: K, len: u32) -> Option<u32> {
    if len == 0 {
        return root.default_route();
    }
    let key = addr.to_key().truncate(len);
    let home = home(len);
    let mut cell = &root.cell;
    let mut depth = 0;
    for _ in 0..K::STEPS {
        match cell::kind(cell) {
            BRANCH => {
                let chunk = key.chunk(depth);
                if home == depth {
                    let place = Place::new(chunk, len - depth);
                    return if place.is_set(cell) { result(cells, cell, place.rank(cell)) } else { None };
                }
                if !cell::bit(cell[1], chunk) {
                    return None;
                }
                cell = child(cells, cell, cell::rank(cell[1], chunk))?;
                depth += STRIDE;
            }
            SKIP => {
                depth = cell::skip_depth(cell);
                if home < depth || K::Bits::from_words(cell::key_words(cell)).common(key) < depth {
                    return None;
                }
                cell = child(cells, cell, 0)?;
            }
            LEAF => {
                let found = K::Bits::from_words(cell::key_words(cell)) == key && cell::leaf_len(cell) == len;
                return found.then_some(cell::leaf_hop(cell));
            }
            _ => return None,
        }
    }
    None
}

/// The routes of one table, in order of their addresses, and of their lengths where those are
/// equal. Made by [`Lpm::iter`](super::Lpm::iter).
#[derive(Clone)]
pub struct Routes<'a, K: LpmKey> {
    cells: &'a [LpmNode<K>],
    /// The default route and the root, before they were given.
    default: Option<u32>,
    root: Option<&'a Cell>,
    /// The branches that the walk is in, from the top.
    path: [Frame<'a>; MAX_BRANCHES],
    depth: usize,
    key: K::Bits,
}

/// Branches above each other: one for every stride of an IPv6 address.
const MAX_BRANCHES: usize = 128usize.div_ceil(STRIDE as usize);

#[derive(Clone, Copy)]
struct Frame<'a> {
    branch: Option<&'a Cell>,
    depth: u32,
    /// Eight for each chunk: the routes that begin there, by length, and then the child.
    next: u32,
}

impl<'a, K: LpmKey> Routes<'a, K> {
    pub(super) fn new(cells: &'a [LpmNode<K>], root: Option<&'a LpmRoot>) -> Self {
        Routes {
            cells,
            default: root.and_then(LpmRoot::default_route),
            root: root.map(|r| &r.cell),
            path: [Frame { branch: None, depth: 0, next: 0 }; MAX_BRANCHES],
            depth: 0,
            key: K::Bits::ZERO,
        }
    }

    /// Goes to a cell at `depth`: gives its route, or steps into its branch.
    fn enter(&mut self, cell: &'a Cell, depth: u32) -> Option<(K, u8, NextHop)> {
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
}

impl<K: LpmKey> Iterator for Routes<'_, K> {
    type Item = (K, u8, NextHop);

    fn next(&mut self) -> Option<(K, u8, NextHop)> {
        if let Some(hop) = self.default.take() {
            return Some((K::from_key(K::Bits::ZERO), 0, cell::unpack(hop)));
        }
        if let Some(root) = self.root.take()
            && let Some(route) = self.enter(root, 0)
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
