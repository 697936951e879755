//! Counters of a database, kept apart by thread so that committers do not share a cache line for them.

use crossbeam_utils::CachePadded;

use super::conflict::ConflictKind;
use super::sync::Ordering;
use super::sync::uncontended::AtomicU64;

/// Two to the number of bits that `shard_of_this_thread` keeps.
const SHARDS: usize = 1 << 4;

#[derive(Default)]
pub(crate) struct Meters {
    shards: [CachePadded<Shard>; SHARDS],
}

/// All wrap around: a sum of shards is right where one of them went below zero.
#[derive(Default)]
struct Shard {
    live_bytes: AtomicU64,
    versions: AtomicU64,
    retired: AtomicU64,
    rollbacks: AtomicU64,
    retries: AtomicU64,
    conflicts: [AtomicU64; 4],
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

    /// Never "negative", though a sum of moving counters can be for an instant.
    pub fn sum(&self) -> u64 {
        let sum = self.0.iter().fold(0, |sum: u64, shard| sum.wrapping_add(shard.load(Ordering::Relaxed)));
        (sum as i64).max(0) as u64
    }
}

impl Meters {
    fn shard(&self) -> &Shard {
        &self.shards[shard_of_this_thread()]
    }

    pub fn version_installed(&self, bytes: u64) {
        let shard = self.shard();
        shard.versions.fetch_add(1, Ordering::Relaxed);
        shard.live_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn version_retired(&self, bytes: u64) {
        let shard = self.shard();
        shard.versions.fetch_sub(1, Ordering::Relaxed);
        shard.retired.fetch_add(1, Ordering::Relaxed);
        shard.live_bytes.fetch_sub(bytes, Ordering::Relaxed);
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
        self.shards.iter().fold(0, |sum, shard| sum.wrapping_add(counter(shard).load(Ordering::Relaxed)))
    }

    /// Bytes of all linked versions. Never "negative", though a sum of moving counters can be for an instant.
    pub fn live_bytes(&self) -> u64 {
        (self.sum(|shard| &shard.live_bytes) as i64).max(0) as u64
    }

    pub fn versions(&self) -> u64 {
        (self.sum(|shard| &shard.versions) as i64).max(0) as u64
    }

    /// Versions that were handed to the collector.
    pub fn retired(&self) -> u64 {
        self.sum(|shard| &shard.retired)
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
