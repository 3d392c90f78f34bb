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

/// What the README says of installing works on a machine that has nothing yet, but for `ldconfig`, which asks for rights.
#[test]
fn the_installation_of_the_readme_gives_a_program_that_runs() {
    let Some(cc) = compiler("CC", &["cc", "gcc", "clang"]) else { return skip("installation", "no cc") };
    let readme = std::fs::read_to_string(Path::new(CRATE).join("README.md")).unwrap();
    let (_, section) = readme.split_once("Dynamically.").unwrap();
    let (section, _) = section.split_once("\nThe header is").unwrap();
    let commands = section.lines().filter_map(|line| line.strip_prefix("    "));
    let commands: Vec<_> = commands.filter(|line| *line != "ldconfig").collect();
    let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join("prefix");
    let _ = std::fs::remove_dir_all(&prefix);
    // Linux has these two everywhere.
    for dir in ["include", "lib"] {
        std::fs::create_dir_all(prefix.join(dir)).unwrap();
    }
    std::fs::copy(example("minimal.c"), prefix.join("host.c")).unwrap();
    let script = commands.join("\n").replace("/usr/local", "$PREFIX").replace(
        "cc host.c",
        "$CC \"$PREFIX/host.c\" -o \"$PREFIX/host\" -I\"$PREFIX/include\" -L\"$PREFIX/lib\"",
    );
    let quoted = script.replace("target/release", "$LIBRARIES").lines().map(quote_paths).collect::<String>();
    let cc = format!("{cc} {}", std::env::var("OVERLANE_CFLAGS").unwrap_or_default());
    let mut command = Command::new("sh");
    command.args(["-euc", &quoted]).current_dir(root()).env("PREFIX", &prefix).env("CC", cc);
    let out = command.env("LIBRARIES", libraries()).output().unwrap();
    assert!(out.status.success(), "{quoted}{}", text(&out));
    let mut host = Command::new(prefix.join("host"));
    let out = host.env("LD_LIBRARY_PATH", prefix.join("lib")).output().unwrap();
    assert!(out.status.success() && text(&out).contains("to VTEP 0"), "{}", text(&out));
    let pc = std::fs::read_to_string(prefix.join("lib/pkgconfig/overlane.pc")).unwrap();
    assert!(pc.contains(&format!("prefix={}", prefix.display())) && !pc.contains('@'), "{pc}");
}

/// A line of a shell whose words that begin with a variable are one word each, whatever it holds.
fn quote_paths(line: &str) -> String {
    let word = |word: &str| match word.strip_prefix('$') {
        Some(path) if path.starts_with("PREFIX/") || path.starts_with("LIBRARIES/") => format!("\"${path}\""),
        _ => word.to_string(),
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ") + "\n"
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
