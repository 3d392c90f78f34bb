//! Addresses, prefixes and ids that every floor shares.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use crate::error::AddrError;

/// A 48-bit IEEE 802 MAC address, in transmission order.
///
/// ```
/// use overlane::addr::MacAddr;
/// let mac: MacAddr = "02:00:00:00:00:2a".parse()?;
/// assert!(mac.is_unicast());
/// assert_eq!(mac.to_string(), "02:00:00:00:00:2a");
/// # Ok::<(), overlane::error::AddrError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);
    /// `00:00:00:00:00:00`; no station's address.
    pub const ZERO: MacAddr = MacAddr([0; 6]);

    /// Whether the I/G bit is set (IEEE 802-2014, 8.2.2): a group address, broadcast included.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether a station may have this address: not a group address and not all zero.
    pub const fn is_unicast(self) -> bool {
        !self.is_multicast() && self.to_u64() != 0
    }

    /// The address as the low 48 bits of an integer, first octet most significant.
    pub const fn to_u64(self) -> u64 {
        let m = self.0;
        u64::from_be_bytes([0, 0, m[0], m[1], m[2], m[3], m[4], m[5]])
    }

    /// The low 48 bits of `v`, most significant octet first; the high 16 bits are dropped.
    pub const fn from_u64(v: u64) -> MacAddr {
        let b = v.to_be_bytes();
        MacAddr([b[2], b[3], b[4], b[5], b[6], b[7]])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = self.0;
        write!(f, "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", m[0], m[1], m[2], m[3], m[4], m[5])
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = AddrError;

    /// Six pairs of hexadecimal digits with `:` or `-` between them.
    fn from_str(s: &str) -> Result<Self, AddrError> {
        let mut mac = [0u8; 6];
        let mut parts = s.split([':', '-']);
        for octet in &mut mac {
            let part = parts.next().ok_or(AddrError::Mac)?;
            if part.len() != 2 || !part.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(AddrError::Mac);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| AddrError::Mac)?;
        }
        if parts.next().is_some() { Err(AddrError::Mac) } else { Ok(MacAddr(mac)) }
    }
}

/// A VXLAN network identifier: 24 bits (RFC 7348, section 5).
///
/// ```
/// use overlane::addr::Vni;
/// let vni = Vni::new(42)?;
/// assert_eq!(vni.get(), 42);
/// assert!(Vni::new(1 << 24).is_err());
/// # Ok::<(), overlane::error::AddrError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Vni(u32);

impl Vni {
    /// The largest identifier, `0xff_ffff`.
    pub const MAX: Vni = Vni(0xff_ffff);

    /// Checks that `v` fits 24 bits.
    ///
    /// # Errors
    /// [`AddrError::Vni`].
    pub const fn new(v: u32) -> Result<Vni, AddrError> {
        if v > Vni::MAX.0 { Err(AddrError::Vni(v)) } else { Ok(Vni(v)) }
    }

    /// The low 24 bits of `v`.
    pub const fn truncate(v: u32) -> Vni {
        Vni(v & Vni::MAX.0)
    }

    /// The identifier as an integer below 2^24.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vni {}", self.0)
    }
}

impl FromStr for Vni {
    type Err = AddrError;

    /// Decimal, or hexadecimal behind `0x`.
    fn from_str(s: &str) -> Result<Self, AddrError> {
        let v = match s.strip_prefix("0x") {
            Some(hex) => unsigned(hex, 16),
            None => unsigned(s, 10),
        };
        Vni::new(v.ok_or(AddrError::NotANumber)?)
    }
}

/// A number without the sign that the standard library would take.
fn unsigned(digits: &str, radix: u32) -> Option<u32> {
    u32::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'))
}

/// A local port of the engine: where a pod, a virtual machine or a TAP is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct PortId(pub u16);

/// A VTEP, this one's view of a tunnel end on another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct VtepId(pub u16);

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {}", self.0)
    }
}

impl fmt::Display for VtepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vtep {}", self.0)
    }
}

/// Where a MAC address lives: behind a local port or behind a VTEP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Destination {
    /// Behind a local port.
    Port(PortId),
    /// Behind a tunnel.
    Vtep(VtepId),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Port(p) => fmt::Display::fmt(p, f),
            Destination::Vtep(v) => fmt::Display::fmt(v, f),
        }
    }
}

/// What a route leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NextHop {
    /// Through the tunnel to a VTEP.
    Vtep(VtepId),
    /// Out of a local port.
    Port(PortId),
    /// Reached without the overlay: the host's own stack forwards it.
    Direct,
    /// Nowhere: the packet is dropped and counted.
    Blackhole,
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextHop::Vtep(v) => fmt::Display::fmt(v, f),
            NextHop::Port(p) => fmt::Display::fmt(p, f),
            NextHop::Direct => f.write_str("direct"),
            NextHop::Blackhole => f.write_str("blackhole"),
        }
    }
}

macro_rules! prefix {
    ($name:ident, $addr:ty, $int:ty, $bits:literal, $example:literal, $doc:literal) => {
        #[doc = $doc]
        ///
        /// Host bits are always zero: [`new`](Self::new) refuses an address that has some,
        /// [`truncate`](Self::truncate) clears them. It parses from and prints as
        #[doc = concat!("`", $example, "`.")]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            addr: $addr,
            len: u8,
        }

        impl $name {
            /// The longest prefix length, in bits.
            pub const MAX_LEN: u8 = $bits;

            /// `addr/len`, where the bits of `addr` behind `len` must be zero.
            ///
            /// # Errors
            /// [`AddrError::PrefixLength`], [`AddrError::HostBits`].
            pub fn new(addr: $addr, len: u8) -> Result<Self, AddrError> {
                let prefix = Self::truncate(addr, len)?;
                if prefix.addr == addr { Ok(prefix) } else { Err(AddrError::HostBits) }
            }

            /// `addr/len` with the bits behind `len` cleared.
            ///
            /// # Errors
            /// [`AddrError::PrefixLength`].
            pub fn truncate(addr: $addr, len: u8) -> Result<Self, AddrError> {
                if len > Self::MAX_LEN {
                    return Err(AddrError::PrefixLength { len, max: Self::MAX_LEN });
                }
                Ok(Self { addr: <$addr>::from_bits(addr.to_bits() & Self::mask(len)), len })
            }

            /// The network address.
            pub const fn addr(&self) -> $addr {
                self.addr
            }

            /// The prefix length in bits.
            #[allow(clippy::len_without_is_empty)] // a length in bits; "empty" means nothing here
            pub const fn len(&self) -> u8 {
                self.len
            }

            /// Whether `addr` lies inside.
            pub const fn contains(&self, addr: $addr) -> bool {
                addr.to_bits() & Self::mask(self.len) == self.addr.to_bits()
            }

            const fn mask(len: u8) -> $int {
                match (<$int>::MAX).checked_shr(len as u32) {
                    Some(host) => !host,
                    None => <$int>::MAX,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.addr, self.len)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = AddrError;

            fn from_str(s: &str) -> Result<Self, AddrError> {
                let (addr, len) = s.split_once('/').ok_or(AddrError::Prefix)?;
                let len = unsigned(len, 10).and_then(|len| u8::try_from(len).ok());
                Self::new(addr.parse().map_err(|_| AddrError::Prefix)?, len.ok_or(AddrError::Prefix)?)
            }
        }
    };
}

prefix!(Ipv4Prefix, Ipv4Addr, u32, 32, "10.244.1.0/24", "An IPv4 prefix (RFC 4632).");
prefix!(Ipv6Prefix, Ipv6Addr, u128, 128, "fd00:10:244::/48", "An IPv6 prefix (RFC 4291, section 2.3).");

/// A prefix of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpPrefix {
    /// An IPv4 prefix.
    V4(Ipv4Prefix),
    /// An IPv6 prefix.
    V6(Ipv6Prefix),
}

impl IpPrefix {
    /// `addr/len`, where the bits behind `len` must be zero.
    ///
    /// # Errors
    /// [`AddrError::PrefixLength`], [`AddrError::HostBits`].
    pub fn new(addr: IpAddr, len: u8) -> Result<IpPrefix, AddrError> {
        Ok(match addr {
            IpAddr::V4(a) => IpPrefix::V4(Ipv4Prefix::new(a, len)?),
            IpAddr::V6(a) => IpPrefix::V6(Ipv6Prefix::new(a, len)?),
        })
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IpPrefix::V4(p) => fmt::Display::fmt(p, f),
            IpPrefix::V6(p) => fmt::Display::fmt(p, f),
        }
    }
}

impl FromStr for IpPrefix {
    type Err = AddrError;

    fn from_str(s: &str) -> Result<Self, AddrError> {
        if s.contains(':') { s.parse().map(IpPrefix::V6) } else { s.parse().map(IpPrefix::V4) }
    }
}

impl From<Ipv4Prefix> for IpPrefix {
    fn from(p: Ipv4Prefix) -> IpPrefix {
        IpPrefix::V4(p)
    }
}

impl From<Ipv6Prefix> for IpPrefix {
    fn from(p: Ipv6Prefix) -> IpPrefix {
        IpPrefix::V6(p)
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_mac_prints_what_it_parses_and_refuses_the_rest() {
        for ok in ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "02:1a:b3:c4:d5:e6"] {
            assert_eq!(ok.parse::<MacAddr>().unwrap().to_string(), ok);
        }
        assert_eq!("02-00-00-00-00-01".parse(), Ok(MacAddr([2, 0, 0, 0, 0, 1])));
        for bad in [
            "",
            "1",
            "02:00:00:00:00",
            "02:00:00:00:00:00:00",
            "2:0:0:0:0:0",
            "0g:00:00:00:00:00",
            "+1:00:00:00:00:00",
        ] {
            assert_eq!(bad.parse::<MacAddr>(), Err(AddrError::Mac), "{bad}");
        }
    }

    #[test]
    fn mac_integers_keep_octet_order() {
        let mac = MacAddr([1, 2, 3, 4, 5, 6]);
        assert_eq!(mac.to_u64(), 0x0102_0304_0506);
        assert_eq!(MacAddr::from_u64(0xffff_0102_0304_0506), mac);
        assert!(
            !MacAddr::ZERO.is_unicast() && !MacAddr::BROADCAST.is_unicast() && MacAddr([2; 6]).is_unicast()
        );
    }

    #[test]
    fn a_vni_has_24_bits() {
        assert_eq!("0xffffff".parse(), Ok(Vni::MAX));
        assert_eq!("16777216".parse::<Vni>(), Err(AddrError::Vni(1 << 24)));
        for text in ["x", "", "+42", "-1", "0x", "0x+2a", "0x-1", "4294967296"] {
            assert_eq!(text.parse::<Vni>(), Err(AddrError::NotANumber), "{text}");
        }
        assert_eq!(Vni::truncate(u32::MAX), Vni::MAX);
    }

    #[test]
    fn a_prefix_refuses_host_bits_and_long_lengths() {
        assert_eq!("10.0.0.1/8".parse::<IpPrefix>(), Err(AddrError::HostBits));
        assert_eq!("10.0.0.0/33".parse::<IpPrefix>(), Err(AddrError::PrefixLength { len: 33, max: 32 }));
        for bad in ["10.0.0.0", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/256", "::/-1", "/8"] {
            assert_eq!(bad.parse::<IpPrefix>(), Err(AddrError::Prefix), "{bad}");
        }
        for ok in ["0.0.0.0/0", "10.244.1.0/24", "255.255.255.255/32", "::/0", "fd00:10::/48", "::1/128"] {
            assert_eq!(ok.parse::<IpPrefix>().unwrap().to_string(), ok);
        }
        let all = Ipv4Prefix::new(Ipv4Addr::UNSPECIFIED, 0).unwrap();
        assert!(all.contains(Ipv4Addr::BROADCAST));
        let one = Ipv6Prefix::new(Ipv6Addr::LOCALHOST, 128).unwrap();
        assert!(one.contains(Ipv6Addr::LOCALHOST) && !one.contains(Ipv6Addr::UNSPECIFIED));
    }
}
