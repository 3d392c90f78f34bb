//! Ageing: time in, deadline out, bounded steps.

use core::time::Duration;

use overlane::addr::Destination;
use overlane::engine::*;
use overlane::table::fdb::EntryKind;
use overlane::table::vni::VniConfig;
use overlane::time::Instant;

use crate::every_memory;
use crate::world::*;

/// Calls `handle_timeout` as a host does, until `until`.
fn run<M: Memory>(node: &mut Node<M>, until: Instant) {
    let mut now = T0;
    for _ in 0..100_000 {
        match node.engine.next_timeout() {
            Some(due) if due <= until => {
                now = due.max(now);
                node.engine.handle_timeout(now, 7);
            }
            _ => return,
        }
    }
    panic!("the deadline never moves on");
}

every_memory! {
    fn nothing_to_age_asks_for_no_call<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        assert_eq!(a.engine.next_timeout(), None);
        a.send(T0, &ether(ALL, mac(1), b""));
        assert!(a.engine.next_timeout().is_some());
    }

    fn a_silent_station_is_forgotten_after_the_ageing_time<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        a.receive(T0, B, &vxlan(42, &ether(ALL, mac(2), b"")));
        a.send(T0, &ether(ALL, mac(1), b""));
        a.events();
        let before = T0 + Duration::from_secs(299);
        // One speaks again just before its time, the other does not.
        a.send(before, &ether(ALL, mac(1), b""));
        run(&mut a, T0 + Duration::from_secs(299));
        assert_eq!(a.engine.tables().fdb().len(), 2);
        let after = T0 + Duration::from_secs(301);
        // Past its age it is not found, whether or not a sweep met it.
        assert_eq!(a.send(after, &ether(mac(2), mac(1), b"")).0, Verdict::Flood(VNI));
        run(&mut a, T0 + Duration::from_secs(350));
        assert_eq!(a.engine.tables().fdb().len(), 1);
        assert_eq!(a.events(), [Event::Aged { vni: VNI, mac: mac(2), at: Destination::Vtep(a.vtep(B)) }]);
        assert_eq!(a.engine.counters().aged, 1);
        run(&mut a, after + Duration::from_secs(700));
        assert_eq!(a.engine.tables().fdb().len(), 0);
        assert_eq!(a.engine.next_timeout(), None);
    }

    fn a_station_is_kept_by_what_it_sends_through_the_tunnel<M>() {
        for learning in [true, false] {
            let mut a = Node::<M>::new(A, &[B]);
            let (hello, seen_again) = (vxlan(42, &ether(mac(1), mac(2), b"")), T0 + Duration::from_secs(200));
            a.send(T0, &ether(ALL, mac(1), b""));
            assert_eq!(a.receive(T0, B, &hello).0, Verdict::ToPort(a.port));
            let config = VniConfig { learning, ..VniConfig::default() };
            a.engine.apply(seen_again, &Command::SetVni { vni: VNI, config }).unwrap();
            assert_eq!(a.receive(seen_again, B, &hello).0, Verdict::ToPort(a.port));
            // Where nobody learns, nobody is seen again either.
            let way = if learning { Verdict::ToUnderlay(a.vtep(B)) } else { Verdict::Flood(VNI) };
            let reply = ether(mac(2), mac(1), b"");
            assert_eq!(a.send(T0 + Duration::from_secs(301), &reply).0, way, "learning: {learning}");
        }
    }

    fn a_station_is_kept_by_what_it_sends_into_the_tunnel<M>() {
        for learning in [true, false] {
            let mut a = Node::<M>::new(A, &[B]);
            let at = Destination::Vtep(a.vtep(B));
            a.engine.apply(T0, &Command::AddMac { vni: VNI, mac: mac(2), at, kind: EntryKind::Static }).unwrap();
            let (hello, seen_again) = (ether(mac(2), mac(1), b""), T0 + Duration::from_secs(200));
            assert_eq!(a.send(T0, &hello).0, Verdict::ToUnderlay(a.vtep(B)));
            let config = VniConfig { learning, ..VniConfig::default() };
            a.engine.apply(seen_again, &Command::SetVni { vni: VNI, config }).unwrap();
            assert_eq!(a.send(seen_again, &hello).0, Verdict::ToUnderlay(a.vtep(B)));
            let way = if learning { Verdict::ToPort(a.port) } else { Verdict::Flood(VNI) };
            let reply = vxlan(42, &ether(mac(1), mac(2), b""));
            let later = T0 + Duration::from_secs(301);
            assert_eq!(a.receive(later, B, &reply).0, way, "learning: {learning}");
        }
    }

    fn static_entries_do_not_age<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        let at = Destination::Vtep(a.vtep(B));
        a.engine.apply(T0, &Command::AddMac { vni: VNI, mac: mac(2), at, kind: EntryKind::Static }).unwrap();
        let later = T0 + Duration::from_secs(1_000_000);
        run(&mut a, T0 + Duration::from_secs(2_000));
        assert_eq!(a.send(later, &ether(mac(2), mac(1), b"")).0, Verdict::ToUnderlay(a.vtep(B)));
    }

    fn a_clock_that_steps_back_ages_nothing<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        a.receive(T0, B, &vxlan(42, &ether(ALL, mac(2), b"")));
        let earlier = Instant::from_millis(1);
        assert_eq!(a.send(earlier, &ether(mac(2), mac(1), b"")).0, Verdict::ToUnderlay(a.vtep(B)));
        a.engine.handle_timeout(earlier, 1_000);
        assert!(a.engine.tables().fdb().entry(T0, VNI, mac(2)).is_some());
    }

    fn a_budget_of_zero_does_nothing_and_events_that_find_no_room_are_counted<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        for n in 0..40 {
            a.receive(T0, B, &vxlan(42, &ether(ALL, mac(n), b"")));
        }
        assert_eq!(a.events().len(), 16);
        assert_eq!(a.engine.counters().events_lost, 40 - 16);
        assert_eq!(a.engine.handle_timeout(T0 + Duration::from_secs(900), 0), 0);
    }


    fn an_address_that_speaks_again_after_its_time_has_aged_and_was_not_evicted<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        let at = Destination::Vtep(a.vtep(B));
        a.receive(T0, B, &vxlan(42, &ether(ALL, mac(2), b"")));
        a.events();
        // No sweep has met it.
        a.receive(T0 + Duration::from_secs(400), B, &vxlan(42, &ether(ALL, mac(2), b"")));
        let told = [Event::Aged { vni: VNI, mac: mac(2), at }, Event::Learned { vni: VNI, mac: mac(2), at }];
        assert_eq!(a.events(), told);
        let c = a.engine.counters();
        assert_eq!((c.learned, c.aged, c.evicted), (2, 1, 0));
    }

    fn a_clock_that_jumps_ahead_and_comes_back_still_sweeps<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        let ahead = T0 + Duration::from_secs(86_400);
        a.send(ahead, &ether(ALL, mac(1), b""));
        while a.engine.next_timeout().is_some_and(|due| due <= ahead) {
            a.engine.handle_timeout(ahead, 1_000);
        }
        a.receive(T0, B, &vxlan(42, &ether(ALL, mac(2), b"")));
        let due = a.engine.next_timeout().unwrap();
        assert!(due <= T0 + Duration::from_secs(60), "due at {due}");
        run(&mut a, T0 + Duration::from_secs(400));
        assert_eq!(a.engine.tables().fdb().entry(T0, VNI, mac(2)), None);
    }

    fn a_clock_that_comes_back_is_heeded_though_nobody_speaks<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        let ahead = T0 + Duration::from_secs(86_400);
        a.send(ahead, &ether(ALL, mac(1), b""));
        while a.engine.next_timeout().is_some_and(|due| due <= ahead) {
            a.engine.handle_timeout(ahead, 1_000);
        }
        assert!(a.engine.next_timeout().unwrap() > ahead);
        a.engine.handle_timeout(T0, 1_000);
        assert!(a.engine.next_timeout().unwrap() <= T0 + Duration::from_secs(30));
    }

    fn the_end_of_the_clock_is_no_deadline<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        a.send(Instant::MAX, &ether(ALL, mac(1), b""));
        for _ in 0..100 {
            a.engine.handle_timeout(Instant::MAX, 100);
        }
        assert_eq!(a.engine.next_timeout(), None);
    }
}

/// What lookups still find when its place is taken has not aged, whatever the stamps round to.
#[test]
fn who_is_evicted_in_the_last_moment_has_not_aged() {
    type One = Inline<1, 64, 8, 2, 2, 2, 4, 64>;
    let mut a = Node::<One>::new(A, &[B]);
    let seen = Instant::from_millis(128 * 1_000 + 127);
    for n in 1..=7 {
        a.send(seen, &ether(ALL, mac(n), b""));
    }
    a.events();
    let later = Instant::from_millis(128 * (1_000 + 2_344));
    assert!(later.saturating_since(seen) < a.engine.tables().config().ageing);
    assert!((1..=7).all(|n| a.engine.tables().fdb().lookup(later, VNI, mac(n)).is_some()));
    a.send(later, &ether(ALL, mac(8), b""));
    let counters = a.engine.counters();
    assert_eq!((counters.evicted, counters.aged), (1, 0));
    assert!(matches!(a.events()[..], [Event::Evicted { .. }, Event::Learned { .. }]));
}

/// A refresh is written down where the last one is older than a sixteenth of the ageing time.
#[test]
fn a_station_is_forgotten_between_fifteen_sixteenths_of_the_ageing_time_and_a_little_more() {
    let (ageing, slack) = (Duration::from_secs(300), Duration::from_millis(256));
    for spoke in (0..=300).map(Duration::from_secs) {
        let mut a = Node::<Heap>::new(A, &[B]);
        let at = a.vtep(B);
        for when in [Duration::ZERO, spoke.min(ageing)] {
            a.receive(T0 + when, B, &vxlan(42, &ether(ALL, mac(2), b"")));
        }
        let last = T0 + spoke;
        let found = |at| a.engine.tables().fdb().lookup(at, VNI, mac(2));
        assert_eq!(found(last + ageing * 15 / 16), Some(Destination::Vtep(at)), "{spoke:?}");
        assert_eq!(found(last + ageing + slack), None, "{spoke:?}");
    }
}
