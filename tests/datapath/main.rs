//! `examples/vtep` under traffic, on every rung of its offloads and beside the kernel's own VXLAN
//! device: what arrives is what was sent, and it survives what is done to it.
//!
//! Each case runs in a process and namespaces of its own; [`site`] draws them. Short by default; the
//! same cases become a long proof by
//!
//! | variable | what it does |
//! |---|---|
//! | `OVERLANE_TRANSFER=1G` | octets of each stream (suffixes K, M, G) |
//! | `OVERLANE_OVERLOAD=600` | seconds of each overload |
//! | `OVERLANE_VTEP=PATH` | the program to test, if not the example of this build |
//!
//! and `-- --include-ignored` runs the whole table instead of a choice of rows. `.ci/datapath` does
//! all of it.

#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod mixed;
#[cfg(target_os = "linux")]
mod relayed;
#[cfg(target_os = "linux")]
mod site;
#[cfg(target_os = "linux")]
mod survival;
#[cfg(target_os = "linux")]
mod tables;
#[cfg(target_os = "linux")]
mod transfers;

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() {
    use overlane_testkit::suite;

    if !suite::is_case() {
        // Once, and not in each case.
        site::program();
    }
    let mut cases = transfers::cases();
    cases.extend(relayed::cases());
    cases.extend(mixed::cases());
    cases.extend(survival::cases());
    cases.extend(tables::cases());
    suite::main(cases.leak())
}
