//! Values that are in storage and not in memory.

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::ArrowChunk;
use crate::stm::{self, Error, Position, ValueSource};

/// Values of one schema in storage. They stay readable as long as this is there, also when the storage does not need
/// them any more.
pub trait ValueFile: Send + Sync + 'static {
    /// Their schema.
    fn schema(&self) -> SchemaRef;

    /// The rows of a value: one chunk where that is possible.
    ///
    /// # Errors
    /// [`Error::Storage`] and [`Error::Corruption`], with the place.
    fn read(&self, position: Position) -> Result<Vec<RecordBatch>, Error>;
}

/// Where a value can be read.
#[derive(Clone)]
pub struct Place {
    /// In what.
    pub file: Arc<dyn ValueFile>,
    /// And where there.
    pub position: Position,
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && self.position == other.position
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.position.fmt(formatter)
    }
}

/// Rows that are not in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Cold {
    /// Where they are.
    pub place: Place,
    /// Bytes that they take in memory, about.
    pub bytes: u64,
}

/// A file of values as the core knows it.
struct Source<C> {
    file: Arc<dyn ValueFile>,
    sample: C,
}

impl<C: ArrowChunk> ValueSource<C> for Source<C> {
    fn read(&self, position: Position) -> Result<Vec<C>, Error> {
        self.file.read(position)?.into_iter().map(|batch| self.sample.import_alike(batch)).collect()
    }

    fn sample(&self) -> &C {
        &self.sample
    }
}

/// Those that were met.
pub(super) struct Sources<C>(Vec<Arc<Source<C>>>);

impl<C: ArrowChunk> Sources<C> {
    pub fn new() -> Self {
        Sources(Vec::new())
    }

    pub fn place(&mut self, place: &Place) -> Result<stm::Place<C>, Error> {
        // The last first: it is that one mostly.
        let known = self.0.iter().rev().find(|source| Arc::ptr_eq(&source.file, &place.file));
        let source = match known {
            Some(source) => Arc::clone(source),
            None => {
                let sample = C::importer()(RecordBatch::new_empty(place.file.schema()))?;
                self.0.push(Arc::new(Source { file: Arc::clone(&place.file), sample }));
                Arc::clone(&self.0[self.0.len() - 1])
            }
        };
        Ok(stm::Place { source, position: place.position })
    }
}
