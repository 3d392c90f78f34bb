//! Routed VNIs: longest match on the inner destination, MACs rewritten, TTL decremented.

use std::net::IpAddr;

use overlane::addr::{MacAddr, NextHop};
use overlane::engine::*;
use overlane::error::{DropReason, PuntReason};
use overlane::table::port::PortConfig;
use overlane::table::vni::VniConfig;
use overlane::table::vtep::VtepConfig;

use crate::every_memory;
use crate::world::*;

const ROUTER_A: MacAddr = mac(0xa0);
const ROUTER_B: MacAddr = mac(0xb0);
const POD_A: MacAddr = mac(0xa1);
const POD_B: MacAddr = mac(0xb1);

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

/// A node that routes a /24 and a /64 of its own to its port and the peer's to the peer, as flannel lays it out.
fn node<M: Memory>(
    addr: IpAddr,
    peer: IpAddr,
    router: MacAddr,
    peer_router: MacAddr,
    pod: MacAddr,
    nets: [&str; 2],
    peer_nets: [&str; 2],
) -> Node<M> {
    let mut n = Node::<M>::with(config(addr), addr, VniConfig::routed(router), &[]);
    let vtep = n.add_peer(VtepConfig { inner_mac: Some(peer_router), ..VtepConfig::new(peer, 4789) }, false);
    let port = PortConfig { peer_mac: Some(pod), ..PortConfig::new(VNI) };
    n.engine.apply(T0, &Command::SetPort { port: n.port, config: port }).unwrap();
    for (prefixes, next_hop) in [(nets, NextHop::Port(n.port)), (peer_nets, NextHop::Vtep(vtep))] {
        for prefix in prefixes {
            route(&mut n, prefix, next_hop);
        }
    }
    n
}

fn route<M: Memory>(n: &mut Node<M>, prefix: &str, next_hop: NextHop) {
    let prefix = prefix.parse().unwrap();
    n.engine.apply(T0, &Command::AddRoute { vni: VNI, prefix, next_hop }).unwrap();
}

const NET_A: [&str; 2] = ["10.244.1.0/24", "fd00:1::/64"];
const NET_B: [&str; 2] = ["10.244.2.0/24", "fd00:2::/64"];

fn pair<M: Memory>() -> (Node<M>, Node<M>) {
    (node(A, B, ROUTER_A, ROUTER_B, POD_A, NET_A, NET_B), node(B, A, ROUTER_B, ROUTER_A, POD_B, NET_B, NET_A))
}

every_memory! {
    // flannel's VXLAN backend: inner destination = the remote VTEP's MAC, source = the local one's; both ends are routers.
    fn a_packet_is_routed_at_both_ends<M>() {
        let (mut a, mut b) = pair::<M>();
        for (from, to) in [("10.244.1.2", "10.244.2.2"), ("fd00:1::2", "fd00:2::2")] {
            let sent = udp(ROUTER_A, POD_A, ip(from), ip(to), 64, b"hello");
            let (verdict, datagram) = a.send(T0, &sent);
            assert_eq!(verdict, Verdict::ToUnderlay(a.vtep(B)));
            assert_eq!(datagram, vxlan(42, &udp(ROUTER_B, ROUTER_A, ip(from), ip(to), 63, b"hello")));
            let (verdict, received) = b.receive(T0, A, &datagram);
            assert_eq!(verdict, Verdict::ToPort(b.port));
            // The header checksum, updated twice, is the one computed afresh (RFC 1624).
            assert_eq!(received, udp(POD_B, ROUTER_B, ip(from), ip(to), 62, b"hello"));
        }
        assert_eq!(a.engine.tables().fdb().len() + b.engine.tables().fdb().len(), 0, "a routed VNI learns no MACs");
    }

    fn the_longest_prefix_wins_and_says_what_becomes_of_a_packet<M>() {
        let (mut a, _) = pair::<M>();
        route(&mut a, "10.244.2.128/25", NextHop::Blackhole);
        route(&mut a, "10.244.2.200/32", NextHop::Direct);
        let port = a.port;
        route(&mut a, "10.244.1.9/32", NextHop::Port(port));
        let drop = |r| Verdict::Drop(r);
        for (to, expected) in [
            ("10.244.2.1", Verdict::ToUnderlay(a.vtep(B))),
            ("10.244.2.129", drop(DropReason::Blackhole)),
            ("10.244.2.200", Verdict::Punt(PuntReason::DirectRoute)),
            ("10.244.3.1", drop(DropReason::NoRoute)),
            // A router may send a packet back where it came from; this port would only loop it.
            ("10.244.1.3", drop(DropReason::SamePort)),
        ] {
            let frame = udp(ROUTER_A, POD_A, ip("10.244.1.2"), ip(to), 64, b"");
            let (verdict, bytes) = a.send(T0, &frame);
            assert_eq!(verdict, expected, "{to}");
            if !matches!(verdict, Verdict::ToUnderlay(_)) {
                assert_eq!(bytes, frame, "not carried, not changed: {to}");
            }
        }
    }

    fn what_needs_an_answer_is_punted<M>() {
        let (mut a, mut b) = pair::<M>();
        // RFC 1812, section 5.3.1: TTL 1 or 0 is not forwarded.
        for ttl in [0, 1] {
            let frame = udp(ROUTER_A, POD_A, ip("10.244.1.2"), ip("10.244.2.2"), ttl, b"");
            assert_eq!(a.send(T0, &frame), (Verdict::Punt(PuntReason::TtlExpired), frame.clone()));
            let (verdict, bytes) = b.receive(T0, A, &vxlan(42, &udp(ROUTER_B, ROUTER_A, ip("10.244.1.2"), ip("10.244.2.2"), ttl, b"")));
            assert_eq!(verdict, Verdict::Punt(PuntReason::TtlExpired));
            assert_eq!(bytes, udp(ROUTER_B, ROUTER_A, ip("10.244.1.2"), ip("10.244.2.2"), ttl, b""), "the outer header is off");
        }
        // But one that ends here is not forwarded.
        route(&mut a, "10.244.9.1/32", NextHop::Direct);
        route(&mut a, "10.244.9.2/32", NextHop::Blackhole);
        for (to, expected) in [
            ("10.244.9.1", Verdict::Punt(PuntReason::DirectRoute)),
            ("10.244.9.2", Verdict::Drop(DropReason::Blackhole)),
            ("10.244.9.3", Verdict::Drop(DropReason::NoRoute)),
        ] {
            for ttl in [0, 1, 2] {
                let frame = udp(ROUTER_A, POD_A, ip("10.244.1.2"), ip(to), ttl, b"");
                assert_eq!(a.send(T0, &frame), (expected, frame.clone()), "{to}, TTL {ttl}");
            }
        }
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
        arp.extend_from_slice(&[0; 20]);
        assert_eq!(a.send(T0, &frame(ALL, POD_A, 0x0806, &arp)).0, Verdict::Punt(PuntReason::Arp));
        let arp_over_tunnel = vxlan(42, &frame(ALL, ROUTER_B, 0x0806, &arp));
        assert_eq!(a.receive(T0, B, &arp_over_tunnel).0, Verdict::Drop(DropReason::NotForRouter));
        // A neighbour solicitation to the solicited-node group (RFC 4861, section 4.3).
        let mut ns = ipv6("fd00:1::2".parse().unwrap(), "ff02::1:ff00:1".parse().unwrap(), 255, &[135, 0, 0, 0, 0, 0, 0, 0, 0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        ns[6] = 58;
        let group = MacAddr([0x33, 0x33, 0xff, 0, 0, 1]);
        assert_eq!(a.send(T0, &frame(group, POD_A, 0x86dd, &ns)).0, Verdict::Punt(PuntReason::NeighborDiscovery));
        // A route out of a port whose peer's MAC is not known.
        a.engine.apply(T0, &Command::SetPort { port: a.port, config: PortConfig::new(VNI) }).unwrap();
        let (verdict, _) = a.receive(T0, B, &vxlan(42, &udp(ROUTER_A, ROUTER_B, ip("10.244.2.2"), ip("10.244.1.2"), 64, b"")));
        assert_eq!(verdict, Verdict::Punt(PuntReason::NoNeighbor));
        assert_eq!(a.engine.counters().punts.get(PuntReason::NoNeighbor), 1);
    }

    fn a_packet_too_big_for_the_tunnel_is_punted_unchanged<M>() {
        let (mut a, _) = pair::<M>();
        let vtep = a.vtep(B);
        let config = VtepConfig { mtu: 1500, inner_mac: Some(ROUTER_B), ..VtepConfig::new(B, 4789) };
        a.engine.apply(T0, &Command::SetVtep { vtep, config }).unwrap();
        let fits = udp(ROUTER_A, POD_A, ip("10.244.1.2"), ip("10.244.2.2"), 64, &[0; 1450 - 28]);
        assert_eq!(a.send(T0, &fits).0, Verdict::ToUnderlay(vtep));
        let long = udp(ROUTER_A, POD_A, ip("10.244.1.2"), ip("10.244.2.2"), 64, &[0; 1450 - 27]);
        assert_eq!(a.send(T0, &long), (Verdict::Punt(PuntReason::TooBig), long.clone()));
    }

    fn frames_that_are_not_for_the_router_are_dropped<M>() {
        let (mut a, _) = pair::<M>();
        let to = ip("10.244.2.2");
        let from = ip("10.244.1.2");
        let mut bad_sum = udp(ROUTER_A, POD_A, from, to, 64, b"");
        bad_sum[14 + 10] ^= 1;
        let mut short = udp(ROUTER_A, POD_A, from, to, 64, b"");
        short.truncate(14 + 19);
        for (frame, reason) in [
            (udp(mac(9), POD_A, from, to, 64, b""), DropReason::NotForRouter),
            (udp(ALL, POD_A, from, to, 64, b""), DropReason::NotForRouter),
            (udp(ROUTER_A, ROUTER_A, from, to, 64, b""), DropReason::OwnSourceMac),
            (frame(ROUTER_A, POD_A, 0x88b5, b""), DropReason::NotIp),
            // RFC 1812, section 5.2.2: a router verifies the header checksum.
            (bad_sum, DropReason::BadChecksum),
            (short, DropReason::Truncated),
        ] {
            assert_eq!(a.send(T0, &frame).0, Verdict::Drop(reason), "{reason}");
            assert_eq!(a.receive(T0, B, &vxlan(42, &frame)).0, Verdict::Drop(reason), "{reason} over the tunnel");
        }
    }

    fn a_packet_from_the_tunnel_is_not_routed_back_into_it<M>() {
        let (mut a, _) = pair::<M>();
        let frame = udp(ROUTER_A, ROUTER_B, ip("10.244.1.2"), ip("10.244.2.2"), 64, b"");
        assert_eq!(a.receive(T0, B, &vxlan(42, &frame)).0, Verdict::Drop(DropReason::SplitHorizon));
    }

    fn a_missing_route_is_told_where_the_vni_asks<M>() {
        let loud = VniConfig { notify_miss: true, ..VniConfig::routed(ROUTER_A) };
        let mut a = Node::<M>::with(config(A), A, loud, &[]);
        let to = ip("fd00:9::1");
        a.send(T0, &udp(ROUTER_A, POD_A, ip("fd00:1::2"), to, 64, b""));
        assert_eq!(a.events(), [Event::NoRoute { vni: VNI, addr: to }]);
    }


    // RFC 1812, sections 4.2.2.11 and 5.3.7; RFC 4291, sections 2.5.2, 2.5.3 and 2.5.6; RFC 1122, 3.2.1.3.
    fn addresses_that_no_router_forwards_have_no_route<M>() {
        let (mut a, _) = pair::<M>();
        let vtep = a.vtep(B);
        route(&mut a, "0.0.0.0/0", NextHop::Vtep(vtep));
        route(&mut a, "::/0", NextHop::Vtep(vtep));
        let (v4, v6) = (("10.244.1.2", "10.244.2.2"), ("fd00:1::2", "fd00:2::2"));
        for (bad, good) in [
            ("127.0.0.1", v4),
            ("0.0.0.0", v4),
            ("0.1.2.3", v4),
            ("224.0.0.5", v4),
            ("255.255.255.255", v4),
            ("::", v6),
            ("::1", v6),
            ("ff05::2", v6),
            ("fe80::1", v6),
        ] {
            let to = udp(ROUTER_A, POD_A, ip(good.0), ip(bad), 64, b"");
            assert_eq!(a.send(T0, &to).0, Verdict::Drop(DropReason::NotForwardable), "to {bad}");
            let to = vxlan(42, &udp(ROUTER_A, ROUTER_B, ip(good.0), ip(bad), 64, b""));
            assert_eq!(a.receive(T0, B, &to).0, Verdict::Drop(DropReason::NotForwardable), "to {bad}, from the tunnel");
            let from = udp(ROUTER_A, POD_A, ip(bad), ip(good.1), 64, b"");
            assert_eq!(a.send(T0, &from).0, Verdict::Drop(DropReason::NotForwardable), "from {bad}");
        }
        for good in ["1.0.0.1", "169.254.20.10", "240.0.0.1", "223.255.255.254", "fec0::1", "2001:db8::1"] {
            let from = if good.contains(':') { v6.0 } else { v4.0 };
            let to = udp(ROUTER_A, POD_A, ip(from), ip(good), 64, b"");
            assert_eq!(a.send(T0, &to).0, Verdict::ToUnderlay(vtep), "to {good}");
        }
    }
}
