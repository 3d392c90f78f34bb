//! What must hold at every step.

use std::collections::BTreeMap;

use overlane::addr::{Destination, PortId, Vni};
use overlane::engine::{Counters, Engine, Event, Heap, Verdict};
use overlane::error::DropReason;
use overlane::table::fdb::EntryKind;

use super::NodeId;

/// What the fabric saw of one engine, to hold against the engine's own counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) encap: u64,
    pub(super) decap: u64,
    to_underlay: u64,
    to_port: u64,
    flooded: u64,
    punts: u64,
    drops: [u64; DropReason::COUNT],
    /// Copies of flooded frames that the engine did not make; their reason is not seen.
    pub(super) copies_dropped: u64,
    learned: u64,
    moved: u64,
    aged: u64,
    evicted: u64,
    not_learned: u64,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally {
            encap: 0,
            decap: 0,
            to_underlay: 0,
            to_port: 0,
            flooded: 0,
            punts: 0,
            drops: [0; DropReason::COUNT],
            copies_dropped: 0,
            learned: 0,
            moved: 0,
            aged: 0,
            evicted: 0,
            not_learned: 0,
        }
    }

    pub(super) fn verdict(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::ToUnderlay(_) => self.to_underlay += 1,
            Verdict::ToPort(_) => self.to_port += 1,
            Verdict::Flood(_) => self.flooded += 1,
            Verdict::Punt(_) => self.punts += 1,
            Verdict::Drop(reason) => self.drop(reason),
        }
    }

    pub(super) fn drop(&mut self, reason: DropReason) {
        self.drops[reason.index()] += 1;
    }

    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Learned { .. } => self.learned += 1,
            Event::Moved { .. } => self.moved += 1,
            Event::Aged { .. } => self.aged += 1,
            Event::Evicted { .. } => self.evicted += 1,
            Event::QuotaHit { .. } | Event::FdbFull { .. } => self.not_learned += 1,
            _ => {}
        }
    }

    /// Whether the engine counted what was seen: every frame once, under its verdict.
    pub(super) fn check(&self, c: &Counters) -> Result<(), String> {
        let dropped: u64 = self.drops.iter().sum::<u64>() + self.copies_dropped;
        let mut pairs = vec![
            ("encap_frames", self.encap, c.encap_frames),
            ("decap_frames", self.decap, c.decap_frames),
            ("to_underlay", self.to_underlay, c.to_underlay),
            ("to_port", self.to_port, c.to_port),
            ("flooded", self.flooded, c.flooded),
            ("punts", self.punts, c.punts.total()),
            ("drops", dropped, c.drops.total()),
        ];
        // Every event was read, unless the ring overflowed within one call.
        if c.events_lost == 0 {
            pairs.extend([
                ("learned", self.learned, c.learned),
                ("moved", self.moved, c.moved),
                ("aged", self.aged, c.aged),
                ("evicted", self.evicted, c.evicted),
                ("not_learned", self.not_learned, c.not_learned),
            ]);
        }
        for (name, seen, counted) in pairs {
            if seen != counted {
                return Err(format!("counter {name} is {counted}, seen were {seen}"));
            }
        }
        for reason in DropReason::ALL {
            let (seen, counted) = (self.drops[reason.index()], c.drops.get(*reason));
            if counted < seen {
                return Err(format!("drops for {reason} are {counted}, seen were {seen}"));
            }
        }
        Ok(())
    }
}

/// Whether an engine's tables agree with each other. Looks at all of the FDB.
pub(super) fn tables(engine: &Engine<Heap>) -> Result<(), String> {
    let tables = engine.tables();
    let fdb = tables.fdb();
    let mut held: BTreeMap<String, (Destination, u32)> = BTreeMap::new();
    let mut len = 0;
    for entry in fdb.iter() {
        len += 1;
        if tables.vnis().index_of(entry.vni).is_none() {
            return Err(format!("{} is in VNI {}, which is gone", entry.mac, entry.vni));
        }
        let at = entry.destination;
        let exists = match at {
            Destination::Port(p) => tables.ports().get(p).is_some_and(|port| port.config.vni == entry.vni),
            Destination::Vtep(v) => tables.vteps().get(v).is_some(),
        };
        if !exists {
            return Err(format!("{} in VNI {} is at {at}, which is gone or elsewhere", entry.mac, entry.vni));
        }
        if entry.kind != EntryKind::Static {
            held.entry(at.to_string()).or_insert((at, 0)).1 += 1;
        }
    }
    if len != fdb.len() || len > fdb.capacity() {
        return Err(format!("the FDB has {len} entries, says {}, capacity {}", fdb.len(), fdb.capacity()));
    }
    for (at, n) in held.values() {
        let accounted = fdb.learned_by(*at);
        if accounted != *n {
            return Err(format!("{at} holds {n} addresses and is accounted {accounted}"));
        }
    }
    Ok(())
}

/// One frame on its way: where it came from, where copies of it went.
#[derive(Debug, Clone)]
pub struct Flight {
    vni: Vni,
    from: Option<(NodeId, PortId)>,
    /// Datagrams that the first engine sent to each node.
    sent: BTreeMap<NodeId, u32>,
    /// Datagrams that arrived there.
    arrived: BTreeMap<NodeId, u32>,
    delivered: BTreeMap<(NodeId, PortId), u32>,
    in_flight: u32,
}

impl Flight {
    /// The VNI of the port that it came from, or of the datagram that was injected.
    pub fn vni(&self) -> Vni {
        self.vni
    }

    /// The ports that it was delivered to, and how often.
    pub fn delivered(&self) -> &BTreeMap<(NodeId, PortId), u32> {
        &self.delivered
    }

    /// The nodes to which datagrams with it were sent, and how many.
    pub fn sent(&self) -> &BTreeMap<NodeId, u32> {
        &self.sent
    }
}

/// The number of a frame that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlightId(pub u64);

/// All frames on their way; those that have arrived are forgotten, unless they are to be kept.
#[derive(Debug)]
pub(super) struct Ledger {
    next: u64,
    open: BTreeMap<FlightId, Flight>,
    done: BTreeMap<FlightId, Flight>,
    pub(super) keep: bool,
}

impl Ledger {
    pub(super) fn new() -> Ledger {
        Ledger { next: 0, open: BTreeMap::new(), done: BTreeMap::new(), keep: true }
    }

    pub(super) fn open(&mut self, vni: Vni, from: Option<(NodeId, PortId)>) -> FlightId {
        let id = FlightId(self.next);
        self.next += 1;
        let (sent, arrived, delivered) = Default::default();
        self.open.insert(id, Flight { vni, from, sent, arrived, delivered, in_flight: 0 });
        id
    }

    pub(super) fn get(&self, id: FlightId) -> Option<&Flight> {
        self.open.get(&id).or_else(|| self.done.get(&id))
    }

    /// How many frames are on their way.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    fn flight(&mut self, id: FlightId) -> &mut Flight {
        self.open.get_mut(&id).expect("a frame on its way has a flight")
    }

    /// Forgets a flight of which nothing is on its way any more.
    pub(super) fn close(&mut self, id: FlightId) {
        if self.open.get(&id).is_some_and(|f| f.in_flight == 0)
            && let Some(flight) = self.open.remove(&id)
            && self.keep
        {
            self.done.insert(id, flight);
        }
    }

    /// An engine sent a datagram: at most one to each node, and only where the frame came from a port.
    pub(super) fn send(&mut self, id: FlightId, to: NodeId) -> Result<(), String> {
        let flight = self.flight(id);
        let sent = flight.sent.entry(to).or_default();
        *sent += 1;
        if *sent > 1 {
            return Err(format!("frame {} was sent to {to} twice", id.0));
        }
        Ok(())
    }

    pub(super) fn departs(&mut self, id: FlightId) {
        self.flight(id).in_flight += 1;
    }

    pub(super) fn arrives(&mut self, id: FlightId, at: NodeId) {
        let flight = self.flight(id);
        flight.in_flight -= 1;
        *flight.arrived.entry(at).or_default() += 1;
    }

    /// A frame was delivered: within its VNI, not where it came from, once for each arrival.
    pub(super) fn deliver(
        &mut self,
        id: FlightId,
        node: NodeId,
        port: PortId,
        vni: Vni,
    ) -> Result<(), String> {
        let flight = self.flight(id);
        let delivered = flight.delivered.entry((node, port)).or_default();
        *delivered += 1;
        let delivered = *delivered;
        if flight.vni != vni {
            return Err(format!("frame {} of VNI {} came out of {port} in VNI {vni}", id.0, flight.vni));
        }
        if flight.from == Some((node, port)) {
            return Err(format!("frame {} came back to {port}", id.0));
        }
        let local = flight.from.is_some_and(|(n, _)| n == node);
        let may = if local { 1 } else { flight.arrived.get(&node).copied().unwrap_or(0) };
        if delivered > may {
            return Err(format!("frame {} arrived {may} times and was delivered {delivered} times", id.0));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VNI: Vni = Vni::truncate(42);
    const A: NodeId = NodeId(0);
    const B: NodeId = NodeId(1);

    #[test]
    fn a_delivery_in_another_vni_back_home_or_too_often_is_found() {
        let mut ledger = Ledger::new();
        let id = ledger.open(VNI, Some((A, PortId(0))));
        assert!(ledger.deliver(id, A, PortId(1), Vni::truncate(7)).is_err());
        assert!(ledger.deliver(id, A, PortId(0), VNI).is_err());
        assert!(ledger.deliver(id, A, PortId(2), VNI).is_ok());
        assert!(ledger.deliver(id, A, PortId(2), VNI).is_err());
        assert!(ledger.deliver(id, B, PortId(0), VNI).is_err(), "nothing arrived there");

        assert!(ledger.send(id, B).is_ok());
        assert!(ledger.send(id, B).is_err());
        // The link made two of it: each may be delivered.
        for _ in 0..2 {
            ledger.departs(id);
            ledger.arrives(id, B);
            assert!(ledger.deliver(id, B, PortId(3), VNI).is_ok());
        }
        assert!(ledger.deliver(id, B, PortId(3), VNI).is_err());
    }

    #[test]
    fn a_flight_is_over_when_its_last_datagram_is() {
        let mut ledger = Ledger::new();
        let id = ledger.open(VNI, None);
        ledger.departs(id);
        ledger.close(id);
        assert_eq!(ledger.len(), 1);
        ledger.arrives(id, B);
        ledger.close(id);
        assert_eq!((ledger.len(), ledger.get(id).map(Flight::vni)), (0, Some(VNI)));
    }

    #[test]
    fn a_frame_that_is_not_counted_is_found() {
        let mut tally = Tally::new();
        assert_eq!(tally.check(&Counters::default()), Ok(()));
        tally.encap += 1;
        tally.verdict(Verdict::Drop(DropReason::NoRoute));
        let mut counters = Counters { encap_frames: 1, ..Counters::default() };
        assert!(tally.check(&counters).unwrap_err().contains("drops"));
        tally = Tally::new();
        counters.encap_frames = 0;
        counters.to_port = 1;
        assert!(tally.check(&counters).unwrap_err().contains("to_port"));
    }
}
