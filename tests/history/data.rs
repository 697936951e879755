//! What was recorded of a run.

use std::fmt;

use khonsu::stm::{ConflictKind, ConflictResolution, Direction, IsolationLevel};

/// Two bytes in the database, so that the first of them makes prefixes.
pub type Key = u16;
/// Every written row has a number of its own, so that what is read tells who wrote it.
pub type Row = u64;

#[derive(Debug, Clone, Default)]
pub struct History {
    pub transactions: Vec<Transaction>,
}

#[derive(Debug, Clone)]
pub struct Transaction {
    pub session: usize,
    pub level: IsolationLevel,
    /// Declared as such at begin.
    pub read_only: bool,
    /// What holds for writes that say nothing else.
    pub resolution: ConflictResolution,
    /// Real time in ticks of one counter: before the call of begin, and after the return of commit.
    pub began: u64,
    pub ended: u64,
    /// The version that it was given at begin.
    pub snapshot: u64,
    pub steps: Vec<Step>,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Committed(u64),
    /// It wanted to commit when this was the newest commit version.
    Conflict {
        kinds: Vec<ConflictKind>,
        newest: u64,
    },
    RolledBack,
}

#[derive(Debug, Clone)]
pub struct Step {
    pub tick: u64,
    /// The newest commit versions before and after the call, or after the cursor was opened: what a read at read
    /// committed can have seen.
    pub window: (u64, u64),
    pub event: Event,
}

/// A range of keys, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub low: Key,
    pub high: Key,
}

impl Span {
    pub fn contains(self, key: Key) -> bool {
        self.low <= key && key <= self.high
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Get(Key, Option<Vec<Row>>),
    Exists(Key, bool),
    Scan {
        span: Span,
        direction: Direction,
        limit: Option<u64>,
        by_cursor: bool,
        found: Vec<(Key, Vec<Row>)>,
    },
    Put(Key, Row),
    Append(Key, Row),
    Delete(Key),
    /// The strategy of the write that is staged for a key, if there is one.
    Resolve(Key, ConflictResolution),
    Savepoint,
    /// Back to the savepoint of this number, counted from 0; later ones go.
    RollbackTo(usize),
    Release(usize),
}

impl Transaction {
    pub fn is_committed(&self) -> bool {
        matches!(self.outcome, Outcome::Committed(_))
    }
}

pub fn level_name(level: IsolationLevel) -> &'static str {
    match level {
        IsolationLevel::ReadCommitted => "read-committed",
        IsolationLevel::RepeatableRead => "repeatable-read",
        IsolationLevel::Serializable => "serializable",
    }
}

/// The name of a key, as histories print it.
pub struct Name(pub Key);

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [group, number] = self.0.to_be_bytes();
        write!(formatter, "{}{number}", char::from(b'a' + group % 26))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Get(key, Some(rows)) => write!(formatter, "get {} -> {rows:?}", Name(*key)),
            Event::Get(key, None) => write!(formatter, "get {} -> absent", Name(*key)),
            Event::Exists(key, there) => write!(formatter, "exists {} -> {there}", Name(*key)),
            Event::Scan { span, direction, limit, by_cursor, found } => {
                let what = if *by_cursor { "step a cursor through" } else { "scan" };
                write!(formatter, "{what} {}..={} {direction:?} ", Name(span.low), Name(span.high))?;
                limit.iter().try_for_each(|limit| write!(formatter, "limit {limit} "))?;
                write!(formatter, "->")?;
                found.iter().try_for_each(|(key, rows)| write!(formatter, " {} {rows:?}", Name(*key)))
            }
            Event::Put(key, row) => write!(formatter, "put {} = [{row}]", Name(*key)),
            Event::Append(key, row) => write!(formatter, "append {} + [{row}]", Name(*key)),
            Event::Delete(key) => write!(formatter, "delete {}", Name(*key)),
            Event::Resolve(key, resolution) => write!(formatter, "resolve {} by {resolution:?}", Name(*key)),
            Event::Savepoint => write!(formatter, "savepoint"),
            Event::RollbackTo(number) => write!(formatter, "rollback to savepoint {number}"),
            Event::Release(number) => write!(formatter, "release savepoint {number}"),
        }
    }
}

/// All calls in the order of time, one a line.
impl fmt::Display for History {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        for (number, transaction) in self.transactions.iter().enumerate() {
            let Transaction { session, level, resolution, snapshot, .. } = transaction;
            let read_only = if transaction.read_only { ", read-only" } else { "" };
            let level = level_name(*level);
            lines.push((
                transaction.began,
                format!(
                    "T{number} begin ({level}{read_only}, {resolution:?}) in session {session}, sees up to {snapshot}"
                ),
            ));
            for step in &transaction.steps {
                lines.push((step.tick, format!("T{number} {}", step.event)));
            }
            let end = match &transaction.outcome {
                Outcome::Committed(version) => format!("commit -> version {version}"),
                Outcome::Conflict { kinds, .. } => format!("commit -> conflict {kinds:?}"),
                Outcome::RolledBack => "rollback".to_owned(),
            };
            lines.push((transaction.ended, format!("T{number} {end}")));
        }
        lines.sort_by_key(|(tick, _)| *tick);
        lines.iter().try_for_each(|(tick, line)| writeln!(formatter, "{tick:5}  {line}"))
    }
}
