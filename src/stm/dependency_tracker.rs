//! What serializable transactions depend on, and whether they may commit.
//!
//! The Serial Safety Net (Wang, Johnson, Fekete and Pandis, "Efficiently making (almost) any concurrency control
//! mechanism serializable", VLDB Journal 26, 2017) over snapshot isolation, made strict, and with the finer marks of
//! readers that its extension has (arXiv 2511.22956). Stamps are commit times. A dependency of a transaction on one
//! with an earlier stamp, that it comes before it, can only be this: it has read what the other one has overwritten.
//! The *low watermark* of a transaction is the earliest stamp that is reached from it by such steps back alone, or its
//! own. The serial order is that of the low watermarks, and among equals the later stamp comes first. All steps back
//! agree with it. For the others it takes that whoever comes before a transaction has a lower low watermark than it
//! has:
//!
//! - whoever was committed at its snapshot, as that may have been seen, or have ended before it began;
//! - read-only transactions, of which only the newest snapshot is known, slot by slot;
//! - who wrote, or read, what it overwrites: each version has its stamp, and certified readers leave their low
//!   watermark behind ([`super::reader_marks`]) before they commit.
//!
//! Otherwise it aborts. One that has read nothing stale is its own low watermark, above everything before its stamp,
//! and commits without a look at any of this. So no writer is aborted that backward validation would let through. What
//! it costs is linear in what a transaction reads and writes. `docs/correctness.md` has the proof.
//!
//! Anyone can certify a stamped transaction: all that it is judged by is frozen, or grows only to its disadvantage by
//! what comes later. The low watermark is the same for all who find it, as each settles what has an earlier stamp
//! first, by helping. The help goes to ever earlier stamps, so it ends. A reader leaves its mark after it has settled
//! whoever has overwritten what it read before its stamp; so nobody is aborted for a reader that is later than it.
//!
//! A transaction that comes to its end without a write draws no stamp, and has its place at its snapshot. It leaves
//! that as its mark first, and then looks for those who overwrote what it read and have a low watermark at or below.
//! Who is certified later finds the mark; a sequentially consistent fence between the two steps on both sides makes
//! sure that one of them sees the other. Declared read-only, a transaction is known from its beginning and never
//! certified.

use std::ops::ControlFlow;
use std::sync::Arc;

use crossbeam_epoch::Guard;

use super::clock::Clock;
use super::conflict::{Conflict, ConflictKind};
use super::database::{Database, DatabasePool};
use super::evictable::VersionValue;
use super::group_commit::Member;
use super::key::{KeyBytes, KeyRange};
use super::memory::{Descriptor, Head, Phase, Record, RecordRef, State, Version};
use super::options::Direction;
use super::sync::{Ordering, fence};
use super::value::Chunk;

/// More conflicts than this are not reported of one commit.
const REPORTED: usize = 16;

/// A record is looked into for what else to ask for so many records after it was asked for itself.
const BEHIND: usize = 8;

/// A key and the value that a snapshot sees of it.
pub(crate) type Seen<'a, C> = (&'a [u8], &'a VersionValue<C>);

/// What a transaction has read at its snapshot and does not write itself.
pub(crate) struct Footprint<C> {
    pub reads: Vec<PointRead<C>>,
    pub ranges: Arc<[KeyRange]>,
}

pub(crate) struct PointRead<C> {
    pub key: KeyBytes,
    pub hash: u64,
    /// `None`: the key had no record.
    pub record: Option<RecordRef<C>>,
    pub absent: bool,
}

/// The first that has overwritten something after a snapshot.
struct Overwriter {
    version: u64,
    low: u64,
}

/// What has become of a record since a snapshot.
enum Since {
    Unchanged,
    Overwritten(Overwriter),
    /// The record is dead, and was so at the snapshot; its key may have a new one.
    Sealed,
}

/// Settles the fate of transactions and finds what is committed. It owns nothing: it works on the shared structures.
pub(crate) struct DependencyTracker<'g, C: Chunk> {
    pub pool: &'g DatabasePool<C>,
    pub guard: &'g Guard,
}

impl<'g, C: Chunk> DependencyTracker<'g, C> {
    fn database(&self) -> &'g Database<C> {
        self.pool.shared()
    }

    pub fn clock(&self) -> &'g Clock {
        &self.database().clock
    }

    /// The newest version of a record committed at or before a snapshot.
    #[inline]
    pub fn newest_at<'r>(&self, record: &'r Record<C>, snapshot: u64) -> Option<&'r Version<C>>
    where
        'g: 'r,
    {
        match record.head(self.guard) {
            Head::Empty | Head::Sealed => None,
            // Most are found here.
            Head::Version(version) if version.is_finished_by(snapshot) => Some(version),
            Head::Version(version) => self.newest_from(version, snapshot),
        }
    }

    /// The newest version committed at or before a snapshot, from one on.
    #[inline(never)]
    fn newest_from<'r>(&self, first: &'r Version<C>, snapshot: u64) -> Option<&'r Version<C>>
    where
        'g: 'r,
    {
        let mut next = Some(first);
        while let Some(version) = next {
            match version.state(self.guard) {
                State::Committed(number) if number <= snapshot => return Some(version),
                State::Undecided(descriptor) if self.settle_up_to(descriptor, snapshot) => {
                    // Decided now: look at it again.
                }
                // One on its way to the log is later than every snapshot.
                State::Committed(_) | State::Certified(_) | State::Aborted | State::Undecided(_) => {
                    next = version.older(self.guard);
                }
            }
        }
        None
    }

    /// The first records of a range, `most` at most, and asks for all that a reader looks at.
    #[inline(never)]
    pub fn find_range(&self, range: &KeyRange, direction: Direction, most: usize) -> Vec<&'g Record<C>> {
        let mut records: Vec<&Record<C>> = Vec::with_capacity(most);
        self.database().buffer.walk(range.as_bounds(), direction, self.guard, |record| {
            // One record after the other would wait for memory at each step; asked for in advance, the waits overlap.
            record.prefetch();
            if let Some(behind) = records.len().checked_sub(BEHIND) {
                records[behind].prefetch_newest();
            }
            records.push(record);
            if records.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        records[records.len().saturating_sub(BEHIND)..].iter().for_each(|record| record.prefetch_newest());
        fail_point!(ScanCollected);
        records
    }

    /// What a snapshot sees of records, in their order.
    #[inline]
    pub fn seen(&self, records: &[&'g Record<C>], snapshot: u64) -> impl Iterator<Item = Seen<'g, C>> {
        records.iter().filter_map(move |record| {
            fail_point!(ScanBetweenRecords);
            let value = self.newest_at(record, snapshot).and_then(Version::value)?;
            Some((record.key(), value))
        })
    }

    /// Brings an undecided transaction to its decision, or to the log, if its stamp can be at or before `limit`. False:
    /// it is later.
    fn settle_up_to(&self, descriptor: &Descriptor<C>, limit: u64) -> bool {
        loop {
            match descriptor.phase() {
                // Its stamp will be drawn after this look at it, and the limit was drawn before.
                Phase::Installing => return false,
                Phase::Ready => {
                    fail_point!(ReadMetReady);
                    self.stamp(descriptor);
                }
                Phase::Stamped(version) | Phase::Certified(version) if version > limit => return false,
                Phase::Stamped(version) => {
                    fail_point!(ReadMetStamped);
                    // Those before it first, in their order: or each would settle the one before it, ever deeper.
                    self.settle_announced(version - 1);
                    self.decide(descriptor, version);
                }
                Phase::Certified(_) | Phase::Committed(_) | Phase::Aborted => return true,
            }
        }
    }

    /// Gives a ready transaction its place in the order. A stamp that comes too late for that is lost.
    pub fn stamp(&self, descriptor: &Descriptor<C>) {
        let version = self.database().clock.draw();
        fail_point!(StampDrawn);
        let stamped = match descriptor.certified_by_stamp() {
            true => descriptor.let_through(version),
            false => Phase::Stamped(version),
        };
        _ = descriptor.advance(Phase::Ready, stamped);
        fail_point!(Stamped);
    }

    /// Certifies a stamped transaction and decides it, unless somebody else has. Where commits are logged, one that is
    /// let through has the log before it.
    pub fn decide(&self, descriptor: &Descriptor<C>, version: u64) {
        let certified = self.certify(descriptor, version);
        let verdict = if certified { descriptor.let_through(version) } else { Phase::Aborted };
        fail_point!(VerdictFound);
        _ = descriptor.advance(Phase::Stamped(version), verdict);
        fail_point!(Decided);
    }

    /// Whether a transaction may commit at its stamp. What follows from a commit is left behind before it says so. If
    /// it is decided meanwhile, the answer means nothing.
    fn certify(&self, descriptor: &Descriptor<C>, version: u64) -> bool {
        let Some(footprint) = descriptor.footprint.as_deref() else {
            return true;
        };
        let mut low = version;
        let mut walked = 0_u32;
        let stopped = self.overwriters(footprint, descriptor.snapshot, version - 1, |_, overwriter| {
            low = overwriter.map_or(low, |overwriter| low.min(overwriter.low));
            walked = walked.wrapping_add(1);
            let moot = walked.is_multiple_of(64) && descriptor.phase() != Phase::Stamped(version);
            if low <= descriptor.snapshot || moot { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        // What has held for one helper holds: the marks that it has left since must not count against their own reader.
        let refused = || low < version && self.comes_after(descriptor, low, version) && !descriptor.is_certified();
        if stopped.is_break() || refused() {
            return false;
        }
        let low = descriptor.certified(low);
        fail_point!(BeforeMarksLeft);
        if descriptor.phase() != Phase::Stamped(version) {
            return false;
        }
        self.leave_reader_marks(footprint, descriptor.snapshot, low);
        true
    }

    /// Whether a transaction with stale reads may have to come after one whose stamp or low watermark is at least
    /// `low`.
    fn comes_after(&self, descriptor: &Descriptor<C>, low: u64, version: u64) -> bool {
        self.settle_announced(version - 1);
        // Pairs with the fence in `certify_at_snapshot`; the writes were installed before the stamp was drawn.
        fence(Ordering::SeqCst);
        if self.pool.words().any(|word| word.newest_read_only() >= low) {
            return true;
        }
        let Some(overwritten) = descriptor.overwritten(self.guard) else {
            return true;
        };
        let Database { buffer, reader_marks, .. } = self.database();
        let mut keys = Vec::new();
        for (record, older) in overwritten {
            let key = record.key();
            let newest = older.and_then(|version| version.standing(self.guard));
            let written = newest.map_or(0, |(_, number)| number);
            let read = match newest.filter(|(version, _)| version.value().is_some()) {
                Some((version, _)) => version.readers.highest(),
                None => reader_marks.of_absent(buffer.hash(key)).highest(),
            };
            if written.max(read) >= low {
                return true;
            }
            keys.push(key);
        }
        keys.sort_unstable();
        reader_marks.scanned_since(&keys, low, self.guard)
    }

    /// Decides all transactions under certification with a stamp up to `limit`, so that the marks that they leave as
    /// readers are where they belong. In their order: none then has to settle another.
    fn settle_announced(&self, limit: u64) {
        let announced = self.pool.presences().filter_map(|presence| presence.announcement.descriptor(self.guard));
        let stamped = announced.filter_map(|descriptor| {
            // Its stamp may be drawn already, and not published.
            if descriptor.phase() == Phase::Ready {
                self.stamp(descriptor);
            }
            descriptor.phase().stamped_up_to(limit).map(|version| (version, descriptor))
        });
        let mut stamped: Vec<_> = stamped.collect();
        stamped.sort_unstable_by_key(|(version, _)| *version);
        fail_point!(AnnouncedCollected);
        for (version, descriptor) in stamped {
            if descriptor.phase() == Phase::Stamped(version) {
                self.decide(descriptor, version);
            }
        }
    }

    /// The transactions with a stamp up to `limit`, which must be drawn, that are on their way to the log, in their
    /// order. The others up to there are decided.
    pub fn certified_up_to(&self, limit: u64) -> Vec<Member<'g, C>> {
        self.settle_announced(limit);
        let announced = self.pool.presences().filter_map(|presence| presence.announcement.descriptor(self.guard));
        let mut certified: Vec<_> = announced
            .filter_map(|descriptor| match descriptor.phase() {
                Phase::Certified(version) if version <= limit => Some(Member { version, descriptor }),
                _ => None,
            })
            .collect();
        certified.sort_unstable_by_key(|member| member.version);
        certified
    }

    /// Makes those start over that are announced and still install.
    pub fn abort_installing(&self) {
        for descriptor in self.pool.presences().filter_map(|presence| presence.announcement.descriptor(self.guard)) {
            _ = descriptor.advance(Phase::Installing, Phase::Aborted);
        }
    }

    /// Lets a transaction that has written nothing commit at its snapshot. Its slot must keep all that is later.
    ///
    /// # Errors
    /// The conflicts, if it would see some others in an order that they cannot have.
    pub fn certify_at_snapshot(&self, footprint: &Footprint<C>, snapshot: u64) -> Result<(), Vec<Conflict>> {
        self.leave_reader_marks(footprint, snapshot, snapshot);
        fail_point!(LateMarksLeft);
        // Pairs with the fence in `comes_after`.
        fence(Ordering::SeqCst);
        // Read after the slot has said that it keeps what is later than the snapshot: up to here nothing gets lost.
        let limit = self.clock().newest();
        match self.conflicts(footprint, snapshot, limit, |overwriter| overwriter.low <= snapshot) {
            conflicts if conflicts.is_empty() => Ok(()),
            conflicts => Err(conflicts),
        }
    }

    /// What a transaction has read and others have overwritten before `version`.
    pub fn stale_reads(&self, descriptor: &Descriptor<C>, version: u64) -> Vec<Conflict> {
        match descriptor.footprint.as_deref() {
            Some(footprint) => self.conflicts(footprint, descriptor.snapshot, version - 1, |_| true),
            None => Vec::new(),
        }
    }

    /// What others have overwritten of a footprint since a snapshot, as far as it is ready by now.
    pub fn overwritten_since(&self, footprint: &Footprint<C>, snapshot: u64) -> Vec<Conflict> {
        self.conflicts(footprint, snapshot, u64::MAX, |_| true)
    }

    fn conflicts(
        &self,
        footprint: &Footprint<C>,
        snapshot: u64,
        limit: u64,
        is_one: impl Fn(&Overwriter) -> bool,
    ) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        _ = self.overwriters(footprint, snapshot, limit, |place, overwriter| {
            if let Some(overwriter) = overwriter.filter(&is_one) {
                let (kind, key, range) = match place {
                    Place::Key(read) if read.absent => (ConflictKind::Phantom, read.key.as_slice(), None),
                    Place::Key(read) => (ConflictKind::ReadWrite, read.key.as_slice(), None),
                    Place::InRange(key, range) => (ConflictKind::Phantom, key, Some(range.clone())),
                };
                conflicts.push(Conflict { kind, key: key.to_vec(), range, version: overwriter.version, holder: None });
            }
            if conflicts.len() == REPORTED { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        conflicts
    }

    /// Passes all places of a footprint, each with its first overwriter after `snapshot` and up to `limit`, to `visit`.
    fn overwriters(
        &self,
        footprint: &Footprint<C>,
        snapshot: u64,
        limit: u64,
        mut visit: impl FnMut(Place<'_, C>, Option<Overwriter>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for read in &footprint.reads {
            fail_point!(BeforeReadCertified);
            visit(Place::Key(read), self.overwriter(read, snapshot, limit))?;
        }
        for range in &*footprint.ranges {
            let mut flow = ControlFlow::Continue(());
            // Whoever is stamped before has linked its records before, so this walk meets all of them.
            self.database().buffer.walk(range.as_bounds(), Direction::Forward, self.guard, |record| {
                fail_point!(BeforeRangeCertified);
                let overwriter = match self.since(record, snapshot, limit) {
                    Since::Overwritten(overwriter) => Some(overwriter),
                    Since::Unchanged | Since::Sealed => None,
                };
                flow = visit(Place::InRange(record.key(), range), overwriter);
                flow
            });
            flow?;
        }
        ControlFlow::Continue(())
    }

    fn overwriter(&self, read: &PointRead<C>, snapshot: u64, limit: u64) -> Option<Overwriter> {
        let Database { buffer, .. } = self.database();
        let mut record = match read.record.as_deref() {
            Some(record) => record,
            None => buffer.find(read.hash, read.key.as_slice(), self.guard)?,
        };
        loop {
            match self.since(record, snapshot, limit) {
                Since::Unchanged => return None,
                Since::Overwritten(overwriter) => return Some(overwriter),
                Since::Sealed => {
                    buffer.remove(record, self.guard);
                    record = buffer.find(read.hash, read.key.as_slice(), self.guard)?;
                }
            }
        }
    }

    fn since(&self, record: &Record<C>, snapshot: u64, limit: u64) -> Since {
        let mut next = match record.head(self.guard) {
            Head::Empty => None,
            Head::Sealed => return Since::Sealed,
            Head::Version(version) => Some(version),
        };
        let mut first = None;
        while let Some(version) = next {
            match version.state(self.guard) {
                State::Committed(number) if number <= snapshot => break,
                State::Undecided(descriptor) if self.settle_up_to(descriptor, limit) => continue,
                State::Committed(number) | State::Certified(number) if number <= limit => {
                    first = Some((version, number));
                }
                State::Committed(_) | State::Certified(_) | State::Aborted | State::Undecided(_) => {}
            }
            next = version.older(self.guard);
        }
        match first {
            Some((version, number)) => {
                Since::Overwritten(Overwriter { version: number, low: version.low_watermark(self.guard) })
            }
            None => Since::Unchanged,
        }
    }

    /// Leaves the low watermark of a reader on all that it has read.
    fn leave_reader_marks(&self, footprint: &Footprint<C>, snapshot: u64, low: u64) {
        let Database { buffer, reader_marks, .. } = self.database();
        for read in &footprint.reads {
            let record = match &read.record {
                _ if read.absent => None,
                Some(record) => Some(&**record),
                None => buffer.find(read.hash, read.key.as_slice(), self.guard),
            };
            let seen = record.and_then(|record| self.newest_at(record, snapshot));
            match seen.filter(|version| version.value().is_some()) {
                Some(version) => version.readers.raise(low),
                None => reader_marks.of_absent(read.hash).raise(low),
            }
            fail_point!(MarkLeft);
        }
        if !footprint.ranges.is_empty() {
            reader_marks.scanned(&footprint.ranges, low, self.guard);
        }
    }
}

/// What an overwriter is looked for at.
enum Place<'a, C> {
    Key(&'a PointRead<C>),
    InRange(&'a [u8], &'a KeyRange),
}

#[cfg(test)]
mod tests {
    use super::super::database::{Context, Keeper};
    use super::super::memory::{Claim, Installation, Owner, Pool};
    use super::super::options::{IsolationLevel, Options, TransactionOptions};
    use super::super::snapshot::{Registration, SlotWord};
    use super::super::transaction::Transaction;
    use super::*;
    use crate::stm::value::tests::{Rows, rows};

    type Slot = Claim<Context<Rows>, Database<Rows>, Rows>;

    fn open() -> Arc<DatabasePool<Rows>> {
        Pool::new(Database::new(Options::default()))
    }

    fn overtake(pool: &Arc<DatabasePool<Rows>>, key: &[u8]) {
        let options = TransactionOptions { isolation: Some(IsolationLevel::ReadCommitted), ..Default::default() };
        let mut transaction = Transaction::begin(pool, &Keeper::none(), &options, None);
        transaction.put(key, rows(&[1])).unwrap();
        transaction.commit().unwrap();
    }

    fn read(pool: &DatabasePool<Rows>, key: &[u8], guard: &Guard) -> PointRead<Rows> {
        let buffer = &pool.shared().buffer;
        let hash = buffer.hash(key);
        let record = buffer.find(hash, key, guard).map(|record| record.share(guard));
        PointRead { key: KeyBytes::new(key), hash, absent: record.is_none(), record }
    }

    /// Installs a key and draws a stamp, and leaves the rest to others.
    fn stamped<'g>(
        pool: &'g DatabasePool<Rows>,
        slot: &'g mut Slot,
        footprint: Footprint<Rows>,
        snapshot: u64,
        written: &[u8],
        guard: &'g Guard,
    ) -> Installation<'g, Rows> {
        let buffer = &pool.shared().buffer;
        let (context, _, presence) = slot.parts();
        let owner = Owner { guard, presence, participant: &context.participant };
        let mut installation = Installation::new(snapshot, Some(Arc::new(footprint)), false, 1, owner);
        let record = buffer.record(buffer.hash(written), written, guard);
        let value = Some(VersionValue::new(rows(&[2]), None));
        assert!(installation.try_install(record, record.head(guard), value, false, 8).is_ok());
        installation.descriptor().advance(Phase::Installing, Phase::Ready).unwrap();
        DependencyTracker { pool, guard }.stamp(installation.descriptor());
        installation
    }

    fn register(pool: &Arc<DatabasePool<Rows>>) -> (Slot, u64) {
        let register = |word: &SlotWord| word.register(Registration::Snapshot, &pool.shared().clock);
        let (mut slot, snapshot) = pool.claim_by(register, Database::context);
        slot.parts().2.word.keep_later(snapshot);
        (slot, snapshot)
    }

    /// One has certified a transaction and stops before it says so; the next finds the marks that this one has left.
    #[test]
    fn a_second_helper_agrees_with_the_first() {
        let pool = open();
        let mut helper = pool.claim(Database::context);
        let guard = helper.parts().0.participant.pin();
        overtake(&pool, b"x");
        let (mut slot, snapshot) = register(&pool);
        overtake(&pool, b"x");
        let footprint =
            Footprint { reads: vec![read(&pool, b"x", &guard)], ranges: Arc::from([KeyRange::prefix(b"range/")]) };
        let installation = stamped(&pool, &mut slot, footprint, snapshot, b"range/own", &guard);
        let tracker = DependencyTracker { pool: &pool, guard: &guard };
        let Phase::Stamped(version) = installation.descriptor().phase() else { panic!("it is stamped") };
        assert!(tracker.certify(installation.descriptor(), version));
        assert!(tracker.certify(installation.descriptor(), version));
    }

    /// Each has read what the one before writes, and all owners have stopped.
    #[test]
    fn a_long_chain_is_settled_on_a_small_stack() {
        const LENGTH: usize = 500;
        let settle = || {
            let pool = open();
            let key = |number: usize| format!("key/{number}").into_bytes();
            (0..=LENGTH).for_each(|number| overtake(&pool, &key(number)));
            let mut helper = pool.claim(Database::context);
            let guard = helper.parts().0.participant.pin();
            let (mut slots, snapshots): (Vec<Slot>, Vec<u64>) = (0..LENGTH).map(|_| register(&pool)).unzip();
            let mut chain = Vec::new();
            for (number, slot) in slots.iter_mut().enumerate() {
                let reads = vec![read(&pool, &key(number), &guard)];
                let footprint = Footprint { reads, ranges: Arc::from([]) };
                chain.push(stamped(&pool, slot, footprint, snapshots[number], &key(number + 1), &guard));
            }
            let last = chain[LENGTH - 1].descriptor();
            let Phase::Stamped(version) = last.phase() else { panic!("it is stamped") };
            DependencyTracker { pool: &pool, guard: &guard }.decide(last, version);
            // The first has read nothing stale; each of the others comes before the one before it.
            assert!(chain.iter().all(|one| matches!(one.descriptor().phase(), Phase::Committed(_))));
        };
        std::thread::Builder::new().stack_size(256 * 1024).spawn(settle).unwrap().join().unwrap();
    }
}
