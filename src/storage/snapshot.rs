//! What a database is at one version, for a checkpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::place::Sources;
use super::{ArrowChunk, Place, Snapshot, StoredValue, without_unused};
use crate::stm::{
    Direction, Error, Evictable, IsolationLevel, KeyRange, Transaction, TransactionManager, TransactionOptions,
    VersionValue,
};

/// A snapshot that a transaction holds, which is walked by a cursor: writers go on meanwhile.
pub(super) struct DatabaseSnapshot<'a, C: ArrowChunk> {
    transaction: Transaction<C>,
    cancelled: &'a AtomicBool,
    /// The values that were visited, where they are to be told their places.
    visited: Option<Vec<Option<Arc<Evictable<C>>>>>,
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
        DatabaseSnapshot { transaction: manager.begin(&options), cancelled, visited: None }
    }

    /// The same for the database's own checkpoint, where values can be read back from it.
    pub fn with_places(mut self, wanted: bool) -> Self {
        self.visited = wanted.then(Vec::new);
        self
    }
}

impl<C: ArrowChunk> Snapshot for DatabaseSnapshot<'_, C> {
    fn version(&self) -> u64 {
        self.transaction.snapshot_version()
    }

    fn visit(&mut self, visit: &mut dyn FnMut(StoredValue) -> Result<(), Error>) -> Result<(), Error> {
        let version = self.version();
        let mut cursor = self.transaction.open_cursor(KeyRange::all(), Direction::Forward, None)?;
        while let Some((key, value)) = cursor.step(&mut self.transaction)? {
            // Relaxed: it is no more than a wish.
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(Error::Storage("the database is being closed".to_owned()));
            }
            if let Some(visited) = &mut self.visited {
                visited.push(match &value {
                    VersionValue::InMemory(_) => None,
                    VersionValue::Evictable(cell) => Some(Arc::clone(cell)),
                });
            }
            let value = value.into_value()?;
            let chunks = value.chunks().into_iter().map(|chunk| without_unused(chunk.to_record_batch()?));
            let chunks = chunks.collect::<Result<_, Error>>()?;
            visit(StoredValue { key: key.as_slice().to_vec(), version, chunks, cold: None })?;
        }
        Ok(())
    }

    fn wants_places(&self) -> bool {
        self.visited.is_some()
    }

    fn placed(&mut self, places: &mut dyn Iterator<Item = Option<Place>>) {
        let mut sources = Sources::new();
        for (cell, place) in self.visited.take().into_iter().flatten().zip(places) {
            // Where the file has no form as chunks, the value stays where it is.
            if let (Some(cell), Some(Ok(place))) = (cell, place.map(|place| sources.place(&place))) {
                cell.stored(place);
            }
        }
    }
}
