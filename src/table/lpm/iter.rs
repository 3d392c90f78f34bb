//! All routes of a table, in order.

use super::cell::{self, Cell, Place, Routes as Set};
use super::find::child;
use super::key::{Bits, LpmKey, STRIDE};
use super::{LpmNode, LpmRoot, arena, tail};
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
            short: Walk::new(cells, Some(root.cell.cell()), None),
            long: Walk::new(cells, None, None),
            entry: 0,
            ahead: [None; 2],
        }
    }

    fn next_long(&mut self) -> Option<Route<K>> {
        loop {
            if let Some(route) = self.long.next() {
                return Some(route);
            }
            if self.entry >= self.root.entries {
                return None;
            }
            let place = self.root.index + self.entry;
            let entry = arena::entry(self.cells, place);
            if let Some(node) = arena::behind(self.cells, entry) {
                let key = K::Bits::from_first(self.root.depth(), self.root.first(place));
                self.long = Walk::new(self.cells, Some(node.cell()), Some(key));
            }
            self.entry += 1;
        }
    }
}

impl<K: LpmKey> Iterator for Routes<'_, K> {
    type Item = Route<K>;

    fn next(&mut self) -> Option<Route<K>> {
        if let Some(hop) = self.default.take() {
            return cell::unpack(hop).map(|hop| (K::from_key(K::Bits::ZERO), 0, hop));
        }
        let short = self.ahead[0].take().or_else(|| self.short.next());
        if self.root.entries == 0 {
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

/// Nodes above each other: one for every stride of an IPv6 address.
const MAX_NODES: usize = 128usize.div_ceil(STRIDE as usize);

/// A walk through one trie.
#[derive(Clone)]
struct Walk<'a, K: LpmKey> {
    cells: &'a [LpmNode<K>],
    /// Where to begin, before that was done, and the address bits above, where the node has none.
    start: Option<(Cell, Option<K::Bits>)>,
    /// The nodes that the walk is in, from the top.
    path: [Frame; MAX_NODES],
    depth: usize,
    key: K::Bits,
}

#[derive(Clone, Copy)]
struct Frame {
    node: Option<Cell>,
    routes: Set,
    /// Eight for each chunk: the routes that begin there, by length, and then the child.
    next: u32,
}

impl<'a, K: LpmKey> Walk<'a, K> {
    fn new(cells: &'a [LpmNode<K>], start: Option<Cell>, key: Option<K::Bits>) -> Self {
        Walk {
            cells,
            start: start.map(|node| (node, key)),
            path: [Frame { node: None, routes: Set { full: 0, inner: 0 }, next: 0 }; MAX_NODES],
            depth: 0,
            key: K::Bits::ZERO,
        }
    }

    fn enter(&mut self, node: Cell, key: K::Bits) {
        if let (Some(frame), true) = (self.path.get_mut(self.depth), cell::is_node(&node)) {
            let routes = tail::routes(self.cells, &node);
            *frame = Frame { node: Some(node), routes, next: 0 };
            self.key = key;
            self.depth += 1;
        }
    }

    fn next(&mut self) -> Option<Route<K>> {
        if let Some((node, key)) = self.start.take() {
            self.enter(node, key.unwrap_or(K::Bits::ZERO.with_before(cell::depth(node[0]), node[3])));
        }
        loop {
            let top = self.depth.checked_sub(1)?;
            let frame = self.path.get_mut(top)?;
            let (Some(node), true) = (frame.node, frame.next < 64 * 8) else {
                self.depth = top;
                continue;
            };
            let (chunk, n, depth) = (frame.next / 8, frame.next % 8, cell::depth(node[0]));
            frame.next += 1;
            match n {
                0 => {}
                7 => {
                    if cell::bit(node[1], chunk) {
                        let key = self.key.with_chunk(depth, chunk);
                        let below = child(self.cells, &node, cell::rank(node[1], chunk))?;
                        self.enter(below, key.with_before(cell::depth(below[0]), below[3]));
                    }
                }
                _ => {
                    let place = Place::new(chunk, n);
                    if place.chunk().0 == chunk && frame.routes.has(place) {
                        let hop = tail::hop(self.cells, &node, place);
                        let addr = K::from_key(self.key.with_chunk(depth, chunk));
                        return Some((addr, (depth + n) as u8, cell::unpack(hop)?));
                    }
                }
            }
        }
    }
}
