//! Explicit congestion notification across the tunnel (RFC 6040).
//!
//! A codepoint is the low two bits of an IPv4 type of service or an IPv6 traffic class.

use super::inner::{Inner, Network};
use super::{ipv4, ipv6};

/// The sender does not speak ECN.
pub const NOT_ECT: u8 = 0b00;
/// ECN-capable transport, codepoint 1.
pub const ECT1: u8 = 0b01;
/// ECN-capable transport, codepoint 0.
pub const ECT0: u8 = 0b10;
/// Congestion experienced.
pub const CE: u8 = 0b11;

/// What becomes of the inner header at the tunnel's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ecn {
    /// It stays as it is.
    Keep,
    /// It takes this codepoint.
    Set(u8),
    /// The packet is dropped: congestion was signalled to a sender that cannot hear it.
    Drop,
}

/// The outer codepoint of a packet that enters the tunnel (RFC 6040, section 4.1, normal mode): the
/// inner one. Upper bits of `inner` are ignored, so a whole type of service octet will do.
#[inline]
pub const fn encapsulate(inner: u8) -> u8 {
    inner & CE
}

/// What the outer codepoint does to the inner one at the tunnel's end (RFC 6040, section 4.2,
/// figure 4). Upper bits are ignored.
///
/// ```
/// use overlane::wire::ecn::{self, Ecn, CE, ECT0, NOT_ECT};
/// assert_eq!(ecn::decapsulate(ECT0, CE), Ecn::Set(CE));
/// assert_eq!(ecn::decapsulate(NOT_ECT, CE), Ecn::Drop);
/// ```
#[inline]
pub const fn decapsulate(inner: u8, outer: u8) -> Ecn {
    match (inner & CE, outer & CE) {
        (NOT_ECT, CE) => Ecn::Drop,
        (ECT0 | ECT1, CE) => Ecn::Set(CE),
        (ECT0, ECT1) => Ecn::Set(ECT1),
        _ => Ecn::Keep,
    }
}

/// Writes a codepoint into the IP header of `frame`, whose headers are `inner`, and updates an IPv4
/// checksum. `None`, with nothing written, where there is no IP header or the frame is too short.
#[inline]
pub fn set(frame: &mut [u8], inner: &Inner, codepoint: u8) -> Option<()> {
    let packet = frame.get_mut(usize::from(inner.ethernet.payload_offset)..)?;
    match inner.network {
        Network::Ipv4(_) => ipv4::set_ecn(packet, codepoint),
        Network::Ipv6(..) => ipv6::set_ecn(packet, codepoint),
        _ => None,
    }
}
