//! What is known of a datagram between the passes of its batch.

use core::net::Ipv4Addr;

use crate::addr::{MacAddr, Vni, VtepId};
use crate::error::DropReason;
use crate::table::fdb::Crossing;
use crate::table::vni::VniIndex;

/// A datagram between the passes of its batch.
#[derive(Clone, Copy)]
pub(super) struct Lane {
    /// Where the inner frame lies in the packet.
    pub(super) start: u32,
    pub(super) end: usize,
    /// Of its VNI; none has the last one of all.
    pub(super) index: VniIndex,
    /// The VTEP that it came from.
    pub(super) peer: Option<VtepId>,
    /// Where it came from, as long as it is plain.
    pub(super) source: Ipv4Addr,
    /// Why it is not taken.
    pub(super) refused: Option<DropReason>,
    /// The ECN field to write into the inner IP header.
    pub(super) mark: Option<u8>,
    pub(super) learn: bool,
    /// The FDB is asked for its addresses together with those of the others.
    pub(super) asked: bool,
    /// A plain packet: neither its VTEP nor its VNI was looked up.
    pub(super) plain: bool,
}

impl Lane {
    pub(super) const NOTHING: Lane = Lane {
        start: 0,
        end: 0,
        index: NO_VNI,
        peer: None,
        source: Ipv4Addr::UNSPECIFIED,
        refused: None,
        mark: None,
        learn: false,
        asked: false,
        plain: false,
    };
}

/// The index of no VNI.
pub(super) const NO_VNI: VniIndex = VniIndex(u32::MAX);

/// A question about addresses that nobody has.
pub(super) const NOBODY: Crossing =
    Crossing { vni: Vni::truncate(0), source: MacAddr::ZERO, destination: MacAddr::ZERO };

const _: () = assert!(size_of::<Lane>() <= 32 && size_of::<Crossing>() == 16);
