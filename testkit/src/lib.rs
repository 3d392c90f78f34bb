//! What overlane's tests and its lab need around the library. Not published.
//!
//! [`fabric`] is a simulated underlay with engines and pods on it, and [`pcapng`] writes captures;
//! they run anywhere. The rest is for
//! Linux: network namespaces that come and go with a value, kernel peers (veth, bridge, vxlan) made
//! over rtnetlink, traffic with known results, captures, and tests that run each in a process of its
//! own and say when they are skipped. No root needed where user namespaces are allowed.
#![forbid(unsafe_code)]

pub mod fabric;
pub mod pcapng;

#[cfg(target_os = "linux")]
pub mod capture;
#[cfg(target_os = "linux")]
pub mod crowd;
#[cfg(target_os = "linux")]
pub mod ethtool;
#[cfg(target_os = "linux")]
mod netlink;
#[cfg(target_os = "linux")]
pub mod netns;
#[cfg(target_os = "linux")]
pub mod probe;
#[cfg(target_os = "linux")]
pub mod program;
#[cfg(target_os = "linux")]
pub mod relay;
#[cfg(target_os = "linux")]
pub mod rtnl;
#[cfg(target_os = "linux")]
pub mod skip;
#[cfg(target_os = "linux")]
pub mod suite;
#[cfg(target_os = "linux")]
pub mod transfer;

#[cfg(target_os = "linux")]
pub use netns::NetNs;
#[cfg(target_os = "linux")]
pub use skip::Skip;
