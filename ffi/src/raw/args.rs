//! Arguments that are pointers: structures with their size, values, places for results, text.

use core::fmt::{self, Write};
use core::marker::PhantomData;

use overlane::addr::MacAddr;

use super::{Plain, Versioned, overlane_engine, sound, sound_slice};
use crate::failure::{Failure, Refusal};

/// No structure of the ABI will ever be so large; a larger `size` is memory that was not filled in.
const LARGEST: usize = 4096;

/// How many bytes of a structure both sides know, if the caller's `size` makes sense.
fn common<T: Versioned>(size: u32, what: &'static str) -> Result<usize, Failure> {
    let known = size_of::<T>();
    let asked = size as usize;
    if asked <= LARGEST && (asked >= known || T::OLDER.contains(&asked)) {
        Ok(asked.min(known))
    } else {
        Err(Failure::Size { what, size, known })
    }
}

/// Reads a structure that starts with its size: what an older caller does not know has its default,
/// what this version does not know must be zero.
///
/// # Safety
/// Promise 1, for as many octets as the size says.
pub(crate) unsafe fn sized<T: Versioned>(ptr: *const T, name: &'static str) -> Result<T, Failure> {
    sound(ptr, name)?;
    // SAFETY: not NULL; aligned for T, whose first field is a u32 (`Versioned`).
    let size = unsafe { ptr.cast::<u32>().read() };
    let common = common::<T>(size, name)?;
    let mut value = T::defaults();
    // SAFETY: both are valid for `common` octets, ours because that is at most its size, the
    // caller's because it is at most `size`; ours was just made. Any bytes are a `Plain` value.
    unsafe { core::ptr::copy_nonoverlapping(ptr.cast::<u8>(), (&raw mut value).cast::<u8>(), common) };
    for at in common..size as usize {
        // SAFETY: within the `size` octets that the caller promises; above the known ones, so this
        // is reached only where there are more.
        if unsafe { ptr.cast::<u8>().add(at).read() } != 0 {
            return Err(Failure::Reserved(name));
        }
    }
    Ok(value)
}

/// The same; NULL means the defaults.
///
/// # Safety
/// As [`sized`].
pub(crate) unsafe fn sized_or_default<T: Versioned>(ptr: *const T, name: &'static str) -> Result<T, Failure> {
    if ptr.is_null() {
        return Ok(T::defaults());
    }
    // SAFETY: the same promise.
    unsafe { sized(ptr, name) }
}

/// A place for a structure that starts with its size.
pub(crate) struct SizedOut<'c, T> {
    ptr: *mut T,
    size: usize,
    call: PhantomData<&'c mut T>,
}

impl<T: Versioned> SizedOut<'_, T> {
    /// Writes as much as the caller knows; `value.size` is the number of octets that were filled
    /// in, or `keep` the caller's, with zeros behind what this version knows.
    fn write(&mut self, value: &T, size: usize) {
        let common = self.size.min(size_of::<T>());
        // SAFETY: the caller's structure is valid for `self.size` octets (promise 1), ours for all
        // of its size; ours is in our own memory. No byte of ours is padding (`Plain`).
        unsafe {
            core::ptr::copy_nonoverlapping((&raw const *value).cast::<u8>(), self.ptr.cast::<u8>(), common);
        }
        // SAFETY: aligned, and its first field is a u32.
        unsafe { self.ptr.cast::<u32>().write(size as u32) };
    }

    /// Writes as much as the caller knows. The structure's size is then what was filled in.
    pub(crate) fn set(&mut self, value: T) {
        let size = self.size.min(size_of::<T>());
        self.write(&value, size);
    }
}

/// A place for a structure whose size the caller has filled in.
///
/// # Safety
/// Promise 1, for as many octets as the size says.
pub(crate) unsafe fn sized_out<'c, T: Versioned>(
    ptr: *mut T,
    name: &'static str,
) -> Result<SizedOut<'c, T>, Failure> {
    sound(ptr, name)?;
    // SAFETY: not NULL; aligned for T, whose first field is a u32 (`Versioned`).
    let size = unsafe { ptr.cast::<u32>().read() };
    common::<T>(size, name)?;
    Ok(SizedOut { ptr, size: size as usize, call: PhantomData })
}

/// Fills a structure with its defaults: what this version does not know with zeros.
///
/// # Safety
/// Promise 1, for `size` octets.
pub(crate) unsafe fn init<T: Versioned>(ptr: *mut T, size: u32, name: &'static str) -> Result<(), Failure> {
    sound(ptr, name)?;
    let common = common::<T>(size, name)?;
    let size = size as usize;
    // SAFETY: behind the common octets, within the `size` octets that the caller promises.
    unsafe { core::ptr::write_bytes(ptr.cast::<u8>().add(common), 0, size - common) };
    SizedOut { ptr, size, call: PhantomData }.write(&T::defaults(), size);
    Ok(())
}

/// Reads a value.
///
/// # Safety
/// Promise 1.
pub(crate) unsafe fn value<T: Plain>(ptr: *const T, name: &'static str) -> Result<T, Failure> {
    sound(ptr, name)?;
    // SAFETY: not NULL, aligned, valid by promise 1; any bytes are a `Plain` value.
    Ok(unsafe { ptr.read() })
}

/// Reads a value that may be left out by NULL.
///
/// # Safety
/// Promise 1.
pub(crate) unsafe fn optional<T: Plain>(ptr: *const T, name: &'static str) -> Result<Option<T>, Failure> {
    if ptr.is_null() {
        return Ok(None);
    }
    // SAFETY: the same promise.
    unsafe { value(ptr, name) }.map(Some)
}

/// Reads the six octets of a MAC address.
///
/// # Safety
/// Promise 1, for six octets.
pub(crate) unsafe fn mac(ptr: *const u8, name: &'static str) -> Result<MacAddr, Failure> {
    // SAFETY: the same promise.
    unsafe { value(ptr.cast::<[u8; 6]>(), name) }.map(MacAddr)
}

/// A place for one value.
pub(crate) struct Out<'c, T> {
    ptr: *mut T,
    call: PhantomData<&'c mut T>,
}

impl<T: Plain> Out<'_, T> {
    pub(crate) fn get(&self) -> T {
        // SAFETY: not NULL, aligned, valid by promise 1; any bytes are a `Plain` value.
        unsafe { self.ptr.read() }
    }

    pub(crate) fn set(&mut self, value: T) {
        // SAFETY: not NULL, aligned, valid for writing by promise 1.
        unsafe { self.ptr.write(value) };
    }
}

/// A place for one value.
///
/// # Safety
/// Promise 1.
pub(crate) unsafe fn out<'c, T: Plain>(ptr: *mut T, name: &'static str) -> Result<Out<'c, T>, Failure> {
    sound(ptr, name)?;
    Ok(Out { ptr, call: PhantomData })
}

/// A place for one value that the caller may not want.
///
/// # Safety
/// Promise 1.
pub(crate) unsafe fn optional_out<'c, T: Plain>(
    ptr: *mut T,
    name: &'static str,
) -> Result<Option<Out<'c, T>>, Failure> {
    if ptr.is_null() {
        return Ok(None);
    }
    // SAFETY: the same promise.
    unsafe { out(ptr, name) }.map(Some)
}

/// A place for the pointer to an engine.
pub(crate) struct HandleOut<'c> {
    ptr: *mut *mut overlane_engine,
    call: PhantomData<&'c mut ()>,
}

impl HandleOut<'_> {
    pub(crate) fn set(&mut self, engine: *mut overlane_engine) {
        // SAFETY: not NULL, aligned, valid for writing by promise 1.
        unsafe { self.ptr.write(engine) };
    }
}

/// A place for the pointer to an engine; it is NULL from here on.
///
/// # Safety
/// Promise 1.
pub(crate) unsafe fn handle_out<'c>(
    ptr: *mut *mut overlane_engine,
    name: &'static str,
) -> Result<HandleOut<'c>, Failure> {
    sound(ptr, name)?;
    let mut out = HandleOut { ptr, call: PhantomData };
    out.set(core::ptr::null_mut());
    Ok(out)
}

/// Elements in the caller's memory. They are copied in and out, never borrowed: whatever overlaps
/// them makes nonsense, not harm.
pub(crate) struct Array<'c, T> {
    ptr: *mut T,
    count: usize,
    call: PhantomData<&'c mut [T]>,
}

impl<T: Plain> Array<'_, T> {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<T> {
        // SAFETY: below the count; sound, and valid by promise 1; any bytes are a `Plain` value.
        (index < self.count).then(|| unsafe { self.ptr.add(index).read() })
    }

    #[inline]
    pub(crate) fn set(&self, index: usize, value: T) {
        if index < self.count {
            // SAFETY: below the count; sound, and valid for writing by promise 1.
            unsafe { self.ptr.add(index).write(value) };
        }
    }
}

/// Elements in the caller's memory.
///
/// # Safety
/// Promise 1, for `count` elements.
pub(crate) unsafe fn array<'c, T: Plain>(
    ptr: *mut T,
    count: usize,
    name: &'static str,
) -> Result<Array<'c, T>, Failure> {
    sound_slice(ptr, count, name)?;
    Ok(Array { ptr, count, call: PhantomData })
}

/// Elements in the caller's memory; none where the pointer is NULL.
///
/// # Safety
/// Promise 1, for `count` elements.
pub(crate) unsafe fn optional_array<'c, T: Plain>(
    ptr: *mut T,
    count: usize,
    name: &'static str,
) -> Result<Option<Array<'c, T>>, Failure> {
    if ptr.is_null() {
        return Ok(None);
    }
    // SAFETY: the same promise.
    unsafe { array(ptr, count, name) }.map(Some)
}

/// A place for text: as much as fits, and a NUL behind it.
pub(crate) struct TextOut<'c> {
    ptr: *mut u8,
    len: usize,
    needed: usize,
    call: PhantomData<&'c mut [u8]>,
}

impl TextOut<'_> {
    /// Writes the text and says how long all of it is, without the NUL.
    pub(crate) fn say(mut self, what: impl fmt::Display) -> usize {
        let _ = write!(self, "{what}");
        let end = self.needed.min(self.len.saturating_sub(1));
        if self.len > 0 {
            // SAFETY: `end` is below `len`; valid for writing by promise 1.
            unsafe { self.ptr.add(end).write(0) };
        }
        self.needed
    }

    /// Hands a result on, and writes what was wrong.
    pub(crate) fn explain(self, result: Result<(), Refusal>) -> Result<(), Refusal> {
        match result {
            Ok(()) => self.say(""),
            Err(refusal) => self.say(refusal),
        };
        result
    }
}

impl Write for TextOut<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        // One octet stays for the NUL.
        let room = self.len.saturating_sub(1).saturating_sub(self.needed);
        let cut = s.len().min(room);
        if cut > 0 {
            // SAFETY: `needed + cut` is below `len`; valid for writing by promise 1. The text is
            // in our own memory.
            unsafe { core::ptr::copy_nonoverlapping(s.as_ptr(), self.ptr.add(self.needed), cut) };
        }
        self.needed = self.needed.saturating_add(s.len());
        Ok(())
    }
}

/// A place for text; it may be NULL where `len` is 0.
///
/// # Safety
/// Promise 1, for `len` octets.
pub(crate) unsafe fn text_out<'c>(
    ptr: *mut core::ffi::c_char,
    len: usize,
    name: &'static str,
) -> Result<TextOut<'c>, Failure> {
    sound_slice(ptr, len, name)?;
    Ok(TextOut { ptr: ptr.cast(), len, needed: 0, call: PhantomData })
}
