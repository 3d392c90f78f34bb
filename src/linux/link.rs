//! What the backend must know of an interface.

use alloc::string::{String, ToString};

use crate::addr::MacAddr;

/// An interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The interface index.
    pub index: u32,
    /// The interface name.
    pub name: String,
    /// The MTU in octets: what follows the Ethernet header.
    pub mtu: u32,
    /// The MAC address, if it has one of 6 octets.
    pub mac: Option<MacAddr>,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
}

/// `interface 7`, for messages.
pub(super) fn by_index(index: u32) -> String {
    let mut text = "interface ".to_string();
    text.push_str(&index.to_string());
    text
}
