//! Arrow structs of foreign producers, sound and hostile ones, passed in as a schema, as a value, and as rows.
//!
//! A struct that is consumed is released exactly once. What is sound is taken. What is taken is given out as it was: if
//! its values are valid, as arrow-rs reads the producer's own structs; if they are not, every call that has to look at
//! them says so.

mod arrays;
mod memory;
mod types;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{null, null_mut};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use khonsu::ffi::arrow::{ArrowArray, ArrowArrayStream, ArrowSchema};
use khonsu::ffi::db::*;
use khonsu::ffi::options::*;
use khonsu::ffi::schema::*;
use khonsu::ffi::status::khonsu_status as Status;
use khonsu::ffi::txn::*;

use crate::bridge::{rust_schema, try_rust_batch};
use crate::call::{call, call_reporting};
use crate::input::Input;
use crate::reached;
use arrays::ArrayMaker;
use memory::{ArrayTree, Flaw, SchemaTree};
use types::TypeMaker;

/// Formats that stand for each way in which an array is laid out.
pub const FORMATS: [&str; 28] = [
    "n",
    "b",
    "c",
    "s",
    "i",
    "l",
    "d:38,10,128",
    "d:60,2,256",
    "w:0",
    "w:3",
    "w:40",
    "z",
    "Z",
    "u",
    "U",
    "vz",
    "vu",
    "+l",
    "+L",
    "+vl",
    "+vL",
    "+w:2",
    "+s",
    "+m",
    "+us:5,6",
    "+ud:5,6",
    "+r",
    "dictionary",
];

/// Batches of a stream that are looked at.
const MOST_BATCHES: usize = 4;
const EINVAL: i32 = 22;
const KEY: (*const std::ffi::c_void, usize) = (c"k".as_ptr().cast(), 1);

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let full_validation = input.flag();
    let mut types = TypeMaker { input: &mut input, sound: true, formats: Vec::new() };
    let (schema, batch) = types.batch();
    let (sound, formats) = (types.sound, types.formats);
    let taken = import_schema(&schema);
    if sound {
        assert!(taken, "a sound schema was refused");
    }
    let mut arrays = ArrayMaker { input: &mut input, sound, absurd: false, bare: false };
    let array = arrays.batch(&batch);
    let ArrayMaker { sound, absurd, bare, .. } = arrays;
    let case = Case { schema, array, full_validation, sound, absurd, bare, formats };
    case.run(taken);
}

/// Imports and exports; whether it was taken.
fn import_schema(tree: &SchemaTree) -> bool {
    let (mut schema, releases) = tree.to_c();
    let mut handle = std::ptr::dangling_mut();
    let status = call!(khonsu_schema_import(&mut schema, &mut handle));
    assert!(schema.release.is_none());
    assert_eq!(releases.get(), u32::from(tree.flaw != Flaw::Released));
    if status != Status::Ok {
        assert_eq!(status, Status::InvalidArgument);
        assert!(handle.is_null());
        return false;
    }
    let mut exported = ArrowSchema::released();
    assert_eq!(call!(khonsu_schema_export(handle, &mut exported)), Status::Ok);
    // SAFETY: owned, and not used again.
    unsafe { khonsu_schema_free(handle) };
    let expected = rust_schema(tree.to_c().0).expect("what was taken can be read");
    assert_eq!(rust_schema(exported).expect("what is given out can be read"), expected);
    true
}

/// A batch and what is known about it.
struct Case {
    schema: SchemaTree,
    array: ArrayTree,
    full_validation: bool,
    /// Nothing is wrong with it.
    sound: bool,
    /// It claims more elements than can be gone through.
    absurd: bool,
    /// arrow-rs would read what is not there.
    bare: bool,
    /// Of its types.
    formats: Vec<&'static str>,
}

type Stage = unsafe extern "C" fn(
    *mut khonsu_txn,
    *const std::ffi::c_void,
    usize,
    *mut ArrowArray,
    *mut ArrowSchema,
    *mut *mut khonsu::ffi::error::khonsu_error,
) -> Status;

impl Case {
    fn run(&self, schema_taken: bool) {
        let options = khonsu_options_new();
        // What is absurdly long is not gone through in full.
        let full_validation = self.full_validation && !self.absurd;
        assert_eq!(call!(khonsu_options_set_full_validation(options, i32::from(full_validation))), Status::Ok);
        let (mut db, mut txn) = (null_mut(), null_mut());
        assert_eq!(call!(khonsu_db_open(options, &mut db)), Status::Ok);
        assert_eq!(call!(khonsu_db_begin(db, null(), &mut txn)), Status::Ok);
        // SAFETY: owned, and not used again.
        unsafe { khonsu_options_free(options) };

        let (status, releases) = self.stage(txn, khonsu_txn_put);
        let taken = status == Status::Ok;
        assert!(taken || status == Status::InvalidArgument, "{status:?}");
        assert!(schema_taken || !taken, "the schema was refused before");
        assert!(taken || !self.sound, "a sound array was refused");
        let expected_at_end = u32::from(self.array.flaw != Flaw::Released);
        if !taken {
            reached::note("array", "refused");
            assert_eq!(releases.get(), expected_at_end);
        } else if self.absurd {
            reached::note("array", "taken, absurd");
            drop(get(txn));
        } else {
            self.look(txn, full_validation);
        }
        // SAFETY: owned, and not used again.
        unsafe {
            khonsu_txn_free(txn);
            khonsu_db_free(db);
        }
        assert_eq!(releases.get(), expected_at_end);
    }

    /// Stages the batch by a call; checks that the structs are consumed.
    fn stage(&self, txn: *mut khonsu_txn, stage: Stage) -> (Status, memory::Releases) {
        let ((mut array, releases), (mut schema, schema_releases)) = (self.array.to_c(), self.schema.to_c());
        let status = call!(stage(txn, KEY.0, KEY.1, &mut array, &mut schema));
        assert!(array.release.is_none() && schema.release.is_none());
        assert_eq!(schema_releases.get(), u32::from(self.schema.flaw != Flaw::Released));
        assert!(releases.get() <= 1);
        (status, releases)
    }

    /// As arrow-rs reads the producer's structs, if it does.
    fn expected(&self) -> Option<RecordBatch> {
        let schema = Arc::new(rust_schema(self.schema.to_c().0).expect("what was taken can be read"));
        if self.bare {
            return None;
        }
        let read = || try_rust_batch(self.array.to_c().0, &schema);
        if self.sound {
            return Some(read().expect("a sound array"));
        }
        catch_unwind(AssertUnwindSafe(read)).ok()?.ok()
    }

    fn look(&self, txn: *mut khonsu_txn, full_validation: bool) {
        let expected = self.expected();
        let (array, schema) = get(txn).expect("one chunk is given as it is");
        let found = try_rust_batch(array, &schema);
        assert!(!full_validation || found.is_ok(), "values are not valid after full validation: {found:?}");
        // Elements that no row uses may be invalid in the producer's array, and are gone from a copy.
        assert!(expected.is_none() || found.is_ok(), "valid values have become invalid: {found:?}");
        if let (Some(expected), Ok(found)) = (&expected, &found) {
            assert_eq!(found, expected);
        }
        reached::note("array", if found.is_ok() { "taken, valid" } else { "taken, with invalid values" });
        if self.sound {
            self.formats.iter().for_each(|format| reached::note("sound array taken", format));
        }
        self.stream(txn, found.as_ref().ok(), &schema);
        self.join(txn, found.as_ref().ok());
    }

    /// The value with the key in front of each row.
    fn stream(&self, txn: *mut khonsu_txn, found: Option<&RecordBatch>, schema: &SchemaRef) {
        let mut stream = ArrowArrayStream::released();
        let status = call!(khonsu_txn_scan_stream(txn, null(), 0, null(), 0, 0, 0, &mut stream));
        assert_eq!(status, Status::Ok);
        let (get_schema, get_next) = (stream.get_schema.expect("it is set"), stream.get_next.expect("it is set"));
        let mut keyed = ArrowSchema::released();
        // SAFETY: the stream is not released, and the schema may be written.
        assert_eq!(unsafe { get_schema(&mut stream, &mut keyed) }, 0);
        let keyed = Arc::new(rust_schema(keyed).expect("khonsu exports a good schema"));
        assert_eq!(keyed.fields()[1..], schema.fields()[..]);
        let mut given = 0;
        for _ in 0..MOST_BATCHES {
            let mut array = ArrowArray::released();
            // SAFETY: as above.
            let code = unsafe { get_next(&mut stream, &mut array) };
            if code != 0 {
                assert_eq!(code, EINVAL);
                assert!(found.is_none() || !self.sound, "a stream of sound values failed");
                return;
            }
            if array.release.is_none() {
                assert!(found.is_none_or(|found| given == found.num_rows()));
                return;
            }
            let found = found.expect("a stream gives no invalid values");
            let batch = try_rust_batch(array, &keyed).expect("a stream gives valid values");
            let expected = found.slice(given, batch.num_rows());
            assert_eq!(batch.columns()[1..], expected.columns()[..]);
            given += batch.num_rows();
        }
    }

    /// The rows twice, joined.
    fn join(&self, txn: *mut khonsu_txn, found: Option<&RecordBatch>) {
        let (status, releases) = self.stage(txn, khonsu_txn_append);
        assert_eq!(status, Status::Ok);
        match get(txn) {
            Ok((array, schema)) => {
                let joined = try_rust_batch(array, &schema).expect("joined values are valid");
                let found = found.expect("invalid values are not joined");
                let rows = found.num_rows();
                assert_eq!(joined.num_rows(), 2 * rows);
                assert_eq!((&joined.slice(0, rows), &joined.slice(rows, rows)), (found, found));
            }
            // Keys of 8 bits for twice the values of the dictionary, for instance.
            Err((Status::LimitExceeded, _)) => {}
            Err((status, message)) => {
                assert_eq!(status, Status::InvalidArgument);
                // A null that a dictionary brings into a field without nulls is seen only here, for instance.
                assert!(found.is_none() || !self.sound, "sound values are not joined: {message}");
            }
        }
        assert!(releases.get() <= 1);
    }
}

fn get(txn: *mut khonsu_txn) -> Result<(ArrowArray, SchemaRef), (Status, String)> {
    let (mut array, mut schema) = (ArrowArray::released(), ArrowSchema::released());
    match call_reporting!(khonsu_txn_get(txn, KEY.0, KEY.1, &mut array, &mut schema)) {
        (Status::Ok, _) => Ok((array, Arc::new(rust_schema(schema).expect("khonsu exports a good schema")))),
        (status, report) => {
            assert!(array.release.is_none() && schema.release.is_none());
            Err((status, report.message))
        }
    }
}
