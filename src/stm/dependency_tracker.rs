//! What serializable transactions depend on, and whether they may commit.
//!
//! First form: backward validation (Kung and Robinson, "On Optimistic Methods for Concurrency Control", TODS 6(2),
//! 1981, section 4, with the stamps as transaction numbers). A transaction may commit at its stamp if nothing that it
//! read at its snapshot, key, absent key or range, was committed by another one between the two. It then might as well
//! have run at the instant of its stamp, so stamps are a serial order, and one that respects real time. Transactions
//! that write nothing are ordered at their snapshots and need no certification.
//!
//! Anyone can certify a stamped transaction: its footprint is frozen. All come to the same verdict, because what is
//! committed before its stamp is settled first, by helping, and what is not stamped yet will get a later stamp. The help
//! goes to ever earlier stamps, so it ends.

use std::ops::ControlFlow;
use std::ptr;

use crossbeam_epoch::Guard;

use super::clock::Clock;
use super::conflict::{Conflict, ConflictKind};
use super::key::{KeyBytes, KeyRange};
use super::memory::{Descriptor, Head, Phase, Record, RecordRef, State, Version};
use super::options::Direction;
use super::txn_buffer::TxnBuffer;
use super::value::Value;

/// More conflicts than this are not reported of one commit.
const REPORTED: usize = 16;

/// What a transaction has read at its snapshot and does not write itself.
pub(crate) struct Footprint<C> {
    pub reads: Vec<PointRead<C>>,
    pub ranges: Vec<KeyRange>,
}

pub(crate) struct PointRead<C> {
    pub key: KeyBytes,
    pub hash: u64,
    /// `None`: the key had no record.
    pub record: Option<RecordRef<C>>,
    pub absent: bool,
}

/// The newest version that was committed at or before a limit.
pub(crate) enum Newest<'g, C> {
    Version(&'g Version<C>, u64),
    None,
    /// The record is dead.
    Sealed,
}

/// Settles the fate of transactions and finds what is committed. It owns nothing: it works on the shared structures.
pub(crate) struct DependencyTracker<'g, C: Send + Sync + 'static> {
    pub buffer: &'g TxnBuffer<C>,
    pub clock: &'g Clock,
    pub guard: &'g Guard,
}

impl<'g, C: Send + Sync + 'static> DependencyTracker<'g, C> {
    /// The newest version of a record committed at or before `limit`; those of `own` are passed over.
    pub fn newest_at(&self, record: &'g Record<C>, limit: u64, own: Option<&'g Descriptor<C>>) -> Newest<'g, C> {
        let mut next = match record.head(self.guard) {
            Head::Empty => None,
            Head::Sealed => return Newest::Sealed,
            Head::Version(version) => Some(version),
        };
        while let Some(version) = next {
            match version.state(self.guard) {
                State::Committed(number) if number <= limit => return Newest::Version(version, number),
                State::Undecided(descriptor)
                    if !own.is_some_and(|own| ptr::eq(own, descriptor)) && self.settle_up_to(descriptor, limit) =>
                {
                    // Decided now: look at it again.
                }
                State::Committed(_) | State::Aborted | State::Undecided(_) => next = version.older(self.guard),
            }
        }
        Newest::None
    }

    /// Passes the values that a snapshot sees in a range to `visit`, looking at no more than `most` records. Gives the last
    /// of them where the range may go on behind it.
    pub fn read_range(
        &self,
        range: &KeyRange,
        direction: Direction,
        most: usize,
        snapshot: u64,
        mut visit: impl FnMut(&'g Record<C>, &'g Value<C>),
    ) -> Option<&'g Record<C>> {
        let mut records: Vec<&Record<C>> = Vec::with_capacity(most);
        self.buffer.walk(range.as_bounds(), direction, self.guard, |record| {
            // One record after the other would wait for memory at each step; asked for in advance, the waits overlap.
            record.prefetch();
            records.push(record);
            if records.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        records.iter().for_each(|record| record.prefetch_newest());
        fail_point!(ScanCollected);
        for record in &records {
            fail_point!(ScanBetweenRecords);
            if let Newest::Version(version, _) = self.newest_at(record, snapshot, None)
                && let Some(value) = version.value()
            {
                visit(record, value);
            }
        }
        records.last().copied().filter(|_| records.len() == most)
    }

    /// Brings an undecided transaction to its decision if its stamp can be at or before `limit`. False: it is later.
    fn settle_up_to(&self, descriptor: &'g Descriptor<C>, limit: u64) -> bool {
        loop {
            match descriptor.phase() {
                // Its stamp will be drawn after this look at it, and the limit was drawn before.
                Phase::Installing => return false,
                Phase::Ready => {
                    fail_point!(ReadMetReady);
                    self.stamp(descriptor);
                }
                Phase::Stamped(version) if version > limit => return false,
                Phase::Stamped(version) => {
                    fail_point!(ReadMetStamped);
                    self.decide(descriptor, version);
                }
                Phase::Committed(_) | Phase::Aborted => return true,
            }
        }
    }

    /// Gives a ready transaction its place in the order. A stamp that comes too late for that is lost.
    pub fn stamp(&self, descriptor: &'g Descriptor<C>) {
        let version = self.clock.draw();
        fail_point!(StampDrawn);
        let stamped = if descriptor.certified_by_stamp() { Phase::Committed(version) } else { Phase::Stamped(version) };
        _ = descriptor.advance(Phase::Ready, stamped);
        fail_point!(Stamped);
    }

    /// Certifies a stamped transaction and decides it, unless somebody else has.
    pub fn decide(&self, descriptor: &'g Descriptor<C>, version: u64) {
        let verdict = match self.conflicts(descriptor, version, 1).is_empty() {
            true => Phase::Committed(version),
            false => Phase::Aborted,
        };
        fail_point!(VerdictFound);
        _ = descriptor.advance(Phase::Stamped(version), verdict);
        fail_point!(Decided);
    }

    /// What forbids a transaction to commit at `version`.
    pub fn reportable_conflicts(&self, descriptor: &'g Descriptor<C>, version: u64) -> Vec<Conflict> {
        self.conflicts(descriptor, version, REPORTED)
    }

    fn conflicts(&self, descriptor: &'g Descriptor<C>, version: u64, most: usize) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        let Some(footprint) = descriptor.footprint.as_deref() else {
            return conflicts;
        };
        let stamped = Phase::Stamped(version);
        for read in &footprint.reads {
            fail_point!(BeforeReadCertified);
            if let Some(version) = self.overwritten(read, descriptor, version) {
                let kind = if read.absent { ConflictKind::Phantom } else { ConflictKind::ReadWrite };
                conflicts.push(Conflict { kind, key: read.key.as_slice().to_vec(), range: None, version });
                if conflicts.len() == most {
                    return conflicts;
                }
            }
        }
        let mut walked = 0_u32;
        for range in &footprint.ranges {
            // Whoever is stamped before has linked its records before, so this walk meets all of them.
            self.buffer.walk(range.as_bounds(), Direction::Forward, self.guard, |record| {
                fail_point!(BeforeRangeCertified);
                if let Newest::Version(_, version) = self.newest_at(record, version - 1, Some(descriptor))
                    && version > descriptor.snapshot
                {
                    conflicts.push(Conflict {
                        kind: ConflictKind::Phantom,
                        key: record.key().to_vec(),
                        range: Some(range.clone()),
                        version,
                    });
                }
                walked = walked.wrapping_add(1);
                // A verdict that somebody else has given meanwhile needs no second one.
                let moot = || most == 1 && walked.is_multiple_of(64) && descriptor.phase() != stamped;
                if conflicts.len() == most || moot() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if conflicts.len() == most {
                break;
            }
        }
        conflicts
    }

    /// The version by which what was read had been overwritten before `version`.
    fn overwritten(&self, read: &'g PointRead<C>, descriptor: &'g Descriptor<C>, version: u64) -> Option<u64> {
        let mut record = match read.record.as_deref() {
            Some(record) => record,
            None => self.buffer.find(read.hash, read.key.as_slice(), self.guard)?,
        };
        loop {
            match self.newest_at(record, version - 1, Some(descriptor)) {
                Newest::Version(_, version) => return Some(version).filter(|version| *version > descriptor.snapshot),
                Newest::None => return None,
                // The key was dead to every snapshot, this one included; it may have come back since.
                Newest::Sealed => {
                    self.buffer.remove(record, self.guard);
                    record = self.buffer.find(read.hash, read.key.as_slice(), self.guard)?;
                }
            }
        }
    }
}
