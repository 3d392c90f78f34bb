//! Making and ending engines; versions, defaults and names.

use core::ffi::{CStr, c_char};

use overlane::engine::Engine;
use overlane::error::{DropReason, PuntReason};

use crate::raw::{self, call, overlane_engine, typed};
use crate::status;
use crate::types::*;
use crate::version::OVERLANE_ABI_VERSION;

/// The version of the ABI of the library that is linked; compare with `OVERLANE_ABI_VERSION`.
#[unsafe(no_mangle)]
pub extern "C" fn overlane_abi_version() -> u32 {
    OVERLANE_ABI_VERSION
}

/// The version of the library that is linked, such as "0.1.0". Never NULL; not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn overlane_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("the version holds a NUL"),
        };
    VERSION.as_ptr()
}

/// The meaning of a status; of an unknown one too. Never NULL; not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn overlane_strerror(status: i32) -> *const c_char {
    status::text(status).as_ptr()
}

/// Names by number, each with a NUL behind it; no name is empty.
type Names = [[u8; 32]; 256];

const fn write_name(mut names: Names, number: u8, name: &str) -> Names {
    let (name, mut i) = (name.as_bytes(), 0);
    assert!(name.len() < 32);
    while i < name.len() {
        names[number as usize][i] = name[i];
        i += 1;
    }
    names
}

macro_rules! names {
    ($reason:ident) => {{
        const NAMES: Names = {
            let (mut names, mut i) = ([[0; 32]; 256], 0);
            while i < $reason::ALL.len() {
                names = write_name(names, $reason::ALL[i].number(), $reason::ALL[i].name());
                i += 1;
            }
            names
        };
        static TABLE: Names = NAMES;
        &TABLE
    }};
}

fn name(names: &'static Names, number: u8) -> *const c_char {
    let name = names.get(usize::from(number)).and_then(|name| CStr::from_bytes_until_nul(name).ok());
    name.filter(|name| !name.is_empty()).unwrap_or(c"unknown").as_ptr()
}

/// The name of a drop reason, such as "unknown_vni"; "unknown" where there is none with this
/// number. Reasons 1 to 31: the bytes are wrong; 32 to 47: the sender is not accepted; 48 to 79:
/// there is nowhere to send it; 80 to 95: a backend could not carry it. Not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn overlane_drop_name(reason: u8) -> *const c_char {
    name(names!(DropReason), reason)
}

/// The name of a punt reason, such as "arp"; "unknown" where there is none with this number. Not to
/// be freed.
#[unsafe(no_mangle)]
pub extern "C" fn overlane_punt_name(reason: u8) -> *const c_char {
    name(names!(PuntReason), reason)
}

/// Fills in the defaults. `size` is `sizeof(*config)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_config_init(config: *mut overlane_config, size: u32) -> i32 {
    call!(config: init(size) => Ok(()))
}

/// Fills in the defaults. `size` is `sizeof(*capacity)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_capacity_init(capacity: *mut overlane_capacity, size: u32) -> i32 {
    call!(capacity: init(size) => Ok(()))
}

/// Fills in the defaults: a bridged VNI that learns and floods. `size` is `sizeof(*config)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_vni_config_init(config: *mut overlane_vni_config, size: u32) -> i32 {
    call!(config: init(size) => Ok(()))
}

/// Fills in the defaults. `size` is `sizeof(*config)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_vtep_config_init(config: *mut overlane_vtep_config, size: u32) -> i32 {
    call!(config: init(size) => Ok(()))
}

/// Fills in the defaults. `size` is `sizeof(*config)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_port_config_init(config: *mut overlane_port_config, size: u32) -> i32 {
    call!(config: init(size) => Ok(()))
}

/// Makes an engine and stores it in `*engine`, or NULL there and a status.
///
/// All memory is taken here. `capacity` may be NULL: the defaults, about 2 MiB. The caller owns the
/// engine and frees it with `overlane_engine_free`.
///
/// `error` and `error_len` lend memory for a text that says what was wrong; NULL and 0 for none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_engine_new(
    config: *const overlane_config,
    capacity: *const overlane_capacity,
    engine: *mut *mut overlane_engine,
    error: *mut c_char,
    error_len: usize,
) -> i32 {
    call!(engine: handle_out, error: text_out(error_len) => {
        error.explain(typed!(config: sized, capacity: sized_or_default => {
            engine.set(raw::give(Engine::with_capacity(config.settings()?, &capacity.amounts()?)?));
            Ok(())
        }))
    })
}

/// Frees an engine. NULL is fine, a poisoned engine too. Refused with `OVERLANE_E_BUSY`, and
/// nothing done, while another thread is in a call on it. The pointer must not be used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_engine_free(engine: *mut overlane_engine) -> i32 {
    raw::free!(engine)
}

/// Writes what the latest call that was refused on this engine was refused for, cut to `len` octets
/// with a NUL at the end, and returns the length of the whole text without the NUL, as snprintf
/// does. Empty where none was refused, and while another thread is in a call on the engine; a call that
/// succeeds leaves it, and so does one that got `OVERLANE_E_BUSY`. NULL engine: 0, nothing written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn overlane_engine_last_error(
    engine: *const overlane_engine,
    text: *mut c_char,
    len: usize,
) -> usize {
    raw::last_error!(engine, text, len)
}
