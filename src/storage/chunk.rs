//! Chunks that can be stored.

use arrow_array::RecordBatch;

use crate::stm::{Chunk, Error};

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
}

impl ArrowChunk for RecordBatch {
    fn to_record_batch(&self) -> Result<RecordBatch, Error> {
        Ok(self.clone())
    }

    fn importer() -> impl FnMut(RecordBatch) -> Result<Self, Error> {
        Ok
    }
}
