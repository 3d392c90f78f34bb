//! Signals, as something that a readiness loop can wait for.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use overlane::linux::{Error, Poll};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::{flag, low_level::pipe};

/// What the signals since the last time ask for.
pub(crate) enum Asked {
    Nothing,
    Report,
    End,
}

pub(crate) struct Signals {
    wake: UnixStream,
    waker: UnixStream,
    end: Arc<AtomicBool>,
    report: Arc<AtomicBool>,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Signals> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let signals = Signals { wake, waker, end: Arc::default(), report: Arc::default() };
        for (signal, flag) in [(SIGINT, &signals.end), (SIGTERM, &signals.end), (SIGUSR1, &signals.report)] {
            // In this order: whoever is woken finds the flag set.
            flag::register(signal, Arc::clone(flag))?;
            pipe::register(signal, signals.waker.try_clone()?)?;
        }
        Ok(signals)
    }

    /// What is written here is as a signal that asks for nothing.
    pub(crate) fn waker(&self) -> &UnixStream {
        &self.waker
    }

    /// Waits for a signal, for so long at most.
    pub(crate) fn wait(&self, time: Duration) -> Result<(), Error> {
        Poll::default().wait([(self.as_fd(), false)], Some(time)).map(|_| ())
    }

    pub(crate) fn take(&mut self) -> Asked {
        let mut octets = [0; 64];
        while self.wake.read(&mut octets).is_ok_and(|n| n == octets.len()) {}
        if self.end.swap(false, Ordering::Relaxed) {
            Asked::End
        } else if self.report.swap(false, Ordering::Relaxed) {
            Asked::Report
        } else {
            Asked::Nothing
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
