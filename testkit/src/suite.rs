//! Tests that run each in a process of its own, isolated from the machine's network.
//!
//! Entering a user namespace needs a process with one thread and cannot be undone, so a test binary
//! (`harness = false`) starts itself again for each case. A case that hangs is killed with everything
//! it started; a case that cannot run is skipped visibly, see [`crate::skip`].

use core::time::Duration;
use std::env;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Instant;

use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::netns::{Need, available, isolate};
use crate::skip::{self, Skip};

const CASE: &str = "OVERLANE_TESTKIT_CASE";
const SKIPPED: i32 = 77;
const FAILED: i32 = 101;
const LIMIT: Duration = Duration::from_secs(300);
const MARK: &str = "overlane-testkit skips: ";

/// One test.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name in the test's output.
    pub name: &'static str,
    /// What the machine must have.
    pub needs: &'static [Need],
    /// When it is killed.
    pub timeout: Duration,
    /// Runs only where it is asked for: `--ignored`, `--include-ignored`.
    pub ignored: bool,
    /// The test; a panic is a failure. Runs on the main thread of its own process, in an empty
    /// network namespace with loopback up.
    pub run: Run,
}

/// The body of a [`Case`].
#[derive(Debug, Clone, Copy)]
pub enum Run {
    /// A test of its own.
    Plain(fn()),
    /// One row of a table of tests, by its number.
    Row(fn(usize), usize),
}

impl Case {
    /// A case with a time limit of five minutes: many times what it takes on a busy machine.
    pub const fn new(name: &'static str, needs: &'static [Need], run: fn()) -> Case {
        Case { name, needs, timeout: LIMIT, ignored: false, run: Run::Plain(run) }
    }

    /// Row `number` of a table, with a time limit of five minutes. The name is kept for ever: tables of
    /// cases are made once in a process.
    pub fn row(name: String, needs: &'static [Need], run: fn(usize), number: usize) -> Case {
        let run = Run::Row(run, number);
        Case { name: name.leak(), needs, timeout: LIMIT, ignored: false, run }
    }

    /// With another time limit.
    pub const fn within(self, timeout: Duration) -> Case {
        Case { timeout, ..self }
    }

    /// One that runs only where it is asked for, if so.
    pub const fn only_if_asked(self, ignored: bool) -> Case {
        Case { ignored, ..self }
    }
}

/// Whether this process is the one of a case. The other one, which starts those, can make ready what
/// all of them need.
pub fn is_case() -> bool {
    env::var_os(CASE).is_some()
}

/// The `main` of a test binary: runs the cases as the arguments of `cargo test` say, and exits.
pub fn main(cases: &'static [Case]) -> ! {
    if let Some(name) = env::var_os(CASE) {
        let case = cases.iter().find(|c| name == c.name);
        std::process::exit(case.map_or(FAILED, child));
    }
    let trial = |case: &'static Case| {
        Trial::test(case.name, || parent(case).map_err(Failed::from)).with_ignored_flag(case.ignored)
    };
    let trials = cases.iter().map(trial).collect();
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    if skip::count() > 0 {
        eprintln!("{} of these were skipped, see above", skip::count());
    }
    conclusion.exit()
}

/// Ends the process of a case that finds out only now that it cannot run on this machine: skipped, as
/// if it had not begun.
pub fn skip(why: &Skip) -> ! {
    println!("{MARK}{why}");
    std::process::exit(SKIPPED)
}

/// In the process of one case, single-threaded so far.
fn child(case: &Case) -> i32 {
    // The test binary is killed: so is the case.
    let _ = set_pdeathsig(Signal::SIGKILL);
    match isolate().and_then(|()| available(case.needs)) {
        Ok(()) => {}
        Err(why) => {
            println!("{MARK}{why}");
            return SKIPPED;
        }
    }
    let run = || match case.run {
        Run::Plain(run) => run(),
        Run::Row(run, number) => run(number),
    };
    match std::panic::catch_unwind(run) {
        Ok(()) => 0,
        Err(_) => FAILED,
    }
}

fn parent(case: &Case) -> Result<(), String> {
    let program = env::current_exe().map_err(|e| format!("where is this test's program: {e}"))?;
    let mut child = Command::new(program)
        .env(CASE, case.name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|e| format!("cannot start the case's process: {e}"))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let status = wait(&mut child, case.timeout);
    // What the case left behind, on every path; the group is ours, its leader has just been reaped or
    // is about to be.
    let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
    let status = match status {
        Some(status) => status,
        None => child.wait().map_err(|e| format!("cannot wait for the case: {e}"))?,
    };
    let (stdout, stderr) = (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default());
    if status.code() == Some(SKIPPED) {
        let why = stdout.lines().rev().find_map(|l| l.strip_prefix(MARK)).unwrap_or("no reason given");
        return skip::report(case.name, &Skip::new(why));
    }
    if status.success() {
        return Ok(());
    }
    let end = match (status.signal(), status.code()) {
        (Some(9), _) => format!("killed after {:?}", case.timeout),
        (Some(signal), _) => format!("ended by signal {signal}"),
        (None, code) => format!("exit {}", code.unwrap_or(-1)),
    };
    Err(format!("{end}\n{stdout}{stderr}"))
}

fn collect(from: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            let _ = from.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn wait(child: &mut Child, timeout: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + timeout;
    while Instant::now() < deadline {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}
