//! What happened, line by line.

use core::fmt::{self, Write};
use core::time::Duration;
use std::collections::VecDeque;

/// How many of the last lines are kept for the message of a failure.
const TAIL: usize = 40;

/// The lines of a run: a hash over all, the last few, and all of them where that was asked for.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    tail: VecDeque<String>,
    all: Option<Vec<String>>,
}

impl Trace {
    pub(super) fn new() -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, tail: VecDeque::with_capacity(TAIL), all: None }
    }

    /// Keeps every line from now on.
    pub(super) fn record(&mut self) {
        self.all.get_or_insert_default();
    }

    pub(super) fn lines(&self) -> &[String] {
        self.all.as_deref().unwrap_or(&[])
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn line(&mut self, now: Duration, what: fmt::Arguments<'_>) {
        let mut line = if self.tail.len() < TAIL { None } else { self.tail.pop_front() }.unwrap_or_default();
        line.clear();
        let _ = write!(line, "{:>12} {what}", now.as_micros());
        self.hash = fnv(self.hash, line.as_bytes());
        if let Some(all) = &mut self.all {
            all.push(line.clone());
        }
        self.tail.push_back(line);
    }

    /// The last lines, for people.
    pub(super) fn tail(&self) -> String {
        self.tail.iter().fold(String::new(), |text, line| text + line + "\n")
    }
}

/// FNV-1a over these octets, from `hash` on.
pub(super) fn fnv(hash: u64, octets: &[u8]) -> u64 {
    octets.iter().fold(hash, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3))
}
