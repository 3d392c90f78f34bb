//! What is attached to the engines' ports: stations that send single frames, and whole IP stacks.

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;

use overlane::addr::{MacAddr, PortId, Vni};
use overlane::engine::HEADROOM;
use overlane::smoltcp::PodDevice;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::{icmp, tcp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress, IpCidr};

use super::NodeId;

/// Frames in each queue of a stack's device.
const QUEUE: usize = 32;
/// Octets in each TCP buffer.
const BUFFER: usize = 16_384;

/// Something that is attached to a port.
#[derive(Debug)]
pub(super) struct Pod {
    pub(super) node: NodeId,
    /// The port, while it is attached.
    pub(super) port: Option<PortId>,
    pub(super) vni: Vni,
    pub(super) mac: MacAddr,
    pub(super) heard: u64,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Station(Option<Talk>),
    Stack(Box<Stack>),
}

/// What a station says by itself: frames to one of `to`, drawn each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Talk {
    /// The time between two frames.
    pub every: Duration,
    /// How many frames are to be sent yet.
    pub count: u32,
    /// Whom to send to.
    pub to: Vec<MacAddr>,
    /// Octets behind the Ethernet header.
    pub payload: usize,
}

/// An Ethernet frame of a local experimental EtherType (IEEE 802-2014, 9.2.4), which no engine looks into.
pub fn frame(dst: MacAddr, src: MacAddr, payload: &[u8]) -> Vec<u8> {
    [&dst.0[..], &src.0, &[0x88, 0xb5], payload].concat()
}

/// An IP stack with its device, sockets and what it is to do.
pub(super) struct Stack {
    device: PodDevice<Box<[u8]>>,
    interface: Interface,
    sockets: SocketSet<'static>,
    jobs: Vec<Job>,
    /// The ICMP identifier of its first job; no other stack may have it.
    ident: u16,
    /// When it wants to be polled next.
    pub(super) due: Option<Duration>,
}

/// The number of a job of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobId(pub(super) usize);

#[derive(Debug)]
enum Job {
    Send { handle: SocketHandle, data: Vec<u8>, sent: usize },
    Receive { handle: SocketHandle, data: Vec<u8>, ended: bool },
    Ping { handle: SocketHandle, ident: u16, to: IpAddr, left: u16, sent: u16, answered: u16, next: Duration },
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("device", &self.device)
            .field("jobs", &self.jobs)
            .finish_non_exhaustive()
    }
}

impl Stack {
    pub(super) fn new(mac: MacAddr, addrs: &[(IpAddr, u8)], mtu: u16, ident: u16, seed: u64) -> Stack {
        let mut device = PodDevice::with_capacity(mtu, QUEUE);
        let mut config = Config::new(EthernetAddress(mac.0).into());
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        interface.update_ip_addrs(|list| {
            for (addr, prefix) in addrs {
                list.push(IpCidr::new((*addr).into(), *prefix)).expect("smoltcp holds few addresses");
            }
        });
        Stack { device, interface, sockets: SocketSet::new(Vec::new()), jobs: Vec::new(), ident, due: None }
    }

    fn tcp(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    fn job(&mut self, job: Job) -> JobId {
        self.jobs.push(job);
        JobId(self.jobs.len() - 1)
    }

    /// Listens on a TCP port; what arrives is kept.
    pub(super) fn serve(&mut self, port: u16) -> JobId {
        let handle = self.tcp();
        self.sockets.get_mut::<tcp::Socket<'_>>(handle).listen(port).expect("a fresh socket listens");
        self.job(Job::Receive { handle, data: Vec::new(), ended: false })
    }

    /// Connects, sends all of `data` and closes.
    pub(super) fn send(&mut self, to: IpAddr, port: u16, data: Vec<u8>) -> JobId {
        let handle = self.tcp();
        let local = 40_000 + self.jobs.len() as u16;
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.connect(self.interface.context(), (to, port), local).expect("a fresh socket connects");
        self.job(Job::Send { handle, data, sent: 0 })
    }

    /// Sends `count` echo requests, 100 ms apart.
    pub(super) fn ping(&mut self, now: Duration, to: IpAddr, count: u16) -> JobId {
        let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 8], vec![0; 1024]);
        let mut socket = icmp::Socket::new(buffer(), buffer());
        let ident = self.ident + self.jobs.len() as u16;
        socket.bind(icmp::Endpoint::Ident(ident)).expect("a fresh socket binds");
        let handle = self.sockets.add(socket);
        self.job(Job::Ping { handle, ident, to, left: count, sent: 0, answered: 0, next: now })
    }

    /// What a server received.
    pub(super) fn received(&self, job: JobId) -> &[u8] {
        match &self.jobs[job.0] {
            Job::Receive { data, .. } => data,
            other => panic!("job {} receives nothing: {other:?}", job.0),
        }
    }

    /// Whether a job is done: all data is sent and acknowledged, the other end has closed, or every
    /// echo request has been sent.
    pub(super) fn is_done(&self, job: JobId) -> bool {
        match &self.jobs[job.0] {
            Job::Send { handle, data, sent } => {
                let socket = self.sockets.get::<tcp::Socket<'_>>(*handle);
                *sent == data.len() && socket.send_queue() == 0
            }
            Job::Receive { ended, .. } => *ended,
            Job::Ping { left, .. } => *left == 0,
        }
    }

    /// Echo requests sent and answered.
    pub(super) fn pings(&self, job: JobId) -> (u16, u16) {
        match &self.jobs[job.0] {
            Job::Ping { sent, answered, .. } => (*sent, *answered),
            other => panic!("job {} pings nobody: {other:?}", job.0),
        }
    }

    /// Puts a frame on the stack's queue; false where there is no room.
    pub(super) fn deliver(&mut self, frame: &[u8]) -> Result<(), overlane::error::DropReason> {
        self.device.deliver(frame)
    }

    /// Lets the stack work. Gives what it sent, each frame behind headroom.
    pub(super) fn poll(&mut self, now: Duration) -> Vec<Vec<u8>> {
        let instant = Instant::from_micros(now.as_micros() as i64);
        self.interface.poll(instant, &mut self.device, &mut self.sockets);
        let mut wake = None;
        for job in &mut self.jobs {
            let at = work(job, now, &mut self.sockets, &mut self.interface);
            wake = [wake, at].into_iter().flatten().min();
        }
        self.interface.poll(instant, &mut self.device, &mut self.sockets);
        let mut frames = Vec::new();
        while let Some(frame) = self.device.take() {
            let mut buffer = vec![0; HEADROOM + frame.len()];
            buffer[HEADROOM..].copy_from_slice(frame.bytes());
            frames.push(buffer);
        }
        let at = self.interface.poll_at(instant, &self.sockets);
        let at = at.map(|at| Duration::from_micros(at.total_micros().max(0) as u64));
        // Never at the same instant again: time has to pass for the run to end.
        self.due = [wake, at].into_iter().flatten().min().map(|at| at.max(now + Duration::from_micros(1)));
        frames
    }
}

/// Takes a job further; when it wants to go on by itself.
fn work(
    job: &mut Job,
    now: Duration,
    sockets: &mut SocketSet<'static>,
    interface: &mut Interface,
) -> Option<Duration> {
    match job {
        Job::Send { handle, data, sent } => {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(*handle);
            if *sent < data.len() && socket.can_send() {
                *sent += socket.send_slice(&data[*sent..]).unwrap_or(0);
            }
            if *sent == data.len() && socket.may_send() {
                socket.close();
            }
            None
        }
        Job::Receive { handle, data, ended } => {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(*handle);
            while socket.can_recv() {
                let read = socket.recv(|bytes| (bytes.len(), data.extend_from_slice(bytes)));
                read.expect("octets wait");
            }
            if socket.state() == tcp::State::CloseWait {
                *ended = true;
                socket.close();
            }
            None
        }
        Job::Ping { handle, ident, to, left, sent, answered, next } => {
            let socket = sockets.get_mut::<icmp::Socket<'_>>(*handle);
            while socket.can_recv() {
                socket.recv().expect("a message waits");
                *answered += 1;
            }
            if *left > 0 && *next <= now {
                *left -= 1;
                *next = now + Duration::from_millis(100);
                *sent += 1;
                if let Some(from) = interface.get_source_address(&(*to).into()) {
                    echo_request(socket, from, (*to).into(), *ident, *sent);
                }
            }
            (*left > 0).then_some(*next)
        }
    }
}

fn echo_request(socket: &mut icmp::Socket<'static>, from: IpAddress, to: IpAddress, ident: u16, seq_no: u16) {
    let (checksums, data) = (ChecksumCapabilities::default(), &b"overlane"[..]);
    match (from, to) {
        (IpAddress::Ipv4(_), IpAddress::Ipv4(_)) => {
            let request = Icmpv4Repr::EchoRequest { ident, seq_no, data };
            if let Ok(buffer) = socket.send(request.buffer_len(), to) {
                request.emit(&mut Icmpv4Packet::new_unchecked(buffer), &checksums);
            }
        }
        (IpAddress::Ipv6(from), IpAddress::Ipv6(dst)) => {
            let request = Icmpv6Repr::EchoRequest { ident, seq_no, data };
            if let Ok(buffer) = socket.send(request.buffer_len(), to) {
                request.emit(&from, &dst, &mut Icmpv6Packet::new_unchecked(buffer), &checksums);
            }
        }
        _ => {}
    }
}
