//! Registered snapshots: what running transactions can still see, and so what must not be reclaimed.
//!
//! A transaction publishes its snapshot in the word of its slot. Reclamation reads all words and keeps what they need.
//! Both sides race; this is why nothing is lost:
//!
//! - Registering first publishes "everything from about now on", then reads the clock, then publishes exactly that
//!   number. A scan that has missed the first store read the clock, its `bound`, before: so the snapshot is not below
//!   the bound, and a scan keeps whatever a snapshot from its bound on can see. (All of these are SeqCst.)
//! - A committer whose reads must be certified at a later version says "everything from my snapshot on" before it can
//!   be stamped, so that no version between its snapshot and its stamp is taken away from its validation. A scan that
//!   has missed this has a bound below the stamp, and keeps all versions whose successor is later than the bound. One
//!   that commits without a write says the same before it reads the clock up to which it looks for overwriters.
//!
//! A transaction at read committed holds no snapshot between its calls, but compares its writes with the version at
//! which it began: so tombstones later than that must stay, or it would take a deleted key for one that nobody has
//! touched. It publishes that version as a floor, and widens it to "everything from there on" for the time of a read.
//!
//! What a scan found stays safe to use for ever, as later snapshots are not below its bound; it only gets less useful.

use super::clock::Clock;
use super::sync::{AtomicU64, Ordering};

const EXACT: u64 = 1;
const FLOOR: u64 = 2;
const FROM_HERE_ON: u64 = 3;
const KIND: u64 = 3;
/// Set beside the kind by transactions that are serializable and were declared read-only.
const READ_ONLY: u64 = 4;
const KIND_BITS: u32 = 3;

/// The snapshot that the transaction in a slot holds.
pub(crate) struct SlotWord {
    word: AtomicU64,
    /// The newest snapshot of the read-only transactions that the slot has had.
    read_only: AtomicU64,
}

impl SlotWord {
    pub fn new() -> Self {
        SlotWord { word: AtomicU64::new(0), read_only: AtomicU64::new(0) }
    }

    /// Takes a snapshot of everything committed so far, and keeps it from being reclaimed.
    pub fn register(&self, clock: &Clock) -> u64 {
        self.publish(EXACT, clock)
    }

    /// The same for a read-only transaction, of which certification must know.
    pub fn register_read_only(&self, clock: &Clock) -> u64 {
        self.publish(EXACT | READ_ONLY, clock)
    }

    /// Keeps tombstones later than everything committed so far.
    pub fn register_floor(&self, clock: &Clock) -> u64 {
        self.publish(FLOOR, clock)
    }

    fn publish(&self, kind: u64, clock: &Clock) -> u64 {
        self.word.store(clock.now() << KIND_BITS | kind | FROM_HERE_ON, Ordering::SeqCst);
        fail_point!(SnapshotAnnounced);
        let snapshot = clock.now();
        fail_point!(SnapshotTaken);
        // Release is enough: a scan that reads the older, wider word only keeps more.
        self.word.store(snapshot << KIND_BITS | kind, Ordering::Release);
        fail_point!(SnapshotRegistered);
        snapshot
    }

    /// Takes a snapshot of everything committed so far for the time until `back_to_floor`.
    pub fn read_above_floor(&self, floor: u64, clock: &Clock) -> u64 {
        self.keep_later(floor);
        fail_point!(ReadAnnounced);
        clock.now()
    }

    pub fn back_to_floor(&self, floor: u64) {
        fail_point!(BeforeBackToFloor);
        // Release: the reads come before; pairs with the scan's load.
        self.word.store(floor << KIND_BITS | FLOOR, Ordering::Release);
    }

    /// Keeps all versions later than the snapshot, too.
    pub fn keep_later(&self, snapshot: u64) {
        self.word.store(snapshot << KIND_BITS | FROM_HERE_ON, Ordering::SeqCst);
    }

    pub fn is_held(&self) -> bool {
        self.word.load(Ordering::Relaxed) != 0
    }

    /// Gives the snapshot up.
    pub fn clear(&self) {
        // Relaxed: the word is the caller's own; the store is released by the next one.
        let word = self.word.load(Ordering::Relaxed);
        if word & READ_ONLY != 0 {
            self.read_only.store(word >> KIND_BITS, Ordering::Relaxed);
        }
        // Release: the reads of the snapshot come before; pairs with the scan's load.
        self.word.store(0, Ordering::Release);
    }

    /// The newest snapshot of a read-only transaction that has this slot, or had it; `u64::MAX` while one begins.
    ///
    /// One that this misses takes its snapshot after the call. (SeqCst: see the head of this file.)
    pub fn newest_read_only(&self) -> u64 {
        let word = self.word.load(Ordering::SeqCst);
        match (word & READ_ONLY, word & KIND) {
            (READ_ONLY, FROM_HERE_ON) => u64::MAX,
            (READ_ONLY, _) => word >> KIND_BITS,
            // Relaxed: the load above acquires what was stored before the word was cleared.
            _ => self.read_only.load(Ordering::Relaxed),
        }
    }
}

/// What live snapshots need, as found by a scan.
pub(crate) struct LiveSnapshots {
    /// Exact snapshots, ascending.
    exact: Vec<u64>,
    /// From here on everything is needed.
    from_here_on: u64,
    /// No live transaction is older.
    floor: u64,
    /// The clock before the scan; 0 before the first one.
    bound: u64,
}

impl LiveSnapshots {
    /// Knows of nothing, so keeps everything.
    pub fn unknown() -> Self {
        LiveSnapshots { exact: Vec::new(), from_here_on: 0, floor: 0, bound: 0 }
    }

    /// Reads `words`, which must be a lazy look at all slots: the clock is read before it.
    pub fn scan<'a>(&mut self, clock: &Clock, words: impl IntoIterator<Item = &'a SlotWord>) {
        self.bound = clock.now();
        (self.from_here_on, self.floor) = (self.bound, self.bound);
        self.exact.clear();
        fail_point!(BeforeSnapshotsScanned);
        for word in words {
            let word = word.word.load(Ordering::SeqCst);
            if word == 0 {
                continue;
            }
            let snapshot = word >> KIND_BITS;
            self.floor = self.floor.min(snapshot);
            match word & KIND {
                EXACT => self.exact.push(snapshot),
                FROM_HERE_ON => self.from_here_on = self.from_here_on.min(snapshot),
                _ => {}
            }
        }
        self.exact.sort_unstable();
        self.exact.dedup();
        fail_point!(SnapshotsScanned);
    }

    /// The newest version when the snapshots were looked at.
    pub fn bound(&self) -> u64 {
        self.bound
    }

    /// Whether a version that was superseded by `newer` must stay.
    pub fn needs(&self, version: u64, newer: u64) -> bool {
        if newer > self.from_here_on {
            return true;
        }
        let first = self.exact.partition_point(|snapshot| *snapshot < version);
        self.exact.get(first).is_some_and(|snapshot| *snapshot < newer)
    }

    /// No live transaction has a snapshot below this one, or began before it.
    pub fn floor(&self) -> u64 {
        self.floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(clock: &Clock, words: &[SlotWord]) -> LiveSnapshots {
        let mut live = LiveSnapshots::unknown();
        live.scan(clock, words);
        live
    }

    #[test]
    fn versions_between_snapshots_are_not_needed() {
        let clock = Clock::new();
        let words = [(); 3].map(|()| SlotWord::new());
        for _ in 0..10 {
            clock.draw();
        }
        assert_eq!(words[0].register(&clock), 10);
        for _ in 0..10 {
            clock.draw();
        }
        assert_eq!(words[1].register(&clock), 20);
        for _ in 0..10 {
            clock.draw();
        }
        let live = scan(&clock, &words);
        assert_eq!((live.floor(), live.bound()), (10, 30));
        assert!(live.needs(5, 11) && live.needs(10, 11) && live.needs(20, 30) && live.needs(15, 21));
        assert!(!live.needs(5, 10) && !live.needs(11, 20) && !live.needs(21, 30));
        assert!(live.needs(29, 31), "what is later than the bound is not judged");

        words[0].keep_later(10);
        let live = scan(&clock, &words);
        assert!(live.needs(11, 12) && !live.needs(5, 10));
        words[0].clear();
        words[1].clear();
        assert_eq!(scan(&clock, &words).floor(), 30);
        assert_eq!(words[2].register_floor(&clock), 30);
        clock.draw();
        let live = scan(&clock, &words);
        assert!(live.floor() == 30 && !live.needs(30, 31), "a floor keeps no old version");
        assert_eq!(words[2].read_above_floor(30, &clock), 31);
        assert!(scan(&clock, &words).needs(30, 31));
        words[2].back_to_floor(30);
        assert!(words[2].is_held() && !scan(&clock, &words).needs(30, 31));
        assert!(LiveSnapshots::unknown().needs(1, 2));
    }

    #[test]
    fn slots_remember_their_newest_read_only_snapshot() {
        let (clock, word) = (Clock::new(), SlotWord::new());
        clock.draw();
        assert_eq!((word.register(&clock), word.newest_read_only()), (1, 0));
        word.clear();
        assert_eq!((word.register_read_only(&clock), word.newest_read_only()), (1, 1));
        clock.draw();
        assert_eq!(scan(&clock, std::slice::from_ref(&word)).floor(), 1);
        word.clear();
        assert!(!word.is_held());
        word.register_floor(&clock);
        assert_eq!(word.newest_read_only(), 1);
    }
}
