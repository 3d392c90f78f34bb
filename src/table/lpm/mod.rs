//! Longest-prefix match for IPv4 and IPv6: many tables over one arena.
//!
//! The structure is a trie of nodes with a stride of 6 bits and one line of memory each. A node knows
//! for each of its 64 chunks which next hop holds: chunks in a row with the same one are a *run*, kept as
//! one bit and one value, so that counting bits finds the next hop, as it does in a poptrie (Asai and
//! Ohara, 2015). Which routes those came from is kept aside, for changes. Next hops are pushed down
//! within a node only: a change touches the node that holds the route, and at most the two above.
//! Nodes with one child and no route are skipped.
//!
//! # Bounds
//!
//! - A lookup passes at most one node for every 6 bits of the address (6 for IPv4, 22 for IPv6). It
//!   reads one cache line for each, and one for the next hop.
//! - A change does the same, rewrites one block of at most 4 KiB, and moves at most 8 KiB of other
//!   blocks to keep free memory in one piece. Nothing is ever built anew.
//! - A table with an index ([`Lpm::reserve_index`]) needs one read in place of the first nodes; a
//!   change of a route of n bits, up to the index's, then writes 2^(bits - n) entries of it.
//! - A table with answers ([`Lpm::reserve_direct`]) needs one read for most addresses.
//! - Memory is the arena's, forever. How much the routes take depends on the routes alone, not on
//!   the order or the history in which they came: [`cells_for`] is enough for any, and
//!   [`cells_typical`] for tables like the Internet's or a cluster's.
//!
//! # Examples
//!
//! ```
//! use core::net::Ipv4Addr;
//! use overlane::addr::{NextHop, VtepId};
//! use overlane::table::lpm::{Lpm, LpmNode, LpmRoot, cells_for};
//!
//! const CELLS: usize = cells_for(32);
//! let mut routes = Lpm::new([LpmNode::EMPTY; CELLS], [LpmRoot::EMPTY; 2])?;
//! let (pods, node) = (Ipv4Addr::new(10, 244, 0, 0), Ipv4Addr::new(10, 244, 7, 0));
//! routes.insert(0, pods, 16, NextHop::Blackhole)?;
//! routes.insert(0, node, 24, NextHop::Vtep(VtepId(7)))?;
//! assert_eq!(routes.lookup(0, Ipv4Addr::new(10, 244, 7, 9)), Some(NextHop::Vtep(VtepId(7))));
//! assert_eq!(routes.lookup(0, Ipv4Addr::new(10, 244, 8, 9)), Some(NextHop::Blackhole));
//! assert_eq!(routes.lookup(1, Ipv4Addr::new(10, 244, 7, 9)), None);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod arena;
mod batch;
mod cell;
mod find;
mod index;
mod iter;
mod key;
mod tail;
mod update;

use core::fmt;
use core::marker::PhantomData;
use core::net::Ipv4Addr;

use self::arena::{Arena, Free};
use self::cell::{MAX_CELLS, NONE, Raw, Slot};
use self::key::Bits;
use crate::addr::NextHop;
use crate::error::CapacityError;
use crate::table::Store;

pub use self::iter::Routes;
pub use self::key::LpmKey;

/// A cell of the arena that route tables of one family share: 32 bytes, opaque.
#[repr(C, align(32))]
pub struct LpmNode<K> {
    raw: Raw,
    key: PhantomData<K>,
}

impl<K> LpmNode<K> {
    /// What a new table's memory is filled with; any content does.
    pub const EMPTY: LpmNode<K> = LpmNode { raw: Raw::EMPTY, key: PhantomData };
}

impl<K> Clone for LpmNode<K> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for LpmNode<K> {}

impl<K> Default for LpmNode<K> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<K> fmt::Debug for LpmNode<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LpmNode")
    }
}

/// The root of one table: 64 bytes, opaque.
#[derive(Clone, Copy)]
pub struct LpmRoot {
    cell: Raw,
    /// The first bits, to the depth of the index, of the addresses behind its first entry.
    base: u64,
    default: u32,
    len: u32,
    /// The first entry of the index, in 32-bit units from the arena's start.
    index: u32,
    /// How many entries the index has.
    entries: u32,
    /// The number, and one, of the first cell of the table of answers; none if zero.
    direct: u32,
    /// The depth of the nodes behind the index.
    depth: u8,
    /// [`TURN`](key::TURN) less the depth, to the modulus of 64.
    turn: u8,
}

impl LpmRoot {
    /// A table without routes.
    pub const EMPTY: LpmRoot = LpmRoot {
        cell: Raw::EMPTY,
        base: 0,
        default: NONE,
        len: 0,
        index: 0,
        entries: 0,
        direct: 0,
        depth: 0,
        turn: key::TURN,
    };

    fn default_route(&self) -> Option<u32> {
        if self.default == NONE { None } else { Some(self.default) }
    }

    /// The depth of the nodes behind the index.
    #[inline]
    fn depth(&self) -> u32 {
        self.depth as u32
    }

    /// Whether a route of `len` bits of `key` is behind the index.
    fn is_indexed<B: Bits>(&self, key: B, len: u32) -> bool {
        len > self.depth() && self.entry(key).is_some()
    }

    /// The place of the entry for an address, if it is behind the index.
    #[inline]
    fn entry<B: Bits>(&self, key: B) -> Option<u32> {
        let at = key.behind(self.depth(), self.turn, self.base);
        if at < self.entries as u64 { Some(self.index.wrapping_add(at as u32)) } else { None }
    }

    /// The first bits, to the depth of the index, of the addresses behind the entry at `at`.
    fn first(&self, at: u32) -> u64 {
        self.base + (at - self.index) as u64
    }

    /// The entries that a route of `len` bits (not zero) of `key` is behind or holds: the place of
    /// the first, and how many.
    fn entries<B: Bits>(&self, key: B, len: u32) -> Option<(u32, u32)> {
        if self.entries == 0 {
            return None;
        }
        let count = 1u64 << self.depth().saturating_sub(len);
        let first = key.prefix(len).high() >> (64 - self.depth());
        let start = first.max(self.base);
        let end = (first + count).min(self.base + self.entries as u64);
        let count = end.checked_sub(start).filter(|count| *count != 0)?;
        Some((self.index + (start - self.base) as u32, count as u32))
    }
}

impl Default for LpmRoot {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl fmt::Debug for LpmRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LpmRoot({} routes)", self.len)
    }
}

/// How many cells hold any `prefixes` routes of either family, in however many tables without an
/// index.
///
/// A route costs at most four cells: its node and its block, its share of a node above, and of one
/// at a depth of 60 bits. The rest is room for one block to grow. [`LpmNode`]s of 32 bytes, so 128
/// bytes a route.
pub const fn cells_for(prefixes: usize) -> usize {
    let growing = if prefixes < 32 { 2 * prefixes } else { 64 };
    prefixes.saturating_mul(4).saturating_add(growing)
}

/// How many cells hold `prefixes` routes to VTEPs in large tables like the Internet's that have an
/// index, where many prefixes are neighbours: 8.125 bytes for each IPv4 route, 32 for each IPv6 one.
/// The index comes on top. For other routes, [`cells_for`].
///
/// Measured on a BGP table: 8.09 bytes for each of 901,899 IPv4 routes with an index of 18 bits (8.8
/// without), 27.8 for each of 160,147 IPv6 ones. A next hop that does not fit in 16 bits, so a port, makes those in the
/// same 6 bits of address take two bytes more.
pub const fn cells_typical<K: LpmKey>(prefixes: usize) -> usize {
    let cells = if K::MAX_LEN == 32 { prefixes / 4 + prefixes / 256 } else { prefixes };
    cells.saturating_add(128)
}

/// How many cells an index of `bits` (12 to 24) bits takes: see [`Lpm::reserve_index`].
pub const fn cells_for_index(bits: u8) -> usize {
    match 4usize.checked_shl(bits as u32) {
        Some(bytes) => bytes / core::mem::size_of::<Raw>(),
        None => usize::MAX,
    }
}

/// How many cells a table of answers takes: see [`Lpm::reserve_direct`].
pub const DIRECT_CELLS: usize = cells_for_index(18) + (index::ANSWERS / 16) as usize;

/// A change that a route table refused; the table is as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LpmError {
    /// No table has this number.
    NoTable(u32),
    /// More bits than an address has.
    PrefixLength {
        /// The length asked for.
        len: u8,
        /// The longest.
        max: u8,
    },
    /// The arena has no room for it.
    Full,
    /// An index of another size than there is, or for a table that has routes or an index.
    Index {
        /// The table.
        table: u32,
        /// The size asked for, in bits of the address.
        bits: u8,
    },
}

impl fmt::Display for LpmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LpmError::NoTable(t) => write!(f, "no route table {t}"),
            LpmError::PrefixLength { len, max } => write!(f, "prefix length {len} is above {max}"),
            LpmError::Full => f.write_str("the route tables' memory is full"),
            LpmError::Index { table, bits } => {
                write!(
                    f,
                    "no index of {bits} bits for route table {table}: it takes 12 to 24 that end at a multiple of 6, and no routes"
                )
            }
        }
    }
}

impl core::error::Error for LpmError {}

/// Route tables of one family: numbered 0, 1, ..., one for each root lent, in one arena.
///
/// `K` is [`Ipv4Addr`] or [`Ipv6Addr`](core::net::Ipv6Addr).
#[derive(Debug)]
pub struct Lpm<K: LpmKey, N: Store<LpmNode<K>>, R: Store<LpmRoot>> {
    nodes: N,
    roots: R,
    free: Free,
    key: PhantomData<K>,
}

impl<K: LpmKey, N: Store<LpmNode<K>>, R: Store<LpmRoot>> Lpm<K, N, R> {
    /// Empty tables over this memory, whatever is in it: as many tables as roots.
    ///
    /// No roots are no tables. Without nodes each table holds a default route only.
    ///
    /// # Errors
    ///
    /// [`CapacityError::TooLarge`] above 2^24 nodes (512 MiB) or 2^24 roots.
    pub fn new(nodes: N, mut roots: R) -> Result<Self, CapacityError> {
        let cells = nodes.as_slice().len();
        let entries = cells.max(roots.as_slice().len());
        if entries > MAX_CELLS {
            return Err(CapacityError::TooLarge { table: K::NAME, entries, max: MAX_CELLS });
        }
        roots.as_mut_slice().fill(LpmRoot::EMPTY);
        Ok(Lpm { nodes, roots, free: Free::all(cells as u32), key: PhantomData })
    }

    /// Adds a route, or gives the one that is there another next hop; gives the old one.
    ///
    /// The bits of `addr` behind `len` do not count.
    ///
    /// # Errors
    ///
    /// No such table, a length above the address's, or no room; nothing changed. A replacement
    /// can be out of room too: a next hop that is not a VTEP may need wider fields.
    pub fn insert(
        &mut self,
        table: u32,
        addr: K,
        len: u8,
        next_hop: NextHop,
    ) -> Result<Option<NextHop>, LpmError> {
        let Some(root) = self.roots.as_mut_slice().get_mut(table as usize) else {
            return Err(LpmError::NoTable(table));
        };
        if len > K::MAX_LEN {
            return Err(LpmError::PrefixLength { len, max: K::MAX_LEN });
        }
        let hop = cell::pack(next_hop);
        let old = if len == 0 {
            let old = root.default_route();
            root.default = hop;
            old
        } else {
            let (key, len, root) = (addr.to_key(), len as u32, *root);
            let mut arena = self.arena();
            let start = arena.start(&root, table, key, len);
            let old = arena.insert(start, key, len, hop);
            let old = old.map_err(|update::Full| LpmError::Full)?;
            arena.tell(&root, start, key, len, Some(hop));
            old
        };
        if old.is_none()
            && let Some(root) = self.roots.as_mut_slice().get_mut(table as usize)
        {
            root.len += 1;
        }
        Ok(old.and_then(cell::unpack))
    }

    /// Takes out the route `addr/len`, exactly; gives its next hop. Never needs room.
    pub fn remove(&mut self, table: u32, addr: K, len: u8) -> Option<NextHop> {
        let root = self.roots.as_mut_slice().get_mut(table as usize)?;
        if len > K::MAX_LEN {
            return None;
        }
        let old = if len == 0 {
            let old = root.default_route();
            root.default = NONE;
            old
        } else {
            let (key, len, root) = (addr.to_key(), len as u32, *root);
            let mut arena = self.arena();
            let start = arena.start(&root, table, key, len);
            let old = arena.remove(start, key, len);
            if old.is_some() {
                arena.tell(&root, start, key, len, None);
            }
            old
        }?;
        if let Some(root) = self.roots.as_mut_slice().get_mut(table as usize) {
            root.len -= 1;
        }
        cell::unpack(old)
    }

    fn arena(&mut self) -> Arena<'_, K> {
        Arena::new(self.nodes.as_mut_slice(), self.roots.as_mut_slice(), &mut self.free)
    }

    /// Gives an empty table an index: one read for the first `bits` bits of an address, in place
    /// of a walk. It makes large tables faster, and small ones larger.
    ///
    /// `bits` is 12, 18 or 24; the index takes 4 bytes times 2^bits (16 KiB, 1 MiB, 64 MiB) of the
    /// nodes' memory, for good. A route of n bits, up to those, is in 2^(bits - n) of its entries.
    ///
    /// # Errors
    ///
    /// [`LpmError::NoTable`]; [`LpmError::Index`] for another number of bits, or a table that has
    /// routes or an index already; [`LpmError::Full`] where the memory is not free or was used
    /// before: reserve early.
    pub fn reserve_index(&mut self, table: u32, bits: u8) -> Result<(), LpmError> {
        self.reserve_index_under(table, K::from_key(K::Bits::ZERO), 0, bits)
    }

    /// As [`reserve_index`](Lpm::reserve_index), for the addresses below one prefix only: the index
    /// is for the `bits` (12 to 24) bits behind the prefix's `len`. Both together are a multiple of 6, at
    /// most 30 for IPv4 and 60 for IPv6.
    ///
    /// For a cluster's address range, or 2000::/3 with 15 or 21 bits for the Internet's.
    ///
    /// # Errors
    ///
    /// As [`reserve_index`](Lpm::reserve_index).
    pub fn reserve_index_under(&mut self, table: u32, addr: K, len: u8, bits: u8) -> Result<(), LpmError> {
        let root = self.roots.as_mut_slice().get(table as usize).ok_or(LpmError::NoTable(table))?;
        let depth = len.saturating_add(bits);
        let fits = matches!(bits, 12..=24) && depth.is_multiple_of(6) && depth <= K::MAX_DEPTH;
        if !fits || root.len != 0 || root.entries != 0 {
            return Err(LpmError::Index { table, bits });
        }
        let index = self.arena().take_index(bits as u32).ok_or(LpmError::Full)?;
        if let Some(root) = self.roots.as_mut_slice().get_mut(table as usize) {
            let first = addr.to_key().prefix(len as u32).high() >> (64 - depth);
            (root.base, root.depth) = (first, depth);
            root.turn = key::TURN.wrapping_sub(depth) & 63;
            (root.index, root.entries) = (index, 1 << bits);
        }
        Ok(())
    }

    /// The next hop of the route `addr/len`, exactly.
    pub fn get(&self, table: u32, addr: K, len: u8) -> Option<NextHop> {
        let root = self.roots.as_slice().get(table as usize)?;
        if len > K::MAX_LEN {
            return None;
        }
        find::get(self.nodes.as_slice(), root, addr, len as u32).and_then(cell::unpack)
    }

    /// The next hop of the longest route that holds `addr`.
    #[inline(always)]
    pub fn lookup(&self, table: u32, addr: K) -> Option<NextHop> {
        let root = self.roots.as_slice().get(table as usize)?;
        find::lookup(self.nodes.as_slice(), root, addr)
    }

    /// As [`lookup`](Lpm::lookup) for each address of `addrs`, into `out`: as many as the shorter of
    /// both has.
    ///
    /// The walks go on side by side, so that none waits for another's memory: best in batches of 32.
    #[inline]
    pub fn lookup_batch(&self, table: u32, addrs: &[K], out: &mut [Option<NextHop>]) {
        let root = self.roots.as_slice().get(table as usize).unwrap_or(&LpmRoot::EMPTY);
        batch::lookup(self.nodes.as_slice(), root, addrs, out);
    }

    /// The longest route that holds `addr`: network address, length and next hop.
    pub fn lookup_prefix(&self, table: u32, addr: K) -> Option<(K, u8, NextHop)> {
        let root = self.roots.as_slice().get(table as usize)?;
        let (len, hop) = find::lookup_prefix(self.nodes.as_slice(), root, addr)?;
        Some((K::from_key(addr.to_key().prefix(len)), len as u8, cell::unpack(hop)?))
    }

    /// The routes of a table, in order of their addresses, covering ones first.
    pub fn iter(&self, table: u32) -> Routes<'_, K> {
        let root = self.roots.as_slice().get(table as usize);
        Routes::new(self.nodes.as_slice(), root.unwrap_or(&LpmRoot::EMPTY))
    }

    /// Takes out every route of a table; gives how many there were.
    ///
    /// The work grows with the number of routes, and with the size of the index if there is one.
    /// The index stays.
    pub fn clear(&mut self, table: u32) -> usize {
        let len;
        let Some(root) = self.roots.as_mut_slice().get_mut(table as usize) else { return 0 };
        (root.default, root.len, len) = (NONE, 0, root.len);
        let root = *root;
        let mut arena = self.arena();
        arena.clear(Slot::root(table));
        for at in root.index..root.index + root.entries {
            if arena::entry(arena.cells(), at) != arena::NO_FALLBACK {
                arena.clear(arena.entry_slot(at));
                arena.answer(&root, at, 0, 64);
            }
        }
        len as usize
    }

    /// How many routes a table has; none if there is no such table.
    pub fn len(&self, table: u32) -> usize {
        self.roots.as_slice().get(table as usize).map_or(0, |r| r.len as usize)
    }

    /// Whether a table has no routes.
    pub fn is_empty(&self, table: u32) -> bool {
        self.len(table) == 0
    }

    /// How many tables there are.
    pub fn tables(&self) -> usize {
        self.roots.as_slice().len()
    }

    /// How many bytes of nodes were lent.
    pub fn capacity_bytes(&self) -> usize {
        core::mem::size_of_val(self.nodes.as_slice())
    }

    /// How many of those bytes are free. All of them can be used: free memory is not scattered.
    pub fn free_bytes(&self) -> usize {
        self.free.words as usize * 8
    }
}

impl<N: Store<LpmNode<Ipv4Addr>>, R: Store<LpmRoot>> Lpm<Ipv4Addr, N, R> {
    /// Gives an empty table an index of 18 bits, and a table of answers for 24: 33 MiB of the nodes'
    /// memory, for good, [`DIRECT_CELLS`] of them.
    ///
    /// A lookup then reads one place, unless routes of more than 24 bits are there, or the next hop
    /// is a port: then it goes on with the index. A change of a route of n bits, up to 24, writes
    /// 2^(24 - n) answers of 2 bytes.
    ///
    /// # Errors
    ///
    /// As [`reserve_index`](Lpm::reserve_index).
    pub fn reserve_direct(&mut self, table: u32) -> Result<(), LpmError> {
        // Both or neither.
        if (self.arena().untouched() as usize) < DIRECT_CELLS * cell::CELL_WORDS as usize {
            return Err(LpmError::Full);
        }
        self.reserve_index(table, 18)?;
        let words = self.arena().take_region(index::ANSWERS / 4, u64::MAX).ok_or(LpmError::Full)?;
        if let Some(root) = self.roots.as_mut_slice().get_mut(table as usize) {
            root.direct = words / cell::CELL_WORDS + 1;
        }
        Ok(())
    }
}

#[cfg(all(test, feature = "std"))]
mod tests;
