//! Versions, bytes and keys go when nobody can see them any more. Live chunks are counted, not only what stats say.

mod common;

use std::collections::BTreeMap;

use common::counted::{Counted, Maker, assert_living};
use common::{LEVELS, Random, at, read_only};
use khonsu::stm::IsolationLevel::{ReadCommitted, RepeatableRead, Serializable};
use khonsu::stm::{
    ConflictResolution, Cursor, Direction, GlobalId, KeyRange, Options, Stats, Transaction, TransactionManager,
    TransactionOptions,
};
use khonsu::two_phase_commit::{PrepareOptions, TwoPhaseCommitParticipant};

type Database = TransactionManager<Counted>;

fn open() -> (Database, Maker) {
    (Database::new(Options::default()), Maker::default())
}

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn put(database: &Database, number: u64, chunk: Counted) {
    database.transact(&at(ReadCommitted), |transaction| transaction.put(&key(number), chunk.clone())).unwrap();
}

fn delete(database: &Database, number: u64) {
    database.transact(&at(ReadCommitted), |transaction| transaction.delete(&key(number))).unwrap();
}

fn append(database: &Database, number: u64, chunk: Counted) {
    database.transact(&at(ReadCommitted), |transaction| transaction.append(&key(number), chunk.clone())).unwrap();
}

fn number_at(transaction: &mut Transaction<Counted>, number: u64) -> Option<u64> {
    transaction.get(&key(number)).unwrap().map(|value| value.newest().number())
}

fn sizes(stats: &Stats) -> (u64, u64, u64) {
    (stats.keys, stats.versions, stats.live_bytes)
}

/// The slot in which much was superseded may be left to itself from then on.
#[test]
fn what_is_large_is_reclaimed_by_whoever_superseded_it() {
    const KEYS: u64 = 20;
    let (database, small) = open();
    let large = Maker::default();
    (0..KEYS).for_each(|number| put(&database, number, large.sized(number, 1 << 20)));
    assert_eq!(large.living(), KEYS as usize);
    std::thread::scope(|scope| {
        let (begun, other_begun) = std::sync::mpsc::channel();
        let (go, gone) = std::sync::mpsc::channel();
        let here = database.begin(&at(Serializable));
        let database = &database;
        let other = scope.spawn(move || {
            let mut there = database.begin(&at(Serializable));
            begun.send(()).unwrap();
            gone.recv().unwrap();
            (0..KEYS).for_each(|number| there.delete(&key(number)).unwrap());
            there.commit().unwrap();
        });
        other_begun.recv().unwrap();
        drop(here);
        go.send(()).unwrap();
        other.join().unwrap();
    });
    (0..1000).for_each(|round| put(&database, KEYS + round % 4, small.sized(round, 8)));
    assert_eq!(large.living(), 0);
}

#[test]
fn churn_returns_to_the_floor() {
    const KEYS: u64 = 20;
    let (database, maker) = open();
    let mut random = Random::new(1);
    let mut most = 0;
    for round in 0..20_000 {
        let number = random.below(KEYS);
        match random.below(4) {
            0 => delete(&database, number),
            _ => put(&database, number, maker.sized(round, 1 + random.below(100))),
        }
        most = most.max(maker.living());
    }
    // All the time, not only when asked to: nowhere near the 15,000 that were made.
    assert!(most < 3000, "{most} lived at once");
    for number in 0..KEYS {
        put(&database, number, maker.sized(number, 10));
    }
    assert_eq!(sizes(&database.stats()), (KEYS, KEYS, 10 * KEYS));
    assert_living(&database, &maker, KEYS as usize);
    for number in 0..KEYS {
        delete(&database, number);
    }
    assert_eq!(sizes(&database.stats()), (0, 0, 0));
    assert_living(&database, &maker, 0);
}

#[test]
fn churn_by_several_threads_returns_to_the_floor() {
    const KEYS: u64 = 16;
    const THREADS: u64 = 4;
    let (database, maker) = open();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (database, maker) = (&database, &maker);
            scope.spawn(move || {
                let mut random = Random::new(thread);
                for round in 0..4000 {
                    let number = random.below(KEYS);
                    match random.below(4) {
                        0 => delete(database, number),
                        1 => append(database, number, maker.chunk(round)),
                        2 => put(database, number, maker.chunk(round)),
                        _ => {
                            let mut transaction = database.begin(&at(LEVELS[random.below(3) as usize]));
                            let found = transaction.scan(KeyRange::all(), Direction::Forward, None).unwrap();
                            transaction.put(&key(number), maker.chunk(round)).unwrap();
                            // Sometimes it fails, sometimes it is dropped.
                            if (found.len() as u64).is_multiple_of(2) {
                                _ = transaction.commit();
                            }
                        }
                    }
                }
            });
        }
    });
    for number in 0..KEYS {
        put(&database, number, maker.chunk(number));
    }
    assert_eq!(sizes(&database.stats()), (KEYS, KEYS, 8 * KEYS));
    for number in 0..KEYS {
        delete(&database, number);
    }
    let stats = database.stats();
    assert_eq!(sizes(&stats), (0, 0, 0));
    assert_eq!((stats.active_transactions, stats.oldest_snapshot), (0, stats.version));
    drop(database);
    assert_eq!(maker.living(), 0);
}

#[test]
fn a_hot_key_under_a_long_reader_stays_small() {
    for options in [read_only(Serializable), at(Serializable), at(RepeatableRead)] {
        let (database, maker) = open();
        for number in 0..3 {
            put(&database, number, maker.chunk(0));
        }
        let mut reader = database.begin(&options);
        assert_eq!(number_at(&mut reader, 0), Some(0));
        let mut most = 0;
        for round in 1..=5000 {
            put(&database, 0, maker.chunk(round));
            most = most.max(maker.living());
        }
        assert!(most < 2000, "{most} lived at once");
        // What the reader sees, and the newest.
        assert_eq!(sizes(&database.stats()), (3, 4, 32));
        assert_living(&database, &maker, 4);
        for number in 0..3 {
            assert_eq!(number_at(&mut reader, number), Some(0));
        }
        drop(reader);
        assert_eq!(sizes(&database.stats()), (3, 3, 24));
        assert_living(&database, &maker, 3);
    }
}

#[test]
fn read_committed_holds_nothing_between_its_calls() {
    let (database, maker) = open();
    put(&database, 0, maker.chunk(0));
    let mut reader = database.begin(&at(ReadCommitted));
    assert_eq!(number_at(&mut reader, 0), Some(0));
    for round in 1..=500 {
        put(&database, 0, maker.chunk(round));
    }
    assert_eq!(database.stats().versions, 1);
    assert_eq!(number_at(&mut reader, 0), Some(500));

    // A cursor does: it goes on in the state in which it was opened, also when its transaction has ended or is gone.
    put(&database, 1, maker.chunk(500));
    let mut cursor = reader.open_cursor(KeyRange::all(), Direction::Forward, None).unwrap();
    for round in 501..=600 {
        put(&database, 0, maker.chunk(round));
        put(&database, 1, maker.chunk(round));
    }
    assert_eq!(database.stats().versions, 4);
    while cursor.next(&mut reader).unwrap() {
        assert_eq!(cursor.value().unwrap().newest().number(), 500);
    }
    drop(reader);
    drop(cursor);
    let stats = database.stats();
    assert_eq!((stats.versions, stats.active_transactions), (2, 0));
    assert_living(&database, &maker, 2);
}

#[test]
fn versions_between_two_snapshots_go() {
    let (database, maker) = open();
    let mut readers = Vec::new();
    for snapshot in 0..5 {
        for round in 0..100 {
            put(&database, 0, maker.chunk(100 * snapshot + round));
        }
        readers.push(database.begin(&read_only(Serializable)));
    }
    for round in 0..100 {
        put(&database, 0, maker.chunk(1000 + round));
    }
    assert_eq!(database.stats().versions, 6);
    assert_living(&database, &maker, 6);
    // In the middle first: what is left is what the others see.
    for (left, number) in [(5, 2), (4, 0), (3, 4)] {
        let reader = &mut readers[number];
        assert_eq!(number_at(reader, 0), Some(100 * number as u64 + 99));
        reader.rollback().unwrap();
        assert_eq!(database.stats().versions, left);
    }
    assert_eq!(number_at(&mut readers[1], 0), Some(199));
    assert_eq!(number_at(&mut readers[3], 0), Some(399));
    readers.clear();
    assert_eq!(database.stats().versions, 1);
    assert_living(&database, &maker, 1);
}

/// Holds a snapshot, by itself or by a cursor, and knows what it must see.
struct Holder {
    transaction: Transaction<Counted>,
    cursor: Option<Cursor<Counted>>,
    expected: BTreeMap<u64, u64>,
}

impl Holder {
    fn new(database: &Database, random: &mut Random, expected: BTreeMap<u64, u64>) -> Self {
        let level = LEVELS[random.below(3) as usize];
        let mut transaction = database.begin(&TransactionOptions { read_only: random.below(2) == 0, ..at(level) });
        // At read committed only a cursor holds anything.
        let with_cursor = level == ReadCommitted || random.below(2) == 0;
        let cursor = with_cursor.then(|| transaction.open_cursor(KeyRange::all(), Direction::Reverse, None).unwrap());
        Holder { transaction, cursor, expected }
    }

    fn check(mut self, keys: u64) {
        let mut seen = BTreeMap::new();
        match self.cursor {
            Some(mut cursor) => {
                while cursor.next(&mut self.transaction).unwrap() {
                    let (key, value) = cursor.entry().unwrap();
                    seen.insert(u64::from_be_bytes(key.try_into().unwrap()), value.newest().number());
                }
            }
            None => {
                let numbers = (0..keys).map(|number| (number, number_at(&mut self.transaction, number)));
                seen.extend(numbers.filter_map(|(number, found)| Some((number, found?))));
            }
        }
        assert_eq!(seen, self.expected);
    }
}

#[test]
fn hot_keys_cost_one_version_a_snapshot() {
    const KEYS: u64 = 3;
    const HOLDERS: usize = 6;
    let (database, maker) = open();
    let mut random = Random::new(7);
    let mut holders: Vec<Holder> = Vec::new();
    let mut state = BTreeMap::new();
    let mut most = 0;
    for round in 0..12_000 {
        let number = random.below(KEYS);
        if random.below(4) == 0 {
            delete(&database, number);
            state.remove(&number);
        } else {
            put(&database, number, maker.chunk(round));
            state.insert(number, round);
        }
        most = most.max(maker.living());
        if round % 50 == 0 {
            // Somebody comes, somebody goes, in any order.
            if holders.len() == HOLDERS {
                holders.swap_remove(random.below(HOLDERS as u64) as usize).check(KEYS);
            }
            holders.push(Holder::new(&database, &mut random, state.clone()));
        }
        if round % 500 == 0 {
            let stats = database.stats();
            let bound = KEYS * (holders.len() as u64 + 1);
            assert!(stats.versions <= bound && stats.live_bytes <= 8 * bound, "{stats:?}");
        }
    }
    // All the time, not only when asked to: nowhere near the 9,000 that were made.
    assert!(most < 2000, "{most} lived at once");
    holders.into_iter().for_each(|holder| holder.check(KEYS));
    let keys = state.len() as u64;
    assert_eq!(sizes(&database.stats()), (keys, keys, 8 * keys));
    assert_living(&database, &maker, state.len());
}

/// Several threads write, and each leaves readers behind that stay for long.
#[test]
fn churn_under_long_readers_returns_to_the_floor() {
    const KEYS: u64 = 24;
    const THREADS: u64 = 3;
    let (database, maker) = open();
    let left_behind: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (database, maker) = (&database, &maker);
                scope.spawn(move || {
                    let mut random = Random::new(thread);
                    let mut readers = Vec::new();
                    for round in 0..3000 {
                        let number = random.below(KEYS);
                        match random.below(5) {
                            0 => delete(database, number),
                            1 => append(database, number, maker.chunk(round)),
                            _ => put(database, number, maker.chunk(round)),
                        }
                        if round % 300 == 0 {
                            let mut reader = database.begin(&at(LEVELS[random.below(3) as usize]));
                            let mut cursor = reader.open_cursor(KeyRange::all(), Direction::Forward, None).unwrap();
                            _ = cursor.next(&mut reader).unwrap();
                            readers.push((reader, cursor));
                        }
                    }
                    readers
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    // A snapshot of each reader's own, and one of each cursor's at read committed; a tombstone more may have to stay.
    let holders = left_behind.len() as u64;
    let stats = database.stats();
    assert!(stats.keys <= KEYS && stats.versions <= KEYS * (holders + 1), "{stats:?}");
    for number in 0..KEYS {
        delete(&database, number);
    }
    assert_eq!(database.stats().keys, KEYS, "they are still seen");
    // The cursors go on, whoever goes first.
    for (number, (mut reader, mut cursor)) in left_behind.into_iter().enumerate() {
        while cursor.next(&mut reader).unwrap() {}
        if number % 2 == 0 {
            drop(reader);
            drop(cursor);
        }
    }
    assert_eq!(sizes(&database.stats()), (0, 0, 0));
    assert_living(&database, &maker, 0);
}

#[test]
fn deleted_keys_leave_when_the_last_snapshot_does() {
    let (database, maker) = open();
    for number in 0..10 {
        put(&database, number, maker.chunk(number));
    }
    let mut reader = database.begin(&read_only(RepeatableRead));
    for number in 0..10 {
        delete(&database, number);
    }
    let stats = database.stats();
    assert_eq!((stats.keys, stats.live_bytes), (10, 80));
    assert_eq!(reader.scan(KeyRange::all(), Direction::Reverse, None).unwrap().len(), 10);
    // Those that came later see nothing, and hold nothing of it.
    let mut later = database.begin(&read_only(RepeatableRead));
    assert_eq!(later.scan(KeyRange::all(), Direction::Forward, None).unwrap().len(), 0);
    reader.commit().unwrap();
    assert_eq!(sizes(&database.stats()), (0, 0, 0));
    assert_living(&database, &maker, 0);
    assert_eq!(number_at(&mut later, 3), None);
    // And they come back.
    put(&database, 3, maker.chunk(33));
    assert_eq!(number_at(&mut later, 3), None);
    assert_eq!(number_at(&mut database.begin(&read_only(RepeatableRead)), 3), Some(33));
    drop(later);
    assert_eq!(sizes(&database.stats()), (1, 1, 8));
}

#[test]
fn deletes_of_absent_keys_leave_no_key() {
    let (database, _) = open();
    for round in 0..500 {
        delete(&database, round);
    }
    let stats = database.stats();
    assert_eq!((sizes(&stats), stats.version), ((0, 0, 0), 500));
}

#[test]
fn what_aborts_leaves_no_key() {
    let (database, maker) = open();
    put(&database, 0, maker.chunk(0));
    for (round, level) in (1..=300).zip(LEVELS.into_iter().cycle()) {
        // By a conflict of a write, or by certification; the rest is new keys on both sides of the one that fails.
        let mut transaction = database.begin(&at(level));
        for number in 1..20 {
            transaction.put(&key(100 * round + number), maker.chunk(round)).unwrap();
            transaction.put(&[&key(0)[..], &key(100 * round + number)].concat(), maker.chunk(round)).unwrap();
        }
        if level == Serializable && round % 2 == 0 {
            assert!(number_at(&mut transaction, 0).is_some());
        } else {
            transaction.put(&key(0), maker.chunk(round)).unwrap();
        }
        // It reads what the first one writes, so that neither can come before the other.
        let overtaking = |writer: &mut Transaction<Counted>| {
            assert!(!writer.exists(&key(100 * round + 1))?);
            writer.put(&key(0), maker.chunk(round))
        };
        database.transact(&at(Serializable), overtaking).unwrap();
        assert!(transaction.commit().is_err());
        // Rolled back, and dropped.
        for dropped in [false, true] {
            let mut transaction = database.begin(&at(level));
            transaction.append(&key(100 * round), maker.chunk(round)).unwrap();
            transaction.delete(&key(100 * round + 1)).unwrap();
            if !dropped {
                transaction.rollback().unwrap();
            }
        }
        if round % 50 == 0 {
            assert_eq!(sizes(&database.stats()), (1, 1, 8));
        }
    }
    assert_eq!(sizes(&database.stats()), (1, 1, 8));
    drop(database);
    assert_eq!(maker.living(), 0);
}

/// What stats no longer count must not live on because the transaction that replaced it was the last one of its kind.
#[test]
fn values_go_also_where_whoever_replaced_them_is_idle() {
    const OPEN: u64 = 12;
    let (database, maker) = open();
    let options = TransactionOptions { conflict_resolution: Some(ConflictResolution::Replace), ..at(Serializable) };
    // Several at once, so that each has a context of its own.
    for round in 0..100 {
        let mut writers: Vec<_> = (0..OPEN).map(|_| database.begin(&options)).collect();
        for writer in &mut writers {
            writer.put(&key(0), maker.sized(round, 1 << 30)).unwrap();
        }
        for mut writer in writers {
            writer.commit().unwrap();
        }
    }
    assert_eq!(sizes(&database.stats()), (1, 1, 1 << 30));
    assert_living(&database, &maker, 1);
}

#[test]
fn bytes_that_appends_share_are_counted_once() {
    let (database, maker) = open();
    let mut readers = Vec::new();
    for round in 1..=100 {
        append(&database, 0, maker.sized(round, 10));
        if round % 10 == 0 {
            readers.push(database.begin(&read_only(Serializable)));
        }
        let stats = database.stats();
        assert_eq!(stats.live_bytes, 10 * round, "round {round}");
    }
    // Ten snapshots, the last of which sees the newest.
    let stats = database.stats();
    assert_eq!((stats.versions, stats.live_bytes), (10, 1000));
    // Some in the middle, the oldest, the newest.
    for (left, number) in [(9, 4), (8, 5), (7, 0), (7, 9)] {
        assert_eq!(readers[number].get(&key(0)).unwrap().unwrap().rows(), 10 * (number as u64 + 1));
        readers[number].rollback().unwrap();
        let stats = database.stats();
        assert_eq!((stats.versions, stats.live_bytes), (left, 1000), "without reader {number}");
    }
    // A put shares nothing; what the snapshots see of the rows before stays: the newest of them has 90.
    put(&database, 0, maker.sized(0, 3));
    let stats = database.stats();
    assert_eq!((stats.versions, stats.live_bytes), (7, 903));
    append(&database, 0, maker.sized(0, 4));
    assert_eq!(database.stats().live_bytes, 907);
    // From the newest back: each takes along the ten rows that only it had seen.
    for (number, left) in [(8, 80), (7, 70), (6, 40), (3, 30), (2, 20), (1, 0)] {
        readers[number].rollback().unwrap();
        assert_eq!(database.stats().live_bytes, 10 * left + 7, "without reader {number}");
    }
    assert_eq!(database.stats().versions, 1);
    assert_living(&database, &maker, 2);
    delete(&database, 0);
    assert_eq!(sizes(&database.stats()), (0, 0, 0));
    assert_living(&database, &maker, 0);
}

#[test]
fn bytes_are_counted_by_the_strategies_too() {
    let (database, maker) = open();
    for (resolution, expected) in
        [(ConflictResolution::Ignore, 20), (ConflictResolution::Replace, 50), (ConflictResolution::Append, 70)]
    {
        put(&database, 0, maker.sized(0, 10));
        let options = TransactionOptions { conflict_resolution: Some(resolution), ..at(Serializable) };
        let mut transaction = database.begin(&options);
        transaction.put(&key(0), maker.sized(0, 50)).unwrap();
        put(&database, 0, maker.sized(0, 20));
        transaction.commit().unwrap();
        assert_eq!(sizes(&database.stats()), (1, 1, expected), "{resolution:?}");
    }
    assert_living(&database, &maker, 2);
}

#[test]
fn garbage_does_not_outgrow_what_is_freed() {
    const KEYS: u64 = 100;
    let (database, maker) = open();
    for round in 0..1_000 {
        let mut transaction = database.begin(&at(Serializable));
        (0..KEYS).for_each(|number| transaction.put(&key(number), maker.chunk(round)).unwrap());
        transaction.commit().unwrap();
        assert!(maker.living() < 40 * KEYS as usize, "{} in round {round}", maker.living());
    }
    assert_living(&database, &maker, KEYS as usize);
}

/// What was held, and what was to be written, is freed as fast as it comes, whatever the end.
#[test]
fn garbage_of_prepared_transactions_does_not_outgrow_what_is_freed() {
    const KEYS: u64 = 1_000;
    const VOLATILE: PrepareOptions = PrepareOptions { allow_volatile: true, hold_reads: false };
    let id = GlobalId::new(b"one").unwrap();
    let keys: Vec<_> = (1..=KEYS).map(key).collect();
    for ends_by_commit in [false, true] {
        let (database, maker) = open();
        for round in 0..120 {
            let mut transaction = database.begin(&at(Serializable));
            if ends_by_commit {
                transaction.get_many(&keys).unwrap();
                transaction.put(&key(0), maker.chunk(round)).unwrap();
            } else {
                keys.iter().for_each(|key| transaction.put(key, maker.chunk(round)).unwrap());
            }
            let most = if ends_by_commit { 100 } else { 40 * KEYS as usize };
            database.prepare(&mut transaction, &id, VOLATILE).unwrap();
            drop(transaction);
            match ends_by_commit {
                true => drop(database.commit(&id).unwrap()),
                false => database.rollback(&id).unwrap(),
            }
            database.forget(&id).unwrap();
            assert!(maker.living() < most, "{} in round {round}, commit: {ends_by_commit}", maker.living());
        }
        assert_living(&database, &maker, usize::from(ends_by_commit));
    }
}

#[test]
fn a_large_delete_is_freed_at_once() {
    const KEYS: u64 = 20_000;
    let (database, maker) = open();
    let mut transaction = database.begin(&at(Serializable));
    (0..KEYS).for_each(|number| transaction.put(&key(number), maker.chunk(number)).unwrap());
    transaction.commit().unwrap();
    let mut transaction = database.begin(&at(Serializable));
    (0..KEYS).for_each(|number| transaction.delete(&key(number)).unwrap());
    transaction.commit().unwrap();
    let stats = database.stats();
    assert_eq!((sizes(&stats), maker.living()), ((0, 0, 0), 0));
}

#[test]
fn staged_values_go_with_their_transaction() {
    let (database, maker) = open();
    let mut transaction = database.begin(&at(Serializable));
    for number in 0..50 {
        transaction.put(&key(number), maker.chunk(number)).unwrap();
    }
    assert_eq!((maker.living(), sizes(&database.stats())), (50, (0, 0, 0)));
    // Replaced, and rolled back to: gone at once where no savepoint needs them.
    transaction.put(&key(0), maker.chunk(0)).unwrap();
    assert_eq!(maker.living(), 50);
    let savepoint = transaction.savepoint().unwrap();
    transaction.put(&key(0), maker.chunk(1)).unwrap();
    assert_eq!(maker.living(), 51);
    transaction.rollback_to(savepoint).unwrap();
    assert_eq!(maker.living(), 50);
    drop(transaction);
    assert_eq!(maker.living(), 0);

    // A conflict gives them up, too.
    let mut transaction = database.begin(&at(Serializable));
    transaction.put(&key(0), maker.chunk(0)).unwrap();
    delete(&database, 0);
    assert!(transaction.commit().is_err());
    assert_living(&database, &maker, 0);
}

#[test]
fn everything_goes_with_the_database() {
    let (database, maker) = open();
    for number in 0..200 {
        for round in 0..5 {
            append(&database, number, maker.chunk(round));
        }
    }
    for number in 0..50 {
        delete(&database, number);
    }
    let value = database.begin(&at(Serializable)).get(&key(150)).unwrap().unwrap();
    let mut reader = database.begin(&at(Serializable));
    put(&database, 60, maker.chunk(0));
    let mut writer = database.begin(&at(ReadCommitted));
    writer.put(&key(0), maker.chunk(0)).unwrap();
    let cursor = writer.open_cursor(KeyRange::all(), Direction::Forward, None).unwrap();
    let handle = database.clone();
    let elsewhere = std::thread::spawn(move || {
        put(&handle, 61, Maker::default().chunk(0));
        handle
    });
    drop(database);
    drop(elsewhere.join().unwrap());
    // Any of its transactions and cursors keeps it.
    assert_eq!(number_at(&mut reader, 60), Some(4));
    drop(reader);
    drop(writer);
    assert!(maker.living() >= 150 * 5);
    drop(cursor);
    // What was read stays with who has read it.
    assert_eq!(maker.living(), 5);
    assert_eq!(value.chunks().iter().map(|chunk| chunk.number()).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    drop(value);
    assert_eq!(maker.living(), 0);
}
