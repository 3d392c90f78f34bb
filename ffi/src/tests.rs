//! What C cannot do, or not show: a panic inside, a second call in a call, a structure's older size.
#![allow(unsafe_code)]
// The promises of `raw` are kept by the line before: every pointer is to a local.
#![allow(clippy::undocumented_unsafe_blocks)]

use core::cell::Cell;
use core::ffi::{CStr, c_char};
use core::ptr::{null, null_mut};

use overlane::engine::{Capacity, Engine, Frame};

use crate::batch::{self, InArena, Packet, Packets, Way};
use crate::entry::*;
use crate::failure::Failure;
use crate::raw::{self, Field, Layout, Plain, Versioned, overlane_engine, zeroed};
use crate::status::*;
use crate::types::*;

fn made() -> *mut overlane_engine {
    let mut engine = null_mut();
    let config = overlane_config { local_v4: [192, 0, 2, 1], seed: [1; 16], ..overlane_config::defaults() };
    assert_eq!(unsafe { overlane_engine_new(&config, null(), &mut engine, null_mut(), 0) }, OVERLANE_OK);
    engine
}

fn error(engine: *const overlane_engine) -> String {
    let mut text = [0; 512];
    let len = unsafe { overlane_engine_last_error(engine, text.as_mut_ptr(), text.len()) };
    let text = unsafe { CStr::from_ptr(text.as_ptr()) }.to_str().unwrap().to_owned();
    assert_eq!(text.len(), len);
    text
}

#[test]
fn a_panic_stays_inside_and_poisons_the_engine() {
    let engine = made();
    let (mut deadline, mut text) = (7, [0 as c_char; 8]);
    for (message, panic) in [
        ("internal error: out of range", (|| panic!("out of {}", "range")) as fn()),
        ("internal error: in words", || panic!("in words")),
        ("internal error: a panic without words", || std::panic::panic_any(7)),
    ] {
        let engine = made();
        let status = unsafe { raw::lock(engine) }.map(|entered| {
            entered.run(|_| {
                panic();
                Ok(())
            })
        });
        assert_eq!(status, Ok(OVERLANE_E_INTERNAL));
        assert_eq!(error(engine), message);
        assert_eq!(unsafe { overlane_vni_add(engine, 42, null()) }, OVERLANE_E_POISONED);
        assert_eq!(unsafe { overlane_next_timeout(engine, &mut deadline) }, OVERLANE_E_POISONED);
        assert_eq!(unsafe { overlane_decap_buffers(engine, 0, null_mut(), 0) }, OVERLANE_E_POISONED);
        assert_eq!(error(engine), message);
        assert_eq!(unsafe { overlane_engine_free(engine) }, OVERLANE_OK);
    }
    assert_eq!(deadline, 7);
    // Another engine knows nothing of it.
    assert_eq!(unsafe { overlane_next_timeout(engine, &mut deadline) }, OVERLANE_OK);
    assert_eq!(deadline, OVERLANE_NEVER);
    assert_eq!(unsafe { overlane_engine_last_error(engine, text.as_mut_ptr(), 8) }, 0);
    assert_eq!(raw::guard(|| panic!("without an engine")), OVERLANE_E_INTERNAL);
    assert_eq!(unsafe { overlane_engine_free(engine) }, OVERLANE_OK);
}

#[test]
fn a_second_call_is_told_that_the_engine_is_busy() {
    let engine = made();
    let entered = unsafe { raw::lock(engine) }.ok().unwrap();
    assert_eq!(unsafe { overlane_vni_add(engine, 42, null()) }, OVERLANE_E_BUSY);
    assert_eq!(unsafe { overlane_engine_last_error(engine, null_mut(), 0) }, 0);
    let mut text = [b'x' as c_char; 8];
    assert_eq!(unsafe { overlane_engine_last_error(engine, text.as_mut_ptr(), 8) }, 0);
    assert_eq!(text[0], 0);
    assert_eq!(unsafe { overlane_engine_free(engine) }, OVERLANE_E_BUSY);
    drop(entered);
    assert_eq!(unsafe { overlane_vni_add(engine, 42, null()) }, OVERLANE_OK);
    assert_eq!(unsafe { overlane_engine_free(engine) }, OVERLANE_OK);
}

#[test]
fn an_error_text_ends_at_a_whole_character() {
    let mut text = crate::failure::Text::default();
    text.say("ä".repeat(200));
    assert_eq!(text.as_str(), "ä".repeat(128));
    text.say(format_args!("x{}", "ä".repeat(200)));
    assert_eq!(text.as_str().len(), 255);
    text.say("short");
    assert_eq!(text.as_str(), "short");
}

/// A structure in its second version; the first ended behind `first`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Second {
    size: u32,
    first: u32,
    second: u32,
}

unsafe impl Plain for Second {}

impl Layout for Second {
    const NAME: &'static str = "second";
    const FIELDS: &'static [Field] = &[];
}

impl Versioned for Second {
    const OLDER: &'static [usize] = &[8];

    fn defaults() -> Second {
        Second { size: 12, first: 1, second: 2 }
    }
}

#[test]
fn a_structure_of_an_older_or_newer_caller_is_understood() {
    let read = |words: [u32; 4]| unsafe { raw::sized(words.as_ptr().cast::<Second>(), "words") };
    let code = |words| read(words).map_err(|e| e.code());
    // What the older caller does not know is not read: it has its default.
    assert_eq!(code([8, 7, 99, 99]), Ok(Second { size: 8, first: 7, second: 2 }));
    assert_eq!(code([12, 7, 8, 99]), Ok(Second { size: 12, first: 7, second: 8 }));
    assert_eq!(code([16, 7, 8, 0]), Ok(Second { size: 16, first: 7, second: 8 }));
    assert_eq!(code([16, 7, 8, 1 << 31]), Err(OVERLANE_E_RESERVED));
    for size in [0, 1, 4, 7, 9, 11, 4097, u32::MAX] {
        assert_eq!(code([size, 7, 8, 0]), Err(OVERLANE_E_SIZE), "{size}");
    }

    let write = |size: u32| {
        let mut words = [size, 9, 9, 9];
        let out = unsafe { raw::sized_out(words.as_mut_ptr().cast::<Second>(), "words") };
        out.map(|mut out| out.set(Second { size: 0, first: 3, second: 4 })).map_err(|e| e.code())?;
        Ok(words)
    };
    assert_eq!(write(8), Ok([8, 3, 9, 9]));
    assert_eq!(write(12), Ok([12, 3, 4, 9]));
    // The newer caller sees how much was filled in.
    assert_eq!(write(16), Ok([12, 3, 4, 9]));
    assert_eq!(write(9), Err(OVERLANE_E_SIZE));

    let init = |size| {
        let mut words = [9; 4];
        unsafe { raw::init(words.as_mut_ptr().cast::<Second>(), size, "words") }.map(|()| words)
    };
    assert_eq!(init(8).ok(), Some([8, 1, 9, 9]));
    assert_eq!(init(12).ok(), Some([12, 1, 2, 9]));
    assert_eq!(init(16).ok(), Some([16, 1, 2, 0]));
    assert!(init(4).is_err());
}

#[test]
fn names_of_reasons_are_the_engines() {
    let name = |n| unsafe { CStr::from_ptr(n) }.to_str().unwrap();
    use overlane::error::{DropReason, PuntReason};
    for n in 0..=255 {
        let (drop, punt) = (DropReason::from_number(n), PuntReason::from_number(n));
        assert_eq!(name(overlane_drop_name(n)), drop.map_or("unknown", DropReason::name));
        assert_eq!(name(overlane_punt_name(n)), punt.map_or("unknown", PuntReason::name));
    }
    assert_eq!(name(overlane_version()), env!("CARGO_PKG_VERSION"));
    assert_eq!(overlane_abi_version(), crate::version::OVERLANE_ABI_VERSION);
}

/// A batch in one arena gets what one frame at a time gets, whatever the order in memory.
#[test]
fn the_order_of_packets_in_memory_does_not_matter() {
    const SLOTS: usize = 100;
    const SLOT: usize = 256;
    let frame = |n: usize| {
        let n = n as u8;
        // A third known, a third broadcast, a third cut short.
        match n % 3 {
            0 => vec![2, 0, 0, 0, 0, 5, 2, 0, 0, 1, 0, n, 0x88, 0xb5, n, n],
            1 => vec![255, 255, 255, 255, 255, 255, 2, 0, 0, 1, 0, n, 0x88, 0xb5, n],
            _ => vec![2, 0, 0, 0, 0, 5, 2, 0, 0, 1],
        }
    };
    let prepared = || {
        let (engine, mut id) = (made(), 0);
        let vtep = overlane_vtep_config {
            addr: std::net::IpAddr::from([192, 0, 2, 2]).into(),
            ..overlane_vtep_config::defaults()
        };
        let port = overlane_port_config { vni: 42, ..overlane_port_config::defaults() };
        let mac = [2u8, 0, 0, 0, 0, 5];
        unsafe {
            assert_eq!(overlane_vni_add(engine, 42, null()), OVERLANE_OK);
            assert_eq!(overlane_vtep_add(engine, &vtep, &mut id), OVERLANE_OK);
            assert_eq!(overlane_flood_add(engine, 42, id), OVERLANE_OK);
            assert_eq!(overlane_port_add(engine, &port, &mut id), OVERLANE_OK);
            let added =
                overlane_mac_add(engine, 0, 42, mac.as_ptr(), OVERLANE_AT_VTEP, 0, OVERLANE_MAC_STATIC);
            assert_eq!(added, OVERLANE_OK);
        }
        engine
    };
    // Frame `n` in slot `place(n)`, in batches of `batch`: verdicts and packets.
    let run = |place: &dyn Fn(usize) -> usize, batch: usize| {
        let engine = prepared();
        let mut arena = vec![0u8; SLOTS * SLOT];
        let mut descs = [zeroed::<overlane_desc>(); SLOTS];
        let mut metas = [zeroed::<overlane_meta>(); SLOTS];
        for (n, desc) in descs.iter_mut().enumerate() {
            (desc.offset, desc.len) = ((place(n) * SLOT + 72) as u32, frame(n).len() as u32);
            arena[desc.offset as usize..][..frame(n).len()].copy_from_slice(&frame(n));
        }
        for (descs, metas) in descs.chunks_mut(batch).zip(metas.chunks_mut(batch)) {
            let (arena, len, count) = (arena.as_mut_ptr(), arena.len(), descs.len());
            let (descs, metas) = (descs.as_mut_ptr(), metas.as_mut_ptr());
            let status = unsafe { overlane_encap_arena(engine, 0, 0, arena, len, 72, descs, metas, count) };
            assert_eq!(status, OVERLANE_OK);
        }
        assert_eq!(unsafe { overlane_engine_free(engine) }, OVERLANE_OK);
        let packet = |(d, m): (&overlane_desc, &overlane_meta)| {
            let octets = arena[d.offset as usize..][..d.len as usize].to_vec();
            (d.verdict, d.target, d.vni, d.ecn, m.flow_hash, octets)
        };
        descs.iter().zip(&metas).map(packet).collect::<Vec<_>>()
    };
    let expected = run(&|n| n, 1);
    assert_eq!(expected[0].0, OVERLANE_VERDICT_TO_UNDERLAY);
    assert_eq!(expected[0].5, [&[8, 0, 0, 0, 0, 0, 42, 0], &*frame(0)].concat());
    assert_eq!(expected[1].0, OVERLANE_VERDICT_FLOOD);
    assert_eq!((expected[2].0, expected[2].1), (OVERLANE_VERDICT_DROP, 1));
    for batch in [SLOTS, 33, 7] {
        assert_eq!(run(&|n| n, batch), expected);
        assert_eq!(run(&|n| SLOTS - 1 - n, batch), expected);
        assert_eq!(run(&|n| (n * 37) % SLOTS, batch), expected);
    }
}

/// Packets that count how often they are looked at.
struct Counted<'c> {
    packets: InArena<'c>,
    looks: Cell<usize>,
}

impl<'c> Packets<'c> for Counted<'c> {
    fn len(&self) -> usize {
        self.packets.len()
    }

    fn check(&self, index: usize, way: Way) -> Result<(), Failure> {
        self.looks.set(self.looks.get() + 1);
        self.packets.check(index, way)
    }

    fn get(&self, index: usize, way: Way) -> Result<Packet<'c>, Failure> {
        self.looks.set(self.looks.get() + 1);
        self.packets.get(index, way)
    }

    fn done(&self, index: usize, way: Way, frame: &Frame<'_>) {
        self.packets.done(index, way, frame);
    }
}

/// The work on a batch grows with the number of its packets, whatever their order in memory.
#[test]
fn each_packet_of_a_batch_is_looked_at_a_few_times() {
    const SLOT: usize = 64;
    let config = overlane_config { local_v4: [192, 0, 2, 1], seed: [1; 16], ..overlane_config::defaults() };
    let mut engine = Engine::with_capacity(config.settings().unwrap(), &Capacity::default()).unwrap();
    for count in [1, 32, 33, 1000] {
        for descending in [false, true] {
            let (mut octets, mut descs) = (vec![0u8; count * SLOT], vec![zeroed::<overlane_desc>(); count]);
            for (n, desc) in descs.iter_mut().enumerate() {
                let slot = if descending { count - 1 - n } else { n };
                (desc.offset, desc.len) = ((slot * SLOT) as u32, SLOT as u32);
            }
            let (arena, mut turn) =
                unsafe { raw::arena(octets.as_mut_ptr(), octets.len(), "arena") }.unwrap();
            let array = unsafe { raw::array(descs.as_mut_ptr(), count, "descs") }.unwrap();
            let packets = InArena { arena, headroom: 0, descs: array, metas: None };
            let counted = Counted { packets, looks: Cell::new(0) };
            assert!(batch::run(&mut engine, 0, Way::Decap(None), &counted, &mut turn).is_ok());
            // To check it, to find that it begins a group of its own, and to take it.
            assert!(counted.looks.get() <= 3 * count, "{} looks at {count} packets", counted.looks.get());
            assert!(descs.iter().all(|d| d.verdict == OVERLANE_VERDICT_DROP));
        }
    }
}
