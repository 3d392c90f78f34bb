//! The layout of the 32-byte cell.
//!
//! A trie position is one cell, of one of three kinds (fields of word 0 are listed below):
//!
//! | kind | word 0, high half | word 1 | word 2 | word 3 |
//! |---|---|---|---|---|
//! | branch | block | children: bit per 6-bit chunk | full: routes of 6 bits | inner: routes of 1 to 5 bits, bit 0 = wide |
//! | skip | block, depth | 0 | key | key |
//! | leaf | next hop | length | key | key |
//!
//! A *block* is what a branch or a skip points to: a run of 2^order words, aligned to its size. It
//! holds the child cells first, in order of their chunks, then the next hops, inner ones first, 16
//! bits each, or 32 when one of them (wide) is not a VTEP. A skip's block holds one branch.
//!
//! The low half of a block's first word tells who points to it, and its order, so that blocks can
//! be moved; where the first word belongs to a child cell, the cell leaves those bits to the block.

use core::hint::select_unpredictable;

use crate::addr::{NextHop, PortId, VtepId};

pub(super) type Cell = [u64; 4];

/// A cell's words, as a block counts them.
pub(super) const CELL_WORDS: u32 = 4;
/// The order of the largest block: 64 children and 126 wide next hops are 319 words.
pub(super) const MAX_ORDER: u32 = 9;
/// Cells that block numbers can name.
pub(super) const MAX_CELLS: usize = 1 << 24;

pub(super) const EMPTY: u32 = 0;
pub(super) const BRANCH: u32 = 1;
pub(super) const SKIP: u32 = 2;
pub(super) const LEAF: u32 = 3;

const SLOT_BITS: u32 = 26;
const ORDER_SHIFT: u32 = SLOT_BITS;
const KIND_SHIFT: u32 = 30;
const BLOCK_BITS: u32 = 26;
/// The bits of a cell's first word that belong to the block around it.
const AROUND: u64 = (1 << KIND_SHIFT) - 1;
/// The bit of `inner` that says that next hops take 32 bits.
pub(super) const WIDE: u64 = 1;

/// Where a cell is: in the arena or in a table's root; or an entry of a table's index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u32);

/// What a [`Slot`] numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum In {
    Arena,
    Roots,
    Index,
}

impl Slot {
    const ROOT: u32 = 1 << 24;
    const ENTRY: u32 = 2 << 24;
    /// How many slots of each sort there can be.
    pub(super) const COUNT: u32 = 1 << 24;

    pub(super) const fn cell(index: u32) -> Slot {
        Slot(index & (Slot::COUNT - 1))
    }

    pub(super) const fn root(table: u32) -> Slot {
        Slot(table & (Slot::COUNT - 1) | Slot::ROOT)
    }

    /// Entries are numbered from the end of the arena's blocks down.
    pub(super) const fn entry(index: u32) -> Slot {
        Slot(index & (Slot::COUNT - 1) | Slot::ENTRY)
    }

    pub(super) const fn place(self) -> In {
        match self.0 & (Slot::ROOT | Slot::ENTRY) {
            0 => In::Arena,
            Slot::ROOT => In::Roots,
            _ => In::Index,
        }
    }

    pub(super) const fn index(self) -> u32 {
        self.0 & (Slot::COUNT - 1)
    }
}

#[inline]
pub(super) const fn kind(cell: &Cell) -> u32 {
    (cell[0] as u32) >> KIND_SHIFT
}

/// The block of a branch or skip: the number of its first word.
#[inline]
pub(super) const fn block(cell: &Cell) -> u32 {
    (cell[0] >> 32) as u32 & ((1 << BLOCK_BITS) - 1)
}

pub(super) const fn with_block(mut cell: Cell, block: u32) -> Cell {
    let mask = ((1u64 << BLOCK_BITS) - 1) << 32;
    cell[0] = cell[0] & !mask | (block as u64) << 32 & mask;
    cell
}

/// `cell` as it stands at the place of `old`: the bits that tell of the block around stay.
pub(super) const fn at_place_of(mut cell: Cell, old: &Cell) -> Cell {
    cell[0] = cell[0] & !AROUND | old[0] & AROUND;
    cell
}

pub(super) const fn branch(children: u64, full: u64, inner: u64, block: u32) -> Cell {
    with_block([(BRANCH << KIND_SHIFT) as u64, children, full, inner], block)
}

pub(super) const fn skip(key: [u64; 2], depth: u32, block: u32) -> Cell {
    let stride = (depth / super::key::STRIDE) as u64;
    with_block([stride << (32 + BLOCK_BITS) | (SKIP << KIND_SHIFT) as u64, 0, key[0], key[1]], block)
}

/// The depth of the branch behind a skip.
#[inline]
pub(super) const fn skip_depth(cell: &Cell) -> u32 {
    (cell[0] >> (32 + BLOCK_BITS)) as u32 * super::key::STRIDE
}

pub(super) const fn leaf(key: [u64; 2], len: u32, hop: u32) -> Cell {
    [(hop as u64) << 32 | (LEAF << KIND_SHIFT) as u64, len as u64, key[0], key[1]]
}

#[inline]
pub(super) const fn leaf_hop(cell: &Cell) -> u32 {
    (cell[0] >> 32) as u32
}

#[inline]
pub(super) const fn leaf_len(cell: &Cell) -> u32 {
    cell[1] as u32
}

/// The address bits of a skip or leaf.
#[inline]
pub(super) const fn key_words(cell: &Cell) -> [u64; 2] {
    [cell[2], cell[3]]
}

/// Who points to the block whose first word is `word`.
pub(super) const fn owner(word: u64) -> Slot {
    Slot(word as u32 & ((1 << SLOT_BITS) - 1))
}

/// The order of the block whose first word is `word`.
pub(super) const fn order(word: u64) -> u32 {
    word as u32 >> ORDER_SHIFT & 15
}

pub(super) const fn with_owner(word: u64, owner: Slot) -> u64 {
    word & !((1 << SLOT_BITS) - 1) | owner.0 as u64
}

pub(super) const fn with_order(word: u64, order: u32) -> u64 {
    word & !(15 << ORDER_SHIFT) | (order as u64) << ORDER_SHIFT
}

/// Where a branch's next hops begin, in 16-bit units from its block's start: behind the children,
/// or behind the 32 bits that tell the owner.
#[inline]
pub(super) const fn results_at(children: u64) -> u32 {
    (children.count_ones() * 16) | (((children == 0) as u32) << 1)
}

/// What a block holds, and so how large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) children: u32,
    pub(super) results: u32,
    pub(super) wide: bool,
}

impl Shape {
    /// Of a skip's block.
    pub(super) const ONE_CELL: Shape = Shape { children: 1, results: 0, wide: false };

    /// Of the block behind a branch or a skip.
    pub(super) const fn of(cell: &Cell) -> Shape {
        if kind(cell) == SKIP {
            return Shape::ONE_CELL;
        }
        Shape {
            children: cell[1].count_ones(),
            results: cell[2].count_ones() + (cell[3] & !WIDE).count_ones(),
            wide: cell[3] & WIDE != 0,
        }
    }

    pub(super) const fn order(&self) -> u32 {
        let children = if self.children == 0 { 2 } else { self.children * 16 };
        let units = children + (self.results << self.wide as u32);
        units.div_ceil(4).next_power_of_two().trailing_zeros()
    }

    pub(super) const fn words(&self) -> u32 {
        1 << self.order()
    }
}

/// For each chunk, the bits of `inner` of the prefixes that hold it.
///
/// The bit of a prefix of `n` bits (1 to 5) is `1 << n` plus its bits: the longer, the higher.
const ANCESTORS: [u64; 64] = {
    let mut table = [0u64; 64];
    let mut chunk = 0;
    while chunk < 64 {
        let mut n = 1;
        while n < 6 {
            table[chunk] |= 1 << inner_bit(chunk as u32, n);
            n += 1;
        }
        chunk += 1;
    }
    table
};

/// The bit of `inner` for the first `n` (1 to 5) bits of `chunk`.
pub(super) const fn inner_bit(chunk: u32, n: u32) -> u32 {
    1 << n | chunk >> (6 - n)
}

/// The routes of `inner` that hold `chunk`.
#[inline]
pub(super) const fn covering(inner: u64, chunk: u32) -> u64 {
    inner & ANCESTORS[(chunk & 63) as usize]
}

#[inline]
pub(super) const fn bit(map: u64, at: u32) -> bool {
    map.wrapping_shr(at) & 1 != 0
}

/// How many bits of `map` are set below bit `at`.
#[inline]
pub(super) const fn rank(map: u64, at: u32) -> u32 {
    (map & 1u64.wrapping_shl(at).wrapping_sub(1)).count_ones()
}

/// The routes of a branch that hold `chunk`; zero for none.
#[inline]
pub(super) const fn holding(cell: &Cell, chunk: u32) -> u64 {
    covering(cell[3], chunk) | cell[2].wrapping_shr(chunk) & 1
}

/// The longest route of a branch that holds `chunk`: the number of its next hop, and how many bits
/// it has below the branch.
///
/// Nothing foretells whether the route is a full one: it is computed both ways.
#[inline]
pub(super) fn longest(cell: &Cell, chunk: u32) -> Option<(u32, u32)> {
    let [_, _, full, inner] = *cell;
    if holding(cell, chunk) == 0 {
        return None;
    }
    let routes = inner & !WIDE;
    let at = 63u32.wrapping_sub(covering(routes, chunk).leading_zeros());
    let short = (rank(routes, at), 31u32.wrapping_sub(at.leading_zeros()));
    let long = (routes.count_ones() + rank(full, chunk), 6);
    let is_full = bit(full, chunk);
    Some((select_unpredictable(is_full, long.0, short.0), select_unpredictable(is_full, long.1, short.1)))
}

/// A route's place in its branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Bit of `inner`.
    Inner(u32),
    /// Bit of `full`.
    Full(u32),
}

impl Place {
    /// Of a route that has the first `n` (1 to 6) bits of `chunk` below its branch.
    pub(super) const fn new(chunk: u32, n: u32) -> Place {
        if n == 6 { Place::Full(chunk) } else { Place::Inner(inner_bit(chunk, n)) }
    }

    /// The chunk and how many of its bits count: the reverse of [`new`](Place::new).
    pub(super) const fn chunk(self) -> (u32, u32) {
        match self {
            Place::Full(at) => (at, 6),
            Place::Inner(at) => {
                let n = 31 - at.leading_zeros();
                ((at ^ 1 << n) << (6 - n), n)
            }
        }
    }

    pub(super) const fn is_set(self, cell: &Cell) -> bool {
        match self {
            Place::Full(at) => bit(cell[2], at),
            Place::Inner(at) => bit(cell[3], at),
        }
    }

    /// The number of the route's next hop among the branch's.
    pub(super) const fn rank(self, cell: &Cell) -> u32 {
        let routes = cell[3] & !WIDE;
        match self {
            Place::Full(at) => routes.count_ones() + rank(cell[2], at),
            Place::Inner(at) => rank(routes, at),
        }
    }

    /// The only route of a branch that has one.
    pub(super) const fn only(cell: &Cell) -> Place {
        match cell[3] & !WIDE {
            0 => Place::Full(cell[2].trailing_zeros()),
            inner => Place::Inner(inner.trailing_zeros()),
        }
    }

    /// Sets or clears the route's bit.
    pub(super) const fn flip(self, mut cell: Cell) -> Cell {
        match self {
            Place::Full(at) => cell[2] ^= 1 << (at & 63),
            Place::Inner(at) => cell[3] ^= 1 << (at & 63),
        }
        cell
    }
}

/// A next hop in 18 bits: a VTEP's are below 2^16.
#[inline]
pub(super) const fn pack(hop: NextHop) -> u32 {
    match hop {
        NextHop::Vtep(v) => v.0 as u32,
        NextHop::Port(p) => 1 << 16 | p.0 as u32,
        NextHop::Direct => 2 << 16,
        NextHop::Blackhole => 3 << 16,
    }
}

#[inline]
pub(super) const fn unpack(packed: u32) -> NextHop {
    match packed >> 16 {
        0 => NextHop::Vtep(VtepId(packed as u16)),
        1 => NextHop::Port(PortId(packed as u16)),
        2 => NextHop::Direct,
        _ => NextHop::Blackhole,
    }
}
