//! Interleaved transactions against a reference: random operations of several open transactions in one thread, and a
//! model that predicts every read and the outcome of every commit.
//!
//! The reference keeps the whole database once per commit. A write conflicts if its key was committed later than the
//! transaction last read it, or, unread, began. Serializable transactions are certified by a straightforward form of
//! the Serial Safety Net: see [`Certification`]. One that is prepared must have read what is newest, and holds what it
//! has read and is going to write until it is decided.

mod common;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use common::{LEVELS, Numbers, RESOLUTIONS, flat, numbers};
use khonsu::stm::{
    BoundKey, Conflict, ConflictKind, ConflictResolution, Cursor, Decision, Direction, Error, GlobalId, IsolationLevel,
    KeyRange, Options, PrepareOptions, Transaction, TransactionManager, TransactionOptions, Value, Vote,
};
use khonsu::two_phase_commit::TwoPhaseCommitParticipant;
use proptest::prelude::*;
use proptest::sample::select;

const SLOTS: usize = 4;
const CURSORS: usize = 2;
/// Keys that are in the database before the first operation, where there are many: more than a scan reads at a time.
const PRELOADED: u8 = 100;

type Key = Vec<u8>;
type Row = (Key, Vec<u64>);

/// A key, and whether it is named as a bound one, which stays bound.
type Name = (Key, bool);

#[derive(Debug, Clone)]
enum Operation {
    Begin {
        isolation: IsolationLevel,
        resolution: Option<ConflictResolution>,
        read_only: bool,
    },
    Get(Name),
    GetMany(Vec<Key>, bool),
    Exists(Name),
    Put(Name, Vec<u64>),
    Append(Name, Vec<u64>),
    Delete(Name),
    SetResolution(Key, ConflictResolution),
    Scan(KeyRange, Direction, Option<u64>),
    OpenCursor(usize, KeyRange, Direction, Option<u64>),
    Step(usize, u8),
    Savepoint,
    RollbackTo(u64),
    Release(u64),
    Commit,
    Rollback,
    /// Whether reads are held, too.
    Prepare(bool),
    /// Which of the prepared ones, counted around, and whether an operator decides.
    Decide(usize, Decision, bool),
    /// Reclaims everything that can be.
    Stats,
}

// ---- the reference ----

/// One key in one commit: when it was last written, and its rows unless it was deleted then.
#[derive(Debug, Clone)]
struct Cell {
    version: u64,
    rows: Option<Vec<u64>>,
}

type Snapshot = Rc<BTreeMap<Key, Cell>>;

/// What certification goes by: all of it, for ever.
#[derive(Default)]
struct Certification {
    /// The commits of each key in their order: version, and low watermark of the transaction.
    commits: BTreeMap<Key, Vec<(u64, u64)>>,
    /// The highest low watermark of the certified readers of a version of a key; version 0 stands for every time that
    /// it was absent.
    readers: BTreeMap<(Key, u64), u64>,
    /// Scanned ranges, with the low watermarks of their readers.
    scans: Vec<(Vec<ReadRange>, u64)>,
    /// The newest snapshot of a serializable transaction that was declared read-only.
    read_only: Option<u64>,
}

impl Certification {
    /// The commits of a key after a snapshot: version, and low watermark.
    fn later(&self, key: &[u8], snapshot: u64) -> &[(u64, u64)] {
        let commits = self.commits.get(key).map_or(&[][..], Vec::as_slice);
        &commits[commits.partition_point(|(version, _)| *version <= snapshot)..]
    }

    fn leave_reader(&mut self, transaction: &ModelTransaction, stamp: u64) {
        for (key, _) in transaction.reads_only() {
            let seen = transaction.began.get(key).filter(|cell| cell.rows.is_some());
            let place = (key.clone(), seen.map_or(0, |cell| cell.version));
            let newest = self.readers.entry(place).or_default();
            *newest = stamp.max(*newest);
        }
        if !transaction.ranges.is_empty() {
            self.scans.push((transaction.ranges.clone(), stamp));
        }
    }
}

#[derive(Debug, Clone)]
enum Staged {
    Put(Vec<u64>),
    Append(Vec<u64>),
    Delete,
}

#[derive(Debug, Clone)]
struct StagedWrite {
    what: Staged,
    resolution: Option<ConflictResolution>,
}

struct ModelCursor {
    snapshot: Snapshot,
    range: KeyRange,
    direction: Direction,
    left: Option<u64>,
    position: Option<Key>,
    exhausted: bool,
    /// Where its range lies in the transaction's ranges.
    tracked: usize,
}

/// What a scan has read.
#[derive(Clone)]
struct ReadRange {
    range: KeyRange,
    direction: Direction,
    /// `None`: nothing yet.
    reached: Option<Reached>,
    version: u64,
}

#[derive(Clone)]
enum Reached {
    Key(Key),
    End,
}

struct ModelTransaction {
    isolation: IsolationLevel,
    resolution: ConflictResolution,
    read_only: bool,
    began: Snapshot,
    began_version: u64,
    writes: BTreeMap<Key, StagedWrite>,
    /// Version of the snapshot at which each key was last read, and whether it was absent.
    reads: BTreeMap<Key, (u64, bool)>,
    ranges: Vec<ReadRange>,
    savepoints: Vec<(u64, BTreeMap<Key, StagedWrite>)>,
    next_savepoint: u64,
    cursors: [Option<ModelCursor>; CURSORS],
}

/// A transaction in doubt.
struct Held {
    id: GlobalId,
    transaction: ModelTransaction,
    changes: BTreeMap<Key, Option<Vec<u64>>>,
}

impl Held {
    fn certified(&self) -> bool {
        self.transaction.isolation == IsolationLevel::Serializable && self.transaction.tracks_reads()
    }

    fn reads(&self, key: &[u8]) -> bool {
        self.certified()
            && (self.transaction.reads.contains_key(key)
                || self.transaction.ranges.iter().any(|range| range.covers(key)))
    }

    fn excludes_writer(&self, key: &[u8]) -> bool {
        self.changes.contains_key(key) || self.reads(key)
    }
}

enum Outcome {
    /// It wrote nothing, or nothing that stays.
    Unchanged,
    Committed {
        changes: BTreeMap<Key, Option<Vec<u64>>>,
        low: Option<u64>,
    },
    /// These and no others are reasons for it to fail. Readers of absent keys may be taken for those of others; a
    /// failure that only this explains is not certain.
    Conflicts {
        reasons: Vec<Conflict>,
        otherwise: Option<Box<Outcome>>,
    },
    /// The same for one that changes nothing. It leaves what it has read before it looks whether it may commit.
    ConflictsAtSnapshot(Vec<Conflict>),
}

impl Outcome {
    fn conflicts(reasons: Vec<Conflict>) -> Self {
        Outcome::Conflicts { reasons, otherwise: None }
    }
}

fn after_start(start: &Bound<Key>, key: &[u8]) -> bool {
    match start {
        Bound::Unbounded => true,
        Bound::Included(start) => key >= start.as_slice(),
        Bound::Excluded(start) => key > start.as_slice(),
    }
}

fn before_end(end: &Bound<Key>, key: &[u8]) -> bool {
    match end {
        Bound::Unbounded => true,
        Bound::Included(end) => key <= end.as_slice(),
        Bound::Excluded(end) => key < end.as_slice(),
    }
}

fn within(range: &KeyRange, key: &[u8]) -> bool {
    after_start(&range.start, key) && before_end(&range.end, key)
}

fn beyond(position: &[u8], key: &[u8], direction: Direction) -> bool {
    match direction {
        Direction::Forward => key > position,
        Direction::Reverse => key < position,
    }
}

impl ReadRange {
    fn covers(&self, key: &[u8]) -> bool {
        within(&self.range, key)
            && match &self.reached {
                None => false,
                Some(Reached::End) => true,
                Some(Reached::Key(reached)) => !beyond(reached, key, self.direction),
            }
    }
}

fn joined(older: &[u64], newer: &[u64]) -> Vec<u64> {
    [older, newer].concat()
}

impl ModelTransaction {
    fn tracks_reads(&self) -> bool {
        !self.read_only && self.isolation != IsolationLevel::RepeatableRead
    }

    /// What a call sees of others: the newest commit at read committed.
    fn visible(&self, newest: &Snapshot, version: u64) -> (Snapshot, u64) {
        match self.isolation {
            IsolationLevel::ReadCommitted => (Rc::clone(newest), version),
            IsolationLevel::RepeatableRead | IsolationLevel::Serializable => {
                (Rc::clone(&self.began), self.began_version)
            }
        }
    }

    fn merged(&self, snapshot: &Snapshot, key: &[u8]) -> Option<Vec<u64>> {
        let committed = snapshot.get(key).and_then(|cell| cell.rows.clone());
        match (self.writes.get(key).map(|write| &write.what), committed) {
            (None, committed) => committed,
            (Some(Staged::Put(rows)), _) | (Some(Staged::Append(rows)), None) => Some(rows.clone()),
            (Some(Staged::Append(rows)), Some(committed)) => Some(joined(&committed, rows)),
            (Some(Staged::Delete), _) => None,
        }
    }

    fn read(&mut self, key: &[u8], newest: &Snapshot, version: u64) -> Option<Vec<u64>> {
        let (snapshot, version) = self.visible(newest, version);
        // What it has put or deleted itself says nothing about others; but at serializable its write must then stand as
        // read.
        let own = matches!(self.writes.get(key), Some(StagedWrite { what: Staged::Put(_) | Staged::Delete, .. }));
        if own && self.isolation == IsolationLevel::Serializable && self.tracks_reads() {
            self.reads.entry(key.to_vec()).or_insert((version, false));
        } else if self.tracks_reads() && !own {
            let absent = snapshot.get(key).is_none_or(|cell| cell.rows.is_none());
            self.reads.insert(key.to_vec(), (version, absent));
        }
        self.merged(&snapshot, key)
    }

    fn stage(&mut self, key: Key, what: Staged) {
        let before = self.writes.get(&key).cloned();
        let write = match (what, before) {
            (Staged::Append(rows), Some(StagedWrite { what: Staged::Put(older), resolution })) => {
                StagedWrite { what: Staged::Put(joined(&older, &rows)), resolution }
            }
            (Staged::Append(rows), Some(StagedWrite { what: Staged::Append(older), resolution })) => {
                StagedWrite { what: Staged::Append(joined(&older, &rows)), resolution }
            }
            (Staged::Append(rows), Some(StagedWrite { what: Staged::Delete, resolution })) => {
                StagedWrite { what: Staged::Put(rows), resolution }
            }
            (what, _) => StagedWrite { what, resolution: None },
        };
        self.writes.insert(key, write);
    }

    fn open_cursor(
        &mut self,
        (snapshot, version): (Snapshot, u64),
        range: KeyRange,
        direction: Direction,
        left: Option<u64>,
    ) -> ModelCursor {
        self.ranges.push(ReadRange { range: range.clone(), direction, reached: None, version });
        let tracked = self.ranges.len() - 1;
        ModelCursor { snapshot, range, direction, left, position: None, exhausted: false, tracked }
    }

    fn step(&mut self, cursor: &mut ModelCursor) -> Option<Row> {
        if cursor.left == Some(0) || cursor.exhausted {
            return None;
        }
        let ModelCursor { snapshot, range, direction, position, .. } = &*cursor;
        let left = |key: &&Key| {
            within(range, key) && position.as_ref().is_none_or(|position| beyond(position, key, *direction))
        };
        let there = snapshot.keys().chain(self.writes.keys()).filter(left);
        let mut rows: Vec<Row> = there.filter_map(|key| Some((key.clone(), self.merged(snapshot, key)?))).collect();
        rows.sort();
        let row = match direction {
            Direction::Forward => rows.into_iter().next(),
            Direction::Reverse => rows.into_iter().next_back(),
        };
        cursor.position = row.as_ref().map(|(key, _)| key.clone());
        cursor.exhausted = row.is_none();
        cursor.left = cursor.left.map(|left| left - u64::from(row.is_some()));
        self.ranges[cursor.tracked].reached = Some(match &row {
            Some((key, _)) => Reached::Key(key.clone()),
            None => Reached::End,
        });
        row
    }

    fn last_read(&self, key: &[u8]) -> Option<u64> {
        if !self.tracks_reads() {
            return None;
        }
        let scanned = self.ranges.iter().filter(|range| range.covers(key)).map(|range| range.version);
        scanned.chain(self.reads.get(key).map(|(version, _)| *version)).max()
    }

    /// What it has read and does not write.
    fn reads_only(&self) -> impl Iterator<Item = (&Key, bool)> {
        let reads = self.reads.iter().filter(|(key, _)| !self.writes.contains_key(*key));
        reads.map(|(key, (_, absent))| (key, *absent))
    }

    /// What others have overwritten of what it has read, with the low watermark of each.
    fn stale_reads(&self, newest: &Snapshot, certification: &Certification) -> Vec<(Conflict, u64)> {
        let mut stale = Vec::new();
        let mut check = |kind, key: &Key, range| {
            // The first one counts. Reclamation may have left only a later one to be named.
            let later = certification.later(key, self.began_version);
            for (version, _) in later {
                let range: Option<KeyRange> = Option::clone(&range);
                stale.push((Conflict { kind, key: key.clone(), range, version: *version, holder: None }, later[0].1));
            }
        };
        for (key, absent) in self.reads_only() {
            check(if absent { ConflictKind::Phantom } else { ConflictKind::ReadWrite }, key, None);
        }
        for range in &self.ranges {
            for key in newest.keys().filter(|key| range.covers(key)) {
                check(ConflictKind::Phantom, key, Some(range.range.clone()));
            }
        }
        stale
    }

    /// What becomes of it when it changes nothing: it has its place at its snapshot.
    fn unchanged(&self, newest: &Snapshot, certification: &Certification) -> Outcome {
        if self.isolation != IsolationLevel::Serializable || !self.tracks_reads() {
            return Outcome::Unchanged;
        }
        let mut stale = self.stale_reads(newest, certification);
        stale.retain(|(_, low)| *low <= self.began_version);
        match stale.is_empty() {
            true => Outcome::Unchanged,
            false => Outcome::ConflictsAtSnapshot(stale.into_iter().map(|(conflict, _)| conflict).collect()),
        }
    }

    /// What its writes come to on top of what is newest; ignored ones are left out.
    fn resolved(&self, newest: &Snapshot) -> Result<BTreeMap<Key, Option<Vec<u64>>>, Vec<Conflict>> {
        let version_of = |key: &[u8]| newest.get(key).map_or(0, |cell| cell.version);
        let serializable = self.isolation == IsolationLevel::Serializable;
        let mut changes = BTreeMap::new();
        let mut conflicts = Vec::new();
        for (key, write) in &self.writes {
            let last_read = self.last_read(key);
            let read_modify_write = serializable && last_read.is_some();
            let resolution = match read_modify_write {
                true => ConflictResolution::Fail,
                false => write.resolution.unwrap_or(self.resolution),
            };
            let overtaken = version_of(key) > last_read.unwrap_or(self.began_version);
            let base = newest.get(key).and_then(|cell| cell.rows.clone());
            let appended = |rows: &[u64]| Some(joined(base.as_deref().unwrap_or_default(), rows));
            let change = match (&write.what, overtaken, resolution) {
                (Staged::Append(rows), overtaken, _) if !(overtaken && read_modify_write) => appended(rows),
                (Staged::Put(rows), false, _) | (Staged::Put(rows), true, ConflictResolution::Replace) => {
                    Some(rows.clone())
                }
                (Staged::Put(rows), true, ConflictResolution::Append) => appended(rows),
                (Staged::Delete, false, _) | (Staged::Delete, true, ConflictResolution::Replace) => None,
                (_, true, ConflictResolution::Ignore) => continue,
                _ => {
                    conflicts.push(Conflict {
                        kind: ConflictKind::WriteWrite,
                        key: key.clone(),
                        range: None,
                        holder: None,
                        version: version_of(key),
                    });
                    continue;
                }
            };
            changes.insert(key.clone(), change);
        }
        if conflicts.is_empty() { Ok(changes) } else { Err(conflicts) }
    }

    fn outcome(&self, newest: &Snapshot, certification: &Certification) -> Outcome {
        let changes = match self.resolved(newest) {
            Ok(changes) if changes.is_empty() => return self.unchanged(newest, certification),
            Ok(changes) => changes,
            Err(conflicts) => return Outcome::conflicts(conflicts),
        };
        if self.isolation != IsolationLevel::Serializable {
            return Outcome::Committed { changes, low: None };
        }
        let stale = self.stale_reads(newest, certification);
        let low = stale.iter().map(|(_, low)| *low).min();
        let commits = |changes| Outcome::Committed { changes, low };
        let Some(low) = low else {
            return commits(changes);
        };
        let reasons = stale.into_iter().map(|(conflict, _)| conflict).collect();
        let comes_after = |key: &Key| {
            let newest = newest.get(key);
            let seen = newest.filter(|cell| cell.rows.is_some()).map_or(0, |cell| cell.version);
            let read = certification.readers.get(&(key.clone(), seen)).is_some_and(|stamp| *stamp >= low);
            let scans = certification.scans.iter().filter(|(_, stamp)| *stamp >= low);
            let scanned = scans.flat_map(|(ranges, _)| ranges).any(|range| range.covers(key));
            read || scanned || newest.is_some_and(|cell| cell.version >= low)
        };
        if low <= self.began_version
            || certification.read_only.is_some_and(|snapshot| snapshot >= low)
            || changes.keys().any(comes_after)
        {
            return Outcome::conflicts(reasons);
        }
        // Readers of other absent keys may share the place of one that it writes.
        let absent = |key: &Key| newest.get(key).is_none_or(|cell| cell.rows.is_none());
        let mistaken = certification.readers.iter().any(|((_, seen), stamp)| *seen == 0 && *stamp >= low);
        match changes.keys().any(absent) && mistaken {
            true => Outcome::Conflicts { reasons, otherwise: Some(Box::new(commits(changes))) },
            false => commits(changes),
        }
    }
}

// ---- both together ----

struct Slot {
    model: ModelTransaction,
    real: Transaction<Numbers>,
    cursors: [Option<Cursor<Numbers>>; CURSORS],
}

struct World {
    database: TransactionManager<Numbers>,
    newest: Snapshot,
    version: u64,
    certification: Certification,
    slots: [Option<Slot>; SLOTS],
    bound: BTreeMap<Key, Rc<BoundKey<Numbers>>>,
    in_doubt: Vec<Held>,
    /// Ids that were used.
    ids: u64,
}

fn value_of(rows: &[u64]) -> Value<Numbers> {
    // A value of several rows comes as several chunks, so that lists of chunks meet lists of chunks.
    match rows {
        [] => Value::new(numbers(&[])),
        rows => Value::from_chunks(rows.chunks(2).map(numbers)).unwrap().unwrap(),
    }
}

fn conflict_is_among(conflict: &Conflict, expected: &[Conflict]) -> bool {
    expected.iter().any(|expected| {
        (expected.kind, &expected.key, expected.version) == (conflict.kind, &conflict.key, conflict.version)
            && match (&expected.range, &conflict.range) {
                (None, None) => true,
                // What is reported is the part that was read.
                (Some(expected), Some(reported)) => within(reported, &conflict.key) && within(expected, &conflict.key),
                _ => false,
            }
    })
}

impl World {
    fn new(preloaded: u8, resolution: ConflictResolution) -> Self {
        let options = Options { conflict_resolution: resolution, ..Options::default() };
        let database = TransactionManager::new(options);
        let mut transaction = database.begin(&TransactionOptions::default());
        let mut map = BTreeMap::new();
        for number in 0..preloaded {
            let key = vec![b'n', number];
            transaction.put(&key, value_of(&[u64::from(number)])).unwrap();
            map.insert(key, vec![u64::from(number)]);
        }
        let version = transaction.commit().unwrap();
        let cells = map.into_iter().map(|(key, rows)| (key, Cell { version, rows: Some(rows) }));
        World {
            database,
            newest: Rc::new(cells.collect()),
            version,
            certification: Certification::default(),
            slots: [const { None }; SLOTS],
            bound: BTreeMap::new(),
            in_doubt: Vec::new(),
            ids: 0,
        }
    }

    fn bind(&mut self, key: &[u8]) -> Rc<BoundKey<Numbers>> {
        let database = &self.database;
        let bound = self.bound.entry(key.to_vec()).or_insert_with(|| Rc::new(database.bind(key).unwrap()));
        assert_eq!(bound.as_bytes(), key);
        Rc::clone(bound)
    }

    fn begin(&mut self, isolation: IsolationLevel, resolution: Option<ConflictResolution>, read_only: bool) -> Slot {
        let options = TransactionOptions {
            isolation: Some(isolation),
            conflict_resolution: resolution,
            read_only,
            ..TransactionOptions::default()
        };
        let real = self.database.begin(&options);
        assert!(real.snapshot_version() >= self.version, "begin sees what was committed before");
        if isolation == IsolationLevel::Serializable && read_only {
            self.certification.read_only = Some(self.version);
        }
        let model = ModelTransaction {
            isolation,
            resolution: resolution.unwrap_or(self.database.options().conflict_resolution),
            read_only,
            began: Rc::clone(&self.newest),
            began_version: self.version,
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            ranges: Vec::new(),
            savepoints: Vec::new(),
            next_savepoint: 1,
            cursors: [const { None }; CURSORS],
        };
        Slot { model, real, cursors: [const { None }; CURSORS] }
    }

    fn run(&mut self, number: usize, operation: Operation) {
        if let Operation::Begin { isolation, resolution, read_only } = operation {
            // What was open there is rolled back by its drop.
            self.slots[number] = Some(self.begin(isolation, resolution, read_only));
            return;
        }
        if let Operation::Stats = operation {
            let stats = self.database.stats();
            let live = self.newest.values().filter(|cell| cell.rows.is_some()).count() as u64;
            assert!(stats.keys >= live && stats.versions >= live);
            assert_eq!(stats.prepared_transactions, self.in_doubt.len() as u64);
            return;
        }
        if let Operation::Decide(which, decision, heuristic) = operation {
            if !self.in_doubt.is_empty() {
                self.decide(which % self.in_doubt.len(), decision, heuristic);
            }
            return;
        }
        let mut slot = match self.slots[number].take() {
            Some(slot) => slot,
            None => self.begin(LEVELS[number % LEVELS.len()], None, false),
        };
        let (newest, version) = (Rc::clone(&self.newest), self.version);
        let Slot { model, real, cursors } = &mut slot;
        match operation {
            Operation::Begin { .. } | Operation::Stats | Operation::Decide(..) => unreachable!("done above"),
            Operation::Get((key, bound)) => {
                let expected = model.read(&key, &newest, version);
                let found = match bound {
                    true => real.get_bound(&self.bind(&key)),
                    false => real.get(&key),
                };
                assert_eq!(found.unwrap().as_ref().map(flat), expected, "get {key:?}");
            }
            Operation::GetMany(keys, bound) => {
                let expected: Vec<_> = keys.iter().map(|key| model.read(key, &newest, version)).collect();
                let found = match bound {
                    true => {
                        let bound: Vec<_> = keys.iter().map(|key| self.bind(key)).collect();
                        real.get_many_bound(&bound.iter().map(|key| &**key).collect::<Vec<_>>())
                    }
                    false => real.get_many(&keys),
                };
                let found: Vec<_> = found.unwrap().iter().map(|value| value.as_ref().map(flat)).collect();
                assert_eq!(found, expected, "get many {keys:?}");
            }
            Operation::Exists((key, bound)) => {
                let expected = model.read(&key, &newest, version).is_some();
                let found = match bound {
                    true => real.exists_bound(&self.bind(&key)),
                    false => real.exists(&key),
                };
                assert_eq!(found, Ok(expected), "exists {key:?}");
            }
            Operation::Put((key, bound), rows) => {
                let done = match bound {
                    true => real.put_bound(&self.bind(&key), value_of(&rows)),
                    false => real.put(&key, value_of(&rows)),
                };
                if staged(model, done) {
                    model.stage(key, Staged::Put(rows));
                }
            }
            Operation::Append((key, bound), rows) => {
                let done = match bound {
                    true => real.append_bound(&self.bind(&key), value_of(&rows)),
                    false => real.append(&key, value_of(&rows)),
                };
                if staged(model, done) {
                    model.stage(key, Staged::Append(rows));
                }
            }
            Operation::Delete((key, bound)) => {
                let done = match bound {
                    true => real.delete_bound(&self.bind(&key)),
                    false => real.delete(&key),
                };
                if staged(model, done) {
                    model.stage(key, Staged::Delete);
                }
            }
            Operation::SetResolution(key, resolution) => {
                let write = model.writes.get_mut(&key);
                assert_eq!(real.set_conflict_resolution(&key, resolution), Ok(write.is_some()));
                write.into_iter().for_each(|write| write.resolution = Some(resolution));
            }
            Operation::Scan(range, direction, limit) => {
                let visible = model.visible(&newest, version);
                let mut cursor = model.open_cursor(visible, range.clone(), direction, limit);
                let expected: Vec<Row> = std::iter::from_fn(|| model.step(&mut cursor)).collect();
                let found = real.scan(range.clone(), direction, limit).unwrap();
                let found: Vec<Row> = found.into_iter().map(|(key, value)| (key, flat(&value))).collect();
                assert_eq!(found, expected, "scan {range:?} {direction:?} {limit:?}");
            }
            Operation::OpenCursor(which, range, direction, limit) => {
                let visible = model.visible(&newest, version);
                let cursor = model.open_cursor(visible, range.clone(), direction, limit);
                model.cursors[which] = Some(cursor);
                cursors[which] = Some(real.open_cursor(range, direction, limit).unwrap());
            }
            Operation::Step(which, steps) => {
                if let (Some(mut expected), Some(cursor)) = (model.cursors[which].take(), &mut cursors[which]) {
                    for _ in 0..steps {
                        let row = model.step(&mut expected);
                        assert_eq!(cursor.next(real).unwrap(), row.is_some());
                        let found = cursor.key().map(<[u8]>::to_vec).zip(cursor.value().map(flat));
                        assert_eq!(found, row, "a step of a cursor");
                    }
                    model.cursors[which] = Some(expected);
                }
            }
            Operation::Savepoint => {
                let id = real.savepoint().unwrap();
                assert!(model.savepoints.iter().all(|(other, _)| *other < id));
                model.next_savepoint = id + 1;
                model.savepoints.push((id, model.writes.clone()));
            }
            Operation::RollbackTo(back) => {
                let id = model.next_savepoint.saturating_sub(back);
                let position = model.savepoints.iter().position(|(savepoint, _)| *savepoint == id);
                assert_eq!(real.rollback_to(id).is_ok(), position.is_some(), "roll back to {id}");
                if let Some(position) = position {
                    model.savepoints.truncate(position + 1);
                    model.writes = model.savepoints[position].1.clone();
                }
            }
            Operation::Release(back) => {
                let id = model.next_savepoint.saturating_sub(back);
                let position = model.savepoints.iter().position(|(savepoint, _)| *savepoint == id);
                assert_eq!(real.release(id).is_ok(), position.is_some(), "release {id}");
                if let Some(position) = position {
                    model.savepoints.truncate(position);
                }
            }
            Operation::Commit => {
                self.commit(slot);
                return;
            }
            Operation::Prepare(hold_reads) => {
                self.prepare(slot, hold_reads);
                return;
            }
            Operation::Rollback => {
                real.rollback().unwrap();
                assert!(!real.is_open() && real.commit_version().is_none());
                return;
            }
        }
        self.slots[number] = Some(slot);
    }

    fn commit(&mut self, slot: Slot) {
        let Slot { model, mut real, mut cursors } = slot;
        let committed = real.commit();
        assert!(!real.is_open(), "commit ends it");
        assert_eq!(real.commit_version(), committed.as_ref().ok().copied());
        let excluded = self.excluded_writes(&model);
        if !excluded.is_empty() {
            assert_held(committed, &excluded);
            return;
        }
        let expected = match (model.outcome(&self.newest, &self.certification), &committed) {
            (Outcome::Conflicts { otherwise: Some(otherwise), .. }, Ok(_)) => *otherwise,
            (expected, _) => expected,
        };
        let certified = model.isolation == IsolationLevel::Serializable && model.tracks_reads();
        match (expected, committed) {
            (Outcome::Unchanged, Ok(version)) => {
                assert!(version >= model.began_version);
                if certified {
                    self.certification.leave_reader(&model, model.began_version);
                }
            }
            (Outcome::Committed { changes, low }, Ok(version)) => {
                assert!(version > self.version, "versions grow");
                if certified {
                    self.certification.leave_reader(&model, low.unwrap_or(version));
                }
                for key in changes.keys() {
                    self.certification.commits.entry(key.clone()).or_default().push((version, low.unwrap_or(version)));
                }
                let newest = Rc::make_mut(&mut self.newest);
                newest.extend(changes.into_iter().map(|(key, rows)| (key, Cell { version, rows })));
                self.version = version;
            }
            (Outcome::Conflicts { reasons, .. }, failed @ Err(Error::Conflict(_))) => assert_among(failed, &reasons),
            (Outcome::ConflictsAtSnapshot(reasons), failed @ Err(Error::Conflict(_))) => {
                assert_among(failed, &reasons);
                self.certification.leave_reader(&model, model.began_version);
            }
            (Outcome::ConflictsAtSnapshot(reasons), committed) => panic!("{committed:?} in spite of {reasons:?}"),
            (Outcome::Conflicts { reasons, .. }, committed) => panic!("{committed:?} in spite of {reasons:?}"),
            (Outcome::Unchanged | Outcome::Committed { .. }, committed) => panic!("{committed:?} without a reason"),
        }
        assert!(matches!(real.get(b"k"), Err(Error::InvalidState(_))));
        for cursor in cursors.iter_mut().flatten() {
            assert!(matches!(cursor.next(&mut real), Err(Error::InvalidState(_))));
        }
    }

    /// What it writes, and others in doubt hold, with their ids.
    fn excluded_writes(&self, model: &ModelTransaction) -> Vec<(Key, GlobalId)> {
        let pairs = self.in_doubt.iter().flat_map(|held| model.writes.keys().map(move |key| (key, held)));
        let excluded = pairs.filter(|(key, held)| held.excludes_writer(key));
        excluded.map(|(key, held)| (key.clone(), held.id.clone())).collect()
    }

    /// What it has read, and others in doubt are going to write.
    fn excluded_reads(&self, model: &ModelTransaction) -> Vec<(Key, GlobalId)> {
        let reads = |key: &Key| {
            model.reads_only().any(|(read, _)| read == key) || model.ranges.iter().any(|range| range.covers(key))
        };
        let pairs = self.in_doubt.iter().flat_map(|held| held.changes.keys().map(move |key| (key, held)));
        pairs.filter(|(key, _)| reads(key)).map(|(key, held)| (key.clone(), held.id.clone())).collect()
    }

    fn prepare(&mut self, slot: Slot, hold_reads: bool) {
        let Slot { model, mut real, .. } = slot;
        self.ids += 1;
        let id = GlobalId::new(&self.ids.to_be_bytes()).unwrap();
        let options = PrepareOptions { allow_volatile: true, hold_reads };
        let vote = self.database.prepare(&mut real, &id, options);
        assert!(!real.is_open(), "prepare ends it");
        let certified = model.isolation == IsolationLevel::Serializable && model.tracks_reads();
        let mut excluded = self.excluded_writes(&model);
        if certified {
            excluded.extend(self.excluded_reads(&model));
        }
        if !excluded.is_empty() {
            // Others that hold something come before everything else.
            return assert_held(vote, &excluded);
        }
        let changes = match model.resolved(&self.newest) {
            Ok(changes) => changes,
            Err(reasons) => return assert_among(vote, &reasons),
        };
        if certified {
            let stale = model.stale_reads(&self.newest, &self.certification);
            if !stale.is_empty() {
                return assert_among(vote, &stale.into_iter().map(|(conflict, _)| conflict).collect::<Vec<_>>());
            }
        }
        let has_read = !model.reads.is_empty() || model.ranges.iter().any(|range| range.reached.is_some());
        match vote {
            Ok(Vote::Yes) => {
                assert!(!changes.is_empty() || hold_reads && certified && has_read);
                self.in_doubt.push(Held { id, transaction: model, changes });
            }
            Ok(Vote::ReadOnly) => {
                assert!(changes.is_empty(), "{changes:?} have to be decided");
                let only_read = model.reads_only().next().is_some();
                assert!(!(hold_reads && certified && only_read), "there are reads to hold");
                if certified {
                    self.certification.leave_reader(&model, model.began_version);
                }
            }
            Err(error) => panic!("{error:?} without a reason"),
        }
    }

    fn decide(&mut self, which: usize, decision: Decision, heuristic: bool) {
        let held = self.in_doubt.remove(which);
        let version = match (decision, heuristic) {
            (Decision::Rollback, false) => {
                self.database.rollback(&held.id).unwrap();
                assert!(matches!(self.database.commit(&held.id), Err(Error::AlreadyDecided(_))));
                return;
            }
            (Decision::Commit, false) => {
                let version = self.database.commit(&held.id).expect("no conflict can come up");
                assert_eq!(self.database.commit(&held.id), Ok(version));
                version
            }
            (_, true) => {
                self.database.decide_heuristically(&held.id, decision).expect("no conflict can come up");
                let Err(Error::Heuristic(outcome)) = self.database.commit(&held.id) else { panic!("it is reported") };
                TwoPhaseCommitParticipant::forget(&self.database, &held.id).unwrap();
                if decision == Decision::Rollback {
                    return;
                }
                outcome.version
            }
        };
        assert!(version > self.version, "versions grow");
        if held.certified() {
            self.certification.leave_reader(&held.transaction, version);
        }
        for key in held.changes.keys() {
            self.certification.commits.entry(key.clone()).or_default().push((version, version));
        }
        let newest = Rc::make_mut(&mut self.newest);
        newest.extend(held.changes.into_iter().map(|(key, rows)| (key, Cell { version, rows })));
        self.version = version;
    }

    /// With nobody left, exactly the newest state is held, and every byte of it is counted once.
    fn finish(mut self) {
        self.slots = [const { None }; SLOTS];
        let bound = std::mem::take(&mut self.bound);
        while !self.in_doubt.is_empty() {
            let decision = if self.in_doubt.len().is_multiple_of(2) { Decision::Commit } else { Decision::Rollback };
            self.decide(0, decision, false);
        }
        let live: Vec<Row> =
            self.newest.iter().filter_map(|(key, cell)| Some((key.clone(), cell.rows.clone()?))).collect();
        let mut transaction = self.database.begin(&TransactionOptions::default());
        let found = transaction.scan(KeyRange::all(), Direction::Forward, None).unwrap();
        let found: Vec<Row> = found.into_iter().map(|(key, value)| (key, flat(&value))).collect();
        assert_eq!(found, live);
        for (key, rows) in &live {
            assert_eq!(transaction.get(key).unwrap().as_ref().map(flat).as_ref(), Some(rows));
        }
        drop(transaction);
        let stats = self.database.stats();
        assert_eq!((stats.active_transactions, stats.prepared_transactions, stats.prepared_bytes), (0, 0, 0));
        assert_eq!((stats.keys, stats.versions), (live.len() as u64, live.len() as u64));
        assert_eq!(stats.live_bytes, live.iter().map(|(_, rows)| 8 * rows.len() as u64).sum::<u64>());
        // What is bound holds no key that is gone.
        drop(bound);
    }
}

fn assert_among<T: std::fmt::Debug>(outcome: Result<T, Error>, reasons: &[Conflict]) {
    let Err(Error::Conflict(conflicts)) = outcome else { panic!("{outcome:?} in spite of {reasons:?}") };
    assert!(!conflicts.is_empty());
    for conflict in conflicts {
        assert!(conflict_is_among(&conflict, reasons), "{conflict:?} is none of {reasons:?}");
    }
}

/// Asserts that it failed for one of these keys, which others hold.
fn assert_held<T: std::fmt::Debug>(outcome: Result<T, Error>, held: &[(Key, GlobalId)]) {
    let Err(Error::Conflict(conflicts)) = outcome else { panic!("{outcome:?} in spite of {held:?}") };
    assert!(!conflicts.is_empty());
    for Conflict { kind, key, holder, .. } in conflicts {
        let among = held.iter().any(|(held, id)| *held == key && holder.as_ref() == Some(id));
        assert!(kind == ConflictKind::Prepared && among, "{key:?} of {holder:?} is none of {held:?}");
    }
}

/// Whether a call that stages has staged: all do, but in a read-only transaction.
fn staged(model: &ModelTransaction, done: Result<(), Error>) -> bool {
    match done {
        Ok(()) => assert!(!model.read_only, "a write was staged in a read-only transaction"),
        Err(error) => assert!(model.read_only && matches!(error, Error::InvalidState(_)), "{error:?}"),
    }
    !model.read_only
}

// ---- what is tried ----

/// Few keys, so that transactions meet; among them prefixes of each other, the highest bytes, and keys that differ
/// late.
fn few_keys() -> Vec<Key> {
    let keys: [&[u8]; 10] = [
        b"a",
        b"a\0",
        b"ab",
        b"b",
        b"b\xff",
        b"c",
        b"long enough to need the heap 1",
        b"long enough to need the heap 2",
        b"\xff",
        b"\xff\xff",
    ];
    keys.map(<[u8]>::to_vec).to_vec()
}

fn many_keys() -> Vec<Key> {
    let mut keys = few_keys();
    keys.extend((0..PRELOADED).step_by(9).map(|number| vec![b'n', number]));
    keys
}

fn range(keys: Vec<Key>) -> impl Strategy<Value = KeyRange> + Clone {
    let bound = move || {
        prop_oneof![
            1 => Just(Bound::Unbounded),
            2 => select(keys.clone()).prop_map(Bound::Included),
            2 => select(keys.clone()).prop_map(Bound::Excluded),
        ]
    };
    let prefixes: [&[u8]; 8] = [b"", b"a", b"b", b"b\xff", b"long enough to need the heap", b"n", b"\xff", b"\xff\xff"];
    prop_oneof![
        2 => Just(KeyRange::all()),
        3 => (bound(), bound()).prop_map(|(start, end)| KeyRange::new(start, end)),
        2 => select(prefixes.to_vec()).prop_map(KeyRange::prefix),
    ]
}

/// `prepares` says how often transactions are prepared and decided.
fn operation(keys: Vec<Key>, prepares: u32) -> impl Strategy<Value = Operation> {
    let key = select(keys.clone());
    let name = (key.clone(), prop::bool::weighted(0.3));
    // More than are read at a time, now and then.
    let many = (prop::collection::vec(key.clone(), 0..40), prop::bool::weighted(0.3));
    let rows = prop::collection::vec(0_u64..1000, 0..4);
    let resolution = select(RESOLUTIONS.to_vec());
    let direction = select(vec![Direction::Forward, Direction::Reverse]);
    let limit = prop_oneof![2 => Just(None), 1 => (0_u64..4).prop_map(Some), 1 => (10_u64..60).prop_map(Some)];
    let scan = (range(keys), direction, limit);
    prop_oneof![
        8 => (select(LEVELS.to_vec()), prop::option::of(resolution.clone()), prop::bool::weighted(0.1))
            .prop_map(|(isolation, resolution, read_only)| Operation::Begin { isolation, resolution, read_only }),
        8 => name.clone().prop_map(Operation::Get),
        3 => many.prop_map(|(keys, bound)| Operation::GetMany(keys, bound)),
        4 => name.clone().prop_map(Operation::Exists),
        12 => (name.clone(), rows.clone()).prop_map(|(name, rows)| Operation::Put(name, rows)),
        8 => (name.clone(), rows).prop_map(|(name, rows)| Operation::Append(name, rows)),
        8 => name.prop_map(Operation::Delete),
        3 => (key, resolution).prop_map(|(key, resolution)| Operation::SetResolution(key, resolution)),
        5 => scan.clone().prop_map(|(range, direction, limit)| Operation::Scan(range, direction, limit)),
        4 => (0..CURSORS, scan)
            .prop_map(|(which, (range, direction, limit))| Operation::OpenCursor(which, range, direction, limit)),
        6 => (0..CURSORS, 1_u8..30).prop_map(|(which, steps)| Operation::Step(which, steps)),
        3 => Just(Operation::Savepoint),
        3 => (1_u64..4).prop_map(Operation::RollbackTo),
        2 => (1_u64..4).prop_map(Operation::Release),
        12 => Just(Operation::Commit),
        2 => Just(Operation::Rollback),
        prepares => prop::bool::weighted(0.3).prop_map(Operation::Prepare),
        prepares => (0..SLOTS, select(vec![Decision::Commit, Decision::Rollback]), prop::bool::weighted(0.2))
            .prop_map(|(which, decision, heuristic)| Operation::Decide(which, decision, heuristic)),
        3 => Just(Operation::Stats),
    ]
}

fn operations(keys: Vec<Key>, prepares: u32, most: usize) -> impl Strategy<Value = Vec<(usize, Operation)>> {
    prop::collection::vec((0..SLOTS, operation(keys, prepares)), 1..most)
}

fn check(preloaded: u8, resolution: ConflictResolution, operations: Vec<(usize, Operation)>) {
    let mut world = World::new(preloaded, resolution);
    for (slot, operation) in operations {
        world.run(slot, operation);
    }
    world.finish();
}

fn config(cases: u32) -> ProptestConfig {
    // A failure is printed, shrunk: nothing is written into the tree.
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(2500))]

    #[test]
    fn few_keys_behave_as_the_reference_says(
        resolution in select(RESOLUTIONS.to_vec()),
        operations in operations(few_keys(), 1, 70),
    ) {
        check(0, resolution, operations);
    }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn many_keys_behave_as_the_reference_says(
        resolution in select(RESOLUTIONS.to_vec()),
        operations in operations(many_keys(), 1, 70),
    ) {
        check(PRELOADED, resolution, operations);
    }
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn prepared_transactions_behave_as_the_reference_says(
        resolution in select(RESOLUTIONS.to_vec()),
        operations in operations(few_keys(), 12, 90),
    ) {
        check(0, resolution, operations);
    }
}
