//! Carrying decisions out: the calls of the data path.

use super::context::{BATCH, Context, Note, Seen};
use super::decide::{Bridged, Exit, Inlet, Memo, Way, addresses, fits};
use super::event::Event;
use super::explain::{Explanation, Silent, Step, Trace};
use super::frame::{Frame, Ingress, Verdict};
use super::lane::{Lane, NOBODY};
use super::route::{Domain, Rewrite};
use super::stats::Load;
use super::storage::Storage;
use super::tables::Tables;
use crate::addr::{Destination, MacAddr, PortId, Vni, VtepId};
use crate::error::{DropReason, PortError};
use crate::table::Store;
use crate::table::fdb::{Crossing, Probe};
use crate::table::vni::{Mode, VniIndex};
use crate::time::Instant;
use crate::wire::ethernet::EthernetHeader;
use crate::wire::inner::{self, Flow, Inner};
use crate::wire::outer::{self, Plain, Shape};
use crate::wire::template::{self, Fields, Header, Template};
use crate::wire::vxlan::VxlanHeader;
use crate::wire::{ecn, ethernet, ipv4, ipv6};

use core::net::IpAddr;

/// Octets of headroom that are enough for every outer shape, rounded up to a multiple of 8.
pub const HEADROOM: usize = 72;

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
        let from = Destination::Port(inlet.port);
        let mut crossings = [Crossing { vni: inlet.vni, from, ..NOBODY }; BATCH];
        let mut answers = [(Probe::Missing, None); BATCH];
        let mut came = Load::default();
        for (frame, crossing) in frames.iter_mut().zip(&mut crossings) {
            came.add(frame.len());
            frame.enter(inlet);
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
            if let (known @ (Probe::Fresh | Probe::Stale), Some(Destination::Vtep(vtep))) = *answer
                && let Some(template) = self.templates.as_slice().get(usize::from(vtep.0))
                && self.write_plain(context, inlet, frame, template).is_some()
            {
                if known == Probe::Stale && inlet.learn {
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
        answer: (Probe, Option<Destination>),
        left: &mut Departures,
    ) {
        let way = match EthernetHeader::parse(frame.bytes()) {
            Ok(_) => {
                let macs = (crossing.destination, crossing.source);
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
            frame.enter(inlet);
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
    fn aside(
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
    fn refresh(&self, context: &mut Context<S>, vni: Vni, mac: MacAddr, seen: Seen) {
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

    /// At most [`BATCH`] datagrams, in the same three passes.
    #[inline(never)]
    fn decap_batch<'t>(
        &'t self,
        now: Instant,
        context: &mut Context<S>,
        memo: &mut Memo<'t>,
        frames: &mut [Frame<'_>],
    ) {
        let mut lanes = [Lane::NOTHING; BATCH];
        let mut crossings = [NOBODY; BATCH];
        let mut answers = [(Probe::Missing, None); BATCH];
        match self.config.shape {
            Shape::Udp => self.read_udp(frames, &mut lanes, &mut crossings, memo),
            Shape::Ethernet => self.read_ethernet(frames, &mut lanes, &mut crossings, memo),
            Shape::Ip => {
                for ((frame, lane), crossing) in frames.iter_mut().zip(&mut lanes).zip(&mut crossings) {
                    self.take_in(frame, lane, crossing, memo);
                }
            }
        }
        self.fdb.cross_batch(now, crossings.get(..frames.len()).unwrap_or(&crossings), &mut answers);
        let mut to_ports = 0u64;
        let asked = lanes.iter().zip(&crossings).zip(&answers);
        for (frame, ((lane, crossing), answer)) in frames.iter_mut().zip(asked) {
            // Nearly always: a station that is known behind its VTEP sends to one behind a port.
            if let (known @ (Probe::Fresh | Probe::Stale), Some(Destination::Port(port))) = *answer {
                if known == Probe::Stale
                    && lane.learn
                    && let Some(peer) = lane.peer
                {
                    self.refresh(context, crossing.vni, crossing.source, Seen::Vtep(peer));
                }
                let len = lane.end.wrapping_sub(lane.start);
                frame.strip(lane.start, lane.end);
                context.landed(lane.index, lane.peer, len);
                if let Some(c) = context.port_mut(port) {
                    c.traffic.tx(len);
                }
                to_ports = to_ports.wrapping_add(1);
                frame.verdict = Some(Verdict::ToPort(port));
            } else {
                self.finish_decap(now, context, frame, lane, *answer);
            }
        }
        let totals = &mut context.totals;
        totals.decap_frames = totals.decap_frames.wrapping_add(frames.len() as u64);
        totals.to_port = totals.to_port.wrapping_add(to_ports);
    }
    // Nearly always a packet is plain and comes from a known VTEP into a known VNI. Each shape has code of its
    // own for that; of anything else every question is asked.

    #[inline(never)]
    fn read_udp<'t>(
        &'t self,
        frames: &mut [Frame<'_>],
        lanes: &mut [Lane; BATCH],
        crossings: &mut [Crossing; BATCH],
        memo: &mut Memo<'t>,
    ) {
        for ((frame, lane), crossing) in frames.iter_mut().zip(lanes).zip(crossings) {
            if let Some(source) = frame.source
                && frame.ecn & ecn::ECT1 == 0
                && let Some(plain) = frame.packet().and_then(|packet| self.plain.udp(packet))
                && let Some(peer) = match source.to_canonical() {
                    IpAddr::V4(v4) => self.known_vtep_v4(v4, memo),
                    source => self.known_vtep(source, memo),
                }
                && self.take_in_plain(frame, lane, crossing, peer, &plain, memo).is_some()
            {
                continue;
            }
            self.take_in(frame, lane, crossing, memo);
        }
    }

    #[inline(never)]
    fn read_ethernet<'t>(
        &'t self,
        frames: &mut [Frame<'_>],
        lanes: &mut [Lane; BATCH],
        crossings: &mut [Crossing; BATCH],
        memo: &mut Memo<'t>,
    ) {
        for ((frame, lane), crossing) in frames.iter_mut().zip(lanes).zip(crossings) {
            if let Some(plain) = frame.packet().and_then(|packet| self.plain.ethernet(packet))
                && let [source, destination] = plain.underlay
                && self.config.local_v4 == Some(destination)
                && let Some(peer) = self.known_vtep_v4(source, memo)
                && self.take_in_plain(frame, lane, crossing, peer, &plain, memo).is_some()
            {
                continue;
            }
            self.take_in(frame, lane, crossing, memo);
        }
    }

    /// What [`take_in`](Self::take_in) does with a plain packet from a known VTEP into a known VNI; `None`, and
    /// nothing done, with any other.
    #[inline(always)]
    fn take_in_plain<'t>(
        &'t self,
        frame: &mut Frame<'_>,
        lane: &mut Lane,
        crossing: &mut Crossing,
        peer: VtepId,
        plain: &Plain,
        memo: &mut Memo<'t>,
    ) -> Option<()> {
        let (index, config) = self.known_vni(plain.vni, memo)?;
        if config.mode == Mode::Bridged {
            let (destination, source) = inner::addresses(frame.packet()?.get(plain.start..)?)?;
            *crossing = Crossing { vni: plain.vni, source, from: Destination::Vtep(peer), destination };
            lane.asked = true;
        }
        (frame.ingress, frame.vni, frame.group) = (Ingress::Tunnel, Some(plain.vni), None);
        (lane.start, lane.end, lane.index, lane.peer) = (plain.start, plain.end, index, Some(peer));
        lane.learn = config.learning;
        Some(())
    }

    /// Notes what is known of a packet by its headers, and what the FDB is to be asked about it.
    #[inline(never)]
    fn take_in<'t>(
        &'t self,
        frame: &mut Frame<'_>,
        lane: &mut Lane,
        crossing: &mut Crossing,
        memo: &mut Memo<'t>,
    ) {
        let mut outer = match outer::parse(self.config.shape, frame.bytes(), &self.policy) {
            Ok(outer) => outer,
            Err(e) => {
                (frame.ingress, frame.vni, frame.group) = (Ingress::Tunnel, None, None);
                lane.refused = Some(e.reason());
                return;
            }
        };
        if self.config.shape == Shape::Udp {
            outer.ecn = frame.ecn;
        }
        let vni = outer.vxlan.vni;
        let taken = self.accept(frame.source, &outer, frame.bytes(), memo, &mut Silent);
        (frame.ingress, frame.vni, frame.group) = (Ingress::Tunnel, Some(vni), outer.vxlan.group);
        match taken {
            Ok(a) => {
                (lane.start, lane.end) = (outer.payload.start, outer.payload.end);
                (lane.index, lane.peer, lane.mark, lane.learn) = (a.index, a.peer, a.mark, a.learn);
                if let (Some((destination, source)), Some(peer), None) = (a.macs, a.peer, a.mark) {
                    *crossing = Crossing { vni, source, from: Destination::Vtep(peer), destination };
                    lane.asked = true;
                }
            }
            Err(r) => {
                (lane.refused, lane.peer) = (Some(r.reason), r.peer);
                lane.index = r.index.unwrap_or(Lane::NOTHING.index);
            }
        }
    }

    /// Decides on a packet, and carries it out.
    #[inline(never)]
    fn finish_decap(
        &self,
        now: Instant,
        context: &mut Context<S>,
        frame: &mut Frame<'_>,
        lane: &Lane,
        answer: (Probe, Option<Destination>),
    ) {
        let (vni, inner) = (frame.vni.unwrap_or_default(), lane.start..lane.end);
        let entry = self.vnis.get(lane.index);
        let (way, routed) = match (lane.refused, entry.map(|e| &e.config)) {
            (Some(reason), _) => (Way::Drop(reason), None),
            (None, None) => (Way::Drop(DropReason::UnknownVni), None),
            (None, Some(config)) => {
                let inner = frame.bytes().get(inner.clone()).unwrap_or(&[]);
                match config.mode {
                    Mode::Bridged => match addresses(inner) {
                        Ok(macs) => {
                            let answer =
                                if lane.asked { answer } else { self.ask(now, vni, macs, lane.peer) };
                            let b = self.bridge(config, macs, answer, lane.learn, &mut Silent);
                            let seen = match lane.peer {
                                Some(peer) => Seen::Vtep(peer),
                                None => self.newcomer(frame.source, frame.bytes()),
                            };
                            self.aside(context, vni, macs, b, seen);
                            (b.way, None)
                        }
                        Err(reason) => (Way::Drop(reason), None),
                    },
                    Mode::Routed { router_mac } => {
                        let domain = Domain { vni, index: lane.index, config, router_mac };
                        let r = self.route(&domain, false, inner, lane.start, &mut Silent);
                        if let Some(miss) = r.miss {
                            context.event(miss);
                        }
                        (r.way, r.rewrite)
                    }
                }
            }
        };
        let way = self.descend(lane.index, way);
        if let Way::Drop(reason) = way {
            context.dropped(reason, Some(lane.index), lane.peer, None);
            frame.verdict = Some(Verdict::Drop(reason));
            return;
        }
        frame.narrow(inner);
        let len = frame.len();
        context.landed(lane.index, lane.peer, len);
        if let Some(field) = lane.mark {
            mark(frame.bytes_mut(), field);
        }
        frame.verdict = Some(match way {
            Way::Port(p) => {
                rewrite(frame.bytes_mut(), routed);
                context.delivered(p, len);
                Verdict::ToPort(p)
            }
            Way::Punt(reason) => {
                context.totals.punts.count(reason);
                Verdict::Punt(reason)
            }
            _ => {
                context.totals.flooded = context.totals.flooded.wrapping_add(1);
                self.count_flooded_ports(context, lane.index, None, len);
                Verdict::Flood(vni)
            }
        });
    }

    /// What the FDB knows of a frame from the underlay: of its source, and of its destination.
    #[inline]
    fn ask(
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
    fn count_flooded_ports(
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
        let index = match frame.verdict {
            Some(Verdict::Flood(vni)) => self.vnis.index_of(vni),
            _ => None,
        };
        let from = match frame.ingress {
            Ingress::Port(p) => Some(p),
            _ => None,
        };
        let ports = index.into_iter().flat_map(|i| self.floods.ports(i)).filter(move |p| Some(*p) != from);
        let vteps = index.filter(|_| from.is_some()).into_iter().flat_map(|i| self.floods.vteps(i));
        let headers = vteps.filter_map(move |vtep| {
            let template = self.copy_fits(vtep, frame.len(), frame.segment_len).ok()?;
            // The copies go to different addresses and may have one identification. Where nobody may
            // fragment, any will do (RFC 6864, section 4.1).
            let ip_id = if self.config.dont_fragment { 0 } else { frame.ip_id };
            let header =
                template.header(frame.bytes(), &self.fields(frame.vni.unwrap_or_default(), frame, ip_id))?;
            Some(Replica::Underlay { vtep, header })
        });
        ports.map(Replica::Port).chain(headers)
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
        context.dropped(reason, index, vtep, port);
    }

    /// What would become of a frame from a local port.
    pub fn explain_encap(&self, now: Instant, port: PortId, frame: &[u8]) -> Result<Explanation, PortError> {
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
        let exit = self.leave(&inlet, way, routed, (frame.len(), 0), trace);
        Ok(explanation.end(exit.verdict(vni)))
    }

    /// What would become of a datagram from the underlay.
    pub fn explain_decap(&self, now: Instant, source: Option<IpAddr>, packet: &[u8]) -> Explanation {
        let mut explanation = Explanation::new();
        let trace = &mut explanation;
        let outer = match outer::parse(self.config.shape, packet, &self.policy) {
            Ok(outer) => outer,
            Err(e) => {
                trace.step(|| Step::Unreadable(e));
                return explanation.end(Verdict::Drop(e.reason()));
            }
        };
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
fn rewrite(frame: &mut [u8], routed: Option<Rewrite>) {
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

/// Writes the ECN field of the inner IP header.
#[inline(never)]
fn mark(frame: &mut [u8], field: u8) {
    if let Ok(inner) = Inner::classify(frame) {
        ecn::set(frame, &inner, field);
    }
}
