//! A log in memory, which refuses commits as it is told.

use std::sync::Arc;

use khonsu::stm::{
    AppendError, Change, CommitLog, Durability, Error, GlobalId, LoggedCommit, Mutation, Note, Prepared,
};
use shuttle::sync::Mutex;

use crate::history::{Number, State};

pub const REFUSED: &str = "the log refuses it";

/// A commit as it was logged.
#[derive(Clone, Debug)]
pub struct Entry {
    pub version: u64,
    changes: Vec<(String, Logged)>,
}

#[derive(Clone, Debug)]
enum Logged {
    Put(Vec<u64>),
    Append(Vec<u64>),
    Delete,
}

impl Entry {
    pub fn replay(&self, state: &mut State) {
        for (key, change) in &self.changes {
            match change {
                Logged::Put(rows) => _ = state.insert(key.clone(), rows.clone()),
                Logged::Append(rows) => state.entry(key.clone()).or_default().extend(rows),
                Logged::Delete => _ = state.remove(key),
            }
        }
    }
}

#[derive(Clone)]
pub struct Log(Arc<Mutex<Contents>>);

struct Contents {
    entries: Vec<Entry>,
    /// Commits of the key "fails" that are still to be refused.
    failures: u64,
    /// Transactions in doubt.
    prepared: Vec<GlobalId>,
    /// Whether somebody is inside.
    busy: bool,
}

impl Log {
    pub fn new(failures: u64) -> Self {
        Log(Arc::new(Mutex::new(Contents { entries: Vec::new(), failures, prepared: Vec::new(), busy: false })))
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.0.lock().expect("no panic while it is locked").entries.clone()
    }

    fn enter(&self) {
        let mut contents = self.0.lock().expect("no panic while it is locked");
        assert!(!std::mem::replace(&mut contents.busy, true), "there is one call at a time");
        drop(contents);
        shuttle::thread::yield_now();
    }

    fn leave(&self) {
        self.0.lock().expect("no panic while it is locked").busy = false;
    }
}

impl Contents {
    fn decide(&mut self, id: &GlobalId) {
        let place = self.prepared.iter().position(|prepared| prepared == id).expect("it is in doubt");
        self.prepared.remove(place);
    }
}

impl CommitLog<Number> for Log {
    fn prepare(&self, mutations: &[Mutation<'_, Number>]) -> Result<Prepared, Error> {
        let rows = |value: &khonsu::stm::Value<Number>| value.chunks().iter().map(Number::number).collect();
        let changes = mutations.iter().map(|mutation| {
            let change = match mutation.change {
                Change::Put(value) => Logged::Put(rows(value)),
                Change::Append(value) => Logged::Append(rows(value)),
                Change::Delete => Logged::Delete,
            };
            (String::from_utf8(mutation.key.to_vec()).expect("keys of the tests are text"), change)
        });
        Ok(Arc::new(changes.collect::<Vec<_>>()))
    }

    fn append(&self, commits: &[LoggedCommit<'_>], _: Durability) -> Result<(), AppendError> {
        self.enter();
        let mut outcome = Ok(());
        for (written, commit) in commits.iter().enumerate() {
            let prepared = commit.prepared.downcast_ref::<Vec<(String, Logged)>>().expect("it was prepared here");
            let mut contents = self.0.lock().expect("no panic while it is locked");
            if contents.failures > 0 && prepared.iter().any(|(key, _)| key == "fails") {
                contents.failures -= 1;
                outcome = Err(AppendError { written, cause: Error::Storage(REFUSED.to_owned()) });
                break;
            }
            let entry = Entry { version: commit.version, changes: prepared.clone() };
            assert!(contents.entries.last().is_none_or(|last| last.version < entry.version), "versions ascend");
            contents.entries.push(entry);
            if let Some(decided) = commit.decides {
                contents.decide(decided.id);
            }
        }
        self.leave();
        outcome
    }

    fn keeps_prepared(&self) -> bool {
        true
    }

    fn note(&self, notes: &[Note<'_, Prepared>], _: Durability) -> Result<(), AppendError> {
        self.enter();
        for note in notes {
            let mut contents = self.0.lock().expect("no panic while it is locked");
            match note {
                Note::Prepared { id, .. } => contents.prepared.push((*id).clone()),
                Note::Decided(decided) => contents.decide(decided.id),
                Note::Forgotten { .. } => {}
            }
        }
        self.leave();
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        self.enter();
        self.leave();
        Ok(())
    }

    fn close(&self) {}
}
