//! The table that is printed, and the list that is written.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::Args;
use crate::dpdk::Dpdk;
use crate::machine::Machine;
use crate::rows::{Goal, Peer, Row};
use crate::samples::Samples;

/// A row with its figures; what was not measured is `null`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    pub(crate) row: String,
    pub(crate) ours_ns: Option<f64>,
    pub(crate) ours_bytes: Option<f64>,
    pub(crate) peer: Option<String>,
    pub(crate) peer_ns: Option<f64>,
    pub(crate) peer_bytes: Option<f64>,
    /// Ours to the peer's: of the time, or of the memory where the goal is about that.
    pub(crate) ratio: Option<f64>,
    pub(crate) goal: Option<String>,
    /// Whether the goal is met; `null` where there is none, or no figure for the peer.
    pub(crate) met: Option<bool>,
    #[serde(skip)]
    range: (f64, f64),
    #[serde(skip)]
    is_memory: bool,
}

/// To three digits behind the point, so that a list can be read.
fn cut(value: f64) -> Option<f64> {
    value.is_finite().then(|| (value * 1000.0).round() / 1000.0)
}

fn some(value: f64) -> Option<f64> {
    if value == 0.0 { None } else { cut(value) }
}

/// A line for each row; in a smoke run no goal is met or missed.
pub(crate) fn lines(rows: &[Row], samples: &Samples, dpdk: &Dpdk, quick: bool) -> Vec<Line> {
    let judged = |line: Line| if quick { Line { met: None, ..line } } else { line };
    rows.iter().map(|row| judged(line(row, samples, dpdk))).collect()
}

fn line(row: &Row, samples: &Samples, dpdk: &Dpdk) -> Line {
    let ours = row.ours.value(samples);
    let (peer, peer_ns, peer_bytes) = match &row.peer {
        Peer::Nobody => (None, None, None),
        Peer::Here { name, figure } => {
            let value = figure.value(samples);
            (Some((*name).to_owned()), cut(value.ns), some(value.bytes))
        }
        Peer::Dpdk { peer, .. } => {
            let (ns, bytes) = dpdk.figures(&row.peer);
            (Some((*peer).to_owned()), ns.and_then(cut), bytes.and_then(some))
        }
    };
    let is_memory = row.goal.is_memory();
    let (mine, theirs) = if is_memory { (Some(ours.bytes), peer_bytes) } else { (Some(ours.ns), peer_ns) };
    // Where a floor does not grow there is nothing to grow with.
    let ratio = mine.zip(theirs.filter(|t| *t > 0.0)).and_then(|(mine, theirs)| cut(mine / theirs));
    let (goal, met) = match row.goal {
        Goal::Shown => (None, None),
        Goal::Ratio(most) => (Some(format!("<= {most}x")), ratio.map(|r| r <= most)),
        Goal::Memory(most) => (Some(format!("<= {most}x memory")), ratio.map(|r| r <= most)),
        Goal::Ns(most) => (Some(format!("<= {most} ns")), Some(ours.ns <= most)),
        Goal::Octets(most, said) => (Some(format!("<= {said}")), Some(ours.bytes <= most as f64)),
    };
    Line {
        row: row.name.clone(),
        ours_ns: if ours.ns == 0.0 { None } else { cut(ours.ns) },
        ours_bytes: some(ours.bytes),
        peer,
        peer_ns: peer_ns.filter(|ns| *ns != 0.0),
        peer_bytes,
        ratio,
        goal,
        met,
        range: ours.range,
        is_memory,
    }
}

fn time(ns: Option<f64>) -> String {
    ns.map_or("-".into(), |ns| if ns < 100.0 { format!("{ns:.2} ns") } else { format!("{ns:.0} ns") })
}

fn memory(bytes: Option<f64>) -> String {
    bytes.map_or("-".into(), |bytes| format!("{:.2} MiB", bytes / f64::from(1 << 20)))
}

impl Line {
    /// Time or memory, whatever the row is about: ours, and the peer's.
    pub(crate) fn figures(&self) -> (String, String) {
        if self.is_memory {
            (memory(self.ours_bytes), memory(self.peer_bytes))
        } else {
            (time(self.ours_ns), time(self.peer_ns))
        }
    }

    pub(crate) fn cells(&self) -> [String; 7] {
        let (ours, peer) = self.figures();
        let range =
            if self.is_memory { "".into() } else { format!("{:.1}-{:.1}", self.range.0, self.range.1) };
        [
            self.row.clone(),
            ours,
            range,
            self.peer.clone().map_or("-".into(), |name| format!("{peer}  {name}")),
            self.ratio.map_or("-".into(), |ratio| format!("{ratio:.2}")),
            self.goal.clone().unwrap_or_default(),
            match self.met {
                Some(true) => "met".into(),
                Some(false) => "missed".into(),
                None => String::new(),
            },
        ]
    }
}

pub(crate) fn print(lines: &[Line], machine: &Machine, args: &Args) {
    println!("{}; {}", machine.processor, machine.kernel);
    println!("{}, compiled for {}", machine.compiler, machine.compiled_for);
    if args.quick {
        println!("A smoke run: tiny tables, one process for each figure. The figures mean nothing.\n");
    } else {
        let huge = "large blocks on huge pages where the system has them";
        println!("Medians of {} fresh processes each, on processor {}; {huge}.\n", args.samples, args.cpu);
    }
    let mut table = vec![["row", "ours", "lowest-highest", "peer", "ratio", "goal", ""].map(str::to_owned)];
    table.extend(lines.iter().map(Line::cells));
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    for row in &table {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    if args.quick {
        return;
    }
    let with_goal = lines.iter().filter(|line| line.goal.is_some());
    let (met, open) =
        (lines.iter().filter(|l| l.met == Some(true)), with_goal.clone().filter(|l| l.met.is_none()));
    println!(
        "\n{} of {} goals met, {} without a figure for the peer",
        met.count(),
        with_goal.count(),
        open.count()
    );
}

/// Where Cargo puts what it makes.
fn target() -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(own, PathBuf::from)
}

/// Writes the list and gives its path; a smoke run's has another name.
pub(crate) fn write_json(lines: &[Line], quick: bool) -> io::Result<PathBuf> {
    let dir = target().join("bench");
    std::fs::create_dir_all(&dir)?;
    let path = dir.canonicalize()?.join(if quick { "smoke.json" } else { "tables.json" });
    std::fs::write(&path, serde_json::to_string_pretty(lines)? + "\n")?;
    Ok(path)
}
