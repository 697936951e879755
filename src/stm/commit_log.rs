//! Where the commits of a stored database go before anybody sees them. The core knows no more of storage than this.

use std::any::Any;
use std::sync::Arc;

use super::error::Error;
use super::global_id::GlobalId;
use super::key::KeyRange;
use super::options::Durability;
use super::outcome::Decision;
use super::value::Value;

/// What a commit does to a key.
pub enum Change<'a, C> {
    /// The value is the key's from now on.
    Put(&'a Value<C>),
    /// The rows go after those that the key has; where it has none, they are its value.
    Append(&'a Value<C>),
    /// The key has no value from now on. It may have had none before.
    Delete,
}

/// A key, and what a commit does to it. No two of a commit have the same key.
pub struct Mutation<'a, C> {
    /// The key.
    pub key: &'a [u8],
    /// What becomes of it.
    pub change: Change<'a, C>,
}

/// The mutations of a commit in the form in which the log takes them, which only the log knows.
pub type Prepared = Arc<dyn Any + Send + Sync>;

/// A commit that has its place in the order.
pub struct LoggedCommit<'a> {
    /// Its version.
    pub version: u64,
    /// What [`CommitLog::prepare`] made of it.
    pub prepared: &'a Prepared,
    /// The prepared transaction that this one commits: both become true at once.
    pub decides: Option<Decided<'a>>,
}

/// The end of a prepared transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided<'a> {
    /// Which one.
    pub id: &'a GlobalId,
    /// What becomes of it.
    pub decision: Decision,
    /// Whether an operator decided, and not the coordinator.
    pub heuristic: bool,
    /// When that was, in microseconds since 1970 UTC.
    pub time_micros: i64,
}

/// What a prepared transaction holds besides the keys that it writes: nobody may write there before it is decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Keys that it has read and does not write.
    pub keys: Vec<Vec<u8>>,
    /// Ranges that it has scanned.
    pub ranges: Vec<KeyRange>,
}

/// News of a prepared transaction. `P` is the form in which mutations are logged.
pub enum Note<'a, P> {
    /// It is prepared from now on: it comes back with the database until it is decided.
    Prepared {
        /// Its name. It is new: neither in doubt nor remembered.
        id: &'a GlobalId,
        /// When that was, in microseconds since 1970 UTC.
        time_micros: i64,
        /// What was made of its mutations, as of those of a commit; there may be none.
        mutations: &'a P,
        /// What it has read.
        held: &'a Held,
    },
    /// It was rolled back. (One that is committed is decided by its commit: see [`LoggedCommit::decides`].)
    Decided(Decided<'a>),
    /// Its outcome need not be remembered any more.
    Forgotten {
        /// Its name.
        id: &'a GlobalId,
    },
}

/// How far [`CommitLog::append`] came: the first `written` commits are in the log, the one behind them is what failed,
/// and the others were not tried.
#[derive(Debug)]
pub struct AppendError {
    /// Commits that were appended.
    pub written: usize,
    /// Why the next one was not.
    pub cause: Error,
}

/// Takes commits in their order. It must not commit to its own database, which would wait for itself. What is in the
/// log when the database is opened again is what it comes back with.
pub trait CommitLog<C>: Send + Sync + 'static {
    /// Encodes the mutations of a commit. Committers call it at once, before their order is known; what it makes may
    /// be dropped unused.
    ///
    /// # Errors
    /// Whatever is in the way; that transaction fails with it.
    fn prepare(&self, mutations: &[Mutation<'_, C>]) -> Result<Prepared, Error>;

    /// Appends whole commits, in ascending order of version also from call to call. There is one call at a time.
    ///
    /// # Errors
    /// Of the first commit that cannot be appended. A later call may succeed.
    fn append(&self, commits: &[LoggedCommit<'_>], durability: Durability) -> Result<(), AppendError>;

    /// Whether it can keep prepared transactions: whether [`note`](CommitLog::note) works.
    fn keeps_prepared(&self) -> bool {
        false
    }

    /// Appends news of prepared transactions, in order with all commits. There is one call at a time, and none beside
    /// [`append`](CommitLog::append). The outcomes that a log remembers are those of
    /// [`RememberedOutcomes`](super::RememberedOutcomes).
    ///
    /// # Errors
    /// Of the first that cannot be appended. A later call may succeed.
    fn note(&self, _notes: &[Note<'_, Prepared>], _durability: Durability) -> Result<(), AppendError> {
        Err(AppendError { written: 0, cause: Error::NotDurable("the log keeps no prepared transactions".to_owned()) })
    }

    /// Puts everything that was appended on the disk. It does not run beside [`append`](CommitLog::append).
    ///
    /// # Errors
    /// Whatever is in the way.
    fn sync(&self) -> Result<(), Error>;

    /// The last handle and transaction of the database have gone. Called once; nothing is appended afterwards, and
    /// whoever could be told of an error is gone.
    fn close(&self);
}
