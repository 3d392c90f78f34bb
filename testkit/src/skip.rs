//! Skips that are seen and counted.

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::env;

/// Why something cannot run on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip(String);

impl Skip {
    /// A skip for this reason.
    pub fn new(why: impl Into<String>) -> Skip {
        Skip(why.into())
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Skip {}

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Whether a skip is a failure here: `OVERLANE_REQUIRE_NETNS=1`.
pub fn forbidden() -> bool {
    env::var_os("OVERLANE_REQUIRE_NETNS").is_some_and(|v| v == "1")
}

/// Prints `skipped: NAME: why` and counts it. An error where skips are forbidden.
pub fn report(name: &str, why: &Skip) -> Result<(), String> {
    if forbidden() {
        return Err(format!("{name} cannot run and OVERLANE_REQUIRE_NETNS=1 forbids to skip it: {why}"));
    }
    SKIPPED.fetch_add(1, Ordering::Relaxed);
    // One write, so that lines of several threads do not mix; standard error, which no harness swallows.
    eprint!("{}", format_args!("skipped: {name}: {why}\n"));
    Ok(())
}

/// How many were skipped in this process.
pub fn count() -> usize {
    SKIPPED.load(Ordering::Relaxed)
}
