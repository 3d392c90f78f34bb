//! Waiting until one of several descriptors is ready.

use alloc::format;
use core::time::Duration;
use std::os::fd::BorrowedFd;

use super::error::Error;
use super::sys::PollFds;

/// Waits for TAPs and sockets. Keeps its memory: after the first call of a size, nothing is allocated.
///
/// ```
/// use std::os::fd::AsFd;
/// use std::time::Duration;
/// use overlane::linux::{Poll, Underlay, UnderlayConfig};
///
/// let a = Underlay::bind("127.0.0.1:0".parse()?, &UnderlayConfig::default())?;
/// let mut b = Underlay::bind("127.0.0.1:0".parse()?, &UnderlayConfig::default())?;
/// b.send(&[b"header", b"payload"], a.local_addr(), None)?;
///
/// let mut poll = Poll::default();
/// let ready = poll.wait([(a.as_fd(), false), (b.as_fd(), false)], Some(Duration::from_secs(5)))?;
/// assert_eq!((ready, poll.readable(0), poll.readable(1)), (1, true, false));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Poll(PollFds);

impl Poll {
    /// Waits until one of `fds` is readable, or writable where its `bool` is set, or has an error
    /// that the next call on it reports; at most `timeout` (rounded up to milliseconds), or for
    /// ever. The number of ready descriptors: 0 after the timeout, and after a signal.
    ///
    /// One `poll(2)`: the time grows with the number of descriptors.
    pub fn wait<'fd>(
        &mut self,
        fds: impl IntoIterator<Item = (BorrowedFd<'fd>, bool)>,
        timeout: Option<Duration>,
    ) -> Result<usize, Error> {
        self.0.clear();
        for (fd, writable) in fds {
            self.0.push(fd, writable);
        }
        self.0.wait(timeout).map_err(|e| Error::new("wait for", format!("{} descriptors", self.0.len()), e))
    }

    /// Whether descriptor `index` of the last [`Poll::wait`], from 0, has something to read or an
    /// error to report.
    pub fn readable(&self, index: usize) -> bool {
        self.0.readable(index)
    }

    /// Whether descriptor `index` of the last [`Poll::wait`], from 0, takes writes or has an error to
    /// report.
    pub fn writable(&self, index: usize) -> bool {
        self.0.writable(index)
    }
}
