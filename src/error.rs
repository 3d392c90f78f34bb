//! Drop reasons, parse errors, and one small error enum for each family of control operations.
//!
//! Nothing on the data path returns an `Err` for what a packet holds: a packet that cannot be
//! carried is a verdict with a [`DropReason`], and counted. Errors here are for the host.

mod control;

pub use control::*;

use core::fmt;

macro_rules! numbered {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $($(#[$vmeta:meta])* $variant:ident = $num:literal, $label:literal;)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$vmeta])* $variant = $num,)*
        }

        impl $name {
            /// Every value, in the order of the numbers.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// How many values there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The place of this value in [`ALL`](Self::ALL), below [`COUNT`](Self::COUNT).
            pub const fn index(self) -> usize {
                const INDEX: [u8; 256] = {
                    let mut table = [0; 256];
                    let mut i = 0;
                    while i < $name::ALL.len() {
                        table[$name::ALL[i] as u8 as usize] = i as u8;
                        i += 1;
                    }
                    table
                };
                INDEX[self as u8 as usize] as usize
            }

            /// The number, the same in C. Never reused.
            pub const fn number(self) -> u8 {
                self as u8
            }

            /// The value with this number.
            pub const fn from_number(n: u8) -> Option<$name> {
                match n {
                    $($num => Some($name::$variant),)*
                    _ => None,
                }
            }

            /// A stable, short, lower-case name.
            pub const fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $label,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

numbered! {
    /// Why a frame was not carried. Closed and numbered; numbers of retired reasons stay reserved.
    ///
    /// 1-31: the bytes are wrong. 32-47: the sender is not accepted. 48-79: there is nowhere to
    /// send it. 80-95: a backend could not carry it. 0 is no reason.
    #[allow(clippy::manual_non_exhaustive)]
    pub enum DropReason {
        /// The bytes end before the header or the length that a header states.
        Truncated = 1, "truncated";
        /// The version nibble of an IP header does not fit its EtherType.
        BadVersion = 2, "bad_version";
        /// A header length below its minimum (IPv4 IHL).
        BadHeaderLength = 3, "bad_header_length";
        /// A total or payload length that contradicts the headers before it.
        BadLength = 4, "bad_length";
        /// An IPv4 header or UDP checksum that does not verify.
        BadChecksum = 5, "bad_checksum";
        /// A zero UDP checksum over IPv6 where that is not allowed (RFC 6935, section 5).
        ZeroChecksum = 6, "zero_checksum";
        /// The outer packet is a fragment (RFC 7348, section 4.3 lets a VTEP discard it).
        OuterFragment = 7, "outer_fragment";
        /// An outer EtherType that is neither IPv4 nor IPv6.
        OuterNotIp = 8, "outer_not_ip";
        /// An outer IP protocol other than UDP.
        OuterNotUdp = 9, "outer_not_udp";
        /// A UDP destination port that is not a tunnel port of this engine.
        NotTunnelPort = 10, "not_tunnel_port";
        /// The VXLAN I flag is clear: the VNI is not valid (RFC 7348, section 5).
        NoVniFlag = 11, "no_vni_flag";
        /// A reserved bit is set that the configured policy requires to be zero.
        ReservedBits = 12, "reserved_bits";
        /// More VLAN tags than the two that are seen through.
        TooManyTags = 13, "too_many_tags";
        /// An IPv6 extension header chain longer than the bound.
        TooManyExtensions = 14, "too_many_extensions";
        /// An ARP packet that is not Ethernet/IPv4 (RFC 826).
        BadArp = 15, "bad_arp";
        /// An outer CE mark on an inner packet that is not ECN-capable (RFC 6040, section 4.2).
        BadEcn = 16, "bad_ecn";

        /// No such VNI here.
        UnknownVni = 32, "unknown_vni";
        /// The outer source is not a known VTEP and the VNI accepts only those.
        UnknownSource = 33, "unknown_source";
        /// An outer source that no VTEP can have: unspecified, multicast, broadcast, or our own; an
        /// IPv4-mapped one in an IPv6 header; an outer source MAC that is no station's.
        InvalidOuterSource = 34, "invalid_outer_source";
        /// An inner source MAC that no station can have: zero or a group address.
        InvalidSourceMac = 35, "invalid_source_mac";
        /// The inner source MAC is this node's own router MAC: a loop or a forgery.
        OwnSourceMac = 36, "own_source_mac";
        /// The inner source MAC is held elsewhere by a static or sticky entry.
        MacPinned = 37, "mac_pinned";
        /// The outer destination is not an address of this VTEP.
        NotOurAddress = 38, "not_our_address";

        /// No route covers the inner destination.
        NoRoute = 48, "no_route";
        /// The route says to drop.
        Blackhole = 49, "blackhole";
        /// It came from a tunnel and would go to a tunnel.
        SplitHorizon = 50, "split_horizon";
        /// It would leave by the port it came from.
        SamePort = 51, "same_port";
        /// It should be flooded and there is nobody to flood it to.
        NoFloodTarget = 52, "no_flood_target";
        /// The destination MAC is unknown and the VNI does not flood unknown unicast.
        UnknownMac = 53, "unknown_mac";
        /// A frame on a routed VNI that is not addressed to the router MAC, nor address resolution on the local side.
        NotForRouter = 54, "not_for_router";
        /// The frame, encapsulated, exceeds the VTEP's MTU and may not be answered.
        MtuExceeded = 55, "mtu_exceeded";
        /// The frame's buffer has too little headroom for the outer headers.
        NoHeadroom = 56, "no_headroom";
        /// The frame on a routed VNI is neither IP nor ARP.
        NotIp = 57, "not_ip";
        /// The encapsulated packet would exceed what a length field can say (65,535 octets).
        TooLong = 58, "too_long";
        /// The VTEP's address family has no local address, so no outer header can be built.
        NoLocalAddress = 59, "no_local_address";
        /// A source or destination on a routed VNI that no router forwards: unspecified, loopback, a
        /// group, the limited broadcast, or link-local in IPv6 (RFC 1812, section 5.3.7; RFC 4291,
        /// section 2.5).
        NotForwardable = 60, "not_forwardable";

        /// The backend's transmit queue was full.
        TxQueueFull = 80, "tx_queue_full";
        /// The backend could not send the packet.
        TxFailed = 81, "tx_failed";
        /// The backend's receive buffer was smaller than the packet.
        RxTruncated = 82, "rx_truncated";
        /// A frame was punted and the backend has no slow path for it.
        NotHandled = 83, "not_handled";
    }
}

numbered! {
    /// Why a frame goes to the host's slow path instead of being carried. Numbered like [`DropReason`].
    pub enum PuntReason {
        /// ARP from a local port of a routed VNI, whatever it says: a request for any address, covered by a route
        /// or not, a reply, an announcement. Which of them the router answers is the host's to decide.
        Arp = 1, "arp";
        /// IPv6 neighbour discovery from a local port of a routed VNI (RFC 4861), as with ARP.
        NeighborDiscovery = 2, "neighbor_discovery";
        /// The TTL or hop limit would reach zero: ICMP time exceeded is due (RFC 1812, 5.3.1).
        TtlExpired = 3, "ttl_expired";
        /// Encapsulated it would exceed the VTEP's MTU: ICMP too big is due (RFC 1191, RFC 8201).
        TooBig = 4, "too_big";
        /// The route is [`NextHop::Direct`](crate::addr::NextHop::Direct).
        DirectRoute = 5, "direct_route";
        /// The route leads to a port whose peer MAC is not configured.
        NoNeighbor = 6, "no_neighbor";
    }
}

numbered! {
    /// The header at which parsing stopped.
    pub enum Layer {
        /// Outer Ethernet, tags included.
        Ethernet = 1, "ethernet";
        /// Outer IPv4.
        Ipv4 = 2, "ipv4";
        /// Outer IPv6, extension headers included.
        Ipv6 = 3, "ipv6";
        /// Outer UDP.
        Udp = 4, "udp";
        /// VXLAN.
        Vxlan = 5, "vxlan";
        /// Inner Ethernet, tags included.
        InnerEthernet = 6, "inner_ethernet";
        /// Inner ARP.
        InnerArp = 7, "inner_arp";
        /// Inner IPv4.
        InnerIpv4 = 8, "inner_ipv4";
        /// Inner IPv6, extension headers included.
        InnerIpv6 = 9, "inner_ipv6";
        /// Outer ARP.
        Arp = 10, "arp";
    }
}

impl Layer {
    /// The same header one encapsulation further in.
    pub const fn inner(self) -> Layer {
        match self {
            Layer::Ethernet => Layer::InnerEthernet,
            Layer::Arp => Layer::InnerArp,
            Layer::Ipv4 => Layer::InnerIpv4,
            Layer::Ipv6 => Layer::InnerIpv6,
            other => other,
        }
    }
}

/// What was wrong with some bytes, and where: 4 bytes in all.
///
/// ```
/// use overlane::error::{DropReason, Layer, ParseError};
/// let e = ParseError::new(Layer::Udp, DropReason::Truncated, 34);
/// assert_eq!(e.to_string(), "truncated at udp, offset 34");
/// assert_eq!(core::mem::size_of::<ParseError>(), 4);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ParseError {
    layer: Layer,
    reason: DropReason,
    offset: u16,
}

impl ParseError {
    /// An error in `layer`, whose header or field starts `offset` octets into the packet
    /// (offsets above 65,535 are reported as 65,535).
    pub const fn new(layer: Layer, reason: DropReason, offset: usize) -> ParseError {
        ParseError {
            layer,
            reason,
            offset: if offset > u16::MAX as usize { u16::MAX } else { offset as u16 },
        }
    }

    /// The header in which parsing stopped.
    pub const fn layer(self) -> Layer {
        self.layer
    }

    /// What was wrong; always of the first band.
    pub const fn reason(self) -> DropReason {
        self.reason
    }

    /// Octets from the start of the packet to the header or field that is wrong.
    pub const fn offset(self) -> usize {
        self.offset as usize
    }

    /// The same error seen from a packet in which these bytes start at `base`.
    pub const fn within(self, base: usize) -> ParseError {
        ParseError::new(self.layer, self.reason, base.saturating_add(self.offset as usize))
    }

    /// The same error, in the inner header of that kind.
    pub const fn inner(self) -> ParseError {
        ParseError { layer: self.layer.inner(), ..self }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}, offset {}", self.reason, self.layer, self.offset)
    }
}

/// A textual or numeric address that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddrError {
    /// Not six pairs of hexadecimal digits.
    Mac,
    /// Not `address/length`.
    Prefix,
    /// The prefix length exceeds the address.
    PrefixLength {
        /// What was given.
        len: u8,
        /// What the family allows.
        max: u8,
    },
    /// Bits behind the prefix length are set.
    HostBits,
    /// The VNI exceeds 24 bits.
    Vni(u32),
    /// Not a number.
    NotANumber,
}

impl fmt::Display for AddrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddrError::Mac => {
                f.write_str("not a MAC address; write six pairs of hexadecimal digits, as 02:00:00:00:00:2a")
            }
            AddrError::Prefix => {
                f.write_str("not a prefix; write ADDRESS/LENGTH, as 10.244.1.0/24 or fd00::/48")
            }
            AddrError::PrefixLength { len, max } => write!(f, "prefix length {len} exceeds {max}"),
            AddrError::HostBits => f.write_str("the address has bits set behind the prefix length"),
            AddrError::Vni(v) => write!(f, "VNI {v} exceeds 24 bits (16777215)"),
            AddrError::NotANumber => f.write_str("not a number"),
        }
    }
}

macro_rules! is_error {
    ($($t:ty),*) => {$( impl core::error::Error for $t {} )*};
}

is_error!(
    ParseError,
    AddrError,
    CapacityError,
    VniError,
    VtepError,
    PortError,
    FdbError,
    RouteError,
    FloodError,
    FrameError,
    ControlError,
    ConfigError
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_one_reason_each_and_come_back() {
        for (i, r) in DropReason::ALL.iter().enumerate() {
            assert_eq!(DropReason::from_number(r.number()), Some(*r));
            assert_eq!(r.index(), i);
            assert!(DropReason::ALL[..i].iter().all(|s| s.number() < r.number() && s.name() != r.name()));
        }
        assert_eq!(DropReason::from_number(0), None);
        assert_eq!(DropReason::from_number(255), None);
        for p in PuntReason::ALL {
            assert_eq!(PuntReason::from_number(p.number()), Some(*p));
        }
    }

    #[test]
    fn an_offset_saturates_and_moves_with_its_packet() {
        let e = ParseError::new(Layer::Ipv4, DropReason::BadVersion, 70_000);
        assert_eq!(e.offset(), 65_535);
        let e = ParseError::new(Layer::Ipv4, DropReason::BadVersion, 14).within(50).inner();
        assert_eq!((e.offset(), e.layer()), (64, Layer::InnerIpv4));
    }
}
