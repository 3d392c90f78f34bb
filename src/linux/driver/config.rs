//! How a driver works.

use crate::linux::Offload;

/// How a [`Driver`](super::Driver) works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverConfig {
    /// The highest rung of the ladder that is used. What this kernel lacks of one is left out: see
    /// [`Tap::offloads`](crate::linux::Tap::offloads) and
    /// [`Underlay::offload`](crate::linux::Underlay::offload). From [`Offload::Gso`] on, the outer UDP
    /// checksum is never zero. Default: [`Offload::Gso`].
    pub offload: Offload,
}

impl Default for DriverConfig {
    fn default() -> DriverConfig {
        DriverConfig { offload: Offload::Gso }
    }
}
