//! What the tests of the built-in storage share: folders, values, and a model of what is stored. Each uses a part of
//! it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::{Int64Array, RecordBatch};
use arrow_select::concat::concat_batches;
use khonsu::stm::{Decided, Durability, Error, GlobalId, Note, Outcome, REMEMBERED_OUTCOMES};
use khonsu::storage::{
    Change, Commit, DurableOptions, DurableStorage, Mutation, Snapshot, Storage, StoredPrepared, StoredValue,
};

/// A directory that goes with it.
pub struct Folder(PathBuf);

impl Folder {
    /// A new one, which is not made.
    pub fn new(name: &str) -> Folder {
        // In memory where that can be had, as there are many of them.
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        // Numbered: tests of one program run at once, and two may have the same name for theirs.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("khonsu-{}-{number}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Folder(path)
    }

    /// A copy of it.
    pub fn copy(&self, name: &str) -> Folder {
        copy_of(&self.0, name)
    }

    /// The segments, in their order.
    pub fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).expect("it is there").map(|entry| entry.expect("it can be listed").path());
        let mut segments: Vec<PathBuf> = entries.filter(|path| file_name(path).starts_with("log-")).collect();
        segments.sort();
        segments
    }
}

pub fn file_name(path: &Path) -> String {
    path.file_name().expect("it has a name").to_string_lossy().into_owned()
}

/// A copy of a directory.
pub fn copy_of(folder: &Path, name: &str) -> Folder {
    let copy = Folder::new(name);
    copy_all(folder, &copy.0);
    copy
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir(to).expect("the copy can be made");
    for entry in fs::read_dir(from).expect("it is there") {
        let path = entry.expect("it can be listed").path();
        let copy = to.join(file_name(&path));
        if path.is_dir() {
            copy_all(&path, &copy);
        } else {
            fs::copy(&path, &copy).expect("it can be copied");
        }
    }
}

impl std::ops::Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Small segments, so that there are many.
pub const SEGMENT_BYTES: u64 = 8192;

pub fn open(folder: &Path) -> DurableStorage {
    try_open(folder).expect("it opens")
}

pub fn try_open(folder: &Path) -> Result<DurableStorage, Error> {
    DurableStorage::open(folder, DurableOptions { segment_bytes: SEGMENT_BYTES, ..DurableOptions::default() })
}

pub fn close(storage: DurableStorage) {
    storage.close().expect("it closes");
}

pub fn batch(rows: &[i64]) -> RecordBatch {
    let column = Arc::new(Int64Array::from(rows.to_vec()));
    RecordBatch::try_from_iter([("n", column as _)]).expect("one column")
}

pub fn put(key: &[u8], rows: &[i64]) -> Mutation {
    Mutation { key: key.to_vec(), change: Change::Put(vec![batch(rows)]) }
}

pub fn append(key: &[u8], rows: &[i64]) -> Mutation {
    Mutation { key: key.to_vec(), change: Change::Append(vec![batch(rows)]) }
}

pub fn delete(key: &[u8]) -> Mutation {
    Mutation { key: key.to_vec(), change: Change::Delete }
}

/// Keys with the version that wrote them last and their rows.
pub type State = BTreeMap<Vec<u8>, (u64, RecordBatch)>;

/// What is stored, by itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    pub state: State,
    pub version: u64,
    /// Transactions in doubt, in the order of their times.
    pub prepared: Vec<StoredPrepared>,
    /// The oldest first.
    pub outcomes: Vec<Outcome>,
}

/// Something that is stored: a commit, or news of a prepared transaction.
#[derive(Debug, Clone)]
pub enum Entry {
    Commit(u64, Vec<Mutation>),
    /// A commit that decides a prepared transaction, whose outcome has its version.
    Deciding(Outcome, Vec<Mutation>),
    Prepared(StoredPrepared),
    RolledBack(Outcome),
    Forgotten(GlobalId),
}

impl Entry {
    fn is_commit(&self) -> bool {
        matches!(self, Entry::Commit(..) | Entry::Deciding(..))
    }
}

pub fn id(name: &str) -> GlobalId {
    GlobalId::new(name.as_bytes()).expect("it is not too long")
}

fn decided(outcome: &Outcome) -> Decided<'_> {
    let Outcome { id, decision, heuristic, time_micros, .. } = outcome;
    Decided { id, decision: *decision, heuristic: *heuristic, time_micros: *time_micros }
}

/// Stores entries, as many at once as one call takes.
pub fn store(storage: &DurableStorage, entries: &[Entry], durability: Durability) -> Result<(), Error> {
    for group in entries.chunk_by(|one, next| one.is_commit() == next.is_commit()) {
        let mutations = group.iter().map(|entry| match entry {
            Entry::Commit(_, mutations) | Entry::Deciding(_, mutations) => mutations.clone(),
            Entry::Prepared(prepared) => prepared.mutations.clone(),
            Entry::RolledBack(_) | Entry::Forgotten(_) => Vec::new(),
        });
        let made: Vec<_> = mutations.map(|mutations| storage.prepare(mutations).expect("they can be stored")).collect();
        let (mut commits, mut notes) = (Vec::new(), Vec::new());
        for (entry, made) in group.iter().zip(&made) {
            match entry {
                Entry::Commit(version, _) => commits.push(Commit { version: *version, prepared: made, decides: None }),
                Entry::Deciding(outcome, _) => {
                    let decides = Some(decided(outcome));
                    commits.push(Commit { version: outcome.version, prepared: made, decides });
                }
                Entry::Prepared(StoredPrepared { id, time_micros, held, .. }) => {
                    notes.push(Note::Prepared { id, time_micros: *time_micros, mutations: made, held });
                }
                Entry::RolledBack(outcome) => notes.push(Note::Decided(decided(outcome))),
                Entry::Forgotten(id) => notes.push(Note::Forgotten { id }),
            }
        }
        if !commits.is_empty() {
            storage.apply(&commits, durability).map_err(|error| error.cause)?;
        }
        if !notes.is_empty() {
            storage.note(&notes, durability).map_err(|error| error.cause)?;
        }
    }
    Ok(())
}

impl Model {
    /// What a commit does.
    pub fn commit(&mut self, version: u64, mutations: &[Mutation]) {
        self.version = version;
        for Mutation { key, change } in mutations {
            let before = self.state.remove(key);
            let chunks = match change {
                Change::Delete => continue,
                Change::Put(chunks) => chunks.clone(),
                Change::Append(chunks) => before.into_iter().map(|(_, rows)| rows).chain(chunks.clone()).collect(),
            };
            let rows = concat_batches(&chunks[0].schema(), &chunks).expect("they are of one schema");
            self.state.insert(key.clone(), (version, rows));
        }
    }

    /// What an entry does.
    pub fn take(&mut self, entry: &Entry) {
        match entry {
            Entry::Commit(version, mutations) => self.commit(*version, mutations),
            Entry::Deciding(outcome, mutations) => {
                self.commit(outcome.version, mutations);
                self.decide(outcome);
            }
            Entry::Prepared(prepared) => self.prepared.push(prepared.clone()),
            Entry::RolledBack(outcome) => self.decide(outcome),
            Entry::Forgotten(id) => self.outcomes.retain(|outcome| outcome.id != *id),
        }
    }

    fn decide(&mut self, outcome: &Outcome) {
        self.prepared.retain(|prepared| prepared.id != outcome.id);
        self.outcomes.retain(|other| other.id != outcome.id);
        self.outcomes.push(outcome.clone());
        while self.outcomes.iter().filter(|outcome| !outcome.heuristic).count() > REMEMBERED_OUTCOMES {
            let oldest = self.outcomes.iter().position(|outcome| !outcome.heuristic).expect("there are many");
            self.outcomes.remove(oldest);
        }
    }

    /// Does it and stores it.
    pub fn store(&mut self, storage: &DurableStorage, entry: Entry, durability: Durability) {
        self.take(&entry);
        store(storage, &[entry], durability).expect("it is stored");
    }

    /// Does it and stores it.
    pub fn apply(&mut self, storage: &DurableStorage, version: u64, mutations: Vec<Mutation>, durability: Durability) {
        self.commit(version, &mutations);
        store(storage, &[Entry::Commit(version, mutations)], durability).expect("it is stored");
    }

    /// What is loaded is this.
    pub fn check_load(&self, storage: &DurableStorage) {
        assert_eq!(&load(storage).expect("it loads"), self);
    }
}

impl Snapshot for Model {
    fn version(&self) -> u64 {
        self.version
    }

    fn visit(&mut self, visit: &mut dyn FnMut(StoredValue) -> Result<(), Error>) -> Result<(), Error> {
        self.state.iter().try_for_each(|(key, (version, rows))| {
            // In two chunks where that can be.
            let half = rows.num_rows() / 2;
            let chunks = vec![rows.slice(0, half), rows.slice(half, rows.num_rows() - half)];
            visit(StoredValue { key: key.clone(), version: *version, chunks, cold: None })
        })
    }
}

/// What a storage loads.
pub fn load(storage: &DurableStorage) -> Result<Model, Error> {
    let mut model = Model::default();
    model.version = storage.load(&mut |stored| {
        let [rows] = stored.chunks.as_slice() else { panic!("{} chunks", stored.chunks.len()) };
        let before = model.state.insert(stored.key, (stored.version, rows.clone()));
        assert!(before.is_none(), "a key was loaded twice");
        Ok(())
    })?;
    let transactions = storage.load_prepared()?;
    (model.prepared, model.outcomes) = (transactions.prepared, transactions.outcomes);
    Ok(model)
}
