//! What overlane's tests and its lab need around the library: network namespaces that come and go
//! with a value, kernel peers (veth, bridge, vxlan) made over rtnetlink, traffic with known results,
//! captures, and tests that run each in a process of its own and say when they are skipped.
//!
//! Linux only; no root needed where user namespaces are allowed. Not published.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

pub mod capture;
pub mod ethtool;
mod netlink;
pub mod netns;
pub mod pcapng;
pub mod probe;
pub mod rtnl;
pub mod skip;
pub mod suite;

pub use netns::NetNs;
pub use skip::Skip;
