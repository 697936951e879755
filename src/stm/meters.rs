//! Counters of a database, kept apart by thread or slot so that committers do not share a cache line for them.

use crossbeam_utils::CachePadded;

use super::conflict::ConflictKind;
use super::sync::Ordering;
use super::sync::uncontended::AtomicU64;

/// Two to the number of bits that `shard_of_this_thread` keeps.
const SHARDS: usize = 1 << 4;

#[derive(Default)]
pub(crate) struct Meters {
    /// Of what was there before the first transaction.
    pub restored: Tally,
    shards: [CachePadded<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    rollbacks: AtomicU64,
    retries: AtomicU64,
    conflicts: [AtomicU64; 4],
}

/// Counts versions for one thread at a time. What is counted in one may be subtracted in another: all wrap around, and
/// their sums are right.
#[derive(Default)]
pub(crate) struct Tally {
    live_bytes: AtomicU64,
    versions: AtomicU64,
    retired: AtomicU64,
}

impl Tally {
    // Relaxed, here and below: nobody else writes it meanwhile, and whoever is next is handed it.
    fn add(counter: &AtomicU64, amount: u64) {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    pub fn installed(&self, bytes: u64) {
        Tally::add(&self.versions, 1);
        Tally::add(&self.live_bytes, bytes);
    }

    pub fn retired(&self, bytes: u64) {
        Tally::add(&self.versions, 1_u64.wrapping_neg());
        Tally::add(&self.retired, 1);
        Tally::add(&self.live_bytes, bytes.wrapping_neg());
    }

    /// Bytes of versions that are linked.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Ordering::Relaxed)
    }

    pub fn versions(&self) -> u64 {
        self.versions.load(Ordering::Relaxed)
    }

    /// Versions that were unlinked.
    pub fn retirements(&self) -> u64 {
        self.retired.load(Ordering::Relaxed)
    }
}

/// Never "negative", though a sum of moving counters can be for an instant.
pub(crate) fn sum(counters: impl Iterator<Item = u64>) -> u64 {
    (counters.fold(0, u64::wrapping_add) as i64).max(0) as u64
}

/// Threads have stacks of their own, so the place of a local variable tells them apart well enough, and cheaper than
/// thread-local storage does from a shared library.
fn shard_of_this_thread() -> usize {
    let local = 0_u8;
    let stack = (&raw const local).addr() as u64 >> 20;
    (stack.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60) as usize
}

/// One such counter on its own.
pub(crate) struct ShardedCounter([CachePadded<AtomicU64>; SHARDS]);

impl ShardedCounter {
    pub const fn new() -> Self {
        ShardedCounter([const { CachePadded::new(AtomicU64::new(0)) }; SHARDS])
    }

    pub fn add(&self, amount: u64) {
        self.0[shard_of_this_thread()].fetch_add(amount, Ordering::Relaxed);
    }

    pub fn subtract(&self, amount: u64) {
        self.0[shard_of_this_thread()].fetch_sub(amount, Ordering::Relaxed);
    }

    pub fn sum(&self) -> u64 {
        sum(self.0.iter().map(|shard| shard.load(Ordering::Relaxed)))
    }
}

impl Meters {
    fn shard(&self) -> &Shard {
        &self.shards[shard_of_this_thread()]
    }

    pub fn rolled_back(&self) {
        self.shard().rollbacks.fetch_add(1, Ordering::Relaxed);
    }

    pub fn retried(&self) {
        self.shard().retries.fetch_add(1, Ordering::Relaxed);
    }

    pub fn conflicted(&self, kind: ConflictKind) {
        self.shard().conflicts[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn sum(&self, counter: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        sum(self.shards.iter().map(|shard| counter(shard).load(Ordering::Relaxed)))
    }

    pub fn rollbacks(&self) -> u64 {
        self.sum(|shard| &shard.rollbacks)
    }

    pub fn retries(&self) -> u64 {
        self.sum(|shard| &shard.retries)
    }

    pub fn conflicts(&self, kind: ConflictKind) -> u64 {
        self.sum(|shard| &shard.conflicts[kind as usize])
    }
}
