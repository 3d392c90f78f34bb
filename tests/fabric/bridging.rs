//! Learning, flooding, moving, ageing and isolation in bridged VNIs.

use overlane::engine::{Capacity, Command, EngineConfig};
use overlane::error::DropReason;
use overlane::table::Seed;
use overlane::table::vni::VniConfig;
use overlane_testkit::fabric::node_v4;

use super::*;

#[test]
fn every_node_of_a_mesh_learns_every_station() {
    for v6 in [false, true] {
        let mut fabric = Fabric::new(1);
        let nodes: Vec<NodeId> = (0..8).map(|_| fabric.add_node()).collect();
        fabric.join(RED, VniConfig::default(), &nodes, v6);
        let pods = stations(&mut fabric, RED);
        for pod in &pods {
            let hello = broadcast(&fabric, *pod);
            fabric.send(*pod, hello);
        }
        fabric.settle();
        for node in &nodes {
            assert_eq!(fabric.engine(*node).counters().learned, 8);
        }
        // Now every frame goes straight to its node, and to nobody else.
        let sent = fabric.underlay().sent;
        for from in &pods {
            for to in pods.iter().filter(|p| *p != from) {
                let hello = unicast(&fabric, *from, *to);
                let flight = fabric.send(*from, hello);
                fabric.settle();
                let flight = fabric.flight(flight).unwrap();
                assert_eq!(flight.delivered().keys().collect::<Vec<_>>(), [&place(&fabric, *to)]);
            }
        }
        assert_eq!(fabric.underlay().sent - sent, 8 * 7);
        fabric.check();
    }
}

#[test]
fn a_broadcast_reaches_every_other_port_of_its_vni_once() {
    let mut fabric = Fabric::mesh(2, 5, &[RED, BLUE]);
    let mut pods = Vec::new();
    for vni in [RED, BLUE] {
        for _ in 0..3 {
            pods.extend(stations(&mut fabric, vni).into_iter().map(|p| (vni, p)));
        }
    }
    for (vni, pod) in &pods {
        let hello = broadcast(&fabric, *pod);
        let flight = fabric.send(*pod, hello);
        fabric.settle();
        let flight = fabric.flight(flight).unwrap();
        // One datagram for each node, however many ports it has.
        assert!(flight.sent().len() == 4 && flight.sent().values().all(|n| *n == 1), "{flight:?}");
        let others = pods.iter().filter(|(v, p)| v == vni && p != pod);
        let mut expected: Vec<_> = others.map(|(_, p)| (place(&fabric, *p), 1)).collect();
        expected.sort();
        let delivered: Vec<_> = flight.delivered().iter().map(|(at, n)| (*at, *n)).collect();
        assert_eq!(delivered, expected);
    }
    assert_eq!(fabric.in_flight(), 0);
}

#[test]
fn the_same_address_in_two_vnis_is_two_stations() {
    let mut fabric = Fabric::mesh(3, 4, &[RED, BLUE]);
    let red = stations(&mut fabric, RED);
    // The same addresses, each on the node next door.
    let blue: Vec<PodId> =
        (0..4).map(|n| fabric.add_station(NodeId((n + 1) % 4), BLUE, mac(n as u32))).collect();
    for pod in red.iter().chain(&blue) {
        let hello = broadcast(&fabric, *pod);
        fabric.send(*pod, hello);
    }
    fabric.settle();
    for at in (0..4).map(NodeId) {
        for n in 0..4 {
            assert_eq!(belief(&mut fabric, at, RED, mac(n)), Some(NodeId(n as usize)));
            assert_eq!(belief(&mut fabric, at, BLUE, mac(n)), Some(NodeId((n as usize + 1) % 4)));
        }
    }
    let heard: Vec<u64> = blue.iter().map(|p| fabric.heard(*p)).collect();
    let hello = unicast(&fabric, red[0], red[3]);
    fabric.send(red[0], hello);
    fabric.settle();
    assert_eq!(blue.iter().map(|p| fabric.heard(*p)).collect::<Vec<_>>(), heard);
}

#[test]
fn a_station_that_moves_is_found_where_it_speaks() {
    let mut fabric = Fabric::mesh(4, 5, &[RED]);
    let pods = stations(&mut fabric, RED);
    for pod in &pods {
        let hello = broadcast(&fabric, *pod);
        fabric.send(*pod, hello);
    }
    fabric.settle();
    let walker = pods[0];
    for to in [3, 1, 4, 0, 2].map(NodeId) {
        fabric.detach(walker);
        fabric.attach(walker, to);
        let announce = broadcast(&fabric, walker);
        fabric.send(walker, announce);
        fabric.settle();
        for at in (0..5).map(NodeId) {
            assert_eq!(belief(&mut fabric, at, RED, mac(0)), Some(to), "{at} after the move to {to}");
        }
        for from in &pods[1..] {
            let hello = unicast(&fabric, *from, walker);
            let flight = fabric.send(*from, hello);
            fabric.settle();
            let delivered = fabric.flight(flight).unwrap().delivered().clone();
            assert_eq!(delivered.keys().collect::<Vec<_>>(), [&place(&fabric, walker)]);
        }
    }
    fabric.check();
}

#[test]
fn a_station_that_moved_in_silence_is_lost_until_its_old_place_ages_out() {
    let mut fabric = Fabric::mesh(5, 3, &[RED]);
    let pods = stations(&mut fabric, RED);
    let hello = broadcast(&fabric, pods[0]);
    fabric.send(pods[0], hello);
    fabric.settle();
    fabric.detach(pods[0]);
    fabric.attach(pods[0], NodeId(1));

    let lost = unicast(&fabric, pods[2], pods[0]);
    let heard = fabric.heard(pods[0]);
    fabric.send(pods[2], lost.clone());
    fabric.settle();
    assert_eq!(fabric.heard(pods[0]), heard);

    fabric.run_for(301 * SECOND);
    fabric.send(pods[2], lost);
    fabric.settle();
    assert_eq!(fabric.heard(pods[0]), heard + 1);
}

#[test]
fn silence_empties_the_tables_and_then_the_timers_rest() {
    let mut fabric = Fabric::mesh(6, 4, &[RED, BLUE]);
    for vni in [RED, BLUE] {
        for pod in stations(&mut fabric, vni) {
            let hello = broadcast(&fabric, pod);
            fabric.send(pod, hello);
        }
    }
    fabric.settle();
    // Not a moment early (IEEE 802.1Q-2018, 8.8.3: 300 s).
    fabric.run_for(299 * SECOND);
    for n in (0..4).map(NodeId) {
        assert_eq!((fabric.engine(n).tables().fdb().len(), fabric.engine(n).counters().aged), (8, 0));
    }
    fabric.run_for(60 * SECOND);
    for n in (0..4).map(NodeId) {
        let engine = fabric.engine(n);
        assert_eq!((engine.tables().fdb().len(), engine.counters().aged), (0, 8));
        assert_eq!(engine.next_timeout(), None);
    }
    let steps = fabric.steps();
    fabric.run_for(1000 * SECOND);
    assert!(fabric.steps() - steps <= 8, "timers went on in empty engines");
}

#[test]
fn who_speaks_does_not_age() {
    let mut fabric = Fabric::mesh(7, 2, &[RED]);
    let pods = stations(&mut fabric, RED);
    let hello = broadcast(&fabric, pods[0]);
    for n in 0..10 {
        fabric.send_later(200 * SECOND * n, pods[0], vec![hello.clone()]);
    }
    fabric.run_for(1900 * SECOND);
    for n in (0..2).map(NodeId) {
        assert_eq!(fabric.engine(n).counters().aged, 0);
        assert_eq!(belief(&mut fabric, n, RED, mac(0)), Some(NodeId(0)));
    }
}

#[test]
fn the_sides_of_a_partition_live_on_and_meet_again() {
    let mut fabric = Fabric::mesh(8, 6, &[RED]);
    let pods = stations(&mut fabric, RED);
    let (left, right) = (&pods[..3], &pods[3..]);
    fabric.partition(&[NodeId(0), NodeId(1), NodeId(2)]);
    for pod in &pods {
        let hello = broadcast(&fabric, *pod);
        let flight = fabric.send(*pod, hello);
        fabric.settle();
        let side = if left.contains(pod) { left } else { right };
        let expected: Vec<_> = side.iter().filter(|p| *p != pod).map(|p| place(&fabric, *p)).collect();
        let delivered = fabric.flight(flight).unwrap().delivered().clone();
        assert_eq!(delivered.into_keys().collect::<Vec<_>>(), expected);
    }
    assert_eq!(fabric.underlay().cut, 6 * 3);
    fabric.heal();
    for pod in &pods {
        let hello = broadcast(&fabric, *pod);
        let flight = fabric.send(*pod, hello);
        fabric.settle();
        assert_eq!(fabric.flight(flight).unwrap().delivered().len(), 5);
    }
    for at in (0..6).map(NodeId) {
        assert!((0..6).all(|n| belief(&mut fabric, at, RED, mac(n)) == Some(NodeId(n as usize))));
    }
}

#[test]
fn strangers_and_nonsense_teach_nothing() {
    let mut fabric = Fabric::mesh(9, 2, &[RED]);
    stations(&mut fabric, RED);
    let datagram = |vni: u32, inner: &[u8]| [&[8, 0, 0, 0][..], &(vni << 8).to_be_bytes(), inner].concat();
    let (known, stranger) = (node_v4(1).into(), node_v4(99).into());
    let honest = frame(MacAddr::BROADCAST, mac(77), b"hello");
    let group_source = frame(mac(1), MacAddr::BROADCAST, b"hello");
    for (source, bytes, reason) in [
        (stranger, datagram(RED.get(), &honest), DropReason::UnknownSource),
        (known, datagram(7, &honest), DropReason::UnknownVni),
        (known, datagram(RED.get(), &honest[..13]), DropReason::Truncated),
        (known, datagram(RED.get(), &group_source), DropReason::InvalidSourceMac),
        (known, datagram(RED.get(), &honest)[..7].to_vec(), DropReason::Truncated),
        (known, [&[0; 8], &honest[..]].concat(), DropReason::NoVniFlag),
        (node_v4(0).into(), datagram(RED.get(), &honest), DropReason::InvalidOuterSource),
    ] {
        let before = *fabric.engine(NodeId(0)).counters();
        let flight = fabric.inject(NodeId(0), source, bytes);
        fabric.settle();
        let after = fabric.engine(NodeId(0)).counters();
        assert_eq!(after.drops.get(reason), before.drops.get(reason) + 1, "{reason}");
        assert_eq!((after.learned, fabric.flight(flight).unwrap().delivered().len()), (0, 0), "{reason}");
    }
    fabric.inject(NodeId(0), known, datagram(RED.get(), &honest));
    fabric.settle();
    assert_eq!(fabric.engine(NodeId(0)).counters().learned, 1);
}

#[test]
fn a_frame_too_long_for_its_vtep_is_a_counted_drop_and_shorter_ones_go() {
    let mut fabric = Fabric::mesh(10, 2, &[RED]);
    let pods = stations(&mut fabric, RED);
    let vtep = fabric.vtep(NodeId(0), NodeId(1), false);
    let mut config = fabric.engine(NodeId(0)).vtep(vtep).unwrap().config;
    config.mtu = 1500;
    fabric.apply(NodeId(0), &Command::SetVtep { vtep, config }).unwrap();
    // RFC 7348, section 4.3: 50 octets of outer headers over IPv4, the Ethernet header included.
    let (longest, source) = (1500 - 20 - 8 - 8, fabric.mac_of(pods[0]));
    for (known, to) in [(false, MacAddr::BROADCAST), (false, mac(1)), (true, mac(1))] {
        if known {
            let hello = broadcast(&fabric, pods[1]);
            fabric.send(pods[1], hello);
            fabric.settle();
        }
        for (len, arrives) in [(longest, 1), (longest + 1, 0)] {
            let (heard, dropped) = (fabric.heard(pods[1]), drops(&fabric, DropReason::MtuExceeded));
            fabric.send(pods[0], frame(to, source, &vec![0; len - 14]));
            fabric.settle();
            assert_eq!(fabric.heard(pods[1]) - heard, arrives, "{len} octets to {to}, known: {known}");
            assert_eq!(drops(&fabric, DropReason::MtuExceeded) - dropped, 1 - arrives);
        }
    }
    // The VTEP's MTU is the link's: nothing was lost on the way.
    assert_eq!(fabric.underlay().too_big, 0);
}

fn drops(fabric: &Fabric, reason: DropReason) -> u64 {
    fabric.engine(NodeId(0)).counters().drops.get(reason)
}

#[test]
fn a_full_fdb_floods_and_goes_on() {
    let mut fabric = Fabric::new(11);
    let capacity = Capacity { macs: 16, ..Capacity::default() };
    for n in 0..3 {
        fabric.add_node_with(EngineConfig::new(node_v4(n).into(), Seed::fixed(n as u64)), &capacity);
    }
    let nodes = [0, 1, 2].map(NodeId);
    fabric.join(RED, VniConfig::default(), &nodes, false);
    let pods = stations(&mut fabric, RED);
    for n in 100..600 {
        fabric.send(pods[0], frame(MacAddr::BROADCAST, mac(n), b"one of many"));
    }
    fabric.settle();
    for node in nodes {
        let engine = fabric.engine(node);
        assert!(engine.tables().fdb().len() <= engine.tables().fdb().capacity());
        assert!(engine.counters().evicted > 0, "{:?}", engine.counters());
    }
    fabric.check();
    let (heard, hello) = (fabric.heard(pods[1]), unicast(&fabric, pods[2], pods[1]));
    fabric.send(pods[2], hello);
    fabric.settle();
    assert_eq!(fabric.heard(pods[1]), heard + 1);
}
