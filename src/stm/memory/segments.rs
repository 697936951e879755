//! An array that grows by doubling and never moves.

use std::marker::PhantomData;
use std::ptr;

use crate::stm::sync::{AtomicPtr, Ordering};

/// Segment 0 holds the first `2^FIRST_BITS` items, segment `n` as many as all before it together. A segment is made, of
/// default items, when one of its items is first asked for, and freed with the array.
pub(super) struct Segments<T, const FIRST_BITS: u32, const COUNT: usize> {
    segments: [AtomicPtr<T>; COUNT],
    owned: PhantomData<T>,
}

impl<T: Default, const FIRST_BITS: u32, const COUNT: usize> Segments<T, FIRST_BITS, COUNT> {
    pub fn new() -> Self {
        Segments { segments: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())), owned: PhantomData }
    }

    #[inline]
    pub fn get(&self, number: usize) -> &T {
        let (segment, offset) = match number.checked_ilog2() {
            Some(bits) if bits >= FIRST_BITS => ((bits - FIRST_BITS + 1) as usize, number - (1 << bits)),
            _ => (0, number),
        };
        let cell = &self.segments[segment];
        // Acquire: pairs with the release below, which publishes the items.
        let mut items = cell.load(Ordering::Acquire);
        if items.is_null() {
            items = self.make(segment);
        }
        // SAFETY: the offset lies within the segment, which lives as long as the array.
        unsafe { &*items.add(offset) }
    }

    /// The items of a segment that was not there yet.
    #[cold]
    #[inline(never)]
    fn make(&self, segment: usize) -> *mut T {
        let fresh: Box<[T]> = (0..Self::len(segment)).map(|_| T::default()).collect();
        let fresh = Box::into_raw(fresh).cast::<T>();
        fail_point!(SegmentMade);
        // Acquire, release: as in `get`.
        match self.segments[segment].compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => fresh,
            Err(theirs) => {
                // SAFETY: it was not published, and has this length.
                drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(fresh, Self::len(segment))) });
                theirs
            }
        }
    }
}

impl<T, const FIRST_BITS: u32, const COUNT: usize> Segments<T, FIRST_BITS, COUNT> {
    fn len(segment: usize) -> usize {
        1 << (FIRST_BITS as usize + segment.saturating_sub(1))
    }
}

impl<T, const FIRST_BITS: u32, const COUNT: usize> Drop for Segments<T, FIRST_BITS, COUNT> {
    fn drop(&mut self) {
        for (segment, items) in self.segments.iter().enumerate() {
            // Relaxed: nobody else is left.
            let items = items.load(Ordering::Relaxed);
            if !items.is_null() {
                // SAFETY: made with this length in `get`, and nobody borrows from it any more.
                drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(items, Self::len(segment))) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stm::sync::AtomicUsize;

    #[test]
    fn items_stay_where_they_are() {
        let items = Segments::<AtomicUsize, 2, 20>::new();
        let places: Vec<_> = (0..1000).map(|number| ptr::from_ref(items.get(number))).collect();
        for number in 0..1000 {
            items.get(number).store(number, Ordering::Relaxed);
        }
        for (number, place) in places.into_iter().enumerate() {
            assert!(ptr::eq(items.get(number), place));
            assert_eq!(items.get(number).load(Ordering::Relaxed), number);
        }
    }
}
