//! Transactions in doubt in databases in a directory: over closing and reopening, checkpoints, backups and exports.

mod common;
mod durable;

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use arrow_array::RecordBatch;
use common::*;
use durable::Folder;
use khonsu::stm::{
    ConflictKind, Decision, Durability, Error, GlobalId, IsolationLevel, KeyRange, Note, Options, PrepareOptions, Vote,
};
use khonsu::storage::{
    self, ApplyError, Commit, DurableOptions, DurableStorage, Mutation, Prepared, Snapshot, Storage, StoredDatabase,
    StoredTransactions, StoredValue,
};
use khonsu::two_phase_commit::TwoPhaseCommitParticipant;

const SERIALIZABLE: IsolationLevel = IsolationLevel::Serializable;

fn folder(name: &str) -> Folder {
    let folder = Folder::new(&format!("stored-prepared-{name}"));
    fs::create_dir(&*folder).unwrap();
    folder
}

fn open(path: &Path) -> StoredDatabase<RecordBatch> {
    let small = DurableOptions { segment_bytes: 16 << 10, checkpoint_bytes: 64 << 10, ..DurableOptions::default() };
    let core = Options { durability: Durability::Buffered, ..Options::default() };
    storage::open(core, DurableStorage::open(path, small).unwrap()).unwrap()
}

fn put_one(database: &Batches, key: &str, number: i64) -> Result<u64, Error> {
    let mut transaction = begin(database, SERIALIZABLE);
    put(&mut transaction, key, number);
    transaction.commit()
}

/// Reads `read` and the range of `scanned`, writes `written`, and is prepared.
fn prepare(database: &Batches, id: &GlobalId, read: &str, scanned: &str, written: &str) {
    let mut transaction = begin(database, SERIALIZABLE);
    get_rows(&mut transaction, read);
    scan_range(&mut transaction, KeyRange::prefix(scanned.as_bytes()));
    put(&mut transaction, written, 77);
    append(&mut transaction, "list", 78);
    assert_eq!(transaction.prepare(id, PrepareOptions::default()), Ok(Vote::Yes));
}

fn assert_held(database: &Batches, keys: &[&str]) {
    for key in keys {
        assert_conflict(put_one(database, key, 0), ConflictKind::Prepared);
    }
    put_one(database, "free", 1).unwrap();
}

#[test]
fn who_is_in_doubt_holds_all_over_restarts_and_checkpoints() {
    let folder = folder("restarts");
    let path = folder.join("db");
    let [kept, dropped] = ["kept", "dropped"].map(durable::id);
    {
        let stored = open(&path);
        put_one(stored.manager(), "read", 1).unwrap();
        put_one(stored.manager(), "written", 2).unwrap();
        prepare(stored.manager(), &kept, "read", "range/", "written");
        let mut transaction = begin(stored.manager(), SERIALIZABLE);
        put(&mut transaction, "other", 5);
        assert_eq!(transaction.prepare(&dropped, PrepareOptions::default()), Ok(Vote::Yes));
    }
    let held = ["read", "written", "list", "range/a", "other"];
    for round in 0..4 {
        let stored = open(&path);
        let database = stored.manager();
        let listed = database.recover().unwrap();
        assert_eq!(listed.iter().map(|one| one.id.clone()).collect::<Vec<_>>(), [kept.clone(), dropped.clone()]);
        let mut keys = listed[0].keys.clone();
        keys.sort();
        assert_eq!(keys, [b"list".to_vec(), b"written".to_vec()]);
        assert!(listed[0].time_micros > 0 && listed[0].time_micros <= listed[1].time_micros);
        assert_held(database, &held);
        let mut reader = begin(database, SERIALIZABLE);
        assert_eq!((get(&mut reader, "written"), get(&mut reader, "list")), (Some(2), None));
        drop(reader);
        // Enough for the log to go on in other segments.
        for number in 0..300 {
            put_one(database, &format!("filler {}", number % 10), number).unwrap();
        }
        if round % 2 == 0 {
            stored.checkpoint().unwrap();
        }
        assert_held(database, &held);
    }
    let stored = open(&path);
    let database = stored.manager();
    let version = TwoPhaseCommitParticipant::commit(database, &kept).unwrap();
    database.rollback(&dropped).unwrap();
    drop(stored);
    for _ in 0..2 {
        let stored = open(&path);
        let database = stored.manager();
        assert_eq!(database.recover(), Ok(vec![]));
        let mut reader = begin(database, SERIALIZABLE);
        assert_eq!((get(&mut reader, "written"), get(&mut reader, "list")), (Some(77), Some(78)));
        assert_eq!(get(&mut reader, "other"), None);
        // Calls that are repeated have their answers.
        assert_eq!(TwoPhaseCommitParticipant::commit(database, &kept), Ok(version));
        assert_eq!(database.rollback(&dropped), Ok(()));
        assert!(matches!(database.rollback(&kept), Err(Error::AlreadyDecided(_))));
        let mut transaction = begin(database, SERIALIZABLE);
        put(&mut transaction, "x", 1);
        assert!(matches!(transaction.prepare(&kept, PrepareOptions::default()), Err(Error::Duplicate(_))));
        stored.checkpoint().unwrap();
    }
    let stored = open(&path);
    for key in held {
        put_one(stored.manager(), key, 0).unwrap();
    }
    stored.manager().forget(&kept).unwrap();
    drop(stored);
    let stored = open(&path);
    assert!(matches!(TwoPhaseCommitParticipant::commit(stored.manager(), &kept), Err(Error::UnknownId(_))));
}

#[test]
fn what_an_operator_decided_is_told_after_a_restart() {
    let folder = folder("operator");
    let path = folder.join("db");
    let ids = ["commit", "rollback"].map(durable::id);
    let stored = open(&path);
    prepare(stored.manager(), &ids[0], "a", "a", "a");
    stored.manager().decide_heuristically(&ids[0], Decision::Commit).unwrap();
    prepare(stored.manager(), &ids[1], "a", "a", "b");
    stored.manager().decide_heuristically(&ids[1], Decision::Rollback).unwrap();
    let listed = stored.manager().recover().unwrap();
    assert!(listed.iter().all(|one| one.written_keys == 2 && one.bytes > 0));
    let prepared_at = listed[0].time_micros;
    stored.checkpoint().unwrap();
    drop(stored);
    let stored = open(&path);
    let database = stored.manager();
    assert_eq!(state(database), named(&[("a", 77), ("list", 78)]));
    let listed = database.recover().unwrap();
    // Of what it was only the end is stored.
    assert!(listed.iter().all(|one| (one.written_keys, one.bytes) == (0, 0) && one.time_micros >= prepared_at));
    let listed: Vec<_> = listed.into_iter().map(|one| (one.id, one.heuristic)).collect();
    let expected = [Decision::Commit, Decision::Rollback].map(Some);
    assert_eq!(listed, ids.iter().cloned().zip(expected).collect::<Vec<_>>());
    for id in &ids {
        assert!(matches!(TwoPhaseCommitParticipant::commit(database, id), Err(Error::Heuristic(_))));
        database.forget(id).unwrap();
    }
    drop(stored);
    assert_eq!(open(&path).manager().recover(), Ok(vec![]));
}

#[test]
fn backups_and_exports_have_what_is_committed() {
    let folder = folder("backup");
    let stored = open(&folder.join("db"));
    put_one(stored.manager(), "a", 1).unwrap();
    prepare(stored.manager(), &durable::id("x"), "a", "r", "w");
    storage::backup(stored.manager(), &folder.join("backup")).unwrap();
    storage::export(stored.manager(), &folder.join("export")).unwrap();
    let copy = open(&folder.join("backup"));
    assert_eq!((state(copy.manager()), copy.manager().recover()), (named(&[("a", 1)]), Ok(vec![])));
    put_one(copy.manager(), "w", 2).unwrap();
    let other = open(&folder.join("other"));
    assert_eq!(storage::import(other.manager(), &folder.join("export")), Ok(1));
    assert_eq!(state(other.manager()), named(&[("a", 1)]));
}

/// The built-in storage, whose notes take their time and are counted.
struct Slow {
    storage: DurableStorage,
    notes: &'static Mutex<Vec<usize>>,
}

impl Storage for Slow {
    type Prepared = Prepared;

    fn load(&self, visit: &mut dyn FnMut(StoredValue) -> Result<(), Error>) -> Result<u64, Error> {
        self.storage.load(visit)
    }

    fn keeps_prepared(&self) -> bool {
        self.storage.keeps_prepared()
    }

    fn load_prepared(&self) -> Result<StoredTransactions, Error> {
        self.storage.load_prepared()
    }

    fn prepare(&self, mutations: Vec<Mutation>) -> Result<Prepared, Error> {
        self.storage.prepare(mutations)
    }

    fn apply(&self, commits: &[Commit<'_, Prepared>], durability: Durability) -> Result<(), ApplyError> {
        assert!(commits.iter().all(|commit| commit.decides.is_none()) || durability == Durability::Synced);
        self.storage.apply(commits, durability)
    }

    fn note(&self, notes: &[Note<'_, Prepared>], durability: Durability) -> Result<(), ApplyError> {
        let prepares = notes.iter().filter(|note| matches!(note, Note::Prepared { .. })).count();
        assert!(prepares == 0 || durability == Durability::Synced);
        self.notes.lock().unwrap().push(prepares);
        thread::sleep(Duration::from_millis(3));
        self.storage.note(notes, durability)
    }

    fn sync(&self) -> Result<(), Error> {
        self.storage.sync()
    }

    fn checkpoint(&self, snapshot: &mut dyn Snapshot) -> Result<(), Error> {
        self.storage.checkpoint(snapshot)
    }

    fn close(&self) -> Result<(), Error> {
        self.storage.close()
    }
}

#[test]
fn those_who_prepare_at_once_share_a_sync() {
    static NOTES: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let folder = folder("shared");
    let storage = DurableStorage::open(&folder.join("db"), DurableOptions::default()).unwrap();
    let options = Options { durability: Durability::None, ..Options::default() };
    let stored: StoredDatabase<RecordBatch> = storage::open(options, Slow { storage, notes: &NOTES }).unwrap();
    thread::scope(|scope| {
        for thread in 0..8 {
            let database = stored.manager();
            scope.spawn(move || {
                for number in 0..10 {
                    let name = format!("{thread}/{number}");
                    let mut transaction = begin(database, SERIALIZABLE);
                    put(&mut transaction, &name, number);
                    let id = durable::id(&name);
                    assert_eq!(transaction.prepare(&id, PrepareOptions::default()), Ok(Vote::Yes));
                    if number % 2 == 0 {
                        TwoPhaseCommitParticipant::commit(database, &id).unwrap();
                    }
                }
            });
        }
    });
    let notes = NOTES.lock().unwrap();
    assert_eq!(notes.iter().sum::<usize>(), 80);
    // Mostly all that came while one was on its way go together.
    assert!(notes.iter().filter(|&&prepares| prepares > 0).count() < 40, "{notes:?}");
    assert_eq!(stored.manager().recover().unwrap().len(), 40);
}
