//! Traffic whose result is known: echo, a byte-exact stream, datagrams there and back.

use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicU16, Ordering};
use core::time::Duration;
use std::io::{self, Read};
use std::net::UdpSocket;
use std::time::Instant;

use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::NetNs;
pub use crate::transfer::Transfer;
use crate::transfer::{Content, Stream};

/// What [`ping`] sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping {
    /// Echo requests.
    pub count: u16,
    /// Between two requests.
    pub interval: Duration,
    /// How long each answer may take.
    pub timeout: Duration,
    /// Octets behind the ICMP header.
    pub payload: usize,
}

impl Default for Ping {
    fn default() -> Ping {
        // Longer than a busy machine leaves a thread without a processor.
        Ping { count: 5, interval: Duration::from_millis(10), timeout: Duration::from_secs(10), payload: 56 }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PingStats {
    /// Requests sent, those included that the kernel refused.
    pub sent: u16,
    /// Right answers: sequence number and payload as sent.
    pub received: u16,
    /// The time of each answer, in order.
    pub times: Vec<Duration>,
}

impl PingStats {
    /// Every request was answered.
    pub fn all(&self) -> bool {
        self.sent > 0 && self.sent == self.received
    }

    /// Half of the answers were at least this quick.
    pub fn median(&self) -> Option<Duration> {
        let mut times = self.times.clone();
        times.sort();
        times.get(times.len().checked_sub(1)? / 2).copied()
    }
}

/// ICMP or ICMPv6 echo from `ns` to `to`. An error is a socket that cannot be had; what cannot be
/// reached is lost packets.
pub fn ping(ns: &NetNs, to: IpAddr, ping: &Ping) -> io::Result<PingStats> {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let (domain, protocol) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = ns.run(|| Socket::new(domain, Type::RAW, Some(protocol)))?;
    let mut stats = PingStats::default();
    for sequence in 0..ping.count {
        if sequence > 0 {
            std::thread::sleep(ping.interval);
        }
        let request = echo(to, id, sequence, ping.payload);
        let start = Instant::now();
        stats.sent += 1;
        if socket.send_to(&request, &SocketAddr::new(to, 0).into()).is_err() {
            std::thread::sleep(ping.timeout);
            continue;
        }
        if answered(&socket, to, &request, start + ping.timeout) {
            stats.received += 1;
            stats.times.push(start.elapsed());
        }
    }
    Ok(stats)
}

/// Pings until there is an answer, `within` this time: the first requests may wait for a neighbour, or
/// for a device that is just coming up, and be lost. Whether there was one.
pub fn answers(ns: &NetNs, to: IpAddr, within: Duration) -> io::Result<bool> {
    let mut one = Ping { count: 1, timeout: Duration::from_millis(200), ..Ping::default() };
    let end = Instant::now() + within;
    while Instant::now() < end {
        if ping(ns, to, &one)?.all() {
            return Ok(true);
        }
        one.timeout = (2 * one.timeout).min(Ping::default().timeout);
    }
    Ok(false)
}

fn echo(to: IpAddr, id: u16, sequence: u16, payload: usize) -> Vec<u8> {
    let mut packet = vec![if to.is_ipv4() { 8 } else { 128 }, 0, 0, 0];
    packet.extend(id.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(content(sequence.into(), payload));
    // For ICMPv6 the kernel does it, which knows the source address.
    if to.is_ipv4() {
        let words = packet.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)));
        let sum = words.sum::<u32>();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        packet[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }
    packet
}

fn answered(mut socket: &Socket, to: IpAddr, request: &[u8], deadline: Instant) -> bool {
    let mut buffer = vec![0; request.len() + 256];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || socket.set_read_timeout(Some(left)).is_err() {
            return false;
        }
        let len = match socket.read(&mut buffer) {
            Ok(len) => len,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => continue,
            Err(_) => return false,
        };
        // IPv4 raw sockets give the IP header too.
        let skip = if to.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
        let reply = buffer.get(skip..len).unwrap_or(&[]);
        let kind = if to.is_ipv4() { 0 } else { 129 };
        if reply.first() == Some(&kind) && reply.get(4..) == request.get(4..) {
            return true;
        }
    }
}

/// Sends `bytes` octets over one TCP connection, from a socket in `sender` to one in `receiver` that
/// listens on `to`, and compares every octet on arrival. An error says what differed or did not come
/// within `timeout`.
pub fn tcp_transfer(
    receiver: &NetNs,
    sender: &NetNs,
    to: IpAddr,
    bytes: u64,
    timeout: Duration,
) -> io::Result<Transfer> {
    Stream { bytes, writes: &[], seed: 7, timeout }.run(receiver, sender, to)
}

/// What became of the datagrams of [`udp_exchange`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exchange {
    /// Datagrams sent.
    pub sent: u32,
    /// Came back with the octets that were sent.
    pub echoed: u32,
    /// Came back changed.
    pub corrupt: u32,
}

/// Sends `count` datagrams of `size` octets, one after the other, from `client` to an echo server in
/// `server` at `to`, and waits at most `timeout` for each to come back.
pub fn udp_exchange(
    server: &NetNs,
    client: &NetNs,
    to: IpAddr,
    count: u32,
    size: usize,
    timeout: Duration,
) -> io::Result<Exchange> {
    let echo = server.run(|| UdpSocket::bind((to, 0)))?;
    let addr = echo.local_addr()?;
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = client.run(|| UdpSocket::bind(any))?;
    socket.connect(addr)?;
    let mut result = Exchange::default();
    let mut buffer = vec![0; 65_536];
    for number in 0..count {
        let number = number.to_be_bytes();
        let request: Vec<u8> = number.into_iter().chain(content(number[3].into(), size)).take(size).collect();
        result.sent += 1;
        let deadline = Instant::now() + timeout;
        if socket.send(&request).is_err() {
            continue;
        }
        if let Some((len, from)) = receive(&echo, &mut buffer, deadline) {
            let _ = echo.send_to(&buffer[..len], from);
        }
        while let Some((len, _)) = receive(&socket, &mut buffer, deadline) {
            let reply = &buffer[..len];
            if reply == request {
                result.echoed += 1;
                break;
            }
            // The late echo of an earlier one is not a corrupt echo of this one.
            if reply.first_chunk() == Some(&number) {
                result.corrupt += 1;
                break;
            }
        }
    }
    Ok(result)
}

fn receive(socket: &UdpSocket, buffer: &mut [u8], deadline: Instant) -> Option<(usize, SocketAddr)> {
    loop {
        socket.set_read_timeout(Some(left(deadline).ok()?)).ok()?;
        if let Ok(got) = socket.recv_from(buffer) {
            return Some(got);
        }
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Octets without a pattern, the same for the same seed.
fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut octets = vec![0; len];
    Content::new(seed).fill(0, &mut octets);
    octets
}
