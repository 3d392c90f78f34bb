//! Each function here is one call of the data path over the heap's tables, under a name that
//! survives compilation.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlane::addr::{Destination, MacAddr, NextHop, PortId, Vni};
use overlane::engine::{Context, Counters, Engine, Event, Explanation, Frame, Heap, Replica, Tables};
use overlane::error::{DropReason, ParseError, PortError};
use overlane::table::fdb::{
    Crossed, Crossing, EntryKind, Fdb, Learned, Quota, Sighting, SlotGroup, TagGroup,
};
use overlane::time::Instant;
use overlane::wire::inner::Inner;
use overlane::wire::outer::{self, Outer, OuterPolicy, Shape};
use overlane::wire::reply;
use overlane::wire::template::{Fields, Header, Template};
use overlane::wire::vxlan::{VxlanHeader, VxlanPolicy};

type OwnFdb = Fdb<Box<[TagGroup]>, Box<[SlotGroup]>, Box<[Quota]>, Box<[Quota]>>;

macro_rules! hot {
    ($(fn $name:ident($($arg:ident: $t:ty),*) -> $r:ty $body:block)*) => {
        $(
            #[unsafe(no_mangle)]
            #[inline(never)]
            pub fn $name($($arg: $t),*) -> $r $body
        )*
    };
}

hot! {
    fn hot_encap(e: &mut Engine<Heap>, now: Instant, port: PortId, frames: &mut [Frame<'_>]) -> Result<(), PortError> {
        e.encap(now, port, frames)
    }
    fn hot_decap(e: &mut Engine<Heap>, now: Instant, frames: &mut [Frame<'_>]) -> () {
        e.decap(now, frames)
    }
    fn hot_shared_encap(t: &Tables<Heap>, c: &mut Context<Heap>, now: Instant, port: PortId, frames: &mut [Frame<'_>]) -> Result<(), PortError> {
        t.encap(now, c, port, frames)
    }
    fn hot_shared_decap(t: &Tables<Heap>, c: &mut Context<Heap>, now: Instant, frames: &mut [Frame<'_>]) -> () {
        t.decap(now, c, frames)
    }
    fn hot_merge(e: &mut Engine<Heap>, now: Instant, worker: &mut Context<Heap>) -> () {
        e.merge(now, worker)
    }
    fn hot_replicas(e: &Engine<Heap>, frame: &Frame<'_>, each: fn(Replica)) -> () {
        for replica in e.replicas(frame) {
            each(replica)
        }
    }
    fn hot_handle_timeout(e: &mut Engine<Heap>, now: Instant, budget: usize) -> usize {
        e.handle_timeout(now, budget)
    }
    fn hot_next_timeout(e: &Engine<Heap>) -> Option<Instant> {
        e.next_timeout()
    }
    fn hot_poll_event(e: &mut Engine<Heap>) -> Option<Event> {
        e.poll_event()
    }
    fn hot_counters(e: &Engine<Heap>) -> &Counters {
        e.counters()
    }
    fn hot_count_drop(e: &mut Engine<Heap>, reason: DropReason, vni: Vni, port: PortId) -> () {
        e.count_drop(reason, Some(vni), None, Some(port))
    }
    fn hot_explain_decap(e: &Engine<Heap>, now: Instant, from: Option<IpAddr>, ecn: u8, packet: &[u8]) -> Explanation {
        e.explain_decap(now, from, ecn, packet)
    }
    fn hot_fdb_lookup(t: &Tables<Heap>, now: Instant, vni: Vni, mac: MacAddr) -> Option<Destination> {
        t.fdb().lookup(now, vni, mac)
    }
    fn hot_fdb_lookup_batch(t: &Tables<Heap>, now: Instant, keys: &[(Vni, MacAddr)], out: &mut [Option<Destination>]) -> () {
        t.fdb().lookup_batch(now, keys, out)
    }
    fn hot_fdb_learn(fdb: &mut OwnFdb, now: Instant, vni: Vni, mac: MacAddr, from: Destination) -> Learned {
        fdb.learn(now, vni, mac, from, EntryKind::Learned)
    }
    fn hot_fdb_learn_batch(fdb: &mut OwnFdb, now: Instant, seen: &[Sighting], each: fn(&Sighting, Learned)) -> () {
        fdb.learn_batch(now, seen, each)
    }
    fn hot_fdb_cross_batch(t: &Tables<Heap>, now: Instant, frames: &[Crossing], out: &mut [Crossed]) -> () {
        t.fdb().cross_batch(now, frames, out)
    }
    fn hot_lpm_v4(t: &Tables<Heap>, table: u32, addr: Ipv4Addr) -> Option<NextHop> {
        t.routes_v4().lookup(table, addr)
    }
    fn hot_lpm_v6(t: &Tables<Heap>, table: u32, addr: Ipv6Addr) -> Option<NextHop> {
        t.routes_v6().lookup(table, addr)
    }
    fn hot_lpm_v4_batch(t: &Tables<Heap>, table: u32, addrs: &[Ipv4Addr], out: &mut [Option<NextHop>]) -> () {
        t.routes_v4().lookup_batch(table, addrs, out)
    }
    fn hot_lpm_v6_batch(t: &Tables<Heap>, table: u32, addrs: &[Ipv6Addr], out: &mut [Option<NextHop>]) -> () {
        t.routes_v6().lookup_batch(table, addrs, out)
    }
    fn hot_vxlan_parse(bytes: &[u8], policy: &VxlanPolicy) -> Result<VxlanHeader, ParseError> {
        VxlanHeader::parse(bytes, policy)
    }
    fn hot_outer_parse(shape: Shape, packet: &[u8], policy: &OuterPolicy) -> Result<Outer, ParseError> {
        outer::parse(shape, packet, policy)
    }
    fn hot_classify(frame: &[u8]) -> Result<Inner, ParseError> {
        Inner::classify(frame)
    }
    fn hot_flow_hash(inner: &Inner) -> u32 {
        inner.flow_hash(0)
    }
    fn hot_template_write(t: &Template, packet: &mut [u8], fields: &Fields) -> Option<()> {
        t.write(packet, fields)
    }
    fn hot_template_header(t: &Template, inner: &[u8], fields: &Fields) -> Option<Header> {
        t.header(inner, fields)
    }
    fn hot_arp_reply(request: &[u8], mac: MacAddr, out: &mut [u8]) -> Option<usize> {
        reply::arp_reply(request, mac, out)
    }
    fn hot_neighbor_advertisement(solicitation: &[u8], mac: MacAddr, out: &mut [u8]) -> Option<usize> {
        reply::neighbor_advertisement(solicitation, mac, out)
    }
}

/// Panics where `i` is out of bounds: the test must find that out.
#[unsafe(no_mangle)]
#[inline(never)]
pub fn control_may_panic(bytes: &[u8], i: usize) -> u8 {
    bytes[i]
}

/// Allocates: the test must find that out.
#[unsafe(no_mangle)]
#[inline(never)]
pub fn control_may_allocate(n: u64) -> Box<u64> {
    Box::new(n)
}
