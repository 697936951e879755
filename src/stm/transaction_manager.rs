//! The database: begins transactions, reruns them, and tells how it is.

use std::sync::{Arc, Weak};

use super::bound_key::BoundKey;
use super::commit::Committer;
use super::conflict::ConflictKind;
use super::database::{Database, DatabasePool, Keeper};
use super::decide::busy;
use super::dependency_tracker::DependencyTracker;
use super::error::Error;
use super::global_id::GlobalId;
use super::group_commit::OwnedNote;
use super::memory::{Pool, Presence, Standing};
use super::options::{Durability, Options, TransactionOptions};
use super::outcome::{Decision, Outcome};
use super::prepare::{PrepareOptions, Vote};
use super::prepared::PreparedInfo;
use super::restore::Restore;
use super::retry::RetryPolicy;
use super::snapshot::Registration;
use super::transaction::{Open, Transaction};
use super::value::Chunk;

/// A handle of a database. Cloning gives another handle of the same one; all threads may use it at once.
/// The database goes with its last handle, transaction and cursor.
pub struct TransactionManager<C: Chunk> {
    pool: Arc<DatabasePool<C>>,
    keeper: Keeper<C>,
}

impl<C: Chunk> Clone for TransactionManager<C> {
    fn clone(&self) -> Self {
        TransactionManager::over(Arc::clone(&self.pool), self.keeper.clone())
    }
}

impl<C: Chunk> Drop for TransactionManager<C> {
    fn drop(&mut self) {
        self.pool.handle_dropped();
    }
}

/// A handle that does not keep the database open.
pub struct WeakTransactionManager<C: Chunk> {
    pool: Weak<DatabasePool<C>>,
}

impl<C: Chunk> WeakTransactionManager<C> {
    /// A handle of the database, if that is still there. It may outlive the log of a stored one, which is closed when
    /// all other handles and transactions are gone.
    pub fn upgrade(&self) -> Option<TransactionManager<C>> {
        self.pool.upgrade().map(|pool| TransactionManager::over(pool, Keeper::none()))
    }
}

/// How a database is. Counters run from its opening; all numbers are taken while others go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Keys with a record: those that exist, and deleted ones that have not been reclaimed.
    pub keys: u64,
    /// Versions of all keys, tombstones included.
    pub versions: u64,
    /// Bytes that the versions hold; chunks that several versions of a key share count once, those in storage alone as
    /// if they were in memory.
    pub live_bytes: u64,
    /// Transactions and read-committed scans that hold a snapshot.
    pub active_transactions: u64,
    /// The oldest snapshot held; the newest version where there is none.
    pub oldest_snapshot: u64,
    /// The newest commit version.
    pub version: u64,
    /// Transactions that committed.
    pub commits: u64,
    /// Transactions that were rolled back, or aborted for another reason than a conflict.
    pub rollbacks: u64,
    /// Transactions that were aborted by a conflict of two writes.
    pub conflicts_write_write: u64,
    /// Transactions that were aborted because what they read was overwritten.
    pub conflicts_read_write: u64,
    /// Transactions that were aborted because a range that they scanned, or a key that they found absent, changed.
    pub conflicts_phantom: u64,
    /// Transactions that were aborted because another one held a key.
    pub conflicts_prepared: u64,
    /// Attempts that were rerun.
    pub retries: u64,
    /// Bytes of values in memory: with a memory budget those of the values which are not in storage alone, else the live
    /// bytes.
    pub resident_bytes: u64,
    /// Bytes that values would take in memory which are in storage alone. For those that have not been in memory since
    /// the database was opened it is an estimate.
    pub cold_bytes: u64,
    /// Values that were read from storage because they were not in memory.
    pub cold_reads: u64,
    /// Prepared transactions in doubt.
    pub prepared_transactions: u64,
    /// Bytes of the keys that these hold to write, and what they are going to write there.
    pub prepared_bytes: u64,
    /// Microseconds since the oldest of these was prepared; 0 where there is none.
    pub oldest_prepared_micros: u64,
    /// Outcomes of prepared transactions that are remembered.
    pub remembered_outcomes: u64,
}

impl<C: Chunk> TransactionManager<C> {
    /// Opens an empty database in memory.
    pub fn new(options: Options) -> Self {
        TransactionManager::over(Pool::new(Database::new(options)), Keeper::none())
    }

    /// Takes up a stored database.
    pub fn restore(options: Options) -> Restore<C> {
        Restore::new(options)
    }

    pub(super) fn over(pool: Arc<DatabasePool<C>>, keeper: Keeper<C>) -> Self {
        pool.handle_made();
        TransactionManager { pool, keeper }
    }

    /// A handle that does not keep the database open.
    pub fn downgrade(&self) -> WeakTransactionManager<C> {
        WeakTransactionManager { pool: Arc::downgrade(&self.pool) }
    }

    /// Puts everything that has been committed on the disk, whatever its durability. Without effect in memory.
    ///
    /// # Errors
    /// [`Error::Storage`], and what is said of the log's other errors.
    pub fn sync(&self) -> Result<(), Error> {
        let mut open = Open::new(&self.pool, &self.keeper);
        let (context, pool, _) = open.parts();
        let guard = context.participant.pin();
        let tracker = DependencyTracker { pool, guard: &guard };
        pool.shared().group_commit.as_ref().map_or(Ok(()), |group_commit| group_commit.sync(&tracker))
    }

    /// What it was opened with.
    pub fn options(&self) -> &Options {
        &self.pool.shared().options
    }

    /// Begins a transaction.
    #[inline(always)]
    pub fn begin(&self, options: &TransactionOptions) -> Transaction<C> {
        Transaction::begin(&self.pool, &self.keeper, options, None)
    }

    /// Binds a key: its calls spare looking it up each time. The key need not exist.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a key out of bounds.
    pub fn bind(&self, key: &[u8]) -> Result<BoundKey<C>, Error> {
        BoundKey::new(&self.pool, key)
    }

    /// Begins the attempts of a transaction that is to be rerun on conflicts.
    pub fn retry_policy(&self, options: &TransactionOptions) -> RetryPolicy<C> {
        RetryPolicy::new(Arc::clone(&self.pool), self.keeper.clone(), options.clone())
    }

    /// Runs `body` in a transaction and commits it; on conflicts, of the commit or reported by `body`, does it again as
    /// the options say. Gives what the body gave and the commit version. It sleeps between attempts.
    ///
    /// # Errors
    /// Every error of `body` or of the commit that is no conflict, the last conflict when the attempts are used up, and
    /// [`Error::Timeout`].
    pub fn transact<T>(
        &self,
        options: &TransactionOptions,
        mut body: impl FnMut(&mut Transaction<C>) -> Result<T, Error>,
    ) -> Result<(T, u64), Error> {
        let mut policy = self.retry_policy(options);
        loop {
            let mut transaction = policy.begin();
            let outcome = match body(&mut transaction) {
                Ok(given) => transaction.commit().map(|version| (given, version)),
                Err(error) => Err(error),
            };
            drop(transaction);
            match outcome {
                Ok(done) => return Ok(done),
                Err(error) => policy.conflicted(error)?,
            }
        }
    }

    /// Prepares a transaction of this database: see [`Transaction::prepare`].
    ///
    /// # Errors
    /// Those of [`Transaction::prepare`], and [`Error::InvalidArgument`] for a transaction of another database, which
    /// goes on then.
    pub(crate) fn prepare(
        &self,
        transaction: &mut Transaction<C>,
        id: &GlobalId,
        options: PrepareOptions,
    ) -> Result<Vote, Error> {
        if !transaction.is_of(&self.pool) {
            return Err(Error::InvalidArgument("transaction: it belongs to another database".to_owned()));
        }
        transaction.prepare(id, options)
    }

    /// Decides about a prepared transaction, or finds how it was decided.
    ///
    /// # Errors
    /// [`Error::UnknownId`], [`Error::Busy`], and what the log fails with: it is in doubt still then.
    pub(crate) fn decide(&self, id: &GlobalId, decision: Decision, heuristic: bool) -> Result<Outcome, Error> {
        let (mut open, snapshot) = Open::register(&self.pool, &self.keeper, Registration::Snapshot);
        let (context, pool, presence) = open.commit_parts();
        let database = pool.shared();
        let participant = &context.participant;
        let guard = participant.pin();
        let prepared = &database.prepared;
        let transaction = prepared.find(id, &guard).ok_or_else(|| unknown(id))?;
        let was_decided = matches!(transaction.standing(&guard), Standing::Decided { .. });
        let durability = Durability::Synced;
        let committer = Committer { pool, guard: &guard, presence, participant, snapshot, durability };
        let decided = committer.decide_prepared(&transaction, decision, heuristic);
        let ((writes, bytes), held) = (transaction.size(), transaction.held());
        drop(guard);
        if let (Ok(outcome), false) = (&decided, was_decided) {
            match outcome.decision {
                Decision::Commit => presence.committed(),
                Decision::Rollback => database.meters.rolled_back(),
            }
            database.reclaim_after(writes, bytes, context, pool, presence);
            database.free_after(held, context);
            if let Some(budget) = database.memory_budget() {
                budget.shrink();
            }
        }
        decided
    }

    /// The prepared transactions in doubt, the oldest first, and then those that were decided heuristically and not
    /// forgotten.
    pub(crate) fn prepared_transactions(&self) -> Vec<PreparedInfo> {
        let mut open = Open::new(&self.pool, &self.keeper);
        let (context, pool, _) = open.parts();
        pool.shared().prepared.list(&context.participant.pin())
    }

    /// Forgets how a prepared transaction ended. Without effect on one that is unknown.
    ///
    /// # Errors
    /// [`Error::InvalidState`] when it has not ended, [`Error::Busy`] while another call forgets it, and what the log
    /// fails with: it is remembered still then.
    pub(crate) fn forget(&self, id: &GlobalId) -> Result<(), Error> {
        let mut open = Open::new(&self.pool, &self.keeper);
        let (context, pool, _) = open.parts();
        let database = pool.shared();
        let guard = context.participant.pin();
        let Some(transaction) = database.prepared.find(id, &guard) else {
            return Ok(());
        };
        if !matches!(transaction.standing(&guard), Standing::Decided { .. }) {
            return Err(Error::InvalidState("forget: the transaction is in doubt"));
        }
        database.prepared.finish(&transaction, &guard);
        if let Some(group_commit) = database.group_commit.as_ref().filter(|_| transaction.is_logged) {
            if transaction.mark_forgotten(true) {
                return Err(busy(&transaction));
            }
            let tracker = DependencyTracker { pool, guard: &guard };
            let noted = group_commit.note(OwnedNote::Forgotten { id: id.clone() }, Durability::Buffered, &tracker);
            noted.inspect_err(|_| _ = transaction.mark_forgotten(false))?;
        }
        database.prepared.forget(&transaction, &guard);
        Ok(())
    }

    /// Counters and sizes. It first reclaims all that can be reclaimed, so it is not for a hot path.
    pub fn stats(&self) -> Stats {
        let mut open = Open::new(&self.pool, &self.keeper);
        let (context, pool, presence) = open.commit_parts();
        let database = pool.shared();
        database.reclaim_all(context, pool, presence);
        let live = &context.live;
        let meters = &database.meters;
        let in_doubt = database.prepared.in_doubt(&context.participant.pin());
        Stats {
            keys: database.buffer.len() as u64,
            versions: database.versions(pool),
            live_bytes: database.live_bytes(pool),
            active_transactions: pool.words().filter(|word| word.is_held()).count() as u64,
            oldest_snapshot: live.floor(),
            version: live.bound(),
            commits: pool.presences().map(Presence::commits).sum(),
            rollbacks: meters.rollbacks(),
            conflicts_write_write: meters.conflicts(ConflictKind::WriteWrite),
            conflicts_read_write: meters.conflicts(ConflictKind::ReadWrite),
            conflicts_phantom: meters.conflicts(ConflictKind::Phantom),
            conflicts_prepared: meters.conflicts(ConflictKind::Prepared),
            retries: meters.retries(),
            resident_bytes: database.resident_bytes(pool),
            cold_bytes: database.memory_budget().map_or(0, |budget| budget.cold_bytes()),
            cold_reads: database.memory_budget().map_or(0, |budget| budget.reads()),
            prepared_transactions: in_doubt.transactions,
            prepared_bytes: in_doubt.bytes,
            oldest_prepared_micros: in_doubt.oldest_micros,
            remembered_outcomes: in_doubt.outcomes,
        }
    }
}

fn unknown(id: &GlobalId) -> Error {
    Error::UnknownId(format!("global id: no transaction {id} is in doubt or remembered"))
}
