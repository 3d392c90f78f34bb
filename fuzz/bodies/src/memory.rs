//! Engines over every kind of memory, of the same size.

use overlane::engine::{
    Borrowed, Capacity, Context, ContextParts, Engine, EngineConfig, Heap, Inline, Parts, Storage,
};
use overlane::error::ConfigError;
use overlane::table::fdb::groups_for;
use overlane::table::lpm::cells_for;
use overlane::table::{flood_nodes_for, index_slots_for};

/// As much as [`CAPACITY`].
pub(crate) type Small = Inline<
    { groups_for(CAPACITY.macs) },
    { cells_for(CAPACITY.routes_v4) },
    { index_slots_for(CAPACITY.vnis) },
    { CAPACITY.vnis },
    { CAPACITY.vteps },
    { CAPACITY.ports },
    { flood_nodes_for(2 * CAPACITY.vnis, CAPACITY.flood_members) },
    { CAPACITY.events },
>;

pub(crate) const CAPACITY: Capacity = Capacity {
    macs: 100,
    routes_v4: 64,
    routes_v6: 64,
    vnis: 8,
    vteps: 8,
    ports: 8,
    flood_members: 32,
    events: 16,
};

/// An engine, and the context of a worker beside it.
pub(crate) struct Node<S: Storage> {
    pub(crate) engine: Engine<S>,
    pub(crate) worker: Context<S>,
}

impl Node<Small> {
    pub(crate) fn inline(config: EngineConfig) -> Result<Self, ConfigError> {
        Ok(Node {
            engine: Engine::new(config, Parts::default(), ContextParts::default())?,
            worker: Context::new(ContextParts::default())?,
        })
    }
}

impl Node<Heap> {
    pub(crate) fn heap(config: EngineConfig) -> Result<Self, ConfigError> {
        Ok(Node {
            engine: Engine::with_capacity(config, &CAPACITY)?,
            worker: Context::new(ContextParts::<Heap>::with_capacity(&CAPACITY))?,
        })
    }
}

/// Memory to lend.
pub(crate) struct Lender {
    parts: Parts<Heap>,
    context: ContextParts<Heap>,
    worker: ContextParts<Heap>,
}

impl Lender {
    pub(crate) fn new() -> Lender {
        Lender {
            parts: Parts::<Heap>::with_capacity(&CAPACITY),
            context: ContextParts::<Heap>::with_capacity(&CAPACITY),
            worker: ContextParts::<Heap>::with_capacity(&CAPACITY),
        }
    }

    pub(crate) fn lend(&mut self, config: EngineConfig) -> Result<Node<Borrowed<'_>>, ConfigError> {
        Ok(Node {
            engine: Engine::new(config, self.parts.lend(), self.context.lend())?,
            worker: Context::new(self.worker.lend())?,
        })
    }
}
