use core::net::IpAddr;

use overlane::error::{DropReason as R, Layer, ParseError};
use overlane::wire::outer::{self, OuterPolicy, Shape};
use overlane::wire::vxlan::{ReservedBits, VxlanPolicy};

use crate::build::{
    self, A6, B6, DF, MF, POD, ROUTER, V4, VXLAN_42, eth, fragment6, naive_checksum, options, udp, v6,
};

fn parse(shape: Shape, packet: &[u8]) -> Result<outer::Outer, ParseError> {
    outer::parse(shape, packet, &OuterPolicy::default())
}

#[test]
fn each_shape_gives_what_it_has() {
    for (what, shape, packet, at) in build::vxlan_packets() {
        for padding in [0, 11] {
            // Behind the UDP length there may be padding; a socket shows none.
            let padding = if shape == Shape::Udp { 0 } else { padding };
            let packet = [&packet[..], &vec![0xee; padding]].concat();
            let outer = parse(shape, &packet).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(outer.payload, at..packet.len() - padding, "{what}");
            assert_eq!((outer.vxlan.vni.get(), outer.vxlan.flags), (42, 8));
            let is_v4 = what.contains("ipv4");
            let expected: Option<(IpAddr, IpAddr)> = match shape {
                Shape::Udp => None,
                _ if is_v4 => Some(([192, 0, 2, 1].into(), [192, 0, 2, 2].into())),
                _ => Some((A6.into(), B6.into())),
            };
            assert_eq!(outer.src.zip(outer.dst), expected, "{what}");
            let ports = if shape == Shape::Udp { (0, 0) } else { (50_000, 4789) };
            assert_eq!((outer.udp_src, outer.udp_dst), ports, "{what}");
            assert_eq!(outer.src_mac, (shape == Shape::Ethernet).then_some(POD), "{what}");
            assert_eq!(outer.ecn, if is_v4 && shape != Shape::Udp { 2 } else { 0 }, "{what}");
        }
    }
}

#[test]
fn every_truncation_is_an_error_inside_the_packet() {
    for (what, shape, packet, at) in build::vxlan_packets() {
        for len in 0..packet.len() {
            match parse(shape, &packet[..len]) {
                // A datagram has no length of its own to contradict the socket's.
                Ok(outer) => assert!(shape == Shape::Udp && outer.payload == (at..len), "{what}, {len}"),
                Err(e) => {
                    assert_eq!(e.reason(), R::Truncated, "{what}, {len}: {e}");
                    assert!(e.offset() <= len, "{what}, {len}: {e}");
                }
            }
        }
    }
}

/// A valid packet, spoilt: the layer, reason and offset that say how.
#[test]
fn what_is_not_for_a_tunnel_says_why() {
    let vxlan = [&VXLAN_42[..], &[0; 60]].concat();
    let datagram = udp(50_000, 4789, &vxlan);
    let four = |v4: V4| v4.with(&datagram);
    let fixed = |mut p: Vec<u8>, at: usize, value: u8| {
        p[at] = value;
        p[10..12].fill(0);
        let check = naive_checksum(&p[..20]);
        p[10..12].copy_from_slice(&check.to_be_bytes());
        p
    };
    let plain4 = four(V4::default());
    let edit = |at: usize, value: u8| {
        let mut p = plain4.clone();
        p[at] = value;
        p
    };
    let (ip, ether) = (Shape::Ip, Shape::Ethernet);
    type Case = (&'static str, Shape, Vec<u8>, Layer, R, usize);
    let cases: Vec<Case> = vec![
        ("ARP", ether, eth(ROUTER, POD, &[], 0x0806, &[0; 46]), Layer::Ethernet, R::OuterNotIp, 12),
        (
            "tagged ARP",
            ether,
            eth(ROUTER, POD, &[(0x8100, 5)], 0x0806, &[0; 46]),
            Layer::Ethernet,
            R::OuterNotIp,
            16,
        ),
        (
            "three tags",
            ether,
            eth(ROUTER, POD, &[(0x8100, 5); 3], 0x0800, &plain4),
            Layer::Ethernet,
            R::TooManyTags,
            20,
        ),
        (
            "IPv6 in IPv4's EtherType",
            ether,
            eth(ROUTER, POD, &[], 0x0800, &[0x60; 60]),
            Layer::Ipv4,
            R::BadVersion,
            14,
        ),
        ("nothing", ip, vec![], Layer::Ipv4, R::Truncated, 0),
        ("version 5", ip, edit(0, 0x55), Layer::Ipv4, R::BadVersion, 0),
        ("IHL 4", ip, edit(0, 0x44), Layer::Ipv4, R::BadHeaderLength, 0),
        ("IPv4 checksum", ip, edit(8, 63), Layer::Ipv4, R::BadChecksum, 10),
        (
            "IPv4 checksum behind Ethernet",
            ether,
            eth(ROUTER, POD, &[], 0x0800, &edit(8, 63)),
            Layer::Ipv4,
            R::BadChecksum,
            24,
        ),
        // RFC 7348, 4.3: a VTEP may discard fragments.
        ("first fragment", ip, four(V4 { fragment: MF, ..V4::default() }), Layer::Ipv4, R::OuterFragment, 6),
        ("last fragment", ip, four(V4 { fragment: 9, ..V4::default() }), Layer::Ipv4, R::OuterFragment, 6),
        ("TCP", ip, four(V4 { protocol: 6, fragment: DF, ..V4::default() }), Layer::Ipv4, R::OuterNotUdp, 9),
        ("total length into UDP", ip, fixed(plain4.clone(), 3, 24), Layer::Udp, R::Truncated, 20),
        ("total length below UDP's", ip, fixed(plain4.clone(), 3, 60), Layer::Udp, R::Truncated, 24),
        ("UDP length 7", ip, edit(25, 7), Layer::Udp, R::BadLength, 24),
        ("UDP length into VXLAN", ip, edit(25, 15), Layer::Vxlan, R::Truncated, 28),
        ("another port", ip, V4::default().with(&udp(1, 4790, &vxlan)), Layer::Udp, R::NotTunnelPort, 22),
        ("port 0", ip, V4::default().with(&udp(1, 0, &vxlan)), Layer::Udp, R::NotTunnelPort, 22),
        ("UDP checksum", ip, edit(26, 1), Layer::Udp, R::BadChecksum, 26),
        ("no I flag", ip, edit(28, 0), Layer::Vxlan, R::NoVniFlag, 28),
        ("no I flag in a socket", Shape::Udp, vec![0; 68], Layer::Vxlan, R::NoVniFlag, 0),
        ("IPv6 TCP", ip, v6((A6, B6), 6, 64, &[], &datagram), Layer::Ipv6, R::OuterNotUdp, 40),
        (
            "IPv6 TCP behind options",
            ip,
            v6((A6, B6), 60, 64, &options(6, 0), &datagram),
            Layer::Ipv6,
            R::OuterNotUdp,
            48,
        ),
        (
            "IPv6 fragment",
            ip,
            v6((A6, B6), 44, 64, &fragment6(17, 0, true, 1), &datagram),
            Layer::Ipv6,
            R::OuterFragment,
            48,
        ),
        (
            "IPv6 later fragment",
            ip,
            v6((A6, B6), 44, 64, &fragment6(17, 2, false, 1), &datagram),
            Layer::Ipv6,
            R::OuterFragment,
            48,
        ),
        (
            "nine extensions",
            ip,
            v6((A6, B6), 60, 64, &options(60, 0).repeat(9), &datagram),
            Layer::Ipv6,
            R::TooManyExtensions,
            104,
        ),
    ];
    for (what, shape, packet, layer, reason, offset) in cases {
        assert_eq!(parse(shape, &packet), Err(ParseError::new(layer, reason, offset)), "{what}");
    }
}

#[test]
fn checksums_are_judged_by_the_policy() {
    let datagram = udp(50_000, 4789, &[&VXLAN_42[..], &[5; 61]].concat());
    let check = |src: &[u8], dst: &[u8]| {
        let pseudo = build::pseudo(src, dst, 17, datagram.len());
        naive_checksum(&[pseudo, datagram.clone()].concat()).to_be_bytes()
    };
    let with = |check: [u8; 2]| {
        let mut d = datagram.clone();
        d[6..8].copy_from_slice(&check);
        d
    };
    let v4 = V4::default();
    let (c4, c6) = (check(&v4.src.octets(), &v4.dst.octets()), check(&A6.octets(), &B6.octets()));
    let four = |check| v4.with(&with(check));
    let six = |check| v6((A6, B6), 17, 64, &[], &with(check));
    let strict = OuterPolicy { allow_zero_udp6: false, ..OuterPolicy::default() };
    let lax = OuterPolicy { verify_udp_checksum: false, ..OuterPolicy::default() };
    let default = OuterPolicy::default();
    let flip = |c: [u8; 2]| [c[0], c[1] ^ 1];
    // RFC 7348, section 5: zero is accepted, another value may be verified; RFC 6935: zero over IPv6.
    let cases = [
        ("v4 zero", four([0, 0]), strict, None),
        ("v4 right", four(c4), default, None),
        ("v4 wrong", four(flip(c4)), default, Some((R::BadChecksum, 26))),
        ("v4 wrong, not verified", four(flip(c4)), lax, None),
        ("v6 zero", six([0, 0]), default, None),
        ("v6 zero, not allowed", six([0, 0]), strict, Some((R::ZeroChecksum, 46))),
        ("v6 right", six(c6), strict, None),
        ("v6 wrong", six(flip(c6)), strict, Some((R::BadChecksum, 46))),
        ("v6 wrong, not verified", six(flip(c6)), lax, None),
    ];
    for (what, packet, policy, expected) in cases {
        let got = outer::parse(Shape::Ip, &packet, &policy).err().map(|e| (e.reason(), e.offset()));
        assert_eq!(got, expected, "{what}");
    }
    let mut packet = four([0, 0]);
    packet[8] ^= 1;
    let offloaded = OuterPolicy { verify_ipv4_checksum: false, ..default };
    assert_eq!(outer::parse(Shape::Ip, &packet, &default).unwrap_err().reason(), R::BadChecksum);
    assert!(outer::parse(Shape::Ip, &packet, &offloaded).is_ok());
}

#[test]
fn ports_and_vxlan_policy_are_the_callers() {
    let vxlan = [0x08, 0, 0, 1, 0, 0, 42, 0];
    let packet = |port| V4::default().with(&udp(50_000, port, &vxlan));
    let ports = |ports| OuterPolicy { ports, ..OuterPolicy::default() };
    for (policy, port, ok) in [
        (ports([4789, 8472, 0, 0]), 4789, true),
        (ports([4789, 8472, 0, 0]), 8472, true),
        (ports([0, 0, 0, 8472]), 8472, true),
        (ports([4789, 8472, 0, 0]), 4790, false),
        (ports([0; 4]), 4789, false),
        (ports([0; 4]), 0, false),
    ] {
        let got = outer::parse(Shape::Ip, &packet(port), &policy).is_ok();
        assert_eq!(got, ok, "{port} of {:?}", policy.ports);
    }
    let strict = VxlanPolicy { reserved: ReservedBits::Strict, group_policy: false };
    let policy = OuterPolicy { vxlan: strict, ..OuterPolicy::default() };
    let e = outer::parse(Shape::Ip, &packet(4789), &policy).unwrap_err();
    assert_eq!((e.layer(), e.reason(), e.offset()), (Layer::Vxlan, R::ReservedBits, 31));
}

#[test]
fn a_superframe_has_lengths_of_zero() {
    // As Linux writes them for BIG TCP above 64 KiB; the UDP checksum is not final then.
    let vxlan = [&VXLAN_42[..], &vec![3; 70_000]].concat();
    let mut datagram = udp(50_000, 4789, &vxlan);
    datagram[4..8].copy_from_slice(&[0, 0, 0x55, 0x2f]);
    let mut four = V4::default().with(&datagram);
    four[2..4].fill(0);
    four[10..12].fill(0);
    let check = naive_checksum(&four[..20]);
    four[10..12].copy_from_slice(&check.to_be_bytes());
    let mut six = v6((A6, B6), 17, 64, &[], &datagram);
    six[4..6].fill(0);
    assert_eq!(parse(Shape::Ip, &four).unwrap().payload, 36..70_036);
    assert_eq!(parse(Shape::Ip, &six).unwrap().payload, 56..70_056);
    let e = parse(Shape::Ip, &four[..1000]).unwrap_err();
    assert_eq!((e.layer(), e.reason()), (Layer::Ipv4, R::BadLength), "not where a length could be said");
    let e = parse(Shape::Ip, &six[..1000]).unwrap_err();
    assert_eq!((e.layer(), e.reason()), (Layer::Udp, R::Truncated));
}
