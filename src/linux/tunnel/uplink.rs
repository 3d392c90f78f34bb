//! The wiring: a TAP whose frames leave by an underlay device.

use alloc::string::String;
use core::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use crate::linux::Link;
use crate::linux::error::Error;
use crate::linux::netlink::{EVERY_PROTOCOL, Key, Redirect, Route};
use crate::linux::offload::VirtioNetTunnelHeader;
use crate::linux::sys::{self, errno};

/// Offload sets of a TAP (`linux/if_tun.h`), the largest first: checksums, TCP over both families and
/// with ECN, UDP, tunnels and their outer checksum.
const SETS: [u32; 2] = [0x1ef, 0x18f];
/// A bit that no kernel knows, with all that some know.
const UNKNOWN: u32 = 0x3ef;

const CLONE_DEVICE: &str = "/dev/net/tun";
/// The name of an uplink; the kernel puts a number there.
const NAME: &str = "oluplink%d";

/// A TAP of which every frame that is written to it leaves by the underlay device at once: `clsact`,
/// and one filter that redirects everything. All of it goes with the descriptor, even if the process
/// is killed; the underlay device is not touched.
pub(super) struct Uplink {
    file: File,
    pub(super) name: String,
    pub(super) index: u32,
    /// The underlay device.
    pub(super) underlay: u32,
    pub(super) device: String,
}

impl fmt::Debug for Uplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uplink").field("name", &self.name).field("underlay", &self.underlay).finish()
    }
}

impl Uplink {
    /// Makes the device and wires it.
    pub(super) fn open(route: &mut Route, underlay: &Link) -> Result<Uplink, Error> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(sys::O_NONBLOCK).open(CLONE_DEVICE);
        let file = file.map_err(|e| Error::new("open", CLONE_DEVICE, e))?;
        let fd = file.as_fd();
        let mut pattern = [0; sys::NAME_SIZE];
        for (to, from) in pattern.iter_mut().zip(NAME.bytes()) {
            *to = from;
        }
        let flags = sys::IFF_TAP | sys::IFF_NO_PI | sys::IFF_VNET_HDR;
        let given = sys::tun_attach(fd, &pattern, flags).map_err(|e| {
            let error = Error::new("create TAP device", NAME, e);
            error.hint_if(errno::EPERM, "CAP_NET_ADMIN is needed over this network namespace")
        })?;
        let name: String = given.iter().take_while(|b| **b != 0).map(|b| char::from(*b)).collect();
        let failed = |what: &'static str| {
            let name = name.clone();
            move |e: io::Error| Error::new(what, name, e)
        };
        if sys::tun_set_offload(fd, UNKNOWN).is_ok() {
            let why = "the kernel accepts any offload, so it says nothing about this one";
            return Err(Error::refused("ask for tunnel segmentation of", name, why));
        }
        let taken =
            SETS.into_iter().map(|set| sys::tun_set_offload(fd, set)).reduce(|one, other| one.or(other));
        taken.unwrap_or(Ok(())).map_err(|e| {
            let error = failed("ask for tunnel segmentation of")(e);
            error.hint_if(errno::EINVAL, "it takes Linux 6.17 or later")
        })?;
        sys::tun_set_header_size(fd, VirtioNetTunnelHeader::LEN as i32)
            .and_then(|()| sys::tun_set_native_endian(fd))
            .map_err(failed("set the virtio-net header of"))?;
        // Nothing is ever read from it: the kernel must not send by it.
        sys::tun_set_carrier(fd, false).map_err(failed("take the carrier from"))?;
        let index = route.link(&name)?.index;
        route.add_clsact(index)?;
        let keys = [Key::ANY].to_vec();
        let redirect = Redirect { priority: 1, protocol: EVERY_PROTOCOL, keys, to: underlay.index };
        route.add_redirect(index, &redirect)?;
        route.set_up(index)?;
        Ok(Uplink { file, name, index, underlay: underlay.index, device: underlay.name.clone() })
    }

    /// Sends one frame, offload header first.
    pub(super) fn write(&self, headers: &[u8], inner: &[u8]) -> io::Result<()> {
        (&self.file).write_vectored(&[IoSlice::new(headers), IoSlice::new(inner)]).map(|_| ())
    }
}
