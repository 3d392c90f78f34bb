//! The one decision: what becomes of a frame, and why.
//!
//! Nothing here changes a table, a counter or a packet. The data path carries a decision out; the
//! explanation prints the same steps.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::Range;

use super::context::{Note, Seen};
use super::event::Event;
use super::explain::{Step, Trace};
use super::frame::Verdict;
use super::storage::Storage;
use super::tables::Tables;
use crate::addr::{Destination, MacAddr, NextHop, PortId, Vni, VtepId};
use crate::error::{DropReason, PuntReason};
use crate::table::fdb::{EntryKind, Probe};
use crate::table::port::Port;
use crate::table::vni::{Accept, Mode, VniConfig, VniIndex};
use crate::table::vtep::Vtep;
use crate::time::Instant;
use crate::wire::ecn::{self, Ecn};
use crate::wire::ethernet::EthernetHeader;
use crate::wire::inner::{Flow, Inner, Network};
use crate::wire::outer::{self, Outer, Shape};
use crate::wire::reply;
use crate::wire::template::Template;
use crate::wire::vxlan::GroupPolicy;

use super::config::is_host_address;

/// The change that routing makes to an inner frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rewrite {
    pub(crate) dst: MacAddr,
    pub(crate) src: MacAddr,
    /// Where the IP header starts.
    pub(crate) ip: usize,
    pub(crate) v6: bool,
}

/// What becomes of a frame.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    pub(crate) verdict: Verdict,
    pub(crate) vni: Option<Vni>,
    pub(crate) index: Option<VniIndex>,
    /// The VTEP that it came from, or would have gone to.
    pub(crate) peer: Option<VtepId>,
    pub(crate) note: Option<Note>,
    pub(crate) rewrite: Option<Rewrite>,
    pub(crate) miss: Option<Event>,
    pub(crate) group: Option<GroupPolicy>,
    pub(crate) flow_hash: u32,
    pub(crate) ecn: u8,
    /// Decapsulation: where the inner frame lies.
    pub(crate) payload: Range<usize>,
    /// Decapsulation: the ECN field to write into the inner IP header.
    pub(crate) mark: Option<u8>,
}

impl Decision {
    fn new() -> Decision {
        Decision {
            verdict: Verdict::Drop(DropReason::Truncated),
            vni: None,
            index: None,
            peer: None,
            note: None,
            rewrite: None,
            miss: None,
            group: None,
            flow_hash: 0,
            ecn: 0,
            payload: 0..0,
            mark: None,
        }
    }
}

/// The time of a batch, and what the frame before has just found out: the tables do not change
/// within a batch, and frames that follow each other are often of one flow.
#[derive(Debug)]
pub(crate) struct Memo {
    now: Instant,
    vni: Option<(Vni, VniIndex)>,
    source: Option<(IpAddr, Option<VtepId>)>,
    /// An address that need not be learned.
    fresh: Option<(Vni, MacAddr, Destination)>,
}

impl Memo {
    pub(crate) fn new(now: Instant) -> Memo {
        Memo { now, vni: None, source: None, fresh: None }
    }
}

/// Where a frame is to go, before the outer header is thought of.
enum Way {
    Port(PortId),
    Tunnel(VtepId),
    Flood,
    End(Verdict),
}

impl From<DropReason> for Way {
    fn from(reason: DropReason) -> Way {
        Way::End(Verdict::Drop(reason))
    }
}

impl From<PuntReason> for Way {
    fn from(reason: PuntReason) -> Way {
        Way::End(Verdict::Punt(reason))
    }
}

impl<S: Storage> Tables<S> {
    /// What becomes of a frame from a local port.
    #[inline]
    pub(crate) fn decide_encap<T: Trace>(
        &self,
        port_id: PortId,
        port: &Port,
        frame: &[u8],
        segment_len: usize,
        memo: &mut Memo,
        trace: &mut T,
    ) -> Decision {
        let mut d = Decision::new();
        let (vni, index) = (port.config.vni, port.vni_index);
        (d.vni, d.index) = (Some(vni), Some(index));
        trace.step(|| Step::FromPort { port: port_id, vni });
        let Some(config) = self.vnis.get(index).map(|e| &e.config) else {
            d.verdict = Verdict::Drop(DropReason::UnknownVni);
            return d;
        };
        d.group = config.group_policy.map(|id| GroupPolicy { id, ..GroupPolicy::default() });
        let seen = Seen::Port(port_id);
        let way = match config.mode {
            Mode::Bridged => match Flow::of(frame, 0) {
                Ok(flow) => {
                    trace.step(|| Step::ethernet(frame, 0));
                    (d.flow_hash, d.ecn) = (flow.hash, ecn::encapsulate(flow.ecn));
                    let learn = config.learning && port.config.learning;
                    self.bridge(vni, config, (flow.dst, flow.src), seen, learn, &mut d, memo, trace)
                }
                Err(e) => {
                    trace.step(|| Step::Unreadable(e));
                    e.reason().into()
                }
            },
            Mode::Routed { router_mac } => self.route(index, config, router_mac, frame, seen, &mut d, trace),
        };
        d.verdict = match way {
            Way::End(verdict) => verdict,
            Way::Port(p) if p == port_id => Verdict::Drop(DropReason::SamePort),
            Way::Port(p) => Verdict::ToPort(p),
            Way::Flood => {
                let ports = self.floods.ports(index).any(|p| p != port_id);
                if ports || self.floods.vteps(index).next().is_some() {
                    Verdict::Flood(vni)
                } else {
                    Verdict::Drop(DropReason::NoFloodTarget)
                }
            }
            Way::Tunnel(v) => {
                d.peer = Some(v);
                let len = if segment_len == 0 { frame.len() } else { segment_len.min(frame.len()) };
                match self.vteps.get(v).zip(self.template(v)) {
                    None => Verdict::Drop(DropReason::NoLocalAddress),
                    Some((vtep, template)) => {
                        trace.step(|| Step::Tunnel {
                            vtep: v,
                            remote: vtep.config.addr,
                            port: vtep.config.port,
                        });
                        if !fits_mtu(vtep, template, len) {
                            match d.rewrite {
                                Some(_) => Verdict::Punt(PuntReason::TooBig),
                                None => Verdict::Drop(DropReason::MtuExceeded),
                            }
                        } else if !fits_length(template, frame.len()) {
                            Verdict::Drop(DropReason::TooLong)
                        } else {
                            Verdict::ToUnderlay(v)
                        }
                    }
                }
            }
        };
        d
    }

    /// What becomes of a datagram from the underlay.
    #[inline]
    pub(crate) fn decide_decap<T: Trace>(
        &self,
        source: Option<IpAddr>,
        ecn: u8,
        packet: &[u8],
        memo: &mut Memo,
        trace: &mut T,
    ) -> Decision {
        let mut d = Decision::new();
        let mut outer = match outer::parse(self.config.shape, packet, &self.policy) {
            Ok(outer) => outer,
            Err(e) => {
                trace.step(|| Step::Unreadable(e));
                d.verdict = Verdict::Drop(e.reason());
                return d;
            }
        };
        if self.config.shape == Shape::Udp {
            outer.ecn = ecn;
        }
        let vni = outer.vxlan.vni;
        (d.vni, d.group, d.payload) = (Some(vni), outer.vxlan.group, outer.payload.clone());
        // A socket may speak of IPv4 as mapped; an outer header that does is forged.
        let source = outer.src.or(source.map(|a| a.to_canonical()));
        d.peer = source.filter(|a| a.to_canonical() == *a).and_then(|a| self.known_vtep(a, memo));
        trace.step(|| Step::FromUnderlay { source, vtep: d.peer, vni });
        let frame = packet.get(outer.payload.clone()).unwrap_or(&[]);
        d.verdict = match self.accept_decap(source, &outer, frame, &mut d, memo, trace) {
            Way::End(verdict) => verdict,
            Way::Port(p) => Verdict::ToPort(p),
            Way::Tunnel(_) => Verdict::Drop(DropReason::SplitHorizon),
            Way::Flood => match d.index.and_then(|i| self.floods.ports(i).next()) {
                Some(_) => Verdict::Flood(vni),
                None => Verdict::Drop(DropReason::NoFloodTarget),
            },
        };
        d
    }

    #[inline]
    fn accept_decap<T: Trace>(
        &self,
        source: Option<IpAddr>,
        outer: &Outer,
        frame: &[u8],
        d: &mut Decision,
        memo: &mut Memo,
        trace: &mut T,
    ) -> Way {
        if source.is_some_and(|a| !is_host_address(a) || self.is_local(a))
            || outer.src_mac.is_some_and(|mac| !mac.is_unicast())
        {
            return DropReason::InvalidOuterSource.into();
        }
        if outer.dst.is_some_and(|a| !self.is_local(a)) {
            return DropReason::NotOurAddress.into();
        }
        let vni = outer.vxlan.vni;
        let Some(index) = self.known_vni(vni, memo) else { return DropReason::UnknownVni.into() };
        d.index = Some(index);
        let Some(config) = self.vnis.get(index).map(|e| &e.config) else {
            return DropReason::UnknownVni.into();
        };
        let seen = match (d.peer, source) {
            (Some(vtep), _) => Some(Seen::Vtep(vtep)),
            (None, _) if config.accept == Accept::KnownVteps => return DropReason::UnknownSource.into(),
            (None, Some(addr)) => Some(Seen::Source { addr, mac: outer.src_mac.unwrap_or(MacAddr::ZERO) }),
            (None, None) => None,
        };
        if outer.ecn != 0 {
            match incoming_mark(frame, outer.ecn) {
                Ecn::Keep => {}
                Ecn::Set(field) => d.mark = Some(field),
                Ecn::Drop => return DropReason::BadEcn.into(),
            }
        }
        let learn = seen.is_some() && !outer.vxlan.group.is_some_and(|g| g.dont_learn);
        // From nobody that has a name there is nothing to learn.
        let seen =
            seen.unwrap_or(Seen::Source { addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED), mac: MacAddr::ZERO });
        match config.mode {
            Mode::Bridged => match EthernetHeader::parse(frame) {
                Ok(ethernet) => {
                    trace.step(|| Step::Ethernet(ethernet));
                    let macs = (ethernet.dst, ethernet.src);
                    self.bridge(vni, config, macs, seen, learn && config.learning, d, memo, trace)
                }
                Err(e) => {
                    trace.step(|| Step::Unreadable(e.inner().within(outer.payload.start)));
                    e.reason().into()
                }
            },
            Mode::Routed { router_mac } => self.route(index, config, router_mac, frame, seen, d, trace),
        }
    }

    #[inline(always)]
    fn known_vni(&self, vni: Vni, memo: &mut Memo) -> Option<VniIndex> {
        match memo.vni {
            Some((known, index)) if known == vni => Some(index),
            _ => {
                let index = self.vnis.index_of(vni)?;
                memo.vni = Some((vni, index));
                Some(index)
            }
        }
    }

    #[inline(always)]
    fn known_vtep(&self, addr: IpAddr, memo: &mut Memo) -> Option<VtepId> {
        match memo.source {
            Some((known, vtep)) if known == addr => vtep,
            _ => {
                let vtep = self.vteps.by_addr(addr);
                memo.source = Some((addr, vtep));
                vtep
            }
        }
    }

    /// Where a frame goes in a bridged VNI: IEEE 802.1Q-2018, section 8.6, over tunnels.
    #[allow(clippy::too_many_arguments)] // each caller has read only these facts of the frame
    #[inline(always)]
    fn bridge<T: Trace>(
        &self,
        vni: Vni,
        config: &VniConfig,
        (dst, src): (MacAddr, MacAddr),
        seen: Seen,
        learn: bool,
        d: &mut Decision,
        memo: &mut Memo,
        trace: &mut T,
    ) -> Way {
        if !src.is_unicast() {
            return DropReason::InvalidSourceMac.into();
        }
        let at = match seen {
            Seen::Port(p) => Some(Destination::Port(p)),
            Seen::Vtep(v) => Some(Destination::Vtep(v)),
            Seen::Source { .. } => None,
        };
        let known = match at {
            Some(at) if memo.fresh == Some((vni, src, at)) => Probe::Fresh,
            Some(at) => {
                let known = self.fdb.probe(memo.now, vni, src, at);
                if known == Probe::Fresh {
                    memo.fresh = Some((vni, src, at));
                }
                known
            }
            // Whoever holds the address, it is not this newcomer.
            None => match self.fdb.entry(memo.now, vni, src) {
                Some(e) if e.kind != EntryKind::Learned => Probe::Pinned,
                _ => Probe::Missing,
            },
        };
        match known {
            Probe::Pinned => return DropReason::MacPinned.into(),
            Probe::Fresh => {}
            Probe::Stale | Probe::Moved | Probe::Missing if learn => {
                trace.step(|| Step::Learn { mac: src, known });
                d.note = Some(Note { vni, mac: Some(src), seen, epoch: self.epoch });
            }
            _ => {}
        }
        if dst.is_multicast() {
            trace.step(|| Step::Group { mac: dst });
            return Way::Flood;
        }
        let found = self.fdb.lookup(memo.now, vni, dst);
        trace.step(|| Step::Lookup { mac: dst, found });
        match found {
            Some(Destination::Port(p)) => Way::Port(p),
            Some(Destination::Vtep(v)) => Way::Tunnel(v),
            None => {
                if config.notify_miss {
                    d.miss = Some(Event::UnknownMac { vni, mac: dst });
                }
                if config.flood_unknown { Way::Flood } else { DropReason::UnknownMac.into() }
            }
        }
    }

    /// Where a packet goes in a routed VNI, and what routing does to it (RFC 1812, section 5.2.1).
    #[allow(clippy::too_many_arguments)]
    #[inline(never)]
    fn route<T: Trace>(
        &self,
        index: VniIndex,
        config: &VniConfig,
        router_mac: MacAddr,
        frame: &[u8],
        seen: Seen,
        d: &mut Decision,
        trace: &mut T,
    ) -> Way {
        let inner = match Inner::classify(frame) {
            Ok(inner) => inner,
            Err(e) => {
                trace.step(|| Step::Unreadable(e.within(d.payload.start)));
                return e.reason().into();
            }
        };
        trace.step(|| Step::Ethernet(inner.ethernet));
        (d.flow_hash, d.ecn) = (inner.flow_hash(0), ecn::encapsulate(inner.ecn().unwrap_or(0)));
        let local = matches!(seen, Seen::Port(_));
        if !inner.ethernet.src.is_unicast() {
            return DropReason::InvalidSourceMac.into();
        }
        if inner.ethernet.src == router_mac {
            return DropReason::OwnSourceMac.into();
        }
        let for_router = inner.ethernet.dst == router_mac;
        // Address resolution is answered on the local side only; over the tunnel it is configured.
        match inner.network {
            Network::Arp(_) if local => return PuntReason::Arp.into(),
            Network::Ipv6(..) if local && reply::is_neighbor_discovery(&inner, frame) => {
                return PuntReason::NeighborDiscovery.into();
            }
            _ if !for_router => return DropReason::NotForRouter.into(),
            _ => {}
        }
        let ip = usize::from(inner.ethernet.payload_offset);
        let (ttl, found, addr, v6) = match inner.network {
            Network::Ipv4(h) => {
                if !crate::wire::ipv4::verify_checksum(frame.get(ip..).unwrap_or(&[])) {
                    return DropReason::BadChecksum.into();
                }
                if !is_forwarded_v4(h.src) || !is_forwarded_v4(h.dst) {
                    return DropReason::NotForwardable.into();
                }
                (h.ttl, self.routes_v4.lookup(index.0, h.dst), IpAddr::V4(h.dst), false)
            }
            Network::Ipv6(h, _) => {
                if !is_forwarded_v6(h.src) || !is_forwarded_v6(h.dst) {
                    return DropReason::NotForwardable.into();
                }
                (h.hop_limit, self.routes_v6.lookup(index.0, h.dst), IpAddr::V6(h.dst), true)
            }
            Network::Malformed(e) => return e.reason().into(),
            Network::Arp(_) | Network::None => return DropReason::NotIp.into(),
        };
        trace.step(|| Step::Route { addr, found });
        if ttl <= 1 {
            return PuntReason::TtlExpired.into();
        }
        let (dst, way) = match found {
            None => {
                if let (true, Some(vni)) = (config.notify_miss, d.vni) {
                    d.miss = Some(Event::NoRoute { vni, addr });
                }
                return DropReason::NoRoute.into();
            }
            Some(NextHop::Blackhole) => return DropReason::Blackhole.into(),
            Some(NextHop::Direct) => return PuntReason::DirectRoute.into(),
            Some(NextHop::Port(p)) => (self.ports.get(p).and_then(|p| p.config.peer_mac), Way::Port(p)),
            Some(NextHop::Vtep(v)) => (self.vteps.get(v).and_then(|v| v.config.inner_mac), Way::Tunnel(v)),
        };
        let Some(dst) = dst else { return PuntReason::NoNeighbor.into() };
        let rewrite = Rewrite { dst, src: router_mac, ip, v6 };
        trace.step(|| Step::Rewrite { dst, src: router_mac, ttl: ttl - 1 });
        d.rewrite = Some(rewrite);
        way
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

/// Whether a router forwards packets from and to this address (RFC 1122, section 3.2.1.3; RFC 1812,
/// section 5.3.7). The former class E and 169.254/16 pass, as in Linux: both are in use behind routes.
#[inline]
fn is_forwarded_v4(addr: Ipv4Addr) -> bool {
    !matches!(addr.octets(), [0 | 127 | 224..=239, ..] | [255, 255, 255, 255])
}

/// The same for IPv6 (RFC 4291, sections 2.5.2, 2.5.3, 2.5.6 and 2.7; there is no multicast routing here).
#[inline]
fn is_forwarded_v6(addr: Ipv6Addr) -> bool {
    !(addr.is_unspecified() || addr.is_loopback() || addr.is_multicast() || addr.is_unicast_link_local())
}

/// Whether an inner frame of `len` octets, encapsulated, fits the VTEP's MTU.
#[inline]
pub(crate) fn fits_mtu(vtep: &Vtep, template: &Template, len: usize) -> bool {
    let mtu = usize::from(vtep.config.mtu);
    mtu == 0 || len.saturating_add(template.overhead()) <= mtu
}

/// Whether the length fields of the outer headers can say it.
#[inline]
pub(crate) fn fits_length(template: &Template, len: usize) -> bool {
    len <= template.max_inner()
}
