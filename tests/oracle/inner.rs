//! Classification of inner frames, whole and damaged, as etherparse slices them.

use std::net::IpAddr;

use etherparse::{
    ArpPacketSlice, Ethernet2Slice, IpNumber, Ipv4Slice, Ipv6Slice, SingleVlanSlice, TransportSlice,
    ip_number,
};
use overlane::error::{DropReason, Layer};
use overlane::wire::ethernet::ethertype;
use overlane::wire::inner::{Inner, Network};
use proptest::prelude::*;

use super::octets;

fn upper_protocol() -> impl Strategy<Value = u8> {
    prop_oneof![
        8 => prop::sample::select(vec![1u8, 6, 17, 33, 50, 58, 59, 132, 136]),
        1 => any::<u8>(),
    ]
}

fn ipv4_packet() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![3 => Just(0u16), 1 => Just(0x4000), 1 => Just(0x2000), 1 => any::<u16>()];
    // Mostly right: the total length as an error of so many octets, the header length in words.
    let (off, ihl) = (prop_oneof![6 => Just(0i32), 1 => -40..40], prop_oneof![6 => 5..=15u8, 1 => 0..16u8]);
    (any::<[u8; 20]>(), ihl, off, fragment, upper_protocol(), octets(300), any::<[u8; 40]>()).prop_map(
        |(mut h, ihl, off, fragment, protocol, payload, options)| {
            let options = &options[..usize::from(ihl.saturating_sub(5)) * 4];
            let total = (20 + options.len() + payload.len()) as i32 + off;
            h[0] = 0x40 | ihl;
            h[2..4].copy_from_slice(&(total.max(0) as u16).to_be_bytes());
            h[6..8].copy_from_slice(&fragment.to_be_bytes());
            h[9] = protocol;
            [&h[..], options, &payload].concat()
        },
    )
}

fn ipv6_packet() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop::sample::select(vec![0u8, 43, 60, 60, 44, 51]);
    let extension = (kinds, 0..4u8, any::<[u8; 40]>(), any::<bool>());
    let off = prop_oneof![6 => Just(0i32), 1 => -40..40];
    let chain = prop_oneof![4 => prop::collection::vec(extension.clone(), 0..4), 1 => prop::collection::vec(extension, 0..12)];
    (any::<[u8; 40]>(), off, chain, upper_protocol(), octets(300)).prop_map(
        |(mut h, off, chain, protocol, payload)| {
            let mut body = Vec::new();
            for (i, (kind, words, data, whole)) in chain.iter().enumerate() {
                let next = chain.get(i + 1).map_or(protocol, |next| next.0);
                let mut header = vec![next, *words];
                let len = match kind {
                    44 => 8,
                    51 => usize::from(words + 2) * 4,
                    _ => usize::from(words + 1) * 8,
                };
                header.extend(&data[..len - 2]);
                if *kind == 44 && *whole {
                    header[2..4].fill(0);
                }
                body.extend(header);
            }
            body.extend(payload);
            h[0] = 0x60 | (h[0] & 0x0f);
            h[4..6].copy_from_slice(&((body.len() as i32 + off).max(0) as u16).to_be_bytes());
            h[6] = chain.first().map_or(protocol, |first| first.0);
            [&h[..], &body].concat()
        },
    )
}

fn arp_packet() -> impl Strategy<Value = Vec<u8>> {
    let form = prop_oneof![
        4 => Just([0, 1, 8, 0, 6, 4]),
        1 => any::<[u8; 6]>().prop_map(|mut form| { form[4] %= 9; form[5] %= 17; form }),
    ];
    (form, prop::collection::vec(any::<u8>(), 22..60)).prop_map(|(form, rest)| [&form[..], &rest].concat())
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let tag = (prop::sample::select(vec![ethertype::VLAN, ethertype::QINQ]), any::<u16>());
    let tags = prop_oneof![4 => prop::collection::vec(tag.clone(), 0..=2), 1 => Just(vec![]), 1 => prop::collection::vec(tag, 3..=4)];
    let network = prop_oneof![
        6 => ipv4_packet().prop_map(|p| (ethertype::IPV4, p)),
        6 => ipv6_packet().prop_map(|p| (ethertype::IPV6, p)),
        2 => arp_packet().prop_map(|p| (ethertype::ARP, p)),
        1 => (any::<u16>(), octets(100)),
    ];
    let changes =
        prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec((0..120usize, any::<u8>()), 1..4)];
    let cut = prop_oneof![3 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)];
    let padding = prop_oneof![2 => Just(0usize), 1 => 0..60usize];
    (any::<[u8; 12]>(), tags, network, changes, cut, padding).prop_map(
        |(macs, tags, (kind, packet), changes, cut, padding)| {
            let mut frame = macs.to_vec();
            for (tpid, control) in tags {
                frame.extend([tpid.to_be_bytes(), control.to_be_bytes()].concat());
            }
            frame.extend(kind.to_be_bytes());
            frame.extend(packet);
            frame.resize(frame.len() + padding, 0);
            for (at, octet) in changes {
                if let Some(o) = frame.get_mut(at) {
                    *o = octet;
                }
            }
            if let Some(at) = cut {
                frame.truncate(at.index(frame.len() + 1));
            }
            frame
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn classification(frame in frame()) {
        check(&frame);
    }
}

fn check(frame: &[u8]) {
    let inner = Inner::classify(frame);
    let Ok(ethernet) = Ethernet2Slice::from_slice_without_fcs(frame) else {
        let e = inner.expect_err("shorter than an Ethernet header");
        assert_eq!((e.reason(), e.layer(), e.offset()), (DropReason::Truncated, Layer::InnerEthernet, 0));
        return;
    };
    // Tags: etherparse takes any number of them one by one, as asked.
    let mut kind = ethernet.ether_type().0;
    let mut rest = ethernet.payload_slice();
    let mut tags = Vec::new();
    while matches!(kind, ethertype::VLAN | ethertype::QINQ) && tags.len() < 3 {
        if tags.len() == 2 {
            let e = inner.expect_err("a third tag");
            assert_eq!(
                (e.reason(), e.layer(), e.offset()),
                (DropReason::TooManyTags, Layer::InnerEthernet, 20)
            );
            return;
        }
        let Ok(tag) = SingleVlanSlice::from_slice(rest) else {
            let e = inner.expect_err("a tag cut off");
            assert_eq!((e.reason(), e.layer()), (DropReason::Truncated, Layer::InnerEthernet));
            assert_eq!(e.offset(), 12 + 4 * tags.len());
            return;
        };
        kind = tag.ether_type().0;
        rest = &rest[4..];
        tags.push(tag);
    }
    let inner = inner.unwrap();
    let ours = inner.ethernet;
    assert_eq!((ours.dst.0, ours.src.0), (ethernet.destination(), ethernet.source()));
    assert_eq!((ours.ethertype, usize::from(ours.tags)), (kind, tags.len()));
    assert_eq!(usize::from(ours.payload_offset), frame.len() - rest.len());
    let outermost = tags.first().map(|tag| {
        let (pcp, dei) = (tag.priority_code_point().value(), tag.drop_eligible_indicator());
        (ethernet.ether_type().0, pcp, dei, tag.vlan_identifier().value())
    });
    assert_eq!(ours.vlan.map(|tag| (tag.tpid, tag.pcp, tag.dei, tag.vid)), outermost);

    match kind {
        ethertype::IPV4 => check_ipv4(&inner, rest),
        ethertype::IPV6 => check_ipv6(&inner, rest),
        ethertype::ARP => check_arp(&inner, rest),
        _ => {
            assert_eq!(inner.network, Network::None);
            assert_eq!((inner.addrs(), inner.protocol(), inner.ports), (None, None, None));
        }
    }
    if let Network::Malformed(e) = inner.network {
        assert!((usize::from(ours.payload_offset)..=frame.len()).contains(&e.offset()), "{e}");
        assert_eq!((inner.addrs(), inner.protocol(), inner.ports), (None, None, None));
        assert!(!inner.is_fragment());
    }
}

fn check_ipv4(inner: &Inner, packet: &[u8]) {
    use etherparse::err::ipv4::SliceError;
    let sliced = match Ipv4Slice::from_slice(packet) {
        Ok(sliced) => sliced,
        // Behind IPv4, an authentication header is not looked into: it is what the protocol names.
        Err(SliceError::Exts(_)) => return,
        Err(SliceError::Len(e)) if e.layer == etherparse::err::Layer::IpAuthHeader => return,
        Err(e) => {
            let Network::Malformed(ours) = inner.network else { panic!("{e} and {:?}", inner.network) };
            assert_eq!(ours.layer(), Layer::InnerIpv4);
            let bad_content = matches!(e, SliceError::Header(_));
            assert_eq!(
                bad_content,
                matches!(ours.reason(), DropReason::BadVersion | DropReason::BadHeaderLength),
                "{e} and {ours}"
            );
            return;
        }
    };
    let Network::Ipv4(ours) = inner.network else { panic!("{:?}", inner.network) };
    let header = sliced.header();
    assert_eq!((ours.src, ours.dst), (header.source_addr(), header.destination_addr()));
    assert_eq!(inner.addrs(), Some((IpAddr::V4(ours.src), IpAddr::V4(ours.dst))));
    assert_eq!(inner.protocol(), Some(header.protocol().0));
    assert_eq!((ours.ttl, ours.id), (header.ttl(), header.identification()));
    assert_eq!(ours.tos, (header.dcp().value() << 2) | header.ecn().value());
    assert_eq!(inner.tos(), Some(ours.tos));
    assert_eq!((ours.dont_fragment, ours.more_fragments), (header.dont_fragment(), header.more_fragments()));
    assert_eq!(ours.fragment_offset, header.fragments_offset().value());
    assert_eq!((ours.header_len / 4, ours.total_len), (header.ihl(), header.total_len()));
    assert_eq!(inner.is_fragment(), sliced.is_payload_fragmented());
    let payload = sliced.payload();
    check_ports(inner, header.protocol(), sliced.is_payload_fragmented(), payload.payload);
}

fn check_ipv6(inner: &Inner, packet: &[u8]) {
    use etherparse::err::ipv6::SliceError;
    let sliced = Ipv6Slice::from_slice(packet);
    let stopped = match inner.network {
        // Two bounds that etherparse has not.
        Network::Malformed(e) if e.reason() == DropReason::TooManyExtensions => true,
        // A length of zero is an empty payload, unless the frame is a superframe (RFC 8200, section
        // 3); etherparse takes whatever follows.
        _ if packet.len() > 40 && packet[4..6] == [0, 0] => true,
        // Behind the header of a later fragment is a piece of something; etherparse goes on reading.
        Network::Ipv6(_, payload) => payload.fragment.is_some_and(|f| f.offset != 0),
        _ => false,
    };
    if stopped {
        if let Network::Ipv6(ours, _) = inner.network {
            assert_eq!(inner.addrs(), Some((IpAddr::V6(ours.src), IpAddr::V6(ours.dst))));
            assert_eq!(&packet[8..24], ours.src.octets());
            assert_eq!(&packet[24..40], ours.dst.octets());
        }
        return;
    }
    let sliced = match sliced {
        Ok(sliced) => sliced,
        // Hop-by-hop options in the wrong place, or an authentication header of less than 12 octets:
        // a host's business, not a bridge's.
        Err(SliceError::Exts(_)) => return,
        Err(SliceError::Len(e)) if e.layer == etherparse::err::Layer::IpAuthHeader && e.len < 12 => return,
        Err(e) => {
            let Network::Malformed(ours) = inner.network else { panic!("{e} and {:?}", inner.network) };
            assert_eq!(ours.layer(), Layer::InnerIpv6);
            let expected = match e {
                SliceError::Header(_) => DropReason::BadVersion,
                _ => DropReason::Truncated,
            };
            assert_eq!(ours.reason(), expected, "{e}");
            return;
        }
    };
    let Network::Ipv6(ours, upper) = inner.network else { panic!("{:?}", inner.network) };
    let header = sliced.header();
    assert_eq!((ours.src, ours.dst), (header.source_addr(), header.destination_addr()));
    assert_eq!(inner.addrs(), Some((IpAddr::V6(ours.src), IpAddr::V6(ours.dst))));
    assert_eq!((ours.hop_limit, ours.next_header), (header.hop_limit(), header.next_header().0));
    assert_eq!((ours.traffic_class, ours.flow_label), (header.traffic_class(), header.flow_label().value()));
    assert_eq!(inner.tos(), Some(header.traffic_class()));
    assert_eq!(ours.payload_len, header.payload_length());
    let payload = sliced.payload();
    assert_eq!(inner.protocol(), Some(payload.ip_number.0));
    assert_eq!(usize::from(upper.offset), 40 + sliced.extensions().slice().len());
    assert_eq!(inner.is_fragment(), sliced.is_payload_fragmented());
    check_ports(inner, payload.ip_number, sliced.is_payload_fragmented(), payload.payload);
}

/// Ports: as etherparse has them where it reads the transport, and else the first four octets of
/// those that start with ports.
fn check_ports(inner: &Inner, protocol: IpNumber, fragment: bool, payload: &[u8]) {
    use etherparse::{TcpSlice, UdpSlice};
    let transport = match protocol {
        ip_number::UDP => UdpSlice::from_slice(payload).ok().map(TransportSlice::Udp),
        ip_number::TCP => TcpSlice::from_slice(payload).ok().map(TransportSlice::Tcp),
        _ => None,
    };
    let ports = match transport {
        Some(TransportSlice::Udp(udp)) => Some((udp.source_port(), udp.destination_port())),
        Some(TransportSlice::Tcp(tcp)) => Some((tcp.source_port(), tcp.destination_port())),
        _ if !matches!(protocol.0, 6 | 17 | 33 | 132 | 136) => None,
        _ => payload
            .first_chunk()
            .map(|p: &[u8; 4]| (u16::from_be_bytes([p[0], p[1]]), u16::from_be_bytes([p[2], p[3]]))),
    };
    assert_eq!(inner.ports, if fragment { None } else { ports });
}

fn check_arp(inner: &Inner, packet: &[u8]) {
    let for_us = packet.first_chunk::<6>() == Some(&[0, 1, 8, 0, 6, 4]);
    match inner.network {
        Network::Arp(ours) => {
            let theirs = ArpPacketSlice::from_slice(packet).unwrap().to_packet().try_eth_ipv4().unwrap();
            assert_eq!(ours.op, theirs.operation.0);
            assert_eq!((ours.sender_mac.0, ours.sender_ip.octets()), (theirs.sender_mac, theirs.sender_ipv4));
            assert_eq!((ours.target_mac.0, ours.target_ip.octets()), (theirs.target_mac, theirs.target_ipv4));
            assert_eq!((inner.addrs(), inner.protocol(), inner.ports), (None, None, None));
        }
        Network::Malformed(e) => {
            assert_eq!(e.layer(), Layer::InnerArp);
            assert_eq!(e.reason() == DropReason::Truncated, packet.len() < 28, "{e}");
            assert!(packet.len() < 28 || !for_us);
        }
        other => panic!("{other:?}"),
    }
}
