//! What a frame has in common with the others of its flow, read for merging.

use super::virtio::{TCP_CHECKSUM, UDP_CHECKSUM};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::ethertype;
use crate::wire::inner::{Inner, Network};
use crate::wire::ipv4::protocol;

/// The longest IP packet that a group may become.
pub(super) const MAX_PACKET: u32 = 65_535;

/// What is equal in all frames of a group, as the octets are; what a frame lacks is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) lane: u32,
    /// With TCP: data offset, flags but for those that may differ, window.
    pub(super) flags_window: u32,
    /// Addresses and EtherType, overlapping by two octets; then what VLAN tags add.
    pub(super) ethernet: [u64; 3],
    /// Version, type of service, flow label, DF, TTL, protocol.
    pub(super) ip: u64,
    pub(super) addresses: [u64; 4],
    pub(super) ports: u32,
    pub(super) ack: u32,
    pub(super) urgent: u16,
    pub(super) options: [u64; 5],
}

impl Key {
    pub(super) const EMPTY: Key = Key {
        lane: 0,
        flags_window: 0,
        ethernet: [0; 3],
        ip: 0,
        addresses: [0; 4],
        ports: 0,
        ack: 0,
        urgent: 0,
        options: [0; 5],
    };
}

/// A TCP segment or UDP datagram that might be merged.
pub(super) struct Segment {
    pub(super) key: Key,
    pub(super) hash: u32,
    pub(super) v6: bool,
    pub(super) tcp: bool,
    pub(super) network: u16,
    pub(super) transport: u16,
    pub(super) header_len: u16,
    pub(super) payload_len: u16,
    pub(super) seq: u32,
    pub(super) id: u16,
    pub(super) flags: u8,
    pub(super) dont_fragment: bool,
}

/// Why a frame is not merged, and what it closes.
pub(super) enum Alone {
    /// It belongs to no flow that could be open.
    NoFlow,
    /// It belongs to the flow of this hash.
    Flow(u32),
    /// It may belong to any flow: a fragment.
    AnyFlow,
}

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const URG: u8 = 0x20;
pub(super) const CWR: u8 = 0x80;

impl Segment {
    pub(super) const EMPTY: Segment = Segment {
        key: Key::EMPTY,
        hash: 0,
        v6: false,
        tcp: false,
        network: 0,
        transport: 0,
        header_len: 0,
        payload_len: 0,
        seq: 0,
        id: 0,
        flags: 0,
        dont_fragment: false,
    };

    /// Becomes a frame that might be merged. Filled in place, as a copy would take longer.
    #[inline]
    pub(super) fn read(&mut self, frame: &[u8], lane: u32, udp: bool) -> Result<(), Alone> {
        let e = frame.first_chunk::<14>().ok_or(Alone::NoFlow)?;
        self.key.lane = lane;
        (self.key.ethernet[0], self.key.ethernet[1]) = (word(e, 0), word(e, 6));
        let mut kind = u16::from_be_bytes([e[12], e[13]]);
        self.network = 14;
        if kind != ethertype::IPV4 && kind != ethertype::IPV6 {
            (self.network, kind, self.key.ethernet[2]) = tagged(frame, kind).ok_or(Alone::NoFlow)?;
        }
        let packet = frame.get(usize::from(self.network)..).ok_or(Alone::NoFlow)?;
        self.v6 = kind == ethertype::IPV6;
        let (plain, upper, transport) = match kind {
            ethertype::IPV4 => self.read_v4(packet),
            ethertype::IPV6 => self.read_v6(packet),
            _ => return Err(Alone::NoFlow),
        }
        .ok_or_else(|| unusual(frame, lane))?;
        match upper {
            protocol::TCP => self.tcp = true,
            protocol::UDP if udp => {}
            _ => return Err(Alone::NoFlow),
        }
        let ports = transport.first_chunk::<4>().ok_or(Alone::NoFlow)?;
        self.key.ports = u32::from_ne_bytes(*ports);
        self.hash = self.key.flow();
        let mergeable = if self.tcp { self.read_tcp(transport) } else { self.read_udp(transport) };
        if plain && mergeable.is_some() { Ok(()) } else { Err(Alone::Flow(self.hash)) }
    }

    /// Whether the header is right and the packet fills the frame; the protocol; what is behind the
    /// header. `None`: options, a fragment, no IPv4 at all.
    #[inline]
    fn read_v4<'a>(&mut self, packet: &'a [u8]) -> Option<(bool, u8, &'a [u8])> {
        let (h, transport) = packet.split_first_chunk::<20>()?;
        if h[0] != 0x45 || h[6] & 0x3f != 0 || h[7] != 0 {
            return None;
        }
        self.transport = self.network.wrapping_add(20);
        self.key.ip = u64::from_ne_bytes([h[0], h[1], h[6], h[7], h[8], h[9], 0, 0]);
        self.key.addresses[0] = word(h, 12);
        self.id = u16::from_be_bytes([h[4], h[5]]);
        self.dont_fragment = h[6] & 0x40 != 0;
        let fills = usize::from(u16::from_be_bytes([h[2], h[3]])) == packet.len();
        // A checksum of 0xffff is right where 0 is, but no sender computes it, nor does one who cuts
        // the group again.
        let right = Sum::new().add_bytes(h).finish() == 0 && [h[10], h[11]] != [0xff, 0xff];
        Some((fills && right, h[9], transport))
    }

    #[inline]
    fn read_v6<'a>(&mut self, packet: &'a [u8]) -> Option<(bool, u8, &'a [u8])> {
        let (h, transport) = packet.split_first_chunk::<40>()?;
        if h[0] >> 4 != 6 || !matches!(h[6], protocol::TCP | protocol::UDP) {
            return None;
        }
        self.transport = self.network.wrapping_add(40);
        self.key.ip = u64::from_ne_bytes([h[0], h[1], h[2], h[3], h[6], h[7], 0, 0]);
        self.key.addresses = [word(h, 8), word(h, 16), word(h, 24), word(h, 32)];
        let len = usize::from(u16::from_be_bytes([h[4], h[5]]));
        Some((len == transport.len() && packet.len() <= MAX_PACKET as usize, h[6], transport))
    }

    /// `None` where there is no payload, or no TCP.
    #[inline]
    fn read_tcp(&mut self, transport: &[u8]) -> Option<()> {
        let (h, rest) = transport.split_first_chunk::<20>()?;
        let len = u16::from(h[12] >> 4).saturating_mul(4);
        let options = rest.get(..usize::from(len).checked_sub(20)?)?;
        self.payload_len = u16::try_from(rest.len().checked_sub(options.len())?).ok().filter(|n| *n > 0)?;
        self.header_len = self.transport.wrapping_add(len);
        self.seq = u32::from_be_bytes([h[4], h[5], h[6], h[7]]);
        self.flags = h[13];
        self.key.ack = u32::from_ne_bytes([h[8], h[9], h[10], h[11]]);
        self.key.flags_window = u32::from_ne_bytes([h[12], h[13] & !(FIN | PSH | CWR), h[14], h[15]]);
        self.key.urgent = u16::from_ne_bytes([h[18], h[19]]);
        // Timestamps alone are 12 octets, padded (RFC 7323, appendix A).
        if let Some(o) = options.first_chunk::<12>()
            && options.len() == 12
        {
            let last = u32::from_ne_bytes([o[8], o[9], o[10], o[11]]);
            self.key.options = [word(o, 0), u64::from(last), 0, 0, 0];
        } else {
            let mut padded = [0; 40];
            padded.get_mut(..options.len())?.copy_from_slice(options);
            self.key.options =
                [word(&padded, 0), word(&padded, 8), word(&padded, 16), word(&padded, 24), word(&padded, 32)];
        }
        Some(())
    }

    /// `None` where there is no payload, no checksum, or another length than IP says.
    #[inline]
    fn read_udp(&mut self, transport: &[u8]) -> Option<()> {
        let (h, payload) = transport.split_first_chunk::<8>()?;
        let len = usize::from(u16::from_be_bytes([h[4], h[5]]));
        if len != transport.len() || payload.is_empty() || [h[6], h[7]] == [0, 0] {
            return None;
        }
        self.payload_len = payload.len() as u16;
        self.header_len = self.transport.wrapping_add(8);
        Some(())
    }

    /// Whether nothing may follow it.
    #[inline]
    pub(super) fn ends(&self, gso_size: u16) -> bool {
        self.payload_len < gso_size || self.flags & (FIN | PSH) != 0
    }

    /// The TCP or UDP checksum is right, or not yet made.
    #[inline]
    pub(super) fn is_intact(&self, frame: &[u8]) -> bool {
        let (upper, at) =
            if self.tcp { (protocol::TCP, TCP_CHECKSUM) } else { (protocol::UDP, UDP_CHECKSUM) };
        let Some(segment) = frame.get(usize::from(self.transport)..) else { return false };
        let Some(check) = segment.get(usize::from(at)..).and_then(|s| s.first_chunk::<2>()) else {
            return false;
        };
        let check = u16::from_be_bytes(*check);
        let addresses = self.key.addresses.map(u64::to_ne_bytes);
        let pseudo = Sum::new()
            .add_bytes(addresses.as_flattened())
            .add_u16(u16::from(upper))
            .add_u16(segment.len() as u16);
        if check == pseudo.value() {
            return true;
        }
        // 0xffff in TCP: as in the IPv4 header.
        pseudo.add_bytes(segment).finish() == 0 && !(self.tcp && check == 0xffff)
    }
}

impl Key {
    /// A hash of lane, addresses and ports. Whoever picks flows to collide harms the merging of
    /// these flows only.
    #[inline]
    pub(super) fn flow(&self) -> u32 {
        let [a, b, c, d] = self.addresses;
        let addresses = a ^ b.rotate_left(17) ^ c.rotate_left(31) ^ d.rotate_left(47);
        let rest = u64::from(self.ports) << 32 | u64::from(self.lane);
        let mixed = (addresses ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xff51_afd7_ed55_8ccd) ^ rest;
        ((mixed ^ mixed >> 29).wrapping_mul(0xc4ce_b9fe_1a85_ec53) >> 32) as u32
    }
}

/// Eight octets of a header, from a constant offset.
#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_ne_bytes(*b))
}

/// Looks behind one or two VLAN tags: where the network layer starts, its EtherType, the octets
/// behind the first 14.
#[inline(never)]
fn tagged(frame: &[u8], kind: u16) -> Option<(u16, u16, u64)> {
    let is_tag = |kind| matches!(kind, ethertype::VLAN | ethertype::QINQ);
    if !is_tag(kind) {
        return None;
    }
    let tag = frame.get(14..)?.first_chunk::<4>()?;
    let kind = u16::from_be_bytes([tag[2], tag[3]]);
    if !is_tag(kind) {
        return Some((18, kind, u64::from(u32::from_ne_bytes(*tag))));
    }
    let tags = frame.get(14..)?.first_chunk::<8>()?;
    Some((22, u16::from_be_bytes([tags[6], tags[7]]), u64::from_ne_bytes(*tags)))
}

/// What a frame with options, extension headers or fragments closes.
#[inline(never)]
fn unusual(frame: &[u8], lane: u32) -> Alone {
    let Ok(inner) = Inner::classify(frame) else { return Alone::NoFlow };
    if inner.is_fragment() {
        return Alone::AnyFlow;
    }
    let mut key = Key::EMPTY;
    key.lane = lane;
    match (&inner.network, inner.ports) {
        (Network::Ipv4(ip), Some(ports)) => {
            let (s, d) = (ip.src.octets(), ip.dst.octets());
            key.addresses[0] = u64::from_ne_bytes([s[0], s[1], s[2], s[3], d[0], d[1], d[2], d[3]]);
            key.ports = ports_word(ports);
        }
        (Network::Ipv6(ip, _), Some(ports)) => {
            let (s, d) = (ip.src.octets(), ip.dst.octets());
            key.addresses = [word(&s, 0), word(&s, 8), word(&d, 0), word(&d, 8)];
            key.ports = ports_word(ports);
        }
        _ => return Alone::NoFlow,
    }
    Alone::Flow(key.flow())
}

fn ports_word((src, dst): (u16, u16)) -> u32 {
    let ([s0, s1], [d0, d1]) = (src.to_be_bytes(), dst.to_be_bytes());
    u32::from_ne_bytes([s0, s1, d0, d1])
}
