//! The benchmarks of overlane: its tables and its data path beside the best peers that there are.
//!
//! [`tables`] is the whole program. Each figure comes from fresh processes, one for each sample:
//! the program runs itself again with `--child WORK WHO`.
//!
//! - `rows`: what is compared with what, and the goals.
//! - `work`: the code that is measured, ours and the peers'.
//! - `harness`: processes, order, medians.
//! - `report`, `markdown`, `chart`: text and JSON, a table in a document, SVG. `dpdk`: figures measured outside.
#![deny(unsafe_code)] // but for the C ABI in `work/c_abi.rs` and the heap's size in `measure.rs`

mod chart;
mod data;
mod dpdk;
mod harness;
mod machine;
mod markdown;
mod measure;
mod report;
mod rows;
mod samples;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Measures overlane's tables and data path beside their peers.
#[derive(Debug, Parser)]
struct Args {
    /// Fresh processes for each figure; the median counts.
    #[arg(long, default_value_t = 3)]
    samples: usize,
    /// Tiny tables and one sample: shows that everything runs, and nothing else. Also what happens
    /// without Cargo's `--bench`.
    #[arg(long)]
    quick: bool,
    /// Only rows whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// The processor to measure on.
    #[arg(long, default_value_t = 1)]
    cpu: usize,
    /// Write a chart there: a path from the repository's root, such as docs/performance.svg.
    #[arg(long)]
    chart: Option<PathBuf>,
    /// Write the results into a document between its markers: docs/performance.md.
    #[arg(long)]
    results: Option<PathBuf>,
    /// Figures of DPDK, five columns with tabs between: kind, table, peer, measure, value. May be
    /// given again; the median of equal keys counts.
    #[arg(long)]
    dpdk: Vec<PathBuf>,
    /// One sample, in this process.
    #[arg(long, hide = true, num_args = 2)]
    child: Option<Vec<String>>,
    /// Given by Cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Runs the rows, prints them, and writes `target/bench/tables.json`.
pub fn tables() -> ExitCode {
    let mut args = Args::parse();
    if let Some([work, who]) = args.child.as_deref() {
        machine::pin(args.cpu);
        println!("{}", work::run(work, who, args.quick));
        return ExitCode::SUCCESS;
    }
    if args.quick || !args.bench {
        (args.quick, args.samples) = (true, 1);
    }
    match harness::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

/// A path as the caller means it: Cargo runs benchmarks in the package's directory.
fn from_root(path: &std::path::Path) -> PathBuf {
    let package = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).join(path)
}
