//! Many nodes, much noise: work and memory stay bounded.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use overlane_testkit::fabric::{Link, Talk};

use super::*;

/// Counts what engines ask of the allocator, by thread.
struct Watching;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if INSIDE.get() {
            CALLS.set(CALLS.get() + 1);
        }
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if INSIDE.get() {
            CALLS.set(CALLS.get() + 1);
        }
        // SAFETY: the caller's promise about `at` and `layout` is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

#[test]
fn the_watch_sees_what_is_asked_inside_only() {
    let before = CALLS.get();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(CALLS.get(), before);
    INSIDE.set(true);
    drop(std::hint::black_box(Box::new(1)));
    INSIDE.set(false);
    assert_eq!(CALLS.get(), before + 2);
}

#[test]
fn a_storm_on_thirty_nodes_stays_bounded() {
    const NODES: usize = 30;
    const WORDS: u32 = 12;
    let vnis = [RED, Vni::truncate(77), Vni::truncate(4096), BLUE];
    let mut fabric = Fabric::mesh(1, NODES, &vnis);
    fabric.keep_flights(false);
    fabric.set_links(Link { loss: 10, duplicate: 10, reorder: 50, ..Link::PERFECT });
    fabric.guard(|inside| INSIDE.set(inside));
    let before = CALLS.get();
    let mut pods = 0;
    for vni in vnis {
        for pod in stations(&mut fabric, vni) {
            pods += 1;
            // Half of it to everybody, half to somebody who may not even be there.
            let somebody = (0..NODES as u32 + 10).map(mac);
            let to = somebody.chain([MacAddr::BROADCAST; NODES + 10]).collect();
            fabric.talk(pod, Talk { every: Duration::from_millis(1), count: WORDS, to, payload: 46 });
        }
    }
    let mut most = 0;
    while fabric.run(Duration::MAX, 1_000) != overlane_testkit::fabric::Stop::Quiet {
        most = most.max(fabric.in_flight());
    }
    let words = pods * u64::from(WORDS);
    // A frame becomes one datagram for each other node at most, and that is the end of it.
    let u = fabric.underlay();
    assert!(u.sent <= words * (NODES as u64 - 1), "{u:?}");
    assert!(u.sent > words * (NODES as u64 - 1) / 3, "{u:?}");
    assert!(most as u64 <= words && fabric.in_flight() == 0);
    let mut encapsulated = 0;
    for node in (0..NODES).map(NodeId) {
        let engine = fabric.engine(node);
        encapsulated += engine.counters().encap_frames;
        assert_eq!(engine.tables().fdb().len(), pods as usize);
        assert_eq!(engine.counters().moved, 0);
    }
    assert_eq!(encapsulated, words);
    assert_eq!(CALLS.get() - before, 0, "engines allocated");
    fabric.check();
}

#[test]
fn a_flood_of_forged_addresses_stays_within_the_tables() {
    let mut fabric = Fabric::mesh(2, 4, &[RED]);
    fabric.keep_flights(false);
    fabric.guard(|inside| INSIDE.set(inside));
    let before = CALLS.get();
    let pods = stations(&mut fabric, RED);
    let hello = broadcast(&fabric, pods[0]);
    fabric.send(pods[0], hello);
    for n in 0..200 {
        let forged = |i: u32| frame(MacAddr::BROADCAST, mac(1_000 + 40 * n + i), b"me too");
        let batch: Vec<Vec<u8>> = (0..40).map(forged).collect();
        fabric.send_batch(pods[1], &batch);
    }
    fabric.settle();
    for node in (0..4).map(NodeId) {
        let (engine, counters) = (fabric.engine(node), fabric.engine(node).counters());
        assert!(engine.tables().fdb().len() <= engine.tables().fdb().capacity());
        assert!(counters.learned >= 1_000 && counters.evicted > 0, "{counters:?}");
    }
    assert_eq!(CALLS.get() - before, 0, "engines allocated");
    // Who was forgotten is still reached.
    let (heard, hello) = (fabric.heard(pods[0]), unicast(&fabric, pods[2], pods[0]));
    fabric.send(pods[2], hello);
    fabric.settle();
    assert_eq!(fabric.heard(pods[0]), heard + 1);
    fabric.check();
}
