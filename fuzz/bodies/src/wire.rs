//! Headers out of any bytes, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlane::addr::{MacAddr, Vni};
use overlane::error::{Layer, ParseError};
use overlane::wire::arp::{self, ArpPacket};
use overlane::wire::checksum::{self, Sum, udp_checksum, verify_udp};
use overlane::wire::ethernet::{self, EthernetHeader, set_macs};
use overlane::wire::inner::{Inner, Network, source_port};
use overlane::wire::ipv4::{self, Ipv4Header, protocol};
use overlane::wire::ipv6::{self, Ipv6Header};
use overlane::wire::outer::{self, OuterPolicy, Shape};
use overlane::wire::template::{Fields, Template, TemplateConfig, UdpChecksum};
use overlane::wire::udp::{self, UdpHeader};
use overlane::wire::vxlan::{self, GroupPolicy, ReservedBits, VxlanHeader, VxlanPolicy};
use overlane::wire::{ecn, reply};

use crate::packet::SHAPES;

const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);

/// Reads the bytes as every header and every outer shape, writes what was read, and reads it again.
///
/// Errors must lie inside the bytes, ranges too; changes in place must change what they say and
/// keep checksums right; answers of the slow path must be well-formed; what a template writes must
/// be read back as it was given.
pub fn wire(data: &[u8]) {
    let parts = [data, data.get(14..).unwrap_or(&[]), data.get(8..).unwrap_or(&[])];
    for part in parts {
        ethernet_header(part);
        arp_packet(part);
        ipv4_header(part);
        ipv6_header(part);
        udp_header(part);
        vxlan_header(part);
        classified(part);
        answers(part);
    }
    sums(data);
    written(data);
    for shape in SHAPES {
        outer_headers(shape, data);
    }
    // Lengths of zero mean "all of the slice" only where that is longer than a length can say.
    let zero_at = |at: usize| data.get(at..at + 2) == Some(&[0, 0]);
    if data.len() >= 20 && (zero_at(2) || zero_at(4) || zero_at(16) || zero_at(18)) {
        let mut superframe = data.to_vec();
        superframe.resize(data.len().max(65_536 + 14), 0);
        ipv4_header(&superframe);
        ipv6_header(&superframe);
        for shape in SHAPES {
            outer_headers(shape, &superframe);
        }
        classified(&superframe);
    }
}

/// An error names a place inside the bytes, or their end.
#[track_caller]
fn inside(e: ParseError, data: &[u8], layers: &[Layer]) {
    assert!(layers.contains(&e.layer()), "{e}");
    assert!(e.offset() <= data.len(), "{e} in {} octets", data.len());
    assert!(e.reason().number() < 32, "{e}");
}

fn ethernet_header(data: &[u8]) {
    match EthernetHeader::parse(data) {
        Err(e) => inside(e, data, &[Layer::Ethernet]),
        Ok(h) => {
            let offset = usize::from(h.payload_offset);
            assert_eq!(offset, ethernet::HEADER_LEN + ethernet::TAG_LEN * usize::from(h.tags));
            assert!(offset <= data.len() && (h.tags > 0) == h.vlan.is_some());
            assert_eq!([h.dst.0, h.src.0].concat(), data[..12]);
            assert_eq!(h.ethertype.to_be_bytes(), data[offset - 2..offset]);
        }
    }
    let mut copy = data.to_vec();
    match set_macs(&mut copy, MacAddr::BROADCAST, ROUTER) {
        None => assert!(copy == data && data.len() < ethernet::HEADER_LEN),
        Some(()) => {
            assert_eq!([&MacAddr::BROADCAST.0[..], &ROUTER.0, &data[12..]].concat(), copy);
        }
    }
}

fn arp_packet(data: &[u8]) {
    match ArpPacket::parse(data) {
        Err(e) => inside(e, data, &[Layer::Arp]),
        Ok(arp) => assert_eq!(arp.emit(), data[..arp::LEN]),
    }
}

fn ipv4_header(data: &[u8]) {
    let h = match Ipv4Header::parse(data) {
        Err(e) => return inside(e, data, &[Layer::Ipv4]),
        Ok(h) => h,
    };
    let (header, packet) = (usize::from(h.header_len), h.packet_len(data.len()));
    assert!((20..=60).contains(&header) && header <= packet && packet <= data.len());
    assert!(h.fragment_offset < 1 << 13);

    let plain = Ipv4Header { header_len: 20, ..h };
    let mut emitted = h.emit().to_vec();
    assert!(ipv4::verify_checksum(&emitted));
    emitted.resize(packet, 0);
    assert_eq!(Ipv4Header::parse(&emitted), Ok(plain));

    let mut copy = data[..header].to_vec();
    let was_right = ipv4::verify_checksum(&copy);
    let ttl = ipv4::decrement_ttl(&mut copy);
    assert_eq!(ttl, if h.ttl > 1 { Some(h.ttl - 1) } else { None });
    assert_eq!(copy == data[..header], ttl.is_none());
    ipv4::set_ecn(&mut copy, h.tos ^ 1).expect("a whole header");
    assert!(!was_right || ipv4::verify_checksum(&copy));
    copy.extend_from_slice(&data[header..]);
    let changed = Ipv4Header { ttl: ttl.unwrap_or(h.ttl), tos: h.tos ^ 1, ..h };
    assert_eq!(Ipv4Header::parse(&copy), Ok(changed));
}

fn ipv6_header(data: &[u8]) {
    let h = match Ipv6Header::parse(data) {
        Err(e) => return inside(e, data, &[Layer::Ipv6]),
        Ok(h) => h,
    };
    let packet = h.packet_len(data.len());
    assert!((ipv6::HEADER_LEN..=data.len()).contains(&packet));
    assert_eq!(h.emit(), data[..ipv6::HEADER_LEN]);
    match ipv6::skip_extensions(data, &h) {
        Err(e) => inside(e, &data[..packet], &[Layer::Ipv6]),
        Ok(p) => {
            let offset = usize::from(p.offset);
            assert!((ipv6::HEADER_LEN..=packet).contains(&offset) && offset.is_multiple_of(4));
            assert!(p.fragment.is_none_or(|f| f.offset < 1 << 13));
        }
    }
    let mut copy = data.to_vec();
    let hops = ipv6::decrement_hop_limit(&mut copy);
    assert_eq!(hops, if h.hop_limit > 1 { Some(h.hop_limit - 1) } else { None });
    ipv6::set_ecn(&mut copy, h.traffic_class ^ 2).expect("a whole header");
    let changed =
        Ipv6Header { hop_limit: hops.unwrap_or(h.hop_limit), traffic_class: h.traffic_class ^ 2, ..h };
    assert_eq!(Ipv6Header::parse(&copy), Ok(changed));
}

fn udp_header(data: &[u8]) {
    match UdpHeader::parse(data) {
        Err(e) => inside(e, data, &[Layer::Udp]),
        Ok(h) => {
            assert_eq!(h.emit(), data[..udp::HEADER_LEN]);
            assert!((udp::HEADER_LEN..=data.len()).contains(&h.datagram_len(data.len())));
        }
    }
}

const POLICIES: [VxlanPolicy; 5] = [
    VxlanPolicy { reserved: ReservedBits::Ignore, group_policy: false },
    VxlanPolicy { reserved: ReservedBits::Ignore, group_policy: true },
    VxlanPolicy { reserved: ReservedBits::Strict, group_policy: false },
    VxlanPolicy { reserved: ReservedBits::Strict, group_policy: true },
    VxlanPolicy { reserved: ReservedBits::Mask(0x0000_00ff_0000_00ff), group_policy: true },
];

fn vxlan_header(data: &[u8]) {
    let lenient = VxlanHeader::parse(data, &POLICIES[0]);
    for policy in POLICIES {
        match VxlanHeader::parse(data, &policy) {
            Err(e) => inside(e, data, &[Layer::Vxlan]),
            Ok(h) => {
                let any = lenient.expect("what a strict reader takes, a lenient one does");
                assert_eq!((any.vni, any.flags), (h.vni, h.flags));
                assert!(policy.group_policy || h.group.is_none());
                let emitted = VxlanHeader::emit(h.vni, h.group);
                let again = VxlanHeader::parse(&emitted, &POLICIES[3]).expect("our own header");
                assert_eq!((again.vni, again.group), (h.vni, h.group));
                if policy == POLICIES[2] {
                    assert_eq!(emitted, data[..vxlan::HEADER_LEN]);
                }
            }
        }
    }
}

fn sums(data: &[u8]) {
    let whole = Sum::new().add_bytes(data);
    let (a, b) = data.split_at(data.first().map_or(0, |n| usize::from(*n) % (data.len() + 1)));
    assert_eq!(Sum::new().add_bytes(a).add_bytes(b).finish(), whole.finish());
    // RFC 1071 as it is written down.
    let words = data.chunks(2).map(|c| u64::from(u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)])));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    assert_eq!(whole.value(), sum as u16);

    let (v4, v6) = (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), IpAddr::V6(Ipv6Addr::LOCALHOST));
    for addr in [v4, v6] {
        let mut datagram = data.get(..65_535).unwrap_or(data).to_vec();
        let check = udp_checksum(addr, addr, &datagram);
        assert_ne!(check, 0);
        if let Some(field) = datagram.get_mut(6..8) {
            field.copy_from_slice(&check.to_be_bytes());
            assert!(verify_udp(addr, addr, &datagram));
        }
    }
    if let Some(w) = data.first_chunk::<6>() {
        let [check, old, new] = [0, 2, 4].map(|i| u16::from_be_bytes([w[i], w[i + 1]]));
        // As in every header, not all of it is zero (RFC 1624, section 3, is about that case).
        let rest = Sum::new().add_u16(0x4500).add_u16(check);
        let right = |c: u16, word: u16| rest.add_u16(word).add_u16(c).finish() == 0;
        let before = rest.add_u16(old).finish();
        assert!(right(before, old) && right(checksum::update16(before, old, new), new));
    }
}

fn outer_headers(shape: Shape, data: &[u8]) {
    // Ports that bytes may name, and the one that these name at the usual place.
    let named = |at: usize| data.get(at..at + 2).map_or(0, |p| u16::from_be_bytes([p[0], p[1]]));
    let lax = OuterPolicy {
        ports: [4789, 8472, named(22), named(36)],
        vxlan: POLICIES[1],
        verify_ipv4_checksum: false,
        verify_udp_checksum: false,
        allow_zero_udp6: true,
    };
    let policies = [
        lax,
        OuterPolicy { verify_ipv4_checksum: true, verify_udp_checksum: true, ..lax },
        OuterPolicy { vxlan: POLICIES[3], allow_zero_udp6: false, ..lax },
        OuterPolicy::default(),
    ];
    let layers = [Layer::Ethernet, Layer::Ipv4, Layer::Ipv6, Layer::Udp, Layer::Vxlan];
    let first = outer::parse(shape, data, &lax);
    for policy in &policies {
        match outer::parse(shape, data, policy) {
            Err(e) => inside(e, data, &layers),
            Ok(o) => {
                let lax = first.as_ref().expect("what a strict reader takes, a lenient one does");
                assert_eq!(
                    (&o.payload, o.vxlan.vni, o.src, o.dst),
                    (&lax.payload, lax.vxlan.vni, lax.src, lax.dst)
                );
                assert_eq!(o.vxlan.group, if policy.vxlan.group_policy { lax.vxlan.group } else { None });
            }
        }
    }
    let Ok(o) = first else { return };
    assert!(o.payload.start <= o.payload.end && o.payload.end <= data.len());
    assert!(o.payload.start >= vxlan::HEADER_LEN && o.ecn <= 3);
    assert_eq!(o.src.is_some(), shape != Shape::Udp);
    assert_eq!(o.src_mac.is_some(), shape == Shape::Ethernet);

    if shape != Shape::Udp && o.payload.end < 60_000 && data.len() < 60_000 {
        // Padding behind the lengths is nobody's.
        let padded = [data, &[0xa5; 46]].concat();
        assert_eq!(outer::parse(shape, &padded, &lax).as_ref(), Ok(&o));
    }
    again(shape, &data[o.payload.clone()], &o);
}

/// Writes the headers of a packet that was read, and reads them.
fn again(shape: Shape, payload: &[u8], o: &outer::Outer) {
    let any = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let config = TemplateConfig {
        shape,
        local: o.src.unwrap_or(any),
        remote: o.dst.unwrap_or(any),
        remote_port: o.udp_dst.max(1),
        local_mac: o.src_mac.unwrap_or(ROUTER),
        remote_mac: ROUTER,
        ttl: 64,
        dscp: 0,
        dont_fragment: true,
        udp_checksum: UdpChecksum::Full,
    };
    let Ok(template) = Template::new(&config) else { return };
    let fields =
        Fields { vni: o.vxlan.vni, group: o.vxlan.group, source_port: o.udp_src, ecn: o.ecn, ip_id: 7 };
    let policy = OuterPolicy {
        ports: [config.remote_port, 0, 0, 0],
        vxlan: POLICIES[if o.vxlan.group.is_some() { 3 } else { 2 }],
        ..OuterPolicy::default()
    };
    let Some(again) = read_back(&template, payload, &fields, shape, &policy) else { return };
    assert_eq!((again.src, again.dst, again.udp_src), (o.src, o.dst, o.udp_src));
    assert_eq!((again.src_mac, again.ecn, again.vxlan.group), (o.src_mac, o.ecn, o.vxlan.group));
}

/// What a template writes before `inner` reads as it was given. `None` where it refuses.
fn read_back(
    template: &Template,
    inner: &[u8],
    fields: &Fields,
    shape: Shape,
    policy: &OuterPolicy,
) -> Option<outer::Outer> {
    let mut packet = vec![0x5a; template.len()];
    packet.extend_from_slice(inner);
    let header = template.header(inner, fields);
    if template.write(&mut packet, fields).is_none() {
        assert!(header.is_none() && packet[..template.len()].iter().all(|b| *b == 0x5a));
        assert!(inner.len() > template.max_inner());
        return None;
    }
    assert_eq!(header.expect("as write").as_slice(), &packet[..template.len()]);
    assert_eq!(&packet[template.len()..], inner);
    let o = outer::parse(shape, &packet, policy).expect("our own packet");
    assert_eq!((o.vxlan.vni, &o.payload), (fields.vni, &(template.len()..packet.len())));
    Some(o)
}

/// Templates of what the first octets ask for, around the rest.
fn written(data: &[u8]) {
    let Some((w, rest)) = data.split_first_chunk::<32>() else { return };
    let addr = |v6: bool, at: usize| match v6 {
        true => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, w[at].into(), w[at + 1].into())),
        false => IpAddr::V4(Ipv4Addr::new(w[at], w[at + 1], w[at + 2], w[at + 3])),
    };
    let shape = SHAPES[usize::from(w[0] % 3)];
    let config = TemplateConfig {
        shape,
        local: addr(w[1] & 1 != 0, 2),
        remote: addr(w[1] & 2 != 0, 6),
        remote_port: u16::from_be_bytes([w[10], w[11]]),
        local_mac: MacAddr([w[12], w[13], 0, 0, 0, w[14]]),
        remote_mac: MacAddr([w[15], w[16], 0, 0, 0, w[17]]),
        ttl: w[18],
        dscp: w[19],
        dont_fragment: w[1] & 4 != 0,
        udp_checksum: if w[1] & 8 != 0 { UdpChecksum::Full } else { UdpChecksum::Zero },
    };
    let template = match Template::new(&config) {
        Err(e) => return assert!(!e.to_string().is_empty()),
        Ok(template) => template,
    };
    let group = (w[1] & 16 != 0).then(|| GroupPolicy {
        id: u16::from_be_bytes([w[20], w[21]]),
        dont_learn: w[1] & 32 != 0,
        applied: w[1] & 64 != 0,
    });
    let fields = Fields {
        vni: Vni::truncate(u32::from_be_bytes([0, w[22], w[23], w[24]])),
        group,
        source_port: u16::from_be_bytes([w[25], w[26]]),
        ecn: w[27],
        ip_id: u16::from_be_bytes([w[28], w[29]]),
    };
    let policy = OuterPolicy {
        ports: [config.remote_port, 0, 0, 0],
        vxlan: POLICIES[if group.is_some() { 3 } else { 2 }],
        ..OuterPolicy::default()
    };
    let Some(o) = read_back(&template, rest, &fields, shape, &policy) else { return };
    assert_eq!(o.vxlan.group, group);
    if shape != Shape::Udp {
        assert_eq!((o.src, o.dst, o.ecn), (Some(config.local), Some(config.remote), w[27] & 3));
        assert_eq!((o.udp_src, o.udp_dst), (fields.source_port, config.remote_port));
    }
}

fn classified(frame: &[u8]) {
    let inner = match Inner::classify(frame) {
        Err(e) => return inside(e, frame, &[Layer::InnerEthernet]),
        Ok(inner) => inner,
    };
    if let Network::Malformed(e) = inner.network {
        inside(e, frame, &[Layer::InnerArp, Layer::InnerIpv4, Layer::InnerIpv6]);
    }
    assert!(inner.ports.is_none() || (inner.addrs().is_some() && !inner.is_fragment()));
    let hash = inner.flow_hash(7);
    for (first, last) in [(49_152, 65_535), (1, 65_535), (4_000, 4_000)] {
        assert!((first..=last).contains(&source_port(hash, first, last)));
    }
    // What a router changes on the way makes no other flow.
    let mut copy = frame.to_vec();
    let Some(packet) = copy.get_mut(usize::from(inner.ethernet.payload_offset)..) else { return };
    match inner.network {
        Network::Ipv4(_) => {
            ipv4::decrement_ttl(packet);
        }
        Network::Ipv6(..) => {
            ipv6::decrement_hop_limit(packet);
        }
        _ => assert!(ecn::set(&mut copy, &inner, 1).is_none()),
    }
    if inner.addrs().is_some() {
        set_macs(&mut copy, ROUTER, MacAddr::BROADCAST);
        let field = inner.ecn().map(|field| field ^ 3);
        ecn::set(&mut copy, &inner, field.unwrap_or(0)).expect("an IP header");
        let routed = Inner::classify(&copy).expect("only addresses changed");
        assert_eq!((routed.flow_hash(7), routed.ports, routed.ecn()), (hash, inner.ports, field));
    }
}

fn answers(frame: &[u8]) {
    let (v4, v6) = (Ipv4Addr::new(10, 244, 0, 1), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
    type Answer<'a> = &'a dyn Fn(&[u8], &mut [u8]) -> Option<usize>;
    let errors: [Answer<'_>; 4] = [
        &|f, out| reply::packet_too_big(f, ROUTER, v4.into(), 1450, out),
        &|f, out| reply::packet_too_big(f, ROUTER, v6.into(), 1430, out),
        &|f, out| reply::time_exceeded(f, ROUTER, v4.into(), out),
        &|f, out| reply::time_exceeded(f, ROUTER, v6.into(), out),
    ];
    let others: [Answer<'_>; 2] =
        [&|f, out| reply::arp_reply(f, ROUTER, out), &|f, out| reply::neighbor_advertisement(f, ROUTER, out)];
    let mut out = [0; reply::MAX_LEN];
    for answer in errors.iter().chain(&others) {
        let Some(len) = answer(frame, &mut out) else { continue };
        let answered = out[..len].to_vec();
        let sent = Inner::classify(&answered).expect("an answer is a frame");
        let asked = Inner::classify(frame).expect("what is answered was read");
        assert_eq!((sent.ethernet.src, sent.ethernet.vlan), (ROUTER, asked.ethernet.vlan));
        let packet = &answered[usize::from(sent.ethernet.payload_offset)..];
        match sent.network {
            Network::Arp(_) => {}
            Network::Ipv4(ip) => {
                assert!(ipv4::verify_checksum(packet) && ip.packet_len(packet.len()) == packet.len());
                assert_eq!(Sum::new().add_bytes(&packet[20..]).finish(), 0);
            }
            Network::Ipv6(ip, _) => {
                let icmp = &packet[ipv6::HEADER_LEN..];
                assert_eq!(ip.packet_len(packet.len()), packet.len());
                let len = u32::try_from(icmp.len()).expect("an answer is short");
                let sum = checksum::pseudo_header_v6(ip.src, ip.dst, protocol::ICMPV6, len).add_bytes(icmp);
                assert_eq!(sum.finish(), 0);
            }
            other => panic!("answered with {other:?}"),
        }
        // Two routers never answer one another's answers for ever.
        for error in errors {
            let about_nd = matches!(sent.network, Network::Ipv6(..)) && others[1](frame, &mut out).is_some();
            assert!(
                about_nd || matches!(sent.network, Network::Arp(_)) || error(&answered, &mut out).is_none()
            );
        }
        let len = answer(frame, &mut out).expect("as before");
        assert!(answer(frame, &mut out[..len - 1]).is_none());
    }
}
