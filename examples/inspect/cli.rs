//! Arguments in, lines and an exit code out. Apart from `main` so that tests call it as it is.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use clap::Parser;
use overlane::wire::vxlan;

use crate::capture::{Capture, CaptureError};
use crate::decode::{Decoded, decode};
use crate::report::{self, Totals};

/// All was read.
pub(crate) const DONE: u8 = 0;
/// The file is damaged or could not be read to its end. What came before the damage was reported.
pub(crate) const DAMAGED: u8 = 1;
/// Wrong arguments, or a file that cannot be opened.
pub(crate) const USAGE: u8 = 2;

/// Shows the VXLAN packets of a capture file.
#[derive(Parser)]
#[command(name = "inspect", version, override_usage = "inspect FILE.pcap[ng] [--port N]... [--json]")]
struct Args {
    /// The capture: pcap or pcapng; `-` is stdin
    #[arg(value_name = "FILE.pcap[ng]")]
    file: PathBuf,
    /// A UDP port that carries VXLAN; can be given several times [default: 4789 and 8472]
    #[arg(long = "port", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    ports: Vec<u16>,
    /// One JSON object for each packet on stdout; the totals go to stderr
    #[arg(long)]
    json: bool,
}

/// Runs the program and gives its exit code.
pub(crate) fn run(
    args: impl IntoIterator<Item = OsString>,
    stdin: &mut dyn Read,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let mut args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(e) => {
            // Help and version are no errors.
            let _ = match e.use_stderr() {
                true => write!(err, "{}", e.render()),
                false => write!(out, "{}", e.render()).and_then(|()| out.flush()),
            };
            return if e.exit_code() == 0 { DONE } else { USAGE };
        }
    };
    if args.ports.is_empty() {
        args.ports = vec![vxlan::PORT, vxlan::PORT_LINUX];
    }
    let mut opened;
    let (name, file): (_, &mut dyn Read) = if args.file.as_os_str() == "-" {
        (Path::new("stdin").display(), stdin)
    } else {
        let name = args.file.display();
        opened = match open(&args.file) {
            Ok(file) => file,
            Err(e) => {
                let _ =
                    writeln!(err, "inspect: cannot open {name}: {e}; give the path of a pcap or pcapng file");
                return USAGE;
            }
        };
        (name, &mut opened)
    };
    let mut totals = Totals::default();
    let end = match read(BufReader::new(file), &args, &mut totals, out) {
        Ok(end) => end,
        Err(e) => return unwritten(&e, err),
    };
    if let Err(e) = finish(&args, &totals, out, err) {
        return unwritten(&e, err);
    }
    for (link, count) in &totals.unknown_links {
        let _ = writeln!(err, "inspect: {name}: {count} packets of link type {link}, which is not read");
    }
    match end {
        Err(e) => {
            let _ = writeln!(err, "inspect: {name}: {e} ({} packets before it were read)", totals.packets);
            DAMAGED
        }
        // Nothing at all could be read: saying "done" would mislead.
        Ok(()) if totals.packets > 0 && totals.packets == totals.unknown_links.values().sum() => DAMAGED,
        Ok(()) => DONE,
    }
}

/// A directory opens as a file does, and fails only when read.
fn open(path: &PathBuf) -> io::Result<File> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(file)
}

/// Reports every packet. The outer error is one of writing, the inner one of reading.
fn read(
    file: impl Read,
    args: &Args,
    totals: &mut Totals,
    out: &mut dyn Write,
) -> io::Result<Result<(), CaptureError>> {
    let mut capture = match Capture::open(file) {
        Ok(capture) => capture,
        Err(e) => return Ok(Err(e)),
    };
    loop {
        let packet = match capture.next() {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(Ok(())),
            Err(e) => return Ok(Err(e)),
        };
        let decoded: Decoded = decode(packet.link, packet.bytes, packet.wire_len, &args.ports);
        totals.count(packet.link, &decoded);
        match args.json {
            true => report::json(out, totals.packets, &decoded)?,
            false => report::line(out, totals.packets, &decoded)?,
        }
    }
}

fn finish(args: &Args, totals: &Totals, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
    if !args.json {
        totals.write(out)?;
    }
    out.flush()?;
    if args.json {
        // Whoever closed stderr does not want them.
        let _ = totals.write(err);
    }
    Ok(())
}

/// A reader that has seen enough (`| head`) closes the pipe: that is no error.
fn unwritten(e: &io::Error, err: &mut dyn Write) -> u8 {
    if e.kind() == io::ErrorKind::BrokenPipe {
        return DONE;
    }
    let _ = writeln!(err, "inspect: cannot write: {e}");
    DAMAGED
}
