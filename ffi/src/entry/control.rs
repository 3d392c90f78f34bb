//! Changes to an engine's tables: refused whole or done whole.

use overlane::addr::{Destination, PortId, VtepId};
use overlane::engine::{Change, Command, Engine, Heap};
use overlane::error::{FdbError, VniError};
use overlane::time::Instant;

use crate::convert;
use crate::failure::{Failure, Refusal};
use crate::raw::{enter, overlane_engine};
use crate::types::*;

/// Does a command for which time does not matter.
fn apply(engine: &mut Engine<Heap>, command: Command) -> Result<Change, Refusal> {
    Ok(engine.apply(Instant::ZERO, &command)?)
}

/// Adds a VNI, 0 to 0xffffff. `config` may be NULL: the defaults, a bridged VNI that learns and floods.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_vni_add(
    engine: *mut overlane_engine,
    vni: u32,
    config: *const overlane_vni_config,
) -> i32 {
    enter!(engine, config: sized_or_default => |s| {
        let (vni, config) = (convert::vni(vni)?, config.settings()?);
        apply(&mut s.engine, Command::AddVni { vni, config }).map(drop)
    })
}

/// Changes a VNI's settings. A change of mode forgets its addresses and routes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_vni_set(
    engine: *mut overlane_engine,
    vni: u32,
    config: *const overlane_vni_config,
) -> i32 {
    enter!(engine, config: sized => |s| {
        let (vni, config) = (convert::vni(vni)?, config.settings()?);
        apply(&mut s.engine, Command::SetVni { vni, config }).map(drop)
    })
}

/// Removes a VNI without ports, and its addresses, routes and flood list.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_vni_remove(engine: *mut overlane_engine, vni: u32) -> i32 {
    enter!(engine => |s| {
        let vni = convert::vni(vni)?;
        apply(&mut s.engine, Command::RemoveVni { vni }).map(drop)
    })
}

/// Adds a VTEP and stores its id in `*vtep`: the lowest that is free. One that was learned by
/// itself is taken over and keeps its id. In a full table one that was learned gives up its place,
/// rather one behind which nobody is left; the addresses behind it go too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_vtep_add(
    engine: *mut overlane_engine,
    config: *const overlane_vtep_config,
    vtep: *mut u16,
) -> i32 {
    enter!(engine, config: sized, vtep: out => |s| {
        let added = apply(&mut s.engine, Command::AddVtep(config.settings()?))?;
        vtep.set(added.vtep().unwrap_or_default().0);
        Ok(())
    })
}

/// Changes a VTEP's settings, its address included. One that was learned by itself is taken over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_vtep_set(
    engine: *mut overlane_engine,
    vtep: u16,
    config: *const overlane_vtep_config,
) -> i32 {
    enter!(engine, config: sized => |s| {
        let config = config.settings()?;
        apply(&mut s.engine, Command::SetVtep { vtep: VtepId(vtep), config }).map(drop)
    })
}

/// Removes a VTEP to which no route leads, the addresses behind it and its places on flood lists.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_vtep_remove(engine: *mut overlane_engine, vtep: u16) -> i32 {
    enter!(engine => |s| apply(&mut s.engine, Command::RemoveVtep { vtep: VtepId(vtep) }).map(drop))
}

/// Adds a local port, which joins its VNI's flood list, and stores its id in `*port`: the lowest
/// that is free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_port_add(
    engine: *mut overlane_engine,
    config: *const overlane_port_config,
    port: *mut u16,
) -> i32 {
    enter!(engine, config: sized, port: out => |s| {
        let added = apply(&mut s.engine, Command::AddPort(config.settings()?))?;
        port.set(added.port().unwrap_or_default().0);
        Ok(())
    })
}

/// Changes a port's settings. Its VNI cannot change.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_port_set(
    engine: *mut overlane_engine,
    port: u16,
    config: *const overlane_port_config,
) -> i32 {
    enter!(engine, config: sized => |s| {
        let config = config.settings()?;
        apply(&mut s.engine, Command::SetPort { port: PortId(port), config }).map(drop)
    })
}

/// Removes a port to which no route leads, and the addresses behind it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_port_remove(engine: *mut overlane_engine, port: u16) -> i32 {
    enter!(engine => |s| apply(&mut s.engine, Command::RemovePort { port: PortId(port) }).map(drop))
}

/// Adds a VTEP to a VNI's flood list. Ports join by themselves.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_flood_add(engine: *mut overlane_engine, vni: u32, vtep: u16) -> i32 {
    enter!(engine => |s| {
        let vni = convert::vni(vni)?;
        apply(&mut s.engine, Command::AddFlood { vni, vtep: VtepId(vtep) }).map(drop)
    })
}

/// Removes a VTEP from a VNI's flood list.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_flood_remove(engine: *mut overlane_engine, vni: u32, vtep: u16) -> i32 {
    enter!(engine => |s| {
        let vni = convert::vni(vni)?;
        apply(&mut s.engine, Command::RemoveFlood { vni, vtep: VtepId(vtep) }).map(drop)
    })
}

/// Sets where a MAC address of a VNI lives, replacing what was known; a routed VNI does not ask. `mac` is six octets,
/// `at_kind` `OVERLANE_AT_PORT` or `OVERLANE_AT_VTEP`, `kind` `OVERLANE_MAC_*`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_mac_add(
    engine: *mut overlane_engine,
    now_ms: u64,
    vni: u32,
    mac: *const u8,
    at_kind: u8,
    at: u16,
    kind: u8,
) -> i32 {
    enter!(engine, mac: mac => |s| {
        let at = convert::at(at_kind, at)?.ok_or(Failure::Value { what: "at_kind", value: 0 })?;
        let (vni, kind) = (convert::vni(vni)?, convert::entry_kind(kind)?);
        s.engine.apply(Instant::from_millis(now_ms), &Command::AddMac { vni, mac, at, kind })?;
        Ok(())
    })
}

/// Forgets a MAC address of six octets.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_mac_remove(engine: *mut overlane_engine, vni: u32, mac: *const u8) -> i32 {
    enter!(engine, mac: mac => |s| {
        let vni = convert::vni(vni)?;
        apply(&mut s.engine, Command::RemoveMac { vni, mac }).map(drop)
    })
}

/// Forgets the learned and sticky MAC addresses of a VNI (`OVERLANE_NONE`: of all) behind a port or
/// VTEP (`OVERLANE_AT_NONE`: behind any). `flushed` may be NULL, or is told how many there were.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_mac_flush(
    engine: *mut overlane_engine,
    vni: u32,
    at_kind: u8,
    at: u16,
    flushed: *mut u64,
) -> i32 {
    enter!(engine, flushed: optional_out => |s| {
        let vni = if vni == OVERLANE_NONE { None } else { Some(convert::vni(vni)?) };
        let at = convert::at(at_kind, at)?;
        let tables = s.engine.tables();
        if let Some(vni) = vni.filter(|vni| tables.vnis().index_of(*vni).is_none()) {
            return Err(VniError::Unknown(vni).into());
        }
        let exists = match at {
            Some(Destination::Port(p)) => tables.ports().get(p).is_some(),
            Some(Destination::Vtep(v)) => tables.vteps().get(v).is_some(),
            None => true,
        };
        if let Some(at) = at.filter(|_| !exists) {
            return Err(FdbError::NoDestination(at).into());
        }
        let change = apply(&mut s.engine, Command::FlushMacs { vni, at })?;
        if let (Some(flushed), Change::Flushed(n)) = (&mut flushed, change) {
            flushed.set(n as u64);
        }
        Ok(())
    })
}

/// Adds a route to a routed VNI, replacing one of the same prefix. `at_kind` is `OVERLANE_AT_PORT`,
/// `_VTEP`, `_DIRECT` or `_BLACKHOLE`; `at` is read for the first two.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_route_add(
    engine: *mut overlane_engine,
    vni: u32,
    prefix: *const overlane_prefix,
    at_kind: u8,
    at: u16,
) -> i32 {
    enter!(engine, prefix: value => |s| {
        let (vni, prefix, next_hop) = (convert::vni(vni)?, prefix.given()?, convert::hop(at_kind, at)?);
        apply(&mut s.engine, Command::AddRoute { vni, prefix, next_hop }).map(drop)
    })
}

/// Removes a route.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_route_remove(
    engine: *mut overlane_engine,
    vni: u32,
    prefix: *const overlane_prefix,
) -> i32 {
    enter!(engine, prefix: value => |s| {
        let (vni, prefix) = (convert::vni(vni)?, prefix.given()?);
        apply(&mut s.engine, Command::RemoveRoute { vni, prefix }).map(drop)
    })
}
