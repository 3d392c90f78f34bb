//! Routes and neighbours: which way a packet goes out.

use alloc::string::ToString;
use core::net::{IpAddr, SocketAddr};

use super::Route;
use super::request::Request;
use super::socket::{Reply, attributes};
use crate::addr::MacAddr;
use crate::linux::error::Error;
use crate::linux::sys::errno;
use crate::wire::ipv4::protocol;

pub(super) const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
pub(super) const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;

pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;
/// `struct rtmsg` and `struct ndmsg` before the attributes.
pub(super) const HEADER_LEN: usize = 12;
const RTN_UNICAST: u8 = 1;
pub(super) const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_METRICS: u16 = 8;
const RTAX_MTU: u16 = 2;
const RTA_VIA: u16 = 18;
const RTA_ENCAP: u16 = 22;
const RTA_IP_PROTO: u16 = 27;
const RTA_SPORT: u16 = 28;
const RTA_DPORT: u16 = 29;
pub(super) const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;

const NUD_REACHABLE: u16 = 0x02;
const NUD_STALE: u16 = 0x04;
const NUD_DELAY: u16 = 0x08;
const NUD_PROBE: u16 = 0x10;
const NUD_PERMANENT: u16 = 0x80;

/// Where a packet goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::linux) struct NextHop {
    /// The interface.
    pub(in crate::linux) index: u32,
    /// The router, or the destination itself.
    pub(in crate::linux) addr: IpAddr,
    /// The longest IP packet, where the route or what was found out on the way says so.
    pub(in crate::linux) mtu: Option<u32>,
}

/// What is known of a neighbour's MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::linux) enum Neighbour {
    /// It answers, or is being asked again.
    Known(MacAddr),
    /// It answered once; the next packet that the kernel sends it makes the kernel ask.
    Stale(MacAddr),
    /// Nobody knows.
    Unknown,
}

impl Route {
    /// The next hop of UDP with this TOS or traffic class (ECN field 0) from this node to another, as rules and
    /// several hops of one route choose it; `None` where no packet leaves the machine that way, or one that the
    /// route wraps up once more.
    pub(in crate::linux) fn next_hop(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        tos: u8,
    ) -> Result<Option<NextHop>, Error> {
        let family = family(to.ip());
        let bits = if to.is_ipv4() { 32 } else { 128 };
        let header = [family, bits, if from.is_ipv4() == to.is_ipv4() { bits } else { 0 }, tos, 0, 0, 0, 0];
        let header = [&header[..], &[0; 4]].concat();
        let request = Request::new(RTM_GETROUTE, &header)
            .with(RTA_DST, &octets(to.ip()))
            .with(RTA_SRC, &octets(from.ip()))
            .with(RTA_IP_PROTO, &[protocol::UDP])
            .with(RTA_SPORT, &from.port().to_be_bytes())
            .with(RTA_DPORT, &to.port().to_be_bytes());
        let replies = self.socket.ask("find the route to", &to.ip().to_string(), request, 0)?;
        Ok(replies.iter().find_map(|reply| parse_route(reply, to.ip())))
    }

    /// What the kernel knows of a neighbour.
    pub(in crate::linux) fn neighbour(&mut self, hop: &NextHop) -> Result<Neighbour, Error> {
        let mut header = [0; HEADER_LEN];
        header[0] = family(hop.addr);
        header[4..8].copy_from_slice(&hop.index.to_ne_bytes());
        let request = Request::new(RTM_GETNEIGH, &header).with(NDA_DST, &octets(hop.addr));
        match self.socket.ask("look up neighbour", &hop.addr.to_string(), request, 0) {
            Ok(replies) => Ok(replies.iter().find_map(parse_neighbour).unwrap_or(Neighbour::Unknown)),
            Err(e) if e.errno() == Some(errno::ENOENT) => Ok(Neighbour::Unknown),
            Err(e) => Err(e),
        }
    }
}

fn family(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn octets(addr: IpAddr) -> alloc::vec::Vec<u8> {
    match addr {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|b| IpAddr::from(*b)),
        16 => bytes.first_chunk::<16>().map(|b| IpAddr::from(*b)),
        _ => None,
    }
}

fn parse_route(reply: &Reply, to: IpAddr) -> Option<NextHop> {
    if reply.kind != RTM_NEWROUTE {
        return None;
    }
    let (header, rest) = reply.payload.split_first_chunk::<HEADER_LEN>()?;
    if header[7] != RTN_UNICAST {
        return None;
    }
    let (mut index, mut addr, mut mtu) = (None, to, None);
    for (kind, value) in attributes(rest) {
        match kind {
            RTA_OIF => index = Some(u32::from_ne_bytes(value.try_into().ok()?)),
            RTA_GATEWAY => addr = address(value)?,
            // Two octets of address family first.
            RTA_VIA => addr = address(value.get(2..)?)?,
            RTA_METRICS => {
                let metric = attributes(value).find(|(kind, _)| *kind == RTAX_MTU);
                mtu = metric.and_then(|(_, value)| value.try_into().ok()).map(u32::from_ne_bytes);
            }
            RTA_ENCAP => return None,
            _ => {}
        }
    }
    Some(NextHop { index: index?, addr, mtu: mtu.filter(|mtu| *mtu > 0) })
}

pub(super) fn parse_neighbour(reply: &Reply) -> Option<Neighbour> {
    if reply.kind != RTM_NEWNEIGH {
        return None;
    }
    let (header, rest) = reply.payload.split_first_chunk::<HEADER_LEN>()?;
    let state = u16::from_ne_bytes([header[8], header[9]]);
    let mac = attributes(rest).find(|(kind, _)| *kind == NDA_LLADDR);
    let mac = mac.and_then(|(_, value)| value.try_into().ok().map(MacAddr)).filter(|m| m.is_unicast())?;
    if state & (NUD_REACHABLE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT) != 0 {
        Some(Neighbour::Known(mac))
    } else if state & NUD_STALE != 0 {
        Some(Neighbour::Stale(mac))
    } else {
        Some(Neighbour::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::netlink::request::nested;
    use alloc::vec::Vec;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn routes() {
        let to = ip("10.1.0.2");
        let reply = |kind: u8, attributes: &[(u16, &[u8])]| {
            let mut payload = alloc::vec![0; HEADER_LEN];
            payload[7] = kind;
            payload.extend(nested(attributes));
            Reply { kind: RTM_NEWROUTE, payload }
        };
        let (oif, gateway) = ((RTA_OIF, &7u32.to_ne_bytes()[..]), (RTA_GATEWAY, &[10, 9, 0, 1][..]));
        let hop = |addr: &str| Some(NextHop { index: 7, addr: ip(addr), mtu: None });
        assert_eq!(parse_route(&reply(RTN_UNICAST, &[oif]), to), hop("10.1.0.2"));
        assert_eq!(parse_route(&reply(RTN_UNICAST, &[oif, gateway]), to), hop("10.9.0.1"));
        let via: Vec<u8> = [&[10, 0][..], &[0; 15], &[1]].concat();
        assert_eq!(parse_route(&reply(RTN_UNICAST, &[oif, (RTA_VIA, &via)]), to), hop("::1"));
        let metrics = nested(&[(RTAX_MTU, &1400u32.to_ne_bytes())]);
        let narrow = parse_route(&reply(RTN_UNICAST, &[oif, (RTA_METRICS, &metrics)]), to);
        assert_eq!(narrow.and_then(|hop| hop.mtu), Some(1400));
        assert_eq!(parse_route(&reply(RTN_UNICAST, &[gateway]), to), None, "no interface");
        assert_eq!(parse_route(&reply(2, &[oif]), to), None, "a local address");
        assert_eq!(parse_route(&reply(RTN_UNICAST, &[oif, (RTA_ENCAP, &[])]), to), None);
        let whole = reply(RTN_UNICAST, &[oif, gateway]);
        for cut in 0..whole.payload.len() {
            let _ = parse_route(&Reply { payload: whole.payload[..cut].to_vec(), ..whole.clone() }, to);
        }
    }

    #[test]
    fn neighbours() {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let parse = |state: u16, lladdr: &[u8]| {
            let mut payload = alloc::vec![0; HEADER_LEN];
            payload[8..10].copy_from_slice(&state.to_ne_bytes());
            payload.extend(nested(&[(NDA_DST, &[10, 1, 0, 2]), (NDA_LLADDR, lladdr)]));
            parse_neighbour(&Reply { kind: RTM_NEWNEIGH, payload })
        };
        for (state, want) in [
            (NUD_REACHABLE, Neighbour::Known(mac)),
            (NUD_PERMANENT, Neighbour::Known(mac)),
            (NUD_DELAY, Neighbour::Known(mac)),
            (NUD_PROBE, Neighbour::Known(mac)),
            (NUD_STALE, Neighbour::Stale(mac)),
            (0x20, Neighbour::Unknown),
            (0x01, Neighbour::Unknown),
        ] {
            assert_eq!(parse(state, &mac.0), Some(want), "{state:#x}");
        }
        assert_eq!(parse(NUD_REACHABLE, &[1, 2, 3]), None, "not an Ethernet address");
        assert_eq!(parse(NUD_REACHABLE, &[0; 6]), None, "a device without addresses");
    }

    #[test]
    fn the_way_to_oneself_leaves_by_no_interface() {
        let mut route = Route::open().unwrap();
        let end = |text: &str| SocketAddr::new(ip(text), 4789);
        assert_eq!(route.next_hop(end("127.0.0.1"), end("127.0.0.2"), 0).unwrap(), None);
        let lo = NextHop { index: 1, addr: ip("127.0.0.9"), mtu: None };
        assert_eq!(route.neighbour(&lo).unwrap(), Neighbour::Unknown);
    }
}
