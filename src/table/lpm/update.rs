//! Changes to one table's trie.
//!
//! The trie is a function of the routes it holds, not of their history: a branch holds at least
//! two routes or children, a chain of branches that hold but one child is a skip, a route that is
//! alone below a branch is a leaf. Every branch stands at a multiple of the stride.

use super::arena::Arena;
use super::cell::{self, BRANCH, Cell, EMPTY, In, LEAF, Place, SKIP, Shape, Slot, WIDE};
use super::key::{Bits, LpmKey, STRIDE, home};

/// The most next hops of one branch: 2 + 4 + 8 + 16 + 32 inner and 64 full ones.
const MAX_RESULTS: usize = 126;

/// There is no room for a route.
pub(super) struct Full;

/// The next hops of a branch, unpacked.
struct Results {
    hops: [u32; MAX_RESULTS],
    count: usize,
}

impl Results {
    fn insert(&mut self, rank: u32, hop: u32) {
        let rank = rank as usize;
        if self.count < MAX_RESULTS && rank <= self.count {
            self.hops.copy_within(rank..self.count, rank + 1);
            self.hops[rank] = hop;
            self.count += 1;
        }
    }

    fn remove(&mut self, rank: u32) -> u32 {
        let rank = rank as usize;
        let hop = self.hops[rank % MAX_RESULTS];
        if rank < self.count {
            self.hops.copy_within(rank + 1..self.count, rank);
            self.count -= 1;
        }
        hop
    }

    fn as_slice(&self) -> &[u32] {
        self.hops.get(..self.count).unwrap_or(&[])
    }

    /// `cell` with its mark of wide next hops as these need it.
    fn mark(&self, mut cell: Cell) -> Cell {
        cell[3] &= !WIDE;
        if self.as_slice().iter().any(|hop| hop >> 16 != 0) {
            cell[3] |= WIDE;
        }
        cell
    }
}

/// A change to the children of a branch.
enum Children {
    Same,
    Insert(u32, Cell),
    Remove(u32),
}

/// The root of a trie: a table's, or one behind an entry of its index.
#[derive(Clone, Copy)]
pub(super) struct Start {
    pub(super) slot: Slot,
    pub(super) depth: u32,
}

/// A step down from a branch or a skip.
enum Step {
    Down(Slot, u32),
    /// No child; its chunk.
    Out(u32),
}

impl<K> Arena<'_, K> {
    fn results(&self, branch: &Cell) -> Results {
        let shape = Shape::of(branch);
        let mut results = Results { hops: [0; MAX_RESULTS], count: shape.results as usize };
        let at = cell::block(branch) * 4 + cell::results_at(branch[1]);
        for (i, hop) in results.hops.iter_mut().take(results.count).enumerate() {
            let i = i as u32;
            *hop = if shape.wide {
                self.half(at + 2 * i) | self.half(at + 2 * i + 1) << 16
            } else {
                self.half(at + i)
            };
        }
        results
    }

    /// The 16 bits at `at`, in units of 16 bits from the arena's start.
    fn half(&self, at: u32) -> u32 {
        (self.word(at / 4) >> (16 * (at % 4))) as u32 & 0xffff
    }

    fn set_half(&mut self, at: u32, value: u32) {
        let shift = 16 * (at % 4);
        let word = self.word(at / 4) & !(0xffff << shift);
        self.set_word(at / 4, word | ((value & 0xffff) as u64) << shift);
    }

    fn put_results(&mut self, branch: &Cell, results: &[u32]) {
        let shape = Shape::of(branch);
        let at = cell::block(branch) * 4 + cell::results_at(branch[1]);
        for (i, hop) in results.iter().enumerate() {
            let i = i as u32;
            if shape.wide {
                self.set_half(at + 2 * i, *hop);
                self.set_half(at + 2 * i + 1, hop >> 16);
            } else {
                self.set_half(at + i, *hop);
            }
        }
    }

    fn child(branch: &Cell, rank: u32) -> Slot {
        Slot::cell(cell::block(branch) / cell::CELL_WORDS + rank)
    }

    fn step(branch: &Cell, chunk: u32, depth: u32) -> Step {
        if cell::bit(branch[1], chunk) {
            Step::Down(Self::child(branch, cell::rank(branch[1], chunk)), depth + STRIDE)
        } else {
            Step::Out(chunk)
        }
    }

    /// Makes the branch at `slot` into `new`, with these next hops and this change to its
    /// children. `new` has the maps; block and mark are set here.
    fn remake(
        &mut self,
        slot: Slot,
        old: &Cell,
        new: Cell,
        results: &Results,
        children: Children,
    ) -> Result<(), Full> {
        let new = results.mark(new);
        let (order, needed) = (cell::order(self.word(cell::block(old))), Shape::of(&new).order());
        let grow = needed > order;
        let block = if grow {
            if !self.has(1 << needed) {
                return Err(Full);
            }
            self.take(needed)
        } else {
            cell::block(old)
        };
        let new = cell::with_block(new, block);
        let count = old[1].count_ones();
        match children {
            Children::Insert(rank, child) => {
                for i in (rank..count).rev() {
                    self.put(Self::child(&new, i + 1), self.get(Self::child(old, i)));
                }
                self.copy(old, &new, 0..rank);
                self.put(Self::child(&new, rank), child);
            }
            Children::Remove(rank) => {
                self.copy(old, &new, 0..rank);
                for i in rank + 1..count {
                    self.put(Self::child(&new, i - 1), self.get(Self::child(old, i)));
                }
            }
            Children::Same => self.copy(old, &new, 0..count),
        }
        self.put_results(&new, results.as_slice());
        if grow {
            self.put(slot, new);
            self.give(cell::block(old), order);
        } else {
            // A first child may have come or gone, and with it the word that tells owner and order.
            self.set_word(block, cell::with_order(self.word(block), order));
            self.put(slot, new);
            self.here[0] = slot;
            self.shrink(needed);
        }
        Ok(())
    }

    fn copy(&mut self, old: &Cell, new: &Cell, ranks: core::ops::Range<u32>) {
        if cell::block(old) != cell::block(new) {
            for i in ranks {
                self.put(Self::child(new, i), self.get(Self::child(old, i)));
            }
        }
    }
}

impl<K: LpmKey> Arena<'_, K> {
    /// Adds or replaces the route of `len` bits (not zero) of `key`; gives the next hop replaced.
    pub(super) fn insert(
        &mut self,
        from: Start,
        key: K::Bits,
        len: u32,
        hop: u32,
    ) -> Result<Option<u32>, Full> {
        let key = key.prefix(len);
        let home = home(len);
        let Start { mut slot, mut depth } = from;
        if slot.place() == In::Index {
            let entry = self.get(slot);
            if cell::kind(&entry) == EMPTY {
                if !self.has(Shape::ONE_CELL.words()) {
                    return Err(Full);
                }
                let block = self.take(Shape::ONE_CELL.order());
                let leaf = cell::leaf(key.to_words(), len, hop);
                self.put(Slot::cell(block / cell::CELL_WORDS), leaf);
                self.put(slot, cell::skip([0; 2], 0, block));
                return Ok(None);
            }
            slot = Self::child(&entry, 0);
        }
        loop {
            let cell = self.get(slot);
            match cell::kind(&cell) {
                BRANCH => {
                    let chunk = key.chunk(depth);
                    if home == depth {
                        return self.insert_result(slot, &cell, Place::new(chunk, len - depth), hop);
                    }
                    match Self::step(&cell, chunk, depth) {
                        Step::Down(child, below) => (slot, depth) = (child, below),
                        Step::Out(chunk) => {
                            let mut new = cell;
                            new[1] |= 1 << chunk;
                            let leaf = cell::leaf(key.to_words(), len, hop);
                            let results = self.results(&cell);
                            let rank = cell::rank(cell[1], chunk);
                            self.remake(slot, &cell, new, &results, Children::Insert(rank, leaf))?;
                            return Ok(None);
                        }
                    }
                }
                SKIP => {
                    let below = cell::skip_depth(&cell);
                    let fork = Self::fork(&cell, key).min(home);
                    if fork >= below {
                        (slot, depth) = (Self::child(&cell, 0), below);
                    } else {
                        self.split_skip(slot, &cell, depth, fork, (key, len, hop))?;
                        return Ok(None);
                    }
                }
                LEAF => {
                    let (other, other_len) = Self::leaf_route(&cell);
                    if other == key && other_len == len {
                        self.put(slot, cell::leaf(key.to_words(), len, hop));
                        return Ok(Some(cell::leaf_hop(&cell)));
                    }
                    let fork = Self::fork(&cell, key).min(home).min(super::key::home(other_len));
                    self.split_leaf(slot, &cell, depth, fork, (key, len, hop))?;
                    return Ok(None);
                }
                _ => {
                    debug_assert_eq!(cell::kind(&cell), EMPTY);
                    self.put(slot, cell::leaf(key.to_words(), len, hop));
                    return Ok(None);
                }
            }
        }
    }

    /// The stride in which the key of a skip or leaf and `key` part.
    fn fork(cell: &Cell, key: K::Bits) -> u32 {
        K::Bits::from_words(cell::key_words(cell)).common(key) / STRIDE * STRIDE
    }

    fn leaf_route(cell: &Cell) -> (K::Bits, u32) {
        (K::Bits::from_words(cell::key_words(cell)), cell::leaf_len(cell))
    }

    fn insert_result(
        &mut self,
        slot: Slot,
        branch: &Cell,
        place: Place,
        hop: u32,
    ) -> Result<Option<u32>, Full> {
        let mut results = self.results(branch);
        let rank = place.rank(branch);
        let replaced = place.is_set(branch).then(|| results.remove(rank));
        results.insert(rank, hop);
        let new = if replaced.is_none() { place.flip(*branch) } else { *branch };
        self.remake(slot, branch, new, &results, Children::Same)?;
        Ok(replaced)
    }

    /// Makes the leaf at `slot` a branch at depth `fork` with both routes.
    fn split_leaf(
        &mut self,
        slot: Slot,
        leaf: &Cell,
        depth: u32,
        fork: u32,
        route: (K::Bits, u32, u32),
    ) -> Result<(), Full> {
        let (other, other_len) = Self::leaf_route(leaf);
        let old = (other, other_len, cell::leaf_hop(leaf));
        let mut draft = Draft::new(fork);
        draft.route(old);
        draft.route(route);
        self.place(slot, depth, &draft, route.0)
    }

    /// Makes the skip at `slot` end at depth `fork`, above its branch, in a branch that has
    /// `route` and the rest of the skip.
    fn split_skip(
        &mut self,
        slot: Slot,
        skip: &Cell,
        depth: u32,
        fork: u32,
        route: (K::Bits, u32, u32),
    ) -> Result<(), Full> {
        let below = cell::skip_depth(skip);
        let chunk = K::Bits::from_words(cell::key_words(skip)).chunk(fork);
        let adjacent = fork + STRIDE == below;
        let rest = if adjacent { self.get(Self::child(skip, 0)) } else { *skip };
        let mut draft = Draft::new(fork);
        draft.child(chunk, rest);
        draft.route(route);
        self.place(slot, depth, &draft, route.0)?;
        if adjacent {
            self.give(cell::block(skip), Shape::ONE_CELL.order());
        }
        Ok(())
    }

    /// Puts a new branch at `slot`, behind a skip where its depth is not the slot's.
    fn place(&mut self, slot: Slot, depth: u32, draft: &Draft, key: K::Bits) -> Result<(), Full> {
        let branch = draft.results.mark(draft.cell);
        let order = Shape::of(&branch).order();
        let skipped = draft.depth != depth;
        let needed = Shape::of(&branch).words() + if skipped { Shape::ONE_CELL.words() } else { 0 };
        if !self.has(needed) {
            return Err(Full);
        }
        let branch = cell::with_block(branch, self.take(order));
        for (rank, child) in draft.children().iter().enumerate() {
            self.put(Self::child(&branch, rank as u32), *child);
        }
        self.put_results(&branch, draft.results.as_slice());
        if skipped {
            let block = self.take(Shape::ONE_CELL.order());
            let key = key.prefix(draft.depth);
            self.put(Slot::cell(block / cell::CELL_WORDS), branch);
            self.put(slot, cell::skip(key.to_words(), draft.depth, block));
        } else {
            self.put(slot, branch);
        }
        Ok(())
    }

    /// Where the route of `len` bits (not zero) of `key` is: a leaf, or a branch and the place
    /// in it. Beside it the slot above, when that is a skip.
    fn find(&self, from: Start, key: K::Bits, len: u32) -> Option<Found> {
        let home = home(len);
        let Start { mut slot, mut depth } = from;
        if slot.place() == In::Index {
            let entry = self.get(slot);
            if cell::kind(&entry) == EMPTY {
                return None;
            }
            slot = Self::child(&entry, 0);
        }
        let mut skip = None;
        loop {
            let cell = self.get(slot);
            match cell::kind(&cell) {
                BRANCH => {
                    let chunk = key.chunk(depth);
                    if home == depth {
                        let place = Place::new(chunk, len - depth);
                        return place.is_set(&cell).then_some(Found {
                            slot,
                            cell,
                            depth,
                            skip,
                            at: At::Result(place),
                        });
                    }
                    let Step::Down(child, below) = Self::step(&cell, chunk, depth) else { return None };
                    let found = self.get(child);
                    if cell::kind(&found) == LEAF {
                        let at = At::Child(chunk, found);
                        return (Self::leaf_route(&found) == (key, len)).then_some(Found {
                            slot,
                            cell,
                            depth,
                            skip,
                            at,
                        });
                    }
                    (slot, depth, skip) = (child, below, None);
                }
                SKIP => {
                    let below = cell::skip_depth(&cell);
                    if Self::fork(&cell, key).min(home) < below {
                        return None;
                    }
                    skip = Some(slot);
                    (slot, depth) = (Self::child(&cell, 0), below);
                }
                LEAF => {
                    return (Self::leaf_route(&cell) == (key, len)).then_some(Found {
                        slot,
                        cell,
                        depth,
                        skip: None,
                        at: At::Root,
                    });
                }
                _ => return None,
            }
        }
    }

    /// Takes out the route of `len` bits (not zero) of `key`; gives its next hop. Needs no room.
    pub(super) fn remove(&mut self, from: Start, key: K::Bits, len: u32) -> Option<u32> {
        let key = key.prefix(len);
        let found = self.find(from, key, len)?;
        let cell = found.cell;
        let mut results = self.results(&cell);
        let (hop, new, children) = match found.at {
            At::Root => {
                self.clear(from.slot);
                return Some(cell::leaf_hop(&cell));
            }
            At::Result(place) => (results.remove(place.rank(&cell)), place.flip(cell), Children::Same),
            At::Child(chunk, leaf) => {
                let mut new = cell;
                new[1] ^= 1 << chunk;
                (cell::leaf_hop(&leaf), new, Children::Remove(cell::rank(cell[1], chunk)))
            }
        };
        let shape = Shape::of(&new);
        if shape.children + shape.results > 1 {
            // It got smaller, and so fits where it is.
            let _ = self.remake(found.slot, &cell, new, &results, children);
            return Some(hop);
        }
        let last = if shape.results == 1 {
            let (chunk, n) = Place::only(&new).chunk();
            let route = key.with_chunk(found.depth, chunk);
            let len = found.depth + n;
            cell::leaf(route.prefix(len).to_words(), len, results.as_slice().first().copied().unwrap_or(0))
        } else {
            let chunk = new[1].trailing_zeros();
            let child = self.get(Self::child(&cell, cell::rank(cell[1], chunk)));
            if cell::kind(&child) == BRANCH {
                let block = cell::block(&cell);
                let below = found.depth + STRIDE;
                let route = key.with_chunk(found.depth, chunk).prefix(below);
                self.put(Slot::cell(block / cell::CELL_WORDS), child);
                cell::skip(route.to_words(), below, block)
            } else {
                child
            }
        };
        self.collapse(&found, last);
        Some(hop)
    }

    /// Replaces the branch at `found` by its last entry, and the skip above by the same.
    fn collapse(&mut self, found: &Found, last: Cell) {
        self.here = [found.slot, found.skip.unwrap_or(found.slot)];
        let block = cell::block(&found.cell);
        self.put(found.slot, last);
        if cell::kind(&last) == SKIP && cell::block(&last) == block {
            self.shrink(Shape::ONE_CELL.order());
        } else {
            self.give(block, cell::order(self.word(block)));
        }
        if found.skip.is_some() {
            let above = self.here[1];
            let block = cell::block(&self.get(above));
            self.put(above, self.get(self.here[0]));
            self.give(block, Shape::ONE_CELL.order());
        }
    }

    /// Takes out every route of the trie at `root`.
    pub(super) fn clear(&mut self, root: Slot) {
        loop {
            let mut slot = root;
            let cell = loop {
                let cell = self.get(slot);
                let children = Shape::of(&cell).children;
                let below = match cell::kind(&cell) {
                    BRANCH | SKIP => (0..children)
                        .map(|rank| Self::child(&cell, rank))
                        .rfind(|child| matches!(cell::kind(&self.get(*child)), BRANCH | SKIP)),
                    _ => {
                        self.put(root, [0; 4]);
                        return;
                    }
                };
                match below {
                    Some(child) => slot = child,
                    None => break cell,
                }
            };
            let block = cell::block(&cell);
            let order = cell::order(self.word(block));
            self.put(slot, cell::leaf([0; 2], 0, 0));
            self.give(block, order);
        }
    }
}

/// Where a route was found.
struct Found {
    /// The branch that holds it or its leaf; or, at the root, the leaf.
    slot: Slot,
    cell: Cell,
    depth: u32,
    /// The skip whose only cell `slot` is.
    skip: Option<Slot>,
    at: At,
}

enum At {
    Root,
    Result(Place),
    Child(u32, Cell),
}

/// A branch of two entries that is to be made.
struct Draft {
    depth: u32,
    /// Its maps, without a block.
    cell: Cell,
    results: Results,
    /// Children, in order of their chunks.
    children: [Cell; 2],
}

impl Draft {
    fn new(depth: u32) -> Draft {
        Draft {
            depth,
            cell: cell::branch(0, 0, 0, 0),
            results: Results { hops: [0; MAX_RESULTS], count: 0 },
            children: [[0; 4]; 2],
        }
    }

    fn child(&mut self, chunk: u32, child: Cell) {
        if cell::rank(self.cell[1], chunk) == 0 {
            self.children = [child, self.children[0]];
        } else {
            self.children[1] = child;
        }
        self.cell[1] |= 1 << chunk;
    }

    /// Adds a route: as a next hop where it belongs here, else as a leaf.
    fn route<B: Bits>(&mut self, (key, len, hop): (B, u32, u32)) {
        let chunk = key.chunk(self.depth);
        if home(len) == self.depth {
            let place = Place::new(chunk, len - self.depth);
            self.results.insert(place.rank(&self.cell), hop);
            self.cell = place.flip(self.cell);
        } else {
            self.child(chunk, cell::leaf(key.to_words(), len, hop));
        }
    }

    fn children(&self) -> &[Cell] {
        self.children.get(..self.cell[1].count_ones() as usize).unwrap_or(&[])
    }
}
