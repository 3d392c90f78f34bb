//! The command line: what was asked for, checked.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::str::FromStr;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use overlane::addr::{IpPrefix, MacAddr, Vni};
use overlane::linux::Offload;
use overlane::wire::vxlan;

use crate::user::User;

/// A VXLAN tunnel end in user space.
///
/// Joins TAP devices to VXLAN segments (RFC 7348). Frames from a device go to the VTEPs of its VNI:
/// flooded, until it is learned behind which one an address is. With --route the VNI is routed
/// instead: packets go by their inner IP address, the router's MAC addresses are rewritten, and ARP
/// and neighbour discovery for what is behind other VTEPs are answered here. What no route leads
/// elsewhere goes to the device.
#[derive(Parser)]
#[command(
    name = "vtep",
    version,
    override_usage = "vtep --tap NAME --local IP[:PORT] --vni N --remote IP[:PORT]... [OPTION]...\n       vtep --probe",
    after_help = "Write an IPv6 address with a port as [2001:db8::1]:4789.\n\n\
        A node's router MAC address follows from its underlay address unless told otherwise: 0e:6f and the \
        four octets of an IPv4 address, 0e and a 40-bit hash (FNV-1a) of an IPv6 address. A kernel peer has \
        one of its own: tell it with --remote IP=MAC.\n\n\
        When devices and sockets are open, the program gives up all capabilities for good. With --tap-fd and \
        --socket-fd it needs none to begin with.\n\n\
        SIGUSR1 prints tables and counters; SIGINT and SIGTERM end the program, and its devices go."
)]
struct Args {
    /// Make (or attach to) this TAP device; can be given several times
    #[arg(long, value_name = "NAME")]
    tap: Vec<String>,
    /// Use this open descriptor of a TAP device; can be given several times
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(RawFd).range(0..))]
    tap_fd: Vec<RawFd>,
    /// This node's underlay address; once for each address family
    #[arg(long, value_name = "IP[:PORT]", required = true)]
    local: Vec<Endpoint>,
    /// The VNI of the devices, 0 to 16777215; or one for each device, --tap before --tap-fd
    #[arg(long, value_name = "N", required = true, allow_negative_numbers = true)]
    vni: Vec<Vni>,
    /// Another node; the port is that of --local unless told, the MAC is its router MAC address
    #[arg(long, value_name = "IP[:PORT][=MAC]")]
    remote: Vec<Remote>,
    /// The largest outer IP packet; the devices get 50 octets less, or 70 over IPv6 (for VLAN-tagged
    /// frames take off 4 more) [default: as the routes to the remotes have it, else 1500]
    #[arg(long, value_name = "OCTETS", value_parser = clap::value_parser!(u16).range(256..), allow_negative_numbers = true)]
    mtu: Option<u16>,
    /// Whose packets are taken, and whether MAC addresses are learned: from the remotes, from any
    /// address, or not at all
    #[arg(long, value_enum, default_value_t = Learn::Known)]
    learn: Learn,
    /// Seconds that a learned MAC address lives unseen
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=31_536_000), allow_negative_numbers = true)]
    ageing: u32,
    /// MAC addresses that can be known at a time
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=16_777_216), allow_negative_numbers = true)]
    macs: u32,
    /// Make the VNI routed: PREFIX is behind the remote IP, or with the --local IP behind the device
    #[arg(long, value_name = "PREFIX=IP[@VNI]")]
    route: Vec<Route>,
    /// Give the device this address; in a routed VNI its prefix is behind the device
    #[arg(long, value_name = "IP/LEN[@VNI]")]
    address: Vec<Address>,
    /// The router's address in routed VNIs: answered for, and the source of ICMP errors; once for each
    /// address family
    #[arg(long, value_name = "IP")]
    gateway: Vec<IpAddr>,
    /// This node's router MAC address in routed VNIs
    #[arg(long, value_name = "MAC")]
    router_mac: Option<MacAddr>,
    /// Use this open descriptor of a UDP socket, bound to a --local address and port; can be given
    /// several times
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(RawFd).range(0..))]
    socket_fd: Vec<RawFd>,
    /// The most that is left to the kernel: none (a system call for each packet), batch (many packets
    /// in each), gso (superframes, cut and merged here), tunnel (superframes leave whole where the kernel
    /// can) [default: tunnel, or batch with --zero-checksum]
    #[arg(long, value_name = "LEVEL", value_parser = Offload::from_str)]
    offload: Option<Offload>,
    /// Threads, each with a queue of every --tap and a socket of every --local; those of --tap-fd and
    /// --socket-fd are served by the first one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64), allow_negative_numbers = true)]
    threads: u8,
    /// UDP source ports of each address family, over which the flows to a node are spread; the first is that
    /// of --local [default: 1, or 4 with several threads]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64), allow_negative_numbers = true)]
    source_ports: Option<u8>,
    /// Send outer UDP checksums of zero, and take them over IPv6; excludes --offload gso and tunnel
    #[arg(long)]
    zero_checksum: bool,
    /// TTL or hop limit of the outer packets
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..), allow_negative_numbers = true)]
    ttl: u8,
    /// DSCP of the outer packets; their ECN field is that of the inner ones
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..64), allow_negative_numbers = true)]
    dscp: u8,
    /// Become this user when all is set up; the group is the user's own unless told
    #[arg(long, value_name = "NAME|UID[:GROUP]")]
    user: Option<User>,
    /// Print what this kernel offers, what will be used, and what each missing step costs
    #[arg(long, exclusive = true)]
    probe: bool,
}

/// Source ports where there are several threads, so that several of a peer's receive.
const SPREAD: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Learn {
    /// Learn, and take packets from the remotes alone
    Known,
    /// Learn, and take packets from any address; it becomes a remote that is not flooded to
    Any,
    /// Learn nothing: flood everything to the remotes
    Off,
}

/// An address and perhaps a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Endpoint {
    addr: IpAddr,
    port: Option<u16>,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        if let Ok(both) = text.parse::<SocketAddr>() {
            if both.port() == 0 {
                return Err("port 0 is no port to receive on".into());
            }
            return Ok(Endpoint { addr: both.ip().to_canonical(), port: Some(both.port()) });
        }
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        let addr: IpAddr = bare.parse().map_err(|_| "write IP, IPv4:PORT or [IPv6]:PORT".to_string())?;
        Ok(Endpoint { addr: addr.to_canonical(), port: None })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Remote {
    endpoint: Endpoint,
    mac: Option<MacAddr>,
}

impl FromStr for Remote {
    type Err = String;

    fn from_str(text: &str) -> Result<Remote, String> {
        let (endpoint, mac) = match text.split_once('=') {
            Some((endpoint, mac)) => (endpoint, Some(station(mac)?)),
            None => (text, None),
        };
        Ok(Remote { endpoint: endpoint.parse()?, mac })
    }
}

fn station(text: &str) -> Result<MacAddr, String> {
    let mac: MacAddr = text.parse().map_err(|e| format!("{e}"))?;
    if mac.is_unicast() { Ok(mac) } else { Err(format!("{mac} cannot be the address of one station")) }
}

/// Splits what follows the last `@` off.
fn of_vni(text: &str) -> Result<(&str, Option<Vni>), String> {
    match text.rsplit_once('@') {
        Some((rest, vni)) => Ok((rest, Some(vni.parse().map_err(|e| format!("{e}"))?))),
        None => Ok((text, None)),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Route {
    prefix: IpPrefix,
    via: IpAddr,
    vni: Option<Vni>,
}

impl FromStr for Route {
    type Err = String;

    fn from_str(text: &str) -> Result<Route, String> {
        let (text, vni) = of_vni(text)?;
        let (prefix, via) = text.split_once('=').ok_or("write PREFIX=IP, as 10.2.0.0/24=192.0.2.2")?;
        let prefix = prefix.parse().map_err(|e| format!("{prefix}: {e}"))?;
        let via: IpAddr = via.parse().map_err(|_| format!("{via} is not an IP address"))?;
        Ok(Route { prefix, via: via.to_canonical(), vni })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Address {
    addr: IpAddr,
    len: u8,
    vni: Option<Vni>,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let (text, vni) = of_vni(text)?;
        let (addr, len) = text.split_once('/').ok_or("write IP/LEN, as 10.1.0.1/24")?;
        let addr: IpAddr = addr.parse().map_err(|_| format!("{addr} is not an IP address"))?;
        let len: u8 = len.parse().map_err(|_| format!("{len} is not a prefix length"))?;
        if len > if addr.is_ipv4() { 32 } else { 128 } {
            return Err(format!("a prefix of {addr} is not longer than the address"));
        }
        Ok(Address { addr, len, vni })
    }
}

/// Where a device comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Device {
    Named(String),
    Open(RawFd),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Named(name) => write!(f, "--tap {name}"),
            Device::Open(fd) => write!(f, "--tap-fd {fd}"),
        }
    }
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hop {
    Device,
    Remote(IpAddr),
}

/// A device with what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) device: Device,
    pub(crate) vni: Vni,
    pub(crate) addresses: Vec<(IpAddr, u8)>,
}

/// A VNI; routed if it has routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) vni: Vni,
    pub(crate) routes: Vec<(IpPrefix, Hop)>,
}

/// What is to be set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) locals: Vec<SocketAddr>,
    /// With the router MAC address of each.
    pub(crate) remotes: Vec<(SocketAddr, MacAddr)>,
    pub(crate) mtu: Option<u16>,
    pub(crate) learn: Learn,
    pub(crate) ageing: u32,
    pub(crate) macs: u32,
    pub(crate) gateways: Vec<IpAddr>,
    pub(crate) router_mac: MacAddr,
    pub(crate) socket_fds: Vec<RawFd>,
    pub(crate) offload: Offload,
    pub(crate) threads: usize,
    pub(crate) source_ports: usize,
    pub(crate) zero_checksum: bool,
    pub(crate) ttl: u8,
    pub(crate) dscp: u8,
    pub(crate) user: Option<User>,
}

/// What the program is to do.
#[derive(Debug)]
pub(crate) enum Task {
    Probe,
    Run(Plan),
}

/// What the arguments, the program's name first, ask for.
pub(crate) fn task(args: impl IntoIterator<Item = OsString>) -> Result<Task, clap::Error> {
    let args = Args::try_parse_from(args)?;
    if args.probe {
        return Ok(Task::Probe);
    }
    let plan = check(args).map_err(|why| Args::command().error(ErrorKind::ValueValidation, why))?;
    Ok(Task::Run(plan))
}

/// The first one that was there before.
fn repeated<T: PartialEq>(given: &[T]) -> Option<&T> {
    given
        .iter()
        .enumerate()
        .find(|(n, one)| given.iter().take(*n).any(|other| other == *one))
        .map(|(_, one)| one)
}

fn check(args: Args) -> Result<Plan, String> {
    // A pattern is a new device each time.
    let names: Vec<&String> = args.tap.iter().filter(|name| !name.contains('%')).collect();
    let twice = repeated(&names).map(|name| format!("--tap {name}"));
    let twice = twice.or(repeated(&args.tap_fd).map(|fd| format!("--tap-fd {fd}")));
    if let Some(option) = twice.or(repeated(&args.socket_fd).map(|fd| format!("--socket-fd {fd}"))) {
        return Err(format!("{option}: given twice"));
    }
    let devices: Vec<Device> =
        args.tap.into_iter().map(Device::Named).chain(args.tap_fd.into_iter().map(Device::Open)).collect();
    if devices.is_empty() {
        return Err("no device: give --tap NAME or --tap-fd N".into());
    }
    if args.vni.len() != 1 && args.vni.len() != devices.len() {
        let (vnis, devices) = (args.vni.len(), devices.len());
        return Err(format!("{vnis} VNIs for {devices} devices: give one --vni, or one for each device"));
    }

    let locals: Vec<SocketAddr> = args.local.iter().map(|l| socket(*l, vxlan::PORT)).collect();
    let both = locals
        .iter()
        .map(|l| ("local", l.ip()))
        .chain(args.remote.iter().map(|r| ("remote", r.endpoint.addr)));
    for (option, addr) in both {
        if matches!(addr, IpAddr::V6(a) if a.is_unicast_link_local()) {
            return Err(format!(
                "--{option} {addr}: a link-local address; give a global or unique local one"
            ));
        }
    }
    for (n, local) in locals.iter().enumerate() {
        if !is_host(local.ip()) {
            return Err(format!("--local {}: not the address of one interface", local.ip()));
        }
        if locals.iter().take(n).any(|l| l.is_ipv4() == local.is_ipv4()) {
            return Err(format!("--local {}: a second one of its address family", local.ip()));
        }
    }
    let mut remotes: Vec<(SocketAddr, MacAddr)> = Vec::new();
    for remote in &args.remote {
        let addr = remote.endpoint.addr;
        let Some(local) = locals.iter().find(|l| l.is_ipv4() == addr.is_ipv4()) else {
            return Err(format!("--remote {addr}: there is no --local of its address family"));
        };
        if !is_host(addr) || locals.iter().any(|l| l.ip() == addr) {
            return Err(format!("--remote {addr}: not the address of another node"));
        }
        if remotes.iter().any(|(r, _)| r.ip() == addr) {
            return Err(format!("--remote {addr}: given twice"));
        }
        remotes.push((socket(remote.endpoint, local.port()), remote.mac.unwrap_or(router_mac_of(addr))));
    }
    if remotes.is_empty() && args.learn != Learn::Any {
        return Err("no --remote, and packets from others are not taken (--learn any)".into());
    }

    let mut segments: Vec<Segment> = Vec::new();
    let mut attachments: Vec<Attachment> = Vec::new();
    for (n, device) in devices.into_iter().enumerate() {
        let Some(vni) = args.vni.get(n).or(args.vni.first()).copied() else { continue };
        if !segments.iter().any(|s| s.vni == vni) {
            segments.push(Segment { vni, routes: Vec::new() });
        }
        attachments.push(Attachment { device, vni, addresses: Vec::new() });
    }
    let only = segments.first().map(|s| s.vni).filter(|_| segments.len() == 1);
    let vni_of = |option: &str, told: Option<Vni>| {
        told.or(only).ok_or_else(|| format!("{option}: of which VNI? Write ...@VNI"))
    };
    for route in &args.route {
        let option = format!("--route {}={}", route.prefix, route.via);
        let vni = vni_of(&option, route.vni)?;
        let hop = if locals.iter().any(|l| l.ip() == route.via) {
            Hop::Device
        } else if remotes.iter().any(|(r, _)| r.ip() == route.via) {
            Hop::Remote(route.via)
        } else {
            return Err(format!("{option}: {} is neither a --remote nor a --local address", route.via));
        };
        let segment = segments.iter_mut().find(|s| s.vni == vni);
        let segment = segment.ok_or_else(|| format!("{option}: no device is in VNI {vni}"))?;
        if segment.routes.iter().any(|(p, _)| *p == route.prefix) {
            return Err(format!("{option}: the prefix is given twice"));
        }
        segment.routes.push((route.prefix, hop));
    }
    for segment in segments.iter().filter(|s| !s.routes.is_empty()) {
        if attachments.iter().filter(|a| a.vni == segment.vni).count() > 1 {
            return Err(format!("VNI {} is routed and has several devices; give it one", segment.vni));
        }
    }
    for address in &args.address {
        let option = format!("--address {}/{}", address.addr, address.len);
        let vni = vni_of(&option, address.vni)?;
        let mut there = attachments.iter_mut().filter(|a| a.vni == vni);
        let attachment = there.next().ok_or_else(|| format!("{option}: no device is in VNI {vni}"))?;
        if there.next().is_some() {
            return Err(format!("{option}: VNI {vni} has several devices"));
        }
        if attachment.addresses.iter().any(|(addr, _)| *addr == address.addr) {
            return Err(format!("{option}: the address is given twice"));
        }
        attachment.addresses.push((address.addr, address.len));
    }
    if segments.iter().all(|s| s.routes.is_empty()) {
        let lost = args.gateway.first().map(|g| format!("--gateway {g}"));
        if let Some(option) = lost.or(args.router_mac.map(|m| format!("--router-mac {m}"))) {
            return Err(format!("{option}: no VNI is routed; give a --route"));
        }
    }
    for (n, gateway) in args.gateway.iter().enumerate() {
        if !is_host(*gateway) {
            return Err(format!("--gateway {gateway}: not the address of one interface"));
        }
        if args.gateway.iter().take(n).any(|g| g.is_ipv4() == gateway.is_ipv4()) {
            return Err(format!("--gateway {gateway}: a second one of its address family"));
        }
    }
    if let Some(mac) = args.router_mac.filter(|m| !m.is_unicast()) {
        return Err(format!("--router-mac {mac}: not the address of one station"));
    }
    let offload = match (args.offload, args.zero_checksum) {
        (Some(offload @ (Offload::Gso | Offload::Tunnel)), true) => {
            return Err(format!(
                "--offload {offload}: the kernel cuts no datagrams without a checksum; leave --zero-checksum out"
            ));
        }
        (told, zero) => told.unwrap_or(if zero { Offload::Batch } else { Offload::Tunnel }),
    };
    let own = locals.first().map_or(MacAddr::ZERO, |l| router_mac_of(l.ip()));
    Ok(Plan {
        attachments,
        segments,
        locals,
        remotes,
        mtu: args.mtu,
        learn: args.learn,
        ageing: args.ageing,
        macs: args.macs,
        gateways: args.gateway,
        router_mac: args.router_mac.unwrap_or(own),
        socket_fds: args.socket_fd,
        offload,
        threads: usize::from(args.threads),
        source_ports: args.source_ports.map_or(if args.threads > 1 { SPREAD } else { 1 }, usize::from),
        zero_checksum: args.zero_checksum,
        ttl: args.ttl,
        dscp: args.dscp,
        user: args.user,
    })
}

fn socket(endpoint: Endpoint, port: u16) -> SocketAddr {
    SocketAddr::new(endpoint.addr, endpoint.port.unwrap_or(port))
}

fn is_host(addr: IpAddr) -> bool {
    let broadcast = matches!(addr, IpAddr::V4(a) if a.is_broadcast());
    !(broadcast || addr.is_unspecified() || addr.is_multicast())
}

/// The router MAC address that a node has where it is not told: locally administered, the same on
/// every node that works it out, and different for different IPv4 addresses.
pub(crate) fn router_mac_of(addr: IpAddr) -> MacAddr {
    match addr {
        IpAddr::V4(a) => {
            let [a, b, c, d] = a.octets();
            MacAddr([0x0e, 0x6f, a, b, c, d])
        }
        IpAddr::V6(a) => {
            let hash = a.octets().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
                (hash ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3)
            });
            MacAddr::from_u64(0x0e << 40 | hash >> 24)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Plan, String> {
        let args = std::iter::once("vtep").chain(text.split_whitespace()).map(OsString::from);
        let task = task(args).map_err(|e| {
            assert!(!e.use_stderr() || e.exit_code() == 2, "{e}");
            e.to_string()
        })?;
        match task {
            Task::Run(plan) => Ok(plan),
            Task::Probe => Err("a probe".into()),
        }
    }

    const BASE: &str = "--tap t0 --local 192.0.2.1 --vni 42 --remote 192.0.2.2";

    #[test]
    fn the_help_is_whole() {
        Args::command().debug_assert();
        let help = parse("--help").unwrap_err();
        for option in ["--tap", "--local", "--vni", "--remote", "--mtu", "--learn", "--route", "SIGUSR1"] {
            assert!(help.contains(option), "{option}");
        }
    }

    #[test]
    fn the_plain_case() {
        let plan = parse(BASE).unwrap();
        let vni = Vni::truncate(42);
        assert_eq!(
            plan.attachments,
            [Attachment { device: Device::Named("t0".into()), vni, addresses: vec![] }]
        );
        assert_eq!(plan.segments, [Segment { vni, routes: vec![] }]);
        assert_eq!(plan.locals, ["192.0.2.1:4789".parse().unwrap()]);
        let mac = MacAddr([0x0e, 0x6f, 192, 0, 2, 2]);
        assert_eq!(plan.remotes, [("192.0.2.2:4789".parse().unwrap(), mac)]);
        assert_eq!((plan.mtu, plan.learn, plan.ageing, plan.macs), (None, Learn::Known, 300, 16_384));
        assert_eq!(plan.router_mac, MacAddr([0x0e, 0x6f, 192, 0, 2, 1]));
        assert_eq!((plan.socket_fds.len(), plan.zero_checksum, plan.user), (0, false, None));
        assert_eq!((plan.offload, plan.threads, plan.ttl, plan.dscp), (Offload::Tunnel, 1, 64, 0));
        assert_eq!(parse(&format!("{BASE} --threads 8")).unwrap().threads, 8);
    }

    #[test]
    fn source_ports() {
        for (text, want) in [
            ("", Ok(1)),
            ("--threads 2", Ok(4)),
            ("--source-ports 64", Ok(64)),
            ("--threads 2 --source-ports 1", Ok(1)),
            ("--source-ports 0", Err("0 is not in 1..=64")),
            ("--source-ports 65", Err("65 is not in 1..=64")),
        ] {
            match (parse(&format!("{BASE} {text}")), want) {
                (Ok(plan), Ok(ports)) => assert_eq!(plan.source_ports, ports, "{text}"),
                (Err(text), Err(why)) => assert!(text.contains(why), "{text}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }

    #[test]
    fn what_it_starts_with_and_as_whom() {
        let plan =
            parse(&format!("{BASE} --socket-fd 5 --socket-fd 6 --zero-checksum --user 12:34")).unwrap();
        assert_eq!((plan.socket_fds, plan.zero_checksum), (vec![5, 6], true));
        assert_eq!(plan.user, Some(User { uid: 12, gid: 34 }));
    }

    #[test]
    fn how_much_is_left_to_the_kernel() {
        for offload in Offload::ALL {
            assert_eq!(parse(&format!("{BASE} --offload {offload}")).unwrap().offload, offload);
        }
        for (text, want) in [
            ("--zero-checksum", Offload::Batch),
            ("--zero-checksum --offload none", Offload::None),
            ("--zero-checksum --offload batch", Offload::Batch),
        ] {
            assert_eq!(parse(&format!("{BASE} {text}")).unwrap().offload, want, "{text}");
        }
    }

    #[test]
    fn a_probe_needs_nothing_else() {
        assert_eq!(parse("--probe"), Err("a probe".into()));
    }

    #[test]
    fn endpoints() {
        let cases = [
            ("192.0.2.1", Some(("192.0.2.1", None))),
            ("192.0.2.1:8472", Some(("192.0.2.1", Some(8472)))),
            ("2001:db8::1", Some(("2001:db8::1", None))),
            ("[2001:db8::1]", Some(("2001:db8::1", None))),
            ("[2001:db8::1]:8472", Some(("2001:db8::1", Some(8472)))),
            ("::ffff:192.0.2.1", Some(("192.0.2.1", None))),
            ("192.0.2.1:0", None),
            ("192.0.2.1:65536", None),
            ("[192.0.2.1", None),
            ("host", None),
            ("", None),
        ];
        for (text, want) in cases {
            let want = want.map(|(addr, port)| Endpoint { addr: addr.parse().unwrap(), port });
            assert_eq!(text.parse().ok(), want, "{text}");
        }
    }

    #[test]
    fn the_port_of_a_remote_is_that_of_the_local_one_of_its_family() {
        let text = "--tap t0 --vni 1 --local 192.0.2.1:8472 --local [2001:db8::1]:4790 \
             --remote 192.0.2.2 --remote [2001:db8::2]:9=02:00:00:00:00:02 --remote 2001:db8::3";
        let plan = parse(text).unwrap();
        let remotes: Vec<String> = plan.remotes.iter().map(|(r, _)| r.to_string()).collect();
        assert_eq!(remotes, ["192.0.2.2:8472", "[2001:db8::2]:9", "[2001:db8::3]:4790"]);
        assert_eq!(plan.remotes[1].1, MacAddr([2, 0, 0, 0, 0, 2]));
        assert_eq!(plan.remotes[2].1.0[0], 0x0e);
        assert_ne!(plan.remotes[2].1, router_mac_of("2001:db8::2".parse().unwrap()));
    }

    #[test]
    fn several_devices_and_vnis() {
        let plan = parse(&format!("{BASE} --tap t1 --tap-fd 7 --vni 43 --vni 42")).unwrap();
        let vnis: Vec<u32> = plan.attachments.iter().map(|a| a.vni.get()).collect();
        assert_eq!((vnis, plan.segments.len()), (vec![42, 43, 42], 2));
        assert_eq!(plan.attachments[2].device, Device::Open(7));
        let plan = parse(&format!("{BASE} --tap t1")).unwrap();
        assert_eq!((plan.attachments.len(), plan.segments.len()), (2, 1));
        let plan = parse(&format!("{BASE} --tap t%d --tap t%d")).unwrap();
        assert_eq!(plan.attachments.len(), 3, "a pattern names no device twice");
    }

    #[test]
    fn routes() {
        let plan = parse(&format!(
            "{BASE} --route 10.2.0.0/24=192.0.2.2 --route fd02::/64=192.0.2.2@42 --route 10.1.0.0/24=192.0.2.1 \
             --address 10.1.0.1/24"
        ))
        .unwrap();
        let remote = Hop::Remote("192.0.2.2".parse().unwrap());
        let want = [("10.2.0.0/24", remote), ("fd02::/64", remote), ("10.1.0.0/24", Hop::Device)];
        assert_eq!(plan.segments[0].routes, want.map(|(p, hop)| (p.parse().unwrap(), hop)));
        assert_eq!(plan.attachments[0].addresses, [("10.1.0.1".parse().unwrap(), 24)]);
    }

    #[test]
    fn what_is_refused_says_why() {
        let cases = [
            ("", "--local"),
            ("--local 192.0.2.1 --vni 1 --remote 192.0.2.2", "no device"),
            ("--tap t0 --local 192.0.2.1 --vni 1", "no --remote"),
            ("--tap t0 --local 192.0.2.1 --vni 16777216 --remote 192.0.2.2", "VNI 16777216 exceeds 24 bits"),
            ("--tap t0 --local 0.0.0.0 --vni 1 --remote 192.0.2.2", "not the address of one interface"),
            ("--tap t0 --local 192.0.2.1 --vni 1 --remote 192.0.2.1", "not the address of another node"),
            ("--tap t0 --local 192.0.2.1 --vni 1 --remote 2001:db8::2", "no --local of its address family"),
            ("--tap t0 --local 192.0.2.1 --vni 1 --remote nonsense", "write IP, IPv4:PORT or [IPv6]:PORT"),
            ("+--local 192.0.2.3", "a second one of its address family"),
            ("+--remote 192.0.2.2:9", "given twice"),
            ("+--tap t1 --tap t0", "--tap t0: given twice"),
            ("+--tap-fd 7 --tap-fd 6 --tap-fd 7", "--tap-fd 7: given twice"),
            ("+--socket-fd 7 --socket-fd 7", "--socket-fd 7: given twice"),
            ("+--remote 192.0.2.3=ff:ff:ff:ff:ff:ff", "cannot be the address of one station"),
            ("+--vni 43", "2 VNIs for 1 devices"),
            ("+--mtu 100", "256"),
            ("+--macs 0", "1.."),
            ("+--threads 0", "1.."),
            ("+--threads 65", "1.."),
            ("+--learn sometimes", "known"),
            ("+--route 10.2.0.0/24", "write PREFIX=IP"),
            ("+--route 10.2.0.1/24=192.0.2.2", "bits set behind the prefix length"),
            ("+--route 10.2.0.0/24=192.0.2.9", "neither a --remote nor a --local"),
            ("+--route 10.2.0.0/24=192.0.2.2@7", "no device is in VNI 7"),
            ("+--route 10.2.0.0/24=192.0.2.2 --route 10.2.0.0/24=192.0.2.1", "given twice"),
            ("+--tap t1 --vni 7 --route 10.2.0.0/24=192.0.2.2", "of which VNI?"),
            ("+--tap t1 --route 10.2.0.0/24=192.0.2.2", "several devices"),
            ("+--address 10.1.0.1", "write IP/LEN"),
            ("+--address 10.1.0.1/24@7", "--address 10.1.0.1/24: no device is in VNI 7"),
            ("+--tap t1 --address 10.1.0.1/24", "--address 10.1.0.1/24: VNI 42 has several devices"),
            (
                "+--address 10.1.0.1/24 --address fd01::1/64 --address 10.1.0.1/16",
                "--address 10.1.0.1/16: the address is given twice",
            ),
            ("+--address 10.1.0.1/33", "not longer than the address"),
            (
                "+--route 10.2.0.0/24=192.0.2.2 --gateway 10.1.0.1 --gateway 10.1.0.2",
                "a second one of its address family",
            ),
            ("+--offload most", "none, batch, gso or tunnel"),
            (
                "+--zero-checksum --offload gso",
                "--offload gso: the kernel cuts no datagrams without a checksum",
            ),
            ("+--zero-checksum --offload tunnel", "--offload tunnel: the kernel cuts no datagrams"),
            ("+--user no-such-user", "there is no user \"no-such-user\""),
            ("+--probe", "cannot be used with one or more of the other specified arguments"),
            ("+--gateway 10.1.0.1", "no VNI is routed"),
            (
                "+--route 10.2.0.0/24=192.0.2.2 --gateway 0.0.0.0",
                "--gateway 0.0.0.0: not the address of one interface",
            ),
            ("+--route 10.2.0.0/24=192.0.2.2 --gateway ff02::1", "--gateway ff02::1: not the address"),
            (
                "+--route 10.2.0.0/24=192.0.2.2 --gateway 255.255.255.255",
                "--gateway 255.255.255.255: not the address",
            ),
            ("+--vni -1", "invalid value '-1' for '--vni <N>'"),
            ("+--tap-fd -1", "invalid value '-1' for '--tap-fd <N>': -1 is not in 0.."),
            ("+--socket-fd -1", "invalid value '-1' for '--socket-fd <N>': -1 is not in 0.."),
            ("+--mtu -1", "invalid value '-1' for '--mtu <OCTETS>': -1 is not in 256.."),
            ("+--router-mac 02:00:00:00:00:01", "no VNI is routed"),
            (
                "--tap t0 --local fe80::1 --vni 1 --remote 2001:db8::2",
                "--local fe80::1: a link-local address",
            ),
            (
                "--tap t0 --local 2001:db8::1 --vni 1 --remote fe80::2",
                "--remote fe80::2: a link-local address",
            ),
            (
                "+--route 10.2.0.0/24=192.0.2.2 --router-mac 01:00:00:00:00:00",
                "not the address of one station",
            ),
        ];
        for (text, want) in cases {
            let text = text.replace('+', &format!("{BASE} "));
            let error = parse(&text).expect_err(&text);
            assert!(error.contains(want), "{text}: {error}");
        }
        assert!(parse("--tap t0 --local 192.0.2.1 --vni 1 --learn any").is_ok());
    }
}
