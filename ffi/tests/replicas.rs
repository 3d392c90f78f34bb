//! The copies of a flooded frame are the same in pieces of any size.

use std::ptr::{null, null_mut};

use overlane_ffi::entry::*;
use overlane_ffi::overlane_engine;
use overlane_ffi::status::*;
use overlane_ffi::types::*;

const MEMBERS: u16 = 1024;
const PORTS: usize = 3;

/// A VNI with some ports and a long flood list. Every third VTEP takes no frame of 1400 octets.
fn made() -> *mut overlane_engine {
    // SAFETY: every pointer is NULL or to a local as large as its type says; zeros are a value of each.
    unsafe {
        let mut config: overlane_config = std::mem::zeroed();
        assert_eq!(overlane_config_init(&mut config, size_of::<overlane_config>() as u32), OVERLANE_OK);
        (config.local_v4, config.seed) = ([192, 0, 2, 1], [1; 16]);
        (config.shape, config.checksum_v4) = (OVERLANE_SHAPE_IP, OVERLANE_CHECKSUM_FULL);
        let mut engine = null_mut();
        assert_eq!(overlane_engine_new(&config, null(), &mut engine, null_mut(), 0), OVERLANE_OK);
        assert_eq!(overlane_vni_add(engine, 42, null()), OVERLANE_OK);
        let mut port: overlane_port_config = std::mem::zeroed();
        overlane_port_config_init(&mut port, size_of::<overlane_port_config>() as u32);
        port.vni = 42;
        let mut id = 0;
        for _ in 0..PORTS {
            assert_eq!(overlane_port_add(engine, &port, &mut id), OVERLANE_OK);
        }
        let mut vtep: overlane_vtep_config = std::mem::zeroed();
        overlane_vtep_config_init(&mut vtep, size_of::<overlane_vtep_config>() as u32);
        vtep.addr.family = OVERLANE_FAMILY_IPV4;
        for n in 0..MEMBERS {
            vtep.addr.bytes[..4].copy_from_slice(&[10, (n >> 8) as u8, n as u8, 7]);
            vtep.mtu = if n % 3 == 0 { 500 } else { 0 };
            assert_eq!(overlane_vtep_add(engine, &vtep, &mut id), OVERLANE_OK);
            assert_eq!(overlane_flood_add(engine, 42, id), OVERLANE_OK);
        }
        engine
    }
}

/// The copies of a broadcast, in pieces of at most `capacity`.
fn copies(engine: *const overlane_engine, port: u32, capacity: usize) -> Vec<overlane_replica> {
    let mut frame = [0xffu8; 1400];
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    // SAFETY: zeros are a value.
    let mut piece = vec![unsafe { std::mem::zeroed::<overlane_replica>() }; capacity];
    let (mut met, mut cursor, mut n) = (Vec::new(), 0, 0);
    loop {
        let (at, len, to) = (frame.as_mut_ptr(), frame.len(), piece.as_mut_ptr());
        // SAFETY: every pointer is NULL or to a local as large as the length beside it says.
        let status = unsafe {
            overlane_replicas(engine, 42, port, at, len, null(), &mut cursor, to, capacity, &mut n)
        };
        assert_eq!(status, OVERLANE_OK);
        if n == 0 {
            return met;
        }
        met.extend_from_slice(&piece[..n]);
    }
}

#[test]
fn the_copies_in_pieces_are_the_copies() {
    let engine = made();
    for (port, ports, vteps) in [(1, PORTS - 1, true), (OVERLANE_NONE, PORTS, false)] {
        let all = copies(engine, port, usize::from(MEMBERS) + PORTS);
        let expected = (0..MEMBERS).filter(|n| vteps && n % 3 != 0);
        assert!(all[ports..].iter().map(|c| c.id).eq(expected));
        assert!(all[..ports].iter().all(|c| c.kind == OVERLANE_AT_PORT && u32::from(c.id) != port));
        for capacity in [1, 2, 3, 7, 100] {
            assert_eq!(copies(engine, port, capacity), all, "{capacity} at a time");
        }
    }
    // SAFETY: it was made here, and is not used afterwards.
    assert_eq!(unsafe { overlane_engine_free(engine) }, OVERLANE_OK);
}
