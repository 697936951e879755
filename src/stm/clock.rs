//! The commit clock: one counter whose values are commit versions and snapshots.
//!
//! Where commits are logged, a version is drawn long before its commit may be seen. Snapshots are then taken from a
//! second number, which follows the log: everything up to it is decided, and stored as durably as was asked for.

use crossbeam_utils::CachePadded;

use super::sync::{AtomicU64, Ordering};

/// Versions start at 1; a snapshot of 0 sees an empty database.
pub(crate) struct Clock {
    drawn: CachePadded<Drawn>,
    /// Behind `drawn` where commits are logged, and else nothing.
    visible: CachePadded<AtomicU64>,
}

/// In one line of the cache: in memory, that is the only one that is touched.
struct Drawn {
    version: AtomicU64,
    is_logged: bool,
}

impl Clock {
    pub fn new() -> Self {
        Clock::from(0, false)
    }

    /// A clock that goes on from a version, and makes visible what it is told to.
    pub fn logged(version: u64) -> Self {
        Clock::from(version, true)
    }

    fn from(version: u64, is_logged: bool) -> Self {
        let drawn = Drawn { version: AtomicU64::new(version), is_logged };
        Clock { drawn: CachePadded::new(drawn), visible: CachePadded::new(AtomicU64::new(version)) }
    }

    /// The newest visible version. A snapshot of it sees every transaction whose stamp is not later.
    ///
    /// SeqCst: ordered against the registration of snapshots (see [`super::snapshot`]); as an acquire load it pairs
    /// with the increment in [`draw`](Clock::draw), which comes after all installs of the transaction it is drawn for,
    /// or with the store in [`show`](Clock::show).
    #[inline]
    pub fn now(&self) -> u64 {
        self.visible().load(Ordering::SeqCst)
    }

    /// What `now` loads, for who loads it twice.
    #[inline]
    pub fn visible(&self) -> &AtomicU64 {
        let Drawn { version, is_logged } = &*self.drawn;
        if *is_logged { &self.visible } else { version }
    }

    /// The newest version that was drawn. (SeqCst: as above.)
    pub fn newest(&self) -> u64 {
        self.drawn.version.load(Ordering::SeqCst)
    }

    /// A version that nobody else draws, later than every snapshot taken so far.
    pub fn draw(&self) -> u64 {
        self.drawn.version.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Makes everything up to a version visible, all of which is decided. One thread at a time; versions ascend.
    pub fn show(&self, version: u64) {
        self.visible.store(version, Ordering::SeqCst);
    }
}
