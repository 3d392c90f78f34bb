//! The code that is measured. Each piece of work is done by us or by a peer, in a process of its own.

mod c_abi;
mod fdb;
mod floor;
mod header;
mod host;
mod lpm;
mod path;
mod rust_call;

use crate::measure::Sample;

/// How much of everything: all of it, or a little for a smoke run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) quick: bool,
}

impl Scale {
    /// Queries in one pass.
    pub(crate) fn queries(self, full: usize) -> usize {
        if self.quick { 1 << 10 } else { full }
    }

    /// Entries of a table.
    pub(crate) fn entries(self, full: usize) -> usize {
        if self.quick { full.min(2000) } else { full }
    }
}

/// What `who` needs for `work`, which is named `kind/size`.
///
/// # Panics
/// On a name that `rows` does not use.
pub(crate) fn run(work: &str, who: &str, quick: bool) -> Sample {
    let scale = Scale { quick };
    let (kind, size) = work.split_once('/').unwrap_or((work, ""));
    match kind.split_once('-') {
        Some(("fdb", what)) => fdb::run(what, number(size), who, scale),
        Some(("lpm", what)) => lpm::run(what, size, who, scale),
        Some(("header", what)) => header::run(what, number(size), who, scale),
        Some(("path", what)) => path::run(what, number(size), who, scale),
        Some(("floor", what)) => floor::run(what, number(size), scale),
        _ => panic!("no such work: {work}"),
    }
}

/// 64k is 65,536, as tables are sized; 1m is a million, as addresses are counted.
fn number(size: &str) -> usize {
    match size {
        "1k" => 1000,
        "64k" => 65_536,
        "100k" => 100_000,
        "1m" => 1_000_000,
        _ => size.parse().expect("a size"),
    }
}
