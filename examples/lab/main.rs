//! Three nodes on one underlay, a pod behind each, one VNI: two nodes run overlane in user space, the
//! third is the kernel's own vxlan device. Shows that every pod reaches every other, and what each
//! node learned. Needs no root; where the machine allows no namespaces or no TAP device it says so
//! and runs the same lab in memory.

mod memory;
#[cfg(target_os = "linux")]
mod namespaces;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Three VTEPs, one of them the kernel's, and a pod behind each: do they all reach each other?
#[derive(Debug, Parser)]
#[command(name = "lab")]
struct Arguments {
    /// Run in memory with smoltcp pods: no kernel, no namespaces.
    #[arg(long)]
    in_memory: bool,
    /// Octets that each pair of pods sends over TCP, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=4096))]
    mib: u64,
    /// Where the capture of the underlay is written.
    #[arg(long, value_name = "FILE", default_value = "lab.pcapng")]
    pcap: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let found = if arguments.in_memory { run_in_memory(&arguments) } else { run(&arguments) };
    match found {
        Ok(report) => {
            print!("\n{report}");
            if report.worked() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(e) => {
            eprintln!("lab: {e}");
            ExitCode::FAILURE
        }
    }
}

type Found = Result<report::Report, Box<dyn std::error::Error>>;

#[cfg(target_os = "linux")]
fn run(arguments: &Arguments) -> Found {
    // Before anything else: entering a user namespace takes a process with one thread.
    if let Err(why) = namespaces::enter() {
        println!("not with the kernel's vxlan here: {why}\nrunning the same lab in memory\n");
        return run_in_memory(arguments);
    }
    // Namespaces, devices and sockets go with the process, whenever that ends.
    let mut signals =
        signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM])?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            eprintln!("\nlab: interrupted; everything comes down");
            std::process::exit(128 + signal);
        }
    });
    namespaces::run(arguments.mib << 20, &arguments.pcap)
}

#[cfg(not(target_os = "linux"))]
fn run(arguments: &Arguments) -> Found {
    println!("not with the kernel's vxlan here: this is not Linux\nrunning the same lab in memory\n");
    run_in_memory(arguments)
}

fn run_in_memory(arguments: &Arguments) -> Found {
    let options = memory::Options { pings: 10, octets: (arguments.mib << 20) as usize };
    let report = memory::run(&options, &mut |line| println!("{line}"))?;
    let file = std::fs::File::create(&arguments.pcap)
        .map_err(|e| format!("cannot write {}: {e}", arguments.pcap.display()))?;
    memory::write(&report.packets, std::io::BufWriter::new(file))?;
    println!("{}: {} datagrams of the underlay", arguments.pcap.display(), report.packets.len());
    Ok(report)
}
