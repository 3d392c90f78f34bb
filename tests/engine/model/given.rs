//! What both are given: frames, datagrams and commands by chance.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlane::addr::*;
use overlane::engine::*;
use overlane::error::DropReason;
use overlane::table::fdb::EntryKind;
use overlane::table::port::PortConfig;
use overlane::table::vni::{Accept, VniConfig};
use overlane::table::vtep::VtepConfig;
use overlane::wire::vxlan::GroupPolicy;

use super::*;

pub struct Random {
    pub state: u64,
    /// Whether there are limits of learning; then no time passes without a sweep.
    pub limited: bool,
}

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as usize % n
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len())]
    }
}

/// What a frame is made of.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Other,
    Arp,
    Solicitation,
    V4 { from: Ipv4Addr, to: Ipv4Addr, ttl: u8, tos: u8, right: bool },
    V6 { from: Ipv6Addr, to: Ipv6Addr, hops: u8 },
}

#[derive(Clone, Debug)]
pub struct Inner {
    pub dst: MacAddr,
    pub src: MacAddr,
    pub tags: usize,
    pub kind: Kind,
    /// Only so many octets of it.
    pub cut: Option<usize>,
    pub padding: usize,
}

impl Inner {
    pub fn bytes(&self) -> Vec<u8> {
        let mut b = [self.dst.0, self.src.0].concat();
        for _ in 0..self.tags {
            b.extend_from_slice(&[0x81, 0x00, 0x00, 0x2a]);
        }
        let payload = vec![7; self.padding];
        match self.kind {
            Kind::Other => b.extend_from_slice(&[0x88, 0xb5]),
            Kind::Arp => {
                b.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
                b.extend_from_slice(&[0; 20]);
            }
            Kind::Solicitation => {
                b.extend_from_slice(&[0x86, 0xdd]);
                let mut p = ipv6(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, 255, &[135; 24]);
                p[6] = 58;
                b.extend_from_slice(&p);
            }
            Kind::V4 { from, to, ttl, tos, right } => {
                b.extend_from_slice(&[8, 0]);
                let mut p = ipv4(from, to, ttl, tos, &[&[1, 2, 3, 4, 0, 8, 0, 0][..], &payload].concat());
                p[11] ^= u8::from(!right);
                b.extend_from_slice(&p);
                return b;
            }
            Kind::V6 { from, to, hops } => {
                b.extend_from_slice(&[0x86, 0xdd]);
                b.extend_from_slice(&ipv6(
                    from,
                    to,
                    hops,
                    &[&[1, 2, 3, 4, 0, 8, 0, 0][..], &payload].concat(),
                ));
                return b;
            }
        }
        b.extend_from_slice(&payload);
        b.truncate(self.cut.unwrap_or(usize::MAX));
        b
    }

    /// Why no bridge can read it.
    pub fn unreadable(&self) -> Option<DropReason> {
        match self.cut {
            Some(cut) if cut < 14 + 4 * self.tags.min(2) => Some(DropReason::Truncated),
            _ if self.tags > 2 => Some(DropReason::TooManyTags),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Datagram {
    pub source: Option<IpAddr>,
    pub ecn: u8,
    pub valid: bool,
    pub vni: Vni,
    pub group: Option<GroupPolicy>,
    pub inner: Inner,
}

impl Datagram {
    pub fn bytes(&self) -> Vec<u8> {
        let mut d = vxlan(self.vni.get(), &self.inner.bytes());
        d[0] = if self.valid { 8 } else { 0 };
        if let Some(g) = self.group {
            d[0] |= 0x80;
            d[1] |= if g.dont_learn { 0x40 } else { 0 };
            d[2..4].copy_from_slice(&g.id.to_be_bytes());
        }
        d
    }
}

pub fn addr(n: usize) -> IpAddr {
    match n {
        0..=3 => [10, 0, 0, n as u8 + 1].into(),
        4..=6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n as u16).into(),
        _ => A,
    }
}

pub fn v4(r: &mut Random) -> Ipv4Addr {
    let [b, c, d] = [r.of(&[0, 1]), r.of(&[0, 1]), r.of(&[1, 2])];
    [if r.one_in(12) { r.of(&[0, 127, 224, 255]) } else { 10 }, b, c, d].into()
}

pub fn v6(r: &mut Random) -> Ipv6Addr {
    let first = if r.one_in(12) { r.of(&[0xff02, 0xfe80]) } else { 0xfd00 };
    Ipv6Addr::new(first, r.of(&[0, 1]), 0, 0, r.of(&[0, 1]), 0, 0, r.of(&[1, 2]))
}

pub fn station(r: &mut Random) -> MacAddr {
    if r.one_in(20) {
        r.of(&[MacAddr::ZERO, ALL, ROUTER, MacAddr([3, 0, 0, 0, 0, 1])])
    } else {
        mac(1 + r.below(7) as u8)
    }
}

pub fn inner(r: &mut Random) -> Inner {
    let kind = match r.below(8) {
        0 => Kind::Arp,
        1 => Kind::Solicitation,
        2 => Kind::Other,
        3 | 4 => Kind::V6 { from: v6(r), to: v6(r), hops: r.of(&[0, 1, 2, 64]) },
        _ => {
            // A sum that is wrong stays so under a mark, but by how much is nobody's business.
            let right = !r.one_in(12);
            let tos = if right { r.below(256) as u8 } else { 0 };
            Kind::V4 { from: v4(r), to: v4(r), ttl: r.of(&[0, 1, 2, 64]), tos, right }
        }
    };
    let ip = matches!(kind, Kind::V4 { .. } | Kind::V6 { .. });
    let dst = match r.below(6) {
        0 => r.of(&[ALL, MacAddr([0x33, 0x33, 0, 0, 0, 1])]),
        1 | 2 => ROUTER,
        _ => station(r),
    };
    let cut = (!ip && r.one_in(10)).then(|| r.below(24));
    let padding = if r.one_in(5) { 80 + r.below(60) } else { r.below(8) };
    Inner { dst, src: station(r), tags: if r.one_in(4) { r.below(4) } else { 0 }, kind, cut, padding }
}

pub fn vtep_config(r: &mut Random) -> VtepConfig {
    VtepConfig {
        mtu: if r.one_in(3) { r.of(&[1, 127, 128, 150, 200]) } else { 0 },
        port: if r.one_in(20) { 0 } else { 4789 },
        inner_mac: (!r.one_in(3)).then_some(mac(0xc0)),
        learn_limit: limit(r),
        ..VtepConfig::new(addr(r.below(8)), 4789)
    }
}

pub fn limit(r: &mut Random) -> u32 {
    if r.limited && r.one_in(4) { r.below(4) as u32 } else { u32::MAX }
}

pub fn command(r: &mut Random) -> Command {
    let vni = Vni::truncate(r.of(&NUMBERS));
    let (port, vtep) = (PortId(r.below(PORTS) as u16), VtepId(r.below(VTEPS) as u16));
    let at = if r.one_in(2) { Destination::Port(port) } else { Destination::Vtep(vtep) };
    let mut config = if r.one_in(3) { VniConfig::routed(ROUTER) } else { VniConfig::default() };
    config.learning = !r.one_in(4);
    config.flood_unknown = !r.one_in(4);
    config.notify_miss = r.one_in(2);
    config.accept = if r.one_in(2) { Accept::AnySource } else { Accept::KnownVteps };
    config.group_policy = r.one_in(3).then_some(0x1234);
    let port_config = PortConfig {
        learning: !r.one_in(4),
        learn_limit: limit(r),
        peer_mac: (!r.one_in(3)).then_some(mac(0xd0)),
        ..PortConfig::new(vni)
    };
    let prefix = if r.one_in(2) {
        let len = r.of(&[0, 8, 16, 24, 32]);
        Ipv4Prefix::truncate(Ipv4Addr::new(10, r.of(&[0, 1]), r.of(&[0, 1]), r.of(&[1, 2])), len)
            .unwrap()
            .into()
    } else {
        Ipv6Prefix::truncate(
            Ipv6Addr::new(0xfd00, r.of(&[0, 1]), 0, 0, r.of(&[0, 1]), 0, 0, 1),
            r.of(&[0, 32, 80, 128]),
        )
        .unwrap()
        .into()
    };
    let next_hop = r.of(&[
        NextHop::Port(port),
        NextHop::Vtep(vtep),
        NextHop::Vtep(vtep),
        NextHop::Direct,
        NextHop::Blackhole,
    ]);
    let kind = r.of(&[EntryKind::Static, EntryKind::Sticky, EntryKind::Learned]);
    match r.below(36) {
        0..=3 => Command::AddVni { vni, config },
        4 | 5 => Command::SetVni { vni, config },
        6 => Command::RemoveVni { vni },
        7..=9 => Command::AddVtep(vtep_config(r)),
        10 | 11 => Command::SetVtep { vtep, config: vtep_config(r) },
        12 => Command::RemoveVtep { vtep },
        13..=16 => Command::AddPort(port_config),
        17 | 18 => Command::SetPort { port, config: port_config },
        19 => Command::RemovePort { port },
        20..=22 => Command::AddFlood { vni, vtep },
        23 => Command::RemoveFlood { vni, vtep },
        24..=26 => Command::AddMac { vni, mac: station(r), at, kind },
        27 => Command::RemoveMac { vni, mac: station(r) },
        28 => Command::FlushMacs { vni: r.one_in(2).then_some(vni), at: r.one_in(2).then_some(at) },
        29..=33 => Command::AddRoute { vni, prefix, next_hop },
        _ => Command::RemoveRoute { vni, prefix },
    }
}
