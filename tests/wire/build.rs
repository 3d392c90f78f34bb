//! Packets built octet by octet, without the code under test.

use core::net::{Ipv4Addr, Ipv6Addr};

use overlane::addr::MacAddr;

pub(crate) const POD: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(crate) const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);
pub(crate) const A4: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
pub(crate) const B4: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 3);
pub(crate) const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 1, 0, 0, 0, 2);
pub(crate) const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 2, 0, 0, 0xab, 0xcdef);

/// The Internet checksum, word by word (RFC 1071, section 4.1).
pub(crate) fn naive_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

pub(crate) fn eth(
    dst: MacAddr,
    src: MacAddr,
    tags: &[(u16, u16)],
    ethertype: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut f = [dst.0, src.0].concat();
    for (tpid, control) in tags {
        f.extend(tpid.to_be_bytes());
        f.extend(control.to_be_bytes());
    }
    f.extend(ethertype.to_be_bytes());
    f.extend(payload);
    f
}

/// An IPv4 packet; `fragment` is the word of flags and offset, `options` a multiple of 4 octets.
pub(crate) struct V4<'a> {
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    pub(crate) protocol: u8,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    pub(crate) id: u16,
    pub(crate) fragment: u16,
    pub(crate) options: &'a [u8],
}

pub(crate) const DF: u16 = 0x4000;
pub(crate) const MF: u16 = 0x2000;

impl Default for V4<'_> {
    fn default() -> Self {
        V4 { src: A4, dst: B4, protocol: 17, ttl: 64, tos: 0, id: 1, fragment: DF, options: &[] }
    }
}

impl V4<'_> {
    pub(crate) fn with(&self, payload: &[u8]) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let mut p = vec![0x40 | (header_len / 4) as u8, self.tos];
        p.extend(((header_len + payload.len()) as u16).to_be_bytes());
        p.extend(self.id.to_be_bytes());
        p.extend(self.fragment.to_be_bytes());
        p.extend([self.ttl, self.protocol, 0, 0]);
        p.extend(self.src.octets());
        p.extend(self.dst.octets());
        p.extend(self.options);
        let check = naive_checksum(&p);
        p[10..12].copy_from_slice(&check.to_be_bytes());
        p.extend(payload);
        p
    }
}

/// An IPv6 packet; `extensions` are complete headers, the first of which is `next_header`.
pub(crate) fn v6(
    (src, dst): (Ipv6Addr, Ipv6Addr),
    next_header: u8,
    hop_limit: u8,
    extensions: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut p = vec![0x60, 0, 0, 0];
    p.extend(((extensions.len() + payload.len()) as u16).to_be_bytes());
    p.extend([next_header, hop_limit]);
    p.extend(src.octets());
    p.extend(dst.octets());
    p.extend(extensions);
    p.extend(payload);
    p
}

/// A hop-by-hop, destination options or routing header of `8 * (1 + units)` octets.
pub(crate) fn options(next: u8, units: u8) -> Vec<u8> {
    let mut h = vec![next, units];
    h.resize(8 * (1 + usize::from(units)), 0);
    h
}

pub(crate) fn fragment6(next: u8, offset: u16, more: bool, id: u32) -> Vec<u8> {
    let mut h = vec![next, 0];
    h.extend((offset << 3 | u16::from(more)).to_be_bytes());
    h.extend(id.to_be_bytes());
    h
}

/// The pseudo header of an upper layer over IPv4 (RFC 768) or IPv6 (RFC 8200, 8.1).
pub(crate) fn pseudo(src: &[u8], dst: &[u8], protocol: u8, len: usize) -> Vec<u8> {
    let mut p = [src, dst].concat();
    if src.len() == 16 {
        p.extend((len as u32).to_be_bytes());
        p.extend([0, 0, 0, protocol]);
    } else {
        p.extend([0, protocol]);
        p.extend((len as u16).to_be_bytes());
    }
    p
}

/// A UDP datagram without a checksum.
pub(crate) fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    let mut d = [src.to_be_bytes(), dst.to_be_bytes(), ((8 + payload.len()) as u16).to_be_bytes()].concat();
    d.extend([0, 0]);
    d.extend(payload);
    d
}

/// An ICMPv6 message with its checksum.
pub(crate) fn icmp6(src: Ipv6Addr, dst: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let mut m = message.to_vec();
    m[2..4].fill(0);
    let pseudo = pseudo(&src.octets(), &dst.octets(), 58, m.len());
    let check = naive_checksum(&[pseudo, m.clone()].concat());
    m[2..4].copy_from_slice(&check.to_be_bytes());
    m
}

/// An ICMPv4 message with its checksum.
pub(crate) fn icmp4(message: &[u8]) -> Vec<u8> {
    let mut m = message.to_vec();
    m[2..4].fill(0);
    let check = naive_checksum(&m);
    m[2..4].copy_from_slice(&check.to_be_bytes());
    m
}

pub(crate) const VXLAN_42: [u8; 8] = [8, 0, 0, 0, 0, 0, 42, 0];

/// Headers to an inner frame of 60 octets, in each shape and family, with the frame's offset.
pub(crate) fn vxlan_packets() -> Vec<(&'static str, overlane::wire::outer::Shape, Vec<u8>, usize)> {
    use overlane::wire::outer::Shape;
    let inner = eth(ROUTER, POD, &[], 0x0800, &V4::default().with(&udp(1000, 53, &[7; 18])));
    assert_eq!(inner.len(), 60);
    let vxlan = [&VXLAN_42[..], &inner].concat();
    let datagram = udp(50_000, 4789, &vxlan);
    let ip4 = V4 { src: [192, 0, 2, 1].into(), dst: [192, 0, 2, 2].into(), tos: 0x02, ..V4::default() };
    let plain4 = ip4.with(&datagram);
    let options4 = V4 { options: &[1, 1, 1, 1, 7, 3, 4, 0], ..ip4 }.with(&datagram);
    let plain6 = v6((A6, B6), 17, 64, &[], &datagram);
    let extended6 = v6((A6, B6), 0, 64, &[options(60, 1), options(17, 0)].concat(), &datagram);
    let tagged = [(0x88a8, 7), (0x8100, 8)];
    vec![
        ("socket", Shape::Udp, vxlan, 8),
        ("ipv4", Shape::Ip, plain4.clone(), 36),
        ("ipv4 with options", Shape::Ip, options4, 44),
        ("ipv6", Shape::Ip, plain6.clone(), 56),
        ("ipv6 with extensions", Shape::Ip, extended6, 80),
        ("ethernet, ipv4", Shape::Ethernet, eth(ROUTER, POD, &[], 0x0800, &plain4), 50),
        ("ethernet, ipv6", Shape::Ethernet, eth(ROUTER, POD, &[], 0x86dd, &plain6), 70),
        ("tagged ethernet, ipv4", Shape::Ethernet, eth(ROUTER, POD, &tagged[1..], 0x0800, &plain4), 54),
        ("twice tagged ethernet, ipv6", Shape::Ethernet, eth(ROUTER, POD, &tagged, 0x86dd, &plain6), 78),
    ]
}
