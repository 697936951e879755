//! Opening a stored database.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::checkpointer::Checkpointer;
use super::log::StorageLog;
use super::place::Sources;
use super::snapshot::DatabaseSnapshot;
use super::{ArrowChunk, Storage};
use crate::stm::{self, Error, Evictable, MemoryBudget, TransactionManager, Value, VersionValue};

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
    let version = storage.load(&mut |stored| {
        let damaged =
            |what: &dyn std::fmt::Display| Error::Corruption(format!("the storage gave what cannot be: {what}"));
        let chunks = stored.chunks.into_iter().map(&mut import).collect::<Result<Vec<_>, Error>>()?;
        let rows = Value::from_chunks(chunks).map_err(|error| damaged(&error))?;
        let value = match (&stored.cold, &budget, rows) {
            (None, budget, Some(rows)) => VersionValue::new(rows, budget.as_ref()),
            (Some(cold), Some(budget), rows) => {
                let cell = Evictable::cold(sources.place(&cold.place)?, cold.bytes, budget);
                cell.warm()?;
                let value = VersionValue::Evictable(cell);
                rows.map_or(Ok(value.clone()), |rows| value.append(&rows)).map_err(|error| damaged(&error))?
            }
            (None, _, None) => return Err(damaged(&"a value without a chunk")),
            (Some(_), None, _) => return Err(damaged(&"a cold value, without a memory budget")),
        };
        restore.insert_version(&stored.key, value, stored.version).map_err(|error| damaged(&error))
    })?;
    let checkpointer = Arc::new(Checkpointer::default());
    let log = StorageLog::<C, S>::new(Arc::clone(&storage), Arc::clone(&checkpointer), budget.clone());
    let manager = restore.open(version, Box::new(log));
    budget.as_ref().inspect(|budget| budget.shrink_fully());
    checkpointer.start(manager.downgrade(), Arc::clone(&storage), budget.clone());
    if storage.is_checkpoint_due() {
        checkpointer.order();
    }
    let checkpoint = Box::new(move |manager: &TransactionManager<C>| {
        static NEVER: AtomicBool = AtomicBool::new(false);
        make_checkpoint(manager, &*storage, budget.as_deref(), &NEVER)
    });
    Ok(StoredDatabase { manager, checkpoint })
}

/// Has the storage make a checkpoint; what is in it can be read back.
pub(super) fn make_checkpoint<C: ArrowChunk, S: Storage>(
    manager: &TransactionManager<C>,
    storage: &S,
    budget: Option<&MemoryBudget<C>>,
    cancelled: &AtomicBool,
) -> Result<(), Error> {
    let mut snapshot = DatabaseSnapshot::take_until(manager, cancelled).with_places(budget.is_some());
    storage.checkpoint(&mut snapshot)?;
    drop(snapshot);
    if let Some(budget) = budget {
        budget.checkpointed();
        budget.shrink_fully();
    }
    Ok(())
}
