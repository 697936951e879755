//! One Arrow batch in the form in which it crosses the boundary.
//!
//! A batch is one allocation, in one of three forms:
//! ```text
//! plain:  Header | bytes
//! packed: Header | Extent | ArrayNode per type | buffer pointers | bytes
//! kept:   Header | Extent | ArrowArray | ArrayNode per type | buffer pointers
//! ```
//! *Plain*: the buffers of a small batch were copied, and there are no tables, for the schema and the
//! number of rows determine them (see [`PlainLayout`]): such a batch, one row mostly, takes a cache
//! line or two. *Packed*: the buffers were copied behind the tables. *Kept*: the pointers lead into
//! the producer's buffers, and its array is released with the batch; in the other forms it is gone
//! already. Batches are immutable but for two atomics, and counted: the last owner frees, on whatever
//! thread it is.

use super::export::export_array;
use super::layout::{MAX_PLAIN_ROWS, PlainLayout};
use super::raw::{ArrowArray, ArrowSchema};
use super::schema::SchemaRef;
use crate::ffi::error::Failure;
use crate::stm;
use crate::stm::blocks;
use std::cell::RefCell;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The allocation's alignment, that of the widest elements (decimals of 128 bits and more, views).
pub(super) const ALIGNMENT: usize = blocks::ALIGNMENT;

/// What a buffer of no bytes points to: offsets that begin with 0, aligned for every type.
#[repr(align(64))]
struct Zeros([u8; 64]);
static ZEROS: Zeros = Zeros([0; 64]);

pub(super) fn zeros() -> *const c_void {
    ZEROS.0.as_ptr().cast()
}

/// What an `ArrowArray` of the tree says about itself.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct ArrayNode {
    pub(super) length: i64,
    /// Counted here, never a producer's claim.
    pub(super) null_count: i64,
    pub(super) offset: i64,
    /// Where its buffers begin in the table of pointers.
    pub(super) first_buffer: u32,
    pub(super) buffer_count: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Form {
    Plain,
    Packed,
    Kept,
}

/// What every batch begins with: short, for most are read where no cache has them.
#[repr(C)]
struct Header {
    schema: SchemaRef,
    references: AtomicU32,
    /// 0 unless the batch is plain; the others have nodes.
    plain_rows: u16,
    form: Form,
    /// Whether the values passed the full validation.
    validated: AtomicBool,
}

/// What follows the header of a batch that is not plain.
#[repr(C)]
struct Extent {
    allocated: usize,
    /// Memory that the batch holds, this allocation included.
    bytes: u64,
    buffer_count: u32,
}

const EXTENT_AT: usize = size_of::<Header>().next_multiple_of(align_of::<Extent>());
const ARRAY_AT: usize = EXTENT_AT + size_of::<Extent>();
pub(super) const PLAIN_DATA_AT: usize = size_of::<Header>().next_multiple_of(ALIGNMENT);

const _: () = {
    assert!(PLAIN_DATA_AT == ALIGNMENT, "plain batches are to be as small as can be");
    assert!(MAX_PLAIN_ROWS <= u16::MAX as usize);
    assert!(ARRAY_AT.is_multiple_of(align_of::<ArrowArray>()) && ARRAY_AT.is_multiple_of(align_of::<ArrayNode>()));
};

/// Where a batch has what its arrays consist of.
pub(super) enum Content<'a> {
    /// Behind `data`, at the layout's positions for so many rows.
    Plain { layout: &'a PlainLayout, rows: usize, data: *const u8 },
    /// In tables.
    Tables { nodes: &'a [ArrayNode], buffers: &'a [*const c_void] },
}

/// A checked, immutable batch of one schema; cloning it is a count.
pub struct Batch {
    header: NonNull<Header>,
}

// SAFETY: what a batch leads to is immutable but for its atomics, and an array that it keeps may be
// released on any thread (see `raw`).
unsafe impl Send for Batch {}
// SAFETY: as above.
unsafe impl Sync for Batch {}

impl Batch {
    /// Imports a batch of `schema`. The struct is always consumed: small ones are copied and released
    /// before the call returns, larger ones are kept without a copy and released with the batch.
    ///
    /// Checked always: what is needed to read the batch by the interface, as far as it can be known.
    /// Checked with `full`, and else before the first kernel runs: the values (offsets between the
    /// first and the last, UTF-8, dictionary keys, views, run ends, type ids, nulls in fields that
    /// are not nullable). Fails with INVALID_ARGUMENT.
    ///
    /// # Safety
    /// `array` is NULL or points to a struct that is initialized as the C Data Interface says; what
    /// its pointers lead to is as the interface says.
    pub unsafe fn import(array: *mut ArrowArray, schema: &SchemaRef, full: bool) -> Result<Batch, Failure> {
        if array.is_null() {
            return Err(Failure::invalid_argument("the array is NULL"));
        }
        // SAFETY: the caller's promise.
        let mut array = unsafe { ArrowArray::take(array) };
        Batch::from_c(&mut array, schema, full)
    }

    /// A struct that holds this batch on its own; it outlives everything else, its children may be
    /// moved out of it, and each may be released on any thread. Of a small batch it is a copy.
    pub fn export(&self) -> ArrowArray {
        let mut exported = MaybeUninit::uninit();
        // SAFETY: there is room for the struct, and it is written.
        unsafe {
            self.export_to(exported.as_mut_ptr());
            exported.assume_init()
        }
    }

    /// Writes such a struct.
    ///
    /// # Safety
    /// `out` is valid for writes; it need not be aligned.
    #[inline]
    pub(crate) unsafe fn export_to(&self, out: *mut ArrowArray) {
        // SAFETY: the caller's promise.
        unsafe { export_array(self, out) }
    }

    /// The schema that the batch was imported with.
    pub fn schema(&self) -> &SchemaRef {
        &self.header().schema
    }

    /// A struct that holds the batch's schema on its own.
    pub fn export_schema(&self) -> ArrowSchema {
        self.schema().export()
    }

    /// Rows of the batch.
    pub fn rows(&self) -> u64 {
        if self.header().form == Form::Plain {
            return u64::from(self.header().plain_rows);
        }
        // SAFETY: the tables begin with the node of the batch itself.
        unsafe { (*self.tables()).length as u64 }
    }

    /// Memory that the batch holds: its own, and what its rows take of buffers that it keeps.
    pub fn bytes(&self) -> u64 {
        match self.header().form {
            Form::Plain => self.plain_bytes() as u64,
            Form::Packed | Form::Kept => self.extent().bytes,
        }
    }

    pub(super) fn content(&self) -> Content<'_> {
        let header = self.header();
        if header.form == Form::Plain {
            let rows = usize::from(header.plain_rows);
            return Content::Plain { layout: self.plain_layout(), rows, data: self.plain_data() };
        }
        // SAFETY: the allocation has one node for each type of the layout, and behind these as many
        // pointers as the extent says, all written before the batch was handed out.
        unsafe {
            let nodes = self.tables();
            let node_count = header.schema.layout().nodes().len();
            Content::Tables {
                nodes: std::slice::from_raw_parts(nodes, node_count),
                buffers: std::slice::from_raw_parts(nodes.add(node_count).cast(), self.extent().buffer_count as usize),
            }
        }
    }

    /// Of a plain batch.
    fn plain_layout(&self) -> &PlainLayout {
        self.schema().layout().plain().expect("only batches of plain columns are plain")
    }

    /// Where the columns of a plain batch begin.
    #[inline]
    pub(super) fn plain_data(&self) -> *const u8 {
        debug_assert!(self.is_plain());
        // SAFETY: within the allocation, or at its end: no form is smaller.
        unsafe { self.header.as_ptr().cast::<u8>().add(PLAIN_DATA_AT) }
    }

    /// The allocation of a plain batch, which is all that it holds.
    fn plain_bytes(&self) -> usize {
        PLAIN_DATA_AT + self.plain_layout().data_bytes(usize::from(self.header().plain_rows))
    }

    /// Whether the buffers stand in the batch's own allocation.
    pub(super) fn is_packed(&self) -> bool {
        self.header().form != Form::Kept
    }

    /// Whether it is in the plain form.
    pub(crate) fn is_plain(&self) -> bool {
        self.header().form == Form::Plain
    }

    /// Whether it is in the plain form and has one row.
    #[inline]
    pub(super) fn is_plain_row(&self) -> bool {
        self.header().plain_rows == 1
    }

    /// Whether both are clones of one batch.
    #[cfg(test)]
    pub(super) fn is_same_object(&self, other: &Batch) -> bool {
        self.header == other.header
    }

    pub(super) fn is_validated(&self) -> bool {
        // Relaxed: it tells a fact about immutable data that every owner sees already.
        self.header().validated.load(Ordering::Relaxed)
    }

    pub(super) fn set_validated(&self) {
        // Relaxed: as in `is_validated`.
        self.header().validated.store(true, Ordering::Relaxed);
    }

    fn header(&self) -> &Header {
        // SAFETY: an owner keeps the allocation, whose header was written first.
        unsafe { self.header.as_ref() }
    }

    /// The nodes, and behind them the buffer pointers, of a batch that is not plain.
    fn tables(&self) -> *const ArrayNode {
        debug_assert!(self.header().form != Form::Plain);
        // SAFETY: within the allocation.
        unsafe { self.header.as_ptr().byte_add(tables_start(self.header().form == Form::Kept)).cast() }
    }

    /// Of a batch that is not plain.
    fn extent(&self) -> &Extent {
        debug_assert!(self.header().form != Form::Plain);
        // SAFETY: the extent stands behind the header, and was written with it.
        unsafe { self.header.byte_add(EXTENT_AT).cast().as_ref() }
    }
}

/// Where the tables begin.
fn tables_start(kept: bool) -> usize {
    ARRAY_AT + if kept { size_of::<ArrowArray>() } else { 0 }
}

/// A plain batch whose bytes are not yet written; dropping it frees it.
pub(super) struct UnfilledPlain<'a> {
    header: NonNull<Header>,
    schema: &'a SchemaRef,
    rows: u16,
    allocated: usize,
}

impl<'a> UnfilledPlain<'a> {
    /// Allocates a plain batch of at most [`MAX_PLAIN_ROWS`] rows; `layout` is its schema's.
    pub(super) fn allocate(schema: &'a SchemaRef, layout: &PlainLayout, rows: usize) -> UnfilledPlain<'a> {
        debug_assert!(rows <= MAX_PLAIN_ROWS);
        // Bounded: some columns of some rows of some bytes, see `PlainLayout`.
        let allocated = PLAIN_DATA_AT + layout.data_bytes(rows);
        UnfilledPlain { header: blocks::allocate(allocated).cast::<Header>(), schema, rows: rows as u16, allocated }
    }

    /// Where the columns begin, aligned to [`ALIGNMENT`].
    pub(super) fn data(&self) -> *mut u8 {
        // SAFETY: within the allocation, or at its end.
        unsafe { self.header.as_ptr().cast::<u8>().add(PLAIN_DATA_AT) }
    }

    /// The batch, whose values count as validated.
    ///
    /// # Safety
    /// All bytes of all columns were written.
    pub(super) unsafe fn finish(self) -> Batch {
        let header = self.header;
        // SAFETY: allocated with room for it.
        unsafe {
            header.write(Header {
                schema: self.schema.clone(),
                references: AtomicU32::new(1),
                plain_rows: self.rows,
                form: Form::Plain,
                // There is nothing to check but nulls in columns that must have none, and it has none.
                validated: AtomicBool::new(true),
            });
        }
        std::mem::forget(self);
        Batch { header }
    }
}

impl Drop for UnfilledPlain<'_> {
    fn drop(&mut self) {
        // SAFETY: allocated with this size; the header is not written, nobody else knows of it.
        unsafe { blocks::release(self.header.cast(), self.allocated) }
    }
}

/// The sizes of a batch with tables that is about to be built.
pub(super) struct Shape<'a> {
    pub(super) schema: &'a SchemaRef,
    pub(super) buffer_count: u32,
    /// Bytes behind the tables.
    pub(super) data_bytes: usize,
    /// Bytes that an array to keep holds.
    pub(super) kept_bytes: usize,
}

/// A packed or kept batch whose tables are not yet written.
pub(super) struct Unfilled {
    header: NonNull<Header>,
    pub(super) nodes: *mut ArrayNode,
    pub(super) buffers: *mut *const c_void,
    /// Aligned to [`ALIGNMENT`].
    pub(super) data: *mut u8,
}

impl Unfilled {
    /// Allocates a batch; it keeps `array` unless that is None.
    pub(super) fn allocate(shape: &Shape<'_>, array: Option<ArrowArray>) -> Unfilled {
        let kept = array.is_some();
        let node_bytes = shape.schema.layout().nodes().len() * size_of::<ArrayNode>();
        let buffer_bytes = shape.buffer_count as usize * size_of::<*const c_void>();
        // Bounded: nodes by the limits on a schema, buffers by a u32, data by the packing limit.
        let nodes_at = tables_start(kept);
        let buffers_at = nodes_at + node_bytes;
        let mut data_at = buffers_at + buffer_bytes;
        if shape.data_bytes > 0 {
            data_at = data_at.next_multiple_of(ALIGNMENT);
        }
        let allocated = data_at + shape.data_bytes;
        let header = blocks::allocate(allocated).cast::<Header>();
        let start = header.as_ptr().cast::<u8>();
        // SAFETY: allocated just now; all positions lie within and are aligned: header, extent, array,
        // nodes and pointers to 8, data to 16.
        unsafe {
            header.write(Header {
                schema: shape.schema.clone(),
                references: AtomicU32::new(1),
                plain_rows: 0,
                form: if kept { Form::Kept } else { Form::Packed },
                validated: AtomicBool::new(false),
            });
            start.add(EXTENT_AT).cast::<Extent>().write(Extent {
                allocated,
                bytes: (allocated + if kept { shape.kept_bytes } else { 0 }) as u64,
                buffer_count: shape.buffer_count,
            });
            if let Some(array) = array {
                start.add(ARRAY_AT).cast::<ArrowArray>().write(array);
            }
            Unfilled {
                header,
                nodes: start.add(nodes_at).cast(),
                buffers: start.add(buffers_at).cast(),
                data: start.add(data_at),
            }
        }
    }

    /// The batch.
    ///
    /// # Safety
    /// All nodes and pointers were written, and the pointers hold what the nodes say.
    pub(super) unsafe fn finish(self) -> Batch {
        Batch { header: self.header }
    }

    /// Frees the batch, and releases the array that it keeps.
    pub(super) fn abandon(self) {
        // The destructor reads header, extent and array only, and these are written.
        drop(Batch { header: self.header });
    }
}

impl Clone for Batch {
    fn clone(&self) -> Batch {
        // Relaxed: a new reference comes from one that is there, so the batch cannot go meanwhile.
        let before = self.header().references.fetch_add(1, Ordering::Relaxed);
        if before > i32::MAX as u32 {
            // Two thousand million clones, forgotten ones no doubt: a wrap would free a live batch.
            std::process::abort();
        }
        Batch { header: self.header }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // Release pairs with the load below: every use of the batch happens before it is freed.
        if self.header().references.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        // Acquire pairs with the Release of the other owners' decrements. A load and no fence, as ThreadSanitizer does
        // not model fences.
        self.header().references.load(Ordering::Acquire);
        // SAFETY: the last owner; what is read out of the allocation is not used there again. The
        // producer's callback runs last, when nothing of the batch is left.
        unsafe {
            let start = self.header.as_ptr().cast::<u8>();
            let form = self.header().form;
            let allocated = if form == Form::Plain { self.plain_bytes() } else { self.extent().allocated };
            let kept = (form == Form::Kept).then(|| ptr::read(start.add(ARRAY_AT).cast::<ArrowArray>()));
            let schema = ptr::read(&raw const (*self.header.as_ptr()).schema);
            blocks::release(self.header.cast(), allocated);
            drop(schema);
            if let Some(kept) = kept {
                release_in_turn(kept);
            }
        }
    }
}

/// Releases a producer's array. The producer may be khonsu: a value that was read, changed and put back keeps the value
/// that it was made from, and so on. Releases that come up during one are done after it, so that such a chain does not
/// take the stack.
fn release_in_turn(array: ArrowArray) {
    thread_local! {
        /// Arrays to be released, while one is being released.
        static TURN: RefCell<Option<Vec<ArrowArray>>> = const { RefCell::new(None) };
    }
    /// Ends the turn, also by a panic.
    struct Outermost;
    impl Drop for Outermost {
        fn drop(&mut self) {
            let left = TURN.try_with(|turn| turn.borrow_mut().take());
            drop(left);
        }
    }

    // Without its thread-local storage, at the end of a thread, the closure drops the array at once.
    let first = TURN.try_with(move |turn| match &mut *turn.borrow_mut() {
        Some(waiting) => {
            waiting.push(array);
            None
        }
        none => {
            *none = Some(Vec::new());
            Some(array)
        }
    });
    let Ok(Some(mut array)) = first else { return };
    let _outermost = Outermost;
    loop {
        drop(array);
        let next = TURN.try_with(|turn| turn.borrow_mut().as_mut().and_then(Vec::pop));
        let Ok(Some(waiting)) = next else { return };
        array = waiting;
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Batch")
            .field("schema", self.schema().arrow())
            .field("rows", &self.rows())
            .field("bytes", &self.bytes())
            .finish()
    }
}

impl stm::Chunk for Batch {
    fn same_schema(&self, other: &Batch) -> bool {
        self.schema() == other.schema()
    }

    fn rows(&self) -> u64 {
        Batch::rows(self)
    }

    fn bytes(&self) -> u64 {
        Batch::bytes(self)
    }

    fn location(&self) -> *const () {
        self.header.as_ptr().cast()
    }
}
