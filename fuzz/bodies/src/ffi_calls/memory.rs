//! Memory for arguments: no larger than promised, rightly passed or not.

use std::ffi::CStr;
use std::ptr::null_mut;

use arbitrary::Arbitrary;
use overlane_ffi::entry::overlane_strerror;
use overlane_ffi::status::*;

/// Calls a function of the ABI.
macro_rules! c {
    ($function:ident($($argument:expr),* $(,)?)) => {{
        // SAFETY: pointers here are NULL, misaligned (and refused for that), or to as much live
        // memory as their type and the length beside them say; engines are live; packets are nobody
        // else's.
        #[allow(unused_unsafe)]
        let result = unsafe { $function($($argument),*) };
        result
    }};
}

pub(super) use c;

/// How an argument is passed: mostly rightly.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) struct How(pub(super) u8, pub(super) u8);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Passed {
    Rightly,
    Null,
    Misaligned,
    /// With this size.
    Size(u32),
    /// With octets behind what is known, the last of them this.
    Longer(u8),
    /// With one octet of it changed.
    Changed(u8),
}

impl How {
    pub(super) fn passed(self) -> Passed {
        match self.0 {
            0..210 => Passed::Rightly,
            210..218 => Passed::Null,
            218..226 => Passed::Misaligned,
            226..234 => Passed::Size(u32::from(self.1)),
            234..236 => Passed::Size(u32::MAX),
            236..246 => Passed::Longer(self.1 & 1),
            _ => Passed::Changed(self.1),
        }
    }
}

/// Octets on the heap, aligned for every structure, no more than asked for but for that.
pub(super) struct Room(pub(super) Vec<u64>);

impl Room {
    pub(super) fn of<T: Copy>(value: T, passed: Passed) -> Room {
        let tail = if matches!(passed, Passed::Longer(_)) { 8 } else { 0 };
        let mut room = Room(vec![0; (size_of::<T>() + tail).div_ceil(8)]);
        // SAFETY: as large as T at least, and aligned for it: no structure asks for more than 8.
        unsafe { room.0.as_mut_ptr().cast::<T>().write(value) };
        room
    }

    /// The pointer to pass. `sized` where the structure starts with its size.
    pub(super) fn pointer<T>(&mut self, passed: Passed, sized: bool) -> *mut T {
        let at = self.0.as_mut_ptr();
        let octets = self.0.len() * 8;
        let (size, last) = (at.cast::<u32>(), octets - 1);
        let (changed, value) = match passed {
            Passed::Null => return null_mut(),
            Passed::Misaligned => return at.cast::<u8>().wrapping_add(1).cast(),
            Passed::Changed(n) => (4 + usize::from(n) % (size_of::<T>() - 4), n | 1),
            Passed::Longer(n) => (last, n),
            Passed::Rightly | Passed::Size(_) => (0, 0),
        };
        // SAFETY: within the octets that the vector holds, which are initialised.
        unsafe {
            if sized {
                match passed {
                    // What it does not hold may not be promised.
                    Passed::Size(n) if n as usize <= octets || n == u32::MAX => size.write(n),
                    Passed::Longer(_) => size.write(octets as u32),
                    _ => size.write(size_of::<T>() as u32),
                }
            }
            if value != 0 {
                *at.cast::<u8>().add(changed) ^= value;
            }
        }
        at.cast()
    }

    pub(super) fn read<T: Copy>(&self) -> T {
        // SAFETY: a T was written, and whatever was written over it is a T too.
        unsafe { self.0.as_ptr().cast::<T>().read() }
    }
}

/// A structure of no meaning: each is made of integers.
pub(super) fn blank<T: Copy>() -> T {
    // SAFETY: every structure of the ABI is plain integers, octet arrays and pointers, for which zeros are a value.
    unsafe { std::mem::zeroed() }
}

/// Whether a call may answer so: with anything but a bug's status, and with none that has no text.
pub(super) fn known(status: i32) -> bool {
    // SAFETY: the ABI says that it is never NULL, and a string.
    let text = |status| unsafe { CStr::from_ptr(c!(overlane_strerror(status))) };
    let bugs = [OVERLANE_E_INTERNAL, OVERLANE_E_POISONED, OVERLANE_E_BUSY, OVERLANE_E_OTHER];
    status <= 0 && !bugs.contains(&status) && text(status) != text(1)
}
