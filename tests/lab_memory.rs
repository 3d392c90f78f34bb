//! The lab's in-memory part works, and its report tells what failed.

#[path = "../examples/lab/memory.rs"]
mod memory;
#[path = "../examples/lab/report.rs"]
mod report;

use overlane::addr::Vni;
use overlane::wire::outer::{self, OuterPolicy, Shape};
use overlane::wire::vxlan::{VxlanHeader, VxlanPolicy};

#[test]
fn every_pair_of_pods_resolves_pings_and_transfers() {
    let mut said = Vec::new();
    let options = memory::Options { pings: 3, octets: 100_000, ..memory::Options::default() };
    let report = memory::run(&options, &mut |line| said.push(line.to_owned())).unwrap();
    assert!(report.worked(), "{report}");
    assert_eq!((report.nodes.len(), report.pairs.len()), (3, 6));
    assert!(said.len() > 6 * 2, "{said:?}");
    for pair in &report.pairs {
        assert_eq!(pair.neighbor, Some(report.nodes[pair.to].mac));
        assert_eq!((pair.answered, pair.octets), (3, 100_000));
    }
    for (n, node) in report.nodes.iter().enumerate() {
        assert_eq!(node.drops, []);
        // Each node learned every pod: its own at the port, the others at their nodes.
        let learned: Vec<_> = node.fdb.iter().map(|l| (l.mac, l.at.clone())).collect();
        let expected: Vec<_> = (0..3)
            .map(|m| {
                let at = if m == n { "port 0".to_owned() } else { report.nodes[m].underlay.to_string() };
                (report.nodes[m].mac, at)
            })
            .collect();
        assert_eq!(learned, expected);
    }
    // What a capture is made of: in order, from node to node, VXLAN of this VNI.
    assert!(report.packets.is_sorted_by_key(|p| p.time));
    for packet in &report.packets {
        let vxlan = VxlanHeader::parse(&packet.payload, &VxlanPolicy::default()).unwrap();
        assert_eq!((vxlan.vni, packet.dst.port()), (report.vni, 4789));
        assert!(packet.src.port() >= 49_152 && packet.src.ip() != packet.dst.ip());
        assert!(packet.payload.len() + 28 <= 1500);
    }
}

/// A long lab keeps the first datagrams and counts the rest.
#[test]
fn what_there_is_no_room_for_is_counted() {
    let all = memory::Options { pings: 1, octets: 100_000, ..memory::Options::default() };
    let few = memory::Options { kept: 10, ..all.clone() };
    let (all, few) = (memory::run(&all, &mut |_| {}).unwrap(), memory::run(&few, &mut |_| {}).unwrap());
    assert!(few.worked() && all.not_kept == 0);
    assert_eq!((few.packets.len(), few.not_kept), (10, all.packets.len() as u64 - 10));
}

#[test]
fn the_report_says_what_failed() {
    let options = memory::Options { pings: 1, octets: 1, ..memory::Options::default() };
    let good = memory::run(&options, &mut |_| {}).unwrap();
    assert!(good.to_string().contains("All 6 pairs worked."), "{good}");
    let spoil: [fn(&mut report::Pair); 4] =
        [|p| p.neighbor = None, |p| p.answered = 0, |p| p.pings = 0, |p| p.whole = false];
    for spoil in spoil {
        let mut bad = good.clone();
        spoil(&mut bad.pairs[4]);
        assert!(!bad.worked() && bad.to_string().contains("1 of 6 pairs FAILED."), "{bad}");
    }
    let nothing = report::Report { vni: Vni::truncate(1), ..report::Report::default() };
    assert!(!nothing.worked());
}

/// The capture holds each datagram behind Ethernet, IPv4 and UDP headers that read as it was sent.
#[test]
fn the_capture_holds_what_crossed_the_underlay() {
    let options = memory::Options { pings: 1, octets: 1000, ..memory::Options::default() };
    let report = memory::run(&options, &mut |_| {}).unwrap();
    let mut file = Vec::new();
    memory::write(&report.packets, &mut file).unwrap();
    assert_eq!(file[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
    let mut at = 0;
    for packet in &report.packets {
        let found = file[at..].windows(packet.payload.len()).position(|w| w == packet.payload).unwrap();
        let start = at + found - (14 + 20 + 8);
        let frame = &file[start..at + found + packet.payload.len()];
        let outer = outer::parse(Shape::Ethernet, frame, &OuterPolicy::default()).unwrap();
        assert_eq!((outer.src, outer.dst), (Some(packet.src.ip()), Some(packet.dst.ip())));
        assert_eq!((outer.udp_src, outer.udp_dst), (packet.src.port(), packet.dst.port()));
        at += found + packet.payload.len();
    }
}
