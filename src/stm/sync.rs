//! The one place from which the core takes its atomics, so that a model checker can be put in their place.
//!
//! With the feature `shuttle` every operation on one of them is a point at which shuttle may go on with another thread;
//! with the feature `loom` loom plays through the orders of operations and what weak memory adds to them. Without either
//! they are those of the standard library, and [`yield_point`] is nothing.

#[cfg(all(feature = "loom", feature = "shuttle"))]
compile_error!("one model checker at a time: loom or shuttle");

pub(crate) use std::sync::atomic::Ordering;

#[cfg(not(any(feature = "loom", feature = "shuttle")))]
mod chosen {
    pub use std::hint::spin_loop;
    pub use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence};
    pub use std::thread_local;

    #[inline(always)]
    pub fn yield_point() {}
}

#[cfg(all(feature = "shuttle", not(feature = "loom")))]
mod chosen {
    pub use shuttle::hint::spin_loop;
    pub use shuttle::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence};
    pub use shuttle::thread_local;

    pub fn yield_point() {
        // Not `yield_now`, by which a thread says that it cannot go on: some schedulers then take it for a while.
        AtomicBool::new(false).load(super::Ordering::SeqCst);
    }
}

#[cfg(feature = "loom")]
#[path = "sync/fenced.rs"]
mod chosen;

pub(crate) use chosen::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence, spin_loop};

/// Like the standard library's, but a thread is what the model checker takes for one.
pub(crate) use chosen::thread_local;

/// Where shuttle may switch besides the operations on atomics: beside calls into crates that it does not see into.
pub(crate) use chosen::yield_point;

/// Whether a model checker runs the core: memory layout and patience are other than in earnest then.
pub(crate) const MODELLED: bool = cfg!(any(feature = "loom", feature = "shuttle"));

/// Atomics that are no part of any protocol, statistics and sources of numbers. They are never replaced: their orders
/// would only multiply the schedules to explore, and loom's cannot be in a static.
pub(crate) mod uncontended {
    pub(crate) use std::sync::atomic::AtomicU64;
}
