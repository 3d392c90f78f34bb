//! A program with an engine in it, and how the buffers of its batches are laid out.

use overlane::addr::Destination;
use overlane::table::EntryKind;

pub(super) const BATCH: usize = 32;
/// A line more than 2 KiB, as pools of buffers lay them: at 2 KiB sharp, 32 buffers share two sets of the first cache.
pub(super) const STRIDE: usize = 2048 + 64;
/// Where the inner frame lies in its buffer, and how long it is.
pub(super) const INNER_AT: usize = overlane::engine::HEADROOM;
pub(super) const INNER_LEN: usize = 64;
/// Outer headers.
pub(super) const OUTER_LEN: usize = 50;

pub(super) const LOCAL: [u8; 4] = [10, 0, 0, 1];
pub(super) const LOCAL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// How much an engine holds, and how long its addresses live.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) macs: usize,
    pub(super) vnis: usize,
    pub(super) ports: usize,
    pub(super) ageing_ms: u64,
}

/// A program that has an engine in it.
pub(super) trait Host: Sized {
    fn new(size: Size) -> Self;
    fn add_vni(&mut self, vni: u32);
    fn add_vtep(&mut self, addr: [u8; 4], underlay_mac: [u8; 6]) -> u16;
    fn add_port(&mut self, vni: u32) -> u16;
    fn add_mac(&mut self, now: u64, vni: u32, mac: [u8; 6], at: Destination, kind: EntryKind);
    /// Hands the inner frames of the batch's buffers on; the sum of one and the VTEP of each.
    fn encap(&mut self, now: u64, port: u16, arena: &mut [u8; BATCH * STRIDE]) -> u64;
    /// Hands the packets of the batch's buffers on; the sum of one and the port of each.
    fn decap(&mut self, now: u64, arena: &mut [u8; BATCH * STRIDE]) -> u64;
}
