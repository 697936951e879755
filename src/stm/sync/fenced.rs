//! Loom's atomics, made to know sequential consistency.
//!
//! Loom takes a `SeqCst` operation for hardly more than an acquire and a release, and would find faults in protocols
//! that rest on the one order of all such operations. Its fences do have that order. So here it is just those, and a
//! load or store gets a fence behind it, a read-modify-write one on each side, which puts one between any two of them
//! in a thread. Where such operations meet weaker ones this is stronger than the language promises, as a fence orders
//! those, too: a fault of that kind may be missed. Everything else is as loom has it.

use super::Ordering;

pub use loom::hint::spin_loop;
pub use loom::sync::atomic::fence;
/// No model has a log.
pub use std::sync::{Condvar, Mutex, MutexGuard};

/// Loom's own does not know constant initial values.
macro_rules! thread_local_of_loom {
    ($(#[$attribute:meta])* static $name:ident: $type:ty = const { $initial:expr };) => {
        loom::thread_local! { $(#[$attribute])* static $name: $type = $initial; }
    };
}
pub(crate) use thread_local_of_loom as thread_local;

/// Loom changes only the order of what it takes to depend on each other, and does not see into other crates. Here it is
/// told that all calls depend on each other, and that who finds something has synchronized with who published it (and
/// with all who had published before, which is more than is promised).
pub mod foreign {
    use crate::stm::sync::Ordering;

    loom::lazy_static! {
        static ref CALLS: loom::sync::atomic::AtomicUsize = loom::sync::atomic::AtomicUsize::new(0);
    }

    pub fn call() {
        // Relaxed: a call that finds nothing orders nothing.
        CALLS.fetch_add(1, Ordering::Relaxed);
    }

    pub fn publish() {
        CALLS.fetch_add(1, Ordering::Release);
    }

    pub fn found() {
        CALLS.fetch_add(1, Ordering::Acquire);
    }
}

fn fence_if_sequential(order: Ordering) {
    if order == Ordering::SeqCst {
        fence(Ordering::SeqCst);
    }
}

/// What is left of an order where fences see to the sequence.
fn or(order: Ordering, weaker: Ordering) -> Ordering {
    if order == Ordering::SeqCst { weaker } else { order }
}

fn between_fences<T>(order: Ordering, operation: impl FnOnce() -> T) -> T {
    fence_if_sequential(order);
    let outcome = operation();
    fence_if_sequential(order);
    outcome
}

macro_rules! atomic {
    ($name:ident $(<$parameter:ident>)?, $value:ty, $($operation:ident)*) => {
        pub struct $name $(<$parameter>)? (loom::sync::atomic::$name $(<$parameter>)?);

        // The core may not ask for all operations of each type at any one time.
        #[allow(dead_code)]
        impl $(<$parameter>)? $name $(<$parameter>)? {
            #[track_caller]
            pub fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }

            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                let value = self.0.load(or(order, Ordering::Acquire));
                fence_if_sequential(order);
                value
            }

            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                self.0.store(value, or(order, Ordering::Release));
                fence_if_sequential(order);
            }

            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                between_fences(success, || {
                    let failure = or(failure, Ordering::Acquire);
                    self.0.compare_exchange(current, new, or(success, Ordering::AcqRel), failure)
                })
            }

            /// Loom's never fails without a reason either.
            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(current, new, success, failure)
            }

            $(
                #[track_caller]
                pub fn $operation(&self, value: $value, order: Ordering) -> $value {
                    between_fences(order, || self.0.$operation(value, or(order, Ordering::AcqRel)))
                }
            )*
        }
    };
}

atomic!(AtomicBool, bool, swap fetch_or fetch_and);
atomic!(AtomicPtr<T>, *mut T, swap);
atomic!(AtomicU8, u8, swap fetch_or fetch_and);
atomic!(AtomicU32, u32, swap fetch_add fetch_sub fetch_max fetch_min);
atomic!(AtomicU64, u64, swap fetch_add fetch_sub fetch_max fetch_min fetch_or fetch_and fetch_xor);
atomic!(AtomicUsize, usize, swap fetch_add fetch_sub fetch_max fetch_min fetch_or fetch_and);

impl Default for AtomicU64 {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Default for AtomicUsize {
    fn default() -> Self {
        Self::new(0)
    }
}
