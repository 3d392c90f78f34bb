//! Datagrams of any bytes.

use std::net::IpAddr;

use overlane::addr::{IpPrefix, Ipv4Prefix, Ipv6Prefix, MacAddr, NextHop, Vni};
use overlane::engine::{Command, EngineConfig, Verdict};
use overlane::error::DropReason;
use overlane::table::Seed;
use overlane::table::port::PortConfig;
use overlane::table::vni::{Accept, VniConfig};
use overlane::table::vtep::VtepConfig;
use overlane::time::Instant;
use overlane::wire::ethernet::EthernetHeader;
use overlane::wire::outer::{self, Outer, OuterPolicy, Shape};
use overlane::wire::vxlan::{ReservedBits, VxlanPolicy};

use crate::check::{self, Buffer, Done, Packet, Tally};
use crate::memory::{Node, Small};
use crate::packet::{LOCAL_MAC, LOCAL_V4, LOCAL_V6, ROUTER, SHAPES};

const NOW: Instant = Instant::from_secs(1_000);
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 99));

/// What kind of VNI the datagram meets.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Host {
    /// Bridged, its sender a known VTEP.
    Known,
    /// Bridged, and any sender will do.
    Open,
    /// Bridged, for known VTEPs only, its sender is none.
    Closed,
    Routed,
    /// Somebody else's VNI.
    Absent,
}

/// Gives the bytes to engines of every outer shape, set up so that these very bytes get as far as
/// they can: the VNI that they name exists, the address that they are sent to is the engine's own.
///
/// Whatever is dropped is untouched; what is not readable or not from an accepted sender teaches
/// nothing; everything else is the inner frame, for a port of that VNI and never for a tunnel. The
/// explanation says the same as the verdict, and the counters add up.
pub fn decap(data: &[u8]) {
    for shape in SHAPES {
        for host in [Host::Known, Host::Open, Host::Closed, Host::Routed, Host::Absent] {
            one(shape, host, data);
        }
    }
}

fn one(shape: Shape, host: Host, data: &[u8]) {
    let lax = VxlanPolicy { reserved: ReservedBits::Ignore, group_policy: host != Host::Known };
    let policy = OuterPolicy { vxlan: lax, ports: [4789, 8472, 0, 0], ..OuterPolicy::default() };
    let read = outer::parse(shape, data, &policy).ok();
    let Some(mut node) = furnished(shape, host, lax, read.as_ref(), data) else { return };
    let (engine, mut tally) = (&mut node.engine, Tally::default());
    let ecn = data.len() as u8 & 3;
    let packet = Packet {
        bytes: data.to_vec(),
        headroom: 4,
        source: (shape == Shape::Udp).then_some(PEER),
        ecn,
        ..Packet::default()
    };
    // Twice, as what the first taught is known to the second.
    for _ in 0..2 {
        let explained = check::explains(engine.tables(), NOW, None, &packet);
        let before = check::knowledge(engine);
        let mut buffer = Buffer::new(&packet);
        let mut frames = [buffer.frame(&packet)];
        engine.decap(NOW, &mut frames);
        let done = Done::of(engine.tables(), &frames[0]);
        let outcome = check::decapped(engine.tables(), &mut tally, &packet, &mut buffer, done);
        assert_eq!(explained, Some(outcome.verdict));
        if check::is_refusal(outcome.verdict) || host == Host::Routed {
            assert_eq!(check::knowledge(engine), before, "learned although {}", outcome.verdict);
        }
        let refusal = match host {
            Host::Closed => Some(DropReason::UnknownSource),
            Host::Absent => Some(DropReason::UnknownVni),
            _ => None,
        };
        if let Some(refusal) = refusal {
            let Verdict::Drop(reason) = outcome.verdict else { panic!("{host:?}: {}", outcome.verdict) };
            // Unless it was no packet of a VTEP at all.
            let none = reason.number() < 32 || reason == DropReason::InvalidOuterSource;
            assert!(reason == refusal || none, "{host:?}: {reason}");
        }
    }
    tally.agrees(engine.counters());
}

/// An engine to which these bytes mean as much as they can.
fn furnished(
    shape: Shape,
    host: Host,
    vxlan: VxlanPolicy,
    read: Option<&Outer>,
    data: &[u8],
) -> Option<Node<Small>> {
    let mut config = EngineConfig::new(LOCAL_V4.into(), Seed::fixed(9));
    (config.shape, config.local_mac, config.vxlan, config.allow_zero_checksum_v6) =
        (shape, LOCAL_MAC, vxlan, true);
    config.local_v6 = Some(LOCAL_V6);
    let (mut vni, mut source, mut dst) = (Vni::truncate(42), PEER, MacAddr::BROADCAST);
    if let Some(o) = read {
        vni = o.vxlan.vni;
        config.port = if shape == Shape::Udp { 4789 } else { o.udp_dst };
        source = o.src.unwrap_or(PEER);
        match o.dst {
            Some(IpAddr::V4(a)) => config.local_v4 = Some(a),
            Some(IpAddr::V6(a)) => config.local_v6 = Some(a),
            None => {}
        }
        let frame = data.get(o.payload.clone()).unwrap_or(&[]);
        dst = EthernetHeader::parse(frame).map_or(dst, |e| e.dst);
    }
    // An address that nobody can have, as own address.
    let mut node = Node::inline(config).ok()?;
    let engine = &mut node.engine;
    let mut apply = |command: Command| engine.apply(NOW, &command);
    let vni = if host == Host::Absent { Vni::truncate(vni.get() ^ 1) } else { vni };
    let settings = match host {
        Host::Open => VniConfig { accept: Accept::AnySource, ..VniConfig::default() },
        Host::Routed => VniConfig::routed(if dst.is_unicast() { dst } else { ROUTER }),
        _ => VniConfig { notify_miss: true, ..VniConfig::default() },
    };
    apply(Command::AddVni { vni, config: settings }).ok()?;
    let port = apply(Command::AddPort(PortConfig { peer_mac: Some(LOCAL_MAC), ..PortConfig::new(vni) }))
        .ok()?
        .port()?;
    apply(Command::AddPort(PortConfig::new(vni))).ok()?;
    if matches!(host, Host::Known | Host::Routed) {
        let peer =
            VtepConfig { underlay_mac: ROUTER, inner_mac: Some(LOCAL_MAC), ..VtepConfig::new(source, 4789) };
        // The source may be one that no VTEP can have.
        if let Ok(added) = apply(Command::AddVtep(peer)) {
            let vtep = added.vtep()?;
            let _ = apply(Command::AddFlood { vni, vtep });
            if host == Host::Routed {
                let any = IpPrefix::V6(Ipv6Prefix::new(std::net::Ipv6Addr::UNSPECIFIED, 0).ok()?);
                apply(Command::AddRoute { vni, prefix: any, next_hop: NextHop::Vtep(vtep) }).ok()?;
            }
        }
    }
    if host == Host::Routed {
        let any = IpPrefix::V4(Ipv4Prefix::new(std::net::Ipv4Addr::UNSPECIFIED, 0).ok()?);
        apply(Command::AddRoute { vni, prefix: any, next_hop: NextHop::Port(port) }).ok()?;
    }
    Some(node)
}
