//! One captured packet, decoded by overlane's own parsers.

use overlane::error::{DropReason, Layer, ParseError};
use overlane::wire::ethernet::ethertype;
use overlane::wire::inner::{Inner, Network};
use overlane::wire::ipv4::protocol;
use overlane::wire::outer::{self, Outer, OuterPolicy, Shape};
use overlane::wire::vxlan::{self, VxlanPolicy};

/// Link types (LINKTYPE_ values, and DLT_RAW as some systems number it in files).
mod link {
    pub(crate) const NULL: u16 = 0;
    pub(crate) const ETHERNET: u16 = 1;
    pub(crate) const LOOP: u16 = 108;
    pub(crate) const LINUX_SLL: u16 = 113;
    pub(crate) const LINUX_SLL2: u16 = 276;
    pub(crate) const RAW: [u16; 5] = [101, 228, 229, 12, 14];
}

/// What a packet is.
#[allow(clippy::large_enum_variant)]
#[derive(PartialEq)]
pub(crate) enum Decoded {
    /// A frame in VXLAN, and where the packet starts to which the ranges in `Outer` belong.
    Frame(Outer, Inner, usize),
    /// To a VXLAN port, and unreadable. Offsets count from the start of the captured packet.
    Drop(ParseError),
    /// To no VXLAN port, or to none that can be told.
    Other,
    /// Nothing here reads this link type.
    UnknownLink,
}

/// The longest packet that a cut one is taken to have been: an IP packet and its link's header.
const MAX_PACKET: usize = 65_535 + 64;

/// Decodes `packet`, captured on a link of type `link`; `ports` are those that carry VXLAN.
///
/// On the wire it had `wire_len` octets. Where the capture kept fewer, the headers that it kept are
/// read, and a packet cut inside a header is a drop there.
pub(crate) fn decode(link: u16, packet: &[u8], wire_len: u32, ports: &[u16]) -> Decoded {
    let wire_len = (wire_len as usize).min(MAX_PACKET);
    // Which port it goes to must be seen, not filled in.
    if wire_len <= packet.len() || matches!(decode_whole(link, packet, ports), Decoded::Other) {
        return decode_whole(link, packet, ports);
    }
    // The parsers hold the lengths in headers against the octets that are there, so those that the
    // capture left out are filled in, in two ways: what both fillings agree on was read out of the
    // octets that it kept.
    let mut filled = packet.to_vec();
    filled.resize(wire_len, 0);
    let zeros = decode_whole(link, &filled, ports);
    filled.truncate(packet.len());
    filled.resize(wire_len, 0xff);
    match (zeros, decode_whole(link, &filled, ports)) {
        (zeros, ones) if zeros == ones && !zeros.blames_beyond(packet.len()) => zeros,
        (zeros, ones) => {
            let cuts = [zeros, ones].map(|d| d.cut(packet.len()));
            match cuts.into_iter().flatten().min_by_key(|cut| cut.offset()) {
                Some(cut) => Decoded::Drop(cut),
                None => Decoded::Other,
            }
        }
    }
}

impl Decoded {
    /// Whether it finds fault with octets that the capture did not keep.
    fn blames_beyond(&self, kept: usize) -> bool {
        matches!(self, Decoded::Drop(e) if e.offset() >= kept)
    }

    /// Where a packet that reads so, for octets that the capture did not keep, is cut.
    fn cut(&self, kept: usize) -> Option<ParseError> {
        let truncated = |layer, at| Some(ParseError::new(layer, DropReason::Truncated, at));
        match self {
            Decoded::Drop(e) => truncated(e.layer(), e.offset()),
            Decoded::Frame(outer, inner, base) => {
                let ethernet = base + outer.payload.start;
                let network = ethernet + usize::from(inner.ethernet.payload_offset);
                match inner.network {
                    _ if ethernet > kept => truncated(Layer::Vxlan, ethernet - vxlan::HEADER_LEN),
                    _ if network > kept => truncated(Layer::InnerEthernet, ethernet),
                    Network::Arp(_) => truncated(Layer::InnerArp, network),
                    Network::Ipv6(..) => truncated(Layer::InnerIpv6, network),
                    _ => truncated(Layer::InnerIpv4, network),
                }
            }
            Decoded::Other | Decoded::UnknownLink => None,
        }
    }
}

fn decode_whole(link: u16, packet: &[u8], ports: &[u16]) -> Decoded {
    let (shape, base) = match link {
        link::ETHERNET => (Shape::Ethernet, 0),
        // The 16 octets of this header end as those of Ethernet do, with an EtherType. So from the
        // third octet on they are read as Ethernet, VLAN tags included.
        link::LINUX_SLL => (Shape::Ethernet, 2),
        link::LINUX_SLL2 => match cooked_v2(packet) {
            Some(base) => (Shape::Ip, base),
            None => return Decoded::Other,
        },
        // Behind four octets of address family, whose value for IPv6 depends on the system. The IP
        // header tells the version as well.
        link::NULL | link::LOOP => (Shape::Ip, 4),
        _ if link::RAW.contains(&link) => (Shape::Ip, 0),
        _ => return Decoded::UnknownLink,
    };
    let bytes = packet.get(base..).unwrap_or(&[]);
    let Some(port) = udp_port(shape, bytes).filter(|port| ports.contains(port)) else {
        return Decoded::Other;
    };
    // Checksums stay unverified: a packet captured where it was sent often has none yet, since the
    // network card fills them in.
    let policy = OuterPolicy {
        ports: [port, 0, 0, 0],
        vxlan: VxlanPolicy { group_policy: true, ..VxlanPolicy::default() },
        verify_ipv4_checksum: false,
        verify_udp_checksum: false,
        allow_zero_udp6: true,
    };
    let outer = match outer::parse(shape, bytes, &policy) {
        Ok(outer) => outer,
        Err(e) => return Decoded::Drop(e.within(base)),
    };
    let at = base + outer.payload.start;
    match Inner::classify(bytes.get(outer.payload.clone()).unwrap_or(&[])) {
        Ok(Inner { network: Network::Malformed(e), .. }) | Err(e) => Decoded::Drop(e.within(at)),
        Ok(inner) => Decoded::Frame(outer, inner, base),
    }
}

/// Where the IP packet starts behind a "cooked" header of version 2, tags included.
fn cooked_v2(packet: &[u8]) -> Option<usize> {
    let (mut at, mut kind) = (20, u16_at(packet, 0)?);
    while is_tag(kind) {
        (kind, at) = (u16_at(packet, at + 2)?, at + 4);
    }
    matches!(kind, ethertype::IPV4 | ethertype::IPV6).then_some(at)
}

/// The UDP destination port of `packet`, found without judging it: so that a packet which the
/// parsers refuse is known to be one for a VXLAN port. `None` where there is no way to tell.
fn udp_port(shape: Shape, packet: &[u8]) -> Option<u16> {
    let mut at = 0;
    if shape == Shape::Ethernet {
        let mut kind = u16_at(packet, 12)?;
        at = 14;
        while is_tag(kind) {
            (kind, at) = (u16_at(packet, at + 2)?, at + 4);
        }
        if !matches!(kind, ethertype::IPV4 | ethertype::IPV6) {
            return None;
        }
    }
    let ip = packet.get(at..)?;
    match ip.first()? >> 4 {
        4 => {
            let header_len = usize::from(ip[0] & 0x0f) * 4;
            let first = u16_at(ip, 6)? & 0x1fff == 0;
            let udp = *ip.get(9)? == protocol::UDP && first && header_len >= 20;
            udp.then(|| u16_at(ip, header_len + 2)).flatten()
        }
        6 => {
            let (mut next, mut at) = (*ip.get(6)?, 40);
            loop {
                let len = match next {
                    protocol::UDP => return u16_at(ip, at + 2),
                    // Hop-by-hop, routing, destination options (RFC 8200, section 4).
                    0 | 43 | 60 => (usize::from(*ip.get(at + 1)?) + 1) * 8,
                    // Only the first fragment has the ports.
                    44 if u16_at(ip, at + 2)? & 0xfff8 == 0 => 8,
                    // Authentication (RFC 4302, 2.2).
                    51 => (usize::from(*ip.get(at + 1)?) + 2) * 4,
                    _ => return None,
                };
                (next, at) = (*ip.get(at)?, at + len);
            }
        }
        _ => None,
    }
}

/// Tags that Wireshark sees through. The parsers know fewer and say so.
fn is_tag(kind: u16) -> bool {
    matches!(kind, ethertype::VLAN | ethertype::QINQ | 0x9100)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}
