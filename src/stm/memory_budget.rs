//! How much memory the values of a stored database may take, and which of them go when it is too much.
//!
//! Those that are resident and in a checkpoint wait in a queue. Whoever has gone over the budget takes from its front:
//! a value that was read since it came there goes to the end again, any other is evicted (second chance, or clock).
//! Values that are in no checkpoint are not in the queue: they count, and they stay.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, Weak};

use super::evictable::Evictable;
use super::sync::uncontended::{AtomicI64, AtomicU64};
use super::sync::{Mutex, MutexGuard, Ordering};

/// Looks at the queue by one who has gone over the budget.
const STEPS: usize = 64;
/// Values of up to this part of the budget are put back into memory when they are read.
const LARGEST_PART: u64 = 4;
/// Looks at the queue by one who puts something there, when most of what is there has gone.
const PRUNED: usize = 4;
/// Bytes of values that no checkpoint is worth.
const LEAST_UNSTORED: u64 = 16 << 20;

pub(crate) struct MemoryBudget<C> {
    limit: u64,
    /// Bytes of all values in memory.
    resident: AtomicU64,
    /// Those of them that are in no checkpoint.
    unstored: AtomicU64,
    /// Bytes that those in storage alone would take.
    cold: AtomicU64,
    reads: AtomicU64,
    /// Unstored bytes that the last checkpoint has left, or fewer.
    left: AtomicU64,
    /// Values in the queue that have gone; below zero for the time that it takes to say so.
    gone: AtomicI64,
    /// Those that can be evicted, the one that came last at the end. Some may have gone meanwhile.
    queue: Mutex<VecDeque<Weak<Evictable<C>>>>,
}

impl<C> MemoryBudget<C> {
    /// Of so many bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(MemoryBudget {
            limit,
            resident: AtomicU64::new(0),
            unstored: AtomicU64::new(0),
            cold: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            left: AtomicU64::new(0),
            gone: AtomicI64::new(0),
            queue: Mutex::new(VecDeque::new()),
        })
    }

    // All counters are relaxed: they are exact, each on its own, and nothing is read through them.

    /// Bytes that it allows.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes of values in memory.
    pub fn resident(&self) -> u64 {
        self.resident.load(Ordering::Relaxed)
    }

    /// Bytes of values in memory that are in no checkpoint.
    pub fn unstored(&self) -> u64 {
        self.unstored.load(Ordering::Relaxed)
    }

    /// Bytes that the values which are in storage alone would take.
    pub fn cold_bytes(&self) -> u64 {
        self.cold.load(Ordering::Relaxed)
    }

    /// Values that were read from storage.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// A value has come into memory that is in no checkpoint.
    pub fn added(&self, bytes: u64) {
        self.resident.fetch_add(bytes, Ordering::Relaxed);
        self.unstored.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It is in one now.
    pub fn stored(&self, bytes: u64) {
        self.unstored.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A value has gone that was in memory.
    pub fn dropped(&self, bytes: u64, stored: bool) {
        self.resident.fetch_sub(bytes, Ordering::Relaxed);
        if !stored {
            self.unstored.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// A value has come that is in storage alone.
    pub fn cooled(&self, bytes: u64) {
        self.cold.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A value that counted as cold has gone, or is in memory with so many bytes.
    pub fn warmed(&self, cold: u64, resident: u64) {
        self.cold.fetch_sub(cold, Ordering::Relaxed);
        self.resident.fetch_add(resident, Ordering::Relaxed);
    }

    /// The reverse.
    pub fn evicted(&self, cold: u64, resident: u64) {
        self.cold.fetch_add(cold, Ordering::Relaxed);
        self.resident.fetch_sub(resident, Ordering::Relaxed);
    }

    /// A value was read from storage.
    pub fn count_read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it pays to keep so many bytes that were read: they must not push all others out.
    pub fn has_room_for(&self, bytes: u64) -> bool {
        bytes <= self.limit / LARGEST_PART
    }

    /// Whether so much has come that is in no checkpoint that one should be made.
    pub fn needs_checkpoint(&self) -> bool {
        let unstored = self.unstored();
        // Old versions that a snapshot holds are in none, ever.
        let left = self.left.fetch_min(unstored, Ordering::Relaxed);
        unstored.saturating_sub(left) > self.limit.max(LEAST_UNSTORED)
    }

    /// One was made. Before it began there were so many unstored bytes: what has come beyond that while it was made is
    /// for the next one.
    pub fn checkpointed(&self, before: u64) {
        self.left.store(self.unstored().min(before), Ordering::Relaxed);
    }

    /// A value can be evicted from now on.
    pub fn enqueue(&self, value: Weak<Evictable<C>>) {
        let mut queue = self.lock();
        queue.push_back(value);
        // Those that have gone must not pile up where the budget is never reached. It costs the others their order.
        for _ in 0..PRUNED {
            if self.gone.load(Ordering::Relaxed) <= queue.len() as i64 / 2 {
                break;
            }
            let front = queue.pop_front().filter(|value| self.is_there(value));
            queue.extend(front);
        }
    }

    /// Whether what was taken from the queue is there.
    fn is_there(&self, value: &Weak<Evictable<C>>) -> bool {
        let there = value.strong_count() > 0;
        if !there {
            self.gone.fetch_sub(1, Ordering::Relaxed);
        }
        there
    }

    /// A value has gone that can be evicted: the queue still has it.
    pub fn queued_gone(&self) {
        self.gone.fetch_add(1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Weak<Evictable<C>>>> {
        // Nobody panics with the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub fn queued(&self) -> usize {
        self.lock().len()
    }

    /// Evicts a few values if there are too many. Not to be called under a pin: what goes may have to tell others.
    pub fn shrink(&self) {
        self.shrink_by(STEPS);
    }

    /// Evicts until the budget is kept or nothing is left that could go.
    pub fn shrink_fully(&self) {
        // Twice: the first look at one that was read is its second chance.
        let waiting = self.lock().len();
        self.shrink_by(2 * waiting);
    }

    fn shrink_by(&self, steps: usize) {
        for _ in 0..steps {
            if self.resident() <= self.limit {
                return;
            }
            let Some(next) = self.lock().pop_front() else {
                return;
            };
            match next.upgrade() {
                Some(value) if value.take_use() => self.lock().push_back(next),
                Some(value) => value.evict(),
                None => _ = self.gone.fetch_sub(1, Ordering::Relaxed),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_while_a_checkpoint_is_made_is_for_the_next_one() {
        const MIB: u64 = 1 << 20;
        let budget = MemoryBudget::<u64>::new(MIB);
        budget.added(16 * MIB);
        assert!(!budget.needs_checkpoint());
        budget.added(MIB);
        assert!(budget.needs_checkpoint());
        // It takes long.
        let before = budget.unstored();
        budget.added(50 * MIB);
        budget.stored(17 * MIB);
        budget.checkpointed(before);
        assert!(budget.needs_checkpoint());
        // What is in none in the end is not waited for.
        let before = budget.unstored();
        budget.stored(10 * MIB);
        budget.checkpointed(before);
        assert!(!budget.needs_checkpoint());
        budget.added(17 * MIB);
        assert!(budget.needs_checkpoint());
    }
}
