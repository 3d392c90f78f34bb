//! Tunnel segmentation offload: superframes leave whole, in their outer headers, and whoever is last
//! able to cuts them up: the network card, the kernel, or nobody where both ends are on one machine.

mod header;
mod uplink;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use self::header::{Kinds, Outer, headers};
use self::uplink::Uplink;
use super::UnderlayConfig;
use super::error::Error;
use super::netlink::{Features, Neighbour, Route};
use super::offload::VirtioNetHeader;
use super::sys::errno;
use crate::addr::{MacAddr, VtepId};
use crate::time::Instant;
use crate::wire::outer::Shape;
use crate::wire::template::{Template, TemplateConfig, UdpChecksum};

/// How long a way that was found is believed.
const BELIEF: Duration = Duration::from_secs(2);
/// How soon one that was not found is looked for again.
const RETRY: Duration = Duration::from_millis(200);
/// Underlay devices that get an uplink.
const UPLINKS: usize = 8;
/// Superframes that may be refused one after the other before no more are tried.
const STRIKES: u32 = 8;
/// The hop limit of outer packets: the default of Linux sockets.
const TTL: u8 = 64;

/// Sends superframes whole to VTEPs that are reached by an Ethernet device: the third of the ways out
/// of a [`Driver`](super::Driver), for what a socket cannot send (UDP tunnel segmentation offload,
/// Linux 6.17 and later).
///
/// Only over devices that say that they cut such frames themselves, or carry them whole (`ethtool -k`:
/// `tx-udp_tnl-csum-segmentation`, or `tx-udp_tnl-segmentation` where no outer checksum is sent, and
/// the inner `tx-tcp-segmentation`, `tx-tcp6-segmentation`, `tx-udp-segmentation`): where the kernel
/// would have to cut them just before the device, the sockets are faster.
///
/// For each such underlay device there is an uplink: a TAP of its own on which everything that is written
/// is redirected to that device (`clsact`, `u32`, `mirred`). Frames get all of their outer headers
/// here, so routes and neighbours are looked up too (rtnetlink), at most every two seconds for a VTEP
/// that superframes go to; a change in between is noticed that late. Where no way is known, where the
/// neighbour has to be asked again, and where a frame cannot go whole, the driver's socket sends it,
/// which also makes the kernel ask.
///
/// Small frames never go by here, and nothing is received by here: a socket gets the superframes of a
/// peer on the same machine whole as it is. The source port is that of the socket, so that all packets
/// of a flow look the same to the network. Packets pass by the firewall rules for output, and by
/// policies of IPsec; a driver that must heed those is to have no tunnel.
///
/// Opening takes `CAP_NET_ADMIN`; using it, and its end, take no rights: the uplinks go with their
/// descriptors, even if the process is killed, and the underlay devices are not touched.
#[derive(Debug)]
pub struct Tunnel {
    uplinks: Arc<[Uplink]>,
    /// What is known of the underlay device of each uplink.
    devices: Vec<Device>,
    route: Route,
    features: Features,
    /// By VTEP.
    ways: Vec<Way>,
    checksum: bool,
    dont_fragment: bool,
    ip_id: u16,
    strikes: u32,
    ended: Option<Error>,
    counters: TunnelCounters,
}

/// What a [`Tunnel`] sent and what it left to the sockets. All counters wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TunnelCounters {
    /// Superframes sent whole.
    pub sent: u64,
    /// No way to the VTEP was known, or its neighbour had to be asked.
    pub no_way: u64,
    /// Superframes that could not go whole: of a kind that the device does not cut, with VLAN tags, or
    /// too long.
    pub unfit: u64,
    /// Superframes that the kernel refused.
    pub refused: u64,
}

impl TunnelCounters {
    /// Both together.
    pub(super) fn plus(self, other: TunnelCounters) -> TunnelCounters {
        TunnelCounters {
            sent: self.sent.wrapping_add(other.sent),
            no_way: self.no_way.wrapping_add(other.no_way),
            unfit: self.unfit.wrapping_add(other.unfit),
            refused: self.refused.wrapping_add(other.refused),
        }
    }
}

/// A superframe with its VXLAN header, on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole<'a> {
    pub(super) vtep: VtepId,
    /// Where the socket is bound that would send it else.
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    /// VXLAN header and inner frame.
    pub(super) packet: &'a [u8],
    /// How the inner frame is to be cut.
    pub(super) header: &'a VirtioNetHeader,
    pub(super) ecn: u8,
}

/// What changes about an underlay device.
#[derive(Debug, Clone, Copy, Default)]
struct Device {
    /// When to look again.
    due: Instant,
    /// `None` while it cannot send.
    mac: Option<MacAddr>,
    mtu: u32,
    kinds: Kinds,
}

/// The way to a VTEP.
#[derive(Debug, Clone, Copy)]
struct Way {
    from: SocketAddr,
    to: SocketAddr,
    /// When to look again.
    due: Instant,
    /// The next superframe goes by the socket, so that the kernel asks the neighbour.
    ask: bool,
    uplink: Option<usize>,
    mtu: u32,
    kinds: Kinds,
    template: Template,
}

impl Way {
    fn unknown(from: SocketAddr, to: SocketAddr) -> Way {
        Way {
            from,
            to,
            due: Instant::ZERO,
            ask: false,
            uplink: None,
            mtu: 0,
            kinds: Kinds::default(),
            template: Template::EMPTY,
        }
    }
}

impl Tunnel {
    /// Makes an uplink for each Ethernet device by which one of the `pairs` (this node's address, a
    /// VTEP's) is reached now, up to 8. VTEPs that are reached otherwise, or later by another device,
    /// are served by the sockets.
    ///
    /// In the network namespace of the calling thread. `config` is that of the sockets.
    ///
    /// # Errors
    /// What this kernel or this process lacks for it; or that no pair is reached by an Ethernet device.
    /// Nothing is left behind.
    pub fn open(pairs: &[(IpAddr, IpAddr)], config: &UnderlayConfig) -> Result<Tunnel, Error> {
        let (mut route, mut features) = (Route::open()?, Features::open()?);
        let mut unfit = None;
        let mut uplinks: Vec<Uplink> = Vec::new();
        for (from, to) in pairs {
            let Ok(Some(hop)) = route.next_hop(*from, *to) else { continue };
            if uplinks.len() >= UPLINKS || uplinks.iter().any(|u| u.underlay == hop.index) {
                continue;
            }
            let Some(device) = route.ethernet(hop.index)?.filter(|link| link.mac.is_some()) else { continue };
            if kinds(&features.active(hop.index)?, !config.zero_checksum) == Kinds::default() {
                unfit = Some(device.name);
                continue;
            }
            uplinks.push(Uplink::open(&mut route, &device)?);
        }
        if uplinks.is_empty() {
            return Err(match unfit {
                Some(name) => {
                    let why = "the device does not cut tunnelled superframes (ethtool -k), and the kernel is slower at it";
                    Error::refused("make an uplink to", name, why)
                }
                None => Error::refused("make", "an uplink", "no VTEP is reached by an Ethernet device now"),
            });
        }
        Ok(Tunnel {
            devices: vec![Device::default(); uplinks.len()],
            uplinks: uplinks.into(),
            route,
            features,
            ways: Vec::new(),
            checksum: !config.zero_checksum,
            dont_fragment: config.dont_fragment,
            ip_id: 0,
            strikes: 0,
            ended: None,
            counters: TunnelCounters::default(),
        })
    }

    /// Another one over the same uplinks, for another thread, with counters of its own.
    ///
    /// # Errors
    /// No further rtnetlink socket.
    pub fn another(&self) -> Result<Tunnel, Error> {
        Ok(Tunnel {
            uplinks: Arc::clone(&self.uplinks),
            devices: vec![Device::default(); self.uplinks.len()],
            route: Route::open()?,
            features: Features::open()?,
            ways: Vec::with_capacity(self.ways.capacity()),
            checksum: self.checksum,
            dont_fragment: self.dont_fragment,
            ip_id: 0,
            ended: None,
            strikes: 0,
            counters: TunnelCounters::default(),
        })
    }

    /// The names of the uplinks, each with that of its underlay device.
    pub fn uplinks(&self) -> impl Iterator<Item = (&str, &str)> {
        self.uplinks.iter().map(|uplink| (uplink.name.as_str(), uplink.device.as_str()))
    }

    /// What was sent and what was not.
    pub fn counters(&self) -> TunnelCounters {
        self.counters
    }

    /// Why nothing is sent any more, if that is so: the kernel refused several superframes in
    /// succession, or an uplink is gone. The sockets carry everything then.
    pub fn ended(&self) -> Option<&Error> {
        self.ended.as_ref()
    }

    /// Takes memory for this many VTEPs.
    pub(super) fn reserve(&mut self, vteps: usize) {
        self.ways.reserve(vteps.saturating_sub(self.ways.len()));
    }

    /// Sends a superframe; whether it is on its way. If not, a socket must send it.
    pub(super) fn send(&mut self, now: Instant, whole: &Whole<'_>) -> bool {
        if self.ended.is_some() {
            return false;
        }
        let place = usize::from(whole.vtep.0);
        if self.ways.len() <= place {
            self.ways.resize(place.saturating_add(1), Way::unknown(whole.from, whole.to));
        }
        let known =
            self.ways.get(place).filter(|way| (way.from, way.to) == (whole.from, whole.to) && now < way.due);
        if known.is_none() {
            let way = self.find(now, whole.from, whole.to);
            if let Some(slot) = self.ways.get_mut(place) {
                *slot = way;
            }
        }
        let way = self.ways.get_mut(place).and_then(|way| match core::mem::take(&mut way.ask) {
            true => None,
            false => Some((&*way, self.uplinks.get(way.uplink?)?)),
        });
        let Some((way, uplink)) = way else {
            self.counters.no_way = self.counters.no_way.wrapping_add(1);
            return false;
        };
        let outer = Outer {
            template: &way.template,
            addrs: (way.from.ip(), way.to.ip()),
            mtu: way.mtu,
            checksum: self.checksum,
            kinds: way.kinds,
            source_port: way.from.port(),
            ecn: whole.ecn,
            ip_id: self.ip_id,
        };
        let Some(headers) = headers(&outer, whole.packet, whole.header) else {
            self.counters.unfit = self.counters.unfit.wrapping_add(1);
            return false;
        };
        let inner = whole.packet.get(crate::wire::vxlan::HEADER_LEN..).unwrap_or_default();
        // A packet of its own for each segment; more would not matter.
        self.ip_id = self.ip_id.wrapping_add(64);
        match uplink.write(headers.as_slice(), inner) {
            Ok(()) => {
                self.strikes = 0;
                self.counters.sent = self.counters.sent.wrapping_add(1);
                true
            }
            Err(error) => {
                self.counters.refused = self.counters.refused.wrapping_add(1);
                self.strikes = self.strikes.saturating_add(1);
                let gone = matches!(error.raw_os_error(), Some(errno::EIO | errno::EBADFD));
                if gone || self.strikes >= STRIKES {
                    self.ended = Some(Error::new("write to", uplink.name.as_str(), error));
                }
                false
            }
        }
    }

    /// Looks up the way to a VTEP.
    fn find(&mut self, now: Instant, from: SocketAddr, to: SocketAddr) -> Way {
        let mut way = Way { due: now + RETRY, ..Way::unknown(from, to) };
        let Ok(Some(hop)) = self.route.next_hop(from.ip(), to.ip()) else { return way };
        let Some(uplink) = self.uplinks.iter().position(|u| u.underlay == hop.index) else {
            // Another device now; it may come back.
            way.due = now + BELIEF;
            return way;
        };
        let Some(device) = self.device(now, uplink, hop.index) else { return way };
        let Some(local_mac) = device.mac else { return way };
        let remote_mac = match self.route.neighbour(&hop) {
            Ok(Neighbour::Known(mac)) => mac,
            Ok(Neighbour::Stale(mac)) => {
                way.ask = true;
                mac
            }
            Ok(Neighbour::Unknown) | Err(_) => {
                way.ask = true;
                return way;
            }
        };
        if let Ok(template) = self.template((from, to), (local_mac, remote_mac)) {
            way.uplink = Some(uplink);
            way.mtu = hop.mtu.unwrap_or(u32::MAX).min(device.mtu);
            way.kinds = device.kinds;
            way.due = now + BELIEF;
            way.template = template;
        }
        way
    }

    /// The underlay device of an uplink as it is now, or was a moment ago.
    fn device(&mut self, now: Instant, uplink: usize, index: u32) -> Option<Device> {
        let known = self.devices.get_mut(uplink)?;
        if now >= known.due {
            let link = self.route.ethernet(index).ok().flatten();
            let active = self.features.active(index).unwrap_or_default();
            *known = Device {
                due: now + BELIEF,
                mac: link.as_ref().filter(|link| link.up).and_then(|link| link.mac),
                mtu: link.map_or(0, |link| link.mtu),
                kinds: kinds(&active, self.checksum),
            };
        }
        Some(*known)
    }

    fn template(
        &self,
        (from, to): (SocketAddr, SocketAddr),
        (local_mac, remote_mac): (MacAddr, MacAddr),
    ) -> Result<Template, crate::wire::template::TemplateError> {
        Template::new(&TemplateConfig {
            shape: Shape::Ethernet,
            local: from.ip(),
            remote: to.ip(),
            remote_port: to.port(),
            local_mac,
            remote_mac,
            ttl: TTL,
            dscp: 0,
            dont_fragment: self.dont_fragment,
            // It is written here, as one that is left to be finished.
            udp_checksum: UdpChecksum::Zero,
        })
    }
}

/// Which tunnelled superframes a device with these features takes.
fn kinds(active: &[String], checksum: bool) -> Kinds {
    let has = |name: &str| active.iter().any(|feature| feature == name);
    let tunnel = match checksum {
        true => has("tx-udp_tnl-csum-segmentation"),
        false => has("tx-udp_tnl-segmentation"),
    };
    Kinds {
        tcp4: tunnel && has("tx-tcp-segmentation"),
        tcp6: tunnel && has("tx-tcp6-segmentation"),
        udp: tunnel && has("tx-udp-segmentation"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_must_say() {
        let all = ["tx-udp_tnl-segmentation", "tx-tcp-segmentation", "tx-tcp6-segmentation", "rx-gro"];
        let active: Vec<String> = all.iter().map(|name| String::from(*name)).collect();
        assert_eq!(kinds(&active, false), Kinds { tcp4: true, tcp6: true, udp: false });
        assert_eq!(kinds(&active, true), Kinds::default(), "not with a checksum");
        assert_eq!(kinds(&active[1..], false), Kinds::default(), "not in a tunnel");
        assert_eq!(kinds(&[], false), Kinds::default());
    }
}
