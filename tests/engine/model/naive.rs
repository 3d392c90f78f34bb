//! The naive engine.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlane::addr::*;
use overlane::engine::*;
use overlane::error::{DropReason, PuntReason};
use overlane::table::fdb::{EntryKind, FdbEntry};
use overlane::table::port::PortConfig;
use overlane::table::vni::{Accept, Mode, VniConfig};
use overlane::table::vtep::VtepConfig;
use overlane::time::Instant;

use super::given::*;
use super::*;

#[derive(Clone)]
pub struct Network {
    pub config: VniConfig,
    pub ports: Vec<PortId>,
    pub vteps: Vec<VtepId>,
    pub routes: BTreeMap<IpPrefix, NextHop>,
    pub counters: ScopeCount,
}

#[derive(Clone)]
pub struct Peer {
    pub config: VtepConfig,
    pub learned: bool,
    pub counters: ScopeCount,
}

#[derive(Clone)]
pub struct Local {
    pub config: PortConfig,
    pub counters: ScopeCount,
}

#[derive(Clone, Copy)]
pub struct Station {
    pub at: Destination,
    pub kind: EntryKind,
    pub seen: u64,
}

#[derive(Clone, Default, PartialEq, Debug)]
pub struct ScopeCount {
    pub rx: (u64, u64),
    pub tx: (u64, u64),
    pub drops: BTreeMap<DropReason, u64>,
}

impl ScopeCount {
    pub fn of(c: &ScopeCounters) -> ScopeCount {
        let t = c.traffic;
        ScopeCount {
            rx: (t.rx_frames, t.rx_octets),
            tx: (t.tx_frames, t.tx_octets),
            drops: c.drops.iter().collect(),
        }
    }
}

pub fn count(side: &mut (u64, u64), len: usize) {
    *side = (side.0 + 1, side.1 + len as u64);
}

/// Where a source address was seen.
#[derive(Clone, Copy)]
pub enum Source {
    Known(Destination),
    Stranger(IpAddr),
}

/// What is learned of a frame, once its batch is decided on.
pub struct Lesson {
    pub vni: Vni,
    pub mac: MacAddr,
    pub from: Source,
}

#[derive(Clone, Default)]
pub struct Totals {
    pub drops: BTreeMap<DropReason, u64>,
    pub punts: BTreeMap<PuntReason, u64>,
    /// encap, decap, to underlay, to ports, flooded, learned, moved, aged, not learned.
    pub plain: [u64; 9],
}

pub struct Model {
    pub networks: BTreeMap<Vni, Network>,
    pub peers: Vec<Option<Peer>>,
    pub locals: Vec<Option<Local>>,
    pub stations: BTreeMap<(Vni, MacAddr), Station>,
    pub totals: Totals,
    pub events: Vec<Event>,
    pub now: u64,
    pub group_policy: bool,
}

/// What is decided on a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    Port(PortId),
    Tunnel(VtepId),
    Flood,
    Punt(PuntReason),
    Drop(DropReason),
}

impl Model {
    pub fn age(&self, s: &Station) -> u64 {
        self.now.saturating_sub(s.seen)
    }

    pub fn alive(&self, vni: Vni, mac: MacAddr) -> Option<Station> {
        let found = *self.stations.get(&(vni, mac))?;
        (found.kind == EntryKind::Static || self.age(&found) <= 300).then_some(found)
    }

    pub fn held(&self, at: Destination) -> u32 {
        self.stations.values().filter(|s| s.at == at && s.kind != EntryKind::Static).count() as u32
    }

    pub fn peer(&self, addr: IpAddr) -> Option<VtepId> {
        let at = self.peers.iter().position(|p| p.as_ref().is_some_and(|p| p.config.addr == addr))?;
        Some(VtepId(at as u16))
    }

    pub fn routes_to(&self, hop: NextHop) -> usize {
        self.networks.values().flat_map(|n| n.routes.values()).filter(|h| **h == hop).count()
    }

    pub fn free_nodes(&self) -> usize {
        let lists = self.networks.values().flat_map(|n| [n.ports.len(), n.vteps.len()]);
        NODES - lists.map(|len| len.div_ceil(14)).sum::<usize>()
    }

    pub fn fits_on(&self, list: usize) -> bool {
        !list.is_multiple_of(14) || self.free_nodes() > 0
    }

    pub fn drop(&mut self, reason: DropReason, vni: Option<Vni>, vtep: Option<VtepId>, port: Option<PortId>) {
        *self.totals.drops.entry(reason).or_default() += 1;
        let scopes = [
            vni.and_then(|v| self.networks.get_mut(&v)).map(|n| &mut n.counters),
            vtep.and_then(|v| self.peers[usize::from(v.0)].as_mut()).map(|p| &mut p.counters),
            port.and_then(|p| self.locals[usize::from(p.0)].as_mut()).map(|p| &mut p.counters),
        ];
        for scope in scopes.into_iter().flatten() {
            *scope.drops.entry(reason).or_default() += 1;
        }
    }

    pub fn forget(&mut self, gone: impl Fn(Vni, &Station) -> bool) {
        self.stations.retain(|(vni, _), s| !gone(*vni, s));
    }

    pub fn remove_peer(&mut self, id: VtepId) {
        self.peers[usize::from(id.0)] = None;
        self.networks.values_mut().for_each(|n| n.vteps.retain(|v| *v != id));
        self.forget(|_, s| s.at == Destination::Vtep(id));
    }

    pub fn add_peer(&mut self, config: VtepConfig, learned: bool) -> Option<VtepId> {
        let free = self.peers.iter().position(Option::is_none)?;
        self.peers[free] = Some(Peer { config, learned, counters: ScopeCount::default() });
        Some(VtepId(free as u16))
    }

    pub fn adopt(&mut self, id: VtepId) {
        if let Some(peer) = &mut self.peers[usize::from(id.0)] {
            peer.learned = false;
        }
    }

    pub fn learn(&mut self, lessons: Vec<Lesson>) {
        let mut known = Vec::new();
        for lesson in lessons {
            let at = match lesson.from {
                Source::Known(at) => at,
                Source::Stranger(addr) => match self.peer(addr) {
                    Some(id) => Destination::Vtep(id),
                    None => match self.add_peer(VtepConfig::new(addr, 4789), true) {
                        Some(vtep) => {
                            self.events.push(Event::VtepLearned { vtep, addr });
                            Destination::Vtep(vtep)
                        }
                        None => {
                            self.events.push(Event::VtepTableFull { addr });
                            continue;
                        }
                    },
                },
            };
            known.push((lesson.vni, lesson.mac, at));
        }
        for (vni, mac, at) in known {
            let limit = match at {
                Destination::Port(p) => self.locals[usize::from(p.0)].as_ref().unwrap().config.learn_limit,
                Destination::Vtep(v) => self.peers[usize::from(v.0)].as_ref().unwrap().config.learn_limit,
            };
            let old = self.stations.get(&(vni, mac)).copied();
            let alive = self.alive(vni, mac);
            let seen = self.now;
            match alive {
                Some(s) if s.at == at => {
                    if s.kind != EntryKind::Static {
                        self.stations.get_mut(&(vni, mac)).unwrap().seen = seen;
                    }
                    continue;
                }
                Some(s) if s.kind != EntryKind::Learned => continue,
                _ => {}
            }
            if old.is_none_or(|old| old.at != at) && self.held(at) >= limit {
                self.totals.plain[8] += 1;
                self.events.push(Event::QuotaHit { vni, mac, at });
                continue;
            }
            self.stations.insert((vni, mac), Station { at, kind: EntryKind::Learned, seen });
            match (alive, old) {
                (Some(s), _) => {
                    self.totals.plain[6] += 1;
                    self.events.push(Event::Moved { vni, mac, from: s.at, to: at });
                }
                (None, old) => {
                    self.totals.plain[5] += 1;
                    if let Some(old) = old {
                        self.totals.plain[7] += 1;
                        self.events.push(Event::Aged { vni, mac, at: old.at });
                    }
                    self.events.push(Event::Learned { vni, mac, at });
                }
            }
        }
    }

    pub fn bridge(
        &mut self,
        vni: Vni,
        f: &Inner,
        from: Source,
        learns: bool,
        lessons: &mut Vec<Lesson>,
    ) -> Way {
        let config = self.networks[&vni].config;
        if !f.src.is_unicast() {
            return Way::Drop(DropReason::InvalidSourceMac);
        }
        let known = self.alive(vni, f.src);
        let here = |s: &Station| matches!(from, Source::Known(at) if at == s.at);
        if known.is_some_and(|s| !here(&s) && s.kind != EntryKind::Learned) {
            return Way::Drop(DropReason::MacPinned);
        }
        let fresh = known.is_some_and(|s| here(&s) && (s.kind == EntryKind::Static || self.age(&s) <= FRESH));
        let way = match self.alive(vni, f.dst).map(|s| s.at) {
            Some(Destination::Port(p)) => Way::Port(p),
            Some(Destination::Vtep(v)) => Way::Tunnel(v),
            None if f.dst.is_multicast() => Way::Flood,
            None => {
                if config.notify_miss {
                    self.events.push(Event::UnknownMac { vni, mac: f.dst });
                }
                if config.flood_unknown { Way::Flood } else { Way::Drop(DropReason::UnknownMac) }
            }
        };
        if learns && !fresh {
            lessons.push(Lesson { vni, mac: f.src, from });
        }
        way
    }

    /// The way of a packet in a routed VNI, and the addresses that it gets.
    pub fn route(&mut self, vni: Vni, f: &Inner, local: bool) -> (Way, Option<MacAddr>) {
        let drop = |reason| (Way::Drop(reason), None);
        if let Some(reason) = f.unreadable() {
            return drop(reason);
        }
        if !f.src.is_unicast() {
            return drop(DropReason::InvalidSourceMac);
        }
        if f.src == ROUTER {
            return drop(DropReason::OwnSourceMac);
        }
        match f.kind {
            Kind::Arp if local && f.cut.is_none() => return (Way::Punt(PuntReason::Arp), None),
            Kind::Solicitation if local && f.cut.is_none() => {
                return (Way::Punt(PuntReason::NeighborDiscovery), None);
            }
            _ => {}
        }
        if f.dst != ROUTER {
            return drop(DropReason::NotForRouter);
        }
        let network = &self.networks[&vni];
        let (addr, ttl) = match f.kind {
            Kind::Arp | Kind::Solicitation if f.cut.is_some() => return drop(DropReason::Truncated),
            Kind::Other | Kind::Arp => return drop(DropReason::NotIp),
            // From and to a host's own address.
            Kind::Solicitation => return drop(DropReason::NotForwardable),
            Kind::V4 { right: false, .. } => return drop(DropReason::BadChecksum),
            Kind::V4 { from, to, ttl, .. } => {
                let good = |a: Ipv4Addr| {
                    !(a.octets()[0] == 0 || a.is_loopback() || a.is_multicast() || a.is_broadcast())
                };
                if !good(from) || !good(to) {
                    return drop(DropReason::NotForwardable);
                }
                (IpAddr::V4(to), ttl)
            }
            Kind::V6 { from, to, hops } => {
                let good = |a: Ipv6Addr| {
                    !(a.is_unspecified() || a.is_loopback() || a.is_multicast() || a.is_unicast_link_local())
                };
                if !good(from) || !good(to) {
                    return drop(DropReason::NotForwardable);
                }
                (IpAddr::V6(to), hops)
            }
        };
        let len = |p: &IpPrefix| match (p, addr) {
            (IpPrefix::V4(p), IpAddr::V4(a)) if p.contains(a) => Some(p.len()),
            (IpPrefix::V6(p), IpAddr::V6(a)) if p.contains(a) => Some(p.len()),
            _ => None,
        };
        let best = network.routes.iter().filter_map(|(p, hop)| Some((len(p)?, *hop))).max_by_key(|r| r.0);
        let (mac, way) = match best.map(|r| r.1) {
            None => {
                if network.config.notify_miss {
                    self.events.push(Event::NoRoute { vni, addr });
                }
                return drop(DropReason::NoRoute);
            }
            Some(NextHop::Blackhole) => return drop(DropReason::Blackhole),
            Some(NextHop::Direct) => return (Way::Punt(PuntReason::DirectRoute), None),
            Some(NextHop::Port(p)) => {
                (self.locals[usize::from(p.0)].as_ref().unwrap().config.peer_mac, Way::Port(p))
            }
            Some(NextHop::Vtep(v)) => {
                (self.peers[usize::from(v.0)].as_ref().unwrap().config.inner_mac, Way::Tunnel(v))
            }
        };
        match mac {
            _ if ttl <= 1 => (Way::Punt(PuntReason::TtlExpired), None),
            None => (Way::Punt(PuntReason::NoNeighbor), None),
            mac => (way, mac),
        }
    }

    /// The bytes of a packet that was routed.
    pub fn routed(f: &Inner, mac: MacAddr) -> Vec<u8> {
        let kind = match f.kind {
            Kind::V4 { from, to, ttl, tos, right } => Kind::V4 { from, to, ttl: ttl - 1, tos, right },
            Kind::V6 { from, to, hops } => Kind::V6 { from, to, hops: hops - 1 },
            other => other,
        };
        Inner { dst: mac, src: ROUTER, kind, ..f.clone() }.bytes()
    }

    pub fn fits(&self, vtep: VtepId, len: usize) -> bool {
        let config = self.peers[usize::from(vtep.0)].as_ref().unwrap().config;
        let overhead = if config.addr.is_ipv4() { 36 } else { 56 };
        config.mtu == 0 || len + overhead <= usize::from(config.mtu)
    }

    pub fn header(&self, vni: Vni) -> Vec<u8> {
        let mut h = vxlan(vni.get(), &[]);
        if let Some(id) = self.networks[&vni].config.group_policy {
            h[0] |= 0x80;
            h[2..4].copy_from_slice(&id.to_be_bytes());
        }
        h
    }

    /// The verdict on a frame from a port, its bytes afterwards, and its copies.
    pub fn encap(&mut self, port: PortId, f: &Inner, headroom: usize, lessons: &mut Vec<Lesson>) -> Decided {
        let local = self.locals[usize::from(port.0)].as_mut().unwrap();
        let (bytes, config) = (f.bytes(), local.config);
        let len = bytes.len();
        self.totals.plain[0] += 1;
        count(&mut local.counters.rx, len);
        let vni = config.vni;
        let network = self.networks[&vni].config;
        let (way, mac) = match network.mode {
            Mode::Routed { .. } => self.route(vni, f, true),
            Mode::Bridged => match f.unreadable() {
                Some(reason) => (Way::Drop(reason), None),
                None => {
                    let from = Source::Known(Destination::Port(port));
                    (self.bridge(vni, f, from, network.learning && config.learning, lessons), None)
                }
            },
        };
        let changed = mac.map_or(bytes.clone(), |mac| Model::routed(f, mac));
        let refuse = |model: &mut Model, reason, vtep| {
            model.drop(reason, Some(vni), vtep, Some(port));
            (Verdict::Drop(reason), bytes.clone(), vec![])
        };
        match way {
            Way::Drop(reason) => refuse(self, reason, None),
            Way::Punt(reason) => {
                *self.totals.punts.entry(reason).or_default() += 1;
                (Verdict::Punt(reason), bytes, vec![])
            }
            Way::Port(p) if p == port => refuse(self, DropReason::SamePort, None),
            Way::Port(p) => {
                self.totals.plain[3] += 1;
                count(&mut self.locals[usize::from(p.0)].as_mut().unwrap().counters.tx, len);
                (Verdict::ToPort(p), changed, vec![])
            }
            Way::Tunnel(v) => {
                if !self.fits(v, len) {
                    if mac.is_some() {
                        *self.totals.punts.entry(PuntReason::TooBig).or_default() += 1;
                        return (Verdict::Punt(PuntReason::TooBig), bytes, vec![]);
                    }
                    return refuse(self, DropReason::MtuExceeded, Some(v));
                }
                if headroom < 8 {
                    return refuse(self, DropReason::NoHeadroom, Some(v));
                }
                self.totals.plain[2] += 1;
                count(&mut self.networks.get_mut(&vni).unwrap().counters.tx, len);
                count(&mut self.peers[usize::from(v.0)].as_mut().unwrap().counters.tx, len);
                (Verdict::ToUnderlay(v), [self.header(vni), changed].concat(), vec![])
            }
            Way::Flood => {
                let network = self.networks[&vni].clone();
                let ports: Vec<_> = network.ports.iter().filter(|p| **p != port).copied().collect();
                if ports.is_empty() && network.vteps.is_empty() {
                    return refuse(self, DropReason::NoFloodTarget, None);
                }
                self.totals.plain[4] += 1;
                count(&mut self.networks.get_mut(&vni).unwrap().counters.tx, len);
                let mut copies: Vec<_> = ports.iter().map(|p| Sent::Port(*p)).collect();
                for p in ports {
                    count(&mut self.locals[usize::from(p.0)].as_mut().unwrap().counters.tx, len);
                }
                for v in network.vteps {
                    if self.fits(v, len) {
                        count(&mut self.peers[usize::from(v.0)].as_mut().unwrap().counters.tx, len);
                        copies.push(Sent::Vtep(v, self.header(vni)));
                    } else {
                        self.drop(DropReason::MtuExceeded, Some(vni), Some(v), None);
                    }
                }
                (Verdict::Flood(vni), bytes, copies)
            }
        }
    }

    /// The same of a datagram from the underlay.
    pub fn decap(&mut self, d: &Datagram, lessons: &mut Vec<Lesson>) -> Decided {
        self.totals.plain[1] += 1;
        let inner = d.inner.bytes();
        let peer = d.source.and_then(|a| self.peer(a));
        let known = self.networks.get(&d.vni).map(|_| d.vni);
        let refuse = |model: &mut Model, reason, vni, peer| {
            model.drop(reason, vni, peer, None);
            (Verdict::Drop(reason), d.bytes(), vec![])
        };
        if !d.valid {
            return refuse(self, DropReason::NoVniFlag, None, None);
        }
        if d.source.is_some_and(|a| a == A || a.is_unspecified() || a.is_multicast()) {
            return refuse(self, DropReason::InvalidOuterSource, None, peer);
        }
        let Some(vni) = known else { return refuse(self, DropReason::UnknownVni, None, peer) };
        let network = self.networks[&vni].clone();
        if peer.is_none() && network.config.accept == Accept::KnownVteps {
            return refuse(self, DropReason::UnknownSource, known, peer);
        }
        let field = match d.inner.kind {
            Kind::V4 { tos, .. } if d.inner.unreadable().is_none() => Some(tos & 3),
            Kind::V6 { .. } if d.inner.unreadable().is_none() => Some(0),
            Kind::Solicitation if d.inner.unreadable().is_none() && d.inner.cut.is_none() => Some(0),
            _ => None,
        };
        let mut marked = d.inner.clone();
        // RFC 6040, figure 4.
        match (field, d.ecn) {
            (Some(0), 3) => return refuse(self, DropReason::BadEcn, known, peer),
            (Some(1 | 2), 3) | (Some(2), 1) => {
                if let Kind::V4 { tos, .. } = &mut marked.kind {
                    *tos = *tos & !3 | d.ecn;
                }
            }
            _ => {}
        }
        let (way, mac) = match network.config.mode {
            Mode::Routed { .. } => self.route(vni, &d.inner, false),
            Mode::Bridged => match d.inner.unreadable() {
                Some(reason) => (Way::Drop(reason), None),
                None => {
                    let silent = self.group_policy && d.group.is_some_and(|g| g.dont_learn);
                    let learns = network.config.learning && !silent && d.source.is_some();
                    let from = match (peer, d.source) {
                        (Some(v), _) => Source::Known(Destination::Vtep(v)),
                        (None, addr) => Source::Stranger(addr.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))),
                    };
                    (self.bridge(vni, &d.inner, from, learns, lessons), None)
                }
            },
        };
        let way = match way {
            Way::Tunnel(_) => Way::Drop(DropReason::SplitHorizon),
            Way::Flood if network.ports.is_empty() => Way::Drop(DropReason::NoFloodTarget),
            way => way,
        };
        if let Way::Drop(reason) = way {
            return refuse(self, reason, known, peer);
        }
        count(&mut self.networks.get_mut(&vni).unwrap().counters.rx, inner.len());
        if let Some(v) = peer {
            count(&mut self.peers[usize::from(v.0)].as_mut().unwrap().counters.rx, inner.len());
        }
        let bytes = mac.map_or_else(|| marked.bytes(), |mac| Model::routed(&marked, mac));
        match way {
            Way::Port(p) => {
                self.totals.plain[3] += 1;
                count(&mut self.locals[usize::from(p.0)].as_mut().unwrap().counters.tx, inner.len());
                (Verdict::ToPort(p), bytes, vec![])
            }
            Way::Punt(reason) => {
                *self.totals.punts.entry(reason).or_default() += 1;
                (Verdict::Punt(reason), bytes, vec![])
            }
            _ => {
                self.totals.plain[4] += 1;
                for p in &network.ports {
                    count(&mut self.locals[usize::from(p.0)].as_mut().unwrap().counters.tx, inner.len());
                }
                (Verdict::Flood(vni), bytes, network.ports.iter().map(|p| Sent::Port(*p)).collect())
            }
        }
    }

    pub fn sweep(&mut self) {
        let now = self.now;
        let dead = |s: &Station| s.kind != EntryKind::Static && now.saturating_sub(s.seen) > 300;
        for ((vni, mac), s) in self.stations.iter().filter(|(_, s)| dead(s)) {
            self.events.push(Event::Aged { vni: *vni, mac: *mac, at: s.at });
            self.totals.plain[7] += 1;
        }
        self.forget(|_, s| dead(s));
        for id in (0..VTEPS as u16).map(VtepId) {
            let learned = self.peers[usize::from(id.0)].as_ref().is_some_and(|p| p.learned);
            if learned && self.held(Destination::Vtep(id)) == 0 {
                self.remove_peer(id);
            }
        }
    }

    pub fn entry(vni: Vni, mac: MacAddr, s: &Station) -> FdbEntry {
        let last_seen = Instant::from_millis(s.seen * 1000 / 128 * 128);
        FdbEntry { vni, mac, destination: s.at, kind: s.kind, last_seen }
    }

    pub fn is_there(&self, at: Destination, vni: Vni) -> bool {
        match at {
            Destination::Port(p) => {
                self.locals[usize::from(p.0)].as_ref().is_some_and(|p| p.config.vni == vni)
            }
            Destination::Vtep(v) => self.peers[usize::from(v.0)].is_some(),
        }
    }

    /// What a command does, or nothing where it is refused.
    pub fn apply(&mut self, command: &Command) -> Option<Change> {
        let sensible = |c: &VtepConfig| c.port != 0 && (c.mtu == 0 || c.mtu >= 128) && c.addr != A;
        match *command {
            Command::AddVni { vni, config } => {
                if self.networks.contains_key(&vni) || self.networks.len() == VNIS {
                    return None;
                }
                let (ports, vteps, routes) = (vec![], vec![], BTreeMap::new());
                let network = Network { config, ports, vteps, routes, counters: ScopeCount::default() };
                self.networks.insert(vni, network);
            }
            Command::SetVni { vni, config } => {
                let network = self.networks.get_mut(&vni)?;
                let other =
                    matches!(network.config.mode, Mode::Bridged) != matches!(config.mode, Mode::Bridged);
                network.config = config;
                if other {
                    network.routes.clear();
                    self.forget(|v, _| v == vni);
                }
            }
            Command::RemoveVni { vni } => {
                self.networks.get(&vni).filter(|n| n.ports.is_empty())?;
                self.networks.remove(&vni);
                self.forget(|v, _| v == vni);
            }
            Command::AddVtep(config) => {
                if !sensible(&config) {
                    return None;
                }
                if let Some(id) = self.peer(config.addr) {
                    let peer = self.peers[usize::from(id.0)].as_mut().filter(|p| p.learned)?;
                    (peer.config, peer.learned) = (config, false);
                    return Some(Change::Vtep(id));
                }
                if self.peers.iter().all(Option::is_some) {
                    let learned =
                        |id: &VtepId| self.peers[usize::from(id.0)].as_ref().is_some_and(|p| p.learned);
                    let mut learned = (0..VTEPS as u16).map(VtepId).filter(learned);
                    let idle = learned.clone().find(|id| self.held(Destination::Vtep(*id)) == 0);
                    let loser = idle.or_else(|| learned.next())?;
                    self.remove_peer(loser);
                }
                return self.add_peer(config, false).map(Change::Vtep);
            }
            Command::SetVtep { vtep, config } => {
                self.peers[usize::from(vtep.0)].as_ref()?;
                let taken = self.peer(config.addr).is_some_and(|id| id != vtep);
                if !sensible(&config)
                    || taken
                    || config.inner_mac.is_none() && self.routes_to(NextHop::Vtep(vtep)) > 0
                {
                    return None;
                }
                let peer = self.peers[usize::from(vtep.0)].as_mut()?;
                (peer.config, peer.learned) = (config, false);
            }
            Command::RemoveVtep { vtep } => {
                self.peers[usize::from(vtep.0)]
                    .as_ref()
                    .filter(|_| self.routes_to(NextHop::Vtep(vtep)) == 0)?;
                self.remove_peer(vtep);
            }
            Command::AddPort(config) => {
                let list = self.networks.get(&config.vni)?.ports.len();
                let free = self.locals.iter().position(Option::is_none).filter(|_| self.fits_on(list))?;
                self.locals[free] = Some(Local { config, counters: ScopeCount::default() });
                self.networks.get_mut(&config.vni)?.ports.push(PortId(free as u16));
                return Some(Change::Port(PortId(free as u16)));
            }
            Command::SetPort { port, config } => {
                self.locals[usize::from(port.0)].as_mut().filter(|p| p.config.vni == config.vni)?.config =
                    config;
            }
            Command::RemovePort { port } => {
                self.locals[usize::from(port.0)]
                    .as_ref()
                    .filter(|_| self.routes_to(NextHop::Port(port)) == 0)?;
                self.locals[usize::from(port.0)] = None;
                self.networks.values_mut().for_each(|n| n.ports.retain(|p| *p != port));
                self.forget(|_, s| s.at == Destination::Port(port));
            }
            Command::AddFlood { vni, vtep } => {
                let list = &self.networks.get(&vni)?.vteps;
                let refused = list.contains(&vtep) || !self.fits_on(list.len());
                self.peers[usize::from(vtep.0)].as_ref().filter(|_| !refused)?;
                self.networks.get_mut(&vni)?.vteps.push(vtep);
                self.adopt(vtep);
            }
            Command::RemoveFlood { vni, vtep } => {
                let list = &mut self.networks.get_mut(&vni)?.vteps;
                let at = list.iter().position(|v| *v == vtep)?;
                list.remove(at);
            }
            Command::AddMac { vni, mac, at, kind } => {
                if !self.networks.contains_key(&vni) || !mac.is_unicast() || !self.is_there(at, vni) {
                    return None;
                }
                let old = self.stations.insert((vni, mac), Station { at, kind, seen: self.now });
                if let Destination::Vtep(v) = at {
                    self.adopt(v);
                }
                return Some(old.map_or(Change::Done, |s| Change::Mac(Model::entry(vni, mac, &s))));
            }
            Command::RemoveMac { vni, mac } => {
                self.networks.get(&vni)?;
                let old = self.stations.remove(&(vni, mac))?;
                return Some(Change::Mac(Model::entry(vni, mac, &old)));
            }
            Command::FlushMacs { vni, at } => {
                let before = self.stations.len();
                self.forget(|v, s| {
                    s.kind != EntryKind::Static
                        && vni.is_none_or(|vni| vni == v)
                        && at.is_none_or(|at| at == s.at)
                });
                return Some(Change::Flushed(before - self.stations.len()));
            }
            Command::AddRoute { vni, prefix, next_hop } => {
                self.networks.get(&vni).filter(|n| matches!(n.config.mode, Mode::Routed { .. }))?;
                match next_hop {
                    NextHop::Port(p) if !self.is_there(Destination::Port(p), vni) => return None,
                    NextHop::Vtep(v) => {
                        self.peers[usize::from(v.0)].as_ref()?.config.inner_mac?;
                        self.adopt(v);
                    }
                    _ => {}
                }
                let old = self.networks.get_mut(&vni)?.routes.insert(prefix, next_hop);
                return Some(old.map_or(Change::Done, Change::Route));
            }
            Command::RemoveRoute { vni, prefix } => {
                let network = self.networks.get_mut(&vni)?;
                return network.routes.remove(&prefix).map(Change::Route);
            }
            _ => return None,
        }
        Some(Change::Done)
    }
}

/// A copy of a flooded frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Sent {
    Port(PortId),
    Vtep(VtepId, Vec<u8>),
}

pub type Decided = (Verdict, Vec<u8>, Vec<Sent>);
