//! The pool of transaction contexts. A slot holds what one running transaction needs, and what the others see of it.
//! Slots are claimed by one swap, reused by whoever comes next, and freed with the database.

use std::cell::{Cell, UnsafeCell};
use std::ptr::NonNull;
use std::sync::Arc;

use crossbeam_epoch::{Collector, Guard, LocalHandle};
use crossbeam_utils::CachePadded;

use super::descriptor::Announcement;
use super::segments::Segments;
use crate::stm::snapshot::SlotWord;
use crate::stm::sync::{self, AtomicBool, AtomicUsize, Ordering, foreign, thread_local};

const FIRST_SEGMENT_BITS: u32 = if sync::MODELLED { 1 } else { 4 };
const SEGMENTS: usize = 28;

/// Transaction contexts `T`, and the database `S` that they belong to. The chunks of its values are `C`.
pub(crate) struct Pool<T, S, C> {
    /// Before `shared`: contexts participate in the collector of the shared part, and go first.
    slots: Segments<Slot<T, C>, FIRST_SEGMENT_BITS, SEGMENTS>,
    len: AtomicUsize,
    shared: S,
}

struct Slot<T, C> {
    presence: CachePadded<Presence<C>>,
    claimed: AtomicBool,
    /// Of whoever has claimed the slot; made by the first.
    context: UnsafeCell<Option<T>>,
}

/// What the others see of the transaction in a slot.
pub(crate) struct Presence<C> {
    pub word: SlotWord,
    pub announcement: Announcement<C>,
}

impl<T, C> Default for Slot<T, C> {
    fn default() -> Self {
        Slot {
            presence: CachePadded::new(Presence { word: SlotWord::new(), announcement: Announcement::new() }),
            claimed: AtomicBool::new(false),
            context: UnsafeCell::new(None),
        }
    }
}

// SAFETY: a context is touched only by the thread that has claimed its slot; the claim hands it over (acquire and
// release of `claimed`). Contexts must be `Send`; the shared part is shared.
unsafe impl<T: Send, S: Send + Sync, C: Send + Sync> Sync for Pool<T, S, C> {}
// SAFETY: as above.
unsafe impl<T: Send, S: Send, C: Send + Sync> Send for Pool<T, S, C> {}

thread_local! {
    /// The slot that this thread used last, in whichever pool: where its next search begins.
    static HINT: Cell<usize> = const { Cell::new(0) };
}

impl<T, S, C> Pool<T, S, C> {
    pub fn new(shared: S) -> Arc<Self> {
        let pool = Pool { slots: Segments::new(), len: AtomicUsize::new(1 << FIRST_SEGMENT_BITS), shared };
        Arc::new(pool)
    }

    pub fn shared(&self) -> &S {
        &self.shared
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    fn slot(&self, number: usize) -> &Slot<T, C> {
        self.slots.get(number)
    }

    /// The words of all slots, those of free slots included.
    pub fn words(&self) -> impl Iterator<Item = &SlotWord> {
        self.presences().map(|presence| &presence.word)
    }

    /// What is seen of all slots, free ones included.
    pub fn presences(&self) -> impl Iterator<Item = &Presence<C>> {
        // The length is read as the walk goes on, not when the iterator is made: a slot beyond it is claimed later, and
        // its snapshot taken later still (SeqCst, as the registration of snapshots is).
        (0..).take_while(|number| *number < self.len.load(Ordering::SeqCst)).map(|number| &*self.slot(number).presence)
    }

    /// Takes a slot; its context is made by `make` where it has none yet.
    pub fn claim(self: &Arc<Self>, make: impl FnOnce(&S) -> T) -> Claim<T, S, C> {
        loop {
            let len = self.len.load(Ordering::SeqCst);
            // Nearly always the first: the slot that this thread used last. A longer way is gone once, as the hint
            // follows.
            let start = HINT.with(Cell::get);
            for number in start..start + len {
                let number = number & (len - 1);
                let slot = self.slot(number);
                if !slot.claimed.load(Ordering::Relaxed)
                    // Acquire: pairs with the release in `Claim::drop`.
                    && slot.claimed.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
                {
                    HINT.with(|hint| hint.set(number));
                    fail_point!(SlotClaimed);
                    // SAFETY: the claim is ours.
                    unsafe { &mut *slot.context.get() }.get_or_insert_with(|| make(&self.shared));
                    return Claim { slot: NonNull::from(slot), pool: Arc::clone(self) };
                }
            }
            fail_point!(BeforeMoreSlots);
            // Somebody else may have doubled it meanwhile; then this does nothing.
            _ = self.len.compare_exchange(len, len * 2, Ordering::SeqCst, Ordering::SeqCst);
            HINT.with(|hint| hint.set(len));
            fail_point!(MoreSlots);
        }
    }
}

impl<T, S, C> Pool<T, S, C> {
    /// Passes the contexts of all slots that nobody uses to `visit`, each claimed meanwhile.
    pub fn visit_free(&self, mut visit: impl FnMut(&mut T)) {
        for number in 0..self.len() {
            let slot = self.slot(number);
            // Acquire and release: as in `claim` and `Claim::drop`.
            if slot.claimed.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                // SAFETY: the claim is ours.
                if let Some(context) = unsafe { &mut *slot.context.get() } {
                    fail_point!(SlotVisited);
                    visit(context);
                }
                slot.claimed.store(false, Ordering::Release);
            }
        }
    }
}

/// A claimed slot: exclusive access to its context. It keeps the database alive.
pub(crate) struct Claim<T, S, C> {
    slot: NonNull<Slot<T, C>>,
    pool: Arc<Pool<T, S, C>>,
}

// SAFETY: it is exclusive access to a context, which is `Send`, and a count of the pool, which is shared.
unsafe impl<T: Send, S: Send + Sync, C: Send + Sync> Send for Claim<T, S, C> {}
// SAFETY: a shared claim gives access to the pool only, which is shared anyway.
unsafe impl<T: Send, S: Send + Sync, C: Send + Sync> Sync for Claim<T, S, C> {}

impl<T, S, C> Claim<T, S, C> {
    fn slot(&self) -> &Slot<T, C> {
        // SAFETY: slots live as long as the pool.
        unsafe { self.slot.as_ref() }
    }

    pub fn pool(&self) -> &Arc<Pool<T, S, C>> {
        &self.pool
    }

    /// The context, with what it is used on.
    pub fn parts(&mut self) -> (&mut T, &Pool<T, S, C>, &Presence<C>) {
        let slot = self.slot.as_ptr();
        // SAFETY: slots live as long as the pool; the claim is exclusive and made the context, and `self` is borrowed
        // exclusively for as long as the parts are. The presence is a field of its own.
        unsafe { ((*(*slot).context.get()).as_mut().unwrap_unchecked(), &self.pool, &(*slot).presence) }
    }
}

impl<T, S, C> Drop for Claim<T, S, C> {
    fn drop(&mut self) {
        fail_point!(BeforeSlotReleased);
        // Release: hands the context over to the next claim.
        self.slot().claimed.store(false, Ordering::Release);
    }
}

/// A participant of the collector, which may move between threads.
pub(crate) struct Participant(LocalHandle);

// SAFETY: a local handle is confined to a thread because its cells are not synchronized; ours is used by one thread at
// a time, handed over with the claim of its slot. Guards made from it are not `Send` and end within a call.
unsafe impl Send for Participant {}

impl Participant {
    pub fn new(collector: &Collector) -> Self {
        Participant(collector.register())
    }

    pub fn pin(&self) -> Guard {
        foreign::call();
        self.0.pin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_exclusive_and_contexts_reused() {
        let pool = Pool::<_, _, u64>::new(());
        let made = Cell::new(0);
        let make = |(): &()| {
            made.set(made.get() + 1);
            made.get()
        };
        let mut claims: Vec<_> = (0..1000).map(|_| pool.claim(make)).collect();
        let mut contexts: Vec<u32> = claims.iter_mut().map(|claim| *claim.parts().0).collect();
        contexts.sort_unstable();
        contexts.dedup();
        assert_eq!(contexts.len(), 1000);
        assert_eq!(pool.len(), 1024);
        drop(claims);
        for _ in 0..100 {
            drop(pool.claim(make));
        }
        assert_eq!(made.get(), 1000);
    }
}
