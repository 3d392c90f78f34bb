//! Devices, addresses, neighbours and FDBs of one network namespace, over rtnetlink.

use core::fmt;
use core::net::IpAddr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags, LinkHeader, LinkInfo, LinkMessage,
    VxlanDf,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange};
use netlink_packet_route::{AddressFamily, IpProtocol, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::netlink::{Raw, Socket, attributes, push};
use crate::netns::NetNs;

/// A MAC address as octets.
pub type Mac = [u8; 6];

/// A request that the kernel refused: the request and the errno.
#[derive(Debug)]
pub struct Error {
    what: String,
    source: io::Error,
}

impl Error {
    /// The kernel's errno, if it was the kernel that refused.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.what, self.source)
    }
}

impl core::error::Error for Error {}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let what = what.into();
    move |source| Error { what, source }
}

/// A kernel VXLAN device to be made. `Vxlan::default()` is VNI 0, port 4789, learning, everything else
/// as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// The VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// The source address; its family is that of the underlay.
    pub local: Option<IpAddr>,
    /// Where frames go that no FDB entry covers.
    pub remote: Option<IpAddr>,
    /// The UDP port to listen on and to send to.
    pub port: u16,
    /// Learns inner MACs.
    pub learning: bool,
    /// Life of a learned entry in seconds; the kernel's 300 when `None`.
    pub ageing: Option<u32>,
    /// Sends an outer UDP checksum over IPv4 (the kernel's default is not to on some versions).
    pub udp_checksum: Option<bool>,
    /// Sends no outer UDP checksum over IPv6.
    pub zero_checksum6_tx: bool,
    /// Accepts none over IPv6.
    pub zero_checksum6_rx: bool,
    /// The outer TTL or hop limit.
    pub ttl: Option<u8>,
    /// TOS or traffic class of outer headers, but for ECN.
    pub tos: Option<u8>,
    /// Don't fragment: unset, set, or `None` for the kernel's default.
    pub dont_fragment: Option<bool>,
    /// The group policy extension.
    pub group_policy: bool,
    /// Reports misses as neighbour events (`l2miss`, `l3miss`).
    pub report_misses: bool,
}

/// The packets of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packets {
    /// UDP from this port.
    UdpFrom(u16),
    /// UDP to this port.
    UdpTo(u16),
    /// Of this TOS or traffic class, the ECN field apart.
    Tos(u8),
}

impl Default for Vxlan {
    fn default() -> Vxlan {
        Vxlan {
            vni: 0,
            local: None,
            remote: None,
            port: 4789,
            learning: true,
            ageing: None,
            udp_checksum: None,
            zero_checksum6_tx: false,
            zero_checksum6_rx: false,
            ttl: None,
            tos: None,
            dont_fragment: None,
            group_policy: false,
            report_misses: false,
        }
    }
}

impl Vxlan {
    fn attributes(&self) -> Vec<InfoVxlan> {
        let mut out =
            vec![InfoVxlan::Id(self.vni), InfoVxlan::Port(self.port), InfoVxlan::Learning(self.learning)];
        out.extend(self.local.map(|a| match a {
            IpAddr::V4(a) => InfoVxlan::Local(a),
            IpAddr::V6(a) => InfoVxlan::Local6(a),
        }));
        out.extend(self.remote.map(|a| match a {
            IpAddr::V4(a) => InfoVxlan::Group(a),
            IpAddr::V6(a) => InfoVxlan::Group6(a),
        }));
        out.extend(self.ageing.map(InfoVxlan::Ageing));
        out.extend(self.udp_checksum.map(InfoVxlan::UDPCsum));
        out.extend(self.zero_checksum6_tx.then_some(InfoVxlan::UDPZeroCsumTX(true)));
        out.extend(self.zero_checksum6_rx.then_some(InfoVxlan::UDPZeroCsumRX(true)));
        out.extend(self.ttl.map(InfoVxlan::Ttl));
        out.extend(self.tos.map(InfoVxlan::Tos));
        out.extend(
            self.dont_fragment.map(|df| InfoVxlan::Df(if df { VxlanDf::Set } else { VxlanDf::Unset })),
        );
        out.extend(self.group_policy.then_some(InfoVxlan::Gbp));
        if self.report_misses {
            out.extend([InfoVxlan::L2Miss(true), InfoVxlan::L3Miss(true)]);
        }
        out
    }
}

/// A device as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// What fits behind the Ethernet header, in octets.
    pub mtu: u32,
    /// Zero where there is none of 6 octets.
    pub mac: Mac,
    /// Administratively up.
    pub up: bool,
    /// Packet and octet counters.
    pub stats: Stats,
}

/// Counters of a device (`rtnl_link_stats64`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Octets received.
    pub rx_bytes: u64,
    /// Octets sent.
    pub tx_bytes: u64,
    /// Bad packets received.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Received and dropped.
    pub rx_dropped: u64,
    /// Dropped instead of sent.
    pub tx_dropped: u64,
}

/// One entry of a device's forwarding database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FdbEntry {
    /// The MAC that it is about; all zero is the default entry of a VXLAN device.
    pub mac: Mac,
    /// The VTEP behind which it is, for a VXLAN device's own entry.
    pub dst: Option<IpAddr>,
    /// The VNI, where it is not the device's.
    pub vni: Option<u32>,
    /// The UDP port, where it is not the device's.
    pub port: Option<u16>,
    /// Configured: it neither ages nor was learned.
    pub permanent: bool,
    /// In the device's own table (`self`), not in that of the bridge above it (`master`).
    pub own: bool,
}

/// A handle for the namespace of the thread that opened it. Devices are named by their names.
pub struct Rtnl(Socket);

impl Rtnl {
    /// Opens it in the calling thread's namespace; see [`NetNs::rtnl`].
    pub fn open() -> Result<Rtnl, Error> {
        Ok(Rtnl(Socket::open(NETLINK_ROUTE).map_err(failed("open an rtnetlink socket"))?))
    }

    fn ask(
        &mut self,
        what: impl Into<String>,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<Raw>, Error> {
        self.0.ask(message, flags).map_err(failed(what))
    }

    /// A pair of Ethernet devices; the peer in `peer_ns` if given.
    pub fn add_veth(&mut self, name: &str, peer: &str, peer_ns: Option<&NetNs>) -> Result<(), Error> {
        let mut other = LinkMessage::default();
        other.attributes.push(LinkAttribute::IfName(peer.into()));
        other.attributes.extend(peer_ns.map(|ns| LinkAttribute::NetNsFd(ns.as_fd().as_raw_fd())));
        let data = InfoData::Veth(InfoVeth::Peer(other));
        self.add(name, InfoKind::Veth, Some(data))
    }

    /// An Ethernet bridge.
    pub fn add_bridge(&mut self, name: &str) -> Result<(), Error> {
        self.add(name, InfoKind::Bridge, None)
    }

    /// A kernel VXLAN device.
    pub fn add_vxlan(&mut self, name: &str, config: &Vxlan) -> Result<(), Error> {
        self.add(name, InfoKind::Vxlan, Some(InfoData::Vxlan(config.attributes())))
    }

    fn add(&mut self, name: &str, kind: InfoKind, data: Option<InfoData>) -> Result<(), Error> {
        let what = format!("add {kind} device {name}");
        let mut message = LinkMessage::default();
        let mut info = vec![LinkInfo::Kind(kind)];
        info.extend(data.map(LinkInfo::Data));
        message.attributes = vec![LinkAttribute::IfName(name.into()), LinkAttribute::LinkInfo(info)];
        self.ask(what, RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)?;
        Ok(())
    }

    /// Removes a device.
    pub fn delete(&mut self, name: &str) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        self.ask(format!("delete {name}"), RouteNetlinkMessage::DelLink(message), 0)?;
        Ok(())
    }

    /// What the kernel says about a device.
    pub fn device(&mut self, name: &str) -> Result<Device, Error> {
        let what = || format!("look up {name}");
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        let replies = self.ask(what(), RouteNetlinkMessage::GetLink(message), 0)?;
        replies
            .iter()
            .find_map(|r| parse_device(&r.payload))
            .ok_or_else(|| failed(what())(io::Error::other("no device in the answer")))
    }

    /// Every device's name.
    pub fn devices(&mut self) -> Result<Vec<String>, Error> {
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let replies = self.0.dump(message).map_err(failed("list devices"))?;
        Ok(replies.iter().filter_map(|r| Some(parse_device(&r.payload)?.name)).collect())
    }

    fn set(&mut self, what: &str, name: &str, change: impl FnOnce(&mut LinkMessage)) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        change(&mut message);
        message.attributes.push(LinkAttribute::IfName(name.into()));
        self.ask(format!("{what} {name}"), RouteNetlinkMessage::SetLink(message), 0)?;
        Ok(())
    }

    fn set_flag(&mut self, what: &str, name: &str, flag: LinkFlags, on: bool) -> Result<(), Error> {
        self.set(what, name, |m| {
            m.header.change_mask = flag;
            m.header.flags = if on { flag } else { LinkFlags::empty() };
        })
    }

    /// Brings a device up.
    pub fn set_up(&mut self, name: &str) -> Result<(), Error> {
        self.set_flag("bring up", name, LinkFlags::Up, true)
    }

    /// Takes a device down.
    pub fn set_down(&mut self, name: &str) -> Result<(), Error> {
        self.set_flag("take down", name, LinkFlags::Up, false)
    }

    /// Promiscuous mode.
    pub fn set_promiscuous(&mut self, name: &str, on: bool) -> Result<(), Error> {
        self.set_flag("set promiscuous mode of", name, LinkFlags::Promisc, on)
    }

    /// Sets the MTU.
    pub fn set_mtu(&mut self, name: &str, mtu: u32) -> Result<(), Error> {
        self.set("set the MTU of", name, |m| m.attributes.push(LinkAttribute::Mtu(mtu)))
    }

    /// Sets how many packets wait at most to be sent (`txqueuelen`).
    pub fn set_queue_len(&mut self, name: &str, packets: u32) -> Result<(), Error> {
        self.set("set the queue of", name, |m| m.attributes.push(LinkAttribute::TxQueueLen(packets)))
    }

    /// Sends at most so many octets a second, from a queue of `limit` octets (`tbf`): what is sent
    /// stays with its socket until then. Again: changes it.
    pub fn limit_rate(&mut self, name: &str, octets_per_second: u32, limit: u32) -> Result<(), Error> {
        const NEW_QDISC: u16 = 36;
        const ROOT: u32 = u32::MAX;
        const KIND: u16 = 1;
        const OPTIONS: u16 = 2;
        const PARMS: u16 = 1;
        const BURST: u16 = 6;
        // struct tc_tbf_qopt: rate and peak rate (struct tc_ratespec), limit, buffer, mtu.
        let mut parms = vec![0, 1, 0, 0, 0, 0, 0, 0];
        parms.extend(octets_per_second.to_ne_bytes());
        parms.extend([0; 12]);
        parms.extend(limit.to_ne_bytes());
        parms.extend([0; 8]);
        let mut options = Vec::new();
        push(&mut options, PARMS, &parms);
        push(&mut options, BURST, &100_000u32.to_ne_bytes());
        // struct tcmsg: family, interface, handle, parent, info.
        let mut payload = vec![0; 4];
        for word in [self.device(name)?.index, 0, ROOT, 0] {
            payload.extend(word.to_ne_bytes());
        }
        push(&mut payload, KIND, b"tbf\0");
        push(&mut payload, OPTIONS, &options);
        self.0
            .ask(Raw { kind: NEW_QDISC, payload }, NLM_F_CREATE | NLM_F_REPLACE)
            .map_err(failed(format!("limit the rate of {name}")))?;
        Ok(())
    }

    /// The kinds of the queueing disciplines of a device, `clsact` among them.
    pub fn qdiscs(&mut self, name: &str) -> Result<Vec<String>, Error> {
        const GET_QDISC: u16 = 38;
        const HEADER_LEN: usize = 20;
        const KIND: u16 = 1;
        let index = self.device(name)?.index;
        let message = Raw { kind: GET_QDISC, payload: vec![0; HEADER_LEN] };
        let replies = self.0.dump(message).map_err(failed(format!("list the queues of {name}")))?;
        let ours = replies.iter().filter(|r| r.payload.get(4..8) == Some(&index.to_ne_bytes()));
        Ok(ours
            .flat_map(|r| attributes(r.payload.get(HEADER_LEN..).unwrap_or(&[])))
            .filter(|(kind, _)| *kind == KIND)
            .map(|(_, name)| String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into())
            .collect())
    }

    /// Moves a device to another namespace, where it is down and has no addresses.
    pub fn move_to(&mut self, name: &str, ns: &NetNs) -> Result<(), Error> {
        let fd = ns.as_fd().as_raw_fd();
        self.set("move to another namespace", name, |m| m.attributes.push(LinkAttribute::NetNsFd(fd)))
    }

    /// Sets the MAC address.
    pub fn set_mac(&mut self, name: &str, mac: Mac) -> Result<(), Error> {
        self.set("set the MAC of", name, |m| m.attributes.push(LinkAttribute::Address(mac.into())))
    }

    /// Makes a device a port of a bridge.
    pub fn set_bridge(&mut self, name: &str, bridge: &str) -> Result<(), Error> {
        let index = self.device(bridge)?.index;
        self.set("attach to a bridge", name, |m| m.attributes.push(LinkAttribute::Controller(index)))
    }

    /// Adds an address with its on-link prefix, usable at once.
    pub fn add_address(&mut self, name: &str, addr: IpAddr, prefix_len: u8) -> Result<(), Error> {
        let mut message = AddressMessage::default();
        message.header.index = self.device(name)?.index;
        message.header.family = family(addr);
        message.header.prefix_len = prefix_len;
        message.attributes = vec![AddressAttribute::Local(addr), AddressAttribute::Address(addr)];
        if addr.is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let what = format!("add {addr}/{prefix_len} to {name}");
        self.ask(what, RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)?;
        Ok(())
    }

    /// Removes an address.
    pub fn delete_address(&mut self, name: &str, addr: IpAddr, prefix_len: u8) -> Result<(), Error> {
        let mut message = AddressMessage::default();
        message.header.index = self.device(name)?.index;
        message.header.family = family(addr);
        message.header.prefix_len = prefix_len;
        message.attributes = vec![AddressAttribute::Local(addr), AddressAttribute::Address(addr)];
        let what = format!("remove {addr}/{prefix_len} from {name}");
        self.ask(what, RouteNetlinkMessage::DelAddress(message), 0)?;
        Ok(())
    }

    /// Takes every address of `prefix` for one of this namespace's own (a route of type `local`).
    pub fn add_local(&mut self, prefix: (IpAddr, u8)) -> Result<(), Error> {
        const RT_TABLE_LOCAL: u8 = 255;
        let mut message = route(prefix, RouteType::Local, RouteScope::Host);
        message.header.table = RT_TABLE_LOCAL;
        message.attributes.push(RouteAttribute::Oif(self.device("lo")?.index));
        let what = format!("make {}/{} local", prefix.0, prefix.1);
        self.ask(what, RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)?;
        Ok(())
    }

    /// Adds a route to `prefix` through `gateway`, or on the link of `name` when there is none.
    pub fn add_route(
        &mut self,
        prefix: (IpAddr, u8),
        gateway: Option<IpAddr>,
        name: &str,
    ) -> Result<(), Error> {
        self.add_route_in(RouteHeader::RT_TABLE_MAIN, prefix, gateway, name)
    }

    /// As [`Rtnl::add_route`], in a table that a [rule](Rtnl::add_rule) leads to.
    pub fn add_route_in(
        &mut self,
        table: u8,
        prefix: (IpAddr, u8),
        gateway: Option<IpAddr>,
        name: &str,
    ) -> Result<(), Error> {
        let scope = if gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
        let mut message = route(prefix, RouteType::Unicast, scope);
        message.header.table = table;
        message.attributes.extend(gateway.map(|g| RouteAttribute::Gateway(route_address(g))));
        message.attributes.push(RouteAttribute::Oif(self.device(name)?.index));
        let what = format!("add route {}/{} on {name}", prefix.0, prefix.1);
        self.ask(what, RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)?;
        Ok(())
    }

    /// Has the routes of these packets looked for in `table` first.
    pub fn add_rule(&mut self, v6: bool, packets: Packets, table: u8) -> Result<(), Error> {
        let mut message = RuleMessage::default();
        message.header.family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        (message.header.table, message.header.action) = (table, RuleAction::ToTable);
        message.attributes.push(RuleAttribute::Priority(100));
        let udp = RuleAttribute::IpProtocol(IpProtocol::Udp);
        let only = |port| RulePortRange { start: port, end: port };
        match packets {
            Packets::UdpFrom(port) => {
                message.attributes.extend([udp, RuleAttribute::SourcePortRange(only(port))]);
            }
            Packets::UdpTo(port) => {
                message.attributes.extend([udp, RuleAttribute::DestinationPortRange(only(port))]);
            }
            Packets::Tos(tos) => message.header.tos = tos,
        }
        let what = format!("add a rule for {packets:?}");
        self.ask(what, RouteNetlinkMessage::NewRule(message), NLM_F_CREATE | NLM_F_EXCL)?;
        Ok(())
    }

    /// Makes the kernel throw away what is sent to `prefix`.
    pub fn add_blackhole(&mut self, prefix: (IpAddr, u8)) -> Result<(), Error> {
        let message = route(prefix, RouteType::BlackHole, RouteScope::Universe);
        let what = format!("add blackhole {}/{}", prefix.0, prefix.1);
        self.ask(what, RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)?;
        Ok(())
    }

    /// Pins an IP neighbour's MAC.
    pub fn add_neighbour(&mut self, name: &str, addr: IpAddr, mac: Mac) -> Result<(), Error> {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = self.device(name)?.index;
        message.header.family = family(addr);
        message.header.state = NeighbourState::Permanent;
        message.attributes = vec![
            NeighbourAttribute::Destination(neighbour(addr)),
            NeighbourAttribute::LinkLayerAddress(mac.into()),
        ];
        let what = format!("add neighbour {addr} on {name}");
        self.ask(what, RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)?;
        Ok(())
    }

    /// Adds an entry to a VXLAN device's own FDB beside those that are there, as `bridge fdb append`
    /// does; a zero MAC is the default destination, of which there may be several.
    pub fn fdb_append(&mut self, name: &str, mac: Mac, dst: IpAddr) -> Result<(), Error> {
        let message = self.fdb_message(name, mac, dst)?;
        self.ask(
            format!("append to the FDB of {name}"),
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_APPEND,
        )?;
        Ok(())
    }

    /// Removes an entry from a VXLAN device's own FDB.
    pub fn fdb_delete(&mut self, name: &str, mac: Mac, dst: IpAddr) -> Result<(), Error> {
        let message = self.fdb_message(name, mac, dst)?;
        self.ask(format!("delete from the FDB of {name}"), RouteNetlinkMessage::DelNeighbour(message), 0)?;
        Ok(())
    }

    fn fdb_message(&mut self, name: &str, mac: Mac, dst: IpAddr) -> Result<NeighbourMessage, Error> {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = self.device(name)?.index;
        message.header.family = AddressFamily::Bridge;
        message.header.state = NeighbourState::Permanent;
        message.header.flags = NeighbourFlags::Own;
        message.attributes = vec![
            NeighbourAttribute::LinkLayerAddress(mac.into()),
            NeighbourAttribute::Destination(neighbour(dst)),
        ];
        Ok(message)
    }

    /// The FDB of a device, its own and, if it is a bridge port, the bridge's entries on it.
    pub fn fdb(&mut self, name: &str) -> Result<Vec<FdbEntry>, Error> {
        const HEADER_LEN: usize = 12;
        const NUD_PERMANENT: u16 = 0x80;
        const NTF_SELF: u8 = 2;
        let index = self.device(name)?.index;
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        let replies = self
            .0
            .dump(RouteNetlinkMessage::GetNeighbour(message))
            .map_err(failed(format!("read the FDB of {name}")))?;
        let entries = replies.iter().filter_map(|reply| {
            let [_, _, _, _, i0, i1, i2, i3, s0, s1, flags, _] =
                *reply.payload.first_chunk::<HEADER_LEN>()?;
            if u32::from_ne_bytes([i0, i1, i2, i3]) != index {
                return None;
            }
            let mut entry = FdbEntry {
                mac: [0; 6],
                dst: None,
                vni: None,
                port: None,
                permanent: u16::from_ne_bytes([s0, s1]) & NUD_PERMANENT != 0,
                own: flags & NTF_SELF != 0,
            };
            for (kind, value) in attributes(&reply.payload[HEADER_LEN..]) {
                match (kind, value.len()) {
                    (1, 4) => entry.dst = <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
                    (1, 16) => entry.dst = <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
                    (2, 6) => entry.mac = value.try_into().ok()?,
                    (6, 2) => entry.port = Some(u16::from_be_bytes(value.try_into().ok()?)),
                    (7, 4) => entry.vni = Some(u32::from_ne_bytes(value.try_into().ok()?)),
                    _ => {}
                }
            }
            Some(entry)
        });
        Ok(entries.collect())
    }
}

fn route(prefix: (IpAddr, u8), kind: RouteType, scope: RouteScope) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(prefix.0);
    message.header.destination_prefix_length = prefix.1;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    (message.header.kind, message.header.scope) = (kind, scope);
    if prefix.1 > 0 {
        message.attributes.push(RouteAttribute::Destination(route_address(prefix.0)));
    }
    message
}

fn route_address(addr: IpAddr) -> RouteAddress {
    match addr {
        IpAddr::V4(a) => RouteAddress::Inet(a),
        IpAddr::V6(a) => RouteAddress::Inet6(a),
    }
}

fn family(addr: IpAddr) -> AddressFamily {
    if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn neighbour(addr: IpAddr) -> NeighbourAddress {
    match addr {
        IpAddr::V4(a) => NeighbourAddress::Inet(a),
        IpAddr::V6(a) => NeighbourAddress::Inet6(a),
    }
}

fn parse_device(payload: &[u8]) -> Option<Device> {
    let header = LinkHeader::parse(payload).ok()?;
    let mut device =
        Device { index: header.index, up: header.flags.contains(LinkFlags::Up), ..Device::default() };
    for (kind, value) in attributes(payload.get(16..)?) {
        match kind {
            1 => device.mac = value.try_into().unwrap_or_default(),
            3 => device.name = String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into(),
            4 => device.mtu = u32::from_ne_bytes(value.try_into().ok()?),
            23 => device.stats = parse_stats(value)?,
            _ => {}
        }
    }
    Some(device)
}

fn parse_stats(bytes: &[u8]) -> Option<Stats> {
    let (words, _) = bytes.as_chunks::<8>();
    let word = |i: usize| words.get(i).map(|w| u64::from_ne_bytes(*w));
    Some(Stats {
        rx_packets: word(0)?,
        tx_packets: word(1)?,
        rx_bytes: word(2)?,
        tx_bytes: word(3)?,
        rx_errors: word(4)?,
        tx_errors: word(5)?,
        rx_dropped: word(6)?,
        tx_dropped: word(7)?,
    })
}
