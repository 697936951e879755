//! What the dependency tracker lets through, and what it does not: one case for each of its rules.

mod common;

use common::{
    Batches, assert_conflict, at, begin, conflicts_of, database, delete, get, get_rows, overtake, put, read_only,
    resolving, scan_range, state, text_batch,
};
use khonsu::stm::IsolationLevel::{ReadCommitted, RepeatableRead, Serializable};
use khonsu::stm::{ConflictKind, ConflictResolution, Direction, Error, KeyRange, Transaction};

/// Commits a transaction that reads one key and writes another.
fn read_and_write(database: &Batches, read: &str, written: &str) -> u64 {
    let mut transaction = begin(database, Serializable);
    get(&mut transaction, read);
    put(&mut transaction, written, 9);
    transaction.commit().unwrap()
}

#[test]
fn a_stale_read_alone_is_no_reason_to_fail() {
    let database = database(&[("x", 0), ("range/a", 0)]);
    let mut transaction = begin(&database, Serializable);
    assert_eq!(get(&mut transaction, "x"), Some(0));
    assert_eq!(get(&mut transaction, "absent"), None);
    assert_eq!(scan_range(&mut transaction, KeyRange::prefix(b"range/")).len(), 1);
    read_and_write(&database, "elsewhere", "x");
    read_and_write(&database, "elsewhere", "absent");
    read_and_write(&database, "elsewhere", "range/b");
    put(&mut transaction, "out", 1);
    // It comes before all of them.
    transaction.commit().unwrap();
}

#[test]
fn who_is_read_by_what_is_overwritten_comes_first() {
    // The one that overtakes has read the key as a value, as absent, as deleted, or in a range that it lies in.
    for by in ["value", "absent", "deleted", "range"] {
        let database = database(&[("x", 0)]);
        let mut transaction = begin(&database, Serializable);
        get(&mut transaction, "x");
        match by {
            "value" => _ = overtake(&database, &[("out", 0)]),
            "deleted" => {
                overtake(&database, &[("out", 0)]);
                let mut other = begin(&database, Serializable);
                delete(&mut other, "out");
                other.commit().unwrap();
            }
            _ => {}
        }
        let mut other = begin(&database, Serializable);
        match by {
            "range" => _ = scan_range(&mut other, KeyRange::prefix(b"o")),
            _ => assert_eq!(get(&mut other, "out").is_some(), by == "value"),
        }
        put(&mut other, "x", 1);
        other.commit().unwrap();
        // Not a conflict of the write itself: what it would have to come after is the reader.
        put(&mut transaction, "out", 1);
        transaction.set_conflict_resolution(b"out", ConflictResolution::Replace).unwrap();
        assert_eq!(assert_conflict(transaction.commit(), ConflictKind::ReadWrite), ["x"], "{by}");
    }
}

#[test]
fn whose_write_is_overwritten_comes_first() {
    for resolution in [ConflictResolution::Replace, ConflictResolution::Append, ConflictResolution::Ignore] {
        let database = database(&[("x", 0), ("out", 0)]);
        let mut transaction = database.begin(&resolving(Serializable, resolution));
        get(&mut transaction, "x");
        put(&mut transaction, "out", 1);
        put(&mut transaction, "other", 1);
        overtake(&database, &[("x", 1), ("out", 5)]);
        match resolution {
            // What is ignored is as if it had never been.
            ConflictResolution::Ignore => _ = transaction.commit().unwrap(),
            _ => assert_eq!(assert_conflict(transaction.commit(), ConflictKind::ReadWrite), ["x"]),
        }
    }
}

#[test]
fn the_order_respects_real_time() {
    let database = database(&[("x", 0), ("y", 0)]);
    let mut early = begin(&database, Serializable);
    get(&mut early, "y");
    // It has ended when the next one begins.
    read_and_write(&database, "elsewhere", "y");
    let mut late = begin(&database, Serializable);
    get(&mut late, "x");
    // The early one comes before the one that has ended, and the late one would come before the early one.
    put(&mut early, "x", 1);
    early.commit().unwrap();
    put(&mut late, "out", 1);
    assert_eq!(assert_conflict(late.commit(), ConflictKind::ReadWrite), ["x"]);
}

/// Fekete, O'Neil and O'Neil ("A read-only transaction anomaly under snapshot isolation", SIGMOD Record 33(3), 2004).
#[test]
fn the_read_only_anomaly_is_prevented() {
    for (declared, reader_first) in [(true, true), (false, true), (false, false)] {
        let database = database(&[("x", 0), ("y", 0)]);
        let mut withdrawal = begin(&database, Serializable);
        get(&mut withdrawal, "x");
        get(&mut withdrawal, "y");
        read_and_write(&database, "y", "y");
        let mut report = match declared {
            true => database.begin(&read_only(Serializable)),
            false => begin(&database, Serializable),
        };
        assert_eq!((get(&mut report, "x"), get(&mut report, "y")), (Some(0), Some(9)));
        put(&mut withdrawal, "x", -11);
        if reader_first {
            report.commit().unwrap();
            assert_eq!(assert_conflict(withdrawal.commit(), ConflictKind::ReadWrite), ["y"]);
        } else {
            withdrawal.commit().unwrap();
            assert_eq!(assert_conflict(report.commit(), ConflictKind::ReadWrite), ["x"]);
        }
    }
}

#[test]
fn who_changes_nothing_has_its_place_at_its_snapshot() {
    // As above, but what it writes is ignored.
    let database = database(&[("x", 0), ("y", 0), ("z", 0)]);
    let mut withdrawal = begin(&database, Serializable);
    get(&mut withdrawal, "y");
    read_and_write(&database, "y", "y");
    let mut report = database.begin(&resolving(Serializable, ConflictResolution::Ignore));
    assert_eq!((get(&mut report, "x"), get(&mut report, "y")), (Some(0), Some(9)));
    put(&mut report, "z", 1);
    overtake(&database, &[("z", 2)]);
    report.commit().unwrap();
    put(&mut withdrawal, "x", -11);
    assert_eq!(assert_conflict(withdrawal.commit(), ConflictKind::ReadWrite), ["y"]);
    assert_eq!(state(&database).last().unwrap().1, 2);
}

#[test]
fn declared_read_only_none_ever_fails() {
    let database = database(&[("x", 0), ("y", 0)]);
    let mut early = begin(&database, Serializable);
    get(&mut early, "y");
    let mut before = database.begin(&read_only(Serializable));
    get(&mut before, "x");
    read_and_write(&database, "elsewhere", "y");
    put(&mut early, "x", 1);
    // The reader comes before both.
    early.commit().unwrap();
    assert_eq!(get(&mut before, "y"), Some(0));
    before.commit().unwrap();
}

/// Of the versions between a snapshot and the newest, the oldest says who must come later.
#[test]
fn what_trimming_unlinks_leaves_its_watermark() {
    for first_is_low in [false, true] {
        let database = database(&[("x", 0), ("y", 0), ("z", 0)]);
        let mut low = begin(&database, Serializable);
        get(&mut low, "y");
        read_and_write(&database, "elsewhere", "y");
        let mut transaction = begin(&database, Serializable);
        get(&mut transaction, "x");
        // Two overwrite x, one of which must come before what the transaction has seen.
        if !first_is_low {
            overtake(&database, &[("x", 1)]);
        }
        put(&mut low, "x", 2);
        low.set_conflict_resolution(b"x", ConflictResolution::Replace).unwrap();
        let low = low.commit();
        if first_is_low {
            low.unwrap();
            overtake(&database, &[("x", 1)]);
        } else {
            // It writes over what was committed after that, and so has another one before it.
            conflicts_of(low);
            overtake(&database, &[("x", 2)]);
        }
        for number in 0..50 {
            overtake(&database, &[("x", number)]);
        }
        assert!(database.stats().versions <= 6, "the versions between were unlinked");
        put(&mut transaction, "out", 1);
        match first_is_low {
            true => assert_eq!(assert_conflict(transaction.commit(), ConflictKind::ReadWrite), ["x"]),
            false => _ = transaction.commit().unwrap(),
        }
    }
}

#[test]
fn readers_of_keys_that_died_and_came_back_are_remembered() {
    let database = database(&[("x", 0), ("out", 0)]);
    let mut transaction = begin(&database, Serializable);
    let mut other = begin(&database, Serializable);
    delete(&mut other, "out");
    other.commit().unwrap();
    drop(transaction);
    transaction = begin(&database, Serializable);
    get(&mut transaction, "x");
    // The record dies, with what was left on it.
    assert_eq!(database.stats().keys, 1);
    read_and_write(&database, "out", "x");
    put(&mut transaction, "out", 1);
    assert_eq!(assert_conflict(transaction.commit(), ConflictKind::ReadWrite), ["x"]);
}

#[test]
fn scans_that_were_forgotten_count_as_of_everything() {
    for scans in [10, 3000] {
        let database = database(&[("x", 0)]);
        let mut transaction = begin(&database, Serializable);
        get(&mut transaction, "x");
        overtake(&database, &[("x", 1)]);
        for number in 0..scans {
            let mut scanner = begin(&database, Serializable);
            scan_range(&mut scanner, KeyRange::prefix(b"far/"));
            put(&mut scanner, "elsewhere", number);
            scanner.commit().unwrap();
        }
        put(&mut transaction, "out", 1);
        match scans {
            10 => _ = transaction.commit().unwrap(),
            _ => assert_eq!(assert_conflict(transaction.commit(), ConflictKind::ReadWrite), ["x"]),
        }
    }
}

#[test]
fn lower_levels_leave_no_trace_but_their_writes() {
    for level in [ReadCommitted, RepeatableRead] {
        let database = database(&[("x", 0)]);
        let mut transaction = begin(&database, Serializable);
        get(&mut transaction, "x");
        let mut other = begin(&database, level);
        get(&mut other, "out");
        put(&mut other, "x", 1);
        other.commit().unwrap();
        put(&mut transaction, "out", 1);
        // Were the other one serializable, this would be write skew.
        transaction.commit().unwrap();
    }
}

#[test]
fn what_was_undone_is_no_write_and_what_was_read_stays_read() {
    let database = database(&[("x", 0), ("y", 0)]);
    let mut transaction = begin(&database, Serializable);
    let savepoint = transaction.savepoint().unwrap();
    put(&mut transaction, "y", 1);
    assert_eq!(get(&mut transaction, "y"), Some(1));
    get(&mut transaction, "x");
    transaction.rollback_to(savepoint).unwrap();
    assert_eq!(get(&mut transaction, "y"), Some(0));
    put(&mut transaction, "out", 1);
    transaction.commit().unwrap();

    // The one above has left what it has read, y as well, which it first wrote and then read from the database.
    let mut skewed = begin(&database, Serializable);
    get(&mut skewed, "out");
    let mut reader = begin(&database, Serializable);
    let savepoint = reader.savepoint().unwrap();
    put(&mut reader, "y", 1);
    get(&mut reader, "y");
    reader.rollback_to(savepoint).unwrap();
    get(&mut reader, "y");
    put(&mut reader, "out", 2);
    reader.commit().unwrap();
    put(&mut skewed, "y", 3);
    assert_eq!(assert_conflict(skewed.commit(), ConflictKind::ReadWrite), ["out"]);
}

/// That rows do not fit those of a key tells what is there.
#[test]
fn what_a_cursor_fails_on_was_read() {
    let database = database(&[("k", 0)]);
    let mut transaction = begin(&database, Serializable);
    transaction.append(b"k", text_batch("other columns")).unwrap();
    let mut cursor = transaction.open_cursor(KeyRange::all(), Direction::Forward, None).unwrap();
    assert!(matches!(cursor.next(&mut transaction), Err(Error::SchemaMismatch(_))));
    put(&mut transaction, "out", 1);
    let mut other = begin(&database, Serializable);
    get(&mut other, "out");
    delete(&mut other, "k");
    other.commit().unwrap();
    assert_eq!(assert_conflict(transaction.commit(), ConflictKind::WriteWrite), ["k"]);
}

/// Two that have read both keys and write one each: whichever is second must fail, also when it is certified by others.
#[test]
fn many_threads_never_withdraw_too_much() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 300;
    let database = database(&[("x", 0), ("y", 0)]);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let database = &database;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let own = if (thread + round) % 2 == 0 { "x" } else { "y" };
                    let step = |transaction: &mut Transaction<_>| {
                        let sum: i64 = ["x", "y"].iter().map(|key| get(transaction, key).unwrap()).sum();
                        assert!((0..=1).contains(&sum), "both were taken");
                        let mine = get_rows(transaction, own).unwrap()[0];
                        match (sum, mine) {
                            (0, _) => put(transaction, own, 1),
                            (_, 1) => put(transaction, own, 0),
                            _ => {}
                        }
                        Ok(())
                    };
                    database.transact(&at(Serializable), step).unwrap();
                }
            });
        }
    });
    let sum: i64 = state(&database).iter().map(|(_, number)| number).sum();
    assert!((0..=1).contains(&sum));
}

/// What is read through bound keys, or many at once, is certified as any read is: write skew is found, whether the key
/// had a value, or none, or came back under another record meanwhile.
#[test]
fn bound_keys_and_many_at_once_are_certified() {
    let database = database(&[("x", 1), ("y", 1)]);
    let bound = ["x", "y", "absent"].map(|key| database.bind(key.as_bytes()).unwrap());
    for many in [false, true] {
        for (read, written) in [(0, 1), (2, 1)] {
            for churn in [false, true] {
                if churn {
                    // The record that was bound is sealed, and the key comes back.
                    let key = bound[written].as_bytes();
                    for value in [None, Some(1)] {
                        let mut writer = begin(&database, Serializable);
                        match value {
                            None => writer.delete(key).unwrap(),
                            Some(number) => writer.put(key, common::batch(&[number])).unwrap(),
                        }
                        writer.commit().unwrap();
                        database.stats();
                    }
                }
                let mut one = begin(&database, Serializable);
                let mut other = begin(&database, Serializable);
                for transaction in [&mut one, &mut other] {
                    let found = match many {
                        true => transaction.get_many_bound(&[&bound[read], &bound[written]]).unwrap(),
                        false => [read, written].map(|key| transaction.get_bound(&bound[key]).unwrap()).to_vec(),
                    };
                    assert_eq!((found[0].is_some(), found[1].is_some()), (read != 2, true));
                }
                one.put_bound(&bound[read], common::batch(&[2])).unwrap();
                one.commit().unwrap();
                other.put_bound(&bound[written], common::batch(&[2])).unwrap();
                let kind = if read == 2 { ConflictKind::Phantom } else { ConflictKind::ReadWrite };
                let key = String::from_utf8(bound[read].as_bytes().to_vec()).unwrap();
                assert_eq!(assert_conflict(other.commit(), kind), [key]);
                let mut cleaner = begin(&database, Serializable);
                cleaner.delete_bound(&bound[2]).unwrap();
                cleaner.commit().unwrap();
                database.stats();
            }
        }
    }
}

/// A bound key that is written before it is read, rolled back, and read after it was overwritten.
#[test]
fn a_bound_write_that_is_taken_back_leaves_the_read() {
    let database = database(&[("x", 1)]);
    let bound = database.bind(b"x").unwrap();
    let mut transaction = begin(&database, Serializable);
    let savepoint = transaction.savepoint().unwrap();
    transaction.put_bound(&bound, common::batch(&[5])).unwrap();
    transaction.rollback_to(savepoint).unwrap();
    overtake(&database, &[("x", 2)]);
    assert_eq!(transaction.get_bound(&bound).unwrap().as_ref().map(common::rows), Some(vec![1]));
    let mut reader = begin(&database, Serializable);
    get(&mut reader, "y");
    put(&mut reader, "x", 3);
    reader.commit().unwrap();
    put(&mut transaction, "y", 1);
    assert_eq!(assert_conflict(transaction.commit(), ConflictKind::ReadWrite), ["x"]);
}

#[test]
fn a_key_of_another_database_is_refused() {
    let (one, other) = (database(&[("x", 1)]), database(&[("x", 2)]));
    let bound = one.bind(b"x").unwrap();
    let mut transaction = begin(&other, Serializable);
    assert!(matches!(transaction.get_bound(&bound), Err(Error::InvalidArgument(_))));
    assert!(matches!(transaction.put_bound(&bound, common::batch(&[1])), Err(Error::InvalidArgument(_))));
    let own = other.bind(b"x").unwrap();
    assert!(matches!(transaction.get_many_bound(&[&own, &bound]), Err(Error::InvalidArgument(_))));
    assert!(transaction.get_many(&[&b"x"[..], b""]).is_err());
    assert_eq!(transaction.commit().unwrap(), 1);
    assert!(matches!(one.bind(b""), Err(Error::InvalidArgument(_))));
    // The key keeps the memory of its database, and nothing else.
    drop(one);
    assert_eq!(bound.as_bytes(), b"x");
}
