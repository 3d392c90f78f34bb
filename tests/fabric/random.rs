//! Anything in any order: what must hold at every step holds.

use overlane::addr::Destination;
use overlane::engine::Command;
use overlane::error::{ControlError, VniError};
use overlane::table::fdb::EntryKind;
use overlane::table::vni::{Accept, VniConfig};
use overlane_testkit::fabric::{Link, node_v4};
use proptest::prelude::*;

use super::*;

const NODES: usize = 4;
const VNIS: [Vni; 3] = [RED, Vni::truncate(2), BLUE];
/// Few, so that the same address turns up everywhere.
const MACS: u32 = 12;

/// Something that happens. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Op {
    Attach {
        node: usize,
        vni: usize,
        mac: u32,
    },
    Detach {
        pod: usize,
    },
    Move {
        pod: usize,
        node: usize,
    },
    /// A batch to some address, from the pod's own address or another.
    Send {
        pod: usize,
        to: Option<u32>,
        from: Option<u32>,
        n: usize,
    },
    Inject {
        node: usize,
        source: usize,
        bytes: Vec<u8>,
    },
    Pin {
        node: usize,
        pod: usize,
        mac: u32,
        kind: u8,
    },
    Flush {
        node: usize,
        vni: Option<usize>,
    },
    Unflood {
        node: usize,
        peer: usize,
        vni: usize,
    },
    Forget {
        node: usize,
        peer: usize,
    },
    Settings {
        node: usize,
        vni: usize,
        bits: u8,
    },
    RemoveVni {
        node: usize,
        vni: usize,
    },
    Links {
        loss: u32,
        duplicate: u32,
        reorder: u32,
    },
    Partition {
        nodes: u8,
    },
    Heal,
    Pass {
        millis: u32,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let (node, vni, pod) = (0..NODES, 0..VNIS.len(), 0..64usize);
    let mac = 0..MACS;
    let header = proptest::array::uniform8(any::<u8>());
    let inner = proptest::collection::vec(any::<u8>(), 0..64);
    let datagram =
        (header, 0..VNIS.len(), any::<bool>(), inner).prop_map(|(mut header, vni, real, inner)| {
            if real {
                header[0] = 8;
                header[4..].copy_from_slice(&(VNIS[vni].get() << 8).to_be_bytes());
            }
            [&header[..], &inner].concat()
        });
    prop_oneof![
        3 => (node.clone(), vni.clone(), mac.clone()).prop_map(|(node, vni, mac)| Op::Attach { node, vni, mac }),
        1 => pod.clone().prop_map(|pod| Op::Detach { pod }),
        2 => (pod.clone(), node.clone()).prop_map(|(pod, node)| Op::Move { pod, node }),
        12 => (pod.clone(), proptest::option::of(mac.clone()), proptest::option::weighted(0.2, mac.clone()), 1..40usize)
            .prop_map(|(pod, to, from, n)| Op::Send { pod, to, from, n }),
        2 => (node.clone(), 0..NODES + 1, datagram)
            .prop_map(|(node, source, bytes)| Op::Inject { node, source, bytes }),
        1 => (node.clone(), pod, mac, 0..3u8).prop_map(|(node, pod, mac, kind)| Op::Pin { node, pod, mac, kind }),
        1 => (node.clone(), proptest::option::of(vni.clone())).prop_map(|(node, vni)| Op::Flush { node, vni }),
        1 => (node.clone(), node.clone(), vni.clone()).prop_map(|(node, peer, vni)| Op::Unflood { node, peer, vni }),
        1 => (node.clone(), node.clone()).prop_map(|(node, peer)| Op::Forget { node, peer }),
        1 => (node.clone(), vni.clone(), any::<u8>()).prop_map(|(node, vni, bits)| Op::Settings { node, vni, bits }),
        1 => (node, vni).prop_map(|(node, vni)| Op::RemoveVni { node, vni }),
        1 => (0..200u32, 0..200u32, 0..200u32)
            .prop_map(|(loss, duplicate, reorder)| Op::Links { loss, duplicate, reorder }),
        1 => any::<u8>().prop_map(|nodes| Op::Partition { nodes }),
        1 => Just(Op::Heal),
        4 => prop_oneof![0..5u32, 0..400_000u32].prop_map(|millis| Op::Pass { millis }),
    ]
}

/// Does it, and tells whether it could be done.
fn perform(fabric: &mut Fabric, pods: &mut Vec<PodId>, op: &Op) {
    let chosen = |n: usize, pods: &[PodId]| if pods.is_empty() { None } else { Some(pods[n % pods.len()]) };
    let attached = |fabric: &Fabric, pod: PodId| fabric.place(pod).1.is_some();
    match *op {
        Op::Attach { node, vni, mac: m } => {
            let has_vni = fabric.engine(NodeId(node)).tables().vnis().index_of(VNIS[vni]).is_some();
            if has_vni && pods.len() < 24 {
                pods.push(fabric.add_station(NodeId(node), VNIS[vni], mac(m)));
            }
        }
        Op::Detach { pod } => {
            if let Some(pod) = chosen(pod, pods) {
                fabric.detach(pod);
                pods.retain(|p| *p != pod);
            }
        }
        Op::Move { pod, node } => {
            if let Some(pod) = chosen(pod, pods) {
                let vni = fabric.vni_of(pod);
                if fabric.engine(NodeId(node)).tables().vnis().index_of(vni).is_some() {
                    fabric.detach(pod);
                    fabric.attach(pod, NodeId(node));
                }
            }
        }
        Op::Send { pod, to, from, n } => {
            if let Some(pod) = chosen(pod, pods).filter(|p| attached(fabric, *p)) {
                let dst = to.map_or(MacAddr::BROADCAST, mac);
                let src = from.map_or(fabric.mac_of(pod), mac);
                fabric.send_batch(pod, &vec![frame(dst, src, b"something"); n]);
            }
        }
        Op::Inject { node, source, ref bytes } => {
            fabric.inject(NodeId(node), node_v4(source).into(), bytes.clone());
        }
        Op::Pin { node, pod, mac: m, kind } => {
            if let Some(pod) = chosen(pod, pods) {
                let (vni, (at, port)) = (fabric.vni_of(pod), fabric.place(pod));
                let at = match port.filter(|_| at == NodeId(node)) {
                    Some(port) => Destination::Port(port),
                    None => Destination::Vtep(overlane::addr::VtepId(u16::from(kind))),
                };
                let kind = [EntryKind::Static, EntryKind::Sticky, EntryKind::Learned][usize::from(kind)];
                let _ = fabric.apply(NodeId(node), &Command::AddMac { vni, mac: mac(m), at, kind });
            }
        }
        Op::Flush { node, vni } => {
            let vni = vni.map(|v| VNIS[v]);
            fabric.apply(NodeId(node), &Command::FlushMacs { vni, at: None }).unwrap();
        }
        Op::Unflood { node, peer, vni } => {
            if node != peer {
                let vtep = fabric.vtep(NodeId(node), NodeId(peer), false);
                let command = Command::RemoveFlood { vni: VNIS[vni], vtep };
                if fabric.apply(NodeId(node), &command).is_err() {
                    let _ = fabric.apply(NodeId(node), &Command::AddFlood { vni: VNIS[vni], vtep });
                }
            }
        }
        Op::Forget { node, peer } => {
            if node != peer {
                let vtep = fabric.vtep(NodeId(node), NodeId(peer), false);
                fabric.apply(NodeId(node), &Command::RemoveVtep { vtep }).unwrap();
            }
        }
        Op::Settings { node, vni, bits } => {
            let config = VniConfig {
                accept: if bits & 1 == 0 { Accept::KnownVteps } else { Accept::AnySource },
                learning: bits & 6 != 0,
                flood_unknown: bits & 24 != 0,
                notify_miss: bits & 32 != 0,
                group_policy: (bits & 64 != 0).then_some(7),
                ..VniConfig::default()
            };
            let _ = fabric.apply(NodeId(node), &Command::SetVni { vni: VNIS[vni], config });
        }
        Op::RemoveVni { node, vni } => {
            // Where ports remain it is refused, and nothing changes.
            match fabric.apply(NodeId(node), &Command::RemoveVni { vni: VNIS[vni] }) {
                Ok(_) => {
                    let command = Command::AddVni { vni: VNIS[vni], config: VniConfig::default() };
                    fabric.apply(NodeId(node), &command).unwrap();
                }
                Err(ControlError::Vni(VniError::InUse { .. })) => {}
                Err(e) => panic!("{e}"),
            }
        }
        Op::Links { loss, duplicate, reorder } => {
            fabric.set_links(Link { loss, duplicate, reorder, ..Link::BAD });
        }
        Op::Partition { nodes } => {
            let side: Vec<NodeId> = (0..NODES).filter(|n| nodes >> n & 1 == 1).map(NodeId).collect();
            fabric.partition(&side);
        }
        Op::Heal => fabric.heal(),
        Op::Pass { millis } => fabric.run_for(Duration::from_millis(millis.into())),
    }
}

fn play(seed: u64, ops: &[Op]) -> Fabric {
    let mut fabric = Fabric::mesh(seed, NODES, &VNIS);
    let mut pods = Vec::new();
    for op in ops {
        perform(&mut fabric, &mut pods, op);
    }
    fabric.settle();
    fabric.check();
    fabric
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_keeps_what_must_hold(seed in any::<u64>(), ops in proptest::collection::vec(op(), 1..120)) {
        let fabric = play(seed, &ops);
        prop_assert_eq!(fabric.in_flight(), 0);
        // All that is learned ages out, whatever came before.
        let mut fabric = fabric;
        fabric.run_for(Duration::from_secs(700));
        for node in (0..NODES).map(NodeId) {
            let engine = fabric.engine(node);
            prop_assert!(engine.tables().fdb().iter().all(|e| e.kind == EntryKind::Static));
        }
        fabric.check();
    }

    #[test]
    fn any_sequence_runs_the_same_way_twice(seed in any::<u64>(), ops in proptest::collection::vec(op(), 1..40)) {
        let (a, b) = (play(seed, &ops), play(seed, &ops));
        prop_assert_eq!(a.trace(), b.trace());
    }
}
