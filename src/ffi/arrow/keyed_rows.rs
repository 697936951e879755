//! Single rows of plain batches put into one batch as they come, a column of keys in front: nothing is kept of the
//! batches that they come from, not even a count.

use super::batch::{Batch, Shape, Unfilled, UnfilledPlain};
use super::keyed::{Output, copy_elements, copy_key};
use super::layout::PlainLayout;
use super::schema::SchemaRef;
use crate::stm::{Seen, Value, VersionValue};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;

/// Rows that are copied column by column: their bytes stay in the first cache meanwhile.
const BLOCK: usize = 128;

/// The most bytes of a batch that is filled row by row: it grows by copying.
const MAX_BYTES: usize = 1 << 20;

/// Why an entry was not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Left {
    /// There is room for no more rows.
    Full,
    /// It is not a single row in the plain form, or its schema is another object.
    Unfit,
}

/// Rows, each with its key.
pub(crate) struct KeyedRows {
    /// That of the rows, without the key.
    values: SchemaRef,
    schema: SchemaRef,
    columns: Vec<Column>,
    /// Where the keys begin, and their offsets.
    keys: *mut u8,
    offsets: *mut i32,
    rows: usize,
    key_bytes: usize,
    /// Rows and bytes of keys that there is room for.
    capacity: usize,
    key_capacity: usize,
    /// The most rows that there may be.
    most: usize,
    room: Room,
}

struct Column {
    /// Where it stands in a plain batch of one row.
    from: u32,
    /// Bytes of an element; [`BITS`] of one that is a bit.
    width: u32,
    /// Where it begins in the room.
    to: *mut u8,
}

const BITS: u32 = u32::MAX;

/// A batch with room for so many rows and bytes of keys. [`Output::place`] says where.
struct Room {
    /// None once it is finished.
    unfilled: Option<Unfilled>,
}

impl Room {
    /// None: that is more than a batch may have. `schema` is that with the key.
    fn allocate(schema: &SchemaRef, layout: &PlainLayout, rows: usize, key_bytes: usize) -> Option<(Room, Output)> {
        let row_bytes =
            size_of::<i32>() + layout.columns().iter().map(|column| column.bits().div_ceil(8)).sum::<usize>();
        if rows.saturating_mul(row_bytes).saturating_add(key_bytes) > MAX_BYTES {
            return None;
        }
        let (output, data_bytes) = Output::place(layout, rows, key_bytes);
        let buffer_count = Output::buffer_count(layout);
        let unfilled = Unfilled::allocate(&Shape { schema, buffer_count, data_bytes, kept_bytes: 0 }, None);
        Some((Room { unfilled: Some(unfilled) }, output))
    }

    /// Where a buffer begins.
    fn at(&self, span: &Range<usize>) -> *mut u8 {
        let unfilled = self.unfilled.as_ref().expect("it is not finished");
        // SAFETY: the output's buffers stand in the room, or at its end.
        unsafe { unfilled.data.add(span.start) }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.unfilled.take().into_iter().for_each(Unfilled::abandon);
    }
}

/// The batch of a value that is a single row in the plain form.
#[inline(always)]
fn plain_row(value: &VersionValue<Batch>) -> Option<&Batch> {
    value.in_memory().and_then(Value::single).filter(|batch| batch.is_plain_row())
}

impl KeyedRows {
    /// Room for an entry, and for some more, of which there are at most `most`. None: it cannot be done with this one.
    #[cold]
    #[inline(never)]
    pub(crate) fn begin(key: &[u8], value: &VersionValue<Batch>, expected: usize, most: usize) -> Option<KeyedRows> {
        let values = plain_row(value)?.schema().clone();
        // One that cannot be made is reported where no rows are filled.
        let schema = values.with_key().ok()?;
        let layout = values.layout().plain()?;
        let (capacity, key_capacity) = (expected, expected.saturating_mul(key.len()));
        let (room, output) = Room::allocate(&schema, layout, capacity, key_capacity)?;
        let mut columns = Vec::with_capacity(layout.columns().len());
        let spans = layout.spans(1).zip(output.columns(layout, capacity));
        columns.extend(layout.columns().iter().zip(spans).map(|(column, (from, to))| Column {
            // Some columns of some bytes each.
            from: from.start as u32,
            width: if column.is_boolean() { BITS } else { from.len() as u32 },
            to: room.at(&to),
        }));
        let (keys, offsets) = (room.at(&output.keys), room.at(&output.offsets).cast::<i32>());
        // SAFETY: the first offset has a place.
        unsafe { offsets.write(0) };
        Some(KeyedRows {
            values,
            schema,
            columns,
            keys,
            offsets,
            rows: 0,
            key_bytes: 0,
            capacity,
            key_capacity,
            most,
            room,
        })
    }

    /// Adds entries up to one that cannot be added, which is given back with those behind it.
    #[inline]
    pub(crate) fn extend<'a, I: Iterator<Item = Seen<'a, Batch>>>(
        &mut self,
        first: Seen<'a, Batch>,
        mut entries: I,
    ) -> Option<(Left, Seen<'a, Batch>, I)> {
        let mut next = first;
        loop {
            let filled = self.fill(next, entries);
            let (key, value) = filled.0?;
            (next, entries) = ((key, value), filled.1);
            if self.row_of(value).is_none() {
                return Some((Left::Unfit, next, entries));
            }
            let key_end = self.key_bytes + key.len();
            if (self.rows == self.capacity || key_end > self.key_capacity) && !self.grow(key_end) {
                return Some((Left::Full, next, entries));
            }
        }
    }

    /// The batch of a value that can be one of the rows.
    #[inline(always)]
    fn row_of<'a>(&self, value: &'a VersionValue<Batch>) -> Option<&'a Batch> {
        plain_row(value).filter(|batch| batch.schema().is_same_object(&self.values))
    }

    /// Adds entries as far as they fit into the room and are plain, some at most. Gives the next, and those behind it. A
    /// function of its own, and the iterator its own, so that its loop has the registers.
    #[inline(never)]
    fn fill<'a, I: Iterator<Item = Seen<'a, Batch>>>(
        &mut self,
        first: Seen<'a, Batch>,
        mut entries: I,
    ) -> (Option<Seen<'a, Batch>>, I) {
        let (keys, key_capacity) = (self.keys, self.key_capacity);
        let (row, mut key_bytes) = (self.rows, self.key_bytes);
        let mut rows = [const { MaybeUninit::uninit() }; BLOCK];
        let mut count = 0;
        let mut next = Some(first);
        // SAFETY: the offset behind the last row.
        let mut offset = unsafe { self.offsets.add(row) };
        let places = &mut rows[..BLOCK.min(self.capacity - row)];
        while let (Some((key, value)), Some(place)) = (next, places.get_mut(count)) {
            let Some(batch) = self.row_of(value) else { break };
            let key_end = key_bytes + key.len();
            if key_end > key_capacity {
                break;
            }
            place.write(batch.plain_data());
            // SAFETY: there is room for the row and its key, and all keys are far below 2 GiB.
            unsafe {
                copy_key(key, keys.add(key_bytes));
                offset = offset.add(1);
                offset.write(key_end as i32);
            }
            key_bytes = key_end;
            count += 1;
            next = entries.next();
        }
        self.key_bytes = key_bytes;
        // SAFETY: so many are written. There is room for these rows behind those that are there; the batches are plain, of
        // one row and of this schema, and live as long as the entries.
        unsafe { self.copy_columns(std::slice::from_raw_parts(rows.as_ptr().cast(), count)) };
        (next, entries)
    }

    /// Adds rows whose keys are there.
    ///
    /// # Safety
    /// There is room for them. They are plain and of this schema; each pointer leads to where one's columns begin.
    #[inline(never)]
    unsafe fn copy_columns(&mut self, rows: &[*const u8]) {
        for column in &self.columns {
            // SAFETY: the caller's promise; the columns stand where `from` says.
            unsafe {
                match column.width {
                    BITS => copy_bits(rows, column, self.rows),
                    width => {
                        let (from, width) = (column.from as usize, width as usize);
                        copy_elements(rows.iter().copied(), from, column.to.add(self.rows * width), width);
                    }
                }
            }
        }
        self.rows += rows.len();
    }

    /// Makes room for one more row, and for so many bytes of keys.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, key_bytes: usize) -> bool {
        let full = self.rows == self.capacity;
        let rows = if full { (2 * self.rows).min(self.most) } else { self.capacity };
        rows > self.rows && self.resize(rows, key_bytes.max(2 * self.key_capacity))
    }

    /// Moves to a room for so many rows and bytes of keys, which are enough for those that there are.
    fn resize(&mut self, rows: usize, key_bytes: usize) -> bool {
        let layout = self.values.layout().plain().expect("plain rows have a plain schema");
        let Some((room, output)) = Room::allocate(&self.schema, layout, rows, key_bytes) else { return false };
        let (keys, offsets) = (room.at(&output.keys), room.at(&output.offsets).cast());
        // SAFETY: both rooms have places for the rows that there are, and are not the same.
        unsafe {
            ptr::copy_nonoverlapping(self.offsets, offsets, self.rows + 1);
            ptr::copy_nonoverlapping(self.keys, keys, self.key_bytes);
            for (column, (types, to)) in
                self.columns.iter_mut().zip(layout.columns().iter().zip(output.columns(layout, rows)))
            {
                let to = room.at(&to);
                ptr::copy_nonoverlapping(column.to, to, (self.rows * types.bits()).div_ceil(8));
                column.to = to;
            }
        }
        (self.keys, self.offsets, self.capacity, self.key_capacity) = (keys, offsets, rows, key_bytes);
        self.room = room;
        true
    }

    /// The schema of the rows, without the key.
    pub(crate) fn values(&self) -> &SchemaRef {
        &self.values
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The key of a row.
    pub(crate) fn key(&self, row: usize) -> &[u8] {
        assert!(row < self.rows);
        // SAFETY: the row's key was written, and the offsets around it.
        unsafe {
            let offsets = self.offsets.add(row);
            let (start, end) = (offsets.read() as usize, offsets.add(1).read() as usize);
            std::slice::from_raw_parts(self.keys.add(start), end - start)
        }
    }

    /// A row as a batch of its own, without the key.
    pub(crate) fn row(&self, row: usize) -> Batch {
        assert!(row < self.rows);
        let layout = self.values.layout().plain().expect("plain rows have a plain schema");
        let unfilled = UnfilledPlain::allocate(&self.values, layout, 1);
        // SAFETY: the row was written; each column has its place in a plain batch of one row, and is written there.
        unsafe {
            for column in &self.columns {
                let to = unfilled.data().add(column.from as usize);
                if column.width == BITS {
                    to.write(column.to.add(row / 8).read() >> (row % 8) & 1);
                } else {
                    let width = column.width as usize;
                    ptr::copy_nonoverlapping(column.to.add(row * width), to, width);
                }
            }
            unfilled.finish()
        }
    }

    /// One batch of all rows.
    pub(crate) fn finish(mut self) -> Batch {
        if self.rows < self.capacity / 2 {
            // It may be held for long. The smaller room cannot be too large.
            self.resize(self.rows, self.key_bytes);
        }
        let layout = self.values.layout().plain().expect("plain rows have a plain schema");
        let (mut output, _) = Output::place(layout, self.capacity, self.key_capacity);
        output.rows = self.rows;
        let unfilled = self.room.unfilled.take().expect("it is finished once");
        // SAFETY: the batch was allocated for this schema, a top, the keys and the columns, and for these pointers; all
        // rows are written. They are valid, having no nulls, and keys can be any bytes.
        unsafe {
            output.write_tables(layout, &unfilled);
            let batch = unfilled.finish();
            batch.set_validated();
            batch
        }
    }
}

/// Copies the bits of plain rows to a column.
///
/// # Safety
/// Each row is a plain one with this column, which has room for them from `row` on. The rows before are written.
unsafe fn copy_bits(rows: &[*const u8], column: &Column, row: usize) {
    for (row, data) in (row..).zip(rows) {
        // SAFETY: the caller's promise.
        unsafe {
            let (to, bit) = (column.to.add(row / 8), row % 8);
            // The first bit of a byte is written with the others.
            let before = if bit == 0 { 0 } else { to.read() };
            to.write(before | (data.add(column.from as usize).read() & 1) << bit);
        }
    }
}
