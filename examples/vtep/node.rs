//! Setting up what the arguments ask for.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use overlane::addr::{IpPrefix, Ipv4Prefix, Ipv6Prefix, NextHop, PortId, VtepId};
use overlane::engine::{Capacity, Command, Engine, EngineConfig};
use overlane::linux::{DriverConfig, Error, Links, Offload, Tap, Tunnel, Underlay, UnderlayConfig, Workers};
use overlane::table::Seed;
use overlane::table::port::PortConfig;
use overlane::table::vni::{Accept, Mode, VniConfig};
use overlane::table::vtep::VtepConfig;

use crate::args::{Attachment, Device, Hop, Learn, Plan};

/// The MTU of an Ethernet, where no route tells another.
const ETHERNET_MTU: u16 = 1500;

/// Octets around an inner IP packet: inner Ethernet, VXLAN, UDP and outer IP headers.
fn overhead(underlay: IpAddr) -> u16 {
    14 + 8 + 8 + if underlay.is_ipv4() { 20 } else { 40 }
}

/// How soon threads are started again, where there were none to be had.
const AGAIN: Duration = Duration::from_secs(1);

/// Remotes whose routes are looked at at a time: each takes a few system calls, and traffic waits.
const PATHS: usize = 256;

/// A running node.
pub(crate) struct Node {
    pub(crate) workers: Workers,
    /// Where it listens.
    pub(crate) locals: Vec<SocketAddr>,
    /// Why superframes do not leave whole, though they might.
    pub(crate) no_tunnel: Option<Error>,
    /// What was asked for and will not work as it may have been meant.
    pub(crate) remarks: Vec<String>,
    /// The remotes, the largest outer packets to them, and whose turn it is to be looked at.
    paths: Vec<Path>,
    most: u16,
    turn: usize,
}

/// The way to a remote.
struct Path {
    vtep: VtepId,
    local: IpAddr,
    remote: IpAddr,
}

impl Node {
    pub(crate) fn start(plan: &Plan) -> Result<Node, Box<dyn std::error::Error>> {
        let mut workers = workers(plan)?;
        let config = UnderlayConfig {
            zero_checksum: plan.zero_checksum,
            accept_zero_checksum6: plan.zero_checksum,
            ttl: plan.ttl,
            dscp: plan.dscp,
            ..UnderlayConfig::default()
        };
        for fd in &plan.socket_fds {
            let socket = Underlay::from_inherited(*fd, &config)?;
            let local = socket.local_addr();
            if !plan.locals.contains(&local) {
                return Err(format!("descriptor {fd} is bound to {local}, which no --local names").into());
            }
            workers.add_sockets(vec![socket])?;
        }
        for local in &plan.locals {
            if !workers.sockets().any(|s| s.local_addr() == *local) {
                workers.add_sockets(match plan.threads {
                    1 => vec![Underlay::bind(*local, &config)?],
                    n => Underlay::bind_group(*local, &config, n)?,
                })?;
            }
            for _ in 1..plan.source_ports {
                workers.add_sender(Underlay::bind((local.ip(), 0).into(), &config)?)?;
            }
        }
        let mtus: Vec<u16> = plan.remotes.iter().map(|(remote, _)| outer_mtu(plan, remote.ip())).collect();
        let mut vteps = Vec::new();
        for ((remote, mac), mtu) in plan.remotes.iter().zip(&mtus) {
            let config = VtepConfig {
                inner_mac: Some(*mac),
                mtu: *mtu,
                ..VtepConfig::new(remote.ip(), remote.port())
            };
            let vtep = workers.apply(&Command::AddVtep(config))?.vtep().ok_or("no VTEP id")?;
            vteps.push((remote.ip(), vtep));
        }
        for segment in &plan.segments {
            let mode = match segment.routes.is_empty() {
                true => Mode::Bridged,
                false => Mode::Routed { router_mac: plan.router_mac },
            };
            let accept = if plan.learn == Learn::Any { Accept::AnySource } else { Accept::KnownVteps };
            let config =
                VniConfig { mode, accept, learning: plan.learn != Learn::Off, ..VniConfig::default() };
            workers.apply(&Command::AddVni { vni: segment.vni, config })?;
            for (_, vtep) in &vteps {
                workers.apply(&Command::AddFlood { vni: segment.vni, vtep: *vtep })?;
            }
        }
        let remotes = plan.remotes.iter().map(|(r, _)| r.ip()).zip(mtus);
        let mtu = remotes.map(|(remote, mtu)| mtu.saturating_sub(overhead(remote))).min();
        let mtu = mtu.unwrap_or_else(|| {
            let widest = plan.locals.iter().map(|l| overhead(l.ip())).max().unwrap_or(0);
            plan.mtu.unwrap_or(ETHERNET_MTU).saturating_sub(widest)
        });
        let mut no_tunnel = None;
        if plan.offload >= Offload::Tunnel {
            let local = |remote: SocketAddr| plan.locals.iter().find(|l| l.is_ipv4() == remote.is_ipv4());
            let remotes = plan.remotes.iter().map(|(remote, _)| *remote);
            let pairs: Vec<_> = remotes.filter_map(|r| Some((*local(r)?, r))).collect();
            match Tunnel::open(&pairs, &config) {
                Ok(tunnel) => workers.add_tunnel(tunnel)?,
                Err(error) => no_tunnel = Some(error),
            }
        }
        let remarks = plan.remotes.iter().filter_map(|(remote, _)| narrow_route(plan, remote.ip())).collect();
        let path = |(remote, vtep): &(IpAddr, VtepId)| {
            let local = local_to(plan, *remote)?;
            Some(Path { vtep: *vtep, local, remote: *remote })
        };
        let paths = vteps.iter().filter_map(path).collect();
        let (locals, most) = (plan.locals.clone(), plan.mtu.unwrap_or(u16::MAX));
        let mut node = Node { workers, locals, no_tunnel, remarks, paths, most, turn: 0 };
        for attachment in &plan.attachments {
            let port = node.attach(plan, attachment, mtu)?;
            node.route(plan, attachment, port, &vteps)?;
        }
        for gateway in &plan.gateways {
            node.workers.set_gateway(*gateway);
        }
        Ok(node)
    }

    /// Makes the device ready and puts it on a port of its VNI.
    fn attach(
        &mut self,
        plan: &Plan,
        attachment: &Attachment,
        mtu: u16,
    ) -> Result<PortId, Box<dyn std::error::Error>> {
        let mut queues = match &attachment.device {
            Device::Named(name) => match plan.threads {
                1 => vec![Tap::create(name)?],
                n => Tap::create_queues(name, n)?,
            },
            // Its MTU is that of who made it, unless it cannot be read from here.
            Device::Open(fd) => {
                vec![Tap::from_inherited(*fd, None).or_else(|_| Tap::from_inherited(*fd, Some(mtu)))?]
            }
        };
        let named = matches!(attachment.device, Device::Named(_));
        // The arguments do not tell what device a descriptor is. In another network namespace one may have
        // the same name, but hardly the same MAC address.
        let tap = queues.first().ok_or("a device without queues")?;
        if self.workers.taps().any(|(_, other)| (other.name(), other.mac()) == (tap.name(), tap.mac())) {
            return Err(format!("{}: its device, {tap}, is given twice", attachment.device).into());
        }
        for tap in queues.iter_mut().filter(|_| named) {
            let has = tap.mtu();
            tap.set_mtu(mtu).map_err(|e| format!("{e} (it has {has}, and {mtu} fits)"))?;
        }
        let tap = queues.first().ok_or("a device without queues")?;
        if !named && tap.mtu() > mtu {
            self.remarks.push(format!(
                "{tap} has an MTU of {}, and outer packets have room for {mtu}: what is longer does not arrive",
                tap.mtu()
            ));
        }
        if !tap.has_virtio_header() && plan.offload >= Offload::Gso {
            self.remarks.push(format!(
                "{tap} has no virtio-net header (IFF_VNET_HDR): the kernel cuts its superframes, and each packet \
                 is a system call"
            ));
        }
        let mut links = Links::open()?;
        if !attachment.addresses.is_empty() {
            let index = links.get(tap.name())?.index;
            for (addr, len) in &attachment.addresses {
                match links.add_address(index, *addr, *len) {
                    // A persistent device has it from the last time.
                    Err(error) if is_there_already(&error) => {}
                    done => done?,
                }
            }
        }
        let config = PortConfig { peer_mac: Some(tap.mac()), ..PortConfig::new(attachment.vni) };
        let port = self.workers.apply(&Command::AddPort(config))?.port().ok_or("no port id")?;
        self.workers.add_tap(port, queues)?;
        for tap in self.workers.taps_mut(port).take(1).filter(|_| named) {
            tap.set_up()?;
        }
        Ok(port)
    }

    /// The routes of a routed VNI. What nobody else has is the device's: the host behind it is a
    /// router, or the one pod.
    fn route(
        &mut self,
        plan: &Plan,
        attachment: &Attachment,
        port: PortId,
        vteps: &[(IpAddr, VtepId)],
    ) -> Result<(), Box<dyn std::error::Error>> {
        let vni = attachment.vni;
        let asked = plan.segments.iter().find(|s| s.vni == vni).map_or(&[][..], |s| &s.routes);
        if asked.is_empty() {
            return Ok(());
        }
        let mut routes = Vec::new();
        for all in ["0.0.0.0/0", "::/0"] {
            routes.push((all.parse()?, NextHop::Port(port)));
        }
        for (addr, len) in &attachment.addresses {
            let prefix = match addr {
                IpAddr::V4(a) => IpPrefix::V4(Ipv4Prefix::truncate(*a, *len)?),
                IpAddr::V6(a) => IpPrefix::V6(Ipv6Prefix::truncate(*a, *len)?),
            };
            routes.push((prefix, NextHop::Port(port)));
        }
        // Last, so that what was asked for replaces what was only assumed.
        for (prefix, hop) in asked {
            let vtep = |addr| vteps.iter().find(|(a, _)| *a == addr).map(|(_, vtep)| *vtep);
            let next_hop = match hop {
                Hop::Device => NextHop::Port(port),
                Hop::Remote(addr) => NextHop::Vtep(vtep(*addr).ok_or("a route to nowhere")?),
            };
            routes.push((*prefix, next_hop));
        }
        for (prefix, next_hop) in routes {
            self.workers.apply(&Command::AddRoute { vni, prefix, next_hop })?;
        }
        Ok(())
    }

    /// Does what is left to do about an error of the data path: how long to wait before it goes on; `None` where
    /// it cannot.
    pub(crate) fn survive(&mut self, error: &Error) -> Option<Duration> {
        if error.is_removed_device() {
            // Of several devices one may go, with its pod.
            let gone =
                self.workers.taps().find(|(_, tap)| tap.name() == error.object()).map(|(port, _)| port);
            drop(self.workers.remove_tap(gone?));
            return self.workers.taps().next().map(|_| Duration::ZERO);
        }
        let cause = std::error::Error::source(error)?.downcast_ref::<std::io::Error>()?.kind();
        // The threads start anew now and then; for a moment there may be none to be had.
        let none = matches!(cause, ErrorKind::WouldBlock | ErrorKind::OutOfMemory);
        (error.operation() == "start" && none).then_some(AGAIN)
    }

    /// Reads again what somebody may have changed.
    pub(crate) fn refresh(&mut self) {
        self.refresh_devices();
        self.refresh_paths();
    }

    /// What the routes to remotes take: links change, and the kernel finds out what the paths carry. In routed
    /// VNIs the pods are told, who would send what does not arrive for ever.
    fn refresh_paths(&mut self) {
        for _ in 0..self.paths.len().min(PATHS) {
            self.turn = (self.turn + 1) % self.paths.len();
            let Some(path) = self.paths.get(self.turn) else { continue };
            let vteps = self.workers.engine().tables().vteps();
            let Some(known) = vteps.get(path.vtep).filter(|vtep| vtep.routes > 0) else { continue };
            // Where there is no route now, there will be.
            let Some(found) = route_mtu(path.local, path.remote) else { continue };
            let config = VtepConfig { mtu: found.min(self.most), ..known.config };
            if config != known.config {
                let _ = self.workers.apply(&Command::SetVtep { vtep: path.vtep, config });
            }
        }
    }

    /// The devices' MTU and MAC addresses. A device that is now in another network namespace keeps what it
    /// had.
    fn refresh_devices(&mut self) {
        let ports: Vec<PortId> = self.workers.taps().map(|(port, _)| port).collect();
        for port in ports {
            let read = self.workers.taps_mut(port).map(|tap| tap.refresh().ok().map(|()| tap.mac()));
            let mac = read.fold(None, |first, mac| first.or(mac));
            let known = self.workers.engine().tables().ports().get(port).map(|p| p.config);
            if let (Some(mac), Some(config)) = (mac, known)
                && config.peer_mac != Some(mac)
            {
                let config = PortConfig { peer_mac: Some(mac), ..config };
                let _ = self.workers.apply(&Command::SetPort { port, config });
            }
        }
    }
}

fn workers(plan: &Plan) -> Result<Workers, Box<dyn std::error::Error>> {
    let mut seed = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let first = plan.locals.first().ok_or("no local address")?;
    let mut config = EngineConfig::new(first.ip(), Seed::new(seed));
    config.port = first.port();
    config.ageing = Duration::from_secs(plan.ageing.into());
    for local in &plan.locals {
        match local.ip() {
            IpAddr::V4(a) => config.local_v4 = Some(a),
            IpAddr::V6(a) => config.local_v6 = Some(a),
        }
    }
    let (segments, remotes) = (plan.segments.len(), plan.remotes.len());
    let routes: usize = plan.segments.iter().map(|s| s.routes.len() + 4).sum();
    let default = Capacity::default();
    let capacity = Capacity {
        routes_v4: default.routes_v4.max(routes),
        routes_v6: default.routes_v6.max(routes),
        macs: plan.macs as usize,
        vnis: default.vnis.max(segments),
        vteps: default.vteps.max(2 * remotes),
        ports: default.ports.max(plan.attachments.len()),
        flood_members: default.flood_members.max(segments * remotes + plan.attachments.len()),
        ..default
    };
    let engine = Engine::with_capacity(config, &capacity)?;
    Ok(Workers::new(engine, &DriverConfig { offload: plan.offload }, plan.threads)?)
}

fn is_there_already(error: &Error) -> bool {
    let kind = error.errno().map(|number| io::Error::from_raw_os_error(number).kind());
    kind == Some(io::ErrorKind::AlreadyExists)
}

/// The address that packets to a remote come from.
fn local_to(plan: &Plan, remote: IpAddr) -> Option<IpAddr> {
    plan.locals.iter().map(|local| local.ip()).find(|local| local.is_ipv4() == remote.is_ipv4())
}

/// What the route to a remote takes, if there is one.
fn route_mtu(local: IpAddr, remote: IpAddr) -> Option<u16> {
    let mtu = Underlay::route_mtu(local, remote).ok()?;
    Some(u16::try_from(mtu).unwrap_or(u16::MAX)).filter(|mtu| *mtu >= 256)
}

/// The largest outer packet to a remote.
fn outer_mtu(plan: &Plan, remote: IpAddr) -> u16 {
    let found = || route_mtu(local_to(plan, remote)?, remote);
    plan.mtu.or_else(found).unwrap_or(ETHERNET_MTU)
}

/// Whether less gets to a remote than was asked for.
fn narrow_route(plan: &Plan, remote: IpAddr) -> Option<String> {
    let (asked, found) = (plan.mtu?, route_mtu(local_to(plan, remote)?, remote)?);
    let why =
        || format!("--mtu {asked}: the route to {remote} takes {found}, what is longer does not arrive");
    (asked > found).then(why)
}
