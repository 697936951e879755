//! The one boundary through which every export runs: a panic ends here, as a status, or as nothing done where there is
//! no status. Beside it is only what cannot panic.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::{Failure, khonsu_error};
use super::handle::into_handle;
use super::status::khonsu_status;

/// Runs the body of an export that returns a status, and writes `*error`: an object for a failure, NULL otherwise.
///
/// Unwind safety: what a body can leave half-done is a transaction, and that one marks itself as broken (see `txn`).
///
/// # Safety
/// Rule 3 holds for `error`.
pub(crate) unsafe fn guard(
    error: *mut *mut khonsu_error,
    body: impl FnOnce() -> Result<khonsu_status, Failure>,
) -> khonsu_status {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(status)) => {
            // SAFETY: rule 3.
            unsafe { set_error(error, std::ptr::null_mut()) };
            return status;
        }
        Ok(Err(failure)) => failure,
        Err(payload) => Failure::panic(panic_text(payload)),
    };
    let status = failure.status;
    // Without a place for it the error object is not even made: the path of a conflict allocates nothing here.
    if !error.is_null() {
        let object = guard_or(std::ptr::null_mut(), || into_handle(Box::new(failure.into_object())));
        // SAFETY: rule 3.
        unsafe { set_error(error, object) };
    }
    status
}

/// Runs the body of an export that has no status; `fallback` is what a panic comes to.
pub(crate) fn guard_or<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result,
        Err(payload) => {
            panic_text(payload);
            fallback
        }
    }
}

/// # Safety
/// Rule 3 holds for `error`.
#[inline]
pub(crate) unsafe fn set_error(error: *mut *mut khonsu_error, object: *mut khonsu_error) {
    if !error.is_null() {
        // SAFETY: rule 3; unaligned, for a caller who packs its structs.
        unsafe { error.write_unaligned(object) };
    }
}

fn panic_text(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => match payload.downcast::<&'static str>() {
            Ok(text) => (*text).to_owned(),
            Err(payload) => {
                // Its destructor might panic again, here where nothing catches it.
                std::mem::forget(payload);
                "a panic without a text".to_owned()
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::error::{khonsu_error_free, khonsu_error_message, khonsu_error_status};
    use std::ffi::CStr;

    fn run(body: impl FnOnce() -> Result<khonsu_status, Failure>) -> (khonsu_status, Option<String>) {
        let mut error = std::ptr::dangling_mut::<khonsu_error>();
        // SAFETY: `error` is writable; the object it is set to is read, then freed once.
        unsafe {
            let status = guard(&mut error, body);
            if error.is_null() {
                return (status, None);
            }
            assert_eq!(khonsu_error_status(error), status);
            let message = CStr::from_ptr(khonsu_error_message(error)).to_str().unwrap().to_owned();
            khonsu_error_free(error);
            (status, Some(message))
        }
    }

    #[test]
    fn outcomes_clear_the_error() {
        assert_eq!(run(|| Ok(khonsu_status::Ok)), (khonsu_status::Ok, None));
        assert_eq!(run(|| Ok(khonsu_status::NotFound)), (khonsu_status::NotFound, None));
    }

    #[test]
    fn failures_and_panics_become_error_objects() {
        let (status, message) = run(|| Err(Failure::invalid_argument("key is NULL")));
        assert_eq!((status, message.as_deref()), (khonsu_status::InvalidArgument, Some("key is NULL")));
        let (status, message) = run(|| panic!("the text {}", 7));
        assert_eq!((status, message.as_deref()), (khonsu_status::Panic, Some("panic: the text 7")));
        let (status, message) = run(|| panic!("plain"));
        assert_eq!((status, message.as_deref()), (khonsu_status::Panic, Some("panic: plain")));

        struct Spiteful;
        impl Drop for Spiteful {
            fn drop(&mut self) {
                panic!("again");
            }
        }
        let (status, message) = run(|| std::panic::panic_any(Spiteful));
        assert_eq!((status, message.as_deref()), (khonsu_status::Panic, Some("panic: a panic without a text")));
    }

    #[test]
    fn nobody_needs_to_take_the_error() {
        // SAFETY: NULL is a legal error out-parameter.
        let status = unsafe { guard(std::ptr::null_mut(), || Err(Failure::invalid_argument("x"))) };
        assert_eq!(status, khonsu_status::InvalidArgument);
    }

    #[test]
    fn a_panic_without_a_status_is_the_fallback() {
        assert_eq!(guard_or(1, || 2), 2);
        assert_eq!(guard_or(1, || panic!("no status to return")), 1);
    }
}
