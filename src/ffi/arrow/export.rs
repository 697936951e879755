//! Export of schemas and batches: one allocation each.
//!
//! The struct at the top is the consumer's; the structs under it, and the pointers to them, stand in
//! one block together with what keeps the strings or the buffers alive. A consumer may move any
//! struct out of the block and release it on its own, on any thread, so the block counts the structs
//! that are not released yet; the one that takes the count to zero frees it.

use super::batch::{ArrayNode, Batch, Content, zeros};
use super::layout::{Layout, PlainLayout};
use super::raw::{ArrowArray, ArrowSchema};
use super::schema::SchemaRef;
use crate::stm::meters::ShardedCounter;
use std::alloc::{Layout as Allocation, alloc, dealloc, handle_alloc_error};
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The head of a block of `T` structs. Behind it stand the structs under the top one, in the order of
/// the layout's nodes, behind those the child pointers of all nodes, and behind those the buffer
/// pointers of all nodes where the batch has none itself, being plain.
#[repr(C)]
struct Block<T, O> {
    /// Structs not released yet, the top one included.
    live: AtomicUsize,
    /// Structs that there were at first.
    structs: usize,
    size: usize,
    owner: O,
    children: [T; 0],
}

impl<T, O> Block<T, O> {
    /// A block for `layout` with room for so many buffer pointers; its structs and pointers are not
    /// yet written.
    fn allocate(layout: &Layout, buffers: usize, owner: O) -> *mut Block<T, O> {
        let structs = layout.nodes().len();
        // Bounded by the limits on a schema: no overflow.
        let size = size_of::<Self>()
            + (structs - 1) * size_of::<T>()
            + size_of_val(layout.children())
            + buffers * size_of::<*const c_void>();
        let allocation = Self::allocation(size);
        // SAFETY: the size is not zero.
        let block = unsafe { alloc(allocation) }.cast::<Self>();
        if block.is_null() {
            handle_alloc_error(allocation);
        }
        // SAFETY: allocated just now with room for the head, aligned for it.
        unsafe {
            block.write(Block { live: AtomicUsize::new(structs), structs, size, owner, children: [] });
        }
        block
    }

    fn allocation(size: usize) -> Allocation {
        // SAFETY: the alignment is a power of two; sizes are bounded by the limits on a schema.
        unsafe { Allocation::from_size_align_unchecked(size, align_of::<Self>()) }
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
            // Whoever releases all structs at once is alone with the block. Release pairs with the
            // Acquire of the one who counts to zero: uses of the block happen before it is freed.
            if released == (*block).structs || (*block).live.fetch_sub(released, Ordering::AcqRel) == released {
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

/// An exported batch, counted while it lives.
struct Pinned(Batch);

impl Pinned {
    fn new(batch: &Batch) -> Self {
        PINNED_BYTES.add(batch.bytes());
        Pinned(batch.clone())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        PINNED_BYTES.subtract(self.0.bytes());
    }
}

pub(super) fn export_schema(schema: &SchemaRef) -> ArrowSchema {
    let layout = schema.layout();
    let block = SchemaBlock::allocate(layout, 0, schema.clone());
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
        Content::Plain { layout, rows, data } => export_plain(batch, layout, rows, data),
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
    let batch = unsafe { &(*block).owner.0 };
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
    let block = ArrayBlock::allocate(layout, 0, Pinned::new(batch));
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

/// The buffer pointers of a plain batch stand in the block: one of the top, two of each column.
fn export_plain(batch: &Batch, layout: &PlainLayout, rows: usize, data: *const u8) -> ArrowArray {
    let columns = layout.columns().len();
    let block = ArrayBlock::allocate(batch.schema().layout(), 1 + 2 * columns, Pinned::new(batch));
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
            private_data: block.cast(),
        };
    // SAFETY: the block has a struct and a child pointer for each column, whose node is the one behind
    // its index, and room for these buffer pointers; each is written once, before anybody else knows of
    // it. The bytes live as long as the batch, which the block owns, and the positions lie within.
    unsafe {
        let children = ArrayBlock::pointers(block);
        let validity_of_top = children.add(columns).cast::<*const c_void>();
        validity_of_top.write(ptr::null());
        let mut buffers = validity_of_top.add(1);
        layout.for_each_start(rows, |column, start| {
            buffers.write(ptr::null());
            buffers.add(1).write(start.map_or_else(zeros, |start| data.add(start).cast()));
            let child = ArrayBlock::at(block, column + 1);
            child.write(form(buffers, 2, ptr::null_mut(), 0));
            children.add(column).write(child);
            buffers = buffers.add(2);
        });
        form(validity_of_top, 1, children, columns as i64)
    }
}

/// What marking asks of a struct of either kind.
trait Released: Sized {
    fn parts(&mut self) -> (&mut Option<unsafe extern "C" fn(*mut Self)>, *mut c_void, bool);
}

macro_rules! released {
    ($type:ty) => {
        impl Released for $type {
            fn parts(&mut self) -> (&mut Option<unsafe extern "C" fn(*mut Self)>, *mut c_void, bool) {
                (&mut self.release, self.private_data, self.n_children == 0 && self.dictionary.is_null())
            }
        }
    };
}

released!(ArrowSchema);
released!(ArrowArray);

/// Marks a struct that stands under one of `block`, unless it was moved away, by `mark` if there is more under it; returns
/// how many were marked.
///
/// # Safety
/// As for the `mark` of its kind, but the struct may be released already, or be another one that a consumer has put into
/// the place of ours.
#[inline]
unsafe fn mark_child<T: Released>(child: *mut T, block: *mut c_void, mark: unsafe fn(*mut T) -> usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let (release, private_data, is_leaf) = (*child).parts();
        match *release {
            None => 0,
            Some(_) if private_data == block && is_leaf => {
                *release = None;
                1
            }
            Some(_) if private_data == block => mark(child),
            Some(release) => {
                release(child);
                0
            }
        }
    }
}

macro_rules! release_callback {
    ($callback:ident, $mark:ident, $type:ty, $block:ty) => {
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
        unsafe fn $mark(exported: *mut $type) -> usize {
            let mut released = 1;
            // SAFETY: the links lead into the same block, which lives until the caller has counted
            // the structs out; a struct that was moved away has no release.
            unsafe {
                (*exported).release = None;
                let children = (*exported).children;
                for number in 0..(*exported).n_children as usize {
                    released += mark_child(*children.add(number), (*exported).private_data, $mark);
                }
                let dictionary = (*exported).dictionary;
                if !dictionary.is_null() {
                    released += mark_child(dictionary, (*exported).private_data, $mark);
                }
            }
            released
        }
    };
}

release_callback!(release_schema, mark_schema, ArrowSchema, SchemaBlock);
release_callback!(release_array, mark_array, ArrowArray, ArrayBlock);
