//! Prebuilt outer headers: everything that is the same for every packet to one VTEP is laid out
//! once; a packet costs a copy and a few patched fields.

use core::fmt;
use core::net::IpAddr;
use core::ops::Deref;

use super::checksum::{self, Sum};
use super::ethernet::{self, ethertype};
use super::ipv4::{Ipv4Header, protocol};
use super::ipv6::Ipv6Header;
use super::outer::Shape;
use super::udp::{self, UdpHeader};
use super::vxlan::{self, GroupPolicy, VxlanHeader};
use super::{ipv4, ipv6};
use crate::addr::{MacAddr, Vni};

/// Octets of the longest headers: Ethernet 14, IPv6 40, UDP 8, VXLAN 8. Headroom of this size always suffices.
pub const MAX_LEN: usize = ethernet::HEADER_LEN + V6_LEN;

/// IPv4 to VXLAN.
const V4_LEN: usize = ipv4::HEADER_LEN + UDP_VXLAN_LEN;
/// IPv6 to VXLAN.
const V6_LEN: usize = ipv6::HEADER_LEN + UDP_VXLAN_LEN;
const UDP_VXLAN_LEN: usize = udp::HEADER_LEN + vxlan::HEADER_LEN;
/// Ethernet to VXLAN, over IPv4.
pub(crate) const ETHERNET_V4_LEN: usize = ethernet::HEADER_LEN + V4_LEN;

/// What the UDP checksum of sent packets is. In [`Shape::Udp`] the socket decides, not this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum UdpChecksum {
    /// Zero, "none": what RFC 7348, section 5 recommends, over IPv6 too (RFC 6935).
    #[default]
    Zero,
    /// Computed over the whole packet, whose every octet is read for it.
    Full,
}

/// What the outer headers to one VTEP say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateConfig {
    /// With which header packets start.
    pub shape: Shape,
    /// This node's underlay address. May be unspecified in [`Shape::Udp`], which only needs its family.
    pub local: IpAddr,
    /// The VTEP's underlay address, of the same family.
    pub remote: IpAddr,
    /// The VTEP's UDP port.
    pub remote_port: u16,
    /// This node's MAC address on the underlay; [`Shape::Ethernet`] alone uses it.
    pub local_mac: MacAddr,
    /// The MAC address of the next hop to the VTEP; [`Shape::Ethernet`] alone uses it.
    pub remote_mac: MacAddr,
    /// TTL or hop limit, at least 1.
    pub ttl: u8,
    /// Differentiated services codepoint, 0 to 63 (RFC 2474).
    pub dscp: u8,
    /// The DF flag of an IPv4 header.
    pub dont_fragment: bool,
    /// What the UDP checksum is.
    pub udp_checksum: UdpChecksum,
}

/// A template that cannot be built as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TemplateError {
    /// One address is IPv4, the other IPv6.
    Families {
        /// This node's.
        local: IpAddr,
        /// The VTEP's.
        remote: IpAddr,
    },
    /// An address that no packet may have in that place: unspecified, or a multicast or broadcast source.
    Address(IpAddr),
    /// The UDP port is zero.
    Port,
    /// A MAC address that is zero, or a source that is a group address.
    Mac(MacAddr),
    /// The TTL is zero.
    Ttl,
    /// The DSCP exceeds 6 bits.
    Dscp(u8),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplateError::Families { local, remote } => {
                write!(f, "{local} and {remote} are not of one address family")
            }
            TemplateError::Address(a) => write!(f, "{a} cannot stand in an outer header"),
            TemplateError::Port => f.write_str("UDP port 0 cannot be sent to"),
            TemplateError::Mac(m) => write!(f, "{m} cannot stand in an outer Ethernet header"),
            TemplateError::Ttl => f.write_str("the outer TTL cannot be 0"),
            TemplateError::Dscp(d) => write!(f, "DSCP {d} exceeds 6 bits (63)"),
        }
    }
}

impl core::error::Error for TemplateError {}

/// What differs from packet to packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fields {
    /// The network identifier.
    pub vni: Vni,
    /// A group policy to write, if any.
    pub group: Option<GroupPolicy>,
    /// UDP source port (see [`source_port`](super::inner::source_port)).
    pub source_port: u16,
    /// The outer ECN codepoint; its low two bits count (see [`ecn`](super::ecn)).
    pub ecn: u8,
    /// Identification of an IPv4 header. Any value will do while DF is set and nobody fragments (RFC 6864).
    pub ip_id: u16,
}

/// Headers that are written without reading the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plain {
    Vxlan,
    EthernetIpv4,
}

/// Which headers a template has, from the outside in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Empty,
    Vxlan,
    Ipv4,
    Ipv6,
    EthernetIpv4,
    EthernetIpv6,
}

/// The outer headers to one VTEP, laid out once.
///
/// ```
/// use core::net::Ipv4Addr;
/// use overlane::addr::{MacAddr, Vni};
/// use overlane::wire::outer::{self, OuterPolicy, Shape};
/// use overlane::wire::template::{Fields, Template, TemplateConfig, UdpChecksum};
///
/// let template = Template::new(&TemplateConfig {
///     shape: Shape::Ip,
///     local: Ipv4Addr::new(192, 0, 2, 1).into(),
///     remote: Ipv4Addr::new(192, 0, 2, 2).into(),
///     remote_port: 4789,
///     local_mac: MacAddr::ZERO,
///     remote_mac: MacAddr::ZERO,
///     ttl: 64,
///     dscp: 0,
///     dont_fragment: true,
///     udp_checksum: UdpChecksum::Zero,
/// })?;
/// let mut packet = [0u8; 36 + 60]; // headroom, then the inner frame
/// let fields = Fields { vni: Vni::truncate(42), source_port: 50_000, ..Fields::default() };
/// template.write(&mut packet, &fields).expect("the packet is neither short nor too long");
///
/// let outer = outer::parse(Shape::Ip, &packet, &OuterPolicy::default())?;
/// assert_eq!((outer.vxlan.vni.get(), outer.udp_src, outer.payload), (42, 50_000, 36..96));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
// What a packet needs of it, the headers over IPv4 and what is before them, is one cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Template {
    kind: Kind,
    checksum: UdpChecksum,
    len: u8,
    overhead: u8,
    /// The longest inner frame whose lengths fit their fields.
    max_inner: u16,
    /// The longest inner frame that the way to the VTEP carries; `u16::MAX` where nobody set a limit.
    path_max: u16,
    /// The lesser of the two, of headers that are written without reading the frame; 0 of others.
    plain_max: u16,
    /// Sum of the IPv4 header with length, identification and ECN zero.
    ip_sum: u16,
    /// Sum of what never changes under the UDP checksum: addresses, protocol, destination port.
    udp_sum: u16,
    bytes: [u8; MAX_LEN],
}

const _: () = assert!(size_of::<Template>() == 128);
const _: () = assert!(core::mem::offset_of!(Template, bytes) + ETHERNET_V4_LEN <= 64);

impl Default for Template {
    fn default() -> Template {
        Template::EMPTY
    }
}

impl Template {
    /// A template of nothing, with which nothing can be written.
    pub const EMPTY: Template = Template {
        kind: Kind::Empty,
        checksum: UdpChecksum::Zero,
        len: 0,
        overhead: 0,
        max_inner: 0,
        path_max: u16::MAX,
        plain_max: 0,
        ip_sum: 0,
        udp_sum: 0,
        bytes: [0; MAX_LEN],
    };

    /// Lays the headers out.
    ///
    /// # Errors
    ///
    /// A [`TemplateError`] that names what cannot stand in the headers of that shape.
    pub fn new(config: &TemplateConfig) -> Result<Template, TemplateError> {
        check(config)?;
        let mut template = Template { checksum: config.udp_checksum, ..Template::EMPTY };
        let tos = config.dscp << 2;
        let mut v4: [u8; ipv4::HEADER_LEN];
        let v6: [u8; ipv6::HEADER_LEN];
        let (ip, ethertype): (&[u8], u16) = match (config.local, config.remote) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = Ipv4Header {
                    src,
                    dst,
                    protocol: protocol::UDP,
                    ttl: config.ttl,
                    tos,
                    id: 0,
                    dont_fragment: config.dont_fragment,
                    more_fragments: false,
                    fragment_offset: 0,
                    header_len: ipv4::HEADER_LEN as u8,
                    total_len: 0,
                };
                v4 = header.emit();
                template.ip_sum = !u16::from_be_bytes([v4[10], v4[11]]);
                // Each packet has its own.
                [v4[10], v4[11]] = [0; 2];
                template.udp_sum = checksum::pseudo_header_v4(src, dst, protocol::UDP, 0).value();
                template.max_inner = u16::MAX - V4_LEN as u16;
                (&v4, ethertype::IPV4)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let header = Ipv6Header {
                    src,
                    dst,
                    traffic_class: tos,
                    flow_label: 0,
                    payload_len: 0,
                    hop_limit: config.ttl,
                    next_header: protocol::UDP,
                };
                v6 = header.emit();
                template.udp_sum = checksum::pseudo_header_v6(src, dst, protocol::UDP, 0).value();
                template.max_inner = u16::MAX - UDP_VXLAN_LEN as u16;
                (&v6, ethertype::IPV6)
            }
            (local, remote) => return Err(TemplateError::Families { local, remote }),
        };
        template.udp_sum = Sum::new().add_u16(template.udp_sum).add_u16(config.remote_port).value();
        template.overhead = (ip.len() + UDP_VXLAN_LEN) as u8;

        let udp = UdpHeader { src_port: 0, dst_port: config.remote_port, length: 0, checksum: 0 }.emit();
        let (dst, src, ethertype) = (config.remote_mac.0, config.local_mac.0, ethertype.to_be_bytes());
        let is_v4 = config.remote.is_ipv4();
        let (kind, parts): (Kind, &[&[u8]]) = match config.shape {
            // The VXLAN header differs from packet to packet and is written whole each time.
            Shape::Udp => (Kind::Vxlan, &[]),
            Shape::Ip => (if is_v4 { Kind::Ipv4 } else { Kind::Ipv6 }, &[ip, &udp]),
            Shape::Ethernet => {
                let kind = if is_v4 { Kind::EthernetIpv4 } else { Kind::EthernetIpv6 };
                (kind, &[&dst, &src, &ethertype, ip, &udp])
            }
        };
        let octets = parts.iter().copied().flatten();
        template.len = (octets.clone().count() + vxlan::HEADER_LEN) as u8;
        template.kind = kind;
        for (to, from) in template.bytes.iter_mut().zip(octets) {
            *to = *from;
        }
        Ok(template.with_mtu(0))
    }

    /// Octets of the headers: 8, 36, 50, 56 or 70; 0 when [empty](Self::EMPTY).
    #[inline]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether this is [`EMPTY`](Self::EMPTY).
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Octets that the outer IP packet has around the inner frame, whoever writes them: 36 over
    /// IPv4, 56 over IPv6, 0 when empty. The inner Ethernet header counts as frame, an outer one not
    /// at all.
    #[inline]
    pub const fn overhead(&self) -> usize {
        self.overhead as usize
    }

    /// The longest inner frame: what the 16-bit lengths of IP and UDP can say.
    #[inline]
    pub const fn max_inner(&self) -> usize {
        self.max_inner as usize
    }

    /// The same headers, on a way that carries outer IP packets of at most `mtu` octets; 0 is no limit.
    pub(crate) const fn with_mtu(mut self, mtu: u16) -> Template {
        self.path_max = if mtu == 0 { u16::MAX } else { mtu.saturating_sub(self.overhead as u16) };
        let max = if self.path_max < self.max_inner { self.path_max } else { self.max_inner };
        self.plain_max = match (self.kind, self.checksum) {
            (Kind::EthernetIpv4, UdpChecksum::Zero) | (Kind::Vxlan, _) => max,
            _ => 0,
        };
        self
    }

    /// Whether the way carries an inner frame of `len` octets in one packet.
    #[inline]
    pub(crate) const fn fits_path(&self, len: usize) -> bool {
        len <= self.path_max as usize || self.path_max == u16::MAX
    }

    /// Writes the headers into the first [`len`](Self::len) octets of `packet`; the inner frame lies
    /// behind them already.
    ///
    /// `None`, with nothing written, where the packet is shorter than the headers or the inner frame
    /// longer than [`max_inner`](Self::max_inner), or the template is empty.
    #[inline]
    pub fn write(&self, packet: &mut [u8], fields: &Fields) -> Option<()> {
        if self.kind == Kind::EthernetIpv4
            && let Some((headers, inner)) = packet.split_first_chunk_mut()
            && self.plain(fields, inner.len()).is_some()
        {
            self.write_ethernet_ipv4(headers, inner.len(), fields);
            return Some(());
        }
        self.write_any(packet, *fields)
    }

    // The fields by value: so the short way need not have them in memory.
    #[inline(never)]
    fn write_any(&self, packet: &mut [u8], fields: Fields) -> Option<()> {
        let (headers, inner) = packet.split_at_mut_checked(self.len())?;
        self.fill(headers, inner, &fields)
    }

    /// The shape of the headers where they are written without reading the frame and nothing is wrong: a short
    /// way for nearly all packets.
    #[inline(always)]
    pub(crate) fn plain(&self, fields: &Fields, inner_len: usize) -> Option<Plain> {
        if fields.group.is_some() || inner_len.wrapping_sub(1) >= usize::from(self.plain_max) {
            return None;
        }
        Some(if self.kind == Kind::EthernetIpv4 { Plain::EthernetIpv4 } else { Plain::Vxlan })
    }

    /// The headers of [`Plain::EthernetIpv4`]: the template in one copy, and what differs on top; last the source
    /// port, which waits for the flow hash.
    #[inline(always)]
    pub(crate) fn write_ethernet_ipv4(
        &self,
        to: &mut [u8; ETHERNET_V4_LEN],
        inner_len: usize,
        fields: &Fields,
    ) {
        const IP: usize = ethernet::HEADER_LEN;
        const UDP: usize = IP + ipv4::HEADER_LEN;
        const VXLAN: usize = UDP + udp::HEADER_LEN;
        let from = &self.bytes;
        let udp_len = (inner_len as u16).wrapping_add(UDP_VXLAN_LEN as u16);
        let (start, check) = self.ipv4_varying(udp_len, fields);
        if let Some(from) = from.first_chunk() {
            *to = *from;
        }
        if let (Some(to), Some(from)) = (to[IP..].first_chunk_mut(), from[IP..].first_chunk()) {
            *to = (u64::from_ne_bytes(*from) | start.to_be()).to_ne_bytes();
        }
        [to[IP + 10], to[IP + 11]] = check.to_be_bytes();
        [to[UDP + 4], to[UDP + 5]] = udp_len.to_be_bytes();
        if let Some(to) = to[VXLAN..].first_chunk_mut() {
            *to = VxlanHeader::emit(fields.vni, None);
        }
        [to[UDP], to[UDP + 1]] = fields.source_port.to_be_bytes();
    }

    /// The headers for the frame `inner`, apart from it: for a flood, where many headers go before
    /// one shared payload. `None` as in [`write`](Self::write).
    #[inline]
    pub fn header(&self, inner: &[u8], fields: &Fields) -> Option<Header> {
        let mut header = Header { bytes: [0; MAX_LEN], len: self.len };
        self.fill(&mut header.bytes, inner, fields)?;
        Some(header)
    }

    #[inline]
    fn fill(&self, headers: &mut [u8], inner: &[u8], fields: &Fields) -> Option<()> {
        let udp_len = self.udp_len(inner)?;
        match self.kind {
            Kind::Empty => return None,
            Kind::Vxlan => *headers.first_chunk_mut()? = VxlanHeader::emit(fields.vni, fields.group),
            Kind::Ipv4 => {
                let vxlan = VxlanHeader::emit(fields.vni, fields.group);
                let check = self.udp_checksum(udp_len, fields.source_port, &vxlan, inner);
                let (to, from) = (headers.first_chunk_mut()?, self.bytes.first_chunk()?);
                self.fill_v4(to, from, udp_len, check, vxlan, fields);
            }
            Kind::Ipv6 => self.fill_v6(self.copied::<V6_LEN>(headers)?, udp_len, inner, fields),
            Kind::EthernetIpv4 => {
                let vxlan = VxlanHeader::emit(fields.vni, fields.group);
                let check = self.udp_checksum(udp_len, fields.source_port, &vxlan, inner);
                let (to, ip) = headers.split_first_chunk_mut::<{ ethernet::HEADER_LEN }>()?;
                let (from, ip_from) = self.bytes.split_first_chunk()?;
                *to = *from;
                self.fill_v4(ip.first_chunk_mut()?, ip_from.first_chunk()?, udp_len, check, vxlan, fields);
            }
            Kind::EthernetIpv6 => {
                let headers = self.copied::<{ ethernet::HEADER_LEN + V6_LEN }>(headers)?;
                self.fill_v6(headers.last_chunk_mut()?, udp_len, inner, fields);
            }
        }
        Some(())
    }

    /// The first `N` octets of `headers`, with the template copied there. `N` is a constant so that
    /// the copy is a few moves and every offset behind it is known to lie inside.
    #[inline(always)]
    fn copied<'h, const N: usize>(&self, headers: &'h mut [u8]) -> Option<&'h mut [u8; N]> {
        let headers = headers.first_chunk_mut()?;
        *headers = *self.bytes.first_chunk()?;
        Some(headers)
    }

    /// The length that the UDP header states before this frame.
    #[inline(always)]
    fn udp_len(&self, inner: &[u8]) -> Option<u16> {
        if inner.len() > self.max_inner() {
            return None;
        }
        // Cannot wrap: max_inner leaves room for both.
        Some((inner.len() as u16).wrapping_add(UDP_VXLAN_LEN as u16))
    }

    /// Writes the headers as a few numbers, each of which is stored once: the octets `from` of the template
    /// with what differs filled in.
    #[inline(always)]
    fn fill_v4(
        &self,
        to: &mut [u8; V4_LEN],
        from: &[u8; V4_LEN],
        udp_len: u16,
        udp_check: u16,
        vxlan: [u8; vxlan::HEADER_LEN],
        fields: &Fields,
    ) {
        let (start, check) = self.ipv4_varying(udp_len, fields);
        let udp = u64::from(fields.source_port) << 48 | u64::from(udp_len) << 16 | u64::from(udp_check);
        if let (Some((start_to, to)), Some((start_from, from))) =
            (to.split_first_chunk_mut(), from.split_first_chunk())
            && let (Some((middle_to, to)), Some((middle_from, from))) =
                (to.split_first_chunk_mut(), from.split_first_chunk())
            && let (Some((addrs_to, to)), Some((addrs_from, from))) =
                (to.split_first_chunk_mut::<8>(), from.split_first_chunk())
            && let (Some((udp_to, to)), Some((udp_from, _))) =
                (to.split_first_chunk_mut(), from.split_first_chunk())
            && let Some(vxlan_to) = to.first_chunk_mut()
        {
            *start_to = (u64::from_ne_bytes(*start_from) | start.to_be()).to_ne_bytes();
            *middle_to = (u32::from_ne_bytes(*middle_from) | u32::from(check).to_be()).to_ne_bytes();
            *addrs_to = *addrs_from;
            *udp_to = (u64::from_ne_bytes(*udp_from) | udp.to_be()).to_ne_bytes();
            *vxlan_to = vxlan;
        }
    }

    /// What differs in an IPv4 header: its first eight octets as far as they do, and its checksum.
    #[inline(always)]
    fn ipv4_varying(&self, udp_len: u16, fields: &Fields) -> (u64, u16) {
        let [total_len, ecn, id] =
            [udp_len.wrapping_add(ipv4::HEADER_LEN as u16), u16::from(fields.ecn & 3), fields.ip_id];
        let sum = u32::from(self.ip_sum) + u32::from(ecn) + u32::from(total_len) + u32::from(id);
        // The halves are added in the upper one, and the carry from below is the one that goes around.
        let check = !(sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16;
        (u64::from(ecn) << 48 | u64::from(total_len) << 32 | u64::from(id) << 16, check)
    }

    #[inline(always)]
    fn fill_v6(&self, h: &mut [u8; V6_LEN], udp_len: u16, inner: &[u8], fields: &Fields) {
        h[1] |= (fields.ecn & 3) << 4;
        [h[4], h[5]] = udp_len.to_be_bytes();
        if let Some(tail) = h.last_chunk_mut() {
            self.fill_udp(tail, udp_len, inner, fields);
        }
    }

    #[inline(always)]
    fn fill_udp(&self, h: &mut [u8; UDP_VXLAN_LEN], udp_len: u16, inner: &[u8], fields: &Fields) {
        let vxlan = VxlanHeader::emit(fields.vni, fields.group);
        [h[0], h[1]] = fields.source_port.to_be_bytes();
        [h[4], h[5]] = udp_len.to_be_bytes();
        if let Some(tail) = h.last_chunk_mut() {
            *tail = vxlan;
        }
        [h[6], h[7]] = self.udp_checksum(udp_len, fields.source_port, &vxlan, inner).to_be_bytes();
    }

    fn udp_checksum(&self, udp_len: u16, source_port: u16, vxlan: &[u8], inner: &[u8]) -> u16 {
        if self.checksum == UdpChecksum::Zero {
            return 0;
        }
        // The length counts twice, in the pseudo header and in the header.
        let payload = Sum::new().add_bytes(vxlan).add_bytes(inner).value();
        match !sum_of(&[self.udp_sum, udp_len, udp_len, source_port, payload]) {
            0 => 0xffff,
            check => check,
        }
    }
}

#[inline(always)]
fn sum_of(words: &[u16]) -> u16 {
    checksum::fold(words.iter().fold(0u64, |sum, w| sum.wrapping_add(u64::from(*w))))
}

/// Refuses what cannot stand in the headers.
fn check(config: &TemplateConfig) -> Result<(), TemplateError> {
    let TemplateConfig { shape, local, remote, local_mac, remote_mac, .. } = *config;
    if local.is_ipv4() != remote.is_ipv4() {
        return Err(TemplateError::Families { local, remote });
    }
    if remote.is_unspecified() {
        return Err(TemplateError::Address(remote));
    }
    if shape != Shape::Udp
        && (local.is_unspecified() || local.is_multicast() || local == IpAddr::from([255; 4]))
    {
        return Err(TemplateError::Address(local));
    }
    if shape == Shape::Ethernet {
        if !local_mac.is_unicast() {
            return Err(TemplateError::Mac(local_mac));
        }
        if remote_mac == MacAddr::ZERO {
            return Err(TemplateError::Mac(remote_mac));
        }
    }
    match config {
        TemplateConfig { remote_port: 0, .. } => Err(TemplateError::Port),
        TemplateConfig { ttl: 0, .. } => Err(TemplateError::Ttl),
        TemplateConfig { dscp: dscp @ 64.., .. } => Err(TemplateError::Dscp(*dscp)),
        _ => Ok(()),
    }
}

/// Outer headers apart from their frame.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    bytes: [u8; MAX_LEN],
    len: u8,
}

impl Header {
    /// The octets.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl PartialEq for Header {
    fn eq(&self, other: &Header) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Header {}

impl Deref for Header {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for Header {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}
