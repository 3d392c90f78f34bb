//! FDB: ours beside hashbrown with foldhash, the fastest map that there is.
//!
//! Both hold the same: a key of MAC address and VNI, a destination and the time of the last
//! sighting. Each takes keys in the form that suits it. Its hash has a fixed seed, ours a secret
//! one as always.

use std::time::Duration;

use foldhash::fast::FixedState;
use overlane::addr::{Destination, VtepId};
use overlane::table::fdb::{EntryKind, Fdb, Quota, SlotGroup, TagGroup, groups_for};
use overlane::table::{Learned, Seed};
use overlane::time::Instant;

use super::Scale;
use crate::data::{Station, Stations, stations};
use crate::measure::{Sample, Timed, passes, timed_passes, weigh};

/// Destinations.
const VTEPS: usize = 256;
const BATCH: usize = 32;

trait Table {
    type Key: Copy;
    fn key(station: &Station) -> Self::Key;
    fn new(entries: usize) -> Self;
    /// Whether the address was new.
    fn learn(&mut self, key: Self::Key, from: u16, now: u32) -> bool;
    /// The destination and one; 0 for none.
    fn get(&self, key: Self::Key) -> u64;
    fn get_batch(&self, keys: &[Self::Key; BATCH], out: &mut [u64; BATCH]) {
        for (out, key) in out.iter_mut().zip(keys) {
            *out = self.get(*key);
        }
    }
    /// Removes what was not seen for [`AGEING`], and counts it.
    fn sweep(&mut self, now: u32) -> u64;
    fn clear(&mut self);
}

/// In seconds.
const AGEING: u32 = 300;

type Quotas = Box<[Quota]>;

struct Ours(Fdb<Box<[TagGroup]>, Box<[SlotGroup]>, Quotas, Quotas>);

impl Table for Ours {
    type Key = Station;

    fn key(station: &Station) -> Station {
        *station
    }

    fn new(entries: usize) -> Ours {
        let groups = groups_for(entries);
        let quotas = vec![Quota::UNLIMITED; VTEPS].into_boxed_slice();
        let ageing = Duration::from_secs(AGEING.into());
        let fdb = Fdb::new(
            vec![TagGroup::EMPTY; groups].into_boxed_slice(),
            vec![SlotGroup::EMPTY; groups].into_boxed_slice(),
            vec![Quota::UNLIMITED; 1].into_boxed_slice(),
            quotas,
            Seed::new([0x5e; 16]),
            ageing,
        );
        Ours(fdb.expect("groups of one number"))
    }

    #[inline]
    fn learn(&mut self, key: Station, from: u16, now: u32) -> bool {
        let (now, from) = (Instant::from_secs(now.into()), Destination::Vtep(VtepId(from)));
        matches!(self.0.learn(now, key.vni, key.mac, from, EntryKind::Learned), Learned::New { .. })
    }

    #[inline]
    fn get(&self, key: Station) -> u64 {
        match self.0.lookup(Instant::from_secs(1), key.vni, key.mac) {
            Some(Destination::Vtep(v)) => u64::from(v.0) + 1,
            _ => 0,
        }
    }

    fn sweep(&mut self, now: u32) -> u64 {
        let mut removed = 0;
        self.0.sweep(Instant::from_secs(now.into()), usize::MAX, |_| removed += 1);
        removed
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PeerKey {
    mac: u64,
    vni: u32,
}

#[derive(Debug, Clone, Copy)]
struct PeerEntry {
    at: u32,
    seen: u32,
}

struct Hashbrown(hashbrown::HashMap<PeerKey, PeerEntry, FixedState>);

impl Table for Hashbrown {
    type Key = PeerKey;

    fn key(station: &Station) -> PeerKey {
        PeerKey { mac: station.mac.to_u64(), vni: station.vni.get() }
    }

    fn new(entries: usize) -> Hashbrown {
        Hashbrown(hashbrown::HashMap::with_capacity_and_hasher(entries, FixedState::default()))
    }

    #[inline]
    fn learn(&mut self, key: PeerKey, from: u16, now: u32) -> bool {
        let before = self.0.len();
        let entry = self.0.entry(key).or_insert(PeerEntry { at: from.into(), seen: now });
        (entry.at, entry.seen) = (from.into(), now);
        self.0.len() > before
    }

    #[inline]
    fn get(&self, key: PeerKey) -> u64 {
        self.0.get(&key).map_or(0, |entry| u64::from(entry.at) + 1)
    }

    fn sweep(&mut self, now: u32) -> u64 {
        let before = self.0.len();
        self.0.retain(|_, entry| now.saturating_sub(entry.seen) < AGEING);
        (before - self.0.len()) as u64
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

pub(super) fn run(what: &str, size: usize, who: &str, scale: Scale) -> Sample {
    match who {
        "ours" => measure::<Ours>(what, size, scale),
        "hashbrown" => measure::<Hashbrown>(what, size, scale),
        _ => panic!("no such table: {who}"),
    }
}

fn measure<T: Table>(what: &str, size: usize, scale: Scale) -> Sample {
    let Stations { held, hits, misses } = stations(scale.entries(size), scale.queries(1 << 20));
    let keys = |stations: &[Station]| stations.iter().map(T::key).collect::<Vec<_>>();
    let from = |i: usize| (i % VTEPS) as u16;
    let (held, hits, misses) = (keys(&held), keys(&hits), keys(&misses));
    let (mut table, bytes) = weigh(|| {
        let mut table = T::new(held.len());
        for (i, key) in held.iter().enumerate() {
            table.learn(*key, from(i), 1);
        }
        table
    });
    let timed = match what {
        "hit" => lookups(&table, &hits),
        "miss" => lookups(&table, &misses),
        "hit-batch" => batches(&table, &hits),
        "memory" => Timed { ns: 0.0, sum: held.iter().map(|key| table.get(*key).min(1)).sum(), share: 1.0 },
        "learn" => timed_passes(held.len(), |timer| {
            table.clear();
            timer.time(|| {
                held.iter().enumerate().map(|(i, key)| u64::from(table.learn(*key, from(i), 1))).sum()
            })
        }),
        "refresh" => {
            // As the hits are: any of those that are held, each from where it is.
            let order: Vec<_> = {
                let mut random = crate::measure::Random(45);
                (0..hits.len()).map(|_| random.below(held.len())).map(|i| (held[i], from(i))).collect()
            };
            let mut now = 1;
            passes(order.len(), || {
                now += 1;
                order.iter().map(|(key, from)| u64::from(!table.learn(*key, *from, now))).sum()
            })
        }
        "sweep" => passes(held.len(), || table.sweep(2)),
        "sweep-half" => timed_passes(held.len(), |timer| {
            // Every other one is seen again, and the others grow too old.
            for (i, key) in held.iter().enumerate() {
                table.learn(*key, from(i), if i % 2 == 0 { 1 } else { 100 });
            }
            let removed = timer.time(|| table.sweep(350));
            table.clear();
            removed
        }),
        _ => panic!("no such work: {what}"),
    };
    timed.sample(bytes)
}

fn lookups<T: Table>(table: &T, queries: &[T::Key]) -> Timed {
    passes(queries.len(), || queries.iter().map(|key| table.get(*key)).sum())
}

fn batches<T: Table>(table: &T, queries: &[T::Key]) -> Timed {
    let mut out = [0; BATCH];
    passes(queries.len(), || {
        let (batches, _) = queries.as_chunks::<BATCH>();
        let batch = |keys| {
            table.get_batch(keys, &mut out);
            out.iter().sum::<u64>()
        };
        batches.iter().map(batch).sum()
    })
}
