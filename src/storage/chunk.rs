//! Chunks that can be stored.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Field, Schema, SchemaRef};

use crate::stm::{Chunk, Error};

/// Whether two schemas are the same in all that is stored. arrow-rs takes them for equal, too, when they differ in
/// whether a dictionary is ordered.
pub(crate) fn same_schema(one: &SchemaRef, other: &SchemaRef) -> bool {
    let orders =
        |schema: &Schema| -> Vec<_> { schema.flattened_fields().into_iter().map(Field::dict_is_ordered).collect() };
    Arc::ptr_eq(one, other) || (one == other && orders(one) == orders(other))
}

/// A chunk with a form as arrow-rs arrays, which is the one that storages know.
pub trait ArrowChunk: Chunk {
    /// The chunk as a batch.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for values that are not what their type says.
    fn to_record_batch(&self) -> Result<RecordBatch, Error>;

    /// Makes chunks of batches; it may keep what it has made of the last schema.
    ///
    /// # Errors
    /// Of what it gives: [`Error::Corruption`] for a batch that cannot be a chunk.
    fn importer() -> impl FnMut(RecordBatch) -> Result<Self, Error>;

    /// Makes a chunk of a batch that has the schema of this one.
    ///
    /// # Errors
    /// Those of what [`importer`](ArrowChunk::importer) gives.
    fn import_alike(&self, batch: RecordBatch) -> Result<Self, Error>;
}

impl ArrowChunk for RecordBatch {
    fn to_record_batch(&self) -> Result<RecordBatch, Error> {
        Ok(self.clone())
    }

    fn importer() -> impl FnMut(RecordBatch) -> Result<Self, Error> {
        Ok
    }

    fn import_alike(&self, batch: RecordBatch) -> Result<Self, Error> {
        Ok(batch)
    }
}
