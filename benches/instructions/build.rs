//! Tells the program which compiler makes it, and how: its counts hold for no other.

use std::env;
use std::process::Command;

fn main() {
    let rustc = env::var("RUSTC").expect("cargo says which compiler it runs");
    let out = Command::new(rustc).arg("-V").output().expect("the compiler runs");
    let version = String::from_utf8(out.stdout).expect("a compiler's version is text");
    let target = env::var("TARGET").expect("cargo says for what it compiles");
    let profile = env::var("PROFILE").expect("cargo says how it compiles");
    // Options that change what is compiled; between two of them stands a unit separator.
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default().replace('\u{1f}', " ");
    let build = format!("{} {target} {profile} {flags}", version.trim());
    println!("cargo:rustc-env=OVERLANE_BUILD={}", build.trim_end());
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CARGO_ENCODED_RUSTFLAGS");
}
