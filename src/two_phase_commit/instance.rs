//! A database as a participant.

use super::{PrepareOptions, PreparedTransaction, TwoPhaseCommitParticipant, Vote};
use crate::stm::{Chunk, Decision, Error, GlobalId, Outcome, Transaction, TransactionManager};

impl<C: Chunk> TwoPhaseCommitParticipant for TransactionManager<C> {
    type Transaction = Transaction<C>;

    fn prepare(&self, transaction: &mut Transaction<C>, id: &GlobalId, options: PrepareOptions) -> Result<Vote, Error> {
        TransactionManager::prepare(self, transaction, id, options)
    }

    fn commit(&self, id: &GlobalId) -> Result<u64, Error> {
        let outcome = self.decide(id, Decision::Commit, false)?;
        by_coordinator(outcome, Decision::Commit).map(|outcome| outcome.version)
    }

    fn rollback(&self, id: &GlobalId) -> Result<(), Error> {
        let outcome = self.decide(id, Decision::Rollback, false)?;
        by_coordinator(outcome, Decision::Rollback).map(drop)
    }

    fn recover(&self) -> Result<Vec<PreparedTransaction>, Error> {
        Ok(self.prepared_transactions())
    }

    fn forget(&self, id: &GlobalId) -> Result<(), Error> {
        TransactionManager::forget(self, id)
    }

    fn decide_heuristically(&self, id: &GlobalId, decision: Decision) -> Result<(), Error> {
        let outcome = self.decide(id, decision, true)?;
        match outcome.heuristic {
            true if outcome.decision == decision => Ok(()),
            true => Err(Error::Heuristic(Box::new(outcome))),
            false => Err(Error::AlreadyDecided(Box::new(outcome))),
        }
    }
}

/// What the coordinator is told when it has decided.
fn by_coordinator(outcome: Outcome, decision: Decision) -> Result<Outcome, Error> {
    if outcome.heuristic {
        return Err(Error::Heuristic(Box::new(outcome)));
    }
    if outcome.decision != decision {
        return Err(Error::AlreadyDecided(Box::new(outcome)));
    }
    Ok(outcome)
}
