//! Records that the owner of a slot notes for itself to look at later, and that anyone else may take instead: the owner
//! may be idle for long.

use std::array;
use std::marker::PhantomData;
use std::ptr;

use crossbeam_epoch::Guard;

use super::record::{Record, RecordRef};
use crate::stm::sync::{self, AtomicPtr, Ordering, uncontended};

const PLACES: usize = if sync::MODELLED { 2 } else { 128 };

pub(crate) struct Notes<C> {
    /// Each holds a count of a record, or nothing. The owner fills them in turn, and whoever empties one has the count.
    places: [AtomicPtr<Record<C>>; PLACES],
    /// How many the owner has filled.
    len: uncontended::AtomicU64,
    /// What there may be to reclaim in them, and in those for which there was no place. The owner's, too.
    bytes: uncontended::AtomicU64,
    owned: PhantomData<RecordRef<C>>,
}

impl<C> Notes<C> {
    pub fn new() -> Self {
        Notes {
            places: array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            len: uncontended::AtomicU64::new(0),
            bytes: uncontended::AtomicU64::new(0),
            owned: PhantomData,
        }
    }

    /// Notes a record, with so many bytes to reclaim; by the owner. False: there is no place left.
    pub fn note(&self, record: &Record<C>, bytes: u64, guard: &Guard) -> bool {
        // Relaxed, here and below: the owner's own.
        self.bytes.store(self.bytes.load(Ordering::Relaxed).saturating_add(bytes), Ordering::Relaxed);
        let len = self.len.load(Ordering::Relaxed) as usize;
        // One that was noted before may be taken just now, so it is noted again.
        let Some(place) = self.places.get(len) else { return false };
        // Release: pairs with the acquire in `take`; who looks at the record sees what was committed.
        let record = record.share(guard).into_raw().cast_mut();
        if sync::MODELLED {
            // Loom takes a store for one that may come between the two halves of a swap, which the language rules out.
            place.swap(record, Ordering::Release);
        } else {
            place.store(record, Ordering::Release);
        }
        self.len.store(len as u64 + 1, Ordering::Relaxed);
        true
    }

    /// Bytes that were noted since the owner last took its notes; for the owner.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes what the owner has noted; by the owner.
    pub fn drain(&self, mut each: impl FnMut(RecordRef<C>)) {
        let len = self.len.load(Ordering::Relaxed) as usize;
        self.places[..len].iter().filter_map(Self::take).for_each(&mut each);
        self.len.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// The same by anyone else.
    pub fn drain_of_other(&self, each: impl FnMut(RecordRef<C>)) {
        let noted = self.places.iter().filter(|place| !place.load(Ordering::Relaxed).is_null());
        noted.filter_map(Self::take).for_each(each);
    }

    fn take(place: &AtomicPtr<Record<C>>) -> Option<RecordRef<C>> {
        let record = place.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: the place had a count of it, which the swap has taken.
        (!record.is_null()).then(|| unsafe { RecordRef::from_raw(record) })
    }
}

impl<C> Drop for Notes<C> {
    fn drop(&mut self) {
        self.drain_of_other(drop);
    }
}
