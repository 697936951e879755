//! The Arrow C Data Interface boundary.
//!
//! A batch is kept in the form in which it crosses the boundary: the tables of an `ArrowArray`
//! tree, checked once against the layout of its schema. It becomes arrow-rs arrays only where a
//! kernel needs them (concatenation, IPC).
//!
//! Invariants that the files here share:
//! 1. What comes in is moved out of the caller's struct before anything is checked, and the
//!    producer's release callback is called exactly once, on success and on failure.
//! 2. Nothing behind a pointer of a producer is read before its presence, its counts and its bounds
//!    are checked as far as the interface lets one check them. The interface carries no buffer
//!    sizes: a buffer shorter than its array claims, or a dangling pointer, cannot be noticed.
//! 3. No arrow-rs kernel sees a batch before its values passed arrow-rs's full validation.
//! 4. Calls into arrow-rs with a producer's data run under `catch_unwind`.

mod batch;
mod concat;
mod convert;
mod export;
mod import;
pub mod ipc;
mod keyed;
mod keyed_rows;
mod layout;
mod raw;
mod schema;
mod set_once;
mod stored;
mod stream;

#[cfg(test)]
mod samples;

pub use batch::Batch;
pub use concat::concat;
pub(crate) use export::{Exporter, pinned_bytes};
pub(crate) use keyed::{Key, Part, join_plain};
pub(crate) use keyed_rows::{KeyedRows, Left};
pub use raw::{ArrowArray, ArrowArrayStream, ArrowSchema};
pub use schema::SchemaRef;
pub use stream::{StreamReader, export_one, export_stream, import_stream};

use crate::ffi::error::Failure;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Nesting of types deeper than this is refused; it bounds every recursion over a schema.
const MAX_DEPTH: usize = 64;

/// Imports a batch and its own schema; both structs are always consumed.
///
/// # Safety
/// As for [`Batch::import`] and [`SchemaRef::import`].
pub unsafe fn import(array: *mut ArrowArray, schema: *mut ArrowSchema, full: bool) -> Result<Batch, Failure> {
    // SAFETY: the caller's promise about `array`; moved out first, so it is consumed on any return.
    let mut array = unsafe { ArrowArray::take(array) };
    // SAFETY: the caller's promise about `schema`.
    let schema = unsafe { SchemaRef::import(schema) }?;
    Batch::from_c(&mut array, &schema, full)
}

/// Releases what was passed to a call that failed before it came to import it. NULL and already
/// released structs are fine.
///
/// # Safety
/// Each pointer is NULL or points to a struct that is initialized as the C Data Interface says.
pub unsafe fn consume(array: *mut ArrowArray, schema: *mut ArrowSchema) {
    // SAFETY: the caller's promise; dropping what was taken calls the release callbacks.
    unsafe {
        drop(ArrowArray::take(array));
        drop(ArrowSchema::take(schema));
    }
}

/// Runs `call`; a panic inside becomes its message.
fn catch<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    // What the closures touch is dropped or never used again after a panic.
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        if let Some(text) = payload.downcast_ref::<&'static str>() {
            (*text).to_string()
        } else if let Some(text) = payload.downcast_ref::<String>() {
            text.clone()
        } else {
            "unknown panic".to_string()
        }
    })
}

/// Puts the place in front of the message of a failure.
fn within(place: impl std::fmt::Display, mut failure: Failure) -> Failure {
    failure.message = format!("{place}: {}", failure.message);
    failure
}
