//! The small protocols of the core under loom: `cargo test --features loom --lib model_checks`.
//!
//! Each model is a few threads of a few steps, of which loom tries all orders (where a bound is given: all with so many
//! preemptions), and in each all that weak memory lets a load see. The code is the shipped one, with loom's atomics in
//! place of the standard library's. crossbeam-skiplist and crossbeam-epoch are the real ones: a call is one step, seen
//! by all at once, and gives loom no order between threads, so what holds here does not rest on one. Nothing is freed
//! before the threads have ended.

mod handover;
mod holds;
mod marks;
mod phases;
mod seals;
mod snapshots;

use std::ops::Deref;
use std::sync::Arc;

use crossbeam_epoch::Guard;
use loom::cell::UnsafeCell;
use loom::thread;

use crate::stm::database::{Database, DatabasePool};
use crate::stm::dependency_tracker::{DependencyTracker, Footprint, PointRead};
use crate::stm::evictable::VersionValue;
use crate::stm::key::KeyBytes;
use crate::stm::memory::{Owner, Pool, Presence, Record, Version};
use crate::stm::options::Options;
use crate::stm::sync::foreign;
use crate::stm::value::{Chunk, Value};

/// A chunk in plain memory: loom complains of who reads it and has not synchronized with who wrote it, or frees it and
/// has not synchronized with who read it.
struct Number(UnsafeCell<u64>);

// SAFETY: that no write is concurrent with anything is what loom checks.
unsafe impl Sync for Number {}

impl Number {
    fn new(number: u64) -> Self {
        Number(UnsafeCell::new(number))
    }

    fn get(&self) -> u64 {
        // SAFETY: as above.
        self.0.with(|number| unsafe { *number })
    }
}

impl Clone for Number {
    fn clone(&self) -> Self {
        Number::new(self.get())
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        self.0.with_mut(|_| ());
    }
}

impl Chunk for Number {
    fn same_schema(&self, _: &Self) -> bool {
        true
    }
    fn rows(&self) -> u64 {
        1
    }
    fn bytes(&self) -> u64 {
        8
    }
}

fn value(number: u64) -> Option<VersionValue<Number>> {
    Some(VersionValue::new(Value::new(Number::new(number)), None))
}

/// Explores a model, with so many preemptions at most.
fn explore(preemptions: impl Into<Option<usize>>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions.into();
    builder.max_branches = 20_000;
    builder.check(move || {
        // Loom makes its statics at their first use, which must not order the threads.
        foreign::call();
        model();
    });
}

/// Starts a thread on something shared.
fn spawn<S: Send + Sync + 'static, T: 'static>(
    shared: &Arc<S>,
    body: impl FnOnce(&S) -> T + 'static,
) -> thread::JoinHandle<T> {
    let shared = Arc::clone(shared);
    thread::spawn(move || body(&shared))
}

/// A database, with the slots that nobody has claimed.
struct Shared(Arc<DatabasePool<Number>>);

impl Deref for Shared {
    type Target = Database<Number>;

    fn deref(&self) -> &Database<Number> {
        self.0.shared()
    }
}

fn database() -> Arc<Shared> {
    Arc::new(Shared(Pool::new(Database::new(Options::default()))))
}

impl Shared {
    fn pinned<T>(&self, body: impl FnOnce(&Guard) -> T) -> T {
        let participant = self.buffer.participant();
        body(&participant.pin())
    }

    /// Passes what the owner of a slot works with.
    fn owned<T>(&self, body: impl FnOnce(Owner<'_, Number>) -> T) -> T {
        let (participant, presence) = (self.buffer.participant(), Presence::new());
        body(Owner { guard: &participant.pin(), presence: &presence, participant: &participant })
    }

    fn tracker<'g>(&'g self, guard: &'g Guard) -> DependencyTracker<'g, Number> {
        DependencyTracker { pool: &self.0, guard }
    }

    /// The record of a key, made if need be.
    fn record<'g>(&'g self, key: &[u8], guard: &'g Guard) -> &'g Record<Number> {
        self.buffer.record(self.buffer.hash(key), key, guard)
    }

    /// What a snapshot sees of a key.
    fn read(&self, key: &[u8], snapshot: u64, guard: &Guard) -> Option<u64> {
        let record = self.buffer.find(self.buffer.hash(key), key, guard)?;
        let version = self.tracker(guard).newest_at(record, snapshot);
        version.and_then(Version::value).map(|value| value.sample().get())
    }

    /// What a transaction depends on that found a key absent.
    fn found_absent(&self, key: &[u8]) -> Footprint<Number> {
        let read = PointRead { key: KeyBytes::new(key), hash: self.buffer.hash(key), record: None, absent: true };
        Footprint { reads: vec![read], ranges: Arc::from([]) }
    }
}
