//! The second phase of a two-phase commit: whoever is told decides.
//!
//! *Commit* is a commit like any other, run on behalf of the transaction with what was staged: what it writes and has
//! read is held, so no conflict can come up. What it installs is an *attempt*; the word of the transaction leads to its
//! descriptor. Attempts of several threads take turns: an attempt that installs is given some patience and aborted, one
//! that is further is helped, and only the one that the word leads to can be ready. So at most one commits, and a thread
//! that stops in the midst of it stops nobody: the others finish what it has begun, or begin anew.
//!
//! *Rollback* is one step of the word, after the log has it.

use std::sync::Arc;

use super::commit::{Committer, PlannedWrite};
use super::commit_log::{Change, Mutation};
use super::conflict::ConflictResolution;
use super::error::Error;
use super::group_commit::OwnedNote;
use super::memory::{Descriptor, LoggedDecision, Phase, Standing};
use super::options::Durability;
use super::outcome::{Decision, Outcome};
use super::prepared::{PreparedTransaction, Staged, StagedWrite, now_micros};
use super::value::Chunk;
use super::working_set::Operation;

/// In whose name a commit is made, if not in its own.
pub(crate) struct OnBehalf<'a, C> {
    pub staged: &'a Staged<C>,
    pub heuristic: bool,
}

impl<C> OnBehalf<'_, C> {
    /// What the log has to know of it.
    pub fn decided(&self) -> LoggedDecision {
        LoggedDecision { id: self.staged.transaction.id.clone(), heuristic: self.heuristic, time_micros: now_micros() }
    }
}

/// An attempt to commit a prepared transaction, which its word leads to. Its end takes that back.
pub(crate) struct Attempt<'a, 'g, C: Chunk> {
    transaction: &'a PreparedTransaction<C>,
    descriptor: &'g Descriptor<C>,
    heuristic: bool,
}

impl<C: Chunk> Drop for Attempt<'_, '_, C> {
    fn drop(&mut self) {
        loop {
            match self.descriptor.phase() {
                Phase::Committed(version) => {
                    fail_point!(BeforeAttemptOver);
                    self.transaction.committed(self.descriptor, version, self.heuristic);
                    return;
                }
                Phase::Aborted => {
                    self.transaction.attempt_failed(self.descriptor, self.heuristic);
                    return;
                }
                // Given up, or it unwinds. A failed step means that somebody else has moved it: look again.
                undecided => _ = self.descriptor.advance(undecided, Phase::Aborted),
            }
        }
    }
}

impl<'g, C: Chunk> Committer<'g, C> {
    /// Decides about a transaction that is prepared, or finds how it was decided.
    ///
    /// # Errors
    /// [`Error::Busy`] while it is being prepared, or rolled back by another call; [`Error::Storage`] and whatever else
    /// the log fails with: it is in doubt still.
    pub fn decide_prepared(
        &self,
        transaction: &Arc<PreparedTransaction<C>>,
        decision: Decision,
        heuristic: bool,
    ) -> Result<Outcome, Error> {
        let prepared = &self.database().prepared;
        if (decision, heuristic) == (Decision::Rollback, false)
            && transaction.advance(Standing::Preparing, Standing::Refused)
        {
            // Whoever prepares it finds that, and votes no. There is nothing to remember.
            let (id, time_micros) = (transaction.id.clone(), now_micros());
            return Ok(Outcome { id, decision, heuristic, time_micros, version: 0 });
        }
        let Some(staged) = prepared.staged(transaction.number, self.guard) else {
            // It is finished, or not yet prepared.
            return transaction.outcome(self.guard).ok_or_else(|| busy(transaction));
        };
        let decided = match decision {
            Decision::Commit => self.commit_on_behalf(&OnBehalf { staged: &staged, heuristic }),
            Decision::Rollback => self.roll_back(transaction, heuristic),
        };
        prepared.finish(transaction, self.guard);
        decided?;
        transaction.outcome(self.guard).ok_or_else(|| busy(transaction))
    }

    fn roll_back(&self, transaction: &PreparedTransaction<C>, heuristic: bool) -> Result<(), Error> {
        let group_commit = self.database().group_commit.as_ref().filter(|_| transaction.is_logged);
        loop {
            let standing = self.settle_attempt(transaction, 0);
            if !matches!(standing, Standing::Prepared | Standing::Committing { .. }) {
                return ended(standing, transaction);
            }
            let Some(group_commit) = group_commit else {
                if transaction.decide(standing, Decision::Rollback, heuristic) {
                    fail_point!(RolledBack);
                    return Ok(());
                }
                continue;
            };
            let rolling_back = Standing::RollingBack { heuristic };
            if !transaction.advance(standing, rolling_back) {
                continue;
            }
            let note = OwnedNote::RolledBack { id: transaction.id.clone(), heuristic, time_micros: now_micros() };
            let durability = if heuristic { Durability::Synced } else { Durability::Buffered };
            let noted = group_commit.note(note, durability, &self.tracker());
            match &noted {
                Ok(()) => _ = transaction.decide(rolling_back, Decision::Rollback, heuristic),
                Err(_) => _ = transaction.advance(rolling_back, Standing::Prepared),
            }
            return noted;
        }
    }

    /// Makes the word of a transaction lead to an attempt, in turn with those of others.
    ///
    /// # Errors
    /// What has become of it, if it cannot be committed any more.
    #[inline(never)]
    pub fn announce_attempt<'a>(
        &self,
        on_behalf: &OnBehalf<'a, C>,
        descriptor: &'g Descriptor<C>,
        restarts: u32,
    ) -> Result<Attempt<'a, 'g, C>, Result<(), Error>> {
        let OnBehalf { staged: Staged { transaction, .. }, heuristic } = *on_behalf;
        loop {
            let standing = self.settle_attempt(transaction, restarts);
            if !matches!(standing, Standing::Prepared | Standing::Committing { .. }) {
                return Err(ended(standing, transaction));
            }
            fail_point!(BeforeAttemptAnnounced);
            if transaction.advance(standing, Standing::Committing { attempt: descriptor, heuristic }) {
                fail_point!(AttemptAnnounced);
                return Ok(Attempt { transaction, descriptor, heuristic });
            }
        }
    }

    /// Brings the attempt that a transaction's word leads to, if it does, to its decision. Gives where it stands then:
    /// an attempt that has failed may be replaced.
    fn settle_attempt(&self, transaction: &PreparedTransaction<C>, restarts: u32) -> Standing<'g, C> {
        loop {
            let standing = transaction.standing(self.guard);
            let Standing::Committing { attempt, heuristic } = standing else {
                return standing;
            };
            match attempt.phase() {
                Phase::Installing | Phase::Ready | Phase::Stamped(_) => self.contend(attempt, restarts),
                Phase::Certified(version) => self.await_visible(version),
                Phase::Committed(version) => {
                    self.await_visible(version);
                    transaction.committed(attempt, version, heuristic);
                }
                Phase::Aborted => return standing,
            }
        }
    }
}

/// What a decision comes to about a transaction that cannot be decided any more, or not yet.
fn ended<C>(standing: Standing<'_, C>, transaction: &PreparedTransaction<C>) -> Result<(), Error> {
    match standing {
        Standing::Decided { .. } => Ok(()),
        _ => Err(busy(transaction)),
    }
}

pub(crate) fn busy<C>(transaction: &PreparedTransaction<C>) -> Error {
    Error::Busy(format!("transaction {}: another call is at it", transaction.id))
}

impl<C: Chunk> StagedWrite<C> {
    pub fn mutation(&self) -> Mutation<'_, C> {
        let change = match &self.operation {
            Operation::Put(value) => Change::Put(value),
            Operation::Append(rows) => Change::Append(rows),
            Operation::Delete => Change::Delete,
        };
        Mutation { key: self.key.as_slice(), change }
    }

    pub fn planned(&self) -> PlannedWrite<'_, C> {
        PlannedWrite {
            record: None,
            key: self.key.as_slice(),
            hash: self.hash,
            operation: &self.operation,
            bytes: self.operation.bytes(),
            // Nothing is later: no conflict can come up.
            basis: u64::MAX,
            resolution: Some(ConflictResolution::Fail),
        }
    }
}
