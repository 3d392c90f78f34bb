//! Sequences of operations on an FDB.

use std::collections::HashMap;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use overlane::addr::{Destination, MacAddr, PortId, Vni, VtepId};
use overlane::error::FdbError;
use overlane::table::fdb::{
    Crossing, EntryKind, Fdb, FdbEntry, Learned, Probe, Quota, Sighting, SlotGroup, TagGroup,
};
use overlane::table::{Seed, Store};
use overlane::time::Instant;

use crate::Operations;

type Key = (Vni, MacAddr);

const PORTS: usize = 3;
const VTEPS: usize = 2;
/// The last has no account.
const DESTINATIONS: [Destination; 6] = [
    Destination::Port(PortId(0)),
    Destination::Port(PortId(1)),
    Destination::Port(PortId(2)),
    Destination::Vtep(VtepId(0)),
    Destination::Vtep(VtepId(1)),
    Destination::Vtep(VtepId(2)),
];

/// Carries out the same operations on an FDB over each kind of memory and on a map.
///
/// After each, the table holds what the map holds: what went besides was told as evicted, and the
/// rules let it go. All kinds of memory answer the same.
pub fn fdb_ops(data: &[u8]) {
    let Ok(input) = Unstructured::new(data).arbitrary::<Input>() else { return };
    match input.groups % 3 {
        0 => every_store::<1>(&input),
        1 => every_store::<2>(&input),
        _ => every_store::<11>(&input),
    }
}

#[derive(Debug, Arbitrary)]
struct Input {
    groups: u8,
    seed: u8,
    ageing_ms: u16,
    /// Whether stamps wrap on the way.
    late: bool,
    operations: Operations<Operation>,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Operation {
    Learn {
        key: u8,
        from: u8,
        kind: u8,
    },
    /// Addresses from here on, from one destination.
    Burst {
        key: u8,
        count: u8,
        from: u8,
    },
    Insert {
        key: u8,
        to: u8,
        kind: u8,
    },
    Remove {
        key: u8,
    },
    Sweep {
        budget: u8,
    },
    Flush {
        to: u8,
    },
    Limit {
        to: u8,
        limit: Option<u8>,
    },
    Forward {
        ms: u16,
    },
    Back {
        ms: u16,
    },
    Clear,
}

fn every_store<const G: usize>(input: &Input) {
    let seed = Seed::fixed(input.seed.into());
    let ageing = Duration::from_millis(input.ageing_ms.into());
    let (mut tags, mut slots) = ([TagGroup::EMPTY; G], [SlotGroup::EMPTY; G]);
    let (mut ports, mut vteps) = ([Quota::UNLIMITED; PORTS], [Quota::UNLIMITED; VTEPS]);
    let inline = Fdb::new(tags, slots, ports, vteps, seed, ageing).map(|f| Model::new(f, G, input).run());
    let heap = Fdb::new(tags.to_vec(), slots.to_vec(), ports.to_vec(), vteps.to_vec(), seed, ageing);
    let heap = heap.map(|f| Model::new(f, G, input).run());
    // Lent twice: what is in the memory does not matter.
    for _ in 0..2 {
        let lent = Fdb::new(&mut tags[..], &mut slots[..], &mut ports[..], &mut vteps[..], seed, ageing);
        assert_eq!(inline, lent.map(|f| Model::new(f, G, input).run()));
    }
    assert_eq!(inline, heap);
}

fn key(n: u8) -> Key {
    // VNIs that differ only in their high or low bits; the first addresses are no station's.
    let vni = [0, 1, 0x01_0000, 0xff_ffff][usize::from(n % 4)];
    let mac = if n < 4 { 0x0100_5e00_0001 * u64::from(n % 2) } else { 0x0200_0000_0000 | u64::from(n / 4) };
    (Vni::truncate(vni), MacAddr::from_u64(mac))
}

fn kind(n: u8) -> EntryKind {
    match n % 8 {
        0..6 => EntryKind::Learned,
        6 => EntryKind::Sticky,
        _ => EntryKind::Static,
    }
}

fn destination(n: u8) -> Destination {
    DESTINATIONS[usize::from(n) % DESTINATIONS.len()]
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Entry {
    to: Destination,
    kind: EntryKind,
    seen: u64,
}

/// What an operation answered.
#[derive(Debug, PartialEq)]
enum Answer {
    Learned(Learned),
    Inserted(Result<Option<FdbEntry>, FdbError>),
    Removed(Option<FdbEntry>),
    Gone(Vec<FdbEntry>),
}

struct Model<'a, T, S, P, V> {
    fdb: Fdb<T, S, P, V>,
    groups: usize,
    input: &'a Input,
    entries: HashMap<Key, Entry>,
    limits: HashMap<Destination, u32>,
    now: u64,
    answers: Vec<Answer>,
}

impl<'a, T: Store<TagGroup>, S: Store<SlotGroup>, P: Store<Quota>, V: Store<Quota>> Model<'a, T, S, P, V> {
    fn new(fdb: Fdb<T, S, P, V>, groups: usize, input: &'a Input) -> Self {
        let limits = DESTINATIONS[..PORTS + VTEPS].iter().map(|d| (*d, u32::MAX)).collect();
        let now = if input.late { (1 << 39) - 2_000 } else { 1_000_000 };
        Model { fdb, groups, input, entries: HashMap::new(), limits, now, answers: Vec::new() }
    }

    fn now(&self) -> Instant {
        Instant::from_millis(self.now)
    }

    fn is_alive(&self, e: &Entry) -> bool {
        // In ticks: rounded up, and one more as the stamp is rounded down.
        let ageing = u64::from(self.input.ageing_ms).div_ceil(128) + 1;
        e.kind == EntryKind::Static || (self.now / 128).saturating_sub(e.seen / 128) < ageing
    }

    fn held(&self, to: Destination) -> u32 {
        self.entries.values().filter(|e| e.kind != EntryKind::Static && e.to == to).count() as u32
    }

    fn has_room(&self, to: Destination) -> bool {
        self.limits.get(&to).is_some_and(|limit| self.held(to) < *limit)
    }

    /// The table says that this entry is gone: it was there, just so.
    fn gone(&mut self, e: &FdbEntry) -> Entry {
        let was = self.entries.remove(&(e.vni, e.mac)).expect("it was there");
        let last_seen = Instant::from_millis(was.seen & !127);
        assert_eq!((e.destination, e.kind, e.last_seen), (was.to, was.kind, last_seen));
        was
    }

    /// Somebody, or nobody, went for a newcomer to `to`.
    fn made_room(&mut self, evicted: Option<&FdbEntry>, to: Destination, within_limit: bool) {
        let full = self.entries.len() == self.fdb.capacity();
        let Some(e) = evicted else { return assert!(within_limit && !full) };
        let gone = self.gone(e);
        let expired = !self.is_alive(&gone);
        assert!(expired || gone.kind == EntryKind::Learned, "{gone:?} may not be evicted");
        assert!(within_limit || (expired && gone.to == to), "evicted for one at its limit");
        // Up to two groups, every place is open to every entry.
        let small = self.groups <= 2;
        assert!(!within_limit || full || !small, "evicted although there was room");
    }

    /// Nobody could go: a group is full of entries that stay.
    fn no_room(&self) {
        let fixed =
            self.entries.values().filter(|e| self.is_alive(e) && e.kind != EntryKind::Learned).count();
        assert!(fixed >= self.fdb.capacity() / self.groups);
    }

    fn learn(&mut self, key: Key, from: Destination, kind: EntryKind) {
        let (now, (vni, mac)) = (self.now(), key);
        let probe = self.fdb.probe(now, vni, mac, from);
        let learned = if kind == EntryKind::Learned && self.now.is_multiple_of(2) {
            let mut told = None;
            self.fdb.learn_batch(now, &[Sighting { vni, mac, from }], |_, learned| told = Some(learned));
            told.expect("an answer to each")
        } else {
            self.fdb.learn(now, vni, mac, from, kind)
        };
        let kind = if kind == EntryKind::Static { EntryKind::Sticky } else { kind };
        let has_room = self.has_room(from);
        let old = self.entries.get(&key).copied();
        let alive = old.filter(|e| self.is_alive(e));
        let mut new = Entry { to: from, kind, seen: self.now };
        match (&learned, alive) {
            (Learned::NotUnicast, _) => assert!(!mac.is_unicast() && probe == Probe::Missing),
            (Learned::Refreshed, Some(e)) => {
                assert!(e.to == from && matches!(probe, Probe::Fresh | Probe::Stale));
                if e.kind == EntryKind::Sticky {
                    new.kind = e.kind;
                }
                if e.kind != EntryKind::Static {
                    self.entries.insert(key, new);
                }
            }
            (Learned::Pinned, Some(e)) => {
                assert!(e.to != from && e.kind != EntryKind::Learned && probe == Probe::Pinned);
            }
            (Learned::Moved { from: was }, Some(e)) => {
                assert!(e.to == *was && *was != from && e.kind == EntryKind::Learned && has_room);
                assert_eq!(probe, Probe::Moved);
                self.entries.insert(key, new);
            }
            (Learned::QuotaHit, Some(e)) => {
                assert!(e.to != from && e.kind == EntryKind::Learned && !has_room && probe == Probe::Moved);
            }
            (Learned::QuotaHit, None) => assert!(!has_room && probe == Probe::Missing),
            (Learned::Full, None) => {
                assert!(has_room && old.is_none() && probe == Probe::Missing);
                self.no_room();
            }
            (Learned::New { evicted }, None) => {
                assert!(mac.is_unicast() && probe == Probe::Missing);
                match evicted {
                    Some(e) if (e.vni, e.mac) == key => {
                        let gone = self.gone(e);
                        assert!(has_room || gone.to == from);
                    }
                    evicted => {
                        assert!(old.is_none());
                        self.made_room(evicted.as_ref(), from, has_room);
                    }
                }
                self.entries.insert(key, new);
            }
            (other, was) => panic!("{other:?} of {was:?}"),
        }
        self.answers.push(Answer::Learned(learned));
    }

    fn insert(&mut self, key: Key, to: Destination, kind: EntryKind) {
        let (vni, mac) = key;
        let inserted = self.fdb.insert(self.now(), vni, mac, to, kind);
        match &inserted {
            Err(FdbError::NotUnicast(m)) => assert!(*m == mac && !mac.is_unicast()),
            Err(FdbError::NoDestination(d)) => assert!(*d == to && !self.limits.contains_key(d)),
            Err(FdbError::Full { .. }) => {
                assert!(!self.entries.contains_key(&key));
                self.no_room();
            }
            Err(other) => panic!("{other}"),
            Ok(replaced) => {
                assert!(mac.is_unicast() && self.limits.contains_key(&to));
                if self.entries.contains_key(&key) {
                    let e = replaced.expect("the former entry");
                    assert_eq!((e.vni, e.mac), key);
                    self.gone(&e);
                } else {
                    self.made_room(replaced.as_ref(), to, true);
                }
                self.entries.insert(key, Entry { to, kind, seen: self.now });
            }
        }
        self.answers.push(Answer::Inserted(inserted));
    }

    fn step(&mut self, operation: Operation) {
        match operation {
            Operation::Learn { key: k, from, kind: n } => self.learn(key(k), destination(from), kind(n)),
            Operation::Burst { key: k, count, from } => {
                for n in 0..count % 64 {
                    self.learn(key(k.wrapping_add(n)), destination(from), EntryKind::Learned);
                }
            }
            Operation::Insert { key: k, to, kind: n } => self.insert(key(k), destination(to), kind(n)),
            Operation::Remove { key: k } => {
                let removed = self.fdb.remove(key(k).0, key(k).1);
                assert_eq!(removed.is_some(), self.entries.contains_key(&key(k)));
                if let Some(e) = &removed {
                    assert_eq!((e.vni, e.mac), key(k));
                    self.gone(e);
                }
                self.answers.push(Answer::Removed(removed));
            }
            Operation::Sweep { budget } => {
                let mut removed = Vec::new();
                self.fdb.sweep(self.now(), budget.into(), |e| removed.push(e));
                assert!(removed.len() <= budget.into());
                for e in &removed {
                    let gone = self.gone(e);
                    assert!(!self.is_alive(&gone), "swept while alive");
                }
                self.answers.push(Answer::Gone(removed));
            }
            Operation::Flush { to } => {
                let mut removed = Vec::new();
                let n = self.fdb.flush(|e| e.destination != destination(to), |e| removed.push(e));
                assert_eq!(n, removed.len());
                for e in &removed {
                    assert_eq!(self.gone(e).to, destination(to));
                }
                assert!(self.entries.values().all(|e| e.to != destination(to)));
                self.answers.push(Answer::Gone(removed));
            }
            Operation::Limit { to, limit } => {
                let (to, limit) = (destination(to), limit.map_or(u32::MAX, |n| u32::from(n % 32)));
                let known = self.limits.get_mut(&to).map(|l| *l = limit).is_some();
                assert_eq!(self.fdb.set_limit(to, limit).is_ok(), known);
            }
            Operation::Forward { ms } => self.now += u64::from(ms),
            Operation::Back { ms } => self.now = self.now.saturating_sub(ms.into()),
            Operation::Clear => {
                self.fdb.clear();
                self.entries.clear();
            }
        }
        assert_eq!((self.fdb.len(), self.fdb.is_empty()), (self.entries.len(), self.entries.is_empty()));
        for d in &DESTINATIONS[..PORTS + VTEPS] {
            assert_eq!(self.fdb.learned_by(*d), self.held(*d), "{d} after {operation:?}");
        }
    }

    /// Everything that can be asked of the table.
    fn compare(&self) {
        for n in 0..=255 {
            let (vni, mac) = key(n);
            let expected = self.entries.get(&key(n)).filter(|e| self.is_alive(e)).map(|e| FdbEntry {
                vni,
                mac,
                destination: e.to,
                kind: e.kind,
                last_seen: Instant::from_millis(e.seen & !127),
            });
            assert_eq!(self.fdb.entry(self.now(), vni, mac), expected);
            assert_eq!(self.fdb.lookup(self.now(), vni, mac), expected.map(|e| e.destination));
        }
        let keys: Vec<Key> = (0..=255).map(key).collect();
        let mut found = vec![None; keys.len()];
        self.fdb.lookup_batch(self.now(), &keys, &mut found);
        let places = DESTINATIONS.iter().cycle();
        let (frames, senders): (Vec<_>, Vec<_>) = (keys.iter().zip(keys.iter().rev()).zip(places))
            .map(|((k, to), from)| (Crossing { vni: k.0, source: k.1, destination: to.1 }, *from))
            .unzip();
        let mut crossed = vec![(None, None); frames.len()];
        self.fdb.cross_batch(self.now(), &frames, &mut crossed);
        let asked = frames.iter().zip(senders).zip(crossed);
        for (((f, from), (known, to)), (k, found)) in asked.zip(keys.iter().zip(found)) {
            assert_eq!(found, self.fdb.lookup(self.now(), k.0, k.1));
            let source = self.fdb.probe(self.now(), f.vni, f.source, from);
            assert_eq!(
                (known.map_or(Probe::Missing, |k| k.probe(from)), to),
                (source, self.fdb.lookup(self.now(), f.vni, f.destination))
            );
        }
        let listed: HashMap<_, _> =
            self.fdb.iter().map(|e| ((e.vni, e.mac), (e.destination, e.kind))).collect();
        assert_eq!(listed.len(), self.entries.len());
        assert!(self.entries.iter().all(|(k, e)| listed.get(k) == Some(&(e.to, e.kind))));
    }

    fn run(mut self) -> Vec<Answer> {
        for (n, operation) in self.input.operations.0.iter().enumerate() {
            self.step(*operation);
            if n % 32 == 31 {
                self.compare();
            }
        }
        self.compare();
        // All that ages goes in two passes.
        let last = self.entries.values().map(|e| e.seen).max().unwrap_or(0);
        self.now = self.now.max(last) + u64::from(self.input.ageing_ms) + 256;
        for _ in 0..2 * self.fdb.capacity().div_ceil(64) {
            self.step(Operation::Sweep { budget: 64 });
        }
        assert!(self.entries.values().all(|e| e.kind == EntryKind::Static));
        self.answers
    }
}
