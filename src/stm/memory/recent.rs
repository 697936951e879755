//! A ring of the newest items, each with a stamp. What it has lost is known by the newest stamp among it.

use std::array;
use std::ptr;

use crossbeam_epoch::{Guard, Shared};

use crate::stm::sync::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

pub(crate) struct Recent<T, const LENGTH: usize> {
    places: [AtomicPtr<Item<T>>; LENGTH],
    next: AtomicUsize,
    /// No item of a later stamp was pushed out.
    lost: AtomicU64,
}

struct Item<T> {
    stamp: u64,
    item: T,
}

// SAFETY: it owns its items, and gives out shared access to them.
unsafe impl<T: Send + Sync, const LENGTH: usize> Send for Recent<T, LENGTH> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, const LENGTH: usize> Sync for Recent<T, LENGTH> {}

impl<T: Send + Sync + 'static, const LENGTH: usize> Recent<T, LENGTH> {
    pub fn new() -> Self {
        Recent {
            places: array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            next: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
        }
    }

    pub fn push(&self, stamp: u64, item: T, guard: &Guard) {
        let new = Box::into_raw(Box::new(Item { stamp, item }));
        // Relaxed: two that come to the same place are told apart by the swap.
        let place = &self.places[self.next.fetch_add(1, Ordering::Relaxed) % LENGTH];
        fail_point!(ScanPlaced);
        // Acquire: pairs with the swap below.
        let mut old = place.load(Ordering::Acquire);
        loop {
            // SAFETY: it was reached under the guard, and is retired after it was swapped out.
            if let Some(old) = unsafe { old.as_ref() } {
                // Before the swap, which releases it: who finds the new item here finds this mark later on. Release:
                // pairs with the acquire in `any_since`, for what this thread has done before.
                self.lost.fetch_max(old.stamp, Ordering::Release);
            }
            // AcqRel: publishes the item for `any`; acquire for the one that it may find instead.
            match place.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => old = now,
            }
        }
        if !old.is_null() {
            // SAFETY: the swap has unlinked it, and nobody else does.
            unsafe { guard.defer_destroy(Shared::from(old.cast_const())) };
        }
    }

    /// Whether `matches` holds for an item with a stamp of at least `from`, or one may have been lost.
    pub fn any_since(&self, from: u64, _guard: &Guard, mut matches: impl FnMut(&T) -> bool) -> bool {
        // Acquire: pairs with the swap in `push`.
        let found = self.places.iter().any(|place| {
            // SAFETY: it was reached under the guard.
            unsafe { place.load(Ordering::Acquire).as_ref() }
                .is_some_and(|item| item.stamp >= from && matches(&item.item))
        });
        // Read after the places, the acquire of which makes it late enough. Acquire: see `push`.
        found || self.lost.load(Ordering::Acquire) >= from
    }
}

impl<T, const LENGTH: usize> Drop for Recent<T, LENGTH> {
    fn drop(&mut self) {
        for place in &self.places {
            // Relaxed: nobody else is left.
            let item = place.load(Ordering::Relaxed);
            if !item.is_null() {
                // SAFETY: it came from a box, and nobody borrows from the ring any more.
                drop(unsafe { Box::from_raw(item) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_was_pushed_out_counts_as_found() {
        let item = Arc::new(());
        let recent = Recent::<_, 4>::new();
        let collector = crossbeam_epoch::Collector::new();
        let participant = collector.register();
        let guard = participant.pin();
        for stamp in 1..=4 {
            recent.push(stamp, (stamp, Arc::clone(&item)), &guard);
        }
        assert!(recent.any_since(2, &guard, |(stamp, _)| *stamp == 2));
        assert!(!recent.any_since(3, &guard, |(stamp, _)| *stamp == 2));
        assert!(!recent.any_since(1, &guard, |_| false));
        recent.push(5, (5, Arc::clone(&item)), &guard);
        assert!(recent.any_since(1, &guard, |_| false), "1 was lost");
        assert!(!recent.any_since(2, &guard, |_| false));
        drop((guard, recent, participant, collector));
        assert_eq!(Arc::strong_count(&item), 1);
    }
}
