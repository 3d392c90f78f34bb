use overlane::wire::ecn::{self, CE, ECT0, ECT1, Ecn, NOT_ECT};
use overlane::wire::inner::Inner;

use crate::build::{A6, B6, POD, ROUTER, V4, eth, naive_checksum, udp, v6};

#[test]
fn encapsulation_copies_the_field() {
    // RFC 6040, figure 3, normal mode.
    for codepoint in [NOT_ECT, ECT0, ECT1, CE] {
        assert_eq!(ecn::encapsulate(codepoint), codepoint);
        assert_eq!(ecn::encapsulate(0xb8 | codepoint), codepoint);
    }
}

#[test]
fn decapsulation_follows_figure_4() {
    // RFC 6040, section 4.2: the outgoing codepoint by inner (row) and outer (column); None is "drop".
    let outer = [NOT_ECT, ECT0, ECT1, CE];
    let figure_4 = [
        (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
        (ECT0, [Some(ECT0), Some(ECT0), Some(ECT1), Some(CE)]),
        (ECT1, [Some(ECT1), Some(ECT1), Some(ECT1), Some(CE)]),
        (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
    ];
    for (inner, row) in figure_4 {
        for (outer, outgoing) in outer.into_iter().zip(row) {
            let got = match ecn::decapsulate(0xfc | inner, 0xfc | outer) {
                Ecn::Keep => Some(inner),
                Ecn::Set(codepoint) => Some(codepoint),
                Ecn::Drop => None,
            };
            assert_eq!(got, outgoing, "inner {inner:02b}, outer {outer:02b}");
        }
    }
}

#[test]
fn a_codepoint_is_written_where_the_frame_keeps_it() {
    let v4 = V4 { tos: 0xb8 | ECT0, ..V4::default() }.with(&udp(1, 2, b"x"));
    let mut v6 = v6((A6, B6), 17, 9, &[], &udp(1, 2, b"x"));
    v6[0] |= 0x0b;
    v6[1] = 0x8a;
    for (ethertype, packet) in [(0x0800, v4), (0x86dd, v6)] {
        for tags in [&[][..], &[(0x8100, 5)]] {
            let mut frame = eth(ROUTER, POD, tags, ethertype, &packet);
            let before = Inner::classify(&frame).unwrap();
            let offset = usize::from(before.ethernet.payload_offset);
            assert_eq!(ecn::set(&mut frame, &before, 0xff), Some(()));
            let after = Inner::classify(&frame).unwrap();
            assert_eq!(after.tos(), before.tos().map(|tos| tos | CE), "DSCP stays");
            assert_eq!(after.ports, before.ports);
            if ethertype == 0x0800 {
                assert_eq!(naive_checksum(&frame[offset..offset + 20]), 0);
            } else {
                assert_eq!(frame[offset + 1] & 0xcf, 0x8a, "the flow label stays");
            }
        }
    }
    let mut arp = eth(ROUTER, POD, &[], 0x0806, &[0; 46]);
    let inner = Inner::classify(&arp).unwrap();
    let before = arp.clone();
    assert_eq!(ecn::set(&mut arp, &inner, CE), None);
    assert_eq!(arp, before);
}
