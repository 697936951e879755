//! Prepared transactions in the built-in storage: who is in doubt comes back, and what became of others, whatever
//! checkpoints and crashes have done since. (`durable_log.rs` has them among random commits.)

mod durable;

use std::fs;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, ListArray, RecordBatch, StringArray};
use durable::*;
use khonsu::stm::{Decision, Durability, Error, Held, KeyRange, Outcome, REMEMBERED_OUTCOMES};
use khonsu::storage::{Change, DurableOptions, DurableStorage, Mutation, Storage, StoredPrepared};

fn prepared(name: &str, time_micros: i64, mutations: Vec<Mutation>) -> Entry {
    Entry::Prepared(StoredPrepared { id: id(name), time_micros, mutations, held: Held::default() })
}

fn outcome(name: &str, decision: Decision, version: u64) -> Outcome {
    Outcome { id: id(name), decision, heuristic: false, time_micros: 77, version }
}

fn rolled_back(name: &str) -> Entry {
    Entry::RolledBack(outcome(name, Decision::Rollback, 0))
}

/// Commits until so many segments have been begun since.
fn fill(storage: &DurableStorage, model: &mut Model, folder: &Folder, segments: usize) {
    let last = |folder: &Folder| folder.segments().pop().map_or(0, |path| number_of(&path));
    let begun = last(folder);
    while last(folder) < begun + segments as u64 {
        let version = model.version + 1;
        model.apply(storage, version, vec![put(b"filler", &[version as i64; 100])], Durability::Buffered);
    }
}

fn number_of(segment: &Path) -> u64 {
    // Some are not finished yet.
    file_name(segment)[4..24].parse().expect("it has a number")
}

fn checkpoint(storage: &DurableStorage, model: &mut Model) -> Result<(), Error> {
    storage.checkpoint(model)
}

/// Closed or not, it comes back.
fn reopen(storage: DurableStorage, folder: &Folder, model: &Model, closes: bool) -> DurableStorage {
    if closes {
        close(storage);
    } else {
        storage.sync().expect("it is synced");
        drop(storage);
    }
    let storage = open(folder);
    model.check_load(&storage);
    storage
}

#[test]
fn all_that_is_prepared_comes_back_and_what_became_of_it() {
    let folder = Folder::new("prepared");
    let mut model = Model::default();
    let mut storage = open(&folder);
    model.check_load(&storage);
    assert!(storage.keeps_prepared());
    let longest = "x".repeat(144);
    let held = Held {
        keys: vec![vec![0; 65_536], b"k".to_vec()],
        ranges: vec![
            KeyRange::all(),
            KeyRange::prefix(b"p"),
            KeyRange::new(Bound::Excluded(b"a".to_vec()), Bound::Included(vec![9; 65_536])),
        ],
    };
    let mutations = vec![put(b"a", &[1]), append(b"b", &[2, 3]), delete(b"c"), put(&[5; 65_536], &[])];
    let all = StoredPrepared { id: id(&longest), time_micros: -5, mutations, held };
    model.store(&storage, Entry::Prepared(all.clone()), Durability::Synced);
    model.store(&storage, prepared("reader", 1, vec![]), Durability::Synced);
    model.store(&storage, prepared("third", 2, vec![put(b"d", &[4])]), Durability::Synced);
    for closes in [true, false] {
        storage = reopen(storage, &folder, &model, closes);
    }
    let committed = outcome(&longest, Decision::Commit, 7);
    model.store(&storage, Entry::Deciding(committed, all.mutations), Durability::Synced);
    let by_operator = Outcome { heuristic: true, time_micros: i64::MAX, ..outcome("third", Decision::Rollback, 0) };
    model.store(&storage, Entry::RolledBack(by_operator), Durability::Buffered);
    storage = reopen(storage, &folder, &model, false);
    assert_eq!((model.prepared.len(), model.outcomes.len(), model.state.len()), (1, 2, 3));
    model.store(&storage, Entry::Forgotten(id(&longest)), Durability::Buffered);
    model.store(&storage, Entry::Forgotten(id("nobody")), Durability::Buffered);
    // A name that is free may be used again.
    model.store(&storage, prepared(&longest, 9, vec![delete(b"a")]), Durability::Synced);
    storage = reopen(storage, &folder, &model, true);
    let committed = Outcome { heuristic: true, ..outcome("reader", Decision::Commit, 8) };
    model.store(&storage, Entry::Deciding(committed, vec![]), Durability::Synced);
    reopen(storage, &folder, &model, false);
    assert_eq!((model.prepared.len(), model.outcomes.len(), model.version), (1, 2, 8));
}

#[test]
fn values_of_prepared_transactions_survive_checkpoints() {
    let folder = Folder::new("prepared-values");
    let mut model = Model::default();
    let mut storage = open(&folder);
    model.check_load(&storage);
    for number in 0..12 {
        let words: DictionaryArray<Int32Type> = [Some("a"), None, Some("b"), Some("a")].into_iter().collect();
        let texts = StringArray::from(vec![Some("x".repeat(number * 100)), None]);
        let nested = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None]), None]);
        let name = format!("column {number}");
        let columns: [(&str, ArrayRef); 3] =
            [("w", Arc::new(words.slice(number % 3, 2))), (&name, Arc::new(texts)), ("l", Arc::new(nested))];
        let wide = RecordBatch::try_from_iter(columns).expect("equal lengths");
        let mutations = vec![
            Mutation { key: b"wide".to_vec(), change: Change::Put(vec![wide.slice(0, 0), wide.clone()]) },
            append(b"narrow", &[1, 2]),
            Mutation { key: b"more".to_vec(), change: Change::Append(vec![wide.slice(1, 1)]) },
        ];
        model.store(&storage, prepared(&name, number as i64, mutations), Durability::Synced);
    }
    for round in 0..3 {
        fill(&storage, &mut model, &folder, 2);
        checkpoint(&storage, &mut model).expect("it is written");
        storage = reopen(storage, &folder, &model, round == 1);
    }
    // They are what a commit of them does.
    let (transactions, version) = (model.prepared.clone(), model.version);
    for (number, prepared) in (1..).zip(transactions) {
        let id = prepared.id.clone();
        let decided = Outcome { id, ..outcome("it", Decision::Commit, version + number) };
        model.store(&storage, Entry::Deciding(decided, prepared.mutations), Durability::Synced);
    }
    reopen(storage, &folder, &model, false);
}

#[test]
fn nobody_in_doubt_keeps_the_log_from_being_trimmed() {
    let folder = Folder::new("prepared-trim");
    let mut model = Model::default();
    let mut storage = open(&folder);
    model.check_load(&storage);
    for number in 0..5 {
        let mutations = vec![put(b"filler", &[number; 200])];
        model.store(&storage, prepared(&format!("old {number}"), number, mutations), Durability::Synced);
    }
    model.store(&storage, rolled_back("old 3"), Durability::Buffered);
    for round in 0..6 {
        fill(&storage, &mut model, &folder, 4);
        let before = storage.stored_bytes().0;
        checkpoint(&storage, &mut model).expect("it is written");
        assert!(storage.stored_bytes().0 < before);
        // What is repeated, and what the last segment has.
        assert!(folder.segments().len() <= 4, "{:?}", folder.segments());
        storage = reopen(storage, &folder, &model, round % 2 == 0);
        model.store(&storage, prepared(&format!("new {round}"), 10 + round, vec![]), Durability::Synced);
    }
    assert_eq!((model.prepared.len(), model.outcomes.len()), (10, 1));
    let decided = outcome("old 0", Decision::Commit, model.version + 1);
    model.store(&storage, Entry::Deciding(decided, vec![put(b"filler", &[0; 200])]), Durability::Synced);
    reopen(storage, &folder, &model, false);
}

#[test]
fn a_log_of_notes_alone_is_trimmed_too() {
    let folder = Folder::new("prepared-notes");
    let mut model = Model::default();
    let options =
        || DurableOptions { segment_bytes: SEGMENT_BYTES, checkpoint_bytes: 1 << 16, progress: None, memory_budget: 0 };
    let mut storage = DurableStorage::open(&folder, options()).expect("it opens");
    model.check_load(&storage);
    model.store(&storage, prepared("stays", 0, vec![put(b"a", &[1])]), Durability::Synced);
    let mut checkpoints = 0;
    for number in 1..2000 {
        let name = format!("transaction {number}");
        model.store(&storage, prepared(&name, number, vec![put(b"b", &[number])]), Durability::None);
        model.store(&storage, rolled_back(&name), Durability::None);
        if number > 3 {
            model.store(&storage, Entry::Forgotten(id(&name)), Durability::None);
        }
        if storage.is_checkpoint_due() {
            checkpoint(&storage, &mut model).expect("there is nothing to write");
            assert!(!storage.is_checkpoint_due());
            assert!(folder.segments().len() <= 3, "{:?}", folder.segments());
            checkpoints += 1;
            if checkpoints % 3 == 0 {
                storage.sync().expect("it is synced");
                drop(storage);
                storage = DurableStorage::open(&folder, options()).expect("it opens");
                model.check_load(&storage);
            }
        }
    }
    assert!(checkpoints > 5 && model.version == 0);
    // With a commit it goes on as ever.
    model.apply(&storage, 1, vec![put(b"c", &[1])], Durability::Synced);
    checkpoint(&storage, &mut model).expect("it is written");
    reopen(storage, &folder, &model, false);
}

#[test]
fn a_checkpoint_does_not_get_ahead_of_the_decisions() {
    let folder = Folder::new("prepared-ahead");
    let mut model = Model::default();
    let storage = open(&folder);
    model.check_load(&storage);
    model.store(&storage, prepared("x", 1, vec![put(b"a", &[1])]), Durability::Synced);
    // What waits in memory is lost at the end, but for what a checkpoint needs.
    model.store(&storage, rolled_back("x"), Durability::None);
    model.apply(&storage, 1, vec![put(b"a", &[2])], Durability::None);
    checkpoint(&storage, &mut model).expect("it is written");
    drop(storage);
    model.check_load(&open(&folder));
    assert_eq!((model.prepared.len(), model.outcomes.len()), (0, 1));
}

#[test]
fn so_many_outcomes_are_remembered_and_those_of_operators() {
    let folder = Folder::new("prepared-outcomes");
    let mut model = Model::default();
    let options = || DurableOptions { segment_bytes: 256 << 10, ..DurableOptions::default() };
    let mut storage = DurableStorage::open(&folder, options()).expect("it opens");
    model.check_load(&storage);
    let mut waiting = Vec::new();
    for number in 0..REMEMBERED_OUTCOMES as u64 + 500 {
        let name = format!("transaction {number}");
        waiting.push(prepared(&name, number as i64, vec![]));
        let outcome = Outcome { heuristic: number % 100 == 7, ..outcome(&name, Decision::Rollback, 0) };
        waiting.push(Entry::RolledBack(outcome));
        if number % 1000 == 0 {
            // The names of some are used again, so that their order changes.
            for entry in [prepared("transaction 3", 3, vec![]), rolled_back("transaction 3")] {
                waiting.push(Entry::Forgotten(id("transaction 3")));
                waiting.push(entry);
            }
        }
        if number % 800 == 0 {
            store(&storage, &waiting, Durability::Buffered).expect("they are stored");
            waiting.drain(..).for_each(|entry| model.take(&entry));
            let version = model.version + 1;
            model.apply(&storage, version, vec![put(b"a", &[1])], Durability::Buffered);
            checkpoint(&storage, &mut model).expect("it is written");
            drop(storage);
            storage = DurableStorage::open(&folder, options()).expect("it opens");
            model.check_load(&storage);
        }
    }
    store(&storage, &waiting, Durability::Synced).expect("they are stored");
    waiting.drain(..).for_each(|entry| model.take(&entry));
    drop(storage);
    model.check_load(&DurableStorage::open(&folder, options()).expect("it opens"));
    assert_eq!(model.outcomes.len(), REMEMBERED_OUTCOMES + 46);
    assert!(model.prepared.is_empty());
}

#[test]
fn a_log_without_one_of_its_segments_of_notes_is_refused() {
    let folder = Folder::new("prepared-missing");
    let mut model = Model::default();
    let storage = open(&folder);
    model.check_load(&storage);
    model.apply(&storage, 1, vec![put(b"a", &[1])], Durability::Synced);
    checkpoint(&storage, &mut model).expect("it is written");
    // No commit comes after the checkpoint, so that only notes can be missed.
    for number in 0..60 {
        model.store(&storage, prepared(&format!("{number}"), number, vec![put(b"b", &[7; 50])]), Durability::Synced);
    }
    drop(storage);
    let segments = folder.segments();
    assert!(segments.len() > 4);
    // The last one may have been made beforehand.
    for missing in &segments[..segments.len() - 2] {
        for from_the_first in [false, true] {
            let copy = folder.copy("prepared-missing-copy");
            let removed = if from_the_first { &segments[0] } else { missing };
            for path in segments.iter().filter(|path| *path >= removed && *path <= missing) {
                fs::remove_file(copy.join(file_name(path))).expect("it can be removed");
            }
            match load(&open(&copy)) {
                Err(Error::Corruption(text)) => {
                    assert!(text.contains("log-000") && text.contains("before this segment is missing"), "{text}");
                }
                other => panic!("{}: {other:?}", missing.display()),
            }
        }
    }
    model.check_load(&open(&folder));
}

#[test]
fn a_damaged_transaction_in_doubt_is_reported_and_not_dropped() {
    let folder = Folder::new("prepared-damage");
    let mut model = Model::default();
    let storage = open(&folder);
    model.check_load(&storage);
    model.store(&storage, prepared("first", 1, vec![]), Durability::Synced);
    model.store(&storage, prepared("second", 2, vec![put(b"needle in the hay", &[1])]), Durability::Synced);
    fill(&storage, &mut model, &folder, 3);
    let segment = &folder.segments()[0];
    let whole = fs::read(segment).expect("it can be read");
    let at = whole.windows(17).position(|bytes| bytes == b"needle in the hay").expect("it is there");
    let mut damaged = whole.clone();
    damaged[at] ^= 1;
    fs::write(segment, damaged).expect("it can be written");
    for _ in 0..2 {
        match checkpoint(&storage, &mut model) {
            Err(Error::Corruption(text)) => {
                assert!(text.contains(&file_name(segment)) && text.contains(" at offset "), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
    // Commits go on, and nothing was removed.
    fill(&storage, &mut model, &folder, 1);
    assert!(segment.exists());
    fs::write(segment, whole).expect("it can be written");
    checkpoint(&storage, &mut model).expect("it is written");
    assert!(!segment.exists());
    reopen(storage, &folder, &model, false);
}

#[test]
fn one_that_is_larger_than_a_segment_survives_checkpoints() {
    let folder = Folder::new("prepared-large");
    let mut model = Model::default();
    let mut storage = open(&folder);
    model.check_load(&storage);
    let rows: Vec<i64> = (0..5000).collect();
    for number in 0..3 {
        model.store(&storage, prepared(&format!("{number}"), number, vec![put(b"a", &rows)]), Durability::Synced);
        fill(&storage, &mut model, &folder, 1);
    }
    for closes in [true, false, true] {
        checkpoint(&storage, &mut model).expect("it is written");
        storage = reopen(storage, &folder, &model, closes);
        fill(&storage, &mut model, &folder, 1);
    }
}

/// What the database of `tests/data/format-1` is: it was written by the last khonsu with that format, in segments of
/// 2,048 bytes, with a checkpoint behind version 10, and was not closed.
fn of_format_1() -> (Folder, Model) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/format-1");
    let mut model = Model::default();
    for version in 1..20 {
        let row = [version as i64];
        model.commit(version, &[put(&[version as u8 % 5], &row), append(b"list", &row)]);
        if version == 10 {
            // They have its version.
            model.state.values_mut().for_each(|(written, _)| *written = (*written).min(10));
        }
    }
    model.commit(25, &[delete(&[3]), append(b"list", &[25, 26])]);
    (copy_of(&data, "format-1"), model)
}

#[test]
fn a_database_of_the_first_format_is_opened_and_becomes_one_of_the_second() {
    let (folder, mut model) = of_format_1();
    let format = |folder: &Path| fs::read_to_string(folder.join("FORMAT")).expect("it can be read");
    assert_eq!(format(&folder), "khonsu storage 1\n");
    // Not before it could be loaded.
    let broken = folder.copy("format-1-broken");
    let segment = broken.segments().remove(1);
    let mut damaged = fs::read(&segment).expect("it can be read");
    damaged[100] ^= 1;
    fs::write(&segment, damaged).expect("it can be written");
    assert!(matches!(load(&open(&broken)), Err(Error::Corruption(_))));
    assert_eq!(format(&broken), "khonsu storage 1\n");

    // Behind the last one with frames there is one that was made beforehand.
    let last = folder.segments().into_iter().nth_back(1).expect("there are more");
    let old = fs::read(&last).expect("it can be read");
    for _ in 0..3 {
        // Also when nothing is written.
        let storage = open(&folder);
        model.check_load(&storage);
        assert_eq!(format(&folder), "khonsu storage 2\n");
    }
    let mut storage = open(&folder);
    model.check_load(&storage);
    model.store(&storage, prepared("x", 1, vec![put(b"a", &[1])]), Durability::Synced);
    model.apply(&storage, 30, vec![append(b"list", &[30])], Durability::Synced);
    for closes in [false, true] {
        storage = reopen(storage, &folder, &model, closes);
    }
    // The old segments stay as they were: a cut, which fills up with zeros, is all.
    let new = fs::read(&last).expect("it can be read");
    assert!(new[..old.len()] == old && new[old.len()..].iter().all(|&byte| byte == 0));
    assert_eq!(format_of(&last), 1);
    assert_eq!(format_of(&folder.segments()[3]), 2);
    fill(&storage, &mut model, &folder, 1);
    checkpoint(&storage, &mut model).expect("it is written");
    assert!(!last.exists());
    reopen(storage, &folder, &model, false);
}

#[test]
fn an_upgrade_may_be_killed_at_any_step() {
    let (folder, model) = of_format_1();
    // Only the line that says the format was written; and only a part of it, under another name.
    let copy = folder.copy("format-1-killed");
    fs::write(copy.join("FORMAT.tmp"), "khonsu st").expect("it can be written");
    model.check_load(&open(&copy));
    let copy = folder.copy("format-1-killed");
    fs::write(copy.join("FORMAT"), "khonsu storage 2\n").expect("it can be written");
    model.check_load(&open(&copy));
    // Its frames are in segments of their own.
    let newer = folder.copy("format-1-newer");
    let storage = open(&newer);
    let mut changed = model.clone();
    changed.check_load(&storage);
    changed.store(&storage, prepared("x", 1, vec![]), Durability::Synced);
    drop(storage);
    changed.check_load(&open(&newer));
    assert_eq!(newer.segments().iter().map(|path| format_of(path)).collect::<Vec<_>>(), [1, 1, 1, 2]);
}

/// The version in the header of a segment.
fn format_of(segment: &Path) -> u8 {
    fs::read(segment).expect("it can be read")[8]
}
