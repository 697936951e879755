//! Runs plans and records what happened.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use khonsu::stm::{
    ConflictResolution, Cursor, Decision, Direction, Error, GlobalId, IsolationLevel, KeyRange, Options,
    PrepareOptions, TransactionManager, TransactionOptions, Value, Vote,
};
use khonsu::two_phase_commit::TwoPhaseCommitParticipant;

use super::data::{Event, History, Key, Outcome, Row, Span, Step, Transaction};
use super::plan::{Action, Content, Plan, Profile, Run};
use crate::common::slow_log::SlowLog;
use crate::common::{Numbers, flat, numbers, read_only};

/// One commit in so many is refused by the log.
const REFUSED: u64 = 9;

type Database = TransactionManager<Numbers>;

/// Runs a plan in the way that its profile says.
pub fn run(plan: &Plan, profile: Profile) -> History {
    let options = Options { conflict_resolution: plan.resolution, ..Options::default() };
    let recorder = Recorder {
        database: match profile.run {
            Run::Interleaved | Run::Raced => Database::new(options),
            Run::Logged => {
                Database::restore(options).open(0, Box::new(SlowLog::new(REFUSED))).expect("nothing is in doubt")
            }
        },
        is_logged: profile.run == Run::Logged,
        ticks: AtomicU64::new(1),
    };
    let mut transactions = recorder.fill(plan, profile.content);
    transactions.extend(match profile.run {
        Run::Interleaved => recorder.interleave(plan),
        Run::Raced | Run::Logged => recorder.race(plan),
    });
    transactions.extend(recorder.look(plan, profile.content));
    transactions.sort_by_key(|transaction| transaction.began);
    History { transactions }
}

struct Recorder {
    database: Database,
    is_logged: bool,
    ticks: AtomicU64,
}

impl Recorder {
    fn tick(&self) -> u64 {
        // SeqCst: what a thread does comes between the ticks that it draws before and after, for all threads; each
        // increment pairs with those before it.
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    /// The newest commit version.
    fn newest(&self) -> u64 {
        self.database.begin(&read_only(IsolationLevel::RepeatableRead)).snapshot_version()
    }

    /// What is there at the beginning.
    fn fill(&self, plan: &Plan, content: Content) -> Vec<Transaction> {
        let mut session = Session::new(self, plan.sessions);
        session.act(&begin(IsolationLevel::Serializable, false));
        for (key, row) in &plan.filled {
            session.act(&match content {
                Content::Lists => Action::Append(*key, *row),
                Content::Everything | Content::Registers => Action::Put(*key, *row),
            });
        }
        session.act(&Action::Commit);
        session.finish()
    }

    /// Somebody reads everything at the end.
    fn look(&self, plan: &Plan, content: Content) -> Vec<Transaction> {
        let mut session = Session::new(self, plan.sessions + 1);
        session.act(&begin(IsolationLevel::Serializable, true));
        match content {
            Content::Registers => plan.written().into_iter().for_each(|key| session.act(&Action::Get(key))),
            Content::Everything | Content::Lists => {
                let span = Span { low: 0, high: Key::MAX };
                session.act(&Action::Scan { span, direction: Direction::Forward, limit: None });
            }
        }
        session.act(&Action::Commit);
        session.finish()
    }

    fn interleave(&self, plan: &Plan) -> Vec<Transaction> {
        let mut sessions: Vec<Session> = (0..plan.sessions).map(|number| Session::new(self, number)).collect();
        for step in &plan.steps {
            sessions[step.session].act(&step.action);
        }
        sessions.into_iter().flat_map(Session::finish).collect()
    }

    fn race(&self, plan: &Plan) -> Vec<Transaction> {
        let barrier = Barrier::new(plan.sessions);
        std::thread::scope(|scope| {
            let start = |number: usize| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let mut session = Session::new(self, number);
                    barrier.wait();
                    for step in plan.steps.iter().filter(|step| step.session == number) {
                        if step.yields {
                            std::thread::yield_now();
                        }
                        session.act(&step.action);
                    }
                    session.finish()
                })
            };
            let threads: Vec<_> = (0..plan.sessions).map(start).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("the thread does not panic")).collect()
        })
    }
}

fn begin(level: IsolationLevel, read_only: bool) -> Action {
    Action::Begin { level, resolution: None, read_only }
}

/// A session has one transaction open at a time. Steps for which it has none are passed over, so that a plan that lacks
/// some of its steps is a plan, too.
struct Session<'r> {
    recorder: &'r Recorder,
    number: usize,
    open: Option<Open>,
    /// In doubt, the oldest first.
    prepared: VecDeque<(GlobalId, Transaction)>,
    ended: Vec<Transaction>,
}

struct Open {
    real: khonsu::stm::Transaction<Numbers>,
    record: Transaction,
    /// Open ones: their numbers in the record and in the database.
    savepoints: Vec<(usize, u64)>,
    next_savepoint: usize,
    cursor: Option<OpenCursor>,
}

struct OpenCursor {
    real: Cursor<Numbers>,
    direction: Direction,
    /// Where it has not been yet.
    left: Span,
    window: (u64, u64),
}

impl<'r> Session<'r> {
    fn new(recorder: &'r Recorder, number: usize) -> Self {
        Session { recorder, number, open: None, prepared: VecDeque::new(), ended: Vec::new() }
    }

    fn finish(mut self) -> Vec<Transaction> {
        self.act(&Action::Rollback);
        while !self.prepared.is_empty() {
            self.decide(Decision::Commit);
        }
        self.ended
    }

    fn act(&mut self, action: &Action) {
        let recorder = self.recorder;
        match (action, self.open.take()) {
            (Action::Begin { level, resolution, read_only }, open) => {
                self.end(open, false);
                self.open = Some(self.begin(*level, *resolution, *read_only));
            }
            (Action::Commit, open) => self.end(open, true),
            (Action::Rollback, open) => self.end(open, false),
            (Action::Prepare, open) => self.prepare(open),
            (Action::Decide(decision), open) => {
                self.open = open;
                self.decide(*decision);
            }
            (_, None) => {}
            (action, Some(mut open)) => {
                let before = open.newest(recorder);
                let event = open.act(action).expect("only a commit fails");
                let window = (before, open.newest(recorder));
                let window = match (action, &mut open.cursor) {
                    (Action::OpenCursor { .. }, Some(cursor)) => {
                        cursor.window = window;
                        window
                    }
                    (Action::StepCursor(_), Some(cursor)) => cursor.window,
                    _ => window,
                };
                if let Some(event) = event {
                    open.record.steps.push(Step { tick: recorder.tick(), window, event });
                }
                self.open = Some(open);
            }
        }
    }

    fn begin(&self, level: IsolationLevel, resolution: Option<ConflictResolution>, read_only: bool) -> Open {
        let options = TransactionOptions {
            isolation: Some(level),
            conflict_resolution: resolution,
            read_only,
            ..TransactionOptions::default()
        };
        let began = self.recorder.tick();
        let real = self.recorder.database.begin(&options);
        let record = Transaction {
            session: self.number,
            level,
            read_only,
            resolution: resolution.unwrap_or(self.recorder.database.options().conflict_resolution),
            began,
            ended: u64::MAX,
            snapshot: real.snapshot_version(),
            steps: Vec::new(),
            outcome: Outcome::RolledBack,
        };
        Open { real, record, savepoints: Vec::new(), next_savepoint: 0, cursor: None }
    }

    fn prepare(&mut self, open: Option<Open>) {
        let Some(Open { mut real, mut record, .. }) = open else {
            return;
        };
        let id = GlobalId::new(&self.recorder.tick().to_be_bytes()).expect("a short id");
        let options = PrepareOptions { allow_volatile: true, hold_reads: false };
        match self.recorder.database.prepare(&mut real, &id, options) {
            Ok(Vote::Yes) => return self.prepared.push_back((id, record)),
            Ok(Vote::ReadOnly) => record.outcome = Outcome::Committed(real.commit_version().expect("it is committed")),
            // Also where a commit would have been let through.
            Err(Error::Conflict(_)) => {}
            Err(Error::Storage(_)) if self.recorder.is_logged => {}
            Err(error) => panic!("prepare: {error}"),
        }
        record.ended = self.recorder.tick();
        self.ended.push(record);
    }

    fn decide(&mut self, decision: Decision) {
        let Some((id, mut record)) = self.prepared.pop_front() else {
            return;
        };
        let database = &self.recorder.database;
        loop {
            let decided = match decision {
                Decision::Commit => database.commit(&id).map(Outcome::Committed),
                Decision::Rollback => database.rollback(&id).map(|()| Outcome::RolledBack),
            };
            match decided {
                Ok(outcome) => break record.outcome = outcome,
                // It is in doubt still.
                Err(Error::Storage(_)) if self.recorder.is_logged => {}
                Err(error) => panic!("{decision:?}: {error}"),
            }
        }
        record.ended = self.recorder.tick();
        self.ended.push(record);
    }

    fn end(&mut self, open: Option<Open>, commits: bool) {
        let Some(Open { mut real, mut record, .. }) = open else {
            return;
        };
        if commits {
            record.outcome = match real.commit() {
                Ok(version) => Outcome::Committed(version),
                Err(Error::Conflict(conflicts)) => {
                    let kinds = conflicts.into_iter().map(|conflict| conflict.kind).collect();
                    Outcome::Conflict { kinds, newest: self.recorder.newest() }
                }
                // The log has refused it, and nothing of it is there.
                Err(Error::Storage(_)) if self.recorder.is_logged => Outcome::RolledBack,
                Err(error) => panic!("commit: {error}"),
            };
        } else {
            real.rollback().expect("it is open");
        }
        record.ended = self.recorder.tick();
        self.ended.push(record);
    }
}

impl Open {
    /// The newest commit version, where a read may see more than was there at begin.
    fn newest(&self, recorder: &Recorder) -> u64 {
        match self.record.level {
            IsolationLevel::ReadCommitted => recorder.newest(),
            IsolationLevel::RepeatableRead | IsolationLevel::Serializable => self.record.snapshot,
        }
    }

    /// `None`: there was nothing to do.
    fn act(&mut self, action: &Action) -> Result<Option<Event>, Error> {
        let real = &mut self.real;
        Ok(Some(match action {
            Action::Begin { .. } | Action::Commit | Action::Rollback | Action::Prepare | Action::Decide(_) => {
                unreachable!("the session does it")
            }
            Action::Get(key) => Event::Get(*key, real.get(&key.to_be_bytes())?.as_ref().map(flat)),
            Action::Exists(key) => Event::Exists(*key, real.exists(&key.to_be_bytes())?),
            Action::Scan { span, direction, limit } => {
                let found = real.scan(range(*span), *direction, *limit)?;
                let found = found.into_iter().map(|(key, value)| (key_of(&key), flat(&value))).collect();
                Event::Scan { span: *span, direction: *direction, limit: *limit, by_cursor: false, found }
            }
            Action::OpenCursor { span, direction } => {
                let real = real.open_cursor(range(*span), *direction, None)?;
                self.cursor = Some(OpenCursor { real, direction: *direction, left: *span, window: (0, 0) });
                return Ok(None);
            }
            Action::StepCursor(steps) => return self.step_cursor(*steps),
            Action::Put(key, row) => {
                real.put(&key.to_be_bytes(), value(*row))?;
                Event::Put(*key, *row)
            }
            Action::Append(key, row) => {
                real.append(&key.to_be_bytes(), value(*row))?;
                Event::Append(*key, *row)
            }
            Action::Delete(key) => {
                real.delete(&key.to_be_bytes())?;
                Event::Delete(*key)
            }
            Action::Resolve(key, resolution) => {
                if !real.set_conflict_resolution(&key.to_be_bytes(), *resolution)? {
                    return Ok(None);
                }
                Event::Resolve(*key, *resolution)
            }
            Action::Savepoint => {
                self.savepoints.push((self.next_savepoint, real.savepoint()?));
                self.next_savepoint += 1;
                Event::Savepoint
            }
            Action::RollbackTo(newer) => {
                let Some(kept) = self.savepoints.len().checked_sub(*newer).filter(|kept| *kept > 0) else {
                    return Ok(None);
                };
                self.savepoints.truncate(kept);
                let (number, id) = self.savepoints[kept - 1];
                real.rollback_to(id)?;
                Event::RollbackTo(number)
            }
            Action::Release(newer) => {
                let Some(place) = self.savepoints.len().checked_sub(newer + 1) else {
                    return Ok(None);
                };
                let (number, id) = self.savepoints[place];
                self.savepoints.truncate(place);
                real.release(id)?;
                Event::Release(number)
            }
        }))
    }

    fn step_cursor(&mut self, steps: u64) -> Result<Option<Event>, Error> {
        let Some(cursor) = self.cursor.as_mut().filter(|cursor| cursor.left.low <= cursor.left.high) else {
            return Ok(None);
        };
        let OpenCursor { direction, left: span, .. } = *cursor;
        let mut found = Vec::new();
        while (found.len() as u64) < steps && cursor.real.next(&mut self.real)? {
            let (key, value) = cursor.real.entry().expect("it is on a key");
            found.push((key_of(key), flat(value)));
        }
        let exhausted = (found.len() as u64) < steps;
        cursor.left = match (found.last().filter(|_| !exhausted), direction) {
            (Some((last, _)), Direction::Forward) if *last < span.high => Span { low: last + 1, ..span },
            (Some((last, _)), Direction::Reverse) if *last > span.low => Span { high: last - 1, ..span },
            _ => Span { low: 1, high: 0 },
        };
        Ok(Some(Event::Scan { span, direction, limit: Some(steps), by_cursor: true, found }))
    }
}

fn value(row: Row) -> Value<Numbers> {
    Value::new(numbers(&[row]))
}

fn key_of(bytes: &[u8]) -> Key {
    Key::from_be_bytes(bytes.try_into().expect("keys have two bytes"))
}

/// In the form that fits: all keys, a prefix, or bounds.
fn range(span: Span) -> KeyRange {
    let (low, high) = (span.low.to_be_bytes(), span.high.to_be_bytes());
    match (low, high) {
        ([0, 0], [u8::MAX, u8::MAX]) => KeyRange::all(),
        ([group, 0], [same, u8::MAX]) if group == same => KeyRange::prefix(&[group]),
        _ => KeyRange::new(Bound::Included(low.to_vec()), Bound::Included(high.to_vec())),
    }
}
