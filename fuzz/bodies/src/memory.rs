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
        let p = &mut self.parts;
        let parts = Parts {
            vni_index: &mut p.vni_index[..],
            vnis: &mut p.vnis[..],
            vtep_index: &mut p.vtep_index[..],
            vteps: &mut p.vteps[..],
            templates: &mut p.templates[..],
            ports: &mut p.ports[..],
            flood_heads: &mut p.flood_heads[..],
            flood_nodes: &mut p.flood_nodes[..],
            fdb_tags: &mut p.fdb_tags[..],
            fdb_slots: &mut p.fdb_slots[..],
            port_quotas: &mut p.port_quotas[..],
            vtep_quotas: &mut p.vtep_quotas[..],
            cells_v4: &mut p.cells_v4[..],
            roots_v4: &mut p.roots_v4[..],
            cells_v6: &mut p.cells_v6[..],
            roots_v6: &mut p.roots_v6[..],
        };
        Ok(Node {
            engine: Engine::new(config, parts, lend(&mut self.context))?,
            worker: Context::new(lend(&mut self.worker))?,
        })
    }
}

fn lend(c: &mut ContextParts<Heap>) -> ContextParts<Borrowed<'_>> {
    ContextParts {
        vni_counters: &mut c.vni_counters[..],
        vtep_counters: &mut c.vtep_counters[..],
        port_counters: &mut c.port_counters[..],
        events: &mut c.events[..],
    }
}
