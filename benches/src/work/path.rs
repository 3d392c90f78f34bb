//! The whole path of a packet through an engine, in batches of 32: called from Rust, and through the
//! C ABI's arena.
//!
//! Each packet is a TCP segment in an Ethernet frame of 64 octets; the outer shape is Ethernet,
//! IPv4, UDP and VXLAN, 50 octets more. The buffers of a batch stay in the first cache; what makes
//! packets differ is written into them before each batch, as a network card would, and that is in the
//! figure too (`who` "none" tells how much it is). So are the making of the frames or descriptors
//! for each batch, and the reading of the verdicts.

use std::hint::black_box;

use overlane::addr::Destination;
use overlane::table::EntryKind;
use overlane::wire::checksum::Sum;

use super::Scale;
use super::c_abi::CAbi;
use super::host::{BATCH, Host, INNER_AT, INNER_LEN, LOCAL, LOCAL_MAC, OUTER_LEN, STRIDE, Size};
use super::rust_call::{Nothing, RustCall};
use crate::measure::{Random, Sample, passes};

const OUTER_AT: usize = INNER_AT - OUTER_LEN;
const VTEPS: usize = 256;
/// Pods behind the ports that stay the same.
const PODS: usize = BATCH;
/// How many VNIs can have a port, and so carry packets.
pub(super) const PORTED: usize = 1 << 16;
const HOUR: u64 = 3_600_000;

/// What differs from packet to packet.
#[derive(Debug, Clone, Copy, Default)]
struct Packet {
    dst: [u8; 6],
    src: [u8; 6],
    vni: u32,
    outer_src: [u8; 4],
    ip_check: [u8; 2],
}

fn vtep_addr(vtep: usize) -> [u8; 4] {
    [10, 1, (vtep >> 8) as u8, vtep as u8]
}

/// The same MAC for the same number.
fn mac(first: u8, n: usize) -> [u8; 6] {
    let [a, b, c, d, e, ..] = Random(n as u64).next().to_le_bytes();
    [first, a, b, c, d, e]
}

/// The outer headers for a packet from `src`, up to the VXLAN header.
fn outer(src: [u8; 4]) -> [u8; OUTER_LEN] {
    let mut head = [0; OUTER_LEN];
    head[..6].copy_from_slice(&LOCAL_MAC);
    head[6..14].copy_from_slice(&[2, 0, 0, 0, 1, 0, 8, 0]);
    head[14..18].copy_from_slice(&[0x45, 0, 0, (INNER_LEN + 36) as u8]);
    head[20..24].copy_from_slice(&[0x40, 0, 64, 17]);
    head[26..30].copy_from_slice(&src);
    head[30..34].copy_from_slice(&LOCAL);
    let check = Sum::new().add_bytes(&head[14..34]).finish();
    head[24..26].copy_from_slice(&check.to_be_bytes());
    head[34..42].copy_from_slice(&[0xc1, 0x23, 0x12, 0xb5, 0, (INNER_LEN + 16) as u8, 0, 0]);
    head[42] = 8;
    head
}

fn arena() -> Box<[u8; BATCH * STRIDE]> {
    let mut arena = vec![0u8; BATCH * STRIDE];
    for (i, buffer) in arena.chunks_exact_mut(STRIDE).enumerate() {
        buffer[OUTER_AT..INNER_AT].copy_from_slice(&outer(vtep_addr(0)));
        let frame = &mut buffer[INNER_AT..][..INNER_LEN];
        frame[6..12].copy_from_slice(&mac(2, i));
        frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
        frame[17] = (INNER_LEN - 14) as u8;
        frame[20..24].copy_from_slice(&[0x40, 0, 64, 6]);
        frame[26..34].copy_from_slice(&[10, 2, 0, i as u8, 10, 2, 1, i as u8]);
        frame[34..38].copy_from_slice(&[0x80, i as u8, 0, 80]);
        frame[46] = 0x50;
    }
    arena.into_boxed_slice().try_into().expect("as long as it was made")
}

#[inline]
fn deliver_inner(arena: &mut [u8; BATCH * STRIDE], packets: &[Packet; BATCH]) {
    for (buffer, packet) in arena.chunks_exact_mut(STRIDE).zip(packets) {
        buffer[INNER_AT..INNER_AT + 6].copy_from_slice(&packet.dst);
    }
}

#[inline]
fn deliver_outer(arena: &mut [u8; BATCH * STRIDE], packets: &[Packet; BATCH]) {
    for (buffer, packet) in arena.chunks_exact_mut(STRIDE).zip(packets) {
        let head: &mut [u8; OUTER_LEN + 12] =
            (&mut buffer[OUTER_AT..INNER_AT + 12]).try_into().expect("so long");
        head[24..26].copy_from_slice(&packet.ip_check);
        head[26..30].copy_from_slice(&packet.outer_src);
        head[46..50].copy_from_slice(&(packet.vni << 8).to_be_bytes());
        head[50..56].copy_from_slice(&packet.dst);
        head[56..62].copy_from_slice(&packet.src);
    }
}

/// `size` is how many remote addresses there are, and how many VNIs for `decap-vnis`.
pub(super) fn run(what: &str, size: usize, who: &str, scale: Scale) -> Sample {
    match who {
        "ours" => measure::<RustCall>(what, size, scale),
        "C ABI" => measure::<CAbi>(what, size, scale),
        "none" => measure::<Nothing>(what, size, scale),
        _ => panic!("no such host: {who}"),
    }
}

/// An engine's population, and the packets that it is given: all it holds, in a random order, and
/// again in another until there are enough.
struct World<H> {
    host: H,
    port: u16,
    packets: Vec<Packet>,
    remotes: usize,
}

fn world<H: Host>(remotes: usize, locals: usize, vnis: usize, ageing_ms: u64, queries: usize) -> World<H> {
    let ported = vnis.min(PORTED);
    let size = Size { macs: remotes + locals, vnis, ports: ported, ageing_ms };
    let mut host = H::new(size);
    // Far apart, as numbers of VNIs are.
    let vni_of = |i: usize| (i * 167 + 1) as u32;
    (0..vnis).for_each(|i| host.add_vni(vni_of(i)));
    for vtep in 0..VTEPS {
        assert_eq!(usize::from(host.add_vtep(vtep_addr(vtep), [2, 0, 0, 1, 0, 1])), vtep);
    }
    let ports: Vec<u16> = (0..ported).map(|i| host.add_port(vni_of(i))).collect();
    // A pod has the number of its VNI, and so have those that send to it.
    assert!(locals.is_multiple_of(ported));
    for i in 0..locals {
        let at = Destination::Port(overlane::addr::PortId(ports[i % ported]));
        host.add_mac(0, vni_of(i % ported), mac(2, i), at, EntryKind::Static);
    }
    let mut all: Vec<Packet> = (0..remotes)
        .map(|i| {
            let (vni, vtep) = (vni_of(i % ported), i % VTEPS);
            let at = Destination::Vtep(overlane::addr::VtepId(vtep as u16));
            host.add_mac(0, vni, mac(6, i), at, EntryKind::Learned);
            let outer_src = vtep_addr(vtep);
            let head = outer(outer_src);
            Packet { dst: mac(2, i % locals), src: mac(6, i), vni, outer_src, ip_check: [head[24], head[25]] }
        })
        .collect();
    let (mut random, mut packets) = (Random(48), Vec::with_capacity(queries + remotes));
    while packets.len() < queries {
        random.shuffle(&mut all);
        packets.extend_from_slice(&all);
    }
    packets.truncate(queries);
    World { host, port: ports[0], packets, remotes }
}

fn measure<H: Host>(what: &str, size: usize, scale: Scale) -> Sample {
    let (queries, mut arena) = (scale.queries(1 << 20), arena());
    let timed = match what {
        "encap" => {
            let mut w: World<H> = world(scale.entries(size), PODS, 1, 300_000, queries);
            // Sent to the remote addresses, that is.
            w.packets.iter_mut().for_each(|p| p.dst = p.src);
            let (batches, _) = w.packets.as_chunks::<BATCH>();
            passes(batches.len() * BATCH, || {
                let mut sum = 0;
                for batch in batches {
                    deliver_inner(&mut arena, batch);
                    sum += w.host.encap(1000, w.port, black_box(&mut arena));
                }
                sum
            })
        }
        "decap" | "decap-refresh" | "decap-vnis" => {
            let ageing = if what == "decap-refresh" { 16 * HOUR } else { 300_000 };
            let mut w: World<H> = match what {
                "decap-vnis" => {
                    let pairs = scale.entries(PORTED);
                    world(pairs, pairs, scale.entries(size), ageing, queries)
                }
                _ => world(scale.entries(size), PODS, 1, ageing, queries),
            };
            let (batches, _) = w.packets.as_chunks::<BATCH>();
            let (mut now, mut seen) = (1000, 0);
            passes(batches.len() * BATCH, || {
                let mut sum = 0;
                for batch in batches {
                    deliver_outer(&mut arena, batch);
                    sum += w.host.decap(now, black_box(&mut arena));
                    seen += BATCH;
                    // Whoever comes again was last seen two hours ago: due to be refreshed, not yet old.
                    if what == "decap-refresh" && seen >= w.remotes {
                        (now, seen) = (now + 2 * HOUR, 0);
                    }
                }
                sum
            })
        }
        _ => panic!("no such work: {what}"),
    };
    timed.sample(0)
}
