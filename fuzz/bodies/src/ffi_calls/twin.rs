//! The same operations on an engine in Rust and on one behind the C ABI.

use std::ffi::{CStr, c_char};
use std::net::IpAddr;
use std::ptr::{null, null_mut};
use std::time::Duration;

use arbitrary::Unstructured;
use overlane::addr::{Destination, IpPrefix, Ipv4Prefix, Ipv6Prefix, MacAddr, NextHop, PortId, VtepId};
use overlane::engine::{
    Change, Command, Engine, EngineConfig, Event, Frame, Heap, Replica, ScopeCounters, Verdict,
};
use overlane::error::{DropReason, PuntReason};
use overlane::table::Seed;
use overlane::table::fdb::EntryKind;
use overlane::table::port::PortConfig;
use overlane::table::vni::{Accept, Mode, VniConfig, VniIndex};
use overlane::table::vtep::{Origin, VtepConfig};
use overlane::time::Instant;
use overlane::wire::outer::Shape;
use overlane::wire::template::UdpChecksum;
use overlane::wire::vxlan::{GroupPolicy, ReservedBits};
use overlane_ffi::entry::*;
use overlane_ffi::overlane_engine;
use overlane_ffi::status::*;
use overlane_ffi::types::*;

use super::memory::{blank, c};
use super::read::Seen;
use crate::check::Packet;
use crate::engine_ops::{Input, Operation, many};
use crate::memory::CAPACITY;

/// Makes an engine in Rust and one through the C ABI and carries out the same operations on both.
///
/// Both must answer the same: verdicts, octets, copies, ids, words of refusals, events, explanations,
/// deadlines; and hold the same in every table and counter. What C gives is translated here anew, not by
/// the code of the ABI.
pub fn ffi_twin(data: &[u8]) {
    let Ok(input) = Unstructured::new(data).arbitrary::<Input>() else { return };
    let config = EngineConfig { seed: Seed::new([7; 16]), ..input.config.engine() };
    let Some(mut twin) = Twin::new(config) else { return };
    if !input.bare {
        crate::engine_ops::furniture(&config).into_iter().for_each(|command| twin.command(&command));
    }
    for operation in &input.operations.0 {
        twin.step(operation);
        twin.compare();
    }
    twin.end();
}

struct Twin {
    rust: Engine<Heap>,
    c: *mut overlane_engine,
    now: Instant,
}

fn size<T>() -> u32 {
    size_of::<T>() as u32
}

fn addr(addr: IpAddr) -> overlane_addr {
    let mut to: overlane_addr = blank();
    match addr {
        IpAddr::V4(a) => {
            to.family = 4;
            to.bytes[..4].copy_from_slice(&a.octets());
        }
        IpAddr::V6(a) => (to.family, to.bytes) = (6, a.octets()),
    }
    to
}

fn prefix(prefix: IpPrefix) -> overlane_prefix {
    let (to, len) = match prefix {
        IpPrefix::V4(p) => (addr(p.addr().into()), p.len()),
        IpPrefix::V6(p) => (addr(p.addr().into()), p.len()),
    };
    overlane_prefix { bytes: to.bytes, family: to.family, len, reserved: 0 }
}

fn mac(mac: Option<MacAddr>) -> [u8; 6] {
    mac.unwrap_or(MacAddr::ZERO).0
}

/// What the C ABI calls a place.
fn place(at: Destination) -> (u8, u16) {
    match at {
        Destination::Port(p) => (1, p.0),
        Destination::Vtep(v) => (2, v.0),
    }
}

fn hop(hop: NextHop) -> (u8, u16) {
    match hop {
        NextHop::Port(p) => (1, p.0),
        NextHop::Vtep(v) => (2, v.0),
        NextHop::Direct => (3, 0),
        NextHop::Blackhole => (4, 0),
    }
}

fn kind(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Learned => 0,
        EntryKind::Sticky => 1,
        EntryKind::Static => 2,
    }
}

fn vni_config(config: &VniConfig) -> overlane_vni_config {
    let (mode, router_mac) = match config.mode {
        Mode::Bridged => (0, [0; 6]),
        Mode::Routed { router_mac } => (1, router_mac.0),
    };
    overlane_vni_config {
        size: size::<overlane_vni_config>(),
        mode,
        accept: u8::from(config.accept == Accept::AnySource),
        learning: config.learning.into(),
        flood_unknown: config.flood_unknown.into(),
        notify_miss: config.notify_miss.into(),
        has_group: config.group_policy.is_some().into(),
        group: config.group_policy.unwrap_or(0),
        router_mac,
        reserved: 0,
    }
}

fn vtep_config(config: &VtepConfig) -> overlane_vtep_config {
    overlane_vtep_config {
        size: size::<overlane_vtep_config>(),
        port: config.port,
        mtu: config.mtu,
        learn_limit: config.learn_limit,
        addr: addr(config.addr),
        underlay_mac: config.underlay_mac.0,
        inner_mac: mac(config.inner_mac),
    }
}

fn port_config(config: &PortConfig) -> overlane_port_config {
    overlane_port_config {
        size: size::<overlane_port_config>(),
        vni: config.vni.get(),
        learn_limit: config.learn_limit,
        peer_mac: mac(config.peer_mac),
        learning: config.learning.into(),
        reserved: 0,
    }
}

/// What C cannot say otherwise: an address of zeros is none.
fn sayable(command: &Command) -> Command {
    let stated = |mac: Option<MacAddr>| mac.filter(|mac| *mac != MacAddr::ZERO);
    match *command {
        Command::AddVtep(c) => Command::AddVtep(VtepConfig { inner_mac: stated(c.inner_mac), ..c }),
        Command::SetVtep { vtep, config: c } => {
            Command::SetVtep { vtep, config: VtepConfig { inner_mac: stated(c.inner_mac), ..c } }
        }
        Command::AddPort(c) => Command::AddPort(PortConfig { peer_mac: stated(c.peer_mac), ..c }),
        Command::SetPort { port, config: c } => {
            Command::SetPort { port, config: PortConfig { peer_mac: stated(c.peer_mac), ..c } }
        }
        other => other,
    }
}

fn event(event: Event) -> overlane_event {
    let mut e = overlane_event { size: size::<overlane_event>(), vni: u32::MAX, ..blank() };
    let at = |e: &mut overlane_event, at| (e.at_kind, e.at) = place(at);
    match event {
        Event::Learned { vni, mac, at: to } => {
            (e.kind, e.vni, e.mac) = (1, vni.get(), mac.0);
            at(&mut e, to);
        }
        Event::Moved { vni, mac, from, to } => {
            (e.kind, e.vni, e.mac) = (2, vni.get(), mac.0);
            (e.from_kind, e.from) = place(from);
            at(&mut e, to);
        }
        Event::Aged { vni, mac, at: to } => {
            (e.kind, e.vni, e.mac) = (3, vni.get(), mac.0);
            at(&mut e, to);
        }
        Event::Evicted { vni, mac, at: to } => {
            (e.kind, e.vni, e.mac) = (4, vni.get(), mac.0);
            at(&mut e, to);
        }
        Event::QuotaHit { vni, mac, at: to } => {
            (e.kind, e.vni, e.mac) = (5, vni.get(), mac.0);
            at(&mut e, to);
        }
        Event::FdbFull { vni, mac } => (e.kind, e.vni, e.mac) = (6, vni.get(), mac.0),
        Event::UnknownMac { vni, mac } => (e.kind, e.vni, e.mac) = (7, vni.get(), mac.0),
        Event::NoRoute { vni, addr: a } => (e.kind, e.vni, e.addr) = (8, vni.get(), addr(a)),
        Event::VtepLearned { vtep, addr: a } => {
            (e.kind, e.addr) = (9, addr(a));
            at(&mut e, Destination::Vtep(vtep));
        }
        Event::VtepTableFull { addr: a } => (e.kind, e.addr) = (10, addr(a)),
        other => panic!("an event that the ABI has no number for: {other}"),
    }
    e
}

fn group(group: Option<GroupPolicy>) -> (u16, u8) {
    group.map_or((0, 0), |g| (g.id, 1 | u8::from(g.dont_learn) << 1 | u8::from(g.applied) << 2))
}

fn verdict(frame: &Frame<'_>) -> (u8, u16) {
    match frame.verdict() {
        None => (0, 0),
        Some(Verdict::ToUnderlay(v)) => (1, v.0),
        Some(Verdict::ToPort(p)) => (2, p.0),
        Some(Verdict::Flood(_)) => (3, 0),
        Some(Verdict::Punt(r)) => (4, r.number().into()),
        Some(Verdict::Drop(r)) => (5, r.number().into()),
    }
}

impl Twin {
    fn new(config: EngineConfig) -> Option<Twin> {
        let full = |c| u8::from(c == UdpChecksum::Full);
        let told = overlane_config {
            size: size::<overlane_config>(),
            shape: match config.shape {
                Shape::Udp => 0,
                Shape::Ip => 1,
                Shape::Ethernet => 2,
            },
            ttl: config.ttl,
            dscp: config.dscp,
            dont_fragment: config.dont_fragment.into(),
            checksum_v4: full(config.checksum_v4),
            checksum_v6: full(config.checksum_v6),
            verify_checksum: config.verify_checksum.into(),
            allow_zero_checksum_v6: config.allow_zero_checksum_v6.into(),
            reserved_bits: u8::from(config.vxlan.reserved == ReservedBits::Strict),
            group_policy: config.vxlan.group_policy.into(),
            local_mac: config.local_mac.0,
            port: config.port,
            source_port_first: config.source_ports.0,
            source_port_last: config.source_ports.1,
            reserved: 0,
            local_v4: config.local_v4.map_or([0; 4], |a| a.octets()),
            local_v6: config.local_v6.map_or([0; 16], |a| a.octets()),
            seed: [7; 16],
            reserved_mask: 0,
            ageing_ms: config.ageing.as_millis() as u64,
        };
        let amounts = overlane_capacity {
            size: size::<overlane_capacity>(),
            macs: CAPACITY.macs as u32,
            routes_v4: CAPACITY.routes_v4 as u32,
            routes_v6: CAPACITY.routes_v6 as u32,
            vnis: CAPACITY.vnis as u32,
            vteps: CAPACITY.vteps as u32,
            ports: CAPACITY.ports as u32,
            flood_members: CAPACITY.flood_members as u32,
            events: CAPACITY.events as u32,
        };
        let (mut engine, mut text) = (null_mut(), [0 as c_char; 256]);
        let status = c!(overlane_engine_new(&told, &amounts, &mut engine, text.as_mut_ptr(), text.len()));
        match Engine::with_capacity(config, &CAPACITY) {
            Ok(rust) => {
                assert_eq!(status, OVERLANE_OK);
                Some(Twin { rust, c: engine, now: Instant::from_secs(1_000) })
            }
            Err(e) => {
                assert!(status <= -100 && engine.is_null());
                // SAFETY: the call has written a text with a NUL behind it.
                assert_eq!(unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy(), e.to_string());
                None
            }
        }
    }

    /// The words of the latest refusal.
    fn words(&self) -> String {
        let mut text = [0 as c_char; 512];
        c!(overlane_engine_last_error(self.c, text.as_mut_ptr(), text.len()));
        // SAFETY: the call has written a text with a NUL behind it.
        unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned()
    }

    fn command(&mut self, command: &Command) {
        let (e, now) = (self.c, self.now.as_millis());
        let (mut id, mut flushed) = (u16::MAX, u64::MAX);
        let command = sayable(command);
        let status = match command {
            Command::AddVni { vni, config } => c!(overlane_vni_add(e, vni.get(), &vni_config(&config))),
            Command::SetVni { vni, config } => c!(overlane_vni_set(e, vni.get(), &vni_config(&config))),
            Command::RemoveVni { vni } => c!(overlane_vni_remove(e, vni.get())),
            Command::AddVtep(config) => c!(overlane_vtep_add(e, &vtep_config(&config), &mut id)),
            Command::SetVtep { vtep, config } => c!(overlane_vtep_set(e, vtep.0, &vtep_config(&config))),
            Command::RemoveVtep { vtep } => c!(overlane_vtep_remove(e, vtep.0)),
            Command::AddPort(config) => c!(overlane_port_add(e, &port_config(&config), &mut id)),
            Command::SetPort { port, config } => c!(overlane_port_set(e, port.0, &port_config(&config))),
            Command::RemovePort { port } => c!(overlane_port_remove(e, port.0)),
            Command::AddFlood { vni, vtep } => c!(overlane_flood_add(e, vni.get(), vtep.0)),
            Command::RemoveFlood { vni, vtep } => c!(overlane_flood_remove(e, vni.get(), vtep.0)),
            Command::AddMac { vni, mac, at, kind: k } => {
                let (at_kind, at) = place(at);
                c!(overlane_mac_add(e, now, vni.get(), mac.0.as_ptr(), at_kind, at, kind(k)))
            }
            Command::RemoveMac { vni, mac } => c!(overlane_mac_remove(e, vni.get(), mac.0.as_ptr())),
            Command::FlushMacs { vni, at } => {
                let (at_kind, at) = at.map_or((0, 0), place);
                let vni = vni.map_or(OVERLANE_NONE, |v| v.get());
                c!(overlane_mac_flush(e, vni, at_kind, at, &mut flushed))
            }
            Command::AddRoute { vni, prefix: p, next_hop } => {
                let (at_kind, at) = hop(next_hop);
                c!(overlane_route_add(e, vni.get(), &prefix(p), at_kind, at))
            }
            Command::RemoveRoute { vni, prefix: p } => c!(overlane_route_remove(e, vni.get(), &prefix(p))),
            other => panic!("a command that the ABI does not have: {other:?}"),
        };
        match self.rust.apply(self.now, &command) {
            Ok(Change::Vtep(vtep)) => assert_eq!((status, id), (OVERLANE_OK, vtep.0)),
            Ok(Change::Port(port)) => assert_eq!((status, id), (OVERLANE_OK, port.0)),
            // The ABI asks that what is named be there.
            Ok(Change::Flushed(0)) if status != OVERLANE_OK => {
                assert!([OVERLANE_E_VNI_UNKNOWN, OVERLANE_E_MAC_NO_DESTINATION].contains(&status));
            }
            Ok(Change::Flushed(n)) => assert_eq!((status, flushed), (OVERLANE_OK, n as u64)),
            Ok(_) => assert_eq!(status, OVERLANE_OK, "{command:?}"),
            Err(error) => {
                assert!(status <= -200, "{command:?}: {status}");
                assert_eq!(self.words(), error.to_string());
            }
        }
    }

    fn step(&mut self, operation: &Operation) {
        match operation {
            Operation::Command(order) => self.command(&order.command()),
            Operation::Encap { by_worker, port, frames } => {
                let packets: Vec<_> = frames.iter().flatten().map(|f| f.packet()).collect();
                self.packets(*by_worker, Some(port.port()), packets);
            }
            Operation::EncapMany { by_worker, port, frame, times } => {
                self.packets(*by_worker, Some(port.port()), many(frame, *times));
            }
            Operation::Decap { by_worker, datagrams } => {
                let config = *self.rust.tables().config();
                let packets = datagrams.iter().flatten().map(|d| d.packet(&config)).collect();
                self.packets(*by_worker, None, packets);
            }
            Operation::Merge => {}
            Operation::Timeout { budget } => self.age((*budget).into()),
            Operation::Forward(ms) => self.now = self.now + Duration::from_millis((*ms).into()),
            Operation::Leap(s) => self.now = self.now + Duration::from_secs((*s).into()),
            Operation::Back(ms) => {
                self.now = Instant::from_millis(self.now.as_millis().saturating_sub((*ms).into()));
            }
            Operation::CountDrop { reason, vni, vtep, port } => {
                let (vni, vtep, port) = (vni.get(), vtep.vtep(), port.port());
                let ids = (vni.get(), vtep.0.into(), port.0.into());
                let status = c!(overlane_count_drop(self.c, *reason, ids.0, ids.1, ids.2));
                match DropReason::from_number(*reason) {
                    Some(reason) => {
                        assert_eq!(status, OVERLANE_OK);
                        self.rust.count_drop(reason, Some(vni), Some(vtep), Some(port));
                    }
                    None => assert_eq!(status, OVERLANE_E_VALUE),
                }
            }
        }
    }

    fn age(&mut self, budget: u32) {
        let mut aged = 0;
        assert_eq!(c!(overlane_handle_timeout(self.c, self.now.as_millis(), budget, &mut aged)), OVERLANE_OK);
        assert_eq!(self.rust.handle_timeout(self.now, budget as usize) as u64, aged);
    }

    /// Packets in buffers, or, where they can be put so, in an arena, with as few `metas` as that asks for.
    fn packets(&mut self, in_buffers: bool, port: Option<PortId>, mut packets: Vec<Packet>) {
        let (source, headroom) = packets.first().map_or((None, 0), |p| (p.source, p.headroom));
        let mut octets = Vec::new();
        let (mut descs, mut metas, mut windows) = (Vec::new(), Vec::new(), Vec::new());
        for p in &mut packets {
            p.headroom = if in_buffers { p.headroom } else { headroom };
            let (start, (id, group_flags)) = (octets.len(), group(p.group));
            octets.resize(start + p.headroom, 0xa7);
            let (offset, len) = (octets.len() as u32, p.bytes.len() as u32);
            octets.extend_from_slice(&p.bytes);
            windows.push(start..octets.len());
            descs.push(overlane_desc { offset, len, vni: 0, verdict: 0, ecn: p.ecn, target: 0 });
            metas.push(overlane_meta {
                source: p.source.map_or(blank(), addr),
                group: id,
                group_flags,
                segment_len: p.segment_len as u32,
                ..blank()
            });
        }
        self.explained(port, packets.first());
        let plain = packets.iter().all(|p| p.group.is_none() && p.segment_len == 0 && p.source == source);
        let (e, now, count, len) = (self.c, self.now.as_millis(), packets.len(), octets.len());
        let mut given = octets.clone();
        let memory = given.as_mut_ptr();
        let some = if plain { null_mut() } else { metas.as_mut_ptr() };
        let all = source.filter(|_| plain).map_or(blank(), addr);
        let status = match port {
            _ if in_buffers => {
                let buffer =
                    |((desc, meta), window): ((&overlane_desc, &overlane_meta), &std::ops::Range<usize>)| {
                        overlane_buffer {
                            data: memory.wrapping_add(window.start),
                            capacity: window.len(),
                            offset: desc.offset as usize - window.start,
                            len: desc.len as usize,
                            vni: 0,
                            verdict: 0,
                            ecn: desc.ecn,
                            target: 0,
                            meta: *meta,
                        }
                    };
                let mut buffers: Vec<_> = descs.iter().zip(&metas).zip(&windows).map(buffer).collect();
                let at = buffers.as_mut_ptr();
                let status = match port {
                    Some(port) => c!(overlane_encap_buffers(e, now, port.0, at, count)),
                    None => c!(overlane_decap_buffers(e, now, at, count)),
                };
                for (n, b) in buffers.iter().enumerate() {
                    let offset = (windows[n].start + b.offset) as u32;
                    let (len, vni, verdict, ecn, target) = (b.len as u32, b.vni, b.verdict, b.ecn, b.target);
                    descs[n] = overlane_desc { offset, len, vni, verdict, ecn, target };
                    metas[n] = b.meta;
                }
                status
            }
            Some(port) => {
                let room = headroom as u32;
                c!(overlane_encap_arena(e, now, port.0, memory, len, room, descs.as_mut_ptr(), some, count))
            }
            None => c!(overlane_decap_arena(e, now, memory, len, descs.as_mut_ptr(), some, count, &all)),
        };
        let told = in_buffers || !plain;

        let mut frames = Vec::new();
        let mut rest = &mut octets[..];
        for p in &packets {
            let (own, behind) = rest.split_at_mut(p.headroom + p.bytes.len());
            rest = behind;
            let frame = Frame::new(own, p.headroom..p.headroom + p.bytes.len()).expect("it lies inside");
            let frame = frame.with_segment_len(p.segment_len).with_ecn(p.ecn);
            let frame = if let Some(source) = p.source { frame.with_source(source) } else { frame };
            frames.push(if let Some(group) = p.group { frame.with_group(group) } else { frame });
        }
        match port {
            Some(port) => match self.rust.encap(self.now, port, &mut frames) {
                Ok(()) => assert_eq!(status, OVERLANE_OK),
                Err(error) => {
                    assert_eq!((status, self.words()), (OVERLANE_E_PORT_UNKNOWN, error.to_string()));
                    return;
                }
            },
            None => {
                self.rust.decap(self.now, &mut frames);
                assert_eq!(status, OVERLANE_OK);
            }
        }
        for (n, frame) in frames.iter().enumerate() {
            let (desc, meta, at) = (&descs[n], &metas[n], windows[n].start);
            assert_eq!((desc.verdict, desc.target), verdict(frame));
            assert_eq!(desc.vni, frame.vni().map_or(u32::MAX, |vni| vni.get()));
            assert_eq!((desc.offset as usize - at, desc.len as usize), (frame.range().start, frame.len()));
            let end = (desc.offset + desc.len) as usize;
            assert!(given[desc.offset as usize..end] == *frame.bytes(), "the octets differ");
            match port {
                Some(_) => assert_eq!(desc.ecn, frame.ecn()),
                None => assert_eq!(desc.ecn, packets[n].ecn),
            }
            if told && port.is_some() {
                assert_eq!(meta.flow_hash, frame.flow_hash());
            } else if told {
                assert_eq!((meta.group, meta.group_flags), group(frame.group()));
            }
            if let Some(Verdict::Flood(_)) = frame.verdict() {
                self.copies(port, frame, &mut given[desc.offset as usize..end], meta);
            }
        }
        drop(frames);
        assert!(given == octets, "octets outside of the packets differ");
    }

    fn copies(&self, port: Option<PortId>, frame: &Frame<'_>, octets: &mut [u8], meta: &overlane_meta) {
        let vni = frame.vni().expect("a flood is of a VNI").get();
        let port = port.map_or(OVERLANE_NONE, |p| p.0.into());
        let mut expected = self.rust.replicas(frame);
        let (mut cursor, mut n) = (0, usize::MAX);
        while n > 0 {
            let mut to = [blank::<overlane_replica>(); 3];
            let (at, len, copies) = (octets.as_mut_ptr(), octets.len(), to.as_mut_ptr());
            let status = c!(overlane_replicas(
                self.c,
                vni,
                port,
                at,
                len,
                meta,
                &mut cursor,
                copies,
                to.len(),
                &mut n
            ));
            assert_eq!(status, OVERLANE_OK);
            for copy in &to[..n] {
                let header = &copy.header[..copy.header_len.into()];
                match expected.next() {
                    Some(Replica::Port(p)) => assert_eq!((copy.kind, copy.id, header), (1, p.0, &[][..])),
                    Some(Replica::Underlay { vtep, header: h }) => {
                        assert_eq!((copy.kind, copy.id, copy.ecn), (2, vtep.0, frame.ecn()));
                        assert_eq!(header, h.as_slice());
                    }
                    None => panic!("a copy too many"),
                }
            }
        }
        assert!(expected.next().is_none(), "a copy too few");
    }

    /// Both explain the first packet in the same words.
    fn explained(&self, port: Option<PortId>, packet: Option<&Packet>) {
        let Some(packet) = packet else { return };
        let (bytes, len) = (packet.bytes.as_ptr(), packet.bytes.len());
        let (mut text, mut needed) = (vec![0 as c_char; 4096], 0);
        let (to, room, now) = (text.as_mut_ptr(), text.len(), self.now.as_millis());
        let (status, words) = match port {
            Some(port) => {
                let words = self.rust.explain_encap(self.now, port, &packet.bytes, 0).map(|e| e.to_string());
                (
                    c!(overlane_explain_encap(self.c, now, port.0, bytes, len, to, room, &mut needed)),
                    words.ok(),
                )
            }
            None => {
                let words = self.rust.explain_decap(self.now, packet.source, 0, &packet.bytes).to_string();
                let told = packet.source.map(addr);
                let source = told.as_ref().map_or(null(), std::ptr::from_ref);
                (
                    c!(overlane_explain_decap(self.c, now, source, bytes, len, to, room, &mut needed)),
                    Some(words),
                )
            }
        };
        assert_eq!(status == OVERLANE_OK, words.is_some());
        // SAFETY: the buffer was zeros, and its last octet still is one: texts end with a NUL.
        let said = unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy();
        assert_eq!(said, words.unwrap_or_default());
        assert_eq!(said.len(), needed);
    }

    /// Events, deadlines, counters and tables.
    fn compare(&mut self) {
        loop {
            let mut e = overlane_event { size: size::<overlane_event>(), ..blank() };
            let status = c!(overlane_event_poll(self.c, &mut e));
            match self.rust.poll_event() {
                Some(expected) => assert_eq!((status, e), (OVERLANE_OK, event(expected))),
                None => break assert_eq!(status, OVERLANE_E_END),
            }
        }
        let mut deadline = 0;
        assert_eq!(c!(overlane_next_timeout(self.c, &mut deadline)), OVERLANE_OK);
        assert_eq!(deadline, self.rust.next_timeout().map_or(u64::MAX, |at| at.as_millis()));
        let held = self.held();
        assert_eq!(Seen::of(self.c), held);
        self.scope(0, 0, None);
        held.vnis.iter().for_each(|(vni, _)| {
            let known = self.rust.tables().vnis().iter().find(|(_, v)| v.vni.get() == *vni);
            self.scope(1, *vni, known.and_then(|(_, v)| self.rust.vni_counters(v.vni)));
        });
        held.vteps.iter().for_each(|v| self.scope(2, v.id.into(), self.rust.vtep_counters(VtepId(v.id))));
        held.ports.iter().for_each(|p| self.scope(3, p.id.into(), self.rust.port_counters(PortId(p.id))));
    }

    /// The counters of one VNI, VTEP or port, or the drops and punts of the whole engine.
    fn scope(&self, scope: u8, id: u32, counted: Option<&ScopeCounters>) {
        let mut counts = [u64::MAX; 256];
        assert_eq!(c!(overlane_drops(self.c, scope, id, counts.as_mut_ptr(), 256)), OVERLANE_OK);
        let drops = counted.map_or(&self.rust.counters().drops, |c| &c.drops);
        let number = |n: usize| DropReason::from_number(n as u8).map_or(0, |r| drops.get(r));
        assert!(counts.iter().enumerate().all(|(n, count)| *count == number(n)));
        let Some(counted) = counted else {
            assert_eq!(c!(overlane_punts(self.c, counts.as_mut_ptr(), 256)), OVERLANE_OK);
            let punts = &self.rust.counters().punts;
            let number = |n: usize| PuntReason::from_number(n as u8).map_or(0, |r| punts.get(r));
            assert!(counts.iter().enumerate().all(|(n, count)| *count == number(n)));
            return;
        };
        let mut traffic = overlane_traffic { size: size::<overlane_traffic>(), ..blank() };
        assert_eq!(c!(overlane_traffic_get(self.c, scope, id, &mut traffic)), OVERLANE_OK);
        let t = counted.traffic;
        let seen =
            [traffic.rx_frames, traffic.rx_octets, traffic.tx_frames, traffic.tx_octets, traffic.dropped];
        assert_eq!(seen, [t.rx_frames, t.rx_octets, t.tx_frames, t.tx_octets, drops.total()]);
    }

    /// What the engine in Rust holds, in C's words.
    fn held(&self) -> Seen {
        let (t, n) = (self.rust.tables(), self.rust.counters());
        let mut vnis: Vec<_> = t.vnis().iter().collect();
        vnis.sort_by_key(|(index, _)| index.0);
        let (mut floods, mut routes) = (Vec::new(), Vec::new());
        for (VniIndex(index), entry) in &vnis {
            let vni = entry.vni.get();
            floods.extend(t.floods().vteps(VniIndex(*index)).map(|v| (vni, v.0)));
            let v4 = t
                .routes_v4()
                .iter(*index)
                .map(|(a, len, to)| (Ipv4Prefix::new(a, len).map(IpPrefix::V4), to));
            let v6 = t
                .routes_v6()
                .iter(*index)
                .map(|(a, len, to)| (Ipv6Prefix::new(a, len).map(IpPrefix::V6), to));
            routes.extend(v4.chain(v6).map(|(p, to)| {
                let (at_kind, at) = hop(to);
                let (size, prefix) = (size::<overlane_route>(), prefix(p.expect("a prefix")));
                (vni, overlane_route { size, prefix, at_kind, reserved: 0, at })
            }));
        }
        let mut macs: Vec<_> = (t.fdb().iter())
            .map(|e| {
                let (at_kind, at) = place(e.destination);
                overlane_mac_entry {
                    size: size::<overlane_mac_entry>(),
                    vni: e.vni.get(),
                    last_seen_ms: e.last_seen.as_millis(),
                    mac: e.mac.0,
                    kind: kind(e.kind),
                    at_kind,
                    at,
                    reserved: [0; 6],
                }
            })
            .collect();
        macs.sort_by_key(|m| (m.vni, m.mac));
        let vteps = t.vteps().iter().map(|(id, v)| overlane_vtep_info {
            size: size::<overlane_vtep_info>(),
            id: id.0,
            origin: u8::from(v.origin == Origin::Learned),
            reserved: 0,
            addr: addr(v.config.addr),
            port: v.config.port,
            mtu: v.config.mtu,
            learn_limit: v.config.learn_limit,
            learned: t.fdb().learned_by(Destination::Vtep(id)),
            routes: v.routes,
            epoch: v.epoch,
            underlay_mac: v.config.underlay_mac.0,
            inner_mac: mac(v.config.inner_mac),
        });
        let ports = t.ports().iter().map(|(id, p)| overlane_port_info {
            size: size::<overlane_port_info>(),
            vni: p.config.vni.get(),
            learn_limit: p.config.learn_limit,
            learned: t.fdb().learned_by(Destination::Port(id)),
            routes: p.routes,
            id: id.0,
            peer_mac: mac(p.config.peer_mac),
            learning: p.config.learning.into(),
            reserved: [0; 3],
        });
        Seen {
            counters: overlane_counters {
                size: size::<overlane_counters>(),
                reserved: 0,
                encap_frames: n.encap_frames,
                decap_frames: n.decap_frames,
                to_underlay: n.to_underlay,
                to_port: n.to_port,
                flooded: n.flooded,
                punted: n.punts.total(),
                dropped: n.drops.total(),
                learned: n.learned,
                moved: n.moved,
                aged: n.aged,
                evicted: n.evicted,
                not_learned: n.not_learned,
                events_lost: n.events_lost,
            },
            vnis: vnis.iter().map(|(_, entry)| (entry.vni.get(), vni_config(&entry.config))).collect(),
            vteps: vteps.collect(),
            ports: ports.collect(),
            floods,
            routes,
            macs,
        }
    }

    fn end(&mut self) {
        self.now = self.now + Duration::from_secs(10_000);
        for _ in 0..4 {
            self.age(1_000);
            self.compare();
        }
        assert_eq!(c!(overlane_engine_free(self.c)), OVERLANE_OK);
    }
}
