//! The data path, time, events and explanations.

use core::ffi::c_char;

use overlane::addr::PortId;
use overlane::engine::{Frame, HEADROOM};
use overlane::error::{DropReason, PortError, VniError};
use overlane::time::Instant;

use crate::batch::{self, InArena, Way};
use crate::convert;
use crate::failure::Failure;
use crate::raw::{enter, overlane_engine};
use crate::status::OVERLANE_E_END;
use crate::types::*;

const _: () = assert!(OVERLANE_HEADROOM as usize == HEADROOM);

/// Decides what becomes of `count` frames from a local port.
///
/// Each descriptor names a frame in the `arena_len` octets at `arena`; the `headroom` octets before
/// it belong to it too, and outer headers are written there (`OVERLANE_HEADROOM` is always enough).
/// Afterwards each descriptor has a verdict and says where the packet now is. `metas` is NULL or has
/// an element for each descriptor.
///
/// Packets in ascending order of their offsets are worked on together, and others one by one, in
/// the order of the descriptors. So packets that overlap destroy each other and nothing else.
///
/// `OVERLANE_E_RANGE`, or a status for another field: no packet was looked at.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_encap_arena(
    engine: *mut overlane_engine,
    now_ms: u64,
    port: u16,
    arena: *mut u8,
    arena_len: usize,
    headroom: u32,
    descs: *mut overlane_desc,
    metas: *mut overlane_meta,
    count: usize,
) -> i32 {
    enter!(engine, arena: arena(arena_len), descs: array(count), metas: optional_array(count) => |s| {
        let (arena, mut turn) = arena;
        let packets = InArena { arena, headroom: headroom as usize, descs, metas };
        batch::run_arena(&mut s.engine, now_ms, Way::Encap(PortId(port)), packets, &mut turn)
    })
}

/// Decides what becomes of `count` packets from the underlay, as `overlane_encap_arena` does for
/// frames; no headroom is needed.
///
/// `source`, which may be NULL, is the underlay address of every packet whose element of `metas`
/// states none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_decap_arena(
    engine: *mut overlane_engine,
    now_ms: u64,
    arena: *mut u8,
    arena_len: usize,
    descs: *mut overlane_desc,
    metas: *mut overlane_meta,
    count: usize,
    source: *const overlane_addr,
) -> i32 {
    enter!(
        engine, arena: arena(arena_len), descs: array(count), metas: optional_array(count), source: optional
            => |s| {
        let source = source.map(|a| a.stated()).transpose()?.flatten();
        let (arena, mut turn) = arena;
        let packets = InArena { arena, headroom: 0, descs, metas };
        batch::run_arena(&mut s.engine, now_ms, Way::Decap(source), packets, &mut turn)
    })
}

/// As `overlane_encap_arena`, for frames in buffers of their own. What lies before a frame in its
/// buffer is its headroom.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_encap_buffers(
    engine: *mut overlane_engine,
    now_ms: u64,
    port: u16,
    buffers: *mut overlane_buffer,
    count: usize,
) -> i32 {
    enter!(engine, buffers: buffers(count) => |s| {
        let (packets, mut turn) = buffers;
        batch::run(&mut s.engine, now_ms, Way::Encap(PortId(port)), &packets, &mut turn)
    })
}

/// As `overlane_decap_arena`, for packets in buffers of their own, each of which states its source
/// in `meta`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_decap_buffers(
    engine: *mut overlane_engine,
    now_ms: u64,
    buffers: *mut overlane_buffer,
    count: usize,
) -> i32 {
    enter!(engine, buffers: buffers(count) => |s| {
        let (packets, mut turn) = buffers;
        batch::run(&mut s.engine, now_ms, Way::Decap(None), &packets, &mut turn)
    })
}

/// The copies of a frame whose verdict was `OVERLANE_VERDICT_FLOOD`: to every local port of its VNI
/// but the one it came from, and, if it came from a port, to every VTEP on the VNI's flood list.
///
/// `port` is the port it came from, `OVERLANE_NONE` the underlay. `frame` is the packet as its
/// descriptor says, `meta` what was given with it, or NULL. Fills up to `capacity` elements of
/// `replicas` and stores their number in `*count`; 0 is the end. `*cursor` is 0 at first and moves on.
/// Changes to the engine between the calls of one walk may leave copies out or give them twice.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_replicas(
    engine: *const overlane_engine,
    vni: u32,
    port: u32,
    frame: *mut u8,
    len: usize,
    meta: *const overlane_meta,
    cursor: *mut u32,
    replicas: *mut overlane_replica,
    capacity: usize,
    count: *mut usize,
) -> i32 {
    enter!(
        engine, frame: packet(len), meta: optional, cursor: out, replicas: array(capacity), count: out => |s| {
        let (vni, from) = (convert::vni(vni)?, convert::id("port", port)?.map(PortId));
        let tables = s.engine.tables();
        let settings = tables.vnis().index_of(vni).and_then(|i| tables.vnis().get(i));
        let settings = settings.ok_or(VniError::Unknown(vni))?.config;
        if let Some(port) = from {
            let known = tables.ports().get(port).ok_or(PortError::Unknown(port))?.config.vni;
            if known != vni {
                return Err(PortError::OtherVni { port, vni: known }.into());
            }
        }
        let mut frame = Frame::new(frame, 0..len)?.flooded(vni, from);
        let own = settings.group_policy.map(|id| overlane::wire::vxlan::GroupPolicy { id, ..Default::default() });
        if let Some(meta) = &meta {
            frame = frame.with_segment_len(meta.segment_len as usize);
        }
        let stated = meta.map(|meta| meta.group()).transpose()?.flatten();
        if let Some(group) = stated.or(own) {
            frame = frame.with_group(group);
        }
        let (n, next) = batch::replicas(&s.engine, frame, cursor.get(), &replicas);
        cursor.set(next);
        count.set(n);
        Ok(())
    })
}

/// Stores in `*deadline_ms` when `overlane_handle_timeout` wants to be called; `OVERLANE_NEVER`
/// while no address is known, and no VTEP that came by itself. A time in the past means at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_next_timeout(engine: *const overlane_engine, deadline_ms: *mut u64) -> i32 {
    enter!(engine, deadline_ms: out => |s| {
        deadline_ms.set(s.engine.next_timeout().map_or(OVERLANE_NEVER, |at| at.as_millis()));
        Ok(())
    })
}

/// Lets addresses age, and forgets VTEPs that came by themselves and behind which nobody is left: looks
/// at no more than `budget` places of the one table or the other. `aged` may be NULL, or is told how many
/// addresses were forgotten. What is past its age is not found, whether or not this was called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_handle_timeout(
    engine: *mut overlane_engine,
    now_ms: u64,
    budget: u32,
    aged: *mut u64,
) -> i32 {
    enter!(engine, aged: optional_out => |s| {
        let n = s.engine.handle_timeout(Instant::from_millis(now_ms), budget as usize);
        if let Some(aged) = &mut aged {
            aged.set(n as u64);
        }
        Ok(())
    })
}

/// Takes the oldest event that was not read yet; `OVERLANE_E_END` where there is none. `event->size`
/// must be filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_event_poll(
    engine: *mut overlane_engine,
    event: *mut overlane_event,
) -> i32 {
    enter!(engine, event: sized_out => |s| {
        let next = s.engine.poll_event().ok_or(Failure::Status(OVERLANE_E_END))?;
        event.set(convert::event(next));
        Ok(())
    })
}

/// Counts a packet that the host could not carry: `reason` is a drop reason, usually 80 to 95; each
/// of VNI, VTEP and port may be `OVERLANE_NONE`, and is left out where it does not exist.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_count_drop(
    engine: *mut overlane_engine,
    reason: u8,
    vni: u32,
    vtep: u32,
    port: u32,
) -> i32 {
    enter!(engine => |s| {
        let known = DropReason::from_number(reason);
        let reason = known.ok_or(Failure::Value { what: "reason", value: reason.into() })?;
        let vni = if vni == OVERLANE_NONE { None } else { Some(convert::vni(vni)?) };
        let vtep = convert::id("vtep", vtep)?.map(overlane::addr::VtepId);
        let port = convert::id("port", port)?.map(PortId);
        s.engine.count_drop(reason, vni, vtep, port);
        Ok(())
    })
}

/// Writes the steps that a frame from a local port would take, a line for each, cut to `text_len`
/// octets with a NUL at the end. Changes and counts nothing. `needed` may be NULL, or is told the
/// length of the whole text without the NUL. The frame is taken for one that is no superframe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_explain_encap(
    engine: *const overlane_engine,
    now_ms: u64,
    port: u16,
    frame: *const u8,
    len: usize,
    text: *mut c_char,
    text_len: usize,
    needed: *mut usize,
) -> i32 {
    enter!(engine, frame: bytes(len), text: text_out(text_len), needed: optional_out => |s| {
        let steps = s.engine.explain_encap(Instant::from_millis(now_ms), PortId(port), frame, 0)?;
        let n = text.say(steps);
        if let Some(needed) = &mut needed {
            needed.set(n);
        }
        Ok(())
    })
}

/// The same for a packet from the underlay; `source` may be NULL. With `OVERLANE_SHAPE_UDP` it is taken for one
/// that came without a congestion mark.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_explain_decap(
    engine: *const overlane_engine,
    now_ms: u64,
    source: *const overlane_addr,
    packet: *const u8,
    len: usize,
    text: *mut c_char,
    text_len: usize,
    needed: *mut usize,
) -> i32 {
    enter!(
        engine, source: optional, packet: bytes(len), text: text_out(text_len), needed: optional_out => |s| {
        let source = source.map(|a| a.stated()).transpose()?.flatten();
        let n = text.say(s.engine.explain_decap(Instant::from_millis(now_ms), source, 0, packet));
        if let Some(needed) = &mut needed {
            needed.set(n);
        }
        Ok(())
    })
}
