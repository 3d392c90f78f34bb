//! Carrying decisions out on what came from the underlay: the passes of [`Tables::decap`].

use super::carry::{NOTHING, rewrite};
use super::context::{BATCH, Context};
use super::decide::{Memo, Way, addresses};
use super::explain::Silent;
use super::frame::{Frame, Ingress, Verdict};
use super::lane::{Lane, NO_VNI, NOBODY};
use super::route::Domain;
use super::stats::ScopeCounters;
use super::storage::Storage;
use super::tables::Tables;
use crate::addr::{Destination, PortId, Vni, VtepId};
use crate::error::DropReason;
use crate::table::fdb::{Crossed, Crossing, Known, Probe};
use crate::table::vni::{Mode, VniIndex};
use crate::time::Instant;
use crate::wire::ecn;
use crate::wire::inner::{self, Inner};
use crate::wire::outer::{self, Plain, Shape};

use core::hint::black_box;
use core::net::IpAddr;

impl<S: Storage> Tables<S> {
    /// At most [`BATCH`] datagrams, in the same three passes.
    #[inline(never)]
    pub(super) fn decap_batch<'t>(
        &'t self,
        now: Instant,
        context: &mut Context<S>,
        memo: &mut Memo<'t>,
        frames: &mut [Frame<'_>],
    ) {
        let mut lanes = [Lane::NOTHING; BATCH];
        let mut crossings = [NOBODY; BATCH];
        let mut answers = [NOTHING; BATCH];
        let places = (&mut lanes, &mut crossings);
        match self.config.shape {
            Shape::Udp => self.read(frames, places, memo, |frame| self.plain_udp(frame)),
            Shape::Ethernet => self.read(frames, places, memo, |frame| self.plain_ethernet(frame)),
            Shape::Ip => self.read(frames, places, memo, |_| None),
        }
        self.fdb.cross_batch(now, crossings.get(..frames.len()).unwrap_or(&crossings), &mut answers);
        if self.is_far {
            self.touch(context, answers.get(..frames.len()).unwrap_or(&answers));
        }
        let mut to_ports = 0u64;
        let asked = lanes.iter_mut().zip(&mut crossings).zip(&answers);
        for (frame, ((lane, crossing), answer)) in frames.iter_mut().zip(asked) {
            // Nearly always: a station that is known behind its VTEP sends to one behind a port.
            if let (Some(known), Some(Destination::Port(port))) = *answer
                && let Destination::Vtep(peer) = known.at()
                && let Some((index, learn)) = self.taken(frame, lane, crossing.vni, peer, port)
            {
                if !known.is_fresh() && learn {
                    self.refresh(context, crossing.vni, crossing.source, self.behind(peer, frame));
                }
                let len = lane.end.wrapping_sub(lane.start as usize);
                frame.strip(lane.start as usize, lane.end);
                context.landed(index, Some(peer), len);
                if let Some(c) = context.port_mut(port) {
                    c.traffic.tx(len);
                }
                to_ports = to_ports.wrapping_add(1);
                frame.verdict = Some(Verdict::ToPort(port));
            } else {
                if lane.plain {
                    self.look_up(frame, lane, crossing, memo);
                }
                self.finish_decap(now, context, frame, lane, *answer);
            }
        }
        let totals = &mut context.totals;
        totals.decap_frames = totals.decap_frames.wrapping_add(frames.len() as u64);
        totals.to_port = totals.to_port.wrapping_add(to_ports);
    }

    /// Notes what the headers of each packet say. Nearly always one is `plain`; of anything else every question is
    /// asked. A function of its own for each shape.
    #[inline(never)]
    fn read<'t>(
        &'t self,
        frames: &mut [Frame<'_>],
        (lanes, crossings): (&mut [Lane; BATCH], &mut [Crossing; BATCH]),
        memo: &mut Memo<'t>,
        plain: impl Fn(&Frame<'_>) -> Option<Plain>,
    ) {
        for ((frame, lane), crossing) in frames.iter_mut().zip(lanes).zip(crossings) {
            let taken = plain(frame).and_then(|plain| take_in_plain(frame, lane, crossing, &plain));
            if taken.is_none() {
                self.take_in(frame, lane, crossing, memo);
            }
        }
    }

    #[inline(always)]
    fn plain_udp(&self, frame: &Frame<'_>) -> Option<Plain> {
        let source = frame.source.filter(|_| frame.ecn & ecn::ECT1 == 0)?;
        let mut plain = self.plain.udp(frame.packet()?)?;
        // No VTEP has the address that stands for an IPv6 one.
        if let IpAddr::V4(v4) = source.to_canonical() {
            plain.underlay[0] = v4;
        }
        Some(plain)
    }

    #[inline(always)]
    fn plain_ethernet(&self, frame: &Frame<'_>) -> Option<Plain> {
        let plain = self.plain.ethernet(frame.packet()?)?;
        (self.config.local_v4 == Some(plain.underlay[1])).then_some(plain)
    }

    /// The VNI of a packet whose source is known behind `peer` and whose destination behind `port`, and whether
    /// it teaches; `None` where the packet did not come from `peer`, or more is to be found out.
    ///
    /// Of a plain packet neither VTEP nor VNI were looked up: the FDB led here by the VNI and both addresses, and
    /// the records of `peer` and `port` tell whether they are what the headers say.
    #[inline(always)]
    fn taken(
        &self,
        frame: &Frame<'_>,
        lane: &Lane,
        vni: Vni,
        peer: VtepId,
        port: PortId,
    ) -> Option<(VniIndex, bool)> {
        if !lane.plain {
            return (lane.asked && lane.peer == Some(peer)).then_some((lane.index, lane.learn));
        }
        let (vtep, port) = (self.vteps.get(peer)?, self.ports.get(port)?);
        let config = &self.vnis.get(port.vni_index)?.config;
        let is_there = match vtep.config.addr {
            IpAddr::V4(addr) => addr == lane.source,
            addr => self.sender(frame, lane) == Some(addr),
        };
        let taken = is_there && port.config.vni == vni && config.mode == Mode::Bridged;
        taken.then_some((port.vni_index, config.learning))
    }

    /// Where a plain packet came from.
    #[inline]
    fn sender(&self, frame: &Frame<'_>, lane: &Lane) -> Option<IpAddr> {
        match self.config.shape {
            Shape::Udp => frame.source.map(|source| source.to_canonical()),
            _ => Some(IpAddr::V4(lane.source)),
        }
    }

    /// Has the records and counters brought near that the third pass will want: reads that nothing waits for, a loop
    /// for each kind, so that as many as can be are under way together.
    #[inline(never)]
    fn touch(&self, context: &Context<S>, answers: &[Crossed]) {
        let (mut peers, mut ports) = ([None; BATCH], [None; BATCH]);
        let mut indices = [NO_VNI; BATCH];
        for (((known, found), peer), port) in answers.iter().zip(&mut peers).zip(&mut ports) {
            if let (Some(Destination::Vtep(v)), Some(Destination::Port(p))) = (known.map(Known::at), found) {
                (*peer, *port) = (Some(v), Some(*p));
            }
        }
        let ports = ports.get(..answers.len()).unwrap_or(&ports);
        let peers = peers.get(..answers.len()).unwrap_or(&peers);
        for (index, port) in indices.iter_mut().zip(ports) {
            *index = port.and_then(|port| self.ports.get(port)).map_or(NO_VNI, |port| port.vni_index);
        }
        let indices = indices.get(..answers.len()).unwrap_or(&indices);
        let word = |counters: Option<&ScopeCounters>| counters.map_or(0, ScopeCounters::word);
        let any = |touched: u64, word: u64| touched ^ word;
        black_box(ports.iter().map(|port| word(port.and_then(|port| context.port(port)))).fold(0, any));
        black_box(indices.iter().map(|index| word(context.vni(*index))).fold(0, any));
        black_box(
            indices.iter().map(|index| self.vnis.get(*index).map_or(0, |e| e.vni.get().into())).fold(0, any),
        );
        black_box(peers.iter().map(|peer| word(peer.and_then(|peer| context.vtep(peer)))).fold(0, any));
        let record = |peer: &Option<VtepId>| peer.and_then(|peer| self.vteps.get(peer));
        black_box(peers.iter().map(|peer| record(peer).map_or(0, |vtep| vtep.epoch.into())).fold(0, any));
    }

    /// Finds out what [`taken`](Self::taken) could not tell of a plain packet.
    #[inline(never)]
    fn look_up<'t>(
        &'t self,
        frame: &mut Frame<'_>,
        lane: &mut Lane,
        crossing: &mut Crossing,
        memo: &mut Memo<'t>,
    ) {
        lane.plain = false;
        let peer = self.sender(frame, lane).and_then(|source| self.known_vtep(source, memo));
        match (peer, self.known_vni(crossing.vni, memo)) {
            (Some(peer), Some((index, config))) => {
                (lane.peer, lane.index, lane.learn) = (Some(peer), index, config.learning);
                lane.asked = config.mode == Mode::Bridged;
            }
            _ => self.take_in(frame, lane, crossing, memo),
        }
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
                // Headers end within the first 64 KiB or little later.
                (lane.start, lane.end) = (outer.payload.start as u32, outer.payload.end);
                (lane.index, lane.peer, lane.mark, lane.learn) = (a.index, a.peer, a.mark, a.learn);
                if let (Some((destination, source)), Some(_), None) = (a.macs, a.peer, a.mark) {
                    *crossing = Crossing { vni, source, destination };
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
        (known, found): Crossed,
    ) {
        let (vni, inner) = (frame.vni.unwrap_or_default(), lane.start as usize..lane.end);
        let entry = self.vnis.get(lane.index);
        let (way, routed) = match (lane.refused, entry.map(|e| &e.config)) {
            (Some(reason), _) => (Way::Drop(reason), None),
            (None, None) => (Way::Drop(DropReason::UnknownVni), None),
            (None, Some(config)) => {
                let inner = frame.bytes().get(inner.clone()).unwrap_or(&[]);
                match config.mode {
                    Mode::Bridged => match addresses(inner) {
                        Ok(macs) => {
                            let answer = match lane.peer {
                                Some(peer) if lane.asked => (
                                    known
                                        .map_or(Probe::Missing, |known| known.probe(Destination::Vtep(peer))),
                                    found,
                                ),
                                peer => self.ask(now, vni, macs, peer),
                            };
                            let b = self.bridge(config, macs, answer, lane.learn, &mut Silent);
                            let seen = match lane.peer {
                                Some(peer) => self.behind(peer, frame),
                                None => self.newcomer(frame.source, frame.bytes()),
                            };
                            self.aside(context, vni, macs, b, seen);
                            (b.way, None)
                        }
                        Err(reason) => (Way::Drop(reason), None),
                    },
                    Mode::Routed { router_mac } => {
                        let domain = Domain { vni, index: lane.index, config, router_mac };
                        let r = self.route(&domain, false, inner, lane.start as usize, &mut Silent);
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
}

/// Notes what a plain packet says, and what the FDB is to be asked about it; `None`, and nothing noted, where
/// it has no inner frame.
#[inline(always)]
fn take_in_plain(
    frame: &mut Frame<'_>,
    lane: &mut Lane,
    crossing: &mut Crossing,
    plain: &Plain,
) -> Option<()> {
    let (destination, source) = inner::addresses(frame.packet()?.get(plain.start..)?)?;
    *crossing = Crossing { vni: plain.vni, destination, source };
    (frame.ingress, frame.vni, frame.group) = (Ingress::Tunnel, Some(plain.vni), None);
    (lane.start, lane.end, lane.source) = (plain.start as u32, plain.end, plain.underlay[0]);
    lane.plain = true;
    Some(())
}

/// Writes the ECN field of the inner IP header.
#[inline(never)]
fn mark(frame: &mut [u8], field: u8) {
    if let Ok(inner) = Inner::classify(frame) {
        ecn::set(frame, &inner, field);
    }
}
