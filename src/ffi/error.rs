//! Failures inside, error objects outside.

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ops::{Bound, Deref, DerefMut};

use crate::stm;

use super::guard::guard_or;
use super::handle::{Handle, borrow, reclaim};
use super::out::write_sized;
use super::status::khonsu_status;
use super::two_phase_commit::khonsu_decision;

/// What an export failed with: a box, so that results, which are mostly good, are short.
#[derive(Clone, Debug)]
pub struct Failure(Box<Details>);

/// What there is to say about a failure.
#[derive(Clone, Debug)]
pub struct Details {
    /// The status that the call returns; never OK, and NOT_FOUND only on the way to an outcome.
    pub status: khonsu_status,
    /// What happened. Empty for conflicts: their text is made only when somebody takes the error object.
    pub message: String,
    /// The conflicts, for status CONFLICT.
    pub conflicts: Vec<stm::Conflict>,
    /// How a prepared transaction was decided, for statuses ALREADY_DECIDED and HEURISTIC.
    pub decision: Option<stm::Decision>,
}

impl Deref for Failure {
    type Target = Details;

    fn deref(&self) -> &Details {
        &self.0
    }
}

impl DerefMut for Failure {
    fn deref_mut(&mut self) -> &mut Details {
        &mut self.0
    }
}

impl Failure {
    #[cold]
    pub(crate) fn new(status: khonsu_status, message: impl Into<String>) -> Self {
        Failure(Box::new(Details { status, message: message.into(), conflicts: Vec::new(), decision: None }))
    }

    fn with_conflicts(conflicts: Vec<stm::Conflict>) -> Self {
        let mut failure = Self::new(khonsu_status::Conflict, "");
        failure.conflicts = conflicts;
        failure
    }

    fn decided(status: khonsu_status, decision: stm::Decision, message: impl Into<String>) -> Self {
        let mut failure = Self::new(status, message);
        failure.decision = Some(decision);
        failure
    }

    pub(crate) fn into_details(self) -> Details {
        *self.0
    }

    pub(crate) fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(khonsu_status::InvalidArgument, message)
    }

    pub(crate) fn invalid_state(message: impl Into<String>) -> Self {
        Self::new(khonsu_status::InvalidState, message)
    }

    pub(crate) fn schema_mismatch(message: impl Into<String>) -> Self {
        Self::new(khonsu_status::SchemaMismatch, message)
    }

    pub(crate) fn limit_exceeded(message: impl Into<String>) -> Self {
        Self::new(khonsu_status::LimitExceeded, message)
    }

    pub(crate) fn storage(message: impl Into<String>) -> Self {
        Self::new(khonsu_status::Storage, message)
    }

    pub(crate) fn corruption(message: impl Into<String>) -> Self {
        Self::new(khonsu_status::Corruption, message)
    }

    /// `text` is that of the panic.
    pub(crate) fn panic(text: impl std::fmt::Display) -> Self {
        Self::new(khonsu_status::Panic, format!("panic: {text}"))
    }

    pub(crate) fn text(&self) -> Cow<'_, str> {
        if self.message.is_empty() && self.status == khonsu_status::Conflict {
            return stm::Error::Conflict(self.conflicts.clone()).to_string().into();
        }
        self.message.as_str().into()
    }

    pub(crate) fn into_object(self) -> ErrorObject {
        // A message may quote bytes of the caller, but a C string ends at the first NUL.
        let text = self.text().replace('\0', "\\0");
        ErrorObject {
            status: self.status,
            message: CString::new(text).unwrap_or_default(),
            decision: self.decision.map_or(0, |decision| khonsu_decision::from(decision) as i32),
            conflicts: self.into_details().conflicts.into_iter().map(ConflictRecord::from).collect(),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text())
    }
}

impl std::error::Error for Failure {}

impl From<stm::Error> for Failure {
    #[cold]
    fn from(error: stm::Error) -> Self {
        match error {
            stm::Error::Conflict(conflicts) => Self::with_conflicts(conflicts),
            stm::Error::InvalidArgument(text) => Self::invalid_argument(text),
            stm::Error::InvalidState(text) => Self::invalid_state(text),
            stm::Error::SchemaMismatch(text) => Self::schema_mismatch(text),
            stm::Error::LimitExceeded(text) => Self::limit_exceeded(text),
            stm::Error::Timeout(text) => Self::new(khonsu_status::Timeout, text),
            stm::Error::Cancelled(text) => Self::new(khonsu_status::Cancelled, text),
            stm::Error::Storage(text) => Self::storage(text),
            stm::Error::Corruption(text) => Self::corruption(text),
            stm::Error::Locked(text) => Self::new(khonsu_status::Locked, text),
            stm::Error::NotDurable(text) => Self::new(khonsu_status::NotDurable, text),
            stm::Error::Duplicate(text) => Self::new(khonsu_status::Duplicate, text),
            stm::Error::UnknownId(text) => Self::new(khonsu_status::NotFound, text),
            stm::Error::Busy(text) => Self::new(khonsu_status::Busy, text),
            stm::Error::AlreadyDecided(ref outcome) => {
                Self::decided(khonsu_status::AlreadyDecided, outcome.decision, error.to_string())
            }
            stm::Error::Heuristic(ref outcome) => {
                Self::decided(khonsu_status::Heuristic, outcome.decision, error.to_string())
            }
        }
    }
}

/// Of the failures of batches, for storages, which know no others.
impl From<Failure> for stm::Error {
    fn from(failure: Failure) -> Self {
        let text = failure.text().into_owned();
        match failure.status {
            khonsu_status::Conflict => Self::Conflict(failure.into_details().conflicts),
            khonsu_status::Timeout => Self::Timeout(text),
            khonsu_status::Cancelled => Self::Cancelled(text),
            khonsu_status::SchemaMismatch => Self::SchemaMismatch(text),
            khonsu_status::LimitExceeded => Self::LimitExceeded(text),
            khonsu_status::Storage => Self::Storage(text),
            khonsu_status::Corruption => Self::Corruption(text),
            khonsu_status::Locked => Self::Locked(text),
            _ => Self::InvalidArgument(text),
        }
    }
}

/// What a failed call tells beyond its status: a message, and for conflicts what got in the way.
///
/// A call that takes "khonsu_error **error" writes it always: an object that the caller owns when it fails, NULL when
/// it returns KHONSU_STATUS_OK or KHONSU_STATUS_NOT_FOUND. Pass NULL for error to go without. Free it with
/// khonsu_error_free.
///
/// Threads: immutable; any number of threads may read it at once. Since: 0.1
pub struct khonsu_error {
    _opaque: [u8; 0],
}

/// The object behind a `khonsu_error`.
pub(crate) struct ErrorObject {
    status: khonsu_status,
    message: CString,
    conflicts: Vec<ConflictRecord>,
    /// A khonsu_decision, or 0.
    decision: i32,
}

impl Handle for khonsu_error {
    type Object = ErrorObject;
    type Owner = Box<ErrorObject>;
}

/// A conflict with the bounds of its range in the one form that C sees: the start in, the end out.
struct ConflictRecord {
    kind: khonsu_conflict_kind,
    key: Vec<u8>,
    range: Option<RangeRecord>,
    version: u64,
    holder: Option<stm::GlobalId>,
}

struct RangeRecord {
    start: Option<Vec<u8>>,
    end: Option<Vec<u8>>,
}

impl From<stm::Conflict> for ConflictRecord {
    fn from(conflict: stm::Conflict) -> Self {
        // The next key after k, bytewise, is k with a zero byte behind it.
        let next = |mut key: Vec<u8>| {
            key.push(0);
            key
        };
        let range = conflict.range.map(|range| {
            let start = match range.start {
                Bound::Included(key) if key.is_empty() => None,
                Bound::Included(key) => Some(key),
                Bound::Excluded(key) => Some(next(key)),
                Bound::Unbounded => None,
            };
            let end = match range.end {
                Bound::Included(key) => Some(next(key)),
                Bound::Excluded(key) => Some(key),
                Bound::Unbounded => None,
            };
            RangeRecord { start, end }
        });
        ConflictRecord {
            kind: match conflict.kind {
                stm::ConflictKind::WriteWrite => khonsu_conflict_kind::WriteWrite,
                stm::ConflictKind::ReadWrite => khonsu_conflict_kind::ReadWrite,
                stm::ConflictKind::Phantom => khonsu_conflict_kind::Phantom,
                stm::ConflictKind::Prepared => khonsu_conflict_kind::Prepared,
            },
            key: conflict.key,
            range,
            version: conflict.version,
            holder: conflict.holder,
        }
    }
}

/// What another transaction did that this one could not be ordered with.
///
/// Since: 0.1
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum khonsu_conflict_kind {
    /// It committed a key that this transaction writes, since this one last read the key, or, unread, since this one
    /// began.
    WriteWrite = 1,
    /// It overwrote a key that this transaction read.
    ReadWrite = 2,
    /// It changed a range that this transaction scanned, or a key that this one found absent.
    Phantom = 3,
    /// It holds the key: in doubt between the two phases of its commit (the global id says which), or with a
    /// reservation after many conflicts.
    Prepared = 4,
}

/// One conflict, as khonsu_error_conflict writes it. Its pointers are borrowed from the error object.
///
/// Later versions may add fields at the end; the size given to khonsu_error_conflict says which ones the caller knows.
///
/// Since: 0.1
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct khonsu_conflict {
    /// A khonsu_conflict_kind.
    pub kind: i32,
    /// 1: the key lies in a range that this transaction scanned, and the range fields say which; 0: they are NULL and
    /// 0.
    pub has_range: i32,
    /// The key that the other transaction changed; not terminated by a NUL. Valid until the error is freed.
    pub key: *const c_void,
    /// Bytes of key.
    pub key_len: usize,
    /// The first key of the range, itself in it; NULL: it starts at the first key of all. Valid until the error is
    /// freed.
    pub range_start: *const c_void,
    /// Bytes of range_start.
    pub range_start_len: usize,
    /// The key that the range ends before; NULL: it goes to the last key of all. Valid until the error is freed.
    pub range_end: *const c_void,
    /// Bytes of range_end.
    pub range_end_len: usize,
    /// The commit version of the other transaction; 0 when it is unknown.
    pub version: u64,
    /// For KHONSU_CONFLICT_KIND_PREPARED, the global id of the transaction in doubt that holds the key; not terminated
    /// by a NUL. NULL where there is none. Valid until the error is freed.
    pub global_id: *const c_void,
    /// Bytes of global_id.
    pub global_id_len: usize,
}

impl From<&ConflictRecord> for khonsu_conflict {
    fn from(record: &ConflictRecord) -> Self {
        let bytes = |bytes: Option<&[u8]>| match bytes {
            Some(bytes) => (bytes.as_ptr().cast::<c_void>(), bytes.len()),
            None => (std::ptr::null(), 0),
        };
        let (start, end) = match &record.range {
            Some(range) => (range.start.as_deref(), range.end.as_deref()),
            None => (None, None),
        };
        let (key, key_len) = bytes(Some(&record.key));
        let (range_start, range_start_len) = bytes(start);
        let (range_end, range_end_len) = bytes(end);
        let (global_id, global_id_len) = bytes(record.holder.as_ref().map(stm::GlobalId::as_bytes));
        khonsu_conflict {
            kind: record.kind as i32,
            has_range: record.range.is_some().into(),
            key,
            key_len,
            range_start,
            range_start_len,
            range_end,
            range_end_len,
            version: record.version,
            global_id,
            global_id_len,
        }
    }
}

/// The status that the failed call returned.
///
/// @param[in] error NULL for no error.
/// @return The status; KHONSU_STATUS_OK for NULL.
///
/// Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_error_status(error: *const khonsu_error) -> khonsu_status {
    guard_or(khonsu_status::Panic, || {
        // SAFETY: rule 1; error objects are never changed.
        unsafe { borrow(error, "error") }.map_or(khonsu_status::Ok, |error| error.status)
    })
}

/// What happened, for people to read: English, UTF-8, without a final full stop or newline. Its wording may change.
///
/// @param[in] error NULL for no error.
/// @return A string that is valid until the error is freed; "" for NULL; never NULL.
///
/// Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_error_message(error: *const khonsu_error) -> *const c_char {
    let none: &CStr = c"";
    guard_or(none.as_ptr(), || {
        // SAFETY: rule 1; error objects are never changed.
        unsafe { borrow(error, "error") }.map_or(none.as_ptr(), |error| error.message.as_ptr())
    })
}

/// How many conflicts the error reports.
///
/// @param[in] error NULL for no error.
/// @return Their number: 0 for NULL, for every status but KHONSU_STATUS_CONFLICT, and for a KHONSU_STATUS_CONFLICT that
///         came from a function given to khonsu_db_transact.
///
/// Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_error_conflict_count(error: *const khonsu_error) -> usize {
    guard_or(0, || {
        // SAFETY: rule 1; error objects are never changed.
        unsafe { borrow(error, "error") }.map_or(0, |error| error.conflicts.len())
    })
}

/// Writes one of the conflicts that the error reports.
///
/// @param[in]  error    Not NULL.
/// @param[in]  index    From 0 to before khonsu_error_conflict_count.
/// @param[out] out      Not NULL. The first out_size bytes of a khonsu_conflict are written, no more than its size.
///                      What its pointers point to is borrowed, and valid until the error is freed.
/// @param[in]  out_size sizeof(khonsu_conflict) as the caller knows it; not 0.
/// @return
/// - KHONSU_STATUS_OK: written.
/// - KHONSU_STATUS_INVALID_ARGUMENT: error or out is NULL, out_size is 0, or there is no such index; out is not
///   written.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_error_conflict(
    error: *const khonsu_error,
    index: usize,
    out: *mut khonsu_conflict,
    out_size: usize,
) -> khonsu_status {
    guard_or(khonsu_status::Panic, || {
        // SAFETY: rules 1 and 3; error objects are never changed.
        let written = unsafe {
            borrow(error, "error").and_then(|error| {
                let record = error.conflicts.get(index).ok_or_else(|| Failure::invalid_argument("index"))?;
                write_sized(out, out_size, &khonsu_conflict::from(record))
            })
        };
        written.map_or_else(|failure| failure.status, |()| khonsu_status::Ok)
    })
}

/// How the prepared transaction was decided that a KHONSU_STATUS_ALREADY_DECIDED or KHONSU_STATUS_HEURISTIC tells of.
///
/// @param[in] error NULL for no error.
/// @return A khonsu_decision; 0 for NULL and for every other status.
///
/// Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_error_decision(error: *const khonsu_error) -> i32 {
    guard_or(0, || {
        // SAFETY: rule 1; error objects are never changed.
        unsafe { borrow(error, "error") }.map_or(0, |error| error.decision)
    })
}

/// Frees an error object, and with it its message and what its conflicts point to.
///
/// @param[in] error Consumed; NULL does nothing.
///
/// Threads: once, by any thread, when no other uses it. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_error_free(error: *mut khonsu_error) {
    // SAFETY: rule 1, and this is the last use.
    guard_or((), || drop(unsafe { reclaim(error) }));
}
