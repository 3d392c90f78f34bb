//! The slow path: what the engine does not answer itself.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::carry::{Io, Origin, address};
use crate::addr::{MacAddr, NextHop, Vni};
use crate::engine::{Heap, Tables};
use crate::error::{DropReason, PuntReason};
use crate::table::vni::Mode;
use crate::time::Instant;
use crate::wire::ethernet;
use crate::wire::inner::{Inner, Network};
use crate::wire::reply;
use crate::wire::vxlan::VxlanHeader;

/// ICMP errors that may be sent at once, and in a millisecond after that (RFC 4443, section 2.4 f;
/// the limits are those of Linux, `icmp_msgs_burst` and `icmp_msgs_per_sec`).
const BURST: u64 = 50;
const PER_MILLISECOND: u64 = 1;

/// The source of ICMPv4 errors of a node without an IPv4 address (RFC 7600, section 4.8).
const DUMMY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// The router as pods see it, and how many ICMP errors it may still send.
pub(super) struct SlowPath {
    pub(super) gateway_v4: Option<Ipv4Addr>,
    pub(super) gateway_v6: Option<Ipv6Addr>,
    tokens: u64,
    refilled: Instant,
}

impl Default for SlowPath {
    fn default() -> SlowPath {
        SlowPath { gateway_v4: None, gateway_v6: None, tokens: BURST, refilled: Instant::ZERO }
    }
}

impl SlowPath {
    fn may_send_error(&mut self, now: Instant) -> bool {
        let passed = now.saturating_since(self.refilled).as_millis();
        let earned = u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(PER_MILLISECOND);
        self.tokens = self.tokens.saturating_add(earned).min(BURST);
        self.refilled = now;
        let allowed = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        allowed
    }

    fn is_gateway(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(a) => self.gateway_v4 == Some(a),
            IpAddr::V6(a) => self.gateway_v6 == Some(a),
        }
    }

    fn gateway(&self, v6: bool) -> Option<IpAddr> {
        if v6 { self.gateway_v6.map(IpAddr::V6) } else { self.gateway_v4.map(IpAddr::V4) }
    }

    /// Where ICMP errors about a packet of this family come from.
    fn error_source(&self, tables: &Tables<Heap>, v6: bool) -> Option<IpAddr> {
        let config = tables.config();
        let own = || match v6 {
            true => config.local_v6.map(IpAddr::V6),
            false => Some(IpAddr::V4(config.local_v4.unwrap_or(DUMMY_V4))),
        };
        self.gateway(v6).or_else(own)
    }
}

impl Io {
    /// Answers a punted frame where an answer is due; why it was dropped, where one was due and could
    /// not be given. ARP and neighbour discovery that are not for us end here without a count: the
    /// engine counted the punt.
    pub(super) fn punt(
        &mut self,
        tables: &Tables<Heap>,
        now: Instant,
        (frame, vni, flow): (&[u8], Option<Vni>, u32),
        from: Origin,
        reason: PuntReason,
    ) -> Option<DropReason> {
        let (vni, mac) = router(tables, vni)?;
        let mut answer = [0; reply::MAX_LEN];
        let len = match reason {
            PuntReason::Arp => {
                let len = reply::arp_reply(frame, mac, &mut answer)?;
                self.stands_in(tables, vni, from, answer.get(..len)?)?;
                len
            }
            PuntReason::NeighborDiscovery => {
                let len = reply::neighbor_advertisement(frame, mac, &mut answer)?;
                self.stands_in(tables, vni, from, answer.get(..len)?)?;
                len
            }
            PuntReason::TtlExpired | PuntReason::TooBig => {
                match self.error(tables, (vni, mac), frame, reason, &mut answer) {
                    Ok(len) if self.slow.may_send_error(now) => len,
                    Ok(_) => {
                        self.counters.answers_limited = self.counters.answers_limited.wrapping_add(1);
                        return Some(DropReason::NotHandled);
                    }
                    Err(drop) => return Some(drop),
                }
            }
            PuntReason::DirectRoute | PuntReason::NoNeighbor => return Some(DropReason::NotHandled),
        };
        let answer = answer.get(..len)?;
        let lost = match from {
            Origin::Port(port) => self.write(port, answer, None),
            Origin::Underlay(addr) => {
                let vteps = tables.vteps();
                let to = vteps.by_addr(addr).and_then(|id| vteps.get(id)).map(address);
                self.send(to, &[&VxlanHeader::emit(vni, None), answer], 0, flow)
            }
        };
        if lost.is_none() {
            self.counters.answered = self.counters.answered.wrapping_add(1);
        }
        lost
    }

    /// Whether the router answers for the address that `answer`, an ARP reply or a neighbour
    /// advertisement, speaks of: its own, or one that a route leads to and that is not where the
    /// question came from.
    fn stands_in(&self, tables: &Tables<Heap>, vni: Vni, from: Origin, answer: &[u8]) -> Option<()> {
        let addr = match Inner::classify(answer).ok()?.network {
            Network::Arp(arp) => IpAddr::V4(arp.sender_ip),
            Network::Ipv6(ip, _) => IpAddr::V6(ip.src),
            _ => return None,
        };
        // No route leads to a link-local address (RFC 4291, section 2.5.6), not even the default one.
        let link_local = matches!(addr, IpAddr::V6(a) if a.is_unicast_link_local());
        if link_local && !self.slow.is_gateway(addr) {
            return None;
        }
        let answered = self.slow.is_gateway(addr)
            || match (route(tables, vni, addr)?, from) {
                (NextHop::Vtep(_), _) => true,
                (NextHop::Port(to), Origin::Port(asking)) => to != asking,
                _ => false,
            };
        answered.then_some(())
    }

    /// Writes the ICMP error that is due about a frame.
    fn error(
        &self,
        tables: &Tables<Heap>,
        (vni, mac): (Vni, MacAddr),
        frame: &[u8],
        reason: PuntReason,
        out: &mut [u8],
    ) -> Result<usize, DropReason> {
        let inner = Inner::classify(frame).map_err(|e| e.reason())?;
        let (dst, v6) = match inner.network {
            Network::Ipv4(ip) => (IpAddr::V4(ip.dst), false),
            Network::Ipv6(ip, _) => (IpAddr::V6(ip.dst), true),
            _ => return Err(DropReason::NotHandled),
        };
        if reason == PuntReason::TtlExpired {
            let from = self.slow.error_source(tables, v6).ok_or(DropReason::NotHandled)?;
            // No answer may be due: about an ICMP error, to a group.
            return reply::time_exceeded(frame, mac, from, out).ok_or(DropReason::NotHandled);
        }
        let Some(NextHop::Vtep(vtep)) = route(tables, vni, dst) else { return Err(DropReason::NotHandled) };
        let vtep = tables.vteps().get(vtep).ok_or(DropReason::NotHandled)?;
        let tags = inner.ethernet.payload_offset.saturating_sub(ethernet::HEADER_LEN as u16);
        let mtu = vtep.config.inner_mtu().ok_or(DropReason::NotHandled)?.saturating_sub(tags);
        // Nothing arrives that should and this does not, so not from the underlay address: a machine that has
        // device and socket takes nothing from its own addresses.
        let from = self.slow.gateway(v6).unwrap_or(dst);
        reply::packet_too_big(frame, mac, from, mtu.into(), out).ok_or(DropReason::MtuExceeded)
    }
}

/// A routed VNI and its router MAC.
fn router(tables: &Tables<Heap>, vni: Option<Vni>) -> Option<(Vni, MacAddr)> {
    let vni = vni?;
    let vnis = tables.vnis();
    match vnis.get(vnis.index_of(vni)?)?.config.mode {
        Mode::Routed { router_mac } => Some((vni, router_mac)),
        Mode::Bridged => None,
    }
}

fn route(tables: &Tables<Heap>, vni: Vni, addr: IpAddr) -> Option<NextHop> {
    let table = tables.vnis().index_of(vni)?.0;
    match addr {
        IpAddr::V4(a) => tables.routes_v4().lookup(table, a),
        IpAddr::V6(a) => tables.routes_v6().lookup(table, a),
    }
}
