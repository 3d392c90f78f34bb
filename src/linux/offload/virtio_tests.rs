use super::*;
use crate::wire::ipv4::protocol::{TCP, UDP};
use alloc::vec::Vec;
use proptest::prelude::*;

const TAG: [u8; 4] = [0x81, 0x00, 0x00, 0x2a];

struct Case {
    v6: bool,
    tcp: bool,
    tags: usize,
    options: usize,
    payload: usize,
    finished: bool,
}

const PLAIN: Case = Case { v6: false, tcp: true, tags: 0, options: 0, payload: 100, finished: false };

/// A frame as a sending stack leaves it: with the pseudo-header sum in the field, or finished.
fn frame(c: &Case) -> Vec<u8> {
    let transport_header = if c.tcp { 32 } else { 8 };
    let transport_len = transport_header + c.payload;
    let mut f = [0x02; 12].to_vec();
    for _ in 0..c.tags {
        f.extend(TAG);
    }
    f.extend(if c.v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
    let protocol = if c.tcp { TCP } else { UDP };
    let addresses: &[u8] = if c.v6 { &[0x20; 32] } else { &[10, 1, 1, 1, 10, 1, 1, 2] };
    if c.v6 {
        let first = if c.options == 0 { protocol } else { 60 };
        f.extend([0x60, 0, 0, 0]);
        f.extend(((transport_len + c.options) as u16).to_be_bytes());
        f.extend([first, 64]);
        f.extend(addresses);
        if c.options != 0 {
            f.extend([protocol, (c.options / 8 - 1) as u8]);
            f.extend(alloc::vec![0; c.options - 2]);
        }
    } else {
        f.extend([0x40 | (5 + c.options / 4) as u8, 0]);
        f.extend(((20 + c.options + transport_len) as u16).to_be_bytes());
        f.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
        f.extend(addresses);
        f.extend(alloc::vec![1; c.options]);
    }
    let at = f.len();
    if c.tcp {
        f.extend([0x12, 0x34, 0x00, 0x50, 0, 0, 0, 1, 0, 0, 0, 1, 0x80, 0x18, 1, 0, 0, 0, 0, 0]);
        f.extend([1; 12]);
    } else {
        f.extend([0x12, 0x34, 0x00, 0x35]);
        f.extend((transport_len as u16).to_be_bytes());
        f.extend([0, 0]);
    }
    f.extend((0..c.payload).map(|i| (i * 7) as u8));
    let pseudo =
        Sum::new().add_bytes(addresses).add_u16(protocol.into()).add_u16(transport_len as u16).value();
    let field = at + if c.tcp { 16 } else { 6 };
    f[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
    if c.finished {
        let check = Sum::new().add_bytes(&f[at..]).finish();
        f[field..field + 2].copy_from_slice(&check.to_be_bytes());
    }
    f
}

#[test]
fn table() {
    let csum = |start: u16, offset: u16| VirtioNetHeader {
        flags: 1,
        csum_start: start,
        csum_offset: offset,
        ..VirtioNetHeader::NONE
    };
    let cases: &[(&str, Case, u16, Result<VirtioNetHeader, Oversize>)] = &[
        ("finished TCP asks for nothing", Case { finished: true, ..PLAIN }, 1450, Ok(VirtioNetHeader::NONE)),
        ("unfinished TCP over IPv4", PLAIN, 1450, Ok(csum(34, 16))),
        ("unfinished UDP over IPv4", Case { tcp: false, ..PLAIN }, 1450, Ok(csum(34, 6))),
        ("IPv4 options", Case { options: 8, ..PLAIN }, 1450, Ok(csum(42, 16))),
        ("one tag", Case { tags: 1, ..PLAIN }, 1450, Ok(csum(38, 16))),
        ("two tags", Case { tags: 2, ..PLAIN }, 1450, Ok(csum(42, 16))),
        ("three tags are not looked behind", Case { tags: 3, ..PLAIN }, 1450, Ok(VirtioNetHeader::NONE)),
        ("IPv6", Case { v6: true, ..PLAIN }, 1450, Ok(csum(54, 16))),
        ("IPv6 destination options", Case { v6: true, options: 16, ..PLAIN }, 1450, Ok(csum(70, 16))),
        (
            "TCPv4 superframe: 1450 - 20 - 32",
            Case { payload: 40_000, ..PLAIN },
            1450,
            Ok(VirtioNetHeader { gso_type: 1, hdr_len: 66, gso_size: 1398, ..csum(34, 16) }),
        ),
        (
            "TCPv6 superframe: 1430 - 40 - 32",
            Case { v6: true, payload: 40_000, ..PLAIN },
            1430,
            Ok(VirtioNetHeader { gso_type: 4, hdr_len: 86, gso_size: 1358, ..csum(54, 16) }),
        ),
        (
            "a finished superframe is only segmented",
            Case { payload: 40_000, finished: true, ..PLAIN },
            1450,
            Ok(VirtioNetHeader { gso_type: 1, hdr_len: 66, gso_size: 1398, ..VirtioNetHeader::NONE }),
        ),
        ("exactly the MTU", Case { payload: 1398, ..PLAIN }, 1450, Ok(csum(34, 16))),
        ("the tag is not MTU", Case { payload: 1398, tags: 1, ..PLAIN }, 1450, Ok(csum(38, 16))),
        (
            "one octet over",
            Case { payload: 1399, ..PLAIN },
            1450,
            Ok(VirtioNetHeader { gso_type: 1, hdr_len: 66, gso_size: 1398, ..csum(34, 16) }),
        ),
        ("UDP over the MTU", Case { tcp: false, payload: 4000, ..PLAIN }, 1450, Err(Oversize)),
        ("no room for payload", Case { payload: 4000, ..PLAIN }, 52, Err(Oversize)),
    ];
    for (name, case, mtu, want) in cases {
        assert_eq!(VirtioNetHeader::plan(&frame(case), *mtu), *want, "{name}");
    }
}

#[test]
fn fragments_and_lies_ask_for_nothing() {
    let good = frame(&PLAIN);
    let with = |at: usize, value: u8| {
        let mut f = good.clone();
        f[at] = value;
        f
    };
    let cases = [
        ("more fragments", with(20, 0x20)),
        ("fragment offset", with(21, 1)),
        ("total length beyond the frame", with(16, 0xff)),
        ("header length 16", with(14, 0x44)),
        ("version 5", with(14, 0x55)),
        ("another protocol", with(23, 1)),
        ("another EtherType", with(12, 0x88)),
    ];
    for (name, f) in cases {
        assert_eq!(VirtioNetHeader::plan(&f, 1450), Ok(VirtioNetHeader::NONE), "{name}");
    }
    for len in 0..good.len() {
        assert_eq!(VirtioNetHeader::plan(&good[..len], 1450), Ok(VirtioNetHeader::NONE), "cut to {len}");
    }
}

#[test]
fn completed_checksums_verify() {
    for tcp in [true, false] {
        for v6 in [true, false] {
            for payload in [0, 1, 2, 99, 1000] {
                let case = Case { tcp, v6, payload, ..PLAIN };
                let mut f = frame(&case);
                let (at, check) = VirtioNetHeader::plan(&f, 1450).unwrap().checksum(&f).unwrap();
                f[at..at + 2].copy_from_slice(&check);
                let done = frame(&Case { finished: true, ..case });
                assert_eq!(f, done, "tcp {tcp} v6 {v6} payload {payload}");
            }
        }
    }
}

#[test]
fn a_request_outside_the_frame_is_refused() {
    let ask =
        |csum_start, csum_offset| VirtioNetHeader { flags: 1, csum_start, csum_offset, ..Default::default() };
    let f = [0u8; 60];
    assert!(ask(34, 16).checksum(&f).is_some());
    for (start, offset) in [(34, 25), (60, 0), (59, 0), (u16::MAX, u16::MAX)] {
        assert_eq!(ask(start, offset).checksum(&f), None, "{start}+{offset}");
    }
}

#[test]
fn bytes_round_trip() {
    let h = VirtioNetHeader { flags: 1, gso_type: 4, hdr_len: 2, gso_size: 3, csum_start: 4, csum_offset: 5 };
    assert_eq!(VirtioNetHeader::from_bytes(h.to_bytes()), h);
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200), mtu: u16) {
        if let Ok(header) = VirtioNetHeader::plan(&bytes, mtu) {
            let _ = header.checksum(&bytes);
        }
    }

    #[test]
    fn damaged_frames(at in 0usize..140, value: u8, v6: bool, tcp: bool, mtu: u16, cut in 0usize..200) {
        let mut f = frame(&Case { v6, tcp, ..PLAIN });
        let at = at % f.len();
        f[at] = value;
        f.truncate(cut);
        if let Ok(header) = VirtioNetHeader::plan(&f, mtu) {
            let end = usize::from(header.csum_start) + usize::from(header.csum_offset);
            prop_assert!(header.flags == 0 || end + 2 <= f.len());
            prop_assert!(header.gso_type == 0 || header.gso_size > 0);
            prop_assert!(usize::from(header.hdr_len) <= f.len());
        }
    }
}
