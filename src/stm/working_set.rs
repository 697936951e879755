//! What a transaction has read and staged: private until it commits.

use std::collections::{BTreeMap, BinaryHeap};

use crossbeam_epoch::Guard;

use super::conflict::ConflictResolution;
use super::error::Error;
use super::key::{KeyBytes, KeyRange};
use super::memory::{Record, RecordRef};
use super::value::{Chunk, Value};

/// Up to so many entries are searched one by one.
const LINEAR: usize = 16;

pub(crate) struct WorkingSet<C> {
    /// One entry a key, in the order of first use.
    pub entries: Vec<Entry<C>>,
    /// Their hashes, apart: a search passes many of them.
    hashes: Vec<u64>,
    /// Open addressing from hash to entry + 1, once there are more than [`LINEAR`].
    table: Vec<u32>,
    /// Staged writes by key, kept once a scan needs them. May name entries whose write was rolled back.
    ordered: Option<BTreeMap<KeyBytes, u32>>,
    /// Scanned ranges and the snapshots at which they were scanned.
    pub ranges: Vec<(KeyRange, u64)>,
    /// Entries with a write.
    pub writes: usize,
    pub staged_bytes: u64,
    /// Undo log of the staged writes, while there are savepoints, and the bytes that it holds.
    journal: Vec<Undo<C>>,
    journal_bytes: u64,
    savepoints: Vec<(u64, usize)>,
    next_savepoint: u64,
}

pub(crate) struct Entry<C> {
    pub key: KeyBytes,
    /// The record that was read, or that a bound key had when it was written; `None` where there was none, or it was not
    /// looked up. One that the snapshot sees something in stays unsealed.
    pub record: Option<RecordRef<C>>,
    /// The snapshot at which the key was last read.
    pub read_at: Option<u64>,
    /// Whether the read found nothing.
    pub absent: bool,
    pub write: Option<Write<C>>,
}

pub(crate) struct Write<C> {
    pub operation: Operation<C>,
    /// Of the operation, which takes some steps to count them.
    pub bytes: u64,
    /// `None`: the transaction's.
    pub resolution: Option<ConflictResolution>,
}

pub(crate) enum Operation<C> {
    Put(Value<C>),
    /// Rows that go after whatever is newest.
    Append(Value<C>),
    Delete,
}

struct Undo<C> {
    entry: usize,
    before: Option<Write<C>>,
}

impl<C: Clone> Clone for Operation<C> {
    fn clone(&self) -> Self {
        match self {
            Operation::Put(value) => Operation::Put(value.clone()),
            Operation::Append(value) => Operation::Append(value.clone()),
            Operation::Delete => Operation::Delete,
        }
    }
}

impl<C: Clone> Clone for Write<C> {
    fn clone(&self) -> Self {
        Write { operation: self.operation.clone(), bytes: self.bytes, resolution: self.resolution }
    }
}

impl<C: Chunk> Operation<C> {
    pub fn bytes(&self) -> u64 {
        match self {
            Operation::Put(value) | Operation::Append(value) => value.bytes(),
            Operation::Delete => 0,
        }
    }
}

impl<C: Chunk> Write<C> {
    #[inline]
    fn new(operation: Operation<C>, resolution: Option<ConflictResolution>) -> Self {
        Write { bytes: operation.bytes(), operation, resolution }
    }

    /// This write with rows behind its own.
    #[cold]
    fn append(&self, rows: &Value<C>) -> Result<Self, Error> {
        let operation = match &self.operation {
            Operation::Put(value) => Operation::Put(value.append(rows)?),
            Operation::Append(value) => Operation::Append(value.append(rows)?),
            Operation::Delete => Operation::Put(rows.clone()),
        };
        Ok(Write::new(operation, self.resolution))
    }
}

fn bytes_of<C>(write: Option<&Write<C>>) -> u64 {
    write.map_or(0, |write| write.bytes)
}

impl<C> WorkingSet<C> {
    pub fn new() -> Self {
        WorkingSet {
            entries: Vec::new(),
            hashes: Vec::new(),
            table: Vec::new(),
            ordered: None,
            ranges: Vec::new(),
            writes: 0,
            staged_bytes: 0,
            journal: Vec::new(),
            journal_bytes: 0,
            savepoints: Vec::new(),
            next_savepoint: 1,
        }
    }

    /// Whether there is nothing to forget: nothing was read, scanned or written that it must know of.
    pub fn is_clear(&self) -> bool {
        self.entries.is_empty() && self.ranges.is_empty() && self.next_savepoint == 1
    }

    /// Forgets everything. Very large buffers are given back.
    pub fn clear(&mut self) {
        // Much of what is run reads without a trace, and most of the rest does little.
        let has_more = !self.table.is_empty() || !self.ranges.is_empty() || self.ordered.is_some();
        if has_more || self.next_savepoint > 1 {
            self.clear_more();
        }
        if !self.entries.is_empty() {
            self.entries.clear();
            self.hashes.clear();
            (self.writes, self.staged_bytes) = (0, 0);
        }
    }

    #[inline(never)]
    fn clear_more(&mut self) {
        if !self.table.is_empty() {
            self.table.clear();
            self.table.shrink_to(4096);
            self.entries.clear();
            self.entries.shrink_to(1024);
            self.hashes.clear();
            self.hashes.shrink_to(1024);
        }
        self.ordered = None;
        self.ranges.clear();
        self.journal.clear();
        self.savepoints.clear();
        (self.writes, self.staged_bytes, self.journal_bytes, self.next_savepoint) = (0, 0, 0, 1);
    }

    #[inline]
    pub fn position(&self, hash: u64, key: &[u8]) -> Option<usize> {
        if self.hashes.is_empty() {
            return None;
        }
        if !self.table.is_empty() {
            return self.position_in_table(hash, key);
        }
        // From the end: what was read is often written next.
        let mut hashes = self.hashes.iter().enumerate().rev().filter(|(_, known)| **known == hash);
        hashes.find(|(number, _)| self.entries[*number].key.as_slice() == key).map(|(number, _)| number)
    }

    #[inline(never)]
    fn position_in_table(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let mask = self.table.len() - 1;
        let mut place = hash as usize & mask;
        loop {
            let number = (self.table[place] as usize).checked_sub(1)?;
            if self.hashes[number] == hash && self.entries[number].key.as_slice() == key {
                return Some(number);
            }
            place = (place + 1) & mask;
        }
    }

    /// Makes an entry for a key that has none.
    pub fn entry(&mut self, hash: u64, key: &[u8]) -> usize {
        self.add(hash, Entry { key: KeyBytes::new(key), record: None, read_at: None, absent: false, write: None })
    }

    #[inline(always)]
    fn add(&mut self, hash: u64, entry: Entry<C>) -> usize {
        let position = self.entries.len();
        self.hashes.push(hash);
        self.entries.push(entry);
        if position >= LINEAR {
            self.place_last();
        }
        position
    }

    /// Enters the last entry into the table, and all others where it is too small.
    #[inline(never)]
    fn place_last(&mut self) {
        let count = self.entries.len();
        if count * 2 > self.table.len() {
            self.table.clear();
            self.table.resize((count * 4).next_power_of_two(), 0);
            (0..count).for_each(|number| self.place(number));
        } else {
            self.place(count - 1);
        }
    }

    /// The hash of the key of an entry.
    pub fn hash(&self, entry: usize) -> u64 {
        self.hashes[entry]
    }

    /// The entries with a write, their hashes, and the writes.
    pub fn written(&self) -> impl Iterator<Item = (&Entry<C>, u64, &Write<C>)> + Clone {
        let entries = self.entries.iter().zip(&self.hashes);
        entries.filter_map(|(entry, hash)| Some((entry, *hash, entry.write.as_ref()?)))
    }

    /// Notes that the key of an entry was read at a snapshot, and the record that it has.
    #[inline]
    pub fn note_read(&mut self, entry: usize, record: Option<&Record<C>>, snapshot: u64, absent: bool, guard: &Guard) {
        let entry = &mut self.entries[entry];
        // It may have an entry without having been looked up, as a write.
        if entry.record.is_none() {
            entry.record = record.map(|record| record.share(guard));
        }
        (entry.read_at, entry.absent) = (Some(snapshot), absent);
    }

    fn place(&mut self, number: usize) {
        let mask = self.table.len() - 1;
        let mut place = self.hashes[number] as usize & mask;
        while self.table[place] != 0 {
            place = (place + 1) & mask;
        }
        self.table[place] = number as u32 + 1;
    }

    /// Staged writes by key, and the entries that they name.
    pub fn ordered(&mut self) -> (&BTreeMap<KeyBytes, u32>, &[Entry<C>]) {
        let ordered = self.ordered.get_or_insert_with(|| {
            let written = self.entries.iter().enumerate().filter(|(_, entry)| entry.write.is_some());
            written.map(|(number, entry)| (entry.key.clone(), number as u32)).collect()
        });
        (ordered, &self.entries)
    }

    /// Counts scanned ranges as reads of the written keys in them.
    pub fn note_scanned_writes(&mut self) {
        let entries = &mut self.entries;
        let mut written: Vec<_> = (0..entries.len()).filter(|entry| entries[*entry].write.is_some()).collect();
        written.sort_unstable_by(|one, other| entries[*one].key.cmp(&entries[*other].key));
        let mut ranges: Vec<_> = self.ranges.iter().filter(|(range, _)| !range.is_empty()).collect();
        ranges.sort_unstable_by(|(one, _), (other, _)| one.start_order(other));
        // One pass over both, in the order of the keys. The ranges that have started wait with the newest snapshot on
        // top; one that has ended is in the way only there.
        let mut started = BinaryHeap::new();
        let mut next = 0;
        for entry in written {
            let entry = &mut entries[entry];
            let key = entry.key.as_slice();
            while next < ranges.len() && ranges[next].0.starts_at_or_before(key) {
                started.push((ranges[next].1, next));
                next += 1;
            }
            while started.peek().is_some_and(|(_, range)| !ranges[*range].0.ends_at_or_after(key)) {
                started.pop();
            }
            let scanned = started.peek().map(|(snapshot, _)| *snapshot);
            entry.read_at = entry.read_at.max(scanned);
        }
    }
}

impl<C: Chunk> WorkingSet<C> {
    /// What `operation` on top of the staged write of an entry comes to.
    #[inline]
    pub fn compose(&self, entry: usize, operation: Operation<C>) -> Result<Write<C>, Error> {
        match (&operation, &self.entries[entry].write) {
            (Operation::Append(rows), Some(before)) => before.append(rows),
            _ => Ok(Write::new(operation, None)),
        }
    }

    /// Bytes that would be held with a write of so many in an entry, those for savepoints included.
    pub fn staged_bytes_with(&self, entry: Option<usize>, bytes: u64) -> u64 {
        let before = entry.filter(|_| self.savepoints.is_empty());
        let before = before.map_or(0, |entry| bytes_of(self.entries[entry].write.as_ref()));
        self.staged_bytes - before + self.journal_bytes + bytes
    }

    /// Stages a write of a key that has no entry. Gives the entry.
    #[inline(always)]
    pub fn stage_new(&mut self, hash: u64, key: &[u8], operation: Operation<C>, bytes: u64) -> usize {
        self.staged_bytes += bytes;
        self.writes += 1;
        let (key, write) = (KeyBytes::new(key), Some(Write { operation, bytes, resolution: None }));
        let entry = self.add(hash, Entry { key, record: None, read_at: None, absent: false, write });
        if self.ordered.is_some() || !self.savepoints.is_empty() {
            self.note_new(entry);
        }
        entry
    }

    #[cold]
    #[inline(never)]
    fn note_new(&mut self, entry: usize) {
        if let Some(ordered) = &mut self.ordered {
            ordered.insert(self.entries[entry].key.clone(), entry as u32);
        }
        if !self.savepoints.is_empty() {
            self.note_undo(entry, None);
        }
    }

    /// Replaces the staged write of an entry.
    #[inline]
    pub fn stage(&mut self, entry: usize, write: Write<C>) {
        if self.ordered.is_some() || !self.savepoints.is_empty() {
            return self.stage_noted(entry, write);
        }
        let staged = &mut self.entries[entry].write;
        self.staged_bytes = self.staged_bytes + write.bytes - bytes_of(staged.as_ref());
        self.writes += usize::from(staged.is_none());
        *staged = Some(write);
    }

    #[cold]
    #[inline(never)]
    fn stage_noted(&mut self, entry: usize, write: Write<C>) {
        let before = self.replace(entry, Some(write));
        if !self.savepoints.is_empty() {
            self.note_undo(entry, before);
        }
    }

    #[cold]
    fn note_undo(&mut self, entry: usize, before: Option<Write<C>>) {
        self.journal_bytes += bytes_of(before.as_ref());
        self.journal.push(Undo { entry, before });
    }

    fn replace(&mut self, number: usize, write: Option<Write<C>>) -> Option<Write<C>> {
        let entry = &mut self.entries[number];
        if let (Some(ordered), Some(_)) = (&mut self.ordered, &write) {
            ordered.insert(entry.key.clone(), number as u32);
        }
        self.staged_bytes = self.staged_bytes + bytes_of(write.as_ref()) - bytes_of(entry.write.as_ref());
        self.writes = self.writes + usize::from(write.is_some()) - usize::from(entry.write.is_some());
        std::mem::replace(&mut entry.write, write)
    }

    pub fn savepoint(&mut self) -> u64 {
        let savepoint = self.next_savepoint;
        self.next_savepoint += 1;
        self.savepoints.push((savepoint, self.journal.len()));
        savepoint
    }

    fn savepoint_position(&self, savepoint: u64) -> Result<usize, Error> {
        let position = self.savepoints.binary_search_by_key(&savepoint, |(number, _)| *number);
        position.map_err(|_| Error::InvalidArgument(format!("savepoint: {savepoint} is not open")))
    }

    /// Undoes all writes staged since; the savepoint stays, later ones go.
    pub fn rollback_to(&mut self, savepoint: u64) -> Result<(), Error> {
        let position = self.savepoint_position(savepoint)?;
        let length = self.savepoints[position].1;
        while self.journal.len() > length
            && let Some(undo) = self.journal.pop()
        {
            self.journal_bytes -= bytes_of(undo.before.as_ref());
            self.replace(undo.entry, undo.before);
        }
        self.savepoints.truncate(position + 1);
        Ok(())
    }

    /// Forgets a savepoint and later ones; what was staged since stays.
    pub fn release(&mut self, savepoint: u64) -> Result<(), Error> {
        let position = self.savepoint_position(savepoint)?;
        self.savepoints.truncate(position);
        if self.savepoints.is_empty() {
            self.journal.clear();
            self.journal_bytes = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;

    use super::*;
    use crate::stm::value::tests::{Rows, flat, rows};

    fn put(set: &mut WorkingSet<Rows>, hash: u64, key: &[u8], value: &[u64]) {
        let operation = Operation::Put(rows(value));
        if let Some(entry) = set.position(hash, key) {
            let write = set.compose(entry, operation).unwrap();
            set.stage(entry, write);
        } else {
            let bytes = operation.bytes();
            set.stage_new(hash, key, operation, bytes);
        }
    }

    fn staged(set: &WorkingSet<Rows>, hash: u64, key: &[u8]) -> Option<Vec<u64>> {
        match &set.entries[set.position(hash, key)?].write.as_ref()?.operation {
            Operation::Put(value) => Some(flat(value)),
            Operation::Append(_) | Operation::Delete => None,
        }
    }

    #[test]
    fn finds_entries_when_hashes_collide_and_tables_grow() {
        let mut set = WorkingSet::new();
        for number in 0..1000_u64 {
            put(&mut set, number % 7, &number.to_be_bytes(), &[number]);
        }
        for number in 0..1000_u64 {
            assert_eq!(staged(&set, number % 7, &number.to_be_bytes()), Some(vec![number]));
        }
        assert_eq!((set.writes, set.staged_bytes), (1000, 8000));
        assert_eq!(set.position(3, b"no"), None);
        set.clear();
        assert_eq!(set.position(0, &0_u64.to_be_bytes()), None);
    }

    #[test]
    fn scanned_ranges_count_for_the_keys_in_them() {
        let mut set = WorkingSet::new();
        let mut random = 1_u64;
        let mut below = |end: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % end
        };
        for number in 0..200_u64 {
            put(&mut set, number, &[below(64) as u8, below(4) as u8], &[1]);
        }
        for _ in 0..60 {
            let mut bound = || {
                let key = vec![below(64) as u8];
                [Bound::Included(key.clone()), Bound::Excluded(key), Bound::Unbounded][below(7) as usize / 3].clone()
            };
            let range = KeyRange::new(bound(), bound());
            set.ranges.push((range, below(1000)));
        }
        let scanned = |key: &[u8]| {
            let ranges = set.ranges.iter().filter(|(range, _)| range.contains(key));
            ranges.map(|(_, snapshot)| *snapshot).max()
        };
        let expected: Vec<_> = set.entries.iter().map(|entry| scanned(entry.key.as_slice())).collect();
        set.note_scanned_writes();
        let noted: Vec<_> = set.entries.iter().map(|entry| entry.read_at).collect();
        assert_eq!(noted, expected);
        assert!(noted.iter().flatten().count() > 50);
    }

    #[test]
    fn savepoints_nest() {
        let mut set = WorkingSet::new();
        put(&mut set, 1, b"a", &[1]);
        let outer = set.savepoint();
        put(&mut set, 1, b"a", &[2, 2]);
        let inner = set.savepoint();
        put(&mut set, 1, b"a", &[3, 3, 3]);
        put(&mut set, 2, b"b", &[1]);
        assert_eq!((set.ordered().0.len(), set.writes, set.staged_bytes), (2, 2, 32));
        set.rollback_to(inner).unwrap();
        assert_eq!((staged(&set, 1, b"a"), staged(&set, 2, b"b")), (Some(vec![2, 2]), None));
        set.rollback_to(inner).unwrap();
        set.rollback_to(outer).unwrap();
        assert_eq!((staged(&set, 1, b"a"), set.writes, set.staged_bytes), (Some(vec![1]), 1, 8));
        assert!(set.rollback_to(inner).is_err());
        set.release(outer).unwrap();
        assert!(set.release(outer).is_err() && set.journal.is_empty());
    }
}
