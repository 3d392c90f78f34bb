//! What depends on the routes that are not behind a table's index: the fallbacks of its entries;
//! and the table of answers for 24 bits, which depends on all.

use super::LpmRoot;
use super::arena::{self, Arena};
use super::cell::{self, ASK, CELL_WORDS, In};
use super::find::{self, Begin};
use super::key::{Bits, LpmKey, STRIDE};
use super::update::Start;

/// Entries of the table of answers.
pub(super) const ANSWERS: u32 = 1 << 24;

impl<K: LpmKey> Arena<'_, K> {
    /// Tells what depends on it that the route of `len` bits (not zero) of `key` has changed: it
    /// has this next hop, or is gone.
    pub(super) fn tell(&mut self, root: &LpmRoot, start: Start, key: K::Bits, len: u32, hop: Option<u32>) {
        let indexed = start.slot.place() == In::Index;
        if root.entries == 0 || indexed && root.direct == 0 {
            return;
        }
        let key = key.prefix(len);
        let Some((first, count)) = root.entries(key, len) else { return };
        if indexed {
            let chunks = 1 << (root.depth() + STRIDE).saturating_sub(len);
            let chunk = key.chunk(root.depth()) & (64 - chunks);
            self.answer(root, first, chunk, chunks);
            return;
        }
        let new = match hop {
            Some(hop) => arena::fallback(hop, len),
            None => match find::longest(
                self.cells(),
                Begin { node: self.get(start.slot), checked: false },
                key,
                len - 1,
            ) {
                Some((len, hop)) => arena::fallback(hop, len),
                None => arena::NO_FALLBACK,
            },
        };
        for at in first..first + count {
            if arena::fallback_len(self.fallback(at)) <= len {
                self.set_fallback(at, new);
                self.answer(root, at, 0, 64);
            }
        }
    }

    /// Writes the answers for `count` chunks below the entry at `at`, if there is a table of those.
    pub(super) fn answer(&mut self, root: &LpmRoot, at: u32, chunk: u32, count: u32) {
        let Some(first) = root.direct.checked_sub(1) else { return };
        let first = first * CELL_WORDS + (at - root.index) * (64 / 4);
        let entry = arena::entry(self.cells(), at);
        let fallback = arena::fallback_hop(self.fallback(at));
        let node = arena::behind(self.cells(), entry).copied();
        let mut next = chunk;
        while next < chunk + count {
            let at = first + next / 4;
            let mut word = self.word(at);
            for chunk in next..(next / 4 * 4 + 4).min(chunk + count) {
                let value = match &node {
                    None => fallback,
                    Some(node) if cell::bit(node.word(1), chunk) => ASK,
                    Some(node) => find::or(find::value(self.cells(), node, chunk), fallback),
                };
                let value = if cell::has_rest(value) { ASK } else { value };
                let shift = 16 * (chunk % 4);
                word = word & !(0xffff << shift) | (value as u64) << shift;
            }
            self.set_word(at, word);
            next = next / 4 * 4 + 4;
        }
    }
}
