//! Opening a stored database.

use std::fmt::Display;
use std::sync::Arc;

use arrow_array::RecordBatch;

use super::checkpointer::Checkpointer;
use super::log::StorageLog;
use super::snapshot::DatabaseSnapshot;
use super::{ArrowChunk, Change, Mutation, Storage, StoredPrepared, StoredTransactions};
use crate::stm::{self, Error, RestoredChange, RestoredTransaction, TransactionManager, Value};

/// A database that is stored.
pub struct StoredDatabase<C: ArrowChunk> {
    manager: TransactionManager<C>,
    checkpoint: Box<Checkpoint<C>>,
}

type Checkpoint<C> = dyn Fn(&TransactionManager<C>) -> Result<(), Error> + Send + Sync;

impl<C: ArrowChunk> StoredDatabase<C> {
    /// The database.
    pub fn manager(&self) -> &TransactionManager<C> {
        &self.manager
    }

    /// Has the storage put what all keys are now in the place of the commits that led there.
    ///
    /// # Errors
    /// Those of [`Storage::checkpoint`].
    pub fn checkpoint(&self) -> Result<(), Error> {
        (self.checkpoint)(&self.manager)
    }
}

/// Opens a database with what the storage has. The storage is closed with the last handle, transaction and cursor.
///
/// # Errors
/// Those of [`Storage::load`], and [`Error::Corruption`] when it gives what no database can have.
pub fn open<C: ArrowChunk, S: Storage>(options: stm::Options, storage: S) -> Result<StoredDatabase<C>, Error> {
    let storage = Arc::new(storage);
    let mut restore = TransactionManager::restore(options);
    let mut import = C::importer();
    let mut value = |chunks: Vec<RecordBatch>| {
        let chunks = chunks.into_iter().map(&mut import).collect::<Result<Vec<_>, Error>>()?;
        let value = Value::from_chunks(chunks).map_err(|error| damaged(&error))?;
        value.ok_or_else(|| damaged(&"a value without a chunk"))
    };
    let version = storage.load(&mut |stored| {
        let value = value(stored.chunks)?;
        restore.insert(&stored.key, value, stored.version).map_err(|error| damaged(&error))
    })?;
    if storage.keeps_prepared() {
        let StoredTransactions { prepared, outcomes } = storage.load_prepared()?;
        outcomes.iter().try_for_each(|outcome| restore.insert_outcome(outcome)).map_err(|error| damaged(&error))?;
        for StoredPrepared { id, time_micros, mutations, held } in prepared {
            let changes = mutations.into_iter().map(|Mutation { key, change }| {
                let change = match change {
                    Change::Put(chunks) => RestoredChange::Put(value(chunks)?),
                    Change::Append(chunks) => RestoredChange::Append(value(chunks)?),
                    Change::Delete => RestoredChange::Delete,
                };
                Ok((key, change))
            });
            let changes = changes.collect::<Result<_, Error>>()?;
            let restored = restore.insert_prepared(RestoredTransaction { id, time_micros, changes, held });
            restored.map_err(|error| damaged(&error))?;
        }
    }
    let checkpointer = Arc::new(Checkpointer::default());
    let log = StorageLog::<C, S>::new(Arc::clone(&storage), Arc::clone(&checkpointer));
    let manager = restore.open(version, Box::new(log)).map_err(|error| match error {
        Error::InvalidState(what) => damaged(&what),
        other => other,
    })?;
    checkpointer.start(manager.downgrade(), Arc::clone(&storage));
    if storage.is_checkpoint_due() {
        checkpointer.order();
    }
    let checkpoint =
        Box::new(move |manager: &TransactionManager<C>| storage.checkpoint(&mut DatabaseSnapshot::take(manager)));
    Ok(StoredDatabase { manager, checkpoint })
}

fn damaged(what: &dyn Display) -> Error {
    Error::Corruption(format!("the storage gave what cannot be: {what}"))
}
