//! The Linux backend: TAP devices for the pods, UDP sockets for the underlay, and the rtnetlink
//! that they need; and [`Driver`], which joins them to an engine.
//!
//! [`Tunnel`] sends superframes whole where the kernel can; [`Probe`] says what it can, and
//! [`Privileges`] gives up the rights that only setting up takes.
//!
//! Everything here is non-blocking and shaped for one thread with a readiness loop: [`Poll`] over any
//! number of [`Tap`]s and [`Underlay`]s, then read each ready one until it answers `None`. A packet
//! that the kernel does not take is no error but a [`Refused`], for the caller to count; every other
//! failure of a call here is an [`Error`], which names the operation, the object and the errno, and
//! says what would help.
//!
//! A device or socket belongs to the network namespace of the thread that opened it. Descriptors may
//! come from outside: [`Tap::from_fd`], [`Underlay::from_socket`].
//!
//! The `unsafe` code is all in `sys.rs` and the folder of that name; the netlink message types stay private.

mod driver;
mod error;
mod ladder;
mod link;
mod links;
mod netlink;
pub mod offload;
mod poll;
mod privilege;
mod probe;
mod sys;
mod tap;
mod tunnel;
mod udp;

pub use self::driver::{Driver, DriverConfig, DriverCounters, Turn, Workers};
pub use self::error::{Error, Refused};
pub use self::ladder::{Feature, Finding, Offload, UnknownOffload};
pub use self::link::Link;
pub use self::links::Links;
pub use self::offload::{Oversize, VirtioNetHeader};
pub use self::poll::Poll;
pub use self::privilege::Privileges;
pub use self::probe::Probe;
pub use self::tap::{Tap, TapCounters, TapOffloads};
pub use self::tunnel::{Tunnel, TunnelCounters};
pub use self::udp::{Datagram, UdpOffload, Underlay, UnderlayConfig, UnderlayCounters};

/// What became of a packet that was given to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a refused packet is to be counted as dropped"]
pub enum Sent {
    /// The kernel has it.
    Taken,
    /// It has it not.
    Refused(Refused),
}

/// A buffer of this size holds every frame and datagram, superframes included.
pub const BUFFER_LEN: usize = 65_536;
