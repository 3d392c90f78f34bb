//! Reading counters and tables.

use overlane::addr::{Destination, IpPrefix, Ipv4Prefix, Ipv6Prefix, NextHop, PortId, VtepId};
use overlane::engine::ScopeCounters;
use overlane::error::{DropReason, FdbError, PortError, PuntReason, RouteError, VniError, VtepError};
use overlane::table::{Mode, VniIndex};
use overlane::time::Instant;

use core::net::IpAddr;

use crate::convert;
use crate::failure::{Failure, Refusal};
use crate::raw::{Array, State, enter, overlane_engine};
use crate::status::{OVERLANE_E_END, OVERLANE_E_VTEP_UNKNOWN};
use crate::types::*;

const END: Failure = Failure::Status(OVERLANE_E_END);

/// Reads the counters of the whole engine. `counters->size` must be filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_counters_get(
    engine: *const overlane_engine,
    counters: *mut overlane_counters,
) -> i32 {
    enter!(engine, counters: sized_out => |s| {
        let c = s.engine.counters();
        counters.set(overlane_counters {
            size: 0,
            reserved: 0,
            encap_frames: c.encap_frames,
            decap_frames: c.decap_frames,
            to_underlay: c.to_underlay,
            to_port: c.to_port,
            flooded: c.flooded,
            punted: c.punts.total(),
            dropped: c.drops.total(),
            learned: c.learned,
            moved: c.moved,
            aged: c.aged,
            evicted: c.evicted,
            not_learned: c.not_learned,
            events_lost: c.events_lost,
        });
        Ok(())
    })
}

/// The counters of one VNI, VTEP or port.
fn scope(state: &State, scope: u8, id: u32) -> Result<&ScopeCounters, Refusal> {
    let narrow = |what| u16::try_from(id).map_err(|_| Failure::Value { what, value: id.into() });
    match scope {
        OVERLANE_SCOPE_VNI => {
            let vni = convert::vni(id)?;
            Ok(state.engine.vni_counters(vni).ok_or(VniError::Unknown(vni))?)
        }
        OVERLANE_SCOPE_VTEP => {
            let vtep = VtepId(narrow("vtep")?);
            Ok(state.engine.vtep_counters(vtep).ok_or(VtepError::Unknown(vtep))?)
        }
        OVERLANE_SCOPE_PORT => {
            let port = PortId(narrow("port")?);
            Ok(state.engine.port_counters(port).ok_or(PortError::Unknown(port))?)
        }
        value => Err(Failure::Value { what: "scope", value: value.into() }.into()),
    }
}

/// Reads the counters of one VNI, VTEP or port. `scope` is `OVERLANE_SCOPE_VNI`, `_VTEP` or `_PORT`,
/// `id` its number. `traffic->size` must be filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_traffic_get(
    engine: *const overlane_engine,
    scope: u8,
    id: u32,
    traffic: *mut overlane_traffic,
) -> i32 {
    enter!(engine, traffic: sized_out => |s| {
        traffic.set(convert::traffic(self::scope(s, scope, id)?));
        Ok(())
    })
}

/// Fills an array by number, and what has no number with zeros.
fn by_number(counts: &Array<'_, u64>, counted: impl Iterator<Item = (u8, u64)>) {
    for index in 0..counts.len() {
        counts.set(index, 0);
    }
    for (number, n) in counted {
        counts.set(usize::from(number), n);
    }
}

/// Fills `counts[r]` with how many were dropped for reason `r`, for every `r` below `len`; 256 is
/// enough for all. `scope` is `OVERLANE_SCOPE_*`, `id` the VNI, VTEP or port, not read for the engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_drops(
    engine: *const overlane_engine,
    scope: u8,
    id: u32,
    counts: *mut u64,
    len: usize,
) -> i32 {
    enter!(engine, counts: array(len) => |s| {
        let drops = match scope {
            OVERLANE_SCOPE_ENGINE => &s.engine.counters().drops,
            _ => &self::scope(s, scope, id)?.drops,
        };
        by_number(&counts, DropReason::ALL.iter().map(|r| (r.number(), drops.get(*r))));
        Ok(())
    })
}

/// Fills `counts[r]` with how many frames were punted for reason `r`, for every `r` below `len`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_punts(engine: *const overlane_engine, counts: *mut u64, len: usize) -> i32 {
    enter!(engine, counts: array(len) => |s| {
        let punts = &s.engine.counters().punts;
        by_number(&counts, PuntReason::ALL.iter().map(|r| (r.number(), punts.get(*r))));
        Ok(())
    })
}

/// The index of a VNI that exists.
fn index(state: &State, vni: u32) -> Result<VniIndex, Refusal> {
    let vni = convert::vni(vni)?;
    Ok(state.engine.tables().vnis().index_of(vni).ok_or(VniError::Unknown(vni))?)
}

/// Reads a VNI's settings. `config->size` must be filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_vni_get(
    engine: *const overlane_engine,
    vni: u32,
    config: *mut overlane_vni_config,
) -> i32 {
    enter!(engine, config: sized_out => |s| {
        let known = s.engine.tables().vnis().get(index(s, vni)?);
        config.set(known.ok_or(END)?.config.into());
        Ok(())
    })
}

/// Walks the VNIs: stores the next one in `*vni`, or gives `OVERLANE_E_END`. `*cursor` is 0 at first
/// and moves on; changes between the calls are seen or not, and nothing else goes wrong.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_vni_next(
    engine: *const overlane_engine,
    cursor: *mut u32,
    vni: *mut u32,
) -> i32 {
    enter!(engine, cursor: out, vni: out => |s| {
        let vnis = s.engine.tables().vnis();
        let mut rest = (cursor.get()..vnis.capacity() as u32).map(VniIndex);
        let (at, entry) = rest.find_map(|i| vnis.get(i).map(|entry| (i.0, entry))).ok_or(END)?;
        cursor.set(at + 1);
        vni.set(entry.vni.get());
        Ok(())
    })
}

/// What is known of a VTEP.
fn vtep(state: &State, id: VtepId) -> Option<overlane_vtep_info> {
    let learned = state.engine.tables().fdb().learned_by(Destination::Vtep(id));
    state.engine.vtep(id).map(|vtep| convert::vtep_info(id, vtep, learned))
}

/// Reads what is known of a VTEP: the address and port to send to. `info->size` must be filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_vtep_get(
    engine: *const overlane_engine,
    vtep: u16,
    info: *mut overlane_vtep_info,
) -> i32 {
    enter!(engine, info: sized_out => |s| {
        let id = VtepId(vtep);
        info.set(self::vtep(s, id).ok_or(VtepError::Unknown(id))?);
        Ok(())
    })
}

/// Finds the VTEP at an underlay address.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_vtep_find(
    engine: *const overlane_engine,
    addr: *const overlane_addr,
    vtep: *mut u16,
) -> i32 {
    enter!(engine, addr: value, vtep: out => |s| {
        let found = s.engine.tables().vteps().by_addr(addr.given()?);
        vtep.set(found.ok_or(Failure::Status(OVERLANE_E_VTEP_UNKNOWN))?.0);
        Ok(())
    })
}

/// Walks the VTEPs, as `overlane_vni_next` the VNIs. `info->size` must be filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_vtep_next(
    engine: *const overlane_engine,
    cursor: *mut u32,
    info: *mut overlane_vtep_info,
) -> i32 {
    enter!(engine, cursor: out, info: sized_out => |s| {
        let mut rest = cursor.get()..s.engine.tables().vteps().capacity() as u32;
        let found = rest.find_map(|i| self::vtep(s, VtepId(i as u16))).ok_or(END)?;
        cursor.set(u32::from(found.id) + 1);
        info.set(found);
        Ok(())
    })
}

/// What is known of a port.
fn port(state: &State, id: PortId) -> Option<overlane_port_info> {
    let learned = state.engine.tables().fdb().learned_by(Destination::Port(id));
    state.engine.tables().ports().get(id).map(|port| convert::port_info(id, port, learned))
}

/// Reads what is known of a port. `info->size` must be filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_port_get(
    engine: *const overlane_engine,
    port: u16,
    info: *mut overlane_port_info,
) -> i32 {
    enter!(engine, info: sized_out => |s| {
        let id = PortId(port);
        info.set(self::port(s, id).ok_or(PortError::Unknown(id))?);
        Ok(())
    })
}

/// Walks the ports, as `overlane_vni_next` the VNIs. `info->size` must be filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_port_next(
    engine: *const overlane_engine,
    cursor: *mut u32,
    info: *mut overlane_port_info,
) -> i32 {
    enter!(engine, cursor: out, info: sized_out => |s| {
        let mut rest = cursor.get()..s.engine.tables().ports().capacity() as u32;
        let found = rest.find_map(|i| self::port(s, PortId(i as u16))).ok_or(END)?;
        cursor.set(u32::from(found.id) + 1);
        info.set(found);
        Ok(())
    })
}

/// Walks the VTEPs of a VNI's flood list, as `overlane_vni_next` the VNIs. Each call takes time that
/// grows with its place on the list.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_flood_next(
    engine: *const overlane_engine,
    vni: u32,
    cursor: *mut u32,
    vtep: *mut u16,
) -> i32 {
    enter!(engine, cursor: out, vtep: out => |s| {
        let (at, index) = (cursor.get(), index(s, vni)?);
        let found = s.engine.tables().floods().vteps(index).nth(at as usize).ok_or(END)?;
        cursor.set(at.saturating_add(1));
        vtep.set(found.0);
        Ok(())
    })
}

/// Looks a MAC address up; one past its age is not found. `entry->size` must be filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_mac_get(
    engine: *const overlane_engine,
    now_ms: u64,
    vni: u32,
    mac: *const u8,
    entry: *mut overlane_mac_entry,
) -> i32 {
    enter!(engine, mac: mac, entry: sized_out => |s| {
        index(s, vni)?;
        let vni = convert::vni(vni)?;
        let found = s.engine.tables().fdb().entry(Instant::from_millis(now_ms), vni, mac);
        entry.set(convert::mac_entry(found.ok_or(FdbError::Unknown { vni, mac })?));
        Ok(())
    })
}

/// Walks the MAC addresses of all VNIs, in no order that means anything, those included that are past
/// their age and not yet swept; otherwise as `overlane_vni_next`. An entry that moves within the
/// table between the calls may be met twice or not at all. `entry->size` must be filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_mac_next(
    engine: *const overlane_engine,
    cursor: *mut u64,
    entry: *mut overlane_mac_entry,
) -> i32 {
    enter!(engine, cursor: out, entry: sized_out => |s| {
        let from = usize::try_from(cursor.get()).unwrap_or(usize::MAX);
        let (next, found) = s.engine.tables().fdb().iter_from(from).next().ok_or(END)?;
        cursor.set(next as u64);
        entry.set(convert::mac_entry(found));
        Ok(())
    })
}

/// The index of a routed VNI.
fn routed(state: &State, vni: u32) -> Result<VniIndex, Refusal> {
    let index = index(state, vni)?;
    match state.engine.tables().vnis().get(index).map(|entry| entry.config.mode) {
        Some(Mode::Routed { .. }) => Ok(index),
        _ => Err(RouteError::NotRouted(convert::vni(vni)?).into()),
    }
}

/// Reads the route of exactly this prefix. `route->size` must be filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_route_get(
    engine: *const overlane_engine,
    vni: u32,
    prefix: *const overlane_prefix,
    route: *mut overlane_route,
) -> i32 {
    enter!(engine, prefix: value, route: sized_out => |s| {
        let (index, prefix, tables) = (routed(s, vni)?, prefix.given()?, s.engine.tables());
        let hop = match prefix {
            IpPrefix::V4(p) => tables.routes_v4().get(index.0, p.addr(), p.len()),
            IpPrefix::V6(p) => tables.routes_v6().get(index.0, p.addr(), p.len()),
        };
        let hop = hop.ok_or(RouteError::Unknown { vni: convert::vni(vni)?, prefix })?;
        route.set(convert::route(prefix, hop));
        Ok(())
    })
}

/// Finds the longest matching route to an address; `OVERLANE_E_END` where none matches.
/// `route->size` must be filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_route_lookup(
    engine: *const overlane_engine,
    vni: u32,
    addr: *const overlane_addr,
    route: *mut overlane_route,
) -> i32 {
    enter!(engine, addr: value, route: sized_out => |s| {
        let (index, tables) = (routed(s, vni)?, s.engine.tables());
        let found: Option<(IpPrefix, NextHop)> = match addr.given()? {
            IpAddr::V4(a) => tables.routes_v4().lookup_prefix(index.0, a).and_then(v4),
            IpAddr::V6(a) => tables.routes_v6().lookup_prefix(index.0, a).and_then(v6),
        };
        let (prefix, hop) = found.ok_or(END)?;
        route.set(convert::route(prefix, hop));
        Ok(())
    })
}

fn v4((addr, len, hop): (core::net::Ipv4Addr, u8, NextHop)) -> Option<(IpPrefix, NextHop)> {
    Some((IpPrefix::V4(Ipv4Prefix::new(addr, len).ok()?), hop))
}

fn v6((addr, len, hop): (core::net::Ipv6Addr, u8, NextHop)) -> Option<(IpPrefix, NextHop)> {
    Some((IpPrefix::V6(Ipv6Prefix::new(addr, len).ok()?), hop))
}

/// Walks the routes of a routed VNI, IPv4 before IPv6, as `overlane_vni_next` the VNIs. Each call
/// takes time that grows with its place in the walk; changes between the calls may leave routes out
/// or give them twice. `route->size` must be filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_route_next(
    engine: *const overlane_engine,
    vni: u32,
    cursor: *mut u32,
    route: *mut overlane_route,
) -> i32 {
    enter!(engine, cursor: out, route: sized_out => |s| {
        let (at, index, tables) = (cursor.get(), routed(s, vni)?, s.engine.tables());
        let routes = tables.routes_v4().iter(index.0).filter_map(v4);
        let mut routes = routes.chain(tables.routes_v6().iter(index.0).filter_map(v6));
        let (prefix, hop) = routes.nth(at as usize).ok_or(END)?;
        cursor.set(at.saturating_add(1));
        route.set(convert::route(prefix, hop));
        Ok(())
    })
}
