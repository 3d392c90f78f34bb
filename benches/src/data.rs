//! Routes, addresses and keys: from the committed BGP table, or made from fixed seeds.

use std::collections::HashSet;
use std::io::Read as _;

use flate2::read::GzDecoder;
use overlane::addr::{MacAddr, Vni};

use crate::measure::Random;

/// A route: prefix, length, next hop from 1 to 5000.
pub(crate) type Route<B> = (B, u8, u16);

static PREFIXES: &[u8] = include_bytes!("../data/prefixes.txt.gz");
/// How many prefixes a smoke run takes.
const FEW: usize = 20_000;

/// An address as a number.
pub(crate) trait Bits: Copy + Ord + std::hash::Hash {
    const LEN: u8;
    /// All bits of an address behind the first `len`.
    fn host_mask(len: u8) -> Self;
    fn random(random: &mut Random) -> Self;
    fn merge(self, host: Self, mask: Self) -> Self;
}

impl Bits for u32 {
    const LEN: u8 = 32;
    fn host_mask(len: u8) -> u32 {
        u32::MAX.checked_shr(len.into()).unwrap_or(0)
    }
    fn random(random: &mut Random) -> u32 {
        random.next() as u32
    }
    fn merge(self, host: u32, mask: u32) -> u32 {
        self & !mask | host & mask
    }
}

impl Bits for u128 {
    const LEN: u8 = 128;
    fn host_mask(len: u8) -> u128 {
        u128::MAX.checked_shr(len.into()).unwrap_or(0)
    }
    fn random(random: &mut Random) -> u128 {
        (random.next() as u128) << 64 | random.next() as u128
    }
    fn merge(self, host: u128, mask: u128) -> u128 {
        self & !mask | host & mask
    }
}

fn lines(mut each: impl FnMut(&str, u8)) {
    let mut text = String::new();
    GzDecoder::new(PREFIXES).read_to_string(&mut text).expect("the committed table is whole");
    for line in text.lines() {
        let (addr, len) = line.trim().split_once('/').expect("address/length");
        each(addr, len.parse().expect("a length"));
    }
}

/// Sorted, then shuffled in a way that is the same everywhere; next hops by turns.
fn routes<B: Bits>(mut prefixes: Vec<(B, u8)>, quick: bool) -> Vec<Route<B>> {
    prefixes.sort_unstable();
    prefixes.dedup();
    Random(42).shuffle(&mut prefixes);
    prefixes.truncate(if quick { FEW } else { usize::MAX });
    let hop = |i: usize| (i % 5000 + 1) as u16;
    prefixes.into_iter().enumerate().map(|(i, (addr, len))| (addr, len, hop(i))).collect()
}

/// The IPv4 routes of the BGP table.
pub(crate) fn bgp_v4(quick: bool) -> Vec<Route<u32>> {
    let mut prefixes = Vec::new();
    lines(|addr, len| {
        if let Ok(addr) = addr.parse::<std::net::Ipv4Addr>() {
            prefixes.push((addr.to_bits() & !u32::host_mask(len), len));
        }
    });
    routes(prefixes, quick)
}

/// The IPv6 routes of the BGP table.
pub(crate) fn bgp_v6(quick: bool) -> Vec<Route<u128>> {
    let mut prefixes = Vec::new();
    lines(|addr, len| {
        if let Ok(addr) = addr.parse::<std::net::Ipv6Addr>() {
            prefixes.push((addr.to_bits() & !u128::host_mask(len), len));
        }
    });
    routes(prefixes, quick)
}

/// A cluster of 5,000 nodes: a /24 of 10.0.0.0/8 for each.
pub(crate) fn k8s_v4(quick: bool) -> Vec<Route<u32>> {
    routes((0..5000u32).map(|i| (0x0a00_0000 | i << 8, 24)).collect(), quick)
}

/// A cluster of 5,000 nodes: a /64 of fd00:10:244::/48 for each.
pub(crate) fn k8s_v6(quick: bool) -> Vec<Route<u128>> {
    routes((0..5000u128).map(|i| (0xfd00_0010_0244 << 80 | i << 64, 64)).collect(), quick)
}

/// Addresses below the routes: a random route and random host bits for each.
pub(crate) fn hits<B: Bits>(routes: &[Route<B>], count: usize) -> Vec<B> {
    let mut random = Random(43);
    let mut hit = || {
        let (addr, len, _) = routes[random.below(routes.len())];
        addr.merge(B::random(&mut random), B::host_mask(len))
    };
    (0..count).map(|_| hit()).collect()
}

/// A station: the key of an FDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Station {
    pub(crate) mac: MacAddr,
    pub(crate) vni: Vni,
}

/// Stations that a table holds, and queries that hit or miss them.
pub(crate) struct Stations {
    pub(crate) held: Vec<Station>,
    pub(crate) hits: Vec<Station>,
    pub(crate) misses: Vec<Station>,
}

/// Random MAC addresses in one VNI for every 64 of them (at least 16 VNIs).
pub(crate) fn stations(count: usize, queries: usize) -> Stations {
    let mut random = Random(count as u64);
    let vnis = (count as u64 / 64).max(16);
    // The first octet keeps those that are held apart from those that are not.
    let mut station = |first: u8| {
        let r = random.next();
        let [a, b, c, d, e, ..] = r.to_le_bytes();
        let vni = (random.next() % vnis).wrapping_mul(0x9e37_79b1) as u32;
        Station { mac: MacAddr([first, a, b, c, d, e]), vni: Vni::truncate(vni & 0xff_ffff) }
    };
    let (mut held, mut seen) = (Vec::with_capacity(count), HashSet::with_capacity(count));
    while held.len() < count {
        let new = station(2);
        if seen.insert(new) {
            held.push(new);
        }
    }
    let misses = (0..queries).map(|_| station(6)).collect();
    let mut random = Random(44);
    let hits = (0..queries).map(|_| held[random.below(count)]).collect();
    Stations { held, hits, misses }
}
