//! Which devices and sockets are ready.

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
    sockets: usize,
    taps: usize,
    set: Option<Epoll>,
    wake: bool,
}

impl Watch {
    /// Takes note that devices or sockets came or went.
    pub(super) fn renew(&mut self, io: &Io) -> io::Result<()> {
        self.wake = false;
        self.fds.clear();
        self.set = None;
        (self.sockets, self.taps) = (io.sockets.len(), io.taps.len());
        for slot in &io.sockets {
            self.fds.push(slot.socket.as_fd(), false);
        }
        if self.taps <= DIRECT {
            for slot in &io.taps {
                self.fds.push(slot.tap.as_fd(), false);
            }
            return Ok(());
        }
        let mut set = Epoll::new(EVENTS)?;
        for (place, slot) in io.taps.iter().enumerate() {
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
            if ready > 0 && self.fds.readable(self.sockets) {
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
                let place = (index..self.taps).find(|i| self.fds.readable(self.sockets + i))?;
                Some((place, place + 1))
            }
        }
    }

    pub(super) fn socket(&self, place: usize) -> bool {
        self.fds.readable(place)
    }

    pub(super) fn woken(&self) -> bool {
        self.wake && self.fds.len().checked_sub(1).is_some_and(|last| self.fds.readable(last))
    }
}
