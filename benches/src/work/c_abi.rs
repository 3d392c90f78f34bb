//! A host that calls the C ABI, as C does.
#![allow(unsafe_code)] // the ABI's functions are unsafe to call

use std::ptr::{null, null_mut};

use overlane::addr::Destination;
use overlane::table::EntryKind;
use overlane_ffi::entry::*;
use overlane_ffi::overlane_engine;
use overlane_ffi::status::OVERLANE_OK;
use overlane_ffi::types::*;

use super::host::{BATCH, Host, INNER_AT, INNER_LEN, LOCAL, LOCAL_MAC, OUTER_LEN, STRIDE, Size};

pub(super) struct CAbi(*mut overlane_engine);

const EMPTY: overlane_desc = overlane_desc { offset: 0, len: 0, vni: 0, verdict: 0, ecn: 0, target: 0 };

macro_rules! ok {
    ($call:expr) => {
        // SAFETY: every pointer is NULL, or to a local or an argument that outlives the call and is as
        // long as the length beside it says; the engine came from `overlane_engine_new`.
        assert_eq!(unsafe { $call }, OVERLANE_OK)
    };
}

/// A structure with the ABI's defaults.
macro_rules! defaults {
    ($t:ty, $init:path) => {{
        // SAFETY: the structures of the ABI are integers and arrays of them.
        let mut made: $t = unsafe { std::mem::zeroed() };
        ok!($init(&mut made, size_of::<$t>() as u32));
        made
    }};
}

#[inline]
fn descriptors(start: usize, len: usize) -> [overlane_desc; BATCH] {
    let mut descs = [EMPTY; BATCH];
    for (i, desc) in descs.iter_mut().enumerate() {
        (desc.offset, desc.len) = ((i * STRIDE + start) as u32, len as u32);
    }
    descs
}

#[inline]
fn targets(descs: &[overlane_desc; BATCH]) -> u64 {
    let target = |desc: &overlane_desc| match desc.verdict {
        OVERLANE_VERDICT_TO_UNDERLAY | OVERLANE_VERDICT_TO_PORT => u64::from(desc.target) + 1,
        other => panic!("not carried: verdict {other}"),
    };
    descs.iter().map(target).sum()
}

impl Host for CAbi {
    fn new(size: Size) -> CAbi {
        let mut config = defaults!(overlane_config, overlane_config_init);
        (config.shape, config.local_v4, config.local_mac) = (OVERLANE_SHAPE_ETHERNET, LOCAL, LOCAL_MAC);
        (config.seed, config.ageing_ms) = ([0x5e; 16], size.ageing_ms);
        let mut capacity = defaults!(overlane_capacity, overlane_capacity_init);
        (capacity.macs, capacity.vnis) = (size.macs as u32, size.vnis as u32);
        (capacity.ports, capacity.flood_members) = (size.ports as u32, size.ports as u32);
        let mut engine = null_mut();
        ok!(overlane_engine_new(&config, &capacity, &mut engine, null_mut(), 0));
        CAbi(engine)
    }

    fn add_vni(&mut self, vni: u32) {
        ok!(overlane_vni_add(self.0, vni, null()));
    }

    fn add_vtep(&mut self, addr: [u8; 4], underlay_mac: [u8; 6]) -> u16 {
        let mut config = defaults!(overlane_vtep_config, overlane_vtep_config_init);
        config.addr.family = OVERLANE_FAMILY_IPV4;
        config.addr.bytes[..4].copy_from_slice(&addr);
        config.underlay_mac = underlay_mac;
        let mut vtep = 0;
        ok!(overlane_vtep_add(self.0, &config, &mut vtep));
        vtep
    }

    fn add_port(&mut self, vni: u32) -> u16 {
        let mut config = defaults!(overlane_port_config, overlane_port_config_init);
        config.vni = vni;
        let mut port = 0;
        ok!(overlane_port_add(self.0, &config, &mut port));
        port
    }

    fn add_mac(&mut self, now: u64, vni: u32, mac: [u8; 6], at: Destination, kind: EntryKind) {
        let (at_kind, at) = match at {
            Destination::Port(p) => (OVERLANE_AT_PORT, p.0),
            Destination::Vtep(v) => (OVERLANE_AT_VTEP, v.0),
        };
        let kind = match kind {
            EntryKind::Learned => OVERLANE_MAC_LEARNED,
            EntryKind::Sticky => OVERLANE_MAC_STICKY,
            EntryKind::Static => OVERLANE_MAC_STATIC,
        };
        ok!(overlane_mac_add(self.0, now, vni, mac.as_ptr(), at_kind, at, kind));
    }

    #[inline]
    fn encap(&mut self, now: u64, port: u16, arena: &mut [u8; BATCH * STRIDE]) -> u64 {
        let mut descs = descriptors(INNER_AT, INNER_LEN);
        let (at, len) = (arena.as_mut_ptr(), arena.len());
        let headroom = INNER_AT as u32;
        ok!(overlane_encap_arena(
            self.0,
            now,
            port,
            at,
            len,
            headroom,
            descs.as_mut_ptr(),
            null_mut(),
            BATCH
        ));
        targets(&descs)
    }

    #[inline]
    fn decap(&mut self, now: u64, arena: &mut [u8; BATCH * STRIDE]) -> u64 {
        let mut descs = descriptors(INNER_AT - OUTER_LEN, OUTER_LEN + INNER_LEN);
        let (at, len) = (arena.as_mut_ptr(), arena.len());
        ok!(overlane_decap_arena(self.0, now, at, len, descs.as_mut_ptr(), null_mut(), BATCH, null()));
        targets(&descs)
    }
}

impl Drop for CAbi {
    fn drop(&mut self) {
        ok!(overlane_engine_free(self.0));
    }
}
