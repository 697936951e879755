//! Transactions.

use std::ffi::c_void;

use arrow_array::RecordBatch;

use crate::stm::{self, KeyName};

use super::arrow::{self, ArrowArray, ArrowArrayStream, ArrowSchema, Batch, SchemaRef};
use super::cursor::{self, khonsu_cursor};
use super::error::{Failure, khonsu_error};
use super::guard::{guard, guard_or, set_error};
use super::handle::borrow;
use super::key::{key, limit, prefix, range};
use super::options::conflict_resolution;
use super::out::{clear, clear_handle, given, require, take, write_if};
use super::scan_stream::Entries;
use super::schema::khonsu_schema;
use super::status::khonsu_status;
use super::txn_cell::{self, Entered, TransactionCell, enter, try_enter};

/// The longest key, in bytes; the shortest has one.
pub const KHONSU_KEY_MAX_BYTES: usize = 65536;

const _: () = assert!(KHONSU_KEY_MAX_BYTES == stm::KEY_MAX_BYTES);

/// A transaction: made by khonsu_db_begin, freed by khonsu_txn_free. It reads one consistent state (but for read
/// committed, where each call reads the newest), sees its own writes, and shows them to others only by its commit, all
/// at once. Commit and rollback end it, and do not free it; calls on an ended one fail with
/// KHONSU_STATUS_INVALID_STATE.
///
/// Threads: serialized, together with its cursors: one thread at a time, any thread. Overlapping use, also by a
/// callback that a call on it makes (release of an Arrow struct, get_next of a stream), fails with
/// KHONSU_STATUS_INVALID_STATE. Since: 0.1
pub struct khonsu_txn {
    _opaque: [u8; 0],
}

/// One batch that holds all rows of a value: a value of several is joined.
pub(crate) fn whole(value: &stm::Value<Batch>) -> Result<Batch, Failure> {
    match value.single() {
        Some(batch) => Ok(batch.clone()),
        None => arrow::concat(&value.chunks()),
    }
}

/// Passes the value of a key to `give` as one batch; NOT_FOUND where there is none.
pub(crate) fn read<'k>(
    transaction: &mut stm::Transaction<Batch>,
    key: impl KeyName<'k, Batch>,
    give: impl Fn(&Batch) -> Result<khonsu_status, Failure>,
) -> Result<khonsu_status, Failure> {
    // The common value, of one chunk, is given out while it is visited; joining chunks takes its time and comes after.
    let found =
        transaction.get_with(key, |value| value.map(|value| value.single().map(&give).ok_or_else(|| value.clone())))?;
    match found {
        Some(Ok(given)) => given,
        Some(Err(value)) => give(&whole(&value)?),
        None => Ok(khonsu_status::NotFound),
    }
}

/// Exports a batch, and its schema if that is wanted.
///
/// # Safety
/// Rule 3 holds for both; `out_array` is not NULL.
#[inline]
pub(crate) unsafe fn export(
    batch: &Batch,
    out_array: *mut ArrowArray,
    out_schema: *mut ArrowSchema,
) -> Result<khonsu_status, Failure> {
    // SAFETY: rule 3.
    unsafe {
        if out_schema.is_null() {
            batch.export_to(out_array);
        } else {
            export_both(batch, out_array, out_schema);
        }
    }
    Ok(khonsu_status::Ok)
}

/// Apart, so that an export without a schema, the common one, is short.
///
/// # Safety
/// Rule 3 holds for both, neither of which is NULL.
#[inline(never)]
unsafe fn export_both(batch: &Batch, out_array: *mut ArrowArray, out_schema: *mut ArrowSchema) {
    let schema = batch.schema().export();
    // SAFETY: rule 3; unaligned, for a caller who packs its structs.
    unsafe {
        batch.export_to(out_array);
        out_schema.write_unaligned(schema);
    }
}

/// Exports a batch that must be of `schema`, unless that is None.
///
/// # Safety
/// As for `export`.
#[inline]
pub(crate) unsafe fn export_as(
    schema: Option<&SchemaRef>,
    batch: &Batch,
    out_array: *mut ArrowArray,
    out_schema: *mut ArrowSchema,
) -> Result<khonsu_status, Failure> {
    check_schema(schema, batch)?;
    // SAFETY: the caller's promise.
    unsafe { export(batch, out_array, out_schema) }
}

/// Fails for a batch that is not of `schema`, unless that is None.
#[inline]
pub(crate) fn check_schema(schema: Option<&SchemaRef>, batch: &Batch) -> Result<(), Failure> {
    if schema.is_some_and(|schema| batch.schema() != schema) { Err(another_schema()) } else { Ok(()) }
}

#[cold]
fn another_schema() -> Failure {
    Failure::schema_mismatch("the value has another schema than the one given")
}

/// Runs a call on an open transaction.
///
/// # Safety
/// Rule 1 holds for `txn`.
pub(crate) unsafe fn on<T>(
    txn: *const khonsu_txn,
    call: impl FnOnce(&mut Entered) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // SAFETY: rule 1.
    unsafe { enter(txn) }?.run(call)
}

/// Runs a call that has nothing to give but its success.
///
/// # Safety
/// Rule 1 holds for `txn`, rule 3 for `error`.
unsafe fn act(
    txn: *const khonsu_txn,
    error: *mut *mut khonsu_error,
    call: impl FnOnce(&mut Entered) -> Result<(), Failure>,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe { guard(error, || on(txn, call).map(|()| khonsu_status::Ok)) }
}

/// What put and append have in common when the schema comes with the array.
///
/// # Safety
/// Rules 1 to 4 hold for the parameters.
unsafe fn stage(
    txn: *mut khonsu_txn,
    (key_start, key_len): (*const c_void, usize),
    array: *mut ArrowArray,
    schema: *mut ArrowSchema,
    error: *mut *mut khonsu_error,
    stage: impl FnOnce(&mut stm::Transaction<Batch>, &[u8], Batch) -> Result<(), stm::Error>,
) -> khonsu_status {
    // SAFETY: rules 1 to 4. The structs are moved before anything can fail; what is left of them is released at the
    // end.
    unsafe {
        let (mut array, mut schema) = (take(array), take(schema));
        guard(error, || {
            let array = given(array.as_mut(), "array")?;
            let schema = given(schema.as_mut(), "schema")?;
            let key = key(key_start, key_len)?;
            on(txn, |transaction| {
                let schema = SchemaRef::import(schema)?;
                let batch = Batch::from_c(array, &schema, transaction.cell().full_validation)?;
                Ok(stage(transaction, key, batch)?)
            })?;
            Ok(khonsu_status::Ok)
        })
    }
}

/// What put and append have in common when the schema is an imported one.
///
/// # Safety
/// Rules 1 to 4 hold for the parameters.
unsafe fn stage_with_schema(
    txn: *mut khonsu_txn,
    (key_start, key_len): (*const c_void, usize),
    array: *mut ArrowArray,
    schema: *const khonsu_schema,
    error: *mut *mut khonsu_error,
    stage: impl FnOnce(&mut stm::Transaction<Batch>, &[u8], Batch) -> Result<(), stm::Error>,
) -> khonsu_status {
    // SAFETY: rules 1 to 4, as in `stage`.
    unsafe {
        let mut array = take(array);
        guard(error, || {
            let array = given(array.as_mut(), "array")?;
            let schema = borrow(schema, "schema")?;
            let key = key(key_start, key_len)?;
            on(txn, |transaction| {
                let batch = Batch::from_c(array, schema, transaction.cell().full_validation)?;
                Ok(stage(transaction, key, batch)?)
            })?;
            Ok(khonsu_status::Ok)
        })
    }
}

/// Reads the value of a key as one batch. Several chunks are joined into new memory; a single one is given without a
/// copy, unless it is so small that a copy is made sooner.
///
/// @param[in]  txn        Not NULL.
/// @param[in]  key        Borrowed for the call; not NULL.
/// @param[in]  key_len    Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
/// @param[out] out_array  Not NULL. A struct array with one child a column, owned by the caller, who releases it. It
///                        stays valid after the end of the transaction and of the database, on any thread; its buffers
///                        must not be changed.
/// @param[out] out_schema May be NULL. The schema of the array, owned by the caller, who releases it.
/// @param[out] error      May be NULL.
/// @return
/// - KHONSU_STATUS_OK: read.
/// - KHONSU_STATUS_NOT_FOUND: there is no such key.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn, key or out_array is NULL, or key_len is out of range; or chunks that were put
///   without full validation turn out malformed when they are joined.
/// - KHONSU_STATUS_SCHEMA_MISMATCH: the transaction has appended rows whose schema is not that of the rows there.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
/// - KHONSU_STATUS_LIMIT_EXCEEDED: the chunks are too large to be one array: use khonsu_txn_get_stream.
/// - KHONSU_STATUS_STORAGE, KHONSU_STATUS_CORRUPTION: with a memory budget (khonsu_options_set_memory_budget), the value
///   is in storage alone and cannot be read, or is damaged; the message says where.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Unless it returns KHONSU_STATUS_OK, release is NULL in both outs; the transaction can go on. Threads: serialized.
/// Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_get(
    txn: *mut khonsu_txn,
    key: *const c_void,
    key_len: usize,
    out_array: *mut ArrowArray,
    out_schema: *mut ArrowSchema,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe {
        clear(out_array);
        clear(out_schema);
        guard(error, || {
            require(out_array, "out_array")?;
            let key = self::key(key, key_len)?;
            on(txn, |transaction| read(transaction, key, |batch| export(batch, out_array, out_schema)))
        })
    }
}

/// Reads the value of a key as one batch of a schema that the caller knows already, as khonsu_txn_get does otherwise.
///
/// @param[in]  txn       Not NULL.
/// @param[in]  key       Borrowed for the call; not NULL.
/// @param[in]  key_len   Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
/// @param[in]  schema    Not NULL; borrowed for the call. The schema that the value must have, metadata included.
/// @param[out] out_array Not NULL. As for khonsu_txn_get.
/// @param[out] error     May be NULL.
/// @return
/// - KHONSU_STATUS_OK: read.
/// - KHONSU_STATUS_NOT_FOUND: there is no such key.
/// - KHONSU_STATUS_SCHEMA_MISMATCH: the value has another schema; or the transaction has appended rows whose schema is
///   not that of the rows there.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn, key, schema or out_array is NULL, or key_len is out of range; or chunks that
///   were put without full validation turn out malformed when they are joined.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
/// - KHONSU_STATUS_LIMIT_EXCEEDED: the chunks are too large to be one array: use khonsu_txn_get_stream.
/// - KHONSU_STATUS_STORAGE, KHONSU_STATUS_CORRUPTION: with a memory budget (khonsu_options_set_memory_budget), the value
///   is in storage alone and cannot be read, or is damaged; the message says where.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Unless it returns KHONSU_STATUS_OK, release is NULL in out_array; the transaction can go on. Threads: serialized.
/// Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_get_with_schema(
    txn: *mut khonsu_txn,
    key: *const c_void,
    key_len: usize,
    schema: *const khonsu_schema,
    out_array: *mut ArrowArray,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe {
        clear(out_array);
        guard(error, || {
            require(out_array, "out_array")?;
            let schema = borrow(schema, "schema")?;
            let key = self::key(key, key_len)?;
            on(txn, |transaction| {
                read(transaction, key, |batch| export_as(Some(schema), batch, out_array, std::ptr::null_mut()))
            })
        })
    }
}

/// Reads the value of a key as a stream of its chunks, oldest first, all but small ones without a copy.
///
/// @param[in]  txn        Not NULL.
/// @param[in]  key        Borrowed for the call; not NULL.
/// @param[in]  key_len    Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
/// @param[out] out_stream Not NULL. The stream, owned by the caller, who releases it. It and what it gives stay valid
///                        after the end of the transaction and of the database, on any thread; buffers must not be
///                        changed.
/// @param[out] error      May be NULL.
/// @return
/// - KHONSU_STATUS_OK: read.
/// - KHONSU_STATUS_NOT_FOUND: there is no such key.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn, key or out_stream is NULL, or key_len is out of range.
/// - KHONSU_STATUS_SCHEMA_MISMATCH: the transaction has appended rows whose schema is not that of the rows there.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
/// - KHONSU_STATUS_STORAGE, KHONSU_STATUS_CORRUPTION: with a memory budget (khonsu_options_set_memory_budget), the value
///   is in storage alone and cannot be read, or is damaged; the message says where.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Unless it returns KHONSU_STATUS_OK, release is NULL in out_stream; the transaction can go on. Threads: serialized.
/// Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_get_stream(
    txn: *mut khonsu_txn,
    key: *const c_void,
    key_len: usize,
    out_stream: *mut ArrowArrayStream,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe {
        clear(out_stream);
        guard(error, || {
            require(out_stream, "out_stream")?;
            let key = self::key(key, key_len)?;
            on(txn, |transaction| {
                let Some(value) = transaction.get(key)? else { return Ok(khonsu_status::NotFound) };
                let schema = value.newest().schema().clone();
                let stream = arrow::export_stream(schema, value.chunks().into_iter().map(Ok));
                write_if(out_stream, || stream);
                Ok(khonsu_status::Ok)
            })
        })
    }
}

/// Finds out whether a key has a value.
///
/// @param[in]  txn        Not NULL.
/// @param[in]  key        Borrowed for the call; not NULL.
/// @param[in]  key_len    Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
/// @param[out] out_exists Not NULL. Written only on KHONSU_STATUS_OK.
/// @param[out] error      May be NULL.
/// @return
/// - KHONSU_STATUS_OK: written.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn, key or out_exists is NULL, or key_len is out of range.
/// - KHONSU_STATUS_SCHEMA_MISMATCH: the transaction has appended rows whose schema is not that of the rows there.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure the transaction can go on. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_exists(
    txn: *mut khonsu_txn,
    key: *const c_void,
    key_len: usize,
    out_exists: *mut bool,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe {
        guard(error, || {
            require(out_exists, "out_exists")?;
            let key = self::key(key, key_len)?;
            let exists = on(txn, |transaction| Ok(transaction.exists(key)?))?;
            write_if(out_exists, || exists);
            Ok(khonsu_status::Ok)
        })
    }
}

/// Puts one batch under a key, in place of what is there; visible to this transaction now, to others after its commit.
///
/// @param[in]  txn     Not NULL.
/// @param[in]  key     Borrowed for the call; not NULL.
/// @param[in]  key_len Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
/// @param[in]  array   A struct array with one child a column. Not NULL; consumed on every return, success or failure:
///                     its release is NULL then.
/// @param[in]  schema  Its schema. Not NULL; consumed on every return.
/// @param[out] error   May be NULL.
/// @return
/// - KHONSU_STATUS_OK: staged.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn, key, array or schema is NULL, key_len is out of range, array or schema is
///   released or malformed, or they do not match.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, is read-only, or is in use.
/// - KHONSU_STATUS_LIMIT_EXCEEDED: a limit on bytes would be passed.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_put(
    txn: *mut khonsu_txn,
    key: *const c_void,
    key_len: usize,
    array: *mut ArrowArray,
    schema: *mut ArrowSchema,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 4.
    unsafe { stage(txn, (key, key_len), array, schema, error, |transaction, key, batch| transaction.put(key, batch)) }
}

/// Puts one batch of an imported schema under a key, in place of what is there; visible to this transaction now, to
/// others after its commit.
///
/// @param[in]  txn     Not NULL.
/// @param[in]  key     Borrowed for the call; not NULL.
/// @param[in]  key_len Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
/// @param[in]  array   A struct array with one child a column. Not NULL; consumed on every return, success or failure:
///                     its release is NULL then.
/// @param[in]  schema  Its schema. Not NULL; borrowed for the call.
/// @param[out] error   May be NULL.
/// @return
/// - KHONSU_STATUS_OK: staged.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn, key, array or schema is NULL, key_len is out of range, array is released or
///   malformed, or does not match the schema.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, is read-only, or is in use.
/// - KHONSU_STATUS_LIMIT_EXCEEDED: a limit on bytes would be passed.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_put_with_schema(
    txn: *mut khonsu_txn,
    key: *const c_void,
    key_len: usize,
    array: *mut ArrowArray,
    schema: *const khonsu_schema,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 4.
    unsafe {
        stage_with_schema(txn, (key, key_len), array, schema, error, |transaction, key, batch| {
            transaction.put(key, batch)
        })
    }
}

/// Puts all batches of a stream under a key as the chunks of one value, in place of what is there; visible to this
/// transaction now, to others after its commit. A stream without batches puts a value of no rows.
///
/// @param[in]  txn     Not NULL.
/// @param[in]  key     Borrowed for the call; not NULL.
/// @param[in]  key_len Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
/// @param[in]  stream  Not NULL; read to its end and consumed on every return, success or failure: its release is NULL
///                     then. Its callbacks run on this thread, and must not use the transaction.
/// @param[out] error   May be NULL.
/// @return
/// - KHONSU_STATUS_OK: staged.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn, key or stream is NULL, key_len is out of range, stream is released or lacks a
///   callback, what it gives is malformed, or it failed with EINVAL.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, is read-only, or is in use.
/// - KHONSU_STATUS_LIMIT_EXCEEDED: a limit on bytes would be passed, or the stream failed with ENOMEM.
/// - KHONSU_STATUS_STORAGE: the stream failed in another way; the message is its own.
/// - KHONSU_STATUS_CORRUPTION: the stream came from khonsu_ipc_open_stream, and its file is damaged.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_put_stream(
    txn: *mut khonsu_txn,
    key: *const c_void,
    key_len: usize,
    stream: *mut ArrowArrayStream,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 4.
    unsafe {
        let stream = take(stream);
        guard(error, move || {
            let mut stream = given(stream, "stream")?;
            let key = self::key(key, key_len)?;
            on(txn, |transaction| {
                let (schema, batches) = arrow::import_stream(&mut stream)?;
                if transaction.cell().full_validation {
                    batches.iter().try_for_each(Batch::validate)?;
                }
                let value = match stm::Value::from_chunks(batches)? {
                    Some(value) => value,
                    None => {
                        let empty = RecordBatch::new_empty(schema.arrow().clone());
                        Batch::from_record_batch(&empty, &schema)?.into()
                    }
                };
                Ok(transaction.put(key, value)?)
            })?;
            Ok(khonsu_status::Ok)
        })
    }
}

/// Adds the rows of one batch after those of the value that is newest when the transaction commits, or begins one;
/// visible to this transaction now, to others after its commit. Two transactions that append to one key do not
/// conflict. Costs nothing for the rows that are there already.
///
/// @param[in]  txn     Not NULL.
/// @param[in]  key     Borrowed for the call; not NULL.
/// @param[in]  key_len Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
/// @param[in]  array   A struct array with one child a column. Not NULL; consumed on every return, success or failure:
///                     its release is NULL then.
/// @param[in]  schema  Its schema. Not NULL; consumed on every return.
/// @param[out] error   May be NULL.
/// @return
/// - KHONSU_STATUS_OK: staged.
/// - KHONSU_STATUS_SCHEMA_MISMATCH: what this transaction has put or appended under the key has another schema. (A
///   committed value is compared when it is read, and by khonsu_txn_commit.)
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn, key, array or schema is NULL, key_len is out of range, array or schema is
///   released or malformed, or they do not match.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, is read-only, or is in use.
/// - KHONSU_STATUS_LIMIT_EXCEEDED: a limit on bytes would be passed.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_append(
    txn: *mut khonsu_txn,
    key: *const c_void,
    key_len: usize,
    array: *mut ArrowArray,
    schema: *mut ArrowSchema,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 4.
    unsafe {
        stage(txn, (key, key_len), array, schema, error, |transaction, key, batch| transaction.append(key, batch))
    }
}

/// Adds the rows of one batch of an imported schema, as khonsu_txn_append does otherwise.
///
/// @param[in]  txn     Not NULL.
/// @param[in]  key     Borrowed for the call; not NULL.
/// @param[in]  key_len Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
/// @param[in]  array   A struct array with one child a column. Not NULL; consumed on every return, success or failure:
///                     its release is NULL then.
/// @param[in]  schema  Its schema. Not NULL; borrowed for the call.
/// @param[out] error   May be NULL.
/// @return
/// - KHONSU_STATUS_OK: staged.
/// - KHONSU_STATUS_SCHEMA_MISMATCH: what this transaction has put or appended under the key has another schema. (A
///   committed value is compared when it is read, and by khonsu_txn_commit.)
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn, key, array or schema is NULL, key_len is out of range, array is released or
///   malformed, or does not match the schema.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, is read-only, or is in use.
/// - KHONSU_STATUS_LIMIT_EXCEEDED: a limit on bytes would be passed.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_append_with_schema(
    txn: *mut khonsu_txn,
    key: *const c_void,
    key_len: usize,
    array: *mut ArrowArray,
    schema: *const khonsu_schema,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 4.
    unsafe {
        stage_with_schema(txn, (key, key_len), array, schema, error, |transaction, key, batch| {
            transaction.append(key, batch)
        })
    }
}

/// Deletes a key and its value; visible to this transaction now, to others after its commit. A key that is not there is
/// no failure.
///
/// @param[in]  txn     Not NULL.
/// @param[in]  key     Borrowed for the call; not NULL.
/// @param[in]  key_len Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
/// @param[out] error   May be NULL.
/// @return
/// - KHONSU_STATUS_OK: staged.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn or key is NULL, or key_len is out of range.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, is read-only, or is in use.
/// - KHONSU_STATUS_LIMIT_EXCEEDED: a limit on bytes would be passed.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_delete(
    txn: *mut khonsu_txn,
    key: *const c_void,
    key_len: usize,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe { act(txn, error, |transaction| Ok(transaction.delete(self::key(key, key_len)?)?)) }
}

/// Sets the conflict resolution of the write that is staged under a key; the transaction's by default.
///
/// @param[in]  txn                 Not NULL.
/// @param[in]  key                 Borrowed for the call; not NULL.
/// @param[in]  key_len             Bytes of key: 1 to KHONSU_KEY_MAX_BYTES.
/// @param[in]  conflict_resolution A khonsu_conflict_resolution.
/// @param[out] error               May be NULL.
/// @return
/// - KHONSU_STATUS_OK: set.
/// - KHONSU_STATUS_NOT_FOUND: the transaction has staged no write of the key.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn or key is NULL, key_len is out of range, or conflict_resolution is no
///   khonsu_conflict_resolution.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_set_conflict_resolution(
    txn: *mut khonsu_txn,
    key: *const c_void,
    key_len: usize,
    conflict_resolution: i32,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe {
        guard(error, || {
            let key = self::key(key, key_len)?;
            let resolution = self::conflict_resolution(conflict_resolution)?;
            let staged = on(txn, |transaction| Ok(transaction.set_conflict_resolution(key, resolution)?))?;
            Ok(if staged { khonsu_status::Ok } else { khonsu_status::NotFound })
        })
    }
}

/// Opens a cursor over the keys from start to before end, in order. It sees what the transaction sees, its own writes
/// included.
///
/// @param[in]  txn       Not NULL.
/// @param[in]  start     The first key, itself in the range; borrowed for the call. NULL: from the first key of all.
/// @param[in]  start_len Bytes of start, any number; 0 with NULL. With 0 the range starts at the first key of all.
/// @param[in]  end       The key that the range ends before; borrowed for the call. NULL: to the last key of all.
/// @param[in]  end_len   Bytes of end, any number; 0 with NULL. With 0 and an end that is not NULL the range is empty.
/// @param[in]  direction A khonsu_direction.
/// @param[in]  limit     The most entries; 0: all.
/// @param[out] out       Not NULL. The cursor, before the first entry, owned by the caller: free it with
///                       khonsu_cursor_free. NULL on failure.
/// @param[out] error     May be NULL.
/// @return
/// - KHONSU_STATUS_OK: opened. A range that is empty or runs backwards gives a cursor without entries.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn or out is NULL, start or end is NULL with a length, or direction is no
///   khonsu_direction.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure the transaction can go on. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_scan(
    txn: *mut khonsu_txn,
    start: *const c_void,
    start_len: usize,
    end: *const c_void,
    end_len: usize,
    direction: i32,
    limit: u64,
    out: *mut *mut khonsu_cursor,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe {
        clear_handle(out);
        guard(error, || {
            require(out, "out")?;
            let range = range(start, start_len, end, end_len)?;
            let direction = cursor::direction(direction)?;
            on(txn, |transaction| cursor::open(transaction, range, direction, self::limit(limit), out))
        })
    }
}

/// Opens a cursor over the keys that begin with a prefix, in order. It sees what the transaction sees, its own writes
/// included.
///
/// @param[in]  txn        Not NULL.
/// @param[in]  prefix     Borrowed for the call; NULL only with prefix_len 0.
/// @param[in]  prefix_len Bytes of prefix, any number; 0: all keys.
/// @param[in]  direction  A khonsu_direction.
/// @param[in]  limit      The most entries; 0: all.
/// @param[out] out        Not NULL. The cursor, before the first entry, owned by the caller: free it with
///                        khonsu_cursor_free. NULL on failure.
/// @param[out] error      May be NULL.
/// @return
/// - KHONSU_STATUS_OK: opened.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn or out is NULL, prefix is NULL with a length, or direction is no
///   khonsu_direction.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure the transaction can go on. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_scan_prefix(
    txn: *mut khonsu_txn,
    prefix: *const c_void,
    prefix_len: usize,
    direction: i32,
    limit: u64,
    out: *mut *mut khonsu_cursor,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe {
        clear_handle(out);
        guard(error, || {
            require(out, "out")?;
            let range = self::prefix(prefix, prefix_len)?;
            let direction = cursor::direction(direction)?;
            on(txn, |transaction| cursor::open(transaction, range, direction, self::limit(limit), out))
        })
    }
}

/// Reads a range of keys as one stream of record batches: first a column "key" (binary, not nullable) that has the
/// entry's key in each of its rows, then the columns of the values. Entries of no rows give no rows. Batches have at
/// most 65,536 rows; small values share one.
///
/// The entries are read during the call: later writes of the transaction do not show in the stream. Its batches are
/// made one by one as they are asked for.
///
/// @param[in]  txn        Not NULL.
/// @param[in]  start      As for khonsu_txn_scan.
/// @param[in]  start_len  As for khonsu_txn_scan.
/// @param[in]  end        As for khonsu_txn_scan.
/// @param[in]  end_len    As for khonsu_txn_scan.
/// @param[in]  direction  A khonsu_direction.
/// @param[in]  limit      The most entries, not rows; 0: all.
/// @param[out] out_stream Not NULL. The stream, owned by the caller, who releases it. It and what it gives stay valid
///                        after the end of the transaction and of the database, on any thread; buffers must not be
///                        changed. Its schema is that of the values with the column "key" in front (also if they have a
///                        column of that name already); only that column when there are no entries.
/// @param[out] error      May be NULL.
/// @return
/// - KHONSU_STATUS_OK: read.
/// - KHONSU_STATUS_SCHEMA_MISMATCH: two values in the range have different schemas (the message names their keys), or
///   the transaction has appended rows whose schema is not that of the rows there.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn or out_stream is NULL, start or end is NULL with a length, or direction is no
///   khonsu_direction.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Unless it returns KHONSU_STATUS_OK, release is NULL in out_stream; the transaction can go on. A get_next of the
/// stream fails with EINVAL when values put without full validation turn out malformed, and, with a memory budget
/// (khonsu_options_set_memory_budget), when a value in storage turns out damaged; with EIO when it cannot be read.
/// Threads: serialized; the stream: one thread at a time, any thread. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_scan_stream(
    txn: *mut khonsu_txn,
    start: *const c_void,
    start_len: usize,
    end: *const c_void,
    end_len: usize,
    direction: i32,
    limit: u64,
    out_stream: *mut ArrowArrayStream,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe {
        clear(out_stream);
        guard(error, || {
            require(out_stream, "out_stream")?;
            let range = range(start, start_len, end, end_len)?;
            let direction = cursor::direction(direction)?;
            on(txn, |transaction| {
                let limit = self::limit(limit);
                let mut entries = Entries::new(limit);
                transaction.scan_into(range, direction, limit, &mut entries)?;
                let stream = entries.export()?;
                write_if(out_stream, || stream);
                Ok(khonsu_status::Ok)
            })
        })
    }
}

/// Marks the present state of the transaction's writes, for khonsu_txn_rollback_to.
///
/// @param[in]  txn           Not NULL.
/// @param[out] out_savepoint Not NULL. A number that names the savepoint; written only on KHONSU_STATUS_OK.
/// @param[out] error         May be NULL.
/// @return
/// - KHONSU_STATUS_OK: marked.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn or out_savepoint is NULL.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_savepoint(
    txn: *mut khonsu_txn,
    out_savepoint: *mut u64,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        guard(error, || {
            require(out_savepoint, "out_savepoint")?;
            let savepoint = on(txn, |transaction| Ok(transaction.savepoint()?))?;
            write_if(out_savepoint, || savepoint);
            Ok(khonsu_status::Ok)
        })
    }
}

/// Takes back all writes since a savepoint; what was read since counts as read. The savepoint stays, later ones go.
///
/// @param[in]  txn       Not NULL.
/// @param[in]  savepoint What khonsu_txn_savepoint gave for this transaction.
/// @param[out] error     May be NULL.
/// @return
/// - KHONSU_STATUS_OK: taken back.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn is NULL, or the transaction has no such savepoint (any more).
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_rollback_to(
    txn: *mut khonsu_txn,
    savepoint: u64,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe { act(txn, error, |transaction| Ok(transaction.rollback_to(savepoint)?)) }
}

/// Forgets a savepoint and later ones; the writes stay.
///
/// @param[in]  txn       Not NULL.
/// @param[in]  savepoint What khonsu_txn_savepoint gave for this transaction.
/// @param[out] error     May be NULL.
/// @return
/// - KHONSU_STATUS_OK: forgotten.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn is NULL, or the transaction has no such savepoint (any more).
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_release(
    txn: *mut khonsu_txn,
    savepoint: u64,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe { act(txn, error, |transaction| Ok(transaction.release(savepoint)?)) }
}

/// Commits the transaction: its writes become visible to others, all at once, or none of them. The transaction is ended
/// either way, but for the first three failures below; free it with khonsu_txn_free.
///
/// A serializable transaction that has only read counts as serializable once this has succeeded, too, unless it was
/// declared read-only: then it does from the start.
///
/// @param[in]  txn   Not NULL.
/// @param[out] error May be NULL. For KHONSU_STATUS_CONFLICT it reports the conflicts.
/// @return
/// - KHONSU_STATUS_OK: committed.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn is NULL, or a value is malformed that goes to a storage.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended already, is in use, or belongs to khonsu_db_transact; or it
///   wrote, and the call comes from a callback of the database's own storage: then it is ended.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
/// - KHONSU_STATUS_CONFLICT: other transactions got in the way: run it again.
/// - KHONSU_STATUS_SCHEMA_MISMATCH: rows were to be appended to a committed value of another schema.
/// - KHONSU_STATUS_STORAGE: the commit could not be stored, or one could not that this one stands on. The database goes
///   on, and a later commit may succeed. KHONSU_STATUS_CORRUPTION and KHONSU_STATUS_LOCKED: a storage of
///   khonsu_options_set_storage said so.
///
/// On failure nothing is applied. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_commit(txn: *mut khonsu_txn, error: *mut *mut khonsu_error) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        // Without the guard, which is most of what this takes: nothing here can panic.
        let mut entered = try_enter(txn);
        if entered.as_mut().is_some_and(Entered::commit_nothing) {
            set_error(error, std::ptr::null_mut());
            return khonsu_status::Ok;
        }
        commit(txn, entered, error)
    }
}

/// Commits a transaction that was entered, if it could be.
///
/// # Safety
/// Rule 1 holds for `txn`, rule 3 for `error`.
#[inline(never)]
unsafe fn commit(txn: *mut khonsu_txn, entered: Option<Entered>, error: *mut *mut khonsu_error) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        guard(error, || {
            // Whoever could not enter cannot now, mostly, and is told why.
            entered.map_or_else(|| enter(txn), Ok)?.run(Entered::commit).map(|()| khonsu_status::Ok)
        })
    }
}

/// Rolls the transaction back: none of its writes was ever visible to others. It is ended; free it with
/// khonsu_txn_free.
///
/// @param[in]  txn   Not NULL.
/// @param[out] error May be NULL.
/// @return
/// - KHONSU_STATUS_OK: rolled back.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn is NULL.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended already, is in use, or belongs to khonsu_db_transact.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure nothing is changed. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_rollback(txn: *mut khonsu_txn, error: *mut *mut khonsu_error) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe { act(txn, error, Entered::rollback) }
}

/// Gives the version that the commit has: of two commits that wrote, the later has the greater one. Versions order the
/// writes of each key; a serializable transaction that was let through with a stale read comes earlier in the serial
/// order than its version says.
///
/// @param[in]  txn         Not NULL.
/// @param[out] out_version Not NULL. Written only on KHONSU_STATUS_OK. A transaction that wrote nothing gives the
///                         version of what it read.
/// @param[out] error       May be NULL.
/// @return
/// - KHONSU_STATUS_OK: written.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn or out_version is NULL.
/// - KHONSU_STATUS_INVALID_STATE: the transaction is not committed.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_commit_version(
    txn: *const khonsu_txn,
    out_version: *mut u64,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        guard(error, || {
            require(out_version, "out_version")?;
            let cell: &TransactionCell = borrow(txn, "txn")?;
            let version =
                cell.commit_version().ok_or_else(|| Failure::invalid_state("the transaction is not committed"))?;
            write_if(out_version, || version);
            Ok(khonsu_status::Ok)
        })
    }
}

/// Frees a transaction, and rolls it back if it is open. Its cursors may be freed later; they find it ended. In a
/// callback of a call on the transaction it takes effect when that call ends; on the transaction of a
/// khonsu_transact_fn it does nothing.
///
/// @param[in] txn Consumed; NULL does nothing.
///
/// Threads: once, by any thread, when no other uses it. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_free(txn: *mut khonsu_txn) {
    // SAFETY: rule 1, and this is the last use.
    unsafe {
        if !txn_cell::free_ended(txn) {
            guard_or((), || txn_cell::free(txn));
        }
    }
}
