//! Between making an engine and freeing it no call allocates: changes, batches, refusals, texts, walks.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::c_char;
use std::ptr::{null, null_mut};

use overlane_ffi::entry::*;
use overlane_ffi::status::*;
use overlane_ffi::types::*;

/// Counts what the current thread asks of the system's allocator.
struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.with(|c| c.set(c.get() + 1));
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        CALLS.with(|c| c.set(c.get() + 1));
        // SAFETY: the caller's promise about `at` and `layout` is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SLOT: usize = 256;
const COUNT: usize = 80;

#[test]
fn calls_on_an_engine_do_not_allocate() {
    // SAFETY: every pointer is to a local that outlives the call and is as long as is said.
    unsafe {
        let size = |n: usize| n as u32;
        let mut config: overlane_config = std::mem::zeroed();
        assert_eq!(overlane_config_init(&mut config, size(size_of::<overlane_config>())), OVERLANE_OK);
        (config.local_v4, config.seed) = ([192, 0, 2, 1], [1; 16]);
        let mut vtep: overlane_vtep_config = std::mem::zeroed();
        overlane_vtep_config_init(&mut vtep, size(size_of::<overlane_vtep_config>()));
        vtep.addr.family = OVERLANE_FAMILY_IPV4;
        vtep.addr.bytes[..4].copy_from_slice(&[192, 0, 2, 2]);
        let mut port: overlane_port_config = std::mem::zeroed();
        overlane_port_config_init(&mut port, size(size_of::<overlane_port_config>()));
        port.vni = 42;

        let mut engine = null_mut();
        let before = CALLS.with(Cell::get);
        assert_eq!(overlane_engine_new(&config, null(), &mut engine, null_mut(), 0), OVERLANE_OK);
        let made = CALLS.with(Cell::get);
        assert!(made > before, "the counter counts");

        let (mut pod, mut peer) = (0, 0);
        assert_eq!(overlane_vni_add(engine, 42, null()), OVERLANE_OK);
        assert_eq!(overlane_port_add(engine, &port, &mut pod), OVERLANE_OK);
        assert_eq!(overlane_vtep_add(engine, &vtep, &mut peer), OVERLANE_OK);
        assert_eq!(overlane_flood_add(engine, 42, peer), OVERLANE_OK);
        assert_eq!(overlane_vni_add(engine, 42, null()), OVERLANE_E_VNI_EXISTS);

        let mut arena = [0xffu8; SLOT * COUNT];
        let mut descs: [overlane_desc; COUNT] = std::mem::zeroed();
        for (n, desc) in descs.iter_mut().enumerate() {
            (desc.offset, desc.len) = ((n * SLOT + 72) as u32, 60);
            arena[n * SLOT + 78..][..6].copy_from_slice(&[2, 0, 0, 0, 1, n as u8]);
        }
        let (base, len) = (arena.as_mut_ptr(), arena.len());
        let status =
            overlane_encap_arena(engine, 1, pod, base, len, 72, descs.as_mut_ptr(), null_mut(), COUNT);
        assert_eq!(status, OVERLANE_OK);
        assert!(descs.iter().all(|d| d.verdict == OVERLANE_VERDICT_FLOOD));
        let mut copies: [overlane_replica; 4] = std::mem::zeroed();
        let (mut cursor, mut count) = (0, 0);
        let frame = base.add(72);
        let status = overlane_replicas(
            engine,
            42,
            0,
            frame,
            60,
            null(),
            &mut cursor,
            copies.as_mut_ptr(),
            4,
            &mut count,
        );
        assert_eq!((status, count), (OVERLANE_OK, 1));
        let status =
            overlane_decap_arena(engine, 1, base, len, descs.as_mut_ptr(), null_mut(), COUNT, &vtep.addr);
        assert_eq!(status, OVERLANE_OK);
        let mut buffer: overlane_buffer = std::mem::zeroed();
        (buffer.data, buffer.capacity, buffer.offset, buffer.len) = (base, SLOT, 72, 60);
        assert_eq!(overlane_encap_buffers(engine, 2, pod, &mut buffer, 1), OVERLANE_OK);

        let mut text = [0 as c_char; 512];
        let written = text.as_mut_ptr();
        assert!(overlane_engine_last_error(engine, written, 512) > 0);
        assert_eq!(overlane_explain_encap(engine, 2, pod, frame, 60, written, 512, null_mut()), OVERLANE_OK);
        let mut event: overlane_event = std::mem::zeroed();
        event.size = size(size_of::<overlane_event>());
        let mut events = 0;
        while overlane_event_poll(engine, &mut event) == OVERLANE_OK {
            events += 1;
        }
        let mut entry: overlane_mac_entry = std::mem::zeroed();
        entry.size = size(size_of::<overlane_mac_entry>());
        let (mut cursor, mut entries) = (0, 0);
        while overlane_mac_next(engine, &mut cursor, &mut entry) == OVERLANE_OK {
            entries += 1;
        }
        assert_eq!((events, entries), (COUNT, COUNT));
        let mut aged = 0;
        assert_eq!(overlane_handle_timeout(engine, 400_000, u32::MAX, &mut aged), OVERLANE_OK);
        assert_eq!(aged, COUNT as u64);

        assert_eq!(CALLS.with(Cell::get), made);
        assert_eq!(overlane_engine_free(engine), OVERLANE_OK);
        assert!(CALLS.with(Cell::get) > made);
    }
}
