//! The three outer shapes over both families, written here and read by the peer.

use std::net::IpAddr;

use overlane::addr::{Destination, MacAddr};
use overlane::engine::*;
use overlane::error::{DropReason, VtepError};
use overlane::table::fdb::EntryKind;
use overlane::table::vni::{Accept, VniConfig};
use overlane::table::vtep::VtepConfig;
use overlane::wire::outer::Shape;
use overlane::wire::template::UdpChecksum;

use crate::every_memory;
use crate::world::*;

const A6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
const B6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));
const MAC_A: MacAddr = mac(0xe1);
const MAC_B: MacAddr = mac(0xe2);

fn shaped<M: Memory>(
    shape: Shape,
    local: IpAddr,
    own: MacAddr,
    peer: IpAddr,
    underlay_mac: MacAddr,
    checksum: UdpChecksum,
) -> Node<M> {
    let config = EngineConfig {
        shape,
        local_mac: own,
        checksum_v4: checksum,
        checksum_v6: checksum,
        allow_zero_checksum_v6: true,
        ..config(local)
    };
    let mut n = Node::<M>::with(config, local, VniConfig::default(), &[]);
    n.add_peer(VtepConfig { underlay_mac, ..VtepConfig::new(peer, 4789) }, true);
    n
}

/// A node that takes packets from anybody, over Ethernet, and the broadcast of a station behind a VTEP that it
/// does not know yet.
fn open_to_strangers<M: Memory>() -> (Node<M>, Vec<u8>) {
    let open = VniConfig { accept: Accept::AnySource, ..VniConfig::default() };
    let ethernet = EngineConfig { shape: Shape::Ethernet, local_mac: MAC_A, ..config(A) };
    let mut b = shaped::<M>(Shape::Ethernet, B, MAC_B, A, MAC_A, UdpChecksum::Zero);
    let hello = b.flood(T0, b.port, &ether(ALL, mac(2), b"")).1.remove(0).1;
    (Node::<M>::with(ethernet, A, open, &[]), hello)
}

fn pairs<M: Memory>() -> Vec<(Node<M>, Node<M>, usize)> {
    let mut pairs = Vec::new();
    for checksum in [UdpChecksum::Zero, UdpChecksum::Full] {
        for (a, b, ip) in [(A, B, 20), (A6, B6, 40)] {
            for (shape, outer) in [(Shape::Udp, 8), (Shape::Ip, ip + 16), (Shape::Ethernet, 14 + ip + 16)] {
                let left = shaped(shape, a, MAC_A, b, MAC_B, checksum);
                let right = shaped(shape, b, MAC_B, a, MAC_A, checksum);
                pairs.push((left, right, outer));
            }
        }
    }
    pairs
}

every_memory! {
    fn what_one_node_sends_the_other_reads<M>() {
        for (mut a, mut b, outer) in pairs::<M>() {
            let (from, to) = (a.addr, b.addr);
            let request = ether(ALL, mac(1), b"who has");
            let (_, copies) = a.flood(T0, a.port, &request);
            assert_eq!(copies[0].1.len(), outer + request.len());
            assert_eq!(b.receive(T0, from, &copies[0].1), (Verdict::Flood(VNI), request));
            for len in [0, 1, 46, 1400] {
                let data = udp(mac(1), mac(2), [10, 0, 0, 2].into(), [10, 0, 0, 1].into(), 64, &vec![7; len]);
                let (verdict, packet) = b.send(T0, &data);
                assert_eq!(verdict, Verdict::ToUnderlay(b.vtep(from)));
                assert_eq!(packet.len(), outer + data.len());
                assert_eq!(a.receive(T0, to, &packet), (Verdict::ToPort(a.port), data));
            }
        }
    }

    // RFC 7348, section 5: the source port comes from the inner flow, out of 49152-65535.
    fn the_source_port_is_the_flows<M>() {
        let mut a = shaped::<M>(Shape::Ip, A, MAC_A, B, MAC_B, UdpChecksum::Zero);
        let port = |a: &mut Node<M>, host: u8, payload: &[u8]| {
            let frame = udp(mac(2), mac(1), [10, 0, 0, 1].into(), [10, 0, 0, host].into(), 64, payload);
            let (_, copies) = a.flood(T0, a.port, &frame);
            u16::from_be_bytes([copies[0].1[20], copies[0].1[21]])
        };
        let first = port(&mut a, 1, b"");
        assert!(first >= 49152);
        assert_eq!(port(&mut a, 1, b"another payload"), first);
        let others: std::collections::HashSet<_> = (2..34).map(|host| port(&mut a, host, b"")).collect();
        assert!(others.len() > 24, "32 flows share {} source ports", others.len());
    }

    // RFC 6040: copied outwards; a mark from the underlay comes in, or the packet goes.
    fn congestion_marks_cross_the_tunnel<M>() {
        for (from, to) in [(A, B), (A6, B6)] {
            let mut a = shaped::<M>(Shape::Ip, from, MAC_A, to, MAC_B, UdpChecksum::Zero);
            let mut b = shaped::<M>(Shape::Ip, to, MAC_B, from, MAC_A, UdpChecksum::Zero);
            for (inner, marked) in [(0, None), (1, Some(3)), (2, Some(3)), (3, Some(3))] {
                let packet = ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 64, 0xa0 | inner, b"12345678");
                let sent = frame(mac(2), mac(1), 0x0800, &packet);
                let (_, mut copies) = a.flood(T0, a.port, &sent);
                let outer = &mut copies[0].1;
                let field = if from.is_ipv4() { outer[1] & 3 } else { outer[1] >> 4 & 3 };
                assert_eq!(field, inner, "copied to the outer header");
                // A router on the way sets CE.
                if from.is_ipv4() {
                    outer[1] |= 3;
                    outer[10..12].copy_from_slice(&[0, 0]);
                    let sum = checksum(&outer[..20]);
                    outer[10..12].copy_from_slice(&sum.to_be_bytes());
                } else {
                    outer[1] |= 0x30;
                }
                let (verdict, bytes) = b.receive(T0, from, outer);
                match marked {
                    None => assert_eq!(verdict, Verdict::Drop(DropReason::BadEcn)),
                    Some(mark) => {
                        let packet = ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 64, 0xa0 | mark, b"12345678");
                        assert_eq!((verdict, bytes), (Verdict::Flood(VNI), frame(mac(2), mac(1), 0x0800, &packet)));
                    }
                }
            }
        }
    }

    // In the UDP shape the socket hands the field over, both ways.
    fn a_socket_hands_marks_over<M>() {
        let (mut a, mut b) = (Node::<M>::new(A, &[B]), Node::<M>::new(B, &[A]));
        let inner = |tos| frame(mac(2), mac(1), 0x0800, &ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 64, tos, b""));
        let mut buffer = [vec![0; HEADROOM], inner(2)].concat();
        let end = buffer.len();
        let mut frames = [Frame::new(&mut buffer, HEADROOM..end).unwrap()];
        a.engine.encap(T0, a.port, &mut frames).unwrap();
        assert_eq!(frames[0].ecn(), 2);
        for (tos, expected) in [(2, Ok(inner(3))), (0, Err(DropReason::BadEcn))] {
            let mut datagram = vxlan(42, &inner(tos));
            let end = datagram.len();
            let mut frames = [Frame::new(&mut datagram, 0..end).unwrap().with_source(A).with_ecn(3)];
            b.engine.decap(T0, &mut frames);
            match expected {
                Ok(bytes) => assert_eq!(frames[0].bytes(), bytes),
                Err(reason) => assert_eq!(frames[0].verdict(), Some(Verdict::Drop(reason))),
            }
        }
    }

    fn what_is_not_ours_is_told_apart<M>() {
        let mut a = shaped::<M>(Shape::Ip, A, MAC_A, B, MAC_B, UdpChecksum::Full);
        let mut b = shaped::<M>(Shape::Ip, B, MAC_B, A, MAC_A, UdpChecksum::Full);
        let good = b.flood(T0, b.port, &ether(ALL, mac(2), b"payload")).1.remove(0).1;
        assert_eq!(a.receive(T0, B, &good).0, Verdict::Flood(VNI));
        type Spoil = fn(&mut Vec<u8>);
        let cases: [(Spoil, DropReason); 9] = [
            (|p| p[0] = 0x55, DropReason::BadVersion),
            (|p| p[0] = 0x44, DropReason::BadHeaderLength),
            (|p| p[6] |= 0x20, DropReason::OuterFragment),
            (|p| p[9] = 6, DropReason::OuterNotUdp),
            (|p| p[23] ^= 1, DropReason::NotTunnelPort),
            (|p| p[19] = 9, DropReason::NotOurAddress),
            (|p| p[8] ^= 1, DropReason::BadChecksum),
            (|p| *p.last_mut().unwrap() ^= 1, DropReason::BadChecksum),
            (|p| p.truncate(40), DropReason::Truncated),
        ];
        for (n, (spoil, reason)) in cases.into_iter().enumerate() {
            let mut packet = good.clone();
            spoil(&mut packet);
            if n != 6 && packet[0] == 0x45 {
                packet[10..12].copy_from_slice(&[0, 0]);
                let sum = checksum(&packet[..20]);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            // The pseudo-header holds the address, so that a changed one spoils the UDP checksum too.
            if reason == DropReason::NotOurAddress {
                packet[26..28].copy_from_slice(&[0, 0]);
            }
            assert_eq!(a.receive(T0, B, &packet), (Verdict::Drop(reason), packet.clone()), "case {n}");
        }
    }

    fn a_learned_vtep_is_answered_at_the_mac_it_sent_from<M>() {
        let open = VniConfig { accept: Accept::AnySource, ..VniConfig::default() };
        let ethernet = EngineConfig { shape: Shape::Ethernet, local_mac: MAC_A, ..config(A) };
        let mut a = Node::<M>::with(ethernet, A, open, &[]);
        let mut b = shaped::<M>(Shape::Ethernet, B, MAC_B, A, MAC_A, UdpChecksum::Zero);
        let hello = b.flood(T0, b.port, &ether(ALL, mac(2), b"")).1.remove(0).1;
        assert_eq!(a.receive(T0, B, &hello).0, Verdict::Flood(VNI));
        let (verdict, packet) = a.send(T0, &ether(mac(2), mac(1), b""));
        assert!(matches!(verdict, Verdict::ToUnderlay(_)));
        assert_eq!((&packet[..6], &packet[6..12]), (&MAC_B.0[..], &MAC_A.0[..]));
    }

    fn an_ethernet_shape_needs_the_next_hops_mac<M>() {
        let ethernet = EngineConfig { shape: Shape::Ethernet, local_mac: MAC_A, ..config(A) };
        let mut a = M::engine(ethernet);
        let refused = a.apply(T0, &Command::AddVtep(VtepConfig::new(B, 4789)));
        assert_eq!(refused, Err(VtepError::UnderlayMac(MacAddr::ZERO).into()));
    }

    fn a_packet_longer_than_a_length_field_is_dropped<M>() {
        let mut a = shaped::<M>(Shape::Ip, A, MAC_A, B, MAC_B, UdpChecksum::Zero);
        let vtep = a.vtep(B);
        a.receive(T0, B, &[]);
        let at = overlane::addr::Destination::Vtep(vtep);
        let kind = overlane::table::fdb::EntryKind::Static;
        a.engine.apply(T0, &Command::AddMac { vni: VNI, mac: mac(2), at, kind }).unwrap();
        let fits = ether(mac(2), mac(1), &vec![0; 65_535 - 36 - 14]);
        assert_eq!(a.send(T0, &fits).0, Verdict::ToUnderlay(vtep));
        let long = ether(mac(2), mac(1), &vec![0; 65_535 - 36 - 13]);
        assert_eq!(a.send(T0, &long).0, Verdict::Drop(DropReason::TooLong));
        let told = a.engine.explain_encap(T0, a.port, &long, 0).unwrap();
        assert_eq!(told.verdict(), Some(Verdict::Drop(DropReason::TooLong)));
    }


    // A mapped address means IPv4 inside a host and is never on a wire: as an outer source it would
    // get past whatever keeps forged IPv4 sources out.
    fn a_mapped_address_in_an_outer_header_is_no_vteps<M>() {
        let IpAddr::V6(own) = A6 else { unreachable!() };
        let both = EngineConfig { shape: Shape::Ip, local_v6: Some(own), allow_zero_checksum_v6: true, ..config(A) };
        let mut a = Node::<M>::with(both, A, VniConfig::default(), &[B, B6]);
        let packet = |from: IpAddr| {
            let IpAddr::V6(from) = from else { unreachable!() };
            let vxlan = vxlan(42, &ether(ALL, mac(2), b""));
            let len = (8 + vxlan.len()) as u16;
            let udp = [&[0xc0, 0, 0x12, 0xb5][..], &len.to_be_bytes(), &[0, 0], &vxlan].concat();
            ipv6(from, own, 64, &udp)
        };
        assert_eq!(a.receive(T0, B6, &packet(B6)).0, Verdict::Flood(VNI));
        let mapped = "::ffff:192.0.2.2".parse().unwrap();
        assert_eq!(a.receive(T0, mapped, &packet(mapped)).0, Verdict::Drop(DropReason::InvalidOuterSource));
    }

    // RFC 6864, section 4.2: what may be fragmented needs an identification of its own.
    fn copies_that_may_be_fragmented_have_their_own_identification<M>() {
        let fragments = EngineConfig { shape: Shape::Ip, dont_fragment: false, ..config(A) };
        let mut a = Node::<M>::with(fragments, A, VniConfig::default(), &[B, C]);
        let mut seen = std::collections::HashSet::new();
        for n in 0..20u8 {
            let mut buffer = [vec![0; HEADROOM], ether(ALL, mac(1), &[n])].concat();
            let end = buffer.len();
            let mut frames = [Frame::new(&mut buffer, HEADROOM..end).unwrap()];
            a.engine.encap(T0, a.port, &mut frames).unwrap();
            let copies: Vec<_> = a.engine.replicas(&frames[0]).collect();
            assert_eq!(copies.len(), 2);
            let Replica::Underlay { header, .. } = copies[0] else { unreachable!() };
            assert_eq!(header[6] & 0x40, 0, "DF");
            assert!(seen.insert([header[4], header[5]]), "copy {n}");
        }
        // The same from bytes alone, as a host in C asks for copies.
        let (mut first, mut second) = (ether(ALL, mac(1), b"one"), ether(ALL, mac(1), b"two"));
        let id = |bytes: &mut [u8]| {
            let len = bytes.len();
            let frame = Frame::new(bytes, 0..len).unwrap().flooded(VNI, Some(a.port));
            let Some(Replica::Underlay { header, .. }) = a.engine.replicas(&frame).next() else { unreachable!() };
            [header[4], header[5]]
        };
        assert_ne!(id(&mut first), id(&mut second));
    }

    fn packets_that_may_be_fragmented_have_their_own_identification<M>() {
        let fragments = EngineConfig { shape: Shape::Ethernet, local_mac: MAC_A, dont_fragment: false, ..config(A) };
        let mut a = Node::<M>::with(fragments, A, VniConfig::default(), &[]);
        let peer = VtepConfig { underlay_mac: MAC_B, ..VtepConfig::new(B, 4789) };
        let at = Destination::Vtep(a.add_peer(peer, false));
        a.engine.apply(T0, &Command::AddMac { vni: VNI, mac: mac(2), at, kind: EntryKind::Static }).unwrap();
        let mut seen = std::collections::HashSet::new();
        for n in 0..20 {
            let (_, packet) = a.send(T0, &ether(mac(2), mac(1), b""));
            assert_eq!(packet[14 + 6] & 0x40, 0, "DF");
            assert!(seen.insert([packet[14 + 4], packet[14 + 5]]), "packet {n}");
        }
    }

    // A next hop fails over, a card is replaced: what is for a VTEP that came by itself follows its packets.
    fn a_learned_vtep_is_reached_where_its_packets_come_from<M>() {
        let (mut a, mut hello) = open_to_strangers::<M>();
        let mut now = T0;
        for hop in [MAC_B, mac(0xb1), mac(0xb2)] {
            hello[6..12].copy_from_slice(&hop.0);
            assert_eq!(a.receive(now, B, &hello).0, Verdict::Flood(VNI));
            let (verdict, packet) = a.send(now, &ether(mac(2), mac(1), b""));
            let vtep = a.engine.tables().vteps().by_addr(B).unwrap();
            assert_eq!(verdict, Verdict::ToUnderlay(vtep));
            assert_eq!(packet[..6], hop.0);
            // When an address behind it is due to be refreshed.
            now = now + core::time::Duration::from_secs(60);
        }
        // One that the host has set stays as it is.
        let vtep = a.add_peer(VtepConfig { underlay_mac: MAC_B, ..VtepConfig::new(B, 4789) }, false);
        a.receive(now, B, &hello);
        assert_eq!(a.engine.vtep(vtep).unwrap().config.underlay_mac, MAC_B);
    }

    // IEEE 802.3: a source is one station's; RFC 1812, section 5.3.4: one station's IP is not sent to a group.
    fn a_group_is_nobodys_underlay_mac<M>() {
        let (mut a, mut hello) = open_to_strangers::<M>();
        for bad in [ALL, MacAddr([1, 0, 0x5e, 0, 0, 1]), MacAddr::ZERO] {
            hello[6..12].copy_from_slice(&bad.0);
            assert_eq!(a.receive(T0, B, &hello).0, Verdict::Drop(DropReason::InvalidOuterSource), "{bad}");
            let config = VtepConfig { underlay_mac: bad, ..VtepConfig::new(B, 4789) };
            let refused = a.engine.apply(T0, &Command::AddVtep(config));
            assert_eq!(refused, Err(VtepError::UnderlayMac(bad).into()));
        }
        assert_eq!(a.engine.tables().vteps().len(), 0);
    }

    // RFC 6040, section 4.2 asks it of every packet that leaves the tunnel, whoever carries it on.
    fn a_congestion_mark_stays_with_a_packet_that_is_punted<M>() {
        let mut a = Node::<M>::with(config(A), A, VniConfig::routed(mac(0xa0)), &[]);
        a.add_peer(VtepConfig::new(B, 4789), false);
        let (prefix, next_hop) = ("10.9.0.0/16".parse().unwrap(), overlane::addr::NextHop::Direct);
        a.engine.apply(T0, &Command::AddRoute { vni: VNI, prefix, next_hop }).unwrap();
        let inner = |tos| frame(mac(0xa0), mac(2), 0x0800, &ipv4([10, 0, 0, 1].into(), [10, 9, 0, 2].into(), 64, tos, b""));
        let mut datagram = vxlan(42, &inner(2));
        let end = datagram.len();
        let mut frames = [Frame::new(&mut datagram, 0..end).unwrap().with_source(B).with_ecn(3)];
        a.engine.decap(T0, &mut frames);
        assert_eq!(frames[0].verdict(), Some(Verdict::Punt(overlane::error::PuntReason::DirectRoute)));
        assert_eq!(frames[0].bytes(), inner(3));
    }
}
