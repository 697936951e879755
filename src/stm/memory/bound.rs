//! The place where a bound key remembers its record, from one use to the next.

use std::ptr;

use crossbeam_epoch::Guard;

use super::prefetch;
use super::record::{Record, RecordRef, give_back};
use crate::stm::sync::{AtomicPtr, Ordering};

/// Holds a count of a record, or nothing. All threads may use it at once.
pub(crate) struct BoundRecord<C> {
    record: AtomicPtr<Record<C>>,
    /// It owns one count.
    owned: std::marker::PhantomData<RecordRef<C>>,
}

impl<C: Send + Sync + 'static> BoundRecord<C> {
    pub fn new() -> Self {
        BoundRecord { record: AtomicPtr::new(ptr::null_mut()), owned: std::marker::PhantomData }
    }

    /// Asks for what it holds, in the cache.
    pub fn prefetch(&self) {
        // Relaxed: nothing is read through it.
        prefetch(self.record.load(Ordering::Relaxed));
    }

    /// What it holds.
    pub fn get<'g>(&'g self, _guard: &'g Guard) -> Option<&'g Record<C>> {
        // Acquire: pairs with the release half of the swap below; the record was published before anyway.
        // SAFETY: the count that was held when the pointer was read is given back through the collector, later than the
        // guard ends, or by the drop of `self`, which is borrowed.
        unsafe { self.record.load(Ordering::Acquire).as_ref() }
    }

    /// Holds `new` in place of `old`, which is what `get` gave; nothing changes if another has been faster.
    pub fn replace<'g>(&'g self, old: Option<&'g Record<C>>, new: &'g Record<C>, guard: &'g Guard) {
        let new = new.share(guard).into_raw();
        fail_point!(BoundRecordFound);
        let from = old.map_or(ptr::null(), ptr::from_ref).cast_mut();
        // AcqRel: release, see `get`; acquire, because what `from` leads to may be freed next.
        if self.record.compare_exchange(from, new.cast_mut(), Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // SAFETY: the count that was made above.
            return drop(unsafe { RecordRef::from_raw(new) });
        }
        fail_point!(BoundRecordReplaced);
        if let Some(old) = old {
            // SAFETY: the swap has taken over the count that was held, once.
            unsafe { give_back(old, guard) };
        }
    }
}

impl<C> Drop for BoundRecord<C> {
    fn drop(&mut self) {
        // Relaxed: nobody else is left.
        let record = self.record.load(Ordering::Relaxed);
        if !record.is_null() {
            // SAFETY: the count that it holds; whoever borrowed the record from here has borrowed `self`, too.
            drop(unsafe { RecordRef::from_raw(record) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stm::memory::HashIndex;
    use crossbeam_epoch::Collector;

    #[test]
    fn counts_are_given_back() {
        let collector = Collector::new();
        let handle = collector.register();
        let index = HashIndex::<u64>::new();
        let bound = BoundRecord::new();
        {
            let guard = handle.pin();
            assert!(bound.get(&guard).is_none());
            let one = index.get_or_insert(1, b"one", &guard);
            bound.replace(None, one, &guard);
            bound.replace(None, index.get_or_insert(2, b"two", &guard), &guard);
            assert_eq!(bound.get(&guard).map(Record::key), Some(&b"one"[..]), "the first stays");
            index.remove(one, &guard);
            bound.replace(Some(one), index.get_or_insert(3, b"three", &guard), &guard);
            assert_eq!(bound.get(&guard).map(Record::key), Some(&b"three"[..]));
            assert_eq!(one.key(), b"one", "the guard keeps it");
        }
        // The index goes first: what is bound keeps its record.
        drop(index);
        assert_eq!(bound.get(&handle.pin()).map(Record::key), Some(&b"three"[..]));
    }

    #[test]
    fn threads_share_one() {
        let collector = Collector::new();
        let index = HashIndex::<u64>::new();
        let bound = BoundRecord::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let handle = collector.register();
                    for round in 0..5_000_u64 {
                        let guard = handle.pin();
                        let key = (round % 7).to_be_bytes();
                        let record = index.get_or_insert(index.hash(&key), &key, &guard);
                        bound.replace(bound.get(&guard), record, &guard);
                        assert_eq!(bound.get(&guard).map(|record| record.key().len()), Some(8));
                        if round % 3 == 0 {
                            index.remove(record, &guard);
                        }
                    }
                });
            }
        });
    }
}
