//! The machine and the compiler, as a report names them; and staying on one processor.

use std::fs;
use std::process::Command;

/// What the figures were measured on.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) kernel: String,
    pub(crate) compiler: String,
    /// Instruction sets beyond the target's first ones that the code was compiled for.
    pub(crate) compiled_for: String,
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

impl Machine {
    pub(crate) fn this() -> Machine {
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(": ")).map(|(_, value)| value.trim().to_owned())
        };
        let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
        let model = field("model name").unwrap_or_else(|| "unknown processor".into());
        let family = field("cpu family").map(|f| format!(" (family {f})")).unwrap_or_default();
        let hypervisor = if cpuinfo.contains("hypervisor") { ", a virtual machine" } else { "" };
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
        let version = Command::new(rustc).arg("-V").output().map(|out| out.stdout).unwrap_or_default();
        Machine {
            processor: format!("{model}{family}, {count} processors{hypervisor}"),
            kernel: format!("{} {}", std::env::consts::OS, read("/proc/sys/kernel/osrelease").trim()),
            compiler: String::from_utf8_lossy(&version).trim().to_owned(),
            compiled_for: compiled_for(),
        }
    }
}

fn compiled_for() -> String {
    let sets = [
        ("popcnt", cfg!(target_feature = "popcnt")),
        ("bmi2", cfg!(target_feature = "bmi2")),
        ("avx2", cfg!(target_feature = "avx2")),
        ("avx512f", cfg!(target_feature = "avx512f")),
    ];
    let had: Vec<_> = sets.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
    let with = if had.is_empty() { "nothing beyond its first".into() } else { had.join(", ") };
    format!("{} with {with}", std::env::consts::ARCH)
}

/// Keeps this process on one processor; says so where that cannot be had.
#[cfg(target_os = "linux")]
pub(crate) fn pin(cpu: usize) {
    use nix::sched::{CpuSet, sched_setaffinity};
    use nix::unistd::Pid;
    let mut set = CpuSet::new();
    if let Err(e) = set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)) {
        eprintln!("not pinned to processor {cpu}: {e}");
    }
}

/// Keeps this process on one processor; says so where that cannot be had.
#[cfg(not(target_os = "linux"))]
pub(crate) fn pin(cpu: usize) {
    eprintln!("not pinned to processor {cpu}: only Linux does that here");
}
