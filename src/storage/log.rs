//! A storage as the log of a database.

use std::sync::Arc;

use super::checkpointer::Checkpointer;
use super::{ApplyError, ArrowChunk, Change, Commit, Mutation, Storage, without_unused};
use crate::stm::{self, AppendError, CommitLog, Durability, Error, LoggedCommit, MemoryBudget, Note, Prepared, Value};

/// Hands the commits of a database to a storage, as Arrow batches.
pub(super) struct StorageLog<C, S: Storage> {
    storage: Arc<S>,
    checkpointer: Arc<Checkpointer>,
    budget: Option<Arc<MemoryBudget<C>>>,
}

impl<C, S: Storage> StorageLog<C, S> {
    pub fn new(storage: Arc<S>, checkpointer: Arc<Checkpointer>, budget: Option<Arc<MemoryBudget<C>>>) -> Self {
        StorageLog { storage, checkpointer, budget }
    }

    /// What the storage has made of mutations.
    fn made_here<'p>(&self, prepared: &'p Prepared) -> Result<&'p S::Prepared, AppendError> {
        prepared.downcast_ref().ok_or_else(|| {
            let cause = Error::Storage("the mutations were prepared for another storage".to_owned());
            AppendError { written: 0, cause }
        })
    }
}

fn batches<C: ArrowChunk>(value: &Value<C>) -> Result<Vec<arrow_array::RecordBatch>, Error> {
    value.chunks().iter().map(|chunk| without_unused(chunk.to_record_batch()?)).collect()
}

impl<C: ArrowChunk, S: Storage> CommitLog<C> for StorageLog<C, S> {
    fn prepare(&self, mutations: &[stm::Mutation<'_, C>]) -> Result<Prepared, Error> {
        let converted = mutations.iter().map(|mutation| {
            let change = match mutation.change {
                stm::Change::Put(value) => Change::Put(batches(value)?),
                stm::Change::Append(rows) => Change::Append(batches(rows)?),
                stm::Change::Delete => Change::Delete,
            };
            Ok(Mutation { key: mutation.key.to_vec(), change })
        });
        let prepared = self.storage.prepare(converted.collect::<Result<_, Error>>()?)?;
        Ok(Arc::new(prepared))
    }

    fn append(&self, commits: &[LoggedCommit<'_>], durability: Durability) -> Result<(), AppendError> {
        let mut prepared = Vec::with_capacity(commits.len());
        for commit in commits {
            let made = self.made_here(commit.prepared)?;
            prepared.push(Commit { version: commit.version, prepared: made, decides: commit.decides });
        }
        let applied = self.storage.apply(&prepared, durability);
        // Values that are in no checkpoint cannot leave the memory.
        if self.storage.is_checkpoint_due() || self.budget.as_ref().is_some_and(|budget| budget.needs_checkpoint()) {
            self.checkpointer.order();
        }
        applied.map_err(|ApplyError { applied, cause }| AppendError { written: applied, cause })
    }

    fn keeps_prepared(&self) -> bool {
        self.storage.keeps_prepared()
    }

    fn note(&self, notes: &[Note<'_, Prepared>], durability: Durability) -> Result<(), AppendError> {
        let notes = notes.iter().map(|note| {
            Ok(match *note {
                Note::Prepared { id, time_micros, mutations, held } => {
                    Note::Prepared { id, time_micros, mutations: self.made_here(mutations)?, held }
                }
                Note::Decided(decided) => Note::Decided(decided),
                Note::Forgotten { id } => Note::Forgotten { id },
            })
        });
        let noted = self.storage.note(&notes.collect::<Result<Vec<_>, AppendError>>()?, durability);
        if self.storage.is_checkpoint_due() {
            self.checkpointer.order();
        }
        noted.map_err(|ApplyError { applied, cause }| AppendError { written: applied, cause })
    }

    fn sync(&self) -> Result<(), Error> {
        self.storage.sync()
    }

    fn close(&self) {
        self.checkpointer.stop();
        _ = self.storage.close();
    }
}
