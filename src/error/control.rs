//! One error enum for each family of control operations.

use core::fmt;
use core::net::IpAddr;

use crate::addr::{Destination, IpPrefix, MacAddr, PortId, Vni, VtepId};

/// Memory lent to a table does not fit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CapacityError {
    /// A table was lent no memory.
    Empty {
        /// Which table.
        table: &'static str,
    },
    /// More entries than the table's ids can name.
    TooLarge {
        /// Which table.
        table: &'static str,
        /// How many entries were lent.
        entries: usize,
        /// How many it can use.
        max: usize,
    },
    /// Two parts of one table that must have the same size do not.
    Mismatch {
        /// Which table.
        table: &'static str,
        /// The size of the first part.
        first: usize,
        /// The size of the second part.
        second: usize,
    },
    /// The heap has not so much.
    NoMemory {
        /// Which part of the memory.
        table: &'static str,
        /// How many entries were asked for.
        entries: usize,
    },
}

impl fmt::Display for CapacityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CapacityError::Empty { table } => {
                write!(f, "{table}: no memory lent; its capacity must be at least 1")
            }
            CapacityError::TooLarge { table, entries, max } => {
                write!(f, "{table}: {entries} entries, at most {max}")
            }
            CapacityError::Mismatch { table, first, second } => {
                write!(
                    f,
                    "{table}: its parts have {first} and {second} entries and must have the same number"
                )
            }
            CapacityError::NoMemory { table, entries } => {
                write!(f, "{table}: no memory for {entries} entries")
            }
        }
    }
}

/// A change to the VNI table that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VniError {
    /// The VNI exists already.
    Exists(Vni),
    /// No such VNI.
    Unknown(Vni),
    /// The table is full.
    Full(Vni),
    /// The VNI still has ports; remove those first.
    InUse {
        /// The VNI.
        vni: Vni,
        /// How many ports it has.
        ports: u32,
    },
    /// A routed VNI's router MAC must be a unicast address.
    RouterMac(MacAddr),
}

impl fmt::Display for VniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VniError::Exists(v) => write!(f, "VNI {v} exists already"),
            VniError::Unknown(v) => write!(f, "no VNI {v}"),
            VniError::Full(v) => write!(f, "the VNI table is full; VNI {v} was not added"),
            VniError::InUse { vni, ports } => {
                write!(f, "VNI {vni} still has {ports} port(s); remove them first")
            }
            VniError::RouterMac(m) => write!(f, "{m} cannot be a router's MAC; it must be unicast"),
        }
    }
}

/// A change to the VTEP table that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VtepError {
    /// A VTEP with this underlay address exists already.
    Exists(IpAddr),
    /// No such VTEP.
    Unknown(VtepId),
    /// The table is full.
    Full(IpAddr),
    /// No VTEP can have this underlay address: unspecified, multicast, broadcast, or our own.
    Address(IpAddr),
    /// The engine has no local address of this family.
    Family(IpAddr),
    /// The UDP port is zero.
    Port,
    /// An engine that writes outer Ethernet headers needs the next hop's MAC address.
    UnderlayMac(MacAddr),
    /// The MAC address of a VTEP's router must be unicast.
    InnerMac(MacAddr),
    /// The MTU is too small for an inner frame (it must be 0, for unlimited, or at least 128).
    Mtu(u16),
    /// Routes lead to the VTEP; remove those first.
    InUse {
        /// The VTEP.
        vtep: VtepId,
        /// How many routes.
        routes: u32,
    },
}

impl fmt::Display for VtepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VtepError::Exists(a) => write!(f, "a VTEP at {a} exists already"),
            VtepError::Unknown(v) => write!(f, "no {v}"),
            VtepError::Full(a) => write!(f, "the VTEP table is full; {a} was not added"),
            VtepError::Address(a) => write!(f, "{a} cannot be a VTEP's address"),
            VtepError::Family(a) => write!(f, "{a}: this node has no underlay address of that family"),
            VtepError::Port => f.write_str("UDP port 0 cannot be sent to"),
            VtepError::UnderlayMac(m) => {
                write!(f, "{m} cannot be a VTEP's underlay MAC; outer Ethernet headers need one")
            }
            VtepError::InnerMac(m) => {
                write!(f, "{m} cannot be the MAC of a VTEP's router; it must be unicast")
            }
            VtepError::Mtu(m) => write!(f, "MTU {m} is too small; use 0 for no limit, or at least 128"),
            VtepError::InUse { vtep, routes } => {
                write!(f, "{routes} route(s) lead to {vtep}; remove them first")
            }
        }
    }
}

/// A change to the port table that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortError {
    /// No such port.
    Unknown(PortId),
    /// The table is full.
    Full,
    /// The port's VNI does not exist.
    NoVni(Vni),
    /// A peer MAC must be unicast.
    PeerMac(MacAddr),
    /// A port cannot change its VNI; remove it and add another.
    OtherVni {
        /// The port.
        port: PortId,
        /// The VNI it is in.
        vni: Vni,
    },
    /// Routes lead to the port; remove those first.
    InUse {
        /// The port.
        port: PortId,
        /// How many routes.
        routes: u32,
    },
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortError::Unknown(p) => write!(f, "no {p}"),
            PortError::Full => f.write_str("the port table is full"),
            PortError::NoVni(v) => write!(f, "the port's VNI {v} does not exist; add it first"),
            PortError::OtherVni { port, vni } => {
                write!(f, "{port} is in VNI {vni} and cannot change it; remove it and add another")
            }
            PortError::PeerMac(m) => write!(f, "{m} cannot be a peer's MAC; it must be unicast"),
            PortError::InUse { port, routes } => {
                write!(f, "{routes} route(s) lead to {port}; remove them first")
            }
        }
    }
}

/// A change to the FDB that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FdbError {
    /// Only unicast addresses have entries.
    NotUnicast(MacAddr),
    /// No such entry.
    Unknown {
        /// The VNI asked for.
        vni: Vni,
        /// The MAC asked for.
        mac: MacAddr,
    },
    /// Every place that the entry may take holds one that may not be evicted: static, or sticky and alive.
    Full {
        /// The VNI of the refused entry.
        vni: Vni,
        /// The MAC of the refused entry.
        mac: MacAddr,
    },
    /// The destination does not exist.
    NoDestination(Destination),
    /// The destination port belongs to another VNI.
    OtherVni {
        /// The entry's VNI.
        vni: Vni,
        /// The port.
        port: PortId,
    },
}

impl fmt::Display for FdbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FdbError::NotUnicast(m) => write!(f, "{m} is not a unicast address"),
            FdbError::Unknown { vni, mac } => write!(f, "no entry for {mac} in VNI {vni}"),
            FdbError::Full { vni, mac } => write!(f, "the FDB has no room for {mac} in VNI {vni}"),
            FdbError::NoDestination(d) => write!(f, "no {d}"),
            FdbError::OtherVni { vni, port } => write!(f, "{port} is not in VNI {vni}"),
        }
    }
}

/// A change to the route table that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouteError {
    /// No such route.
    Unknown {
        /// The VNI whose table was asked.
        vni: Vni,
        /// The prefix asked for.
        prefix: IpPrefix,
    },
    /// The table is full.
    Full(IpPrefix),
    /// The VNI is bridged: it has no routes.
    NotRouted(Vni),
    /// The next hop does not exist.
    NoNextHop(NextHopRef),
    /// The next hop port belongs to another VNI.
    OtherVni {
        /// The route's VNI.
        vni: Vni,
        /// The port.
        port: PortId,
    },
    /// A route to a VTEP needs the VTEP's inner MAC address; it was added without one.
    NoVtepMac(VtepId),
    /// No table with this number.
    NoTable(u32),
}

/// The port or VTEP that a refused route named.
pub type NextHopRef = Destination;

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteError::Unknown { vni, prefix } => write!(f, "no route {prefix} in VNI {vni}"),
            RouteError::Full(p) => write!(f, "the route table is full; {p} was not added"),
            RouteError::NotRouted(v) => write!(f, "VNI {v} is bridged and has no routes"),
            RouteError::NoNextHop(d) => write!(f, "the next hop, {d}, does not exist"),
            RouteError::OtherVni { vni, port } => write!(f, "{port} is not in VNI {vni}"),
            RouteError::NoVtepMac(v) => {
                write!(f, "{v} has no inner MAC; a route needs one to write as destination")
            }
            RouteError::NoTable(t) => write!(f, "no route table {t}"),
        }
    }
}

/// A change to a head-end replication list that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FloodError {
    /// The member is on the list already.
    Exists(Destination),
    /// The member is not on the list.
    Unknown(Destination),
    /// There is no room for another member of any list.
    Full,
}

impl fmt::Display for FloodError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FloodError::Exists(d) => write!(f, "{d} is on the flood list already"),
            FloodError::Unknown(d) => write!(f, "{d} is not on the flood list"),
            FloodError::Full => f.write_str("there is no room for another flood list member"),
        }
    }
}

/// A buffer and range that make no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The range ends before it starts, or behind the buffer.
    Range {
        /// Where the packet was said to start.
        start: usize,
        /// Where it was said to end.
        end: usize,
        /// The buffer's length.
        buffer: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Range { start, end, buffer } => {
                write!(f, "packet range {start}..{end} does not lie in a buffer of {buffer} octets")
            }
        }
    }
}

/// A command that the engine refused; its state is as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlError {
    /// About a VNI.
    Vni(VniError),
    /// About a VTEP.
    Vtep(VtepError),
    /// About a port.
    Port(PortError),
    /// About a MAC entry.
    Fdb(FdbError),
    /// About a route.
    Route(RouteError),
    /// About a flood list.
    Flood(FloodError),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlError::Vni(e) => fmt::Display::fmt(e, f),
            ControlError::Vtep(e) => fmt::Display::fmt(e, f),
            ControlError::Port(e) => fmt::Display::fmt(e, f),
            ControlError::Fdb(e) => fmt::Display::fmt(e, f),
            ControlError::Route(e) => fmt::Display::fmt(e, f),
            ControlError::Flood(e) => fmt::Display::fmt(e, f),
        }
    }
}

macro_rules! into_control {
    ($($from:ident => $variant:ident),*) => {$(
        impl From<$from> for ControlError {
            fn from(e: $from) -> ControlError {
                ControlError::$variant(e)
            }
        }
    )*};
}

into_control!(VniError => Vni, VtepError => Vtep, PortError => Port, FdbError => Fdb, RouteError => Route, FloodError => Flood);

/// An engine that cannot be built as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A table's memory does not fit.
    Capacity(CapacityError),
    /// Neither an IPv4 nor an IPv6 underlay address was given.
    NoLocalAddress,
    /// A local underlay address that no host can have.
    LocalAddress(IpAddr),
    /// The tunnel's UDP port is zero.
    TunnelPort,
    /// The range of source ports is empty or holds port 0.
    SourcePorts {
        /// First port of the range.
        first: u16,
        /// Last port of the range.
        last: u16,
    },
    /// An Ethernet outer shape needs this node's underlay MAC address, a unicast one.
    LocalMac(MacAddr),
    /// The ageing time is zero or beyond what the table can count (4 years).
    Ageing,
    /// The outer TTL is zero.
    Ttl,
    /// The outer DSCP exceeds 6 bits.
    Dscp(u8),
}

impl From<CapacityError> for ConfigError {
    fn from(e: CapacityError) -> ConfigError {
        ConfigError::Capacity(e)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Capacity(e) => fmt::Display::fmt(e, f),
            ConfigError::NoLocalAddress => {
                f.write_str("no local underlay address; give an IPv4 or an IPv6 one")
            }
            ConfigError::LocalAddress(a) => write!(f, "{a} cannot be this node's underlay address"),
            ConfigError::TunnelPort => f.write_str("the tunnel's UDP port cannot be 0"),
            ConfigError::SourcePorts { first, last } => {
                write!(f, "{first}-{last} is no range of source ports")
            }
            ConfigError::LocalMac(m) => {
                write!(f, "{m} cannot be this node's underlay MAC; it must be unicast")
            }
            ConfigError::Ageing => f.write_str("the ageing time must be above zero and at most 4 years"),
            ConfigError::Ttl => f.write_str("the outer TTL cannot be 0"),
            ConfigError::Dscp(d) => write!(f, "DSCP {d} exceeds 6 bits (63)"),
        }
    }
}
