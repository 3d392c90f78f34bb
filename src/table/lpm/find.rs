//! Reading: the longest match and the exact route.

use super::cell::{self, BRANCH, CELL_WORDS, Cell, LEAF, Place, SKIP};
use super::key::{Bits, LpmKey, STRIDE, home};
use super::{LpmNode, LpmRoot, arena};

#[inline]
pub(super) fn at<K>(cells: &[LpmNode<K>], index: u32) -> Option<&Cell> {
    cells.get(index as usize).map(|c| &c.words)
}

/// Child `rank` of a branch or a skip.
#[inline]
pub(super) fn child<'a, K>(cells: &'a [LpmNode<K>], cell: &Cell, rank: u32) -> Option<&'a Cell> {
    at(cells, (cell::block(cell) / CELL_WORDS).wrapping_add(rank))
}

/// Next hop `rank` of a branch, packed.
#[inline]
pub(super) fn result<K>(cells: &[LpmNode<K>], branch: &Cell, rank: u32) -> Option<u32> {
    let wide = cell::bit(branch[3], 0);
    let half = cell::results_at(branch[1]).wrapping_add(rank << wide as u32);
    let half = half.wrapping_add(cell::block(branch) << 2);
    let word = at(cells, half / (4 * CELL_WORDS))?[(half / 4 % CELL_WORDS) as usize];
    let value = (word >> (16 * (half % 4))) as u32;
    Some(if wide { value } else { value & 0xffff })
}

/// The cell behind the entry of `key` in the table's index, and its depth.
#[inline]
fn indexed<'a, K: LpmKey>(cells: &'a [LpmNode<K>], root: &LpmRoot, key: K::Bits) -> Option<(&'a Cell, u32)> {
    let bits = root.index_bits;
    if bits == 0 {
        return None;
    }
    let entry = arena::entry(cells, root.index.wrapping_sub(key.top(bits)));
    at(cells, entry.checked_sub(1)?).map(|cell| (cell, bits))
}

/// The next hop of the longest route that holds `addr`, packed.
#[inline]
pub(super) fn lookup<K: LpmKey>(cells: &[LpmNode<K>], root: &LpmRoot, addr: K) -> Option<u32> {
    let key = addr.to_key();
    if let Some((cell, depth)) = indexed(cells, root, key)
        && let Some(hop) = walk(cells, cell, depth, key)
    {
        return Some(hop);
    }
    walk(cells, &root.cell, 0, key).or(root.default_route())
}

/// The longest match in the trie at `cell`.
#[inline]
fn walk<'a, K: LpmKey>(
    cells: &'a [LpmNode<K>],
    mut cell: &'a Cell,
    mut depth: u32,
    key: K::Bits,
) -> Option<u32> {
    let mut best = None;
    for _ in 0..K::STEPS {
        if cell::kind(cell) == BRANCH {
            let chunk = key.chunk(depth);
            if cell::holding(cell, chunk) != 0 {
                best = Some((cell, chunk));
            }
            if !cell::bit(cell[1], chunk) {
                break;
            }
            let Some(below) = child(cells, cell, cell::rank(cell[1], chunk)) else { break };
            cell = below;
            depth += STRIDE;
            continue;
        }
        let common = K::Bits::from_words(cell::key_words(cell)).common(key);
        if cell::kind(cell) == LEAF {
            if common >= cell::leaf_len(cell) {
                return Some(cell::leaf_hop(cell));
            }
            break;
        }
        depth = cell::skip_depth(cell);
        if cell::kind(cell) != SKIP || common < depth {
            break;
        }
        let Some(below) = child(cells, cell, 0) else { break };
        cell = below;
    }
    let (branch, chunk) = best?;
    let (rank, _) = cell::longest(branch, chunk)?;
    result(cells, branch, rank)
}

/// The longest route that holds `addr`: its prefix length and next hop, packed.
pub(super) fn lookup_prefix<K: LpmKey>(cells: &[LpmNode<K>], root: &LpmRoot, addr: K) -> Option<(u32, u32)> {
    let key = addr.to_key();
    indexed(cells, root, key)
        .and_then(|(cell, depth)| walk_prefix(cells, cell, depth, key))
        .or_else(|| walk_prefix(cells, &root.cell, 0, key))
        .or(root.default_route().map(|hop| (0, hop)))
}

fn walk_prefix<'a, K: LpmKey>(
    cells: &'a [LpmNode<K>],
    mut cell: &'a Cell,
    mut depth: u32,
    key: K::Bits,
) -> Option<(u32, u32)> {
    let mut best = None;
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
    let key = addr.to_key().prefix(len);
    let home = home(len);
    let (mut cell, mut depth) =
        if root.is_indexed(len) { indexed(cells, root, key)? } else { (&root.cell, 0) };
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
