//! After construction nothing allocates: not on the data path, not in control, not in timeouts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write as _;

use overlane::addr::{Destination, MacAddr, NextHop, Vni};
use overlane::engine::*;
use overlane::table::Seed;
use overlane::table::fdb::EntryKind;
use overlane::table::port::PortConfig;
use overlane::table::vni::{Accept, VniConfig};
use overlane::table::vtep::VtepConfig;
use overlane::time::Instant;

/// Counts what the current thread asks of the system's allocator.
struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static OCTETS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.with(|c| c.set(c.get() + 1));
        OCTETS.with(|c| c.set(c.get() + layout.size()));
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

fn calls_of(what: impl FnOnce()) -> usize {
    let before = CALLS.with(Cell::get);
    what();
    CALLS.with(Cell::get) - before
}

/// A text sink of fixed size.
struct Page([u8; 1024], usize);

impl core::fmt::Write for Page {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        let end = self.1 + s.len();
        self.0.get_mut(self.1..end).ok_or(core::fmt::Error)?.copy_from_slice(s.as_bytes());
        self.1 = end;
        Ok(())
    }
}

#[test]
fn the_default_capacity_takes_what_its_documentation_says() {
    let before = OCTETS.with(Cell::get);
    let config = EngineConfig::new([192, 0, 2, 1].into(), Seed::fixed(1));
    let engine = Engine::<Heap>::with_capacity(config, &Capacity::default()).unwrap();
    let octets = OCTETS.with(Cell::get) - before + size_of_val(&engine);
    assert!((1.65..1.75).contains(&(octets as f64 / 1_048_576.0)), "{octets} octets");
}

#[test]
fn the_counter_counts() {
    assert!(calls_of(|| drop(Box::new(1))) >= 2);
}

#[test]
fn an_engine_works_without_the_allocator() {
    let t0 = Instant::from_secs(1);
    let config = EngineConfig::new([192, 0, 2, 1].into(), Seed::fixed(1));
    let capacity = Capacity { macs: 64, events: 8, vteps: 16, ..Capacity::default() };
    let mut engine = Engine::<Heap>::with_capacity(config, &capacity).unwrap();
    let (bridged, routed) = (Vni::truncate(1), Vni::truncate(2));
    let mut buffers = [[0u8; 256]; 40];

    let calls = calls_of(|| {
        let open = VniConfig { accept: Accept::AnySource, notify_miss: true, ..VniConfig::default() };
        let router = MacAddr([2, 0, 0, 0, 0, 0xaa]);
        engine.apply(t0, &Command::AddVni { vni: bridged, config: open }).unwrap();
        engine.apply(t0, &Command::AddVni { vni: routed, config: VniConfig::routed(router) }).unwrap();
        let ports = [bridged, bridged, routed]
            .map(|vni| engine.apply(t0, &Command::AddPort(PortConfig::new(vni))).unwrap().port().unwrap());
        let inner_mac = Some(MacAddr([2, 0, 0, 0, 0, 0xbb]));
        let vtep = VtepConfig { inner_mac, mtu: 1500, ..VtepConfig::new([192, 0, 2, 2].into(), 4789) };
        let vtep = engine.apply(t0, &Command::AddVtep(vtep)).unwrap().vtep().unwrap();
        engine.apply(t0, &Command::AddFlood { vni: bridged, vtep }).unwrap();
        let at = Destination::Vtep(vtep);
        let far = MacAddr([2, 0, 0, 0, 0, 5]);
        engine.apply(t0, &Command::AddMac { vni: bridged, mac: far, at, kind: EntryKind::Static }).unwrap();
        for i in 0..100u8 {
            let prefix = overlane::addr::Ipv4Prefix::new([10, i, 0, 0].into(), 16).unwrap().into();
            engine
                .apply(t0, &Command::AddRoute { vni: routed, prefix, next_hop: NextHop::Vtep(vtep) })
                .unwrap();
        }

        // More stations and sources than the tables hold, so that every refusal and eviction happens too.
        for round in 0..200u16 {
            let now = Instant::from_millis(1_000 + u64::from(round) * 7_000);
            for (i, buffer) in buffers.iter_mut().enumerate() {
                let station = [2, 0, 0, round.to_be_bytes()[0], round.to_be_bytes()[1], i as u8];
                buffer[HEADROOM..HEADROOM + 6].copy_from_slice(&if i % 3 == 0 {
                    [0xff; 6]
                } else {
                    [2, 0, 0, 0, 0, i as u8]
                });
                buffer[HEADROOM + 6..HEADROOM + 12].copy_from_slice(&station);
                buffer[HEADROOM + 12..HEADROOM + 14].copy_from_slice(&[0x08, 0]);
                buffer[HEADROOM + 14] = 0x45;
            }
            let mut frames = buffers.each_mut().map(|b| Frame::new(b, HEADROOM..200).unwrap());
            engine.encap(now, ports[usize::from(round % 3)], &mut frames).unwrap();
            let copies: usize = frames.iter().map(|f| engine.replicas(f).count()).sum();
            assert!(copies < 1_000);
            for (i, buffer) in buffers.iter_mut().enumerate() {
                buffer[..8].copy_from_slice(&[8, 0, 0, 0, 0, 0, 1 + (i % 3) as u8, 0]);
                buffer[8..14].copy_from_slice(&[0xff; 6]);
                buffer[14..20].copy_from_slice(&[2, 1, 0, 0, round as u8, i as u8]);
            }
            let mut n = round as u8;
            let mut frames = buffers.each_mut().map(|b| {
                n = n.wrapping_add(1);
                Frame::new(b, 0..100).unwrap().with_source([192, 0, 2, 2 + n % 60].into())
            });
            engine.decap(now, &mut frames);
            engine.handle_timeout(now, 100);
            while engine.poll_event().is_some() {}
        }
        let late = Instant::from_secs(10_000);
        while engine.next_timeout().is_some_and(|due| due <= late) {
            engine.handle_timeout(late, 10);
        }
        engine
            .apply(t0, &Command::AddMac { vni: bridged, mac: router, at, kind: EntryKind::Static })
            .unwrap();
        engine.apply(t0, &Command::FlushMacs { vni: None, at: None }).unwrap();
        let told = engine.explain_decap(t0, Some([192, 0, 2, 2].into()), 0, &buffers[0][..100]);
        write!(Page([0; 1024], 0), "{told}").unwrap();
        engine.apply(t0, &Command::SetVni { vni: routed, config: VniConfig::default() }).unwrap();
        engine.apply(t0, &Command::RemoveVtep { vtep }).unwrap();
    });
    assert_eq!(calls, 0);
    let c = engine.counters();
    assert!(
        c.learned > 100 && c.evicted > 0 && c.aged > 0 && c.events_lost > 0 && c.to_underlay > 0,
        "{c:?}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn the_linux_drivers_turns_take_nothing_after_the_first() {
    use overlane::linux::{Driver, Underlay, UnderlayConfig};
    use overlane::wire::vxlan::VxlanHeader;
    use std::time::Duration;

    let vni = Vni::truncate(7);
    let mut config = EngineConfig::new("127.0.0.1".parse().unwrap(), Seed::fixed(1));
    config.ageing = Duration::from_millis(256);
    let mut driver = Driver::new(Engine::with_capacity(config, &Capacity::default()).unwrap()).unwrap();
    let bind = |addr: &str| Underlay::bind(addr.parse().unwrap(), &UnderlayConfig::default()).unwrap();
    let (near, mut far) = (bind("127.0.0.1:0"), bind("127.0.0.2:0"));
    let to = near.local_addr();
    driver.add_socket(near).unwrap();
    driver.apply(&Command::AddVni { vni, config: VniConfig::default() }).unwrap();
    driver.apply(&Command::AddPort(PortConfig::new(vni))).unwrap();
    driver.apply(&Command::AddVtep(VtepConfig::new("127.0.0.2".parse().unwrap(), 4789))).unwrap();
    let mut frame = [0u8; 100];
    frame[..8].copy_from_slice(&VxlanHeader::emit(vni, None));
    frame[8..14].fill(0xff);
    frame[14..20].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    driver.turn(Duration::ZERO).unwrap();
    let mut datagrams = 0;
    let calls = calls_of(|| {
        for n in 0..200u8 {
            frame[19] = n;
            let _ = far.send(&[&frame], to, None).unwrap();
            // A turn may end without it: addresses age, and the kernel may be late.
            for _ in 0..1000 {
                if datagrams <= usize::from(n) {
                    datagrams += driver.turn(Duration::from_secs(5)).unwrap().datagrams;
                }
            }
        }
    });
    assert_eq!((calls, datagrams), (0, 200));
    assert_eq!(driver.engine().counters().learned, 200);
}
