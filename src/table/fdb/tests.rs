//! What has to be seen from inside: groups, overflow counts, who moves and who goes.

extern crate std;
use alloc::vec;
use alloc::vec::Vec;
use std::collections::{HashMap, HashSet};

use super::room::Home;
use super::*;
use crate::addr::{PortId, VtepId};
use crate::table::hash::Hash;

type Table = Fdb<Vec<TagGroup>, Vec<SlotGroup>, Vec<Quota>, Vec<Quota>>;

const VNI: Vni = Vni::truncate(0x12_3456);
const AGEING: Duration = Duration::from_secs(300);
/// Behind the last instant at which an entry seen at `at` may still be alive.
const fn after(at: Instant) -> Instant {
    Instant::from_millis(at.as_millis() + 300_257)
}

fn table(groups: usize) -> Table {
    let quotas = || vec![Quota::UNLIMITED; 64];
    let (tags, slots) = (vec![TagGroup::EMPTY; groups], vec![SlotGroup::EMPTY; groups]);
    Fdb::new(tags, slots, quotas(), quotas(), Seed::fixed(7), AGEING).unwrap()
}

fn port(n: u16) -> Destination {
    Destination::Port(PortId(n))
}

fn mac(n: u64) -> MacAddr {
    MacAddr::from_u64(0x0200_0000_0000 | n)
}

fn learn(t: &mut Table, at: u64, m: MacAddr, from: Destination) -> Learned {
    let learned = t.learn(Instant::from_millis(at), VNI, m, from, EntryKind::Learned);
    check(t);
    learned
}

fn home(t: &Table, m: MacAddr) -> Home {
    t.home(Key::new(VNI, m))
}

/// The first `n` addresses with these groups: what somebody who knows the seed could send.
fn meeting(t: &Table, primary: usize, secondary: usize, n: usize) -> Vec<MacAddr> {
    let meets = |m: &MacAddr| (home(t, *m).primary(), home(t, *m).secondary()) == (primary, secondary);
    (1..).map(mac).filter(meets).take(n).collect()
}

fn group_of(t: &Table, m: MacAddr) -> Option<usize> {
    t.locate(Key::new(VNI, m), home(t, m)).map(|(place, _)| place.group)
}

/// Every count and every place in the table is what its slots say.
fn check(t: &Table) {
    let mut overflow = vec![0u32; t.tags.len()];
    let mut held = HashMap::new();
    let mut keys = HashSet::new();
    for (group, (tags, slots)) in t.tags.iter().zip(&t.slots).enumerate() {
        let occupied: HashSet<_> = tags.occupied().collect();
        for slot in 0..WIDTH {
            let s = slots.get(slot).unwrap();
            assert_eq!(occupied.contains(&slot), !s.is_free());
            if s.is_free() {
                assert_eq!(*s, Slot::FREE);
                continue;
            }
            let home = t.home(s.key());
            assert!(tags.matching(home.tags()).any(|i| i == slot), "the tag of {s:?}");
            assert!(group == home.primary() || group == home.secondary(), "the group of {s:?}");
            if group != home.primary() {
                overflow[home.primary()] += 1;
            }
            assert_eq!(t.locate(s.key(), home), Some((Place { group, slot }, *s)));
            assert_eq!(s.is_away(), group != home.primary());
            assert!(keys.insert((s.key().low, s.key().high)), "twice: {s:?}");
            if s.kind() != EntryKind::Static {
                *held.entry(s.destination()).or_insert(0) += 1;
            }
        }
    }
    for (tags, expected) in t.tags.iter().zip(overflow) {
        assert_eq!(tags.overflow() as u32, expected);
    }
    for id in 0..64 {
        for d in [port(id), Destination::Vtep(VtepId(id))] {
            assert_eq!(t.learned_by(d), held.get(&d).copied().unwrap_or(0), "{d}");
        }
    }
    assert_eq!((t.len(), t.iter().count()), (keys.len(), keys.len()));
}

#[test]
fn homes_are_in_range_and_two_where_there_are_two() {
    for groups in [1, 2, 3, 7, 64, 1000, MAX_GROUPS] {
        let words = [0, 1, u64::MAX, u32::MAX as u64, !(u32::MAX as u64), 0x0123_4567_89ab_cdef];
        for place in words {
            let home = Home::new(Hash { tag: 0, place }, groups);
            assert!(home.primary() < groups && home.secondary() < groups);
            assert_eq!(home.primary() == home.secondary(), groups == 1, "{groups} {place:x}");
        }
    }
}

#[test]
fn groups_hold_what_they_are_planned_for() {
    for (entries, groups) in [(0, 1), (1, 1), (7, 1), (8, 2), (14, 2), (15, 5), (21, 7), (22, 8), (28, 9)] {
        assert_eq!(groups_for(entries), groups, "{entries}");
    }
    assert!(groups_for(usize::MAX) > usize::MAX / 4);
    for entries in [7, 14, 15, 100, 1000, 10_000] {
        let mut t = table(groups_for(entries));
        for n in 0..entries as u64 {
            let learned = t.learn(Instant::ZERO, VNI, mac(n), port(0), EntryKind::Learned);
            assert_eq!(learned, Learned::New { evicted: None }, "{n} of {entries}");
        }
        check(&t);
    }
}

#[test]
fn memory_of_the_wrong_shape_is_refused() {
    let new = |tags, slots| {
        let (tags, slots) = (vec![TagGroup::EMPTY; tags], vec![SlotGroup::EMPTY; slots]);
        Fdb::new(tags, slots, Vec::new(), Vec::new(), Seed::fixed(1), AGEING).err()
    };
    assert_eq!(new(0, 0), Some(CapacityError::Empty { table: "fdb" }));
    assert_eq!(new(2, 3), Some(CapacityError::Mismatch { table: "fdb", first: 2, second: 3 }));
    assert_eq!(new(1, 1), None);
}

#[test]
fn an_overflowed_entry_is_found_and_its_count_goes_with_it() {
    let mut t = table(8);
    let macs = meeting(&t, 2, 5, 2 * WIDTH);
    for (i, m) in macs.iter().enumerate() {
        assert_eq!(learn(&mut t, 0, *m, port(1)), Learned::New { evicted: None });
        assert_eq!(group_of(&t, *m), Some(if i < WIDTH { 2 } else { 5 }));
    }
    assert_eq!(t.tags[2].overflow() as usize, WIDTH);
    for m in &macs {
        assert_eq!(t.lookup(Instant::ZERO, VNI, *m), Some(port(1)));
    }
    for (left, m) in macs[WIDTH..].iter().enumerate() {
        assert!(t.remove(VNI, *m).is_some());
        check(&t);
        assert_eq!(t.tags[2].overflow() as usize, WIDTH - 1 - left);
    }
}

#[test]
fn a_refreshed_entry_returns_to_its_primary_group() {
    let mut t = table(8);
    let macs = meeting(&t, 2, 5, WIDTH + 2);
    for m in &macs {
        learn(&mut t, 0, *m, port(1));
    }
    assert_eq!((learn(&mut t, 0, macs[WIDTH + 1], port(1)), t.tags[2].overflow()), (Learned::Refreshed, 2));
    t.remove(VNI, macs[0]);
    assert_eq!((learn(&mut t, 0, macs[WIDTH + 1], port(1)), t.tags[2].overflow()), (Learned::Refreshed, 1));
    assert_eq!((group_of(&t, macs[WIDTH]), group_of(&t, macs[WIDTH + 1])), (Some(5), Some(2)));
}

#[test]
fn one_entry_moves_out_of_the_way_and_back() {
    let mut t = table(8);
    // Group 2 is full of entries, one of which could also live in group 6; group 5 is full too.
    let (macs, other) = (meeting(&t, 2, 5, 2 * WIDTH), meeting(&t, 2, 6, 1)[0]);
    learn(&mut t, 0, other, port(1));
    for m in &macs[..2 * WIDTH - 1] {
        assert_eq!(learn(&mut t, 0, *m, port(1)), Learned::New { evicted: None });
    }
    assert_eq!((group_of(&t, other), t.len()), (Some(2), 2 * WIDTH));
    assert_eq!(learn(&mut t, 0, macs[2 * WIDTH - 1], port(1)), Learned::New { evicted: None });
    assert_eq!((group_of(&t, other), group_of(&t, macs[2 * WIDTH - 1])), (Some(6), Some(2)));
    assert_eq!(t.tags[2].overflow() as usize, WIDTH + 1);
    // Group 6 fills up with its own; the one that came in goes home, where a place is free again.
    for m in meeting(&t, 6, 5, WIDTH - 1) {
        learn(&mut t, 0, m, port(1));
    }
    t.remove(VNI, macs[0]);
    let last = meeting(&t, 6, 5, WIDTH)[WIDTH - 1];
    assert_eq!(learn(&mut t, 0, last, port(1)), Learned::New { evicted: None });
    assert_eq!((group_of(&t, other), group_of(&t, last)), (Some(2), Some(6)));
    assert_eq!(t.tags[2].overflow() as usize, WIDTH);
}

/// Addresses that all meet in the same two groups cost the table nothing but themselves.
#[test]
fn addresses_that_meet_in_both_groups_evict_each_other_only() {
    let mut t = table(40);
    let bystanders: Vec<_> = (0..100).map(|n| mac(0xff_0000 + n)).collect();
    for m in &bystanders {
        t.learn(Instant::ZERO, VNI, *m, port(2), EntryKind::Learned);
    }
    let shared =
        |t: &Table, m| [home(t, m).primary(), home(t, m).secondary()].iter().any(|g| [3, 9].contains(g));
    let (attacked, elsewhere): (Vec<_>, Vec<_>) = bystanders.into_iter().partition(|m| shared(&t, *m));
    for m in meeting(&t, 3, 9, 200) {
        assert!(matches!(learn(&mut t, 1000, m, port(1)), Learned::New { .. }));
        assert_eq!(t.lookup(Instant::from_millis(1000), VNI, m), Some(port(1)));
    }
    for m in elsewhere {
        assert_eq!(t.lookup(Instant::ZERO, VNI, m), Some(port(2)));
    }
    // Even in the attacked groups the flooder stopped evicting others once most entries were its own.
    assert!(attacked.iter().filter(|m| t.lookup(Instant::ZERO, VNI, **m).is_some()).count() > 2);
}

#[test]
fn a_full_count_of_overflowed_entries_sends_no_more_away() {
    let mut t = table(80);
    let mut there = 0u32;
    let mut spilled = Vec::new();
    // Each secondary group takes what it can hold of group 0's entries; group 0 stays full.
    for m in (1..).map(mac).filter(|m| home(&t, *m).primary() == 0).take(2000).collect::<Vec<_>>() {
        match t.learn(Instant::ZERO, VNI, m, port(1), EntryKind::Learned) {
            Learned::New { evicted: None } => there += 1,
            Learned::New { evicted: Some(e) } => spilled.push(e.mac),
            other => panic!("{other:?}"),
        }
    }
    check(&t);
    assert_eq!((t.tags[0].overflow(), there), (u8::MAX, 7 + 255));
    assert_eq!((t.len(), spilled.len()), (262, 2000 - 262));
    let inside: Vec<_> = t.iter().map(|e| e.mac).collect();
    for m in inside {
        assert!(t.remove(VNI, m).is_some());
        check(&t);
    }
    assert_eq!(t.tags[0], TagGroup::EMPTY);
}

#[test]
fn room_is_made_in_the_order_that_the_layout_says() {
    let mut t = table(8);
    let (macs, other) = (meeting(&t, 2, 5, 2 * WIDTH + 3), meeting(&t, 2, 6, 1)[0]);
    let late = after(Instant::ZERO).as_millis();
    learn(&mut t, 0, macs[0], port(1)); // expired later, in the primary group
    learn(&mut t, late, other, port(1)); // could move away
    for m in &macs[1..WIDTH - 1] {
        learn(&mut t, late, *m, port(1));
    }
    learn(&mut t, 0, macs[WIDTH - 1], port(1)); // expired later, in the secondary group
    for m in &macs[WIDTH..2 * WIDTH - 1] {
        learn(&mut t, late, *m, port(1));
    }
    assert_eq!((t.len(), group_of(&t, macs[WIDTH - 1])), (2 * WIDTH, Some(5)));
    let taken = |l: Learned| match l {
        Learned::New { evicted } => evicted.map(|e| e.mac),
        other => panic!("{other:?}"),
    };
    assert_eq!(taken(learn(&mut t, late, macs[2 * WIDTH - 1], port(1))), Some(macs[0]));
    assert_eq!((taken(learn(&mut t, late, macs[2 * WIDTH], port(1))), group_of(&t, other)), (None, Some(6)));
    assert_eq!(taken(learn(&mut t, late, macs[2 * WIDTH + 1], port(1))), Some(macs[WIDTH - 1]));
    assert!(taken(learn(&mut t, late, macs[2 * WIDTH + 2], port(1))).is_some());
}

/// Fills a table of one group by (port, seconds) and learns one more from `from`: who goes?
fn evicted(entries: [(u16, u64); WIDTH], from: u16) -> Option<(u16, u64)> {
    let mut t = table(1);
    for (n, (p, seen)) in entries.into_iter().enumerate() {
        learn(&mut t, seen * 1024, mac(n as u64 + 1), port(p));
    }
    match learn(&mut t, 20 * 1024, mac(99), port(from)) {
        Learned::New { evicted: Some(e) } => {
            let n = e.mac.to_u64() as u8 as usize - 1;
            assert_eq!(
                (e.destination, e.last_seen),
                (port(entries[n].0), Instant::from_millis(entries[n].1 * 1024))
            );
            Some(entries[n])
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_victim_is_the_longest_unseen_or_one_of_the_newcomers_own() {
    let mixed = [1, 1, 1, 2, 2, 3, 3];
    let entries = core::array::from_fn(|i| (mixed[i], 7 - i as u64));
    assert_eq!(evicted(entries, 9), Some((3, 1)), "a newcomer with nothing here: the oldest of all");
    assert_eq!(evicted(entries, 3), Some((3, 1)));
    assert_eq!(evicted(entries, 2), Some((3, 1)), "one with less than another: the oldest of all");
    assert_eq!(evicted(entries, 1), Some((1, 5)), "one with the most: its own oldest");
    let even = core::array::from_fn(|i| ([1, 2, 3, 4][i / 2], 7 - i as u64));
    assert_eq!(evicted(even, 1), Some((1, 6)), "one with as many as any: its own oldest");
}

#[test]
fn ties_prefer_no_slot() {
    let mut t = table(1);
    let mut gone = HashMap::new();
    for n in 0..WIDTH as u64 {
        learn(&mut t, 0, mac(n + 1), port(n as u16));
    }
    for n in 0..3000u64 {
        // From a port with nothing here, of one tick with all others: a tie of seven.
        let Learned::New { evicted: Some(e) } =
            t.learn(Instant::ZERO, VNI, mac(1000 + n), port(20), EntryKind::Learned)
        else {
            panic!()
        };
        *gone.entry(e.destination).or_insert(0) += 1;
        t.remove(VNI, mac(1000 + n));
        t.insert(Instant::ZERO, VNI, e.mac, e.destination, e.kind).unwrap();
    }
    assert_eq!(gone.len(), WIDTH);
    assert!(gone.values().all(|n| (300..560).contains(n)), "{gone:?}");
}

#[test]
fn static_and_living_sticky_entries_keep_their_places() {
    let mut t = table(1);
    let at = Instant::ZERO;
    for n in 0..4 {
        assert_eq!(t.insert(at, VNI, mac(n), port(1), EntryKind::Static), Ok(None));
    }
    for n in 4..7 {
        assert_eq!(t.learn(at, VNI, mac(n), port(1), EntryKind::Sticky), Learned::New { evicted: None });
    }
    assert_eq!(learn(&mut t, 0, mac(99), port(2)), Learned::Full);
    assert_eq!(
        t.insert(at, VNI, mac(99), port(2), EntryKind::Static),
        Err(FdbError::Full { vni: VNI, mac: mac(99) })
    );
    assert_eq!((t.len(), t.learned_by(port(1)), t.learned_by(port(2))), (7, 3, 0));
    // The sticky ones expire, the static ones do not.
    for n in 0..3 {
        assert!(matches!(
            t.learn(after(at), VNI, mac(100 + n), port(2), EntryKind::Sticky),
            Learned::New { evicted: Some(FdbEntry { kind: EntryKind::Sticky, .. }) }
        ));
    }
    assert_eq!(t.learn(after(at), VNI, mac(99), port(2), EntryKind::Learned), Learned::Full);
    let mut swept = 0;
    assert!(t.sweep(after(after(at)), 7, |_| swept += 1));
    assert_eq!((swept, t.len()), (3, 4));
    check(&t);
}

/// The first slot's tag and the groups do not tell these apart; the slot does.
#[test]
fn vnis_that_share_a_tag_are_two() {
    let mut t = table(1);
    let first = Vni::truncate(0x00_1234);
    let twin = |m: MacAddr| {
        let tag = |t: &Table, vni| t.home(Key::new(vni, m)).tags().first();
        let t = table(1);
        (1..=0xff).map(|high| Vni::truncate(high << 16 | 0x1234)).find(|v| tag(&t, *v) == tag(&t, first))
    };
    let twins: Vec<_> = (1..).map(mac).filter_map(|m| Some((twin(m)?, m))).take(20).collect();
    for (vni, m) in twins {
        t.learn(Instant::ZERO, vni, m, port(1), EntryKind::Learned);
        assert_eq!(t.lookup(Instant::ZERO, first, m), None);
        t.learn(Instant::ZERO, first, m, port(2), EntryKind::Learned);
        assert_eq!(t.lookup(Instant::ZERO, vni, m), Some(port(1)));
        assert_eq!(t.len(), 2);
        t.clear();
    }
}

#[test]
fn a_walk_in_steps_meets_every_entry_once() {
    let mut t = table(groups_for(100));
    for n in 1..=100 {
        learn(&mut t, 0, mac(n), port(1));
    }
    let mut whole: Vec<_> = t.iter().map(|e| e.mac).collect();
    for step in [1, 7, 1000] {
        let (mut met, mut from) = (Vec::new(), 0);
        while let Some((behind, _)) = t.iter_from(from).take(step).inspect(|(_, e)| met.push(e.mac)).last() {
            assert!(behind > from);
            from = behind;
        }
        met.sort();
        whole.sort();
        assert_eq!(met, whole, "{step}");
    }
    assert_eq!(t.iter_from(usize::MAX).count(), 0);
}

/// What 4096 keys cost in a table planned for them, by one seed: how many are beyond their groups, and
/// of all tags that were compared the share that is equal by chance.
fn crowd(seed: Seed, keys: impl Iterator<Item = Key>) -> (usize, f64) {
    let groups = groups_for(4096);
    let mut members = vec![Vec::new(); groups];
    for key in keys.take(4096) {
        let home = Home::new(seed.hash(key.low, key.high), groups);
        members[home.primary()].push(home.tags());
    }
    let excess: usize = members.iter().map(|m| m.len().saturating_sub(WIDTH)).sum();
    let (mut pairs, mut equal) = (0, 0);
    for m in &members {
        for (i, a) in m.iter().enumerate() {
            pairs += WIDTH * i;
            equal += m[..i].iter().map(|b| a.in_common(*b)).sum::<usize>();
        }
    }
    (excess, equal as f64 / pairs as f64)
}

/// Addresses as they are assigned, and those that somebody without the seed would choose to meet in one
/// place, fill the groups as random ones do, under every seed: no more of them find their group
/// full, and tags tell them apart as well.
#[test]
fn chosen_addresses_spread_like_random_ones() {
    type Pattern = (&'static str, fn(u64) -> (u64, u64));
    let patterns: [Pattern; 14] = [
        ("in order", |n| (0x5254_00a3_b1c7 + n, 42)),
        ("by 2", |n| (0x0200_0000_0000 + n * 2, 42)),
        ("by 256", |n| (0x5254_0000_0001 + n * 256, 42)),
        ("by 65536", |n| (0x0200_0000_0001 + n * 65536, 42)),
        ("by 2^24", |n| (0x0200_0000_0001 + (n << 24), 42)),
        ("of IPv4 addresses", |n| (0x0242_0a00_0000 + n / 254 * 256 + n % 254 + 1, 42)),
        ("one in many VNIs", |n| (0x5254_00a3_b1c7, n)),
        ("one in VNIs by 4096", |n| (0x5254_00a3_b1c7, n << 12)),
        ("64 in 64 VNIs", |n| (0x5254_0000_0000 + n % 64, (n / 64) << 16 | 7)),
        ("address and VNI in step", |n| (0x0200_0000_0000 + n, n)),
        ("every third bit", |n| {
            (0x0200_0000_0000 | (0..12).map(|i| (n >> i & 1) << (3 * i)).sum::<u64>(), 5)
        }),
        ("one or two bits set", |n| {
            (0x0200_0000_0000 ^ 1 << (n % 41) ^ 1 << ((n + 1 + n / 41 % 20) % 41), n / 820)
        }),
        ("high octets only", |n| ((n % 64) << 42 | (n / 64) << 32, 42)),
        ("the same low 32 bits", |n| ((n % 128) << 41 | 0x1234_5678, n / 128)),
    ];
    let mut random = 1u64;
    let mut next = || {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (random ^ random >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    };
    for n in 0..12 {
        let seed = Seed::fixed(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(n));
        let key = |(mac, vni)| Key::new(Vni::truncate(vni as u32), MacAddr::from_u64(mac));
        // All patterns are held against the mean of ten crowds of random keys.
        let chance: usize = (0..10).map(|_| crowd(seed, (0..).map(|_| key((next(), next())))).0).sum();
        for (name, pattern) in patterns {
            let (excess, equal) = crowd(seed, (0..).map(pattern).map(key));
            assert!(
                excess * 10 <= chance * 2,
                "{name} {n}: {excess} beyond their groups, of random ones {chance} / 10"
            );
            assert!(equal * 128.0 < 2.0, "{name} {n}: one in {} tags is equal", 1.0 / equal);
        }
    }
}

/// In tables that are far: entries at home and away, expired and static, and addresses that they have not.
#[test]
fn batches_of_any_length_answer_as_single_calls_do() {
    compare_batches(batch::FAR);
    compare_batches(batch::FARTHER);
}

fn compare_batches(groups: usize) {
    let mut t = table(groups);
    let late = after(Instant::ZERO);
    for n in 1..150_000 {
        let m = mac(n);
        let (at, to) = (if n % 3 == 0 { Instant::ZERO } else { late }, port(n as u16 % 60));
        match n % 50 {
            0 => drop(t.insert(at, VNI, m, to, EntryKind::Static).unwrap()),
            _ => drop(t.learn(at, VNI, m, to, EntryKind::Learned)),
        }
    }
    assert!(groups > batch::FAR || t.tags.iter().any(|tags| tags.overflow() > 0));
    let frames: Vec<_> = (1..1000u64)
        .map(|n| Crossing { vni: VNI, source: mac(n * 151), destination: mac(n * 173) })
        .collect();
    let places: Vec<_> = (1..1000u64).map(|n| port((n * 151) as u16 % 61)).collect();
    let keys: Vec<_> = frames.iter().map(|f| (VNI, f.destination)).collect();
    let single = |(f, from): (&Crossing, &Destination)| {
        (t.probe(late, VNI, f.source, *from), t.lookup(late, VNI, f.destination))
    };
    let expected: Vec<_> = frames.iter().zip(&places).map(single).collect();
    for probe in [Probe::Fresh, Probe::Moved, Probe::Missing, Probe::Pinned] {
        assert!(expected.iter().any(|(p, _)| *p == probe), "{probe:?} is among them");
    }
    for count in [0, 1, 31, 32, 33, 999] {
        let elsewhere = Destination::Vtep(VtepId(9));
        let nothing = (None, Some(elsewhere));
        let mut out = vec![nothing; 999];
        t.cross_batch(late, &frames[..count], &mut out);
        let seen = out
            .iter()
            .zip(&places)
            .map(|((known, to), from)| (known.map_or(Probe::Missing, |k| k.probe(*from)), *to));
        assert!(seen.take(count).eq(expected[..count].iter().copied()));
        assert!(out[count..].iter().all(|o| *o == nothing));
        let mut out = vec![nothing.1; 999];
        t.lookup_batch(late, &keys, &mut out[..count]);
        assert!(out[..count].iter().eq(expected[..count].iter().map(|(_, to)| to)));
        assert!(out[count..].iter().all(|o| *o == nothing.1));
    }
}

/// In a table that is far, and one that is near: addresses that come twice in a batch, from two places, too many
/// for their groups, beyond their limits, known as static ones, and no station's. Slot for slot the same.
#[test]
fn a_batch_teaches_what_single_calls_teach() {
    for groups in [9, batch::FAR_TO_LEARN] {
        let mut single = table(groups);
        // Few groups are used, so that these fill.
        let met: Vec<_> = (1..).map(mac).filter(|m| home(&single, *m).primary() < 9).take(150).collect();
        single.set_limit(port(3), 4).unwrap();
        for m in met.iter().step_by(17) {
            single.insert(Instant::ZERO, VNI, *m, port(1), EntryKind::Static).unwrap();
        }
        let mut batched = single.clone();
        let mut state = 1u32;
        let mut next = |range: usize| {
            state = state.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
            (state >> 16) as usize % range
        };
        let (mut outcomes, mut told) = (Vec::new(), Vec::new());
        for round in 0..400u64 {
            let now = Instant::from_secs(round * 7);
            let count = [1, 5, 31, 32, 33, 70][next(6)];
            let any = |_| {
                let m = if next(40) == 0 { MacAddr([1; 6]) } else { met[next(met.len())] };
                Sighting { vni: VNI, mac: m, from: port(if next(9) == 0 { 99 } else { next(4) as u16 }) }
            };
            let seen: Vec<_> = (0..count).map(any).collect();
            for s in &seen {
                outcomes.push((*s, single.learn(now, s.vni, s.mac, s.from, EntryKind::Learned)));
            }
            batched.learn_batch(now, &seen, |s, learned| told.push((*s, learned)));
            assert_eq!((&single.tags, &single.slots), (&batched.tags, &batched.slots));
        }
        check(&batched);
        assert_eq!(outcomes, told);
        type Case = fn(&Learned) -> bool;
        let cases: [Case; 8] = [
            |l| matches!(l, Learned::New { evicted: None }),
            |l| matches!(l, Learned::New { evicted: Some(_) }),
            |l| matches!(l, Learned::Refreshed),
            |l| matches!(l, Learned::Moved { .. }),
            |l| matches!(l, Learned::Pinned),
            |l| matches!(l, Learned::QuotaHit),
            |l| matches!(l, Learned::NotUnicast),
            |l| !matches!(l, Learned::Full),
        ];
        for (i, case) in cases.iter().enumerate() {
            assert!(told.iter().any(|(_, learned)| case(learned)), "case {i} is among them");
        }
    }
}

/// Whoever meets an equal tag takes the slot below it that is kept for that, so nearly every search of
/// an entry finds it at once.
#[test]
fn the_first_equal_tag_is_nearly_always_that_of_the_entry() {
    let mut t = table(groups_for(20_000));
    for n in 0..20_000 {
        t.learn(Instant::ZERO, VNI, mac(n + 1), port(0), EntryKind::Learned);
    }
    let at_home = (0..20_000).filter(|n| group_of(&t, mac(n + 1)) == Some(home(&t, mac(n + 1)).primary()));
    let second = at_home.filter(|n| {
        let home = home(&t, mac(n + 1));
        let (place, _) = t.locate(Key::new(VNI, mac(n + 1)), home).unwrap();
        t.tags[home.primary()].matching(home.tags()).first() != Some(place.slot)
    });
    // In the lowest free slot each, it would be one in 80.
    let second = second.count();
    assert!(second < 20_000 / 500, "{second}");
}

/// When entries were seen is told by a clock that whatever made, moved or swept entries has set.
#[test]
fn sightings_years_apart_are_told_as_they_were() {
    const YEAR: u64 = 365 * 86_400;
    let years = |n: u64| Instant::from_secs(n * YEAR);
    let seen = |t: &Table| t.iter().map(|e| e.last_seen).max();
    let near = |t: &Table, at: Instant| {
        let seen = seen(t).unwrap();
        assert!(seen <= at && at.saturating_since(seen) < Duration::from_millis(128), "{seen} at {at}");
    };
    for kind in [EntryKind::Learned, EntryKind::Sticky] {
        let mut t = table(4);
        // New, expired and known again, known elsewhere.
        for (at, from) in [(10, port(1)), (20, port(1)), (30, port(2))] {
            t.learn(years(at), VNI, mac(1), from, kind);
            near(&t, years(at));
        }
    }
    let mut t = table(4);
    for at in [10, 20] {
        t.insert(years(at), VNI, mac(1), port(1), EntryKind::Static).unwrap();
        near(&t, years(at));
    }
    // Refreshed for longer than the stamps can tell, and swept.
    let quotas = || vec![Quota::UNLIMITED; 4];
    let memory = (vec![TagGroup::EMPTY; 4], vec![SlotGroup::EMPTY; 4]);
    let ageing = Duration::from_secs(4 * YEAR);
    let mut t = Fdb::new(memory.0, memory.1, quotas(), quotas(), Seed::fixed(7), ageing).unwrap();
    for at in [10, 13, 16] {
        t.learn(years(at), VNI, mac(1), port(1), EntryKind::Learned);
        assert!(t.sweep(years(at), 1_000, |_| {}));
        near(&t, years(at));
    }
}
