//! UDP headers (RFC 768).

use crate::error::{DropReason, Layer, ParseError};

/// Octets of the header.
pub const HEADER_LEN: usize = 8;

/// A UDP header.
///
/// ```
/// use overlane::wire::udp::UdpHeader;
/// let header = UdpHeader { src_port: 49152, dst_port: 4789, length: 8, checksum: 0 };
/// assert_eq!(UdpHeader::parse(&header.emit()), Ok(header));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpHeader {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Octets of header and payload as the field says them: 0 in a superframe above 65,535.
    pub length: u16,
    /// The checksum as received; 0 is "none".
    pub checksum: u16,
}

impl UdpHeader {
    /// Reads the header at the start of `datagram`, the payload of an IP packet.
    ///
    /// # Errors
    ///
    /// [`Truncated`](DropReason::Truncated): the slice ends before the header or the length;
    /// [`BadLength`](DropReason::BadLength): a length below 8. Zero is accepted where the slice
    /// exceeds 65,535 octets (see [superframes](super#superframes)).
    #[inline]
    pub fn parse(datagram: &[u8]) -> Result<UdpHeader, ParseError> {
        let error = |reason, offset| ParseError::new(Layer::Udp, reason, offset);
        let Some(h) = datagram.first_chunk::<HEADER_LEN>() else {
            return Err(error(DropReason::Truncated, 0));
        };
        let length = u16::from_be_bytes([h[4], h[5]]);
        if usize::from(length) > datagram.len() {
            return Err(error(DropReason::Truncated, 4));
        }
        let superframe = length == 0 && datagram.len() > usize::from(u16::MAX);
        if usize::from(length) < HEADER_LEN && !superframe {
            return Err(error(DropReason::BadLength, 4));
        }
        Ok(UdpHeader {
            src_port: u16::from_be_bytes([h[0], h[1]]),
            dst_port: u16::from_be_bytes([h[2], h[3]]),
            length,
            checksum: u16::from_be_bytes([h[6], h[7]]),
        })
    }

    /// Octets of header and payload in a slice of `available` octets: the length, or all of the
    /// slice for a superframe.
    #[inline]
    pub const fn datagram_len(&self, available: usize) -> usize {
        if self.length == 0 { available } else { self.length as usize }
    }

    /// The header's octets.
    pub const fn emit(&self) -> [u8; HEADER_LEN] {
        let (s, d) = (self.src_port.to_be_bytes(), self.dst_port.to_be_bytes());
        let (l, c) = (self.length.to_be_bytes(), self.checksum.to_be_bytes());
        [s[0], s[1], d[0], d[1], l[0], l[1], c[0], c[1]]
    }
}
