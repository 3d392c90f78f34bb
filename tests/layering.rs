//! The floor table of the README, held against the `use` lines.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Room, and the rooms that it may import.
const FLOORS: &[(&str, &[&str])] = &[
    ("addr", &["error"]),
    ("time", &[]),
    ("error", &["addr"]),
    ("wire", &["addr", "error"]),
    ("table", &["addr", "time", "error"]),
    ("engine", &["wire", "table", "addr", "time", "error"]),
    ("smoltcp", &["engine", "wire", "addr", "time", "error"]),
    ("linux", &["engine", "wire", "table", "addr", "time", "error"]),
];

/// Third-party crates, and the only place that may name them.
const GUESTS: &[(&str, &str)] = &[
    ("libc", "src/linux/sys"),
    ("netlink_packet_core", "src/linux/netlink"),
    ("netlink_packet_route", "src/linux/netlink"),
    ("netlink_sys", "src/linux/netlink"),
    ("smoltcp", "src/smoltcp.rs"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file under a folder, with its path from the repository's root.
fn files(under: &str) -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    let dir = root().join(under);
    if dir.is_dir() {
        walk(&dir, &mut found);
    }
    found.sort();
    let name = |p: &Path| p.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    found.into_iter().map(|p| (name(&p), fs::read_to_string(&p).unwrap())).collect()
}

/// The code of a file: no comments, no doc examples.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate();
    lines.map(|(n, l)| (n + 1, l.split("//").next().unwrap_or(""))).filter(|(_, l)| !l.trim().is_empty())
}

fn room(file: &str) -> &str {
    let name = file.trim_start_matches("src/");
    name.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The words that follow `needle` in a line.
fn named<'a>(line: &'a str, needle: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(needle).map(move |(at, _)| {
        let rest = &line[at + needle.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn a_room_imports_only_from_the_floors_below_it() {
    let floors: BTreeMap<_, _> = FLOORS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (file, text) in files("src").iter().filter(|(f, _)| f != "src/lib.rs") {
        let room = room(file);
        let Some(may) = floors.get(room) else {
            wrong.push(format!("{file}: room {room} is not in the floor table"));
            continue;
        };
        for (line, code) in code(text) {
            for used in named(code, "crate::") {
                // `use crate::{...}` hides rooms from this test; one path a line keeps them in view.
                if used != room && !may.contains(&used) {
                    wrong.push(format!("{file}:{line}: {room} may not import {used:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn lib_rs_is_a_map_without_logic() {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for (line, code) in code(&text) {
        assert!(!code.contains("fn ") && !code.contains("impl "), "src/lib.rs:{line}: {code}");
    }
}

#[test]
fn third_party_crates_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for (file, text) in files("src") {
        for (line, code) in code(&text) {
            for (guest, home) in GUESTS {
                let path = format!("{guest}::");
                let named = code.match_indices(&path).any(|(at, _)| {
                    let before = code[..at].chars().last();
                    !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
                });
                if named && !file.starts_with(home) {
                    wrong.push(format!("{file}:{line}: {guest} belongs in {home}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_in_one_file_for_each_boundary() {
    for (file, text) in files("src") {
        let allowed = file == "src/linux/sys.rs" || file.starts_with("src/linux/sys/");
        for (line, code) in code(&text) {
            let unsafe_word = named(code, "unsafe").any(|rest| rest.is_empty());
            assert!(allowed || !unsafe_word, "{file}:{line}: unsafe outside src/linux/sys");
        }
    }
}

#[test]
fn no_file_is_longer_than_800_lines() {
    for folder in ["src", "tests", "examples", "ffi", "testkit", "fuzz", "benches"] {
        for (file, text) in files(folder) {
            let lines = text.lines().count();
            assert!(lines <= 800, "{file} has {lines} lines");
        }
    }
}

#[test]
fn the_readme_shows_this_floor_table() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for (room, may) in FLOORS {
        let row = readme.lines().find(|l| l.starts_with(&format!("| `{room}`")));
        let row = row.unwrap_or_else(|| panic!("the README's floor table has no row for `{room}`"));
        for other in *may {
            assert!(row.contains(&format!("`{other}`")), "the README's row for {room} does not name {other}");
        }
    }
}
