//! What etherparse and smoltcp write, read by overlane.

use std::net::IpAddr;

use etherparse::{
    IpAuthHeader, IpFragOffset, IpHeaders, IpNumber, Ipv4Header, Ipv6Extensions, Ipv6FragmentHeader,
    Ipv6Header as TheirIpv6, Ipv6RawExtHeader, Ipv6RoutingExtensions, PacketBuilder, SingleVlanHeader,
    VlanHeader, ip_number,
};
use overlane::wire::arp::ArpPacket;
use overlane::wire::checksum;
use overlane::wire::ethernet::{EthernetHeader, VlanTag, ethertype};
use overlane::wire::inner::{Inner, Network};
use overlane::wire::ipv4::{self, Ipv4Header as OurIpv4};
use overlane::wire::ipv6::{Ipv6Header as OurIpv6, skip_extensions};
use overlane::wire::udp::UdpHeader;
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire as smol;

use super::{mac, octets, v4, v6};

fn tag() -> impl Strategy<Value = SingleVlanHeader> {
    (0..8u8, any::<bool>(), 0..4096u16).prop_map(|(pcp, dei, id)| SingleVlanHeader {
        pcp: pcp.try_into().unwrap(),
        drop_eligible_indicator: dei,
        vlan_id: id.try_into().unwrap(),
        ether_type: etherparse::EtherType(0), // filled in by the builder
    })
}

fn tags() -> impl Strategy<Value = Vec<SingleVlanHeader>> {
    prop::collection::vec(tag(), 0..=2)
}

fn raw_extension() -> impl Strategy<Value = Ipv6RawExtHeader> {
    (0..6usize, any::<u8>()).prop_map(|(words, octet)| {
        Ipv6RawExtHeader::new_raw(IpNumber(0), &vec![octet; 6 + 8 * words]).unwrap()
    })
}

fn extensions() -> impl Strategy<Value = Ipv6Extensions> {
    let optional = || prop::option::of(raw_extension());
    let routing = prop::option::of((raw_extension(), optional()));
    // An atomic fragment: others would leave nothing to compare behind it.
    let fragment = prop::option::of(any::<u32>());
    let auth = prop::option::of(0..5usize);
    (optional(), optional(), routing, fragment, auth).prop_map(|(hop, dest, routing, fragment, auth)| {
        Ipv6Extensions {
            hop_by_hop_options: hop,
            destination_options: dest,
            routing: routing
                .map(|(routing, last)| Ipv6RoutingExtensions { routing, final_destination_options: last }),
            fragment: fragment.map(|id| Ipv6FragmentHeader::new(IpNumber(0), IpFragOffset::ZERO, false, id)),
            auth: auth.map(|words| IpAuthHeader::new(IpNumber(0), 1, 2, &vec![7; 4 * words]).unwrap()),
        }
    })
}

/// What overlane should say of an Ethernet header with these tags.
fn expected_ethernet(tags: &[SingleVlanHeader], kind: u16) -> EthernetHeader {
    let vlan = tags.first().map(|tag| VlanTag {
        tpid: if tags.len() == 2 { ethertype::QINQ } else { ethertype::VLAN },
        pcp: tag.pcp.value(),
        dei: tag.drop_eligible_indicator,
        vid: tag.vlan_id.value(),
    });
    EthernetHeader {
        dst: overlane::addr::MacAddr([2, 0, 0, 0, 0, 2]),
        src: overlane::addr::MacAddr([2, 0, 0, 0, 0, 1]),
        ethertype: kind,
        vlan,
        tags: tags.len() as u8,
        payload_offset: 14 + 4 * tags.len() as u16,
    }
}

/// A UDP packet as etherparse builds it.
fn built(tags: &[SingleVlanHeader], ip: IpHeaders, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = match tags {
        [] => ethernet.ip(ip),
        [one] => ethernet.vlan(VlanHeader::Single(one.clone())).ip(ip),
        [outer, inner, ..] => {
            let (outer, inner) = (outer.clone(), inner.clone());
            ethernet.vlan(VlanHeader::Double(etherparse::DoubleVlanHeader { outer, inner })).ip(ip)
        }
    };
    let builder = ip.udp(ports.0, ports.1);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

/// The UDP header at the start of `datagram`, and its checksum, which must be right.
fn check_udp(src: IpAddr, dst: IpAddr, datagram: &[u8], ports: (u16, u16), payload: &[u8]) {
    let udp = UdpHeader::parse(datagram).unwrap();
    assert_eq!((udp.src_port, udp.dst_port), ports);
    assert_eq!(usize::from(udp.length), 8 + payload.len());
    assert_eq!(&datagram[8..8 + payload.len()], payload);
    assert!(checksum::verify_udp(src, dst, datagram));
    assert_eq!(checksum::udp_checksum(src, dst, datagram), udp.checksum);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn etherparse_ipv4(
        tags in tags(),
        (src, dst) in (v4(), v4()),
        options in 0..=10usize,
        (tos, ttl, id, df) in any::<(u8, u8, u16, bool)>(),
        ports in any::<(u16, u16)>(),
        payload in octets(9000),
    ) {
        let mut ip = Ipv4Header::new(0, ttl, ip_number::UDP, src.octets(), dst.octets()).unwrap();
        ip.dscp = (tos >> 2).try_into().unwrap();
        ip.ecn = (tos & 3).try_into().unwrap();
        ip.identification = id;
        ip.dont_fragment = df;
        ip.options = vec![1; 4 * options].as_slice().try_into().unwrap();
        let frame = built(&tags, IpHeaders::Ipv4(ip, Default::default()), ports, &payload);

        let inner = Inner::classify(&frame).unwrap();
        prop_assert_eq!(inner.ethernet, expected_ethernet(&tags, ethertype::IPV4));
        let expected = OurIpv4 {
            src, dst, protocol: 17, ttl, tos, id,
            dont_fragment: df,
            more_fragments: false,
            fragment_offset: 0,
            header_len: (20 + 4 * options) as u8,
            total_len: (20 + 4 * options + 8 + payload.len()) as u16,
        };
        prop_assert_eq!(inner.network, Network::Ipv4(expected));
        prop_assert_eq!(inner.ports, Some(ports));
        let packet = &frame[usize::from(inner.ethernet.payload_offset)..];
        prop_assert!(ipv4::verify_checksum(packet));
        check_udp(src.into(), dst.into(), &packet[usize::from(expected.header_len)..], ports, &payload);
    }

    #[test]
    fn etherparse_ipv6(
        tags in tags(),
        (src, dst) in (v6(), v6()),
        extensions in extensions(),
        (traffic_class, hop_limit, flow_label) in (any::<u8>(), any::<u8>(), 0..1u32 << 20),
        ports in any::<(u16, u16)>(),
        payload in octets(9000),
    ) {
        let len = extensions.header_len();
        let first = extensions.clone().set_next_headers(ip_number::UDP);
        let fragment = extensions.fragment.as_ref().map(|f| f.identification);
        let ip = TheirIpv6 {
            traffic_class,
            flow_label: flow_label.try_into().unwrap(),
            hop_limit,
            source: src.octets(),
            destination: dst.octets(),
            ..Default::default()
        };
        let frame = built(&tags, IpHeaders::Ipv6(ip, extensions), ports, &payload);

        let inner = Inner::classify(&frame).unwrap();
        prop_assert_eq!(inner.ethernet, expected_ethernet(&tags, ethertype::IPV6));
        let Network::Ipv6(header, upper) = inner.network else {
            panic!("{:?}", inner.network)
        };
        prop_assert_eq!(header, OurIpv6 {
            src, dst, traffic_class, flow_label, hop_limit,
            payload_len: (len + 8 + payload.len()) as u16,
            next_header: first.0,
        });
        prop_assert_eq!((upper.protocol, usize::from(upper.offset)), (17, 40 + len));
        prop_assert_eq!(upper.fragment.map(|f| (f.id, f.offset, f.more)), fragment.map(|id| (id, 0, false)));
        prop_assert_eq!(inner.ports, Some(ports));
        let packet = &frame[usize::from(inner.ethernet.payload_offset)..];
        check_udp(src.into(), dst.into(), &packet[40 + len..], ports, &payload);
    }

    #[test]
    fn smoltcp_udp(
        (src_mac, dst_mac) in (mac(), mac()),
        (src4, dst4) in (v4(), v4()),
        (src6, dst6) in (v6(), v6()),
        six in any::<bool>(),
        hop_limit in 1..=u8::MAX,
        ports in (any::<u16>(), 1..=u16::MAX),
        payload in octets(9000),
    ) {
        let checksums = ChecksumCapabilities::default();
        let head = if six { 40 } else { 20 };
        let mut frame = vec![0; 14 + head + 8 + payload.len()];
        smol::EthernetRepr {
            src_addr: smol::EthernetAddress(src_mac.0),
            dst_addr: smol::EthernetAddress(dst_mac.0),
            ethertype: if six { smol::EthernetProtocol::Ipv6 } else { smol::EthernetProtocol::Ipv4 },
        }
        .emit(&mut smol::EthernetFrame::new_unchecked(&mut frame));
        let (src, dst): (IpAddr, IpAddr) =
            if six { (src6.into(), dst6.into()) } else { (src4.into(), dst4.into()) };
        let (ip, udp) = frame[14..].split_at_mut(head);
        let payload_len = udp.len();
        match six {
            true => smol::Ipv6Repr {
                src_addr: src6, dst_addr: dst6, next_header: smol::IpProtocol::Udp, payload_len, hop_limit,
            }
            .emit(&mut smol::Ipv6Packet::new_unchecked(ip)),
            false => smol::Ipv4Repr {
                src_addr: src4, dst_addr: dst4, next_header: smol::IpProtocol::Udp, payload_len, hop_limit,
            }
            .emit(&mut smol::Ipv4Packet::new_unchecked(ip), &checksums),
        }
        smol::UdpRepr { src_port: ports.0, dst_port: ports.1 }.emit(
            &mut smol::UdpPacket::new_unchecked(udp),
            &src.into(),
            &dst.into(),
            payload.len(),
            |room| room.copy_from_slice(&payload),
            &checksums,
        );

        let inner = Inner::classify(&frame).unwrap();
        prop_assert_eq!((inner.ethernet.src, inner.ethernet.dst), (src_mac, dst_mac));
        prop_assert_eq!(inner.ethernet.vlan, None);
        prop_assert_eq!(inner.addrs(), Some((src, dst)));
        prop_assert_eq!((inner.protocol(), inner.ports), (Some(17), Some(ports)));
        match inner.network {
            Network::Ipv4(ip) => {
                prop_assert_eq!((ip.ttl, ip.dont_fragment), (hop_limit, true));
                prop_assert!(ipv4::verify_checksum(&frame[14..]));
                // The header that we would write is the same, octet by octet.
                prop_assert_eq!(&ip.emit()[..], &frame[14..34]);
            }
            Network::Ipv6(ip, _) => {
                prop_assert_eq!(ip.hop_limit, hop_limit);
                prop_assert_eq!(&ip.emit()[..], &frame[14..54]);
            }
            other => prop_assert!(false, "{other:?}"),
        }
        check_udp(src, dst, &frame[14 + head..], ports, &payload);
    }

    #[test]
    fn smoltcp_ipv6_extensions(
        (src, dst) in (v6(), v6()),
        pad in 0..3u8,
        (offset, more, id) in (prop_oneof![Just(0u16), 0..8192u16], any::<bool>(), any::<u32>()),
        protocol in prop::sample::select(vec![6u8, 17, 58, 132]),
        payload in octets(1400),
    ) {
        // Hop-by-hop options with one padding option that fills them, then a fragment header.
        let options_len = 6 + 8 * usize::from(pad);
        let mut hop = vec![0; 2 + options_len];
        let mut header = smol::Ipv6ExtHeader::new_unchecked(&mut hop[..]);
        header.set_next_header(smol::IpProtocol::Ipv6Frag);
        header.set_header_len(pad);
        let mut repr = smol::Ipv6HopByHopRepr { options: Default::default() };
        repr.push_padn_option(options_len as u8 - 2);
        repr.emit(&mut smol::Ipv6HopByHopHeader::new_unchecked(header.payload_mut()));

        let mut fragment = vec![0; 8];
        let mut header = smol::Ipv6ExtHeader::new_unchecked(&mut fragment[..]);
        header.set_next_header(protocol.into());
        smol::Ipv6FragmentRepr { frag_offset: offset, more_frags: more, ident: id }
            .emit(&mut smol::Ipv6FragmentHeader::new_unchecked(&mut fragment[2..]));

        let mut packet = vec![0; 40];
        smol::Ipv6Repr {
            src_addr: src,
            dst_addr: dst,
            next_header: smol::IpProtocol::HopByHop,
            payload_len: hop.len() + 8 + payload.len(),
            hop_limit: 64,
        }
        .emit(&mut smol::Ipv6Packet::new_unchecked(&mut packet[..]));
        let packet = [packet, hop.clone(), fragment, payload].concat();

        let ip = OurIpv6::parse(&packet).unwrap();
        prop_assert_eq!((ip.src, ip.dst, ip.next_header), (src, dst, 0));
        let upper = skip_extensions(&packet, &ip).unwrap();
        prop_assert_eq!((upper.protocol, usize::from(upper.offset)), (protocol, 40 + hop.len() + 8));
        let f = upper.fragment.unwrap();
        prop_assert_eq!((f.offset, f.more, f.id, f.next_header), (offset, more, id, protocol));
        prop_assert_eq!(upper.is_fragment(), offset != 0 || more);
    }

    #[test]
    fn smoltcp_arp(reply in any::<bool>(), sender in (mac(), v4()), target in (mac(), v4())) {
        let operation = if reply { smol::ArpOperation::Reply } else { smol::ArpOperation::Request };
        let mut bytes = [0; 28];
        smol::ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: smol::EthernetAddress(sender.0.0),
            source_protocol_addr: sender.1,
            target_hardware_addr: smol::EthernetAddress(target.0.0),
            target_protocol_addr: target.1,
        }
        .emit(&mut smol::ArpPacket::new_unchecked(&mut bytes[..]));
        let arp = ArpPacket {
            op: operation.into(),
            sender_mac: sender.0,
            sender_ip: sender.1,
            target_mac: target.0,
            target_ip: target.1,
        };
        prop_assert_eq!(ArpPacket::parse(&bytes), Ok(arp));
        prop_assert_eq!(arp.emit(), bytes);
    }
}
