//! What an overlay of many nodes does, on a simulated underlay: see `overlane_testkit::fabric` for
//! what is checked at every step besides.

mod bridging;
mod random;
mod stacks;
mod storm;

use core::time::Duration;

use overlane::addr::{Destination, MacAddr, PortId, Vni};
use overlane_testkit::fabric::{Fabric, NodeId, PodId, frame, mac};

pub(crate) const RED: Vni = Vni::truncate(1);
pub(crate) const BLUE: Vni = Vni::truncate(0xff_ffff);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// One station in this VNI on each node; station n has the address `mac(n)`.
pub(crate) fn stations(fabric: &mut Fabric, vni: Vni) -> Vec<PodId> {
    (0..fabric.nodes()).map(|n| fabric.add_station(NodeId(n), vni, mac(n as u32))).collect()
}

/// A broadcast from a pod.
pub(crate) fn broadcast(fabric: &Fabric, pod: PodId) -> Vec<u8> {
    frame(MacAddr::BROADCAST, fabric.mac_of(pod), b"to all")
}

/// A frame from one pod to another.
pub(crate) fn unicast(fabric: &Fabric, from: PodId, to: PodId) -> Vec<u8> {
    frame(fabric.mac_of(to), fabric.mac_of(from), b"to you")
}

/// The underlying truth: at which node and port a pod is.
pub(crate) fn place(fabric: &Fabric, pod: PodId) -> (NodeId, PortId) {
    let (node, port) = fabric.place(pod);
    (node, port.expect("it is attached"))
}

/// Where a node believes an address to be: on which node.
pub(crate) fn belief(fabric: &mut Fabric, at: NodeId, vni: Vni, mac: MacAddr) -> Option<NodeId> {
    let now = fabric.instant();
    match fabric.engine(at).tables().fdb().lookup(now, vni, mac)? {
        Destination::Port(_) => Some(at),
        Destination::Vtep(v) => {
            (0..fabric.nodes()).map(NodeId).filter(|n| *n != at).find(|n| fabric.vtep(at, *n, false) == v)
        }
    }
}
