//! What `examples/vtep` may do while it runs, and that it runs with nothing.

use std::fs;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use overlane::linux::{Privileges, Tap, Underlay, UnderlayConfig};
use overlane_testkit::NetNs;

use crate::node::*;
use crate::tap;
use crate::vtep::{Process, program};

fn status(process: &Process) -> String {
    fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap()
}

fn field<'a>(status: &'a str, name: &str) -> Vec<&'a str> {
    let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).split_whitespace().collect()
}

fn has_nothing(status: &str) {
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(status, set), ["0000000000000000"], "{set}");
    }
    assert_eq!(field(status, "NoNewPrivs"), ["1"]);
}

/// Whether users and groups other than root exist where the tests run.
fn other_users() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().nth(2).and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n > 65_534)
}

pub fn dropped() {
    let ([one, two], _switch) = hosts();
    let start = |host: &NetNs, n: usize, more: &str| {
        let other = 3 - n;
        let arguments = format!(
            "--tap ol0 --vni 42 --local 10.99.0.{n} --remote 10.99.0.{other} --address 10.42.0.{n}/24 {more}"
        );
        Process::start(host, &arguments).ready()
    };
    let a = start(&one, 1, "");
    let b = start(&two, 2, if other_users() { "--user 65534:65533" } else { "" });
    has_nothing(&status(&a));
    let b_status = status(&b);
    has_nothing(&b_status);
    if other_users() {
        assert_eq!(field(&b_status, "Uid"), ["65534"; 4]);
        assert_eq!(field(&b_status, "Gid"), ["65533"; 4]);
        assert_eq!(field(&b_status, "Groups"), [""; 0]);
        assert_eq!(field(&b_status, "CapBnd"), ["0000000000000000"]);
    }
    everything_passes(&[(&one, ip("10.42.0.1")), (&two, ip("10.42.0.2"))], 1 << 20);
    a.end("TERM");
    b.end("TERM");
}

/// Devices and sockets come from outside; the program starts without a single right.
pub fn none_to_begin_with() {
    let ([one, two], _switch) = hosts();
    let mut nodes = Vec::new();
    for (host, n) in [(&one, 1), (&two, 2)] {
        let (tap, socket) = host.run(|| {
            let mut tap = Tap::create("mine").unwrap();
            tap.set_mtu(1450).unwrap();
            tap.set_up().unwrap();
            (tap, Underlay::bind((host4(n), 4789).into(), &UnderlayConfig::default()).unwrap())
        });
        host.rtnl().unwrap().add_address("mine", ip(&format!("10.42.0.{n}")), 24).unwrap();
        let other = 3 - n;
        let arguments =
            format!("--tap-fd 0 --socket-fd 1 --vni 42 --local 10.99.0.{n} --remote 10.99.0.{other}");
        let mut command = Command::new(program());
        command.args(arguments.split_whitespace());
        command.stdin(OwnedFd::from(tap)).stdout(OwnedFd::from(socket));
        let node = Process::spawn_on(host, command, || Privileges::default().give_up().unwrap());
        nodes.push(node.ready());
    }
    nodes.iter().for_each(|node| has_nothing(&status(node)));
    everything_passes(&[(&one, ip("10.42.0.1")), (&two, ip("10.42.0.2"))], 1 << 20);
}

/// A device that outlives the program and belongs to the user needs no rights where it is as it must be.
pub fn prepared_device() {
    let ([one, two], _switch) = hosts();
    let mut r = one.rtnl().unwrap();
    one.run(|| tap::persistent("mine"));
    let start = |more: &str| {
        let mut command = Command::new(program());
        command.args("--tap mine --vni 42 --local 10.99.0.1 --remote 10.99.0.2".split(' '));
        command.args(more.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::piped());
        Process::spawn_on(&one, command, || Privileges::default().give_up().unwrap())
    };
    let refused = |what: &str, more: &str| {
        let why = "EPERM; CAP_NET_ADMIN is needed over this network namespace";
        (Some(1), format!("vtep: cannot {what} mine: {why}{more}\n"))
    };
    assert_eq!(start("").fail(), refused("set the MTU of", " (it has 1500, and 1450 fits)"));
    r.set_mtu("mine", 1450).unwrap();
    assert_eq!(start("").fail(), refused("bring up", ""));
    r.set_up("mine").unwrap();
    assert_eq!(start("--address 10.42.0.1/24").fail(), refused("add address 10.42.0.1/24 on", ""));
    r.add_address("mine", ip("10.42.0.1"), 24).unwrap();
    // Not once, but each time that it is started.
    for _ in 0..2 {
        let a = start("--address 10.42.0.1/24").ready();
        has_nothing(&status(&a));
        let b = "--tap ol0 --vni 42 --local 10.99.0.2 --remote 10.99.0.1 --address 10.42.0.2/24";
        let b = Process::start(&two, b).ready();
        everything_passes(&[(&one, ip("10.42.0.1")), (&two, ip("10.42.0.2"))], 1 << 20);
        a.end("TERM");
        b.end("TERM");
        assert_eq!(r.device("mine").unwrap().mtu, 1450);
    }
}

/// With rights and without any, the probe ends well and looks at everything that it can.
pub fn probe() {
    let host = NetNs::new("host").unwrap();
    let run = |before: fn()| {
        let output = host.run(|| {
            before();
            Command::new(program()).arg("--probe").output().unwrap()
        });
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = run(|| {});
    assert!(text.starts_with("Linux "), "{text}");
    assert!(text.contains("\nused: "), "{text}");
    assert!(!text.contains("CAP_NET_ADMIN"), "{text}");
    assert!(host.rtnl().unwrap().devices().unwrap().iter().all(|d| d == "lo"), "nothing is left");
    let text = run(|| Privileges::default().give_up().unwrap());
    assert!(text.contains("not looked at: EPERM, CAP_NET_ADMIN is needed"), "{text}");
    assert!(text.contains("\n-       SO_REUSEPORT     yes"), "{text}");
}
