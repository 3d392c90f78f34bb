//! The kernel's own segmentation beside ours.

use std::time::{Duration, Instant};

use overlane::addr::{Destination, MacAddr, Vni};
use overlane::engine::Command;
use overlane::error::DropReason;
use overlane::linux::offload::{Merger, VirtioNetHeader};
use overlane::linux::{Driver, Sent, Tap, UnderlayConfig};
use overlane::table::fdb::EntryKind;
use overlane::table::vni::VniConfig;
use overlane::table::vtep::VtepConfig;
use overlane::wire::vxlan::{PORT, VxlanPolicy};
use overlane_testkit::netns::NetNs;

use crate::make::*;
use crate::node::*;

/// Two TAPs on a bridge: what the first is given as a superframe comes out of the second, which has no
/// offloads, in segments that the kernel made.
struct Bridged {
    ns: NetNs,
    from: Tap,
    to: Tap,
}

impl Bridged {
    fn new() -> Bridged {
        let ns = NetNs::new("offload").unwrap();
        let mut r = ns.rtnl().unwrap();
        r.add_bridge("br0").unwrap();
        r.set_up("br0").unwrap();
        let [from, to] = ["t0", "t1"].map(|name| {
            let mut tap = ns.run(|| Tap::create(name).unwrap());
            r.set_bridge(name, "br0").unwrap();
            ns.run(|| tap.set_up().unwrap());
            tap
        });
        let mut bridged = Bridged { ns, from, to };
        // A bridge takes a moment until its ports forward.
        let end = Instant::now() + TIMEOUT;
        let mut probe = Make::udp();
        probe.macs[11] ^= 1;
        while bridged.through(&VirtioNetHeader::NONE, &probe.bytes(), 1, TIMEOUT / 100).is_empty() {
            assert!(Instant::now() < end, "the bridge does not forward");
        }
        bridged
    }

    /// What comes of a frame: `count` frames, or as many as there are `within` this time.
    fn through(
        &mut self,
        header: &VirtioNetHeader,
        frame: &[u8],
        count: usize,
        within: Duration,
    ) -> Vec<Vec<u8>> {
        assert_eq!(self.from.send_with(frame, *header).unwrap(), Sent::Taken);
        let (mut found, mut buffer) = (Vec::new(), vec![0; 65_536]);
        let end = Instant::now() + within;
        while found.len() < count && Instant::now() < end {
            match self.to.recv(&mut buffer).unwrap() {
                // Not what the kernel itself sends there, nor a late one of other addresses.
                Some(len) if buffer[..12] == frame[..12] => found.push(buffer[..len].to_vec()),
                Some(_) => {}
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        found
    }
}

/// Each kind of superframe, cut by the kernel and by us: the same octets.
pub fn cuts() {
    let mut bridged = Bridged::new();
    let flags = [ACK, ACK | PSH, ACK | FIN | PSH, ACK | CWR | ECE | PSH, ACK | URG | PSH, ACK | CWR];
    let mut cases = Vec::new();
    for v6 in [false, true] {
        for tags in [vec![], vec![0x2064], vec![1, 2]] {
            let tcp = Make { v6, tags, urgent: 77, seq: u32::MAX - 2000, id: 0xfffe, ..Make::tcp() };
            for flags in flags {
                cases.push((Make { flags, ..tcp.clone() }, 1398));
            }
            let udp = Make { tcp: false, options: vec![], ..tcp.clone() };
            cases.extend([(udp.clone(), 1400), (Make { fragment: 0, ..udp }, 33)]);
            cases.push((Make { options: vec![], fragment: 0, tos: 0xb9, ..tcp.clone() }, 1399));
            cases.push((Make { options: vec![1; 40], ttl: 1, ..tcp }, 536));
        }
    }
    cases.push((Make { ip_options: vec![1; 40], ..Make::tcp() }, 1000));
    for extension in [0, 43, 60] {
        cases.push((Make { v6: true, extensions: vec![(extension, 16)], ..Make::tcp() }, 1000));
    }
    for (make, gso_size) in cases {
        for payload in [usize::from(gso_size) + 1, usize::from(gso_size) * 3, usize::from(gso_size) * 4 + 5] {
            let whole = Make { payload: octets(payload), check: Check::Unfinished, ..make.clone() };
            let (mut header, frame) = (whole.virtio(gso_size), whole.bytes());
            if whole.tcp && whole.flags & CWR != 0 {
                header.gso_type |= VirtioNetHeader::GSO_ECN;
            }
            let ours = segments(&header, &frame);
            let theirs = bridged.through(&header, &frame, ours.len(), TIMEOUT);
            assert_eq!(theirs, ours, "{gso_size} {:?}", Make { payload: vec![], ..whole });
        }
    }
}

/// What was merged and written as one superframe comes out of the kernel as the frames that went in.
pub fn joins() {
    let mut bridged = Bridged::new();
    for v6 in [false, true] {
        for tags in [vec![], vec![0x2064]] {
            for base in [Make::tcp(), Make::udp()] {
                for (count, payload, last) in [(2, 1398, 1398), (45, 1398, 7), (64, 100, 1), (3, 1, 1)] {
                    let mut next = Make { v6, tags: tags.clone(), seq: u32::MAX - 500, ..base.clone() };
                    let mut frames = Vec::new();
                    for n in 0..count {
                        let ends = if n + 1 == count { PSH } else { 0 };
                        let starts = if n == 0 { CWR } else { 0 };
                        let payload = octets(if n + 1 == count { last } else { payload });
                        let make = Make { flags: ACK | ends | starts, payload, ..next.clone() };
                        next.seq = make.seq.wrapping_add(make.payload.len() as u32);
                        next.id = make.id.wrapping_add(1);
                        frames.push(make.bytes());
                    }
                    let mut merger = Merger::new(count);
                    for (n, frame) in frames.iter().enumerate() {
                        merger.push(n as u16, 0, frame).unwrap();
                    }
                    let group = merger.groups().next().unwrap();
                    assert_eq!(group.frames(), count);
                    let part =
                        |(n, range): (u16, std::ops::Range<usize>)| frames[usize::from(n)][range].to_vec();
                    let mut joined: Vec<_> = merger.parts(&group).flat_map(part).collect();
                    let head = &mut joined[..frames[0].len()];
                    let header = merger.finish(&group, head, 1500).unwrap();
                    assert_eq!(
                        bridged.through(&header, &joined, count, TIMEOUT),
                        frames,
                        "{v6} {count} {base:?}"
                    );
                }
            }
        }
    }
}

/// The kernel refuses what goes to a blackhole with the errno of a kernel that does not cut.
pub fn blackhole() {
    const SEGMENTS: usize = 128;
    const SIZE: u16 = 400;
    let vni = Vni::truncate(42);
    for v6 in [false, true] {
        let Bridged { ns, mut from, to } = Bridged::new();
        let (addrs, len) = match v6 {
            false => (["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(ip), 32),
            true => (["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(ip), 128),
        };
        let mut r = ns.rtnl().unwrap();
        r.add_veth("d0", "d1", None).unwrap();
        r.add_address("d0", addrs[0], len - 8).unwrap();
        for name in ["d0", "d1"] {
            r.set_up(name).unwrap();
        }
        let mut node = driver(&ns, &addrs[..1], PORT, VxlanPolicy::default(), UnderlayConfig::default());
        add_vni(&mut node, vni, VniConfig::default());
        add_tap(&mut node, vni, to);
        let [peer, other] = [1, 2].map(|n: u8| {
            let mac = [2, 0, 0, 0, 1, n];
            r.add_neighbour("d0", addrs[usize::from(n)], mac).unwrap();
            let vtep = add_vtep(&mut node, VtepConfig::new(addrs[usize::from(n)], PORT));
            let (mac, at, kind) = (MacAddr(mac), Destination::Vtep(vtep), EntryKind::Static);
            node.apply(&Command::AddMac { vni, mac, at, kind }).unwrap();
            (mac, vtep)
        });
        let mut send = |node: &mut Driver, mac: MacAddr| {
            let payload = octets(SEGMENTS * usize::from(SIZE));
            let mut make = Make { payload, check: Check::Unfinished, ..Make::tcp() };
            make.macs[..6].copy_from_slice(&mac.0);
            let (before, end) = (node.counters().superframes, Instant::now() + TIMEOUT);
            assert_eq!(from.send_with(&make.bytes(), make.virtio(SIZE)).unwrap(), Sent::Taken);
            while node.counters().superframes == before {
                node.turn(TIMEOUT / 100).unwrap();
                assert!(Instant::now() < end, "the superframe does not come");
            }
        };
        // Linux before 6.9 says here that it takes 64.
        send(&mut node, peer.0);
        let segments = node.sockets().next().unwrap().offload().segments;
        assert!(segments >= 64);
        send(&mut node, peer.0);
        let sends = SEGMENTS.div_ceil(usize::from(segments)) as u64;
        let before = node.counters().segmented_sends;

        r.add_blackhole((addrs[2], len)).unwrap();
        for _ in 0..8 {
            send(&mut node, other.0);
        }
        let lost = node.engine().vtep_counters(other.1).unwrap().drops.get(DropReason::TxFailed);
        assert_eq!(lost, 8 * SEGMENTS as u64, "IPv6: {v6}");
        assert_eq!(node.sockets().next().unwrap().offload().segments, segments, "IPv6: {v6}");
        for _ in 0..2 {
            send(&mut node, peer.0);
        }
        assert_eq!(node.counters().segmented_sends - before, 2 * sends, "IPv6: {v6}");
        assert_eq!(node.engine().vtep_counters(peer.1).unwrap().drops.total(), 0);
    }
}
