//! The arguments of `examples/vtep`. Its tests stand beside them; an example that is a test target
//! itself would not be built as a program, which the tests against the kernel run.
#![cfg(target_os = "linux")]

#[allow(dead_code)] // the program uses what the tests do not
#[path = "../examples/vtep/args.rs"]
mod args;
#[path = "../examples/vtep/user.rs"]
mod user;
