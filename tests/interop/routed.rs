//! Routed VNIs: the longest matching route, inner MAC addresses rewritten, as flannel sets them up.

use std::net::IpAddr;

use overlane::addr::{MacAddr, NextHop, Vni};
use overlane::engine::Command;
use overlane::error::{DropReason, PuntReason};
use overlane::linux::{Driver, UnderlayConfig};
use overlane::table::vni::VniConfig;
use overlane::table::vtep::VtepConfig;
use overlane::wire::vxlan::{PORT_LINUX, VxlanPolicy};
use overlane_testkit::NetNs;
use overlane_testkit::rtnl::Vxlan;

use crate::node::*;

const VNI: Vni = Vni::truncate(1);
const BYTES: u64 = 4 << 20;

/// The subnets of node `n`, from 1, and the place of a host in them.
fn at4(n: usize, host: u8) -> IpAddr {
    ip(&format!("10.43.{n}.{host}"))
}

fn at6(n: usize, host: u8) -> IpAddr {
    ip(&format!("fd43:0:0:{n}::{host}"))
}

fn router(n: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, n as u8])
}

/// Both subnets of node `n` lead there.
fn route(node: &mut Driver, n: usize, next_hop: NextHop) {
    for prefix in [format!("10.43.{n}.0/24"), format!("fd43:0:0:{n}::/64")] {
        let prefix = prefix.parse().unwrap();
        node.apply(&Command::AddRoute { vni: VNI, prefix, next_hop }).unwrap();
    }
}

/// An overlane node with a pod on its TAP, which takes all of the overlay to be on its link.
fn node(host: &NetNs, n: usize, mtu: u16) -> (NetNs, Driver) {
    let (pod, tap) = pod(&format!("pod{n}"), &[(at4(n, 2), 24), (at6(n, 2), 64)], mtu);
    let mut r = pod.rtnl().unwrap();
    r.add_route((ip("10.43.0.0"), 16), None, "tap0").unwrap();
    r.add_route((ip("fd43::"), 48), None, "tap0").unwrap();
    let mut node = driver(host, &[host4(n)], PORT_LINUX, VxlanPolicy::default(), UnderlayConfig::default());
    add_vni(&mut node, VNI, VniConfig::routed(router(n)));
    let port = add_tap(&mut node, VNI, tap);
    route(&mut node, n, NextHop::Port(port));
    node.set_gateway(at4(n, 1));
    node.set_gateway(at6(n, 1));
    (pod, node)
}

fn add_peer(node: &mut Driver, n: usize, mac: MacAddr, mtu: u16) {
    let config = VtepConfig { inner_mac: Some(mac), mtu, ..VtepConfig::new(host4(n), PORT_LINUX) };
    let vtep = add_vtep(node, config);
    route(node, n, NextHop::Vtep(vtep));
}

pub fn two_nodes_and_flannel() {
    let ([one, two, three], _switch) = hosts();
    // What flannel makes on a node: a device that learns nothing, and for each other node a route over
    // its subnet's first address, a neighbour with its router MAC, and an entry that says where that is.
    let mut r = three.rtnl().unwrap();
    let vxlan = Vxlan {
        vni: VNI.get(),
        local: Some(host4(3)),
        port: PORT_LINUX,
        learning: false,
        ..Vxlan::default()
    };
    r.add_vxlan("flannel.1", &vxlan).unwrap();
    r.add_address("flannel.1", at4(3, 0), 16).unwrap();
    r.add_address("flannel.1", at6(3, 0), 48).unwrap();
    r.set_up("flannel.1").unwrap();
    let flannel = MacAddr(r.device("flannel.1").unwrap().mac);
    for n in [1, 2] {
        for (prefix, gateway) in [((at4(n, 0), 24), at4(n, 0)), ((at6(n, 0), 64), at6(n, 0))] {
            r.add_route(prefix, Some(gateway), "flannel.1").unwrap();
            r.add_neighbour("flannel.1", gateway, router(n).0).unwrap();
        }
        r.fdb_append("flannel.1", router(n).0, host4(n)).unwrap();
    }
    let pod3 = NetNs::new("pod3").unwrap();
    let mut inside = pod3.rtnl().unwrap();
    r.add_veth("cni0", "eth0", Some(&pod3)).unwrap();
    for (gateway, own, len) in [(at4(3, 1), at4(3, 2), 24), (at6(3, 1), at6(3, 2), 64)] {
        r.add_address("cni0", gateway, len).unwrap();
        inside.add_address("eth0", own, len).unwrap();
    }
    inside.set_mtu("eth0", 1450).unwrap();
    r.set_up("cni0").unwrap();
    inside.set_up("eth0").unwrap();
    inside.add_route((ip("0.0.0.0"), 0), Some(at4(3, 1)), "eth0").unwrap();
    inside.add_route((ip("::"), 0), Some(at6(3, 1)), "eth0").unwrap();
    three.sysctl("net.ipv4.ip_forward", "1").unwrap();
    three.sysctl("net.ipv6.conf.all.forwarding", "1").unwrap();

    let (pod1, mut node1) = node(&one, 1, 1450);
    let (pod2, mut node2) = node(&two, 2, 1450);
    add_peer(&mut node1, 2, router(2), 1500);
    add_peer(&mut node1, 3, flannel, 1500);
    add_peer(&mut node2, 1, router(1), 1500);
    add_peer(&mut node2, 3, flannel, 1500);
    let running = [Running::start(&one, node1), Running::start(&two, node2)];

    let pods = [&pod1, &pod2, &pod3];
    for address in [at4, at6] {
        let pods: Vec<_> = pods.into_iter().zip([address(1, 2), address(2, 2), address(3, 2)]).collect();
        everything_passes(&pods, BYTES);
    }
    for node in running {
        let node = node.stop();
        assert!(node.counters().answered > 0, "ARP and neighbour discovery were answered");
        assert_eq!(node.engine().tables().fdb().len(), 0, "nothing is learned in a routed VNI");
        // The kernels' own chatter: router solicitations, multicast listener reports.
        no_drops_but(&node, &[DropReason::NotForRouter]);
    }
}

pub fn too_big() {
    let ([one, two], _switch) = hosts();
    // The pods believe in 1500 octets; the path takes 1400, less 50 for the headers.
    let (pod1, mut node1) = node(&one, 1, 1500);
    let (pod2, mut node2) = node(&two, 2, 1500);
    add_peer(&mut node1, 2, router(2), 1400);
    add_peer(&mut node2, 1, router(1), 1400);
    let running = [Running::start(&one, node1), Running::start(&two, node2)];
    for address in [at4, at6] {
        everything_passes(&[(&pod1, address(1, 2)), (&pod2, address(2, 2))], BYTES);
    }
    // Who was told so offers a smaller segment size to the other, which then need not be told.
    let mut told = 0;
    for node in running {
        let node = node.stop();
        told += node.engine().counters().punts.get(PuntReason::TooBig);
        no_drops_but(&node, &[DropReason::NotForRouter]);
    }
    assert!(told >= 2, "once for each family");
}
