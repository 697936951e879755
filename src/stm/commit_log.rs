//! Where the commits of a stored database go before anybody sees them. The core knows no more of storage than this.

use std::any::Any;
use std::sync::Arc;

use super::error::Error;
use super::options::Durability;
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

    /// Puts everything that was appended on the disk. It does not run beside [`append`](CommitLog::append).
    ///
    /// # Errors
    /// Whatever is in the way.
    fn sync(&self) -> Result<(), Error>;

    /// The last handle and transaction of the database have gone. Called once; nothing is appended afterwards, and
    /// whoever could be told of an error is gone.
    fn close(&self);
}
