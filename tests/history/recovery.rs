//! The versions of each key, their order and who read them, recovered from the commit versions that the database gave.
//!
//! Whether a write was dropped, replaced or put behind another one by its conflict strategy follows from the versions,
//! too: it met a conflict if the key has a version between the write's *basis* and its commit. The basis is the
//! snapshot at which the transaction last read the key, or else the one that it began with.

use std::collections::{BTreeMap, HashMap};

use khonsu::stm::{ConflictResolution, IsolationLevel};

use super::anomalies::{Anomaly, Phenomenon};
use super::data::{History, Key, Name, Outcome, Row, Transaction};
use super::digest::{Change, Digest, Read, Seen, Write, digests};
use super::graph::{Order, VersionRead};

/// What can be told of a history without looking for cycles.
pub struct Recovery {
    pub order: Order,
    pub anomalies: Vec<Anomaly>,
}

struct Version {
    writer: usize,
    number: u64,
    content: Content,
}

#[derive(PartialEq, Eq)]
enum Content {
    Absent,
    Rows(Vec<Row>),
    /// Rows that end with the writer's, where it cannot be told whether they stand behind others.
    Ending(Vec<Row>),
}

enum Effect {
    Installed(Content),
    Dropped,
}

struct Recoverer<'h> {
    history: &'h History,
    digests: Vec<Digest>,
    versions: Vec<Option<u64>>,
    chains: BTreeMap<Key, Vec<Version>>,
    /// Who wrote a row, under which key.
    owners: HashMap<Row, (usize, Key)>,
    anomalies: Vec<Anomaly>,
}

/// Recovers the order of a history.
pub fn recover(history: &History) -> Recovery {
    let (digests, versions) = digests(history);
    let mut recoverer = Recoverer {
        history,
        anomalies: digests.iter().flat_map(|digest| digest.anomalies.clone()).collect(),
        digests,
        versions,
        chains: BTreeMap::new(),
        owners: owners(history),
    };
    recoverer.check_real_time();
    recoverer.install_all();
    recoverer.check_dropped();
    let reads = recoverer.attribute_all();
    let writers = |chain: &Vec<Version>| chain.iter().map(|version| version.writer).collect();
    let order = Order {
        chains: recoverer.chains.iter().map(|(key, chain)| (*key, writers(chain))).collect(),
        reads,
        spans: spans(history),
    };
    Recovery { order, anomalies: recoverer.anomalies }
}

/// Who wrote each row, and under which key.
pub fn owners(history: &History) -> HashMap<Row, (usize, Key)> {
    let mut owners = HashMap::new();
    for (number, transaction) in history.transactions.iter().enumerate() {
        for step in &transaction.steps {
            if let super::data::Event::Put(key, row) | super::data::Event::Append(key, row) = step.event {
                let before = owners.insert(row, (number, key));
                assert!(before.is_none(), "row {row} is written twice");
            }
        }
    }
    owners
}

pub fn spans(history: &History) -> Vec<Option<(u64, u64)>> {
    let span = |transaction: &Transaction| transaction.is_committed().then_some((transaction.began, transaction.ended));
    history.transactions.iter().map(span).collect()
}

impl Recoverer<'_> {
    fn report(&mut self, phenomenon: Phenomenon, transactions: impl Into<Vec<usize>>, what: String) {
        self.anomalies.push(Anomaly::of(phenomenon, transactions, what));
    }

    /// Whoever begins sees what had been committed before, whatever its level.
    fn check_real_time(&mut self) {
        let transactions = &self.history.transactions;
        for (number, transaction) in transactions.iter().enumerate() {
            let ended = transactions.iter().enumerate().filter(|(_, other)| other.ended < transaction.began);
            let newest = ended.filter_map(|(other, _)| Some((self.versions[other]?, other))).max();
            if let Some((version, other)) = newest.filter(|(version, _)| *version > transaction.snapshot) {
                let what =
                    format!("T{other} had committed version {version} before T{number} began, which does not see it");
                self.report(Phenomenon::RealTime, [other, number], what);
            }
        }
    }

    /// Puts the writes of all committed transactions into their chains.
    fn install_all(&mut self) {
        let versions = self.versions.iter().enumerate();
        let mut writers: Vec<(u64, usize)> =
            versions.filter_map(|(number, version)| Some(((*version)?, number))).collect();
        writers.sort_unstable();
        for pair in writers.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            let what = format!("T{} and T{} have both committed version {}", pair[0].1, pair[1].1, pair[0].0);
            self.report(Phenomenon::VersionOrder, [pair[0].1, pair[1].1], what);
        }
        for (version, number) in writers {
            for (key, write) in self.digests[number].writes.clone() {
                match self.effect(number, key, &write) {
                    Effect::Installed(content) => {
                        self.chains.entry(key).or_default().push(Version { writer: number, number: version, content });
                    }
                    Effect::Dropped => {}
                }
            }
        }
    }

    /// The snapshot that a write is compared with, as exactly as it is known, and whether the key was read.
    fn basis(&self, number: usize, key: Key) -> ((u64, u64), bool) {
        let Transaction { level, snapshot, .. } = self.history.transactions[number];
        let mut covering = self.digests[number].reads.iter().filter(|read| read.span.contains(key)).peekable();
        match level {
            IsolationLevel::ReadCommitted => {
                let was_read = covering.peek().is_some();
                let latest =
                    covering.map(|read| read.window).reduce(|(low, high), other| (low.max(other.0), high.max(other.1)));
                (latest.unwrap_or((snapshot, snapshot)), was_read)
            }
            _ => ((snapshot, snapshot), covering.any(|read| *read.seen(key) != Seen::Hidden)),
        }
    }

    fn effect(&mut self, number: usize, key: Key, write: &Write) -> Effect {
        let transaction = &self.history.transactions[number];
        let ((low, high), was_read) = self.basis(number, key);
        let newest = self.chains.get(&key).and_then(|chain| chain.last());
        let overtaken = match newest.map_or(0, |version| version.number) {
            version if version > high => Some(true),
            version if version <= low => Some(false),
            _ => None,
        };
        let behind = |rows: &[Row]| match newest.map(|version| &version.content) {
            None | Some(Content::Absent) => Content::Rows(rows.to_vec()),
            Some(Content::Rows(older)) => Content::Rows([older, rows].concat()),
            Some(Content::Ending(older)) => Content::Ending([older, rows].concat()),
        };
        // A serializable transaction that has read the key overwrites nothing else than what it read.
        let must_fail = was_read && transaction.level == IsolationLevel::Serializable;
        let resolution = match must_fail {
            true => ConflictResolution::Fail,
            false => write.resolution.unwrap_or(transaction.resolution),
        };
        let content = match (&write.change, overtaken, resolution) {
            (Change::Append(rows), overtaken, _) if !(must_fail && overtaken == Some(true)) => behind(rows),
            (Change::Put(rows), Some(false), _) | (Change::Put(rows), _, ConflictResolution::Replace) => {
                Content::Rows(rows.clone())
            }
            (Change::Put(rows), Some(true), ConflictResolution::Append) => behind(rows),
            (Change::Put(rows), None, ConflictResolution::Append) => Content::Ending(rows.clone()),
            (Change::Put(rows), None, ConflictResolution::Fail) => Content::Rows(rows.clone()),
            (Change::Delete, None | Some(false), _) | (Change::Delete, _, ConflictResolution::Replace) => {
                Content::Absent
            }
            (_, Some(true), ConflictResolution::Ignore) => return Effect::Dropped,
            (_, None, ConflictResolution::Ignore) => {
                panic!(
                    "whether T{number} has ignored a conflict cannot be told: a plan must not do so where threads run"
                )
            }
            (change, ..) => {
                let overwritten = newest.map_or(number, |version| version.writer);
                let content = match change {
                    Change::Put(rows) => Content::Rows(rows.clone()),
                    Change::Append(rows) => behind(rows),
                    Change::Delete => Content::Absent,
                };
                let what = format!("T{number} overwrites {} of T{overwritten} without having seen it", Name(key));
                self.report(Phenomenon::LostUpdate, [overwritten, number], what);
                content
            }
        };
        Effect::Installed(content)
    }

    /// A transaction that left no version must have had a reason for each of its writes.
    fn check_dropped(&mut self) {
        for number in 0..self.history.transactions.len() {
            let transaction = &self.history.transactions[number];
            if !transaction.is_committed() || self.versions[number].is_some() {
                continue;
            }
            for (key, write) in self.digests[number].writes.clone() {
                let ((low, _), _) = self.basis(number, key);
                let resolution = write.resolution.unwrap_or(transaction.resolution);
                let newer = |chain: &Vec<Version>| chain.iter().any(|version| version.number > low);
                let may_be_dropped = resolution == ConflictResolution::Ignore
                    && !matches!(write.change, Change::Append(_))
                    && self.chains.get(&key).is_some_and(newer);
                if !may_be_dropped {
                    let what = format!("T{number} has committed a write of {} that left no version", Name(key));
                    self.report(Phenomenon::LostWrite, [number], what);
                }
            }
        }
    }

    /// Finds the versions that were read. Those of transactions that did not commit are checked, too.
    fn attribute_all(&mut self) -> Vec<VersionRead> {
        let mut found = Vec::new();
        for number in 0..self.digests.len() {
            let transaction = &self.history.transactions[number];
            let mut newest_seen = transaction.snapshot;
            for read in self.digests[number].reads.clone() {
                let sound = self.check_rows(number, &read);
                let (low, high) = match self.history.transactions[number].level {
                    IsolationLevel::ReadCommitted if read.by_cursor => read.window,
                    IsolationLevel::ReadCommitted => (newest_seen.max(read.window.0), read.window.1),
                    _ => (newest_seen, newest_seen),
                };
                let fitting: Vec<u64> =
                    self.candidates(&read, low, high).into_iter().filter(|at| self.fits(&read, *at)).collect();
                match fitting.first() {
                    Some(first) => newest_seen = newest_seen.max(*first),
                    None if sound => {
                        let what = format!(
                            "T{number} reads what was not the state at any version from {low} to {high}: {}",
                            self.history.transactions[number].steps[read.step].event
                        );
                        self.report(Phenomenon::Unfit, [number], what);
                    }
                    None => {}
                }
                if self.history.transactions[number].is_committed() {
                    self.attribute(number, &read, &fitting, &mut found);
                }
            }
        }
        found
    }

    /// Whether all rows that were read are of committed transactions, and are not what these had replaced themselves.
    fn check_rows(&mut self, number: usize, read: &Read) -> bool {
        let before = self.anomalies.len();
        for (key, seen) in &read.seen {
            let Seen::Rows(rows) = seen else {
                continue;
            };
            for (place, row) in rows.iter().enumerate() {
                let Some((writer, _)) = self.owners.get(row).copied().filter(|(_, of)| of == key) else {
                    let what = format!("T{number} reads row {row} of {}, which nobody wrote there", Name(*key));
                    self.report(Phenomenon::ThinAir, [number], what);
                    continue;
                };
                let chain = self.chains.get(key).map_or(&[][..], Vec::as_slice);
                let installed = chain.iter().any(|version| version.writer == writer);
                let written = self.digests[writer].writes.get(key).map_or(&[][..], |write| write.change.rows());
                let last = place + 1 == rows.len();
                if !installed {
                    let what = format!("T{number} reads row {row} of {}, which T{writer} did not commit", Name(*key));
                    self.report(Phenomenon::G1a, [writer, number], what);
                } else if !written.contains(row) || last && written.last() != Some(row) {
                    let what = format!("T{number} reads row {row} of {}, which T{writer} replaced itself", Name(*key));
                    self.report(Phenomenon::G1b, [writer, number], what);
                }
            }
        }
        self.anomalies.len() == before
    }

    /// The versions at which what is read may be different than at the one before.
    fn candidates(&self, read: &Read, low: u64, high: u64) -> Vec<u64> {
        let chains = self.chains.range(read.span.low..=read.span.high);
        let numbers = chains.flat_map(|(_, chain)| chain.iter().map(|version| version.number));
        let mut candidates: Vec<u64> = numbers.filter(|number| (low + 1..=high).contains(number)).collect();
        candidates.extend((low <= high).then_some(low));
        candidates.sort_unstable();
        candidates.dedup();
        candidates
    }

    fn fits(&self, read: &Read, at: u64) -> bool {
        let keys = self.chains.range(read.span.low..=read.span.high).map(|(key, _)| key).chain(read.seen.keys());
        keys.into_iter().all(|key| {
            let version = self.chains.get(key).and_then(|chain| chain[..position_at(chain, at)].last());
            match (read.seen(*key), version.map(|version| &version.content)) {
                (Seen::Hidden, _) => true,
                (Seen::Absent, content) => matches!(content, None | Some(Content::Absent)),
                (Seen::Present, content) => matches!(content, Some(Content::Rows(_) | Content::Ending(_))),
                (Seen::Rows(rows), Some(Content::Rows(content))) => rows == content,
                (Seen::Rows(rows), Some(Content::Ending(end))) => rows.ends_with(end),
                (Seen::Rows(_), None | Some(Content::Absent)) => false,
            }
        })
    }

    /// The versions that a call has read: by the last row, or by the only snapshot that explains it.
    fn attribute(&self, reader: usize, read: &Read, fitting: &[u64], found: &mut Vec<VersionRead>) {
        for (key, chain) in self.chains.range(read.span.low..=read.span.high) {
            let by_snapshot = || {
                let mut positions = fitting.iter().map(|at| position_at(chain, *at));
                let first = positions.next()?;
                positions.all(|position| position == first).then_some(first)
            };
            let by_row = |rows: &[Row]| {
                let (writer, _) = self.owners.get(rows.last()?)?;
                Some(1 + chain.iter().position(|version| version.writer == *writer)?)
            };
            let position = match read.seen(*key) {
                Seen::Hidden => None,
                Seen::Rows(rows) => by_row(rows),
                Seen::Absent | Seen::Present => by_snapshot(),
            };
            if let Some(position) = position {
                let predicate = read.is_scan && *read.seen(*key) == Seen::Absent;
                found.push(VersionRead { reader, key: *key, position, predicate });
            }
        }
    }
}

/// How many versions of a chain a snapshot is not older than.
fn position_at(chain: &[Version], at: u64) -> usize {
    chain.partition_point(|version| version.number <= at)
}

/// The transaction as if it had committed after all that had committed before it ended, and without those that had not.
pub fn as_if_committed(history: &History, number: usize) -> History {
    let mut history = history.clone();
    let Outcome::Conflict { newest, .. } = history.transactions[number].outcome else {
        panic!("T{number} was not refused");
    };
    let ended = history.transactions[number].ended;
    let (_, versions) = digests(&history);
    for (other, transaction) in history.transactions.iter_mut().enumerate() {
        // Who wrote nothing has no place in the order of versions but when it ended.
        let is_before = versions[other].map_or(transaction.ended < ended, |version| version <= newest);
        if other == number {
            transaction.outcome = Outcome::Committed(newest + 1);
        } else if !is_before {
            transaction.outcome = Outcome::RolledBack;
        }
    }
    history
}
