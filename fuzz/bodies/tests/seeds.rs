//! The fuzz targets as ordinary tests: every committed seed, and inputs made from seeds and from
//! nothing by a generator that is the same each time.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use overlane_fuzz_bodies::{Body, TARGETS};

/// Longer seeds are run as they are, not changed: that would take too long.
const LONGEST_CHANGED: usize = 2_048;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds")
}

/// Seeds by name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder().join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut seeds: Vec<_> = files
        .map(|f| {
            let path = f.expect("a readable folder").path();
            (path.display().to_string(), std::fs::read(&path).expect("a readable seed"))
        })
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{} holds no seeds", folder.display());
    seeds
}

/// A repeatable source of numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }

    /// An input with a few changes of the kinds that find edges.
    fn changed(&mut self, seed: &[u8], other: &[u8]) -> Vec<u8> {
        let mut input = seed.to_vec();
        for _ in 0..1 + self.below(4) {
            let at = self.below(input.len());
            match self.below(7) {
                0 => input.truncate(at),
                1 => input.extend_from_slice(&other[self.below(other.len())..]),
                2 => {
                    let new = self.bytes(4);
                    input.splice(at..at, new);
                }
                kind => {
                    let Some(octet) = input.get_mut(at) else { continue };
                    match kind {
                        3 => *octet ^= 1 << self.below(8),
                        4 => *octet = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                        5 => *octet = octet.wrapping_add(1),
                        _ => *octet = self.next() as u8,
                    }
                }
            }
        }
        input.truncate(LONGEST_CHANGED);
        input
    }
}

/// Runs one input; names it if it fails.
fn run(body: Body, name: &str, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(input))) {
        let hex: String = input.iter().map(|b| format!("{b:02x}")).collect();
        eprintln!("failed on {name}: {hex}");
        resume_unwind(panic);
    }
}

fn body(target: &str) -> Body {
    TARGETS.iter().find(|t| t.0 == target).expect("a target of that name").1
}

/// All seeds as they are, then `changed` inputs from them and `random` ones from nothing.
fn smoke(target: &str, changed: usize, random: usize) {
    let (seeds, body) = (seeds(target), body(target));
    for (name, seed) in &seeds {
        run(body, name, seed);
    }
    let mut numbers = Random(target.bytes().map(u64::from).sum());
    let short: Vec<_> = seeds.iter().filter(|s| s.1.len() <= LONGEST_CHANGED).collect();
    for n in 0..changed {
        let (name, seed) = short[n % short.len()];
        let other = &short[numbers.below(short.len())].1;
        let input = numbers.changed(seed, other);
        run(body, &format!("{name}, changed"), &input);
    }
    for _ in 0..random {
        let length = numbers.below(400);
        let input = numbers.bytes(length);
        run(body, "random bytes", &input);
    }
}

#[test]
fn wire() {
    smoke("wire", 3_000, 1_000);
}

#[test]
fn decap() {
    smoke("decap", 1_000, 200);
}

#[test]
fn engine_ops() {
    smoke("engine_ops", 1_000, 600);
}

#[test]
fn fdb_ops() {
    smoke("fdb_ops", 200, 200);
}

#[test]
fn lpm_ops() {
    smoke("lpm_ops", 1_000, 600);
}

#[test]
fn ffi_calls() {
    smoke("ffi_calls", 800, 500);
}

#[test]
fn ffi_twin() {
    smoke("ffi_twin", 400, 200);
}

#[test]
fn superframe() {
    smoke("superframe", 3_000, 500);
}

#[test]
fn merge() {
    smoke("merge", 3_000, 1_000);
}

#[test]
fn each_target_has_a_program_and_each_folder_of_seeds_a_target() {
    let names = |dir: &str| -> Vec<String> {
        let entries = std::fs::read_dir(folder().join(dir)).expect("a readable folder");
        let paths = entries.map(|e| e.expect("a readable folder").path());
        let stems = paths.filter(|p| p.extension().is_none_or(|e| e == "rs"));
        let mut names: Vec<_> =
            stems.map(|p| p.file_stem().expect("a name").to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let mut targets: Vec<_> = TARGETS.iter().map(|t| t.0).collect();
    targets.sort();
    assert_eq!(names("."), targets);
    assert_eq!(names("../fuzz_targets"), targets);
}
