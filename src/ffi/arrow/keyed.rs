//! Plain batches joined into one, a column of keys in front, without a way through arrow-rs.

use super::batch::{ALIGNMENT, ArrayNode, Batch, Shape, Unfilled, zeros};
use super::layout::{Kind, MAX_PLAIN_COLUMNS, PlainLayout};
use super::schema::SchemaRef;
use arrow_buffer::bit_mask::set_bits;
use std::ops::Range;
use std::ptr;

/// Parts that are copied column by column: their bytes stay in the first cache meanwhile.
const BLOCK: usize = 64;

/// Rows, and the key that they are under, as a piece of a buffer of keys.
pub(crate) struct Part {
    pub(crate) batch: Batch,
    pub(crate) key: Key,
}

/// Where a key stands in a buffer of keys.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    start: usize,
    length: u32,
}

impl Key {
    /// Puts a key into the buffer.
    pub(crate) fn push(key: &[u8], keys: &mut Vec<u8>) -> Key {
        let start = keys.len();
        keys.extend_from_slice(key);
        // The longest keys have 64 KiB.
        Key { start, length: key.len() as u32 }
    }

    pub(crate) fn len(self) -> usize {
        self.length as usize
    }

    pub(crate) fn range(self) -> Range<usize> {
        self.start..self.start + self.len()
    }
}

impl Part {
    pub(crate) fn rows(&self) -> usize {
        usize::try_from(self.batch.rows()).unwrap_or(usize::MAX)
    }
}

/// One batch of all rows, each with its key in front; `schema` is [`SchemaRef::with_key`] of `values`.
///
/// # Safety
/// The parts are plain, and their schemas are equal to `values`. The rows' keys together, and the parts'
/// bytes, are less than 1 GiB.
pub(crate) unsafe fn join_plain(values: &SchemaRef, schema: &SchemaRef, keys: &[u8], parts: &[Part]) -> Batch {
    let layout = values.layout().plain().expect("plain parts have a plain schema");
    let nodes = schema.layout().nodes();
    assert!(nodes.len() == layout.columns().len() + 2 && nodes[1].kind == Kind::Binary32);
    let (rows, key_bytes) =
        parts.iter().fold((0, 0), |(rows, bytes), part| (rows + part.rows(), bytes + part.rows() * part.key.len()));
    let (output, data_bytes) = Output::place(layout, rows, key_bytes);
    let buffer_count = Output::buffer_count(layout);
    let unfilled = Unfilled::allocate(&Shape { schema, buffer_count, data_bytes, kept_bytes: 0 }, None);
    // SAFETY: the batch has room for so many bytes, for the nodes of its schema (the top, the keys, the
    // columns), and for these pointers; each is written once. The rest is the caller's promise.
    unsafe {
        output.fill(layout, keys, parts, unfilled.data);
        output.write_tables(layout, &unfilled);
        let batch = unfilled.finish();
        // The parts are valid, having no nulls, and keys can be any bytes.
        batch.set_validated();
        batch
    }
}

/// Where the buffers of the output stand.
pub(super) struct Output {
    pub(super) rows: usize,
    pub(super) offsets: Range<usize>,
    pub(super) keys: Range<usize>,
    /// Where the columns begin.
    columns: [u32; MAX_PLAIN_COLUMNS],
}

impl Output {
    /// Places for so many rows and bytes of keys, and the bytes of all of them together.
    pub(super) fn place(layout: &PlainLayout, rows: usize, key_bytes: usize) -> (Output, usize) {
        let mut end = 0_usize;
        let mut place = |bytes: usize| {
            let start = end.next_multiple_of(ALIGNMENT);
            end = start + bytes;
            start..end
        };
        let mut output = Output {
            rows,
            offsets: place((rows + 1) * size_of::<i32>()),
            keys: place(key_bytes),
            columns: [0; MAX_PLAIN_COLUMNS],
        };
        for (start, column) in output.columns.iter_mut().zip(layout.columns()) {
            let span = place((rows * column.bits()).div_ceil(8));
            *start = u32::try_from(span.start).expect("a batch of keys and rows has far less than 4 GiB");
        }
        (output, end)
    }

    /// The places of the columns, of which each has room for so many rows.
    pub(super) fn columns(&self, layout: &PlainLayout, rows: usize) -> impl Iterator<Item = Range<usize>> {
        layout.columns().iter().zip(&self.columns).map(move |(column, start)| {
            let start = *start as usize;
            start..start + (rows * column.bits()).div_ceil(8)
        })
    }

    /// One of the top, three of the keys, two of each column.
    pub(super) fn buffer_count(layout: &PlainLayout) -> u32 {
        4 + 2 * layout.columns().len() as u32
    }

    /// Copies the parts.
    ///
    /// # Safety
    /// As for [`join_plain`]; there is room for all buffers at `data`.
    unsafe fn fill(&self, layout: &PlainLayout, keys: &[u8], parts: &[Part], data: *mut u8) {
        // SAFETY: within the room; each part adds its rows to each buffer, and the buffers were sized by
        // the sums. A plain part has its columns where the layout says, and outlives the copying.
        unsafe {
            let mut offset = data.add(self.offsets.start).cast::<i32>();
            let mut key_end = data.add(self.keys.start);
            let mut key_bytes = 0_i32;
            offset.write(0);
            for (column, span) in layout.columns().iter().zip(self.columns(layout, self.rows)) {
                if column.is_boolean() {
                    // Bits are added to those that are there.
                    data.add(span.start).write_bytes(0, span.len());
                }
            }
            let mut row = 0;
            let blocks = parts.chunk_by(|left, right| left.rows() == right.rows()).flat_map(|run| run.chunks(BLOCK));
            for block in blocks {
                let part_rows = block[0].rows();
                for part in block {
                    let key = &keys[part.key.range()];
                    for _ in 0..part_rows {
                        copy_key(key, key_end);
                        key_end = key_end.add(key.len());
                        key_bytes += key.len() as i32;
                        offset = offset.add(1);
                        offset.write(key_bytes);
                    }
                }
                let spans = layout.spans(part_rows).zip(self.columns(layout, self.rows));
                for (column, (from, to)) in layout.columns().iter().zip(spans) {
                    if column.is_boolean() {
                        let bits = std::slice::from_raw_parts_mut(data.add(to.start), to.len());
                        for (position, part) in block.iter().enumerate() {
                            let part = std::slice::from_raw_parts(part.batch.plain_data().add(from.start), from.len());
                            set_bits(bits, part, row + position * part_rows, 0, part_rows);
                        }
                        continue;
                    }
                    let to = data.add(to.start + row * (column.bits() / 8));
                    let parts = block.iter().map(|part| part.batch.plain_data());
                    copy_elements(parts, from.start, to, from.len());
                }
                row += block.len() * part_rows;
            }
        }
    }

    /// Writes the nodes and the buffer pointers.
    ///
    /// # Safety
    /// The tables have room for the nodes and buffers of a batch of the keys and these columns.
    pub(super) unsafe fn write_tables(&self, layout: &PlainLayout, unfilled: &Unfilled) {
        let node = |first_buffer: usize, buffer_count: u32| ArrayNode {
            length: self.rows as i64,
            null_count: 0,
            offset: 0,
            first_buffer: first_buffer as u32,
            buffer_count,
        };
        // SAFETY: the caller's promise; the spans lie within the data.
        unsafe {
            let at = |span: &Range<usize>| match span.is_empty() {
                true => zeros(),
                false => unfilled.data.add(span.start).cast_const().cast(),
            };
            let Unfilled { nodes, buffers, .. } = *unfilled;
            nodes.write(node(0, 1));
            nodes.add(1).write(node(1, 3));
            // None has a validity bitmap.
            buffers.cast::<[_; 4]>().write([ptr::null(), ptr::null(), at(&self.offsets), at(&self.keys)]);
            for (column, span) in self.columns(layout, self.rows).enumerate() {
                let first = 4 + 2 * column;
                nodes.add(2 + column).write(node(first, 2));
                buffers.add(first).cast::<[_; 2]>().write([ptr::null(), at(&span)]);
            }
        }
    }
}

/// Copies `width` bytes of each plain batch, one's behind the other's; the commonest widths without a call for each.
///
/// # Safety
/// The batches have so many bytes at `from`; there is room for all of them at `to`.
pub(super) unsafe fn copy_elements(batches: impl Iterator<Item = *const u8>, from: usize, to: *mut u8, width: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match width {
            1 => copy_each::<1>(batches, from, to),
            2 => copy_each::<2>(batches, from, to),
            4 => copy_each::<4>(batches, from, to),
            8 => copy_each::<8>(batches, from, to),
            16 => copy_each::<16>(batches, from, to),
            width => batches.enumerate().for_each(|(position, data)| {
                ptr::copy_nonoverlapping(data.add(from), to.add(position * width), width);
            }),
        }
    }
}

/// The same for a width that is known.
///
/// # Safety
/// As for [`copy_elements`].
#[inline]
unsafe fn copy_each<const N: usize>(batches: impl Iterator<Item = *const u8>, from: usize, to: *mut u8) {
    for (position, data) in batches.enumerate() {
        // SAFETY: the caller's promise.
        unsafe { ptr::copy_nonoverlapping(data.add(from), to.add(position * N), N) };
    }
}

/// Copies a key, the commonest lengths without a call.
///
/// # Safety
/// There is room for it.
#[inline]
pub(super) unsafe fn copy_key(key: &[u8], to: *mut u8) {
    let (from, length) = (key.as_ptr(), key.len());
    // SAFETY: the caller's promise; the halves overlap.
    unsafe {
        match length {
            8..=16 => {
                ptr::copy_nonoverlapping(from, to, 8);
                ptr::copy_nonoverlapping(from.add(length - 8), to.add(length - 8), 8);
            }
            17..=32 => {
                ptr::copy_nonoverlapping(from, to, 16);
                ptr::copy_nonoverlapping(from.add(length - 16), to.add(length - 16), 16);
            }
            length => ptr::copy_nonoverlapping(from, to, length),
        }
    }
}
