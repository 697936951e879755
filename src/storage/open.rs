//! Opening a stored database.

use std::sync::Arc;

use super::checkpointer::Checkpointer;
use super::log::StorageLog;
use super::snapshot::DatabaseSnapshot;
use super::{ArrowChunk, Storage};
use crate::stm::{self, Error, TransactionManager, Value};

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
    let version = storage.load(&mut |stored| {
        let damaged =
            |what: &dyn std::fmt::Display| Error::Corruption(format!("the storage gave what cannot be: {what}"));
        let chunks = stored.chunks.into_iter().map(&mut import).collect::<Result<Vec<_>, Error>>()?;
        let value = Value::from_chunks(chunks).map_err(|error| damaged(&error))?;
        let value = value.ok_or_else(|| damaged(&"a value without a chunk"))?;
        restore.insert(&stored.key, value, stored.version).map_err(|error| damaged(&error))
    })?;
    let checkpointer = Arc::new(Checkpointer::default());
    let log = StorageLog::<C, S>::new(Arc::clone(&storage), Arc::clone(&checkpointer));
    let manager = restore.open(version, Box::new(log));
    checkpointer.start(manager.downgrade(), Arc::clone(&storage));
    if storage.is_checkpoint_due() {
        checkpointer.order();
    }
    let checkpoint =
        Box::new(move |manager: &TransactionManager<C>| storage.checkpoint(&mut DatabaseSnapshot::take(manager)));
    Ok(StoredDatabase { manager, checkpoint })
}
