//! The commit clock: one counter whose values are commit versions and snapshots.

use crossbeam_utils::CachePadded;

use super::sync::{AtomicU64, Ordering};

/// Versions start at 1; a snapshot of 0 sees an empty database.
pub(crate) struct Clock(CachePadded<AtomicU64>);

impl Clock {
    pub fn new() -> Self {
        Clock(CachePadded::new(AtomicU64::new(0)))
    }

    /// The newest version that was drawn. A snapshot of it sees every transaction whose stamp was drawn before.
    ///
    /// SeqCst: ordered against the registration of snapshots (see [`super::snapshot`]); as an acquire load it pairs
    /// with the increment in [`draw`](Clock::draw), which comes after all installs of the transaction it is drawn for.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// A version that nobody else draws, later than every snapshot taken so far.
    pub fn draw(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}
