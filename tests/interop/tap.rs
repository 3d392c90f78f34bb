//! TAP descriptors that somebody else has attached.

use std::fs::File;
use std::io::Read;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::fs::MetadataExt;
use std::time::Instant;

use libc::{IFF_MULTI_QUEUE, IFF_NO_PI, IFF_TAP, IFF_VNET_HDR, c_int};
use overlane::addr::Vni;
use overlane::linux::{Tap, UnderlayConfig};
use overlane::table::vni::VniConfig;
use overlane::wire::vxlan::{PORT, VxlanPolicy};
use overlane_testkit::NetNs;

use crate::node::*;

/// A descriptor attached to the device with exactly these flags.
fn attach(name: &str, flags: c_int) -> File {
    let file = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
    request(&file, libc::TUNSETIFF, name, flags);
    file
}

/// Makes a device that outlives the program, for the user of this process.
pub fn persistent(name: &str) {
    let file = attach(name, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
    let user = std::fs::metadata("/proc/self").unwrap().st_uid();
    for (number, value) in [(libc::TUNSETOWNER, user), (libc::TUNSETPERSIST, 1)] {
        // SAFETY: both requests take their argument by value.
        let done = unsafe { libc::ioctl(file.as_raw_fd(), number, libc::c_ulong::from(value)) };
        assert_eq!(done, 0, "{name}: {}", std::io::Error::last_os_error());
    }
}

/// What `TUNGETIFF` says of it.
fn flags(file: &File) -> c_int {
    request(file, libc::TUNGETIFF, "", 0)
}

fn request(file: &File, number: libc::Ioctl, name: &str, flags: c_int) -> c_int {
    // SAFETY: ifreq is plain old data: all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: both requests read or write one ifreq at the pointer, a live one; the flags are a c_short
    // whatever the kernel wrote.
    let (done, flags) = unsafe {
        let done = libc::ioctl(file.as_raw_fd(), number, &raw mut request);
        (done, request.ifr_ifru.ifru_flags)
    };
    assert_eq!(done, 0, "{name}: {}", std::io::Error::last_os_error());
    c_int::from(flags)
}

/// A filter that drops everything.
static NOTHING: [libc::sock_filter; 1] =
    [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 }];

/// Gives the device that filter (`TUNATTACHFILTER`), or tells whether it is the one that it was given
/// last (`TUNGETFILTER`).
fn filter(file: &File, number: libc::Ioctl) -> bool {
    let mut program = libc::sock_fprog { len: 1, filter: NOTHING.as_ptr().cast_mut() };
    // SAFETY: the requests read or write one sock_fprog at the pointer, a live one, and read the
    // instruction behind it, which is 'static.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), number, &raw mut program) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    (program.len, program.filter.cast_const()) == (1, NOTHING.as_ptr())
}

fn take(file: &File) -> Result<Tap, String> {
    // With an MTU, nothing is asked of the namespace: the device may be in another one.
    Tap::from_fd(OwnedFd::from(file.try_clone().unwrap()), Some(1500)).map_err(|e| e.to_string())
}

const REFUSED: &str = "it was attached without IFF_NO_PI";

pub fn packet_information() {
    let ns = NetNs::new("elsewhere").unwrap();
    for (name, more) in [("plain", 0), ("header", IFF_VNET_HDR), ("queues", IFF_MULTI_QUEUE)] {
        let bad = ns.run(|| attach(name, IFF_TAP | more));
        for _ in 0..2 {
            assert_eq!(take(&bad).unwrap_err(), format!("cannot take over as a TAP {name}: {REFUSED}"));
            assert_ne!(flags(&bad) & IFF_NO_PI, 0, "a bit that lies: no filter is left behind");
        }
        drop(bad);
        let good = ns.run(|| attach(name, IFF_TAP | IFF_NO_PI | more));
        for _ in 0..2 {
            assert_eq!(take(&good).unwrap().has_virtio_header(), more == IFF_VNET_HDR);
        }
    }
    // Of two queues each tells.
    let queues = ns.run(|| [(); 2].map(|()| attach("queues", IFF_TAP | IFF_MULTI_QUEUE)));
    for queue in &queues {
        assert!(take(queue).unwrap_err().ends_with(REFUSED));
    }
}

/// A TAP without a virtio-net header, up and with this MTU.
pub fn plain(ns: &NetNs, name: &str, mtu: u32) -> File {
    let file = ns.run(|| attach(name, IFF_TAP | IFF_NO_PI));
    let mut r = ns.rtnl().unwrap();
    r.set_mtu(name, mtu).unwrap();
    r.set_up(name).unwrap();
    file
}

pub fn own_filter() {
    let ns = NetNs::new("elsewhere").unwrap();
    for (name, own) in [("with", IFF_TAP), ("without", IFF_TAP | IFF_NO_PI)] {
        let file = ns.run(|| attach(name, own));
        assert!(filter(&file, libc::TUNATTACHFILTER));
        assert_eq!(take(&file).is_ok(), own & IFF_NO_PI != 0, "{name}");
        assert!(filter(&file, libc::TUNGETFILTER), "{name}");
        assert_eq!(
            flags(&file) & IFF_NO_PI,
            own & IFF_NO_PI,
            "{name}: a filter is there, so the bit is true"
        );
    }
    // That of another queue is no less its own.
    let [first, second] = ns.run(|| {
        let first = attach("queues", IFF_TAP | IFF_MULTI_QUEUE);
        filter(&first, libc::TUNATTACHFILTER);
        [first, attach("queues", IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE)]
    });
    assert!(take(&first).is_err());
    let _ = take(&second);
    assert_eq!(flags(&first) & IFF_NO_PI, 0, "the first queue has its filter");
    assert!(filter(&first, libc::TUNGETFILTER));
}

/// A device that outlives its driver leaves nothing to whoever reads from it next.
pub fn given_back() {
    let ([one], _switch) = hosts();
    let tap = one.run(|| {
        let mut tap = Tap::create("mine").unwrap();
        tap.set_up().unwrap();
        tap
    });
    let mut r = one.rtnl().unwrap();
    r.add_address("mine", ip("10.42.0.1"), 24).unwrap();
    r.add_neighbour("mine", ip("10.42.0.2"), [2, 0, 0, 0, 0, 2]).unwrap();
    let fd = OwnedFd::from(tap);
    let mut kept = File::from(fd.try_clone().unwrap());
    let mut node = driver(&one, &[host4(1)], PORT, VxlanPolicy::default(), UnderlayConfig::default());
    let vni = Vni::truncate(42);
    add_vni(&mut node, vni, VniConfig::default());
    let port = add_tap(&mut node, vni, one.run(|| Tap::from_fd(fd, None).unwrap()));
    assert!(node.tap(port).unwrap().offloads().checksum);
    drop(node.into_engine());

    one.run(|| UdpSocket::bind("10.42.0.1:0").unwrap().send_to(b"whole", "10.42.0.2:9").unwrap());
    let (mut room, end) = ([0; 2000], Instant::now() + TIMEOUT);
    loop {
        assert!(Instant::now() < end);
        match kept.read(&mut room) {
            // Behind the virtio-net header and the Ethernet header, past what the kernel sends of its own accord.
            Ok(len) if room[10..16] == [2, 0, 0, 0, 0, 2] && room[..len].ends_with(b"whole") => break,
            Ok(_) => {}
            Err(_) => std::thread::sleep(TIMEOUT / 10_000),
        }
    }
    assert_eq!(room[..10], [0; 10], "nothing is left to be done");
}
