//! Histories written by hand, to check the checker with.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use khonsu::stm::IsolationLevel::{self, ReadCommitted, RepeatableRead, Serializable};
use khonsu::stm::{ConflictResolution, Direction};

use super::anomalies::{Anomaly, Phenomenon};
use super::data::{Event, History, Key, Outcome, Row, Span, Step, Transaction};
use super::judge;

pub const X: Key = 0;
pub const Y: Key = 1;
pub const Z: Key = 2;

pub const LEVELS: [IsolationLevel; 3] = [ReadCommitted, RepeatableRead, Serializable];

/// Writes a history by hand. Versions and time go on by themselves.
#[derive(Default)]
pub struct Plot {
    pub history: History,
    tick: u64,
    pub version: u64,
}

impl Plot {
    fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    pub fn begin(&mut self, level: IsolationLevel) -> usize {
        self.begin_at(level, self.version)
    }

    pub fn begin_at(&mut self, level: IsolationLevel, snapshot: u64) -> usize {
        let began = self.tick();
        self.history.transactions.push(Transaction {
            session: self.history.transactions.len(),
            level,
            read_only: false,
            resolution: ConflictResolution::Fail,
            began,
            ended: u64::MAX,
            snapshot,
            steps: Vec::new(),
            outcome: Outcome::RolledBack,
        });
        self.history.transactions.len() - 1
    }

    pub fn step(&mut self, number: usize, event: Event) {
        let window = (self.version, self.version);
        self.step_in(number, window, event);
    }

    pub fn step_in(&mut self, number: usize, window: (u64, u64), event: Event) {
        let tick = self.tick();
        self.history.transactions[number].steps.push(Step { tick, window, event });
    }

    /// No rows: absent.
    pub fn get(&mut self, number: usize, key: Key, rows: &[Row]) {
        self.step(number, Event::Get(key, (!rows.is_empty()).then(|| rows.to_vec())));
    }

    pub fn scan(&mut self, number: usize, keys: RangeInclusive<Key>, limit: Option<u64>, found: &[(Key, Row)]) {
        let (span, direction) = (Span { low: *keys.start(), high: *keys.end() }, Direction::Forward);
        let found = found.iter().map(|(key, row)| (*key, vec![*row])).collect();
        self.step(number, Event::Scan { span, direction, limit, by_cursor: false, found });
    }

    pub fn put(&mut self, number: usize, key: Key, row: Row) {
        self.step(number, Event::Put(key, row));
    }

    pub fn append(&mut self, number: usize, key: Key, row: Row) {
        self.step(number, Event::Append(key, row));
    }

    /// At the next version, or where it wrote nothing, at its snapshot.
    pub fn commit(&mut self, number: usize) {
        let event = |step: &Step| matches!(step.event, Event::Put(..) | Event::Append(..) | Event::Delete(_));
        let wrote = self.history.transactions[number].steps.iter().any(event);
        self.version += u64::from(wrote);
        let version = if wrote { self.version } else { self.history.transactions[number].snapshot };
        self.end(number, Outcome::Committed(version));
    }

    pub fn end(&mut self, number: usize, outcome: Outcome) {
        let tick = self.tick();
        let transaction = &mut self.history.transactions[number];
        (transaction.ended, transaction.outcome) = (tick, outcome);
    }

    pub fn resolving(&mut self, number: usize, resolution: ConflictResolution) {
        self.history.transactions[number].resolution = resolution;
    }

    /// One transaction that puts these.
    pub fn filled(rows: &[(Key, Row)]) -> Self {
        let mut plot = Plot::default();
        let first = plot.begin(Serializable);
        for (key, row) in rows {
            plot.put(first, *key, *row);
        }
        plot.commit(first);
        plot
    }
}

fn names(anomalies: &[Anomaly]) -> BTreeSet<Phenomenon> {
    anomalies.iter().map(|anomaly| anomaly.phenomenon).collect()
}

#[track_caller]
pub fn assert_forbidden(plot: &Plot, expected: &[Phenomenon]) {
    let found = judge::forbidden(&plot.history);
    assert_eq!(names(&found), expected.iter().copied().collect(), "{found:?} in\n{}", plot.history);
}

#[track_caller]
pub fn assert_forbidden_by_lists(plot: &Plot, expected: &[Phenomenon]) {
    let found = judge::forbidden_by_lists(&plot.history);
    assert_eq!(names(&found), expected.iter().copied().collect(), "{found:?} in\n{}", plot.history);
}

#[track_caller]
pub fn assert_all(plot: &Plot, expected: &[Phenomenon]) {
    let found = judge::all(&plot.history);
    assert_eq!(names(&found), expected.iter().copied().collect(), "{found:?} in\n{}", plot.history);
}
