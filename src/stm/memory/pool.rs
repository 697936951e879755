//! The pool of transaction contexts. A slot holds what one running transaction needs, and what the others see of it.
//! Slots are claimed by one swap, reused by whoever comes next, and freed with the database. The word that is swapped
//! has the snapshot as well: see [`crate::stm::snapshot`].
//!
//! Whoever has claimed a slot keeps the pool. Counting that would make all threads write one line of memory twice a
//! transaction, so a free slot goes on holding its count of the pool for the next to claim it. That is a cycle, which
//! [`close`](Pool::close) breaks when the last handle of the database goes: it takes the counts out of the free slots,
//! and marks the claimed ones, which give theirs back when they are released.

use std::cell::{Cell, UnsafeCell};
use std::ptr::NonNull;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use super::descriptor::Announcement;
use super::notes::Notes;
use super::segments::Segments;
use crate::stm::meters::Tally;
use crate::stm::snapshot::SlotWord;
use crate::stm::sync::{self, AtomicBool, AtomicUsize, Ordering, thread_local, uncontended};

const FIRST_SEGMENT_BITS: u32 = if sync::MODELLED { 1 } else { 4 };
const SEGMENTS: usize = 28;

/// Transaction contexts `T`, and the database `S` that they belong to. The chunks of its values are `C`.
pub(crate) struct Pool<T, S, C> {
    /// Before `shared`: contexts participate in the collector of the shared part, and go first.
    slots: Segments<Slot<T, S, C>, FIRST_SEGMENT_BITS, SEGMENTS>,
    len: AtomicUsize,
    /// Whether free slots may hold a count of the pool.
    is_open: AtomicBool,
    handles: CachePadded<AtomicUsize>,
    shared: S,
}

struct Slot<T, S, C> {
    presence: CachePadded<Presence<C>>,
    /// Of whoever has claimed the slot; made by the first.
    context: UnsafeCell<Option<T>>,
    /// A count of the pool; always there while it is claimed by [`Pool::claim`], and never without a context. Touched
    /// like that.
    pool: UnsafeCell<Option<Arc<Pool<T, S, C>>>>,
}

/// What the others see of the transaction in a slot.
pub(crate) struct Presence<C> {
    pub word: SlotWord,
    pub announcement: Announcement<C>,
    /// Commits from this slot. Here, as all who commit have this line of the cache to themselves already.
    commits: uncontended::AtomicU64,
    /// Of the versions that were installed and retired from this slot.
    pub tally: Tally,
    /// Records in which commits from this slot have left something superfluous.
    pub notes: Notes<C>,
}

impl<C> Presence<C> {
    pub fn new() -> Self {
        Presence {
            word: SlotWord::new(),
            announcement: Announcement::new(),
            commits: uncontended::AtomicU64::new(0),
            tally: Tally::default(),
            notes: Notes::new(),
        }
    }

    /// Counts a commit of whoever has claimed the slot.
    pub fn committed(&self) {
        // Relaxed: nobody else writes it; the claim hands it over.
        self.commits.store(self.commits.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Takes that back.
    pub fn not_committed(&self) {
        // Relaxed: as above.
        self.commits.store(self.commits.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
    }

    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

impl<T, S, C> Default for Slot<T, S, C> {
    fn default() -> Self {
        Slot {
            presence: CachePadded::new(Presence::new()),
            context: UnsafeCell::new(None),
            pool: UnsafeCell::new(None),
        }
    }
}

// SAFETY: a context is touched only by the thread that has claimed its slot; the claim hands it over (acquire and
// release of the word). Contexts must be `Send`; the shared part is shared.
unsafe impl<T: Send, S: Send + Sync, C: Send + Sync> Sync for Pool<T, S, C> {}
// SAFETY: as above.
unsafe impl<T: Send, S: Send, C: Send + Sync> Send for Pool<T, S, C> {}

thread_local! {
    /// The slot that this thread used last, in whichever pool: where its next search begins.
    static HINT: Cell<usize> = const { Cell::new(0) };
}

impl<T, S, C> Pool<T, S, C> {
    pub fn new(shared: S) -> Arc<Self> {
        Arc::new(Pool {
            slots: Segments::new(),
            len: AtomicUsize::new(1 << FIRST_SEGMENT_BITS),
            is_open: AtomicBool::new(false),
            handles: CachePadded::new(AtomicUsize::new(0)),
            shared,
        })
    }

    /// Counts a handle, which says [`handle_dropped`](Pool::handle_dropped) at its end.
    pub fn handle_made(&self) {
        // Relaxed: a new one is made of another, or before anything is closed.
        if self.handles.fetch_add(1, Ordering::Relaxed) == 0 {
            // SeqCst: as in `close`, with the load in `claim`; it comes before every claim, as handles begin transactions.
            self.is_open.store(true, Ordering::SeqCst);
        }
    }

    pub fn handle_dropped(&self) {
        // AcqRel: what the others have done comes before the closing.
        if self.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
        }
    }

    /// Takes the counts of the pool out of all slots, now or when they are released. The caller has one.
    fn close(&self) {
        // SeqCst, with the length: a slot that is beyond it here is claimed by somebody who sees the pool closed.
        self.is_open.store(false, Ordering::SeqCst);
        for number in 0..self.len.load(Ordering::SeqCst) {
            let slot = self.slot(number);
            if slot.presence.word.close() {
                fail_point!(SlotClosing);
                // SAFETY: the claim is ours, and so is a count of the pool, by the borrow.
                unsafe { Slot::release(slot) };
            }
        }
    }

    pub fn shared(&self) -> &S {
        &self.shared
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    fn slot(&self, number: usize) -> &Slot<T, S, C> {
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
    pub fn claim(self: &Arc<Self>, make: impl FnOnce(&S) -> T) -> Claim<T, S, C>
    where
        T: Reuse,
    {
        self.claim_by(SlotWord::claim, make).0
    }

    /// Takes a slot whose word `take` can claim; gives what that gave.
    #[inline(always)]
    pub fn claim_by<R>(
        self: &Arc<Self>,
        take: impl Fn(&SlotWord) -> Option<R>,
        make: impl FnOnce(&S) -> T,
    ) -> (Claim<T, S, C>, R)
    where
        T: Reuse,
    {
        // Nearly always: the slot that this thread used last.
        let slot = self.slot(HINT.with(Cell::get) & (self.len.load(Ordering::SeqCst) - 1));
        let (slot, taken) = match take(&slot.presence.word) {
            Some(taken) => (slot, taken),
            None => self.claim_another(take),
        };
        fail_point!(SlotClaimed);
        // SAFETY: the claim is ours.
        if unsafe { (*slot.pool.get()).is_none() } {
            self.prepare(slot, make);
        }
        (Claim { slot: NonNull::from(slot) }, taken)
    }

    /// Claims whichever slot can be, of more where none can be. It is gone to once, as the hint follows.
    #[cold]
    #[inline(never)]
    fn claim_another<R>(&self, take: impl Fn(&SlotWord) -> Option<R>) -> (&Slot<T, S, C>, R) {
        loop {
            let len = self.len.load(Ordering::SeqCst);
            let start = HINT.with(Cell::get);
            for number in start..start + len {
                let number = number & (len - 1);
                let slot = self.slot(number);
                if let Some(taken) = take(&slot.presence.word) {
                    HINT.with(|hint| hint.set(number));
                    return (slot, taken);
                }
            }
            fail_point!(BeforeMoreSlots);
            // Somebody else may have doubled it meanwhile; then this does nothing.
            _ = self.len.compare_exchange(len, len * 2, Ordering::SeqCst, Ordering::SeqCst);
            HINT.with(|hint| hint.set(len));
            fail_point!(MoreSlots);
        }
    }

    /// Gives a slot that the caller has claimed a context and a count of the pool.
    #[cold]
    #[inline(never)]
    fn prepare(self: &Arc<Self>, slot: &Slot<T, S, C>, make: impl FnOnce(&S) -> T) {
        // SAFETY: the claim is the caller's.
        let (context, pool) = unsafe { (&mut *slot.context.get(), &mut *slot.pool.get()) };
        context.get_or_insert_with(|| make(&self.shared));
        *pool = Some(Arc::clone(self));
        // SeqCst: see `close`.
        if !self.is_open.load(Ordering::SeqCst) {
            slot.presence.word.close_claimed();
        }
    }
}

impl<T, S, C> Pool<T, S, C> {
    /// Passes the contexts of all slots that nobody uses to `visit`, each claimed meanwhile.
    pub fn visit_free(&self, mut visit: impl FnMut(&mut T)) {
        for number in 0..self.len() {
            let slot = self.slot(number);
            if slot.presence.word.claim().is_some() {
                // SAFETY: the claim is ours.
                if let Some(context) = unsafe { &mut *slot.context.get() } {
                    fail_point!(SlotVisited);
                    visit(context);
                }
                // SAFETY: as in `close`.
                unsafe { Slot::release(slot) };
            }
        }
    }
}

impl<T, S, C> Slot<T, S, C> {
    /// Ends a claim. The slot may be gone then, with its pool; hence no reference to it.
    ///
    /// # Safety
    /// The claim is the caller's, who does not use the slot afterwards, unless the pool is kept in another way.
    unsafe fn release(slot: *const Self) {
        // SAFETY: the slot is there until the claim has ended, and the count of the pool is ours with the claim.
        let pool = unsafe {
            let presence: &Presence<C> = &(*slot).presence;
            if presence.word.release() {
                return;
            }
            let pool = (*(*slot).pool.get()).take();
            presence.word.release_closing();
            pool
        };
        fail_point!(SlotClosed);
        drop(pool);
    }
}

/// What is reused from claim to claim.
pub(crate) trait Reuse {
    /// Leaves it clean for the next.
    fn clear(&mut self);
    /// Whether it is.
    fn is_clear(&self) -> bool;
}

/// A claimed slot: exclusive access to its context. It keeps the database alive.
pub(crate) struct Claim<T: Reuse, S, C> {
    slot: NonNull<Slot<T, S, C>>,
}

// SAFETY: it is exclusive access to a context, which is `Send`, and a count of the pool, which is shared.
unsafe impl<T: Reuse + Send, S: Send + Sync, C: Send + Sync> Send for Claim<T, S, C> {}
// SAFETY: a shared claim gives access to the pool only, which is shared anyway.
unsafe impl<T: Reuse + Send, S: Send + Sync, C: Send + Sync> Sync for Claim<T, S, C> {}

impl<T: Reuse, S, C> Claim<T, S, C> {
    pub fn pool(&self) -> &Arc<Pool<T, S, C>> {
        // SAFETY: the slot has a count of the pool while it is claimed, so both live; only the end of the claim touches
        // it.
        unsafe { (*self.slot.as_ref().pool.get()).as_ref().unwrap_unchecked() }
    }

    /// Ends the claim of a context that is clear, if that takes no more than a swap; else gives it back.
    #[inline(always)]
    pub fn end(mut self) -> Result<(), Self> {
        let (context, _, presence) = self.parts();
        debug_assert!(context.is_clear());
        fail_point!(BeforeSlotReleased);
        if !presence.word.release() {
            return Err(self);
        }
        std::mem::forget(self);
        Ok(())
    }

    /// The context, with what it is used on.
    pub fn parts(&mut self) -> (&mut T, &Pool<T, S, C>, &Presence<C>) {
        let slot = self.slot.as_ptr();
        // SAFETY: slots live as long as the pool; the claim is exclusive and made the context, and `self` is borrowed
        // exclusively for as long as the parts are. The presence and the pool are fields of their own.
        unsafe { ((*(*slot).context.get()).as_mut().unwrap_unchecked(), self.pool(), &(*slot).presence) }
    }
}

impl<T: Reuse, S, C> Drop for Claim<T, S, C> {
    fn drop(&mut self) {
        self.parts().0.clear();
        fail_point!(BeforeSlotReleased);
        // SAFETY: it is there as long as it is claimed; the claim ends here, and nothing is used afterwards.
        unsafe { Slot::release(self.slot.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Reuse for u32 {
        fn clear(&mut self) {}
        fn is_clear(&self) -> bool {
            true
        }
    }

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

    /// Who is there when the last handle goes, and who comes later, keeps the pool no longer than a claim.
    #[test]
    fn a_closed_pool_goes_with_the_last_claim() {
        for opened in [false, true] {
            let pool = Pool::<u32, (), u64>::new(());
            if opened {
                pool.handle_made();
            }
            let early: Vec<_> = (0..40).map(|_| pool.claim(|()| 1)).collect();
            let late = pool.claim(|()| 2);
            drop(early);
            assert_eq!(Arc::strong_count(&pool), if opened { 42 } else { 2 });
            if opened {
                pool.handle_made();
                pool.handle_dropped();
                assert_eq!(Arc::strong_count(&pool), 42);
                pool.handle_dropped();
            }
            assert_eq!(Arc::strong_count(&pool), 2);
            drop((0..100).map(|_| pool.claim(|()| 3)).collect::<Vec<_>>());
            assert_eq!(Arc::strong_count(&pool), 2);
            let gone = Arc::downgrade(&pool);
            drop(pool);
            assert!(gone.upgrade().is_some());
            drop(late);
            assert!(gone.upgrade().is_none());
        }
    }

    #[test]
    fn claims_race_with_the_closing() {
        for _ in 0..200 {
            let pool = Pool::<u32, (), u64>::new(());
            pool.handle_made();
            let gone = Arc::downgrade(&pool);
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    let pool = Arc::clone(&pool);
                    scope.spawn(move || (0..50).for_each(|_| drop((pool.claim(|()| 1), pool.claim(|()| 1)))));
                }
                scope.spawn(move || pool.handle_dropped());
            });
            assert!(gone.upgrade().is_none());
        }
    }
}
