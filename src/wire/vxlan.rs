//! VXLAN headers (RFC 7348, section 5) and the Group Policy extension
//! (draft-smith-vxlan-group-policy-05).

use crate::addr::Vni;
use crate::error::{DropReason, Layer, ParseError};

/// Octets of the header.
pub const HEADER_LEN: usize = 8;

/// The UDP port that IANA assigned to VXLAN.
pub const PORT: u16 = 4789;

/// The UDP port that Linux used before, and that flannel uses still.
pub const PORT_LINUX: u16 = 8472;

/// The I flag, in the first octet: the VNI is valid.
const FLAG_I: u8 = 0x08;
/// The G flag, in the first octet: a group policy is present.
const FLAG_G: u8 = 0x80;
/// The D flag, in the second octet: do not learn the source.
const FLAG_D: u8 = 0x40;
/// The A flag, in the second octet: the policy was applied already.
const FLAG_A: u8 = 0x08;

/// Bits that RFC 7348 gives a meaning: I and the VNI.
const BASE_BITS: u64 = 0x0800_0000_ffff_ff00;
/// Bits that the Group Policy extension adds: G, D, A and the group.
const GROUP_BITS: u64 = 0x8048_ffff_0000_0000;

/// The group policy of a frame (draft-smith-vxlan-group-policy-05, section 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct GroupPolicy {
    /// The group of the source.
    pub id: u16,
    /// The D flag: the egress VTEP must not learn the source address.
    pub dont_learn: bool,
    /// The A flag: the policy has been applied already.
    pub applied: bool,
}

/// What to do about reserved bits of received headers. They are always sent as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReservedBits {
    /// Ignore them (RFC 7348, section 5).
    #[default]
    Ignore,
    /// Every bit but the I flag and the VNI must be zero; with [`VxlanPolicy::group_policy`], the
    /// G, D and A flags and the group may be set too.
    Strict,
    /// None of these bits of the header's 8 octets, taken as a big-endian number, may be set
    /// (Linux: `IFLA_VXLAN_RESERVED_BITS`). A mask that names the I flag refuses every packet.
    Mask(u64),
}

/// How received VXLAN headers are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VxlanPolicy {
    /// What to do about reserved bits.
    pub reserved: ReservedBits,
    /// Whether the Group Policy extension is read (Linux: `gbp`).
    pub group_policy: bool,
}

impl VxlanPolicy {
    /// The bits that must not be set.
    #[inline]
    const fn forbidden(&self) -> u64 {
        match self.reserved {
            ReservedBits::Ignore => 0,
            ReservedBits::Strict if self.group_policy => !(BASE_BITS | GROUP_BITS),
            ReservedBits::Strict => !BASE_BITS,
            ReservedBits::Mask(mask) => mask,
        }
    }

    /// What is read as a VNI and nothing more.
    pub(crate) const fn plain(&self) -> PlainVxlan {
        let group = if self.group_policy { (FLAG_G as u64) << 56 } else { 0 };
        PlainVxlan { mask: self.forbidden() | PlainVxlan::I | group }
    }
}

/// A policy's view of headers without a group policy, worked out beforehand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainVxlan {
    /// Of these bits the I flag alone is set.
    mask: u64,
}

impl PlainVxlan {
    const I: u64 = (FLAG_I as u64) << 56;

    /// The VNI, where [`VxlanHeader::parse`] finds no group policy and nothing wrong.
    #[inline(always)]
    pub(crate) fn read(self, h: &[u8; HEADER_LEN]) -> Option<Vni> {
        let word = u64::from_be_bytes(*h);
        if word & self.mask != Self::I {
            return None;
        }
        Some(Vni::truncate((word >> 8) as u32 & Vni::MAX.get()))
    }
}

/// A VXLAN header.
///
/// ```
/// use overlane::addr::Vni;
/// use overlane::wire::vxlan::{VxlanHeader, VxlanPolicy};
/// let bytes = VxlanHeader::emit(Vni::truncate(42), None);
/// assert_eq!(bytes, [0x08, 0, 0, 0, 0, 0, 42, 0]);
/// assert_eq!(VxlanHeader::parse(&bytes, &VxlanPolicy::default())?.vni.get(), 42);
/// # Ok::<(), overlane::error::ParseError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VxlanHeader {
    /// The network identifier.
    pub vni: Vni,
    /// The first octet as received.
    pub flags: u8,
    /// The group policy, where the extension is read and the G flag is set.
    pub group: Option<GroupPolicy>,
}

impl VxlanHeader {
    /// Reads the header at the start of `bytes`.
    ///
    /// # Errors
    ///
    /// - [`Truncated`](DropReason::Truncated): fewer than 8 octets.
    /// - [`NoVniFlag`](DropReason::NoVniFlag): the I flag is clear.
    /// - [`ReservedBits`](DropReason::ReservedBits): the policy forbids a bit that is set, at the
    ///   offset of its octet.
    #[inline]
    pub fn parse(bytes: &[u8], policy: &VxlanPolicy) -> Result<VxlanHeader, ParseError> {
        let error = |reason, offset| ParseError::new(Layer::Vxlan, reason, offset);
        let Some(h) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(error(DropReason::Truncated, 0));
        };
        if h[0] & FLAG_I == 0 {
            return Err(error(DropReason::NoVniFlag, 0));
        }
        let set = u64::from_be_bytes(*h) & policy.forbidden();
        if set != 0 {
            return Err(error(DropReason::ReservedBits, (set.leading_zeros() / 8) as usize));
        }
        let group = (policy.group_policy && h[0] & FLAG_G != 0).then(|| GroupPolicy {
            id: u16::from_be_bytes([h[2], h[3]]),
            dont_learn: h[1] & FLAG_D != 0,
            applied: h[1] & FLAG_A != 0,
        });
        Ok(VxlanHeader { vni: Vni::truncate(u32::from_be_bytes([0, h[4], h[5], h[6]])), flags: h[0], group })
    }

    /// The header's octets: the I flag, the VNI, the group policy if given, every other bit zero.
    #[inline]
    pub const fn emit(vni: Vni, group: Option<GroupPolicy>) -> [u8; HEADER_LEN] {
        let mut word = ((FLAG_I as u64) << 56) | ((vni.get() as u64) << 8);
        if let Some(g) = group {
            word |= ((FLAG_G as u64) << 56) | ((g.id as u64) << 32);
            if g.dont_learn {
                word |= (FLAG_D as u64) << 48;
            }
            if g.applied {
                word |= (FLAG_A as u64) << 48;
            }
        }
        word.to_be_bytes()
    }
}
