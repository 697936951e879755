//! A database that takes up where a stored one left off.

use std::sync::Arc;

use crossbeam_epoch::Guard;

use super::clock::Clock;
use super::commit_log::{CommitLog, Held};
use super::database::{Database, Keeper};
use super::dependency_tracker::{Footprint, PointRead};
use super::error::Error;
use super::evictable::VersionValue;
use super::global_id::GlobalId;
use super::group_commit::GroupCommit;
use super::key::{KeyBytes, check_key};
use super::memory::{Participant, Pool};
use super::memory_budget::MemoryBudget;
use super::options::Options;
use super::outcome::Outcome;
use super::prepared::StagedWrite;
use super::transaction_manager::TransactionManager;
use super::value::{Chunk, Value};
use super::working_set::Operation;

/// The keys of a stored database on their way into memory. Nobody else sees them before
/// [`open`](Restore::open).
pub struct Restore<C: Chunk> {
    /// Before the database, whose collector it takes part in.
    participant: Participant<C>,
    database: Database<C>,
    memory_budget: Option<Arc<MemoryBudget<C>>>,
    newest: u64,
    prepared: Vec<RestoredTransaction<C>>,
}

/// A transaction that was in doubt when the database was closed.
pub struct RestoredTransaction<C> {
    /// Its name.
    pub id: GlobalId,
    /// When it was prepared, in microseconds since 1970 UTC.
    pub time_micros: i64,
    /// The keys that it writes, each once, and what becomes of them.
    pub changes: Vec<(Vec<u8>, RestoredChange<C>)>,
    /// What it has read.
    pub held: Held,
}

/// See [`Change`](super::Change).
pub enum RestoredChange<C> {
    /// The value is the key's.
    Put(Value<C>),
    /// The rows go after those of the key.
    Append(Value<C>),
    /// The key has no value.
    Delete,
}

impl<C: Chunk> Restore<C> {
    pub(super) fn new(options: Options) -> Self {
        let database = Database::new(options);
        let participant = database.buffer.participant();
        Restore { participant, database, memory_budget: None, newest: 0, prepared: Vec::new() }
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
        if !buffer.record(buffer.hash(key), key, &guard).restore(value, version, &meters.restored) {
            return Err(Error::InvalidState("restore: the key is there already"));
        }
        self.newest = self.newest.max(version);
        Ok(())
    }

    /// Takes up a transaction in doubt. It holds what it held before.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a key out of bounds.
    pub fn insert_prepared(&mut self, transaction: RestoredTransaction<C>) -> Result<(), Error> {
        let written = transaction.changes.iter().map(|(key, _)| key);
        written.chain(&transaction.held.keys).try_for_each(|key| check_key(key))?;
        self.prepared.push(transaction);
        Ok(())
    }

    /// Takes up the outcome of a prepared transaction; the oldest comes first.
    ///
    /// # Errors
    /// [`Error::InvalidState`] for an id that was taken up before.
    pub fn insert_outcome(&mut self, outcome: &Outcome) -> Result<(), Error> {
        self.newest = self.newest.max(outcome.version);
        self.database.prepared.restore_outcome(outcome, &self.participant.pin())
    }

    /// Opens the database. Its next commit is later than `version`, the newest that was stored, and goes to the log.
    ///
    /// # Errors
    /// Those of [`CommitLog::prepare`] for the transactions in doubt, and [`Error::InvalidState`] where two of them, or
    /// one of them and an outcome, have the same id. The log is not closed then.
    pub fn open(self, version: u64, log: Box<dyn CommitLog<C>>) -> Result<TransactionManager<C>, Error> {
        let Restore { participant, mut database, memory_budget, newest, prepared } = self;
        database.clock = Clock::logged(version.max(newest));
        let log: Arc<dyn CommitLog<C>> = Arc::from(log);
        for transaction in prepared {
            restore_prepared(transaction, &database, &*log, &participant.pin())?;
        }
        drop(participant);
        *database.group_commit = Some(GroupCommit::new(Arc::clone(&log), memory_budget));
        Ok(TransactionManager::over(Pool::new(database), Keeper::of(log)))
    }
}

fn restore_prepared<C: Chunk>(
    transaction: RestoredTransaction<C>,
    database: &Database<C>,
    log: &dyn CommitLog<C>,
    guard: &Guard,
) -> Result<(), Error> {
    let RestoredTransaction { id, time_micros, changes, held: Held { keys, ranges } } = transaction;
    let hash = |key: &[u8]| database.buffer.hash(key);
    let writes = changes.into_iter().map(|(key, change)| {
        let operation = match change {
            RestoredChange::Put(value) => Operation::Put(value),
            RestoredChange::Append(rows) => Operation::Append(rows),
            RestoredChange::Delete => Operation::Delete,
        };
        StagedWrite { hash: hash(&key), key: KeyBytes::new(&key), operation }
    });
    let writes: Vec<_> = writes.collect();
    let reads = keys.iter().map(|key| {
        // Whether it was there is looked up when it counts.
        PointRead { key: KeyBytes::new(key), hash: hash(key), record: None, absent: false }
    });
    let reads: Vec<_> = reads.collect();
    let footprint = (!reads.is_empty() || !ranges.is_empty()).then(|| Footprint { reads, ranges: Arc::from(ranges) });
    let logged = log.prepare(&writes.iter().map(StagedWrite::mutation).collect::<Vec<_>>())?;
    database.prepared.restore(&id, time_micros, writes, footprint, Some(logged), guard)
}
