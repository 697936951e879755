//! Two-phase commit: this database as one of several that take part in a transaction.

use std::ffi::c_void;

use crate::stm::{self, Decision, GlobalId, TransactionManager};
use crate::two_phase_commit::{PrepareOptions, PreparedTransaction, TwoPhaseCommitParticipant, Vote};

use super::arrow::Batch;
use super::db::khonsu_db;
use super::error::{Failure, khonsu_error};
use super::guard::{guard, guard_or};
use super::handle::{Handle, borrow, into_handle, reclaim};
use super::key::bytes;
use super::out::{clear_handle, require, unknown_constant, write_if, write_sized};
use super::status::khonsu_status;
use super::txn::khonsu_txn;
use super::txn_cell::enter;

/// The longest global id, in bytes; the shortest has one. An XID of X/Open fits in, with all of its 128 bytes of data.
pub const KHONSU_GLOBAL_ID_MAX_BYTES: usize = 144;

const _: () = assert!(KHONSU_GLOBAL_ID_MAX_BYTES == stm::GLOBAL_ID_MAX_BYTES);

/// For khonsu_txn_prepare: a database that cannot keep a prepared transaction over its end may vote yes, too.
pub const KHONSU_PREPARE_ALLOW_VOLATILE: u32 = 1;

/// For khonsu_txn_prepare: a serializable transaction that wrote nothing holds what it has read, and votes
/// KHONSU_VOTE_YES, where it would vote KHONSU_VOTE_READ_ONLY otherwise. It must not have been begun as read-only
/// (khonsu_txn_options_set_read_only): what such a one reads is not noted, so it votes KHONSU_VOTE_READ_ONLY and holds
/// nothing, like one that has read nothing, and those at lower levels.
pub const KHONSU_PREPARE_HOLD_READS: u32 = 2;

/// What a database says when it is asked to prepare a transaction; "no" is a failure of the call.
///
/// Since: 0.1
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum khonsu_vote {
    /// The transaction is prepared: it will commit if it is told to.
    Yes = 1,
    /// It has written nothing and has ended: it is not to be decided.
    ReadOnly = 2,
}

/// What becomes of a prepared transaction.
///
/// Since: 0.1
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum khonsu_decision {
    /// Its writes become visible.
    Commit = 1,
    /// Its writes are dropped.
    Rollback = 2,
}

impl From<Decision> for khonsu_decision {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Commit => khonsu_decision::Commit,
            Decision::Rollback => khonsu_decision::Rollback,
        }
    }
}

fn decision(number: i32) -> Result<Decision, Failure> {
    const COMMIT: i32 = khonsu_decision::Commit as i32;
    const ROLLBACK: i32 = khonsu_decision::Rollback as i32;
    match number {
        COMMIT => Ok(Decision::Commit),
        ROLLBACK => Ok(Decision::Rollback),
        _ => Err(unknown_constant("decision", number, "khonsu_decision")),
    }
}

/// Where a transaction stands that khonsu_db_recover lists.
///
/// Since: 0.1
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum khonsu_prepared_state {
    /// In doubt: prepared and not decided.
    Prepared = 1,
    /// Committed by khonsu_db_decide_heuristically, and not forgotten.
    HeuristicCommit = 2,
    /// Rolled back by khonsu_db_decide_heuristically, and not forgotten.
    HeuristicRollback = 3,
}

/// A transaction of a khonsu_prepared_list, as khonsu_prepared_list_get writes it. Its pointer is borrowed from the
/// list.
///
/// Later versions may add fields at the end; the size given to khonsu_prepared_list_get says which ones the caller
/// knows.
///
/// Since: 0.1
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct khonsu_prepared_info {
    /// Its global id; not terminated by a NUL. Valid until the list is freed.
    pub global_id: *const c_void,
    /// Bytes of global_id.
    pub global_id_len: usize,
    /// When it was prepared, in microseconds since 1970 UTC, by the clock of the machine. Of one that was decided
    /// heuristically before the database was opened last, when it was decided.
    pub time_micros: i64,
    /// A khonsu_prepared_state.
    pub state: i32,
    /// 0.
    pub reserved: i32,
    /// How many keys it writes, or would have written. 0 of one that was decided heuristically before the database was
    /// opened last.
    pub written_keys: u64,
    /// The bytes of these keys and of what it writes there; 0 in the same case.
    pub bytes: u64,
}

/// The prepared transactions of a database, as they were when khonsu_db_recover made the list; freed by
/// khonsu_prepared_list_free. It may outlive its database.
///
/// Threads: immutable; any number of threads may read it at once. Since: 0.1
pub struct khonsu_prepared_list {
    _opaque: [u8; 0],
}

impl Handle for khonsu_prepared_list {
    type Object = Vec<PreparedTransaction>;
    type Owner = Box<Vec<PreparedTransaction>>;
}

/// # Safety
/// Rule 2 holds for `id`.
unsafe fn global_id(id: *const c_void, len: usize) -> Result<GlobalId, Failure> {
    // The length comes first: an id of an absurd length is not looked at.
    if len > KHONSU_GLOBAL_ID_MAX_BYTES {
        let text = format!("the global id has {len} bytes, more than {KHONSU_GLOBAL_ID_MAX_BYTES}");
        return Err(Failure::invalid_argument(text));
    }
    // SAFETY: rule 2.
    Ok(GlobalId::new(unsafe { bytes(id, len, "global_id")? })?)
}

/// Runs `call` on the database and a global id. One that is not known is an outcome.
///
/// # Safety
/// Rule 1 holds for `db`, rule 2 for `id`, rule 3 for `error`.
unsafe fn with_id(
    db: *const khonsu_db,
    id: *const c_void,
    len: usize,
    error: *mut *mut khonsu_error,
    call: impl FnOnce(&TransactionManager<Batch>, &GlobalId) -> Result<(), Failure>,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe {
        guard(error, || {
            let db = borrow(db, "db")?;
            let id = global_id(id, len)?;
            db.check_outside()?;
            // Callbacks may free the handle: the clone keeps the database.
            let manager = db.manager();
            match call(&manager, &id) {
                Ok(()) => Ok(khonsu_status::Ok),
                Err(failure) if failure.status == khonsu_status::NotFound => Ok(khonsu_status::NotFound),
                Err(failure) => Err(failure),
            }
        })
    }
}

/// Ends the transaction by the first phase of a two-phase commit: it is validated, stored, and can be committed and
/// rolled back from then on by its global id, whatever else happens, the end of the process included. Until it is
/// decided, what it has read and is going to write is held: others go on reading what was there before, and fail with a
/// conflict of kind KHONSU_CONFLICT_KIND_PREPARED when they commit a write there. khonsu_txn_commit is the way without
/// a second phase.
///
/// A transaction that wrote nothing has nothing to decide: it votes KHONSU_VOTE_READ_ONLY and is committed. It holds
/// nothing then, so that the others of the global transaction may lose the order with it; KHONSU_PREPARE_HOLD_READS
/// keeps that.
///
/// @param[in]  txn           Not NULL. It is ended on every return but the first three failures below; free it with
///                           khonsu_txn_free.
/// @param[in]  global_id     The name that the coordinator has given to the transaction, any bytes. Borrowed for the
///                           call; not NULL.
/// @param[in]  global_id_len Bytes of global_id: 1 to KHONSU_GLOBAL_ID_MAX_BYTES.
/// @param[in]  flags         KHONSU_PREPARE_ALLOW_VOLATILE and KHONSU_PREPARE_HOLD_READS, or-ed; 0 for none.
/// @param[out] vote          Not NULL. A khonsu_vote; written only on KHONSU_STATUS_OK.
/// @param[out] error         May be NULL. For KHONSU_STATUS_CONFLICT it reports the conflicts.
/// @return
/// - KHONSU_STATUS_OK: voted. What is prepared is on the disk, where the database is stored.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn, global_id or vote is NULL, global_id_len is out of range, or flags has other
///   bits; or a value is malformed that goes to a storage: then the transaction is rolled back.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended already, is in use, or belongs to khonsu_db_transact; or the
///   call comes from a callback of the database's own storage: then it is rolled back.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
/// - KHONSU_STATUS_CONFLICT: other transactions got in the way: run it again. Something that it has read not being the
///   newest is enough.
/// - KHONSU_STATUS_SCHEMA_MISMATCH: rows were to be appended to a committed value of another schema.
/// - KHONSU_STATUS_DUPLICATE: another transaction with this global id is in doubt, or remembered as finished: the
///   message says which.
/// - KHONSU_STATUS_NOT_DURABLE: the database is in memory, or its storage cannot keep prepared transactions (that of
///   khonsu_options_set_storage), and flags does not allow that.
/// - KHONSU_STATUS_STORAGE: it could not be stored. KHONSU_STATUS_CORRUPTION and KHONSU_STATUS_LOCKED: a storage of
///   khonsu_options_set_storage said so.
///
/// On failure the vote is no: the transaction is rolled back, and not to be decided. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_prepare(
    txn: *mut khonsu_txn,
    global_id: *const c_void,
    global_id_len: usize,
    flags: u32,
    vote: *mut i32,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe {
        guard(error, || {
            require(vote, "vote")?;
            let id = self::global_id(global_id, global_id_len)?;
            if flags & !(KHONSU_PREPARE_ALLOW_VOLATILE | KHONSU_PREPARE_HOLD_READS) != 0 {
                return Err(Failure::invalid_argument(format!("flags {flags:#x} has bits that mean nothing")));
            }
            let options = PrepareOptions {
                allow_volatile: flags & KHONSU_PREPARE_ALLOW_VOLATILE != 0,
                hold_reads: flags & KHONSU_PREPARE_HOLD_READS != 0,
            };
            let given = enter(txn)?.run(|transaction| transaction.prepare(&id, options))?;
            let number = match given {
                Vote::Yes => khonsu_vote::Yes,
                Vote::ReadOnly => khonsu_vote::ReadOnly,
            };
            write_if(vote, || number as i32);
            Ok(khonsu_status::Ok)
        })
    }
}

/// Commits a prepared transaction: its writes become visible to others, all at once. There is no conflict; it may be
/// called again and again, and finds it done.
///
/// @param[in]  db             Not NULL.
/// @param[in]  global_id      Borrowed for the call; not NULL.
/// @param[in]  global_id_len  Bytes of global_id: 1 to KHONSU_GLOBAL_ID_MAX_BYTES.
/// @param[out] commit_version The version of the commit, as of khonsu_txn_commit_version. May be NULL; written only on
///                            KHONSU_STATUS_OK.
/// @param[out] error          May be NULL.
/// @return
/// - KHONSU_STATUS_OK: committed, by this call or before; on the disk, where the database is stored.
/// - KHONSU_STATUS_NOT_FOUND: no transaction with this global id is in doubt or remembered.
/// - KHONSU_STATUS_BUSY: it is being prepared, or rolled back, by another call.
/// - KHONSU_STATUS_INVALID_ARGUMENT: db or global_id is NULL, or global_id_len is out of range.
/// - KHONSU_STATUS_INVALID_STATE: the call comes from a callback of the database's own storage.
/// - KHONSU_STATUS_ALREADY_DECIDED: it was rolled back.
/// - KHONSU_STATUS_HEURISTIC: an operator has decided about it, be it the same: khonsu_error_decision says how. Note it
///   and call khonsu_db_forget.
/// - KHONSU_STATUS_STORAGE: it could not be stored. It is still in doubt: call again. KHONSU_STATUS_CORRUPTION and
///   KHONSU_STATUS_LOCKED: a storage of khonsu_options_set_storage said so.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_db_commit_prepared(
    db: *const khonsu_db,
    global_id: *const c_void,
    global_id_len: usize,
    commit_version: *mut u64,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe {
        with_id(db, global_id, global_id_len, error, |manager, id| {
            let version = manager.commit(id)?;
            write_if(commit_version, || version);
            Ok(())
        })
    }
}

/// Rolls a prepared transaction back: none of its writes was ever visible to others. It may be called again and again,
/// and finds it done.
///
/// @param[in]  db            Not NULL.
/// @param[in]  global_id     Borrowed for the call; not NULL.
/// @param[in]  global_id_len Bytes of global_id: 1 to KHONSU_GLOBAL_ID_MAX_BYTES.
/// @param[out] error         May be NULL.
/// @return
/// - KHONSU_STATUS_OK: rolled back, by this call or before. After a crash it may be in doubt again: roll it back again.
/// - KHONSU_STATUS_NOT_FOUND: no transaction with this global id is in doubt or remembered.
/// - KHONSU_STATUS_BUSY: it is being prepared, or rolled back, by another call.
/// - KHONSU_STATUS_INVALID_ARGUMENT: db or global_id is NULL, or global_id_len is out of range.
/// - KHONSU_STATUS_INVALID_STATE: the call comes from a callback of the database's own storage.
/// - KHONSU_STATUS_ALREADY_DECIDED: it was committed.
/// - KHONSU_STATUS_HEURISTIC: an operator has decided about it, be it the same: khonsu_error_decision says how. Note it
///   and call khonsu_db_forget.
/// - KHONSU_STATUS_STORAGE: it could not be stored. It is still in doubt: call again.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_db_rollback_prepared(
    db: *const khonsu_db,
    global_id: *const c_void,
    global_id_len: usize,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe { with_id(db, global_id, global_id_len, error, |manager, id| Ok(manager.rollback(id)?)) }
}

/// Decides about a prepared transaction in the place of its coordinator, for when what it holds is needed and the
/// coordinator does not come back. The other databases of the transaction may decide otherwise. It is recorded, and
/// reported to the coordinator when that decides (KHONSU_STATUS_HEURISTIC), until khonsu_db_forget.
///
/// @param[in]  db            Not NULL.
/// @param[in]  global_id     Borrowed for the call; not NULL.
/// @param[in]  global_id_len Bytes of global_id: 1 to KHONSU_GLOBAL_ID_MAX_BYTES.
/// @param[in]  decision      A khonsu_decision.
/// @param[out] error         May be NULL.
/// @return
/// - KHONSU_STATUS_OK: decided, by this call or by an earlier one of its kind; on the disk, where the database is stored.
/// - KHONSU_STATUS_NOT_FOUND: no transaction with this global id is in doubt or remembered.
/// - KHONSU_STATUS_BUSY: it is being prepared, or rolled back, by another call.
/// - KHONSU_STATUS_INVALID_ARGUMENT: db or global_id is NULL, global_id_len is out of range, or decision is no
///   khonsu_decision.
/// - KHONSU_STATUS_INVALID_STATE: the call comes from a callback of the database's own storage.
/// - KHONSU_STATUS_ALREADY_DECIDED: the coordinator has decided about it: khonsu_error_decision says how.
/// - KHONSU_STATUS_HEURISTIC: an earlier call has decided otherwise: khonsu_error_decision says how.
/// - KHONSU_STATUS_STORAGE: it could not be stored. It is still in doubt: call again. KHONSU_STATUS_CORRUPTION and
///   KHONSU_STATUS_LOCKED: a storage of khonsu_options_set_storage said so.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_db_decide_heuristically(
    db: *const khonsu_db,
    global_id: *const c_void,
    global_id_len: usize,
    decision: i32,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe {
        with_id(db, global_id, global_id_len, error, |manager, id| {
            Ok(manager.decide_heuristically(id, self::decision(decision)?)?)
        })
    }
}

/// Forgets how a prepared transaction ended; its global id may be used again. Without a call to it, the last 4,096
/// outcomes that the coordinator has decided are remembered, and all heuristic ones.
///
/// @param[in]  db            Not NULL.
/// @param[in]  global_id     Borrowed for the call; not NULL.
/// @param[in]  global_id_len Bytes of global_id: 1 to KHONSU_GLOBAL_ID_MAX_BYTES.
/// @param[out] error         May be NULL.
/// @return
/// - KHONSU_STATUS_OK: nothing is known of it any more. After a crash it may be known again: forget it again.
/// - KHONSU_STATUS_INVALID_ARGUMENT: db or global_id is NULL, or global_id_len is out of range.
/// - KHONSU_STATUS_INVALID_STATE: the transaction is in doubt; or the call comes from a callback of the database's own
///   storage.
/// - KHONSU_STATUS_BUSY: another call is forgetting it.
/// - KHONSU_STATUS_STORAGE: that could not be stored. It is still remembered.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_db_forget(
    db: *const khonsu_db,
    global_id: *const c_void,
    global_id_len: usize,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe {
        with_id(db, global_id, global_id_len, error, |manager, id| Ok(TwoPhaseCommitParticipant::forget(manager, id)?))
    }
}

/// Lists the prepared transactions: those in doubt, the oldest first, and then those that were decided heuristically and
/// not forgotten.
///
/// @param[in]  db    Not NULL.
/// @param[out] list  Not NULL. The list, owned by the caller: free it with khonsu_prepared_list_free. NULL on failure.
/// @param[out] error May be NULL.
/// @return
/// - KHONSU_STATUS_OK: listed; there may be none.
/// - KHONSU_STATUS_INVALID_ARGUMENT: db or list is NULL.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_db_recover(
    db: *const khonsu_db,
    list: *mut *mut khonsu_prepared_list,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        clear_handle(list);
        guard(error, || {
            require(list, "list")?;
            let prepared = borrow(db, "db")?.manager().recover()?;
            write_if(list, || into_handle(Box::new(prepared)));
            Ok(khonsu_status::Ok)
        })
    }
}

/// How many transactions a list has.
///
/// @param[in] list NULL for none.
/// @return Their number; 0 for NULL.
///
/// Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_prepared_list_count(list: *const khonsu_prepared_list) -> usize {
    guard_or(0, || {
        // SAFETY: rule 1; lists are never changed.
        unsafe { borrow(list, "list") }.map_or(0, Vec::len)
    })
}

/// # Safety
/// Rule 1 holds for `list`.
unsafe fn nth<'a>(list: *const khonsu_prepared_list, index: usize) -> Result<&'a PreparedTransaction, Failure> {
    // SAFETY: rule 1; lists are never changed.
    let list = unsafe { borrow(list, "list")? };
    list.get(index)
        .ok_or_else(|| Failure::invalid_argument(format!("index {index} is past the end: there are {}", list.len())))
}

/// Writes what is known of one transaction of a list.
///
/// @param[in]  list      Not NULL.
/// @param[in]  index     From 0 to before khonsu_prepared_list_count.
/// @param[out] info      Not NULL. The first info_size bytes of a khonsu_prepared_info are written, no more than its
///                       size. What its pointer points to is borrowed, and valid until the list is freed.
/// @param[in]  info_size sizeof(khonsu_prepared_info) as the caller knows it; not 0.
/// @param[out] error     May be NULL.
/// @return
/// - KHONSU_STATUS_OK: written.
/// - KHONSU_STATUS_INVALID_ARGUMENT: list or info is NULL, info_size is 0, or there is no such index; info is not
///   written.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_prepared_list_get(
    list: *const khonsu_prepared_list,
    index: usize,
    info: *mut khonsu_prepared_info,
    info_size: usize,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        guard(error, || {
            let prepared = nth(list, index)?;
            let state = match prepared.heuristic {
                None => khonsu_prepared_state::Prepared,
                Some(Decision::Commit) => khonsu_prepared_state::HeuristicCommit,
                Some(Decision::Rollback) => khonsu_prepared_state::HeuristicRollback,
            };
            let id = prepared.id.as_bytes();
            let known = khonsu_prepared_info {
                global_id: id.as_ptr().cast(),
                global_id_len: id.len(),
                time_micros: prepared.time_micros,
                state: state as i32,
                reserved: 0,
                written_keys: prepared.written_keys,
                bytes: prepared.bytes,
            };
            write_sized(info, info_size, &known)?;
            Ok(khonsu_status::Ok)
        })
    }
}

/// Gives one of the keys that a transaction of a list is going to write. Only those in doubt have them: one that was
/// decided heuristically has no keys any more, though its info says how many there were.
///
/// @param[in]  list      Not NULL.
/// @param[in]  index     From 0 to before khonsu_prepared_list_count.
/// @param[in]  key_index From 0 to before written_keys of its khonsu_prepared_info.
/// @param[out] key       Not NULL. Borrowed, and valid until the list is freed; not terminated by a NUL.
/// @param[out] key_len   Not NULL. Bytes of key.
/// @param[out] error     May be NULL.
/// @return
/// - KHONSU_STATUS_OK: key and key_len are written.
/// - KHONSU_STATUS_INVALID_ARGUMENT: list, key or key_len is NULL, or there is no such index.
/// - KHONSU_STATUS_INVALID_STATE: the transaction was decided heuristically.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure neither is written. Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_prepared_list_key(
    list: *const khonsu_prepared_list,
    index: usize,
    key_index: usize,
    key: *mut *const c_void,
    key_len: *mut usize,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        guard(error, || {
            require(key, "key")?;
            require(key_len, "key_len")?;
            let prepared = nth(list, index)?;
            if prepared.heuristic.is_some() {
                return Err(Failure::invalid_state(
                    "the transaction was decided heuristically, and has no keys any more",
                ));
            }
            let found = prepared.keys.get(key_index).ok_or_else(|| {
                let count = prepared.keys.len();
                Failure::invalid_argument(format!("key_index {key_index} is past the end: there are {count}"))
            })?;
            write_if(key, || found.as_ptr().cast());
            write_if(key_len, || found.len());
            Ok(khonsu_status::Ok)
        })
    }
}

/// Frees a list, and with it what it has lent.
///
/// @param[in] list Consumed; NULL does nothing.
///
/// Threads: once, by any thread, when no other uses it. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_prepared_list_free(list: *mut khonsu_prepared_list) {
    // SAFETY: rule 1, and this is the last use.
    guard_or((), || drop(unsafe { reclaim(list) }));
}
