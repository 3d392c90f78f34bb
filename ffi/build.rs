//! Gives the shared library its SONAME, which carries the version of the ABI.

#[path = "src/version.rs"]
mod version;

fn main() {
    println!("cargo::rerun-if-changed=src/version.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        let soname = format!("liboverlane_ffi.so.{}", version::OVERLANE_ABI_VERSION);
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{soname}");
    }
}
