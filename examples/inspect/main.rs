//! What a capture file holds, packet by packet, as overlane's own decoder reads it.
//!
//! ```text
//! cargo run --release --example inspect -- FILE.pcap[ng] [--port N]... [--json]
//! ```
//!
//! `docs/inspect.md` describes the output.

// A program has std; only the library must do without.
#![allow(clippy::std_instead_of_alloc, clippy::std_instead_of_core)]

mod capture;
mod cli;
mod decode;
mod report;

use std::io::{self, BufWriter};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    ExitCode::from(cli::run(std::env::args_os(), &mut io::stdin().lock(), &mut out, &mut io::stderr()))
}
