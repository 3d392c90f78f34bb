use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlane::addr::{MacAddr, Vni};
use overlane::wire::outer::{self, OuterPolicy, Shape};
use overlane::wire::template::{Fields, MAX_LEN, Template, TemplateConfig, TemplateError, UdpChecksum};
use overlane::wire::vxlan::{GroupPolicy, ReservedBits, VxlanPolicy};
use proptest::prelude::*;

use crate::build::{POD, ROUTER, naive_checksum, pseudo};

const L4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const R4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const L6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
const R6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));

fn config(shape: Shape, (local, remote): (IpAddr, IpAddr)) -> TemplateConfig {
    TemplateConfig {
        shape,
        local,
        remote,
        remote_port: 4789,
        local_mac: POD,
        remote_mac: ROUTER,
        ttl: 64,
        dscp: 0,
        dont_fragment: true,
        udp_checksum: UdpChecksum::Zero,
    }
}

fn fields() -> Fields {
    Fields { vni: Vni::truncate(0x0a0b0c), group: None, source_port: 0xc001, ecn: 0b10, ip_id: 0x1234 }
}

#[test]
fn the_headers_octet_by_octet() {
    let config = TemplateConfig { dscp: 46, ..config(Shape::Ethernet, (L4, R4)) };
    let mut packet = [0xaa; 50 + 4];
    Template::new(&config).unwrap().write(&mut packet, &fields()).unwrap();
    #[rustfmt::skip]
    let expected = [
        2, 0, 0, 0, 0, 0xfe, 2, 0, 0, 0, 0, 1, 0x08, 0x00,
        0x45, 0xba, 0, 40, 0x12, 0x34, 0x40, 0, 64, 17, 0xa3, 0xd3, 192, 0, 2, 1, 192, 0, 2, 2,
        0xc0, 0x01, 0x12, 0xb5, 0, 20, 0, 0,
        0x08, 0, 0, 0, 0x0a, 0x0b, 0x0c, 0,
        0xaa, 0xaa, 0xaa, 0xaa,
    ];
    assert_eq!(packet, expected);
    assert_eq!(naive_checksum(&packet[14..34]), 0);

    let config = TemplateConfig { local: L6, remote: R6, ..config };
    let mut packet = [0xaa; 70 + 4];
    Template::new(&config).unwrap().write(&mut packet, &fields()).unwrap();
    #[rustfmt::skip]
    let expected = [
        2, 0, 0, 0, 0, 0xfe, 2, 0, 0, 0, 0, 1, 0x86, 0xdd,
        0x6b, 0xa0, 0, 0, 0, 20, 17, 64,
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
        0xc0, 0x01, 0x12, 0xb5, 0, 20, 0, 0,
        0x08, 0, 0, 0, 0x0a, 0x0b, 0x0c, 0,
        0xaa, 0xaa, 0xaa, 0xaa,
    ];
    assert_eq!(packet, expected);
}

#[test]
fn lengths_and_limits_by_shape_and_family() {
    // Length of the headers; overhead in the outer IP packet; the longest frame that 16 bits allow.
    let cases = [
        (Shape::Udp, (L4, R4), 8, 36, 65_535 - 36),
        (Shape::Ip, (L4, R4), 36, 36, 65_535 - 36),
        (Shape::Ethernet, (L4, R4), 50, 36, 65_535 - 36),
        (Shape::Udp, (L6, R6), 8, 56, 65_535 - 16),
        (Shape::Ip, (L6, R6), 56, 56, 65_535 - 16),
        (Shape::Ethernet, (L6, R6), 70, 56, 65_535 - 16),
    ];
    for (shape, addrs, len, overhead, max_inner) in cases {
        let template = Template::new(&config(shape, addrs)).unwrap();
        assert_eq!((template.len(), template.overhead(), template.max_inner()), (len, overhead, max_inner));
        assert!(!template.is_empty() && len <= MAX_LEN);
        for (packet_len, fits) in [
            (0, false),
            (len - 1, false),
            (len, true),
            (len + max_inner, true),
            (len + max_inner + 1, false),
            (len + 65_536, false),
            (len + 70_000, false),
        ] {
            let mut packet = vec![0x5c; packet_len];
            let wrote = template.write(&mut packet, &fields());
            assert_eq!(wrote.is_some(), fits, "{shape:?} {addrs:?} {packet_len}");
            let untouched = packet.iter().all(|octet| *octet == 0x5c);
            assert_eq!(untouched, !fits, "what does not fit is not written");
            if fits {
                let outer = outer::parse(shape, &packet, &OuterPolicy::default()).unwrap();
                assert_eq!(outer.payload, len..packet_len);
            }
        }
    }
    assert_eq!(Template::default(), Template::EMPTY);
    assert!(Template::EMPTY.is_empty());
    assert_eq!((Template::EMPTY.len(), Template::EMPTY.overhead()), (0, 0));
    assert_eq!(Template::EMPTY.write(&mut [], &fields()), None);
    assert_eq!(Template::EMPTY.write(&mut [0; 100], &fields()), None);
    assert_eq!(Template::EMPTY.header(&[], &fields()), None);
}

#[test]
fn what_cannot_stand_in_a_header_is_refused() {
    use TemplateError as E;
    let ip = config(Shape::Ip, (L4, R4));
    let ethernet = config(Shape::Ethernet, (L6, R6));
    let v4 = |octets: [u8; 4]| IpAddr::from(octets);
    let unspecified6 = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    let group = MacAddr([1, 0, 0, 0, 0, 1]);
    let cases = [
        (TemplateConfig { remote: R6, ..ip }, Some(E::Families { local: L4, remote: R6 })),
        (TemplateConfig { local: L4, ..ethernet }, Some(E::Families { local: L4, remote: R6 })),
        (TemplateConfig { remote: v4([0; 4]), ..ip }, Some(E::Address(v4([0; 4])))),
        (TemplateConfig { local: v4([0; 4]), ..ip }, Some(E::Address(v4([0; 4])))),
        (TemplateConfig { local: v4([224, 0, 0, 1]), ..ip }, Some(E::Address(v4([224, 0, 0, 1])))),
        (TemplateConfig { local: v4([255; 4]), ..ip }, Some(E::Address(v4([255; 4])))),
        (TemplateConfig { local: unspecified6, ..ethernet }, Some(E::Address(unspecified6))),
        (TemplateConfig { shape: Shape::Udp, local: unspecified6, ..ethernet }, None),
        (TemplateConfig { remote_port: 0, ..ip }, Some(E::Port)),
        (TemplateConfig { ttl: 0, ..ip }, Some(E::Ttl)),
        (TemplateConfig { dscp: 64, ..ip }, Some(E::Dscp(64))),
        (TemplateConfig { dscp: 63, ..ip }, None),
        (TemplateConfig { local_mac: MacAddr::ZERO, ..ip }, None),
        (TemplateConfig { local_mac: MacAddr::ZERO, ..ethernet }, Some(E::Mac(MacAddr::ZERO))),
        (TemplateConfig { local_mac: group, ..ethernet }, Some(E::Mac(group))),
        (TemplateConfig { remote_mac: MacAddr::ZERO, ..ethernet }, Some(E::Mac(MacAddr::ZERO))),
        (TemplateConfig { remote_mac: group, ..ethernet }, None),
    ];
    for (config, expected) in cases {
        assert_eq!(Template::new(&config).err(), expected, "{config:?}");
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    prop_oneof![Just(Shape::Udp), Just(Shape::Ip), Just(Shape::Ethernet)]
}

fn any_fields() -> impl Strategy<Value = Fields> {
    let group = prop::option::of((any::<u16>(), any::<bool>(), any::<bool>()));
    (0u32..1 << 24, group, any::<u16>(), any::<u8>(), any::<u16>()).prop_map(
        |(vni, group, source_port, ecn, ip_id)| Fields {
            vni: Vni::truncate(vni),
            group: group.map(|(id, dont_learn, applied)| GroupPolicy { id, dont_learn, applied }),
            source_port,
            ecn,
            ip_id,
        },
    )
}

fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

prop_compose! {
    fn any_config()(
        shape in shapes(), v4: bool, local in 1u128.., remote in 1u128.., remote_port in 1u16.., ttl in 1u8.., dscp in 0u8..64,
        dont_fragment: bool, full: bool, macs: ([u8; 6], [u8; 6]),
    ) -> TemplateConfig {
        let addr = |bits: u128, group: u8| -> IpAddr {
            // Any unicast address: the low bit set, the first octet below the groups.
            let bits = bits | 1;
            if v4 {
                let [a, b, c, d] = (bits as u32).to_be_bytes();
                [a % group, b, c, d].into()
            } else {
                let mut octets = bits.to_be_bytes();
                octets[0] = 0x20 | octets[0] & 0x1f;
                octets.into()
            }
        };
        let mac = |m: [u8; 6]| MacAddr([m[0] & 0xfe, m[1], m[2], m[3], m[4], m[5] | 1]);
        TemplateConfig {
            shape, local: addr(local, 224), remote: addr(remote, 240), remote_port,
            local_mac: mac(macs.0), remote_mac: mac(macs.1), ttl, dscp, dont_fragment,
            udp_checksum: if full { UdpChecksum::Full } else { UdpChecksum::Zero },
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_parses_the_same(
        config in any_config(), fields in any_fields(), inner in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let template = Template::new(&config).unwrap();
        let len = template.len();
        let mut packet = vec![0x77; len];
        packet.extend(&inner);
        prop_assert_eq!(template.write(&mut packet, &fields), Some(()));
        prop_assert_eq!(&packet[len..], &inner[..], "the frame is left alone");
        let header = template.header(&inner, &fields).unwrap();
        prop_assert_eq!(header.as_slice(), &packet[..len], "apart or in place, the headers are the same");

        let policy = OuterPolicy {
            ports: [config.remote_port, 0, 0, 0],
            vxlan: VxlanPolicy { reserved: ReservedBits::Strict, group_policy: true },
            ..OuterPolicy::default()
        };
        let outer = outer::parse(config.shape, &packet, &policy).unwrap();
        prop_assert_eq!(&outer.payload, &(len..packet.len()));
        prop_assert_eq!((outer.vxlan.vni, outer.vxlan.group), (fields.vni, fields.group));
        if config.shape == Shape::Udp {
            return Ok(());
        }
        prop_assert_eq!((outer.src, outer.dst), (Some(config.local), Some(config.remote)));
        prop_assert_eq!((outer.udp_src, outer.udp_dst), (fields.source_port, config.remote_port));
        prop_assert_eq!(outer.ecn, fields.ecn & 3);

        let ip = if config.shape == Shape::Ethernet {
            prop_assert_eq!(&packet[..6], &config.remote_mac.0);
            prop_assert_eq!(&packet[6..12], &config.local_mac.0);
            &packet[14..]
        } else {
            &packet[..]
        };
        let udp = if config.local.is_ipv4() {
            prop_assert_eq!(naive_checksum(&ip[..20]), 0, "incremental is full recomputation");
            prop_assert_eq!(usize::from(ip[2]) << 8 | usize::from(ip[3]), ip.len());
            prop_assert_eq!(&ip[4..6], &fields.ip_id.to_be_bytes());
            prop_assert_eq!(ip[6..8] == [0x40, 0], config.dont_fragment);
            prop_assert_eq!((ip[1] >> 2, ip[8]), (config.dscp, config.ttl));
            &ip[20..]
        } else {
            prop_assert_eq!(usize::from(ip[4]) << 8 | usize::from(ip[5]), ip.len() - 40);
            prop_assert_eq!((ip[0] << 4 | ip[1] >> 4) >> 2, config.dscp);
            prop_assert_eq!(ip[7], config.ttl);
            &ip[40..]
        };
        prop_assert_eq!(usize::from(udp[4]) << 8 | usize::from(udp[5]), udp.len());
        match config.udp_checksum {
            UdpChecksum::Zero => prop_assert_eq!(&udp[6..8], &[0, 0]),
            UdpChecksum::Full => {
                prop_assert_ne!(&udp[6..8], &[0, 0]);
                let mut blank = udp.to_vec();
                blank[6..8].fill(0);
                let pseudo = pseudo(&octets(config.local), &octets(config.remote), 17, udp.len());
                let naive = match naive_checksum(&[pseudo, blank].concat()) {
                    0 => 0xffff,
                    check => check,
                };
                prop_assert_eq!(&udp[6..8], &naive.to_be_bytes());
            }
        }
    }
}

#[test]
fn a_full_checksum_that_comes_out_zero_is_sent_as_all_ones() {
    for addrs in [(L4, R4), (L6, R6)] {
        let config = TemplateConfig { udp_checksum: UdpChecksum::Full, ..config(Shape::Ip, addrs) };
        let template = Template::new(&config).unwrap();
        let mut packet = vec![0; template.len() + 2];
        template.write(&mut packet, &fields()).unwrap();
        let at = template.len() - 10;
        let check = [packet[at], packet[at + 1]];
        let end = template.len();
        packet[end..].copy_from_slice(&check);
        template.write(&mut packet, &fields()).unwrap();
        assert_eq!(packet[at..at + 2], [0xff, 0xff]);
        assert!(outer::parse(Shape::Ip, &packet, &OuterPolicy::default()).is_ok());
    }
}
