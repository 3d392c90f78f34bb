//! Streams that arrive octet for octet as they were sent: every rung, both address families inside and
//! outside, small and large MTUs, over links with and without offloads, beside the kernel and beside
//! overlane.

use std::time::Duration;

use overlane_testkit::suite::Case;
use overlane_testkit::transfer::Stream;

use crate::site::*;

/// A number with a suffix K, M or G from the environment.
pub fn from_env(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 'K' | 'k')) => (&text[..at], 1 << 10),
        Some((at, 'M' | 'm')) => (&text[..at], 1 << 20),
        Some((at, 'G' | 'g')) => (&text[..at], 1 << 30),
        _ => (&text[..], 1),
    };
    let number: u64 = number.parse().unwrap_or_else(|_| panic!("{name}={text}: write a number, as 64M"));
    number * unit
}

/// Octets of each stream.
pub fn bytes(default: u64) -> u64 {
    from_env("OVERLANE_TRANSFER", default)
}

/// How long a stream may take: 1 MB/s would be slow for the slowest rung.
pub fn time_for(bytes: u64) -> Duration {
    Duration::from_secs(60 + (bytes >> 20))
}

const BYTES: u64 = 8 << 20;

/// The table, and whether a row is part of the short run: of each rung and pairing there are four,
/// which between them have every value of every column.
fn rows() -> Vec<(Plan, bool)> {
    let mut rows = Vec::new();
    for rung in RUNGS {
        for nodes in PAIRINGS {
            for v6 in [false, true] {
                for mtu in [Mtu::Pod(1280), Mtu::Link(1500), Mtu::Link(9000)] {
                    for wire in [Wire::Veth, Wire::Cut] {
                        let short = matches!(
                            (v6, mtu, wire),
                            (false, Mtu::Link(1500), Wire::Veth)
                                | (true, Mtu::Link(1500), Wire::Cut)
                                | (true, Mtu::Link(9000), Wire::Veth)
                                | (false, Mtu::Pod(_), Wire::Cut)
                        );
                        rows.push((Plan { v6, mtu, wire, ..Plan::new(*rung, *nodes) }, short));
                    }
                }
            }
        }
    }
    rows
}

pub fn cases() -> Vec<Case> {
    let case = |(number, (plan, short)): (usize, (Plan, bool))| {
        Case::row(format!("stream/{}", plan.name()), ALL, stream, number)
            .within(2 * PATIENCE + 2 * time_for(bytes(BYTES)))
            .only_if_asked(!short)
    };
    rows().into_iter().enumerate().map(case).collect()
}

fn stream(number: usize) {
    let (plan, _) = rows()[number];
    let site = Site::new(plan);
    let bytes = bytes(BYTES);
    for v6 in [false, true] {
        let stream = Stream { bytes, writes: &[], seed: number as u64, timeout: time_for(bytes) };
        let done = stream.run(site.pod(1), site.pod(0), site.addr(1, v6));
        let done = done.unwrap_or_else(|e| panic!("inner IPv6 {v6}: {e}\n{}", site.reports()));
        println!("inner IPv6 {v6}: {} octets, {:.0} Mbit/s", done.bytes, done.bits_per_second() / 1e6);
    }
    if plan.used() == "tunnel" && plan.nodes[0] == Node::Overlane {
        let report = report(site.hosts[0].process()).unwrap();
        let whole = report.lines().find_map(|l| l.strip_prefix("whole superframes: ")).unwrap_or("");
        assert!(!whole.is_empty() && !whole.starts_with("0 sent"), "no superframe left whole\n{report}");
    }
    site.nothing_odd();
    site.finish();
}
