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
mod decide;
mod dependency_tracker;
mod error;
mod evictable;
mod few;
mod global_id;
mod group_commit;
mod holds;
mod key;
mod memory;
mod memory_budget;
pub(crate) mod meters;
mod options;
mod outcome;
mod prepare;
mod prepared;
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
pub use commit_log::{AppendError, Change, CommitLog, Decided, Held, LoggedCommit, Mutation, Note, Prepared};
pub use conflict::{Conflict, ConflictKind, ConflictResolution};
pub use cursor::Cursor;
pub(crate) use dependency_tracker::Seen;
pub use error::Error;
pub use evictable::Position;
pub(crate) use evictable::{Evictable, Place, ValueSource, VersionValue};
#[cfg(feature = "fail-points")]
pub use fail_point::FailPoint;
pub use global_id::{GLOBAL_ID_MAX_BYTES, GlobalId};
pub use key::{KEY_MAX_BYTES, KeyRange};
pub(crate) use memory::blocks;
pub(crate) use memory_budget::MemoryBudget;
pub use options::{Direction, Durability, IsolationLevel, Options, TransactionOptions};
pub use outcome::{Decision, Outcome, REMEMBERED_OUTCOMES, RememberedOutcomes};
pub use prepare::{PrepareOptions, Vote};
pub use prepared::PreparedInfo;
pub use restore::{Restore, RestoredChange, RestoredTransaction};
pub use retry::RetryPolicy;
pub use transaction::{ScannedEntry, Transaction};
pub use transaction_manager::{Stats, TransactionManager, WeakTransactionManager};
pub use value::{Chunk, Value};
