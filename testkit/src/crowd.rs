//! A crowd of VTEPs that exist as source addresses alone: they fill a node's tables.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::io;
use std::net::UdpSocket;

use overlane::addr::{MacAddr, Vni};
use overlane::wire::vxlan::VxlanHeader;

/// VTEPs at consecutive addresses, and MAC addresses behind them in turn.
///
/// The addresses must be local where [`fill`](Crowd::fill) is called, as all of a prefix are with
/// [`Rtnl::add_local`](crate::rtnl::Rtnl::add_local).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowd {
    /// The address before the first one.
    pub base: Ipv4Addr,
    /// How many VTEPs.
    pub vteps: u32,
    /// How many MAC addresses in all.
    pub macs: u32,
}

impl Crowd {
    /// The address of VTEP `n`, from 0.
    pub fn addr(&self, n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(self.base.to_bits() + 1 + n))
    }

    /// The MAC address `n`, from 0; it is behind VTEP `n` modulo their number.
    pub fn mac(&self, n: u32) -> MacAddr {
        let [a, b, c, d] = n.to_be_bytes();
        MacAddr([2, 0xc0, a, b, c, d])
    }

    /// Sends the node at `to` one frame from each MAC address, to nobody in particular. Some may be
    /// lost, if the node is slow: it is for the caller to look and to do it again.
    pub fn fill(&self, to: SocketAddr, port: u16, vni: Vni) -> io::Result<()> {
        for vtep in 0..self.vteps {
            let socket = UdpSocket::bind((self.addr(vtep), port))?;
            for mac in (vtep..self.macs).step_by(self.vteps as usize) {
                let mut packet = VxlanHeader::emit(vni, None).to_vec();
                // An experimental EtherType (IEEE 802, 9.2.3), to an address that nobody has.
                packet.extend([2, 0xc1, 0, 0, 0, 1]);
                packet.extend(self.mac(mac).0);
                packet.extend([0x88, 0xb5]);
                packet.resize(8 + 60, 0);
                socket.send_to(&packet, to)?;
            }
            // A socket's buffer does not hold many VTEPs' frames.
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}
