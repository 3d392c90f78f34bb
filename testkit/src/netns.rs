//! Network namespaces as values.

use core::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getegid, geteuid};

use crate::rtnl::{Rtnl, Vxlan};
use crate::skip::Skip;

/// What a test or a lab must have, beside network namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Pairs of Ethernet devices.
    Veth,
    /// The kernel's bridge.
    Bridge,
    /// The kernel's VXLAN device.
    Vxlan,
    /// TAP devices: `/dev/net/tun` open to this user.
    Tap,
}

/// Leaves the machine's network: the calling thread, and what it starts from now on, gets an empty
/// network namespace, in which it may do everything.
///
/// Where that is not allowed (ordinary users), a user namespace is entered too, with the user as its
/// root; the kernel demands that the process has one thread then, so call this first in `main`.
pub fn isolate() -> Result<(), Skip> {
    match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => return loopback_up(),
        Err(Errno::EPERM) => {}
        Err(e) => return Err(Skip::new(format!("cannot make a network namespace: {}", e.desc()))),
    }
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).map_err(|e| {
        Skip::new(match e {
            Errno::EPERM => {
                "user namespaces are refused (kernel.unprivileged_userns_clone, AppArmor or a container)"
                    .into()
            }
            Errno::ENOSPC => "no user namespace left (user.max_user_namespaces)".into(),
            Errno::EINVAL => {
                "the process has several threads already, or the kernel has no user namespaces".to_string()
            }
            e => format!("cannot make a user namespace: {}", e.desc()),
        })
    })?;
    let write = |path: &str, text: String| {
        fs::write(path, text).map_err(|e| {
            Skip::new(format!(
                "cannot write {path} of the new user namespace: {e}; run as root, or allow user namespaces"
            ))
        })
    };
    write("/proc/self/setgroups", "deny".into())?;
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    loopback_up()
}

fn loopback_up() -> Result<(), Skip> {
    // Some distributions allow the user namespace and then nothing in it.
    Rtnl::open()
        .and_then(|mut r| r.set_up("lo"))
        .map_err(|e| Skip::new(format!("no rights in the new network namespace: {e}")))
}

/// Whether the machine has what is needed; which thing is missing if not. Call after [`isolate`].
pub fn available(needs: &[Need]) -> Result<(), Skip> {
    let ns = NetNs::new("probe").map_err(|e| Skip::new(format!("cannot make a network namespace: {e}")))?;
    let mut rtnl = ns.rtnl().map_err(|e| Skip::new(e.to_string()))?;
    for need in needs {
        match need {
            Need::Veth => rtnl.add_veth("p0", "p1", None).map_err(|e| Skip::new(format!("no veth: {e}"))),
            Need::Bridge => rtnl.add_bridge("pb").map_err(|e| Skip::new(format!("no bridge: {e}"))),
            Need::Vxlan => rtnl
                .add_vxlan("px", &Vxlan { vni: 1, ..Vxlan::default() })
                .map_err(|e| Skip::new(format!("no kernel vxlan: {e}"))),
            Need::Tap => match File::options().read(true).write(true).open("/dev/net/tun") {
                Ok(_) => Ok(()),
                Err(e) => Err(Skip::new(format!("cannot open /dev/net/tun: {}", with_help(&e)))),
            },
        }?;
    }
    Ok(())
}

fn errno_name(e: &io::Error) -> String {
    e.raw_os_error().map_or_else(|| e.to_string(), |n| format!("{:?}", Errno::from_raw(n)))
}

fn with_help(e: &io::Error) -> String {
    let help = match e.kind() {
        io::ErrorKind::PermissionDenied => "; run as root, or give the user access to the device",
        io::ErrorKind::NotFound => "; load the tun module, or make the node: mknod /dev/net/tun c 10 200",
        _ => "",
    };
    errno_name(e) + help
}

/// A network namespace. It lives as long as a clone of this value, or a socket or thread in it, and
/// takes its devices with it when it goes.
#[derive(Clone)]
pub struct NetNs {
    name: Arc<str>,
    file: Arc<File>,
}

impl NetNs {
    /// Makes an empty one with loopback up. The name is for messages and thread names only.
    pub fn new(name: &str) -> io::Result<NetNs> {
        let file = thread::Builder::new()
            .name(format!("make {name}"))
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET)?;
                // No waiting for duplicate address detection. /proc may be read-only: it is then waited for.
                let _ = fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
                let _ = fs::write("/proc/sys/net/ipv6/conf/all/accept_dad", "0");
                File::open("/proc/thread-self/ns/net")
            })?
            .join()
            .map_err(|_| io::Error::other("the thread that makes the namespace panicked"))??;
        let ns = NetNs { name: name.into(), file: Arc::new(file) };
        ns.rtnl().and_then(|mut r| r.set_up("lo")).map_err(io::Error::other)?;
        Ok(ns)
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `f` on a thread inside; a panic goes on here. Sockets that it makes, and processes that
    /// it starts, stay in the namespace.
    pub fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        let done = thread::scope(|scope| {
            thread::Builder::new()
                .name(self.name.to_string())
                .spawn_scoped(scope, || {
                    self.enter();
                    f()
                })
                .expect("a thread can be started")
                .join()
        });
        match done {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs `f` on a thread inside and lets it go on.
    pub fn spawn<R: Send + 'static>(&self, f: impl FnOnce() -> R + Send + 'static) -> thread::JoinHandle<R> {
        let ns = self.clone();
        thread::Builder::new()
            .name(self.name.to_string())
            .spawn(move || {
                ns.enter();
                drop(ns);
                f()
            })
            .expect("a thread can be started")
    }

    /// A handle for devices, addresses and FDBs of this namespace, usable from any thread.
    pub fn rtnl(&self) -> Result<Rtnl, crate::rtnl::Error> {
        self.run(Rtnl::open)
    }

    /// Sets a sysctl of the namespace, as `net.ipv4.ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> io::Result<()> {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        self.run(|| fs::write(path, value))
    }

    /// Counters of the namespace's IP stack, as `Udp RcvbufErrors` and `Udp6 RcvbufErrors`; 0 for one
    /// that the kernel does not have.
    pub fn counter(&self, protocol: &str, name: &str) -> io::Result<u64> {
        let read = |file: &str| self.run(|| fs::read_to_string(format!("/proc/thread-self/net/{file}")));
        // A line of names and a line of numbers for each protocol; one of both for IPv6.
        let (v4, v6) = (read("snmp")?, read("snmp6").unwrap_or_default());
        let mut lines = v4.lines().filter_map(|l| l.strip_prefix(protocol)?.strip_prefix(": "));
        if let (Some(names), Some(numbers)) = (lines.next(), lines.next()) {
            let mut pairs = names.split(' ').zip(numbers.split(' '));
            return Ok(pairs.find(|(n, _)| *n == name).and_then(|(_, v)| v.parse().ok()).unwrap_or(0));
        }
        let wanted = format!("{protocol}{name}");
        let mut pairs = v6.lines().filter_map(|l| l.split_once(char::is_whitespace));
        Ok(pairs.find(|(n, _)| *n == wanted).and_then(|(_, v)| v.trim().parse().ok()).unwrap_or(0))
    }

    /// Moves the calling thread, which is one of ours.
    fn enter(&self) {
        setns(self.as_fd(), CloneFlags::CLONE_NEWNET).expect("a namespace that we made can be entered");
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl fmt::Debug for NetNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetNs({})", self.name)
    }
}
