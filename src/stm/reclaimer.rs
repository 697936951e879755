//! Reclamation of what no snapshot can see any more.
//!
//! Committers note each record of which they made an older version superfluous, and after every few dozens of such
//! notes, or many bytes, look at the snapshots and at twice as many noted records as they have noted themselves: so the
//! work stays in proportion to the writes, and the notes do not pile up. A record whose versions some snapshot still
//! needs waits until the oldest snapshot has moved; so a long reader costs each key the one version that it can see,
//! not the key's history.

use crossbeam_epoch::Guard;

use super::database::{Context, Database, DatabasePool};
use super::memory::{Record, RecordRef, Residue, Stack, Taken};
use super::snapshot::{LiveSnapshots, SlotWord};
use super::sync::{AtomicU64, Ordering};
use super::value::Chunk;

/// Bits of `Record::queued`.
const NOTED: u8 = 1;
const WAITING: u8 = 2;

/// Notes of one context after which it reclaims.
const NOTES: usize = 64;
/// Bytes committed from one context after which it reclaims in any case.
const BYTES: u64 = 256 * 1024;
/// Retired objects that one flush of the collector frees, about.
const FREED_BY_A_FLUSH: u64 = 256;

pub(crate) struct Reclaimer<C> {
    /// Records with a superseded version.
    noted: Stack<RecordRef<C>>,
    /// Noted records that were taken and not looked at.
    noted_before: Stack<RecordRef<C>>,
    /// Records of which a snapshot still sees more than the newest version.
    waiting: Stack<RecordRef<C>>,
    /// Those among them that it is time to look at again.
    due: Stack<RecordRef<C>>,
    /// The floor of the snapshots when the waiting were last found due.
    waited_for: AtomicU64,
    /// Versions that had been retired when the collector was last drained.
    drained: AtomicU64,
}

impl<C: Send + Sync + 'static> Reclaimer<C> {
    pub fn new() -> Self {
        Reclaimer {
            noted: Stack::new(),
            noted_before: Stack::new(),
            waiting: Stack::new(),
            due: Stack::new(),
            waited_for: AtomicU64::new(0),
            drained: AtomicU64::new(0),
        }
    }

    /// Notes that a record has something to reclaim.
    pub fn note(&self, record: &Record<C>, guard: &Guard) {
        // AcqRel pairs the bit with itself: who finds it set leaves the work to whoever clears it later, and then sees
        // this commit's version.
        if record.queued.fetch_or(NOTED, Ordering::AcqRel) & NOTED == 0 {
            fail_point!(BeforeNoted);
            self.noted.push(record.share(guard));
        }
    }
}

impl<C: Chunk> Database<C> {
    /// Reclaims after a commit of so many writes and bytes, if enough has come together; then the snapshot is given up
    /// first, which might keep what they have superseded. The caller must not be pinned: its pin would keep what is
    /// flushed from being freed.
    pub fn reclaim_after(
        &self,
        writes: usize,
        bytes: u64,
        context: &mut Context<C>,
        pool: &DatabasePool<C>,
        word: &SlotWord,
    ) {
        context.noted += writes;
        context.written += bytes;
        if context.noted < NOTES && context.written < BYTES {
            return;
        }
        let budget = 2 * context.noted + NOTES;
        (context.noted, context.written) = (0, 0);
        word.give_up();
        fail_point!(SnapshotGivenUp);
        context.live.scan(&self.clock, pool.words());
        let retired = self.reclaim(&context.live, budget, &context.participant.pin());
        // The collector frees a bounded number of objects at a time, so it must be asked in proportion.
        for _ in 0..=retired as u64 / FREED_BY_A_FLUSH {
            context.participant.pin().flush();
        }
    }

    /// Frees what is left of so many keys and ranges that a prepared transaction held and has let go, and with them
    /// what it was to write, if enough has come together. The caller must not be pinned.
    pub fn free_after(&self, let_go: usize, context: &mut Context<C>) {
        context.let_go += let_go;
        if context.let_go < NOTES {
            return;
        }
        for _ in 0..=std::mem::take(&mut context.let_go) as u64 / FREED_BY_A_FLUSH {
            context.participant.pin().flush();
        }
    }

    /// Reclaims all that can be reclaimed now, and frees it if no other thread is in the midst of a call.
    pub fn reclaim_all(&self, context: &mut Context<C>, pool: &DatabasePool<C>) {
        context.live.scan(&self.clock, pool.words());
        // Relaxed: hints and sums, nothing is read through them.
        self.reclaimer.waited_for.store(0, Ordering::Relaxed);
        self.reclaim(&context.live, usize::MAX, &context.participant.pin());
        pool.visit_free(|context| context.participant.pin().flush());
        // Two steps of the collector's epoch make what was retired free to go; each flush is one, if nobody is pinned.
        let retired = self.meters.retired();
        let before = self.reclaimer.drained.swap(retired, Ordering::Relaxed);
        for _ in 0..3 + retired.saturating_sub(before) / FREED_BY_A_FLUSH {
            context.participant.pin().flush();
        }
    }

    /// Looks at no more than `budget` noted and as many waiting records. Gives how many it has looked at.
    fn reclaim(&self, live: &LiveSnapshots, budget: usize, guard: &Guard) -> usize {
        let Reclaimer { noted, noted_before, waiting, due, waited_for, .. } = &self.reclaimer;
        let mut looked_at = 0;
        let mut look_at = |from: &Stack<_>, keep_in: &Stack<_>, bit: u8, budget: usize| {
            let mut taken: Taken<RecordRef<C>> = from.take();
            fail_point!(NotesTaken);
            for record in taken.by_ref().take(budget) {
                looked_at += 1;
                // AcqRel: see `note`.
                record.queued.fetch_and(!bit, Ordering::AcqRel);
                fail_point!(NoteTaken);
                self.reclaim_record(record, live, guard);
            }
            fail_point!(BeforeNotesGivenBack);
            keep_in.give_back(taken);
            looked_at
        };
        let before = look_at(noted_before, noted_before, NOTED, budget);
        look_at(noted, noted_before, NOTED, budget - before);

        // Relaxed: a hint. Whoever moves it on finds due what has waited until then.
        let floor = live.floor();
        if floor > waited_for.load(Ordering::Relaxed) && waited_for.fetch_max(floor, Ordering::Relaxed) < floor {
            fail_point!(BeforeWaitingTaken);
            due.give_back(waiting.take());
        }
        look_at(due, due, WAITING, budget)
    }

    fn reclaim_record(&self, record: RecordRef<C>, live: &LiveSnapshots, guard: &Guard) {
        match record.trim(live, guard, &self.meters) {
            Residue::Newest => {}
            Residue::Sealed => self.buffer.remove(&record, guard),
            // Whoever is busy with it may not know of the snapshots that are known here.
            Residue::Busy => self.note_again(record),
            Residue::Needed => {
                // AcqRel: see `note`.
                if record.queued.fetch_or(WAITING, Ordering::AcqRel) & WAITING == 0 {
                    fail_point!(BeforeWaiting);
                    self.reclaimer.waiting.push(record);
                }
            }
        }
    }

    fn note_again(&self, record: RecordRef<C>) {
        // AcqRel: see `note`.
        if record.queued.fetch_or(NOTED, Ordering::AcqRel) & NOTED == 0 {
            fail_point!(BeforeNoted);
            self.reclaimer.noted.push(record);
        }
    }
}
