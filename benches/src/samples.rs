//! What the processes measured, and the medians of it.

use std::collections::BTreeMap;

use crate::measure::{Sample, median};
use crate::rows::{Figure, Job};

/// The samples of each job.
pub(crate) type Samples = BTreeMap<Job, Vec<Sample>>;

/// A figure, as a row has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value {
    pub(crate) ns: f64,
    /// The lowest and the highest sample.
    pub(crate) range: (f64, f64),
    pub(crate) bytes: f64,
}

impl Figure {
    /// The median of the samples.
    pub(crate) fn value(&self, samples: &Samples) -> Value {
        let of = |job: &Job| {
            let of: Vec<Sample> = samples.get(job).cloned().unwrap_or_default();
            let ns: Vec<f64> = of.iter().map(|s| s.ns).collect();
            let range =
                ns.iter().fold((f64::INFINITY, 0.0f64), |(low, high), ns| (low.min(*ns), high.max(*ns)));
            let bytes = median(of.iter().map(|s| s.bytes as f64).collect());
            Value { ns: median(ns), range, bytes }
        };
        match self {
            Figure::Of(job) => of(job),
            Figure::Growth(from, to) => {
                let (from, to) = (of(from), of(to));
                let range = (to.range.0 - from.range.1, to.range.1 - from.range.0);
                Value { ns: to.ns - from.ns, range, bytes: 0.0 }
            }
        }
    }
}

/// How many samples there are, and how many had less than 95 % of their processor.
pub(crate) fn shared(samples: &Samples) -> (usize, usize) {
    let all = || samples.values().flatten();
    (all().count(), all().filter(|s| s.share < 0.95).count())
}
