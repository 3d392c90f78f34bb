//! One thread, one engine, its TAPs and its underlay sockets.

mod carry;
mod slow;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec;
use core::array;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd};

use super::{BUFFER_LEN, Error, Poll, Tap, Underlay};
use crate::addr::PortId;
use crate::engine::{BATCH, Change, Command, Engine, Frame, HEADROOM, Heap};
use crate::error::{ControlError, DropReason};
use crate::time::Instant;
use crate::wire::outer::Shape;
use carry::{Io, Origin};

/// One received packet with room for its outer headers, in whole cache lines.
const STRIDE: usize = (HEADROOM + BUFFER_LEN).next_multiple_of(64);

/// Places of the FDB that one turn looks at when addresses age.
const AGEING_BUDGET: usize = 1024;

/// Joins an [`Engine`] to TAP devices and underlay sockets: a readiness loop for one thread.
///
/// Each [`turn`](Driver::turn) waits once, takes at most a batch ([`BATCH`] packets) from every
/// descriptor that is ready, so that none starves another, and carries the engine's verdicts out.
/// What the kernel does not take is dropped and counted in the engine, never waited for:
/// [`TxQueueFull`](DropReason::TxQueueFull), [`MtuExceeded`](DropReason::MtuExceeded) and
/// [`TxFailed`](DropReason::TxFailed) on the way out,
/// [`RxTruncated`](DropReason::RxTruncated) on the way in, [`NotHandled`](DropReason::NotHandled)
/// where a frame asks for something that is not here. An [`Error`] is a device or socket that is gone.
///
/// The driver is the host's slow path too. In routed VNIs it answers ARP requests and neighbour
/// solicitations for addresses that a route covers, except those behind the port that asks, with the
/// VNI's router MAC (proxy ARP, RFC 1027); and it sends ICMP "too big" and "time exceeded", at most
/// 1000 in a second.
///
/// Of [`EngineConfig`](crate::engine::EngineConfig), `ttl`, `dscp`, `dont_fragment`, `source_ports`
/// and the checksums do not apply here: they are the socket's. The UDP source port is that of the
/// socket; with several sockets of one family the flow chooses among them, so that routers and
/// network cards on the way can spread flows.
///
/// Memory is taken when the driver is made and when devices are added; a turn, after the first,
/// allocates nothing.
///
/// ```no_run
/// use overlane::addr::Vni;
/// use overlane::engine::{Capacity, Command, Engine, EngineConfig};
/// use overlane::linux::{Driver, Tap, Underlay, UnderlayConfig};
/// use overlane::table::{Seed, port::PortConfig, vni::VniConfig, vtep::VtepConfig};
/// use std::time::Duration;
///
/// let config = EngineConfig::new("192.0.2.1".parse()?, Seed::fixed(1)); // draw 16 random octets
/// let mut driver = Driver::new(Engine::with_capacity(config, &Capacity::default())?)?;
/// let vni = Vni::new(42)?;
/// driver.apply(&Command::AddVni { vni, config: VniConfig::default() })?;
/// let remote = VtepConfig::new("192.0.2.2".parse()?, 4789);
/// let vtep = driver.apply(&Command::AddVtep(remote))?.vtep().unwrap();
/// driver.apply(&Command::AddFlood { vni, vtep })?;
/// let port = driver.apply(&Command::AddPort(PortConfig::new(vni)))?.port().unwrap();
/// driver.add_tap(port, Tap::create("overlane0")?)?;
/// driver.add_socket(Underlay::bind("192.0.2.1:4789".parse()?, &UnderlayConfig::default())?)?;
/// loop {
///     driver.turn(Duration::from_secs(1))?;
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Driver {
    engine: Engine<Heap>,
    io: Io,
    buffers: Box<[u8]>,
    poll: Poll,
    start: std::time::Instant,
}

/// What one turn did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turn {
    /// Frames read from TAPs.
    pub frames: usize,
    /// Datagrams read from underlay sockets.
    pub datagrams: usize,
    /// Addresses that aged out.
    pub aged: usize,
    /// The descriptor given to [`Driver::turn_or`] is readable.
    pub woken: bool,
}

/// What the driver handed over and what the kernel did not take. All counters wrap.
///
/// Each packet that was not taken is also one [`DropReason`] in the engine's counters, where it
/// shows per VNI, VTEP and port; this tells the causes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DriverCounters {
    /// Frames written to TAPs.
    pub tap_tx: u64,
    /// Datagrams sent.
    pub udp_tx: u64,
    /// ARP replies, neighbour advertisements and ICMP errors sent.
    pub answered: u64,
    /// ICMP errors that were due and not sent, because too many were.
    pub answers_limited: u64,
    /// A queue was full, or there was no memory (`EAGAIN`, `ENOBUFS`).
    pub queue_full: u64,
    /// Longer than the path MTU or the device's MTU (`EMSGSIZE`).
    pub too_big: u64,
    /// No route, no neighbour, or an ICMP error from there (`EHOSTUNREACH`, `ECONNREFUSED`, ...).
    pub unreachable: u64,
    /// The TAP is down (`EIO`), or no device or socket serves the destination.
    pub down: u64,
    /// Refused for what it is (`EINVAL`).
    pub malformed: u64,
    /// ICMP errors that sockets reported for datagrams sent earlier.
    pub icmp_errors: u64,
}

impl Driver {
    /// A driver of `engine`, with nothing attached. The engine's clock starts at zero now.
    ///
    /// # Errors
    /// An engine whose outer shape is not [`Shape::Udp`] is refused.
    pub fn new(engine: Engine<Heap>) -> Result<Driver, Error> {
        if engine.tables().config().shape != Shape::Udp {
            return Err(Error::refused("drive", "the engine", "its outer shape is not UDP"));
        }
        let tables = engine.tables();
        let io = Io::new(tables.ports().capacity(), tables.vteps().capacity());
        Ok(Driver {
            engine,
            io,
            buffers: vec![0; BATCH * STRIDE].into_boxed_slice(),
            poll: Poll::default(),
            start: std::time::Instant::now(),
        })
    }

    /// The engine's clock: time since the driver was made (`CLOCK_MONOTONIC`).
    pub fn now(&self) -> Instant {
        let since = self.start.elapsed().as_millis();
        Instant::from_millis(u64::try_from(since).unwrap_or(u64::MAX))
    }

    /// The engine.
    pub fn engine(&self) -> &Engine<Heap> {
        &self.engine
    }

    /// The engine, to change. Calls that need the time take [`Driver::now`].
    pub fn engine_mut(&mut self) -> &mut Engine<Heap> {
        &mut self.engine
    }

    /// Ends the driver: closes its devices and sockets, and gives the engine back.
    pub fn into_engine(self) -> Engine<Heap> {
        self.engine
    }

    /// Carries out a command; see [`Engine::apply`]. Removing a port closes the device on it, since
    /// the next port may get its id; take it off before ([`Driver::remove_tap`]) to keep it, or to
    /// remove ports by [`Driver::engine_mut`].
    ///
    /// # Errors
    /// What was refused, and why; nothing has changed then.
    pub fn apply(&mut self, command: &Command) -> Result<Change, ControlError> {
        let now = self.now();
        let change = self.engine.apply(now, command)?;
        if let Command::RemovePort { port } = *command {
            self.io.remove_tap(port);
        }
        Ok(change)
    }

    /// Attaches a device to a port of the engine: what it sends comes in there.
    ///
    /// # Errors
    /// The engine has no such port, or the port has a device.
    pub fn add_tap(&mut self, port: PortId, tap: Tap) -> Result<(), Error> {
        if self.engine.tables().ports().get(port).is_none() {
            return Err(Error::refused("attach", tap.name(), "the engine has no such port"));
        }
        self.io.add_tap(port, tap)
    }

    /// Takes a device off its port, so that it can go on elsewhere; dropping it removes it.
    pub fn remove_tap(&mut self, port: PortId) -> Option<Tap> {
        self.io.remove_tap(port)
    }

    /// The device on a port.
    pub fn tap(&self, port: PortId) -> Option<&Tap> {
        self.io.tap(port)
    }

    /// The device on a port, to set it up or to read its settings again.
    pub fn tap_mut(&mut self, port: PortId) -> Option<&mut Tap> {
        self.io.tap_mut(port)
    }

    /// The devices, with the ports that they are on.
    pub fn taps(&self) -> impl Iterator<Item = (PortId, &Tap)> {
        self.io.taps.iter().map(|slot| (slot.port, &slot.tap))
    }

    /// Adds an underlay socket. VTEPs are reached through the sockets of their address family.
    ///
    /// # Errors
    /// The engine has no local address of the socket's family.
    pub fn add_socket(&mut self, socket: Underlay) -> Result<(), Error> {
        let (local, config) = (socket.local_addr(), self.engine.tables().config());
        let served = if local.is_ipv4() { config.local_v4.is_some() } else { config.local_v6.is_some() };
        if !served {
            let why = "the engine has no local address of this family";
            return Err(Error::refused("use as an underlay", local.to_string(), why));
        }
        self.io.add_socket(socket);
        Ok(())
    }

    /// The underlay sockets.
    pub fn sockets(&self) -> impl Iterator<Item = &Underlay> {
        self.io.sockets.iter().map(|slot| &slot.socket)
    }

    /// Sets the address of this family by which pods in routed VNIs know their router. ARP and
    /// neighbour solicitation for it are answered, and ICMP errors come from it. Without one they
    /// come from the engine's underlay address of the family, else from 192.0.0.8 (RFC 7600, section
    /// 4.8); ICMPv6 errors are then not sent.
    pub fn set_gateway(&mut self, addr: IpAddr) {
        match addr {
            IpAddr::V4(a) => self.io.slow.gateway_v4 = Some(a),
            IpAddr::V6(a) => self.io.slow.gateway_v6 = Some(a),
        }
    }

    /// What was handed over and what was not taken.
    pub fn counters(&self) -> DriverCounters {
        let icmp_errors =
            self.io.sockets.iter().fold(0u64, |n, s| n.wrapping_add(s.socket.counters().icmp_errors));
        DriverCounters { icmp_errors, ..self.io.counters }
    }

    /// Waits until something is ready or due, at most `max_wait`, and serves it.
    ///
    /// # Errors
    /// A device or socket that no longer works: a TAP that was deleted, say. Everything else that was
    /// ready has been served. It happens again in each turn until the device is taken off
    /// ([`Driver::remove_tap`]).
    pub fn turn(&mut self, max_wait: Duration) -> Result<Turn, Error> {
        self.serve(None, max_wait)
    }

    /// As [`Driver::turn`], and comes back when `wake` is readable, which [`Turn::woken`] then says.
    /// Nothing is read from `wake`.
    ///
    /// # Errors
    /// As [`Driver::turn`].
    pub fn turn_or(&mut self, wake: BorrowedFd<'_>, max_wait: Duration) -> Result<Turn, Error> {
        self.serve(Some(wake), max_wait)
    }

    /// Turns until `stop` is readable: the end of a pipe or socket pair that somebody writes to or
    /// closes, an `eventfd`, a `signalfd`.
    ///
    /// # Errors
    /// As [`Driver::turn`].
    pub fn run(&mut self, stop: BorrowedFd<'_>) -> Result<(), Error> {
        while !self.serve(Some(stop), Duration::MAX)?.woken {}
        Ok(())
    }

    fn serve(&mut self, wake: Option<BorrowedFd<'_>>, max_wait: Duration) -> Result<Turn, Error> {
        let wait = match self.engine.next_timeout() {
            Some(due) => due.saturating_since(self.now()).min(max_wait),
            None => max_wait,
        };
        let (taps, sockets) = (self.io.taps.len(), self.io.sockets.len());
        let devices = self.io.taps.iter().map(|s| s.tap.as_fd());
        let devices = devices.chain(self.io.sockets.iter().map(|s| s.socket.as_fd()));
        let ready = self.poll.wait(devices.chain(wake).map(|fd| (fd, false)), Some(wait))?;

        let mut turn = Turn::default();
        let now = self.now();
        if ready > 0 {
            for index in 0..taps {
                if self.poll.readable(index) {
                    turn.frames += self.serve_tap(index, now);
                }
            }
            for index in 0..sockets {
                if self.poll.readable(taps + index) {
                    turn.datagrams += self.serve_socket(index, now);
                }
            }
            turn.woken = wake.is_some() && self.poll.readable(taps + sockets);
        }
        turn.aged = self.engine.handle_timeout(now, AGEING_BUDGET);
        match self.io.failure.take() {
            Some(error) => Err(error),
            None => Ok(turn),
        }
    }

    /// Takes a batch from one device; how many frames.
    fn serve_tap(&mut self, index: usize, now: Instant) -> usize {
        let Some(slot) = self.io.taps.get_mut(index) else { return 0 };
        let port = slot.port;
        let mut lens = [0; BATCH];
        let mut count = 0;
        for (buffer, len) in self.buffers.chunks_exact_mut(STRIDE).zip(&mut lens) {
            match slot.tap.recv(packet_room(buffer)) {
                Ok(Some(got)) => (*len, count) = (got, count + 1),
                Ok(None) => break,
                Err(error) => {
                    self.io.failure.get_or_insert(error);
                    break;
                }
            }
        }
        slot.count_lost(&mut self.engine);

        let mut received = self.buffers.chunks_exact_mut(STRIDE).zip(lens);
        let mut frames: [Frame<'_>; BATCH] = array::from_fn(|_| match received.next() {
            Some((buffer, len)) => packet(buffer, len),
            None => Frame::default(),
        });
        let batch = frames.get_mut(..count).unwrap_or_default();
        if self.engine.encap(now, port, batch).is_err() {
            // The host removed the port and left the device.
            for _ in batch {
                self.engine.count_drop(DropReason::NotHandled, None, None, None);
            }
            return count;
        }
        for frame in batch {
            self.io.carry(&mut self.engine, now, frame, Origin::Port(port));
        }
        count
    }

    /// Takes a batch from one socket; how many datagrams.
    fn serve_socket(&mut self, index: usize, now: Instant) -> usize {
        let Some(slot) = self.io.sockets.get_mut(index) else { return 0 };
        let mut datagrams = [(0, IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0); BATCH];
        let mut count = 0;
        for (buffer, place) in self.buffers.chunks_exact_mut(STRIDE).zip(&mut datagrams) {
            match slot.socket.recv(packet_room(buffer)) {
                Ok(Some(got)) => (*place, count) = ((got.len, got.from.ip(), got.ecn), count + 1),
                Ok(None) => break,
                Err(error) => {
                    self.io.failure.get_or_insert(error);
                    break;
                }
            }
        }
        slot.count_lost(&mut self.engine);

        let mut received = self.buffers.chunks_exact_mut(STRIDE).zip(&datagrams);
        let mut frames: [Frame<'_>; BATCH] = array::from_fn(|_| match received.next() {
            Some((buffer, (len, from, ecn))) => packet(buffer, *len).with_source(*from).with_ecn(*ecn),
            None => Frame::default(),
        });
        let batch = frames.get_mut(..count).unwrap_or_default();
        self.engine.decap(now, batch);
        for (frame, (_, from, _)) in batch.iter().zip(&datagrams) {
            self.io.carry(&mut self.engine, now, frame, Origin::Underlay(*from));
        }
        count
    }
}

/// Where a packet is received into: behind the headroom.
fn packet_room(buffer: &mut [u8]) -> &mut [u8] {
    buffer.get_mut(HEADROOM..HEADROOM + BUFFER_LEN).unwrap_or_default()
}

/// The packet of `len` octets that was received into `buffer`.
fn packet(buffer: &mut [u8], len: usize) -> Frame<'_> {
    Frame::new(buffer, HEADROOM..HEADROOM.saturating_add(len)).unwrap_or_default()
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("engine", &self.engine)
            .field("taps", &self.io.taps.len())
            .field("sockets", &self.io.sockets.len())
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}
