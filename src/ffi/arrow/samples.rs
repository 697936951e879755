//! Batches as C has them, for the tests.

use super::raw::{ArrowArray, ArrowSchema};
pub(super) use crate::samples::{batch_of, columns, small};
use arrow_array::{Array, RecordBatch, StructArray};
use arrow_data::ffi::FFI_ArrowArray;
use arrow_schema::ffi::FFI_ArrowSchema;
use std::mem::transmute;

/// The batch as a foreign producer would give it.
pub(super) fn foreign(batch: &RecordBatch) -> (ArrowArray, ArrowSchema) {
    let array = FFI_ArrowArray::new(&StructArray::from(batch.clone()).to_data());
    let schema = FFI_ArrowSchema::try_from(batch.schema().as_ref()).unwrap();
    // SAFETY: the structs have the same layout, see `raw`.
    unsafe { (transmute::<FFI_ArrowArray, ArrowArray>(array), transmute::<FFI_ArrowSchema, ArrowSchema>(schema)) }
}
