//! Time passes: what is due is done, one step at a time.

use core::cmp::Reverse;
use core::net::IpAddr;
use core::time::Duration;

use overlane::addr::{Destination, PortId, Vni, VtepId};
use overlane::engine::{Event, Frame, HEADROOM, Replica, Verdict};
use overlane::error::DropReason;
use overlane::wire::outer::Shape;
use overlane::wire::vxlan::{VxlanHeader, VxlanPolicy};

use super::check::{self, Flight, FlightId};
use super::link::Fate;
use super::pod::{Kind, frame};
use super::trace::fnv;
use super::{Due, Fabric, NodeId, PodId, Talk, What};

/// How many places of its FDB an engine looks at in one timeout.
const BUDGET: usize = 64;
/// How many steps of a node lie between two looks at all of its tables.
const DEEP: u64 = 64;
/// How many steps [`Fabric::settle`] takes at most.
const SETTLE: u64 = 2_000_000;

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Nothing is on its way and nobody wants to send.
    Quiet,
    /// The time was reached.
    Deadline,
    /// So many steps were taken.
    Steps,
}

/// What a host does after a verdict.
enum Action {
    Send { vtep: VtepId, bytes: Vec<u8>, ecn: u8, flight: FlightId },
    Deliver { port: PortId, bytes: Vec<u8>, flight: FlightId },
}

impl Fabric {
    /// Runs until nothing is on its way and no pod wants to send. Engines' timers do not count.
    ///
    /// # Panics
    /// Where that takes more than two million steps.
    pub fn settle(&mut self) {
        let stop = self.run(Duration::MAX, SETTLE);
        if stop != Stop::Quiet {
            self.fail(&format!("not quiet after {SETTLE} steps"));
        }
    }

    /// Runs for so long, timers included.
    ///
    /// # Panics
    /// Where that takes more than two million steps.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        let most = self.steps + SETTLE;
        while self.queue.peek().is_some_and(|Reverse(due)| due.at <= until) {
            if self.steps >= most {
                self.fail(&format!("not at {until:?} after {SETTLE} steps"));
            }
            self.step();
        }
        self.now = until;
    }

    /// Runs until all is quiet, the time is `until`, or `most` steps were taken.
    pub fn run(&mut self, until: Duration, most: u64) -> Stop {
        let most = self.steps.saturating_add(most);
        loop {
            if self.busy == 0 {
                return Stop::Quiet;
            }
            if self.steps >= most {
                return Stop::Steps;
            }
            if self.queue.peek().is_none_or(|Reverse(due)| due.at > until) {
                self.now = until;
                return Stop::Deadline;
            }
            self.step();
        }
    }

    /// Sends a frame from a station, now.
    pub fn send(&mut self, pod: PodId, frame: Vec<u8>) -> FlightId {
        let flights = self.encap(pod, vec![with_headroom(&frame)]);
        flights.first().copied().unwrap_or(FlightId(u64::MAX))
    }

    /// Sends frames from a station in one batch, now.
    pub fn send_batch(&mut self, pod: PodId, frames: &[Vec<u8>]) -> Vec<FlightId> {
        self.encap(pod, frames.iter().map(|f| with_headroom(f)).collect())
    }

    /// Sends frames from a station in one batch, `after` this time from now.
    pub fn send_later(&mut self, after: Duration, pod: PodId, frames: Vec<Vec<u8>>) {
        self.schedule(self.now + after, What::Frames { pod, frames });
    }

    /// Lets a station talk by itself from now on.
    pub fn talk(&mut self, pod: PodId, talk: Talk) {
        // Not all at once: the first word comes at a time of its own.
        let first = self.rng.below(talk.every.as_micros() as u64 + 1);
        match &mut self.pods[pod.0].kind {
            Kind::Station(current) => *current = Some(talk),
            Kind::Stack(_) => panic!("{pod} is a stack"),
        }
        self.schedule(self.now + Duration::from_micros(first), What::Talk { pod });
    }

    /// Puts a datagram on the underlay as if it came from `source`; it arrives at once.
    pub fn inject(&mut self, to: NodeId, source: IpAddr, bytes: Vec<u8>) -> FlightId {
        let vni = bytes.get(4..7).map_or(0, |b| u32::from_be_bytes([0, b[0], b[1], b[2]]));
        let flight = self.ledger.open(Vni::truncate(vni), None);
        self.underlay.sent += 1;
        self.fly(self.now, to, source, 0, bytes, flight);
        flight
    }

    fn schedule(&mut self, at: Duration, what: What) {
        if !matches!(what, What::Timeout { .. }) {
            self.busy += 1;
        }
        self.queue.push(Reverse(Due { at, sequence: self.sequence, what }));
        self.sequence += 1;
    }

    fn step(&mut self) {
        let Some(Reverse(due)) = self.queue.pop() else { return };
        if !matches!(due.what, What::Timeout { .. }) {
            self.busy -= 1;
        }
        self.now = self.now.max(due.at);
        self.steps += 1;
        match due.what {
            What::Datagram { to, source, ecn, bytes, flight } => self.decap(to, source, ecn, bytes, flight),
            What::Frames { pod, frames } => {
                self.send_batch(pod, &frames);
            }
            What::Talk { pod } => self.next_word(pod),
            What::Poll { pod } => self.poll(pod, due.at),
            What::Timeout { node } => self.timeout(node, due.at),
        }
        let u = self.underlay;
        let ended = u.arrived + u.lost + u.too_big + u.cut + u.unreachable;
        if u.sent + u.repeated != ended + self.on_the_wire {
            self.fail(&format!("{u:?} with {} on the wire does not add up", self.on_the_wire));
        }
    }

    fn next_word(&mut self, pod: PodId) {
        let src = self.pods[pod.0].mac;
        let Kind::Station(Some(talk)) = &mut self.pods[pod.0].kind else { return };
        talk.count = talk.count.saturating_sub(1);
        let (again, every) = (talk.count > 0, talk.every);
        if let Some(dst) = self.rng.pick(&talk.to) {
            let payload = vec![pod.0 as u8; talk.payload];
            let frame = frame(*dst, src, &payload);
            self.send(pod, frame);
        }
        if again {
            self.schedule(self.now + every, What::Talk { pod });
        }
    }

    /// Has a stack polled at this instant.
    pub(super) fn poll_soon(&mut self, pod: PodId) {
        let now = self.now;
        if let Kind::Stack(stack) = &mut self.pods[pod.0].kind
            && stack.due.is_none_or(|at| at > now)
        {
            stack.due = Some(now);
            self.schedule(now, What::Poll { pod });
        }
    }

    fn poll(&mut self, pod: PodId, at: Duration) {
        let now = self.now;
        let Kind::Stack(stack) = &mut self.pods[pod.0].kind else { return };
        if stack.due != Some(at) {
            return; // it was polled earlier than this was planned for
        }
        let frames = stack.poll(now);
        if let Some(due) = stack.due {
            self.schedule(due, What::Poll { pod });
        }
        if !frames.is_empty() {
            self.encap(pod, frames);
        }
    }

    /// Gives the engine frames from a pod, each behind headroom, and does what it says.
    fn encap(&mut self, pod: PodId, mut buffers: Vec<Vec<u8>>) -> Vec<FlightId> {
        let (node, Some(port)) = self.place(pod) else { return Vec::new() };
        let (now, vni) = (self.instant(), self.pods[pod.0].vni);
        let flights: Vec<FlightId> =
            buffers.iter().map(|_| self.ledger.open(vni, Some((node, port)))).collect();
        let record = &mut self.nodes[node.0];
        // Only the first: what the others meet depends on what it teaches.
        let expected = buffers.first().and_then(|b| b.get(HEADROOM..)).and_then(|first| {
            let explained = record.engine.explain_encap(now, port, first, 0);
            explained.expect("the port exists").verdict()
        });
        let mut frames: Vec<Frame<'_>> = buffers
            .iter_mut()
            .map(|b| {
                let end = b.len();
                Frame::new(b, HEADROOM..end).expect("the frame lies in its buffer")
            })
            .collect();
        (self.guard)(true);
        let done = record.engine.encap(now, port, &mut frames);
        (self.guard)(false);
        done.expect("the port exists");

        record.tally.encap += frames.len() as u64;
        let mut actions = Vec::new();
        let mut wrong = None;
        for (i, (frame, flight)) in frames.iter().zip(&flights).enumerate() {
            let flight = *flight;
            let verdict = frame.verdict().expect("every frame has a verdict");
            record.tally.verdict(verdict);
            self.trace.line(
                self.now,
                format_args!("{node} {port} #{} {} octets: {verdict}", flight.0, frame.len()),
            );
            if i == 0 && expected != Some(verdict) {
                wrong = Some(format!("explained as {expected:?}, was {verdict:?}"));
            }
            match verdict {
                Verdict::ToUnderlay(vtep) => {
                    let bytes = frame.bytes().to_vec();
                    actions.push(Action::Send { vtep, bytes, ecn: frame.ecn(), flight });
                }
                Verdict::ToPort(port) => {
                    actions.push(Action::Deliver { port, bytes: frame.bytes().to_vec(), flight });
                }
                Verdict::Flood(vni) => {
                    let index = record.engine.tables().vnis().index_of(vni).expect("the VNI exists");
                    let mut missing = record.engine.tables().floods().vteps(index).count();
                    for replica in record.engine.replicas(frame) {
                        actions.push(match replica {
                            Replica::Port(port) => {
                                Action::Deliver { port, bytes: frame.bytes().to_vec(), flight }
                            }
                            Replica::Underlay { vtep, header } => {
                                missing -= 1;
                                let bytes = [header.as_slice(), frame.bytes()].concat();
                                Action::Send { vtep, bytes, ecn: frame.ecn(), flight }
                            }
                        });
                    }
                    record.tally.copies_dropped += missing as u64;
                }
                Verdict::Punt(_) | Verdict::Drop(_) => {}
            }
        }
        if let Some(wrong) = wrong {
            self.fail(&wrong);
        }
        self.carry_out(node, actions);
        self.after_engine(node);
        for flight in &flights {
            self.ledger.close(*flight);
        }
        flights
    }

    /// Gives the engine a datagram, and does what it says.
    fn decap(&mut self, node: NodeId, source: IpAddr, ecn: u8, mut bytes: Vec<u8>, flight: FlightId) {
        self.underlay.arrived += 1;
        self.on_the_wire -= 1;
        self.ledger.arrives(flight, node);
        let now = self.instant();
        let hash = fnv(0, &bytes);
        let record = &mut self.nodes[node.0];
        let udp = record.engine.tables().config().shape == Shape::Udp;
        let expected = record.engine.explain_decap(now, udp.then_some(source), ecn, &bytes).verdict();
        let len = bytes.len();
        let mut frame =
            Frame::new(&mut bytes, 0..len).expect("the datagram lies in its buffer").with_ecn(ecn);
        if udp {
            frame = frame.with_source(source);
        }
        let mut frames = [frame];
        (self.guard)(true);
        record.engine.decap(now, &mut frames);
        (self.guard)(false);

        record.tally.decap += 1;
        let [frame] = &frames;
        let verdict = frame.verdict().expect("every frame has a verdict");
        record.tally.verdict(verdict);
        self.trace.line(
            self.now,
            format_args!("{node} from {source} #{} {len} octets {hash:016x}: {verdict}", flight.0),
        );
        let mut wrong = None;
        // An explanation does not know the ECN field that only the socket saw.
        if ecn == 0 && expected != Some(verdict) {
            wrong = Some(format!("explained as {expected:?}, was {verdict:?}"));
        }
        let mut actions = Vec::new();
        match verdict {
            Verdict::ToPort(port) => {
                actions.push(Action::Deliver { port, bytes: frame.bytes().to_vec(), flight });
            }
            Verdict::Flood(_) => {
                for replica in record.engine.replicas(frame) {
                    match replica {
                        Replica::Port(port) => {
                            actions.push(Action::Deliver { port, bytes: frame.bytes().to_vec(), flight });
                        }
                        Replica::Underlay { vtep, .. } => {
                            wrong = Some(format!("from a tunnel to {vtep}: split horizon"));
                        }
                    }
                }
            }
            Verdict::ToUnderlay(vtep) => wrong = Some(format!("from a tunnel to {vtep}: split horizon")),
            Verdict::Punt(_) | Verdict::Drop(_) => {}
        }
        if let Some(wrong) = wrong {
            self.fail(&wrong);
        }
        self.carry_out(node, actions);
        self.after_engine(node);
        self.ledger.close(flight);
    }

    fn carry_out(&mut self, node: NodeId, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send { vtep, bytes, ecn, flight } => self.transmit(node, vtep, ecn, bytes, flight),
                Action::Deliver { port, bytes, flight } => self.deliver(node, port, &bytes, flight),
            }
        }
    }

    fn deliver(&mut self, node: NodeId, port: PortId, bytes: &[u8], flight: FlightId) {
        let Some(pod) = self.nodes[node.0].ports.get(&port).copied() else {
            self.fail(&format!("{node} has no {port}"));
        };
        if let Err(wrong) = self.ledger.deliver(flight, node, port, self.pods[pod.0].vni) {
            self.fail(&wrong);
        }
        self.trace.line(self.now, format_args!("{node} {port} #{} out", flight.0));
        self.pods[pod.0].heard += 1;
        if let Kind::Stack(stack) = &mut self.pods[pod.0].kind {
            match stack.deliver(bytes) {
                Ok(()) => self.poll_soon(pod),
                Err(reason) => self.refuse(node, reason, pod, port),
            }
        }
    }

    /// Counts what a pod did not take.
    fn refuse(&mut self, node: NodeId, reason: DropReason, pod: PodId, port: PortId) {
        let record = &mut self.nodes[node.0];
        record.engine.count_drop(reason, Some(self.pods[pod.0].vni), None, Some(port));
        record.tally.drop(reason);
        self.trace.line(self.now, format_args!("{node} {port} refused: {reason}"));
    }

    fn transmit(&mut self, node: NodeId, vtep: VtepId, ecn: u8, bytes: Vec<u8>, flight: FlightId) {
        let record = &self.nodes[node.0];
        let Some(vtep) = record.engine.vtep(vtep) else { self.fail(&format!("{vtep} is gone")) };
        let dst = vtep.config.addr;
        let local = match dst {
            IpAddr::V4(_) => record.v4.map(IpAddr::V4),
            IpAddr::V6(_) => record.v6.map(IpAddr::V6),
        };
        let Some(source) = local else { self.fail(&format!("{node} has no address to reach {dst}")) };
        let shape = record.engine.tables().config().shape;
        let headers = if dst.is_ipv4() { 28 } else { 48 };
        let len = match shape {
            Shape::Udp => bytes.len() + headers,
            Shape::Ethernet => bytes.len().saturating_sub(14),
            _ => bytes.len(),
        };
        if shape == Shape::Udp {
            let header = VxlanHeader::parse(&bytes, &VxlanPolicy::default());
            let vni = self.ledger.get(flight).map(Flight::vni);
            if header.as_ref().ok().map(|h| h.vni) != vni {
                self.fail(&format!("sent {header:?} for {vni:?}"));
            }
        }
        self.underlay.sent += 1;
        let Some(to) = self.by_addr.get(&dst).copied() else {
            self.underlay.unreachable += 1;
            return;
        };
        if let Err(wrong) = self.ledger.send(flight, to) {
            self.fail(&wrong);
        }
        match self.links.fate(&mut self.rng, self.now, node, to, len) {
            Fate::Lost => self.underlay.lost += 1,
            Fate::TooBig => self.underlay.too_big += 1,
            Fate::Down => self.underlay.cut += 1,
            Fate::Arrives(at, again) => {
                if let Some(again) = again {
                    self.underlay.repeated += 1;
                    self.fly(again, to, source, ecn, bytes.clone(), flight);
                }
                self.fly(at, to, source, ecn, bytes, flight);
            }
        }
    }

    fn fly(&mut self, at: Duration, to: NodeId, source: IpAddr, ecn: u8, bytes: Vec<u8>, flight: FlightId) {
        self.on_the_wire += 1;
        self.ledger.departs(flight);
        self.schedule(at, What::Datagram { to, source, ecn, bytes, flight });
    }

    fn timeout(&mut self, node: NodeId, at: Duration) {
        let now = self.instant();
        let record = &mut self.nodes[node.0];
        if record.timer != Some(at) {
            return; // it was set anew since
        }
        record.timer = None;
        (self.guard)(true);
        let aged = record.engine.handle_timeout(now, BUDGET);
        (self.guard)(false);
        self.trace.line(self.now, format_args!("{node} timeout: {aged} aged"));
        self.after_engine(node);
    }

    /// Reads what the engine has to tell, checks it, and sets its timer.
    pub(super) fn after_engine(&mut self, node: NodeId) {
        let record = &mut self.nodes[node.0];
        while let Some(event) = record.engine.poll_event() {
            record.tally.event(&event);
            self.trace.line(self.now, format_args!("{node} {event}"));
            let misplaced = match event {
                Event::Learned { vni, at: Destination::Port(p), .. }
                | Event::Moved { vni, to: Destination::Port(p), .. } => {
                    let port = record.engine.tables().ports().get(p);
                    port.is_some_and(|port| port.config.vni != vni)
                }
                _ => false,
            };
            if misplaced {
                self.fail(&format!("{event}, which is another VNI's port"));
            }
        }
        let record = &mut self.nodes[node.0];
        record.steps += 1;
        let mut checked = record.tally.check(record.engine.counters());
        if record.steps.is_multiple_of(DEEP) {
            checked = checked.and_then(|()| check::tables(&record.engine));
        }
        if let Err(wrong) = checked {
            self.fail(&format!("{node}: {wrong}"));
        }
        let record = &mut self.nodes[node.0];
        let due = record.engine.next_timeout().map(|at| Duration::from_millis(at.as_millis()).max(self.now));
        // An earlier timer does no harm: the engine says again when it wants to be called.
        if let Some(due) = due
            && record.timer.is_none_or(|set| due < set)
        {
            record.timer = Some(due);
            self.schedule(due, What::Timeout { node });
        }
    }

    /// Looks at all tables of all engines.
    ///
    /// # Panics
    /// Where they do not agree.
    pub fn check(&self) {
        for (n, record) in self.nodes.iter().enumerate() {
            if let Err(wrong) = check::tables(&record.engine) {
                self.fail(&format!("{}: {wrong}", NodeId(n)));
            }
        }
    }
}

fn with_headroom(frame: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; HEADROOM + frame.len()];
    buffer[HEADROOM..].copy_from_slice(frame);
    buffer
}
