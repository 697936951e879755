//! What transactions read and stage, and which of their writes conflict: the reference.
//!
//! The whole database is kept once per commit. A write conflicts if its key was committed later than the transaction
//! last read it, or, unread, began.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use khonsu::ffi::options::khonsu_conflict_resolution as Resolution;
use khonsu::ffi::options::khonsu_isolation as Isolation;

use super::values::Value;

pub type Key = Vec<u8>;

/// One key in one commit: when it was last written, and its value unless it was deleted then.
#[derive(Clone, Debug)]
pub struct Cell {
    pub version: u64,
    pub value: Option<Value>,
}

pub type Snapshot = Rc<BTreeMap<Key, Cell>>;

/// The newest commit and its version.
#[derive(Clone, Default)]
pub struct Committed {
    pub cells: Snapshot,
    pub version: u64,
}

/// Rows were appended to rows of another schema.
#[derive(Debug, PartialEq, Eq)]
pub struct Mismatch;

#[derive(Clone, Debug)]
pub enum Staged {
    Put(Value),
    Append(Value),
    Delete,
}

#[derive(Clone, Debug)]
struct StagedWrite {
    what: Staged,
    resolution: Option<Resolution>,
}

#[derive(Clone, Debug)]
pub struct Range {
    pub start: Key,
    /// Not in the range itself.
    pub end: Option<Key>,
}

impl Range {
    pub fn prefix(prefix: &[u8]) -> Range {
        // The keys with a prefix end before the prefix whose last byte below 255 is one more.
        let end = prefix.iter().rposition(|byte| *byte < 255).map(|last| {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end
        });
        Range { start: prefix.to_vec(), end }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_slice() && self.end.as_deref().is_none_or(|end| key < end)
    }
}

/// What a scan has read.
#[derive(Clone, Debug)]
pub struct ReadRange {
    range: Range,
    reverse: bool,
    reached: Reached,
    /// The snapshot at which it was read.
    version: u64,
    /// Keys whose committed values writes of the transaction itself hid from the scan.
    hidden: BTreeSet<Key>,
}

#[derive(Clone, Debug)]
enum Reached {
    Nothing,
    Key(Key),
    End,
}

impl ReadRange {
    fn covers(&self, key: &[u8]) -> bool {
        let reached = match &self.reached {
            Reached::Nothing => false,
            Reached::Key(reached) => !beyond(reached, key, self.reverse),
            Reached::End => true,
        };
        reached && self.range.contains(key)
    }
}

pub fn beyond(position: &[u8], key: &[u8], reverse: bool) -> bool {
    if reverse { key < position } else { key > position }
}

/// What a serializable transaction saw of others.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub snapshot: u64,
    keys: BTreeSet<Key>,
    ranges: Vec<ReadRange>,
}

impl Seen {
    pub fn covers(&self, key: &[u8]) -> bool {
        self.keys.contains(key) || self.ranges.iter().any(|range| range.covers(key) && !range.hidden.contains(key))
    }
}

pub struct Cursor {
    snapshot: Snapshot,
    left: Option<u64>,
    position: Option<Key>,
    exhausted: bool,
    /// Where its range lies in the transaction's ranges.
    tracked: usize,
}

pub struct Transaction {
    pub isolation: Isolation,
    resolution: Resolution,
    pub read_only: bool,
    began: Committed,
    writes: BTreeMap<Key, StagedWrite>,
    /// The version of the snapshot at which each key was last read.
    reads: BTreeMap<Key, u64>,
    /// Of these, the ones that saw what others had written.
    seen: BTreeSet<Key>,
    ranges: Vec<ReadRange>,
    savepoints: Vec<(u64, BTreeMap<Key, StagedWrite>)>,
}

/// What a commit must come to.
pub enum Outcome {
    /// The writes that stay; `None` is a deletion. There may be none.
    Commits(BTreeMap<Key, Option<Value>>),
    Fails {
        /// These keys were overtaken.
        overtaken: BTreeSet<Key>,
        /// Appended rows do not fit.
        mismatch: bool,
    },
}

impl Transaction {
    pub fn begin(committed: &Committed, isolation: Isolation, resolution: Resolution, read_only: bool) -> Self {
        Transaction {
            isolation,
            resolution,
            read_only,
            began: committed.clone(),
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            seen: BTreeSet::new(),
            ranges: Vec::new(),
            savepoints: Vec::new(),
        }
    }

    pub fn is_serializable(&self) -> bool {
        self.isolation == Isolation::Serializable
    }

    pub fn began_version(&self) -> u64 {
        self.began.version
    }

    fn tracks_reads(&self) -> bool {
        !self.read_only && self.isolation != Isolation::RepeatableRead
    }

    /// What a call sees of others: the newest commit at read committed.
    fn visible(&self, newest: &Committed) -> Committed {
        if self.isolation == Isolation::ReadCommitted { newest.clone() } else { self.began.clone() }
    }

    fn merged(&self, snapshot: &Snapshot, key: &[u8]) -> Result<Option<Value>, Mismatch> {
        let committed = snapshot.get(key).and_then(|cell| cell.value.as_ref());
        match (self.writes.get(key).map(|write| &write.what), committed) {
            (None, committed) => Ok(committed.cloned()),
            (Some(Staged::Put(value)), _) | (Some(Staged::Append(value)), None) => Ok(Some(value.clone())),
            (Some(Staged::Append(rows)), Some(committed)) => committed.joined(rows).map(Some).ok_or(Mismatch),
            (Some(Staged::Delete), _) => Ok(None),
        }
    }

    /// Whether a write of the transaction itself hides what is committed under the key.
    fn hides(&self, key: &[u8]) -> bool {
        matches!(self.writes.get(key), Some(StagedWrite { what: Staged::Put(_) | Staged::Delete, .. }))
    }

    pub fn read(&mut self, key: &[u8], newest: &Committed) -> Result<Option<Value>, Mismatch> {
        let Committed { cells, version } = self.visible(newest);
        if !self.hides(key) {
            self.reads.insert(key.to_vec(), version);
            self.seen.insert(key.to_vec());
        } else if self.is_serializable() {
            // It says nothing about others, but what follows from it must not outlive the write.
            self.reads.entry(key.to_vec()).or_insert(version);
        }
        self.merged(&cells, key)
    }

    pub fn stage(&mut self, key: &[u8], what: Staged) -> Result<(), Mismatch> {
        let before = self.writes.get(key);
        let write = match (what, before.map(|write| (&write.what, write.resolution))) {
            (Staged::Append(rows), Some((Staged::Put(older), resolution))) => {
                StagedWrite { what: Staged::Put(older.joined(&rows).ok_or(Mismatch)?), resolution }
            }
            (Staged::Append(rows), Some((Staged::Append(older), resolution))) => {
                StagedWrite { what: Staged::Append(older.joined(&rows).ok_or(Mismatch)?), resolution }
            }
            (Staged::Append(rows), Some((Staged::Delete, resolution))) => {
                StagedWrite { what: Staged::Put(rows), resolution }
            }
            (what, _) => StagedWrite { what, resolution: None },
        };
        self.writes.insert(key.to_vec(), write);
        Ok(())
    }

    /// Whether rows can be appended to what is staged.
    pub fn fits(&self, key: &[u8], rows: &Value) -> bool {
        match self.writes.get(key).map(|write| &write.what) {
            Some(Staged::Put(older) | Staged::Append(older)) => older.schema == rows.schema,
            Some(Staged::Delete) | None => true,
        }
    }

    /// False: no write of the key is staged.
    pub fn set_resolution(&mut self, key: &[u8], resolution: Resolution) -> bool {
        let write = self.writes.get_mut(key);
        write.map(|write| write.resolution = Some(resolution)).is_some()
    }

    pub fn savepoint(&mut self, id: u64) {
        assert!(self.savepoints.last().is_none_or(|(last, _)| *last < id), "savepoint {id}");
        self.savepoints.push((id, self.writes.clone()));
    }

    /// False: there is no such savepoint.
    pub fn rollback_to(&mut self, id: u64) -> bool {
        let position = self.savepoints.iter().position(|(savepoint, _)| *savepoint == id);
        if let Some(position) = position {
            self.savepoints.truncate(position + 1);
            self.writes = self.savepoints[position].1.clone();
        }
        position.is_some()
    }

    /// False: there is no such savepoint.
    pub fn release(&mut self, id: u64) -> bool {
        let position = self.savepoints.iter().position(|(savepoint, _)| *savepoint == id);
        position.into_iter().for_each(|position| self.savepoints.truncate(position));
        position.is_some()
    }

    pub fn open_cursor(&mut self, newest: &Committed, range: Range, reverse: bool, limit: Option<u64>) -> Cursor {
        let Committed { cells: snapshot, version } = self.visible(newest);
        self.ranges.push(ReadRange { range, reverse, reached: Reached::Nothing, version, hidden: BTreeSet::new() });
        Cursor { snapshot, left: limit, position: None, exhausted: false, tracked: self.ranges.len() - 1 }
    }

    /// The next entry; `None` at the end.
    pub fn step(&mut self, cursor: &mut Cursor) -> Result<Option<(Key, Value)>, Mismatch> {
        if cursor.left == Some(0) || cursor.exhausted {
            return Ok(None);
        }
        let ReadRange { range, reverse, .. } = self.ranges[cursor.tracked].clone();
        let ahead = |key: &&Key| {
            range.contains(key) && cursor.position.as_ref().is_none_or(|position| beyond(position, key, reverse))
        };
        let mut keys: BTreeSet<Key> = cursor.snapshot.keys().chain(self.writes.keys()).filter(ahead).cloned().collect();
        loop {
            let next = if reverse { keys.pop_last() } else { keys.pop_first() };
            let Some(key) = next else {
                cursor.exhausted = true;
                self.ranges[cursor.tracked].reached = Reached::End;
                return Ok(None);
            };
            if self.hides(&key) {
                self.ranges[cursor.tracked].hidden.insert(key.clone());
            }
            // Where rows do not fit the cursor stays in front of the key.
            let value = self.merged(&cursor.snapshot, &key)?;
            if value.is_some() || self.writes.contains_key(&key) {
                self.ranges[cursor.tracked].reached = Reached::Key(key.clone());
                cursor.position = Some(key.clone());
            }
            if let Some(value) = value {
                cursor.left = cursor.left.map(|left| left - 1);
                return Ok(Some((key, value)));
            }
        }
    }

    /// The snapshot at which a key was last read, where that moves what its write is compared with.
    fn last_read(&self, key: &[u8]) -> Option<u64> {
        if !self.tracks_reads() {
            return None;
        }
        let scanned = self.ranges.iter().filter(|range| range.covers(key)).map(|range| range.version);
        scanned.chain(self.reads.get(key).copied()).max()
    }

    /// Whether anything that the transaction read was written since: only then may certification refuse it.
    pub fn is_stale(&self, newest: &Committed) -> bool {
        let read = |key: &[u8]| self.reads.contains_key(key) || self.ranges.iter().any(|range| range.covers(key));
        newest.cells.iter().any(|(key, cell)| cell.version > self.began.version && read(key))
    }

    pub fn outcome(&self, newest: &Committed) -> Outcome {
        let mut changes = BTreeMap::new();
        let mut overtaken = BTreeSet::new();
        let mut mismatch = false;
        for (key, write) in &self.writes {
            let last_read = self.last_read(key);
            let read_modify_write = self.is_serializable() && last_read.is_some();
            let resolution = match read_modify_write {
                true => Resolution::Fail,
                false => write.resolution.unwrap_or(self.resolution),
            };
            let base = newest.cells.get(key);
            let late = base.is_some_and(|cell| cell.version > last_read.unwrap_or(self.began.version));
            let base = base.and_then(|cell| cell.value.as_ref());
            let appended = |rows: &Value| base.map_or(Some(rows.clone()), |base| base.joined(rows));
            let joined = match (&write.what, late, resolution) {
                (Staged::Append(rows), late, _) if !(late && read_modify_write) => appended(rows),
                (Staged::Put(value), false, _) | (Staged::Put(value), true, Resolution::Replace) => Some(value.clone()),
                (Staged::Put(value), true, Resolution::Append) => appended(value),
                (Staged::Delete, false, _) | (Staged::Delete, true, Resolution::Replace) => {
                    changes.insert(key.clone(), None);
                    continue;
                }
                (_, true, Resolution::Ignore) => continue,
                _ => {
                    overtaken.insert(key.clone());
                    continue;
                }
            };
            mismatch |= joined.is_none();
            changes.insert(key.clone(), joined);
        }
        if overtaken.is_empty() && !mismatch {
            Outcome::Commits(changes)
        } else {
            Outcome::Fails { overtaken, mismatch }
        }
    }

    /// What the transaction saw of others, in so far as its level protects it.
    pub fn into_seen(self) -> Option<Seen> {
        let (keys, ranges) = (self.seen, self.ranges);
        (self.isolation == Isolation::Serializable).then_some(Seen { snapshot: self.began.version, keys, ranges })
    }
}
