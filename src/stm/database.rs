//! What all transactions of a database share.

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use super::clock::Clock;
use super::commit_log::CommitLog;
use super::group_commit::GroupCommit;
use super::memory::{Participant, Pool, Reuse};
use super::memory_budget::MemoryBudget;
use super::meters::{self, Meters, Tally};
use super::options::Options;
use super::prepared::PreparedTransactions;
use super::reader_marks::ReaderMarks;
use super::reclaimer::Reclaimer;
use super::reservation::Reservations;
use super::snapshot::LiveSnapshots;
use super::txn_buffer::TxnBuffer;
use super::value::Chunk;
use super::working_set::WorkingSet;

/// The shared parts, each of which is lock-free on its own.
pub(crate) struct Database<C: Chunk> {
    pub options: Options,
    pub clock: Clock,
    pub buffer: TxnBuffer<C>,
    pub reader_marks: ReaderMarks,
    pub reclaimer: Reclaimer<C>,
    pub reservations: Reservations,
    /// Apart: it is large, and mostly of no concern.
    pub prepared: Box<PreparedTransactions<C>>,
    pub meters: Meters,
    /// `None`: the database is in memory only.
    ///
    /// Padded: it is looked at by each commit, and must not share a line with what others write.
    pub group_commit: CachePadded<Option<GroupCommit<C>>>,
}

/// What one running transaction has for itself, reused by the next.
pub(crate) struct Context<C: Send + Sync + 'static> {
    pub participant: Participant<C>,
    pub set: WorkingSet<C>,
    /// What the last scan of the snapshots found.
    pub live: LiveSnapshots,
    /// Writes and bytes committed from this slot since it last reclaimed.
    pub writes: usize,
    pub written: u64,
    /// Keys and ranges that prepared transactions have let go in this slot since it last freed what that leaves.
    pub let_go: usize,
}

impl<C: Chunk> Reuse for Context<C> {
    fn clear(&mut self) {
        self.set.clear();
    }

    fn is_clear(&self) -> bool {
        self.set.is_clear()
    }
}

/// Keeps a stored database open: its handles and transactions have a count of it, those of the storage's own threads do
/// not. With the last one the log is closed, before that handle or transaction is gone.
pub(crate) struct Keeper<C: 'static>(Option<Arc<Log<C>>>);

struct Log<C: 'static>(Arc<dyn CommitLog<C>>);

impl<C> Drop for Log<C> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<C> Keeper<C> {
    pub fn of(log: Arc<dyn CommitLog<C>>) -> Self {
        Keeper(Some(Arc::new(Log(log))))
    }

    /// Of a database in memory, or of whoever must not keep one open.
    pub fn none() -> Self {
        Keeper(None)
    }
}

impl<C> Keeper<C> {
    /// Whether there is anything that its end may end.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl<C> Clone for Keeper<C> {
    fn clone(&self) -> Self {
        Keeper(self.0.clone())
    }
}

pub(crate) type DatabasePool<C> = Pool<Context<C>, Database<C>, C>;

impl<C: Chunk> Database<C> {
    pub fn new(options: Options) -> Self {
        let buffer = TxnBuffer::new();
        Database {
            options,
            clock: Clock::new(),
            reader_marks: ReaderMarks::new(),
            reclaimer: Reclaimer::new(),
            reservations: Reservations::new(buffer.collector()),
            prepared: Box::new(PreparedTransactions::new(&buffer.collector())),
            buffer,
            meters: Meters::default(),
            group_commit: CachePadded::new(None),
        }
    }

    /// What the values may take of the memory; `None`: all are in memory.
    pub fn memory_budget(&self) -> Option<&Arc<MemoryBudget<C>>>
    where
        C: Chunk,
    {
        self.group_commit.as_ref()?.memory_budget()
    }

    fn sum(&self, pool: &DatabasePool<C>, counter: impl Fn(&Tally) -> u64) -> u64 {
        let tallies = pool.presences().map(|presence| &presence.tally);
        meters::sum(tallies.chain([&self.meters.restored]).map(counter))
    }

    /// Bytes of all linked versions.
    pub fn live_bytes(&self, pool: &DatabasePool<C>) -> u64 {
        self.sum(pool, Tally::live_bytes)
    }

    /// Linked versions.
    pub fn versions(&self, pool: &DatabasePool<C>) -> u64 {
        self.sum(pool, Tally::versions)
    }

    /// Versions that were unlinked so far.
    pub fn retirements(&self, pool: &DatabasePool<C>) -> u64 {
        self.sum(pool, Tally::retirements)
    }

    /// Bytes of values in memory.
    pub fn resident_bytes(&self, pool: &DatabasePool<C>) -> u64 {
        // What waits to be freed counts as resident, and is no longer live.
        let live = self.live_bytes(pool);
        self.memory_budget().map_or(live, |budget| budget.resident().min(live))
    }

    pub fn context(&self) -> Context<C> {
        Context {
            participant: self.buffer.participant(),
            set: WorkingSet::new(),
            live: LiveSnapshots::unknown(),
            writes: 0,
            written: 0,
            let_go: 0,
        }
    }
}
