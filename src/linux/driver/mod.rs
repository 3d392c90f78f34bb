//! One thread, one engine, its TAPs and its underlay sockets.

mod carry;
mod config;
mod mind;
#[cfg(test)]
mod offload_tests;
mod outbox;
mod rx;
mod slow;
#[cfg(test)]
mod tests;
mod tx;
mod watch;
#[cfg(test)]
mod watch_tests;
mod workers;
#[cfg(test)]
mod workers_tests;

use alloc::string::ToString;
use core::fmt;
use core::net::IpAddr;
use core::ops::AddAssign;
use core::time::Duration;
use std::os::fd::BorrowedFd;

use super::{Error, Offload, Tap, Tunnel, Underlay};
use crate::addr::PortId;
use crate::engine::{Change, Command, Engine, Heap};
use crate::error::ControlError;
use crate::time::Instant;
use crate::wire::outer::Shape;
use carry::{APART, Io};
use mind::Mind;
use rx::{Rx, SOCKET_QUOTA};
use tx::{TAP_QUOTA, Tx};
use watch::Watch;

pub use self::config::DriverConfig;
pub use self::workers::Workers;

/// Places of the FDB that one turn looks at when addresses age.
const AGEING_BUDGET: usize = 1024;

/// Joins an [`Engine`] to TAP devices and underlay sockets: a readiness loop for one thread.
///
/// Each [`turn`](Driver::turn) waits once, takes a bounded number of packets from every descriptor
/// that is ready, so that none starves another, and carries the engine's verdicts out.
/// What the kernel does not take is dropped and counted in the engine, never waited for:
/// [`TxQueueFull`](crate::error::DropReason::TxQueueFull), [`MtuExceeded`](crate::error::DropReason::MtuExceeded) and
/// [`TxFailed`](crate::error::DropReason::TxFailed) on the way out,
/// [`RxTruncated`](crate::error::DropReason::RxTruncated) on the way in, [`NotHandled`](crate::error::DropReason::NotHandled)
/// where a frame asks for something that is not here. An [`Error`] is a device or socket that is gone.
///
/// The driver is the host's slow path too. In routed VNIs it answers ARP requests and neighbour
/// solicitations for addresses that a route covers, except those behind the port that asks, with the
/// VNI's router MAC (proxy ARP, RFC 1027); and it sends ICMP "too big" and "time exceeded", at most
/// 1000 in a second.
///
/// With [`Offload::Gso`], the default, a superframe of up to 64 KiB from a device is decided on
/// once and cut by writing headers; what goes to one VTEP leaves in sends of many datagrams
/// (`UDP_SEGMENT`). Datagrams arrive merged (`UDP_GRO`), each is decided on, and the frames of a flow
/// are joined again before they are written. The offloads of devices and sockets are turned on when
/// they are added, and those of a device off again when it is taken out or the driver ends.
///
/// Of [`EngineConfig`](crate::engine::EngineConfig), `ttl`, `dscp`, `dont_fragment`, `source_ports`
/// and the checksums do not apply here: they are the socket's ([`UnderlayConfig::of`](super::UnderlayConfig::of)). The UDP source port is that of the
/// socket; with several sockets of one family the flow chooses among them, so that routers and
/// network cards on the way can spread flows.
///
/// Memory is taken when the driver is made and when devices are added; a turn, after the first,
/// allocates nothing, but for what a [`Tunnel`] asks the kernel now and then.
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
    plane: Plane,
    start: std::time::Instant,
}

/// Devices, sockets, and the packets between them.
struct Plane {
    config: DriverConfig,
    io: Io,
    tx: Tx,
    rx: Rx,
    watch: Watch,
    pace: Pace,
}

/// The time of a turn: the engine's, and a finer one.
#[derive(Debug, Clone, Copy)]
struct Clock {
    now: Instant,
    micros: u64,
}

impl Clock {
    fn read(start: std::time::Instant) -> Clock {
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        Clock { now: Instant::from_millis(micros / 1000), micros }
    }
}

/// Keeps the time that a driver worked out of what it takes for the time between packets: those of a
/// device that waits meanwhile come one turn apart, however fast they come. One frame can be work enough, a
/// flood to many VTEPs; but not a packet to and fro, or a quick exchange of such would seem to be a stream.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    /// Microseconds of turns with many packets, and of long ones.
    work: u64,
}

/// So many packets make a turn's time one of work.
const MANY: usize = 4;

impl Pace {
    /// The time, and microseconds less those of work.
    fn at(self, clock: Clock) -> Clock {
        Clock { micros: clock.micros.saturating_sub(self.work), ..clock }
    }

    /// Learns that a turn that began at `clock` has ended now.
    fn worked(&mut self, turn: &Turn, clock: Clock, start: std::time::Instant) {
        let packets = turn.frames.saturating_add(turn.datagrams);
        if packets > 0 {
            let took = Clock::read(start).micros.saturating_sub(clock.micros);
            if packets >= MANY || took > APART {
                self.work = self.work.saturating_add(took);
            }
        }
    }
}

/// What one turn did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turn {
    /// Frames read from TAPs; a superframe is one.
    pub frames: usize,
    /// Datagrams read from underlay sockets; those that came merged count each.
    pub datagrams: usize,
    /// Addresses that aged out.
    pub aged: usize,
    /// The descriptor given to [`Driver::turn_or`] is readable.
    pub woken: bool,
}

/// What the driver handed over and what the kernel did not take. All counters wrap.
///
/// Each packet that was not taken is also one [`DropReason`](crate::error::DropReason) in the engine's counters, where it
/// shows per VNI, VTEP and port; this tells the causes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DriverCounters {
    /// Frames written to TAPs; those that were joined to one write count each.
    pub tap_tx: u64,
    /// Datagrams sent; those that left in one send count each.
    pub udp_tx: u64,
    /// Superframes from TAPs that were cut.
    pub superframes: u64,
    /// Sends of several datagrams (`UDP_SEGMENT`).
    pub segmented_sends: u64,
    /// Such sends that the kernel refused, so that the datagrams were sent one by one: it has no
    /// `UDP_SEGMENT`, the device has no checksum offload, or the path has a smaller MTU.
    pub segmenting_refused: u64,
    /// Writes of several frames as one.
    pub joined: u64,
    /// Such writes that the device refused, so that the frames were written one by one.
    pub joining_refused: u64,
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

impl DriverCounters {
    fn plus(&self, other: &DriverCounters) -> DriverCounters {
        let (a, b) = (self, other);
        DriverCounters {
            tap_tx: a.tap_tx.wrapping_add(b.tap_tx),
            udp_tx: a.udp_tx.wrapping_add(b.udp_tx),
            superframes: a.superframes.wrapping_add(b.superframes),
            segmented_sends: a.segmented_sends.wrapping_add(b.segmented_sends),
            segmenting_refused: a.segmenting_refused.wrapping_add(b.segmenting_refused),
            joined: a.joined.wrapping_add(b.joined),
            joining_refused: a.joining_refused.wrapping_add(b.joining_refused),
            answered: a.answered.wrapping_add(b.answered),
            answers_limited: a.answers_limited.wrapping_add(b.answers_limited),
            queue_full: a.queue_full.wrapping_add(b.queue_full),
            too_big: a.too_big.wrapping_add(b.too_big),
            unreachable: a.unreachable.wrapping_add(b.unreachable),
            down: a.down.wrapping_add(b.down),
            malformed: a.malformed.wrapping_add(b.malformed),
            icmp_errors: a.icmp_errors.wrapping_add(b.icmp_errors),
        }
    }
}

impl AddAssign for Turn {
    fn add_assign(&mut self, other: Turn) {
        self.frames = self.frames.wrapping_add(other.frames);
        self.datagrams = self.datagrams.wrapping_add(other.datagrams);
        self.aged = self.aged.wrapping_add(other.aged);
        self.woken = self.woken || other.woken;
    }
}

impl Driver {
    /// A driver of `engine`, with nothing attached. The engine's clock starts at zero now.
    ///
    /// # Errors
    /// An engine whose outer shape is not [`Shape::Udp`] is refused.
    pub fn new(engine: Engine<Heap>) -> Result<Driver, Error> {
        Driver::with_config(engine, &DriverConfig::default())
    }

    /// As [`Driver::new`], with other settings than the default ones.
    ///
    /// # Errors
    /// As there.
    pub fn with_config(engine: Engine<Heap>, config: &DriverConfig) -> Result<Driver, Error> {
        let plane = Plane::new(config, &engine)?;
        Ok(Driver { engine, plane, start: std::time::Instant::now() })
    }

    /// The settings that it was made with.
    pub fn config(&self) -> &DriverConfig {
        &self.plane.config
    }

    /// The engine's clock: time since the driver was made (`CLOCK_MONOTONIC`).
    pub fn now(&self) -> Instant {
        Clock::read(self.start).now
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
            self.plane.remove_tap(port);
        }
        Ok(change)
    }

    /// Attaches a device to a port of the engine: what it sends comes in there. Its offloads are
    /// turned on or off as [`DriverConfig::offload`] says.
    ///
    /// # Errors
    /// The engine has no such port, or the port has a device; or the kernel cannot wait for this one, or for
    /// no more of them. Nothing has changed then, but that the device is closed.
    pub fn add_tap(&mut self, port: PortId, tap: Tap) -> Result<(), Error> {
        check_port(&self.engine, port, &tap)?;
        self.plane.add_tap(port, tap, true)
    }

    /// Takes a device off its port, its offloads turned off, so that it can go on elsewhere; dropping
    /// it removes it.
    pub fn remove_tap(&mut self, port: PortId) -> Option<Tap> {
        self.plane.remove_tap(port)
    }

    /// The device on a port.
    pub fn tap(&self, port: PortId) -> Option<&Tap> {
        self.plane.io.slot(port).map(|slot| &slot.tap)
    }

    /// The device on a port, to set it up or to read its settings again.
    pub fn tap_mut(&mut self, port: PortId) -> Option<&mut Tap> {
        self.plane.io.slot_mut(port).map(|slot| &mut slot.tap)
    }

    /// The devices, with the ports that they are on.
    pub fn taps(&self) -> impl Iterator<Item = (PortId, &Tap)> {
        self.plane.io.taps.iter().map(|slot| (slot.port, &slot.tap))
    }

    /// Adds an underlay socket. VTEPs are reached through the sockets of their address family. Its
    /// offloads are turned on or off as [`DriverConfig::offload`] says.
    ///
    /// # Errors
    /// The engine has no local address of the socket's family; or the socket sends zero UDP checksums
    /// and the kernel is to cut datagrams ([`Offload::Gso`]), which exclude each other; or there are too many
    /// descriptors.
    pub fn add_socket(&mut self, socket: Underlay) -> Result<(), Error> {
        check_family(&self.engine, &socket)?;
        self.plane.add_socket(socket, true)
    }

    /// The underlay sockets.
    pub fn sockets(&self) -> impl Iterator<Item = &Underlay> {
        self.plane.io.sockets.iter().map(|slot| &slot.socket)
    }

    /// Sends superframes to single VTEPs whole where `tunnel` can; the sockets send the rest.
    ///
    /// # Errors
    /// [`DriverConfig::offload`] is below [`Offload::Tunnel`].
    pub fn add_tunnel(&mut self, tunnel: Tunnel) -> Result<(), Error> {
        self.plane.add_tunnel(tunnel, &self.engine)
    }

    /// What superframes are sent by whole.
    pub fn tunnel(&self) -> Option<&Tunnel> {
        self.plane.io.tunnel.as_ref()
    }

    /// Sets the address of this family by which pods in routed VNIs know their router. ARP and
    /// neighbour solicitation for it are answered, and ICMP errors come from it. Without one, "too big"
    /// comes from the packet's destination, as from the kernel's own tunnels, and "time exceeded" from the
    /// engine's underlay address of the family, else from 192.0.0.8 (RFC 7600, section 4.8), or over IPv6 not
    /// at all. A machine that has both the device and the underlay address takes nothing from the latter.
    pub fn set_gateway(&mut self, addr: IpAddr) {
        self.plane.set_gateway(addr);
    }

    /// What was handed over and what was not taken.
    pub fn counters(&self) -> DriverCounters {
        self.plane.counters()
    }

    /// Waits until something is ready or due, at most `max_wait`, and serves it.
    ///
    /// # Errors
    /// A device or socket that no longer works: a TAP that was deleted, say. Everything else that was
    /// ready has been served. It happens again in each turn until the device is taken off
    /// ([`Driver::remove_tap`]).
    pub fn turn(&mut self, max_wait: Duration) -> Result<Turn, Error> {
        self.serve(max_wait)
    }

    /// As [`Driver::turn`], and comes back when `wake` is readable, which [`Turn::woken`] then says.
    /// Nothing is read from `wake`. A host with a loop of its own gives the descriptor of its `epoll` set: it is readable
    /// when something in the set is ready.
    ///
    /// # Errors
    /// As [`Driver::turn`].
    pub fn turn_or(&mut self, wake: BorrowedFd<'_>, max_wait: Duration) -> Result<Turn, Error> {
        self.plane.watch.set_wake(Some(wake));
        let result = self.serve(max_wait);
        self.plane.watch.set_wake(None);
        result
    }

    /// Turns until `wake` is readable, which [`Turn::woken`] then says, or `time` has passed; the sum
    /// of all turns.
    ///
    /// # Errors
    /// As [`Driver::turn_or`].
    pub fn run_for(&mut self, wake: BorrowedFd<'_>, time: Duration) -> Result<Turn, Error> {
        self.plane.run(&mut self.engine, self.start, wake, Some(time))
    }

    /// Turns until `stop` is readable: the end of a pipe or socket pair that somebody writes to or
    /// closes, an `eventfd`, a `signalfd`.
    ///
    /// # Errors
    /// As [`Driver::turn_or`].
    pub fn run(&mut self, stop: BorrowedFd<'_>) -> Result<(), Error> {
        self.plane.run(&mut self.engine, self.start, stop, None).map(|_| ())
    }

    fn serve(&mut self, max_wait: Duration) -> Result<Turn, Error> {
        let mut clock = Clock::read(self.start);
        self.plane.turn(&mut self.engine, &mut clock, self.start, max_wait)
    }
}

impl Plane {
    fn new(config: &DriverConfig, engine: &Engine<Heap>) -> Result<Plane, Error> {
        let (tables, level) = (engine.tables(), config.offload);
        if tables.config().shape != Shape::Udp {
            return Err(Error::refused("drive", "the engine", "its outer shape is not UDP"));
        }
        Ok(Plane {
            config: *config,
            io: Io::new(tables.ports().capacity()),
            tx: Tx::new(level, tables.vteps().capacity()),
            rx: Rx::new(level),
            watch: Watch::default(),
            pace: Pace::default(),
        })
    }

    fn add_tap(&mut self, port: PortId, mut tap: Tap, reads: bool) -> Result<(), Error> {
        if self.io.has_tap(port) {
            return Err(Error::refused("attach", tap.name(), "the port has a device"));
        }
        tap.set_offloads(self.config.offload >= Offload::Gso);
        self.io.add_tap(port, tap, reads, TAP_QUOTA)?;
        let watched = self.renew();
        if watched.is_err()
            && let Some(mut tap) = self.io.remove_tap(port)
        {
            tap.set_offloads(false);
        }
        watched
    }

    fn remove_tap(&mut self, port: PortId) -> Option<Tap> {
        let mut tap = self.io.remove_tap(port)?;
        tap.set_offloads(false);
        if self.renew().is_err() {
            // The old set tells of places that others have now.
            self.watch = Watch::polling(&self.io);
        }
        Some(tap)
    }

    fn add_socket(&mut self, mut socket: Underlay, receives: bool) -> Result<(), Error> {
        socket.set_offload(self.config.offload >= Offload::Gso)?;
        if self.io.tunnel.is_some() {
            socket.without_flow_label()?;
        }
        self.io.add_socket(socket, receives, SOCKET_QUOTA);
        let watched = self.renew();
        if watched.is_err() {
            self.io.remove_last_socket();
        }
        watched
    }

    fn remove_last_socket(&mut self) {
        self.io.remove_last_socket();
        if self.renew().is_err() {
            self.watch = Watch::polling(&self.io);
        }
    }

    fn add_tunnel(&mut self, mut tunnel: Tunnel, engine: &Engine<Heap>) -> Result<(), Error> {
        if self.config.offload < Offload::Tunnel {
            return Err(Error::refused("send by", "a tunnel", "the driver is not to use one"));
        }
        for slot in &self.io.sockets {
            slot.socket.without_flow_label()?;
        }
        tunnel.reserve(engine.tables().vteps().capacity(), self.io.sockets.len());
        self.io.tunnel = Some(tunnel);
        Ok(())
    }

    fn set_gateway(&mut self, addr: IpAddr) {
        match addr {
            IpAddr::V4(a) => self.io.slow.gateway_v4 = Some(a),
            IpAddr::V6(a) => self.io.slow.gateway_v6 = Some(a),
        }
    }

    fn counters(&self) -> DriverCounters {
        let icmp_errors =
            self.io.sockets.iter().fold(0u64, |n, s| n.wrapping_add(s.socket.counters().icmp_errors));
        DriverCounters { icmp_errors, ..self.io.counters }
    }

    fn renew(&mut self) -> Result<(), Error> {
        self.watch.renew(&self.io).map_err(|e| Error::new("wait for", "devices and sockets", e))
    }

    fn wait(&mut self, time: Duration) -> Result<usize, Error> {
        self.watch.wait(Some(time)).map_err(|e| Error::new("wait for", "devices and sockets", e))
    }

    /// One turn of a thread that has the engine for itself. `clock` was read lately, and is read again
    /// behind the wait: a turn reads it once.
    fn turn(
        &mut self,
        engine: &mut Engine<Heap>,
        clock: &mut Clock,
        start: std::time::Instant,
        max_wait: Duration,
    ) -> Result<Turn, Error> {
        let wait = match engine.next_timeout() {
            Some(due) => due.saturating_since(clock.now).min(max_wait),
            None => max_wait,
        };
        let ready = self.wait(wait)?;
        *clock = Clock::read(start);
        let mut turn = Turn::default();
        if ready > 0 {
            turn = self.serve(engine, self.pace.at(*clock));
            self.pace.worked(&turn, *clock, start);
        }
        turn.aged = engine.handle_timeout(clock.now, AGEING_BUDGET);
        match self.io.failure.take() {
            Some(error) => Err(error),
            None => Ok(turn),
        }
    }

    /// As [`Driver::run_for`]; without an end to the time, as [`Driver::run`].
    fn run(
        &mut self,
        engine: &mut Engine<Heap>,
        start: std::time::Instant,
        wake: BorrowedFd<'_>,
        time: Option<Duration>,
    ) -> Result<Turn, Error> {
        let mut clock = Clock::read(start);
        let end = time.map(|time| clock.now + time);
        self.watch.keep_wake(wake);
        let mut sum = Turn::default();
        let result = loop {
            let wait = end.map_or(Duration::MAX, |end| end.saturating_since(clock.now));
            match self.turn(engine, &mut clock, start, wait) {
                Ok(turn) => sum += turn,
                Err(error) => break Err(error),
            }
            if sum.woken || end.is_some_and(|end| clock.now >= end) {
                break Ok(sum);
            }
        };
        self.watch.forget_wake(wake);
        result
    }

    /// Serves the descriptors that the last wait told of.
    fn serve<M: Mind>(&mut self, mind: &mut M, clock: Clock) -> Turn {
        let mut turn = Turn::default();
        let before = self.io.counters.udp_tx;
        let mut next = 0;
        while let Some((place, after)) = self.watch.next_tap(next) {
            turn.frames += self.tx.serve(mind, &mut self.io, clock, place);
            next = after;
        }
        self.tx.flush(mind, &mut self.io);
        next = 0;
        while let Some((place, after)) = self.watch.next_socket(next) {
            next = after;
            turn.datagrams += self.rx.serve(mind, &mut self.io, clock, place);
        }
        turn.woken = self.watch.woken();
        self.watch.sent(&self.io, self.io.counters.udp_tx.wrapping_sub(before));
        turn
    }
}

impl Drop for Plane {
    /// A device may outlive its driver, for a reader who knows nothing of superframes.
    fn drop(&mut self) {
        for slot in &mut self.io.taps {
            slot.tap.set_offloads(false);
        }
    }
}

fn check_port(engine: &Engine<Heap>, port: PortId, tap: &Tap) -> Result<(), Error> {
    if engine.tables().ports().get(port).is_none() {
        return Err(Error::refused("attach", tap.name(), "the engine has no such port"));
    }
    Ok(())
}

fn check_family(engine: &Engine<Heap>, socket: &Underlay) -> Result<(), Error> {
    let (local, config) = (socket.local_addr(), engine.tables().config());
    let served = if local.is_ipv4() { config.local_v4.is_some() } else { config.local_v6.is_some() };
    if !served {
        let why = "the engine has no local address of this family";
        return Err(Error::refused("use as an underlay", local.to_string(), why));
    }
    Ok(())
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("engine", &self.engine)
            .field("taps", &self.plane.io.taps.len())
            .field("sockets", &self.plane.io.sockets.len())
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}
