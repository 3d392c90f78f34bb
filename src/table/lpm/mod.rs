//! Longest-prefix match for IPv4 and IPv6: many tables over one arena.
//!
//! The structure is a tree bitmap (Eatherton, Varghese and Dittia, 2004) with a stride of 6 bits:
//! a branch is 32 bytes, three bitmaps and the place of its block, where children and next hops
//! are found by counting bits. Chains of branches with one child are skipped, and a route that is
//! alone below its branch is one cell, so that few and scattered routes stay small. Next hops are
//! not pushed down: a change touches the branch that holds the route, and at most the two above.
//!
//! # Bounds
//!
//! - A lookup passes at most one branch for every 6 bits of the address (6 for IPv4, 22 for IPv6),
//!   with a skip before each, and one leaf. It reads one or two cache lines for each, and one for
//!   the next hop.
//! - A change does the same, rewrites one block of at most 4 KiB, and moves at most 8 KiB of other
//!   blocks to keep free memory in one piece. Nothing is ever built anew.
//! - A table with an index ([`Lpm::reserve_index`]) needs one read in place of the first branches.
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
mod cell;
mod find;
mod iter;
mod key;
mod update;

use core::fmt;
use core::marker::PhantomData;

use self::arena::{Arena, Free};
use self::cell::{Cell, MAX_CELLS, Slot};
use self::key::Bits as _;
use self::update::Start;
use crate::addr::NextHop;
use crate::error::CapacityError;
use crate::table::Store;

pub use self::iter::Routes;
pub use self::key::LpmKey;

/// No next hop, where a packed one may stand.
const NO_HOP: u32 = u32::MAX;

/// A cell of the arena that route tables of one family share: 32 bytes, opaque.
#[repr(C, align(32))]
pub struct LpmNode<K> {
    words: Cell,
    key: PhantomData<K>,
}

impl<K> LpmNode<K> {
    /// What a new table's memory is filled with; any content does.
    pub const EMPTY: LpmNode<K> = LpmNode { words: [0; 4], key: PhantomData };
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

/// The root of one table: 48 bytes, opaque.
#[derive(Clone, Copy)]
pub struct LpmRoot {
    cell: Cell,
    default: u32,
    len: u32,
    /// The first entry of the index, if it has one: see [`Lpm::reserve_index`].
    index: u32,
    index_bits: u32,
}

impl LpmRoot {
    /// A table without routes.
    pub const EMPTY: LpmRoot = LpmRoot { cell: [0; 4], default: NO_HOP, len: 0, index: 0, index_bits: 0 };

    #[inline]
    fn default_route(&self) -> Option<u32> {
        if self.default == NO_HOP { None } else { Some(self.default) }
    }

    /// Whether routes of this length are found by the index.
    #[inline]
    fn is_indexed(&self, len: u32) -> bool {
        self.index_bits != 0 && len > self.index_bits
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

/// How many cells hold any `prefixes` routes of either family, in however many tables.
///
/// A route costs at most three cells: its own, its share of a branch, and a skip before that. The
/// rest is room for one block to grow. [`LpmNode`]s of 32 bytes, so 96 bytes a route.
pub const fn cells_for(prefixes: usize) -> usize {
    let growing = if prefixes < 32 { 2 * prefixes } else { 64 };
    prefixes.saturating_mul(3).saturating_add(growing)
}

/// How many cells hold `prefixes` routes to VTEPs in tables like the Internet's or a cluster's,
/// where many prefixes are neighbours. For routes that are not, [`cells_for`].
///
/// Measured on a BGP table: 6.5 bytes a route for 901,899 IPv4 routes, 19.5 for 160,147 IPv6 ones.
/// A next hop that is not a VTEP makes those in the same 6 bits of address take two bytes more.
pub const fn cells_typical<K: LpmKey>(prefixes: usize) -> usize {
    let cells = if K::MAX_LEN == 32 { prefixes / 4 } else { prefixes.saturating_mul(2) / 3 };
    cells.saturating_add(128)
}

/// How many cells an index of `bits` (12, 18 or 24) bits takes: see [`Lpm::reserve_index`].
pub const fn cells_for_index(bits: u8) -> usize {
    match 4usize.checked_shl(bits as u32) {
        Some(bytes) => bytes / core::mem::size_of::<Cell>(),
        None => usize::MAX,
    }
}

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
                    "no index of {bits} bits for route table {table}; it takes 12, 18 or 24, and no routes"
                )
            }
        }
    }
}

impl core::error::Error for LpmError {}

/// Route tables of one family: numbered 0, 1, ..., one for each root lent, in one arena.
///
/// `K` is [`Ipv4Addr`](core::net::Ipv4Addr) or [`Ipv6Addr`](core::net::Ipv6Addr).
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
    /// No roots are no tables. Without nodes each table holds a default route and one other.
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
            let (key, len) = (addr.to_key(), len as u32);
            let (mut arena, start) = self.arena(table, key, len);
            let old = arena.insert(start, key, len, hop);
            old.map_err(|update::Full| LpmError::Full)?
        };
        if old.is_none()
            && let Some(root) = self.roots.as_mut_slice().get_mut(table as usize)
        {
            root.len += 1;
        }
        Ok(old.map(cell::unpack))
    }

    /// Takes out the route `addr/len`, exactly; gives its next hop. Never needs room.
    pub fn remove(&mut self, table: u32, addr: K, len: u8) -> Option<NextHop> {
        let root = self.roots.as_mut_slice().get_mut(table as usize)?;
        if len > K::MAX_LEN {
            return None;
        }
        let old = if len == 0 {
            let old = root.default_route();
            root.default = NO_HOP;
            old
        } else {
            let (key, len) = (addr.to_key(), len as u32);
            let (mut arena, start) = self.arena(table, key, len);
            arena.remove(start, key, len)
        }?;
        if let Some(root) = self.roots.as_mut_slice().get_mut(table as usize) {
            root.len -= 1;
        }
        Some(cell::unpack(old))
    }

    /// The arena, and where the trie begins that routes of `len` bits of `key` are in.
    fn arena(&mut self, table: u32, key: K::Bits, len: u32) -> (Arena<'_, K>, Start) {
        let (nodes, roots) = (self.nodes.as_mut_slice(), self.roots.as_mut_slice());
        let root = roots.get(table as usize).copied().unwrap_or_default();
        let arena = Arena::new(nodes, roots, &mut self.free);
        let start = if root.is_indexed(len) {
            let slot = arena.entry_slot(root.index, key.top(root.index_bits));
            Start { slot, depth: root.index_bits }
        } else {
            Start { slot: Slot::root(table), depth: 0 }
        };
        (arena, start)
    }

    /// Gives an empty table an index: one read for the first `bits` bits of an address, in place
    /// of a walk. It makes large tables faster, and small ones larger.
    ///
    /// `bits` is 12, 18 or 24; the index takes 4 bytes times 2^bits (16 KiB, 1 MiB, 64 MiB) of the
    /// nodes' memory, for good. Routes of `bits` bits or less are kept apart from it, and are
    /// searched where the index finds nothing.
    ///
    /// # Errors
    ///
    /// [`LpmError::NoTable`]; [`LpmError::Index`] for another number of bits, or a table that has
    /// routes or an index already; [`LpmError::Full`] where the memory is not free or was used
    /// before: reserve early.
    pub fn reserve_index(&mut self, table: u32, bits: u8) -> Result<(), LpmError> {
        let (nodes, roots) = (self.nodes.as_mut_slice(), self.roots.as_mut_slice());
        let root = roots.get(table as usize).ok_or(LpmError::NoTable(table))?;
        if !matches!(bits, 12 | 18 | 24) || root.len != 0 || root.index_bits != 0 {
            return Err(LpmError::Index { table, bits });
        }
        let mut arena = Arena::new(nodes, roots, &mut self.free);
        let index = arena.take_index(bits as u32).ok_or(LpmError::Full)?;
        if let Some(root) = self.roots.as_mut_slice().get_mut(table as usize) {
            (root.index, root.index_bits) = (index, bits as u32);
        }
        Ok(())
    }

    /// The next hop of the route `addr/len`, exactly.
    pub fn get(&self, table: u32, addr: K, len: u8) -> Option<NextHop> {
        let root = self.roots.as_slice().get(table as usize)?;
        if len > K::MAX_LEN {
            return None;
        }
        find::get(self.nodes.as_slice(), root, addr, len as u32).map(cell::unpack)
    }

    /// The next hop of the longest route that holds `addr`.
    #[inline]
    pub fn lookup(&self, table: u32, addr: K) -> Option<NextHop> {
        let root = self.roots.as_slice().get(table as usize)?;
        find::lookup(self.nodes.as_slice(), root, addr).map(cell::unpack)
    }

    /// The longest route that holds `addr`: network address, length and next hop.
    pub fn lookup_prefix(&self, table: u32, addr: K) -> Option<(K, u8, NextHop)> {
        let root = self.roots.as_slice().get(table as usize)?;
        let (len, hop) = find::lookup_prefix(self.nodes.as_slice(), root, addr)?;
        Some((K::from_key(addr.to_key().prefix(len)), len as u8, cell::unpack(hop)))
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
        let (nodes, roots) = (self.nodes.as_mut_slice(), self.roots.as_mut_slice());
        let Some(root) = roots.get_mut(table as usize) else { return 0 };
        let old = *root;
        (root.default, root.len) = (NO_HOP, 0);
        let mut arena = Arena::new(nodes, roots, &mut self.free);
        arena.clear(Slot::root(table));
        if old.index_bits != 0 {
            for top in 0..1 << old.index_bits {
                arena.clear(arena.entry_slot(old.index, top));
            }
        }
        old.len as usize
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

#[cfg(all(test, feature = "std"))]
mod tests;
