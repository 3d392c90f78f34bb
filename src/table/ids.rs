//! The lowest free id of a record array, found without a scan.
//!
//! A tree of bits, 64 to a word: a leaf bit says that an id is free, a bit above says that the word
//! below it is not zero. N records need N/64 + N/4096 + ... words, fewer than N, so each record
//! carries one word and the tree needs no memory of its own.

/// Levels of the tree over 2^32 ids.
const LEVELS: usize = 6;

/// A record that carries one word of the tree.
pub(crate) trait Carrier {
    fn word(&self) -> u64;
    fn word_mut(&mut self) -> &mut u64;
}

/// Where each level's words start, leaves first, and how many levels there are.
fn levels(records: usize) -> ([usize; LEVELS], usize) {
    let (mut starts, mut start, mut words) = ([0; LEVELS], 0, records.div_ceil(64));
    for (level, at) in starts.iter_mut().enumerate() {
        *at = start;
        if words <= 1 {
            return (starts, level + 1);
        }
        start += words;
        words = words.div_ceil(64);
    }
    (starts, LEVELS)
}

/// Marks every id free.
pub(crate) fn reset(records: &mut [impl Carrier]) {
    let (starts, count) = levels(records.len());
    let mut bits = records.len();
    for start in starts.into_iter().take(count) {
        let words = bits.div_ceil(64);
        for (w, record) in records.iter_mut().skip(start).take(words).enumerate() {
            let here = bits - 64 * w;
            *record.word_mut() = if here >= 64 { u64::MAX } else { (1 << here) - 1 };
        }
        bits = words;
    }
}

/// The lowest free id. One word is read per level.
pub(crate) fn lowest(records: &[impl Carrier]) -> Option<u32> {
    let (starts, count) = levels(records.len());
    let mut at = 0;
    for start in starts.into_iter().take(count).rev() {
        let word = records.get(start + at)?.word();
        if word == 0 {
            return None;
        }
        at = at * 64 + word.trailing_zeros() as usize;
    }
    Some(at as u32)
}

/// Marks `id` used.
pub(crate) fn take(records: &mut [impl Carrier], id: u32) {
    let (starts, count) = levels(records.len());
    let mut at = id as usize;
    for start in starts.into_iter().take(count) {
        let Some(record) = records.get_mut(start + at / 64) else { return };
        *record.word_mut() &= !(1 << (at % 64));
        if record.word() != 0 {
            return;
        }
        at /= 64;
    }
}

/// Marks `id` free.
pub(crate) fn give(records: &mut [impl Carrier], id: u32) {
    let (starts, count) = levels(records.len());
    let mut at = id as usize;
    for start in starts.into_iter().take(count) {
        let Some(record) = records.get_mut(start + at / 64) else { return };
        let was = record.word();
        *record.word_mut() |= 1 << (at % 64);
        if was != 0 {
            return;
        }
        at /= 64;
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec;

    impl Carrier for u64 {
        fn word(&self) -> u64 {
            *self
        }

        fn word_mut(&mut self) -> &mut u64 {
            self
        }
    }

    #[test]
    fn ids_come_lowest_first_at_every_size() {
        for n in [1, 2, 63, 64, 65, 128, 4095, 4096, 4097, 4161, 70_000] {
            let mut words = vec![0xdead_beefu64; n];
            reset(&mut words);
            for id in 0..n as u32 {
                assert_eq!(lowest(&words), Some(id), "{n} records");
                take(&mut words, id);
            }
            assert_eq!(lowest(&words), None);
            for id in [n as u32 - 1, n as u32 / 2, 0] {
                give(&mut words, id);
                assert_eq!(lowest(&words), Some(id));
            }
        }
        assert_eq!(lowest(&[0u64; 0]), None);
    }

    #[test]
    fn any_order_of_taking_and_giving_agrees_with_a_set() {
        for n in [5u32, 70, 5000] {
            let mut words = vec![0u64; n as usize];
            reset(&mut words);
            let mut free: BTreeSet<u32> = (0..n).collect();
            let mut x = 1u32;
            for _ in 0..20_000 {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let id = (x >> 8) % n;
                if x & 1 == 0 {
                    take(&mut words, id);
                    free.remove(&id);
                } else {
                    give(&mut words, id);
                    free.insert(id);
                }
                assert_eq!(lowest(&words), free.first().copied());
            }
        }
    }
}
