//! FDB: ours beside hashbrown with foldhash, the fastest map that there is.
//!
//! Both are asked with a pair of VNI and MAC address and tell a destination, or that there is none that
//! has not expired. The peer makes its key of the pair, but for [`ReadyKeys`]. Its hash has a fixed seed,
//! ours a secret one as always.

use std::hint::black_box;
use std::time::Duration;

use foldhash::fast::FixedState;
use overlane::addr::{Destination, MacAddr, Vni, VtepId};
use overlane::table::fdb::{EntryKind, Fdb, Quota, Sighting, SlotGroup, TagGroup, groups_for};
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
    /// A key and where it was seen.
    type Sighting: Copy;
    fn key(station: &Station) -> Self::Key;
    fn new(entries: usize) -> Self;
    /// Whether the address was new.
    fn learn(&mut self, key: Self::Key, from: Destination, now: u32) -> bool;
    fn get(&self, key: Self::Key, now: u32) -> Option<Destination>;
    fn get_batch(&self, keys: &[Self::Key; BATCH], now: u32, out: &mut [Option<Destination>; BATCH]) {
        for (out, key) in out.iter_mut().zip(keys) {
            *out = self.get(*key, now);
        }
    }
    fn sighting(key: Self::Key, from: Destination) -> Self::Sighting;
    /// How many of them were new.
    fn learn_batch(&mut self, sightings: &[Self::Sighting; BATCH], now: u32) -> u64;
    /// Removes what was not seen for [`AGEING`], and counts it.
    fn sweep(&mut self, now: u32) -> u64;
    fn clear(&mut self);
}

/// The destination's number and one; 0 for none.
#[inline]
fn number(destination: Option<Destination>) -> u64 {
    match destination {
        Some(Destination::Vtep(v)) => u64::from(v.0) + 1,
        _ => 0,
    }
}

/// In seconds.
const AGEING: u32 = 300;

type Pair = (Vni, MacAddr);
type Quotas = Box<[Quota]>;

struct Ours(Fdb<Box<[TagGroup]>, Box<[SlotGroup]>, Quotas, Quotas>);

impl Table for Ours {
    type Key = Pair;
    type Sighting = Sighting;

    fn key(station: &Station) -> Pair {
        (station.vni, station.mac)
    }

    fn sighting((vni, mac): Pair, from: Destination) -> Sighting {
        Sighting { vni, mac, from }
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

    #[inline(always)]
    fn learn(&mut self, (vni, mac): Pair, from: Destination, now: u32) -> bool {
        let now = Instant::from_secs(now.into());
        matches!(self.0.learn(now, vni, mac, from, EntryKind::Learned), Learned::New { .. })
    }

    #[inline]
    fn learn_batch(&mut self, sightings: &[Sighting; BATCH], now: u32) -> u64 {
        let mut new = 0;
        self.0.learn_batch(Instant::from_secs(now.into()), sightings, |_, learned| {
            new += u64::from(matches!(learned, Learned::New { .. }));
        });
        new
    }

    #[inline(always)]
    fn get(&self, (vni, mac): Pair, now: u32) -> Option<Destination> {
        self.0.lookup(Instant::from_secs(now.into()), vni, mac)
    }

    #[inline]
    fn get_batch(&self, keys: &[Pair; BATCH], now: u32, out: &mut [Option<Destination>; BATCH]) {
        self.0.lookup_batch(Instant::from_secs(now.into()), keys, out);
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

impl PeerKey {
    #[inline]
    fn new(vni: Vni, mac: MacAddr) -> PeerKey {
        let [a, b, c, d, e, f] = mac.0;
        // The order of the octets in memory, which costs nothing.
        PeerKey { mac: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]), vni: vni.get() }
    }
}

#[derive(Debug, Clone, Copy)]
struct PeerEntry {
    at: Destination,
    seen: u32,
}

struct Hashbrown(hashbrown::HashMap<PeerKey, PeerEntry, FixedState>);

impl Table for Hashbrown {
    type Key = Pair;
    type Sighting = (Pair, Destination);

    fn key(station: &Station) -> Pair {
        (station.vni, station.mac)
    }

    fn sighting(key: Pair, from: Destination) -> (Pair, Destination) {
        (key, from)
    }

    fn new(entries: usize) -> Hashbrown {
        Hashbrown(hashbrown::HashMap::with_capacity_and_hasher(entries, FixedState::default()))
    }

    #[inline(always)]
    fn learn(&mut self, (vni, mac): Pair, at: Destination, now: u32) -> bool {
        let before = self.0.len();
        let entry = self.0.entry(PeerKey::new(vni, mac)).or_insert(PeerEntry { at, seen: now });
        (entry.at, entry.seen) = (at, now);
        self.0.len() > before
    }

    #[inline]
    fn learn_batch(&mut self, sightings: &[(Pair, Destination); BATCH], now: u32) -> u64 {
        sightings.iter().map(|(key, from)| u64::from(self.learn(*key, *from, now))).sum()
    }

    #[inline(always)]
    fn get(&self, (vni, mac): Pair, now: u32) -> Option<Destination> {
        let entry = self.0.get(&PeerKey::new(vni, mac))?;
        if entry.seen + AGEING > now { Some(entry.at) } else { None }
    }

    fn sweep(&mut self, now: u32) -> u64 {
        let before = self.0.len();
        self.0.retain(|_, entry| entry.seen + AGEING > now);
        (before - self.0.len()) as u64
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// The same map asked with keys made beforehand, and for no age.
struct ReadyKeys(Hashbrown);

impl Table for ReadyKeys {
    type Key = PeerKey;
    type Sighting = (PeerKey, Destination);

    fn key(station: &Station) -> PeerKey {
        PeerKey::new(station.vni, station.mac)
    }

    fn sighting(key: PeerKey, from: Destination) -> (PeerKey, Destination) {
        (key, from)
    }

    fn new(entries: usize) -> ReadyKeys {
        ReadyKeys(Hashbrown::new(entries))
    }

    #[inline(always)]
    fn learn(&mut self, key: PeerKey, at: Destination, now: u32) -> bool {
        self.0.0.insert(key, PeerEntry { at, seen: now }).is_none()
    }

    #[inline]
    fn learn_batch(&mut self, sightings: &[(PeerKey, Destination); BATCH], now: u32) -> u64 {
        sightings.iter().map(|(key, from)| u64::from(self.learn(*key, *from, now))).sum()
    }

    #[inline(always)]
    fn get(&self, key: PeerKey, _now: u32) -> Option<Destination> {
        Some(self.0.0.get(&key)?.at)
    }

    fn sweep(&mut self, now: u32) -> u64 {
        self.0.sweep(now)
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

pub(super) fn run(what: &str, size: usize, who: &str, scale: Scale) -> Sample {
    match who {
        "ours" => measure::<Ours>(what, size, scale),
        "hashbrown" => measure::<Hashbrown>(what, size, scale),
        "hashbrown-ready" => measure::<ReadyKeys>(what, size, scale),
        _ => panic!("no such table: {who}"),
    }
}

fn measure<T: Table>(what: &str, size: usize, scale: Scale) -> Sample {
    let Stations { held, hits, misses } = stations(scale.entries(size), scale.queries(1 << 20));
    let keys = |stations: &[Station]| stations.iter().map(T::key).collect::<Vec<_>>();
    let from = |i: usize| Destination::Vtep(VtepId((i % VTEPS) as u16));
    let (held, hits, misses) = (keys(&held), keys(&hits), keys(&misses));
    let (mut table, bytes) = weigh(|| {
        let mut table = T::new(held.len());
        for (i, key) in held.iter().enumerate() {
            table.learn(*key, from(i), 1);
        }
        table
    });
    // As the hits are: any of those that are held, each from where it is.
    let mut random = crate::measure::Random(45);
    let order = (0..hits.len()).map(|_| random.below(held.len())).map(|i| (held[i], from(i)));
    let order: Vec<_> = order.collect();
    let timed = match what {
        "hit" => lookups(&table, &hits),
        "miss" => lookups(&table, &misses),
        "hit-batch" => batches(&table, &hits),
        "memory" => Timed {
            ns: 0.0,
            sum: held.iter().map(|key| table.get(*key, 1).is_some() as u64).sum(),
            share: 1.0,
        },
        "learn" => timed_passes(held.len(), |timer| {
            table.clear();
            timer.time(|| {
                held.iter().enumerate().map(|(i, key)| u64::from(table.learn(*key, from(i), 1))).sum()
            })
        }),
        "refresh" => {
            let mut now = 1;
            passes(order.len(), || {
                now += 1;
                order.iter().map(|(key, from)| u64::from(!table.learn(*key, *from, now))).sum()
            })
        }
        "learn-batch" => {
            let new: Vec<_> = held.iter().enumerate().map(|(i, key)| (*key, from(i))).collect();
            let sightings = sightings::<T>(&new);
            timed_passes(held.len(), |timer| {
                table.clear();
                timer.time(|| sightings.iter().map(|batch| table.learn_batch(batch, 1)).sum())
            })
        }
        "refresh-batch" => {
            let (sightings, mut now) = (sightings::<T>(&order), 1);
            passes(order.len(), || {
                now += 1;
                sightings.iter().map(|batch| BATCH as u64 - table.learn_batch(batch, now)).sum()
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

fn sightings<T: Table>(seen: &[(T::Key, Destination)]) -> Vec<[T::Sighting; BATCH]> {
    let (batches, _) = seen.as_chunks::<BATCH>();
    batches.iter().map(|batch| batch.map(|(key, from)| T::sighting(key, from))).collect()
}

fn lookups<T: Table>(table: &T, queries: &[T::Key]) -> Timed {
    let now = black_box(1);
    passes(queries.len(), || queries.iter().map(|key| number(table.get(*key, now))).sum())
}

fn batches<T: Table>(table: &T, queries: &[T::Key]) -> Timed {
    let (now, mut out) = (black_box(1), [None; BATCH]);
    passes(queries.len(), || {
        let (batches, _) = queries.as_chunks::<BATCH>();
        let batch = |keys| {
            table.get_batch(keys, now, &mut out);
            out.iter().map(|to| number(*to)).sum::<u64>()
        };
        batches.iter().map(batch).sum()
    })
}
