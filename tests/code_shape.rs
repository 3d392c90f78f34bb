//! What the hot functions compile to: from none of them can a panic, the allocator or the standard
//! library be reached.
//!
//! `tests/shape` is compiled for release, and the calls are followed through the relocations of
//! the object files, across crates, as far as they go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::process::Command;

use object::read::archive::ArchiveFile;
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex, SymbolKind};

/// What compiled code may call that is not followed: the memory functions that every Rust target has.
const LEAVES: &[&str] = &["memcpy", "memmove", "memset", "memcmp", "bcmp"];

/// Words in a mangled name that tell of what must not be reached.
const FORBIDDEN: &[&str] =
    &["panic", "unwrap_failed", "expect_failed", "slice_index", "index_fail", "alloc", "3std", "rust_eh"];

struct Code {
    /// Function name -> names of functions and data that its code refers to.
    refers: BTreeMap<String, BTreeSet<String>>,
}

fn compile(manifest: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let target = root.join("target").join("shape");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--quiet", "--manifest-path"])
        .arg(root.join(manifest))
        .arg("--target-dir")
        .arg(&target)
        // The proof is about the profile as written, whatever the caller's environment says.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "{manifest} does not compile");
    target.join("release")
}

impl Code {
    fn read(data: &[u8]) -> Code {
        let mut refers = BTreeMap::new();
        let archive = ArchiveFile::parse(data).unwrap();
        for member in archive.members() {
            let member = member.unwrap();
            let Ok(object) = object::File::parse(member.data(data).unwrap()) else {
                continue;
            };
            // With a section for each function, what a section refers to is what the function does.
            let mut by_section: HashMap<SectionIndex, Vec<String>> = HashMap::new();
            for symbol in object.symbols() {
                if let (Some(section), Ok(name)) = (symbol.section_index(), symbol.name())
                    && !name.is_empty()
                    && symbol.kind() != SymbolKind::Section
                {
                    by_section.entry(section).or_default().push(name.to_owned());
                }
            }
            let names = |index: SectionIndex| by_section.get(&index).cloned().unwrap_or_default();
            for section in object.sections() {
                let mut targets = BTreeSet::new();
                for (_, relocation) in section.relocations() {
                    let RelocationTarget::Symbol(index) = relocation.target() else { continue };
                    let symbol = object.symbol_by_index(index).unwrap();
                    match symbol.name() {
                        Ok(name) if !name.is_empty() && symbol.kind() != SymbolKind::Section => {
                            targets.insert(name.to_owned());
                        }
                        _ => targets.extend(symbol.section_index().map(names).unwrap_or_default()),
                    }
                }
                for name in names(section.index()) {
                    refers.entry(name).or_insert_with(BTreeSet::new).extend(targets.iter().cloned());
                }
            }
        }
        Code { refers }
    }

    /// The first forbidden name that can be reached from `start`, with the way to it.
    fn way_to_forbidden(&self, start: &str) -> Option<Vec<String>> {
        let mut came_from: BTreeMap<String, Option<String>> = BTreeMap::from([(start.to_owned(), None)]);
        let mut next = vec![start.to_owned()];
        while let Some(name) = next.pop() {
            if name != start && FORBIDDEN.iter().any(|f| name.contains(f)) {
                let mut way = vec![name];
                while let Some(Some(before)) = came_from.get(way.last().unwrap()) {
                    way.push(before.clone());
                }
                way.reverse();
                return Some(way);
            }
            if LEAVES.contains(&name.as_str()) {
                continue;
            }
            let targets = self.refers.get(&name).unwrap_or_else(|| panic!("{name} is not in the archive"));
            for target in targets {
                if !came_from.contains_key(target) {
                    came_from.insert(target.clone(), Some(name.clone()));
                    next.push(target.clone());
                }
            }
        }
        None
    }
}

/// The code of a crate whose functions `hot_...` reach nothing that is forbidden.
fn proven(manifest: &str, archive: &str, at_least: usize) -> Code {
    let archive = compile(manifest).join(archive);
    let code = Code::read(&std::fs::read(archive).unwrap());
    let hot: Vec<_> = code.refers.keys().filter(|n| n.starts_with("hot_")).cloned().collect();
    assert!(hot.len() >= at_least, "found only {hot:?}");
    let ways: Vec<_> = hot.iter().filter_map(|name| code.way_to_forbidden(name)).collect();
    let told: Vec<_> = ways.iter().map(|way| way.join("\n    -> ")).collect();
    assert!(told.is_empty(), "\n{}", told.join("\n"));
    code
}

#[test]
fn hot_functions_reach_no_panic_and_no_allocator() {
    let code = proven("tests/shape/Cargo.toml", "liboverlane_shape.a", 20);
    // The walk sees calls: a function that may panic is found out.
    assert!(code.way_to_forbidden("control_may_panic").is_some());
    assert!(code.way_to_forbidden("control_may_allocate").is_some());
}

#[test]
fn the_offloads_reach_no_panic_and_no_allocator() {
    proven("tests/shape/linux/Cargo.toml", "liboverlane_shape_linux.a", 13);
}
