//! Frames and addresses out of few bytes, from small sets so that they meet in the tables.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arbitrary::{Arbitrary, Unstructured};
use overlane::addr::{IpPrefix, Ipv4Prefix, Ipv6Prefix, MacAddr, Vni};
use overlane::wire::arp::{self, ArpPacket};
use overlane::wire::checksum;
use overlane::wire::ethernet::ethertype;
use overlane::wire::ipv4::{Ipv4Header, protocol};
use overlane::wire::ipv6::Ipv6Header;
use overlane::wire::outer::Shape;

pub(crate) const SHAPES: [Shape; 3] = [Shape::Udp, Shape::Ip, Shape::Ethernet];

/// This node's addresses, and the MAC of its router.
pub(crate) const LOCAL_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const LOCAL_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub(crate) const LOCAL_MAC: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);
pub(crate) const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);

/// A VNI: mostly one of four, with the smallest and the largest.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) struct SomeVni(u8);

impl SomeVni {
    pub(crate) fn few(n: u8) -> SomeVni {
        SomeVni(n)
    }

    pub(crate) fn get(self) -> Vni {
        match self.0 {
            n @ 0..240 => FEW_VNIS[usize::from(n) % FEW_VNIS.len()],
            n => Vni::truncate(u32::from(n)),
        }
    }
}

pub(crate) const FEW_VNIS: [Vni; 4] =
    [Vni::truncate(0), Vni::truncate(42), Vni::truncate(0x01_0000), Vni::MAX];

/// A MAC address: mostly one of 8 stations.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) struct SomeMac(u8);

impl SomeMac {
    pub(crate) fn station(n: u8) -> SomeMac {
        SomeMac(n)
    }

    pub(crate) fn get(self) -> MacAddr {
        match self.0 {
            n @ 0..200 => MacAddr([2, 0, 0, 0, 0, n % 8]),
            n @ 200..210 => MacAddr([0x0a, n, n, n, n, n]),
            210..235 => ROUTER,
            235..245 => MacAddr::BROADCAST,
            n @ 245..250 => MacAddr([0x33, 0x33, 0, 0, 0, n]),
            250..255 => MacAddr([1, 0, 0x5e, 0, 0, 1]),
            255 => MacAddr::ZERO,
        }
    }
}

/// An underlay address: mostly one of four of either family, the first our own.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) struct Peer(u8);

impl Peer {
    /// The first that is not our own.
    pub(crate) fn other() -> Peer {
        Peer(1)
    }

    pub(crate) fn get(self) -> IpAddr {
        let n = self.0;
        match n {
            0..120 => peer_v4(n % 4 + 1),
            120..200 => peer_v6(n % 4 + 1),
            200..230 => Ipv4Addr::new(192, 0, 2, n % 16 + 1).to_ipv6_mapped().into(),
            230..235 => Ipv4Addr::UNSPECIFIED.into(),
            235..240 => Ipv6Addr::UNSPECIFIED.into(),
            240..245 => Ipv4Addr::BROADCAST.into(),
            245..250 => Ipv4Addr::new(239, 1, 1, 1).into(),
            _ => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into(),
        }
    }
}

pub(crate) fn peer_v4(n: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, n).into()
}

pub(crate) fn peer_v6(n: u8) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()).into()
}

/// An inner address: four /16s of four /24s each, and the corresponding IPv6.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) struct Host(u8);

impl Host {
    pub(crate) fn v4(self) -> Ipv4Addr {
        match self.0 {
            255 => Ipv4Addr::BROADCAST,
            n => Ipv4Addr::new(10, n >> 6, (n >> 4) & 3, n & 15),
        }
    }

    pub(crate) fn v6(self) -> Ipv6Addr {
        let n = u16::from(self.0);
        match n {
            255 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1),
            n => Ipv6Addr::new(0xfd00, n >> 6, (n >> 4) & 3, 0, 0, 0, 0, n & 15),
        }
    }
}

/// A prefix of a few addresses and any length.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) struct SomePrefix {
    v6: bool,
    host: Host,
    len: u8,
}

impl SomePrefix {
    pub(crate) fn get(self) -> IpPrefix {
        let prefix = if self.v6 {
            Ipv6Prefix::truncate(self.host.v6(), self.len % 129).map(IpPrefix::V6)
        } else {
            Ipv4Prefix::truncate(self.host.v4(), self.len % 33).map(IpPrefix::V4)
        };
        prefix.expect("the length is that of the family")
    }
}

/// An Ethernet frame from a station.
#[derive(Debug, Clone, Arbitrary)]
pub(crate) struct Station {
    dst: SomeMac,
    src: SomeMac,
    /// How many tags: mostly none.
    tags: u8,
    network: Payload,
    /// Octets of padding in the low bits; rarely, many.
    padding: u8,
}

#[derive(Debug, Clone, Arbitrary)]
enum Payload {
    Raw {
        ethertype: u16,
        bytes: Few,
    },
    Arp {
        op: u8,
        sender: Host,
        target: Host,
    },
    V4 {
        src: Host,
        dst: Host,
        tos: u8,
        ttl: u8,
        protocol: Protocol,
        fragment: u8,
        wrong_checksum: bool,
        upper: Few,
    },
    V6 {
        src: Host,
        dst: Host,
        class: u8,
        hops: u8,
        protocol: Protocol,
        extension: Option<u8>,
        upper: Few,
    },
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Protocol {
    Tcp,
    Udp,
    Icmp,
    Icmpv6,
    Any(u8),
}

/// At most 24 octets.
#[derive(Debug, Clone)]
struct Few(Vec<u8>);

impl<'a> Arbitrary<'a> for Few {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Few> {
        let len = u.int_in_range(0..=24)?;
        Ok(Few(u.bytes(usize::min(len, u.len()))?.to_vec()))
    }
}

impl Protocol {
    fn get(self) -> u8 {
        match self {
            Protocol::Tcp => protocol::TCP,
            Protocol::Udp => protocol::UDP,
            Protocol::Icmp => protocol::ICMP,
            Protocol::Icmpv6 => protocol::ICMPV6,
            Protocol::Any(n) => n,
        }
    }
}

impl Station {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (dst, src) = (self.dst.get(), self.src.get());
        let mut frame = [dst.0, src.0].concat();
        for tag in 0..self.tags.saturating_sub(252) {
            let tpid = if tag == 0 { ethertype::QINQ } else { ethertype::VLAN };
            frame.extend_from_slice(&tpid.to_be_bytes());
            frame.extend_from_slice(&[0, self.tags]);
        }
        let (kind, packet) = self.network.packet(src);
        frame.extend_from_slice(&kind.to_be_bytes());
        frame.extend_from_slice(&packet);
        let padding = match self.padding {
            255 => 65_480,
            254 => 1_500,
            n => usize::from(n % 16),
        };
        frame.resize(frame.len() + padding, 0);
        frame
    }
}

impl Payload {
    fn packet(&self, sender_mac: MacAddr) -> (u16, Vec<u8>) {
        match self {
            Payload::Raw { ethertype, bytes } => (*ethertype, bytes.0.clone()),
            Payload::Arp { op, sender, target } => {
                let op = u16::from(op % 3);
                let (sender_ip, target_ip) = (sender.v4(), target.v4());
                let arp = ArpPacket { op, sender_mac, sender_ip, target_mac: MacAddr::ZERO, target_ip };
                let mut bytes = arp.emit().to_vec();
                if op == 0 {
                    bytes.truncate(arp::LEN - 1);
                }
                (ethertype::ARP, bytes)
            }
            Payload::V4 { src, dst, tos, ttl, protocol, fragment, wrong_checksum, upper } => {
                let header = Ipv4Header {
                    src: src.v4(),
                    dst: dst.v4(),
                    protocol: protocol.get(),
                    ttl: *ttl,
                    tos: *tos,
                    id: 1,
                    dont_fragment: fragment & 1 != 0,
                    more_fragments: fragment & 0x82 == 0x82,
                    fragment_offset: if fragment & 0x84 == 0x84 { 5 } else { 0 },
                    header_len: 20,
                    total_len: 20 + upper.0.len() as u16,
                };
                let mut packet = header.emit().to_vec();
                packet[10] ^= u8::from(*wrong_checksum);
                packet.extend_from_slice(&upper.0);
                (ethertype::IPV4, packet)
            }
            Payload::V6 { src, dst, class, hops, protocol, extension, upper } => {
                let mut upper = upper.0.clone();
                let mut next_header = protocol.get();
                if next_header == protocol::ICMPV6
                    && let [kind, _, high, low, ..] = &mut upper[..]
                {
                    // Neighbour discovery, with the right checksum.
                    (*kind, *high, *low) = (133 + *kind % 6, 0, 0);
                    let len = upper.len() as u32;
                    let sum = checksum::pseudo_header_v6(src.v6(), dst.v6(), next_header, len);
                    [upper[2], upper[3]] = sum.add_bytes(&upper).finish().to_be_bytes();
                }
                if let Some(extension) = extension {
                    let header = [next_header, 0, 0, extension & 9, 0, 0, 0, 1];
                    upper.splice(0..0, header);
                    next_header = [0, 43, 44, 51, 60][usize::from(extension >> 4) % 5];
                }
                let header = Ipv6Header {
                    src: src.v6(),
                    dst: dst.v6(),
                    traffic_class: *class,
                    flow_label: 0,
                    payload_len: upper.len() as u16,
                    hop_limit: *hops,
                    next_header,
                };
                (ethertype::IPV6, [&header.emit()[..], &upper].concat())
            }
        }
    }
}
