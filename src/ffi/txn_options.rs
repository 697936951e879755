//! How a transaction is begun, and how often it is rerun.

use std::time::Duration;

use crate::stm;

use super::error::{Failure, khonsu_error};
use super::guard::{guard, guard_or};
use super::handle::{Handle, borrow, borrow_mut, into_handle, reclaim};
use super::options::{conflict_resolution, durability, isolation_level};
use super::out::truth;
use super::status::khonsu_status;

/// How a transaction is begun, and how khonsu_db_transact reruns it: made by khonsu_txn_options_new, freed by
/// khonsu_txn_options_free. khonsu_db_begin and khonsu_db_transact copy it.
///
/// Threads: serialized, that is one thread at a time, any thread; several may begin transactions with it at once while
/// nobody sets anything. Since: 0.1
pub struct khonsu_txn_options {
    _opaque: [u8; 0],
}

impl Handle for khonsu_txn_options {
    type Object = stm::TransactionOptions;
    type Owner = Box<stm::TransactionOptions>;
}

/// The options behind the handle, the defaults for NULL.
///
/// # Safety
/// Rule 1 holds for `options`, and nobody changes them during `'a`.
#[inline]
pub(crate) unsafe fn or_default<'a>(
    options: *const khonsu_txn_options,
) -> Result<&'a stm::TransactionOptions, Failure> {
    if options.is_null() {
        return Ok(&stm::TransactionOptions::DEFAULT);
    }
    // SAFETY: rule 1.
    unsafe { borrow(options, "options") }
}

/// Changes the options behind the handle.
///
/// # Safety
/// Rule 1 holds for `options`, rule 3 for `error`.
unsafe fn set(
    options: *mut khonsu_txn_options,
    error: *mut *mut khonsu_error,
    change: impl FnOnce(&mut stm::TransactionOptions) -> Result<(), Failure>,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        guard(error, || {
            change(borrow_mut(options, "options")?)?;
            Ok(khonsu_status::Ok)
        })
    }
}

/// Makes transaction options that hold the defaults.
///
/// @return The options, owned by the caller: free them with khonsu_txn_options_free. NULL only after a defect in
///         khonsu.
///
/// Threads: any. Since: 0.1
#[unsafe(no_mangle)]
pub extern "C" fn khonsu_txn_options_new() -> *mut khonsu_txn_options {
    guard_or(std::ptr::null_mut(), || into_handle(Box::default()))
}

/// Sets the isolation of the transaction; the database's by default.
///
/// @param[in]  options   Not NULL.
/// @param[in]  isolation A khonsu_isolation.
/// @param[out] error     May be NULL.
/// @return
/// - KHONSU_STATUS_OK: set.
/// - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL, or isolation is no khonsu_isolation.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure nothing is changed. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_options_set_isolation(
    options: *mut khonsu_txn_options,
    isolation: i32,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        set(options, error, |options| {
            options.isolation = Some(isolation_level(isolation)?);
            Ok(())
        })
    }
}

/// Sets the conflict resolution of the transaction's writes; the database's by default.
///
/// @param[in]  options             Not NULL.
/// @param[in]  conflict_resolution A khonsu_conflict_resolution.
/// @param[out] error               May be NULL.
/// @return
/// - KHONSU_STATUS_OK: set.
/// - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL, or conflict_resolution is no khonsu_conflict_resolution.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure nothing is changed. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_options_set_conflict_resolution(
    options: *mut khonsu_txn_options,
    conflict_resolution: i32,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        set(options, error, |options| {
            options.conflict_resolution = Some(self::conflict_resolution(conflict_resolution)?);
            Ok(())
        })
    }
}

/// Sets the durability of the transaction's commit, where the database is stored; the database's by default.
///
/// @param[in]  options    Not NULL.
/// @param[in]  durability A khonsu_durability.
/// @param[out] error      May be NULL.
/// @return
/// - KHONSU_STATUS_OK: set.
/// - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL, or durability is no khonsu_durability.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure nothing is changed. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_options_set_durability(
    options: *mut khonsu_txn_options,
    durability: i32,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        set(options, error, |options| {
            options.durability = Some(self::durability(durability)?);
            Ok(())
        })
    }
}

/// Sets whether the transaction only reads; it does not by default. A read-only transaction never fails to commit,
/// keeps no track of what it reads, and makes no writer fail whose reads are all up to date. For long reads at
/// serializable: a transaction that wrote nothing and was not declared so is certified at commit like others, seldom to
/// fail, and is kinder to writers that have read what was overwritten since.
///
/// @param[in]  options   Not NULL.
/// @param[in]  read_only 1: writes are refused; 0: they are not.
/// @param[out] error     May be NULL.
/// @return
/// - KHONSU_STATUS_OK: set.
/// - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL, or read_only is neither 0 nor 1.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure nothing is changed. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_options_set_read_only(
    options: *mut khonsu_txn_options,
    read_only: i32,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        set(options, error, |options| {
            options.read_only = truth("read_only", read_only)?;
            Ok(())
        })
    }
}

/// Sets the most bytes that the transaction may have staged.
///
/// @param[in]  options Not NULL.
/// @param[in]  bytes   The limit; 0, the default: that of the database.
/// @param[out] error   May be NULL.
/// @return
/// - KHONSU_STATUS_OK: set.
/// - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure nothing is changed. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_options_set_max_bytes(
    options: *mut khonsu_txn_options,
    bytes: u64,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        set(options, error, |options| {
            options.max_bytes = (bytes != 0).then_some(bytes);
            Ok(())
        })
    }
}

/// Sets how often khonsu_db_transact runs its function at most; khonsu_db_begin does not heed it.
///
/// @param[in]  options  Not NULL.
/// @param[in]  attempts The number of runs, the first included; 0, the default: no limit.
/// @param[out] error    May be NULL.
/// @return
/// - KHONSU_STATUS_OK: set.
/// - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure nothing is changed. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_options_set_max_attempts(
    options: *mut khonsu_txn_options,
    attempts: u32,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        set(options, error, |options| {
            options.max_attempts = (attempts != 0).then_some(attempts);
            Ok(())
        })
    }
}

/// Sets the time after which khonsu_db_transact reruns its function no more; khonsu_db_begin does not heed it. A run in
/// progress is not interrupted.
///
/// @param[in]  options      Not NULL.
/// @param[in]  milliseconds Counted from the call of khonsu_db_transact; 0, the default: no deadline.
/// @param[out] error        May be NULL.
/// @return
/// - KHONSU_STATUS_OK: set.
/// - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure nothing is changed. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_options_set_timeout_ms(
    options: *mut khonsu_txn_options,
    milliseconds: u64,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        set(options, error, |options| {
            options.timeout = (milliseconds != 0).then_some(Duration::from_millis(milliseconds));
            Ok(())
        })
    }
}

/// Sets how long khonsu_db_transact waits between two runs: a random time, at most initial after the first conflict,
/// doubled with each further one up to maximum. khonsu_db_begin does not heed it.
///
/// @param[in]  options Not NULL.
/// @param[in]  initial Microseconds; 10 by default.
/// @param[in]  maximum Microseconds, not less than initial; 10,000 by default.
/// @param[out] error   May be NULL.
/// @return
/// - KHONSU_STATUS_OK: set.
/// - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL, or maximum is less than initial.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure nothing is changed. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_options_set_backoff_us(
    options: *mut khonsu_txn_options,
    initial: u64,
    maximum: u64,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        set(options, error, |options| {
            if maximum < initial {
                return Err(Failure::invalid_argument(format!("maximum {maximum} is less than initial {initial}")));
            }
            options.backoff_initial = Duration::from_micros(initial);
            options.backoff_maximum = Duration::from_micros(maximum);
            Ok(())
        })
    }
}

/// Frees transaction options. Transactions begun with them are not affected.
///
/// @param[in] options Consumed; NULL does nothing.
///
/// Threads: once, by any thread, when no other uses them. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_options_free(options: *mut khonsu_txn_options) {
    // SAFETY: rule 1, and this is the last use.
    guard_or((), || drop(unsafe { reclaim(options) }));
}
