//! The route tables against a naive one: sequences of operations, both families, every store.
#![allow(clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

use std::fmt::Debug;
use std::net::{Ipv4Addr, Ipv6Addr};

use overlane::addr::{NextHop, PortId, VtepId};
use overlane::table::Store;
use overlane::table::lpm::{
    DIRECT_CELLS, Lpm, LpmError, LpmKey, LpmNode, LpmRoot, cells_for, cells_for_index,
};
use proptest::prelude::*;

const TABLES: u32 = 3;

/// An address as a left-aligned 128-bit string.
trait Addr: LpmKey + Debug {
    fn of(bits: u128) -> Self;
    fn bits(self) -> u128;
}

impl Addr for Ipv4Addr {
    fn of(bits: u128) -> Self {
        Ipv4Addr::from_bits((bits >> 96) as u32)
    }

    fn bits(self) -> u128 {
        (self.to_bits() as u128) << 96
    }
}

impl Addr for Ipv6Addr {
    fn of(bits: u128) -> Self {
        Ipv6Addr::from_bits(bits)
    }

    fn bits(self) -> u128 {
        self.to_bits()
    }
}

fn truncate(bits: u128, len: u8) -> u128 {
    bits & !u128::MAX.checked_shr(len as u32).unwrap_or(0)
}

/// The obvious table: a list.
#[derive(Default, Clone)]
struct Naive {
    routes: Vec<(u32, u128, u8, NextHop)>,
}

impl Naive {
    fn find(&self, table: u32, bits: u128, len: u8) -> Option<usize> {
        let bits = truncate(bits, len);
        self.routes.iter().position(|r| (r.0, r.1, r.2) == (table, bits, len))
    }

    fn insert(&mut self, table: u32, bits: u128, len: u8, hop: NextHop) -> Option<NextHop> {
        match self.find(table, bits, len) {
            Some(i) => Some(std::mem::replace(&mut self.routes[i].3, hop)),
            None => {
                self.routes.push((table, truncate(bits, len), len, hop));
                None
            }
        }
    }

    fn remove(&mut self, table: u32, bits: u128, len: u8) -> Option<NextHop> {
        self.find(table, bits, len).map(|i| self.routes.swap_remove(i).3)
    }

    fn longest(&self, table: u32, bits: u128) -> Option<(u128, u8, NextHop)> {
        let holds = self.routes.iter().filter(|r| r.0 == table && truncate(bits, r.2) == r.1);
        holds.max_by_key(|r| r.2).map(|r| (r.1, r.2, r.3))
    }

    fn sorted(&self, table: u32) -> Vec<(u128, u8, NextHop)> {
        let mut all: Vec<_> = self.routes.iter().filter(|r| r.0 == table).map(|r| (r.1, r.2, r.3)).collect();
        all.sort_by_key(|r| (r.0, r.1));
        all
    }
}

/// Everything that can be read agrees with the naive table.
fn agrees<K: Addr, N: Store<LpmNode<K>>, R: Store<LpmRoot>>(lpm: &Lpm<K, N, R>, naive: &Naive) {
    for table in 0..TABLES {
        let mut probes = Vec::new();
        let sorted = naive.sorted(table);
        let found: Vec<_> = lpm.iter(table).map(|(a, len, hop)| (a.bits(), len, hop)).collect();
        assert_eq!(found, sorted);
        assert_eq!((lpm.len(table), lpm.is_empty(table)), (sorted.len(), sorted.is_empty()));
        for (bits, len, hop) in sorted {
            assert_eq!(lpm.get(table, K::of(bits), len), Some(hop));
            let last = bits | u128::MAX.checked_shr(len as u32).unwrap_or(0);
            for probe in [bits, last, bits.wrapping_sub(1 << 96), last.wrapping_add(1 << 96)] {
                matches(lpm, naive, table, probe);
                probes.push(K::of(probe));
            }
        }
        same_in_batches(lpm, table, &probes);
    }
}

/// Many at once give what each alone does, however many.
fn same_in_batches<K: Addr, N: Store<LpmNode<K>>, R: Store<LpmRoot>>(
    lpm: &Lpm<K, N, R>,
    table: u32,
    probes: &[K],
) {
    let alone: Vec<_> = probes.iter().map(|p| lpm.lookup(table, *p)).collect();
    let unset = Some(NextHop::Port(PortId(0x5a5a)));
    let n = probes.len();
    for (addrs, outs) in [(n, n), (n, n + 40), (n, n / 2), (n.saturating_sub(1), n)] {
        let mut out = vec![unset; outs];
        lpm.lookup_batch(table, &probes[..addrs], &mut out);
        let both = addrs.min(outs);
        assert_eq!(out[..both], alone[..both]);
        assert!(out[both..].iter().all(|o| *o == unset));
    }
}

fn matches<K: Addr, N: Store<LpmNode<K>>, R: Store<LpmRoot>>(
    lpm: &Lpm<K, N, R>,
    naive: &Naive,
    table: u32,
    bits: u128,
) {
    let addr = K::of(bits);
    let want = naive.longest(table, addr.bits());
    assert_eq!(lpm.lookup(table, addr), want.map(|w| w.2), "{addr:?} in table {table}");
    let found = lpm.lookup_prefix(table, addr);
    assert_eq!(found.map(|(a, len, hop)| (a.bits(), len, hop)), want, "{addr:?} in table {table}");
}

#[derive(Debug, Clone)]
enum Op {
    Insert {
        table: u32,
        bits: u128,
        len: u8,
        hop: NextHop,
    },
    /// The same prefix as that of a route that is there, somewhat changed.
    InsertNear {
        nth: usize,
        flip: u32,
        len: i8,
        hop: NextHop,
    },
    Remove {
        table: u32,
        bits: u128,
        len: u8,
    },
    RemoveNth {
        nth: usize,
    },
    Lookup {
        table: u32,
        bits: u128,
    },
    Clear {
        table: u32,
    },
}

fn hops() -> impl Strategy<Value = NextHop> {
    prop_oneof![
        8 => any::<u16>().prop_map(|id| NextHop::Vtep(VtepId(id))),
        2 => any::<u16>().prop_map(|id| NextHop::Port(PortId(id))),
        1 => Just(NextHop::Direct),
        1 => Just(NextHop::Blackhole),
    ]
}

fn bits() -> impl Strategy<Value = u128> {
    prop_oneof![
        any::<u128>(),
        (0u32..256).prop_map(|n| 0x0a << 120 | (n as u128) << 104),
        (0u32..64).prop_map(|n| 0x0a01_0200 << 96 | (n as u128) << 96),
        (0u32..64).prop_map(|n| 0xfd00_0010_0244 << 80 | (n as u128) << 64),
        (0u32..128).prop_map(|n| 1 << n),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let table = 0..TABLES;
    prop_oneof![
        10 => (table.clone(), bits(), 0u8..=128, hops())
            .prop_map(|(table, bits, len, hop)| Op::Insert { table, bits, len, hop }),
        10 => (any::<usize>(), 0u32..128, -8i8..8, hops())
            .prop_map(|(nth, flip, len, hop)| Op::InsertNear { nth, flip, len, hop }),
        1 => (table.clone(), bits(), 0u8..=128)
            .prop_map(|(table, bits, len)| Op::Remove { table, bits, len }),
        8 => any::<usize>().prop_map(|nth| Op::RemoveNth { nth }),
        4 => (table.clone(), bits()).prop_map(|(table, bits)| Op::Lookup { table, bits }),
        1 => (0u32..TABLES * 8).prop_map(|table| Op::Clear { table }),
    ]
}

/// Runs the operations on both, then empties the table.
fn run<K: Addr, N: Store<LpmNode<K>>, R: Store<LpmRoot>>(mut lpm: Lpm<K, N, R>, ops: &[Op]) {
    let mut naive = Naive::default();
    let free = lpm.free_bytes();
    for op in ops {
        let nth = |nth: usize| naive.routes.get(nth.checked_rem(naive.routes.len()).unwrap_or(0)).copied();
        match *op {
            Op::Insert { table, bits, len, hop } => {
                insert(&mut lpm, &mut naive, table, bits, len % (K::MAX_LEN + 1), hop);
            }
            Op::InsertNear { nth: n, flip, len, hop } => {
                let Some((table, bits, old, _)) = nth(n) else { continue };
                let len = old.saturating_add_signed(len).min(K::MAX_LEN);
                insert(&mut lpm, &mut naive, table, bits ^ 1 << flip, len, hop);
            }
            Op::Remove { table, bits, len } => {
                let len = len % (K::MAX_LEN + 1);
                assert_eq!(lpm.remove(table, K::of(bits), len), naive.remove(table, K::of(bits).bits(), len));
            }
            Op::RemoveNth { nth: n } => {
                let Some((table, bits, len, hop)) = nth(n) else { continue };
                assert_eq!(lpm.remove(table, K::of(bits), len), Some(hop));
                naive.remove(table, bits, len);
            }
            Op::Lookup { table, bits } => matches(&lpm, &naive, table, bits),
            Op::Clear { table } => {
                let before = naive.routes.len();
                naive.routes.retain(|r| r.0 != table);
                assert_eq!(lpm.clear(table), before - naive.routes.len());
            }
        }
    }
    agrees(&lpm, &naive);
    while let Some((table, bits, len, hop)) = naive.routes.pop() {
        assert_eq!(lpm.remove(table, K::of(bits), len), Some(hop));
    }
    agrees(&lpm, &naive);
    assert_eq!(lpm.free_bytes(), free, "cells leaked");
}

/// An insert that is refused changes nothing.
fn insert<K: Addr, N: Store<LpmNode<K>>, R: Store<LpmRoot>>(
    lpm: &mut Lpm<K, N, R>,
    naive: &mut Naive,
    table: u32,
    bits: u128,
    len: u8,
    hop: NextHop,
) {
    let free = lpm.free_bytes();
    match lpm.insert(table, K::of(bits), len, hop) {
        Ok(old) => assert_eq!(old, naive.insert(table, K::of(bits).bits(), len, hop)),
        Err(e) => {
            assert_eq!((e, lpm.free_bytes()), (LpmError::Full, free));
            agrees(lpm, naive);
        }
    }
}

/// The same operations on memory that is inline, lent and on the heap.
fn every_store<K: Addr>(ops: &[Op]) {
    run(Lpm::new([LpmNode::<K>::EMPTY; 47], [LpmRoot::EMPTY; TABLES as usize]).unwrap(), ops);

    let mut nodes = [LpmNode::<K>::EMPTY; 300];
    let mut roots = [LpmRoot::EMPTY; TABLES as usize];
    run(Lpm::new(&mut nodes[..130], &mut roots[..]).unwrap(), ops);
    // Memory that was used before is as good as new.
    run(Lpm::new(&mut nodes[1..], &mut roots[..]).unwrap(), ops);

    let nodes = vec![LpmNode::<K>::EMPTY; cells_for(ops.len())];
    run(Lpm::new(nodes, vec![LpmRoot::EMPTY; TABLES as usize]).unwrap(), ops);
    let nodes = vec![LpmNode::<K>::EMPTY; 1100];
    let mut lpm = Lpm::new(nodes, vec![LpmRoot::EMPTY; TABLES as usize]).unwrap();
    lpm.reserve_index(0, 12).unwrap();
    lpm.reserve_index(1, 12).unwrap();
    run(lpm, ops);
    let mut lpm = Lpm::new(vec![LpmNode::<K>::EMPTY; 1700], vec![LpmRoot::EMPTY; TABLES as usize]).unwrap();
    let (base, len) = if K::MAX_LEN == 32 { (0x0a01 << 112, 6) } else { (0xfd00_0010_0244 << 80, 48) };
    lpm.reserve_index_under(0, K::of(base), len, 12).unwrap();
    lpm.reserve_index_under(1, K::of(base), 0, 12).unwrap();
    lpm.reserve_index_under(2, K::of(base), 6, 12).unwrap();
    run(lpm, ops);
    let nodes = vec![LpmNode::<K>::EMPTY; 9].into_boxed_slice();
    run(Lpm::new(nodes, vec![LpmRoot::EMPTY; TABLES as usize].into_boxed_slice()).unwrap(), ops);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn ipv4_is_as_the_list(ops in prop::collection::vec(op(), 0..200)) {
        every_store::<Ipv4Addr>(&ops);
    }

    #[test]
    fn ipv6_is_as_the_list(ops in prop::collection::vec(op(), 0..200)) {
        every_store::<Ipv6Addr>(&ops);
    }
}

/// A repeatable source of numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for i in (1..all.len()).rev() {
            all.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

/// Prefixes as in a large table: some networks, cut into neighbours, mostly of a few lengths.
fn table_like_the_internets(random: &mut Random, max: u8, count: usize) -> Vec<(u128, u8)> {
    let lengths: &[u8] = if max == 32 {
        &[8, 12, 16, 16, 19, 20, 21, 22, 22, 23, 24, 24, 24, 24, 24, 32]
    } else {
        &[20, 29, 32, 32, 32, 36, 40, 44, 44, 48, 48, 48, 48, 56, 64, 128]
    };
    let bases: Vec<u128> = (0..60).map(|_| (random.next() as u128) << 64).collect();
    let mut all = std::collections::BTreeSet::new();
    while all.len() < count {
        let base = truncate(bases[random.below(60) as usize], lengths[0] + 4);
        let len = lengths[random.below(16) as usize];
        let part = random.next() as u128 >> random.below(20);
        all.insert((truncate(base | part << (128 - len as u32) & u128::MAX >> 9, len), len));
    }
    all.into_iter().collect()
}

fn thousands<K: Addr>(extra: usize, reserve: impl Fn(&mut Lpm<K, Vec<LpmNode<K>>, [LpmRoot; 1]>)) {
    let mut random = Random(if K::MAX_LEN == 32 { 4 } else { 6 });
    let routes = table_like_the_internets(&mut random, K::MAX_LEN, 3000);
    let hop = |i: usize| NextHop::Vtep(VtepId(i as u16));
    let mut naive = Naive::default();
    for (i, (bits, len)) in routes.iter().enumerate() {
        naive.routes.push((0, *bits, *len, hop(i)));
    }
    let mut order: Vec<usize> = (0..routes.len()).collect();
    let probes: Vec<u128> = (0..2000)
        .map(|_| match random.below(3) {
            0 => (random.next() as u128) << 64 | random.next() as u128,
            _ => {
                let (bits, len) = routes[random.below(routes.len() as u64) as usize];
                bits | (random.next() as u128) << 64 >> len.min(127)
            }
        })
        .collect();
    let answers: Vec<_> = probes.iter().map(|p| naive.longest(0, K::of(*p).bits())).collect();
    assert!(answers.iter().flatten().count() > 1000);

    // Any order gives the same answers and takes the same memory.
    let mut free = None;
    let nodes = vec![LpmNode::<K>::EMPTY; cells_for(routes.len()) + extra];
    let mut lpm = Lpm::new(nodes, [LpmRoot::EMPTY; 1]).unwrap();
    reserve(&mut lpm);
    let empty = lpm.free_bytes();
    for _ in 0..3 {
        for &i in &order {
            let (bits, len) = routes[i];
            assert_eq!(lpm.insert(0, K::of(bits), len, hop(i)), Ok(None));
        }
        assert_eq!(*free.get_or_insert(lpm.free_bytes()), lpm.free_bytes());
        for (probe, answer) in probes.iter().zip(&answers) {
            let found = lpm.lookup_prefix(0, K::of(*probe)).map(|(a, len, hop)| (a.bits(), len, hop));
            assert_eq!(found, *answer);
            assert_eq!(lpm.lookup(0, K::of(*probe)), answer.map(|a| a.2));
        }
        let all: Vec<K> = probes.iter().map(|p| K::of(*p)).collect();
        same_in_batches(&lpm, 0, &all);
        random.shuffle(&mut order);
        for &i in &order[..1500] {
            assert_eq!(lpm.remove(0, K::of(routes[i].0), routes[i].1), Some(hop(i)));
        }
        let kept: Vec<_> = order[1500..].iter().map(|k| routes[*k]).collect();
        for &i in &order[..100] {
            let covering = kept.iter().filter(|r| truncate(routes[i].0, r.1) == r.0);
            let found = lpm.lookup_prefix(0, K::of(routes[i].0));
            assert_eq!(found.map(|f| f.1), covering.map(|r| r.1).max());
            assert_eq!(lpm.lookup(0, K::of(routes[i].0)), found.map(|f| f.2));
        }
        assert_eq!(lpm.clear(0), 1500);
        assert_eq!(lpm.free_bytes(), empty);
        random.shuffle(&mut order);
    }
}

#[test]
fn thousands_of_ipv4_routes_in_any_order() {
    thousands::<Ipv4Addr>(0, |_| ());
    thousands::<Ipv4Addr>(cells_for_index(18), |lpm| lpm.reserve_index(0, 18).unwrap());
    let base = Ipv4Addr::new(128, 0, 0, 0);
    thousands::<Ipv4Addr>(cells_for_index(17), |lpm| lpm.reserve_index_under(0, base, 1, 17).unwrap());
}

#[test]
fn thousands_of_ipv4_routes_with_a_table_of_answers() {
    thousands::<Ipv4Addr>(DIRECT_CELLS, |lpm| lpm.reserve_direct(0).unwrap());
}

#[test]
fn thousands_of_ipv6_routes_in_any_order() {
    thousands::<Ipv6Addr>(0, |_| ());
    thousands::<Ipv6Addr>(cells_for_index(12), |lpm| lpm.reserve_index(0, 12).unwrap());
    let base = Ipv6Addr::from_bits(1 << 127);
    thousands::<Ipv6Addr>(cells_for_index(17), |lpm| lpm.reserve_index_under(0, base, 1, 17).unwrap());
}

/// An index of every depth that IPv4 has, and routes whose borders lie in it, above and below it.
#[test]
fn an_index_of_any_depth_holds_its_part_of_the_addresses() {
    let net = Ipv4Addr::new(10, 1, 64, 0);
    for under in [0, 6, 12, 18] {
        let nodes = vec![LpmNode::EMPTY; cells_for(64) + 2 * cells_for_index(12)];
        let mut lpm = Lpm::new(nodes, [LpmRoot::EMPTY]).unwrap();
        lpm.reserve_index_under(0, net, under, 12).unwrap();
        let (mut naive, mut probes) = (Naive::default(), vec![Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST]);
        for (i, len) in [0, 8, 12, 16, 17, 18, 19, 23, 24, 25, 28, 29, 30, 31, 32].into_iter().enumerate() {
            for (far, at) in
                [net.to_bits(), net.to_bits() | 0x3fff, net.to_bits() - 1].into_iter().enumerate()
            {
                let (addr, hop) = (Ipv4Addr::from_bits(at), NextHop::Vtep(VtepId((i * 3 + far) as u16)));
                let old = naive.insert(0, addr.bits(), len, hop);
                assert_eq!(lpm.insert(0, addr, len, hop), Ok(old), "{addr}/{len} under {under}");
                let host = u32::MAX.checked_shr(len.into()).unwrap_or(0);
                for near in [at & !host, at | host] {
                    probes
                        .extend([near.wrapping_sub(1), near, near.wrapping_add(1)].map(Ipv4Addr::from_bits));
                }
            }
        }
        for probe in &probes {
            let hop = naive.longest(0, probe.bits()).map(|found| found.2);
            assert_eq!(lpm.lookup(0, *probe), hop, "{probe} under {under}");
        }
        same_in_batches(&lpm, 0, &probes);
    }
}

/// The answers for 24 bits, under every kind of change: short routes over long ones and back, next
/// hops that do not fit, routes of more than 24 bits, a default route.
/// An index and answers need memory that no route has used yet.
#[test]
fn a_refused_table_of_answers_changes_nothing() {
    let nodes = vec![LpmNode::<Ipv4Addr>::EMPTY; DIRECT_CELLS + 127];
    let mut lpm = Lpm::new(nodes, [LpmRoot::EMPTY; TABLES as usize]).unwrap();
    for n in 0..100 {
        lpm.insert(1, Ipv4Addr::from_bits(n << 14), 20, NextHop::Port(PortId(n as u16))).unwrap();
    }
    lpm.clear(1);
    let free = lpm.free_bytes();
    assert_eq!(lpm.reserve_direct(0), Err(LpmError::Full));
    assert_eq!(lpm.free_bytes(), free);
    lpm.reserve_index(0, 18).expect("it has none");
}

#[test]
fn answers_follow_every_change() {
    let nodes = vec![LpmNode::<Ipv4Addr>::EMPTY; DIRECT_CELLS + cells_for(300)];
    let mut lpm = Lpm::new(nodes, [LpmRoot::EMPTY; TABLES as usize]).unwrap();
    assert_eq!(lpm.reserve_direct(9), Err(LpmError::NoTable(9)));
    lpm.reserve_direct(1).unwrap();
    assert_eq!(lpm.reserve_direct(1), Err(LpmError::Full), "there is room for one");
    let mut naive = Naive::default();
    let mut random = Random(24);
    for round in 0..3000 {
        let near = 0x0a00_0000u128 | random.next() as u128 & 0x0001_c3ff;
        let (bits, len) = (near << 96, 8 + random.below(25) as u8);
        let hop = match random.below(8) {
            0 => NextHop::Port(PortId(random.next() as u16)),
            1 => NextHop::Direct,
            2 => NextHop::Blackhole,
            3 => NextHop::Vtep(VtepId(0xfff0 | random.next() as u16)),
            _ => NextHop::Vtep(VtepId(random.next() as u16)),
        };
        // Short routes are few, and so a change of one is.
        let len = if len < 16 && random.below(4) != 0 { 24 } else { len };
        let len = if random.below(100) == 0 { 0 } else { len };
        if naive.routes.len() > 200 || random.below(3) == 0 {
            if let Some(&(table, bits, len, hop)) = naive.routes.get(random.below(200) as usize) {
                assert_eq!(lpm.remove(table, Addr::of(bits), len), Some(hop));
                naive.remove(table, bits, len);
            }
        } else {
            let old = lpm.insert(1, Addr::of(bits), len, hop);
            assert_eq!(
                old,
                Ok(naive.insert(1, Ipv4Addr::of(bits).bits() & truncate(u128::MAX, len), len, hop))
            );
        }
        for _ in 0..4 {
            let probe = 0x0a00_0000u128 | random.next() as u128 & 0x0001_c3ff;
            matches(&lpm, &naive, 1, probe << 96);
        }
        if round % 500 == 0 {
            agrees(&lpm, &naive);
        }
    }
    agrees(&lpm, &naive);
    // Where no longer route is, an answer is a next hop.
    lpm.insert(1, Ipv4Addr::new(172, 16, 0, 0), 12, NextHop::Vtep(VtepId(1))).unwrap();
    lpm.insert(1, Ipv4Addr::new(192, 0, 2, 0), 24, NextHop::Vtep(VtepId(2))).unwrap();
    let gone = [Ipv4Addr::new(172, 17, 0, 1), Ipv4Addr::new(192, 0, 2, 1)];
    assert!(gone.iter().all(|addr| lpm.lookup(1, *addr).is_some()));
    lpm.clear(1);
    agrees(&lpm, &Naive::default());
    assert!(gone.iter().all(|addr| lpm.lookup(1, *addr).is_none()), "no answer stays");
}

/// Filled until it refuses, emptied in another order, and filled again, always with the same result.
#[test]
fn full_and_empty_and_full_again() {
    let mut random = Random(1);
    let mut lpm = Lpm::new([LpmNode::<Ipv4Addr>::EMPTY; 200], [LpmRoot::EMPTY; TABLES as usize]).unwrap();
    let offered: Vec<_> = (0..400)
        .map(|i| {
            let (bits, len) = (random.next() as u128, 1 + random.below(32) as u8);
            (i % TABLES, truncate(bits << 64, len), len, NextHop::Vtep(VtepId(i as u16)))
        })
        .collect();
    let mut taken = None;
    for _ in 0..4 {
        let mut naive = Naive::default();
        let mut refused = 0;
        for &(table, bits, len, hop) in &offered {
            match lpm.insert(table, Addr::of(bits), len, hop) {
                Ok(old) => assert_eq!(old, naive.insert(table, bits, len, hop)),
                Err(e) => {
                    refused += 1;
                    assert_eq!(e, LpmError::Full);
                }
            }
        }
        agrees(&lpm, &naive);
        assert!(refused > 20 && naive.routes.len() > 66, "{refused} of 400 refused");
        let now = (naive.routes.len(), lpm.free_bytes());
        assert_eq!(*taken.get_or_insert(now), now);
        random.shuffle(&mut naive.routes);
        for (table, bits, len, hop) in naive.routes.drain(..) {
            assert_eq!(lpm.remove(table, Addr::of(bits), len), Some(hop));
        }
        assert_eq!(lpm.free_bytes(), lpm.capacity_bytes(), "cells leaked");
    }
}

#[test]
fn a_few_kib_hold_tens_of_routes() {
    const CELLS: usize = cells_for(32);
    let mut lpm = Lpm::new([LpmNode::EMPTY; CELLS], [LpmRoot::EMPTY; 2]).unwrap();
    assert!(std::mem::size_of_val(&lpm) <= 7 * 1024);
    let mut random = Random(32);
    for i in 0..32 {
        let addr = Ipv6Addr::from_bits((random.next() as u128) << 64 | random.next() as u128);
        assert_eq!(lpm.insert(i % 2, addr, 128, NextHop::Port(PortId(i as u16))), Ok(None));
    }
}
