//! The transactions of two-phase commit that a database knows: those in doubt, and how the last ones ended.
//!
//! A prepared transaction has no version in any chain, no snapshot and no slot: what it reads and writes is *held* (see
//! [`super::holds`]), and what it is going to write is kept here. So it costs the others nothing but the keys that it
//! holds, and keeps nothing from being reclaimed.
//!
//! All of it is lock-free. Where a transaction stands is one word ([`DecisionWord`]); who finds it decided finishes it,
//! be it by its own decision or somebody else's: takes out what it holds, gives up what it was going to write, and drops
//! the oldest outcomes beyond the bound.

use std::ops::Bound;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_epoch::{Collector, Guard};
use crossbeam_skiplist::base::SkipList;

use super::commit_log::{Held, Prepared};
use super::dependency_tracker::Footprint;
use super::error::Error;
use super::global_id::GlobalId;
use super::holds::{Access, Holds};
use super::key::{KeyBytes, KeyRange};
use super::memory::{DecisionWord, Descriptor, Phase, Standing};
use super::outcome::{Decision, Outcome, REMEMBERED_OUTCOMES};
use super::sync::uncontended::AtomicU64 as Meter;
use super::sync::{AtomicBool, AtomicU64, Ordering, foreign};
use super::value::Chunk;
use super::working_set::Operation;

/// A transaction of two-phase commit, from the claim of its id until that is forgotten.
pub(crate) struct PreparedTransaction<C> {
    pub id: GlobalId,
    /// Nobody else's in this database; from 1 on.
    pub number: u64,
    /// When it was prepared, in microseconds since 1970 UTC.
    pub time_micros: i64,
    /// Whether the log knows of it.
    pub is_logged: bool,
    word: DecisionWord<C>,
    /// Of its commit; noted before the word says that it is committed.
    version: AtomicU64,
    /// When it was decided; noted before the word says that it is.
    decided_micros: Meter,
    /// Place in the order of those that are finished; 0 before.
    finished: AtomicU64,
    /// Whether somebody is taking it to the log that it is forgotten, or has.
    forgotten: AtomicBool,
    /// Keys that it writes, and the bytes that they take.
    written_keys: Meter,
    bytes: Meter,
    /// Keys and ranges that it holds.
    held: Meter,
}

/// What a prepared transaction is going to do.
pub(crate) struct Staged<C> {
    pub transaction: Arc<PreparedTransaction<C>>,
    /// No conflict can come up about them any more.
    pub writes: Vec<StagedWrite<C>>,
    /// What it has read, without the records.
    pub footprint: Option<Arc<Footprint<C>>>,
    /// The writes as they go to the log, where commits are logged.
    pub logged: Option<Prepared>,
}

pub(crate) struct StagedWrite<C> {
    pub key: KeyBytes,
    pub hash: u64,
    pub operation: Operation<C>,
}

impl<C: Chunk> Staged<C> {
    fn bytes(&self) -> u64 {
        self.writes.iter().map(|write| write.operation.bytes() + write.key.as_slice().len() as u64).sum()
    }

    /// What the log has to know of what it has read.
    pub fn held(&self) -> Held {
        self.footprint.as_ref().map_or_else(Held::default, |footprint| Held {
            keys: footprint.reads.iter().map(|read| read.key.as_slice().to_vec()).collect(),
            ranges: footprint.ranges.to_vec(),
        })
    }
}

/// A prepared transaction, as a database lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedInfo {
    /// Its name.
    pub id: GlobalId,
    /// When it was prepared, in microseconds since 1970 UTC. Of one that was decided heuristically before the database
    /// was opened last, when it was decided: no more is stored of it.
    pub time_micros: i64,
    /// What an operator has decided about it; `None`: it is in doubt.
    pub heuristic: Option<Decision>,
    /// How many keys it writes, or would have written; 0 in the same case.
    pub written_keys: u64,
    /// The bytes of these keys and what it writes there; 0 in the same case.
    pub bytes: u64,
    /// The keys that it writes, while it is in doubt.
    pub keys: Vec<Vec<u8>>,
}

impl<C> PreparedTransaction<C> {
    pub fn standing<'g>(&self, guard: &'g Guard) -> Standing<'g, C> {
        self.word.standing(guard)
    }

    pub fn advance(&self, from: Standing<'_, C>, to: Standing<'_, C>) -> bool {
        self.word.advance(from, to)
    }

    /// Says that nobody else may forget it, by `true`, and that it was not forgotten after all, by `false`. Gives what was
    /// said before. A second one could come so late that the id is that of another transaction, which it must not touch.
    pub fn mark_forgotten(&self, forgotten: bool) -> bool {
        // Relaxed: nothing hangs on it but who goes on.
        self.forgotten.swap(forgotten, Ordering::Relaxed)
    }

    /// Says what was decided, if it stands as `from` says still.
    pub fn decide(&self, from: Standing<'_, C>, decision: Decision, heuristic: bool) -> bool {
        self.note_time();
        self.advance(from, Standing::Decided { decision, heuristic })
    }

    /// Says that an attempt to commit it has committed, in whoever's name.
    pub fn committed(&self, attempt: &Descriptor<C>, version: u64, heuristic: bool) {
        // Relaxed: published by the word. All who come here store the same.
        self.version.store(version, Ordering::Relaxed);
        self.decide(Standing::Committing { attempt, heuristic }, Decision::Commit, heuristic);
    }

    /// Says that an attempt to commit it has failed, if nobody else has.
    pub fn attempt_failed(&self, attempt: &Descriptor<C>, heuristic: bool) {
        self.advance(Standing::Committing { attempt, heuristic }, Standing::Prepared);
    }

    fn note_time(&self) {
        let now = now_micros() as u64;
        _ = self.decided_micros.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// How it ended, if it has.
    pub fn outcome(&self, guard: &Guard) -> Option<Outcome> {
        let Standing::Decided { decision, heuristic } = self.standing(guard) else {
            return None;
        };
        let version = match decision {
            Decision::Commit => self.version.load(Ordering::Relaxed),
            Decision::Rollback => 0,
        };
        let time_micros = self.decided_micros.load(Ordering::Relaxed) as i64;
        Some(Outcome { id: self.id.clone(), decision, heuristic, time_micros, version })
    }

    /// How many keys it writes, and the bytes of these writes.
    pub fn size(&self) -> (usize, u64) {
        (self.written_keys.load(Ordering::Relaxed) as usize, self.bytes.load(Ordering::Relaxed))
    }

    /// How many keys and ranges it holds, or has held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed) as usize
    }

    fn info(&self, heuristic: Option<Decision>, keys: Vec<Vec<u8>>) -> PreparedInfo {
        PreparedInfo {
            id: self.id.clone(),
            time_micros: self.time_micros,
            heuristic,
            written_keys: self.written_keys.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            keys,
        }
    }
}

pub(crate) struct PreparedTransactions<C: 'static> {
    /// All, also those that are finished and remembered. An entry is inserted once and removed.
    ids: SkipList<GlobalId, Arc<PreparedTransaction<C>>>,
    /// What those in doubt are going to do, by number.
    staged: SkipList<u64, Arc<Staged<C>>>,
    /// Those that are finished and go when so many have come after them, in that order.
    finished: SkipList<u64, Arc<PreparedTransaction<C>>>,
    pub holds: Holds<C>,
    next_number: AtomicU64,
    next_finished: AtomicU64,
    bytes: Meter,
    remembered: Meter,
}

/// What a database has in doubt, for its stats.
#[derive(Default)]
pub(crate) struct InDoubt {
    pub transactions: u64,
    pub bytes: u64,
    pub oldest_micros: u64,
    pub outcomes: u64,
}

pub(crate) fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

impl<C: Chunk> PreparedTransactions<C> {
    pub fn new(collector: &Collector) -> Self {
        PreparedTransactions {
            ids: SkipList::new(collector.clone()),
            staged: SkipList::new(collector.clone()),
            finished: SkipList::new(collector.clone()),
            holds: Holds::new(collector),
            next_number: AtomicU64::new(1),
            next_finished: AtomicU64::new(1),
            bytes: Meter::new(0),
            remembered: Meter::new(0),
        }
    }

    /// Bytes that those in doubt are going to write.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The transaction of an id that is in doubt, on its way there, or remembered.
    pub fn find(&self, id: &GlobalId, guard: &Guard) -> Option<Arc<PreparedTransaction<C>>> {
        foreign::call();
        let found = self.ids.get(id, guard).map(|entry| Arc::clone(entry.value()));
        foreign::found();
        found.filter(|found| !matches!(found.standing(guard), Standing::Refused))
    }

    fn make(
        &self,
        id: &GlobalId,
        time_micros: i64,
        is_logged: bool,
        standing: Standing<'_, C>,
    ) -> Arc<PreparedTransaction<C>> {
        Arc::new(PreparedTransaction {
            id: id.clone(),
            number: self.next_number.fetch_add(1, Ordering::Relaxed),
            time_micros,
            is_logged,
            word: DecisionWord::new(standing),
            version: AtomicU64::new(0),
            decided_micros: Meter::new(0),
            finished: AtomicU64::new(0),
            forgotten: AtomicBool::new(false),
            written_keys: Meter::new(0),
            bytes: Meter::new(0),
            held: Meter::new(0),
        })
    }

    /// Takes an id for a transaction that is to be prepared.
    ///
    /// # Errors
    /// [`Error::Duplicate`] when it is taken.
    pub fn claim(&self, id: &GlobalId, is_logged: bool, guard: &Guard) -> Result<Arc<PreparedTransaction<C>>, Error> {
        let new = self.make(id, now_micros(), is_logged, Standing::Preparing);
        loop {
            foreign::publish();
            let entry = self.ids.get_or_insert(id.clone(), Arc::clone(&new), guard);
            let holder = Arc::clone(entry.value());
            foreign::found();
            if Arc::ptr_eq(&holder, &new) {
                entry.release(guard);
                fail_point!(GlobalIdClaimed);
                return Ok(new);
            }
            let what = match holder.standing(guard) {
                Standing::Refused => {
                    // Whoever it was is on the way out.
                    foreign::call();
                    entry.remove(guard);
                    entry.release(guard);
                    continue;
                }
                Standing::Decided { decision: Decision::Commit, .. } => "was committed, and is remembered",
                Standing::Decided { decision: Decision::Rollback, .. } => "was rolled back, and is remembered",
                Standing::Preparing | Standing::Logging => "is being prepared",
                Standing::Prepared | Standing::Committing { .. } | Standing::RollingBack { .. } => "is in doubt",
            };
            entry.release(guard);
            return Err(Error::Duplicate(format!("global id: transaction {id} {what}")));
        }
    }

    /// Takes the entry of just this transaction out.
    fn remove_id(&self, transaction: &Arc<PreparedTransaction<C>>, guard: &Guard) -> bool {
        foreign::call();
        let entry = self.ids.get(&transaction.id, guard);
        entry.is_some_and(|entry| Arc::ptr_eq(entry.value(), transaction) && entry.remove())
    }

    /// Enters what a transaction is going to do: before it is in doubt, so that whoever finds it in doubt finds this.
    pub fn stage(&self, staged: Staged<C>, guard: &Guard) -> Arc<Staged<C>> {
        let (number, bytes) = (staged.transaction.number, staged.bytes());
        staged.transaction.written_keys.store(staged.writes.len() as u64, Ordering::Relaxed);
        staged.transaction.bytes.store(bytes, Ordering::Relaxed);
        let read = staged.footprint.as_ref().map_or(0, |footprint| footprint.reads.len() + footprint.ranges.len());
        staged.transaction.held.store((staged.writes.len() + read) as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let staged = Arc::new(staged);
        foreign::publish();
        self.staged.get_or_insert(number, Arc::clone(&staged), guard).release(guard);
        fail_point!(PreparedStaged);
        staged
    }

    pub fn staged(&self, number: u64, guard: &Guard) -> Option<Arc<Staged<C>>> {
        foreign::call();
        let staged = self.staged.get(&number, guard).map(|entry| Arc::clone(entry.value()));
        foreign::found();
        staged
    }

    /// Gives up an id that was claimed in vain, and what was staged and entered as held by it.
    pub fn give_up(&self, transaction: &Arc<PreparedTransaction<C>>, guard: &Guard) {
        self.drop_staged(transaction, guard);
        self.remove_id(transaction, guard);
    }

    fn drop_staged(&self, transaction: &PreparedTransaction<C>, guard: &Guard) {
        foreign::call();
        let Some(entry) = self.staged.get(&transaction.number, guard) else {
            return;
        };
        foreign::found();
        let staged = entry.value();
        self.leave(transaction.number, staged_keys(staged), staged.footprint.as_deref(), guard);
        foreign::call();
        if entry.remove() {
            self.bytes.fetch_sub(transaction.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
            self.holds.left();
        }
    }

    pub fn leave<'k>(
        &self,
        number: u64,
        written: impl Iterator<Item = (u64, &'k KeyBytes)>,
        footprint: Option<&Footprint<C>>,
        guard: &Guard,
    ) {
        written.for_each(|(hash, key)| self.holds.leave_key(number, hash, key, guard));
        if let Some(footprint) = footprint {
            footprint.reads.iter().for_each(|read| self.holds.leave_key(number, read.hash, &read.key, guard));
            if !footprint.ranges.is_empty() {
                self.holds.leave_ranges(number, guard);
            }
        }
    }

    /// Does what is to be done when a transaction is decided. Any number may do it, and repeat it.
    pub fn finish(&self, transaction: &Arc<PreparedTransaction<C>>, guard: &Guard) {
        let Standing::Decided { heuristic, .. } = transaction.standing(guard) else {
            return;
        };
        self.drop_staged(transaction, guard);
        fail_point!(HoldLeft);
        // Relaxed: a number that is drawn once is as good as any.
        if transaction.finished.load(Ordering::Relaxed) != 0 {
            return;
        }
        let number = self.next_finished.fetch_add(1, Ordering::Relaxed);
        if transaction.finished.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        self.remembered.fetch_add(1, Ordering::Relaxed);
        if heuristic {
            return;
        }
        foreign::publish();
        self.finished.get_or_insert(number, Arc::clone(transaction), guard).release(guard);
        fail_point!(OutcomeRemembered);
        foreign::call();
        while self.finished.len() > REMEMBERED_OUTCOMES
            && let Some(oldest) = self.finished.front(guard)
        {
            if oldest.remove() {
                self.drop_id(oldest.value(), guard);
            }
        }
    }

    fn drop_id(&self, transaction: &Arc<PreparedTransaction<C>>, guard: &Guard) {
        if self.remove_id(transaction, guard) {
            self.remembered.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Forgets how a transaction ended, which must be finished.
    pub fn forget(&self, transaction: &Arc<PreparedTransaction<C>>, guard: &Guard) {
        self.drop_id(transaction, guard);
        foreign::call();
        if let Some(entry) = self.finished.get(&transaction.finished.load(Ordering::Relaxed), guard) {
            entry.remove();
        }
    }

    /// Takes up a transaction that was in doubt when the database was closed.
    ///
    /// # Errors
    /// [`Error::InvalidState`] when its id or one of its keys was taken up before.
    pub fn restore(
        &self,
        id: &GlobalId,
        time_micros: i64,
        writes: Vec<StagedWrite<C>>,
        footprint: Option<Footprint<C>>,
        logged: Option<Prepared>,
        guard: &Guard,
    ) -> Result<(), Error> {
        let transaction = self.make(id, time_micros, true, Standing::Prepared);
        self.insert_restored(&transaction, guard)?;
        let staged =
            Staged { transaction: Arc::clone(&transaction), writes, footprint: footprint.map(Arc::new), logged };
        self.enter(&transaction, staged_keys(&staged), staged.footprint.as_deref(), guard);
        self.stage(staged, guard);
        Ok(())
    }

    /// Enters all that a transaction holds.
    pub fn enter<'k>(
        &self,
        transaction: &Arc<PreparedTransaction<C>>,
        written: impl Iterator<Item = (u64, &'k KeyBytes)>,
        footprint: Option<&'k Footprint<C>>,
        guard: &Guard,
    ) {
        let ranges: &[KeyRange] = footprint.map_or(&[], |footprint| &footprint.ranges);
        let reads = footprint.into_iter().flat_map(|footprint| &footprint.reads);
        let written = written.map(|(hash, key)| (hash, key, Access::Write));
        let keys = written.chain(reads.map(|read| (read.hash, &read.key, Access::Read)));
        self.holds.enter(transaction, keys, ranges, guard);
    }

    /// Takes up an outcome.
    ///
    /// # Errors
    /// [`Error::InvalidState`] when its id was taken up before.
    pub fn restore_outcome(&self, outcome: &Outcome, guard: &Guard) -> Result<(), Error> {
        let Outcome { id, decision, heuristic, time_micros, version } = outcome;
        let standing = Standing::Decided { decision: *decision, heuristic: *heuristic };
        let transaction = self.make(id, *time_micros, true, standing);
        transaction.version.store(*version, Ordering::Relaxed);
        transaction.decided_micros.store(*time_micros as u64, Ordering::Relaxed);
        self.insert_restored(&transaction, guard)?;
        self.finish(&transaction, guard);
        Ok(())
    }

    fn insert_restored(&self, transaction: &Arc<PreparedTransaction<C>>, guard: &Guard) -> Result<(), Error> {
        let entry = self.ids.get_or_insert(transaction.id.clone(), Arc::clone(transaction), guard);
        let is_new = Arc::ptr_eq(entry.value(), transaction);
        entry.release(guard);
        if is_new { Ok(()) } else { Err(Error::InvalidState("restore: the global id is there already")) }
    }

    /// Those in doubt, the oldest first, and then those that were decided heuristically and not forgotten.
    pub fn list(&self, guard: &Guard) -> Vec<PreparedInfo> {
        let mut list = Vec::new();
        self.visit_in_doubt(guard, |staged| {
            let keys = staged.writes.iter().map(|write| write.key.as_slice().to_vec()).collect();
            list.push(staged.transaction.info(None, keys));
        });
        foreign::call();
        let mut next = self.ids.front(guard);
        while let Some(entry) = next {
            if let Standing::Decided { decision, heuristic: true } = entry.value().standing(guard) {
                list.push(entry.value().info(Some(decision), Vec::new()));
            }
            foreign::call();
            next = entry.next();
        }
        list
    }

    fn visit_in_doubt(&self, guard: &Guard, mut visit: impl FnMut(&Staged<C>)) {
        foreign::call();
        let mut next = self.staged.lower_bound(Bound::Unbounded, guard);
        while let Some(entry) = next {
            let staged = entry.value();
            let in_doubt = match staged.transaction.standing(guard) {
                Standing::Prepared | Standing::RollingBack { .. } => true,
                Standing::Committing { attempt, .. } => !matches!(attempt.phase(), Phase::Committed(_)),
                Standing::Preparing | Standing::Logging | Standing::Refused | Standing::Decided { .. } => false,
            };
            if in_doubt {
                visit(staged);
            }
            foreign::call();
            next = entry.next();
        }
    }

    pub fn in_doubt(&self, guard: &Guard) -> InDoubt {
        // Never "negative", though it can be for an instant.
        let outcomes = (self.remembered.load(Ordering::Relaxed) as i64).max(0) as u64;
        let mut sum = InDoubt { outcomes, ..InDoubt::default() };
        let now = now_micros();
        self.visit_in_doubt(guard, |staged| {
            sum.transactions += 1;
            sum.bytes += staged.transaction.bytes.load(Ordering::Relaxed);
            let age = now.saturating_sub(staged.transaction.time_micros).max(0) as u64;
            sum.oldest_micros = sum.oldest_micros.max(age);
        });
        sum
    }
}

fn staged_keys<C>(staged: &Staged<C>) -> impl Iterator<Item = (u64, &KeyBytes)> {
    staged.writes.iter().map(|write| (write.hash, &write.key))
}
