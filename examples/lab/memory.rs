//! The lab without a kernel: three nodes in one process, a smoltcp pod behind each.
//!
//! Each node is what a host that embeds overlane is: an engine, a port, and a loop that carries bytes
//! where verdicts say. The underlay is a queue; its time is virtual, so that the capture looks like
//! one of a network with 50 µs between any two nodes.

use std::collections::VecDeque;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use overlane::addr::{MacAddr, PortId, Vni, VtepId};
use overlane::engine::{Capacity, Command, Engine, EngineConfig, Frame, Heap, Replica, Verdict};
use overlane::smoltcp::PodDevice;
use overlane::table::Seed;
use overlane::table::port::PortConfig;
use overlane::table::vni::VniConfig;
use overlane::table::vtep::VtepConfig;
use overlane::time::Instant;
use overlane::wire::arp::ArpPacket;
use overlane::wire::ethernet::{EthernetHeader, ethertype};
use overlane::wire::inner::source_port;
use overlane::wire::outer::Shape;
use overlane::wire::template::{Fields, Template, TemplateConfig, UdpChecksum};
use overlane::wire::vxlan;
use overlane_testkit::pcapng;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::{icmp, tcp};
use smoltcp::wire::{EthernetAddress, Icmpv4Packet, Icmpv4Repr, IpCidr};

use super::report::{Node as NodeReport, Packet, Pair, Report};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const VNI: Vni = Vni::truncate(42);
/// The pods' MTU: 1500 on the underlay, less the outer headers (RFC 7348, section 4.3).
const MTU: u16 = 1450;
/// Frames in each queue of a pod.
const QUEUE: usize = 64;
/// Octets in each TCP buffer.
const BUFFER: usize = 65_536;
/// What a datagram takes from node to node.
const LATENCY: Duration = Duration::from_micros(50);
/// The virtual time after which a ping or a transfer is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much the lab does.
#[derive(Debug, Clone)]
pub struct Options {
    /// Echo requests from each pod to each other.
    pub pings: u16,
    /// Octets over TCP from each pod to each other.
    pub octets: usize,
    /// Datagrams of the underlay that are kept; later ones are counted.
    pub kept: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { pings: 5, octets: 1 << 20, kept: 100_000 }
    }
}

/// A node with a pod behind it.
struct Node {
    name: &'static str,
    addr: Ipv4Addr,
    pod: Ipv4Addr,
    mac: MacAddr,
    engine: Engine<Heap>,
    port: PortId,
    device: PodDevice<Box<[u8]>>,
    interface: Interface,
    sockets: SocketSet<'static>,
    /// What ARP told the pod.
    neighbors: Vec<(Ipv4Addr, MacAddr)>,
}

/// The nodes and the underlay between them.
struct Lab {
    now: Duration,
    nodes: Vec<Node>,
    /// Datagrams on their way, the oldest first, and when they arrive.
    underlay: VecDeque<(Duration, Packet)>,
    packets: Vec<Packet>,
    /// How many `packets` may become, and how many there was no room for.
    kept: usize,
    not_kept: u64,
}

/// Runs the lab. `say` is told what happens as it happens.
///
/// # Errors
/// What could not be set up. A pair that does not work is no error: the report says so.
pub fn run(options: &Options, say: &mut dyn FnMut(&str)) -> Result<Report> {
    let mut lab = Lab::new(options.kept)?;
    say("three nodes in this process, each with an engine and a smoltcp pod");
    let mut pairs = Vec::new();
    for from in 0..lab.nodes.len() {
        for to in (0..lab.nodes.len()).filter(|to| *to != from) {
            let (answered, neighbor) = (lab.ping(from, to, options.pings)?, lab.neighbor(from, to));
            let (a, b) = (lab.nodes[from].name, lab.nodes[to].name);
            match neighbor {
                Some(mac) => say(&format!("pod {a} resolved pod {b}: {mac}")),
                None => say(&format!("pod {a} did not resolve pod {b}")),
            }
            say(&format!("pod {a} pinged pod {b}: {answered} of {} answered", options.pings));
            let started = std::time::Instant::now();
            let whole = lab.transfer(from, to, options.octets)?;
            let took = started.elapsed();
            let done = if whole { "arrived" } else { "did not all arrive" };
            say(&format!("pod {a} sent pod {b} {} octets over TCP: they {done}", options.octets));
            pairs.push(Pair {
                from,
                to,
                neighbor,
                pings: options.pings.into(),
                answered,
                octets: options.octets as u64,
                whole,
                took,
            });
        }
    }
    Ok(Report {
        place: "in memory".into(),
        measured:
            "TCP payload by the real clock, with two TCP stacks, two engines and the capture in one thread"
                .into(),
        vni: VNI,
        nodes: lab.nodes.iter().map(Node::report).collect(),
        pairs,
        packets: lab.packets,
        not_kept: lab.not_kept,
    })
}

/// Writes datagrams as a capture of an Ethernet underlay. Outer headers are overlane's own; the MAC
/// addresses in them stand for the nodes' network cards.
pub fn write(packets: &[Packet], out: impl std::io::Write) -> Result<()> {
    let mut file = pcapng::Writer::new(out)?;
    let interface = file.interface("underlay", 0)?;
    let card = |addr: IpAddr| match addr {
        IpAddr::V4(a) => MacAddr([2, 0, a.octets()[0], a.octets()[1], a.octets()[2], a.octets()[3]]),
        IpAddr::V6(a) => MacAddr::from_u64(a.to_bits() as u64 | 0x0200_0000_0000),
    };
    for packet in packets {
        let template = Template::new(&TemplateConfig {
            shape: Shape::Ethernet,
            local: packet.src.ip(),
            remote: packet.dst.ip(),
            remote_port: packet.dst.port(),
            local_mac: card(packet.src.ip()),
            remote_mac: card(packet.dst.ip()),
            ttl: 64,
            dscp: 0,
            dont_fragment: true,
            udp_checksum: UdpChecksum::Zero,
        })?;
        // The template writes a VXLAN header of its own; the packet's stands behind it already.
        let (header, inner) = packet.payload.split_at(vxlan::HEADER_LEN);
        let fields = Fields { source_port: packet.src.port(), ..Fields::default() };
        let mut data = template.header(inner, &fields).ok_or("a datagram too long")?.as_slice().to_vec();
        data.truncate(data.len() - vxlan::HEADER_LEN);
        data.extend([header, inner].concat());
        let time = std::time::UNIX_EPOCH + packet.time;
        file.frame(interface, &pcapng::Frame { time, wire_len: data.len() as u32, outgoing: false, data })?;
    }
    file.finish()?;
    Ok(())
}

impl Node {
    /// The n-th node of three.
    fn new(n: u8) -> Result<Node> {
        let (now, addr) = (Instant::ZERO, underlay(n));
        let config = EngineConfig::new(addr.into(), Seed::fixed(n.into())); // no stranger chooses addresses here
        let mut engine = Engine::with_capacity(config, &Capacity::default())?;
        engine.apply(now, &Command::AddVni { vni: VNI, config: VniConfig::default() })?;
        let port = engine.apply(now, &Command::AddPort(PortConfig::new(VNI)))?.port().ok_or("no port")?;
        for peer in (0..3).filter(|peer| *peer != n) {
            let config = VtepConfig::new(underlay(peer).into(), vxlan::PORT);
            let vtep = engine.apply(now, &Command::AddVtep(config))?.vtep().ok_or("no VTEP")?;
            engine.apply(now, &Command::AddFlood { vni: VNI, vtep })?;
        }

        let (mac, pod) = (MacAddr([2, 0, 0, 0, 0, n + 1]), Ipv4Addr::new(10, 244, 0, n + 1));
        let mut device = PodDevice::with_capacity(MTU, QUEUE);
        let mut config = Config::new(EthernetAddress(mac.0).into());
        config.random_seed = n.into();
        let mut interface = Interface::new(config, &mut device, smoltcp::time::Instant::ZERO);
        let mut full = false;
        interface.update_ip_addrs(|addrs| full = addrs.push(IpCidr::new(pod.into(), 24)).is_err());
        if full {
            return Err("a smoltcp interface without room for an address".into());
        }
        Ok(Node {
            name: ["a", "b", "c"][usize::from(n)],
            addr,
            pod,
            mac,
            engine,
            port,
            device,
            interface,
            sockets: SocketSet::new(Vec::new()),
            neighbors: Vec::new(),
        })
    }

    /// Gives the pod a frame, and notes what ARP says in it.
    fn deliver(&mut self, frame: &[u8]) {
        if let Ok(header) = EthernetHeader::parse(frame)
            && header.ethertype == ethertype::ARP
            && let Some(Ok(arp)) = frame.get(usize::from(header.payload_offset)..).map(ArpPacket::parse)
            && arp.target_ip == self.pod
        {
            self.neighbors.push((arp.sender_ip, arp.sender_mac));
        }
        if let Err(reason) = self.device.deliver(frame) {
            self.engine.count_drop(reason, Some(VNI), None, Some(self.port));
        }
    }

    /// Takes a datagram from the underlay.
    fn receive(&mut self, now: Instant, source: IpAddr, mut datagram: Vec<u8>) -> Result<()> {
        let len = datagram.len();
        let mut frames = [Frame::new(&mut datagram, 0..len)?.with_source(source)];
        self.engine.decap(now, &mut frames);
        let ours = match frames[0].verdict() {
            Some(Verdict::ToPort(port)) => port == self.port,
            Some(Verdict::Flood(_)) => {
                self.engine.replicas(&frames[0]).any(|copy| copy == Replica::Port(self.port))
            }
            _ => false, // dropped, and counted
        };
        if ours {
            self.deliver(frames[0].bytes());
        }
        Ok(())
    }

    /// Lets the pod work. Gives what goes to the underlay: to whom, from which UDP port, what.
    fn work(&mut self, now: Duration) -> Result<Vec<(VtepId, u16, Vec<u8>)>> {
        self.interface.poll(stack_time(now), &mut self.device, &mut self.sockets);
        let mut datagrams = Vec::new();
        while let Some(frame) = self.device.take() {
            let mut frames = [frame];
            self.engine.encap(engine_time(now), self.port, &mut frames)?;
            let [frame] = &frames;
            let (first, last) = self.engine.tables().config().source_ports;
            let from = source_port(frame.flow_hash(), first, last);
            match frame.verdict() {
                Some(Verdict::ToUnderlay(vtep)) => datagrams.push((vtep, from, frame.bytes().to_vec())),
                Some(Verdict::Flood(_)) => {
                    for copy in self.engine.replicas(frame) {
                        if let Replica::Underlay { vtep, header } = copy {
                            datagrams.push((vtep, from, [header.as_slice(), frame.bytes()].concat()));
                        }
                    }
                }
                _ => {} // dropped, and counted; there is no other local port
            }
        }
        if self.engine.next_timeout().is_some_and(|due| due <= engine_time(now)) {
            self.engine.handle_timeout(engine_time(now), 256);
        }
        Ok(datagrams)
    }

    fn report(&self) -> NodeReport {
        let mut node = NodeReport {
            name: self.name.into(),
            data_plane: "overlane".into(),
            underlay: self.addr.into(),
            pod: self.pod.into(),
            mac: self.mac,
            fdb: Vec::new(),
            counters: Vec::new(),
            drops: Vec::new(),
        };
        node.read(&self.engine);
        node
    }
}

impl Lab {
    fn new(kept: usize) -> Result<Lab> {
        let nodes = (0..3).map(Node::new).collect::<Result<Vec<Node>>>()?;
        let (underlay, packets) = (VecDeque::new(), Vec::new());
        Ok(Lab { now: Duration::ZERO, nodes, underlay, packets, kept, not_kept: 0 })
    }

    /// Lets every pod work, then time pass until the next thing is due; false where nothing is.
    fn step(&mut self) -> Result<bool> {
        for node in &mut self.nodes {
            for (vtep, from, payload) in node.work(self.now)? {
                let remote = node.engine.vtep(vtep).ok_or("a VTEP that is gone")?.config;
                let src = SocketAddr::new(node.addr.into(), from);
                let dst = SocketAddr::new(remote.addr, remote.port);
                let packet = Packet { time: self.now, src, dst, payload };
                match self.packets.len() < self.kept {
                    true => self.packets.push(packet.clone()),
                    false => self.not_kept += 1,
                }
                self.underlay.push_back((self.now + LATENCY, packet));
            }
        }
        let mut due = self.underlay.front().map(|(at, _)| *at);
        for node in &mut self.nodes {
            let at = node.interface.poll_at(stack_time(self.now), &node.sockets);
            let at = at.map(|at| Duration::from_micros(at.total_micros().max(0) as u64));
            due = [due, at].into_iter().flatten().min();
        }
        let Some(due) = due else { return Ok(false) };
        self.now = due.max(self.now + Duration::from_micros(1));
        while self.underlay.front().is_some_and(|(at, _)| *at <= self.now) {
            let Some((at, packet)) = self.underlay.pop_front() else { break };
            if let Some(node) = self.nodes.iter_mut().find(|node| packet.dst.ip() == node.addr) {
                node.receive(engine_time(at), packet.src.ip(), packet.payload)?;
            }
        }
        Ok(true)
    }

    /// Runs until `done`, or until nothing more happens or patience ends.
    fn run_until(&mut self, mut done: impl FnMut(&mut Lab) -> bool) -> Result<bool> {
        let deadline = self.now + PATIENCE;
        loop {
            if done(self) {
                return Ok(true);
            }
            if self.now > deadline || !self.step()? {
                return Ok(done(self));
            }
        }
    }

    /// Sends echo requests one after another; how many were answered.
    fn ping(&mut self, from: usize, to: usize, count: u16) -> Result<u32> {
        let ident = (from * 16 + to) as u16;
        let (buffers, target) = (|| vec![icmp::PacketMetadata::EMPTY; 4], self.nodes[to].pod);
        let buffer = || icmp::PacketBuffer::new(buffers(), vec![0; 512]);
        let mut socket = icmp::Socket::new(buffer(), buffer());
        socket.bind(icmp::Endpoint::Ident(ident)).map_err(|e| format!("cannot bind an ICMP socket: {e}"))?;
        let handle = self.nodes[from].sockets.add(socket);
        let mut answered = 0;
        for seq_no in 1..=count {
            let request = Icmpv4Repr::EchoRequest { ident, seq_no, data: b"overlane" };
            let socket = self.nodes[from].sockets.get_mut::<icmp::Socket<'_>>(handle);
            let buffer = socket.send(request.buffer_len(), target.into());
            let buffer = buffer.map_err(|e| format!("cannot send an echo request: {e}"))?;
            request.emit(&mut Icmpv4Packet::new_unchecked(buffer), &ChecksumCapabilities::default());
            let heard = self.run_until(|lab| {
                let socket = lab.nodes[from].sockets.get_mut::<icmp::Socket<'_>>(handle);
                socket.can_recv() && socket.recv().is_ok()
            })?;
            answered += u32::from(heard);
        }
        self.nodes[from].sockets.remove(handle);
        Ok(answered)
    }

    /// The MAC address that ARP gave one pod for another.
    fn neighbor(&self, from: usize, to: usize) -> Option<MacAddr> {
        let (told, pod) = (&self.nodes[from].neighbors, self.nodes[to].pod);
        told.iter().rev().find(|(addr, _)| *addr == pod).map(|(_, mac)| *mac)
    }

    /// Sends octets over TCP; whether they arrived, all and unchanged.
    fn transfer(&mut self, from: usize, to: usize, octets: usize) -> Result<bool> {
        const PORT: u16 = 5001;
        let (client, server) = (self.tcp(from), self.tcp(to));
        let socket = self.nodes[to].sockets.get_mut::<tcp::Socket<'_>>(server);
        socket.listen(PORT).map_err(|e| format!("cannot listen: {e}"))?;
        let (target, local) = (self.nodes[to].pod, 49_152 + (from * 16 + to) as u16);
        let node = &mut self.nodes[from];
        let socket = node.sockets.get_mut::<tcp::Socket<'_>>(client);
        socket
            .connect(node.interface.context(), (target, PORT), local)
            .map_err(|e| format!("cannot connect: {e}"))?;

        let (mut sent, mut received, mut same) = (0, 0, true);
        let arrived = self.run_until(|lab| {
            let socket = lab.nodes[from].sockets.get_mut::<tcp::Socket<'_>>(client);
            while sent < octets && socket.can_send() {
                let chunk: Vec<u8> = (sent..octets.min(sent + 4096)).map(octet).collect();
                match socket.send_slice(&chunk) {
                    Ok(n) if n > 0 => sent += n,
                    _ => break,
                }
            }
            let socket = lab.nodes[to].sockets.get_mut::<tcp::Socket<'_>>(server);
            while socket.can_recv() {
                let read = socket.recv(|bytes| {
                    same &= bytes.iter().zip(received..).all(|(b, i)| *b == octet(i));
                    received += bytes.len();
                    (bytes.len(), ())
                });
                same &= read.is_ok();
            }
            received >= octets
        })?;
        for (node, handle) in [(from, client), (to, server)] {
            self.nodes[node].sockets.get_mut::<tcp::Socket<'_>>(handle).close();
        }
        self.run_until(|lab| {
            let pairs = [(from, client), (to, server)];
            pairs.iter().all(|(n, h)| !lab.nodes[*n].sockets.get::<tcp::Socket<'_>>(*h).is_open())
        })?;
        for (node, handle) in [(from, client), (to, server)] {
            self.nodes[node].sockets.remove(handle);
        }
        Ok(arrived && same && received == octets)
    }

    fn tcp(&mut self, node: usize) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_timeout(Some(smoltcp::time::Duration::from_secs(30)));
        self.nodes[node].sockets.add(socket)
    }
}

/// The underlay address of the n-th node.
fn underlay(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, n + 1)
}

/// The i-th octet that a transfer carries: the pattern shows a loss, a repetition and a swap.
fn octet(i: usize) -> u8 {
    (i ^ (i >> 8) ^ (i >> 16)) as u8
}

fn engine_time(now: Duration) -> Instant {
    Instant::from_millis(now.as_millis() as u64)
}

fn stack_time(now: Duration) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(now.as_micros() as i64)
}
