//! A scan of a range, step by step.

use std::collections::VecDeque;
use std::ops::Bound;

use super::dependency_tracker::{DependencyTracker, Newest};
use super::error::Error;
use super::key::{KeyBytes, KeyRange};
use super::options::Direction;
use super::transaction::{Open, ScanParts, Transaction, behind};
use super::value::{Chunk, Value};
use super::working_set::Operation;

/// Entries that are read from the buffer at a time: few at first, as many scans are short.
const FIRST_BATCH: usize = 16;
const LARGEST_BATCH: usize = 256;

/// A position in a range of keys. It borrows nothing: each step is given the transaction that opened it.
///
/// It sees the transaction's snapshot (at read committed: the newest commit when it was opened, throughout), and the
/// transaction's own writes as they are at each step. For certification the scan counts as far as it has come.
pub struct Cursor<C: Chunk> {
    transaction: u64,
    /// What is left of the range.
    range: KeyRange,
    direction: Direction,
    left: Option<u64>,
    /// Committed entries read ahead, in the order of the scan; more may be left in `unread`.
    ahead: VecDeque<(KeyBytes, Value<C>)>,
    unread: Option<KeyRange>,
    batch: usize,
    current: Option<(KeyBytes, Value<C>)>,
    snapshot: u64,
    /// Index of the scanned range in the transaction's working set.
    tracked: Option<usize>,
    /// Holds the snapshot where the transaction does not.
    _holder: Option<Open<C>>,
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
            // Nothing of it is read yet: empty at the end where it begins.
            let nothing = match direction {
                Direction::Forward => KeyRange::new(range.start.clone(), Bound::Excluded(Vec::new())),
                Direction::Reverse => KeyRange::new(Bound::Excluded(Vec::new()), Bound::Excluded(Vec::new())),
            };
            parts.context.set.ranges.push((nothing, snapshot));
            parts.context.set.ranges.len() - 1
        });
        Ok(Cursor {
            transaction: id,
            unread: (!range.is_empty()).then(|| range.clone()),
            range,
            direction,
            left: limit,
            ahead: VecDeque::new(),
            batch: FIRST_BATCH,
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
    /// [`Error::SchemaMismatch`] when rows that the transaction appends do not fit those that they go after.
    pub fn next(&mut self, transaction: &mut Transaction<C>) -> Result<bool, Error> {
        self.current = None;
        let mut parts = transaction.scan_parts(self.transaction)?;
        if self.left == Some(0) || self.range.is_empty() {
            return Ok(false);
        }
        loop {
            if self.ahead.is_empty() {
                self.read_ahead(&mut parts);
            }
            let own = self.next_own(&mut parts);
            let committed = self.ahead.front().map(|(key, _)| key.as_slice());
            let (own_first, both) = match (&own, committed) {
                (None, None) => {
                    self.track(&mut parts, None);
                    self.range = KeyRange::new(Bound::Unbounded, Bound::Excluded(Vec::new()));
                    return Ok(false);
                }
                (None, Some(_)) => (false, false),
                (Some(_), None) => (true, false),
                (Some((key, _)), Some(committed)) => {
                    let order = key.as_slice().cmp(committed);
                    let before = match self.direction {
                        Direction::Forward => order.is_lt(),
                        Direction::Reverse => order.is_gt(),
                    };
                    (before, order.is_eq())
                }
            };
            let base = if own_first { None } else { self.ahead.pop_front() };
            let (key, value) = match (own.filter(|_| own_first || both), base) {
                (None, Some((key, value))) => (key, Some(value)),
                (Some((key, entry)), base) => (key, own_value(&parts, entry, base.map(|(_, value)| value))?),
                (None, None) => continue,
            };
            self.track(&mut parts, Some(&key));
            self.range = behind(key.as_slice(), &self.range, self.direction);
            if let Some(value) = value {
                self.current = Some((key, value));
                self.left = self.left.map(|left| left - 1);
                return Ok(true);
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
        let Some(unread) = self.unread.take() else {
            return;
        };
        let wanted = self.left.map_or(self.batch, |left| self.batch.min(usize::try_from(left).unwrap_or(usize::MAX)));
        let guard = parts.context.participant.pin();
        let tracker = DependencyTracker { buffer: &parts.database.buffer, clock: &parts.database.clock, guard: &guard };
        for record in parts.database.buffer.walk(unread.as_bounds(), self.direction, &guard) {
            let within = match self.direction {
                Direction::Forward => unread.ends_at_or_after(record.key()),
                Direction::Reverse => unread.starts_at_or_before(record.key()),
            };
            if !within {
                return;
            }
            if let Newest::Version(version, _) = tracker.newest_at(record, self.snapshot, None)
                && let Some(value) = version.value()
            {
                self.ahead.push_back((KeyBytes::new(record.key()), value.clone()));
                if self.ahead.len() == wanted {
                    self.unread = Some(behind(record.key(), &unread, self.direction));
                    self.batch = (self.batch * 4).min(LARGEST_BATCH);
                    return;
                }
            }
        }
    }

    /// The transaction's own next write in what is left of the range.
    fn next_own(&self, parts: &mut ScanParts<'_, C>) -> Option<(KeyBytes, usize)> {
        let set = &mut parts.context.set;
        if set.writes == 0 || self.range.is_empty() {
            return None;
        }
        let (ordered, entries) = set.ordered();
        let mut own = ordered.range::<[u8], _>(self.range.as_bounds());
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
        let reached = reached.map(|key| Bound::Included(key.as_slice().to_vec()));
        match self.direction {
            Direction::Forward => tracked.end = reached.unwrap_or_else(|| self.range.end.clone()),
            Direction::Reverse => {
                if tracked.is_empty() {
                    tracked.end = self.range.end.clone();
                }
                tracked.start = reached.unwrap_or_else(|| self.range.start.clone());
            }
        }
    }
}

/// What the transaction makes of a committed value.
fn own_value<C: Chunk>(
    parts: &ScanParts<'_, C>,
    entry: usize,
    committed: Option<Value<C>>,
) -> Result<Option<Value<C>>, Error> {
    let write = parts.context.set.entries[entry].write.as_ref();
    Ok(match (write.map(|write| &write.operation), committed) {
        (None, committed) => committed,
        (Some(Operation::Put(value)), _) => Some(value.clone()),
        (Some(Operation::Delete), _) => None,
        (Some(Operation::Append(rows)), None) => Some(rows.clone()),
        (Some(Operation::Append(rows)), Some(value)) => Some(value.append(rows)?),
    })
}
