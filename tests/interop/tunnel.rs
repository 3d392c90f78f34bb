//! Tunnel segmentation offload: superframes that leave whole, to the kernel's vxlan and to another
//! node, and what is left when it ends.

use std::time::Duration;

use overlane::linux::{Offload, Probe};
use overlane_testkit::NetNs;
use overlane_testkit::capture::{Capture, Limits};
use overlane_testkit::ethtool::set_features;
use overlane_testkit::probe::tcp_transfer;
use overlane_testkit::rtnl::{Packets, Vxlan};
use overlane_testkit::transfer::Datagrams;

use crate::node::*;
use crate::vtep::{Process, gone};

const BYTES: u64 = 16 << 20;

/// What a device must say that it cuts.
const TUNNELLED: &[&str] =
    &["tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation", "tx-tcp-segmentation"];

/// Whether this kernel has it at all; a case that needs it ends else.
fn offered(case: &str, host: &NetNs) -> bool {
    let probe = host.run(Probe::run);
    if probe.best(true) == Offload::Tunnel {
        return true;
    }
    // Not the fault of the machine's namespaces: never a failure.
    eprintln!("skipped: {case}: this kernel has no tunnel segmentation offload");
    false
}

fn start(host: &NetNs, n: usize, v6: bool, more: &str) -> Process {
    let (local, remote) = match v6 {
        false => (host4(n), host4(3 - n)),
        true => (host6(n), host6(3 - n)),
    };
    let arguments = format!(
        "--tap ol0 --vni 42 --local {local} --remote {remote} --address 10.42.0.{n}/24 --address fd42::{n}/64 {more}"
    );
    Process::start(host, &arguments).ready()
}

/// Whole superframes that a node sent and that the kernel refused, by its report. That the kernel was not
/// asked for the way of each is checked here.
fn whole(report: &str) -> (u64, u64) {
    let line = report.lines().find_map(|l| l.strip_prefix("whole superframes: "));
    let line = line.unwrap_or_else(|| panic!("no tunnel: {report}"));
    let number = |what: &str| {
        let part = line
            .split([',', ';'])
            .map(str::trim)
            .find(|p| p.ends_with(what))
            .unwrap_or_else(|| panic!("{line}"));
        part.split(' ').next().unwrap().parse().unwrap()
    };
    let (sent, asked) = (number(" sent"), number(" look-ups of ways"));
    assert!(asked > 0 && (sent < 200 || asked < sent / 4), "{line}");
    (sent, number(" refused"))
}

fn uplinks(host: &NetNs) -> Vec<String> {
    let devices = host.rtnl().unwrap().devices().unwrap();
    devices.into_iter().filter(|name| name.starts_with("oluplink")).collect()
}

fn transfers(one: &NetNs, two: &NetNs) {
    for (a, b) in [("10.42.0.1", "10.42.0.2"), ("fd42::1", "fd42::2")] {
        everything_passes(&[(one, ip(a)), (two, ip(b))], BYTES);
    }
}

fn between_nodes(case: &str, v6: bool, cut_by_kernel: bool) {
    let ([one, two], switch) = hosts();
    if !offered(case, &one) {
        return;
    }
    if cut_by_kernel {
        // The switch carries them on by devices that take none.
        for port in ["p0", "p1"] {
            set_features(&switch, port, TUNNELLED, false).unwrap();
        }
    }
    let (a, b) = (start(&one, 1, v6, ""), start(&two, 2, v6, "--offload tunnel"));
    assert!(a.greeting().contains("vtep: offload tunnel: u0 by oluplink0\n"), "{}", a.greeting());
    transfers(&one, &two);
    for node in [a, b] {
        let report = node.end("TERM");
        let (sent, refused) = whole(&report);
        // 64 MiB in frames of at most 64 KiB.
        assert!(sent > 500 && refused == 0, "{report}");
    }
    for host in [&one, &two] {
        gone(host, "oluplink0");
    }
}

pub fn between_nodes_over_ipv4() {
    between_nodes("tunnel_offload_over_ipv4", false, false);
}

pub fn between_nodes_over_ipv6() {
    between_nodes("tunnel_offload_over_ipv6", true, false);
}

pub fn cut_by_the_kernel_over_ipv4() {
    between_nodes("tunnel_offload_cut_by_the_kernel_over_ipv4", false, true);
}

pub fn cut_by_the_kernel_over_ipv6() {
    between_nodes("tunnel_offload_cut_by_the_kernel_over_ipv6", true, true);
}

/// What leaves whole has the same outer headers as what a socket sends.
pub fn ttl_and_dscp() {
    for v6 in [false, true] {
        let ([one, two], _switch) = hosts();
        if !offered("tunnel_offload_ttl_and_dscp", &one) {
            return;
        }
        let (a, b) = (start(&one, 1, v6, "--ttl 33 --dscp 46"), start(&two, 2, v6, "--ttl 255 --dscp 63"));
        let capture = Capture::start(&one, "u0", Limits { snap_len: 64, frames: 100_000 }).unwrap();
        transfers(&one, &two);
        let seen = capture.stop();
        for (outgoing, want) in [(true, (33, 46)), (false, (255, 63))] {
            let (mut whole, mut others) = (0, 0);
            for frame in seen.frames.iter().filter(|f| f.outgoing == outgoing) {
                let Some(found) = outer_ttl_and_dscp(&frame.data, v6) else { continue };
                assert_eq!(found, want, "outgoing {outgoing}, IPv6 {v6}");
                *if frame.wire_len > 1514 { &mut whole } else { &mut others } += 1;
            }
            assert!(whole > 100 && others > 100, "{whole} {others}");
        }
        for node in [a, b] {
            assert!(whole(&node.end("TERM")).0 > 100);
        }
    }
}

/// Threads send by several sockets to one VTEP, each flow by its own. The ways of their ports are looked up now and
/// then, not in turns.
pub fn several_flows() {
    let ([one, two], _switch) = hosts();
    if !offered("tunnel_offload_of_several_flows", &one) {
        return;
    }
    let (a, b) = (start(&one, 1, false, "--threads 2"), start(&two, 2, false, "--threads 2"));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            let transfer = || tcp_transfer(&two, &one, ip("10.42.0.2"), BYTES, TIMEOUT).unwrap();
            scope.spawn(move || assert_eq!(transfer().bytes, BYTES));
        }
    });
    let (sent, refused) = whole(&a.end("TERM"));
    assert!(sent > 500 && refused == 0, "{sent} {refused}");
    b.end("TERM");
}

/// With nodes that use less of the kernel.
pub fn other_nodes() {
    for level in ["none", "batch", "gso"] {
        let ([one, two], _switch) = hosts();
        if !offered("tunnel_offload_with_other_nodes", &one) {
            return;
        }
        let a = start(&one, 1, false, "");
        let b = start(&two, 2, false, &format!("--offload {level}"));
        assert!(b.greeting().contains(&format!("vtep: offload {level}\n")), "{}", b.greeting());
        transfers(&one, &two);
        let report = b.end("TERM");
        assert!(report.contains(&format!("\noffload {level}\n")), "{report}");
        let (sent, refused) = whole(&a.end("TERM"));
        assert!(sent > 500 && refused == 0, "{sent} {refused}");
    }
}

fn kernel_peer(case: &str, v6: bool, udp_checksum: bool) {
    let ([one, two], _switch) = hosts();
    if !offered(case, &one) {
        return;
    }
    let (local, remote) = if v6 { (host6(2), host6(1)) } else { (host4(2), host4(1)) };
    let (local, remote) = (Some(local), Some(remote));
    let mut r = two.rtnl().unwrap();
    r.add_vxlan(
        "vx0",
        &Vxlan { vni: 42, local, remote, port: 4789, udp_checksum: Some(udp_checksum), ..Vxlan::default() },
    )
    .unwrap();
    r.set_mtu("vx0", if v6 { 1430 } else { 1450 }).unwrap();
    r.add_address("vx0", ip("10.42.0.2"), 24).unwrap();
    r.add_address("vx0", ip("fd42::2"), 64).unwrap();
    r.set_up("vx0").unwrap();
    let a = start(&one, 1, v6, "");
    transfers(&one, &two);
    let (sent, refused) = whole(&a.end("TERM"));
    assert!(sent > 500 && refused == 0, "{sent} {refused}");
}

pub fn kernel_peer_over_ipv4() {
    kernel_peer("tunnel_offload_with_a_kernel_peer_over_ipv4", false, false);
}

pub fn kernel_peer_with_checksums() {
    kernel_peer("tunnel_offload_with_a_kernel_peer_and_checksums", false, true);
}

pub fn kernel_peer_over_ipv6() {
    kernel_peer("tunnel_offload_with_a_kernel_peer_over_ipv6", true, true);
}

/// However the program ends, nothing is left; and it starts again.
pub fn comes_and_goes() {
    let ([one, two], _switch) = hosts();
    if !offered("tunnel_offload_comes_and_goes", &one) {
        return;
    }
    let b = start(&two, 2, false, "");
    for end in ["TERM", "KILL", "INT"] {
        // Nobody is at the second VTEP, but the way to it is known, by the same device.
        let a = start(&one, 1, false, "--remote 10.99.0.9");
        assert_eq!(uplinks(&one), ["oluplink0"]);
        let done = tcp_transfer(&two, &one, ip("10.42.0.2"), BYTES, TIMEOUT).unwrap();
        assert_eq!(done.bytes, BYTES);
        match end {
            "KILL" => drop(a),
            end => drop(a.end(end)),
        }
        gone(&one, "oluplink0");
        gone(&one, "ol0");
    }
    // Two at a time, of different ports.
    let first = start(&one, 1, false, "");
    let second = Process::start(
        &one,
        "--tap ol1 --vni 43 --local 10.99.0.1:4790 --remote 10.99.0.2:4790 --address 10.43.0.1/24",
    )
    .ready();
    assert_eq!(uplinks(&one), ["oluplink0", "oluplink1"]);
    drop(first);
    gone(&one, "oluplink0");
    second.end("TERM");
    gone(&one, "oluplink1");
    b.end("TERM");
}

/// What is sent behind a change of neighbours or of routes goes where it says, though the way to the
/// other node was looked up a moment before.
pub fn heeds_changes() {
    let ([one, two, router], _switch) = hosts();
    if !offered("tunnel_offload_heeds_changes", &one) {
        return;
    }
    for host in [&one, &router] {
        for (key, value) in
            [("ip_forward", "1"), ("conf.all.send_redirects", "0"), ("conf.u0.send_redirects", "0")]
        {
            host.sysctl(&format!("net.ipv4.{key}"), value).unwrap();
        }
    }
    let (a, b) = (start(&one, 1, false, ""), start(&two, 2, false, ""));
    let (mut here, mut there) = (one.rtnl().unwrap(), two.rtnl().unwrap());
    // The addresses of Ethernet that superframes are sent to.
    let sent_to = || {
        let capture = Capture::start(&one, "u0", Limits { snap_len: 64, frames: 100_000 }).unwrap();
        let done = tcp_transfer(&two, &one, ip("10.42.0.2"), BYTES, TIMEOUT).unwrap();
        assert_eq!(done.bytes, BYTES);
        let seen = capture.stop();
        assert_eq!(seen.not_kept, 0);
        let whole = seen.frames.iter().filter(|f| f.outgoing && f.wire_len > 1514);
        let mut to: Vec<[u8; 6]> = whole.map(|f| *f.data.first_chunk().unwrap()).collect();
        to.sort_unstable();
        to.dedup();
        to
    };
    let first = there.device("u0").unwrap().mac;
    assert_eq!(sent_to(), [first]);

    let second = [2, 0, 0, 0, 9, 9];
    there.set_mac("u0", second).unwrap();
    here.add_neighbour("u0", host4(2), second).unwrap();
    assert_eq!(sent_to(), [second]);

    let third = router.rtnl().unwrap().device("u0").unwrap().mac;
    here.add_route((host4(2), 32), Some(host4(3)), "u0").unwrap();
    // A neighbour that the kernel has to ask for at first.
    sent_to();
    assert_eq!(sent_to(), [third]);
    let (sent, refused) = whole(&a.end("TERM"));
    assert!(sent > 0 && refused == 0, "{sent} {refused}");
    b.end("TERM");
}

/// Whole superframes go where the rules of routing send small frames: by ports and by DSCP.
pub fn goes_by_the_rules() {
    const TABLE: u8 = 100;
    for (packets, v6) in [Packets::UdpTo(4789), Packets::UdpFrom(4789), Packets::Tos(4 << 2)]
        .map(|p| [(p, false), (p, true)])
        .concat()
    {
        let ([one, two, router], _switch) = hosts();
        if !offered("tunnel_offload_goes_by_the_rules", &one) {
            return;
        }
        for (key, value) in [
            ("ipv4.ip_forward", "1"),
            ("ipv4.conf.all.send_redirects", "0"),
            ("ipv4.conf.u0.send_redirects", "0"),
            ("ipv6.conf.all.forwarding", "1"),
        ] {
            router.sysctl(&format!("net.{key}"), value).unwrap();
        }
        one.sysctl("net.ipv6.conf.u0.accept_redirects", "0").unwrap();
        let ((to, len), by) = match v6 {
            false => ((host4(2), 32), host4(3)),
            true => ((host6(2), 128), host6(3)),
        };
        let mut here = one.rtnl().unwrap();
        here.add_route_in(TABLE, (to, len), Some(by), "u0").unwrap();
        here.add_rule(v6, packets, TABLE).unwrap();
        let (a, b) = (start(&one, 1, v6, "--dscp 4"), start(&two, 2, v6, ""));
        let transfer = || {
            let done = tcp_transfer(&two, &one, ip("10.42.0.2"), BYTES, TIMEOUT).unwrap();
            assert_eq!(done.bytes, BYTES);
        };
        // A neighbour that the kernel has to ask for at first.
        transfer();
        let capture = Capture::start(&one, "u0", Limits { snap_len: 64, frames: 100_000 }).unwrap();
        transfer();
        let seen = capture.stop();
        let want = router.rtnl().unwrap().device("u0").unwrap().mac;
        let mut whole = 0;
        for frame in seen.frames.iter().filter(|f| f.outgoing && outer_ttl_and_dscp(&f.data, v6).is_some()) {
            assert_eq!(frame.data[..6], want, "{packets:?}, {} octets", frame.wire_len);
            whole += usize::from(frame.wire_len > 1514);
        }
        assert!(whole > 100, "{packets:?}: {whole}");
        a.end("TERM");
        b.end("TERM");
    }
}

/// An address that was taken from the node is no longer sent from, though the routes to others stay. (Over IPv6 the
/// kernel's sockets send on from such a one.)
pub fn address_that_goes() {
    let ([one, two], _switch) = hosts();
    if !offered("tunnel_offload_from_an_address_that_goes", &one) {
        return;
    }
    let (local, len) = (ip("10.98.0.1"), 32);
    let mut r = one.rtnl().unwrap();
    r.add_address("lo", local, len).unwrap();
    two.rtnl().unwrap().add_route((local, len), Some(host4(1)), "u0").unwrap();
    let node = |host, n: u8, local, remote| {
        let arguments =
            format!("--tap ol0 --vni 42 --local {local} --remote {remote} --address 10.42.0.{n}/24");
        Process::start(host, &arguments).ready()
    };
    let (a, b) = (node(&one, 1, local, host4(2)), node(&two, 2, host4(2), local));
    let many =
        Datagrams { count: 400, sizes: &[1200], at_once: 40, window: u64::MAX, ..Datagrams::default() };
    let superframes = || {
        let capture = Capture::start(&one, "u0", Limits { snap_len: 64, frames: 100_000 }).unwrap();
        many.run(&two, &one, ip("10.42.0.2")).unwrap();
        capture.stop().frames.iter().filter(|f| f.outgoing && f.wire_len > 1514).count()
    };
    let done = tcp_transfer(&two, &one, ip("10.42.0.2"), BYTES, TIMEOUT).unwrap();
    assert_eq!(done.bytes, BYTES);
    assert!(superframes() > 0);
    r.delete_address("lo", local, len).unwrap();
    assert_eq!(superframes(), 0);
    a.end("TERM");
    b.end("TERM");
}

/// Sockets carry what the tunnel cannot: nothing is lost while a neighbour changes, and after an
/// uplink is taken away.
pub fn falls_back() {
    let ([one, two], _switch) = hosts();
    if !offered("tunnel_offload_falls_back", &one) {
        return;
    }
    let (a, b) = (start(&one, 1, false, ""), start(&two, 2, false, ""));
    let pass = || {
        let done = tcp_transfer(&two, &one, ip("10.42.0.2"), BYTES, TIMEOUT).unwrap();
        assert_eq!(done.bytes, BYTES);
    };
    pass();
    // The other host gets another MAC address, which only the kernel's own packets find out.
    let mut r = two.rtnl().unwrap();
    r.set_mac("u0", [2, 0, 0, 0, 9, 9]).unwrap();
    pass();
    std::thread::sleep(Duration::from_secs(3));
    pass();
    one.rtnl().unwrap().delete("oluplink0").unwrap();
    pass();
    let report = a.end("TERM");
    assert!(report.contains("; gso since: cannot write to oluplink0: "), "{report}");
    assert!(whole(&report).0 > 250, "{report}");
    b.end("TERM");
}

/// A device that went to another namespace and came back, with the index that it had, is one to which no wire leads:
/// the kernel cut that when it went. The sockets carry everything; nothing is counted as sent that was not.
pub fn device_that_comes_back() {
    let ([one, two], _switch) = hosts();
    if !offered("tunnel_offload_device_that_comes_back", &one) {
        return;
    }
    let (a, b) = (start(&one, 1, false, ""), start(&two, 2, false, ""));
    transfers(&one, &two);
    let elsewhere = NetNs::new("elsewhere").unwrap();
    let index = one.rtnl().unwrap().device("u0").unwrap().index;
    one.rtnl().unwrap().move_to("u0", &elsewhere).unwrap();
    elsewhere.rtnl().unwrap().move_to("u0", &one).unwrap();
    let mut r = one.rtnl().unwrap();
    r.add_address("u0", host4(1), 24).unwrap();
    r.set_up("u0").unwrap();
    assert_eq!(r.device("u0").unwrap().index, index, "the same one as before, to look at");
    for _ in 0..3 {
        transfers(&one, &two);
    }
    let report = a.end("TERM");
    assert!(report.contains("; gso since: cannot send by oluplink0: its device was taken away"), "{report}");
    let (sent, refused) = whole(&report);
    // 64 MiB before, in frames of at most 64 KiB; and far fewer than as many thereafter.
    assert!(sent > 500 && sent < 3000 && refused == 0, "{report}");
    b.end("TERM");
}

/// Over a device that would have the kernel cut them, superframes do not go whole: when it starts, one
/// line says so; when it changes later, the sockets take over.
pub fn devices_that_do_not_cut() {
    let ([one, two], _switch) = hosts();
    if !offered("tunnel_offload_over_devices_that_do_not_cut", &one) {
        return;
    }
    set_features(&two, "u0", TUNNELLED, false).unwrap();
    let (a, b) = (start(&one, 1, false, ""), start(&two, 2, false, ""));
    let line = "vtep: superframes do not leave whole: cannot make an uplink to u0: the device does not cut ";
    assert!(b.greeting().contains(line), "{}", b.greeting());
    assert!(b.greeting().contains("vtep: offload gso\n"), "{}", b.greeting());
    assert!(uplinks(&two).is_empty());
    transfers(&one, &two);
    set_features(&one, "u0", TUNNELLED, false).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    transfers(&one, &two);
    // TCP would repair what is lost.
    let cut = Datagrams { count: 400, sizes: &[1400], at_once: 40, window: 80, ..Datagrams::default() };
    let done: Vec<_> = (0..5).map(|_| cut.run(&two, &one, ip("10.42.0.2")).unwrap()).collect();
    assert!(done.iter().any(|d| d.received == d.sent && d.sent == 400), "{done:?}");
    let report = a.end("TERM");
    let unfit = report.lines().find(|l| l.starts_with("whole superframes: ")).unwrap();
    assert!(whole(&report).0 > 500 && !unfit.contains(" 0 unfit"), "{report}");
    b.end("TERM");
}

/// Where it cannot be, one line says so and the node runs.
pub fn says_what_it_lacks() {
    let ([one, two], _switch) = hosts();
    let a = Process::start(
        &one,
        "--tap ol0 --vni 42 --local 10.99.0.1 --learn any --address 10.42.0.1/24 --offload tunnel",
    )
    .ready();
    let line = "vtep: superframes do not leave whole: cannot make an uplink: no VTEP is reached by an Ethernet device now\n";
    assert!(a.greeting().contains(line), "{}", a.greeting());
    assert!(a.greeting().contains("vtep: offload gso\n"), "{}", a.greeting());
    let b = start(&two, 2, false, "--offload gso");
    let _ = tcp_transfer(&two, &one, ip("10.42.0.2"), 1, Duration::from_secs(1));
    let done = tcp_transfer(&one, &two, ip("10.42.0.1"), BYTES, TIMEOUT).unwrap();
    assert_eq!(done.bytes, BYTES);
    a.end("TERM");
    b.end("TERM");
}
