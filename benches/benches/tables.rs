//! `cargo bench -p overlane-bench --bench tables`; see `docs/performance.md`.

use std::process::ExitCode;

fn main() -> ExitCode {
    overlane_bench::tables()
}
