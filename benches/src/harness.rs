//! Fresh processes in shuffled order.

use std::error::Error;
use std::process::{Command, Stdio};

use crate::dpdk::Dpdk;
use crate::machine::Machine;
use crate::measure::{Random, Sample};
use crate::rows::{Figure, Job, Peer, Row, rows};
use crate::samples::{Samples, shared};
use crate::{Args, chart, markdown, report};

/// Runs this program again, for one sample.
fn sample(args: &Args, job: &Job) -> Result<Sample, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--cpu", &args.cpu.to_string(), "--child", &job.work, job.who]);
    if args.quick {
        command.arg("--quick");
    }
    // Large blocks of the heap on huge pages, for everybody.
    command.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1").stderr(Stdio::inherit());
    let out = command.output()?;
    if !out.status.success() {
        return Err(format!("{} by {}: {}", job.work, job.who, out.status).into());
    }
    Ok(String::from_utf8(out.stdout)?.parse()?)
}

fn jobs(rows: &[Row]) -> Vec<Job> {
    let mut jobs = Vec::new();
    for row in rows {
        jobs.extend(row.ours.jobs().into_iter().cloned());
        if let Peer::Here { figure, .. } = &row.peer {
            jobs.extend(figure.jobs().into_iter().cloned());
        }
    }
    jobs.sort();
    jobs.dedup();
    jobs
}

fn collect(args: &Args, rows: &[Row]) -> Result<Samples, Box<dyn Error>> {
    let mut turns: Vec<Job> = Vec::new();
    for _ in 0..args.samples.max(1) {
        turns.extend(jobs(rows));
    }
    // Another order at each run, so that nobody always comes behind the same one.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Random(now.as_nanos() as u64).shuffle(&mut turns);
    let mut samples = Samples::new();
    for (i, job) in turns.iter().enumerate() {
        eprint!("\r\x1b[K{}/{} {} by {}", i + 1, turns.len(), job.work, job.who);
        samples.entry(job.clone()).or_default().push(sample(args, job)?);
    }
    eprint!("\r\x1b[K");
    Ok(samples)
}

/// Whoever is compared must have come to the same results, in every process.
fn check_sums(rows: &[Row], samples: &Samples) -> Result<(), String> {
    for row in rows {
        let Peer::Here { name, figure: Figure::Of(peer) } = &row.peer else { continue };
        let Figure::Of(ours) = &row.ours else { continue };
        let sums = |job| samples.get(job).into_iter().flatten().map(|s: &Sample| s.sum);
        let mut all: Vec<u64> = sums(ours).chain(sums(peer)).collect();
        all.dedup();
        if all.len() > 1 {
            return Err(format!("{}: ours and {name} came to different results: {all:?}", row.name));
        }
    }
    Ok(())
}

/// The rows that are asked for. A document's table is of all of them, measured in earnest.
fn chosen(args: &Args) -> Result<Vec<Row>, String> {
    let rows: Vec<Row> = rows().into_iter().filter(|row| row.name.contains(&args.only)).collect();
    if rows.is_empty() {
        return Err(format!("no row's name contains {:?}", args.only));
    }
    if (args.results.is_some() || args.chart.is_some()) && (args.quick || !args.only.is_empty()) {
        return Err(
            "--results and --chart are for all rows: not with --only, --quick or without Cargo's --bench"
                .into(),
        );
    }
    Ok(rows)
}

/// Measures, prints, and writes what was asked for.
pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let rows = chosen(args)?;
    let (dpdk, machine) = (Dpdk::read(&args.dpdk)?, Machine::this());
    let samples = collect(args, &rows)?;
    check_sums(&rows, &samples)?;
    let lines = report::lines(&rows, &samples, &dpdk, args.quick);
    report::print(&lines, &machine, args);
    if let (all, others @ 1..) = shared(&samples) {
        println!(
            "{others} of {all} processes shared the processor with others: repeat this on an idle machine"
        );
    }
    let json = report::write_json(&lines, args.quick)?;
    println!("\nwritten: {}", json.display());
    if let Some(path) = &args.results {
        let path = crate::from_root(path);
        markdown::write(&path, &lines, &machine, args.samples)?;
        println!("written: {}", path.display());
    }
    if let Some(path) = &args.chart {
        let path = crate::from_root(path);
        std::fs::write(&path, chart::svg(&lines, &machine))?;
        println!("written: {}", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn a_document_gets_all_rows_in_earnest_or_none() {
        let chosen = |args: &[&str]| chosen(&Args::parse_from([&["tables"], args].concat())).map(|r| r.len());
        let all = rows().len();
        assert_eq!(chosen(&["--quick"]), Ok(all));
        assert_eq!(chosen(&["--results", "x", "--chart", "y"]), Ok(all));
        assert!(chosen(&["--only", "C ABI"]).is_ok_and(|n| n > 0 && n < all));
        for args in [
            &["--only", "no such row"][..],
            &["--only", "C ABI", "--results", "x"],
            &["--only", "C ABI", "--chart", "x"],
            &["--quick", "--results", "x"],
        ] {
            assert!(chosen(args).is_err(), "{args:?}");
        }
    }
}
