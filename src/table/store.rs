//! Memory for tables.

/// Lends a table its memory: the same slice, of the same length, at every call.
///
/// Implemented for `[T; N]` (the table holds its memory inline), `&mut [T]` (the host lends it: a
/// static, a C caller's block, huge pages) and, with the feature `alloc`, `Box<[T]>` and `Vec<T>`.
pub trait Store<T> {
    /// The memory, to read.
    fn as_slice(&self) -> &[T];
    /// The memory, to change.
    fn as_mut_slice(&mut self) -> &mut [T];
}

impl<T, const N: usize> Store<T> for [T; N] {
    #[inline]
    fn as_slice(&self) -> &[T] {
        self
    }

    #[inline]
    fn as_mut_slice(&mut self) -> &mut [T] {
        self
    }
}

impl<T> Store<T> for &mut [T] {
    #[inline]
    fn as_slice(&self) -> &[T] {
        self
    }

    #[inline]
    fn as_mut_slice(&mut self) -> &mut [T] {
        self
    }
}

#[cfg(feature = "alloc")]
impl<T> Store<T> for alloc::boxed::Box<[T]> {
    #[inline]
    fn as_slice(&self) -> &[T] {
        self
    }

    #[inline]
    fn as_mut_slice(&mut self) -> &mut [T] {
        self
    }
}

#[cfg(feature = "alloc")]
impl<T> Store<T> for alloc::vec::Vec<T> {
    #[inline]
    fn as_slice(&self) -> &[T] {
        self
    }

    #[inline]
    fn as_mut_slice(&mut self) -> &mut [T] {
        self
    }
}
