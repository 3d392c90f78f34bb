//! Other implementations as oracles: what overlane writes, `etherparse` and `smoltcp` read as it was
//! meant, checksums included; what they write, overlane reads the same; and overlane's view of an
//! inner frame is that of `etherparse`, for whole and for damaged frames.

// A test has std; only the library must do without.
#![allow(clippy::std_instead_of_core)]

#[path = "oracle/inner.rs"]
mod inner;
#[path = "oracle/ours.rs"]
mod ours;
#[path = "oracle/theirs.rs"]
mod theirs;

use std::net::{Ipv4Addr, Ipv6Addr};

use overlane::addr::MacAddr;
use proptest::prelude::*;

fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(MacAddr)
}

fn v4() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from_bits)
}

fn v6() -> impl Strategy<Value = Ipv6Addr> {
    any::<u128>().prop_map(Ipv6Addr::from_bits)
}

/// Octets of many lengths, odd and even; small ones often.
fn octets(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..64),
        2 => prop::collection::vec(any::<u8>(), 0..1600),
        // Long ones by repetition, since drawing each octet would take most of the time.
        1 => (0..=max, any::<[u8; 13]>()).prop_map(|(len, seed)| seed.into_iter().cycle().take(len).collect()),
    ]
}
