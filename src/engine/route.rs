//! The part of the decision that a router makes.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::decide::Way;
use super::event::Event;
use super::explain::{Step, Trace};
use super::storage::Storage;
use super::tables::Tables;
use crate::addr::{MacAddr, NextHop, Vni};
use crate::error::{DropReason, PuntReason};
use crate::table::vni::{VniConfig, VniIndex};
use crate::wire::ecn;
use crate::wire::inner::{Inner, Network};
use crate::wire::reply;

/// A routed VNI.
#[derive(Clone, Copy)]
pub(crate) struct Domain<'t> {
    pub(crate) vni: Vni,
    pub(crate) index: VniIndex,
    pub(crate) config: &'t VniConfig,
    pub(crate) router_mac: MacAddr,
}

/// The change that routing makes to an inner frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rewrite {
    pub(crate) dst: MacAddr,
    pub(crate) src: MacAddr,
    /// Where the IP header starts.
    pub(crate) ip: usize,
    pub(crate) v6: bool,
}

/// What a router decides.
#[derive(Clone, Copy)]
pub(crate) struct Routed {
    pub(crate) way: Way,
    pub(crate) rewrite: Option<Rewrite>,
    pub(crate) miss: Option<Event>,
    pub(crate) flow_hash: u32,
    pub(crate) ecn: u8,
}

impl Default for Routed {
    fn default() -> Routed {
        Routed { way: Way::Drop(DropReason::Truncated), rewrite: None, miss: None, flow_hash: 0, ecn: 0 }
    }
}

impl<S: Storage> Tables<S> {
    /// Where a packet goes in a routed VNI, and what routing does to it (RFC 1812, section 5.2.1).
    #[inline(never)]
    pub(crate) fn route<T: Trace>(
        &self,
        domain: &Domain<'_>,
        local: bool,
        frame: &[u8],
        at: usize,
        trace: &mut T,
    ) -> Routed {
        let mut routed = Routed::default();
        routed.way = self.route_into(&mut routed, domain, local, frame, at, trace);
        routed
    }

    #[inline(always)]
    fn route_into<T: Trace>(
        &self,
        d: &mut Routed,
        domain: &Domain<'_>,
        local: bool,
        frame: &[u8],
        at: usize,
        trace: &mut T,
    ) -> Way {
        let Domain { vni, index, config, router_mac } = *domain;
        let inner = match Inner::classify(frame) {
            Ok(inner) => inner,
            Err(e) => {
                trace.step(|| Step::Unreadable(e.within(at)));
                return e.reason().into();
            }
        };
        trace.step(|| Step::Ethernet(inner.ethernet));
        (d.flow_hash, d.ecn) = (inner.flow_hash(0), ecn::encapsulate(inner.ecn().unwrap_or(0)));
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
        let (dst, way) = match found {
            None => {
                if config.notify_miss {
                    d.miss = Some(Event::NoRoute { vni, addr });
                }
                return DropReason::NoRoute.into();
            }
            Some(NextHop::Blackhole) => return DropReason::Blackhole.into(),
            Some(NextHop::Direct) => return PuntReason::DirectRoute.into(),
            Some(NextHop::Port(p)) => (self.ports.get(p).and_then(|p| p.config.peer_mac), Way::Port(p)),
            Some(NextHop::Vtep(v)) => (self.vteps.get(v).and_then(|v| v.config.inner_mac), Way::Tunnel(v)),
        };
        // Of what goes on alone: what ends here is not forwarded (RFC 1812, section 5.3.1).
        if ttl <= 1 {
            return PuntReason::TtlExpired.into();
        }
        let Some(dst) = dst else { return PuntReason::NoNeighbor.into() };
        trace.step(|| Step::Rewrite { dst, src: router_mac, ttl: ttl - 1 });
        d.rewrite = Some(Rewrite { dst, src: router_mac, ip, v6 });
        way
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
