//! TAP devices: Ethernet frames to and from the network stack of this machine.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use super::Sent;
use super::error::{Error, Refused};
use super::links::Links;
use super::offload::VirtioNetHeader;
use super::sys::{self, errno};
use crate::addr::MacAddr;

const CLONE_DEVICE: &str = "/dev/net/tun";

/// Packets that wait for the reader of a device made here. The kernel's own number, 500, is full
/// within one time slice of a pod that sends small packets.
const QUEUE_LEN: u32 = 2048;

/// Frames that one [`Tap::recv`] throws away before it gives way to the other descriptors.
const SKIP_LIMIT: usize = 64;

/// A TAP device. Non-blocking; dropping it removes the device, unless the device is persistent.
///
/// Frames begin with the destination MAC and have no FCS. Reading gives frames with finished
/// checksums and within the MTU: the offloads of the device are turned off. Writing marks what the
/// kernel must still do, see [`VirtioNetHeader::plan`].
#[derive(Debug)]
pub struct Tap {
    file: File,
    name: String,
    mac: MacAddr,
    mtu: u16,
    virtio: bool,
    offloads: TapOffloads,
    counters: TapCounters,
}

/// What the kernel leaves to the reader of a TAP (`TUNSETOFFLOAD`); see [`Tap::set_offloads`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TapOffloads {
    /// Checksums of TCP and UDP (`TUN_F_CSUM`).
    pub checksum: bool,
    /// Cutting TCP superframes over IPv4 and IPv6 (`TUN_F_TSO4`, `TUN_F_TSO6`).
    pub tcp: bool,
    /// The same for those that report congestion (`TUN_F_TSO_ECN`).
    pub tcp_ecn: bool,
    /// Cutting UDP superframes (`TUN_F_USO4`, `TUN_F_USO6`: Linux 6.2).
    pub udp: bool,
}

impl TapOffloads {
    /// From the most to the least; the kernel takes a set whole or not at all.
    const STEPS: [TapOffloads; 5] = [
        TapOffloads { checksum: true, tcp: true, tcp_ecn: true, udp: true },
        TapOffloads { checksum: true, tcp: true, tcp_ecn: true, udp: false },
        TapOffloads { checksum: true, tcp: true, tcp_ecn: false, udp: false },
        TapOffloads { checksum: true, tcp: false, tcp_ecn: false, udp: false },
        TapOffloads { checksum: false, tcp: false, tcp_ecn: false, udp: false },
    ];

    fn bits(self) -> u32 {
        const CSUM: u32 = 1;
        const TSO: u32 = 2 | 4;
        const TSO_ECN: u32 = 8;
        const USO: u32 = 0x20 | 0x40;
        let set = [(self.checksum, CSUM), (self.tcp, TSO), (self.tcp_ecn, TSO_ECN), (self.udp, USO)];
        set.iter().filter(|(on, _)| *on).fold(0, |bits, (_, bit)| bits | bit)
    }
}

/// A frame that [`Tap::read`] put into the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) len: usize,
    pub(super) header: VirtioNetHeader,
}

/// Frames that a [`Tap`] read and threw away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TapCounters {
    /// Longer than the buffer that was given.
    pub truncated: u64,
    /// A superframe that [`Tap::recv`] read: one queued before the offloads were turned off.
    pub unsegmented: u64,
    /// An offload request that does not fit its frame.
    pub malformed: u64,
}

impl Tap {
    /// Creates the device `name` in the network namespace of the calling thread, or attaches to a
    /// persistent one. A pattern such as `tap%d` lets the kernel choose the number.
    ///
    /// The device is down; [`Tap::set_up`] brings it up. Its queue towards the reader takes 2048 packets.
    /// Needs read and write permission on `/dev/net/tun`, and `CAP_NET_ADMIN` over the namespace; not
    /// the latter where a persistent device belongs to this user.
    pub fn create(name: &str) -> Result<Tap, Error> {
        let tap = Tap::open(name, 0)?;
        // Not being able to costs packets under load, and nothing else.
        let _ = tap.lengthen_queue();
        Ok(tap)
    }

    /// Creates a device with several queues (`IFF_MULTI_QUEUE`), or attaches to a persistent one that
    /// was made so: one value for each queue. The kernel spreads flows over them, each always to the
    /// queue that was last written to for it. They are one device: [`Tap::set_up`] and
    /// [`Tap::set_mtu`] of one are for all, but each knows only the MTU that it has read or set.
    pub fn create_queues(name: &str, queues: usize) -> Result<Vec<Tap>, Error> {
        let first = Tap::open(name, sys::IFF_MULTI_QUEUE)?;
        let _ = first.lengthen_queue();
        let mut taps = Vec::with_capacity(queues);
        taps.push(first);
        while taps.len() < queues {
            // The kernel may have chosen the name.
            let name = taps.first().map_or(name, |tap| tap.name());
            let next = Tap::open(name, sys::IFF_MULTI_QUEUE)?;
            taps.push(next);
        }
        Ok(taps)
    }

    /// Another handle on the same queue. What one of them reads the other does not see.
    pub(super) fn try_clone(&self) -> Result<Tap, Error> {
        let file = self.file.try_clone().map_err(|e| Error::new("duplicate", self.name.as_str(), e))?;
        let (name, counters) = (self.name.clone(), TapCounters::default());
        Ok(Tap { file, name, counters, ..*self })
    }

    fn lengthen_queue(&self) -> Result<(), Error> {
        let mut links = Links::open()?;
        let link = links.get(&self.name)?;
        links.set_queue_len(link.index, QUEUE_LEN)
    }

    fn open(name: &str, extra: core::ffi::c_short) -> Result<Tap, Error> {
        const OPERATION: &str = "create TAP device";
        let raw_name = device_name(name).map_err(|why| Error::refused(OPERATION, name, why))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(sys::O_NONBLOCK)
            .open(CLONE_DEVICE)
            .map_err(|e| {
                let hint = open_hint(e.raw_os_error());
                Error::new("open", CLONE_DEVICE, e).hint(hint)
            })?;
        let flags = sys::IFF_TAP | sys::IFF_NO_PI | sys::IFF_VNET_HDR | extra;
        let given = sys::tun_attach(file.as_fd(), &raw_name, flags).map_err(|e| {
            let hint = attach_hint(e.raw_os_error());
            Error::new(OPERATION, name, e).hint(hint)
        })?;
        Tap::prepare(file, text(&given), true, None)
    }

    /// Takes over a descriptor that is attached to a TAP device with `IFF_NO_PI`, with or without
    /// `IFF_VNET_HDR`: from a container manager, a VM monitor, a privileged helper.
    ///
    /// Makes it non-blocking, turns its read offloads off (`TUNSETOFFLOAD`), and sets the virtio-net
    /// header to 10 octets in native byte order; another program that shares the device is affected.
    /// A device without a packet filter has one for a moment, that takes everything: the kernel tells
    /// of `IFF_NO_PI` only then.
    /// `mtu` of `None` reads it from the device, which must then be in the calling thread's network
    /// namespace.
    pub fn from_fd(fd: OwnedFd, mtu: Option<u16>) -> Result<Tap, Error> {
        Tap::take_over(fd, mtu, "the descriptor")
    }

    fn take_over(fd: OwnedFd, mtu: Option<u16>, object: &str) -> Result<Tap, Error> {
        const OPERATION: &str = "take over as a TAP";
        let file = File::from(fd);
        let (raw_name, flags) = sys::tun_attached(file.as_fd()).map_err(|e| {
            Error::new(OPERATION, object, e)
                .hint(Some("it must be an open /dev/net/tun that is attached to a device"))
        })?;
        let name = text(&raw_name);
        if flags & sys::IFF_TAP == 0 {
            return Err(Error::refused(OPERATION, name, "it is a TUN device, which carries no Ethernet"));
        }
        let bare = sys::filter::tun_without_packet_info(file.as_fd(), flags)
            .map_err(|e| Error::new("ask for the packet information of", name.as_str(), e))?;
        if !bare {
            return Err(Error::refused(OPERATION, name, "it was attached without IFF_NO_PI"));
        }
        sys::set_nonblocking(file.as_fd()).map_err(|e| Error::new("make non-blocking", name.as_str(), e))?;
        Tap::prepare(file, name, flags & sys::IFF_VNET_HDR != 0, mtu)
    }

    /// Takes over descriptor `number` of this process, as [`Tap::from_fd`]: one that the process was
    /// started with. It is duplicated; the number itself stays open.
    pub fn from_inherited(number: RawFd, mtu: Option<u16>) -> Result<Tap, Error> {
        let object = format!("descriptor {number}");
        let fd = sys::duplicate(number).map_err(|e| Error::new("take over as a TAP", object.as_str(), e))?;
        Tap::take_over(fd, mtu, &object)
    }

    fn prepare(file: File, name: String, virtio: bool, mtu: Option<u16>) -> Result<Tap, Error> {
        let fd = file.as_fd();
        sys::tun_set_offload(fd, 0).map_err(|e| Error::new("turn off the offloads of", name.as_str(), e))?;
        if virtio {
            sys::tun_set_header_size(fd, VirtioNetHeader::LEN as i32)
                .and_then(|()| sys::tun_set_native_endian(fd))
                .map_err(|e| Error::new("set the virtio-net header of", name.as_str(), e))?;
        }
        let mac = sys::tun_mac(fd).map_err(|e| Error::new("read the MAC of", name.as_str(), e))?;
        let mut tap = Tap {
            file,
            name,
            mac: MacAddr(mac),
            mtu: mtu.unwrap_or(0),
            virtio,
            offloads: TapOffloads::default(),
            counters: TapCounters::default(),
        };
        if mtu.is_none() {
            tap.refresh()?;
        }
        Ok(tap)
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device's MAC address, as last read.
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// The device's MTU in octets (what follows the Ethernet header), as last read or set.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Whether writes can leave checksums and segmentation to the kernel (`IFF_VNET_HDR`). Without
    /// it, checksums are finished here and superframes refused.
    pub fn has_virtio_header(&self) -> bool {
        self.virtio
    }

    /// Asks the kernel to leave checksums and cutting to the reader, or to do them itself again; what
    /// it agreed to, the most that this kernel has. Where this is on, [`recv`](Tap::recv) throws
    /// superframes away: only a [`Driver`](super::Driver) takes them.
    ///
    /// Without a virtio-net header nothing can be left to the reader.
    pub fn set_offloads(&mut self, on: bool) -> TapOffloads {
        let steps = if on && self.virtio { &TapOffloads::STEPS[..] } else { &TapOffloads::STEPS[4..] };
        let taken = steps.iter().find(|s| sys::tun_set_offload(self.file.as_fd(), s.bits()).is_ok());
        self.offloads = taken.copied().unwrap_or_default();
        self.offloads
    }

    /// What the kernel leaves to the reader.
    pub fn offloads(&self) -> TapOffloads {
        self.offloads
    }

    /// Frames thrown away so far.
    pub fn counters(&self) -> TapCounters {
        self.counters
    }

    /// Reads MTU and MAC again, in case another program changed them. The device must be in the
    /// calling thread's network namespace.
    pub fn refresh(&mut self) -> Result<(), Error> {
        let link = Links::open()?.get(&self.name)?;
        let mac = sys::tun_mac(self.file.as_fd())
            .map_err(|e| Error::new("read the MAC of", self.name.as_str(), e))?;
        if link.mac != Some(MacAddr(mac)) {
            return Err(Error::refused(
                "read the MTU of",
                self.name.as_str(),
                "the device of this name in this network namespace is another one",
            ));
        }
        self.mac = MacAddr(mac);
        self.mtu = u16::try_from(link.mtu).unwrap_or(u16::MAX);
        Ok(())
    }

    /// Brings the device up. The device must be in the calling thread's network namespace. Needs no
    /// rights where it is up already.
    pub fn set_up(&mut self) -> Result<(), Error> {
        let mut links = Links::open()?;
        let link = links.get(&self.name)?;
        if link.up { Ok(()) } else { links.set_up(link.index) }
    }

    /// Sets the device's MTU. The device must be in the calling thread's network namespace. Needs no
    /// rights where it has that MTU already.
    pub fn set_mtu(&mut self, mtu: u16) -> Result<(), Error> {
        let mut links = Links::open()?;
        let link = links.get(&self.name)?;
        if link.mtu != u32::from(mtu) {
            links.set_mtu(link.index, u32::from(mtu))?;
        }
        self.mtu = mtu;
        Ok(())
    }

    /// Reads one frame into `buf`; its length, or `None` when none waits.
    ///
    /// A frame that does not fit `buf` is thrown away and counted: give a buffer of the MTU plus 22
    /// octets (Ethernet header and two VLAN tags) or more.
    pub fn recv(&mut self, buf: &mut [u8]) -> Result<Option<usize>, Error> {
        for _ in 0..SKIP_LIMIT {
            let mut header = [0; VirtioNetHeader::LEN];
            // The kernel cuts silently; one octet more than `buf` shows it.
            let mut spare = [0; 1];
            let result = if self.virtio {
                self.file.read_vectored(&mut [
                    IoSliceMut::new(&mut header),
                    IoSliceMut::new(buf),
                    IoSliceMut::new(&mut spare),
                ])
            } else {
                self.file.read_vectored(&mut [IoSliceMut::new(buf), IoSliceMut::new(&mut spare)])
            };
            let len = match result {
                Ok(len) => len.saturating_sub(if self.virtio { VirtioNetHeader::LEN } else { 0 }),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(gone(Error::new("read from", self.name.as_str(), e))),
            };
            let Some(frame) = buf.get_mut(..len) else {
                self.counters.truncated = self.counters.truncated.wrapping_add(1);
                continue;
            };
            let header = VirtioNetHeader::from_bytes(header);
            if header.gso_type != VirtioNetHeader::GSO_NONE {
                self.counters.unsegmented = self.counters.unsegmented.wrapping_add(1);
                continue;
            }
            if header.flags & VirtioNetHeader::NEEDS_CSUM != 0 {
                let check = header.checksum(frame);
                let field =
                    check.and_then(|(at, check)| Some((frame.get_mut(at..)?.first_chunk_mut()?, check)));
                let Some((field, check)) = field else {
                    self.counters.malformed = self.counters.malformed.wrapping_add(1);
                    continue;
                };
                *field = check;
            }
            return Ok(Some(len));
        }
        Ok(None)
    }

    /// Reads one frame as the kernel has it to octet `at` of `room`: a superframe, a checksum not
    /// finished. The octets before `at` are overwritten where the virtio-net header goes. `None` when
    /// none waits.
    pub(super) fn read(&mut self, room: &mut [u8], at: usize) -> Result<Option<Received>, Error> {
        let header_len = if self.virtio { VirtioNetHeader::LEN } else { 0 };
        let room = room.get_mut(at.saturating_sub(header_len)..).unwrap_or_default();
        for _ in 0..SKIP_LIMIT {
            let len = match self.file.read(room) {
                // The kernel cuts silently; a room that is full was too small.
                Ok(len) if len >= room.len() => {
                    self.counters.truncated = self.counters.truncated.wrapping_add(1);
                    continue;
                }
                Ok(len) => len.saturating_sub(header_len),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(gone(Error::new("read from", self.name.as_str(), e))),
            };
            let header = match room.first_chunk() {
                Some(bytes) if self.virtio => VirtioNetHeader::from_bytes(*bytes),
                _ => VirtioNetHeader::NONE,
            };
            return Ok(Some(Received { len, header }));
        }
        Ok(None)
    }

    pub(super) fn count_malformed(&mut self) {
        self.counters.malformed = self.counters.malformed.wrapping_add(1);
    }

    /// Writes one frame, after [`VirtioNetHeader::plan`] has decided what the kernel must still do.
    pub fn send(&mut self, frame: &[u8]) -> Result<Sent, Error> {
        match VirtioNetHeader::plan(frame, self.mtu) {
            Ok(header) => self.send_with(frame, header),
            Err(_) => Ok(Sent::Refused(Refused::TooBig)),
        }
    }

    /// Writes one frame with a virtio-net header that the caller made; a flood to several devices of
    /// one MTU plans once.
    pub fn send_with(&mut self, frame: &[u8], header: VirtioNetHeader) -> Result<Sent, Error> {
        let result = if self.virtio {
            self.file.write_vectored(&[IoSlice::new(&header.to_bytes()), IoSlice::new(frame)])
        } else if header.gso_type != VirtioNetHeader::GSO_NONE {
            return Ok(Sent::Refused(Refused::TooBig));
        } else if let Some((at, check)) = header.checksum(frame) {
            let (before, rest) = frame.split_at_checked(at).unwrap_or((frame, &[]));
            let after = rest.get(check.len()..).unwrap_or(&[]);
            self.file.write_vectored(&[IoSlice::new(before), IoSlice::new(&check), IoSlice::new(after)])
        } else {
            self.file.write(frame)
        };
        self.judge(result)
    }

    /// Writes a frame in parts. Where the device has a virtio-net header, the first part is it.
    pub(super) fn write_parts(&mut self, parts: &[IoSlice<'_>]) -> Result<Sent, Error> {
        let result = self.file.write_vectored(parts);
        self.judge(result)
    }

    fn judge(&self, result: io::Result<usize>) -> Result<Sent, Error> {
        let error = match result {
            Ok(_) => return Ok(Sent::Taken),
            Err(error) => error,
        };
        let refused = match error.raw_os_error() {
            // A signal came while the kernel waited for memory.
            Some(errno::EINTR) => Some(Refused::NoBuffers),
            Some(errno::EIO) => Some(Refused::Down),
            Some(errno::EINVAL) => Some(Refused::Malformed),
            Some(number) => Refused::from_errno(number),
            None => None,
        };
        match refused {
            Some(refused) => Ok(Sent::Refused(refused)),
            None => Err(gone(Error::new("write to", self.name.as_str(), error))),
        }
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<Tap> for OwnedFd {
    fn from(tap: Tap) -> OwnedFd {
        tap.file.into()
    }
}

impl fmt::Display for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The name as the kernel takes it, or what `dev_valid_name` would have against it.
fn device_name(name: &str) -> Result<[u8; sys::NAME_SIZE], &'static str> {
    let bytes = name.as_bytes();
    let mut raw = [0; sys::NAME_SIZE];
    // The last octet stays zero.
    let Some(slots) = raw.get_mut(..bytes.len()).filter(|s| s.len() < sys::NAME_SIZE) else {
        return Err("a device name has at most 15 octets");
    };
    if bytes.is_empty() {
        return Err("a device name is not empty");
    }
    if name == "."
        || name == ".."
        || bytes.iter().any(|b| matches!(b, b'/' | b':' | 0) || b.is_ascii_whitespace())
    {
        return Err("a device name has no slash, colon, space or zero and is not a dot");
    }
    let patterns = name.matches('%').count();
    if patterns > 1 || patterns != name.matches("%d").count() {
        return Err("a device name pattern has one %d and no other per cent sign");
    }
    slots.copy_from_slice(bytes);
    Ok(raw)
}

fn text(raw: &[u8; sys::NAME_SIZE]) -> String {
    let end = raw.iter().position(|b| *b == 0).unwrap_or(raw.len());
    String::from_utf8_lossy(raw.get(..end).unwrap_or(raw)).to_string()
}

fn open_hint(number: Option<i32>) -> Option<&'static str> {
    match number? {
        errno::EACCES | errno::EPERM => {
            Some("run as root, or give the user access to the device, or pass an open fd")
        }
        errno::ENOENT => Some("load the tun module, or make the node: mknod /dev/net/tun c 10 200"),
        errno::ENODEV | errno::ENXIO => Some("this kernel has no TUN/TAP driver"),
        _ => None,
    }
}

fn gone(error: Error) -> Error {
    let hint = (error.errno() == Some(errno::EBADFD)).then_some("the device was removed");
    error.hint(hint)
}

fn attach_hint(number: Option<i32>) -> Option<&'static str> {
    match number? {
        errno::EPERM | errno::EACCES => Some("CAP_NET_ADMIN is needed over this network namespace"),
        errno::EBUSY => Some("another program holds it"),
        errno::EINVAL => Some("a device of this name exists and is no TAP, or has another kind of queues"),
        errno::EEXIST => Some("a device of this name exists"),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn device_names() {
        let good = ["a", "tap0", "tap%d", "fifteen-octets1"];
        for name in good {
            let raw = device_name(name).unwrap();
            assert_eq!(text(&raw), name);
        }
        let bad = [
            ("", "not empty"),
            ("sixteen-octets-1", "15 octets"),
            ("a-name-of-many-more-octets-than-that", "15 octets"),
            ("a/b", "no slash"),
            ("a b", "no slash"),
            ("a:1", "no slash"),
            ("a\0", "no slash"),
            ("..", "not a dot"),
            ("tap%s", "one %d"),
            ("%d%d", "one %d"),
            ("100%", "one %d"),
        ];
        for (name, why) in bad {
            let error = Tap::create(name).unwrap_err();
            assert_eq!(error.errno(), None);
            assert!(error.to_string().contains(why), "{name:?}: {error}");
        }
    }

    #[test]
    fn a_descriptor_that_is_no_tap_is_refused() {
        let file = File::open("/dev/null").unwrap();
        let error = Tap::from_fd(file.into(), Some(1500)).unwrap_err();
        assert_eq!(error.errno(), Some(errno::ENOTTY));
        assert!(
            error.to_string().starts_with("cannot take over as a TAP the descriptor: ENOTTY; "),
            "{error}"
        );
        let file = File::open("/dev/null").unwrap();
        let number = file.as_raw_fd();
        let error = Tap::from_inherited(number, Some(1500)).unwrap_err();
        let want = format!("cannot take over as a TAP descriptor {number}: ENOTTY; ");
        assert!(error.to_string().starts_with(&want), "{error}");
        let error = Tap::from_inherited(-1, None).unwrap_err();
        assert_eq!(error.to_string(), "cannot take over as a TAP descriptor -1: EBADF");
    }

    /// A TAP whose other end is a socket, and that socket.
    pub(in crate::linux) fn fake(virtio: bool) -> (Tap, UnixDatagram) {
        let (near, far) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        (fake_over(near.into(), virtio), far)
    }

    /// A TAP that is another descriptor.
    pub(in crate::linux) fn fake_over(fd: OwnedFd, virtio: bool) -> Tap {
        let counters = TapCounters::default();
        let (name, offloads) = ("fake".into(), TapOffloads::default());
        Tap { file: File::from(fd), name, mac: MacAddr::ZERO, mtu: 1450, virtio, offloads, counters }
    }

    /// 14 + 20 + 8 octets and a payload of 3: UDP, its checksum the pseudo-header sum alone.
    const UNFINISHED: [u8; 45] = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 31, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1,
        10, 0, 0, 2, 0, 1, 0, 2, 0, 11, 0x14, 0x1f, 1, 2, 3,
    ];

    #[test]
    fn without_a_virtio_header_checksums_are_finished_here() {
        let (mut tap, far) = fake(false);
        assert_eq!(tap.send(&UNFINISHED).unwrap(), Sent::Taken);
        let mut got = [0; 100];
        assert_eq!(far.recv(&mut got).unwrap(), 45);
        let mut want = UNFINISHED;
        // 0x141f + 0x0001 + 0x0002 + 0x000b + 0x0102 + 0x0300 = 0x182f, inverted.
        want[40..42].copy_from_slice(&[0xe7, 0xd0]);
        assert_eq!(got[..45], want);
        let superframe = VirtioNetHeader { gso_type: VirtioNetHeader::GSO_TCPV4, ..VirtioNetHeader::NONE };
        assert_eq!(tap.send_with(&UNFINISHED, superframe).unwrap(), Sent::Refused(Refused::TooBig));
        assert_eq!(tap.send(&[0xff; 2000]).unwrap(), Sent::Refused(Refused::TooBig));
        far.send(&UNFINISHED).unwrap();
        assert_eq!(tap.recv(&mut got).unwrap(), Some(45));
        assert_eq!(tap.recv(&mut got).unwrap(), None);
    }

    #[test]
    fn with_a_virtio_header_the_kernel_is_asked() {
        let (mut tap, far) = fake(true);
        assert_eq!(tap.send(&UNFINISHED).unwrap(), Sent::Taken);
        let mut got = [0; 100];
        assert_eq!(far.recv(&mut got).unwrap(), 55);
        let header = VirtioNetHeader { flags: 1, csum_start: 34, csum_offset: 6, ..VirtioNetHeader::NONE };
        assert_eq!(got[..10], header.to_bytes());
        assert_eq!(got[10..55], UNFINISHED);
    }

    #[test]
    fn what_cannot_be_used_is_counted_and_the_next_frame_read() {
        let (mut tap, far) = fake(true);
        let put = |header: VirtioNetHeader, frame: &[u8]| {
            far.send(&[&header.to_bytes(), frame].concat()).unwrap();
        };
        put(VirtioNetHeader { gso_type: 1, gso_size: 1400, ..VirtioNetHeader::NONE }, &UNFINISHED);
        put(
            VirtioNetHeader { flags: 1, csum_start: 44, csum_offset: 6, ..VirtioNetHeader::NONE },
            &UNFINISHED,
        );
        put(VirtioNetHeader::NONE, &[7; 61]);
        put(
            VirtioNetHeader { flags: 1, csum_start: 34, csum_offset: 6, ..VirtioNetHeader::NONE },
            &UNFINISHED,
        );
        put(VirtioNetHeader::NONE, &[7; 60]);
        let mut buf = [0; 60];
        assert_eq!(tap.recv(&mut buf).unwrap(), Some(45));
        assert_eq!(buf[40..42], [0xe7, 0xd0], "a checksum that was left to the reader");
        assert_eq!(tap.recv(&mut buf).unwrap(), Some(60));
        assert_eq!(tap.recv(&mut buf).unwrap(), None);
        assert_eq!(tap.counters(), TapCounters { truncated: 1, unsegmented: 1, malformed: 1 });
    }

    #[test]
    fn hints_by_errno() {
        assert!(open_hint(Some(errno::EACCES)).is_some_and(|h| h.contains("pass an open fd")));
        assert!(open_hint(Some(errno::ENOENT)).is_some_and(|h| h.contains("mknod")));
        assert!(attach_hint(Some(errno::EPERM)).is_some_and(|h| h.contains("CAP_NET_ADMIN")));
        assert_eq!(open_hint(Some(errno::EMFILE)), None);
        assert_eq!(attach_hint(None), None);
    }
}
