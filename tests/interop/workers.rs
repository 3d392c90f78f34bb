//! Several threads over the queues of one device.

use std::time::Duration;

use overlane::addr::{Destination, MacAddr, Vni};
use overlane::engine::Command;
use overlane::linux::{DriverConfig, Links, Tap, Underlay, UnderlayConfig, Workers};
use overlane::table::port::PortConfig;
use overlane::table::vni::VniConfig;
use overlane::table::vtep::VtepConfig;
use overlane::wire::vxlan::VxlanPolicy;
use overlane_testkit::netns::NetNs;
use overlane_testkit::rtnl::Vxlan;

use crate::node::*;

const PORT: u16 = 4789;
const VNI: Vni = Vni::truncate(42);
const THREADS: usize = 2;

/// A node of two threads with a pod, and the pod's MAC address.
fn node(host: &NetNs, n: usize, peers: &[usize]) -> (Workers, NetNs, MacAddr) {
    let engine = engine(&[host4(n)], PORT, VxlanPolicy::default());
    let mut workers = Workers::new(engine, &DriverConfig::default(), THREADS).unwrap();
    let (group, sender) = host.run(|| {
        let config = UnderlayConfig::default();
        let group = Underlay::bind_group((host4(n), PORT).into(), &config, THREADS).unwrap();
        (group, Underlay::bind((host4(n), 0).into(), &config).unwrap())
    });
    workers.add_sockets(group).unwrap();
    workers.add_sender(sender).unwrap();
    workers.apply(&Command::AddVni { vni: VNI, config: VniConfig::default() }).unwrap();
    for peer in peers {
        let config = VtepConfig::new(host4(*peer), PORT);
        let vtep = workers.apply(&Command::AddVtep(config)).unwrap().vtep().unwrap();
        workers.apply(&Command::AddFlood { vni: VNI, vtep }).unwrap();
    }
    let pod = NetNs::new(&format!("pod{n}")).unwrap();
    let queues = pod.run(|| {
        let mut queues = Tap::create_queues("tap0", THREADS).unwrap();
        queues[0].set_mtu(1450).unwrap();
        let mut links = Links::open().unwrap();
        let index = links.get("tap0").unwrap().index;
        links.add_address(index, pod4(n), 24).unwrap();
        queues[0].set_up().unwrap();
        for queue in &mut queues {
            queue.refresh().unwrap();
        }
        queues
    });
    let mac = queues[0].mac();
    let port = workers.apply(&Command::AddPort(PortConfig::new(VNI))).unwrap().port().unwrap();
    workers.add_tap(port, queues).unwrap();
    (workers, pod, mac)
}

fn pod4(n: usize) -> std::net::IpAddr {
    ip(&format!("10.42.0.{n}"))
}

/// Two such nodes and the kernel, each with each.
pub fn shared() {
    let ([one, two, three], _switch) = hosts();
    let (a, pod_a, mac_a) = node(&one, 1, &[2, 3]);
    let (b, pod_b, mac_b) = node(&two, 2, &[1, 3]);
    let mut outside = three.rtnl().unwrap();
    let vxlan = Vxlan { vni: 42, local: Some(host4(3)), ..Vxlan::default() };
    outside.add_vxlan("vx0", &vxlan).unwrap();
    outside.set_mtu("vx0", 1450).unwrap();
    for peer in [1, 2] {
        outside.fdb_append("vx0", [0; 6], host4(peer)).unwrap();
    }
    outside.add_address("vx0", pod4(3), 24).unwrap();
    outside.set_up("vx0").unwrap();

    let (a, b) = (Running::start(&one, a), Running::start(&two, b));
    everything_passes(&[(&pod_a, pod4(1)), (&pod_b, pod4(2)), (&three, pod4(3))], 4 << 20);
    for (node, own, other) in [(a.stop(), mac_a, mac_b), (b.stop(), mac_b, mac_a)] {
        let fdb = node.engine().tables().fdb();
        let found = |mac| fdb.lookup(node.now(), VNI, mac);
        assert!(matches!(found(own), Some(Destination::Port(_))), "{:?}", found(own));
        assert!(matches!(found(other), Some(Destination::Vtep(_))), "{:?}", found(other));
        let counters = node.engine().counters();
        assert!(counters.encap_frames > 0 && counters.decap_frames > 0, "{counters:?}");
        let drops: Vec<_> = counters.drops.iter().collect();
        assert!(drops.is_empty(), "{drops:?}, {:?}", node.counters());
    }
}

/// One worker whose queue is gone ends them all.
pub fn removed_tap() {
    let ([one], _switch) = hosts();
    let (a, pod, _) = node(&one, 1, &[]);
    let a = Running::start(&one, a);
    std::thread::sleep(Duration::from_millis(20));
    pod.rtnl().unwrap().delete("tap0").unwrap();
    let error = a.end().unwrap_err();
    assert_eq!(error.to_string(), "cannot read from tap0: EBADFD; the device was removed");
}
