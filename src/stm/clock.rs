//! The commit clock: one counter whose values are commit versions and snapshots.
//!
//! Where commits are logged, a version is drawn long before its commit may be seen. Snapshots are then taken from a
//! second number, which follows the log: everything up to it is decided, and stored as durably as was asked for.

use crossbeam_utils::CachePadded;

use super::sync::{AtomicU64, Ordering};

/// Versions start at 1; a snapshot of 0 sees an empty database.
pub(crate) struct Clock {
    drawn: CachePadded<AtomicU64>,
    /// `None`: what is drawn is visible.
    visible: Option<CachePadded<AtomicU64>>,
}

impl Clock {
    pub fn new() -> Self {
        Clock { drawn: CachePadded::new(AtomicU64::new(0)), visible: None }
    }

    /// A clock that goes on from a version, and makes visible what it is told to.
    pub fn logged(version: u64) -> Self {
        let at = || CachePadded::new(AtomicU64::new(version));
        Clock { drawn: at(), visible: Some(at()) }
    }

    /// The newest visible version. A snapshot of it sees every transaction whose stamp is not later.
    ///
    /// SeqCst: ordered against the registration of snapshots (see [`super::snapshot`]); as an acquire load it pairs
    /// with the increment in [`draw`](Clock::draw), which comes after all installs of the transaction it is drawn for,
    /// or with the store in [`show`](Clock::show).
    pub fn now(&self) -> u64 {
        self.visible.as_ref().unwrap_or(&self.drawn).load(Ordering::SeqCst)
    }

    /// The newest version that was drawn. (SeqCst: as above.)
    pub fn newest(&self) -> u64 {
        self.drawn.load(Ordering::SeqCst)
    }

    /// A version that nobody else draws, later than every snapshot taken so far.
    pub fn draw(&self) -> u64 {
        self.drawn.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Makes everything up to a version visible, all of which is decided. One thread at a time; versions ascend.
    pub fn show(&self, version: u64) {
        if let Some(visible) = &self.visible {
            visible.store(version, Ordering::SeqCst);
        }
    }
}
