//! What arrived as one: merged datagrams or an inner superframe.

use overlane::addr::Vni;
use overlane::linux::offload::Gro;
use overlane::wire::vxlan::{GroupPolicy, VxlanHeader};
use proptest::prelude::*;

use crate::make::*;

fn vxlan(vni: u32) -> [u8; 8] {
    VxlanHeader::emit(Vni::truncate(vni), None)
}

/// The datagram of a VTEP.
fn datagram(vni: u32, frame: &[u8]) -> Vec<u8> {
    [&vxlan(vni)[..], frame].concat()
}

/// UDP in each form in which a pod may send it.
fn forms() -> Vec<Make> {
    let mut forms = Vec::new();
    for v6 in [false, true] {
        for tags in [vec![], vec![5], vec![5, 6]] {
            let plain = Make { v6, tags, check: Check::Unfinished, ..Make::udp() };
            let more = Make {
                ip_options: if v6 { vec![] } else { vec![1; 8] },
                extensions: if v6 { vec![(60, 8)] } else { vec![] },
                ..plain.clone()
            };
            forms.extend([plain, more]);
        }
    }
    forms
}

/// The frame with another length in its IP header.
fn lying(make: &Make, len: u16) -> Vec<u8> {
    let mut frame = make.bytes();
    let at = make.network() + if make.v6 { 4 } else { 2 };
    frame[at..at + 2].copy_from_slice(&len.to_be_bytes());
    frame
}

#[test]
fn what_honest_ends_send() {
    for make in forms() {
        let frame = Make { payload: octets(100), ..make.clone() }.bytes();
        let one = datagram(1, &frame);
        // Merged datagrams of different VNIs, the last one as long or shorter.
        let shorter = datagram(3, &Make { payload: octets(30), ..make.clone() }.bytes());
        for last in [&one, &shorter] {
            let train = [&one[..], &datagram(2, &frame), last].concat();
            assert_eq!(Gro::of(&train, one.len()), Gro::Datagrams, "{make:?}");
        }
        let padded = datagram(1, &[&frame[..], &[0; 6]].concat());
        assert_eq!(Gro::of(&padded.repeat(2), padded.len()), Gro::Datagrams, "padding behind the packet");
        // Superframes of any segment size: the last payload as long, or shorter by any number.
        for (payload, segment) in [(3000, 1400), (2800, 1400), (1401, 1400), (65_000, 1448), (300, 3), (2, 1)]
        {
            let whole = Make { payload: octets(payload), ..make.clone() }.bytes();
            assert_eq!(
                Gro::of(&datagram(1, &whole), segment),
                Gro::Superframe,
                "{payload} by {segment}: {make:?}"
            );
        }
    }
    // No UDP over IP in it: datagrams.
    let mut arp = vec![0; 60];
    arp[12..14].copy_from_slice(&[8, 6]);
    for frame in [arp, Make::tcp().bytes(), vec![0; 14]] {
        let one = datagram(1, &frame);
        assert_eq!(Gro::of(&one.repeat(3), one.len()), Gro::Datagrams);
    }
    // Nothing was merged, or there is nothing.
    assert_eq!(Gro::of(&datagram(1, &Make::udp().bytes()), 5000), Gro::Datagrams);
    assert_eq!(Gro::of(&[0; 30], 0), Gro::Datagrams);
    assert_eq!(Gro::of(&[], 1), Gro::Datagrams);
}

/// A pod behind an honest VTEP states more than its frame has, to get what is merged behind it.
#[test]
fn a_length_that_lies_gets_nobody_s_octets() {
    let policies = [
        None,
        Some(GroupPolicy::default()),
        Some(GroupPolicy { id: 0xffff, dont_learn: true, applied: false }),
        Some(GroupPolicy { id: 1, dont_learn: true, applied: true }),
    ];
    for make in forms() {
        let honest = make.bytes();
        let segment = 8 + honest.len();
        let ip_start = if make.v6 { make.network() + 40 } else { make.network() };
        for policy in policies {
            let secret = [&VxlanHeader::emit(Vni::truncate(2), policy)[..], &honest].concat();
            // By one octet, to the end of the next one, by too much.
            for stated in [honest.len() - ip_start + 1, 2 * segment - 8 - ip_start, 5000, 65_535] {
                let mut lie = lying(&make, stated as u16);
                if stated > honest.len() {
                    // The UDP header agrees with it.
                    let len = (stated - (make.transport() - ip_start)) as u16;
                    lie[make.transport() + 4..make.transport() + 6].copy_from_slice(&len.to_be_bytes());
                }
                let train = [&datagram(1, &lie)[..], &secret].concat();
                assert_eq!(Gro::of(&train, segment), Gro::Unclear, "{stated}: {make:?}");
            }
        }
    }
}

/// Nothing was merged where the segment is all there is: whatever its lengths say, it is one datagram.
#[test]
fn one_datagram_is_one_whatever_it_says() {
    for make in forms() {
        let frame = Make { payload: octets(100), ..make.clone() };
        for frame in [frame.bytes(), lying(&frame, 9000), lying(&frame, 21)] {
            let one = datagram(1, &frame);
            for segment in [0, one.len(), one.len() + 1] {
                assert_eq!(Gro::of(&one, segment), Gro::Datagrams, "{make:?}");
            }
        }
    }
}

/// A pod behind a kernel peer puts datagrams for other VNIs into the payload of a superframe.
#[test]
fn headers_in_a_payload_open_no_other_vni() {
    for make in forms() {
        let forged = datagram(99, &Make::udp().bytes());
        let segment = forged.len();
        let headers = 8 + make.header_len();
        // At the segment size from the start: where a second merged datagram would begin.
        let mut payload = vec![0; 3 * segment];
        let at = segment - headers.min(segment);
        payload[at..at + segment].copy_from_slice(&forged);
        let whole = datagram(1, &Make { payload, ..make.clone() }.bytes());
        assert_eq!(Gro::of(&whole, segment), Gro::Unclear, "{make:?}");
        // Anywhere else it is payload.
        let mut payload = vec![0; 3 * segment];
        payload[at + 1..at + 1 + segment].copy_from_slice(&forged);
        let whole = datagram(1, &Make { payload, ..make.clone() }.bytes());
        assert_eq!(Gro::of(&whole, segment), Gro::Superframe, "{make:?}");
    }
}

/// What the octets where a second datagram would begin must be to look like one.
#[test]
fn what_a_vtep_writes_first() {
    let cases: &[([u8; 8], bool)] = &[
        ([0x08, 0, 0, 0, 1, 2, 3, 0], true),
        ([0x08, 0, 0, 0, 0, 0, 0, 0], true),
        ([0x88, 0x00, 0, 0, 1, 2, 3, 0], true),
        ([0x88, 0x48, 9, 9, 1, 2, 3, 0], true),
        ([0x88, 0x01, 9, 9, 1, 2, 3, 0], false),
        ([0x08, 0x40, 0, 0, 1, 2, 3, 0], false),
        ([0x08, 0, 0, 1, 1, 2, 3, 0], false),
        ([0x08, 0, 0, 0, 1, 2, 3, 1], false),
        ([0x88, 0, 0, 0, 1, 2, 3, 1], false),
        ([0x00, 0, 0, 0, 1, 2, 3, 0], false),
        ([0x80, 0, 0, 0, 1, 2, 3, 0], false),
        ([0x0c, 0, 0, 0, 1, 2, 3, 0], false),
    ];
    for (header, looks) in cases {
        let mut payload = octets(3000);
        let at = 1400 - 8 - Make::udp().header_len();
        payload[at..at + 8].copy_from_slice(header);
        let whole = datagram(1, &Make { payload, ..Make::udp() }.bytes());
        let expected = if *looks { Gro::Unclear } else { Gro::Superframe };
        assert_eq!(Gro::of(&whole, 1400), expected, "{header:02x?}");
    }
}

/// Superframes must be right: then there is no room in which to hide anything.
#[test]
fn a_superframe_goes_exactly_to_the_end() {
    let make = Make { payload: octets(3000), ..Make::udp() };
    let whole = datagram(1, &make.bytes());
    let unclear = |name: &str, octets: &[u8]| assert_eq!(Gro::of(octets, 1400), Gro::Unclear, "{name}");
    let changed = |at: usize, value: u8| {
        let mut octets = whole.clone();
        octets[8 + at] = octets[8 + at].wrapping_add(value);
        octets
    };
    assert_eq!(Gro::of(&whole, 1400), Gro::Superframe);
    unclear("an octet behind the packet", &[&whole[..], &[0]].concat());
    unclear("cut short", &whole[..whole.len() - 1]);
    unclear("IP states one octet less", &changed(17, 0xff));
    unclear("IP states one octet more", &changed(17, 1));
    unclear("UDP states one octet less", &changed(39, 0xff));
    unclear("UDP states one octet more", &changed(39, 1));
    unclear("not version 4", &changed(14, 0x10));
    unclear("a header of 16 octets", &changed(14, 0xff));
    unclear("UDP-Lite", &changed(23, 136 - 17));
    unclear("a fragment", &datagram(1, &Make { fragment: 0x2000, ..make.clone() }.bytes()));
    unclear("a later fragment", &datagram(1, &Make { fragment: 2, ..make.clone() }.bytes()));
    unclear("TCP", &datagram(1, &Make { payload: octets(3000), ..Make::tcp() }.bytes()));
    unclear("three tags", &datagram(1, &Make { tags: vec![1, 2, 3], ..make.clone() }.bytes()));
    let one = datagram(1, &Make { payload: octets(1400), ..make }.bytes());
    unclear("one segment, and no more", &one);
}

proptest! {
    /// Whatever frames pods send: behind an honest VTEP no datagram becomes part of another.
    #[test]
    fn merged_datagrams_never_become_one(
        frame in prop::collection::vec(any::<u8>(), 0..120),
        form in 0usize..12,
        stated in any::<[u16; 2]>(),
        (udp, known) in any::<(bool, bool)>(),
    ) {
        let make = forms()[form].clone();
        let frame = if known {
            let mut bytes = lying(&make, stated[0] % 400);
            if udp {
                let at = make.transport() + 4;
                bytes[at..at + 2].copy_from_slice(&(stated[1] % 400).to_be_bytes());
            }
            bytes
        } else {
            frame
        };
        let train = [datagram(1, &frame), datagram(2, &frame), datagram(3, &frame)].concat();
        prop_assert_ne!(Gro::of(&train, 8 + frame.len()), Gro::Superframe);
    }

    /// Whatever a pod puts into a superframe: none of it becomes a datagram.
    #[test]
    fn a_superframe_never_becomes_datagrams(
        payload in prop::collection::vec(prop::sample::select(vec![0u8, 8, 0x88, 0x48, 1]), 2..300),
        form in 0usize..12,
        size in any::<usize>(),
    ) {
        let segment = 1 + size % (payload.len() - 1);
        let whole = datagram(1, &Make { payload, ..forms()[form].clone() }.bytes());
        prop_assert_ne!(Gro::of(&whole, segment), Gro::Datagrams);
    }

    #[test]
    fn any_bytes(octets in prop::collection::vec(any::<u8>(), 0..200), segment in 0usize..220) {
        let _ = Gro::of(&octets, segment);
    }
}
