//! Everything at once, and sizes at every boundary of segments and packets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use overlane_testkit::probe::{Ping, answers, ping};
use overlane_testkit::suite::Case;
use overlane_testkit::transfer::{Arrivals, Datagrams, Stream};

use crate::site::*;
use crate::transfers::{bytes, time_for};

const BYTES: u64 = 2 << 20;

/// For each rung and pairing: over IPv4 as veth has it, and over IPv6 with nothing longer than the MTU.
fn rows() -> Vec<Plan> {
    let mut rows = Vec::new();
    for rung in RUNGS {
        for nodes in PAIRINGS {
            for (v6, wire) in [(false, Wire::Veth), (true, Wire::Cut)] {
                rows.push(Plan { v6, wire, ..Plan::new(*rung, *nodes) });
            }
        }
    }
    rows
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (number, plan) in rows().into_iter().enumerate() {
        let tests = [("mixed", mixed as fn(usize)), ("sizes", sizes), ("cut-by-the-kernel", uso)];
        for (n, (what, run)) in tests.into_iter().enumerate() {
            let limit = 8 * PATIENCE + time_for(8 * bytes(BYTES));
            let case = Case::row(format!("{what}/{}", plan.name()), ALL, run, number).within(limit);
            // The short run has each test once for each rung and pairing, over alternating links.
            cases.push(case.only_if_asked((number / 2 + number + n) % 2 == 1));
        }
    }
    cases
}

/// Streams and datagrams both ways, echo, and neighbours that nobody knew before, all at the same time.
fn mixed(number: usize) {
    const NEIGHBOURS: usize = 20;
    let site = Site::new(rows()[number]);
    for n in [0, 1] {
        // Where it may be asked for: marks of congestion are a reason not to merge segments.
        let _ = site.pod(n).sysctl("net.ipv4.tcp_ecn", "1");
        let mut r = site.pod(n).rtnl().unwrap();
        for neighbour in 0..NEIGHBOURS {
            for v6 in [false, true] {
                r.add_address("eth0", neighbour_addr(n, neighbour, v6), if v6 { 64 } else { 24 }).unwrap();
            }
        }
    }
    let bytes = bytes(BYTES);
    let streams_run = AtomicBool::new(true);
    let site = &site;
    let (results, pinged) = thread::scope(|scope| {
        let streams: Vec<_> = (0..8)
            .map(|n| {
                let (from, v6) = (n % 2, n % 4 < 2);
                scope.spawn(move || {
                    let writes: &[usize] = if n < 4 { &[] } else { &[1, 5000, 700, 20_000] };
                    let stream = Stream { bytes, writes, seed: n as u64, timeout: time_for(8 * bytes) };
                    let done = stream.run(site.pod(1 - from), site.pod(from), site.addr(1 - from, v6));
                    done.unwrap_or_else(|e| panic!("stream from pod{}: {e}\n{}", from + 1, site.reports()))
                })
            })
            .collect();
        let datagrams: Vec<_> = [(0, true), (1, false)]
            .into_iter()
            .map(|(from, v6)| {
                scope.spawn(move || {
                    let datagrams = Datagrams {
                        count: 1000,
                        sizes: &[1, 20, 300, 1000, 1400, 1401, 1402, 1403, 4000],
                        window: 32,
                        patience: Duration::from_millis(500),
                        seed: 10 + from as u64,
                        ..Datagrams::default()
                    };
                    let done = datagrams.run(site.pod(1 - from), site.pod(from), site.addr(1 - from, v6));
                    done.unwrap_or_else(|e| panic!("datagrams from pod{}: {e}", from + 1))
                })
            })
            .collect();
        let running = &streams_run;
        let echo = scope.spawn(move || {
            let (mut sent, mut received) = (0, 0);
            while running.load(Ordering::Relaxed) || sent < 40 {
                for (v6, payload) in [(false, 56), (true, 56), (false, 3000), (true, 1300)] {
                    let one = Ping { count: 1, timeout: Duration::from_secs(5), payload, ..Ping::default() };
                    let done = ping(site.pod(0), site.addr(1, v6), &one).unwrap();
                    (sent, received) = (sent + u32::from(done.sent), received + u32::from(done.received));
                }
            }
            (sent, received)
        });
        let neighbours = scope.spawn(move || {
            for neighbour in 0..NEIGHBOURS {
                for (from, v6) in [(0, false), (1, false), (0, true), (1, true)] {
                    let to = neighbour_addr(1 - from, neighbour, v6);
                    assert!(
                        answers(site.pod(from), to, PATIENCE).unwrap(),
                        "{to} was not found from pod{}\n{}",
                        from + 1,
                        site.reports()
                    );
                }
            }
        });
        for stream in streams {
            println!("{:.0} Mbit/s", stream.join().unwrap().bits_per_second() / 1e6);
        }
        neighbours.join().unwrap();
        streams_run.store(false, Ordering::Relaxed);
        let results: Vec<Arrivals> = datagrams.into_iter().map(|d| d.join().unwrap()).collect();
        (results, echo.join().unwrap())
    });
    println!("{results:?}, {pinged:?} echoes");
    // Queues may overflow in a burst of the streams; but most pass.
    assert!(results.iter().all(|r| r.received * 4 > r.sent * 3 && r.repeated == 0), "{results:?}");
    assert!(pinged.1 * 4 > pinged.0 * 3, "{pinged:?} echoes answered");
    site.nothing_odd();
}

fn neighbour_addr(pod: usize, neighbour: usize, v6: bool) -> std::net::IpAddr {
    let host = 10 + 100 * pod + neighbour;
    if v6 { ip(&format!("fd42::1:{host}")) } else { ip(&format!("10.42.0.{host}")) }
}

/// Sizes around `n`.
fn around(n: usize) -> [usize; 3] {
    [n - 1, n, n + 1]
}

/// Streams written in pieces around multiples of the segment size, and datagrams of sizes around what a
/// packet holds, up to the largest.
fn sizes(number: usize) {
    let plan = rows()[number];
    let site = Site::new(plan);
    let bytes = bytes(BYTES);
    let (from, to) = (site.pod(0), site.pod(1));
    for v6 in [false, true] {
        let headers = if v6 { 60 } else { 40 };
        // Timestamps take 12 octets of each segment.
        let segment = plan.pod_mtu() as usize - headers - 12;
        let mut writes = vec![1, 2, 3];
        writes.extend([1, 2, 3, 16, 40].into_iter().flat_map(|n| around(n * segment)));
        writes.extend(around(segment + 12));
        writes.extend([65_483, 65_535, 65_536, 1]);
        let stream = Stream { bytes, writes: &writes, seed: number as u64, timeout: time_for(bytes) };
        let done = stream.run(to, from, site.addr(1, v6));
        done.unwrap_or_else(|e| panic!("inner IPv6 {v6}: {e}\n{}", site.reports()));

        let whole = plan.pod_mtu() as usize - if v6 { 48 } else { 28 };
        let mut lengths = vec![1, 2, 7, 8, 9, 17, 18, 19, 60, 128];
        lengths.extend([1, 2, 3].into_iter().flat_map(|n| around(n * whole)));
        lengths.extend([9000, 32_768, 65_506, 65_507]);
        for size in lengths {
            all_arrive(
                &site,
                v6,
                &Datagrams { count: 16, sizes: &[size], window: 4, ..Datagrams::default() },
            );
        }
    }
    site.nothing_odd();
    site.finish();
}

/// Datagrams that a pod hands over as one and its kernel is to cut (`UDP_SEGMENT`).
fn uso(number: usize) {
    let plan = rows()[number];
    let site = Site::new(plan);
    for v6 in [false, true] {
        let whole = plan.pod_mtu() as usize - if v6 { 48 } else { 28 };
        for (size, at_once, shorter) in [
            (whole, 2, 0),
            (whole, 2, 1),
            (whole, 40, 0),
            (whole, 40, whole - 1),
            (whole - 1, 40, 3),
            (1, 64, 0),
            (8, 64, 0),
            (100, 64, 99),
            (512, 3, 100),
        ] {
            let at_once = at_once.min(65_507 / size);
            let datagrams = Datagrams {
                count: 8 * at_once as u64,
                sizes: &[size],
                at_once,
                shorter,
                window: 2 * at_once as u64,
                ..Datagrams::default()
            };
            all_arrive(&site, v6, &datagrams);
        }
    }
    site.nothing_odd();
    site.finish();
}

/// Every datagram arrives once. Somebody else's load on the machine may overflow a queue that all
/// namespaces share, so there are several attempts.
fn all_arrive(site: &Site, v6: bool, datagrams: &Datagrams<'_>) {
    let mut seen = Vec::new();
    for seed in 0..5 {
        let datagrams = Datagrams { seed, ..*datagrams };
        let done = datagrams.run(site.pod(1), site.pod(0), site.addr(1, v6));
        let done = done.unwrap_or_else(|e| panic!("inner IPv6 {v6}, {datagrams:?}: {e}\n{}", site.reports()));
        assert_eq!((done.refused, done.repeated), (0, 0), "inner IPv6 {v6}, {datagrams:?}: {done:?}");
        if done.received == done.sent {
            return;
        }
        seen.push(done);
    }
    panic!("inner IPv6 {v6}, {datagrams:?}: {seen:?}\n{}", site.reports());
}
