//! A node that knows many others.

use std::net::Ipv4Addr;
use std::time::Instant;

use overlane::addr::Vni;
use overlane_testkit::crowd::Crowd;
use overlane_testkit::suite::Case;
use overlane_testkit::transfer::Stream;

use crate::site::*;
use crate::transfers::{bytes, time_for};

const BYTES: u64 = 8 << 20;
/// With the second node there are 1,000 VTEPs and, with the pods, 65,536 addresses and a few.
const CROWD: Crowd = Crowd { base: Ipv4Addr::new(10, 100, 0, 0), vteps: 999, macs: 65_536 };
/// The most memory that the process may have had at any time: with one thread, and for each further one.
const MEMORY: u64 = 16 << 20;
const THREAD: u64 = 4 << 20;

pub fn cases() -> Vec<Case> {
    let case = |(number, rung): (usize, &Rung)| {
        let limit = 10 * PATIENCE + 2 * time_for(bytes(BYTES));
        Case::row(format!("full-tables/{}", rung.name), ALL, full_tables, number).within(limit)
    };
    RUNGS.iter().enumerate().map(case).collect()
}

/// A thousand VTEPs and 64 k MAC addresses fit into memory, and streams still arrive.
fn full_tables(number: usize) {
    let site = Site::new(Plan { crowd: Some(CROWD), ..Plan::new(RUNGS[number], [Node::Overlane; 2]) });
    let node = site.hosts[0].process();
    let start = Instant::now();
    let text = loop {
        let to = (site.hosts[0].local, PORT).into();
        site.hosts[1].ns.run(|| CROWD.fill(to, PORT, Vni::truncate(VNI))).unwrap();
        let text = report(node).unwrap();
        // `FDB: 65540 of 131100 places`
        let known =
            text.lines().find_map(|l| l.strip_prefix("FDB: ")?.split(' ').next()?.parse::<u32>().ok());
        if known.is_some_and(|n| n >= CROWD.macs) {
            break text;
        }
        assert!(start.elapsed() < 6 * PATIENCE, "only {known:?} addresses are known");
    };
    let vteps = text.lines().filter(|l| l.starts_with("vtep ")).count() as u32;
    assert_eq!(vteps, CROWD.vteps + 1);
    for v6 in [false, true] {
        let stream = Stream { bytes: bytes(BYTES), writes: &[], seed: 1, timeout: time_for(bytes(BYTES)) };
        stream.run(site.pod(1), site.pod(0), site.addr(1, v6)).unwrap();
        stream.run(site.pod(0), site.pod(1), site.addr(0, v6)).unwrap();
    }
    let (now, peak) = (node.memory().unwrap(), node.peak_memory().unwrap());
    println!("{} KiB, at most {} KiB", now >> 10, peak >> 10);
    assert!(peak <= MEMORY + (site.plan.rung.threads - 1) * THREAD, "{} KiB", peak >> 10);
    site.finish();
}
