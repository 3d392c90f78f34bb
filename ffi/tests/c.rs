//! C and C++ programs against the header and both libraries: compiled with every warning an error,
//! linked statically and dynamically, and run.
#![cfg(target_os = "linux")]

mod common;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;

/// Builds and runs a program in both languages and both linkages. Each must end with 0 and say `last`.
fn everywhere(source: &Path, last: &str) {
    for language in [Language::C99, Language::Cpp17] {
        for linkage in [Linkage::Static, Linkage::Shared] {
            let Some(program) = build(source, language, linkage) else { continue };
            let out = Command::new(&program).output().unwrap();
            assert!(out.status.success(), "{}: {}", program.display(), text(&out));
            let said = String::from_utf8_lossy(&out.stdout);
            assert_eq!(said.lines().last(), Some(last), "{}", program.display());
        }
    }
}

fn example(name: &str) -> PathBuf {
    root().join("examples/c").join(name)
}

#[test]
fn the_minimal_host_sends_its_frame() {
    everywhere(&example("minimal.c"), "verdict 1: send 28 octets at offset 64 to VTEP 0");
}

#[test]
fn two_nodes_exchange_frames_octet_by_octet() {
    everywhere(&example("two_nodes.c"), "two nodes: ok");
}

#[test]
fn misuse_is_refused_and_changes_nothing() {
    everywhere(&Path::new(CRATE).join("tests/c/misuse.c"), "misuse: ok");
}

#[test]
fn workers_tell_each_other_what_they_learn() {
    everywhere(&Path::new(CRATE).join("tests/c/workers.c"), "workers: ok");
}

#[test]
fn c_lays_the_structures_out_as_rust_does() {
    let (mut program, mut expected) =
        (String::from("#include <overlane.h>\n#include <stdio.h>\n"), String::new());
    program.push_str("int main(void)\n{\n");
    for (name, size, _, fields) in overlane_ffi::layouts() {
        writeln!(program, "    printf(\"{name} %u\\n\", (unsigned)sizeof({name}));").unwrap();
        writeln!(expected, "{name} {size}").unwrap();
        for (field, offset, size) in *fields {
            writeln!(
                program,
                "    printf(\"{field} %u %u\\n\", (unsigned)offsetof({name}, {field}), (unsigned)sizeof((({name} *)0)->{field}));"
            )
            .unwrap();
            writeln!(expected, "{field} {offset} {size}").unwrap();
        }
    }
    program.push_str("    return 0;\n}\n");
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join("layout.c");
    std::fs::write(&source, program).unwrap();
    for language in [Language::C99, Language::Cpp17] {
        let Some(program) = build(&source, language, Linkage::Shared) else { continue };
        let out = Command::new(program).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), expected);
    }
}

/// What a static library of Rust needs beside itself is what the compiler says it does.
#[test]
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
fn the_list_of_native_libraries_is_rustcs() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = dir.join("empty.rs");
    std::fs::write(&source, "").unwrap();
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let mut command = Command::new(&rustc);
    command.args(["--print", "native-static-libs", "--crate-type", "staticlib", "-o"]);
    let Ok(out) = command.arg(dir.join("empty.a")).arg(&source).output() else {
        return skip("native libraries", "no rustc");
    };
    let said = text(&out);
    let list = said.lines().find_map(|line| line.strip_prefix("note: native-static-libs: "));
    let kept = std::fs::read_to_string(Path::new(CRATE).join("native-libs.txt")).unwrap();
    assert_eq!(list, Some(kept.trim()), "{said}");
}

/// The leak and the octet out of place that no assertion sees.
#[test]
fn valgrind_finds_nothing() {
    let found = Command::new("valgrind").arg("--version").output();
    if !found.is_ok_and(|out| out.status.success()) {
        return say_skipped("valgrind", "not installed");
    }
    for source in [example("two_nodes.c"), Path::new(CRATE).join("tests/c/misuse.c")] {
        let Some(program) = build(&source, Language::C99, Linkage::Shared) else { continue };
        let mut command = Command::new("valgrind");
        command.args(["--quiet", "--error-exitcode=9", "--leak-check=full", "--show-leak-kinds=all"]);
        let out = command.arg(program).output().unwrap();
        assert!(out.status.success(), "{}: {}", source.display(), text(&out));
    }
}
