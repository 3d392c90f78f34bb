//! Which devices and sockets are ready.

use alloc::vec::Vec;
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::carry::{Io, TapSlot};
use crate::linux::sys::PollFds;
use crate::linux::sys::epoll::Epoll;

/// Devices that `poll` asks about one by one. More of them are told by the set alone, so that waiting
/// costs no more with a thousand.
const DIRECT: usize = 16;

/// Descriptors that one wait on the set tells of; others that are ready come with the next one.
const EVENTS: usize = 64;

/// A turn that sends so many datagrams is of a stream.
const STREAM: u64 = 32;

/// Turns without a stream after which the sockets go back into the set.
const CALM: u32 = 64;

/// What a token of the set stands for, above the place.
const TAP: u64 = 0;
const SOCKET: u64 = 1 << 32;
const WAKE: u64 = 2 << 32;

/// The descriptors of a driver, to wait for.
///
/// The kernel keeps an `epoll` set of them, and a wait on it costs less than a `poll`, which is what the
/// round trip of a single packet feels. But the kernel wakes whoever waits on a socket when a datagram
/// that it sent is freed: a set waits always, and so costs a lock for each segment of a stream, where
/// `poll` waits only while there is nothing to do. So while streams are sent the sockets leave the set,
/// and `poll` waits.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// For `poll`: sockets, then devices or the set, then perhaps the descriptor to be woken by.
    fds: PollFds,
    /// The places of the sockets.
    sockets: Vec<usize>,
    /// The places of the devices, unless the set alone tells of them.
    taps: Vec<usize>,
    /// The devices, the sockets unless there are streams, and perhaps the descriptor to be woken by.
    set: Option<Epoll>,
    /// The set alone tells of devices.
    many: bool,
    /// The sockets are in the set.
    calm: bool,
    /// Turns until they are again.
    streaming: u32,
    /// There is a descriptor to be woken by; it is in the set, too.
    wake: bool,
    wake_in_set: bool,
    /// The last wait was on the set.
    by_set: bool,
}

/// The devices that are read from, with their places.
fn readers(io: &Io) -> impl Iterator<Item = (usize, &TapSlot)> {
    io.taps.iter().enumerate().filter(|(_, slot)| slot.reads)
}

impl Watch {
    /// Takes note that devices or sockets came or went.
    ///
    /// # Errors
    /// The kernel takes no set of them; nothing has changed then.
    pub(super) fn renew(&mut self, io: &Io) -> io::Result<()> {
        let mut new = Watch::polling(io);
        let mut set = Epoll::new(EVENTS)?;
        for (place, slot) in readers(io) {
            set.add(slot.tap.as_fd(), TAP | place as u64)?;
        }
        new.many = new.taps.len() > DIRECT;
        if new.many {
            for _ in new.taps.drain(..) {
                new.fds.pop();
            }
            new.fds.push(set.as_fd(), false);
        }
        new.set = Some(set);
        new.calm(io);
        *self = new;
        Ok(())
    }

    /// Where the kernel takes no set: `poll` tells of all devices and sockets.
    pub(super) fn polling(io: &Io) -> Watch {
        let mut watch = Watch::default();
        for (place, slot) in io.sockets.iter().enumerate().filter(|(_, slot)| slot.receives) {
            watch.fds.push(slot.socket.as_fd(), false);
            watch.sockets.push(place);
        }
        for (place, slot) in readers(io) {
            watch.fds.push(slot.tap.as_fd(), false);
            watch.taps.push(place);
        }
        watch
    }

    /// Puts the sockets into the set; where that fails, `poll` tells of them as before.
    fn calm(&mut self, io: &Io) {
        let Some(set) = &mut self.set else { return };
        self.calm = true;
        for place in &self.sockets {
            let Some(slot) = io.sockets.get(*place) else { continue };
            if set.add(slot.socket.as_fd(), SOCKET | *place as u64).is_err() {
                self.stream(io);
                return;
            }
        }
    }

    /// Takes the sockets out of the set.
    fn stream(&mut self, io: &Io) {
        let Some(set) = &mut self.set else { return };
        for slot in self.sockets.iter().filter_map(|place| io.sockets.get(*place)) {
            // One that is not in there is not to be.
            let _ = set.remove(slot.socket.as_fd());
        }
        (self.calm, self.streaming) = (false, CALM);
    }

    #[cfg(test)]
    pub(super) fn is_calm(&self) -> bool {
        self.calm
    }

    /// Learns how many datagrams a turn sent.
    #[inline]
    pub(super) fn sent(&mut self, io: &Io, datagrams: u64) {
        if datagrams >= STREAM {
            self.streaming = CALM;
            if self.calm {
                self.stream(io);
            }
        } else if !self.calm && self.set.is_some() {
            self.streaming = self.streaming.saturating_sub(1);
            if self.streaming == 0 {
                self.calm(io);
            }
        }
    }

    /// From now on, or no longer, waits for this descriptor as well. For one turn: a set is not worth
    /// its calls.
    pub(super) fn set_wake(&mut self, wake: Option<BorrowedFd<'_>>) {
        if core::mem::take(&mut self.wake) {
            self.fds.pop();
        }
        if let Some(fd) = wake {
            self.fds.push(fd, false);
            self.wake = true;
        }
    }

    /// From now on waits for this descriptor as well, until [`Watch::forget_wake`]: for many turns.
    pub(super) fn keep_wake(&mut self, wake: BorrowedFd<'_>) {
        self.set_wake(Some(wake));
        // A file on a disk is in no set; `poll` knows that it is readable.
        self.wake_in_set = self.set.as_mut().is_some_and(|set| set.add(wake, WAKE).is_ok());
    }

    /// The descriptor is the one given to [`Watch::keep_wake`].
    pub(super) fn forget_wake(&mut self, wake: BorrowedFd<'_>) {
        self.set_wake(None);
        if core::mem::take(&mut self.wake_in_set)
            && let Some(set) = &mut self.set
        {
            let _ = set.remove(wake);
        }
    }

    /// Waits until something is ready; how much, at least.
    pub(super) fn wait(&mut self, time: Option<Duration>) -> io::Result<usize> {
        self.by_set = self.calm && (self.wake_in_set || !self.wake);
        if self.by_set
            && let Some(set) = &mut self.set
        {
            return set.wait(time);
        }
        let ready = self.fds.wait(time)?;
        if self.many
            && let Some(set) = &mut self.set
        {
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
        if self.by_set || self.many {
            return self.next_of(TAP, index);
        }
        let sockets = self.sockets.len();
        let at = (index..self.taps.len()).find(|i| self.fds.readable(sockets + i))?;
        self.taps.get(at).map(|place| (*place, at + 1))
    }

    /// As [`next_tap`](Watch::next_tap), of sockets.
    pub(super) fn next_socket(&self, index: usize) -> Option<(usize, usize)> {
        if self.by_set {
            return self.next_of(SOCKET, index);
        }
        let at = (index..self.sockets.len()).find(|i| self.fds.readable(*i))?;
        self.sockets.get(at).map(|place| (*place, at + 1))
    }

    /// The first place of this kind that the set told of, from event `index` on.
    fn next_of(&self, kind: u64, index: usize) -> Option<(usize, usize)> {
        let set = self.set.as_ref()?;
        let mut at = index;
        while let Some(token) = set.token(at) {
            at += 1;
            if token & !u64::from(u32::MAX) == kind {
                return Some(((token & u64::from(u32::MAX)) as usize, at));
            }
        }
        None
    }

    pub(super) fn woken(&self) -> bool {
        match self.by_set {
            true => self.next_of(WAKE, 0).is_some(),
            false => self.wake && self.fds.len().checked_sub(1).is_some_and(|last| self.fds.readable(last)),
        }
    }
}
