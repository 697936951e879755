//! Databases.

use std::ffi::{c_char, c_void};
use std::path::Path;
use std::sync::Arc;

use crate::stm::{self, TransactionManager};
use crate::storage::{self, DurableOptions, DurableStorage, StoredDatabase};

use super::arrow::Batch;
use super::error::{Failure, khonsu_error};
use super::guard::{guard, guard_or};
use super::handle::{Handle, borrow, into_handle, reclaim};
use super::options::{DatabaseOptions, khonsu_options};
use super::out::{clear_handle, require, write_if, write_sized};
use super::status::khonsu_status;
use super::storage::check_outside;
use super::txn::khonsu_txn;
use super::txn_cell::{Attempt, TransactionCell};
use super::txn_options::{khonsu_txn_options, or_default};

/// A database: keys in order, each with a value of Arrow record batches. Made by khonsu_db_open, freed by
/// khonsu_db_free; open transactions keep what they need of it.
///
/// Threads: all at once, in every call but khonsu_db_free. Since: 0.1
pub struct khonsu_db {
    _opaque: [u8; 0],
}

/// The object behind a `khonsu_db`.
pub(crate) struct Database {
    manager: TransactionManager<Batch>,
    /// None: in memory.
    stored: Option<Stored>,
    full_validation: bool,
}

#[derive(Clone)]
struct Stored {
    database: Arc<StoredDatabase<Batch>>,
    /// The number of a storage of callbacks.
    callbacks: Option<u64>,
}

impl Database {
    fn open(options: DatabaseOptions) -> Result<Database, Failure> {
        let full_validation = options.full_validation;
        if options.memory_budget > 0 && options.path.is_none() {
            return Err(Failure::invalid_argument("the options have a memory budget and no path"));
        }
        let stored = match (options.path, options.storage) {
            (None, None) => {
                let manager = TransactionManager::new(options.core);
                return Ok(Database { manager, stored: None, full_validation });
            }
            (Some(_), Some(_)) => {
                return Err(Failure::invalid_argument("the options have both a path and a storage"));
            }
            (Some(path), None) => {
                let progress = options.progress.map(|progress| progress.into_progress());
                let memory_budget = options.memory_budget;
                let settings = DurableOptions { progress, memory_budget, ..Default::default() };
                let storage = DurableStorage::open(&path, settings)?;
                Stored { database: Arc::new(storage::open(options.core, storage)?), callbacks: None }
            }
            (None, Some(given)) => {
                let storage = given.take()?;
                let callbacks = Some(storage.number);
                Stored { database: Arc::new(storage::open(options.core, storage)?), callbacks }
            }
        };
        Ok(Database { manager: stored.database.manager().clone(), stored: Some(stored), full_validation })
    }

    pub(crate) fn bind(&self, key: &[u8]) -> Result<stm::BoundKey<Batch>, stm::Error> {
        self.manager.bind(key)
    }
}

impl Database {
    /// A handle of the database that does not depend on the one of C.
    pub(crate) fn manager(&self) -> TransactionManager<Batch> {
        self.manager.clone()
    }

    /// Fails where the call would wait for the callback that it comes from.
    pub(crate) fn check_outside(&self) -> Result<(), Failure> {
        self.stored.as_ref().map_or(Ok(()), Stored::check_outside)
    }
}

impl Stored {
    /// Fails where the call would wait for the callback that it comes from.
    fn check_outside(&self) -> Result<(), Failure> {
        Ok(self.callbacks.map_or(Ok(()), check_outside)?)
    }
}

/// Runs `with` on the database and a path that must be there.
///
/// # Safety
/// Rule 1 holds for `db`, rule 2 for `path`, rule 3 for `error`.
unsafe fn with_path<T>(
    db: *const khonsu_db,
    path: *const c_char,
    error: *mut *mut khonsu_error,
    with: impl FnOnce(&TransactionManager<Batch>, &Path) -> Result<T, stm::Error>,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe {
        guard(error, || {
            // Callbacks may free the handle: the clone keeps the database.
            let manager = borrow(db, "db")?.manager.clone();
            with(&manager, super::ipc::path(path)?)?;
            Ok(khonsu_status::Ok)
        })
    }
}

const _: () = {
    const fn is_sync<T: Send + Sync>() {}
    is_sync::<Database>();
};

impl Handle for khonsu_db {
    type Object = Database;
    type Owner = Box<Database>;
}

/// Counters of a database, as khonsu_db_stats writes them. They are read one after the other, while transactions run.
///
/// Later versions may add fields at the end; the size given to khonsu_db_stats says which ones the caller knows.
///
/// Since: 0.1
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct khonsu_stats {
    /// Keys that are held; deleted ones count until they are reclaimed.
    pub keys: u64,
    /// Versions of all keys, deletes included.
    pub versions: u64,
    /// Bytes of the batches that the versions hold, those that are in storage alone included.
    pub live_bytes: u64,
    /// Bytes that exported arrays which are not released yet hold, in the whole process: those of other databases, and
    /// of versions that are still current, included.
    pub pinned_bytes: u64,
    /// Transactions, and cursors at read committed, that hold a snapshot.
    pub active_transactions: u64,
    /// The version of the oldest snapshot in use; that of the newest commit when there is none.
    pub oldest_snapshot: u64,
    /// The version of the newest commit; 0 before the first.
    pub version: u64,
    /// Transactions committed since the database was opened.
    pub commits: u64,
    /// Transactions rolled back, or failed for another reason than a conflict, since the database was opened.
    pub rollbacks: u64,
    /// Transactions whose commit failed with a first conflict of kind KHONSU_CONFLICT_KIND_WRITE_WRITE.
    pub conflicts_write_write: u64,
    /// Transactions whose commit failed with a first conflict of kind KHONSU_CONFLICT_KIND_READ_WRITE.
    pub conflicts_read_write: u64,
    /// Transactions whose commit failed with a first conflict of kind KHONSU_CONFLICT_KIND_PHANTOM.
    pub conflicts_phantom: u64,
    /// Transactions whose commit failed with a first conflict of kind KHONSU_CONFLICT_KIND_PREPARED.
    pub conflicts_prepared: u64,
    /// Runs of a function by khonsu_db_transact after the first of its call.
    pub retries: u64,
    /// Bytes of values in memory, with a memory budget; else live_bytes.
    pub resident_bytes: u64,
    /// Bytes that the values which are in storage alone would take in memory; an estimate for those that were not in
    /// memory since the database was opened. 0 without a memory budget.
    pub cold_bytes: u64,
    /// Values that were read from storage since the database was opened because they were not in memory.
    pub cold_reads: u64,
    /// Prepared transactions in doubt.
    pub prepared_transactions: u64,
    /// Bytes of the keys that those in doubt are going to write, and of what they write there. They count for the limit
    /// of khonsu_options_set_max_total_bytes.
    pub prepared_bytes: u64,
    /// Microseconds since the oldest of those in doubt was prepared; 0 where there is none.
    pub oldest_prepared_micros: u64,
    /// Outcomes of prepared transactions that are remembered.
    pub remembered_outcomes: u64,
}

impl From<stm::Stats> for khonsu_stats {
    fn from(stats: stm::Stats) -> Self {
        khonsu_stats {
            keys: stats.keys,
            versions: stats.versions,
            live_bytes: stats.live_bytes,
            pinned_bytes: super::arrow::pinned_bytes(),
            active_transactions: stats.active_transactions,
            oldest_snapshot: stats.oldest_snapshot,
            version: stats.version,
            commits: stats.commits,
            rollbacks: stats.rollbacks,
            conflicts_write_write: stats.conflicts_write_write,
            conflicts_read_write: stats.conflicts_read_write,
            conflicts_phantom: stats.conflicts_phantom,
            conflicts_prepared: stats.conflicts_prepared,
            retries: stats.retries,
            resident_bytes: stats.resident_bytes,
            cold_bytes: stats.cold_bytes,
            cold_reads: stats.cold_reads,
            prepared_transactions: stats.prepared_transactions,
            prepared_bytes: stats.prepared_bytes,
            oldest_prepared_micros: stats.oldest_prepared_micros,
            remembered_outcomes: stats.remembered_outcomes,
        }
    }
}

/// A function that khonsu_db_transact runs in a transaction, perhaps several times.
///
/// It returns a khonsu_status: KHONSU_STATUS_OK to commit; KHONSU_STATUS_CONFLICT to be run again in a new transaction;
/// anything else to roll back. It must not end the transaction: khonsu_txn_commit and khonsu_txn_rollback fail in it
/// with KHONSU_STATUS_INVALID_STATE, khonsu_txn_free does nothing. It must return: no C++ exception, no longjmp may
/// leave it.
///
/// @param[in] txn     The transaction; valid until the function returns, and not to be kept.
/// @param[in] context What khonsu_db_transact was given.
///
/// Since: 0.1
pub type khonsu_transact_fn = Option<unsafe extern "C" fn(txn: *mut khonsu_txn, context: *mut c_void) -> i32>;

/// Opens a database: that of the path or of the storage in the options, with what is stored there; an empty one in
/// memory where there is neither.
///
/// @param[in]  options NULL for the defaults; borrowed for the call, and copied, but for a storage of
///                     khonsu_options_set_storage, which the database takes, also when it fails to open.
/// @param[out] out     Not NULL. The database, owned by the caller: free it with khonsu_db_free. NULL on failure.
/// @param[out] error   May be NULL.
/// @return
/// - KHONSU_STATUS_OK: opened.
/// - KHONSU_STATUS_INVALID_ARGUMENT: out is NULL, or the options have both a path and a storage, or a memory budget and
///   no path.
/// - KHONSU_STATUS_INVALID_STATE: the storage of the options was given to another database.
/// - KHONSU_STATUS_STORAGE: reading or writing failed, the path is none of a database, or a newer version of khonsu has
///   written it.
/// - KHONSU_STATUS_CORRUPTION: what is stored is damaged: the message says where. Nothing was changed.
/// - KHONSU_STATUS_LOCKED: the database is open already, in this process or another one.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Threads: any. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_db_open(
    options: *const khonsu_options,
    out: *mut *mut khonsu_db,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        clear_handle(out);
        guard(error, || {
            require(out, "out")?;
            let options = match options.is_null() {
                true => DatabaseOptions::default(),
                false => borrow(options, "options")?.clone(),
            };
            let database = Box::new(Database::open(options)?);
            write_if(out, || into_handle(database));
            Ok(khonsu_status::Ok)
        })
    }
}

/// Begins a transaction; but for read committed, it sees what is committed now.
///
/// @param[in]  db      Not NULL. It may be freed before the transaction.
/// @param[in]  options NULL for the defaults; borrowed for the call, and copied.
/// @param[out] out     Not NULL. The transaction, owned by the caller: free it with khonsu_txn_free. NULL on failure.
/// @param[out] error   May be NULL.
/// @return
/// - KHONSU_STATUS_OK: begun.
/// - KHONSU_STATUS_INVALID_ARGUMENT: db or out is NULL.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_db_begin(
    db: *const khonsu_db,
    options: *const khonsu_txn_options,
    out: *mut *mut khonsu_txn,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        clear_handle(out);
        guard(error, || {
            require(out, "out")?;
            let db = borrow(db, "db")?;
            let options = or_default(options)?;
            out.write_unaligned(TransactionCell::handle(|| db.manager.begin(options), db.full_validation));
            Ok(khonsu_status::Ok)
        })
    }
}

/// Runs a function in a transaction and commits; on a conflict waits a little and runs it again, in a new transaction.
/// When it returns KHONSU_STATUS_OK, the effects of the last run, and of no other, are visible to others.
///
/// The waits are random, and their bound doubles with each conflict (khonsu_txn_options_set_backoff_us). The calling
/// thread runs the function and does the waiting.
///
/// @param[in]  db                 Not NULL.
/// @param[in]  options            NULL for the defaults; borrowed until the function is first run, and copied.
/// @param[in]  fn                 Not NULL.
/// @param[in]  context            Handed to fn as it is; may be NULL.
/// @param[out] out_commit_version May be NULL. The version of the commit; written only on KHONSU_STATUS_OK.
/// @param[out] error              May be NULL.
/// @return
/// - KHONSU_STATUS_OK: fn returned it, and the transaction was committed.
/// - KHONSU_STATUS_CONFLICT: conflicts came up in as many runs as khonsu_txn_options_set_max_attempts allows. The error
///   reports those of the last commit; none if the last run of fn returned this status itself.
/// - KHONSU_STATUS_TIMEOUT: a conflict came up, and the time of khonsu_txn_options_set_timeout_ms was over.
/// - KHONSU_STATUS_INVALID_ARGUMENT: db or fn is NULL; or fn returned a number that is no khonsu_status.
/// - KHONSU_STATUS_INVALID_STATE: fn returned KHONSU_STATUS_OK while another thread still used the transaction, or
///   although a call on it had returned KHONSU_STATUS_PANIC.
/// - KHONSU_STATUS_SCHEMA_MISMATCH: rows were to be appended to a committed value of another schema.
/// - KHONSU_STATUS_STORAGE: the commit could not be stored, as for khonsu_txn_commit.
/// - any other status: fn returned it, and the transaction was rolled back. (fn may return those above, too.)
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure nothing is applied. Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_db_transact(
    db: *const khonsu_db,
    options: *const khonsu_txn_options,
    r#fn: khonsu_transact_fn,
    context: *mut c_void,
    out_commit_version: *mut u64,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3; the function keeps what its type demands.
    unsafe {
        guard(error, || {
            let db = borrow(db, "db")?;
            let function = r#fn.ok_or_else(|| Failure::invalid_argument("fn is NULL"))?;
            // The function may free the database's handle: nothing below goes back to it.
            let full_validation = db.full_validation;
            let mut policy = db.manager.retry_policy(or_default(options)?);
            loop {
                let attempt = Attempt::new(|| policy.begin(), full_validation);
                let returned = function(attempt.handle(), context);
                let conflict = match khonsu_status::from_number(returned) {
                    Some(khonsu_status::Ok) => match attempt.commit()? {
                        Ok(version) => {
                            write_if(out_commit_version, || version);
                            return Ok(khonsu_status::Ok);
                        }
                        Err(conflict @ stm::Error::Conflict(_)) => conflict,
                        Err(other) => return Err(other.into()),
                    },
                    Some(khonsu_status::Conflict) => stm::Error::Conflict(Vec::new()),
                    Some(khonsu_status::NotFound) => return Ok(khonsu_status::NotFound),
                    Some(status) => {
                        let name = status.name().to_string_lossy();
                        return Err(Failure::new(status, format!("the function returned {name}")));
                    }
                    None => {
                        return Err(Failure::invalid_argument(format!(
                            "the function returned {returned}, which is no khonsu_status"
                        )));
                    }
                };
                // It is rolled back before the wait: it must not hold a snapshot meanwhile.
                drop(attempt);
                policy.conflicted(conflict)?;
            }
        })
    }
}

/// Writes the counters of the database. It reclaims first what can be reclaimed: not for every transaction.
///
/// @param[in]  db       Not NULL.
/// @param[out] out      Not NULL. The first out_size bytes of a khonsu_stats are written, no more than its size.
/// @param[in]  out_size sizeof(khonsu_stats) as the caller knows it; not 0.
/// @param[out] error    May be NULL.
/// @return
/// - KHONSU_STATUS_OK: written.
/// - KHONSU_STATUS_INVALID_ARGUMENT: db or out is NULL, or out_size is 0.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure out is not written. Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_db_stats(
    db: *const khonsu_db,
    out: *mut khonsu_stats,
    out_size: usize,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        guard(error, || {
            // Reclaiming may run release callbacks, which may free the handle: the clone keeps the database.
            let stats = borrow(db, "db")?.manager.clone().stats();
            write_sized(out, out_size, &khonsu_stats::from(stats))?;
            Ok(khonsu_status::Ok)
        })
    }
}

/// Puts everything that is committed on the disk, whatever its durability was. A database in memory has nothing to do.
///
/// @param[in]  db    Not NULL.
/// @param[out] error May be NULL.
/// @return
/// - KHONSU_STATUS_OK: all commits that returned before the call are on the disk.
/// - KHONSU_STATUS_INVALID_ARGUMENT: db is NULL.
/// - KHONSU_STATUS_INVALID_STATE: the call comes from a callback of the database's own storage.
/// - KHONSU_STATUS_STORAGE: writing failed; of the commits that are not on the disk yet, a crash may leave some first
///   ones. KHONSU_STATUS_CORRUPTION and KHONSU_STATUS_LOCKED: a storage of khonsu_options_set_storage said so.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_db_sync(db: *const khonsu_db, error: *mut *mut khonsu_error) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        guard(error, || {
            let db = borrow(db, "db")?;
            db.check_outside()?;
            // Callbacks may free the handle: the clone keeps the database.
            db.manager.clone().sync()?;
            Ok(khonsu_status::Ok)
        })
    }
}

/// Has the storage put what all keys are now in the place of the commits that led there, so that the next opening is
/// fast and needs little room. Stored databases do so themselves when it pays. A database in memory has nothing to do.
///
/// @param[in]  db    Not NULL.
/// @param[out] error May be NULL.
/// @return
/// - KHONSU_STATUS_OK: done.
/// - KHONSU_STATUS_INVALID_ARGUMENT: db is NULL.
/// - KHONSU_STATUS_INVALID_STATE: the call comes from a callback of the database's own storage.
/// - KHONSU_STATUS_STORAGE: reading or writing failed. KHONSU_STATUS_CORRUPTION and KHONSU_STATUS_LOCKED: a storage of
///   khonsu_options_set_storage said so.
/// - KHONSU_STATUS_CORRUPTION: also that a value which a memory budget keeps in storage alone is damaged.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure nothing is lost. Other calls go on meanwhile. Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_db_checkpoint(db: *const khonsu_db, error: *mut *mut khonsu_error) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        guard(error, || {
            // Callbacks may free the handle: the clone keeps the database.
            if let Some(stored) = borrow(db, "db")?.stored.clone() {
                stored.check_outside()?;
                stored.database.checkpoint()?;
            }
            Ok(khonsu_status::Ok)
        })
    }
}

/// Writes what the database is now into a new directory, which can be opened as a database. The database may be in
/// memory, or have a storage of the caller's.
///
/// @param[in]  db    Not NULL.
/// @param[in]  path  The path of the directory; not NULL, not "". Nothing may be there but an empty directory.
/// @param[out] error May be NULL.
/// @return
/// - KHONSU_STATUS_OK: written, and on the disk.
/// - KHONSU_STATUS_INVALID_ARGUMENT: db or path is NULL, path is "", or a value is malformed.
/// - KHONSU_STATUS_STORAGE: there is something at path already, or reading or writing failed.
/// - KHONSU_STATUS_CORRUPTION: a value which a memory budget keeps in storage alone is damaged.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure there is no database at path. Other calls go on meanwhile. Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_db_backup(
    db: *const khonsu_db,
    path: *const c_char,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe { with_path(db, path, error, storage::backup) }
}

/// Writes what the database is now into a new directory as Arrow IPC streams, one for each schema of values: a row is a
/// chunk of a key, with the columns key, version and value.
///
/// @param[in]  db    Not NULL.
/// @param[in]  path  The path of the directory; not NULL, not "". Nothing may be there but an empty directory.
/// @param[out] error May be NULL.
/// @return
/// - KHONSU_STATUS_OK: written, and on the disk.
/// - KHONSU_STATUS_INVALID_ARGUMENT: db or path is NULL, path is "", or a value is malformed.
/// - KHONSU_STATUS_STORAGE: there is something at path already, or reading or writing failed.
/// - KHONSU_STATUS_CORRUPTION: a value which a memory budget keeps in storage alone is damaged.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Other calls go on meanwhile. Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_db_export(
    db: *const khonsu_db,
    path: *const c_char,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe { with_path(db, path, error, storage::export) }
}

/// Puts all keys that khonsu_db_export has written into the database, over those that are there. They go in in several
/// transactions, with the options of the database: others may see some of the keys first.
///
/// @param[in]  db    Not NULL.
/// @param[in]  path  The path of the directory; not NULL, not "".
/// @param[out] error May be NULL.
/// @return
/// - KHONSU_STATUS_OK: all keys were put.
/// - KHONSU_STATUS_INVALID_ARGUMENT: db or path is NULL, or path is "".
/// - KHONSU_STATUS_INVALID_STATE: the call comes from a callback of the database's own storage.
/// - KHONSU_STATUS_LIMIT_EXCEEDED: a limit on bytes of the options would be passed.
/// - KHONSU_STATUS_STORAGE: reading failed, or a commit could not be stored.
/// - KHONSU_STATUS_CORRUPTION: what is at path is damaged.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure some of the keys may have been put. Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_db_import(
    db: *const khonsu_db,
    path: *const c_char,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe { with_path(db, path, error, storage::import) }
}

/// Closes a database. Transactions that are open go on, and the database goes when the last of them is freed; exported
/// arrays stay valid beyond that.
///
/// Where it is stored, everything that was committed is written and synced then, whatever its durability was. An error
/// is lost there: call khonsu_db_sync before to know.
///
/// @param[in] db Consumed; NULL does nothing.
///
/// Threads: once, by any thread, when no other uses the handle. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_db_free(db: *mut khonsu_db) {
    // SAFETY: rule 1, and this is the last use.
    guard_or((), || drop(unsafe { reclaim(db) }));
}
