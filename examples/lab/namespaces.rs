//! The lab on the machine's own kernel: three nodes and their pods, each in a network namespace.
//!
//! ```text
//!   pod a          pod b          pod c
//!    TAP            TAP            veth
//!  overlane       overlane     bridge + vxlan       (the nodes)
//!    veth           veth           veth
//!     \______________|______________/
//!                 bridge                            (the underlay, captured)
//! ```

use std::error::Error;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use overlane::addr::{MacAddr, Vni};
use overlane::engine::{Capacity, Command, Engine, EngineConfig, Heap};
use overlane::linux::{Driver, Tap, Underlay, UnderlayConfig};
use overlane::table::Seed;
use overlane::table::port::PortConfig;
use overlane::table::vni::VniConfig;
use overlane::table::vtep::VtepConfig;
use overlane_testkit::capture::{Capture, Captured, Limits};
use overlane_testkit::netns::Need;
use overlane_testkit::probe::{self, Ping};
use overlane_testkit::rtnl::Vxlan;
use overlane_testkit::{NetNs, Skip, ethtool, netns, pcapng};

use crate::report::{FdbLine, Node, Pair, Report};
use crate::say;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const VNI: Vni = Vni::truncate(42);
const PORT: u16 = 4789;
/// 1500 less what VXLAN over IPv4 adds: Ethernet 14, VXLAN 8, UDP 8, IPv4 20.
const POD_MTU: u32 = 1450;
/// Octets kept of each packet: all headers, and the start of what they carry.
const SNAP_LEN: usize = 256;
const NAMES: [&str; 3] = ["a", "b", "c"];
/// The node whose VTEP is the kernel's.
const KERNEL: usize = 2;

fn underlay(node: usize) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, 1 + node as u8).into()
}

fn pod(node: usize) -> IpAddr {
    Ipv4Addr::new(10, 42, 0, 1 + node as u8).into()
}

/// Whether this machine lets the lab run, called before any thread is started; where not, why.
pub fn enter() -> std::result::Result<(), Skip> {
    netns::isolate()?;
    netns::available(&[Need::Veth, Need::Bridge, Need::Vxlan, Need::Tap])
}

/// A running overlane node.
struct Overlane {
    stop: UnixStream,
    thread: JoinHandle<std::result::Result<Engine<Heap>, String>>,
}

/// Builds the lab, measures every pair, and takes all down. Gives what the underlay carried, too.
pub fn run(octets: u64) -> Result<(Report, Captured)> {
    say(&format!("three nodes on one underlay, VNI {VNI}, UDP port {PORT}"));
    let wire = NetNs::new("underlay")?;
    let mut rtnl = wire.rtnl()?;
    rtnl.add_bridge("br0")?;
    rtnl.set_promiscuous("br0", true)?;
    rtnl.set_up("br0")?;

    let nodes: Vec<NetNs> =
        NAMES.iter().map(|n| NetNs::new(&format!("node-{n}"))).collect::<std::io::Result<_>>()?;
    let pods: Vec<NetNs> =
        NAMES.iter().map(|n| NetNs::new(&format!("pod-{n}"))).collect::<std::io::Result<_>>()?;
    for (i, node) in nodes.iter().enumerate() {
        let port = format!("to-{}", NAMES[i]);
        rtnl.add_veth(&port, "eth0", Some(node))?;
        rtnl.set_bridge(&port, "br0")?;
        rtnl.set_up(&port)?;
        let mut at_node = node.rtnl()?;
        // A veth would carry 64 KiB packets with unfinished checksums; a network between nodes does not.
        for features in [ethtool::TX_SEGMENTATION, ethtool::TX_CHECKSUM] {
            ethtool::set_features(node, "eth0", features, false)?;
        }
        at_node.add_address("eth0", underlay(i), 24)?;
        at_node.set_up("eth0")?;
    }
    let capture = Capture::start(&wire, "br0", Limits { snap_len: SNAP_LEN, frames: 200_000 })?;

    // Every VTEP listens before the first pod speaks.
    let listen = |i: usize| {
        let local = SocketAddr::new(underlay(i), PORT);
        nodes[i].run(|| Underlay::bind(local, &UnderlayConfig::default()))
    };
    let sockets = [listen(0)?, listen(1)?];
    kernel_node(&nodes[KERNEL], &pods[KERNEL])?;
    let mut running = Vec::new();
    for (i, socket) in sockets.into_iter().enumerate() {
        running.push(overlane_node(i, socket, &nodes[i], &pods[i])?);
        let (name, at, pod) = (NAMES[i], underlay(i), pod(i));
        say(&format!("  node {name}: overlane in user space, underlay {at}, pod {pod} on a TAP"));
    }
    let (at, pod_c) = (underlay(KERNEL), pod(KERNEL));
    say(&format!("  node c: kernel vxlan, underlay {at}, pod {pod_c} behind a bridge"));

    let mut pairs = Vec::new();
    for from in 0..3 {
        for to in (0..3).filter(|to| *to != from) {
            pairs.push(measure(&pods, from, to, octets)?);
        }
    }

    let mut reported = Vec::new();
    for (i, node) in running.into_iter().enumerate() {
        // The TAP goes with its node.
        let mut row = row(i, "overlane: TAP and UDP", &pods[i])?;
        row.read(&node.finish()?);
        reported.push(row);
    }
    reported.push(kernel_row(&nodes[KERNEL], &pods[KERNEL])?);
    let report = Report {
        place: "in network namespaces".into(),
        measured: "TCP payload by the real clock, every octet compared".into(),
        vni: VNI,
        nodes: reported,
        pairs,
        ..Report::default()
    };
    Ok((report, capture.stop()))
}

/// Writes the capture, and says what it holds.
pub fn write(captured: &Captured, out: impl Write) -> Result<String> {
    let mut file = pcapng::Writer::new(out)?;
    let interface = file.interface("br0", SNAP_LEN as u32)?;
    for frame in &captured.frames {
        file.frame(interface, frame)?;
    }
    file.finish()?;
    let kept = captured.frames.len();
    let what = format!("{kept} packets of the underlay, {SNAP_LEN} octets of each");
    Ok(match captured.not_kept {
        0 => what,
        n => format!("{what}\n  ({n} later ones were not kept)"),
    })
}

fn row(node: usize, data_plane: &str, pod_ns: &NetNs) -> Result<Node> {
    Ok(Node {
        name: NAMES[node].into(),
        data_plane: data_plane.into(),
        underlay: underlay(node),
        pod: pod(node),
        mac: MacAddr(pod_ns.rtnl()?.device("eth0")?.mac),
        fdb: Vec::new(),
        counters: Vec::new(),
        drops: Vec::new(),
    })
}

/// A node in user space: the TAP is the pod's own device, the socket the node's.
fn overlane_node(i: usize, socket: Underlay, node: &NetNs, pod_ns: &NetNs) -> Result<Overlane> {
    let tap = pod_ns.run(|| -> std::result::Result<Tap, overlane::linux::Error> {
        let mut tap = Tap::create("eth0")?;
        tap.set_mtu(POD_MTU as u16)?;
        tap.set_up()?;
        Ok(tap)
    })?;
    pod_ns.rtnl()?.add_address("eth0", pod(i), 24)?;

    let mut seed = [0; 16];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut seed)?;
    let config = EngineConfig::new(underlay(i), Seed::new(seed));
    let mut driver = Driver::new(Engine::with_capacity(config, &Capacity::default())?)?;
    let vni = VNI;
    driver.apply(&Command::AddVni { vni, config: VniConfig::default() })?;
    for other in (0..3).filter(|other| *other != i) {
        let remote = VtepConfig { mtu: 1500, ..VtepConfig::new(underlay(other), PORT) };
        let vtep = driver.apply(&Command::AddVtep(remote))?.vtep().ok_or("no VTEP id")?;
        driver.apply(&Command::AddFlood { vni, vtep })?;
    }
    let port = driver.apply(&Command::AddPort(PortConfig::new(vni)))?.port().ok_or("no port id")?;
    driver.add_tap(port, tap)?;
    driver.add_socket(socket)?;

    let (stop, stopped) = UnixStream::pair()?;
    let thread = node.spawn(move || {
        driver.run(stopped.as_fd()).map_err(|e| e.to_string())?;
        Ok(driver.into_engine())
    });
    Ok(Overlane { stop, thread })
}

impl Overlane {
    /// Ends the node and gives its engine back, to look into.
    fn finish(mut self) -> Result<Engine<Heap>> {
        self.stop.write_all(&[0])?;
        Ok(self.thread.join().map_err(|_| "a node panicked")??)
    }
}

/// A node as the kernel builds it: a vxlan device and the pod's veth in a bridge.
fn kernel_node(node: &NetNs, pod_ns: &NetNs) -> Result<()> {
    let mut rtnl = node.rtnl()?;
    rtnl.add_bridge("br0")?;
    let vxlan = Vxlan { vni: VNI.get(), local: Some(underlay(KERNEL)), port: PORT, ..Vxlan::default() };
    rtnl.add_vxlan("vx0", &vxlan)?;
    for other in (0..3).filter(|other| *other != KERNEL) {
        rtnl.fdb_append("vx0", [0; 6], underlay(other))?;
    }
    rtnl.add_veth("pod0", "eth0", Some(pod_ns))?;
    for port in ["vx0", "pod0"] {
        rtnl.set_mtu(port, POD_MTU)?;
        rtnl.set_bridge(port, "br0")?;
        rtnl.set_up(port)?;
    }
    rtnl.set_mtu("br0", POD_MTU)?;
    rtnl.set_up("br0")?;
    let mut at_pod = pod_ns.rtnl()?;
    at_pod.set_mtu("eth0", POD_MTU)?;
    at_pod.add_address("eth0", pod(KERNEL), 24)?;
    at_pod.set_up("eth0")?;
    Ok(())
}

fn kernel_row(node: &NetNs, pod_ns: &NetNs) -> Result<Node> {
    let mut rtnl = node.rtnl()?;
    let mut row = row(KERNEL, "kernel vxlan", pod_ns)?;
    for entry in rtnl.fdb("vx0")? {
        // The bridge's entries and the flood list are not what the device learned.
        if let (Some(dst), false) = (entry.dst, entry.mac == [0; 6]) {
            row.fdb.push(FdbLine { mac: MacAddr(entry.mac), at: dst.to_string(), how: "learned".into() });
        }
    }
    row.fdb.sort_by_key(|line| line.mac);
    let stats = rtnl.device("vx0")?.stats;
    row.counters = vec![("tx_packets".into(), stats.tx_packets), ("rx_packets".into(), stats.rx_packets)];
    let drops = [("rx_dropped", stats.rx_dropped), ("tx_dropped", stats.tx_dropped)];
    row.drops = drops.iter().filter(|d| d.1 > 0).map(|(name, n)| ((*name).into(), *n)).collect();
    Ok(row)
}

fn measure(pods: &[NetNs], from: usize, to: usize, octets: u64) -> Result<Pair> {
    let (a, b) = (NAMES[from], NAMES[to]);
    let stats = probe::ping(
        &pods[from],
        pod(to),
        &Ping { count: 10, timeout: Duration::from_secs(2), ..Ping::default() },
    )?;
    let neighbor = pods[from].run(|| arp_entry(pod(to)));
    match neighbor {
        Some(mac) => say(&format!("pod {a} resolved pod {b}: {mac}")),
        None => say(&format!("pod {a} did not resolve pod {b}")),
    }
    let median =
        stats.median().map_or(String::new(), |t| format!(", median {:.3} ms", t.as_secs_f64() * 1e3));
    say(&format!("pod {a} pinged pod {b}: {} of {} answered{median}", stats.received, stats.sent));
    let tcp = probe::tcp_transfer(&pods[to], &pods[from], pod(to), octets, Duration::from_secs(20));
    match &tcp {
        Ok(_) => say(&format!("pod {a} sent pod {b} {octets} octets over TCP: they arrived")),
        Err(e) => say(&format!("pod {a} sent pod {b} {octets} octets over TCP: {e}")),
    }
    Ok(Pair {
        from,
        to,
        neighbor,
        pings: stats.sent.into(),
        answered: stats.received.into(),
        octets,
        whole: tcp.is_ok(),
        took: tcp.map_or(Duration::ZERO, |t| t.elapsed),
    })
}

/// What the calling thread's namespace knows of a neighbour (proc(5), `/proc/net/arp`).
fn arp_entry(addr: IpAddr) -> Option<MacAddr> {
    let table = fs::read_to_string("/proc/thread-self/net/arp").ok()?;
    let line = table.lines().find(|l| l.split_whitespace().next() == Some(&addr.to_string()))?;
    line.split_whitespace().nth(3)?.parse().ok().filter(|mac| *mac != MacAddr::ZERO)
}
