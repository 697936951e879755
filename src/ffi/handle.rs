//! Opaque pointers and the Rust objects behind them.
//!
//! The type of a handle says what it points to and how it owns it, so that the compiler refuses to free a count as a
//! box. A transaction and its cursors carry an [`InUse`] as well: overlapping use of one of them, from another thread
//! or from a callback of a call in progress, is found out instead of being undefined behaviour.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::error::Failure;

/// How a handle owns its object: `Box` alone, a count together with its children.
pub(crate) trait Owner<T>: Sized {
    fn into_raw(self) -> *const T;

    /// # Safety
    /// `raw` came from `into_raw` of the same type, and this is the only call for that one.
    unsafe fn from_raw(raw: *const T) -> Self;
}

impl<T> Owner<T> for Box<T> {
    fn into_raw(self) -> *const T {
        Box::into_raw(self)
    }

    unsafe fn from_raw(raw: *const T) -> Self {
        // SAFETY: the pointer is that of `Box::into_raw`, once, as this function demands.
        unsafe { Box::from_raw(raw.cast_mut()) }
    }
}

/// An opaque C type.
pub(crate) trait Handle: Sized {
    /// What stands behind the pointer.
    type Object;
    /// Who frees it.
    type Owner: Owner<Self::Object>;
}

/// The pointer that C gets for `owner`.
pub(crate) fn into_handle<H: Handle>(owner: H::Owner) -> *mut H {
    owner.into_raw().cast_mut().cast()
}

/// The object's pointer, if it can be one: not NULL, aligned.
#[inline(always)]
pub(crate) fn object_of<H: Handle>(handle: *const H) -> Option<*const H::Object> {
    let object = handle.cast::<H::Object>();
    (!object.is_null() && object.is_aligned()).then_some(object)
}

/// The object's pointer, checked as far as it can be.
#[inline(always)]
pub(crate) fn check_handle<H: Handle>(handle: *const H, parameter: &str) -> Result<*const H::Object, Failure> {
    match object_of(handle) {
        Some(object) => Ok(object),
        None => Err(no_handle(handle.is_null(), parameter)),
    }
}

#[cold]
fn no_handle(is_null: bool, parameter: &str) -> Failure {
    let what = if is_null { "is NULL" } else { "does not point to a handle of its type" };
    Failure::invalid_argument(format!("{parameter} {what}"))
}

/// # Safety
/// Rule 1 holds for `handle`, and the object is only shared during `'a`.
pub(crate) unsafe fn borrow<'a, H: Handle>(handle: *const H, parameter: &str) -> Result<&'a H::Object, Failure> {
    let object = check_handle(handle, parameter)?;
    // SAFETY: not NULL, aligned, and alive by the demand of this function.
    Ok(unsafe { &*object })
}

/// # Safety
/// Rule 1 holds for `handle`, which is a box, and nobody else uses the object during `'a`.
pub(crate) unsafe fn borrow_mut<'a, H>(handle: *mut H, parameter: &str) -> Result<&'a mut H::Object, Failure>
where
    H: Handle<Owner = Box<<H as Handle>::Object>>,
{
    let object = check_handle(handle, parameter)?;
    // SAFETY: not NULL, aligned, alive and exclusive by the demand of this function; the box made the pointer as a
    // mutable one.
    Ok(unsafe { &mut *object.cast_mut() })
}

/// Takes the object back from C; None for NULL, and for a pointer that no handle can be.
///
/// # Safety
/// Rule 1 holds for `handle`, and this is its last use.
pub(crate) unsafe fn reclaim<H: Handle>(handle: *mut H) -> Option<H::Owner> {
    let object = object_of(handle)?;
    // SAFETY: `into_handle` made the pointer, and nobody reclaims it twice, by the demand of this function.
    Some(unsafe { H::Owner::from_raw(object) })
}

/// Who is inside an object: nobody, one exclusively, or some that only look. Entering never waits; it fails.
///
/// Freeing while somebody is inside leaves a mark, and whoever leaves last frees instead. Thus a callback may free the
/// very transaction whose call it was called from.
#[derive(Default)]
pub(crate) struct InUse(AtomicUsize);

/// The handle is freed; nobody may enter any more.
const FREED: usize = 1 << (usize::BITS - 1);
/// Somebody is inside exclusively. The bits below count those that only look.
const EXCLUSIVE: usize = FREED >> 1;

impl InUse {
    /// Enters exclusively; false when anybody is inside.
    #[inline]
    pub(crate) fn enter(&self) -> bool {
        // Acquire: what the one before did inside is seen; pairs with the release in `leave` and `leave_shared`.
        self.0.compare_exchange(0, EXCLUSIVE, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Ends what `enter` began; true when the handle was freed meanwhile, and the caller has to free the object.
    ///
    /// A free by a callback of the call is seen. One by another thread, which must not come now, may be missed between
    /// the load and the store: the object stays for ever then, with all that it holds, a snapshot for one.
    #[inline]
    #[must_use]
    pub(crate) fn leave(&self) -> bool {
        // Relaxed: whoever is inside is alone with it, but for a free.
        if self.0.load(Ordering::Relaxed) != EXCLUSIVE {
            return self.leave_exactly();
        }
        // Release: for the next to enter. A store, as a swap takes the time of a dozen other instructions.
        self.0.store(0, Ordering::Release);
        false
    }

    /// The same where another thread may free at any time: it misses none.
    #[cold]
    #[must_use]
    pub(crate) fn leave_exactly(&self) -> bool {
        // Release for the next to enter; acquire, for what the freeing thread did before: pairs with `free`.
        self.0.fetch_sub(EXCLUSIVE, Ordering::AcqRel) & FREED != 0
    }

    /// Enters to look; false when somebody is inside exclusively.
    pub(crate) fn enter_shared(&self) -> bool {
        let enter = |inside: usize| (inside & (FREED | EXCLUSIVE) == 0).then_some(inside + 1);
        // Acquire: pairs with the release in `leave`. The count cannot reach EXCLUSIVE: a thread holds one at a time.
        self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, enter).is_ok()
    }

    /// Ends what `enter_shared` began; true as for `leave`.
    #[must_use]
    pub(crate) fn leave_shared(&self) -> bool {
        // Release for the next to enter exclusively; acquire: pairs with `free` and with the others that leave.
        self.0.fetch_sub(1, Ordering::AcqRel) == FREED | 1
    }

    /// Whether nobody is inside, and the handle is not freed.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        // Acquire: pairs with the release of those that left.
        self.0.load(Ordering::Acquire) == 0
    }

    /// Says of an object that goes that nobody may enter any more, in case somebody tries.
    #[inline]
    pub(crate) fn gone(&self) {
        // Relaxed: nobody may look.
        self.0.store(FREED, Ordering::Relaxed);
    }

    /// Marks the handle as freed; true when nobody is inside, and the caller has to free the object.
    #[must_use]
    pub(crate) fn free(&self) -> bool {
        // Acquire: pairs with the release of those that left; release: pairs with the acquire of the one that leaves
        // last.
        self.0.fetch_or(FREED, Ordering::AcqRel) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::status::khonsu_status;

    struct boxed;
    impl Handle for boxed {
        type Object = u64;
        type Owner = Box<u64>;
    }

    #[test]
    fn handles_lead_back_to_their_objects() {
        let handle: *mut boxed = into_handle(Box::new(7));
        // SAFETY: the handle was made above and is freed once.
        unsafe {
            *borrow_mut(handle, "handle").unwrap() += 1;
            assert_eq!(*borrow(handle, "handle").unwrap(), 8);
            assert_eq!(*reclaim(handle).unwrap(), 8);
        }
    }

    #[test]
    fn null_and_misaligned_handles_are_refused_by_name() {
        // SAFETY: neither pointer is followed.
        unsafe {
            let failure = borrow::<boxed>(std::ptr::null(), "db").unwrap_err();
            assert_eq!(failure.status, khonsu_status::InvalidArgument);
            assert_eq!(failure.message, "db is NULL");
            let failure = borrow_mut::<boxed>(std::ptr::without_provenance_mut(3), "db").unwrap_err();
            assert!(failure.message.starts_with("db does not point"));
            assert!(reclaim::<boxed>(std::ptr::null_mut()).is_none());
        }
    }

    #[test]
    fn one_alone_or_many_that_look() {
        let in_use = InUse::default();
        assert!(in_use.enter());
        assert!(!in_use.enter());
        assert!(!in_use.enter_shared());
        assert!(!in_use.leave());
        assert!(in_use.enter_shared());
        assert!(in_use.enter_shared());
        assert!(!in_use.enter());
        assert!(!in_use.leave_shared());
        assert!(!in_use.leave_shared());
        assert!(in_use.enter());
        assert!(!in_use.leave());
        assert!(in_use.free());
    }

    #[test]
    fn the_last_to_leave_frees() {
        let in_use = InUse::default();
        assert!(in_use.enter());
        assert!(!in_use.free());
        assert!(!in_use.free(), "a second free while in use must not free either");
        assert!(!in_use.enter_shared());
        assert!(in_use.leave());
        assert!(!in_use.enter(), "nobody enters a freed handle");

        let in_use = InUse::default();
        assert!(in_use.enter_shared());
        assert!(in_use.enter_shared());
        assert!(!in_use.free());
        assert!(!in_use.leave_shared());
        assert!(in_use.leave_shared());
    }
}
