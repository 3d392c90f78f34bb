//! LPM: ours beside prefix-trie, treebitmap and iptrie.

use std::net::{Ipv4Addr, Ipv6Addr};

use ip_network_table_deps_treebitmap::{IpLookupTable, address::Address};
use iptrie::map::{LCTrieMap, RTrieMap};
use overlane::addr::{NextHop, VtepId};
use overlane::table::lpm::{
    DIRECT_CELLS, Lpm, LpmError, LpmKey, LpmNode, LpmRoot, cells_for, cells_for_index, cells_typical,
};
use prefix_trie::PrefixMap;

use super::Scale;
use crate::data::{self, Bits, Route};
use crate::measure::{Random, Sample, passes, timed_passes, weigh};

const BATCH: usize = 32;
type Out = [Option<NextHop>; BATCH];

/// A table; next hops are above zero, and zero stands for no route.
trait Routes<B: Bits>: Sized {
    /// Empty, with room for so many where it does not grow.
    fn new(routes: usize) -> Self;
    fn insert(&mut self, route: Route<B>);
    fn remove(&mut self, addr: B, len: u8) -> bool;
    fn get(&self, addr: B) -> u64;
    /// The sum of all next hops.
    fn get_batch(&self, addrs: &[B; BATCH], out: &mut [u64; BATCH]) -> u64 {
        for (out, addr) in out.iter_mut().zip(addrs) {
            *out = self.get(*addr);
        }
        out.iter().sum()
    }
    /// With these routes in it.
    fn build(routes: &[Route<B>]) -> Self {
        let mut table = Self::new(routes.len());
        for route in routes {
            table.insert(*route);
        }
        table
    }
}

/// How a table of ours is laid out.
trait Layout<K: LpmKey> {
    /// Cells for that many routes and what else there is.
    fn cells(routes: usize) -> usize;
    fn prepare(lpm: &mut OursOf<K>) -> Result<(), LpmError>;
}

type OursOf<K> = Lpm<K, Box<[LpmNode<K>]>, [LpmRoot; 1]>;

/// For a large table: an index.
struct Internet;
/// One read for most addresses.
struct Direct;
/// For the routes of a cluster: an index of its range.
struct Cluster;

impl Layout<Ipv4Addr> for Internet {
    fn cells(routes: usize) -> usize {
        cells_typical::<Ipv4Addr>(routes) + cells_for_index(18)
    }
    fn prepare(lpm: &mut OursOf<Ipv4Addr>) -> Result<(), LpmError> {
        lpm.reserve_index(0, 18)
    }
}

impl Layout<Ipv6Addr> for Internet {
    fn cells(routes: usize) -> usize {
        cells_typical::<Ipv6Addr>(routes) + cells_for_index(21)
    }
    fn prepare(lpm: &mut OursOf<Ipv6Addr>) -> Result<(), LpmError> {
        lpm.reserve_index_under(0, Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3, 21)
    }
}

impl Layout<Ipv4Addr> for Direct {
    fn cells(routes: usize) -> usize {
        cells_typical::<Ipv4Addr>(routes) + DIRECT_CELLS
    }
    fn prepare(lpm: &mut OursOf<Ipv4Addr>) -> Result<(), LpmError> {
        lpm.reserve_direct(0)
    }
}

impl Layout<Ipv4Addr> for Cluster {
    fn cells(routes: usize) -> usize {
        cells_for(routes) + cells_for_index(16)
    }
    fn prepare(lpm: &mut OursOf<Ipv4Addr>) -> Result<(), LpmError> {
        lpm.reserve_index_under(0, Ipv4Addr::new(10, 0, 0, 0), 8, 16)
    }
}

impl Layout<Ipv6Addr> for Cluster {
    fn cells(routes: usize) -> usize {
        cells_for(routes) + cells_for_index(12)
    }
    fn prepare(lpm: &mut OursOf<Ipv6Addr>) -> Result<(), LpmError> {
        lpm.reserve_index_under(0, Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 0), 48, 12)
    }
}

struct Ours<K: LpmKey, L> {
    lpm: OursOf<K>,
    layout: std::marker::PhantomData<L>,
}

/// An address as our tables take it.
trait Addr: Bits {
    type Key: LpmKey;
    fn addr(self) -> Self::Key;
}

impl Addr for u32 {
    type Key = Ipv4Addr;
    #[inline]
    fn addr(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self)
    }
}

impl Addr for u128 {
    type Key = Ipv6Addr;
    #[inline]
    fn addr(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self)
    }
}

#[inline]
fn number(hop: Option<NextHop>) -> u64 {
    match hop {
        Some(NextHop::Vtep(v)) => v.0.into(),
        _ => 0,
    }
}

impl<B: Addr, L: Layout<B::Key>> Routes<B> for Ours<B::Key, L> {
    fn new(routes: usize) -> Self {
        // A few routes out of a large table are no neighbours.
        let few = if routes < 100_000 { cells_for(routes) } else { 0 };
        let cells = vec![LpmNode::EMPTY; few + L::cells(routes)].into_boxed_slice();
        let mut lpm = Lpm::new(cells, [LpmRoot::EMPTY]).expect("so many cells can be numbered");
        L::prepare(&mut lpm).expect("memory was lent for it");
        Ours { lpm, layout: std::marker::PhantomData }
    }

    fn insert(&mut self, (addr, len, hop): Route<B>) {
        let done = self.lpm.insert(0, addr.addr(), len, NextHop::Vtep(VtepId(hop)));
        done.expect("the memory lent is enough");
    }

    fn remove(&mut self, addr: B, len: u8) -> bool {
        self.lpm.remove(0, addr.addr(), len).is_some()
    }

    #[inline]
    fn get(&self, addr: B) -> u64 {
        number(self.lpm.lookup(0, addr.addr()))
    }

    #[inline]
    fn get_batch(&self, addrs: &[B; BATCH], _: &mut [u64; BATCH]) -> u64 {
        let mut out: Out = [None; BATCH];
        self.lpm.lookup_batch(0, &addrs.map(Addr::addr), &mut out);
        out.iter().map(|hop| number(*hop)).sum()
    }
}

macro_rules! peers {
    ($bits:ty, $addr:ty, $prefix:ty) => {
        impl Routes<$bits> for PrefixMap<($bits, u8), u32> {
            fn new(_: usize) -> Self {
                PrefixMap::new()
            }
            fn insert(&mut self, (addr, len, hop): Route<$bits>) {
                PrefixMap::insert(self, (addr, len), hop.into());
            }
            fn remove(&mut self, addr: $bits, len: u8) -> bool {
                PrefixMap::remove(self, &(addr, len)).is_some()
            }
            #[inline]
            fn get(&self, addr: $bits) -> u64 {
                self.get_lpm(&(addr, <$bits>::LEN)).map_or(0, |(_, hop)| (*hop).into())
            }
        }

        impl Routes<$bits> for LCTrieMap<$prefix, u32> {
            fn new(_: usize) -> Self {
                RTrieMap::with_root(0).compress()
            }
            fn insert(&mut self, _: Route<$bits>) {
                panic!("a static table")
            }
            fn remove(&mut self, _: $bits, _: u8) -> bool {
                panic!("a static table")
            }
            #[inline]
            fn get(&self, addr: $bits) -> u64 {
                (*self.lookup(&<$addr>::from_bits(addr)).1).into()
            }
            fn build(routes: &[Route<$bits>]) -> Self {
                let mut map = RTrieMap::with_root(0);
                for (addr, len, hop) in routes {
                    let prefix = <$prefix>::new(<$addr>::from_bits(*addr), *len).expect("a prefix");
                    map.insert(prefix, (*hop).into());
                }
                map.compress()
            }
        }
    };
}

peers!(u32, Ipv4Addr, iptrie::Ipv4Prefix);
peers!(u128, Ipv6Addr, iptrie::Ipv6Prefix);

impl<B: Addr> Routes<B> for IpLookupTable<B::Key, u32>
where
    B::Key: Address,
{
    fn new(_: usize) -> Self {
        IpLookupTable::new()
    }
    fn insert(&mut self, (addr, len, hop): Route<B>) {
        IpLookupTable::insert(self, addr.addr(), len.into(), hop.into());
    }
    fn remove(&mut self, addr: B, len: u8) -> bool {
        IpLookupTable::remove(self, addr.addr(), len.into()).is_some()
    }
    #[inline]
    fn get(&self, addr: B) -> u64 {
        self.longest_match(addr.addr()).map_or(0, |(_, _, hop)| (*hop).into())
    }
}

/// `what` is family, table and work; `who` may name a layout of ours.
pub(super) fn run(what: &str, table: &str, who: &str, scale: Scale) -> Sample {
    let (family, what) = what.split_once('-').expect("family-work");
    match (family, table) {
        ("v4", _) => {
            let routes = if table == "bgp" { data::bgp_v4(scale.quick) } else { data::k8s_v4(scale.quick) };
            match who {
                "prefix-trie" => measure::<u32, PrefixMap<(u32, u8), u32>>(what, routes, scale),
                "treebitmap" => measure::<u32, IpLookupTable<Ipv4Addr, u32>>(what, routes, scale),
                "iptrie LC-trie" => measure::<u32, LCTrieMap<iptrie::Ipv4Prefix, u32>>(what, routes, scale),
                "ours" if table == "bgp" => measure::<u32, Ours<Ipv4Addr, Internet>>(what, routes, scale),
                "ours direct" => measure::<u32, Ours<Ipv4Addr, Direct>>(what, routes, scale),
                _ => measure::<u32, Ours<Ipv4Addr, Cluster>>(what, routes, scale),
            }
        }
        _ => {
            let routes = if table == "bgp" { data::bgp_v6(scale.quick) } else { data::k8s_v6(scale.quick) };
            match who {
                "prefix-trie" => measure::<u128, PrefixMap<(u128, u8), u32>>(what, routes, scale),
                "treebitmap" => measure::<u128, IpLookupTable<Ipv6Addr, u32>>(what, routes, scale),
                "iptrie LC-trie" => measure::<u128, LCTrieMap<iptrie::Ipv6Prefix, u32>>(what, routes, scale),
                "ours" if table == "bgp" => measure::<u128, Ours<Ipv6Addr, Internet>>(what, routes, scale),
                _ => measure::<u128, Ours<Ipv6Addr, Cluster>>(what, routes, scale),
            }
        }
    }
}

fn measure<B: Bits, T: Routes<B>>(what: &str, routes: Vec<Route<B>>, scale: Scale) -> Sample {
    let (mut table, bytes) = weigh(|| T::build(&routes));
    let hits = data::hits(&routes, scale.queries(if B::LEN == 32 { 1 << 20 } else { 1 << 19 }));
    // Neither the order of insertion nor its reverse.
    let mut order = routes.clone();
    Random(46).shuffle(&mut order);
    let timed = match what {
        "hit" => passes(hits.len(), || hits.iter().map(|addr| table.get(*addr)).sum()),
        "batch" => {
            let (batches, _) = hits.as_chunks::<BATCH>();
            let mut out = [0; BATCH];
            passes(batches.len() * BATCH, || batches.iter().map(|b| table.get_batch(b, &mut out)).sum())
        }
        "insert" => timed_passes(routes.len(), |timer| {
            // Out of a table that was full: neither side takes its memory from the system while timed.
            for (addr, len, _) in &order {
                table.remove(*addr, *len);
            }
            timer.time(|| routes.iter().for_each(|route| table.insert(*route)));
            hits.iter().map(|addr| table.get(*addr)).sum()
        }),
        "delete" => timed_passes(routes.len(), |timer| {
            for route in &routes {
                table.insert(*route);
            }
            timer.time(|| order.iter().map(|(addr, len, _)| u64::from(table.remove(*addr, *len))).sum())
        }),
        _ => panic!("no such work: {what}"),
    };
    timed.sample(bytes)
}
