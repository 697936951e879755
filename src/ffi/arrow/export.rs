//! Export of schemas and batches: one allocation each.
//!
//! The struct at the top is the consumer's; the structs under it, and the pointers to them, stand in
//! one block together with what keeps the strings or the buffers alive, or with a copy of the buffers
//! where these are small: so readers of one value write nothing that they share. A consumer may move
//! any struct out of the block and release it on its own, on any thread, so the block counts the
//! structs that are not released yet; the one that takes the count to zero frees it.

use super::batch::{ALIGNMENT, ArrayNode, Batch, Content, PLAIN_DATA_AT};
use super::layout::{Layout, PlainLayout};
use super::raw::{ArrowArray, ArrowSchema};
use super::schema::SchemaRef;
use crate::stm::meters::ShardedCounter;
use std::alloc::{Layout as Allocation, alloc, dealloc, handle_alloc_error};
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of the columns of a plain batch that is exported as a copy: fewer are copied sooner than the batch is counted.
pub(super) const COPY_LIMIT: usize = 256;

/// The head of a block of `T` structs. Behind it stand the structs under the top one, in the order of
/// the layout's nodes, and behind those the child pointers of all nodes. Where the batch is plain, each
/// struct has its buffer pointers with it, and the bytes come last if they are copied.
#[repr(C)]
struct Block<T, O> {
    /// Structs not released yet, the top one included.
    live: AtomicUsize,
    /// Structs that there were at first.
    structs: usize,
    size: usize,
    owner: O,
    /// The one buffer pointer of the top of a plain batch.
    no_validity: *const c_void,
    children: [T; 0],
}

/// A column of a plain batch.
#[repr(C)]
struct ColumnExport {
    array: ArrowArray,
    buffers: [*const c_void; 2],
}

impl<T, O> Block<T, O> {
    /// A block for the structs of `layout`; these and the pointers are not yet written.
    fn for_layout(layout: &Layout, owner: O) -> *mut Block<T, O> {
        // Bounded by the limits on a schema: no overflow.
        let structs = layout.nodes().len();
        let size = size_of::<Self>() + (structs - 1) * size_of::<T>() + size_of_val(layout.children());
        Self::allocate(structs, size, owner)
    }

    /// A block of so many structs, the top one included, and bytes.
    #[inline]
    fn allocate(structs: usize, size: usize, owner: O) -> *mut Block<T, O> {
        let allocation = Self::allocation(size);
        // SAFETY: the size is not zero.
        let block = unsafe { alloc(allocation) }.cast::<Self>();
        if block.is_null() {
            handle_alloc_error(allocation);
        }
        // SAFETY: allocated just now with room for the head, aligned for it.
        unsafe {
            block.write(Block {
                live: AtomicUsize::new(structs),
                structs,
                size,
                owner,
                no_validity: ptr::null(),
                children: [],
            });
        }
        block
    }

    fn allocation(size: usize) -> Allocation {
        const { assert!(align_of::<Self>() <= ALIGNMENT) };
        // SAFETY: the alignment is a power of two; sizes are bounded by the limits on a schema.
        unsafe { Allocation::from_size_align_unchecked(size, ALIGNMENT) }
    }

    /// The struct of `node`, which is not the top one (0).
    ///
    /// # Safety
    /// `block` came from `allocate` with a layout that has this node.
    unsafe fn at(block: *mut Self, node: usize) -> *mut T {
        // SAFETY: the allocation has room for it, by the caller's promise.
        unsafe { (&raw mut (*block).children).cast::<T>().add(node - 1) }
    }

    /// The pointers to children, of all nodes.
    ///
    /// # Safety
    /// `block` came from `allocate`.
    unsafe fn pointers(block: *mut Self) -> *mut *mut T {
        // SAFETY: they stand behind the last struct; both have the alignment of a pointer.
        unsafe { (&raw mut (*block).children).cast::<T>().add((*block).structs - 1).cast() }
    }

    /// Writes the pointers of all nodes to their children.
    ///
    /// # Safety
    /// `block` came from `allocate` with this layout.
    unsafe fn link(block: *mut Self, layout: &Layout) {
        // SAFETY: the allocation has one pointer for each entry, and each entry names a node that
        // is not the top one.
        unsafe {
            let pointers = Self::pointers(block);
            for (position, child) in layout.children().iter().enumerate() {
                pointers.add(position).write(Self::at(block, *child));
            }
        }
    }

    /// Counts `released` structs out; frees the block with the last one.
    ///
    /// # Safety
    /// `block` came from `allocate`; the caller just released so many of its structs and does not
    /// touch them again.
    unsafe fn forget(block: *mut Self, released: usize) {
        // SAFETY: structs that are not counted out yet keep the block; the caller's are among them.
        unsafe {
            // Whoever releases all structs that are left is alone with the block, and need not count. Release pairs
            // with the Acquires of the one who frees: uses of the block happen before.
            let live = &(*block).live;
            if live.load(Ordering::Acquire) == released || live.fetch_sub(released, Ordering::AcqRel) == released {
                let size = (*block).size;
                let owner = ptr::read(&raw const (*block).owner);
                dealloc(block.cast(), Self::allocation(size));
                drop(owner);
            }
        }
    }
}

type SchemaBlock = Block<ArrowSchema, SchemaRef>;
type ArrayBlock = Block<ArrowArray, Pinned>;

/// Bytes of all exported batches that are not released yet, in the whole process: exports outlive databases.
static PINNED_BYTES: ShardedCounter = ShardedCounter::new();

pub(crate) fn pinned_bytes() -> u64 {
    PINNED_BYTES.sum()
}

/// What an export holds, counted while it lives.
struct Pinned {
    bytes: u64,
    /// None where the block has a copy.
    batch: Option<Batch>,
}

impl Pinned {
    fn new(bytes: u64, batch: Option<Batch>) -> Self {
        PINNED_BYTES.add(bytes);
        Pinned { bytes, batch }
    }
}

impl Drop for Pinned {
    #[inline]
    fn drop(&mut self) {
        PINNED_BYTES.subtract(self.bytes);
    }
}

pub(super) fn export_schema(schema: &SchemaRef) -> ArrowSchema {
    let layout = schema.layout();
    let block = SchemaBlock::for_layout(layout, schema.clone());
    // SAFETY: the block was allocated for this layout; each struct is written once, before anybody
    // else knows of it. The strings live as long as the schema, which the block owns.
    unsafe {
        SchemaBlock::link(block, layout);
        let form = |node: usize| {
            let types = &layout.nodes()[node];
            let pointers = schema.field_pointers(node);
            ArrowSchema {
                format: pointers.format,
                name: pointers.name,
                metadata: pointers.metadata,
                flags: pointers.flags,
                n_children: types.child_count as i64,
                children: SchemaBlock::pointers(block).add(types.first_child),
                dictionary: types.dictionary.map_or(ptr::null_mut(), |values| SchemaBlock::at(block, values)),
                release: Some(release_schema),
                private_data: block.cast(),
            }
        };
        for node in 1..layout.nodes().len() {
            SchemaBlock::at(block, node).write(form(node));
        }
        form(0)
    }
}

#[inline]
pub(super) fn export_array(batch: &Batch) -> ArrowArray {
    match batch.content() {
        Content::Plain { layout, rows, data } => {
            let bytes = layout.data_bytes(rows);
            if bytes <= COPY_LIMIT {
                export_plain(layout, rows, data, bytes, None)
            } else {
                export_counted(batch, layout, rows, data, bytes)
            }
        }
        Content::Tables { nodes, buffers } => export_tables(batch, nodes, buffers),
    }
}

/// The batch that `array` is an export of, if it has its tables and nothing of the array was moved out or changed.
pub(super) fn exported_batch(array: &ArrowArray) -> Option<Batch> {
    if !array
        .release
        .is_some_and(|release| ptr::fn_addr_eq(release, release_array as unsafe extern "C" fn(*mut ArrowArray)))
    {
        return None;
    }
    let data = array.private_data;
    let block = data.cast::<ArrayBlock>();
    // SAFETY: an array with this release is a struct of a block, which lives as long as the struct is not released.
    let batch = unsafe { (*block).owner.batch.as_ref() }?;
    let Content::Tables { nodes, buffers } = batch.content() else { return None };
    // SAFETY: as in `export_tables`; structs that were moved out or released are read only for their fields.
    let intact = unsafe {
        let layout = batch.schema().layout();
        let pointers = ArrayBlock::pointers(block);
        let same = |node: usize, there: &ArrowArray| {
            let (types, array) = (&layout.nodes()[node], &nodes[node]);
            let dictionary = types.dictionary.map_or(ptr::null_mut(), |values| ArrayBlock::at(block, values));
            (there.length, there.null_count, there.offset) == (array.length, array.null_count, array.offset)
                && there.n_buffers == i64::from(array.buffer_count)
                && there.n_children == types.child_count as i64
                && ptr::eq(there.buffers, buffers.as_ptr().add(array.first_buffer as usize))
                && ptr::eq(there.children, pointers.add(types.first_child))
                && ptr::eq(there.dictionary, dictionary)
                && there.release.is_some()
                && ptr::eq(there.private_data, data)
        };
        same(0, array)
            && (1..nodes.len()).all(|node| same(node, &*ArrayBlock::at(block, node)))
            && layout
                .children()
                .iter()
                .enumerate()
                .all(|(position, child)| ptr::eq(*pointers.add(position), ArrayBlock::at(block, *child)))
    };
    intact.then(|| batch.clone())
}

#[inline(never)]
fn export_tables(batch: &Batch, nodes: &[ArrayNode], buffers: &[*const c_void]) -> ArrowArray {
    let layout = batch.schema().layout();
    let block = ArrayBlock::for_layout(layout, Pinned::new(batch.bytes(), Some(batch.clone())));
    // SAFETY: the block was allocated for this layout; each struct is written once, before anybody
    // else knows of it. The tables and buffers live as long as the batch, which the block owns.
    unsafe {
        ArrayBlock::link(block, layout);
        let pointers = ArrayBlock::pointers(block);
        let form = |node: usize| {
            let types = &layout.nodes()[node];
            let array = &nodes[node];
            ArrowArray {
                length: array.length,
                null_count: array.null_count,
                offset: array.offset,
                n_buffers: i64::from(array.buffer_count),
                n_children: types.child_count as i64,
                // The interface has no const here; consumers must not write through it.
                buffers: buffers.as_ptr().add(array.first_buffer as usize).cast_mut(),
                children: pointers.add(types.first_child),
                dictionary: types.dictionary.map_or(ptr::null_mut(), |values| ArrayBlock::at(block, values)),
                release: Some(release_array),
                private_data: block.cast(),
            }
        };
        for node in 1..layout.nodes().len() {
            ArrayBlock::at(block, node).write(form(node));
        }
        form(0)
    }
}

/// Apart, so that the export of a small batch, the common one, is short.
#[inline(never)]
fn export_counted(batch: &Batch, layout: &PlainLayout, rows: usize, data: *const u8, bytes: usize) -> ArrowArray {
    export_plain(layout, rows, data, bytes, Some(batch))
}

/// Of a plain batch of so many bytes, which are copied unless the batch is to be kept.
#[inline(always)]
fn export_plain(layout: &PlainLayout, rows: usize, data: *const u8, bytes: usize, kept: Option<&Batch>) -> ArrowArray {
    let columns = layout.columns().len();
    // Bounded by the limits on plain batches: no overflow.
    let pointers_at = size_of::<ArrayBlock>() + columns * size_of::<ColumnExport>();
    let data_at = (pointers_at + columns * size_of::<*mut ArrowArray>()).next_multiple_of(ALIGNMENT);
    let size = data_at + if kept.is_none() { bytes } else { 0 };
    let pinned = Pinned::new((PLAIN_DATA_AT + bytes) as u64, kept.cloned());
    let block = ArrayBlock::allocate(1 + columns, size, pinned);
    let private_data = block.cast();
    let form =
        |buffers: *mut *const c_void, buffer_count: i64, children: *mut *mut ArrowArray, child_count: i64| ArrowArray {
            length: rows as i64,
            null_count: 0,
            offset: 0,
            n_buffers: buffer_count,
            n_children: child_count,
            buffers,
            children,
            dictionary: ptr::null_mut(),
            release: Some(release_array),
            private_data,
        };
    // SAFETY: the block has room for a struct with its buffer pointers and for a child pointer of each column, and, if
    // nothing keeps the batch, for its bytes, at these positions, which are aligned; each is written once, before
    // anybody else knows of it. Bytes that are not copied live as long as the batch, which the block owns then, and the
    // positions of the columns lie within.
    unsafe {
        let start = block.cast::<u8>();
        let data = if kept.is_none() {
            let copy = start.add(data_at);
            match bytes {
                // Of a known size it is a move, and not a call.
                32 => ptr::copy_nonoverlapping(data, copy, 32),
                _ => ptr::copy_nonoverlapping(data, copy, bytes),
            }
            copy.cast_const()
        } else {
            data
        };
        let exports = (&raw mut (*block).children).cast::<ColumnExport>();
        let pointers = start.add(pointers_at).cast::<*mut ArrowArray>();
        layout.each_start(rows, |number, _, start| {
            let export = exports.add(number);
            let buffers = (&raw mut (*export).buffers).cast::<*const c_void>();
            export.write(ColumnExport {
                array: form(buffers, 2, ptr::null_mut(), 0),
                buffers: [ptr::null(), data.add(start).cast()],
            });
            pointers.add(number).write(export.cast());
            true
        });
        form((&raw mut (*block).no_validity).cast(), 1, pointers, columns as i64)
    }
}

macro_rules! release_callback {
    ($callback:ident, $mark:ident, $mark_other:ident, $type:ty, $block:ty) => {
        /// The release callback of exported structs.
        ///
        /// # Safety
        /// As the C Data Interface says: called once for a struct that was exported here, wherever
        /// it was moved.
        unsafe extern "C" fn $callback(exported: *mut $type) {
            if exported.is_null() {
                return;
            }
            // SAFETY: a struct of ours that is not released yet, so its block lives.
            unsafe {
                if (*exported).release.is_none() {
                    return;
                }
                let block = (*exported).private_data.cast::<$block>();
                let released = $mark(exported);
                <$block>::forget(block, released);
            }
        }

        /// Marks a struct and all under it that were not moved away as released; returns how many.
        ///
        /// # Safety
        /// `exported` is a struct of a block that lives, not released yet.
        #[inline]
        unsafe fn $mark(exported: *mut $type) -> usize {
            let mut released = 1;
            // SAFETY: the links lead into the same block, which lives until the caller has counted
            // the structs out.
            unsafe {
                (*exported).release = None;
                let block = (*exported).private_data;
                let children = (*exported).children;
                for number in 0..(*exported).n_children as usize {
                    let child = *children.add(number);
                    if (*child).private_data == block && (*child).n_children == 0 && (*child).dictionary.is_null() {
                        // One that was moved away has no release.
                        released += usize::from((*child).release.is_some());
                        (*child).release = None;
                    } else {
                        released += $mark_other(child, block);
                    }
                }
                let dictionary = (*exported).dictionary;
                if !dictionary.is_null() {
                    released += $mark_other(dictionary, block);
                }
            }
            released
        }

        /// Marks a struct under one of `block`, and all under it; returns how many of the block were marked.
        ///
        /// # Safety
        /// As for the marking of one that is not released, but it may be released already, or be another one that
        /// a consumer has put into the place of ours.
        #[inline(never)]
        unsafe fn $mark_other(child: *mut $type, block: *mut c_void) -> usize {
            // SAFETY: the caller's promise.
            unsafe {
                match (*child).release {
                    None => 0,
                    Some(_) if (*child).private_data == block => $mark(child),
                    Some(release) => {
                        release(child);
                        0
                    }
                }
            }
        }
    };
}

release_callback!(release_schema, mark_schema, mark_other_schema, ArrowSchema, SchemaBlock);
release_callback!(release_array, mark_array, mark_other_array, ArrowArray, ArrayBlock);
