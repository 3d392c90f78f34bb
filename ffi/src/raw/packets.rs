//! Packets in the caller's memory.

use core::marker::PhantomData;

use super::{Array, array, sound, sound_slice};
use crate::failure::Failure;
use crate::types::overlane_buffer;

/// Octets to read.
///
/// # Safety
/// Promise 1, for `len` octets, and that nobody writes to them meanwhile.
pub(crate) unsafe fn bytes<'c>(ptr: *const u8, len: usize, name: &'static str) -> Result<&'c [u8], Failure> {
    sound_slice(ptr, len, name)?;
    if len == 0 {
        return Ok(&[]);
    }
    // SAFETY: not NULL, no longer than memory can be; valid, and left alone, by the promise.
    Ok(unsafe { core::slice::from_raw_parts(ptr, len) })
}

/// Octets of a packet.
///
/// # Safety
/// Promises 1 and 3, for `len` octets.
pub(crate) unsafe fn packet<'c>(
    ptr: *mut u8,
    len: usize,
    name: &'static str,
) -> Result<&'c mut [u8], Failure> {
    sound_slice(ptr, len, name)?;
    if len == 0 {
        return Ok(&mut []);
    }
    // SAFETY: not NULL, no longer than memory can be; valid and nobody else's by the promises.
    Ok(unsafe { core::slice::from_raw_parts_mut(ptr, len) })
}

/// The place of one packet and its headroom in the caller's memory.
#[derive(Clone, Copy)]
pub(crate) struct Window<'c> {
    ptr: *mut u8,
    len: usize,
    call: PhantomData<&'c ()>,
}

/// The right to touch packets, which a call has once.
pub(crate) struct Turn<'c>(PhantomData<&'c mut [u8]>);

impl Turn<'_> {
    /// Packets to work on together. There is one group at a time.
    pub(crate) fn group(&mut self) -> Group<'_> {
        Group { end: 0, turn: PhantomData }
    }
}

/// Packets that lie one behind the other in memory and so do not overlap.
pub(crate) struct Group<'g> {
    end: usize,
    turn: PhantomData<&'g mut [u8]>,
}

impl<'g> Group<'g> {
    /// The octets of a window, if it lies behind all that the group has given out.
    #[inline]
    pub(crate) fn take(&mut self, window: &Window<'_>) -> Option<&'g mut [u8]> {
        let start = window.ptr.addr();
        if start < self.end {
            return None;
        }
        self.end = start.checked_add(window.len)?;
        // SAFETY: a window is not NULL and lies in memory that by promises 1 and 3 is valid and
        // nobody else's during the call, so longer than 'g, for which the call's one turn is borrowed.
        // What the group gave out before ends at or before `start`, and other groups are gone.
        Some(unsafe { core::slice::from_raw_parts_mut(window.ptr, window.len) })
    }
}

/// Memory with packets in it.
pub(crate) struct Arena<'c> {
    base: *mut u8,
    len: usize,
    call: PhantomData<&'c ()>,
}

impl<'c> Arena<'c> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The octets from `start` to `end`, if they are there.
    #[inline]
    pub(crate) fn window(&self, start: usize, end: usize) -> Option<Window<'c>> {
        if start > end || end > self.len {
            return None;
        }
        // SAFETY: within the `len` octets that promise 1 says are there.
        let ptr = unsafe { self.base.add(start) };
        Some(Window { ptr, len: end - start, call: PhantomData })
    }
}

/// Memory with packets in it.
///
/// # Safety
/// Promises 1 and 3, for `len` octets, and that a call asks once.
pub(crate) unsafe fn arena<'c>(
    ptr: *mut u8,
    len: usize,
    name: &'static str,
) -> Result<(Arena<'c>, Turn<'c>), Failure> {
    sound(ptr, name)?;
    sound_slice(ptr, len, name)?;
    Ok((Arena { base: ptr, len, call: PhantomData }, Turn(PhantomData)))
}

/// Packets in buffers of their own.
pub(crate) struct Buffers<'c>(Array<'c, overlane_buffer>);

impl<'c> Buffers<'c> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// An element, and the whole of its buffer.
    pub(crate) fn get(&self, index: usize) -> Option<Result<(overlane_buffer, Window<'c>), Failure>> {
        let buffer = self.0.get(index)?;
        let checked = sound(buffer.data, "data").and(sound_slice(buffer.data, buffer.capacity, "capacity"));
        Some(checked.map(|()| (buffer, Window { ptr: buffer.data, len: buffer.capacity, call: PhantomData })))
    }

    pub(crate) fn set(&self, index: usize, buffer: overlane_buffer) {
        self.0.set(index, buffer);
    }
}

/// Packets in buffers of their own.
///
/// # Safety
/// Promise 1, for `count` elements; promises 1 and 3 for each buffer; and that a call asks once.
pub(crate) unsafe fn buffers<'c>(
    ptr: *mut overlane_buffer,
    count: usize,
    name: &'static str,
) -> Result<(Buffers<'c>, Turn<'c>), Failure> {
    // SAFETY: the same promise.
    let array = unsafe { array(ptr, count, name) }?;
    Ok((Buffers(array), Turn(PhantomData)))
}
