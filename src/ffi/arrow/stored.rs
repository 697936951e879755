//! Batches as storages know them.

use super::batch::Batch;
use super::schema::SchemaRef;
use crate::ffi::error::Failure;
use crate::stm::Error;
use crate::storage::{ArrowChunk, compact, same_schema};
use arrow_array::RecordBatch;

fn damaged(failure: Failure) -> Error {
    Error::Corruption(failure.text().into_owned())
}

fn import(batch: &RecordBatch, schema: &SchemaRef) -> Result<Batch, Error> {
    let imported = Batch::from_record_batch(batch, schema).map_err(damaged)?;
    if imported.is_packed() {
        return Ok(imported);
    }
    // It keeps the arrays, which may be a small part of what was read with them.
    match compact(batch)? {
        Some(alone) => Batch::from_record_batch(&alone, schema).map_err(damaged),
        None => Ok(imported),
    }
}

impl ArrowChunk for Batch {
    fn to_record_batch(&self) -> Result<RecordBatch, Error> {
        Ok(Batch::to_record_batch(self)?)
    }

    fn importer() -> impl FnMut(RecordBatch) -> Result<Batch, Error> {
        let mut last: Option<SchemaRef> = None;
        move |batch| {
            let found = batch.schema_ref();
            // The same object mostly, as a file has one schema for all its batches; else an equal one often.
            let known = last.take().filter(|last| same_schema(last.arrow(), found));
            let schema = match known {
                Some(schema) => schema,
                None => SchemaRef::from_arrow_ref(found).map_err(damaged)?,
            };
            let imported = import(&batch, &schema);
            last = Some(schema);
            imported
        }
    }

    fn import_alike(&self, batch: RecordBatch) -> Result<Batch, Error> {
        import(&batch, self.schema())
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use crate::stm::Chunk;
    use arrow_array::{ArrayRef, StringViewArray};
    use std::sync::Arc;

    #[test]
    fn every_type_comes_back_with_its_schema() {
        let mut import = <Batch as ArrowChunk>::importer();
        for (name, column) in samples::columns(40) {
            let batch = samples::batch_of(vec![(name, column)]);
            let stored = import(batch.clone()).unwrap();
            assert_eq!(ArrowChunk::to_record_batch(&stored).unwrap(), batch);
        }
    }

    #[test]
    fn parts_of_views_keep_what_they_point_to_and_no_more() {
        let texts: Vec<_> = (0..2000).map(|row| format!("{row:0100}")).collect();
        let column: ArrayRef = Arc::new(StringViewArray::from_iter_values(&texts));
        let whole = samples::batch_of(vec![("text".to_owned(), column)]);
        let mut import = <Batch as ArrowChunk>::importer();
        for row in [0, 7, 1999] {
            let part = import(whole.slice(row, 1)).unwrap();
            assert!(Chunk::bytes(&part) < 2000, "{} bytes", Chunk::bytes(&part));
            assert_eq!(ArrowChunk::to_record_batch(&part).unwrap(), whole.slice(row, 1));
            let alike = part.import_alike(whole.slice(row, 1)).unwrap();
            assert_eq!(Chunk::bytes(&alike), Chunk::bytes(&part));
        }
    }

    #[test]
    fn batches_of_one_schema_share_it() {
        let mut import = <Batch as ArrowChunk>::importer();
        let (first, equal) = (samples::small(), samples::small());
        assert!(!Arc::ptr_eq(first.schema_ref(), equal.schema_ref()));
        let imported = import(first.clone()).unwrap();
        for batch in [first, equal] {
            assert!(import(batch).unwrap().schema().is_same_object(imported.schema()));
        }
        let other = import(samples::batch_of(samples::columns(2))).unwrap();
        assert!(!other.schema().is_same_object(imported.schema()));
    }
}
