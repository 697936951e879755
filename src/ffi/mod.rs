//! The C exports, one file a noun, in the order of the sections of `khonsu.h`. Each export checks, borrows, calls and
//! converts.
//!
//! The caller of every export vouches for these rules (the header states them as what cannot be checked). The safety
//! arguments below this module name them by number:
//!
//! 1. A handle that is not NULL came from this library as a pointer of that type and is not freed yet. Handles of the
//!    class "serialized" are used by one thread at a time (a transaction and its cursors check this for themselves).
//! 2. A pointer to bytes, or to a string, is readable for its whole length during the call.
//! 3. An out-parameter that is not NULL may be written for the size of its type during the call; nobody else uses that
//!    memory.
//! 4. An Arrow struct passed in that is not NULL may be read and written; unless released, it was made by a producer
//!    that keeps the Arrow C data interface: its buffers are as long as its schema says and stay unchanged until it is
//!    released.

// Pointers of C are read and written here.
#![allow(unsafe_code)]
// The contract for callers is the header's text; a section "Safety" on each export would repeat it in Rust's terms.
#![allow(clippy::missing_safety_doc)]
// C names are the point of this module.
#![allow(non_camel_case_types)]
// "@param[in]" is Doxygen's, not a link.
#![allow(rustdoc::broken_intra_doc_links)]

pub mod version;

pub mod status;

pub mod error;

pub mod options;

pub mod txn_options;

pub mod storage;

pub mod db;

pub mod txn;

pub mod txn_bound;

pub mod txn_many;

pub mod cursor;

pub mod key;

pub mod two_phase_commit;

pub mod schema;

pub mod ipc;

// Public only because the exports name its structs, whose fields are those of the Arrow C data interface.
#[allow(missing_docs)]
pub mod arrow;
pub(crate) mod guard;
pub(crate) mod handle;
pub(crate) mod out;
pub(crate) mod scan_stream;
pub(crate) mod txn_cell;

#[cfg(test)]
mod tests;
