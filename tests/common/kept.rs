//! A storage in memory that outlives the database, that can be held up, and that fails as it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};

use arrow_array::RecordBatch;
use khonsu::stm::{Decided, Durability, Error, Note, Options, Outcome, RememberedOutcomes, TransactionManager};
use khonsu::storage::{
    self, ApplyError, Change, Commit, Mutation, Snapshot, Storage, StoredDatabase, StoredPrepared, StoredTransactions,
    StoredValue,
};

use super::Random;

/// What is stored, and what was asked of the storage. Clones are the same one.
#[derive(Clone, Default)]
pub struct Kept(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub struct State {
    pub values: BTreeMap<Vec<u8>, Vec<RecordBatch>>,
    pub versions: Vec<u64>,
    /// Commits that came in one call, and the durability that was asked for.
    pub groups: Vec<(usize, Durability)>,
    pub syncs: usize,
    pub closed: bool,
    /// Transactions in doubt, and how others ended.
    pub prepared: Vec<StoredPrepared>,
    pub outcomes: RememberedOutcomes,
    /// Notes that came in one call, and the durability that was asked for.
    pub notes: Vec<(usize, Durability)>,
    /// So many notes fail.
    pub failing_notes: usize,
    /// Whether a checkpoint is due.
    pub is_due: bool,
    /// So many checkpoints panic.
    pub panicking_checkpoints: usize,
    /// Commits that are held up now.
    pub held: usize,
    holding: bool,
    fails: Option<Rule>,
}

type Rule = Box<dyn FnMut(&[Mutation]) -> bool + Send>;

impl Kept {
    pub fn open(&self, options: Options) -> StoredDatabase<RecordBatch> {
        storage::open(options, self.clone()).expect("nothing is in the way")
    }

    pub fn manager(&self) -> TransactionManager<RecordBatch> {
        self.open(Options::default()).manager().clone()
    }

    pub fn with<T>(&self, use_it: impl FnOnce(&mut State) -> T) -> T {
        use_it(&mut self.0.state.lock().expect("nobody panics with it"))
    }

    /// Commits for which the rule holds fail.
    pub fn fail_if(&self, rule: impl FnMut(&[Mutation]) -> bool + Send + 'static) {
        self.with(|state| state.fails = Some(Box::new(rule)));
    }

    pub fn fail_none(&self) {
        self.with(|state| state.fails = None);
    }

    /// From now on nothing is stored before `let_go`.
    pub fn hold(&self) {
        self.with(|state| state.holding = true);
    }

    pub fn let_go(&self) {
        self.with(|state| state.holding = false);
        self.0.changed.notify_all();
    }

    /// Waits until somebody is held up.
    pub fn await_held(&self) {
        let mut state = self.0.state.lock().expect("nobody panics with it");
        while state.held == 0 {
            state = self.0.changed.wait(state).expect("nobody panics with it");
        }
    }
}

impl State {
    fn decide(&mut self, decided: Decided<'_>, version: u64) {
        let Decided { id, decision, heuristic, time_micros } = decided;
        let place = self.prepared.iter().position(|prepared| prepared.id == *id).expect("it is in doubt");
        self.prepared.remove(place);
        self.outcomes.remember(Outcome { id: id.clone(), decision, heuristic, time_micros, version });
    }
}

impl Storage for Kept {
    type Prepared = Vec<Mutation>;

    fn load(&self, visit: &mut dyn FnMut(StoredValue) -> Result<(), Error>) -> Result<u64, Error> {
        let (values, version) = self.with(|state| {
            state.closed = false;
            (state.values.clone(), state.versions.last().copied().unwrap_or(0))
        });
        for (key, chunks) in values {
            visit(StoredValue { key, version, chunks, cold: None })?;
        }
        Ok(version)
    }

    fn prepare(&self, mutations: Vec<Mutation>) -> Result<Vec<Mutation>, Error> {
        match mutations.iter().any(|mutation| mutation.key == b"unpreparable") {
            true => Err(Error::Storage("it cannot be prepared".to_owned())),
            false => Ok(mutations),
        }
    }

    fn apply(&self, commits: &[Commit<'_, Vec<Mutation>>], durability: Durability) -> Result<(), ApplyError> {
        let mut state = self.0.state.lock().expect("nobody panics with it");
        while state.holding {
            state.held = commits.len();
            self.0.changed.notify_all();
            state = self.0.changed.wait(state).expect("nobody panics with it");
        }
        state.held = 0;
        state.groups.push((commits.len(), durability));
        for (applied, commit) in commits.iter().enumerate() {
            assert!(state.versions.last().is_none_or(|last| *last < commit.version), "versions ascend");
            if let Some(fails) = &mut state.fails
                && fails(commit.prepared)
            {
                return Err(ApplyError { applied, cause: Error::Storage("it fails on demand".to_owned()) });
            }
            state.versions.push(commit.version);
            for mutation in commit.prepared {
                let key = mutation.key.clone();
                match &mutation.change {
                    Change::Put(chunks) => _ = state.values.insert(key, chunks.clone()),
                    Change::Append(chunks) => state.values.entry(key).or_default().extend(chunks.iter().cloned()),
                    Change::Delete => _ = state.values.remove(&key),
                }
            }
            if let Some(decided) = commit.decides {
                assert_eq!(durability, Durability::Synced);
                state.decide(decided, commit.version);
            }
        }
        Ok(())
    }

    fn keeps_prepared(&self) -> bool {
        true
    }

    fn load_prepared(&self) -> Result<StoredTransactions, Error> {
        Ok(self.with(|state| StoredTransactions {
            prepared: state.prepared.clone(),
            outcomes: state.outcomes.iter().cloned().collect(),
        }))
    }

    fn note(&self, notes: &[Note<'_, Vec<Mutation>>], durability: Durability) -> Result<(), ApplyError> {
        let mut state = self.0.state.lock().expect("nobody panics with it");
        while state.holding {
            state.held = notes.len();
            self.0.changed.notify_all();
            state = self.0.changed.wait(state).expect("nobody panics with it");
        }
        state.held = 0;
        state.notes.push((notes.len(), durability));
        for (applied, note) in notes.iter().enumerate() {
            if state.failing_notes > 0 {
                state.failing_notes -= 1;
                return Err(ApplyError { applied, cause: Error::Storage("it fails on demand".to_owned()) });
            }
            match *note {
                Note::Prepared { id, time_micros, mutations, held } => {
                    assert!(!state.prepared.iter().any(|prepared| prepared.id == *id), "{id} is in doubt already");
                    assert!(!state.outcomes.iter().any(|outcome| outcome.id == *id), "{id} is remembered");
                    let (id, mutations, held) = (id.clone(), mutations.clone(), held.clone());
                    state.prepared.push(StoredPrepared { id, time_micros, mutations, held });
                }
                Note::Decided(decided) => state.decide(decided, 0),
                Note::Forgotten { id } => state.outcomes.forget(id),
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        self.with(|state| state.syncs += 1);
        Ok(())
    }

    fn is_checkpoint_due(&self) -> bool {
        self.with(|state| state.is_due)
    }

    fn checkpoint(&self, snapshot: &mut dyn Snapshot) -> Result<(), Error> {
        let panics = self.with(|state| {
            let panics = state.panicking_checkpoints > 0;
            state.panicking_checkpoints = state.panicking_checkpoints.saturating_sub(1);
            panics
        });
        assert!(!panics, "it panics on demand");
        let mut values = BTreeMap::new();
        snapshot.visit(&mut |value| {
            values.insert(value.key, value.chunks);
            Ok(())
        })?;
        self.with(|state| {
            state.values = values;
            state.is_due = false;
        });
        Ok(())
    }

    fn close(&self) -> Result<(), Error> {
        self.with(|state| state.closed = true);
        Ok(())
    }
}

/// True for one in so many, by a seed.
pub fn one_in(number: u64, seed: u64) -> impl FnMut(&[Mutation]) -> bool + Send {
    let mut random = Random::new(seed);
    move |_| random.below(number) == 0
}
