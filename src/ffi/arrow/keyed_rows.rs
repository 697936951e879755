//! Single rows of plain batches put into one batch as they come, a column of keys in front: nothing is kept of the
//! batches that they come from, not even a count.

use super::batch::{Batch, Shape, Unfilled, UnfilledPlain};
use super::keyed::{Output, copy_key};
use super::layout::PlainLayout;
use super::schema::SchemaRef;
use std::ops::Range;
use std::ptr;

/// The most bytes of a batch that is filled row by row: it grows by copying.
const MAX_BYTES: usize = 1 << 20;

/// What has become of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pushed {
    Added,
    /// There is room for no more rows.
    Full,
    /// It is not a single row in the plain form, or its schema is another object.
    Unfit,
}

/// At least one row, each with its key.
pub(crate) struct KeyedRows {
    /// That of the rows, without the key.
    values: SchemaRef,
    schema: SchemaRef,
    /// The columns, first those whose elements have 8 bytes, and how many of these there are.
    columns: Vec<Column>,
    eights: usize,
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
    number: u16,
    /// Bytes of an element; [`BITS`] of one that is a bit.
    width: u16,
    /// Where it begins in the room.
    to: *mut u8,
}

const BITS: u16 = u16::MAX;

/// A batch with room for so many rows and bytes of keys.
struct Room {
    /// None once it is finished.
    unfilled: Option<Unfilled>,
    output: Output,
    data: *mut u8,
}

impl Room {
    /// None: that is more than a batch may have. `schema` is that with the key.
    fn allocate(schema: &SchemaRef, layout: &PlainLayout, rows: usize, key_bytes: usize) -> Option<Room> {
        let row_bytes =
            size_of::<i32>() + layout.columns().iter().map(|column| column.bits().div_ceil(8)).sum::<usize>();
        if rows.saturating_mul(row_bytes).saturating_add(key_bytes) > MAX_BYTES {
            return None;
        }
        let (output, data_bytes) = Output::place(layout, rows, key_bytes);
        let buffer_count = Output::buffer_count(layout);
        let unfilled = Unfilled::allocate(&Shape { schema, buffer_count, data_bytes, kept_bytes: 0 }, None);
        let data = unfilled.data;
        Some(Room { unfilled: Some(unfilled), output, data })
    }

    /// Where a buffer begins.
    fn at(&self, span: &Range<usize>) -> *mut u8 {
        // SAFETY: the output's buffers stand in the room, or at its end.
        unsafe { self.data.add(span.start) }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.unfilled.take().into_iter().for_each(Unfilled::abandon);
    }
}

impl KeyedRows {
    /// A first row, with room for some more, of which there are at most `most`. None: it cannot be done with this one.
    #[cold]
    #[inline(never)]
    pub(crate) fn begin(key: &[u8], batch: &Batch, expected: usize, most: usize) -> Option<KeyedRows> {
        if !batch.is_plain_row() {
            return None;
        }
        let values = batch.schema().clone();
        // One that cannot be made is reported where no rows are filled.
        let schema = values.with_key().ok()?;
        let layout = values.layout().plain()?;
        let (capacity, key_capacity) = (expected, expected.saturating_mul(key.len()));
        let room = Room::allocate(&schema, layout, capacity, key_capacity)?;
        let columns = layout.columns().iter().zip(layout.spans(1)).zip(&room.output.columns).enumerate();
        let columns = columns.map(|(number, ((column, from), to))| Column {
            // Some columns of some bytes each.
            from: from.start as u32,
            number: number as u16,
            width: if column.is_boolean() { BITS } else { from.len() as u16 },
            to: room.at(to),
        });
        let (mut columns, others): (Vec<_>, Vec<_>) = columns.partition(|column| column.width == 8);
        let eights = columns.len();
        columns.extend(others);
        let (keys, offsets) = (room.at(&room.output.keys), room.at(&room.output.offsets).cast::<i32>());
        // SAFETY: the first offset has a place.
        unsafe { offsets.write(0) };
        let mut rows = KeyedRows {
            values,
            schema,
            columns,
            eights,
            keys,
            offsets,
            rows: 0,
            key_bytes: 0,
            capacity,
            key_capacity,
            most,
            room,
        };
        (rows.push(key, batch) == Pushed::Added).then_some(rows)
    }

    /// Adds a row.
    #[inline(always)]
    pub(crate) fn push(&mut self, key: &[u8], batch: &Batch) -> Pushed {
        if !batch.is_plain_row() || !batch.schema().is_same_object(&self.values) {
            return Pushed::Unfit;
        }
        let row = self.rows;
        let key_end = self.key_bytes + key.len();
        if (row == self.capacity || key_end > self.key_capacity) && !self.grow(key_end) {
            return Pushed::Full;
        }
        // SAFETY: there is room for the row and its key, and all keys are far below 2 GiB. The batch is plain, of one row
        // and of this schema, so its columns stand where `from` says.
        unsafe {
            copy_key(key, self.keys.add(self.key_bytes));
            self.offsets.add(row + 1).write(key_end as i32);
            let data = batch.plain_data();
            let (eights, others) = self.columns.split_at_unchecked(self.eights);
            for column in eights {
                ptr::copy_nonoverlapping(data.add(column.from as usize), column.to.add(row * 8), 8);
            }
            if !others.is_empty() {
                copy_others(others, row, data);
            }
        }
        self.rows = row + 1;
        self.key_bytes = key_end;
        Pushed::Added
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
        let Some(room) = Room::allocate(&self.schema, layout, rows, key_bytes) else { return false };
        let (keys, offsets) = (room.at(&room.output.keys), room.at(&room.output.offsets).cast());
        // SAFETY: both rooms have places for the rows that there are, and are not the same.
        unsafe {
            ptr::copy_nonoverlapping(self.offsets, offsets, self.rows + 1);
            ptr::copy_nonoverlapping(self.keys, keys, self.key_bytes);
            for column in &mut self.columns {
                let number = usize::from(column.number);
                let to = room.at(&room.output.columns[number]);
                let bits = self.rows * layout.columns()[number].bits();
                ptr::copy_nonoverlapping(column.to, to, bits.div_ceil(8));
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
                    let width = usize::from(column.width);
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
        let Room { output, unfilled, .. } = &mut self.room;
        output.rows = self.rows;
        let unfilled = unfilled.take().expect("it is finished once");
        // SAFETY: the batch was allocated for this schema, a top, the keys and the columns, and for these pointers; all
        // rows are written. They are valid, having no nulls, and keys can be any bytes.
        unsafe {
            output.write_tables(self.columns.len(), &unfilled);
            let batch = unfilled.finish();
            batch.set_validated();
            batch
        }
    }
}

/// Copies a plain row to columns of any width.
///
/// # Safety
/// The row has these columns at `data`, and there is room for it in each of them. The rows before it are written.
#[inline(never)]
unsafe fn copy_others(columns: &[Column], row: usize, data: *const u8) {
    for column in columns {
        // SAFETY: the caller's promise.
        unsafe {
            let (from, to) = (data.add(column.from as usize), column.to);
            match column.width {
                1 => to.add(row).write(from.read()),
                2 => ptr::copy_nonoverlapping(from, to.add(row * 2), 2),
                4 => ptr::copy_nonoverlapping(from, to.add(row * 4), 4),
                16 => ptr::copy_nonoverlapping(from, to.add(row * 16), 16),
                BITS => {
                    let (to, bit) = (to.add(row / 8), row % 8);
                    // The first bit of a byte is written with the others.
                    let before = if bit == 0 { 0 } else { to.read() };
                    to.write(before | (from.read() & 1) << bit);
                }
                width => {
                    let width = usize::from(width);
                    ptr::copy_nonoverlapping(from, to.add(row * width), width);
                }
            }
        }
    }
}
