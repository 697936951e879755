//! A range of entries as one stream of record batches, the key in front.
//!
//! Entries are collected when the stream is made, which only counts references. Batches are made when they are asked
//! for: small values are joined until a batch is full, large ones are sliced.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, RecordBatch, RecordBatchOptions};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::{DataType, Field, Schema};

use crate::stm;

use super::arrow::{self, ArrowArrayStream, Batch, SchemaRef};
use super::error::Failure;
use super::status::khonsu_status;

/// The most rows of a batch.
const MAX_ROWS: usize = 64 * 1024;
/// The most bytes of keys in a batch: far below what the 32-bit offsets of the key column reach.
const MAX_KEY_BYTES: usize = 16 << 20;
/// The most bytes of values that are joined in a batch, for the same reason. A single value may have more.
const MAX_JOINED_BYTES: u64 = 64 << 20;

type Entry = (Vec<u8>, stm::Value<Batch>);

/// Makes the stream. Fails when the schemas of two values differ.
pub(crate) fn export(entries: Vec<Entry>) -> Result<ArrowArrayStream, Failure> {
    let schema = SchemaRef::from_arrow(&with_key(common_schema(&entries)?))?;
    let chunks = entries.into_iter().flat_map(|(key, value)| {
        let key: Arc<[u8]> = key.into();
        value.chunks().into_iter().map(move |batch| Part { key: Arc::clone(&key), batch })
    });
    let batches = Batches { schema: schema.clone(), chunks, next: None, ready: VecDeque::new(), large: None };
    Ok(arrow::export_stream(schema, batches))
}

/// The schema that all values have; None when there are none.
fn common_schema(entries: &[Entry]) -> Result<Option<&SchemaRef>, Failure> {
    let Some(((first, value), others)) = entries.split_first() else { return Ok(None) };
    let schema = value.newest().schema();
    match others.iter().find(|(_, other)| other.newest().schema() != schema) {
        Some((other, _)) => Err(Failure::schema_mismatch(format!(
            "the values of keys \"{}\" and \"{}\" have different schemas",
            first.escape_ascii(),
            other.escape_ascii()
        ))),
        None => Ok(Some(schema)),
    }
}

fn with_key(values: Option<&SchemaRef>) -> Schema {
    let key = Arc::new(Field::new("key", DataType::Binary, false));
    let Some(values) = values.map(SchemaRef::arrow) else { return Schema::new(vec![key]) };
    let fields: Vec<_> = std::iter::once(key).chain(values.fields().iter().cloned()).collect();
    Schema::new_with_metadata(fields, values.metadata().clone())
}

/// One chunk of one value.
struct Part {
    key: Arc<[u8]>,
    batch: Batch,
}

impl Part {
    fn rows(&self) -> usize {
        usize::try_from(self.batch.rows()).unwrap_or(usize::MAX)
    }

    fn key_bytes(&self) -> usize {
        self.rows().saturating_mul(self.key.len())
    }

    /// Rows that fit into a batch with this key.
    fn rows_at_once(&self) -> usize {
        (MAX_KEY_BYTES / self.key.len().max(1)).clamp(1, MAX_ROWS)
    }
}

/// A chunk of more rows than a batch may have, and how many of them are given.
struct Large {
    part: Part,
    rows: RecordBatch,
    given: usize,
}

struct Batches<I> {
    schema: SchemaRef,
    chunks: I,
    /// Taken from `chunks`, but too much for the batch before.
    next: Option<Part>,
    /// Parts that could not be joined, to be given one by one.
    ready: VecDeque<Part>,
    large: Option<Large>,
}

impl<I: Iterator<Item = Part>> Batches<I> {
    /// Parts for one batch, at least one unless all are taken.
    fn gather(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        let (mut rows, mut key_bytes, mut bytes) = (0_usize, 0_usize, 0_u64);
        while let Some(part) = self.next.take().or_else(|| self.chunks.next()) {
            if part.rows() == 0 {
                continue;
            }
            rows = rows.saturating_add(part.rows());
            key_bytes = key_bytes.saturating_add(part.key_bytes());
            bytes = bytes.saturating_add(part.batch.bytes());
            let full = rows > MAX_ROWS || key_bytes > MAX_KEY_BYTES || bytes > MAX_JOINED_BYTES;
            if full && !parts.is_empty() {
                self.next = Some(part);
                break;
            }
            parts.push(part);
            if full {
                break;
            }
        }
        parts
    }

    fn advance(&mut self) -> Result<Option<Batch>, Failure> {
        if let Some(batch) = self.slice()? {
            return Ok(Some(batch));
        }
        if self.ready.is_empty() {
            let parts = self.gather();
            if let [_, _, ..] = parts.as_slice() {
                let batches: Vec<Batch> = parts.iter().map(|part| part.batch.clone()).collect();
                match arrow::concat(&batches) {
                    Ok(joined) => {
                        let runs = parts.iter().map(|part| (&*part.key, part.rows()));
                        return self.finish(runs, &joined.to_record_batch()?).map(Some);
                    }
                    // Dictionaries whose values together are more than their keys can count, for example.
                    Err(failure) if failure.status == khonsu_status::LimitExceeded => {}
                    Err(failure) => return Err(failure),
                }
            }
            self.ready.extend(parts);
        }
        let Some(part) = self.ready.pop_front() else { return Ok(None) };
        let rows = part.batch.to_record_batch()?;
        self.large = Some(Large { part, rows, given: 0 });
        self.slice()
    }

    /// The next rows of the large chunk, if there is one; most are given whole.
    fn slice(&mut self) -> Result<Option<Batch>, Failure> {
        let Some(large) = self.large.take() else { return Ok(None) };
        let left = large.rows.num_rows() - large.given;
        let count = left.min(large.part.rows_at_once());
        let slice = large.rows.slice(large.given, count);
        let batch = self.finish(std::iter::once((&*large.part.key, count)), &slice)?;
        if count < left {
            self.large = Some(Large { given: large.given + count, ..large });
        }
        Ok(Some(batch))
    }

    /// Puts the column of keys, so many rows of each, in front of the columns of `values`.
    fn finish<'k>(
        &self,
        runs: impl Iterator<Item = (&'k [u8], usize)> + Clone,
        values: &RecordBatch,
    ) -> Result<Batch, Failure> {
        let refuse = |error: arrow_schema::ArrowError| Failure::invalid_argument(error.to_string());
        let lengths = runs.clone().flat_map(|(key, rows)| std::iter::repeat_n(key.len(), rows));
        let offsets = OffsetBuffer::from_lengths(lengths);
        let mut bytes: Vec<u8> = Vec::with_capacity(runs.clone().map(|(key, rows)| key.len() * rows).sum());
        runs.for_each(|(key, rows)| bytes.extend(std::iter::repeat_n(key, rows).flatten()));
        let keys = BinaryArray::try_new(offsets, Buffer::from_vec(bytes), None).map_err(refuse)?;
        let columns = std::iter::once(Arc::new(keys) as ArrayRef).chain(values.columns().iter().cloned()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(values.num_rows()));
        let batch =
            RecordBatch::try_new_with_options(Arc::clone(self.schema.arrow()), columns, &options).map_err(refuse)?;
        Batch::from_record_batch(&batch, &self.schema)
    }
}

impl<I: Iterator<Item = Part>> Iterator for Batches<I> {
    type Item = Result<Batch, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
