//! Small blocks of memory, of which each thread keeps those that it has released for its next ones.
//!
//! The collector frees versions and values by the dozen, long after they were allocated. The C library's allocator keeps
//! seven blocks of a size at hand; the rest takes its slow ways, both ways. Here a thread keeps some hundreds. Blocks come
//! from the global allocator, one by one, so they may be released by any thread, and those that are too many go back to
//! it, as all do at the end of the thread. No thread waits for another.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::{self, NonNull};

/// So that whoever looks for uses after free finds them, and no model has to know of it.
const PLAIN: bool = cfg!(any(khonsu_plain_allocation, fuzzing, miri, feature = "loom", feature = "shuttle"));

/// Of every block.
pub(crate) const ALIGNMENT: usize = 16;
/// Sizes between those of two classes. A class takes up what the C library's allocator rounds up anyway.
const STEP: usize = 16;
const CLASSES: usize = 16;
/// Blocks of one class that a thread keeps.
const KEPT: usize = 512;

/// A released block.
struct Free {
    next: *mut Free,
}

/// The released blocks of one class. A new list has no room yet, and one of a thread that ends none any more.
struct List {
    first: Cell<*mut Free>,
    room: Cell<usize>,
}

/// The lists of a thread. Without a destructor, which each access would have to ask about.
struct Lists {
    classes: [List; CLASSES],
    opened: Cell<bool>,
}

/// Gives the blocks of a thread back at its end.
struct Closing;

thread_local! {
    static LISTS: Lists = const {
        Lists {
            classes: [const { List { first: Cell::new(ptr::null_mut()), room: Cell::new(0) } }; CLASSES],
            opened: Cell::new(false),
        }
    };
    static CLOSING: Closing = const { Closing };
}

impl Drop for Closing {
    fn drop(&mut self) {
        LISTS.with(|lists| {
            for (class, list) in lists.classes.iter().enumerate() {
                while let Some(block) = list.take() {
                    // SAFETY: it was released, and is of this class.
                    unsafe { dealloc(block.as_ptr(), layout(class)) };
                }
                list.room.set(0);
            }
        });
    }
}

impl List {
    #[inline]
    fn take(&self) -> Option<NonNull<u8>> {
        let block = NonNull::new(self.first.get())?;
        // SAFETY: a block in the list begins with its link.
        self.first.set(unsafe { block.as_ref() }.next);
        self.room.set(self.room.get().wrapping_add(1));
        Some(block.cast())
    }

    /// # Safety
    /// The block is of the list's class, and nobody uses it any more.
    #[inline]
    unsafe fn put(&self, block: NonNull<u8>) {
        // SAFETY: every block has room for a link, and is aligned for one.
        unsafe { block.cast::<Free>().write(Free { next: self.first.get() }) };
        self.first.set(block.as_ptr().cast());
        self.room.set(self.room.get() - 1);
    }
}

/// The class of blocks of so many bytes, which are at least one; [`CLASSES`] or more: none.
const fn class(bytes: usize) -> usize {
    (bytes - 1 + STEP / 2) / STEP
}

const fn layout(class: usize) -> Layout {
    // The sizes that the C library's allocator has: its blocks are eight bytes apart.
    let bytes = class * STEP + STEP / 2;
    match Layout::from_size_align(bytes, ALIGNMENT) {
        Ok(layout) => layout,
        Err(_) => unreachable!(),
    }
}

const fn plain_layout(bytes: usize) -> Layout {
    match Layout::from_size_align(bytes, ALIGNMENT) {
        Ok(layout) => layout,
        Err(_) => panic!("more than fits into memory"),
    }
}

/// A block of so many bytes, which are not zero; nothing is written to it yet.
#[inline]
pub(crate) fn allocate(bytes: usize) -> NonNull<u8> {
    let class = class(bytes);
    if PLAIN || class >= CLASSES {
        return allocate_from(plain_layout(bytes));
    }
    match LISTS.with(|lists| lists.classes[class].take()) {
        Some(block) => block,
        None => allocate_from(layout(class)),
    }
}

#[cold]
fn allocate_from(layout: Layout) -> NonNull<u8> {
    // SAFETY: the size is not zero.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Takes a block back.
///
/// # Safety
/// It came from [`allocate`] with as many bytes, and nobody uses it any more.
#[inline]
pub(crate) unsafe fn release(block: NonNull<u8>, bytes: usize) {
    let class = class(bytes);
    if PLAIN || class >= CLASSES {
        // SAFETY: as it was allocated.
        return unsafe { dealloc(block.as_ptr(), plain_layout(bytes)) };
    }
    LISTS.with(|lists| {
        let list = &lists.classes[class];
        if list.room.get() > 0 {
            // SAFETY: the caller's promise.
            unsafe { list.put(block) };
        } else {
            // SAFETY: as above.
            unsafe { release_beyond(lists, block, class) };
        }
    });
}

/// # Safety
/// As for `release`; the block is of the class.
#[cold]
unsafe fn release_beyond(lists: &Lists, block: NonNull<u8>, class: usize) {
    if !lists.opened.replace(true) && CLOSING.try_with(|_| ()).is_ok() {
        lists.classes.iter().for_each(|list| list.room.set(KEPT));
        // SAFETY: the caller's promise.
        return unsafe { lists.classes[class].put(block) };
    }
    // SAFETY: as it was allocated.
    unsafe { dealloc(block.as_ptr(), layout(class)) };
}

/// A box whose memory is such a block.
pub(super) struct Block<T> {
    value: NonNull<T>,
    owned: PhantomData<T>,
}

// SAFETY: it owns its value, and any thread may release a block.
unsafe impl<T: Send> Send for Block<T> {}

impl<T> Block<T> {
    pub fn new(value: T) -> Self {
        const { assert!(size_of::<T>() > 0 && align_of::<T>() <= ALIGNMENT) };
        let block = allocate(size_of::<T>()).cast::<T>();
        // SAFETY: allocated just now, with this size.
        unsafe { block.write(value) };
        Block { value: block, owned: PhantomData }
    }

    pub fn into_raw(self) -> NonNull<T> {
        ManuallyDrop::new(self).value
    }

    /// # Safety
    /// The pointer came from `into_raw`, and is given back once.
    pub unsafe fn from_raw(value: NonNull<T>) -> Self {
        Block { value, owned: PhantomData }
    }

    pub fn into_inner(self) -> T {
        let block = self.into_raw();
        // SAFETY: it is ours, and not used any more once it was read.
        unsafe {
            let value = block.read();
            release(block.cast(), size_of::<T>());
            value
        }
    }
}

impl<T> Deref for Block<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: it is ours.
        unsafe { self.value.as_ref() }
    }
}

impl<T> Drop for Block<T> {
    fn drop(&mut self) {
        /// Also when the value's own destructor unwinds.
        struct Memory(NonNull<u8>, usize);
        impl Drop for Memory {
            fn drop(&mut self) {
                // SAFETY: allocated with this size; the value in it is gone.
                unsafe { release(self.0, self.1) };
            }
        }
        let _memory = Memory(self.value.cast(), size_of::<T>());
        // SAFETY: it is ours, and not used any more.
        unsafe { self.value.drop_in_place() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_class_has_room_for_its_sizes() {
        for bytes in 1..2000 {
            let class = class(bytes);
            assert!(layout(class).size() >= bytes.max(size_of::<Free>()), "{bytes}");
            assert!(layout(class).size() < bytes + STEP, "{bytes}");
        }
    }

    #[test]
    fn blocks_are_used_again() {
        std::thread::spawn(|| {
            let first = Block::new([1_u64; 7]);
            let place = first.value;
            drop(first);
            let again = Block::new([2_u64; 7]);
            assert_eq!((*again, again.value == place), ([2; 7], !PLAIN));
            assert_eq!(again.into_inner(), [2; 7]);
        })
        .join()
        .unwrap();
    }

    /// Blocks of all sizes, allocated by one thread and released by another, more than are kept.
    #[test]
    fn blocks_go_from_thread_to_thread() {
        let (sender, receiver) = std::sync::mpsc::channel::<(usize, usize, u8)>();
        let releasing = std::thread::spawn(move || {
            for (place, bytes, content) in receiver {
                let block = NonNull::new(ptr::with_exposed_provenance_mut::<u8>(place)).unwrap();
                // SAFETY: the other thread has allocated and filled it, and given it away.
                unsafe {
                    assert!(std::slice::from_raw_parts(block.as_ptr(), bytes).iter().all(|byte| *byte == content));
                    release(block, bytes);
                }
            }
            LISTS.with(|lists| lists.classes.iter().filter(|list| !list.first.get().is_null()).count())
        });
        for round in 0..20_000_usize {
            let bytes = 1 + round % 400;
            let block = allocate(bytes);
            assert!(block.addr().get().is_multiple_of(ALIGNMENT));
            // SAFETY: it has so many bytes.
            unsafe { block.write_bytes(round as u8, bytes) };
            sender.send((block.expose_provenance().get(), bytes, round as u8)).unwrap();
        }
        drop(sender);
        assert_eq!(releasing.join().unwrap(), if PLAIN { 0 } else { CLASSES });
    }

    /// One that is dropped by a thread's own destructors, before and after the lists are closed.
    #[test]
    fn blocks_are_released_at_the_end_of_a_thread() {
        thread_local! {
            static LATE: Cell<Option<Block<Arc<()>>>> = const { Cell::new(None) };
        }
        let counted = Arc::new(());
        for first_closed in [false, true] {
            let held = Block::new(Arc::clone(&counted));
            std::thread::spawn(move || {
                let other = Block::new(1_u64);
                if first_closed {
                    LATE.set(Some(held));
                    drop(other);
                } else {
                    drop(other);
                    LATE.set(Some(held));
                }
            })
            .join()
            .unwrap();
        }
        assert_eq!(Arc::strong_count(&counted), 1);
    }

    #[test]
    fn closed_lists_keep_nothing() {
        std::thread::spawn(|| {
            let blocks: Vec<_> = (0..10_u64).map(Block::new).collect();
            drop(blocks);
            let last = Block::new(1_u64);
            drop(Closing);
            drop(last);
            assert!(LISTS.with(|lists| lists.classes.iter().all(|list| list.first.get().is_null())));
        })
        .join()
        .unwrap();
    }
}
