//! Programs in namespaces: what they print, their memory, signals to them.

use std::env;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::netns::NetNs;
use crate::suite;

/// Where the example `name` of the package at `manifest` is, built with the profile of this test
/// program.
///
/// `cargo test --test NAME` builds no examples, and leaves those of an earlier source. So under Cargo the
/// process that starts the cases, which must ask first, has it built with `cargo`, if it is not up to date.
pub fn example(name: &str, cargo: &str, manifest: &str) -> io::Result<PathBuf> {
    let test = env::current_exe()?;
    let profile = test.parent().and_then(Path::parent).ok_or(io::ErrorKind::NotFound)?;
    let path = profile.join("examples").join(name);
    if !path.exists() || (!suite::is_case() && env::var_os("CARGO").is_some()) {
        let mut command = Command::new(cargo);
        command.args(["build", "--quiet", "--offline", "--example", name]).current_dir(manifest);
        if profile.ends_with("release") {
            command.arg("--release");
        }
        let built = command.status().is_ok_and(|status| status.success());
        if !built && !path.exists() {
            return Err(io::Error::other(format!("cannot build the example {name} with {cargo}")));
        }
        if !built {
            eprintln!("cannot build the example {name} with {cargo}: the one that is tested may be old");
        }
    }
    Ok(path)
}

/// A program that runs. It is killed when its value goes.
pub struct Process {
    child: Child,
    out: Arc<Stream>,
    err: Arc<Stream>,
}

/// What came out of one of its ends so far, read at once so that the program never waits for us.
#[derive(Default)]
struct Stream {
    text: Mutex<(String, bool)>,
    changed: Condvar,
}

impl Stream {
    fn of(from: Option<impl Read + Send + 'static>) -> Arc<Stream> {
        let stream = Arc::<Stream>::default();
        let into = stream.clone();
        thread::spawn(move || {
            let mut buffer = [0; 65_536];
            if let Some(mut from) = from {
                while let Ok(len @ 1..) = from.read(&mut buffer) {
                    into.lock().0.push_str(&String::from_utf8_lossy(&buffer[..len]));
                    into.changed.notify_all();
                }
            }
            into.lock().1 = true;
            into.changed.notify_all();
        });
        stream
    }

    fn lock(&self) -> MutexGuard<'_, (String, bool)> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `enough` says so or there is nothing to come; the text, and whether `enough` did.
    fn wait(&self, timeout: Duration, enough: impl Fn(&str) -> bool) -> (String, bool) {
        let more = |(text, ended): &mut (String, bool)| !enough(text) && !*ended;
        let done = self.changed.wait_timeout_while(self.lock(), timeout, more);
        let text = done.unwrap_or_else(PoisonError::into_inner).0.0.clone();
        let found = enough(&text);
        (text, found)
    }
}

impl Process {
    /// Starts a program in `ns`.
    pub fn start(ns: &NetNs, program: &Path, arguments: &[&str]) -> io::Result<Process> {
        Process::start_with(ns, program, arguments, Stdio::null())
    }

    /// Starts it with this standard input.
    pub fn start_with(ns: &NetNs, program: &Path, arguments: &[&str], stdin: Stdio) -> io::Result<Process> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ns.run(|| command.spawn())?;
        let (out, err) = (Stream::of(child.stdout.take()), Stream::of(child.stderr.take()));
        Ok(Process { child, out, err })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of standard error that begins with `start`.
    pub fn wait_for_line(&self, start: &str, timeout: Duration) -> io::Result<String> {
        match self
            .err
            .wait(timeout, |text| text.lines().any(|l| l.starts_with(start)) && text.ends_with('\n'))
        {
            (text, true) => Ok(text),
            (text, false) => Err(io::Error::other(format!("it did not say {start:?}: {text}"))),
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill(Pid::from_raw(self.child.id() as i32), signal)?)
    }

    /// How much it has written to standard output.
    pub fn out_len(&self) -> usize {
        self.out.lock().0.len()
    }

    /// Waits for standard output, from octet `from` on, to be as `enough` wants it.
    pub fn wait_for_output(
        &self,
        from: usize,
        timeout: Duration,
        enough: impl Fn(&str) -> bool,
    ) -> io::Result<String> {
        let rest = |text: &str| text.get(from..).unwrap_or("").to_string();
        match self.out.wait(timeout, |text| enough(text.get(from..).unwrap_or(""))) {
            (text, true) => Ok(rest(&text)),
            (text, false) => Err(io::Error::other(format!("it did not print that: {}", rest(&text)))),
        }
    }

    /// Whether standard output, from octet `from` on, is as `enough` wants it.
    pub fn has_written(&self, from: usize, enough: impl Fn(&str) -> bool) -> bool {
        enough(self.out.lock().0.get(from..).unwrap_or(""))
    }

    /// What it said on standard error so far.
    pub fn errors(&self) -> String {
        self.err.lock().0.clone()
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for it to end by itself: how, and what it said on standard error.
    pub fn end(&mut self, timeout: Duration) -> io::Result<(ExitStatus, String)> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok((status, self.err.wait(timeout, |_| false).0));
            }
            if Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not end"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Octets of memory that it has now (`VmRSS`).
    pub fn memory(&self) -> io::Result<u64> {
        self.status("VmRSS:")
    }

    /// Octets of memory that it had at most (`VmHWM`).
    pub fn peak_memory(&self) -> io::Result<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|l| l.strip_prefix(field));
        let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.map(|n| n << 10)
            .ok_or_else(|| io::Error::other(format!("no {field} of process {}", self.child.id())))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
