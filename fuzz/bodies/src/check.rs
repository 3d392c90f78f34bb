//! What must hold of an engine: for each frame, for its tables, for its counters.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use overlane::addr::{Destination, IpPrefix, MacAddr, NextHop, PortId, Vni, VtepId};
use overlane::engine::{Counters, Engine, Frame, Replica, Storage, Tables, Verdict};
use overlane::error::{DropReason, PuntReason};
use overlane::table::fdb::{EntryKind, FdbEntry};
use overlane::table::port::Port;
use overlane::table::vni::{Mode, VniEntry, VniIndex};
use overlane::table::vtep::{Origin, Vtep};
use overlane::time::Instant;
use overlane::wire::outer::{self, Outer, OuterPolicy, Shape};
use overlane::wire::vxlan::GroupPolicy;

/// What is around a packet in its buffer, to see that nothing else is written.
const GUARD: u8 = 0xa7;
const TAILROOM: usize = 8;

/// A packet for the engine, and what the host says of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) headroom: usize,
    pub(crate) source: Option<IpAddr>,
    pub(crate) ecn: u8,
    pub(crate) segment_len: usize,
    pub(crate) group: Option<GroupPolicy>,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) vni: Option<Vni>,
    pub(crate) group: Option<GroupPolicy>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) replicas: Vec<Replica>,
}

/// A buffer for the packet, guards around it.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    headroom: usize,
}

impl Buffer {
    pub(crate) fn new(packet: &Packet) -> Buffer {
        let mut bytes = vec![GUARD; packet.headroom];
        bytes.extend_from_slice(&packet.bytes);
        bytes.extend_from_slice(&[GUARD; TAILROOM]);
        Buffer { bytes, headroom: packet.headroom }
    }

    pub(crate) fn frame(&mut self, packet: &Packet) -> Frame<'_> {
        let range = self.headroom..self.headroom + packet.bytes.len();
        let frame = Frame::new(&mut self.bytes, range).expect("it lies inside");
        let frame = frame.with_ecn(packet.ecn).with_segment_len(packet.segment_len);
        let frame = if let Some(source) = packet.source { frame.with_source(source) } else { frame };
        if let Some(group) = packet.group { frame.with_group(group) } else { frame }
    }

    /// What was not the packet's, nor became so, is as it was.
    fn is_intact(&self, start: usize) -> bool {
        let (before, behind) = (&self.bytes[..start], &self.bytes[self.bytes.len() - TAILROOM..]);
        before.iter().take(self.headroom).chain(behind).all(|b| *b == GUARD)
    }
}

/// The verdicts that were given, to hold against the counters.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    encap: u64,
    decap: u64,
    to_underlay: u64,
    to_port: u64,
    flooded: u64,
    punts: HashMap<PuntReason, u64>,
    drops: HashMap<DropReason, u64>,
    /// Copies of floods that a VTEP's MTU or a length field forbids.
    copies_lost: u64,
}

impl Tally {
    pub(crate) fn dropped(&mut self, reason: DropReason) {
        *self.drops.entry(reason).or_default() += 1;
    }

    fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::ToUnderlay(_) => self.to_underlay += 1,
            Verdict::ToPort(_) => self.to_port += 1,
            Verdict::Flood(_) => self.flooded += 1,
            Verdict::Punt(reason) => *self.punts.entry(reason).or_default() += 1,
            Verdict::Drop(reason) => self.dropped(reason),
        }
    }

    /// Adds what another has, and empties that.
    pub(crate) fn take(&mut self, other: &mut Tally) {
        let other = std::mem::take(other);
        self.encap += other.encap;
        self.decap += other.decap;
        self.to_underlay += other.to_underlay;
        self.to_port += other.to_port;
        self.flooded += other.flooded;
        self.copies_lost += other.copies_lost;
        for (reason, n) in other.punts {
            *self.punts.entry(reason).or_default() += n;
        }
        for (reason, n) in other.drops {
            *self.drops.entry(reason).or_default() += n;
        }
    }

    /// The engine's counters say the same.
    pub(crate) fn agrees(&self, c: &Counters) {
        assert_eq!((c.encap_frames, c.decap_frames), (self.encap, self.decap));
        assert_eq!((c.to_underlay, c.to_port, c.flooded), (self.to_underlay, self.to_port, self.flooded));
        assert_eq!(c.punts.iter().collect::<HashMap<_, _>>(), self.punts);
        let lost = [DropReason::MtuExceeded, DropReason::TooLong];
        for reason in DropReason::ALL.iter().filter(|r| !lost.contains(r)) {
            assert_eq!(c.drops.get(*reason), self.drops.get(reason).copied().unwrap_or(0), "{reason}");
        }
        assert_eq!(c.drops.total(), self.drops.values().sum::<u64>() + self.copies_lost);
    }
}

/// Holds what `encap` did with a frame from `port` against what it may do. `routed` where the
/// port's VNI is.
pub(crate) fn encapped<S: Storage>(
    tables: &Tables<S>,
    tally: &mut Tally,
    port: PortId,
    packet: &Packet,
    buffer: &mut Buffer,
    done: Done,
) -> Outcome {
    let vni = tables.ports().get(port).expect("encap took the port").config.vni;
    assert_eq!(done.vni, Some(vni));
    tally.encap += 1;
    tally.add(done.verdict);
    let bytes = buffer.bytes[done.start..done.end].to_vec();
    assert!(buffer.is_intact(done.start));
    let moved = packet.headroom - done.start.min(packet.headroom);
    match done.verdict {
        Verdict::Drop(_) | Verdict::Punt(_) | Verdict::Flood(_) => {
            assert!(moved == 0 && bytes == packet.bytes, "{} touched it", done.verdict);
        }
        Verdict::ToPort(to) => {
            assert_ne!(to, port);
            let to = tables.ports().get(to).expect("a port that exists");
            assert_eq!((to.config.vni, moved), (vni, 0));
            unchanged(tables, vni, &packet.bytes, &bytes, false);
        }
        Verdict::ToUnderlay(to) => {
            let o = emitted(tables, to, vni, done.group, &bytes);
            assert_eq!(o.payload.start, moved);
            unchanged(tables, vni, &packet.bytes, &bytes[o.payload], false);
        }
    }
    if let Verdict::Flood(flooded) = done.verdict {
        assert_eq!(flooded, vni);
        let index = tables.vnis().index_of(vni).expect("it exists");
        let ports: Vec<_> = tables.floods().ports(index).filter(|p| *p != port).map(Replica::Port).collect();
        let (vteps, mut sent) = (tables.floods().vteps(index), 0);
        assert_eq!(done.replicas[..ports.len()], ports);
        assert!(!ports.is_empty() || vteps.clone().next().is_some());
        for replica in &done.replicas[ports.len()..] {
            let Replica::Underlay { vtep, header } = replica else { panic!("{replica:?}") };
            assert!(vteps.clone().any(|v| v == *vtep));
            let datagram = [header.as_slice(), &packet.bytes].concat();
            let o = emitted(tables, *vtep, vni, done.group, &datagram);
            assert_eq!(o.payload, header.len()..datagram.len());
            sent += 1;
        }
        tally.copies_lost += vteps.count() as u64 - sent;
    } else {
        assert!(done.replicas.is_empty());
    }
    Outcome { verdict: done.verdict, vni: done.vni, group: done.group, bytes, replicas: done.replicas }
}

/// Holds what `decap` did with a datagram against what it may do.
pub(crate) fn decapped<S: Storage>(
    tables: &Tables<S>,
    tally: &mut Tally,
    packet: &Packet,
    buffer: &mut Buffer,
    done: Done,
) -> Outcome {
    tally.decap += 1;
    tally.add(done.verdict);
    assert!(buffer.is_intact(done.start));
    let bytes = buffer.bytes[done.start..done.end].to_vec();
    let config = tables.config();
    let read = outer::parse(config.shape, &packet.bytes, &policy(tables, config.port));
    if let Verdict::Drop(reason) = done.verdict {
        assert_eq!(done.start, packet.headroom, "{reason} moved it");
        assert!(bytes == packet.bytes, "{reason} touched it");
        if let Err(e) = read {
            assert_eq!(reason, e.reason());
        }
    } else {
        let o = read.expect("what is carried was read");
        let vni = o.vxlan.vni;
        assert_eq!((done.vni, done.group), (Some(vni), o.vxlan.group));
        assert_eq!(done.start..done.end, o.payload.start + packet.headroom..o.payload.end + packet.headroom);
        let marked = o.ecn != 0 || packet.ecn != 0;
        let inner = &packet.bytes[o.payload];
        match done.verdict {
            Verdict::Punt(_) => assert!(differing(inner, &bytes) <= if marked { MARK } else { 0 }),
            Verdict::ToPort(to) => {
                assert_eq!(tables.ports().get(to).expect("a port that exists").config.vni, vni);
                unchanged(tables, vni, inner, &bytes, marked);
            }
            Verdict::Flood(flooded) => {
                assert_eq!(flooded, vni);
                unchanged(tables, vni, inner, &bytes, marked);
            }
            other => panic!("{other} out of a tunnel"),
        }
    }
    let ports: Vec<_> = match done.verdict {
        Verdict::Flood(vni) => {
            let index = tables.vnis().index_of(vni).expect("it exists");
            tables.floods().ports(index).map(Replica::Port).collect()
        }
        _ => Vec::new(),
    };
    assert_eq!(done.replicas, ports);
    assert!(!matches!(done.verdict, Verdict::Flood(_)) || !ports.is_empty());
    Outcome { verdict: done.verdict, vni: done.vni, group: done.group, bytes, replicas: done.replicas }
}

/// What a frame says after the engine has seen it.
pub(crate) struct Done {
    verdict: Verdict,
    vni: Option<Vni>,
    group: Option<GroupPolicy>,
    start: usize,
    end: usize,
    replicas: Vec<Replica>,
}

impl Done {
    pub(crate) fn of<S: Storage>(tables: &Tables<S>, frame: &Frame<'_>) -> Done {
        let verdict = frame.verdict().expect("every frame has a verdict");
        let replicas = tables.replicas(frame).collect();
        let range = frame.range();
        Done { verdict, vni: frame.vni(), group: frame.group(), start: range.start, end: range.end, replicas }
    }
}

/// The rules by which an engine reads what comes to `port`.
fn policy<S: Storage>(tables: &Tables<S>, port: u16) -> OuterPolicy {
    let config = tables.config();
    OuterPolicy {
        ports: [port, 0, 0, 0],
        vxlan: config.vxlan,
        verify_udp_checksum: config.verify_checksum,
        allow_zero_udp6: config.allow_zero_checksum_v6,
        ..OuterPolicy::default()
    }
}

/// What is sent to a VTEP reads as it should there.
fn emitted<S: Storage>(
    tables: &Tables<S>,
    to: VtepId,
    vni: Vni,
    group: Option<GroupPolicy>,
    datagram: &[u8],
) -> Outer {
    let config = tables.config();
    let vtep = tables.vteps().get(to).expect("a VTEP that exists").config;
    let mut policy = policy(tables, vtep.port);
    (policy.vxlan.group_policy, policy.allow_zero_udp6, policy.verify_udp_checksum) = (true, true, true);
    policy.vxlan.reserved = overlane::wire::vxlan::ReservedBits::Strict;
    let o = outer::parse(config.shape, datagram, &policy).expect("what we send is well-formed");
    assert_eq!((o.vxlan.vni, o.vxlan.group), (vni, group));
    if config.shape != Shape::Udp {
        let local = if vtep.addr.is_ipv4() {
            config.local_v4.map(IpAddr::V4)
        } else {
            config.local_v6.map(IpAddr::V6)
        };
        assert_eq!((o.src, o.dst), (local, Some(vtep.addr)));
        assert!((config.source_ports.0..=config.source_ports.1).contains(&o.udp_src));
    }
    if config.shape == Shape::Ethernet {
        assert_eq!(o.src_mac, Some(config.local_mac));
        assert_eq!(datagram[..6], vtep.underlay_mac.0);
    }
    o
}

/// Octets that an ECN mark changes: that of the field, and the checksum.
const MARK: usize = 3;

/// How many octets differ.
fn differing(before: &[u8], after: &[u8]) -> usize {
    assert_eq!(before.len(), after.len());
    before.iter().zip(after).filter(|(a, b)| a != b).count()
}

/// A bridge carries frames as they are, but for an ECN mark; a router changes what it must.
fn unchanged<S: Storage>(tables: &Tables<S>, vni: Vni, before: &[u8], after: &[u8], marked: bool) {
    let index = tables.vnis().index_of(vni).expect("it exists");
    let differ = differing(before, after);
    match tables.vnis().get(index).expect("it exists").config.mode {
        Mode::Bridged => assert!(differ <= if marked { MARK } else { 0 }),
        Mode::Routed { router_mac } => {
            assert_eq!(after[6..12], router_mac.0);
            // Two addresses, TTL, ECN, checksum.
            assert!(differ <= 16 && before[12..14] == after[12..14]);
        }
    }
}

/// Something of everything that learning would change.
pub(crate) type Knowledge = (u64, usize, u64, u64);

pub(crate) fn knowledge<S: Storage>(engine: &Engine<S>) -> Knowledge {
    let sum = engine.tables().fdb().iter().map(|e| hash_of(&e)).fold(0, u64::wrapping_add);
    (sum, engine.tables().vteps().iter().count(), engine.counters().learned, engine.counters().moved)
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Everything in an engine's tables.
#[derive(Debug, PartialEq)]
pub(crate) struct Snapshot {
    vnis: Vec<(VniIndex, VniEntry)>,
    vteps: Vec<(VtepId, Vtep)>,
    ports: Vec<(PortId, Port)>,
    floods: Vec<(VniIndex, Destination)>,
    routes: Vec<(VniIndex, IpAddr, u8, NextHop)>,
    macs: Vec<FdbEntry>,
}

impl Snapshot {
    pub(crate) fn of<S: Storage>(tables: &Tables<S>) -> Snapshot {
        let vnis: Vec<_> = tables.vnis().iter().map(|(i, v)| (i, *v)).collect();
        let (mut floods, mut routes) = (Vec::new(), Vec::new());
        for (i, _) in &vnis {
            floods.extend(tables.floods().ports(*i).map(|p| (*i, Destination::Port(p))));
            floods.extend(tables.floods().vteps(*i).map(|v| (*i, Destination::Vtep(v))));
            routes.extend(tables.routes_v4().iter(i.0).map(|(a, len, hop)| (*i, a.into(), len, hop)));
            routes.extend(tables.routes_v6().iter(i.0).map(|(a, len, hop)| (*i, a.into(), len, hop)));
        }
        let mut macs: Vec<_> = tables.fdb().iter().collect();
        macs.sort_by_key(|e| (e.vni, e.mac));
        let (vteps, ports) = (tables.vteps().iter(), tables.ports().iter());
        Snapshot {
            vnis,
            vteps: vteps.map(|(i, v)| (i, *v)).collect(),
            ports: ports.map(|(i, p)| (i, *p)).collect(),
            floods,
            routes,
            macs,
        }
    }

    fn vni(&self, vni: Vni) -> Option<VniIndex> {
        self.vnis.iter().find(|(_, v)| v.vni == vni).map(|(i, _)| *i)
    }

    fn port(&self, port: PortId) -> Option<&Port> {
        self.ports.iter().find(|(i, _)| *i == port).map(|(_, p)| p)
    }

    fn vtep(&self, vtep: VtepId) -> Option<&Vtep> {
        self.vteps.iter().find(|(i, _)| *i == vtep).map(|(_, v)| v)
    }

    /// No table refers to what another does not have, or has for somebody else.
    pub(crate) fn is_sound<S: Storage>(&self, tables: &Tables<S>) {
        for (id, port) in &self.ports {
            assert_eq!(self.vni(port.config.vni), Some(port.vni_index));
            assert!(self.floods.contains(&(port.vni_index, Destination::Port(*id))), "{id} is on no list");
            let routes = self.routes.iter().filter(|r| r.3 == NextHop::Port(*id)).count();
            assert_eq!(port.routes as usize, routes, "{id}");
        }
        for (id, vtep) in &self.vteps {
            let routes = self.routes.iter().filter(|r| r.3 == NextHop::Vtep(*id)).count();
            assert_eq!(vtep.routes as usize, routes, "{id}");
            assert!(routes == 0 || (vtep.config.inner_mac.is_some() && vtep.origin == Origin::Configured));
            assert_eq!(tables.vteps().by_addr(vtep.config.addr), Some(*id));
        }
        for (i, member) in &self.floods {
            match member {
                Destination::Port(p) => {
                    assert_eq!(self.port(*p).expect("a member exists").vni_index, *i);
                }
                Destination::Vtep(v) => {
                    assert_eq!(self.vtep(*v).expect("a member exists").origin, Origin::Configured);
                }
            }
        }
        for (i, _, _, hop) in &self.routes {
            if let NextHop::Port(p) = hop {
                assert_eq!(self.port(*p).expect("a next hop exists").vni_index, *i);
            }
            let entry = tables.vnis().get(*i).expect("a route's VNI exists");
            assert!(matches!(entry.config.mode, Mode::Routed { .. }));
        }
        for e in &self.macs {
            assert!(e.mac.is_unicast() && e.mac != MacAddr::ZERO);
            let index = self.vni(e.vni).unwrap_or_else(|| panic!("{e:?} is of no VNI"));
            match e.destination {
                Destination::Port(p) => {
                    let port = self.port(p).unwrap_or_else(|| panic!("{e:?} is at no port"));
                    assert_eq!(port.vni_index, index, "{e:?} is at a port of another VNI");
                }
                Destination::Vtep(v) => {
                    assert!(self.vtep(v).is_some(), "{e:?} is at no VTEP");
                }
            }
        }
        let at = |d| self.macs.iter().filter(|e| e.destination == d && e.kind != EntryKind::Static).count();
        for (id, _) in &self.ports {
            assert_eq!(tables.fdb().learned_by(Destination::Port(*id)) as usize, at(Destination::Port(*id)));
        }
        for (id, _) in &self.vteps {
            assert_eq!(tables.fdb().learned_by(Destination::Vtep(*id)) as usize, at(Destination::Vtep(*id)));
        }
        assert_eq!(tables.fdb().len(), self.macs.len());
    }

    /// Routes of a VNI, exactly.
    pub(crate) fn has_route(&self, vni: Vni, prefix: IpPrefix) -> bool {
        let (addr, len) = match prefix {
            IpPrefix::V4(p) => (IpAddr::from(p.addr()), p.len()),
            IpPrefix::V6(p) => (IpAddr::from(p.addr()), p.len()),
        };
        self.vni(vni).is_some_and(|i| self.routes.iter().any(|r| (r.0, r.1, r.2) == (i, addr, len)))
    }

    /// No VTEP is left that came by itself.
    pub(crate) fn only_configured(&self) -> bool {
        self.vteps.iter().all(|(_, v)| v.origin == Origin::Configured)
    }

    pub(crate) fn macs(&self) -> &[FdbEntry] {
        &self.macs
    }
}

/// The kinds of drop from which nothing may be learned: the bytes are wrong, or the sender is not
/// accepted. A frame that was accepted teaches where its sender is even if it has nowhere to go.
pub(crate) fn is_refusal(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Drop(reason) if reason.number() < 48)
}

/// The explanation ends as the decision does.
pub(crate) fn explains<S: Storage>(
    tables: &Tables<S>,
    now: Instant,
    port: Option<PortId>,
    packet: &Packet,
) -> Option<Verdict> {
    let explanation = match port {
        Some(port) => {
            tables.explain_encap(now, port, &packet.bytes, packet.segment_len).expect("a port that exists")
        }
        None => tables.explain_decap(now, packet.source, packet.ecn, &packet.bytes),
    };
    assert!(explanation.to_string().contains("=> "));
    explanation.verdict()
}
