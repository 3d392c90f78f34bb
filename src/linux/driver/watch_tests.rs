use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use super::offload_tests::{put_with, tcp};
use super::tests::*;
use super::*;
use crate::addr::MacAddr;
use crate::linux::UnderlayConfig;
use crate::linux::tap::tests::{fake, fake_over};
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
    let file = File::open("/proc/self/exe").unwrap();
    assert!(node.run_for(file.as_fd(), SOON).unwrap().woken);
}

/// `epoll` says `EPERM` of it.
fn no_device() -> Tap {
    fake_over(File::options().read(true).write(true).open("/dev/null").unwrap().into(), true)
}

#[test]
fn a_device_that_cannot_be_waited_for_changes_nothing() {
    for count in [1, 16, 17] {
        let (mut node, mut pods, mut far) = node(count);
        let port = node.apply(&Command::AddPort(PortConfig::new(VNI))).unwrap().port().unwrap();
        for _ in 0..2 {
            let error = node.add_tap(port, no_device()).unwrap_err();
            assert_eq!(error.to_string(), "cannot wait for devices and sockets: EPERM");
            assert!(node.tap(port).is_none());
            put(&pods[0], &frame(POD, 0));
            assert_eq!(node.turn(SOON).unwrap().frames, 1, "the others are watched");
            all_are_heard(&mut node, &pods, &mut far);
        }
        let (tap, pod) = fake(true);
        node.add_tap(port, tap).unwrap();
        pods.push(pod);
        all_are_heard(&mut node, &pods, &mut far);
    }
}

/// As where the kernel has no memory for another set.
#[test]
fn devices_are_heard_where_there_is_no_set() {
    for count in [3, 20] {
        let (mut node, pods, _far) = node(count);
        let ports: Vec<_> = node.taps().map(|(port, _)| port).collect();
        node.plane.io.slot_mut(ports[0]).unwrap().tap = no_device();
        let sockets =
            [(); 2].map(|()| Underlay::bind((ip(A), 0).into(), &UnderlayConfig::default()).unwrap());
        let [first, second] = sockets;
        assert!(node.add_socket(first).is_err());
        assert_eq!(node.sockets().count(), 1);
        // Another one has its place now.
        assert!(node.remove_tap(ports[1]).is_some());
        let all_pass = |node: &mut Driver| {
            for (n, pod) in pods.iter().enumerate().skip(2) {
                let before = node.counters().udp_tx;
                put(pod, &frame(MacAddr::BROADCAST, n as u8));
                let end = std::time::Instant::now() + 12 * SOON;
                while node.counters().udp_tx == before {
                    node.turn(SOON).unwrap();
                    assert!(std::time::Instant::now() < end, "pod {n} of {count}");
                }
            }
        };
        all_pass(&mut node);
        assert!(!node.plane.watch.is_calm());
        assert!(node.remove_tap(ports[0]).is_some());
        assert!(node.plane.watch.is_calm(), "there is a set again");
        node.add_socket(second).unwrap();
        all_pass(&mut node);
        assert_eq!(node.sockets().count(), 2);
    }
}
