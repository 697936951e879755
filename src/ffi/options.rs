//! How a database is opened.

use std::ffi::{c_char, c_void};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::stm;
use crate::storage::Progress;

use super::error::{Failure, khonsu_error};
use super::guard::{guard, guard_or};
use super::handle::{Handle, borrow_mut, into_handle, reclaim};
use super::out::{truth, unknown_constant};
use super::status::khonsu_status;
use super::storage::{CallbackStorage, khonsu_storage_callbacks};

/// What a transaction sees of others, and what it is protected from.
///
/// Since: 0.1
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum khonsu_isolation {
    /// Each call sees the newest commit, whole, and never an older one than the call before.
    ReadCommitted = 1,
    /// All calls see the one snapshot taken when the transaction began (snapshot isolation).
    RepeatableRead = 2,
    /// One snapshot, certified at commit: the outcome is that of some order of whole transactions, and the order
    /// respects real time. The default.
    Serializable = 3,
}

/// What becomes of a write whose key another transaction committed meanwhile. A serializable transaction that has read
/// the key fails under all of them: anything else would lose an update.
///
/// Since: 0.1
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum khonsu_conflict_resolution {
    /// The commit fails with KHONSU_STATUS_CONFLICT, and nothing is applied. The default.
    Fail = 1,
    /// The write is dropped, the committed value stays, the rest commits.
    Ignore = 2,
    /// The write becomes the newest version all the same.
    Replace = 3,
    /// The rows go after the rows of the newest committed value, whose schema must be the same. A delete fails as with
    /// KHONSU_CONFLICT_RESOLUTION_FAIL.
    Append = 4,
}

/// What a commit has survived when it returns, where the database is stored. Whatever is asked for, what a crash leaves
/// is what some first commits came to: none is missing before one that is there.
///
/// Since: 0.1
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum khonsu_durability {
    /// Nothing yet: it is on its way.
    None = 1,
    /// The end of the process: the operating system has it.
    Buffered = 2,
    /// The loss of power: it is on the disk. The default.
    Synced = 3,
}

/// A function that khonsu_db_open calls now and then, in its own thread, while it reads a stored database. It must
/// return: no C++ exception, no longjmp may leave it.
///
/// @param[in] context     What khonsu_options_set_open_progress was given.
/// @param[in] done_bytes  Bytes that were read.
/// @param[in] total_bytes Bytes that are to be read in all.
///
/// Since: 0.1
pub type khonsu_progress_fn = Option<unsafe extern "C" fn(context: *mut c_void, done_bytes: u64, total_bytes: u64)>;

/// How a database is opened: made by khonsu_options_new, freed by khonsu_options_free. khonsu_db_open copies it.
///
/// Threads: serialized, that is one thread at a time, any thread; several may give it to khonsu_db_open at once while
/// nobody sets anything. Since: 0.1
pub struct khonsu_options {
    _opaque: [u8; 0],
}

/// The object behind a `khonsu_options`.
#[derive(Clone, Default)]
pub(crate) struct DatabaseOptions {
    pub core: stm::Options,
    pub full_validation: bool,
    /// None: the database is in memory, unless there is a storage.
    pub path: Option<PathBuf>,
    pub progress: Option<ProgressFunction>,
    /// 0: none.
    pub memory_budget: u64,
    pub storage: Option<GivenStorage>,
}

/// The caller's function, with its context.
#[derive(Clone, Copy)]
pub(crate) struct ProgressFunction {
    function: unsafe extern "C" fn(*mut c_void, u64, u64),
    context: *mut c_void,
}

// SAFETY: the function is called in the thread of khonsu_db_open only, to which whoever set it gives the options.
unsafe impl Send for ProgressFunction {}
// SAFETY: as above.
unsafe impl Sync for ProgressFunction {}

impl ProgressFunction {
    fn call(self, done: u64, total: u64) {
        // SAFETY: the function keeps what its type demands.
        unsafe { (self.function)(self.context, done, total) };
    }

    /// In the form in which the storage calls it.
    pub fn into_progress(self) -> Progress {
        Box::new(move |done, total| self.call(done, total))
    }
}

/// A storage, until a database takes it.
#[derive(Clone)]
pub(crate) struct GivenStorage(Arc<Mutex<Option<CallbackStorage>>>);

impl GivenStorage {
    fn new(storage: CallbackStorage) -> Self {
        GivenStorage(Arc::new(Mutex::new(Some(storage))))
    }

    /// Gives the storage to the first who asks.
    pub fn take(&self) -> Result<CallbackStorage, Failure> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.ok_or_else(|| Failure::invalid_state("the storage of the options was given to a database already"))
    }
}

impl Handle for khonsu_options {
    type Object = DatabaseOptions;
    type Owner = Box<DatabaseOptions>;
}

/// The isolation level of that number.
pub(crate) fn isolation_level(number: i32) -> Result<stm::IsolationLevel, Failure> {
    const READ_COMMITTED: i32 = khonsu_isolation::ReadCommitted as i32;
    const REPEATABLE_READ: i32 = khonsu_isolation::RepeatableRead as i32;
    const SERIALIZABLE: i32 = khonsu_isolation::Serializable as i32;
    match number {
        READ_COMMITTED => Ok(stm::IsolationLevel::ReadCommitted),
        REPEATABLE_READ => Ok(stm::IsolationLevel::RepeatableRead),
        SERIALIZABLE => Ok(stm::IsolationLevel::Serializable),
        _ => Err(unknown_constant("isolation", number, "khonsu_isolation")),
    }
}

/// The conflict resolution of that number.
pub(crate) fn conflict_resolution(number: i32) -> Result<stm::ConflictResolution, Failure> {
    const FAIL: i32 = khonsu_conflict_resolution::Fail as i32;
    const IGNORE: i32 = khonsu_conflict_resolution::Ignore as i32;
    const REPLACE: i32 = khonsu_conflict_resolution::Replace as i32;
    const APPEND: i32 = khonsu_conflict_resolution::Append as i32;
    match number {
        FAIL => Ok(stm::ConflictResolution::Fail),
        IGNORE => Ok(stm::ConflictResolution::Ignore),
        REPLACE => Ok(stm::ConflictResolution::Replace),
        APPEND => Ok(stm::ConflictResolution::Append),
        _ => Err(unknown_constant("conflict_resolution", number, "khonsu_conflict_resolution")),
    }
}

/// The durability of that number.
pub(crate) fn durability(number: i32) -> Result<stm::Durability, Failure> {
    const NONE: i32 = khonsu_durability::None as i32;
    const BUFFERED: i32 = khonsu_durability::Buffered as i32;
    const SYNCED: i32 = khonsu_durability::Synced as i32;
    match number {
        NONE => Ok(stm::Durability::None),
        BUFFERED => Ok(stm::Durability::Buffered),
        SYNCED => Ok(stm::Durability::Synced),
        _ => Err(unknown_constant("durability", number, "khonsu_durability")),
    }
}

/// The number of that durability.
pub(crate) fn durability_number(durability: stm::Durability) -> i32 {
    let constant = match durability {
        stm::Durability::None => khonsu_durability::None,
        stm::Durability::Buffered => khonsu_durability::Buffered,
        stm::Durability::Synced => khonsu_durability::Synced,
    };
    constant as i32
}

/// Changes the options behind the handle.
///
/// # Safety
/// Rule 1 holds for `options`, rule 3 for `error`.
unsafe fn set(
    options: *mut khonsu_options,
    error: *mut *mut khonsu_error,
    change: impl FnOnce(&mut DatabaseOptions) -> Result<(), Failure>,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        guard(error, || {
            change(borrow_mut(options, "options")?)?;
            Ok(khonsu_status::Ok)
        })
    }
}

/// Makes options that hold the defaults.
///
/// @return The options, owned by the caller: free them with khonsu_options_free. NULL only after a defect in khonsu.
///
/// Threads: any. Since: 0.1
#[unsafe(no_mangle)]
pub extern "C" fn khonsu_options_new() -> *mut khonsu_options {
    guard_or(std::ptr::null_mut(), || into_handle(Box::default()))
}

/// Sets the isolation of transactions that do not choose their own; serializable by default.
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
pub unsafe extern "C" fn khonsu_options_set_isolation(
    options: *mut khonsu_options,
    isolation: i32,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        set(options, error, |options| {
            options.core.isolation = isolation_level(isolation)?;
            Ok(())
        })
    }
}

/// Sets the conflict resolution of transactions that do not choose their own; fail by default.
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
pub unsafe extern "C" fn khonsu_options_set_conflict_resolution(
    options: *mut khonsu_options,
    conflict_resolution: i32,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        set(options, error, |options| {
            options.core.conflict_resolution = self::conflict_resolution(conflict_resolution)?;
            Ok(())
        })
    }
}

/// Sets the most bytes that a transaction may have staged, unless it chooses its own limit; no limit by default.
///
/// @param[in]  options Not NULL.
/// @param[in]  bytes   The limit; 0: none.
/// @param[out] error   May be NULL.
/// @return
/// - KHONSU_STATUS_OK: set.
/// - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure nothing is changed. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_options_set_max_transaction_bytes(
    options: *mut khonsu_options,
    bytes: u64,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        set(options, error, |options| {
            options.core.max_transaction_bytes = (bytes != 0).then_some(bytes);
            Ok(())
        })
    }
}

/// Sets the most bytes that all versions of the database together may hold in memory before writes are refused; no limit
/// by default.
///
/// @param[in]  options Not NULL.
/// @param[in]  bytes   The limit; 0: none.
/// @param[out] error   May be NULL.
/// @return
/// - KHONSU_STATUS_OK: set.
/// - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure nothing is changed. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_options_set_max_total_bytes(
    options: *mut khonsu_options,
    bytes: u64,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        set(options, error, |options| {
            options.core.max_total_bytes = (bytes != 0).then_some(bytes);
            Ok(())
        })
    }
}

/// Sets whether every value of every imported array is checked (UTF-8, every offset, every dictionary key), which costs
/// time in proportion to the data. Off by default: then only the structure is checked, in time independent of the
/// number of rows.
///
/// @param[in]  options Not NULL.
/// @param[in]  enabled 1: on; 0: off.
/// @param[out] error   May be NULL.
/// @return
/// - KHONSU_STATUS_OK: set.
/// - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL, or enabled is neither 0 nor 1.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure nothing is changed. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_options_set_full_validation(
    options: *mut khonsu_options,
    enabled: i32,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        set(options, error, |options| {
            options.full_validation = truth("enabled", enabled)?;
            Ok(())
        })
    }
}

/// Sets where the database is stored: in a directory, which khonsu_db_open makes where there is none. One database uses
/// it at a time. In memory by default.
///
/// @param[in]  options Not NULL.
/// @param[in]  path    The path of the directory as the operating system has it, UTF-8 or not; copied. NULL or "": in
///                     memory.
/// @param[out] error   May be NULL.
/// @return
/// - KHONSU_STATUS_OK: set.
/// - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure nothing is changed. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_options_set_path(
    options: *mut khonsu_options,
    path: *const c_char,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe {
        set(options, error, |options| {
            let in_memory = path.is_null() || *path == 0;
            options.path = if in_memory { None } else { Some(super::ipc::path(path)?.to_path_buf()) };
            Ok(())
        })
    }
}

/// Sets the durability of transactions that do not choose their own, where the database is stored; synced by default.
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
pub unsafe extern "C" fn khonsu_options_set_durability(
    options: *mut khonsu_options,
    durability: i32,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        set(options, error, |options| {
            options.core.durability = self::durability(durability)?;
            Ok(())
        })
    }
}

/// Sets a function that is told how far khonsu_db_open is with a database that is stored at a path. None by default.
///
/// @param[in]  options Not NULL.
/// @param[in]  fn      NULL: none.
/// @param[in]  context Handed to fn as it is; may be NULL.
/// @param[out] error   May be NULL.
/// @return
/// - KHONSU_STATUS_OK: set.
/// - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure nothing is changed. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_options_set_open_progress(
    options: *mut khonsu_options,
    r#fn: khonsu_progress_fn,
    context: *mut c_void,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        set(options, error, |options| {
            options.progress = r#fn.map(|function| ProgressFunction { function, context });
            Ok(())
        })
    }
}

/// Sets how many bytes of memory the values of a database that is stored at a path take, beyond which those that were
/// not read lately are pushed out, and read back from the files of a checkpoint when somebody asks for them. No budget by
/// default: all values are in memory.
///
/// Keys stay in memory, and so do values that are in no checkpoint yet; when these take more than the budget (and more
/// than 16 MiB), a checkpoint is made. Values of more than a quarter of the budget do not stay in memory when they were
/// read. A call that reads a value may then fail with KHONSU_STATUS_STORAGE or KHONSU_STATUS_CORRUPTION; the transaction
/// can go on. khonsu_db_open fails when there is a budget and no path.
///
/// @param[in]  options Not NULL.
/// @param[in]  bytes   The budget; 0: none.
/// @param[out] error   May be NULL.
/// @return
/// - KHONSU_STATUS_OK: set.
/// - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure nothing is changed. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_options_set_memory_budget(
    options: *mut khonsu_options,
    bytes: u64,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        set(options, error, |options| {
            options.memory_budget = bytes;
            Ok(())
        })
    }
}

/// Sets a storage of the caller's own for the database. It belongs to khonsu once this has succeeded: khonsu calls
/// destroy, exactly once. It serves one database: the first khonsu_db_open with these options takes it, and another one
/// fails until a storage is set again.
///
/// @param[in]  options   Not NULL. A storage that was set before and not taken is destroyed.
/// @param[in]  callbacks Borrowed for the call, and copied. NULL: none.
/// @param[out] error     May be NULL.
/// @return
/// - KHONSU_STATUS_OK: set.
/// - KHONSU_STATUS_INVALID_ARGUMENT: options is NULL; or of callbacks, load, apply or sync is NULL, size is less than
///   that of the struct in khonsu 0.1, or what lies behind the fields that khonsu knows is not zero. The storage is
///   still the caller's.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure nothing is changed. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_options_set_storage(
    options: *mut khonsu_options,
    callbacks: *const khonsu_storage_callbacks,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3; the callbacks keep what their types demand.
    unsafe {
        let mut replaced = None;
        let status = set(options, error, |options| {
            let storage = match callbacks.is_null() {
                true => None,
                false => Some(GivenStorage::new(CallbackStorage::new(callbacks)?)),
            };
            replaced = std::mem::replace(&mut options.storage, storage);
            Ok(())
        });
        // Its destroy may use the options.
        guard_or((), || drop(replaced));
        status
    }
}

/// Frees options. Databases opened with them are not affected.
///
/// @param[in] options Consumed; NULL does nothing.
///
/// Threads: once, by any thread, when no other uses them. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_options_free(options: *mut khonsu_options) {
    // SAFETY: rule 1, and this is the last use.
    guard_or((), || drop(unsafe { reclaim(options) }));
}
