//! Transfers whose every octet is compared on arrival: streams over TCP, datagrams over UDP.
//!
//! Both ends are threads of this process, each in its namespace. What they send follows from a seed
//! and the place in the transfer, so nothing is kept and a transfer may be of any length.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::SockRef;

use crate::netns::NetNs;

/// Octets without a pattern: each eight follow from the seed and their place (SplitMix64), so octets
/// that were lost, repeated or moved by any distance are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content(u64);

impl Content {
    /// The content of this seed.
    pub fn new(seed: u64) -> Content {
        Content(seed)
    }

    fn word(self, index: u64) -> [u8; 8] {
        let mut z = self.0.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    }

    /// Fills `out` with what is at octet `at` and behind.
    pub fn fill(self, at: u64, out: &mut [u8]) {
        let skip = (at % 8) as usize;
        let (head, rest) = out.split_at_mut(out.len().min((8 - skip) % 8));
        head.copy_from_slice(&self.word(at / 8)[skip..][..head.len()]);
        let first = at.div_ceil(8);
        for (index, piece) in rest.chunks_mut(8).enumerate() {
            piece.copy_from_slice(&self.word(first + index as u64)[..piece.len()]);
        }
    }

    /// The first place at which `data`, which should be at octet `at`, is not as it should be.
    pub fn differs(self, at: u64, data: &[u8]) -> Option<u64> {
        let mut expected = [0; 4096];
        for (index, piece) in data.chunks(expected.len()).enumerate() {
            let at = at + (index * expected.len()) as u64;
            let expected = &mut expected[..piece.len()];
            self.fill(at, expected);
            if expected != piece {
                let same = expected.iter().zip(piece).take_while(|(a, b)| a == b).count();
                return Some(at + same as u64);
            }
        }
        None
    }
}

/// What the threads of a transfer hear of each other, and when it must be over.
struct Watch {
    arrived: Mutex<u64>,
    changed: Condvar,
    deadline: Instant,
}

impl Watch {
    fn new(timeout: Duration) -> Watch {
        Watch { arrived: Mutex::new(0), changed: Condvar::new(), deadline: Instant::now() + timeout }
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(io::Error::new(io::ErrorKind::TimedOut, "not done in time"))
        } else {
            Ok(left)
        }
    }

    fn add(&self) {
        *self.arrived.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    /// Waits for `enough` to have arrived; how many have.
    fn wait(&self, enough: u64, patience: Duration) -> u64 {
        let arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.changed.wait_timeout_while(arrived, patience, |n| *n < enough);
        *done.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// A stream over one TCP connection.
#[derive(Debug, Clone, Copy)]
pub struct Stream<'a> {
    /// Octets.
    pub bytes: u64,
    /// How many octets each write has, over and over; each is sent at once (`TCP_NODELAY`). Empty:
    /// 128 KiB, and TCP as it likes.
    pub writes: &'a [usize],
    /// The seed of the content.
    pub seed: u64,
    /// How long it may take.
    pub timeout: Duration,
}

/// A stream that arrived whole and unchanged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transfer {
    /// Octets of payload.
    pub bytes: u64,
    /// From the first octet sent to the last one compared.
    pub elapsed: Duration,
}

impl Transfer {
    /// Payload bits per second.
    pub fn bits_per_second(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

const CHUNK: usize = 128 << 10;

impl Stream<'_> {
    /// From a socket in `sender` to one in `receiver` that listens on `to`. An error says what
    /// differed or did not come in time.
    pub fn run(&self, receiver: &NetNs, sender: &NetNs, to: IpAddr) -> io::Result<Transfer> {
        let watch = Watch::new(self.timeout);
        let listener = receiver.run(|| TcpListener::bind((to, 0)))?;
        let addr = listener.local_addr()?;
        std::thread::scope(|scope| {
            let receiving = scope.spawn(|| {
                // On Linux the receive timeout of a listener is that of accept.
                SockRef::from(&listener).set_read_timeout(Some(self.timeout))?;
                let (stream, _) = listener.accept()?;
                self.compare(stream, &watch)
            });
            let sending = sender.run(|| {
                let stream = TcpStream::connect_timeout(&addr, self.timeout)?;
                let start = Instant::now();
                self.send(&stream, &watch).map(|()| (stream, start))
            });
            // The sender's end stays open until all has come: a kernel gives up one that is closed when it
            // likes, and tells nobody.
            let received = receiving.join().map_err(|_| io::Error::other("the receiver panicked"))?;
            let sent = match sending {
                Ok((stream, start)) => stream.take_error().and_then(|e| e.map_or(Ok(start), Err)),
                Err(error) => Err(error),
            };
            match (received, sent) {
                (Ok(end), Ok(start)) => {
                    Ok(Transfer { bytes: self.bytes, elapsed: end.saturating_duration_since(start) })
                }
                (Ok(_), Err(sender)) => Err(sender),
                (Err(receiver), Ok(_)) => Err(receiver),
                (Err(receiver), Err(sender)) => {
                    Err(io::Error::new(receiver.kind(), format!("{receiver}; the sender: {sender}")))
                }
            }
        })
    }

    fn send(&self, mut stream: &TcpStream, watch: &Watch) -> io::Result<()> {
        stream.set_nodelay(!self.writes.is_empty())?;
        let content = Content::new(self.seed);
        let mut buffer = vec![0; self.writes.iter().copied().max().unwrap_or(CHUNK)];
        let mut sizes = self.writes.iter().cycle();
        let mut sent = 0;
        while sent < self.bytes {
            let size = sizes.next().copied().unwrap_or(CHUNK).max(1);
            let part = &mut buffer[..size.min((self.bytes - sent) as usize)];
            content.fill(sent, part);
            sent += part.len() as u64;
            let mut rest = &*part;
            while !rest.is_empty() {
                stream.set_write_timeout(Some(watch.left()?))?;
                match stream.write(rest) {
                    Ok(taken) => rest = &rest[taken..],
                    Err(e) if again(&e) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        stream.shutdown(Shutdown::Write)
    }

    fn compare(&self, mut stream: TcpStream, watch: &Watch) -> io::Result<Instant> {
        let content = Content::new(self.seed);
        let mut buffer = vec![0; CHUNK];
        let mut got = 0;
        loop {
            let left =
                watch.left().map_err(|e| io::Error::new(e.kind(), format!("{e}: {got} octets came")))?;
            stream.set_read_timeout(Some(left))?;
            let len = match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => len,
                Err(e) if again(&e) => continue,
                Err(e) => return Err(e),
            };
            if let Some(place) = content.differs(got, &buffer[..len]) {
                return Err(io::Error::other(format!("the stream differs at octet {place}")));
            }
            got += len as u64;
        }
        if got != self.bytes {
            return Err(io::Error::other(format!("{got} of {} octets arrived", self.bytes)));
        }
        Ok(Instant::now())
    }
}

/// Datagrams over UDP, one way, as many in flight as a window allows.
#[derive(Debug, Clone, Copy)]
pub struct Datagrams<'a> {
    /// How many.
    pub count: u64,
    /// The octets of each, over and over; from 8 on a datagram has a number, and is told from others.
    pub sizes: &'a [usize],
    /// Hand the kernel this many of one size at a time, to cut itself (`UDP_SEGMENT`): from 2 on.
    pub at_once: usize,
    /// With those: how much shorter the last of them is.
    pub shorter: usize,
    /// How many may be sent that have not arrived; `u64::MAX` sends without regard to that.
    pub window: u64,
    /// How long the sender waits for room in the window, and the receiver for the last ones. What has
    /// not come then is lost, for the sender.
    pub patience: Duration,
    /// The seed of the content.
    pub seed: u64,
    /// How long it may take.
    pub timeout: Duration,
}

impl Default for Datagrams<'_> {
    fn default() -> Self {
        Datagrams {
            count: 100,
            sizes: &[1000],
            at_once: 1,
            shorter: 0,
            window: 16,
            patience: Duration::from_secs(2),
            seed: 1,
            timeout: Duration::from_secs(60),
        }
    }
}

/// What became of [`Datagrams`]. All that arrived had been sent, with these octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Arrivals {
    /// Handed to the kernel.
    pub sent: u64,
    /// Refused by the sender's kernel; not among `sent`.
    pub refused: u64,
    /// Arrived, each counted once.
    pub received: u64,
    /// Arrived again.
    pub repeated: u64,
    /// Arrived after one that was sent later.
    pub overtaken: u64,
}

impl Arrivals {
    /// Sent and not received.
    pub fn lost(&self) -> u64 {
        self.sent - self.received
    }
}

/// A datagram too short for a number.
const UNNUMBERED: usize = 8;

impl Datagrams<'_> {
    /// From `sender` to `to` in `receiver`. An error is a datagram that nobody sent like this, or no
    /// end in time; what is lost is none.
    pub fn run(&self, receiver: &NetNs, sender: &NetNs, to: IpAddr) -> io::Result<Arrivals> {
        let watch = Watch::new(self.timeout);
        let inbox = receiver.run(|| UdpSocket::bind((to, 0)))?;
        // As much as the system gives; a receiver that is slow to be scheduled needs it.
        let _ = setsockopt(&inbox, sockopt::RcvBufForce, &(4 << 20))
            .or_else(|_| setsockopt(&inbox, sockopt::RcvBuf, &(4 << 20)));
        let addr = inbox.local_addr()?;
        let sent = Mutex::new(None);
        std::thread::scope(|scope| {
            let receiving = scope.spawn(|| self.receive(&inbox, &watch, &sent));
            let sending = sender.run(|| self.send(addr, &watch));
            let (done, refused) = *sending.as_ref().unwrap_or(&(0, 0));
            *sent.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
            let arrivals = receiving.join().map_err(|_| io::Error::other("the receiver panicked"))?;
            sending?;
            Ok(Arrivals { sent: done, refused, ..arrivals? })
        })
    }

    /// The size of datagram `number`.
    fn size(&self, number: u64) -> usize {
        let together = self.at_once.max(1) as u64;
        let size = self.sizes[(number / together % self.sizes.len() as u64) as usize];
        if number % together == together - 1 { size.saturating_sub(self.shorter).max(1) } else { size }
    }

    /// Datagram `number`: its number, and content of its own. A short one has content that follows
    /// from its length.
    fn fill(&self, number: u64, out: &mut [u8]) {
        match out.split_first_chunk_mut::<UNNUMBERED>() {
            Some((head, rest)) => {
                *head = number.to_be_bytes();
                Content::new(self.seed ^ number.rotate_left(32)).fill(0, rest);
            }
            None => Content::new(self.seed ^ out.len() as u64).fill(0, out),
        }
    }

    fn send(&self, to: SocketAddr, watch: &Watch) -> io::Result<(u64, u64)> {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        let _ = setsockopt(&socket, sockopt::SndBuf, &(4 << 20));
        let (mut sent, mut refused, mut given_up) = (0, 0, 0);
        let mut number = 0;
        let mut buffer = Vec::new();
        while number < self.count {
            watch.left()?;
            let together = (self.at_once.max(1) as u64).min(self.count - number);
            let size = self.size(number);
            let last = self.size(number + together - 1);
            buffer.resize(size * (together as usize - 1) + last, 0);
            for (n, datagram) in (number..).zip(buffer.chunks_mut(size.max(1))) {
                self.fill(n, datagram);
            }
            if self.at_once > 1 {
                setsockopt(&socket, sockopt::UdpGsoSegment, &(size as i32))?;
            }
            if self.window < u64::MAX {
                let enough = (sent + together).saturating_sub(given_up).saturating_sub(self.window);
                if watch.wait(enough, self.patience) < enough {
                    // Lost; the window is for what comes now.
                    given_up = sent.saturating_sub(watch.wait(0, Duration::ZERO));
                }
            }
            match socket.send(&buffer) {
                Ok(_) => sent += together,
                // The queue is full, or an ICMP error came for an earlier one.
                Err(_) => refused += together,
            }
            number += together;
        }
        Ok((sent, refused))
    }

    fn receive(&self, socket: &UdpSocket, watch: &Watch, sent: &Mutex<Option<u64>>) -> io::Result<Arrivals> {
        socket.set_read_timeout(Some(Duration::from_millis(4)))?;
        let (mut buffer, mut expected) = (vec![0; 65_536], vec![0; 65_536]);
        let mut arrivals = Arrivals::default();
        let mut seen = vec![false; self.count as usize];
        let (mut newest, mut short, short_ones) = (None, 0, self.short());
        let mut quiet_since = Instant::now();
        loop {
            let len = match socket.recv(&mut buffer) {
                Ok(len) => len,
                Err(e) if again(&e) => {
                    let done = *sent.lock().unwrap_or_else(PoisonError::into_inner);
                    let all = done.is_some_and(|sent| arrivals.received >= sent);
                    if all || done.is_some() && quiet_since.elapsed() > self.patience {
                        return Ok(arrivals);
                    }
                    watch.left()?;
                    continue;
                }
                Err(e) => return Err(e),
            };
            quiet_since = Instant::now();
            let datagram = &buffer[..len];
            let expected = &mut expected[..len];
            let number = datagram.first_chunk().map(|n| u64::from_be_bytes(*n));
            self.fill(number.unwrap_or(0), expected);
            let known = match number {
                Some(n) => n < self.count && self.size(n) == len,
                None => len > 0 && (0..self.count.min(self.round())).any(|n| self.size(n) == len),
            };
            if !known || expected != datagram {
                let what = number.map_or_else(|| "one without a number".into(), |n| format!("number {n}"));
                return Err(io::Error::other(format!(
                    "a datagram arrived that was not sent so: {len} octets, {what}"
                )));
            }
            match number {
                Some(n) if core::mem::replace(&mut seen[n as usize], true) => {
                    arrivals.repeated += 1;
                    continue;
                }
                Some(n) if newest.is_some_and(|newest| n < newest) => arrivals.overtaken += 1,
                Some(n) => newest = Some(n),
                // Whether it is the same one again cannot be said, unless there are too many.
                None if short >= short_ones => {
                    arrivals.repeated += 1;
                    continue;
                }
                None => short += 1,
            }
            arrivals.received += 1;
            watch.add();
        }
    }

    /// After how many the sizes begin again.
    fn round(&self) -> u64 {
        (self.sizes.len() * self.at_once.max(1)) as u64
    }

    /// How many are too short for a number.
    fn short(&self) -> u64 {
        if (0..self.round()).all(|n| self.size(n) >= UNNUMBERED) {
            return 0;
        }
        (0..self.count).filter(|n| self.size(*n) < UNNUMBERED).count() as u64
    }
}

fn again(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn content_is_the_same_however_it_is_cut() {
        let content = Content::new(7);
        let mut whole = [0; 1000];
        content.fill(0, &mut whole);
        for at in [0, 1, 7, 8, 9, 63, 500] {
            for len in [0, 1, 5, 8, 9, 100, 500] {
                let mut part = vec![0; len];
                content.fill(at as u64, &mut part);
                assert_eq!(part, whole[at..at + len], "{len} octets at {at}");
            }
        }
        assert_eq!(content.differs(3, &whole[3..]), None);
    }

    #[test]
    fn a_changed_moved_or_repeated_octet_is_seen() {
        let content = Content::new(7);
        let mut data = vec![0; 10_000];
        content.fill(5, &mut data);
        assert_eq!(content.differs(5, &data), None);
        assert_eq!(Content::new(8).differs(5, &data), Some(5));
        for place in [0, 4095, 4096, 9999] {
            let mut data = data.clone();
            data[place] ^= 1;
            assert_eq!(content.differs(5, &data), Some(5 + place as u64));
        }
        for distance in [8, 4096, 65_521, 65_536] {
            assert!(content.differs(5 + distance, &data).is_some(), "moved by {distance}");
        }
    }

    #[test]
    fn datagrams_are_told_apart() {
        let all = Datagrams { count: 50, sizes: &[1, 7, 8, 100], ..Datagrams::default() };
        let made: Vec<Vec<u8>> = (0..all.count)
            .map(|n| {
                let mut datagram = vec![0; all.size(n)];
                all.fill(n, &mut datagram);
                datagram
            })
            .collect();
        assert_eq!(made[0], made[4], "a short one has no number");
        let numbered: HashSet<_> = made.iter().filter(|d| d.len() >= UNNUMBERED).collect();
        assert_eq!(numbered.len() as u64, all.count - all.short());
        let cut = Datagrams { sizes: &[100, 50], at_once: 3, shorter: 10, ..all };
        assert_eq!((0..8).map(|n| cut.size(n)).collect::<Vec<_>>(), [100, 100, 90, 50, 50, 40, 100, 100]);
    }
}
