//! What goes before a superframe on an uplink: the offload header and the outer headers.

use core::net::IpAddr;

use crate::linux::offload::{VirtioNetHeader, VirtioNetTunnelHeader};
use crate::wire::checksum::{pseudo_header_v4, pseudo_header_v6};
use crate::wire::ethernet::{self, ethertype};
use crate::wire::ipv4::protocol;
use crate::wire::template::{Fields, MAX_LEN, Template};
use crate::wire::{ipv6, udp, vxlan};

/// The offload header and the outer headers, VXLAN and all.
pub(super) struct Headers {
    bytes: [u8; VirtioNetTunnelHeader::LEN + MAX_LEN],
    len: usize,
}

impl Headers {
    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// What a superframe needs of the way that it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outer<'a> {
    /// The headers up to VXLAN, which begin with Ethernet.
    pub(super) template: &'a Template,
    /// Outer addresses, this node's first.
    pub(super) addrs: (IpAddr, IpAddr),
    /// The longest IP packet that the way takes.
    pub(super) mtu: u32,
    /// Whether the outer UDP checksum is sent.
    pub(super) checksum: bool,
    pub(super) kinds: Kinds,
    pub(super) source_port: u16,
    pub(super) ecn: u8,
    pub(super) ip_id: u16,
}

/// Which superframes the device cuts by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Kinds {
    pub(super) tcp4: bool,
    pub(super) tcp6: bool,
    pub(super) udp: bool,
}

/// The headers for `packet`, an inner superframe behind its VXLAN header, of which `header` says how
/// it is to be cut. `None` for what cannot go whole: no superframe at all, one that the device
/// does not cut, VLAN tags, one that is too long for the outer length fields, segments that are too long for
/// the way. Nor for one whose IP header says another length: whoever receives the segments goes by that.
pub(super) fn headers(outer: &Outer<'_>, packet: &[u8], header: &VirtioNetHeader) -> Option<Headers> {
    let (vxlan, inner) = packet.split_first_chunk::<{ vxlan::HEADER_LEN }>()?;
    // A tag would have to be cut with the rest, and the offload header cannot say where it is.
    let v6 = match u16::from_be_bytes(*inner.get(12..)?.first_chunk()?) {
        ethertype::IPV4 => false,
        ethertype::IPV6 => true,
        _ => return None,
    };
    let stated = match v6 {
        false => usize::from(u16::from_be_bytes(*inner.get(16..)?.first_chunk()?)),
        true => ipv6::HEADER_LEN + usize::from(u16::from_be_bytes(*inner.get(18..)?.first_chunk()?)),
    };
    if ethernet::HEADER_LEN + stated != inner.len() {
        return None;
    }
    let transport = usize::from(header.csum_start);
    let transport_len = match header.gso_type & !VirtioNetHeader::GSO_ECN {
        VirtioNetHeader::GSO_TCPV4 if !v6 && outer.kinds.tcp4 => tcp_len(inner, transport)?,
        VirtioNetHeader::GSO_TCPV6 if v6 && outer.kinds.tcp6 => tcp_len(inner, transport)?,
        VirtioNetHeader::GSO_UDP_L4 if outer.kinds.udp => udp::HEADER_LEN,
        _ => return None,
    };
    let inner_headers = transport.checked_add(transport_len)?;
    let payload = inner.len().checked_sub(inner_headers)?;
    if header.flags & VirtioNetHeader::NEEDS_CSUM == 0 || header.gso_size == 0 || payload == 0 {
        return None;
    }
    let segment = payload.min(usize::from(header.gso_size)).checked_add(inner_headers)?;
    if segment.checked_add(outer.template.overhead())? > outer.mtu as usize {
        return None;
    }
    let fields =
        Fields { source_port: outer.source_port, ecn: outer.ecn, ip_id: outer.ip_id, ..Fields::default() };
    let written = outer.template.header(inner, &fields)?;
    let len = written.len();
    let outer_v4 = outer.addrs.1.is_ipv4();
    let outer_len = u16::try_from(len).ok()?;
    let at_udp = len.checked_sub(udp::HEADER_LEN + vxlan::HEADER_LEN)?;

    let mut flags = VirtioNetHeader::NEEDS_CSUM;
    if outer.checksum {
        flags |= VirtioNetTunnelHeader::UDP_TUNNEL_CSUM;
    }
    let tunnel = match outer_v4 {
        true => VirtioNetTunnelHeader::GSO_UDP_TUNNEL_IPV4,
        false => VirtioNetTunnelHeader::GSO_UDP_TUNNEL_IPV6,
    };
    let offload = VirtioNetTunnelHeader {
        inner: VirtioNetHeader {
            flags,
            gso_type: header.gso_type | tunnel,
            hdr_len: outer_len.checked_add(u16::try_from(inner_headers).ok()?)?,
            gso_size: header.gso_size,
            csum_start: header.csum_start.checked_add(outer_len)?,
            csum_offset: header.csum_offset,
        },
        outer_th_offset: u16::try_from(at_udp).ok()?,
        inner_nh_offset: outer_len.checked_add(ethernet::HEADER_LEN as u16)?,
    };

    let mut headers = Headers { bytes: [0; _], len: VirtioNetTunnelHeader::LEN.checked_add(len)? };
    let (first, rest) = headers.bytes.split_first_chunk_mut::<{ VirtioNetTunnelHeader::LEN }>()?;
    *first = offload.to_bytes();
    let rest = rest.get_mut(..len)?;
    rest.copy_from_slice(&written);
    // The engine wrote it, with network identifier and group.
    *rest.last_chunk_mut()? = *vxlan;
    if outer.checksum {
        // As for any checksum that is left to be finished: the sum of the pseudo header.
        let udp_len = packet.len().checked_add(udp::HEADER_LEN)?;
        let sum = match outer.addrs {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                pseudo_header_v4(src, dst, protocol::UDP, u16::try_from(udp_len).ok()?)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                pseudo_header_v6(src, dst, protocol::UDP, u32::try_from(udp_len).ok()?)
            }
            _ => return None,
        };
        *rest.get_mut(at_udp.checked_add(6)?..)?.first_chunk_mut()? = sum.value().to_be_bytes();
    }
    Some(headers)
}

/// Octets of the TCP header at `at`.
fn tcp_len(inner: &[u8], at: usize) -> Option<usize> {
    let len = usize::from(inner.get(at.checked_add(12)?)? >> 4).checked_mul(4)?;
    (len >= 20).then_some(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{MacAddr, Vni};
    use crate::wire::outer::{self, OuterPolicy, Shape};
    use crate::wire::template::{TemplateConfig, UdpChecksum};
    use crate::wire::vxlan::VxlanHeader;
    use alloc::vec;
    use alloc::vec::Vec;

    fn template(local: &str, remote: &str) -> (Template, (IpAddr, IpAddr)) {
        let addrs = (local.parse().unwrap(), remote.parse().unwrap());
        let config = TemplateConfig {
            shape: Shape::Ethernet,
            local: addrs.0,
            remote: addrs.1,
            remote_port: 4789,
            local_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            remote_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            ttl: 64,
            dscp: 0,
            dont_fragment: true,
            udp_checksum: UdpChecksum::Zero,
        };
        (Template::new(&config).unwrap(), addrs)
    }

    /// A VXLAN header and a TCP superframe with 32 octets of TCP header: `len` octets of payload.
    fn packet(v6: bool, len: usize) -> (Vec<u8>, VirtioNetHeader) {
        let ip = if v6 { 40 } else { 20 };
        let mut inner = vec![0; 14 + ip + 32 + len];
        inner[12..14].copy_from_slice(if v6 { &[0x86, 0xdd] } else { &[0x08, 0x00] });
        inner[14 + ip + 12] = 0x80;
        state_length(&mut inner);
        let header = VirtioNetHeader {
            flags: 1,
            gso_type: if v6 { VirtioNetHeader::GSO_TCPV6 } else { VirtioNetHeader::GSO_TCPV4 },
            hdr_len: 128,
            gso_size: 1398,
            csum_start: 14 + ip as u16,
            csum_offset: 16,
        };
        ([&VxlanHeader::emit(Vni::truncate(42), None)[..], &inner].concat(), header)
    }

    /// Makes the IP header say how long the packet is.
    fn state_length(inner: &mut [u8]) {
        let (at, without) = if inner[12] == 0x86 { (18, 54) } else { (16, 14) };
        let len = (inner.len() - without) as u16;
        inner[at..at + 2].copy_from_slice(&len.to_be_bytes());
    }

    fn way<'a>(template: &'a Template, addrs: (IpAddr, IpAddr)) -> Outer<'a> {
        let kinds = Kinds { tcp4: true, tcp6: true, udp: true };
        Outer { template, addrs, mtu: 1520, checksum: true, kinds, source_port: 4789, ecn: 1, ip_id: 7 }
    }

    #[test]
    fn the_offload_header_is_that_of_a_kernel_peer() {
        let (template, addrs) = template("192.0.2.1", "192.0.2.2");
        let (packet, header) = packet(false, 9000);
        let headers = headers(&way(&template, addrs), &packet, &header).unwrap();
        let offload = VirtioNetTunnelHeader::from_bytes(*headers.as_slice().first_chunk().unwrap());
        let inner = VirtioNetHeader {
            flags: 9,
            gso_type: 0x21,
            hdr_len: 116,
            gso_size: 1398,
            csum_start: 84,
            csum_offset: 16,
        };
        assert_eq!(offload, VirtioNetTunnelHeader { inner, outer_th_offset: 34, inner_nh_offset: 64 });
        // Without a checksum.
        let bare =
            super::headers(&Outer { checksum: false, ..way(&template, addrs) }, &packet, &header).unwrap();
        assert_eq!(bare.as_slice()[0], 1);
        assert_eq!(bare.as_slice()[24 + 40..24 + 42], [0, 0]);
        assert_eq!(headers.as_slice().len(), 24 + 50);
    }

    #[test]
    fn the_outer_headers_parse_and_the_checksum_is_that_of_the_pseudo_header() {
        for (local, remote, v6, len) in [
            ("192.0.2.1", "192.0.2.2", false, 50),
            ("192.0.2.1", "192.0.2.2", true, 50),
            ("2001:db8::1", "2001:db8::2", false, 70),
            ("2001:db8::1", "2001:db8::2", true, 70),
        ] {
            let (template, addrs) = template(local, remote);
            let (packet, header) = packet(v6, 9000);
            let way = Outer { mtu: 1540, ..way(&template, addrs) };
            let headers = headers(&way, &packet, &header).unwrap();
            let whole = [&headers.as_slice()[24..], &packet[8..]].concat();
            assert_eq!(whole.len(), len + packet.len() - 8);
            let policy = OuterPolicy { verify_udp_checksum: false, ..OuterPolicy::default() };
            let outer = outer::parse(Shape::Ethernet, &whole, &policy).unwrap();
            assert_eq!((outer.src.unwrap(), outer.dst.unwrap()), addrs);
            assert_eq!((outer.udp_src, outer.udp_dst, outer.ecn), (4789, 4789, 1));
            assert_eq!((outer.vxlan.vni.get(), outer.payload), (42, len..whole.len()));
            let offload = VirtioNetTunnelHeader::from_bytes(*headers.as_slice().first_chunk().unwrap());
            assert_eq!(offload.inner.gso_type & 0x60, if len == 50 { 0x20 } else { 0x40 });
            assert_eq!(usize::from(offload.inner_nh_offset), len + 14);
            let udp = usize::from(offload.outer_th_offset);
            let field = u16::from_be_bytes([whole[udp + 6], whole[udp + 7]]);
            let udp_len = whole.len() - udp;
            let want = match addrs {
                (IpAddr::V4(a), IpAddr::V4(b)) => pseudo_header_v4(a, b, 17, udp_len as u16),
                (IpAddr::V6(a), IpAddr::V6(b)) => pseudo_header_v6(a, b, 17, udp_len as u32),
                _ => unreachable!(),
            };
            assert_eq!(field, want.value());
        }
    }

    #[test]
    fn what_cannot_go_whole() {
        let (template, addrs) = template("192.0.2.1", "192.0.2.2");
        let way = way(&template, addrs);
        let (good, header) = packet(false, 9000);
        assert!(headers(&way, &good, &header).is_some());
        let cases = [
            (VirtioNetHeader { gso_type: 0, ..header }, "no superframe"),
            (VirtioNetHeader { gso_type: VirtioNetHeader::GSO_TCPV6, ..header }, "of the other family"),
            (VirtioNetHeader { gso_type: 3, ..header }, "UDP fragments"),
            (VirtioNetHeader { flags: 0, ..header }, "a finished checksum"),
            (VirtioNetHeader { gso_size: 0, ..header }, "no size"),
            (VirtioNetHeader { gso_size: 1419, ..header }, "a segment over the MTU"),
            (VirtioNetHeader { csum_start: 9999, ..header }, "a transport header behind the end"),
            (VirtioNetHeader { csum_start: u16::MAX, ..header }, "the same"),
        ];
        for (header, why) in cases {
            assert!(headers(&way, &good, &header).is_none(), "{why}");
        }
        assert!(
            headers(&way, &good, &VirtioNetHeader { gso_size: 1418, ..header }).is_some(),
            "fits the MTU"
        );
        let other = Outer { kinds: Kinds { tcp4: false, ..way.kinds }, ..way };
        assert!(headers(&other, &good, &header).is_none(), "the device does not cut it");
        let mut tagged = good.clone();
        tagged[8 + 12..8 + 14].copy_from_slice(&[0x81, 0x00]);
        assert!(headers(&way, &tagged, &header).is_none(), "a VLAN tag");
        let (long, header) = packet(false, 65_500 - 66);
        assert!(headers(&way, &long, &header).is_none(), "longer than the outer packet may be");
        for cut in 0..100 {
            assert!(headers(&way, &good[..cut.min(8 + 66)], &header).is_none(), "{cut} octets");
        }
        // Octets behind the packet would be taken for segments, or one for many datagrams.
        for v6 in [false, true] {
            let (good, header) = self::packet(v6, 9000);
            let at = 8 + if v6 { 18 } else { 16 };
            let stated = u16::from_be_bytes([good[at], good[at + 1]]);
            for lie in [0, 28, 1398, stated - 1, stated + 1] {
                let mut packet = good.clone();
                packet[at..at + 2].copy_from_slice(&lie.to_be_bytes());
                assert!(headers(&way, &packet, &header).is_none(), "IPv6 {v6}: a length of {lie}");
            }
        }
        let mut short = good;
        short[8 + 34 + 12] = 0x40;
        assert!(headers(&way, &short, &header).is_none(), "a TCP header of 16 octets");
    }

    #[test]
    fn every_kind_of_transport_header_counts() {
        let (template, addrs) = template("192.0.2.1", "192.0.2.2");
        let way = Outer { mtu: 1538, ..way(&template, addrs) };
        for v6 in [false, true] {
            let ip = if v6 { 40 } else { 20 };
            let (mut packet, tcp) = packet(v6, 9000);
            let udp = VirtioNetHeader { gso_type: VirtioNetHeader::GSO_UDP_L4, csum_offset: 6, ..tcp };
            for (words, header, len) in [(5, tcp, 20), (8, tcp, 32), (15, tcp, 60), (0, udp, 8)] {
                packet[8 + 14 + ip + 12] = words << 4;
                let fits = 1538 - 36 - 14 - ip - len;
                let header = VirtioNetHeader { gso_size: fits as u16, ..header };
                let found = headers(&way, &packet, &header).unwrap();
                let offload = VirtioNetTunnelHeader::from_bytes(*found.as_slice().first_chunk().unwrap());
                assert_eq!(usize::from(offload.inner.hdr_len), 50 + 14 + ip + len, "{header:?}");
                let longer = VirtioNetHeader { gso_size: fits as u16 + 1, ..header };
                assert!(headers(&way, &packet, &longer).is_none(), "over the MTU: {header:?}");
            }
            let other = Outer { kinds: Kinds { udp: false, ..way.kinds }, ..way };
            assert!(headers(&other, &packet, &udp).is_none(), "the device does not cut it");
            assert!(headers(&other, &packet, &tcp).is_none(), "a TCP header without octets");
        }
    }
}
