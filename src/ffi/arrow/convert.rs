//! Batches to and from arrow-rs arrays, for the kernels and for the Rust API.

use super::batch::Batch;
use super::catch;
use super::import::pack_plain_arrays;
use super::raw::ArrowArray;
use super::schema::SchemaRef;
use crate::ffi::error::Failure;
use arrow_array::ffi::from_ffi_and_data_type;
use arrow_array::{Array, RecordBatch, RecordBatchOptions, StructArray};
use arrow_data::ffi::FFI_ArrowArray;
use arrow_schema::{ArrowError, DataType};
use std::mem::transmute;

impl Batch {
    /// The batch as arrow-rs has it, without a copy; its values are validated once.
    /// INVALID_ARGUMENT when they are not valid.
    pub fn to_record_batch(&self) -> Result<RecordBatch, Failure> {
        // SAFETY: the two structs have the same layout (see `raw`); ownership moves along.
        let array = unsafe { transmute::<ArrowArray, FFI_ArrowArray>(self.export()) };
        let schema = self.schema().arrow();
        let convert = || -> Result<RecordBatch, ArrowError> {
            let data_type = DataType::Struct(schema.fields().clone());
            // SAFETY: the array has the shape of its schema and its bounds were checked on import.
            let data = unsafe { from_ffi_and_data_type(array, data_type) }?;
            if !self.is_validated() {
                data.validate_full()?;
            }
            let rows = data.len();
            let (_, columns, _) = StructArray::from(data).into_parts();
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        };
        let refuse = |reason: String| Failure::invalid_argument(format!("array: {reason}"));
        let converted = catch(convert).map_err(refuse)?.map_err(|error| refuse(error.to_string()))?;
        self.set_validated();
        Ok(converted)
    }

    /// Checks the values, once for all clones of the batch. INVALID_ARGUMENT when they are not valid.
    pub fn validate(&self) -> Result<(), Failure> {
        if self.is_validated() {
            return Ok(());
        }
        self.to_record_batch().map(drop)
    }

    /// A batch of `schema` from arrow-rs; small ones are copied, larger ones are not.
    /// SCHEMA_MISMATCH when the columns are of other types.
    pub fn from_record_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<Batch, Failure> {
        let imported = Batch::convert(batch, schema)?;
        // arrow-rs upholds for its own arrays what the validation checks.
        imported.set_validated();
        Ok(imported)
    }

    /// As [`Batch::from_record_batch`], but the values are validated: they come from a file.
    pub(super) fn from_untrusted(batch: &RecordBatch, schema: &SchemaRef) -> Result<Batch, Failure> {
        let imported = Batch::convert(batch, schema)?;
        imported.validate()?;
        Ok(imported)
    }

    fn convert(batch: &RecordBatch, schema: &SchemaRef) -> Result<Batch, Failure> {
        if batch.schema_ref().fields() != schema.arrow().fields() {
            return Err(Failure::schema_mismatch(format!(
                "the batch has the fields {}, not {}",
                describe(batch.schema_ref()),
                describe(schema.arrow()),
            )));
        }
        let plain = schema.layout().plain();
        if let Some(packed) = plain.and_then(|layout| pack_plain_arrays(batch, schema, layout)) {
            return Ok(packed);
        }
        let exported = catch(|| FFI_ArrowArray::new(&StructArray::from(batch.clone()).to_data()))
            .map_err(|panic| Failure::invalid_argument(format!("array: {panic}")))?;
        // SAFETY: the two structs have the same layout (see `raw`); ownership moves along.
        let mut array = unsafe { transmute::<FFI_ArrowArray, ArrowArray>(exported) };
        Batch::from_c(&mut array, schema, false)
    }
}

/// The fields' names and types, for messages.
pub(super) fn describe(schema: &arrow_schema::Schema) -> String {
    let mut text = String::from("{");
    for (position, field) in schema.fields().iter().enumerate() {
        if position > 0 {
            text.push_str(", ");
        }
        text.push_str(&format!("{}: {}", field.name(), field.data_type()));
        if !field.is_nullable() {
            text.push_str(" not null");
        }
    }
    text.push('}');
    text
}
