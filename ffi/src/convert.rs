//! The ABI's numbers and structures to the engine's types and back.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use overlane::addr::{Destination, IpPrefix, MacAddr, NextHop, PortId, Vni, VtepId};
use overlane::engine::{Capacity, EngineConfig, Event, ScopeCounters, Verdict};
use overlane::error::CapacityError;
use overlane::table::{
    Accept, EntryKind, FdbEntry, Mode, Origin, Port, PortConfig, Seed, VniConfig, Vtep, VtepConfig,
};
use overlane::wire::outer::Shape;
use overlane::wire::template::UdpChecksum;
use overlane::wire::vxlan::{GroupPolicy, ReservedBits, VxlanPolicy};

use crate::failure::Failure;
use crate::raw::{Versioned, zeroed};
use crate::status::*;
use crate::types::*;

type Result<T> = core::result::Result<T, Failure>;

fn flag(what: &'static str, value: u8) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Failure::Value { what, value: value.into() }),
    }
}

fn zeros(what: &'static str, reserved: impl IntoIterator<Item = u8>) -> Result<()> {
    if reserved.into_iter().all(|b| b == 0) { Ok(()) } else { Err(Failure::Reserved(what)) }
}

/// One of some numbers that stand for something.
fn choice<T: Copy>(what: &'static str, value: u8, choices: &[(u8, T)]) -> Result<T> {
    let found = choices.iter().find(|(n, _)| *n == value).map(|(_, t)| *t);
    found.ok_or(Failure::Value { what, value: value.into() })
}

pub(crate) fn vni(vni: u32) -> Result<Vni> {
    Vni::new(vni).map_err(|_| Failure::VniRange(vni))
}

/// An id, or none.
pub(crate) fn id(what: &'static str, value: u32) -> Result<Option<u16>> {
    match u16::try_from(value) {
        Ok(id) => Ok(Some(id)),
        Err(_) if value == OVERLANE_NONE => Ok(None),
        Err(_) => Err(Failure::Value { what, value: value.into() }),
    }
}

fn optional_mac(octets: [u8; 6]) -> Option<MacAddr> {
    if octets == [0; 6] { None } else { Some(MacAddr(octets)) }
}

fn ip(what: &'static str, bytes: [u8; 16], family: u8) -> Result<Option<IpAddr>> {
    match family {
        OVERLANE_FAMILY_NONE => Ok(None),
        OVERLANE_FAMILY_IPV4 => {
            let [a, b, c, d, ..] = bytes;
            Ok(Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d))))
        }
        OVERLANE_FAMILY_IPV6 => Ok(Some(IpAddr::V6(Ipv6Addr::from(bytes)))),
        _ => Err(Failure::Value { what, value: family.into() }),
    }
}

fn ip_bytes(addr: IpAddr) -> ([u8; 16], u8) {
    match addr {
        IpAddr::V4(a) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&a.octets());
            (bytes, OVERLANE_FAMILY_IPV4)
        }
        IpAddr::V6(a) => (a.octets(), OVERLANE_FAMILY_IPV6),
    }
}

impl overlane_addr {
    /// The address, if one is stated.
    pub(crate) fn stated(&self) -> Result<Option<IpAddr>> {
        zeros("addr", self.reserved)?;
        ip("addr.family", self.bytes, self.family)
    }

    /// The address, which must be stated.
    pub(crate) fn given(&self) -> Result<IpAddr> {
        self.stated()?.ok_or(Failure::Value { what: "addr.family", value: self.family.into() })
    }
}

impl From<IpAddr> for overlane_addr {
    fn from(addr: IpAddr) -> overlane_addr {
        let (bytes, family) = ip_bytes(addr);
        overlane_addr { bytes, family, reserved: [0; 3] }
    }
}

impl overlane_prefix {
    pub(crate) fn given(&self) -> Result<IpPrefix> {
        zeros("prefix", self.reserved.to_ne_bytes())?;
        let addr = ip("prefix.family", self.bytes, self.family)?
            .ok_or(Failure::Value { what: "prefix.family", value: self.family.into() })?;
        IpPrefix::new(addr, self.len).map_err(Failure::Prefix)
    }
}

impl From<IpPrefix> for overlane_prefix {
    fn from(prefix: IpPrefix) -> overlane_prefix {
        let (addr, len) = match prefix {
            IpPrefix::V4(p) => (IpAddr::V4(p.addr()), p.len()),
            IpPrefix::V6(p) => (IpAddr::V6(p.addr()), p.len()),
        };
        let (bytes, family) = ip_bytes(addr);
        overlane_prefix { bytes, family, len, reserved: 0 }
    }
}

/// A destination, or none.
pub(crate) fn at(kind: u8, id: u16) -> Result<Option<Destination>> {
    match kind {
        OVERLANE_AT_NONE => Ok(None),
        OVERLANE_AT_PORT => Ok(Some(Destination::Port(PortId(id)))),
        OVERLANE_AT_VTEP => Ok(Some(Destination::Vtep(VtepId(id)))),
        _ => Err(Failure::Value { what: "at_kind", value: kind.into() }),
    }
}

pub(crate) fn at_numbers(at: Destination) -> (u8, u16) {
    match at {
        Destination::Port(p) => (OVERLANE_AT_PORT, p.0),
        Destination::Vtep(v) => (OVERLANE_AT_VTEP, v.0),
    }
}

pub(crate) fn hop(kind: u8, id: u16) -> Result<NextHop> {
    match kind {
        OVERLANE_AT_PORT => Ok(NextHop::Port(PortId(id))),
        OVERLANE_AT_VTEP => Ok(NextHop::Vtep(VtepId(id))),
        OVERLANE_AT_DIRECT => Ok(NextHop::Direct),
        OVERLANE_AT_BLACKHOLE => Ok(NextHop::Blackhole),
        _ => Err(Failure::Value { what: "at_kind", value: kind.into() }),
    }
}

pub(crate) fn hop_numbers(hop: NextHop) -> (u8, u16) {
    match hop {
        NextHop::Port(p) => (OVERLANE_AT_PORT, p.0),
        NextHop::Vtep(v) => (OVERLANE_AT_VTEP, v.0),
        NextHop::Direct => (OVERLANE_AT_DIRECT, 0),
        NextHop::Blackhole => (OVERLANE_AT_BLACKHOLE, 0),
    }
}

pub(crate) fn route(prefix: IpPrefix, hop: NextHop) -> overlane_route {
    let (at_kind, at) = hop_numbers(hop);
    overlane_route { size: 0, prefix: prefix.into(), at_kind, reserved: 0, at }
}

const KINDS: &[(u8, EntryKind)] = &[
    (OVERLANE_MAC_LEARNED, EntryKind::Learned),
    (OVERLANE_MAC_STICKY, EntryKind::Sticky),
    (OVERLANE_MAC_STATIC, EntryKind::Static),
];

pub(crate) fn entry_kind(kind: u8) -> Result<EntryKind> {
    choice("kind", kind, KINDS)
}

/// The number of something that [`choice`] finds by it.
fn number<T: PartialEq>(value: T, choices: &[(u8, T)]) -> u8 {
    choices.iter().find(|(_, t)| *t == value).map_or(u8::MAX, |(n, _)| *n)
}

const SHAPES: &[(u8, Shape)] = &[
    (OVERLANE_SHAPE_UDP, Shape::Udp),
    (OVERLANE_SHAPE_IP, Shape::Ip),
    (OVERLANE_SHAPE_ETHERNET, Shape::Ethernet),
];
const CHECKSUMS: &[(u8, UdpChecksum)] =
    &[(OVERLANE_CHECKSUM_ZERO, UdpChecksum::Zero), (OVERLANE_CHECKSUM_FULL, UdpChecksum::Full)];

impl Versioned for overlane_config {
    fn defaults() -> overlane_config {
        let config = EngineConfig::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), Seed::new([0; 16]));
        overlane_config {
            size: size_of::<overlane_config>() as u32,
            shape: number(config.shape, SHAPES),
            ttl: config.ttl,
            dscp: config.dscp,
            dont_fragment: config.dont_fragment.into(),
            checksum_v4: number(config.checksum_v4, CHECKSUMS),
            checksum_v6: number(config.checksum_v6, CHECKSUMS),
            verify_checksum: config.verify_checksum.into(),
            allow_zero_checksum_v6: config.allow_zero_checksum_v6.into(),
            reserved_bits: OVERLANE_RESERVED_IGNORE,
            group_policy: config.vxlan.group_policy.into(),
            port: config.port,
            source_port_first: config.source_ports.0,
            source_port_last: config.source_ports.1,
            ageing_ms: config.ageing.as_millis() as u64,
            ..zeroed()
        }
    }
}

impl overlane_config {
    pub(crate) fn settings(&self) -> Result<EngineConfig> {
        zeros("config", self.reserved.to_ne_bytes())?;
        if self.seed == [0; 16] {
            return Err(Failure::Status(OVERLANE_E_CONFIG_SEED));
        }
        let reserved = match self.reserved_bits {
            OVERLANE_RESERVED_IGNORE => ReservedBits::Ignore,
            OVERLANE_RESERVED_STRICT => ReservedBits::Strict,
            OVERLANE_RESERVED_MASK => ReservedBits::Mask(self.reserved_mask),
            value => return Err(Failure::Value { what: "reserved_bits", value: value.into() }),
        };
        let (v4, v6) = (Ipv4Addr::from(self.local_v4), Ipv6Addr::from(self.local_v6));
        Ok(EngineConfig {
            shape: choice("shape", self.shape, SHAPES)?,
            local_v4: Some(v4).filter(|a| !a.is_unspecified()),
            local_v6: Some(v6).filter(|a| !a.is_unspecified()),
            local_mac: MacAddr(self.local_mac),
            port: self.port,
            source_ports: (self.source_port_first, self.source_port_last),
            ttl: self.ttl,
            dscp: self.dscp,
            dont_fragment: flag("dont_fragment", self.dont_fragment)?,
            checksum_v4: choice("checksum_v4", self.checksum_v4, CHECKSUMS)?,
            checksum_v6: choice("checksum_v6", self.checksum_v6, CHECKSUMS)?,
            verify_checksum: flag("verify_checksum", self.verify_checksum)?,
            allow_zero_checksum_v6: flag("allow_zero_checksum_v6", self.allow_zero_checksum_v6)?,
            vxlan: VxlanPolicy { reserved, group_policy: flag("group_policy", self.group_policy)? },
            ageing: Duration::from_millis(self.ageing_ms),
            seed: Seed::new(self.seed),
        })
    }
}

impl Versioned for overlane_capacity {
    fn defaults() -> overlane_capacity {
        let c = Capacity::default();
        overlane_capacity {
            size: size_of::<overlane_capacity>() as u32,
            macs: c.macs as u32,
            routes_v4: c.routes_v4 as u32,
            routes_v6: c.routes_v6 as u32,
            vnis: c.vnis as u32,
            vteps: c.vteps as u32,
            ports: c.ports as u32,
            flood_members: c.flood_members as u32,
            events: c.events as u32,
        }
    }
}

impl overlane_capacity {
    pub(crate) fn amounts(&self) -> Result<Capacity> {
        // The tables say so too, but only once they have the memory.
        for (table, entries, max) in [
            ("VNI table", self.vnis, 1 << 24),
            ("VTEP table", self.vteps, 1 << 16),
            ("port table", self.ports, 1 << 16),
        ] {
            if entries > max {
                let (entries, max) = (entries as usize, max as usize);
                return Err(Failure::Config(CapacityError::TooLarge { table, entries, max }.into()));
            }
        }
        Ok(Capacity {
            macs: self.macs as usize,
            routes_v4: self.routes_v4 as usize,
            routes_v6: self.routes_v6 as usize,
            vnis: self.vnis as usize,
            vteps: self.vteps as usize,
            ports: self.ports as usize,
            flood_members: self.flood_members as usize,
            events: self.events as usize,
        })
    }
}

const ACCEPTS: &[(u8, Accept)] =
    &[(OVERLANE_ACCEPT_KNOWN, Accept::KnownVteps), (OVERLANE_ACCEPT_ANY, Accept::AnySource)];

impl Versioned for overlane_vni_config {
    fn defaults() -> overlane_vni_config {
        VniConfig::default().into()
    }
}

impl overlane_vni_config {
    pub(crate) fn settings(&self) -> Result<VniConfig> {
        zeros("config", self.reserved.to_ne_bytes())?;
        let mode = match self.mode {
            OVERLANE_MODE_BRIDGED => Mode::Bridged,
            OVERLANE_MODE_ROUTED => Mode::Routed { router_mac: MacAddr(self.router_mac) },
            value => return Err(Failure::Value { what: "mode", value: value.into() }),
        };
        Ok(VniConfig {
            mode,
            accept: choice("accept", self.accept, ACCEPTS)?,
            learning: flag("learning", self.learning)?,
            flood_unknown: flag("flood_unknown", self.flood_unknown)?,
            notify_miss: flag("notify_miss", self.notify_miss)?,
            group_policy: flag("has_group", self.has_group)?.then_some(self.group),
        })
    }
}

impl From<VniConfig> for overlane_vni_config {
    fn from(c: VniConfig) -> overlane_vni_config {
        let (mode, router_mac) = match c.mode {
            Mode::Bridged => (OVERLANE_MODE_BRIDGED, [0; 6]),
            Mode::Routed { router_mac } => (OVERLANE_MODE_ROUTED, router_mac.0),
        };
        overlane_vni_config {
            size: size_of::<overlane_vni_config>() as u32,
            mode,
            accept: number(c.accept, ACCEPTS),
            learning: c.learning.into(),
            flood_unknown: c.flood_unknown.into(),
            notify_miss: c.notify_miss.into(),
            has_group: c.group_policy.is_some().into(),
            group: c.group_policy.unwrap_or(0),
            router_mac,
            reserved: 0,
        }
    }
}

impl Versioned for overlane_vtep_config {
    fn defaults() -> overlane_vtep_config {
        overlane_vtep_config {
            size: size_of::<overlane_vtep_config>() as u32,
            port: overlane::wire::vxlan::PORT,
            mtu: 0,
            learn_limit: u32::MAX,
            ..zeroed()
        }
    }
}

impl overlane_vtep_config {
    pub(crate) fn settings(&self) -> Result<VtepConfig> {
        Ok(VtepConfig {
            addr: self.addr.given()?,
            port: self.port,
            underlay_mac: MacAddr(self.underlay_mac),
            inner_mac: optional_mac(self.inner_mac),
            mtu: self.mtu,
            learn_limit: self.learn_limit,
        })
    }
}

impl Versioned for overlane_port_config {
    fn defaults() -> overlane_port_config {
        overlane_port_config {
            size: size_of::<overlane_port_config>() as u32,
            learn_limit: u32::MAX,
            learning: 1,
            ..zeroed()
        }
    }
}

impl overlane_port_config {
    pub(crate) fn settings(&self) -> Result<PortConfig> {
        zeros("config", [self.reserved])?;
        Ok(PortConfig {
            vni: vni(self.vni)?,
            peer_mac: optional_mac(self.peer_mac),
            learning: flag("learning", self.learning)?,
            learn_limit: self.learn_limit,
        })
    }
}

impl Versioned for overlane_event {}
impl Versioned for overlane_mac_entry {}
impl Versioned for overlane_vtep_info {}
impl Versioned for overlane_port_info {}
impl Versioned for overlane_route {}
impl Versioned for overlane_counters {}
impl Versioned for overlane_traffic {}

impl overlane_meta {
    /// The group, if one is present.
    pub(crate) fn group(&self) -> Result<Option<GroupPolicy>> {
        const ALL: u8 = OVERLANE_GROUP_PRESENT | OVERLANE_GROUP_DONT_LEARN | OVERLANE_GROUP_APPLIED;
        zeros("meta", [self.reserved])?;
        let flags = self.group_flags;
        if flags & !ALL != 0 || (flags != 0 && flags & OVERLANE_GROUP_PRESENT == 0) {
            return Err(Failure::Value { what: "group_flags", value: flags.into() });
        }
        Ok((flags != 0).then_some(GroupPolicy {
            id: self.group,
            dont_learn: flags & OVERLANE_GROUP_DONT_LEARN != 0,
            applied: flags & OVERLANE_GROUP_APPLIED != 0,
        }))
    }

    pub(crate) fn set_group(&mut self, group: Option<GroupPolicy>) {
        (self.group, self.group_flags) = match group {
            None => (0, 0),
            Some(g) => {
                let dont_learn = if g.dont_learn { OVERLANE_GROUP_DONT_LEARN } else { 0 };
                let applied = if g.applied { OVERLANE_GROUP_APPLIED } else { 0 };
                (g.id, OVERLANE_GROUP_PRESENT | dont_learn | applied)
            }
        };
    }
}

/// A verdict and its target.
#[inline]
pub(crate) fn verdict(verdict: Option<Verdict>) -> (u8, u16) {
    match verdict {
        None => (OVERLANE_VERDICT_NONE, 0),
        Some(Verdict::ToUnderlay(v)) => (OVERLANE_VERDICT_TO_UNDERLAY, v.0),
        Some(Verdict::ToPort(p)) => (OVERLANE_VERDICT_TO_PORT, p.0),
        Some(Verdict::Flood(_)) => (OVERLANE_VERDICT_FLOOD, 0),
        Some(Verdict::Punt(r)) => (OVERLANE_VERDICT_PUNT, r.number().into()),
        Some(Verdict::Drop(r)) => (OVERLANE_VERDICT_DROP, r.number().into()),
    }
}

pub(crate) fn event(event: Event) -> overlane_event {
    let mut e = overlane_event { vni: OVERLANE_NONE, kind: OVERLANE_EVENT_OTHER, ..zeroed() };
    let mut mac_at = |kind, vni: Vni, mac: MacAddr, at: Option<Destination>| {
        (e.kind, e.vni, e.mac) = (kind, vni.get(), mac.0);
        if let Some(at) = at {
            (e.at_kind, e.at) = at_numbers(at);
        }
    };
    match event {
        Event::Learned { vni, mac, at } => mac_at(OVERLANE_EVENT_LEARNED, vni, mac, Some(at)),
        Event::Moved { vni, mac, from, to } => {
            mac_at(OVERLANE_EVENT_MOVED, vni, mac, Some(to));
            (e.from_kind, e.from) = at_numbers(from);
        }
        Event::Aged { vni, mac, at } => mac_at(OVERLANE_EVENT_AGED, vni, mac, Some(at)),
        Event::Evicted { vni, mac, at } => mac_at(OVERLANE_EVENT_EVICTED, vni, mac, Some(at)),
        Event::QuotaHit { vni, mac, at } => mac_at(OVERLANE_EVENT_QUOTA_HIT, vni, mac, Some(at)),
        Event::FdbFull { vni, mac } => mac_at(OVERLANE_EVENT_FDB_FULL, vni, mac, None),
        Event::UnknownMac { vni, mac } => mac_at(OVERLANE_EVENT_UNKNOWN_MAC, vni, mac, None),
        Event::NoRoute { vni, addr } => {
            (e.kind, e.vni, e.addr) = (OVERLANE_EVENT_NO_ROUTE, vni.get(), addr.into());
        }
        Event::VtepLearned { vtep, addr } => {
            (e.kind, e.addr) = (OVERLANE_EVENT_VTEP_LEARNED, addr.into());
            (e.at_kind, e.at) = (OVERLANE_AT_VTEP, vtep.0);
        }
        Event::VtepTableFull { addr } => {
            (e.kind, e.addr) = (OVERLANE_EVENT_VTEP_TABLE_FULL, addr.into());
        }
        _ => {}
    }
    e
}

pub(crate) fn mac_entry(entry: FdbEntry) -> overlane_mac_entry {
    let (at_kind, at) = at_numbers(entry.destination);
    overlane_mac_entry {
        size: 0,
        vni: entry.vni.get(),
        last_seen_ms: entry.last_seen.as_millis(),
        mac: entry.mac.0,
        kind: number(entry.kind, KINDS),
        at_kind,
        at,
        reserved: [0; 6],
    }
}

pub(crate) fn vtep_info(id: VtepId, vtep: &Vtep, learned: u32) -> overlane_vtep_info {
    overlane_vtep_info {
        size: 0,
        id: id.0,
        origin: match vtep.origin {
            Origin::Configured => OVERLANE_ORIGIN_CONFIGURED,
            Origin::Learned => OVERLANE_ORIGIN_LEARNED,
        },
        reserved: 0,
        addr: vtep.config.addr.into(),
        port: vtep.config.port,
        mtu: vtep.config.mtu,
        learn_limit: vtep.config.learn_limit,
        learned,
        routes: vtep.routes,
        epoch: vtep.epoch,
        underlay_mac: vtep.config.underlay_mac.0,
        inner_mac: vtep.config.inner_mac.unwrap_or_default().0,
    }
}

pub(crate) fn port_info(id: PortId, port: &Port, learned: u32) -> overlane_port_info {
    overlane_port_info {
        size: 0,
        vni: port.config.vni.get(),
        learn_limit: port.config.learn_limit,
        learned,
        routes: port.routes,
        id: id.0,
        peer_mac: port.config.peer_mac.unwrap_or_default().0,
        learning: port.config.learning.into(),
        reserved: [0; 3],
    }
}

pub(crate) fn traffic(c: &ScopeCounters) -> overlane_traffic {
    overlane_traffic {
        size: 0,
        reserved: 0,
        rx_frames: c.traffic.rx_frames,
        rx_octets: c.traffic.rx_octets,
        tx_frames: c.traffic.tx_frames,
        tx_octets: c.traffic.tx_octets,
        dropped: c.drops.total(),
    }
}
