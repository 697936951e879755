//! Reads of many keys in one call.

use std::ffi::c_void;

use crate::stm::{KeyName, VersionValue};

use super::arrow::{ArrowArray, ArrowArrayStream, ArrowSchema, Batch, Exporter, SchemaRef};
use super::error::{Failure, khonsu_error};
use super::guard::guard;
use super::handle::borrow;
use super::key::{Keys, khonsu_key, numbered};
use super::out::{clear, require, take, write_if};
use super::scan_stream::Entries;
use super::schema::{khonsu_schema, wanted};
use super::status::khonsu_status;
use super::txn::{check_schema, khonsu_txn, on, whole};

/// Where the values go.
#[derive(Clone, Copy)]
struct Outs {
    count: usize,
    arrays: *mut ArrowArray,
    schemas: *mut ArrowSchema,
}

impl Outs {
    /// The places of one value; NULL stays NULL.
    ///
    /// # Safety
    /// The number is below the count.
    unsafe fn get(self, number: usize) -> (*mut ArrowArray, *mut ArrowSchema) {
        // SAFETY: within the arrays of the caller (rule 3).
        unsafe {
            let array = if self.arrays.is_null() { self.arrays } else { self.arrays.add(number) };
            let schema = if self.schemas.is_null() { self.schemas } else { self.schemas.add(number) };
            (array, schema)
        }
    }

    /// Empties all of them.
    ///
    /// # Safety
    /// Rule 3 holds for so many structs behind each of the two.
    unsafe fn clear(self) {
        for number in 0..self.count {
            // SAFETY: the caller's promise.
            unsafe {
                let (array, schema) = self.get(number);
                clear(array);
                clear(schema);
            }
        }
    }

    /// Releases what was given out before a failure.
    ///
    /// # Safety
    /// As for `clear`, which has been called before; what they hold was exported here.
    unsafe fn take_back(self) {
        for number in 0..self.count {
            // SAFETY: the caller's promise.
            unsafe {
                let (array, schema) = self.get(number);
                drop((take(array), take(schema)));
            }
        }
    }
}

/// Fails where there is no place for the values.
fn require_arrays(outs: Outs) -> Result<(), Failure> {
    if outs.count == 0 { Ok(()) } else { require(outs.arrays, "out_arrays") }
}

/// Exports the values of many keys; what has no value stays empty.
///
/// # Safety
/// Rule 1 holds for `txn`, rule 3 for `outs`, which are cleared.
unsafe fn read_many<'k, N: KeyName<'k, Batch>>(
    txn: *mut khonsu_txn,
    key: impl Fn(usize) -> N,
    schema: Option<&SchemaRef>,
    outs: Outs,
) -> Result<khonsu_status, Failure> {
    let mut exporter = Exporter::new();
    let mut give = |number: usize, batch: &Batch| -> Result<(), Failure> {
        check_schema(schema, batch).map_err(|failure| numbered(number, failure))?;
        // SAFETY: rule 3; the core gives the numbers of the keys, and where there are any, there is a place for the
        // arrays, which nobody releases before the exporter is dropped.
        unsafe {
            let (out_array, out_schema) = outs.get(number);
            write_if(out_schema, || batch.schema().export());
            exporter.export_to(batch, outs.count - number, out_array);
        }
        Ok(())
    };
    let read_all = || {
        // SAFETY: rule 1.
        unsafe {
            on(txn, |transaction| {
                let mut outcome = Ok(());
                // Joining chunks, and reading from storage, takes its time and comes after.
                let mut later = Vec::new();
                transaction.get_many_with(outs.count, key, |number, value| {
                    let Some(value) = value.filter(|_| outcome.is_ok()) else { return };
                    match value {
                        VersionValue::InMemory(in_memory) if in_memory.single().is_some() => {
                            outcome = in_memory.single().map_or(Ok(()), |batch| give(number, batch));
                        }
                        _ => later.push((number, value.clone())),
                    }
                })?;
                outcome?;
                later.into_iter().try_for_each(|(number, value)| give(number, &whole(&value.fetch()?)?))
            })
        }
    };
    let read = read_all();
    // Before anything is released.
    drop(exporter);
    if read.is_err() {
        // SAFETY: cleared by the caller's promise, and filled above.
        unsafe { outs.take_back() };
    }
    read.map(|()| khonsu_status::Ok)
}

/// Reads the values of many keys, each as one batch: what a khonsu_txn_get of each would read; at read committed, all of
/// one instant. It takes less time than those calls, for what the keys wait for in memory, they wait for together.
/// Small values share memory, up to 16 of them, which is freed when the last of their arrays is released.
///
/// @param[in]  txn         Not NULL.
/// @param[in]  keys        The keys, so many pointers; may be NULL only with count 0. Borrowed for the call, as are the
///                         keys, of which none is NULL. A key may be there more than once.
/// @param[in]  key_lens    Bytes of each key: 1 to KHONSU_KEY_MAX_BYTES; may be NULL only with count 0.
/// @param[in]  count       How many keys.
/// @param[in]  schema      May be NULL: any; borrowed for the call. The schema that each value must have, metadata
///                         included.
/// @param[out] out_arrays  So many structs, one a key in the order of the keys; may be NULL only with count 0. release is
///                         NULL where the key has no value; the others are as for khonsu_txn_get.
/// @param[out] out_schemas May be NULL. So many structs: the schema of each array, owned by the caller, who releases it;
///                         release is NULL where the key has no value.
/// @param[out] error       May be NULL.
/// @return
/// - KHONSU_STATUS_OK: read, also when keys have no value.
/// - KHONSU_STATUS_SCHEMA_MISMATCH: a value has another schema; or the transaction has appended rows whose schema is not
///   that of the rows there.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn or a key is NULL, keys, key_lens or out_arrays is NULL with a count, or a length
///   is out of range; or chunks that were put without full validation turn out malformed when they are joined.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
/// - KHONSU_STATUS_LIMIT_EXCEEDED: the chunks of a value are too large to be one array: use khonsu_txn_get_stream.
/// - KHONSU_STATUS_STORAGE, KHONSU_STATUS_CORRUPTION: with a memory budget (khonsu_options_set_memory_budget), a value
///   is in storage alone and cannot be read, or is damaged; the message says where.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Unless it returns KHONSU_STATUS_OK, release is NULL in all outs; the transaction can go on, and the keys may count as
/// read. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_get_many(
    txn: *mut khonsu_txn,
    keys: *const *const c_void,
    key_lens: *const usize,
    count: usize,
    schema: *const khonsu_schema,
    out_arrays: *mut ArrowArray,
    out_schemas: *mut ArrowSchema,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    let outs = Outs { count, arrays: out_arrays, schemas: out_schemas };
    // SAFETY: rules 1 to 3.
    unsafe {
        outs.clear();
        guard(error, || {
            require_arrays(outs)?;
            let (keys, schema) = (Keys::check(keys, key_lens, count)?, wanted(schema)?);
            // One that has changed since is empty, which is refused.
            read_many(txn, |number| keys.get(number).unwrap_or_default(), schema, outs)
        })
    }
}

/// Reads the values of many bound keys, each as one batch, as khonsu_txn_get_many does of keys by their bytes.
///
/// @param[in]  txn         Not NULL.
/// @param[in]  keys        The keys, so many handles; may be NULL only with count 0. Borrowed for the call. None is NULL,
///                         and each is bound in the database of the transaction. One may be there more than once.
/// @param[in]  count       How many keys.
/// @param[in]  schema      May be NULL: any; borrowed for the call. The schema that each value must have, metadata
///                         included.
/// @param[out] out_arrays  As for khonsu_txn_get_many.
/// @param[out] out_schemas As for khonsu_txn_get_many.
/// @param[out] error       May be NULL.
/// @return
/// - KHONSU_STATUS_OK: read, also when keys have no value.
/// - KHONSU_STATUS_SCHEMA_MISMATCH: a value has another schema; or the transaction has appended rows whose schema is not
///   that of the rows there.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn or a key is NULL, keys or out_arrays is NULL with a count, or a key was bound in
///   another database; or chunks that were put without full validation turn out malformed when they are joined.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
/// - KHONSU_STATUS_LIMIT_EXCEEDED: the chunks of a value are too large to be one array: use khonsu_txn_get_stream.
/// - KHONSU_STATUS_STORAGE, KHONSU_STATUS_CORRUPTION: with a memory budget (khonsu_options_set_memory_budget), a value
///   is in storage alone and cannot be read, or is damaged; the message says where.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Unless it returns KHONSU_STATUS_OK, release is NULL in all outs; the transaction can go on, and the keys may count as
/// read. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_get_many_bound(
    txn: *mut khonsu_txn,
    keys: *const *const khonsu_key,
    count: usize,
    schema: *const khonsu_schema,
    out_arrays: *mut ArrowArray,
    out_schemas: *mut ArrowSchema,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    let outs = Outs { count, arrays: out_arrays, schemas: out_schemas };
    // SAFETY: rules 1 and 3.
    unsafe {
        outs.clear();
        guard(error, || {
            require_arrays(outs)?;
            if count > 0 {
                require(keys.cast_mut(), "keys")?;
            }
            for number in 0..count {
                borrow(keys.add(number).read_unaligned(), "the key").map_err(|failure| numbered(number, failure))?;
            }
            // Looked at above, each of them.
            let key = |number| &*keys.add(number).read_unaligned().cast();
            read_many::<&crate::stm::BoundKey<Batch>>(txn, key, wanted(schema)?, outs)
        })
    }
}

/// Reads the values of many keys as one stream of record batches, in the form in which khonsu_txn_scan_stream gives a
/// range: first a column "key" (binary, not nullable) that has the entry's key in each of its rows, then the columns of
/// the values. The entries come in the order of the keys; one of no rows, and a key that has no value, gives no rows.
///
/// The entries are read during the call: later writes of the transaction do not show in the stream.
///
/// @param[in]  txn         Not NULL.
/// @param[in]  keys        As for khonsu_txn_get_many.
/// @param[in]  key_lens    As for khonsu_txn_get_many.
/// @param[in]  count       How many keys.
/// @param[out] out_present May be NULL. So many truth values: whether each key has a value. Written only on
///                         KHONSU_STATUS_OK.
/// @param[out] out_stream  Not NULL. As for khonsu_txn_scan_stream; its schema has only the column "key" when no key has
///                         a value.
/// @param[out] error       May be NULL.
/// @return
/// - KHONSU_STATUS_OK: read, also when keys have no value.
/// - KHONSU_STATUS_SCHEMA_MISMATCH: two values have different schemas (the message names their keys), or the transaction
///   has appended rows whose schema is not that of the rows there.
/// - KHONSU_STATUS_INVALID_ARGUMENT: txn, a key or out_stream is NULL, keys or key_lens is NULL with a count, or a length
///   is out of range.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or is in use.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Unless it returns KHONSU_STATUS_OK, release is NULL in out_stream; the transaction can go on, and the keys may count
/// as read. A get_next of the stream fails with EINVAL when values put without full validation turn out malformed.
/// Threads: serialized; the stream: one thread at a time, any thread. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_txn_get_many_stream(
    txn: *mut khonsu_txn,
    keys: *const *const c_void,
    key_lens: *const usize,
    count: usize,
    out_present: *mut bool,
    out_stream: *mut ArrowArrayStream,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 3.
    unsafe {
        clear(out_stream);
        guard(error, || {
            require(out_stream, "out_stream")?;
            let keys = Keys::check(keys, key_lens, count)?;
            let key = |number| keys.get(number).unwrap_or_default();
            on(txn, |transaction| {
                let mut entries = Entries::new(Some(count as u64));
                let mut present = vec![false; if out_present.is_null() { 0 } else { count }];
                transaction.get_many_with(count, key, |number, value| {
                    if let Some(value) = value {
                        entries.push(key(number), value);
                        present.get_mut(number).into_iter().for_each(|present| *present = true);
                    }
                })?;
                let stream = entries.export()?;
                present.iter().enumerate().for_each(|(number, present)| out_present.add(number).write(*present));
                write_if(out_stream, || stream);
                Ok(khonsu_status::Ok)
            })
        })
    }
}
