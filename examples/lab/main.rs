//! Three nodes on one underlay, a pod behind each, one VNI: two nodes run overlane in user space, the
//! third is the kernel's own vxlan device. Shows that every pod reaches every other, and what each
//! node learned. Needs no root; where the machine allows no namespaces or no TAP device it says so
//! and runs the same lab in memory.

mod memory;
#[cfg(target_os = "linux")]
mod namespaces;
mod report;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use report::Report;

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
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            let _ = writeln!(io::stderr(), "lab: {e}");
            ExitCode::FAILURE
        }
    }
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Says what happens. Whoever reads it may have gone: that ends nothing.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Whether every pair worked.
fn run(arguments: &Arguments) -> Result<bool> {
    let name = arguments.pcap.display();
    let cannot =
        |e: &dyn std::fmt::Display| format!("cannot write {name}: {e}; --pcap FILE names another place");
    // Before the lab, so that no result is waited for in vain; what an earlier one wrote stays until then.
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false).open(&arguments.pcap);
    let file = file.map_err(|e| cannot(&e))?;

    let (report, written) =
        if arguments.in_memory { in_memory(arguments, file)? } else { lab(arguments, file)? };
    if let Ok(what) = &written {
        say(&format!("{name}: {what}"));
    }
    let told = writeln!(io::stdout(), "\n{}", report.to_string().trim_end());
    written.map_err(|e| cannot(&e))?;
    match told {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            return Err(format!("cannot write the report: {e}").into());
        }
        _ => {}
    }
    Ok(report.worked())
}

/// What a lab found, and what of it was written.
type Found = Result<(Report, Result<String>)>;

#[cfg(target_os = "linux")]
fn lab(arguments: &Arguments, file: File) -> Found {
    // Before anything else: entering a user namespace takes a process with one thread.
    if let Err(why) = namespaces::enter() {
        say(&format!("not with the kernel's vxlan here: {why}\nrunning the same lab in memory\n"));
        return in_memory(arguments, file);
    }
    // Namespaces, devices and sockets go with the process, whenever that ends.
    let mut signals =
        signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM])?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let _ = writeln!(io::stderr(), "\nlab: interrupted; everything comes down");
            std::process::exit(128 + signal);
        }
    });
    let (report, captured) = namespaces::run(arguments.mib << 20)?;
    let written = emptied(file).and_then(|out| namespaces::write(&captured, out));
    Ok((report, written))
}

#[cfg(not(target_os = "linux"))]
fn lab(arguments: &Arguments, file: File) -> Found {
    say("not with the kernel's vxlan here: this is not Linux\nrunning the same lab in memory\n");
    in_memory(arguments, file)
}

fn in_memory(arguments: &Arguments, file: File) -> Found {
    let octets = (arguments.mib << 20) as usize;
    let options = memory::Options { pings: 10, octets, ..memory::Options::default() };
    let report = memory::run(&options, &mut say)?;
    let written = emptied(file).and_then(|out| memory::write(&report.packets, out));
    let what = match report.not_kept {
        0 => format!("{} datagrams of the underlay", report.packets.len()),
        n => format!("{} datagrams of the underlay\n  ({n} later ones were not kept)", report.packets.len()),
    };
    Ok((report, written.map(|()| what)))
}

fn emptied(file: File) -> Result<BufWriter<File>> {
    // A pipe or a device cannot be cut, and holds nothing.
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    Ok(BufWriter::new(file))
}
