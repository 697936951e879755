//! Export of schemas and batches: one allocation each, or one for several that are small.
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
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of the columns of a plain batch that is exported as a copy: so many are copied sooner than the batch is counted.
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
    /// Of the allocation; 0 for a block that is part of a group.
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
        unsafe { block.write(Block::head(structs, size, owner)) };
        block
    }

    #[inline]
    fn head(structs: usize, size: usize, owner: O) -> Block<T, O> {
        let live = AtomicUsize::new(structs);
        Block { live, structs, size, owner, no_validity: ptr::null(), children: [] }
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
                if size > 0 {
                    dealloc(block.cast(), Self::allocation(size));
                }
                drop(owner);
            }
        }
    }
}

type SchemaBlock = Block<ArrowSchema, SchemaRef>;
type ArrayBlock = Block<ArrowArray, Held>;

/// Bytes of all exported batches that are not released yet, in the whole process: exports outlive databases.
static PINNED_BYTES: ShardedCounter = ShardedCounter::new();

pub(crate) fn pinned_bytes() -> u64 {
    PINNED_BYTES.sum()
}

/// Exports that are made together have one allocation, if they are small: this, and behind it their blocks.
#[repr(C, align(16))]
struct Group {
    /// Blocks of which not all structs are released.
    live: AtomicUsize,
    size: usize,
    /// Of all blocks, while any of them lives.
    pinned: u64,
}

/// Blocks of a group: one that is kept for long should keep little else.
const GROUP_BLOCKS: usize = 16;
/// Bytes of a block in a group.
const GROUPED_LIMIT: usize = 1024;

const _: () = assert!(align_of::<Group>() == ALIGNMENT && size_of::<Group>().is_multiple_of(ALIGNMENT));

impl Group {
    fn allocation(size: usize) -> Allocation {
        // SAFETY: the alignment is a power of two; sizes are bounded by the two limits.
        unsafe { Allocation::from_size_align_unchecked(size, ALIGNMENT) }
    }

    fn allocate(size: usize) -> NonNull<Group> {
        let allocation = Self::allocation(size);
        // SAFETY: the size is not zero, and there is room for the head, aligned for it.
        unsafe {
            let group = NonNull::new(alloc(allocation).cast()).unwrap_or_else(|| handle_alloc_error(allocation));
            group.write(Group { live: AtomicUsize::new(0), size, pinned: 0 });
            group
        }
    }

    /// Counts a block out; frees the group with the last one.
    ///
    /// # Safety
    /// The group lives, and the caller does not touch that block again.
    unsafe fn forget(group: NonNull<Group>) {
        // SAFETY: blocks that are not counted out yet keep the group; the caller's is among them.
        unsafe {
            // As for the structs of a block.
            let live = &group.as_ref().live;
            if live.load(Ordering::Acquire) == 1 || live.fetch_sub(1, Ordering::AcqRel) == 1 {
                let Group { size, pinned, .. } = *group.as_ref();
                dealloc(group.as_ptr().cast(), Self::allocation(size));
                PINNED_BYTES.subtract(pinned);
            }
        }
    }
}

/// Makes exports together.
pub(crate) struct Exporter {
    /// The group that is being filled, and how many bytes and blocks it has so far.
    group: Option<NonNull<Group>>,
    used: usize,
    blocks: usize,
}

impl Exporter {
    pub(crate) fn new() -> Self {
        Exporter { group: None, used: 0, blocks: 0 }
    }

    /// As [`Batch::export_to`]; with it, at most `left` more batches are to be exported.
    ///
    /// # Safety
    /// `out` is valid for writes. What is given out is not released before the exporter is dropped.
    pub(crate) unsafe fn export_to(&mut self, batch: &Batch, left: usize, out: *mut ArrowArray) {
        // SAFETY: the caller's promise.
        if !unsafe { self.export_grouped(batch, left, out) } {
            // SAFETY: as above.
            unsafe { batch.export_to(out) }
        }
    }

    /// False for a batch that is not to be in a group.
    ///
    /// # Safety
    /// As for `export_to`.
    #[inline(always)]
    unsafe fn export_grouped(&mut self, batch: &Batch, left: usize, out: *mut ArrowArray) -> bool {
        let Content::Plain { layout, rows, data } = batch.content() else { return false };
        let bytes = layout.data_bytes(rows);
        let parts = Parts::of(layout);
        let size = (parts.copy + bytes).next_multiple_of(ALIGNMENT);
        if bytes > COPY_LIMIT || size > GROUPED_LIMIT {
            return false;
        }
        // SAFETY: the group is still being filled.
        let is_full = |group: NonNull<Group>| unsafe { group.as_ref() }.size - self.used < size;
        if self.blocks == GROUP_BLOCKS || self.group.is_none_or(is_full) {
            self.close();
            if left <= 1 {
                return false;
            }
            self.used = size_of::<Group>();
            self.group = Some(Group::allocate(self.used + left.min(GROUP_BLOCKS) * size));
        }
        let Some(mut group) = self.group else { return false };
        // SAFETY: the group has room for a block of this size, at this position, which is aligned.
        unsafe {
            let block = group.as_ptr().byte_add(self.used).cast::<ArrayBlock>();
            block.write(Block::head(1 + layout.columns().len(), 0, Held::Part(group)));
            self.used += size;
            self.blocks += 1;
            group.as_mut().pinned += (PLAIN_DATA_AT + bytes) as u64;
            copy_plain(block, parts, layout, rows, data, bytes, out);
        }
        true
    }

    /// From now on the blocks of the group may be released.
    fn close(&mut self) {
        if let Some(mut group) = self.group.take() {
            // SAFETY: the group lives, and nobody else uses it yet.
            let group = unsafe { group.as_mut() };
            *group.live.get_mut() = std::mem::take(&mut self.blocks);
            PINNED_BYTES.add(group.pinned);
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.close();
    }
}

/// What an export holds, counted as pinned while it lives.
enum Held {
    /// The batch.
    Batch(Batch),
    /// So many bytes, in the block.
    Copy(u64),
    /// The group that the block is part of, which counts for it.
    Part(NonNull<Group>),
}

impl Held {
    fn batch(batch: &Batch) -> Self {
        PINNED_BYTES.add(batch.bytes());
        Held::Batch(batch.clone())
    }

    fn copy(bytes: u64) -> Self {
        PINNED_BYTES.add(bytes);
        Held::Copy(bytes)
    }
}

impl Drop for Held {
    #[inline]
    fn drop(&mut self) {
        match self {
            Held::Batch(batch) => PINNED_BYTES.subtract(batch.bytes()),
            Held::Copy(bytes) => PINNED_BYTES.subtract(*bytes),
            // SAFETY: this is one of the group's blocks, all of whose structs are released.
            Held::Part(group) => unsafe { Group::forget(*group) },
        }
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
                release: Some(if node > 0 && types.is_leaf() { release_leaf_schema } else { release_schema }),
                private_data: block.cast(),
            }
        };
        for node in 1..layout.nodes().len() {
            SchemaBlock::at(block, node).write(form(node));
        }
        form(0)
    }
}

/// Writes the export straight to its place, which spares the common one a copy.
///
/// # Safety
/// `out` is valid for writes; it need not be aligned.
#[inline(always)]
pub(super) unsafe fn export_array(batch: &Batch, out: *mut ArrowArray) {
    // SAFETY: the caller's promise.
    unsafe {
        match batch.content() {
            Content::Plain { layout, rows, data } => {
                let bytes = layout.data_bytes(rows);
                if bytes <= COPY_LIMIT {
                    export_copy(layout, rows, data, bytes, out);
                } else {
                    export_counted(batch, layout, rows, data, out);
                }
            }
            Content::Tables { nodes, buffers } => out.write_unaligned(export_tables(batch, nodes, buffers)),
        }
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
    let Held::Batch(batch) = (unsafe { &(*block).owner }) else { return None };
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
    let block = ArrayBlock::for_layout(layout, Held::batch(batch));
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
                release: Some(if node > 0 && types.is_leaf() { release_leaf_array } else { release_array }),
                private_data: block.cast(),
            }
        };
        for node in 1..layout.nodes().len() {
            ArrayBlock::at(block, node).write(form(node));
        }
        form(0)
    }
}

/// Where the parts of a block for a plain batch begin.
#[derive(Clone, Copy)]
struct Parts {
    pointers: usize,
    copy: usize,
}

impl Parts {
    #[inline]
    fn of(layout: &PlainLayout) -> Parts {
        // Bounded by the limits on plain batches: no overflow.
        let columns = layout.columns().len();
        let pointers = size_of::<ArrayBlock>() + columns * size_of::<ColumnExport>();
        Parts { pointers, copy: (pointers + columns * size_of::<*mut ArrowArray>()).next_multiple_of(ALIGNMENT) }
    }
}

/// Apart, so that the export of a small batch, the common one, is short.
///
/// # Safety
/// As for `export_array`.
#[inline(never)]
unsafe fn export_counted(batch: &Batch, layout: &PlainLayout, rows: usize, data: *const u8, out: *mut ArrowArray) {
    let parts = Parts::of(layout);
    let block = ArrayBlock::allocate(1 + layout.columns().len(), parts.copy, Held::batch(batch));
    // SAFETY: the block has room for all but a copy; it owns the batch, whose bytes these are.
    unsafe { write_plain(block, parts, layout, rows, data, out) }
}

/// Of a plain batch of so many bytes.
///
/// # Safety
/// As for `export_array`.
#[inline(always)]
unsafe fn export_copy(layout: &PlainLayout, rows: usize, data: *const u8, bytes: usize, out: *mut ArrowArray) {
    let parts = Parts::of(layout);
    let held = Held::copy((PLAIN_DATA_AT + bytes) as u64);
    let block = ArrayBlock::allocate(1 + layout.columns().len(), parts.copy + bytes, held);
    // SAFETY: the block has room for all and the copy.
    unsafe { copy_plain(block, parts, layout, rows, data, bytes, out) }
}

/// Copies the bytes of a plain batch into its block, and writes what stands before them.
///
/// # Safety
/// The block has its head and room for the rest; `out` as for `export_array`.
#[inline(always)]
unsafe fn copy_plain(
    block: *mut ArrayBlock,
    parts: Parts,
    layout: &PlainLayout,
    rows: usize,
    data: *const u8,
    bytes: usize,
    out: *mut ArrowArray,
) {
    // SAFETY: the caller's promise; the copy lives as long as the block.
    unsafe {
        let copy = block.cast::<u8>().add(parts.copy);
        if bytes == 32 {
            // Of a known size it is a move, and not a call; as two values, for else the compiler makes one call of both.
            type Half = MaybeUninit<u128>;
            let (first, second) = (data.cast::<Half>().read(), data.cast::<Half>().add(1).read());
            copy.cast::<Half>().write(first);
            copy.cast::<Half>().add(1).write(second);
        } else {
            ptr::copy_nonoverlapping(data, copy, bytes);
        }
        write_plain(block, parts, layout, rows, copy, out);
    }
}

/// Writes all but a copy of the bytes, which are at `data`.
///
/// # Safety
/// The block has its head and room for this, and keeps the bytes; `out` as for `export_array`.
#[inline(always)]
unsafe fn write_plain(
    block: *mut ArrayBlock,
    parts: Parts,
    layout: &PlainLayout,
    rows: usize,
    data: *const u8,
    out: *mut ArrowArray,
) {
    let private_data = block.cast();
    let form =
        |buffers: *mut *const c_void, buffer_count, children: *mut *mut ArrowArray, child_count, release| ArrowArray {
            length: rows as i64,
            null_count: 0,
            offset: 0,
            n_buffers: buffer_count,
            n_children: child_count,
            buffers,
            children,
            dictionary: ptr::null_mut(),
            release: Some(release),
            private_data,
        };
    // SAFETY: the block has room for a struct with its buffer pointers, and for a child pointer, of each column, at these
    // positions, which are aligned; each is written once, before anybody else knows of it. The positions of the columns
    // lie within the bytes.
    unsafe {
        let exports = (&raw mut (*block).children).cast::<ColumnExport>();
        let pointers = block.byte_add(parts.pointers).cast::<*mut ArrowArray>();
        layout.each_start(rows, |number, _, start| {
            let export = exports.add(number);
            let buffers = (&raw mut (*export).buffers).cast::<*const c_void>();
            export.write(ColumnExport {
                array: form(buffers, 2, ptr::null_mut(), 0, release_leaf_array),
                buffers: [ptr::null(), data.add(start).cast()],
            });
            pointers.add(number).write(export.cast());
            true
        });
        let columns = layout.columns().len() as i64;
        out.write_unaligned(form((&raw mut (*block).no_validity).cast(), 1, pointers, columns, release_array));
    }
}

macro_rules! release_callback {
    ($callback:ident, $leaf_callback:ident, $mark:ident, $mark_other:ident, $type:ty, $block:ty) => {
        /// The release callback of exported structs.
        ///
        /// # Safety
        /// As the C Data Interface says: called once for a struct that was exported here, wherever
        /// it was moved.
        // Not inline: the callback of leaves would be the same code, and might become the same function.
        #[inline(never)]
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

        /// That of structs that have no other under them: whoever releases these with their parent knows them by it.
        ///
        /// # Safety
        /// As for the other one.
        unsafe extern "C" fn $leaf_callback(exported: *mut $type) {
            // SAFETY: the caller's promise.
            unsafe { $callback(exported) }
        }

        /// Marks a struct and all under it that were not moved away as released; returns how many.
        ///
        /// # Safety
        /// `exported` is a struct of a block that lives, not released yet.
        #[inline]
        unsafe fn $mark(exported: *mut $type) -> usize {
            // SAFETY: the links lead into the same block, which lives until the caller has counted
            // the structs out.
            unsafe {
                (*exported).release = None;
                let block = (*exported).private_data;
                let (children, count) = ((*exported).children, (*exported).n_children as usize);
                let mut released = 1 + count;
                for number in 0..count {
                    let child = *children.add(number);
                    let is_leaf = (*child).release.is_some_and(|release| {
                        ptr::fn_addr_eq(release, $leaf_callback as unsafe extern "C" fn(*mut $type))
                    });
                    if is_leaf && (*child).private_data == block {
                        (*child).release = None;
                    } else {
                        released = released - 1 + $mark_other(child, block);
                    }
                }
                let dictionary = (*exported).dictionary;
                if !dictionary.is_null() {
                    released += $mark_other(dictionary, block);
                }
                released
            }
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

release_callback!(release_schema, release_leaf_schema, mark_schema, mark_other_schema, ArrowSchema, SchemaBlock);
release_callback!(release_array, release_leaf_array, mark_array, mark_other_array, ArrowArray, ArrayBlock);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::arrow::samples::{batch_of, foreign};
    use arrow_array::Int8Array;
    use std::sync::Arc;

    fn batch(columns: i8) -> Batch {
        let column = |number: i8| (number.to_string(), Arc::new(Int8Array::from(vec![number])) as _);
        let (mut array, mut schema) = foreign(&batch_of((0..columns).map(column).collect()));
        // SAFETY: both are as the interface says.
        unsafe {
            let schema = SchemaRef::import(&mut schema).unwrap();
            Batch::import(&mut array, &schema, false).unwrap()
        }
    }

    /// The first of them, which is wide, makes room for many that are narrow.
    #[test]
    fn a_group_has_so_many_blocks_at_most() {
        let (wide, narrow) = (batch(8), batch(1));
        let mut exporter = Exporter::new();
        let mut exported = Vec::new();
        for number in 0..40 {
            let mut out = ArrowArray::released();
            // SAFETY: it is released below, behind the exporter.
            unsafe { exporter.export_to(if number == 0 { &wide } else { &narrow }, 40 - number, &mut out) };
            assert!((1..=GROUP_BLOCKS).contains(&exporter.blocks) || number == 39, "{number}");
            exported.push(out);
        }
        drop(exporter);
        for out in &mut exported {
            assert!(out.release.is_some());
            out.release_in_place();
        }
    }

    /// A parent tells its children by them.
    #[test]
    fn callbacks_are_not_the_same_function() {
        assert_ne!(release_array as *const () as usize, release_leaf_array as *const () as usize);
        assert_ne!(release_schema as *const () as usize, release_leaf_schema as *const () as usize);
    }
}
