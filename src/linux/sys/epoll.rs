//! Readiness of many descriptors, told by a set that the kernel keeps.

use alloc::vec::Vec;
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{check, milliseconds};

/// An `epoll` set, level-triggered, for reading.
#[derive(Debug)]
pub(in crate::linux) struct Epoll {
    fd: OwnedFd,
    events: Vec<Event>,
    ready: usize,
}

/// What `epoll_wait` tells of one descriptor; without the packed layout of the C type.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Event(libc::epoll_event);

impl core::fmt::Debug for Event {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let token = self.0.u64;
        f.debug_tuple("Event").field(&token).finish()
    }
}

impl Epoll {
    /// An empty set that tells of at most `events` descriptors at a time.
    pub(in crate::linux) fn new(events: usize) -> io::Result<Epoll> {
        // SAFETY: no pointers are passed.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: epoll_create1() gave this descriptor just now; nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let none = Event(libc::epoll_event { events: 0, u64: 0 });
        Ok(Epoll { fd, events: alloc::vec![none; events.max(1)], ready: 0 })
    }

    /// Takes a descriptor in. It leaves when its file is closed, or with the set.
    pub(in crate::linux) fn add(&mut self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        let (set, fd) = (self.fd.as_raw_fd(), fd.as_raw_fd());
        // SAFETY: both descriptors are open for the call; the kernel reads one epoll_event at the
        // pointer, a live one.
        check(unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
        Ok(())
    }

    /// Takes a descriptor out.
    pub(in crate::linux) fn remove(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let (set, fd) = (self.fd.as_raw_fd(), fd.as_raw_fd());
        // SAFETY: both descriptors are open for the call; Linux reads no event with this operation, and
        // since 2.6.9 takes a null pointer.
        check(unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_DEL, fd, core::ptr::null_mut()) })?;
        Ok(())
    }

    /// As if nothing were ready.
    pub(in crate::linux) fn forget(&mut self) {
        self.ready = 0;
    }

    /// Waits until a descriptor is readable or has an error to report; how many are. A signal counts
    /// as none.
    pub(in crate::linux) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let (events, len) = (self.events.as_mut_ptr().cast::<libc::epoll_event>(), self.events.len());
        self.ready = 0;
        // SAFETY: the set is open; the kernel writes at most `len` events at the pointer, where as many
        // live, exclusively borrowed ones are: Event is transparent over the C type.
        let ready = unsafe {
            libc::epoll_wait(self.fd.as_raw_fd(), events, len as core::ffi::c_int, milliseconds(timeout))
        };
        match check(ready) {
            Ok(n) => {
                self.ready = n as usize;
                Ok(self.ready)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(e) => Err(e),
        }
    }

    /// The token of ready descriptor `index` of the last wait.
    pub(in crate::linux) fn token(&self, index: usize) -> Option<u64> {
        if index >= self.ready {
            return None;
        }
        self.events.get(index).map(|e| e.0.u64)
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
