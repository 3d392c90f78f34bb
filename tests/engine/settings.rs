//! Each setting does what it says, and a change of it shows in the next packet.

use std::net::IpAddr;

use overlane::addr::{Destination, NextHop, PortId};
use overlane::engine::*;
use overlane::error::DropReason;
use overlane::table::fdb::EntryKind;
use overlane::table::port::PortConfig;
use overlane::table::vni::VniConfig;
use overlane::table::vtep::VtepConfig;
use overlane::wire::outer::Shape;
use overlane::wire::vxlan::GroupPolicy;

use crate::every_memory;
use crate::world::*;

const A6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
const B6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));

fn at_the_peer<M: Memory>(a: &mut Node<M>, n: u8) {
    let at = Destination::Vtep(a.peers[0].1);
    a.engine.apply(T0, &Command::AddMac { vni: VNI, mac: mac(n), at, kind: EntryKind::Static }).unwrap();
}

/// A frame from a port, with settings of its own.
fn decide<M: Memory>(
    a: &mut Node<M>,
    inner: &[u8],
    with: fn(Frame<'_>) -> Frame<'_>,
) -> (Verdict, Vec<u8>, usize) {
    let mut buffer = [vec![0; HEADROOM], inner.to_vec()].concat();
    let end = buffer.len();
    let mut frames = [with(Frame::new(&mut buffer, HEADROOM..end).unwrap())];
    a.engine.encap(T0, a.port, &mut frames).unwrap();
    let copies = a.engine.replicas(&frames[0]).count();
    (frames[0].verdict().unwrap(), frames[0].bytes().to_vec(), copies)
}

every_memory! {
    fn outer_headers_are_written_as_set<M>() {
        for (local, remote) in [(A, B), (A6, B6)] {
            let settings = EngineConfig {
                shape: Shape::Ip, ttl: 33, dscp: 46, dont_fragment: false, source_ports: (1000, 1000), ..config(local)
            };
            let mut a = Node::<M>::with(settings, local, VniConfig::default(), &[]);
            a.add_peer(VtepConfig::new(remote, 8472), true);
            at_the_peer(&mut a, 2);
            let unicast = a.send(T0, &ether(mac(2), mac(1), b"")).1;
            let copy = a.flood(T0, a.port, &ether(ALL, mac(1), b"")).1.remove(0).1;
            for packet in [unicast, copy] {
                let udp = if local.is_ipv4() {
                    assert_eq!((packet[1] >> 2, packet[6] & 0x40, packet[8]), (46, 0, 33));
                    &packet[20..]
                } else {
                    assert_eq!(((packet[0] & 15) << 2 | packet[1] >> 6, packet[7]), (46, 33));
                    &packet[40..]
                };
                assert_eq!(udp[..4], [1000u16.to_be_bytes(), 8472u16.to_be_bytes()].concat());
            }
        }
    }

    fn outer_headers_are_read_as_set<M>() {
        let verdict = |settings: EngineConfig, peer: IpAddr, packet: &[u8]| {
            let mut b = Node::<M>::with(settings, B, VniConfig::default(), &[peer]);
            b.receive(T0, peer, packet).0
        };
        let from = |local: IpAddr, remote: IpAddr, port: u16| {
            let settings = EngineConfig { shape: Shape::Ip, checksum_v6: Default::default(), ..config(local) };
            let mut a = Node::<M>::with(settings, local, VniConfig::default(), &[]);
            a.add_peer(VtepConfig::new(remote, port), true);
            a.flood(T0, a.port, &ether(ALL, mac(1), b"")).1.remove(0).1
        };
        let (drop, taken) = (Verdict::Drop, Verdict::Flood(VNI));
        let v4 = EngineConfig { shape: Shape::Ip, ..config(B) };
        // The tunnel's UDP port.
        for (port, here, expected) in [
            (4789, 4789, taken),
            (8472, 8472, taken),
            (4789, 8472, drop(DropReason::NotTunnelPort)),
            (8472, 4789, drop(DropReason::NotTunnelPort)),
        ] {
            assert_eq!(verdict(EngineConfig { port: here, ..v4 }, A, &from(A, B, port)), expected, "{port} at {here}");
        }
        // A UDP checksum that is there and wrong.
        let mut wrong = from(A, B, 4789);
        wrong[26] = 1;
        assert_eq!(verdict(v4, A, &wrong), drop(DropReason::BadChecksum));
        assert_eq!(verdict(EngineConfig { verify_checksum: false, ..v4 }, A, &wrong), taken);
        // RFC 6935, section 5: none over IPv6.
        let v6 = EngineConfig { shape: Shape::Ip, ..config(B6) };
        let none = from(A6, B6, 4789);
        assert_eq!(verdict(v6, A6, &none), drop(DropReason::ZeroChecksum));
        assert_eq!(verdict(EngineConfig { allow_zero_checksum_v6: true, ..v6 }, A6, &none), taken);
    }

    // IEEE 802.3, 4.2.3.3 pads to 60 octets; the UDP length says where the inner frame ends.
    fn padding_behind_the_datagram_is_no_part_of_the_frame<M>() {
        for (shape, local, remote) in [(Shape::Ip, A, B), (Shape::Ethernet, A, B), (Shape::Ethernet, A6, B6)] {
            let node = |local: IpAddr, own: u8, remote: IpAddr, next: u8| {
                let settings =
                    EngineConfig { shape, local_mac: mac(own), allow_zero_checksum_v6: true, ..config(local) };
                let mut n = Node::<M>::with(settings, local, VniConfig::default(), &[]);
                n.add_peer(VtepConfig { underlay_mac: mac(next), ..VtepConfig::new(remote, 4789) }, true);
                n
            };
            let (mut a, mut b) = (node(local, 0xe1, remote, 0xe2), node(remote, 0xe2, local, 0xe1));
            let inner = ether(ALL, mac(1), b"x");
            let mut packet = a.flood(T0, a.port, &inner).1.remove(0).1;
            packet.extend_from_slice(&[0xaa; 46]);
            assert_eq!(b.receive(T0, local, &packet), (Verdict::Flood(VNI), inner));
            // The whole of the packet, but not all that the UDP length speaks of.
            packet.truncate(packet.len() - 47);
            assert_eq!(b.receive(T0, local, &packet).0, Verdict::Drop(DropReason::Truncated));
        }
    }

    fn a_vtep_that_is_set_anew_is_sent_to_anew<M>() {
        let settings = EngineConfig { shape: Shape::Ethernet, local_mac: mac(0xe1), ..config(A) };
        let mut a = Node::<M>::with(settings, A, VniConfig::default(), &[]);
        let vtep = a.add_peer(VtepConfig { underlay_mac: mac(0xe2), ..VtepConfig::new(B, 4789) }, true);
        at_the_peer(&mut a, 2);
        let config = VtepConfig { underlay_mac: mac(0xe3), ..VtepConfig::new(C, 8472) };
        a.engine.apply(T0, &Command::SetVtep { vtep, config }).unwrap();
        let (verdict, packet) = a.send(T0, &ether(mac(2), mac(1), b""));
        assert_eq!(verdict, Verdict::ToUnderlay(vtep));
        assert_eq!((&packet[..6], &packet[30..34], &packet[36..38]), (&mac(0xe3).0[..], &[192, 0, 2, 3][..], &8472u16.to_be_bytes()[..]));
    }

    fn a_vni_set_anew_in_its_mode_keeps_what_it_has<M>() {
        let mut a = Node::<M>::with(config(A), A, VniConfig::routed(mac(0xa0)), &[]);
        let prefix = "10.0.0.0/8".parse().unwrap();
        a.engine.apply(T0, &Command::AddRoute { vni: VNI, prefix, next_hop: NextHop::Blackhole }).unwrap();
        a.engine.apply(T0, &Command::SetVni { vni: VNI, config: VniConfig::routed(mac(0xa1)) }).unwrap();
        let packet = udp(mac(0xa1), mac(1), [10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 64, b"");
        assert_eq!(a.send(T0, &packet).0, Verdict::Drop(DropReason::Blackhole));

        let mut b = Node::<M>::new(B, &[A]);
        at_the_peer(&mut b, 2);
        let quiet = VniConfig { learning: false, ..VniConfig::default() };
        b.engine.apply(T0, &Command::SetVni { vni: VNI, config: quiet }).unwrap();
        assert_eq!(b.send(T0, &ether(mac(2), mac(1), b"")).0, Verdict::ToUnderlay(b.vtep(A)));
    }

    fn limits_hold_from_the_start<M>() {
        let mut a = Node::<M>::new(A, &[]);
        let vtep = a.add_peer(VtepConfig { learn_limit: 2, ..VtepConfig::new(B, 4789) }, true);
        let limited = PortConfig { learn_limit: 3, ..PortConfig::new(VNI) };
        let port = a.engine.apply(T0, &Command::AddPort(limited)).unwrap().port().unwrap();
        for n in 1..=9 {
            a.receive(T0, B, &vxlan(42, &ether(ALL, mac(n), b"")));
            a.send_on(T0, port, &ether(ALL, mac(0x10 + n), b""));
        }
        let learned = |at| a.engine.tables().fdb().learned_by(at);
        assert_eq!((learned(Destination::Vtep(vtep)), learned(Destination::Port(port))), (2, 3));
        assert_eq!(a.engine.counters().not_learned, 7 + 6);
    }

    fn a_frames_own_group_goes_before_its_vnis<M>() {
        let tagged = VniConfig { group_policy: Some(7), ..VniConfig::default() };
        let mut a = Node::<M>::with(config(A), A, tagged, &[B]);
        at_the_peer(&mut a, 2);
        let inner = ether(mac(2), mac(1), b"");
        assert_eq!(decide(&mut a, &inner, |f| f).1[..4], [0x88, 0, 0, 7]);
        let (_, packet, _) =
            decide(&mut a, &inner, |f| f.with_group(GroupPolicy { id: 9, dont_learn: true, applied: true }));
        assert_eq!(packet[..4], [0x88, 0x48, 0, 9]);
    }

    // A superframe is judged by its segments; what cannot be said in 16 bits has no copy.
    fn copies_of_superframes_and_of_what_no_length_field_can_say<M>() {
        let mut a = Node::<M>::new(A, &[]);
        a.add_peer(VtepConfig { mtu: 1500, ..VtepConfig::new(B, 4789) }, true);
        let long = ether(ALL, mac(1), &[0; 9000]);
        assert_eq!(decide(&mut a, &long, |f| f), (Verdict::Flood(VNI), long.clone(), 0));
        assert_eq!(decide(&mut a, &long, |f| f.with_segment_len(1464)).2, 1);
        assert_eq!(decide(&mut a, &long, |f| f.with_segment_len(1465)).2, 0);
        // One that is shorter than its segments is one segment.
        let short = ether(ALL, mac(1), &[7; 100]);
        assert_eq!(decide(&mut a, &short, |f| f.with_segment_len(9000)).2, 1);
        let reason = |a: &Node<M>, r| a.engine.vtep_counters(a.peers[0].1).unwrap().drops.get(r);
        assert_eq!(reason(&a, DropReason::MtuExceeded), 2);
        let huge = ether(ALL, mac(1), &vec![0; 65_535 - 36 - 13]);
        assert_eq!(decide(&mut a, &huge, |f| f.with_segment_len(1000)).2, 0);
        assert_eq!(reason(&a, DropReason::TooLong), 1);
        let fits = ether(ALL, mac(1), &vec![0; 65_535 - 36 - 14]);
        assert_eq!(decide(&mut a, &fits, |f| f.with_segment_len(1000)).2, 1);
    }

    // RFC 6040, section 4.1, behind a router as behind a bridge.
    fn a_routed_packet_takes_its_ecn_field_outside<M>() {
        let settings = EngineConfig { shape: Shape::Ip, ..config(A) };
        let mut a = Node::<M>::with(settings, A, VniConfig::routed(mac(0xa0)), &[]);
        let vtep = a.add_peer(VtepConfig { inner_mac: Some(mac(0xb0)), ..VtepConfig::new(B, 4789) }, false);
        let prefix = "10.2.0.0/16".parse().unwrap();
        a.engine.apply(T0, &Command::AddRoute { vni: VNI, prefix, next_hop: NextHop::Vtep(vtep) }).unwrap();
        for tos in 0..4 {
            let packet = ipv4([10, 1, 0, 1].into(), [10, 2, 0, 1].into(), 64, tos, b"12345678");
            let (verdict, sent) = a.send(T0, &frame(mac(0xa0), mac(1), 0x0800, &packet));
            assert_eq!((verdict, sent[1] & 3), (Verdict::ToUnderlay(vtep), tos));
        }
    }

    fn a_route_that_is_replaced_lets_go_of_where_it_led<M>() {
        let mut a = Node::<M>::with(config(A), A, VniConfig::routed(mac(0xa0)), &[]);
        let vtep = a.add_peer(VtepConfig { inner_mac: Some(mac(0xb0)), ..VtepConfig::new(B, 4789) }, false);
        let prefix = "10.2.0.0/16".parse().unwrap();
        for next_hop in [NextHop::Vtep(vtep), NextHop::Vtep(vtep), NextHop::Port(a.port), NextHop::Direct] {
            a.engine.apply(T0, &Command::AddRoute { vni: VNI, prefix, next_hop }).unwrap();
            let t = a.engine.tables();
            let held = (t.vteps().get(vtep).unwrap().routes, t.ports().get(a.port).unwrap().routes);
            let expected = (u32::from(next_hop == NextHop::Vtep(vtep)), u32::from(next_hop == NextHop::Port(a.port)));
            assert_eq!(held, expected, "{next_hop}");
        }
        a.engine.apply(T0, &Command::RemoveVtep { vtep }).unwrap();
        a.engine.apply(T0, &Command::RemovePort { port: a.port }).unwrap();
    }

    fn whoever_gets_an_id_anew_starts_from_zero<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        a.send(T0, &ether(ALL, mac(1), b""));
        assert_eq!(a.engine.port_counters(a.port).unwrap().traffic.rx_frames, 1);
        assert_eq!(a.engine.vni_counters(VNI).unwrap().traffic.tx_frames, 1);
        a.engine.apply(T0, &Command::RemovePort { port: a.port }).unwrap();
        a.engine.apply(T0, &Command::RemoveVni { vni: VNI }).unwrap();
        a.engine.apply(T0, &Command::AddVni { vni: VNI, config: VniConfig::default() }).unwrap();
        assert_eq!(a.add_port(), a.port);
        assert_eq!(a.engine.port_counters(a.port), Some(&ScopeCounters::default()));
        assert_eq!(a.engine.vni_counters(VNI), Some(&ScopeCounters::default()));
    }

    fn a_flood_and_a_backends_drop_are_counted_in_every_scope<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        let second = a.add_port();
        let inner = ether(ALL, mac(1), b"12345");
        a.send(T0, &inner);
        a.receive(T0, B, &vxlan(42, &inner));
        let traffic = |a: &Node<M>, port: PortId| a.engine.port_counters(port).unwrap().traffic;
        let octets = inner.len() as u64;
        let (one, both) = ((1, octets), (2, 2 * octets));
        for (port, rx, tx) in [(a.port, one, one), (second, (0, 0), both)] {
            let t = traffic(&a, port);
            assert_eq!(((t.rx_frames, t.rx_octets), (t.tx_frames, t.tx_octets)), (rx, tx), "{port}");
        }
        let (reason, vtep) = (DropReason::TxQueueFull, a.vtep(B));
        a.engine.count_drop(reason, Some(VNI), Some(vtep), Some(second));
        let e = &a.engine;
        let counted = [e.vni_counters(VNI), e.vtep_counters(vtep), e.port_counters(second), e.port_counters(a.port)];
        assert_eq!(counted.map(|c| c.unwrap().drops.get(reason)), [1, 1, 1, 0]);
        assert_eq!(e.counters().drops.get(reason), 1);
    }
}

/// What lent memory holds does not matter: neither what tables were there nor what was counted and told.
#[test]
fn memory_that_was_used_before_makes_a_new_engine() {
    let (mut p, mut c) =
        (Parts::<Heap>::with_capacity(&CAPACITY), ContextParts::<Heap>::with_capacity(&CAPACITY));
    let fresh = snapshot(&Heap::engine(config(A)));
    for _ in 0..2 {
        let parts = Parts::<Borrowed<'_>> {
            vni_index: &mut p.vni_index,
            vnis: &mut p.vnis,
            vtep_index: &mut p.vtep_index,
            vteps: &mut p.vteps,
            templates: &mut p.templates,
            ports: &mut p.ports,
            flood_heads: &mut p.flood_heads,
            flood_nodes: &mut p.flood_nodes,
            fdb_tags: &mut p.fdb_tags,
            fdb_slots: &mut p.fdb_slots,
            port_quotas: &mut p.port_quotas,
            vtep_quotas: &mut p.vtep_quotas,
            cells_v4: &mut p.cells_v4,
            roots_v4: &mut p.roots_v4,
            cells_v6: &mut p.cells_v6,
            roots_v6: &mut p.roots_v6,
        };
        let context = ContextParts::<Borrowed<'_>> {
            vni_counters: &mut c.vni_counters,
            vtep_counters: &mut c.vtep_counters,
            port_counters: &mut c.port_counters,
            events: &mut c.events,
        };
        let mut engine = Engine::new(config(A), parts, context).unwrap();
        assert_eq!((snapshot(&engine), engine.poll_event()), (fresh.clone(), None));
        engine.apply(T0, &Command::AddVni { vni: VNI, config: VniConfig::default() }).unwrap();
        let limited = PortConfig { learn_limit: 1, ..PortConfig::new(VNI) };
        let port = engine.apply(T0, &Command::AddPort(limited)).unwrap().port().unwrap();
        let vtep = engine.apply(T0, &Command::AddVtep(VtepConfig::new(B, 4789))).unwrap().vtep().unwrap();
        engine.apply(T0, &Command::AddFlood { vni: VNI, vtep }).unwrap();
        let mut buffer = [vec![0; HEADROOM], ether(ALL, mac(1), b"")].concat();
        let end = buffer.len();
        let mut frames = [Frame::new(&mut buffer, HEADROOM..end).unwrap()];
        engine.encap(T0, port, &mut frames).unwrap();
        let sent = |c: Option<&ScopeCounters>| c.map(|c| (c.traffic.tx_frames, c.traffic.rx_frames));
        assert_eq!(sent(engine.vni_counters(VNI)), Some((1, 0)));
        assert_eq!(sent(engine.vtep_counters(vtep)), Some((1, 0)));
        assert_eq!(sent(engine.port_counters(port)), Some((0, 1)));
    }
}
