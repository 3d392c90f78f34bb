//! An underlay that misbehaves: a relay of UDP datagrams between two VTEPs, which loses, repeats,
//! delays and reorders them as a seed says.
//!
//! Each VTEP takes the relay's address on its side for the other VTEP. What the relay decides for the
//! n-th datagram of a direction depends on the seed and on n alone.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeSpec;

use crate::fabric::rng::Rng;
use crate::netns::NetNs;

/// What happens to datagrams on the way, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// The seed of all chance.
    pub seed: u64,
    /// Lost, in a thousand.
    pub loss: u32,
    /// Sent twice, in a thousand.
    pub duplicate: u32,
    /// Held back, so that later ones overtake them, in a thousand.
    pub reorder: u32,
    /// How long at most those are held back.
    pub hold: Duration,
    /// How long all others take, besides the way itself.
    pub delay: Duration,
    /// How many may be under way in one direction; what comes beyond that is lost.
    pub queue: usize,
}

impl Faults {
    /// None at all.
    pub const NONE: Faults = Faults {
        seed: 0,
        loss: 0,
        duplicate: 0,
        reorder: 0,
        hold: Duration::ZERO,
        delay: Duration::ZERO,
        queue: usize::MAX,
    };
}

/// One side of the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    /// Where the relay receives, and sends from.
    pub local: SocketAddr,
    /// The VTEP on this side. Datagrams from other hosts are not relayed.
    pub vtep: SocketAddr,
}

/// What the relay did in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Relayed {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams sent on; those sent twice count twice.
    pub sent: u64,
    /// Lost on purpose.
    pub lost: u64,
    /// Sent twice on purpose; counted before they are sent.
    pub duplicated: u64,
    /// Held back on purpose.
    pub reordered: u64,
    /// Lost for want of room in the queue.
    pub overflowed: u64,
    /// Not taken by the kernel.
    pub refused: u64,
    /// The longest one in octets.
    pub longest: u64,
}

/// [`Relayed`], written by one thread and read by others.
#[derive(Debug, Default)]
struct Counters([AtomicU64; 8]);

impl Counters {
    fn add(&self, at: usize) {
        self.0[at].fetch_add(1, Ordering::Release);
    }

    fn read(&self) -> Relayed {
        let n = |at: usize| self.0[at].load(Ordering::Acquire);
        Relayed {
            received: n(RECEIVED),
            sent: n(SENT),
            lost: n(LOST),
            duplicated: n(DUPLICATED),
            reordered: n(REORDERED),
            overflowed: n(OVERFLOWED),
            refused: n(REFUSED),
            longest: n(LONGEST),
        }
    }
}

const RECEIVED: usize = 0;
const SENT: usize = 1;
const LOST: usize = 2;
const DUPLICATED: usize = 3;
const REORDERED: usize = 4;
const OVERFLOWED: usize = 5;
const REFUSED: usize = 6;
const LONGEST: usize = 7;

/// A running relay. Dropping it ends it.
#[derive(Debug)]
pub struct Relay {
    stop: Arc<AtomicBool>,
    counters: [Arc<Counters>; 2],
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Starts to relay between two sides in `ns`.
    pub fn start(ns: &NetNs, sides: [Side; 2], faults: Faults) -> io::Result<Relay> {
        let sockets = ns.run(|| -> io::Result<[Arc<UdpSocket>; 2]> {
            Ok([Arc::new(open(sides[0].local)?), Arc::new(open(sides[1].local)?)])
        })?;
        let mut relay = Relay { stop: Arc::default(), counters: Default::default(), threads: Vec::new() };
        for direction in [0, 1] {
            let way = Way {
                from: sockets[direction].clone(),
                source: sides[direction].vtep,
                to: sockets[1 - direction].clone(),
                vtep: sides[1 - direction].vtep,
                faults,
                rng: Rng::new(faults.seed ^ direction as u64),
                waiting: BTreeMap::new(),
                number: 0,
                counters: relay.counters[direction].clone(),
            };
            let stop = relay.stop.clone();
            relay.threads.push(
                std::thread::Builder::new()
                    .name(format!("relay {direction}"))
                    .spawn(move || way.run(&stop))?,
            );
        }
        Ok(relay)
    }

    /// What it did so far: from the first side to the second, and back.
    pub fn counters(&self) -> [Relayed; 2] {
        [self.counters[0].read(), self.counters[1].read()]
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn open(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(local)?;
    socket.set_nonblocking(true)?;
    for force in [true, false] {
        let size = 8 << 20;
        let set = match force {
            true => setsockopt(&socket, sockopt::RcvBufForce, &size),
            false => setsockopt(&socket, sockopt::RcvBuf, &size),
        };
        if set.is_ok() {
            break;
        }
    }
    Ok(socket)
}

/// One direction.
struct Way {
    from: Arc<UdpSocket>,
    source: SocketAddr,
    to: Arc<UdpSocket>,
    vtep: SocketAddr,
    faults: Faults,
    rng: Rng,
    /// By the time they are due, then in the order of arrival.
    waiting: BTreeMap<(Instant, u64), Vec<u8>>,
    number: u64,
    counters: Arc<Counters>,
}

impl Way {
    /// How many are received before it is looked at what is due.
    const BATCH: usize = 64;
    /// How often it is looked at whether to stop.
    const LOOK: Duration = Duration::from_millis(50);

    fn run(mut self, stop: &AtomicBool) {
        let mut buffer = vec![0; 65_536];
        while !stop.load(Ordering::Relaxed) {
            let due =
                self.waiting.keys().next().map(|(due, _)| due.saturating_duration_since(Instant::now()));
            let wait = due.unwrap_or(Self::LOOK).min(Self::LOOK);
            let mut ready = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
            let _ = ppoll(&mut ready, Some(TimeSpec::from(wait)), None);
            for _ in 0..Self::BATCH {
                match self.from.recv_from(&mut buffer) {
                    Ok((len, from)) if from.ip() == self.source.ip() => self.take(&buffer[..len]),
                    Ok(_) => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    // An ICMP error for what was sent earlier.
                    Err(_) => {}
                }
            }
            self.send_due();
        }
    }

    fn take(&mut self, datagram: &[u8]) {
        self.counters.add(RECEIVED);
        self.counters.0[LONGEST].fetch_max(datagram.len() as u64, Ordering::Relaxed);
        // Always as many draws, so that the n-th decision does not depend on the ones before.
        let lost = self.rng.permille(self.faults.loss);
        let twice = self.rng.permille(self.faults.duplicate);
        let held = self.rng.permille(self.faults.reorder);
        let hold = self.rng.below(self.faults.hold.as_nanos() as u64 + 1);
        if lost {
            self.counters.add(LOST);
            return;
        }
        let mut wait = self.faults.delay;
        if held {
            self.counters.add(REORDERED);
            wait += Duration::from_nanos(hold);
        }
        if twice {
            self.counters.add(DUPLICATED);
        }
        for _ in 0..=u8::from(twice) {
            if self.waiting.len() >= self.faults.queue {
                self.counters.add(OVERFLOWED);
            } else if wait.is_zero() {
                self.send(datagram);
            } else {
                self.waiting.insert((Instant::now() + wait, self.number), datagram.to_vec());
                self.number += 1;
            }
        }
    }

    fn send_due(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.waiting.first_entry().filter(|e| e.key().0 <= now) {
            let datagram = first.remove();
            self.send(&datagram);
        }
    }

    fn send(&self, datagram: &[u8]) {
        match self.to.send_to(datagram, self.vtep) {
            Ok(_) => self.counters.add(SENT),
            Err(_) => self.counters.add(REFUSED),
        }
    }
}
