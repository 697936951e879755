//! Concatenation of batches, by arrow-select.

use super::batch::Batch;
use super::catch;
use super::convert::describe;
use crate::ffi::error::Failure;
use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use arrow_select::concat::concat_batches;

/// One batch with the rows of all, in order; a single batch is not copied.
///
/// INVALID_ARGUMENT when there is none, or when the values of one are not valid; SCHEMA_MISMATCH when
/// schemas differ; LIMIT_EXCEEDED when one batch cannot hold the rows (32-bit offsets, dictionary
/// keys).
pub fn concat(batches: &[Batch]) -> Result<Batch, Failure> {
    let [first, rest @ ..] = batches else {
        return Err(Failure::invalid_argument("there is no batch to concatenate"));
    };
    if rest.is_empty() {
        return Ok(first.clone());
    }
    let schema = first.schema();
    if let Some(other) = rest.iter().find(|batch| batch.schema() != schema) {
        return Err(Failure::schema_mismatch(format!(
            "batches of {} and {} cannot be concatenated",
            describe(schema.arrow()),
            describe(other.schema().arrow()),
        )));
    }
    let parts = batches.iter().map(Batch::to_record_batch).collect::<Result<Vec<RecordBatch>, Failure>>()?;
    let whole = concat_record_batches(schema.arrow(), &parts)?;
    Batch::from_record_batch(&whole, schema)
}

pub(super) fn concat_record_batches(
    schema: &arrow_schema::SchemaRef,
    parts: &[RecordBatch],
) -> Result<RecordBatch, Failure> {
    let refuse = |reason: String| format!("the batches cannot be concatenated: {reason}");
    match catch(|| concat_batches(schema, parts)) {
        Ok(Ok(whole)) => Ok(whole),
        Ok(Err(
            error @ (ArrowError::DictionaryKeyOverflowError
            | ArrowError::OffsetOverflowError(_)
            | ArrowError::RunEndIndexOverflowError
            | ArrowError::MemoryError(_)),
        )) => Err(Failure::limit_exceeded(refuse(error.to_string()))),
        Ok(Err(error)) => Err(Failure::invalid_argument(refuse(error.to_string()))),
        // The parts are valid: arrow-select panics when something overflows.
        Err(panic) => Err(Failure::limit_exceeded(refuse(panic))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SchemaRef, samples};
    use super::*;

    fn batches(name: &str, sizes: &[usize]) -> Vec<(Batch, RecordBatch)> {
        sizes
            .iter()
            .map(|rows| {
                let column = samples::columns(*rows).into_iter().find(|(candidate, _)| candidate == name).unwrap();
                let batch = samples::batch_of(vec![column]);
                let schema = SchemaRef::from_arrow(&batch.schema()).unwrap();
                (Batch::from_record_batch(&batch, &schema).unwrap(), batch)
            })
            .collect()
    }

    #[test]
    fn every_type_is_concatenated_row_by_row() {
        for (name, _) in samples::columns(1) {
            let parts = batches(&name, &[3, 1, 0, 300, 7]);
            let input: Vec<Batch> = parts.iter().map(|(batch, _)| batch.clone()).collect();
            let whole = concat(&input).unwrap().to_record_batch().unwrap();
            assert_eq!(whole.num_rows(), 311, "{name}");
            let mut start = 0;
            for (_, part) in &parts {
                let slice = whole.slice(start, part.num_rows());
                for row in 0..part.num_rows() {
                    assert_eq!(slice.column(0).slice(row, 1).as_ref(), part.column(0).slice(row, 1).as_ref(), "{name}");
                }
                start += part.num_rows();
            }
        }
    }

    #[test]
    fn one_batch_is_not_copied_and_none_is_refused() {
        let parts = batches("int64", &[5]);
        let whole = concat(&[parts[0].0.clone()]).unwrap();
        assert!(whole.is_same_object(&parts[0].0));
        let failure = concat(&[]).unwrap_err();
        assert_eq!(failure.status, Failure::invalid_argument("").status);
    }

    #[test]
    fn other_schemas_are_refused() {
        let (left, right) = (batches("int64", &[2]), batches("utf8", &[2]));
        let failure = concat(&[left[0].0.clone(), right[0].0.clone()]).unwrap_err();
        assert_eq!(failure.status, Failure::schema_mismatch("").status);
        assert!(failure.message.contains("int64: Int64"), "{}", failure.message);
    }

    #[test]
    fn dictionaries_that_outgrow_their_keys_are_refused() {
        use arrow_array::types::Int8Type;
        use arrow_array::{ArrayRef, DictionaryArray};
        use std::sync::Arc;
        let part = |from: usize| {
            let names: Vec<String> = (from..from + 100).map(|row| format!("v{row}")).collect();
            let array: DictionaryArray<Int8Type> = names.iter().map(|name| Some(name.as_str())).collect();
            let batch = samples::batch_of(vec![("d".to_string(), Arc::new(array) as ArrayRef)]);
            let schema = SchemaRef::from_arrow(&batch.schema()).unwrap();
            Batch::from_record_batch(&batch, &schema).unwrap()
        };
        let failure = concat(&[part(0), part(100)]).unwrap_err();
        assert_eq!(failure.status, Failure::limit_exceeded("").status, "{failure:?}");
    }

    #[test]
    fn batches_of_no_columns_add_up() {
        let schema = std::sync::Arc::new(arrow_schema::Schema::empty());
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(4));
        let part = RecordBatch::try_new_with_options(schema.clone(), vec![], &options).unwrap();
        let schema = SchemaRef::from_arrow(&schema).unwrap();
        let part = Batch::from_record_batch(&part, &schema).unwrap();
        assert_eq!(concat(&[part.clone(), part]).unwrap().rows(), 8);
    }
}
