//! A VXLAN tunnel end in user space: TAP devices on one side, UDP on the other.
//!
//! ```text
//! cargo run --release --example vtep -- --tap ol0 --local 192.0.2.1 --vni 42 --remote 192.0.2.2
//! ```
//!
//! `--help` tells the rest. SIGUSR1 prints tables and counters, SIGINT and SIGTERM end the program;
//! the devices that it made go with it. Exit code 1: something in the system refused, or a device
//! is gone; 2: wrong arguments. `--probe` prints what the kernel offers.
//!
//! What it needs rights for, it does at the start; then it gives them up.

// A program has std; only the library must do without.
#![allow(clippy::std_instead_of_alloc, clippy::std_instead_of_core)]

#[cfg(target_os = "linux")]
mod args;
#[cfg(target_os = "linux")]
mod node;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod signals;
#[cfg(target_os = "linux")]
mod user;

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("vtep: this program needs Linux");
    std::process::exit(1);
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use std::io::{Write, stderr};

    let done = match args::task(std::env::args_os()) {
        Ok(args::Task::Run(plan)) => run(&plan),
        Ok(args::Task::Probe) => {
            let mut out = std::io::stdout();
            let told = write!(out, "{}", overlane::linux::Probe::run()).and_then(|()| out.flush());
            // Whoever reads it may have gone.
            let gone = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
            told.or_else(|e| if gone(&e) { Ok(()) } else { Err(format!("cannot write: {e}").into()) })
        }
        // Help and version are no errors; clap ends with 2 for what is one.
        Err(refused) => refused.exit(),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(stderr(), "vtep: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(target_os = "linux")]
fn run(plan: &args::Plan) -> Result<(), Box<dyn std::error::Error>> {
    use std::io::{Write, stderr};
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use overlane::linux::{Privileges, Turn};

    /// How often the devices are looked at, for an MTU or MAC address that somebody has changed.
    const LOOK: Duration = Duration::from_secs(5);
    /// How long the end waits for whoever reads a report.
    const PATIENCE: Duration = Duration::from_secs(1);

    let mut signals = signals::Signals::new()?;
    let mut node = node::Node::start(plan)?;
    let user = plan.user.map(|user| (user.uid, user.gid));
    Privileges { user, net_admin: false }.give_up()?;
    let _ = write!(stderr(), "{}", report::Greeting(&node));
    let mut printer = report::Printer::default();
    let mut looked = Instant::now();
    loop {
        let turn = match node.workers.run_for(signals.as_fd(), LOOK) {
            Ok(turn) => turn,
            Err(error) => {
                let survived = node.survive(&error);
                let pause = survived.ok_or_else(|| error.to_string())?;
                let _ = writeln!(stderr(), "vtep: {error}; the rest goes on");
                signals.wait(pause)?;
                Turn::default()
            }
        };
        match turn.woken.then(|| signals.take()) {
            Some(signals::Asked::End) => {
                let _ = printer.is_through(PATIENCE);
                return Ok(());
            }
            Some(signals::Asked::Report) => printer.ask(),
            Some(signals::Asked::Nothing) | None => {}
        }
        // Without a thread there is none this time.
        let _ = printer.go_on(&node.workers, signals.waker());
        if looked.elapsed() >= LOOK {
            node.refresh();
            looked = Instant::now();
        }
    }
}
