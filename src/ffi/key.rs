//! Keys and ranges of keys as they come from C.

use std::ffi::c_void;
use std::ops::Bound;

use crate::stm::KeyRange;

use super::error::Failure;
use super::txn::KHONSU_KEY_MAX_BYTES;

/// # Safety
/// Rule 2 holds for `bytes`.
pub(crate) unsafe fn bytes<'a>(bytes: *const c_void, len: usize, parameter: &str) -> Result<&'a [u8], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    if bytes.is_null() {
        return Err(Failure::invalid_argument(format!("{parameter} is NULL, its length is {len}")));
    }
    if isize::try_from(len).is_err() {
        return Err(Failure::invalid_argument(format!("{parameter} cannot be {len} bytes long")));
    }
    // SAFETY: not NULL, no longer than an object can be, readable by rule 2.
    Ok(unsafe { std::slice::from_raw_parts(bytes.cast(), len) })
}

/// A key of an entry.
///
/// # Safety
/// Rule 2 holds for `key`.
pub(crate) unsafe fn key<'a>(key: *const c_void, len: usize) -> Result<&'a [u8], Failure> {
    // The length comes first: a key of an absurd length is not looked at.
    if len == 0 {
        return Err(Failure::invalid_argument("the key is empty"));
    }
    if len > KHONSU_KEY_MAX_BYTES {
        return Err(Failure::invalid_argument(format!("the key has {len} bytes, more than {KHONSU_KEY_MAX_BYTES}")));
    }
    // SAFETY: rule 2.
    unsafe { bytes(key, len, "key") }
}

/// The keys from `start` to before `end`. NULL with length 0 is no bound; the empty key is before all others.
///
/// # Safety
/// Rule 2 holds for `start` and `end`.
pub(crate) unsafe fn range(
    start: *const c_void,
    start_len: usize,
    end: *const c_void,
    end_len: usize,
) -> Result<KeyRange, Failure> {
    // SAFETY: rule 2.
    let (first, past) = unsafe { (bytes(start, start_len, "start")?, bytes(end, end_len, "end")?) };
    // No key is empty: an empty start excludes nothing.
    let start = if first.is_empty() { Bound::Unbounded } else { Bound::Included(first.to_vec()) };
    let end = if end.is_null() { Bound::Unbounded } else { Bound::Excluded(past.to_vec()) };
    Ok(KeyRange::new(start, end))
}

/// The keys that begin with `prefix`; all of them when it is empty.
///
/// # Safety
/// Rule 2 holds for `prefix`.
pub(crate) unsafe fn prefix(prefix: *const c_void, len: usize) -> Result<KeyRange, Failure> {
    // SAFETY: rule 2.
    Ok(KeyRange::prefix(unsafe { bytes(prefix, len, "prefix")? }))
}

/// 0 is no limit.
pub(crate) fn limit(number: u64) -> Option<u64> {
    (number != 0).then_some(number)
}
