//! What this kernel offers, found by trying.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv4Addr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::error::Error;
use super::ladder::{Feature, Finding, Offload};
use super::netlink::{EVERY_PROTOCOL, Key, Redirect, Route};
use super::sys::{self, IntOption, errno};

/// Offloads of a TAP in growing sets (`linux/if_tun.h`): checksums and TCP over both families; UDP;
/// tunnels and their outer checksum; and a bit that no kernel knows.
const CSUM_TSO: u32 = 0x7;
const USO: u32 = 0x60;
const TUNNEL: u32 = 0x180;
const NOT_YET: u32 = 0x200;

/// What was found; see [`Probe::run`].
///
/// Displays as a table of several lines: each feature, whether it is there, and what is lost where it
/// is not; then the offload that will be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    kernel: String,
    cpus: usize,
    receive_limit: Option<u64>,
    findings: Vec<(Feature, Finding)>,
}

impl Probe {
    /// Tries every [`Feature`] in the network namespace of the calling thread. Makes a TAP device for
    /// the time that it takes, which is never up; nothing else is touched. What needs rights that this
    /// process has not is left [`Finding::Unknown`].
    pub fn run() -> Probe {
        let mut findings = Vec::new();
        let device = tap(&mut findings);
        control(&mut findings, device.as_ref());
        sockets(&mut findings);
        findings.sort_by_key(|(feature, _)| Feature::ALL.iter().position(|f| f == feature));
        let read = |path: &str| fs::read_to_string(path).ok();
        Probe {
            kernel: read("/proc/sys/kernel/osrelease").map_or("unknown".into(), |t| t.trim().to_string()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            receive_limit: read("/proc/sys/net/core/rmem_max").and_then(|t| t.trim().parse().ok()),
            findings,
        }
    }

    /// Each feature with what was found.
    pub fn findings(&self) -> impl Iterator<Item = (Feature, &Finding)> {
        self.findings.iter().map(|(feature, finding)| (*feature, finding))
    }

    /// What was found of one feature.
    pub fn find(&self, feature: Feature) -> Option<&Finding> {
        self.findings().find(|(f, _)| *f == feature).map(|(_, finding)| finding)
    }

    /// The highest rung for which nothing is missing; where something could not be looked at, as if it
    /// were there if `hope`.
    pub fn best(&self, hope: bool) -> Offload {
        let missing = self.findings().filter(|(_, finding)| match finding {
            Finding::Yes => false,
            Finding::No(_) => true,
            Finding::Unknown(_) => !hope,
        });
        let lowest = missing.filter_map(|(feature, _)| feature.rung()).min();
        let below = |rung: Offload| Offload::ALL.into_iter().rev().find(|o| *o < rung);
        lowest.map_or(Offload::Tunnel, |rung| below(rung).unwrap_or(Offload::None))
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Linux {}, {} CPUs", self.kernel, self.cpus)?;
        writeln!(f, "{:<8}{:<17}{:<6}without it", "rung", "needs", "here")?;
        for (feature, finding) in self.findings() {
            let rung = feature.rung().map_or("-", Offload::name);
            let here = match finding {
                Finding::Yes => "yes",
                Finding::No(_) => "no",
                Finding::Unknown(_) => "?",
            };
            write!(f, "{rung:<8}{feature:<17}{here:<6}{}", feature.cost())?;
            match finding {
                Finding::Yes => writeln!(f)?,
                Finding::No(why) => writeln!(f, " [{why}]")?,
                Finding::Unknown(why) => writeln!(f, " [not looked at: {why}]")?,
            }
        }
        if let Some(limit) = self.receive_limit {
            writeln!(f, "net.core.rmem_max: {limit} octets")?;
        }
        let (sure, hoped) = (self.best(false), self.best(true));
        write!(f, "used: {sure}")?;
        match sure == hoped {
            true => writeln!(f),
            false => writeln!(f, ", or up to {hoped} if what could not be looked at is there"),
        }
    }
}

fn said(error: &io::Error) -> String {
    match error.raw_os_error().map(|n| (n, sys::errno_name(n))) {
        Some((_, Some(name))) => name.to_string(),
        Some((number, None)) => format!("errno {number}"),
        None => error.to_string(),
    }
}

fn refused(error: &io::Error) -> Finding {
    match error.raw_os_error() {
        Some(errno::EPERM | errno::EACCES) => {
            Finding::Unknown(format!("{}, CAP_NET_ADMIN is needed", said(error)))
        }
        _ => Finding::No(said(error)),
    }
}

/// What a TAP can do; the device, if one could be made.
fn tap(findings: &mut Vec<(Feature, Finding)>) -> Option<(File, String)> {
    const OF_DEVICE: [Feature; 3] = [Feature::Tso, Feature::Uso, Feature::TunnelGso];
    let flags = [(Feature::VnetHeader, sys::IFF_VNET_HDR), (Feature::MultiQueue, sys::IFF_MULTI_QUEUE)];
    let file = OpenOptions::new().read(true).write(true).custom_flags(sys::O_NONBLOCK).open("/dev/net/tun");
    let file = match file {
        Ok(file) => file,
        Err(e) => {
            let finding = match e.raw_os_error() {
                Some(errno::EACCES | errno::EPERM) => Finding::Unknown(format!("/dev/net/tun: {}", said(&e))),
                _ => Finding::No(format!("/dev/net/tun: {}", said(&e))),
            };
            let features = [Feature::Tap].into_iter().chain(flags.map(|(f, _)| f)).chain(OF_DEVICE);
            findings.extend(features.map(|f| (f, finding.clone())));
            return None;
        }
    };
    // Anybody who may open the device may ask this.
    match sys::tun_features(file.as_fd()) {
        Ok(known) => findings.extend(flags.map(|(feature, flag)| {
            let there = known & u32::from(flag.cast_unsigned()) != 0;
            (feature, if there { Finding::Yes } else { Finding::No("TUNGETFEATURES".into()) })
        })),
        Err(e) => findings.extend(flags.map(|(feature, _)| (feature, refused(&e)))),
    }
    let mut name = [0; sys::NAME_SIZE];
    for (to, from) in name.iter_mut().zip(b"olprobe%d") {
        *to = *from;
    }
    let attached = sys::tun_attach(file.as_fd(), &name, sys::IFF_TAP | sys::IFF_NO_PI | sys::IFF_VNET_HDR);
    let raw = match attached {
        Ok(raw) => raw,
        Err(e) => {
            findings.extend([Feature::Tap].into_iter().chain(OF_DEVICE).map(|f| (f, refused(&e))));
            return None;
        }
    };
    findings.push((Feature::Tap, Finding::Yes));
    let try_set = |set: u32| match sys::tun_set_offload(file.as_fd(), set) {
        Ok(()) => Finding::Yes,
        Err(e) => refused(&e),
    };
    // A kernel that takes any bit says nothing by taking one.
    let deaf = try_set(CSUM_TSO | USO | TUNNEL | NOT_YET) == Finding::Yes;
    for (feature, set) in OF_DEVICE.into_iter().zip([CSUM_TSO, CSUM_TSO | USO, CSUM_TSO | USO | TUNNEL]) {
        let finding = match deaf {
            true => Finding::Unknown("this kernel accepts every offload bit".into()),
            false => try_set(set),
        };
        findings.push((feature, finding));
    }
    let end = raw.iter().position(|b| *b == 0).unwrap_or(raw.len());
    let name = String::from_utf8_lossy(raw.get(..end).unwrap_or(&raw)).to_string();
    Some((file, name))
}

/// Traffic control, tried on the probe's own device.
fn control(findings: &mut Vec<(Feature, Finding)>, device: Option<&(File, String)>) {
    let Some((_, name)) = device else {
        let why = || Finding::Unknown("it takes a device of our own to try".into());
        findings.extend([(Feature::Clsact, why()), (Feature::Redirect, why())]);
        return;
    };
    let finding = |result: Result<(), Error>| match result {
        Ok(()) => Finding::Yes,
        Err(e) => e.errno().map_or_else(
            || Finding::Unknown(e.to_string()),
            |number| refused(&io::Error::from_raw_os_error(number)),
        ),
    };
    let opened = Route::open().and_then(|mut route| Ok((route.link(name)?.index, route)));
    let (clsact, redirect) = match opened {
        Ok((index, mut route)) => {
            let clsact = finding(route.add_clsact(index).map(|_| ()));
            let keys = [Key::ANY].to_vec();
            let filter = Redirect { priority: 1, protocol: EVERY_PROTOCOL, keys, to: index };
            let redirect = match clsact {
                Finding::Yes => finding(route.add_redirect(index, &filter)),
                _ => Finding::Unknown("there is no clsact to try it on".into()),
            };
            (clsact, redirect)
        }
        Err(e) => (Finding::Unknown(e.to_string()), Finding::Unknown(e.to_string())),
    };
    findings.extend([(Feature::Clsact, clsact), (Feature::Redirect, redirect)]);
}

/// What UDP sockets can do.
fn sockets(findings: &mut Vec<(Feature, Finding)>) {
    let options = [
        (Feature::UdpSegment, IntOption::UDP_SEGMENT, 1200),
        (Feature::UdpGro, IntOption::UDP_GRO, 1),
        (Feature::ReusePort, IntOption::REUSE_PORT, 1),
        (Feature::ForceBuffers, IntOption::RECEIVE_BUFFER_FORCE, 1 << 20),
    ];
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let try_set = |fd: BorrowedFd<'_>, option, value| match sys::set_option(fd, option, value) {
        Ok(()) => Finding::Yes,
        // For the buffers that is the answer, not a want of rights to ask.
        Err(e) if option == IntOption::RECEIVE_BUFFER_FORCE => Finding::No(said(&e)),
        Err(e) => refused(&e),
    };
    for (feature, option, value) in options {
        let finding = match &socket {
            Ok(socket) => try_set(socket.as_fd(), option, value),
            Err(e) => Finding::Unknown(format!("no UDP socket: {}", said(e))),
        };
        findings.push((feature, finding));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(not: &[(Feature, Finding)]) -> Probe {
        let findings = Feature::ALL.into_iter().map(|feature| {
            let told = not.iter().find(|(f, _)| *f == feature);
            (feature, told.map_or(Finding::Yes, |(_, finding)| finding.clone()))
        });
        Probe { kernel: "6.18".into(), cpus: 2, receive_limit: Some(212_992), findings: findings.collect() }
    }

    fn no() -> Finding {
        Finding::No("EINVAL".into())
    }

    fn unknown() -> Finding {
        Finding::Unknown("EPERM".into())
    }

    #[test]
    fn the_best_rung_is_below_the_first_missing_step() {
        use Offload::*;
        for (not, sure, hoped) in [
            (&[][..], Tunnel, Tunnel),
            (&[(Feature::TunnelGso, no())], Gso, Gso),
            (&[(Feature::Clsact, unknown())], Gso, Tunnel),
            (&[(Feature::UdpGro, no())], Batch, Batch),
            (&[(Feature::UdpSegment, no()), (Feature::TunnelGso, no())], Batch, Batch),
            (&[(Feature::Tso, unknown()), (Feature::TunnelGso, no())], Batch, Gso),
            // Beside the ladder.
            (
                &[(Feature::ForceBuffers, no()), (Feature::MultiQueue, no()), (Feature::Uso, no())],
                Tunnel,
                Tunnel,
            ),
        ] {
            let probe = probe(not);
            assert_eq!((probe.best(false), probe.best(true)), (sure, hoped), "{not:?}");
        }
    }

    #[test]
    fn the_table_says_what_is_there_what_it_costs_and_what_is_used() {
        let text = probe(&[(Feature::TunnelGso, no()), (Feature::UdpGro, unknown())]).to_string();
        for line in [
            "Linux 6.18, 2 CPUs",
            "gso     UDP_SEGMENT      yes   no gso: datagrams leave one by one, about 7x less TCP",
            "gso     UDP_GRO          ?     no gso: datagrams arrive one by one, about 7x less TCP [not looked at: EPERM]",
            "-       SO_REUSEPORT     yes   one worker: one core carries everything",
            "net.core.rmem_max: 212992 octets",
            "used: batch, or up to gso if what could not be looked at is there",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(text.contains("\ntunnel  TAP tunnel GSO   no    "), "{text}");
        assert_eq!(text.lines().count(), 2 + Feature::ALL.len() + 2);
        assert!(probe(&[]).to_string().ends_with("\nused: tunnel\n"));
    }

    #[test]
    fn every_feature_is_looked_at_once_with_any_rights() {
        let run = || Probe::run().findings().map(|(feature, _)| feature).collect::<Vec<_>>();
        assert_eq!(run(), Feature::ALL);
        // Capabilities belong to a thread.
        let without = std::thread::spawn(move || {
            crate::linux::Privileges::default().give_up().unwrap();
            (run(), Probe::run())
        });
        let (features, probe) = without.join().unwrap();
        assert_eq!(features, Feature::ALL);
        assert_eq!(probe.find(Feature::ReusePort), Some(&Finding::Yes));
        assert!(matches!(probe.find(Feature::ForceBuffers), Some(Finding::No(_))));
        assert!(!matches!(probe.find(Feature::Clsact), Some(Finding::Yes | Finding::No(_))));
    }

    #[test]
    fn words() {
        for offload in Offload::ALL {
            assert_eq!(offload.name().parse(), Ok(offload));
        }
        assert_eq!("best".parse::<Offload>().unwrap_err().to_string(), "none, batch, gso or tunnel");
        assert!(Offload::ALL.is_sorted());
    }
}
