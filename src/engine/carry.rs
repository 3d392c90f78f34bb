//! Carrying decisions out: the calls of the data path.

use super::context::{BATCH, Context, Note, Seen};
use super::decide::{Bridged, Exit, Inlet, Memo, Way, fits};
use super::event::Event;
use super::explain::{Explanation, Silent, Step, Trace};
use super::frame::{Frame, Ingress, Verdict};
use super::lane::NOBODY;
use super::route::{Domain, Rewrite};
use super::stats::Load;
use super::storage::Storage;
use super::tables::Tables;
use crate::addr::{Destination, MacAddr, PortId, Vni, VtepId};
use crate::error::{DropReason, PortError};
use crate::table::Store;
use crate::table::fdb::{Crossed, Crossing, Probe};
use crate::table::vni::{Mode, VniIndex};
use crate::time::Instant;
use crate::wire::ethernet::EthernetHeader;
use crate::wire::inner::{self, Flow};
use crate::wire::outer::{self, Shape};
use crate::wire::template::{self, Fields, Header, Template};
use crate::wire::vxlan::VxlanHeader;
use crate::wire::{ethernet, ipv4, ipv6};

use core::net::IpAddr;

/// Octets of headroom that are enough for every outer shape, rounded up to a multiple of 8.
pub const HEADROOM: usize = 72;

/// The answer to a question that was not asked.
pub(super) const NOTHING: Crossed = (None, None);

/// One copy of a flooded frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replica {
    /// Write the frame's bytes to this local port.
    Port(PortId),
    /// Send this header with the frame's bytes behind it to this VTEP.
    Underlay {
        /// The VTEP.
        vtep: VtepId,
        /// Its outer headers for this frame.
        header: Header,
    },
}

/// What a batch from a port sent on, for the counters that all its frames share.
#[derive(Default)]
struct Departures {
    to_underlay: Load,
    flooded: Load,
}

impl<S: Storage> Tables<S> {
    /// Decides what becomes of frames from a local port, and writes the outer headers of those
    /// that go to one VTEP. Every frame has a verdict afterwards.
    ///
    /// The addresses that frames bring are noted in `context`, at most [`BATCH`] between two merges.
    /// The tables are the same for all frames of the call.
    ///
    /// # Errors
    /// [`PortError::Unknown`]; the frames are untouched.
    pub fn encap(
        &self,
        now: Instant,
        context: &mut Context<S>,
        port: PortId,
        frames: &mut [Frame<'_>],
    ) -> Result<(), PortError> {
        let inlet = self.inlet(port).ok_or(PortError::Unknown(port))?;
        context.begin(self.epoch);
        match inlet.config.mode {
            Mode::Bridged => {
                for batch in frames.chunks_mut(BATCH) {
                    self.encap_bridged(now, context, &inlet, batch);
                }
            }
            Mode::Routed { router_mac } => self.encap_routed(context, &inlet, router_mac, frames),
        }
        Ok(())
    }

    /// Decides what becomes of datagrams from the underlay, and strips the outer headers of those
    /// that are accepted. Every frame has a verdict afterwards.
    pub fn decap(&self, now: Instant, context: &mut Context<S>, frames: &mut [Frame<'_>]) {
        context.begin(self.epoch);
        let mut memo = Memo::default();
        for batch in frames.chunks_mut(BATCH) {
            self.decap_batch(now, context, &mut memo, batch);
        }
    }

    /// At most [`BATCH`] frames, in three passes: what their headers say, what the FDB says of all of them,
    /// and what is done about each.
    #[inline(never)]
    fn encap_bridged(
        &self,
        now: Instant,
        context: &mut Context<S>,
        inlet: &Inlet<'_>,
        frames: &mut [Frame<'_>],
    ) {
        let mut crossings = [Crossing { vni: inlet.vni, ..NOBODY }; BATCH];
        let mut answers = [NOTHING; BATCH];
        let mut came = Load::default();
        for (frame, crossing) in frames.iter_mut().zip(&mut crossings) {
            came.add(frame.len());
            frame.enter(inlet.port, inlet.vni, inlet.group);
            if let Some(bytes) = frame.packet()
                && let Some((hash, ecn)) = Flow::plain_v4(bytes, 0)
                && let Some((destination, source)) = inner::addresses(bytes)
            {
                (crossing.destination, crossing.source) = (destination, source);
                (frame.flow_hash, frame.ecn) = (hash, ecn);
            } else {
                read_any(frame, crossing);
            }
        }
        self.fdb.cross_batch(now, crossings.get(..frames.len()).unwrap_or(&crossings), &mut answers);
        let mut left = Departures::default();
        for ((frame, crossing), answer) in frames.iter_mut().zip(&crossings).zip(&answers) {
            // Nearly always: a station that is known sends to one behind a VTEP. What cannot go there
            // is decided on from the start.
            if let (Some(known), Some(Destination::Vtep(vtep))) = *answer
                && known.is_at(Destination::Port(inlet.port))
                && let Some(template) = self.templates.as_slice().get(usize::from(vtep.0))
                && self.write_plain(context, inlet, frame, template).is_some()
            {
                if !known.is_fresh() && inlet.learn {
                    self.refresh(context, inlet.vni, crossing.source, Seen::Port(inlet.port));
                }
                self.sent(context, frame, vtep, template, &mut left);
            } else {
                self.finish_bridged(context, inlet, frame, crossing, *answer, &mut left);
            }
        }
        self.close(context, inlet, came, left);
    }

    /// Decides on a frame of a bridged VNI, and carries it out.
    #[inline(never)]
    fn finish_bridged(
        &self,
        context: &mut Context<S>,
        inlet: &Inlet<'_>,
        frame: &mut Frame<'_>,
        crossing: &Crossing,
        (known, found): Crossed,
        left: &mut Departures,
    ) {
        let way = match EthernetHeader::parse(frame.bytes()) {
            Ok(_) => {
                let macs = (crossing.destination, crossing.source);
                let answer =
                    (known.map_or(Probe::Missing, |known| known.probe(Destination::Port(inlet.port))), found);
                let b = self.bridge(inlet.config, macs, answer, inlet.learn, &mut Silent);
                self.aside(context, inlet.vni, macs, b, Seen::Port(inlet.port));
                b.way
            }
            Err(e) => Way::Drop(e.reason()),
        };
        self.depart(context, inlet, frame, way, None, left);
    }

    #[inline(never)]
    fn encap_routed(
        &self,
        context: &mut Context<S>,
        inlet: &Inlet<'_>,
        router_mac: MacAddr,
        frames: &mut [Frame<'_>],
    ) {
        let Inlet { vni, index, config, .. } = *inlet;
        let domain = Domain { vni, index, config, router_mac };
        let (mut came, mut left) = (Load::default(), Departures::default());
        for frame in frames {
            came.add(frame.len());
            frame.enter(inlet.port, inlet.vni, inlet.group);
            let r = self.route(&domain, true, frame.bytes(), 0, &mut Silent);
            (frame.flow_hash, frame.ecn) = (r.flow_hash, r.ecn);
            if let Some(miss) = r.miss {
                context.event(miss);
            }
            self.depart(context, inlet, frame, r.way, r.rewrite, &mut left);
        }
        self.close(context, inlet, came, left);
    }

    /// Notes what a bridged frame teaches, and tells of a destination that nobody knows.
    #[inline]
    pub(super) fn aside(
        &self,
        context: &mut Context<S>,
        vni: Vni,
        (dst, src): (MacAddr, MacAddr),
        bridged: Bridged,
        seen: Seen,
    ) {
        if bridged.misses {
            context.event(Event::UnknownMac { vni, mac: dst });
        }
        if bridged.teaches {
            context.note(Note { vni, mac: Some(src), seen, epoch: self.epoch });
        }
    }

    /// Notes a station that is known where it was seen, and due to be refreshed.
    #[inline(never)]
    pub(super) fn refresh(&self, context: &mut Context<S>, vni: Vni, mac: MacAddr, seen: Seen) {
        context.note(Note { vni, mac: Some(mac), seen, epoch: self.epoch });
    }

    /// Carries out where a frame from a local port goes.
    #[inline(never)]
    fn depart(
        &self,
        context: &mut Context<S>,
        inlet: &Inlet<'_>,
        frame: &mut Frame<'_>,
        way: Way,
        routed: Option<Rewrite>,
        left: &mut Departures,
    ) {
        let len = frame.len();
        let mut exit = self.leave(inlet, way, routed.is_some(), (len, frame.segment_len), &mut Silent);
        if let Exit::Tunnel(vtep, template) = exit {
            match self.write_outer(context, inlet, frame, template, routed) {
                Ok(()) => return self.sent(context, frame, vtep, template, left),
                Err(reason) => exit = Exit::Drop(reason, Some(vtep)),
            }
        }
        frame.verdict = Some(exit.verdict(inlet.vni));
        match exit {
            Exit::Port(p) => {
                rewrite(frame.bytes_mut(), routed);
                context.delivered(p, len);
            }
            Exit::Flood => {
                left.flooded.add(len);
                frame.ip_id = context.next_ip_id();
                self.count_flood(context, inlet.index, frame);
                self.count_flooded_ports(context, inlet.index, Some(inlet.port), len);
            }
            Exit::Punt(reason) => context.totals.punts.count(reason),
            Exit::Drop(reason, vtep) => context.dropped(reason, Some(inlet.index), vtep, Some(inlet.port)),
            Exit::Tunnel(..) => {}
        }
    }

    /// Counts a frame whose outer headers were written.
    #[inline(always)]
    fn sent(
        &self,
        context: &mut Context<S>,
        frame: &mut Frame<'_>,
        vtep: VtepId,
        template: &Template,
        left: &mut Departures,
    ) {
        let len = frame.len();
        frame.push_front(template.len());
        left.to_underlay.add(len);
        if let Some(c) = context.vtep_mut(vtep) {
            c.traffic.tx(len);
        }
        frame.verdict = Some(Verdict::ToUnderlay(vtep));
    }

    /// Adds what a batch did to the counters that all its frames share.
    #[inline]
    fn close(&self, context: &mut Context<S>, inlet: &Inlet<'_>, came: Load, left: Departures) {
        let totals = &mut context.totals;
        totals.encap_frames = totals.encap_frames.wrapping_add(came.frames);
        totals.to_underlay = totals.to_underlay.wrapping_add(left.to_underlay.frames);
        totals.flooded = totals.flooded.wrapping_add(left.flooded.frames);
        if let Some(c) = context.port_mut(inlet.port) {
            c.traffic.rx_all(came);
        }
        if let Some(c) = context.vni_mut(inlet.index) {
            c.traffic.tx_all(left.to_underlay);
            c.traffic.tx_all(left.flooded);
        }
    }

    /// What the FDB knows of a frame from the underlay: of its source, and of its destination.
    #[inline]
    pub(super) fn ask(
        &self,
        now: Instant,
        vni: Vni,
        (dst, src): (MacAddr, MacAddr),
        peer: Option<VtepId>,
    ) -> (Probe, Option<Destination>) {
        let known = match peer {
            Some(v) => self.fdb.probe(now, vni, src, Destination::Vtep(v)),
            None => self.probe_newcomer(now, vni, src),
        };
        (known, self.fdb.lookup(now, vni, dst))
    }

    /// Writes headers that need not read the frame, where nothing is in the way.
    #[inline(always)]
    fn write_plain(
        &self,
        context: &mut Context<S>,
        inlet: &Inlet<'_>,
        frame: &mut Frame<'_>,
        template: &Template,
    ) -> Option<()> {
        let len = frame.len();
        let fields = self.fields(inlet.vni, frame, context.ip_id());
        match template.plain(&fields, len)? {
            template::Plain::EthernetIpv4 => template.write_ethernet_ipv4(frame.before()?, len, &fields),
            template::Plain::Vxlan => *frame.before()? = VxlanHeader::emit(fields.vni, None),
        }
        context.next_ip_id();
        Some(())
    }

    /// Writes the outer headers, and the inner changes of routing; on a drop the frame is as it was. It does not
    /// move the frame's start.
    #[inline]
    fn write_outer(
        &self,
        context: &mut Context<S>,
        inlet: &Inlet<'_>,
        frame: &mut Frame<'_>,
        template: &Template,
        routed: Option<Rewrite>,
    ) -> Result<(), DropReason> {
        if frame.headroom() < template.len() {
            return Err(DropReason::NoHeadroom);
        }
        rewrite(frame.bytes_mut(), routed);
        let fields = self.fields(inlet.vni, frame, context.next_ip_id());
        let packet = frame.with_headers(template.len()).ok_or(DropReason::NoHeadroom)?;
        template.write(packet, &fields).ok_or(DropReason::TooLong)
    }

    #[inline(always)]
    fn fields(&self, vni: Vni, frame: &Frame<'_>, ip_id: u16) -> Fields {
        let (first, last) = self.config.source_ports;
        Fields {
            vni,
            group: frame.group,
            source_port: inner::source_port(frame.flow_hash, first, last),
            ecn: frame.ecn,
            ip_id,
        }
    }

    /// The headers for a copy of this length to this VTEP, where it can be sent at all.
    fn copy_fits(&self, vtep: VtepId, len: usize, segment_len: usize) -> Result<&Template, DropReason> {
        let template = self.template(vtep).ok_or(DropReason::NoLocalAddress)?;
        fits(template, len, segment_len)?;
        Ok(template)
    }

    /// Counts the copies of a flooded frame for each port of its VNI but the one that it came from.
    pub(super) fn count_flooded_ports(
        &self,
        context: &mut Context<S>,
        index: VniIndex,
        from: Option<PortId>,
        len: usize,
    ) {
        for p in self.floods.ports(index).filter(|p| Some(*p) != from) {
            if let Some(c) = context.port_mut(p) {
                c.traffic.tx(len);
            }
        }
    }

    /// Counts the copies of a flooded frame for each VTEP: at most one for each list member.
    fn count_flood(&self, context: &mut Context<S>, index: VniIndex, frame: &Frame<'_>) {
        for vtep in self.floods.vteps(index) {
            match self.copy_fits(vtep, frame.len(), frame.segment_len) {
                Ok(_) => {
                    if let Some(c) = context.vtep_mut(vtep) {
                        c.traffic.tx(frame.len());
                    }
                }
                Err(reason) => context.dropped(reason, Some(index), Some(vtep), None),
            }
        }
    }

    /// The copies of a frame whose verdict is [`Verdict::Flood`]: to every local port of its VNI but
    /// the one it came from, and, if it came from a port, to every VTEP on the VNI's flood list.
    /// What came from a tunnel never goes to a tunnel. Empty for other verdicts.
    pub fn replicas<'a>(&'a self, frame: &'a Frame<'_>) -> impl Iterator<Item = Replica> + 'a {
        self.replicas_from(frame, 0).map(|(_, copy)| copy)
    }

    /// The same in pieces, for a host that has room for some copies at a time: those from place `first` of the list
    /// on, each with the place behind it, to go on from. Begin with 0. What lies before is passed over quickly.
    pub fn replicas_from<'a>(
        &'a self,
        frame: &'a Frame<'_>,
        first: usize,
    ) -> impl Iterator<Item = (usize, Replica)> + 'a {
        let index = match frame.verdict {
            Some(Verdict::Flood(vni)) => self.vnis.index_of(vni),
            _ => None,
        };
        let from = match frame.ingress {
            Ingress::Port(p) => Some(p),
            _ => None,
        };
        let ports = index.map_or(0, |i| self.floods.ports(i).len());
        let behind = first.saturating_sub(ports);
        let to_ports = index.into_iter().flat_map(move |i| self.floods.ports(i).skip(first));
        let to_ports = to_ports.zip(first.saturating_add(1)..).filter(move |(p, _)| Some(*p) != from);
        let vteps = index.filter(|_| from.is_some());
        let vteps = vteps.into_iter().flat_map(move |i| self.floods.vteps(i).skip(behind));
        let to_vteps = vteps.zip(ports.saturating_add(behind).saturating_add(1)..);
        let headers = to_vteps.filter_map(move |(vtep, next)| {
            let template = self.copy_fits(vtep, frame.len(), frame.segment_len).ok()?;
            // The copies go to different addresses and may have one identification. Where nobody may
            // fragment, any will do (RFC 6864, section 4.1).
            let ip_id = if self.config.dont_fragment { 0 } else { frame.ip_id };
            let header =
                template.header(frame.bytes(), &self.fields(frame.vni.unwrap_or_default(), frame, ip_id))?;
            Some((next, Replica::Underlay { vtep, header }))
        });
        to_ports.map(|(port, next)| (next, Replica::Port(port))).chain(headers)
    }

    /// Where [`replicas`](Self::replicas) go, for a backend that no longer has the frame but its
    /// length and segment length, and writes the VXLAN header itself.
    #[cfg(feature = "linux")]
    pub(crate) fn copies(
        &self,
        vni: Vni,
        from: Option<PortId>,
        (len, segment_len): (usize, usize),
    ) -> impl Iterator<Item = Destination> {
        let index = self.vnis.index_of(vni);
        let ports = index.into_iter().flat_map(|i| self.floods.ports(i)).filter(move |p| Some(*p) != from);
        let vteps = index.filter(|_| from.is_some()).into_iter().flat_map(|i| self.floods.vteps(i));
        let vteps = vteps.filter(move |vtep| self.copy_fits(*vtep, len, segment_len).is_ok());
        ports.map(Destination::Port).chain(vteps.map(Destination::Vtep))
    }

    /// As [`Engine::count_drop`](super::Engine::count_drop), in a context.
    pub(crate) fn count_drop(
        &self,
        context: &mut Context<S>,
        reason: DropReason,
        vni: Option<Vni>,
        vtep: Option<VtepId>,
        port: Option<PortId>,
    ) {
        let index = vni.and_then(|v| self.vnis.index_of(v));
        let vtep = vtep.filter(|v| self.vteps.get(*v).is_some());
        let port = port.filter(|p| self.ports.get(*p).is_some());
        context.begin(self.epoch);
        context.dropped(reason, index, vtep, port);
    }

    /// As [`Engine::explain_encap`](super::Engine::explain_encap).
    ///
    /// # Errors
    /// As there.
    pub fn explain_encap(
        &self,
        now: Instant,
        port: PortId,
        frame: &[u8],
        segment_len: usize,
    ) -> Result<Explanation, PortError> {
        let inlet = self.inlet(port).ok_or(PortError::Unknown(port))?;
        let Inlet { vni, index, config, .. } = inlet;
        let mut explanation = Explanation::new();
        let trace = &mut explanation;
        trace.step(|| Step::FromPort { port, vni });
        let (way, routed) = match config.mode {
            Mode::Bridged => match Flow::of(frame, 0) {
                Ok(Flow { dst, src, .. }) => {
                    trace.step(|| Step::ethernet(frame, 0));
                    let known = self.fdb.probe(now, vni, src, Destination::Port(port));
                    let answer = (known, self.fdb.lookup(now, vni, dst));
                    (self.bridge(config, (dst, src), answer, inlet.learn, trace).way, false)
                }
                Err(e) => {
                    trace.step(|| Step::Unreadable(e));
                    (Way::Drop(e.reason()), false)
                }
            },
            Mode::Routed { router_mac } => {
                let r = self.route(&Domain { vni, index, config, router_mac }, true, frame, 0, trace);
                (r.way, r.rewrite.is_some())
            }
        };
        let exit = self.leave(&inlet, way, routed, (frame.len(), segment_len), trace);
        Ok(explanation.end(exit.verdict(vni)))
    }

    /// As [`Engine::explain_decap`](super::Engine::explain_decap).
    pub fn explain_decap(&self, now: Instant, source: Option<IpAddr>, ecn: u8, packet: &[u8]) -> Explanation {
        let mut explanation = Explanation::new();
        let trace = &mut explanation;
        let mut outer = match outer::parse(self.config.shape, packet, &self.policy) {
            Ok(outer) => outer,
            Err(e) => {
                trace.step(|| Step::Unreadable(e));
                return explanation.end(Verdict::Drop(e.reason()));
            }
        };
        if self.config.shape == Shape::Udp {
            outer.ecn = ecn & 3;
        }
        let vni = outer.vxlan.vni;
        let (index, way) = match self.accept(source, &outer, packet, &mut Memo::default(), trace) {
            Err(r) => return explanation.end(Verdict::Drop(r.reason)),
            Ok(a) => match (a.config.mode, a.macs) {
                (Mode::Routed { router_mac }, _) => {
                    let inner = packet.get(outer.payload.clone()).unwrap_or(&[]);
                    let domain = Domain { vni, index: a.index, config: a.config, router_mac };
                    (a.index, self.route(&domain, false, inner, outer.payload.start, trace).way)
                }
                (Mode::Bridged, macs) => {
                    let macs = macs.unwrap_or_default();
                    let answer = self.ask(now, vni, macs, a.peer);
                    (a.index, self.bridge(a.config, macs, answer, a.learn, trace).way)
                }
            },
        };
        explanation.end(match self.descend(index, way) {
            Way::Port(p) => Verdict::ToPort(p),
            Way::Tunnel(v) => Verdict::ToUnderlay(v),
            Way::Flood => Verdict::Flood(vni),
            Way::Punt(reason) => Verdict::Punt(reason),
            Way::Drop(reason) => Verdict::Drop(reason),
        })
    }
}

/// Reads a frame from a local port that is not a usual one; of one that cannot be read nothing is asked.
#[inline(never)]
fn read_any(frame: &mut Frame<'_>, crossing: &mut Crossing) {
    match Flow::any(frame.bytes(), 0) {
        Ok(flow) => {
            (crossing.destination, crossing.source) = (flow.dst, flow.src);
            (frame.flow_hash, frame.ecn) = (flow.hash, flow.ecn);
        }
        Err(_) => (frame.flow_hash, frame.ecn) = (0, 0),
    }
}

/// Makes the changes of routing: MAC addresses and TTL (RFC 1812, section 5.3.1).
#[inline]
pub(super) fn rewrite(frame: &mut [u8], routed: Option<Rewrite>) {
    let Some(r) = routed else { return };
    ethernet::set_macs(frame, r.dst, r.src);
    if let Some(ip) = frame.get_mut(r.ip..) {
        if r.v6 {
            ipv6::decrement_hop_limit(ip);
        } else {
            ipv4::decrement_ttl(ip);
        }
    }
}
