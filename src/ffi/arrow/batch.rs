//! One Arrow batch in the form in which it crosses the boundary.
//!
//! A batch is one allocation:
//! ```text
//! Header | ArrowArray (kept ones only) | ArrayNode per type | buffer pointers | bytes (packed ones only)
//! ```
//! *Packed*: the buffers were copied behind the tables and the producer's array is gone. *Kept*: the
//! pointers lead into the producer's buffers, and its array is released with the batch. Batches are
//! immutable but for two atomics, and counted: the last owner frees, on whatever thread it is.

use super::export::export_array;
use super::raw::{ArrowArray, ArrowSchema};
use super::schema::SchemaRef;
use crate::ffi::error::Failure;
use crate::stm;
use std::alloc::{Layout as Allocation, alloc, dealloc, handle_alloc_error};
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

/// The allocation's alignment, that of the widest elements (decimals of 128 bits and more, views).
pub(super) const ALIGNMENT: usize = 16;

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

#[repr(C)]
struct Header {
    references: AtomicUsize,
    schema: SchemaRef,
    allocated: usize,
    /// Memory that the batch holds, this allocation included.
    bytes: u64,
    buffer_count: u32,
    kept: bool,
    /// Whether the values passed the full validation.
    validated: AtomicBool,
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
        Batch::from_c(unsafe { ArrowArray::take(array) }, schema, full)
    }

    /// A struct that holds this batch on its own; it outlives everything else, its children may be
    /// moved out of it, and each may be released on any thread.
    pub fn export(&self) -> ArrowArray {
        export_array(self)
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
        self.nodes()[0].length as u64
    }

    /// Memory that the batch holds: its own, and what its rows take of buffers that it keeps.
    pub fn bytes(&self) -> u64 {
        self.header().bytes
    }

    pub(super) fn nodes(&self) -> &[ArrayNode] {
        // SAFETY: the allocation has one node for each type of the layout, written before the batch
        // was handed out.
        unsafe { std::slice::from_raw_parts(self.nodes_start().cast(), self.schema().layout().nodes().len()) }
    }

    pub(super) fn buffers(&self) -> &[*const c_void] {
        // SAFETY: the pointers stand behind the nodes, as many as the header says.
        unsafe {
            let table = self.nodes_start().add(size_of_val(self.nodes()));
            std::slice::from_raw_parts(table.cast(), self.header().buffer_count as usize)
        }
    }

    /// Whether the buffers stand in the batch's own allocation.
    #[cfg(test)]
    pub(super) fn is_packed(&self) -> bool {
        !self.header().kept
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

    fn nodes_start(&self) -> *const u8 {
        // SAFETY: within the allocation.
        unsafe { self.header.as_ptr().cast::<u8>().add(tables_start(self.header().kept)) }
    }
}

/// Where the tables begin.
fn tables_start(kept: bool) -> usize {
    size_of::<Header>() + if kept { size_of::<ArrowArray>() } else { 0 }
}

/// The sizes of a batch that is about to be built.
pub(super) struct Shape<'a> {
    pub(super) schema: &'a SchemaRef,
    pub(super) buffer_count: u32,
    /// Bytes behind the tables.
    pub(super) data_bytes: usize,
    /// Bytes that an array to keep holds.
    pub(super) kept_bytes: usize,
}

/// A batch whose tables are not yet written.
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
        let allocation = allocation(allocated);
        // SAFETY: the size is not zero.
        let start = unsafe { alloc(allocation) };
        let Some(header) = NonNull::new(start.cast::<Header>()) else { handle_alloc_error(allocation) };
        // SAFETY: allocated just now; all positions lie within and are aligned: header, array, nodes
        // and pointers to 8, data to 16.
        unsafe {
            header.write(Header {
                references: AtomicUsize::new(1),
                schema: shape.schema.clone(),
                allocated,
                bytes: (allocated + if kept { shape.kept_bytes } else { 0 }) as u64,
                buffer_count: shape.buffer_count,
                kept,
                validated: AtomicBool::new(false),
            });
            if let Some(array) = array {
                start.add(size_of::<Header>()).cast::<ArrowArray>().write(array);
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
        // The destructor reads the header and the array only, and these are written.
        drop(Batch { header: self.header });
    }
}

fn allocation(size: usize) -> Allocation {
    // SAFETY: the alignment is a power of two; the sizes are bounded, see `allocate`.
    unsafe { Allocation::from_size_align_unchecked(size, ALIGNMENT) }
}

impl Clone for Batch {
    fn clone(&self) -> Batch {
        // Relaxed: a new reference comes from one that is there, so the batch cannot go meanwhile.
        let before = self.header().references.fetch_add(1, Ordering::Relaxed);
        if before > isize::MAX as usize {
            // Forgotten clones came near to the counter's end: a wrap would free a live batch.
            std::process::abort();
        }
        Batch { header: self.header }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // Release pairs with the fence below: every use of the batch happens before it is freed.
        if self.header().references.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        // Acquire pairs with the Release of the other owners' decrements.
        fence(Ordering::Acquire);
        // SAFETY: the last owner; what is read out of the allocation is not used there again. The
        // producer's callback runs last, when nothing of the batch is left.
        unsafe {
            let start = self.header.as_ptr().cast::<u8>();
            let kept = self.header().kept.then(|| ptr::read(start.add(size_of::<Header>()).cast::<ArrowArray>()));
            let schema = ptr::read(&raw const (*self.header.as_ptr()).schema);
            dealloc(start, allocation(self.header().allocated));
            drop(schema);
            drop(kept);
        }
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
}
