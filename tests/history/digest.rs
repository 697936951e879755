//! A transaction replayed by itself: what it read of others, what it wrote in the end, and whether it saw its own
//! writes.

use std::collections::BTreeMap;

use khonsu::stm::{ConflictResolution, Direction};

use super::anomalies::{Anomaly, Phenomenon};
use super::data::{Event, History, Key, Name, Outcome, Row, Span, Transaction};

#[derive(Debug, Clone, Default)]
pub struct Digest {
    pub reads: Vec<Read>,
    /// What was staged at the end.
    pub writes: BTreeMap<Key, Write>,
    pub anomalies: Vec<Anomaly>,
}

/// What one call read of the committed state.
#[derive(Debug, Clone)]
pub struct Read {
    pub step: usize,
    pub window: (u64, u64),
    /// As far as the call came: one key, or a range.
    pub span: Span,
    pub is_scan: bool,
    /// It sees what was there when its cursor was opened.
    pub by_cursor: bool,
    /// What was seen under keys of the span; of those that are not here, that they are absent.
    pub seen: BTreeMap<Key, Seen>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Absent,
    Present,
    Rows(Vec<Row>),
    /// Nothing, because own writes hide it.
    Hidden,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub change: Change,
    /// `None`: the transaction's.
    pub resolution: Option<ConflictResolution>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Put(Vec<Row>),
    Append(Vec<Row>),
    Delete,
}

impl Change {
    pub fn rows(&self) -> &[Row] {
        match self {
            Change::Put(rows) | Change::Append(rows) => rows,
            Change::Delete => &[],
        }
    }
}

impl Read {
    pub fn seen(&self, key: Key) -> &Seen {
        self.seen.get(&key).unwrap_or(&Seen::Absent)
    }
}

/// Digests of all transactions of a history, and the versions that they left.
pub fn digests(history: &History) -> (Vec<Digest>, Vec<Option<u64>>) {
    let transactions = &history.transactions;
    let digests: Vec<Digest> =
        transactions.iter().enumerate().map(|(number, transaction)| Digest::of(number, transaction)).collect();
    let versions = transactions.iter().zip(&digests).map(|(transaction, digest)| digest.version(transaction)).collect();
    (digests, versions)
}

impl Digest {
    /// The transaction's place in the order of versions, if it left any. One that wrote nothing, or whose writes were
    /// all dropped, is given the version that it saw.
    fn version(&self, transaction: &Transaction) -> Option<u64> {
        match transaction.outcome {
            Outcome::Committed(version) if version > transaction.snapshot && !self.writes.is_empty() => Some(version),
            _ => None,
        }
    }

    /// Replays the transaction of this number.
    fn of(number: usize, transaction: &Transaction) -> Self {
        let mut digest = Digest::default();
        let mut savepoints: Vec<(usize, BTreeMap<Key, Write>)> = Vec::new();
        let mut next_savepoint = 0;
        for (position, step) in transaction.steps.iter().enumerate() {
            let mut wrong = None;
            match &step.event {
                Event::Get(key, found) => {
                    let seen = digest.behind_own(*key, found.as_deref());
                    wrong = seen.is_none().then_some(*key);
                    digest.note_point(position, step.window, *key, seen);
                }
                Event::Exists(key, there) => {
                    let seen = match digest.writes.get(key).map(|write| &write.change) {
                        None if *there => Some(Seen::Present),
                        None => Some(Seen::Absent),
                        Some(change) => (*there == (*change != Change::Delete)).then_some(Seen::Hidden),
                    };
                    wrong = seen.is_none().then_some(*key);
                    digest.note_point(position, step.window, *key, seen);
                }
                Event::Scan { span, direction, limit, by_cursor, found } => {
                    wrong = out_of_order(*span, *direction, *limit, found);
                    let Some(covered) = covered(*span, *direction, *limit, found) else {
                        continue;
                    };
                    let mut seen = BTreeMap::new();
                    let own = digest.writes.keys().copied().filter(|key| covered.contains(*key));
                    let keys: Vec<Key> = own.chain(found.iter().map(|(key, _)| *key)).collect();
                    for key in keys {
                        let rows = found.iter().find(|(other, _)| *other == key).map(|(_, rows)| rows.as_slice());
                        match digest.behind_own(key, rows) {
                            Some(behind) => _ = seen.insert(key, behind),
                            None => {
                                _ = seen.insert(key, Seen::Hidden);
                                wrong = Some(key);
                            }
                        }
                    }
                    digest.reads.push(Read {
                        step: position,
                        window: step.window,
                        span: covered,
                        is_scan: true,
                        by_cursor: *by_cursor,
                        seen,
                    });
                }
                Event::Put(key, row) => digest.stage(*key, Change::Put(vec![*row])),
                Event::Append(key, row) => digest.stage(*key, Change::Append(vec![*row])),
                Event::Delete(key) => digest.stage(*key, Change::Delete),
                Event::Resolve(key, resolution) => {
                    digest.writes.get_mut(key).into_iter().for_each(|write| write.resolution = Some(*resolution));
                }
                Event::Savepoint => {
                    savepoints.push((next_savepoint, digest.writes.clone()));
                    next_savepoint += 1;
                }
                Event::RollbackTo(savepoint) => {
                    savepoints.retain(|(other, _)| other <= savepoint);
                    let (_, writes) = savepoints.last().expect("the savepoint was open");
                    digest.writes.clone_from(writes);
                }
                Event::Release(savepoint) => savepoints.retain(|(other, _)| other < savepoint),
            }
            if let Some(key) = wrong {
                let what = format!("T{number} sees of {} other than its own writes say: {}", Name(key), step.event);
                digest.anomalies.push(Anomaly::of(Phenomenon::OwnWrites, [number], what));
            }
        }
        digest
    }

    fn note_point(&mut self, step: usize, window: (u64, u64), key: Key, seen: Option<Seen>) {
        let span = Span { low: key, high: key };
        let blind = matches!(self.writes.get(&key), Some(Write { change: Change::Put(_) | Change::Delete, .. }));
        // What it has put or deleted itself it does not look up.
        if let Some(seen) = seen.filter(|_| !blind) {
            self.reads.push(Read {
                step,
                window,
                span,
                is_scan: false,
                by_cursor: false,
                seen: BTreeMap::from([(key, seen)]),
            });
        }
    }

    /// What was committed under a key, given what was found with own writes upon it. `None`: those are not in it.
    fn behind_own(&self, key: Key, found: Option<&[Row]>) -> Option<Seen> {
        let committed = |rows: &[Row]| if rows.is_empty() { Seen::Absent } else { Seen::Rows(rows.to_vec()) };
        match (self.writes.get(&key).map(|write| &write.change), found) {
            (None, found) => Some(committed(found.unwrap_or_default())),
            (Some(Change::Put(own)), Some(found)) if own == found => Some(Seen::Hidden),
            (Some(Change::Delete), None) => Some(Seen::Hidden),
            (Some(Change::Append(own)), Some(found)) => found.strip_suffix(own.as_slice()).map(committed),
            _ => None,
        }
    }

    fn stage(&mut self, key: Key, change: Change) {
        let joined = |older: &[Row], newer: &[Row]| [older, newer].concat();
        let write = match (change, self.writes.get(&key)) {
            (Change::Append(rows), Some(Write { change: Change::Put(older), resolution })) => {
                Write { change: Change::Put(joined(older, &rows)), resolution: *resolution }
            }
            (Change::Append(rows), Some(Write { change: Change::Append(older), resolution })) => {
                Write { change: Change::Append(joined(older, &rows)), resolution: *resolution }
            }
            (Change::Append(rows), Some(Write { change: Change::Delete, resolution })) => {
                Write { change: Change::Put(rows), resolution: *resolution }
            }
            (change, _) => Write { change, resolution: None },
        };
        self.writes.insert(key, write);
    }
}

/// The part of a range that a scan has passed, up to the last key where its limit ended it.
fn covered(span: Span, direction: Direction, limit: Option<u64>, found: &[(Key, Vec<Row>)]) -> Option<Span> {
    if span.low > span.high || limit == Some(0) {
        return None;
    }
    let ended_by_limit = limit.is_some_and(|limit| limit <= found.len() as u64);
    Some(match (found.last().filter(|_| ended_by_limit), direction) {
        (None, _) => span,
        (Some((last, _)), Direction::Forward) => Span { high: *last, ..span },
        (Some((last, _)), Direction::Reverse) => Span { low: *last, ..span },
    })
}

/// A key that a scan should not have given, or not there.
fn out_of_order(span: Span, direction: Direction, limit: Option<u64>, found: &[(Key, Vec<Row>)]) -> Option<Key> {
    let too_many = found.get(usize::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX));
    let outside = found.iter().find(|(key, rows)| !span.contains(*key) || rows.is_empty());
    let turned = found.windows(2).find(|pair| match direction {
        Direction::Forward => pair[0].0 >= pair[1].0,
        Direction::Reverse => pair[0].0 <= pair[1].0,
    });
    too_many.or(outside).or(turned.map(|pair| &pair[1])).map(|(key, _)| *key)
}
