//! Time, memory and chance.

use std::fmt;
use std::hint::black_box;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Passes over the queries that are timed in one process; the median counts.
const PASSES: usize = 5;

/// What one process measured.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    /// Nanoseconds for each operation.
    pub(crate) ns: f64,
    /// Octets that the structure takes; 0 where nobody asked.
    pub(crate) bytes: usize,
    /// Sum of all results: whoever does the same work has the same.
    pub(crate) sum: u64,
    /// How much of the time that passed this process had the processor, 1 for all of it.
    pub(crate) share: f64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.ns, self.bytes, self.sum, self.share)
    }
}

impl FromStr for Sample {
    type Err = String;

    fn from_str(line: &str) -> Result<Sample, String> {
        let mut words = line.split_whitespace();
        let mut word = || words.next().ok_or_else(|| format!("not a sample: {line:?}"));
        let bad = |e: &dyn fmt::Display| format!("not a sample: {line:?}: {e}");
        Ok(Sample {
            ns: word()?.parse().map_err(|e| bad(&e))?,
            bytes: word()?.parse().map_err(|e| bad(&e))?,
            sum: word()?.parse().map_err(|e| bad(&e))?,
            share: word()?.parse().map_err(|e| bad(&e))?,
        })
    }
}

/// The value in the middle, or between the two that are; NaN of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    values.get(low).zip(values.get(high)).map_or(f64::NAN, |(low, high)| (low + high) / 2.0)
}

/// What timed passes give.
pub(crate) struct Timed {
    pub(crate) ns: f64,
    pub(crate) sum: u64,
    pub(crate) share: f64,
}

impl Timed {
    pub(crate) fn sample(self, bytes: usize) -> Sample {
        Sample { ns: self.ns, bytes, sum: self.sum, share: self.share }
    }
}

/// Times `pass` again and again: it makes ready, then calls `timed` once with what is to be timed.
/// The first pass warms caches and is not counted. Gives ns for each of `ops`, and the last result.
pub(crate) fn timed_passes(ops: usize, mut pass: impl FnMut(&mut Timer) -> u64) -> Timed {
    let (mut times, mut sum, mut all) = (Vec::new(), 0, Timer::default());
    for round in 0..=PASSES {
        let mut timer = Timer::default();
        sum = pass(&mut timer);
        if round > 0 {
            times.push(timer.cpu.as_nanos() as f64 / ops as f64);
            (all.cpu, all.wall) = (all.cpu + timer.cpu, all.wall + timer.wall);
        }
    }
    Timed { ns: median(times), sum, share: all.cpu.as_secs_f64() / all.wall.as_secs_f64().max(1e-9) }
}

/// The same where all of `pass` is to be timed.
pub(crate) fn passes(ops: usize, mut pass: impl FnMut() -> u64) -> Timed {
    timed_passes(ops, |timer| timer.time(&mut pass))
}

/// Adds up the time of what it is given: the processor's, so that a process which is put aside for
/// another one does not count what that takes.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    cpu: Duration,
    wall: Duration,
}

impl Timer {
    pub(crate) fn time<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let (start, cpu) = (Instant::now(), cpu_time());
        let result = black_box(work());
        let wall = start.elapsed();
        self.cpu += match (cpu, cpu_time()) {
            (Some(start), Some(end)) => end.saturating_sub(start),
            _ => wall,
        };
        self.wall += wall;
        result
    }
}

/// Time of the processor that this thread has had.
#[cfg(target_os = "linux")]
fn cpu_time() -> Option<Duration> {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).ok().map(Duration::from)
}

/// Time of the processor that this thread has had.
#[cfg(not(target_os = "linux"))]
fn cpu_time() -> Option<Duration> {
    None
}

/// Octets on the heap as the C library counts them, mapped blocks included; 0 where it cannot tell.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn heap() -> usize {
    // SAFETY: mallinfo2 has no argument and no other effect than to return the figures.
    #[allow(unsafe_code)]
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

/// Octets on the heap as the C library counts them, mapped blocks included; 0 where it cannot tell.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn heap() -> usize {
    0
}

/// What `make` makes, and how many octets more are on the heap with it.
pub(crate) fn weigh<T>(make: impl FnOnce() -> T) -> (T, usize) {
    let before = heap();
    let made = make();
    (made, heap().saturating_sub(before))
}

/// A generator with a fixed seed (splitmix64), so that every process has the same data.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((self.next() as u128 * n as u128) >> 64) as usize
    }

    pub(crate) fn shuffle<T>(&mut self, values: &mut [T]) {
        for i in (1..values.len()).rev() {
            values.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_of_few_and_of_many() {
        assert!(median(Vec::new()).is_nan());
        for (values, middle) in [
            (vec![3.0], 3.0),
            (vec![9.0, 1.0], 5.0),
            (vec![9.0, 1.0, 2.0], 2.0),
            (vec![4.0, 1.0, 2.0, 9.0], 3.0),
        ] {
            assert_eq!(median(values), middle);
        }
    }
}
