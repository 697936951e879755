//! Arrow IPC files, damaged ones mostly: read as a stream, batch by batch, and put into a database as a value. What is
//! given out is valid in full, and whatever is wrong with a file comes to a status.

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::Arc;

use khonsu::ffi::arrow::{ArrowArray, ArrowArrayStream, ArrowSchema};
use khonsu::ffi::db::{khonsu_db_begin, khonsu_db_free, khonsu_db_open};
use khonsu::ffi::ipc::khonsu_ipc_open_stream;
use khonsu::ffi::status::khonsu_status as Status;
use khonsu::ffi::txn::{khonsu_txn_free, khonsu_txn_get_stream, khonsu_txn_put_stream};

use crate::bridge::{rust_batches, rust_schema, try_rust_batch};
use crate::call::call;
use crate::reached;

/// Of one file. A footer may name one block any number of times.
const MOST_BATCHES: usize = 32;
const EINVAL: i32 = 22;
const EIO: i32 = 5;

/// The file that the input is written to.
struct File(PathBuf);

impl File {
    fn new(bytes: &[u8]) -> Self {
        let name = format!("khonsu-fuzz-{}-{:?}.arrow", std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).expect("the temporary file can be written");
        File(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

pub fn c_path(path: &Path) -> CString {
    CString::new(path.to_str().expect("its name is UTF-8")).expect("it has no NUL")
}

fn open(path: &Path) -> (Status, ArrowArrayStream) {
    let path = c_path(path);
    let mut stream = ArrowArrayStream::released();
    let status = call!(khonsu_ipc_open_stream(path.as_ptr(), &mut stream));
    assert_eq!(stream.release.is_some(), status == Status::Ok);
    (status, stream)
}

pub fn run(bytes: &[u8]) {
    let file = File::new(bytes);
    let (status, stream) = open(&file.0);
    if status != Status::Ok {
        assert_eq!(status, Status::Corruption);
        return;
    }
    if let Some(good) = read(stream) {
        put(&file.0, good);
    }
}

/// Reads some batches; gives whether all of the file is good, if that was found out.
fn read(mut stream: ArrowArrayStream) -> Option<bool> {
    let (get_schema, get_next) = (stream.get_schema.expect("it is set"), stream.get_next.expect("it is set"));
    let mut schema = ArrowSchema::released();
    // SAFETY: the stream is not released, and the schema may be written.
    assert_eq!(unsafe { get_schema(&mut stream, &mut schema) }, 0);
    let schema = Arc::new(rust_schema(schema).expect("khonsu exports a good schema"));
    for _ in 0..MOST_BATCHES {
        let mut array = ArrowArray::released();
        // SAFETY: as above.
        let code = unsafe { get_next(&mut stream, &mut array) };
        if code != 0 {
            assert!(matches!(code, EINVAL | EIO), "errno {code}");
            let get_last_error = stream.get_last_error.expect("it is set");
            // SAFETY: a call has failed; the text is there until the next one.
            let text = unsafe { CStr::from_ptr(get_last_error(&mut stream)) };
            assert!(!text.is_empty());
            reached::note("batch of a file", "damaged");
            return Some(false);
        }
        if array.release.is_none() {
            return Some(true);
        }
        try_rust_batch(array, &schema).expect("what comes from a file is valid in full");
        reached::note("batch of a file", "good");
    }
    None
}

fn put(path: &Path, good: bool) {
    let (mut db, mut txn) = (null_mut(), null_mut());
    assert_eq!(call!(khonsu_db_open(std::ptr::null(), &mut db)), Status::Ok);
    assert_eq!(call!(khonsu_db_begin(db, std::ptr::null(), &mut txn)), Status::Ok);
    let key = c"k".as_ptr().cast();
    let (status, mut stream) = open(path);
    assert_eq!(status, Status::Ok);
    let status = call!(khonsu_txn_put_stream(txn, key, 1, &mut stream));
    assert_eq!(status, if good { Status::Ok } else { Status::Corruption });
    if good {
        let mut stream = ArrowArrayStream::released();
        assert_eq!(call!(khonsu_txn_get_stream(txn, key, 1, &mut stream)), Status::Ok);
        rust_batches(stream);
    }
    // SAFETY: owned, and not used again.
    unsafe {
        khonsu_txn_free(txn);
        khonsu_db_free(db);
    }
}
