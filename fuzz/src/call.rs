//! Calls of the C API, with what holds for each of them.

use std::ffi::CStr;

use khonsu::ffi::error::{
    khonsu_conflict, khonsu_error, khonsu_error_conflict, khonsu_error_conflict_count, khonsu_error_free,
    khonsu_error_message, khonsu_error_status,
};
use khonsu::ffi::status::{khonsu_status, khonsu_status_name};

use crate::reached;

/// What an error object says of one conflict.
#[derive(Debug)]
pub struct Conflict {
    pub kind: i32,
    pub key: Vec<u8>,
    pub version: u64,
}

/// What the error object of a call said.
#[derive(Debug)]
pub struct Report {
    pub message: String,
    pub conflicts: Vec<Conflict>,
}

/// Runs a call that takes an error; gives its status. A defect, or an error object that does not fit, ends the run.
macro_rules! call {
    ($function:ident($($argument:expr),* $(,)?)) => {
        $crate::call::call_reporting!($function($($argument),*)).0
    };
}

/// As `call`, and gives what the error says, too.
macro_rules! call_reporting {
    ($function:ident($($argument:expr),* $(,)?)) => {{
        let mut error = std::ptr::dangling_mut();
        // SAFETY: the fuzzers keep the rules of the boundary, or break one that the call checks.
        let status = unsafe { $function($($argument,)* &mut error) };
        // SAFETY: the call has set the error.
        let report = unsafe { $crate::call::take_error(stringify!($function), status, error) };
        (status, report)
    }};
}

/// As `call`, without a place for the error.
macro_rules! call_plainly {
    ($function:ident($($argument:expr),* $(,)?)) => {{
        // SAFETY: as in `call_reporting`; the error may be NULL.
        let status = unsafe { $function($($argument,)* std::ptr::null_mut()) };
        $crate::call::check_status(stringify!($function), status);
        status
    }};
}

pub(crate) use {call, call_plainly, call_reporting};

pub fn name_of(status: khonsu_status) -> &'static str {
    // SAFETY: a string that lives as long as the process.
    unsafe { CStr::from_ptr(khonsu_status_name(status as i32)) }.to_str().expect("names are ASCII")
}

pub fn check_status(function: &'static str, status: khonsu_status) {
    reached::note(function, name_of(status));
    assert_ne!(status, khonsu_status::Panic, "{function}");
}

/// Checks that the error fits the status, reads it, and frees it.
///
/// # Safety
/// `error` is what a call has set, and is not used any more.
pub unsafe fn take_error(function: &'static str, status: khonsu_status, error: *mut khonsu_error) -> Report {
    let failed = !matches!(status, khonsu_status::Ok | khonsu_status::NotFound);
    assert_eq!(!error.is_null(), failed, "{function} returned {status:?}");
    // SAFETY: NULL or an error object.
    unsafe {
        assert_eq!(khonsu_error_status(error), if failed { status } else { khonsu_status::Ok });
        let message = CStr::from_ptr(khonsu_error_message(error)).to_str().expect("messages are UTF-8").to_owned();
        assert_eq!(message.is_empty(), !failed, "{function}: {message}");
        assert_ne!(status, khonsu_status::Panic, "{function}: {message}");
        let conflicts = (0..khonsu_error_conflict_count(error)).map(|index| conflict(error, index)).collect();
        khonsu_error_free(error);
        reached::note(function, name_of(status));
        Report { message, conflicts }
    }
}

/// # Safety
/// `error` is an error object.
unsafe fn conflict(error: *const khonsu_error, index: usize) -> Conflict {
    let mut found = std::mem::MaybeUninit::<khonsu_conflict>::uninit();
    // SAFETY: `found` may be written for its size; on success it is, and its key is there until the error is freed.
    unsafe {
        let size = size_of::<khonsu_conflict>();
        let status = khonsu_error_conflict(error, index, found.as_mut_ptr(), size);
        assert_eq!(status, khonsu_status::Ok);
        let found = found.assume_init();
        let range = |start: *const std::ffi::c_void, length: usize| {
            (!start.is_null()).then(|| std::slice::from_raw_parts(start.cast::<u8>(), length).to_vec())
        };
        let key = range(found.key, found.key_len).expect("a conflict has a key");
        let (start, end) =
            (range(found.range_start, found.range_start_len), range(found.range_end, found.range_end_len));
        match found.has_range {
            0 => assert!(start.is_none() && end.is_none()),
            1 => assert!(start.is_none_or(|start| start <= key) && end.is_none_or(|end| key < end)),
            other => panic!("has_range is {other}"),
        }
        Conflict { kind: found.kind, key, version: found.version }
    }
}
