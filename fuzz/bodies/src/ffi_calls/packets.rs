//! Batches of packets through the C ABI: in an arena for one engine, in buffers for the other.
use std::ptr::null_mut;

use arbitrary::Arbitrary;
use overlane_ffi::entry::*;
use overlane_ffi::overlane_engine;
use overlane_ffi::status::*;
use overlane_ffi::types::*;

use super::memory::{How, Passed, blank, c, known};
use crate::packet::{SomeVni, Station};

/// A packet, and where it lies.
#[derive(Debug, Clone, Arbitrary)]
pub(super) struct Sent {
    frame: Station,
    vni: SomeVni,
    headroom: u8,
    /// Now and then, how far the offset is wrong.
    astray: (u8, i32),
    ecn: u8,
    group: (u8, u16),
    segment_len: u16,
}

impl Sent {
    fn bytes(&self, encap: bool) -> Vec<u8> {
        let inner = self.frame.bytes();
        if encap {
            return inner;
        }
        let vxlan = overlane::wire::vxlan::VxlanHeader::emit(self.vni.get(), None);
        [&vxlan[..], &inner].concat()
    }

    /// What lies before the packet and is its own.
    fn headroom(&self) -> u32 {
        self.headroom.into()
    }

    /// How far the offset that is passed is wrong.
    fn astray(&self) -> i32 {
        if self.astray.0 > 230 { self.astray.1 } else { 0 }
    }

    fn ecn(&self) -> u8 {
        if self.ecn > 250 { self.ecn } else { self.ecn & 3 }
    }

    fn meta(&self) -> overlane_meta {
        overlane_meta {
            group: self.group.1,
            group_flags: if self.group.0 > 250 { self.group.0 } else { self.group.0 & 7 },
            segment_len: if self.segment_len < 1_000 { 0 } else { self.segment_len.into() },
            ..blank()
        }
    }
}

/// What lies between packets in the arena, and must stay so.
const GUARD: u8 = 0xa7;

/// Packets one behind the other in one piece of memory.
struct Arena {
    octets: Vec<u8>,
    descs: Vec<overlane_desc>,
    /// Where each packet and its headroom lie.
    windows: Vec<(usize, usize)>,
}

impl Arena {
    fn new(packets: &[&Sent], encap: bool) -> Arena {
        let mut arena = Arena { octets: Vec::new(), descs: Vec::new(), windows: Vec::new() };
        // An arena has one headroom.
        let headroom = if encap { packets[0].headroom() as usize } else { 0 };
        for packet in packets {
            let bytes = packet.bytes(encap);
            arena.octets.extend_from_slice(&[GUARD; 3]);
            let start = arena.octets.len();
            arena.octets.resize(start + headroom, GUARD);
            let offset = (arena.octets.len() as u32).wrapping_add_signed(packet.astray());
            arena.octets.extend_from_slice(&bytes);
            arena.windows.push((start, arena.octets.len()));
            arena.descs.push(overlane_desc {
                offset,
                len: bytes.len() as u32,
                vni: 0,
                verdict: 0,
                ecn: packet.ecn(),
                target: 0,
            });
        }
        arena
    }

    /// What lies between the packets.
    fn is_intact(&self) -> bool {
        let mut end = 0;
        self.windows.iter().all(|(start, next)| {
            let gap = &self.octets[end..*start];
            end = *next;
            gap.iter().all(|b| *b == GUARD)
        })
    }
}

/// Gives the packets to both engines; `port` where they come from one.
pub(super) fn packets(
    engines: [*mut overlane_engine; 2],
    now: u64,
    port: Option<u16>,
    packets: &[&Sent],
    metas: How,
    source: Option<overlane_addr>,
) {
    let encap = port.is_some();
    let [one, two] = engines;
    let given = Arena::new(packets, encap);
    let headroom = if encap { packets[0].headroom() } else { 0 };
    let mut arena = Arena::new(packets, encap);
    let with_source = |p: &&Sent| overlane_meta {
        source: source.filter(|_| !encap).unwrap_or(p.meta().source),
        ..p.meta()
    };
    let mut meta: Vec<_> = packets.iter().map(with_source).collect();
    let given_meta = meta.clone();
    let metas_given = metas.passed() == Passed::Rightly;
    let status = through(one, now, port, &mut arena, headroom, metas_given.then_some(&mut meta), source);
    assert!(known(status), "status {status}");
    let astray = packets.iter().any(|p| p.astray() != 0);
    if status != OVERLANE_OK {
        assert!(arena.octets == given.octets && arena.descs == given.descs && meta == given_meta);
    } else if !astray {
        assert!(arena.is_intact());
    }

    if astray || !metas_given {
        // Buffers have no such mistakes, and state what an arena may leave out: the same again.
        let mut arena_too = Arena::new(packets, encap);
        let mut meta_too = given_meta;
        let again =
            through(two, now, port, &mut arena_too, headroom, metas_given.then_some(&mut meta_too), source);
        assert_eq!((status, &arena.descs, meta), (again, &arena_too.descs, meta_too));
        assert!(arena.octets == arena_too.octets);
        return;
    }

    // One behind the other too, as the order in memory decides which packets are worked on together.
    // A single packet has its memory for itself, so that the sanitizer sees what goes beyond it.
    let mut apart = Arena::new(packets, encap);
    let (first, single) = (apart.windows[0], packets.len() == 1);
    let mut alone: Box<[u8]> = apart.octets[first.0..first.1].into();
    let memory = if single { alone.as_mut_ptr() } else { apart.octets.as_mut_ptr() };
    let at = |n: usize| if single { 0 } else { given.windows[n].0 };
    let mut buffers: Vec<_> = (given.windows.iter().zip(&given.descs).zip(&given_meta).enumerate())
        .map(|(n, (((start, end), desc), meta))| overlane_buffer {
            data: memory.wrapping_add(at(n)),
            capacity: end - start,
            offset: headroom as usize,
            len: desc.len as usize,
            vni: 0,
            verdict: 0,
            ecn: desc.ecn,
            target: 0,
            meta: *meta,
        })
        .collect();
    let again = match port {
        Some(port) => c!(overlane_encap_buffers(two, now, port, buffers.as_mut_ptr(), buffers.len())),
        None => c!(overlane_decap_buffers(two, now, buffers.as_mut_ptr(), buffers.len())),
    };
    assert_eq!(status, again);
    if single {
        apart.octets[first.0..first.1].copy_from_slice(&alone);
    }
    assert!(apart.octets == arena.octets, "the packets differ");
    for (n, buffer) in buffers.iter().enumerate() {
        let (desc, (start, end)) = (&arena.descs[n], arena.windows[n]);
        assert_eq!((desc.offset as usize - start, desc.len as usize), (buffer.offset, buffer.len));
        assert_eq!(
            (desc.vni, desc.verdict, desc.ecn, desc.target),
            (buffer.vni, buffer.verdict, buffer.ecn, buffer.target)
        );
        assert_eq!(meta[n], buffer.meta);
        if status == OVERLANE_OK {
            assert!((OVERLANE_VERDICT_TO_UNDERLAY..=OVERLANE_VERDICT_DROP).contains(&desc.verdict));
            if desc.verdict == OVERLANE_VERDICT_DROP {
                assert!(
                    arena.octets[start..end] == given.octets[start..end]
                        && buffer.offset == headroom as usize
                );
            }
            if desc.verdict == OVERLANE_VERDICT_FLOOD {
                copies(
                    one,
                    desc.vni,
                    port,
                    &mut arena.octets[start..end],
                    desc.offset as usize - start,
                    &meta[n],
                );
            }
        }
    }
}

fn through(
    engine: *mut overlane_engine,
    now: u64,
    port: Option<u16>,
    arena: &mut Arena,
    headroom: u32,
    metas: Option<&mut Vec<overlane_meta>>,
    source: Option<overlane_addr>,
) -> i32 {
    let (at, len) = (arena.octets.as_mut_ptr(), arena.octets.len());
    let (descs, count) = (arena.descs.as_mut_ptr(), arena.descs.len());
    let metas = metas.map_or(null_mut(), |m| m.as_mut_ptr());
    let source = source.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    match port {
        Some(port) => c!(overlane_encap_arena(engine, now, port, at, len, headroom, descs, metas, count)),
        None => c!(overlane_decap_arena(engine, now, at, len, descs, metas, count, source)),
    }
}

/// The copies of a flooded frame: each once, none back to where it came from, and none from a tunnel to a tunnel.
fn copies(
    engine: *mut overlane_engine,
    vni: u32,
    from: Option<u16>,
    window: &mut [u8],
    offset: usize,
    meta: &overlane_meta,
) {
    let frame = &mut window[offset..];
    let port = from.map_or(OVERLANE_NONE, u32::from);
    let (mut cursor, mut met) = (0, Vec::new());
    for _ in 0..100 {
        let mut to = [blank::<overlane_replica>(); 3];
        let mut n = 0;
        let status = c!(overlane_replicas(
            engine,
            vni,
            port,
            frame.as_mut_ptr(),
            frame.len(),
            meta,
            &mut cursor,
            to.as_mut_ptr(),
            to.len(),
            &mut n,
        ));
        assert_eq!(status, OVERLANE_OK);
        met.extend_from_slice(&to[..n]);
        if n == 0 {
            break;
        }
    }
    let mut ids: Vec<_> = met.iter().map(|r| (r.kind, r.id)).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), met.len(), "a copy was given twice");
    for copy in &met {
        match copy.kind {
            OVERLANE_AT_PORT => assert!(Some(copy.id) != from && copy.header_len == 0),
            OVERLANE_AT_VTEP => assert!(from.is_some() && [8, 36, 50, 56, 70].contains(&copy.header_len)),
            other => panic!("a copy for {other}"),
        }
    }
}
