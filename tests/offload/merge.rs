//! Merging frames to superframes.

use overlane::linux::offload::{Full, Group, MAX_PARTS, Merger, Oversize, VirtioNetHeader};
use proptest::prelude::*;

use crate::make::*;

const MTU: u16 = 1500;

/// A bit beside the lane: the frame stands alone.
const ALONE: u32 = 1 << 31;

fn merger(frames: &[(u32, Vec<u8>)]) -> Merger {
    let mut merger = Merger::new(frames.len());
    for (n, (lane, frame)) in frames.iter().enumerate() {
        match lane & ALONE {
            0 => merger.push(n as u16, *lane, frame).unwrap(),
            _ => merger.push_alone(n as u16, lane & !ALONE, frame).unwrap(),
        }
    }
    merger
}

/// The frame in a lane, or alone in it.
fn in_lane(lane: u32, make: &Make) -> (u32, Vec<u8>) {
    (if make.alone { lane | ALONE } else { lane }, make.bytes())
}

/// What is written to the device for a group.
fn written(
    merger: &Merger,
    group: &Group,
    frames: &[(u32, Vec<u8>)],
    mtu: u16,
) -> Result<(VirtioNetHeader, Vec<u8>), Oversize> {
    let parts: Vec<_> = merger.parts(group).collect();
    assert_eq!(parts.len(), group.frames());
    assert_eq!(parts[0], (group.head(), 0..frames[usize::from(group.head())].1.len()));
    let mut joined: Vec<u8> =
        parts.iter().flat_map(|(n, r)| frames[usize::from(*n)].1[r.clone()].to_vec()).collect();
    assert_eq!(joined.len(), group.octets());
    let head_len = parts[0].1.len();
    let header = merger.finish(group, &mut joined[..head_len], mtu)?;
    Ok((header, joined))
}

/// The frame numbers of each group.
fn groups(frames: &[(u32, Vec<u8>)]) -> Vec<Vec<u16>> {
    let merger = merger(frames);
    let numbers = |group| merger.parts(&group).map(|(n, _)| n).collect();
    merger.groups().map(numbers).collect()
}

fn merges(a: &Make, b: &Make) -> bool {
    match &groups(&[(1, a.bytes()), (1, b.bytes())])[..] {
        [_] => true,
        [_, _] => false,
        other => panic!("{other:?}"),
    }
}

/// What comes after `make` in its flow.
fn next(make: &Make) -> Make {
    Make {
        seq: make.seq.wrapping_add(make.payload.len() as u32),
        id: make.id.wrapping_add(1),
        ..make.clone()
    }
}

/// The second of two segments, whatever the first is, is changed; each time with the rule.
#[test]
fn the_rules_of_generic_receive_offload() {
    type Change = fn(&mut Make);
    let both: &[(&str, Change, bool)] = &[
        ("the next one", |_| {}, true),
        ("shorter: the last of the group", |m| m.payload.truncate(1), true),
        ("longer than the first", |m| m.payload.push(0), false),
        ("no payload", |m| m.payload.clear(), false),
        ("another destination", |m| m.host = 9, false),
        ("another source port", |m| m.ports.0 += 1, false),
        ("another destination port", |m| m.ports.1 += 1, false),
        ("another destination MAC", |m| m.macs[5] ^= 1, false),
        ("another source MAC", |m| m.macs[11] ^= 1, false),
        ("a VLAN tag", |m| m.tags.push(5), false),
        ("another type of service", |m| m.tos = 4, false),
        ("another ECN codepoint (RFC 3168)", |m| m.tos = 3, false),
        ("another TTL", |m| m.ttl = 63, false),
        ("a wrong checksum", |m| m.check = Check::Wrong, false),
        ("an unfinished checksum", |m| m.check = Check::Unfinished, true),
        (
            "IP options or extension headers",
            |m| (m.ip_options, m.extensions) = (vec![1; 4], vec![(60, 8)]),
            false,
        ),
    ];
    let v4: &[(&str, Change, bool)] = &[
        ("with DF, the identification stays", |m| m.id -= 1, true),
        ("the identification skips one", |m| m.id += 1, false),
        ("the identification goes back", |m| m.id -= 2, false),
        ("without DF where the first has it", |m| m.fragment = 0, false),
        ("the reserved flag", |m| m.fragment |= 0x8000, false),
        ("a fragment", |m| m.fragment = 0x2000, false),
    ];
    let v6: &[(&str, Change, bool)] =
        &[("there is no identification", |m| m.id = 0, true), ("another flow label", |m| m.label = 8, false)];
    let tcp: &[(&str, Change, bool)] = &[
        ("a gap", |m| m.seq += 1, false),
        ("a retransmission", |m| m.seq -= 1, false),
        ("another acknowledgement", |m| m.ack += 1, false),
        // The flag word that Linux compares has the window in it.
        ("another window", |m| m.window += 1, false),
        ("PSH: the last of the group", |m| m.flags |= PSH, true),
        ("FIN: the last of the group", |m| m.flags |= FIN, true),
        ("SYN", |m| m.flags |= SYN, false),
        ("RST", |m| m.flags |= RST, false),
        ("URG", |m| m.flags |= URG, false),
        ("ECE where the first has none", |m| m.flags |= ECE, false),
        ("CWR", |m| m.flags |= CWR, false),
        ("no ACK where the first has it", |m| m.flags = 0, false),
        ("other options", |m| m.options[7] ^= 1, false),
        ("more options", |m| m.options.extend([1; 4]), false),
        ("no options", |m| m.options.clear(), false),
        ("another urgent pointer", |m| m.urgent = 1, false),
    ];
    let udp: &[(&str, Change, bool)] = &[("no checksum", |m| m.check = Check::Zero, false)];
    for base in [Make::tcp(), Make::udp()] {
        for is_v6 in [false, true] {
            for tags in [vec![], vec![1], vec![1, 2]] {
                let first = Make { v6: is_v6, tags, ..base.clone() };
                let versions = if is_v6 { v6 } else { v4 };
                let protocols = if base.tcp { tcp } else { udp };
                for (name, change, expected) in both.iter().chain(versions).chain(protocols) {
                    let mut second = next(&first);
                    change(&mut second);
                    if *name == "a VLAN tag" && first.tags.len() == 2 {
                        continue;
                    }
                    assert_eq!(merges(&first, &second), *expected, "{name}: {first:?}");
                }
            }
        }
    }
}

/// What a first segment must not have, for another to join it.
#[test]
fn what_opens_no_group() {
    let cases: &[(&str, Make, bool)] = &[
        ("TCP", Make::tcp(), true),
        ("UDP", Make::udp(), true),
        ("ECE", Make { flags: ACK | ECE, ..Make::tcp() }, true),
        ("an unfinished checksum", Make { check: Check::Unfinished, ..Make::tcp() }, true),
        ("a wrong checksum", Make { check: Check::Wrong, ..Make::tcp() }, false),
        ("a wrong checksum of UDP", Make { check: Check::Wrong, ..Make::udp() }, false),
        ("no checksum of UDP", Make { check: Check::Zero, ..Make::udp() }, false),
        ("PSH", Make { flags: ACK | PSH, ..Make::tcp() }, false),
        ("FIN", Make { flags: ACK | FIN, ..Make::tcp() }, false),
        ("SYN", Make { flags: SYN, ..Make::tcp() }, false),
        ("RST", Make { flags: ACK | RST, ..Make::tcp() }, false),
        ("URG", Make { flags: ACK | URG, ..Make::tcp() }, false),
        ("no payload", Make { payload: vec![], ..Make::tcp() }, false),
        ("IPv4 options", Make { ip_options: vec![1; 4], ..Make::tcp() }, false),
        ("extension headers", Make { v6: true, extensions: vec![(0, 8)], ..Make::tcp() }, false),
        ("a fragment", Make { fragment: 0x2000, ..Make::tcp() }, false),
    ];
    for (name, first, expected) in cases {
        assert_eq!(merges(first, &next(first)), *expected, "{name}");
    }
    // CWR is for the first segment after the window shrank: the next has it no more (RFC 3168, 6.1.2).
    let first = Make { flags: ACK | CWR, ..Make::tcp() };
    assert!(merges(&first, &Make { flags: ACK, ..next(&first) }));
    assert!(!merges(&first, &next(&first)));
}

#[test]
fn damaged_headers_stand_alone() {
    let first = Make::tcp();
    let (a, b) = (first.bytes(), next(&first).bytes());
    let alone = |name: &str, b: &[u8]| {
        let found = groups(&[(1, a.clone()), (1, b.to_vec()), (1, next(&next(&first)).bytes())]);
        assert_eq!(found.len(), 3, "{name}: {found:?}");
    };
    let changed = |at: usize, value: u8| {
        let mut b = b.clone();
        b[at] = value;
        b
    };
    alone("the IPv4 checksum is wrong", &changed(24, b[24] ^ 1));
    alone("padding behind the packet", &[&b[..], &[0; 4]].concat());
    alone("cut short", &b[..b.len() - 1]);
    alone("cut in the TCP header", &b[..50]);
    alone("the data offset points behind the end", &changed(46, 0xf0));
    let udp = Make::udp();
    let mut b = next(&udp).bytes();
    b[39] -= 1;
    let found = groups(&[(1, udp.bytes()), (1, b)]);
    assert_eq!(found.len(), 2, "the UDP length is not that of IP");
    // IPv6: no checksum covers its payload length.
    let first = Make { v6: true, ..Make::tcp() };
    let (a, b) = (first.bytes(), next(&first).bytes());
    assert_eq!(groups(&[(1, a.clone()), (1, b.clone())]).len(), 1);
    let (padded, mut lies) = ([&b[..], &[0; 4]].concat(), b.clone());
    // The checksum is that of all octets; only the length is another.
    lies[first.network() + 5] -= 1;
    let cut = &b[..b.len() - 1];
    for (name, b) in
        [("padding behind the packet", &padded[..]), ("cut short", cut), ("a length that lies", &lies)]
    {
        assert_eq!(groups(&[(1, a.clone()), (1, b.to_vec())]).len(), 2, "IPv6: {name}");
    }
}

/// A field of 0xffff is right where 0 is; but 0 is what would come out when the group is cut again.
#[test]
fn the_other_form_of_a_zero_checksum_stands_alone() {
    let first = Make { payload: vec![0; 100], ..Make::tcp() };
    let mut zero = first.clone();
    let check = first.bytes()[50..52].to_vec();
    zero.payload[98..].copy_from_slice(&check);
    let mut frame = zero.bytes();
    assert_eq!(frame[50..52], [0, 0]);
    let pair = |frame: &[u8]| groups(&[(1, frame.to_vec()), (1, next(&zero).bytes())]).len();
    assert_eq!(pair(&frame), 1);
    frame[50..52].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(pair(&frame), 2);

    let header = Make { id: 0, ..Make::tcp() }.bytes();
    let zero = Make { id: u16::from_be_bytes([header[24], header[25]]), ..Make::tcp() };
    let mut frame = zero.bytes();
    assert_eq!(frame[24..26], [0, 0]);
    let pair = |frame: &[u8]| groups(&[(1, frame.to_vec()), (1, next(&zero).bytes())]).len();
    assert_eq!(pair(&frame), 1);
    frame[24..26].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(pair(&frame), 2);
}

#[test]
fn lanes_and_switched_off_udp_stay_apart() {
    let (tcp, udp) = (Make::tcp(), Make::udp());
    assert_eq!(groups(&[(1, tcp.bytes()), (2, next(&tcp).bytes())]).len(), 2);
    let mut merger = Merger::new(4);
    merger.merge_udp(false);
    for (n, make) in [&udp, &next(&udp), &tcp, &next(&tcp)].into_iter().enumerate() {
        merger.push(n as u16, 0, &make.bytes()).unwrap();
    }
    assert_eq!(merger.groups().map(|g| g.frames()).collect::<Vec<_>>(), [1, 1, 2]);
}

/// A run of segments that would all merge.
fn run(first: &Make, count: usize) -> Vec<(u32, Vec<u8>)> {
    let makes = std::iter::successors(Some(first.clone()), |m| Some(next(m)));
    makes.take(count).map(|m| (0, m.bytes())).collect()
}

#[test]
fn a_group_has_a_longest_length_and_a_most_of_parts() {
    let sizes = |first: &Make, count| groups(&run(first, count)).iter().map(Vec::len).collect::<Vec<_>>();
    for base in [Make::tcp(), Make::udp()] {
        assert_eq!(sizes(&base, 130), [MAX_PARTS, MAX_PARTS, 2]);
        for v6 in [false, true] {
            // 65,535 octets of IP packet and no more.
            let first = Make { v6, payload: octets(1400), ..base.clone() };
            let headers = first.header_len() - 14;
            let most = (65_535 - headers) / 1400;
            assert_eq!(sizes(&first, 50), [most, 50 - most]);
            let payload = (65_535 - headers) / 2;
            for (payload, expected) in [(payload, vec![2]), (payload + 1, vec![1, 1])] {
                assert_eq!(sizes(&Make { payload: octets(payload), ..first.clone() }, 2), expected);
            }
        }
    }
}

#[test]
fn what_ends_a_group_is_its_last() {
    let first = Make::tcp();
    let mut frames = run(&first, 4);
    for (change, expected) in [
        (Make { flags: ACK | PSH, ..next(&first) }, vec![vec![0, 1], vec![2, 3]]),
        (Make { flags: ACK | FIN, ..next(&first) }, vec![vec![0, 1], vec![2, 3]]),
    ] {
        frames[1].1 = change.bytes();
        assert_eq!(groups(&frames), expected);
    }
    let udp = Make::udp();
    let mut frames = run(&udp, 4);
    frames[1].1 = Make { payload: octets(99), ..next(&udp) }.bytes();
    assert_eq!(groups(&frames), [vec![0, 1], vec![2, 3]]);
}

#[test]
fn an_unmergeable_frame_closes_its_flow_and_no_other() {
    let (a, b) = (Make::tcp(), Make { host: 2, ..Make::tcp() });
    let (a, b) = (run(&a, 4), run(&b, 2));
    let ack = Make { payload: vec![], ..next(&Make::tcp()) };
    let optioned = Make { ip_options: vec![1; 4], ..ack.clone() };
    let fragment = Make { fragment: 0x2000, ..ack.clone() };
    let mut arp = vec![0; 60];
    arp[12..14].copy_from_slice(&[8, 6]);
    type Case<'a> = (&'a str, Vec<u8>, &'a [&'a [u16]]);
    let cases: &[Case<'_>] = &[
        ("an acknowledgement without payload", ack.bytes(), &[&[0], &[1, 4], &[2], &[3, 5]]),
        ("IPv4 options", optioned.bytes(), &[&[0], &[1, 4], &[2], &[3, 5]]),
        ("a fragment: it may be of any flow", fragment.bytes(), &[&[0], &[1], &[2], &[3, 5], &[4]]),
        ("ARP", arp, &[&[0, 3, 5], &[1, 4], &[2]]),
        ("no frame", vec![], &[&[0, 3, 5], &[1, 4], &[2]]),
    ];
    for (name, frame, expected) in cases {
        let frames =
            [a[0].clone(), b[0].clone(), (0, frame.clone()), a[1].clone(), b[1].clone(), a[2].clone()];
        assert_eq!(groups(&frames), *expected, "{name}");
    }
}

/// It closes its flow whatever it is, and stands between what comes before it and after it.
#[test]
fn what_stands_alone_is_overtaken_by_nothing_of_its_flow() {
    for base in [Make::tcp(), Make::udp()] {
        let (a, b) = (run(&base, 5), run(&Make { host: 2, ..base.clone() }, 2));
        let long = Make { payload: octets(30_000), check: Check::Unfinished, ..next(&base) };
        let optioned = Make { ip_options: vec![1; 4], ..next(&base) };
        let fragment = Make { fragment: 0x2000, ..next(&base) };
        let mut arp = vec![0; 60];
        arp[12..14].copy_from_slice(&[8, 6]);
        type Case<'a> = (&'a str, Vec<u8>, &'a [&'a [u16]]);
        let cases: &[Case<'_>] = &[
            ("the next segment", a[1].1.clone(), &[&[0], &[1, 4], &[2], &[3, 5]]),
            ("a superframe", long.bytes(), &[&[0], &[1, 4], &[2], &[3, 5]]),
            ("IPv4 options", optioned.bytes(), &[&[0], &[1, 4], &[2], &[3, 5]]),
            ("a fragment: it may be of any flow", fragment.bytes(), &[&[0], &[1], &[2], &[3, 5], &[4]]),
            ("ARP", arp, &[&[0, 3, 5], &[1, 4], &[2]]),
        ];
        for (name, frame, expected) in cases {
            // Where it matters, what comes next follows what was there before: it would join that.
            let (second, third) = (a[1].clone(), a[2].clone());
            let alone = (ALONE, frame.clone());
            let frames = [a[0].clone(), b[0].clone(), alone, second, b[1].clone(), third];
            assert_eq!(groups(&frames), *expected, "{name}");
        }
    }
    // Of another lane: another device, another order.
    let a = run(&Make::tcp(), 2);
    let frames = [a[0].clone(), (3 | ALONE, a[1].1.clone()), a[1].clone()];
    assert_eq!(groups(&frames), [vec![0, 2], vec![1]]);
    let mut full = Merger::new(0);
    assert_eq!(full.push_alone(0, 0, &a[0].1), Err(Full));
}

#[test]
fn a_full_merger_says_so_and_is_empty_again_after_clear() {
    let first = Make::tcp();
    let mut merger = Merger::new(2);
    let frames = run(&first, 3);
    assert_eq!(merger.push(0, 0, &frames[0].1), Ok(()));
    assert_eq!(merger.push(1, 0, &frames[1].1), Ok(()));
    assert_eq!(merger.push(2, 0, &frames[2].1), Err(Full));
    assert_eq!(merger.groups().map(|g| g.frames()).collect::<Vec<_>>(), [2]);
    merger.clear();
    assert_eq!(merger.groups().count(), 0);
    // No flow is open any more.
    merger.push(7, 0, &frames[2].1).unwrap();
    assert_eq!(merger.groups().map(|g| (g.head(), g.frames())).collect::<Vec<_>>(), [(7, 1)]);
    assert_eq!(Merger::new(0).push(0, 0, &frames[0].1), Err(Full));
}

#[test]
fn the_head_of_a_group_is_that_of_the_whole() {
    for v6 in [false, true] {
        for base in [Make::tcp(), Make::udp()] {
            let first = Make { v6, tags: vec![3], ..base };
            let last = Make { flags: first.flags | PSH, payload: octets(30), ..next(&next(&first)) };
            let frames = [first.clone(), next(&first), last.clone()].map(|m| (4, m.bytes()));
            let merger = merger(&frames);
            let group = merger.groups().next().unwrap();
            let (header, joined) = written(&merger, &group, &frames, MTU).unwrap();
            let whole = Make {
                flags: last.flags,
                check: Check::Unfinished,
                payload: [octets(100), octets(100), octets(30)].concat(),
                ..first
            };
            assert_eq!(joined, whole.bytes());
            assert_eq!(header, whole.virtio(100));
            assert_eq!((group.lane(), group.octets()), (4, joined.len()));
        }
    }
    let first = Make { flags: ACK | CWR, ..Make::tcp() };
    let frames = [first.clone(), Make { flags: ACK, ..next(&first) }].map(|m| (4, m.bytes()));
    let merger = merger(&frames);
    let (header, _) = written(&merger, &merger.groups().next().unwrap(), &frames, MTU).unwrap();
    assert_eq!(header.gso_type, VirtioNetHeader::GSO_TCPV4 | VirtioNetHeader::GSO_ECN);
}

#[test]
fn the_mtu_bounds_segments() {
    // Superframes of a kernel peer: TCP is cut to fit, datagrams cannot be.
    for (base, expected) in [(Make::tcp(), Ok(1448)), (Make::udp(), Err(Oversize))] {
        let frames = run(&Make { payload: octets(9000), check: Check::Unfinished, ..base }, 3);
        let merger = merger(&frames);
        let group = merger.groups().next().unwrap();
        assert_eq!(group.frames(), 3);
        let size = written(&merger, &group, &frames, MTU).map(|(header, _)| header.gso_size);
        assert_eq!(size, expected);
        assert_eq!(written(&merger, &group, &frames, 20), Err(Oversize));
    }
    // What fits exactly goes as it is; one octet less of room cuts or refuses it.
    for (base, headers, less) in [(Make::tcp(), 20 + 32, Ok(999)), (Make::udp(), 20 + 8, Err(Oversize))] {
        let frames = run(&Make { payload: octets(1000), check: Check::Unfinished, ..base }, 3);
        let merger = merger(&frames);
        let group = merger.groups().next().unwrap();
        let size = |mtu| written(&merger, &group, &frames, mtu).map(|(header, _)| header.gso_size);
        assert_eq!((size(headers + 1000), size(headers + 999)), (Ok(1000), less));
    }
    // A group of one gets what `plan` says.
    let frames = run(&Make { check: Check::Unfinished, payload: octets(9000), ..Make::tcp() }, 1);
    let merger = merger(&frames);
    let group = merger.groups().next().unwrap();
    let (header, frame) = written(&merger, &group, &frames, MTU).unwrap();
    assert_eq!((Ok(header), &frame), (VirtioNetHeader::plan(&frames[0].1, MTU), &frames[0].1));
}

/// What happens to a flow, and what that does to its next segment.
#[derive(Debug, Clone, Copy)]
enum Step {
    Next,
    Short,
    Longer,
    Flag(u8),
    NoPayload,
    Gap,
    Ack,
    Window,
    Options,
    Ttl,
    DontFragment,
    SameId,
    /// Nothing about the segment: it is pushed as one that stands alone.
    Alone,
    Check(Check),
    Extended,
    Fragment,
}

fn step() -> impl Strategy<Value = Step> {
    let check = prop::sample::select(vec![Check::Wrong, Check::Zero]);
    prop_oneof![
        24 => Just(Step::Next),
        4 => Just(Step::Check(Check::Unfinished)),
        6 => Just(Step::SameId),
        2 => Just(Step::Short),
        1 => Just(Step::Longer),
        3 => prop::sample::select(vec![FIN, SYN, RST, PSH, URG, ECE, CWR]).prop_map(Step::Flag),
        1 => Just(Step::NoPayload),
        1 => Just(Step::Gap),
        1 => Just(Step::Ack),
        1 => Just(Step::Window),
        1 => Just(Step::Options),
        1 => Just(Step::Ttl),
        1 => Just(Step::DontFragment),
        1 => check.prop_map(Step::Check),
        1 => Just(Step::Extended),
        1 => Just(Step::Fragment),
        2 => Just(Step::Alone),
    ]
}

/// The next segment of the flow whose state `flow` is.
fn advance(flow: &mut Make, step: Step) -> Make {
    let mut segment = flow.clone();
    match step {
        Step::Next => {}
        Step::Alone => segment.alone = true,
        Step::Short => segment.payload.truncate(40),
        Step::Longer => segment.payload.extend([1, 2, 3]),
        Step::Flag(flag) if segment.tcp => segment.flags |= flag,
        Step::Flag(_) => {}
        Step::NoPayload => segment.payload.clear(),
        Step::Gap => segment.seq = segment.seq.wrapping_add(1),
        Step::Ack => segment.ack = segment.ack.wrapping_add(1),
        Step::Window => segment.window = segment.window.wrapping_add(1),
        Step::Options if !segment.options.is_empty() => segment.options[3] ^= 1,
        Step::Options => {}
        Step::Ttl => segment.ttl ^= 1,
        Step::DontFragment => segment.fragment ^= 0x4000,
        Step::SameId => segment.id = segment.id.wrapping_sub(1),
        Step::Check(check) => segment.check = check,
        Step::Extended => (segment.ip_options, segment.extensions) = (vec![1; 4], vec![(60, 8)]),
        Step::Fragment => segment.fragment = 0x2000,
    }
    *flow = Make {
        seq: segment.seq.wrapping_add(segment.payload.len() as u32),
        id: segment.id.wrapping_add(1),
        ack: segment.ack,
        window: segment.window,
        options: segment.options.clone(),
        ttl: segment.ttl,
        fragment: if matches!(step, Step::Fragment) { flow.fragment } else { segment.fragment },
        ..flow.clone()
    };
    segment
}

/// Grouping, the naive way: every flow may be open, frames are descriptions.
fn model(frames: &[Make]) -> Vec<Vec<u16>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    for (n, new) in frames.iter().enumerate() {
        if !new.v6 && new.fragment & 0x3fff != 0 {
            open.clear();
            groups.push(vec![n]);
            continue;
        }
        let flow = |m: &Make| (m.v6, m.host, m.ports);
        let at = open.iter().position(|g| flow(&frames[groups[*g][0]]) == flow(new));
        let plain = if new.v6 { new.extensions.is_empty() } else { new.ip_options.is_empty() };
        let intact = new.check == Check::Right || new.check == Check::Unfinished;
        let mergeable = plain && intact && !new.payload.is_empty() && !new.alone;
        let ends = |first: &Make| new.payload.len() < first.payload.len() || new.flags & (FIN | PSH) != 0;
        if let Some(at) = at {
            let group = &mut groups[open[at]];
            if mergeable && joins(frames, group, n) {
                group.push(n);
                if ends(&frames[group[0]]) || group.len() == MAX_PARTS {
                    open.remove(at);
                }
                continue;
            }
            open.remove(at);
        }
        groups.push(vec![n]);
        if mergeable && new.flags & (FIN | SYN | RST | PSH | URG) == 0 {
            open.push(groups.len() - 1);
        }
    }
    groups.into_iter().map(|g| g.into_iter().map(|n| n as u16).collect()).collect()
}

fn joins(frames: &[Make], group: &[usize], new: usize) -> bool {
    let all: Vec<_> = group.iter().chain([&new]).map(|n| &frames[*n]).collect();
    let (first, new) = (all[0], &frames[new]);
    let octets: usize = all.iter().map(|m| m.payload.len()).sum();
    let counts = all.iter().enumerate().all(|(n, m)| m.id == first.id.wrapping_add(n as u16));
    let stays = first.fragment & 0x4000 != 0 && all.iter().all(|m| m.id == first.id);
    let ip = |m: &Make| (m.tos, m.ttl, m.label, if m.v6 { 0 } else { m.fragment }, m.tcp);
    let flags = |m: &Make| m.flags & !(FIN | PSH | CWR);
    let tcp = |m: &Make| (m.ack, m.window, m.urgent, flags(m), m.options.clone());
    let in_sequence = new.seq == first.seq.wrapping_add((octets - new.payload.len()) as u32);
    ip(first) == ip(new)
        && (new.v6 || counts || stays)
        && (!new.tcp || (tcp(first) == tcp(new) && in_sequence && new.flags & CWR == 0))
        && new.payload.len() <= first.payload.len()
        && first.header_len() - first.network() + octets <= 65_535
}

/// What was written for a group, cut again, is what went in: octet for octet where the checksum was
/// finished; where all identifications were the same, they count up.
fn cut_again(merger: &Merger, group: &Group, makes: &[Make], frames: &[(u32, Vec<u8>)]) {
    let numbers: Vec<_> = merger.parts(group).map(|(n, _)| usize::from(n)).collect();
    let (header, joined) = written(merger, group, frames, MTU).unwrap();
    let out = segments(&header, &joined);
    assert_eq!(out.len(), numbers.len());
    let first = &makes[numbers[0]];
    for (k, (n, out)) in numbers.iter().zip(out).enumerate() {
        let unfinished = makes[*n].check == Check::Unfinished;
        let check = if unfinished { Check::Right } else { makes[*n].check };
        let id = if numbers.len() > 1 { first.id.wrapping_add(k as u16) } else { makes[*n].id };
        let expected = Make { check, id, ..makes[*n].clone() };
        assert_eq!(out, expected.bytes());
        if !unfinished && makes[*n].id == id {
            assert_eq!(out, frames[*n].1);
        }
    }
}

fn flows(count: u8) -> Vec<Make> {
    let flow = |n: u8| Make {
        host: n + 1,
        v6: n % 3 == 1,
        tcp: n % 4 != 2,
        options: if n % 4 == 2 {
            vec![]
        } else {
            [&TIMESTAMPS[..], &[1; 8][..usize::from(n % 3) * 4]].concat()
        },
        tags: vec![9; usize::from(n) % 3],
        payload: octets(100 + usize::from(n)),
        seq: u32::MAX - 150,
        id: 0xfffe,
        ..Make::tcp()
    };
    (0..count).map(flow).collect()
}

fn frames_of(flows: u8, steps: &[(u8, Step)]) -> (Vec<Make>, Vec<(u32, Vec<u8>)>) {
    let mut state = self::flows(flows);
    let makes: Vec<_> =
        steps.iter().map(|(n, step)| advance(&mut state[usize::from(n % flows)], *step)).collect();
    let frames = makes.iter().map(|m| in_lane(1, m)).collect();
    (makes, frames)
}

proptest! {
    #[test]
    fn two_flows_are_merged_as_the_model_does(
        steps in prop::collection::vec((0u8..2, step()), 0..120), kind in 0u8..9,
    ) {
        let mut state = flows(11);
        let pair = [usize::from(kind), usize::from(kind) + 2];
        let segment = |(n, step): &(u8, Step)| advance(&mut state[pair[usize::from(*n)]], *step);
        let makes: Vec<_> = steps.iter().map(segment).collect();
        let frames: Vec<_> = makes.iter().map(|m| in_lane(1, m)).collect();
        prop_assert_eq!(groups(&frames), model(&makes));
        let merger = merger(&frames);
        for group in merger.groups() {
            cut_again(&merger, &group, &makes, &frames);
        }
    }

    #[test]
    fn many_flows_keep_their_order_and_every_frame(
        count in 1u8..60, steps in prop::collection::vec((any::<u8>(), step()), 0..200),
    ) {
        let (makes, frames) = frames_of(count, &steps);
        let merger = merger(&frames);
        let found = groups(&frames);
        // A third flow in a place may close one early, and nothing is joined that must not be.
        for group in &found {
            let alone: Vec<_> = group.iter().map(|n| makes[usize::from(*n)].clone()).collect();
            prop_assert_eq!(model(&alone).len(), 1, "{:?}", group);
        }
        let mut heads: Vec<_> = found.iter().map(|g| g[0]).collect();
        prop_assert!(heads.is_sorted());
        heads = found.concat();
        for host in 0..=count {
            prop_assert!(heads.iter().filter(|n| makes[usize::from(**n)].host == host).is_sorted());
        }
        heads.sort();
        prop_assert!(heads.iter().copied().eq(0..frames.len() as u16));
        for group in merger.groups() {
            cut_again(&merger, &group, &makes, &frames);
        }
    }

    #[test]
    fn any_bytes_and_any_damage(
        steps in prop::collection::vec((any::<u8>(), step()), 1..20),
        damage in prop::collection::vec((any::<usize>(), any::<usize>(), any::<u8>()), 0..8),
        junk in prop::collection::vec(any::<u8>(), 0..100),
        cut in any::<[usize; 2]>(),
    ) {
        let (_, mut frames) = frames_of(2, &steps);
        let count = frames.len();
        for (frame, at, value) in damage {
            let frame = &mut frames[frame % count].1;
            let at = at % frame.len();
            frame[at] = value;
        }
        let short = &mut frames[cut[0] % count].1;
        short.truncate(cut[1] % short.len());
        frames.push((1, junk));
        let merger = merger(&frames);
        for group in merger.groups() {
            if let Ok((header, joined)) = written(&merger, &group, &frames, MTU)
                && group.frames() > 1
            {
                prop_assert_eq!(segments(&header, &joined).len(), group.frames());
            }
        }
    }
}

#[test]
fn interleaved_flows_are_merged() {
    let steps: Vec<_> = (0..10).flat_map(|_| (0..4).map(|n| (n, Step::Next))).collect();
    let (makes, frames) = frames_of(4, &steps);
    assert_eq!(groups(&frames), model(&makes));
    assert_eq!(groups(&frames).len(), 4);
}
