//! Opening a stored database.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow_array::RecordBatch;

use super::checkpointer::Checkpointer;
use super::log::StorageLog;
use super::place::Sources;
use super::snapshot::DatabaseSnapshot;
use super::{ArrowChunk, Change, Mutation, Storage, StoredPrepared, StoredTransactions};
use crate::stm::{
    self, Error, Evictable, MemoryBudget, RestoredChange, RestoredTransaction, TransactionManager, Value, VersionValue,
};

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
    let budget = Some(storage.memory_budget()).filter(|bytes| *bytes > 0).map(|bytes| restore.limit_memory(bytes));
    let mut import = C::importer();
    let mut sources = Sources::new();
    let mut rows = |chunks: Vec<RecordBatch>| {
        let chunks = chunks.into_iter().map(&mut import).collect::<Result<Vec<_>, Error>>()?;
        Value::from_chunks(chunks).map_err(|error| damaged(&error))
    };
    let version = storage.load(&mut |stored| {
        let value = match (&stored.cold, &budget, rows(stored.chunks)?) {
            (None, budget, Some(rows)) => VersionValue::new(rows, budget.as_ref()),
            (Some(cold), Some(budget), rows) => {
                let cell = Evictable::cold(sources.place(&cold.place)?, cold.bytes, budget);
                cell.warm()?;
                let value = VersionValue::Evictable(cell);
                rows.map_or(Ok(value.clone()), |rows| value.append(&rows)).map_err(|error| damaged(&error))?
            }
            (None, _, None) => return Err(damaged(&WITHOUT_CHUNK)),
            (Some(_), None, _) => return Err(damaged(&"a cold value, without a memory budget")),
        };
        restore.insert_version(&stored.key, value, stored.version).map_err(|error| damaged(&error))
    })?;
    if storage.keeps_prepared() {
        let mut value = |chunks| rows(chunks)?.ok_or_else(|| damaged(&WITHOUT_CHUNK));
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
    let log = StorageLog::<C, S>::new(Arc::clone(&storage), Arc::clone(&checkpointer), budget.clone());
    let manager = restore.open(version, Box::new(log)).map_err(|error| match error {
        Error::InvalidState(what) => damaged(&what),
        other => other,
    })?;
    budget.as_ref().inspect(|budget| budget.shrink_fully());
    checkpointer.start(manager.downgrade(), Arc::clone(&storage), budget.clone());
    if storage.is_checkpoint_due() || budget.as_ref().is_some_and(|budget| budget.needs_checkpoint()) {
        checkpointer.order();
    }
    let checkpoint = Box::new(move |manager: &TransactionManager<C>| {
        static NEVER: AtomicBool = AtomicBool::new(false);
        make_checkpoint(manager, &*storage, budget.as_deref(), &NEVER)
    });
    Ok(StoredDatabase { manager, checkpoint })
}

const WITHOUT_CHUNK: &str = "a value without a chunk";

fn damaged(what: &dyn Display) -> Error {
    Error::Corruption(format!("the storage gave what cannot be: {what}"))
}

/// Has the storage make a checkpoint; what is in it can be read back.
pub(super) fn make_checkpoint<C: ArrowChunk, S: Storage>(
    manager: &TransactionManager<C>,
    storage: &S,
    budget: Option<&MemoryBudget<C>>,
    cancelled: &AtomicBool,
) -> Result<(), Error> {
    let unstored = budget.map_or(0, MemoryBudget::unstored);
    let mut snapshot = DatabaseSnapshot::take_until(manager, cancelled).with_places(budget.is_some());
    let made = storage.checkpoint(&mut snapshot);
    drop(snapshot);
    if let Some(budget) = budget {
        if made.is_ok() {
            budget.checkpointed(unstored);
        }
        // In any case: values may be in storage though what is superfluous there could not be removed.
        budget.shrink_fully();
    }
    made
}
