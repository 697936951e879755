//! What a database is at one version, for a checkpoint.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{ArrowChunk, Snapshot, StoredValue};
use crate::stm::{Direction, Error, IsolationLevel, KeyRange, Transaction, TransactionManager, TransactionOptions};

/// A snapshot that a transaction holds, which is walked by a cursor: writers go on meanwhile.
pub(super) struct DatabaseSnapshot<'a, C: ArrowChunk> {
    transaction: Transaction<C>,
    cancelled: &'a AtomicBool,
}

impl<'a, C: ArrowChunk> DatabaseSnapshot<'a, C> {
    /// Of what is visible now.
    pub fn take(manager: &TransactionManager<C>) -> Self {
        static NEVER: AtomicBool = AtomicBool::new(false);
        DatabaseSnapshot::take_until(manager, &NEVER)
    }

    /// The same, whose walk fails when `cancelled` is set.
    pub fn take_until(manager: &TransactionManager<C>, cancelled: &'a AtomicBool) -> Self {
        // Nothing that it reads is written on, so it needs no certification.
        let isolation = Some(IsolationLevel::RepeatableRead);
        let options = TransactionOptions { isolation, read_only: true, ..TransactionOptions::default() };
        DatabaseSnapshot { transaction: manager.begin(&options), cancelled }
    }
}

impl<C: ArrowChunk> Snapshot for DatabaseSnapshot<'_, C> {
    fn version(&self) -> u64 {
        self.transaction.snapshot_version()
    }

    fn visit(&mut self, visit: &mut dyn FnMut(StoredValue) -> Result<(), Error>) -> Result<(), Error> {
        let version = self.version();
        let mut cursor = self.transaction.open_cursor(KeyRange::all(), Direction::Forward, None)?;
        while cursor.next(&mut self.transaction)? {
            // Relaxed: it is no more than a wish.
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(Error::Storage("the database is being closed".to_owned()));
            }
            let Some((key, value)) = cursor.entry() else {
                break;
            };
            let chunks = value.chunks().iter().map(ArrowChunk::to_record_batch).collect::<Result<_, Error>>()?;
            visit(StoredValue { key: key.to_vec(), version, chunks })?;
        }
        Ok(())
    }
}
