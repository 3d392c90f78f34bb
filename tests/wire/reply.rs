use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlane::addr::MacAddr;
use overlane::wire::arp::{self, ArpPacket};
use overlane::wire::inner::{Inner, Network};
use overlane::wire::reply;

use crate::build::{
    A4, A6, B6, DF, MF, POD, ROUTER, V4, eth, fragment6, icmp4, icmp6, naive_checksum, options, pseudo, udp,
    v6,
};

const GW4: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 1);
const GW6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 1, 0, 0, 0, 1);
const TAGS: [&[(u16, u16)]; 3] = [&[], &[(0x8100, 0x6005)], &[(0x88a8, 1), (0x8100, 2)]];

/// What was written, or `None`; a buffer one octet too short must not do.
fn answer(write: impl Fn(&mut [u8]) -> Option<usize>) -> Option<Vec<u8>> {
    let mut out = vec![0xdd; reply::MAX_LEN];
    let len = write(&mut out)?;
    assert_eq!(write(&mut out[..len - 1]), None, "one octet too short");
    assert_eq!(write(&mut out[..len]), Some(len), "just enough");
    assert!(out[len..].iter().all(|octet| *octet == 0xdd), "nothing behind the answer");
    out.truncate(len);
    Some(out)
}

fn arp(op: u16, sender: (MacAddr, Ipv4Addr), target_ip: Ipv4Addr) -> Vec<u8> {
    let (sender_mac, sender_ip) = sender;
    ArpPacket { op, sender_mac, sender_ip, target_mac: MacAddr::ZERO, target_ip }.emit().to_vec()
}

// ARP

#[test]
fn an_arp_request_is_answered_in_its_vlan() {
    for (tags, sender_ip) in TAGS.into_iter().zip([A4, A4, Ipv4Addr::UNSPECIFIED]) {
        // RFC 5227, 2.1.1: a probe has an unspecified sender and wants an answer like any other.
        let padded = [arp(arp::REQUEST, (POD, sender_ip), GW4), vec![0; 18]].concat();
        let request = eth(MacAddr::BROADCAST, POD, tags, 0x0806, &padded);
        let reply = answer(|out| reply::arp_reply(&request, ROUTER, out)).unwrap();
        let is_at = ArpPacket {
            op: arp::REPLY,
            sender_mac: ROUTER,
            sender_ip: GW4,
            target_mac: POD,
            target_ip: sender_ip,
        };
        assert_eq!(reply, eth(POD, ROUTER, tags, 0x0806, &is_at.emit()));
    }
}

#[test]
fn what_is_no_arp_question_is_not_answered() {
    let broadcast = MacAddr::BROADCAST;
    let cases = [
        ("a reply", arp(arp::REPLY, (POD, A4), GW4)),
        ("RARP", arp(3, (POD, A4), GW4)),
        ("an announcement", arp(arp::REQUEST, (POD, A4), A4)),
        ("from a group", arp(arp::REQUEST, (broadcast, A4), GW4)),
        ("from nobody", arp(arp::REQUEST, (MacAddr::ZERO, A4), GW4)),
        ("for multicast", arp(arp::REQUEST, (POD, A4), [224, 0, 0, 1].into())),
        ("for broadcast", arp(arp::REQUEST, (POD, A4), Ipv4Addr::BROADCAST)),
        ("for nothing", arp(arp::REQUEST, (POD, A4), Ipv4Addr::UNSPECIFIED)),
        ("for loopback", arp(arp::REQUEST, (POD, A4), Ipv4Addr::LOCALHOST)),
        ("cut off", arp(arp::REQUEST, (POD, A4), GW4)[..27].to_vec()),
    ];
    for (what, packet) in cases {
        let request = eth(broadcast, POD, &[], 0x0806, &packet);
        assert_eq!(answer(|out| reply::arp_reply(&request, ROUTER, out)), None, "{what}");
    }
    let not_arp = eth(broadcast, POD, &[], 0x0800, &arp(arp::REQUEST, (POD, A4), GW4));
    assert_eq!(answer(|out| reply::arp_reply(&not_arp, ROUTER, out)), None);
}

// Neighbour discovery

const SOURCE_OPTION: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 1];

fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let o = target.octets();
    format!("ff02::1:ff{:02x}:{:02x}{:02x}", o[13], o[14], o[15]).parse().unwrap()
}

struct Solicitation<'a> {
    src: Ipv6Addr,
    dst: Ipv6Addr,
    hop_limit: u8,
    kind: u8,
    code: u8,
    target: Ipv6Addr,
    options: &'a [u8],
}

impl Default for Solicitation<'_> {
    fn default() -> Self {
        let dst = solicited_node(GW6);
        Solicitation {
            src: A6,
            dst,
            hop_limit: 255,
            kind: 135,
            code: 0,
            target: GW6,
            options: &SOURCE_OPTION,
        }
    }
}

impl Solicitation<'_> {
    fn message(&self) -> Vec<u8> {
        let m = [&[self.kind, self.code, 0, 0, 0, 0, 0, 0][..], &self.target.octets(), self.options].concat();
        icmp6(self.src, self.dst, &m)
    }

    fn frame(&self, tags: &[(u16, u16)]) -> Vec<u8> {
        let packet = v6((self.src, self.dst), 58, self.hop_limit, &[], &self.message());
        eth(MacAddr([0x33, 0x33, 0xff, 0, 0, 1]), POD, tags, 0x86dd, &packet)
    }
}

fn advertise(frame: &[u8]) -> Option<Vec<u8>> {
    answer(|out| reply::neighbor_advertisement(frame, ROUTER, out))
}

#[test]
fn a_neighbour_solicitation_is_answered_as_rfc_4861_says() {
    let all_nodes: Ipv6Addr = "ff02::1".parse().unwrap();
    let duplicate = Solicitation { src: Ipv6Addr::UNSPECIFIED, options: &[], ..Solicitation::default() };
    let unicast = Solicitation { dst: GW6, ..Solicitation::default() };
    let cases = [
        // 7.2.4: to the source, solicited; to all nodes, not solicited, if the source is unspecified.
        (Solicitation::default(), POD, A6, 0xc0),
        (unicast, POD, A6, 0xc0),
        (Solicitation { options: &[], ..Solicitation::default() }, POD, A6, 0xc0),
        (duplicate, MacAddr([0x33, 0x33, 0, 0, 0, 1]), all_nodes, 0x80),
    ];
    for (solicitation, to_mac, to, flags) in cases {
        for tags in TAGS {
            let reply = advertise(&solicitation.frame(tags)).unwrap();
            // 4.4: type 136, flags, target, then the target's link-layer address (4.6.1).
            let message = [&[136, 0, 0, 0, flags, 0, 0, 0][..], &GW6.octets(), &[2, 1], &ROUTER.0].concat();
            let packet = v6((GW6, to), 58, 255, &[], &icmp6(GW6, to, &message));
            assert_eq!(reply, eth(to_mac, ROUTER, tags, 0x86dd, &packet));
        }
    }
}

#[test]
fn a_solicitation_that_fails_its_validation_is_not_answered() {
    let any = Solicitation::default;
    let unspecified = Ipv6Addr::UNSPECIFIED;
    // RFC 4861, 7.1.1.
    let cases = [
        ("hop limit 254", Solicitation { hop_limit: 254, ..any() }),
        ("code 1", Solicitation { code: 1, ..any() }),
        ("an advertisement", Solicitation { kind: 136, ..any() }),
        ("a router solicitation", Solicitation { kind: 133, ..any() }),
        ("a multicast target", Solicitation { target: "ff02::1".parse().unwrap(), ..any() }),
        ("an unspecified target", Solicitation { target: unspecified, ..any() }),
        ("an option of length 0", Solicitation { options: &[1, 0, 0, 0, 0, 0, 0, 0], ..any() }),
        ("half an option", Solicitation { options: &[1, 1, 2], ..any() }),
        ("one octet of an option", Solicitation { options: &[1], ..any() }),
        ("an option beyond the end", Solicitation { options: &[14, 2, 0, 0, 0, 0, 0, 0], ..any() }),
        ("a multicast source", Solicitation { src: "ff02::2".parse().unwrap(), ..any() }),
        ("duplicate detection with a source option", Solicitation { src: unspecified, ..any() }),
        (
            "duplicate detection to the target itself",
            Solicitation { src: unspecified, dst: GW6, options: &[], ..any() },
        ),
        (
            "duplicate detection to another's group",
            Solicitation { src: unspecified, dst: solicited_node(B6), options: &[], ..any() },
        ),
    ];
    for (what, solicitation) in cases {
        assert_eq!(advertise(&solicitation.frame(&[])), None, "{what}");
    }
    let good = Solicitation::default();
    let frame = good.frame(&[]);
    let mut bad_checksum = frame.clone();
    bad_checksum[14 + 40 + 2] ^= 1;
    assert_eq!(advertise(&bad_checksum), None, "checksum");
    let mut from_group = frame.clone();
    from_group[6] |= 1;
    assert_eq!(advertise(&from_group), None, "a group as Ethernet source");
    for len in 0..frame.len() {
        assert_eq!(advertise(&frame[..len]), None, "{len} octets");
    }
    let short = icmp6(A6, good.dst, &[&[135, 0, 0, 0, 0, 0, 0, 0][..], &GW6.octets()[..15]].concat());
    let short = v6((A6, good.dst), 58, 255, &[], &short);
    assert_eq!(advertise(&eth(ROUTER, POD, &[], 0x86dd, &short)), None, "23 octets");
    // RFC 6980, section 5: no fragmented neighbour discovery.
    let whole = v6((A6, good.dst), 44, 255, &fragment6(58, 0, true, 1), &good.message());
    assert_eq!(advertise(&eth(ROUTER, POD, &[], 0x86dd, &whole)), None, "a fragment");
    let atomic = v6((A6, good.dst), 44, 255, &fragment6(58, 0, false, 1), &good.message());
    assert_eq!(advertise(&eth(ROUTER, POD, &[], 0x86dd, &atomic)), None, "a fragment header on the whole");
    // Other options, and extension headers, are no obstacle.
    let nonce = Solicitation { options: &[14, 1, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 1], ..any() };
    assert!(advertise(&nonce.frame(&[])).is_some());
    let behind = v6((A6, good.dst), 60, 255, &options(58, 0), &good.message());
    assert!(advertise(&eth(ROUTER, POD, &[], 0x86dd, &behind)).is_some());
}

#[test]
fn neighbour_discovery_is_icmpv6_133_to_137() {
    let is = |frame: &[u8]| reply::is_neighbor_discovery(&Inner::classify(frame).unwrap(), frame);
    for kind in 0..=255 {
        let packet = v6((A6, B6), 58, 255, &[], &[kind, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(is(&eth(ROUTER, POD, &[(0x8100, 1)], 0x86dd, &packet)), (133..=137).contains(&kind));
    }
    let udp6 = v6((A6, B6), 17, 255, &[], &[135; 8]);
    assert!(!is(&eth(ROUTER, POD, &[], 0x86dd, &udp6)));
    let four = V4 { protocol: 58, ..V4::default() }.with(&[135; 8]);
    assert!(!is(&eth(ROUTER, POD, &[], 0x0800, &four)));
    let empty = v6((A6, B6), 58, 255, &[], &[]);
    assert!(
        !is(&[eth(ROUTER, POD, &[], 0x86dd, &empty), vec![135; 8]].concat()),
        "padding is not the message"
    );
    let later = v6((A6, B6), 44, 255, &fragment6(58, 4, false, 1), &[135; 8]);
    assert!(!is(&eth(ROUTER, POD, &[], 0x86dd, &later)));
}

// ICMP errors

#[derive(Clone, Copy, Debug)]
enum Error {
    TooBig(u32),
    TimeExceeded,
}

fn icmp(error: Error, frame: &[u8], from: IpAddr) -> Option<Vec<u8>> {
    answer(|out| match error {
        Error::TooBig(mtu) => reply::packet_too_big(frame, ROUTER, from, mtu, out),
        Error::TimeExceeded => reply::time_exceeded(frame, ROUTER, from, out),
    })
}

#[test]
fn icmpv4_errors_octet_by_octet() {
    let cases = [
        // RFC 1191, section 4: the MTU in the low half of the second word.
        (Error::TooBig(1400), [3, 4, 0, 0, 0, 0, 0x05, 0x78]),
        (Error::TooBig(1 << 20), [3, 4, 0, 0, 0, 0, 0xff, 0xff]),
        (Error::TimeExceeded, [11, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for (error, head) in cases {
        for tags in TAGS {
            for len in [0, 30, 1372] {
                let packet = V4 { options: &[1; 8], ..V4::default() }.with(&udp(1, 2, &vec![0x33; len]));
                let frame = eth(ROUTER, POD, tags, 0x0800, &[&packet[..], b"padding"].concat());
                let reply = icmp(error, &frame, GW4.into()).unwrap();
                // RFC 1812, 4.3.2.3: as much of the packet as makes 576 octets in all.
                let quoted = &packet[..packet.len().min(576 - 28)];
                let message = icmp4(&[&head[..], quoted].concat());
                let header = V4 {
                    src: GW4,
                    dst: A4,
                    protocol: 1,
                    ttl: 64,
                    tos: 0xc0,
                    id: 0,
                    fragment: DF,
                    options: &[],
                };
                assert_eq!(reply, eth(POD, ROUTER, tags, 0x0800, &header.with(&message)), "{error:?} {len}");
            }
        }
    }
}

#[test]
fn icmpv6_errors_octet_by_octet() {
    let cases = [
        (Error::TooBig(1350), [2, 0, 0, 0, 0, 0, 0x05, 0x46]),
        (Error::TooBig(70_000), [2, 0, 0, 0, 0, 1, 0x11, 0x70]),
        (Error::TimeExceeded, [3, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for (error, head) in cases {
        for tags in TAGS {
            for len in [0, 31, 1372] {
                let packet = v6((A6, B6), 17, 1, &[], &udp(1, 2, &vec![0x33; len]));
                let frame = eth(ROUTER, POD, tags, 0x86dd, &[&packet[..], b"padding"].concat());
                let reply = icmp(error, &frame, GW6.into()).unwrap();
                // RFC 4443, 2.4 c: as much as makes the minimum MTU of 1280 octets in all.
                let quoted = &packet[..packet.len().min(1280 - 48)];
                let message = icmp6(GW6, A6, &[&head[..], quoted].concat());
                let expected = v6((GW6, A6), 58, 64, &[], &message);
                assert_eq!(reply, eth(POD, ROUTER, tags, 0x86dd, &expected), "{error:?} {len}");
                assert!(reply.len() <= reply::MAX_LEN);
                let icmp = &reply[reply.len() - message.len()..];
                let pseudo = pseudo(&GW6.octets(), &A6.octets(), 58, icmp.len());
                assert_eq!(naive_checksum(&[&pseudo[..], icmp].concat()), 0);
            }
        }
    }
}

#[test]
fn some_packets_get_no_icmpv4_error() {
    let any = V4::default;
    let datagram = udp(1, 2, b"payload");
    let frame = |packet: &[u8]| eth(ROUTER, POD, &[], 0x0800, packet);
    let of = |v4: V4| frame(&v4.with(&datagram));
    let about = |kind: u8| frame(&V4 { protocol: 1, ..any() }.with(&[kind, 0, 0, 0, 0, 0, 0, 0]));
    let mut corrupt = of(any());
    corrupt[14 + 8] ^= 1;
    let to_group = eth(MacAddr([1, 0, 0x5e, 0, 0, 1]), POD, &[], 0x0800, &any().with(&datagram));
    let to_all = eth(MacAddr::BROADCAST, POD, &[], 0x0800, &any().with(&datagram));
    let from_group = eth(ROUTER, MacAddr([1, 0, 0, 0, 0, 1]), &[], 0x0800, &any().with(&datagram));
    // RFC 1122, 3.2.2; RFC 1812, 4.3.2.7.
    let cases = [
        ("destination unreachable", about(3)),
        ("source quench", about(4)),
        ("redirect", about(5)),
        ("time exceeded", about(11)),
        ("parameter problem", about(12)),
        ("ICMP without a type", frame(&V4 { protocol: 1, ..any() }.with(&[]))),
        ("a later fragment", of(V4 { fragment: DF | 5, ..any() })),
        ("to multicast", of(V4 { dst: [224, 0, 0, 5].into(), ..any() })),
        ("to broadcast", of(V4 { dst: Ipv4Addr::BROADCAST, ..any() })),
        ("in a multicast frame", to_group),
        ("in a broadcast frame", to_all),
        ("in a frame from a group", from_group),
        ("from nobody", of(V4 { src: Ipv4Addr::UNSPECIFIED, ..any() })),
        ("from multicast", of(V4 { src: [224, 0, 0, 5].into(), ..any() })),
        ("from broadcast", of(V4 { src: Ipv4Addr::BROADCAST, ..any() })),
        ("from class E", of(V4 { src: [240, 0, 0, 1].into(), ..any() })),
        ("from loopback", of(V4 { src: Ipv4Addr::LOCALHOST, ..any() })),
        ("a wrong header checksum", corrupt),
        ("cut off", of(any())[..30].to_vec()),
        ("no IP", eth(ROUTER, POD, &[], 0x0806, &arp(arp::REQUEST, (POD, A4), GW4))),
    ];
    for (what, frame) in cases {
        for error in [Error::TooBig(1400), Error::TimeExceeded] {
            assert_eq!(icmp(error, &frame, GW4.into()), None, "{what}");
        }
    }
    for error in [Error::TooBig(1400), Error::TimeExceeded] {
        assert!(
            icmp(error, &of(V4 { fragment: DF | MF, ..any() }), GW4.into()).is_some(),
            "a first fragment"
        );
        assert!(icmp(error, &about(8), GW4.into()).is_some(), "echo request");
        assert!(icmp(error, &about(0), GW4.into()).is_some(), "echo reply");
        assert_eq!(icmp(error, &of(any()), GW6.into()), None, "an answer of another family");
        assert_eq!(icmp(error, &of(any()), Ipv4Addr::UNSPECIFIED.into()), None, "an answer from nobody");
    }
    // RFC 792: "fragmentation needed and DF set".
    assert_eq!(icmp(Error::TooBig(1400), &of(V4 { fragment: 0, ..any() }), GW4.into()), None);
    assert!(icmp(Error::TimeExceeded, &of(V4 { fragment: 0, ..any() }), GW4.into()).is_some());
}

#[test]
fn some_packets_get_no_icmpv6_error() {
    let datagram = udp(1, 2, b"payload");
    let frame = |packet: &[u8]| eth(ROUTER, POD, &[], 0x86dd, packet);
    let of = |src: &str, dst: &str| {
        frame(&v6((src.parse().unwrap(), dst.parse().unwrap()), 17, 9, &[], &datagram))
    };
    let about = |kind: u8| frame(&v6((A6, B6), 58, 9, &[], &[kind, 0, 0, 0, 0, 0, 0, 0]));
    let good = v6((A6, B6), 17, 9, &[], &datagram);
    // RFC 4443, 2.4 e.
    let cases = [
        ("destination unreachable", about(1)),
        ("an unknown error", about(127)),
        ("redirect", about(137)),
        ("ICMPv6 without a type", frame(&v6((A6, B6), 58, 9, &[], &[]))),
        ("an error behind options", frame(&v6((A6, B6), 60, 9, &options(58, 0), &[2; 8]))),
        ("a later fragment", frame(&v6((A6, B6), 44, 9, &fragment6(17, 5, true, 1), &datagram))),
        ("to multicast", of("fd00::1", "ff0e::1")),
        ("to nobody", of("fd00::1", "::")),
        ("from multicast", of("ff02::1", "fd00::2")),
        ("from nobody", of("::", "fd00::2")),
        ("from loopback", of("::1", "fd00::2")),
        ("in a multicast frame", eth(MacAddr([0x33, 0x33, 0, 0, 0, 1]), POD, &[], 0x86dd, &good)),
        ("in a frame from a group", eth(ROUTER, MacAddr([3, 0, 0, 0, 0, 1]), &[], 0x86dd, &good)),
        ("cut off", frame(&good)[..60].to_vec()),
    ];
    for (what, frame) in cases {
        for error in [Error::TooBig(1400), Error::TimeExceeded] {
            assert_eq!(icmp(error, &frame, GW6.into()), None, "{what}");
        }
    }
    let first = frame(&v6((A6, B6), 44, 9, &fragment6(17, 0, true, 1), &datagram));
    for error in [Error::TooBig(1400), Error::TimeExceeded] {
        assert!(icmp(error, &first, GW6.into()).is_some(), "a first fragment");
        assert!(icmp(error, &about(128), GW6.into()).is_some(), "echo request");
        assert_eq!(icmp(error, &frame(&good), GW4.into()), None, "an answer of another family");
    }
}

#[test]
fn an_error_is_not_the_cause_of_another() {
    let four = eth(ROUTER, POD, &[], 0x0800, &V4::default().with(&[0; 900]));
    let six = eth(ROUTER, POD, &[], 0x86dd, &v6((A6, B6), 17, 1, &[], &[0; 900]));
    for error in [Error::TooBig(1400), Error::TimeExceeded] {
        for (frame, from) in [(&four, IpAddr::from(GW4)), (&six, IpAddr::from(GW6))] {
            let reply = icmp(error, frame, from).unwrap();
            let inner = Inner::classify(&reply).unwrap();
            assert!(matches!(inner.network, Network::Ipv4(_) | Network::Ipv6(..)));
            assert_eq!(icmp(error, &reply, from), None);
        }
    }
}
