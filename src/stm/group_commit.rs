//! Commits on their way to the log, several at once: whoever comes first leads, and takes along all that are certified.
//!
//! A commit that has been certified waits here until it is visible. Nobody is in charge of the log for good: of those
//! who wait, one at a time *leads*. It reads the clock, settles all transactions that have drawn a stamp until then,
//! hands those that certification has let through to the log in the order of their stamps, decides them, and makes
//! visible all up to the clock that it has read. What comes meanwhile waits for the next leader: the slower the log,
//! the larger the groups.
//!
//! - *In order.* All up to the clock are found: a stamp is drawn for a transaction that is seen READY, and announced
//!   before. So what the leader meets as INSTALLING, or does not meet, has a later stamp, and what it meets as READY
//!   it stamps itself. The log has a prefix of the commit order at any time.
//! - *Not seen before it is stored.* Snapshots are taken from what was made visible. A conflict can come from a commit
//!   on its way to the log, and an append may go on top of one. When that one fails, those that have its rows fail,
//!   too.
//! - *Read-only transactions.* Certification knows those that have begun. Between certification and visibility others
//!   may begin, with a snapshot below. They are no predecessors only if that snapshot is below the low watermark, too.
//!   So the leader aborts a transaction whose low watermark is visible: with stale reads one commits only if what has
//!   made them stale becomes visible with it.
//!
//! This is the one place of the core where a thread may wait for another, and it does so only where commits are logged.
//! Those who wait are pinned: what is retired meanwhile is freed later.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};

use super::commit_log::{AppendError, CommitLog, Decided, Held, LoggedCommit, Note, Prepared};
use super::dependency_tracker::DependencyTracker;
use super::error::Error;
use super::global_id::GlobalId;
use super::memory::{Descriptor, LoggedDecision, Phase};
use super::memory_budget::MemoryBudget;
use super::options::Durability;
use super::outcome::Decision;
use super::sync::{Condvar, Mutex, MutexGuard, Ordering, fence};
use super::value::Chunk;

pub(crate) struct GroupCommit<C> {
    log: Arc<dyn CommitLog<C>>,
    /// It stands here as all who look for it have looked at this first.
    memory_budget: Option<Arc<MemoryBudget<C>>>,
    /// News of prepared transactions on its way to the log.
    notes: Mutex<Vec<Arc<PendingNote>>>,
    /// Whether somebody leads.
    led: Mutex<bool>,
    /// Somebody has led.
    visible: Condvar,
}

impl<C: Chunk> GroupCommit<C> {
    pub fn new(log: Arc<dyn CommitLog<C>>, memory_budget: Option<Arc<MemoryBudget<C>>>) -> Self {
        GroupCommit {
            log,
            memory_budget,
            notes: Mutex::new(Vec::new()),
            led: Mutex::new(false),
            visible: Condvar::new(),
        }
    }

    /// What the values may take of the memory, where that is limited.
    pub fn memory_budget(&self) -> Option<&Arc<MemoryBudget<C>>> {
        self.memory_budget.as_ref()
    }

    pub fn log(&self) -> &dyn CommitLog<C> {
        &*self.log
    }

    /// Waits until everything up to a version is decided and visible; leads if nobody does.
    pub fn settle(&self, version: u64, tracker: &DependencyTracker<'_, C>) {
        if tracker.clock().now() >= version {
            return;
        }
        let mut led = self.lock();
        while tracker.clock().now() < version {
            led = match *led {
                true => self.visible.wait(led).unwrap_or_else(PoisonError::into_inner),
                false => {
                    let leading = self.lead(led);
                    self.log_certified(tracker);
                    drop(leading);
                    self.lock()
                }
            };
        }
    }

    /// Takes news of a prepared transaction to the log, with those of others, and waits until they are there.
    pub fn note(
        &self,
        note: OwnedNote,
        durability: Durability,
        tracker: &DependencyTracker<'_, C>,
    ) -> Result<(), Error> {
        let pending = Arc::new(PendingNote { note, durability, outcome: Mutex::new(None) });
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&pending));
        let mut led = self.lock();
        loop {
            let outcome = pending.outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(outcome) = outcome {
                return outcome;
            }
            led = match *led {
                true => self.visible.wait(led).unwrap_or_else(PoisonError::into_inner),
                false => {
                    let leading = self.lead(led);
                    self.log_certified(tracker);
                    drop(leading);
                    self.lock()
                }
            };
        }
    }

    /// Takes all news that wait to the log. Those behind one that fails are tried again.
    fn log_notes(&self) {
        let mut waiting = std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner));
        let finish = |pending: Arc<PendingNote>, outcome| {
            *pending.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        };
        while !waiting.is_empty() {
            let notes: Vec<_> = waiting.iter().map(|pending| pending.note.borrowed()).collect();
            let durability = waiting.iter().map(|pending| pending.durability).max().unwrap_or_default();
            let logged = guarded(|| self.log.note(&notes, durability));
            drop(notes);
            let Err(AppendError { written, cause }) =
                logged.unwrap_or_else(|cause| Err(AppendError { written: 0, cause }))
            else {
                break;
            };
            waiting.drain(..written.min(waiting.len() - 1)).for_each(|pending| finish(pending, Ok(())));
            finish(waiting.remove(0), Err(cause));
        }
        waiting.into_iter().for_each(|pending| finish(pending, Ok(())));
    }

    /// Puts all that is committed on the disk.
    pub fn sync(&self, tracker: &DependencyTracker<'_, C>) -> Result<(), Error> {
        let mut led = self.lock();
        while *led {
            led = self.visible.wait(led).unwrap_or_else(PoisonError::into_inner);
        }
        let _leading = self.lead(led);
        self.log_certified(tracker);
        guarded(|| self.log.sync()).unwrap_or_else(Err)
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.led.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lead(&self, mut led: MutexGuard<'_, bool>) -> Leading<'_, C> {
        *led = true;
        Leading(self)
    }

    /// Takes all that are certified to the log, decides them, and makes visible what there was when it began.
    fn log_certified(&self, tracker: &DependencyTracker<'_, C>) {
        let clock = tracker.clock();
        let (seen, limit) = (clock.now(), clock.newest());
        let mut group = tracker.certified_up_to(limit);
        let mut failure = None;
        group.retain(|member| {
            if member.descriptor.low_watermark() > seen {
                return true;
            }
            let conflicts = tracker.stale_reads(member.descriptor, member.version);
            failure = Some(member.fail(Error::Conflict(conflicts), tracker));
            false
        });
        loop {
            if let Some(failure) = &failure {
                fail_dependents(&mut group, failure, tracker);
            }
            let Err(AppendError { written, cause }) = self.append(&group, tracker) else {
                break;
            };
            group.drain(..written.min(group.len())).for_each(Member::commit);
            if group.is_empty() {
                break;
            }
            failure = Some(group.remove(0).fail(cause, tracker));
        }
        group.into_iter().for_each(Member::commit);
        if let Some(failure) = failure {
            // Until nobody is found any more: each that fails may have been built on before it did.
            loop {
                // Pairs with the fence in `Installation::new`: who is not found behind it finds what has failed.
                fence(Ordering::SeqCst);
                tracker.abort_installing();
                let mut others = tracker.certified_up_to(u64::MAX);
                let found = others.len();
                fail_dependents(&mut others, &failure, tracker);
                if others.len() == found {
                    break;
                }
            }
        }
        clock.show(limit);
        self.log_notes();
    }

    fn append(&self, group: &[Member<'_, C>], tracker: &DependencyTracker<'_, C>) -> Result<(), AppendError> {
        let mut durability = Durability::None;
        let mut commits = Vec::with_capacity(group.len());
        for member in group {
            if let Some(logged) = member.descriptor.logged(tracker.guard) {
                durability = durability.max(logged.durability);
                let decides = logged.decides.as_ref().map(|LoggedDecision { id, heuristic, time_micros }| Decided {
                    id,
                    decision: Decision::Commit,
                    heuristic: *heuristic,
                    time_micros: *time_micros,
                });
                commits.push(LoggedCommit { version: member.version, prepared: &logged.prepared, decides });
            }
        }
        if commits.is_empty() {
            return Ok(());
        }
        guarded(|| self.log.append(&commits, durability)).unwrap_or_else(|cause| Err(AppendError { written: 0, cause }))
    }
}

/// News of a prepared transaction, and what the log has said to it.
struct PendingNote {
    note: OwnedNote,
    durability: Durability,
    outcome: Mutex<Option<Result<(), Error>>>,
}

/// See [`Note`].
pub(crate) enum OwnedNote {
    Prepared { id: GlobalId, time_micros: i64, mutations: Prepared, held: Held },
    RolledBack { id: GlobalId, heuristic: bool, time_micros: i64 },
    Forgotten { id: GlobalId },
}

impl OwnedNote {
    fn borrowed(&self) -> Note<'_, Prepared> {
        match self {
            OwnedNote::Prepared { id, time_micros, mutations, held } => {
                Note::Prepared { id, time_micros: *time_micros, mutations, held }
            }
            OwnedNote::RolledBack { id, heuristic, time_micros } => Note::Decided(Decided {
                id,
                decision: Decision::Rollback,
                heuristic: *heuristic,
                time_micros: *time_micros,
            }),
            OwnedNote::Forgotten { id } => Note::Forgotten { id },
        }
    }
}

/// For the time in which somebody leads, also one that unwinds.
struct Leading<'a, C: Chunk>(&'a GroupCommit<C>);

impl<C: Chunk> Drop for Leading<'_, C> {
    fn drop(&mut self) {
        *self.0.lock() = false;
        self.0.visible.notify_all();
    }
}

/// A transaction on its way to the log.
pub(crate) struct Member<'g, C> {
    pub version: u64,
    pub descriptor: &'g Descriptor<C>,
}

impl<C> Member<'_, C> {
    fn commit(self) {
        _ = self.descriptor.advance(Phase::Certified(self.version), Phase::Committed(self.version));
    }

    /// Aborts it, for a reason that its owner finds.
    fn fail(&self, cause: Error, tracker: &DependencyTracker<'_, C>) -> Error
    where
        C: Chunk,
    {
        if let Some(logged) = self.descriptor.logged(tracker.guard) {
            *logged.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause.clone());
        }
        _ = self.descriptor.advance(Phase::Certified(self.version), Phase::Aborted);
        cause
    }
}

/// Takes out those that have the rows of a failed one, and fails them. In order, as they may build on each other.
fn fail_dependents<C: Chunk>(group: &mut Vec<Member<'_, C>>, failure: &Error, tracker: &DependencyTracker<'_, C>) {
    group.retain(|member| {
        let fails = member.descriptor.failed_base(tracker.guard);
        if fails {
            member.fail(failure.clone(), tracker);
        }
        !fails
    });
}

/// What the log panics with is a failure of it.
fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, Error> {
    // What the log leaves half-done is its own affair; nothing here was touched.
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Error::Storage(format!("the storage panicked: {}", text.as_deref().unwrap_or("without a text")))
    })
}
