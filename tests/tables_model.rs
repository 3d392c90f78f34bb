//! The VNI, VTEP, port and flood tables against naive models, by sequences of operations.
//!
//! Every sequence runs over inline, borrowed and boxed memory. After every operation its result
//! and the whole table are compared with the model's, so that a refusal which changes something
//! fails here as well.
#![cfg(feature = "alloc")]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlane::addr::{Destination, MacAddr, PortId, Vni, VtepId};
use overlane::error::{FloodError, PortError, VniError, VtepError};
use overlane::table::{
    FloodHead, FloodNode, FloodTable, IndexSlot, Mode, Origin, Port, PortConfig, PortSlot, PortTable, Seed,
    Store, VniConfig, VniEntry, VniIndex, VniSlot, VniTable, Vtep, VtepConfig, VtepSlot, VtepTable,
    flood_nodes_for, index_slots_for,
};
use proptest::prelude::*;

/// One record more than a word of the free-id tree has bits.
const CAPACITY: usize = 65;
const SLOTS: usize = index_slots_for(CAPACITY);
/// Keys to draw from: more than fit.
const KEYS: u16 = 90;

fn config() -> ProptestConfig {
    ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() }
}

/// Runs `$run(table, $ops)` over the three kinds of memory.
macro_rules! every_store {
    ($table:ident($($memory:expr, $n:expr);+ $(, $seed:expr)?), $run:ident, $ops:expr) => {{
        $run($table::new($([$memory; $n]),+ $(, $seed)?).unwrap(), $ops)?;
        $run($table::new($(&mut [$memory; $n][..]),+ $(, $seed)?).unwrap(), $ops)?;
        $run($table::new($(vec![$memory; $n].into_boxed_slice()),+ $(, $seed)?).unwrap(), $ops)?;
    }};
}

fn lowest_free<T>(records: &[Option<T>]) -> Option<usize> {
    records.iter().position(Option::is_none)
}

fn bad_or_good_mac() -> impl Strategy<Value = MacAddr> {
    prop_oneof![
        8 => (1u64..=0xffff).prop_map(|n| MacAddr::from_u64(0x0200_0000_0000 | n)),
        1 => Just(MacAddr::ZERO),
        1 => Just(MacAddr::BROADCAST),
    ]
}

// VNIs.

#[derive(Debug, Clone)]
enum VniOp {
    Insert(u16, VniConfig),
    Set(u16, VniConfig),
    Remove(u16),
    /// Every key in turn, from this one on.
    Fill(u16),
    /// Every other key, or every key.
    Drain(u16),
}

fn vni_config() -> impl Strategy<Value = VniConfig> {
    (proptest::option::of(bad_or_good_mac()), any::<bool>(), proptest::option::of(any::<u16>())).prop_map(
        |(mac, learning, group_policy)| VniConfig {
            learning,
            group_policy,
            ..mac.map_or(VniConfig::BRIDGED, VniConfig::routed)
        },
    )
}

fn vni_op() -> impl Strategy<Value = VniOp> {
    prop_oneof![
        8 => (0..KEYS, vni_config()).prop_map(|(k, c)| VniOp::Insert(k, c)),
        3 => (0..KEYS, vni_config()).prop_map(|(k, c)| VniOp::Set(k, c)),
        6 => (0..KEYS).prop_map(VniOp::Remove),
        1 => (0..KEYS).prop_map(VniOp::Fill),
        1 => (1u16..=2).prop_map(VniOp::Drain),
    ]
}

/// Sparse identifiers with both ends of the range.
fn vni(key: u16) -> Vni {
    if key == 0 { Vni::MAX } else { Vni::truncate(u32::from(key - 1).wrapping_mul(0x9e_3779)) }
}

#[derive(Default)]
struct VniModel(Vec<Option<VniEntry>>);

impl VniModel {
    fn id(&self, vni: Vni) -> Option<usize> {
        self.0.iter().position(|e| e.is_some_and(|e| e.vni == vni))
    }

    fn check(config: &VniConfig) -> Result<(), VniError> {
        match config.mode {
            Mode::Routed { router_mac: m } if m.0[0] & 1 == 1 || m == MacAddr::ZERO => {
                Err(VniError::RouterMac(m))
            }
            _ => Ok(()),
        }
    }

    fn insert(&mut self, vni: Vni, config: VniConfig) -> Result<VniIndex, VniError> {
        Self::check(&config)?;
        if self.id(vni).is_some() {
            return Err(VniError::Exists(vni));
        }
        let id = lowest_free(&self.0).ok_or(VniError::Full(vni))?;
        self.0[id] = Some(VniEntry { vni, config });
        Ok(VniIndex(id as u32))
    }

    fn set(&mut self, vni: Vni, config: VniConfig) -> Result<VniConfig, VniError> {
        Self::check(&config)?;
        let id = self.id(vni).ok_or(VniError::Unknown(vni))?;
        let old = self.0[id].replace(VniEntry { vni, config });
        Ok(old.unwrap().config)
    }

    fn remove(&mut self, vni: Vni) -> Result<VniIndex, VniError> {
        let id = self.id(vni).ok_or(VniError::Unknown(vni))?;
        self.0[id] = None;
        Ok(VniIndex(id as u32))
    }
}

fn run_vni<I, R>(mut table: VniTable<I, R>, ops: &[VniOp]) -> Result<(), TestCaseError>
where
    I: Store<IndexSlot>,
    R: Store<VniSlot>,
{
    prop_assert_eq!(table.capacity(), CAPACITY);
    let mut model = VniModel(vec![None; CAPACITY]);
    for op in ops {
        match *op {
            VniOp::Insert(k, c) => prop_assert_eq!(table.insert(vni(k), c), model.insert(vni(k), c)),
            VniOp::Set(k, c) => prop_assert_eq!(table.set(vni(k), c), model.set(vni(k), c)),
            VniOp::Remove(k) => prop_assert_eq!(table.remove(vni(k)), model.remove(vni(k))),
            VniOp::Fill(from) => {
                for v in (0..KEYS).map(|k| vni((k + from) % KEYS)) {
                    prop_assert_eq!(table.insert(v, VniConfig::BRIDGED), model.insert(v, VniConfig::BRIDGED));
                }
                prop_assert_eq!(table.len(), table.capacity());
            }
            VniOp::Drain(step) => {
                for v in (0..KEYS).step_by(step.into()).map(vni) {
                    prop_assert_eq!(table.remove(v), model.remove(v));
                }
            }
        }
        let entries = model.0.iter().enumerate();
        let expected: Vec<_> = entries.filter_map(|(i, e)| Some((VniIndex(i as u32), (*e)?))).collect();
        prop_assert_eq!(table.iter().map(|(i, e)| (i, *e)).collect::<Vec<_>>(), &expected[..]);
        prop_assert_eq!(table.len(), expected.len());
        prop_assert_eq!(table.is_empty(), expected.is_empty());
        for v in (0..KEYS).map(vni) {
            prop_assert_eq!(table.index_of(v), model.id(v).map(|i| VniIndex(i as u32)));
        }
        for (i, e) in model.0.iter().enumerate() {
            prop_assert_eq!(table.get(VniIndex(i as u32)), e.as_ref());
        }
        prop_assert_eq!(table.get(VniIndex(CAPACITY as u32)), None);
    }
    Ok(())
}

// VTEPs.

#[derive(Debug, Clone)]
enum VtepOp {
    Insert(VtepConfig, Origin),
    Set(u16, VtepConfig),
    SetOrigin(u16, Origin),
    Remove(u16),
    AddRoute(u16),
    RemoveRoute(u16),
    Fill(u16),
    /// All without routes, by ascending id.
    Drain,
}

/// A third each IPv4, IPv4-mapped (meaning the address before it) and IPv6.
fn addr(key: u16) -> IpAddr {
    let n = key / 3;
    let v4 = Ipv4Addr::new(192, 0, (n >> 8) as u8, n as u8 + 1);
    match key % 3 {
        0 => v4.into(),
        1 => v4.to_ipv6_mapped().into(),
        _ => Ipv6Addr::new(0x2001, 0xdb8, n, 0, 0, 0, 0, n).into(),
    }
}

/// One key in three means the same address as its neighbour, so draw from half as many more.
const ADDRS: u16 = KEYS * 3 / 2;

fn any_addr() -> impl Strategy<Value = IpAddr> {
    const BAD: &[&str] =
        &["0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1", "::ffff:0.0.0.0", "::ffff:239.1.1.1"];
    prop_oneof![
        12 => (0..ADDRS).prop_map(addr),
        1 => proptest::sample::select(BAD).prop_map(|a| a.parse().unwrap()),
    ]
}

fn vtep_config() -> impl Strategy<Value = VtepConfig> {
    let port = prop_oneof![12 => Just(4789u16), 1 => Just(0)];
    let mtu = prop_oneof![4 => Just(0u16), 4 => Just(1500), 1 => Just(128), 1 => 1u16..128];
    (any_addr(), port, mtu, any::<u32>()).prop_map(|(addr, port, mtu, learn_limit)| VtepConfig {
        mtu,
        learn_limit,
        ..VtepConfig::new(addr, port)
    })
}

fn origin() -> impl Strategy<Value = Origin> {
    proptest::sample::select(&[Origin::Configured, Origin::Learned][..])
}

fn id() -> core::ops::Range<u16> {
    0..CAPACITY as u16 + 2
}

fn vtep_op() -> impl Strategy<Value = VtepOp> {
    prop_oneof![
        10 => (vtep_config(), origin()).prop_map(|(c, o)| VtepOp::Insert(c, o)),
        4 => (id(), vtep_config()).prop_map(|(i, c)| VtepOp::Set(i, c)),
        1 => (id(), origin()).prop_map(|(i, o)| VtepOp::SetOrigin(i, o)),
        6 => id().prop_map(VtepOp::Remove),
        2 => id().prop_map(VtepOp::AddRoute),
        4 => id().prop_map(VtepOp::RemoveRoute),
        1 => (0..ADDRS).prop_map(VtepOp::Fill),
        1 => Just(VtepOp::Drain),
    ]
}

struct VtepModel {
    records: Vec<Option<Vtep>>,
    epochs: Vec<u32>,
}

impl VtepModel {
    fn canonical(addr: IpAddr) -> IpAddr {
        match addr {
            IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(addr, IpAddr::V4),
            IpAddr::V4(_) => addr,
        }
    }

    fn by_addr(&self, addr: IpAddr) -> Option<usize> {
        let addr = Self::canonical(addr);
        self.records.iter().position(|v| v.is_some_and(|v| v.config.addr == addr))
    }

    fn check(config: VtepConfig) -> Result<VtepConfig, VtepError> {
        let addr = Self::canonical(config.addr);
        let broadcast = addr == IpAddr::from([255; 4]);
        if addr.is_multicast() || addr.is_unspecified() || broadcast {
            Err(VtepError::Address(addr))
        } else if config.port == 0 {
            Err(VtepError::Port)
        } else if (1..=127).contains(&config.mtu) {
            Err(VtepError::Mtu(config.mtu))
        } else {
            Ok(VtepConfig { addr, ..config })
        }
    }

    fn get(&mut self, id: u16) -> Result<&mut Vtep, VtepError> {
        let record = self.records.get_mut(usize::from(id)).and_then(Option::as_mut);
        record.ok_or(VtepError::Unknown(VtepId(id)))
    }

    fn insert(&mut self, config: VtepConfig, origin: Origin) -> Result<VtepId, VtepError> {
        let config = Self::check(config)?;
        if self.by_addr(config.addr).is_some() {
            return Err(VtepError::Exists(config.addr));
        }
        let id = lowest_free(&self.records).ok_or(VtepError::Full(config.addr))?;
        self.epochs[id] += 1;
        self.records[id] = Some(Vtep { config, origin, epoch: self.epochs[id], routes: 0 });
        Ok(VtepId(id as u16))
    }

    fn set(&mut self, id: u16, config: VtepConfig) -> Result<VtepConfig, VtepError> {
        let old = self.get(id)?.config;
        let config = Self::check(config)?;
        if self.by_addr(config.addr).is_some_and(|other| other != usize::from(id)) {
            return Err(VtepError::Exists(config.addr));
        }
        self.get(id)?.config = config;
        Ok(old)
    }

    fn remove(&mut self, id: u16) -> Result<Vtep, VtepError> {
        let vtep = *self.get(id)?;
        if vtep.routes > 0 {
            return Err(VtepError::InUse { vtep: VtepId(id), routes: vtep.routes });
        }
        self.records[usize::from(id)] = None;
        Ok(vtep)
    }
}

fn run_vtep<I, R>(mut table: VtepTable<I, R>, ops: &[VtepOp]) -> Result<(), TestCaseError>
where
    I: Store<IndexSlot>,
    R: Store<VtepSlot>,
{
    prop_assert_eq!(table.capacity(), CAPACITY);
    let mut model = VtepModel { records: vec![None; CAPACITY], epochs: vec![0; CAPACITY] };
    for op in ops {
        match *op {
            VtepOp::Insert(c, o) => prop_assert_eq!(table.insert(c, o), model.insert(c, o)),
            VtepOp::Set(i, c) => prop_assert_eq!(table.set(VtepId(i), c), model.set(i, c)),
            VtepOp::SetOrigin(i, o) => {
                prop_assert_eq!(table.set_origin(VtepId(i), o), model.get(i).map(|v| v.origin = o));
            }
            VtepOp::Remove(i) => prop_assert_eq!(table.remove(VtepId(i)), model.remove(i)),
            VtepOp::AddRoute(i) => {
                prop_assert_eq!(table.add_route(VtepId(i)), model.get(i).map(|v| v.routes += 1));
            }
            VtepOp::RemoveRoute(i) => {
                let expected = model.get(i).map(|v| v.routes -= u32::from(v.routes > 0));
                prop_assert_eq!(table.remove_route(VtepId(i)), expected);
            }
            VtepOp::Fill(from) => {
                for a in (0..ADDRS).map(|k| addr((k + from) % ADDRS)) {
                    let c = VtepConfig::new(a, 4789);
                    prop_assert_eq!(table.insert(c, Origin::Learned), model.insert(c, Origin::Learned));
                }
                prop_assert_eq!(table.len(), table.capacity());
            }
            VtepOp::Drain => {
                for i in id() {
                    prop_assert_eq!(table.remove(VtepId(i)), model.remove(i));
                }
            }
        }
        let records = model.records.iter().enumerate();
        let expected: Vec<_> = records.filter_map(|(i, v)| Some((VtepId(i as u16), (*v)?))).collect();
        prop_assert_eq!(table.iter().map(|(i, v)| (i, *v)).collect::<Vec<_>>(), &expected[..]);
        prop_assert_eq!(table.len(), expected.len());
        prop_assert_eq!(table.is_empty(), expected.is_empty());
        for a in (0..ADDRS).map(addr) {
            prop_assert_eq!(table.by_addr(a), model.by_addr(a).map(|i| VtepId(i as u16)));
        }
        for i in id() {
            prop_assert_eq!(table.get(VtepId(i)).copied(), model.get(i).ok().copied());
        }
    }
    Ok(())
}

// Ports.

#[derive(Debug, Clone)]
enum PortOp {
    Insert(PortConfig, VniIndex),
    Remove(u16),
    AddRoute(u16),
    RemoveRoute(u16),
    Fill,
    Drain,
}

fn port_op() -> impl Strategy<Value = PortOp> {
    let insert =
        (proptest::option::of(bad_or_good_mac()), any::<u32>(), 0u32..4).prop_map(|(mac, limit, i)| {
            let config = PortConfig::new(Vni::truncate(i * 1000));
            PortOp::Insert(PortConfig { peer_mac: mac, learn_limit: limit, ..config }, VniIndex(i))
        });
    prop_oneof![
        10 => insert,
        6 => id().prop_map(PortOp::Remove),
        2 => id().prop_map(PortOp::AddRoute),
        4 => id().prop_map(PortOp::RemoveRoute),
        1 => Just(PortOp::Fill),
        1 => Just(PortOp::Drain),
    ]
}

struct PortModel(Vec<Option<Port>>);

impl PortModel {
    fn get(&mut self, id: u16) -> Result<&mut Port, PortError> {
        self.0.get_mut(usize::from(id)).and_then(Option::as_mut).ok_or(PortError::Unknown(PortId(id)))
    }

    fn insert(&mut self, config: PortConfig, vni_index: VniIndex) -> Result<PortId, PortError> {
        match config.peer_mac {
            Some(m) if m.0[0] & 1 == 1 || m == MacAddr::ZERO => return Err(PortError::PeerMac(m)),
            _ => {}
        }
        let id = lowest_free(&self.0).ok_or(PortError::Full)?;
        self.0[id] = Some(Port { config, vni_index, routes: 0 });
        Ok(PortId(id as u16))
    }

    fn remove(&mut self, id: u16) -> Result<Port, PortError> {
        let port = *self.get(id)?;
        if port.routes > 0 {
            return Err(PortError::InUse { port: PortId(id), routes: port.routes });
        }
        self.0[usize::from(id)] = None;
        Ok(port)
    }
}

fn run_port<R: Store<PortSlot>>(mut table: PortTable<R>, ops: &[PortOp]) -> Result<(), TestCaseError> {
    prop_assert_eq!(table.capacity(), CAPACITY);
    let mut model = PortModel(vec![None; CAPACITY]);
    for op in ops {
        match *op {
            PortOp::Insert(c, i) => prop_assert_eq!(table.insert(c, i), model.insert(c, i)),
            PortOp::Remove(i) => prop_assert_eq!(table.remove(PortId(i)), model.remove(i)),
            PortOp::AddRoute(i) => {
                prop_assert_eq!(table.add_route(PortId(i)), model.get(i).map(|p| p.routes += 1));
            }
            PortOp::RemoveRoute(i) => {
                let expected = model.get(i).map(|p| p.routes -= u32::from(p.routes > 0));
                prop_assert_eq!(table.remove_route(PortId(i)), expected);
            }
            PortOp::Fill => {
                for _ in 0..=CAPACITY {
                    let c = PortConfig::new(Vni::MAX);
                    prop_assert_eq!(table.insert(c, VniIndex(4)), model.insert(c, VniIndex(4)));
                }
                prop_assert_eq!(table.len(), table.capacity());
            }
            PortOp::Drain => {
                for i in id() {
                    prop_assert_eq!(table.remove(PortId(i)), model.remove(i));
                }
            }
        }
        let records = model.0.iter().enumerate();
        let expected: Vec<_> = records.filter_map(|(i, p)| Some((PortId(i as u16), (*p)?))).collect();
        prop_assert_eq!(table.iter().map(|(i, p)| (i, *p)).collect::<Vec<_>>(), &expected[..]);
        prop_assert_eq!(table.len(), expected.len());
        prop_assert_eq!(table.is_empty(), expected.is_empty());
        for v in (0..5).map(VniIndex) {
            let of_vni = expected.iter().filter(|(_, p)| p.vni_index == v).map(|(i, _)| *i);
            prop_assert!(table.of_vni(v).map(|(i, _)| i).eq(of_vni));
        }
        for i in id() {
            prop_assert_eq!(table.get(PortId(i)).copied(), model.get(i).ok().copied());
        }
    }
    Ok(())
}

// Flood lists.

const HEADS: usize = 3;
const NODES: usize = 9;
/// Members of a full node, as documented.
const CHUNK: usize = 14;
const MEMBERS: u16 = 50;

#[derive(Debug, Clone)]
enum FloodOp {
    Add(VniIndex, Destination),
    /// This many members of one kind, from the first number on, skipping by 7.
    AddMany(VniIndex, Destination, u16),
    Remove(VniIndex, Destination),
    /// The member at this place of the list of the kind.
    RemoveNth(VniIndex, Destination, usize),
    RemoveEverywhere(Destination),
    Clear(VniIndex),
}

fn member() -> impl Strategy<Value = Destination> {
    (any::<bool>(), 0..MEMBERS).prop_map(|(port, n)| destination(port, n))
}

fn destination(port: bool, n: u16) -> Destination {
    if port { Destination::Port(PortId(n)) } else { Destination::Vtep(VtepId(n)) }
}

fn head() -> impl Strategy<Value = VniIndex> {
    // Index 3 has no lists.
    prop_oneof![20 => (0..HEADS as u32).prop_map(VniIndex), 1 => Just(VniIndex(3)), 1 => Just(VniIndex(u32::MAX))]
}

fn flood_op() -> impl Strategy<Value = FloodOp> {
    prop_oneof![
        4 => (head(), member()).prop_map(|(v, m)| FloodOp::Add(v, m)),
        3 => (head(), member(), 1..MEMBERS).prop_map(|(v, m, n)| FloodOp::AddMany(v, m, n)),
        3 => (head(), member()).prop_map(|(v, m)| FloodOp::Remove(v, m)),
        8 => (head(), member(), 0..50usize).prop_map(|(v, m, n)| FloodOp::RemoveNth(v, m, n)),
        1 => member().prop_map(FloodOp::RemoveEverywhere),
        1 => head().prop_map(FloodOp::Clear),
    ]
}

/// Per VNI the list of ports and the list of VTEPs.
#[derive(Default)]
struct FloodModel([[Vec<Destination>; 2]; HEADS]);

impl FloodModel {
    fn list(&mut self, vni: VniIndex, member: Destination) -> Option<&mut Vec<Destination>> {
        let lists = self.0.get_mut(vni.0 as usize)?;
        Some(&mut lists[usize::from(matches!(member, Destination::Vtep(_)))])
    }

    fn free_nodes(&self) -> usize {
        NODES - self.0.iter().flatten().map(|list| list.len().div_ceil(CHUNK)).sum::<usize>()
    }

    fn add(&mut self, vni: VniIndex, member: Destination) -> Result<(), FloodError> {
        let free = self.free_nodes();
        let list = self.list(vni, member).ok_or(FloodError::Full)?;
        if list.contains(&member) {
            Err(FloodError::Exists(member))
        } else if list.len() % CHUNK == 0 && free == 0 {
            Err(FloodError::Full)
        } else {
            list.push(member);
            Ok(())
        }
    }

    fn remove(&mut self, vni: VniIndex, member: Destination) -> Result<(), FloodError> {
        let list = self.list(vni, member).ok_or(FloodError::Unknown(member))?;
        let at = list.iter().position(|m| *m == member).ok_or(FloodError::Unknown(member))?;
        list.remove(at);
        Ok(())
    }
}

fn run_flood<H, M>(mut table: FloodTable<H, M>, ops: &[FloodOp]) -> Result<(), TestCaseError>
where
    H: Store<FloodHead>,
    M: Store<FloodNode>,
{
    prop_assert_eq!((table.heads(), table.nodes()), (HEADS, NODES));
    let mut model = FloodModel::default();
    for op in ops {
        match *op {
            FloodOp::Add(v, m) => prop_assert_eq!(table.add(v, m), model.add(v, m)),
            FloodOp::AddMany(v, first, n) => {
                let (port, start) = match first {
                    Destination::Port(p) => (true, p.0),
                    Destination::Vtep(t) => (false, t.0),
                };
                for i in 0..n {
                    let m = destination(port, (start + 7 * i) % MEMBERS);
                    prop_assert_eq!(table.add(v, m), model.add(v, m));
                }
            }
            FloodOp::Remove(v, m) => prop_assert_eq!(table.remove(v, m), model.remove(v, m)),
            FloodOp::RemoveNth(v, kind, n) => {
                let list = model.list(v, kind).filter(|list| !list.is_empty());
                if let Some(m) = list.map(|list| list[n % list.len()]) {
                    prop_assert_eq!(table.remove(v, m), model.remove(v, m));
                }
            }
            FloodOp::RemoveEverywhere(m) => {
                let removed = (0..HEADS as u32).filter(|v| model.remove(VniIndex(*v), m).is_ok()).count();
                prop_assert_eq!(table.remove_everywhere(m), removed);
            }
            FloodOp::Clear(v) => {
                let lists = model.0.get_mut(v.0 as usize).map(core::mem::take).unwrap_or_default();
                prop_assert_eq!(table.clear(v), lists[0].len() + lists[1].len());
            }
        }
        prop_assert_eq!(table.free_nodes(), model.free_nodes());
        for (v, [ports, vteps]) in (0..).map(VniIndex).zip(&model.0) {
            prop_assert_eq!(table.ports(v).map(Destination::Port).collect::<Vec<_>>(), &ports[..]);
            prop_assert_eq!(table.vteps(v).map(Destination::Vtep).collect::<Vec<_>>(), &vteps[..]);
            prop_assert_eq!((table.ports(v).len(), table.vteps(v).len()), (ports.len(), vteps.len()));
            prop_assert_eq!((table.len(v), table.is_empty(v)), {
                let n = ports.len() + vteps.len();
                (n, n == 0)
            });
            for m in (0..MEMBERS).flat_map(|n| [destination(true, n), destination(false, n)]) {
                prop_assert_eq!(table.contains(v, m), ports.contains(&m) || vteps.contains(&m));
            }
            let mut part = table.vteps(v);
            while part.len() > 0 {
                prop_assert!(
                    part.clone().map(Destination::Vtep).eq(vteps[vteps.len() - part.len()..].iter().copied())
                );
                part.next();
            }
            prop_assert_eq!(part.next(), None);
        }
        for v in [VniIndex(3), VniIndex(u32::MAX)] {
            prop_assert_eq!((table.ports(v).next(), table.vteps(v).next(), table.len(v)), (None, None, 0));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_vni_table_does_as_a_list_does(ops in prop::collection::vec(vni_op(), 1..60), seed: u64) {
        let seed = Seed::fixed(seed);
        every_store!(VniTable(IndexSlot::EMPTY, SLOTS; VniSlot::EMPTY, CAPACITY, seed), run_vni, &ops);
    }

    #[test]
    fn the_vtep_table_does_as_a_list_does(ops in prop::collection::vec(vtep_op(), 1..60), seed: u64) {
        let seed = Seed::fixed(seed);
        every_store!(VtepTable(IndexSlot::EMPTY, SLOTS; VtepSlot::EMPTY, CAPACITY, seed), run_vtep, &ops);
    }

    #[test]
    fn the_port_table_does_as_a_list_does(ops in prop::collection::vec(port_op(), 1..100)) {
        every_store!(PortTable(PortSlot::EMPTY, CAPACITY), run_port, &ops);
    }

    #[test]
    fn the_flood_table_does_as_lists_do(ops in prop::collection::vec(flood_op(), 1..100)) {
        every_store!(FloodTable(FloodHead::EMPTY, HEADS; FloodNode::EMPTY, NODES), run_flood, &ops);
    }

    /// With fewer index slots than advised a key may be refused at any time: then nothing changed.
    #[test]
    fn a_crowded_index_refuses_without_a_trace(
        ops in prop::collection::vec((0u16..200, any::<bool>(), 0u16..64), 1..300),
        slots in 1usize..6,
        seed: u64,
    ) {
        let seed = Seed::fixed(seed);
        let mut table = VtepTable::new(vec![IndexSlot::EMPTY; slots], vec![VtepSlot::EMPTY; 64], seed).unwrap();
        let mut model = VtepModel { records: vec![None; 64], epochs: vec![0; 64] };
        for (key, insert, id) in ops {
            // No mapped addresses here, so every key is an address of its own.
            let config = VtepConfig::new(addr(key * 3), 4789);
            if insert {
                let result = table.insert(config, Origin::Learned);
                if result != Err(VtepError::Full(config.addr)) || model.records.iter().all(Option::is_some) {
                    prop_assert_eq!(result, model.insert(config, Origin::Learned));
                }
            } else {
                let result = table.set(VtepId(id), config);
                if result != Err(VtepError::Full(config.addr)) {
                    prop_assert_eq!(result, model.set(id, config));
                }
            }
            for (i, vtep) in model.records.iter().enumerate() {
                let id = VtepId(i as u16);
                prop_assert_eq!(table.get(id), vtep.as_ref());
                if let Some(vtep) = vtep {
                    prop_assert_eq!(table.by_addr(vtep.config.addr), Some(id));
                }
            }
            for key in 0..200 {
                prop_assert_eq!(table.by_addr(addr(key * 3)).map(|v| usize::from(v.0)), model.by_addr(addr(key * 3)));
            }
        }
    }

    /// [`flood_nodes_for`] is enough and never one too many.
    #[test]
    fn flood_nodes_for_is_the_worst_case(sizes in prop::collection::vec(0usize..60, 1..5)) {
        let used: usize = sizes.iter().map(|n| n.div_ceil(CHUNK)).sum();
        let (lists, members) = (sizes.iter().filter(|n| **n > 0).count(), sizes.iter().sum());
        prop_assert!(used <= flood_nodes_for(lists, members));
        // The same members spread as badly as they can be: one on every list but the last.
        let worst = if members == 0 { 0 } else { lists - 1 + (members - (lists - 1)).div_ceil(CHUNK) };
        prop_assert_eq!(flood_nodes_for(lists, members), worst);
    }
}

#[test]
fn a_hundred_thousand_vnis_fit_the_advised_index() {
    const N: u32 = 100_000;
    for (seed, stride) in [(Seed::fixed(3), 1), (Seed::new([0; 16]), 1), (Seed::fixed(4), 167)] {
        let (slots, n) = (index_slots_for(N as usize), N as usize);
        let mut table = VniTable::new(vec![IndexSlot::EMPTY; slots], vec![VniSlot::EMPTY; n], seed).unwrap();
        let vni = |i: u32| Vni::new(i * stride).unwrap();
        for i in 0..N {
            assert_eq!(table.insert(vni(i), VniConfig::BRIDGED), Ok(VniIndex(i)));
        }
        let other = Vni::MAX;
        assert_eq!(table.insert(other, VniConfig::BRIDGED), Err(VniError::Full(other)));
        assert!((0..N).all(|i| table.index_of(vni(i)) == Some(VniIndex(i))));
        assert_eq!(table.index_of(other), None);
        for i in (0..N).step_by(3) {
            assert_eq!(table.remove(vni(i)), Ok(VniIndex(i)));
        }
        assert!((0..N).all(|i| table.index_of(vni(i)).is_some() == (i % 3 != 0)));
        assert_eq!(table.insert(other, VniConfig::BRIDGED), Ok(VniIndex(0)));
    }
}

#[test]
fn every_vtep_id_can_be_given_out() {
    const N: usize = 1 << 16;
    let (index, records) = (vec![IndexSlot::EMPTY; index_slots_for(N)], vec![VtepSlot::EMPTY; N]);
    let mut table = VtepTable::new(index, records, Seed::fixed(5)).unwrap();
    let config = |i: u32| VtepConfig::new(Ipv4Addr::from_bits(0x0a00_0001 + i).into(), 4789);
    for i in 0..N as u32 {
        assert_eq!(table.insert(config(i), Origin::Learned), Ok(VtepId(i as u16)));
    }
    let (last, more) = (VtepId(u16::MAX), config(N as u32));
    assert_eq!(table.insert(more, Origin::Learned), Err(VtepError::Full(more.addr)));
    assert_eq!(table.by_addr(config(N as u32 - 1).addr), Some(last));
    assert_eq!(table.remove(last).map(|v| v.epoch), Ok(1));
    assert_eq!(table.insert(more, Origin::Configured), Ok(last));
    assert_eq!(table.get(last).map(|v| v.epoch), Some(2));
}
