//! Chunks that can be stored.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_buffer::Buffer;
use arrow_data::ArrayData;
use arrow_data::transform::MutableArrayData;
use arrow_schema::{ArrowError, Field, Schema, SchemaRef};

use crate::stm::{Chunk, Error};

/// Whether two schemas are the same in all that is stored. arrow-rs takes them for equal, too, when they differ in
/// whether a dictionary is ordered.
pub(crate) fn same_schema(one: &SchemaRef, other: &SchemaRef) -> bool {
    let orders =
        |schema: &Schema| -> Vec<_> { schema.flattened_fields().into_iter().map(Field::dict_is_ordered).collect() };
    Arc::ptr_eq(one, other) || (one == other && orders(one) == orders(other))
}

/// The batch in memory of its own, unless it has most of the memory that it keeps.
///
/// # Errors
/// [`Error::Corruption`] for values that are not what their type says.
pub(crate) fn compact(batch: &RecordBatch) -> Result<Option<RecordBatch>, Error> {
    // What is read together is in one allocation: the largest buffer says how much.
    let (mut used, mut kept) = (0, 0);
    for column in batch.columns() {
        let data = column.to_data();
        used += data.get_slice_memory_size().unwrap_or(0);
        kept = kept.max(largest_buffer(&data));
    }
    if kept <= 2 * used + 1024 {
        return Ok(None);
    }
    let columns = batch.columns().iter().map(copy).collect::<Result<_, _>>();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    columns
        .and_then(|columns| RecordBatch::try_new_with_options(batch.schema(), columns, &options))
        .map(Some)
        .map_err(|cause| Error::Corruption(format!("a stored value is damaged: {cause}")))
}

fn largest_buffer(data: &ArrayData) -> usize {
    let own = data.buffers().iter().map(Buffer::capacity).max().unwrap_or(0);
    data.child_data().iter().map(largest_buffer).fold(own, usize::max)
}

fn copy(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let data = array.to_data();
    let mut copied = MutableArrayData::new(vec![&data], false, data.len());
    copied.try_extend(0, 0, data.len())?;
    Ok(arrow_array::make_array(copied.freeze()))
}

/// A chunk with a form as arrow-rs arrays, which is the one that storages know.
pub trait ArrowChunk: Chunk {
    /// The chunk as a batch.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for values that are not what their type says.
    fn to_record_batch(&self) -> Result<RecordBatch, Error>;

    /// Makes chunks of batches; it may keep what it has made of the last schema. Where a batch is a part of a much larger
    /// one, the chunk does not keep that.
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
        |batch| Ok(compact(&batch)?.unwrap_or(batch))
    }

    fn import_alike(&self, batch: RecordBatch) -> Result<Self, Error> {
        Ok(compact(&batch)?.unwrap_or(batch))
    }
}
