//! The one decision: what becomes of a frame, and why, in steps that a batch takes together.
//!
//! Nothing here changes a table, a counter or a packet. The data path carries a decision out; the
//! explanation prints the same steps.

use core::net::{IpAddr, Ipv4Addr};

use super::config::is_host_address;
use super::context::Seen;
use super::explain::{Step, Trace};
use super::frame::{Frame, Verdict};
use super::storage::Storage;
use super::tables::Tables;
use crate::addr::{Destination, MacAddr, PortId, Vni, VtepId};
use crate::error::{DropReason, PuntReason};
use crate::table::fdb::{EntryKind, Probe};
use crate::table::vni::{Accept, Mode, VniConfig, VniIndex};
use crate::table::vtep::Origin;
use crate::time::Instant;
use crate::wire::ecn::{self, Ecn};
use crate::wire::ethernet::EthernetHeader;
use crate::wire::inner::Inner;
use crate::wire::outer::{self, Outer, Shape};
use crate::wire::template::Template;
use crate::wire::vxlan::GroupPolicy;

/// Where a frame is to go, before the outer header is thought of.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    Port(PortId),
    Tunnel(VtepId),
    Flood,
    Punt(PuntReason),
    Drop(DropReason),
}

impl From<DropReason> for Way {
    fn from(reason: DropReason) -> Way {
        Way::Drop(reason)
    }
}

impl From<PuntReason> for Way {
    fn from(reason: PuntReason) -> Way {
        Way::Punt(reason)
    }
}

/// Where a frame from a local port goes.
#[derive(Clone, Copy)]
pub(crate) enum Exit<'t> {
    Port(PortId),
    Tunnel(VtepId, &'t Template),
    Flood,
    Punt(PuntReason),
    /// Forgotten, and the VTEP that it would have gone to.
    Drop(DropReason, Option<VtepId>),
}

impl Exit<'_> {
    pub(crate) fn verdict(&self, vni: Vni) -> Verdict {
        match *self {
            Exit::Port(p) => Verdict::ToPort(p),
            Exit::Tunnel(v, _) => Verdict::ToUnderlay(v),
            Exit::Flood => Verdict::Flood(vni),
            Exit::Punt(reason) => Verdict::Punt(reason),
            Exit::Drop(reason, _) => Verdict::Drop(reason),
        }
    }
}

/// What a bridge decides.
#[derive(Clone, Copy)]
pub(crate) struct Bridged {
    pub(crate) way: Way,
    /// The source address is to be learned or refreshed.
    pub(crate) teaches: bool,
    /// The host is to be told that nobody knows the destination.
    pub(crate) misses: bool,
}

/// A local port that frames come from, and what is the same for all of them.
#[derive(Clone, Copy)]
pub(crate) struct Inlet<'t> {
    pub(crate) port: PortId,
    pub(crate) vni: Vni,
    pub(crate) index: VniIndex,
    pub(crate) config: &'t VniConfig,
    pub(crate) group: Option<GroupPolicy>,
    pub(crate) learn: bool,
}

/// A datagram from the underlay that is taken, before any address of the inner frame is looked up.
#[derive(Clone, Copy)]
pub(crate) struct Arrival<'t> {
    /// The VTEP that it came from.
    pub(crate) peer: Option<VtepId>,
    pub(crate) index: VniIndex,
    pub(crate) config: &'t VniConfig,
    /// The ECN field to write into the inner IP header.
    pub(crate) mark: Option<u8>,
    /// Destination and source of the inner frame in a bridged VNI.
    pub(crate) macs: Option<(MacAddr, MacAddr)>,
    pub(crate) learn: bool,
}

/// A datagram that is not taken, and how much was known of it by then.
#[derive(Clone, Copy)]
pub(crate) struct Refusal {
    pub(crate) reason: DropReason,
    pub(crate) peer: Option<VtepId>,
    pub(crate) index: Option<VniIndex>,
}

/// What the datagram before has just found out: the tables do not change within a batch, and
/// datagrams that follow each other are often of one flow.
#[derive(Debug, Default)]
pub(crate) struct Memo<'t> {
    vni: Option<(Vni, VniIndex, &'t VniConfig)>,
    source: Option<(IpAddr, Option<VtepId>)>,
}

impl<S: Storage> Tables<S> {
    /// What is the same for all frames from a port; `None` where there is no such port.
    pub(crate) fn inlet(&self, port: PortId) -> Option<Inlet<'_>> {
        let record = self.ports.get(port)?;
        let (vni, index) = (record.config.vni, record.vni_index);
        // A port goes with its VNI.
        let config = &self.vnis.get(index)?.config;
        let group = config.group_policy.map(|id| GroupPolicy { id, ..GroupPolicy::default() });
        Some(Inlet { port, vni, index, config, group, learn: config.learning && record.config.learning })
    }

    /// Where a frame of a bridged VNI goes (IEEE 802.1Q-2018, section 8.6, over tunnels), by what the FDB
    /// knows of its source, `known`, and of its destination, `found`.
    #[inline(always)]
    pub(crate) fn bridge<T: Trace>(
        &self,
        config: &VniConfig,
        (dst, src): (MacAddr, MacAddr),
        (known, found): (Probe, Option<Destination>),
        learn: bool,
        trace: &mut T,
    ) -> Bridged {
        let end = |reason| Bridged { way: Way::Drop(reason), teaches: false, misses: false };
        let mut teaches = false;
        // What the FDB has is the address of one station.
        if known != Probe::Fresh {
            if !src.is_unicast() {
                return end(DropReason::InvalidSourceMac);
            }
            if known == Probe::Pinned {
                return end(DropReason::MacPinned);
            }
            teaches = learn;
            if teaches {
                trace.step(|| Step::Learn { mac: src, known });
            }
        }
        let (way, misses) = match found {
            Some(Destination::Port(p)) => (Way::Port(p), false),
            Some(Destination::Vtep(v)) => (Way::Tunnel(v), false),
            None if dst.is_multicast() => {
                trace.step(|| Step::Group { mac: dst });
                return Bridged { way: Way::Flood, teaches, misses: false };
            }
            None if config.flood_unknown => (Way::Flood, config.notify_miss),
            None => (Way::Drop(DropReason::UnknownMac), config.notify_miss),
        };
        trace.step(|| Step::Lookup { mac: dst, found });
        Bridged { way, teaches, misses }
    }

    /// How a frame of `len` octets from a local port leaves.
    #[inline]
    pub(crate) fn leave<T: Trace>(
        &self,
        inlet: &Inlet<'_>,
        way: Way,
        routed: bool,
        (len, segment_len): (usize, usize),
        trace: &mut T,
    ) -> Exit<'_> {
        match way {
            Way::Tunnel(v) => {
                let Some(template) = self.template(v) else {
                    return Exit::Drop(DropReason::NoLocalAddress, Some(v));
                };
                if let Some(vtep) = self.vteps.get(v) {
                    let (remote, port) = (vtep.config.addr, vtep.config.port);
                    trace.step(|| Step::Tunnel { vtep: v, remote, port });
                }
                match fits(template, len, segment_len) {
                    Ok(()) => Exit::Tunnel(v, template),
                    Err(DropReason::MtuExceeded) if routed => Exit::Punt(PuntReason::TooBig),
                    Err(reason) => Exit::Drop(reason, Some(v)),
                }
            }
            Way::Port(p) if p == inlet.port => Exit::Drop(DropReason::SamePort, None),
            Way::Port(p) => Exit::Port(p),
            Way::Flood => {
                let ports = self.floods.ports(inlet.index).any(|p| p != inlet.port);
                if ports || self.floods.vteps(inlet.index).next().is_some() {
                    Exit::Flood
                } else {
                    Exit::Drop(DropReason::NoFloodTarget, None)
                }
            }
            Way::Punt(reason) => Exit::Punt(reason),
            Way::Drop(reason) => Exit::Drop(reason, None),
        }
    }

    /// Whether a datagram with these outer headers is taken, and into which VNI. `source` is what a socket
    /// says of a datagram whose headers do not state it.
    #[inline]
    pub(crate) fn accept<'t, T: Trace>(
        &'t self,
        source: Option<IpAddr>,
        outer: &Outer,
        packet: &[u8],
        memo: &mut Memo<'t>,
        trace: &mut T,
    ) -> Result<Arrival<'t>, Refusal> {
        let vni = outer.vxlan.vni;
        // A socket may speak of IPv4 as mapped; an outer header that does is forged.
        let source = outer.src.or(source.map(|a| a.to_canonical()));
        let peer = source.filter(|a| a.to_canonical() == *a).and_then(|a| self.known_vtep(a, memo));
        trace.step(|| Step::FromUnderlay { source, vtep: peer, vni });
        let refuse = |index, reason| Err(Refusal { reason, peer, index });
        // A VTEP's address is one that another host may have.
        if (peer.is_none() && source.is_some_and(|a| !is_host_address(a) || self.is_local(a)))
            || outer.src_mac.is_some_and(|mac| !mac.is_unicast())
        {
            return refuse(None, DropReason::InvalidOuterSource);
        }
        if outer.dst.is_some_and(|a| !self.is_local(a)) {
            return refuse(None, DropReason::NotOurAddress);
        }
        let Some((index, config)) = self.known_vni(vni, memo) else {
            return refuse(None, DropReason::UnknownVni);
        };
        if peer.is_none() && config.accept == Accept::KnownVteps {
            return refuse(Some(index), DropReason::UnknownSource);
        }
        let frame = packet.get(outer.payload.clone()).unwrap_or(&[]);
        let mut mark = None;
        // ECT(0), the usual one, changes nothing inside (RFC 6040, section 4.2).
        if outer.ecn & ecn::ECT1 != 0 {
            match incoming_mark(frame, outer.ecn) {
                Ecn::Keep => {}
                Ecn::Set(field) => mark = Some(field),
                Ecn::Drop => return refuse(Some(index), DropReason::BadEcn),
            }
        }
        let mut macs = None;
        if config.mode == Mode::Bridged {
            trace.step(|| Step::ethernet(frame, outer.payload.start));
            match addresses(frame) {
                Ok(both) => macs = Some(both),
                Err(reason) => return refuse(Some(index), reason),
            }
        }
        // From nobody that has a name there is nothing to learn.
        let learn = config.learning
            && !outer.vxlan.group.is_some_and(|g| g.dont_learn)
            && (peer.is_some() || source.is_some());
        Ok(Arrival { peer, index, config, mark, macs, learn })
    }

    #[inline(always)]
    pub(crate) fn known_vni<'t>(
        &'t self,
        vni: Vni,
        memo: &mut Memo<'t>,
    ) -> Option<(VniIndex, &'t VniConfig)> {
        match memo.vni {
            Some((known, index, config)) if known == vni => Some((index, config)),
            _ => {
                let index = self.vnis.index_of(vni)?;
                let config = &self.vnis.get(index)?.config;
                memo.vni = Some((vni, index, config));
                Some((index, config))
            }
        }
    }

    #[inline(always)]
    pub(crate) fn known_vtep(&self, addr: IpAddr, memo: &mut Memo<'_>) -> Option<VtepId> {
        match memo.source {
            Some((known, vtep)) if known == addr => vtep,
            _ => {
                let vtep = self.vteps.by_addr(addr);
                memo.source = Some((addr, vtep));
                vtep
            }
        }
    }

    /// What the FDB knows of the source of a datagram that came from no known VTEP: whoever holds the
    /// address, it is not this newcomer.
    #[inline(never)]
    pub(crate) fn probe_newcomer(&self, now: Instant, vni: Vni, src: MacAddr) -> Probe {
        match self.fdb.entry(now, vni, src) {
            Some(e) if e.kind != EntryKind::Learned => Probe::Pinned,
            _ => Probe::Missing,
        }
    }

    /// Where a station behind this VTEP was seen. Over Ethernet a VTEP that came by itself is told anew: what goes to
    /// it goes where its packets come from now.
    #[inline(never)]
    pub(crate) fn behind(&self, peer: VtepId, frame: &Frame<'_>) -> Seen {
        let learned = self.vteps.get(peer).is_some_and(|v| v.origin == Origin::Learned);
        match self.config.shape == Shape::Ethernet && learned {
            true => self.newcomer(frame.source, frame.bytes()),
            false => Seen::Vtep(peer),
        }
    }

    /// Who sent a datagram that came from no known VTEP.
    #[inline(never)]
    pub(crate) fn newcomer(&self, source: Option<IpAddr>, packet: &[u8]) -> Seen {
        let outer = outer::parse(self.config.shape, packet, &self.policy).ok();
        let (src, src_mac) = outer.map_or((None, None), |o| (o.src, o.src_mac));
        Seen::Source {
            addr: src.or(source.map(|a| a.to_canonical())).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            mac: src_mac.unwrap_or(MacAddr::ZERO),
        }
    }

    /// How a datagram that was taken into that VNI leaves to the local side.
    #[inline]
    pub(crate) fn descend(&self, index: VniIndex, way: Way) -> Way {
        match way {
            Way::Tunnel(_) => Way::Drop(DropReason::SplitHorizon),
            Way::Flood if self.floods.ports(index).next().is_none() => Way::Drop(DropReason::NoFloodTarget),
            way => way,
        }
    }
}

/// Destination and source of a frame that may have VLAN tags, but not too many.
#[inline]
pub(crate) fn addresses(frame: &[u8]) -> Result<(MacAddr, MacAddr), DropReason> {
    EthernetHeader::parse(frame).map(|h| (h.dst, h.src)).map_err(|e| e.reason())
}

/// Whether an inner frame of `len` octets can go behind these headers, cut to segments of
/// `segment_len` if that is not 0.
#[inline(always)]
pub(crate) fn fits(template: &Template, len: usize, segment_len: usize) -> Result<(), DropReason> {
    let segment = if segment_len == 0 { len } else { segment_len.min(len) };
    if !template.fits_path(segment) {
        Err(DropReason::MtuExceeded)
    } else if len > template.max_inner() {
        Err(DropReason::TooLong)
    } else {
        Ok(())
    }
}

/// What the outer ECN field does to the inner one (RFC 6040, section 4.2). A frame that is not IP has none.
#[inline(never)]
fn incoming_mark(frame: &[u8], outer: u8) -> Ecn {
    match Inner::classify(frame).ok().and_then(|inner| inner.ecn()) {
        Some(inner) => ecn::decapsulate(inner, outer),
        None => Ecn::Keep,
    }
}
