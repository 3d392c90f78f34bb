//! Many datagrams in one call: `sendmmsg`, `recvmmsg`, and the segments of one datagram
//! (`UDP_SEGMENT`, `UDP_GRO`).

use alloc::vec::Vec;
use core::ffi::{c_int, c_uint, c_void};
use core::mem::{MaybeUninit, size_of};
use core::net::SocketAddr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{RawAddr, check};

/// Control-message space of one datagram: two messages of one `int` each, aligned as a `cmsghdr` must be.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 64]);

/// The same of one that is received. A socket from outside may have options that add messages, which
/// come before ours: time stamps take 96 octets.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Controls([u8; 512]);

/// Makes `N` zeroed values; a `msghdr` of zeroes has null pointers and zero lengths.
fn zeroed<T: Plain>(n: usize) -> Vec<T> {
    // SAFETY: Plain says that zeroes are a valid value.
    (0..n).map(|_| unsafe { MaybeUninit::zeroed().assume_init() }).collect()
}

/// Types for which all zeroes is a valid value.
///
/// # Safety
/// It is.
unsafe trait Plain {}
// SAFETY: integers and pointers, for which zero and null are values.
unsafe impl Plain for libc::mmsghdr {}
// SAFETY: a pointer and a length.
unsafe impl Plain for libc::iovec {}
// SAFETY: integers and arrays of integers.
unsafe impl Plain for RawAddr {}
// SAFETY: an array of octets.
unsafe impl Plain for Control {}
// SAFETY: an array of octets.
unsafe impl Plain for Controls {}

/// One datagram to send, or several of `segment` octets each (the last one may be shorter) that the
/// kernel cuts the parts into.
pub(in crate::linux) struct Outgoing<I> {
    pub(in crate::linux) to: SocketAddr,
    /// `None` leaves TOS or traffic class as the socket has it.
    pub(in crate::linux) tos: Option<u8>,
    /// `UDP_SEGMENT`.
    pub(in crate::linux) segment: Option<u16>,
    pub(in crate::linux) parts: I,
}

/// The memory of a `sendmmsg`, taken once.
pub(in crate::linux) struct SendBatch {
    headers: Vec<libc::mmsghdr>,
    names: Vec<RawAddr>,
    controls: Vec<Control>,
    parts: Vec<libc::iovec>,
    max_parts: usize,
}

// SAFETY: the pointers inside are written and followed within one call of `send` and are never
// followed afterwards; which thread makes the next call does not matter.
unsafe impl Send for SendBatch {}
// SAFETY: through `&SendBatch` nothing can be read or written.
unsafe impl Sync for SendBatch {}

impl SendBatch {
    /// For `messages` datagrams of `parts` parts together.
    pub(in crate::linux) fn new(messages: usize, parts: usize) -> SendBatch {
        SendBatch {
            headers: zeroed(messages),
            names: zeroed(messages),
            controls: zeroed(messages),
            parts: Vec::with_capacity(parts),
            max_parts: parts,
        }
    }

    /// Sends datagrams in order; how many were taken. An error is about the first one, and none was
    /// taken then. What does not fit this batch's memory is left for the next call.
    pub(in crate::linux) fn send<'a, I: Iterator<Item = &'a [u8]>>(
        &mut self,
        fd: BorrowedFd<'_>,
        messages: impl Iterator<Item = Outgoing<I>>,
    ) -> io::Result<usize> {
        self.parts.clear();
        let mut count = 0;
        let slots = self.headers.iter_mut().zip(&mut self.names).zip(&mut self.controls);
        for (((header, name), control), message) in slots.zip(messages) {
            let first = self.parts.len();
            for part in message.parts {
                // The vector never grows: pointers into it would be lost.
                if self.parts.len() >= self.max_parts {
                    break;
                }
                // sendmmsg does not write through these pointers; the type has no const form.
                let iov_base = part.as_ptr().cast_mut().cast::<c_void>();
                self.parts.push(libc::iovec { iov_base, iov_len: part.len() });
            }
            if self.parts.len() >= self.max_parts && count > 0 {
                // Perhaps not all of it: it begins the next call.
                self.parts.truncate(first);
                break;
            }
            *name = RawAddr::new(message.to);
            let header = &mut header.msg_hdr;
            header.msg_name = (&raw mut *name).cast::<c_void>();
            header.msg_namelen = name.len();
            header.msg_iov = self.parts.as_mut_ptr().wrapping_add(first);
            header.msg_iovlen = (self.parts.len() - first) as _;
            let v4 = message.to.is_ipv4();
            header.msg_controllen = control.put(v4, message.tos, message.segment) as _;
            header.msg_control = match header.msg_controllen {
                0 => core::ptr::null_mut(),
                _ => (&raw mut control.0).cast::<c_void>(),
            };
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        // SAFETY: `fd` is open for the borrow. The first `count` headers were filled just now: each
        // names its own address and control area, which live in `self` and were not moved since, and
        // its run of `parts`, whose vector did not grow (its capacity is `max_parts`); each part is a
        // slice that lives for 'a, longer than this call. sendmmsg reads all of them and writes only
        // the `msg_len` of the headers.
        let sent =
            check(unsafe { libc::sendmmsg(fd.as_raw_fd(), self.headers.as_mut_ptr(), count as c_uint, 0) })?;
        Ok(sent as usize)
    }
}

impl Control {
    /// Writes the control messages; the octets that they take.
    fn put(&mut self, v4: bool, tos: Option<u8>, segment: Option<u16>) -> usize {
        let mut at = 0;
        if let Some(tos) = tos {
            let (level, kind) = match v4 {
                true => (libc::IPPROTO_IP, libc::IP_TOS),
                false => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
            };
            at = self.put_one(at, level, kind, &c_int::from(tos).to_ne_bytes());
        }
        if let Some(segment) = segment {
            at = self.put_one(at, libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        at
    }

    /// Writes one message at octet `at`; where the next one goes.
    fn put_one(&mut self, at: usize, level: c_int, kind: c_int, data: &[u8]) -> usize {
        // SAFETY: both only compute.
        let (len, space) =
            unsafe { (libc::CMSG_LEN(data.len() as c_uint), libc::CMSG_SPACE(data.len() as c_uint)) };
        let data_at = len as usize - data.len();
        let Some(room) = self.0.get_mut(at..at + space as usize) else { return at };
        // cmsghdr is a length (of the width of size_t, or of socklen_t and padding), a level and a type.
        let mut header: libc::cmsghdr =
            // SAFETY: plain old data: integers.
            unsafe { MaybeUninit::zeroed().assume_init() };
        header.cmsg_len = len as _;
        header.cmsg_level = level;
        header.cmsg_type = kind;
        // SAFETY: `room` is as long as CMSG_SPACE says, which is at least the header and the data; the
        // header is written unaligned, and both are plain old data.
        unsafe {
            room.as_mut_ptr().cast::<libc::cmsghdr>().write_unaligned(header);
        }
        if let Some(to) = room.get_mut(data_at..data_at + data.len()) {
            to.copy_from_slice(data);
        }
        at + space as usize
    }
}

/// One datagram received, or several that came as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::linux) struct Incoming {
    pub(in crate::linux) len: usize,
    pub(in crate::linux) from: Option<SocketAddr>,
    /// The outer TOS or traffic class, if the socket was asked to tell it.
    pub(in crate::linux) tos: u8,
    /// `UDP_GRO`: the octets are datagrams of this length each (the last one may be shorter).
    pub(in crate::linux) segment: Option<u16>,
    pub(in crate::linux) truncated: bool,
}

/// The memory of a `recvmmsg`, taken once.
pub(in crate::linux) struct RecvBatch {
    headers: Vec<libc::mmsghdr>,
    names: Vec<RawAddr>,
    controls: Vec<Controls>,
    parts: Vec<libc::iovec>,
}

// SAFETY: as for SendBatch.
unsafe impl Send for RecvBatch {}
// SAFETY: as for SendBatch.
unsafe impl Sync for RecvBatch {}

impl RecvBatch {
    pub(in crate::linux) fn new(messages: usize) -> RecvBatch {
        RecvBatch {
            headers: zeroed(messages),
            names: zeroed(messages),
            controls: zeroed(messages),
            parts: zeroed(messages),
        }
    }

    /// Receives at most `count` datagrams, without waiting, each into `room` octets of `buffer`:
    /// number n at `n * room`. Tells `each` of every one, in order; how many there were.
    pub(in crate::linux) fn receive(
        &mut self,
        fd: BorrowedFd<'_>,
        buffer: &mut [u8],
        room: usize,
        count: usize,
        mut each: impl FnMut(Incoming),
    ) -> io::Result<usize> {
        let rooms = buffer.chunks_exact_mut(room.max(1));
        let slots = self.headers.iter_mut().zip(&mut self.names).zip(&mut self.controls).zip(&mut self.parts);
        let mut prepared = 0;
        for ((((header, name), control), part), room) in slots.zip(rooms).take(count) {
            *part = libc::iovec { iov_base: room.as_mut_ptr().cast::<c_void>(), iov_len: room.len() };
            let header = &mut header.msg_hdr;
            header.msg_name = (&raw mut *name).cast::<c_void>();
            header.msg_namelen = size_of::<RawAddr>() as libc::socklen_t;
            header.msg_iov = &raw mut *part;
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut control.0).cast::<c_void>();
            header.msg_controllen = size_of::<Controls>() as _;
            header.msg_flags = 0;
            prepared += 1;
        }
        if prepared == 0 {
            return Ok(0);
        }
        // SAFETY: `fd` is open for the borrow. The first `prepared` headers were filled just now with
        // pointers to live memory and its true lengths: one address, control area and part of `self`
        // each, and disjoint pieces of the exclusively borrowed `buffer`. The kernel writes no
        // further. There is no timeout.
        let got = check(unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                self.headers.as_mut_ptr(),
                prepared as c_uint,
                libc::MSG_DONTWAIT as _,
                core::ptr::null_mut(),
            )
        })? as usize;
        for (header, name) in self.headers.iter().zip(&self.names).take(got) {
            let (tos, segment) = control_messages(&header.msg_hdr);
            each(Incoming {
                len: header.msg_len as usize,
                from: name.get(),
                tos,
                segment,
                // Without the control messages nobody knows what was merged.
                truncated: header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
            });
        }
        Ok(got)
    }
}

/// TOS or traffic class, and the length of merged segments.
fn control_messages(header: &libc::msghdr) -> (u8, Option<u16>) {
    let (mut tos, mut segment) = (0, None);
    // SAFETY: recvmmsg succeeded for this header and nothing was moved since: msg_control points to
    // the control area in the same RecvBatch, and msg_controllen is what the kernel wrote, at most
    // the area's size. CMSG_FIRSTHDR and CMSG_NXTHDR stay inside it, and it is aligned for cmsghdr.
    // The data of a message is readable for as many octets as its cmsg_len says, and is read
    // unaligned.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            let data = libc::CMSG_DATA(message);
            let data_len = ((*message).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            match ((*message).cmsg_level, (*message).cmsg_type) {
                // IPv4 hands over one octet, IPv6 an int.
                (libc::IPPROTO_IP, libc::IP_TOS) if data_len >= 1 => tos = data.read(),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) if data_len >= size_of::<c_int>() => {
                    tos = data.cast::<c_int>().read_unaligned() as u8;
                }
                (libc::SOL_UDP, libc::UDP_GRO) if data_len >= size_of::<c_int>() => {
                    segment = u16::try_from(data.cast::<c_int>().read_unaligned()).ok().filter(|s| *s > 0);
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    (tos, segment)
}
