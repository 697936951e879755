//! Status codes.

use std::ffi::{CStr, c_char};

/// What a call came to. Zero is success. Numbers are in families (100 may pass on a retry, 200 the caller's doing, 300
/// the outside world's, 900 a defect), are never reused, and later versions may add some: treat an unknown one as a
/// failure.
///
/// Since: 0.1
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum khonsu_status {
    /// Done.
    Ok = 0,
    /// There is no such entry. An outcome, not an error: the error out-parameter is NULL.
    NotFound = 1,
    /// Another transaction got in the way; nothing was applied. Rerun the transaction (the only retryable status
    /// today).
    Conflict = 100,
    /// The deadline of khonsu_db_transact passed.
    Timeout = 110,
    /// For functions given to khonsu_db_transact that want to give up; khonsu itself does not return it.
    Cancelled = 111,
    /// Another call is deciding about the same prepared transaction. Nothing has changed by this one; call again.
    Busy = 120,
    /// An argument is wrong: NULL where it must not be, a number out of range, a malformed Arrow array.
    InvalidArgument = 200,
    /// The object is in no state for this call: an ended transaction, a write in a read-only one, a cursor that is on
    /// no entry.
    InvalidState = 201,
    /// Two schemas that must be equal differ.
    SchemaMismatch = 202,
    /// A limit on bytes would be passed.
    LimitExceeded = 203,
    /// The global id is that of another prepared transaction, which is in doubt, or remembered as finished.
    Duplicate = 204,
    /// The prepared transaction was decided otherwise before; khonsu_error_decision says how.
    AlreadyDecided = 205,
    /// An operator has decided about the prepared transaction before; khonsu_error_decision says how.
    Heuristic = 206,
    /// Input or output failed.
    Storage = 300,
    /// Stored data are damaged.
    Corruption = 301,
    /// The stored database is open already, in this process or another one.
    Locked = 302,
    /// The database cannot keep a prepared transaction over its end.
    NotDurable = 303,
    /// A defect in khonsu: it panicked, and the panic stopped at this call. Please report it.
    Panic = 900,
}

impl khonsu_status {
    const ALL: [khonsu_status; 18] = [
        khonsu_status::Ok,
        khonsu_status::NotFound,
        khonsu_status::Conflict,
        khonsu_status::Timeout,
        khonsu_status::Cancelled,
        khonsu_status::Busy,
        khonsu_status::InvalidArgument,
        khonsu_status::InvalidState,
        khonsu_status::SchemaMismatch,
        khonsu_status::LimitExceeded,
        khonsu_status::Duplicate,
        khonsu_status::AlreadyDecided,
        khonsu_status::Heuristic,
        khonsu_status::Storage,
        khonsu_status::Corruption,
        khonsu_status::Locked,
        khonsu_status::NotDurable,
        khonsu_status::Panic,
    ];

    /// The status of that number, if there is one: numbers from C are checked before they become one of the enum.
    pub(crate) fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|status| *status as i32 == number)
    }

    /// The name without its prefix.
    pub(crate) fn name(self) -> &'static CStr {
        match self {
            khonsu_status::Ok => c"OK",
            khonsu_status::NotFound => c"NOT_FOUND",
            khonsu_status::Conflict => c"CONFLICT",
            khonsu_status::Timeout => c"TIMEOUT",
            khonsu_status::Cancelled => c"CANCELLED",
            khonsu_status::Busy => c"BUSY",
            khonsu_status::InvalidArgument => c"INVALID_ARGUMENT",
            khonsu_status::InvalidState => c"INVALID_STATE",
            khonsu_status::SchemaMismatch => c"SCHEMA_MISMATCH",
            khonsu_status::LimitExceeded => c"LIMIT_EXCEEDED",
            khonsu_status::Duplicate => c"DUPLICATE",
            khonsu_status::AlreadyDecided => c"ALREADY_DECIDED",
            khonsu_status::Heuristic => c"HEURISTIC",
            khonsu_status::Storage => c"STORAGE",
            khonsu_status::Corruption => c"CORRUPTION",
            khonsu_status::Locked => c"LOCKED",
            khonsu_status::NotDurable => c"NOT_DURABLE",
            khonsu_status::Panic => c"PANIC",
        }
    }
}

/// The name of a status: "OK", "CONFLICT", and so on, the constant's name without KHONSU_STATUS_.
///
/// @param[in] status Any number.
/// @return A string that lives as long as the process; "UNKNOWN" for a number that is no status; never NULL.
///
/// Threads: any. Since: 0.1
#[unsafe(no_mangle)]
pub extern "C" fn khonsu_status_name(status: i32) -> *const c_char {
    khonsu_status::from_number(status).map_or(c"UNKNOWN", khonsu_status::name).as_ptr()
}

/// Whether rerunning the whole transaction may succeed where this status came up.
///
/// @param[in] status Any number.
/// @return true for KHONSU_STATUS_CONFLICT, false for all others and for a number that is no status.
///
/// Threads: any. Since: 0.1
#[unsafe(no_mangle)]
pub extern "C" fn khonsu_status_is_retryable(status: i32) -> bool {
    status == khonsu_status::Conflict as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_name_and_number() {
        for status in khonsu_status::ALL {
            assert_eq!(khonsu_status::from_number(status as i32), Some(status));
            // SAFETY: the function returns a string literal.
            let name = unsafe { CStr::from_ptr(khonsu_status_name(status as i32)) };
            let variant = format!("{status:?}").to_uppercase();
            assert_eq!(name.to_str().unwrap().replace('_', ""), variant);
        }
    }

    #[test]
    fn numbers_that_are_no_status_are_unknown() {
        for number in [-1, 2, 99, 101, 200_000, i32::MAX, i32::MIN] {
            // SAFETY: the function returns a string literal.
            let name = unsafe { CStr::from_ptr(khonsu_status_name(number)) };
            assert_eq!(name, c"UNKNOWN");
            assert!(!khonsu_status_is_retryable(number));
        }
    }

    #[test]
    fn only_a_conflict_is_retryable() {
        let retryable: Vec<_> =
            khonsu_status::ALL.into_iter().filter(|status| khonsu_status_is_retryable(*status as i32)).collect();
        assert_eq!(retryable, [khonsu_status::Conflict]);
    }
}
