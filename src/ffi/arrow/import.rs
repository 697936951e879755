//! Import of batches: the checks, then packing or keeping.
//!
//! One walk over the tree checks it and plans the packed form; what is written later follows the plan
//! and not the producer's memory, so that nothing written can grow past what was allocated.
//!
//! Elements that a parent does not use (before its first or behind its last) are not packed, so each
//! node is seen through a *window* of the elements that its parent uses.

use super::batch::{ALIGNMENT, ArrayNode, Batch, Shape, Unfilled, UnfilledPlain, zeros};
use super::export::exported_batch;
use super::layout::{Kind, Layout, LayoutNode, MAX_PLAIN_ROWS, PlainColumn, PlainLayout};
use super::raw::ArrowArray;
use super::schema::SchemaRef;
use super::within;
use crate::ffi::error::Failure;
use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch, downcast_primitive_array};
use arrow_schema::DataType;
use std::mem::MaybeUninit;
use std::ptr;

/// Buffers of at most so many bytes are packed.
const PACKING_LIMIT: usize = 4096;
/// Elements of one array, the skipped ones included. Beyond any memory, and far enough from
/// overflow that sums and bit counts cannot reach it.
const MAX_LENGTH: i64 = 1 << 48;
/// Buffers of one array of views.
const MAX_BUFFERS: i64 = 1 << 24;

impl Batch {
    /// As [`Batch::import`] does.
    #[inline]
    pub(crate) fn from_c(array: &mut ArrowArray, schema: &SchemaRef, full: bool) -> Result<Batch, Failure> {
        match schema.layout().plain().and_then(|layout| pack_plain(array, schema, layout)) {
            Some(batch) => {
                array.release_in_place();
                Ok(batch)
            }
            None => Batch::from_any(array.take_out(), schema, full),
        }
    }

    /// Apart, so that the import of a small plain batch, the common one, is short.
    #[inline(never)]
    fn from_any(array: ArrowArray, schema: &SchemaRef, full: bool) -> Result<Batch, Failure> {
        let plain = schema.layout().plain();
        let mut plan = Plan::new();
        plan.check(&array, schema).map_err(|failure| within("array", failure))?;
        let batch = if !plan.packing {
            match exported_batch(&array) {
                // Ours, as it was given out: keeping it would only add a layer.
                Some(batch) if batch.schema() == schema => batch,
                _ => keep(array, schema, &plan)?,
            }
        } else if let Some(batch) = plain.and_then(|layout| plan.pack_plain(schema, layout)) {
            batch
        } else {
            pack(&plan, schema)
        };
        if full {
            batch.validate()?;
        }
        Ok(batch)
    }
}

/// A list that needs no allocation while it is short.
struct ShortList<T: Copy, const N: usize> {
    short: [MaybeUninit<T>; N],
    length: usize,
    /// All elements, once there are more than `N`.
    long: Vec<T>,
}

impl<T: Copy, const N: usize> ShortList<T, N> {
    fn new() -> Self {
        ShortList { short: [const { MaybeUninit::uninit() }; N], length: 0, long: Vec::new() }
    }

    fn push(&mut self, element: T) {
        if self.length < N {
            self.short[self.length].write(element);
        } else {
            if self.length == N {
                let short: Vec<T> = self.as_slice().to_vec();
                self.long = short;
            }
            self.long.push(element);
        }
        self.length += 1;
    }

    fn as_slice(&self) -> &[T] {
        if self.length <= N {
            // SAFETY: the first `length` elements were written.
            unsafe { std::slice::from_raw_parts(self.short.as_ptr().cast(), self.length) }
        } else {
            &self.long
        }
    }
}

/// How a buffer comes into the packed form.
#[derive(Clone, Copy)]
enum Copying {
    /// A validity bitmap without a null in it is left out.
    Absent,
    Bytes,
    /// So many bits from this one (0 to 7) of the first byte.
    Bits {
        first: u8,
        count: usize,
    },
    /// `int32` offsets less the first one.
    Offsets32 {
        first: i32,
    },
    /// `int64` offsets less the first one.
    Offsets64 {
        first: i64,
    },
}

#[derive(Clone, Copy)]
struct PlannedBuffer {
    source: *const u8,
    /// In the packed form.
    bytes: usize,
    alignment: usize,
    copying: Copying,
}

/// The checked tree.
struct Plan {
    /// Whether the packed form is small enough; if not, nodes and buffers are not complete.
    packing: bool,
    nodes: ShortList<ArrayNode, 12>,
    buffers: ShortList<PlannedBuffer, 32>,
    /// Of all buffers, as far as windows show them.
    bytes: usize,
    /// Buffers of the tree as the producer has it.
    buffer_count: usize,
}

/// A failure and the node at which it was seen.
type Located = (usize, Failure);

fn located(schema: &SchemaRef, node: usize, failure: Failure) -> Failure {
    let name = schema.field_pointers(node).name;
    if node == 0 || name.is_null() {
        return failure;
    }
    // SAFETY: the schema's own copy, NUL-terminated.
    let name = unsafe { std::ffi::CStr::from_ptr(name) };
    within(format_args!("field {:?}", name.to_string_lossy()), failure)
}

#[cold]
fn refused(reason: impl Into<String>) -> Failure {
    Failure::invalid_argument(reason)
}

/// Elements of an array: how many are skipped at first, how many follow.
#[derive(Clone, Copy, Default)]
struct Window {
    start: usize,
    length: usize,
}

impl Plan {
    fn new() -> Plan {
        Plan { packing: true, nodes: ShortList::new(), buffers: ShortList::new(), bytes: 0, buffer_count: 0 }
    }

    fn check(&mut self, array: &ArrowArray, schema: &SchemaRef) -> Result<(), Failure> {
        // SAFETY: the struct is owned and its producer promised what the interface says.
        let nulls = unsafe { self.visit(schema.layout(), 0, array, None) }
            .map_err(|(node, failure)| located(schema, node, failure))?;
        if nulls > 0 {
            return Err(refused(format!("{nulls} of the batch's rows are null; only its columns may have nulls")));
        }
        if u32::try_from(self.buffer_count).is_err() {
            return Err(refused(format!("it has {} buffers", self.buffer_count)));
        }
        Ok(())
    }

    /// Checks the array of `index` and all under it; returns the nulls that the window shows.
    ///
    /// # Safety
    /// Pointers of `array` that are not NULL can be followed as the interface says.
    unsafe fn visit(
        &mut self,
        layout: &Layout,
        index: usize,
        array: &ArrowArray,
        window: Option<Window>,
    ) -> Result<usize, Located> {
        let node = &layout.nodes()[index];
        let whole = check_counts(node, array).map_err(|failure| (index, failure))?;
        // The parent has seen to it that its window lies within.
        let window = window.unwrap_or(Window { start: 0, length: whole.length });
        // SAFETY: the caller's promise; the counts are those of the type.
        let children = unsafe { self.buffers_of(node, array, whole, window) };
        let (nulls, child_window) = children.map_err(|failure| (index, failure))?;

        for (position, child_index) in layout.children_of(node).iter().enumerate() {
            // SAFETY: `check_counts` saw as many child pointers, each of them good.
            let child = unsafe { &**array.children.add(position) };
            // Elements behind the parent's last one are fine, missing ones are not.
            let length = check_length(child).map_err(|failure| (*child_index, failure))?;
            if length < child_window.required {
                return Err((
                    *child_index,
                    refused(format!("the child has {length} elements, its parent needs {}", child_window.required)),
                ));
            }
            // SAFETY: the caller's promise extends to children; the window ends at `required` at most.
            unsafe { self.visit(layout, *child_index, child, child_window.shown) }?;
        }
        if let Kind::RunEndEncoded { width } = node.kind {
            // SAFETY: both children were checked.
            unsafe { check_run_ends(array, whole, width) }.map_err(|failure| (index, failure))?;
        }
        if let Some(values) = node.dictionary {
            // SAFETY: `check_counts` saw the dictionary; the caller's promise extends to it.
            unsafe { self.visit(layout, values, &*array.dictionary, None) }?;
        }
        Ok(nulls)
    }

    /// Checks and plans the buffers of one array; returns the nulls in its window, and what it needs
    /// of its children.
    ///
    /// # Safety
    /// As for `visit`; `array` passed `check_counts`.
    unsafe fn buffers_of(
        &mut self,
        node: &LayoutNode,
        array: &ArrowArray,
        whole: Window,
        window: Window,
    ) -> Result<(usize, ChildWindow), Failure> {
        let first_buffer = self.buffers.length;
        let start = whole.start + window.start;
        let length = window.length;
        let end = whole.start + whole.length;
        let mut children = ChildWindow { required: 0, shown: None };
        let mut null_count = 0;
        // A run-end encoded array keeps its offset: its children are packed whole.
        let mut packed_offset = 0;
        self.buffer_count += array.n_buffers as usize;
        // SAFETY: `check_counts` saw that there are so many pointers.
        let buffer = |position: usize| unsafe { *array.buffers.add(position) }.cast::<u8>();
        let missing =
            |position: usize, bytes: usize| refused(format!("buffer {position}, of {bytes} bytes or more, is NULL"));
        // A buffer of fixed-width elements: none is read when the array has none.
        let fixed = |position: usize, width: usize| -> Result<*const u8, Failure> {
            let bytes = span(end, width)?;
            let source = buffer(position);
            if source.is_null() && whole.length > 0 && bytes > 0 {
                return Err(missing(position, bytes));
            }
            Ok(source)
        };

        if node.kind.has_validity() {
            let bitmap = buffer(0);
            let claimed = array.null_count;
            if bitmap.is_null() {
                if claimed > 0 {
                    return Err(refused(format!("the null count is {claimed}, but there is no validity bitmap")));
                }
            } else if whole.length > 0 {
                // SAFETY: the bitmap covers the array by the interface, and the window is in it.
                null_count = length - unsafe { count_bits(bitmap, start, length) };
                let claim_is_for_window = claimed >= 0 && window.start == 0 && length == whole.length;
                if claim_is_for_window && claimed as usize != null_count {
                    return Err(refused(format!(
                        "the null count is {claimed}, but the validity bitmap has {null_count} nulls"
                    )));
                }
            }
            if null_count > 0 {
                self.push_bits(bitmap, start, length);
            } else {
                self.push(ptr::null(), 0, 1, Copying::Absent);
            }
        }

        match node.kind {
            Kind::Null => null_count = length,
            Kind::Boolean => {
                let values = buffer(1);
                if values.is_null() && whole.length > 0 {
                    return Err(missing(1, end.div_ceil(8)));
                }
                self.push_bits(values, start, length);
            }
            Kind::Fixed { width } => {
                let values = fixed(1, width)?;
                self.push_span(values, start, length, width, Copying::Bytes);
            }
            Kind::Binary32 | Kind::Binary64 => {
                let wide = node.kind == Kind::Binary64;
                // SAFETY: the caller's promise.
                let range = unsafe { self.offsets(wide, buffer(1), whole, window) }?;
                let bytes = buffer(2);
                if bytes.is_null() && range.last > 0 {
                    return Err(missing(2, range.last));
                }
                // Within the bytes: the first and the last offset were compared.
                let source = bytes.wrapping_add(range.shown.start);
                self.push(source, range.shown.length, 8, Copying::Bytes);
            }
            Kind::View => {
                let views = fixed(1, 16)?;
                self.push_span(views, start, length, 16, Copying::Bytes);
                let variadic = array.n_buffers as usize - 3;
                let sizes = buffer(2 + variadic);
                if sizes.is_null() && variadic > 0 {
                    return Err(missing(2 + variadic, variadic * 8));
                }
                if !(sizes as usize).is_multiple_of(8) {
                    return Err(refused("the sizes of the data buffers are not aligned"));
                }
                for position in 0..variadic {
                    // SAFETY: the interface has one size for each data buffer.
                    let size = unsafe { sizes.cast::<i64>().add(position).read_unaligned() };
                    let size = usize::try_from(size)
                        .ok()
                        .filter(|size| *size <= isize::MAX as usize)
                        .ok_or_else(|| refused(format!("data buffer {position} has a size of {size} bytes")))?;
                    let data = buffer(2 + position);
                    if data.is_null() && size > 0 {
                        return Err(missing(2 + position, size));
                    }
                    self.push(data, size, 8, Copying::Bytes);
                }
                self.push(sizes, variadic * 8, 8, Copying::Bytes);
            }
            Kind::List32 | Kind::List64 => {
                let wide = node.kind == Kind::List64;
                // SAFETY: the caller's promise.
                let range = unsafe { self.offsets(wide, buffer(1), whole, window) }?;
                children.required = range.last;
                children.shown = Some(range.shown);
            }
            Kind::ListView32 | Kind::ListView64 => {
                let width = if node.kind == Kind::ListView64 { 8 } else { 4 };
                let (offsets, sizes) = (fixed(1, width)?, fixed(2, width)?);
                self.push_span(offsets, start, length, width, Copying::Bytes);
                self.push_span(sizes, start, length, width, Copying::Bytes);
            }
            Kind::FixedSizeList { size } => {
                children.required = span(end, size)?;
                children.shown = Some(Window { start: start * size, length: length * size });
            }
            Kind::Struct => {
                children.required = end;
                children.shown = Some(Window { start, length });
            }
            Kind::SparseUnion => {
                let ids = fixed(0, 1)?;
                self.push_span(ids, start, length, 1, Copying::Bytes);
                children.required = end;
                children.shown = Some(Window { start, length });
            }
            Kind::DenseUnion => {
                let (ids, offsets) = (fixed(0, 1)?, fixed(1, 4)?);
                self.push_span(ids, start, length, 1, Copying::Bytes);
                self.push_span(offsets, start, length, 4, Copying::Bytes);
            }
            Kind::RunEndEncoded { .. } => packed_offset = if length > 0 { start } else { 0 },
        }
        if self.packing {
            let buffer_count = self.buffers.length - first_buffer;
            self.nodes.push(ArrayNode {
                length: length as i64,
                null_count: null_count as i64,
                offset: packed_offset as i64,
                first_buffer: first_buffer as u32,
                buffer_count: buffer_count as u32,
            });
        }
        Ok((null_count, children))
    }

    /// Checks the first and the last offset of an array, and of its window, and plans the offsets.
    ///
    /// # Safety
    /// As for `visit`: unless it is NULL, `source` holds one offset more than the array has elements.
    unsafe fn offsets(
        &mut self,
        wide: bool,
        source: *const u8,
        whole: Window,
        window: Window,
    ) -> Result<OffsetRange, Failure> {
        let width = if wide { 8 } else { 4 };
        let bytes = span(whole.start + whole.length + 1, width)?;
        if whole.length == 0 {
            // Not read: producers may leave the buffer out. One offset stands for none.
            self.push(zeros().cast(), width, 8, Copying::Bytes);
            return Ok(OffsetRange::default());
        }
        if source.is_null() {
            return Err(refused(format!("buffer 1, of {bytes} bytes or more, is NULL")));
        }
        // The interface allows to refuse this, and arrow-rs reads offsets in place.
        if !(source as usize).is_multiple_of(width) {
            return Err(refused(format!("buffer 1 is not aligned to {width} bytes")));
        }
        let at = |position: usize| -> i64 {
            // SAFETY: the caller's promise; the position is at most the array's end.
            unsafe {
                if wide {
                    source.cast::<i64>().add(position).read_unaligned()
                } else {
                    i64::from(source.cast::<i32>().add(position).read_unaligned())
                }
            }
        };
        let first = at(whole.start);
        let last = at(whole.start + whole.length);
        let start = whole.start + window.start;
        let shown_first = at(start);
        let shown_last = at(start + window.length);
        // The last of the bytes, or of the child's elements, must have an address.
        if first < 0 || last < first || last as u64 > isize::MAX as u64 {
            return Err(refused(format!("the first offset is {first}, the last one {last}")));
        }
        if shown_first < first || shown_last < shown_first || last < shown_last {
            return Err(refused(format!("the offsets {first}, {shown_first}, {shown_last}, {last} decrease")));
        }
        let copying = if wide {
            Copying::Offsets64 { first: shown_first }
        } else {
            Copying::Offsets32 { first: shown_first as i32 }
        };
        self.push_span(source, start, window.length + 1, width, copying);
        Ok(OffsetRange {
            last: last as usize,
            shown: Window { start: shown_first as usize, length: (shown_last - shown_first) as usize },
        })
    }

    /// Copies what was found into a plain batch; None when there are nulls, or when it is too large.
    /// The array must be checked and small enough to be packed, `layout` its schema's.
    fn pack_plain(&self, schema: &SchemaRef, layout: &PlainLayout) -> Option<Batch> {
        let nodes = self.nodes.as_slice();
        if nodes.iter().any(|node| node.null_count > 0) {
            return None;
        }
        let rows = nodes[0].length;
        let unfilled = unfilled_plain(schema, layout, rows)?;
        // Each column has a validity bitmap, which is left out, and its values; before them stands
        // the validity of the top.
        let values = self.buffers.as_slice()[1..].chunks_exact(2).map(|buffers| &buffers[1]);
        debug_assert!(values.len() == layout.columns().len());
        for (buffer, span) in values.zip(layout.spans(rows as usize)).filter(|(_, span)| !span.is_empty()) {
            debug_assert!(buffer.bytes == span.len());
            // SAFETY: the plan has the column's elements, which take as many bytes as the layout
            // says; the batch has room for them at this position, which is aligned to 8 at least.
            unsafe { write(buffer, unfilled.data().add(span.start)) };
        }
        // SAFETY: all columns were written.
        Some(unsafe { unfilled.finish() })
    }

    fn push_span(&mut self, source: *const u8, start: usize, length: usize, width: usize, copying: Copying) {
        let alignment = if width >= 16 { 16 } else { 8 };
        // No overflow: `span` was checked for the array's end, and the window ends there at most.
        let source = source.wrapping_add(start * width);
        self.push(source, length * width, alignment, copying);
    }

    fn push_bits(&mut self, source: *const u8, start: usize, length: usize) {
        let copying = Copying::Bits { first: (start % 8) as u8, count: length };
        self.push(source.wrapping_add(start / 8), length.div_ceil(8), 8, copying);
    }

    fn push(&mut self, source: *const u8, bytes: usize, alignment: usize, copying: Copying) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.packing &= self.bytes <= PACKING_LIMIT;
        if self.packing {
            self.buffers.push(PlannedBuffer { source, bytes, alignment, copying });
        }
    }
}

/// What an array needs of each of its children.
struct ChildWindow {
    /// Elements that a child must have.
    required: usize,
    /// Elements that the array's window shows; None shows all.
    shown: Option<Window>,
}

#[derive(Default)]
struct OffsetRange {
    last: usize,
    shown: Window,
}

/// `elements * width`, which must be the size of something that can be in memory.
fn span(elements: usize, width: usize) -> Result<usize, Failure> {
    elements
        .checked_mul(width)
        // arrow-rs counts some sizes in bits.
        .filter(|bytes| *bytes <= isize::MAX as usize / 8)
        .ok_or_else(|| refused(format!("{elements} elements of {width} each overflow")))
}

/// The length of an array; its offset is checked with it.
fn check_length(array: &ArrowArray) -> Result<usize, Failure> {
    if array.length < 0 || array.offset < 0 || array.length > MAX_LENGTH || array.offset > MAX_LENGTH - array.length {
        return Err(refused(format!("the length is {}, the offset {}", array.length, array.offset)));
    }
    Ok(array.length as usize)
}

/// Checks all that can be checked without a look at the buffers.
fn check_counts(node: &LayoutNode, array: &ArrowArray) -> Result<Window, Failure> {
    if array.release.is_none() {
        return Err(refused("the ArrowArray is already released"));
    }
    let length = check_length(array)?;
    if array.null_count < -1 || array.null_count > array.length {
        return Err(refused(format!("the null count is {}, the length {}", array.null_count, array.length)));
    }
    let expected = node.kind.buffer_count() as i64;
    let good = match node.kind {
        Kind::View => array.n_buffers >= expected && array.n_buffers <= MAX_BUFFERS,
        _ => array.n_buffers == expected,
    };
    if !good {
        return Err(refused(format!("it has {} buffers, not {expected}", array.n_buffers)));
    }
    if expected > 0 && (array.buffers.is_null() || !array.buffers.is_aligned()) {
        return Err(refused("the table of buffers is NULL or misaligned"));
    }
    if array.n_children != node.child_count as i64 {
        return Err(refused(format!("it has {} children, not {}", array.n_children, node.child_count)));
    }
    if node.child_count > 0 && (array.children.is_null() || !array.children.is_aligned()) {
        return Err(refused("the table of children is NULL or misaligned"));
    }
    for position in 0..node.child_count {
        // SAFETY: not NULL, aligned, with as many entries as the producer says.
        let child = unsafe { *array.children.add(position) };
        if child.is_null() || !child.is_aligned() {
            return Err(refused(format!("child {position} is NULL or misaligned")));
        }
    }
    match (node.dictionary, array.dictionary.is_null()) {
        (Some(_), true) => return Err(refused("the dictionary is NULL")),
        (None, false) => return Err(refused("it has a dictionary, but its type has none")),
        (Some(_), false) if !array.dictionary.is_aligned() => {
            return Err(refused("the dictionary is misaligned"));
        }
        _ => {}
    }
    Ok(Window { start: array.offset as usize, length })
}

/// Checks that the runs cover the array.
///
/// # Safety
/// `array` and its two children passed `visit`.
unsafe fn check_run_ends(array: &ArrowArray, whole: Window, width: usize) -> Result<(), Failure> {
    // SAFETY: both children are there.
    let (run_ends, values) = unsafe { (&**array.children, &**array.children.add(1)) };
    if run_ends.length != values.length {
        return Err(refused(format!("it has {} run ends, but {} values", run_ends.length, values.length)));
    }
    // SAFETY: the run ends passed `visit` as a fixed-width array.
    let nulls = unsafe { nulls_of(run_ends) };
    if nulls > 0 {
        return Err(refused(format!("{nulls} of its run ends are null")));
    }
    if whole.length == 0 {
        return Ok(());
    }
    let needed = whole.start + whole.length;
    let last = if run_ends.length == 0 {
        0
    } else {
        let position = (run_ends.offset + run_ends.length - 1) as usize;
        // SAFETY: the run ends passed `visit`: a buffer of so many elements.
        unsafe {
            let ends = *run_ends.buffers.add(1);
            match width {
                2 => i64::from(ends.cast::<i16>().add(position).read_unaligned()),
                4 => i64::from(ends.cast::<i32>().add(position).read_unaligned()),
                _ => ends.cast::<i64>().add(position).read_unaligned(),
            }
        }
    };
    if last < needed as i64 {
        return Err(refused(format!("its runs end at {last}, but it has {needed} elements")));
    }
    Ok(())
}

/// The nulls in the validity bitmap of an array that has one.
///
/// # Safety
/// `array` passed `visit`, as a type whose first buffer is the validity bitmap.
unsafe fn nulls_of(array: &ArrowArray) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let bitmap = (*array.buffers).cast::<u8>();
        if bitmap.is_null() || array.length == 0 {
            return 0;
        }
        let length = array.length as usize;
        length - count_bits(bitmap, array.offset as usize, length)
    }
}

/// The bits that are set among `length` ones from `start`.
///
/// # Safety
/// `bitmap` holds `start + length` bits.
unsafe fn count_bits(bitmap: *const u8, start: usize, length: usize) -> usize {
    if length == 0 {
        return 0;
    }
    let first = start / 8;
    let last = (start + length - 1) / 8;
    let head = 0xffu8 << (start % 8);
    let tail = 0xffu8 >> (7 - (start + length - 1) % 8);
    // SAFETY: all bytes from the first to the last one hold bits of the range.
    unsafe {
        if first == last {
            return (*bitmap.add(first) & head & tail).count_ones() as usize;
        }
        let mut count =
            (*bitmap.add(first) & head).count_ones() as usize + (*bitmap.add(last) & tail).count_ones() as usize;
        let middle = std::slice::from_raw_parts(bitmap.add(first + 1), last - first - 1);
        let words = middle.chunks_exact(8);
        count += words.remainder().iter().map(|byte| byte.count_ones() as usize).sum::<usize>();
        for word in words {
            let word = u64::from_ne_bytes([word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7]]);
            count += word.count_ones() as usize;
        }
        count
    }
}

/// A plain batch of so many rows to be filled; None when it is too large.
#[inline(always)]
fn unfilled_plain<'a>(schema: &'a SchemaRef, layout: &PlainLayout, rows: i64) -> Option<UnfilledPlain<'a>> {
    let rows = usize::try_from(rows).ok().filter(|rows| *rows <= MAX_PLAIN_ROWS)?;
    (layout.data_bytes(rows) <= PACKING_LIMIT).then(|| UnfilledPlain::allocate(schema, layout, rows))
}

/// Copies a small batch of plain columns without nulls, the commonest of values, in the shortest way:
/// each column is checked and copied at once. None for whatever is not plainly so: the general way
/// then packs it, or says what is wrong.
#[inline]
fn pack_plain(array: &ArrowArray, schema: &SchemaRef, layout: &PlainLayout) -> Option<Batch> {
    let columns = layout.columns();
    let good = array.release.is_some()
        && (0..=MAX_PLAIN_ROWS as i64).contains(&array.length)
        && (0..=MAX_LENGTH / 4).contains(&array.offset)
        && matches!(array.null_count, 0 | -1)
        && array.n_buffers == 1
        && !array.buffers.is_null()
        && array.buffers.is_aligned()
        && array.n_children == columns.len() as i64
        && (columns.is_empty() || (!array.children.is_null() && array.children.is_aligned()))
        && array.dictionary.is_null();
    // SAFETY: the table of buffers is there and has one pointer, by the counts above.
    if !good || !unsafe { *array.buffers }.is_null() {
        return None;
    }
    let rows = array.length as usize;
    let end = array.offset + array.length;
    let unfilled = unfilled_plain(schema, layout, array.length)?;
    let complete = layout.each_start(rows, |index, column, start| {
        // SAFETY: the table of children is there, with as many entries.
        let child = unsafe { *array.children.add(index) };
        if child.is_null() || !child.is_aligned() {
            return false;
        }
        // SAFETY: not NULL, aligned; the producer keeps it while the parent is not released.
        let child = unsafe { &*child };
        let good = child.release.is_some()
            && (0..=MAX_LENGTH / 4).contains(&child.length)
            && child.length >= end
            && (0..=MAX_LENGTH / 4).contains(&child.offset)
            && matches!(child.null_count, 0 | -1)
            && child.n_buffers == 2
            && !child.buffers.is_null()
            && child.buffers.is_aligned()
            && child.n_children == 0
            && child.dictionary.is_null();
        if !good {
            return false;
        }
        // SAFETY: the table of buffers has two pointers, by the count above.
        let (bitmap, values) = unsafe { (*child.buffers, (*child.buffers.add(1)).cast::<u8>()) };
        if !bitmap.is_null() || values.is_null() {
            return false;
        }
        let first = (array.offset + child.offset) as usize;
        // SAFETY: by the interface the values hold the child's elements, and these rows are among them; the batch has
        // room for the column's bytes at its position. No overflow: `first` is less than 2^47.
        unsafe {
            let target = unfilled.data().add(start);
            match (rows, column.bits()) {
                // Of a known size it is a move, and not a call.
                (1, 64) => ptr::copy_nonoverlapping(values.add(first * 8), target, 8),
                (1, 32) => ptr::copy_nonoverlapping(values.add(first * 4), target, 4),
                _ => copy_column(column, values, first, rows, target),
            }
        }
        true
    });
    // SAFETY: all columns were written.
    complete.then(|| unsafe { unfilled.finish() })
}

/// The same for a batch of arrow-rs that has the fields of the schema.
pub(super) fn pack_plain_arrays(batch: &RecordBatch, schema: &SchemaRef, layout: &PlainLayout) -> Option<Batch> {
    let rows = batch.num_rows();
    let unfilled = unfilled_plain(schema, layout, rows as i64)?;
    for ((column, array), span) in layout.columns().iter().zip(batch.columns()).zip(layout.spans(rows)) {
        let (values, start) = values_of(array)?;
        // SAFETY: the array has the type of the column and so many rows, which arrow-rs upholds; the batch has room for
        // the column's bytes at its position.
        unsafe { copy_column(*column, values, start, rows, unfilled.data().add(span.start)) };
    }
    // SAFETY: all columns were written.
    Some(unsafe { unfilled.finish() })
}

/// The elements of an array without nulls, and which one is the first.
fn values_of(array: &dyn Array) -> Option<(*const u8, usize)> {
    if array.null_count() > 0 {
        return None;
    }
    downcast_primitive_array! {
        array => Some((array.values().inner().as_ptr(), 0)),
        DataType::Boolean => {
            let bits = array.as_boolean().values();
            Some((bits.values().as_ptr(), bits.offset()))
        }
        _ => None,
    }
}

/// Copies a column's elements, of which there are `rows`, from element `start` of its values.
///
/// # Safety
/// `values` holds `start + rows` elements, `start` is less than 2^47, and `target` has room for `rows` elements.
#[inline(never)]
unsafe fn copy_column(column: PlainColumn, values: *const u8, start: usize, rows: usize, target: *mut u8) {
    if rows == 0 || column.bits() == 0 {
        // Nothing is read: the values may be anywhere.
        return;
    }
    // SAFETY: the caller's promise. No overflow: an element has at most 32 bytes.
    unsafe {
        if column.is_boolean() {
            copy_bits(values.add(start / 8), start % 8, rows, target);
        } else {
            let width = column.bits() / 8;
            ptr::copy_nonoverlapping(values.add(start * width), target, rows * width);
        }
    }
}

/// Copies what `plan` found into one allocation. The producer's array is not needed after that.
fn pack(plan: &Plan, schema: &SchemaRef) -> Batch {
    let buffers = plan.buffers.as_slice();
    let mut data_bytes = 0usize;
    for buffer in buffers.iter().filter(|buffer| buffer.bytes > 0) {
        data_bytes = data_bytes.next_multiple_of(buffer.alignment) + buffer.bytes;
    }
    let shape = Shape { schema, buffer_count: buffers.len() as u32, data_bytes, kept_bytes: 0 };
    let unfilled = Unfilled::allocate(&shape, None);
    let nodes = plan.nodes.as_slice();
    // SAFETY: the allocation has room for these nodes (one for each type: the walk visited each
    // once), these pointers and these bytes, at these alignments, which divide `ALIGNMENT`.
    unsafe {
        ptr::copy_nonoverlapping(nodes.as_ptr(), unfilled.nodes, nodes.len());
        let mut position = 0usize;
        for (index, buffer) in buffers.iter().enumerate() {
            let pointer = match buffer.copying {
                Copying::Absent => ptr::null(),
                _ if buffer.bytes == 0 => zeros(),
                _ => {
                    position = position.next_multiple_of(buffer.alignment);
                    let target = unfilled.data.add(position);
                    write(buffer, target);
                    position += buffer.bytes;
                    target.cast_const().cast()
                }
            };
            unfilled.buffers.add(index).write(pointer);
        }
        unfilled.finish()
    }
}

/// Writes the packed form of one buffer.
///
/// # Safety
/// The source holds what the plan says; `target` has room for the buffer's bytes and is aligned to 8.
unsafe fn write(buffer: &PlannedBuffer, target: *mut u8) {
    let source = buffer.source;
    // SAFETY: the caller's promise.
    unsafe {
        match buffer.copying {
            Copying::Absent => {}
            Copying::Bytes => ptr::copy_nonoverlapping(source, target, buffer.bytes),
            Copying::Bits { first, count } => {
                copy_bits(source, usize::from(first), count, target);
            }
            Copying::Offsets32 { first } => {
                for index in 0..buffer.bytes / 4 {
                    let offset = source.cast::<i32>().add(index).read_unaligned();
                    // Offsets between the first and the last are not checked yet: they may wrap.
                    target.cast::<i32>().add(index).write_unaligned(offset.wrapping_sub(first));
                }
            }
            Copying::Offsets64 { first } => {
                for index in 0..buffer.bytes / 8 {
                    let offset = source.cast::<i64>().add(index).read_unaligned();
                    target.cast::<i64>().add(index).write_unaligned(offset.wrapping_sub(first));
                }
            }
        }
    }
}

/// Copies `count` bits, from bit `first` (0 to 7) of the source to bit 0 of the target; what is left
/// of the last byte is 0.
///
/// # Safety
/// The source holds `first + count` bits, the target has room for `count`; `count` is not 0.
unsafe fn copy_bits(source: *const u8, first: usize, count: usize, target: *mut u8) {
    let bytes = count.div_ceil(8);
    let source_bytes = (first + count).div_ceil(8);
    // SAFETY: reads stay below `source_bytes`, writes below `bytes`.
    unsafe {
        for index in 0..bytes {
            let low = *source.add(index) >> first;
            let high = if first > 0 && index + 1 < source_bytes { *source.add(index + 1) << (8 - first) } else { 0 };
            *target.add(index) = low | high;
        }
        if !count.is_multiple_of(8) {
            *target.add(bytes - 1) &= 0xff >> (8 - count % 8);
        }
    }
}

/// Keeps the producer's array as it is.
fn keep(array: ArrowArray, schema: &SchemaRef, plan: &Plan) -> Result<Batch, Failure> {
    let layout = schema.layout();
    let shape = Shape {
        schema,
        // Checked by `Plan::check`.
        buffer_count: plan.buffer_count as u32,
        data_bytes: 0,
        kept_bytes: plan.bytes,
    };
    // A second struct to walk over; the owned one moves into the batch and stays as it is.
    // SAFETY: the copy is never dropped.
    let top = std::mem::ManuallyDrop::new(unsafe { ptr::read(&array) });
    let unfilled = Unfilled::allocate(&shape, Some(array));
    let mut table = Table { unfilled: &unfilled, capacity: plan.buffer_count, used: 0 };
    // SAFETY: the tree passed `Plan::check`.
    if unsafe { table.fill(layout, 0, &top) } {
        // SAFETY: the walk wrote one node for each type and all pointers.
        Ok(unsafe { unfilled.finish() })
    } else {
        unfilled.abandon();
        Err(refused("the array changed while it was imported"))
    }
}

/// The tables of a kept batch while they are written.
struct Table<'a> {
    unfilled: &'a Unfilled,
    capacity: usize,
    used: usize,
}

impl Table<'_> {
    /// Writes the node of `index` and all under it; false when there are not as many buffers as
    /// there were before.
    ///
    /// # Safety
    /// `array` passed `Plan::check` with this layout.
    unsafe fn fill(&mut self, layout: &Layout, index: usize, array: &ArrowArray) -> bool {
        let node = &layout.nodes()[index];
        let buffer_count = array.n_buffers as usize;
        let first_buffer = self.used;
        if buffer_count > self.capacity - first_buffer || buffer_count < node.kind.buffer_count() {
            return false;
        }
        self.used += buffer_count;
        let empty = array.length == 0;
        // SAFETY: as checked: so many pointers, room for them, one node for each index.
        unsafe {
            let null_count = match node.kind {
                Kind::Null => array.length,
                kind if kind.has_validity() => nulls_of(array) as i64,
                _ => 0,
            };
            for position in 0..buffer_count {
                let mut pointer = *array.buffers.add(position);
                if position == 0 && node.kind.has_validity() {
                    if empty || null_count == 0 {
                        pointer = ptr::null();
                    }
                } else if pointer.is_null() || (empty && !is_view_data(node.kind, position)) {
                    // An empty array's buffers are never read, not even its first offset.
                    pointer = zeros();
                }
                self.unfilled.buffers.add(first_buffer + position).write(pointer);
            }
            self.unfilled.nodes.add(index).write(ArrayNode {
                length: array.length,
                null_count,
                offset: if empty { 0 } else { array.offset },
                first_buffer: first_buffer as u32,
                buffer_count: buffer_count as u32,
            });
            for (position, child) in layout.children_of(node).iter().enumerate() {
                if !self.fill(layout, *child, &**array.children.add(position)) {
                    return false;
                }
            }
            match node.dictionary {
                Some(values) => self.fill(layout, values, &*array.dictionary),
                None => true,
            }
        }
    }
}

/// Whether a buffer has a size of its own, whatever the array's length is.
fn is_view_data(kind: Kind, position: usize) -> bool {
    kind == Kind::View && position >= 2
}

const _: () = assert!(ALIGNMENT >= 16);

#[cfg(test)]
mod tests {
    use super::super::export::COPY_LIMIT;
    use super::super::raw::ArrowSchema;
    use super::super::{consume, import, samples};
    use super::*;
    use arrow_array::{Array, ArrayRef, BooleanArray, FixedSizeBinaryArray, Int8Array, Int64Array, RecordBatch};
    use arrow_buffer::NullBuffer;
    use arrow_schema::DataType;
    use arrow_select::filter::filter;
    use std::cell::Cell;
    use std::ffi::{CStr, c_void};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn import_batch(batch: &RecordBatch, full: bool) -> Batch {
        let (mut array, mut schema) = samples::foreign(batch);
        // SAFETY: made by arrow-rs.
        let imported = unsafe { import(&mut array, &mut schema, full) }.unwrap();
        assert!(array.release.is_none() && schema.release.is_none());
        imported
    }

    /// In and out through the C form, twice, as a consumer would.
    fn round_trip(batch: &RecordBatch) -> Batch {
        let first = import_batch(batch, false);
        assert_eq!(first.rows(), batch.num_rows() as u64);
        let (mut array, mut schema) = (first.export(), first.export_schema());
        drop(first);
        // SAFETY: made by `export`.
        let second = unsafe { import(&mut array, &mut schema, true) }.unwrap();
        let back = second.to_record_batch().unwrap();
        assert_eq!(&back, batch);
        assert_eq!(back.schema(), batch.schema());
        second
    }

    #[test]
    fn every_type_survives_packed_and_kept() {
        for rows in [0, 1, 2, 7, 40, 5000] {
            let columns = samples::columns(rows);
            for (name, array) in &columns {
                let batch = samples::batch_of(vec![(name.clone(), array.clone())]);
                let imported = round_trip(&batch);
                if rows <= 7 {
                    assert!(imported.is_packed(), "{name} of {rows} rows");
                } else if rows == 5000 && array.get_buffer_memory_size() > 80_000 {
                    assert!(!imported.is_packed(), "{name} of {rows} rows");
                }
            }
            round_trip(&samples::batch_of(columns));
        }
    }

    #[test]
    fn slices_survive() {
        for (name, array) in samples::columns(2000) {
            for (start, length) in [(0, 1), (1, 1), (3, 9), (13, 0), (1990, 10), (5, 1900), (0, 2000)] {
                let slice = array.slice(start, length);
                let batch = samples::batch_of(vec![(name.clone(), slice)]);
                round_trip(&batch);
            }
        }
    }

    /// A slice of the struct itself, whose children are not sliced.
    #[test]
    fn the_offset_of_the_top_applies_to_all_columns() {
        for rows in [12usize, 3000] {
            let batch = samples::batch_of(samples::columns(rows));
            for (start, length) in [(0, rows - 5), (5, 3), (rows - 1, 1), (4, 0), (3, rows - 4)] {
                let (mut array, mut schema) = samples::foreign(&batch);
                array.offset = start as i64;
                array.length = length as i64;
                // SAFETY: made by arrow-rs; the slice lies within.
                let imported = unsafe { import(&mut array, &mut schema, true) }.unwrap();
                let expected = batch.slice(start, length);
                assert_eq!(imported.to_record_batch().unwrap(), expected, "{start} {length}");
                let (mut array, mut schema) = (imported.export(), imported.export_schema());
                // SAFETY: made by `export`.
                let again = unsafe { import(&mut array, &mut schema, true) }.unwrap();
                assert_eq!(again.to_record_batch().unwrap(), expected);
            }
        }
    }

    #[test]
    fn a_batch_of_no_columns_keeps_its_rows() {
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(7));
        let schema = Arc::new(arrow_schema::Schema::empty());
        let batch = RecordBatch::try_new_with_options(schema, vec![], &options).unwrap();
        let imported = round_trip(&batch);
        assert_eq!(imported.rows(), 7);
        assert!(imported.is_plain());
        assert_eq!(imported.bytes(), 16);
        let options = options.with_row_count(Some(5000));
        let batch = RecordBatch::try_new_with_options(batch.schema(), vec![], &options).unwrap();
        let imported = round_trip(&batch);
        assert_eq!(imported.rows(), 5000);
        assert!(!imported.is_plain());
    }

    #[test]
    fn small_batches_are_packed_tightly() {
        let imported = import_batch(&samples::small(), false);
        assert!(imported.is_plain() && imported.is_validated());
        // 16 bytes and the values: a cache line or two.
        assert_eq!(imported.bytes(), 48);
        // With a null there are tables.
        let imported = import_batch(&column("int64", 2), false);
        assert!(imported.is_packed() && !imported.is_plain());
        assert!(imported.bytes() < 250, "{} bytes", imported.bytes());
    }

    /// The columns of all types, of so many rows and without nulls.
    fn columns_without_nulls(rows: usize) -> Vec<(String, ArrayRef)> {
        let without_nulls = |array: ArrayRef| {
            let mask: BooleanArray = (0..array.len()).map(|row| Some(array.is_valid(row))).collect();
            filter(&array, &mask).unwrap().slice(0, rows)
        };
        let columns = samples::columns(3 * rows + 3);
        columns
            .into_iter()
            .map(|(name, array)| (name, without_nulls(array)))
            .filter(|(_, array)| array.logical_null_count() == 0)
            .collect()
    }

    fn plain_columns(rows: usize) -> Vec<(String, ArrayRef)> {
        let mut columns = columns_without_nulls(rows);
        columns.retain(|(_, array)| array.data_type().is_primitive() || is_flat(array.data_type()));
        columns
    }

    fn is_flat(data_type: &DataType) -> bool {
        matches!(data_type, DataType::Boolean | DataType::FixedSizeBinary(_))
    }

    /// The addresses of the values of each column, as a consumer sees them.
    fn addresses(array: &ArrowArray) -> Vec<usize> {
        let children = 0..array.n_children as usize;
        // SAFETY: exported here, with plain columns.
        children.map(|index| unsafe { *(**array.children.add(index)).buffers.add(1) } as usize).collect()
    }

    #[test]
    fn every_flat_type_is_plain() {
        for rows in [0, 1, 2, 7, 15] {
            let columns = plain_columns(rows);
            assert_eq!(columns.len(), 34);
            for (name, array) in &columns {
                let batch = samples::batch_of(vec![(name.clone(), array.clone())]);
                let imported = round_trip(&batch);
                assert!(imported.is_plain(), "{name} of {rows} rows");
                let width = array.data_type().primitive_width();
                let bits = width.map_or(if is_flat_bits(array) { 1 } else { 3 * 8 }, |width| width * 8);
                assert_eq!(imported.bytes() as usize, 16 + (rows * bits).div_ceil(8), "{name}");
            }
            // Too many columns for one plain batch: by halves, in both orders.
            let mut reversed = columns.clone();
            reversed.reverse();
            for columns in columns.chunks(20).chain(reversed.chunks(20)) {
                let batch = samples::batch_of(columns.to_vec());
                let imported = round_trip(&batch);
                assert!(imported.is_plain());
                let array = imported.export();
                for (address, (name, column)) in addresses(&array).into_iter().zip(columns) {
                    let wide = column.data_type().primitive_width().is_some_and(|width| width >= 16);
                    assert!(address.is_multiple_of(if wide { 16 } else { 8 }), "{name}");
                }
            }
            assert!(!round_trip(&samples::batch_of(columns)).is_plain());
        }
        for (name, array) in columns_without_nulls(4) {
            let is_plain = plain_columns(0).iter().any(|(plain, _)| *plain == name);
            assert_eq!(round_trip(&samples::batch_of(vec![(name, array)])).is_plain(), is_plain);
        }
    }

    fn is_flat_bits(array: &ArrayRef) -> bool {
        *array.data_type() == DataType::Boolean
    }

    #[test]
    fn slices_of_flat_types_are_plain() {
        let columns = plain_columns(60);
        for (start, length) in [(0, 1), (1, 1), (3, 9), (13, 0), (7, 17), (59, 1), (0, 60)] {
            for (name, array) in &columns {
                let batch = samples::batch_of(vec![(name.clone(), array.slice(start, length))]);
                assert!(round_trip(&batch).is_plain(), "{name}");
            }
            // And of the top, on columns that are slices themselves.
            for columns in columns.chunks(5) {
                let sliced = columns.iter().map(|(name, array)| (name.clone(), array.slice(0, 60))).collect();
                let batch = samples::batch_of(sliced);
                let (mut array, mut schema) = samples::foreign(&batch);
                array.offset = start as i64;
                array.length = length as i64;
                // SAFETY: made by arrow-rs; the slice lies within.
                let imported = unsafe { import(&mut array, &mut schema, true) }.unwrap();
                assert!(imported.is_plain());
                assert_eq!(imported.to_record_batch().unwrap(), batch.slice(start, length));
                let shifted: Vec<_> = columns.iter().map(|(name, array)| (name.clone(), array.slice(1, 59))).collect();
                let batch = samples::batch_of(shifted);
                let (mut array, mut schema) = samples::foreign(&batch);
                let (start, length) = (start.min(58), length.min(59 - start.min(58)));
                array.offset = start as i64;
                array.length = length as i64;
                // SAFETY: as above.
                let imported = unsafe { import(&mut array, &mut schema, true) }.unwrap();
                assert!(imported.is_plain());
                assert_eq!(imported.to_record_batch().unwrap(), batch.slice(start, length));
            }
        }
    }

    #[test]
    fn bitmaps_without_nulls_are_left_out() {
        for (name, array) in plain_columns(12) {
            // The nulls lie outside of the slice, but it has a bitmap.
            let nulls = NullBuffer::from_iter((0..12).map(|row| row >= 3));
            let data = array.to_data().into_builder().nulls(Some(nulls)).build().unwrap();
            let slice = arrow_array::make_array(data).slice(5, 6);
            assert!(slice.nulls().is_some(), "{name}");
            let expected = samples::batch_of(vec![(name.clone(), slice.clone())]);
            assert!(round_trip(&expected).is_plain(), "{name}");
            // One null, in the second of two columns.
            let part = arrow_array::make_array(slice.to_data()).slice(0, 3);
            let with_null = arrow_array::make_array(
                part.to_data().into_builder().nulls(Some(NullBuffer::from(vec![true, false, true]))).build().unwrap(),
            );
            let batch = samples::batch_of(vec![(name.clone(), part), (format!("{name} and null"), with_null)]);
            let imported = round_trip(&batch);
            assert!(imported.is_packed() && !imported.is_plain(), "{name}");
        }
    }

    #[test]
    fn plain_batches_are_bounded() {
        let integers = |rows: usize| -> ArrayRef { Arc::new(Int64Array::from(vec![7; rows])) };
        let booleans = |rows: usize| -> ArrayRef { Arc::new(BooleanArray::from(vec![true; rows])) };
        let bytes = |rows: usize| -> ArrayRef { Arc::new(Int8Array::from(vec![7; rows])) };
        let nothing = |rows: usize| -> ArrayRef {
            Arc::new(FixedSizeBinaryArray::try_new_with_len(0, arrow_buffer::Buffer::default(), None, rows).unwrap())
        };
        for (column, is_plain, is_packed) in [
            (integers(512), true, true),
            (integers(513), false, false),
            (bytes(4096), true, true),
            (bytes(4097), false, false),
            (booleans(4096), true, true),
            (booleans(4097), false, true),
            (nothing(4096), true, true),
            (nothing(4097), false, true),
        ] {
            let batch = samples::batch_of(vec![("c".to_string(), column)]);
            let imported = round_trip(&batch);
            assert_eq!((imported.is_plain(), imported.is_packed()), (is_plain, is_packed), "{:?}", batch.schema());
        }
    }

    #[test]
    fn moved_children_of_plain_batches_live_on_their_own() {
        let integers = |rows: usize| -> ArrayRef { Arc::new(Int64Array::from_iter_values(0..rows as i64)) };
        let most = COPY_LIMIT / size_of::<i64>();
        for (source, is_copied) in [
            (samples::small(), true),
            (samples::batch_of(plain_columns(9).split_off(14)), false),
            (samples::batch_of(vec![("c".to_string(), integers(most))]), true),
            (samples::batch_of(vec![("c".to_string(), integers(most + 1))]), false),
            (
                samples::batch_of(vec![("c".to_string(), integers(most / 2)), ("d".to_string(), integers(most / 2))]),
                true,
            ),
        ] {
            let batch = import_batch(&source, false);
            assert!(batch.is_plain());
            let (mut first, mut second) = (batch.export(), batch.export());
            // Both lead to the batch's own bytes, unless these are few, by tables of their own.
            let (these, those) = (addresses(&first), addresses(&second));
            assert!(these.iter().zip(&those).all(|(this, that)| (this != that) == is_copied));
            assert_ne!(first.buffers, second.buffers);
            let types = source.schema();
            drop(batch);
            let mut moved = Vec::new();
            for index in (0..source.num_columns()).rev() {
                // SAFETY: a consumer may move children out.
                let child = unsafe { ArrowArray::take(*first.children.add(index)) };
                moved.push((types.field(index).data_type().clone(), source.column(index).clone(), child));
            }
            // SAFETY: exported here; not used afterwards.
            unsafe {
                first.release.unwrap()(&mut first);
                second.release.unwrap()(&mut second);
            }
            let worker = std::thread::spawn(move || {
                for (data_type, expected, child) in moved {
                    // SAFETY: the structs have the same layout, see `raw`; exported with this type.
                    let data = unsafe {
                        let child = std::mem::transmute::<ArrowArray, arrow_data::ffi::FFI_ArrowArray>(child);
                        arrow_array::ffi::from_ffi_and_data_type(child, data_type).unwrap()
                    };
                    data.validate_full().unwrap();
                    assert_eq!(data, expected.to_data());
                }
            });
            worker.join().unwrap();
        }
    }

    #[test]
    fn a_slice_takes_only_what_it_shows() {
        let (_, array) = samples::columns(5000).into_iter().find(|(name, _)| name == "nested_list").unwrap();
        let batch = samples::batch_of(vec![("c".to_string(), array.slice(4000, 2))]);
        let imported = import_batch(&batch, true);
        assert!(imported.is_packed() && imported.bytes() < 600);
        assert_eq!(imported.to_record_batch().unwrap(), batch);
    }

    #[test]
    fn large_batches_are_not_copied() {
        let values: Vec<i64> = (0..10_000).collect();
        let array: ArrayRef = Arc::new(arrow_array::Int64Array::from(values));
        let address = array.to_data().buffers()[0].as_ptr();
        let imported = import_batch(&samples::batch_of(vec![("a".to_string(), array)]), false);
        assert!(!imported.is_packed());
        assert!(imported.bytes() >= 80_000 && imported.bytes() < 81_000);
        let back = imported.to_record_batch().unwrap();
        assert_eq!(back.column(0).to_data().buffers()[0].as_ptr(), address);
    }

    thread_local! {
        static RELEASED: Cell<usize> = const { Cell::new(0) };
    }

    /// Wraps the release callback of the top struct, and counts it.
    struct Counted<T> {
        inner: T,
    }

    unsafe extern "C" fn counted_array(array: *mut ArrowArray) {
        // SAFETY: set by `count`.
        unsafe {
            (*array).release = None;
            drop(Box::from_raw((*array).private_data.cast::<Counted<ArrowArray>>()).inner);
        }
        RELEASED.with(|released| released.set(released.get() + 1));
        TOTAL.fetch_add(1, Ordering::Relaxed);
    }

    unsafe extern "C" fn counted_schema(schema: *mut ArrowSchema) {
        // SAFETY: set by `count`.
        unsafe {
            (*schema).release = None;
            drop(Box::from_raw((*schema).private_data.cast::<Counted<ArrowSchema>>()).inner);
        }
        RELEASED.with(|released| released.set(released.get() + 1));
    }

    static TOTAL: AtomicUsize = AtomicUsize::new(0);

    fn count(batch: &RecordBatch) -> (ArrowArray, ArrowSchema) {
        let (array, schema) = samples::foreign(batch);
        let counted_a = ArrowArray {
            length: array.length,
            null_count: array.null_count,
            offset: array.offset,
            n_buffers: array.n_buffers,
            n_children: array.n_children,
            buffers: array.buffers,
            children: array.children,
            dictionary: array.dictionary,
            release: Some(counted_array),
            private_data: Box::into_raw(Box::new(Counted { inner: array })).cast(),
        };
        let counted_s = ArrowSchema {
            format: schema.format,
            name: schema.name,
            metadata: schema.metadata,
            flags: schema.flags,
            n_children: schema.n_children,
            children: schema.children,
            dictionary: schema.dictionary,
            release: Some(counted_schema),
            private_data: Box::into_raw(Box::new(Counted { inner: schema })).cast(),
        };
        (counted_a, counted_s)
    }

    fn released() -> usize {
        RELEASED.with(|released| released.replace(0))
    }

    #[test]
    fn producers_are_released_exactly_once() {
        // Packed: at once.
        let (mut array, mut schema) = count(&samples::small());
        // SAFETY: made by arrow-rs.
        let batch = unsafe { import(&mut array, &mut schema, false) }.unwrap();
        drop((array, schema));
        assert_eq!(released(), 2);
        drop(batch);
        assert_eq!(released(), 0);

        // Kept: the array with the last owner.
        let large = samples::batch_of(samples::columns(3000));
        let (mut array, mut schema) = count(&large);
        // SAFETY: made by arrow-rs.
        let batch = unsafe { import(&mut array, &mut schema, false) }.unwrap();
        assert_eq!(released(), 1);
        let (clone, exported) = (batch.clone(), batch.export());
        let record_batch = batch.to_record_batch().unwrap();
        drop((batch, clone, exported));
        assert_eq!(released(), 0);
        drop(record_batch);
        assert_eq!(released(), 1);

        // A bad schema, a bad array, and a call that failed before.
        let (mut array, mut schema) = count(&large);
        schema.n_children = -1;
        // SAFETY: made by arrow-rs; what is wrong is checked.
        unsafe { import(&mut array, &mut schema, false) }.unwrap_err();
        assert_eq!(released(), 2);
        let (mut array, mut schema) = count(&large);
        array.length = -1;
        // SAFETY: as above.
        unsafe { import(&mut array, &mut schema, false) }.unwrap_err();
        assert_eq!(released(), 2);
        let (mut array, mut schema) = count(&large);
        // SAFETY: made by arrow-rs.
        unsafe { consume(&mut array, &mut schema) };
        drop((array, schema));
        assert_eq!(released(), 2);
        // SAFETY: NULL is fine.
        unsafe { consume(ptr::null_mut(), ptr::null_mut()) };
        assert_eq!(released(), 0);
    }

    #[test]
    fn moved_children_live_on_their_own() {
        for rows in [3, 3000] {
            let source = samples::batch_of(samples::columns(rows));
            let (mut array, mut schema) = count(&source);
            // SAFETY: made by arrow-rs.
            let batch = unsafe { import(&mut array, &mut schema, false) }.unwrap();
            released();
            let mut exported = batch.export();
            let mut exported_schema = batch.export_schema();
            drop(batch);
            let mut moved = Vec::new();
            for index in 0..source.num_columns() {
                if index % 2 == 0 {
                    // SAFETY: a consumer may move children out.
                    unsafe {
                        let array = ArrowArray::take(*exported.children.add(index));
                        let schema = ArrowSchema::take(*exported_schema.children.add(index));
                        moved.push((index, array, schema));
                    }
                }
            }
            // SAFETY: exported here; not used afterwards. The callbacks mark them as released.
            unsafe {
                exported.release.unwrap()(&mut exported);
                exported_schema.release.unwrap()(&mut exported_schema);
            }
            assert!(exported.release.is_none() && exported_schema.release.is_none());
            let worker = std::thread::spawn(move || {
                for (index, array, schema) in moved {
                    // SAFETY: the structs have the same layout, see `raw`.
                    let data = unsafe {
                        let array = std::mem::transmute::<ArrowArray, arrow_data::ffi::FFI_ArrowArray>(array);
                        let schema = std::mem::transmute::<ArrowSchema, arrow_schema::ffi::FFI_ArrowSchema>(schema);
                        arrow_array::ffi::from_ffi(array, &schema).unwrap()
                    };
                    data.validate_full().unwrap();
                    assert_eq!(data, source.column(index).to_data());
                }
            });
            let before = TOTAL.load(Ordering::Relaxed);
            worker.join().unwrap();
            if rows == 3000 {
                assert!(TOTAL.load(Ordering::Relaxed) > before);
            }
        }
    }

    /// Imports what `spoil` made of a batch; gives the message.
    fn refused_after(batch: &RecordBatch, full: bool, spoil: impl FnOnce(&mut ArrowArray, &mut ArrowSchema)) -> String {
        let (mut array, mut schema) = samples::foreign(batch);
        let (whole_array, whole_schema) = (copy(&array), copy(&schema));
        // What a call of the import consumes must not be what arrow-rs is to free: the counts may
        // be wrong. So the import gets a struct without an owner behind it.
        spoil(&mut array, &mut schema);
        let had_release = array.release.is_some();
        let had_schema_release = schema.release.is_some();
        if had_release {
            array.release = Some(mark_array);
        }
        if had_schema_release {
            schema.release = Some(mark_schema);
        }
        // SAFETY: made by arrow-rs; what `spoil` does is what is checked.
        let failure = unsafe { import(&mut array, &mut schema, full) }.unwrap_err();
        assert!(array.release.is_none() && schema.release.is_none());
        assert_eq!(failure.status, Failure::invalid_argument("").status);
        drop((std::mem::ManuallyDrop::into_inner(whole_array), std::mem::ManuallyDrop::into_inner(whole_schema)));
        failure.into_details().message
    }

    fn copy<T>(value: &T) -> std::mem::ManuallyDrop<T> {
        // SAFETY: only one of the two is dropped.
        std::mem::ManuallyDrop::new(unsafe { ptr::read(value) })
    }

    unsafe extern "C" fn mark_array(array: *mut ArrowArray) {
        // SAFETY: called by the import with its struct.
        unsafe { (*array).release = None };
    }

    unsafe extern "C" fn mark_schema(schema: *mut ArrowSchema) {
        // SAFETY: called by the import with its struct.
        unsafe { (*schema).release = None };
    }

    /// Child `index`, to be spoilt; put back as it was when the guard goes.
    fn child(array: &mut ArrowArray, index: usize) -> &mut ArrowArray {
        // SAFETY: made by arrow-rs with that many children.
        unsafe { &mut **array.children.add(index) }
    }

    fn column(name: &str, rows: usize) -> RecordBatch {
        let column = samples::columns(rows).into_iter().find(|(candidate, _)| candidate == name).unwrap();
        samples::batch_of(vec![column])
    }

    /// Spoils the array of the only column; the original is restored before arrow-rs frees it.
    fn refused_column(name: &str, full: bool, spoil: impl Fn(&mut ArrowArray)) -> String {
        let mut messages = Vec::new();
        for rows in [6, 4000] {
            let batch = column(name, rows);
            let mut kept: Option<(*mut ArrowArray, std::mem::ManuallyDrop<ArrowArray>)> = None;
            let (mut array, mut schema) = samples::foreign(&batch);
            let original = child(&mut array, 0);
            kept.replace((original, copy(original)));
            spoil(original);
            let owner = copy(&array);
            array.release = Some(mark_array);
            // SAFETY: made by arrow-rs; what `spoil` does is what is checked.
            let result = unsafe { import(&mut array, &mut schema, full) };
            assert!(array.release.is_none() && schema.release.is_none());
            let failure = match result {
                Err(failure) => failure,
                Ok(_) => panic!("{name} of {rows} rows was accepted"),
            };
            assert_eq!(failure.status, Failure::invalid_argument("").status);
            messages.push(failure.into_details().message);
            let (place, whole) = kept.unwrap();
            // SAFETY: the column as it was, so that arrow-rs can free it.
            unsafe { ptr::write(place, std::mem::ManuallyDrop::into_inner(whole)) };
            drop(std::mem::ManuallyDrop::into_inner(owner));
        }
        messages.swap_remove(0)
    }

    #[test]
    fn hostile_schemas_are_refused() {
        let batch = samples::small();
        let refused = |spoil: &dyn Fn(&mut ArrowSchema)| refused_after(&batch, false, |_, schema| spoil(schema));
        // SAFETY (of the closures): the structs were made by arrow-rs; the children are put back by
        // nobody, so nothing but the struct itself is spoilt here.
        let says = |message: String, text: &str| assert!(message.contains(text), "{message}");
        says(refused(&|schema| schema.release = None), "already released");
        says(refused(&|schema| schema.format = ptr::null()), "format is NULL");
        says(refused(&|schema| schema.format = c"i".as_ptr()), "must be \"+s\"");
        says(refused(&|schema| schema.format = c"\xff".as_ptr()), "not UTF-8");
        says(refused(&|schema| schema.name = c"\xff\xfe".as_ptr()), "not UTF-8");
        says(refused(&|schema| schema.n_children = -1), "-1 children");
        says(refused(&|schema| schema.n_children = i64::MAX), "children");
        says(refused(&|schema| schema.children = ptr::null_mut()), "NULL");
        let mut no_children = [ptr::null_mut(); 4];
        let table = no_children.as_mut_ptr();
        says(refused(&|schema| schema.children = table), "child 0");
        let mut own = ArrowSchema::released();
        own.release = Some(mark_schema);
        own.format = c"+s".as_ptr();
        let mut links = [&raw mut own; 1];
        own.n_children = 1;
        own.children = links.as_mut_ptr();
        let cycle = &raw mut own;
        let links = links.as_mut_ptr();
        says(
            refused(&|schema| {
                schema.n_children = 1;
                schema.children = links;
            }),
            "deeper than 64",
        );
        // SAFETY: ours; nothing owns anything.
        unsafe { (*cycle).release = None };
        for (block, text) in [
            ([-1i32, 0, 0, 0], "count"),
            ([1, -5, 0, 0], "key length"),
            ([1, 0, -2, 0], "value length"),
            ([1, i32::MAX, 0, 0], "key length"),
            ([1, 0, i32::MAX, 0], "value length"),
            ([1, 4, -1, 0], "UTF-8"),
        ] {
            let pointer = block.as_ptr().cast();
            says(refused(&|schema| schema.metadata = pointer), text);
        }
    }

    /// A column's schema with this format, on its own.
    fn schema_of(format: &CStr, children: i64, dictionary: bool) -> Result<SchemaRef, Failure> {
        fn leaf(format: &CStr) -> ArrowSchema {
            let mut schema = ArrowSchema::released();
            schema.format = format.as_ptr();
            schema.name = c"x".as_ptr();
            schema.release = Some(mark_schema);
            schema
        }
        let mut values = [leaf(c"i"), leaf(c"i")];
        let mut value_links = [&raw mut values[0], &raw mut values[1]];
        let mut dictionary_values = leaf(c"u");
        let mut column = leaf(format);
        column.n_children = children;
        column.children = value_links.as_mut_ptr();
        if dictionary {
            column.dictionary = &mut dictionary_values;
        }
        let mut links = [&raw mut column];
        let mut top = leaf(c"+s");
        top.n_children = 1;
        top.children = links.as_mut_ptr();
        // SAFETY: built here.
        let result = unsafe { SchemaRef::import(&mut top) };
        assert!(top.release.is_none());
        result
    }

    #[test]
    fn unknown_and_impossible_types_are_refused() {
        assert!(schema_of(c"l", 0, false).is_ok());
        assert!(schema_of(c"l", 0, true).is_ok());
        assert!(schema_of(c"+us:0,1", 2, false).is_ok());
        for (format, children, dictionary) in [
            (c"", 0, false),
            (c"?", 0, false),
            (c"w:-5", 0, false),
            (c"w:x", 0, false),
            (c"w:99999999999", 0, false),
            (c"+w:-1", 1, false),
            (c"d:99,99", 0, false),
            (c"d:0,0", 0, false),
            (c"d:5,2,48", 0, false),
            (c"d:10,2,32", 0, false),
            (c"tsx:", 0, false),
            (c"+l", 0, false),
            (c"+l", 2, false),
            (c"+m", 1, false),
            (c"+r", 1, false),
            (c"+us:", 0, false),
            (c"+us:0,1", 1, false),
            (c"+us:0,0", 2, false),
            (c"+ud:-1,2", 2, false),
            (c"+ud:0,200", 2, false),
            (c"i", 1, false),
            (c"g", 0, true),
            (c"u", 0, true),
        ] {
            let failure = match schema_of(format, children, dictionary) {
                Err(failure) => failure,
                Ok(schema) => panic!("{format:?} was accepted as {:?}", schema.arrow()),
            };
            assert_eq!(failure.status, Failure::invalid_argument("").status);
            assert!(failure.message.starts_with("schema: "), "{}", failure.message);
        }
        // SAFETY: NULL is checked.
        let failure = unsafe { SchemaRef::import(ptr::null_mut()) }.unwrap_err();
        assert_eq!(failure.message, "the schema is NULL");
    }

    #[test]
    fn hostile_tops_are_refused() {
        let batch = samples::small();
        let says = |text: &str, spoil: &dyn Fn(&mut ArrowArray)| {
            let message = refused_after(&batch, false, |array, _| spoil(array));
            assert!(message.contains(text), "{message}");
        };
        says("already released", &|array| array.release = None);
        says("length is -1", &|array| array.length = -1);
        says("length is", &|array| array.length = i64::MAX);
        says("offset -1", &|array| array.offset = -1);
        says("offset", &|array| array.offset = i64::MAX);
        says("needs 2", &|array| array.length = 2);
        says("needs 2", &|array| array.offset = 1);
        says("null count is 2", &|array| array.null_count = 2);
        says("null count is -2", &|array| array.null_count = -2);
        says("no validity bitmap", &|array| array.null_count = 1);
        says("buffers", &|array| array.n_buffers = 0);
        says("buffers", &|array| array.n_buffers = 2);
        says("buffers", &|array| array.n_buffers = -1);
        says("table of buffers", &|array| array.buffers = ptr::null_mut());
        says("3 children, not 4", &|array| array.n_children = 3);
        says("children", &|array| array.n_children = -1);
        says("table of children", &|array| array.children = ptr::null_mut());
        let mut none = [ptr::null_mut::<ArrowArray>(); 4];
        let none = none.as_mut_ptr();
        says("child 0 is NULL", &|array| array.children = none);
        let mut other = ArrowArray::released();
        let other = &raw mut other;
        says("dictionary", &|array| array.dictionary = other);
        let mut gone = [other; 4];
        let gone = gone.as_mut_ptr();
        // SAFETY: a released child that is long enough.
        unsafe { (*other).length = 1 };
        says("already released", &|array| array.children = gone);
        let bits = [0u8];
        let mut bitmap = [bits.as_ptr().cast::<c_void>()];
        let bitmap = bitmap.as_mut_ptr();
        says("rows are null", &|array| {
            array.buffers = bitmap;
            array.null_count = 1;
        });
        says("rows are null", &|array| {
            array.buffers = bitmap;
            array.null_count = -1;
        });
        says("null count is 0", &|array| {
            array.buffers = bitmap;
            array.null_count = 0;
        });

        let schema = SchemaRef::from_arrow(&batch.schema()).unwrap();
        // SAFETY: NULL is checked.
        let failure = unsafe { Batch::import(ptr::null_mut(), &schema, false) }.unwrap_err();
        assert_eq!(failure.message, "the array is NULL");
    }

    #[test]
    fn a_top_bitmap_without_nulls_is_fine() {
        let bits = [1u8];
        let mut bitmap = [bits.as_ptr().cast::<c_void>()];
        let (mut array, mut schema) = samples::foreign(&samples::small());
        let buffers = std::mem::replace(&mut array.buffers, bitmap.as_mut_ptr());
        assert!(!buffers.is_null());
        array.null_count = -1;
        // SAFETY: made by arrow-rs, but for the bitmap.
        let batch = unsafe { import(&mut array, &mut schema, true) }.unwrap();
        assert_eq!(batch.to_record_batch().unwrap(), samples::small());
    }

    /// Writes `value` over element `index` of a buffer; arrow-rs frees it by its allocation.
    fn poke<T>(array: &mut ArrowArray, buffer: usize, index: usize, value: T) {
        // SAFETY: a buffer of arrow-rs with that many elements, shared with nobody who is read.
        unsafe {
            let start = (*array.buffers.add(buffer)).cast::<T>().cast_mut();
            start.add(index).write_unaligned(value);
        }
    }

    #[test]
    fn hostile_columns_are_refused() {
        let says = |name: &str, text: &str, spoil: &dyn Fn(&mut ArrowArray)| {
            let message = refused_column(name, false, spoil);
            assert!(message.contains(text), "{name}: {message}");
        };
        fn no_buffer(array: &mut ArrowArray, index: usize) {
            // SAFETY: a table of arrow-rs; its own list of buffers is what it frees.
            unsafe { *array.buffers.add(index) = ptr::null() };
        }
        says("int64", "length", &|array| array.length = -1);
        says("int64", "needs", &|array| array.length -= 1);
        says("int64", "null count", &|array| array.null_count = 1 << 40);
        says("int64", "validity bitmap has", &|array| array.null_count = 1);
        says("int64", "no validity bitmap", &|array| no_buffer(array, 0));
        says("int64", "buffer 1", &|array| no_buffer(array, 1));
        says("int64", "2 children", &|array| array.n_children = 2);
        says("int64", "1 buffers", &|array| array.n_buffers = 1);
        says("month_day_nano", "buffer 1", &|array| no_buffer(array, 1));
        says("boolean", "buffer 1", &|array| no_buffer(array, 1));
        says("utf8", "buffer 1", &|array| no_buffer(array, 1));
        says("utf8", "buffer 2", &|array| no_buffer(array, 2));
        says("utf8", "first offset is -1", &|array| poke(array, 1, 0, -1i32));
        says("utf8", "last one -7", &|array| {
            let last = array.length as usize;
            poke(array, 1, last, -7i32);
        });
        says("utf8", "not aligned", &|array| {
            // SAFETY: the table's own entry; the address is not read.
            unsafe {
                let offsets = array.buffers.add(1);
                *offsets = (*offsets).wrapping_byte_add(1);
            }
        });
        says("large_utf8", "first offset is 100000000", &|array| poke(array, 1, 0, 100_000_000i64));
        says("large_binary", "last one 9223372036854775807", &|array| {
            let last = array.length as usize;
            no_buffer(array, 2);
            poke(array, 1, last, i64::MAX);
            poke(array, 1, 0, -1i64);
        });
        says("list", "its parent needs", &|array| {
            let last = array.length as usize;
            poke(array, 1, last, i32::MAX);
        });
        says("list", "already released", &|array| {
            // The child is put back by nobody: it is replaced, not changed.
            let released = Box::leak(Box::new(ArrowArray::released()));
            released.length = 1 << 30;
            let links = Box::leak(Box::new([&raw mut *released]));
            array.children = links.as_mut_ptr();
        });
        says("fixed_size_list", "its parent needs", &|array| {
            array.offset = 1;
            array.null_count = -1;
        });
        says("map", "its parent needs", &|array| {
            let last = array.length as usize;
            poke(array, 1, last, i32::MAX);
        });
        says("struct", "its parent needs", &|array| {
            array.offset = 3;
            array.null_count = -1;
        });
        says("sparse_union", "its parent needs", &|array| array.offset = 3);
        says("sparse_union", "buffer 0", &|array| no_buffer(array, 0));
        says("dense_union", "buffer 1", &|array| no_buffer(array, 1));
        says("dictionary", "dictionary is NULL", &|array| array.dictionary = ptr::null_mut());
        says("run_end_encoded", "runs end at", &|array| array.offset = 1);
        says("utf8_view", "size of -3", &|array| {
            let sizes = array.n_buffers as usize - 1;
            poke(array, sizes, 0, -3i64);
        });
        says("utf8_view", "buffer 2", &|array| no_buffer(array, 2));
        says("utf8_view", "buffers", &|array| array.n_buffers = 2);
        says("list_view", "buffer 2", &|array| no_buffer(array, 2));
        says("null", "buffers", &|array| array.n_buffers = 1);
    }

    #[test]
    fn hostile_values_are_refused_by_the_full_check() {
        let says = |name: &str, text: &str, spoil: &dyn Fn(&mut ArrowArray)| {
            let message = refused_column(name, true, spoil);
            assert!(message.contains(text), "{name}: {message}");
        };
        says("utf8", "ffset", &|array| poke(array, 1, 2, 100i32.wrapping_neg()));
        says("binary", "ffset", &|array| poke(array, 1, 2, i32::MAX));
        says("utf8", "UTF8", &|array| poke(array, 2, 0, 0xffu8));
        says("list", "ffset", &|array| poke(array, 1, 2, i32::MAX));
        says("list_view", "", &|array| poke(array, 2, 2, i32::MAX));
        says("dictionary", "out of bounds", &|array| poke(array, 1, 0, 100i8));
        says("dictionary", "out of bounds", &|array| poke(array, 1, 0, -1i8));
        says("utf8_view", "", &|array| poke(array, 1, 2, u128::MAX));
        says("sparse_union", "ype id", &|array| poke(array, 0, 0, 5i8));
        says("dense_union", "ffset", &|array| poke(array, 1, 0, i32::MAX));
        says("run_end_encoded", "", &|array| {
            // SAFETY: the run ends are the first child.
            let run_ends = unsafe { &mut **array.children };
            poke(run_ends, 1, 0, 30_000i16);
        });
    }

    #[test]
    fn values_are_checked_before_a_kernel_sees_them() {
        let batch = column("utf8", 6);
        let (mut array, mut schema) = samples::foreign(&batch);
        poke(child(&mut array, 0), 1, 2, i32::MAX);
        // SAFETY: made by arrow-rs.
        let imported = unsafe { import(&mut array, &mut schema, false) }.unwrap();
        for _ in 0..2 {
            let failure = imported.to_record_batch().unwrap_err();
            assert!(failure.message.contains("ffset"), "{}", failure.message);
            imported.clone().validate().unwrap_err();
        }
    }

    #[test]
    fn nulls_in_a_field_that_has_none_are_refused_by_the_full_check() {
        let batch = column("int64", 6);
        let field = batch.schema().field(0).clone().with_nullable(false);
        let schema = SchemaRef::from_arrow(&arrow_schema::Schema::new(vec![field])).unwrap();
        let (mut array, _schema) = samples::foreign(&batch);
        // SAFETY: made by arrow-rs.
        unsafe { Batch::import(&mut array, &schema, true) }.unwrap_err();
    }

    #[test]
    fn bits_are_counted_and_copied() {
        let bitmap: Vec<u8> = (0..64u32).map(|byte| (byte.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let bit = |index: usize| bitmap[index / 8] >> (index % 8) & 1;
        for start in 0..40 {
            for length in 0..200 {
                let expected: usize = (start..start + length).map(|index| bit(index) as usize).sum();
                // SAFETY: within the bitmap.
                let counted = unsafe { count_bits(bitmap.as_ptr(), start, length) };
                assert_eq!(counted, expected);
                if length > 0 {
                    let mut target = vec![0xffu8; length.div_ceil(8)];
                    // SAFETY: within both.
                    unsafe {
                        copy_bits(bitmap[start / 8..].as_ptr(), start % 8, length, target.as_mut_ptr());
                    }
                    for index in 0..target.len() * 8 {
                        let expected = if index < length { bit(start + index) } else { 0 };
                        assert_eq!(target[index / 8] >> (index % 8) & 1, expected);
                    }
                }
            }
        }
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        assert_eq!(span(3, 16).unwrap(), 48);
        for (elements, width) in [(1 << 48, 1 << 20), (usize::MAX, 1), (1 << 60, 8)] {
            let failure = span(elements, width).unwrap_err();
            assert!(failure.message.contains("overflow"), "{}", failure.message);
        }
    }

    #[test]
    fn a_long_list_spills() {
        let mut list: ShortList<usize, 4> = ShortList::new();
        for element in 0..11 {
            list.push(element);
            assert_eq!(list.as_slice(), (0..=element).collect::<Vec<_>>());
        }
    }

    /// Too large to be packed.
    fn large(first: i64) -> RecordBatch {
        let column = |seed: i64| Arc::new(Int64Array::from_iter_values((0..1000).map(|row| seed + row))) as ArrayRef;
        samples::batch_of(vec![("a".to_string(), column(first)), ("b".to_string(), column(-first))])
    }

    #[test]
    fn what_was_given_out_comes_back_as_it_is() {
        let (mut array, mut schema) = samples::foreign(&large(1));
        // SAFETY: made by a producer that keeps the interface.
        let batch = unsafe { import(&mut array, &mut schema, false) }.unwrap();
        let mut array = batch.export();
        // SAFETY: a struct of ours.
        let again = unsafe { Batch::import(&mut array, batch.schema(), false) }.unwrap();
        assert!(again.is_same_object(&batch) && array.release.is_none());

        // A slice of it is another batch.
        let mut array = batch.export();
        (array.length, array.offset) = (999, 1);
        // SAFETY: a consumer may look at a part of what it was given.
        let part = unsafe { Batch::import(&mut array, batch.schema(), false) }.unwrap();
        assert!(!part.is_same_object(&batch));
        assert_eq!(part.to_record_batch().unwrap(), large(1).slice(1, 999));
    }

    #[test]
    fn a_long_chain_of_values_made_from_values_is_released_without_recursion() {
        let (mut array, mut schema) = samples::foreign(&large(0));
        // SAFETY: made by a producer that keeps the interface.
        let mut batch = unsafe { import(&mut array, &mut schema, false) }.unwrap();
        for _ in 0..100_000 {
            let mut array = batch.export();
            (array.length, array.offset) = (999 - array.offset % 2, array.offset % 2);
            // SAFETY: as above.
            batch = unsafe { Batch::import(&mut array, batch.schema(), false) }.unwrap();
        }
        drop(batch);
    }
}
