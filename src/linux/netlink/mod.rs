//! The little rtnetlink that the backend needs, synchronous, over private third-party message types.
//!
//! Replies are read attribute by attribute, for the few that are wanted: a kernel that has learnt a
//! new attribute cannot make a whole reply unreadable.

mod changes;
mod features;
mod path;
mod request;
mod socket;
mod tc;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;
use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkHeader, LinkLayerType, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

pub(super) use self::changes::{Change, Changes, covers};
pub(super) use self::features::Features;
pub(super) use self::path::{Neighbour, NextHop};
use self::socket::{Reply, Socket, attributes};
pub(super) use self::tc::{EVERY_PROTOCOL, Key, Redirect};
use super::error::Error;
use super::link::{Link, by_index};
use super::sys::errno;
use crate::addr::MacAddr;

const RTM_NEWADDR: u16 = 20;
/// `struct ifaddrmsg` before the attributes.
const ADDRESS_HEADER_LEN: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTM_NEWLINK: u16 = 16;
/// `struct ifinfomsg` before the attributes.
const LINK_HEADER_LEN: usize = 16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;

/// What a link must carry for IPv6 to run on it (RFC 8200, section 5).
const IPV6_MIN_MTU: u32 = 1280;

/// A conversation with the routing subsystem of the namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Route {
    socket: Socket,
}

impl Route {
    pub(super) fn open() -> Result<Route, Error> {
        Ok(Route { socket: Socket::open(NETLINK_ROUTE)? })
    }

    pub(super) fn link(&mut self, name: &str) -> Result<Link, Error> {
        const OPERATION: &str = "look up interface";
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_string()));
        let replies = self.socket.ask(OPERATION, name, RouteNetlinkMessage::GetLink(message), 0)?;
        replies
            .iter()
            .find_map(parse_link)
            .ok_or_else(|| Error::refused(OPERATION, name, "the kernel's answer describes no interface"))
    }

    fn indexed(&mut self, index: u32) -> Result<Vec<Reply>, Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.socket.ask("look up", &by_index(index), RouteNetlinkMessage::GetLink(message), 0)
    }

    /// The interface of this index, to say of it what it is called.
    fn known(&mut self, index: u32) -> Option<Link> {
        self.indexed(index).ok()?.iter().find_map(parse_link)
    }

    fn has_address(&mut self, index: u32, addr: IpAddr, prefix_len: u8) -> bool {
        let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let replies = self.socket.dump("list", "addresses", message).unwrap_or_default();
        replies.iter().any(|reply| is_address(reply, index, addr, prefix_len))
    }

    /// The interface of this index, if it is an Ethernet; and whether it can send.
    pub(super) fn ethernet(&mut self, index: u32) -> Result<Option<Link>, Error> {
        let replies = self.indexed(index)?;
        let ethernet = |reply: &&Reply| {
            let header = LinkHeader::parse(&reply.payload).ok();
            header.is_some_and(|h| h.link_layer_type == LinkLayerType::Ether)
        };
        Ok(replies.iter().find(ethernet).and_then(parse_link))
    }

    pub(super) fn links(&mut self) -> Result<Vec<Link>, Error> {
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let replies = self.socket.dump("list", "interfaces", message)?;
        Ok(replies.iter().filter_map(parse_link).collect())
    }

    pub(super) fn set_up(&mut self, index: u32) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.set_link("bring up", index, message)
    }

    pub(super) fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.set_link("set the MTU of", index, message)
    }

    pub(super) fn set_queue_len(&mut self, index: u32, packets: u32) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::TxQueueLen(packets));
        self.set_link("set the queue length of", index, message)
    }

    pub(super) fn set_mac(&mut self, index: u32, mac: MacAddr) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Address(mac.0.to_vec()));
        self.set_link("set the MAC of", index, message)
    }

    fn set_link(
        &mut self,
        operation: &'static str,
        index: u32,
        mut message: LinkMessage,
    ) -> Result<(), Error> {
        message.header.index = index;
        let done = self.socket.ask(operation, &by_index(index), RouteNetlinkMessage::SetLink(message), 0);
        let Err(error) = done else {
            return Ok(());
        };
        Err(match self.known(index) {
            Some(link) => error.about(link.name),
            None => error,
        })
    }

    pub(super) fn add_address(&mut self, index: u32, addr: IpAddr, prefix_len: u8) -> Result<(), Error> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = prefix_len;
        message.attributes.push(AddressAttribute::Local(addr));
        message.attributes.push(AddressAttribute::Address(addr));
        if addr.is_ipv6() {
            message.header.family = AddressFamily::Inet6;
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        } else {
            message.header.family = AddressFamily::Inet;
        }
        let what = format!("{addr}/{prefix_len} on {}", by_index(index));
        let message = RouteNetlinkMessage::NewAddress(message);
        let Err(error) = self.socket.ask("add address", &what, message, NLM_F_CREATE | NLM_F_EXCL) else {
            return Ok(());
        };
        let Some(link) = self.known(index) else {
            return Err(error);
        };
        let what = format!("{addr}/{prefix_len} on {}", link.name);
        // Of whoever has no rights the kernel does not look what is there.
        if error.errno() == Some(errno::EPERM) && self.has_address(index, addr, prefix_len) {
            let there = io::Error::from_raw_os_error(errno::EEXIST);
            return Err(Error::new("add address", what, there));
        }
        let error = error.about(what);
        // Each kernel has its own errno for it.
        if addr.is_ipv6() && link.mtu < IPV6_MIN_MTU && error.errno() != Some(errno::EPERM) {
            return Err(error.hint(Some("IPv6 needs an MTU of 1280 or more")));
        }
        Err(error)
    }
}

/// Whether `reply` tells of this address on this interface.
fn is_address(reply: &Reply, index: u32, addr: IpAddr, prefix_len: u8) -> bool {
    let Some(([_, len, _, _, number @ ..], rest)) = reply.payload.split_first_chunk::<ADDRESS_HEADER_LEN>()
    else {
        return false;
    };
    let is_it = |value: &[u8]| match addr {
        IpAddr::V4(a) => value == a.octets(),
        IpAddr::V6(a) => value == a.octets(),
    };
    // Without a peer both are the interface's own, of which IPv6 has the first alone.
    reply.kind == RTM_NEWADDR
        && (*len, u32::from_ne_bytes(*number)) == (prefix_len, index)
        && attributes(rest).any(|(kind, value)| matches!(kind, IFA_ADDRESS | IFA_LOCAL) && is_it(value))
}

fn parse_link(reply: &Reply) -> Option<Link> {
    if reply.kind != RTM_NEWLINK {
        return None;
    }
    let header = LinkHeader::parse(&reply.payload).ok()?;
    let mut link = Link {
        index: header.index,
        name: String::new(),
        mtu: 0,
        mac: None,
        up: header.flags.contains(LinkFlags::Up),
    };
    for (kind, value) in attributes(reply.payload.get(LINK_HEADER_LEN..)?) {
        match kind {
            IFLA_ADDRESS => link.mac = value.try_into().ok().map(MacAddr),
            IFLA_IFNAME => {
                link.name = String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).to_string()
            }
            IFLA_MTU => link.mtu = u32::from_ne_bytes(value.try_into().ok()?),
            _ => {}
        }
    }
    Some(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend((4 + value.len() as u16).to_ne_bytes());
        out.extend(kind.to_ne_bytes());
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn reply(attributes: &[Vec<u8>]) -> Reply {
        let mut payload = alloc::vec![0; LINK_HEADER_LEN];
        payload[4] = 7;
        payload[8] = 1;
        payload.extend(attributes.concat());
        Reply { kind: RTM_NEWLINK, payload }
    }

    #[test]
    fn a_link_is_read_from_the_attributes_it_needs() {
        let good = reply(&[
            attribute(IFLA_IFNAME, b"tap0\0"),
            attribute(0x3fff, &[9; 40]),
            attribute(IFLA_MTU, &1450u32.to_ne_bytes()),
            attribute(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]),
        ]);
        let want = Link {
            index: u32::from_ne_bytes([7, 0, 0, 0]),
            name: "tap0".into(),
            mtu: 1450,
            mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
            up: u32::from_ne_bytes([1, 0, 0, 0]) == 1,
        };
        assert_eq!(parse_link(&good), Some(want));
        for cut in 0..good.payload.len() {
            let _ = parse_link(&Reply { kind: RTM_NEWLINK, payload: good.payload[..cut].to_vec() });
        }
        assert_eq!(parse_link(&Reply { kind: 99, ..good }), None);
        assert_eq!(parse_link(&reply(&[attribute(IFLA_MTU, &[1, 2])])), None, "an MTU of two octets");
    }

    #[test]
    fn loopback_is_there_and_nonsense_is_not() {
        let mut route = Route::open().unwrap();
        let lo = route.link("lo").unwrap();
        assert_eq!(lo.name, "lo");
        assert!(lo.mtu > 0);
        assert!(route.links().unwrap().contains(&lo));
        let error = route.link("no-such-link").unwrap_err();
        assert_eq!(error.errno(), Some(errno::ENODEV));
        assert_eq!(error.to_string(), "cannot look up interface no-such-link: ENODEV");
    }

    #[test]
    fn the_kernels_errno_comes_back() {
        let mut route = Route::open().unwrap();
        let error = route.set_mtu(0x7fff_fff0, 1400).unwrap_err();
        // Unprivileged callers are turned away before the interface is looked for.
        assert!(matches!(error.errno(), Some(errno::ENODEV | errno::EPERM)), "{error}");
        assert_eq!(error.operation(), "set the MTU of");
    }
}
