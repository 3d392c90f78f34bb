//! A simulated underlay.
