//! `examples/vtep` as a process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Instant;

use overlane::linux::Tap;
use overlane_testkit::NetNs;
use overlane_testkit::program;
use overlane_testkit::rtnl::Vxlan;

use crate::node::*;
use crate::tap;

const BYTES: u64 = 1 << 20;

/// The example of this build.
pub fn program() -> PathBuf {
    program::example("vtep", env!("CARGO"), env!("CARGO_MANIFEST_DIR")).unwrap()
}

/// A process in a namespace; it ends with its value.
pub struct Process {
    child: Child,
    errors: BufReader<ChildStderr>,
    greeting: String,
}

impl Process {
    pub fn start(host: &NetNs, arguments: &str) -> Process {
        Process::start_with(host, arguments, Stdio::null())
    }

    fn start_with(host: &NetNs, arguments: &str, stdin: Stdio) -> Process {
        let mut command = Command::new(program());
        command.args(arguments.split_whitespace());
        command.stdin(stdin).stdout(Stdio::piped());
        Process::spawn_on(host, command, || {})
    }

    /// Starts it on a thread of the host that has done `before`.
    pub fn spawn_on(host: &NetNs, mut command: Command, before: fn()) -> Process {
        command.stderr(Stdio::piped());
        let mut child = host.run(|| {
            before();
            command.spawn().unwrap()
        });
        let errors = BufReader::new(child.stderr.take().unwrap());
        Process { child, errors, greeting: String::new() }
    }

    /// Reads to the greeting's last line: all is set up.
    pub fn ready(mut self) -> Process {
        loop {
            let line = self.greeting.len();
            let read = self.errors.read_line(&mut self.greeting).unwrap();
            assert!(read > 0, "it ended: {}", self.greeting);
            if self.greeting[line..].starts_with("vtep: on ") {
                return self;
            }
        }
    }

    /// What it said up to then.
    pub fn greeting(&self) -> &str {
        &self.greeting
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
    }

    /// Asks for the tables, ends the process by `signal`, and gives what it printed.
    pub fn end(mut self, signal: &str) -> String {
        self.signal("USR1");
        let mut out = BufReader::new(self.child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.contains("\nkernel: ") {
            assert!(out.read_line(&mut text).unwrap() > 0, "{text}");
        }
        self.signal(signal);
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{text}");
        text
    }

    /// The exit code and what it said, of a process that ends by itself.
    pub fn fail(mut self) -> (Option<i32>, String) {
        let mut text = String::new();
        self.errors.read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap().code(), text)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn gone(host: &NetNs, device: &str) {
    let start = Instant::now();
    while host.rtnl().unwrap().device(device).is_ok() {
        assert!(start.elapsed() < TIMEOUT, "{device} is still there");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

pub fn bridged() {
    let ([one, two], _switch) = hosts();
    let common = "--tap ol0 --vni 42 --mtu 1400";
    let a = Process::start(
        &one,
        &format!("{common} --local 10.99.0.1 --remote 10.99.0.2 --address 10.42.0.1/24"),
    );
    let b = Process::start(
        &two,
        &format!("{common} --local 10.99.0.2:4789 --remote 10.99.0.1:4789 --address 10.42.0.2/24"),
    );
    let (a, b) = (a.ready(), b.ready());
    assert_eq!(one.rtnl().unwrap().device("ol0").unwrap().mtu, 1350);
    everything_passes(&[(&one, ip("10.42.0.1")), (&two, ip("10.42.0.2"))], BYTES);
    let mac = overlane::addr::MacAddr(two.rtnl().unwrap().device("ol0").unwrap().mac);
    let report = a.end("TERM");
    assert!(report.contains(&format!("VNI 42 {mac} at vtep 0")), "{report}");
    b.end("INT");
    gone(&one, "ol0");
    gone(&two, "ol0");
}

pub fn several_threads() {
    for level in ["none", "gso", "tunnel"] {
        let ([one, two], _switch) = hosts();
        let start = |host: &NetNs, n: usize| {
            let (local, remote) = (host4(n), host4(3 - n));
            let arguments = format!(
                "--tap ol0 --vni 42 --local {local} --remote {remote} --address 10.42.0.{n}/24 --threads 3 --offload {level}"
            );
            Process::start(host, &arguments).ready()
        };
        let (a, b) = (start(&one, 1), start(&two, 2));
        assert!(a.greeting().contains("; 3 threads\n"), "{}", a.greeting());
        everything_passes(&[(&one, ip("10.42.0.1")), (&two, ip("10.42.0.2"))], 8 * BYTES);
        for node in [a, b] {
            let report = node.end("TERM");
            assert!(report.contains("; 3 threads\n"), "{report}");
        }
    }
}

/// RFC 7348, section 5: the outer source port tells flows apart.
pub fn source_ports() {
    // One of four ports stays unused once in 25 million times.
    const FLOWS: usize = 64;
    for (arguments, want) in [("", 1), ("--source-ports 4", 4), ("--threads 2", 4)] {
        let ([one, two], _switch) = hosts();
        let peer = two.run(|| UdpSocket::bind("10.99.0.2:4789").unwrap());
        peer.set_read_timeout(Some(TIMEOUT)).unwrap();
        let node = Process::start(
            &one,
            &format!(
                "--tap ol0 --vni 42 --local 10.99.0.1 --remote 10.99.0.2 --address 10.42.0.1/24 {arguments}"
            ),
        )
        .ready();
        let pods: Vec<UdpSocket> =
            one.run(|| (0..FLOWS).map(|_| UdpSocket::bind("10.42.0.1:0").unwrap()).collect());
        for pod in pods.iter().chain(&pods) {
            pod.set_broadcast(true).unwrap();
            pod.send_to(b"flow", "10.42.0.255:9").unwrap();
        }
        // The outer source port of each flow, known by its inner one.
        let mut seen: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
        let mut datagram = [0; 2048];
        while seen.len() < FLOWS || seen.values().any(|outer| outer.len() < 2) {
            let (len, from) = peer.recv_from(&mut datagram).unwrap();
            // VXLAN, Ethernet and IPv4 headers, then UDP to the discard port; anything else is the device's own.
            if len == 8 + 14 + 20 + 8 + 4 && datagram[44..46] == [0, 9] {
                let inner = u16::from_be_bytes([datagram[42], datagram[43]]);
                seen.entry(inner).or_default().push(from.port());
            }
        }
        assert!(seen.values().all(|outer| outer[0] == outer[1]), "a flow keeps its port: {seen:?}");
        let outer: BTreeSet<u16> = seen.values().map(|outer| outer[0]).collect();
        assert_eq!(outer.len(), want, "{arguments}: {outer:?}");
        assert!(outer.contains(&4789), "{outer:?}");
        node.end("TERM");
    }
}

pub fn routed() {
    let ([one, two], _switch) = hosts();
    let routes = "--route 10.1.0.0/24=10.99.0.1 --route 10.2.0.0/24=10.99.0.2 \
                  --route fd01::/64=10.99.0.1 --route fd02::/64=10.99.0.2";
    let start = |host: &NetNs, n: usize| {
        let other = 3 - n;
        let node = Process::start(
            host,
            &format!(
                "--tap ol0 --vni 7 --local 10.99.0.{n} --remote 10.99.0.{other} {routes} \
                 --address 10.{n}.0.1/24 --address fd0{n}::1/64"
            ),
        )
        .ready();
        let mut r = host.rtnl().unwrap();
        r.add_route((ip(&format!("10.{other}.0.0")), 24), None, "ol0").unwrap();
        r.add_route((ip(&format!("fd0{other}::")), 64), None, "ol0").unwrap();
        node
    };
    let (a, b) = (start(&one, 1), start(&two, 2));
    everything_passes(&[(&one, ip("10.1.0.1")), (&two, ip("10.2.0.1"))], BYTES);
    everything_passes(&[(&one, ip("fd01::1")), (&two, ip("fd02::1"))], BYTES);
    let report = a.end("TERM");
    for line in
        ["routed by 0e:6f:0a:63:00:01", "router 0e:6f:0a:63:00:02", "route 10.2.0.0/24 leads to vtep 0"]
    {
        assert!(report.contains(line), "no {line:?} in {report}");
    }
    b.end("TERM");
}

/// The path takes less than when the nodes were started: the pods are told.
pub fn narrower_path() {
    let ([one, two], _switch) = hosts();
    let [a, b] = [(&one, 1), (&two, 2)].map(|(host, n)| {
        let other = 3 - n;
        let node = Process::start(
            host,
            &format!(
                "--tap ol0 --vni 7 --local 10.99.0.{n} --remote 10.99.0.{other} --address 10.{n}.0.1/24 \
                 --route 10.{n}.0.0/24=10.99.0.{n} --route 10.{other}.0.0/24=10.99.0.{other}"
            ),
        )
        .ready();
        host.rtnl().unwrap().add_route((ip(&format!("10.{other}.0.0")), 24), None, "ol0").unwrap();
        node
    });
    let pods = [(&one, ip("10.1.0.1")), (&two, ip("10.2.0.1"))];
    everything_passes(&pods, BYTES);
    one.rtnl().unwrap().set_mtu("u0", 1400).unwrap();
    everything_passes(&pods, BYTES);
    let report = a.end("TERM");
    assert!(report.contains("vtep 0: 10.99.0.2 port 4789, router 0e:6f:0a:63:00:02, MTU 1400"), "{report}");
    assert!(report.contains("slow path too_big"), "{report}");
    let report = b.end("TERM");
    assert!(report.contains("vtep 0: 10.99.0.1 port 4789, router 0e:6f:0a:63:00:01, MTU 1500"), "{report}");
}

/// Nobody reads what it prints: traffic goes on, and so does the end.
pub fn unread_report() {
    let ([one, two], _switch) = hosts();
    let (mut out, _unread) = UnixStream::pair().unwrap();
    out.set_nonblocking(true).unwrap();
    while out.write(&[0; 4096]).is_ok() {}
    out.set_nonblocking(false).unwrap();
    let mut command = Command::new(program());
    let arguments = "--tap ol0 --vni 42 --local 10.99.0.1 --remote 10.99.0.2 --address 10.42.0.1/24";
    command.args(arguments.split_whitespace()).stdin(Stdio::null()).stdout(OwnedFd::from(out));
    let mut a = Process::spawn_on(&one, command, || {}).ready();
    let b = Process::start(
        &two,
        "--tap ol0 --vni 42 --local 10.99.0.2 --remote 10.99.0.1 --address 10.42.0.2/24",
    )
    .ready();
    for _ in 0..2 {
        a.signal("USR1");
        everything_passes(&[(&one, ip("10.42.0.1")), (&two, ip("10.42.0.2"))], BYTES);
    }
    a.signal("TERM");
    assert_eq!(a.child.wait().unwrap().code(), Some(0));
    b.end("TERM");
}

pub fn kernel_peer() {
    let ([one, two], _switch) = hosts();
    let mut r = two.rtnl().unwrap();
    let (local, remote) = (Some(host6(2)), Some(host6(1)));
    r.add_vxlan("vx0", &Vxlan { vni: 5, local, remote, port: 8472, ..Vxlan::default() }).unwrap();
    r.add_address("vx0", ip("10.42.0.2"), 24).unwrap();
    r.set_up("vx0").unwrap();
    let node = Process::start(
        &one,
        "--tap ol0 --vni 5 --local [fd99::1]:8472 --remote fd99::2 --address 10.42.0.1/24",
    )
    .ready();
    assert_eq!(one.rtnl().unwrap().device("ol0").unwrap().mtu, 1430, "as the route has it, less 70");
    everything_passes(&[(&one, ip("10.42.0.1")), (&two, ip("10.42.0.2"))], BYTES);
    node.end("TERM");
}

pub fn open_descriptor() {
    let ([one, two], _switch) = hosts();
    let tap = one.run(|| {
        let mut tap = Tap::create("mine").unwrap();
        tap.set_mtu(1450).unwrap();
        tap.set_up().unwrap();
        tap
    });
    one.rtnl().unwrap().add_address("mine", ip("10.42.0.1"), 24).unwrap();
    let b = Process::start(
        &two,
        "--tap ol0 --vni 42 --local 10.99.0.2 --remote 10.99.0.1 --address 10.42.0.2/24",
    )
    .ready();
    // It has the address already, as a device that outlives the program does.
    let a = Process::start_with(
        &one,
        "--tap-fd 0 --vni 42 --local 10.99.0.1 --remote 10.99.0.2 --address 10.42.0.1/24",
        OwnedFd::from(tap).into(),
    )
    .ready();
    everything_passes(&[(&one, ip("10.42.0.1")), (&two, ip("10.42.0.2"))], BYTES);
    a.end("TERM");
    b.end("TERM");
    gone(&one, "mine");
}

/// What is said at the start of what will not work as it may have been meant; and to how many VTEPs.
pub fn remarks() {
    let ([one], _switch) = hosts();
    let node = |arguments: &str, tap: Option<File>| {
        let stdin = tap.map_or(Stdio::null(), |tap| OwnedFd::from(tap).into());
        Process::start_with(&one, &format!("--vni 42 {arguments}"), stdin).ready()
    };
    const NARROW: &str = "what is longer does not arrive\n";
    const COST: &str = "no virtio-net header (IFF_VNET_HDR): the kernel cuts its superframes, and each packet is \
                        a system call\n";
    let v4 = "--local 10.99.0.1 --remote 10.99.0.2";

    let plain = node(&format!("--tap-fd 0 {v4}"), Some(tap::plain(&one, "mine", 1451)));
    let want = format!("vtep: mine has an MTU of 1451, and outer packets have room for 1450: {NARROW}");
    assert!(plain.greeting().contains(&want), "{}", plain.greeting());
    assert!(plain.greeting().contains(&format!("vtep: mine has {COST}")), "{}", plain.greeting());
    drop(plain);
    gone(&one, "mine");
    let plain = node(&format!("--tap-fd 0 {v4} --offload batch"), Some(tap::plain(&one, "mine", 1450)));
    assert!(!plain.greeting().contains(NARROW) && !plain.greeting().contains(COST), "{}", plain.greeting());
    drop(plain);

    let both = "--remote 10.99.0.3 --local fd99::1 --remote fd99::2";
    let mut wide = node(&format!("--tap ol0 {v4} {both} --mtu 1501"), None);
    for remote in ["10.99.0.2", "10.99.0.3", "fd99::2"] {
        let want = format!("vtep: --mtu 1501: the route to {remote} takes 1500, {NARROW}");
        assert!(wide.greeting().contains(&want), "{}", wide.greeting());
    }
    assert!(!wide.greeting().contains("virtio"), "{}", wide.greeting());
    assert!(wide.greeting().ends_with("vtep: on 10.99.0.1:4789 to 2 VTEPs\n"), "{}", wide.greeting());
    let mut line = String::new();
    wide.errors.read_line(&mut line).unwrap();
    assert_eq!(line, "vtep: on [fd99::1]:4789 to 1 VTEPs\n");
    let report = wide.end("TERM");
    let fdb = report.lines().find(|l| l.starts_with("FDB: "));
    assert!(fdb.is_some_and(|l| l.ends_with(" places")), "{report}");
    gone(&one, "ol0");
    let fits = node(&format!("--tap ol0 {v4} --mtu 1500"), None);
    assert!(!fits.greeting().contains(NARROW), "{}", fits.greeting());
}

pub fn refusals() {
    let ([one], _switch) = hosts();
    let ok = "--tap ol0 --vni 42 --local 10.99.0.1 --remote 10.99.0.2";
    let running = Process::start(&one, ok).ready();
    for (arguments, code, why) in [
        ("--tap ol1 --vni 42", 2, "--local"),
        ("--tap ol1 --vni x --local 10.99.0.1 --remote 10.99.0.2", 2, "not a number"),
        (
            "--tap ol1 --vni 42 --local 10.99.0.9 --remote 10.99.0.2",
            1,
            "cannot bind UDP 10.99.0.9:4789: EADDRNOTAVAIL; ",
        ),
        (ok, 1, "cannot bind UDP 10.99.0.1:4789: EADDRINUSE; "),
        ("--tap ol0 --vni 42 --local [fd99::1] --remote fd99::2", 1, "cannot create TAP device ol0: EBUSY; "),
        ("--tap u0 --vni 42 --local [fd99::1] --remote fd99::2", 1, "cannot create TAP device u0: EINVAL; "),
        ("--tap a/b --vni 42 --local [fd99::1] --remote fd99::2", 1, "a device name has no slash"),
        ("--tap-fd 99 --vni 42 --local [fd99::1] --remote fd99::2", 1, "descriptor 99: EBADF"),
        ("--tap-fd 0 --vni 42 --local [fd99::1] --remote fd99::2", 1, "descriptor 0: ENOTTY; "),
        (
            "--tap ol1 --socket-fd 0 --vni 42 --local [fd99::1] --remote fd99::2",
            1,
            "cannot read the address of descriptor 0: ENOTSOCK; ",
        ),
        (
            "--tap ol1 --vni 42 --local [fd99::1] --remote fd99::2 --mtu 1200 --address fd01::1/64",
            1,
            "cannot add address fd01::1/64 on ol1: EINVAL; IPv6 needs an MTU of 1280 or more\n",
        ),
    ] {
        let (status, text) = Process::start(&one, arguments).fail();
        assert_eq!(status, Some(code), "{arguments}: {text}");
        assert!(text.contains(why), "{arguments}: {text}");
    }
    for (queues, arguments, why) in [
        (1, "--tap-fd 0 --tap-fd 1", "--tap-fd 1: its device, mine, is given twice\n"),
        (2, "--tap mine --tap-fd 0 --threads 2", "--tap-fd 0: its device, mine, is given twice\n"),
    ] {
        let taps = one.run(|| match queues {
            1 => vec![Tap::create("mine").unwrap()],
            n => Tap::create_queues("mine", n).unwrap(),
        });
        let mut fds: Vec<OwnedFd> = taps.into_iter().map(OwnedFd::from).collect();
        fds.push(fds[0].try_clone().unwrap());
        let mut command = Command::new(program());
        command.args(arguments.split_whitespace());
        command.args(["--vni", "42", "--local", "fd99::1", "--remote", "fd99::2"]);
        command.stdin(fds.swap_remove(0)).stdout(fds.pop().unwrap());
        let (status, text) = Process::spawn_on(&one, command, || {}).fail();
        assert_eq!(status, Some(1), "{arguments}: {text}");
        assert!(text.ends_with(why), "{arguments}: {text}");
    }
    // The device is taken away while it runs.
    one.rtnl().unwrap().delete("ol0").unwrap();
    let (status, text) = running.fail();
    assert_eq!(status, Some(1));
    assert!(text.ends_with("vtep: cannot read from ol0: EBADFD; the device was removed\n"), "{text}");
}

/// Of several devices one is removed, with its pod: the others go on. The last one takes the program with it.
pub fn one_device_of_several_goes() {
    for threads in [1, 2] {
        let ([one, two], _switch) = hosts();
        let a = Process::start(
            &one,
            &format!(
                "--tap ol0 --tap ol1 --vni 42 --vni 43 --local 10.99.0.1 --remote 10.99.0.2 --address 10.42.0.1/24@42 --threads {threads}"
            ),
        )
        .ready();
        let b = Process::start(
            &two,
            "--tap ol0 --vni 42 --local 10.99.0.2 --remote 10.99.0.1 --address 10.42.0.2/24",
        )
        .ready();
        let pods = [(&one, ip("10.42.0.1")), (&two, ip("10.42.0.2"))];
        everything_passes(&pods, BYTES);
        one.rtnl().unwrap().delete("ol1").unwrap();
        everything_passes(&pods, BYTES);
        one.rtnl().unwrap().delete("ol0").unwrap();
        let (status, text) = a.fail();
        assert_eq!(status, Some(1));
        let first = "vtep: cannot read from ol1: EBADFD; the device was removed; the rest goes on\n";
        let last = "vtep: cannot read from ol0: EBADFD; the device was removed\n";
        assert_eq!(text, [first, last].concat());
        b.end("TERM");
    }
}
