//! Chunks that can be stored.

use std::sync::Arc;

use arrow_array::types::ArrowDictionaryKeyType;
use arrow_array::{
    Array, ArrayRef, BinaryViewArray, DictionaryArray, PrimitiveArray, RecordBatch, RecordBatchOptions,
    StringViewArray, UInt64Array, downcast_dictionary_array,
};
use arrow_buffer::{ArrowNativeType, Buffer};
use arrow_data::ArrayData;
use arrow_data::transform::MutableArrayData;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use arrow_select::take::take;

use crate::stm::{Chunk, Error};

/// Whether two schemas are the same in all that is stored. arrow-rs takes them for equal, too, when they differ in
/// whether a dictionary is ordered.
pub(crate) fn same_schema(one: &SchemaRef, other: &SchemaRef) -> bool {
    let orders =
        |schema: &Schema| -> Vec<_> { schema.flattened_fields().into_iter().map(Field::dict_is_ordered).collect() };
    Arc::ptr_eq(one, other) || (one == other && orders(one) == orders(other))
}

/// Whether a part of an array has, as all the tools of arrow-rs see it, everything that the whole one points to.
fn has_views(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8View | DataType::BinaryView | DataType::ListView(_) | DataType::LargeListView(_) => true,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _)
        | DataType::RunEndEncoded(_, field) => has_views(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_views(field.data_type())),
        DataType::Union(fields, _) => fields.iter().any(|(_, field)| has_views(field.data_type())),
        DataType::Dictionary(_, values) => has_views(values),
        _ => false,
    }
}

fn batch_has_views(batch: &RecordBatch) -> bool {
    batch.schema_ref().fields().iter().any(|field| has_views(field.data_type()))
}

/// The batch as it is to be written: with nothing that none of its values points to. Views would have all that was once
/// beside them written again with each.
///
/// # Errors
/// Those of [`compact`].
pub(super) fn without_unused(batch: RecordBatch) -> Result<RecordBatch, Error> {
    if !batch_has_views(&batch) {
        return Ok(batch);
    }
    Ok(compact(&batch)?.unwrap_or(batch))
}

fn has_dictionaries(data: &ArrayData) -> bool {
    matches!(data.data_type(), DataType::Dictionary(..)) || data.child_data().iter().any(has_dictionaries)
}

/// The batch in memory of its own, unless it has most of the memory that it keeps. One with views or dictionaries is
/// always copied, as it is not known how much of that memory they use: a dictionary that was written with other values
/// has theirs, too.
///
/// # Errors
/// [`Error::Corruption`] for values that are not what their type says.
pub(crate) fn compact(batch: &RecordBatch) -> Result<Option<RecordBatch>, Error> {
    // What is read together is in one allocation: the largest buffer says how much.
    let (mut used, mut kept, mut unknown) = (0, 0, batch_has_views(batch));
    for column in batch.columns() {
        let data = column.to_data();
        used += data.get_slice_memory_size().unwrap_or(0);
        kept = kept.max(largest_buffer(&data));
        unknown |= has_dictionaries(&data);
    }
    if kept <= 2 * used + 1024 && !unknown {
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
    collected(copied.freeze()).map(arrow_array::make_array)
}

/// The same without what no view points to, and no key of a dictionary.
fn collected(data: ArrayData) -> Result<ArrayData, ArrowError> {
    match data.data_type() {
        DataType::Utf8View => Ok(StringViewArray::from(data).gc().into_data()),
        DataType::BinaryView => Ok(BinaryViewArray::from(data).gc().into_data()),
        DataType::Dictionary(..) => {
            let array = arrow_array::make_array(data);
            let array: &dyn Array = &array;
            downcast_dictionary_array!(
                array => without_unused_words(array),
                _ => Ok(array.to_data()),
            )
        }
        _ if data.child_data().is_empty() => Ok(data),
        _ if has_views(data.data_type()) || has_dictionaries(&data) => {
            let children = data.child_data().iter().cloned().map(collected).collect::<Result<_, _>>()?;
            data.into_builder().child_data(children).build()
        }
        _ => Ok(data),
    }
}

/// A dictionary without the words that no key names, unless these are few.
fn without_unused_words<K: ArrowDictionaryKeyType>(array: &DictionaryArray<K>) -> Result<ArrayData, ArrowError> {
    let mut words: Vec<u64> = array.keys_iter().flatten().map(|word| word as u64).collect();
    words.sort_unstable();
    words.dedup();
    if array.values().len() <= 2 * words.len() + 16 {
        return Ok(array.to_data());
    }
    let place = |word: usize| words.binary_search(&(word as u64)).ok().and_then(K::Native::from_usize);
    let keys: PrimitiveArray<K> = array.keys_iter().map(|word| word.and_then(place)).collect();
    let values = collected(take(array.values(), &UInt64Array::from(words), None)?.to_data())?;
    Ok(DictionaryArray::try_new(keys, arrow_array::make_array(values))?.into_data())
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
