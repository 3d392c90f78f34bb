//! How many instructions each hot function takes, held against `../instructions.baseline`.
//!
//! ```text
//! cargo run --release --locked --manifest-path benches/instructions/Cargo.toml [-- --bless]
//! ```
//!
//! The program runs itself under `valgrind --tool=callgrind`, once for each function, which counts
//! inside that function alone. The counts repeat exactly, on any machine, as long as the compiler and its options
//! are those of the baseline; with others they are printed, and the comparison is skipped with a message. A
//! function that takes over 3 % more than the baseline says is an error.
//!
//! `--bless` writes a new baseline: after a change that is meant, after work of several people was
//! merged (its counts are those of neither), and after a change of compiler. Commit
//! `benches/instructions.baseline` with the change that it is about, so that its difference shows what
//! the change costs.

mod hot;
mod setup;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// The compiler, the target and the options that made this program.
const BUILD: &str = env!("OVERLANE_BUILD");
/// Growth that is an error, in parts of a hundred.
const TOLERANCE: f64 = 3.0;

type Counts = BTreeMap<String, f64>;

fn baseline_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../instructions.baseline")
}

/// The build and the counts of a baseline.
fn parse(text: &str) -> Result<(String, Counts), String> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let build = lines.next().and_then(|line| line.strip_prefix("build: ")).ok_or("no line `build: ...`")?;
    let count = |line: &str| {
        let (name, count) = line.rsplit_once(' ').ok_or_else(|| format!("not a count: {line}"))?;
        let count = count.parse().map_err(|e| format!("not a count: {line}: {e}"))?;
        Ok((name.trim_end().to_owned(), count))
    };
    Ok((build.to_owned(), lines.map(count).collect::<Result<_, String>>()?))
}

fn text(counts: &Counts) -> String {
    let mut text = String::from(
        "# Instructions of each hot function, for one frame or one call; written by `--bless` of\n\
         # benches/instructions, and compared with a build by the same compiler only.\n",
    );
    text += &format!("build: {BUILD}\n");
    for (name, count) in counts {
        text += &format!("{name:width$} {count:.1}\n", width = hot::LONGEST_NAME);
    }
    text
}

/// Counts one function: what it and all it calls take, for each of its units of work.
fn count(hot: &hot::Hot) -> Result<f64, String> {
    let exe = std::env::current_exe().map_err(|e| format!("this program's path: {e}"))?;
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect=*{}*", hot.symbol))
        .arg(exe)
        .args(["--child", hot.name])
        .env_remove("LD_PRELOAD")
        .output()
        .map_err(|e| format!("valgrind does not run: {e}"))?;
    let log = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        return Err(format!("{}: {}\n{log}", hot.name, out.status));
    }
    let collected = log.lines().find_map(|line| line.split_once("Collected : "));
    let total: u64 = collected
        .and_then(|(_, count)| count.trim().parse().ok())
        .ok_or_else(|| format!("{}: valgrind says no count:\n{log}", hot.name))?;
    let units: u64 = String::from_utf8_lossy(&out.stdout)
        .trim()
        .parse()
        .map_err(|e| format!("{}: the child's units of work: {e}", hot.name))?;
    if total == 0 || units == 0 {
        return Err(format!("{}: nothing was counted: is {} inlined?", hot.name, hot.symbol));
    }
    Ok(total as f64 / units as f64)
}

fn count_all() -> Result<Counts, String> {
    hot::ALL.iter().map(|hot| Ok((hot.name.to_owned(), round(count(hot)?)))).collect()
}

/// To the one digit that a baseline has.
fn round(count: f64) -> f64 {
    (count * 10.0).round() / 10.0
}

/// Prints the counts beside the baseline; what went wrong.
fn compare(counts: &Counts, old: &Counts) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, count) in counts {
        let Some(before) = old.get(name) else {
            println!("{name:width$} {count:8.1}  new", width = hot::LONGEST_NAME);
            wrong.push(format!("{name}: not in the baseline"));
            continue;
        };
        let growth = (count / before - 1.0) * 100.0;
        println!("{name:width$} {count:8.1}  {growth:+.1} %", width = hot::LONGEST_NAME);
        // A baseline is exact to the digit that it has.
        if growth > TOLERANCE + 5.0 / before {
            wrong.push(format!("{name}: {count:.1} instructions, {growth:.1} % more than {before:.1}"));
        }
    }
    wrong.extend(old.keys().filter(|name| !counts.contains_key(*name)).map(|name| format!("{name}: gone")));
    wrong
}

fn run(bless: bool) -> Result<(), String> {
    let counts = count_all()?;
    let path = baseline_path();
    if bless {
        std::fs::write(&path, text(&counts)).map_err(|e| format!("{}: {e}", path.display()))?;
        print!("{}", text(&counts));
        return Ok(());
    }
    let old = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (build, old) = parse(&old).map_err(|e| format!("{}: {e}", path.display()))?;
    if build != BUILD {
        print!("{}", text(&counts));
        println!(
            "skipped: the baseline was made by another compiler or with other options, and such counts do not compare\n  \
             baseline: {build}\n  here:     {BUILD}\n\
             To make one for this compiler: cargo run --release --locked --manifest-path \
             benches/instructions/Cargo.toml -- --bless"
        );
        return Ok(());
    }
    let wrong = compare(&counts, &old);
    if wrong.is_empty() {
        println!("no hot function takes over {TOLERANCE} % more than the baseline says");
        return Ok(());
    }
    Err(format!(
        "instructions: {} of {} differ from benches/instructions.baseline\n  {}\n\
         Where that is meant, write a new one: cargo run --release --locked --manifest-path \
         benches/instructions/Cargo.toml -- --bless",
        wrong.len(),
        counts.len(),
        wrong.join("\n  ")
    ))
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        ["--child", name] => hot::run(name).map(|units| println!("{units}")),
        [] => run(false),
        ["--bless"] => run(true),
        _ => Err("usage: overlane-instructions [--bless]".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, f64)]) -> Counts {
        of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn a_baseline_reads_as_it_was_written() {
        let counts = counts(&[("encap, a frame", 301.5), ("fdb hit", 40.0)]);
        assert_eq!(parse(&text(&counts)), Ok((BUILD.to_owned(), counts)));
        assert!(parse("").is_err() && parse("build: x\nno number").is_err());
    }

    #[test]
    fn growth_above_three_percent_is_wrong_and_so_is_what_has_no_counterpart() {
        let old = counts(&[("a", 100.0), ("b", 100.0), ("c", 100.0), ("gone", 1.0)]);
        let new = counts(&[("a", 103.0), ("b", 103.1), ("c", 50.0), ("new", 1.0)]);
        let wrong = compare(&new, &old);
        let named: Vec<_> = wrong.iter().map(|w| w.split(':').next().unwrap()).collect();
        assert_eq!(named, ["b", "new", "gone"]);
    }
}
