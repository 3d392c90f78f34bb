//! Too much traffic, and what is done to a node under traffic: it goes on, or says why it ends.

use std::thread::sleep;
use std::time::{Duration, Instant};

use overlane_testkit::program::Signal;
use overlane_testkit::suite::Case;

use crate::load::{Blast, Streams};
use crate::site::*;
use crate::transfers::from_env;

/// A test of a [`plan`].
type Test = fn(usize);

const TESTS: &[(&str, Test)] = &[
    ("overload", overload),
    ("tap-deleted", tap_deleted),
    ("link-down", link_down),
    ("address-removed", address_removed),
    ("full-send-buffer", full_send_buffer),
    ("short-queues", short_queues),
    ("signals", signals),
    ("stopped", stopped),
    ("killed-and-started-again", restarted),
];

fn plan(number: usize) -> Plan {
    let rung = RUNGS[number / 2];
    // A wire for one half of the tests, a veth as it comes for the other.
    let wire = if number.is_multiple_of(2) { Wire::Veth } else { Wire::Cut };
    Plan { wire, ..Plan::new(rung, [Node::Overlane; 2]) }
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for number in 0..2 * RUNGS.len() {
        for (n, (what, run)) in TESTS.iter().enumerate() {
            let limit = 10 * PATIENCE + 2 * overload_time();
            let case = Case::row(format!("{what}/{}", plan(number).name()), ALL, *run, number).within(limit);
            // The short run has each test once for each rung, on alternating links.
            cases.push(case.only_if_asked((number + n) % 2 == 1 && *what != "overload"));
        }
    }
    cases
}

fn overload_time() -> Duration {
    Duration::from_secs(from_env("OVERLANE_OVERLOAD", 3))
}

/// More small frames from both pods than the nodes can carry: what does not arrive was counted where it
/// was dropped, and memory does not grow.
fn overload(number: usize) {
    let site = Site::new(plan(number));
    // A neighbour whose answers are lost too is given up, and packets to it go uncounted.
    site.pin_neighbours();
    let before = Drops::read(&site);
    let mut blasts =
        [0, 1].map(|n| Blast::start(site.pod(n), site.pod(1 - n), site.addr(1 - n, n == 1), Blast::SMALL));
    let (begin, length) = (Instant::now(), overload_time());
    let mut early = Vec::new();
    let mut late = Vec::new();
    while begin.elapsed() < length {
        sleep(length.min(Duration::from_secs(10)) / 50);
        let memory: Vec<u64> = site.vteps().map(|p| p.memory().unwrap()).collect();
        if begin.elapsed() < length / 3 { early.push(memory) } else { late.push(memory) }
    }
    let sent: u64 = blasts.iter_mut().map(Blast::stop).sum();
    // What is still in a queue is neither here nor there.
    let begin = Instant::now();
    loop {
        let drops = Drops::read(&site).since(&before);
        let (received, counted) =
            (blasts.iter().map(Blast::received).sum::<u64>(), drops.sum(site.plan.rung));
        assert!(received > 0 && received <= sent);
        if received + counted >= sent {
            println!("{sent} sent, {received} received, {drops:?}");
            break;
        }
        let missing = sent - received - counted;
        assert!(begin.elapsed() < PATIENCE, "{missing} of {sent} are unaccounted for\n{}", site.reports());
        sleep(Duration::from_millis(100));
    }
    drop(blasts);
    for n in [0, 1] {
        let most = |samples: &[Vec<u64>]| samples.iter().map(|m| m[n]).max().unwrap_or(0);
        println!("vtep {n}: {} KiB early, {} KiB late", most(&early) >> 10, most(&late) >> 10);
        // Buffers that a busy machine let nobody touch earlier; a leak of octets by packet is more.
        assert!(most(&late) <= most(&early) + (1 << 20), "memory grows: {early:?}, {late:?}");
    }
    site.reach();
    site.finish();
}

/// Packets dropped, by place.
#[derive(Debug, Default, Clone, Copy)]
struct Drops {
    /// Not taken by the queue of a TAP.
    tap: u64,
    /// In the engines' counters.
    engine: u64,
    /// By pods' and bridges' links.
    pods: u64,
    /// By the link between the hosts.
    underlay: u64,
    /// For want of room in the vteps' sockets.
    sockets: u64,
    /// For want of room in the pods' sockets.
    ends: u64,
}

impl Drops {
    fn read(site: &Site) -> Drops {
        let mut drops = Drops::default();
        for host in &site.hosts {
            let (mut outside, mut inside) = (host.rtnl(), host.pod.rtnl().unwrap());
            let tap = outside.device("ol0").unwrap().stats;
            drops.tap += tap.tx_dropped;
            drops.pods += tap.rx_dropped + outside.device("br0").unwrap().stats.rx_dropped;
            // A veth counts what the other end's queue does not take as its own.
            drops.pods += outside.device("p0").unwrap().stats.tx_dropped;
            drops.pods += inside.device("eth0").unwrap().stats.tx_dropped;
            drops.underlay += outside.device("u0").unwrap().stats.tx_dropped;
            let report = report(host.process()).unwrap();
            let lines = report.lines().filter_map(|l| l.strip_prefix("dropped ")?.split_once(": "));
            drops.engine += lines.filter_map(|(_, n)| n.parse::<u64>().ok()).sum::<u64>();
            for protocol in ["Udp", "Udp6"] {
                drops.sockets += host.ns.counter(protocol, "RcvbufErrors").unwrap();
                drops.sockets += host.ns.counter(protocol, "SndbufErrors").unwrap();
                drops.ends += host.pod.counter(protocol, "RcvbufErrors").unwrap();
            }
        }
        drops
    }

    fn since(self, before: &Drops) -> Drops {
        Drops {
            tap: self.tap - before.tap,
            engine: self.engine - before.engine,
            pods: self.pods - before.pods,
            underlay: self.underlay - before.underlay,
            sockets: self.sockets - before.sockets,
            ends: self.ends - before.ends,
        }
    }

    /// At most so many datagrams. Where vtep sends many as one, the kernel counts them as one.
    fn sum(&self, rung: Rung) -> u64 {
        let together = if rung.joins { 128 } else { 1 };
        self.tap + self.engine + self.ends + together * (self.pods + self.underlay + self.sockets)
    }
}

/// The device is deleted under load: the program says so and ends, and the other node does not mind.
fn tap_deleted(number: usize) {
    let mut site = Site::new(plan(number));
    let blasts =
        [0, 1].map(|n| Blast::start(site.pod(n), site.pod(1 - n), site.addr(1 - n, n == 1), Blast::SMALL));
    sleep(Duration::from_millis(200));
    site.hosts[0].rtnl().delete("ol0").unwrap();
    let (status, said) = site.hosts[0].vtep.as_mut().unwrap().end(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap_or("");
    assert!(
        last.starts_with("vtep: cannot ") && last.contains(" ol0: EBADFD; the device was removed"),
        "{said}"
    );
    site.hosts[0].is_clean();
    drop(blasts);
    // The other one still works, with a new peer.
    restart(&mut site, 0);
    site.reach();
    site.finish();
}

/// Starts the vtep of a host again, whose old one has ended.
fn restart(site: &mut Site, n: usize) {
    let host = &mut site.hosts[n];
    host.vtep = Some(start_vtep(&host.ns, host.local, host.remote, site.plan.rung.args));
    host.rtnl().set_bridge("ol0", "br0").unwrap();
}

/// Does something to a site under streams and a blast of small frames, undoes it, and sees streams that
/// go on.
fn under_load(site: &mut Site, trouble: impl FnOnce(&mut Site), relief: impl FnOnce(&mut Site)) {
    let streams = Streams::start(site);
    streams.wait_for(2);
    let blast = Blast::start(site.pod(0), site.pod(1), site.addr(1, false), Blast::SMALL);
    sleep(Duration::from_millis(100));
    trouble(site);
    sleep(Duration::from_millis(400));
    relief(site);
    drop(blast);
    streams.wait_for(4);
    streams.stop();
    site.reach();
}

fn link_down(number: usize) {
    let mut site = Site::new(plan(number));
    let down = |site: &mut Site| site.hosts[0].rtnl().set_down("u0").unwrap();
    let up = |site: &mut Site| site.hosts[0].rtnl().set_up("u0").unwrap();
    under_load(&mut site, down, up);
    site.finish();
}

/// The address that the socket is bound to goes, and comes back.
fn address_removed(number: usize) {
    let mut site = Site::new(plan(number));
    let remove = |site: &mut Site| {
        let host = &site.hosts[0];
        host.rtnl().delete_address("u0", host.local, 24).unwrap();
    };
    let add = |site: &mut Site| {
        let host = &site.hosts[0];
        host.rtnl().add_address("u0", host.local, 24).unwrap();
    };
    under_load(&mut site, remove, add);
    site.finish();
}

/// A link so slow that the socket's send buffer fills: `EAGAIN` for all that is sent.
fn full_send_buffer(number: usize) {
    let mut site = Site::new(plan(number));
    let slow = |site: &mut Site| {
        let host = &site.hosts[0];
        host.rtnl().limit_rate("u0", 20_000, 64 << 20).unwrap();
        // More than small frames, many of which may go as one.
        let _large = Blast::start_unheard(site.pod(0), site.addr(1, true), 1300);
        let start = Instant::now();
        while counted(&report(host.process()).unwrap(), "dropped tx_queue_full") == 0 {
            assert!(start.elapsed() < PATIENCE, "the buffer does not fill\n{}", site.reports());
            sleep(Duration::from_millis(20));
        }
    };
    let quick = |site: &mut Site| site.hosts[0].rtnl().limit_rate("u0", 2_000_000_000, 64 << 20).unwrap();
    under_load(&mut site, slow, quick);
    site.finish();
}

/// Queues of two packets on the way: nearly everything is lost in a burst, and streams get through.
fn short_queues(number: usize) {
    let mut site = Site::new(plan(number));
    let short = |site: &mut Site| {
        for host in &site.hosts {
            host.rtnl().set_queue_len("ol0", 2).unwrap();
        }
    };
    let long = |site: &mut Site| {
        for host in &site.hosts {
            host.rtnl().set_queue_len("ol0", 1000).unwrap();
        }
    };
    under_load(&mut site, short, long);
    assert!(site.hosts[0].rtnl().device("ol0").unwrap().stats.tx_dropped > 0);
    site.finish();
}

/// A signal every now and then in the middle of whatever it does.
fn signals(number: usize) {
    let mut site = Site::new(plan(number));
    let storm = |site: &mut Site| {
        let from: Vec<usize> = site.vteps().map(|p| p.out_len()).collect();
        let start = Instant::now();
        let mut sent = 0;
        // Signals that come together are one, and on a busy machine many come together.
        let some = |text: &str| text.matches("\nkernel: ").count() > 10;
        while sent < 1000 || !site.vteps().zip(&from).all(|(vtep, from)| vtep.has_written(*from, some)) {
            assert!(start.elapsed() < PATIENCE, "few reports for {sent} signals\n{}", site.reports());
            for vtep in site.vteps() {
                vtep.signal(Signal::SIGUSR1).unwrap();
                vtep.signal(Signal::SIGCONT).unwrap();
            }
            sent += 1;
            sleep(Duration::from_micros(300));
        }
    };
    under_load(&mut site, storm, |_| ());
    site.finish();
}

/// It gets no time for a while, and everything that is queued at once thereafter.
fn stopped(number: usize) {
    let mut site = Site::new(plan(number));
    let stop = |site: &mut Site| site.hosts[1].process().signal(Signal::SIGSTOP).unwrap();
    let go = |site: &mut Site| site.hosts[1].process().signal(Signal::SIGCONT).unwrap();
    under_load(&mut site, stop, go);
    site.finish();
}

/// The other node is gone, and a new one is there later.
fn restarted(number: usize) {
    let mut site = Site::new(plan(number));
    let kill = |site: &mut Site| {
        site.hosts[1].process().signal(Signal::SIGKILL).unwrap();
        site.hosts[1].vtep.as_mut().unwrap().end(PATIENCE).unwrap();
    };
    under_load(&mut site, kill, |site| restart(site, 1));
    site.finish();
}
