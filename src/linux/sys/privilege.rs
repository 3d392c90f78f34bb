//! What a process may do, given up.

use core::ffi::{c_int, c_ulong};
use core::ptr;
use std::io;

use super::check;

/// `CAP_SETGID`, `CAP_SETUID` and `CAP_NET_ADMIN`.
const CAP_SETGID: u8 = 6;
const CAP_SETUID: u8 = 7;
pub(in crate::linux) const CAP_NET_ADMIN: u8 = 12;

/// `_LINUX_CAPABILITY_VERSION_3`: sets of 64 bits, in two halves.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The effective capabilities of the calling thread, one bit each.
pub(in crate::linux) fn capabilities() -> io::Result<u64> {
    let mut header = Header { version: VERSION, pid: 0 };
    let mut halves = [Half::default(); 2];
    // SAFETY: capget reads and writes one header and writes, for this version, two halves: both are
    // live, exclusively borrowed and laid out as linux/capability.h has them.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) };
    check(result as c_int)?;
    let [low, high] = halves.map(|h| u64::from(h.effective));
    Ok(high << 32 | low)
}

/// Makes `set` all that the calling thread is permitted and does; nothing is inherited.
pub(in crate::linux) fn set_capabilities(set: u64) -> io::Result<()> {
    let mut header = Header { version: VERSION, pid: 0 };
    let halves =
        [set as u32, (set >> 32) as u32].map(|h| Half { effective: h, permitted: h, inheritable: 0 });
    // SAFETY: capset reads one header (and may write its version) and, for this version, two halves:
    // both are live and laid out as linux/capability.h has them.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr()) } as c_int)?;
    Ok(())
}

fn control(option: c_int, value: c_ulong) -> io::Result<()> {
    const NONE: c_ulong = 0;
    // SAFETY: the options that are used here take integers and no pointers.
    check(unsafe { libc::prctl(option, value, NONE, NONE, NONE) })?;
    Ok(())
}

/// No program that this one starts gets more than it has (`PR_SET_NO_NEW_PRIVS`).
pub(in crate::linux) fn no_new_privileges() -> io::Result<()> {
    control(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Capabilities stay permitted when the user changes (`PR_SET_KEEPCAPS`).
pub(in crate::linux) fn keep_capabilities(keep: bool) -> io::Result<()> {
    control(libc::PR_SET_KEEPCAPS, c_ulong::from(keep))
}

/// Takes one capability out of the bounding set; `EINVAL` for one that the kernel does not know.
pub(in crate::linux) fn drop_bound(capability: u8) -> io::Result<()> {
    control(libc::PR_CAPBSET_DROP, c_ulong::from(capability))
}

/// Takes all capabilities out of the ambient set.
pub(in crate::linux) fn clear_ambient() -> io::Result<()> {
    control(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as c_ulong)
}

/// Makes the whole process one of this user and group, without further groups.
pub(in crate::linux) fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // The C library does it for every thread, and ends the process where one may and another may not.
    let needed = 1 << CAP_SETGID | 1 << CAP_SETUID;
    if capabilities()? & needed != needed {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    // SAFETY: a length of zero: the pointer is not followed.
    check(unsafe { libc::setgroups(0, ptr::null()) })?;
    // SAFETY: no pointers are passed.
    check(unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: no pointers are passed.
    check(unsafe { libc::setresuid(uid, uid, uid) })?;
    Ok(())
}
