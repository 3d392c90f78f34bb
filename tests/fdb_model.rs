//! The FDB against a plain map: after every step of a random sequence, membership, destinations,
//! kinds, ages, accounts and counts are the same, and what differs from an unbounded map is only what
//! the table reported as evicted, where its rules allow that. For all three kinds of memory.
#![cfg(feature = "alloc")]

use core::time::Duration;
use std::collections::{HashMap, HashSet};

use overlane::addr::{Destination, MacAddr, PortId, Vni, VtepId};
use overlane::error::FdbError;
use overlane::table::fdb::{
    Crossing, EntryKind, Fdb, FdbEntry, Learned, Probe, Quota, Sighting, SlotGroup, TagGroup, groups_for,
};
use overlane::table::{Seed, Store};
use overlane::time::Instant;
use proptest::prelude::*;

type Key = (Vni, MacAddr);

const AGEING: Duration = Duration::from_millis(3000);
/// 24 ticks of 128 ms, rounded up; and one more as the stamp is rounded down.
const AGEING_TICKS: u64 = 25;
/// Two seconds before the stamps wrap.
const START: u64 = (1 << 39) - 2000;
const DESTINATIONS: [Destination; 5] = [
    Destination::Port(PortId(0)),
    Destination::Port(PortId(1)),
    Destination::Port(PortId(2)),
    Destination::Vtep(VtepId(0)),
    Destination::Vtep(VtepId(1)),
];
/// Behind the accounts that the table is lent.
const NO_ACCOUNT: Destination = Destination::Vtep(VtepId(2));

#[derive(Debug, Clone)]
enum Op {
    Learn {
        key: Key,
        from: Destination,
        kind: EntryKind,
    },
    /// Many addresses from one destination: fills tables.
    Burst {
        first: u64,
        count: u64,
        from: Destination,
    },
    /// Several at once, each of them perhaps twice.
    LearnBatch(Vec<(Key, Destination)>),
    Insert {
        key: Key,
        to: Destination,
        kind: EntryKind,
    },
    Remove(Key),
    Sweep(usize),
    Flush(Destination),
    Limit(Destination, u32),
    Forward(u64),
    Back(u64),
    Clear,
}

fn key(n: u64) -> Key {
    // VNIs that differ only in the high 8 or only in the low 16 bits; the first address is no station's.
    let vni = [0, 1, 0x01_0000, 0xff_ffff][(n % 4) as usize];
    (Vni::truncate(vni), MacAddr::from_u64(if n < 4 { 0 } else { 0x0200_0000_0000 | (n / 8) }))
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = || (0..240u64).prop_map(key);
    let to = || prop_oneof![20 => proptest::sample::select(&DESTINATIONS[..]), 1 => Just(NO_ACCOUNT)];
    let kind = || prop_oneof![10 => Just(EntryKind::Learned), 2 => Just(EntryKind::Sticky), 1 => Just(EntryKind::Static)];
    let op = prop_oneof![
        30 => (key(), to(), kind()).prop_map(|(key, from, kind)| Op::Learn { key, from, kind }),
        4 => (0..240u64, 1..60u64, to()).prop_map(|(first, count, from)| Op::Burst { first, count, from }),
        6 => proptest::collection::vec((key(), to()), 0..70).prop_map(Op::LearnBatch),
        6 => (key(), to(), kind()).prop_map(|(key, to, kind)| Op::Insert { key, to, kind }),
        8 => key().prop_map(Op::Remove),
        8 => (0..40usize).prop_map(Op::Sweep),
        1 => to().prop_map(Op::Flush),
        3 => (to(), prop_oneof![0..30u32, Just(u32::MAX)]).prop_map(|(d, n)| Op::Limit(d, n)),
        8 => (1..900u64).prop_map(Op::Forward),
        1 => (1..4000u64).prop_map(Op::Back),
        1 => (2800..3500u64).prop_map(Op::Forward),
    ];
    let op = prop_oneof![200 => op, 1 => Just(Op::Clear)];
    proptest::collection::vec(op, 1..250)
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Entry {
    to: Destination,
    kind: EntryKind,
    seen: u64,
}

struct Model<T, S, P, V> {
    fdb: Fdb<T, S, P, V>,
    entries: HashMap<Key, Entry>,
    limits: HashMap<Destination, u32>,
    now: u64,
    /// What had expired when the sweep's pass began, and has been neither seen nor revived since.
    due: HashSet<Key>,
    /// Whether every key may live in every slot, so that the model can tell who must go.
    small: bool,
}

impl<T: Store<TagGroup>, S: Store<SlotGroup>, P: Store<Quota>, V: Store<Quota>> Model<T, S, P, V> {
    fn new(tags: T, slots: S, ports: P, vteps: V) -> Self {
        let groups = tags.as_slice().len();
        let fdb = Fdb::new(tags, slots, ports, vteps, Seed::fixed(3), AGEING).unwrap();
        assert_eq!(fdb.capacity(), groups * 7);
        Model {
            fdb,
            entries: HashMap::new(),
            limits: DESTINATIONS.into_iter().map(|d| (d, u32::MAX)).collect(),
            now: START,
            due: HashSet::new(),
            small: groups <= 2,
        }
    }

    fn now(&self) -> Instant {
        Instant::from_millis(self.now)
    }

    fn alive(&self, e: &Entry) -> bool {
        e.kind == EntryKind::Static || (self.now / 128).saturating_sub(e.seen / 128) < AGEING_TICKS
    }

    fn held(&self, to: Destination) -> u32 {
        self.entries.values().filter(|e| e.kind != EntryKind::Static && e.to == to).count() as u32
    }

    fn full(&self) -> bool {
        self.entries.len() == self.fdb.capacity()
    }

    /// The table says that this entry is gone: it was there, just so.
    fn gone(&mut self, e: FdbEntry) -> Entry {
        let key = (e.vni, e.mac);
        let was = self.entries.remove(&key).expect("removed what was not there");
        let last_seen = Instant::from_millis(was.seen & !127);
        assert_eq!((e.destination, e.kind, e.last_seen), (was.to, was.kind, last_seen));
        self.due.remove(&key);
        was
    }

    fn put(&mut self, key: Key, to: Destination, kind: EntryKind) {
        self.due.remove(&key);
        self.entries.insert(key, Entry { to, kind, seen: self.now });
    }

    /// Somebody went for a newcomer to `to` (`within`: because its destination was at its limit).
    fn evicted(&mut self, evicted: Option<FdbEntry>, to: Destination, within: bool) {
        let expired: Vec<_> = self.entries.values().filter(|e| !self.alive(e)).copied().collect();
        let learned: Vec<_> =
            self.entries.values().filter(|e| e.kind == EntryKind::Learned).copied().collect();
        let full = self.full();
        let Some(e) = evicted else {
            assert!(!within && !full);
            return;
        };
        let gone = self.gone(e);
        if within {
            assert!(gone.to == to && expired.contains(&gone));
        } else if self.small {
            assert!(full, "evicted although there was room");
            if !expired.is_empty() {
                return assert!(expired.contains(&gone));
            }
            let of = |to| learned.iter().filter(|e| e.to == to).count();
            let own = of(to) > 0 && learned.iter().all(|e| of(e.to) <= of(to));
            assert!(!own || gone.to == to, "a destination with the most entries evicted another's");
            let oldest = learned.iter().filter(|e| !own || e.to == to).map(|e| e.seen / 128).min();
            // Stamps ahead of a clock that stepped back are all equally young.
            assert_eq!(
                Some(gone.seen / 128).map(|s| s.min(self.now / 128)),
                oldest.map(|s| s.min(self.now / 128))
            );
        } else {
            assert!(expired.contains(&gone) || gone.kind == EntryKind::Learned);
        }
    }

    /// Nobody could go for a newcomer.
    fn refused(&self) {
        let fixed = |e: &&Entry| self.alive(e) && e.kind != EntryKind::Learned;
        let fixed = self.entries.values().filter(fixed).count();
        assert!(if self.small { fixed == self.fdb.capacity() } else { fixed >= 7 });
    }

    fn learn(&mut self, key: Key, from: Destination, kind: EntryKind) {
        let (vni, mac) = key;
        let probe = self.fdb.probe(self.now(), vni, mac, from);
        let outcome = self.fdb.learn(self.now(), vni, mac, from, kind);
        assert_eq!(probe, self.learned(key, from, kind, outcome));
    }

    fn learn_batch(&mut self, seen: &[(Key, Destination)]) {
        let sightings: Vec<_> =
            seen.iter().map(|((vni, mac), from)| Sighting { vni: *vni, mac: *mac, from: *from }).collect();
        let mut outcomes = Vec::new();
        self.fdb.learn_batch(self.now(), &sightings, |s, outcome| outcomes.push((*s, outcome)));
        assert!(outcomes.iter().map(|(s, _)| s).eq(&sightings), "each is told of, in turn");
        for (s, outcome) in outcomes {
            self.learned((s.vni, s.mac), s.from, EntryKind::Learned, outcome);
        }
    }

    /// The table has learned an address, with this outcome. Gives what a probe had to find before.
    fn learned(&mut self, key: Key, from: Destination, kind: EntryKind, outcome: Learned) -> Probe {
        if !key.1.is_unicast() {
            assert_eq!(outcome, Learned::NotUnicast);
            return Probe::Missing;
        }
        let kind = if kind == EntryKind::Learned { kind } else { EntryKind::Sticky };
        let has_room = self.limits.get(&from).is_some_and(|limit| self.held(from) < *limit);
        let old = self.entries.get(&key).copied();
        match old.filter(|e| self.alive(e)) {
            Some(e) if e.to == from => {
                assert_eq!(outcome, Learned::Refreshed);
                let age = (self.now / 128).saturating_sub(e.seen / 128);
                let fresh = e.kind == EntryKind::Static || age <= AGEING_TICKS / 16;
                if e.kind != EntryKind::Static {
                    let sticky = e.kind == EntryKind::Sticky || kind == EntryKind::Sticky;
                    self.put(key, from, if sticky { EntryKind::Sticky } else { EntryKind::Learned });
                }
                if fresh { Probe::Fresh } else { Probe::Stale }
            }
            Some(e) if e.kind != EntryKind::Learned => {
                assert_eq!(outcome, Learned::Pinned);
                Probe::Pinned
            }
            Some(e) if has_room => {
                assert_eq!(outcome, Learned::Moved { from: e.to });
                self.put(key, from, kind);
                Probe::Moved
            }
            Some(_) => {
                assert_eq!(outcome, Learned::QuotaHit);
                Probe::Moved
            }
            None => {
                match (outcome, old) {
                    (Learned::New { evicted: Some(e) }, Some(old)) => {
                        assert!((e.vni, e.mac) == key && (has_room || old.to == from));
                        self.gone(e);
                        self.put(key, from, kind);
                    }
                    (Learned::New { evicted }, None) => {
                        self.evicted(evicted, from, !has_room);
                        self.put(key, from, kind);
                    }
                    (Learned::QuotaHit, old) => {
                        assert!(!has_room && old.is_none_or(|e| e.to != from));
                        let own = |e: &Entry| e.to == from && !self.alive(e);
                        assert!(old.is_some() || !self.small || !self.entries.values().any(own));
                    }
                    (Learned::Full, None) => {
                        assert!(has_room);
                        self.refused();
                    }
                    other => panic!("{other:?}"),
                }
                Probe::Missing
            }
        }
    }

    fn insert(&mut self, key: Key, to: Destination, kind: EntryKind) {
        let (vni, mac) = key;
        match self.fdb.insert(self.now(), vni, mac, to, kind) {
            Err(FdbError::NotUnicast(m)) => return assert!(m == mac && !mac.is_unicast()),
            Err(FdbError::NoDestination(d)) => return assert!(d == to && to == NO_ACCOUNT),
            Err(FdbError::Full { .. }) => {
                assert!(!self.entries.contains_key(&key));
                return self.refused();
            }
            Err(other) => panic!("{other}"),
            Ok(replaced) if self.entries.contains_key(&key) => {
                let replaced = replaced.expect("an entry was there before");
                assert_eq!((replaced.vni, replaced.mac), key);
                self.gone(replaced);
            }
            Ok(evicted) => self.evicted(evicted, to, false),
        }
        self.put(key, to, kind);
    }

    fn sweep(&mut self, budget: usize) -> bool {
        let mut removed = Vec::new();
        let ended = self.fdb.sweep(self.now(), budget, |e| removed.push(e));
        assert!(removed.len() <= budget);
        for e in removed {
            let gone = self.gone(e);
            assert!(!self.alive(&gone), "swept while alive");
        }
        if ended {
            assert!(self.due.is_empty(), "a pass went by {:?}", self.due);
            let due = self.entries.iter().filter(|(_, e)| !self.alive(e));
            self.due = due.map(|(k, _)| *k).collect();
        }
        ended
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Learn { key, from, kind } => self.learn(key, from, kind),
            Op::Burst { first, count, from } => {
                for n in first..first + count {
                    self.learn(key(n), from, EntryKind::Learned);
                }
            }
            Op::LearnBatch(ref seen) => self.learn_batch(seen),
            Op::Insert { key, to, kind } => self.insert(key, to, kind),
            Op::Remove(key) => match self.fdb.remove(key.0, key.1) {
                Some(e) => {
                    assert_eq!((e.vni, e.mac), key);
                    self.gone(e);
                }
                None => assert!(!self.entries.contains_key(&key)),
            },
            Op::Sweep(budget) => {
                self.sweep(budget);
            }
            Op::Flush(to) => {
                let mut removed = Vec::new();
                let count = self.fdb.flush(|e| e.destination != to, |e| removed.push(e));
                assert_eq!(count, removed.len());
                removed.into_iter().for_each(|e| assert_eq!(self.gone(e).to, to));
                assert!(self.entries.values().all(|e| e.to != to));
            }
            Op::Limit(to, limit) => {
                let set = self.fdb.set_limit(to, limit);
                assert_eq!(set.is_ok(), self.limits.get_mut(&to).map(|l| *l = limit).is_some());
            }
            Op::Forward(ms) => self.now += ms,
            Op::Back(ms) => {
                self.now -= ms;
                let (entries, mut due) = (&self.entries, core::mem::take(&mut self.due));
                due.retain(|key| !self.alive(&entries[key]));
                self.due = due;
            }
            Op::Clear => {
                self.fdb.clear();
                self.entries.clear();
                self.due.clear();
            }
        }
        assert_eq!(self.fdb.len(), self.entries.len());
        assert_eq!(self.fdb.is_empty(), self.entries.is_empty());
        for d in DESTINATIONS {
            assert_eq!(self.fdb.learned_by(d), self.held(d), "{d} after {op:?}");
        }
    }

    /// Everything that can be asked of the table.
    fn compare(&self) {
        for n in 0..300 {
            let (vni, mac) = key(n);
            let expected = self.entries.get(&(vni, mac)).filter(|e| self.alive(e)).map(|e| FdbEntry {
                vni,
                mac,
                destination: e.to,
                kind: e.kind,
                last_seen: Instant::from_millis(e.seen & !127),
            });
            assert_eq!(self.fdb.entry(self.now(), vni, mac), expected);
            assert_eq!(self.fdb.lookup(self.now(), vni, mac), expected.map(|e| e.destination));
        }
        let all: HashSet<_> = self.fdb.iter().map(|e| (e.vni, e.mac, e.destination, e.kind)).collect();
        let expected = self.entries.iter().map(|(k, e)| (k.0, k.1, e.to, e.kind));
        assert_eq!(all, expected.collect());
    }

    /// Batches of any length answer as the single calls do.
    fn compare_batches(&self) {
        let keys: Vec<Key> = (0..300).map(key).collect();
        let single: Vec<_> = keys.iter().map(|k| self.fdb.lookup(self.now(), k.0, k.1)).collect();
        for count in [0, 1, 31, 32, 33, 300] {
            let mut out = vec![None; 300];
            self.fdb.lookup_batch(self.now(), &keys[..count], &mut out);
            assert_eq!((&out[..count], &out[count..]), (&single[..count], &vec![None; 300 - count][..]));
        }
        let (frames, places): (Vec<_>, Vec<_>) =
            (keys.iter().zip(keys.iter().rev()).zip(DESTINATIONS.iter().cycle()))
                .map(|((k, to), from)| (Crossing { vni: k.0, source: k.1, destination: to.1 }, *from))
                .unzip();
        let mut out = vec![(None, None); 290];
        self.fdb.cross_batch(self.now(), &frames, &mut out);
        for ((f, from), (known, found)) in frames.iter().zip(places).zip(out) {
            let source = self.fdb.probe(self.now(), f.vni, f.source, from);
            assert_eq!(
                (known.map_or(Probe::Missing, |k| k.probe(from)), found),
                (source, self.fdb.lookup(self.now(), f.vni, f.destination))
            );
        }
    }

    fn run(mut self, ops: &[Op]) {
        for (i, op) in ops.iter().enumerate() {
            self.step(op);
            if i % 16 == 0 {
                self.compare();
            }
        }
        self.compare();
        self.compare_batches();
        // Then everything that ages ends, by sweeps of odd sizes between which nothing else happens.
        let last = self.entries.values().map(|e| e.seen).max().unwrap_or(0);
        self.now = self.now.max(last) + 2 * AGEING.as_millis() as u64;
        for _ in 0..2 {
            while !self.sweep(7) {}
        }
        assert!(self.entries.values().all(|e| e.kind == EntryKind::Static));
        self.compare();
    }
}

/// The same sequence over memory in the table, borrowed, and boxed; what it held before does not matter.
fn every_store<const G: usize>(ops: &[Op]) {
    const PORTS: [Quota; 3] = [Quota::UNLIMITED; 3];
    const VTEPS: [Quota; 2] = [Quota::UNLIMITED; 2];
    let (mut tags, mut slots) = ([TagGroup::EMPTY; G], [SlotGroup::EMPTY; G]);
    Model::new(tags, slots, PORTS, VTEPS).run(ops);
    let (mut ports, mut vteps) = (PORTS, VTEPS);
    for _ in 0..2 {
        Model::new(&mut tags[..], &mut slots[..], &mut ports[..], &mut vteps[..]).run(ops);
    }
    let (tags, slots): (Box<[_]>, Box<[_]>) = (Box::new(tags), Box::new(slots));
    Model::new(tags, slots, PORTS.to_vec(), VTEPS.to_vec()).run(ops);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn one_group_is_a_map_with_fair_evictions(ops in ops()) {
        every_store::<1>(&ops);
    }

    #[test]
    fn two_groups_are_a_map_with_fair_evictions(ops in ops()) {
        every_store::<2>(&ops);
    }

    #[test]
    fn many_groups_are_a_map_but_for_reported_evictions(ops in ops()) {
        every_store::<11>(&ops);
    }
}

fn heap(entries: usize, ageing: Duration) -> Fdb<Vec<TagGroup>, Vec<SlotGroup>, Vec<Quota>, Vec<Quota>> {
    let groups = groups_for(entries);
    let quotas = vec![Quota::UNLIMITED; 8];
    let (tags, slots) = (vec![TagGroup::EMPTY; groups], vec![SlotGroup::EMPTY; groups]);
    Fdb::new(tags, slots, quotas.clone(), quotas, Seed::fixed(11), ageing).unwrap()
}

fn station(n: u64) -> MacAddr {
    MacAddr::from_u64(0x0200_0000_0000 | (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24))
}

const VNI: Vni = Vni::truncate(42);
const GUEST: Destination = DESTINATIONS[0];
const FLOODER: Destination = DESTINATIONS[1];

/// 500 guests that were just seen, in a table for 1000; then a flood of 100,000 addresses.
fn guests_left(limit: u32) -> (usize, u32) {
    let mut fdb = heap(1000, Duration::from_secs(300));
    let at = Instant::from_secs(5);
    fdb.set_limit(FLOODER, limit).unwrap();
    for n in 0..500 {
        fdb.learn(at, VNI, station(n), GUEST, EntryKind::Learned);
    }
    // Later, so that every guest is older than every address of the flood.
    let at = Instant::from_secs(15);
    let mut refused = 0;
    for n in 1000..101_000 {
        match fdb.learn(at, VNI, station(n), FLOODER, EntryKind::Learned) {
            Learned::New { .. } => {}
            Learned::QuotaHit => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(limit == u32::MAX || refused == 100_000 - limit);
    let left = (0..500).filter(|n| fdb.lookup(at, VNI, station(*n)) == Some(GUEST)).count();
    (left, fdb.learned_by(FLOODER))
}

#[test]
fn a_flood_within_its_limit_evicts_nobody() {
    assert_eq!(guests_left(500), (500, 500));
}

#[test]
fn a_flood_without_limit_soon_evicts_only_itself() {
    let (left, flood) = guests_left(u32::MAX);
    assert!(left > 450, "{left}");
    assert!(flood as usize + left <= groups_for(1000) * 15);
}

#[test]
fn an_entry_lives_its_ageing_time_and_256_ms_at_most_beyond() {
    for ageing in [1u64, 100, 128, 1000, 300_000] {
        for seen in [0u64, 1, 127, 128, 1_700_000_000_000, (1 << 39) - 1] {
            let mut fdb = heap(1, Duration::from_millis(ageing));
            let at = |ms| Instant::from_millis(seen + ms);
            fdb.learn(at(0), VNI, station(1), GUEST, EntryKind::Learned);
            assert_eq!(fdb.lookup(at(ageing), VNI, station(1)), Some(GUEST), "{ageing} {seen}");
            assert_eq!(fdb.lookup(at(ageing + 256), VNI, station(1)), None, "{ageing} {seen}");
            let mut swept = Vec::new();
            assert!(fdb.sweep(at(ageing), 15, |e| swept.push(e)) && swept.is_empty());
            assert!(fdb.sweep(at(ageing + 256), 15, |e| swept.push(e)));
            assert_eq!(swept[0].last_seen, Instant::from_millis(seen & !127));
        }
    }
}

#[test]
fn a_clock_that_steps_back_expires_nothing() {
    let mut fdb = heap(1, Duration::from_secs(300));
    let (at, before) = (Instant::from_secs(100_000), Instant::from_secs(1));
    fdb.learn(at, VNI, station(1), GUEST, EntryKind::Learned);
    assert_eq!(fdb.lookup(before, VNI, station(1)), Some(GUEST));
    assert!(fdb.sweep(before, 15, |e| panic!("{e:?}")));
    assert_eq!(fdb.probe(before, VNI, station(1), GUEST), Probe::Fresh);
    assert_eq!(
        fdb.entry(before, VNI, station(1)).unwrap().last_seen,
        Instant::from_millis(at.as_millis() & !127)
    );
}

#[test]
fn a_sweep_never_looks_at_more_than_its_budget_and_ends_a_pass_once() {
    let mut fdb = heap(14, AGEING);
    assert_eq!(fdb.capacity(), 14);
    let ends: Vec<bool> = (0..6).map(|_| fdb.sweep(Instant::ZERO, 6, |_| ())).collect();
    assert_eq!(ends, [false, false, true, false, false, true]);
    assert!(!fdb.sweep(Instant::ZERO, 0, |_| ()));
    assert!(fdb.sweep(Instant::ZERO, usize::MAX, |_| ()));
}
