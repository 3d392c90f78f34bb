//! The clock's reading, as the host passes it in.
//!
//! The core never reads a clock. Every call that needs the time takes an [`Instant`]; every call
//! that must be made later says so as an [`Instant`].

use core::fmt;
use core::ops::Add;
use core::time::Duration;

/// A point on the host's monotonic clock, in milliseconds since an epoch that the host chooses.
///
/// Two instants may be compared only when they come from the same clock. A host whose clock steps
/// backwards loses no safety: differences saturate at zero.
///
/// ```
/// use core::time::Duration;
/// use overlane::time::Instant;
/// let start = Instant::from_millis(1_000);
/// let later = start + Duration::from_secs(300);
/// assert_eq!(later.as_millis(), 301_000);
/// assert_eq!(start.saturating_since(later), Duration::ZERO);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Instant(u64);

impl Instant {
    /// The clock's epoch.
    pub const ZERO: Instant = Instant(0);
    /// The furthest instant; "never" as a deadline.
    pub const MAX: Instant = Instant(u64::MAX);

    /// `ms` milliseconds after the epoch.
    pub const fn from_millis(ms: u64) -> Instant {
        Instant(ms)
    }

    /// `secs` seconds after the epoch, saturating.
    pub const fn from_secs(secs: u64) -> Instant {
        Instant(secs.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`, or zero where `earlier` is the later of the two.
    pub const fn saturating_since(self, earlier: Instant) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// Saturates at [`Instant::MAX`]; a part below a millisecond is dropped.
    fn add(self, d: Duration) -> Instant {
        let ms = d.as_millis();
        Instant(if ms > u64::MAX as u128 { u64::MAX } else { self.0.saturating_add(ms as u64) })
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0 / 1000, self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_saturates_and_differences_never_go_below_zero() {
        assert_eq!(Instant::MAX + Duration::from_millis(1), Instant::MAX);
        assert_eq!(Instant::ZERO + Duration::MAX, Instant::MAX);
        assert_eq!(Instant::from_secs(u64::MAX), Instant::MAX);
        assert_eq!(Instant::ZERO.saturating_since(Instant::MAX), Duration::ZERO);
        assert_eq!(
            Instant::from_secs(2).saturating_since(Instant::from_millis(1)),
            Duration::from_millis(1999)
        );
    }
}
