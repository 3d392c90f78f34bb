//! A simulated underlay: engines, pods behind them, and links that lose, delay, repeat and reorder.
//!
//! Everything happens at a virtual time and every chance is drawn from one seeded generator, so the
//! same seed and the same calls give the same run, line by line ([`Fabric::trace`]). After every call
//! of an engine the fabric checks what must always hold, and panics with the seed and the last lines
//! where it does not:
//!
//! - the counters add up: every frame is counted once, under its verdict;
//! - a frame leaves only by ports of its VNI, never by the port it came from, and no more often than
//!   it arrived;
//! - what came from a tunnel goes to no tunnel, and a frame is sent to a node at most once;
//! - the explanation of a frame ends in the verdict that the frame gets;
//! - the FDB holds no more than it can, leads only to ports and VTEPs that exist, and its accounts
//!   are right.
//!
//! ```
//! use overlane::addr::Vni;
//! use overlane_testkit::fabric::{Fabric, frame, mac};
//!
//! let vni = Vni::truncate(42);
//! let mut fabric = Fabric::mesh(1, 3, &[vni]);
//! let [a, b, c] = [0, 1, 2].map(|n| fabric.add_station(fabric.node(n), vni, mac(n as u32)));
//! fabric.send(a, frame(mac(1), mac(0), b"to b, wherever it is"));
//! fabric.settle();
//! assert_eq!([fabric.heard(a), fabric.heard(b), fabric.heard(c)], [0, 1, 1]);
//! fabric.send(b, frame(mac(0), mac(1), b"an answer"));
//! fabric.settle();
//! assert_eq!([fabric.heard(a), fabric.heard(b), fabric.heard(c)], [1, 1, 1]);
//! ```

mod check;
mod link;
mod pod;
pub(crate) mod rng;
mod run;
mod trace;

use core::cmp::{Ordering, Reverse};
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::collections::{BTreeMap, BinaryHeap};

use overlane::addr::{MacAddr, PortId, Vni, VtepId};
use overlane::engine::{Capacity, Change, Command, Engine, EngineConfig, Heap};
use overlane::error::{ControlError, VtepError};
use overlane::table::Seed;
use overlane::table::port::PortConfig;
use overlane::table::vni::VniConfig;
use overlane::table::vtep::VtepConfig;
use overlane::time::Instant;

pub use check::{Flight, FlightId};
pub use link::Link;
pub use pod::{JobId, Talk, frame};
pub use rng::Rng;
pub use run::Stop;

use check::{Ledger, Tally};
use link::Links;
use pod::{Kind, Pod, Stack};
use trace::Trace;

/// A node: an engine and its place on the underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// A station or a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodId(pub usize);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pod {}", self.0)
    }
}

/// The MAC address of the n-th station.
pub const fn mac(n: u32) -> MacAddr {
    MacAddr::from_u64(0x0200_0000_0000 + n as u64)
}

/// The IPv4 underlay address of the n-th node.
pub const fn node_v4(n: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xc612_0001 + n as u32) // 198.18.0.0/15 is for benchmarks (RFC 2544)
}

/// The IPv6 underlay address of the n-th node.
pub const fn node_v6(n: usize) -> Ipv6Addr {
    Ipv6Addr::from_bits(0x2001_0db8_0000_0000_0000_0000_0000_0001 + n as u128)
}

/// What the underlay did. After every step, `sent + repeated` is the sum of the others and of what
/// is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Underlay {
    /// Datagrams that nodes sent, or that were injected.
    pub sent: u64,
    /// Datagrams that the underlay made two of.
    pub repeated: u64,
    /// Datagrams that arrived.
    pub arrived: u64,
    /// Datagrams lost by chance.
    pub lost: u64,
    /// Datagrams longer than their link's MTU.
    pub too_big: u64,
    /// Datagrams sent over a link that was down.
    pub cut: u64,
    /// Datagrams to an address that no node has.
    pub unreachable: u64,
}

struct Node {
    engine: Engine<Heap>,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
    ports: BTreeMap<PortId, PodId>,
    tally: Tally,
    /// When the engine's timer is set for.
    timer: Option<Duration>,
    steps: u64,
}

/// What is due at a time.
enum What {
    Datagram { to: NodeId, source: IpAddr, ecn: u8, bytes: Vec<u8>, flight: FlightId },
    Frames { pod: PodId, frames: Vec<Vec<u8>> },
    Talk { pod: PodId },
    Poll { pod: PodId },
    Timeout { node: NodeId },
}

struct Due {
    at: Duration,
    sequence: u64,
    what: What,
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

/// The simulated fabric. See the [module](self).
pub struct Fabric {
    seed: u64,
    rng: Rng,
    now: Duration,
    queue: BinaryHeap<Reverse<Due>>,
    sequence: u64,
    /// How many entries of the queue are more than an engine's timer.
    busy: usize,
    steps: u64,
    nodes: Vec<Node>,
    by_addr: BTreeMap<IpAddr, NodeId>,
    pods: Vec<Pod>,
    links: Links,
    ledger: Ledger,
    underlay: Underlay,
    on_the_wire: u64,
    trace: Trace,
    guard: fn(bool),
}

impl Fabric {
    /// A fabric without nodes.
    pub fn new(seed: u64) -> Fabric {
        Fabric {
            seed,
            rng: Rng::new(seed),
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            sequence: 0,
            busy: 0,
            steps: 0,
            nodes: Vec::new(),
            by_addr: BTreeMap::new(),
            pods: Vec::new(),
            links: Links::new(),
            ledger: Ledger::new(),
            underlay: Underlay::default(),
            on_the_wire: 0,
            trace: Trace::new(),
            guard: |_| {},
        }
    }

    /// `nodes` nodes with default settings, these VNIs, and every node on every flood list.
    pub fn mesh(seed: u64, nodes: usize, vnis: &[Vni]) -> Fabric {
        let mut fabric = Fabric::new(seed);
        let nodes: Vec<NodeId> = (0..nodes).map(|_| fabric.add_node()).collect();
        for vni in vnis {
            fabric.join(*vni, VniConfig::default(), &nodes, false);
        }
        fabric
    }

    /// Adds a node with an IPv4 and an IPv6 address and room for a small overlay.
    pub fn add_node(&mut self) -> NodeId {
        let n = self.nodes.len();
        let mut config = EngineConfig::new(node_v4(n).into(), Seed::fixed(self.seed ^ n as u64));
        config.local_v6 = Some(node_v6(n));
        let capacity = Capacity {
            macs: 512,
            routes_v4: 16,
            routes_v6: 16,
            vnis: 16,
            vteps: 64,
            ports: 64,
            flood_members: 1024,
            events: 256,
        };
        self.add_node_with(config, &capacity)
    }

    /// Adds a node with these settings.
    ///
    /// # Panics
    /// Where the engine refuses them.
    pub fn add_node_with(&mut self, config: EngineConfig, capacity: &Capacity) -> NodeId {
        let engine = Engine::with_capacity(config, capacity).expect("the engine takes its settings");
        let id = NodeId(self.nodes.len());
        let (v4, v6) = (config.local_v4, config.local_v6);
        for addr in [v4.map(IpAddr::V4), v6.map(IpAddr::V6)].into_iter().flatten() {
            self.by_addr.insert(addr, id);
        }
        let (ports, tally) = (BTreeMap::new(), Tally::new());
        self.nodes.push(Node { engine, v4, v6, ports, tally, timer: None, steps: 0 });
        id
    }

    /// The n-th node.
    pub fn node(&self, n: usize) -> NodeId {
        assert!(n < self.nodes.len(), "there are {} nodes", self.nodes.len());
        NodeId(n)
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// A node's engine, to read.
    pub fn engine(&self, node: NodeId) -> &Engine<Heap> {
        &self.nodes[node.0].engine
    }

    /// Gives a node's engine a command.
    ///
    /// # Errors
    /// What the engine refused.
    pub fn apply(&mut self, node: NodeId, command: &Command) -> Result<Change, ControlError> {
        let now = self.instant();
        let done = self.nodes[node.0].engine.apply(now, command);
        self.trace.line(self.now, format_args!("{node} {command:?} -> {done:?}"));
        self.after_engine(node);
        done
    }

    /// Adds a VNI to these nodes, with each of them on the flood lists of the others, over IPv4 or IPv6.
    pub fn join(&mut self, vni: Vni, config: VniConfig, nodes: &[NodeId], v6: bool) {
        for node in nodes {
            self.apply(*node, &Command::AddVni { vni, config }).expect("the VNI is new");
        }
        for node in nodes {
            for peer in nodes.iter().filter(|p| *p != node) {
                let vtep = self.vtep(*node, *peer, v6);
                self.apply(*node, &Command::AddFlood { vni, vtep }).expect("the list has room");
            }
        }
    }

    /// What `node` calls `peer`; it is added where it is not known yet.
    pub fn vtep(&mut self, node: NodeId, peer: NodeId, v6: bool) -> VtepId {
        let record = &self.nodes[peer.0];
        let addr = if v6 { record.v6.map(IpAddr::V6) } else { record.v4.map(IpAddr::V4) };
        let addr = addr.expect("the peer has an address of this family");
        let port = record.engine.tables().config().port;
        if let Some(known) = self.nodes[node.0].engine.tables().vteps().by_addr(addr) {
            return known;
        }
        match self.apply(node, &Command::AddVtep(VtepConfig::new(addr, port))) {
            Ok(change) => change.vtep().expect("a VTEP was added"),
            Err(ControlError::Vtep(VtepError::Full(_))) => panic!("the VTEP table of {node} is full"),
            Err(e) => panic!("{e}"),
        }
    }

    /// Attaches a station to a new port of a node.
    pub fn add_station(&mut self, node: NodeId, vni: Vni, mac: MacAddr) -> PodId {
        self.add_pod(node, vni, mac, Kind::Station(None))
    }

    /// Attaches an IP stack to a new port of a node. `mtu` is its longest IP packet.
    pub fn add_stack(
        &mut self,
        node: NodeId,
        vni: Vni,
        mac: MacAddr,
        addrs: &[(IpAddr, u8)],
        mtu: u16,
    ) -> PodId {
        let ident = (self.pods.len() as u16) << 8;
        let stack = Stack::new(mac, addrs, mtu, ident, self.rng.next_u64());
        self.add_pod(node, vni, mac, Kind::Stack(Box::new(stack)))
    }

    fn add_pod(&mut self, node: NodeId, vni: Vni, mac: MacAddr, kind: Kind) -> PodId {
        let id = PodId(self.pods.len());
        self.pods.push(Pod { node, port: None, vni, mac, heard: 0, kind });
        self.attach(id, node);
        id
    }

    /// Attaches a pod to a new port of a node.
    ///
    /// # Panics
    /// Where it is attached already, or the engine has no room for the port.
    pub fn attach(&mut self, pod: PodId, node: NodeId) {
        assert_eq!(self.pods[pod.0].port, None, "{pod} is attached already");
        let command = Command::AddPort(PortConfig::new(self.pods[pod.0].vni));
        let port = self.apply(node, &command).expect("the engine has room").port().expect("a port was added");
        (self.pods[pod.0].node, self.pods[pod.0].port) = (node, Some(port));
        self.nodes[node.0].ports.insert(port, pod);
        self.poll_soon(pod);
    }

    /// Removes a pod's port. What it sends is lost until it is attached again.
    pub fn detach(&mut self, pod: PodId) {
        let node = self.pods[pod.0].node;
        if let Some(port) = self.pods[pod.0].port.take() {
            self.apply(node, &Command::RemovePort { port }).expect("no route leads to it");
            self.nodes[node.0].ports.remove(&port);
        }
    }

    /// A pod's node, and its port while it is attached.
    pub fn place(&self, pod: PodId) -> (NodeId, Option<PortId>) {
        (self.pods[pod.0].node, self.pods[pod.0].port)
    }

    /// A pod's MAC address.
    pub fn mac_of(&self, pod: PodId) -> MacAddr {
        self.pods[pod.0].mac
    }

    /// A pod's VNI.
    pub fn vni_of(&self, pod: PodId) -> Vni {
        self.pods[pod.0].vni
    }

    /// How many frames a pod was given.
    pub fn heard(&self, pod: PodId) -> u64 {
        self.pods[pod.0].heard
    }

    /// Sets every link between two nodes.
    pub fn set_links(&mut self, link: Link) {
        self.trace.line(self.now, format_args!("links {link:?}"));
        self.links.set_all(link);
    }

    /// Sets the links between two nodes, both ways.
    pub fn set_link(&mut self, a: NodeId, b: NodeId, link: Link) {
        self.trace.line(self.now, format_args!("link {a} {b} {link:?}"));
        self.links.set(a, b, link);
        self.links.set(b, a, link);
    }

    /// Cuts all links between these nodes and the others. What is on its way still arrives.
    pub fn partition(&mut self, side: &[NodeId]) {
        self.cut(side, false);
    }

    /// Mends all links.
    pub fn heal(&mut self) {
        let all: Vec<NodeId> = (0..self.nodes.len()).map(NodeId).collect();
        self.cut(&all, true);
    }

    fn cut(&mut self, side: &[NodeId], up: bool) {
        self.trace.line(self.now, format_args!("links of {side:?} up: {up}"));
        for a in (0..self.nodes.len()).map(NodeId) {
            for b in (0..self.nodes.len()).map(NodeId) {
                if a != b && (up || side.contains(&a) != side.contains(&b)) {
                    let link = self.links.get(a, b);
                    self.links.set(a, b, Link { up, ..link });
                }
            }
        }
    }

    /// What became of a frame, while it is on its way and afterwards.
    pub fn flight(&self, id: FlightId) -> Option<&Flight> {
        self.ledger.get(id)
    }

    /// Whether flights are remembered when they are over; they are unless this is called.
    pub fn keep_flights(&mut self, keep: bool) {
        self.ledger.keep = keep;
    }

    /// A function that is told `true` before and `false` after every data-path call of an engine.
    pub fn guard(&mut self, guard: fn(bool)) {
        self.guard = guard;
    }

    /// Listens on a TCP port of a stack, for one connection.
    pub fn serve(&mut self, pod: PodId, port: u16) -> JobId {
        self.poll_soon(pod);
        self.stack_mut(pod).serve(port)
    }

    /// Connects from a stack, sends all of `data` and closes.
    pub fn transfer(&mut self, pod: PodId, to: IpAddr, port: u16, data: Vec<u8>) -> JobId {
        self.poll_soon(pod);
        self.stack_mut(pod).send(to, port, data)
    }

    /// Sends echo requests from a stack, 100 ms apart.
    pub fn ping(&mut self, pod: PodId, to: IpAddr, count: u16) -> JobId {
        self.poll_soon(pod);
        let now = self.now;
        self.stack_mut(pod).ping(now, to, count)
    }

    /// What a server of [`serve`](Self::serve) received so far.
    pub fn received(&self, pod: PodId, job: JobId) -> &[u8] {
        self.stack(pod).received(job)
    }

    /// Whether a job of a stack is done.
    pub fn is_done(&self, pod: PodId, job: JobId) -> bool {
        self.stack(pod).is_done(job)
    }

    /// Echo requests sent and answered by a job of [`ping`](Self::ping).
    pub fn pings(&self, pod: PodId, job: JobId) -> (u16, u16) {
        self.stack(pod).pings(job)
    }

    fn stack(&self, pod: PodId) -> &Stack {
        match &self.pods[pod.0].kind {
            Kind::Stack(stack) => stack,
            Kind::Station(_) => panic!("{pod} is a station"),
        }
    }

    fn stack_mut(&mut self, pod: PodId) -> &mut Stack {
        match &mut self.pods[pod.0].kind {
            Kind::Stack(stack) => stack,
            Kind::Station(_) => panic!("{pod} is a station"),
        }
    }

    /// The virtual time since the start.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// The virtual time as engines are told it.
    pub fn instant(&self) -> Instant {
        Instant::from_millis(self.now.as_millis() as u64)
    }

    /// What the underlay did.
    pub fn underlay(&self) -> Underlay {
        self.underlay
    }

    /// How many frames are on their way.
    pub fn in_flight(&self) -> usize {
        self.ledger.len()
    }

    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The generator that decides everything here, for choices of the caller that belong to the run.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// A hash over every line of the trace so far: the same seed and calls, the same hash.
    pub fn trace(&self) -> u64 {
        self.trace.hash()
    }

    /// Keeps every line of the trace from now on, for [`lines`](Self::lines).
    pub fn record(&mut self) {
        self.trace.record();
    }

    /// The recorded lines.
    pub fn lines(&self) -> &[String] {
        self.trace.lines()
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        panic!("seed {}, step {}: {what}\n{}", self.seed, self.steps, self.trace.tail());
    }
}

impl fmt::Debug for Fabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fabric")
            .field("seed", &self.seed)
            .field("now", &self.now)
            .field("nodes", &self.nodes.len())
            .field("pods", &self.pods.len())
            .field("underlay", &self.underlay)
            .finish_non_exhaustive()
    }
}
