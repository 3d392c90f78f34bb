//! A batch is as its packets one by one, over tables that stay the same for as many as [`BATCH`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use overlane::addr::{Destination, Ipv4Prefix, MacAddr, NextHop, PortId, Vni, VtepId};
use overlane::engine::*;
use overlane::error::DropReason;
use overlane::table::fdb::EntryKind;
use overlane::table::port::PortConfig;
use overlane::table::vni::{Accept, VniConfig};
use overlane::table::vtep::VtepConfig;
use overlane::time::Instant;
use overlane::wire::outer::Shape;
use overlane::wire::template::{Fields, Template, TemplateConfig, UdpChecksum};
use overlane::wire::vxlan::GroupPolicy;

use crate::world::*;

const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77));
const SIXTH: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 6));
const OUR_SIXTH: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }

    fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Three VNIs: one that learns from known VTEPs and floods, one that takes from anybody and does not flood,
/// and a routed one. Two ports each. Few places for addresses, and small limits; room for so many VNIs.
fn engine(shape: Shape, vnis: usize) -> Engine<Heap> {
    let mut config = EngineConfig { shape, ..config(A) };
    (config.local_mac, config.ageing) = (mac(0xa0), Duration::from_secs(100));
    config.vxlan.group_policy = true;
    if let IpAddr::V6(own) = OUR_SIXTH {
        config.local_v6 = Some(own);
    }
    let capacity = Capacity { macs: 20, vnis, events: 1000, ..CAPACITY };
    let mut engine = Engine::<Heap>::with_capacity(config, &capacity).unwrap();
    let mut apply = |command| engine.apply(T0, &command).unwrap();
    let open = VniConfig {
        accept: Accept::AnySource,
        flood_unknown: false,
        notify_miss: true,
        group_policy: Some(9),
        ..VniConfig::default()
    };
    let routed = VniConfig { notify_miss: true, ..VniConfig::routed(ROUTER) };
    for (vni, config) in [(1, VniConfig::default()), (2, open), (3, routed)] {
        let vni = Vni::truncate(vni);
        apply(Command::AddVni { vni, config });
        let port = PortConfig { peer_mac: Some(mac(0x50)), ..PortConfig::new(vni) };
        apply(Command::AddPort(port));
        apply(Command::AddPort(PortConfig { learn_limit: 3, ..port }));
    }
    for (addr, mtu, learn_limit) in [(B, 0, 4), (C, 200, u32::MAX), (SIXTH, 0, u32::MAX)] {
        let macs =
            VtepConfig { underlay_mac: mac(0xa1), inner_mac: Some(mac(0xfd)), ..VtepConfig::new(addr, 4789) };
        let vtep = apply(Command::AddVtep(VtepConfig { mtu, learn_limit, ..macs })).vtep().unwrap();
        apply(Command::AddFlood { vni: Vni::truncate(1), vtep });
    }
    for (net, next_hop) in
        [(1, NextHop::Vtep(VtepId(0))), (2, NextHop::Port(PortId(4))), (3, NextHop::Vtep(VtepId(1)))]
    {
        let prefix = Ipv4Prefix::new([10, net, 0, 0].into(), 16).unwrap().into();
        apply(Command::AddRoute { vni: Vni::truncate(3), prefix, next_hop });
    }
    engine
}

/// A frame of any kind that the engine tells from others, and some that are broken.
fn inner(r: &mut Random) -> Vec<u8> {
    let station = |r: &mut Random| mac(1 + r.below(12) as u8);
    let src = if r.once_in(20) { r.of(&[ALL, MacAddr::ZERO, ROUTER]) } else { station(r) };
    let dst = match r.below(8) {
        0 => r.of(&[ALL, MacAddr([1, 0, 0x5e, 0, 0, 1])]),
        1 | 2 => ROUTER,
        _ => station(r),
    };
    let to = Ipv4Addr::new(10, 1 + r.below(4) as u8, 0, 1);
    let from = Ipv4Addr::new(10, 9, 0, r.below(3) as u8);
    let payload = vec![7; r.of(&[4, 20, 90, 200])];
    let mut frame = match r.below(8) {
        0 => ether(dst, src, &payload),
        1 => frame(dst, src, 0x8100, &[&[0, 5, 0x08, 0][..], &ipv4(from, to, 9, 2, &payload)].concat()),
        2 => frame(dst, src, 0x8100, &[0, 5, 0x81, 0, 0, 6, 0x81, 0, 0, 7]),
        3 => udp(dst, src, SIXTH, OUR_SIXTH, 9, &payload),
        _ => {
            let ttl = r.of(&[64, 64, 1]);
            frame(dst, src, 0x0800, &ipv4(from, to, ttl, r.below(4) as u8, &payload))
        }
    };
    if r.once_in(12) {
        frame.truncate(r.below(40));
    }
    frame
}

/// A packet for the engine as a peer makes it, sometimes with a damaged octet.
fn outer(r: &mut Random, shape: Shape, from: IpAddr) -> Vec<u8> {
    let inner = inner(r);
    let fields = Fields {
        vni: Vni::truncate(r.of(&[1, 1, 1, 2, 3, 4])),
        group: r.once_in(6).then_some(GroupPolicy { id: 5, dont_learn: r.once_in(2), applied: false }),
        source_port: 50_000,
        ecn: r.below(4) as u8,
        ip_id: 7,
    };
    let template = Template::new(&TemplateConfig {
        shape,
        local: from,
        remote: if from.is_ipv4() { A } else { OUR_SIXTH },
        remote_port: 4789,
        local_mac: mac(0xa1),
        remote_mac: mac(0xa0),
        ttl: 64,
        dscp: 0,
        dont_fragment: true,
        udp_checksum: if r.once_in(4) || from.is_ipv6() { UdpChecksum::Full } else { UdpChecksum::Zero },
    })
    .unwrap();
    let mut packet = vec![0; template.len()];
    packet.extend_from_slice(&inner);
    template.write(&mut packet, &fields).unwrap();
    if r.once_in(5) {
        let at = r.below(packet.len().min(60));
        packet[at] ^= 1 << r.below(8);
        // Half of the damaged IPv4 headers are what their sender meant.
        let ip = if shape == Shape::Ethernet { 14 } else { 0 };
        if shape != Shape::Udp && from.is_ipv4() && r.once_in(2) && packet.len() >= ip + 20 {
            packet[ip + 10..ip + 12].fill(0);
            let sum = checksum(&packet[ip..ip + 20]);
            packet[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
        }
    }
    if r.once_in(20) {
        packet.truncate(r.below(packet.len()));
    }
    packet
}

/// One packet with all that is said of it.
struct Given {
    buffer: Vec<u8>,
    start: usize,
    source: Option<IpAddr>,
    ecn: u8,
    segment_len: usize,
    group: Option<GroupPolicy>,
}

impl Given {
    fn frame(&mut self) -> Frame<'_> {
        let end = self.buffer.len();
        let mut frame = Frame::new(&mut self.buffer, self.start..end)
            .unwrap()
            .with_segment_len(self.segment_len)
            .with_ecn(self.ecn);
        if let Some(source) = self.source {
            frame = frame.with_source(source);
        }
        if let Some(group) = self.group {
            frame = frame.with_group(group);
        }
        frame
    }
}

fn given(r: &mut Random, shape: Shape, port: Option<PortId>) -> Given {
    let (source, packet) = match port {
        Some(_) => (None, inner(r)),
        None => {
            let from = r.of(&[B, B, B, C, STRANGER, SIXTH]);
            let packet = outer(r, shape, from);
            let said = match (from, r.below(8)) {
                (_, 0) => r.of(&[A, IpAddr::V4(Ipv4Addr::BROADCAST)]),
                (IpAddr::V4(v4), 1) => IpAddr::V6(v4.to_ipv6_mapped()),
                _ => from,
            };
            ((shape == Shape::Udp && !r.once_in(20)).then_some(said), packet)
        }
    };
    let start = if r.once_in(10) { r.below(40) } else { HEADROOM };
    Given {
        buffer: [vec![0; start], packet].concat(),
        start,
        source,
        ecn: if shape == Shape::Udp && r.once_in(3) { r.below(4) as u8 } else { 0 },
        segment_len: if r.once_in(6) { 50 } else { 0 },
        group: r.once_in(9).then_some(GroupPolicy { id: 3, dont_learn: false, applied: true }),
    }
}

/// All that a host can see of a frame.
fn seen(engine: &Engine<Heap>, f: &Frame<'_>) -> String {
    let copies: Vec<_> = engine.replicas(f).collect();
    format!(
        "{:?} {:?} {:?} {:?} {} {} {:02x?} {copies:02x?}",
        f.verdict(),
        f.vni(),
        f.group(),
        f.range(),
        f.flow_hash(),
        f.ecn(),
        f.bytes()
    )
}

/// All that a host can see of an engine.
fn state(engine: &mut Engine<Heap>) -> String {
    let mut s = snapshot(engine) + &format!("\n{:?}\n", engine.counters());
    for n in 1..=3 {
        s += &format!("{:?}\n", engine.vni_counters(Vni::truncate(n)));
    }
    for n in 0..6 {
        s += &format!("{:?}\n{:?}\n", engine.vtep_counters(VtepId(n)), engine.port_counters(PortId(n)));
    }
    let events: Vec<_> = std::iter::from_fn(|| engine.poll_event()).collect();
    s + &format!("{events:?}")
}

/// What the explanation says of a packet; it takes for granted that there is headroom enough.
fn explained(engine: &Engine<Heap>, now: Instant, port: Option<PortId>, given: &Given) -> Option<Verdict> {
    let packet = &given.buffer[given.start..];
    if given.start < HEADROOM {
        return None;
    }
    match port {
        Some(port) => engine.explain_encap(now, port, packet, given.segment_len).unwrap().verdict(),
        None => engine.explain_decap(now, given.source, given.ecn, packet).verdict(),
    }
}

fn compare(shape: Shape, seed: u64) {
    let r = &mut Random(seed);
    // With so many VNIs a batch looks ahead for what is far; that is all that differs.
    let (mut whole, mut single) = (engine(shape, 5000), engine(shape, CAPACITY.vnis));
    let mut worker =
        Context::new(ContextParts::with_capacity(&Capacity { events: 1000, ..CAPACITY })).unwrap();
    let (mut now, mut verdicts) = (T0, std::collections::BTreeSet::new());
    for _ in 0..100 {
        now = now + Duration::from_secs(r.below(30) as u64);
        let port = (!r.once_in(2)).then(|| PortId(r.below(6) as u16));
        let count = 1 + r.below(2 * BATCH + 8);
        let from = r.0;
        let all = |r: &mut Random| (0..count).map(|_| given(r, shape, port)).collect::<Vec<_>>();
        let (mut first, mut second) = (all(r), all(&mut Random(from)));

        let told: Vec<_> =
            first[..count.min(BATCH)].iter().map(|g| explained(&whole, now, port, g)).collect();
        let mut frames: Vec<_> = first.iter_mut().map(Given::frame).collect();
        match port {
            Some(port) => whole.encap(now, port, &mut frames).unwrap(),
            None => whole.decap(now, &mut frames),
        }
        let mut ones: Vec<_> = second.iter_mut().map(Given::frame).collect();
        for batch in ones.chunks_mut(BATCH) {
            for one in batch.chunks_mut(1) {
                match port {
                    Some(port) => single.tables().encap(now, &mut worker, port, one).unwrap(),
                    None => single.tables().decap(now, &mut worker, one),
                }
            }
            single.merge(now, &mut worker);
        }
        for (n, (frame, one)) in frames.iter().zip(&ones).enumerate() {
            assert_eq!(seen(&whole, frame), seen(&single, one), "frame {n} of {count}, port {port:?}");
            verdicts.insert(format!("{:?}", frame.verdict().unwrap()));
        }
        for (n, (told, frame)) in told.iter().zip(&frames).enumerate() {
            assert!(
                told.is_none_or(|t| frame.verdict() == Some(t)),
                "frame {n}: {told:?} {:?}",
                frame.verdict()
            );
        }
        assert_eq!(state(&mut whole), state(&mut single));
    }
    assert!(verdicts.len() > 25, "{verdicts:?}");
}

#[test]
fn datagrams_of_a_socket() {
    (0..4).for_each(|seed| compare(Shape::Udp, seed));
}

#[test]
fn packets_with_an_ethernet_header() {
    (0..4).for_each(|seed| compare(Shape::Ethernet, seed));
}

#[test]
fn ip_packets() {
    (0..4).for_each(|seed| compare(Shape::Ip, seed));
}

/// What the first frames of a call teach, those that come [`BATCH`] later know.
#[test]
fn a_long_call_learns_on_its_way() {
    let mut node = Node::<Heap>::new(A, &[B]);
    let port = node.add_port();
    let (hello, reply) = (ether(mac(2), mac(1), b""), ether(mac(1), mac(2), b""));
    node.send_on(T0, port, &ether(ALL, mac(2), b""));
    let mut buffers: Vec<_> = (0..2 * BATCH).map(|_| reply.clone()).collect();
    buffers[0] = hello;
    let mut frames: Vec<_> =
        buffers.iter_mut().map(|b| (b.len(), b)).map(|(end, b)| Frame::new(b, 0..end).unwrap()).collect();
    node.engine.encap(T0, node.port, &mut frames).unwrap();
    let verdicts: Vec<_> = frames.iter().map(|f| f.verdict().unwrap()).collect();
    assert_eq!(verdicts[0], Verdict::ToPort(port));
    // The address is behind the port that they come from themselves, once that is known.
    assert_eq!(verdicts[1], Verdict::Flood(VNI));
    assert_eq!(verdicts[BATCH], Verdict::Drop(DropReason::SamePort));
}

/// Who is known behind a VTEP is so while the VTEP is where the packets come from.
#[test]
fn a_vtep_is_told_by_its_address_of_now() {
    let mut node = Node::<Heap>::new(A, &[B]);
    node.send(T0, &ether(ALL, mac(2), b""));
    let hello = vxlan(VNI.get(), &ether(mac(2), mac(1), b""));
    for _ in 0..2 {
        assert_eq!(node.receive(T0, B, &hello).0, Verdict::ToPort(node.port));
    }
    let vtep = node.vtep(B);
    node.engine.apply(T0, &Command::SetVtep { vtep, config: VtepConfig::new(C, 4789) }).unwrap();
    assert_eq!(node.receive(T0, B, &hello).0, Verdict::Drop(DropReason::UnknownSource));
    assert_eq!(node.receive(T0, C, &hello).0, Verdict::ToPort(node.port));
    let told = node.engine.explain_decap(T0, Some(C), 0, &hello).verdict();
    assert_eq!(told, Some(Verdict::ToPort(node.port)));
}

/// Addresses that the host has told of do not make a bridge of a routed VNI.
#[test]
fn known_addresses_do_not_bridge_a_routed_vni() {
    let mut node = Node::<Heap>::with(config(A), A, VniConfig::routed(ROUTER), &[B]);
    for (n, at) in [(1, Destination::Vtep(node.vtep(B))), (2, Destination::Port(node.port))] {
        let (mac, kind) = (mac(n), EntryKind::Static);
        node.engine.apply(T0, &Command::AddMac { vni: VNI, mac, at, kind }).unwrap();
    }
    let packet = vxlan(VNI.get(), &ether(mac(2), mac(1), b""));
    let told = node.engine.explain_decap(T0, Some(B), 0, &packet).verdict();
    let (verdict, _) = node.receive(T0, B, &packet);
    assert_eq!(Some(verdict), told);
    assert_ne!(verdict, Verdict::ToPort(node.port));
}

/// A station speaks from behind another VTEP: it is there now, whichever way its packet was read.
#[test]
fn a_packet_from_elsewhere_moves_its_station() {
    for (n, ecn) in [0, 1, 2, 3].into_iter().enumerate() {
        let mut node = Node::<Heap>::new(A, &[B, C]);
        node.send(T0, &ether(ALL, mac(1), b""));
        let hello = vxlan(VNI.get(), &ether(mac(1), mac(2), b""));
        assert_eq!(node.receive(T0, B, &hello).0, Verdict::ToPort(node.port));
        // In a batch with others, and alone.
        let mut buffers = vec![hello; 1 + 3 * (n % 2)];
        let mut frames: Vec<_> = buffers
            .iter_mut()
            .map(|b| (b.len(), b))
            .map(|(end, b)| Frame::new(b, 0..end).unwrap().with_source(C).with_ecn(ecn))
            .collect();
        node.engine.decap(T0, &mut frames);
        assert!(frames.iter().all(|f| f.verdict() == Some(Verdict::ToPort(node.port))), "ECN {ecn}");
        let (vtep, reply) = (node.vtep(C), ether(mac(2), mac(1), b""));
        assert_eq!(node.send(T0, &reply).0, Verdict::ToUnderlay(vtep), "ECN {ecn}");
    }
}
