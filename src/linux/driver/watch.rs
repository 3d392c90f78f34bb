//! Which devices and sockets are ready.

use alloc::vec::Vec;
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::carry::Io;
use crate::linux::sys::PollFds;
use crate::linux::sys::epoll::Epoll;

/// Devices that are asked about one by one. More of them are in a set that the kernel keeps, so that
/// waiting costs no more with a thousand.
const DIRECT: usize = 16;

/// Devices of such a set that one wait tells of; others that are ready come with the next one.
const EVENTS: usize = 64;

/// The descriptors of a driver, to wait for.
///
/// The sockets never go into an `epoll` set. The kernel wakes whoever waits on a socket when a
/// datagram that it sent is freed: a set waits always, and so costs a lock for each segment, where
/// `poll` waits only while there is nothing to do.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Sockets, then devices or the set of them, then perhaps the descriptor to be woken by.
    fds: PollFds,
    /// The places of the sockets.
    sockets: Vec<usize>,
    /// The places of the devices, unless they are in a set.
    taps: Vec<usize>,
    set: Option<Epoll>,
    wake: bool,
}

impl Watch {
    /// Takes note that devices or sockets came or went.
    pub(super) fn renew(&mut self, io: &Io) -> io::Result<()> {
        self.wake = false;
        self.fds.clear();
        self.set = None;
        self.taps.clear();
        self.sockets.clear();
        for (place, slot) in io.sockets.iter().enumerate().filter(|(_, slot)| slot.receives) {
            self.fds.push(slot.socket.as_fd(), false);
            self.sockets.push(place);
        }
        let taps = io.taps.iter().enumerate().filter(|(_, slot)| slot.reads);
        if taps.clone().count() <= DIRECT {
            for (place, slot) in taps {
                self.fds.push(slot.tap.as_fd(), false);
                self.taps.push(place);
            }
            return Ok(());
        }
        let mut set = Epoll::new(EVENTS)?;
        for (place, slot) in taps {
            set.add(slot.tap.as_fd(), place as u64)?;
        }
        self.fds.push(set.as_fd(), false);
        self.set = Some(set);
        Ok(())
    }

    /// From now on, or no longer, waits for this descriptor as well.
    pub(super) fn set_wake(&mut self, wake: Option<BorrowedFd<'_>>) {
        if core::mem::take(&mut self.wake) {
            self.fds.pop();
        }
        if let Some(fd) = wake {
            self.fds.push(fd, false);
            self.wake = true;
        }
    }

    /// Waits until something is ready; how much, at least.
    pub(super) fn wait(&mut self, time: Option<Duration>) -> io::Result<usize> {
        let ready = self.fds.wait(time)?;
        if let Some(set) = &mut self.set {
            set.forget();
            if ready > 0 && self.fds.readable(self.sockets.len()) {
                set.wait(Some(Duration::ZERO))?;
            }
        }
        Ok(ready)
    }

    /// The places of devices that are ready, one after the other: the first from `index` on, and the
    /// index to go on from.
    pub(super) fn next_tap(&self, index: usize) -> Option<(usize, usize)> {
        match &self.set {
            Some(set) => set.token(index).map(|place| (place as usize, index + 1)),
            None => {
                let sockets = self.sockets.len();
                let at = (index..self.taps.len()).find(|i| self.fds.readable(sockets + i))?;
                self.taps.get(at).map(|place| (*place, at + 1))
            }
        }
    }

    /// As [`next_tap`](Watch::next_tap), of sockets.
    pub(super) fn next_socket(&self, index: usize) -> Option<(usize, usize)> {
        let at = (index..self.sockets.len()).find(|i| self.fds.readable(*i))?;
        self.sockets.get(at).map(|place| (*place, at + 1))
    }

    pub(super) fn woken(&self) -> bool {
        self.wake && self.fds.len().checked_sub(1).is_some_and(|last| self.fds.readable(last))
    }
}
