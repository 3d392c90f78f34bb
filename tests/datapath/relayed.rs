//! An underlay that loses, repeats, delays and reorders: TCP repairs all of it, and what arrives of UDP
//! is whole.

use std::time::Duration;

use overlane_testkit::relay::Faults;
use overlane_testkit::suite::Case;
use overlane_testkit::transfer::{Datagrams, Stream};

use crate::site::*;
use crate::transfers::{bytes, time_for};

const BYTES: u64 = 2 << 20;

const QUIET: Faults = Faults { delay: Duration::from_micros(200), queue: 4096, ..Faults::NONE };

/// What goes wrong, by name.
const FAULTS: &[(&str, Faults)] = &[
    ("loss", Faults { seed: 1, loss: 10, ..QUIET }),
    ("reorder", Faults { seed: 2, reorder: 50, hold: Duration::from_millis(3), ..QUIET }),
    (
        "everything",
        Faults {
            seed: 3,
            loss: 5,
            duplicate: 10,
            reorder: 20,
            hold: Duration::from_millis(5),
            delay: Duration::from_millis(1),
            queue: 256,
        },
    ),
];

/// The last fault of all is in the short run.
fn rows() -> Vec<(&'static str, Plan, bool)> {
    let mut rows = Vec::new();
    for rung in RUNGS {
        for nodes in PAIRINGS {
            for v6 in [false, true] {
                for (name, faults) in FAULTS {
                    // The relay is a program: nothing may reach it that a wire would not carry.
                    let plan =
                        Plan { v6, wire: Wire::Bare, faults: Some(*faults), ..Plan::new(*rung, *nodes) };
                    let short = *name == "everything" && v6 == (*nodes == [Node::Overlane; 2]);
                    rows.push((*name, plan, short));
                }
            }
        }
    }
    rows
}

pub fn cases() -> Vec<Case> {
    let case = |(number, (name, plan, short)): (usize, (&str, Plan, bool))| {
        Case::row(format!("faults/{}/{name}", plan.name()), ALL, faulty, number)
            .within(4 * PATIENCE + 8 * time_for(bytes(BYTES)))
            .only_if_asked(!short)
    };
    rows().into_iter().enumerate().map(case).collect()
}

fn faulty(number: usize) {
    let (_, plan, _) = rows()[number];
    let site = Site::new(plan);
    let bytes = bytes(BYTES);
    for v6 in [false, true] {
        let stream = Stream { bytes, writes: &[], seed: number as u64, timeout: 4 * time_for(bytes) };
        let done = stream.run(site.pod(1), site.pod(0), site.addr(1, v6));
        let done = done.unwrap_or_else(|e| panic!("inner IPv6 {v6}: {e}\n{}", site.reports()));
        println!("inner IPv6 {v6}: {} octets, {:.0} Mbit/s", done.bytes, done.bits_per_second() / 1e6);

        let mtu = plan.pod_mtu() as usize;
        let datagrams = Datagrams {
            count: 2000,
            sizes: &[8, 64, 512, mtu - 49, mtu - 48, mtu, 3000],
            window: 64,
            patience: Duration::from_millis(300),
            ..Datagrams::default()
        };
        let done = datagrams.run(site.pod(1), site.pod(0), site.addr(1, v6));
        let done = done.unwrap_or_else(|e| panic!("inner IPv6 {v6}: {e}\n{}", site.reports()));
        println!("inner IPv6 {v6}: {done:?}");
        assert!(done.received > done.sent / 2, "{done:?}");
    }
    let [there, back] = site.relay.as_ref().unwrap().counters();
    println!("there {there:?}\nback {back:?}");
    let faults = plan.faults.unwrap();
    for (wanted, seen) in
        [(faults.loss, there.lost), (faults.duplicate, there.duplicated), (faults.reorder, there.reordered)]
    {
        assert_eq!(wanted > 0, seen > 0, "{there:?}");
    }
    assert!(there.longest <= 1500, "nothing longer than the wire takes: {there:?}");
    site.finish();
}
