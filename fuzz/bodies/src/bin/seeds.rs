//! Cuts the seeds of `wire`, `decap` and `superframe` out of the captures in `tests/captures`:
//! `cargo run -p overlane-fuzz-bodies --bin seeds`.
//!
//! Of the packets of a capture which look alike to the parser, only the first becomes a seed: as a
//! whole, for `wire` and `decap`, and its VXLAN datagram, as a UDP socket would give it, for `decap`.
//! An inner TCP or UDP packet, with a virtio-net header that cuts it in three, is for `superframe`.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

use overlane::linux::offload::VirtioNetHeader;
use overlane::wire::inner::{Inner, Network};
use overlane::wire::outer::{self, Outer, OuterPolicy, Shape};

/// Packets longer than 65,535 octets are seeds of one target each: they are large, and alike.
const SUPERFRAMES: [(&str, &str); 2] =
    [("tcpdump-bigtcp-ipv4-vxlan-ipv6", "wire"), ("tcpdump-bigtcp-ipv6-vxlan-ipv4", "decap")];

fn main() -> io::Result<()> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut captures: Vec<_> = fs::read_dir(fuzz.join("../tests/captures"))?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<io::Result<_>>()?;
    // Our own last: of what looks alike, the packet that somebody really sent is the better one.
    captures.sort_by_key(|c| (c.file_stem().is_some_and(|s| s == "made"), c.clone()));
    let mut seen = HashSet::new();
    let mut written = 0;
    for capture in captures.iter().filter(|c| c.extension().is_some_and(|e| e == "pcap")) {
        let name = capture.file_stem().unwrap_or_default().to_string_lossy();
        for (n, packet) in ethernet_packets(&fs::read(capture)?).iter().enumerate() {
            let policy = OuterPolicy { ports: [4789, 8472, 0, 0], ..OuterPolicy::default() };
            let read = outer::parse(Shape::Ethernet, packet, &policy);
            let datagram = read.as_ref().ok().and_then(|o| packet.get(o.payload.start - 8..o.payload.end));
            let long = packet.len() > 65_535;
            if !seen.insert(if long { format!("{name} {n}") } else { look(packet, &read) }) {
                continue;
            }
            let targets = ["wire", "decap"];
            for target in targets.iter().filter(|t| !long || SUPERFRAMES.contains(&(&name, t))) {
                fs::write(fuzz.join(format!("seeds/{target}/{name}-{}", n + 1)), packet)?;
                written += 1;
            }
            if let Some(datagram) = datagram.filter(|_| !long) {
                fs::write(fuzz.join(format!("seeds/decap/{name}-{}.vxlan", n + 1)), datagram)?;
                written += 1;
            }
            let inner = read.ok().and_then(|o| packet.get(o.payload));
            if let Some(seed) = inner.filter(|_| !long).and_then(superframe) {
                fs::write(fuzz.join(format!("seeds/superframe/{name}-{}", n + 1)), seed)?;
                written += 1;
            }
        }
    }
    println!("{written} seeds");
    Ok(())
}

/// A frame behind a virtio-net header by which it is a superframe.
fn superframe(frame: &[u8]) -> Option<Vec<u8>> {
    let inner = Inner::classify(frame).ok()?;
    let (v6, ip_len) = match inner.network {
        Network::Ipv4(ip) => (false, u16::from(ip.header_len)),
        Network::Ipv6(_, payload) => (true, payload.offset),
        _ => return None,
    };
    let csum_start = inner.ethernet.payload_offset + ip_len;
    let (gso_type, csum_offset) = match (inner.protocol()?, v6) {
        (6, false) => (VirtioNetHeader::GSO_TCPV4, 16),
        (6, true) => (VirtioNetHeader::GSO_TCPV6, 16),
        (17, _) => (VirtioNetHeader::GSO_UDP_L4, 6),
        _ => return None,
    };
    let payload = frame.len().checked_sub(usize::from(csum_start) + 8)?;
    let header = VirtioNetHeader {
        flags: VirtioNetHeader::NEEDS_CSUM,
        gso_type,
        hdr_len: csum_start + 8,
        gso_size: payload as u16 / 3 + 1,
        csum_start,
        csum_offset,
    };
    Some([&header.to_bytes(), frame].concat())
}

/// What the parser sees of a packet, without its values.
fn look(packet: &[u8], read: &Result<Outer, overlane::error::ParseError>) -> String {
    let o = match read {
        Err(e) => return e.to_string(),
        Ok(o) => o,
    };
    let outer =
        format!("{} {:02x} {:02x?}", o.src.is_some_and(|a| a.is_ipv6()), o.vxlan.flags, o.vxlan.group);
    let Ok(inner) = Inner::classify(&packet[o.payload.clone()]) else { return outer };
    let network = match inner.network {
        Network::None => "none",
        Network::Arp(_) => "arp",
        Network::Ipv4(_) => "ipv4",
        Network::Ipv6(..) => "ipv6",
        Network::Malformed(_) => "malformed",
    };
    let ethernet = (inner.ethernet.tags, inner.ethernet.dst.is_multicast(), inner.ethernet.ethertype);
    let size = o.payload.len().ilog2() / 2;
    format!("{outer} {ethernet:?} {network} {:?} {:?} {size}", inner.protocol(), inner.is_fragment())
}

/// The packets of a pcap file in this machine's or the other byte order whose link is Ethernet.
fn ethernet_packets(file: &[u8]) -> Vec<&[u8]> {
    let word = |at: usize, swapped: bool| {
        let bytes = *file.get(at..)?.first_chunk::<4>()?;
        Some(if swapped { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    let swapped = match word(0, false) {
        Some(0xa1b2_c3d4 | 0xa1b2_3c4d) => false,
        Some(0xd4c3_b2a1 | 0x4d3c_b2a1) => true,
        _ => return Vec::new(),
    };
    let mut packets = Vec::new();
    let mut at = 24;
    while word(20, swapped) == Some(1)
        && let Some(len) = word(at + 8, swapped)
        && let Some(packet) = file.get(at + 16..at + 16 + len as usize)
    {
        packets.push(packet);
        at += 16 + packet.len();
    }
    packets
}
