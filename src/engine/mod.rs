//! Frames in, verdicts out: the one place that joins bytes and tables.
//!
//! An [`Engine`] owns the [`Tables`] and a [`Context`] of counters and events. The host gives it
//! frames from local ports ([`Engine::encap`]) and datagrams from the underlay
//! ([`Engine::decap`]); each frame comes back with a [`Verdict`], its outer headers written or
//! stripped in place. The engine opens no socket and reads no clock.
//!
//! # The slow path
//!
//! [`Verdict::Punt`] comes from routed VNIs. `linux::Driver` answers by itself, another host
//! with the functions of [`wire::reply`](crate::wire::reply); the answer goes back to where the frame came from.
//!
//! | reason | answer |
//! |---|---|
//! | `Arp`, `NeighborDiscovery` | [`arp_reply`], [`neighbor_advertisement`] with the VNI's router MAC, where the gateway's own address is asked for, or one that a [route](Tables::routes_v4) leads to a VTEP or to another port than that which asks (RFC 1027); to the rest none |
//! | `TtlExpired` | [`time_exceeded`] |
//! | `TooBig` | [`packet_too_big`] with the [`inner_mtu`](crate::table::vtep::VtepConfig::inner_mtu) of the VTEP that the route leads to, 4 octets less for each VLAN tag |
//! | `DirectRoute`, `NoNeighbor` | the host's own stack takes the packet, or [`Engine::count_drop`] counts it as [`NotHandled`](DropReason::NotHandled) |
//!
//! [`arp_reply`]: crate::wire::reply::arp_reply
//! [`neighbor_advertisement`]: crate::wire::reply::neighbor_advertisement
//! [`time_exceeded`]: crate::wire::reply::time_exceeded
//! [`packet_too_big`]: crate::wire::reply::packet_too_big
//!
//! # Several workers
//!
//! Two recipes, neither with a lock on the data path:
//!
//! - *Replicas.* Each worker owns an engine, all fed the same [`Command`]s. The ids come out the
//!   same. Each learns from what it sees; a host that wants them to agree turns the
//!   [`Event::Learned`] of one into a [`Command::AddMac`] for the others.
//! - *One writer.* Workers share a `&Tables` (a snapshot that the host publishes, or a lock's read
//!   side) and call [`Tables::encap`] and [`Tables::decap`] with a context each. Whoever may write
//!   takes their contexts from time to time with [`Engine::merge`].

mod arrive;
mod carry;
mod config;
mod context;
mod control;
mod decide;
mod event;
mod explain;
mod frame;
mod lane;
mod route;
mod stats;
mod storage;
mod tables;

pub use carry::{HEADROOM, Replica};
pub use config::EngineConfig;
#[cfg(feature = "linux")]
pub(crate) use context::Note;
pub use context::{BATCH, Context};
pub use control::{Change, Command};
pub use event::Event;
pub use explain::{Explanation, Step};
pub use frame::{Frame, Verdict};
pub use stats::{Counters, Drops, Punts, ScopeCounters, Traffic};
pub use storage::{Borrowed, ContextParts, Inline, Parts, Storage};
#[cfg(feature = "alloc")]
pub use storage::{Capacity, Heap};
pub use tables::Tables;

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;

use crate::addr::{PortId, Vni, VtepId};
use crate::error::{ConfigError, DropReason, PortError};
use crate::table::vtep::Vtep;
use crate::time::Instant;

/// The overlay engine of one node.
///
/// ```
/// use overlane::addr::Vni;
/// use overlane::engine::{Capacity, Command, Engine, EngineConfig, Frame, HEADROOM, Heap, Verdict};
/// use overlane::table::{Seed, port::PortConfig, vni::VniConfig, vtep::VtepConfig};
/// use overlane::time::Instant;
///
/// let now = Instant::ZERO;
/// let config = EngineConfig::new("192.0.2.1".parse()?, Seed::fixed(1)); // draw 16 random octets
/// let mut engine = Engine::<Heap>::with_capacity(config, &Capacity::default())?;
///
/// let vni = Vni::new(42)?;
/// engine.apply(now, &Command::AddVni { vni, config: VniConfig::default() })?;
/// let port = engine.apply(now, &Command::AddPort(PortConfig::new(vni)))?.port().unwrap();
/// let vtep = engine.apply(now, &Command::AddVtep(VtepConfig::new("192.0.2.2".parse()?, 4789)))?.vtep().unwrap();
/// engine.apply(now, &Command::AddFlood { vni, vtep })?;
///
/// // A broadcast goes to every VTEP of the VNI, each copy behind a small header of its own.
/// let mut buffer = [0u8; 256];
/// let inner = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5, 1, 2, 3];
/// buffer[HEADROOM..HEADROOM + inner.len()].copy_from_slice(&inner);
/// let mut frames = [Frame::new(&mut buffer, HEADROOM..HEADROOM + inner.len())?];
/// engine.encap(now, port, &mut frames)?;
/// assert_eq!(frames[0].verdict(), Some(Verdict::Flood(vni)));
/// assert_eq!(engine.replicas(&frames[0]).count(), 1);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
pub struct Engine<S: Storage> {
    tables: Tables<S>,
    context: Context<S>,
    sweep: Sweep,
}

/// Where the ageing of addresses has got to.
#[derive(Debug, Clone, Copy)]
struct Sweep {
    /// When the next pass, or the next step of this one, is due.
    due: Instant,
    /// Time between the starts of two passes.
    interval: Duration,
    /// A pass looks at the addresses first, then at the VTEPs that came by themselves: the one to
    /// look at next, once it has got so far.
    vtep: Option<u16>,
}

impl Sweep {
    fn new(ageing: Duration) -> Sweep {
        let interval = (ageing / 8).clamp(Duration::from_millis(128), Duration::from_secs(30));
        Sweep { due: Instant::ZERO, interval, vtep: None }
    }

    /// A deadline further off than a pass was set by a clock that has stepped back since.
    #[inline]
    fn keep_to(&mut self, now: Instant) {
        self.due = self.due.min(now + self.interval);
    }
}

impl<S: Storage> Engine<S> {
    /// An engine over this memory, with nothing in its tables.
    ///
    /// # Errors
    /// [`ConfigError`]: a setting or a part of the memory does not fit.
    pub fn new(config: EngineConfig, parts: Parts<S>, context: ContextParts<S>) -> Result<Self, ConfigError> {
        let sweep = Sweep::new(config.ageing);
        Ok(Engine { tables: Tables::new(config, parts)?, context: Context::new(context)?, sweep })
    }

    /// The tables, to read.
    pub fn tables(&self) -> &Tables<S> {
        &self.tables
    }

    /// Decides what becomes of frames from a local port; see [`Tables::encap`]. What they teach is
    /// learned before this returns.
    ///
    /// # Errors
    /// [`PortError::Unknown`]; the frames are untouched.
    pub fn encap(&mut self, now: Instant, port: PortId, frames: &mut [Frame<'_>]) -> Result<(), PortError> {
        if self.tables.ports.get(port).is_none() {
            return Err(PortError::Unknown(port));
        }
        for batch in frames.chunks_mut(BATCH) {
            self.tables.encap(now, &mut self.context, port, batch)?;
            self.learn(now);
        }
        Ok(())
    }

    /// Decides what becomes of datagrams from the underlay; see [`Tables::decap`]. What they teach
    /// is learned before this returns.
    pub fn decap(&mut self, now: Instant, frames: &mut [Frame<'_>]) {
        for batch in frames.chunks_mut(BATCH) {
            self.tables.decap(now, &mut self.context, batch);
            self.learn(now);
        }
    }

    #[inline]
    fn learn(&mut self, now: Instant) {
        if self.context.has_notes() {
            self.tables.merge(now, &mut self.context);
            self.sweep.keep_to(now);
        }
    }

    /// Takes over what another worker's context has gathered: addresses to learn, counters and
    /// events. That context is empty afterwards.
    ///
    /// Counters are added by id. Merge every worker before a VNI or a port is removed: what one has counted for it goes
    /// else to whoever gets the id next. VTEPs, which also come and go by themselves, are told apart: what a worker
    /// has counted for two of them with one id, up to this call, is in the totals alone.
    pub fn merge(&mut self, now: Instant, worker: &mut Context<S>) {
        self.merge_notes(now, worker);
        self.context.absorb(worker);
    }

    /// The first part of [`merge`](Self::merge) alone: what the worker saw is learned; its counters and events stay
    /// with it. Takes no longer for larger tables, but for a look at each VTEP where somebody has gone since the last time.
    pub(crate) fn merge_notes(&mut self, now: Instant, worker: &mut Context<S>) {
        self.tables.tell_apart(worker);
        self.tables.merge(now, worker);
        self.sweep.keep_to(now);
    }

    /// The copies of a flooded frame; see [`Tables::replicas`].
    pub fn replicas<'a>(&'a self, frame: &'a Frame<'_>) -> impl Iterator<Item = Replica> + 'a {
        self.tables.replicas(frame)
    }

    /// The same in pieces; see [`Tables::replicas_from`].
    pub fn replicas_from<'a>(
        &'a self,
        frame: &'a Frame<'_>,
        first: usize,
    ) -> impl Iterator<Item = (usize, Replica)> + 'a {
        self.tables.replicas_from(frame, first)
    }

    /// A VTEP: where a backend sends what has the verdict [`Verdict::ToUnderlay`].
    #[inline]
    pub fn vtep(&self, id: VtepId) -> Option<&Vtep> {
        self.tables.vteps.get(id)
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next; `None` while no
    /// address is known, and no VTEP that came by itself. An instant in the past means at once.
    pub fn next_timeout(&self) -> Option<Instant> {
        let idle = self.tables.fdb.is_empty() && self.tables.learned_vteps == 0;
        // At the end of the clock the next pass would be due again and again.
        if idle || self.sweep.due == Instant::MAX { None } else { Some(self.sweep.due) }
    }

    /// Lets addresses age: looks at no more than `budget` places of the FDB, or behind those of the
    /// VTEP table, and says how many addresses it forgot. Where a pass is not finished,
    /// [`next_timeout`](Self::next_timeout) is due at once.
    ///
    /// An address that is past its age is no longer found, whether or not this was called; calling
    /// it frees the places, tells of them ([`Event::Aged`]) and forgets VTEPs that were learned and
    /// behind which nobody is left.
    pub fn handle_timeout(&mut self, now: Instant, budget: usize) -> usize {
        self.sweep.keep_to(now);
        if now < self.sweep.due || budget == 0 {
            return 0;
        }
        let mut aged = 0;
        self.sweep.vtep = match self.sweep.vtep {
            Some(first) => self.forget_vteps(first, budget),
            None => {
                let context = &mut self.context;
                let finished = self.tables.fdb.sweep(now, budget, |entry| {
                    aged += 1;
                    context.aged(&entry);
                });
                if !finished {
                    self.sweep.due = now;
                    return aged;
                }
                (self.tables.learned_vteps > 0).then_some(0)
            }
        };
        self.sweep.due = if self.sweep.vtep.is_none() { now + self.sweep.interval } else { now };
        aged
    }

    /// Forgets learned VTEPs behind which nobody is left, looking at `budget` of them from `first`
    /// on; where to go on, or `None` at the end.
    fn forget_vteps(&mut self, first: u16, budget: usize) -> Option<u16> {
        let from = usize::from(first);
        let end = from.saturating_add(budget).min(self.tables.vteps.capacity());
        for id in from..end {
            let id = VtepId(id as u16);
            if self.tables.forget_if_stale(id) {
                self.context.forget_vtep(id);
            }
        }
        if end < self.tables.vteps.capacity() { u16::try_from(end).ok() } else { None }
    }

    /// The oldest event that was not read yet.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.context.poll_event()
    }

    /// What the engine did.
    pub fn counters(&self) -> &Counters {
        self.context.counters()
    }

    /// What went through a VNI.
    pub fn vni_counters(&self, vni: Vni) -> Option<&ScopeCounters> {
        self.context.vni(self.tables.vnis.index_of(vni)?)
    }

    /// What went to and came from a VTEP.
    pub fn vtep_counters(&self, vtep: VtepId) -> Option<&ScopeCounters> {
        self.tables.vteps.get(vtep).and_then(|_| self.context.vtep(vtep))
    }

    /// What went to and came from a port.
    pub fn port_counters(&self, port: PortId) -> Option<&ScopeCounters> {
        self.tables.ports.get(port).and_then(|_| self.context.port(port))
    }

    /// Counts what a backend could not carry, in every scope that is given and exists. Of a flood, behind the loop:
    /// [`replicas`](Self::replicas) borrows the engine.
    pub fn count_drop(
        &mut self,
        reason: DropReason,
        vni: Option<Vni>,
        vtep: Option<VtepId>,
        port: Option<PortId>,
    ) {
        self.tables.count_drop(&mut self.context, reason, vni, vtep, port);
    }

    /// The steps that a frame from a local port would take, with headroom enough. `segment_len` is that of a
    /// superframe, else 0: see [`Frame::with_segment_len`]. Changes and counts nothing.
    ///
    /// # Errors
    /// [`PortError::Unknown`].
    pub fn explain_encap(
        &self,
        now: Instant,
        port: PortId,
        frame: &[u8],
        segment_len: usize,
    ) -> Result<Explanation, PortError> {
        self.tables.explain_encap(now, port, frame, segment_len)
    }

    /// The steps that a datagram from the underlay would take. `source` and `ecn` are what the bytes do not say
    /// where the outer shape is [`Shape::Udp`](crate::wire::outer::Shape::Udp): see [`Frame::with_source`] and
    /// [`Frame::with_ecn`]. Changes and counts nothing.
    pub fn explain_decap(&self, now: Instant, source: Option<IpAddr>, ecn: u8, packet: &[u8]) -> Explanation {
        self.tables.explain_decap(now, source, ecn, packet)
    }
}

#[cfg(feature = "alloc")]
impl Engine<Heap> {
    /// An engine on the heap. All memory is taken here; nothing allocates afterwards.
    ///
    /// # Errors
    /// [`ConfigError`]: a setting or a capacity does not fit, or the memory is not to be had.
    pub fn with_capacity(config: EngineConfig, capacity: &Capacity) -> Result<Self, ConfigError> {
        Engine::new(config, Parts::try_with_capacity(capacity)?, ContextParts::try_with_capacity(capacity)?)
    }
}

impl<S: Storage> fmt::Debug for Engine<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("tables", &self.tables)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}
