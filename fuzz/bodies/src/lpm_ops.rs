//! Sequences of operations on route tables.

use std::fmt::Debug;
use std::net::{Ipv4Addr, Ipv6Addr};

use arbitrary::{Arbitrary, Unstructured};
use overlane::addr::{NextHop, PortId, VtepId};
use overlane::table::Store;
use overlane::table::lpm::{Lpm, LpmError, LpmKey, LpmNode, LpmRoot, cells_for, cells_for_index};

use crate::Operations;

const TABLES: u32 = 3;
/// Inline and borrowed arenas: too small for many routes.
const SMALL: usize = 48;

/// Carries out the same operations on route tables of both families, over each kind of memory, and
/// on a list.
///
/// After each, the tables hold what the list holds; where there is no room, a route is refused and
/// nothing has changed. In the end, when all routes are gone, so is all use of memory.
pub fn lpm_ops(data: &[u8]) {
    let Ok(input) = Unstructured::new(data).arbitrary::<Input>() else { return };
    every_store::<Ipv4Addr>(&input);
    every_store::<Ipv6Addr>(&input);
}

#[derive(Debug, Arbitrary)]
struct Input {
    operations: Operations<Operation>,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Operation {
    Insert {
        table: u8,
        at: Bits,
        len: u8,
        hop: Hop,
    },
    /// Near a route that is there.
    InsertNear {
        nth: u8,
        flip: u8,
        len: i8,
        hop: Hop,
    },
    Remove {
        table: u8,
        at: Bits,
        len: u8,
    },
    RemoveNth {
        nth: u8,
    },
    Lookup {
        table: u8,
        at: Bits,
    },
    Clear {
        table: u8,
    },
}

/// Address bits from the top: of few networks, or any.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Bits {
    Net(u8),
    Neighbour(u8),
    One(u8),
    Short(u16),
    Any(u128),
}

impl Bits {
    fn get(self) -> u128 {
        match self {
            Bits::Net(n) => (0x0a << 120) | (u128::from(n) << 104),
            Bits::Neighbour(n) => (0x000a_0102 << 104) | (u128::from(n) << 96),
            Bits::One(n) => 1 << (n % 128),
            Bits::Short(n) => u128::from(n) << 112,
            Bits::Any(n) => n,
        }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Hop {
    Vtep(u16),
    Port(u16),
    Direct,
    Blackhole,
}

impl Hop {
    fn get(self) -> NextHop {
        match self {
            Hop::Vtep(n) => NextHop::Vtep(VtepId(n)),
            Hop::Port(n) => NextHop::Port(PortId(n)),
            Hop::Direct => NextHop::Direct,
            Hop::Blackhole => NextHop::Blackhole,
        }
    }
}

/// An address as the top bits of a number.
trait Address: LpmKey + Debug {
    fn of(bits: u128) -> Self;
    fn bits(self) -> u128;
}

impl Address for Ipv4Addr {
    fn of(bits: u128) -> Self {
        Ipv4Addr::from_bits((bits >> 96) as u32)
    }

    fn bits(self) -> u128 {
        u128::from(self.to_bits()) << 96
    }
}

impl Address for Ipv6Addr {
    fn of(bits: u128) -> Self {
        Ipv6Addr::from_bits(bits)
    }

    fn bits(self) -> u128 {
        self.to_bits()
    }
}

fn mask(len: u8) -> u128 {
    !u128::MAX.checked_shr(len.into()).unwrap_or(0)
}

/// Which operations were refused for want of room.
type Refusals = Vec<bool>;

fn every_store<K: Address>(input: &Input) {
    let roots = [LpmRoot::EMPTY; TABLES as usize];
    let small = Lpm::new([LpmNode::<K>::EMPTY; SMALL], roots).map(|lpm| run(lpm, input));
    let (mut nodes, mut lent) = ([LpmNode::<K>::EMPTY; SMALL], roots);
    // Lent twice: what is in the memory does not matter.
    for _ in 0..2 {
        let again = Lpm::new(&mut nodes[..], &mut lent[..]).map(|lpm| run(lpm, input));
        assert_eq!(small, again);
    }
    let boxed = vec![LpmNode::<K>::EMPTY; SMALL].into_boxed_slice();
    assert_eq!(small, Lpm::new(boxed, roots.to_vec()).map(|lpm| run(lpm, input)));

    // As much as is promised to be enough.
    let routes = input.operations.0.len();
    let refusals = Lpm::new(vec![LpmNode::<K>::EMPTY; cells_for(routes)], roots).map(|lpm| run(lpm, input));
    assert!(refusals.is_ok_and(|refused| !refused.contains(&true)));
    // The same with an index: of all addresses, and of those below one prefix.
    let nodes = vec![LpmNode::<K>::EMPTY; cells_for(routes) + 2 * cells_for_index(12)];
    let Ok(mut lpm) = Lpm::new(nodes, roots) else { return };
    let net = K::of(0x0a << 120);
    assert_eq!((lpm.reserve_index(0, 12), lpm.reserve_index_under(1, net, 6, 12)), (Ok(()), Ok(())));
    assert!(!run(lpm, input).contains(&true));
}

/// The obvious tables: a list of table, network, length and next hop.
type List = Vec<(u32, u128, u8, NextHop)>;

fn find(list: &List, table: u32, bits: u128, len: u8) -> Option<usize> {
    list.iter().position(|r| (r.0, r.1, r.2) == (table, bits & mask(len), len))
}

fn run<K: Address, N: Store<LpmNode<K>>, R: Store<LpmRoot>>(
    mut lpm: Lpm<K, N, R>,
    input: &Input,
) -> Refusals {
    let (mut list, mut refusals) = (List::new(), Refusals::new());
    let free = lpm.free_bytes();
    for (n, operation) in input.operations.0.iter().enumerate() {
        let nth = |nth: u8| list.get(usize::from(nth).checked_rem(list.len()).unwrap_or(0)).copied();
        match *operation {
            Operation::Insert { table, at, len, hop } => {
                let (table, len) = (u32::from(table) % (TABLES + 1), len % (K::MAX_LEN + 2));
                refusals.push(insert(&mut lpm, &mut list, table, K::of(at.get()), len, hop.get()));
            }
            Operation::InsertNear { nth: i, flip, len, hop } => {
                let Some((table, bits, old, _)) = nth(i) else { continue };
                let len = old.saturating_add_signed(len % 9).min(K::MAX_LEN);
                let addr = K::of(bits ^ (1 << (flip % 128)));
                refusals.push(insert(&mut lpm, &mut list, table, addr, len, hop.get()));
            }
            Operation::Remove { table, at, len } => {
                let (table, addr, len) =
                    (u32::from(table) % (TABLES + 1), K::of(at.get()), len % (K::MAX_LEN + 2));
                let hop = find(&list, table, addr.bits(), len).map(|i| list.swap_remove(i).3);
                assert_eq!(lpm.get(table, addr, len), hop);
                assert_eq!(lpm.remove(table, addr, len), hop);
                assert_eq!(lpm.get(table, addr, len), None);
            }
            Operation::RemoveNth { nth: i } => {
                let Some((table, bits, len, hop)) = nth(i) else { continue };
                list.retain(|r| (r.0, r.1, r.2) != (table, bits, len));
                assert_eq!(lpm.remove(table, K::of(bits), len), Some(hop));
            }
            Operation::Lookup { table, at } => {
                matches(&lpm, &list, u32::from(table) % (TABLES + 1), K::of(at.get()));
            }
            Operation::Clear { table } => {
                let (table, before) = (u32::from(table) % (TABLES + 1), list.len());
                list.retain(|r| r.0 != table);
                assert_eq!(lpm.clear(table), before - list.len());
            }
        }
        if n % 32 == 31 {
            agrees(&lpm, &list);
        }
    }
    agrees(&lpm, &list);
    for (table, bits, len, hop) in list {
        assert_eq!(lpm.remove(table, K::of(bits), len), Some(hop));
    }
    assert_eq!(lpm.free_bytes(), free, "cells leaked");
    refusals
}

/// Whether there was no room.
fn insert<K: Address, N: Store<LpmNode<K>>, R: Store<LpmRoot>>(
    lpm: &mut Lpm<K, N, R>,
    list: &mut List,
    table: u32,
    addr: K,
    len: u8,
    hop: NextHop,
) -> bool {
    let (free, old) = (lpm.free_bytes(), find(list, table, addr.bits(), len));
    match lpm.insert(table, addr, len, hop) {
        Ok(replaced) => {
            assert!(table < TABLES && len <= K::MAX_LEN);
            assert_eq!(replaced, old.map(|i| list[i].3));
            match old {
                Some(i) => list[i].3 = hop,
                None => list.push((table, addr.bits() & mask(len), len, hop)),
            }
            assert_eq!(lpm.get(table, addr, len), Some(hop));
            matches(lpm, list, table, addr);
            false
        }
        Err(e) => {
            assert_eq!(lpm.free_bytes(), free);
            assert_eq!(lpm.get(table, addr, len), old.map(|i| list[i].3));
            match e {
                LpmError::NoTable(t) => assert!(t == table && table >= TABLES),
                LpmError::PrefixLength { len: l, max } => assert!(l == len && len > max && max == K::MAX_LEN),
                LpmError::Full => agrees(lpm, list),
                other => panic!("{other}"),
            }
            e == LpmError::Full
        }
    }
}

/// Everything that can be read is as in the list.
fn agrees<K: Address, N: Store<LpmNode<K>>, R: Store<LpmRoot>>(lpm: &Lpm<K, N, R>, list: &List) {
    for table in 0..TABLES {
        let mut sorted: Vec<_> = list.iter().filter(|r| r.0 == table).map(|r| (r.1, r.2, r.3)).collect();
        sorted.sort_by_key(|r| (r.0, r.1));
        let found: Vec<_> = lpm.iter(table).map(|(a, len, hop)| (a.bits(), len, hop)).collect();
        assert_eq!(found, sorted);
        assert_eq!((lpm.len(table), lpm.is_empty(table)), (sorted.len(), sorted.is_empty()));
        for (bits, len, hop) in sorted {
            assert_eq!(lpm.get(table, K::of(bits), len), Some(hop));
            let last = bits | !mask(len);
            for probe in [bits, last, bits.wrapping_sub(1 << 96), last.wrapping_add(1 << 96)] {
                matches(lpm, list, table, K::of(probe));
            }
        }
    }
}

fn matches<K: Address, N: Store<LpmNode<K>>, R: Store<LpmRoot>>(
    lpm: &Lpm<K, N, R>,
    list: &List,
    table: u32,
    addr: K,
) {
    let covering = list.iter().filter(|r| r.0 == table && addr.bits() & mask(r.2) == r.1);
    let longest = covering.max_by_key(|r| r.2).map(|r| (r.1, r.2, r.3));
    assert_eq!(lpm.lookup(table, addr), longest.map(|r| r.2), "{addr:?}");
    let found = lpm.lookup_prefix(table, addr).map(|(a, len, hop)| (a.bits(), len, hop));
    assert_eq!(found, longest, "{addr:?}");
    let mut many = [None; 33];
    lpm.lookup_batch(table, &[addr; 33], &mut many);
    assert!(many.iter().all(|hop| *hop == longest.map(|r| r.2)), "{addr:?}");
}
