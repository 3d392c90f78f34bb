//! Several threads on loopback sockets, with queues whose other ends are sockets of the test.

use alloc::vec;
use alloc::vec::Vec;
use std::os::unix::net::UnixDatagram;

use super::tests::*;
use super::*;
use crate::addr::{Destination, MacAddr};
use crate::engine::{Capacity, EngineConfig};
use crate::error::DropReason;
use crate::linux::tap::tests::{fake, fake_over};
use crate::linux::{Poll, UnderlayConfig, VirtioNetHeader};
use crate::table::Seed;
use crate::table::port::PortConfig;
use crate::table::vni::VniConfig;
use crate::table::vtep::VtepConfig;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

fn workers(local: &str, threads: usize) -> Workers {
    let config = EngineConfig::new(ip(local), Seed::fixed(1));
    let engine = Engine::with_capacity(config, &Capacity::default()).unwrap();
    let mut workers = Workers::new(engine, &DriverConfig::default(), threads).unwrap();
    let group = Underlay::bind_group((ip(local), 0).into(), &UnderlayConfig::default(), threads).unwrap();
    assert!(group.iter().all(|socket| socket.local_addr() == group[0].local_addr()));
    workers.add_sockets(group).unwrap();
    workers.apply(&Command::AddVni { vni: VNI, config: VniConfig::default() }).unwrap();
    workers
}

/// A port with a device of so many queues, and their other ends.
fn add_pod(workers: &mut Workers, queues: usize) -> (PortId, Vec<UnixDatagram>) {
    let (queues, ends) = (0..queues).map(|_| fake(true)).unzip();
    let port = workers.apply(&Command::AddPort(PortConfig::new(VNI))).unwrap().port().unwrap();
    workers.add_tap(port, queues).unwrap();
    (port, ends)
}

fn put(pod: &UnixDatagram, src: MacAddr) {
    let frame = ethernet(MacAddr::BROADCAST, src, 0x88b5, &[7; 50]);
    pod.send(&[&VirtioNetHeader::NONE.to_bytes()[..], &frame].concat()).unwrap();
}

const fn station(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, n])
}

/// Works until `far` has so many datagrams; each one's source port.
fn run_until(workers: &mut Workers, far: &mut Underlay, datagrams: usize) -> Vec<u16> {
    let (mut tell, told) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        let seen = scope.spawn(move || {
            let mut seen = Vec::new();
            while seen.len() < datagrams {
                let ready = Poll::default().wait([(far.as_fd(), false)], Some(SOON)).unwrap();
                assert_eq!(ready, 1, "{} of {datagrams}", seen.len());
                while let Some(datagram) = far.recv(&mut [0; 2000]).unwrap() {
                    seen.push(datagram.from.port());
                }
            }
            tell.write_all(b"x").unwrap();
            seen
        });
        let turn = workers.run_for(told.as_fd(), SOON).unwrap();
        assert!(turn.woken && turn.frames > 0);
        seen.join().unwrap()
    })
}

#[test]
fn each_queue_is_served_and_what_all_saw_is_learned() {
    for threads in [1, 2, 3] {
        let mut a = workers(A, threads);
        let (port, pods) = add_pod(&mut a, threads);
        let mut far = Underlay::bind((ip(B), 0).into(), &UnderlayConfig::default()).unwrap();
        let config = VtepConfig::new(ip(B), far.local_addr().port());
        let vtep = a.apply(&Command::AddVtep(config)).unwrap().vtep().unwrap();
        a.apply(&Command::AddFlood { vni: VNI, vtep }).unwrap();
        for round in 0..3 {
            for (n, pod) in pods.iter().enumerate() {
                for m in 0..5 {
                    put(pod, station((10 * n + 100 * round + m) as u8));
                }
            }
            run_until(&mut a, &mut far, 5 * threads);
        }
        let total = 15 * threads;
        let fdb = a.engine().tables().fdb();
        assert_eq!((a.threads(), fdb.len()), (threads, total));
        assert_eq!(fdb.lookup(a.now(), VNI, station(0)), Some(Destination::Port(port)));
        assert_eq!(a.engine().counters().encap_frames, total as u64, "the contexts were merged");
        assert_eq!(a.engine().port_counters(port).unwrap().traffic.rx_frames, total as u64);
        assert_eq!((a.counters().udp_tx, a.engine().counters().drops.total()), (total as u64, 0));
    }
}

#[test]
fn fewer_queues_and_sockets_than_workers_will_do() {
    let config = EngineConfig::new(ip(A), Seed::fixed(1));
    let engine = Engine::with_capacity(config, &Capacity::default()).unwrap();
    let mut a = Workers::new(engine, &DriverConfig::default(), 3).unwrap();
    let bind = |addr| Underlay::bind((ip(addr), 0).into(), &UnderlayConfig::default()).unwrap();
    a.add_sockets(vec![bind(A)]).unwrap();
    a.apply(&Command::AddVni { vni: VNI, config: VniConfig::default() }).unwrap();
    let (first, one) = add_pod(&mut a, 1);
    let (_, two) = add_pod(&mut a, 2);
    let mut far = bind(B);
    let config = VtepConfig::new(ip(B), far.local_addr().port());
    let vtep = a.apply(&Command::AddVtep(config)).unwrap().vtep().unwrap();
    a.apply(&Command::AddFlood { vni: VNI, vtep }).unwrap();
    // The third worker has nothing to read, and the second one queue of two devices.
    put(&one[0], station(1));
    put(&two[1], station(2));
    run_until(&mut a, &mut far, 2);
    let mut buf = [0; 100];
    assert!(one[0].recv(&mut buf).is_ok(), "written by the worker that has only the other's queue");
    assert!(two[0].recv(&mut buf).is_ok() && two[1].recv(&mut buf).is_err());

    let refused = |r: Result<(), Error>| r.unwrap_err().to_string();
    let queues = (0..4).map(|_| fake(true).0).collect();
    let port = a.apply(&Command::AddPort(PortConfig::new(VNI))).unwrap().port().unwrap();
    assert!(refused(a.add_tap(port, queues)).ends_with("it has more queues than there are workers"));
    assert!(refused(a.add_tap(port, Vec::new())).ends_with("it has no queues"));
    assert!(refused(a.add_tap(first, vec![fake(true).0])).ends_with("the port has a device"));
    assert!(refused(a.add_sockets(Vec::new())).ends_with("it is empty"));
    // The second queue cannot be waited for: the first one is let go of again.
    let file = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    let queues = vec![fake(true).0, fake_over(file.into(), true)];
    assert!(refused(a.add_tap(port, queues)).ends_with("EPERM"));
    assert!(a.tap(port).is_none());
    a.add_tap(port, vec![fake(true).0]).unwrap();
    assert_eq!(a.remove_tap(port).len(), 3);
    assert_eq!((a.taps().count(), a.taps_mut(first).count()), (2, 3));
    assert_eq!((a.remove_tap(first).len(), a.taps().count()), (3, 1));
}

#[test]
fn senders_spread_flows_whoever_carries_them() {
    let mut a = workers(A, 2);
    for _ in 0..3 {
        a.add_sender(Underlay::bind((ip(A), 0).into(), &UnderlayConfig::default()).unwrap()).unwrap();
    }
    let (_, pods) = add_pod(&mut a, 2);
    let mut far = Underlay::bind((ip(B), 0).into(), &UnderlayConfig::default()).unwrap();
    let config = VtepConfig::new(ip(B), far.local_addr().port());
    let vtep = a.apply(&Command::AddVtep(config)).unwrap().vtep().unwrap();
    a.apply(&Command::AddFlood { vni: VNI, vtep }).unwrap();
    let mut seen = alloc::collections::BTreeSet::new();
    for n in 0..16 {
        put(&pods[0], station(n));
        let by_one = run_until(&mut a, &mut far, 1);
        put(&pods[1], station(n));
        assert_eq!(run_until(&mut a, &mut far, 1), by_one, "one flow, one source port");
        seen.extend(by_one);
    }
    assert!(seen.len() > 1, "{seen:?}");
    assert_eq!(a.engine().counters().drops.get(DropReason::NotHandled), 0);
}

#[test]
fn the_time_ends_and_addresses_age() {
    let config =
        EngineConfig { ageing: Duration::from_millis(256), ..EngineConfig::new(ip(A), Seed::fixed(1)) };
    let engine = Engine::with_capacity(config, &Capacity::default()).unwrap();
    let mut a = Workers::new(engine, &DriverConfig::default(), 2).unwrap();
    a.apply(&Command::AddVni { vni: VNI, config: VniConfig::default() }).unwrap();
    let (_, pods) = add_pod(&mut a, 2);
    put(&pods[0], station(1));
    let (_wake, wakes) = UnixStream::pair().unwrap();
    let turn = a.run_for(wakes.as_fd(), Duration::from_millis(10)).unwrap();
    assert_eq!((turn.woken, turn.frames, a.engine().tables().fdb().len()), (false, 1, 1));
    let mut aged = 0;
    while aged == 0 {
        aged += a.run_for(wakes.as_fd(), Duration::from_millis(100)).unwrap().aged;
    }
    assert_eq!((aged, a.engine().tables().fdb().len()), (1, 0));
}

/// One station's flood of addresses leaves room to learn others: whoever speaks from elsewhere is known.
#[test]
fn what_one_device_teaches_keeps_nothing_else_from_being_learned() {
    for threads in [1, 2] {
        let mut a = workers(A, threads);
        // Both are served by the first worker, in this order.
        let (noisy, loud) = add_pod(&mut a, 1);
        let (quiet, pods) = add_pod(&mut a, 1);
        let config = PortConfig { learn_limit: 4, ..PortConfig::new(VNI) };
        a.apply(&Command::SetPort { port: noisy, config }).unwrap();
        let mut far = Underlay::bind((ip(B), 0).into(), &UnderlayConfig::default()).unwrap();
        let config = VtepConfig::new(ip(B), far.local_addr().port());
        let vtep = a.apply(&Command::AddVtep(config)).unwrap().vtep().unwrap();
        a.apply(&Command::AddFlood { vni: VNI, vtep }).unwrap();
        // What a turn takes of a device grows with what there was.
        for round in 0..10u8 {
            for n in 0..100u8 {
                put(&loud[0], MacAddr([2, 0, 0, 1, round, n]));
            }
            for n in 0..10u8 {
                put(&pods[0], MacAddr([2, 0, 0, 2, round, n]));
            }
            run_until(&mut a, &mut far, 110);
        }
        let fdb = a.engine().tables().fdb();
        assert_eq!(fdb.learned_by(Destination::Port(noisy)), 4, "{threads} threads");
        assert_eq!(fdb.learned_by(Destination::Port(quiet)), 100, "{threads} threads");
        // Each of the others was seen and refused.
        assert_eq!(a.engine().counters().not_learned, 996, "{threads} threads");
    }
}

#[test]
fn sockets_that_one_worker_cannot_have_no_worker_has() {
    let mut a = workers(A, 3);
    let (port, _pods) = add_pod(&mut a, 3);
    let counts = |a: &Workers| a.planes.iter().map(|plane| plane.io.sockets.len()).collect::<Vec<_>>();
    // From here on the last worker can wait for nothing new.
    let file = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    a.planes[2].io.slot_mut(port).unwrap().tap = fake_over(file.into(), true);
    let group = || Underlay::bind_group((ip(A), 0).into(), &UnderlayConfig::default(), 3).unwrap();
    assert!(a.add_sockets(group()).is_err());
    assert!(a.add_sender(group().remove(0)).is_err());
    assert_eq!(counts(&a), [1, 1, 1]);
    a.remove_tap(port);
    a.add_sockets(group()).unwrap();
    a.add_sender(group().remove(0)).unwrap();
    assert_eq!(counts(&a), [3, 3, 3]);
}
