//! The end of a transaction, and what its commit must come to.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use khonsu::ffi::error::khonsu_conflict_kind as Kind;
use khonsu::ffi::options::khonsu_isolation as Isolation;
use khonsu::ffi::status::khonsu_status as Status;
use khonsu::ffi::txn::*;

use super::graph::Moment;
use super::model::{Cell, Key, Outcome, Transaction};
use super::values::Value;
use super::{LENT, SLOTS, Slot, State, World, expect, expect_one_of};
use crate::call::{Conflict, call, call_plainly, call_reporting};
use crate::reached;

impl World<'_> {
    pub(super) fn commit(&mut self) {
        let number = self.slot();
        let quietly = self.input.flag();
        let (handle, transaction) = self.parts(number);
        let open = transaction.is_some();
        let (status, conflicts) = match quietly {
            true => (call_plainly!(khonsu_txn_commit(handle)), None),
            false => {
                let (status, report) = call_reporting!(khonsu_txn_commit(handle));
                (status, Some(report.conflicts))
            }
        };
        if !open || number == LENT {
            return expect(status, self.not_open(number));
        }
        let mut version = 0;
        let versioned = call!(khonsu_txn_commit_version(handle, &mut version));
        expect(versioned, if status == Status::Ok { Status::Ok } else { Status::InvalidState });
        self.ended(number, status, version, conflicts);
        expect(call!(khonsu_txn_commit(handle)), Status::InvalidState);
    }

    /// Holds the outcome of a commit against the reference, and applies it there.
    pub(super) fn ended(&mut self, number: usize, status: Status, version: u64, conflicts: Option<Vec<Conflict>>) {
        let Some(Slot { state, began, .. }) = &mut self.slots[number] else { unreachable!("it has just ended") };
        let next = if status == Status::Ok { State::Committed(version) } else { State::Ended };
        let State::Open(transaction) = std::mem::replace(state, next) else { unreachable!("it was open") };
        let began = *began;
        let certified = transaction.is_serializable() && !transaction.read_only;
        let stale = certified && transaction.is_stale(&self.committed);
        let outcome = transaction.outcome(&self.committed);
        reached::note(
            match transaction.isolation {
                Isolation::Serializable => "commit of a serializable transaction",
                Isolation::RepeatableRead => "commit at repeatable read",
                Isolation::ReadCommitted => "commit at read committed",
            },
            match (&outcome, stale, status) {
                (Outcome::Commits(_), false, _) => "must succeed",
                (Outcome::Commits(_), true, Status::Ok) => "with stale reads succeeds",
                (Outcome::Commits(_), true, _) => "with stale reads is refused",
                (Outcome::Fails { mismatch: true, .. }, ..) => "must fail: schemas differ",
                (Outcome::Fails { .. }, ..) => "must fail: overtaken",
            },
        );
        let overtaken = match (outcome, status) {
            (Outcome::Commits(changes), Status::Ok) => {
                self.counts.commits += 1;
                assert!(version >= transaction.began_version());
                self.apply(transaction, began, changes, version);
                return;
            }
            (Outcome::Commits(_), _) => {
                assert!(stale, "{status:?} without a reason: {conflicts:?}");
                expect(status, Status::Conflict);
                BTreeSet::new()
            }
            (Outcome::Fails { overtaken, mismatch }, _) => {
                let conflict = !overtaken.is_empty() || stale;
                match (conflict, mismatch) {
                    (true, false) => expect(status, Status::Conflict),
                    (false, _) => expect(status, Status::SchemaMismatch),
                    (true, true) => expect_one_of(status, &[Status::Conflict, Status::SchemaMismatch]),
                }
                overtaken
            }
        };
        match status {
            Status::Conflict => self.counts.conflicts += 1,
            _ => self.counts.rollbacks += 1,
        }
        if let (Status::Conflict, Some(conflicts)) = (status, conflicts) {
            assert!(!conflicts.is_empty(), "a conflict says what it is");
            for conflict in conflicts {
                const WRITE_WRITE: i32 = Kind::WriteWrite as i32;
                const READ_WRITE: i32 = Kind::ReadWrite as i32;
                const PHANTOM: i32 = Kind::Phantom as i32;
                reached::note(
                    "conflict of kind",
                    match conflict.kind {
                        WRITE_WRITE => "write-write",
                        READ_WRITE => "read-write",
                        PHANTOM => "phantom",
                        other => panic!("kind {other}, but nobody has prepared or reserved anything"),
                    },
                );
                assert!((1..=KHONSU_KEY_MAX_BYTES).contains(&conflict.key.len()));
                assert!(conflict.version <= self.committed.version);
                if conflict.kind == WRITE_WRITE {
                    let cell = self.committed.cells.get(&conflict.key);
                    assert!(overtaken.contains(&conflict.key), "{conflict:?} is none of {overtaken:?}");
                    assert_eq!(cell.map(|cell| cell.version), Some(conflict.version));
                } else {
                    assert!(stale, "{conflict:?}, but nothing that was read was changed");
                }
            }
        }
    }

    pub(super) fn apply(
        &mut self,
        transaction: Transaction,
        began: Moment,
        changes: BTreeMap<Key, Option<Value>>,
        version: u64,
    ) {
        let serializable = transaction.is_serializable();
        let wrote = !changes.is_empty();
        let mut changed = Vec::new();
        if wrote {
            assert!(version > self.committed.version, "versions grow");
            self.committed.version = version;
            let cells = Rc::make_mut(&mut self.committed.cells);
            for (key, value) in changes {
                let before = cells.insert(key.clone(), Cell { version, value: value.clone() });
                // To delete what is not there changes nothing that can be seen.
                if value.is_some() || before.is_some_and(|before| before.value.is_some()) {
                    changed.push(key);
                }
            }
        }
        if wrote || serializable {
            self.graph.commit(began, transaction.into_seen(), changed, version);
        }
    }

    pub(super) fn rollback(&mut self) {
        let number = self.slot();
        let (handle, transaction) = self.parts(number);
        let open = transaction.is_some();
        let status = call!(khonsu_txn_rollback(handle));
        if !open || number == LENT {
            return expect(status, self.not_open(number));
        }
        expect(status, Status::Ok);
        self.counts.rollbacks += 1;
        self.slots[number].as_mut().into_iter().for_each(|slot| slot.state = State::Ended);
        expect(call!(khonsu_txn_commit_version(handle, &mut 0)), Status::InvalidState);
    }

    pub(super) fn free(&mut self) {
        let number = self.input.below(SLOTS);
        if number == LENT {
            // SAFETY: it belongs to khonsu_db_transact, for which this does nothing, or is NULL.
            unsafe { khonsu_txn_free(self.parts(number).0) };
        } else {
            self.free_slot(number);
        }
    }

    pub(super) fn free_slot(&mut self, number: usize) {
        if let Some(mut slot) = self.slots[number].take() {
            self.counts.rollbacks += u64::from(slot.open().is_some());
            if let State::Committed(expected) = slot.state {
                let mut version = 0;
                expect(call!(khonsu_txn_commit_version(slot.handle, &mut version)), Status::Ok);
                assert_eq!(version, expected);
            }
            // SAFETY: owned, and not used again.
            unsafe { khonsu_txn_free(slot.handle) };
        }
    }
}
