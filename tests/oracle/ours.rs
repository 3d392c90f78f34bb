//! What overlane writes, read by etherparse and smoltcp.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use overlane::addr::{MacAddr, Vni};
use overlane::wire::arp::ArpPacket;
use overlane::wire::outer::{self, OuterPolicy, Shape};
use overlane::wire::reply;
use overlane::wire::template::{Fields, Template, TemplateConfig, UdpChecksum};
use overlane::wire::vxlan::{GroupPolicy, VxlanPolicy};
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpPacket as SmolArp, ArpRepr, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv4Repr,
    Ipv6Packet, Ipv6Repr, UdpPacket, UdpRepr,
};

use super::{mac, octets, v4, v6};

/// A template that can be built, of every shape, family and checksum.
fn template() -> impl Strategy<Value = (TemplateConfig, Template)> {
    let shape = prop::sample::select(vec![Shape::Udp, Shape::Ip, Shape::Ethernet]);
    let addrs = prop_oneof![
        (v4(), v4()).prop_map(|(a, b)| (IpAddr::V4(a), IpAddr::V4(b))),
        (v6(), v6()).prop_map(|(a, b)| (IpAddr::V6(a), IpAddr::V6(b))),
    ];
    (shape, addrs, 1..=u16::MAX, (mac(), mac()), 1..=u8::MAX, 0..64u8, any::<(bool, bool)>()).prop_filter_map(
        "an address that cannot be sent from",
        |(shape, (local, remote), remote_port, (local_mac, remote_mac), ttl, dscp, (df, full))| {
            let config = TemplateConfig {
                shape,
                local,
                remote,
                remote_port,
                local_mac,
                remote_mac,
                ttl,
                dscp,
                dont_fragment: df,
                udp_checksum: if full { UdpChecksum::Full } else { UdpChecksum::Zero },
            };
            Template::new(&config).ok().map(|template| (config, template))
        },
    )
}

fn fields() -> impl Strategy<Value = Fields> {
    let group = prop::option::of(any::<(u16, bool, bool)>())
        .prop_map(|group| group.map(|(id, dont_learn, applied)| GroupPolicy { id, dont_learn, applied }));
    (0..=Vni::MAX.get(), group, any::<u16>(), 0..4u8, any::<u16>()).prop_map(
        |(vni, group, source_port, ecn, ip_id)| Fields {
            vni: Vni::truncate(vni),
            group,
            source_port,
            ecn,
            ip_id,
        },
    )
}

/// The eight octets as RFC 7348, section 5 and the group policy draft, section 2.1 draw them.
fn vxlan(fields: &Fields) -> Vec<u8> {
    let vni = fields.vni.get();
    let vni = [(vni >> 16) as u8, (vni >> 8) as u8, vni as u8, 0];
    let flags = match fields.group {
        None => [0b0000_1000, 0, 0, 0],
        Some(GroupPolicy { id, dont_learn, applied }) => {
            let second = if dont_learn { 0b0100_0000 } else { 0 } | if applied { 0b0000_1000 } else { 0 };
            [0b1000_1000, second, (id >> 8) as u8, id as u8]
        }
    };
    [flags, vni].concat()
}

/// Ordinary unicast addresses: about packets between others, no ICMP error may be sent.
fn host() -> impl Strategy<Value = (Ipv4Addr, Ipv6Addr)> {
    let v4 = (0..1u32 << 24).prop_map(|host| Ipv4Addr::from_bits((10 << 24) | host));
    let v6 = any::<u64>().prop_map(|host| Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(host)));
    (v4, v6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn every_encapsulated_frame(
        (config, template) in template(),
        fields in fields(),
        inner in octets(65535 - 56),
    ) {
        // Somebody else's octets lie where the headers will.
        let mut packet = vec![0xa5; template.len()];
        packet.extend(&inner);
        prop_assert_eq!(template.write(&mut packet, &fields), Some(()));
        // Apart from the frame they are the same.
        prop_assert_eq!(&*template.header(&inner, &fields).unwrap(), &packet[..template.len()]);

        let payload = [vxlan(&fields), inner].concat();
        match config.shape {
            Shape::Udp => prop_assert_eq!(&packet, &payload),
            Shape::Ip => {
                etherparse_reads(&SlicedPacket::from_ip(&packet).unwrap(), &config, &fields, &payload);
                smoltcp_reads(&packet, &config, &fields, &payload);
            }
            Shape::Ethernet => {
                let sliced = SlicedPacket::from_ethernet(&packet).unwrap();
                let Some(etherparse::LinkSlice::Ethernet2(ethernet)) = &sliced.link else { unreachable!() };
                let link = ethernet.to_header();
                prop_assert_eq!(link.source, config.local_mac.0);
                prop_assert_eq!(link.destination, config.remote_mac.0);
                etherparse_reads(&sliced, &config, &fields, &payload);

                let frame = EthernetFrame::new_checked(&packet[..]).unwrap();
                prop_assert_eq!(frame.src_addr().0, config.local_mac.0);
                prop_assert_eq!(frame.dst_addr().0, config.remote_mac.0);
                let kind = if config.local.is_ipv4() { EthernetProtocol::Ipv4 } else { EthernetProtocol::Ipv6 };
                prop_assert_eq!(frame.ethertype(), kind);
                smoltcp_reads(frame.payload(), &config, &fields, &payload);
            }
        }

        // And back: our own parser, with everything verified that can be.
        let policy = OuterPolicy {
            ports: [config.remote_port, 0, 0, 0],
            vxlan: VxlanPolicy { group_policy: true, ..VxlanPolicy::default() },
            ..OuterPolicy::default()
        };
        let outer = outer::parse(config.shape, &packet, &policy).unwrap();
        prop_assert_eq!((outer.vxlan.vni, outer.vxlan.group), (fields.vni, fields.group));
        prop_assert_eq!(outer.payload, template.len()..packet.len());
        if config.shape != Shape::Udp {
            prop_assert_eq!((outer.src, outer.dst), (Some(config.local), Some(config.remote)));
            prop_assert_eq!((outer.udp_src, outer.udp_dst), (fields.source_port, config.remote_port));
            prop_assert_eq!(outer.ecn, fields.ecn);
        }
    }

    #[test]
    fn every_arp_packet(op in any::<u16>(), sender in (mac(), v4()), target in (mac(), v4())) {
        let arp = ArpPacket { op, sender_mac: sender.0, sender_ip: sender.1, target_mac: target.0, target_ip: target.1 };
        let bytes = arp.emit();

        let (theirs, rest) = (etherparse::ArpPacketSlice::from_slice(&bytes).unwrap().to_packet(), &bytes[28..]);
        prop_assert!(rest.is_empty());
        let theirs = theirs.try_eth_ipv4().unwrap();
        prop_assert_eq!(theirs.operation.0, op);
        prop_assert_eq!((theirs.sender_mac, theirs.sender_ipv4), (sender.0.0, sender.1.octets()));
        prop_assert_eq!((theirs.target_mac, theirs.target_ipv4), (target.0.0, target.1.octets()));

        let ArpRepr::EthernetIpv4 {
            operation, source_hardware_addr, source_protocol_addr, target_hardware_addr, target_protocol_addr,
        } = ArpRepr::parse(&SmolArp::new_checked(&bytes[..]).unwrap()).unwrap() else { unreachable!() };
        prop_assert_eq!(u16::from(operation), op);
        prop_assert_eq!((source_hardware_addr.0, source_protocol_addr), (sender.0.0, sender.1));
        prop_assert_eq!((target_hardware_addr.0, target_protocol_addr), (target.0.0, target.1));
    }

    /// The ICMP errors of the slow path: lengths, checksums and the quoted packet.
    #[test]
    fn every_icmp_error(
        src in host(),
        dst in host(),
        (router_mac, router) in (mac(), host()),
        mtu in 1280..9000u32,
        payload in octets(9000),
        six in any::<bool>(),
        expired in any::<bool>(),
        tag in prop::option::of(0..4096u16),
    ) {
        let builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let addrs = |b: etherparse::PacketBuilderStep<etherparse::Ethernet2Header>| {
            let ip = match six {
                true => etherparse::IpHeaders::Ipv6(
                    etherparse::Ipv6Header {
                        hop_limit: 64, source: src.1.octets(), destination: dst.1.octets(), ..Default::default()
                    },
                    Default::default(),
                ),
                false => {
                    let (src, dst) = (src.0.octets(), dst.0.octets());
                    let header = etherparse::Ipv4Header::new(0, 64, etherparse::ip_number::UDP, src, dst);
                    etherparse::IpHeaders::Ipv4(header.unwrap(), Default::default())
                }
            };
            match tag {
                Some(tag) => b.single_vlan(tag.try_into().unwrap()).ip(ip),
                None => b.ip(ip),
            }
        };
        let builder = addrs(builder).udp(40000, 53);
        let mut frame = Vec::new();
        builder.write(&mut frame, &payload).unwrap();

        let from = if six { IpAddr::V6(router.1) } else { IpAddr::V4(router.0) };
        let mut out = [0xa5; reply::MAX_LEN];
        let len = match expired {
            true => reply::time_exceeded(&frame, router_mac, from, &mut out),
            false => reply::packet_too_big(&frame, router_mac, from, mtu, &mut out),
        };
        let out = &out[..len.expect("an error about an ordinary packet")];
        let len = out.len();
        let sliced = SlicedPacket::from_ethernet(out).unwrap();
        prop_assert_eq!(sliced.vlan_ids().first().map(|v| v.value()), tag);
        let at = if tag.is_some() { 18 } else { 14 };
        match (sliced.net.as_ref().unwrap(), sliced.transport.as_ref().unwrap()) {
            (NetSlice::Ipv4(ip), TransportSlice::Icmpv4(icmp)) => {
                prop_assert!(!six);
                prop_assert_eq!(ip.header().source_addr(), router.0);
                prop_assert_eq!(ip.header().destination_addr(), src.0);
                prop_assert_eq!(ip.header().header_checksum(), ip.header().to_header().calc_header_checksum());
                prop_assert_eq!(usize::from(ip.header().total_len()), len - at);
                let kind = icmp.header().icmp_type;
                prop_assert_eq!(icmp.header().checksum, kind.calc_checksum(icmp.payload()));
                let expected = if expired {
                    etherparse::Icmpv4Type::TimeExceeded(etherparse::icmpv4::TimeExceededCode::TtlExceededInTransit)
                } else {
                    etherparse::Icmpv4Type::DestinationUnreachable(
                        etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu as u16 },
                    )
                };
                prop_assert_eq!(kind, expected);
                prop_assert!(frame[at..].starts_with(icmp.payload()));
            }
            (NetSlice::Ipv6(ip), TransportSlice::Icmpv6(icmp)) => {
                prop_assert!(six);
                prop_assert_eq!(ip.header().source_addr(), router.1);
                prop_assert_eq!(ip.header().destination_addr(), src.1);
                prop_assert_eq!(usize::from(ip.header().payload_length()), len - at - 40);
                let kind = icmp.header().icmp_type;
                let (from, to) = (ip.header().source(), ip.header().destination());
                prop_assert_eq!(icmp.header().checksum, kind.calc_checksum(from, to, icmp.payload()).unwrap());
                let expected = if expired {
                    etherparse::Icmpv6Type::TimeExceeded(etherparse::icmpv6::TimeExceededCode::HopLimitExceeded)
                } else {
                    etherparse::Icmpv6Type::PacketTooBig { mtu }
                };
                prop_assert_eq!(kind, expected);
                prop_assert!(frame[at..].starts_with(icmp.payload()));
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }
}

/// A checksum that comes out as zero is sent as its other zero, since zero says "none" (RFC 768).
/// Random frames meet it once in 65,536.
#[test]
fn a_checksum_of_zero() {
    for (local, remote) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
        let config = TemplateConfig {
            shape: Shape::Ip,
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            remote_port: 4789,
            local_mac: MacAddr::ZERO,
            remote_mac: MacAddr::ZERO,
            ttl: 64,
            dscp: 0,
            dont_fragment: true,
            udp_checksum: UdpChecksum::Full,
        };
        let template = Template::new(&config).unwrap();
        let fields = Fields { vni: Vni::truncate(7), source_port: 50000, ..Fields::default() };
        let mut packet = vec![0; template.len() + 60];
        template.write(&mut packet, &fields).unwrap();
        // The checksum makes up for all the rest: put into the frame, nothing is left to make up for.
        let at = template.len() - 10;
        let (check, end) = ([packet[at], packet[at + 1]], packet.len() - 2);
        packet[end..].copy_from_slice(&check);
        template.write(&mut packet, &fields).unwrap();
        assert_eq!(packet[at..at + 2], [0xff, 0xff]);
        let payload = &packet[template.len() - 8..];
        etherparse_reads(&SlicedPacket::from_ip(&packet).unwrap(), &config, &fields, payload);
        smoltcp_reads(&packet, &config, &fields, payload);
    }
}

fn etherparse_reads(sliced: &SlicedPacket<'_>, config: &TemplateConfig, fields: &Fields, payload: &[u8]) {
    assert!(sliced.link_exts.is_empty());
    let Some(TransportSlice::Udp(udp)) = &sliced.transport else { panic!("{sliced:?}") };
    let checksum = match (sliced.net.as_ref().unwrap(), config.local, config.remote) {
        (NetSlice::Ipv4(ip), IpAddr::V4(local), IpAddr::V4(remote)) => {
            let header = ip.header();
            assert_eq!((header.source_addr(), header.destination_addr()), (local, remote));
            assert_eq!((header.ttl(), header.identification()), (config.ttl, fields.ip_id));
            assert_eq!((header.dcp().value(), header.ecn().value()), (config.dscp, fields.ecn));
            assert_eq!((header.dont_fragment(), ip.is_payload_fragmented()), (config.dont_fragment, false));
            assert_eq!(header.ihl(), 5);
            assert_eq!(usize::from(header.total_len()), 20 + 8 + payload.len());
            assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
            udp.to_header().calc_checksum_ipv4(&header.to_header(), udp.payload()).unwrap()
        }
        (NetSlice::Ipv6(ip), IpAddr::V6(local), IpAddr::V6(remote)) => {
            let header = ip.header();
            assert_eq!((header.source_addr(), header.destination_addr()), (local, remote));
            assert_eq!(header.hop_limit(), config.ttl);
            assert_eq!((header.dscp().value(), header.ecn().value()), (config.dscp, fields.ecn));
            assert!(ip.extensions().is_empty());
            assert_eq!(usize::from(header.payload_length()), 8 + payload.len());
            udp.to_header().calc_checksum_ipv6(&header.to_header(), udp.payload()).unwrap()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!((udp.source_port(), udp.destination_port()), (fields.source_port, config.remote_port));
    assert_eq!(usize::from(udp.length()), 8 + payload.len());
    assert_eq!(udp.payload(), payload);
    let expected = match config.udp_checksum {
        UdpChecksum::Zero => 0,
        UdpChecksum::Full => checksum,
    };
    assert_eq!(udp.checksum(), expected);
}

fn smoltcp_reads(packet: &[u8], config: &TemplateConfig, fields: &Fields, payload: &[u8]) {
    let tos = (config.dscp << 2) | fields.ecn;
    let udp = match config.local {
        IpAddr::V4(_) => {
            let ip = Ipv4Packet::new_checked(packet).unwrap();
            // It refuses a wrong checksum.
            let repr = Ipv4Repr::parse(&ip, &ChecksumCapabilities::default()).unwrap();
            assert_eq!((IpAddr::V4(repr.src_addr), IpAddr::V4(repr.dst_addr)), (config.local, config.remote));
            assert_eq!((repr.next_header, repr.hop_limit), (IpProtocol::Udp, config.ttl));
            assert_eq!(((ip.dscp() << 2) | ip.ecn(), ip.ident()), (tos, fields.ip_id));
            assert_eq!(ip.dont_frag(), config.dont_fragment);
            ip.payload()
        }
        IpAddr::V6(_) => {
            let ip = Ipv6Packet::new_checked(packet).unwrap();
            let repr = Ipv6Repr::parse(&ip).unwrap();
            assert_eq!((IpAddr::V6(repr.src_addr), IpAddr::V6(repr.dst_addr)), (config.local, config.remote));
            assert_eq!((repr.next_header, repr.hop_limit), (IpProtocol::Udp, config.ttl));
            assert_eq!(ip.traffic_class(), tos);
            ip.payload()
        }
    };
    let udp = UdpPacket::new_checked(udp).unwrap();
    let (local, remote) = (config.local.into(), config.remote.into());
    let repr = UdpRepr::parse(&udp, &local, &remote, &ChecksumCapabilities::default()).unwrap();
    assert_eq!((repr.src_port, repr.dst_port), (fields.source_port, config.remote_port));
    assert_eq!(udp.checksum() == 0, config.udp_checksum == UdpChecksum::Zero);
    assert_eq!(udp.payload(), payload);
}
