//! Engines over every kind of memory, and frames to give them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlane::addr::{MacAddr, PortId, Vni, VtepId};
use overlane::engine::*;
use overlane::table::Seed;
use overlane::table::fdb::groups_for;
use overlane::table::port::PortConfig;
use overlane::table::vni::VniConfig;
use overlane::table::vtep::VtepConfig;
use overlane::time::Instant;

pub const T0: Instant = Instant::from_secs(1_000);
pub const VNI: Vni = Vni::truncate(42);
pub const A: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
pub const B: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
pub const C: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 3));
pub const ALL: MacAddr = MacAddr::BROADCAST;

/// A station's MAC address.
pub const fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

/// A kind of memory that an engine can be made over.
pub trait Memory: Storage + Sized {
    fn engine(config: EngineConfig) -> Engine<Self>;
}

pub type Small = Inline<{ groups_for(100) }, 256, 64, 8, 8, 8, 32, 16>;

impl<
    const FDB: usize,
    const CELLS: usize,
    const INDEX: usize,
    const VNIS: usize,
    const VTEPS: usize,
    const PORTS: usize,
    const FLOOD: usize,
    const EVENTS: usize,
> Memory for Inline<FDB, CELLS, INDEX, VNIS, VTEPS, PORTS, FLOOD, EVENTS>
{
    fn engine(config: EngineConfig) -> Engine<Self> {
        Engine::new(config, Parts::default(), ContextParts::default()).unwrap()
    }
}

pub const CAPACITY: Capacity = Capacity {
    macs: 100,
    routes_v4: 64,
    routes_v6: 64,
    vnis: 8,
    vteps: 8,
    ports: 8,
    flood_members: 32,
    events: 16,
};

impl Memory for Heap {
    fn engine(config: EngineConfig) -> Engine<Heap> {
        Engine::with_capacity(config, &CAPACITY).unwrap()
    }
}

impl Memory for Borrowed<'static> {
    fn engine(config: EngineConfig) -> Engine<Borrowed<'static>> {
        let parts = Box::leak(Box::new(Parts::<Heap>::with_capacity(&CAPACITY)));
        let context = Box::leak(Box::new(ContextParts::<Heap>::with_capacity(&CAPACITY)));
        Engine::new(config, parts.lend(), context.lend()).unwrap()
    }
}

/// Runs a generic test over inline, lent and heap memory.
#[macro_export]
macro_rules! every_memory {
    ($($(#[$meta:meta])* fn $name:ident<$m:ident>() $body:block)*) => {$(
        mod $name {
            use super::*;
            $(#[$meta])*
            fn case<$m: Memory>() $body
            #[test]
            fn inline() {
                case::<Small>();
            }
            #[test]
            fn borrowed() {
                case::<Borrowed<'static>>();
            }
            #[test]
            fn heap() {
                case::<Heap>();
            }
        }
    )*};
}

pub fn config(local: IpAddr) -> EngineConfig {
    EngineConfig::new(local, Seed::fixed(7))
}

/// One node: an engine, a VNI, a port, and VTEPs for its peers on the flood list.
pub struct Node<M: Storage> {
    pub addr: IpAddr,
    pub engine: Engine<M>,
    pub port: PortId,
    pub peers: Vec<(IpAddr, VtepId)>,
}

impl<M: Memory> Node<M> {
    pub fn new(addr: IpAddr, peers: &[IpAddr]) -> Node<M> {
        Node::with(config(addr), addr, VniConfig::default(), peers)
    }

    pub fn with(config: EngineConfig, addr: IpAddr, vni: VniConfig, peers: &[IpAddr]) -> Node<M> {
        let mut engine = M::engine(config);
        engine.apply(T0, &Command::AddVni { vni: VNI, config: vni }).unwrap();
        let port = engine.apply(T0, &Command::AddPort(PortConfig::new(VNI))).unwrap().port().unwrap();
        let mut node = Node { addr, engine, port, peers: Vec::new() };
        for peer in peers {
            node.add_peer(VtepConfig::new(*peer, 4789), true);
        }
        node
    }

    pub fn add_peer(&mut self, config: VtepConfig, flood: bool) -> VtepId {
        let vtep = self.engine.apply(T0, &Command::AddVtep(config)).unwrap().vtep().unwrap();
        if flood {
            self.engine.apply(T0, &Command::AddFlood { vni: VNI, vtep }).unwrap();
        }
        self.peers.push((config.addr, vtep));
        vtep
    }

    pub fn add_port(&mut self) -> PortId {
        self.engine.apply(T0, &Command::AddPort(PortConfig::new(VNI))).unwrap().port().unwrap()
    }

    pub fn vtep(&self, addr: IpAddr) -> VtepId {
        self.peers.iter().find(|p| p.0 == addr).unwrap().1
    }

    /// Gives the engine a frame from a port: the verdict, and the bytes as they are afterwards.
    pub fn send_on(&mut self, now: Instant, port: PortId, inner: &[u8]) -> (Verdict, Vec<u8>) {
        let mut buffer = vec![0; HEADROOM + inner.len()];
        buffer[HEADROOM..].copy_from_slice(inner);
        let end = buffer.len();
        let mut frames = [Frame::new(&mut buffer, HEADROOM..end).unwrap()];
        self.engine.encap(now, port, &mut frames).unwrap();
        (frames[0].verdict().unwrap(), frames[0].bytes().to_vec())
    }

    pub fn send(&mut self, now: Instant, inner: &[u8]) -> (Verdict, Vec<u8>) {
        self.send_on(now, self.port, inner)
    }

    /// Gives the engine a datagram from the underlay.
    pub fn receive(&mut self, now: Instant, from: IpAddr, datagram: &[u8]) -> (Verdict, Vec<u8>) {
        let mut buffer = datagram.to_vec();
        let end = buffer.len();
        let mut frames = [Frame::new(&mut buffer, 0..end).unwrap().with_source(from)];
        self.engine.decap(now, &mut frames);
        (frames[0].verdict().unwrap(), frames[0].bytes().to_vec())
    }

    /// The copies of a flooded frame from a port: ports, and (VTEP, datagram) pairs.
    pub fn flood(
        &mut self,
        now: Instant,
        port: PortId,
        inner: &[u8],
    ) -> (Vec<PortId>, Vec<(VtepId, Vec<u8>)>) {
        let mut buffer = vec![0; HEADROOM + inner.len()];
        buffer[HEADROOM..].copy_from_slice(inner);
        let end = buffer.len();
        let mut frames = [Frame::new(&mut buffer, HEADROOM..end).unwrap()];
        self.engine.encap(now, port, &mut frames).unwrap();
        assert_eq!(frames[0].verdict(), Some(Verdict::Flood(VNI)));
        let (mut ports, mut datagrams) = (Vec::new(), Vec::new());
        for replica in self.engine.replicas(&frames[0]) {
            match replica {
                Replica::Port(p) => ports.push(p),
                Replica::Underlay { vtep, header } => {
                    datagrams.push((vtep, [header.as_slice(), frames[0].bytes()].concat()))
                }
            }
        }
        // The same frame, met again without what `encap` left in it.
        let (mut copy, group) = (inner.to_vec(), frames[0].group());
        let mut again = Frame::new(&mut copy, 0..inner.len()).unwrap().flooded(VNI, Some(port));
        again = group.into_iter().fold(again, Frame::with_group);
        // Only the identification of what may be fragmented is another.
        assert!(
            !self.engine.tables().config().dont_fragment
                || self.engine.replicas(&again).eq(self.engine.replicas(&frames[0]))
        );
        (ports, datagrams)
    }

    pub fn events(&mut self) -> Vec<Event> {
        core::iter::from_fn(|| self.engine.poll_event()).collect()
    }
}

/// A VXLAN datagram's payload: header and inner frame.
pub fn vxlan(vni: u32, inner: &[u8]) -> Vec<u8> {
    let mut d = vec![8, 0, 0, 0];
    d.extend_from_slice(&(vni << 8).to_be_bytes());
    d.extend_from_slice(inner);
    d
}

/// An Ethernet frame of a local experimental type (IEEE 802), which no engine looks into.
pub fn ether(dst: MacAddr, src: MacAddr, payload: &[u8]) -> Vec<u8> {
    frame(dst, src, 0x88b5, payload)
}

pub fn frame(dst: MacAddr, src: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&dst.0[..], &src.0, &ethertype.to_be_bytes(), payload].concat()
}

/// An IPv4 or IPv6 packet with a UDP header, framed.
pub fn udp(dst: MacAddr, src: MacAddr, from: IpAddr, to: IpAddr, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    let mut datagram = vec![0x30, 0x39, 0x00, 0x50];
    datagram.extend_from_slice(&len.to_be_bytes());
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(payload);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => frame(dst, src, 0x0800, &ipv4(from, to, ttl, 0, &datagram)),
        (IpAddr::V6(from), IpAddr::V6(to)) => frame(dst, src, 0x86dd, &ipv6(from, to, ttl, &datagram)),
        _ => panic!("one family"),
    }
}

pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, ttl: u8, tos: u8, payload: &[u8]) -> Vec<u8> {
    let total = (20 + payload.len()) as u16;
    let mut h = vec![0x45, tos, 0, 0, 0, 1, 0x40, 0, ttl, 17, 0, 0];
    h[2..4].copy_from_slice(&total.to_be_bytes());
    h.extend_from_slice(&from.octets());
    h.extend_from_slice(&to.octets());
    let sum = checksum(&h);
    h[10..12].copy_from_slice(&sum.to_be_bytes());
    h.extend_from_slice(payload);
    h
}

pub fn ipv6(from: Ipv6Addr, to: Ipv6Addr, hops: u8, payload: &[u8]) -> Vec<u8> {
    let mut h = vec![0x60, 0, 0, 0];
    h.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    h.extend_from_slice(&[17, hops]);
    h.extend_from_slice(&from.octets());
    h.extend_from_slice(&to.octets());
    h.extend_from_slice(payload);
    h
}

/// The Internet checksum, the plain way (RFC 1071).
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|c| u32::from(u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Everything in an engine's tables, as text, to see that nothing changed.
pub fn snapshot<M: Storage>(engine: &Engine<M>) -> String {
    let t = engine.tables();
    let mut s = String::new();
    for (i, v) in t.vnis().iter() {
        s += &format!("{i:?} {v:?}\n");
        s += &format!(
            "ports {:?} vteps {:?}\n",
            t.floods().ports(i).collect::<Vec<_>>(),
            t.floods().vteps(i).collect::<Vec<_>>()
        );
        s += &format!("{:?}\n", t.routes_v4().iter(i.0).collect::<Vec<_>>());
        s += &format!("{:?}\n", t.routes_v6().iter(i.0).collect::<Vec<_>>());
    }
    s += &format!("{:?}\n{:?}\n", t.vteps().iter().collect::<Vec<_>>(), t.ports().iter().collect::<Vec<_>>());
    let mut macs: Vec<_> = t.fdb().iter().map(|e| format!("{e:?}")).collect();
    macs.sort();
    s + &macs.join("\n")
}
