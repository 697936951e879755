//! A value that is made once and read often. Unlike `OnceLock`, nobody waits for the one who makes it: two may, and one
//! of them does it in vain.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

#[derive(Debug)]
pub(super) struct SetOnce<T>(AtomicPtr<T>);

// SAFETY: it owns a `T`, moves it with itself and shares it.
unsafe impl<T: Send + Sync> Send for SetOnce<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for SetOnce<T> {}

impl<T> SetOnce<T> {
    pub const fn new() -> Self {
        SetOnce(AtomicPtr::new(ptr::null_mut()))
    }

    pub fn get(&self) -> Option<&T> {
        // SAFETY: what was set stays until the drop. Acquire: pairs with the release below.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// What is there, which is `value` if nothing was.
    pub fn get_or_set(&self, value: T) -> &T {
        let new = Box::into_raw(Box::new(value));
        // AcqRel: publishes the value; acquire for the one that is there already.
        match self.0.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: it stays until the drop.
            Ok(_) => unsafe { &*new },
            Err(theirs) => {
                // SAFETY: it was not published.
                drop(unsafe { Box::from_raw(new) });
                // SAFETY: it stays until the drop.
                unsafe { &*theirs }
            }
        }
    }
}

impl<T> Drop for SetOnce<T> {
    fn drop(&mut self) {
        let value = *self.0.get_mut();
        if !value.is_null() {
            // SAFETY: it came from a box, and nobody borrows from it any more.
            drop(unsafe { Box::from_raw(value) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_first_value_stays() {
        let values = [Arc::new(1), Arc::new(2)];
        let once = SetOnce::new();
        assert!(once.get().is_none());
        assert_eq!(**once.get_or_set(Arc::clone(&values[0])), 1);
        assert_eq!(**once.get_or_set(Arc::clone(&values[1])), 1);
        assert_eq!((once.get().map(|value| **value), Arc::strong_count(&values[1])), (Some(1), 1));
        drop(once);
        assert_eq!(Arc::strong_count(&values[0]), 1);
    }
}
