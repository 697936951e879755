//! What all transactions of a database share.

use super::clock::Clock;
use super::group_commit::GroupCommit;
use super::memory::{Participant, Pool};
use super::meters::Meters;
use super::options::Options;
use super::reader_marks::ReaderMarks;
use super::reclaimer::Reclaimer;
use super::reservation::Reservations;
use super::snapshot::LiveSnapshots;
use super::txn_buffer::TxnBuffer;
use super::working_set::WorkingSet;

/// The shared parts, each of which is lock-free on its own.
pub(crate) struct Database<C: Send + Sync + 'static> {
    pub options: Options,
    pub clock: Clock,
    pub buffer: TxnBuffer<C>,
    pub reader_marks: ReaderMarks,
    pub reclaimer: Reclaimer<C>,
    pub reservations: Reservations,
    pub meters: Meters,
    /// `None`: the database is in memory only.
    pub group_commit: Option<GroupCommit<C>>,
}

/// What one running transaction has for itself, reused by the next.
pub(crate) struct Context<C> {
    pub participant: Participant,
    pub set: WorkingSet<C>,
    /// What the last scan of the snapshots found.
    pub live: LiveSnapshots,
    /// Writes and bytes committed from this slot since it last reclaimed.
    pub noted: usize,
    pub written: u64,
}

pub(crate) type DatabasePool<C> = Pool<Context<C>, Database<C>, C>;

impl<C: Send + Sync + 'static> Database<C> {
    pub fn new(options: Options) -> Self {
        let buffer = TxnBuffer::new();
        Database {
            options,
            clock: Clock::new(),
            reader_marks: ReaderMarks::new(),
            reclaimer: Reclaimer::new(),
            reservations: Reservations::new(buffer.collector()),
            buffer,
            meters: Meters::default(),
            group_commit: None,
        }
    }

    pub fn context(&self) -> Context<C> {
        Context {
            participant: self.buffer.participant(),
            set: WorkingSet::new(),
            live: LiveSnapshots::unknown(),
            noted: 0,
            written: 0,
        }
    }
}
