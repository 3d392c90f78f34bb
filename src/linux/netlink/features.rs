//! What a device can do by itself: its active features, over ethtool's generic netlink, which
//! anybody may ask.

use alloc::string::String;
use alloc::vec::Vec;

use netlink_sys::protocols::NETLINK_GENERIC;

use super::request::{Request, nested};
use super::socket::{Socket, attributes};
use crate::linux::error::Error;
use crate::linux::link::by_index;

/// `linux/genetlink.h`: the family that knows the others.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// `struct genlmsghdr`.
const HEADER_LEN: usize = 4;

/// `linux/ethtool_netlink.h`.
const FEATURES_GET: u8 = 11;
const HEADER: u16 = 1;
const DEVICE_INDEX: u16 = 1;
const ACTIVE: u16 = 4;
const BITS: u16 = 3;
const BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const NESTED: u16 = 0x8000;

/// A conversation with ethtool about the devices of the namespace in which it was opened.
#[derive(Debug)]
pub(in crate::linux) struct Features {
    socket: Socket,
    family: u16,
}

impl Features {
    pub(in crate::linux) fn open() -> Result<Features, Error> {
        let mut socket = Socket::open(NETLINK_GENERIC)?;
        let request = Request::new(CONTROL, &[GET_FAMILY, 1, 0, 0]).with(FAMILY_NAME, b"ethtool\0");
        let replies = socket.ask("find", "ethtool's netlink family", request, 0)?;
        let id = replies.iter().find_map(|reply| {
            let id = attributes(reply.payload.get(HEADER_LEN..)?).find(|(kind, _)| *kind == FAMILY_ID)?;
            id.1.try_into().ok().map(u16::from_ne_bytes)
        });
        let family =
            id.ok_or_else(|| Error::refused("find", "ethtool's netlink family", "the kernel has none"))?;
        Ok(Features { socket, family })
    }

    /// The names (as `ethtool -k` has them) of what the device does now.
    pub(in crate::linux) fn active(&mut self, index: u32) -> Result<Vec<String>, Error> {
        let header = nested(&[(DEVICE_INDEX, &index.to_ne_bytes())]);
        let request = Request::new(self.family, &[FEATURES_GET, 1, 0, 0]).with(NESTED | HEADER, &header);
        let replies = self.socket.ask("read the features of", &by_index(index), request, 0)?;
        Ok(replies.iter().flat_map(|reply| parse(&reply.payload)).collect())
    }
}

fn parse(payload: &[u8]) -> Vec<String> {
    let within = |bytes: &[u8], wanted: u16| -> Vec<u8> {
        let found = attributes(bytes).find(|(kind, _)| *kind == wanted);
        found.map(|(_, value)| value.to_vec()).unwrap_or_default()
    };
    let bits = within(&within(payload.get(HEADER_LEN..).unwrap_or_default(), ACTIVE), BITS);
    let names = attributes(&bits).filter(|(kind, _)| *kind == BIT).map(|(_, bit)| within(bit, BIT_NAME));
    names.map(|name| String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(&name)).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_active_features_by_name() {
        let bit = |name: &[u8]| nested(&[(1, &7u32.to_ne_bytes()), (BIT_NAME, name), (3, &[])]);
        let bits = nested(&[(BIT, &bit(b"tx-tcp-segmentation\0")), (BIT, &bit(b"rx-gro\0"))]);
        let set = nested(&[(1, &[]), (2, &64u32.to_ne_bytes()), (NESTED | BITS, &bits)]);
        let payload = [&[FEATURES_GET, 1, 0, 0][..], &nested(&[(2, &set), (NESTED | ACTIVE, &set)])].concat();
        assert_eq!(parse(&payload), ["tx-tcp-segmentation", "rx-gro"]);
        for cut in 0..payload.len() {
            let _ = parse(&payload[..cut]);
        }
        assert_eq!(parse(&[1, 2]), [""; 0]);
    }

    #[test]
    fn loopback_has_features_and_nobody_needs_rights_to_know() {
        let names = std::thread::spawn(|| {
            crate::linux::Privileges::default().give_up().unwrap();
            Features::open().unwrap().active(1).unwrap()
        });
        assert!(names.join().unwrap().iter().any(|name| name == "tx-tcp-segmentation"));
    }
}
