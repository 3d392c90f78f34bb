//! Ethernet II headers, up to two VLAN tags seen through (IEEE 802.3, IEEE 802.1Q).

use crate::addr::MacAddr;
use crate::error::{DropReason, Layer, ParseError};

/// Octets of an untagged header: two addresses and the EtherType.
pub const HEADER_LEN: usize = 14;

/// Octets of one VLAN tag: TPID and tag control information.
pub const TAG_LEN: usize = 4;

/// How many VLAN tags are seen through.
pub const MAX_TAGS: usize = 2;

/// EtherTypes, in host order (IEEE 802 Numbers registry of IANA).
pub mod ethertype {
    /// IPv4 (RFC 894).
    pub const IPV4: u16 = 0x0800;
    /// ARP (RFC 826).
    pub const ARP: u16 = 0x0806;
    /// IPv6 (RFC 2464).
    pub const IPV6: u16 = 0x86dd;
    /// A customer VLAN tag (IEEE 802.1Q, C-TAG).
    pub const VLAN: u16 = 0x8100;
    /// A service VLAN tag (IEEE 802.1ad, S-TAG).
    pub const QINQ: u16 = 0x88a8;
}

/// A VLAN tag (IEEE 802.1Q-2018, 9.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanTag {
    /// The tag's own EtherType: [`ethertype::VLAN`] or [`ethertype::QINQ`].
    pub tpid: u16,
    /// Priority code point, 0 to 7.
    pub pcp: u8,
    /// Drop eligible indicator.
    pub dei: bool,
    /// VLAN identifier, 0 to 4095; 0 is a priority tag.
    pub vid: u16,
}

/// An Ethernet header with its tags.
///
/// ```
/// use overlane::wire::ethernet::{EthernetHeader, ethertype};
/// let mut frame = [0u8; 60];
/// frame[12..18].copy_from_slice(&[0x81, 0x00, 0x00, 0x2a, 0x08, 0x00]);
/// let header = EthernetHeader::parse(&frame)?;
/// assert_eq!(header.ethertype, ethertype::IPV4);
/// assert_eq!(header.vlan.map(|tag| tag.vid), Some(42));
/// assert_eq!(header.payload_offset, 18);
/// # Ok::<(), overlane::error::ParseError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EthernetHeader {
    /// Destination address.
    pub dst: MacAddr,
    /// Source address.
    pub src: MacAddr,
    /// The EtherType behind all tags; below 1536 it is an IEEE 802.3 length.
    pub ethertype: u16,
    /// The outermost tag.
    pub vlan: Option<VlanTag>,
    /// How many tags there are, 0 to [`MAX_TAGS`].
    pub tags: u8,
    /// Octets from the start of the frame to what the EtherType names: 14, 18 or 22.
    pub payload_offset: u16,
}

const fn error(reason: DropReason, offset: usize) -> ParseError {
    ParseError::new(Layer::Ethernet, reason, offset)
}

const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, ethertype::VLAN | ethertype::QINQ)
}

/// The tag control information and the EtherType behind it, of a tag whose TPID was just read.
#[inline]
fn tag(rest: &[u8], offset: usize) -> Result<([u8; TAG_LEN], &[u8]), ParseError> {
    match rest.split_first_chunk() {
        Some((tag, rest)) => Ok((*tag, rest)),
        None => Err(error(DropReason::Truncated, offset)),
    }
}

impl EthernetHeader {
    /// Reads the header at the start of `frame`.
    ///
    /// # Errors
    ///
    /// [`Truncated`](DropReason::Truncated) where the frame ends inside the header (offset 0) or a
    /// tag (the tag's offset); [`TooManyTags`](DropReason::TooManyTags) at the third tag.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<EthernetHeader, ParseError> {
        let Some((h, rest)) = frame.split_first_chunk::<HEADER_LEN>() else {
            return Err(error(DropReason::Truncated, 0));
        };
        let mut header = EthernetHeader {
            dst: MacAddr([h[0], h[1], h[2], h[3], h[4], h[5]]),
            src: MacAddr([h[6], h[7], h[8], h[9], h[10], h[11]]),
            ethertype: u16::from_be_bytes([h[12], h[13]]),
            vlan: None,
            tags: 0,
            payload_offset: 14,
        };
        if !is_tag(header.ethertype) {
            return Ok(header);
        }
        let (t, rest) = tag(rest, 12)?;
        let control = u16::from_be_bytes([t[0], t[1]]);
        header.vlan = Some(VlanTag {
            tpid: header.ethertype,
            pcp: (control >> 13) as u8,
            dei: control & 0x1000 != 0,
            vid: control & 0x0fff,
        });
        header.ethertype = u16::from_be_bytes([t[2], t[3]]);
        header.tags = 1;
        header.payload_offset = 18;
        if !is_tag(header.ethertype) {
            return Ok(header);
        }
        let (t, _) = tag(rest, 16)?;
        header.ethertype = u16::from_be_bytes([t[2], t[3]]);
        header.tags = 2;
        header.payload_offset = 22;
        if is_tag(header.ethertype) {
            return Err(error(DropReason::TooManyTags, 20));
        }
        Ok(header)
    }
}

/// Rewrites the addresses of `frame` in place; `None`, and nothing written, if it is shorter than
/// [`HEADER_LEN`].
#[inline]
pub fn set_macs(frame: &mut [u8], dst: MacAddr, src: MacAddr) -> Option<()> {
    let h = frame.first_chunk_mut::<HEADER_LEN>()?;
    let (d, s) = (dst.0, src.0);
    let old = *h;
    *h = [d[0], d[1], d[2], d[3], d[4], d[5], s[0], s[1], s[2], s[3], s[4], s[5], old[12], old[13]];
    Some(())
}
