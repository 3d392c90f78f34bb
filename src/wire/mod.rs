//! Bytes to headers and back; no state.
//!
//! One file for each header ([`ethernet`], [`arp`], [`ipv4`], [`ipv6`], [`udp`], [`vxlan`]), and
//! what the engine asks of several at once: [`outer`] parses the one outer shape of a received
//! packet, [`inner`] classifies the frame that a pod sent or a tunnel carried, [`template`] writes
//! prebuilt outer headers, [`ecn`] carries congestion marks across, [`reply`] builds the answers of
//! the slow path, [`checksum`] sums.
//!
//! A parser takes a slice that starts with its header and never panics, allocates or reads behind
//! the slice. The offset in a [`ParseError`](crate::error::ParseError) counts octets from the start
//! of that slice. Numbers in header structs are in host order.
//!
//! # Superframes
//!
//! A segmentation-offload superframe above 64 KiB (Linux: BIG TCP) has lengths that 16 bits cannot
//! say. Linux writes zero in their place. So a length of zero in IPv4, IPv6 and UDP headers means
//! "up to the end of the slice" where the slice is longer than the field could say, and is an error
//! or an empty payload elsewhere.

pub mod arp;
pub mod checksum;
pub mod ecn;
pub mod ethernet;
pub mod inner;
pub mod ipv4;
pub mod ipv6;
pub mod outer;
pub mod reply;
pub mod template;
pub mod udp;
pub mod vxlan;
