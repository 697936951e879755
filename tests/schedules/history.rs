//! Records what transactions did, and judges it.
//!
//! - *Snapshots.* What a transaction read, also one that failed, is what the commits up to its snapshot version had
//!   left, all of them and nothing else.
//! - *Serializability.* There is an order of the committed transactions, which respects real time, in which one after
//!   the other they read what they have read and leave what is left. All orders are tried.
//! - *Versions.* Commit versions are drawn once, and agree with real time.
//! - *Log*, where there is one: it has the committed transactions in the order of their versions and no others, and
//!   what it says is what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Mutex;

use khonsu::stm::{
    BoundKey, Chunk, ConflictResolution, Direction, Error, GlobalId, IsolationLevel, KeyRange, Options, PrepareOptions,
    Transaction, TransactionManager, TransactionOptions, Value, Vote,
};
use khonsu::two_phase_commit::TwoPhaseCommitParticipant;
use shuttle::thread;

use crate::log::{Entry, Log, REFUSED};

/// A chunk that knows whether it is still there.
pub struct Number {
    alive: u64,
    number: u64,
}

const ALIVE: u64 = 0x600D_CAFE_600D_CAFE;

impl Number {
    fn new(number: u64) -> Self {
        Number { alive: ALIVE, number }
    }

    pub fn number(&self) -> u64 {
        assert_eq!(self.alive, ALIVE, "it was freed");
        self.number
    }
}

impl Clone for Number {
    fn clone(&self) -> Self {
        Number::new(self.number())
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        assert_eq!(self.alive, ALIVE, "it was freed before");
        // SAFETY: it is our own field; an ordinary store before the end would be optimized away.
        unsafe { std::ptr::write_volatile(&mut self.alive, 0) };
    }
}

impl Chunk for Number {
    fn same_schema(&self, _: &Self) -> bool {
        true
    }
    fn rows(&self) -> u64 {
        1
    }
    fn bytes(&self) -> u64 {
        8
    }
}

/// Keys and the rows of their values.
pub type State = BTreeMap<String, Vec<u64>>;

#[derive(Debug, Clone)]
enum Step {
    Get(String, Option<Vec<u64>>),
    /// First key, key behind the last one, and what was found.
    Scan(String, String, Vec<(String, Vec<u64>)>),
    Put(String, u64),
    Append(String, u64),
    Delete(String),
    Savepoint,
    RollbackTo(usize),
}

#[derive(Debug)]
struct Record {
    name: &'static str,
    steps: Vec<Step>,
    resolution: ConflictResolution,
    isolation: IsolationLevel,
    snapshot: u64,
    /// `None`: it failed.
    version: Option<u64>,
    began: u64,
    ended: u64,
}

/// A database, and what was done to it.
pub struct History {
    pub database: TransactionManager<Number>,
    log: Option<Log>,
    records: Mutex<Vec<Record>>,
    time: Mutex<u64>,
}

/// A running transaction of a history.
pub struct Session<'h> {
    history: &'h History,
    transaction: Transaction<Number>,
    record: Record,
    savepoints: Vec<u64>,
}

pub fn serializable() -> TransactionOptions {
    TransactionOptions::default()
}

pub fn read_only() -> TransactionOptions {
    TransactionOptions { read_only: true, ..Default::default() }
}

pub fn at(isolation: IsolationLevel) -> TransactionOptions {
    TransactionOptions { isolation: Some(isolation), ..Default::default() }
}

pub fn resolving(resolution: ConflictResolution) -> TransactionOptions {
    TransactionOptions { conflict_resolution: Some(resolution), ..Default::default() }
}

fn rows(value: &Value<Number>) -> Vec<u64> {
    value.chunks().iter().map(Number::number).collect()
}

fn text(key: &BoundKey<Number>) -> String {
    String::from_utf8(key.as_bytes().to_vec()).expect("keys of the tests are text")
}

impl History {
    /// A history that begins with these keys, each a value of one row.
    pub fn new(keys: &[(&str, u64)]) -> Self {
        History::over(TransactionManager::new(Options::default()), None, keys)
    }

    /// The same over a log, which refuses the first so many commits that write the key "fails".
    pub fn logged(keys: &[(&str, u64)], failures: u64) -> Self {
        let log = Log::new(failures);
        let database = TransactionManager::restore(Options::default())
            .open(0, Box::new(log.clone()))
            .expect("nothing is in doubt");
        History::over(database, Some(log), keys)
    }

    fn over(database: TransactionManager<Number>, log: Option<Log>, keys: &[(&str, u64)]) -> Self {
        let history = History { database, log, records: Mutex::new(Vec::new()), time: Mutex::new(0) };
        if !keys.is_empty() {
            let mut first = history.begin("first", &serializable());
            keys.iter().for_each(|(key, number)| first.put(key, *number));
            assert!(first.commit(), "nobody else is there");
        }
        history
    }

    fn now(&self) -> u64 {
        let mut time = self.time.lock().expect("no panic while it is locked");
        *time += 1;
        *time
    }

    pub fn begin(&self, name: &'static str, options: &TransactionOptions) -> Session<'_> {
        let began = self.now();
        let transaction = self.database.begin(options);
        let record = Record {
            name,
            steps: Vec::new(),
            resolution: options.conflict_resolution.unwrap_or_default(),
            isolation: options.isolation.unwrap_or_default(),
            snapshot: transaction.snapshot_version(),
            version: None,
            began,
            ended: 0,
        };
        Session { history: self, transaction, record, savepoints: Vec::new() }
    }

    /// Runs a transaction to its commit. False: it failed with a conflict.
    pub fn run(&self, name: &'static str, options: &TransactionOptions, body: impl FnOnce(&mut Session<'_>)) -> bool {
        let mut session = self.begin(name, options);
        body(&mut session);
        session.commit()
    }

    /// Runs threads, each a function of the history, to their ends.
    pub fn concurrently(self, threads: &[fn(&History)]) -> History {
        thread::scope(|scope| {
            for body in threads {
                scope.spawn(|| body(&self));
            }
        });
        self
    }

    /// Judges what was done, when all is done. Which of the named transactions have committed, as digits.
    pub fn judge(self, names: &[&str]) -> String {
        self.run("last", &read_only(), |last| {
            last.scan("", "~");
        });
        let records = self.records.into_inner().expect("no panic while it was locked");
        let judge = Judge::new(&records);
        let verdict = judge.judge().and_then(|()| self.log.map_or(Ok(()), |log| judge.check_log(&log.entries())));
        if let Err(wrong) = verdict {
            let mut text = String::new();
            records.iter().for_each(|record| text += &format!("{record:?}\n"));
            panic!("{wrong}\n{text}");
        }
        let committed = |name: &&str| records.iter().any(|record| record.name == *name && record.version.is_some());
        names.iter().map(|name| if committed(name) { '1' } else { '0' }).collect()
    }
}

impl Session<'_> {
    pub fn get(&mut self, key: &str) -> Option<Vec<u64>> {
        let found = self.transaction.get(key.as_bytes()).expect("get").as_ref().map(rows);
        self.record.steps.push(Step::Get(key.to_owned(), found.clone()));
        found
    }

    /// As `get`, by a bound key.
    pub fn get_bound(&mut self, key: &BoundKey<Number>) -> Option<Vec<u64>> {
        let found = self.transaction.get_bound(key).expect("get_bound").as_ref().map(rows);
        self.record.steps.push(Step::Get(text(key), found.clone()));
        found
    }

    /// As `get` of each, at once.
    pub fn get_many(&mut self, keys: &[&str]) -> Vec<Option<Vec<u64>>> {
        let found = self.transaction.get_many(keys).expect("get_many");
        let found: Vec<_> = found.iter().map(|value| value.as_ref().map(rows)).collect();
        let steps = keys.iter().zip(&found).map(|(key, rows)| Step::Get((*key).to_owned(), rows.clone()));
        self.record.steps.extend(steps);
        found
    }

    pub fn put_bound(&mut self, key: &BoundKey<Number>, number: u64) {
        self.transaction.put_bound(key, Number::new(number)).expect("put_bound");
        self.record.steps.push(Step::Put(text(key), number));
    }

    pub fn delete_bound(&mut self, key: &BoundKey<Number>) {
        self.transaction.delete_bound(key).expect("delete_bound");
        self.record.steps.push(Step::Delete(text(key)));
    }

    /// The one row of a key, 0 where it has no value.
    pub fn number(&mut self, key: &str) -> u64 {
        self.get(key).map_or(0, |rows| rows[0])
    }

    /// What lies from one key up to another.
    pub fn scan(&mut self, start: &str, end: &str) -> Vec<(String, Vec<u64>)> {
        let bound = |key: &str| key.as_bytes().to_vec();
        let range = KeyRange::new(Bound::Included(bound(start)), Bound::Excluded(bound(end)));
        let found = self.transaction.scan(range, Direction::Forward, None).expect("scan");
        let text = |key| String::from_utf8(key).expect("keys of the tests are text");
        let found: Vec<_> = found.into_iter().map(|(key, value)| (text(key), rows(&value))).collect();
        self.record.steps.push(Step::Scan(start.to_owned(), end.to_owned(), found.clone()));
        found
    }

    pub fn put(&mut self, key: &str, number: u64) {
        self.transaction.put(key.as_bytes(), Number::new(number)).expect("put");
        self.record.steps.push(Step::Put(key.to_owned(), number));
    }

    pub fn append(&mut self, key: &str, number: u64) {
        self.transaction.append(key.as_bytes(), Number::new(number)).expect("append");
        self.record.steps.push(Step::Append(key.to_owned(), number));
    }

    pub fn delete(&mut self, key: &str) {
        self.transaction.delete(key.as_bytes()).expect("delete");
        self.record.steps.push(Step::Delete(key.to_owned()));
    }

    pub fn savepoint(&mut self) -> usize {
        self.savepoints.push(self.transaction.savepoint().expect("savepoint"));
        self.record.steps.push(Step::Savepoint);
        self.savepoints.len() - 1
    }

    pub fn rollback_to(&mut self, savepoint: usize) {
        self.transaction.rollback_to(self.savepoints[savepoint]).expect("rollback_to");
        self.record.steps.push(Step::RollbackTo(savepoint));
    }

    /// Prepares it under its name. `None`: it failed with a conflict.
    pub fn prepare(mut self) -> Option<InDoubt> {
        let id = GlobalId::new(self.record.name.as_bytes()).expect("a short name");
        let options = PrepareOptions { allow_volatile: true, hold_reads: false };
        match self.transaction.prepare(&id, options) {
            Ok(vote) => {
                assert_eq!(vote, Vote::Yes);
                return Some(InDoubt { id, record: self.record });
            }
            Err(Error::Conflict(_)) => {}
            Err(error) => panic!("{error}"),
        }
        self.record.ended = self.history.now();
        self.history.records.lock().expect("no panic while it is locked").push(self.record);
        None
    }

    pub fn commit(mut self) -> bool {
        match self.transaction.commit() {
            Ok(version) => self.record.version = Some(version),
            Err(Error::Conflict(_)) => {}
            Err(Error::Storage(text)) if text == REFUSED => {}
            Err(error) => panic!("{error}"),
        }
        self.record.ended = self.history.now();
        let committed = self.record.version.is_some();
        self.history.records.lock().expect("no panic while it is locked").push(self.record);
        committed
    }
}

/// A prepared transaction of a history.
pub struct InDoubt {
    id: GlobalId,
    record: Record,
}

impl InDoubt {
    /// Commits it, again when the log refuses that.
    pub fn commit(self, history: &History) {
        let version = loop {
            match history.database.commit(&self.id) {
                Ok(version) => break version,
                Err(Error::Storage(text)) if text == REFUSED => {}
                Err(error) => panic!("{error}"),
            }
        };
        self.ended(history, Some(version));
    }

    pub fn roll_back(self, history: &History) {
        history.database.rollback(&self.id).expect("it is in doubt");
        self.ended(history, None);
    }

    /// Others have decided about it.
    pub fn decided_by_others(self, history: &History) {
        let version = match history.database.commit(&self.id) {
            Ok(version) => Some(version),
            Err(Error::Heuristic(outcome) | Error::AlreadyDecided(outcome)) => {
                Some(outcome.version).filter(|version| *version > 0)
            }
            Err(error) => panic!("{error}"),
        };
        self.ended(history, version);
    }

    fn ended(mut self, history: &History, version: Option<u64>) {
        self.record.version = version;
        self.record.ended = history.now();
        history.records.lock().expect("no panic while it is locked").push(self.record);
    }
}

/// What became of a write of a key that another transaction had committed meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resolved {
    Applied,
    Ignored,
    Appended,
}

struct Judge<'r> {
    records: &'r [Record],
    /// Committed ones by version; those that wrote nothing last among those of a version.
    committed: Vec<&'r Record>,
    /// What became of the writes of each committed one, in the same order.
    resolved: Vec<BTreeMap<&'r str, Resolved>>,
}

impl<'r> Judge<'r> {
    fn new(records: &'r [Record]) -> Self {
        let mut committed: Vec<_> = records.iter().filter(|record| record.version.is_some()).collect();
        committed.sort_by_key(|record| (record.version, record.version == Some(record.snapshot)));
        let mut newest = BTreeMap::new();
        let resolved = committed.iter().map(|record| resolve(record, &mut newest)).collect();
        Judge { records, committed, resolved }
    }

    fn judge(&self) -> Result<(), String> {
        self.check_versions()?;
        for record in self.records {
            if record.isolation != IsolationLevel::ReadCommitted {
                self.check_snapshot(record)?;
            }
        }
        if self.records.iter().all(|record| record.isolation == IsolationLevel::Serializable)
            && !self.serial(&State::new(), &mut vec![false; self.committed.len()])
        {
            return Err("no serial order explains it".to_owned());
        }
        Ok(())
    }

    fn check_log(&self, entries: &[Entry]) -> Result<(), String> {
        let wrote = (0..self.committed.len()).filter(|number| self.wrote(*number));
        let committed: Vec<_> = wrote.filter_map(|number| self.committed[number].version).collect();
        let logged: Vec<_> = entries.iter().map(|entry| entry.version).collect();
        if logged != committed {
            return Err(format!("the log has the versions {logged:?}, and committed are {committed:?}"));
        }
        let mut state = State::new();
        entries.iter().for_each(|entry| entry.replay(&mut state));
        let last = self.records.iter().find(|record| record.name == "last").ok_or("nobody looked at the end")?;
        match replay(last, &state, true) {
            Some(_) => Ok(()),
            None => Err(format!("the log says {state:?}")),
        }
    }

    fn wrote(&self, number: usize) -> bool {
        self.resolved[number].values().any(|resolved| *resolved != Resolved::Ignored)
    }

    fn check_versions(&self) -> Result<(), String> {
        let mut drawn = BTreeSet::new();
        for (number, later) in self.committed.iter().enumerate() {
            if self.wrote(number) && !drawn.insert(later.version) {
                return Err(format!("two commits have the version of {}", later.name));
            }
            for earlier in self.committed.iter().filter(|earlier| earlier.ended < later.began) {
                if earlier.version > Some(later.snapshot) {
                    return Err(format!("{} began after {} and does not see it", later.name, earlier.name));
                }
            }
        }
        Ok(())
    }

    fn check_snapshot(&self, reader: &Record) -> Result<(), String> {
        let mut state = State::new();
        for (number, record) in self.committed.iter().enumerate() {
            if self.wrote(number) && record.version <= Some(reader.snapshot) {
                // What it read was judged with its own snapshot; here only its writes count.
                state = self.replay(number, &state, false).ok_or("a replay without reads fails")?;
            }
        }
        match replay(reader, &state, true) {
            Some(_) => Ok(()),
            None => Err(format!("{} did not read its snapshot, {state:?}", reader.name)),
        }
    }

    /// Whether the committed ones that are not `done` can follow one by one.
    fn serial(&self, state: &State, done: &mut [bool]) -> bool {
        if done.iter().all(|done| *done) {
            return true;
        }
        for number in 0..done.len() {
            let next = self.committed[number];
            let must_wait = |other: usize| !done[other] && other != number && self.committed[other].ended < next.began;
            if done[number] || (0..done.len()).any(must_wait) {
                continue;
            }
            if let Some(state) = self.replay(number, state, true) {
                done[number] = true;
                if self.serial(&state, done) {
                    return true;
                }
                done[number] = false;
            }
        }
        false
    }

    /// The state that a committed transaction leaves of another. `None`: it would have read something else.
    fn replay(&self, number: usize, state: &State, reads: bool) -> Option<State> {
        let mut after = replay(self.committed[number], state, reads)?;
        for (key, resolved) in &self.resolved[number] {
            let own = after.remove(*key);
            let before = state.get(*key).cloned();
            let value = match resolved {
                Resolved::Applied => own,
                Resolved::Ignored => before,
                Resolved::Appended => Some(before.into_iter().chain(own).flatten().collect()),
            };
            value.into_iter().for_each(|value| _ = after.insert((*key).to_owned(), value));
        }
        Some(after)
    }
}

/// The keys that a transaction wrote, or would have had it committed, and which of those it read before or after.
fn written(record: &Record) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let (mut written, mut read) = (Vec::new(), BTreeSet::new());
    let mut savepoints = Vec::new();
    for step in &record.steps {
        match step {
            Step::Get(key, _) => _ = read.insert(key.as_str()),
            Step::Scan(..) => {}
            Step::Put(key, _) | Step::Append(key, _) | Step::Delete(key) => written.push(key.as_str()),
            Step::Savepoint => savepoints.push(written.len()),
            Step::RollbackTo(savepoint) => written.truncate(savepoints[*savepoint]),
        }
    }
    (written.into_iter().collect(), read)
}

/// What became of the writes of a transaction, those before it being in `newest`: the newest version of each key.
fn resolve<'r>(record: &'r Record, newest: &mut BTreeMap<&'r str, u64>) -> BTreeMap<&'r str, Resolved> {
    let mut resolved = BTreeMap::new();
    let (written, read) = written(record);
    for key in written {
        let blind_append = |step: &Step| matches!(step, Step::Append(appended, _) if appended == key);
        let overtaken = newest.get(key).is_some_and(|version| *version > record.snapshot);
        let what = match record.resolution {
            // A commit of which everything is ignored has the version of its snapshot.
            _ if record.version == Some(record.snapshot) => Resolved::Ignored,
            _ if !overtaken || read.contains(key) || record.steps.iter().any(blind_append) => Resolved::Applied,
            ConflictResolution::Ignore => Resolved::Ignored,
            ConflictResolution::Append => Resolved::Appended,
            ConflictResolution::Fail | ConflictResolution::Replace => Resolved::Applied,
        };
        if what != Resolved::Ignored {
            newest.insert(key, record.version.unwrap_or(0));
        }
        resolved.insert(key, what);
    }
    resolved
}

/// The state that the steps of a transaction leave of another. `None`: it would have read something else.
fn replay(record: &Record, state: &State, reads: bool) -> Option<State> {
    let mut state = state.clone();
    let mut savepoints = Vec::new();
    for step in &record.steps {
        match step {
            Step::Get(key, found) if reads && state.get(key) != found.as_ref() => return None,
            Step::Scan(start, end, found) if reads => {
                let there = state.range(start.clone()..end.clone());
                if !there.eq(found.iter().map(|(key, value)| (key, value))) {
                    return None;
                }
            }
            Step::Get(..) | Step::Scan(..) => {}
            Step::Put(key, number) => _ = state.insert(key.clone(), vec![*number]),
            Step::Append(key, number) => state.entry(key.clone()).or_default().push(*number),
            Step::Delete(key) => _ = state.remove(key),
            Step::Savepoint => savepoints.push(state.clone()),
            Step::RollbackTo(savepoint) => state = savepoints[*savepoint].clone(),
        }
    }
    Some(state)
}

mod planted {
    //! What the judge must find.

    use super::*;

    fn record(name: &'static str, times: (u64, u64), versions: (u64, Option<u64>), steps: &[Step]) -> Record {
        Record {
            name,
            steps: steps.to_vec(),
            resolution: ConflictResolution::Fail,
            isolation: IsolationLevel::Serializable,
            snapshot: versions.0,
            version: versions.1,
            began: times.0,
            ended: times.1,
        }
    }

    fn put(key: &str, number: u64) -> Step {
        Step::Put(key.to_owned(), number)
    }

    fn got(key: &str, number: u64) -> Step {
        Step::Get(key.to_owned(), Some(vec![number]))
    }

    fn first() -> Record {
        record("first", (1, 2), (0, Some(1)), &[put("a", 1), put("b", 1)])
    }

    fn wrong(records: &[Record]) -> String {
        Judge::new(records).judge().expect_err("it was planted")
    }

    #[test]
    fn nothing_is_wrong_with_a_serial_history() {
        let second = record("second", (3, 4), (1, Some(2)), &[got("a", 1), put("a", 2)]);
        let third = record("third", (5, 6), (2, Some(2)), &[got("a", 2), got("b", 1)]);
        assert_eq!(Judge::new(&[first(), second, third]).judge(), Ok(()));
    }

    #[test]
    fn write_skew() {
        let one = record("1", (3, 5), (1, Some(2)), &[got("a", 1), put("b", 2)]);
        let two = record("2", (4, 6), (1, Some(3)), &[got("b", 1), put("a", 3)]);
        assert_eq!(wrong(&[first(), one, two]), "no serial order explains it");
    }

    #[test]
    fn a_phantom() {
        let scan = |found: &[(&str, u64)]| {
            let rows = |(key, number): &(&str, u64)| ((*key).to_owned(), vec![*number]);
            Step::Scan("a".to_owned(), "z".to_owned(), found.iter().map(rows).collect())
        };
        let both = [("a", 1), ("b", 1)];
        let one = record("1", (3, 5), (1, Some(2)), &[scan(&both), put("c", 2)]);
        let two = record("2", (4, 6), (1, Some(3)), &[scan(&both), put("d", 3)]);
        assert_eq!(wrong(&[first(), one, two]), "no serial order explains it");
    }

    #[test]
    fn half_a_commit_is_seen() {
        let writer = record("writer", (3, 5), (1, Some(2)), &[put("a", 2), put("b", 2)]);
        let reader = record("reader", (4, 6), (2, Some(2)), &[got("a", 2), got("b", 1)]);
        assert!(wrong(&[first(), writer, reader]).starts_with("reader did not read its snapshot"));
    }

    /// Also of one that failed.
    #[test]
    fn a_later_commit_is_seen() {
        let writer = record("writer", (3, 5), (1, Some(2)), &[put("a", 2)]);
        let reader = record("reader", (4, 6), (1, None), &[got("a", 2)]);
        assert!(wrong(&[first(), writer, reader]).starts_with("reader did not read its snapshot"));
    }

    #[test]
    fn a_commit_is_not_seen_by_who_begins_later() {
        let writer = record("writer", (3, 4), (1, Some(2)), &[put("a", 2)]);
        let reader = record("reader", (5, 6), (1, Some(1)), &[got("a", 1)]);
        assert_eq!(wrong(&[first(), writer, reader]), "reader began after writer and does not see it");
    }

    #[test]
    fn a_version_is_drawn_twice() {
        let one = record("1", (3, 5), (1, Some(2)), &[put("a", 2)]);
        let two = record("2", (4, 6), (1, Some(2)), &[put("b", 2)]);
        assert_eq!(wrong(&[first(), one, two]), "two commits have the version of 2");
    }

    #[test]
    fn a_lost_update() {
        let one = record("1", (3, 5), (1, Some(2)), &[got("a", 1), put("a", 2)]);
        let two = record("2", (4, 6), (1, Some(3)), &[got("a", 1), put("a", 2)]);
        assert_eq!(wrong(&[first(), one, two]), "no serial order explains it");
    }
}
