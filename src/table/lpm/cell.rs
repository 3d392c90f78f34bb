//! The layout of the 32-byte cell, and of the block behind it.
//!
//! A cell is a node of the trie: a step of 6 bits of the address, at a depth that is a multiple of
//! 6. The bits between its parent and its depth were skipped, and are checked against word 3.
//!
//! | word | content |
//! |---|---|
//! | 0 | bits 0-28: of the block around; 29-30: kind; 31-35: depth / 6; 36-63: values, less one |
//! | 1 | children: a bit for each of the 64 chunks |
//! | 2 | runs: a bit for each chunk whose longest route is not that of the chunk before |
//! | 3 | the address bits before the depth, from 64 on if it is above that; of a head, see below |
//!
//! *Values* are where those begin, in halves (16 bits) from the arena's start, so that a lookup
//! adds to it how many runs have begun.
//!
//! A *block* is what a cell points to: a run of 2^order words, aligned to its size. It holds
//!
//! - the child cells, in order of their chunks, and 32 bits that are spare;
//! - one value for each run, in order: a next hop, or [`NONE`] where no route of the node holds the
//!   chunk. Chunks before the first run have no route either;
//! - the next hops of the hidden routes, those that longer routes of the same node cover wholly;
//! - at its end, if the node has routes, two words that tell the routes themselves: `full` has a
//!   bit for each prefix of 6 bits below the node, `inner` for each of 1 to 5. In the block of a
//!   head, one that is zero is left out.
//!
//! Values are 16 bits. In a *wide* node, one of them does not fit: then the values of the runs, and
//! those of the hidden routes, are followed by as many halves with the rest of each.
//!
//! A *head* is the node behind an entry of an index. It is the first cell of its own block, so that
//! most often one line has it and its values, and has no spare bits behind its children. All
//! addresses that come to it are on its way. Its word 3 has in place of those bits what the entry
//! falls back to: bits 0-31 a fallback, bit 32: the node is wide, bits 33 and 34: the block has the
//! words `full` and `inner`, bits 48-63: the fallback's value,
//! which are the half before the first value if there are no children.
//!
//! The low 29 bits of a block's first word tell who points to it, and its order, so that blocks can
//! be moved; where the first word belongs to a child cell, the cell leaves those bits to the block.

use crate::addr::{NextHop, PortId, VtepId};

/// A cell's words.
pub(super) type Cell = [u64; 4];

/// A cell as it is in memory, or that many other words, entries (32 bits) or halves (16 bits).
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Raw([u8; 32]);

impl Raw {
    pub(super) const EMPTY: Raw = Raw([0; 32]);

    #[inline]
    pub(super) fn word(&self, at: u32) -> u64 {
        self.0.as_chunks().0.get((at % 4) as usize).map_or(0, |v| u64::from_le_bytes(*v))
    }

    #[inline]
    pub(super) fn entry(&self, at: u32) -> u32 {
        self.0.as_chunks().0.get((at % 8) as usize).map_or(0, |v| u32::from_le_bytes(*v))
    }

    #[inline]
    pub(super) fn half(&self, at: u32) -> u32 {
        self.0.as_chunks().0.get((at % 16) as usize).map_or(0, |v| u16::from_le_bytes(*v) as u32)
    }

    #[inline]
    pub(super) fn halves(&self) -> [u16; 16] {
        let mut halves = [0; 16];
        for (half, v) in halves.iter_mut().zip(self.0.as_chunks().0) {
            *half = u16::from_le_bytes(*v);
        }
        halves
    }

    #[inline]
    pub(super) fn set_halves(&mut self, halves: &[u16; 16]) {
        for (v, half) in self.0.as_chunks_mut().0.iter_mut().zip(halves) {
            *v = half.to_le_bytes();
        }
    }

    #[inline]
    pub(super) fn set_word(&mut self, at: u32, value: u64) {
        if let Some(v) = self.0.as_chunks_mut().0.get_mut((at % 4) as usize) {
            *v = value.to_le_bytes();
        }
    }

    #[inline]
    pub(super) fn set_entry(&mut self, at: u32, value: u32) {
        if let Some(v) = self.0.as_chunks_mut().0.get_mut((at % 8) as usize) {
            *v = value.to_le_bytes();
        }
    }

    #[inline]
    pub(super) fn cell(&self) -> Cell {
        [self.word(0), self.word(1), self.word(2), self.word(3)]
    }

    #[inline]
    pub(super) fn set(&mut self, cell: Cell) {
        for (v, word) in self.0.as_chunks_mut().0.iter_mut().zip(cell) {
            *v = word.to_le_bytes();
        }
    }
}

/// A cell's words, as a block counts them.
pub(super) const CELL_WORDS: u32 = 4;
/// The order of the largest block: 64 children, 126 wide values and what is around them are 322 words.
pub(super) const MAX_ORDER: u32 = 9;
/// The order of a block of one cell, the smallest.
pub(super) const CELL_ORDER: u32 = 2;
/// Cells that block numbers can name.
pub(super) const MAX_CELLS: usize = 1 << 24;

pub(super) const EMPTY: u32 = 0;
pub(super) const NODE: u32 = 1;
/// A node with values of 32 bits.
pub(super) const WIDE: u32 = 2;
/// The node behind an entry of an index.
pub(super) const HEAD: u32 = 3;

const SLOT_BITS: u32 = 26;
const ORDER_SHIFT: u32 = SLOT_BITS;
const KIND_SHIFT: u32 = 29;
const STRIDE_SHIFT: u32 = 31;
const VALUES_SHIFT: u32 = 36;
/// The bits of a cell's first word that belong to the block around it.
const AROUND: u64 = (1 << KIND_SHIFT) - 1;
const KIND: u64 = 3 << KIND_SHIFT;
/// In the last word of a head.
const HEAD_WIDE: u64 = 1 << 32;
const HEAD_FULL: u64 = 1 << 33;
const HEAD_INNER: u64 = 1 << 34;

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
    (cell[0] as u32) >> KIND_SHIFT & 3
}

#[inline]
pub(super) const fn is_node(cell: &Cell) -> bool {
    kind(cell) != EMPTY
}

#[inline]
pub(super) const fn is_head(cell: &Cell) -> bool {
    kind(cell) == HEAD
}

#[inline]
pub(super) const fn is_wide(cell: &Cell) -> bool {
    match kind(cell) {
        HEAD => cell[3] & HEAD_WIDE != 0,
        kind => kind == WIDE,
    }
}

/// Where the values of a node begin whose first word is `word`, less one, in halves.
#[inline]
pub(super) const fn values(word: u64) -> u32 {
    (word >> VALUES_SHIFT) as u32
}

/// The cell that the children of a node whose first word is `word` end before.
#[inline]
pub(super) const fn children_end(word: u64) -> u32 {
    values(word).wrapping_add(1) / 16
}

/// How many halves are spare between the children and the values.
pub(super) const fn spare(cell: &Cell) -> u32 {
    if is_head(cell) { 0 } else { 2 }
}

/// The block of a node: the number of its first word.
pub(super) const fn block(cell: &Cell) -> u32 {
    (values(cell[0]) / 16).wrapping_sub(cell[1].count_ones()).wrapping_mul(CELL_WORDS)
}

/// `cell`, which has all its children, with that block.
pub(super) const fn with_block(mut cell: Cell, block: u32) -> Cell {
    let head = if is_head(&cell) { 16 } else { 0 };
    let values = (block as u64) * 4 + cell[1].count_ones() as u64 * 16 + head + spare(&cell) as u64 - 1;
    cell[0] = cell[0] & !(u64::MAX << VALUES_SHIFT) | values << VALUES_SHIFT;
    cell
}

/// The depth of the node whose first word is `word`, in bits of the address.
#[inline]
pub(super) const fn depth(word: u64) -> u32 {
    ((word >> STRIDE_SHIFT) as u32 & 31) * super::key::STRIDE
}

/// `cell` as it stands at the place of `old`: the bits that tell of the block around stay.
pub(super) const fn at_place_of(mut cell: Cell, old: &Cell) -> Cell {
    cell[0] = cell[0] & !AROUND | old[0] & AROUND;
    cell
}

/// A node without children, routes and block.
pub(super) const fn node(depth: u32, before: u64) -> Cell {
    let stride = (depth / super::key::STRIDE) as u64;
    [stride << STRIDE_SHIFT | (NODE << KIND_SHIFT) as u64, 0, 0, before]
}

/// `node`, which has no block yet, as the head behind an entry that falls back to this.
pub(super) const fn head(mut node: Cell, fallback: u32) -> Cell {
    node[0] = node[0] & !KIND | (HEAD << KIND_SHIFT) as u64;
    node[3] = with_fallback(0, fallback);
    node
}

/// The last word of a head with another fallback.
pub(super) const fn with_fallback(word: u64, fallback: u32) -> u64 {
    word & (HEAD_WIDE | HEAD_FULL | HEAD_INNER) | fallback as u64 | (fallback as u64 & 0xffff) << 48
}

/// The value of the fallback in the last word of a head.
#[inline]
pub(super) const fn fallback_value(word: u64) -> u32 {
    (word >> 48) as u32
}

pub(super) const fn with_wide(mut cell: Cell, wide: bool) -> Cell {
    if is_head(&cell) {
        cell[3] = cell[3] & !HEAD_WIDE | if wide { HEAD_WIDE } else { 0 };
        return cell;
    }
    let kind = if wide { WIDE } else { NODE };
    cell[0] = cell[0] & !KIND | (kind << KIND_SHIFT) as u64;
    cell
}

/// How many child cells the block behind `cell` has.
#[inline]
pub(super) const fn children(cell: &Cell) -> u32 {
    cell[1].count_ones()
}

/// Who points to the block whose first word is `word`.
pub(super) const fn owner(word: u64) -> Slot {
    Slot(word as u32 & ((1 << SLOT_BITS) - 1))
}

/// The order of the block whose first word is `word`.
pub(super) const fn order(word: u64) -> u32 {
    (word as u32 >> ORDER_SHIFT & 7) + CELL_ORDER
}

pub(super) const fn with_owner(word: u64, owner: Slot) -> u64 {
    word & !((1 << SLOT_BITS) - 1) | owner.0 as u64
}

pub(super) const fn with_order(word: u64, order: u32) -> u64 {
    word & !(7 << ORDER_SHIFT) | ((order - CELL_ORDER) as u64) << ORDER_SHIFT
}

/// Which of the words `full` and `inner` that tell the routes of a node are in its block.
pub(super) const fn route_words(cell: &Cell) -> (bool, bool) {
    if is_head(cell) {
        (cell[3] & HEAD_FULL != 0, cell[3] & HEAD_INNER != 0)
    } else {
        (cell[2] != 0, cell[2] != 0)
    }
}

/// `cell` as it tells that it has these routes. Their runs are known to it already.
pub(super) const fn with_routes(mut cell: Cell, routes: &Routes) -> Cell {
    if is_head(&cell) {
        let full = if routes.full != 0 { HEAD_FULL } else { 0 };
        let inner = if routes.inner != 0 { HEAD_INNER } else { 0 };
        cell[3] = cell[3] & !(HEAD_FULL | HEAD_INNER) | full | inner;
    }
    cell
}

/// The order of a block for `cell`, which knows its children and routes, that holds these values.
pub(super) const fn order_for(cell: &Cell, values: u32, wide: bool) -> u32 {
    let (full, inner) = route_words(cell);
    let tail = if full | inner {
        (spare(cell) + (values << wide as u32)).div_ceil(4) + full as u32 + inner as u32
    } else {
        0
    };
    let words = (is_head(cell) as u32 + cell[1].count_ones()) * CELL_WORDS + tail;
    let order = words.next_power_of_two().trailing_zeros();
    if order < CELL_ORDER { CELL_ORDER } else { order }
}

/// For each bit of `inner`, the chunks that the prefix holds.
const RANGES: [u64; 64] = {
    let mut table = [0u64; 64];
    let mut bit = 2u32;
    while bit < 64 {
        let (chunk, n) = Place::Inner(bit).chunk();
        table[bit as usize] = ((1 << (1 << (6 - n))) - 1) << chunk;
        bit += 1;
    }
    table
};

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
const fn inner_bit(chunk: u32, n: u32) -> u32 {
    1 << n | chunk >> (6 - n)
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

/// A route's place in its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Bit of `inner`.
    Inner(u32),
    /// Bit of `full`.
    Full(u32),
}

impl Place {
    /// Of a route that has the first `n` (1 to 6) bits of `chunk` below its node.
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
}

/// The routes of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Routes {
    pub(super) full: u64,
    pub(super) inner: u64,
}

impl Routes {
    pub(super) const fn has(&self, place: Place) -> bool {
        match place {
            Place::Full(at) => bit(self.full, at),
            Place::Inner(at) => bit(self.inner, at),
        }
    }

    pub(super) const fn flip(mut self, place: Place) -> Routes {
        match place {
            Place::Full(at) => self.full ^= 1 << (at & 63),
            Place::Inner(at) => self.inner ^= 1 << (at & 63),
        }
        self
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.full | self.inner == 0
    }

    /// The longest route that holds `chunk`.
    pub(super) const fn longest(&self, chunk: u32) -> Option<Place> {
        if bit(self.full, chunk) {
            return Some(Place::Full(chunk));
        }
        match self.inner & ANCESTORS[(chunk & 63) as usize] {
            0 => None,
            holding => Some(Place::Inner(63 - holding.leading_zeros())),
        }
    }

    /// The longest route of at most `n` (0 to 5) bits that holds `chunk`.
    pub(super) fn at_most(&self, chunk: u32, n: u32) -> Option<Place> {
        let longer = u64::MAX.checked_shl(2 << n).unwrap_or(0);
        Routes { full: 0, inner: self.inner & !longer }.longest(chunk)
    }

    /// The longest route that holds what `place` does and is shorter.
    pub(super) const fn above(&self, place: Place) -> Option<Place> {
        let (chunk, n) = place.chunk();
        let shorter = if n == 6 { u64::MAX } else { (1 << (1 << n)) - 1 };
        match self.inner & shorter & ANCESTORS[(chunk & 63) as usize] {
            0 => None,
            holding => Some(Place::Inner(63 - holding.leading_zeros())),
        }
    }

    /// The chunks for which the route at `place` is, or would be, the longest.
    pub(super) fn visible(&self, place: Place) -> u64 {
        match place {
            Place::Full(at) => 1 << (at & 63),
            Place::Inner(at) => {
                let range = RANGES[(at & 63) as usize];
                let longer = u64::MAX.checked_shl(2 << place.chunk().1).unwrap_or(0);
                let (mut covered, mut rest) = (self.full, self.inner & longer);
                while rest != 0 {
                    covered |= RANGES[(rest.trailing_zeros() & 63) as usize];
                    rest &= rest - 1;
                }
                range & !covered
            }
        }
    }

    /// The inner routes that are nowhere the longest.
    pub(super) fn hidden(&self) -> u64 {
        let (mut covered, mut rest, mut hidden) = (self.full, self.inner, 0);
        while rest != 0 {
            let at = 63 - rest.leading_zeros();
            let range = RANGES[(at & 63) as usize];
            hidden |= ((range & !covered == 0) as u64) << at;
            // The ranges of equally long prefixes do not meet.
            covered |= range;
            rest ^= 1 << at;
        }
        hidden
    }
}

/// A value that is no next hop: look further up.
pub(super) const NONE: u32 = 0xffff;
/// In a table of answers for 24 bits: look in the trie.
pub(super) const ASK: u32 = PORT;
/// Values from here on are no VTEPs.
pub(super) const SPECIAL: u32 = PORT;
/// A port, or a VTEP with an id of a special value: the id is in the upper half, elsewhere.
const PORT: u32 = 0xfffa;
const VTEP: u32 = 0xfffb;
const DIRECT: u32 = 0xfffc;
const BLACKHOLE: u32 = 0xfffd;
/// In a batch: the address is not behind the index.
pub(super) const OUTSIDE: u32 = 0xfffe;

/// A next hop as a value: 16 bits, or, if [`has_rest`], 32.
#[inline]
pub(super) const fn pack(hop: NextHop) -> u32 {
    match hop {
        NextHop::Vtep(v) if (v.0 as u32) < SPECIAL => v.0 as u32,
        NextHop::Vtep(v) => (v.0 as u32) << 16 | VTEP,
        NextHop::Port(p) => (p.0 as u32) << 16 | PORT,
        NextHop::Direct => DIRECT,
        NextHop::Blackhole => BLACKHOLE,
    }
}

/// The reverse of [`pack`]; nothing for [`NONE`].
#[inline]
pub(super) const fn unpack(value: u32) -> Option<NextHop> {
    let rest = (value >> 16) as u16;
    match value & 0xffff {
        id @ 0..SPECIAL => Some(NextHop::Vtep(VtepId(id as u16))),
        PORT => Some(NextHop::Port(PortId(rest))),
        VTEP => Some(NextHop::Vtep(VtepId(rest))),
        DIRECT => Some(NextHop::Direct),
        BLACKHOLE => Some(NextHop::Blackhole),
        _ => None,
    }
}

/// Whether the upper half of a value counts.
#[inline]
pub(super) const fn has_rest(value: u32) -> bool {
    matches!(value & 0xffff, PORT | VTEP)
}
