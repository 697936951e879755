//! A scan of a range, step by step.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Bound;

use super::dependency_tracker::DependencyTracker;
use super::error::Error;
use super::evictable::VersionValue;
use super::key::{KeyBytes, KeyRange, bounds_are_empty};
use super::options::Direction;
use super::transaction::{Open, ScanParts, Transaction, behind};
use super::value::{Chunk, Value};
use super::working_set::Operation;

/// Entries that are read from the buffer at a time: few at first where no limit is known, as many scans are short.
const FIRST_BATCH: usize = 16;
pub(super) const LARGEST_BATCH: usize = 256;

/// A position in a range of keys. It borrows nothing: each step is given the transaction that opened it.
///
/// It sees the transaction's snapshot (at read committed: the newest commit when it was opened, throughout), and the
/// transaction's own writes as they are at each step. For certification the scan counts as far as it has come.
pub struct Cursor<C: Chunk> {
    transaction: u64,
    range: KeyRange,
    direction: Direction,
    left: Option<u64>,
    /// The key that the scan has passed last.
    passed: Option<KeyBytes>,
    /// Committed entries read ahead, in the order of the scan.
    ahead: VecDeque<(KeyBytes, VersionValue<C>)>,
    /// Where reading ahead goes on; `None`: there is no more.
    unread: Option<KeyRange>,
    batch: usize,
    /// The next entry, whose value is still to be read.
    pending: Option<(KeyBytes, VersionValue<C>)>,
    current: Option<(KeyBytes, Value<C>)>,
    snapshot: u64,
    /// Index of the scanned range in the transaction's working set.
    tracked: Option<usize>,
    /// Holds the snapshot where the transaction does not.
    _holder: Option<Open<C>>,
}

/// Records to read at a time for a scan of so many.
pub(super) fn batch_for(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(LARGEST_BATCH).clamp(1, LARGEST_BATCH)
}

impl<C: Chunk> Cursor<C> {
    pub(super) fn open(
        transaction: &mut Transaction<C>,
        id: u64,
        range: KeyRange,
        direction: Direction,
        limit: Option<u64>,
    ) -> Result<Self, Error> {
        let holder = transaction.scan_holder()?;
        let parts = transaction.scan_parts(id)?;
        let (holder, snapshot) = match holder {
            Some((holder, snapshot)) => (Some(holder), snapshot),
            None => (None, parts.snapshot),
        };
        let tracked = parts.tracks_reads.then(|| {
            parts.context.set.ranges.push((KeyRange::empty(), snapshot));
            parts.context.set.ranges.len() - 1
        });
        Ok(Cursor {
            transaction: id,
            unread: (!range.is_empty() && limit != Some(0)).then(|| range.clone()),
            range,
            direction,
            left: limit,
            passed: None,
            ahead: VecDeque::new(),
            batch: limit.map_or(FIRST_BATCH, batch_for),
            pending: None,
            current: None,
            snapshot,
            tracked,
            _holder: holder,
        })
    }

    /// Goes to the next key. False: there is none.
    ///
    /// # Errors
    /// [`Error::InvalidState`] when the transaction has ended or is not the one that opened the cursor,
    /// [`Error::SchemaMismatch`] when rows that the transaction appends do not fit those that they go after,
    /// [`Error::Storage`] and [`Error::Corruption`] when a value cannot be read back from storage. The next call tries
    /// the same entry again.
    pub fn next(&mut self, transaction: &mut Transaction<C>) -> Result<bool, Error> {
        self.current = None;
        let Some((key, value)) = self.step(transaction)? else {
            return Ok(false);
        };
        let value = match value {
            VersionValue::InMemory(value) => value,
            VersionValue::Evictable(cell) => {
                let read = cell.read_through();
                read.inspect_err(|_| self.pending = Some((key.clone(), VersionValue::Evictable(cell))))?
            }
        };
        self.current = Some((key, value));
        Ok(true)
    }

    /// Goes to the next key and gives it, with its value wherever that is.
    ///
    /// # Errors
    /// Those of [`next`](Cursor::next), but for reading from storage.
    pub(crate) fn step(
        &mut self,
        transaction: &mut Transaction<C>,
    ) -> Result<Option<(KeyBytes, VersionValue<C>)>, Error> {
        let mut parts = transaction.scan_parts(self.transaction)?;
        if let Some(pending) = self.pending.take() {
            return Ok(Some(pending));
        }
        if self.left == Some(0) || self.range.is_empty() {
            return Ok(None);
        }
        loop {
            if self.ahead.is_empty() {
                self.read_ahead(&mut parts);
            }
            let own = self.next_own(&mut parts);
            let own_position = match (&own, self.ahead.front()) {
                (None, None) => {
                    self.track(&mut parts, None);
                    self.left = Some(0);
                    return Ok(None);
                }
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (Some((own, _)), Some((committed, _))) => match self.direction {
                    Direction::Forward => own.cmp(committed),
                    Direction::Reverse => committed.cmp(own),
                },
            };
            let (key, value) = match own.filter(|_| own_position.is_le()) {
                Some((key, entry)) => {
                    let committed = self.ahead.front().filter(|_| own_position.is_eq());
                    // Before it can fail: that, too, tells what is committed.
                    self.track(&mut parts, Some(&key));
                    let value = own_value(&parts, entry, committed.map(|(_, value)| value))?;
                    if own_position.is_eq() {
                        self.ahead.pop_front();
                    }
                    (key, value)
                }
                None => match self.ahead.pop_front() {
                    Some((key, value)) => (key, Some(value)),
                    None => continue,
                },
            };
            self.track(&mut parts, Some(&key));
            self.passed = Some(key.clone());
            if let Some(value) = value {
                self.left = self.left.map(|left| left - 1);
                return Ok(Some((key, value)));
            }
        }
    }

    /// The key that the cursor is on.
    pub fn key(&self) -> Option<&[u8]> {
        self.entry().map(|(key, _)| key)
    }

    /// The value that the cursor is on.
    pub fn value(&self) -> Option<&Value<C>> {
        self.entry().map(|(_, value)| value)
    }

    /// Key and value that the cursor is on.
    pub fn entry(&self) -> Option<(&[u8], &Value<C>)> {
        self.current.as_ref().map(|(key, value)| (key.as_slice(), value))
    }

    /// Reads committed entries until there are some or none are left.
    fn read_ahead(&mut self, parts: &mut ScanParts<'_, C>) {
        let guard = parts.context.participant.pin();
        let tracker = DependencyTracker { pool: parts.pool, guard: &guard };
        while let Some(unread) = self.unread.take() {
            let records = tracker.find_range(&unread, self.direction, self.batch);
            let seen = tracker.seen(&records, self.snapshot);
            self.ahead.extend(seen.map(|(key, value)| (KeyBytes::new(key), value.clone())));
            if let Some(last) = records.last().filter(|_| records.len() == self.batch) {
                self.unread = Some(behind(last.key(), &unread, self.direction));
                self.batch = (self.batch * 4).min(LARGEST_BATCH);
            }
            fail_point!(CursorReadAhead);
            if !self.ahead.is_empty() {
                return;
            }
        }
    }

    /// The transaction's own next write in what is left of the range.
    fn next_own(&self, parts: &mut ScanParts<'_, C>) -> Option<(KeyBytes, usize)> {
        let set = &mut parts.context.set;
        if set.writes == 0 {
            return None;
        }
        let (mut start, mut end) = self.range.as_bounds();
        if let Some(passed) = &self.passed {
            match self.direction {
                Direction::Forward => start = Bound::Excluded(passed.as_slice()),
                Direction::Reverse => end = Bound::Excluded(passed.as_slice()),
            }
            // An ordered map panics when asked for what lies behind the end.
            if bounds_are_empty(start, end) {
                return None;
            }
        }
        let (ordered, entries) = set.ordered();
        let mut own = ordered.range::<[u8], _>((start, end));
        let written = |(_, entry): &(&KeyBytes, &u32)| entries[**entry as usize].write.is_some();
        let next = match self.direction {
            Direction::Forward => own.find(written),
            Direction::Reverse => own.rev().find(written),
        };
        next.map(|(key, entry)| (key.clone(), *entry as usize))
    }

    /// Notes how far the scan has come: up to and with a key, or to its end.
    fn track(&self, parts: &mut ScanParts<'_, C>, reached: Option<&KeyBytes>) {
        let Some(tracked) = self.tracked else {
            return;
        };
        let tracked = &mut parts.context.set.ranges[tracked].0;
        if self.passed.is_none() {
            *tracked = self.range.clone();
        }
        let (bound, end) = match self.direction {
            Direction::Forward => (&mut tracked.end, &self.range.end),
            Direction::Reverse => (&mut tracked.start, &self.range.start),
        };
        match (reached, &mut *bound) {
            (Some(key), Bound::Included(bytes)) => {
                bytes.clear();
                bytes.extend_from_slice(key.as_slice());
            }
            (Some(key), _) => *bound = Bound::Included(key.as_slice().to_vec()),
            (None, _) => bound.clone_from(end),
        }
    }
}

/// What the transaction makes of a committed value.
fn own_value<C: Chunk>(
    parts: &ScanParts<'_, C>,
    entry: usize,
    committed: Option<&VersionValue<C>>,
) -> Result<Option<VersionValue<C>>, Error> {
    let write = parts.context.set.entries[entry].write.as_ref();
    Ok(match (write.map(|write| &write.operation), committed) {
        (None, committed) => committed.cloned(),
        (Some(Operation::Put(value)), _) => Some(VersionValue::InMemory(value.clone())),
        (Some(Operation::Delete), _) => None,
        (Some(Operation::Append(rows)), None) => Some(VersionValue::InMemory(rows.clone())),
        (Some(Operation::Append(rows)), Some(value)) => Some(value.append(rows)?),
    })
}
