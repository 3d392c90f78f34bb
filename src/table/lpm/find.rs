//! Reading: the longest match and the exact route.

use core::hint::select_unpredictable;

use super::arena;
use super::cell::{self, ASK, CELL_WORDS, Cell, NONE, OUTSIDE, Place, Raw, SPECIAL};
use super::key::{Bits, CHECKPOINT, LpmKey, STRIDE, home};
use super::{LpmNode, LpmRoot, tail};
use crate::addr::NextHop;

/// The word of that number.
#[inline]
pub(super) fn word<K>(cells: &[LpmNode<K>], index: u32) -> u64 {
    cells.get((index / CELL_WORDS) as usize).map_or(0, |c| c.raw.word(index))
}

/// The cell of that number.
pub(super) fn at<K>(cells: &[LpmNode<K>], index: u32) -> Option<Cell> {
    cells.get(index as usize).map(|c| c.raw.cell())
}

/// Child `rank` of a node.
pub(super) fn child<K>(cells: &[LpmNode<K>], node: &Cell, rank: u32) -> Option<Cell> {
    at(cells, cell::children_end(node[0]) - cell::children(node) + rank)
}

/// The half of that number, from the arena's start.
#[inline]
pub(super) fn half<K>(cells: &[LpmNode<K>], at: u32) -> u32 {
    cells.get((at / 16) as usize).map_or(NONE, |c| c.raw.half(at))
}

#[inline]
pub(super) fn or(hop: u32, otherwise: u32) -> u32 {
    select_unpredictable(hop == NONE, otherwise, hop)
}

/// Where the value of a node for `chunk` is, in halves from the arena's start, and whether there
/// is one.
#[inline]
pub(super) fn value_at(node: &Raw, chunk: u32) -> (u32, bool) {
    let runs = node.word(2).wrapping_shl(!chunk);
    (cell::values(node.word(0)).wrapping_add(runs.count_ones()), runs != 0)
}

/// The value of a node for `chunk`, as far as it is in 16 bits.
#[inline]
pub(super) fn value<K>(cells: &[LpmNode<K>], node: &Raw, chunk: u32) -> u32 {
    let (at, there) = value_at(node, chunk);
    select_unpredictable(there, half(cells, at), NONE)
}

/// Where the child of a node for `chunk` is, and whether there is one.
#[inline]
pub(super) fn child_at(node: &Raw, chunk: u32) -> (u32, bool) {
    let children = node.word(1).wrapping_shr(chunk);
    (cell::children_end(node.word(0)).wrapping_sub(children.count_ones()), children & 1 != 0)
}

/// The child of a node for `chunk`.
#[inline]
fn below<'a, K>(cells: &'a [LpmNode<K>], node: &Raw, chunk: u32) -> Option<&'a Raw> {
    let (at, there) = child_at(node, chunk);
    if there { cells.get(at as usize).map(|c| &c.raw) } else { None }
}

/// The chunk of `key` for a node, and whether the node is on its way.
#[inline(always)]
pub(super) fn enter<B: Bits>(node: &Raw, key: B) -> (u32, bool) {
    let depth = cell::depth(node.word(0));
    if depth < CHECKPOINT {
        // Most nodes: all is in the first word.
        let high = key.high();
        let before = (high >> 1).wrapping_shr(63 - depth);
        return (high.rotate_left(depth + STRIDE) as u32 & 63, before == node.word(3));
    }
    enter_deep(node, depth, key)
}

#[inline(never)]
fn enter_deep<B: Bits>(node: &Raw, depth: u32, key: B) -> (u32, bool) {
    (key.step(depth), key.before(depth) == node.word(3))
}

/// The next hop of the longest route that holds `addr`.
///
/// What most lookups need is here, to be part of the caller; the rest is elsewhere.
#[inline(always)]
pub(super) fn lookup<K: LpmKey>(cells: &[LpmNode<K>], root: &LpmRoot, addr: K) -> Option<NextHop> {
    let key = addr.to_key();
    let value = if K::MAX_LEN == 32 && root.direct != 0 {
        direct(cells, root, key)
    } else {
        match near(cells, root, key) {
            Ok(value) => value,
            // Few lookups of IPv4, and most of IPv6. With one call in it a caller comes out shorter, so those few
            // begin anew.
            Err(_) if K::MAX_LEN == 32 => ASK,
            Err(entry) => return through_children(cells, root, key, entry),
        }
    };
    if value < SPECIAL { cell::unpack(value) } else { rest(cells, root, key, value) }
}

/// The value that an entry of the index is, or that lies close behind it; the entry, if there is more to
/// do; or [`OUTSIDE`].
#[inline(always)]
fn near<K: LpmKey>(cells: &[LpmNode<K>], root: &LpmRoot, key: K::Bits) -> Result<u32, u32> {
    let Some(at) = root.entry(key) else { return Ok(OUTSIDE) };
    let Some(cell) = cells.get((at / 8) as usize) else { return Ok(OUTSIDE) };
    let entry = cell.raw.entry(at);
    match head(cells, entry) {
        Some(head) => Ok(head_value(head, key.within(root.depth(), root.turn))),
        None if entry & arena::FALLBACK != 0 => Ok(arena::fallback_hop(entry)),
        None => Err(entry),
    }
}

/// The rest of a lookup that has come to this value, which is no VTEP.
#[cold]
#[inline(never)]
fn rest<K: LpmKey>(cells: &[LpmNode<K>], root: &LpmRoot, key: K::Bits, value: u32) -> Option<NextHop> {
    if value != ASK {
        return special(cells, root, key, value);
    }
    match near(cells, root, key) {
        Ok(value) => special(cells, root, key, value),
        Err(entry) => through_children(cells, root, key, entry),
    }
}

/// The rest of a lookup, at a head that has children, or is among the last cells.
#[inline(never)]
fn through_children<K: LpmKey>(
    cells: &[LpmNode<K>],
    root: &LpmRoot,
    key: K::Bits,
    entry: u32,
) -> Option<NextHop> {
    let head = arena::behind(cells, entry)?;
    let chunk = key.within(root.depth(), root.turn);
    let best = or(value(cells, head, chunk), cell::fallback_value(head.word(3)));
    let value = match below(cells, head, chunk) {
        Some(node) => walk::<K>(cells, node, key, best),
        None => best,
    };
    if value < SPECIAL { cell::unpack(value) } else { special(cells, root, key, value) }
}

/// A lookup that no index helps.
#[inline(never)]
fn from_root<K: LpmKey>(cells: &[LpmNode<K>], root: &LpmRoot, key: K::Bits) -> Option<NextHop> {
    let value = walk::<K>(cells, &root.cell, key, NONE);
    if value < SPECIAL { cell::unpack(value) } else { special(cells, root, key, value) }
}

/// A head, and as many cells behind it as its values can be in.
pub(super) type Head<K> = [LpmNode<K>; 1 + 64 / 16];

/// The head behind an entry of an index, if there is one, it has no children and is not among the
/// last cells of the arena.
#[inline(always)]
pub(super) fn head<K>(cells: &[LpmNode<K>], entry: u32) -> Option<&Head<K>> {
    let at = entry as usize;
    cells.get(at..at.wrapping_add(size_of::<Head<K>>() / size_of::<LpmNode<K>>()))?.first_chunk()
}

/// The value of a head without children for `chunk`, or what it falls back to.
#[inline(always)]
pub(super) fn head_value<K>(head: &Head<K>, chunk: u32) -> u32 {
    let runs = head[0].raw.word(2).wrapping_shl(!chunk);
    // Before the first value is the fallback.
    let at = 15 + runs.count_ones();
    or(
        head.get((at / 16) as usize).map_or(NONE, |c| c.raw.half(at)),
        cell::fallback_value(head[0].raw.word(3)),
    )
}

/// A next hop, whatever it is.
#[inline(never)]
pub(super) fn special<K: LpmKey>(
    cells: &[LpmNode<K>],
    root: &LpmRoot,
    key: K::Bits,
    value: u32,
) -> Option<NextHop> {
    if value == NONE {
        cell::unpack(root.default)
    } else if value == OUTSIDE {
        from_root(cells, root, key)
    } else if cell::has_rest(value) {
        lookup_wide(cells, root, key)
    } else {
        cell::unpack(value)
    }
}

/// The answer of the table of answers for 24 bits; [`ASK`] if there is none.
#[inline]
pub(super) fn direct<K: LpmKey>(cells: &[LpmNode<K>], root: &LpmRoot, key: K::Bits) -> u32 {
    let Some(first) = root.direct.checked_sub(1) else { return ASK };
    let top = (key.high() >> 40) as u32;
    cells.get(first.wrapping_add(top / 16) as usize).map_or(ASK, |c| c.raw.half(top))
}

/// The longest match from `node` on, as far as it is in 16 bits.
#[inline]
pub(super) fn walk<'a, K: LpmKey>(
    cells: &'a [LpmNode<K>],
    mut node: &'a Raw,
    key: K::Bits,
    mut best: u32,
) -> u32 {
    for _ in 0..K::STEPS {
        let (chunk, held) = enter(node, key);
        if !held {
            break;
        }
        best = or(value(cells, node, chunk), best);
        match below(cells, node, chunk) {
            Some(below) => node = below,
            None => break,
        }
    }
    best
}

/// The next hop where its rest is needed: the same way again, keeping where the value is.
fn lookup_wide<K: LpmKey>(cells: &[LpmNode<K>], root: &LpmRoot, key: K::Bits) -> Option<NextHop> {
    let first = root.entry(key).and_then(|at| arena::behind(cells, arena::entry(cells, at)));
    let behind = first.and_then(|node| walk_wide(cells, node, true, key));
    behind.or_else(|| walk_wide(cells, &root.cell, false, key)).or_else(|| cell::unpack(root.default))
}

fn walk_wide<'a, K: LpmKey>(
    cells: &'a [LpmNode<K>],
    mut node: &'a Raw,
    mut checked: bool,
    key: K::Bits,
) -> Option<NextHop> {
    let mut best = None;
    for _ in 0..K::STEPS {
        let depth = cell::depth(node.word(0));
        if !checked && key.before(depth) != node.word(3) {
            break;
        }
        checked = false;
        let chunk = key.step(depth);
        let value = value(cells, node, chunk);
        if value != NONE {
            best = Some((node, chunk, value));
        }
        match below(cells, node, chunk) {
            Some(below) => node = below,
            None => break,
        }
    }
    let (node, chunk, value) = best?;
    if !cell::has_rest(value) {
        return cell::unpack(value);
    }
    let runs = node.word(2);
    let at = cell::values(node.word(0)) + runs.count_ones() + runs.wrapping_shl(!chunk).count_ones();
    cell::unpack(value | half(cells, at) << 16)
}

/// The node that the trie at `start` begins with: a table's root, or what is behind an entry.
#[derive(Clone, Copy)]
pub(super) struct Begin {
    pub(super) node: Cell,
    /// Whether the way to it is known to be that of the key.
    pub(super) checked: bool,
}

pub(super) fn indexed<K: LpmKey>(cells: &[LpmNode<K>], root: &LpmRoot, key: K::Bits) -> Option<Begin> {
    let node = arena::behind(cells, arena::entry(cells, root.entry(key)?))?;
    Some(Begin { node: node.cell(), checked: true })
}

pub(super) fn rooted(root: &LpmRoot) -> Begin {
    Begin { node: root.cell.cell(), checked: false }
}

/// The longest route that holds `addr`: its prefix length and next hop, packed.
pub(super) fn lookup_prefix<K: LpmKey>(cells: &[LpmNode<K>], root: &LpmRoot, addr: K) -> Option<(u32, u32)> {
    let key = addr.to_key();
    let max = K::MAX_LEN as u32;
    indexed(cells, root, key)
        .and_then(|begin| longest(cells, begin, key, max))
        .or_else(|| longest(cells, rooted(root), key, max))
        .or(root.default_route().map(|hop| (0, hop)))
}

/// The longest route of at most `max` bits that holds `key`, in one trie.
pub(super) fn longest<K: LpmKey>(
    cells: &[LpmNode<K>],
    begin: Begin,
    key: K::Bits,
    max: u32,
) -> Option<(u32, u32)> {
    let mut best = None;
    let Begin { mut node, mut checked } = begin;
    for _ in 0..K::STEPS {
        let depth = cell::depth(node[0]);
        if !cell::is_node(&node) || depth >= max || !(checked || key.before(depth) == node[3]) {
            break;
        }
        checked = false;
        let chunk = key.chunk(depth);
        let routes = tail::routes(cells, &node);
        let place = match max - depth {
            n @ 0..6 => routes.at_most(chunk, n),
            _ => routes.longest(chunk),
        };
        if let Some(place) = place {
            best = Some((depth + place.chunk().1, tail::hop(cells, &node, place)));
        }
        if !cell::bit(node[1], chunk) {
            break;
        }
        node = child(cells, &node, cell::rank(node[1], chunk))?;
    }
    best
}

/// The next hop of the route of `len` bits of `addr`, packed.
pub(super) fn get<K: LpmKey>(cells: &[LpmNode<K>], root: &LpmRoot, addr: K, len: u32) -> Option<u32> {
    if len == 0 {
        return root.default_route();
    }
    let (key, home) = (addr.to_key().prefix(len), home(len));
    let begin = if root.is_indexed(key, len) { indexed(cells, root, key)? } else { rooted(root) };
    let Begin { mut node, mut checked } = begin;
    for _ in 0..K::STEPS {
        let depth = cell::depth(node[0]);
        if !cell::is_node(&node) || depth > home || !(checked || key.before(depth) == node[3]) {
            return None;
        }
        checked = false;
        let chunk = key.chunk(depth);
        if home == depth {
            let place = Place::new(chunk, len - depth);
            let found = tail::routes(cells, &node).has(place);
            return found.then(|| tail::hop(cells, &node, place));
        }
        if !cell::bit(node[1], chunk) {
            return None;
        }
        node = child(cells, &node, cell::rank(node[1], chunk))?;
    }
    None
}
