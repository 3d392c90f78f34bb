//! Superframes and batches through drivers on loopback sockets.

use core::net::SocketAddr;
use std::os::fd::AsFd;

use super::tests::*;
use super::*;
use crate::addr::{Destination, MacAddr, Vni};
use crate::error::DropReason;
use crate::linux::offload::Superframe;
use crate::linux::sys::batch::{Outgoing, SendBatch};
use crate::linux::sys::{self, IntOption};
use crate::linux::tap::tests::{fake, fake_over};
use crate::linux::{Poll, UnderlayConfig, VirtioNetHeader};
use crate::table::fdb::EntryKind;
use crate::table::port::PortConfig;
use crate::table::vni::VniConfig;
use crate::table::vtep::VtepConfig;
use crate::wire::checksum::{self, Sum};
use crate::wire::inner::{Inner, Network};
use crate::wire::ipv4::{Ipv4Header, protocol};
use crate::wire::vxlan::VxlanHeader;
use alloc::vec;
use alloc::vec::Vec;
use std::os::unix::net::UnixDatagram;

const RUNGS: [Offload; 3] = [Offload::None, Offload::Batch, Offload::Gso];

const THIRD: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);

/// Octets of Ethernet, IPv4 and TCP headers.
const TCP_HEADERS: usize = 14 + 20 + 20;
/// The same with UDP.
const UDP_HEADERS: usize = 14 + 20 + 8;

/// An IPv4 frame whose transport checksum is the pseudo-header sum alone, as a pod's stack leaves it.
fn unfinished(dst: MacAddr, upper: u8, transport: &[u8]) -> Vec<u8> {
    let (from, to) = ([10, 1, 0, 5].into(), [10, 1, 0, 6].into());
    let total_len = (20 + transport.len()) as u16;
    let header = Ipv4Header {
        src: from,
        dst: to,
        protocol: upper,
        ttl: 64,
        tos: 0,
        id: 100,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        header_len: 20,
        total_len,
    };
    let mut transport = transport.to_vec();
    let at = if upper == protocol::TCP { 16 } else { 6 };
    let sum = checksum::pseudo_header_v4(from, to, upper, transport.len() as u16).value();
    transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    ethernet(dst, POD, 0x0800, &[&header.emit()[..], &transport].concat())
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 251) as u8).collect()
}

/// A TCP superframe of `len` octets of payload, to be cut into pieces of `size`.
pub(super) fn tcp(dst: MacAddr, len: usize, size: u16) -> (VirtioNetHeader, Vec<u8>) {
    let mut segment = vec![0x30, 0x39, 0, 80, 0, 0, 3, 232, 0, 0, 0, 1, 0x50, 0x10, 16, 0, 0, 0, 0, 0];
    segment.extend(content(len));
    let header = VirtioNetHeader {
        flags: VirtioNetHeader::NEEDS_CSUM,
        gso_type: VirtioNetHeader::GSO_TCPV4,
        hdr_len: TCP_HEADERS as u16,
        gso_size: size,
        csum_start: 34,
        csum_offset: 16,
    };
    (header, unfinished(dst, protocol::TCP, &segment))
}

fn udp(dst: MacAddr, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x30, 0x39, 0, 53];
    datagram.extend(((8 + payload.len()) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    unfinished(dst, protocol::UDP, &datagram)
}

const UDP_CHECK: VirtioNetHeader = VirtioNetHeader {
    flags: VirtioNetHeader::NEEDS_CSUM,
    csum_start: 34,
    csum_offset: 6,
    ..VirtioNetHeader::NONE
};

pub(super) fn put_with(pod: &UnixDatagram, header: VirtioNetHeader, frame: &[u8]) {
    pod.send(&[&header.to_bytes(), frame].concat()).unwrap();
}

fn got_with(pod: &UnixDatagram) -> Option<(VirtioNetHeader, Vec<u8>)> {
    let mut buf = vec![0; 70_000];
    let len = pod.recv(&mut buf).ok()?;
    let header = VirtioNetHeader::from_bytes(*buf.first_chunk().unwrap());
    Some((header, buf[VirtioNetHeader::LEN..len].to_vec()))
}

/// Everything that a far end receives, until there is nothing more.
fn all(far: &mut Underlay) -> Vec<Vec<u8>> {
    let mut buf = vec![0; 70_000];
    Poll::default().wait([(far.as_fd(), false)], Some(SOON)).unwrap();
    let mut datagrams = Vec::new();
    while let Some(datagram) = far.recv(&mut buf).unwrap() {
        datagrams.push(buf[..datagram.len].to_vec());
    }
    datagrams
}

/// The TCP or UDP payload of a frame whose checksums are right.
fn payload(frame: &[u8]) -> Vec<u8> {
    let inner = Inner::classify(frame).unwrap();
    let Network::Ipv4(ip) = inner.network else { panic!("IPv4") };
    assert_eq!(Sum::new().add_bytes(&frame[14..34]).finish(), 0, "IPv4 checksum");
    assert_eq!(usize::from(ip.total_len), frame.len() - 14);
    let sum = checksum::pseudo_header_v4(ip.src, ip.dst, ip.protocol, ip.total_len - 20);
    assert_eq!(sum.add_bytes(&frame[34..]).finish(), 0, "transport checksum");
    frame[if ip.protocol == protocol::TCP { TCP_HEADERS } else { UDP_HEADERS }..].to_vec()
}

fn far(addr: &str) -> Underlay {
    Underlay::bind((ip(addr), 0).into(), &UnderlayConfig::default()).unwrap()
}

/// A VTEP at which the test listens, on the flood list.
fn listen(node: &mut Driver, addr: &str) -> Underlay {
    let far = far(addr);
    let vtep = add_vtep(node, VtepConfig::new(ip(addr), far.local_addr().port()));
    node.apply(&Command::AddFlood { vni: VNI, vtep }).unwrap();
    far
}

fn bridged_on(local: &str, offload: Offload) -> (Driver, PortId, UnixDatagram) {
    let (mut node, config) = (driver_with(local, &DriverConfig { offload }), VniConfig::default());
    node.apply(&Command::AddVni { vni: VNI, config }).unwrap();
    let (port, pod) = add_pod(&mut node, PortConfig::new(VNI));
    (node, port, pod)
}

fn turns(node: &mut Driver) -> Turn {
    let mut sum = Turn::default();
    loop {
        let turn = node.turn(NOW).unwrap();
        if turn == Turn::default() {
            return sum;
        }
        sum += turn;
    }
}

#[test]
fn a_superframe_is_cut_for_every_vtep_of_a_flood() {
    for rung in RUNGS {
        let (mut a, _, pod) = bridged_on(A, rung);
        let mut ends = [listen(&mut a, B), listen(&mut a, C)];
        let (header, frame) = tcp(MacAddr::BROADCAST, 60_000, 1398);
        put_with(&pod, header, &frame);
        assert_eq!(turns(&mut a), Turn { frames: 1, ..Turn::default() });
        for far in &mut ends {
            let datagrams = all(far);
            assert_eq!(datagrams.len(), 43, "{rung}");
            let vxlan = VxlanHeader::emit(VNI, None);
            assert!(datagrams.iter().all(|d| d[..8] == vxlan && d.len() <= 8 + TCP_HEADERS + 1398));
            let joined: Vec<u8> = datagrams.iter().flat_map(|d| payload(&d[8..])).collect();
            assert_eq!(joined, content(60_000));
        }
        let sends = a.counters().segmented_sends;
        assert_eq!((a.counters().superframes, a.counters().udp_tx), (1, 86));
        assert_eq!(sends > 0, rung == Offload::Gso, "{sends} at {rung}");
        assert_eq!(a.engine().counters().drops.total(), 0);
    }
}

/// What one pod sends in one piece, the other receives in one piece, and the octets are the same.
#[test]
fn a_superframe_is_whole_again_at_the_other_end() {
    for (rung, pieces) in [(Offload::Gso, 1), (Offload::Batch, 43), (Offload::None, 43)] {
        let (mut a, _, pod_a) = bridged_on(A, rung);
        let (mut b, _, pod_b) = bridged_on(B, rung);
        know(&mut a, &b);
        know(&mut b, &a);
        let (header, frame) = tcp(MacAddr::BROADCAST, 60_000, 1398);
        put_with(&pod_a, header, &frame);
        turns(&mut a);
        let mut received = Vec::new();
        let mut writes = 0;
        while received.len() < 60_000 {
            b.turn(SOON).unwrap();
            while let Some((header, part)) = got_with(&pod_b) {
                writes += 1;
                if rung == Offload::Gso {
                    assert_eq!(part, frame, "the very same octets");
                    assert_eq!((header.gso_type, header.gso_size), (VirtioNetHeader::GSO_TCPV4, 1398));
                    assert_eq!(header.flags, VirtioNetHeader::NEEDS_CSUM);
                    assert_eq!((header.csum_start, header.csum_offset), (34, 16));
                } else {
                    payload(&part);
                }
                received.extend_from_slice(&part[TCP_HEADERS..]);
            }
        }
        assert_eq!((received, writes), (content(60_000), pieces));
        assert_eq!(b.counters().joined, u64::from(rung == Offload::Gso));
        assert_eq!(b.counters().tap_tx, 43, "frames that are joined count each");
    }
}

#[test]
fn small_frames_of_any_flow_leave_together_and_in_order() {
    for rung in RUNGS {
        let (mut a, _, pod) = bridged_on(A, rung);
        let (mut b, mut c) = (listen(&mut a, B), listen(&mut a, C));
        // Lengths that rise, fall and stay the same; unix sockets queue ten messages or more.
        let lens = [18, 18, 40, 18, 18, 700, 3, 3, 3, 18];
        let frames: Vec<Vec<u8>> =
            lens.iter().enumerate().map(|(n, len)| udp(MacAddr::BROADCAST, &vec![n as u8; *len])).collect();
        for frame in &frames {
            put_with(&pod, UDP_CHECK, frame);
        }
        assert_eq!(turns(&mut a).frames, frames.len());
        for far in [&mut b, &mut c] {
            let datagrams = all(far);
            let order: Vec<(u8, usize)> = datagrams
                .iter()
                .map(|d| {
                    let payload = payload(&d[8..]);
                    (payload[0], payload.len())
                })
                .collect();
            let want: Vec<(u8, usize)> = lens.iter().enumerate().map(|(n, len)| (n as u8, *len)).collect();
            assert_eq!(order, want, "{rung}");
        }
        assert_eq!(a.counters().udp_tx, 2 * frames.len() as u64);
    }
}

#[test]
fn a_flood_to_many_vteps_leaves_in_one_send_for_each() {
    const FRAMES: usize = 8;
    let (mut a, _, pod) = bridged_on(A, Offload::Gso);
    let mut ends: Vec<_> = (10..26).map(|n| listen(&mut a, &format!("127.0.0.{n}"))).collect();
    // A device that had a superframe is asked for several frames.
    let (header, superframe) = tcp(MacAddr::BROADCAST, 200, 100);
    put_with(&pod, header, &superframe);
    turns(&mut a);
    for far in &mut ends {
        assert_eq!(all(far).len(), 2);
    }
    let before = a.counters();
    for n in 0..FRAMES {
        put_with(&pod, UDP_CHECK, &udp(MacAddr::BROADCAST, &[n as u8; 40]));
    }
    assert_eq!(a.turn(SOON).unwrap().frames, FRAMES);
    for far in &mut ends {
        let numbers: Vec<_> = all(far).iter().map(|d| usize::from(payload(&d[8..])[0])).collect();
        assert_eq!(numbers, Vec::from_iter(0..FRAMES));
    }
    assert_eq!(a.counters().segmented_sends - before.segmented_sends, ends.len() as u64);
    assert_eq!(a.counters().udp_tx - before.udp_tx, (ends.len() * FRAMES) as u64);
}

#[test]
fn floods_to_many_vteps_are_few_in_a_turn() {
    const FRAMES: usize = 8;
    let (mut a, _, pod) = bridged_on(A, Offload::Gso);
    let _ends: Vec<_> = (10..60).map(|n| listen(&mut a, &format!("127.0.0.{n}"))).collect();
    // 50 times 60 copies of each.
    let (header, superframe) = tcp(MacAddr::BROADCAST, 6000, 100);
    for _ in 0..FRAMES {
        put_with(&pod, header, &superframe);
    }
    for _ in 0..FRAMES {
        assert_eq!(a.turn(SOON).unwrap().frames, 1);
    }
    assert_eq!(a.counters().udp_tx, (FRAMES * 3000) as u64);
}

#[test]
fn floods_to_many_ports_are_few_in_a_turn() {
    const ROOMS: usize = 4;
    let (mut a, _, _pod) = bridged_on(A, Offload::Gso);
    let _pods: Vec<_> = (1..40).map(|_| add_pod(&mut a, PortConfig::new(VNI))).collect();
    let mut far = far(B);
    add_vtep(&mut a, VtepConfig::new(ip(B), far.local_addr().port()));
    // 40 times 60 copies of each.
    let frame = ethernet(MacAddr::BROADCAST, POD, 0x88b5, &[7; 40]);
    let datagram = [&VxlanHeader::emit(VNI, None)[..], &frame].concat();
    let to = a.sockets().next().unwrap().local_addr();
    for _ in 0..ROOMS {
        send_merged(&mut far, to, &[datagram.repeat(60)], datagram.len() as u16);
    }
    for _ in 0..ROOMS {
        assert_eq!(a.turn(SOON).unwrap().datagrams, 60);
    }
}

#[test]
fn what_stays_on_the_node_stays_whole() {
    let (mut a, _, pod) = bridged_on(A, Offload::Gso);
    let (near, near_pod) = add_pod(&mut a, PortConfig::new(VNI));
    let (header, frame) = tcp(MacAddr::BROADCAST, 20_000, 1396);
    put_with(&pod, header, &frame);
    turns(&mut a);
    assert_eq!(got_with(&near_pod), Some((header, frame.clone())), "with what is to be done to it");
    put_with(&pod, UDP_CHECK, &udp(MacAddr::BROADCAST, &[1; 30]));
    turns(&mut a);
    assert_eq!(got_with(&near_pod).unwrap().0, UDP_CHECK);

    // A device without a virtio-net header takes segments, and one with a smaller MTU nothing.
    drop(a.remove_tap(near));
    let (tap, plain) = fake(false);
    a.add_tap(near, tap).unwrap();
    put_with(&pod, header, &frame);
    turns(&mut a);
    let mut joined = Vec::new();
    let mut buf = [0; 2000];
    while let Ok(len) = plain.recv(&mut buf) {
        joined.extend(payload(&buf[..len]));
    }
    assert_eq!(joined, content(20_000));
    let (header, frame) = tcp(MacAddr::BROADCAST, 20_000, 1450);
    put_with(&pod, header, &frame);
    turns(&mut a);
    assert!(plain.recv(&mut buf).is_err());
    assert_eq!(a.engine().port_counters(near).unwrap().drops.get(DropReason::MtuExceeded), 1);
}

#[test]
fn an_offload_request_that_lies_is_a_counted_drop() {
    let (mut a, port, pod) = bridged_on(A, Offload::Gso);
    let _far = listen(&mut a, B);
    let (header, frame) = tcp(MacAddr::BROADCAST, 5000, 1400);
    let lies = [
        VirtioNetHeader { gso_size: 0, ..header },
        VirtioNetHeader { gso_type: VirtioNetHeader::GSO_TCPV6, ..header },
        VirtioNetHeader { gso_type: 77, ..header },
        VirtioNetHeader { csum_offset: 6, ..header },
        VirtioNetHeader { csum_start: 60_000, ..header },
        VirtioNetHeader { flags: 0, ..header },
        VirtioNetHeader { csum_start: u16::MAX, csum_offset: u16::MAX, gso_type: 0, ..header },
    ];
    for lie in lies {
        put_with(&pod, lie, &frame);
        turns(&mut a);
    }
    let drops = &a.engine().port_counters(port).unwrap().drops;
    assert_eq!(drops.get(DropReason::NotHandled), lies.len() as u64);
    assert_eq!((a.counters().udp_tx, a.engine().counters().encap_frames), (0, 0));
}

/// As a kernel without `UDP_SEGMENT` does, and one that has it does for a socket without checksums.
#[test]
fn what_the_kernel_does_not_cut_goes_one_by_one() {
    let (mut a, _, pod) = bridged_on(A, Offload::Gso);
    let mut far = listen(&mut a, B);
    let underlay = a.sockets().next().unwrap();
    sys::set_option(underlay.as_fd(), IntOption::NO_CHECKSUM, 1).unwrap();
    let (header, frame) = tcp(MacAddr::BROADCAST, 60_000, 1398);
    for round in 1..=10 {
        put_with(&pod, header, &frame);
        turns(&mut a);
        let joined: Vec<u8> = all(&mut far).iter().flat_map(|d| payload(&d[8..])).collect();
        assert_eq!(joined, content(60_000), "nothing lost, nothing twice");
        assert_eq!(a.counters().udp_tx, round * 43);
    }
    assert_eq!(a.counters().segmenting_refused, 8, "then it is not tried any more");
    assert_eq!(a.sockets().next().unwrap().offload().segments, 0);
    assert_eq!((a.counters().segmented_sends, a.engine().counters().drops.total()), (0, 0));
}

#[test]
fn zero_checksums_and_segments_exclude_each_other() {
    let config = UnderlayConfig { zero_checksum: true, ..UnderlayConfig::default() };
    let socket = || Underlay::bind((ip(A), 0).into(), &config).unwrap();
    let error = driver_with(A, &DriverConfig::default()).add_socket(socket()).unwrap_err();
    assert!(error.to_string().ends_with("segmentation offload needs real ones: choose one"), "{error}");
    assert!(driver_with(A, &DriverConfig { offload: Offload::Batch }).add_socket(socket()).is_ok());
}

#[test]
fn a_superframe_that_does_not_fit_the_path_is_one_drop() {
    let (mut a, port, pod) = bridged_on(A, Offload::Gso);
    let far = far(B);
    let config = VtepConfig { mtu: 1400, ..VtepConfig::new(ip(B), far.local_addr().port()) };
    let vtep = add_vtep(&mut a, config);
    let at = Destination::Vtep(vtep);
    a.apply(&Command::AddMac { vni: VNI, mac: PEER, at, kind: EntryKind::Static }).unwrap();
    // 1400 octets less outer IPv4, UDP and VXLAN headers, and those of the inner frame.
    let room = 1400 - 36 - TCP_HEADERS as u16;
    for (size, fits) in [(room, true), (room + 1, false)] {
        let (header, frame) = tcp(PEER, 9000, size);
        put_with(&pod, header, &frame);
        let before = a.counters().udp_tx;
        turns(&mut a);
        assert_eq!(a.counters().udp_tx > before, fits, "{size}");
    }
    assert_eq!(a.engine().port_counters(port).unwrap().drops.get(DropReason::MtuExceeded), 1);
}

/// A kernel VXLAN peer across a veth hands over what its stack had: superframes, checksums open.
#[test]
fn whole_superframes_from_a_kernel_peer_are_passed_on() {
    let (mut a, _, pod) = bridged_on(A, Offload::Gso);
    let mut far = listen(&mut a, B);
    let to = (ip(A), port_of(&a)).into();
    let (_, frame) = tcp(MacAddr::BROADCAST, 30_000, 0);
    let vxlan = VxlanHeader::emit(VNI, None);
    let small = udp(MacAddr::BROADCAST, &[5; 40]);
    for inner in [&frame, &small, &frame] {
        assert_eq!(far.send(&[&vxlan, inner], to, None).unwrap(), crate::linux::Sent::Taken);
    }
    let mut seen = Vec::new();
    while seen.len() < 3 {
        a.turn(SOON).unwrap();
        seen.extend(core::iter::from_fn(|| got_with(&pod)));
    }
    // The MTU of the fake is 1450: 1410 octets of TCP payload fit.
    assert_eq!((seen[0].0.gso_type, seen[0].0.gso_size), (VirtioNetHeader::GSO_TCPV4, 1410));
    assert_eq!((&seen[0].1, &seen[1].1), (&frame, &small));
    assert_eq!((seen[1].0, seen[2].0), (UDP_CHECK, seen[0].0));
    // UDP says no size, so nobody could cut it.
    let _ = far.send(&[&vxlan, &udp(MacAddr::BROADCAST, &[6; 9000])], to, None).unwrap();
    a.turn(SOON).unwrap();
    assert!(got_with(&pod).is_none());
    assert_eq!(a.counters().too_big, 1);
}

/// Sends octets so that they arrive as one, with this segment size.
fn send_merged(far: &mut Underlay, to: SocketAddr, datagrams: &[Vec<u8>], segment: u16) {
    far.set_offload(true).unwrap();
    let mut batch = SendBatch::new(4, 16);
    let parts = datagrams.iter().map(|d| &d[..]);
    let message = Outgoing { to, tos: None, segment: Some(segment), parts };
    assert_eq!(far.send_batch(&mut batch, [message].into_iter()).unwrap(), 1);
}

/// A pod states a length that its frame has not, and a datagram of another VNI was merged behind it.
#[test]
fn a_length_that_lies_gets_no_octet_of_another_vni() {
    let (mut node, _, liar) = bridged_on(B, Offload::Gso);
    let other = Vni::truncate(43);
    node.apply(&Command::AddVni { vni: other, config: VniConfig::default() }).unwrap();
    let (_, victim) = add_pod(&mut node, PortConfig::new(other));
    let mut from = far(A);
    let vtep = add_vtep(&mut node, VtepConfig::new(ip(A), from.local_addr().port()));
    let to = (ip(B), port_of(&node)).into();
    let datagram = |vni, frame: &[u8]| [&VxlanHeader::emit(vni, None)[..], frame].concat();
    let secret = datagram(other, &udp(MacAddr::BROADCAST, &[0x53; 100]));
    let honest = datagram(VNI, &udp(MacAddr::BROADCAST, &[0x61; 100]));

    send_merged(&mut from, to, &[honest.clone(), secret.clone()], honest.len() as u16);
    assert_eq!(turns(&mut node).datagrams, 2);
    assert_eq!(got_with(&liar).unwrap().1, honest[8..]);
    assert_eq!(got_with(&victim).unwrap().1, secret[8..]);

    let room = honest.len() + secret.len();
    // IP and UDP lengths that go on to the end of what arrived, too.
    for (ip_len, udp_len) in [(5000, 108), (room - 8 - 14, room - 8 - 34)] {
        let mut lie = honest.clone();
        lie[24..26].copy_from_slice(&(ip_len as u16).to_be_bytes());
        lie[46..48].copy_from_slice(&(udp_len as u16).to_be_bytes());
        let before = node.engine().counters().drops.get(DropReason::BadLength);
        send_merged(&mut from, to, &[lie, secret.clone()], honest.len() as u16);
        assert_eq!(turns(&mut node).datagrams, 2);
        assert!(got_with(&liar).is_none() && got_with(&victim).is_none());
        let counters = node.engine().counters();
        assert_eq!(counters.drops.get(DropReason::BadLength) - before, 2, "each datagram counts");
    }
    assert_eq!(node.engine().vtep_counters(vtep).unwrap().drops.get(DropReason::BadLength), 4);
}

/// Superframes of other devices fill the packet memory in every turn.
#[test]
fn devices_that_never_run_dry_leave_room_for_the_others() {
    let (mut node, _, first) = bridged_on(A, Offload::Gso);
    let mut loud = vec![first];
    loud.extend((0..5).map(|_| add_pod(&mut node, PortConfig::new(VNI)).1));
    let (_, quiet) = add_pod(&mut node, PortConfig::new(VNI));
    let (mut near, far_away) = (far(B), far(C));
    for (mac, end) in [(PEER, &near), (THIRD, &far_away)] {
        let end = end.local_addr();
        let at = Destination::Vtep(add_vtep(&mut node, VtepConfig::new(end.ip(), end.port())));
        node.apply(&Command::AddMac { vni: VNI, mac, at, kind: EntryKind::Static }).unwrap();
    }
    let (header, frame) = tcp(THIRD, 65_000, 1400);
    let superframe = [&header.to_bytes()[..], &frame].concat();
    let mut turn = || {
        for pod in &loud {
            while pod.send(&superframe).is_ok() {}
        }
        node.turn(NOW).unwrap().frames
    };
    // Until they are asked for as many as there is room for.
    for _ in 0..3 {
        turn();
    }
    for n in 0..2 {
        put_with(&quiet, UDP_CHECK, &udp(PEER, &[n; 100]));
    }
    let frames = [turn(), turn()];
    assert!(frames.iter().all(|n| *n > loud.len()), "the loud ones are served as well: {frames:?}");
    let sent: Vec<u8> = all(&mut near).iter().map(|d| payload(&d[8..])[0]).collect();
    assert_eq!(sent, [0, 1], "both frames of the quiet one, within two turns");
}

/// A kernel peer's superframe between datagrams of its flow: it is joined with none of them.
#[test]
fn what_stands_alone_keeps_its_place_in_its_flow() {
    let (mut node, _, pod) = bridged_on(B, Offload::Gso);
    let mut from = listen(&mut node, A);
    let to = (ip(B), port_of(&node)).into();
    let datagram = |n: u8, len: usize| {
        [&VxlanHeader::emit(VNI, None)[..], &udp(MacAddr::BROADCAST, &vec![n; len])].concat()
    };
    // Merged ones first: the node then asks for several at a time.
    send_merged(&mut from, to, &[datagram(0, 100), datagram(0, 100)], 150);
    turns(&mut node);
    assert_eq!(got_with(&pod).unwrap().1.len(), UDP_HEADERS + 200);
    for n in [1, 2, 3, 4] {
        match n {
            // The size that the kernel tells is that of the inner payloads.
            2 => send_merged(&mut from, to, &[datagram(n, 3000)], 1000),
            _ => send_merged(&mut from, to, &[datagram(n, 100)], 150),
        }
    }
    turns(&mut node);
    let seen: Vec<_> =
        core::iter::from_fn(|| got_with(&pod)).map(|(h, f)| (f[UDP_HEADERS], f.len(), h.gso_size)).collect();
    let len = |payload| UDP_HEADERS + payload;
    assert_eq!(seen, [(1, len(100), 0), (2, len(3000), 1000), (3, len(200), 100)]);
}

/// A pod whose device takes nothing longer than 128 pieces of 100 octets (64 in old kernels), and says
/// so as a device says it that takes no joined frames (`EINVAL`).
fn add_pod_that_takes_none_joined(node: &mut Driver) -> (PortId, Underlay) {
    let mut end = far(C);
    end.set_offload(true).unwrap();
    let device = std::net::UdpSocket::bind((ip(C), 0)).unwrap();
    device.connect(end.local_addr()).unwrap();
    device.set_nonblocking(true).unwrap();
    sys::set_option(device.as_fd(), IntOption::UDP_SEGMENT, 100).unwrap();
    let port = node.apply(&Command::AddPort(PortConfig::new(VNI))).unwrap().port().unwrap();
    node.add_tap(port, fake_over(device.into(), true)).unwrap();
    node.plane.io.slot_mut(port).unwrap().merges_udp = true;
    (port, end)
}

#[test]
fn every_device_that_takes_none_joined_gets_them_one_by_one() {
    const FRAMES: usize = 14;
    let (mut node, _, pod) = bridged_on(B, Offload::Gso);
    let mut single = [(); 2].map(|()| add_pod_that_takes_none_joined(&mut node).1);
    let (_, last) = add_pod(&mut node, PortConfig::new(VNI));
    let mut from = listen(&mut node, A);
    let to = (ip(B), port_of(&node)).into();
    let frame = udp(MacAddr::BROADCAST, &content(1000));
    let datagram = [&VxlanHeader::emit(VNI, None)[..], &frame].concat();
    send_merged(&mut from, to, &vec![datagram.clone(); FRAMES], datagram.len() as u16);
    turns(&mut node);
    for pod in [&pod, &last] {
        assert_eq!(got_with(pod).unwrap().1.len(), UDP_HEADERS + FRAMES * 1000);
    }
    for end in &mut single {
        let whole = [&UDP_CHECK.to_bytes()[..], &frame].concat();
        assert_eq!(all(end), vec![whole; FRAMES], "nothing lost, and as it was");
    }
    assert_eq!((node.counters().joined, node.counters().joining_refused), (2, 2));
    assert_eq!((node.counters().tap_tx, node.engine().counters().drops.total()), (4 * FRAMES as u64, 0));
}

/// Some datagrams of one flow over TCP or UDP that may be joined.
fn flow(dst: MacAddr, upper: u8, count: usize) -> Vec<Vec<u8>> {
    let frames: Vec<Vec<u8>> = match upper {
        protocol::TCP => {
            let (header, frame) = tcp(dst, count * 1000, 1000);
            let cut = Superframe::parse(&header, &frame).unwrap().unwrap();
            let segment = |n| {
                let mut headers = vec![0; cut.header_len()];
                cut.write_header(n, &frame, &mut headers).unwrap();
                [&headers, &frame[cut.payload(n)]].concat()
            };
            (0..cut.segments()).map(segment).collect()
        }
        _ => vec![udp(dst, &content(1000)); count],
    };
    let vxlan = VxlanHeader::emit(VNI, None);
    frames.iter().map(|frame| [&vxlan[..], frame].concat()).collect()
}

fn static_at(node: &mut Driver, mac: MacAddr, port: PortId) {
    let (at, kind) = (Destination::Port(port), EntryKind::Static);
    node.apply(&Command::AddMac { vni: VNI, mac, at, kind }).unwrap();
}

/// As a TAP of Linux before 6.2, which has no USO.
#[test]
fn a_device_that_cuts_no_udp_gets_none_joined() {
    let (mut node, port, pod) = bridged_on(B, Offload::Gso);
    let (tap, old_pod) = fake(true);
    let old = node.apply(&Command::AddPort(PortConfig::new(VNI))).unwrap().port().unwrap();
    node.add_tap(old, tap).unwrap();
    static_at(&mut node, THIRD, port);
    static_at(&mut node, PEER, old);
    let mut from = listen(&mut node, A);
    let to = (ip(B), port_of(&node)).into();
    for (dst, upper, writes) in [
        (THIRD, protocol::UDP, [1, 0]),
        (PEER, protocol::UDP, [0, 2]),
        (MacAddr::BROADCAST, protocol::UDP, [2, 2]),
        (PEER, protocol::TCP, [0, 1]),
        (MacAddr::BROADCAST, protocol::TCP, [1, 1]),
    ] {
        let datagrams = flow(dst, upper, 2);
        send_merged(&mut from, to, &datagrams, datagrams[0].len() as u16);
        assert_eq!(turns(&mut node).datagrams, 2);
        let seen = [&pod, &old_pod].map(|pod| core::iter::from_fn(|| got_with(pod)).count());
        assert_eq!(seen, writes, "{dst:?} {upper}");
    }
    assert_eq!((node.counters().joining_refused, node.engine().counters().drops.total()), (0, 0));
}

#[test]
fn a_device_that_refuses_joined_frames_does_not_end_joining_for_others() {
    const FRAMES: usize = 14;
    let (mut node, port, pod) = bridged_on(B, Offload::Gso);
    let (refusing, mut end) = add_pod_that_takes_none_joined(&mut node);
    static_at(&mut node, THIRD, port);
    static_at(&mut node, PEER, refusing);
    let mut from = listen(&mut node, A);
    let to = (ip(B), port_of(&node)).into();
    for round in 1..=10 {
        for (dst, upper) in [(PEER, protocol::UDP), (THIRD, protocol::TCP)] {
            let datagrams = flow(dst, upper, FRAMES);
            send_merged(&mut from, to, &datagrams, datagrams[0].len() as u16);
            assert_eq!(turns(&mut node).datagrams, FRAMES);
        }
        assert_eq!(all(&mut end).len(), FRAMES, "one by one");
        assert_eq!(got_with(&pod).map(|(_, whole)| whole.len()), Some(TCP_HEADERS + FRAMES * 1000));
        assert_eq!(node.counters().joining_refused, round.min(8), "then it is given no more");
    }
    assert_eq!(node.engine().counters().drops.total(), 0);
}

/// Options that a socket came with add control messages before the one that tells the segment size.
#[test]
fn a_socket_with_time_stamps_tells_merged_datagrams_apart() {
    let socket = std::net::UdpSocket::bind((ip(B), 0)).unwrap();
    for (option, value) in IntOption::TIMESTAMPS {
        sys::set_option(socket.as_fd(), option, value).unwrap();
    }
    let (mut node, _, pod) = bridged_on(B, Offload::Gso);
    let to = socket.local_addr().unwrap();
    node.add_socket(Underlay::from_socket(socket, &UnderlayConfig::default()).unwrap()).unwrap();
    let mut from = listen(&mut node, A);
    let [one, two] = [200, 300].map(|len| udp(MacAddr::BROADCAST, &content(len)));
    let vxlan = VxlanHeader::emit(VNI, None);
    let datagrams = [[&vxlan[..], &two].concat(), [&vxlan[..], &one].concat()];
    send_merged(&mut from, to, &datagrams, datagrams[0].len() as u16);
    assert_eq!(turns(&mut node).datagrams, 2);
    let whole = got_with(&pod).unwrap().1;
    assert_eq!(whole.len(), UDP_HEADERS + 300 + 200);
}

#[test]
fn an_empty_datagram_is_a_counted_drop() {
    for rung in RUNGS {
        let (mut node, _, _pod) = bridged_on(B, rung);
        let to = (ip(B), port_of(&node)).into();
        let mut from = listen(&mut node, A);
        for _ in 0..3 {
            let _ = from.send(&[], to, None).unwrap();
        }
        assert_eq!(turns(&mut node).datagrams, 3, "{rung}");
        assert_eq!(node.engine().counters().drops.get(DropReason::Truncated), 3, "{rung}");
    }
}

/// A frame that is of no use is one of those that a device may have read in a turn.
#[test]
fn malformed_frames_take_no_longer_than_others() {
    let (mut node, _, pod) = bridged_on(A, Offload::Gso);
    let (header, frame) = tcp(MacAddr::BROADCAST, 500, 100);
    for _ in 0..5 {
        put_with(&pod, VirtioNetHeader { gso_size: 0, ..header }, &frame);
    }
    assert_eq!(node.turn(NOW).unwrap().frames, 1, "a device is asked for one at first");
    assert_eq!(turns(&mut node).frames, 4);
    assert_eq!(node.engine().counters().drops.get(DropReason::NotHandled), 5);
}
