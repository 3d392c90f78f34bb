//! Who decides: the engine of a driver, or the tables that workers share.

use alloc::vec::Vec;

use crate::addr::{PortId, Vni, VtepId};
use crate::engine::{Context, Engine, Frame, Heap, Note, Tables};
use crate::error::{DropReason, PortError};
use crate::time::Instant;

/// The decisions and the counters that the data path needs of an engine.
pub(super) trait Mind {
    fn tables(&self) -> &Tables<Heap>;

    /// As [`Engine::encap`].
    fn encap(&mut self, now: Instant, port: PortId, frames: &mut [Frame<'_>]) -> Result<(), PortError>;

    /// As [`Engine::decap`].
    fn decap(&mut self, now: Instant, frames: &mut [Frame<'_>]);

    /// As [`Engine::count_drop`].
    fn count_drop(
        &mut self,
        reason: DropReason,
        vni: Option<Vni>,
        vtep: Option<VtepId>,
        port: Option<PortId>,
    );
}

impl Mind for Engine<Heap> {
    fn tables(&self) -> &Tables<Heap> {
        Engine::tables(self)
    }

    fn encap(&mut self, now: Instant, port: PortId, frames: &mut [Frame<'_>]) -> Result<(), PortError> {
        Engine::encap(self, now, port, frames)
    }

    fn decap(&mut self, now: Instant, frames: &mut [Frame<'_>]) {
        Engine::decap(self, now, frames);
    }

    fn count_drop(
        &mut self,
        reason: DropReason,
        vni: Option<Vni>,
        vtep: Option<VtepId>,
        port: Option<PortId>,
    ) {
        Engine::count_drop(self, reason, vni, vtep, port);
    }
}

/// Shared tables, and the counters and notes of one worker.
pub(super) struct Reader<'a> {
    pub(super) tables: &'a Tables<Heap>,
    pub(super) context: &'a mut Context<Heap>,
    /// What the context has no room for. Without it, whoever fills that first would keep what follows from
    /// being learned.
    pub(super) log: &'a mut Vec<Note>,
}

impl Reader<'_> {
    /// Makes room for a note of each frame.
    fn make_room(&mut self, frames: &[Frame<'_>]) {
        if self.context.room() < frames.len() {
            self.context.hand_over(self.log);
        }
    }
}

impl Mind for Reader<'_> {
    fn tables(&self) -> &Tables<Heap> {
        self.tables
    }

    fn encap(&mut self, now: Instant, port: PortId, frames: &mut [Frame<'_>]) -> Result<(), PortError> {
        self.make_room(frames);
        self.tables.encap(now, self.context, port, frames)
    }

    fn decap(&mut self, now: Instant, frames: &mut [Frame<'_>]) {
        self.make_room(frames);
        self.tables.decap(now, self.context, frames);
    }

    fn count_drop(
        &mut self,
        reason: DropReason,
        vni: Option<Vni>,
        vtep: Option<VtepId>,
        port: Option<PortId>,
    ) {
        self.tables.count_drop(self.context, reason, vni, vtep, port);
    }
}
