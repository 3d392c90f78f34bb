//! What a lab found, and how it prints.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use overlane::addr::{Destination, MacAddr, Vni};
use overlane::engine::{Engine, Storage};
use overlane::table::fdb::EntryKind;

/// All that a lab found out.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Where it ran: "in memory", "in network namespaces".
    pub place: String,
    /// What the throughput measures, in a few words.
    pub measured: String,
    /// The VNI that joins the pods.
    pub vni: Vni,
    /// The nodes, in the order of their addresses.
    pub nodes: Vec<Node>,
    /// Every ordered pair of nodes.
    pub pairs: Vec<Pair>,
    /// The underlay's datagrams, oldest first.
    pub packets: Vec<Packet>,
    /// Datagrams after those, which there was no room for.
    pub not_kept: u64,
}

/// A node, the pod behind it, and what its VTEP knew at the end.
#[derive(Debug, Clone)]
pub struct Node {
    /// A short name.
    pub name: String,
    /// What carries its frames: "overlane", "kernel vxlan".
    pub data_plane: String,
    /// Its underlay address.
    pub underlay: IpAddr,
    /// The pod's address in the overlay.
    pub pod: IpAddr,
    /// The pod's MAC address.
    pub mac: MacAddr,
    /// What the FDB learned.
    pub fdb: Vec<FdbLine>,
    /// Counters that are not zero.
    pub counters: Vec<(String, u64)>,
    /// Drops by reason; none is good.
    pub drops: Vec<(String, u64)>,
}

/// An address in a node's FDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FdbLine {
    /// The address.
    pub mac: MacAddr,
    /// Where it is: "port 0", "192.0.2.2".
    pub at: String,
    /// How it came there: "learned", "static".
    pub how: String,
}

/// What came of one pod reaching another.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The index of the node whose pod asks, pings and sends.
    pub from: usize,
    /// The index of the other.
    pub to: usize,
    /// The MAC address that ARP gave for the other pod.
    pub neighbor: Option<MacAddr>,
    /// Echo requests sent.
    pub pings: u32,
    /// Echo requests answered.
    pub answered: u32,
    /// Octets that a TCP connection was to carry.
    pub octets: u64,
    /// Whether all of them arrived, unchanged.
    pub whole: bool,
    /// How long that took.
    pub took: Duration,
}

/// A datagram on the underlay.
#[derive(Debug, Clone)]
pub struct Packet {
    /// When it was sent, from the start of the lab.
    pub time: Duration,
    /// Its source address and UDP port.
    pub src: SocketAddr,
    /// Its destination address and UDP port.
    pub dst: SocketAddr,
    /// The UDP payload: the VXLAN header and the inner frame.
    pub payload: Vec<u8>,
}

impl Node {
    /// Takes over what the engine knows: addresses, counters, drops.
    pub fn read<S: Storage>(&mut self, engine: &Engine<S>) {
        let place = |at| match at {
            Destination::Port(port) => port.to_string(),
            Destination::Vtep(id) => engine.vtep(id).map_or("?".into(), |v| v.config.addr.to_string()),
        };
        let how = |kind| match kind {
            EntryKind::Learned => "learned",
            EntryKind::Sticky => "sticky",
            EntryKind::Static => "static",
        };
        let entries = engine.tables().fdb().iter();
        self.fdb = entries
            .map(|e| FdbLine { mac: e.mac, at: place(e.destination), how: how(e.kind).into() })
            .collect();
        self.fdb.sort_by_key(|line| line.mac);
        let c = engine.counters();
        let counters = [
            ("encap", c.encap_frames),
            ("decap", c.decap_frames),
            ("to_underlay", c.to_underlay),
            ("to_port", c.to_port),
            ("flooded", c.flooded),
            ("learned", c.learned),
            ("moved", c.moved),
            ("aged", c.aged),
        ];
        self.counters = counters.iter().filter(|c| c.1 > 0).map(|c| (c.0.into(), c.1)).collect();
        self.drops = c.drops.iter().map(|(reason, n)| (reason.to_string(), n)).collect();
    }
}

impl Pair {
    /// Whether the address was resolved, every ping answered and every octet carried.
    pub fn worked(&self) -> bool {
        self.neighbor.is_some() && self.pings > 0 && self.answered == self.pings && self.whole
    }

    /// Bits of TCP payload in a second; `None` where the transfer failed.
    pub fn throughput(&self) -> Option<f64> {
        let seconds = self.took.as_secs_f64();
        (self.whole && seconds > 0.0).then(|| self.octets as f64 * 8.0 / seconds)
    }
}

impl Report {
    /// Whether every pair worked, and there are pairs at all.
    pub fn worked(&self) -> bool {
        !self.pairs.is_empty() && self.pairs.iter().all(Pair::worked)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "The lab ran {}: {} nodes, VNI {}.\n", self.place, self.nodes.len(), self.vni)?;
        let nodes = self.nodes.iter().map(|n| {
            let pod = format!("{} {}", n.pod, n.mac);
            vec![n.name.clone(), n.data_plane.clone(), n.underlay.to_string(), pod]
        });
        table(f, &["node", "data plane", "underlay", "pod"], nodes.collect())?;

        let pairs = self.pairs.iter().map(|p| {
            let neighbor = p.neighbor.map_or("no answer".into(), |mac| mac.to_string());
            let name = |i: usize| self.nodes.get(i).map_or("?", |n| n.name.as_str());
            let tcp = p.throughput().map_or("failed".into(), |bits| rate(p.octets, bits));
            vec![
                format!("{} -> {}", name(p.from), name(p.to)),
                neighbor,
                format!("{}/{}", p.answered, p.pings),
                tcp,
                if p.worked() { "ok" } else { "FAILED" }.into(),
            ]
        });
        table(f, &["pods", "ARP", "ping", "TCP", ""], pairs.collect())?;
        writeln!(f, "Throughput is {}.\n", self.measured)?;

        let fdb = self.nodes.iter().flat_map(|n| {
            let lines = n.fdb.iter();
            lines.map(|l| vec![n.name.clone(), l.mac.to_string(), l.at.clone(), l.how.clone()])
        });
        table(f, &["FDB of", "address", "is at", ""], fdb.collect())?;

        let list = |pairs: &[(String, u64)]| match pairs {
            [] => "none".to_owned(),
            some => some.iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", "),
        };
        let counters = self.nodes.iter().map(|n| vec![n.name.clone(), list(&n.counters), list(&n.drops)]);
        table(f, &["node", "counters", "drops"], counters.collect())?;

        let failed = self.pairs.iter().filter(|p| !p.worked()).count();
        match (failed, self.pairs.len()) {
            (_, 0) => writeln!(f, "No pair was tried."),
            (0, all) => writeln!(f, "All {all} pairs worked."),
            (failed, all) => writeln!(f, "{failed} of {all} pairs FAILED."),
        }
    }
}

/// Octets carried, and how fast.
fn rate(octets: u64, bits: f64) -> String {
    let (value, unit) = match bits {
        b if b >= 1e9 => (b / 1e9, "Gbit/s"),
        b if b >= 1e6 => (b / 1e6, "Mbit/s"),
        b => (b / 1e3, "kbit/s"),
    };
    format!("{:.1} MB at {value:.1} {unit}", octets as f64 / 1e6)
}

/// A table with columns as wide as what is in them.
fn table(f: &mut fmt::Formatter<'_>, head: &[&str], rows: Vec<Vec<String>>) -> fmt::Result {
    let head: Vec<String> = head.iter().map(|&h| h.to_owned()).collect();
    let lines: Vec<&Vec<String>> = core::iter::once(&head).chain(&rows).collect();
    let width = |i: usize| lines.iter().filter_map(|l| l.get(i)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).filter_map(width).collect();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}"));
        writeln!(f, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    writeln!(f)
}
