//! What a database is at one version, for a checkpoint.

use super::{ArrowChunk, Snapshot, StoredValue};
use crate::stm::{Direction, Error, IsolationLevel, KeyRange, Transaction, TransactionManager, TransactionOptions};

/// A snapshot that a transaction holds, which is walked by a cursor: writers go on meanwhile.
pub(super) struct DatabaseSnapshot<C: ArrowChunk> {
    transaction: Transaction<C>,
}

impl<C: ArrowChunk> DatabaseSnapshot<C> {
    /// Of what is visible now.
    pub fn take(manager: &TransactionManager<C>) -> Self {
        // Nothing that it reads is written on, so it needs no certification.
        let isolation = Some(IsolationLevel::RepeatableRead);
        let options = TransactionOptions { isolation, read_only: true, ..TransactionOptions::default() };
        DatabaseSnapshot { transaction: manager.begin(&options) }
    }
}

impl<C: ArrowChunk> Snapshot for DatabaseSnapshot<C> {
    fn version(&self) -> u64 {
        self.transaction.snapshot_version()
    }

    fn visit(&mut self, visit: &mut dyn FnMut(StoredValue) -> Result<(), Error>) -> Result<(), Error> {
        let mut cursor = self.transaction.open_cursor(KeyRange::all(), Direction::Forward, None)?;
        while cursor.next(&mut self.transaction)? {
            let Some((key, value)) = cursor.entry() else {
                break;
            };
            let chunks = value.chunks().iter().map(ArrowChunk::to_record_batch).collect::<Result<_, Error>>()?;
            visit(StoredValue { key: key.to_vec(), version: self.version(), chunks })?;
        }
        Ok(())
    }
}
