//! The ABI is what `abi.golden` says: constants, structures, functions, and what the shared library
//! exports. A line that goes or changes breaks programs and raises `OVERLANE_ABI_VERSION`; new lines do
//! not. `OVERLANE_BLESS=1 cargo test -p overlane-ffi --test abi` writes the file anew.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod common;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use common::*;
use object::read::elf::ElfFile64;
use object::{Object, elf};

/// The header without its comments, one declaration a line.
fn declarations() -> Vec<String> {
    let header = std::fs::read_to_string(root().join("include/overlane.h")).unwrap();
    let code = header.lines().map(|line| line.split("//").next().unwrap_or(""));
    let code: Vec<&str> = code.filter(|line| !line.trim_start().starts_with(['*', '/'])).collect();
    let mut found: Vec<String> = code
        .iter()
        .filter(|line| line.starts_with("#define OVERLANE_") && line.split(' ').count() > 2)
        .map(|line| line.to_string())
        .collect();
    let code = code.iter().filter(|line| !line.starts_with('#'));
    let code = code.map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    for piece in code.split(';') {
        if let (Some(at), false) = (piece.find("("), piece.contains('{') && !piece.contains("extern")) {
            let start = piece[..at].rfind('{').map_or(0, |brace| brace + 1);
            found.push(format!("{};", piece[start..].trim()));
        }
    }
    found
}

/// The name of a function, from its declaration.
fn name(declaration: &str) -> Option<String> {
    let (before, _) = declaration.split_once('(')?;
    before.rsplit([' ', '*']).next().map(str::to_string)
}

#[test]
fn the_abi_is_the_golden_one() {
    let mut is = String::new();
    for declaration in declarations() {
        writeln!(is, "{declaration}").unwrap();
    }
    for (name, size, align, fields) in overlane_ffi::layouts() {
        writeln!(is, "struct {name}: size {size}, align {align}").unwrap();
        for (field, offset, size) in *fields {
            writeln!(is, "  {name}.{field}: offset {offset}, size {size}").unwrap();
        }
    }
    let path = Path::new(CRATE).join("abi.golden");
    if std::env::var_os("OVERLANE_BLESS").is_some_and(|v| v == "1") {
        std::fs::write(&path, &is).unwrap();
        return;
    }
    let was = std::fs::read_to_string(&path).unwrap_or_default();
    let lines = |text: &str| text.lines().map(str::to_string).collect::<BTreeSet<_>>();
    let (was, is) = (lines(&was), lines(&is));
    let gone: Vec<_> = was.difference(&is).collect();
    let new: Vec<_> = is.difference(&was).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "gone or changed (raise OVERLANE_ABI_VERSION): {gone:#?}\nnew: {new:#?}\nthen OVERLANE_BLESS=1"
    );
}

#[test]
fn the_shared_library_exports_what_the_header_declares_and_nothing_else() {
    let bytes = std::fs::read(shared()).unwrap();
    let library = ElfFile64::<object::Endianness>::parse(&*bytes).unwrap();
    let symbols = library.exports().unwrap();
    let exported: BTreeSet<String> =
        symbols.map(|e| String::from_utf8_lossy(e.unwrap().name().name().unwrap()).into_owned()).collect();
    let declared: BTreeSet<String> = declarations().iter().filter_map(|d| name(d)).collect();
    assert_eq!(exported, declared);
    assert!(declared.len() > 40 && declared.iter().all(|name| name.starts_with("overlane_")));
}

#[test]
fn the_soname_carries_the_version_of_the_abi() {
    let bytes = std::fs::read(shared()).unwrap();
    let library = ElfFile64::<object::Endianness>::parse(&*bytes).unwrap();
    let table = library.elf_dynamic_table().unwrap();
    let soname = table.iter().find(|d| d.tag == elf::DT_SONAME).map(|d| table.string(d).unwrap());
    assert_eq!(soname, Some(format!("liboverlane_ffi.so.{}", version()).as_bytes()));
}

#[test]
fn every_status_of_the_header_has_a_text() {
    let statuses: Vec<(String, i32)> = declarations()
        .iter()
        .filter_map(|line| line.strip_prefix("#define OVERLANE_E_").and_then(|rest| rest.split_once(' ')))
        .map(|(name, number)| (name.to_string(), number.trim().parse().unwrap()))
        .collect();
    assert!(statuses.len() > 50);
    for (name, status) in statuses {
        let text = overlane_ffi::entry::overlane_strerror(status);
        let unknown = overlane_ffi::entry::overlane_strerror(1);
        assert!(status < 0 && text != unknown, "{name} ({status}) has no text");
    }
}

/// Comments apart, the word stands outside of `raw` only where an entry point is declared.
#[test]
fn unsafe_blocks_are_in_raw_alone() {
    let mut folders = vec![Path::new(CRATE).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("raw") {
                    folders.push(path);
                }
                continue;
            }
            if path.ends_with("src/tests.rs") {
                continue;
            }
            for (n, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
                let code = line.split("//").next().unwrap();
                let declares = [
                    "#[unsafe(no_mangle)]",
                    "pub unsafe extern \"C\" fn ",
                    "allow(unsafe_code)",
                    "deny(unsafe_code)",
                ];
                let told = declares.iter().any(|d| code.contains(d));
                assert!(!code.contains("unsafe") || told, "{}:{}: {line}", path.display(), n + 1);
            }
        }
    }
}
