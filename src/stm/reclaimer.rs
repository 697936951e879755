//! Reclamation of what no snapshot can see any more.
//!
//! Committers queue each record of which they made an older version superfluous, and on each commit look at a few
//! records of the queue. A record whose versions some snapshot still needs goes to a second queue, which is looked
//! at only when the oldest snapshot has moved: so the work stays in proportion to the commits, and a long reader costs
//! each key the one version that it can see, not the key's history.

use crossbeam_epoch::Guard;
use crossbeam_queue::SegQueue;

use super::database::Database;
use super::memory::{Record, RecordRef, Residue, SlotWord};
use super::snapshot::LiveSnapshots;
use super::sync::{AtomicU64, Ordering};

/// Bits of `Record::queued`.
const IN_FRESH: u8 = 1;
const IN_WAITING: u8 = 2;

/// Commits after which the snapshots are looked at again, at least; more where there are many.
const SCAN_INTERVAL: u64 = 64;

/// Bytes after which they are looked at again in any case.
const SCAN_BYTES: u64 = 256 * 1024;

pub(crate) struct Reclaimer<C> {
    /// Records with a superseded version, about in the order of the superseding versions.
    fresh: SegQueue<(u64, RecordRef<C>)>,
    /// Records of which a snapshot still sees more than the newest version.
    waiting: SegQueue<RecordRef<C>>,
    /// The version of a fresh record that came too early: until the bound of the snapshots has passed it, others would, too.
    due: AtomicU64,
    /// The floor of the snapshots when `waiting` was last gone through.
    waited_for: AtomicU64,
}

impl<C: Send + Sync + 'static> Reclaimer<C> {
    pub fn new() -> Self {
        Reclaimer {
            fresh: SegQueue::new(),
            waiting: SegQueue::new(),
            due: AtomicU64::new(0),
            waited_for: AtomicU64::new(0),
        }
    }

    /// Notes that a record has something to reclaim once all see `version`.
    pub fn note(&self, record: &Record<C>, version: u64, guard: &Guard) {
        // AcqRel pairs the bit with itself: who finds it set leaves the work to a pop that clears it later and then sees
        // this commit's version.
        if record.queued.fetch_or(IN_FRESH, Ordering::AcqRel) & IN_FRESH == 0 {
            self.fresh.push((version, record.share(guard)));
        }
    }
}

impl<C: Send + Sync + 'static> Database<C> {
    /// Whether enough has happened since the snapshots were last looked at.
    pub fn is_worth_a_scan(&self, live: &LiveSnapshots, written: u64, slots: usize) -> bool {
        written >= SCAN_BYTES || self.clock.now() - live.bound() >= SCAN_INTERVAL.max(slots as u64)
    }

    /// Reclaims what it can of at most `budget` records.
    pub fn reclaim(&self, live: &LiveSnapshots, budget: usize, guard: &Guard) {
        let reclaimer = &self.reclaimer;
        let mut left = budget;
        // Relaxed: a hint, too.
        while left > 0
            && live.bound() >= reclaimer.due.load(Ordering::Relaxed)
            && let Some((version, record)) = reclaimer.fresh.pop()
        {
            left -= 1;
            if version > live.bound() {
                // Later than what is known of the snapshots, as are those behind it: not yet.
                reclaimer.due.store(version, Ordering::Relaxed);
                reclaimer.fresh.push((version, record));
                break;
            }
            // AcqRel: see `note`.
            record.queued.fetch_and(!IN_FRESH, Ordering::AcqRel);
            self.reclaim_record(record, live, guard);
        }

        // Relaxed: a hint. Who passes a floor on moves everything that waited for it, once around.
        let waited_for = reclaimer.waited_for.load(Ordering::Relaxed);
        let floor = live.floor();
        if floor <= waited_for {
            return;
        }
        let mut around = reclaimer.waiting.len();
        while left > 0 && around > 0 {
            let Some(record) = reclaimer.waiting.pop() else {
                break;
            };
            (left, around) = (left - 1, around - 1);
            record.queued.fetch_and(!IN_WAITING, Ordering::AcqRel);
            self.reclaim_record(record, live, guard);
        }
        if around == 0 {
            reclaimer.waited_for.fetch_max(floor, Ordering::Relaxed);
        }
    }

    fn reclaim_record(&self, record: RecordRef<C>, live: &LiveSnapshots, guard: &Guard) {
        match record.trim(live, guard, &self.meters) {
            Residue::Newest => {}
            Residue::Sealed => self.buffer.remove(&record, guard),
            Residue::Needed | Residue::Busy => {
                if record.queued.fetch_or(IN_WAITING, Ordering::AcqRel) & IN_WAITING == 0 {
                    self.reclaimer.waiting.push(record);
                }
            }
        }
    }

    /// Reclaims all that can be reclaimed now.
    pub fn reclaim_all<'a>(
        &self,
        live: &mut LiveSnapshots,
        words: impl FnOnce() -> Box<dyn Iterator<Item = &'a SlotWord> + 'a>,
        guard: &Guard,
    ) {
        live.scan(&self.clock, words);
        self.reclaimer.waited_for.store(0, Ordering::Relaxed);
        let queued = self.reclaimer.fresh.len() + self.reclaimer.waiting.len();
        self.reclaim(live, queued * 2, guard);
        guard.flush();
    }
}
