//! Keys: bound ones, and how those and ranges of them come from C as bytes.

use std::ffi::c_void;
use std::ops::Bound;

use crate::stm::{BoundKey, KeyRange};

use super::arrow::Batch;
use super::db::khonsu_db;
use super::error::{Failure, khonsu_error};
use super::guard::{guard, guard_or};
use super::handle::{Handle, borrow, into_handle, reclaim};
use super::out::{clear_handle, require, write_if};
use super::status::khonsu_status;
use super::txn::KHONSU_KEY_MAX_BYTES;

/// A key of a database that is looked up once, however often it is read and written: for keys that a program uses again
/// and again, as it uses a variable. Made by khonsu_key_bind, freed by khonsu_key_free; used by the calls whose names end
/// in _bound, in transactions of that database.
///
/// It is a name and no more: the key need not exist, may be deleted and come back meanwhile, and may be used by its
/// bytes beside. It keeps the memory of the database, but does not keep a stored one open.
///
/// Threads: any number at once. Since: 0.1
pub struct khonsu_key {
    _opaque: [u8; 0],
}

impl Handle for khonsu_key {
    type Object = BoundKey<Batch>;
    type Owner = Box<BoundKey<Batch>>;
}

const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<BoundKey<Batch>>();
};

/// Binds a key: it is looked up by the first call that uses it, and not again by later ones.
///
/// @param[in]  db      Not NULL. It may be freed before the key.
/// @param[in]  key     Borrowed for the call, and copied; not NULL.
/// @param[in]  key_len Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
/// @param[out] out     Not NULL. The bound key, owned by the caller: free it with khonsu_key_free. NULL on failure.
/// @param[out] error   May be NULL.
/// @return
/// - KHONSU_STATUS_OK: bound, whether there is such a key or not.
/// - KHONSU_STATUS_INVALID_ARGUMENT: db, key or out is NULL, or key_len is out of range.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_key_bind(
    db: *const khonsu_db,
    key: *const c_void,
    key_len: usize,
    out: *mut *mut khonsu_key,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe {
        clear_handle(out);
        guard(error, || {
            require(out, "out")?;
            let key = self::key(key, key_len)?;
            let bound = Box::new(borrow(db, "db")?.bind(key)?);
            write_if(out, || into_handle(bound));
            Ok(khonsu_status::Ok)
        })
    }
}

/// Frees a bound key. What was written by it is not affected.
///
/// @param[in] key Consumed; NULL does nothing.
///
/// Threads: once, by any thread, when no other uses the handle. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_key_free(key: *mut khonsu_key) {
    // SAFETY: rule 1, and this is the last use.
    guard_or((), || drop(unsafe { reclaim(key) }));
}

/// Keys of a call that reads many.
#[derive(Clone, Copy)]
pub(crate) struct Keys {
    starts: *const *const c_void,
    lengths: *const usize,
}

impl Keys {
    /// Checks all of them.
    ///
    /// # Safety
    /// Rule 2 holds for both arrays of `count` elements, and for each key.
    pub(crate) unsafe fn check(
        starts: *const *const c_void,
        lengths: *const usize,
        count: usize,
    ) -> Result<Self, Failure> {
        if count > 0 && (starts.is_null() || lengths.is_null()) {
            return Err(Failure::invalid_argument("keys or key_lens is NULL"));
        }
        let keys = Keys { starts, lengths };
        for number in 0..count {
            // SAFETY: rule 2.
            unsafe { keys.get(number) }.map_err(|failure| numbered(number, failure))?;
        }
        Ok(keys)
    }

    /// # Safety
    /// As for `check`, and the number is below the count.
    pub(crate) unsafe fn get<'a>(self, number: usize) -> Result<&'a [u8], Failure> {
        // SAFETY: rule 2; unaligned, for a caller who packs its structs.
        unsafe { key(self.starts.add(number).read_unaligned(), self.lengths.add(number).read_unaligned()) }
    }
}

/// Says of which of many keys a failure is.
pub(crate) fn numbered(number: usize, mut failure: Failure) -> Failure {
    failure.message = format!("keys[{number}]: {}", failure.message);
    failure
}

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
#[inline]
pub(crate) unsafe fn key<'a>(key: *const c_void, len: usize) -> Result<&'a [u8], Failure> {
    // A key of an absurd length is not looked at.
    if len == 0 || len > KHONSU_KEY_MAX_BYTES || key.is_null() {
        return Err(no_key(len));
    }
    // SAFETY: not NULL, no longer than an object can be, readable by rule 2.
    Ok(unsafe { std::slice::from_raw_parts(key.cast(), len) })
}

#[cold]
fn no_key(len: usize) -> Failure {
    Failure::invalid_argument(match len {
        0 => "the key is empty".to_owned(),
        1..=KHONSU_KEY_MAX_BYTES => format!("key is NULL, its length is {len}"),
        _ => format!("the key has {len} bytes, more than {KHONSU_KEY_MAX_BYTES}"),
    })
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
