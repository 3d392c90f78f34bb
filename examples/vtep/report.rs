//! Tables and counters, for people.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, BufWriter, Write, stdout};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use overlane::addr::{Destination, IpPrefix, Ipv4Prefix, Ipv6Prefix};
use overlane::engine::ScopeCounters;
use overlane::linux::{Offload, Workers};
use overlane::table::fdb::{EntryKind, FdbEntry};
use overlane::table::vni::{Accept, Mode};
use overlane::table::vtep::Origin;
use overlane::time::Instant;

use crate::node::Node;

/// What runs, when it begins to.
pub(crate) struct Greeting<'a>(pub(crate) &'a Node);

impl fmt::Display for Greeting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workers = &self.0.workers;
        let tables = workers.engine().tables();
        for (port, tap) in workers.taps() {
            let Some(record) = tables.ports().get(port) else { continue };
            let vni = record.config.vni;
            let mode = tables.vnis().get(record.vni_index).map(|v| v.config.mode);
            write!(f, "vtep: {tap} (MTU {}, {}) is in VNI {vni}", tap.mtu(), tap.mac())?;
            match mode {
                Some(Mode::Routed { router_mac }) => writeln!(f, ", routed by {router_mac}")?,
                _ => writeln!(f)?,
            }
        }
        if let Some(error) = &self.0.no_tunnel {
            writeln!(f, "vtep: superframes do not leave whole: {error}")?;
        }
        for remark in &self.0.remarks {
            writeln!(f, "vtep: {remark}")?;
        }
        writeln!(f, "vtep: offload {}", Used(workers))?;
        for local in &self.0.locals {
            let reached = tables.vteps().iter().filter(|(_, v)| v.config.addr.is_ipv4() == local.is_ipv4());
            writeln!(f, "vtep: on {local} to {} VTEPs", reached.count())?;
        }
        Ok(())
    }
}

/// How much is left to the kernel.
struct Used<'a>(&'a Workers);

impl fmt::Display for Used<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workers = self.0;
        let most = workers.config().offload;
        match workers.tunnel() {
            Some(tunnel) => {
                write!(f, "tunnel")?;
                for (n, (uplink, device)) in tunnel.uplinks().enumerate() {
                    write!(f, "{} {device} by {uplink}", if n > 0 { "," } else { ":" })?;
                }
                if let Some(error) = tunnel.ended() {
                    write!(f, "; gso since: {error}")?;
                }
            }
            None => write!(f, "{}", most.min(Offload::Gso))?,
        }
        match workers.threads() {
            1 => Ok(()),
            n => write!(f, "; {n} threads"),
        }
    }
}

struct Carried<'a>(Option<&'a ScopeCounters>);

impl fmt::Display for Carried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ScopeCounters { traffic: t, drops } = self.0.copied().unwrap_or_default();
        write!(
            f,
            "in {} frames {} octets, out {} frames {} octets",
            t.rx_frames, t.rx_octets, t.tx_frames, t.tx_octets
        )?;
        match drops.total() {
            0 => Ok(()),
            n => write!(f, ", {n} dropped"),
        }
    }
}

/// Prints on threads of their own: whoever reads may take long, or have stopped, and traffic does not wait.
#[derive(Default)]
pub(crate) struct Printer {
    /// Closed when the last report is written.
    written: Option<Receiver<Infallible>>,
    /// Another one is asked for.
    wanted: bool,
}

impl Printer {
    /// A report is to be printed.
    pub(crate) fn ask(&mut self) {
        self.wanted = true;
    }

    /// Prints what was asked for, unless the report before is still being read; `wake` is written to when
    /// one is through.
    pub(crate) fn go_on(&mut self, workers: &Workers, wake: &UnixStream) -> io::Result<()> {
        if !self.wanted || !self.is_through(Duration::ZERO) {
            return Ok(());
        }
        self.wanted = false;
        let (report, mut wake, (writing, written)) =
            (Report::new(workers), wake.try_clone()?, mpsc::channel());
        thread::Builder::new().name("report".into()).spawn(move || {
            // Whoever reads may have gone: that ends nothing.
            let _ = report.write(&mut BufWriter::new(stdout().lock()));
            drop(writing);
            let _ = wake.write(&[0]);
        })?;
        self.written = Some(written);
        Ok(())
    }

    /// Whether the last report is written, within this time.
    pub(crate) fn is_through(&self, time: Duration) -> bool {
        let waited = self.written.as_ref().map(|written| written.recv_timeout(time));
        waited.is_none_or(|end| end == Err(RecvTimeoutError::Disconnected))
    }
}

/// All that there is to see, as it was at one moment.
struct Report {
    before: Vec<u8>,
    /// May be many, and take less room than their text.
    addresses: Vec<FdbEntry>,
    now: Instant,
    behind: Vec<u8>,
}

impl Report {
    fn new(workers: &Workers) -> Report {
        let fdb = workers.engine().tables().fdb();
        let mut addresses = Vec::with_capacity(fdb.len());
        addresses.extend(fdb.iter());
        let (mut before, mut behind) = (Vec::new(), Vec::new());
        // Writing to memory does not fail.
        let _ = tables(&mut before, workers).and_then(|()| counters(&mut behind, workers));
        Report { before, addresses, now: workers.now(), behind }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.before)?;
        for entry in &self.addresses {
            write!(out, "  VNI {} {} at {}", entry.vni, entry.mac, entry.destination)?;
            match entry.kind {
                EntryKind::Static => writeln!(out, ", static")?,
                kind => {
                    let age = self.now.saturating_since(entry.last_seen).as_secs();
                    let sticky = if kind == EntryKind::Sticky { ", sticky" } else { "" };
                    writeln!(out, "{sticky}, seen {age} s ago")?;
                }
            }
        }
        out.write_all(&self.behind)?;
        out.flush()
    }
}

/// Writes the tables up to the addresses.
fn tables(out: &mut dyn Write, workers: &Workers) -> io::Result<()> {
    let engine = workers.engine();
    let tables = engine.tables();
    writeln!(out, "== after {}", workers.now())?;
    for (index, entry) in tables.vnis().iter() {
        let vni = entry.vni;
        let mode = match entry.config.mode {
            Mode::Bridged => "bridged".to_string(),
            Mode::Routed { router_mac } => format!("routed by {router_mac}"),
        };
        let accept = match (entry.config.accept, entry.config.learning) {
            (_, false) => "learning off",
            (Accept::KnownVteps, true) => "learning from known VTEPs",
            (Accept::AnySource, true) => "learning from any source",
        };
        writeln!(out, "VNI {vni}: {mode}, {accept}; {}", Carried(engine.vni_counters(vni)))?;
        for (port, _) in tables.ports().of_vni(index) {
            let name = workers.tap(port).map_or("no device", |tap| tap.name());
            writeln!(out, "  {port} {name}: {}", Carried(engine.port_counters(port)))?;
        }
        let flood: Vec<String> = tables.floods().vteps(index).map(|v| v.to_string()).collect();
        writeln!(out, "  floods to {}", if flood.is_empty() { "nobody".into() } else { flood.join(", ") })?;
        for (addr, len, hop) in tables.routes_v4().iter(index.0) {
            if let Ok(prefix) = Ipv4Prefix::truncate(addr, len) {
                writeln!(out, "  route {} leads to {hop}", IpPrefix::V4(prefix))?;
            }
        }
        for (addr, len, hop) in tables.routes_v6().iter(index.0) {
            if let Ok(prefix) = Ipv6Prefix::truncate(addr, len) {
                writeln!(out, "  route {} leads to {hop}", IpPrefix::V6(prefix))?;
            }
        }
    }
    for (id, vtep) in tables.vteps().iter() {
        let config = &vtep.config;
        let origin = if vtep.origin == Origin::Learned { ", learned" } else { "" };
        write!(out, "{id}: {} port {}{origin}", config.addr, config.port)?;
        if let Some(mac) = config.inner_mac.filter(|_| vtep.routes > 0) {
            write!(out, ", router {mac}")?;
        }
        if config.mtu > 0 {
            write!(out, ", MTU {}", config.mtu)?;
        }
        let macs = tables.fdb().learned_by(Destination::Vtep(id));
        writeln!(out, ", {macs} MACs; {}", Carried(engine.vtep_counters(id)))?;
    }
    writeln!(out, "FDB: {} of {} places", tables.fdb().len(), tables.fdb().capacity())
}

/// Writes what was counted.
fn counters(out: &mut dyn Write, workers: &Workers) -> io::Result<()> {
    let engine = workers.engine();
    let c = engine.counters();
    writeln!(
        out,
        "engine: {} from devices, {} from the underlay; {} to VTEPs, {} to devices, {} flooded",
        c.encap_frames, c.decap_frames, c.to_underlay, c.to_port, c.flooded
    )?;
    writeln!(
        out,
        "MACs: {} learned, {} moved, {} aged, {} evicted, {} not learned",
        c.learned, c.moved, c.aged, c.evicted, c.not_learned
    )?;
    for (reason, n) in c.punts.iter() {
        writeln!(out, "slow path {reason}: {n}")?;
    }
    for (reason, n) in c.drops.iter() {
        writeln!(out, "dropped {reason}: {n}")?;
    }
    writeln!(out, "offload {}", Used(workers))?;
    if workers.tunnel().is_some() {
        let t = workers.tunnel_counters();
        writeln!(
            out,
            "whole superframes: {} sent, {} without a known way, {} unfit, {} refused; {} look-ups of ways",
            t.sent, t.no_way, t.unfit, t.refused, t.looked_up
        )?;
    }
    let d = workers.counters();
    writeln!(out, "kernel: {} frames and {} datagrams taken, {} answers", d.tap_tx, d.udp_tx, d.answered)?;
    for (what, n) in [
        ("superframes cut", d.superframes),
        ("sends of several datagrams", d.segmented_sends),
        ("such sends refused", d.segmenting_refused),
        ("writes of several frames", d.joined),
        ("such writes refused", d.joining_refused),
        ("queue full", d.queue_full),
        ("too big", d.too_big),
        ("unreachable", d.unreachable),
        ("down", d.down),
        ("malformed", d.malformed),
        ("ICMP errors heard", d.icmp_errors),
        ("answers held back", d.answers_limited),
    ] {
        if n > 0 {
            writeln!(out, "kernel {what}: {n}")?;
        }
    }
    Ok(())
}
