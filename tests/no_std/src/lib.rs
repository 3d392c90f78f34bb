//! A whole engine in static memory, without `std` and without `alloc`.
#![no_std]

use core::panic::PanicInfo;

use overlane::addr::Vni;
use overlane::engine::{
    Command, ContextParts, Engine, EngineConfig, Frame, HEADROOM, Inline, Parts, Verdict,
};
use overlane::table::Seed;
use overlane::table::port::PortConfig;
use overlane::table::vni::VniConfig;
use overlane::table::vtep::VtepConfig;
use overlane::time::Instant;

type Tiny = Inline<2, 64, 16, 2, 2, 2, 4, 4>;

unsafe extern "C" {
    fn abort() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: the C library's abort takes nothing and does not return.
    unsafe { abort() }
}

/// Floods a broadcast to one VTEP; returns the number of copies, or a negative number where a step failed.
#[unsafe(no_mangle)]
pub extern "C" fn overlane_no_std_proof() -> i32 {
    flood().unwrap_or(-1)
}

fn flood() -> Option<i32> {
    let now = Instant::ZERO;
    let config = EngineConfig::new([192, 0, 2, 1].into(), Seed::fixed(1));
    let mut engine = Engine::<Tiny>::new(config, Parts::default(), ContextParts::default()).ok()?;
    let vni = Vni::new(42).ok()?;
    engine.apply(now, &Command::AddVni { vni, config: VniConfig::default() }).ok()?;
    let port = engine.apply(now, &Command::AddPort(PortConfig::new(vni))).ok()?.port()?;
    let vtep = VtepConfig::new([192, 0, 2, 2].into(), 4789);
    let vtep = engine.apply(now, &Command::AddVtep(vtep)).ok()?.vtep()?;
    engine.apply(now, &Command::AddFlood { vni, vtep }).ok()?;
    let mut buffer = [0u8; HEADROOM + 60];
    buffer[HEADROOM..HEADROOM + 6].fill(0xff);
    buffer[HEADROOM + 6] = 2;
    let mut frames = [Frame::new(&mut buffer, HEADROOM..HEADROOM + 60).ok()?];
    engine.encap(now, port, &mut frames).ok()?;
    if frames[0].verdict() != Some(Verdict::Flood(vni)) {
        return None;
    }
    Some(engine.replicas(&frames[0]).count() as i32)
}
