use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use super::offload_tests::{put_with, tcp};
use super::tests::*;
use super::*;
use crate::addr::MacAddr;
use crate::linux::UnderlayConfig;
use crate::table::port::PortConfig;
use crate::table::vni::VniConfig;
use crate::table::vtep::VtepConfig;
use crate::wire::vxlan::VxlanHeader;

const A: &str = "127.6.0.1";
const B: &str = "127.6.0.2";

/// A node with pods, and another end that all of them send to.
fn node(pods: usize) -> (Driver, Vec<UnixDatagram>, Underlay) {
    let mut node = driver_with(A, &DriverConfig::default());
    node.apply(&Command::AddVni { vni: VNI, config: VniConfig::default() }).unwrap();
    let pods = (0..pods).map(|_| add_pod(&mut node, PortConfig::new(VNI)).1).collect();
    let far = Underlay::bind((ip(B), 0).into(), &UnderlayConfig::default()).unwrap();
    let vtep = add_vtep(&mut node, VtepConfig::new(ip(B), far.local_addr().port()));
    node.apply(&Command::AddFlood { vni: VNI, vtep }).unwrap();
    (node, pods, far)
}

fn frame(to: MacAddr, from: u8) -> Vec<u8> {
    ethernet(to, MacAddr([2, 0, 0, 0, 1, from]), 0x88b5, &[from; 50])
}

/// What every descriptor is good for: a frame from each pod, a datagram, and being woken.
fn all_are_heard(node: &mut Driver, pods: &[UnixDatagram], far: &mut Underlay) {
    let to = node.sockets().next().unwrap().local_addr();
    let silent = UnixDatagram::pair().unwrap();
    for (n, pod) in pods.iter().enumerate() {
        put(pod, &frame(POD, n as u8));
        let mut turn = Turn::default();
        while turn.frames == 0 {
            turn += node.run_for(silent.1.as_fd(), Duration::from_millis(1)).unwrap();
        }
        assert_eq!((turn.frames, turn.woken), (1, false), "pod {n}");
    }
    let _ = far.send(&[&VxlanHeader::emit(VNI, None), &frame(POD, 200)], to, None).unwrap();
    let mut turn = Turn::default();
    while turn.datagrams == 0 {
        turn += node.turn_or(silent.1.as_fd(), SOON).unwrap();
    }
    assert_eq!((turn.datagrams, turn.woken), (1, false));
    silent.0.send(b"x").unwrap();
    assert!(node.run_for(silent.1.as_fd(), SOON).unwrap().woken);
    assert!(node.turn_or(silent.1.as_fd(), SOON).unwrap().woken);
    assert_eq!(node.turn(NOW).unwrap(), Turn::default(), "nothing is left over, and nobody wakes any more");
}

#[test]
fn streams_change_how_is_waited_and_nothing_else() {
    // Devices that are asked about one by one, and more than that.
    for pods in [1, 3, 40] {
        let (mut node, pods, mut far) = node(pods);
        assert!(node.plane.watch.is_calm());
        all_are_heard(&mut node, &pods, &mut far);
        let (header, superframe) = tcp(MacAddr::BROADCAST, 60_000, 1400);
        put_with(&pods[0], header, &superframe);
        node.turn(SOON).unwrap();
        assert!(!node.plane.watch.is_calm(), "43 datagrams in a turn");
        for pod in &pods {
            while got(pod).is_some() {}
        }
        all_are_heard(&mut node, &pods, &mut far);
        let mut turns = 0;
        while !node.plane.watch.is_calm() {
            put(&pods[0], &frame(POD, 0));
            node.turn(SOON).unwrap();
            turns += 1;
            assert!(turns <= 64, "a stream has ended");
        }
        all_are_heard(&mut node, &pods, &mut far);
    }
}

#[test]
fn devices_and_sockets_that_come_while_there_is_a_stream_are_heard() {
    let (mut node, mut pods, mut far) = node(1);
    node.plane.watch.sent(&node.plane.io, 1000);
    assert!(!node.plane.watch.is_calm());
    pods.push(add_pod(&mut node, PortConfig::new(VNI)).1);
    all_are_heard(&mut node, &pods, &mut far);
    node.plane.watch.sent(&node.plane.io, 1000);
    let gone = node.taps().next().unwrap().0;
    drop(node.remove_tap(gone));
    pods.remove(0);
    all_are_heard(&mut node, &pods, &mut far);
}

/// `epoll` takes no file on a disk; `poll` says that there is something to read.
#[test]
fn a_file_that_no_set_takes_wakes() {
    let (mut node, ..) = node(1);
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    assert!(node.run_for(file.as_fd(), SOON).unwrap().woken);
}
