//! Nodes on an underlay: hosts, pods, drivers that run.

use std::io::Write;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use overlane::addr::{Destination, MacAddr, PortId, Vni, VtepId};
use overlane::engine::{Capacity, Command, Engine, EngineConfig, Heap};
use overlane::error::DropReason;
use overlane::linux::{Driver, DriverConfig, Error, Links, Offload, Tap, Underlay, UnderlayConfig, Workers};
use overlane::table::Seed;
use overlane::table::port::PortConfig;
use overlane::table::vni::VniConfig;
use overlane::table::vtep::VtepConfig;
use overlane::wire::vxlan::VxlanPolicy;
use overlane_testkit::netns::NetNs;
use overlane_testkit::probe::{Ping, answers, ping, tcp_transfer, udp_exchange};
use std::time::Duration;

pub const TIMEOUT: Duration = Duration::from_secs(60);

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The underlay address of host `n`, from 1.
pub fn host4(n: usize) -> IpAddr {
    ip(&format!("10.99.0.{n}"))
}

pub fn host6(n: usize) -> IpAddr {
    ip(&format!("fd99::{n}"))
}

/// Hosts on one switch, each with `u0` up and an address of both families: [`host4`], [`host6`]. The
/// switch goes when its value does.
pub fn hosts<const N: usize>() -> ([NetNs; N], NetNs) {
    let switch = NetNs::new("switch").unwrap();
    let mut r = switch.rtnl().unwrap();
    r.add_bridge("br0").unwrap();
    r.set_up("br0").unwrap();
    let hosts = std::array::from_fn(|i| {
        let host = NetNs::new(&format!("host{}", i + 1)).unwrap();
        let (mut inside, port) = (host.rtnl().unwrap(), format!("p{i}"));
        r.add_veth(&port, "u0", Some(&host)).unwrap();
        r.set_bridge(&port, "br0").unwrap();
        r.set_up(&port).unwrap();
        inside.add_address("u0", host4(i + 1), 24).unwrap();
        inside.add_address("u0", host6(i + 1), 64).unwrap();
        inside.set_up("u0").unwrap();
        host
    });
    (hosts, switch)
}

/// A pod whose one interface is a TAP with these addresses.
pub fn pod(name: &str, addrs: &[(IpAddr, u8)], mtu: u16) -> (NetNs, Tap) {
    let ns = NetNs::new(name).unwrap();
    let tap = ns.run(|| {
        let mut tap = Tap::create("tap0").unwrap();
        tap.set_mtu(mtu).unwrap();
        let mut links = Links::open().unwrap();
        let index = links.get("tap0").unwrap().index;
        for (addr, len) in addrs {
            links.add_address(index, *addr, *len).unwrap();
        }
        tap.set_up().unwrap();
        tap
    });
    (ns, tap)
}

/// An engine of a node with these underlay addresses.
pub fn engine(locals: &[IpAddr], port: u16, policy: VxlanPolicy) -> Engine<Heap> {
    let mut config = EngineConfig::new(locals[0], Seed::fixed(7));
    for local in locals {
        match local {
            IpAddr::V4(a) => config.local_v4 = Some(*a),
            IpAddr::V6(a) => config.local_v6 = Some(*a),
        }
    }
    (config.port, config.vxlan) = (port, policy);
    Engine::with_capacity(config, &Capacity::default()).unwrap()
}

/// A driver with a socket at each local address.
pub fn driver(
    host: &NetNs,
    locals: &[IpAddr],
    port: u16,
    policy: VxlanPolicy,
    socket: UnderlayConfig,
) -> Driver {
    // The kernel does not cut what has no outer checksum.
    let offload = if socket.zero_checksum { Offload::Batch } else { Offload::Gso };
    let mut driver = Driver::with_config(engine(locals, port, policy), &DriverConfig { offload }).unwrap();
    for local in locals {
        let bound = host.run(|| Underlay::bind((*local, port).into(), &socket).unwrap());
        driver.add_socket(bound).unwrap();
    }
    driver
}

pub fn add_vni(driver: &mut Driver, vni: Vni, config: VniConfig) {
    driver.apply(&Command::AddVni { vni, config }).unwrap();
}

pub fn add_tap(driver: &mut Driver, vni: Vni, tap: Tap) -> PortId {
    let config = PortConfig { peer_mac: Some(tap.mac()), ..PortConfig::new(vni) };
    let port = driver.apply(&Command::AddPort(config)).unwrap().port().unwrap();
    driver.add_tap(port, tap).unwrap();
    port
}

pub fn add_vtep(driver: &mut Driver, config: VtepConfig) -> VtepId {
    driver.apply(&Command::AddVtep(config)).unwrap().vtep().unwrap()
}

/// A VTEP that gets what is flooded in this VNI.
pub fn add_remote(driver: &mut Driver, vni: Vni, addr: IpAddr, port: u16) -> VtepId {
    let known = driver.engine().tables().vteps().by_addr(addr);
    let vtep = known.unwrap_or_else(|| add_vtep(driver, VtepConfig::new(addr, port)));
    driver.apply(&Command::AddFlood { vni, vtep }).unwrap();
    vtep
}

/// TTL or hop limit, and DSCP, of a UDP packet over this family, as it was on Ethernet.
pub fn outer_ttl_and_dscp(frame: &[u8], v6: bool) -> Option<(u8, u8)> {
    match frame.get(14..)? {
        [0x45, tos, _, _, _, _, _, _, ttl, 17, ..] if !v6 => Some((*ttl, tos >> 2)),
        [a, b, _, _, _, _, 17, limit, ..] if v6 && a >> 4 == 6 => Some((*limit, a << 2 & 0x3c | b >> 6)),
        _ => None,
    }
}

/// What runs until it is told to stop.
pub trait Run: Send + 'static {
    fn run(&mut self, stop: BorrowedFd<'_>) -> Result<(), Error>;
}

impl Run for Driver {
    fn run(&mut self, stop: BorrowedFd<'_>) -> Result<(), Error> {
        Driver::run(self, stop)
    }
}

impl Run for Workers {
    fn run(&mut self, stop: BorrowedFd<'_>) -> Result<(), Error> {
        Workers::run(self, stop)
    }
}

/// A driver that runs on a thread of its host, or its workers.
pub struct Running<D = Driver> {
    stop: UnixStream,
    thread: JoinHandle<(D, Result<(), Error>)>,
}

impl<D: Run> Running<D> {
    pub fn start(host: &NetNs, mut driver: D) -> Running<D> {
        let (stop, stopped) = UnixStream::pair().unwrap();
        let thread = host.spawn(move || {
            let end = driver.run(stopped.as_fd());
            if let Err(error) = &end {
                eprintln!("the driver ended: {error}");
            }
            (driver, end)
        });
        Running { stop, thread }
    }

    pub fn stop(mut self) -> D {
        self.stop.write_all(b"x").unwrap();
        let (driver, end) = self.thread.join().unwrap();
        end.unwrap();
        driver
    }

    /// Waits for the driver to end by itself.
    pub fn end(self) -> Result<(), Error> {
        self.thread.join().unwrap().1
    }
}

/// Where the node has learned that a MAC address is.
pub fn learned(driver: &Driver, vni: Vni, mac: MacAddr) -> Option<Destination> {
    driver.engine().tables().fdb().lookup(driver.now(), vni, mac)
}

/// Nothing was dropped, but for these reasons.
pub fn no_drops_but(driver: &Driver, reasons: &[DropReason]) {
    let drops: Vec<_> =
        driver.engine().counters().drops.iter().filter(|(r, _)| !reasons.contains(r)).collect();
    assert!(drops.is_empty(), "{drops:?}, {:?}", driver.counters());
}

/// Ping, a byte-exact stream of `bytes` and datagrams, from each pod to each other.
pub fn everything_passes(pods: &[(&NetNs, IpAddr)], bytes: u64) {
    for (from, _) in pods {
        for (to, addr) in pods.iter().filter(|(to, _)| to.name() != from.name()) {
            assert!(answers(from, *addr, TIMEOUT).unwrap(), "{} does not reach {addr}", from.name());
            let stats = ping(from, *addr, &Ping::default()).unwrap();
            assert!(stats.all(), "{} to {addr}: {stats:?}", from.name());
            let done = tcp_transfer(to, from, *addr, bytes, TIMEOUT);
            let done = done.unwrap_or_else(|e| panic!("TCP from {} to {addr}: {e}", from.name()));
            assert_eq!(done.bytes, bytes);
            let done = udp_exchange(to, from, *addr, 5, 1200, TIMEOUT).unwrap();
            assert_eq!((done.echoed, done.corrupt), (5, 0), "UDP from {} to {addr}: {done:?}", from.name());
        }
    }
}
