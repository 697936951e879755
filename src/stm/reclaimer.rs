//! Reclamation of what no snapshot can see any more.
//!
//! Committers note in their slot each record of which they made an older version superfluous, whoever else has noted it,
//! and after every few dozens of writes, or many bytes, look at the snapshots and at what they have noted. What finds no
//! place there, or somebody else at it, is left to all; of that each looks at as much as it has written and somewhat
//! more: so the work stays in proportion to the writes, and nothing piles up. A record whose versions some snapshot
//! still needs waits until the oldest snapshot has moved; so a long reader costs each key the one version that it can
//! see, not the key's history.

use super::database::{Context, Database, DatabasePool};
use super::memory::{Owner, Presence, RecordRef, Residue, Stack, Taken};
use super::snapshot::LiveSnapshots;
use super::sync::{AtomicU64, Ordering};
use super::value::Chunk;

/// Bits of `Record::queued`.
const NOTED: u8 = 1;
const WAITING: u8 = 2;

/// Writes of one context after which it reclaims.
const WRITES: usize = 64;
/// Bytes committed from one context, or superseded, after which it reclaims in any case.
const BYTES: u64 = 256 * 1024;
/// Retired objects that one flush of the collector frees, about.
const FREED_BY_A_FLUSH: u64 = 256;

pub(crate) struct Reclaimer<C> {
    /// Records with a superseded version that were left to all.
    noted: Stack<RecordRef<C>>,
    /// Those among them that were taken and not looked at.
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

    /// Leaves a record to whoever reclaims next.
    pub fn leave(&self, record: RecordRef<C>) {
        // AcqRel pairs the bit with itself: who finds it set leaves the work to whoever clears it later, and then sees
        // what this one has seen.
        if record.queued.fetch_or(NOTED, Ordering::AcqRel) & NOTED == 0 {
            fail_point!(BeforeNoted);
            self.noted.push(record);
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
        presence: &Presence<C>,
    ) {
        context.writes += writes;
        context.written += bytes;
        if context.writes < WRITES && context.written < BYTES && presence.notes.bytes() < BYTES {
            return;
        }
        let budget = context.writes + WRITES;
        (context.writes, context.written) = (0, 0);
        presence.word.give_up();
        fail_point!(SnapshotGivenUp);
        context.live.scan(&self.clock, pool.words());
        let Context { participant, live, .. } = context;
        let guard = participant.pin();
        let owner = Owner { guard: &guard, presence, participant };
        let mut looked_at = 0;
        presence.notes.drain(|record| {
            looked_at += 1;
            fail_point!(NoteTaken);
            self.reclaim_record(record, live, &owner);
        });
        looked_at += self.reclaim_left(live, budget, &owner);
        drop(guard);
        // The collector frees a bounded number of objects at a time, so it must be asked in proportion.
        for _ in 0..=looked_at as u64 / FREED_BY_A_FLUSH {
            participant.flush();
        }
    }

    /// Frees what is left of so many keys and ranges that a prepared transaction held and has let go, and with them
    /// what it was to write, if enough has come together. The caller must not be pinned.
    pub fn free_after(&self, let_go: usize, context: &mut Context<C>) {
        context.let_go += let_go;
        if context.let_go < WRITES {
            return;
        }
        for _ in 0..=std::mem::take(&mut context.let_go) as u64 / FREED_BY_A_FLUSH {
            context.participant.flush();
        }
    }

    /// Reclaims all that can be reclaimed now, and frees it if no other thread is in the midst of a call.
    pub fn reclaim_all(&self, context: &mut Context<C>, pool: &DatabasePool<C>, presence: &Presence<C>) {
        context.live.scan(&self.clock, pool.words());
        // Relaxed: hints and sums, nothing is read through them.
        self.reclaimer.waited_for.store(0, Ordering::Relaxed);
        let Context { participant, live, .. } = context;
        let guard = participant.pin();
        let owner = Owner { guard: &guard, presence, participant };
        for presence in pool.presences() {
            presence.notes.drain_of_other(|record| self.reclaim_record(record, live, &owner));
        }
        self.reclaim_left(live, usize::MAX, &owner);
        drop(guard);
        pool.visit_free(|context| context.participant.flush());
        // Two steps of the collector's epoch make what was retired free to go; each flush is one, if nobody is pinned.
        let retired = self.retirements(pool);
        let before = self.reclaimer.drained.swap(retired, Ordering::Relaxed);
        for _ in 0..3 + retired.saturating_sub(before) / FREED_BY_A_FLUSH {
            participant.flush();
        }
    }

    /// Looks at no more than `budget` of the records that nobody else will look at, and as many waiting ones. Gives how
    /// many it has looked at.
    fn reclaim_left(&self, live: &LiveSnapshots, budget: usize, owner: &Owner<'_, C>) -> usize {
        let Reclaimer { noted, noted_before, waiting, due, waited_for, .. } = &self.reclaimer;
        let mut looked_at = 0;
        let mut look_at = |from: &Stack<_>, keep_in: &Stack<_>, bit: u8, budget: usize| {
            let mut taken: Taken<RecordRef<C>> = from.take();
            fail_point!(NotesTaken);
            for record in taken.by_ref().take(budget) {
                looked_at += 1;
                // AcqRel: see `leave`.
                record.queued.fetch_and(!bit, Ordering::AcqRel);
                fail_point!(NoteTaken);
                self.reclaim_record(record, live, owner);
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

    fn reclaim_record(&self, record: RecordRef<C>, live: &LiveSnapshots, owner: &Owner<'_, C>) {
        match record.trim(live, owner) {
            Residue::Newest => {}
            Residue::Sealed => self.buffer.remove(&record, owner.guard),
            // Whoever is busy with it may not know of the snapshots that are known here.
            Residue::Busy => self.reclaimer.leave(record),
            Residue::Needed => {
                // AcqRel: see `leave`.
                if record.queued.fetch_or(WAITING, Ordering::AcqRel) & WAITING == 0 {
                    fail_point!(BeforeWaiting);
                    self.reclaimer.waiting.push(record);
                }
            }
        }
    }
}
