//! IPv6 headers and the extension headers behind them (RFC 8200).

use core::net::Ipv6Addr;

use crate::error::{DropReason, Layer, ParseError};

/// Octets of the fixed header.
pub const HEADER_LEN: usize = 40;

/// How many extension headers are skipped. No real packet has as many; a forged one may not cost more.
pub const MAX_EXTENSIONS: usize = 8;

/// Next header values of extension headers (RFC 8200, section 4).
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION: u8 = 60;
}

/// The fixed IPv6 header.
///
/// ```
/// use core::net::Ipv6Addr;
/// use overlane::wire::ipv6::{Ipv6Header, skip_extensions};
/// let header = Ipv6Header {
///     src: Ipv6Addr::LOCALHOST,
///     dst: Ipv6Addr::LOCALHOST,
///     traffic_class: 0,
///     flow_label: 0,
///     payload_len: 0,
///     hop_limit: 64,
///     next_header: 59,
/// };
/// let packet = header.emit();
/// assert_eq!(Ipv6Header::parse(&packet), Ok(header));
/// let payload = skip_extensions(&packet, &header)?;
/// assert_eq!((payload.protocol, payload.offset), (59, 40));
/// # Ok::<(), overlane::error::ParseError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Header {
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// The traffic class: DSCP in the upper six bits, ECN in the lower two.
    pub traffic_class: u8,
    /// The flow label (20 bits).
    pub flow_label: u32,
    /// Octets behind the fixed header as the field says them: 0 in a superframe above 65,535.
    pub payload_len: u16,
    /// Hop limit.
    pub hop_limit: u8,
    /// The first next header value; [`skip_extensions`] finds the upper layer's.
    pub next_header: u8,
}

/// A fragment header (RFC 8200, section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Where this fragment belongs in its datagram, in units of 8 octets (13 bits).
    pub offset: u16,
    /// Another fragment follows this one.
    pub more: bool,
    /// Identification, shared by the fragments of one datagram.
    pub id: u32,
    /// The header that the fragmented part starts with, the same in all fragments of a datagram.
    pub next_header: u8,
}

impl Fragment {
    /// Whether the packet is one of several fragments. Offset zero with nothing to follow is an
    /// "atomic fragment", a whole datagram (RFC 6946).
    #[inline]
    pub const fn is_partial(&self) -> bool {
        self.offset != 0 || self.more
    }
}

/// What is behind an IPv6 header and its extension headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Payload {
    /// The next header value of what is at `offset`: the upper layer's protocol, ESP, none (59), or
    /// in a later fragment what the fragmented part started with.
    pub protocol: u8,
    /// Octets from the start of the IPv6 header.
    pub offset: u16,
    /// The fragment header on the way, if any. Of several (RFC 8200, section 4.1, means one) the last
    /// [partial](Fragment::is_partial) one, or, where none is, the last.
    pub fragment: Option<Fragment>,
}

impl Ipv6Payload {
    /// Whether the packet is one of several fragments, the first included.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment.is_some_and(|f| f.is_partial())
    }
}

const fn error(reason: DropReason, offset: usize) -> ParseError {
    ParseError::new(Layer::Ipv6, reason, offset)
}

impl Ipv6Header {
    /// Reads the fixed header at the start of `packet`. Octets behind the payload length (Ethernet
    /// padding) are allowed.
    ///
    /// # Errors
    ///
    /// [`Truncated`](DropReason::Truncated): the slice ends before the header or the payload
    /// length; [`BadVersion`](DropReason::BadVersion): the version is not 6.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Ipv6Header, ParseError> {
        let Some((h, rest)) = packet.split_first_chunk::<HEADER_LEN>() else {
            return Err(error(DropReason::Truncated, 0));
        };
        if h[0] >> 4 != 6 {
            return Err(error(DropReason::BadVersion, 0));
        }
        let payload_len = u16::from_be_bytes([h[4], h[5]]);
        if usize::from(payload_len) > rest.len() {
            return Err(error(DropReason::Truncated, 4));
        }
        Ok(Ipv6Header {
            src: address([
                h[8], h[9], h[10], h[11], h[12], h[13], h[14], h[15], h[16], h[17], h[18], h[19], h[20],
                h[21], h[22], h[23],
            ]),
            dst: address([
                h[24], h[25], h[26], h[27], h[28], h[29], h[30], h[31], h[32], h[33], h[34], h[35], h[36],
                h[37], h[38], h[39],
            ]),
            traffic_class: (h[0] << 4) | (h[1] >> 4),
            flow_label: u32::from_be_bytes([0, h[1] & 0x0f, h[2], h[3]]),
            payload_len,
            hop_limit: h[7],
            next_header: h[6],
        })
    }

    /// Octets of the whole packet, fixed header included, in a slice of `available` octets: by the
    /// payload length, or all of the slice for a [superframe](super#superframes).
    #[inline]
    pub const fn packet_len(&self, available: usize) -> usize {
        if self.payload_len == 0 && available > HEADER_LEN + u16::MAX as usize {
            available
        } else {
            HEADER_LEN + self.payload_len as usize
        }
    }

    /// The header's octets; of [`flow_label`](Self::flow_label) the low 20 bits count.
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let mut h = [0; HEADER_LEN];
        let word = (6 << 28) | (u32::from(self.traffic_class) << 20) | (self.flow_label & 0x000f_ffff);
        let (head, addresses) = h.split_at_mut(8);
        let len = self.payload_len.to_be_bytes();
        let w = word.to_be_bytes();
        head.copy_from_slice(&[w[0], w[1], w[2], w[3], len[0], len[1], self.next_header, self.hop_limit]);
        let (src, dst) = addresses.split_at_mut(16);
        src.copy_from_slice(&self.src.octets());
        dst.copy_from_slice(&self.dst.octets());
        h
    }
}

#[inline]
const fn address(octets: [u8; 16]) -> Ipv6Addr {
    Ipv6Addr::from_bits(u128::from_be_bytes(octets))
}

/// Walks the extension headers of `packet`, whose fixed header is `header`: hop-by-hop options,
/// routing, destination options, authentication and fragment. It stops at anything else, ESP and
/// "no next header" included, and behind the fragment header of a fragment other than the first.
///
/// # Errors
///
/// [`Truncated`](DropReason::Truncated): an extension header ends behind the payload length, at its
/// offset; [`TooManyExtensions`](DropReason::TooManyExtensions): more than [`MAX_EXTENSIONS`], at
/// the offset of the first too many.
#[inline]
pub fn skip_extensions(packet: &[u8], header: &Ipv6Header) -> Result<Ipv6Payload, ParseError> {
    let payload = Ipv6Payload { protocol: header.next_header, offset: HEADER_LEN as u16, fragment: None };
    if is_extension(payload.protocol) { walk(packet, header, payload) } else { Ok(payload) }
}

// Apart, so that the common case stays small where it is inlined.
#[inline(never)]
fn walk(packet: &[u8], header: &Ipv6Header, mut payload: Ipv6Payload) -> Result<Ipv6Payload, ParseError> {
    let end = header.packet_len(packet.len());
    for _ in 0..MAX_EXTENSIONS {
        let offset = usize::from(payload.offset);
        let truncated = error(DropReason::Truncated, offset);
        let Some(rest) = packet.get(offset..end) else { return Err(truncated) };
        let Some(h) = rest.first_chunk::<8>() else { return Err(truncated) };
        let len = match payload.protocol {
            extension::FRAGMENT => {
                let field = u16::from_be_bytes([h[2], h[3]]);
                let fragment = Fragment {
                    offset: field >> 3,
                    more: field & 1 != 0,
                    id: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
                    next_header: h[0],
                };
                // Behind the header of one of several fragments, that of a whole datagram ends nothing.
                if fragment.is_partial() || !payload.is_fragment() {
                    payload.fragment = Some(fragment);
                }
                8
            }
            // RFC 4302, 2.2: in units of 4 octets, not counting the first two; RFC 8200, 4.3: of 8.
            extension::AUTHENTICATION => (u16::from(h[1]) + 2) * 4,
            _ => (u16::from(h[1]) + 1) * 8,
        };
        if usize::from(len) > rest.len() {
            return Err(truncated);
        }
        payload.protocol = h[0];
        // At most 8 times 2048 octets, so this cannot wrap.
        payload.offset = payload.offset.wrapping_add(len);
        let later = payload.fragment.is_some_and(|f| f.offset != 0);
        if later || !is_extension(payload.protocol) {
            return Ok(payload);
        }
    }
    Err(error(DropReason::TooManyExtensions, usize::from(payload.offset)))
}

const fn is_extension(next_header: u8) -> bool {
    use extension::*;
    matches!(next_header, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION)
}

/// Lowers the hop limit of the header at the start of `packet` by one and gives the new one.
///
/// `None`, with nothing written, where it is 0 or 1 or no header fits.
#[inline]
pub fn decrement_hop_limit(packet: &mut [u8]) -> Option<u8> {
    let h = packet.first_chunk_mut::<HEADER_LEN>()?;
    if h[7] <= 1 {
        return None;
    }
    h[7] = h[7].wrapping_sub(1);
    Some(h[7])
}

/// Writes the low two bits of `ecn` as the ECN field of the header at the start of `packet`. `None`
/// where no header fits.
#[inline]
pub fn set_ecn(packet: &mut [u8], ecn: u8) -> Option<()> {
    let h = packet.first_chunk_mut::<HEADER_LEN>()?;
    h[1] = (h[1] & !0x30) | ((ecn & 3) << 4);
    Some(())
}
