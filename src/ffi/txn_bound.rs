//! Transactions on bound keys.

use crate::stm;

use super::arrow::{ArrowArray, ArrowSchema, Batch};
use super::error::khonsu_error;
use super::guard::guard;
use super::handle::borrow;
use super::key::khonsu_key;
use super::out::{clear, given, require, take, write_if};
use super::schema::{khonsu_schema, wanted};
use super::status::khonsu_status;
use super::txn::{export_as, khonsu_txn, on, read};

/// Reads the value of a bound key as one batch, as khonsu_txn_get does of a key by its bytes.
///
/// @param[in]  txn        Not NULL.
/// @param[in]  key        Not NULL; borrowed for the call. Bound in the database of the transaction.
/// @param[in]  schema     May be NULL: any; borrowed for the call. The schema that the value must have, metadata
///                        included.
/// @param[out] out_array  Not NULL. As for khonsu_txn_get.
/// @param[out] out_schema May be NULL. The schema of the array, owned by the caller, who releases it.
/// @param[out] error      May be NULL.
/// @return
/// - KHONSU_STATUS_OK: read.
/// - KHONSU_STATUS_NOT_FOUND: there is no such key.
/// - KHONSU_STATUS_SCHEMA_MISMATCH: the value has another schema; or the transaction has appended rows whose schema is
///   not that of the rows there.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn, key or out_array is NULL, or key was bound in another database; or chunks that
///   were put without full validation turn out malformed when they are joined.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
/// - KHONSU_STATUS_LIMIT_EXCEEDED: the chunks are too large to be one array: use khonsu_txn_get_stream.
/// - KHONSU_STATUS_STORAGE, KHONSU_STATUS_CORRUPTION: with a memory budget (khonsu_options_set_memory_budget), the value
///   is in storage alone and cannot be read, or is damaged; the message says where.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Unless it returns KHONSU_STATUS_OK, release is NULL in both outs; the transaction can go on. Threads: serialized.
/// Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_get_bound(
    txn: *mut khonsu_txn,
    key: *const khonsu_key,
    schema: *const khonsu_schema,
    out_array: *mut ArrowArray,
    out_schema: *mut ArrowSchema,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        clear(out_array);
        clear(out_schema);
        guard(error, || {
            require(out_array, "out_array")?;
            let (key, schema) = (borrow(key, "key")?, wanted(schema)?);
            on(txn, |transaction| read(transaction, key, |batch| export_as(schema, batch, out_array, out_schema)))
        })
    }
}

/// Finds out whether a bound key has a value.
///
/// @param[in]  txn        Not NULL.
/// @param[in]  key        Not NULL; borrowed for the call. Bound in the database of the transaction.
/// @param[out] out_exists Not NULL. Written only on KHONSU_STATUS_OK.
/// @param[out] error      May be NULL.
/// @return
/// - KHONSU_STATUS_OK: written.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn, key or out_exists is NULL, or key was bound in another database.
/// - KHONSU_STATUS_SCHEMA_MISMATCH: the transaction has appended rows whose schema is not that of the rows there.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure the transaction can go on. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_exists_bound(
    txn: *mut khonsu_txn,
    key: *const khonsu_key,
    out_exists: *mut bool,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        guard(error, || {
            require(out_exists, "out_exists")?;
            let key = borrow(key, "key")?;
            let exists = on(txn, |transaction| Ok(transaction.exists_bound(key)?))?;
            write_if(out_exists, || exists);
            Ok(khonsu_status::Ok)
        })
    }
}

/// What put and append have in common.
///
/// # Safety
/// Rules 1, 3 and 4 hold for the parameters.
unsafe fn stage(
    txn: *mut khonsu_txn,
    key: *const khonsu_key,
    array: *mut ArrowArray,
    schema: *const khonsu_schema,
    error: *mut *mut khonsu_error,
    stage: impl FnOnce(&mut stm::Transaction<Batch>, &stm::BoundKey<Batch>, Batch) -> Result<(), stm::Error>,
) -> khonsu_status {
    // SAFETY: rules 1, 3 and 4. The struct is moved before anything can fail; what is left of it is released at the end.
    unsafe {
        let mut array = take(array);
        guard(error, || {
            let array = given(array.as_mut(), "array")?;
            let (schema, key) = (borrow(schema, "schema")?, borrow(key, "key")?);
            on(txn, |transaction| {
                let batch = Batch::from_c(array, schema, transaction.cell().full_validation)?;
                Ok(stage(transaction, key, batch)?)
            })?;
            Ok(khonsu_status::Ok)
        })
    }
}

/// Puts one batch of an imported schema under a bound key, as khonsu_txn_put_with_schema does under a key by its bytes.
///
/// @param[in]  txn    Not NULL.
/// @param[in]  key    Not NULL; borrowed for the call. Bound in the database of the transaction.
/// @param[in]  array  A struct array with one child a column. Not NULL; consumed on every return, success or failure:
///                    its release is NULL then.
/// @param[in]  schema Its schema. Not NULL; borrowed for the call.
/// @param[out] error  May be NULL.
/// @return
/// - KHONSU_STATUS_OK: staged.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn, key, array or schema is NULL, key was bound in another database, array is
///   released or malformed, or does not match the schema.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, is read-only, or is in use.
/// - KHONSU_STATUS_LIMIT_EXCEEDED: a limit on bytes would be passed.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_put_bound(
    txn: *mut khonsu_txn,
    key: *const khonsu_key,
    array: *mut ArrowArray,
    schema: *const khonsu_schema,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1, 3 and 4.
    unsafe { stage(txn, key, array, schema, error, stm::Transaction::put_bound) }
}

/// Adds the rows of one batch of an imported schema under a bound key, as khonsu_txn_append_with_schema does under a key
/// by its bytes.
///
/// @param[in]  txn    Not NULL.
/// @param[in]  key    Not NULL; borrowed for the call. Bound in the database of the transaction.
/// @param[in]  array  A struct array with one child a column. Not NULL; consumed on every return, success or failure:
///                    its release is NULL then.
/// @param[in]  schema Its schema. Not NULL; borrowed for the call.
/// @param[out] error  May be NULL.
/// @return
/// - KHONSU_STATUS_OK: staged.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn, key, array or schema is NULL, key was bound in another database, array is
///   released or malformed, or does not match the schema.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, is read-only, or is in use.
/// - KHONSU_STATUS_SCHEMA_MISMATCH: the transaction has staged rows of another schema for the key.
/// - KHONSU_STATUS_LIMIT_EXCEEDED: a limit on bytes would be passed.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_append_bound(
    txn: *mut khonsu_txn,
    key: *const khonsu_key,
    array: *mut ArrowArray,
    schema: *const khonsu_schema,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1, 3 and 4.
    unsafe { stage(txn, key, array, schema, error, stm::Transaction::append_bound) }
}

/// Deletes a bound key, as khonsu_txn_delete does a key by its bytes. The handle stays as it is.
///
/// @param[in]  txn   Not NULL.
/// @param[in]  key   Not NULL; borrowed for the call. Bound in the database of the transaction.
/// @param[out] error May be NULL.
/// @return
/// - KHONSU_STATUS_OK: staged, whether the key exists or not.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn or key is NULL, or key was bound in another database.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, is read-only, or is in use.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure the transaction is unchanged and can go on. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_delete_bound(
    txn: *mut khonsu_txn,
    key: *const khonsu_key,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        guard(error, || {
            let key = borrow(key, "key")?;
            on(txn, |transaction| Ok(transaction.delete_bound(key)?))?;
            Ok(khonsu_status::Ok)
        })
    }
}
