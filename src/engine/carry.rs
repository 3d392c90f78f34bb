//! Carrying decisions out: the calls of the data path.

use super::context::Context;
use super::decide::{Decision, Memo, Rewrite, fits_length, fits_mtu};
use super::explain::{Explanation, Silent};
use super::frame::{Frame, Ingress, Verdict};
use super::storage::Storage;
use super::tables::Tables;
use crate::addr::{PortId, VtepId};
use crate::error::{DropReason, PortError};
use crate::time::Instant;
use crate::wire::inner::{self, Inner};
use crate::wire::template::{Fields, Header, Template};
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

impl<S: Storage> Tables<S> {
    /// Decides what becomes of frames from a local port, and writes the outer headers of those
    /// that go to one VTEP. Every frame has a verdict afterwards.
    ///
    /// The addresses that frames bring are noted in `context`, at most [`BATCH`](super::BATCH)
    /// between two merges.
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
        let record = self.ports.get(port).ok_or(PortError::Unknown(port))?;
        let memo = &mut Memo::new(now);
        for frame in frames {
            let decision =
                self.decide_encap(port, record, frame.bytes(), frame.segment_len, memo, &mut Silent);
            self.finish_encap(context, port, frame, decision);
        }
        Ok(())
    }

    /// Decides what becomes of datagrams from the underlay, and strips the outer headers of those
    /// that are accepted. Every frame has a verdict afterwards.
    pub fn decap(&self, now: Instant, context: &mut Context<S>, frames: &mut [Frame<'_>]) {
        let memo = &mut Memo::new(now);
        for frame in frames {
            let decision = self.decide_decap(frame.source, frame.ecn, frame.bytes(), memo, &mut Silent);
            self.finish_decap(context, frame, decision);
        }
    }

    #[inline]
    fn finish_encap(&self, context: &mut Context<S>, port: PortId, frame: &mut Frame<'_>, d: Decision) {
        let len = frame.len();
        context.totals.encap_frames = context.totals.encap_frames.wrapping_add(1);
        if let Some(c) = context.port_mut(port) {
            c.traffic.rx(len);
        }
        frame.ingress = Ingress::Port(port);
        (frame.vni, frame.flow_hash, frame.ecn) = (d.vni, d.flow_hash, d.ecn);
        if frame.group.is_none() {
            frame.group = d.group;
        }
        let verdict = match d.verdict {
            Verdict::ToUnderlay(vtep) => match self.write_outer(context, frame, vtep, d.rewrite) {
                Ok(()) => {
                    if let Some(c) = context.vtep_mut(vtep) {
                        c.traffic.tx(len);
                    }
                    Verdict::ToUnderlay(vtep)
                }
                Err(reason) => {
                    context.dropped(reason, d.index, Some(vtep), Some(port));
                    frame.verdict = Some(Verdict::Drop(reason));
                    self.note(context, &d);
                    return;
                }
            },
            Verdict::ToPort(_) => {
                rewrite(frame.bytes_mut(), d.rewrite);
                d.verdict
            }
            other => other,
        };
        if let (Verdict::ToUnderlay(_) | Verdict::Flood(_), Some(c)) =
            (verdict, d.index.and_then(|i| context.vni_mut(i)))
        {
            c.traffic.tx(len);
        }
        if let (Verdict::Flood(_), Some(index)) = (verdict, d.index) {
            frame.ip_id = context.next_ip_id();
            self.count_flood(context, index, frame);
        }
        self.count(context, &d, verdict, len, Some(port));
        frame.verdict = Some(verdict);
    }

    #[inline]
    fn finish_decap(&self, context: &mut Context<S>, frame: &mut Frame<'_>, d: Decision) {
        context.totals.decap_frames = context.totals.decap_frames.wrapping_add(1);
        frame.ingress = Ingress::Tunnel;
        (frame.vni, frame.group) = (d.vni, d.group);
        if !matches!(d.verdict, Verdict::Drop(_)) {
            frame.narrow(d.payload.clone());
            let len = frame.len();
            if let Some(c) = d.index.and_then(|i| context.vni_mut(i)) {
                c.traffic.rx(len);
            }
            if let Some(c) = d.peer.and_then(|v| context.vtep_mut(v)) {
                c.traffic.rx(len);
            }
            if let Some(field) = d.mark {
                mark(frame.bytes_mut(), field);
            }
            if !matches!(d.verdict, Verdict::Punt(_)) {
                rewrite(frame.bytes_mut(), d.rewrite);
            }
        }
        let (verdict, len) = (d.verdict, frame.len());
        self.count(context, &d, verdict, len, None);
        frame.verdict = Some(verdict);
    }

    /// Counts a verdict, and hands on what the frame taught.
    #[inline]
    fn count(
        &self,
        context: &mut Context<S>,
        d: &Decision,
        verdict: Verdict,
        len: usize,
        port: Option<PortId>,
    ) {
        let totals = &mut context.totals;
        match verdict {
            Verdict::ToUnderlay(_) => totals.to_underlay = totals.to_underlay.wrapping_add(1),
            Verdict::ToPort(p) => {
                totals.to_port = totals.to_port.wrapping_add(1);
                if let Some(c) = context.port_mut(p) {
                    c.traffic.tx(len);
                }
            }
            Verdict::Flood(_) => {
                totals.flooded = totals.flooded.wrapping_add(1);
                if let Some(index) = d.index {
                    for p in self.floods.ports(index).filter(|p| Some(*p) != port) {
                        if let Some(c) = context.port_mut(p) {
                            c.traffic.tx(len);
                        }
                    }
                }
            }
            Verdict::Punt(reason) => totals.punts.count(reason),
            Verdict::Drop(reason) => context.dropped(reason, d.index, d.peer, port),
        }
        if let Some(miss) = d.miss {
            context.event(miss);
        }
        self.note(context, d);
    }

    #[inline]
    fn note(&self, context: &mut Context<S>, d: &Decision) {
        if let Some(note) = d.note {
            context.note(note);
        }
    }

    /// Writes the outer headers, and the inner changes of routing; on a drop the frame is as it was.
    #[inline]
    fn write_outer(
        &self,
        context: &mut Context<S>,
        frame: &mut Frame<'_>,
        vtep: VtepId,
        routed: Option<Rewrite>,
    ) -> Result<(), DropReason> {
        let template = self.template(vtep).ok_or(DropReason::NoLocalAddress)?;
        if frame.headroom() < template.len() {
            return Err(DropReason::NoHeadroom);
        }
        rewrite(frame.bytes_mut(), routed);
        let fields = self.fields(frame, context.next_ip_id());
        let packet = frame.with_headers(template.len()).ok_or(DropReason::NoHeadroom)?;
        template.write(packet, &fields).ok_or(DropReason::TooLong)?;
        frame.push_front(template.len());
        Ok(())
    }

    #[inline]
    fn fields(&self, frame: &Frame<'_>, ip_id: u16) -> Fields {
        let (first, last) = self.config.source_ports;
        Fields {
            vni: frame.vni.unwrap_or_default(),
            group: frame.group,
            source_port: inner::source_port(frame.flow_hash, first, last),
            ecn: frame.ecn,
            ip_id,
        }
    }

    /// Whether a copy for this VTEP can be sent at all.
    fn copy_fits(&self, vtep: VtepId, frame: &Frame<'_>) -> Result<&Template, DropReason> {
        let record = self.vteps.get(vtep).ok_or(DropReason::NoLocalAddress)?;
        let template = self.template(vtep).ok_or(DropReason::NoLocalAddress)?;
        let len = frame.len();
        let segment = if frame.segment_len == 0 { len } else { frame.segment_len.min(len) };
        if !fits_mtu(record, template, segment) {
            Err(DropReason::MtuExceeded)
        } else if !fits_length(template, len) {
            Err(DropReason::TooLong)
        } else {
            Ok(template)
        }
    }

    /// Counts the copies of a flooded frame for each VTEP: at most one for each list member.
    fn count_flood(&self, context: &mut Context<S>, index: crate::table::vni::VniIndex, frame: &Frame<'_>) {
        for vtep in self.floods.vteps(index) {
            match self.copy_fits(vtep, frame) {
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
            let template = self.copy_fits(vtep, frame).ok()?;
            // The copies go to different addresses and may have one identification. Where nobody may
            // fragment, any will do (RFC 6864, section 4.1).
            let ip_id = if self.config.dont_fragment { 0 } else { frame.ip_id };
            let header = template.header(frame.bytes(), &self.fields(frame, ip_id))?;
            Some(Replica::Underlay { vtep, header })
        });
        ports.map(Replica::Port).chain(headers)
    }

    /// What would become of a frame from a local port.
    pub fn explain_encap(&self, now: Instant, port: PortId, frame: &[u8]) -> Result<Explanation, PortError> {
        let record = self.ports.get(port).ok_or(PortError::Unknown(port))?;
        let mut explanation = Explanation::new();
        let d = self.decide_encap(port, record, frame, 0, &mut Memo::new(now), &mut explanation);
        Ok(explanation.end(d.verdict))
    }

    /// What would become of a datagram from the underlay.
    pub fn explain_decap(&self, now: Instant, source: Option<IpAddr>, packet: &[u8]) -> Explanation {
        let mut explanation = Explanation::new();
        let d = self.decide_decap(source, 0, packet, &mut Memo::new(now), &mut explanation);
        explanation.end(d.verdict)
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
