use core::net::Ipv6Addr;

use overlane::addr::{MacAddr, Vni};
use overlane::error::{DropReason as R, Layer, ParseError};
use overlane::wire::arp::ArpPacket;
use overlane::wire::ethernet::{self, EthernetHeader, VlanTag};
use overlane::wire::ipv4::{self, Ipv4Header};
use overlane::wire::ipv6::{self, Fragment, Ipv6Header, Ipv6Payload, skip_extensions};
use overlane::wire::udp::UdpHeader;
use overlane::wire::vxlan::{self, GroupPolicy, ReservedBits, VxlanHeader, VxlanPolicy};
use proptest::prelude::*;

use crate::build::{self, A6, B6, DF, MF, POD, ROUTER, V4, fragment6, options};

fn err<T>(layer: Layer, reason: R, offset: usize) -> Result<T, ParseError> {
    Err(ParseError::new(layer, reason, offset))
}

// Ethernet

#[test]
fn ethernet_sees_through_two_tags() {
    let tag = |tpid, pcp, dei, vid| Some(VlanTag { tpid, pcp, dei, vid });
    // IEEE 802.1Q-2018, 9.6: PCP 3 bits, DEI 1 bit, VID 12 bits.
    type Case = (&'static [(u16, u16)], u16, Option<VlanTag>, u16);
    let cases: &[Case] = &[
        (&[], 0x0800, None, 14),
        (&[], 0x0026, None, 14), // an 802.3 length
        (&[(0x8100, 0xffff)], 0x86dd, tag(0x8100, 7, true, 4095), 18),
        (&[(0x8100, 0x2000)], 0x0806, tag(0x8100, 1, false, 0), 18), // a priority tag
        (&[(0x88a8, 0x1064)], 0x0800, tag(0x88a8, 0, true, 100), 18),
        (&[(0x88a8, 0x000a), (0x8100, 0x0014)], 0x0800, tag(0x88a8, 0, false, 10), 22),
        (&[(0x8100, 1), (0x8100, 2)], 0x0800, tag(0x8100, 0, false, 1), 22),
        (&[], 0x9100, None, 14), // not a TPID of any standard
    ];
    for (tags, ethertype, vlan, payload_offset) in cases {
        let expected = EthernetHeader {
            dst: ROUTER,
            src: POD,
            ethertype: *ethertype,
            vlan: *vlan,
            tags: tags.len() as u8,
            payload_offset: *payload_offset,
        };
        let frame = build::eth(ROUTER, POD, tags, *ethertype, &[]);
        assert_eq!(EthernetHeader::parse(&frame), Ok(expected));
        for len in 0..frame.len() {
            let offset = match len {
                ..14 => 0,
                14..18 => 12,
                _ => 16,
            };
            let got = EthernetHeader::parse(&frame[..len]);
            assert_eq!(got, err(Layer::Ethernet, R::Truncated, offset), "{len} octets of {tags:?}");
        }
    }
    let three = build::eth(ROUTER, POD, &[(0x8100, 1), (0x88a8, 2), (0x8100, 3)], 0x0800, &[]);
    assert_eq!(EthernetHeader::parse(&three), err(Layer::Ethernet, R::TooManyTags, 20));
}

#[test]
fn set_macs_touches_the_addresses_alone() {
    let mut frame = build::eth(ROUTER, POD, &[(0x8100, 3)], 0x0800, b"payload");
    let expected = build::eth(POD, ROUTER, &[(0x8100, 3)], 0x0800, b"payload");
    assert_eq!(ethernet::set_macs(&mut frame, POD, ROUTER), Some(()));
    assert_eq!(frame, expected);
    let mut short = [9; 13];
    assert_eq!(ethernet::set_macs(&mut short, POD, ROUTER), None);
    assert_eq!(short, [9; 13]);
}

// ARP

#[test]
fn arp_is_ethernet_and_ipv4_alone() {
    let good = [0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2];
    let packet = ArpPacket {
        op: 2,
        sender_mac: POD,
        sender_ip: [10, 0, 0, 1].into(),
        target_mac: MacAddr([2, 0, 0, 0, 0, 2]),
        target_ip: [10, 0, 0, 2].into(),
    };
    assert_eq!(ArpPacket::parse(&good), Ok(packet));
    assert_eq!(packet.emit(), good);
    assert_eq!(ArpPacket::parse(&[&good[..], &[0; 18]].concat()), Ok(packet), "padding");
    for len in 0..good.len() {
        assert_eq!(ArpPacket::parse(&good[..len]), err(Layer::Arp, R::Truncated, 0));
    }
    // RFC 826: hardware type, protocol type, their lengths.
    for (at, offset) in [(0, 0), (1, 0), (2, 2), (3, 2), (4, 4), (5, 5)] {
        let mut bad = good;
        bad[at] ^= 0x20;
        assert_eq!(ArpPacket::parse(&bad), err(Layer::Arp, R::BadArp, offset), "octet {at}");
    }
}

// IPv4

#[test]
fn ipv4_fields_are_where_rfc_791_says() {
    let v4 = V4 { tos: 0xb9, id: 0xbeef, fragment: MF | 0x1fff, ttl: 3, options: &[1; 40], ..V4::default() };
    let packet = v4.with(b"payload!");
    let header = Ipv4Header {
        src: v4.src,
        dst: v4.dst,
        protocol: 17,
        ttl: 3,
        tos: 0xb9,
        id: 0xbeef,
        dont_fragment: false,
        more_fragments: true,
        fragment_offset: 0x1fff,
        header_len: 60,
        total_len: 68,
    };
    assert_eq!(Ipv4Header::parse(&packet), Ok(header));
    assert!(header.is_fragment());
    assert_eq!(header.packet_len(100), 68);
    for (fragment, is_fragment) in [(0, false), (DF, false), (0x8000, false), (MF, true), (1, true)] {
        let packet = V4 { fragment, ..V4::default() }.with(&[]);
        assert_eq!(Ipv4Header::parse(&packet).unwrap().is_fragment(), is_fragment, "{fragment:#x}");
    }
}

#[test]
fn ipv4_lengths_and_version_are_checked() {
    let plain = V4::default().with(b"12345678");
    let with_options = V4 { options: &[1; 8], ..V4::default() }.with(b"12345678");
    let edit = |packet: &[u8], edits: &[(usize, u8)]| {
        let mut p = packet.to_vec();
        edits.iter().for_each(|(at, value)| p[*at] = *value);
        p
    };
    let cases: &[(&str, Vec<u8>, R, usize)] = &[
        ("nothing", vec![], R::Truncated, 0),
        ("half a header", plain[..19].to_vec(), R::Truncated, 0),
        ("half the options", with_options[..27].to_vec(), R::Truncated, 0),
        ("shorter than its total length", plain[..27].to_vec(), R::Truncated, 2),
        ("version 6", edit(&plain, &[(0, 0x65)]), R::BadVersion, 0),
        ("version 0", edit(&plain, &[(0, 0x05)]), R::BadVersion, 0),
        ("IHL 4", edit(&plain, &[(0, 0x44)]), R::BadHeaderLength, 0),
        ("IHL 0", edit(&plain, &[(0, 0x40)]), R::BadHeaderLength, 0),
        ("total length 19", edit(&plain, &[(2, 0), (3, 19)]), R::BadLength, 2),
        ("total length 0", edit(&plain, &[(2, 0), (3, 0)]), R::BadLength, 2),
        ("total length inside the options", edit(&with_options, &[(3, 27)]), R::BadLength, 2),
    ];
    for (what, packet, reason, offset) in cases {
        assert_eq!(Ipv4Header::parse(packet), err(Layer::Ipv4, *reason, *offset), "{what}");
    }
    let padded = [&plain[..], &[0; 18]].concat();
    assert_eq!(Ipv4Header::parse(&padded).unwrap().total_len, 28);
}

#[test]
fn a_length_of_zero_is_a_superframe_only_where_the_field_could_not_say_it() {
    let sizes = [(65_535, false), (65_536, true), (80_102, true)];
    for (len, is_superframe) in sizes {
        let mut packet = V4::default().with(&vec![0; len - 20]);
        packet[2..4].fill(0);
        let parsed = Ipv4Header::parse(&packet);
        assert_eq!(parsed.is_ok(), is_superframe, "{len}");
        if let Ok(header) = parsed {
            assert_eq!(header.packet_len(packet.len()), len);
        }
    }
    for (payload, len) in [(65_535, 40), (65_536, 65_576)] {
        let mut packet = build::v6((A6, B6), 17, 64, &[], &vec![0; payload]);
        packet[4..6].fill(0);
        let header = Ipv6Header::parse(&packet).unwrap();
        assert_eq!(header.packet_len(packet.len()), len);
    }
    for (len, is_superframe) in sizes {
        let mut datagram = build::udp(1, 2, &vec![0; len - 8]);
        datagram[4..6].fill(0);
        let parsed = UdpHeader::parse(&datagram);
        assert_eq!(parsed.map(|h| h.datagram_len(len)).ok(), is_superframe.then_some(len));
    }
}

#[test]
fn ipv4_checksum_verification_covers_the_options() {
    let packet = V4 { options: &[7, 3, 4, 0], ..V4::default() }.with(b"x");
    assert!(ipv4::verify_checksum(&packet));
    for at in 0..24 {
        let mut bad = packet.clone();
        bad[at] ^= 0x40;
        assert!(!ipv4::verify_checksum(&bad), "octet {at}");
    }
    for len in 0..24 {
        assert!(!ipv4::verify_checksum(&packet[..len]), "{len} octets");
    }
    assert!(!ipv4::verify_checksum(&[0x44; 40]), "IHL 4");
}

#[test]
fn ttl_and_hop_limit_stop_above_zero() {
    for (ttl, after) in [(0, None), (1, None), (2, Some(1)), (255, Some(254))] {
        let mut v4 = V4 { ttl, ..V4::default() }.with(b"x");
        let mut six = build::v6((A6, B6), 17, ttl, &[], b"x");
        let before = (v4.clone(), six.clone());
        assert_eq!(ipv4::decrement_ttl(&mut v4), after);
        assert_eq!(ipv6::decrement_hop_limit(&mut six), after);
        match after {
            None => assert_eq!((v4, six), before, "untouched"),
            Some(ttl) => {
                assert_eq!(v4, V4 { ttl, ..V4::default() }.with(b"x"));
                assert_eq!(six, build::v6((A6, B6), 17, ttl, &[], b"x"));
            }
        }
    }
    assert_eq!(ipv4::decrement_ttl(&mut [0xff; 19]), None);
    assert_eq!(ipv6::decrement_hop_limit(&mut [0xff; 39]), None);
    assert_eq!(ipv4::set_ecn(&mut [0xff; 19], 3), None);
    assert_eq!(ipv6::set_ecn(&mut [0xff; 39], 3), None);
}

proptest! {
    #[test]
    fn ipv4_round_trips(
        src: u32, dst: u32, protocol: u8, ttl: u8, tos: u8, id: u16, flags: (bool, bool), fragment_offset in 0u16..0x2000,
        payload in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let header = Ipv4Header {
            src: src.into(), dst: dst.into(), protocol, ttl, tos, id,
            dont_fragment: flags.0, more_fragments: flags.1, fragment_offset,
            header_len: 20, total_len: 20 + payload.len() as u16,
        };
        let mut packet = header.emit().to_vec();
        prop_assert_eq!(build::naive_checksum(&packet), 0);
        packet.extend(&payload);
        prop_assert_eq!(Ipv4Header::parse(&packet), Ok(header));
    }

    #[test]
    fn ipv4_changes_in_place_are_recomputations(
        ttl in 2u8.., tos: u8, id: u16, src: u32, dst: u32, protocol: u8, ecn: u8, padding in 0usize..5,
    ) {
        let options = vec![1; 4 * padding];
        let of = |ttl, tos| {
            V4 { src: src.into(), dst: dst.into(), protocol, ttl, tos, id, fragment: 0, options: &options }.with(b"payload")
        };
        let mut packet = of(ttl, tos);
        prop_assert_eq!(ipv4::decrement_ttl(&mut packet), Some(ttl - 1));
        prop_assert_eq!(&packet, &of(ttl - 1, tos));
        prop_assert_eq!(ipv4::set_ecn(&mut packet, ecn), Some(()));
        prop_assert_eq!(&packet, &of(ttl - 1, tos & !3 | ecn & 3));
    }

    #[test]
    fn ipv6_round_trips(
        src: u128, dst: u128, traffic_class: u8, flow_label in 0u32..1 << 20, hop_limit: u8, next_header: u8, ecn: u8,
        payload in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let header = Ipv6Header {
            src: src.into(), dst: dst.into(), traffic_class, flow_label, hop_limit, next_header,
            payload_len: payload.len() as u16,
        };
        let mut packet = header.emit().to_vec();
        packet.extend(&payload);
        prop_assert_eq!(Ipv6Header::parse(&packet), Ok(header));
        prop_assert_eq!(ipv6::set_ecn(&mut packet, ecn), Some(()));
        let traffic_class = traffic_class & !3 | ecn & 3;
        prop_assert_eq!(Ipv6Header::parse(&packet), Ok(Ipv6Header { traffic_class, ..header }));
    }

    #[test]
    fn arp_udp_and_vxlan_round_trip(
        op: u16, macs: ([u8; 6], [u8; 6]), ips: (u32, u32), ports: (u16, u16), length in 8u16..64, checksum: u16, vni in 0u32..1 << 24,
        group in prop::option::of((any::<u16>(), any::<bool>(), any::<bool>())),
    ) {
        let arp = ArpPacket {
            op, sender_mac: MacAddr(macs.0), sender_ip: ips.0.into(),
            target_mac: MacAddr(macs.1), target_ip: ips.1.into(),
        };
        prop_assert_eq!(ArpPacket::parse(&arp.emit()), Ok(arp));

        let udp = UdpHeader { src_port: ports.0, dst_port: ports.1, length, checksum };
        let mut datagram = udp.emit().to_vec();
        datagram.resize(64, 0);
        prop_assert_eq!(UdpHeader::parse(&datagram), Ok(udp));

        let group = group.map(|(id, dont_learn, applied)| GroupPolicy { id, dont_learn, applied });
        let policy = VxlanPolicy { reserved: ReservedBits::Strict, group_policy: true };
        let bytes = VxlanHeader::emit(Vni::truncate(vni), group);
        let flags = if group.is_some() { 0x88 } else { 0x08 };
        let header = VxlanHeader { vni: Vni::truncate(vni), flags, group };
        prop_assert_eq!(VxlanHeader::parse(&bytes, &policy), Ok(header), "reserved bits are sent as zero");
    }
}

// IPv6

#[test]
fn ipv6_length_and_version_are_checked() {
    let packet = build::v6((A6, B6), 17, 64, &[], b"12345678");
    for len in 0..packet.len() {
        let offset = if len < 40 { 0 } else { 4 };
        assert_eq!(Ipv6Header::parse(&packet[..len]), err(Layer::Ipv6, R::Truncated, offset), "{len}");
    }
    let mut four = packet.clone();
    four[0] = 0x45;
    assert_eq!(Ipv6Header::parse(&four), err(Layer::Ipv6, R::BadVersion, 0));
}

fn walk(first: u8, extensions: &[u8], payload: &[u8]) -> Result<Ipv6Payload, ParseError> {
    let packet = build::v6((A6, B6), first, 64, extensions, payload);
    let header = Ipv6Header::parse(&packet).unwrap();
    skip_extensions(&[&packet[..], &[0; 64]].concat(), &header) // padding is not the packet's
}

#[test]
fn extension_headers_are_skipped_up_to_the_upper_layer() {
    let found = |protocol, offset, fragment| Ok(Ipv6Payload { protocol, offset, fragment });
    let fragment = |offset, more, next_header| Some(Fragment { offset, more, id: 7, next_header });
    // RFC 4302, 2.2: the authentication header counts 4-octet units, minus 2.
    let authentication = |next, len: u8| {
        let mut h = vec![next, len];
        h.resize((usize::from(len) + 2) * 4, 0);
        h
    };
    type Case = (&'static str, u8, Vec<u8>, Result<Ipv6Payload, ParseError>);
    let cases: &[Case] = &[
        ("none", 6, vec![], found(6, 40, None)),
        ("hop-by-hop", 0, options(17, 0), found(17, 48, None)),
        ("long destination options", 60, options(6, 255), found(6, 40 + 2048, None)),
        ("routing", 43, options(58, 2), found(58, 64, None)),
        ("authentication", 51, authentication(17, 4), found(17, 64, None)),
        (
            "the order of RFC 8200, 4.1",
            0,
            [options(60, 0), options(43, 0), options(51, 0), authentication(60, 4), options(17, 1)].concat(),
            found(17, 40 + 8 + 8 + 8 + 24 + 16, None),
        ),
        ("ESP ends the walk", 50, options(17, 0), found(50, 40, None)),
        ("so does no next header", 0, options(59, 0), found(59, 48, None)),
        ("so does what nobody knows", 0, options(253, 0), found(253, 48, None)),
        ("atomic fragment", 44, fragment6(17, 0, false, 7), found(17, 48, fragment(0, false, 17))),
        ("first fragment", 44, fragment6(17, 0, true, 7), found(17, 48, fragment(0, true, 17))),
        (
            "first fragment with options",
            44,
            [fragment6(60, 0, true, 7), options(17, 0)].concat(),
            found(17, 56, fragment(0, true, 60)),
        ),
        ("later fragment", 44, fragment6(17, 185, true, 7), found(17, 48, fragment(185, true, 17))),
        (
            "later fragment of options: data, not headers",
            44,
            [fragment6(60, 185, false, 7), vec![0xff; 8]].concat(),
            found(60, 48, fragment(185, false, 60)),
        ),
        (
            "a whole datagram in a first fragment: still a fragment",
            44,
            [fragment6(44, 0, true, 7), fragment6(17, 0, false, 8)].concat(),
            found(17, 56, fragment(0, true, 44)),
        ),
        (
            "a later fragment in a whole datagram",
            44,
            [fragment6(44, 0, false, 8), fragment6(17, 185, false, 7)].concat(),
            found(17, 56, fragment(185, false, 17)),
        ),
        ("8 headers", 60, [options(60, 0).repeat(7), options(17, 0)].concat(), found(17, 104, None)),
        ("9 headers", 60, options(60, 0).repeat(9), err(Layer::Ipv6, R::TooManyExtensions, 104)),
    ];
    for (what, first, extensions, expected) in cases {
        assert_eq!(walk(*first, extensions, b"some payload"), *expected, "{what}");
    }
    let partial = |offset, more| Fragment { offset, more, id: 0, next_header: 17 }.is_partial();
    // RFC 6946: an atomic fragment is a whole datagram.
    assert!(!partial(0, false) && partial(0, true) && partial(1, false));
}

#[test]
fn an_extension_header_ends_inside_the_packet() {
    for (first, header) in
        [(0, options(17, 0)), (43, options(17, 1)), (44, fragment6(17, 0, false, 1)), (51, options(17, 0))]
    {
        for len in 0..header.len() {
            let got = walk(first, &header[..len], &[]);
            assert_eq!(got, err(Layer::Ipv6, R::Truncated, 40), "{len} octets of header {first}");
        }
    }
    assert_eq!(
        walk(0, &[&options(60, 0)[..], &options(17, 9)[..72]].concat(), &[]),
        err(Layer::Ipv6, R::Truncated, 48)
    );
    // A header that is not the packet's: still an answer.
    let liar = Ipv6Header {
        payload_len: 9000,
        ..Ipv6Header::parse(&build::v6((Ipv6Addr::LOCALHOST, B6), 0, 1, &[], &[])).unwrap()
    };
    assert_eq!(skip_extensions(&[0x60; 44], &liar), err(Layer::Ipv6, R::Truncated, 40));
}

// UDP

#[test]
fn udp_length_is_checked() {
    let datagram = build::udp(1, 2, b"1234");
    for len in 0..datagram.len() {
        let offset = if len < 8 { 0 } else { 4 };
        assert_eq!(UdpHeader::parse(&datagram[..len]), err(Layer::Udp, R::Truncated, offset), "{len}");
    }
    for length in 0..8 {
        let mut bad = datagram.clone();
        bad[4..6].copy_from_slice(&[0, length]);
        assert_eq!(UdpHeader::parse(&bad), err(Layer::Udp, R::BadLength, 4), "{length}");
    }
    let padded = [&datagram[..], b"padding"].concat();
    assert_eq!(UdpHeader::parse(&padded).unwrap().datagram_len(padded.len()), 12);
}

// VXLAN

#[test]
fn vxlan_layout_is_that_of_rfc_7348_section_5() {
    let vni = Vni::truncate(0xab_cdef);
    assert_eq!(VxlanHeader::emit(vni, None), [0x08, 0, 0, 0, 0xab, 0xcd, 0xef, 0]);
    assert_eq!((vxlan::PORT, vxlan::PORT_LINUX, vxlan::HEADER_LEN), (4789, 8472, 8));
    // draft-smith-vxlan-group-policy-05, 2.1: G in the first octet; D, A in the second; then the group.
    let cases = [
        (0x1234, false, false, [0x88, 0x00, 0x12, 0x34]),
        (0x1234, true, false, [0x88, 0x40, 0x12, 0x34]),
        (0x0000, false, true, [0x88, 0x08, 0x00, 0x00]),
        (0xffff, true, true, [0x88, 0x48, 0xff, 0xff]),
    ];
    for (id, dont_learn, applied, head) in cases {
        let group = GroupPolicy { id, dont_learn, applied };
        let bytes = VxlanHeader::emit(vni, Some(group));
        assert_eq!((&bytes[..4], &bytes[4..]), (&head[..], &[0xab, 0xcd, 0xef, 0][..]));
        let with = |group_policy| VxlanPolicy { group_policy, ..VxlanPolicy::default() };
        assert_eq!(VxlanHeader::parse(&bytes, &with(true)).unwrap().group, Some(group));
        assert_eq!(VxlanHeader::parse(&bytes, &with(false)).unwrap().group, None, "not asked for");
    }
    for len in 0..8 {
        let got = VxlanHeader::parse(&build::VXLAN_42[..len], &VxlanPolicy::default());
        assert_eq!(got, err(Layer::Vxlan, R::Truncated, 0));
    }
}

#[test]
fn vxlan_reserved_bits_follow_the_policy() {
    use ReservedBits::{Ignore, Mask, Strict};
    let plain = 0x0800_0000_0000_2a00u64;
    let refused = |offset| Err((R::ReservedBits, offset));
    let cases = [
        (plain, Strict, false, Ok(42)),
        (plain & !(0x08 << 56), Ignore, false, Err((R::NoVniFlag, 0))),
        (!(0x08 << 56), Strict, false, Err((R::NoVniFlag, 0))), // what matters most is said first
        (plain | 0xf7ff_ffff_0000_00ff, Ignore, false, Ok(42)),
        (plain | 0xf7ff_ffff_0000_00ff, Ignore, true, Ok(42)),
        (plain | 0x01 << 56, Strict, false, refused(0)),
        (plain | 0x80 << 56, Strict, false, refused(0)),
        (plain | 0x80 << 56, Strict, true, Ok(42)),
        (plain | 0x04 << 56, Strict, true, refused(0)), // GPE's P bit
        (plain | 0x48 << 48, Strict, true, Ok(42)),
        (plain | 0x01 << 48, Strict, true, refused(1)),
        (plain | 0x0001 << 32, Strict, false, refused(3)),
        (plain | 0xffff << 32, Strict, true, Ok(42)),
        (plain | 1, Strict, true, refused(7)),
        (plain | 1, Mask(0), false, Ok(42)),
        (plain | 1, Mask(0xff), false, refused(7)),
        (plain | 1, Mask(0xf7ff_ff00_0000_0000), false, Ok(42)),
        (plain | 0x0300 << 32, Mask(0x0200 << 32), false, refused(2)),
        (plain, Mask(0x2a00), false, refused(6)), // a mask may name any bit
    ];
    for (word, reserved, group_policy, expected) in cases {
        let got = VxlanHeader::parse(&word.to_be_bytes(), &VxlanPolicy { reserved, group_policy });
        let got = got.map(|h| h.vni.get()).map_err(|e| (e.reason(), e.offset()));
        assert_eq!(got, expected, "{word:#018x} {reserved:?} {group_policy}");
    }
}
