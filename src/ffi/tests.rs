//! The exports, called as C would call them.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, Int32Array, Int64Array, RecordBatch, RecordBatchIterator, RecordBatchReader,
    StringArray, StructArray,
};
use arrow_schema::{DataType, Field, Schema};

use super::arrow::{ArrowArray, ArrowArrayStream, ArrowSchema};
use super::cursor::*;
use super::db::*;
use super::error::*;
use super::ipc::*;
use super::options::*;
use super::schema::*;
use super::status::khonsu_status::{self, *};
use super::txn::*;
use super::txn_many::*;
use super::txn_options::*;
use super::version::khonsu_version;

/// Runs a call that takes an error, and checks that status and error object agree.
macro_rules! call {
    ($function:ident($($argument:expr),* $(,)?)) => {{
        let mut error = std::ptr::dangling_mut::<khonsu_error>();
        // SAFETY: the tests keep the rules of the boundary, or break one that the call checks.
        let status = unsafe { $function($($argument,)* &mut error) };
        let failed = !matches!(status, Ok | NotFound);
        assert_eq!(!error.is_null(), failed, "{} returned {status:?}", stringify!($function));
        // SAFETY: the error is NULL or was made by the call.
        unsafe {
            assert_eq!(khonsu_error_status(error), if failed { status } else { Ok });
            assert_eq!(CStr::from_ptr(khonsu_error_message(error)).is_empty(), !failed);
            khonsu_error_free(error);
        }
        status
    }};
}

/// Frees by the function of its handle.
struct Owned<T> {
    handle: *mut T,
    free: unsafe extern "C" fn(*mut T),
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the handle is owned, and freed once.
        unsafe { (self.free)(self.handle) }
    }
}

impl<T> std::ops::Deref for Owned<T> {
    type Target = *mut T;

    fn deref(&self) -> &*mut T {
        &self.handle
    }
}

fn open_with(options: *const khonsu_options) -> Owned<khonsu_db> {
    let mut handle = null_mut();
    assert_eq!(call!(khonsu_db_open(options, &mut handle)), Ok);
    Owned { handle, free: khonsu_db_free }
}

fn open() -> Owned<khonsu_db> {
    open_with(null())
}

fn begin_with(db: &Owned<khonsu_db>, options: *const khonsu_txn_options) -> Owned<khonsu_txn> {
    let mut handle = null_mut();
    assert_eq!(call!(khonsu_db_begin(**db, options, &mut handle)), Ok);
    Owned { handle, free: khonsu_txn_free }
}

fn begin(db: &Owned<khonsu_db>) -> Owned<khonsu_txn> {
    begin_with(db, null())
}

fn commit(txn: &Owned<khonsu_txn>) -> khonsu_status {
    call!(khonsu_txn_commit(**txn))
}

fn bytes(text: &str) -> (*const c_void, usize) {
    (text.as_ptr().cast(), text.len())
}

/// One column "n" of these numbers.
fn numbers(values: &[i64]) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("n", DataType::Int64, false)])
        .with_metadata(HashMap::from([("unit".to_owned(), "1".to_owned())]));
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(values.to_vec()))]).unwrap()
}

fn texts(values: &[&str]) -> RecordBatch {
    RecordBatch::try_from_iter([("t", Arc::new(StringArray::from(values.to_vec())) as ArrayRef)]).unwrap()
}

/// The same memory as another type of the same layout.
fn as_c<T, U>(value: T) -> U {
    assert_eq!(size_of::<T>(), size_of::<U>());
    let value = std::mem::ManuallyDrop::new(value);
    // SAFETY: used for arrow-rs's declarations of the Arrow structs, which have the layout of ours.
    unsafe { std::ptr::from_ref(&value).cast::<U>().read() }
}

/// The batch as a foreign producer gives it.
fn c_array(batch: &RecordBatch) -> ArrowArray {
    as_c(arrow_data::ffi::FFI_ArrowArray::new(&StructArray::from(batch.clone()).to_data()))
}

fn c_schema(batch: &RecordBatch) -> ArrowSchema {
    as_c(arrow_schema::ffi::FFI_ArrowSchema::try_from(batch.schema().as_ref()).unwrap())
}

fn c_stream(batches: Vec<RecordBatch>, schema: &RecordBatch) -> ArrowArrayStream {
    let batches = RecordBatchIterator::new(batches.into_iter().map(Result::Ok), schema.schema());
    as_c(arrow_array::ffi_stream::FFI_ArrowArrayStream::new(Box::new(batches)))
}

fn rust_batch(array: ArrowArray, schema: ArrowSchema) -> RecordBatch {
    let schema: arrow_schema::ffi::FFI_ArrowSchema = as_c(schema);
    // SAFETY: the array was exported with this schema.
    let data = unsafe { arrow_array::ffi::from_ffi(as_c(array), &schema) }.unwrap();
    data.validate_full().unwrap();
    RecordBatch::from(StructArray::from(data)).with_schema(Arc::new(Schema::try_from(&schema).unwrap())).unwrap()
}

fn rust_batches(stream: ArrowArrayStream) -> (Arc<Schema>, Vec<RecordBatch>) {
    let reader = arrow_array::ffi_stream::RecordBatchStreamReader::try_new(as_c(stream)).unwrap();
    (reader.schema(), reader.map(Result::unwrap).collect())
}

fn put(txn: *mut khonsu_txn, key: &str, batch: &RecordBatch) -> khonsu_status {
    let (mut array, mut schema) = (c_array(batch), c_schema(batch));
    let status = call!(khonsu_txn_put(txn, bytes(key).0, key.len(), &mut array, &mut schema));
    assert!(array.release.is_none() && schema.release.is_none());
    status
}

fn append(txn: *mut khonsu_txn, key: &str, batch: &RecordBatch) -> khonsu_status {
    let (mut array, mut schema) = (c_array(batch), c_schema(batch));
    let status = call!(khonsu_txn_append(txn, bytes(key).0, key.len(), &mut array, &mut schema));
    assert!(array.release.is_none() && schema.release.is_none());
    status
}

fn get(txn: *mut khonsu_txn, key: &str) -> Result<RecordBatch, khonsu_status> {
    let (mut array, mut schema) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let status = call!(khonsu_txn_get(txn, bytes(key).0, key.len(), array.as_mut_ptr(), schema.as_mut_ptr()));
    // SAFETY: both are written on every return.
    let (array, schema): (ArrowArray, ArrowSchema) = unsafe { (array.assume_init(), schema.assume_init()) };
    if status == Ok {
        return Result::Ok(rust_batch(array, schema));
    }
    assert!(array.release.is_none() && schema.release.is_none());
    Err(status)
}

/// Puts and commits.
fn store(db: &Owned<khonsu_db>, entries: &[(&str, RecordBatch)]) {
    let txn = begin(db);
    for (key, batch) in entries {
        assert_eq!(put(*txn, key, batch), Ok);
    }
    assert_eq!(commit(&txn), Ok);
}

thread_local! {
    /// Release callbacks of `watched` arrays that ran on this thread.
    static RELEASED: Cell<usize> = const { Cell::new(0) };
}

type Callback = Box<dyn FnMut()>;

/// What a watched array carries: itself as it was, and what to do when it is released.
struct Watched {
    inner: ArrowArray,
    callback: Callback,
}

unsafe extern "C" fn release_watched(array: *mut ArrowArray) {
    // SAFETY: called by the owner of an array that `watched` made.
    let mut watched = unsafe {
        (*array).release = None;
        Box::from_raw((*array).private_data.cast::<Watched>())
    };
    RELEASED.set(RELEASED.get() + 1);
    (watched.callback)();
    drop(watched.inner);
}

/// An array that tells of its release.
fn watched(batch: &RecordBatch, callback: impl FnMut() + 'static) -> ArrowArray {
    watched_array(c_array(batch), callback)
}

fn watched_array(inner: ArrowArray, callback: impl FnMut() + 'static) -> ArrowArray {
    let mut outer = ArrowArray { private_data: null_mut(), release: Some(release_watched), ..ArrowArray::released() };
    (outer.length, outer.null_count, outer.offset) = (inner.length, inner.null_count, inner.offset);
    (outer.n_buffers, outer.buffers) = (inner.n_buffers, inner.buffers);
    (outer.n_children, outer.children) = (inner.n_children, inner.children);
    outer.private_data = Box::into_raw(Box::new(Watched { inner, callback: Box::new(callback) })).cast();
    outer
}

#[test]
fn a_value_goes_in_and_comes_out() {
    let db = open();
    let (first, second) = (numbers(&[1, 2, 3]), numbers(&[4]));
    let txn = begin(&db);
    assert_eq!(get(*txn, "a"), Err(NotFound));
    assert_eq!(put(*txn, "a", &first), Ok);
    assert_eq!(get(*txn, "a").unwrap(), first);
    assert_eq!(get(*txn, "a").unwrap().schema(), first.schema(), "metadata included");
    let mut version = 7;
    assert_eq!(call!(khonsu_txn_commit_version(*txn, &mut version)), InvalidState);
    assert_eq!(version, 7);
    let other = begin(&db);
    assert_eq!(get(*other, "a"), Err(NotFound), "others see it after the commit");
    assert_eq!(commit(&txn), Ok);
    assert_eq!(call!(khonsu_txn_commit_version(*txn, &mut version)), Ok);
    assert_ne!(version, 7);

    let txn = begin(&db);
    assert_eq!(append(*txn, "a", &second), Ok);
    assert_eq!(get(*txn, "a").unwrap(), numbers(&[1, 2, 3, 4]));
    let mut stream = ArrowArrayStream::released();
    assert_eq!(call!(khonsu_txn_get_stream(*txn, bytes("a").0, 1, &mut stream)), Ok);
    assert_eq!(call!(khonsu_txn_delete(*txn, bytes("a").0, 1)), Ok);
    assert_eq!(call!(khonsu_txn_delete(*txn, bytes("b").0, 1)), Ok, "an absent key can be deleted");
    let mut exists = true;
    assert_eq!(call!(khonsu_txn_exists(*txn, bytes("a").0, 1, &mut exists)), Ok);
    assert!(!exists);
    drop((txn, db));
    assert_eq!(rust_batches(stream).1, [first, second], "a stream outlives its transaction and database");
}

#[test]
fn imported_schemas_spare_the_schema() {
    let db = open();
    let batch = numbers(&[5, 6]);
    let import = |batch: &RecordBatch| {
        let (mut schema, mut handle) = (c_schema(batch), null_mut());
        assert_eq!(call!(khonsu_schema_import(&mut schema, &mut handle)), Ok);
        assert!(schema.release.is_none());
        Owned { handle, free: khonsu_schema_free }
    };
    let (schema, other) = (import(&batch), import(&texts(&[])));
    let (key, len) = bytes("k");
    let txn = begin(&db);
    let mut array = c_array(&batch);
    assert_eq!(call!(khonsu_txn_put_with_schema(*txn, key, len, &mut array, *schema)), Ok);
    assert!(array.release.is_none());
    let mut array = c_array(&batch);
    assert_eq!(call!(khonsu_txn_append_with_schema(*txn, key, len, &mut array, *schema)), Ok);
    let mut array = c_array(&batch);
    assert_eq!(call!(khonsu_txn_put_with_schema(*txn, key, len, &mut array, *other)), InvalidArgument);
    assert!(array.release.is_none());

    let mut array = ArrowArray::released();
    assert_eq!(call!(khonsu_txn_get_with_schema(*txn, key, len, *other, &mut array)), SchemaMismatch);
    assert!(array.release.is_none());
    assert_eq!(call!(khonsu_txn_get_with_schema(*txn, key, len, *schema, &mut array)), Ok);
    let mut exported = ArrowSchema::released();
    assert_eq!(call!(khonsu_schema_export(*schema, &mut exported)), Ok);
    drop((schema, other));
    assert_eq!(rust_batch(array, exported), numbers(&[5, 6, 5, 6]));
    assert_eq!(call!(khonsu_txn_get_with_schema(*txn, key, len, null(), null_mut())), InvalidArgument);
}

#[test]
fn inputs_are_consumed_on_every_path() {
    let db = open();
    let batch = numbers(&[1]);
    let (open_txn, ended) = (begin(&db), begin(&db));
    assert_eq!(commit(&ended), Ok);
    let mut schema = null_mut();
    assert_eq!(call!(khonsu_schema_import(&mut c_schema(&batch), &mut schema)), Ok);
    let schema = Owned { handle: schema, free: khonsu_schema_free };
    let long = "k".repeat(KHONSU_KEY_MAX_BYTES + 1);
    let expected = RELEASED.get();
    let mut calls = 0;
    let good = bytes("k");
    for (txn, (key, len), status) in [
        (null_mut(), good, InvalidArgument),
        (*ended, good, InvalidState),
        (*open_txn, (null(), 1), InvalidArgument),
        (*open_txn, (null(), 0), InvalidArgument),
        (*open_txn, (good.0, 0), InvalidArgument),
        (*open_txn, bytes(&long), InvalidArgument),
        (*open_txn, (good.0, usize::MAX), InvalidArgument),
    ] {
        for stage in [khonsu_txn_put, khonsu_txn_append] {
            let (mut array, mut schema) = (watched(&batch, || {}), c_schema(&batch));
            assert_eq!(call!(stage(txn, key, len, &mut array, &mut schema)), status);
            assert!(array.release.is_none() && schema.release.is_none());
            calls += 1;
        }
        for stage in [khonsu_txn_put_with_schema, khonsu_txn_append_with_schema] {
            let mut array = watched(&batch, || {});
            assert_eq!(call!(stage(txn, key, len, &mut array, *schema)), status);
            assert!(array.release.is_none());
            calls += 1;
        }
        let mut stream = c_stream(vec![batch.clone()], &batch);
        assert_eq!(call!(khonsu_txn_put_stream(txn, key, len, &mut stream)), status);
        assert!(stream.release.is_none());
    }
    // One of the two is NULL, or released.
    for stage in [khonsu_txn_put, khonsu_txn_append] {
        let mut array = watched(&batch, || {});
        assert_eq!(call!(stage(*open_txn, good.0, good.1, &mut array, null_mut())), InvalidArgument);
        assert!(array.release.is_none());
        let mut array = watched(&batch, || {});
        assert_eq!(call!(stage(*open_txn, good.0, good.1, &mut array, &mut ArrowSchema::released())), InvalidArgument);
        assert!(array.release.is_none());
        calls += 2;
        for array in [null_mut(), &mut ArrowArray::released()] {
            let mut schema = c_schema(&batch);
            assert_eq!(call!(stage(*open_txn, good.0, good.1, array, &mut schema)), InvalidArgument);
            assert!(schema.release.is_none());
        }
    }
    let mut array = watched(&batch, || {});
    assert_eq!(call!(khonsu_txn_put_with_schema(*open_txn, good.0, good.1, &mut array, null())), InvalidArgument);
    assert!(array.release.is_none());
    calls += 1;
    // Array and schema do not fit.
    let (mut array, mut other) = (watched(&batch, || {}), c_schema(&texts(&[])));
    assert_eq!(call!(khonsu_txn_put(*open_txn, good.0, good.1, &mut array, &mut other)), InvalidArgument);
    assert!(array.release.is_none() && other.release.is_none());
    calls += 1;
    for stream in [null_mut(), &mut ArrowArrayStream::released()] {
        assert_eq!(call!(khonsu_txn_put_stream(*open_txn, good.0, good.1, stream)), InvalidArgument);
    }
    let mut schema = c_schema(&batch);
    assert_eq!(call!(khonsu_schema_import(&mut schema, null_mut())), InvalidArgument);
    assert!(schema.release.is_none());
    let mut handle = std::ptr::dangling_mut();
    assert_eq!(call!(khonsu_schema_import(null_mut(), &mut handle)), InvalidArgument);
    assert!(handle.is_null());
    let path = CString::new("/nowhere/at/all").unwrap();
    for (path, format, compression, status) in [
        (null(), 1, 0, InvalidArgument),
        (c"".as_ptr(), 1, 0, InvalidArgument),
        (path.as_ptr(), 0, 0, InvalidArgument),
        (path.as_ptr(), 1, 3, InvalidArgument),
        (path.as_ptr(), 1, -1, InvalidArgument),
        (path.as_ptr(), 2, 2, Storage),
    ] {
        let mut stream = c_stream(vec![batch.clone()], &batch);
        assert_eq!(call!(khonsu_ipc_write_stream(path, &mut stream, format, compression)), status);
        assert!(stream.release.is_none());
    }
    assert_eq!(RELEASED.get() - expected, calls, "each array is released once");
    assert_eq!(get(*open_txn, "k"), Err(NotFound), "nothing was staged");
}

/// What stands in an out-parameter before a call: whoever released it would end the test.
macro_rules! stale {
    ($type:ident) => {{
        unsafe extern "C" fn release(_: *mut $type) {
            std::process::abort();
        }
        $type { release: Some(release), ..$type::released() }
    }};
}

#[test]
fn outputs_are_cleared_when_nothing_is_given() {
    let db = open();
    let txn = begin(&db);
    let (key, len) = bytes("absent");
    for (txn, status) in [(*txn, NotFound), (null_mut(), InvalidArgument)] {
        let (mut array, mut schema) = (stale!(ArrowArray), stale!(ArrowSchema));
        assert_eq!(call!(khonsu_txn_get(txn, key, len, &mut array, &mut schema)), status);
        assert!(array.release.is_none() && schema.release.is_none());
        let mut stream = stale!(ArrowArrayStream);
        assert_eq!(call!(khonsu_txn_get_stream(txn, key, len, &mut stream)), status);
        assert!(stream.release.is_none());
    }
    let mut array = stale!(ArrowArray);
    assert_eq!(call!(khonsu_txn_get_with_schema(*txn, key, len, null(), &mut array)), InvalidArgument);
    assert!(array.release.is_none());
    let mut schema = stale!(ArrowSchema);
    assert_eq!(call!(khonsu_txn_get(*txn, key, len, null_mut(), &mut schema)), InvalidArgument);
    assert!(schema.release.is_none());
    schema = stale!(ArrowSchema);
    assert_eq!(call!(khonsu_schema_export(null(), &mut schema)), InvalidArgument);
    assert!(schema.release.is_none());
    let (mut array, mut schema) = (stale!(ArrowArray), stale!(ArrowSchema));
    assert_eq!(call!(khonsu_cursor_get(null_mut(), &mut array, &mut schema)), InvalidArgument);
    assert!(array.release.is_none() && schema.release.is_none());
    let mut cursor = std::ptr::dangling_mut();
    assert_eq!(call!(khonsu_txn_scan(*txn, null(), 0, null(), 0, 2, 0, &mut cursor)), InvalidArgument);
    assert!(cursor.is_null());
    cursor = std::ptr::dangling_mut();
    assert_eq!(call!(khonsu_txn_scan_prefix(null_mut(), null(), 0, 0, 0, &mut cursor)), InvalidArgument);
    assert!(cursor.is_null());
    let mut handle = std::ptr::dangling_mut();
    assert_eq!(call!(khonsu_db_begin(null(), null(), &mut handle)), InvalidArgument);
    assert!(handle.is_null());
    let mut stream = stale!(ArrowArrayStream);
    assert_eq!(call!(khonsu_txn_scan_stream(*txn, null(), 9, null(), 0, 0, 0, &mut stream)), InvalidArgument);
    assert!(stream.release.is_none());
    stream = stale!(ArrowArrayStream);
    assert_eq!(call!(khonsu_ipc_open_stream(c"/nowhere/at/all".as_ptr(), &mut stream)), Storage);
    assert!(stream.release.is_none());
}

#[test]
fn required_outputs_and_receivers_must_be_there() {
    let db = open();
    let txn = begin(&db);
    let (key, len) = bytes("k");
    let mut word = 0_u64;
    assert_eq!(call!(khonsu_db_open(null(), null_mut())), InvalidArgument);
    assert_eq!(call!(khonsu_db_begin(*db, null(), null_mut())), InvalidArgument);
    assert_eq!(call!(khonsu_db_sync(null())), InvalidArgument);
    assert_eq!(call!(khonsu_db_sync(*db)), Ok);
    assert_eq!(call!(khonsu_db_transact(*db, null(), None, null_mut(), null_mut())), InvalidArgument);
    assert_eq!(call!(khonsu_db_transact(null(), null(), Some(give_up), null_mut(), null_mut())), InvalidArgument);
    assert_eq!(call!(khonsu_txn_get(*txn, key, len, null_mut(), null_mut())), InvalidArgument);
    assert_eq!(call!(khonsu_txn_get_stream(*txn, key, len, null_mut())), InvalidArgument);
    assert_eq!(call!(khonsu_txn_exists(*txn, key, len, null_mut())), InvalidArgument);
    assert_eq!(call!(khonsu_txn_scan(*txn, null(), 0, null(), 0, 0, 0, null_mut())), InvalidArgument);
    assert_eq!(call!(khonsu_txn_scan_prefix(*txn, null(), 0, 0, 0, null_mut())), InvalidArgument);
    assert_eq!(call!(khonsu_txn_scan_stream(*txn, null(), 0, null(), 0, 0, 0, null_mut())), InvalidArgument);
    assert_eq!(call!(khonsu_txn_savepoint(*txn, null_mut())), InvalidArgument);
    assert_eq!(call!(khonsu_txn_savepoint(null_mut(), &mut word)), InvalidArgument);
    assert_eq!(call!(khonsu_txn_rollback_to(*txn, 77)), InvalidArgument);
    assert_eq!(call!(khonsu_txn_release(*txn, 77)), InvalidArgument);
    assert_eq!(call!(khonsu_txn_commit_version(*txn, null_mut())), InvalidArgument);
    assert_eq!(call!(khonsu_txn_commit_version(null(), &mut word)), InvalidArgument);
    assert_eq!(call!(khonsu_txn_commit(null_mut())), InvalidArgument);
    assert_eq!(call!(khonsu_txn_rollback(null_mut())), InvalidArgument);
    assert_eq!(call!(khonsu_txn_delete(*txn, null(), 3)), InvalidArgument);
    assert_eq!(call!(khonsu_cursor_next(null_mut())), InvalidArgument);
    assert_eq!(call!(khonsu_cursor_key(null(), null_mut(), null_mut())), InvalidArgument);
    assert_eq!(call!(khonsu_cursor_get(null_mut(), &mut ArrowArray::released(), null_mut())), InvalidArgument);
    assert_eq!(call!(khonsu_schema_export(null(), &mut ArrowSchema::released())), InvalidArgument);
    assert_eq!(call!(khonsu_ipc_open_stream(null(), &mut ArrowArrayStream::released())), InvalidArgument);
    assert_eq!(call!(khonsu_ipc_open_stream(c"x".as_ptr(), null_mut())), InvalidArgument);
    // SAFETY: freeing NULL is allowed.
    unsafe {
        khonsu_error_free(null_mut());
        khonsu_options_free(null_mut());
        khonsu_txn_options_free(null_mut());
        khonsu_db_free(null_mut());
        khonsu_txn_free(null_mut());
        khonsu_cursor_free(null_mut());
        khonsu_schema_free(null_mut());
        assert_eq!(khonsu_error_status(null()), Ok);
        assert_eq!(khonsu_error_conflict_count(null()), 0);
        assert_eq!(*khonsu_error_message(null()), 0);
        assert_eq!(CStr::from_ptr(khonsu_version()).to_str(), Result::Ok(env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn an_ended_transaction_says_so() {
    let db = open();
    store(&db, &[("k", numbers(&[1]))]);
    let (key, len) = bytes("k");
    for end in [khonsu_txn_commit, khonsu_txn_rollback] {
        let txn = begin(&db);
        let mut cursor = null_mut();
        assert_eq!(call!(khonsu_txn_scan(*txn, null(), 0, null(), 0, 0, 0, &mut cursor)), Ok);
        let cursor = Owned { handle: cursor, free: khonsu_cursor_free };
        assert_eq!(call!(khonsu_cursor_next(*cursor)), Ok);
        assert_eq!(call!(end(*txn)), Ok);
        assert_eq!(put(*txn, "k", &numbers(&[2])), InvalidState);
        assert_eq!(append(*txn, "k", &numbers(&[2])), InvalidState);
        assert_eq!(get(*txn, "k"), Err(InvalidState));
        assert_eq!(call!(khonsu_txn_get_stream(*txn, key, len, &mut ArrowArrayStream::released())), InvalidState);
        assert_eq!(call!(khonsu_txn_exists(*txn, key, len, &mut true)), InvalidState);
        assert_eq!(call!(khonsu_txn_delete(*txn, key, len)), InvalidState);
        assert_eq!(call!(khonsu_txn_set_conflict_resolution(*txn, key, len, 1)), InvalidState);
        assert_eq!(call!(khonsu_txn_scan(*txn, null(), 0, null(), 0, 0, 0, &mut null_mut())), InvalidState);
        assert_eq!(call!(khonsu_txn_scan_prefix(*txn, null(), 0, 0, 0, &mut null_mut())), InvalidState);
        let mut stream = ArrowArrayStream::released();
        assert_eq!(call!(khonsu_txn_scan_stream(*txn, null(), 0, null(), 0, 0, 0, &mut stream)), InvalidState);
        assert_eq!(call!(khonsu_txn_savepoint(*txn, &mut 0)), InvalidState);
        assert_eq!(call!(khonsu_txn_rollback_to(*txn, 0)), InvalidState);
        assert_eq!(call!(khonsu_txn_release(*txn, 0)), InvalidState);
        assert_eq!(call!(khonsu_txn_commit(*txn)), InvalidState);
        assert_eq!(call!(khonsu_txn_rollback(*txn)), InvalidState);
        let after = |cursor: *mut khonsu_cursor| {
            assert_eq!(call!(khonsu_cursor_next(cursor)), InvalidState);
            assert_eq!(call!(khonsu_cursor_key(cursor, &mut null(), &mut 0)), InvalidState);
            assert_eq!(call!(khonsu_cursor_get(cursor, &mut ArrowArray::released(), null_mut())), InvalidState);
        };
        after(*cursor);
        drop(txn);
        after(*cursor);
    }
}

#[test]
fn freeing_rolls_back_and_leaves_cursors_safe() {
    let db = open();
    store(&db, &[("k", numbers(&[1]))]);
    let txn = begin(&db);
    assert_eq!(put(*txn, "k", &numbers(&[2])), Ok);
    let mut cursor = null_mut();
    assert_eq!(call!(khonsu_txn_scan(*txn, null(), 0, null(), 0, 0, 0, &mut cursor)), Ok);
    let cursor = Owned { handle: cursor, free: khonsu_cursor_free };
    drop(txn);
    assert_eq!(call!(khonsu_cursor_next(*cursor)), InvalidState);
    assert_eq!(stats(&db).rollbacks, 1);
    let txn = begin(&db);
    assert_eq!(get(*txn, "k").unwrap(), numbers(&[1]));
    drop(db);
    drop(cursor);
    assert_eq!(get(*txn, "k").unwrap(), numbers(&[1]), "a transaction keeps its database");
    assert_eq!(commit(&txn), Ok);
}

fn stats(db: &Owned<khonsu_db>) -> khonsu_stats {
    let mut stats = khonsu_stats::default();
    assert_eq!(call!(khonsu_db_stats(**db, &mut stats, size_of::<khonsu_stats>())), Ok);
    stats
}

#[test]
fn statistics_are_written_as_far_as_the_caller_knows_them() {
    let db = open();
    store(&db, &[("a", numbers(&[1])), ("b", numbers(&[2]))]);
    let all = stats(&db);
    assert_eq!((all.keys, all.versions, all.commits, all.rollbacks), (2, 2, 1, 0));
    assert!(all.live_bytes > 0 && all.version > 0);
    assert_eq!((all.resident_bytes, all.cold_bytes, all.cold_reads), (all.live_bytes, 0, 0));
    let mut short = khonsu_stats { versions: 99, ..Default::default() };
    assert_eq!(call!(khonsu_db_stats(*db, &mut short, 8)), Ok);
    assert_eq!((short.keys, short.versions), (2, 99));
    #[repr(C)]
    struct Longer {
        known: khonsu_stats,
        unknown: u64,
    }
    let mut longer = Longer { known: khonsu_stats::default(), unknown: 99 };
    assert_eq!(call!(khonsu_db_stats(*db, &mut longer.known, size_of::<Longer>())), Ok);
    assert_eq!((longer.known.commits, longer.unknown), (1, 99));
    assert_eq!(call!(khonsu_db_stats(*db, &mut short, 0)), InvalidArgument);
    assert_eq!(call!(khonsu_db_stats(*db, null_mut(), 8)), InvalidArgument);
    assert_eq!(call!(khonsu_db_stats(null(), &mut short, 8)), InvalidArgument);
}

#[test]
fn exported_arrays_count_as_pinned() {
    let db = open();
    store(&db, &[("k", numbers(&[0; 1000]))]);
    let txn = begin(&db);
    let mut array = ArrowArray::released();
    assert_eq!(call!(khonsu_txn_get(*txn, bytes("k").0, 1, &mut array, null_mut())), Ok);
    // Other tests of the process export at the same time: there is no upper bound.
    assert!(stats(&db).pinned_bytes >= 8000);
}

/// Values at both sides of the sizes up to which they are given out as copies, and in one allocation.
fn samples() -> Vec<RecordBatch> {
    let rows = [1, 2, 3, 32, 33, 0, 5, 1000, 1, 31, 513];
    let mut samples: Vec<_> = rows.iter().map(|rows| numbers(&Vec::from_iter(0..*rows))).collect();
    let column = |rows| Arc::new(Int64Array::from_iter_values(0..rows)) as ArrayRef;
    for (columns, rows) in [(2, 1), (8, 4), (8, 5), (4, 1), (9, 1), (32, 1)] {
        let columns = (0..columns).map(|number| (format!("c{number}"), column(rows)));
        samples.push(RecordBatch::try_from_iter(columns).unwrap());
    }
    samples.push(texts(&["a", "b"]));
    samples
}

#[test]
fn exports_outlive_what_they_were_made_of() {
    let db = open();
    let samples = samples();
    let keys: Vec<_> = (0..samples.len()).map(|number| format!("k{number}")).collect();
    let names: Vec<_> = keys.iter().map(String::as_str).collect();
    store(&db, &Vec::from_iter(names.iter().copied().zip(samples.iter().cloned())));
    let txn = begin(&db);
    let mut exports: Vec<_> = names.iter().map(|name| get(*txn, name).unwrap()).collect();
    drop(txn);
    store(&db, &Vec::from_iter(names.iter().map(|name| (*name, numbers(&[-1])))));
    let txn = begin(&db);
    assert_eq!(get(*txn, "k0"), Result::Ok(numbers(&[-1])));
    drop(txn);
    assert_eq!(exports, samples);
    drop(db);
    assert_eq!(exports, samples);
    assert_eq!(exports.pop(), samples.last().cloned());
}

#[test]
fn what_was_read_together_is_released_in_any_order_on_any_thread() {
    let db = open();
    let samples = samples();
    // More than one group of exports, with keys that have no value between them.
    let keys: Vec<_> = (0..3 * samples.len()).map(|number| format!("k{number}")).collect();
    let value_of = |number: usize| samples[number % samples.len()].clone();
    let exists = |number: usize| !number.is_multiple_of(5);
    let stored = keys.iter().enumerate().filter(|(number, _)| exists(*number));
    store(&db, &Vec::from_iter(stored.map(|(number, key)| (key.as_str(), value_of(number)))));

    let starts: Vec<_> = keys.iter().map(|key| bytes(key).0).collect();
    let lengths: Vec<_> = keys.iter().map(|key| key.len()).collect();
    let mut arrays = Vec::from_iter(keys.iter().map(|_| ArrowArray::released()));
    let mut schemas = Vec::from_iter(keys.iter().map(|_| ArrowSchema::released()));
    let txn = begin(&db);
    let (starts, lengths, outs) = (starts.as_ptr(), lengths.as_ptr(), (arrays.as_mut_ptr(), schemas.as_mut_ptr()));
    assert_eq!(call!(khonsu_txn_get_many(*txn, starts, lengths, keys.len(), null(), outs.0, outs.1)), Ok);
    drop(txn);
    store(&db, &Vec::from_iter(keys.iter().map(|key| (key.as_str(), numbers(&[-1])))));
    drop(db);

    // Of the exports, some are released whole, here or there, some without their children, which live on and are
    // released there. What is moved out is read before and after.
    let mut elsewhere: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    for (number, (mut array, schema)) in arrays.into_iter().zip(schemas).enumerate().rev() {
        assert_eq!(array.release.is_some(), exists(number));
        if !exists(number) {
            continue;
        }
        let expected = value_of(number);
        match number % 3 {
            0 => assert_eq!(rust_batch(array, schema), expected),
            1 => elsewhere.push(Box::new(move || assert_eq!(rust_batch(array, schema), expected))),
            _ => {
                for (column, field) in expected.columns().iter().zip(expected.schema().fields()).rev() {
                    let index = expected.schema().index_of(field.name()).unwrap();
                    // SAFETY: a consumer may move children out.
                    let child = unsafe { ArrowArray::take(*array.children.add(index)) };
                    let (column, data_type) = (column.clone(), field.data_type().clone());
                    elsewhere.push(Box::new(move || {
                        // SAFETY: exported with this type.
                        let data = unsafe { arrow_array::ffi::from_ffi_and_data_type(as_c(child), data_type) };
                        assert_eq!(data.unwrap(), column.to_data());
                    }));
                }
                array.release_in_place();
            }
        }
    }
    let (these, those): (Vec<_>, Vec<_>) = elsewhere.into_iter().enumerate().partition(|(number, _)| number % 2 == 0);
    std::thread::scope(|scope| {
        for part in [these, those] {
            scope.spawn(|| part.into_iter().for_each(|(_, check)| check()));
        }
    });
}

#[test]
fn reads_of_many_that_fail_give_nothing() {
    let db = open();
    store(&db, &[("a", numbers(&[1])), ("b", numbers(&[2])), ("c", texts(&["x"])), ("d", numbers(&[4]))]);
    let (mut schema, mut wanted) = (c_schema(&numbers(&[])), null_mut());
    assert_eq!(call!(khonsu_schema_import(&mut schema, &mut wanted)), Ok);
    let wanted = Owned { handle: wanted, free: khonsu_schema_free };
    let keys = ["a", "b", "c", "d"];
    let (starts, lengths) = (keys.map(|key| bytes(key).0), [1; 4]);
    let mut arrays = [const { ArrowArray::released() }; 4];
    let txn = begin(&db);
    let outs = arrays.as_mut_ptr();
    let status = call!(khonsu_txn_get_many(*txn, starts.as_ptr(), lengths.as_ptr(), 4, *wanted, outs, null_mut()));
    assert_eq!(status, SchemaMismatch);
    assert!(arrays.iter().all(|array| array.release.is_none()));
}

#[test]
fn options_are_validated() {
    let options = Owned { handle: khonsu_options_new(), free: khonsu_options_free };
    let txn_options = Owned { handle: khonsu_txn_options_new(), free: khonsu_txn_options_free };
    for number in 1..=3 {
        assert_eq!(call!(khonsu_options_set_isolation(*options, number)), Ok);
        assert_eq!(call!(khonsu_txn_options_set_isolation(*txn_options, number)), Ok);
    }
    for number in 1..=4 {
        assert_eq!(call!(khonsu_options_set_conflict_resolution(*options, number)), Ok);
        assert_eq!(call!(khonsu_txn_options_set_conflict_resolution(*txn_options, number)), Ok);
    }
    for number in [0, 5, -1, i32::MAX, i32::MIN] {
        assert_eq!(call!(khonsu_options_set_isolation(*options, number)), InvalidArgument);
        assert_eq!(call!(khonsu_options_set_conflict_resolution(*options, number)), InvalidArgument);
        assert_eq!(call!(khonsu_txn_options_set_isolation(*txn_options, number)), InvalidArgument);
        assert_eq!(call!(khonsu_txn_options_set_conflict_resolution(*txn_options, number)), InvalidArgument);
    }
    for number in [2, -1] {
        assert_eq!(call!(khonsu_options_set_full_validation(*options, number)), InvalidArgument);
        assert_eq!(call!(khonsu_txn_options_set_read_only(*txn_options, number)), InvalidArgument);
    }
    for number in [0, 1] {
        assert_eq!(call!(khonsu_options_set_full_validation(*options, number)), Ok);
        assert_eq!(call!(khonsu_txn_options_set_read_only(*txn_options, number)), Ok);
    }
    for number in [0, 1, u64::MAX] {
        assert_eq!(call!(khonsu_options_set_max_transaction_bytes(*options, number)), Ok);
        assert_eq!(call!(khonsu_options_set_max_total_bytes(*options, number)), Ok);
        assert_eq!(call!(khonsu_options_set_memory_budget(*options, number)), Ok);
        assert_eq!(call!(khonsu_txn_options_set_max_bytes(*txn_options, number)), Ok);
        assert_eq!(call!(khonsu_txn_options_set_timeout_ms(*txn_options, number)), Ok);
        assert_eq!(call!(khonsu_txn_options_set_max_attempts(*txn_options, number as u32)), Ok);
        assert_eq!(call!(khonsu_txn_options_set_backoff_us(*txn_options, 0, number)), Ok);
    }
    assert_eq!(call!(khonsu_txn_options_set_backoff_us(*txn_options, 2, 1)), InvalidArgument);
    assert_eq!(call!(khonsu_options_set_isolation(null_mut(), 1)), InvalidArgument);
    assert_eq!(call!(khonsu_txn_options_set_read_only(null_mut(), 1)), InvalidArgument);
    // There is no path to read values back from.
    let mut refused = null_mut();
    assert_eq!(call!(khonsu_db_open(*options, &mut refused)), InvalidArgument);
    assert_eq!(call!(khonsu_options_set_memory_budget(*options, 0)), Ok);
    // Whatever else was set, the database works, and a read-only transaction refuses to write.
    let db = open_with(*options);
    let txn = begin_with(&db, *txn_options);
    assert_eq!(put(*txn, "k", &numbers(&[1])), InvalidState);
    assert_eq!(call!(khonsu_txn_delete(*txn, bytes("k").0, 1)), InvalidState);
    assert_eq!(commit(&txn), Ok);
}

#[test]
fn limits_leave_the_transaction_usable() {
    let options = Owned { handle: khonsu_txn_options_new(), free: khonsu_txn_options_free };
    assert_eq!(call!(khonsu_txn_options_set_max_bytes(*options, 4096)), Ok);
    let db = open();
    let txn = begin_with(&db, *options);
    assert_eq!(put(*txn, "large", &numbers(&[0; 1000])), LimitExceeded);
    assert_eq!(put(*txn, "small", &numbers(&[1])), Ok);
    assert_eq!(commit(&txn), Ok);
    let txn = begin(&db);
    assert_eq!((get(*txn, "large"), get(*txn, "small")), (Err(NotFound), Result::Ok(numbers(&[1]))));
}

#[test]
fn full_validation_looks_at_the_values() {
    let valid = texts(&["abc"]);
    let invalid = || {
        let array = c_array(&valid);
        let mut bytes = Box::new(*b"a\xffc");
        // SAFETY: the one child of the array is a string column, whose third buffer has 3 bytes.
        unsafe { *(**array.children).buffers.add(2) = std::ptr::from_mut(&mut *bytes).cast() };
        // The bytes live until the release.
        watched_array(array, move || _ = &bytes)
    };
    for (enabled, status) in [(0, Ok), (1, InvalidArgument)] {
        let options = Owned { handle: khonsu_options_new(), free: khonsu_options_free };
        assert_eq!(call!(khonsu_options_set_full_validation(*options, enabled)), Ok);
        let db = open_with(*options);
        let txn = begin(&db);
        let (key, len) = bytes("k");
        assert_eq!(call!(khonsu_txn_put(*txn, key, len, &mut invalid(), &mut c_schema(&valid))), status);
    }
}

#[test]
fn conflicts_are_reported_as_data() {
    let db = open();
    store(&db, &[("k", numbers(&[1]))]);
    let (first, second) = (begin(&db), begin(&db));
    for txn in [&first, &second] {
        assert_eq!(get(**txn, "k").unwrap(), numbers(&[1]));
        assert_eq!(put(**txn, "k", &numbers(&[2])), Ok);
    }
    assert_eq!(commit(&first), Ok);
    let mut version = 0;
    assert_eq!(call!(khonsu_txn_commit_version(*first, &mut version)), Ok);
    let mut error = null_mut();
    // SAFETY: handles and out-parameters are alive; what the conflict points to is read while its error is.
    unsafe {
        assert_eq!(khonsu_txn_commit(*second, &mut error), Conflict);
        assert_eq!(khonsu_error_status(error), Conflict);
        assert_eq!(khonsu_error_conflict_count(error), 1);
        assert!(!CStr::from_ptr(khonsu_error_message(error)).is_empty());
        let mut conflict = MaybeUninit::<khonsu_conflict>::zeroed();
        let size = size_of::<khonsu_conflict>();
        assert_eq!(khonsu_error_conflict(error, 1, conflict.as_mut_ptr(), size), InvalidArgument);
        assert_eq!(khonsu_error_conflict(error, 0, conflict.as_mut_ptr(), 0), InvalidArgument);
        assert_eq!(khonsu_error_conflict(error, 0, null_mut(), size), InvalidArgument);
        assert_eq!(khonsu_error_conflict(null(), 0, conflict.as_mut_ptr(), size), InvalidArgument);
        assert!(conflict.assume_init_ref().key.is_null(), "failures write nothing");
        assert_eq!(khonsu_error_conflict(error, 0, conflict.as_mut_ptr(), size), Ok);
        let conflict = conflict.assume_init();
        assert_eq!(conflict.kind, khonsu_conflict_kind::WriteWrite as i32);
        assert_eq!(std::slice::from_raw_parts(conflict.key.cast::<u8>(), conflict.key_len), b"k");
        assert_eq!((conflict.has_range, conflict.version), (0, version));
        assert!(conflict.range_start.is_null() && conflict.range_end.is_null());
        khonsu_error_free(error);
        // Nobody has to take the error.
        assert_eq!(khonsu_txn_commit(*second, null_mut()), InvalidState);
    }
    assert_eq!(stats(&db).conflicts_write_write, 1);
}

#[test]
fn phantoms_name_the_range() {
    let db = open();
    store(&db, &[("a1", numbers(&[1]))]);
    let txn = begin(&db);
    let mut stream = ArrowArrayStream::released();
    assert_eq!(call!(khonsu_txn_scan_stream(*txn, bytes("a").0, 1, bytes("b").0, 1, 0, 0, &mut stream)), Ok);
    assert_eq!(put(*txn, "z", &numbers(&[1])), Ok);
    // Each has read what the other writes.
    let other = begin(&db);
    assert_eq!(get(*other, "z"), Err(NotFound));
    assert_eq!(put(*other, "a2", &numbers(&[2])), Ok);
    assert_eq!(commit(&other), Ok);
    let mut error = null_mut();
    // SAFETY: as in the test above.
    unsafe {
        assert_eq!(khonsu_txn_commit(*txn, &mut error), Conflict);
        let mut conflict = MaybeUninit::<khonsu_conflict>::zeroed();
        assert_eq!(khonsu_error_conflict(error, 0, conflict.as_mut_ptr(), size_of::<khonsu_conflict>()), Ok);
        let conflict = conflict.assume_init();
        let bytes = |start: *const c_void, len| std::slice::from_raw_parts(start.cast::<u8>(), len);
        assert_eq!((conflict.kind, conflict.has_range), (khonsu_conflict_kind::Phantom as i32, 1));
        assert_eq!(bytes(conflict.key, conflict.key_len), b"a2");
        assert_eq!(bytes(conflict.range_start, conflict.range_start_len), b"a");
        assert_eq!(bytes(conflict.range_end, conflict.range_end_len), b"b");
        khonsu_error_free(error);
    }
}

#[test]
fn resolutions_hold_for_the_write_that_they_are_set_for() {
    let db = open();
    let txn = begin(&db);
    let (key, len) = bytes("k");
    assert_eq!(call!(khonsu_txn_set_conflict_resolution(*txn, key, len, 3)), NotFound);
    assert_eq!(put(*txn, "k", &numbers(&[1])), Ok);
    assert_eq!(call!(khonsu_txn_set_conflict_resolution(*txn, key, len, 0)), InvalidArgument);
    assert_eq!(call!(khonsu_txn_set_conflict_resolution(*txn, key, len, 4)), Ok);
    store(&db, &[("k", numbers(&[7]))]);
    assert_eq!(commit(&txn), Ok);
    assert_eq!(get(*begin(&db), "k").unwrap(), numbers(&[7, 1]));
}

#[test]
fn savepoints_take_writes_back() {
    let db = open();
    let txn = begin(&db);
    let mut savepoint = 0;
    assert_eq!(put(*txn, "a", &numbers(&[1])), Ok);
    assert_eq!(call!(khonsu_txn_savepoint(*txn, &mut savepoint)), Ok);
    for _ in 0..2 {
        assert_eq!(put(*txn, "a", &numbers(&[2])), Ok);
        assert_eq!(call!(khonsu_txn_rollback_to(*txn, savepoint)), Ok);
        assert_eq!(get(*txn, "a").unwrap(), numbers(&[1]));
    }
    assert_eq!(call!(khonsu_txn_release(*txn, savepoint)), Ok);
    assert_eq!(call!(khonsu_txn_rollback_to(*txn, savepoint)), InvalidArgument);
    assert_eq!(commit(&txn), Ok);
}

/// The keys that a cursor gives, and the first number under each.
fn walk(cursor: *mut khonsu_cursor) -> Vec<(String, i64)> {
    let mut found = Vec::new();
    loop {
        match call!(khonsu_cursor_next(cursor)) {
            Ok => {
                let (mut key, mut len) = (null(), 0);
                assert_eq!(call!(khonsu_cursor_key(cursor, &mut key, &mut len)), Ok);
                // SAFETY: the key is valid until the next step.
                let key = unsafe { std::slice::from_raw_parts(key.cast::<u8>(), len) };
                let (mut array, mut schema) = (ArrowArray::released(), ArrowSchema::released());
                assert_eq!(call!(khonsu_cursor_get(cursor, &mut array, &mut schema)), Ok);
                let batch = rust_batch(array, schema);
                let value = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().value(0);
                found.push((String::from_utf8(key.to_vec()).unwrap(), value));
            }
            status => {
                assert_eq!(status, NotFound);
                return found;
            }
        }
    }
}

fn scan(txn: *mut khonsu_txn, start: Option<&str>, end: Option<&str>, direction: i32, limit: u64) -> String {
    let bound = |bound: Option<&str>| bound.map_or((null(), 0), bytes);
    let ((start, start_len), (end, end_len)) = (bound(start), bound(end));
    let mut cursor = null_mut();
    assert_eq!(call!(khonsu_txn_scan(txn, start, start_len, end, end_len, direction, limit, &mut cursor)), Ok);
    let cursor = Owned { handle: cursor, free: khonsu_cursor_free };
    assert_eq!(call!(khonsu_cursor_key(*cursor, &mut null(), &mut 0)), InvalidState);
    let found = walk(*cursor);
    assert_eq!(call!(khonsu_cursor_next(*cursor)), NotFound, "it stays past the last");
    assert_eq!(call!(khonsu_cursor_get(*cursor, &mut ArrowArray::released(), null_mut())), InvalidState);
    found.into_iter().map(|(key, value)| format!("{key}={value} ")).collect()
}

#[test]
fn scans_give_the_range_that_was_asked_for() {
    let db = open();
    store(&db, &[("a", numbers(&[1])), ("b", numbers(&[2])), ("ba", numbers(&[3])), ("d", numbers(&[4]))]);
    let txn = begin(&db);
    assert_eq!(put(*txn, "c", &numbers(&[9])), Ok);
    assert_eq!(append(*txn, "d", &numbers(&[5])), Ok);
    assert_eq!(scan(*txn, None, None, 0, 0), "a=1 b=2 ba=3 c=9 d=4 ");
    assert_eq!(scan(*txn, None, None, 1, 0), "d=4 c=9 ba=3 b=2 a=1 ");
    assert_eq!(scan(*txn, None, None, 1, 2), "d=4 c=9 ");
    assert_eq!(scan(*txn, Some("b"), Some("d"), 0, 0), "b=2 ba=3 c=9 ");
    assert_eq!(scan(*txn, Some("b"), Some("d"), 1, 1), "c=9 ");
    assert_eq!(scan(*txn, Some(""), Some("b"), 0, 0), "a=1 ");
    assert_eq!(scan(*txn, None, Some(""), 0, 0), "", "nothing is before the empty key");
    assert_eq!(scan(*txn, Some("a"), Some(""), 1, 0), "");
    assert_eq!(scan(*txn, Some("d"), Some("b"), 0, 0), "", "backwards");
    assert_eq!(scan(*txn, Some("d"), Some("b"), 1, 0), "");
    assert_eq!(scan(*txn, Some("b"), Some("b"), 0, 0), "");
    let long = "b".repeat(KHONSU_KEY_MAX_BYTES + 9);
    assert_eq!(scan(*txn, Some(&long), None, 0, 0), "c=9 d=4 ", "a bound may be longer than a key");
    for direction in [0, 1] {
        let mut cursor = null_mut();
        assert_eq!(call!(khonsu_txn_scan_prefix(*txn, bytes("b").0, 1, direction, 0, &mut cursor)), Ok);
        let cursor = Owned { handle: cursor, free: khonsu_cursor_free };
        let mut found = walk(*cursor);
        if direction == 1 {
            found.reverse();
        }
        assert_eq!(found, [("b".to_owned(), 2), ("ba".to_owned(), 3)]);
    }
    let mut cursor = null_mut();
    assert_eq!(call!(khonsu_txn_scan(*txn, null(), 1, null(), 0, 0, 0, &mut cursor)), InvalidArgument);
    assert_eq!(call!(khonsu_txn_scan(*txn, null(), 0, null(), 1, 0, 0, &mut cursor)), InvalidArgument);
    assert_eq!(call!(khonsu_txn_scan(*txn, bytes("a").0, usize::MAX, null(), 0, 0, 0, &mut cursor)), InvalidArgument);
    for direction in [-1, 2, i32::MAX] {
        assert_eq!(call!(khonsu_txn_scan(*txn, null(), 0, null(), 0, direction, 0, &mut cursor)), InvalidArgument);
        assert_eq!(call!(khonsu_txn_scan_prefix(*txn, null(), 0, direction, 0, &mut cursor)), InvalidArgument);
    }
    assert_eq!(commit(&txn), Ok);
}

fn scan_stream(txn: *mut khonsu_txn) -> (Arc<Schema>, Vec<RecordBatch>) {
    let mut stream = ArrowArrayStream::released();
    assert_eq!(call!(khonsu_txn_scan_stream(txn, null(), 0, null(), 0, 0, 0, &mut stream)), Ok);
    rust_batches(stream)
}

/// Keys and numbers of all rows, key by key.
fn rows(batches: &[RecordBatch]) -> Vec<(Vec<u8>, i64)> {
    let mut rows = Vec::new();
    for batch in batches {
        let keys = batch.column(0).as_any().downcast_ref::<BinaryArray>().unwrap();
        let values = batch.column(1).as_any().downcast_ref::<Int64Array>().unwrap();
        rows.extend((0..batch.num_rows()).map(|row| (keys.value(row).to_vec(), values.value(row))));
    }
    rows
}

#[test]
fn a_scanned_stream_joins_small_values_and_slices_large_ones() {
    let db = open();
    let large: Vec<i64> = (0..150_000).collect();
    let txn = begin(&db);
    let mut expected = Vec::new();
    let mut add = |key: &str, values: &[i64]| {
        // Two chunks each, where there is enough.
        let (first, second) = values.split_at(values.len() / 2);
        assert_eq!(put(*txn, key, &numbers(first)), Ok);
        assert_eq!(append(*txn, key, &numbers(second)), Ok);
        expected.extend(values.iter().map(|value| (key.as_bytes().to_vec(), *value)));
    };
    for number in 0..100 {
        add(&format!("a{number:03}"), &[number, -number, 7][..(number % 4).min(3) as usize]);
    }
    add("b", &large);
    add("c", &[1]);
    let (schema, batches) = scan_stream(*txn);
    assert_eq!(rows(&batches), expected);
    let sizes: Vec<usize> = batches.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(sizes, [150, 65_536, 9_464, 65_536, 9_464, 1]);
    assert_eq!(schema.field(0), &Field::new("key", DataType::Binary, false));
    assert_eq!(schema.field(1).name(), "n");
    assert_eq!(schema.metadata()["unit"], "1");

    let mut stream = ArrowArrayStream::released();
    assert_eq!(call!(khonsu_txn_scan_stream(*txn, bytes("b").0, 1, null(), 0, 1, 1, &mut stream)), Ok);
    assert_eq!(call!(khonsu_txn_delete(*txn, bytes("c").0, 1)), Ok);
    drop((txn, db));
    assert_eq!(rows(&rust_batches(stream).1), [(b"c".to_vec(), 1)], "what was read stays");
}

#[test]
fn long_keys_do_not_overflow_the_key_column() {
    let db = open();
    let txn = begin(&db);
    let key = "k".repeat(KHONSU_KEY_MAX_BYTES);
    let values: Vec<i64> = (0..600).collect();
    assert_eq!(put(*txn, &key, &numbers(&values)), Ok);
    let (_, batches) = scan_stream(*txn);
    assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [256, 256, 88]);
    assert_eq!(rows(&batches).iter().map(|row| row.1).collect::<Vec<_>>(), values);
}

#[test]
fn a_scanned_stream_has_the_schema_of_its_values() {
    let db = open();
    let txn = begin(&db);
    let (schema, batches) = scan_stream(*txn);
    assert_eq!((schema.fields().len(), batches.len()), (1, 0), "nothing but the key");
    assert_eq!(put(*txn, "a", &numbers(&[])), Ok);
    let (schema, batches) = scan_stream(*txn);
    assert_eq!((schema.fields().len(), batches.len()), (2, 0), "values without rows");
    assert_eq!(put(*txn, "b", &texts(&["x"])), Ok);
    let mut stream = stale!(ArrowArrayStream);
    assert_eq!(call!(khonsu_txn_scan_stream(*txn, null(), 0, null(), 0, 0, 0, &mut stream)), SchemaMismatch);
    assert!(stream.release.is_none());

    // A column of the values that is called "key" itself stays beside the other.
    let db = open();
    let txn = begin(&db);
    let named = RecordBatch::try_from_iter([("key", Arc::new(Int32Array::from(vec![5])) as ArrayRef)]).unwrap();
    assert_eq!(put(*txn, "a", &named), Ok);
    let (schema, batches) = scan_stream(*txn);
    assert_eq!(schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["key", "key"]);
    assert_eq!((batches.len(), batches[0].num_columns()), (1, 2));
}

#[test]
fn streams_become_values_of_several_chunks() {
    let db = open();
    let txn = begin(&db);
    let (key, len) = bytes("k");
    let mut stream = c_stream(vec![numbers(&[1]), numbers(&[]), numbers(&[2, 3])], &numbers(&[]));
    assert_eq!(call!(khonsu_txn_put_stream(*txn, key, len, &mut stream)), Ok);
    assert!(stream.release.is_none());
    assert_eq!(get(*txn, "k").unwrap(), numbers(&[1, 2, 3]));
    let mut stream = c_stream(vec![], &numbers(&[]));
    assert_eq!(call!(khonsu_txn_put_stream(*txn, key, len, &mut stream)), Ok);
    assert_eq!(get(*txn, "k").unwrap(), numbers(&[]), "a stream without batches is a value without rows");
    // One that fails in its course leaves the value as it was.
    let failing =
        [Result::Ok(numbers(&[8])), Err(arrow_schema::ArrowError::ComputeError("the disk is on fire".to_owned()))];
    let failing = RecordBatchIterator::new(failing, numbers(&[]).schema());
    let mut stream = as_c(arrow_array::ffi_stream::FFI_ArrowArrayStream::new(Box::new(failing)));
    let mut error = null_mut();
    // SAFETY: the arguments are alive; the error is freed once.
    unsafe {
        assert_ne!(khonsu_txn_put_stream(*txn, key, len, &mut stream, &mut error), Ok);
        assert!(CStr::from_ptr(khonsu_error_message(error)).to_string_lossy().contains("the disk is on fire"));
        khonsu_error_free(error);
    }
    assert_eq!(get(*txn, "k").unwrap(), numbers(&[]));
    // A stream of khonsu's own, of this very transaction.
    let mut own = ArrowArrayStream::released();
    assert_eq!(put(*txn, "other", &numbers(&[4])), Ok);
    assert_eq!(call!(khonsu_txn_get_stream(*txn, bytes("other").0, 5, &mut own)), Ok);
    assert_eq!(call!(khonsu_txn_put_stream(*txn, key, len, &mut own)), Ok);
    assert_eq!(get(*txn, "k").unwrap(), numbers(&[4]));
}

#[test]
fn callbacks_cannot_use_the_transaction_that_called_them() {
    let db = open();
    let txn = begin(&db);
    let handle = *txn;
    // Small arrays are released during the put, so the callback runs inside it.
    let seen = std::rc::Rc::new(Cell::new(0));
    let count = std::rc::Rc::clone(&seen);
    let mut array = watched(&numbers(&[1]), move || {
        let (key, len) = bytes("k");
        assert_eq!(call!(khonsu_txn_exists(handle, key, len, &mut false)), InvalidState);
        assert_eq!(put(handle, "k", &numbers(&[2])), InvalidState);
        assert_eq!(call!(khonsu_txn_commit(handle)), InvalidState);
        assert_eq!(call!(khonsu_txn_rollback(handle)), InvalidState);
        count.set(count.get() + 1);
    });
    let (key, len) = bytes("k");
    assert_eq!(call!(khonsu_txn_put(*txn, key, len, &mut array, &mut c_schema(&numbers(&[])))), Ok);
    assert_eq!(seen.get(), 1, "the callback ran in the call");
    assert_eq!(commit(&txn), Ok);
    assert_eq!(get(*begin(&db), "k").unwrap(), numbers(&[1]));
}

#[test]
fn a_callback_may_free_the_transaction() {
    let db = open();
    let (key, len) = bytes("k");
    let txn = begin(&db);
    let handle = *txn;
    std::mem::forget(txn);
    // SAFETY: it takes effect when the put has ended.
    let mut array = watched(&numbers(&[1]), move || unsafe { khonsu_txn_free(handle) });
    assert_eq!(call!(khonsu_txn_put(handle, key, len, &mut array, &mut c_schema(&numbers(&[])))), Ok);
    assert_eq!(get(*begin(&db), "k"), Err(NotFound));
    let stats = stats(&db);
    assert_eq!((stats.rollbacks, stats.active_transactions), (2, 0), "this one, and the one that looked");
}

#[test]
fn a_free_within_a_free_does_nothing() {
    let db = open();
    let (key, len) = bytes("k");
    let txn = begin(&db);
    let handle = *txn;
    std::mem::forget(txn);
    let seen = std::rc::Rc::new(Cell::new(0));
    let count = std::rc::Rc::clone(&seen);
    // Large enough to be kept, so the rollback releases it.
    let large = numbers(&vec![1; 10_000]);
    let mut array = watched(&large, move || {
        count.set(count.get() + 1);
        // SAFETY: the handle is still being freed.
        unsafe { khonsu_txn_free(handle) };
    });
    assert_eq!(call!(khonsu_txn_put(handle, key, len, &mut array, &mut c_schema(&large))), Ok);
    // SAFETY: it is freed here, and by the callback in vain.
    unsafe { khonsu_txn_free(handle) };
    assert_eq!((seen.get(), stats(&db).active_transactions), (1, 0));
    let (one, other) = (begin(&db), begin(&db));
    assert_ne!(*one, *other, "two transactions have two places");
}

struct Gate {
    inside: std::sync::Barrier,
    leave: std::sync::Barrier,
}

/// A stream whose get_next waits at two barriers, and then ends.
fn gated(gate: &Gate) -> ArrowArrayStream {
    unsafe extern "C" fn get_schema(_: *mut ArrowArrayStream, out: *mut ArrowSchema) -> c_int {
        // SAFETY: the consumer gives a struct to write.
        unsafe { out.write(c_schema(&numbers(&[]))) };
        0
    }
    unsafe extern "C" fn get_next(stream: *mut ArrowArrayStream, out: *mut ArrowArray) -> c_int {
        // SAFETY: the gate outlives the stream; the consumer gives a struct to write.
        unsafe {
            let gate = &*(*stream).private_data.cast::<Gate>();
            gate.inside.wait();
            gate.leave.wait();
            out.write(ArrowArray::released());
        }
        0
    }
    unsafe extern "C" fn get_last_error(_: *mut ArrowArrayStream) -> *const c_char {
        null()
    }
    unsafe extern "C" fn release(stream: *mut ArrowArrayStream) {
        // SAFETY: called by the owner of the stream.
        unsafe { (*stream).release = None };
    }
    ArrowArrayStream {
        get_schema: Some(get_schema),
        get_next: Some(get_next),
        get_last_error: Some(get_last_error),
        release: Some(release),
        private_data: std::ptr::from_ref(gate).cast_mut().cast(),
    }
}

/// A handle on its way to another thread.
struct Carried<T>(T);
// SAFETY: the handles of the boundary may be used by any thread; that they are not used at once is what the tests try.
unsafe impl<T> Send for Carried<T> {}

impl<T> Carried<T> {
    /// The whole wrapper has to be moved into the thread, so it is not taken apart there.
    fn into_inner(self) -> T {
        self.0
    }
}

#[test]
fn overlapping_use_from_two_threads_is_refused() {
    let db = open();
    store(&db, &[("a", numbers(&[1]))]);
    let txn = begin(&db);
    let mut cursor = null_mut();
    assert_eq!(call!(khonsu_txn_scan(*txn, null(), 0, null(), 0, 0, 1, &mut cursor)), Ok);
    let cursor = Owned { handle: cursor, free: khonsu_cursor_free };
    let gate = Gate { inside: std::sync::Barrier::new(2), leave: std::sync::Barrier::new(2) };
    let (handle, stream) = (Carried(*txn), Carried(gated(&gate)));
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (handle, mut stream) = (handle.into_inner(), stream.into_inner());
            let (key, len) = bytes("k");
            assert_eq!(call!(khonsu_txn_put_stream(handle, key, len, &mut stream)), Ok);
        });
        gate.inside.wait();
        assert_eq!(get(*txn, "a"), Err(InvalidState));
        assert_eq!(commit(&txn), InvalidState);
        assert_eq!(call!(khonsu_cursor_next(*cursor)), InvalidState);
        assert_eq!(call!(khonsu_txn_commit_version(*txn, &mut 0)), InvalidState);
        gate.leave.wait();
    });
    assert_eq!(walk(*cursor).len(), 1, "a refused step does not move the cursor");
    assert_eq!(commit(&txn), Ok);
}

#[test]
fn freeing_while_another_thread_is_inside_waits_for_it() {
    let db = open();
    let txn = begin(&db);
    let handle = *txn;
    std::mem::forget(txn);
    let gate = Gate { inside: std::sync::Barrier::new(2), leave: std::sync::Barrier::new(2) };
    let (inside, stream) = (Carried(handle), Carried(gated(&gate)));
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (handle, mut stream) = (inside.into_inner(), stream.into_inner());
            let (key, len) = bytes("k");
            assert_eq!(call!(khonsu_txn_put_stream(handle, key, len, &mut stream)), Ok);
        });
        gate.inside.wait();
        // SAFETY: freed once; the other thread is inside a call already.
        unsafe { khonsu_txn_free(handle) };
        gate.leave.wait();
    });
    let stats = stats(&db);
    assert_eq!((stats.rollbacks, stats.active_transactions), (1, 0));
}

type Body = Box<dyn FnMut(*mut khonsu_txn) -> i32>;

unsafe extern "C" fn run_body(txn: *mut khonsu_txn, context: *mut c_void) -> i32 {
    // SAFETY: the context is the body that `transact` was given.
    unsafe { (*context.cast::<Body>())(txn) }
}

unsafe extern "C" fn give_up(_: *mut khonsu_txn, _: *mut c_void) -> i32 {
    Cancelled as i32
}

fn transact(
    db: *const khonsu_db,
    options: *const khonsu_txn_options,
    body: impl FnMut(*mut khonsu_txn) -> i32 + 'static,
) -> (khonsu_status, u64) {
    let mut body: Body = Box::new(body);
    let mut version = 0;
    let context = std::ptr::from_mut(&mut body).cast();
    (call!(khonsu_db_transact(db, options, Some(run_body), context, &mut version)), version)
}

#[test]
fn transact_commits_reruns_and_gives_up() {
    let db = open();
    let (status, version) = transact(*db, null(), |txn| put(txn, "k", &numbers(&[1])) as i32);
    assert_eq!(status, Ok);
    assert_eq!(version, stats(&db).version);
    assert_eq!(get(*begin(&db), "k").unwrap(), numbers(&[1]));

    // The function says that it ran into a conflict, three times.
    let mut left = 3;
    let (status, _) = transact(*db, null(), move |txn| {
        left -= 1;
        assert_eq!(append(txn, "k", &numbers(&[left])), Ok);
        if left == 0 { Ok as i32 } else { Conflict as i32 }
    });
    assert_eq!(status, Ok);
    assert_eq!(get(*begin(&db), "k").unwrap(), numbers(&[1, 0]), "only the last run counts");
    assert_eq!(stats(&db).retries, 2);

    // Everything else rolls back, and comes out as it is.
    for (returned, status) in [
        (Cancelled as i32, Cancelled),
        (NotFound as i32, NotFound),
        (SchemaMismatch as i32, SchemaMismatch),
        (Panic as i32, Panic),
        (2, InvalidArgument),
        (-1, InvalidArgument),
    ] {
        let outcome = transact(*db, null(), move |txn| {
            assert_eq!(put(txn, "k", &numbers(&[9])), Ok);
            returned
        });
        assert_eq!(outcome, (status, 0));
    }
    assert_eq!(get(*begin(&db), "k").unwrap(), numbers(&[1, 0]));

    let options = Owned { handle: khonsu_txn_options_new(), free: khonsu_txn_options_free };
    assert_eq!(call!(khonsu_txn_options_set_max_attempts(*options, 4)), Ok);
    let runs = std::rc::Rc::new(Cell::new(0));
    let count = std::rc::Rc::clone(&runs);
    let outcome = transact(*db, *options, move |_| {
        count.set(count.get() + 1);
        Conflict as i32
    });
    assert_eq!((outcome, runs.get()), ((Conflict, 0), 4));
    assert_eq!(call!(khonsu_txn_options_set_max_attempts(*options, 0)), Ok);
    assert_eq!(call!(khonsu_txn_options_set_timeout_ms(*options, 20)), Ok);
    assert_eq!(transact(*db, *options, |_| Conflict as i32), (Timeout, 0));
}

#[test]
fn transact_reruns_after_a_conflict_of_its_commit() {
    let db = open();
    store(&db, &[("k", numbers(&[1]))]);
    let other = Carried(*db);
    let mut first = true;
    let (status, _) = transact(*db, null(), move |txn| {
        let seen = get(txn, "k").unwrap();
        if std::mem::take(&mut first) {
            let status = std::mem::ManuallyDrop::new(Owned { handle: other.0, free: khonsu_db_free });
            store(&status, &[("k", numbers(&[5]))]);
        }
        let value = seen.column(0).as_any().downcast_ref::<Int64Array>().unwrap().value(0);
        put(txn, "k", &numbers(&[value + 1])) as i32
    });
    assert_eq!(status, Ok);
    assert_eq!(get(*begin(&db), "k").unwrap(), numbers(&[6]));
    assert_eq!(stats(&db).retries, 1);
}

#[test]
fn a_lent_transaction_is_neither_ended_nor_freed() {
    let db = open();
    let cursor = std::rc::Rc::new(Cell::new(null_mut()));
    let kept = std::rc::Rc::clone(&cursor);
    let (status, _) = transact(*db, null(), move |txn| {
        assert_eq!(put(txn, "k", &numbers(&[1])), Ok);
        assert_eq!(call!(khonsu_txn_commit(txn)), InvalidState);
        assert_eq!(call!(khonsu_txn_rollback(txn)), InvalidState);
        // SAFETY: it does nothing to a lent transaction.
        unsafe { khonsu_txn_free(txn) };
        let mut opened = null_mut();
        assert_eq!(call!(khonsu_txn_scan(txn, null(), 0, null(), 0, 0, 0, &mut opened)), Ok);
        assert_eq!(call!(khonsu_cursor_next(opened)), Ok);
        kept.set(opened);
        Ok as i32
    });
    assert_eq!(status, Ok);
    assert_eq!(get(*begin(&db), "k").unwrap(), numbers(&[1]));
    let cursor = Owned { handle: cursor.get(), free: khonsu_cursor_free };
    assert_eq!(call!(khonsu_cursor_next(*cursor)), InvalidState);
    assert_eq!(call!(khonsu_cursor_key(*cursor, &mut null(), &mut 0)), InvalidState);
}

#[test]
fn transact_outlives_the_handle_of_its_database() {
    let db = open();
    let handle = *db;
    std::mem::forget(db);
    let (status, version) = transact(handle, null(), move |txn| {
        // SAFETY: freed once; the function has no use for it any more.
        unsafe { khonsu_db_free(handle) };
        put(txn, "k", &numbers(&[1])) as i32
    });
    assert_eq!(status, Ok);
    assert!(version > 0);
}

#[test]
fn ipc_files_come_back() {
    let folder = std::env::temp_dir().join(format!("khonsu-ffi-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for format in [1, 2] {
        for compression in [0, 1, 2] {
            let file = folder.join(format!("{format}{compression}.arrow"));
            let path = CString::new(file.to_str().unwrap()).unwrap();
            let batches = vec![numbers(&[1, 2]), numbers(&[3])];
            let mut stream = c_stream(batches.clone(), &batches[0]);
            assert_eq!(call!(khonsu_ipc_write_stream(path.as_ptr(), &mut stream, format, compression)), Ok);
            assert!(stream.release.is_none());
            assert_eq!(call!(khonsu_ipc_open_stream(path.as_ptr(), &mut stream)), Ok);
            assert_eq!(rust_batches(stream).1, batches);
            std::fs::write(&file, b"ARROW1 is not enough").unwrap();
            let mut stream = ArrowArrayStream::released();
            assert_eq!(call!(khonsu_ipc_open_stream(path.as_ptr(), &mut stream)), Corruption);
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
