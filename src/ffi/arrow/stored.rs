//! Batches to and from a storage, which knows them as arrow-rs has them.

use super::batch::Batch;
use super::schema::SchemaRef;
use crate::stm::Error;
use crate::storage::ArrowChunk;
use arrow_array::RecordBatch;
use std::sync::Arc;

impl ArrowChunk for Batch {
    fn to_record_batch(&self) -> Result<RecordBatch, Error> {
        Batch::to_record_batch(self).map_err(|failure| Error::InvalidArgument(failure.message))
    }

    fn importer() -> impl FnMut(RecordBatch) -> Result<Self, Error> {
        let mut last: Option<(arrow_schema::SchemaRef, SchemaRef)> = None;
        move |batch| {
            let known = last
                .as_ref()
                .filter(|(arrow, _)| Arc::ptr_eq(arrow, batch.schema_ref()) || arrow == batch.schema_ref());
            let schema = match known {
                Some((_, schema)) => schema.clone(),
                None => {
                    let made = SchemaRef::from_arrow_ref(batch.schema_ref());
                    let schema = made.map_err(|failure| Error::Corruption(failure.message))?;
                    last = Some((batch.schema(), schema.clone()));
                    schema
                }
            };
            Batch::from_record_batch(&batch, &schema).map_err(|failure| Error::Corruption(failure.message))
        }
    }
}
