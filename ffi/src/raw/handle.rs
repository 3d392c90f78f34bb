//! The engine behind its handle: one call at a time, and none after a panic.

use core::any::Any;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};

use overlane::engine::{Engine, Heap};

use crate::failure::{Refusal, Text};
use crate::status::*;

/// An engine and what belongs to it. Opaque; one owner; one call at a time.
#[allow(non_camel_case_types)]
pub struct overlane_engine {
    busy: AtomicBool,
    state: UnsafeCell<State>,
}

/// What is behind a handle.
pub(crate) struct State {
    pub(crate) engine: Engine<Heap>,
    error: Text,
    poisoned: bool,
}

// A handle may wander from thread to thread between calls.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<State>();
};

/// An engine that no other call is in.
pub(crate) struct Entered<'c> {
    handle: &'c overlane_engine,
}

/// Enters an engine.
///
/// # Safety
/// Promise 2.
pub(crate) unsafe fn lock<'c>(engine: *const overlane_engine) -> Result<Entered<'c>, i32> {
    if engine.is_null() {
        return Err(OVERLANE_E_NULL);
    }
    if !engine.is_aligned() {
        return Err(OVERLANE_E_ALIGN);
    }
    // SAFETY: not NULL and aligned; by promise 2 it points to a live handle. Calls make shared
    // references to it only.
    let handle = unsafe { &*engine };
    if handle.busy.swap(true, Ordering::Acquire) { Err(OVERLANE_E_BUSY) } else { Ok(Entered { handle }) }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.handle.busy.store(false, Ordering::Release);
    }
}

impl Entered<'_> {
    fn state(&mut self) -> &mut State {
        // SAFETY: whoever has an `Entered` has set `busy`, and only then is the state reached; `&mut
        // self` keeps this one from reaching it twice.
        unsafe { &mut *self.handle.state.get() }
    }

    /// Does a call's work. A panic ends here: the engine is not used again.
    pub(crate) fn run(mut self, work: impl FnOnce(&mut State) -> Result<(), Refusal>) -> i32 {
        let state = self.state();
        if state.poisoned {
            return OVERLANE_E_POISONED;
        }
        match catch_unwind(AssertUnwindSafe(|| work(state))) {
            Ok(Ok(())) => OVERLANE_OK,
            Ok(Err(refusal)) => {
                let code = refusal.failure.code();
                if code != OVERLANE_E_END {
                    state.error.say(refusal);
                }
                code
            }
            Err(payload) => {
                state.poisoned = true;
                state.error.say(format_args!("internal error: {}", message(&*payload)));
                discard(payload);
                OVERLANE_E_INTERNAL
            }
        }
    }

    /// The text of the latest error; of a poisoned engine too.
    pub(crate) fn error(&mut self) -> &str {
        self.state().error.as_str()
    }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "a panic without words",
    }
}

/// Drops what a panic brought. That could panic again; what the second one brings is leaked.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        core::mem::forget(again);
    }
}

/// Does the work of a call that has no engine. A panic ends here.
pub(crate) fn guard(work: impl FnOnce() -> Result<(), Refusal>) -> i32 {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => OVERLANE_OK,
        Ok(Err(refusal)) => refusal.failure.code(),
        Err(payload) => {
            discard(payload);
            OVERLANE_E_INTERNAL
        }
    }
}

/// A handle for C to own.
pub(crate) fn give(engine: Engine<Heap>) -> *mut overlane_engine {
    let state = State { engine, error: Text::default(), poisoned: false };
    Box::into_raw(Box::new(overlane_engine { busy: AtomicBool::new(false), state: UnsafeCell::new(state) }))
}

/// Ends a handle's life; NULL has none. Refused while a call is in it.
///
/// # Safety
/// Promise 2; nobody uses the pointer afterwards.
pub(crate) unsafe fn take_back(engine: *mut overlane_engine) -> i32 {
    if engine.is_null() {
        return OVERLANE_OK;
    }
    // SAFETY: promise 2.
    let entered = match unsafe { lock(engine) } {
        Ok(entered) => entered,
        Err(status) => return status,
    };
    // Nobody enters any more, and the handle is not touched on the way out.
    core::mem::forget(entered);
    // SAFETY: by promise 2 it came from `give`, which made it of a box, and is given back once.
    let handle = unsafe { Box::from_raw(engine) };
    guard(|| {
        drop(handle);
        Ok(())
    })
}
