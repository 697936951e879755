//! A participant of the collector, and what it retires.
//!
//! The collector keeps a closure for each object that it is to free, and allocates a list for every few dozens of them.
//! So a participant gathers what it has unlinked, and has one closure for all of a batch. What is handed over later is
//! freed later, and not too early: it was unlinked before, and nobody who pins from then on finds it.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ptr::NonNull;

use crossbeam_epoch::{Collector, Guard, LocalHandle};

use super::blocks::Block;
use super::descriptor::Descriptor;
use super::pool::Presence;
use super::version::Version;
use crate::stm::sync::{Ordering, foreign};

/// Objects after which a batch is handed over.
const BATCH: usize = 64;
/// Bytes after which it is, and does not wait in the collector's own list of the participant either, which may be idle
/// for long.
const LARGE: u64 = 64 * 1024;

/// It may move between threads.
pub(crate) struct Participant<C: Send + Sync + 'static> {
    handle: LocalHandle,
    batch: RefCell<Batch<C>>,
}

struct Batch<C> {
    objects: Vec<Retired<C>>,
    /// What the versions among them are charged.
    bytes: u64,
}

/// The address of a retired version, or of a descriptor plus [`IS_DESCRIPTOR`]. It frees what it leads to.
struct Retired<C>(NonNull<u8>, PhantomData<(Version<C>, Descriptor<C>)>);

const IS_DESCRIPTOR: usize = 1;

// SAFETY: a local handle is confined to a thread because its cells are not synchronized; ours is used by one thread at
// a time, handed over with the claim of its slot. Guards made from it are not `Send` and end within a call. What is
// retired belongs to the batch alone, and values are `Send + Sync`.
unsafe impl<C: Send + Sync> Send for Participant<C> {}

impl<C> Drop for Retired<C> {
    fn drop(&mut self) {
        let is_descriptor = self.0.addr().get() & IS_DESCRIPTOR != 0;
        // SAFETY: it is what `version` and `descriptor` below have made: a block that nobody else frees.
        unsafe {
            if is_descriptor {
                drop(Block::<Descriptor<C>>::from_raw(self.0.byte_sub(IS_DESCRIPTOR).cast()));
            } else {
                drop(Block::<Version<C>>::from_raw(self.0.cast()));
            }
        }
    }
}

impl<C: Send + Sync + 'static> Participant<C> {
    pub fn new(collector: &Collector) -> Self {
        Participant { handle: collector.register(), batch: RefCell::new(Batch { objects: Vec::new(), bytes: 0 }) }
    }

    pub fn pin(&self) -> Guard {
        foreign::call();
        self.handle.pin()
    }

    /// Hands all that it has retired to the collector, and has that free what can be freed, as far as it goes at a time.
    pub fn flush(&self) {
        let guard = self.pin();
        self.hand_over(&guard);
        guard.flush();
    }

    fn hand_over(&self, guard: &Guard) {
        let mut batch = self.batch.borrow_mut();
        batch.bytes = 0;
        if !batch.objects.is_empty() {
            let objects = std::mem::replace(&mut batch.objects, Vec::with_capacity(BATCH));
            // SAFETY: all of it is unreachable for later pins; any thread may free it, as values are `Send`.
            unsafe { guard.defer_unchecked(move || drop(objects)) };
        }
    }

    #[inline]
    fn retire(&self, object: NonNull<u8>, bytes: u64, guard: &Guard) {
        let mut batch = self.batch.borrow_mut();
        batch.objects.push(Retired(object, PhantomData));
        batch.bytes += bytes;
        let is_large = batch.bytes >= LARGE;
        if is_large || batch.objects.len() >= BATCH {
            drop(batch);
            self.hand_over(guard);
            if is_large {
                guard.flush();
            }
        }
    }
}

impl<C: Send + Sync + 'static> Drop for Participant<C> {
    fn drop(&mut self) {
        if !self.batch.get_mut().objects.is_empty() {
            self.hand_over(&self.pin());
        }
    }
}

/// What whoever has claimed a slot changes version chains with. The guard is of the collector that the participant is
/// of.
pub(crate) struct Owner<'g, C: Send + Sync + 'static> {
    pub guard: &'g Guard,
    pub presence: &'g Presence<C>,
    pub participant: &'g Participant<C>,
}

impl<C: Send + Sync> Clone for Owner<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C: Send + Sync> Copy for Owner<'_, C> {}

impl<C: Send + Sync + 'static> Owner<'_, C> {
    /// Sees to it that an unlinked version is freed.
    ///
    /// # Safety
    /// Invariant 4: the caller has unlinked it, and nobody else retires it.
    pub(super) unsafe fn retire(&self, version: &Version<C>) {
        let bytes = version.charge.load(Ordering::Relaxed);
        self.presence.tally.retired(bytes);
        self.participant.retire(NonNull::from(version).cast(), bytes, self.guard);
    }

    /// # Safety
    /// Invariant 5: nothing leads to it any more, and nobody else retires it.
    pub(super) unsafe fn retire_descriptor(&self, descriptor: NonNull<Descriptor<C>>) {
        // SAFETY: within the block.
        let marked = unsafe { descriptor.cast::<u8>().byte_add(IS_DESCRIPTOR) };
        self.participant.retire(marked, 0, self.guard);
    }
}
