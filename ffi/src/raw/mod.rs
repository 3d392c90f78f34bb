//! The border to C: every pointer that comes in is checked and given a type here. This is the only
//! room with `unsafe` blocks.
//!
//! What the checks cannot see is the caller's promise, made with every call (`README.md` says it in
//! C's terms):
//!
//! 1. A pointer that is not NULL points to as much valid memory as its type and the length beside
//!    it say, readable, and writable where it is not `const`, until the call returns.
//! 2. An engine pointer came from `overlane_engine_new` and was not freed.
//! 3. The memory of packets is touched by nobody else, in the ranges that the call names, until it
//!    returns. It overlaps no other argument and not the engine.
//!
//! Bytes that C has not written yet are taken as they are: they come from outside of what the
//! compiler can see, and every value of a byte is valid for the types here.
#![allow(unsafe_code)]

mod args;
mod handle;
mod packets;
mod plain;

pub(crate) use args::*;
pub use handle::overlane_engine;
pub(crate) use handle::*;
pub(crate) use packets::*;
pub use plain::Field;
pub(crate) use plain::*;

use crate::failure::Failure;

/// Refuses NULL and what is not aligned.
fn sound<T>(ptr: *const T, name: &'static str) -> Result<(), Failure> {
    if ptr.is_null() {
        Err(Failure::Null(name))
    } else if !ptr.is_aligned() {
        Err(Failure::Align(name))
    } else {
        Ok(())
    }
}

/// The same for `count` elements. Where there are none, any pointer will do.
fn sound_slice<T>(ptr: *const T, count: usize, name: &'static str) -> Result<(), Failure> {
    if count == 0 {
        return Ok(());
    }
    sound(ptr, name)?;
    let octets = count.checked_mul(size_of::<T>()).filter(|n| isize::try_from(*n).is_ok());
    // Nor may the end lie behind the end of the address space.
    octets.and_then(|n| ptr.addr().checked_add(n)).map(|_| ()).ok_or(Failure::Length(name))
}

/// Gives each pointer its type, then does the work.
///
/// `name: how(length)` says how the argument `name` is taken: by which function of [`raw`](crate::raw).
macro_rules! typed {
    ($($name:ident: $how:ident $(($len:expr))?),* => $body:expr) => {
        {
            #[allow(unused_mut)]
            let mut work = || -> Result<(), $crate::failure::Refusal> {
            $(
                // SAFETY: the entry point is `unsafe`: its caller makes the promises of `raw`.
                #[allow(unused)]
                let mut $name = unsafe { $crate::raw::$how($name, $($len,)? stringify!($name)) }?;
            )*
            $body
            };
            work()
        }
    };
}

/// The body of an entry point without an engine.
macro_rules! call {
    ($($args:tt)*) => {
        $crate::raw::guard(|| $crate::raw::typed!($($args)*))
    };
}

/// The body of an entry point: enters the engine, then as [`typed`].
macro_rules! enter {
    ($engine:ident $(, $name:ident: $how:ident $(($len:expr))?)* => |$state:ident| $body:expr) => {
        // SAFETY: the entry point is `unsafe`: its caller makes the promises of `raw`.
        match unsafe { $crate::raw::lock($engine) } {
            Err(status) => status,
            Ok(entered) => {
                entered.run(|$state| $crate::raw::typed!($($name: $how $(($len))?),* => $body))
            }
        }
    };
}

/// Ends an engine's life.
macro_rules! free {
    ($engine:ident) => {
        // SAFETY: the entry point is `unsafe`: its caller makes the promises of `raw`.
        unsafe { $crate::raw::take_back($engine) }
    };
}

/// The length of an engine's error text, which is written to `text`.
macro_rules! last_error {
    ($engine:ident, $text:ident, $len:ident) => {
        // SAFETY: the entry point is `unsafe`: its caller makes the promises of `raw`.
        match unsafe { ($crate::raw::text_out($text, $len, "text"), $crate::raw::lock($engine)) } {
            (Ok(out), Ok(mut entered)) => out.say(entered.error()),
            // Who asks after a call that found the engine busy reads no memory that nobody has written.
            (Ok(out), Err($crate::status::OVERLANE_E_BUSY)) => out.say(""),
            _ => 0,
        }
    };
}

pub(crate) use {call, enter, free, last_error, typed};
