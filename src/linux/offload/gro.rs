//! What a socket with `UDP_GRO` was given as one.

use crate::wire::ethernet::{EthernetHeader, ethertype};
use crate::wire::inner::{Inner, Network};
use crate::wire::ipv4::protocol;
use crate::wire::{ipv6, vxlan};

/// How VXLAN that arrived as one, with a segment size (`UDP_GRO`), is to be taken apart.
///
/// The kernel says a segment size in two cases, and not which of them it is. At the end of a wire it
/// has merged datagrams of one sender, each of that size, the last one perhaps shorter; they may be of
/// different VNIs. From a kernel VXLAN peer across a veth comes one datagram with a whole inner UDP
/// superframe (`UDP_SEGMENT`, USO), and the size is that of the inner payloads.
///
/// Pods may write anything into the packets, and lengths too. So neither must a pod behind an honest
/// peer get hold of the datagrams that were merged behind its own, by a length that lies; nor must the
/// payload of a superframe be read as datagrams, with headers of other VNIs in it:
///
/// 1. The first inner packet ends within the first segment, by the length in its IP header, or is no
///    IP packet: [`Datagrams`](Gro::Datagrams).
/// 2. It says to be longer, and a VXLAN header as a VTEP writes it (RFC 7348, section 5; with Group
///    Policy, draft-smith-vxlan-group-policy-05, section 2.1; what is reserved zero) stands where the
///    second datagram would begin: [`Unclear`](Gro::Unclear).
/// 3. It says to be longer, there is none, and it is one whole UDP datagram, with IP and UDP lengths
///    that agree and go on exactly to the end, and more than a segment of payload:
///    [`Superframe`](Gro::Superframe).
/// 4. Anything else: [`Unclear`](Gro::Unclear).
///
/// What remains: a kernel peer across a veth is trusted that superframes which it passes on are UDP
/// over IP with true IP lengths. Its own stack and those of its pods make no others; one whose pods may
/// write superframes by hand (`CAP_NET_RAW`, `PACKET_VNET_HDR`) can be made to send some that say to
/// be shorter, and by the first rule they are read as datagrams. And a pod whose lengths lie can lose
/// the datagrams that were merged behind its own.
///
/// ```
/// use overlane::addr::Vni;
/// use overlane::linux::offload::Gro;
/// use overlane::wire::vxlan::VxlanHeader;
/// // Two datagrams with an ARP packet each.
/// let mut arp = [0; 60];
/// arp[12..14].copy_from_slice(&[0x08, 0x06]);
/// let datagram = [&VxlanHeader::emit(Vni::truncate(42), None)[..], &arp].concat();
/// assert_eq!(Gro::of(&datagram.repeat(2), 68), Gro::Datagrams);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gro {
    /// Datagrams of the segment size, the last one perhaps shorter; or a single one.
    Datagrams,
    /// One datagram, with one inner UDP superframe: the segment size is that of its payloads.
    Superframe,
    /// Either of them is possible, or neither: nobody may get any octet of it.
    Unclear,
}

impl Gro {
    /// Looks at all octets that arrived, VXLAN header first, and the segment size in octets.
    pub fn of(octets: &[u8], segment: usize) -> Gro {
        if segment == 0 || segment >= octets.len() {
            return Gro::Datagrams;
        }
        let frame = octets.get(vxlan::HEADER_LEN..).unwrap_or_default();
        match stated_len(frame) {
            Some(len) if len.saturating_add(vxlan::HEADER_LEN) > segment => {}
            _ => return Gro::Datagrams,
        }
        let second = octets.get(segment..).unwrap_or_default();
        if !begins_as_vxlan(second) && is_udp_to_the_end(frame, segment) {
            Gro::Superframe
        } else {
            Gro::Unclear
        }
    }
}

/// Where the IP packet of a frame ends, by its header alone: from the start of the frame. `None` where
/// there is none. Any end at all behind more tags than are seen through.
fn stated_len(frame: &[u8]) -> Option<usize> {
    let (at, kind) = match frame.first_chunk::<14>() {
        // Nearly always.
        Some([.., 0x08, 0x00]) => (14, ethertype::IPV4),
        Some([.., 0x86, 0xdd]) => (14, ethertype::IPV6),
        _ => match EthernetHeader::parse(frame) {
            Ok(header) => (usize::from(header.payload_offset), header.ethertype),
            Err(error) if error.reason() == crate::error::DropReason::TooManyTags => return Some(usize::MAX),
            Err(_) => return None,
        },
    };
    let (field, behind) = match kind {
        ethertype::IPV4 => (2, 0),
        ethertype::IPV6 => (4, ipv6::HEADER_LEN),
        _ => return None,
    };
    let stated = frame.get(at.saturating_add(field)..)?.first_chunk()?;
    Some(usize::from(u16::from_be_bytes(*stated)).saturating_add(at).saturating_add(behind))
}

/// Whether these octets begin as a VTEP begins a datagram: the I flag alone, or the flags and the group
/// of Group Policy, and the reserved octets zero.
fn begins_as_vxlan(octets: &[u8]) -> bool {
    match octets.first_chunk::<{ vxlan::HEADER_LEN }>() {
        Some([0x08, 0, 0, 0, _, _, _, 0]) => true,
        Some([0x88, flags, _, _, _, _, _, 0]) => flags & !0x48 == 0,
        _ => false,
    }
}

/// Whether a frame is one UDP datagram, no fragment, whose lengths go on exactly to its end, with more
/// than `segment` octets of payload.
fn is_udp_to_the_end(frame: &[u8], segment: usize) -> bool {
    let Ok(inner) = Inner::classify(frame) else { return false };
    if inner.is_fragment() || inner.protocol() != Some(protocol::UDP) {
        return false;
    }
    let ip_len = match inner.network {
        Network::Ipv4(ip) => usize::from(ip.header_len),
        Network::Ipv6(_, payload) => usize::from(payload.offset),
        _ => return false,
    };
    let at = usize::from(inner.ethernet.payload_offset).saturating_add(ip_len);
    let Some(datagram) = frame.get(at..) else { return false };
    let Some([_, _, _, _, a, b, _, _]) = datagram.first_chunk() else { return false };
    stated_len(frame) == Some(frame.len())
        && usize::from(u16::from_be_bytes([*a, *b])) == datagram.len()
        && datagram.len().saturating_sub(8) > segment
}
