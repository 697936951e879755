//! The stamp of the newest committed reader of something.

use crate::stm::sync::{AtomicU64, Ordering};

/// 0: nobody has left one.
pub(crate) struct ReaderStamp(AtomicU64);

impl ReaderStamp {
    pub const fn new() -> Self {
        ReaderStamp(AtomicU64::new(0))
    }

    /// Notes a reader; earlier ones than the newest change nothing.
    pub fn raise(&self, to: u64) {
        // A look first spares the cache line the write where a later reader has been. Acquire and release pair a reader
        // with the overwriter that finds its stamp; why it finds it is said in `dependency_tracker`.
        if self.0.load(Ordering::Acquire) < to {
            self.0.fetch_max(to, Ordering::AcqRel);
        }
    }

    pub fn newest(&self) -> u64 {
        // Acquire: as in `raise`.
        self.0.load(Ordering::Acquire)
    }
}
