//! A host in Rust, and one without an engine.

use std::array;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use overlane::addr::{Destination, MacAddr, PortId, Vni};
use overlane::engine::{Capacity, Command, Engine, EngineConfig, Frame, Heap, Verdict};
use overlane::table::port::PortConfig;
use overlane::table::vni::VniConfig;
use overlane::table::vtep::VtepConfig;
use overlane::table::{EntryKind, Seed};
use overlane::time::Instant;
use overlane::wire::outer::Shape;

use super::host::{BATCH, Host, INNER_AT, INNER_LEN, LOCAL, LOCAL_MAC, OUTER_LEN, STRIDE, Size};

pub(super) struct RustCall(Engine<Heap>);

/// The frames of a batch, each of `len` octets at `start` of its buffer.
#[inline]
fn frames(arena: &mut [u8; BATCH * STRIDE], start: usize, len: usize) -> [Frame<'_>; BATCH] {
    let (buffers, _) = arena.as_chunks_mut::<STRIDE>();
    let mut buffers = buffers.iter_mut();
    array::from_fn(|_| match buffers.next() {
        Some(buffer) => Frame::new(buffer, start..start + len).expect("within the buffer"),
        None => Frame::default(),
    })
}

#[inline]
fn targets(frames: &[Frame<'_>; BATCH]) -> u64 {
    let target = |frame: &Frame<'_>| match frame.verdict() {
        Some(Verdict::ToUnderlay(v)) => u64::from(v.0) + 1,
        Some(Verdict::ToPort(p)) => u64::from(p.0) + 1,
        other => panic!("not carried: {other:?}"),
    };
    frames.iter().map(target).sum()
}

impl RustCall {
    fn apply(&mut self, now: u64, command: &Command) -> overlane::engine::Change {
        self.0.apply(Instant::from_millis(now), command).expect("there is room")
    }
}

impl Host for RustCall {
    fn new(size: Size) -> RustCall {
        let config = EngineConfig {
            shape: Shape::Ethernet,
            local_mac: MacAddr(LOCAL_MAC),
            ageing: Duration::from_millis(size.ageing_ms),
            ..EngineConfig::new(IpAddr::V4(Ipv4Addr::from(LOCAL)), Seed::new([0x5e; 16]))
        };
        let capacity = Capacity {
            macs: size.macs,
            vnis: size.vnis,
            ports: size.ports,
            flood_members: size.ports,
            ..Capacity::default()
        };
        RustCall(Engine::with_capacity(config, &capacity).expect("there is memory"))
    }

    fn add_vni(&mut self, vni: u32) {
        self.apply(0, &Command::AddVni { vni: Vni::truncate(vni), config: VniConfig::default() });
    }

    fn add_vtep(&mut self, addr: [u8; 4], underlay_mac: [u8; 6]) -> u16 {
        let config = VtepConfig::new(IpAddr::V4(Ipv4Addr::from(addr)), 4789);
        let config = VtepConfig { underlay_mac: MacAddr(underlay_mac), ..config };
        self.apply(0, &Command::AddVtep(config)).vtep().expect("a VTEP").0
    }

    fn add_port(&mut self, vni: u32) -> u16 {
        let config = PortConfig::new(Vni::truncate(vni));
        self.apply(0, &Command::AddPort(config)).port().expect("a port").0
    }

    fn add_mac(&mut self, now: u64, vni: u32, mac: [u8; 6], at: Destination, kind: EntryKind) {
        self.apply(now, &Command::AddMac { vni: Vni::truncate(vni), mac: MacAddr(mac), at, kind });
    }

    #[inline]
    fn encap(&mut self, now: u64, port: u16, arena: &mut [u8; BATCH * STRIDE]) -> u64 {
        let mut frames = frames(arena, INNER_AT, INNER_LEN);
        self.0.encap(Instant::from_millis(now), PortId(port), &mut frames).expect("the port is there");
        targets(&frames)
    }

    #[inline]
    fn decap(&mut self, now: u64, arena: &mut [u8; BATCH * STRIDE]) -> u64 {
        let mut frames = frames(arena, INNER_AT - OUTER_LEN, OUTER_LEN + INNER_LEN);
        self.0.decap(Instant::from_millis(now), &mut frames);
        targets(&frames)
    }
}

/// Makes the frames of each batch, and nothing more.
pub(super) struct Nothing {
    vteps: u16,
    ports: u16,
}

#[inline]
fn lengths(frames: &[Frame<'_>; BATCH]) -> u64 {
    std::hint::black_box(frames).iter().map(|frame| frame.len() as u64).sum()
}

impl Host for Nothing {
    fn new(_: Size) -> Nothing {
        Nothing { vteps: 0, ports: 0 }
    }

    fn add_vni(&mut self, _: u32) {}

    fn add_vtep(&mut self, _: [u8; 4], _: [u8; 6]) -> u16 {
        self.vteps += 1;
        self.vteps - 1
    }

    fn add_port(&mut self, _: u32) -> u16 {
        self.ports = self.ports.wrapping_add(1);
        self.ports.wrapping_sub(1)
    }

    fn add_mac(&mut self, _: u64, _: u32, _: [u8; 6], _: Destination, _: EntryKind) {}

    #[inline]
    fn encap(&mut self, _: u64, _: u16, arena: &mut [u8; BATCH * STRIDE]) -> u64 {
        lengths(&frames(arena, INNER_AT, INNER_LEN))
    }

    #[inline]
    fn decap(&mut self, _: u64, arena: &mut [u8; BATCH * STRIDE]) -> u64 {
        lengths(&frames(arena, INNER_AT - OUTER_LEN, OUTER_LEN + INNER_LEN))
    }
}
