//! Superframes: cut by any header, and merged from damaged segments.

use overlane::addr::Vni;
use overlane::linux::offload::{
    Gro, MAX_HEADER_LEN, Merger, Superframe, VirtioNetHeader, VirtioNetTunnelHeader,
};
use overlane::wire::checksum::{Sum, pseudo_header_v4, pseudo_header_v6, update16};
use overlane::wire::inner::{Inner, Network};
use overlane::wire::ipv4::{self, protocol};
use overlane::wire::vxlan::VxlanHeader;

use crate::MAX_OPERATIONS;

/// A virtio header of 10 octets and a frame. What is cut by that header, or by one that is made to
/// fit the frame, has every payload inside the frame, in order and whole, and headers that are right.
/// As the frame of a pod behind a VTEP, it becomes no part of another one's datagram, nor does it hold any.
pub fn superframe(data: &[u8]) {
    let Some((header, frame)) = data.split_first_chunk::<{ VirtioNetHeader::LEN }>() else { return };
    let header = VirtioNetHeader::from_bytes(*header);
    assert_eq!(VirtioNetHeader::from_bytes(header.to_bytes()), header);
    if let Some(bytes) = data.first_chunk::<{ VirtioNetTunnelHeader::LEN }>() {
        let tunnel = VirtioNetTunnelHeader::from_bytes(*bytes);
        assert_eq!(VirtioNetTunnelHeader::from_bytes(tunnel.to_bytes()), tunnel);
    }
    if let Some((at, _)) = header.checksum(frame) {
        assert!(at + 2 <= frame.len());
    }
    let _ = VirtioNetHeader::plan(frame, header.gso_size);
    arrive(frame, usize::from(header.gso_size));
    cut(&header, frame);
    cut(&fitting(&header, frame), frame);
}

/// Arrives as one with others: as it is, merged, and in the payload of a superframe.
fn arrive(frame: &[u8], segment: usize) {
    let looks = |octets: &[u8]| {
        let vxlan = octets.first_chunk::<8>().map(|h| u64::from_be_bytes(*h));
        vxlan.is_some_and(|h| h & !0xffff_ff00 == 8 << 56 || h & !0x0048_ffff_ffff_ff00 == 0x88 << 56)
    };
    if Gro::of(frame, segment) == Gro::Superframe {
        assert!(!looks(&frame[segment..]), "another datagram begins there");
        right_lengths(&frame[8..]);
    }
    let datagram = |vni| [&VxlanHeader::emit(Vni::truncate(vni), None)[..], frame].concat();
    let one = datagram(1);
    let train = [&one[..], &datagram(2), &datagram(3)].concat();
    assert_ne!(Gro::of(&train, one.len()), Gro::Superframe, "datagrams become one");

    let len = (frame.len() + 8) as u16;
    let mut whole = [&one[..8], &[2; 12], &[0x86, 0xdd, 0x60, 0, 0, 0], &len.to_be_bytes()].concat();
    whole.extend([protocol::UDP, 64]);
    whole.extend([0xfd; 32]);
    whole.extend([0, 1, 0, 2]);
    whole.extend(len.to_be_bytes());
    whole.extend([0, 1]);
    whole.extend(frame);
    if segment > 0 && segment < frame.len() && frame.len() < 65_000 {
        assert_ne!(Gro::of(&whole, segment), Gro::Datagrams, "a payload becomes datagrams");
    }
}

/// One UDP datagram from its first octet to the end.
fn right_lengths(frame: &[u8]) {
    let inner = Inner::classify(frame).expect("a frame");
    assert_eq!(inner.protocol(), Some(protocol::UDP));
    let network = &frame[usize::from(inner.ethernet.payload_offset)..];
    let transport = match inner.network {
        Network::Ipv4(ip) => {
            assert_eq!(usize::from(ip.total_len), network.len());
            &network[usize::from(ip.header_len)..]
        }
        Network::Ipv6(ip, payload) => {
            assert_eq!(usize::from(ip.payload_len) + 40, network.len());
            &network[usize::from(payload.offset)..]
        }
        _ => panic!("not IP"),
    };
    assert_eq!(usize::from(u16::from_be_bytes([transport[4], transport[5]])), transport.len());
}

/// The header with what the frame says put right; its segment size stays.
fn fitting(header: &VirtioNetHeader, frame: &[u8]) -> VirtioNetHeader {
    let Ok(inner) = Inner::classify(frame) else { return *header };
    let (v6, ip_len) = match inner.network {
        Network::Ipv4(ip) => (false, u16::from(ip.header_len)),
        Network::Ipv6(_, payload) => (true, payload.offset),
        _ => return *header,
    };
    let (gso_type, csum_offset) = match (inner.protocol(), v6) {
        (Some(protocol::TCP), false) => (VirtioNetHeader::GSO_TCPV4, 16),
        (Some(protocol::TCP), true) => (VirtioNetHeader::GSO_TCPV6, 16),
        _ => (VirtioNetHeader::GSO_UDP_L4, 6),
    };
    let csum_start = inner.ethernet.payload_offset + ip_len;
    VirtioNetHeader { flags: VirtioNetHeader::NEEDS_CSUM, gso_type, csum_start, csum_offset, ..*header }
}

/// The segments, if there are any.
fn cut(header: &VirtioNetHeader, frame: &[u8]) -> Vec<Vec<u8>> {
    let Ok(Some(superframe)) = Superframe::parse(header, frame) else { return Vec::new() };
    let len = superframe.header_len();
    let count = superframe.segments();
    assert!(count >= 1 && len <= MAX_HEADER_LEN);
    let mut end = len;
    let mut segments = Vec::new();
    for n in 0..count {
        let range = superframe.payload(n);
        assert_eq!(range.start, end, "payloads follow one another");
        end = range.end;
        let mut out = [0xa5; MAX_HEADER_LEN];
        assert_eq!(superframe.write_header(n, frame, &mut out), Some(len));
        assert!(out[len..].iter().all(|octet| *octet == 0xa5));
        assert_eq!(superframe.write_header(n, frame, &mut out[..len - 1]), None);
        let segment = [&out[..len], &frame[range]].concat();
        if n + 1 < count {
            assert_eq!(segment.len(), superframe.segment_len());
        } else {
            assert!(segment.len() <= superframe.segment_len());
        }
        right(&segment);
        segments.push(segment);
    }
    assert_eq!(superframe.write_header(count, frame, &mut [0; MAX_HEADER_LEN]), None);
    segments
}

/// Lengths are those of the frame, and the sums are what they must be.
fn right(frame: &[u8]) {
    let inner = Inner::classify(frame).expect("a frame");
    let network = &frame[usize::from(inner.ethernet.payload_offset)..];
    let upper = inner.protocol().expect("IP");
    let (pseudo, transport) = match inner.network {
        Network::Ipv4(ip) => {
            assert_eq!(usize::from(ip.total_len), network.len());
            assert!(ipv4::verify_checksum(network));
            let transport = &network[usize::from(ip.header_len)..];
            (pseudo_header_v4(ip.src, ip.dst, upper, transport.len() as u16), transport)
        }
        Network::Ipv6(ip, payload) => {
            assert_eq!(usize::from(ip.payload_len) + 40, network.len());
            let transport = &network[usize::from(payload.offset)..];
            (pseudo_header_v6(ip.src, ip.dst, upper, transport.len() as u32), transport)
        }
        _ => panic!("not IP"),
    };
    assert_eq!(pseudo.add_bytes(transport).finish(), 0);
    if upper == protocol::UDP {
        assert_eq!(usize::from(u16::from_be_bytes([transport[4], transport[5]])), transport.len());
        assert_ne!(transport[6..8], [0, 0]);
    }
}

/// The state of a flow: what its next segment has.
#[derive(Clone)]
struct Flow {
    v6: bool,
    tcp: bool,
    tagged: bool,
    id: u16,
    seq: u32,
    ack: u8,
    window: u8,
    options: [u8; 12],
    payload: usize,
}

/// Five octets for each frame: flow and lane, what is done to it, where, by how much, the payload's
/// length. Eight flows send segment after segment, with changes and damage.
///
/// Each frame is in one group, in order; and every group is, cut again, the frames that went in.
pub fn merge(data: &[u8]) {
    let mut flows: Vec<_> = (0..8u8)
        .map(|n| Flow {
            v6: n & 1 != 0,
            tcp: n & 2 != 0,
            tagged: n & 4 != 0,
            id: 0xfffe,
            seq: u32::MAX - 300,
            ack: 0,
            window: 0,
            options: [1; 12],
            payload: 100,
        })
        .collect();
    let (operations, _) = data.as_chunks::<5>();
    let (mut frames, mut of_flow) = (Vec::new(), Vec::new());
    // A frame that is broken may look as if it were of another flow.
    let (mut alone, mut broken) = (Vec::new(), Vec::new());
    for operation in operations.iter().take(MAX_OPERATIONS) {
        let n = operation[0] & 7;
        let frame = segment(&mut flows[usize::from(n)], n, operation);
        frames.push((u32::from(operation[0] >> 3 & 1), frame));
        alone.push(operation[1] == 11);
        broken.push(operation[1] == 9);
        of_flow.push(n);
    }
    let mut merger = Merger::new(frames.len());
    merger.merge_udp(data.len() % 7 != 6);
    for (n, (lane, frame)) in frames.iter().enumerate() {
        let push = if alone[n] { Merger::push_alone } else { Merger::push };
        push(&mut merger, n as u16, *lane, frame).expect("room");
    }
    assert!(merger.push(0, 0, &[]).is_err() && merger.push_alone(0, 0, &[]).is_err());

    let mut seen = vec![false; frames.len()];
    let mut last_head = None;
    for group in merger.groups() {
        let parts: Vec<_> = merger.parts(&group).collect();
        assert_eq!(parts.len(), group.frames());
        assert!(parts.is_sorted_by_key(|part| part.0) && last_head < Some(group.head()));
        last_head = Some(group.head());
        let mut joined = Vec::new();
        for (n, range) in &parts {
            let (lane, frame) = &frames[usize::from(*n)];
            assert_eq!(*lane, group.lane());
            assert!(!std::mem::replace(&mut seen[usize::from(*n)], true), "frame {n} is there twice");
            joined.extend_from_slice(&frame[range.clone()]);
        }
        assert_eq!(joined.len(), group.octets());
        let numbers = || parts.iter().map(|part| usize::from(part.0));
        assert!(parts.len() == 1 || numbers().all(|n| !alone[n]));
        // Nothing overtakes what stood alone in between.
        let (from, to) = (usize::from(group.head()), numbers().next_back().expect("a part"));
        for n in from..to {
            let same = (frames[n].0, of_flow[n]) == (group.lane(), of_flow[from]);
            assert!(!same || !alone[n] || broken[from], "frame {n} is overtaken");
        }
        let first = &frames[usize::from(group.head())].1;
        let head = &mut joined[..first.len()];
        let Ok(header) = merger.finish(&group, head, u16::MAX) else { panic!("no MTU is in the way") };
        if group.frames() == 1 {
            assert_eq!(&joined, first);
            continue;
        }
        let out = cut(&header, &joined);
        assert_eq!(out.len(), parts.len());
        let first_id = u16::from_be_bytes(id_of(first).map_or([0; 2], |at| [first[at], first[at + 1]]));
        for (k, (n, _)) in parts.iter().enumerate() {
            assert_eq!(out[k], finished(&frames[usize::from(*n)].1, first_id.wrapping_add(k as u16)));
        }
    }
    assert!(seen.iter().all(|seen| *seen));
    merger.clear();
    assert_eq!(merger.groups().count(), 0);
}

fn segment(flow: &mut Flow, n: u8, [what, change, at, value, len]: &[u8; 5]) -> Vec<u8> {
    let value = *value;
    let mut flags = 0x10 | if what & 0x40 != 0 { 8 } else { 0 };
    let mut padding = 0;
    if *len != 0 {
        flow.payload = usize::from(*len);
    }
    match change {
        1 => flags ^= value,
        2 => flow.seq = flow.seq.wrapping_add(u32::from(value)),
        3 => flow.ack = value,
        4 => flow.window = value,
        5 => flow.options[usize::from(*at) % 12] = value,
        6 => flow.id = flow.id.wrapping_add(u16::from(value)),
        7 => flow.id = flow.id.wrapping_sub(1),
        8 => padding = usize::from(value % 8),
        _ => {}
    }
    let payload: Vec<_> = (0..flow.payload).map(|k| (k as u8).wrapping_mul(3) ^ value).collect();
    let mut t = vec![0x9c, n, 0, 80];
    let upper = if flow.tcp { protocol::TCP } else { protocol::UDP };
    let len = if flow.tcp { 32 } else { 8 } + payload.len();
    let check = if flow.tcp {
        t.extend(flow.seq.to_be_bytes());
        t.extend([0, 0, 0, flow.ack, 0x80, flags, 1, flow.window, 0, 0, 0, 0]);
        t.extend(flow.options);
        16
    } else {
        t.extend((len as u16).to_be_bytes());
        t.extend([0, 0]);
        6
    };
    t.extend(&payload);
    let mut ip = if flow.v6 {
        let mut h = vec![0x60, 0, 0, 9, 0, len as u8, upper, 64];
        [h[4], h[5]] = (len as u16).to_be_bytes();
        h.extend((0..32).map(|k| if k == 0 || k == 16 { 0xfd } else { n }));
        h
    } else {
        let header = ipv4::Ipv4Header {
            src: [10, 0, 0, n].into(),
            dst: [10, 0, 1, n].into(),
            protocol: upper,
            ttl: 64,
            tos: 0,
            id: flow.id,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            header_len: 20,
            total_len: (20 + len) as u16,
        };
        header.emit().to_vec()
    };
    let addresses = if flow.v6 { &ip[8..40] } else { &ip[12..20] };
    let pseudo = Sum::new().add_bytes(addresses).add_u16(u16::from(upper)).add_u16(len as u16);
    let sum = match (what & 0x10 != 0, pseudo.add_bytes(&t).finish()) {
        (true, _) => pseudo.value(),
        (false, 0) if !flow.tcp => 0xffff,
        (false, sum) => sum,
    };
    t[check..check + 2].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [[2; 6], [4, n, 0, 0, 0, 1]].concat();
    if flow.tagged {
        frame.extend([0x81, 0, 0, 42]);
    }
    frame.extend(if flow.v6 { [0x86, 0xdd] } else { [0x08, 0] });
    frame.append(&mut ip);
    frame.extend(t);
    frame.extend(vec![0; padding]);
    flow.seq = flow.seq.wrapping_add(flow.payload as u32);
    flow.id = flow.id.wrapping_add(1);
    match change {
        9 => {
            let at = usize::from(*at) % frame.len();
            frame[at] = value;
        }
        10 => frame.truncate(usize::from(*at)),
        _ => {}
    }
    frame
}

/// Where the identification of an IPv4 frame is.
fn id_of(frame: &[u8]) -> Option<usize> {
    let inner = Inner::classify(frame).ok()?;
    matches!(inner.network, Network::Ipv4(_)).then_some(usize::from(inner.ethernet.payload_offset) + 4)
}

/// The frame as it comes out of merging and cutting: the checksum finished, the identification counted.
fn finished(frame: &[u8], id: u16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let plan = VirtioNetHeader::plan(&frame, u16::MAX).expect("not long");
    if let Some((at, check)) = plan.checksum(&frame) {
        frame[at..at + 2].copy_from_slice(&check);
    }
    if let Some(at) = id_of(&frame) {
        let old = u16::from_be_bytes([frame[at], frame[at + 1]]);
        let check = u16::from_be_bytes([frame[at + 6], frame[at + 7]]);
        frame[at..at + 2].copy_from_slice(&id.to_be_bytes());
        frame[at + 6..at + 8].copy_from_slice(&update16(check, old, id).to_be_bytes());
    }
    frame
}
