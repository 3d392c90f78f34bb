//! Two pods, each behind a node of its own:
//!
//! ```text
//! pod1 eth0 --veth-- p0 br0 ol0 host1 u0 --veth-- u0 host2 ol0 br0 p0 --veth-- eth0 pod2
//!                                      \- a0 relay b0 -/   (with faults)
//! ```

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use overlane_testkit::crowd::Crowd;
use overlane_testkit::ethtool::{
    RX_MERGING, TX_CHECKSUM, TX_DEVICE_SEGMENTATION, TX_SEGMENTATION, set_features,
};
use overlane_testkit::netns::Need;
use overlane_testkit::probe::answers;
use overlane_testkit::program::{self, Process, Signal};
use overlane_testkit::relay::{Faults, Relay, Side};
use overlane_testkit::rtnl::{Rtnl, Vxlan};
use overlane_testkit::suite;
use overlane_testkit::{NetNs, Skip};

pub const ALL: &[Need] = &[Need::Tap, Need::Veth, Need::Bridge, Need::Vxlan];
pub const PORT: u16 = 4789;
pub const VNI: u32 = 42;
/// For what takes no time on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One way for `vtep` to carry packets.
#[derive(Debug, Clone, Copy)]
pub struct Rung {
    pub name: &'static str,
    pub args: &'static [&'static str],
    /// What the greeting says is used.
    used: &'static str,
    /// It hands the kernel many packets as one.
    pub joins: bool,
    pub threads: u64,
}

/// All of them, each tested as all others.
pub const RUNGS: &[Rung] = &[
    Rung { name: "none", args: &["--offload", "none"], used: "none", joins: false, threads: 1 },
    Rung { name: "batch", args: &["--offload", "batch"], used: "batch", joins: false, threads: 1 },
    Rung { name: "gso", args: &["--offload", "gso"], used: "gso", joins: true, threads: 1 },
    Rung { name: "tunnel", args: &["--offload", "tunnel"], used: "tunnel", joins: true, threads: 1 },
    Rung {
        name: "gso-3",
        args: &["--offload", "gso", "--threads", "3"],
        used: "gso",
        joins: true,
        threads: 3,
    },
    Rung {
        name: "tunnel-2",
        args: &["--offload", "tunnel", "--threads", "2"],
        used: "tunnel",
        joins: true,
        threads: 2,
    },
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    Overlane,
    Kernel,
}

impl Node {
    pub fn name(self) -> &'static str {
        match self {
            Node::Overlane => "overlane",
            Node::Kernel => "kernel",
        }
    }

    fn device(self) -> &'static str {
        match self {
            Node::Overlane => "ol0",
            Node::Kernel => "vx0",
        }
    }
}

/// Who sends, who receives.
pub const PAIRINGS: &[[Node; 2]] =
    &[[Node::Overlane, Node::Overlane], [Node::Overlane, Node::Kernel], [Node::Kernel, Node::Overlane]];

/// What is between the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// A veth pair as it comes: superframes and unfinished checksums cross it whole.
    Veth,
    /// No frame above the MTU crosses it; received segments are merged (GRO).
    Cut,
    /// Nor do unfinished checksums: what a network card without any offload sends.
    Bare,
}

impl Wire {
    pub fn name(self) -> &'static str {
        match self {
            Wire::Veth => "veth",
            Wire::Cut => "wire",
            Wire::Bare => "bare",
        }
    }

    fn prepare(self, host: &NetNs) {
        let set = |features, on| set_features(host, "u0", features, on).unwrap();
        if self != Wire::Veth {
            set(TX_DEVICE_SEGMENTATION, false);
            set(RX_MERGING, true);
        }
        if self == Wire::Bare {
            set(TX_SEGMENTATION, false);
            set(TX_CHECKSUM, false);
        }
    }
}

/// Octets of the largest packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mtu {
    /// Of the pods; the underlay has room for it and the headers.
    Pod(u32),
    /// Of the underlay; the pods have less by the headers.
    Link(u32),
}

/// What a case wants to have.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub rung: Rung,
    pub nodes: [Node; 2],
    /// The underlay is IPv6.
    pub v6: bool,
    pub mtu: Mtu,
    pub wire: Wire,
    /// There is a relay between the hosts.
    pub faults: Option<Faults>,
    /// The first node has these remotes too. They are addresses of the second host.
    pub crowd: Option<Crowd>,
}

impl Plan {
    pub fn new(rung: Rung, nodes: [Node; 2]) -> Plan {
        Plan { rung, nodes, v6: false, mtu: Mtu::Link(1500), wire: Wire::Veth, faults: None, crowd: None }
    }

    /// `gso/overlane-kernel/ipv4/1500/veth`
    pub fn name(&self) -> String {
        let [from, to] = self.nodes.map(Node::name);
        let family = if self.v6 { "ipv6" } else { "ipv4" };
        let mtu = match self.mtu {
            Mtu::Pod(n) => format!("pod-{n}"),
            Mtu::Link(n) => n.to_string(),
        };
        format!("{}/{from}-{to}/{family}/{mtu}/{}", self.rung.name, self.wire.name())
    }

    /// The rung that vtep should come to use: superframes leave whole only where the device would cut
    /// them.
    pub fn used(&self) -> &'static str {
        if self.rung.used == "tunnel" && self.wire != Wire::Veth { "gso" } else { self.rung.used }
    }

    fn overhead(&self) -> u32 {
        14 + 8 + 8 + if self.v6 { 40 } else { 20 }
    }

    pub fn pod_mtu(&self) -> u32 {
        match self.mtu {
            Mtu::Pod(n) => n,
            Mtu::Link(n) => n - self.overhead(),
        }
    }

    fn link_mtu(&self) -> u32 {
        self.pod_mtu() + self.overhead()
    }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The address of a host, from 0, on the underlay; `side` is 0 without a relay.
fn underlay(v6: bool, side: usize, host: usize) -> IpAddr {
    if v6 { ip(&format!("fd99:{side}::{}", host + 1)) } else { ip(&format!("10.99.{side}.{}", host + 1)) }
}

/// The vtep to be tested.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("OVERLANE_VTEP") {
        return path.into();
    }
    program::example("vtep", env!("CARGO"), env!("CARGO_MANIFEST_DIR")).unwrap()
}

/// Starts a vtep with device `ol0` in `host` and waits until it is set up.
pub fn start_vtep(host: &NetNs, local: IpAddr, remote: IpAddr, more: &[&str]) -> Process {
    let (local, remote, vni) = (local.to_string(), remote.to_string(), VNI.to_string());
    let mut arguments = vec!["--tap", "ol0", "--vni", &vni, "--local", &local, "--remote", &remote];
    arguments.extend(more);
    let process = Process::start(host, &program(), &arguments).unwrap();
    process.wait_for_line("vtep: on ", PATIENCE).unwrap();
    process
}

/// What may be dropped of sound traffic: what a full queue does not take, and the kernels' own chatter.
const USUAL: &[&str] = &["dropped tx_queue_full", "dropped same_port", "dropped no_flood_target"];
/// What the kernel may refuse of sound traffic, and other lines with a count.
const ODD: &[&str] = &["dropped ", "kernel malformed", "kernel too big", "kernel unreachable", "kernel down"];

pub struct Host {
    pub ns: NetNs,
    pub pod: NetNs,
    pub node: Node,
    /// Its address on the underlay, and that of the other one.
    pub local: IpAddr,
    pub remote: IpAddr,
    /// `None`: the kernel does it.
    pub vtep: Option<Process>,
}

impl Host {
    pub fn rtnl(&self) -> Rtnl {
        self.ns.rtnl().unwrap()
    }

    /// What a vtep set up is gone, if not at once.
    pub fn is_clean(&self) {
        let start = Instant::now();
        loop {
            let mut r = self.rtnl();
            let mut devices = r.devices().unwrap();
            devices.sort();
            let queues = r.qdiscs("u0").unwrap();
            if devices == ["br0", "lo", "p0", "u0"] && !queues.iter().any(|q| q == "clsact" || q == "ingress")
            {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "left behind: {devices:?}, on u0 {queues:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The running vtep.
    pub fn process(&self) -> &Process {
        self.vtep.as_ref().unwrap()
    }
}

pub struct Site {
    pub plan: Plan,
    pub hosts: [Host; 2],
    pub relay: Option<Relay>,
    _between: Option<NetNs>,
}

impl Site {
    pub fn new(plan: Plan) -> Site {
        let spaces = [0, 1].map(|n| NetNs::new(&format!("host{}", n + 1)).unwrap());
        let between = plan.faults.map(|_| NetNs::new("between").unwrap());
        let mut remotes = [underlay(plan.v6, 0, 1), underlay(plan.v6, 0, 0)];
        let locals = match &between {
            None => {
                spaces[0].rtnl().unwrap().add_veth("u0", "u0", Some(&spaces[1])).unwrap();
                [remotes[1], remotes[0]]
            }
            Some(between) => {
                let mut r = between.rtnl().unwrap();
                for (side, (name, host)) in ["a0", "b0"].into_iter().zip(&spaces).enumerate() {
                    r.add_veth(name, "u0", Some(host)).unwrap();
                    r.set_mtu(name, plan.link_mtu()).unwrap();
                    remotes[side] = underlay(plan.v6, side + 1, 1);
                    r.add_address(name, remotes[side], prefix(plan.v6)).unwrap();
                    r.set_up(name).unwrap();
                }
                [0, 1].map(|side| underlay(plan.v6, side + 1, 0))
            }
        };
        for (host, local) in spaces.iter().zip(locals) {
            // Addresses are there again when the link is.
            let _ = host.sysctl("net.ipv6.conf.all.keep_addr_on_down", "1");
            let mut r = host.rtnl().unwrap();
            r.set_mtu("u0", plan.link_mtu()).unwrap();
            r.add_address("u0", local, prefix(plan.v6)).unwrap();
            r.set_up("u0").unwrap();
            plan.wire.prepare(host);
        }
        if let Some(crowd) = &plan.crowd {
            let all = (IpAddr::V4(crowd.base), 16);
            spaces[0].rtnl().unwrap().add_route(all, Some(remotes[0]), "u0").unwrap();
            spaces[1].rtnl().unwrap().add_local(all).unwrap();
        }
        let relay = between.as_ref().zip(plan.faults).map(|(between, faults)| {
            let side = |n: usize| Side {
                local: SocketAddr::new(remotes[n], PORT),
                vtep: SocketAddr::new(locals[n], PORT),
            };
            Relay::start(between, [side(0), side(1)], faults).unwrap()
        });
        let mut n = 0;
        let hosts = spaces.map(|ns| {
            let host = host(&plan, ns, n, locals[n], remotes[n]);
            n += 1;
            host
        });
        let site = Site { plan, hosts, relay, _between: between };
        for vtep in site.vteps() {
            let said = vtep.errors();
            let used = said.lines().find_map(|l| l.strip_prefix("vtep: offload ")).unwrap_or("");
            if !used.starts_with(plan.used()) {
                suite::skip(&Skip::new(format!("not offload {} here but {used}", plan.used())));
            }
        }
        site.reach();
        site
    }

    pub fn pod(&self, n: usize) -> &NetNs {
        &self.hosts[n].pod
    }

    /// The address of pod `n`, from 0.
    pub fn addr(&self, n: usize, v6: bool) -> IpAddr {
        pod_addr(n, v6)
    }

    /// Waits until the pods see each other.
    pub fn reach(&self) {
        for v6 in [false, true] {
            let seen = answers(self.pod(0), self.addr(1, v6), PATIENCE).unwrap();
            assert!(seen, "the pods do not see each other\n{}", self.reports());
        }
    }

    /// The pods know each other's MAC address for good.
    pub fn pin_neighbours(&self) {
        for n in [0, 1] {
            let mac = self.pod(1 - n).rtnl().unwrap().device("eth0").unwrap().mac;
            for v6 in [false, true] {
                self.pod(n).rtnl().unwrap().add_neighbour("eth0", self.addr(1 - n, v6), mac).unwrap();
            }
        }
    }

    pub fn vteps(&self) -> impl Iterator<Item = &Process> {
        self.hosts.iter().filter_map(|h| h.vtep.as_ref())
    }

    /// What the vteps and the relay have to say, for a message.
    pub fn reports(&self) -> String {
        let mut text = String::new();
        for host in &self.hosts {
            text += &format!("-- {} ({})\n", host.ns.name(), host.node.name());
            if let Some(vtep) = &host.vtep {
                text += &vtep.errors();
                text += &report(vtep).unwrap_or_else(|e| e.to_string());
            }
            let mut r = host.rtnl();
            for device in ["u0", host.node.device(), "p0"] {
                text += &format!("{device}: {:?}\n", r.device(device).map(|d| d.stats));
            }
            let inside = host.pod.rtnl().and_then(|mut r| r.device("eth0"));
            text += &format!("eth0 of {}: {:?}\n", host.pod.name(), inside.map(|d| d.stats));
        }
        if let Some(relay) = &self.relay {
            text += &format!("-- relay\n{:#?}\n", relay.counters());
        }
        text
    }

    /// No vtep met a frame that it could not make sense of, nor cut one short.
    pub fn nothing_odd(&self) {
        for vtep in self.vteps() {
            let report = report(vtep).unwrap();
            let odd = |l: &&str| {
                ODD.iter().any(|odd| l.starts_with(odd)) && !USUAL.iter().any(|usual| l.starts_with(usual))
            };
            let found: Vec<_> = report.lines().filter(odd).collect();
            assert!(found.is_empty(), "{found:?}\n{}", self.reports());
        }
    }

    /// Ends the vteps, which must have lived so far and said nothing but their greeting.
    pub fn finish(mut self) {
        for host in &mut self.hosts {
            let Some(vtep) = &mut host.vtep else { continue };
            let said = vtep.errors();
            assert!(vtep.running(), "it ended: {said}");
            vtep.signal(Signal::SIGTERM).unwrap();
            let (status, said) = vtep.end(PATIENCE).unwrap();
            assert_eq!(status.code(), Some(0), "{said}");
            assert!(said.lines().all(|l| l.starts_with("vtep: ")), "{said}");
            host.is_clean();
        }
    }
}

fn prefix(v6: bool) -> u8 {
    if v6 { 64 } else { 24 }
}

pub fn pod_addr(n: usize, v6: bool) -> IpAddr {
    if v6 { ip(&format!("fd42::{}", n + 1)) } else { ip(&format!("10.42.0.{}", n + 1)) }
}

fn host(plan: &Plan, ns: NetNs, n: usize, local: IpAddr, remote: IpAddr) -> Host {
    let node = plan.nodes[n];
    let pod = NetNs::new(&format!("pod{}", n + 1)).unwrap();
    let (mut outside, mut inside) = (ns.rtnl().unwrap(), pod.rtnl().unwrap());
    let vtep = match node {
        Node::Overlane => {
            let crowd = plan.crowd.filter(|_| n == 0);
            let remotes: Vec<String> =
                crowd.iter().flat_map(|c| (0..c.vteps).map(|v| c.addr(v).to_string())).collect();
            let macs = crowd.map(|c| c.macs.to_string());
            let mut more = plan.rung.args.to_vec();
            more.extend(remotes.iter().flat_map(|remote| ["--remote", remote]));
            more.extend(macs.iter().flat_map(|macs| ["--macs", macs]));
            Some(start_vtep(&ns, local, remote, &more))
        }
        Node::Kernel => {
            let (local, remote) = (Some(local), Some(remote));
            outside
                .add_vxlan("vx0", &Vxlan { vni: VNI, local, remote, port: PORT, ..Vxlan::default() })
                .unwrap();
            outside.set_mtu("vx0", plan.pod_mtu()).unwrap();
            outside.set_up("vx0").unwrap();
            None
        }
    };
    assert_eq!(outside.device(node.device()).unwrap().mtu, plan.pod_mtu());
    outside.add_bridge("br0").unwrap();
    outside.add_veth("p0", "eth0", Some(&pod)).unwrap();
    outside.set_mtu("p0", plan.pod_mtu()).unwrap();
    inside.set_mtu("eth0", plan.pod_mtu()).unwrap();
    for port in ["p0", node.device()] {
        outside.set_bridge(port, "br0").unwrap();
    }
    for v6 in [false, true] {
        inside.add_address("eth0", pod_addr(n, v6), prefix(v6)).unwrap();
    }
    outside.set_up("br0").unwrap();
    outside.set_up("p0").unwrap();
    inside.set_up("eth0").unwrap();
    Host { ns, pod, node, local, remote, vtep }
}

/// Tables and counters as SIGUSR1 has them printed.
pub fn report(vtep: &Process) -> std::io::Result<String> {
    const BEGIN: &str = "== after ";
    let from = vtep.out_len();
    let last = |text: &str| text.contains("\nkernel: ");
    vtep.signal(Signal::SIGUSR1)?;
    vtep.wait_for_output(from, PATIENCE, last)?;
    // Nothing marks its end but the beginning of the next one.
    vtep.signal(Signal::SIGUSR1)?;
    let two = |text: &str| text.match_indices(BEGIN).nth(1).is_some();
    let text = vtep.wait_for_output(from, PATIENCE, two)?;
    let end = text.match_indices(BEGIN).nth(1).map_or(text.len(), |(at, _)| at);
    Ok(text[..end].to_string())
}

/// A number of a report: what stands behind `name: ` at the beginning of a line, 0 if nothing does.
pub fn counted(report: &str, name: &str) -> u64 {
    let value = |l: &str| l.strip_prefix(name)?.strip_prefix(": ")?.trim().parse().ok();
    report.lines().find_map(value).unwrap_or(0)
}
