//! Changes to one table's trie.
//!
//! The trie is a function of the routes it holds, not of their history: a node holds a route or two
//! children, except the one behind an entry of an index, and one at [`CHECKPOINT`] with something
//! below it; those stand wherever they are needed.

use super::arena::{Arena, NO_FALLBACK};
use super::cell::{self, CELL_ORDER, Cell, EMPTY, In, Place, Slot};
use super::key::{Bits, CHECKPOINT, LpmKey, STRIDE, home};
use super::tail::Tail;

/// There is no room for a route.
pub(super) struct Full;

/// A change to the children of a node.
enum Children {
    Same,
    Insert(u32, Cell),
    Remove(u32),
}

/// The root of a trie: a table's, or an entry of its index.
#[derive(Clone, Copy)]
pub(super) struct Start {
    pub(super) slot: Slot,
    pub(super) depth: u32,
}

/// A route: its address bits, length (not zero) and next hop.
type Route<B> = (B, u32, u32);

const CELL: u32 = 1 << CELL_ORDER;

impl<K> Arena<'_, K> {
    pub(super) fn child(node: &Cell, rank: u32) -> Slot {
        Slot::cell(cell::children_end(node[0]).wrapping_sub(cell::children(node)).wrapping_add(rank))
    }

    /// Makes the node at `slot` into `new`, with these routes and this change to its children.
    /// `new` has the map of the children.
    ///
    /// Other blocks may move; `here[0]` is `slot` afterwards, the others are kept right.
    fn remake(
        &mut self,
        slot: Slot,
        old: &Cell,
        new: Cell,
        tail: &mut Tail,
        children: Children,
    ) -> Result<(), Full> {
        let order = cell::order(self.word(cell::block(old)));
        let needed = tail.order(&new);
        let grow = needed > order;
        if grow && !self.has(1 << needed) {
            return Err(Full);
        }
        let block = if grow { self.take(needed) } else { cell::block(old) };
        let new = tail.mark(cell::with_block(new, block));
        let count = old[1].count_ones();
        match children {
            Children::Insert(rank, child) => {
                for i in (rank..count).rev() {
                    self.put(Self::child(&new, i + 1), self.get(Self::child(old, i)));
                }
                self.copy(old, &new, rank);
                self.put(Self::child(&new, rank), child);
            }
            Children::Remove(rank) => {
                self.copy(old, &new, rank);
                for i in rank + 1..count {
                    self.put(Self::child(&new, i - 1), self.get(Self::child(old, i)));
                }
            }
            Children::Same => self.copy(old, &new, count),
        }
        self.put_tail(&new, needed, tail);
        self.here[0] = slot;
        if grow {
            self.put(slot, new);
            self.give(cell::block(old), order);
        } else {
            // A first child may have come or gone, and with it the word that tells owner and order.
            self.set_word(block, cell::with_order(self.word(block), order));
            self.put(slot, new);
            self.shrink(needed);
        }
        Ok(())
    }

    /// Copies the first `count` children, if they are elsewhere.
    fn copy(&mut self, old: &Cell, new: &Cell, count: u32) {
        if cell::block(old) != cell::block(new) {
            for i in 0..count {
                self.put(Self::child(new, i), self.get(Self::child(old, i)));
            }
        }
    }
}

impl<K: LpmKey> Arena<'_, K> {
    /// The words that [`lone`](Self::lone) takes.
    fn lone_words(above: u32, len: u32) -> u32 {
        if above < CHECKPOINT && home(len) > CHECKPOINT { 2 * CELL } else { CELL }
    }

    /// A new node with this route alone, somewhere below a node at depth `above`.
    fn lone(&mut self, above: u32, (key, len, hop): Route<K::Bits>) -> Cell {
        let depth = home(len);
        let mut tail = Tail::new();
        tail.insert_route(Place::new(key.chunk(depth), len - depth), hop);
        let node = tail.mark(cell::with_block(cell::node(depth, key.before(depth)), self.take(CELL_ORDER)));
        self.put_tail(&node, CELL_ORDER, &mut tail);
        if above < CHECKPOINT && depth > CHECKPOINT { self.above(CHECKPOINT, key, node) } else { node }
    }

    /// A new node at `depth` with the child `node` alone, which holds `key`.
    fn above(&mut self, depth: u32, key: K::Bits, node: Cell) -> Cell {
        let mut above = cell::node(depth, key.before(depth));
        above[1] = 1 << key.chunk(depth);
        let above = cell::with_block(above, self.take(CELL_ORDER));
        self.put(Self::child(&above, 0), node);
        above
    }

    /// Adds or replaces the route of `len` bits (not zero) of `key`; gives the next hop replaced.
    pub(super) fn insert(
        &mut self,
        from: Start,
        key: K::Bits,
        len: u32,
        hop: u32,
    ) -> Result<Option<u32>, Full> {
        let route = (key.prefix(len), len, hop);
        let (key, home) = (route.0, home(len));
        let Start { mut slot, mut depth } = from;
        let mut checked = slot.place() == In::Index;
        self.touch(slot);
        if cell::kind(&self.get(slot)) == EMPTY {
            if checked {
                return self.insert_at_entry(from, route).map(|()| None);
            }
            // A root is as if below a node at depth 0 or above.
            if !self.has(Self::lone_words(0, len)) {
                return Err(Full);
            }
            let node = self.lone(0, route);
            self.put(slot, node);
            return Ok(None);
        }
        loop {
            let node = self.get(slot);
            if !checked {
                depth = cell::depth(node[0]);
                let fork = Self::fork(&node, key).min(home);
                if fork < depth {
                    return self.split(slot, &node, fork, route).map(|()| None);
                }
            }
            checked = false;
            let chunk = key.chunk(depth);
            if home == depth {
                let mut tail = Tail::new();
                tail.load(self.cells(), &node);
                let old = tail.insert_route(Place::new(chunk, len - depth), hop);
                self.remake(slot, &node, node, &mut tail, Children::Same)?;
                return Ok(old);
            }
            let rank = cell::rank(node[1], chunk);
            if cell::bit(node[1], chunk) {
                slot = Self::child(&node, rank);
                continue;
            }
            let mut new = node;
            new[1] |= 1 << chunk;
            let mut tail = Tail::new();
            tail.load(self.cells(), &node);
            let words = Self::lone_words(depth, len);
            let grown = tail.order(&new);
            let grows = grown > cell::order(self.word(cell::block(&node)));
            if !self.has(words + if grows { 1 << grown } else { 0 }) {
                return Err(Full);
            }
            let lone = self.lone(depth, route);
            self.remake(slot, &node, new, &mut tail, Children::Insert(rank, lone))?;
            return Ok(None);
        }
    }

    /// The depth at which `key` parts from the way to `node`, or the node's own.
    fn fork(node: &Cell, key: K::Bits) -> u32 {
        let depth = cell::depth(node[0]);
        let differ = (key.before(depth) ^ node[3]).leading_zeros();
        (depth + differ).saturating_sub(64) / STRIDE * STRIDE
    }

    fn insert_at_entry(&mut self, from: Start, route: Route<K::Bits>) -> Result<(), Full> {
        let (key, len, hop) = route;
        let mut tail = Tail::new();
        let mut node = cell::head(cell::node(from.depth, 0), self.fallback(self.entry_at(from.slot)));
        let (chunk, here) = (key.chunk(from.depth), home(len) == from.depth);
        if here {
            tail.insert_route(Place::new(chunk, len - from.depth), hop);
        } else {
            node[1] = 1 << chunk;
        }
        let order = tail.order(&node);
        if !self.has((1 << order) + if here { 0 } else { Self::lone_words(from.depth, len) }) {
            return Err(Full);
        }
        let node = tail.mark(cell::with_block(node, self.take(order)));
        if here {
            self.put_tail(&node, order, &mut tail);
        } else {
            let lone = self.lone(from.depth, route);
            self.put(Self::child(&node, 0), lone);
        }
        self.put(from.slot, node);
        Ok(())
    }

    /// Puts a node at depth `fork` above the one at `slot`, with it and `route`.
    fn split(&mut self, slot: Slot, node: &Cell, fork: u32, route: Route<K::Bits>) -> Result<(), Full> {
        let (key, len, hop) = route;
        let shift = cell::depth(node[0]).wrapping_sub(fork + STRIDE);
        let chunk = (node[3].wrapping_shr(shift) & 63) as u32;
        let mut tail = Tail::new();
        let mut new = cell::node(fork, key.before(fork));
        new[1] = 1 << chunk;
        let here = home(len) == fork;
        if here {
            tail.insert_route(Place::new(key.chunk(fork), len - fork), hop);
        } else {
            new[1] |= 1 << key.chunk(fork);
        }
        let order = tail.order(&new);
        if !self.has((1 << order) + if here { 0 } else { Self::lone_words(fork, len) }) {
            return Err(Full);
        }
        let new = tail.mark(cell::with_block(new, self.take(order)));
        self.put(Self::child(&new, cell::rank(new[1], chunk)), *node);
        if here {
            self.put_tail(&new, order, &mut tail);
        } else {
            let lone = self.lone(fork, route);
            self.put(Self::child(&new, cell::rank(new[1], key.chunk(fork))), lone);
        }
        self.put(slot, new);
        Ok(())
    }

    /// Takes out the route of `len` bits (not zero) of `key`; gives its next hop. Needs no room.
    pub(super) fn remove(&mut self, from: Start, key: K::Bits, len: u32) -> Option<u32> {
        let (key, home) = (key.prefix(len), home(len));
        self.here = [from.slot; 4];
        self.touch(from.slot);
        let mut depth = from.depth;
        let mut checked = from.slot.place() == In::Index;
        loop {
            let slot = self.here[0];
            let node = self.get(slot);
            if !cell::is_node(&node) {
                return None;
            }
            if !checked {
                depth = cell::depth(node[0]);
                if home < depth || key.before(depth) != node[3] {
                    return None;
                }
            }
            checked = false;
            let chunk = key.chunk(depth);
            if home > depth {
                if !cell::bit(node[1], chunk) {
                    return None;
                }
                self.descend(Self::child(&node, cell::rank(node[1], chunk)));
                continue;
            }
            let place = Place::new(chunk, len - depth);
            let mut tail = Tail::new();
            tail.load(self.cells(), &node);
            if !tail.routes.has(place) {
                return None;
            }
            let hop = tail.remove_route(place);
            if tail.routes.is_empty() && node[1].count_ones() < 2 {
                self.prune(&node, key);
            } else {
                // It got smaller, and so fits where it is.
                let _ = self.remake(slot, &node, node, &mut tail, Children::Same);
            }
            return Some(hop);
        }
    }

    fn descend(&mut self, slot: Slot) {
        self.here = [slot, self.here[0], self.here[1], self.here[2]];
    }

    /// The node at `here[0]` has lost its last route, and has one child or none.
    fn prune(&mut self, node: &Cell, key: K::Bits) {
        let mut node = *node;
        // With a node without children, those can go that stood only for it: one at the checkpoint,
        // and one behind an entry.
        for _ in 0..4 {
            let slot = self.here[0];
            let head = slot.place() == In::Index;
            let block = cell::block(&node);
            let order = cell::order(self.word(block));
            if node[1] != 0 {
                if head || cell::depth(node[0]) == CHECKPOINT {
                    let _ = self.remake(slot, &node, node, &mut Tail::new(), Children::Same);
                } else {
                    self.put(slot, self.get(Self::child(&node, 0)));
                    self.give(block, order);
                }
                return;
            }
            if head {
                self.set_entry(self.entry_at(slot), node[3] as u32);
                self.give(block, order);
                return;
            }
            self.put(slot, [0; 4]);
            self.give(block, order);
            let [slot, above, ..] = self.here;
            if slot.place() == In::Roots {
                return;
            }
            let parent = self.get(above);
            let chunk = key.chunk(cell::depth(parent[0]));
            let rank = cell::rank(parent[1], chunk);
            let mut less = parent;
            less[1] &= !(1 << chunk);
            let mut tail = Tail::new();
            tail.load(self.cells(), &parent);
            self.here = [above, self.here[2], self.here[3], self.here[3]];
            let _ = self.remake(above, &parent, less, &mut tail, Children::Remove(rank));
            if !tail.routes.is_empty() || less[1].count_ones() > 1 {
                return;
            }
            node = self.get(self.here[0]);
        }
    }

    /// Takes out every route of the trie at `root`.
    pub(super) fn clear(&mut self, root: Slot) {
        loop {
            let mut slot = root;
            let cell = loop {
                let cell = self.get(slot);
                let mut children = (0..cell::children(&cell)).map(|rank| Self::child(&cell, rank));
                match children.rfind(|child| cell::kind(&self.get(*child)) != EMPTY) {
                    Some(child) => slot = child,
                    None => break cell,
                }
            };
            let block = cell::block(&cell);
            let order = cell::order(self.word(block));
            if slot.place() == In::Index {
                self.set_entry(self.entry_at(slot), NO_FALLBACK);
            } else {
                self.put(slot, [0; 4]);
            }
            if cell::kind(&cell) != EMPTY {
                self.give(block, order);
            }
            if slot == root {
                return;
            }
        }
    }
}
