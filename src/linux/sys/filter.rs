//! Packet filters of TAP devices, which tell what the flags alone do not.

use core::ffi::c_short;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{IFF_NO_PI, check, tun_attached};

/// A classic BPF program that takes every packet whole.
static TAKE_ALL: [libc::sock_filter; 1] =
    [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: u32::MAX }];

/// Whether packets of the TAP behind `fd` come without packet information (`IFF_NO_PI`); `flags` are
/// those that [`tun_attached`] told of it.
///
/// The kernel sets the same bit, as `IFF_NOFILTER`, for a queue without a filter. So the device gets a
/// filter for the length of the question. That would replace one that it has: a device that was ever
/// given a filter is taken at its word, which is true unless that filter has gone.
pub(in crate::linux) fn tun_without_packet_info(fd: BorrowedFd<'_>, flags: c_short) -> io::Result<bool> {
    if flags & IFF_NO_PI == 0 {
        return Ok(false);
    }
    if filter_len(fd)? > 0 {
        return Ok(true);
    }
    attach(fd, &TAKE_ALL)?;
    let asked = tun_attached(fd);
    detach(fd)?;
    // Refused, but the kernel forgets the filter that was: whoever asks next finds none.
    let _ = attach(fd, &[]);
    Ok(asked?.1 & IFF_NO_PI != 0)
}

/// Instructions of the filter that the device was given last (`TUNGETFILTER`).
fn filter_len(fd: BorrowedFd<'_>) -> io::Result<u16> {
    let mut program = libc::sock_fprog { len: 0, filter: core::ptr::null_mut() };
    // SAFETY: `fd` is open for the borrow; the request writes one sock_fprog at the pointer, which is a
    // live, exclusively borrowed one. The pointer in it, of whoever gave the filter, is not followed.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETFILTER, &raw mut program) })?;
    Ok(program.len)
}

/// Gives all queues of the device this filter (`TUNATTACHFILTER`).
fn attach(fd: BorrowedFd<'_>, filter: &'static [libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(filter.len()).unwrap_or(u16::MAX);
    // The kernel does not write through this pointer; the type has no const form.
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    // SAFETY: `fd` is open for the borrow; the request reads one sock_fprog at the pointer, a live one,
    // and at most filter.len() instructions where that points: now, and for queues that are attached while
    // the device has the filter. They are 'static.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNATTACHFILTER, &raw const program) })?;
    Ok(())
}

/// Takes the filter from all queues of the device (`TUNDETACHFILTER`).
fn detach(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `fd` is open for the borrow; the request reads no argument.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNDETACHFILTER, 0) })?;
    Ok(())
}
