//! Between khonsu's Arrow structs and arrow-rs.

use std::sync::Arc;

use arrow_array::{Array, RecordBatch, RecordBatchReader, StructArray};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use khonsu::ffi::arrow::{ArrowArray, ArrowArrayStream, ArrowSchema};

/// The same memory as another type of the same layout.
fn as_c<T, U>(value: T) -> U {
    const { assert!(size_of::<T>() == size_of::<U>() && align_of::<T>() == align_of::<U>()) };
    let value = std::mem::ManuallyDrop::new(value);
    // SAFETY: used for arrow-rs's declarations of the Arrow structs, which have the layout of khonsu's.
    unsafe { std::ptr::from_ref(&value).cast::<U>().read() }
}

pub fn c_array(batch: &RecordBatch) -> ArrowArray {
    as_c(arrow_data::ffi::FFI_ArrowArray::new(&StructArray::from(batch.clone()).to_data()))
}

pub fn c_schema(schema: &Schema) -> ArrowSchema {
    as_c(arrow_schema::ffi::FFI_ArrowSchema::try_from(schema).expect("the schema has a C form"))
}

pub fn c_stream(batches: Vec<Result<RecordBatch, ArrowError>>, schema: SchemaRef) -> ArrowArrayStream {
    let batches = arrow_array::RecordBatchIterator::new(batches, schema);
    as_c(arrow_array::ffi_stream::FFI_ArrowArrayStream::new(Box::new(batches)))
}

/// The schema as arrow-rs reads it.
pub fn rust_schema(schema: ArrowSchema) -> Result<Schema, ArrowError> {
    let schema: arrow_schema::ffi::FFI_ArrowSchema = as_c(schema);
    Schema::try_from(&schema)
}

/// The batch as arrow-rs reads it; an error when its values do not hold what its schema says.
pub fn try_rust_batch(array: ArrowArray, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let data_type = arrow_schema::DataType::Struct(schema.fields().clone());
    // SAFETY: the array was exported with this schema.
    let data = unsafe { arrow_array::ffi::from_ffi_and_data_type(as_c(array), data_type) }?;
    data.validate_full()?;
    let rows = data.len();
    let (_, columns, _) = StructArray::from(data).into_parts();
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

pub fn rust_batch(array: ArrowArray, schema: ArrowSchema) -> RecordBatch {
    let schema = Arc::new(rust_schema(schema).expect("khonsu exports a good schema"));
    try_rust_batch(array, &schema).expect("khonsu exports a good array")
}

/// Reads a stream to its end.
pub fn rust_batches(stream: ArrowArrayStream) -> (SchemaRef, Vec<RecordBatch>) {
    let reader = arrow_array::ffi_stream::RecordBatchStreamReader::try_new(as_c(stream)).expect("the stream opens");
    let schema = reader.schema();
    let batches = reader.map(|batch| batch.expect("the stream goes to its end")).collect();
    (schema, batches)
}
