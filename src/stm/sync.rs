//! The one place from which the core takes its atomics, so that a model checker can be put in their place.
//!
//! With the feature `shuttle` every operation on one of them is a point at which shuttle may go on with another thread;
//! with the feature `loom` loom plays through the orders of operations and what weak memory adds to them. Without
//! either they are those of the standard library, and [`foreign`] is nothing.

#[cfg(all(feature = "loom", feature = "shuttle"))]
compile_error!("one model checker at a time: loom or shuttle");

pub(crate) use std::sync::atomic::Ordering;

#[cfg(not(any(feature = "loom", feature = "shuttle")))]
mod chosen {
    pub use std::hint::spin_loop;
    pub use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence};
    pub use std::sync::{Condvar, Mutex, MutexGuard};
    pub use std::thread_local;

    /// Nothing: see [`super::foreign`].
    pub mod foreign {
        #[inline(always)]
        pub fn call() {}
        #[inline(always)]
        pub fn publish() {}
        #[inline(always)]
        pub fn found() {}
    }
}

#[cfg(all(feature = "shuttle", not(feature = "loom")))]
mod chosen {
    pub use shuttle::hint::spin_loop;
    pub use shuttle::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence};
    pub use shuttle::sync::{Condvar, Mutex, MutexGuard};
    pub use shuttle::thread_local;

    /// See [`super::foreign`].
    pub mod foreign {
        pub fn call() {
            // Not `yield_now`, by which a thread says that it cannot go on: some schedulers put it last then.
            super::AtomicBool::new(false).load(std::sync::atomic::Ordering::SeqCst);
        }
        pub use call as publish;
        pub fn found() {}
    }
}

#[cfg(feature = "loom")]
#[path = "sync/fenced.rs"]
mod chosen;

/// For what may block: the group commit of stored databases; and, for a few instructions, values under a memory budget,
/// which only those have.
pub(crate) use chosen::{Condvar, Mutex, MutexGuard};

pub(crate) use chosen::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence, spin_loop};

/// Like the standard library's, but a thread is what the model checker takes for one.
pub(crate) use chosen::thread_local;

/// Calls into crates that the model checker does not see into: it may switch before one. `call` says that one comes,
/// `publish` that it hands something to other threads, `found` that something was got that way. Otherwise all are
/// nothing.
pub(crate) use chosen::foreign;

/// Whether a model checker runs the core: memory layout and patience are other than in earnest then.
pub(crate) const MODELLED: bool = cfg!(any(feature = "loom", feature = "shuttle"));

/// Atomics that are no part of any protocol, statistics and sources of numbers. They are never replaced: their orders
/// would only multiply the schedules to explore, and loom's cannot be in a static.
pub(crate) mod uncontended {
    pub(crate) use std::sync::atomic::{AtomicI64, AtomicU64};
}
