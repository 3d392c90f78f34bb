use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlane::addr::MacAddr;
use overlane::error::{DropReason as R, Layer, ParseError};
use overlane::wire::inner::{Flow, Inner, Network, source_port};
use proptest::prelude::*;

use crate::build::{A4, A6, B4, B6, DF, MF, POD, ROUTER, V4, eth, fragment6, options, udp, v6};

fn classify(ethertype: u16, packet: &[u8]) -> Inner {
    Inner::classify(&eth(ROUTER, POD, &[], ethertype, packet)).unwrap()
}

fn v4_of(protocol: u8, payload: &[u8]) -> Inner {
    classify(0x0800, &V4 { protocol, ..V4::default() }.with(payload))
}

#[test]
fn ports_are_those_of_transports_that_start_with_them() {
    // TCP, UDP, DCCP, SCTP, UDP-Lite; not ICMP, GRE, ESP, AH, ICMPv6.
    for protocol in 0..=255 {
        let expected = [6, 17, 33, 132, 136].contains(&protocol).then_some((0x0102, 0x0304));
        let inner = v4_of(protocol, &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((inner.ports, inner.protocol()), (expected, Some(protocol)));
        if ![0, 43, 44, 51, 60].contains(&protocol) {
            let inner = classify(0x86dd, &v6((A6, B6), protocol, 64, &[], &[1, 2, 3, 4, 5, 6, 7, 8]));
            assert_eq!((inner.ports, inner.protocol()), (expected, Some(protocol)));
        }
    }
    for len in 0..4 {
        // What follows the packet is padding, and nobody's port.
        let frame =
            [eth(ROUTER, POD, &[], 0x0800, &V4::default().with(&[1, 2, 3][..len])), vec![9; 30]].concat();
        assert_eq!(Inner::classify(&frame).unwrap().ports, None);
    }
}

#[test]
fn a_frame_is_classified_behind_tags_and_headers() {
    let datagram = udp(1000, 53, b"query");
    let four = V4 { tos: 0xb9, options: &[1; 12], ..V4::default() }.with(&datagram);
    let six = v6((A6, B6), 0, 64, &[options(60, 1), options(17, 0)].concat(), &datagram);
    for tags in [&[][..], &[(0x8100, 7)], &[(0x88a8, 7), (0x8100, 8)]] {
        let inner = Inner::classify(&eth(ROUTER, POD, tags, 0x0800, &four)).unwrap();
        assert!(matches!(inner.network, Network::Ipv4(ip) if ip.header_len == 32));
        assert_eq!(inner.ports, Some((1000, 53)));
        assert_eq!(inner.addrs(), Some((A4.into(), B4.into())));
        assert_eq!((inner.tos(), inner.ecn(), inner.is_fragment()), (Some(0xb9), Some(1), false));

        let inner = Inner::classify(&eth(ROUTER, POD, tags, 0x86dd, &six)).unwrap();
        assert!(matches!(inner.network, Network::Ipv6(_, payload) if payload.offset == 64));
        assert_eq!((inner.ports, inner.protocol()), (Some((1000, 53)), Some(17)));
        assert_eq!(inner.addrs(), Some((A6.into(), B6.into())));
    }
}

#[test]
fn what_is_not_ip_is_not_malformed() {
    let stp = eth(MacAddr([1, 0x80, 0xc2, 0, 0, 0]), POD, &[], 0x0026, &[0x42; 46]);
    let inner = Inner::classify(&stp).unwrap();
    assert_eq!(inner.network, Network::None);
    assert_eq!((inner.ports, inner.protocol(), inner.addrs(), inner.tos()), (None, None, None, None));
    assert!(!inner.is_fragment());
    let empty = classify(0x88cc, &[]);
    assert_eq!(empty.network, Network::None);
}

#[test]
fn what_claims_to_be_ip_or_arp_and_is_not_is_malformed_and_says_where() {
    let six = v6((A6, B6), 0, 64, &options(17, 9)[..16], &[]);
    let cases: &[(u16, Vec<u8>, Layer, R, usize)] = &[
        (0x0800, vec![], Layer::InnerIpv4, R::Truncated, 0),
        (0x0800, vec![0x60; 40], Layer::InnerIpv4, R::BadVersion, 0),
        (0x0800, V4::default().with(b"payload")[..26].to_vec(), Layer::InnerIpv4, R::Truncated, 2),
        (0x86dd, vec![0x45; 40], Layer::InnerIpv6, R::BadVersion, 0),
        (0x86dd, six, Layer::InnerIpv6, R::Truncated, 40),
        (0x0806, vec![0; 28], Layer::InnerArp, R::BadArp, 0),
        (0x0806, vec![0; 27], Layer::InnerArp, R::Truncated, 0),
    ];
    for tags in [&[][..], &[(0x8100, 7)]] {
        for (ethertype, packet, layer, reason, offset) in cases {
            let inner = Inner::classify(&eth(ROUTER, POD, tags, *ethertype, packet)).unwrap();
            let e = ParseError::new(*layer, *reason, 14 + 4 * tags.len() + offset);
            assert_eq!((inner.network, inner.ports), (Network::Malformed(e), None));
        }
    }
    let three = eth(ROUTER, POD, &[(0x8100, 1); 3], 0x0800, &[]);
    let e = ParseError::new(Layer::InnerEthernet, R::TooManyTags, 20);
    assert_eq!(Inner::classify(&three), Err(e));
    let e = ParseError::new(Layer::InnerEthernet, R::Truncated, 0);
    assert_eq!(Inner::classify(&three[..13]), Err(e));
}

// Flow hash

#[test]
fn the_fragments_of_a_datagram_have_one_hash() {
    let datagram = udp(1000, 53, &[0xee; 64]);
    let four = |fragment, part: &[u8]| classify(0x0800, &V4 { id: 99, fragment, ..V4::default() }.with(part));
    let whole = four(DF, &datagram);
    let parts = [four(MF, &datagram[..24]), four(MF | 3, &datagram[24..48]), four(6, &datagram[48..])];
    for part in &parts {
        assert!(part.is_fragment() && part.ports.is_none());
        assert_eq!(part.flow_hash(5), parts[0].flow_hash(5));
        assert_ne!(part.flow_hash(5), whole.flow_hash(5), "the port counts where it is to be seen");
    }

    let six = |extensions: &[u8], part: &[u8]| classify(0x86dd, &v6((A6, B6), 44, 64, extensions, part));
    // The first fragment shows the headers behind the fragment header, the others do not.
    for (next, behind) in [(17, vec![]), (60, options(17, 0))] {
        let first = six(&[fragment6(next, 0, true, 9), behind].concat(), &datagram[..24]);
        let later = six(&fragment6(next, 4, true, 9), &datagram[24..48]);
        let last = six(&fragment6(next, 7, false, 9), &datagram[48..]);
        for part in [&first, &later, &last] {
            assert!(part.is_fragment() && part.ports.is_none());
            assert_eq!(part.flow_hash(5), first.flow_hash(5), "{next}");
        }
    }
    // RFC 6946: an atomic fragment is a whole datagram.
    let atomic = six(&fragment6(17, 0, false, 9), &datagram);
    let plain = classify(0x86dd, &v6((A6, B6), 17, 64, &[], &datagram));
    assert_eq!((atomic.ports, atomic.flow_hash(5)), (plain.ports, plain.flow_hash(5)));
}

#[test]
fn the_hash_depends_on_the_flow_and_on_nothing_else() {
    let packet = |v4: V4, ports: (u16, u16), payload: &[u8]| {
        let frame = eth(ROUTER, POD, &[(0x8100, 9)], 0x0800, &v4.with(&udp(ports.0, ports.1, payload)));
        Inner::classify(&frame).unwrap().flow_hash(5)
    };
    let base = packet(V4::default(), (1, 2), b"one");
    let same = [
        packet(V4 { id: 77, ttl: 3, tos: 0xff, fragment: 0, ..V4::default() }, (1, 2), b"another payload"),
        packet(V4 { options: &[1; 8], ..V4::default() }, (1, 2), b""),
        v4_of(17, &udp(1, 2, b"other MACs and tags")).flow_hash(5),
    ];
    assert!(same.iter().all(|hash| *hash == base));
    let different = [
        packet(V4 { src: B4, ..V4::default() }, (1, 2), b"one"),
        packet(V4 { dst: A4, ..V4::default() }, (1, 2), b"one"),
        packet(V4 { src: B4, dst: A4, ..V4::default() }, (1, 2), b"one"),
        packet(V4 { protocol: 6, ..V4::default() }, (1, 2), b"one"),
        packet(V4::default(), (2, 1), b"one"),
        packet(V4::default(), (1, 3), b"one"),
        v4_of(17, &udp(1, 2, b"one")).flow_hash(6),
    ];
    assert!(different.iter().all(|hash| *hash != base));
    let mac =
        |dst, src, ethertype| Inner::classify(&eth(dst, src, &[], ethertype, b"x")).unwrap().flow_hash(5);
    let base = mac(ROUTER, POD, 0x88cc);
    assert_eq!(base, mac(ROUTER, POD, 0x88cc));
    for other in [mac(POD, ROUTER, 0x88cc), mac(ROUTER, ROUTER, 0x88cc), mac(ROUTER, POD, 0x88cd)] {
        assert_ne!(other, base);
    }
    // Malformed IP has no flow but that of its frame.
    assert_eq!(mac(ROUTER, POD, 0x0800), mac(ROUTER, POD, 0x0800));
}

type Family = (&'static str, Box<dyn Fn(u32) -> u32>);

/// Families of flows in which little differs from one to the next, as in a real network.
fn families() -> Vec<Family> {
    fn hash4(src: u32, dst: u32, ports: (u16, u16), seed: u32) -> u32 {
        let v4 = V4 { src: Ipv4Addr::from_bits(src), dst: Ipv4Addr::from_bits(dst), ..V4::default() };
        classify(0x0800, &v4.with(&udp(ports.0, ports.1, b""))).flow_hash(seed)
    }
    fn hash6(src: u128, dst: u128, port: u16) -> u32 {
        let addrs = (Ipv6Addr::from_bits(src), Ipv6Addr::from_bits(dst));
        classify(0x86dd, &v6(addrs, 17, 64, &[], &udp(port, 443, b""))).flow_hash(0)
    }
    fn mac(i: u32) -> MacAddr {
        MacAddr::from_u64(0x0200_0000_0000 + u64::from(i))
    }
    let (a, b) = (A4.to_bits(), B4.to_bits());
    let (a6, b6) = (A6.to_bits(), B6.to_bits());
    vec![
        ("source ports", Box::new(move |i| hash4(a, b, (i as u16, 443), 0))),
        ("source ports, another seed", Box::new(move |i| hash4(a, b, (i as u16, 443), u32::MAX))),
        ("destination ports", Box::new(move |i| hash4(a, b, (40_000, i as u16), 1))),
        ("destinations", Box::new(move |i| hash4(a, b & !0xffff | i, (40_000, 443), 1))),
        ("sources in two octets", Box::new(move |i| hash4(0x0a00_0001 | i << 8, b, (40_000, 443), 1))),
        ("pairs", Box::new(move |i| hash4(a & !0xff | i >> 8, b & !0xff | i & 0xff, (4789, 4789), 1))),
        ("seeds", Box::new(move |i| hash4(a, b, (40_000, 443), i))),
        ("IPv6 source ports", Box::new(move |i| hash6(a6, b6, i as u16))),
        ("IPv6 interface ids", Box::new(move |i| hash6(a6 & !0xffff | u128::from(i), b6, 9))),
        ("IPv6 subnets", Box::new(move |i| hash6(a6, b6 ^ u128::from(i) << 64, 9))),
        (
            "MAC addresses",
            Box::new(|i| Inner::classify(&eth(mac(i), POD, &[], 0x88cc, b"")).unwrap().flow_hash(0)),
        ),
    ]
}

#[test]
fn source_ports_are_spread_evenly() {
    const FLOWS: u32 = 1 << 14;
    const BINS: usize = 64;
    for (what, hash) in families() {
        let hashes: Vec<u32> = (0..FLOWS).map(hash).collect();
        for (first, last) in [(49_152, 65_535), (32_768, 60_999), (1, 65_535)] {
            let mut bins = [0u32; BINS];
            for hash in &hashes {
                let port = source_port(*hash, first, last);
                assert!((first..=last).contains(&port));
                let range = usize::from(last - first) + 1;
                bins[usize::from(port - first) * BINS / range] += 1;
            }
            let expected = f64::from(FLOWS) / BINS as f64;
            let chi_square: f64 = bins.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
            // 63 degrees of freedom: mean 63, standard deviation 11.2. Too even is not random either.
            assert!((20.0..130.0).contains(&chi_square), "{what} in {first}-{last}: {chi_square}");
        }
    }
}

#[test]
fn every_bit_of_a_flow_flips_each_bit_of_its_hash_half_of_the_time() {
    const SAMPLES: u32 = 256;
    for bit in 0..96 {
        let mut flips = [0u32; 32];
        for i in 0..SAMPLES {
            let of = |flip: u128| {
                // Source, destination and ports of an arbitrary flow, as one number.
                let flow = u128::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834) ^ flip;
                let v4 = V4 {
                    src: Ipv4Addr::from_bits((flow >> 64) as u32),
                    dst: Ipv4Addr::from_bits((flow >> 32) as u32),
                    ..V4::default()
                };
                v4.with(&udp((flow >> 16) as u16, flow as u16, b""))
            };
            let hash = |packet: Vec<u8>| classify(0x0800, &packet).flow_hash(7);
            let changed = hash(of(0)) ^ hash(of(1 << bit));
            flips.iter_mut().enumerate().for_each(|(n, count)| *count += changed >> n & 1);
        }
        // Binomial of 256 and 1/2: mean 128, standard deviation 8; this is 6 of them over 3072 trials.
        let fair = 80..=176;
        assert!(flips.iter().all(|n| fair.contains(n)), "bit {bit}: {flips:?}");
    }
}

#[test]
fn source_port_covers_its_range_and_nothing_else() {
    let cases = [
        (0, 49_152, 65_535, 49_152),
        (u32::MAX, 49_152, 65_535, 65_535),
        (1 << 31, 49_152, 65_535, 57_344),
        (u32::MAX, 0, 65_535, 65_535),
        (u32::MAX, 5, 5, 5),
        (u32::MAX, 9, 5, 9), // no range: its first port
    ];
    for (hash, first, last, port) in cases {
        assert_eq!(source_port(hash, first, last), port, "{hash:#x} in {first}-{last}");
    }
    for hash in (0..=u32::MAX).step_by(1 << 20) {
        let port = source_port(hash, 1000, 1009);
        let exact = 1000 + ((u64::from(hash) * 10) >> 32) as u16;
        assert_eq!(port, exact);
    }
}

proptest! {
    #[test]
    fn source_port_is_in_range(hash: u32, a: u16, b: u16) {
        let (first, last) = (a.min(b), a.max(b));
        prop_assert!((first..=last).contains(&source_port(hash, first, last)));
    }

    #[test]
    fn any_cut_into_fragments_keeps_the_hash(
        src: u32, dst: u32, protocol: u8, id: u16, seed: u32, payload in prop::collection::vec(any::<u8>(), 9..200), cut in 1usize..200,
    ) {
        let cut = cut.min((payload.len() - 1) / 8).max(1) * 8;
        let of = |fragment, part: &[u8]| {
            let v4 = V4 { src: src.into(), dst: dst.into(), protocol, id, fragment, ..V4::default() };
            classify(0x0800, &v4.with(part)).flow_hash(seed)
        };
        prop_assert_eq!(of(MF, &payload[..cut]), of((cut / 8) as u16, &payload[cut..]));

        let addrs = (Ipv6Addr::from(u128::from(src) << 64), Ipv6Addr::from(u128::from(dst)));
        // As first header of the fragmented part: anything but a second fragment header.
        let next = if protocol == 44 { 17 } else { protocol };
        let of = |offset, more, part: &[u8]| {
            let packet = v6(addrs, 44, 64, &fragment6(next, offset, more, id.into()), part);
            let inner = classify(0x86dd, &packet);
            (!matches!(inner.network, Network::Malformed(_))).then(|| inner.flow_hash(seed))
        };
        let (first, later) = (of(0, true, &payload[..cut]), of((cut / 8) as u16, false, &payload[cut..]));
        // A first fragment that breaks off in its headers cannot be read at all (RFC 7112).
        prop_assert!(first.is_none() || first == later);
        prop_assert!(later.is_some());
    }

    #[test]
    fn addresses_and_ports_come_back(src: u128, dst: u128, v4: bool, ports: (u16, u16), seed: u32) {
        let (packet, addrs): (_, (IpAddr, IpAddr)) = if v4 {
            let v4 = V4 { src: (src as u32).into(), dst: (dst as u32).into(), ..V4::default() };
            (eth(ROUTER, POD, &[], 0x0800, &v4.with(&udp(ports.0, ports.1, b""))), (v4.src.into(), v4.dst.into()))
        } else {
            let addrs = (Ipv6Addr::from(src), Ipv6Addr::from(dst));
            let packet = v6(addrs, 17, 64, &[], &udp(ports.0, ports.1, b""));
            (eth(ROUTER, POD, &[], 0x86dd, &packet), (addrs.0.into(), addrs.1.into()))
        };
        let inner = Inner::classify(&packet).unwrap();
        prop_assert_eq!(inner.addrs(), Some(addrs));
        prop_assert_eq!(inner.ports, Some(ports));
        prop_assert_eq!(inner.flow_hash(seed), Inner::classify(&packet).unwrap().flow_hash(seed));
    }

    /// The quick look and the thorough one say the same, whatever was done to the frame.
    #[test]
    fn a_flow_is_what_classification_says(
        v4: bool, protocol in prop::sample::select(vec![6u8, 17, 33, 132, 136, 1, 58, 0, 44, 47]), tags in 0usize..3, tos: u8,
        payload in prop::collection::vec(any::<u8>(), 0..40), seed: u32,
        changes in prop::collection::vec((0usize..64, any::<u8>()), 0..4), cut in 0usize..140, padding in 0usize..20,
    ) {
        let tags = &[(0x88a8, 7), (0x8100, 8)][..tags];
        let mut frame = if v4 {
            eth(ROUTER, POD, tags, 0x0800, &V4 { protocol, tos, ..V4::default() }.with(&payload))
        } else {
            eth(ROUTER, POD, tags, 0x86dd, &v6((A6, B6), protocol, 64, &[], &payload))
        };
        frame.extend(vec![0xee; padding]);
        for (at, octet) in changes {
            if let Some(o) = frame.get_mut(at) {
                *o = octet;
            }
        }
        frame.truncate(cut.max(12));
        match Inner::classify(&frame) {
            Err(e) => prop_assert_eq!(Flow::of(&frame, seed), Err(e)),
            Ok(inner) => {
                let (dst, src) = (inner.ethernet.dst, inner.ethernet.src);
                let (hash, ecn) = (inner.flow_hash(seed), inner.ecn().unwrap_or(0));
                prop_assert_eq!(Flow::of(&frame, seed), Ok(Flow { dst, src, hash, ecn }));
            }
        }
    }
}

/// The short way reads no ports that a packet's length leaves out, nor of a packet that ends behind the frame.
#[test]
fn lengths_that_lie_are_no_short_way() {
    let mut four = [0x11u8; 60];
    four[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17]);
    let mut six = [0x11u8; 80];
    six[12..21].copy_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 17]);
    for len in 0..=255 {
        (four[17], six[19]) = (len, len);
        for frame in [&four[..], &six[..]] {
            let inner = Inner::classify(frame).unwrap();
            assert_eq!(Flow::of(frame, 7).unwrap().hash, inner.flow_hash(7), "length {len}");
        }
    }
}
