//! Sequences of calls through the C ABI, sensible ones and others.
//!
//! Memory that is passed is no larger than promised, so that AddressSanitizer sees what reaches further.
#![allow(unsafe_code)]

mod memory;
mod packets;
mod read;
mod twin;

use std::ffi::CStr;
use std::ptr::{null, null_mut};

use arbitrary::Arbitrary;
use overlane::addr::IpPrefix;
use overlane_ffi::entry::*;
use overlane_ffi::overlane_engine;
use overlane_ffi::status::*;
use overlane_ffi::types::*;

use self::memory::{How, Passed, Room, blank, c, known};
use self::packets::{Sent, packets};
use self::read::{Seen, read};
pub use self::twin::ffi_twin;
use crate::Operations;
use crate::packet::{LOCAL_MAC, LOCAL_V4, LOCAL_V6, Peer, SomeMac, SomePrefix, SomeVni, Station};

/// Makes two engines through the C ABI and makes the same calls on both, packets for one in an arena
/// and for the other in buffers: numbers that mean nothing, NULL, sizes that are not, offsets outside.
///
/// Both must answer the same, and never with a bug's status. A refused call has changed nothing and
/// said why. Octets that were not the call's are as before. Walks end.
pub fn ffi_calls(data: &[u8]) {
    let Ok(input) = arbitrary::Unstructured::new(data).arbitrary::<Input>() else { return };
    names(data);
    let Some(mut host) = Host::new(&input) else { return };
    for operation in &input.operations.0 {
        host.step(operation);
    }
    host.end();
}

#[derive(Debug, Arbitrary)]
struct Input {
    config: Config,
    /// Whether the engines start empty.
    bare: bool,
    operations: Operations<Operation>,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Config {
    shape: u8,
    checksums: u8,
    reserved_bits: u8,
    group_policy: bool,
    ageing_ms: u16,
    v6: bool,
    how: How,
    capacity: Option<(How, [u8; 8])>,
}

#[derive(Debug, Arbitrary)]
enum Operation {
    Vni {
        set: bool,
        vni: Number,
        mode: u8,
        accept: u8,
        flags: u8,
        group: u16,
        mac: SomeMac,
        how: How,
    },
    VniRemove {
        vni: Number,
    },
    Vtep {
        set: Option<Id>,
        addr: Peer,
        port: u16,
        mtu: u8,
        limit: u8,
        macs: [SomeMac; 2],
        how: How,
    },
    VtepRemove {
        vtep: Id,
    },
    Port {
        set: Option<Id>,
        vni: Number,
        peer: SomeMac,
        learning: bool,
        limit: u8,
        how: How,
    },
    PortRemove {
        port: Id,
    },
    Flood {
        remove: bool,
        vni: Number,
        vtep: Id,
    },
    Mac {
        remove: bool,
        vni: Number,
        mac: SomeMac,
        at_kind: u8,
        at: Id,
        kind: u8,
        how: How,
    },
    Flush {
        vni: Number,
        at_kind: u8,
        at: Id,
    },
    Route {
        remove: bool,
        vni: Number,
        prefix: SomePrefix,
        at_kind: u8,
        at: Id,
        how: How,
    },
    Packets {
        encap: bool,
        port: Id,
        first: Sent,
        second: Option<Sent>,
        times: u8,
        metas: How,
        source: How,
        from: Peer,
    },
    Replicas {
        vni: Number,
        port: Number,
        frame: Station,
        capacity: u8,
        cursor: u32,
        how: How,
    },
    Explain {
        encap: bool,
        port: Id,
        frame: Station,
        room: u8,
        source: How,
        from: Peer,
    },
    Timeout {
        ms: u16,
        seconds: u8,
        budget: u8,
    },
    Event {
        how: How,
    },
    CountDrop {
        reason: u8,
        vni: Number,
        vtep: Number,
        port: Number,
    },
    Read {
        what: u8,
        id: Number,
        mac: SomeMac,
        addr: Peer,
        prefix: SomePrefix,
        cursor: u32,
        len: u8,
        how: How,
    },
}

/// A number where a VNI or an id goes, or none.
#[derive(Debug, Clone, Copy, Arbitrary)]
struct Number(SomeVni, u8);

impl Number {
    fn get(self) -> u32 {
        match self.1 {
            0..230 => self.0.get().get(),
            230..240 => OVERLANE_NONE,
            240..250 => u32::from(self.1 - 240),
            n => u32::from(n) << 24,
        }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Id(u8);

impl Id {
    fn get(self) -> u16 {
        if self.0 == 255 { u16::MAX } else { u16::from(self.0 % 9) }
    }
}

fn octets(addr: Peer) -> overlane_addr {
    addr.get().into()
}

fn prefix(prefix: SomePrefix) -> overlane_prefix {
    let prefix: IpPrefix = prefix.get();
    prefix.into()
}

/// Names of all numbers are text.
fn names(data: &[u8]) {
    let (number, status) = (data.first().copied().unwrap_or(0), data.len() as i32);
    let texts = [
        c!(overlane_version()),
        c!(overlane_strerror(-status)),
        c!(overlane_drop_name(number)),
        c!(overlane_punt_name(number)),
    ];
    for text in texts {
        // SAFETY: the ABI says that these are never NULL, and strings.
        assert!(!unsafe { CStr::from_ptr(text) }.is_empty());
    }
}

/// Two engines that are told the same.
struct Host {
    engines: [*mut overlane_engine; 2],
    now: u64,
}

impl Host {
    fn new(input: &Input) -> Option<Host> {
        let c = input.config;
        let mut config: overlane_config = blank();
        assert_eq!(c!(overlane_config_init(&mut config, size_of::<overlane_config>() as u32)), OVERLANE_OK);
        (config.shape, config.reserved_bits) = (c.shape % 4, c.reserved_bits % 4);
        (config.checksum_v4, config.checksum_v6) = (c.checksums & 1, (c.checksums >> 1) & 1);
        (config.verify_checksum, config.allow_zero_checksum_v6) =
            ((c.checksums >> 2) & 1, (c.checksums >> 3) & 1);
        config.group_policy = u8::from(c.group_policy);
        (config.ageing_ms, config.local_mac) = (u64::from(c.ageing_ms) * 16, LOCAL_MAC.0);
        config.local_v4 = if c.v6 { [0; 4] } else { LOCAL_V4.octets() };
        config.local_v6 = LOCAL_V6.octets();
        config.seed = [7; 16];
        let small = [40, 16, 16, 8, 8, 8, 32, 16];
        let amounts = c.capacity.map_or(small, |(_, n)| n.map(|n| n % 64));
        let [macs, routes_v4, routes_v6, vnis, vteps, ports, flood_members, events] = amounts.map(u32::from);
        let capacity = overlane_capacity {
            size: 0,
            macs,
            routes_v4,
            routes_v6,
            vnis,
            vteps,
            ports,
            flood_members,
            events,
        };
        let capacity_how = c.capacity.map_or(Passed::Rightly, |(how, _)| match how.passed() {
            // The defaults take long to fill, and a changed octet may ask for much memory.
            Passed::Null | Passed::Changed(_) => Passed::Rightly,
            other => other,
        });
        let mut host = Host { engines: [null_mut(); 2], now: 1_000_000 };
        let statuses = [0, 1].map(|n| {
            let mut engine = null_mut();
            let mut error = vec![0x55; 64];
            let (mut room, how) = (Room::of(config, c.how.passed()), c.how.passed());
            let mut amounts = Room::of(capacity, capacity_how);
            let status = c!(overlane_engine_new(
                room.pointer(how, true),
                amounts.pointer(capacity_how, true),
                &mut engine,
                error.as_mut_ptr(),
                error.len(),
            ));
            assert!(known(status) && (status == OVERLANE_OK) != engine.is_null());
            let text = error.iter().position(|b| *b == 0).expect("a NUL behind the text");
            assert_eq!(text == 0, status == OVERLANE_OK);
            host.engines[n] = engine;
            status
        });
        assert_eq!(statuses[0], statuses[1]);
        if statuses[0] != OVERLANE_OK {
            return None;
        }
        if !input.bare {
            host.furnish();
        }
        Some(host)
    }

    /// Two VNIs, bridged and routed, with two ports each; a VTEP.
    fn furnish(&mut self) {
        let (mac, how) = (SomeMac::station(1), How(0, 0));
        for (vni, mode) in [(Number::zero(), OVERLANE_MODE_BRIDGED), (Number::one(), OVERLANE_MODE_ROUTED)] {
            self.step(&Operation::Vni {
                set: false,
                vni,
                mode,
                accept: mode ^ 1,
                flags: 3,
                group: 0,
                mac,
                how,
            });
            for _ in 0..2 {
                self.step(&Operation::Port { set: None, vni, peer: mac, learning: true, limit: 255, how });
            }
        }
        let (addr, macs) = (Peer::other(), [mac; 2]);
        self.step(&Operation::Vtep { set: None, addr, port: 4789, mtu: 0, limit: 255, macs, how });
        self.step(&Operation::Flood { remove: false, vni: Number::zero(), vtep: Id(0) });
    }

    /// Makes the same call on both engines.
    fn both<R: PartialEq + std::fmt::Debug>(
        &self,
        mut call: impl FnMut(*mut overlane_engine) -> (i32, R),
    ) -> (i32, R) {
        let before = Seen::of(self.engines[0]);
        let [one, two] = self.engines.map(&mut call);
        assert_eq!(one, two);
        self.check(&before, one.0);
        one
    }

    /// A status makes sense; a refusal has changed nothing and says why.
    fn check(&self, before: &Seen, status: i32) {
        assert!(known(status), "status {status}");
        if status == OVERLANE_OK {
            return;
        }
        assert_eq!(Seen::of(self.engines[0]), *before, "refused with {status}");
        if status != OVERLANE_E_END {
            let mut text = [0x55; 200];
            let len = c!(overlane_engine_last_error(self.engines[0], text.as_mut_ptr(), text.len()));
            assert!(len > 0 && text[len.min(199)] == 0, "no word on {status}");
        }
    }

    fn command(&self, mut call: impl FnMut(*mut overlane_engine) -> i32) -> i32 {
        self.both(|e| (call(e), ())).0
    }

    fn step(&mut self, operation: &Operation) {
        match operation {
            Operation::Vni { set, vni, mode, accept, flags, group, mac, how } => {
                let bit = |n: u8| (flags >> n) & 1;
                let config = overlane_vni_config {
                    mode: mode % 3,
                    accept: accept % 3,
                    learning: bit(0),
                    flood_unknown: bit(1),
                    notify_miss: bit(2),
                    has_group: bit(3),
                    group: *group,
                    router_mac: mac.get().0,
                    ..blank()
                };
                self.command(|e| {
                    let (mut room, vni) = (Room::of(config, how.passed()), vni.get());
                    let config = room.pointer(how.passed(), true);
                    if *set {
                        c!(overlane_vni_set(e, vni, config))
                    } else {
                        c!(overlane_vni_add(e, vni, config))
                    }
                });
            }
            Operation::VniRemove { vni } => drop(self.command(|e| c!(overlane_vni_remove(e, vni.get())))),
            Operation::Vtep { set, addr, port, mtu, limit, macs, how } => {
                let config = overlane_vtep_config {
                    size: 0,
                    port: *port,
                    mtu: u16::from(*mtu) * 8,
                    learn_limit: if *limit == 255 { u32::MAX } else { u32::from(*limit) },
                    addr: octets(*addr),
                    underlay_mac: macs[0].get().0,
                    inner_mac: macs[1].get().0,
                };
                self.both(|e| {
                    let (mut room, mut id) = (Room::of(config, how.passed()), 0);
                    let config = room.pointer(how.passed(), true);
                    let status = match set {
                        Some(vtep) => c!(overlane_vtep_set(e, vtep.get(), config)),
                        None => c!(overlane_vtep_add(e, config, &mut id)),
                    };
                    (status, id)
                });
            }
            Operation::VtepRemove { vtep } => drop(self.command(|e| c!(overlane_vtep_remove(e, vtep.get())))),
            Operation::Port { set, vni, peer, learning, limit, how } => {
                let config = overlane_port_config {
                    size: 0,
                    vni: vni.get(),
                    learn_limit: if *limit == 255 { u32::MAX } else { u32::from(*limit) },
                    peer_mac: peer.get().0,
                    learning: u8::from(*learning),
                    reserved: 0,
                };
                self.both(|e| {
                    let (mut room, mut id) = (Room::of(config, how.passed()), 0);
                    let config = room.pointer(how.passed(), true);
                    let status = match set {
                        Some(port) => c!(overlane_port_set(e, port.get(), config)),
                        None => c!(overlane_port_add(e, config, &mut id)),
                    };
                    (status, id)
                });
            }
            Operation::PortRemove { port } => drop(self.command(|e| c!(overlane_port_remove(e, port.get())))),
            Operation::Flood { remove, vni, vtep } => {
                let (vni, vtep) = (vni.get(), vtep.get());
                self.command(|e| match remove {
                    true => c!(overlane_flood_remove(e, vni, vtep)),
                    false => c!(overlane_flood_add(e, vni, vtep)),
                });
            }
            Operation::Mac { remove, vni, mac, at_kind, at, kind, how } => {
                let (now, mac) = (self.now, mac.get().0);
                let mac = if how.passed() == Passed::Null { null() } else { mac.as_ptr() };
                self.command(|e| match remove {
                    true => c!(overlane_mac_remove(e, vni.get(), mac)),
                    false => c!(overlane_mac_add(e, now, vni.get(), mac, at_kind % 6, at.get(), kind % 4)),
                });
            }
            Operation::Flush { vni, at_kind, at } => {
                self.both(|e| {
                    let mut flushed = 0;
                    (c!(overlane_mac_flush(e, vni.get(), at_kind % 4, at.get(), &mut flushed)), flushed)
                });
            }
            Operation::Route { remove, vni, prefix: p, at_kind, at, how } => {
                self.command(|e| {
                    let mut room = Room::of(prefix(*p), how.passed());
                    let prefix = room.pointer(how.passed(), false);
                    match remove {
                        true => c!(overlane_route_remove(e, vni.get(), prefix)),
                        false => c!(overlane_route_add(e, vni.get(), prefix, at_kind % 6, at.get())),
                    }
                });
            }
            Operation::Packets { encap, port, first, second, times, metas, source, from } => {
                let mut sent: Vec<&Sent> = std::iter::repeat_n(first, 1 + usize::from(times / 6)).collect();
                sent.extend(second);
                let source = (source.passed() == Passed::Rightly).then(|| octets(*from));
                packets(self.engines, self.now, encap.then(|| port.get()), &sent, *metas, source);
            }
            _ => self.rest(operation),
        }
    }

    /// What changes no table by itself.
    fn rest(&mut self, operation: &Operation) {
        let now = self.now;
        match operation {
            Operation::Replicas { vni, port, frame, capacity, cursor, how } => {
                let mut bytes = frame.bytes();
                self.both(|e| {
                    let mut to = vec![blank::<overlane_replica>(); usize::from(capacity % 8)];
                    let (mut at, mut n) = (*cursor, 0);
                    let mut meta = Room::of(blank::<overlane_meta>(), how.passed());
                    let meta = meta.pointer(how.passed(), false);
                    let (frame, len) = (bytes.as_mut_ptr(), bytes.len());
                    let status = c!(overlane_replicas(
                        e,
                        vni.get(),
                        port.get(),
                        frame,
                        len,
                        meta,
                        &mut at,
                        to.as_mut_ptr(),
                        to.len(),
                        &mut n
                    ));
                    assert!(n <= to.len());
                    (status, (at, n, to))
                });
            }
            Operation::Explain { encap, port, frame, room, source, from } => {
                let bytes = frame.bytes();
                self.both(|e| {
                    let mut text = vec![0x55; usize::from(*room)];
                    let (to, len) = (text.as_mut_ptr(), text.len());
                    let (mut needed, mut addr) = (0, Room::of(octets(*from), source.passed()));
                    let source = addr.pointer(source.passed(), false);
                    let status = match encap {
                        true => c!(overlane_explain_encap(
                            e,
                            now,
                            port.get(),
                            bytes.as_ptr(),
                            bytes.len(),
                            to,
                            len,
                            &mut needed
                        )),
                        false => c!(overlane_explain_decap(
                            e,
                            now,
                            source,
                            bytes.as_ptr(),
                            bytes.len(),
                            to,
                            len,
                            &mut needed
                        )),
                    };
                    if status == OVERLANE_OK && len > 0 {
                        assert_eq!(text.iter().position(|b| *b == 0), Some(needed.min(len - 1)));
                    }
                    (status, (needed, text))
                });
            }
            Operation::Timeout { ms, seconds, budget } => {
                self.now += u64::from(*ms) + 1_000 * u64::from(*seconds);
                let now = self.now;
                self.both(|e| {
                    let (mut aged, mut deadline) = (0, 0);
                    let status = c!(overlane_handle_timeout(e, now, (*budget).into(), &mut aged));
                    assert!(aged <= u64::from(*budget));
                    assert_eq!(c!(overlane_next_timeout(e, &mut deadline)), OVERLANE_OK);
                    (status, (aged, deadline))
                });
            }
            Operation::Event { how } => {
                self.both(|e| {
                    let mut room = Room::of(blank::<overlane_event>(), how.passed());
                    let status = c!(overlane_event_poll(e, room.pointer(how.passed(), true)));
                    (status, room.read::<overlane_event>())
                });
            }
            Operation::CountDrop { reason, vni, vtep, port } => {
                self.command(|e| c!(overlane_count_drop(e, *reason, vni.get(), vtep.get(), port.get())));
            }
            Operation::Read { what, id, mac, addr, prefix: p, cursor, len, how } => {
                self.both(|e| read(e, now, *what, id.get(), *mac, *addr, *p, *cursor, *len, *how));
            }
            _ => {}
        }
    }

    fn end(&mut self) {
        assert_eq!(Seen::of(self.engines[0]), Seen::of(self.engines[1]));
        for engine in self.engines {
            assert_eq!(c!(overlane_engine_free(engine)), OVERLANE_OK);
        }
        assert_eq!(c!(overlane_engine_free(null_mut())), OVERLANE_OK);
        assert_eq!(c!(overlane_vni_remove(null_mut(), 1)), OVERLANE_E_NULL);
    }
}

impl Number {
    fn zero() -> Number {
        Number(SomeVni::few(0), 0)
    }

    fn one() -> Number {
        Number(SomeVni::few(1), 0)
    }
}
