//! The kit against the kernel, and overlane's TAP and underlay socket in it.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use overlane::linux::{BUFFER_LEN, Links, Poll, Tap, Underlay, UnderlayConfig};
use overlane_testkit::capture::{Capture, Limits};
use overlane_testkit::ethtool::{TX_CHECKSUM, TX_SEGMENTATION, set_features};
use overlane_testkit::netns::{Need, NetNs};
use overlane_testkit::probe::{Ping, answers, ping, tcp_transfer, udp_exchange};
use overlane_testkit::relay::{Faults, Relay, Relayed, Side};
use overlane_testkit::rtnl::{Rtnl, Vxlan};
use overlane_testkit::suite::{self, Case};
use overlane_testkit::transfer::{Datagrams, Stream};

const ALL: &[Need] = &[Need::Tap, Need::Veth, Need::Bridge, Need::Vxlan];

const CASES: &[Case] = &[
    Case::new("isolated_from_the_machine", &[], isolated_from_the_machine),
    Case::new("namespaces_are_apart", &[], namespaces_are_apart),
    Case::new("veth_carries_everything", &[Need::Veth], veth_carries_everything),
    Case::new("probes_notice_what_is_lost", &[Need::Veth], probes_notice_what_is_lost),
    Case::new("features_turned_off", &[Need::Veth], features_turned_off),
    Case::new("transfers_of_every_kind", &[Need::Veth], transfers_of_every_kind),
    Case::new("relay_decides_by_seed", &[], relay_decides_by_seed),
    Case::new("rates_are_limited", &[Need::Veth], rates_are_limited),
    Case::new("bridge_forwards", &[Need::Veth, Need::Bridge], bridge_forwards),
    Case::new("kernel_vxlan_over_ipv4", &[Need::Veth, Need::Vxlan], kernel_vxlan_over_ipv4),
    Case::new("kernel_vxlan_over_ipv6", &[Need::Veth, Need::Vxlan], kernel_vxlan_over_ipv6),
    Case::new("underlay_sockets_between_namespaces", &[Need::Veth], underlay_sockets),
    Case::new("links_are_configured", &[Need::Veth], links_are_configured),
    Case::new("tap_is_made_and_handed_over", &[Need::Tap], tap_is_made_and_handed_over),
    Case::new("two_taps_joined", &[Need::Tap], two_taps_joined),
    Case::new("tap_behind_kernel_vxlan_over_ipv4", &[Need::Tap, Need::Veth, Need::Vxlan], tap_behind_vxlan4),
    Case::new("tap_behind_kernel_vxlan_over_ipv6", &[Need::Tap, Need::Veth, Need::Vxlan], tap_behind_vxlan6),
    Case::new("bridged_tap_behind_kernel_vxlan_over_ipv4", ALL, bridged_tap_behind_vxlan4),
    Case::new("bridged_tap_behind_kernel_vxlan_over_ipv6", ALL, bridged_tap_behind_vxlan6),
];

fn main() {
    suite::main(CASES)
}

const TIMEOUT: Duration = Duration::from_secs(60);
const BYTES: u64 = 8 << 20;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Two namespaces and a veth pair `u0`, up, with 10.99.0.1 and .2 and fd99::1 and ::2.
fn joined() -> (NetNs, NetNs, Rtnl, Rtnl) {
    let (a, b) = (NetNs::new("a").unwrap(), NetNs::new("b").unwrap());
    let (mut ra, mut rb) = (a.rtnl().unwrap(), b.rtnl().unwrap());
    ra.add_veth("u0", "u0", Some(&b)).unwrap();
    for (r, host) in [(&mut ra, 1), (&mut rb, 2)] {
        r.add_address("u0", ip(&format!("10.99.0.{host}")), 24).unwrap();
        r.add_address("u0", ip(&format!("fd99::{host}")), 64).unwrap();
        r.set_up("u0").unwrap();
    }
    (a, b, ra, rb)
}

/// Ping, a stream and datagrams, from both ends to the other's address.
fn everything_passes(a: (&NetNs, IpAddr), b: (&NetNs, IpAddr)) {
    for ((from, _), (to, addr)) in [(a, b), (b, a)] {
        assert!(answers(from, addr, TIMEOUT).unwrap(), "{} does not reach {addr}", from.name());
        let stats = ping(from, addr, &Ping::default()).unwrap();
        assert!(stats.all(), "{} to {addr}: {stats:?}", from.name());
        assert!(stats.median().unwrap() > Duration::ZERO);
        let done = tcp_transfer(to, from, addr, BYTES, TIMEOUT).unwrap();
        assert_eq!(done.bytes, BYTES);
        assert!(done.bits_per_second() > 0.0);
        let done = udp_exchange(to, from, addr, 10, 1000, TIMEOUT).unwrap();
        assert_eq!((done.sent, done.echoed, done.corrupt), (10, 10, 0), "{} to {addr}", from.name());
    }
}

fn isolated_from_the_machine() {
    let mut here = Rtnl::open().unwrap();
    assert_eq!(here.devices().unwrap(), ["lo"]);
    assert!(here.device("lo").unwrap().up);
    assert_eq!(here.delete("u0").unwrap_err().errno(), Some(19), "ENODEV");
}

fn namespaces_are_apart() {
    let a = NetNs::new("a").unwrap();
    let b = a.clone();
    let socket = a.run(|| std::net::UdpSocket::bind("127.0.0.1:4789").unwrap());
    let taken = b.run(|| std::net::UdpSocket::bind("127.0.0.1:4789").is_err());
    assert!(taken, "a clone is the same namespace");
    std::net::UdpSocket::bind("127.0.0.1:4789").expect("another namespace has the port free");
    let name = a.spawn(|| std::thread::current().name().map(String::from)).join().unwrap();
    assert_eq!(name.as_deref(), Some("a"));
    let panic = std::panic::catch_unwind(|| a.run(|| panic!("seen outside")));
    assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"seen outside"));
    drop(socket);
}

fn veth_carries_everything() {
    let (a, b, mut ra, mut rb) = joined();
    everything_passes((&a, ip("10.99.0.1")), (&b, ip("10.99.0.2")));
    everything_passes((&a, ip("fd99::1")), (&b, ip("fd99::2")));
    let (sent, received) = (ra.device("u0").unwrap(), rb.device("u0").unwrap());
    assert!(sent.stats.tx_bytes > BYTES && received.stats.rx_packets > 0);
    assert_eq!((sent.mtu, sent.up), (1500, true));
    ra.delete("u0").unwrap();
    assert_eq!(rb.devices().unwrap(), ["lo"], "the peer goes too");
}

fn probes_notice_what_is_lost() {
    let (a, b, mut ra, mut rb) = joined();
    let quick = Ping { count: 2, timeout: Duration::from_millis(50), ..Ping::default() };
    assert_eq!(ping(&a, ip("10.99.0.9"), &quick).unwrap().received, 0, "nobody there");
    assert_eq!(ping(&a, ip("192.0.2.1"), &quick).unwrap().received, 0, "no route");
    ra.add_neighbour("u0", ip("10.99.0.2"), [2, 0, 0, 0, 0, 9]).unwrap();
    assert_eq!(ping(&a, ip("10.99.0.2"), &quick).unwrap().received, 0, "wrong MAC");
    rb.set_mac("u0", [2, 0, 0, 0, 0, 9]).unwrap();
    assert!(answers(&a, ip("10.99.0.2"), TIMEOUT).unwrap());
    rb.set_down("u0").unwrap();
    assert_eq!(ping(&a, ip("10.99.0.2"), &quick).unwrap().received, 0, "device down");
    rb.set_up("u0").unwrap();
    ra.set_promiscuous("u0", true).unwrap();
    assert!(tcp_transfer(&b, &a, ip("10.99.0.2"), BYTES, Duration::from_millis(1)).is_err(), "out of time");
    let lost = udp_exchange(&b, &b, ip("10.99.0.2"), 1, 70_000, Duration::from_millis(50)).unwrap();
    assert_eq!((lost.sent, lost.echoed), (1, 0), "more than UDP can carry");
}

fn features_turned_off() {
    let (a, b, ..) = joined();
    let longest = || {
        let capture = Capture::start(&b, "u0", Limits { snap_len: 128, ..Limits::default() }).unwrap();
        tcp_transfer(&b, &a, ip("10.99.0.2"), BYTES, TIMEOUT).unwrap();
        let seen = capture.stop();
        assert!(seen.frames.iter().all(|f| f.data.len() <= 128));
        seen.frames.iter().map(|f| f.wire_len).max().unwrap()
    };
    assert!(longest() > 1514, "a veth pair carries superframes");
    set_features(&a, "u0", TX_SEGMENTATION, false).unwrap();
    set_features(&a, "u0", TX_CHECKSUM, false).unwrap();
    assert!(longest() <= 1514);
    set_features(&a, "u0", TX_CHECKSUM, true).unwrap();
    set_features(&a, "u0", TX_SEGMENTATION, true).unwrap();
    assert!(longest() > 1514);
    assert!(set_features(&a, "nowhere", TX_CHECKSUM, true).is_err());
}

fn transfers_of_every_kind() {
    let (a, b, ..) = joined();
    for to in ["10.99.0.2", "fd99::2"].map(ip) {
        let stream =
            Stream { bytes: 300_000, writes: &[1, 1447, 1448, 1449, 65_536], seed: 1, timeout: TIMEOUT };
        assert_eq!(stream.run(&b, &a, to).unwrap().bytes, 300_000);
        let small = Datagrams { sizes: &[1, 7, 8, 1472, 1473, 65_507], ..Datagrams::default() };
        let cut =
            Datagrams { sizes: &[1000, 100], at_once: 10, shorter: 3, window: 20, ..Datagrams::default() };
        for datagrams in [small, cut] {
            let done = datagrams.run(&b, &a, to).unwrap();
            assert_eq!(
                (done.sent, done.received, done.repeated, done.refused),
                (100, 100, 0, 0),
                "{datagrams:?}"
            );
        }
    }
}

/// What a relay with these faults does to 2,000 datagrams, and what arrives.
fn relayed(faults: Faults) -> (Relayed, Vec<u32>) {
    const COUNT: u64 = 2000;
    /// So many are under way at once, with those that the relay holds: the smallest of the buffers,
    /// the receiver's, has room for two hundred.
    const ROUND: u64 = 100;
    let here = NetNs::new("here").unwrap();
    let [from, to] = ["127.0.0.1:7001", "127.0.0.4:7004"]
        .map(|addr| here.run(|| std::net::UdpSocket::bind(addr).unwrap()));
    let side = |local: &str, vtep: &std::net::UdpSocket| Side {
        local: local.parse().unwrap(),
        vtep: vtep.local_addr().unwrap(),
    };
    let sides = [side("127.0.0.2:7002", &from), side("127.0.0.3:7003", &to)];
    let relay = Relay::start(&here, sides, faults).unwrap();
    let (come, over) = (AtomicU64::new(0), AtomicBool::new(false));
    // Whether what the relay took is soon there, all of it if `none_held`.
    let settled = |taken: u64, none_held: bool| {
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            let done = relay.counters()[0];
            let ended = done.sent + done.lost + done.overflowed == taken + done.duplicated;
            if done.received == taken && come.load(Ordering::Acquire) >= done.sent && (ended || !none_held) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    };
    to.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let arrived = std::thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let (mut arrived, mut buffer) = (Vec::new(), [0; 100]);
            while !over.load(Ordering::Acquire) {
                let Ok((len, from)) = to.recv_from(&mut buffer) else { continue };
                assert_eq!((len, from), (4, sides[1].local));
                arrived.push(u32::from_be_bytes(buffer[..4].try_into().unwrap()));
                come.fetch_add(1, Ordering::Release);
            }
            arrived
        });
        let all = (1..=COUNT).all(|n| {
            let sent = from.send_to(&(n as u32 - 1).to_be_bytes(), sides[0].local);
            sent.is_ok() && (n % ROUND > 0 || settled(n, n == COUNT))
        });
        over.store(true, Ordering::Release);
        let arrived = receiving.join().unwrap();
        assert!(all, "{:?}, and {} are here", relay.counters()[0], arrived.len());
        arrived
    });
    to.send_to(b"back", sides[1].local).unwrap();
    from.set_read_timeout(Some(TIMEOUT)).unwrap();
    if faults.loss == 0 {
        assert_eq!(from.recv_from(&mut [0; 100]).unwrap(), (4, sides[0].local));
    }
    (relay.counters()[0], arrived)
}

fn relay_decides_by_seed() {
    let (_, arrived) = relayed(Faults::NONE);
    assert!(arrived.iter().copied().eq(0..2000));
    let (done, arrived) = relayed(Faults { loss: 1000, ..Faults::NONE });
    assert_eq!((done.lost, arrived.len()), (2000, 0));

    let some = Faults { seed: 1, loss: 100, duplicate: 100, ..Faults::NONE };
    let ((first, arrived), (again, the_same)) = (relayed(some), relayed(some));
    assert_eq!(first, again, "the seed decides");
    assert!(arrived == the_same, "the seed decides which");
    let (other, _) = relayed(Faults { seed: 2, ..some });
    assert_ne!(first, other);
    assert!((120..280).contains(&first.lost) && (100..280).contains(&first.duplicated), "{first:?}");
    assert_eq!(arrived.len() as u64, 2000 - first.lost + first.duplicated);

    let held = Faults { seed: 3, reorder: 100, hold: Duration::from_millis(2), ..Faults::NONE };
    let (done, mut arrived) = relayed(held);
    assert!(done.reordered > 100 && !arrived.is_sorted(), "{done:?}");
    arrived.sort();
    assert!(arrived.into_iter().eq(0..2000));

    let full = Faults { delay: Duration::from_millis(500), queue: 10, ..Faults::NONE };
    let (done, arrived) = relayed(full);
    assert!(done.overflowed > 0 && arrived.len() as u64 == 2000 - done.overflowed, "{done:?}");
}

fn rates_are_limited() {
    let (a, b, mut ra, _) = joined();
    ra.limit_rate("u0", 1_000_000, 1 << 20).unwrap();
    assert_eq!(ra.qdiscs("u0").unwrap(), ["tbf"]);
    let slow = tcp_transfer(&b, &a, ip("10.99.0.2"), 1 << 20, TIMEOUT).unwrap();
    assert!(slow.elapsed > Duration::from_millis(500), "{slow:?}");
    let before = a.counter("Udp", "OutDatagrams").unwrap();
    ra.limit_rate("u0", 1_000_000_000, 1 << 20).unwrap();
    assert_eq!(udp_exchange(&b, &a, ip("10.99.0.2"), 10, 100, TIMEOUT).unwrap().echoed, 10);
    assert_eq!(a.counter("Udp", "OutDatagrams").unwrap() - before, 10);
    ra.set_queue_len("u0", 5).unwrap();
    ra.delete_address("u0", ip("10.99.0.1"), 24).unwrap();
    assert_eq!(ra.delete_address("u0", ip("10.99.0.1"), 24).unwrap_err().errno(), Some(99));
}

fn bridge_forwards() {
    let (left, mid, right) =
        (NetNs::new("left").unwrap(), NetNs::new("mid").unwrap(), NetNs::new("right").unwrap());
    let mut r = mid.rtnl().unwrap();
    r.add_bridge("br0").unwrap();
    r.set_up("br0").unwrap();
    for (ns, port, addr) in [(&left, "p1", "10.1.0.1"), (&right, "p2", "10.1.0.2")] {
        r.add_veth(port, "eth0", Some(ns)).unwrap();
        r.set_bridge(port, "br0").unwrap();
        r.set_up(port).unwrap();
        let mut pod = ns.rtnl().unwrap();
        pod.add_address("eth0", ip(addr), 24).unwrap();
        pod.set_up("eth0").unwrap();
    }
    everything_passes((&left, ip("10.1.0.1")), (&right, ip("10.1.0.2")));
    let mac = left.rtnl().unwrap().device("eth0").unwrap().mac;
    let fdb = r.fdb("p1").unwrap();
    assert!(fdb.iter().any(|e| e.mac == mac && !e.permanent), "{fdb:?}");
}

fn kernel_vxlan_over_ipv4() {
    kernel_vxlan(["10.99.0.1", "10.99.0.2"], 4789, 42);
    kernel_vxlan(["10.99.0.1", "10.99.0.2"], 8472, 0xff_ffff);
}

fn kernel_vxlan_over_ipv6() {
    kernel_vxlan(["fd99::1", "fd99::2"], 4789, 0);
}

fn kernel_vxlan(underlay: [&str; 2], port: u16, vni: u32) {
    let (a, b, mut ra, mut rb) = joined();
    let [ua, ub] = underlay.map(ip);
    let base = Vxlan {
        vni,
        port,
        ttl: Some(33),
        zero_checksum6_tx: ub.is_ipv6(),
        zero_checksum6_rx: ub.is_ipv6(),
        udp_checksum: ub.is_ipv4().then_some(true),
        ..Vxlan::default()
    };
    ra.add_vxlan("vx0", &Vxlan { local: Some(ua), remote: Some(ub), ..base.clone() }).unwrap();
    rb.add_vxlan("vx0", &Vxlan { local: Some(ub), ..base }).unwrap();
    rb.fdb_append("vx0", [0; 6], ua).unwrap();
    for (r, host) in [(&mut ra, 1), (&mut rb, 2)] {
        r.add_address("vx0", ip(&format!("10.42.0.{host}")), 24).unwrap();
        r.set_up("vx0").unwrap();
    }
    let capture = Capture::start(&a, "u0", Limits { snap_len: 100, ..Limits::default() }).unwrap();
    everything_passes((&a, ip("10.42.0.1")), (&b, ip("10.42.0.2")));
    let seen = capture.stop();
    let ip_len = if ub.is_ipv6() { 40 } else { 20 };
    let tunnelled = seen
        .frames
        .iter()
        .filter(|f| f.data.get(14 + ip_len + 2..14 + ip_len + 4) == Some(&port.to_be_bytes()));
    let mut both_ways = [0, 0];
    for frame in tunnelled {
        both_ways[usize::from(frame.outgoing)] += 1;
        let header = &frame.data[14 + ip_len + 8..14 + ip_len + 16];
        let [_, v @ ..] = vni.to_be_bytes();
        assert_eq!(header, [8, 0, 0, 0, v[0], v[1], v[2], 0]);
    }
    assert!(both_ways[0] > 0 && both_ways[1] > 0, "{both_ways:?}");
    let mac = ra.device("vx0").unwrap().mac;
    let fdb = rb.fdb("vx0").unwrap();
    assert!(fdb.iter().any(|e| e.mac == mac && e.dst == Some(ua) && e.own && !e.permanent), "{fdb:?}");
    assert!(fdb.iter().any(|e| e.mac == [0; 6] && e.dst == Some(ua) && e.permanent), "{fdb:?}");
    rb.fdb_delete("vx0", [0; 6], ua).unwrap();
    assert!(!rb.fdb("vx0").unwrap().iter().any(|e| e.mac == [0; 6]));
    assert!(ra.device("vx0").unwrap().stats.tx_bytes > BYTES);
}

fn underlay_sockets() {
    let (a, b, ..) = joined();
    for (near, far) in [("10.99.0.1:4789", "10.99.0.2:4789"), ("[fd99::1]:4789", "[fd99::2]:4789")] {
        let config = UnderlayConfig::default();
        let mut near = a.run(|| Underlay::bind(near.parse().unwrap(), &config).unwrap());
        let mut far = b.run(|| Underlay::bind(far.parse().unwrap(), &config).unwrap());
        assert!(near.receive_buffer() > 212_992, "{}", near.receive_buffer());
        let mut buf = vec![0; BUFFER_LEN];
        for ecn in 0..4 {
            let sent = near.send(&[&[8; 8], &[1; 1000]], far.local_addr(), Some(ecn)).unwrap();
            assert_eq!(sent, overlane::linux::Sent::Taken);
            Poll::default().wait([(far.as_fd(), false)], Some(TIMEOUT)).unwrap();
            let got = far.recv(&mut buf).unwrap().unwrap();
            assert_eq!((got.len, got.from, got.ecn), (1008, near.local_addr(), ecn));
        }
        let sent = near.send(&[&[0; 1500]], far.local_addr(), None).unwrap();
        assert_eq!(sent, overlane::linux::Sent::Refused(overlane::linux::Refused::TooBig), "DF");
        let fragments = UnderlayConfig { dont_fragment: false, ..config };
        let any = if far.local_addr().is_ipv4() { "10.99.0.1:0" } else { "[fd99::1]:0" };
        let mut near = a.run(|| Underlay::bind(any.parse().unwrap(), &fragments).unwrap());
        assert_eq!(near.send(&[&[0; 4000]], far.local_addr(), None).unwrap(), overlane::linux::Sent::Taken);
        Poll::default().wait([(far.as_fd(), false)], Some(TIMEOUT)).unwrap();
        assert_eq!(far.recv(&mut buf).unwrap().unwrap().len, 4000);
    }
    let error =
        a.run(|| Underlay::bind("10.99.0.2:4789".parse().unwrap(), &UnderlayConfig::default())).unwrap_err();
    assert!(error.to_string().contains("EADDRNOTAVAIL; the address is not on any interface"), "{error}");
}

fn links_are_configured() {
    let a = NetNs::new("a").unwrap();
    let mut r = a.rtnl().unwrap();
    r.add_veth("u0", "u1", None).unwrap();
    let mut links = a.run(Links::open).unwrap();
    let link = links.get("u0").unwrap();
    assert!(!link.up);
    links.set_mtu(link.index, 1400).unwrap();
    links.set_mac(link.index, overlane::addr::MacAddr([2, 0, 0, 0, 0, 7])).unwrap();
    links.add_address(link.index, ip("10.5.0.1"), 24).unwrap();
    links.add_address(link.index, ip("fd05::1"), 64).unwrap();
    links.set_up(link.index).unwrap();
    let other = links.get("u1").unwrap().index;
    links.set_up(other).unwrap();
    let link = links.get("u0").unwrap();
    assert_eq!((link.mtu, link.up, link.mac.map(|m| m.0)), (1400, true, Some([2, 0, 0, 0, 0, 7])));
    assert_eq!(links.list().unwrap().len(), 3);
    for addr in ["10.5.0.1", "fd05::1"] {
        a.run(|| std::net::UdpSocket::bind((ip(addr), 0))).expect("usable at once");
    }
    let error = links.add_address(link.index, ip("10.5.0.1"), 24).unwrap_err();
    assert_eq!(error.to_string(), "cannot add address 10.5.0.1/24 on u0: EEXIST");
    assert_eq!(error.errno(), Some(17), "EEXIST");
    let error = links.set_mtu(link.index, 1).unwrap_err();
    assert_eq!(error.to_string(), "cannot set the MTU of u0: EINVAL");
    assert_eq!(error.errno(), Some(22), "EINVAL");
    let error = links.set_mtu(99, 1400).unwrap_err();
    assert_eq!(error.to_string(), "cannot set the MTU of interface 99: ENODEV");
}

fn tap_is_made_and_handed_over() {
    let a = NetNs::new("a").unwrap();
    let mut tap = a.run(|| Tap::create("tap%d").unwrap());
    assert_eq!((tap.name(), tap.mtu(), tap.has_virtio_header()), ("tap0", 1500, true));
    let mut buf = vec![0; BUFFER_LEN];
    assert_eq!(tap.recv(&mut buf).unwrap(), None);
    let frame = [0xff; 60];
    let down = overlane::linux::Sent::Refused(overlane::linux::Refused::Down);
    assert_eq!(tap.send(&frame).unwrap(), down);
    let busy = a.run(|| Tap::create("tap0")).unwrap_err();
    assert_eq!(busy.to_string(), "cannot create TAP device tap0: EBUSY; another program holds it");
    a.run(|| tap.set_mtu(1400).and_then(|()| tap.set_up())).unwrap();
    assert_eq!(tap.send(&frame).unwrap(), overlane::linux::Sent::Taken);
    let short = overlane::linux::Sent::Refused(overlane::linux::Refused::Malformed);
    assert_eq!(tap.send(&frame[..5]).unwrap(), short);

    let fd = OwnedFd::from(tap);
    let mut tap = a.run(|| Tap::from_fd(fd, None).unwrap());
    assert_eq!((tap.name(), tap.mtu(), tap.has_virtio_header()), ("tap0", 1400, true));
    let mac = a.rtnl().unwrap().device("tap0").unwrap().mac;
    assert_eq!(tap.mac().0, mac);
    let outside = tap.refresh().unwrap_err();
    assert_eq!(outside.to_string(), "cannot look up interface tap0: ENODEV");
    let fd = OwnedFd::from(tap);
    let tap = Tap::from_fd(fd, Some(1300)).expect("from another namespace, with the MTU given");
    assert_eq!(tap.mtu(), 1300);
    drop(tap);
    assert_eq!(a.rtnl().unwrap().devices().unwrap(), ["lo"], "closed: the device is gone");
}

/// A thread that runs `step` until dropped.
struct Loop(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Loop {
    fn start(mut step: impl FnMut() + Send + 'static) -> Loop {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                step();
            }
        });
        Loop(stop, Some(thread))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        if let Some(thread) = self.1.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the forwarding thread panicked");
        }
    }
}

fn pod(name: &str, addrs: &[&str], mtu: u16) -> (NetNs, Tap) {
    let ns = NetNs::new(name).unwrap();
    let mut tap = ns.run(|| Tap::create("tap0").unwrap());
    ns.run(|| {
        tap.set_mtu(mtu).unwrap();
        let mut links = Links::open().unwrap();
        let index = links.get("tap0").unwrap().index;
        for addr in addrs {
            links.add_address(index, ip(addr), if addr.contains(':') { 64 } else { 24 }).unwrap();
        }
        tap.set_up().unwrap();
    });
    (ns, tap)
}

fn two_taps_joined() {
    let (a, mut ta) = pod("a", &["10.7.0.1", "fd07::1"], 1450);
    let (b, mut tb) = pod("b", &["10.7.0.2", "fd07::2"], 1450);
    let mut poll = Poll::default();
    let mut buf = vec![0; BUFFER_LEN];
    let forwarding = Loop::start(move || {
        poll.wait([(ta.as_fd(), false), (tb.as_fd(), false)], Some(Duration::from_millis(50))).unwrap();
        let mut carry = |from: &mut Tap, to: &mut Tap| {
            while let Some(len) = from.recv(&mut buf).unwrap() {
                assert!(len <= 1464, "a frame beyond the MTU was read");
                let _ = to.send(&buf[..len]).unwrap();
            }
        };
        carry(&mut ta, &mut tb);
        carry(&mut tb, &mut ta);
    });
    everything_passes((&a, ip("10.7.0.1")), (&b, ip("10.7.0.2")));
    everything_passes((&a, ip("fd07::1")), (&b, ip("fd07::2")));
    drop(forwarding);
}

/// A pod behind a bridge, of which the TAP is a port: what is longer than the MTU is dropped there,
/// unless the TAP was told how to segment it.
fn bridged_pod(addrs: &[&str], mtu: u16) -> (NetNs, Tap) {
    let (host, tap) = pod("host", &[], mtu);
    let pod = NetNs::new("pod").unwrap();
    let (mut outside, mut inside) = (host.rtnl().unwrap(), pod.rtnl().unwrap());
    outside.add_bridge("br0").unwrap();
    outside.add_veth("p0", "eth0", Some(&pod)).unwrap();
    for port in ["p0", "tap0"] {
        outside.set_bridge(port, "br0").unwrap();
    }
    outside.set_mtu("p0", mtu.into()).unwrap();
    inside.set_mtu("eth0", mtu.into()).unwrap();
    for addr in addrs {
        inside.add_address("eth0", ip(addr), if addr.contains(':') { 64 } else { 24 }).unwrap();
    }
    inside.set_up("eth0").unwrap();
    for device in ["br0", "p0"] {
        outside.set_up(device).unwrap();
    }
    (pod, tap)
}

const POD: [&str; 2] = ["10.42.0.1", "fd42::1"];

fn tap_behind_vxlan4() {
    tap_behind_vxlan(["10.99.0.1", "10.99.0.2"], pod("pod", &POD, 1450));
}

fn tap_behind_vxlan6() {
    tap_behind_vxlan(["fd99::1", "fd99::2"], pod("pod", &POD, 1430));
}

fn bridged_tap_behind_vxlan4() {
    tap_behind_vxlan(["10.99.0.1", "10.99.0.2"], bridged_pod(&POD, 1450));
}

fn bridged_tap_behind_vxlan6() {
    tap_behind_vxlan(["fd99::1", "fd99::2"], bridged_pod(&POD, 1430));
}

/// A pod on a TAP, joined by hand-made VXLAN to a kernel VXLAN device: the peer hands over unfinished
/// checksums and superframes, since its underlay is a veth pair.
fn tap_behind_vxlan(underlay: [&str; 2], (pod, mut tap): (NetNs, Tap)) {
    let (node, peer, _, mut r) = joined();
    let [near, far] = underlay.map(ip);
    r.add_vxlan("vx0", &Vxlan { vni: 42, local: Some(far), remote: Some(near), ..Vxlan::default() }).unwrap();
    r.add_address("vx0", ip("10.42.0.2"), 24).unwrap();
    r.add_address("vx0", ip("fd42::2"), 64).unwrap();
    r.set_up("vx0").unwrap();
    let mtu = tap.mtu();
    let config = UnderlayConfig::default();
    let mut socket = node.run(|| Underlay::bind((near, 4789).into(), &config).unwrap());

    let superframes = Arc::new(AtomicU64::new(0));
    let seen = superframes.clone();
    let mut poll = Poll::default();
    let mut buf = vec![0; BUFFER_LEN];
    let forwarding = Loop::start(move || {
        poll.wait([(tap.as_fd(), false), (socket.as_fd(), false)], Some(Duration::from_millis(50))).unwrap();
        while let Some(len) = tap.recv(&mut buf).unwrap() {
            let header = [8, 0, 0, 0, 0, 0, 42, 0];
            let _ = socket.send(&[&header, &buf[..len]], (far, 4789).into(), Some(0)).unwrap();
        }
        while let Some(datagram) = socket.recv(&mut buf).unwrap() {
            assert_eq!(datagram.from.ip(), far);
            if datagram.len > usize::from(mtu) + 22 {
                seen.fetch_add(1, Ordering::Relaxed);
            }
            let _ = tap.send(&buf[8..datagram.len]).unwrap();
        }
    });
    everything_passes((&pod, ip("10.42.0.1")), (&peer, ip("10.42.0.2")));
    everything_passes((&pod, ip("fd42::1")), (&peer, ip("fd42::2")));
    drop(forwarding);
    assert!(superframes.load(Ordering::Relaxed) > 0, "the case that this test is for did not arise");
}
