//! Tunnel segmentation offload: superframes leave whole, in their outer headers, and whoever is last
//! able to cuts them up: the network card, the kernel, or nobody where both ends are on one machine.

mod header;
mod uplink;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use self::header::{Kinds, Outer, headers};
use self::uplink::Uplink;
use super::UnderlayConfig;
use super::error::Error;
use super::netlink::{Change, Changes, Features, Neighbour, NextHop, Route, covers};
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
/// here, so routes and neighbours are looked up too (rtnetlink), for each VTEP that superframes go to
/// and each port that they come from: every two seconds, and when the kernel tells of a change, which is noticed in the millisecond after.
/// (Of a path MTU that it found, and of `ethtool -K`, it tells nobody.) Where no way is known, where the
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
    changes: Changes,
    /// When what has changed was asked for last.
    asked: Instant,
    /// By the sending socket, and by VTEP: rules of routing, and routes with several hops, may go by ports.
    ways: Vec<Vec<Way>>,
    checksum: bool,
    dont_fragment: bool,
    ttl: u8,
    dscp: u8,
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
    /// How often the kernel was asked for the way to a VTEP: for each one, and each port of this node, every two
    /// seconds, while superframes go there, and after changes.
    pub looked_up: u64,
}

impl TunnelCounters {
    /// Both together.
    pub(super) fn plus(self, other: TunnelCounters) -> TunnelCounters {
        TunnelCounters {
            sent: self.sent.wrapping_add(other.sent),
            no_way: self.no_way.wrapping_add(other.no_way),
            unfit: self.unfit.wrapping_add(other.unfit),
            refused: self.refused.wrapping_add(other.refused),
            looked_up: self.looked_up.wrapping_add(other.looked_up),
        }
    }
}

/// A superframe with its VXLAN header, on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole<'a> {
    pub(super) vtep: VtepId,
    /// The place of the socket that would send it else, and where that is bound.
    pub(super) socket: usize,
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
    /// The uplink leads there no more: the device was removed, or went to another namespace. Its index may be back,
    /// but the kernel has cut the wire, and whoever could lay it again has given up the right to.
    lost: bool,
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
    /// Whom packets go to first, and its address of Ethernet.
    hop: Option<NextHop>,
    remote_mac: Option<MacAddr>,
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
            hop: None,
            remote_mac: None,
            uplink: None,
            mtu: 0,
            kinds: Kinds::default(),
            template: Template::EMPTY,
        }
    }

    /// Takes note of a change: what may be wrong now is looked up again.
    fn heed(&mut self, change: &Change) {
        let outdated = match *change {
            // An address of this node that goes takes the route to itself along.
            Change::Route(prefix, len) => {
                covers(prefix, len, self.to.ip()) || covers(prefix, len, self.from.ip())
            }
            Change::Link(index) => self.hop.is_some_and(|hop| hop.index == index),
            Change::Neighbour(index, addr, state) => match state {
                _ if self.hop.is_none_or(|hop| (hop.index, hop.addr) != (index, addr)) => false,
                Neighbour::Known(mac) => self.remote_mac != Some(mac),
                Neighbour::Stale(mac) => {
                    self.ask = true;
                    self.remote_mac != Some(mac)
                }
                Neighbour::Unknown => true,
            },
            Change::Anything => true,
        };
        if outdated {
            self.due = Instant::ZERO;
        }
    }
}

impl Tunnel {
    /// Makes an uplink for each Ethernet device by which one of the `pairs` (an address and port of this
    /// node, those of a VTEP) is reached now, up to 8. VTEPs that are reached otherwise, or later by another
    /// device, are served by the sockets.
    ///
    /// In the network namespace of the calling thread. `config` is that of the sockets.
    ///
    /// # Errors
    /// What this kernel or this process lacks for it; or that no pair is reached by an Ethernet device.
    /// Nothing is left behind.
    pub fn open(pairs: &[(SocketAddr, SocketAddr)], config: &UnderlayConfig) -> Result<Tunnel, Error> {
        config.check("make", "an uplink")?;
        let (mut route, mut features, changes) = (Route::open()?, Features::open()?, Changes::open()?);
        let mut unfit = None;
        let mut uplinks: Vec<Uplink> = Vec::new();
        for (from, to) in pairs {
            let Ok(Some(hop)) = route.next_hop(*from, *to, config.dscp << 2) else { continue };
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
            changes,
            asked: Instant::ZERO,
            ways: Vec::new(),
            checksum: !config.zero_checksum,
            dont_fragment: config.dont_fragment,
            ttl: config.ttl,
            dscp: config.dscp,
            ip_id: 0,
            strikes: 0,
            ended: None,
            counters: TunnelCounters::default(),
        })
    }

    /// Another one over the same uplinks, for another thread, with counters of its own.
    ///
    /// # Errors
    /// No further rtnetlink sockets.
    pub fn another(&self) -> Result<Tunnel, Error> {
        Ok(Tunnel {
            uplinks: Arc::clone(&self.uplinks),
            devices: vec![Device::default(); self.uplinks.len()],
            route: Route::open()?,
            features: Features::open()?,
            changes: Changes::open()?,
            asked: Instant::ZERO,
            ways: Vec::new(),
            checksum: self.checksum,
            dont_fragment: self.dont_fragment,
            ttl: self.ttl,
            dscp: self.dscp,
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

    /// Takes memory for this many VTEPs, and for sockets.
    pub(super) fn reserve(&mut self, vteps: usize, sockets: usize) {
        self.ways.resize_with(sockets.max(self.ways.len()), || Vec::with_capacity(vteps));
    }

    /// Sends a superframe; whether it is on its way. If not, a socket must send it.
    pub(super) fn send(&mut self, now: Instant, whole: &Whole<'_>) -> bool {
        if self.ended.is_some() {
            return false;
        }
        if now != self.asked {
            self.listen();
            self.asked = now;
        }
        let (socket, place) = (whole.socket, usize::from(whole.vtep.0));
        if self.ways.len() <= socket {
            self.ways.resize_with(socket.saturating_add(1), Vec::new);
        }
        if let Some(ways) = self.ways.get_mut(socket).filter(|ways| ways.len() <= place) {
            ways.resize(place.saturating_add(1), Way::unknown(whole.from, whole.to));
        }
        let ends = (whole.from, whole.to);
        let known = self.ways.get(socket).and_then(|ways| ways.get(place));
        if known.is_none_or(|way| (way.from, way.to) != ends || now >= way.due) {
            self.counters.looked_up = self.counters.looked_up.wrapping_add(1);
            let way = self.find(now, whole.from, whole.to);
            if let Some(slot) = self.ways.get_mut(socket).and_then(|ways| ways.get_mut(place)) {
                *slot = way;
            }
        }
        let way = self.ways.get_mut(socket).and_then(|ways| ways.get_mut(place));
        let way = way.and_then(|way| match core::mem::take(&mut way.ask) {
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
            source_port: whole.from.port(),
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

    /// Hears what has changed.
    fn listen(&mut self) {
        let Tunnel { changes, ways, devices, uplinks, .. } = self;
        changes.take(|change| {
            for way in ways.iter_mut().flatten() {
                way.heed(&change);
            }
            for (device, uplink) in devices.iter_mut().zip(uplinks.iter()) {
                let of_device = match change {
                    Change::Link(index) => index == uplink.underlay,
                    Change::Anything => true,
                    Change::Route(..) | Change::Neighbour(..) => false,
                };
                if of_device {
                    device.due = Instant::ZERO;
                }
            }
        });
    }

    /// Looks up the way to a VTEP.
    fn find(&mut self, now: Instant, from: SocketAddr, to: SocketAddr) -> Way {
        let mut way = Way { due: now + RETRY, ..Way::unknown(from, to) };
        let Ok(Some(hop)) = self.route.next_hop(from, to, self.dscp << 2) else { return way };
        way.hop = Some(hop);
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
            way.remote_mac = Some(remote_mac);
            way.mtu = hop.mtu.unwrap_or(u32::MAX).min(device.mtu);
            way.kinds = device.kinds;
            way.due = now + BELIEF;
            way.template = template;
        }
        way
    }

    /// The underlay device of an uplink as it is now, or was a moment ago.
    fn device(&mut self, now: Instant, uplink: usize, index: u32) -> Option<Device> {
        let wire = self.uplinks.get(uplink)?;
        let known = self.devices.get_mut(uplink)?;
        if now >= known.due && !known.lost {
            known.lost = self.route.redirected_to(wire.index).is_ok_and(|to| to != Some(wire.underlay));
            let link = self.route.ethernet(index).ok().flatten();
            let active = self.features.active(index).unwrap_or_default();
            *known = Device {
                lost: known.lost,
                due: now + BELIEF,
                mac: link.as_ref().filter(|link| link.up).and_then(|link| link.mac),
                mtu: link.map_or(0, |link| link.mtu),
                kinds: kinds(&active, self.checksum),
            };
        }
        let known = *known;
        if known.lost && self.devices.iter().all(|device| device.lost) {
            let why = "its device was taken away, and with it the wire to it";
            self.ended.get_or_insert_with(|| Error::refused("send by", wire.name.as_str(), why));
        }
        (!known.lost).then_some(known)
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
            ttl: self.ttl,
            dscp: self.dscp,
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
    use core::net::IpAddr;

    #[test]
    fn what_outdates_a_way() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let (router, to, other) = (ip("10.0.0.9"), ip("10.1.0.2"), ip("10.1.0.3"));
        let (mac, another) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        let due = Instant::from_secs(9);
        let way = Way {
            due,
            hop: Some(NextHop { index: 7, addr: router, mtu: None }),
            remote_mac: Some(mac),
            ..Way::unknown((ip("10.0.0.1"), 4789).into(), (to, 4789).into())
        };
        let unknown = Way { remote_mac: None, ..way };
        let nowhere = Way { hop: None, ..unknown };
        for (way, change, outdated, ask) in [
            (way, Change::Anything, true, false),
            (way, Change::Route(ip("10.1.0.0"), 16), true, false),
            (way, Change::Route(other, 32), false, false),
            (way, Change::Route(ip("10.0.0.1"), 32), true, false),
            (nowhere, Change::Route(ip("0.0.0.0"), 0), true, false),
            (way, Change::Link(7), true, false),
            (way, Change::Link(8), false, false),
            (way, Change::Neighbour(7, router, Neighbour::Known(mac)), false, false),
            (way, Change::Neighbour(7, router, Neighbour::Known(another)), true, false),
            (way, Change::Neighbour(7, router, Neighbour::Stale(mac)), false, true),
            (way, Change::Neighbour(7, router, Neighbour::Stale(another)), true, true),
            (way, Change::Neighbour(7, router, Neighbour::Unknown), true, false),
            (way, Change::Neighbour(8, router, Neighbour::Unknown), false, false),
            (way, Change::Neighbour(7, to, Neighbour::Unknown), false, false),
            (unknown, Change::Neighbour(7, router, Neighbour::Known(mac)), true, false),
            (nowhere, Change::Neighbour(7, router, Neighbour::Known(mac)), false, false),
            (nowhere, Change::Link(7), false, false),
        ] {
            let mut way = way;
            way.heed(&change);
            assert_eq!((way.due == Instant::ZERO, way.ask), (outdated, ask), "{change:?}");
            assert!(outdated || way.due == due);
        }
    }

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
