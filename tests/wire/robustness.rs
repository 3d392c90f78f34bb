//! Any bytes whatever: an answer, and one that fits the bytes.

use overlane::addr::MacAddr;
use overlane::error::{Layer, ParseError};
use overlane::wire::arp::ArpPacket;
use overlane::wire::ethernet::EthernetHeader;
use overlane::wire::inner::{Inner, Network};
use overlane::wire::ipv4::{self, Ipv4Header};
use overlane::wire::ipv6::{self, Ipv6Header};
use overlane::wire::outer::{self, OuterPolicy, Shape};
use overlane::wire::udp::UdpHeader;
use overlane::wire::vxlan::{ReservedBits, VxlanHeader, VxlanPolicy};
use overlane::wire::{ecn, ethernet, reply};
use proptest::prelude::*;

use crate::build::{self, A6, B6, MF, POD, ROUTER, V4, eth, fragment6, icmp6, options, udp, v6};

/// Inner frames of many kinds.
fn frames() -> Vec<Vec<u8>> {
    let datagram = udp(1, 2, b"payload");
    let solicitation = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &B6.octets(), &[1, 1, 2, 0, 0, 0, 0, 1]].concat();
    let arp = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2];
    let chain = [options(60, 0), options(44, 1), fragment6(60, 0, true, 5), options(17, 0)].concat();
    vec![
        eth(ROUTER, POD, &[], 0x0800, &V4::default().with(&datagram)),
        eth(ROUTER, POD, &[(0x8100, 5)], 0x0800, &V4 { options: &[1; 40], ..V4::default() }.with(&datagram)),
        eth(ROUTER, POD, &[], 0x0800, &V4 { fragment: MF | 7, ..V4::default() }.with(&datagram)),
        eth(ROUTER, POD, &[(0x88a8, 5), (0x8100, 5)], 0x86dd, &v6((A6, B6), 0, 64, &chain, &datagram)),
        eth(ROUTER, POD, &[], 0x86dd, &v6((A6, B6), 58, 255, &[], &icmp6(A6, B6, &solicitation))),
        eth(MacAddr::BROADCAST, POD, &[], 0x0806, &arp),
        eth(ROUTER, POD, &[], 0x88cc, b"lldp"),
    ]
}

/// One of `seeds`, some octets changed, cut or extended anywhere; or noise.
fn mutated(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let changed =
        (prop::sample::select(seeds), edits, any::<prop::sample::Index>(), 0usize..20, any::<bool>())
            .prop_map(|(mut bytes, edits, cut, extra, whole)| {
                for (at, value) in edits {
                    let at = at.index(bytes.len());
                    bytes[at] = value;
                }
                bytes.resize(bytes.len() + extra, 0xe5);
                if !whole {
                    bytes.truncate(cut.index(bytes.len() + 1));
                }
                bytes
            });
    prop_oneof![4 => changed, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

/// A parse error is about bytes: a reason of the first band, inside the slice.
fn sound(e: ParseError, len: usize) {
    assert!(e.reason().number() < 32, "{e}");
    assert!(e.offset() <= len, "{e} in {len} octets");
}

fn check_frame(frame: &[u8]) {
    let len = frame.len();
    let inner = match Inner::classify(frame) {
        Ok(inner) => inner,
        Err(e) => {
            assert_eq!(e.layer(), Layer::InnerEthernet);
            return sound(e, len);
        }
    };
    assert!(usize::from(inner.ethernet.payload_offset) <= len);
    let _ = inner.flow_hash(3);
    match inner.network {
        Network::Malformed(e) => {
            assert!(matches!(e.layer(), Layer::InnerIpv4 | Layer::InnerIpv6 | Layer::InnerArp));
            sound(e, len);
        }
        Network::Ipv4(ip) => {
            let available = len - usize::from(inner.ethernet.payload_offset);
            assert!(ip.packet_len(available) <= available);
            assert!(usize::from(ip.header_len) <= ip.packet_len(available));
        }
        Network::Ipv6(ip, payload) => {
            let available = len - usize::from(inner.ethernet.payload_offset);
            assert!(ip.packet_len(available) <= available);
            assert!(usize::from(payload.offset) <= ip.packet_len(available));
        }
        Network::Arp(_) | Network::None => {}
    }
    if inner.is_fragment() || inner.protocol().is_none() {
        assert_eq!(inner.ports, None);
    }
    let mut copy = frame.to_vec();
    if ecn::set(&mut copy, &inner, 2).is_some() {
        let after = Inner::classify(&copy).unwrap();
        assert_eq!((after.ecn(), after.flow_hash(3)), (Some(2), inner.flow_hash(3)));
        assert_eq!(copy.len(), len);
    }
    // Answers, whatever the frame: no longer than said, and frames themselves.
    let mut out = [0u8; reply::MAX_LEN];
    let _ = reply::is_neighbor_discovery(&inner, frame);
    let answers = [
        reply::arp_reply(frame, ROUTER, &mut out),
        reply::neighbor_advertisement(frame, ROUTER, &mut out),
        reply::packet_too_big(frame, ROUTER, build::B4.into(), 1400, &mut out),
        reply::packet_too_big(frame, ROUTER, B6.into(), 1400, &mut out),
        reply::time_exceeded(frame, ROUTER, build::B4.into(), &mut out),
        reply::time_exceeded(frame, ROUTER, B6.into(), &mut out),
    ];
    assert!(answers.into_iter().flatten().all(|n| n <= out.len()));
}

fn check_outer(packet: &[u8]) {
    let group_policy = VxlanPolicy { reserved: ReservedBits::Strict, group_policy: true };
    let strict = OuterPolicy { vxlan: group_policy, allow_zero_udp6: false, ..OuterPolicy::default() };
    let lax =
        OuterPolicy { verify_ipv4_checksum: false, verify_udp_checksum: false, ..OuterPolicy::default() };
    for shape in [Shape::Udp, Shape::Ip, Shape::Ethernet] {
        for policy in [&strict, &lax, &OuterPolicy::default()] {
            match outer::parse(shape, packet, policy) {
                Ok(outer) => assert!(packet.get(outer.payload).is_some(), "the frame lies inside"),
                Err(e) => sound(e, packet.len()),
            }
        }
    }
}

#[test]
fn every_truncation_of_a_frame_is_an_error_or_a_shorter_frame() {
    for frame in frames() {
        let whole = Inner::classify(&frame).unwrap();
        for len in 0..frame.len() {
            check_frame(&frame[..len]);
            match Inner::classify(&frame[..len]) {
                Err(e) => assert!(len < 14 + 4 * usize::from(whole.ethernet.tags), "{e}"),
                Ok(cut) => {
                    assert_eq!(cut.ethernet, whole.ethernet);
                    // IP and ARP know their length; a cut one is malformed, nothing else.
                    let malformed = matches!(cut.network, Network::Malformed(_));
                    assert_eq!(malformed, whole.network != Network::None, "{len} of {frame:x?}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_frame_is_classified(frame in mutated(frames())) {
        check_frame(&frame);
    }

    #[test]
    fn any_packet_is_parsed(packet in mutated(build::vxlan_packets().into_iter().map(|p| p.2).collect())) {
        check_outer(&packet);
        check_frame(&packet);
    }

    #[test]
    fn any_bytes_are_some_header_or_none(mut bytes in prop::collection::vec(any::<u8>(), 0..120), mask: u64) {
        let len = bytes.len();
        let policy = VxlanPolicy { reserved: ReservedBits::Mask(mask), group_policy: true };
        let errors = [
            EthernetHeader::parse(&bytes).err(),
            ArpPacket::parse(&bytes).err(),
            Ipv4Header::parse(&bytes).err(),
            Ipv6Header::parse(&bytes).and_then(|ip| ipv6::skip_extensions(&bytes, &ip).map(|_| ip)).err(),
            UdpHeader::parse(&bytes).err(),
            VxlanHeader::parse(&bytes, &policy).err(),
        ];
        errors.into_iter().flatten().for_each(|e| sound(e, len));
        let _ = ipv4::verify_checksum(&bytes);
        let before = bytes.clone();
        let changed = [
            ipv4::decrement_ttl(&mut bytes).is_some(),
            ipv6::decrement_hop_limit(&mut bytes).is_some(),
            ethernet::set_macs(&mut bytes, POD, ROUTER).is_some(),
            ipv4::set_ecn(&mut bytes, 1).is_some(),
            ipv6::set_ecn(&mut bytes, 2).is_some(),
        ];
        prop_assert_eq!(bytes.len(), len);
        prop_assert!(changed.contains(&true) || bytes == before);
    }

    #[test]
    fn a_walk_of_any_extension_chain_ends(first: u8, extensions in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(60)], 0..300)) {
        let packet = v6((A6, B6), first, 64, &extensions, &[]);
        let header = Ipv6Header::parse(&packet).unwrap();
        match ipv6::skip_extensions(&packet, &header) {
            Ok(payload) => prop_assert!((40..=packet.len()).contains(&usize::from(payload.offset))),
            Err(e) => sound(e, packet.len()),
        }
    }
}
