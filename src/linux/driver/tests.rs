//! Drivers on loopback sockets, with TAPs whose other end is a socket of the test.

use alloc::vec;
use alloc::vec::Vec;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use super::carry::Quota;
use super::*;
use crate::addr::{Destination, MacAddr, NextHop, Vni, VtepId};
use crate::engine::{Capacity, EngineConfig};
use crate::error::DropReason;
use crate::linux::tap::tests::fake;
use crate::linux::{Poll, UnderlayConfig, VirtioNetHeader};
use crate::table::Seed;
use crate::table::port::PortConfig;
use crate::table::vni::{Accept, VniConfig};
use crate::table::vtep::VtepConfig;
use crate::wire::arp::{self, ArpPacket};
use crate::wire::inner::{Inner, Network};
use crate::wire::ipv4::{Ipv4Header, protocol};
use crate::wire::ipv6::Ipv6Header;
use crate::wire::vxlan::VxlanHeader;
use crate::wire::{checksum, ipv4};

pub(super) const VNI: Vni = Vni::truncate(42);
pub(super) const A: &str = "127.0.0.1";
pub(super) const B: &str = "127.0.0.2";
pub(super) const C: &str = "127.0.0.3";
pub(super) const POD: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(super) const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);
const FAR_ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 1, 2]);
pub(super) const SOON: Duration = Duration::from_secs(5);
pub(super) const NOW: Duration = Duration::ZERO;

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn driver(local: &str) -> Driver {
    driver_with(local, &DriverConfig::default())
}

pub(super) fn driver_with(local: &str, settings: &DriverConfig) -> Driver {
    let config = EngineConfig::new(ip(local), Seed::fixed(1));
    let engine = Engine::with_capacity(config, &Capacity::default()).unwrap();
    let mut driver = Driver::with_config(engine, settings).unwrap();
    let socket = Underlay::bind((ip(local), 0).into(), &UnderlayConfig::default()).unwrap();
    driver.add_socket(socket).unwrap();
    driver
}

pub(super) fn port_of(driver: &Driver) -> u16 {
    driver.sockets().next().unwrap().local_addr().port()
}

pub(super) fn add_vtep(driver: &mut Driver, config: VtepConfig) -> VtepId {
    driver.apply(&Command::AddVtep(config)).unwrap().vtep().unwrap()
}

pub(super) fn add_pod(driver: &mut Driver, config: PortConfig) -> (PortId, UnixDatagram) {
    let (tap, far) = fake(true);
    let port = driver.apply(&Command::AddPort(config)).unwrap().port().unwrap();
    driver.add_tap(port, tap).unwrap();
    driver.plane.io.slot_mut(port).unwrap().merges_udp = true;
    (port, far)
}

/// A node with one bridged VNI and a pod.
fn bridged(local: &str) -> (Driver, PortId, UnixDatagram) {
    let mut node = driver(local);
    node.apply(&Command::AddVni { vni: VNI, config: VniConfig::default() }).unwrap();
    let (port, pod) = add_pod(&mut node, PortConfig::new(VNI));
    (node, port, pod)
}

pub(super) fn know(node: &mut Driver, other: &Driver) -> VtepId {
    let addr = other.sockets().next().unwrap().local_addr();
    let vtep = add_vtep(node, VtepConfig::new(addr.ip(), addr.port()));
    node.apply(&Command::AddFlood { vni: VNI, vtep }).unwrap();
    vtep
}

/// The pod sends: a virtio-net header that asks for nothing, and the frame.
pub(super) fn put(pod: &UnixDatagram, frame: &[u8]) {
    pod.send(&[&VirtioNetHeader::NONE.to_bytes(), frame].concat()).unwrap();
}

/// What the pod received.
pub(super) fn got(pod: &UnixDatagram) -> Option<Vec<u8>> {
    let mut buf = [0; 2000];
    let len = pod.recv(&mut buf).ok()?;
    Some(buf[VirtioNetHeader::LEN..len].to_vec())
}

pub(super) fn ethernet(dst: MacAddr, src: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&dst.0[..], &src.0, &ethertype.to_be_bytes(), payload].concat()
}

fn plain(dst: MacAddr, src: MacAddr) -> Vec<u8> {
    ethernet(dst, src, 0x88b5, &[7; 50])
}

fn packet4(dst: MacAddr, src: &str, to: &str, ttl: u8, payload: usize) -> Vec<u8> {
    let (IpAddr::V4(src), IpAddr::V4(to)) = (ip(src), ip(to)) else { panic!("IPv4") };
    let header = Ipv4Header {
        src,
        dst: to,
        protocol: protocol::UDP,
        ttl,
        tos: 2,
        id: 7,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        header_len: ipv4::HEADER_LEN as u8,
        total_len: (ipv4::HEADER_LEN + payload) as u16,
    };
    ethernet(dst, POD, 0x0800, &[&header.emit()[..], &vec![9; payload]].concat())
}

fn packet6(dst: MacAddr, src: &str, to: &str, protocol: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let (IpAddr::V6(src), IpAddr::V6(to)) = (ip(src), ip(to)) else { panic!("IPv6") };
    let header = Ipv6Header {
        src,
        dst: to,
        traffic_class: 0,
        flow_label: 0,
        payload_len: payload.len() as u16,
        hop_limit,
        next_header: protocol,
    };
    ethernet(dst, POD, 0x86dd, &[&header.emit()[..], payload].concat())
}

fn who_has(target: &str) -> Vec<u8> {
    let (IpAddr::V4(sender_ip), IpAddr::V4(target_ip)) = (ip("10.1.0.5"), ip(target)) else { panic!("IPv4") };
    let arp =
        ArpPacket { op: arp::REQUEST, sender_mac: POD, sender_ip, target_mac: MacAddr::ZERO, target_ip };
    ethernet(MacAddr::BROADCAST, POD, 0x0806, &arp.emit())
}

fn solicitation(target: &str) -> Vec<u8> {
    let (IpAddr::V6(from), IpAddr::V6(to)) = (ip("fd01::5"), ip(target)) else { panic!("IPv6") };
    let mut message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &to.octets(), &[1, 1], &POD.0].concat();
    let sum = checksum::pseudo_header_v6(from, to, protocol::ICMPV6, message.len() as u32);
    let check = sum.add_bytes(&message).finish();
    message[2..4].copy_from_slice(&check.to_be_bytes());
    packet6(ROUTER, "fd01::5", target, protocol::ICMPV6, 255, &message)
}

fn drops(driver: &Driver, reason: DropReason) -> u64 {
    driver.engine().counters().drops.get(reason)
}

#[test]
fn two_nodes_flood_learn_and_then_speak_to_each_other_alone() {
    let (mut a, port_a, pod_a) = bridged(A);
    let (mut b, port_b, pod_b) = bridged(B);
    let (at_b, at_a) = (know(&mut a, &b), know(&mut b, &a));

    let hello = plain(MacAddr::BROADCAST, POD);
    put(&pod_a, &hello);
    assert_eq!(a.turn(SOON).unwrap(), Turn { frames: 1, ..Turn::default() });
    assert_eq!(b.turn(SOON).unwrap(), Turn { datagrams: 1, ..Turn::default() });
    assert_eq!(got(&pod_b), Some(hello));
    assert_eq!(got(&pod_a), None, "not back to who sent it");

    let reply = plain(POD, PEER);
    put(&pod_b, &reply);
    b.turn(SOON).unwrap();
    a.turn(SOON).unwrap();
    assert_eq!(got(&pod_a), Some(reply));

    let entry = |d: &Driver, mac| d.engine().tables().fdb().lookup(d.now(), VNI, mac);
    assert_eq!(entry(&a, POD), Some(Destination::Port(port_a)));
    assert_eq!(entry(&a, PEER), Some(Destination::Vtep(at_b)));
    assert_eq!(entry(&b, POD), Some(Destination::Vtep(at_a)));
    assert_eq!(entry(&b, PEER), Some(Destination::Port(port_b)));
    assert_eq!(b.engine().counters().to_underlay, 1, "the answer was not flooded");
    assert_eq!((a.counters().tap_tx, a.counters().udp_tx), (1, 1));
    assert_eq!(a.engine().counters().drops.total() + b.engine().counters().drops.total(), 0);
}

#[test]
fn a_flood_reaches_every_vtep_and_every_other_port_and_a_tunnelled_one_the_ports_only() {
    let (mut a, _, pod_a) = bridged(A);
    let (_, second) = add_pod(&mut a, PortConfig::new(VNI));
    let (mut b, _, pod_b) = bridged(B);
    let (mut c, _, pod_c) = bridged(C);
    for other in [&b, &c] {
        know(&mut a, other);
    }
    for node in [&mut b, &mut c] {
        know(node, &a);
    }
    know(&mut b, &c);
    let hello = plain(MacAddr::BROADCAST, POD);
    put(&pod_a, &hello);
    a.turn(SOON).unwrap();
    b.turn(SOON).unwrap();
    c.turn(SOON).unwrap();
    assert_eq!(c.turn(NOW).unwrap().datagrams, 0, "B does not send it on");
    for pod in [&second, &pod_b, &pod_c] {
        assert_eq!(got(pod), Some(hello.clone()));
    }
    assert_eq!(a.counters(), DriverCounters { tap_tx: 1, udp_tx: 2, ..DriverCounters::default() });
}

#[test]
fn the_ecn_field_goes_out_and_comes_in() {
    let (mut a, _, pod_a) = bridged(A);
    let socket = Underlay::bind((ip(B), 0).into(), &UnderlayConfig::default()).unwrap();
    let to = socket.local_addr();
    let vtep = add_vtep(&mut a, VtepConfig::new(to.ip(), to.port()));
    a.apply(&Command::AddFlood { vni: VNI, vtep }).unwrap();
    let (mut socket, mut buf) = (socket, [0; 2000]);
    // TOS 2 is ECT(0).
    let frame = packet4(MacAddr::BROADCAST, "10.1.0.5", "10.2.0.7", 64, 20);
    put(&pod_a, &frame);
    a.turn(SOON).unwrap();
    Poll::default().wait([(socket.as_fd(), false)], Some(SOON)).unwrap();
    let datagram = socket.recv(&mut buf).unwrap().unwrap();
    assert_eq!((datagram.ecn, &buf[..8]), (2, &VxlanHeader::emit(VNI, None)[..]));
    assert_eq!(&buf[8..datagram.len], frame);

    // A CE mark on the way (RFC 6040, section 4.2) is in the inner header afterwards.
    let back = [&VxlanHeader::emit(VNI, None)[..], &packet4(POD, "10.2.0.7", "10.1.0.5", 64, 20)].concat();
    let _ = socket.send(&[&back], (ip(A), port_of(&a)).into(), Some(3)).unwrap();
    a.turn(SOON).unwrap();
    let Some(Inner { network: Network::Ipv4(inner), .. }) = got(&pod_a).map(|f| Inner::classify(&f).unwrap())
    else {
        panic!("no packet");
    };
    assert_eq!(inner.tos, 3);
}

/// A node with a routed VNI: 10.1.0.0/24 and fd01::/64 at the pod, 10.2.0.0/24 and fd02::/64 behind B,
/// whose path takes outer packets of 1000 octets.
fn routed() -> (Driver, UnixDatagram, Underlay) {
    let far = Underlay::bind((ip(B), 0).into(), &UnderlayConfig::default()).unwrap();
    let mut a = driver(A);
    a.apply(&Command::AddVni { vni: VNI, config: VniConfig::routed(ROUTER) }).unwrap();
    let config = PortConfig { peer_mac: Some(POD), ..PortConfig::new(VNI) };
    let (port, pod) = add_pod(&mut a, config);
    let to = VtepConfig::new(ip(B), far.local_addr().port());
    let vtep = add_vtep(&mut a, VtepConfig { inner_mac: Some(FAR_ROUTER), mtu: 1000, ..to });
    for (prefix, next_hop) in [
        ("0.0.0.0/0", NextHop::Port(port)),
        ("fd01::/64", NextHop::Port(port)),
        ("10.2.0.0/24", NextHop::Vtep(vtep)),
        ("fd02::/64", NextHop::Vtep(vtep)),
        ("10.3.0.0/24", NextHop::Direct),
        ("10.4.0.0/24", NextHop::Blackhole),
    ] {
        let prefix = prefix.parse().unwrap();
        a.apply(&Command::AddRoute { vni: VNI, prefix, next_hop }).unwrap();
    }
    a.set_gateway(ip("10.1.0.1"));
    (a, pod, far)
}

#[test]
fn the_router_answers_for_what_is_behind_others_and_for_itself() {
    let (mut a, pod, _far) = routed();
    a.set_gateway(ip("fe80::1"));
    let vtep = a.engine().tables().vteps().iter().next().unwrap().0;
    a.apply(&Command::AddRoute { vni: VNI, prefix: "::/0".parse().unwrap(), next_hop: NextHop::Vtep(vtep) })
        .unwrap();
    let cases = [
        (who_has("10.2.0.9"), true, "behind a VTEP"),
        (who_has("10.1.0.1"), true, "the gateway"),
        (who_has("10.1.0.7"), false, "behind the port that asks"),
        (who_has("10.3.0.1"), false, "directly connected"),
        (who_has("10.4.0.1"), false, "blackhole"),
        (solicitation("fd02::9"), true, "behind a VTEP"),
        (solicitation("fe80::1"), true, "the gateway"),
        (solicitation("fd01::7"), false, "behind the port that asks"),
        (solicitation("fd09::7"), true, "behind the default route"),
        // Every pod has one of its own, and asks whether another has it (RFC 4862, section 5.4).
        (solicitation("fe80::7"), false, "link-local, so behind no router"),
    ];
    let answered = cases.iter().filter(|c| c.1).count() as u64;
    for (question, answered, why) in cases {
        put(&pod, &question);
        a.turn(SOON).unwrap();
        let answer = got(&pod);
        assert_eq!(answer.is_some(), answered, "{why}");
        let Some(answer) = answer else { continue };
        let inner = Inner::classify(&answer).unwrap();
        assert_eq!((inner.ethernet.dst, inner.ethernet.src), (POD, ROUTER), "{why}");
    }
    assert_eq!(a.counters().answered, answered);
    assert_eq!(a.engine().counters().drops.total(), 0);
}

#[test]
fn expired_packets_are_answered_where_they_came_from() {
    let (mut a, pod, mut far) = routed();
    put(&pod, &packet4(ROUTER, "10.1.0.5", "10.2.0.7", 1, 20));
    a.turn(SOON).unwrap();
    let answer = got(&pod).unwrap();
    let Network::Ipv4(icmp) = Inner::classify(&answer).unwrap().network else { panic!("IPv4") };
    assert_eq!((icmp.src, icmp.dst), ("10.1.0.1".parse().unwrap(), "10.1.0.5".parse().unwrap()));
    assert_eq!(answer[34..36], [11, 0], "time exceeded in transit");

    // IPv6 has no address to answer from.
    put(&pod, &packet6(ROUTER, "fd01::5", "fd02::7", protocol::UDP, 1, &[0; 8]));
    a.turn(SOON).unwrap();
    assert_eq!((got(&pod), drops(&a, DropReason::NotHandled)), (None, 1));
    a.set_gateway(ip("fd01::1"));
    put(&pod, &packet6(ROUTER, "fd01::5", "fd02::7", protocol::UDP, 1, &[0; 8]));
    a.turn(SOON).unwrap();
    assert_eq!(got(&pod).unwrap()[54..56], [3, 0], "ICMPv6 time exceeded");

    // From the tunnel: back through the tunnel, to the router that sent it.
    let mut frame = packet4(ROUTER, "10.2.0.7", "10.1.0.5", 1, 20);
    frame[6..12].copy_from_slice(&FAR_ROUTER.0);
    let header = VxlanHeader::emit(VNI, None);
    let _ = far.send(&[&header, &frame], (ip(A), port_of(&a)).into(), None).unwrap();
    a.turn(SOON).unwrap();
    let mut buf = [0; 2000];
    Poll::default().wait([(far.as_fd(), false)], Some(SOON)).unwrap();
    let len = far.recv(&mut buf).unwrap().unwrap().len;
    assert_eq!(&buf[..8], header);
    let inner = Inner::classify(&buf[8..len]).unwrap();
    assert_eq!((inner.ethernet.dst, inner.ethernet.src), (FAR_ROUTER, ROUTER));
    assert_eq!(a.counters().answered, 3);
}

#[test]
fn icmp_errors_are_limited() {
    let (mut a, pod, _far) = routed();
    let mut answers = 0;
    for _ in 0..200 {
        put(&pod, &packet4(ROUTER, "10.1.0.5", "10.2.0.7", 1, 20));
        // The clock stands still, for a limit in milliseconds.
        a.start = std::time::Instant::now();
        a.turn(SOON).unwrap();
        answers += u64::from(got(&pod).is_some());
    }
    let counters = a.counters();
    assert!((50..=100).contains(&answers), "{answers} of 200");
    assert_eq!((counters.answered, counters.answers_limited), (answers, 200 - answers));
    assert_eq!(drops(&a, DropReason::NotHandled), 200 - answers);
}

#[test]
fn too_big_names_the_mtu_of_the_inner_packet() {
    let (mut a, pod, mut far) = routed();
    // 1000 octets less outer IPv4 (20), UDP (8), VXLAN (8) and inner Ethernet (14).
    for (payload, fits) in [(950 - 20, true), (951 - 20, false)] {
        put(&pod, &packet4(ROUTER, "10.1.0.5", "10.2.0.7", 64, payload));
        a.turn(SOON).unwrap();
        let answer = got(&pod);
        assert_eq!(answer.is_none(), fits);
        if let Some(answer) = answer {
            assert_eq!(answer[34..36], [3, 4], "fragmentation needed and DF set");
            assert_eq!(answer[40..42], 950u16.to_be_bytes());
        }
    }
    assert_eq!(far.recv(&mut [0; 2000]).unwrap().unwrap().len, 972);
    // Without a gateway, from where the packet should have gone.
    for source in ["fd02::7", "fd01::1"] {
        put(&pod, &packet6(ROUTER, "fd01::5", "fd02::7", protocol::UDP, 64, &[0; 911]));
        a.turn(SOON).unwrap();
        let answer = got(&pod).unwrap();
        assert_eq!((answer[54], &answer[58..62]), (2, &950u32.to_be_bytes()[..]), "ICMPv6 packet too big");
        let Network::Ipv6(icmp, _) = Inner::classify(&answer).unwrap().network else { panic!("IPv6") };
        assert_eq!(IpAddr::V6(icmp.src), ip(source));
        a.set_gateway(ip("fd01::1"));
    }
    // Without DF a router would fragment (RFC 791); a VTEP does not.
    let mut frame = packet4(ROUTER, "10.1.0.5", "10.2.0.7", 64, 1200);
    frame[20] &= !0x40;
    frame[24..26].fill(0);
    let check = checksum::Sum::new().add_bytes(&frame[14..34]).finish();
    frame[24..26].copy_from_slice(&check.to_be_bytes());
    put(&pod, &frame);
    a.turn(SOON).unwrap();
    assert_eq!((got(&pod), drops(&a, DropReason::MtuExceeded)), (None, 1));
}

#[test]
fn what_cannot_be_carried_is_counted_with_its_scope() {
    let (mut a, port, pod) = bridged(A);
    // A VTEP that nobody listens at, on loopback: the socket hears of it and goes on.
    let dead = {
        let socket = Underlay::bind((ip(B), 0).into(), &UnderlayConfig::default()).unwrap();
        add_vtep(&mut a, VtepConfig::new(ip(B), socket.local_addr().port()))
    };
    a.apply(&Command::AddFlood { vni: VNI, vtep: dead }).unwrap();
    // A port without a device: a host's own.
    let hollow = a.apply(&Command::AddPort(PortConfig::new(VNI))).unwrap().port().unwrap();
    for _ in 0..3 {
        put(&pod, &plain(MacAddr::BROADCAST, POD));
        a.turn(SOON).unwrap();
    }
    assert_eq!(drops(&a, DropReason::NotHandled), 3);
    let of_port = a.engine().port_counters(hollow).unwrap();
    assert_eq!(of_port.drops.get(DropReason::NotHandled), 3);
    let failed = drops(&a, DropReason::TxFailed);
    assert_eq!(a.engine().vtep_counters(dead).unwrap().drops.get(DropReason::TxFailed), failed);
    assert_eq!(a.counters().udp_tx + failed, 3, "sent, or refused for an ICMP error that came before");

    // An offload request that does not fit its frame.
    let bad = VirtioNetHeader { flags: 1, csum_start: 999, csum_offset: 6, ..VirtioNetHeader::NONE };
    pod.send(&[&bad.to_bytes()[..], &plain(MacAddr::BROADCAST, POD)].concat()).unwrap();
    a.turn(SOON).unwrap();
    assert_eq!(a.engine().port_counters(port).unwrap().drops.get(DropReason::NotHandled), 1);

    // The host removed the port behind the driver's back.
    let now = a.now();
    a.engine_mut().apply(now, &Command::RemovePort { port }).unwrap();
    put(&pod, &plain(MacAddr::BROADCAST, POD));
    assert_eq!(a.turn(SOON).unwrap().frames, 1);
    assert_eq!(drops(&a, DropReason::NotHandled), 5);
}

#[test]
fn a_full_queue_drops_and_the_driver_goes_on() {
    let (mut a, _, pod) = bridged(A);
    let (second, far) = add_pod(&mut a, PortConfig::new(VNI));
    // Nobody reads `far`; the kernel queues net.unix.max_dgram_qlen messages.
    let mut sent = 0;
    while drops(&a, DropReason::TxQueueFull) == 0 {
        put(&pod, &plain(MacAddr::BROADCAST, POD));
        a.turn(SOON).unwrap();
        sent += 1;
        assert!(sent < 100_000, "the queue has no end");
    }
    assert_eq!(a.engine().port_counters(second).unwrap().drops.get(DropReason::TxQueueFull), 1);
    assert_eq!((a.counters().queue_full, a.counters().tap_tx), (1, sent - 1));
    drop(far);
    put(&pod, &plain(MacAddr::BROADCAST, POD));
    a.turn(SOON).unwrap();
}

#[test]
fn devices_come_and_go() {
    let (mut a, port, _pod) = bridged(A);
    let refused = |r: Result<(), Error>| r.unwrap_err().to_string();
    assert_eq!(refused(a.add_tap(port, fake(true).0)), "cannot attach fake: the port has a device");
    assert_eq!(
        refused(a.add_tap(PortId(9), fake(true).0)),
        "cannot attach fake: the engine has no such port"
    );
    let (second, pod2) = add_pod(&mut a, PortConfig::new(VNI));
    let (third, pod3) = add_pod(&mut a, PortConfig::new(VNI));
    assert!(a.remove_tap(port).is_some() && a.remove_tap(port).is_none());
    assert_eq!(a.taps().map(|t| t.0).collect::<Vec<_>>(), [third, second]);
    put(&pod2, &plain(MacAddr::BROADCAST, POD));
    a.turn(SOON).unwrap();
    assert!(got(&pod3).is_some(), "the moved one is still found");
    // The next port gets the id, perhaps in another VNI: the device must not be on it.
    a.apply(&Command::RemovePort { port: second }).unwrap();
    assert!(a.tap(second).is_none());
    assert_eq!(a.apply(&Command::AddPort(PortConfig::new(VNI))).unwrap().port(), Some(second));
    put(&pod3, &plain(MacAddr::BROADCAST, POD));
    a.turn(SOON).unwrap();
    assert!(got(&pod2).is_none());
    let gone = a.apply(&Command::RemovePort { port: PortId(9) });
    assert!(gone.is_err() && a.tap(third).is_some());
    let v6 = Underlay::bind("[::1]:0".parse().unwrap(), &UnderlayConfig::default()).unwrap();
    assert!(refused(a.add_socket(v6)).ends_with("the engine has no local address of this family"));
    let config = EngineConfig { shape: Shape::Ip, ..EngineConfig::new(ip(A), Seed::fixed(1)) };
    let engine = Engine::with_capacity(config, &Capacity::default()).unwrap();
    assert_eq!(
        Driver::new(engine).unwrap_err().to_string(),
        "cannot drive the engine: its outer shape is not UDP"
    );
}

#[test]
fn flows_spread_over_the_sockets_of_a_family_and_keep_theirs() {
    let (mut a, _, pod) = bridged(A);
    for _ in 0..3 {
        a.add_socket(Underlay::bind((ip(A), 0).into(), &UnderlayConfig::default()).unwrap()).unwrap();
    }
    let mut far = Underlay::bind((ip(B), 0).into(), &UnderlayConfig::default()).unwrap();
    let vtep = add_vtep(&mut a, VtepConfig::new(ip(B), far.local_addr().port()));
    a.apply(&Command::AddFlood { vni: VNI, vtep }).unwrap();
    let mut seen = alloc::collections::BTreeSet::new();
    for n in 0..64 {
        let mut from = [0; 2];
        for port in &mut from {
            put(&pod, &packet4(PEER, "10.1.0.5", &format!("10.2.0.{n}"), 64, 20));
            a.turn(SOON).unwrap();
            Poll::default().wait([(far.as_fd(), false)], Some(SOON)).unwrap();
            *port = far.recv(&mut [0; 2000]).unwrap().unwrap().from.port();
        }
        assert_eq!(from[0], from[1], "one flow, one source port");
        seen.insert(from[0]);
    }
    assert_eq!(seen.len(), 4);
}

#[test]
fn sources_are_learned_where_that_is_allowed_and_age() {
    let mut a = {
        let config =
            EngineConfig { ageing: Duration::from_millis(256), ..EngineConfig::new(ip(A), Seed::fixed(1)) };
        Driver::new(Engine::with_capacity(config, &Capacity::default()).unwrap()).unwrap()
    };
    a.add_socket(Underlay::bind((ip(A), 0).into(), &UnderlayConfig::default()).unwrap()).unwrap();
    let config = VniConfig { accept: Accept::AnySource, ..VniConfig::default() };
    a.apply(&Command::AddVni { vni: VNI, config }).unwrap();
    let (_, pod) = add_pod(&mut a, PortConfig::new(VNI));
    let mut far = Underlay::bind((ip(B), 0).into(), &UnderlayConfig::default()).unwrap();
    let frame = plain(MacAddr::BROADCAST, PEER);
    let _ = far.send(&[&VxlanHeader::emit(VNI, None), &frame], (ip(A), port_of(&a)).into(), None).unwrap();
    a.turn(SOON).unwrap();
    assert_eq!(got(&pod), Some(frame));
    assert_eq!((a.engine().tables().fdb().len(), a.engine().tables().vteps().len()), (1, 1));
    // The wait ends by itself when something is due.
    let mut aged = 0;
    while aged == 0 {
        aged += a.turn(Duration::from_secs(60)).unwrap().aged;
    }
    while a.engine().next_timeout().is_some() {
        a.turn(Duration::from_secs(60)).unwrap();
    }
    assert_eq!((a.engine().tables().fdb().len(), a.engine().tables().vteps().len()), (0, 0));
}

#[test]
fn it_runs_until_it_is_told_to_stop() {
    let (mut a, _, pod) = bridged(A);
    let (stop, stopped) = UnixDatagram::pair().unwrap();
    put(&pod, &plain(MacAddr::BROADCAST, POD));
    assert!(!a.turn_or(stopped.as_fd(), SOON).unwrap().woken);
    let thread = std::thread::spawn(move || {
        a.run(stopped.as_fd()).unwrap();
        a
    });
    put(&pod, &plain(MacAddr::BROADCAST, POD));
    stop.send(b"x").unwrap();
    let a = thread.join().unwrap();
    assert!(a.engine().counters().encap_frames >= 1);
}

/// A device whose small packets wait while others are served is not taken for one of sparse packets.
#[test]
fn the_time_that_a_turn_took_does_not_part_packets() {
    let start = std::time::Instant::now();
    let past = |micros: u64| Clock { now: Instant::ZERO, micros };
    let frame = Turn { frames: 1, ..Turn::default() };
    let datagram = Turn { datagrams: 1, ..Turn::default() };
    for (turn, asked_for) in [(frame, 8), (datagram, 8), (Turn::default(), 1)] {
        let (mut pace, mut quota) = (Pace::default(), Quota::new(256));
        std::thread::sleep(Duration::from_millis(1));
        let first = Clock::read(start);
        quota.had(1, false, pace.at(first).micros);
        std::thread::sleep(Duration::from_millis(1));
        pace.worked(&turn, first, start);
        let worked = pace.work;
        // The next turn begins when that one has ended, and one microsecond later.
        let next = past(first.micros + worked.max(1000) + 1);
        quota.had(1, false, pace.at(next).micros);
        assert_eq!(quota.get(), asked_for, "{turn:?}");
    }
}
