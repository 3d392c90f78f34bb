//! The steps of a decision, in order, as text.

use core::fmt;
use core::net::IpAddr;

use super::frame::Verdict;
use crate::addr::{Destination, MacAddr, NextHop, PortId, Vni, VtepId};
use crate::error::ParseError;
use crate::table::fdb::Probe;
use crate::wire::ethernet::EthernetHeader;

/// One step of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The frame came from a local port.
    FromPort {
        /// The port.
        port: PortId,
        /// Its VNI.
        vni: Vni,
    },
    /// The datagram came from the underlay, with readable outer headers.
    FromUnderlay {
        /// Its outer source address.
        source: Option<IpAddr>,
        /// The VTEP at that address.
        vtep: Option<VtepId>,
        /// Its VNI.
        vni: Vni,
    },
    /// A header could not be read.
    Unreadable(ParseError),
    /// The inner Ethernet header.
    Ethernet(EthernetHeader),
    /// The source address would be learned or refreshed.
    Learn {
        /// The address.
        mac: MacAddr,
        /// What the FDB has of it.
        known: Probe,
    },
    /// The destination is a group address.
    Group {
        /// The address.
        mac: MacAddr,
    },
    /// The FDB was asked.
    Lookup {
        /// For this address.
        mac: MacAddr,
        /// And said so.
        found: Option<Destination>,
    },
    /// The routes were asked.
    Route {
        /// For this address.
        addr: IpAddr,
        /// And said so.
        found: Option<NextHop>,
    },
    /// Routing changes the inner frame.
    Rewrite {
        /// New destination MAC.
        dst: MacAddr,
        /// New source MAC.
        src: MacAddr,
        /// New TTL or hop limit.
        ttl: u8,
    },
    /// An outer header is written.
    Tunnel {
        /// For this VTEP.
        vtep: VtepId,
        /// At this address.
        remote: IpAddr,
        /// And UDP port.
        port: u16,
    },
}

impl Step {
    /// The Ethernet header of a frame that lies `at` octets into the packet.
    pub(crate) fn ethernet(frame: &[u8], at: usize) -> Step {
        match EthernetHeader::parse(frame) {
            Ok(header) => Step::Ethernet(header),
            Err(e) => Step::Unreadable(e.inner().within(at)),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::FromPort { port, vni } => write!(f, "from {port}, VNI {vni}"),
            Step::FromUnderlay { source, vtep, vni } => {
                match source {
                    Some(a) => write!(f, "from {a}")?,
                    None => f.write_str("from an unstated source")?,
                }
                match vtep {
                    Some(v) => write!(f, " ({v})")?,
                    None => f.write_str(" (no known VTEP)")?,
                }
                write!(f, ", VNI {vni}")
            }
            Step::Unreadable(e) => write!(f, "unreadable: {e}"),
            Step::Ethernet(h) => {
                write!(f, "ethernet {} -> {}, type {:#06x}", h.src, h.dst, h.ethertype)?;
                match h.vlan {
                    Some(tag) => write!(f, ", VLAN {}", tag.vid),
                    None => Ok(()),
                }
            }
            Step::Learn { mac, known } => match known {
                Probe::Missing => write!(f, "learn {mac}"),
                Probe::Moved => write!(f, "learn {mac}: it moved here"),
                _ => write!(f, "refresh {mac}"),
            },
            Step::Group { mac } => write!(f, "group address {mac}"),
            Step::Lookup { mac, found: Some(at) } => write!(f, "fdb {mac} is at {at}"),
            Step::Lookup { mac, found: None } => write!(f, "fdb {mac} is unknown"),
            Step::Route { addr, found: Some(hop) } => write!(f, "route {addr} leads to {hop}"),
            Step::Route { addr, found: None } => write!(f, "no route to {addr}"),
            Step::Rewrite { dst, src, ttl } => write!(f, "rewrite {src} -> {dst}, TTL {ttl}"),
            Step::Tunnel { vtep, remote, port } => write!(f, "tunnel to {vtep} at {remote}, UDP port {port}"),
        }
    }
}

/// Listens to a decision being made.
pub(crate) trait Trace {
    fn step(&mut self, step: impl FnOnce() -> Step);
}

/// The data path's listener: none.
pub(crate) struct Silent;

impl Trace for Silent {
    #[inline]
    fn step(&mut self, _: impl FnOnce() -> Step) {}
}

/// The steps that a frame would take, and the verdict. It prints a line for each.
///
/// Made by [`Engine::explain_encap`](super::Engine::explain_encap) and
/// [`Engine::explain_decap`](super::Engine::explain_decap), which change nothing and count nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    steps: [Option<Step>; 8],
    verdict: Option<Verdict>,
}

impl Explanation {
    pub(crate) fn new() -> Explanation {
        Explanation { steps: [None; 8], verdict: None }
    }

    pub(crate) fn end(mut self, verdict: Verdict) -> Explanation {
        self.verdict = Some(verdict);
        self
    }

    /// The steps, in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().flatten()
    }

    /// How it ended; the verdict that the same frame would get.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }
}

impl Trace for Explanation {
    fn step(&mut self, step: impl FnOnce() -> Step) {
        if let Some(free) = self.steps.iter_mut().find(|s| s.is_none()) {
            *free = Some(step());
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in self.steps() {
            writeln!(f, "{step}")?;
        }
        match self.verdict {
            Some(verdict) => write!(f, "=> {verdict}"),
            None => f.write_str("=> undecided"),
        }
    }
}
