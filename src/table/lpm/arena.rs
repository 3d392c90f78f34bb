//! The node arena: blocks of powers of two, kept free of fragmentation.
//!
//! A buddy allocator with one more rule: below the largest order there is at most one free block
//! of each order. When a second appears, the content of one's buddy moves into the other, and the
//! two merge. So a block can be had whenever as many words are free as it has, whatever happened
//! before; how many routes fit depends on the routes alone. A block has one owner, found in its
//! first word, so that a move changes one pointer for each block moved and one for each block that
//! those point to. One call moves less than two blocks of the largest order: 8 KiB.

use core::marker::PhantomData;

use super::cell::{self, CELL_WORDS, Cell, In, MAX_ORDER, NONE as NO_HOP, Raw, Slot};
use super::key::Bits;
use super::update::Start;
use super::{LpmNode, LpmRoot};

const NONE: u32 = u32::MAX;
const LARGEST: u32 = 1 << MAX_ORDER;

/// What is free in an arena.
#[derive(Debug, Clone)]
pub(super) struct Free {
    /// The free block of each order; of the largest order the first of a list through the blocks.
    heads: [u32; MAX_ORDER as usize + 1],
    /// The first word that was never handed out as part of a block of the largest order.
    fresh: u32,
    /// The first word behind those that can be: indexes lie from here on.
    limit: u32,
    /// How many words are free.
    pub(super) words: u32,
}

impl Free {
    /// Everything free, in an arena of `cells` cells.
    pub(super) fn all(cells: u32) -> Free {
        let words = cells.saturating_mul(CELL_WORDS);
        let mut heads = [NONE; MAX_ORDER as usize + 1];
        let limit = words - words % LARGEST;
        let mut at = limit;
        for order in (0..MAX_ORDER).rev() {
            if words & 1 << order != 0 {
                heads[order as usize] = at;
                at += 1 << order;
            }
        }
        Free { heads, fresh: 0, limit, words }
    }
}

/// The bit of an entry that is a [fallback]. Without it the entry is the number of the cell behind.
pub(super) const FALLBACK: u32 = 1 << 31;
/// The bit beside the number of a cell that has children.
pub(super) const PARENT: u32 = 1 << 30;

/// What an entry of an index falls back to: the next hop of the longest route that is not behind
/// the index, but for the rest of a wide one, and that route's length.
pub(super) const fn fallback(hop: u32, len: u32) -> u32 {
    FALLBACK | hop & 0xffff | len << 16
}

/// No route.
pub(super) const NO_FALLBACK: u32 = fallback(NO_HOP, 0);

/// The next hop of a fallback.
#[inline]
pub(super) const fn fallback_hop(fallback: u32) -> u32 {
    fallback & 0xffff
}

pub(super) const fn fallback_len(fallback: u32) -> u32 {
    fallback >> 16 & 0xff
}

/// The entry at `at`, in 32-bit units from the arena's start.
#[inline]
pub(super) fn entry<K>(cells: &[LpmNode<K>], at: u32) -> u32 {
    cells.get((at / 8) as usize).map_or(NO_FALLBACK, |c| c.raw.entry(at))
}

/// The number of the cell behind an entry; that of none where it is a fallback.
#[inline]
pub(super) const fn number(entry: u32) -> u32 {
    entry & !PARENT
}

/// The cell behind an entry. The number of a cell has no bit of a fallback.
#[inline]
pub(super) fn behind<K>(cells: &[LpmNode<K>], entry: u32) -> Option<&Raw> {
    cells.get(number(entry) as usize).map(|c| &c.raw)
}

/// The cells of all tables, while they are changed.
pub(super) struct Arena<'a, K> {
    cells: &'a mut [LpmNode<K>],
    roots: &'a mut [LpmRoot],
    free: &'a mut Free,
    /// Positions that the caller is at; a move of their cell changes them.
    pub(super) here: [Slot; 4],
    key: PhantomData<K>,
}

impl<'a, K> Arena<'a, K> {
    pub(super) fn new(cells: &'a mut [LpmNode<K>], roots: &'a mut [LpmRoot], free: &'a mut Free) -> Self {
        Arena { cells, roots, free, here: [Slot::root(0); 4], key: PhantomData }
    }

    /// Where the trie begins that the routes of `len` bits of `key` are in.
    pub(super) fn start<B: Bits>(&self, root: &LpmRoot, table: u32, key: B, len: u32) -> Start {
        match root.entry(key) {
            Some(at) if root.is_indexed(key, len) => Start { slot: self.entry_slot(at), depth: root.depth() },
            _ => Start { slot: Slot::root(table), depth: 0 },
        }
    }

    /// Whether blocks of these many words in all (each a power of two) can be had.
    pub(super) fn has(&self, words: u32) -> bool {
        self.free.words >= words
    }

    pub(super) fn word(&self, at: u32) -> u64 {
        self.cells.get((at / CELL_WORDS) as usize).map_or(0, |c| c.raw.word(at))
    }

    pub(super) fn set_word(&mut self, at: u32, value: u64) {
        if let Some(c) = self.cells.get_mut((at / CELL_WORDS) as usize) {
            c.raw.set_word(at, value);
        }
    }

    /// The cells, to read.
    pub(super) fn cells(&self) -> &[LpmNode<K>] {
        self.cells
    }

    pub(super) fn cells_mut(&mut self) -> &mut [LpmNode<K>] {
        self.cells
    }

    /// The cell at `slot`. An entry of an index reads as the head behind it or as nothing.
    pub(super) fn get(&self, slot: Slot) -> Cell {
        let index = slot.index() as usize;
        match slot.place() {
            In::Arena => self.cells.get(index).map_or([0; 4], |c| c.raw.cell()),
            In::Roots => self.roots.get(index).map_or([0; 4], |r| r.cell.cell()),
            In::Index => behind(self.cells, entry(self.cells, self.entry_at(slot))).map_or([0; 4], Raw::cell),
        }
    }

    /// Has the block of the head behind an entry brought near, as far as most of them go: reads that
    /// nothing waits for, beside the one of the head itself.
    pub(super) fn touch(&self, slot: Slot) {
        if slot.place() == In::Index {
            let head = number(entry(self.cells, self.entry_at(slot)));
            let ahead = |cells: u32| self.word(head.saturating_add(cells).saturating_mul(CELL_WORDS));
            core::hint::black_box(ahead(2) | ahead(4));
        }
    }

    fn set(&mut self, slot: Slot, cell: Cell) {
        let index = slot.index() as usize;
        match slot.place() {
            In::Arena => {
                if let Some(c) = self.cells.get_mut(index) {
                    c.raw.set(cell);
                }
            }
            In::Roots => {
                if let Some(r) = self.roots.get_mut(index) {
                    r.cell.set(cell);
                }
            }
            In::Index => {
                debug_assert!(cell::is_head(&cell));
                let head = cell::block(&cell) / CELL_WORDS;
                let parent = if cell[1] != 0 { PARENT } else { 0 };
                self.set_entry(self.entry_at(slot), head | parent);
                if let Some(c) = self.cells.get_mut(head as usize) {
                    c.raw.set(cell::at_place_of(cell, &c.raw.cell()));
                }
            }
        }
    }

    /// Writes the entry at `at`, in 32-bit units from the arena's start.
    pub(super) fn set_entry(&mut self, at: u32, entry: u32) {
        if let Some(c) = self.cells.get_mut((at / 8) as usize) {
            c.raw.set_entry(at, entry);
        }
    }

    /// What the entry at `at` falls back to, be it kept there or in the cell behind.
    pub(super) fn fallback(&self, at: u32) -> u32 {
        let entry = entry(self.cells, at);
        behind(self.cells, entry).map_or(entry, |cell| cell.word(3) as u32)
    }

    pub(super) fn set_fallback(&mut self, at: u32, fallback: u32) {
        let entry = entry(self.cells, at);
        if entry & FALLBACK != 0 {
            self.set_entry(at, fallback);
        } else {
            let at = number(entry) * CELL_WORDS + 3;
            self.set_word(at, cell::with_fallback(self.word(at), fallback));
        }
    }

    /// Where an entry is, in 32-bit units from the arena's start.
    pub(super) fn entry_at(&self, slot: Slot) -> u32 {
        self.last_entry().wrapping_sub(slot.index())
    }

    fn last_entry(&self) -> u32 {
        (self.end() / LARGEST * LARGEST * 2).wrapping_sub(1)
    }

    /// The slot of the entry at `at`.
    pub(super) fn entry_slot(&self, at: u32) -> Slot {
        Slot::entry(self.last_entry().wrapping_sub(at))
    }

    /// Words that no block has taken yet: those that an index or answers may have.
    pub(super) fn untouched(&self) -> u32 {
        self.free.limit.saturating_sub(self.free.fresh)
    }

    /// Takes `words` words from the end of the memory that was never used, filled with `fill`;
    /// gives the first.
    pub(super) fn take_region(&mut self, words: u32, fill: u64) -> Option<u32> {
        let limit = self.free.limit;
        let start = limit.checked_sub(words).filter(|start| *start >= self.free.fresh)?;
        for at in start..limit {
            self.set_word(at, fill);
        }
        self.free.limit = start;
        self.free.words -= words;
        Some(start)
    }

    /// Takes an index of 2^bits entries that fall back to nothing; gives the first.
    pub(super) fn take_index(&mut self, bits: u32) -> Option<u32> {
        let words = (1u32 << bits) / 2;
        let start = self.free.limit.checked_sub(words)?;
        if (self.last_entry() + 1).checked_sub(start * 2)? > Slot::COUNT {
            return None;
        }
        self.take_region(words, (NO_FALLBACK as u64) << 32 | NO_FALLBACK as u64).map(|start| start * 2)
    }

    /// Puts a cell in its place, and tells the block that it points to.
    pub(super) fn put(&mut self, slot: Slot, cell: Cell) {
        let old = self.get(slot);
        self.set(slot, cell::at_place_of(cell, &old));
        if cell::kind(&cell) != cell::EMPTY {
            self.own(cell::block(&cell), slot);
        }
    }

    fn own(&mut self, block: u32, owner: Slot) {
        self.set_word(block, cell::with_owner(self.word(block), owner));
    }

    /// Takes a block. Its first word tells the order; the owner is set when a cell that points to
    /// the block is [`put`](Arena::put) in place.
    ///
    /// The caller has asked [`has`](Arena::has) before; nothing moves.
    pub(super) fn take(&mut self, order: u32) -> u32 {
        let mut from = order;
        let block = loop {
            match self.pop(from) {
                Some(block) => break block,
                None if from >= MAX_ORDER => {
                    debug_assert!(false, "a block was taken that is not there");
                    return 0;
                }
                None => from += 1,
            }
        };
        for half in (order..from).rev() {
            self.free.heads[half as usize] = block + (1 << half);
        }
        self.free.words -= 1 << order;
        self.set_word(block, cell::with_order(0, order));
        block
    }

    fn pop(&mut self, order: u32) -> Option<u32> {
        let head = *self.free.heads.get(order as usize)?;
        if head != NONE {
            let next = if order == MAX_ORDER { self.word(head) as u32 } else { NONE };
            self.free.heads[order as usize] = next;
            return Some(head);
        }
        if order != MAX_ORDER || self.free.fresh + LARGEST > self.free.limit {
            return None;
        }
        let fresh = self.free.fresh;
        self.free.fresh += LARGEST;
        Some(fresh)
    }

    /// How many words the arena has.
    fn end(&self) -> u32 {
        (self.cells.len() as u32).saturating_mul(CELL_WORDS)
    }

    /// Gives back a block that nothing points to.
    ///
    /// Other blocks may move. Every block that is not free has its owner; [`here`](Arena::here) is
    /// kept right, every other position that the caller remembers is void.
    pub(super) fn give(&mut self, block: u32, order: u32) {
        self.free.words += 1 << order;
        let mut block = block;
        for order in order..MAX_ORDER {
            let size = 1u32 << order;
            let other = core::mem::replace(&mut self.free.heads[order as usize], NONE);
            if other == NONE {
                self.free.heads[order as usize] = block;
                return;
            }
            if other != block ^ size {
                // The last block of an arena of odd size may have no whole buddy.
                if (other ^ size) + size <= self.end() {
                    self.shift(other ^ size, block, order);
                    block = other;
                } else {
                    self.shift(block ^ size, other, order);
                }
            }
            block &= !size;
        }
        let next = self.free.heads[MAX_ORDER as usize];
        self.set_word(block, next as u64);
        self.free.heads[MAX_ORDER as usize] = block;
    }

    /// Moves the 2^order words at `from`, whatever blocks they hold, to the hole at `to`.
    fn shift(&mut self, from: u32, to: u32, order: u32) {
        let size = 1u32 << order;
        let inside = |at: u32| at.wrapping_sub(from) < size;
        for i in 0..size {
            self.set_word(to + i, self.word(from + i));
        }
        for head in &mut self.free.heads[..order as usize] {
            if *head != NONE && inside(*head) {
                *head = *head - from + to;
            }
        }
        let moved = |slot: Slot| {
            if slot.place() == In::Arena && inside(slot.index() * CELL_WORDS) {
                Slot::cell((slot.index() * CELL_WORDS - from + to) / CELL_WORDS)
            } else {
                slot
            }
        };
        self.here = self.here.map(moved);

        let mut at = to;
        while at < to + size {
            if let Some(order) = self.free.heads[..order as usize].iter().position(|&h| h == at) {
                at += 1 << order;
                continue;
            }
            let first = self.word(at);
            let owner = moved(cell::owner(first));
            let pointer = self.get(owner);
            self.set(owner, cell::with_block(pointer, at));
            self.own(at, owner);
            for child in 0..cell::children(&pointer) {
                let slot = Slot::cell(at / CELL_WORDS + cell::is_head(&pointer) as u32 + child);
                let pointer = self.get(slot);
                // A block that moves along learns of it when its turn comes.
                if cell::kind(&pointer) != cell::EMPTY && !inside(cell::block(&pointer)) {
                    self.own(cell::block(&pointer), slot);
                }
            }
            at += 1 << cell::order(first);
        }
    }

    /// Cuts the block of the node at `here[0]` down to `order`.
    pub(super) fn shrink(&mut self, order: u32) {
        loop {
            let block = cell::block(&self.get(self.here[0]));
            let first = self.word(block);
            let Some(half) = cell::order(first).checked_sub(1).filter(|half| *half >= order) else { return };
            self.set_word(block, cell::with_order(first, half));
            self.give(block + (1 << half), half);
        }
    }
}
