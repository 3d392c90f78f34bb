//! The memory of an engine, as one bundle.
//!
//! [`Storage`] names a [`Store`] for every table, so that one type parameter carries every
//! capacity. Three bundles are given: [`Inline`] (arrays inside the engine), [`Borrowed`] (slices
//! that the host lends) and, with the feature `alloc`, [`Heap`] (boxes made once).

use core::fmt;
use core::marker::PhantomData;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::event::Event;
use super::stats::ScopeCounters;
#[cfg(feature = "alloc")]
use crate::error::CapacityError;
use crate::table::Store;
use crate::table::fdb::{Quota, SlotGroup, TagGroup};
use crate::table::flood::{FloodHead, FloodNode};
use crate::table::index::IndexSlot;
use crate::table::lpm::{LpmNode, LpmRoot};
use crate::table::port::PortSlot;
use crate::table::vni::VniSlot;
use crate::table::vtep::VtepSlot;
use crate::wire::template::Template;

macro_rules! storage {
    ($($bundle:ident($bundle_doc:literal) {
        $($(#[$doc:meta])* $field:ident: $assoc:ident of $t:ty, $cap:ident, $empty:expr;)*
    })*) => {
        /// Which memory each table of an engine uses.
        pub trait Storage {
            $($(
                $(#[$doc])*
                type $assoc: Store<$t>;
            )*)*
        }

        $(
            #[doc = $bundle_doc]
            ///
            /// What the memory holds does not matter: making the engine resets it.
            pub struct $bundle<S: Storage> {
                $(
                    $(#[$doc])*
                    pub $field: S::$assoc,
                )*
            }

            impl<S: Storage> fmt::Debug for $bundle<S> {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.debug_struct(stringify!($bundle))
                        $(.field(stringify!($field), &self.$field.as_slice().len()))*
                        .finish()
                }
            }
        )*

        $(
            impl<S: Storage> $bundle<S> {
                /// The same memory, lent to an engine over [`Borrowed`].
                pub fn lend(&mut self) -> $bundle<Borrowed<'_>> {
                    $bundle { $($field: self.$field.as_mut_slice(),)* }
                }
            }
        )*

        /// Memory that the host lends: a static, a C caller's block, huge pages.
        ///
        /// The slices may come one by one, or all of them from the arrays of an [`Inline`]:
        ///
        /// ```
        /// use overlane::engine::{Borrowed, ContextParts, Engine, EngineConfig, Inline, Parts};
        /// use overlane::table::Seed;
        /// use std::sync::Mutex;
        ///
        /// type Small = Inline<32, 64, 6, 4, 16, 4, 12, 32>;
        /// static MEMORY: Mutex<(Parts<Small>, ContextParts<Small>)> =
        ///     Mutex::new((Parts::EMPTY, ContextParts::EMPTY));
        ///
        /// let mut memory = MEMORY.lock()?; // whatever cell the host has for a static
        /// let (parts, context) = &mut *memory;
        /// let config = EngineConfig::new("192.0.2.1".parse()?, Seed::fixed(1)); // draw 16 random octets
        /// let engine = Engine::<Borrowed>::new(config, parts.lend(), context.lend())?;
        /// assert_eq!(engine.tables().vteps().capacity(), 16);
        /// # Ok::<(), Box<dyn core::error::Error>>(())
        /// ```
        #[derive(Debug, Clone, Copy)]
        pub struct Borrowed<'a>(PhantomData<&'a mut ()>);

        impl<'a> Storage for Borrowed<'a> {
            $($(type $assoc = &'a mut [$t];)*)*
        }

        /// Boxes, made once by [`Engine::with_capacity`](super::Engine::with_capacity).
        #[cfg(feature = "alloc")]
        #[derive(Debug, Clone, Copy)]
        pub struct Heap(());

        #[cfg(feature = "alloc")]
        impl Storage for Heap {
            $($(type $assoc = alloc::boxed::Box<[$t]>;)*)*
        }

        $(
            #[cfg(feature = "alloc")]
            impl $bundle<Heap> {
                /// Memory for so much.
                pub fn with_capacity(capacity: &Capacity) -> Self {
                    let c = capacity.sizes();
                    $bundle { $($field: boxed(c.$cap),)* }
                }

                /// The same, refused where the memory is not to be had.
                ///
                /// # Errors
                /// [`CapacityError::NoMemory`], with the part that was not to be had.
                pub fn try_with_capacity(capacity: &Capacity) -> Result<Self, CapacityError> {
                    let c = capacity.sizes();
                    Ok($bundle { $($field: try_boxed(stringify!($field), c.$cap)?,)* })
                }
            }
        )*

        /// Arrays inside the engine: no heap, no lent memory.
        ///
        /// The parameters are what the arrays hold, not what the tables promise: `FDB` groups
        /// ([`fdb::groups_for`](crate::table::fdb::groups_for)), `CELLS` route cells for each
        /// family, `INDEX` index slots for VNIs and for VTEPs
        /// ([`index::index_slots_for`](crate::table::index::index_slots_for)), `VNIS`, `VTEPS`,
        /// `PORTS`, `FLOOD` list nodes and `EVENTS`.
        ///
        /// ```
        /// use overlane::engine::{ContextParts, Engine, EngineConfig, Inline, Parts};
        /// use overlane::table::{Seed, fdb::groups_for, flood_nodes_for, index_slots_for, lpm::cells_for};
        ///
        /// // 100 addresses, 8 routes of each family, 4 VNIs, 16 VTEPs, 4 ports; on the flood lists, two for
        /// // each VNI, 20 members in all; 32 events.
        /// type Small = Inline<
        ///     { groups_for(100) }, { cells_for(8) }, { index_slots_for(16) }, 4, 16, 4, { flood_nodes_for(8, 20) }, 32,
        /// >;
        /// let config = EngineConfig::new("192.0.2.1".parse()?, Seed::fixed(1)); // draw 16 random octets
        /// let engine = Engine::<Small>::new(config, Parts::default(), ContextParts::default())?;
        /// assert!(size_of_val(&engine) < 32 << 10);
        /// # Ok::<(), Box<dyn core::error::Error>>(())
        /// ```
        #[derive(Debug, Clone, Copy)]
        pub struct Inline<
            const FDB: usize,
            const CELLS: usize,
            const INDEX: usize,
            const VNIS: usize,
            const VTEPS: usize,
            const PORTS: usize,
            const FLOOD: usize,
            const EVENTS: usize,
        >(());

        impl<
            const FDB: usize,
            const CELLS: usize,
            const INDEX: usize,
            const VNIS: usize,
            const VTEPS: usize,
            const PORTS: usize,
            const FLOOD: usize,
            const EVENTS: usize,
        > Storage for Inline<FDB, CELLS, INDEX, VNIS, VTEPS, PORTS, FLOOD, EVENTS> {
            $($(type $assoc = [$t; storage!(@inline $cap)];)*)*
        }

        $(
            impl<
                const FDB: usize,
                const CELLS: usize,
                const INDEX: usize,
                const VNIS: usize,
                const VTEPS: usize,
                const PORTS: usize,
                const FLOOD: usize,
                const EVENTS: usize,
            > $bundle<Inline<FDB, CELLS, INDEX, VNIS, VTEPS, PORTS, FLOOD, EVENTS>> {
                /// The arrays, as a static needs them; elsewhere `default()` gives the same.
                pub const EMPTY: Self = $bundle { $($field: [const { $empty }; storage!(@inline $cap)],)* };
            }

            impl<
                const FDB: usize,
                const CELLS: usize,
                const INDEX: usize,
                const VNIS: usize,
                const VTEPS: usize,
                const PORTS: usize,
                const FLOOD: usize,
                const EVENTS: usize,
            > Default for $bundle<Inline<FDB, CELLS, INDEX, VNIS, VTEPS, PORTS, FLOOD, EVENTS>> {
                fn default() -> Self {
                    $bundle { $($field: core::array::from_fn(|_| Default::default()),)* }
                }
            }
        )*
    };
    (@inline fdb_groups) => { FDB };
    (@inline cells_v4) => { CELLS };
    (@inline cells_v6) => { CELLS };
    (@inline vni_index) => { INDEX };
    (@inline vtep_index) => { INDEX };
    (@inline vnis) => { VNIS };
    (@inline vteps) => { VTEPS };
    (@inline ports) => { PORTS };
    (@inline flood_nodes) => { FLOOD };
    (@inline events) => { EVENTS };
}

storage! {
    Parts("The memory of an engine's tables.") {
        /// Hash index of the VNI table.
        vni_index: VniIndexStore of IndexSlot, vni_index, IndexSlot::EMPTY;
        /// Records of the VNI table; its length is how many VNIs there can be.
        vnis: VniStore of VniSlot, vnis, VniSlot::EMPTY;
        /// Hash index of the VTEP table, by underlay address.
        vtep_index: VtepIndexStore of IndexSlot, vtep_index, IndexSlot::EMPTY;
        /// Records of the VTEP table; at most 65,536.
        vteps: VtepStore of VtepSlot, vteps, VtepSlot::EMPTY;
        /// Prebuilt outer headers, one for each VTEP record.
        templates: TemplateStore of Template, vteps, Template::EMPTY;
        /// Records of the port table; at most 65,536.
        ports: PortStore of PortSlot, ports, PortSlot::EMPTY;
        /// Heads of the flood lists, one for each VNI record.
        flood_heads: FloodHeadStore of FloodHead, vnis, FloodHead::EMPTY;
        /// Nodes of the flood lists, shared by all VNIs.
        flood_nodes: FloodNodeStore of FloodNode, flood_nodes, FloodNode::EMPTY;
        /// Tags of the FDB, one group for each slot group.
        fdb_tags: TagStore of TagGroup, fdb_groups, TagGroup::EMPTY;
        /// Entries of the FDB.
        fdb_slots: SlotStore of SlotGroup, fdb_groups, SlotGroup::EMPTY;
        /// How many addresses each port has learned, one for each port record.
        port_quotas: PortQuotaStore of Quota, ports, Quota::UNLIMITED;
        /// How many addresses were learned behind each VTEP, one for each VTEP record.
        vtep_quotas: VtepQuotaStore of Quota, vteps, Quota::UNLIMITED;
        /// Cells of the IPv4 routes, shared by all routed VNIs.
        cells_v4: CellV4Store of LpmNode<Ipv4Addr>, cells_v4, LpmNode::EMPTY;
        /// Roots of the IPv4 routes, one for each VNI record.
        roots_v4: RootV4Store of LpmRoot, vnis, LpmRoot::EMPTY;
        /// Cells of the IPv6 routes.
        cells_v6: CellV6Store of LpmNode<Ipv6Addr>, cells_v6, LpmNode::EMPTY;
        /// Roots of the IPv6 routes, one for each VNI record.
        roots_v6: RootV6Store of LpmRoot, vnis, LpmRoot::EMPTY;
    }
    ContextParts("The memory of one worker's counters and events.") {
        /// Counters of each VNI record.
        vni_counters: VniCounterStore of ScopeCounters, vnis, ScopeCounters::ZERO;
        /// Counters of each VTEP record.
        vtep_counters: VtepCounterStore of ScopeCounters, vteps, ScopeCounters::ZERO;
        /// Counters of each port record.
        port_counters: PortCounterStore of ScopeCounters, ports, ScopeCounters::ZERO;
        /// Events not yet read.
        events: EventStore of Option<Event>, events, None;
    }
}

/// How much an engine on the heap must hold. The memory is taken once, when it is made.
///
/// With the defaults an engine takes about 1.7 MiB.
#[cfg(feature = "alloc")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// MAC addresses in all VNIs together; default 16,384.
    pub macs: usize,
    /// IPv4 routes in all VNIs together; default 1,024.
    pub routes_v4: usize,
    /// IPv6 routes in all VNIs together; default 1,024.
    pub routes_v6: usize,
    /// VNIs; default 256.
    pub vnis: usize,
    /// VTEPs, at most 65,536; default 1,024.
    pub vteps: usize,
    /// Local ports, at most 65,536; default 256.
    pub ports: usize,
    /// Members of all flood lists together; default 4,096. A list takes a node of its own even
    /// where it is short.
    pub flood_members: usize,
    /// Events that may wait; default 1,024.
    pub events: usize,
}

#[cfg(feature = "alloc")]
impl Default for Capacity {
    fn default() -> Capacity {
        Capacity {
            macs: 16_384,
            routes_v4: 1_024,
            routes_v6: 1_024,
            vnis: 256,
            vteps: 1_024,
            ports: 256,
            flood_members: 4_096,
            events: 1_024,
        }
    }
}

#[cfg(feature = "alloc")]
struct Sizes {
    fdb_groups: usize,
    cells_v4: usize,
    cells_v6: usize,
    vni_index: usize,
    vtep_index: usize,
    vnis: usize,
    vteps: usize,
    ports: usize,
    flood_nodes: usize,
    events: usize,
}

#[cfg(feature = "alloc")]
impl Capacity {
    fn sizes(&self) -> Sizes {
        use crate::table::{fdb, flood, index, lpm};
        Sizes {
            fdb_groups: fdb::groups_for(self.macs),
            cells_v4: lpm::cells_for(self.routes_v4),
            cells_v6: lpm::cells_for(self.routes_v6),
            vni_index: index::index_slots_for(self.vnis),
            vtep_index: index::index_slots_for(self.vteps),
            vnis: self.vnis,
            vteps: self.vteps,
            ports: self.ports,
            flood_nodes: flood::flood_nodes_for(self.vnis.saturating_mul(2), self.flood_members),
            events: self.events,
        }
    }
}

#[cfg(feature = "alloc")]
fn boxed<T: Default>(n: usize) -> alloc::boxed::Box<[T]> {
    core::iter::repeat_with(T::default).take(n).collect()
}

#[cfg(feature = "alloc")]
fn try_boxed<T: Default>(table: &'static str, n: usize) -> Result<alloc::boxed::Box<[T]>, CapacityError> {
    let mut parts = alloc::vec::Vec::new();
    parts.try_reserve_exact(n).map_err(|_| CapacityError::NoMemory { table, entries: n })?;
    parts.resize_with(n, T::default);
    Ok(parts.into_boxed_slice())
}
