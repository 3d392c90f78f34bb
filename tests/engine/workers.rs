//! Several workers over one set of tables.

use std::net::IpAddr;

use overlane::addr::{Destination, PortId, Vni, VtepId};
use overlane::engine::*;
use overlane::table::port::PortConfig;
use overlane::table::vni::{Accept, VniConfig};
use overlane::table::vtep::VtepConfig;

use crate::world::*;

#[test]
fn workers_share_the_tables_and_one_writer_merges_what_they_learned() {
    let mut node = Node::<Heap>::new(A, &[B, C]);
    let mut workers: Vec<Context<Heap>> =
        (0..2).map(|_| Context::new(ContextParts::with_capacity(&CAPACITY)).unwrap()).collect();
    let tables = node.engine.tables();
    std::thread::scope(|scope| {
        for (n, (context, from)) in workers.iter_mut().zip([B, C]).enumerate() {
            scope.spawn(move || {
                for station in 0..10 {
                    let source = mac(1 + 10 * n as u8 + station);
                    let mut datagram = vxlan(42, &ether(ALL, source, b""));
                    let end = datagram.len();
                    let mut frames = [Frame::new(&mut datagram, 0..end).unwrap().with_source(from)];
                    tables.decap(T0, context, &mut frames);
                    assert_eq!(frames[0].verdict(), Some(Verdict::Flood(VNI)));
                }
            });
        }
    });
    assert_eq!(node.engine.tables().fdb().len(), 0);
    for context in &mut workers {
        node.engine.merge(T0, context);
        assert_eq!(*context.counters(), Counters::default());
    }
    assert_eq!(node.engine.tables().fdb().len(), 20);
    assert_eq!(node.engine.tables().fdb().learned_by(Destination::Vtep(node.vtep(B))), 10);
    assert_eq!(node.engine.counters().decap_frames, 20);
    assert_eq!(node.engine.vni_counters(VNI).unwrap().traffic.rx_frames, 20);
    assert_eq!(node.events().len(), 16, "the ring's size");
}

/// The ids in what a worker noted may have changed hands before it is merged.
#[test]
fn what_a_worker_saw_is_not_learned_for_another_holder_of_the_id() {
    type Between = fn(&mut Engine<Heap>, PortId, VtepId);
    let other = Vni::truncate(43);
    let table: [(&str, Between, usize); 8] = [
        ("nothing", |_, _, _| {}, 2),
        (
            "the VTEP's id goes to another node",
            |engine, _, vtep| {
                engine.apply(T0, &Command::RemoveVtep { vtep }).unwrap();
                let added = engine.apply(T0, &Command::AddVtep(VtepConfig::new(C, 4789))).unwrap();
                assert_eq!(added.vtep(), Some(vtep));
            },
            0,
        ),
        (
            "the port's id goes to another VNI",
            |engine, port, _| {
                engine.apply(T0, &Command::RemovePort { port }).unwrap();
                let added = engine.apply(T0, &Command::AddPort(PortConfig::new(Vni::truncate(43)))).unwrap();
                assert_eq!(added.port(), Some(port));
            },
            0,
        ),
        (
            "the VNI goes",
            |engine, port, _| {
                engine.apply(T0, &Command::RemovePort { port }).unwrap();
                engine.apply(T0, &Command::RemoveVni { vni: VNI }).unwrap();
            },
            0,
        ),
        (
            "the VNI is bridged no longer",
            |engine, _, _| {
                let config = VniConfig::routed(mac(0xa0));
                engine.apply(T0, &Command::SetVni { vni: VNI, config }).unwrap();
            },
            0,
        ),
        (
            "the VNI learns no longer",
            |engine, _, _| {
                let config = VniConfig { learning: false, ..VniConfig::default() };
                engine.apply(T0, &Command::SetVni { vni: VNI, config }).unwrap();
            },
            0,
        ),
        (
            "the port learns no longer",
            |engine, port, _| {
                let config = PortConfig { learning: false, ..PortConfig::new(VNI) };
                engine.apply(T0, &Command::SetPort { port, config }).unwrap();
            },
            0,
        ),
        (
            "the VTEP is another node",
            |engine, _, vtep| {
                let config = VtepConfig::new(C, 4789);
                engine.apply(T0, &Command::SetVtep { vtep, config }).unwrap();
            },
            0,
        ),
    ];
    for (what, between, learned) in table {
        let mut node = Node::<Heap>::new(A, &[B]);
        node.engine.apply(T0, &Command::AddVni { vni: other, config: VniConfig::default() }).unwrap();
        let mut worker = Context::new(ContextParts::with_capacity(&CAPACITY)).unwrap();
        let mut datagram = vxlan(42, &ether(ALL, mac(7), b""));
        let mut frame = ether(ALL, mac(8), b"");
        let (ends, tables) = ((datagram.len(), frame.len()), node.engine.tables());
        let mut frames = [Frame::new(&mut datagram, 0..ends.0).unwrap().with_source(B)];
        tables.decap(T0, &mut worker, &mut frames);
        let mut frames = [Frame::new(&mut frame, 0..ends.1).unwrap()];
        tables.encap(T0, &mut worker, node.port, &mut frames).unwrap();

        between(&mut node.engine, node.port, node.peers[0].1);
        node.engine.merge(T0, &mut worker);
        assert_eq!(node.engine.tables().fdb().len(), learned, "{what}");
        assert_eq!(node.engine.counters().decap_frames, 1, "{what}");
    }
}

fn worker() -> Context<Heap> {
    Context::new(ContextParts::with_capacity(&CAPACITY)).unwrap()
}

/// A worker is given a station's broadcast from this underlay address.
fn hears(node: &Node<Heap>, worker: &mut Context<Heap>, from: IpAddr, station: u8) {
    let mut datagram = vxlan(42, &ether(ALL, mac(station), b""));
    let end = datagram.len();
    let mut frames = [Frame::new(&mut datagram, 0..end).unwrap().with_source(from)];
    node.engine.tables().decap(T0, worker, &mut frames);
}

fn heard(node: &Node<Heap>, vtep: VtepId) -> u64 {
    node.engine.vtep_counters(vtep).unwrap().traffic.rx_frames
}

/// Ids are given out again; counters are not.
#[test]
fn a_vtep_has_no_counters_of_another_that_had_its_id() {
    let any = VniConfig { accept: Accept::AnySource, ..VniConfig::default() };
    let mut node = Node::<Heap>::with(config(A), A, any, &[B]);
    let vtep = node.vtep(B);
    node.receive(T0, B, &vxlan(42, &ether(ALL, mac(7), b"")));
    assert_eq!(heard(&node, vtep), 1);
    let (mut one, mut two) = (worker(), worker());
    for worker in [&mut one, &mut two] {
        hears(&node, worker, B, 8);
    }
    node.engine.apply(T0, &Command::RemoveVtep { vtep }).unwrap();
    // The next one comes by itself, by what the first worker heard.
    hears(&node, &mut one, C, 9);
    node.engine.merge(T0, &mut one);
    assert_eq!(node.engine.vtep(vtep).unwrap().config.addr, C);
    assert_eq!(heard(&node, vtep), 0, "it was not known yet when its packet came");
    node.engine.merge(T0, &mut two);
    assert_eq!(heard(&node, vtep), 0);
    for worker in [&mut one, &mut two] {
        hears(&node, worker, C, 9);
        node.engine.merge(T0, worker);
    }
    assert_eq!(heard(&node, vtep), 2);
    assert_eq!(node.engine.counters().decap_frames, 6, "the totals have all");
}

/// The same of one that came by itself and went when nobody was left behind it.
#[test]
fn a_vtep_has_no_counters_of_another_that_aged() {
    let any = VniConfig { accept: Accept::AnySource, ..VniConfig::default() };
    let mut node = Node::<Heap>::with(config(A), A, any, &[]);
    node.receive(T0, B, &vxlan(42, &ether(ALL, mac(7), b"")));
    let vtep = node.engine.tables().vteps().by_addr(B).unwrap();
    assert_eq!(node.engine.vtep(vtep).map(|v| v.epoch), Some(1));
    node.receive(T0, B, &vxlan(42, &ether(ALL, mac(7), b"")));
    assert_eq!(heard(&node, vtep), 1, "the first packet was nobody's yet");
    let later = T0 + core::time::Duration::from_secs(400);
    while node.engine.next_timeout().is_some_and(|due| due <= later) {
        node.engine.handle_timeout(later, 64);
    }
    assert_eq!(node.engine.tables().vteps().len(), 0);
    let mut worker = worker();
    hears(&node, &mut worker, C, 9);
    node.engine.merge(later, &mut worker);
    assert_eq!(node.engine.vtep(vtep).map(|v| (v.config.addr, v.epoch)), Some((C, 2)));
    assert_eq!(heard(&node, vtep), 0);
}

/// What was counted for a VTEP stays its own while others come and go.
#[test]
fn a_vtep_keeps_its_counters_when_others_go() {
    let mut node = Node::<Heap>::new(A, &[B, C]);
    let (b, c) = (node.vtep(B), node.vtep(C));
    let mut worker = worker();
    hears(&node, &mut worker, C, 8);
    node.engine.apply(T0, &Command::RemoveVtep { vtep: b }).unwrap();
    let added = node.engine.apply(T0, &Command::AddVtep(VtepConfig::new(B, 4789))).unwrap();
    assert_eq!(added.vtep(), Some(b));
    node.engine.merge(T0, &mut worker);
    assert_eq!((heard(&node, b), heard(&node, c)), (0, 1));
    hears(&node, &mut worker, B, 9);
    hears(&node, &mut worker, C, 8);
    // One that had no id before.
    let d: IpAddr = [192, 0, 2, 9].into();
    let new = node.engine.apply(T0, &Command::AddVtep(VtepConfig::new(d, 4789))).unwrap().vtep().unwrap();
    hears(&node, &mut worker, d, 10);
    node.engine.apply(T0, &Command::SetVni { vni: VNI, config: VniConfig::default() }).unwrap();
    node.engine.merge(T0, &mut worker);
    assert_eq!((heard(&node, b), heard(&node, c), heard(&node, new)), (1, 2, 1));
}

/// A context that is newer than a VTEP has counted for no other with its id.
#[test]
fn a_new_worker_counts_for_a_vtep_from_the_first_frame() {
    let mut node = Node::<Heap>::new(A, &[B]);
    let vtep = node.vtep(B);
    node.engine.apply(T0, &Command::RemoveVtep { vtep }).unwrap();
    let added = node.engine.apply(T0, &Command::AddVtep(VtepConfig::new(C, 4789))).unwrap();
    assert_eq!(added.vtep(), Some(vtep));
    let mut worker = worker();
    hears(&node, &mut worker, C, 8);
    node.engine.merge(T0, &mut worker);
    assert_eq!(heard(&node, vtep), 1);
}

/// What was seen in a VNI is not learned in one that has its number later.
#[test]
fn what_a_worker_saw_goes_with_its_vni() {
    let mut node = Node::<Heap>::new(A, &[B]);
    let mut worker = worker();
    node.engine.apply(T0, &Command::RemovePort { port: node.port }).unwrap();
    hears(&node, &mut worker, B, 8);
    node.engine.apply(T0, &Command::RemoveVni { vni: VNI }).unwrap();
    node.engine.apply(T0, &Command::AddVni { vni: VNI, config: VniConfig::default() }).unwrap();
    node.engine.merge(T0, &mut worker);
    assert_eq!(node.engine.tables().fdb().len(), 0);
}

/// However often tables have changed before somebody else gets the id of a VTEP.
#[test]
fn a_vtep_that_came_late_has_no_counters_of_an_earlier_one() {
    let mut node = Node::<Heap>::new(A, &[B]);
    let mut worker = worker();
    let nothing = Command::SetVni { vni: VNI, config: VniConfig::default() };
    for _ in 0..5 {
        node.engine.apply(T0, &nothing).unwrap();
    }
    node.engine.merge(T0, &mut worker);
    hears(&node, &mut worker, B, 8);
    let vtep = node.vtep(B);
    node.engine.apply(T0, &Command::RemoveVtep { vtep }).unwrap();
    node.engine.apply(T0, &Command::AddVtep(VtepConfig::new(C, 4789))).unwrap();
    node.engine.merge(T0, &mut worker);
    assert_eq!(heard(&node, vtep), 0);
    // The first holder of an id has its own from the start.
    node.engine.apply(T0, &nothing).unwrap();
    let first = node.engine.apply(T0, &Command::AddVtep(VtepConfig::new(B, 4789))).unwrap().vtep().unwrap();
    assert_eq!(node.engine.vtep(first).map(|v| v.epoch), Some(1));
    hears(&node, &mut worker, B, 8);
    node.engine.merge(T0, &mut worker);
    assert_eq!(heard(&node, first), 1);
}

/// A deadline from before a clock stepped back is kept no longer, whoever brings the new time.
#[test]
fn a_merge_heeds_a_clock_that_stepped_back() {
    let mut node = Node::<Heap>::new(A, &[B]);
    let ahead = T0 + core::time::Duration::from_secs(86_400);
    node.send(ahead, &ether(ALL, mac(1), b""));
    while node.engine.next_timeout().is_some_and(|due| due <= ahead) {
        node.engine.handle_timeout(ahead, 1_000);
    }
    assert!(node.engine.next_timeout().unwrap() > ahead);
    node.engine.merge(T0, &mut worker());
    assert!(node.engine.next_timeout().unwrap() <= T0 + core::time::Duration::from_secs(30));
}

/// What is in the memory that a context is made over was not counted by it.
#[test]
fn a_new_context_has_counted_nothing() {
    let mut node = Node::<Heap>::new(A, &[B]);
    let mut parts = ContextParts::<Heap>::with_capacity(&CAPACITY);
    for counters in [&mut parts.vni_counters, &mut parts.vtep_counters, &mut parts.port_counters] {
        counters.iter_mut().for_each(|c| c.traffic.rx_frames = 9);
    }
    node.engine.merge(T0, &mut Context::new(parts).unwrap());
    let nothing = Some(&ScopeCounters::default());
    assert_eq!(node.engine.vni_counters(VNI), nothing);
    assert_eq!(node.engine.vtep_counters(node.vtep(B)), nothing);
    assert_eq!(node.engine.port_counters(node.port), nothing);
}
