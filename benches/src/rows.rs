//! What is compared with what, and what is to be reached.

/// A piece of work, and who does it. The names are those that `work` knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Job {
    pub(crate) work: String,
    pub(crate) who: &'static str,
}

/// A figure of a row.
#[derive(Debug, Clone)]
pub(crate) enum Figure {
    /// What a job takes.
    Of(Job),
    /// How much more the second takes than the first.
    Growth(Job, Job),
}

impl Figure {
    pub(crate) fn jobs(&self) -> Vec<&Job> {
        match self {
            Figure::Of(job) => vec![job],
            Figure::Growth(from, to) => vec![from, to],
        }
    }
}

/// Whom a row compares with.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    /// Nobody: the goal is a figure.
    Nobody,
    /// Somebody who is measured here.
    Here { name: &'static str, figure: Figure },
    /// DPDK, which is measured outside: kind, table, peer and measure of the time.
    Dpdk { kind: &'static str, table: &'static str, peer: &'static str, time: &'static str },
}

/// What a row is to reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// Nothing: the row is shown for what it tells.
    Shown,
    /// Time, in parts of the peer's.
    Ratio(f64),
    /// Time in ns.
    Ns(f64),
    /// Memory, in parts of the peer's.
    Memory(f64),
    /// Memory in octets, and how that is said.
    Octets(usize, &'static str),
}

impl Goal {
    /// Whether the row is about memory.
    pub(crate) fn is_memory(self) -> bool {
        matches!(self, Goal::Memory(_) | Goal::Octets(..))
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) ours: Figure,
    pub(crate) peer: Peer,
    pub(crate) goal: Goal,
}

fn job(work: &str, who: &'static str) -> Job {
    Job { work: work.to_owned(), who }
}

fn ours(work: &str) -> Figure {
    Figure::Of(job(work, "ours"))
}

const fn dpdk(kind: &'static str, table: &'static str, peer: &'static str, time: &'static str) -> Peer {
    Peer::Dpdk { kind, table, peer, time }
}

fn here(name: &'static str, work: &str) -> Peer {
    Peer::Here { name, figure: Figure::Of(job(work, name)) }
}

fn row(name: impl Into<String>, ours: Figure, peer: Peer, goal: Goal) -> Row {
    Row { name: name.into(), ours, peer, goal }
}

/// The name under which hashbrown's figures stand.
const HASHBROWN: &str = "hashbrown+foldhash";

fn hashbrown(work: &str) -> Peer {
    Peer::Here { name: HASHBROWN, figure: Figure::Of(job(work, "hashbrown")) }
}

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    fdb(&mut rows);
    routes(&mut rows);
    headers(&mut rows);
    path(&mut rows);
    rows
}

fn fdb(rows: &mut Vec<Row>) {
    use Goal::*;
    for (size, said) in [("1k", "1 k"), ("64k", "64 k")] {
        for what in ["hit", "miss"] {
            let work = format!("fdb-{what}/{size}");
            let name = format!("FDB {what}, {said} entries");
            rows.push(row(name.clone(), ours(&work), hashbrown(&work), Ratio(1.1)));
            let ready = Figure::Of(job(&work, "hashbrown-ready"));
            rows.push(row(
                name,
                ours(&work),
                Peer::Here { name: "with ready keys, no age", figure: ready },
                Shown,
            ));
        }
    }
    let batch = "FDB hit, 1 M entries, batch of 32";
    rows.push(row(batch, ours("fdb-hit-batch/1m"), hashbrown("fdb-hit/1m"), Ratio(0.7)));
    let rte_hash = dpdk("fdb", "1000000", "DPDK rte_hash", "hit batch32 ns");
    rows.push(row(batch, ours("fdb-hit-batch/1m"), rte_hash, Shown));
    let both = "FDB hit, 1 M entries, batches of 32 for both";
    rows.push(row(both, ours("fdb-hit-batch/1m"), hashbrown("fdb-hit-batch/1m"), Shown));
    rows.push(row("FDB miss, 1 M entries", ours("fdb-miss/1m"), hashbrown("fdb-miss/1m"), Ratio(1.2)));
    let per_entry = Octets(40 * 1_000_000, "40 B per entry");
    rows.push(row("FDB memory, 1 M entries", ours("fdb-memory/1m"), hashbrown("fdb-memory/1m"), per_entry));
    for (size, said) in [("64k", "64 k"), ("1m", "1 M")] {
        for (what, name) in [
            ("learn", "learn, new"),
            ("refresh", "learn, refresh"),
            ("sweep", "sweep, nobody too old"),
            ("sweep-half", "sweep, every other one too old"),
        ] {
            let (name, work) = (format!("FDB {name}, {said} entries"), format!("fdb-{what}/{size}"));
            rows.push(row(name.clone(), ours(&work), hashbrown(&work), Ratio(1.0)));
            if matches!(what, "learn" | "refresh") {
                // As a bridge learns: what a batch of frames has taught, behind the batch.
                let work = format!("fdb-{what}-batch/{size}");
                rows.push(row(format!("{name}, batch of 32"), ours(&work), hashbrown(&work), Ratio(1.0)));
            }
        }
    }
}

fn routes(rows: &mut Vec<Row>) {
    use Goal::*;
    let (hit, batch) = ("lpm-v4-hit/bgp", "lpm-v4-batch/bgp");
    let name = "LPM IPv4, BGP table, compact";
    rows.push(row(name, ours(hit), here("prefix-trie", hit), Ratio(0.2)));
    let rte_lpm = || dpdk("lpm4", "bgp", "DPDK rte_lpm", "hit thr ns");
    rows.push(row(name, ours(hit), rte_lpm(), Ratio(1.3)));
    rows.push(row(format!("{name} (stretch)"), ours(hit), rte_lpm(), Ratio(1.0)));
    rows.push(row(name, ours(hit), here("treebitmap", hit), Shown));
    rows.push(row(name, ours(hit), here("iptrie LC-trie", hit), Shown));
    let memory = format!("{name}: memory");
    rows.push(row(memory, ours(hit), here("prefix-trie", hit), Octets(8 << 20, "8 MiB")));
    let bulk = dpdk("lpm4", "bgp", "DPDK rte_lpm", "hit batch32 ns");
    rows.push(row(format!("{name}, batch of 32"), ours(batch), bulk, Shown));
    rows.push(row(format!("{name}, batch of 32"), ours(batch), here("prefix-trie", batch), Shown));

    let name = "LPM IPv4, BGP table, direct index, batch of 32";
    let direct = || Figure::Of(job(batch, "ours direct"));
    let rte_fib = dpdk("lpm4", "bgp", "DPDK rte_fib 2B", "hit batch32 avx512 ns");
    rows.push(row(name, direct(), rte_fib, Ratio(0.6)));
    rows.push(row(format!("{name}: memory"), direct(), Peer::Nobody, Octets(40 << 20, "40 MiB")));

    let (hit, batch) = ("lpm-v6-hit/bgp", "lpm-v6-batch/bgp");
    let name = "LPM IPv6, BGP table, batch of 32";
    let rte_lpm6 = || dpdk("lpm6", "bgp", "DPDK rte_lpm6", "hit batch32 ns");
    let rte_fib6 = dpdk("lpm6", "bgp", "DPDK rte_fib6 4B", "hit batch32 avx512 ns");
    rows.push(row(name, ours(batch), rte_lpm6(), Ratio(1.0)));
    rows.push(row(format!("{name}: memory"), ours(batch), rte_lpm6(), Memory(0.1)));
    rows.push(row(format!("{name} (stretch)"), ours(batch), rte_fib6, Ratio(1.2)));
    let name = "LPM IPv6, BGP table";
    for peer in ["prefix-trie", "treebitmap", "iptrie LC-trie"] {
        rows.push(row(name, ours(hit), here(peer, hit), Shown));
    }

    let (v4, v6) = ("lpm-v4-hit/k8s", "lpm-v6-hit/k8s");
    let name = "LPM IPv4, Kubernetes table";
    rows.push(row(name, ours(v4), here("prefix-trie", v4), Ratio(0.3)));
    rows.push(row(name, ours(v4), here("treebitmap", v4), Shown));
    rows.push(row(name, ours(v4), dpdk("lpm4", "k8s", "DPDK rte_lpm", "hit thr ns"), Shown));
    let name = "LPM IPv6, Kubernetes table";
    rows.push(row(name, ours(v6), here("iptrie LC-trie", v6), Ratio(1.0)));
    rows.push(row(name, ours(v6), here("prefix-trie", v6), Shown));
    rows.push(row(name, ours(v6), dpdk("lpm6", "k8s", "DPDK rte_lpm6", "hit batch32 ns"), Shown));

    for (family, said) in [("v4", "IPv4"), ("v6", "IPv6")] {
        for what in ["insert", "delete"] {
            let work = format!("lpm-{family}-{what}/bgp");
            let name = format!("LPM {said} {what}, BGP table shuffled");
            rows.push(row(name, ours(&work), here("treebitmap", &work), Ratio(2.0)));
        }
    }
}

fn headers(rows: &mut Vec<Row>) {
    for len in ["64", "1400"] {
        let (name, work) = (format!("encap header in headroom, {len} B"), format!("header-write/{len}"));
        rows.push(row(&name, ours(&work), Peer::Nobody, Goal::Ns(4.0)));
        for peer in ["etherparse", "smoltcp", "zerocopy"] {
            rows.push(row(&name, ours(&work), here(peer, &work), Goal::Shown));
        }
        let flow = Figure::Of(job(&work, "flow alone"));
        rows.push(row(format!("{name}: of it, reading the flow"), flow, Peer::Nobody, Goal::Shown));
    }
    for peer in ["zerocopy", "smoltcp", "etherparse"] {
        let work = "header-parse/64";
        rows.push(row("parse outer and inner headers", ours(work), here(peer, work), Goal::Shown));
    }
}

fn path(rows: &mut Vec<Row>) {
    use Goal::*;
    let c = |work| Figure::Of(job(work, "C ABI"));
    let rust = |work| Peer::Here { name: "the Rust call", figure: ours(work) };
    let of = "64 k entries, batch of 32";
    for (name, work, goal) in [
        ("encap", "path-encap/64k", Ns(20.0)),
        ("decap", "path-decap/64k", Ns(20.0)),
        ("decap, every address due to be refreshed", "path-decap-refresh/64k", Shown),
    ] {
        rows.push(row(format!("{name}, {of}"), ours(work), Peer::Nobody, goal));
    }
    for (name, work) in [("encap", "path-encap/64k"), ("decap", "path-decap/64k")] {
        rows.push(row(format!("{name} through the C ABI, {of}"), c(work), rust(work), Ratio(1.1)));
        let nobody = Figure::Of(job(work, "none"));
        rows.push(row(format!("{name}: of it, making the batch ready"), nobody, Peer::Nobody, Shown));
    }
    for (name, work, floor, from, to) in [
        ("1 k to 1 M MAC addresses (encap)", "path-encap", "floor-macs", "1k", "1m"),
        ("1 to 100 k VNIs (decap)", "path-decap-vnis", "floor-vnis", "1", "100k"),
    ] {
        let growth = |work| {
            Figure::Growth(job(&format!("{work}/{from}"), "ours"), job(&format!("{work}/{to}"), "ours"))
        };
        let floor = Peer::Here { name: "random reads of as much memory", figure: growth(floor) };
        rows.push(row(format!("growth of cost, {name}"), growth(work), floor, Ratio(1.0)));
    }
}
