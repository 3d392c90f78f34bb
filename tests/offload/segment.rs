//! Cutting superframes.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use overlane::linux::offload::{
    MAX_HEADER_LEN, MAX_SEGMENTS, Malformed, Superframe, VirtioNetHeader, VirtioNetTunnelHeader,
};
use proptest::prelude::*;
use smoltcp::wire as smol;

use crate::make::*;
use crate::model::*;

fn whole(make: Make) -> Make {
    Make { check: Check::Unfinished, ..make }
}

/// What Linux does, field by field (net/ipv4/tcp_offload.c, udp_offload.c, af_inet.c).
#[test]
fn each_field_follows_its_rule() {
    let tcp = whole(Make { flags: CWR | ECE | URG | PSH | FIN | ACK, urgent: 9, ..Make::tcp() });
    let tcp = Make { id: 0xffff, seq: u32::MAX - 49, payload: octets(250), ..tcp };
    let frames = segments(&tcp.virtio(100), &tcp.bytes());
    let at = tcp.transport();
    let fields: Vec<_> =
        frames.iter().map(|f| (f[at + 13], f[at + 4..at + 8].to_vec(), f[18..20].to_vec())).collect();
    let middle = ECE | URG | ACK;
    assert_eq!(
        fields,
        [
            // CWR on the first alone (RFC 3168, 6.1.2), FIN and PSH on the last alone.
            (middle | CWR, vec![0xff, 0xff, 0xff, 0xce], vec![0xff, 0xff]),
            // The sequence number wraps, and so does the identification, which grows in spite of DF.
            (middle, vec![0, 0, 0, 50], vec![0, 0]),
            (middle | PSH | FIN, vec![0, 0, 0, 150], vec![0, 1]),
        ]
    );
    // The urgent pointer and the options are in every segment.
    assert!(frames.iter().all(|f| f[at + 18..at + 32] == [&[0, 9][..], &TIMESTAMPS].concat()));
    assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), [166, 166, 116]);

    let udp = whole(Make { payload: octets(250), ..Make::udp() });
    let frames = segments(&udp.virtio(100), &udp.bytes());
    let fields: Vec<_> = frames.iter().map(|f| (f[16..20].to_vec(), f[38..40].to_vec())).collect();
    assert_eq!(
        fields,
        [
            (vec![0, 128, 0, 100], vec![0, 108]),
            (vec![0, 128, 0, 101], vec![0, 108]),
            (vec![0, 78, 0, 102], vec![0, 58]),
        ]
    );
}

#[test]
fn edges_of_length() {
    for v6 in [false, true] {
        for base in [Make::tcp(), Make::udp()] {
            for (payload, gso_size) in [
                (0, 1),
                (1, 1),
                (2, 1),
                (99, 100),
                (100, 100),
                (101, 100),
                (200, 100),
                (1, 65535),
                (9, 65535),
            ] {
                let make = whole(Make { v6, payload: octets(payload), ..base.clone() });
                let expected: Vec<_> = cut(&make, gso_size).iter().map(Make::bytes).collect();
                assert_eq!(segments(&make.virtio(gso_size as u16), &make.bytes()), expected);
            }
            // The longest IP packet, in the smallest segments that Linux makes of TCP.
            let make = whole(Make { v6, ..base.clone() });
            let headers = make.header_len() - make.network();
            let make = Make { payload: octets(65_535 - headers), ..make };
            let superframe = Superframe::parse(&make.virtio(48), &make.bytes()).unwrap().unwrap();
            assert!(superframe.segments() > 1350 && superframe.segments() <= MAX_SEGMENTS);
        }
    }
}

#[test]
fn octets_behind_the_packet_are_nobodys() {
    let make = whole(Make { payload: octets(250), ..Make::tcp() });
    let padded = [make.bytes(), vec![0xee; 40]].concat();
    assert_eq!(segments(&make.virtio(100), &padded), segments(&make.virtio(100), &make.bytes()));
}

#[test]
fn a_header_that_lies_is_malformed() {
    use Malformed::*;
    let tcp = whole(Make { payload: octets(3000), ..Make::tcp() });
    let udp = whole(Make { payload: octets(3000), ..Make::udp() });
    let v6 = |make: &Make| Make { v6: true, ..make.clone() };
    let good = tcp.virtio(1000);
    let with = |change: fn(&mut VirtioNetHeader)| {
        let mut header = good;
        change(&mut header);
        header
    };
    let cut_short = |make: &Make, len: usize| make.bytes()[..len].to_vec();
    let changed = |make: &Make, at: usize, value: u8| {
        let mut bytes = make.bytes();
        bytes[at] = value;
        bytes
    };
    let extended = |extensions: &[(u8, usize)]| Make { extensions: extensions.to_vec(), ..v6(&tcp) };
    type Case = (&'static str, VirtioNetHeader, Vec<u8>, Result<bool, Malformed>);
    let cases: &[Case] = &[
        ("TCP over IPv4", good, tcp.bytes(), Ok(true)),
        ("no superframe", VirtioNetHeader::NONE, tcp.bytes(), Ok(false)),
        ("no superframe, no frame", VirtioNetHeader::NONE, vec![], Ok(false)),
        ("the ECN bit", with(|h| h.gso_type |= VirtioNetHeader::GSO_ECN), tcp.bytes(), Ok(true)),
        // virtio 1.2, 5.1.6.1: hdr_len is a hint.
        ("header length 0", with(|h| h.hdr_len = 0), tcp.bytes(), Ok(true)),
        ("header length behind the end", with(|h| h.hdr_len = u16::MAX), tcp.bytes(), Ok(true)),
        ("an unknown type", with(|h| h.gso_type = 2), tcp.bytes(), Err(Type)),
        ("UDP fragmentation, long gone", with(|h| h.gso_type = 3), udp.bytes(), Err(Type)),
        (
            "a tunnel",
            with(|h| h.gso_type |= VirtioNetTunnelHeader::GSO_UDP_TUNNEL_IPV4),
            tcp.bytes(),
            Err(Type),
        ),
        ("ECN without TCP", with(|h| h.gso_type = 0x80), tcp.bytes(), Err(Type)),
        ("ECN with UDP", with(|h| h.gso_type = 0x85), udp.bytes(), Err(Type)),
        ("TCPv6 says the header", v6(&tcp).virtio(1000), tcp.bytes(), Err(Type)),
        ("TCPv4 says the header", good, v6(&tcp).bytes(), Err(Type)),
        ("UDP says the header", udp.virtio(1000), tcp.bytes(), Err(Type)),
        ("TCP says the header", good, udp.bytes(), Err(Type)),
        ("no frame", good, vec![], Err(Type)),
        ("cut in the Ethernet header", good, cut_short(&tcp, 13), Err(Type)),
        ("cut in the IP header", good, cut_short(&tcp, 33), Err(Type)),
        ("cut in the TCP header", good, cut_short(&tcp, 60), Err(Type)),
        ("cut in the payload", good, cut_short(&tcp, 3065), Err(Type)),
        ("the first fragment", good, Make { fragment: 0x2000, ..tcp.clone() }.bytes(), Err(Type)),
        ("a later fragment", good, Make { fragment: 0x0010, ..tcp.clone() }.bytes(), Err(Type)),
        ("a data offset below 5", good, changed(&tcp, 46, 0x40), Err(Type)),
        (
            "a data offset behind the end",
            good,
            changed(&Make { payload: vec![], ..tcp.clone() }, 46, 0xf0),
            Err(Type),
        ),
        ("no checksum request", with(|h| h.flags = 0), tcp.bytes(), Err(Checksum)),
        ("checksum start in the IP header", with(|h| h.csum_start -= 1), tcp.bytes(), Err(Checksum)),
        ("checksum start behind the end", with(|h| h.csum_start = u16::MAX), tcp.bytes(), Err(Checksum)),
        ("checksum offset of UDP", with(|h| h.csum_offset = 6), tcp.bytes(), Err(Checksum)),
        ("segment size 0", with(|h| h.gso_size = 0), tcp.bytes(), Err(SegmentSize)),
        ("segment size 1, 3000 segments", with(|h| h.gso_size = 1), tcp.bytes(), Err(SegmentSize)),
        ("segment size 3, 1000 segments", with(|h| h.gso_size = 3), tcp.bytes(), Ok(true)),
        (
            "hop-by-hop, routing, destination",
            extended(&[(0, 8), (43, 24), (60, 8)]).virtio(1000),
            extended(&[(0, 8), (43, 24), (60, 8)]).bytes(),
            Ok(true),
        ),
        (
            "authentication covers the payload",
            extended(&[(51, 16)]).virtio(1000),
            extended(&[(51, 16)]).bytes(),
            Err(Headers),
        ),
        ("an atomic fragment", extended(&[(44, 8)]).virtio(1000), extended(&[(44, 8)]).bytes(), Err(Headers)),
        (
            "248 octets of extension headers",
            extended(&[(60, 248)]).virtio(1000),
            extended(&[(60, 248)]).bytes(),
            Err(Headers),
        ),
    ];
    for (name, header, frame, expected) in cases {
        let read = Superframe::parse(header, frame).map(|s| s.is_some());
        assert_eq!(read, *expected, "{name}");
    }
    // A length of 0 in the IP header says "all of the slice" where that is over 65,535 octets.
    for make in [tcp.clone(), v6(&tcp)] {
        let mut long = Make { payload: octets(65_600 - make.header_len()), ..make.clone() }.bytes();
        let at = if make.v6 { 18 } else { 16 };
        long[at..at + 2].copy_from_slice(&[0, 0]);
        assert_eq!(Superframe::parse(&make.virtio(1000), &long), Err(TooLong));
    }
}

#[test]
fn too_small_a_buffer_and_another_frame_are_refused() {
    let make = whole(Make { payload: octets(250), ..Make::tcp() });
    let (frame, mut out) = (make.bytes(), [0; MAX_HEADER_LEN]);
    let superframe = Superframe::parse(&make.virtio(100), &frame).unwrap().unwrap();
    assert_eq!(superframe.write_header(0, &frame, &mut out[..65]), None);
    assert_eq!(superframe.write_header(0, &frame, &mut out[..66]), Some(66));
    assert_eq!(superframe.write_header(2, &frame[..frame.len() - 1], &mut out), None);
    assert_eq!(superframe.write_header(0, &[], &mut out), None);
}

#[test]
fn udp_never_says_that_there_is_no_checksum() {
    // A payload that brings the sum to 0xffff.
    let make = Make { payload: vec![0; 4], ..Make::udp() };
    let mut make = whole(make);
    let right = Make { check: Check::Right, ..make.clone() }.bytes();
    make.payload[..2].copy_from_slice(&right[40..42]);
    let frames = segments(&make.virtio(4), &make.bytes());
    assert_eq!(frames[0][40..42], [0xff, 0xff]);
    assert_eq!(frames[0], Make { check: Check::Right, ..make }.bytes());
}

/// Both parsers take it for the packet that it is, with right lengths and checksums.
fn accepted_by_others(make: &Make, frame: &[u8]) {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let (src, dst, ip) = match sliced.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let h = ip.header();
            assert_eq!(h.to_header().calc_header_checksum(), h.header_checksum());
            assert_eq!(usize::from(h.total_len()), frame.len() - make.network());
            let check = smol::Ipv4Packet::new_checked(&frame[make.network()..]).unwrap();
            assert!(check.verify_checksum());
            (smol::IpAddress::from(h.source_addr()), smol::IpAddress::from(h.destination_addr()), None)
        }
        NetSlice::Ipv6(ip) => {
            let h = ip.header();
            assert_eq!(usize::from(h.payload_length()), frame.len() - make.network() - 40);
            (h.source_addr().into(), h.destination_addr().into(), Some(h.to_header()))
        }
        _ => panic!("not IP"),
    };
    let bytes = &frame[make.transport()..];
    match sliced.transport.unwrap() {
        TransportSlice::Tcp(tcp) => {
            let theirs = match &ip {
                None => tcp.calc_checksum_ipv4(octets4(src), octets4(dst)),
                Some(ip) => tcp.to_header().calc_checksum_ipv6(ip, tcp.payload()),
            };
            assert_eq!(theirs.unwrap(), tcp.checksum());
            let packet = smol::TcpPacket::new_checked(bytes).unwrap();
            assert!(packet.verify_checksum(&src, &dst));
            assert_eq!((tcp.sequence_number(), tcp.payload()), (make.seq, &make.payload[..]));
        }
        TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            let theirs = match &ip {
                None => header.calc_checksum_ipv4_raw(octets4(src), octets4(dst), udp.payload()),
                Some(ip) => header.calc_checksum_ipv6(ip, udp.payload()),
            };
            assert_eq!(theirs.unwrap(), udp.checksum());
            let packet = smol::UdpPacket::new_checked(bytes).unwrap();
            assert!(packet.verify_checksum(&src, &dst));
            assert_eq!(udp.payload(), make.payload);
        }
        _ => panic!("neither TCP nor UDP"),
    }
}

fn octets4(addr: smol::IpAddress) -> [u8; 4] {
    match addr {
        smol::IpAddress::Ipv4(a) => a.octets(),
        _ => panic!("not IPv4"),
    }
}

proptest! {
    #[test]
    fn cuts_as_the_model_does(make in any_make(0..4000), gso_size in 3u16..2000) {
        let make = whole(make);
        let expected = cut(&make, gso_size.into());
        let frames = segments(&make.virtio(gso_size), &make.bytes());
        prop_assert_eq!(&frames, &expected.iter().map(Make::bytes).collect::<Vec<_>>());
    }

    #[test]
    fn parsers_of_others_take_every_segment(make in any_make(0..4000), gso_size in 100u16..2000) {
        // Reserved option kinds would be a matter of taste.
        let make = whole(Make { options: vec![1; make.options.len()], extensions: vec![], ..make });
        let frames = segments(&make.virtio(gso_size), &make.bytes());
        for (frame, made) in frames.iter().zip(cut(&make, gso_size.into())) {
            accepted_by_others(&made, frame);
        }
    }

    #[test]
    fn no_header_gets_a_range_outside(
        make in any_make(0..200), header: [u8; 10], sane: bool,
        changes in prop::collection::vec((0usize..300, any::<u8>()), 0..4), gso_size in 0u16..100,
    ) {
        let mut frame = make.bytes();
        for (at, value) in changes {
            let at = at % frame.len();
            frame[at] = value;
        }
        let header = if sane { make.virtio(gso_size) } else { VirtioNetHeader::from_bytes(header) };
        if let Ok(Some(s)) = Superframe::parse(&header, &frame) {
            let mut end = s.header_len();
            prop_assert!(s.segments() >= 1 && end <= MAX_HEADER_LEN);
            for n in 0..s.segments() {
                prop_assert_eq!(s.payload(n).start, end);
                end = s.payload(n).end;
                prop_assert!(s.write_header(n, &frame, &mut [0; MAX_HEADER_LEN]).is_some());
            }
            prop_assert!(end <= frame.len());
        }
    }
}

#[test]
fn the_tunnel_header_has_the_layout_that_the_kernel_takes() {
    let header = VirtioNetTunnelHeader {
        inner: VirtioNetHeader {
            flags: 1,
            gso_type: 0x21,
            hdr_len: 116,
            gso_size: 1398,
            csum_start: 84,
            csum_offset: 16,
        },
        outer_th_offset: 34,
        inner_nh_offset: 64,
    };
    let bytes = header.to_bytes();
    assert_eq!((bytes[0], bytes[1]), (1, 0x21));
    assert_eq!(bytes[2..4], 116u16.to_ne_bytes());
    assert_eq!(bytes[4..6], 1398u16.to_ne_bytes());
    assert_eq!(bytes[6..8], 84u16.to_ne_bytes());
    assert_eq!(bytes[8..10], 16u16.to_ne_bytes());
    assert_eq!(bytes[10..20], [0; 10]);
    assert_eq!(bytes[20..], [34, 0, 64, 0]);
    assert_eq!(VirtioNetTunnelHeader::from_bytes(bytes), header);
    assert_eq!(VirtioNetTunnelHeader::NONE.to_bytes(), [0; 24]);
}
