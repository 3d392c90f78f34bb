//! The overlay network engine that other programs embed.
//!
//! overlane decides what happens to every frame of a VXLAN overlay: a `no_std` core holds the
//! tables (VNIs, learned MACs, routes, VTEPs), reads and writes the headers, and answers with a
//! verdict; the host, or one of the backends here, carries the packets.
//!
//! The rooms, from the ground up; each may use only those below it:
//!
//! - [`addr`], [`time`], [`error`]: addresses and ids, the clock's reading, errors and drop reasons.
//! - [`wire`]: bytes to headers and back. No state.
//! - [`table`]: state that knows no packets.
//! - [`engine`]: joins the two; frames in, verdicts out.
//! - `linux` (feature `linux`): TAP devices, UDP sockets and the loop that joins them to an engine.
//! - `smoltcp` (feature `smoltcp`): a pod inside the process, on an engine port.
#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(not(feature = "linux"), forbid(unsafe_code))]
#![cfg_attr(feature = "linux", deny(unsafe_code))]
#![warn(unreachable_pub)]
#![warn(clippy::std_instead_of_core, clippy::std_instead_of_alloc, clippy::alloc_instead_of_core)]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod addr;
pub mod engine;
pub mod error;
#[cfg(all(feature = "linux", target_os = "linux"))]
pub mod linux;
#[cfg(feature = "smoltcp")]
pub mod smoltcp;
pub mod table;
pub mod time;
pub mod wire;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
