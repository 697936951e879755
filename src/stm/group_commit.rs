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

use super::commit_log::{AppendError, CommitLog, LoggedCommit};
use super::dependency_tracker::DependencyTracker;
use super::error::Error;
use super::memory::{Descriptor, Phase};
use super::options::Durability;
use super::sync::{Condvar, Mutex, MutexGuard, Ordering, fence};
use super::value::Chunk;

pub(crate) struct GroupCommit<C> {
    log: Arc<dyn CommitLog<C>>,
    /// Whether somebody leads.
    led: Mutex<bool>,
    /// Somebody has led.
    visible: Condvar,
}

impl<C: Chunk> GroupCommit<C> {
    pub fn new(log: Arc<dyn CommitLog<C>>) -> Self {
        GroupCommit { log, led: Mutex::new(false), visible: Condvar::new() }
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
    }

    fn append(&self, group: &[Member<'_, C>], tracker: &DependencyTracker<'_, C>) -> Result<(), AppendError> {
        let mut durability = Durability::None;
        let mut commits = Vec::with_capacity(group.len());
        for member in group {
            if let Some(logged) = member.descriptor.logged(tracker.guard) {
                durability = durability.max(logged.durability);
                commits.push(LoggedCommit { version: member.version, prepared: &logged.prepared, decides: None });
            }
        }
        if commits.is_empty() {
            return Ok(());
        }
        guarded(|| self.log.append(&commits, durability)).unwrap_or_else(|cause| Err(AppendError { written: 0, cause }))
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
