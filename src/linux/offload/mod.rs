//! Segmentation and checksum offload in user space: what a TAP hands over or takes as one superframe
//! goes over the underlay as single frames.
//!
//! Everything here is pure: bytes in, numbers and header octets out. No system call, and no
//! allocation after construction.
//!
//! - [`VirtioNetHeader`]: what stands before each frame on a TAP; what a frame that is written still
//!   needs. [`VirtioNetTunnelHeader`] is its form with tunnel segmentation.
//! - [`Superframe`]: a frame with `GSO_TCPV4`, `GSO_TCPV6` or `GSO_UDP_L4`, cut into segments by
//!   writing headers; the payload stays where it is.
//! - [`Merger`]: the frames of one receive batch, joined to superframes by the rules of the kernel's
//!   generic receive offload (GRO).
//! - [`Gro`]: whether what arrived as one is datagrams that the kernel merged, or one superframe.

mod flow;
mod gro;
mod merge;
mod segment;
mod virtio;

pub use self::gro::Gro;
pub use self::merge::{Full, Group, MAX_PARTS, Merger};
pub use self::segment::{MAX_HEADER_LEN, MAX_SEGMENTS, Malformed, Superframe};
pub use self::virtio::{Oversize, VirtioNetHeader, VirtioNetTunnelHeader};
