//! A database that takes up where a stored one left off.

use std::sync::Arc;

use super::clock::Clock;
use super::commit_log::CommitLog;
use super::database::{Database, Keeper};
use super::error::Error;
use super::evictable::VersionValue;
use super::group_commit::GroupCommit;
use super::key::check_key;
use super::memory::{Participant, Pool};
use super::memory_budget::MemoryBudget;
use super::options::Options;
use super::transaction_manager::TransactionManager;
use super::value::{Chunk, Value};

/// The keys of a stored database on their way into memory. Nobody else sees them before
/// [`open`](Restore::open).
pub struct Restore<C: Chunk> {
    /// Before the database, whose collector it takes part in.
    participant: Participant,
    database: Database<C>,
    memory_budget: Option<Arc<MemoryBudget<C>>>,
    newest: u64,
}

impl<C: Chunk> Restore<C> {
    pub(super) fn new(options: Options) -> Self {
        let database = Database::new(options);
        Restore { participant: database.buffer.participant(), database, memory_budget: None, newest: 0 }
    }

    /// Lets values take so many bytes of the memory, as far as they are in storage, too.
    pub(crate) fn limit_memory(&mut self, bytes: u64) -> Arc<MemoryBudget<C>> {
        Arc::clone(self.memory_budget.insert(MemoryBudget::new(bytes)))
    }

    /// Takes up a key, with the version of the commit that wrote it last. Limits on bytes are not for what is there.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a key out of bounds or a version of 0, [`Error::InvalidState`] for a key that was
    /// taken up before.
    pub fn insert(&mut self, key: &[u8], value: Value<C>, version: u64) -> Result<(), Error> {
        self.insert_version(key, VersionValue::new(value, self.memory_budget.as_ref()), version)
    }

    /// The same for a value that may be in storage.
    ///
    /// # Errors
    /// Those of [`insert`](Restore::insert).
    pub(crate) fn insert_version(&mut self, key: &[u8], value: VersionValue<C>, version: u64) -> Result<(), Error> {
        check_key(key)?;
        if version == 0 {
            return Err(Error::InvalidArgument("version: no commit has the number 0".to_owned()));
        }
        let Database { buffer, meters, .. } = &self.database;
        let guard = self.participant.pin();
        if !buffer.record(buffer.hash(key), key, &guard).restore(value, version, meters) {
            return Err(Error::InvalidState("restore: the key is there already"));
        }
        self.newest = self.newest.max(version);
        Ok(())
    }

    /// Opens the database. Its next commit is later than `version`, the newest that was stored, and goes to the log.
    pub fn open(self, version: u64, log: Box<dyn CommitLog<C>>) -> TransactionManager<C> {
        let Restore { participant, mut database, memory_budget, newest } = self;
        drop(participant);
        database.clock = Clock::logged(version.max(newest));
        let log: Arc<dyn CommitLog<C>> = Arc::from(log);
        *database.group_commit = Some(GroupCommit::new(Arc::clone(&log), memory_budget));
        TransactionManager::over(Pool::new(database), Keeper::of(log))
    }
}
