//! A range of entries as one stream of record batches, the key in front.
//!
//! Entries are collected when the stream is made. Single rows in the plain form go into the first batch at once, up to
//! its size. Of all other entries, and those behind them, the keys are copied and references counted, and batches are
//! made when they are asked for: small values are joined until a batch is full, large ones are sliced.

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, RecordBatch, RecordBatchOptions};
use arrow_buffer::{Buffer, OffsetBuffer};

use crate::stm::{self, Seen, VersionValue};

use super::arrow::{self, ArrowArrayStream, Batch, Key, KeyedRows, Left, Part, SchemaRef};
use super::error::Failure;
use super::status::khonsu_status;

/// The most rows of a batch.
const MAX_ROWS: usize = 64 * 1024;
/// The most bytes of keys in a batch: far below what the 32-bit offsets of the key column reach.
const MAX_KEY_BYTES: usize = 16 << 20;
/// The most bytes of values that are joined in a batch, for the same reason. A single value may have more.
const MAX_JOINED_BYTES: u64 = 64 << 20;
/// The bytes of values that are read from storage before a batch is made of them. A single value may have more.
const MAX_READ_BYTES: u64 = 4 << 20;

/// What a scan finds, chunk by chunk.
pub(crate) struct Entries {
    /// What comes first.
    rows: Option<KeyedRows>,
    filling: Filling,
    /// How many entries are expected.
    expected: usize,
    /// The keys of all others, one behind the other.
    keys: Vec<u8>,
    /// Of a value of several chunks there is only the newest, until they are unfolded.
    parts: Vec<Part>,
    /// The values of several chunks, and which parts stand for them.
    several: Vec<(usize, stm::Value<Batch>)>,
    /// Whether all schemas are one object.
    one_schema: bool,
    /// What comes behind the parts, from the first value on that may be in storage.
    unread: Vec<(Key, VersionValue<Batch>)>,
}

/// Whether entries go to the rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filling {
    Yes,
    /// There are as many as can be.
    Full,
    /// Others have come.
    Over,
}

impl Entries {
    pub(crate) fn new(limit: Option<u64>) -> Self {
        Entries {
            rows: None,
            filling: Filling::Yes,
            expected: limit.map_or(64, |limit| limit.clamp(1, 512) as usize),
            keys: Vec::new(),
            parts: Vec::new(),
            several: Vec::new(),
            one_schema: true,
            unread: Vec::new(),
        }
    }

    /// Adds one entry.
    pub(crate) fn push(&mut self, key: &[u8], value: &VersionValue<Batch>) {
        self.extend(std::iter::once((key, value)));
    }

    /// Puts entries into the rows, up to one that goes elsewhere, and so do all that follow.
    #[inline]
    fn fill<'a, I: Iterator<Item = Seen<'a, Batch>>>(&mut self, mut entries: I) -> Option<(Seen<'a, Batch>, I)> {
        let first = entries.next()?;
        if self.rows.is_none() {
            self.rows = KeyedRows::begin(first.0, first.1, self.expected, MAX_ROWS);
        }
        let (reason, left, behind) = match &mut self.rows {
            Some(rows) => rows.extend(first, entries)?,
            None => (Left::Unfit, first, entries),
        };
        self.end_filling(reason);
        Some((left, behind))
    }

    #[cold]
    #[inline(never)]
    fn end_filling(&mut self, reason: Left) {
        self.filling = if reason == Left::Full { Filling::Full } else { Filling::Over };
        if self.rows.is_none() {
            self.keys.reserve(self.expected * 16);
            self.parts.reserve(self.expected);
        }
    }

    #[inline(never)]
    fn push_part(&mut self, key: &[u8], value: &VersionValue<Batch>) {
        let key = Key::push(key, &mut self.keys);
        let value = match value {
            VersionValue::InMemory(value) if self.unread.is_empty() => value,
            _ => {
                self.unread.push((key, value.clone()));
                return;
            }
        };
        let newest = value.newest();
        let first = self.rows.as_ref().map(KeyedRows::values);
        if let Some(first) = first.or_else(|| self.parts.first().map(|part| part.batch.schema())) {
            self.one_schema &= first.is_same_object(newest.schema());
        }
        if value.single().is_none() {
            self.several.push((self.parts.len(), value.clone()));
        }
        self.parts.push(Part { batch: newest.clone(), key });
    }

    /// Makes the stream. Fails when the schemas of two values differ.
    pub(crate) fn export(mut self) -> Result<ArrowArrayStream, Failure> {
        if self.parts.is_empty()
            && self.unread.is_empty()
            && let Some(rows) = self.rows.take()
        {
            return Ok(arrow::export_one(rows.finish()));
        }
        let batches = self.batches()?;
        Ok(arrow::export_stream(batches.schema.clone(), batches))
    }

    fn batches(mut self) -> Result<Batches, Failure> {
        if self.filling == Filling::Over {
            self.take_rows_apart();
        }
        let values = self.common_schema()?;
        let schema = values.as_ref().map_or_else(SchemaRef::of_key, SchemaRef::with_key)?;
        self.unfold();
        let first = self.rows.map(KeyedRows::finish);
        let (keys, parts, unread) = (self.keys, self.parts.into_iter(), self.unread.into_iter());
        let values = values.unwrap_or_else(|| schema.clone());
        Ok(Batches { values, schema, first, keys, parts, unread, singly: 0, large: None })
    }

    /// Makes parts of the rows, so that they share a batch with what follows.
    fn take_rows_apart(&mut self) {
        let Some(rows) = self.rows.take() else { return };
        let mut parts = Vec::with_capacity(rows.rows() + self.parts.len());
        parts.extend((0..rows.rows()).map(|row| {
            let key = Key::push(rows.key(row), &mut self.keys);
            Part { batch: rows.row(row), key }
        }));
        parts.append(&mut self.parts);
        self.parts = parts;
        self.several.iter_mut().for_each(|(part, _)| *part += rows.rows());
    }

    /// The schema that all values have; None when there are none.
    fn common_schema(&self) -> Result<Option<SchemaRef>, Failure> {
        let (first, schema) = match (&self.rows, self.parts.first(), self.unread.first()) {
            (Some(rows), ..) => (rows.key(0), rows.values().clone()),
            (None, Some(part), _) => (&self.keys[part.key.range()], part.batch.schema().clone()),
            (None, None, Some((key, value))) => (&self.keys[key.range()], value.sample().schema().clone()),
            (None, None, None) => return Ok(None),
        };
        let other = match self.one_schema {
            true => None,
            false => self.parts.iter().find(|part| *part.batch.schema() != schema).map(|part| part.key),
        };
        let unread = || self.unread.iter().find(|(_, value)| *value.sample().schema() != schema).map(|(key, _)| *key);
        match other.or_else(unread) {
            Some(other) => Err(Failure::schema_mismatch(format!(
                "the values of keys \"{}\" and \"{}\" have different schemas",
                first.escape_ascii(),
                self.keys[other.range()].escape_ascii()
            ))),
            None => Ok(Some(schema)),
        }
    }

    /// Puts all chunks into the place of the newest.
    fn unfold(&mut self) {
        if self.several.is_empty() {
            return;
        }
        let count = self.several.iter().map(|(_, value)| value.chunk_count() - 1).sum::<usize>();
        let folded = std::mem::take(&mut self.parts);
        self.parts.reserve_exact(folded.len() + count);
        let mut several = self.several.drain(..).peekable();
        for (index, part) in folded.into_iter().enumerate() {
            match several.next_if(|(folded, _)| *folded == index) {
                Some((_, value)) => {
                    self.parts.extend(value.chunks().into_iter().map(|batch| Part { batch, key: part.key }));
                }
                None => self.parts.push(part),
            }
        }
    }
}

impl<'a> Extend<Seen<'a, Batch>> for Entries {
    /// It is short, for the core visits entries in a time in which nothing is freed.
    #[inline]
    fn extend<I: IntoIterator<Item = Seen<'a, Batch>>>(&mut self, entries: I) {
        let entries = entries.into_iter();
        if self.filling != Filling::Yes {
            entries.for_each(|(key, value)| self.push_part(key, value));
        } else if let Some((left, behind)) = self.fill(entries) {
            std::iter::once(left).chain(behind).for_each(|(key, value)| self.push_part(key, value));
        }
    }
}

/// A chunk of more rows than a batch may have, and how many of them are given.
struct Large {
    key: Key,
    rows: RecordBatch,
    given: usize,
}

/// The next parts that go into one batch.
#[derive(Clone, Copy)]
struct Run {
    /// Parts without rows included.
    count: usize,
    rows: usize,
    /// Whether all are plain, and one batch can hold them.
    plain: bool,
}

struct Batches {
    /// That of the batches.
    schema: SchemaRef,
    /// That of the values, without the key.
    values: SchemaRef,
    /// What comes before the parts.
    first: Option<Batch>,
    keys: Vec<u8>,
    parts: std::vec::IntoIter<Part>,
    unread: std::vec::IntoIter<(Key, VersionValue<Batch>)>,
    /// How many of the next parts could not be joined, and are given one by one.
    singly: usize,
    large: Option<Large>,
}

impl Batches {
    /// Parts for one batch, at least one unless all are taken.
    fn gather(&self) -> Run {
        let mut run = Run { count: 0, rows: 0, plain: true };
        let (mut key_bytes, mut bytes) = (0_usize, 0_u64);
        for part in self.parts.as_slice() {
            let part_rows = part.rows();
            if part_rows > 0 {
                let rows = run.rows.saturating_add(part_rows);
                key_bytes = key_bytes.saturating_add(part_rows.saturating_mul(part.key.len()));
                bytes = bytes.saturating_add(part.batch.bytes());
                let full = rows > MAX_ROWS || key_bytes > MAX_KEY_BYTES || bytes > MAX_JOINED_BYTES;
                if full && run.rows > 0 {
                    break;
                }
                run.rows = rows;
                run.plain &= !full;
            }
            run.plain &= part.batch.is_plain();
            run.count += 1;
        }
        run
    }

    /// The rows of a run as one batch; None when they must be given one by one.
    fn join(&self, run: Run) -> Result<Option<Batch>, Failure> {
        let parts = &self.parts.as_slice()[..run.count];
        if run.plain {
            // SAFETY: all are plain; their schemas are equal to the common one; keys and bytes are within the limits
            // on a batch.
            return Ok(Some(unsafe { arrow::join_plain(&self.values, &self.schema, &self.keys, parts) }));
        }
        self.join_any(parts)
    }

    /// The same for parts of every form.
    fn join_any(&self, parts: &[Part]) -> Result<Option<Batch>, Failure> {
        let parts = parts.iter().filter(|part| part.rows() > 0);
        let batches: Vec<Batch> = parts.clone().map(|part| part.batch.clone()).collect();
        if batches.len() < 2 {
            return Ok(None);
        }
        match arrow::concat(&batches) {
            Ok(joined) => self.finish(parts.map(|part| (part.key, part.rows())), &joined.to_record_batch()?).map(Some),
            // Dictionaries whose values together are more than their keys can count, for example.
            Err(failure) if failure.status == khonsu_status::LimitExceeded => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn advance(&mut self) -> Result<Option<Batch>, Failure> {
        if let Some(batch) = self.first.take() {
            return Ok(Some(batch));
        }
        if let Some(batch) = self.slice()? {
            return Ok(Some(batch));
        }
        loop {
            if self.singly == 0 {
                let run = self.gather();
                if run.rows == 0 {
                    if self.read_on()? {
                        continue;
                    }
                    return Ok(None);
                }
                if let Some(batch) = self.join(run)? {
                    // Drops them.
                    self.parts.nth(run.count - 1);
                    return Ok(Some(batch));
                }
                self.singly = run.count;
            }
            self.singly -= 1;
            if let Some(part) = self.parts.next().filter(|part| part.rows() > 0) {
                self.large = Some(Large { key: part.key, rows: part.batch.to_record_batch()?, given: 0 });
                return self.slice();
            }
        }
    }

    /// Makes parts of values that may be in storage: of a few, so that there is memory for all. False: there are none.
    fn read_on(&mut self) -> Result<bool, Failure> {
        let (mut parts, mut rows, mut bytes) = (Vec::new(), 0, 0);
        for (key, value) in self.unread.by_ref() {
            let value = value.into_value()?;
            (rows, bytes) = (rows + value.rows(), bytes + value.bytes());
            parts.extend(value.chunks().into_iter().map(|batch| Part { batch, key }));
            if rows >= MAX_ROWS as u64 || bytes >= MAX_READ_BYTES {
                break;
            }
        }
        let some = !parts.is_empty();
        self.parts = parts.into_iter();
        Ok(some)
    }

    /// The next rows of the large chunk, if there is one; most are given whole.
    fn slice(&mut self) -> Result<Option<Batch>, Failure> {
        let Some(large) = self.large.take() else { return Ok(None) };
        let left = large.rows.num_rows() - large.given;
        let count = left.min((MAX_KEY_BYTES / large.key.len().max(1)).clamp(1, MAX_ROWS));
        let slice = large.rows.slice(large.given, count);
        let batch = self.finish(std::iter::once((large.key, count)), &slice)?;
        if count < left {
            self.large = Some(Large { given: large.given + count, ..large });
        }
        Ok(Some(batch))
    }

    /// Puts the column of keys, so many rows of each, in front of the columns of `values`.
    fn finish(&self, runs: impl Iterator<Item = (Key, usize)> + Clone, values: &RecordBatch) -> Result<Batch, Failure> {
        let refuse = |error: arrow_schema::ArrowError| Failure::invalid_argument(error.to_string());
        let lengths = runs.clone().flat_map(|(key, rows)| std::iter::repeat_n(key.len(), rows));
        let offsets = OffsetBuffer::from_lengths(lengths);
        let mut bytes: Vec<u8> = Vec::with_capacity(runs.clone().map(|(key, rows)| key.len() * rows).sum());
        runs.for_each(|(key, rows)| bytes.extend(std::iter::repeat_n(&self.keys[key.range()], rows).flatten()));
        let keys = BinaryArray::try_new(offsets, Buffer::from_vec(bytes), None).map_err(refuse)?;
        let columns = std::iter::once(Arc::new(keys) as ArrayRef).chain(values.columns().iter().cloned()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(values.num_rows()));
        let batch =
            RecordBatch::try_new_with_options(Arc::clone(self.schema.arrow()), columns, &options).map_err(refuse)?;
        Batch::from_record_batch(&batch, &self.schema)
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::arrow::{ArrowArray, import_stream};
    use arrow_array::{
        Array, BooleanArray, Decimal128Array, Decimal256Array, FixedSizeBinaryArray, Float64Array, Int8Array,
        Int16Array, Int32Array, Int64Array, StringArray,
    };
    use arrow_buffer::i256;
    use arrow_schema::{Field, Schema};
    use arrow_select::concat::concat_batches;
    use proptest::prelude::*;

    /// Pools of columns to take rows from, one of each kind.
    fn pool() -> Vec<ArrayRef> {
        let rows = 0..600_i64;
        let fixed = |width: usize| -> ArrayRef {
            let cells = rows.clone().map(|row| vec![row as u8; width]);
            Arc::new(FixedSizeBinaryArray::try_from_iter(cells).unwrap())
        };
        vec![
            Arc::new(Int64Array::from_iter_values(rows.clone())),
            Arc::new(Float64Array::from_iter_values(rows.clone().map(|row| row as f64 / 4.0))),
            Arc::new(Int32Array::from_iter_values(rows.clone().map(|row| -row as i32))),
            Arc::new(Int16Array::from_iter_values(rows.clone().map(|row| row as i16))),
            Arc::new(Int8Array::from_iter_values(rows.clone().map(|row| row as i8))),
            Arc::new(BooleanArray::from_iter(rows.clone().map(|row| Some(row % 3 == 0)))),
            Arc::new(
                Decimal128Array::from_iter_values(rows.clone().map(|row| i128::from(row) << 60))
                    .with_precision_and_scale(38, 3)
                    .unwrap(),
            ),
            Arc::new(Decimal256Array::from_iter_values(rows.clone().map(i256::from))),
            fixed(1),
            fixed(3),
            fixed(24),
            // Not plain.
            Arc::new(StringArray::from_iter_values(rows.clone().map(|row| "x".repeat(row as usize % 7)))),
            Arc::new(Int64Array::from_iter(rows.clone().map(|row| (row % 5 != 0).then_some(row)))),
        ]
    }

    fn schema_of(columns: &[ArrayRef]) -> SchemaRef {
        let fields: Vec<_> = columns.iter().map(|column| Field::new("x", column.data_type().clone(), true)).collect();
        SchemaRef::from_arrow(&Schema::new(fields).with_metadata([("a".to_owned(), "b".to_owned())])).unwrap()
    }

    fn in_memory(batch: Batch) -> VersionValue<Batch> {
        VersionValue::new(batch.into(), None)
    }

    fn rows_of(columns: &[ArrayRef], schema: &SchemaRef, start: usize, count: usize) -> Batch {
        let columns = columns.iter().map(|column| column.slice(start, count)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let batch = RecordBatch::try_new_with_options(schema.arrow().clone(), columns, &options).unwrap();
        Batch::from_record_batch(&batch, schema).unwrap()
    }

    /// What the general path makes of the same entries.
    fn generally(mut entries: Entries) -> Vec<RecordBatch> {
        entries.take_rows_apart();
        let mut batches = entries.batches().unwrap();
        let mut made = Vec::new();
        loop {
            let run = batches.gather();
            if run.rows == 0 {
                return made;
            }
            let parts = &batches.parts.as_slice()[..run.count];
            match batches.join_any(parts).unwrap() {
                Some(batch) => made.push(batch.to_record_batch().unwrap()),
                None => {
                    for part in parts.iter().filter(|part| part.rows() > 0) {
                        let rows = part.batch.to_record_batch().unwrap();
                        let batch = batches.finish(std::iter::once((part.key, rows.num_rows())), &rows).unwrap();
                        made.push(batch.to_record_batch().unwrap());
                    }
                }
            }
            batches.parts.nth(run.count - 1);
        }
    }

    fn streamed(entries: Entries) -> (SchemaRef, Vec<RecordBatch>) {
        let mut stream = entries.export().unwrap();
        // SAFETY: made just now.
        let (schema, batches) = unsafe { import_stream(&mut stream) }.unwrap();
        let rust = |batch: &Batch| {
            // By way of C, so that what is exported is read.
            let mut array: ArrowArray = batch.export();
            // SAFETY: exported just now.
            let read = unsafe { Batch::import(&mut array, batch.schema(), true) }.unwrap();
            let read = read.to_record_batch().unwrap();
            assert_eq!(read, batch.to_record_batch().unwrap());
            read
        };
        let batches = batches.iter().map(rust).collect();
        (schema, batches)
    }

    /// Lengths of keys, and the chunks under them: where in the pool they begin, and their rows.
    fn values() -> impl Strategy<Value = Vec<(usize, Vec<(usize, usize)>)>> {
        let rows = prop_oneof![Just(1_usize), 0..70_usize];
        prop::collection::vec((1..40_usize, prop::collection::vec((0..500_usize, rows), 1..4)), 0..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn plain_parts_join_as_all_others_do(
            chosen in prop::collection::vec(0..13_usize, 0..6),
            only_plain in any::<bool>(),
            mut values in values(),
            one_object in any::<bool>(),
            single_rows in any::<bool>(),
        ) {
            if single_rows {
                values.iter_mut().for_each(|(_, chunks)| {
                    chunks.truncate(1);
                    chunks[0].1 = 1;
                });
            }
            let pool = pool();
            let plain = |index: &usize| if only_plain { index % 11 } else { *index };
            let columns: Vec<ArrayRef> = chosen.iter().map(plain).map(|index| pool[index].clone()).collect();
            let shared = schema_of(&columns);
            let entries = || {
                let mut entries = Entries::new(None);
                for (index, (key_length, chunks)) in values.iter().enumerate() {
                    let schema = if one_object { shared.clone() } else { schema_of(&columns) };
                    let chunks = chunks.iter().map(|(start, count)| rows_of(&columns, &schema, *start, *count));
                    let value = stm::Value::from_chunks(chunks).unwrap().unwrap();
                    entries.push(&vec![index as u8; *key_length], &VersionValue::new(value, None));
                }
                entries
            };
            let (schema, found) = streamed(entries());
            let expected = generally(entries());
            prop_assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert_eq!(found, expected);
            }
            if !values.is_empty() {
                prop_assert_eq!(&schema, &shared.with_key().unwrap());
            }
            let rows: usize = values.iter().flat_map(|(_, chunks)| chunks).map(|(_, count)| count).sum();
            prop_assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), rows);
        }
    }

    #[test]
    fn many_plain_parts_make_large_batches() {
        let columns = vec![pool()[7].clone(), pool()[5].clone(), pool()[0].clone()];
        let schema = schema_of(&columns);
        let entries = || {
            let mut entries = Entries::new(None);
            for number in 0..3000_usize {
                let value = rows_of(&columns, &schema, number % 500, 90);
                entries.push(format!("{number:0300}").as_bytes(), &in_memory(value));
            }
            entries
        };
        let (_, found) = streamed(entries());
        // 16 MiB hold so many keys of 300 bytes, and no value is split.
        let sizes: Vec<usize> = found.iter().map(RecordBatch::num_rows).collect();
        assert_eq!(sizes, [55_890, 55_890, 55_890, 55_890, 46_440]);
        let schema = found[0].schema();
        assert_eq!(concat_batches(&schema, &found).unwrap(), concat_batches(&schema, &generally(entries())).unwrap());
    }

    #[test]
    fn what_does_not_fit_the_rows_comes_behind_them() {
        let columns = vec![pool()[5].clone(), pool()[10].clone(), pool()[0].clone()];
        let schema = schema_of(&columns);
        let entries = |last: &SchemaRef, last_columns: &[ArrayRef]| {
            let mut entries = Entries::new(None);
            for number in 0..30_000_usize {
                let value = rows_of(&columns, &schema, number % 600, 1);
                entries.push(format!("{number:00$}", 20 + number % 7).as_bytes(), &in_memory(value));
            }
            entries.push(b"last", &in_memory(rows_of(last_columns, last, 1, 2)));
            entries
        };
        let (_, found) = streamed(entries(&schema, &columns));
        let sizes: Vec<usize> = found.iter().map(RecordBatch::num_rows).collect();
        assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (2, 30_002));
        assert!(sizes[0] < 1 << 15 && sizes[0] > 1 << 12, "{sizes:?}");
        let schema_with_key = found[0].schema();
        let all = |batches: &[RecordBatch]| concat_batches(&schema_with_key, batches).unwrap();
        assert_eq!(all(&found), all(&generally(entries(&schema, &columns))));

        // Behind full rows, and behind some.
        let other_columns = vec![pool()[0].clone()];
        let other = schema_of(&other_columns);
        let mut few = Entries::new(Some(3));
        few.push(b"first", &in_memory(rows_of(&columns, &schema, 0, 1)));
        few.push(b"last", &in_memory(rows_of(&other_columns, &other, 0, 1)));
        for (entries, first) in [(entries(&other, &other_columns), "0".repeat(20)), (few, "first".to_owned())] {
            let failure = entries.export().err().unwrap();
            assert_eq!(failure.status, khonsu_status::SchemaMismatch);
            assert!(failure.message.contains(&format!("\"{first}\" and \"last\"")), "{}", failure.message);
        }
    }

    #[test]
    fn long_keys_of_plain_values_are_sliced() {
        let columns = vec![pool()[0].clone()];
        let schema = schema_of(&columns);
        let mut entries = Entries::new(None);
        let key = vec![7; 65_536];
        for _ in 0..2 {
            entries.push(&key, &in_memory(rows_of(&columns, &schema, 0, 300)));
            entries.push(&key, &in_memory(rows_of(&columns, &schema, 0, 0)));
        }
        let (_, found) = streamed(entries);
        assert_eq!(found.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [256, 44, 256, 44]);
    }

    #[test]
    fn scans_of_a_transaction_are_streamed_in_order() {
        let columns = vec![pool()[0].clone(), pool()[5].clone()];
        let schema = schema_of(&columns);
        let manager = stm::TransactionManager::<Batch>::new(stm::Options::default());
        let mut writer = manager.begin(&stm::TransactionOptions::default());
        for number in 0..300_usize {
            writer.put(format!("{number:03}").as_bytes(), rows_of(&columns, &schema, number, number % 3)).unwrap();
            if number % 7 == 0 {
                writer.append(format!("{number:03}").as_bytes(), rows_of(&columns, &schema, number, 2)).unwrap();
            }
        }
        writer.commit().unwrap();
        for direction in [stm::Direction::Forward, stm::Direction::Reverse] {
            for limit in [None, Some(1), Some(57), Some(1000)] {
                let mut reader = manager.begin(&stm::TransactionOptions::default());
                let range = || stm::KeyRange::prefix(b"1");
                let entries = |reader: &mut stm::Transaction<Batch>| {
                    let mut entries = Entries::new(limit);
                    reader.scan_into(range(), direction, limit, &mut entries).unwrap();
                    entries
                };
                let (_, found) = streamed(entries(&mut reader));
                assert_eq!(found, generally(entries(&mut reader)));
                let mut expected = Vec::new();
                for (key, value) in reader.scan(range(), direction, limit).unwrap() {
                    let rows: usize = value.chunks().iter().map(|chunk| chunk.rows() as usize).sum();
                    expected.extend(std::iter::repeat_n(key, rows));
                }
                let keys: Vec<Vec<u8>> = found
                    .iter()
                    .flat_map(|batch| {
                        let keys = batch.column(0).as_any().downcast_ref::<BinaryArray>().unwrap();
                        keys.iter().map(|key| key.unwrap().to_vec()).collect::<Vec<_>>()
                    })
                    .collect();
                assert_eq!(keys, expected, "{direction:?} {limit:?}");
            }
        }
    }
}
