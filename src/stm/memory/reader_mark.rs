//! The mark of the committed readers of something: their highest low watermark.

use crate::stm::sync::{AtomicU64, Ordering};

/// 0: nobody has left one.
pub(crate) struct ReaderMark(AtomicU64);

impl ReaderMark {
    pub fn new() -> Self {
        ReaderMark(AtomicU64::new(0))
    }

    /// Notes a reader; one with a lower mark changes nothing.
    pub fn raise(&self, to: u64) {
        // A look first spares the cache line the write where a higher one stands. Acquire and release pair a reader
        // with the overwriter that finds its mark; why it finds it is said in `dependency_tracker`.
        if self.0.load(Ordering::Acquire) < to {
            self.0.fetch_max(to, Ordering::AcqRel);
        }
    }

    pub fn highest(&self) -> u64 {
        // Acquire: as in `raise`.
        self.0.load(Ordering::Acquire)
    }
}
