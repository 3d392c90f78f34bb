//! ARP for IPv4 over Ethernet (RFC 826).

use core::net::Ipv4Addr;

use crate::addr::MacAddr;
use crate::error::{DropReason, Layer, ParseError};

/// Octets of an Ethernet/IPv4 ARP packet.
pub const LEN: usize = 28;

/// Operation "who has".
pub const REQUEST: u16 = 1;

/// Operation "is at".
pub const REPLY: u16 = 2;

/// Hardware type Ethernet, protocol type IPv4, address lengths 6 and 4.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// An Ethernet/IPv4 ARP packet. Only its form is checked, not its addresses or its operation.
///
/// ```
/// use core::net::Ipv4Addr;
/// use overlane::addr::MacAddr;
/// use overlane::wire::arp::{self, ArpPacket};
/// let who_has = ArpPacket {
///     op: arp::REQUEST,
///     sender_mac: MacAddr([2, 0, 0, 0, 0, 1]),
///     sender_ip: Ipv4Addr::new(10, 244, 1, 2),
///     target_mac: MacAddr::ZERO,
///     target_ip: Ipv4Addr::new(10, 244, 1, 1),
/// };
/// assert_eq!(ArpPacket::parse(&who_has.emit()), Ok(who_has));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArpPacket {
    /// The operation: [`REQUEST`], [`REPLY`] or another.
    pub op: u16,
    /// The sender's MAC address.
    pub sender_mac: MacAddr,
    /// The sender's IPv4 address; unspecified in a probe (RFC 5227, section 1.1).
    pub sender_ip: Ipv4Addr,
    /// The target's MAC address; means nothing in a request.
    pub target_mac: MacAddr,
    /// The target's IPv4 address.
    pub target_ip: Ipv4Addr,
}

impl ArpPacket {
    /// Reads the packet at the start of `bytes`; what follows it (padding) is ignored.
    ///
    /// # Errors
    ///
    /// [`Truncated`](DropReason::Truncated) below [`LEN`] octets; [`BadArp`](DropReason::BadArp)
    /// when it is not Ethernet/IPv4, at the offset of the first field that says so.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<ArpPacket, ParseError> {
        let error = |reason, offset| ParseError::new(Layer::Arp, reason, offset);
        let Some(p) = bytes.first_chunk::<LEN>() else {
            return Err(error(DropReason::Truncated, 0));
        };
        if [p[0], p[1], p[2], p[3], p[4], p[5]] != ETHERNET_IPV4 {
            let offset = match (u16::from_be_bytes([p[0], p[1]]), u16::from_be_bytes([p[2], p[3]]), p[4]) {
                (1, 0x0800, 6) => 5,
                (1, 0x0800, _) => 4,
                (1, _, _) => 2,
                _ => 0,
            };
            return Err(error(DropReason::BadArp, offset));
        }
        Ok(ArpPacket {
            op: u16::from_be_bytes([p[6], p[7]]),
            sender_mac: MacAddr([p[8], p[9], p[10], p[11], p[12], p[13]]),
            sender_ip: Ipv4Addr::new(p[14], p[15], p[16], p[17]),
            target_mac: MacAddr([p[18], p[19], p[20], p[21], p[22], p[23]]),
            target_ip: Ipv4Addr::new(p[24], p[25], p[26], p[27]),
        })
    }

    /// The packet's octets.
    pub const fn emit(&self) -> [u8; LEN] {
        let [o0, o1] = self.op.to_be_bytes();
        let (sm, si) = (self.sender_mac.0, self.sender_ip.octets());
        let (tm, ti) = (self.target_mac.0, self.target_ip.octets());
        [
            0, 1, 8, 0, 6, 4, o0, o1, //
            sm[0], sm[1], sm[2], sm[3], sm[4], sm[5], si[0], si[1], si[2], si[3], //
            tm[0], tm[1], tm[2], tm[3], tm[4], tm[5], ti[0], ti[1], ti[2], ti[3],
        ]
    }
}
