//! Committers that install and look at what is held, against preparers that enter what they hold and look at what is
//! installed. And the word of a prepared transaction, which several decide by.

use loom::sync::Arc as LoomArc;

use super::{Shared, database, explore, spawn, value};
use crate::stm::holds::Gate;
use crate::stm::memory::{DecisionWord, Head, Installation, Phase, Standing};
use crate::stm::outcome::Decision;
use crate::stm::sync::{AtomicBool, Ordering};

/// What a committer does up to its look at what is held: whether it has found something to look for.
fn install_and_look(database: &Shared, gate: &Gate, entry: Option<&AtomicBool>) -> bool {
    database.owned(|owner| {
        let guard = owner.guard;
        let mut installation = Installation::new(0, None, false, 1, owner);
        let record = database.record(b"k", guard);
        assert!(installation.try_install(record, record.head(guard), value(1), false, 8).is_ok());
        // Relaxed: ordered by the gate.
        let finds = gate.is_open() && entry.is_none_or(|entry| entry.load(Ordering::Relaxed));
        // It stays installed, as if it were ready, when there is nothing.
        if !finds {
            _ = installation.descriptor().advance(Phase::Installing, Phase::Ready);
            database.tracker(guard).stamp(installation.descriptor());
        }
        finds
    })
}

/// What a preparer finds at the key that it holds.
fn look(database: &Shared) -> bool {
    database.pinned(|guard| {
        let record = database.buffer.find(database.buffer.hash(b"k"), b"k", guard);
        record.is_some_and(|record| matches!(record.head(guard), Head::Version(_)))
    })
}

/// The key has no record before.
#[test]
fn a_committer_and_a_preparer_miss_each_other_not_both() {
    explore(3, || {
        let (database, gate) = (database(), LoomArc::new(Gate::new()));
        let committer = {
            let gate = gate.clone();
            spawn(&database, move |database: &Shared| install_and_look(database, &gate, None))
        };
        gate.enter();
        gate.entered();
        let found = look(&database);
        assert!(committer.join().unwrap() || found, "neither has seen the other");
    });
}

/// Somebody else holds something already, so that the committer looks in any case, and what counts is the entry.
#[test]
fn what_is_entered_behind_the_count_is_not_missed() {
    explore(3, || {
        let (database, gate) = (database(), LoomArc::new(Gate::new()));
        let entry = LoomArc::new(AtomicBool::new(false));
        gate.enter();
        database.pinned(|guard| _ = database.record(b"k", guard));
        let committer = {
            let (gate, entry) = (gate.clone(), entry.clone());
            spawn(&database, move |database: &Shared| install_and_look(database, &gate, Some(&entry)))
        };
        gate.enter();
        entry.store(true, Ordering::Relaxed);
        gate.entered();
        let found = look(&database);
        assert!(committer.join().unwrap() || found, "neither has seen the other");
    });
}

/// A preparer makes what it holds binding while a committer refuses it: one of them succeeds.
#[test]
fn refused_or_binding() {
    explore(None, || {
        let word: LoomArc<DecisionWord<super::Number>> = LoomArc::new(DecisionWord::new(Standing::Preparing));
        let refuses = {
            let word = word.clone();
            loom::thread::spawn(move || word.advance(Standing::Preparing, Standing::Refused))
        };
        let binds = word.advance(Standing::Preparing, Standing::Prepared);
        assert!(binds != refuses.join().unwrap());
    });
}

/// A commit and a rollback by two threads: they agree, whoever is first.
#[test]
fn a_commit_and_a_rollback_agree() {
    explore(3, || {
        let database = database();
        let word: LoomArc<DecisionWord<super::Number>> = LoomArc::new(DecisionWord::new(Standing::Prepared));
        let commits = {
            let word = word.clone();
            spawn(&database, move |database: &Shared| {
                database.owned(|owner| {
                    let guard = owner.guard;
                    let installation = Installation::new(0, None, false, 1, owner);
                    let attempt = installation.descriptor();
                    let committing = Standing::Committing { attempt, heuristic: false };
                    if !word.advance(Standing::Prepared, committing) {
                        return false;
                    }
                    _ = attempt.advance(Phase::Installing, Phase::Ready);
                    loop {
                        match attempt.phase() {
                            Phase::Ready => database.tracker(guard).stamp(attempt),
                            Phase::Committed(_) => {
                                let committed = Standing::Decided { decision: Decision::Commit, heuristic: false };
                                word.advance(committing, committed);
                                return true;
                            }
                            Phase::Aborted => {
                                word.advance(committing, Standing::Prepared);
                                return false;
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                })
            })
        };
        let rolled_back = database.pinned(|guard| {
            loop {
                let standing = word.standing(guard);
                match standing {
                    Standing::Committing { attempt, .. } if attempt.phase() != Phase::Aborted => {
                        match attempt.phase() {
                            Phase::Installing => _ = attempt.advance(Phase::Installing, Phase::Aborted),
                            Phase::Ready => database.tracker(guard).stamp(attempt),
                            _ => return false,
                        }
                    }
                    Standing::Prepared | Standing::Committing { .. } => {
                        let rollback = Standing::Decided { decision: Decision::Rollback, heuristic: false };
                        if word.advance(standing, rollback) {
                            return true;
                        }
                    }
                    _ => return false,
                }
            }
        });
        assert!(commits.join().unwrap() != rolled_back, "they disagree");
    });
}
