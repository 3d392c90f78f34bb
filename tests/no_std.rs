//! The core links and runs without the standard library and without `alloc`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

#[test]
fn a_static_library_with_its_own_panic_handler_links_and_runs() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let target = root.join("target").join("no_std");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--quiet", "--manifest-path"])
        .arg(root.join("tests/no_std/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the core does not compile without std");

    let program = target.join("proof");
    let linked = Command::new("cc")
        .arg(root.join("tests/no_std/main.c"))
        .arg(target.join("release/liboverlane_no_std_proof.a"))
        .arg("-o")
        .arg(&program)
        .status();
    let Ok(linked) = linked else {
        assert!(std::env::var_os("OVERLANE_REQUIRE_CC").is_none(), "no C compiler (cc) to link with");
        // Not by a macro, whose output the test harness keeps to itself.
        let _ = writeln!(std::io::stderr(), "skipped: no_std link proof: no C compiler (cc); 1 skipped");
        return;
    };
    assert!(linked.success(), "the static library does not link");
    assert!(Command::new(program).status().unwrap().success(), "the engine without std gave a wrong answer");
}
