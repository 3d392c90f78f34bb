//! Bridged VNIs: flood and learn.

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use overlane::addr::{Destination, MacAddr, Vni};
use overlane::engine::BATCH;
use overlane::error::DropReason;
use overlane::linux::{Tap, Underlay, UnderlayConfig};
use overlane::table::vni::{Accept, VniConfig};
use overlane::wire::ethernet::EthernetHeader;
use overlane::wire::outer::{self, OuterPolicy, Shape};
use overlane::wire::vxlan::{PORT, PORT_LINUX, VxlanHeader, VxlanPolicy};
use overlane_testkit::NetNs;
use overlane_testkit::capture::{Capture, Captured, Limits};
use overlane_testkit::probe::answers;
use overlane_testkit::rtnl::{Rtnl, Vxlan};

use crate::node::*;

const BYTES: u64 = 8 << 20;
const POD4: [&str; 3] = ["10.42.0.1", "10.42.0.2", "10.42.0.3"];
const POD6: [&str; 3] = ["fd42::1", "fd42::2", "fd42::3"];

/// The addresses of pod `n`, from 0.
fn addrs(n: usize) -> [(IpAddr, u8); 2] {
    [(ip(POD4[n]), 24), (ip(POD6[n]), 64)]
}

/// Makes `vx0` in the host, the pod of a kernel node at once.
fn kernel_pod(host: &NetNs, n: usize, vxlan: &Vxlan) -> (Rtnl, MacAddr) {
    let mut r = host.rtnl().unwrap();
    r.add_vxlan("vx0", vxlan).unwrap();
    for (addr, len) in addrs(n) {
        r.add_address("vx0", addr, len).unwrap();
    }
    r.set_up("vx0").unwrap();
    let mac = MacAddr(r.device("vx0").unwrap().mac);
    (r, mac)
}

/// What differs between the cases of one overlane node and one kernel node.
struct Pair {
    underlay: [IpAddr; 2],
    port: u16,
    vni: u32,
    vxlan: Vxlan,
    socket: UnderlayConfig,
    policy: VxlanPolicy,
    config: VniConfig,
}

impl Pair {
    fn new(v6: bool, port: u16, vni: u32) -> Pair {
        let underlay = if v6 { [host6(1), host6(2)] } else { [host4(1), host4(2)] };
        Pair {
            underlay,
            port,
            vni,
            vxlan: Vxlan {
                vni,
                port,
                local: Some(underlay[1]),
                remote: Some(underlay[0]),
                ..Vxlan::default()
            },
            socket: UnderlayConfig::default(),
            policy: VxlanPolicy::default(),
            config: VniConfig::default(),
        }
    }

    /// Traffic both ways over both families, and what both sides learned of each other. What crossed
    /// the underlay, cut short.
    fn run(&self) -> Captured {
        let v6 = self.underlay[0].is_ipv6();
        self.run_with(pod("pod", &addrs(0), if v6 { 1430 } else { 1450 }), None)
    }

    fn run_with(&self, (pod, tap): (NetNs, Tap), pod_mac: Option<MacAddr>) -> Captured {
        let ([host, peer], _switch) = hosts();
        let vni = Vni::new(self.vni).unwrap();
        let (mut kernel, kernel_mac) = kernel_pod(&peer, 1, &self.vxlan);
        let pod_mac = pod_mac.unwrap_or(tap.mac());

        let mut node = driver(&host, &self.underlay[..1], self.port, self.policy, self.socket);
        add_vni(&mut node, vni, self.config);
        let port = add_tap(&mut node, vni, tap);
        let vtep = add_remote(&mut node, vni, self.underlay[1], self.port);
        let node = Running::start(&host, node);

        let capture = Capture::start(&host, "u0", Limits { snap_len: 128, frames: 1000 }).unwrap();
        everything_passes(&[(&pod, ip(POD4[0])), (&peer, ip(POD4[1]))], BYTES);
        everything_passes(&[(&pod, ip(POD6[0])), (&peer, ip(POD6[1]))], BYTES);
        let seen = capture.stop();

        let theirs = kernel.fdb("vx0").unwrap();
        let entry = theirs.iter().find(|e| e.mac == pod_mac.0).unwrap_or_else(|| panic!("{theirs:?}"));
        assert_eq!((entry.dst, entry.permanent, entry.own), (Some(self.underlay[0]), false, true));
        let node = node.stop();
        assert_eq!(learned(&node, vni, pod_mac), Some(Destination::Port(port)));
        assert_eq!(learned(&node, vni, kernel_mac), Some(Destination::Vtep(vtep)));
        let counters = node.engine().vtep_counters(vtep).unwrap().traffic;
        assert!(counters.rx_octets > 2 * BYTES && counters.tx_octets > 2 * BYTES, "{counters:?}");
        no_drops_but(&node, &[]);
        seen
    }
}

/// The outer headers of the frames that one side sent, and the UDP checksum of each.
fn tunnelled(
    seen: &Captured,
    outgoing: bool,
    policy: VxlanPolicy,
    port: u16,
) -> Vec<(outer::Outer, [u8; 2])> {
    let policy = OuterPolicy {
        ports: [port, 0, 0, 0],
        vxlan: policy,
        verify_udp_checksum: false,
        allow_zero_udp6: true,
        ..OuterPolicy::default()
    };
    let frames = seen.frames.iter().filter(|f| f.outgoing == outgoing);
    let found: Vec<_> = frames
        .filter_map(|f| {
            // Cut short by the capture: the lengths of the headers are made to fit.
            let mut data = f.data.clone();
            let ethernet = EthernetHeader::parse(&data).ok()?;
            let ip = usize::from(ethernet.payload_offset);
            let v6 = ethernet.ethertype == 0x86dd;
            let udp = ip + if v6 { 40 } else { 20 };
            let (ip_len, udp_len) = ((data.len() - ip) as u16, data.len().checked_sub(udp)? as u16);
            if v6 {
                data.get_mut(ip + 4..ip + 6)?.copy_from_slice(&udp_len.to_be_bytes());
            } else {
                data.get_mut(ip + 2..ip + 4)?.copy_from_slice(&ip_len.to_be_bytes());
                data.get_mut(ip + 10..ip + 12)?.fill(0);
                let check = overlane::wire::checksum::Sum::new().add_bytes(data.get(ip..udp)?).finish();
                data.get_mut(ip + 10..ip + 12)?.copy_from_slice(&check.to_be_bytes());
            }
            data.get_mut(udp + 4..udp + 6)?.copy_from_slice(&udp_len.to_be_bytes());
            let checksum = *data.get(udp + 6..)?.first_chunk()?;
            Some((outer::parse(Shape::Ethernet, &data, &policy).ok()?, checksum))
        })
        .collect();
    assert!(!found.is_empty(), "no VXLAN among {} frames", seen.frames.len());
    found
}

pub fn ipv4_port_4789_vni_0() {
    let pair = Pair::new(false, PORT, 0);
    let seen = pair.run();
    for outgoing in [true, false] {
        for (outer, _) in tunnelled(&seen, outgoing, pair.policy, PORT) {
            assert_eq!((outer.vxlan.vni, outer.udp_dst), (Vni::default(), PORT));
        }
    }
}

pub fn ipv4_port_8472_vni_ffffff() {
    let pair = Pair::new(false, PORT_LINUX, 0xff_ffff);
    let seen = pair.run();
    for (outer, _) in tunnelled(&seen, true, pair.policy, PORT_LINUX) {
        assert_eq!((outer.vxlan.vni, outer.udp_dst), (Vni::MAX, PORT_LINUX));
    }
}

pub fn ipv6_port_4789_vni_ffffff() {
    Pair::new(true, PORT, 0xff_ffff).run();
}

pub fn ipv6_port_8472_vni_0() {
    Pair::new(true, PORT_LINUX, 0).run();
}

pub fn udp_checksums_over_ipv4() {
    for on in [true, false] {
        let mut pair = Pair::new(false, PORT, 42);
        pair.vxlan.udp_checksum = Some(on);
        pair.socket.zero_checksum = !on;
        let seen = pair.run();
        for outgoing in [true, false] {
            let checksums = tunnelled(&seen, outgoing, pair.policy, PORT);
            assert!(checksums.iter().all(|(_, c)| (*c != [0, 0]) == on), "outgoing {outgoing}: {on}");
        }
    }
}

pub fn no_udp_checksums_over_ipv6() {
    let mut pair = Pair::new(true, PORT, 42);
    (pair.vxlan.zero_checksum6_tx, pair.vxlan.zero_checksum6_rx) = (true, true);
    (pair.socket.zero_checksum, pair.socket.accept_zero_checksum6) = (true, true);
    let seen = pair.run();
    for outgoing in [true, false] {
        assert!(tunnelled(&seen, outgoing, pair.policy, PORT).iter().all(|(_, c)| *c == [0, 0]));
    }
}

/// As the kernel's `ttl` and `tos` of a vxlan device.
pub fn ttl_and_dscp() {
    for v6 in [false, true] {
        let mut pair = Pair::new(v6, PORT, 42);
        (pair.socket.ttl, pair.socket.dscp) = (33, 46);
        (pair.vxlan.ttl, pair.vxlan.tos) = (Some(32), Some(18 << 2));
        let seen = pair.run();
        for (outgoing, ttl, dscp) in [(true, 33, 46), (false, 32, 18)] {
            let mut ip = 0;
            for frame in seen.frames.iter().filter(|f| f.outgoing == outgoing) {
                let Some(found) = outer_ttl_and_dscp(&frame.data, v6) else { continue };
                assert_eq!(found, (ttl, dscp), "outgoing {outgoing}, IPv6 {v6}");
                ip += 1;
            }
            assert!(ip > 10, "{ip}");
        }
    }
}

pub fn group_policy() {
    let mut pair = Pair::new(false, PORT, 42);
    pair.vxlan.group_policy = true;
    pair.policy.group_policy = true;
    pair.config.group_policy = Some(77);
    let seen = pair.run();
    let sent = tunnelled(&seen, true, pair.policy, PORT);
    assert!(sent.iter().all(|(o, _)| o.vxlan.group.is_some_and(|g| g.id == 77)), "{:?}", sent[0]);
}

pub fn behind_a_bridge() {
    let (host, tap) = pod("bridge", &[], 1450);
    let pod = NetNs::new("pod").unwrap();
    let (mut outside, mut inside) = (host.rtnl().unwrap(), pod.rtnl().unwrap());
    outside.add_bridge("br0").unwrap();
    outside.add_veth("p0", "eth0", Some(&pod)).unwrap();
    for port in ["p0", "tap0"] {
        outside.set_bridge(port, "br0").unwrap();
    }
    outside.set_mtu("p0", 1450).unwrap();
    inside.set_mtu("eth0", 1450).unwrap();
    for (addr, len) in addrs(0) {
        inside.add_address("eth0", addr, len).unwrap();
    }
    inside.set_up("eth0").unwrap();
    outside.set_up("br0").unwrap();
    outside.set_up("p0").unwrap();
    let mac = MacAddr(inside.device("eth0").unwrap().mac);
    Pair::new(false, PORT, 42).run_with((pod, tap), Some(mac));
    drop(host);
}

pub fn several_vnis() {
    let ([host, peer], _switch) = hosts();
    let mut node = driver(&host, &[host4(1)], PORT, VxlanPolicy::default(), UnderlayConfig::default());
    let mut pods = Vec::new();
    for n in [100, 200] {
        let vni = Vni::truncate(n);
        let (pod, tap) = pod(&format!("pod{n}"), &[(ip("10.42.0.1"), 24)], 1450);
        add_vni(&mut node, vni, VniConfig::default());
        let (mac, port) = (tap.mac(), add_tap(&mut node, vni, tap));
        let vtep = add_remote(&mut node, vni, host4(2), PORT);
        // The device is made where the underlay is, and moves to a namespace of its own.
        let kernel = NetNs::new(&format!("kernel{n}")).unwrap();
        let (mut r, mut inside) = (peer.rtnl().unwrap(), kernel.rtnl().unwrap());
        let name = format!("vx{n}");
        let (local, remote) = (Some(host4(2)), Some(host4(1)));
        r.add_vxlan(&name, &Vxlan { vni: n, local, remote, ..Vxlan::default() }).unwrap();
        r.add_bridge(&format!("br{n}")).unwrap();
        r.add_veth(&format!("p{n}"), "eth0", Some(&kernel)).unwrap();
        for device in [name, format!("p{n}")] {
            r.set_mtu(&device, 1450).unwrap();
            r.set_bridge(&device, &format!("br{n}")).unwrap();
            r.set_up(&device).unwrap();
        }
        r.set_up(&format!("br{n}")).unwrap();
        inside.set_mtu("eth0", 1450).unwrap();
        inside.add_address("eth0", ip("10.42.0.2"), 24).unwrap();
        inside.set_up("eth0").unwrap();
        let kernel_mac = MacAddr(inside.device("eth0").unwrap().mac);
        pods.push((vni, pod, kernel, mac, port, vtep, kernel_mac));
    }
    let node = Running::start(&host, node);
    for (_, pod, kernel, ..) in &pods {
        everything_passes(&[(pod, ip("10.42.0.1")), (kernel, ip("10.42.0.2"))], BYTES);
    }
    let node = node.stop();
    for (vni, _, _, mac, port, vtep, kernel_mac) in &pods {
        assert_eq!(learned(&node, *vni, *mac), Some(Destination::Port(*port)));
        assert_eq!(learned(&node, *vni, *kernel_mac), Some(Destination::Vtep(*vtep)));
        let others = pods.iter().filter(|p| p.0 != *vni);
        assert!(others.into_iter().all(|p| learned(&node, *vni, p.3).is_none()), "VNIs are apart");
    }
    no_drops_but(&node, &[]);
}

pub fn three_nodes() {
    let ([one, two, three], _switch) = hosts();
    let vni = Vni::truncate(42);
    // The two overlane nodes speak IPv4 to each other and IPv6 to the kernel.
    let mut running = Vec::new();
    let mut pods = Vec::new();
    for (n, host) in [&one, &two].into_iter().enumerate() {
        let (pod, tap) = pod(&format!("pod{n}"), &addrs(n), 1430);
        let locals = [host4(n + 1), host6(n + 1)];
        let mut node = driver(host, &locals, PORT, VxlanPolicy::default(), UnderlayConfig::default());
        add_vni(&mut node, vni, VniConfig::default());
        let mac = tap.mac();
        add_tap(&mut node, vni, tap);
        let other = add_remote(&mut node, vni, host4(2 - n), PORT);
        let kernel = add_remote(&mut node, vni, host6(3), PORT);
        running.push((Running::start(host, node), other, kernel));
        pods.push((pod, mac));
    }
    let (mut r, kernel_mac) =
        kernel_pod(&three, 2, &Vxlan { vni: 42, local: Some(host6(3)), ..Vxlan::default() });
    for n in [1, 2] {
        r.fdb_append("vx0", [0; 6], host6(n)).unwrap();
    }
    let everyone = [&pods[0].0, &pods[1].0, &three];
    for family in [POD4, POD6] {
        let pods: Vec<_> = everyone.into_iter().zip(family.map(ip)).collect();
        everything_passes(&pods, 2 << 20);
    }
    let fdb = r.fdb("vx0").unwrap();
    for (n, (_, mac)) in pods.iter().enumerate() {
        assert!(fdb.iter().any(|e| e.mac == mac.0 && e.dst == Some(host6(n + 1))), "{fdb:?}");
    }
    for (n, (node, other, kernel)) in running.into_iter().enumerate() {
        let node = node.stop();
        assert_eq!(learned(&node, vni, pods[1 - n].1), Some(Destination::Vtep(other)));
        assert_eq!(learned(&node, vni, kernel_mac), Some(Destination::Vtep(kernel)));
        assert!(node.engine().counters().flooded > 0);
        no_drops_but(&node, &[]);
    }
}

/// A node with one VNI that has a kernel peer which it was not told of.
fn with_stranger(accept: Accept, kernel_vni: u32) -> (overlane::linux::Driver, bool, MacAddr) {
    let ([host, peer], _switch) = hosts();
    let vni = Vni::truncate(42);
    let (pod, tap) = pod("pod", &addrs(0), 1450);
    let mut node = driver(&host, &[host4(1)], PORT, VxlanPolicy::default(), UnderlayConfig::default());
    add_vni(&mut node, vni, VniConfig { accept, ..VniConfig::default() });
    add_tap(&mut node, vni, tap);
    if kernel_vni != vni.get() {
        add_remote(&mut node, vni, host4(2), PORT);
    }
    let (local, remote) = (Some(host4(2)), Some(host4(1)));
    let vxlan = Vxlan { vni: kernel_vni, local, remote, ..Vxlan::default() };
    let (_, mac) = kernel_pod(&peer, 1, &vxlan);
    let node = Running::start(&host, node);
    // Where none is wanted, for as long as a device may take to come up.
    let patience =
        if kernel_vni == vni.get() && accept == Accept::AnySource { TIMEOUT } else { Duration::from_secs(5) };
    let answered = answers(&peer, ip(POD4[0]), patience).unwrap();
    drop(pod);
    (node.stop(), answered, mac)
}

pub fn strangers() {
    for (kernel_vni, reason) in [(42, DropReason::UnknownSource), (43, DropReason::UnknownVni)] {
        let (node, answered, mac) = with_stranger(Accept::KnownVteps, kernel_vni);
        assert!(!answered);
        assert!(node.engine().counters().drops.get(reason) > 0, "{reason}");
        assert_eq!(learned(&node, Vni::truncate(42), mac), None);
    }
}

pub fn strangers_learned() {
    let (node, answered, mac) = with_stranger(Accept::AnySource, 42);
    assert!(answered);
    let vtep = node.engine().tables().vteps().by_addr(host4(2)).unwrap();
    assert_eq!(learned(&node, Vni::truncate(42), mac), Some(Destination::Vtep(vtep)));
}

/// While something waits on both sides, each turn takes from both, and not all that there is.
pub fn fairness() {
    let ([host, peer], _switch) = hosts();
    let vni = Vni::truncate(42);
    let (pod, tap) = pod("pod", &addrs(0), 1450);
    let mut node = driver(&host, &[host4(1)], PORT, VxlanPolicy::default(), UnderlayConfig::default());
    add_vni(&mut node, vni, VniConfig::default());
    add_tap(&mut node, vni, tap);
    add_remote(&mut node, vni, host4(2), PORT);
    pod.rtnl().unwrap().add_neighbour("tap0", ip(POD4[1]), [2, 0, 0, 0, 0, 9]).unwrap();

    let talker = pod.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    let mut far = peer.run(|| Underlay::bind((host4(2), PORT).into(), &UnderlayConfig::default()).unwrap());
    let mut frame = VxlanHeader::emit(vni, None).to_vec();
    frame.extend([0xff; 6].iter().chain(&[2, 0, 0, 0, 0, 9, 0x88, 0xb5]).chain(&[0; 46]));
    let before = host.counter("Ip", "InDelivers").unwrap();
    for _ in 0..10 * BATCH {
        talker.send_to(&[1; 100], (ip(POD4[1]), 9)).unwrap();
        let _ = far.send(&[&frame], (host4(1), PORT).into(), None).unwrap();
    }
    // The kernel may deliver later than it sends.
    let start = Instant::now();
    while host.counter("Ip", "InDelivers").unwrap() < before + 10 * BATCH as u64 {
        assert!(start.elapsed() < TIMEOUT, "not all datagrams were delivered");
        std::thread::sleep(Duration::from_millis(1));
    }
    let (mut frames, mut datagrams) = (0, 0);
    while frames < 10 * BATCH && datagrams < 10 * BATCH {
        let turn = node.turn(TIMEOUT).unwrap();
        assert!(turn.frames > 0 && turn.datagrams > 0, "{turn:?} after {frames} and {datagrams}");
        assert!(turn.frames <= 256 && turn.datagrams <= 256, "{turn:?}");
        (frames, datagrams) = (frames + turn.frames, datagrams + turn.datagrams);
    }
}

pub fn removed_tap() {
    let ([host], _switch) = hosts();
    let vni = Vni::truncate(42);
    let (pod, tap) = pod("pod", &addrs(0), 1450);
    let mut node = driver(&host, &[host4(1)], PORT, VxlanPolicy::default(), UnderlayConfig::default());
    add_vni(&mut node, vni, VniConfig::default());
    let port = add_tap(&mut node, vni, tap);
    let node = Running::start(&host, node);
    pod.rtnl().unwrap().delete("tap0").unwrap();
    let error = node.end().unwrap_err();
    assert_eq!(error.to_string(), "cannot read from tap0: EBADFD; the device was removed");

    // Taken off, it troubles nobody.
    let (_pod, tap) = self::pod("another", &addrs(0), 1450);
    let mut node = driver(&host, &[host4(1)], PORT, VxlanPolicy::default(), UnderlayConfig::default());
    add_vni(&mut node, vni, VniConfig::default());
    assert_eq!(add_tap(&mut node, vni, tap), port);
    _pod.rtnl().unwrap().delete("tap0").unwrap();
    assert!(node.turn(TIMEOUT).is_err());
    assert!(node.remove_tap(port).is_some());
    assert!(node.turn(Duration::ZERO).is_ok());
}
