//! Status codes: one band for each family of errors. A number that is retired stays reserved.

use core::ffi::CStr;

use overlane::error::{
    CapacityError, ConfigError, ControlError, FdbError, FloodError, PortError, RouteError, VniError,
    VtepError,
};

/// Done.
pub const OVERLANE_OK: i32 = 0;

/// A pointer is NULL that must not be.
pub const OVERLANE_E_NULL: i32 = -1;
/// The `size` of a structure is none that this version knows.
pub const OVERLANE_E_SIZE: i32 = -2;
/// A reserved field, or what lies behind the fields that this version knows, is not zero.
pub const OVERLANE_E_RESERVED: i32 = -3;
/// A pointer is not aligned for its type.
pub const OVERLANE_E_ALIGN: i32 = -4;
/// A length or count that no memory can have.
pub const OVERLANE_E_LENGTH: i32 = -5;
/// A constant, flag or address family that means nothing.
pub const OVERLANE_E_VALUE: i32 = -6;
/// A packet, or the headroom before it, does not lie in its arena or buffer.
pub const OVERLANE_E_RANGE: i32 = -7;
/// A call on the engine failed by a bug before; it does nothing any more but be freed.
pub const OVERLANE_E_POISONED: i32 = -8;
/// Another call on this engine has not returned: one thread at a time.
pub const OVERLANE_E_BUSY: i32 = -9;
/// There is nothing more to read. Not a failure; sets no error text.
pub const OVERLANE_E_END: i32 = -10;
/// The memory is not to be had.
pub const OVERLANE_E_MEMORY: i32 = -11;
/// A bug in overlane. The engine is poisoned.
pub const OVERLANE_E_INTERNAL: i32 = -12;
/// Refused for a reason that this version of the ABI has no number for; see the error text.
pub const OVERLANE_E_OTHER: i32 = -13;

/// A capacity is 0 or exceeds what ids can name.
pub const OVERLANE_E_CONFIG_CAPACITY: i32 = -100;
/// Neither a local IPv4 nor IPv6 address.
pub const OVERLANE_E_CONFIG_NO_LOCAL: i32 = -101;
/// A local address that no host can have.
pub const OVERLANE_E_CONFIG_LOCAL_ADDRESS: i32 = -102;
/// The tunnel's UDP port is 0.
pub const OVERLANE_E_CONFIG_PORT: i32 = -103;
/// The range of source ports is empty or holds 0.
pub const OVERLANE_E_CONFIG_SOURCE_PORTS: i32 = -104;
/// The Ethernet shape needs a unicast local MAC address.
pub const OVERLANE_E_CONFIG_LOCAL_MAC: i32 = -105;
/// The ageing time is 0 or more than 4 years.
pub const OVERLANE_E_CONFIG_AGEING: i32 = -106;
/// The outer TTL is 0.
pub const OVERLANE_E_CONFIG_TTL: i32 = -107;
/// The DSCP exceeds 6 bits.
pub const OVERLANE_E_CONFIG_DSCP: i32 = -108;
/// The seed is all zeros.
pub const OVERLANE_E_CONFIG_SEED: i32 = -109;

/// The number exceeds 24 bits.
pub const OVERLANE_E_VNI_RANGE: i32 = -200;
/// The VNI exists already.
pub const OVERLANE_E_VNI_EXISTS: i32 = -201;
/// No such VNI.
pub const OVERLANE_E_VNI_UNKNOWN: i32 = -202;
/// The VNI table is full.
pub const OVERLANE_E_VNI_FULL: i32 = -203;
/// The VNI still has ports.
pub const OVERLANE_E_VNI_IN_USE: i32 = -204;
/// A router's MAC address must be unicast.
pub const OVERLANE_E_VNI_ROUTER_MAC: i32 = -205;

/// A VTEP at this address exists already.
pub const OVERLANE_E_VTEP_EXISTS: i32 = -300;
/// No such VTEP.
pub const OVERLANE_E_VTEP_UNKNOWN: i32 = -301;
/// The VTEP table is full.
pub const OVERLANE_E_VTEP_FULL: i32 = -302;
/// No VTEP can have this address: unspecified, multicast, broadcast, or this node's own.
pub const OVERLANE_E_VTEP_ADDRESS: i32 = -303;
/// This node has no underlay address of that family.
pub const OVERLANE_E_VTEP_FAMILY: i32 = -304;
/// The UDP port is 0.
pub const OVERLANE_E_VTEP_PORT: i32 = -305;
/// The Ethernet shape needs the next hop's unicast MAC address.
pub const OVERLANE_E_VTEP_UNDERLAY_MAC: i32 = -306;
/// The MAC address of a VTEP's router must be unicast.
pub const OVERLANE_E_VTEP_INNER_MAC: i32 = -307;
/// The MTU is neither 0 nor at least 128.
pub const OVERLANE_E_VTEP_MTU: i32 = -308;
/// Routes still lead to the VTEP.
pub const OVERLANE_E_VTEP_IN_USE: i32 = -309;

/// No such port.
pub const OVERLANE_E_PORT_UNKNOWN: i32 = -400;
/// The port table is full.
pub const OVERLANE_E_PORT_FULL: i32 = -401;
/// The port's VNI does not exist.
pub const OVERLANE_E_PORT_NO_VNI: i32 = -402;
/// A peer's MAC address must be unicast.
pub const OVERLANE_E_PORT_PEER_MAC: i32 = -403;
/// The port is in another VNI, which cannot change.
pub const OVERLANE_E_PORT_OTHER_VNI: i32 = -404;
/// Routes still lead to the port.
pub const OVERLANE_E_PORT_IN_USE: i32 = -405;

/// Only unicast addresses have entries.
pub const OVERLANE_E_MAC_NOT_UNICAST: i32 = -500;
/// No entry for this address.
pub const OVERLANE_E_MAC_UNKNOWN: i32 = -501;
/// Every place for this address is held by an entry that stays.
pub const OVERLANE_E_MAC_FULL: i32 = -502;
/// The port or VTEP does not exist.
pub const OVERLANE_E_MAC_NO_DESTINATION: i32 = -503;
/// The port is in another VNI.
pub const OVERLANE_E_MAC_OTHER_VNI: i32 = -504;

/// No such route.
pub const OVERLANE_E_ROUTE_UNKNOWN: i32 = -600;
/// The route table is full.
pub const OVERLANE_E_ROUTE_FULL: i32 = -601;
/// The VNI is bridged.
pub const OVERLANE_E_ROUTE_NOT_ROUTED: i32 = -602;
/// The next hop does not exist.
pub const OVERLANE_E_ROUTE_NO_NEXT_HOP: i32 = -603;
/// The next hop is in another VNI.
pub const OVERLANE_E_ROUTE_OTHER_VNI: i32 = -604;
/// The VTEP has no inner MAC address.
pub const OVERLANE_E_ROUTE_NO_VTEP_MAC: i32 = -605;
/// The length exceeds the address, or bits behind the prefix are set.
pub const OVERLANE_E_ROUTE_PREFIX: i32 = -606;

/// The VTEP is on the list already.
pub const OVERLANE_E_FLOOD_EXISTS: i32 = -700;
/// The VTEP is not on the list.
pub const OVERLANE_E_FLOOD_UNKNOWN: i32 = -701;
/// No room for another member of any list.
pub const OVERLANE_E_FLOOD_FULL: i32 = -702;

/// Every status and its text.
pub(crate) const TEXTS: &[(i32, &CStr)] = &[
    (OVERLANE_OK, c"no error"),
    (OVERLANE_E_NULL, c"a pointer is NULL"),
    (OVERLANE_E_SIZE, c"a structure's size field is none that is known"),
    (OVERLANE_E_RESERVED, c"a reserved field or an unknown tail of a structure is not zero"),
    (OVERLANE_E_ALIGN, c"a pointer is not aligned for what it points to"),
    (OVERLANE_E_LENGTH, c"a length or count is too large"),
    (OVERLANE_E_VALUE, c"a field or argument has a value that means nothing"),
    (OVERLANE_E_RANGE, c"a packet does not lie in its memory"),
    (OVERLANE_E_POISONED, c"the engine failed before and does nothing any more; free it"),
    (OVERLANE_E_BUSY, c"the engine is in another call"),
    (OVERLANE_E_END, c"there is nothing more"),
    (OVERLANE_E_MEMORY, c"there is not enough memory"),
    (OVERLANE_E_INTERNAL, c"a bug in overlane; the engine is poisoned"),
    (OVERLANE_E_OTHER, c"refused for a reason newer than this ABI"),
    (OVERLANE_E_CONFIG_CAPACITY, c"a table's capacity is 0 or too large"),
    (OVERLANE_E_CONFIG_NO_LOCAL, c"no local underlay address"),
    (OVERLANE_E_CONFIG_LOCAL_ADDRESS, c"a local underlay address that no host can have"),
    (OVERLANE_E_CONFIG_PORT, c"the tunnel's UDP port is 0"),
    (OVERLANE_E_CONFIG_SOURCE_PORTS, c"the range of UDP source ports is empty or holds 0"),
    (OVERLANE_E_CONFIG_LOCAL_MAC, c"an Ethernet outer shape needs a unicast local MAC address"),
    (OVERLANE_E_CONFIG_AGEING, c"the ageing time is 0 or too long"),
    (OVERLANE_E_CONFIG_TTL, c"the outer TTL is 0"),
    (OVERLANE_E_CONFIG_DSCP, c"the DSCP exceeds 6 bits"),
    (OVERLANE_E_CONFIG_SEED, c"the seed is all zeros; draw 16 random octets"),
    (OVERLANE_E_VNI_RANGE, c"a VNI exceeds 24 bits"),
    (OVERLANE_E_VNI_EXISTS, c"the VNI exists already"),
    (OVERLANE_E_VNI_UNKNOWN, c"no such VNI"),
    (OVERLANE_E_VNI_FULL, c"the VNI table is full"),
    (OVERLANE_E_VNI_IN_USE, c"the VNI still has ports"),
    (OVERLANE_E_VNI_ROUTER_MAC, c"a router's MAC address must be unicast"),
    (OVERLANE_E_VTEP_EXISTS, c"a VTEP at this address exists already"),
    (OVERLANE_E_VTEP_UNKNOWN, c"no such VTEP"),
    (OVERLANE_E_VTEP_FULL, c"the VTEP table is full"),
    (OVERLANE_E_VTEP_ADDRESS, c"no VTEP can have this address"),
    (OVERLANE_E_VTEP_FAMILY, c"this node has no underlay address of that family"),
    (OVERLANE_E_VTEP_PORT, c"UDP port 0 cannot be sent to"),
    (OVERLANE_E_VTEP_UNDERLAY_MAC, c"an Ethernet outer shape needs the next hop's unicast MAC address"),
    (OVERLANE_E_VTEP_INNER_MAC, c"a router's MAC address must be unicast"),
    (OVERLANE_E_VTEP_MTU, c"the MTU is neither 0 nor at least 128"),
    (OVERLANE_E_VTEP_IN_USE, c"routes still lead to the VTEP"),
    (OVERLANE_E_PORT_UNKNOWN, c"no such port"),
    (OVERLANE_E_PORT_FULL, c"the port table is full"),
    (OVERLANE_E_PORT_NO_VNI, c"the port's VNI does not exist"),
    (OVERLANE_E_PORT_PEER_MAC, c"a peer's MAC address must be unicast"),
    (OVERLANE_E_PORT_OTHER_VNI, c"the port is in another VNI"),
    (OVERLANE_E_PORT_IN_USE, c"routes still lead to the port"),
    (OVERLANE_E_MAC_NOT_UNICAST, c"only unicast MAC addresses have entries"),
    (OVERLANE_E_MAC_UNKNOWN, c"no entry for this MAC address"),
    (OVERLANE_E_MAC_FULL, c"the FDB has no room for this MAC address"),
    (OVERLANE_E_MAC_NO_DESTINATION, c"the port or VTEP does not exist"),
    (OVERLANE_E_MAC_OTHER_VNI, c"the port is in another VNI"),
    (OVERLANE_E_ROUTE_UNKNOWN, c"no such route"),
    (OVERLANE_E_ROUTE_FULL, c"the route table is full"),
    (OVERLANE_E_ROUTE_NOT_ROUTED, c"the VNI is bridged and has no routes"),
    (OVERLANE_E_ROUTE_NO_NEXT_HOP, c"the next hop does not exist"),
    (OVERLANE_E_ROUTE_OTHER_VNI, c"the next hop is in another VNI"),
    (OVERLANE_E_ROUTE_NO_VTEP_MAC, c"the VTEP has no inner MAC address, which a route needs"),
    (OVERLANE_E_ROUTE_PREFIX, c"not a prefix: too long, or bits behind it are set"),
    (OVERLANE_E_FLOOD_EXISTS, c"the VTEP is on the flood list already"),
    (OVERLANE_E_FLOOD_UNKNOWN, c"the VTEP is not on the flood list"),
    (OVERLANE_E_FLOOD_FULL, c"there is no room for another member of a flood list"),
];

/// The text of a status; of an unknown one too.
pub(crate) fn text(status: i32) -> &'static CStr {
    TEXTS.iter().find(|(n, _)| *n == status).map_or(c"unknown status", |(_, text)| *text)
}

/// Which status tells of an error.
pub(crate) trait Code {
    fn code(&self) -> i32;
}

macro_rules! code {
    ($($error:ident { $($variant:ident => $status:ident,)* })*) => {$(
        impl Code for $error {
            fn code(&self) -> i32 {
                match self {
                    $($error::$variant { .. } => $status,)*
                    _ => OVERLANE_E_OTHER,
                }
            }
        }
    )*};
}

code! {
    CapacityError {
        Empty => OVERLANE_E_CONFIG_CAPACITY,
        TooLarge => OVERLANE_E_CONFIG_CAPACITY,
        Mismatch => OVERLANE_E_CONFIG_CAPACITY,
        NoMemory => OVERLANE_E_MEMORY,
    }
    VniError {
        Exists => OVERLANE_E_VNI_EXISTS,
        Unknown => OVERLANE_E_VNI_UNKNOWN,
        Full => OVERLANE_E_VNI_FULL,
        InUse => OVERLANE_E_VNI_IN_USE,
        RouterMac => OVERLANE_E_VNI_ROUTER_MAC,
    }
    VtepError {
        Exists => OVERLANE_E_VTEP_EXISTS,
        Unknown => OVERLANE_E_VTEP_UNKNOWN,
        Full => OVERLANE_E_VTEP_FULL,
        Address => OVERLANE_E_VTEP_ADDRESS,
        Family => OVERLANE_E_VTEP_FAMILY,
        Port => OVERLANE_E_VTEP_PORT,
        UnderlayMac => OVERLANE_E_VTEP_UNDERLAY_MAC,
        InnerMac => OVERLANE_E_VTEP_INNER_MAC,
        Mtu => OVERLANE_E_VTEP_MTU,
        InUse => OVERLANE_E_VTEP_IN_USE,
    }
    PortError {
        Unknown => OVERLANE_E_PORT_UNKNOWN,
        Full => OVERLANE_E_PORT_FULL,
        NoVni => OVERLANE_E_PORT_NO_VNI,
        PeerMac => OVERLANE_E_PORT_PEER_MAC,
        OtherVni => OVERLANE_E_PORT_OTHER_VNI,
        InUse => OVERLANE_E_PORT_IN_USE,
    }
    FdbError {
        NotUnicast => OVERLANE_E_MAC_NOT_UNICAST,
        Unknown => OVERLANE_E_MAC_UNKNOWN,
        Full => OVERLANE_E_MAC_FULL,
        NoDestination => OVERLANE_E_MAC_NO_DESTINATION,
        OtherVni => OVERLANE_E_MAC_OTHER_VNI,
    }
    RouteError {
        Unknown => OVERLANE_E_ROUTE_UNKNOWN,
        Full => OVERLANE_E_ROUTE_FULL,
        NotRouted => OVERLANE_E_ROUTE_NOT_ROUTED,
        NoNextHop => OVERLANE_E_ROUTE_NO_NEXT_HOP,
        OtherVni => OVERLANE_E_ROUTE_OTHER_VNI,
        NoVtepMac => OVERLANE_E_ROUTE_NO_VTEP_MAC,
    }
    FloodError {
        Exists => OVERLANE_E_FLOOD_EXISTS,
        Unknown => OVERLANE_E_FLOOD_UNKNOWN,
        Full => OVERLANE_E_FLOOD_FULL,
    }
}

impl Code for ConfigError {
    fn code(&self) -> i32 {
        match self {
            ConfigError::Capacity(e) => e.code(),
            ConfigError::NoLocalAddress => OVERLANE_E_CONFIG_NO_LOCAL,
            ConfigError::LocalAddress(_) => OVERLANE_E_CONFIG_LOCAL_ADDRESS,
            ConfigError::TunnelPort => OVERLANE_E_CONFIG_PORT,
            ConfigError::SourcePorts { .. } => OVERLANE_E_CONFIG_SOURCE_PORTS,
            ConfigError::LocalMac(_) => OVERLANE_E_CONFIG_LOCAL_MAC,
            ConfigError::Ageing => OVERLANE_E_CONFIG_AGEING,
            ConfigError::Ttl => OVERLANE_E_CONFIG_TTL,
            ConfigError::Dscp(_) => OVERLANE_E_CONFIG_DSCP,
            _ => OVERLANE_E_OTHER,
        }
    }
}

impl Code for ControlError {
    fn code(&self) -> i32 {
        match self {
            ControlError::Vni(e) => e.code(),
            ControlError::Vtep(e) => e.code(),
            ControlError::Port(e) => e.code(),
            ControlError::Fdb(e) => e.code(),
            ControlError::Route(e) => e.code(),
            ControlError::Flood(e) => e.code(),
            _ => OVERLANE_E_OTHER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_own_number_and_text() {
        for (i, (n, t)) in TEXTS.iter().enumerate() {
            assert!(TEXTS[..i].iter().all(|(m, _)| m > n), "{n} is out of order");
            assert_eq!(text(*n), *t);
        }
        assert_eq!(text(1), c"unknown status");
    }
}
