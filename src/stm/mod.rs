//! The core: software transactional memory over ordered keys and chunked values. It knows no C type and no file.

#[macro_use]
mod fail_point;

mod bound_key;
mod clock;
mod commit;
mod commit_log;
mod conflict;
mod cursor;
mod database;
mod dependency_tracker;
mod error;
mod few;
mod group_commit;
mod key;
mod memory;
pub(crate) mod meters;
mod options;
mod reader_marks;
mod reclaimer;
mod reservation;
mod restore;
mod retry;
mod snapshot;
mod sync;
mod transaction;
mod transaction_manager;
mod txn_buffer;
mod value;
mod working_set;

pub use bound_key::BoundKey;
pub(crate) use bound_key::KeyName;
pub use commit_log::{AppendError, Change, CommitLog, LoggedCommit, Mutation, Prepared};
pub use conflict::{Conflict, ConflictKind, ConflictResolution};
pub use cursor::Cursor;
pub use error::Error;
#[cfg(feature = "fail-points")]
pub use fail_point::FailPoint;
pub use key::{KEY_MAX_BYTES, KeyRange};
pub use options::{Direction, Durability, IsolationLevel, Options, TransactionOptions};
pub use restore::Restore;
pub use retry::RetryPolicy;
pub use transaction::{ScannedEntry, Transaction};
pub use transaction_manager::{Stats, TransactionManager, WeakTransactionManager};
pub use value::{Chunk, Value};
