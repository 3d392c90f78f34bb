//! One header: ours beside etherparse, smoltcp and structures over bytes (zerocopy).
//!
//! *Write*: the inner frame lies behind 50 octets of headroom; flow hash, source port, lengths and
//! the IPv4 checksum are computed for each frame. All write the same octets; the flow hash is ours in
//! all of them.
//!
//! *Parse*: Ethernet, IPv4, UDP, VXLAN, and Ethernet, IPv4 and ports in it. All allow IPv4 options,
//! cut each layer to the length that the one before states, and verify the outer IPv4 checksum.

use std::hint::black_box;
use std::net::Ipv4Addr;

use overlane::addr::{MacAddr, Vni};
use overlane::wire::checksum::Sum;
use overlane::wire::inner::{Flow, Inner, Network, source_port};
use overlane::wire::outer::{self, OuterPolicy, Shape};
use overlane::wire::template::{Fields, Template, TemplateConfig, UdpChecksum};
use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Scale;
use crate::measure::{Random, Sample, Timed, passes};

/// Octets of outer headers.
const OUTER: usize = 50;
/// Buffers in turn, 2 KiB each and as far apart as an allocator lays them: were it 2 KiB, the 64 would share two sets of the
/// first cache.
const RING: usize = 64;
const STRIDE: usize = 2048 + 16;

const VNI: u32 = 4242;
const SMAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const DMAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const SRC: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const DST: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);
const PORT: u16 = 4789;

#[inline]
fn flow_port(frame: &[u8]) -> u16 {
    Flow::of(frame, 0).map_or(0, |flow| source_port(flow.hash, 49152, 65535))
}

#[inline]
fn write_ours(template: &Template, packet: &mut [u8]) -> Option<()> {
    let frame = packet.get(OUTER..)?;
    let fields = Fields { vni: Vni::truncate(VNI), source_port: flow_port(frame), ..Fields::default() };
    template.write(packet, &fields)
}

/// Reads the flow and writes nothing.
#[inline]
fn write_nothing(_: &Template, packet: &mut [u8]) -> Option<()> {
    let frame = packet.get(OUTER..)?;
    if flow_port(frame) == 0 { None } else { Some(()) }
}

#[inline]
fn write_etherparse(_: &Template, packet: &mut [u8]) -> Option<()> {
    use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, UdpHeader};
    let (head, frame) = packet.split_first_chunk_mut::<OUTER>()?;
    let len = frame.len() as u16;
    let ethernet = Ethernet2Header { source: SMAC, destination: DMAC, ether_type: EtherType::IPV4 };
    let mut ip = Ipv4Header::new(len + 16, 64, IpNumber::UDP, SRC.octets(), DST.octets()).ok()?;
    ip.dont_fragment = true;
    ip.header_checksum = ip.calc_header_checksum();
    let source_port = flow_port(frame);
    let udp = UdpHeader { source_port, destination_port: PORT, length: len + 16, checksum: 0 };
    head[..14].copy_from_slice(&ethernet.to_bytes());
    head[14..34].copy_from_slice(&ip.to_bytes());
    head[34..42].copy_from_slice(&udp.to_bytes());
    head[42..46].copy_from_slice(&[8, 0, 0, 0]);
    head[46..].copy_from_slice(&(VNI << 8).to_be_bytes());
    Some(())
}

#[inline]
fn write_smoltcp(_: &Template, packet: &mut [u8]) -> Option<()> {
    use smoltcp::wire::{
        EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, UdpPacket,
    };
    let len = packet.len().checked_sub(OUTER)? as u16;
    let port = flow_port(&packet[OUTER..]);
    let mut ethernet = EthernetFrame::new_unchecked(packet);
    ethernet.set_src_addr(EthernetAddress(SMAC));
    ethernet.set_dst_addr(EthernetAddress(DMAC));
    ethernet.set_ethertype(EthernetProtocol::Ipv4);
    let mut ip = Ipv4Packet::new_unchecked(ethernet.payload_mut());
    ip.set_version(4);
    ip.set_header_len(20);
    ip.set_dscp(0);
    ip.set_ecn(0);
    ip.set_total_len(len + 36);
    ip.set_ident(0);
    ip.clear_flags();
    ip.set_dont_frag(true);
    ip.set_frag_offset(0);
    ip.set_hop_limit(64);
    ip.set_next_header(IpProtocol::Udp);
    ip.set_src_addr(SRC);
    ip.set_dst_addr(DST);
    ip.fill_checksum();
    let mut udp = UdpPacket::new_unchecked(ip.payload_mut());
    udp.set_src_port(port);
    udp.set_dst_port(PORT);
    udp.set_len(len + 16);
    udp.set_checksum(0);
    let vxlan = udp.payload_mut().first_chunk_mut::<8>()?;
    *vxlan = [8, 0, 0, 0, 0, 0, 0, 0];
    vxlan[4..].copy_from_slice(&(VNI << 8).to_be_bytes());
    Some(())
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Ethernet {
    dst: [u8; 6],
    src: [u8; 6],
    ethertype: U16,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Ipv4 {
    version_len: u8,
    tos: u8,
    total_len: U16,
    id: U16,
    fragment: U16,
    ttl: u8,
    protocol: u8,
    checksum: U16,
    src: U32,
    dst: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Udp {
    src: U16,
    dst: U16,
    len: U16,
    checksum: U16,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Vxlan {
    flags: U32,
    vni: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Headers {
    ethernet: Ethernet,
    ip: Ipv4,
    udp: Udp,
    vxlan: Vxlan,
}

#[inline]
fn write_zerocopy(_: &Template, packet: &mut [u8]) -> Option<()> {
    let (headers, frame) = Headers::mut_from_prefix(packet).ok()?;
    let (len, port) = (frame.len() as u16, flow_port(frame));
    headers.ethernet = Ethernet { dst: DMAC, src: SMAC, ethertype: U16::new(0x800) };
    headers.ip = Ipv4 {
        version_len: 0x45,
        tos: 0,
        total_len: U16::new(len + 36),
        id: U16::new(0),
        fragment: U16::new(0x4000),
        ttl: 64,
        protocol: 17,
        checksum: U16::new(0),
        src: U32::new(SRC.to_bits()),
        dst: U32::new(DST.to_bits()),
    };
    headers.ip.checksum = U16::new(Sum::new().add_bytes(headers.ip.as_bytes()).finish());
    headers.udp =
        Udp { src: U16::new(port), dst: U16::new(PORT), len: U16::new(len + 16), checksum: U16::new(0) };
    headers.vxlan = Vxlan { flags: U32::new(8 << 24), vni: U32::new(VNI << 8) };
    Some(())
}

type Parse = fn(&[u8]) -> Option<u64>;

#[inline]
fn digest(vni: u32, dmac: &[u8; 6], src: u32, dst: u32, ports: (u16, u16)) -> u64 {
    let mac = MacAddr(*dmac).to_u64();
    let ports = u64::from(ports.0) << 16 | u64::from(ports.1);
    u64::from(vni) ^ mac << 3 ^ u64::from(src) << 1 ^ u64::from(dst) ^ ports << 32
}

#[inline(never)]
fn parse_ours(packet: &[u8]) -> Option<u64> {
    let outer = outer::parse(Shape::Ethernet, packet, &OuterPolicy::default()).ok()?;
    let inner = Inner::classify(packet.get(outer.payload)?).ok()?;
    let Network::Ipv4(ip) = inner.network else { return None };
    let vni = outer.vxlan.vni.get();
    Some(digest(vni, &inner.ethernet.dst.0, ip.src.to_bits(), ip.dst.to_bits(), inner.ports?))
}

#[inline(never)]
fn parse_etherparse(packet: &[u8]) -> Option<u64> {
    use etherparse::{Ethernet2Slice, Ipv4Slice, TcpSlice, UdpSlice};
    let ethernet = Ethernet2Slice::from_slice_without_fcs(packet).ok()?;
    let ip = Ipv4Slice::from_slice(ethernet.payload_slice()).ok()?;
    let header = ip.header().to_header();
    if header.header_checksum != header.calc_header_checksum() {
        return None;
    }
    let udp = UdpSlice::from_slice(ip.payload().payload).ok()?;
    let (vxlan, frame) = udp.payload().split_first_chunk::<8>()?;
    if udp.destination_port() != PORT || vxlan[0] & 8 == 0 {
        return None;
    }
    let ethernet = Ethernet2Slice::from_slice_without_fcs(frame).ok()?;
    let ip = Ipv4Slice::from_slice(ethernet.payload_slice()).ok()?;
    let tcp = TcpSlice::from_slice(ip.payload().payload).ok()?;
    let vni = u32::from_be_bytes([0, vxlan[4], vxlan[5], vxlan[6]]);
    let (src, dst) = (ip.header().source_addr(), ip.header().destination_addr());
    let ports = (tcp.source_port(), tcp.destination_port());
    Some(digest(vni, &ethernet.destination(), src.to_bits(), dst.to_bits(), ports))
}

#[inline(never)]
fn parse_smoltcp(packet: &[u8]) -> Option<u64> {
    use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, TcpPacket, UdpPacket};
    let ethernet = EthernetFrame::new_checked(packet).ok()?;
    let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    let is_udp = ethernet.ethertype() == EthernetProtocol::Ipv4 && ip.next_header() == IpProtocol::Udp;
    if !is_udp || !ip.verify_checksum() {
        return None;
    }
    let udp = UdpPacket::new_checked(ip.payload()).ok()?;
    let (vxlan, frame) = udp.payload().split_first_chunk::<8>()?;
    if udp.dst_port() != PORT || vxlan[0] & 8 == 0 {
        return None;
    }
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Ipv4 || ip.next_header() != IpProtocol::Tcp {
        return None;
    }
    let tcp = TcpPacket::new_checked(ip.payload()).ok()?;
    let vni = u32::from_be_bytes([0, vxlan[4], vxlan[5], vxlan[6]]);
    let ports = (tcp.src_port(), tcp.dst_port());
    Some(digest(vni, &ethernet.dst_addr().0, ip.src_addr().to_bits(), ip.dst_addr().to_bits(), ports))
}

#[inline]
fn zerocopy_ipv4(bytes: &[u8], protocol: u8) -> Option<(&Ipv4, &[u8], &[u8])> {
    let (ip, _) = Ipv4::ref_from_prefix(bytes).ok()?;
    let header = usize::from(ip.version_len & 15) * 4;
    let whole = ip.version_len >> 4 == 4 && header >= 20 && ip.fragment.get() & 0x3fff == 0;
    if !whole || ip.protocol != protocol {
        return None;
    }
    let (header, payload) = bytes.get(..ip.total_len.get().into())?.split_at_checked(header)?;
    Some((ip, header, payload))
}

#[inline(never)]
fn parse_zerocopy(packet: &[u8]) -> Option<u64> {
    let (ethernet, rest) = Ethernet::ref_from_prefix(packet).ok()?;
    let (_, header, rest) = zerocopy_ipv4(rest, 17)?;
    if ethernet.ethertype.get() != 0x800 || Sum::new().add_bytes(header).finish() != 0 {
        return None;
    }
    let (udp, _) = Udp::ref_from_prefix(rest).ok()?;
    let (vxlan, frame) = Vxlan::ref_from_prefix(rest.get(8..udp.len.get().into())?).ok()?;
    if udp.dst.get() != PORT || vxlan.flags.get() >> 27 & 1 == 0 {
        return None;
    }
    let (ethernet, rest) = Ethernet::ref_from_prefix(frame).ok()?;
    let (ip, _, rest) = zerocopy_ipv4(rest, 6)?;
    let (ports, _) = <[U16; 2]>::ref_from_prefix(rest).ok()?;
    if ethernet.ethertype.get() != 0x800 {
        return None;
    }
    let ports = (ports[0].get(), ports[1].get());
    Some(digest(vxlan.vni.get() >> 8, &ethernet.dst, ip.src.get(), ip.dst.get(), ports))
}

fn template() -> Template {
    let config = TemplateConfig {
        shape: Shape::Ethernet,
        local: SRC.into(),
        remote: DST.into(),
        remote_port: PORT,
        local_mac: MacAddr(SMAC),
        remote_mac: MacAddr(DMAC),
        ttl: 64,
        dscp: 0,
        dont_fragment: true,
        udp_checksum: UdpChecksum::Zero,
    };
    Template::new(&config).expect("a template for a VTEP")
}

/// A TCP segment of so many octets, random but for its headers.
fn fill(frame: &mut [u8], random: &mut Random) {
    for octet in frame.iter_mut() {
        *octet = random.next() as u8;
    }
    let len = frame.len() as u16;
    frame[0] = 2;
    frame[6] = 2;
    frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
    frame[16..18].copy_from_slice(&(len - 14).to_be_bytes());
    frame[20..24].copy_from_slice(&[0x40, 0, 64, 6]);
    frame[46] = 0x50;
}

/// Writes the header of each packet, in a loop of its own for each writer, as a program has it. What the compiler must not know is
/// hidden once a round and not for each packet: a pointer that goes through memory takes longer than some headers.
fn write_all(
    template: &Template,
    ring: &mut [&mut [u8]],
    rounds: usize,
    write: impl Fn(&Template, &mut [u8]) -> Option<()>,
) -> Timed {
    passes(rounds * ring.len(), || {
        let mut written = 0;
        for _ in 0..rounds {
            let template = black_box(template);
            for packet in black_box(&mut *ring) {
                written += u64::from(write(template, packet).is_some());
            }
        }
        written
    })
}

/// `size` is the inner frame's length.
pub(super) fn run(what: &str, size: usize, who: &str, scale: Scale) -> Sample {
    let template = template();
    let (mut memory, mut random) = (vec![0u8; RING * STRIDE], Random(9));
    let mut ring: Vec<&mut [u8]> =
        memory.chunks_exact_mut(STRIDE).map(|buffer| &mut buffer[..OUTER + size]).collect();
    for packet in &mut ring {
        fill(&mut packet[OUTER..], &mut random);
        write_ours(&template, packet).expect("headroom");
    }
    let rounds = scale.queries(20_000);
    let ops = rounds * RING;
    let timed = match what {
        "write" => {
            let timed = match who {
                "ours" => write_all(&template, &mut ring, rounds, write_ours),
                "flow alone" => write_all(&template, &mut ring, rounds, write_nothing),
                "etherparse" => write_all(&template, &mut ring, rounds, write_etherparse),
                "smoltcp" => write_all(&template, &mut ring, rounds, write_smoltcp),
                "zerocopy" => write_all(&template, &mut ring, rounds, write_zerocopy),
                _ => panic!("no such writer: {who}"),
            };
            let heads = ring.iter().flat_map(|packet| packet[..OUTER].iter());
            let sum = heads.fold(0, |sum: u64, octet| sum.wrapping_mul(31).wrapping_add(u64::from(*octet)));
            Timed { sum, ..timed }
        }
        "parse" => {
            let parse: Parse = match who {
                "ours" => parse_ours,
                "etherparse" => parse_etherparse,
                "smoltcp" => parse_smoltcp,
                "zerocopy" => parse_zerocopy,
                _ => panic!("no such parser: {who}"),
            };
            passes(ops, || {
                let mut sum = 0u64;
                for _ in 0..rounds {
                    for packet in &ring {
                        sum = sum.wrapping_add(parse(black_box(packet)).expect("a good packet"));
                    }
                }
                sum
            })
        }
        _ => panic!("no such work: {what}"),
    };
    timed.sample(0)
}
