//! Software transactional memory for Apache Arrow: keys name versioned record batches, and many threads run ACID
//! transactions over many keys. The same database is offered to C and every language with a foreign function interface
//! by the shared library of this crate: see `include/khonsu.h`.
//!
//! # Guarantees
//! - *Serializable is serializable.* At [`stm::IsolationLevel::Serializable`], the default, transactions behave as if
//!   run one after the other, in an order that respects real time; reads of absent keys and scanned ranges included.
//! - *All or nothing.* The writes of a transaction become visible at one instant, also to a reader of many keys. A
//!   transaction that fails leaves nothing behind.
//! - *Nobody waits.* Begin, read, stage and commit take no lock and do not wait for another thread: a thread that stops
//!   for ever in the midst of its commit does not stop the others, on any key. What they meet of it they finish or
//!   undo. In a stored database a commit waits for the disk, and for whoever writes to it for all; reads do not.
//! - *Readers are free.* A transaction declared read-only never fails to commit, and never makes a writer fail that has
//!   read nothing stale.
//! - *Memory is bounded by what can be seen.* Versions that no live snapshot can see are reclaimed, also those between
//!   two snapshots, so a long reader does not make hot keys grow.
//!
//! A database is in memory, or stored: see [`storage::open`]. It can take part in transactions over several databases:
//! see [`two_phase_commit`]. What is *not* promised: all keys are in memory in both cases, and so are all values unless
//! [`storage::DurableOptions::memory_budget`] says otherwise. A write transaction may fail with a conflict and must then
//! be rerun, which [`stm::TransactionManager::transact`] does.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use arrow_array::{Int64Array, RecordBatch};
//! use khonsu::stm::{Error, Options, TransactionManager, TransactionOptions};
//!
//! fn batch(amount: i64) -> RecordBatch {
//!     let column = Arc::new(Int64Array::from(vec![amount]));
//!     RecordBatch::try_from_iter([("amount", column as _)]).expect("one column")
//! }
//!
//! let database = TransactionManager::<RecordBatch>::new(Options::default());
//! let ((), version) = database.transact(&TransactionOptions::default(), |transaction| {
//!     transaction.put(b"account/1", batch(70))?;
//!     transaction.put(b"account/2", batch(30))
//! })?;
//! assert_eq!(version, 1);
//!
//! let mut transaction = database.begin(&TransactionOptions { read_only: true, ..Default::default() });
//! let account = transaction.get(b"account/1")?.expect("it was put");
//! assert_eq!(account.single(), Some(&batch(70)));
//! # Ok::<(), Error>(())
//! ```

#![deny(unsafe_code, unsafe_op_in_unsafe_fn, missing_docs)]
#![deny(clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]

pub mod ffi;
#[cfg(test)]
mod samples;
pub mod stm;
pub mod storage;
pub mod two_phase_commit;
