//! Where the libraries are, and how C programs are built against them.

#![allow(dead_code)] // each test program uses a part

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The directory of the crate.
pub const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// The repository's directory.
pub fn root() -> PathBuf {
    Path::new(CRATE).join("..")
}

/// Where Cargo put the library that this test was built with, in all its forms.
pub fn libraries() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_path_buf()
}

/// The shared library.
pub fn shared() -> PathBuf {
    libraries().join("liboverlane_ffi.so")
}

/// Says visibly that something could not be tried. Where `OVERLANE_REQUIRE_CC` is 1, that is a failure.
pub fn skip(what: &str, why: &str) {
    say_skipped(what, why);
    assert!(std::env::var("OVERLANE_REQUIRE_CC").as_deref() != Ok("1"), "skipped: {what}: {why}");
}

/// The same for what is not required. Straight to standard error: tests' prints are kept back.
pub fn say_skipped(what: &str, why: &str) {
    let _ = std::io::stderr().write_all(format!("skipped: {what}: {why}\n").as_bytes());
}

/// A compiler, as the environment or common use names it.
pub fn compiler(variable: &str, usual: &[&str]) -> Option<String> {
    let named = std::env::var(variable).ok().into_iter();
    named
        .chain(usual.iter().map(|s| (*s).to_string()))
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|out| out.status.success()))
}

/// The two languages that the header is for.
#[derive(Clone, Copy, PartialEq)]
pub enum Language {
    C99,
    Cpp17,
}

/// The two ways to link.
#[derive(Clone, Copy, PartialEq)]
pub enum Linkage {
    Static,
    Shared,
}

/// Builds a program and gives the path of it; `None` where there is no compiler.
pub fn build(source: &Path, language: Language, linkage: Linkage) -> Option<PathBuf> {
    let (cc, flags) = match language {
        Language::C99 => (compiler("CC", &["cc", "gcc", "clang"]), ["-std=c99", "-xc"]),
        Language::Cpp17 => (compiler("CXX", &["g++", "c++", "clang++"]), ["-std=c++17", "-xc++"]),
    };
    let stem = source.file_stem().unwrap().to_str().unwrap();
    let Some(cc) = cc else {
        skip(stem, if language == Language::C99 { "no cc" } else { "no c++" });
        return None;
    };
    // Tests run side by side: a directory for each.
    let test = std::thread::current().name().unwrap_or("main").to_string();
    let how = if linkage == Linkage::Static { "static" } else { "shared" };
    let dir =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(test).join(format!("{stem}-{}-{how}", &flags[1][2..]));
    std::fs::create_dir_all(&dir).unwrap();
    let out = dir.join(stem);
    let mut command = Command::new(&cc);
    command.args(flags).args(["-pedantic", "-Wall", "-Wextra", "-Werror", "-g"]);
    command.arg("-I").arg(root().join("include")).arg("-o").arg(&out).arg(source).arg("-xnone");
    match linkage {
        Linkage::Static => {
            let native = std::fs::read_to_string(Path::new(CRATE).join("native-libs.txt")).unwrap();
            command.arg(libraries().join("liboverlane_ffi.a")).args(native.split_whitespace());
        }
        Linkage::Shared => {
            // As it is installed: a file by the name of the SONAME, and a link for the linker.
            for name in ["liboverlane_ffi.so", &format!("liboverlane_ffi.so.{}", version())] {
                let link = dir.join(name);
                let _ = std::fs::remove_file(&link);
                std::os::unix::fs::symlink(shared(), link).unwrap();
            }
            command.arg("-L").arg(&dir).arg("-loverlane_ffi").arg(format!("-Wl,-rpath,{}", dir.display()));
        }
    }
    // Sanitizers, for instance.
    command.args(std::env::var("OVERLANE_CFLAGS").unwrap_or_default().split_whitespace());
    let built = command.output().unwrap();
    assert!(built.status.success(), "{command:?}\n{}", text(&built));
    Some(out)
}

pub fn version() -> u32 {
    overlane_ffi::version::OVERLANE_ABI_VERSION
}

/// What a program wrote, in words for a failed assertion.
pub fn text(out: &Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    format!("{}\n{stdout}{stderr}", out.status)
}
