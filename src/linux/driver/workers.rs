//! Several threads over the queues of the same devices, and one engine.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::time::Duration;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{PoisonError, RwLock};
use std::thread;

use super::mind::Reader;
use super::rx::SOCKET_FRAMES;
use super::{
    AGEING_BUDGET, Clock, DriverConfig, DriverCounters, Plane, TAP_QUOTA, Turn, check_family, check_port,
};
use crate::addr::PortId;
use crate::engine::{BATCH, Capacity, Change, Command, Context, ContextParts, Engine, Heap, Note};
use crate::error::ControlError;
use crate::linux::{Error, Poll, Tap, Tunnel, TunnelCounters, Underlay};
use crate::time::Instant;

/// How often somebody looks whether addresses have begun to age, where none did.
const LOOK: Duration = Duration::from_secs(1);

/// Joins an [`Engine`] to TAP devices and underlay sockets as a [`Driver`](super::Driver) does, with
/// several threads: each serves one queue of every device and one socket of every address.
///
/// The kernel spreads what comes in: a flow's frames over the queues of a device
/// ([`Tap::create_queues`]) and, by addresses and ports of the outer header, datagrams over the
/// sockets of a group ([`Underlay::bind_group`]). Both keep a flow to one thread, and so its packets
/// in order. The threads share the engine's tables and read them under a lock that they do not
/// take from each other; what one has learned it writes in when it was done with what was ready. Where
/// nothing is ready a thread sleeps.
///
/// Datagrams from one node differ in their source port alone. A node that is to be received by several
/// threads elsewhere needs several ports to send from: [`add_sender`](Workers::add_sender).
///
/// The threads run inside [`run_for`](Workers::run_for) and [`run`](Workers::run) only, on the
/// caller's rights of that moment; between two of these everything is at rest and can be read and
/// changed. One thread is the caller's own, without a lock: a driver with another name.
///
/// ```no_run
/// use overlane::addr::Vni;
/// use overlane::engine::{Capacity, Command, Engine, EngineConfig};
/// use overlane::linux::{DriverConfig, Tap, Underlay, UnderlayConfig, Workers};
/// use overlane::table::{Seed, port::PortConfig, vni::VniConfig};
/// use std::{io::Read, os::fd::AsFd, os::unix::net::UnixStream, sync::mpsc, time::Duration};
///
/// let config = EngineConfig::new("192.0.2.1".parse()?, Seed::fixed(1)); // draw 16 random octets
/// let engine = Engine::with_capacity(config, &Capacity::default())?;
/// let mut workers = Workers::new(engine, &DriverConfig::default(), 4)?;
/// let vni = Vni::new(42)?;
/// workers.apply(&Command::AddVni { vni, config: VniConfig::default() })?;
/// let port = workers.apply(&Command::AddPort(PortConfig::new(vni)))?.port().unwrap();
/// workers.add_tap(port, Tap::create_queues("overlane0", 4)?)?;
/// let group = Underlay::bind_group("192.0.2.1:4789".parse()?, &UnderlayConfig::default(), 4)?;
/// workers.add_sockets(group)?;
///
/// // Other threads send a command, then an octet: the workers rest while it is carried out.
/// let (commands, inbox) = mpsc::channel::<Command>();
/// let (awake, wake) = UnixStream::pair()?;
/// # drop((commands, awake));
/// loop {
///     let turn = workers.run_for(wake.as_fd(), Duration::from_secs(1))?;
///     if turn.woken && (&wake).read(&mut [0; 64])? == 0 {
///         break; // all the others have closed their end
///     }
///     for command in inbox.try_iter() {
///         workers.apply(&command)?;
///     }
///     while let Some(event) = workers.engine_mut().poll_event() {
///         println!("{event}");
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Workers {
    engine: Engine<Heap>,
    pub(super) planes: Vec<Plane>,
    /// One for each plane, unless that is the only one.
    contexts: Vec<Context<Heap>>,
    start: std::time::Instant,
}

impl Workers {
    /// `threads` workers, at least one, over `engine`, with nothing attached. The engine's clock starts
    /// at zero now.
    ///
    /// # Errors
    /// As [`Driver::new`](super::Driver::new); or the memory for their counters is not to be had.
    pub fn new(engine: Engine<Heap>, config: &DriverConfig, threads: usize) -> Result<Workers, Error> {
        let threads = threads.max(1);
        let planes = (0..threads).map(|_| Plane::new(config, &engine)).collect::<Result<Vec<_>, _>>()?;
        let tables = engine.tables();
        let capacity = Capacity {
            vnis: tables.vnis().capacity(),
            vteps: tables.vteps().capacity(),
            ports: tables.ports().capacity(),
            ..Capacity::default()
        };
        let needed = if threads > 1 { threads } else { 0 };
        let contexts = (0..needed)
            .map(|_| Context::new(ContextParts::try_with_capacity(&capacity)?))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| Error::new("make", format!("{threads} workers"), io::Error::other(e.to_string())))?;
        Ok(Workers { engine, planes, contexts, start: std::time::Instant::now() })
    }

    /// How many threads there will be.
    pub fn threads(&self) -> usize {
        self.planes.len()
    }

    /// The settings that they were made with.
    pub fn config(&self) -> DriverConfig {
        self.planes.first().map_or(DriverConfig::default(), |plane| plane.config)
    }

    /// As [`Driver::now`](super::Driver::now).
    pub fn now(&self) -> Instant {
        Clock::read(self.start).now
    }

    /// The engine.
    pub fn engine(&self) -> &Engine<Heap> {
        &self.engine
    }

    /// The engine, to change. Calls that need the time take [`Workers::now`].
    pub fn engine_mut(&mut self) -> &mut Engine<Heap> {
        &mut self.engine
    }

    /// Ends the workers: closes their devices and sockets, and gives the engine back.
    pub fn into_engine(self) -> Engine<Heap> {
        self.engine
    }

    /// As [`Driver::apply`](super::Driver::apply).
    ///
    /// # Errors
    /// What was refused, and why; nothing has changed then.
    pub fn apply(&mut self, command: &Command) -> Result<Change, ControlError> {
        let now = self.now();
        let change = self.engine.apply(now, command)?;
        if let Command::RemovePort { port } = *command {
            drop(self.remove_tap(port));
        }
        Ok(change)
    }

    /// Attaches a device to a port of the engine, a queue for each worker. With fewer queues than
    /// workers, only the first workers read from it, and the others write to the first queue.
    ///
    /// # Errors
    /// The engine has no such port, or the port has a device; there is no queue, or more than workers; or as
    /// [`Driver::add_tap`](super::Driver::add_tap). Nothing has changed then, but that the device is closed.
    pub fn add_tap(&mut self, port: PortId, queues: Vec<Tap>) -> Result<(), Error> {
        let Some(first) = queues.first() else {
            return Err(Error::refused("attach", "a device", "it has no queues"));
        };
        check_port(&self.engine, port, first)?;
        if queues.len() > self.planes.len() {
            return Err(Error::refused("attach", first.name(), "it has more queues than there are workers"));
        }
        if self.planes.iter().any(|plane| plane.io.has_tap(port)) {
            return Err(Error::refused("attach", first.name(), "the port has a device"));
        }
        let missing = self.planes.len().saturating_sub(queues.len());
        let spare = (0..missing).map(|_| first.try_clone()).collect::<Result<Vec<_>, _>>()?;
        let readers = queues.len();
        let queues = queues.into_iter().chain(spare).enumerate();
        let mut each = self.planes.iter_mut().zip(queues);
        let added = each.try_for_each(|(plane, (n, queue))| plane.add_tap(port, queue, n < readers));
        if added.is_err() {
            drop(self.remove_tap(port));
        }
        added
    }

    /// Takes a device off its port: its queues, their offloads turned off.
    pub fn remove_tap(&mut self, port: PortId) -> Vec<Tap> {
        self.planes.iter_mut().filter_map(|plane| plane.remove_tap(port)).collect()
    }

    /// The first queue of the device on a port.
    pub fn tap(&self, port: PortId) -> Option<&Tap> {
        self.planes.first().and_then(|plane| plane.io.slot(port)).map(|slot| &slot.tap)
    }

    /// The queues of the device on a port, to read its settings again: each knows its own.
    pub fn taps_mut(&mut self, port: PortId) -> impl Iterator<Item = &mut Tap> {
        self.planes.iter_mut().filter_map(move |plane| plane.io.slot_mut(port)).map(|slot| &mut slot.tap)
    }

    /// The devices, each by its first queue, with the ports that they are on.
    pub fn taps(&self) -> impl Iterator<Item = (PortId, &Tap)> {
        let first = self.planes.first();
        first.into_iter().flat_map(|plane| plane.io.taps.iter().map(|slot| (slot.port, &slot.tap)))
    }

    /// Adds the sockets of one underlay address, one for each worker. With fewer sockets than workers,
    /// only the first workers receive, and the others send by the first socket.
    ///
    /// # Errors
    /// As [`Driver::add_socket`](super::Driver::add_socket); or there is no socket, or more than workers.
    pub fn add_sockets(&mut self, sockets: Vec<Underlay>) -> Result<(), Error> {
        let Some(first) = sockets.first() else {
            return Err(Error::refused("use as an underlay", "a group of sockets", "it is empty"));
        };
        let name = first.local_addr().to_string();
        if sockets.len() > self.planes.len() {
            return Err(Error::refused("use as an underlay", name, "more sockets than workers"));
        }
        for socket in &sockets {
            check_family(&self.engine, socket)?;
        }
        let missing = self.planes.len().saturating_sub(sockets.len());
        let spare = (0..missing).map(|_| first.try_clone()).collect::<Result<Vec<_>, _>>()?;
        let receivers = sockets.len();
        let sockets = sockets.into_iter().chain(spare).map(Ok);
        self.add_to_each(sockets, receivers)
    }

    /// Adds a socket that all workers send by and nobody reads from: one on a port of its own. Flows
    /// are spread over these and the others of their family, each always over the same one.
    ///
    /// # Errors
    /// As [`Driver::add_socket`](super::Driver::add_socket).
    pub fn add_sender(&mut self, socket: Underlay) -> Result<(), Error> {
        check_family(&self.engine, &socket)?;
        let others = self.planes.len().saturating_sub(1);
        let clones = (0..others).map(|_| socket.try_clone()).collect::<Vec<_>>();
        self.add_to_each(clones.into_iter().chain([Ok(socket)]), 0)
    }

    /// Gives each worker its socket, of which the first so many are received by; or none any.
    fn add_to_each(
        &mut self,
        sockets: impl Iterator<Item = Result<Underlay, Error>>,
        receivers: usize,
    ) -> Result<(), Error> {
        for (n, socket) in sockets.enumerate() {
            let Some(plane) = self.planes.get_mut(n) else { return Ok(()) };
            if let Err(error) = socket.and_then(|socket| plane.add_socket(socket, n < receivers)) {
                self.planes.iter_mut().take(n).for_each(Plane::remove_last_socket);
                return Err(error);
            }
        }
        Ok(())
    }

    /// The underlay sockets of the first worker.
    pub fn sockets(&self) -> impl Iterator<Item = &Underlay> {
        self.planes.first().into_iter().flat_map(|plane| plane.io.sockets.iter().map(|slot| &slot.socket))
    }

    /// As [`Driver::add_tunnel`](super::Driver::add_tunnel); each worker gets one over the same uplinks.
    ///
    /// # Errors
    /// As there; or what each needs of its own is not to be had.
    pub fn add_tunnel(&mut self, tunnel: Tunnel) -> Result<(), Error> {
        let Some((first, others)) = self.planes.split_first_mut() else { return Ok(()) };
        for plane in others {
            plane.add_tunnel(tunnel.another()?, &self.engine)?;
        }
        first.add_tunnel(tunnel, &self.engine)
    }

    /// The tunnel of the first worker.
    pub fn tunnel(&self) -> Option<&Tunnel> {
        self.planes.first().and_then(|plane| plane.io.tunnel.as_ref())
    }

    /// What the tunnels of all workers sent and what they left to the sockets.
    pub fn tunnel_counters(&self) -> TunnelCounters {
        let tunnels = self.planes.iter().filter_map(|plane| plane.io.tunnel.as_ref());
        tunnels.fold(TunnelCounters::default(), |sum, tunnel| sum.plus(tunnel.counters()))
    }

    /// As [`Driver::set_gateway`](super::Driver::set_gateway).
    pub fn set_gateway(&mut self, addr: IpAddr) {
        for plane in &mut self.planes {
            plane.set_gateway(addr);
        }
    }

    /// What all workers handed over and what was not taken.
    pub fn counters(&self) -> DriverCounters {
        self.planes.iter().fold(DriverCounters::default(), |sum, plane| sum.plus(&plane.counters()))
    }

    /// Works until `wake` is readable, which [`Turn::woken`] then says, or `time` has passed; the sum of
    /// all turns.
    ///
    /// # Errors
    /// A device or socket that no longer works ends the work of all; or a thread cannot be started.
    pub fn run_for(&mut self, wake: BorrowedFd<'_>, time: Duration) -> Result<Turn, Error> {
        self.work(wake, Some(time))
    }

    /// Works until `stop` is readable; see [`Driver::run`](super::Driver::run).
    ///
    /// # Errors
    /// As [`Workers::run_for`].
    pub fn run(&mut self, stop: BorrowedFd<'_>) -> Result<(), Error> {
        self.work(stop, None).map(|_| ())
    }

    fn work(&mut self, wake: BorrowedFd<'_>, time: Option<Duration>) -> Result<Turn, Error> {
        let Workers { engine, planes, contexts, start } = self;
        if let [plane] = &mut planes[..] {
            return plane.run(engine, *start, wake, time);
        }
        let pair = || UnixStream::pair().map_err(|e| Error::new("make", "a pair of sockets", e));
        // The one is closed to stop the workers; by the other one a worker says that it has ended.
        let ((stop, stopped), (end, ended)) = (pair()?, pair()?);
        let shared = RwLock::new(&mut *engine);
        let result = thread::scope(|scope| {
            let (shared, stopped, start) = (&shared, stopped.as_fd(), *start);
            let mut threads = Vec::with_capacity(planes.len());
            let mut result = Ok(Turn::default());
            for (n, (plane, context)) in planes.iter_mut().zip(contexts.iter_mut()).enumerate() {
                let started = end.try_clone().and_then(|end| {
                    let name = format!("overlane-{n}");
                    thread::Builder::new().name(name).spawn_scoped(scope, move || {
                        let result = plane.share(shared, context, start, stopped);
                        // There is room for an octet of each, and nobody minds one that is lost.
                        let _ = (&end).write(&[0]);
                        result
                    })
                });
                match started {
                    Ok(thread) => threads.push(thread),
                    Err(e) => {
                        result = Err(Error::new("start", "a worker", e));
                        break;
                    }
                }
            }
            drop(end);
            if let Ok(sum) = &mut result {
                match wait(shared, start, (wake, ended.as_fd()), time) {
                    Ok(turn) => *sum += turn,
                    Err(error) => result = Err(error),
                }
            }
            drop(stop);
            for thread in threads {
                // A panic is no result of this code: it goes on in the caller.
                let done = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                match (&mut result, done) {
                    (Ok(sum), Ok(turn)) => *sum += turn,
                    (Ok(_), Err(error)) => result = Err(error),
                    (Err(_), _) => {}
                }
            }
            result
        });
        let now = Clock::read(*start).now;
        for context in contexts {
            engine.merge(now, context);
        }
        result
    }
}

/// Writes in what a worker has noted, oldest first. Others may read in between.
fn learn(shared: &RwLock<&mut Engine<Heap>>, context: &mut Context<Heap>, log: &mut Vec<Note>, now: Instant) {
    let write = || shared.write().unwrap_or_else(PoisonError::into_inner);
    if !log.is_empty() {
        let (last, noted) = context.take_notes();
        for notes in log.chunks(BATCH) {
            context.take_back(notes.iter().copied());
            write().merge_notes(now, context);
        }
        log.clear();
        context.take_back(last.into_iter().take(noted).flatten());
    }
    if context.has_notes() {
        write().merge_notes(now, context);
    }
}

/// What the calling thread does meanwhile: waits, and lets addresses age.
fn wait(
    shared: &RwLock<&mut Engine<Heap>>,
    start: std::time::Instant,
    (wake, ended): (BorrowedFd<'_>, BorrowedFd<'_>),
    time: Option<Duration>,
) -> Result<Turn, Error> {
    let now = || Clock::read(start).now;
    let end = time.map(|time| now() + time);
    let mut poll = Poll::default();
    let mut sum = Turn::default();
    loop {
        let due = shared.read().unwrap_or_else(PoisonError::into_inner).next_timeout();
        if due.is_some_and(|due| due <= now()) {
            let mut engine = shared.write().unwrap_or_else(PoisonError::into_inner);
            sum.aged += engine.handle_timeout(now(), AGEING_BUDGET);
            continue;
        }
        let left = end.map_or(Duration::MAX, |end| end.saturating_since(now()));
        let due = due.map_or(LOOK, |due| due.saturating_since(now()));
        poll.wait([(wake, false), (ended, false)], Some(left.min(due)))?;
        sum.woken = poll.readable(0);
        if sum.woken || poll.readable(1) || end.is_some_and(|end| now() >= end) {
            return Ok(sum);
        }
    }
}

impl Plane {
    /// Turns until `stopped` is readable, with tables that others read as well.
    fn share(
        &mut self,
        shared: &RwLock<&mut Engine<Heap>>,
        context: &mut Context<Heap>,
        start: std::time::Instant,
        stopped: BorrowedFd<'_>,
    ) -> Result<Turn, Error> {
        self.watch.keep_wake(stopped);
        // A note for each frame of a turn.
        let (taps, sockets) = (self.io.taps.len(), self.io.sockets.len());
        let frames = taps.saturating_mul(TAP_QUOTA).saturating_add(sockets.saturating_mul(SOCKET_FRAMES));
        let mut log = Vec::with_capacity(frames);
        let mut sum = Turn::default();
        let result = loop {
            let ready = match self.wait(Duration::MAX) {
                Ok(0) => continue,
                Ok(_) => Clock::read(start),
                Err(error) => break Err(error),
            };
            {
                let engine = shared.read().unwrap_or_else(PoisonError::into_inner);
                let mut mind = Reader { tables: engine.tables(), context, log: &mut log };
                let turn = self.serve(&mut mind, self.pace.at(ready));
                self.pace.worked(&turn, ready, start);
                sum += turn;
            }
            learn(shared, context, &mut log, ready.now);
            if let Some(error) = self.io.failure.take() {
                break Err(error);
            }
            if core::mem::take(&mut sum.woken) {
                break Ok(sum);
            }
        };
        self.watch.forget_wake(stopped);
        result
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("engine", &self.engine)
            .field("threads", &self.planes.len())
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}
