//! Out-parameters, and Arrow structs that change hands.
//!
//! Arrow structs are read and written unaligned: a struct inside a packed one costs nothing more, and is no undefined
//! behaviour.

use super::arrow::{ArrowArray, ArrowArrayStream, ArrowSchema};
use super::error::Failure;

/// An Arrow struct, which is free to hold nothing (its `release` is NULL).
pub(crate) trait ArrowStruct: Sized {
    fn released() -> Self;
}

impl ArrowStruct for ArrowArray {
    fn released() -> Self {
        ArrowArray::released()
    }
}

impl ArrowStruct for ArrowSchema {
    fn released() -> Self {
        ArrowSchema::released()
    }
}

impl ArrowStruct for ArrowArrayStream {
    fn released() -> Self {
        ArrowArrayStream::released()
    }
}

/// Moves the caller's struct out and leaves a released one; None for NULL. Dropping the result releases it.
///
/// # Safety
/// Rule 4 holds for `source`.
pub(crate) unsafe fn take<T: ArrowStruct>(source: *mut T) -> Option<T> {
    if source.is_null() {
        return None;
    }
    // SAFETY: rule 4; what is moved out is overwritten, so that there is one owner.
    unsafe {
        let moved = source.read_unaligned();
        source.write_unaligned(T::released());
        Some(moved)
    }
}

/// The struct that `take` moved out of the named parameter.
pub(crate) fn given<T>(moved: Option<T>, parameter: &str) -> Result<T, Failure> {
    moved.ok_or_else(|| null(parameter))
}

/// Empties the caller's struct, which may be uninitialised memory: what it held is not released.
///
/// # Safety
/// Rule 3 holds for `out`, if it is not NULL.
pub(crate) unsafe fn clear<T: ArrowStruct>(out: *mut T) {
    // SAFETY: rule 3.
    unsafe { write_if(out, T::released) };
}

/// # Safety
/// Rule 3 holds for `out`, if it is not NULL.
pub(crate) unsafe fn clear_handle<T>(out: *mut *mut T) {
    // SAFETY: rule 3.
    unsafe { write_if(out, std::ptr::null_mut) };
}

/// Fails for a required out-parameter that is NULL.
#[inline]
pub(crate) fn require<T>(out: *mut T, parameter: &str) -> Result<(), Failure> {
    if out.is_null() { Err(null(parameter)) } else { Ok(()) }
}

#[cold]
fn null(parameter: &str) -> Failure {
    Failure::invalid_argument(format!("{parameter} is NULL"))
}

/// Writes what `value` makes, unless `out` is NULL.
///
/// # Safety
/// Rule 3 holds for `out`, if it is not NULL.
pub(crate) unsafe fn write_if<T>(out: *mut T, value: impl FnOnce() -> T) {
    if !out.is_null() {
        // SAFETY: rule 3.
        unsafe { out.write_unaligned(value()) };
    }
}

/// Writes the first `size` bytes of `value`: a caller compiled with an older header has a shorter struct, one compiled
/// with a newer header a longer one.
///
/// # Safety
/// Rule 3 holds for the first `size` bytes behind `out`, if it is not NULL.
pub(crate) unsafe fn write_sized<T: Copy>(out: *mut T, size: usize, value: &T) -> Result<(), Failure> {
    require(out, "out")?;
    if size == 0 {
        return Err(Failure::invalid_argument("out_size is 0"));
    }
    let size = size.min(size_of::<T>());
    // SAFETY: rule 3 for the target; the source is at least `size` bytes long, and the two cannot overlap.
    unsafe { std::ptr::copy_nonoverlapping(std::ptr::from_ref(value).cast::<u8>(), out.cast::<u8>(), size) };
    Ok(())
}

/// The message of an integer that stands for no constant of its enum.
pub(crate) fn unknown_constant(parameter: &str, number: i32, kind: &str) -> Failure {
    Failure::invalid_argument(format!("{parameter} {number} is no {kind}"))
}

/// A truth value that came as an integer.
pub(crate) fn truth(parameter: &str, number: i32) -> Result<bool, Failure> {
    match number {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Failure::invalid_argument(format!("{parameter} is {number}, neither 0 nor 1"))),
    }
}
