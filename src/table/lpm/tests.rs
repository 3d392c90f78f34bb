use core::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::cell::{CELL_WORDS, In};
use super::key::CHECKPOINT;
use super::tail::Tail;
use super::*;
use crate::addr::{PortId, VtepId};

type Heap<K> = Lpm<K, Vec<LpmNode<K>>, Vec<LpmRoot>>;

fn heap<K: LpmKey>(cells: usize, tables: usize) -> Heap<K> {
    Lpm::new(vec![LpmNode::EMPTY; cells], vec![LpmRoot::EMPTY; tables]).unwrap()
}

fn v(id: u16) -> NextHop {
    NextHop::Vtep(VtepId(id))
}

/// Walks everything: every block knows its owner and its order, the trie has its one form, blocks
/// and free memory do not overlap and are the whole arena, and what depends on the routes is right.
fn check<K: LpmKey>(lpm: &mut Heap<K>) {
    let mut owned = vec![false; lpm.nodes.len() * CELL_WORDS as usize];
    let mut used = 0;
    for table in 0..lpm.roots.len() as u32 {
        let root = lpm.roots[table as usize];
        let mut routes = (root.default != NONE) as u32;
        let arena = lpm.arena();
        let mut todo = vec![(Slot::root(table), 0u32)];
        for at in root.index..root.index + root.entries {
            let slot = arena.entry_slot(at);
            assert_eq!(arena.entry_at(slot), at);
            let children = arena.get(slot)[1];
            assert_eq!(arena::entry(arena.cells(), at) & arena::PARENT != 0, children != 0);
            if cell::kind(&arena.get(slot)) != cell::EMPTY {
                todo.push((slot, root.depth()));
            }
        }
        used += root.entries / 2;
        while let Some((slot, depth)) = todo.pop() {
            let cell = arena.get(slot);
            if cell::kind(&cell) == cell::EMPTY {
                assert_eq!(slot.place(), In::Roots);
                continue;
            }
            let (children, head) = (cell::children(&cell), cell::is_head(&cell));
            assert_eq!(head, slot.place() == In::Index);
            let mut tail = Tail::new();
            tail.load(arena.cells(), &cell);
            let count = tail.routes.full.count_ones() + tail.routes.inner.count_ones();
            routes += count;
            let (order, at) = (tail.order(&cell), cell::depth(cell[0]));
            assert!(at >= depth && (at <= CHECKPOINT || depth >= CHECKPOINT), "{depth} to {at}");
            assert!(!head || at == depth);
            let stands = head || at == CHECKPOINT;
            assert!(count > 0 || children > !stands as u32, "a node that need not be");
            let block = cell::block(&cell);
            let first = arena.word(block);
            assert_eq!(cell::owner(first), slot);
            assert_eq!(cell::order(first), order);
            assert_eq!(block % (1 << order), 0);
            used += 1 << order;
            for word in block..block + (1 << order) {
                assert!(!core::mem::replace(&mut owned[word as usize], true), "overlap at {word}");
            }
            for rank in 0..children {
                let child = Arena::<K>::child(&cell, rank);
                assert!(cell::is_node(&arena.get(child)));
                todo.push((child, at + 6));
            }
        }
        assert_eq!(routes, root.len);
    }
    assert_eq!(used + lpm.free.words, owned.len() as u32);
}

/// Every entry of an index falls back to the longest of the routes that are not behind it.
fn fallbacks<K: LpmKey>(lpm: &mut Heap<K>) {
    for root in lpm.roots.clone() {
        for at in root.index..root.index + root.entries {
            let key = K::Bits::from_first(root.depth(), root.first(at));
            let longest = find::longest(&lpm.nodes, find::rooted(&root), key, root.depth());
            let (len, hop) = longest.unwrap_or((0, NONE));
            assert_eq!(lpm.arena().fallback(at), arena::fallback(hop, len));
        }
    }
}

#[test]
fn cases() {
    struct Case {
        what: &'static str,
        routes: &'static [(&'static str, u16)],
        answers: &'static [(&'static str, Option<u16>)],
    }
    let cases = [
        Case { what: "nothing", routes: &[], answers: &[("0.0.0.0", None), ("255.255.255.255", None)] },
        Case {
            what: "the default route holds all",
            routes: &[("0.0.0.0/0", 1)],
            answers: &[("0.0.0.0", Some(1)), ("255.255.255.255", Some(1))],
        },
        Case {
            what: "a host route holds one",
            routes: &[("10.0.0.1/32", 1)],
            answers: &[("10.0.0.1", Some(1)), ("10.0.0.0", None), ("10.0.0.2", None)],
        },
        Case {
            what: "the longest of nested ones",
            routes: &[
                ("10.0.0.0/8", 8),
                ("10.1.0.0/16", 16),
                ("10.1.2.0/24", 24),
                ("10.1.2.3/32", 32),
                ("0.0.0.0/0", 0),
            ],
            answers: &[
                ("10.1.2.3", Some(32)),
                ("10.1.2.4", Some(24)),
                ("10.1.3.3", Some(16)),
                ("10.2.2.3", Some(8)),
                ("11.1.2.3", Some(0)),
            ],
        },
        Case {
            what: "siblings",
            routes: &[("10.0.0.0/9", 1), ("10.128.0.0/9", 2)],
            answers: &[("10.127.255.255", Some(1)), ("10.128.0.0", Some(2)), ("11.0.0.0", None)],
        },
        Case {
            what: "adjacent, not nested",
            routes: &[("10.0.0.0/30", 1), ("10.0.0.4/31", 2), ("10.0.0.6/32", 3)],
            answers: &[
                ("10.0.0.3", Some(1)),
                ("10.0.0.5", Some(2)),
                ("10.0.0.6", Some(3)),
                ("10.0.0.7", None),
            ],
        },
        Case {
            what: "host bits do not count",
            routes: &[("10.1.2.3/8", 1), ("10.255.255.255/16", 2)],
            answers: &[("10.0.0.0", Some(1)), ("10.255.0.0", Some(2))],
        },
        Case {
            what: "every address bit counts",
            routes: &[("128.0.0.0/1", 1), ("0.0.0.1/32", 2), ("0.0.0.0/32", 3)],
            answers: &[("0.0.0.1", Some(2)), ("0.0.0.0", Some(3)), ("0.0.0.2", None), ("200.0.0.0", Some(1))],
        },
    ];
    for Case { what, routes, answers } in cases {
        let parsed: Vec<(Ipv4Addr, u8, u16)> = routes
            .iter()
            .map(|(p, id)| {
                let (addr, len) = p.split_once('/').unwrap();
                (addr.parse().unwrap(), len.parse().unwrap(), *id)
            })
            .collect();
        for reversed in [false, true] {
            let mut lpm = heap::<Ipv4Addr>(64, 1);
            let mut order = parsed.clone();
            if reversed {
                order.reverse();
            }
            for (addr, len, id) in &order {
                assert_eq!(lpm.insert(0, *addr, *len, v(*id)), Ok(None), "{what}");
                check(&mut lpm);
            }
            for (addr, id) in answers {
                assert_eq!(lpm.lookup(0, addr.parse().unwrap()), id.map(v), "{what}: {addr}");
            }
            // The same under a prefix of an IPv6 address, where the length allows.
            let mut six = heap::<Ipv6Addr>(64, 1);
            let map = |a: Ipv4Addr| Ipv6Addr::from_bits(0xfd00 << 112 | a.to_bits() as u128);
            for (addr, len, id) in &order {
                let len = if *len == 0 { 0 } else { len + 96 };
                assert_eq!(six.insert(0, map(*addr), len, v(*id)), Ok(None), "{what}");
                check(&mut six);
            }
            for (addr, id) in answers {
                assert_eq!(six.lookup(0, map(addr.parse().unwrap())), id.map(v), "{what}: {addr}");
            }
            for (addr, len, id) in &order {
                assert_eq!(lpm.get(0, *addr, *len), Some(v(*id)), "{what}");
                assert_eq!(lpm.remove(0, *addr, *len), Some(v(*id)), "{what}");
                assert_eq!(lpm.remove(0, *addr, *len), None, "{what}");
                check(&mut lpm);
            }
            assert_eq!((lpm.len(0), lpm.free_bytes()), (0, lpm.capacity_bytes()), "{what}");
        }
    }
}

#[test]
fn without_a_covering_route_what_it_covered_stays() {
    let mut lpm = heap::<Ipv4Addr>(64, 1);
    let (net, host) = (Ipv4Addr::new(10, 0, 0, 0), Ipv4Addr::new(10, 0, 0, 1));
    lpm.insert(0, net, 8, v(1)).unwrap();
    lpm.insert(0, host, 32, v(2)).unwrap();
    assert_eq!(lpm.remove(0, net, 8), Some(v(1)));
    assert_eq!((lpm.lookup(0, host), lpm.lookup(0, net)), (Some(v(2)), None));
    assert_eq!(lpm.remove(0, net, 8), None);
}

#[test]
fn next_hops_come_back_as_they_went_in() {
    let hops = [
        v(0),
        v(u16::MAX),
        NextHop::Port(PortId(0)),
        NextHop::Port(PortId(u16::MAX)),
        NextHop::Direct,
        NextHop::Blackhole,
    ];
    let mut lpm = heap::<Ipv6Addr>(1024, 1);
    for len in [0u8, 1, 6, 7, 32, 48, 64, 127, 128] {
        let addr = Ipv6Addr::from_bits(u128::MAX);
        let mut old = None;
        for hop in hops {
            assert_eq!(lpm.insert(0, addr, len, hop), Ok(old));
            check(&mut lpm);
            assert_eq!((lpm.get(0, addr, len), lpm.lookup(0, addr)), (Some(hop), Some(hop)));
            old = Some(hop);
        }
    }
    assert_eq!(lpm.len(0), 9);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut lpm = heap::<Ipv4Addr>(16, 2);
    let addr = Ipv4Addr::LOCALHOST;
    assert_eq!(lpm.insert(2, addr, 8, v(1)), Err(LpmError::NoTable(2)));
    assert_eq!(lpm.insert(0, addr, 33, v(1)), Err(LpmError::PrefixLength { len: 33, max: 32 }));
    assert_eq!((lpm.get(0, addr, 33), lpm.remove(0, addr, 33)), (None, None));
    assert_eq!((lpm.get(2, addr, 8), lpm.lookup(2, addr), lpm.remove(2, addr, 8)), (None, None, None));
    assert_eq!((lpm.iter(2).count(), lpm.clear(2), lpm.len(2), lpm.tables()), (0, 0, 0, 2));
}

#[test]
fn without_nodes_a_table_holds_a_default_route() {
    let mut lpm = heap::<Ipv4Addr>(0, 1);
    let addr = Ipv4Addr::LOCALHOST;
    assert_eq!(lpm.insert(0, addr, 0, v(1)), Ok(None));
    assert_eq!(lpm.insert(0, addr, 32, v(2)), Err(LpmError::Full));
    assert_eq!(lpm.lookup_prefix(0, addr), Some((Ipv4Addr::UNSPECIFIED, 0, v(1))));
    assert_eq!(lpm.clear(0), 1);
}

#[test]
fn an_index_is_for_an_empty_table_and_fresh_memory() {
    let cells = cells_for_index(12);
    let mut lpm = heap::<Ipv4Addr>(2 * cells + 16 + 128, 4);
    let refused = |table, bits| Err(LpmError::Index { table, bits });
    assert_eq!(lpm.reserve_index(4, 12), Err(LpmError::NoTable(4)));
    assert_eq!(lpm.reserve_index(0, 16), refused(0, 16));
    assert_eq!(lpm.reserve_index(0, 18), Err(LpmError::Full));
    lpm.insert(1, Ipv4Addr::UNSPECIFIED, 0, v(1)).unwrap();
    assert_eq!(lpm.reserve_index(1, 12), refused(1, 12));
    let before = lpm.free_bytes();
    assert_eq!(lpm.reserve_index(0, 12), Ok(()));
    assert_eq!(lpm.free_bytes(), before - cells * 32);
    assert_eq!(lpm.reserve_index(0, 12), refused(0, 12));
    assert_eq!(lpm.reserve_index(2, 12), Ok(()));
    assert_eq!(lpm.reserve_index(3, 12), Err(LpmError::Full));

    // What the index has, what it has not, and what covers both.
    let routes = [("10.16.0.0", 12, 1), ("10.16.0.0", 13, 2), ("10.16.1.0", 24, 3), ("0.0.0.0", 0, 4)];
    for (addr, len, id) in routes {
        assert_eq!(lpm.insert(0, addr.parse().unwrap(), len, v(id)), Ok(None));
        check(&mut lpm);
    }
    let answers = [("10.16.1.9", 3), ("10.16.2.9", 2), ("10.31.0.0", 1), ("10.32.0.0", 4)];
    for (addr, id) in answers {
        assert_eq!(lpm.lookup(0, addr.parse().unwrap()), Some(v(id)), "{addr}");
    }
    let lens: Vec<u8> = lpm.iter(0).map(|route| route.1).collect();
    assert_eq!(lens, [0, 12, 13, 24]);
    assert_eq!((lpm.clear(0), lpm.iter(0).count()), (4, 0));
    assert_eq!(lpm.reserve_index(0, 12), refused(0, 12), "the index stays");
    check(&mut lpm);
}

#[test]
fn an_entry_with_nothing_behind_it_has_nothing_to_take_out() {
    let mut lpm = heap::<Ipv4Addr>(cells_for_index(12) + 128, 1);
    lpm.reserve_index(0, 12).unwrap();
    let (there, not) = (Ipv4Addr::new(10, 0, 0, 0), Ipv4Addr::new(20, 0, 0, 0));
    lpm.insert(0, there, 13, v(1)).unwrap();
    assert_eq!((lpm.get(0, not, 13), lpm.remove(0, not, 13)), (None, None));
    assert_eq!(lpm.remove(0, there, 13), Some(v(1)));
}

/// Address bits from few values, so that prefixes nest, meet and part at every depth.
fn bits() -> impl Strategy<Value = u128> {
    prop_oneof![
        any::<u128>(),
        (0u32..128, any::<bool>()).prop_map(|(n, ones)| if ones { u128::MAX << n } else { 1 << n }),
        (0u128..64).prop_map(|n| 0xfd00_0010_0244_0000 << 64 | n << 62),
        (0u128..4096).prop_map(|n| n << 108),
    ]
}

#[derive(Debug, Clone)]
enum Op {
    Insert(u32, u128, u8, u8),
    Remove(u32, u128, u8),
    /// Removes the route of that rank.
    RemoveNth(u32, usize),
    Clear(u32),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let insert = (0u32..3, bits(), any::<u8>(), any::<u8>());
    let op = prop_oneof![
        12 => insert.prop_map(|(t, b, l, h)| Op::Insert(t, b, l, h)),
        1 => (0u32..3, bits(), any::<u8>()).prop_map(|(t, b, l)| Op::Remove(t, b, l)),
        6 => (0u32..3, any::<usize>()).prop_map(|(t, n)| Op::RemoveNth(t, n)),
        1 => (0u32..12).prop_map(Op::Clear),
    ];
    prop::collection::vec(op, 0..300)
}

fn hop(h: u8) -> NextHop {
    match h {
        0..=3 => NextHop::Port(PortId(h as u16)),
        4 => NextHop::Direct,
        5 => NextHop::Blackhole,
        _ => v(h as u16),
    }
}

fn run<K: LpmKey>(cells: usize, ops: &[Op], make: impl Fn(u128) -> K) {
    let mut lpm = heap::<K>(cells, 3);
    if cells >= 16384 / 32 {
        lpm.reserve_index(1, 12).unwrap();
        check(&mut lpm);
    }
    let start = lpm.free_bytes();
    for op in ops {
        match *op {
            Op::Insert(t, b, l, h) => {
                let (len, before) = (l % (K::MAX_LEN + 1), lpm.free_bytes());
                if let Err(e) = lpm.insert(t, make(b), len, hop(h)) {
                    assert_eq!((e, lpm.free_bytes()), (LpmError::Full, before));
                } else {
                    assert_eq!(lpm.get(t, make(b), len), Some(hop(h)));
                }
            }
            Op::Remove(t, b, l) => {
                lpm.remove(t, make(b), l % (K::MAX_LEN + 1));
            }
            Op::RemoveNth(t, n) => {
                let nth = lpm.iter(t).nth(n.checked_rem(lpm.len(t)).unwrap_or(0));
                if let Some((addr, len, hop)) = nth {
                    assert_eq!(lpm.remove(t, addr, len), Some(hop));
                }
            }
            Op::Clear(t) => {
                lpm.clear(t);
            }
        }
        check(&mut lpm);
    }
    fallbacks(&mut lpm);
    for t in 0..3 {
        lpm.clear(t);
    }
    fallbacks(&mut lpm);
    assert_eq!(lpm.free_bytes(), start);
    check(&mut lpm);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_arena_stays_whole_v4(cells in prop_oneof![0usize..300, 512usize..800], ops in ops()) {
        run(cells, &ops, |b| Ipv4Addr::from_bits((b >> 96) as u32));
    }

    #[test]
    fn the_arena_stays_whole_v6(cells in prop_oneof![0usize..300, 512usize..800], ops in ops()) {
        run(cells, &ops, Ipv6Addr::from_bits);
    }
}

#[test]
fn as_many_routes_as_promised_fit_in_any_order() {
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 32
    };
    for prefixes in [1, 2, 3, 4, 7, 16, 31, 64, 200, 1000] {
        for pattern in 0..6 {
            let mut lpm = heap::<Ipv6Addr>(cells_for(prefixes), 1);
            for round in 0..3 {
                let mut n = 0;
                while lpm.len(0) < prefixes {
                    n += 1;
                    let (r, s) = (random() as u128, random() as u128);
                    let (addr, len) = match pattern {
                        0 => (r << 96 | s << 64, 128),
                        1 => (u128::MAX << (n % 128), 128 - (n % 128) as u8),
                        2 => (r << 96, 20 + (s % 9) as u8),
                        3 => (1 << (s % 128) | 1 << (r % 128), 128 - (r % 20) as u8),
                        4 => ((r % 65) << 122 | (s % 17) << 92 | n << 40, 96),
                        _ => (s << 70 | r, (n % 129) as u8),
                    };
                    if n > 20_000 {
                        break;
                    }
                    let hop = if n % 3 == 0 { NextHop::Direct } else { v(n as u16) };
                    let done = lpm.insert(0, Ipv6Addr::from_bits(addr), len, hop);
                    assert!(done.is_ok(), "{prefixes} {pattern} {round}: {} fit", lpm.len(0));
                }
                let some: Vec<_> = lpm.iter(0).step_by(2 + round).collect();
                for (addr, len, hop) in some {
                    assert_eq!(lpm.remove(0, addr, len), Some(hop));
                }
            }
            check(&mut lpm);
        }
    }
}
