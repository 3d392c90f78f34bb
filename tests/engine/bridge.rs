//! Bridged VNIs: flood and learn.

use overlane::addr::{Destination, MacAddr};
use overlane::engine::*;
use overlane::error::DropReason;
use overlane::table::fdb::EntryKind;
use overlane::table::port::PortConfig;
use overlane::table::vni::VniConfig;
use overlane::table::vtep::VtepConfig;

use crate::every_memory;
use crate::world::*;

every_memory! {
    // RFC 7348, section 4.1: an unknown destination is flooded, the answer is learned, the rest is unicast.
    fn two_nodes_learn_each_other<M>() {
        let (mut a, mut b) = (Node::<M>::new(A, &[B]), Node::<M>::new(B, &[A]));
        let request = ether(ALL, mac(1), b"who has");
        let (ports, datagrams) = a.flood(T0, a.port, &request);
        assert_eq!(ports, []);
        assert_eq!(datagrams, [(a.vtep(B), vxlan(42, &request))]);

        let (verdict, inner) = b.receive(T0, A, &datagrams[0].1);
        assert_eq!((verdict, &inner), (Verdict::Flood(VNI), &request));
        assert_eq!(b.events(), [Event::Learned { vni: VNI, mac: mac(1), at: Destination::Vtep(b.vtep(A)) }]);

        let reply = ether(mac(1), mac(2), b"is at");
        let (verdict, datagram) = b.send(T0, &reply);
        assert_eq!(verdict, Verdict::ToUnderlay(b.vtep(A)));
        assert_eq!(datagram, vxlan(42, &reply));

        let (verdict, inner) = a.receive(T0, B, &datagram);
        assert_eq!((verdict, &inner), (Verdict::ToPort(a.port), &reply));
        let (verdict, _) = a.send(T0, &ether(mac(2), mac(1), b"data"));
        assert_eq!(verdict, Verdict::ToUnderlay(a.vtep(B)));
    }

    fn frames_between_two_local_ports_never_leave<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        let second = a.add_port();
        let (ports, datagrams) = a.flood(T0, a.port, &ether(ALL, mac(1), b""));
        assert_eq!((ports, datagrams.len()), (vec![second], 1));
        let (verdict, bytes) = a.send_on(T0, second, &ether(mac(1), mac(2), b"x"));
        assert_eq!((verdict, bytes), (Verdict::ToPort(a.port), ether(mac(1), mac(2), b"x")));
        // Back out of the port it came from: a bridge does not (IEEE 802.1Q-2018, 8.6.1).
        assert_eq!(a.send(T0, &ether(mac(1), mac(3), b"x")).0, Verdict::Drop(DropReason::SamePort));
    }

    fn a_frame_from_a_tunnel_never_goes_to_a_tunnel<M>() {
        let mut a = Node::<M>::new(A, &[B, C]);
        a.receive(T0, C, &vxlan(42, &ether(ALL, mac(3), b"")));
        // Known behind C, asked for by B.
        let (verdict, bytes) = a.receive(T0, B, &vxlan(42, &ether(mac(3), mac(2), b"")));
        assert_eq!(verdict, Verdict::Drop(DropReason::SplitHorizon));
        assert_eq!(bytes, vxlan(42, &ether(mac(3), mac(2), b"")), "a dropped packet is as it was");
        // A flood from the tunnel has copies for ports only.
        let mut datagram = vxlan(42, &ether(ALL, mac(2), b""));
        let end = datagram.len();
        let mut frames = [Frame::new(&mut datagram, 0..end).unwrap().with_source(B)];
        a.engine.decap(T0, &mut frames);
        let copies: Vec<_> = a.engine.replicas(&frames[0]).collect();
        assert_eq!(copies, [Replica::Port(a.port)]);
    }

    fn nobody_to_flood_to_is_a_counted_drop<M>() {
        let mut a = Node::<M>::new(A, &[]);
        assert_eq!(a.send(T0, &ether(ALL, mac(1), b"")).0, Verdict::Drop(DropReason::NoFloodTarget));
        assert_eq!(a.engine.counters().drops.get(DropReason::NoFloodTarget), 1);
        let vni = a.engine.vni_counters(VNI).unwrap();
        assert_eq!((vni.drops.get(DropReason::NoFloodTarget), vni.drops.total()), (1, 1));
    }

    fn source_addresses_that_no_station_has_are_refused<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        for bad in [MacAddr::ZERO, ALL, MacAddr([1, 0, 0x5e, 0, 0, 1])] {
            let drop = Verdict::Drop(DropReason::InvalidSourceMac);
            assert_eq!(a.send(T0, &ether(mac(9), bad, b"")).0, drop);
            assert_eq!(a.receive(T0, B, &vxlan(42, &ether(mac(9), bad, b""))).0, drop);
        }
        assert_eq!(a.engine.tables().fdb().len(), 0);
        assert!(a.events().is_empty());
    }

    fn a_station_that_moves_is_followed_unless_pinned<M>() {
        let mut a = Node::<M>::new(A, &[B, C]);
        a.receive(T0, B, &vxlan(42, &ether(ALL, mac(2), b"")));
        a.receive(T0, C, &vxlan(42, &ether(ALL, mac(2), b"")));
        let (b, c) = (Destination::Vtep(a.vtep(B)), Destination::Vtep(a.vtep(C)));
        assert!(a.events().contains(&Event::Moved { vni: VNI, mac: mac(2), from: b, to: c }));
        assert_eq!(a.send(T0, &ether(mac(2), mac(1), b"")).0, Verdict::ToUnderlay(a.vtep(C)));

        for kind in [EntryKind::Static, EntryKind::Sticky] {
            a.engine.apply(T0, &Command::AddMac { vni: VNI, mac: mac(2), at: b, kind }).unwrap();
            let (verdict, _) = a.receive(T0, C, &vxlan(42, &ether(ALL, mac(2), b"")));
            assert_eq!(verdict, Verdict::Drop(DropReason::MacPinned), "{kind:?}");
            assert_eq!(a.send(T0, &ether(mac(2), mac(1), b"")).0, Verdict::ToUnderlay(a.vtep(B)));
        }
        assert_eq!(a.engine.vtep_counters(a.vtep(C)).unwrap().drops.get(DropReason::MacPinned), 2);
    }

    fn a_station_that_moves_to_another_port_is_followed_unless_pinned<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        let (first, second, to_peer) = (a.port, a.add_port(), Verdict::ToUnderlay(a.vtep(B)));
        let (out, back) = (ether(mac(2), mac(1), b""), vxlan(42, &ether(mac(1), mac(2), b"")));
        a.receive(T0, B, &vxlan(42, &ether(ALL, mac(2), b"")));
        for port in [first, second, first] {
            assert_eq!(a.send_on(T0, port, &out).0, to_peer);
            assert_eq!(a.receive(T0, B, &back).0, Verdict::ToPort(port));
        }
        for kind in [EntryKind::Static, EntryKind::Sticky] {
            let at = Destination::Port(first);
            a.engine.apply(T0, &Command::AddMac { vni: VNI, mac: mac(1), at, kind }).unwrap();
            assert_eq!(a.send_on(T0, second, &out).0, Verdict::Drop(DropReason::MacPinned), "{kind:?}");
            assert_eq!(a.receive(T0, B, &back).0, Verdict::ToPort(first));
        }
    }

    fn settings_of_the_vni_turn_learning_and_flooding_off<M>() {
        let quiet = VniConfig { learning: false, flood_unknown: false, notify_miss: true, ..VniConfig::default() };
        let mut a = Node::<M>::with(config(A), A, quiet, &[B]);
        assert_eq!(a.send(T0, &ether(mac(2), mac(1), b"")).0, Verdict::Drop(DropReason::UnknownMac));
        assert_eq!(a.events(), [Event::UnknownMac { vni: VNI, mac: mac(2) }]);
        a.receive(T0, B, &vxlan(42, &ether(ALL, mac(2), b"")));
        assert_eq!(a.engine.tables().fdb().len(), 0);
        // Broadcast is still carried: it is not unknown unicast.
        assert_eq!(a.send(T0, &ether(ALL, mac(1), b"")).0, Verdict::Flood(VNI));
    }

    fn a_port_may_be_told_not_to_learn_or_how_much<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        let silent = PortConfig { learning: false, ..PortConfig::new(VNI) };
        a.engine.apply(T0, &Command::SetPort { port: a.port, config: silent }).unwrap();
        a.send(T0, &ether(ALL, mac(1), b""));
        assert_eq!(a.engine.tables().fdb().len(), 0);

        let limited = PortConfig { learn_limit: 2, ..PortConfig::new(VNI) };
        a.engine.apply(T0, &Command::SetPort { port: a.port, config: limited }).unwrap();
        for n in 1..=5 {
            // Traffic goes on when the limit is reached.
            assert_eq!(a.send(T0, &ether(ALL, mac(n), b"")).0, Verdict::Flood(VNI));
        }
        assert_eq!(a.engine.tables().fdb().len(), 2);
        assert_eq!(a.engine.counters().not_learned, 3);
        let at = Destination::Port(a.port);
        assert!(a.events().contains(&Event::QuotaHit { vni: VNI, mac: mac(5), at }));

        let vtep = VtepConfig { learn_limit: 1, ..VtepConfig::new(B, 4789) };
        a.engine.apply(T0, &Command::SetVtep { vtep: a.vtep(B), config: vtep }).unwrap();
        for n in 11..=13 {
            assert_eq!(a.receive(T0, B, &vxlan(42, &ether(ALL, mac(n), b""))).0, Verdict::Flood(VNI));
        }
        assert_eq!(a.engine.tables().fdb().len(), 3);
    }

    fn a_mac_is_known_in_its_own_vni_only<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        let other = overlane::addr::Vni::MAX;
        a.engine.apply(T0, &Command::AddVni { vni: other, config: VniConfig::default() }).unwrap();
        let port = a.engine.apply(T0, &Command::AddPort(PortConfig::new(other))).unwrap().port().unwrap();
        a.receive(T0, B, &vxlan(42, &ether(ALL, mac(2), b"")));
        assert_eq!(a.send(T0, &ether(mac(2), mac(1), b"")).0, Verdict::ToUnderlay(a.vtep(B)));
        assert_eq!(a.send_on(T0, port, &ether(mac(2), mac(1), b"")).0, Verdict::Drop(DropReason::NoFloodTarget));
        // A VNI without ports here: accepted from nobody's point of view but delivered to nobody.
        assert_eq!(a.receive(T0, B, &vxlan(0xff_ffff, &ether(ALL, mac(2), b""))).0, Verdict::Flood(other));
    }

    fn an_mtu_drops_what_would_not_fit_and_counts_it<M>() {
        let mut a = Node::<M>::new(A, &[]);
        let vtep = a.add_peer(VtepConfig { mtu: 1500, ..VtepConfig::new(B, 4789) }, true);
        let at = Destination::Vtep(vtep);
        a.engine.apply(T0, &Command::AddMac { vni: VNI, mac: mac(2), at, kind: EntryKind::Static }).unwrap();
        // 1500 = IPv4 20 + UDP 8 + VXLAN 8 + Ethernet 14 + 1450.
        let fits = ether(mac(2), mac(1), &[0; 1450]);
        assert_eq!(a.send(T0, &fits).0, Verdict::ToUnderlay(vtep));
        let long = ether(mac(2), mac(1), &[0; 1451]);
        assert_eq!(a.send(T0, &long), (Verdict::Drop(DropReason::MtuExceeded), long.clone()));
        assert_eq!(a.engine.vtep_counters(vtep).unwrap().drops.get(DropReason::MtuExceeded), 1);
        // A superframe is measured by its segments.
        let mut buffer = vec![0; HEADROOM];
        buffer.extend_from_slice(&ether(mac(2), mac(1), &[0; 20_000]));
        let end = buffer.len();
        let mut frames = [Frame::new(&mut buffer, HEADROOM..end).unwrap().with_segment_len(1464)];
        a.engine.encap(T0, a.port, &mut frames).unwrap();
        assert_eq!(frames[0].verdict(), Some(Verdict::ToUnderlay(vtep)));
        // A flooded frame that is too long for one member is not sent to that one.
        let (_, copies) = a.flood(T0, a.port, &ether(ALL, mac(1), &[0; 1451]));
        assert!(copies.is_empty());
        assert_eq!(a.engine.vtep_counters(vtep).unwrap().drops.get(DropReason::MtuExceeded), 2);
    }

    fn too_little_headroom_is_a_counted_drop_and_the_frame_is_as_it_was<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        a.receive(T0, B, &vxlan(42, &ether(ALL, mac(2), b"")));
        let inner = ether(mac(2), mac(1), b"x");
        let mut buffer = [vec![0; 7], inner.clone()].concat();
        let end = buffer.len();
        let mut frames = [Frame::new(&mut buffer, 7..end).unwrap()];
        a.engine.encap(T0, a.port, &mut frames).unwrap();
        assert_eq!(frames[0].verdict(), Some(Verdict::Drop(DropReason::NoHeadroom)));
        assert_eq!(frames[0].bytes(), inner);
    }

    fn counters_add_up<M>() {
        let (mut a, mut b) = (Node::<M>::new(A, &[B]), Node::<M>::new(B, &[A]));
        let (_, copies) = a.flood(T0, a.port, &ether(ALL, mac(1), b"12345"));
        b.receive(T0, A, &copies[0].1);
        let (_, datagram) = b.send(T0, &ether(mac(1), mac(2), b"123456"));
        a.receive(T0, B, &datagram);
        let c = a.engine.counters();
        assert_eq!((c.encap_frames, c.decap_frames, c.flooded, c.to_port, c.drops.total()), (1, 1, 1, 1, 0));
        assert_eq!(c.learned, 2);
        let expected = Traffic { rx_frames: 1, rx_octets: 20, tx_frames: 1, tx_octets: 19 };
        assert_eq!(a.engine.vni_counters(VNI).unwrap().traffic, expected);
        assert_eq!(a.engine.vtep_counters(a.vtep(B)).unwrap().traffic, expected);
        let port = Traffic { rx_frames: 1, rx_octets: 19, tx_frames: 1, tx_octets: 20 };
        assert_eq!(a.engine.port_counters(a.port).unwrap().traffic, port);
        let c = b.engine.counters();
        assert_eq!((c.to_underlay, c.flooded), (1, 1));
    }

    // Stations that know each other are carried by a shorter way, which counts the same.
    fn what_known_stations_exchange_is_counted<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        a.send(T0, &ether(ALL, mac(1), b""));
        a.receive(T0, B, &vxlan(42, &ether(ALL, mac(2), b"")));
        for _ in 0..3 {
            a.send(T0, &ether(mac(2), mac(1), b"12345"));
        }
        for _ in 0..4 {
            a.receive(T0, B, &vxlan(42, &ether(mac(1), mac(2), b"123456")));
        }
        let c = a.engine.counters();
        assert_eq!((c.encap_frames, c.to_underlay, c.decap_frames, c.to_port, c.flooded), (4, 3, 5, 4, 2));
        let (sent, came) = (14 + 3 * 19, 14 + 4 * 20);
        let tunnel = Traffic { rx_frames: 5, rx_octets: came, tx_frames: 4, tx_octets: sent };
        assert_eq!(a.engine.vni_counters(VNI).unwrap().traffic, tunnel);
        assert_eq!(a.engine.vtep_counters(a.vtep(B)).unwrap().traffic, tunnel);
        let port = Traffic { rx_frames: 4, rx_octets: sent, tx_frames: 5, tx_octets: came };
        assert_eq!(a.engine.port_counters(a.port).unwrap().traffic, port);
    }

    fn a_batch_longer_than_one_chunk_is_decided_whole<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        let mut buffers: Vec<Vec<u8>> = (0..3 * BATCH)
            .map(|i| vxlan(42, &ether(ALL, mac(1 + (i % 50) as u8), b"")))
            .collect();
        let mut frames: Vec<_> = buffers
            .iter_mut()
            .map(|b| {
                let end = b.len();
                Frame::new(b, 0..end).unwrap().with_source(B)
            })
            .collect();
        a.engine.decap(T0, &mut frames);
        assert!(frames.iter().all(|f| f.verdict() == Some(Verdict::Flood(VNI))));
        assert_eq!(a.engine.tables().fdb().len(), 50);
    }
}
