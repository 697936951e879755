//! The core: software transactional memory over ordered keys and chunked values. It knows no C type and no file.

#[macro_use]
mod fail_point;

mod clock;
mod commit;
mod commit_log;
mod conflict;
mod cursor;
mod database;
mod dependency_tracker;
mod error;
mod evictable;
mod group_commit;
mod key;
mod memory;
mod memory_budget;
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

pub use commit_log::{AppendError, Change, CommitLog, LoggedCommit, Mutation, Prepared};
pub use conflict::{Conflict, ConflictKind, ConflictResolution};
pub use cursor::Cursor;
pub use error::Error;
pub use evictable::Position;
pub(crate) use evictable::{Evictable, Place, ValueSource, VersionValue};
#[cfg(feature = "fail-points")]
pub use fail_point::FailPoint;
pub use key::{KEY_MAX_BYTES, KeyRange};
pub(crate) use memory_budget::MemoryBudget;
pub use options::{Direction, Durability, IsolationLevel, Options, TransactionOptions};
pub use restore::Restore;
pub use retry::RetryPolicy;
pub use transaction::{ScannedEntry, Transaction};
pub use transaction_manager::{Stats, TransactionManager, WeakTransactionManager};
pub use value::{Chunk, Value};
