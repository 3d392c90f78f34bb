//! What the kernel tells of its own accord: routes, neighbours and interfaces that change.

use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::io;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::path::{
    AF_INET, AF_INET6, HEADER_LEN, NDA_DST, Neighbour, RTA_DST, RTM_NEWNEIGH, RTM_NEWROUTE, address,
    parse_neighbour,
};
use super::socket::{Reply, attributes};
use super::{LINK_HEADER_LEN, RTM_NEWLINK};
use crate::linux::error::Error;
use crate::linux::sys::{self, errno};

const RTM_DELLINK: u16 = 17;
const RTM_DELROUTE: u16 = 25;
const RTM_DELNEIGH: u16 = 29;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;

/// `linux/rtnetlink.h`: links, neighbours; routes and rules of IPv4, and of IPv6.
const GROUPS: [u32; 6] = [1, 3, 7, 8, 11, 19];
/// The kernel sends no more in one piece.
const BUFFER_LEN: usize = 32 << 10;
/// Pieces that are read at a time.
const PIECES: usize = 16;

/// Something that is not as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::linux) enum Change {
    /// A route to these addresses.
    Route(IpAddr, u8),
    /// What is known of a neighbour on the interface of this index.
    Neighbour(u32, IpAddr, Neighbour),
    /// The interface of this index: its state, its addresses of Ethernet, its MTU; or it is gone.
    Link(u32),
    /// Whatever it may be: rules of routing, or more than the kernel keeps for a listener.
    Anything,
}

/// Listens for changes in the namespace in which it was opened. Takes no rights.
pub(in crate::linux) struct Changes {
    socket: netlink_sys::Socket,
    buffer: Vec<u8>,
}

impl core::fmt::Debug for Changes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

impl Changes {
    pub(in crate::linux) fn open() -> Result<Changes, Error> {
        let open = || {
            let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            for group in GROUPS {
                socket.add_membership(group)?;
            }
            Ok(socket)
        };
        let socket = open().map_err(|e: io::Error| Error::new("listen on", "a netlink socket", e))?;
        Ok(Changes { socket, buffer: vec![0; BUFFER_LEN] })
    }

    /// Hands over what was told since the last time, without waiting; when that is much, the rest
    /// comes the next time.
    pub(in crate::linux) fn take(&mut self, mut each: impl FnMut(Change)) {
        for _ in 0..PIECES {
            match self.socket.recv_from(&mut self.buffer.as_mut_slice(), sys::MSG_DONTWAIT) {
                // Only the kernel's word counts.
                Ok((_, from)) if from.port_number() != 0 => {}
                Ok((len, _)) => read(self.buffer.get(..len).unwrap_or(&[]), &mut each),
                Err(error) if error.raw_os_error() == Some(errno::ENOBUFS) => each(Change::Anything),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

/// Reads the messages of one piece, up to the first that is broken.
fn read(mut bytes: &[u8], each: &mut impl FnMut(Change)) {
    while let Ok(message) = NetlinkMessage::<Reply>::deserialize(bytes) {
        let len = (message.header.length as usize).next_multiple_of(4).max(16);
        bytes = bytes.get(len..).unwrap_or(&[]);
        if let NetlinkPayload::InnerMessage(reply) = message.payload
            && let Some(change) = parse(&reply)
        {
            each(change);
        }
    }
}

fn parse(reply: &Reply) -> Option<Change> {
    match reply.kind {
        RTM_NEWROUTE | RTM_DELROUTE => {
            let (header, rest) = reply.payload.split_first_chunk::<HEADER_LEN>()?;
            let to = attributes(rest).find(|(kind, _)| *kind == RTA_DST);
            let to = match (to, header[0]) {
                (Some((_, value)), _) => address(value)?,
                (None, AF_INET) => Ipv4Addr::UNSPECIFIED.into(),
                (None, AF_INET6) => Ipv6Addr::UNSPECIFIED.into(),
                (None, _) => return None,
            };
            Some(Change::Route(to, header[1]))
        }
        RTM_NEWNEIGH | RTM_DELNEIGH => {
            let (header, rest) = reply.payload.split_first_chunk::<HEADER_LEN>()?;
            let addr = attributes(rest).find(|(kind, _)| *kind == NDA_DST);
            let addr = address(addr?.1)?;
            let index = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
            Some(Change::Neighbour(index, addr, parse_neighbour(reply).unwrap_or(Neighbour::Unknown)))
        }
        RTM_NEWLINK | RTM_DELLINK => {
            let header = reply.payload.first_chunk::<LINK_HEADER_LEN>()?;
            Some(Change::Link(u32::from_ne_bytes([header[4], header[5], header[6], header[7]])))
        }
        RTM_NEWRULE | RTM_DELRULE => Some(Change::Anything),
        _ => None,
    }
}

/// Whether a prefix covers an address; one of more bits than the family has covers that one address.
pub(in crate::linux) fn covers(prefix: IpAddr, len: u8, addr: IpAddr) -> bool {
    let same = |a: u128, b: u128, bits: u32| match bits.checked_sub(u32::from(len)) {
        Some(rest) => (a ^ b).checked_shr(rest).unwrap_or(0) == 0,
        None => a == b,
    };
    match (prefix, addr) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.into(), b.into(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::MacAddr;
    use crate::linux::netlink::request::nested;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn message(kind: u16, fixed: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let payload = [fixed, &nested(attributes)].concat();
        let len = (16 + payload.len()) as u32;
        [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], &payload].concat()
    }

    fn told(bytes: &[u8]) -> Vec<Change> {
        let mut changes = Vec::new();
        read(bytes, &mut |change| changes.push(change));
        changes
    }

    #[test]
    fn what_is_told() {
        let route = |family: u8, len: u8| [family, len, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        // Reachable; interface 7.
        let neighbour = [AF_INET, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0];
        let mut link = [0; LINK_HEADER_LEN];
        link[4] = 9;
        let known = Neighbour::Known(MacAddr(MAC));
        let (ten, six) = ((RTA_DST, &[10, 1, 0, 0][..]), (RTA_DST, &[0xfd; 16][..]));
        let neighbours = [(NDA_DST, &[10, 1, 0, 2][..]), (2, &MAC[..])];
        let cases = [
            (message(RTM_NEWROUTE, &route(AF_INET, 16), &[ten]), Some(Change::Route(ip("10.1.0.0"), 16))),
            (message(RTM_DELROUTE, &route(AF_INET, 0), &[]), Some(Change::Route(ip("0.0.0.0"), 0))),
            (message(RTM_NEWROUTE, &route(AF_INET6, 0), &[]), Some(Change::Route(ip("::"), 0))),
            (
                message(RTM_DELROUTE, &route(AF_INET6, 128), &[six]),
                Some(Change::Route([0xfd; 16].into(), 128)),
            ),
            // Of labels, say (MPLS).
            (message(RTM_NEWROUTE, &route(28, 20), &[]), None),
            (
                message(RTM_NEWNEIGH, &neighbour, &neighbours),
                Some(Change::Neighbour(7, ip("10.1.0.2"), known)),
            ),
            (
                message(RTM_DELNEIGH, &neighbour, &neighbours),
                Some(Change::Neighbour(7, ip("10.1.0.2"), Neighbour::Unknown)),
            ),
            (message(RTM_NEWNEIGH, &neighbour, &neighbours[1..]), None),
            (message(RTM_NEWLINK, &link, &[]), Some(Change::Link(9))),
            (message(RTM_DELLINK, &link, &[]), Some(Change::Link(9))),
            (message(RTM_NEWRULE, &[0; 12], &[]), Some(Change::Anything)),
            (message(RTM_DELRULE, &[0; 12], &[]), Some(Change::Anything)),
            (message(20, &[0; 8], &[]), None),
        ];
        let mut all = Vec::new();
        for (bytes, want) in &cases {
            assert_eq!(told(bytes), Vec::from_iter(*want), "{bytes:?}");
            for cut in 0..bytes.len() {
                assert!(told(&bytes[..cut]).is_empty());
            }
            all.extend(bytes);
        }
        assert_eq!(told(&all), Vec::from_iter(cases.iter().filter_map(|(_, want)| *want)));
    }

    #[test]
    fn what_a_prefix_covers() {
        for (prefix, len, addr, want) in [
            ("0.0.0.0", 0, "10.1.0.2", true),
            ("10.1.0.0", 16, "10.1.0.2", true),
            ("10.1.0.0", 16, "10.2.0.2", false),
            ("10.1.0.2", 32, "10.1.0.2", true),
            ("10.1.0.2", 32, "10.1.0.3", false),
            ("10.1.0.2", 255, "10.1.0.2", true),
            ("::", 0, "10.1.0.2", false),
            ("::", 0, "fd00::1", true),
            ("fd00::", 8, "fd12::1", true),
            ("fd00::", 16, "fd12::1", false),
            ("fd00::1", 128, "fd00::1", true),
            ("fd00::1", 128, "fd00::2", false),
        ] {
            assert_eq!(covers(ip(prefix), len, ip(addr)), want, "{prefix}/{len} and {addr}");
        }
    }

    #[test]
    fn nothing_is_told_where_nothing_happens() {
        let mut changes = Changes::open().unwrap();
        // What others on this machine do may show; it ends.
        for _ in 0..1000 {
            let mut quiet = true;
            changes.take(|_| quiet = false);
            if quiet {
                return;
            }
        }
        panic!("it never ends");
    }
}
