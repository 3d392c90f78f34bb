//! Device features, over ethtool's generic netlink.

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;

use crate::netlink::{Raw, Socket, attributes, push};
use crate::netns::NetNs;

/// Transmit checksum offload: off, and checksums are finished before a frame leaves the device.
pub const TX_CHECKSUM: &[&str] = &["tx-checksum-ip-generic"];
/// Segmentation offloads: off, and no frame leaves the device that is longer than its MTU.
pub const TX_SEGMENTATION: &[&str] = &[
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp6-segmentation",
    "tx-udp-segmentation",
    "tx-generic-segmentation",
];
/// Segmentation that the device would do, of tunnelled packets too. Off: the kernel cuts superframes
/// just before the device, as for a network card without offloads, and no frame on the wire is longer
/// than the MTU; the stack above still works on superframes.
pub const TX_DEVICE_SEGMENTATION: &[&str] = &[
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp6-segmentation",
    "tx-udp-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
    "tx-gre-segmentation",
    "tx-gre-csum-segmentation",
    "tx-ipxip4-segmentation",
    "tx-ipxip6-segmentation",
];
/// Merging of received segments.
pub const RX_MERGING: &[&str] = &["rx-gro"];

/// Turns features of a device in `ns` on or off, by the kernel's names (`ethtool -k`). Features that
/// the device does not have, or has fixed, are passed over.
pub fn set_features(ns: &NetNs, device: &str, features: &[&str], on: bool) -> io::Result<()> {
    const FEATURES_SET: u8 = 12;
    const HEADER: u16 = 1;
    const DEVICE_NAME: u16 = 2;
    const WANTED: u16 = 3;
    const BITS: u16 = 3;
    const BIT: u16 = 1;
    const BIT_NAME: u16 = 2;
    const BIT_VALUE: u16 = 3;

    let mut socket = ns.run(|| Socket::open(NETLINK_GENERIC))?;
    let family = family(&mut socket, "ethtool")?;
    for feature in features {
        let mut header = Vec::new();
        push(&mut header, DEVICE_NAME, &zero_ended(device));
        let mut bit = Vec::new();
        push(&mut bit, BIT_NAME, &zero_ended(feature));
        if on {
            push(&mut bit, BIT_VALUE, &[]);
        }
        let (mut bits, mut wanted, mut payload) = (Vec::new(), Vec::new(), generic(FEATURES_SET));
        push(&mut bits, NESTED | BIT, &bit);
        push(&mut wanted, NESTED | BITS, &bits);
        push(&mut payload, NESTED | HEADER, &header);
        push(&mut payload, NESTED | WANTED, &wanted);
        match socket.ask(Raw { kind: family, payload }, 0) {
            Ok(_) => {}
            // A name that this kernel does not know, or a feature that cannot change.
            Err(e) if matches!(e.raw_os_error(), Some(22 | 95)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

const NESTED: u16 = 0x8000;

/// `struct genlmsghdr`.
fn generic(command: u8) -> Vec<u8> {
    vec![command, 1, 0, 0]
}

fn zero_ended(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// The message type of a generic netlink family.
fn family(socket: &mut Socket, name: &str) -> io::Result<u16> {
    const CONTROL: u16 = 16;
    const GET_FAMILY: u8 = 3;
    const FAMILY_ID: u16 = 1;
    const FAMILY_NAME: u16 = 2;
    let mut payload = generic(GET_FAMILY);
    push(&mut payload, FAMILY_NAME, &zero_ended(name));
    let replies = socket.ask(Raw { kind: CONTROL, payload }, 0)?;
    replies
        .iter()
        .flat_map(|r| attributes(r.payload.get(4..).unwrap_or(&[])))
        .find(|(kind, _)| *kind == FAMILY_ID)
        .and_then(|(_, value)| Some(u16::from_ne_bytes(value.try_into().ok()?)))
        .ok_or_else(|| io::Error::other(format!("no generic netlink family {name}")))
}
