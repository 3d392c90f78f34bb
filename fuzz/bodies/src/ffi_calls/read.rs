//! What can be read through the C ABI.

use std::ptr::null_mut;

use overlane_ffi::entry::*;
use overlane_ffi::overlane_engine;
use overlane_ffi::status::*;
use overlane_ffi::types::*;

use super::memory::{How, Passed, Room, blank, c};
use super::{octets, prefix};
use crate::packet::{Peer, SomeMac, SomePrefix};

/// Everything that can be read of an engine.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) counters: overlane_counters,
    pub(super) vnis: Vec<(u32, overlane_vni_config)>,
    pub(super) vteps: Vec<overlane_vtep_info>,
    pub(super) ports: Vec<overlane_port_info>,
    pub(super) floods: Vec<(u32, u16)>,
    pub(super) routes: Vec<(u32, overlane_route)>,
    pub(super) macs: Vec<overlane_mac_entry>,
}

/// A structure with its size filled in.
fn sized<T: Copy>() -> (Room, T) {
    (Room::of(blank::<T>(), Passed::Rightly), blank())
}

/// What a walk meets. It must end.
fn walk<C: Default, T: Copy>(mut next: impl FnMut(*mut C, *mut T) -> i32, with_size: bool) -> Vec<T> {
    let (mut cursor, mut met) = (C::default(), Vec::new());
    for _ in 0..1_000 {
        let (mut room, _) = sized::<T>();
        match next(&mut cursor, room.pointer(Passed::Rightly, with_size)) {
            OVERLANE_OK => met.push(room.read()),
            OVERLANE_E_END => return met,
            other => panic!("a walk ended with {other}"),
        }
    }
    panic!("a walk of more steps than there are entries");
}

impl Seen {
    pub(super) fn of(e: *const overlane_engine) -> Seen {
        let numbers: Vec<u32> = walk(|cursor, vni| c!(overlane_vni_next(e, cursor, vni)), false);
        let mut vnis = Vec::new();
        let (mut floods, mut routes) = (Vec::new(), Vec::new());
        for vni in numbers {
            let (mut room, _) = sized::<overlane_vni_config>();
            assert_eq!(c!(overlane_vni_get(e, vni, room.pointer(Passed::Rightly, true))), OVERLANE_OK);
            let config: overlane_vni_config = room.read();
            vnis.push((vni, config));
            floods.extend(
                walk(|at, vtep| c!(overlane_flood_next(e, vni, at, vtep)), false)
                    .into_iter()
                    .map(|v| (vni, v)),
            );
            if config.mode == OVERLANE_MODE_ROUTED {
                let all = walk(|at: *mut u32, route| c!(overlane_route_next(e, vni, at, route)), true);
                routes.extend(all.into_iter().map(|r| (vni, r)));
            }
        }
        let (mut room, _) = sized::<overlane_counters>();
        assert_eq!(c!(overlane_counters_get(e, room.pointer(Passed::Rightly, true))), OVERLANE_OK);
        let mut macs = walk(|at, mac| c!(overlane_mac_next(e, at, mac)), true);
        macs.sort_by_key(|m: &overlane_mac_entry| (m.vni, m.mac));
        Seen {
            counters: room.read(),
            vnis,
            vteps: walk(|at, vtep| c!(overlane_vtep_next(e, at, vtep)), true),
            ports: walk(|at, port| c!(overlane_port_next(e, at, port)), true),
            floods,
            routes,
            macs,
        }
    }
}

/// One of the calls that read.
#[allow(clippy::too_many_arguments)] // one for each kind of argument that those calls have
pub(super) fn read(
    e: *const overlane_engine,
    now: u64,
    what: u8,
    id: u32,
    mac: SomeMac,
    addr: Peer,
    p: SomePrefix,
    mut cursor: u32,
    len: u8,
    how: How,
) -> (i32, Vec<u64>) {
    let passed = how.passed();
    let (mac, mut long, mut small) = (mac.get().0, u64::from(cursor) << (len % 40), 0u16);
    let mut addr = Room::of(octets(addr), Passed::Rightly);
    let mut p = Room::of(prefix(p), Passed::Rightly);
    let (addr, p) = (addr.pointer(Passed::Rightly, false), p.pointer(Passed::Rightly, false));
    macro_rules! into {
        ($structure:ty, |$to:ident| $call:expr) => {{
            let mut room = Room::of(blank::<$structure>(), passed);
            let $to: *mut $structure = room.pointer(passed, true);
            ($call, room.0)
        }};
    }
    let counts = |call: &dyn Fn(*mut u64, usize) -> i32| {
        let mut counts = vec![1u64; len.into()];
        let to = if passed == Passed::Null { null_mut() } else { counts.as_mut_ptr() };
        (call(to, counts.len()), counts)
    };
    match what % 16 {
        0 => into!(overlane_counters, |to| c!(overlane_counters_get(e, to))),
        1 => into!(overlane_traffic, |to| c!(overlane_traffic_get(e, len % 5, id, to))),
        2 => counts(&|to, n| c!(overlane_drops(e, id as u8 % 5, id, to, n))),
        3 => counts(&|to, n| c!(overlane_punts(e, to, n))),
        4 => into!(overlane_vni_config, |to| c!(overlane_vni_get(e, id, to))),
        5 => into!(overlane_vtep_info, |to| c!(overlane_vtep_get(e, id as u16, to))),
        6 => into!(overlane_vtep_info, |to| c!(overlane_vtep_next(e, &mut cursor, to))),
        7 => into!(overlane_port_info, |to| c!(overlane_port_get(e, id as u16, to))),
        8 => into!(overlane_port_info, |to| c!(overlane_port_next(e, &mut cursor, to))),
        9 => into!(overlane_mac_entry, |to| c!(overlane_mac_get(e, now, id, mac.as_ptr(), to))),
        10 => into!(overlane_mac_entry, |to| c!(overlane_mac_next(e, &mut long, to))),
        11 => into!(overlane_route, |to| c!(overlane_route_get(e, id, p, to))),
        12 => into!(overlane_route, |to| c!(overlane_route_lookup(e, id, addr, to))),
        13 => into!(overlane_route, |to| c!(overlane_route_next(e, id, &mut cursor, to))),
        14 => (c!(overlane_vtep_find(e, addr, &mut small)), vec![small.into()]),
        _ => (c!(overlane_flood_next(e, id, &mut cursor, &mut small)), vec![small.into(), cursor.into()]),
    }
}
