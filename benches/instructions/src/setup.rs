//! Tables and packets for the hot functions, the same in every run.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlane::addr::{Destination, IpPrefix, MacAddr, NextHop, PortId, Vni, VtepId};
use overlane::engine::{Capacity, Command, Engine, EngineConfig, HEADROOM, Heap};
use overlane::table::port::PortConfig;
use overlane::table::vni::VniConfig;
use overlane::table::vtep::VtepConfig;
use overlane::table::{EntryKind, Seed};
use overlane::time::Instant;
use overlane::wire::checksum::Sum;
use overlane::wire::outer::Shape;

/// Units of work that are counted, and entries of each table.
pub const N: usize = 1024;
pub const BATCH: usize = overlane::engine::BATCH;
/// Octets of an inner frame, and of the outer headers before it.
pub const INNER: usize = 64;
pub const OUTER: usize = 50;
pub const NOW: Instant = Instant::from_secs(1);
pub const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const LOCAL_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
/// The bridged VNI with all addresses, and the routed one with all routes.
pub const BRIDGE: Vni = Vni::truncate(42);
pub const ROUTER: Vni = Vni::truncate(43);

pub fn engine() -> Engine<Heap> {
    engine_of(Shape::Ethernet)
}

pub fn engine_of(shape: Shape) -> Engine<Heap> {
    let config =
        EngineConfig { shape, local_mac: LOCAL_MAC, ..EngineConfig::new(IpAddr::V4(LOCAL), Seed::fixed(1)) };
    let mut engine = Engine::<Heap>::with_capacity(config, &Capacity::default()).expect("there is memory");
    let mut apply = |command| engine.apply(Instant::ZERO, &command).expect("there is room");
    apply(Command::AddVni { vni: BRIDGE, config: VniConfig::default() });
    apply(Command::AddVni { vni: ROUTER, config: VniConfig::routed(mac(12, 0)) });
    apply(Command::AddPort(PortConfig::new(BRIDGE)));
    for n in 0..200 {
        apply(Command::AddVni { vni: other_vni(n), config: VniConfig::default() });
        let config = VtepConfig::new(vtep_addr(n).into(), 4789);
        let (underlay_mac, inner_mac) = (mac(2, n), Some(mac(8, n)));
        apply(Command::AddVtep(VtepConfig { underlay_mac, inner_mac, ..config }));
    }
    for n in 0..N {
        let (vtep, port) = (Destination::Vtep(vtep_of(n)), Destination::Port(PortId(0)));
        apply(Command::AddMac { vni: BRIDGE, mac: remote(n), at: vtep, kind: EntryKind::Learned });
        apply(Command::AddMac { vni: BRIDGE, mac: local(n), at: port, kind: EntryKind::Learned });
        let next_hop = NextHop::Vtep(vtep_of(n));
        let (v4, v6) = (v4(n), v6(n));
        // Half of them longer, as a real table has several lengths.
        let (short, long) = if n % 2 == 0 { (22, 44) } else { (24, 48) };
        let v4 = IpPrefix::V4(overlane::addr::Ipv4Prefix::truncate(v4, short).expect("a length"));
        let v6 = IpPrefix::V6(overlane::addr::Ipv6Prefix::truncate(v6, long).expect("a length"));
        apply(Command::AddRoute { vni: ROUTER, prefix: v4, next_hop });
        apply(Command::AddRoute { vni: ROUTER, prefix: v6, next_hop });
    }
    engine
}

/// Splitmix64's step: another number for each.
fn random(n: usize) -> u64 {
    let z = (n as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub fn mac(first: u8, n: usize) -> MacAddr {
    let [a, b, c, d, e, ..] = random(n).to_le_bytes();
    MacAddr([first, a, b, c, d, e])
}

/// An address behind a VTEP, and one behind the port.
pub fn remote(n: usize) -> MacAddr {
    mac(6, n)
}

pub fn local(n: usize) -> MacAddr {
    mac(2, n)
}

/// An address that nobody has.
pub fn stranger(n: usize) -> MacAddr {
    mac(10, n)
}

pub fn vtep_of(n: usize) -> VtepId {
    VtepId((n % 200) as u16)
}

pub fn vtep_addr(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, (n % 200) as u8)
}

pub fn other_vni(n: usize) -> Vni {
    Vni::truncate((n % 200 * 1000 + 100) as u32)
}

/// An address that a route leads to.
pub fn v4(n: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 | random(n) as u32 & 0xff_ffff)
}

pub fn v6(n: usize) -> Ipv6Addr {
    Ipv6Addr::from_bits(0x2001 << 112 | (random(n) as u128) << 48 | 1)
}

/// A TCP segment in an Ethernet frame.
pub fn frame(dst: MacAddr, src: MacAddr) -> [u8; INNER] {
    let mut frame = [0; INNER];
    frame[..6].copy_from_slice(&dst.0);
    frame[6..12].copy_from_slice(&src.0);
    frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
    frame[17] = (INNER - 14) as u8;
    frame[20..24].copy_from_slice(&[0x40, 0, 64, 6]);
    frame[26..38].copy_from_slice(&[10, 2, 0, 1, 10, 2, 1, 2, 0x80, 1, 0, 80]);
    frame[46] = 0x50;
    frame
}

/// The outer headers of a packet from that VTEP, with that VNI.
pub fn outer(src: Ipv4Addr, vni: Vni) -> [u8; OUTER] {
    let mut head = [0; OUTER];
    head[..6].copy_from_slice(&LOCAL_MAC.0);
    head[6..14].copy_from_slice(&[2, 0, 0, 0, 1, 0, 8, 0]);
    head[14..18].copy_from_slice(&[0x45, 0, 0, (INNER + 36) as u8]);
    head[20..24].copy_from_slice(&[0x40, 0, 64, 17]);
    head[26..30].copy_from_slice(&src.octets());
    head[30..34].copy_from_slice(&LOCAL.octets());
    let check = Sum::new().add_bytes(&head[14..34]).finish();
    head[24..26].copy_from_slice(&check.to_be_bytes());
    head[34..42].copy_from_slice(&[0xc1, 0x23, 0x12, 0xb5, 0, (INNER + 16) as u8, 0, 0]);
    head[42] = 8;
    head[46..].copy_from_slice(&(vni.get() << 8).to_be_bytes());
    head
}

/// A buffer with an outer packet in it, whose inner frame lies behind [`HEADROOM`] octets.
pub fn packet(n: usize) -> [u8; HEADROOM + INNER] {
    let mut buffer = [0; HEADROOM + INNER];
    buffer[HEADROOM - OUTER..HEADROOM].copy_from_slice(&outer(vtep_addr(n), BRIDGE));
    buffer[HEADROOM..].copy_from_slice(&frame(local(n), remote(n)));
    buffer
}
