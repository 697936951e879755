//! Registered snapshots: what running transactions can still see, and so what must not be reclaimed.
//!
//! A transaction publishes its snapshot in the word of its slot, by the very swap that claims the slot. Reclamation
//! reads all words and keeps what they need. Both sides race; this is why nothing is lost:
//!
//! - Registering reads the clock, publishes that number, and reads the clock again. A scan that has missed what was
//!   published read the clock, its `bound`, before the second reading. If that gives the same number, it is the
//!   snapshot, which is not below the bound then; and a scan keeps whatever a snapshot from its bound on can see. (All
//!   of these are SeqCst.)
//! - If it gives another one, what was published is worth nothing: "everything from about now on" takes its place, then
//!   the clock is read once more, for the snapshot, and then exactly that is published. A scan that has missed the store
//!   in the middle, whether or not it has seen the first number, has a bound that is not above the snapshot either.
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
/// 0: no snapshot.
const KIND: u64 = 3;
/// Set beside the kind by transactions that are serializable and were declared read-only.
const READ_ONLY: u64 = 4;
/// Somebody has the slot. All bits but the next one are theirs alone to change.
const CLAIMED: u64 = 8;
/// The slot must hold no count of the pool when it is free (see [`super::memory::Pool`]).
const CLOSING: u64 = 16;
const VERSION_SHIFT: u32 = 5;

/// What a transaction registers when it begins, of everything committed so far.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(crate) enum Registration {
    Snapshot = EXACT,
    /// Of a read-only transaction, of which certification must know.
    ReadOnlySnapshot = EXACT | READ_ONLY,
    /// That tombstones which are later must stay.
    Floor = FLOOR,
}

/// Who has a slot: nobody, or a transaction, with the snapshot that it holds.
pub(crate) struct SlotWord {
    word: AtomicU64,
    /// The newest snapshot of the read-only transactions that the slot has had.
    read_only: AtomicU64,
}

impl SlotWord {
    pub fn new() -> Self {
        SlotWord { word: AtomicU64::new(0), read_only: AtomicU64::new(0) }
    }

    /// Claims the slot, without a snapshot; `None` where somebody has it.
    pub fn claim(&self) -> Option<()> {
        self.claim_with(0)
    }

    #[inline(always)]
    fn claim_with(&self, registered: u64) -> Option<()> {
        let free = self.word.load(Ordering::Relaxed);
        if free & CLAIMED != 0 {
            return None;
        }
        // SeqCst: see the head of this file; as an acquire it pairs with the release in `release`.
        let claimed =
            self.word.compare_exchange(free, free | CLAIMED | registered, Ordering::SeqCst, Ordering::Relaxed);
        claimed.ok().map(drop)
    }

    /// Claims the slot, and takes a snapshot of everything committed so far, which is kept from being reclaimed. `None`
    /// where somebody has the slot.
    #[inline(always)]
    pub fn register(&self, registration: Registration, clock: &Clock) -> Option<u64> {
        let kind = registration as u64;
        let now = clock.visible();
        let snapshot = now.load(Ordering::SeqCst);
        self.claim_with(snapshot << VERSION_SHIFT | kind)?;
        fail_point!(SnapshotPublished);
        let snapshot =
            if now.load(Ordering::SeqCst) == snapshot { snapshot } else { self.register_again(snapshot, kind, clock) };
        fail_point!(SnapshotRegistered);
        Some(snapshot)
    }

    /// Takes a snapshot although the clock moves.
    #[cold]
    #[inline(never)]
    fn register_again(&self, from: u64, kind: u64, clock: &Clock) -> u64 {
        self.change(from, kind | FROM_HERE_ON, Ordering::SeqCst);
        fail_point!(SnapshotAnnounced);
        let snapshot = clock.now();
        fail_point!(SnapshotTaken);
        // Release is enough: a scan that reads the older, wider word only keeps more.
        self.change(snapshot, kind, Ordering::Release);
        snapshot
    }

    /// Puts a version and a kind in place of what the claimed word says of them.
    fn change(&self, version: u64, kind: u64, order: Ordering) {
        let new = version << VERSION_SHIFT | kind | CLAIMED;
        // Relaxed: but for `CLOSING`, which stays as it is or becomes, the word is the caller's own.
        let differing = (self.word.load(Ordering::Relaxed) ^ new) & !CLOSING;
        self.word.fetch_xor(differing, order);
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
        self.change(floor, FLOOR, Ordering::Release);
    }

    /// Keeps all versions later than the snapshot, too.
    pub fn keep_later(&self, snapshot: u64) {
        self.change(snapshot, FROM_HERE_ON, Ordering::SeqCst);
    }

    /// Whether a snapshot is held.
    pub fn is_held(&self) -> bool {
        self.word.load(Ordering::Relaxed) & KIND != 0
    }

    /// Gives the snapshot up, ahead of the slot.
    pub fn give_up(&self) {
        self.remember_read_only();
        // Release: the reads of the snapshot come before; pairs with the scan's load.
        self.change(0, 0, Ordering::Release);
    }

    /// Gives the slot up, with the snapshot. False where it is closing: it is still the caller's then.
    #[inline(always)]
    #[must_use]
    pub fn release(&self) -> bool {
        let word = self.remember_read_only();
        word & CLOSING == 0
            // Release: the reads of the snapshot come before, which pairs with the scan's load, and what was done with
            // the slot, which pairs with the next claim.
            && self.word.compare_exchange(word, 0, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Gives up a slot that is closing, and stays so.
    pub fn release_closing(&self) {
        // Release: as in `release`. Nobody but the caller changes the word, as all that others do is to set what is set.
        self.word.store(CLOSING, Ordering::Release);
    }

    /// Marks the slot as closing; true: nobody had it, and the caller has claimed it.
    pub fn close(&self) -> bool {
        // AcqRel: acquire, as in `claim`; release, so that the slot is handed on as it was.
        self.word.fetch_or(CLAIMED | CLOSING, Ordering::AcqRel) & CLAIMED == 0
    }

    /// Marks a slot of the caller's as closing.
    pub fn close_claimed(&self) {
        // Relaxed: the caller itself comes to see it.
        self.word.fetch_or(CLOSING, Ordering::Relaxed);
    }

    /// Gives the word.
    fn remember_read_only(&self) -> u64 {
        // Relaxed: the word is the caller's own; the store is released by the next one to it.
        let word = self.word.load(Ordering::Relaxed);
        if word & READ_ONLY != 0 {
            self.read_only.store(word >> VERSION_SHIFT, Ordering::Relaxed);
        }
        word
    }

    /// The newest snapshot of a read-only transaction that has this slot, or had it; `u64::MAX` while one begins and the
    /// clock moves.
    ///
    /// One that this misses takes its snapshot after the call. (SeqCst: see the head of this file.)
    pub fn newest_read_only(&self) -> u64 {
        let word = self.word.load(Ordering::SeqCst);
        match (word & READ_ONLY, word & KIND) {
            (READ_ONLY, FROM_HERE_ON) => u64::MAX,
            (READ_ONLY, _) => word >> VERSION_SHIFT,
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
            let snapshot = word >> VERSION_SHIFT;
            match word & KIND {
                0 => continue,
                EXACT => self.exact.push(snapshot),
                FROM_HERE_ON => self.from_here_on = self.from_here_on.min(snapshot),
                _ => {}
            }
            self.floor = self.floor.min(snapshot);
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
        assert_eq!(words[0].register(Registration::Snapshot, &clock), Some(10));
        for _ in 0..10 {
            clock.draw();
        }
        assert_eq!(words[1].register(Registration::Snapshot, &clock), Some(20));
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
        words[0].give_up();
        assert!(words[1].release() && words[1].claim().is_some(), "claimed, and without a snapshot");
        assert_eq!(scan(&clock, &words).floor(), 30);
        assert_eq!(words[2].register(Registration::Floor, &clock), Some(30));
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
        assert_eq!((word.register(Registration::Snapshot, &clock), word.newest_read_only()), (Some(1), 0));
        assert!(word.release());
        assert_eq!((word.register(Registration::ReadOnlySnapshot, &clock), word.newest_read_only()), (Some(1), 1));
        clock.draw();
        assert_eq!(scan(&clock, std::slice::from_ref(&word)).floor(), 1);
        assert!(word.release() && !word.is_held());
        word.register(Registration::Floor, &clock);
        assert_eq!(word.newest_read_only(), 1);
    }

    #[test]
    fn a_slot_is_claimed_once_and_closes_with_its_claim() {
        let (clock, word) = (Clock::new(), SlotWord::new());
        assert_eq!(word.register(Registration::Snapshot, &clock), Some(0));
        assert!(word.register(Registration::Floor, &clock).is_none() && word.claim().is_none() && word.is_held());
        assert!(!word.close(), "somebody has it");
        word.keep_later(0);
        assert!(word.is_held() && !word.release());
        word.release_closing();
        assert!(!word.is_held() && word.close(), "nobody has it");
        word.release_closing();
        assert!(word.claim().is_some() && !word.release(), "it stays so");
    }
}
