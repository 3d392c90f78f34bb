//! Sequences of operations on an engine.

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use overlane::addr::{Destination, MacAddr, NextHop, PortId, VtepId};
use overlane::engine::{Change, Command, EngineConfig, Event, Storage, Verdict};
use overlane::error::{ControlError, DropReason, PortError};
use overlane::table::Seed;
use overlane::table::fdb::EntryKind;
use overlane::table::port::PortConfig;
use overlane::table::vni::{Accept, VniConfig};
use overlane::table::vtep::{Origin, VtepConfig};
use overlane::time::Instant;
use overlane::wire::outer::Shape;
use overlane::wire::template::{Fields, Template, TemplateConfig, UdpChecksum};
use overlane::wire::vxlan::{GroupPolicy, ReservedBits, VxlanPolicy};

use crate::Operations;
use crate::check::{self, Buffer, Done, Outcome, Packet, Snapshot, Tally};
use crate::memory::{Lender, Node};
use crate::packet::{
    FEW_VNIS, Host, LOCAL_MAC, LOCAL_V4, LOCAL_V6, Peer, ROUTER, SHAPES, SomeMac, SomePrefix, SomeVni,
    Station, peer_v4, peer_v6,
};

/// Makes an engine over each kind of memory and carries out the same operations on all: commands,
/// frames, datagrams, a second worker's share of them, the passing of time.
///
/// All must say the same. After each operation: verdicts as they may be, explained as they were given; a
/// refused command changed nothing; no table refers to what another does not have. At the end: the
/// counters are those of the verdicts, and everything learned ages out.
pub fn engine_ops(data: &[u8]) {
    let Ok(input) = Unstructured::new(data).arbitrary::<Input>() else { return };
    let config = input.config.engine();
    let mut lender = Lender::new();
    let (inline, heap, lent) = (Node::inline(config), Node::heap(config), lender.lend(config));
    let (inline, heap, lent) = match (inline, heap, lent) {
        (Ok(inline), Ok(heap), Ok(lent)) => (inline, heap, lent),
        (Err(a), Err(b), Err(c)) => return assert!(a == b && b == c && !a.to_string().is_empty()),
        _ => panic!("a configuration is good for one memory and bad for another"),
    };
    let (mut inline, mut heap, mut lent) =
        (World::new(inline, true), World::new(heap, false), World::new(lent, false));
    if !input.bare {
        inline.furnish();
        heap.furnish();
        lent.furnish();
    }
    for operation in &input.operations.0 {
        let done = inline.step(operation);
        assert_eq!(done, heap.step(operation), "{operation:?}");
        assert_eq!(done, lent.step(operation), "{operation:?}");
    }
    let end = inline.end();
    assert_eq!(end, heap.end());
    assert_eq!(end, lent.end());
}

#[derive(Debug, Arbitrary)]
pub(crate) struct Input {
    pub(crate) config: Config,
    /// Whether the engine starts empty, not with some VNIs, ports, VTEPs and routes.
    pub(crate) bare: bool,
    pub(crate) operations: Operations<Operation>,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) struct Config {
    shape: u8,
    v6_only: bool,
    v4_only: bool,
    full_checksums: bool,
    any_checksum: bool,
    strict: bool,
    group_policy: bool,
    ageing: Ageing,
    ttl: u8,
    dscp: u8,
    seed: u8,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum Ageing {
    Default,
    Seconds(u8),
    Milliseconds(u16),
}

impl Config {
    pub(crate) fn engine(self) -> EngineConfig {
        let mut c = EngineConfig::new(LOCAL_V4.into(), Seed::fixed(self.seed.into()));
        c.shape = SHAPES[usize::from(self.shape % 3)];
        c.local_mac = LOCAL_MAC;
        c.local_v4 = (!self.v6_only).then_some(LOCAL_V4);
        c.local_v6 = (!self.v4_only).then_some(LOCAL_V6);
        (c.ttl, c.dscp) = (self.ttl, self.dscp & 0x5f);
        let checksum = if self.full_checksums { UdpChecksum::Full } else { UdpChecksum::Zero };
        (c.checksum_v4, c.checksum_v6) = (checksum, checksum);
        (c.verify_checksum, c.allow_zero_checksum_v6) = (!self.any_checksum, self.any_checksum);
        let reserved = if self.strict { ReservedBits::Strict } else { ReservedBits::Ignore };
        c.vxlan = VxlanPolicy { reserved, group_policy: self.group_policy };
        c.ageing = match self.ageing {
            Ageing::Default => c.ageing,
            Ageing::Seconds(s) => Duration::from_secs(s.into()),
            Ageing::Milliseconds(ms) => Duration::from_millis(ms.into()),
        };
        c
    }
}

#[derive(Debug, Arbitrary)]
pub(crate) enum Operation {
    Command(Order),
    /// Frames from a local port.
    Encap {
        by_worker: bool,
        port: Id,
        frames: [Option<Sent>; 2],
    },
    /// The same frame more often than a batch and a worker's log are long.
    EncapMany {
        by_worker: bool,
        port: Id,
        frame: Station,
        times: u8,
    },
    /// Datagrams from the underlay.
    Decap {
        by_worker: bool,
        datagrams: [Option<Received>; 2],
    },
    /// Takes over what the worker has gathered.
    Merge,
    Timeout {
        budget: u8,
    },
    Forward(u16),
    /// Seconds.
    Leap(u16),
    Back(u16),
    CountDrop {
        reason: u8,
        vni: SomeVni,
        vtep: Id,
        port: Id,
    },
}

/// An id that a table of eight may have given out, or not.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) struct Id(u8);

impl Id {
    fn number(self) -> u16 {
        match self.0 {
            255 => u16::MAX,
            n => u16::from(n % 9),
        }
    }

    pub(crate) fn port(self) -> PortId {
        PortId(self.number())
    }

    pub(crate) fn vtep(self) -> VtepId {
        VtepId(self.number())
    }

    fn destination(self) -> Destination {
        if self.0 & 0x40 == 0 { Destination::Port(self.port()) } else { Destination::Vtep(self.vtep()) }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) struct VniSettings {
    routed: Option<SomeMac>,
    any_source: bool,
    no_learning: bool,
    no_flood: bool,
    notify: bool,
    group: Option<u16>,
}

impl VniSettings {
    fn config(self) -> VniConfig {
        let config = match self.routed {
            Some(mac) => VniConfig::routed(mac.get()),
            None => VniConfig::default(),
        };
        VniConfig {
            accept: if self.any_source { Accept::AnySource } else { Accept::KnownVteps },
            learning: !self.no_learning,
            flood_unknown: !self.no_flood,
            notify_miss: self.notify,
            group_policy: self.group,
            ..config
        }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) struct VtepSettings {
    addr: Peer,
    port: u16,
    mac: SomeMac,
    inner: Option<SomeMac>,
    mtu: Option<u8>,
    limit: Option<u8>,
}

impl VtepSettings {
    fn config(self) -> VtepConfig {
        VtepConfig {
            addr: self.addr.get(),
            port: self.port,
            underlay_mac: self.mac.get(),
            inner_mac: self.inner.map(SomeMac::get),
            mtu: self.mtu.map_or(0, |mtu| u16::from(mtu) * 2),
            learn_limit: self.limit.map_or(u32::MAX, |n| u32::from(n % 8)),
        }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) struct PortSettings {
    vni: SomeVni,
    peer: Option<SomeMac>,
    no_learning: bool,
    limit: Option<u8>,
}

impl PortSettings {
    fn config(self) -> PortConfig {
        PortConfig {
            vni: self.vni.get(),
            peer_mac: self.peer.map(SomeMac::get),
            learning: !self.no_learning,
            learn_limit: self.limit.map_or(u32::MAX, |n| u32::from(n % 8)),
        }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum Order {
    AddVni(SomeVni, VniSettings),
    SetVni(SomeVni, VniSettings),
    RemoveVni(SomeVni),
    AddVtep(VtepSettings),
    SetVtep(Id, VtepSettings),
    RemoveVtep(Id),
    AddPort(PortSettings),
    SetPort(Id, PortSettings),
    RemovePort(Id),
    AddFlood(SomeVni, Id),
    RemoveFlood(SomeVni, Id),
    AddMac(SomeVni, SomeMac, Id, Kind),
    RemoveMac(SomeVni, SomeMac),
    FlushMacs(Option<SomeVni>, Option<Id>),
    AddRoute(SomeVni, SomePrefix, Hop),
    RemoveRoute(SomeVni, SomePrefix),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum Kind {
    Learned,
    Sticky,
    Static,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum Hop {
    Vtep(Id),
    Port(Id),
    Direct,
    Blackhole,
}

impl Order {
    pub(crate) fn command(self) -> Command {
        match self {
            Order::AddVni(vni, c) => Command::AddVni { vni: vni.get(), config: c.config() },
            Order::SetVni(vni, c) => Command::SetVni { vni: vni.get(), config: c.config() },
            Order::RemoveVni(vni) => Command::RemoveVni { vni: vni.get() },
            Order::AddVtep(c) => Command::AddVtep(c.config()),
            Order::SetVtep(id, c) => Command::SetVtep { vtep: id.vtep(), config: c.config() },
            Order::RemoveVtep(id) => Command::RemoveVtep { vtep: id.vtep() },
            Order::AddPort(c) => Command::AddPort(c.config()),
            Order::SetPort(id, c) => Command::SetPort { port: id.port(), config: c.config() },
            Order::RemovePort(id) => Command::RemovePort { port: id.port() },
            Order::AddFlood(vni, id) => Command::AddFlood { vni: vni.get(), vtep: id.vtep() },
            Order::RemoveFlood(vni, id) => Command::RemoveFlood { vni: vni.get(), vtep: id.vtep() },
            Order::AddMac(vni, mac, at, kind) => Command::AddMac {
                vni: vni.get(),
                mac: mac.get(),
                at: at.destination(),
                kind: match kind {
                    Kind::Learned => EntryKind::Learned,
                    Kind::Sticky => EntryKind::Sticky,
                    Kind::Static => EntryKind::Static,
                },
            },
            Order::RemoveMac(vni, mac) => Command::RemoveMac { vni: vni.get(), mac: mac.get() },
            Order::FlushMacs(vni, at) => {
                Command::FlushMacs { vni: vni.map(SomeVni::get), at: at.map(Id::destination) }
            }
            Order::AddRoute(vni, prefix, hop) => Command::AddRoute {
                vni: vni.get(),
                prefix: prefix.get(),
                next_hop: match hop {
                    Hop::Vtep(id) => NextHop::Vtep(id.vtep()),
                    Hop::Port(id) => NextHop::Port(id.port()),
                    Hop::Direct => NextHop::Direct,
                    Hop::Blackhole => NextHop::Blackhole,
                },
            },
            Order::RemoveRoute(vni, prefix) => Command::RemoveRoute { vni: vni.get(), prefix: prefix.get() },
        }
    }
}

#[derive(Debug, Arbitrary)]
pub(crate) struct Sent {
    frame: Station,
    headroom: u8,
    segment_len: Option<u16>,
    group: Option<u16>,
}

impl Sent {
    pub(crate) fn packet(&self) -> Packet {
        Packet {
            bytes: self.frame.bytes(),
            headroom: usize::from(self.headroom),
            segment_len: self.segment_len.map_or(0, usize::from),
            group: self.group.map(|id| GroupPolicy { id, dont_learn: id & 1 != 0, applied: id & 2 != 0 }),
            ..Packet::default()
        }
    }
}

#[derive(Debug, Arbitrary)]
pub(crate) struct Received {
    from: Peer,
    /// Rarely, an address that is not ours.
    to: u8,
    astray: Host,
    vni: SomeVni,
    group: Option<u16>,
    ecn: u8,
    frame: Station,
    /// Now and then, an octet of it that something changed on the way.
    damaged: u8,
    damage: (u8, u8),
    /// What was cut off its end.
    cut: u8,
}

impl Received {
    pub(crate) fn packet(&self, config: &EngineConfig) -> Packet {
        let source = self.from.get().to_canonical();
        let us = if source.is_ipv4() { LOCAL_V4.into() } else { LOCAL_V6.into() };
        let local = match self.to {
            240.. if source.is_ipv4() => self.astray.v4().into(),
            240.. => self.astray.v6().into(),
            _ => us,
        };
        let template = Template::new(&TemplateConfig {
            shape: config.shape,
            local: source,
            remote: local,
            remote_port: config.port,
            local_mac: LOCAL_MAC,
            remote_mac: LOCAL_MAC,
            ttl: 64,
            dscp: 0,
            dont_fragment: true,
            udp_checksum: config.checksum_v6,
        });
        let fields = Fields {
            vni: self.vni.get(),
            group: self.group.map(|id| GroupPolicy { id, dont_learn: id & 1 != 0, applied: false }),
            source_port: 50_000,
            ecn: self.ecn & 3,
            ip_id: 1,
        };
        let inner = self.frame.bytes();
        let header = template.ok().and_then(|t| t.header(&inner, &fields));
        let mut bytes = [header.as_deref().unwrap_or(&[]), &inner].concat();
        let (at, flip) = self.damage;
        if self.damaged > 200
            && let Some(octet) = bytes.get_mut(usize::from(at))
        {
            *octet ^= flip;
        }
        if self.cut > 200 {
            bytes.truncate(bytes.len().saturating_sub(usize::from(self.cut - 200)));
        }
        // A host that has a socket knows the source, and perhaps the ECN field.
        let udp = config.shape == Shape::Udp;
        Packet {
            bytes,
            headroom: 3,
            source: (udp && self.ecn < 250).then(|| self.from.get()),
            ecn: if udp && self.ecn & 4 != 0 { self.ecn & 3 } else { 0 },
            ..Packet::default()
        }
    }
}

/// Two bridged VNIs, one of them open and with a group, and a routed one; two ports in each, two VTEPs.
pub(crate) fn furniture(config: &EngineConfig) -> Vec<Command> {
    let [open, bridged, routed, _] = FEW_VNIS;
    let v4 = config.local_v4.is_some();
    let peers = [2, 3].map(|n| if v4 { peer_v4(n) } else { peer_v6(n) });
    let any_source = VniConfig { accept: Accept::AnySource, group_policy: Some(7), ..VniConfig::default() };
    let mut all = Vec::new();
    for (vni, config) in
        [(open, any_source), (bridged, VniConfig::default()), (routed, VniConfig::routed(ROUTER))]
    {
        all.push(Command::AddVni { vni, config });
        let port = PortConfig { peer_mac: Some(LOCAL_MAC), ..PortConfig::new(vni) };
        all.extend([Command::AddPort(port), Command::AddPort(port)]);
    }
    for (n, addr) in peers.into_iter().enumerate() {
        let mtu = if n == 0 { 0 } else { 1_450 };
        let config = VtepConfig { mtu, ..VtepConfig::new(addr, 4789) };
        all.push(Command::AddVtep(VtepConfig { underlay_mac: ROUTER, inner_mac: Some(ROUTER), ..config }));
        let (vtep, kind) = (VtepId(n as u16), EntryKind::Learned);
        all.extend([open, bridged].map(|vni| Command::AddFlood { vni, vtep }));
        let mac = MacAddr([2, 0, 0, 0, 0, n as u8]);
        all.push(Command::AddMac { vni: bridged, mac, at: Destination::Vtep(vtep), kind });
    }
    for (prefix, next_hop) in [
        ("10.0.0.0/16", NextHop::Vtep(VtepId(0))),
        ("10.1.0.0/16", NextHop::Port(PortId(4))),
        ("10.2.0.0/16", NextHop::Direct),
        ("fd00::/32", NextHop::Vtep(VtepId(1))),
        ("fd00:1::/32", NextHop::Port(PortId(5))),
    ] {
        let prefix = prefix.parse().expect("a prefix");
        all.push(Command::AddRoute { vni: routed, prefix, next_hop });
    }
    all
}

/// The packets of [`Operation::EncapMany`].
pub(crate) fn many(frame: &Station, times: u8) -> Vec<Packet> {
    let packet = Packet { bytes: frame.bytes(), headroom: 72, ..Packet::default() };
    let mut packets = vec![packet; usize::from(times % 48)];
    for (n, packet) in packets.iter_mut().enumerate() {
        // Other senders: enough to fill what can be filled.
        packet.bytes.truncate(1_500);
        packet.bytes[11] = packet.bytes[11].wrapping_add(n as u8);
    }
    packets
}

/// One engine, and what it must agree with.
struct World<S: Storage> {
    node: Node<S>,
    now: Instant,
    tally: Tally,
    events: u64,
    /// Verdicts of the worker that were not merged yet.
    apart: Tally,
    /// Whether to look at all tables after each operation; once is enough for engines that agree.
    thorough: bool,
}

/// What an operation did, for comparison.
#[derive(Debug, PartialEq)]
enum Report {
    Command(Result<Change, ControlError>),
    Frames(Result<Vec<Outcome>, PortError>),
    Aged(usize, Option<Instant>),
    Nothing,
}

type Step = (Report, Vec<Event>);

impl<S: Storage> World<S> {
    fn new(node: Node<S>, thorough: bool) -> World<S> {
        let now = Instant::from_secs(1_000);
        World { node, now, tally: Tally::default(), events: 0, apart: Tally::default(), thorough }
    }

    fn furnish(&mut self) {
        for command in furniture(self.node.engine.tables().config()) {
            self.command(&command).expect("there is room for a few");
        }
    }

    fn step(&mut self, operation: &Operation) -> Step {
        let report = match operation {
            Operation::Command(change) => Report::Command(self.command(&change.command())),
            Operation::Encap { by_worker, port, frames } => {
                let packets: Vec<_> = frames.iter().flatten().map(Sent::packet).collect();
                Report::Frames(self.encap(*by_worker, port.port(), &packets))
            }
            Operation::EncapMany { by_worker, port, frame, times } => {
                let packets = many(frame, *times);
                Report::Frames(self.encap(*by_worker, port.port(), &packets))
            }
            Operation::Decap { by_worker, datagrams } => {
                let config = *self.node.engine.tables().config();
                let packets: Vec<_> = datagrams.iter().flatten().map(|d| d.packet(&config)).collect();
                Report::Frames(Ok(self.decap(*by_worker, &packets)))
            }
            Operation::Merge => {
                self.merge();
                Report::Nothing
            }
            Operation::Timeout { budget } => {
                let aged = self.node.engine.handle_timeout(self.now, usize::from(*budget));
                assert!(aged <= usize::from(*budget));
                Report::Aged(aged, self.node.engine.next_timeout())
            }
            Operation::Forward(ms) => {
                self.now = self.now + Duration::from_millis(u64::from(*ms));
                Report::Nothing
            }
            Operation::Leap(s) => {
                self.now = self.now + Duration::from_secs(u64::from(*s));
                Report::Nothing
            }
            Operation::Back(ms) => {
                self.now = Instant::from_millis(self.now.as_millis().saturating_sub(u64::from(*ms)));
                Report::Nothing
            }
            Operation::CountDrop { reason, vni, vtep, port } => {
                if let Some(reason) = DropReason::from_number(*reason) {
                    self.tally.dropped(reason);
                    self.node.engine.count_drop(
                        reason,
                        Some(vni.get()),
                        Some(vtep.vtep()),
                        Some(port.port()),
                    );
                }
                Report::Nothing
            }
        };
        let still = matches!(operation, Operation::Forward(_) | Operation::Leap(_) | Operation::Back(_));
        if self.thorough && !still {
            Snapshot::of(self.node.engine.tables()).is_sound(self.node.engine.tables());
        }
        (report, self.drain())
    }

    /// The events, which must be as many as the counters say.
    fn drain(&mut self) -> Vec<Event> {
        let events: Vec<_> = std::iter::from_fn(|| self.node.engine.poll_event()).collect();
        self.events += events.iter().filter(|e| tells_of_a_count(e)).count() as u64;
        let c = self.node.engine.counters();
        let counted = c.learned + c.moved + c.aged + c.evicted + c.not_learned;
        assert!(self.events <= counted && counted <= self.events + c.events_lost);
        events
    }

    fn command(&mut self, command: &Command) -> Result<Change, ControlError> {
        let before = self.thorough.then(|| Snapshot::of(self.node.engine.tables()));
        let done = self.node.engine.apply(self.now, command);
        let Some(before) = before else { return done };
        let after = Snapshot::of(self.node.engine.tables());
        match &done {
            Err(e) => {
                assert_eq!(before, after, "refused: {e}");
                assert!(!e.to_string().is_empty());
            }
            Ok(change) => self.did(command, change, &after),
        }
        done
    }

    /// A command did what it says.
    fn did(&self, command: &Command, change: &Change, after: &Snapshot) {
        let t = self.node.engine.tables();
        match *command {
            Command::AddVni { vni, config } | Command::SetVni { vni, config } => {
                let entry = t.vnis().index_of(vni).and_then(|i| t.vnis().get(i)).expect("it was added");
                assert_eq!(entry.config, config);
            }
            Command::RemoveVni { vni } => assert!(t.vnis().index_of(vni).is_none()),
            Command::AddVtep(config) => {
                let vtep = t.vteps().get(change.vtep().expect("its id")).expect("it was added");
                assert_eq!((vtep.config.addr, vtep.origin), (config.addr.to_canonical(), Origin::Configured));
            }
            Command::RemoveVtep { vtep } => assert!(t.vteps().get(vtep).is_none()),
            Command::AddPort(config) => {
                let port = t.ports().get(change.port().expect("its id")).expect("it was added");
                assert_eq!(port.config, config);
            }
            Command::RemovePort { port } => assert!(t.ports().get(port).is_none()),
            Command::AddMac { vni, mac, at, kind } => {
                let entry = t.fdb().entry(self.now, vni, mac).expect("it was added");
                assert_eq!((entry.destination, entry.kind), (at, kind));
            }
            Command::RemoveMac { vni, mac } => assert!(t.fdb().entry(self.now, vni, mac).is_none()),
            Command::FlushMacs { vni, at } => {
                let left = |e: &&overlane::table::fdb::FdbEntry| {
                    e.kind != EntryKind::Static
                        && vni.is_none_or(|v| v == e.vni)
                        && at.is_none_or(|d| d == e.destination)
                };
                assert!(!after.macs().iter().any(|e| left(&e)));
            }
            Command::AddRoute { vni, prefix, .. } => assert!(after.has_route(vni, prefix)),
            Command::RemoveRoute { vni, prefix } => assert!(!after.has_route(vni, prefix)),
            _ => {}
        }
    }

    fn encap(
        &mut self,
        by_worker: bool,
        port: PortId,
        packets: &[Packet],
    ) -> Result<Vec<Outcome>, PortError> {
        // What each would meet alone; the first of a batch does.
        let tables = self.node.engine.tables();
        let known = tables.ports().get(port).is_some();
        let first = packets.first().filter(|p| p.headroom >= 72 && known);
        let explained = first.and_then(|p| check::explains(tables, self.now, Some(port), p));
        let before = self.thorough.then(|| check::knowledge(&self.node.engine));
        let mut buffers: Vec<_> = packets.iter().map(Buffer::new).collect();
        let mut frames: Vec<_> = buffers.iter_mut().zip(packets).map(|(b, p)| b.frame(p)).collect();
        let Node { engine, worker } = &mut self.node;
        let done = if by_worker {
            engine.tables().encap(self.now, worker, port, &mut frames)
        } else {
            engine.encap(self.now, port, &mut frames)
        };
        if let Err(e) = done {
            assert!(!known && frames.iter().all(|f| f.verdict().is_none()));
            return Err(e);
        }
        let tally = if by_worker { &mut self.apart } else { &mut self.tally };
        let tables = engine.tables();
        let done: Vec<_> = frames.iter().map(|f| Done::of(tables, f)).collect();
        let checked = packets.iter().zip(&mut buffers).zip(done);
        let outcomes: Vec<_> =
            checked.map(|((p, b), done)| check::encapped(tables, tally, port, p, b, done)).collect();
        if let (Some(explained), Some(first)) = (explained, outcomes.first()) {
            assert_eq!(explained, first.verdict);
        }
        self.learned_rightly(before, by_worker, &outcomes);
        Ok(outcomes)
    }

    fn decap(&mut self, by_worker: bool, packets: &[Packet]) -> Vec<Outcome> {
        let tables = self.node.engine.tables();
        let explained = packets.first().and_then(|p| check::explains(tables, self.now, None, p));
        let before = self.thorough.then(|| check::knowledge(&self.node.engine));
        let mut buffers: Vec<_> = packets.iter().map(Buffer::new).collect();
        let mut frames: Vec<_> = buffers.iter_mut().zip(packets).map(|(b, p)| b.frame(p)).collect();
        let Node { engine, worker } = &mut self.node;
        if by_worker {
            engine.tables().decap(self.now, worker, &mut frames);
        } else {
            engine.decap(self.now, &mut frames);
        }
        let tally = if by_worker { &mut self.apart } else { &mut self.tally };
        let tables = engine.tables();
        let done: Vec<_> = frames.iter().map(|f| Done::of(tables, f)).collect();
        let checked = packets.iter().zip(&mut buffers).zip(done);
        let outcomes: Vec<_> =
            checked.map(|((p, b), done)| check::decapped(tables, tally, p, b, done)).collect();
        if let (Some(explained), Some(first)) = (explained, outcomes.first()) {
            assert_eq!(explained, first.verdict);
        }
        self.learned_rightly(before, by_worker, &outcomes);
        outcomes
    }

    /// A worker changes no table, and nobody learns from what was refused.
    fn learned_rightly(&self, before: Option<check::Knowledge>, by_worker: bool, outcomes: &[Outcome]) {
        if by_worker || outcomes.iter().all(|o| check::is_refusal(o.verdict)) {
            assert!(before.is_none_or(|before| check::knowledge(&self.node.engine) == before));
        }
        let refused = |v: Verdict| matches!(v, Verdict::Drop(r) if r.number() >= 80);
        assert!(!outcomes.iter().any(|o| refused(o.verdict)), "these are the backends' reasons");
    }

    fn merge(&mut self) {
        self.apart.agrees(self.node.worker.counters());
        let Node { engine, worker } = &mut self.node;
        engine.merge(self.now, worker);
        assert_eq!(*worker.counters(), Default::default());
        assert!(worker.poll_event().is_none());
        self.tally.take(&mut self.apart);
    }

    /// Counts up, then lets everything that was learned grow old.
    fn end(&mut self) -> (Snapshot, u64) {
        self.merge();
        let tables = self.node.engine.tables();
        let end = Snapshot::of(tables);
        end.is_sound(tables);
        self.tally.agrees(self.node.engine.counters());
        self.drain();
        let later = tables_age(&self.node) + Duration::from_secs(1);
        // A clock may have stepped back behind what was seen.
        self.now = self.now.max(Instant::from_secs(2_000_000)) + later;
        for _ in 0..200 {
            let Some(due) = self.node.engine.next_timeout() else { break };
            self.now = self.now.max(due);
            self.node.engine.handle_timeout(self.now, 50);
            self.drain();
        }
        let tables = self.node.engine.tables();
        let left = Snapshot::of(tables);
        left.is_sound(tables);
        assert!(left.macs().iter().all(|e| e.kind == EntryKind::Static));
        assert!(left.only_configured());
        (end, self.node.engine.counters().aged)
    }
}

fn tables_age<S: Storage>(node: &Node<S>) -> Duration {
    node.engine.tables().config().ageing
}

fn tells_of_a_count(event: &Event) -> bool {
    matches!(
        event,
        Event::Learned { .. }
            | Event::Moved { .. }
            | Event::Aged { .. }
            | Event::Evicted { .. }
            | Event::QuotaHit { .. }
            | Event::FdbFull { .. }
    )
}
