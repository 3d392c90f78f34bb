//! The interfaces of a network namespace: looked up, and set.

use alloc::format;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::error::Error;
use super::link::Link;
use super::netlink::Route;
use crate::addr::MacAddr;

/// The interfaces of one network namespace: that of the thread that called [`Links::open`].
#[derive(Debug)]
pub struct Links(Route);

impl Links {
    /// Opens an rtnetlink socket.
    pub fn open() -> Result<Links, Error> {
        Ok(Links(Route::open()?))
    }

    /// The interface of this name.
    pub fn get(&mut self, name: &str) -> Result<Link, Error> {
        self.0.link(name)
    }

    /// Every interface.
    pub fn list(&mut self) -> Result<Vec<Link>, Error> {
        self.0.links()
    }

    /// Brings an interface up. Needs `CAP_NET_ADMIN`, as do the calls below.
    pub fn set_up(&mut self, index: u32) -> Result<(), Error> {
        self.0.set_up(index)
    }

    /// Sets an interface's MTU in octets.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), Error> {
        self.0.set_mtu(index, mtu)
    }

    /// Sets how many packets an interface queues for sending. For a TAP those are the packets that
    /// wait for its reader.
    pub fn set_queue_len(&mut self, index: u32, packets: u32) -> Result<(), Error> {
        self.0.set_queue_len(index, packets)
    }

    /// Sets an interface's MAC address.
    pub fn set_mac(&mut self, index: u32, mac: MacAddr) -> Result<(), Error> {
        self.0.set_mac(index, mac)
    }

    /// Adds an address with its on-link prefix length. An IPv6 address is usable at once: duplicate
    /// address detection is skipped (`IFA_F_NODAD`), for the overlay has just been given it. One that is there already is
    /// `EEXIST`, with any rights.
    pub fn add_address(&mut self, index: u32, addr: IpAddr, prefix_len: u8) -> Result<(), Error> {
        let most = if addr.is_ipv4() { 32 } else { 128 };
        if prefix_len > most {
            let what = format!("{addr}/{prefix_len}");
            return Err(Error::refused("add address", what, "the prefix is longer than the address"));
        }
        self.0.add_address(index, addr, prefix_len)
    }
}
