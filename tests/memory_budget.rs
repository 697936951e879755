//! Databases whose values do not all fit into the memory that they may take: reads are the same, whether a value is in
//! memory or in a checkpoint.

mod common;
mod durable;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use arrow_array::types::{Int8Type, Int64Type};
use arrow_array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch, cast::AsArray};
use common::{Batches, LEVELS, Random, at, batch, begin, get_rows, read_only, rows, text_batch};
use durable::Folder;
use khonsu::stm::{
    ConflictResolution, Direction, Durability, Error, GlobalId, IsolationLevel, KeyRange, Options, Transaction,
    TransactionOptions, Value,
};
use khonsu::storage::{self, DurableOptions, DurableStorage, StoredDatabase};
use khonsu::two_phase_commit::{PrepareOptions, TwoPhaseCommitParticipant, Vote};

const SERIALIZABLE: IsolationLevel = IsolationLevel::Serializable;

/// A folder of the test's own.
fn folder(name: &str) -> Folder {
    let folder = Folder::new(&format!("budget-{name}"));
    fs::create_dir(&*folder).unwrap();
    folder
}

fn try_open(path: &Path, budget: u64, core: Options) -> Result<StoredDatabase<RecordBatch>, Error> {
    let options = DurableOptions {
        segment_bytes: 16 << 10,
        checkpoint_bytes: 1 << 30,
        memory_budget: budget,
        ..DurableOptions::default()
    };
    storage::open(Options { durability: Durability::Buffered, ..core }, DurableStorage::open(path, options)?)
}

fn open(path: &Path, budget: u64) -> StoredDatabase<RecordBatch> {
    try_open(path, budget, Options::default()).unwrap()
}

/// What keys have, whatever the chunks are.
type State = BTreeMap<Vec<u8>, Vec<String>>;

fn text_of(value: &Value<RecordBatch>) -> Vec<String> {
    let mut found = Vec::new();
    for chunk in value.chunks() {
        let column = chunk.column(0);
        if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
            found.extend(numbers.values().iter().map(i64::to_string));
        } else if let Some(texts) = column.as_string_opt::<i32>() {
            found.extend(texts.iter().map(|text| text.unwrap().to_owned()));
        } else {
            let dictionary = column.as_dictionary::<Int8Type>();
            let values = dictionary.values().as_string::<i32>();
            found.extend(dictionary.keys().values().iter().map(|key| values.value(*key as usize).to_owned()));
        }
    }
    found
}

/// Rows whose chunks cannot always be joined: a dictionary has at most 128 values.
fn dictionary(random: &mut Random) -> RecordBatch {
    let from = random.next() % 10_000;
    let texts: Vec<String> = (from..from + 40 + random.below(60)).map(|number| number.to_string()).collect();
    let column: DictionaryArray<Int8Type> = texts.iter().map(String::as_str).collect();
    RecordBatch::try_from_iter([("word", Arc::new(column) as ArrayRef)]).unwrap()
}

/// Rows of the schema that the key has.
fn some_rows(key: &str, random: &mut Random) -> RecordBatch {
    match key.as_bytes()[0] % 4 {
        0 => dictionary(random),
        1 => text_batch(&"text ".repeat(1 + random.below(20) as usize)),
        _ => batch(&(0..1 + random.below(40) as i64).map(|row| row + random.below(1000) as i64).collect::<Vec<_>>()),
    }
}

fn state_in(transaction: &mut Transaction<RecordBatch>) -> State {
    let found = transaction.scan(KeyRange::all(), Direction::Forward, None).unwrap();
    found.into_iter().map(|(key, value)| (key, text_of(&value))).collect()
}

/// The same, in another order and step by step.
fn state_by_cursor(transaction: &mut Transaction<RecordBatch>) -> State {
    let mut cursor = transaction.open_cursor(KeyRange::all(), Direction::Reverse, None).unwrap();
    let mut found = State::new();
    while cursor.next(transaction).unwrap() {
        let (key, value) = cursor.entry().unwrap();
        found.insert(key.to_vec(), text_of(value));
    }
    found
}

/// Random operations on few keys, compared with a model after each; snapshots that stay open; checkpoints and
/// reopenings in between.
fn run(seed: u64, budget: u64) -> (u64, u64) {
    let mut random = Random::new(seed);
    let folder = folder(&format!("model-{seed}"));
    let path = folder.join("db");
    let mut stored = open(&path, budget);
    let mut model = State::new();
    let mut snapshots: Vec<(Transaction<RecordBatch>, State)> = Vec::new();
    let (mut reads, mut checkpoints) = (0, 0);
    for step in 0..700 {
        let key = format!("{}{}", (b'a' + random.below(8) as u8) as char, random.below(6));
        match random.below(100) {
            0..45 => {
                let mut transaction = begin(stored.manager(), SERIALIZABLE);
                let mut changed = model.clone();
                for _ in 0..1 + random.below(3) {
                    let key = format!("{}{}", (b'a' + random.below(8) as u8) as char, random.below(6));
                    let rows = some_rows(&key, &mut random);
                    let text = text_of(&Value::new(rows.clone()));
                    match random.below(4) {
                        0 => {
                            transaction.put(key.as_bytes(), rows).unwrap();
                            changed.insert(key.clone().into_bytes(), text);
                        }
                        1 if random.below(2) == 0 => {
                            transaction.delete(key.as_bytes()).unwrap();
                            changed.remove(key.as_bytes());
                        }
                        _ => {
                            transaction.append(key.as_bytes(), rows).unwrap();
                            changed.entry(key.clone().into_bytes()).or_default().extend(text);
                        }
                    }
                    // With what it has staged on top of what is cold.
                    if random.below(4) == 0 {
                        let found = transaction.get(key.as_bytes()).unwrap().as_ref().map(text_of);
                        assert_eq!(found.as_ref(), changed.get(key.as_bytes()), "seed {seed}, step {step}");
                    }
                }
                if random.below(8) == 0 {
                    assert_eq!(state_in(&mut transaction), changed, "seed {seed}, step {step}");
                }
                if random.below(10) > 0 {
                    transaction.commit().unwrap();
                    model = changed;
                }
            }
            45..70 => {
                let mut reader = begin(stored.manager(), SERIALIZABLE);
                assert_eq!(reader.exists(key.as_bytes()).unwrap(), model.contains_key(key.as_bytes()));
                let found = reader.get(key.as_bytes()).unwrap().as_ref().map(text_of);
                assert_eq!(found.as_ref(), model.get(key.as_bytes()), "seed {seed}, step {step}");
            }
            70..74 => assert_eq!(state_in(&mut begin(stored.manager(), SERIALIZABLE)), model),
            74..76 => assert_eq!(state_by_cursor(&mut begin(stored.manager(), SERIALIZABLE)), model),
            76..82 if snapshots.len() < 4 => {
                let mut snapshot = stored.manager().begin(&read_only(IsolationLevel::RepeatableRead));
                assert_eq!(state_in(&mut snapshot), model);
                snapshots.push((snapshot, model.clone()));
            }
            76..88 if !snapshots.is_empty() => {
                let which = random.below(snapshots.len() as u64) as usize;
                let (snapshot, then) = &mut snapshots[which];
                let found = snapshot.get(key.as_bytes()).unwrap().as_ref().map(text_of);
                assert_eq!(found.as_ref(), then.get(key.as_bytes()), "seed {seed}, step {step}");
                if random.below(3) == 0 {
                    assert_eq!(&state_by_cursor(snapshot), then, "seed {seed}, step {step}");
                }
                if random.below(4) == 0 {
                    snapshots.swap_remove(which);
                }
            }
            88..96 => {
                stored.checkpoint().unwrap();
                checkpoints += 1;
            }
            96.. => {
                snapshots.clear();
                reads += stored.manager().stats().cold_reads;
                drop(stored);
                stored = open(&path, budget);
            }
            _ => {}
        }
    }
    for (snapshot, then) in &mut snapshots {
        assert_eq!(&state_in(snapshot), then);
    }
    snapshots.clear();
    stored.checkpoint().unwrap();
    let stats = stored.manager().stats();
    assert!(stats.resident_bytes <= budget, "{stats:?}");
    reads += stats.cold_reads;
    // What is stored is what it would be without a budget.
    let copy = folder.join("copy");
    storage::backup(stored.manager(), &copy).unwrap();
    drop(stored);
    for path in [&path, &copy] {
        let stored = open(path, 0);
        assert_eq!(state_in(&mut begin(stored.manager(), SERIALIZABLE)), model);
        let stats = stored.manager().stats();
        assert_eq!((stats.resident_bytes, stats.cold_bytes, stats.cold_reads), (stats.live_bytes, 0, 0));
    }
    (reads, checkpoints)
}

#[test]
fn rows_are_the_same_cold_or_warm() {
    let runs: Vec<_> = (0..12).map(|seed| run(seed, [1, 3000, 20_000][seed as usize % 3])).collect();
    let (reads, checkpoints) = runs.iter().fold((0, 0), |sum, run| (sum.0 + run.0, sum.1 + run.1));
    assert!(reads > 5_000 && checkpoints > 100, "{reads} reads, {checkpoints} checkpoints");
}

/// Values of so many rows of the number of their key.
fn fill(database: &Batches, keys: i64, length: usize) {
    for group in 0..keys / 64 + 1 {
        let mut transaction = begin(database, SERIALIZABLE);
        for key in group * 64..keys.min(group * 64 + 64) {
            transaction.put(format!("{key:06}").as_bytes(), batch(&vec![key; length])).unwrap();
        }
        transaction.commit().unwrap();
    }
}

fn check(transaction: &mut Transaction<RecordBatch>, key: i64, length: usize) {
    assert_eq!(get_rows(transaction, &format!("{key:06}")), Some(vec![key; length]));
}

#[test]
fn memory_stays_within_the_budget() {
    const BUDGET: u64 = 200_000;
    let folder = folder("bounds");
    let path = folder.join("db");
    let stored = open(&path, BUDGET);
    let database = stored.manager();
    fill(database, 2000, 100);
    let before = database.stats();
    assert!(before.resident_bytes == before.live_bytes && before.live_bytes > 8 * BUDGET, "{before:?}");
    stored.checkpoint().unwrap();
    let within = |stats: khonsu::stm::Stats| {
        assert!(stats.resident_bytes <= BUDGET, "{stats:?}");
        assert_eq!(stats.live_bytes, before.live_bytes);
        // The buffers of arrays that are read back have other capacities.
        let sum = stats.resident_bytes + stats.cold_bytes;
        assert!(sum.abs_diff(stats.live_bytes) < stats.resident_bytes / 10 + 1, "{stats:?}");
        stats
    };
    assert_eq!(within(database.stats()).cold_reads, 0);
    let mut reader = begin(database, SERIALIZABLE);
    (0..2000).for_each(|key| check(&mut reader, key, 100));
    let read = within(database.stats());
    assert!(read.cold_reads > 1700 && read.resident_bytes > BUDGET / 2, "{read:?}");
    // Scans and backups pass by, and leave what is warm.
    let warm = read.cold_reads;
    assert_eq!(reader.scan(KeyRange::all(), Direction::Forward, None).unwrap().len(), 2000);
    storage::backup(database, &folder.join("backup")).unwrap();
    let scanned = within(database.stats());
    assert!(scanned.cold_reads > warm + 3500 && scanned.resident_bytes == read.resident_bytes, "{scanned:?}");
    drop(reader);
    drop(stored);

    // Some of it is taken up warm.
    let stored = open(&path, BUDGET);
    let opened = stored.manager().stats();
    assert!(opened.resident_bytes <= BUDGET && opened.resident_bytes > BUDGET / 2, "{opened:?}");
    let estimate = opened.resident_bytes + opened.cold_bytes;
    assert!(estimate > before.live_bytes / 3 && estimate < before.live_bytes * 2, "{opened:?}");
    let mut reader = begin(stored.manager(), SERIALIZABLE);
    (0..2000).rev().for_each(|key| check(&mut reader, key, 100));
    assert!(stored.manager().stats().resident_bytes <= BUDGET);
}

#[test]
fn what_is_read_often_stays_warm() {
    let folder = folder("clock");
    let stored = open(&folder.join("db"), 100_000);
    let database = stored.manager();
    fill(database, 1000, 100);
    stored.checkpoint().unwrap();
    let mut reader = database.begin(&read_only(SERIALIZABLE));
    let mut random = Random::new(1);
    (0..10).for_each(|key| check(&mut reader, key, 100));
    let mut hot_reads = 0;
    for _ in 0..1000 {
        check(&mut reader, 10 + random.below(990) as i64, 100);
        let before = database.stats().cold_reads;
        (0..10).for_each(|key| check(&mut reader, key, 100));
        hot_reads += database.stats().cold_reads - before;
    }
    assert!(hot_reads < 100, "{hot_reads} of 10,000 reads of hot keys");
}

#[test]
fn appending_reads_nothing() {
    let folder = folder("append");
    let path = folder.join("db");
    let stored = open(&path, 1);
    let database = stored.manager();
    fill(database, 100, 50);
    stored.checkpoint().unwrap();
    assert_eq!(database.stats().resident_bytes, 0);
    let resolving = TransactionOptions {
        conflict_resolution: Some(ConflictResolution::Append),
        ..at(IsolationLevel::RepeatableRead)
    };
    let mut late = database.begin(&resolving);
    for _ in 0..3 {
        let mut transaction = begin(database, SERIALIZABLE);
        (0..100).for_each(|key| transaction.append(format!("{key:06}").as_bytes(), batch(&[-key])).unwrap());
        assert_eq!(transaction.exists(b"000007"), Ok(true));
        transaction.commit().unwrap();
    }
    late.put(b"000000", batch(&[7])).unwrap();
    late.commit().unwrap();
    let mut other = begin(database, SERIALIZABLE);
    other.append(b"000001", text_batch("of another schema")).unwrap();
    assert!(matches!(other.get(b"000001"), Err(Error::SchemaMismatch(_))));
    assert!(matches!(other.commit(), Err(Error::SchemaMismatch(_))));
    drop((late, other));
    assert_eq!(database.stats().cold_reads, 0);
    let expected = |key: i64| [vec![key; 50], vec![-key; 3], if key == 0 { vec![7] } else { vec![] }].concat();
    let check = |database: &Batches| {
        let mut reader = begin(database, SERIALIZABLE);
        (0..100).for_each(|key| assert_eq!(get_rows(&mut reader, &format!("{key:06}")), Some(expected(key))));
    };
    check(database);
    drop(stored);
    let stored = open(&path, 1);
    check(stored.manager());
    let resident = stored.manager().stats().resident_bytes;
    assert!(resident > 0 && resident < 100 * 500, "what the log has is in memory: {resident}");
    stored.checkpoint().unwrap();
    assert_eq!(stored.manager().stats().resident_bytes, 0);
    check(stored.manager());
}

/// What is prepared goes on top of what is cold, also over checkpoints and after an opening, and reads nothing.
#[test]
fn prepared_transactions_append_to_what_is_cold() {
    let folder = folder("prepared");
    let path = folder.join("db");
    let id = |number: i64| GlobalId::new(&number.to_be_bytes()).unwrap();
    let prepare = |database: &Batches, number: i64, rows: RecordBatch| {
        let mut transaction = begin(database, SERIALIZABLE);
        transaction.append(format!("{number:06}").as_bytes(), rows).unwrap();
        assert_eq!(transaction.exists(format!("{:06}", number + 1).as_bytes()), Ok(true));
        database.prepare(&mut transaction, &id(number), PrepareOptions::default())
    };
    let stored = open(&path, 1);
    let database = stored.manager();
    fill(database, 10, 50);
    stored.checkpoint().unwrap();
    for number in [0, 2, 4] {
        assert_eq!(prepare(database, number, batch(&[-1])), Ok(Vote::Yes));
    }
    assert!(matches!(prepare(database, 6, text_batch("of another schema")), Err(Error::SchemaMismatch(_))));
    stored.checkpoint().unwrap();
    database.commit(&id(0)).unwrap();
    assert_eq!((database.stats().cold_reads, database.stats().prepared_transactions), (0, 2));
    stored.checkpoint().unwrap();
    assert_eq!(database.stats().resident_bytes, 0);
    drop(stored);
    let stored = open(&path, 1);
    let database = stored.manager();
    // In between, what it is to go after is written anew at another place.
    stored.checkpoint().unwrap();
    database.commit(&id(2)).unwrap();
    database.rollback(&id(4)).unwrap();
    assert_eq!(database.stats().cold_reads, 0);
    let check = |database: &Batches| {
        let mut reader = begin(database, SERIALIZABLE);
        for key in 0..10 {
            let expected = [vec![key; 50], if key == 0 || key == 2 { vec![-1] } else { vec![] }].concat();
            assert_eq!(get_rows(&mut reader, &format!("{key:06}")), Some(expected));
        }
    };
    check(database);
    stored.checkpoint().unwrap();
    assert_eq!(database.stats().resident_bytes, 0);
    check(database);
}

/// Their commits make room for what they write, as others do.
#[test]
fn commits_of_prepared_transactions_evict_what_others_have_left() {
    const BUDGET: u64 = 200_000;
    let folder = folder("prepared-evicts");
    let stored = open(&folder.join("db"), BUDGET);
    let database = stored.manager();
    fill(database, 400, 100);
    stored.checkpoint().unwrap();
    let mut reader = begin(database, SERIALIZABLE);
    (0..400).for_each(|key| check(&mut reader, key, 100));
    drop(reader);
    let before = database.stats().resident_bytes;
    assert!(before > BUDGET / 2, "{before}");
    for number in 0..100_i64 {
        let mut transaction = begin(database, SERIALIZABLE);
        transaction.put(format!("new {number}").as_bytes(), batch(&[number; 200])).unwrap();
        let id = GlobalId::new(&number.to_be_bytes()).unwrap();
        assert_eq!(database.prepare(&mut transaction, &id, PrepareOptions::default()), Ok(Vote::Yes));
        database.commit(&id).unwrap();
        // What is in no checkpoint stays; the rest has gone as far as that is too much.
        let stats = database.stats();
        let unstored = (number as u64 + 1) * 2000;
        // But for some that wait for their second chance.
        assert!(stats.resident_bytes <= BUDGET.max(unstored) + BUDGET / 10, "{number}: {stats:?}");
    }
}

/// Asserts how many files are open and have no name any more.
#[track_caller]
fn assert_unlinked_files(database: &Batches, folder: &Path, expected: usize) {
    let links = || fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let unlinked = |link: &PathBuf| link.starts_with(folder) && link.to_string_lossy().ends_with("(deleted)");
    for _ in 0..1000 {
        // Versions that are superseded go some steps later.
        database.stats();
        if links().filter(unlinked).count() == expected {
            return;
        }
    }
    panic!("{:?} are open, not {expected}", links().filter(unlinked).collect::<Vec<_>>());
}

#[test]
fn old_checkpoints_stay_open_as_long_as_a_snapshot_needs_them() {
    let folder = folder("old");
    let path = folder.join("db");
    let stored = open(&path, 1);
    let database = stored.manager();
    fill(database, 300, 100);
    stored.checkpoint().unwrap();
    let mut snapshot = database.begin(&read_only(IsolationLevel::RepeatableRead));
    for round in 0..3 {
        let mut transaction = begin(database, SERIALIZABLE);
        for key in (0..300).step_by(2) {
            transaction.put(format!("{key:06}").as_bytes(), batch(&[round])).unwrap();
        }
        transaction.commit().unwrap();
        drop(transaction);
        stored.checkpoint().unwrap();
        let checkpoints = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(checkpoints.filter(|name| name.to_string_lossy().starts_with("checkpoint")).count(), 1);
        assert_unlinked_files(database, &path, 1);
        (0..300).for_each(|key| check(&mut snapshot, key, 100));
    }
    drop(snapshot);
    assert_unlinked_files(database, &path, 0);
}

fn checkpoint_file(path: &Path) -> PathBuf {
    let mut entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries.find(|path| durable::file_name(path).starts_with("checkpoint")).unwrap().join("0.arrows")
}

#[test]
fn damage_under_an_open_database_is_found_and_concerns_who_reads_it() {
    let folder = folder("damage");
    let path = folder.join("db");
    let stored = open(&path, 1);
    let database = stored.manager();
    fill(database, 2000, 100);
    stored.checkpoint().unwrap();
    let file = checkpoint_file(&path);
    let whole = fs::read(&file).unwrap();
    let mut transaction = begin(database, IsolationLevel::RepeatableRead);
    // Somewhere in the last block of rows.
    let mut flipped = whole.clone();
    flipped[whole.len() - 1000] ^= 4;
    fs::write(&file, &flipped).unwrap();
    let named = |error: Error| match error {
        Error::Corruption(text) | Error::Storage(text) => {
            assert!(text.contains(file.to_str().unwrap()), "{text}");
        }
        other => panic!("{other:?}"),
    };
    match transaction.get(b"001999") {
        Err(Error::Corruption(text)) => {
            assert!(text.contains(file.to_str().unwrap()) && text.contains("offset"), "{text}");
        }
        other => panic!("{:?}", other.map(|_| ())),
    }
    check(&mut transaction, 3, 100);
    transaction.put(b"other", batch(&[1])).unwrap();
    assert_eq!(transaction.exists(b"001999"), Ok(true));
    // A cursor tries the same entry again.
    let mut cursor = transaction.open_cursor(KeyRange::all(), Direction::Forward, None).unwrap();
    let mut passed = 0;
    let error = loop {
        match cursor.next(&mut transaction) {
            Ok(more) => assert!(more),
            Err(error) => break error,
        }
        passed += 1;
    };
    named(error);
    named(cursor.next(&mut transaction).unwrap_err());
    let mut more = begin(database, SERIALIZABLE);
    more.put(b"more", batch(&[1])).unwrap();
    more.commit().unwrap();
    named(stored.checkpoint().unwrap_err());
    named(storage::backup(database, &folder.join("backup")).unwrap_err());
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    named(transaction.get(b"001999").err().unwrap());
    fs::write(&file, &whole).unwrap();
    while cursor.next(&mut transaction).unwrap() {
        passed += 1;
    }
    assert_eq!(passed, 2001);
    transaction.commit().unwrap();
    drop((transaction, cursor));
    stored.checkpoint().unwrap();
    check(&mut begin(database, SERIALIZABLE), 1999, 100);
    // What is put over a damaged value replaces it.
    let file = checkpoint_file(&path);
    let mut flipped = fs::read(&file).unwrap();
    let end = flipped.len();
    flipped[end - 1000] ^= 4;
    fs::write(&file, &flipped).unwrap();
    fill(database, 2000, 10);
    stored.checkpoint().unwrap();
    drop(stored);
    check(&mut begin(open(&path, 1).manager(), SERIALIZABLE), 1999, 10);
}

#[test]
fn limits_count_what_is_in_memory() {
    let folder = folder("limits");
    let path = folder.join("db");
    let limited = || Options { max_total_bytes: Some(400_000), ..Options::default() };
    let stored = try_open(&path, 100_000, limited()).unwrap();
    let database = stored.manager();
    for round in 0..6 {
        let mut transaction = begin(database, SERIALIZABLE);
        for key in 0..200 {
            transaction.put(format!("{round}/{key}").as_bytes(), batch(&[round; 100])).unwrap();
        }
        transaction.commit().unwrap();
        stored.checkpoint().unwrap();
    }
    let stats = database.stats();
    assert!(stats.live_bytes > 900_000 && stats.resident_bytes <= 100_000, "{stats:?}");
    let mut transaction = begin(database, SERIALIZABLE);
    assert!(matches!(transaction.put(b"large", batch(&[1; 60_000])), Err(Error::LimitExceeded(_))));
    transaction.put(b"small", batch(&[1; 100])).unwrap();
    transaction.commit().unwrap();
    drop((transaction, stored));
    assert_eq!(begin(try_open(&path, 100_000, limited()).unwrap().manager(), SERIALIZABLE).exists(b"small"), Ok(true));
}

/// Writers that append and transfer, readers that look at whole snapshots, checkpoints all the time.
#[test]
fn snapshots_are_whole_while_values_come_and_go() {
    const ACCOUNTS: u64 = 40;
    const TRANSFERS: u64 = 500;
    let folder = folder("threads");
    let path = folder.join("db");
    let account = |number: u64| format!("account/{number:02}");
    let padded = |balance: i64| batch(&[[balance].as_slice(), &[7; 30]].concat());
    let total = |transaction: &mut Transaction<RecordBatch>| -> i64 {
        let range = KeyRange::prefix(b"account/");
        let found = transaction.scan(range, Direction::Forward, None).unwrap();
        assert_eq!(found.len() as u64, ACCOUNTS);
        found.iter().map(|(_, value)| rows(value)[0]).sum()
    };
    let stored = open(&path, 4000);
    let database = stored.manager();
    let mut transaction = begin(database, SERIALIZABLE);
    (0..ACCOUNTS).for_each(|number| transaction.put(account(number).as_bytes(), padded(100)).unwrap());
    transaction.commit().unwrap();
    drop(transaction);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..2_u64)
            .map(|writer| {
                scope.spawn(move || {
                    let mut random = Random::new(writer);
                    for number in 0..TRANSFERS {
                        let accounts = [random.below(ACCOUNTS), random.below(ACCOUNTS)];
                        let transfer = |transaction: &mut Transaction<RecordBatch>| {
                            for (number, amount) in accounts.iter().zip([-1, 1]) {
                                let balance = get_rows(transaction, &account(*number)).unwrap()[0];
                                transaction.put(account(*number).as_bytes(), padded(balance + amount))?;
                            }
                            transaction.append(format!("list/{writer}").as_bytes(), batch(&[number as i64]))
                        };
                        database.transact(&TransactionOptions::default(), transfer).unwrap();
                    }
                })
            })
            .collect();
        let readers: Vec<_> = (0..2)
            .map(|reader| {
                let (done, total) = (&done, &total);
                scope.spawn(move || {
                    let level = [IsolationLevel::RepeatableRead, SERIALIZABLE][reader];
                    while !done.load(Ordering::Relaxed) {
                        let mut snapshot = database.begin(&read_only(level));
                        let first = state_in(&mut snapshot);
                        assert_eq!(total(&mut snapshot), 100 * ACCOUNTS as i64);
                        for key in [account(3), "list/0".to_owned()] {
                            let found = snapshot.get(key.as_bytes()).unwrap().as_ref().map(text_of);
                            assert_eq!(found.as_ref(), first.get(key.as_bytes()));
                        }
                        assert_eq!(state_by_cursor(&mut snapshot), first);
                    }
                })
            })
            .collect();
        let (stored, done) = (&stored, &done);
        let checkpoints = scope.spawn(move || {
            let mut made = 0;
            while !done.load(Ordering::Relaxed) {
                stored.checkpoint().unwrap();
                made += 1;
            }
            made
        });
        // Whatever fails, the others end.
        let written = writers.into_iter().map(thread::ScopedJoinHandle::join).collect::<Result<Vec<_>, _>>();
        done.store(true, Ordering::Relaxed);
        written.unwrap();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert!(checkpoints.join().unwrap() > 3);
    });
    let reads = database.stats().cold_reads;
    assert!(reads > 100, "{reads}");
    stored.checkpoint().unwrap();
    assert!(database.stats().resident_bytes <= 4000);
    drop(stored);
    let stored = open(&path, 4000);
    let mut reader = begin(stored.manager(), SERIALIZABLE);
    assert_eq!(total(&mut reader), 100 * ACCOUNTS as i64);
    for writer in 0..2 {
        let expected: Vec<i64> = (0..TRANSFERS as i64).collect();
        assert_eq!(get_rows(&mut reader, &format!("list/{writer}")), Some(expected));
    }
}

#[test]
fn a_budget_makes_checkpoints_due() {
    let folder = folder("due");
    let path = folder.join("db");
    let stored = open(&path, 1 << 20);
    let database = stored.manager();
    let value = batch(&vec![1; 8192]);
    for key in 0..1200 {
        let mut transaction = begin(database, SERIALIZABLE);
        transaction.put(format!("{key:06}").as_bytes(), value.clone()).unwrap();
        transaction.commit().unwrap();
        // The thread that makes them may be slow.
        for _ in 0..1000 {
            if database.stats().resident_bytes < 40 << 20 {
                break;
            }
            thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    let stats = database.stats();
    assert!(stats.live_bytes > 75 << 20 && stats.resident_bytes < 40 << 20, "{stats:?}");
}

/// Batches of one column of one row, which all have a schema of their own.
fn of_schema(number: i64) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![number]));
    RecordBatch::try_from_iter([(format!("number {number}"), column)]).unwrap()
}

#[test]
fn few_files_of_many_schemas_are_open() {
    const SCHEMAS: i64 = 200;
    let folder = folder("schemas");
    let path = folder.join("db");
    let key = |number: i64| format!("{number:06}").into_bytes();
    let put_all = |database: &Batches| {
        let mut transaction = begin(database, SERIALIZABLE);
        (0..SCHEMAS).for_each(|number| transaction.put(&key(number), of_schema(number)).unwrap());
        transaction.commit().unwrap();
    };
    let check = |stored: &StoredDatabase<RecordBatch>| {
        let links =
            || fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        let of_values = |link: &PathBuf| link.starts_with(&path) && link.to_string_lossy().contains(".arrows");
        // Versions that are superseded go some steps later.
        let few = (0..1000).any(|_| {
            stored.manager().stats();
            links().filter(of_values).count() <= 64
        });
        assert!(few, "{} files are open", links().filter(of_values).count());
        let stats = stored.manager().stats();
        assert!(stats.cold_bytes > 0 && stats.resident_bytes > 0, "{stats:?}");
        let mut reader = begin(stored.manager(), SERIALIZABLE);
        (0..SCHEMAS).for_each(|number| assert_eq!(get_rows(&mut reader, &format!("{number:06}")), Some(vec![number])));
    };
    let stored = open(&path, 1);
    put_all(stored.manager());
    stored.checkpoint().unwrap();
    check(&stored);
    drop(stored);
    let stored = open(&path, 1);
    check(&stored);
    put_all(stored.manager());
    stored.checkpoint().unwrap();
    check(&stored);
}

#[test]
fn many_keys_at_once_and_bound_keys_are_read_and_kept_as_others_are() {
    let folder = folder("many");
    let path = folder.join("db");
    let stored = open(&path, 1 << 20);
    let database = stored.manager();
    fill(database, 100, 100);
    stored.checkpoint().unwrap();
    drop(stored);
    let keys: Vec<_> = (0..100).map(|key| format!("{key:06}").into_bytes()).collect();
    for (budget, levels) in [(1, LEVELS), (20_000, LEVELS), (1 << 20, LEVELS)] {
        let stored = open(&path, budget);
        let database = stored.manager();
        let bound: Vec<_> = keys.iter().map(|key| database.bind(key).unwrap()).collect();
        let bound: Vec<_> = bound.iter().collect();
        for level in levels {
            let mut transaction = begin(database, level);
            for (number, key) in keys.iter().enumerate().step_by(7) {
                match number % 3 {
                    0 => transaction.put(key, batch(&[-1])).unwrap(),
                    1 => transaction.append_bound(bound[number], batch(&[-2])).unwrap(),
                    _ => transaction.delete_bound(bound[number]).unwrap(),
                }
            }
            let expected = |number: usize| match (number % 7, number % 3) {
                (0, 0) => Some(vec![-1]),
                (0, 1) => Some([vec![number as i64; 100], vec![-2]].concat()),
                (0, _) => None,
                _ => Some(vec![number as i64; 100]),
            };
            let expected: Vec<_> = (0..100).map(expected).collect();
            let texts = |found: Vec<Option<Value<RecordBatch>>>| -> Vec<_> {
                found.iter().map(|value| value.as_ref().map(rows)).collect()
            };
            assert_eq!(texts(transaction.get_many(&keys).unwrap()), expected, "{level:?}");
            assert_eq!(texts(transaction.get_many_bound(&bound).unwrap()), expected, "{level:?}");
            for (key, expected) in bound.iter().zip(&expected) {
                assert_eq!(transaction.get_bound(key).unwrap().as_ref().map(rows), *expected, "{level:?}");
                assert_eq!(transaction.exists_bound(key), Ok(expected.is_some()));
            }
        }
        let stats = database.stats();
        assert!(stats.resident_bytes <= budget, "{stats:?}");
    }
    // What was read stays in memory. (Some of the first keys are there from the beginning.)
    let some = &keys[90..];
    let stored = open(&path, 20_000);
    let bound: Vec<_> = some.iter().map(|key| stored.manager().bind(key).unwrap()).collect();
    let bound: Vec<_> = bound.iter().collect();
    for _ in 0..50 {
        let mut reader = begin(stored.manager(), SERIALIZABLE);
        reader.get_many(some).unwrap();
        reader.get_many_bound(&bound).unwrap();
    }
    let stats = stored.manager().stats();
    assert!((10..100).contains(&stats.cold_reads), "{stats:?}");
}

#[test]
fn prepared_transactions_write_over_what_is_cold() {
    let folder = folder("prepared");
    let path = folder.join("db");
    let mut stored = open(&path, 1);
    fill(stored.manager(), 100, 100);
    stored.checkpoint().unwrap();
    let id = |name: &str| GlobalId::new(name.as_bytes()).unwrap();
    for (round, commits) in [true, false, true, true].into_iter().enumerate() {
        let database = stored.manager();
        let round = round as i64;
        let id = id(&format!("round {round}"));
        let mut transaction = begin(database, SERIALIZABLE);
        check(&mut transaction, 50 + round, 100);
        transaction.append(format!("{round:06}").as_bytes(), batch(&[-1, -2])).unwrap();
        transaction.put(format!("{:06}", 10 + round).as_bytes(), batch(&[7])).unwrap();
        transaction.delete(format!("{:06}", 20 + round).as_bytes()).unwrap();
        let vote = database.prepare(&mut transaction, &id, PrepareOptions::default()).unwrap();
        assert_eq!(vote, Vote::Yes);
        drop(transaction);
        stored.checkpoint().unwrap();
        if round > 1 {
            drop(stored);
            stored = open(&path, 1);
        }
        let database = stored.manager();
        assert_eq!(database.stats().resident_bytes, 0, "all but what is in doubt is in the checkpoint");
        let reads = database.stats().cold_reads;
        if commits {
            database.commit(&id).unwrap();
        } else {
            database.rollback(&id).unwrap();
        }
        assert_eq!(database.stats().cold_reads, reads, "deciding reads nothing");
        for again in [false, true] {
            if again {
                stored.checkpoint().unwrap();
            }
            let mut reader = begin(stored.manager(), SERIALIZABLE);
            let rows = [vec![round; 100], if commits { vec![-1, -2] } else { vec![] }].concat();
            assert_eq!(get_rows(&mut reader, &format!("{round:06}")), Some(rows));
            let put = if commits { vec![7] } else { vec![10 + round; 100] };
            assert_eq!(get_rows(&mut reader, &format!("{:06}", 10 + round)), Some(put));
            assert_eq!(reader.exists(format!("{:06}", 20 + round).as_bytes()), Ok(!commits));
        }
    }
}

#[test]
fn opening_reads_no_value_that_does_not_stay() {
    let folder = folder("large");
    let path = folder.join("db");
    let stored = open(&path, 1 << 20);
    fill(stored.manager(), 8, 50_000);
    stored.checkpoint().unwrap();
    drop(stored);
    let stored = open(&path, 1 << 20);
    let stats = stored.manager().stats();
    assert_eq!((stats.cold_reads, stats.resident_bytes), (0, 0), "{stats:?}");
}

/// Waits for the thread that makes checkpoints.
#[track_caller]
fn assert_becomes(mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("it stays as it is");
}

#[test]
fn what_the_log_has_beyond_the_budget_goes_without_a_commit() {
    let folder = folder("log");
    let path = folder.join("db");
    let stored = open(&path, 0);
    fill(stored.manager(), 300, 8192);
    drop(stored);
    let stored = open(&path, 1 << 20);
    assert_becomes(|| stored.manager().stats().resident_bytes <= 1 << 20);
}

#[test]
fn memory_is_given_back_though_a_checkpoint_fails_in_the_end() {
    let folder = folder("half-way");
    let path = folder.join("db");
    let stored = open(&path, 1);
    let database = stored.manager();
    fill(database, 200, 100);
    stored.checkpoint().unwrap();
    fill(database, 200, 50);
    // The old checkpoint cannot be renamed, and so not be removed.
    let old = checkpoint_file(&path).parent().unwrap().to_path_buf();
    let in_the_way = old.with_extension("tmp");
    fs::create_dir(&in_the_way).unwrap();
    fs::write(in_the_way.join("file"), "").unwrap();
    assert!(matches!(stored.checkpoint(), Err(Error::Storage(_))));
    assert_eq!(database.stats().resident_bytes, 0);
    check(&mut begin(database, SERIALIZABLE), 7, 50);
    fs::remove_dir_all(&in_the_way).unwrap();
    stored.checkpoint().unwrap();
    assert!(!old.exists());
    // What another attempt has left under the name of the next one is not in its way.
    let mut transaction = begin(database, SERIALIZABLE);
    transaction.put(b"more", batch(&[1])).unwrap();
    let version = transaction.commit().unwrap();
    let left = path.join(format!("checkpoint-{version:020}"));
    fs::create_dir(&left).unwrap();
    fs::write(left.join("0.arrows"), "of a checkpoint whose directory could not be synced").unwrap();
    stored.checkpoint().unwrap();
    drop(stored);
    check(&mut begin(open(&path, 1).manager(), SERIALIZABLE), 7, 50);
}
