//! The functions that are counted, each under a name of its own that survives compilation.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlane::addr::{Destination, MacAddr, NextHop, PortId, Vni, VtepId};
use overlane::engine::{
    Capacity, Command, Context, ContextParts, Engine, Frame, HEADROOM, Heap, Replica, Tables, Verdict,
};
use overlane::error::{ParseError, PortError};
use overlane::table::fdb::{
    EntryKind, Fdb, Learned, Probe, Quota, Sighting, SlotGroup, TagGroup, groups_for,
};
use overlane::table::lpm::{
    DIRECT_CELLS, Lpm, LpmError, LpmKey, LpmNode, LpmRoot, cells_for, cells_for_index,
};
use overlane::table::vni::VniIndex;
use overlane::table::{Seed, VniTable};
use overlane::time::Instant;
use overlane::wire::inner::{Flow, Inner};
use overlane::wire::outer::{self, Outer, OuterPolicy, Shape};
use overlane::wire::template::{Fields, Template, TemplateConfig, UdpChecksum};

use crate::setup::*;

/// A function that is counted.
pub struct Hot {
    /// As the baseline names it.
    pub name: &'static str,
    /// A part of its symbol that nothing else has.
    pub symbol: &'static str,
    run: fn() -> usize,
}

pub const LONGEST_NAME: usize = 40;

type VniTableOf = VniTable<Box<[overlane::table::IndexSlot]>, Box<[overlane::table::VniSlot]>>;

macro_rules! counted {
    ($(fn $name:ident($($arg:ident: $t:ty),* $(,)?) -> $r:ty $body:block)*) => {
        $(
            #[inline(never)]
            fn $name($($arg: $t),*) -> $r $body
        )*
    };
}

counted! {
    fn counted_encap(t: &Tables<Heap>, c: &mut Context<Heap>, frames: &mut [Frame<'_>]) -> Result<(), PortError> {
        t.encap(NOW, c, PortId(0), frames)
    }
    fn counted_decap(t: &Tables<Heap>, c: &mut Context<Heap>, frames: &mut [Frame<'_>]) -> () {
        t.decap(NOW, c, frames)
    }
    fn counted_replicas_from(t: &Tables<Heap>, frame: &Frame<'_>, first: usize) -> Option<(usize, Replica)> {
        t.replicas_from(frame, first).next()
    }
    fn counted_fdb_lookup(t: &Tables<Heap>, mac: MacAddr) -> Option<Destination> {
        t.fdb().lookup(NOW, BRIDGE, mac)
    }
    fn counted_fdb_probe(t: &Tables<Heap>, mac: MacAddr, at: Destination) -> Probe {
        t.fdb().probe(NOW, BRIDGE, mac, at)
    }
    fn counted_fdb_learn(fdb: &mut OwnFdb, now: Instant, mac: MacAddr, at: Destination) -> Learned {
        fdb.learn(now, BRIDGE, mac, at, EntryKind::Learned)
    }
    fn counted_fdb_learn_batch(fdb: &mut OwnFdb, now: Instant, seen: &[Sighting], learned: &mut usize) -> () {
        fdb.learn_batch(now, seen, |_, l| *learned += usize::from(l == Learned::Refreshed))
    }
    fn counted_lpm_v4(t: &Tables<Heap>, table: u32, addr: Ipv4Addr) -> Option<NextHop> {
        t.routes_v4().lookup(table, addr)
    }
    fn counted_lpm_v6(t: &Tables<Heap>, table: u32, addr: Ipv6Addr) -> Option<NextHop> {
        t.routes_v6().lookup(table, addr)
    }
    fn counted_batch_v4(routes: &OwnRoutes<Ipv4Addr>, addrs: &[Ipv4Addr], out: &mut [Option<NextHop>]) -> () {
        routes.lookup_batch(0, addrs, out)
    }
    fn counted_batch_v6(routes: &OwnRoutes<Ipv6Addr>, addrs: &[Ipv6Addr], out: &mut [Option<NextHop>]) -> () {
        routes.lookup_batch(0, addrs, out)
    }
    fn counted_flow_of(frame: &[u8]) -> Result<Flow, ParseError> {
        Flow::of(frame, 0)
    }
    fn counted_classify(frame: &[u8]) -> Result<Inner, ParseError> {
        Inner::classify(frame)
    }
    fn counted_outer_parse(packet: &[u8], policy: &OuterPolicy) -> Result<Outer, ParseError> {
        outer::parse(Shape::Ethernet, packet, policy)
    }
    fn counted_template_write(t: &Template, packet: &mut [u8], fields: &Fields) -> Option<()> {
        t.write(packet, fields)
    }
    fn counted_vni_index_of(vnis: &VniTableOf, vni: Vni) -> Option<VniIndex> {
        vnis.index_of(vni)
    }
    fn counted_vtep_by_addr(t: &Tables<Heap>, addr: IpAddr) -> Option<VtepId> {
        t.vteps().by_addr(addr)
    }
}

type OwnRoutes<K> = Lpm<K, Vec<LpmNode<K>>, [LpmRoot; 1]>;
type OwnFdb = Fdb<Vec<TagGroup>, Vec<SlotGroup>, [Quota; 1], [Quota; 200]>;

pub const ALL: &[Hot] = &[
    Hot { name: "Tables::encap, a frame in 32", symbol: "counted_encap", run: encap },
    Hot { name: "Tables::decap, a packet in 32", symbol: "counted_decap", run: decap },
    Hot { name: "Tables::encap, UDP shape", symbol: "counted_encap", run: encap_udp },
    Hot { name: "Tables::decap, UDP shape", symbol: "counted_decap", run: decap_udp },
    Hot {
        name: "Tables::replicas_from, the last of 200",
        symbol: "counted_replicas_from",
        run: replicas_from,
    },
    Hot { name: "Fdb::lookup, hit", symbol: "counted_fdb_lookup", run: fdb_hit },
    Hot { name: "Fdb::lookup, miss", symbol: "counted_fdb_lookup", run: fdb_miss },
    Hot { name: "Fdb::probe, fresh", symbol: "counted_fdb_probe", run: fdb_probe },
    Hot { name: "Fdb::learn, new", symbol: "counted_fdb_learn", run: fdb_new },
    Hot { name: "Fdb::learn, refresh", symbol: "counted_fdb_learn", run: fdb_refresh },
    Hot { name: "Fdb::learn_batch, refresh", symbol: "counted_fdb_learn_batch", run: fdb_refresh_batch },
    Hot {
        name: "Fdb::learn_batch, refresh, large table",
        symbol: "counted_fdb_learn_batch",
        run: fdb_refresh_far,
    },
    Hot { name: "Lpm::lookup, IPv4", symbol: "counted_lpm_v4", run: lpm_v4 },
    Hot { name: "Lpm::lookup, IPv6", symbol: "counted_lpm_v6", run: lpm_v6 },
    Hot { name: "Lpm::lookup_batch, IPv4", symbol: "counted_batch_v4", run: lpm_v4_batch },
    Hot { name: "Lpm::lookup_batch, IPv4 direct", symbol: "counted_batch_v4", run: lpm_v4_direct_batch },
    Hot { name: "Lpm::lookup_batch, IPv6", symbol: "counted_batch_v6", run: lpm_v6_batch },
    Hot { name: "Flow::of", symbol: "counted_flow_of", run: flow_of },
    Hot { name: "Inner::classify", symbol: "counted_classify", run: classify },
    Hot { name: "outer::parse", symbol: "counted_outer_parse", run: outer_parse },
    Hot { name: "Template::write", symbol: "counted_template_write", run: template_write },
    Hot { name: "VniTable::index_of", symbol: "counted_vni_index_of", run: vni_index_of },
    Hot { name: "VtepTable::by_addr", symbol: "counted_vtep_by_addr", run: vtep_by_addr },
];

/// Runs the function of that name; how many units of work it was.
pub fn run(name: &str) -> Result<usize, String> {
    let hot = ALL.iter().find(|hot| hot.name == name).ok_or_else(|| format!("no such function: {name}"))?;
    Ok((hot.run)())
}

/// Counts how often `call` says that it did what it should, which must be always.
fn all(mut call: impl FnMut(usize) -> bool) -> usize {
    let done = (0..N).filter(|n| black_box(call(black_box(*n)))).count();
    assert_eq!(done, N, "the function did something else");
    done
}

fn context() -> Context<Heap> {
    Context::new(ContextParts::with_capacity(&Capacity::default())).expect("there is memory")
}

/// Hands packets over in batches, each lying where `start` says.
fn batches(start: usize, mut hand_over: impl FnMut(&mut [Frame<'_>])) -> usize {
    let mut buffers: Vec<_> = (0..N).map(packet).collect();
    for (batch, buffers) in buffers.chunks_exact_mut(BATCH).enumerate() {
        let frame = |(n, buffer)| {
            let frame = Frame::new(buffer, start..HEADROOM + INNER).expect("within the buffer");
            frame.with_source(vtep_addr(batch * BATCH + n).into())
        };
        let buffers = buffers.iter_mut().map(|buffer| &mut buffer[..]);
        let mut frames: Vec<Frame<'_>> = buffers.enumerate().map(frame).collect();
        hand_over(&mut frames);
    }
    N
}

fn encap_of(shape: Shape) -> usize {
    let (engine, mut context) = (engine_of(shape), context());
    batches(HEADROOM, |frames| {
        // From pods to those behind the VTEPs: the other way round than the packets are made.
        for frame in frames.iter_mut() {
            if let Some(macs) = frame.bytes_mut().get_mut(..12) {
                macs.rotate_left(6);
            }
        }
        counted_encap(engine.tables(), &mut context, frames).expect("the port is there");
        assert!(frames.iter().all(|f| matches!(f.verdict(), Some(Verdict::ToUnderlay(_)))));
    })
}

fn decap_of(shape: Shape, headers: usize) -> usize {
    let (engine, mut context) = (engine_of(shape), context());
    batches(HEADROOM - headers, |frames| {
        counted_decap(engine.tables(), &mut context, frames);
        assert!(frames.iter().all(|f| matches!(f.verdict(), Some(Verdict::ToPort(_)))));
    })
}

fn encap() -> usize {
    encap_of(Shape::Ethernet)
}

fn decap() -> usize {
    decap_of(Shape::Ethernet, OUTER)
}

fn encap_udp() -> usize {
    encap_of(Shape::Udp)
}

fn decap_udp() -> usize {
    decap_of(Shape::Udp, overlane::wire::vxlan::HEADER_LEN)
}

fn replicas_from() -> usize {
    let (mut engine, mut buffer) = (engine(), packet(0));
    for n in 0..200 {
        let member = Command::AddFlood { vni: BRIDGE, vtep: vtep_of(n) };
        engine.apply(NOW, &member).expect("there is room");
    }
    buffer[HEADROOM..HEADROOM + 6].fill(0xff);
    let mut frames = [Frame::new(&mut buffer, HEADROOM..HEADROOM + INNER).expect("within the buffer")];
    engine.encap(NOW, PortId(0), &mut frames).expect("the port is there");
    // The port that it came from has the first place.
    all(|_| matches!(counted_replicas_from(engine.tables(), &frames[0], 200), Some((201, _))))
}

fn fdb_hit() -> usize {
    let engine = engine();
    all(|n| counted_fdb_lookup(engine.tables(), remote(n)).is_some())
}

fn fdb_miss() -> usize {
    let engine = engine();
    all(|n| counted_fdb_lookup(engine.tables(), stranger(n)).is_none())
}

fn fdb_probe() -> usize {
    let engine = engine();
    let probe = |n| counted_fdb_probe(engine.tables(), remote(n), Destination::Vtep(vtep_of(n)));
    all(|n| probe(n) == Probe::Fresh)
}

fn own_fdb() -> OwnFdb {
    own_fdb_of(groups_for(2 * N))
}

fn own_fdb_of(groups: usize) -> OwnFdb {
    Fdb::new(
        vec![TagGroup::EMPTY; groups],
        vec![SlotGroup::EMPTY; groups],
        [Quota::UNLIMITED; 1],
        [Quota::UNLIMITED; 200],
        Seed::fixed(1),
        std::time::Duration::from_secs(300),
    )
    .expect("groups of one number")
}

fn fdb_new() -> usize {
    let mut fdb = own_fdb();
    let mut learn = |n| counted_fdb_learn(&mut fdb, NOW, remote(n), Destination::Vtep(vtep_of(n)));
    all(|n| matches!(learn(n), Learned::New { .. }))
}

fn fdb_refresh() -> usize {
    let mut fdb = own_fdb();
    for n in 0..N {
        fdb.learn(Instant::ZERO, BRIDGE, remote(n), Destination::Vtep(vtep_of(n)), EntryKind::Learned);
    }
    let mut learn = |n| counted_fdb_learn(&mut fdb, NOW, remote(n), Destination::Vtep(vtep_of(n)));
    all(|n| learn(n) == Learned::Refreshed)
}

fn refresh_in_batches(mut fdb: OwnFdb) -> usize {
    let sighting = |n| Sighting { vni: BRIDGE, mac: remote(n), from: Destination::Vtep(vtep_of(n)) };
    let seen: Vec<_> = (0..N).map(sighting).collect();
    for s in &seen {
        fdb.learn(Instant::ZERO, s.vni, s.mac, s.from, EntryKind::Learned);
    }
    let mut learned = 0;
    for seen in seen.chunks_exact(BATCH) {
        counted_fdb_learn_batch(&mut fdb, NOW, seen, &mut learned);
    }
    assert_eq!(learned, N, "the function did something else");
    N
}

fn fdb_refresh_batch() -> usize {
    refresh_in_batches(own_fdb())
}

fn fdb_refresh_far() -> usize {
    refresh_in_batches(own_fdb_of(groups_for(300_000)))
}

fn router(engine: &Engine<Heap>) -> u32 {
    engine.tables().vnis().index_of(ROUTER).expect("the VNI is there").0
}

fn lpm_v4() -> usize {
    let engine = engine();
    let table = router(&engine);
    all(|n| counted_lpm_v4(engine.tables(), table, v4(n)).is_some())
}

fn lpm_v6() -> usize {
    let engine = engine();
    let table = router(&engine);
    all(|n| counted_lpm_v6(engine.tables(), table, v6(n)).is_some())
}

/// Looks all addresses up in batches, in a table whose first bits have an index.
fn lpm_batches<K: LpmKey>(
    cells: usize,
    reserve: impl FnOnce(&mut OwnRoutes<K>) -> Result<(), LpmError>,
    addr: impl Fn(usize) -> K,
    lens: [u8; 2],
    mut look_up: impl FnMut(&OwnRoutes<K>, &[K], &mut [Option<NextHop>]),
) -> usize {
    let cells = vec![LpmNode::EMPTY; cells_for(N) + cells];
    let mut routes = Lpm::new(cells, [LpmRoot::EMPTY]).expect("so many cells can be numbered");
    reserve(&mut routes).expect("there is memory");
    for n in 0..N {
        let done = routes.insert(0, addr(n), lens[n % 2], NextHop::Vtep(vtep_of(n)));
        done.expect("there is room");
    }
    let addrs: Vec<K> = (0..N).map(addr).collect();
    for addrs in addrs.chunks_exact(BATCH) {
        let mut out = [None; BATCH];
        look_up(&routes, black_box(addrs), &mut out);
        assert!(out.iter().all(Option::is_some));
    }
    N
}

fn lpm_v4_batch() -> usize {
    let index = |routes: &mut OwnRoutes<_>| routes.reserve_index(0, 18);
    lpm_batches(cells_for_index(18), index, v4, [22, 24], counted_batch_v4)
}

fn lpm_v4_direct_batch() -> usize {
    let answers = |routes: &mut OwnRoutes<_>| routes.reserve_direct(0);
    lpm_batches(DIRECT_CELLS, answers, v4, [22, 24], counted_batch_v4)
}

fn lpm_v6_batch() -> usize {
    let index = |routes: &mut OwnRoutes<_>| routes.reserve_index(0, 18);
    lpm_batches(cells_for_index(18), index, v6, [44, 48], counted_batch_v6)
}

fn flow_of() -> usize {
    all(|n| counted_flow_of(&frame(local(n), remote(n))).is_ok())
}

fn classify() -> usize {
    all(|n| counted_classify(&frame(local(n), remote(n))).is_ok_and(|inner| inner.ports.is_some()))
}

fn outer_parse() -> usize {
    let policy = OuterPolicy::default();
    all(|n| counted_outer_parse(&packet(n)[HEADROOM - OUTER..], &policy).is_ok())
}

fn template_write() -> usize {
    let config = TemplateConfig {
        shape: Shape::Ethernet,
        local: LOCAL.into(),
        remote: vtep_addr(1).into(),
        remote_port: 4789,
        local_mac: LOCAL_MAC,
        remote_mac: mac(2, 0),
        ttl: 64,
        dscp: 0,
        dont_fragment: true,
        udp_checksum: UdpChecksum::Zero,
    };
    let template = Template::new(&config).expect("a template for a VTEP");
    let fields = Fields { vni: BRIDGE, source_port: 50_000, ..Fields::default() };
    all(|n| counted_template_write(&template, &mut packet(n)[HEADROOM - OUTER..], &fields).is_some())
}

fn vni_index_of() -> usize {
    let engine = engine();
    all(|n| counted_vni_index_of(engine.tables().vnis(), other_vni(n)).is_some())
}

fn vtep_by_addr() -> usize {
    let engine = engine();
    all(|n| counted_vtep_by_addr(engine.tables(), vtep_addr(n).into()).is_some())
}
