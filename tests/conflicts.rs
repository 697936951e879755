//! Conflicts: when there is one, what it says, and what the strategies make of it. Also what fails without being one:
//! schemas and limits, and how transactions are rerun.

mod common;

use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arrow_array::RecordBatch;
use common::{
    BatchTransaction, Batches, LEVELS, RESOLUTIONS, append, assert_conflict, at, batch, begin, committed_rows,
    conflicts_of, database, database_with, delete, get, get_rows, named, overtake, overtake_having_read, put,
    read_only, resolving, scan_range, state, text_batch,
};
use khonsu::stm::IsolationLevel::{self, ReadCommitted, RepeatableRead, Serializable};
use khonsu::stm::{
    Chunk, Conflict, ConflictKind, ConflictResolution, Cursor, Direction, Error, KEY_MAX_BYTES, KeyRange, Options,
    RetryPolicy, TransactionManager, TransactionOptions, Value,
};

/// The kinds of write that a strategy decides about.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Write {
    Put,
    Append,
    Delete,
}

const WRITES: [Write; 3] = [Write::Put, Write::Append, Write::Delete];

fn write(transaction: &mut BatchTransaction, what: Write, key: &str) {
    match what {
        Write::Put => put(transaction, key, 2),
        Write::Append => append(transaction, key, 2),
        Write::Delete => delete(transaction, key),
    }
}

/// What must be under a key with the value 0, put to 1 by another, when `what` is resolved. `None`: it aborts.
fn resolved(what: Write, resolution: ConflictResolution) -> Option<Option<Vec<i64>>> {
    match (what, resolution) {
        // The operation never conflicts, so that no strategy applies.
        (Write::Append, _) | (Write::Put, ConflictResolution::Append) => Some(Some(vec![1, 2])),
        (_, ConflictResolution::Fail) | (Write::Delete, ConflictResolution::Append) => None,
        (_, ConflictResolution::Ignore) => Some(Some(vec![1])),
        (Write::Put, ConflictResolution::Replace) => Some(Some(vec![2])),
        (Write::Delete, ConflictResolution::Replace) => Some(None),
    }
}

#[test]
fn strategies_at_every_level_for_every_write() {
    for level in LEVELS {
        for what in WRITES {
            for resolution in RESOLUTIONS {
                let case = format!("{level:?} {what:?} {resolution:?}");
                let database = database(&[("k", 0)]);
                let mut transaction = database.begin(&resolving(level, resolution));
                put(&mut transaction, "other", 5);
                write(&mut transaction, what, "k");
                let version = overtake(&database, &[("k", 1)]);
                let committed = transaction.commit();
                match resolved(what, resolution) {
                    Some(rows) => {
                        assert!(committed.unwrap() > version, "{case}");
                        assert_eq!(committed_rows(&database, "k"), rows, "{case}");
                        assert_eq!(committed_rows(&database, "other"), Some(vec![5]), "the rest commits: {case}");
                    }
                    None => {
                        let expected = Conflict {
                            kind: ConflictKind::WriteWrite,
                            key: b"k".to_vec(),
                            range: None,
                            version,
                            holder: None,
                        };
                        assert_eq!(conflicts_of(committed), [expected], "{case}");
                        assert_eq!(state(&database), named(&[("k", 1)]), "nothing is applied: {case}");
                    }
                }
                assert!(!transaction.is_open(), "{case}");
            }
        }
    }
}

#[test]
fn without_a_conflict_no_strategy_applies() {
    for level in LEVELS {
        for resolution in RESOLUTIONS {
            let database = database(&[("k", 1), ("gone", 1)]);
            let mut transaction = database.begin(&resolving(level, resolution));
            put(&mut transaction, "k", 2);
            delete(&mut transaction, "gone");
            overtake(&database, &[("elsewhere", 3)]);
            transaction.commit().unwrap();
            assert_eq!(state(&database), named(&[("elsewhere", 3), ("k", 2)]), "{level:?} {resolution:?}");
        }
    }
}

#[test]
fn strategies_where_the_key_was_deleted_meanwhile() {
    for level in LEVELS {
        for what in WRITES {
            for resolution in RESOLUTIONS {
                let database = database(&[("k", 0)]);
                let mut transaction = database.begin(&resolving(level, resolution));
                write(&mut transaction, what, "k");
                let mut other = begin(&database, level);
                delete(&mut other, "k");
                other.commit().unwrap();
                let committed = transaction.commit();
                let expected = match (what, resolution) {
                    (Write::Append, _) => Some(vec![2]),
                    (Write::Put, ConflictResolution::Replace | ConflictResolution::Append) => Some(vec![2]),
                    (_, ConflictResolution::Ignore) | (Write::Delete, ConflictResolution::Replace) => None,
                    (_, ConflictResolution::Fail) | (Write::Delete, ConflictResolution::Append) => {
                        assert_eq!(assert_conflict(committed, ConflictKind::WriteWrite), ["k"]);
                        assert_eq!(committed_rows(&database, "k"), None);
                        continue;
                    }
                };
                committed.unwrap();
                assert_eq!(committed_rows(&database, "k"), expected, "{level:?} {what:?} {resolution:?}");
            }
        }
    }
}

/// Reclamation may run at any time, and must not decide what a conflict is.
#[test]
fn deletes_are_conflicts_also_after_they_were_reclaimed() {
    for level in LEVELS {
        for read in [false, true] {
            let database = database(&[("k", 0)]);
            let mut transaction = begin(&database, level);
            if read {
                assert_eq!(get(&mut transaction, "k"), Some(0));
            }
            let mut other = begin(&database, level);
            delete(&mut other, "k");
            other.commit().unwrap();
            database.stats();
            put(&mut transaction, "k", 1);
            assert_eq!(assert_conflict(transaction.commit(), ConflictKind::WriteWrite), ["k"], "{level:?} {read}");
            assert_eq!(committed_rows(&database, "k"), None);
        }
    }
}

#[test]
fn the_closest_strategy_wins() {
    for level in LEVELS {
        for of_database in RESOLUTIONS {
            for of_transaction in RESOLUTIONS.map(Some).into_iter().chain([None]) {
                for of_write in RESOLUTIONS.map(Some).into_iter().chain([None]) {
                    let options = Options { conflict_resolution: of_database, ..Options::default() };
                    let database = database_with(options, &[("k", 0)]);
                    let options = TransactionOptions { conflict_resolution: of_transaction, ..at(level) };
                    let mut transaction = database.begin(&options);
                    put(&mut transaction, "k", 2);
                    if let Some(resolution) = of_write {
                        assert_eq!(transaction.set_conflict_resolution(b"k", resolution), Ok(true));
                    }
                    overtake(&database, &[("k", 1)]);
                    let committed = transaction.commit();
                    let closest = of_write.or(of_transaction).unwrap_or(of_database);
                    match resolved(Write::Put, closest) {
                        Some(rows) => {
                            committed.unwrap();
                            assert_eq!(committed_rows(&database, "k"), rows);
                        }
                        None => assert_eq!(assert_conflict(committed, ConflictKind::WriteWrite), ["k"]),
                    }
                }
            }
        }
    }
}

#[test]
fn each_write_can_have_a_strategy_of_its_own() {
    let database = database(&[("append", 0), ("ignore", 0), ("replace", 0)]);
    let mut transaction = begin(&database, Serializable);
    for (key, resolution) in [
        ("append", ConflictResolution::Append),
        ("ignore", ConflictResolution::Ignore),
        ("replace", ConflictResolution::Replace),
    ] {
        assert_eq!(transaction.set_conflict_resolution(key.as_bytes(), resolution), Ok(false), "no write yet");
        assert_eq!(get_rows(&mut begin(&database, Serializable), key), Some(vec![0]));
        put(&mut transaction, key, 2);
        assert_eq!(transaction.set_conflict_resolution(key.as_bytes(), resolution), Ok(true));
    }
    overtake(&database, &[("append", 1), ("ignore", 1), ("replace", 1)]);
    transaction.commit().unwrap();
    let rows = |key| committed_rows(&database, key).unwrap();
    assert_eq!((rows("append"), rows("ignore"), rows("replace")), (vec![1, 2], vec![1], vec![2]));

    // A read alone is no write, and a read-only transaction has none.
    let mut transaction = begin(&database, Serializable);
    get_rows(&mut transaction, "append");
    assert_eq!(transaction.set_conflict_resolution(b"append", ConflictResolution::Ignore), Ok(false));
    let mut reader = database.begin(&read_only(Serializable));
    assert_eq!(reader.set_conflict_resolution(b"append", ConflictResolution::Ignore), Ok(false));
}

#[test]
fn every_failing_key_is_reported() {
    let database = database(&[("a", 0), ("b", 0), ("c", 0), ("d", 0)]);
    let mut transaction = begin(&database, RepeatableRead);
    for key in ["a", "b", "c", "d"] {
        put(&mut transaction, key, 2);
    }
    transaction.set_conflict_resolution(b"b", ConflictResolution::Ignore).unwrap();
    let first = overtake(&database, &[("a", 1), ("b", 1)]);
    let second = overtake(&database, &[("d", 1)]);
    let mut conflicts = conflicts_of(transaction.commit());
    conflicts.sort_by(|one, other| one.key.cmp(&other.key));
    let conflict = |key: &str, version| Conflict {
        kind: ConflictKind::WriteWrite,
        key: key.as_bytes().to_vec(),
        range: None,
        holder: None,
        version,
    };
    assert_eq!(conflicts, [conflict("a", first), conflict("d", second)]);
    assert_eq!(state(&database), named(&[("a", 1), ("b", 1), ("c", 0), ("d", 1)]));
}

#[test]
fn certification_says_what_was_overwritten() {
    let database = database(&[("m1", 0), ("m3", 0), ("read", 0)]);
    let range = KeyRange::new(Bound::Included(b"m".to_vec()), Bound::Excluded(b"n".to_vec()));
    let mut transaction = begin(&database, Serializable);
    assert_eq!(get(&mut transaction, "read"), Some(0));
    assert!(!transaction.exists(b"absent").unwrap());
    assert_eq!(scan_range(&mut transaction, range.clone()).len(), 2);
    put(&mut transaction, "out", 1);
    let overwritten = overtake_having_read(&database, "out", &[("read", 1)]);
    let inserted = overtake(&database, &[("absent", 1)]);
    let into_range = overtake(&database, &[("m2", 1)]);
    let mut other = begin(&database, Serializable);
    delete(&mut other, "m3");
    let from_range = other.commit().unwrap();
    overtake(&database, &[("n", 1), ("unrelated", 1)]);

    let mut conflicts = conflicts_of(transaction.commit());
    conflicts.sort_by(|one, other| one.key.cmp(&other.key));
    let conflict =
        |kind, key: &[u8], range, version| Conflict { kind, key: key.to_vec(), range, version, holder: None };
    assert_eq!(
        conflicts,
        [
            conflict(ConflictKind::Phantom, b"absent", None, inserted),
            conflict(ConflictKind::Phantom, b"m2", Some(range.clone()), into_range),
            conflict(ConflictKind::Phantom, b"m3", Some(range), from_range),
            conflict(ConflictKind::ReadWrite, b"read", None, overwritten),
        ]
    );
    assert_eq!(committed_rows(&database, "out"), None);
    let text = Error::Conflict(conflicts).to_string();
    assert!(text.contains("absent") && text.contains("3 more"), "{text}");
}

#[test]
fn conflicts_are_counted_by_kind() {
    let database = database(&[("k", 0)]);
    let before = database.stats();
    for (read, written, overtaken) in [(None, "k", "k"), (Some("k"), "o", "k"), (Some("absent"), "o", "absent")] {
        let mut transaction = begin(&database, Serializable);
        if let Some(key) = read {
            transaction.exists(key.as_bytes()).unwrap();
        }
        put(&mut transaction, written, 1);
        overtake_having_read(&database, written, &[(overtaken, 1)]);
        conflicts_of(transaction.commit());
    }
    begin(&database, Serializable).rollback().unwrap();
    let after = database.stats();
    assert_eq!(
        [after.conflicts_write_write, after.conflicts_read_write, after.conflicts_phantom, after.conflicts_prepared],
        [1, 1, 1, 0]
    );
    assert_eq!((after.commits - before.commits, after.rollbacks - before.rollbacks), (3, 1));
}

#[derive(Debug, Clone, Copy)]
enum Read {
    Get,
    Exists,
    Scan,
    Cursor,
}

#[test]
fn read_modify_writes_are_never_lost_at_serializable() {
    for read in [Read::Get, Read::Exists, Read::Scan, Read::Cursor] {
        for what in WRITES {
            for resolution in RESOLUTIONS {
                for resolution_of_write in [false, true] {
                    let case = format!("{read:?} {what:?} {resolution:?}");
                    let database = database(&[("k", 0), ("l", 0)]);
                    let mut transaction = database.begin(&match resolution_of_write {
                        true => at(Serializable),
                        false => resolving(Serializable, resolution),
                    });
                    match read {
                        Read::Get => assert_eq!(get(&mut transaction, "k"), Some(0)),
                        Read::Exists => assert!(transaction.exists(b"k").unwrap()),
                        Read::Scan => assert_eq!(scan_range(&mut transaction, KeyRange::all()).len(), 2),
                        Read::Cursor => {
                            let mut cursor =
                                transaction.open_cursor(KeyRange::all(), Direction::Forward, None).unwrap();
                            assert!(cursor.next(&mut transaction).unwrap());
                        }
                    }
                    write(&mut transaction, what, "k");
                    if resolution_of_write {
                        transaction.set_conflict_resolution(b"k", resolution).unwrap();
                    }
                    let version = overtake(&database, &[("k", 1)]);
                    let conflicts = conflicts_of(transaction.commit());
                    assert_eq!(conflicts.len(), 1, "{case}: {conflicts:?}");
                    assert_eq!(
                        (conflicts[0].kind, conflicts[0].version),
                        (ConflictKind::WriteWrite, version),
                        "{case}"
                    );
                    assert_eq!(state(&database), named(&[("k", 1), ("l", 0)]), "{case}");
                }
            }
        }
    }
}

#[test]
fn the_absence_of_a_key_is_read_too() {
    for resolution in RESOLUTIONS {
        for by_scan in [false, true] {
            let database = database(&[("a", 0)]);
            let mut transaction = database.begin(&resolving(Serializable, resolution));
            match by_scan {
                true => assert_eq!(scan_range(&mut transaction, KeyRange::prefix(b"k")), []),
                false => assert_eq!(get(&mut transaction, "k"), None),
            }
            put(&mut transaction, "k", 2);
            overtake(&database, &[("k", 1)]);
            assert_eq!(assert_conflict(transaction.commit(), ConflictKind::WriteWrite), ["k"], "{resolution:?}");
            assert_eq!(committed_rows(&database, "k"), Some(vec![1]));
        }
    }
}

#[test]
fn what_a_cursor_has_not_reached_is_not_read() {
    for (direction, reached, ahead) in [(Direction::Forward, "a", "c"), (Direction::Reverse, "c", "a")] {
        for overtaken in [reached, ahead] {
            let database = database(&[("a", 0), ("b", 0), ("c", 0)]);
            let mut transaction = begin(&database, Serializable);
            let mut cursor = transaction.open_cursor(KeyRange::all(), direction, None).unwrap();
            assert!(cursor.next(&mut transaction).unwrap());
            assert_eq!(cursor.key(), Some(reached.as_bytes()));
            put(&mut transaction, "out", 1);
            overtake_having_read(&database, "out", &[(overtaken, 1)]);
            let committed = transaction.commit();
            match overtaken == reached {
                true => assert_eq!(assert_conflict(committed, ConflictKind::Phantom), [reached]),
                false => _ = committed.unwrap(),
            }
        }
    }
}

#[test]
fn what_a_transaction_reads_of_itself_must_stand() {
    // Something may follow from the write that was read, so no resolution may drop or change it.
    for resolution in [ConflictResolution::Ignore, ConflictResolution::Append, ConflictResolution::Replace] {
        for isolation in [ReadCommitted, RepeatableRead, Serializable] {
            let database = database(&[("k", 0)]);
            let mut transaction = database.begin(&resolving(isolation, resolution));
            put(&mut transaction, "k", 2);
            assert_eq!(get(&mut transaction, "k"), Some(2));
            put(&mut transaction, "follows", 2);
            overtake(&database, &[("k", 1)]);
            match isolation {
                Serializable => {
                    assert_eq!(assert_conflict(transaction.commit(), ConflictKind::WriteWrite), ["k"]);
                    assert_eq!(committed_rows(&database, "follows"), None);
                }
                _ => _ = transaction.commit().unwrap(),
            }
        }
    }
    let database = database(&[("k", 0)]);

    // But what it appends to it does read.
    let mut transaction = begin(&database, Serializable);
    append(&mut transaction, "k", 4);
    assert_eq!(get_rows(&mut transaction, "k"), Some(vec![0, 4]));
    overtake(&database, &[("k", 1)]);
    assert_eq!(assert_conflict(transaction.commit(), ConflictKind::WriteWrite), ["k"]);

    // Own writes in a scanned range are no phantoms.
    let mut transaction = begin(&database, Serializable);
    put(&mut transaction, "before", 1);
    assert_eq!(scan_range(&mut transaction, KeyRange::all()).len(), 2);
    put(&mut transaction, "after", 1);
    delete(&mut transaction, "k");
    transaction.commit().unwrap();
    assert_eq!(state(&database), named(&[("after", 1), ("before", 1)]));
}

#[test]
fn blind_writes_commute() {
    for level in LEVELS {
        for resolution in [ConflictResolution::Ignore, ConflictResolution::Replace, ConflictResolution::Append] {
            let database = database(&[("k", 0)]);
            let mut open: Vec<_> = (1..=5).map(|_| database.begin(&resolving(level, resolution))).collect();
            for (transaction, number) in open.iter_mut().zip(1..) {
                put(transaction, "k", number);
            }
            // In another order than they began.
            for number in [2, 0, 4, 1, 3] {
                open[number].commit().unwrap();
            }
            let expected = match resolution {
                ConflictResolution::Ignore => vec![3],
                ConflictResolution::Replace => vec![4],
                _ => vec![3, 1, 5, 2, 4],
            };
            assert_eq!(committed_rows(&database, "k"), Some(expected), "{level:?} {resolution:?}");
        }
    }
}

#[test]
fn append_operations_never_conflict_and_follow_the_commits() {
    for level in LEVELS {
        for resolution in RESOLUTIONS {
            let database = database(&[]);
            let mut open: Vec<_> = (0..4).map(|_| database.begin(&resolving(level, resolution))).collect();
            for (transaction, number) in open.iter_mut().zip(0..) {
                append(transaction, "k", 10 * number);
                append(transaction, "k", 10 * number + 1);
            }
            for number in [3, 1, 0, 2] {
                open[number].commit().unwrap();
            }
            let rows = committed_rows(&database, "k").unwrap();
            assert_eq!(rows, [30, 31, 10, 11, 0, 1, 20, 21], "{level:?} {resolution:?}");
            let value = begin(&database, level).get(b"k").unwrap().unwrap();
            assert_eq!((value.chunk_count(), value.rows()), (8, 8));
        }
    }
}

#[test]
fn appends_onto_what_the_transaction_itself_has_staged() {
    let database = database(&[("k", 0), ("l", 0)]);
    let mut transaction = begin(&database, Serializable);
    put(&mut transaction, "k", 1);
    append(&mut transaction, "k", 2);
    delete(&mut transaction, "l");
    append(&mut transaction, "l", 3);
    assert_eq!(get_rows(&mut transaction, "k"), Some(vec![1, 2]));
    assert_eq!(get_rows(&mut transaction, "l"), Some(vec![3]));
    transaction.commit().unwrap();
    assert_eq!(committed_rows(&database, "k"), Some(vec![1, 2]));
    assert_eq!(committed_rows(&database, "l"), Some(vec![3]));

    // Rows after a put are part of the put, which conflicts.
    let mut transaction = begin(&database, Serializable);
    put(&mut transaction, "k", 5);
    append(&mut transaction, "k", 6);
    overtake(&database, &[("k", 4)]);
    assert_eq!(assert_conflict(transaction.commit(), ConflictKind::WriteWrite), ["k"]);
}

#[test]
fn another_schema_aborts_all() {
    for level in LEVELS {
        for by_strategy in [false, true] {
            let database = database(&[("a", 0), ("k", 0)]);
            let mut transaction = database.begin(&resolving(level, ConflictResolution::Append));
            put(&mut transaction, "a", 1);
            put(&mut transaction, "z", 1);
            match by_strategy {
                true => transaction.put(b"k", text_batch("text")).unwrap(),
                false => transaction.append(b"k", text_batch("text")).unwrap(),
            }
            if by_strategy {
                overtake(&database, &[("k", 1)]);
            }
            let before = state(&database);
            assert!(matches!(transaction.commit(), Err(Error::SchemaMismatch(_))), "{level:?}");
            assert!(!transaction.is_open() && transaction.commit_version().is_none());
            assert_eq!(state(&database), before, "nothing is applied");
            // Nothing is left in the way of others either.
            overtake(&database, &[("a", 2), ("k", 2), ("z", 2)]);
            assert_eq!(database.stats().versions, 3);
        }
    }
}

#[test]
fn another_schema_than_what_is_staged_fails_the_call_only() {
    let database = database(&[]);
    let mut transaction = begin(&database, Serializable);
    put(&mut transaction, "k", 1);
    assert!(matches!(transaction.append(b"k", text_batch("text")), Err(Error::SchemaMismatch(_))));
    append(&mut transaction, "k", 2);
    // A put may change the schema.
    overtake(&database, &[("other", 1)]);
    transaction.put(b"other2", text_batch("text")).unwrap();
    transaction.commit().unwrap();
    assert_eq!(committed_rows(&database, "k"), Some(vec![1, 2]));
    let mixed = Value::from_chunks([batch(&[1]), text_batch("text")]);
    assert!(matches!(mixed, Err(Error::SchemaMismatch(_))));

    // So may one over a committed value of another schema; reading one's own appended rows says what commit would.
    let mut transaction = begin(&database, Serializable);
    transaction.put(b"k", text_batch("text")).unwrap();
    transaction.append(b"other", text_batch("text")).unwrap();
    assert!(matches!(transaction.get(b"other"), Err(Error::SchemaMismatch(_))));
    delete(&mut transaction, "other");
    transaction.commit().unwrap();
    let value = begin(&database, Serializable).get(b"k").unwrap().unwrap();
    assert!(value.single().unwrap().same_schema(&text_batch("")));
}

#[test]
fn a_transaction_of_which_everything_is_ignored_commits() {
    for level in LEVELS {
        let database = database(&[("k", 0), ("l", 0)]);
        let mut transaction = database.begin(&resolving(level, ConflictResolution::Ignore));
        put(&mut transaction, "k", 2);
        delete(&mut transaction, "l");
        overtake(&database, &[("k", 1), ("l", 1)]);
        let before = database.stats();
        let version = transaction.commit().unwrap();
        assert_eq!(transaction.commit_version(), Some(version));
        assert_eq!(state(&database), named(&[("k", 1), ("l", 1)]), "{level:?}");
        let after = database.stats();
        assert_eq!((after.version, after.versions), (before.version, 2), "no version was made");
        assert_eq!(after.commits, before.commits + 1);
    }
}

#[test]
fn limits_of_a_transaction_leave_it_usable() {
    let bytes = batch(&[1]).bytes();
    for (of_database, of_transaction) in [(Some(2 * bytes), None), (Some(1), Some(2 * bytes))] {
        let options = Options { max_transaction_bytes: of_database, ..Options::default() };
        let database = Batches::new(options);
        let options = TransactionOptions { max_bytes: of_transaction, ..TransactionOptions::default() };
        let mut transaction = database.begin(&options);
        put(&mut transaction, "a", 1);
        append(&mut transaction, "b", 1);
        for refused in [
            transaction.put(b"c", batch(&[1])),
            transaction.append(b"a", batch(&[1])),
            transaction.append(b"b", batch(&[1])),
            transaction.put(b"a", batch(&vec![1; 1000])),
        ] {
            assert!(matches!(refused, Err(Error::LimitExceeded(_))), "{refused:?}");
        }
        assert_eq!(get(&mut transaction, "c"), None, "nothing was staged");
        assert_eq!(get_rows(&mut transaction, "a"), Some(vec![1]));
        // What is replaced, deleted or rolled back makes room.
        put(&mut transaction, "a", 2);
        delete(&mut transaction, "b");
        let savepoint = transaction.savepoint().unwrap();
        put(&mut transaction, "c", 3);
        assert!(transaction.put(b"d", batch(&[1])).is_err());
        transaction.rollback_to(savepoint).unwrap();
        put(&mut transaction, "d", 4);
        assert!(transaction.put(b"e", batch(&[1])).is_err());
        transaction.commit().unwrap();
        assert_eq!(state(&database), named(&[("a", 2), ("d", 4)]));
    }
}

#[test]
fn the_limit_of_a_database_holds_until_there_is_room_again() {
    let bytes = batch(&[1]).bytes();
    let database = Batches::new(Options { max_total_bytes: Some(3 * bytes), ..Options::default() });
    overtake(&database, &[("a", 1), ("b", 2)]);
    assert_eq!(database.stats().live_bytes, 2 * bytes);
    let mut transaction = begin(&database, Serializable);
    put(&mut transaction, "c", 3);
    assert!(matches!(transaction.put(b"d", batch(&[1])), Err(Error::LimitExceeded(_))));
    assert!(matches!(transaction.append(b"c", batch(&[1])), Err(Error::LimitExceeded(_))));
    transaction.commit().unwrap();
    assert_eq!(state(&database).len(), 3);

    // Full: deletes still go, and make room.
    let mut transaction = begin(&database, Serializable);
    assert!(matches!(transaction.put(b"d", batch(&[1])), Err(Error::LimitExceeded(_))));
    delete(&mut transaction, "a");
    transaction.commit().unwrap();
    assert_eq!(database.stats().live_bytes, 2 * bytes);
    overtake(&database, &[("d", 4)]);
    assert_eq!(state(&database), named(&[("b", 2), ("c", 3), ("d", 4)]));
}

#[test]
fn reads_before_a_rollback_to_a_savepoint_still_count() {
    for (by_scan, overtaken) in [(false, "read"), (true, "scanned/new")] {
        let database = database(&[("read", 0), ("scanned/old", 0)]);
        let mut transaction = begin(&database, Serializable);
        let savepoint = transaction.savepoint().unwrap();
        match by_scan {
            false => assert_eq!(get(&mut transaction, "read"), Some(0)),
            true => assert_eq!(scan_range(&mut transaction, KeyRange::prefix(b"scanned/")).len(), 1),
        }
        put(&mut transaction, "undone", 1);
        transaction.rollback_to(savepoint).unwrap();
        put(&mut transaction, "out", 1);
        overtake_having_read(&database, "out", &[(overtaken, 1)]);
        let kind = if by_scan { ConflictKind::Phantom } else { ConflictKind::ReadWrite };
        assert_eq!(assert_conflict(transaction.commit(), kind), [overtaken]);
    }
}

#[test]
fn writes_that_were_rolled_back_to_a_savepoint_do_not_count() {
    for level in LEVELS {
        let database = database(&[("k", 0), ("l", 0)]);
        let mut transaction = begin(&database, level);
        put(&mut transaction, "l", 2);
        let savepoint = transaction.savepoint().unwrap();
        put(&mut transaction, "k", 2);
        delete(&mut transaction, "l");
        put(&mut transaction, "new", 2);
        assert_eq!(scan_range(&mut transaction, KeyRange::prefix(b"none")), []);
        transaction.rollback_to(savepoint).unwrap();
        // k was written by nobody but the others.
        overtake(&database, &[("k", 1)]);
        transaction.commit().unwrap();
        assert_eq!(state(&database), named(&[("k", 1), ("l", 2)]), "{level:?}");

        // With nothing left to write there is nothing that can fail.
        let mut transaction = begin(&database, level);
        assert_eq!(get(&mut transaction, "k"), Some(1));
        let savepoint = transaction.savepoint().unwrap();
        put(&mut transaction, "k", 3);
        transaction.rollback_to(savepoint).unwrap();
        overtake(&database, &[("k", 4)]);
        transaction.commit().unwrap();
        assert_eq!(state(&database)[0].1, 4);
    }
}

#[test]
fn a_strategy_set_after_a_savepoint_goes_with_it() {
    let database = database(&[("k", 0)]);
    let mut transaction = begin(&database, Serializable);
    put(&mut transaction, "k", 2);
    let savepoint = transaction.savepoint().unwrap();
    transaction.set_conflict_resolution(b"k", ConflictResolution::Replace).unwrap();
    transaction.rollback_to(savepoint).unwrap();
    overtake(&database, &[("k", 1)]);
    assert_eq!(assert_conflict(transaction.commit(), ConflictKind::WriteWrite), ["k"]);
}

#[test]
fn savepoints_end_as_they_nest() {
    let database = database(&[]);
    let mut transaction = begin(&database, Serializable);
    let outer = transaction.savepoint().unwrap();
    put(&mut transaction, "k", 1);
    let inner = transaction.savepoint().unwrap();
    put(&mut transaction, "k", 2);
    transaction.release(inner).unwrap();
    assert!(matches!(transaction.rollback_to(inner), Err(Error::InvalidArgument(_))), "released");
    assert_eq!(get(&mut transaction, "k"), Some(2), "what was staged since stays");
    let later = transaction.savepoint().unwrap();
    transaction.rollback_to(outer).unwrap();
    assert!(matches!(transaction.release(later), Err(Error::InvalidArgument(_))), "gone with the outer one");
    assert_eq!(get(&mut transaction, "k"), None);
    put(&mut transaction, "k", 3);
    transaction.rollback_to(outer).unwrap();
    assert_eq!(get(&mut transaction, "k"), None, "it can be gone back to again");
    transaction.release(outer).unwrap();
    assert!(matches!(transaction.rollback_to(9), Err(Error::InvalidArgument(_))), "never made");
    transaction.commit().unwrap();
    assert!(matches!(transaction.savepoint(), Err(Error::InvalidState(_))));
}

#[test]
fn keys_and_states_are_checked() {
    let database = database(&[("k", 0)]);
    let mut transaction = begin(&database, Serializable);
    for key in [vec![], vec![1; KEY_MAX_BYTES + 1]] {
        assert!(matches!(transaction.get(&key), Err(Error::InvalidArgument(_))));
        assert!(matches!(transaction.exists(&key), Err(Error::InvalidArgument(_))));
        assert!(matches!(transaction.put(&key, batch(&[1])), Err(Error::InvalidArgument(_))));
        assert!(matches!(transaction.append(&key, batch(&[1])), Err(Error::InvalidArgument(_))));
        assert!(matches!(transaction.delete(&key), Err(Error::InvalidArgument(_))));
    }
    let longest = vec![1; KEY_MAX_BYTES];
    transaction.put(&longest, batch(&[1])).unwrap();
    let mut other = begin(&database, Serializable);
    let mut cursor = other.open_cursor(KeyRange::all(), Direction::Forward, None).unwrap();
    assert!(matches!(cursor.next(&mut transaction), Err(Error::InvalidState(_))), "a cursor of another transaction");
    transaction.commit().unwrap();
    assert!(matches!(transaction.commit(), Err(Error::InvalidState(_))));
    assert!(matches!(transaction.rollback(), Err(Error::InvalidState(_))));
    assert!(matches!(transaction.get(b"k"), Err(Error::InvalidState(_))));
    assert!(matches!(transaction.put(b"k", batch(&[1])), Err(Error::InvalidState(_))));
    assert!(matches!(transaction.scan(KeyRange::all(), Direction::Forward, None), Err(Error::InvalidState(_))));
    assert!(begin(&database, Serializable).exists(&longest).unwrap());

    // Ended by a rollback or by its drop, nothing of it stays.
    for dropped in [false, true] {
        let mut transaction = begin(&database, Serializable);
        put(&mut transaction, "k", 1);
        if !dropped {
            transaction.rollback().unwrap();
            assert!(matches!(transaction.commit(), Err(Error::InvalidState(_))));
        }
        drop(transaction);
        assert_eq!(committed_rows(&database, "k"), Some(vec![0]));
    }
}

/// A body that somebody else overtakes on each attempt; says how often it ran.
fn overtaken(database: &Batches, options: &TransactionOptions) -> (u32, Result<u64, Error>) {
    let mut runs = 0;
    let outcome = database.transact(options, |transaction| {
        runs += 1;
        assert!(runs < 1000, "it does not end");
        let value = get(transaction, "k").expect("it is never deleted");
        overtake(database, &[("k", value + 1)]);
        transaction.put(b"k", batch(&[value]))
    });
    (runs, outcome.map(|((), version)| version))
}

fn hasty() -> TransactionOptions {
    TransactionOptions { backoff_initial: Duration::ZERO, ..at(Serializable) }
}

#[test]
fn attempts_are_limited() {
    for most in [1, 2, 5] {
        let database = database(&[("k", 0)]);
        let (runs, outcome) = overtaken(&database, &TransactionOptions { max_attempts: Some(most), ..hasty() });
        assert_eq!(runs, most);
        assert_eq!(assert_conflict(outcome, ConflictKind::WriteWrite), ["k"]);
        assert_eq!(committed_rows(&database, "k"), Some(vec![i64::from(most)]));
        assert_eq!(database.stats().retries, u64::from(most) - 1);
        assert_eq!(database.stats().active_transactions, 0);
    }
}

#[test]
fn the_time_of_a_rerun_transaction_is_limited() {
    let database = database(&[("k", 0)]);
    // Used up from the beginning: there is one attempt all the same, and no other.
    let options = TransactionOptions { timeout: Some(Duration::ZERO), ..hasty() };
    let (runs, outcome) = overtaken(&database, &options);
    assert!(runs == 1 && matches!(outcome, Err(Error::Timeout(_))), "{runs} {outcome:?}");
    // Longer than the clock can say is no limit.
    let options = TransactionOptions { timeout: Some(Duration::MAX), max_attempts: Some(3), ..hasty() };
    let (runs, outcome) = overtaken(&database, &options);
    assert!(runs == 3 && matches!(outcome, Err(Error::Conflict(_))), "{runs} {outcome:?}");
    // Without a conflict no time is asked for.
    let options = TransactionOptions { timeout: Some(Duration::ZERO), ..hasty() };
    database.transact(&options, |transaction| transaction.put(b"k", batch(&[7]))).unwrap();
    assert_eq!(committed_rows(&database, "k"), Some(vec![7]));
}

#[test]
fn only_conflicts_are_rerun() {
    let database = database(&[("k", 0)]);
    let mut runs = 0;
    let outcome = database.transact(&hasty(), |transaction| {
        runs += 1;
        put(transaction, "k", 1);
        Err::<(), _>(Error::Cancelled("enough".to_owned()))
    });
    assert_eq!((outcome, runs), (Err(Error::Cancelled("enough".to_owned())), 1));
    assert_eq!(committed_rows(&database, "k"), Some(vec![0]), "it was rolled back");

    let mut runs = 0;
    let outcome = database.transact(&hasty(), |transaction| {
        runs += 1;
        transaction.append(b"k", text_batch("text"))
    });
    assert!(matches!(outcome, Err(Error::SchemaMismatch(_))) && runs == 1);

    // A conflict that the body itself reports is one; so is one found at commit.
    let mut runs = 0;
    let (given, version) = database
        .transact(&hasty(), |transaction| {
            runs += 1;
            let value = get(transaction, "k").unwrap();
            put(transaction, "k", value + 10);
            match runs {
                1 => Err(Error::Conflict(Vec::new())),
                2 => {
                    overtake(&database, &[("k", 5)]);
                    Ok(runs)
                }
                _ => Ok(runs),
            }
        })
        .unwrap();
    assert_eq!((given, runs), (3, 3));
    assert_eq!(committed_rows(&database, "k"), Some(vec![15]), "each run starts afresh");
    assert_eq!(database.stats().version, version);
}

/// Somebody who needs long is overtaken by somebody who needs little, on every attempt, for as long as the latter can
/// commit at all. It must get through, as it reserves what it touches once it starves.
fn starving(level: IsolationLevel, touch: impl Fn(&mut BatchTransaction) -> Result<(), Error>) {
    let database = database(&[("k", 0), ("l", 0)]);
    let done = AtomicBool::new(false);
    let (writes, refusals) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                let mut writer = database.begin(&resolving(Serializable, ConflictResolution::Replace));
                get(&mut writer, "l");
                put(&mut writer, "k", 1);
                match writer.commit().map_err(|error| conflicts_of(Err::<(), _>(error))) {
                    Ok(_) => writes.fetch_add(1, Ordering::Release),
                    Err(conflicts) if conflicts[0].kind == ConflictKind::Prepared => {
                        assert_eq!(conflicts[0].key, b"k");
                        refusals.fetch_add(1, Ordering::Release)
                    }
                    // The other one has got through.
                    Err(conflicts) => {
                        assert_eq!(
                            (conflicts[0].kind, conflicts[0].key.as_slice()),
                            (ConflictKind::ReadWrite, &b"l"[..])
                        );
                        0
                    }
                };
                std::thread::yield_now();
            }
        });
        let mut attempts = 0_u32;
        let options = TransactionOptions { max_attempts: Some(2000), ..at(level) };
        let outcome = database.transact(&options, |transaction| {
            attempts += 1;
            touch(transaction)?;
            // Until the other one has committed, or was refused to, after what has been read. Both twice: it may have
            // been underway.
            let (written, refused) = (writes.load(Ordering::Acquire), refusals.load(Ordering::Acquire));
            while writes.load(Ordering::Acquire) < written + 2 && refusals.load(Ordering::Acquire) < refused + 2 {
                std::thread::yield_now();
            }
            put(transaction, "l", 1);
            Ok(())
        });
        done.store(true, Ordering::Release);
        outcome.unwrap_or_else(|error| panic!("{error} after {attempts} attempts"));
        assert!(attempts > 1, "it was never overtaken");
    });
    let stats = database.stats();
    assert!(refusals.into_inner() > 0 && stats.conflicts_prepared > 0);
    // The reservation is gone with its holder.
    overtake(&database, &[("k", 9)]);
    assert_eq!(state(&database), named(&[("k", 9), ("l", 1)]));
}

#[test]
fn who_starves_by_a_read_gets_through() {
    starving(Serializable, |transaction| transaction.get(b"k").map(|_| ()));
}

#[test]
fn who_starves_by_a_scan_gets_through() {
    starving(Serializable, |transaction| transaction.scan(KeyRange::all(), Direction::Forward, None).map(|_| ()));
}

#[test]
fn who_starves_by_a_write_gets_through() {
    starving(RepeatableRead, |transaction| transaction.put(b"k", batch(&[2])));
    starving(ReadCommitted, |transaction| transaction.put(b"k", batch(&[2])));
}

/// Chunks whose schemas cannot be compared.
#[derive(Clone)]
struct Panics(bool);

impl Chunk for Panics {
    fn same_schema(&self, other: &Self) -> bool {
        assert!(!self.0 && !other.0, "planted");
        true
    }

    fn rows(&self) -> u64 {
        1
    }

    fn bytes(&self) -> u64 {
        1
    }
}

#[test]
fn a_panic_in_the_middle_of_a_commit_leaves_nothing() {
    let database = TransactionManager::<Panics>::new(Options::default());
    let options = TransactionOptions::default();
    database
        .transact(&options, |transaction| (0..9_u8).try_for_each(|key| transaction.put(&[key], Panics(false))))
        .unwrap();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut transaction = database.begin(&options);
        for key in 0..9 {
            match key {
                4 => transaction.append(&[key], Panics(true)).unwrap(),
                _ => transaction.delete(&[key]).unwrap(),
            }
        }
        transaction.commit()
    }));
    assert!(outcome.is_err());
    // All are there, nobody is in the way, and no snapshot is held.
    let mut transaction = database.begin(&options);
    assert_eq!(transaction.scan(KeyRange::all(), Direction::Forward, None).unwrap().len(), 9);
    drop(transaction);
    database.transact(&options, |transaction| (0..9_u8).try_for_each(|key| transaction.delete(&[key]))).unwrap();
    let stats = database.stats();
    assert_eq!((stats.keys, stats.versions, stats.active_transactions), (0, 0, 0));
}

#[test]
fn what_may_be_shared_and_sent() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Batches>();
    sync::<Batches>();
    send::<BatchTransaction>();
    send::<Cursor<RecordBatch>>();
    sync::<Cursor<RecordBatch>>();
    send::<RetryPolicy<RecordBatch>>();
}

#[test]
fn handles_are_of_one_database() {
    let database = database(&[("k", 0)]);
    let other: TransactionManager<RecordBatch> = database.clone();
    let mut transaction = begin(&other, Serializable);
    drop(other);
    overtake_having_read(&database, "l", &[("k", 1)]);
    drop(database);
    // The transaction keeps it alive.
    assert_eq!(get(&mut transaction, "k"), Some(0));
    put(&mut transaction, "l", 1);
    assert_eq!(assert_conflict(transaction.commit(), ConflictKind::ReadWrite), ["k"]);
}

#[test]
fn what_is_kept_for_savepoints_counts_as_staged() {
    let value = batch(&[1; 1_000]);
    let bytes = Value::new(value.clone()).bytes();
    let database = database(&[]);
    let options = TransactionOptions { max_bytes: Some(3 * bytes), ..TransactionOptions::default() };
    let mut transaction = database.begin(&options);
    let savepoint = transaction.savepoint().unwrap();
    for _ in 0..3 {
        transaction.put(b"k", value.clone()).unwrap();
    }
    assert!(matches!(transaction.put(b"k", value.clone()), Err(Error::LimitExceeded(_))));
    transaction.rollback_to(savepoint).unwrap();
    transaction.put(b"k", value.clone()).unwrap();
    transaction.release(savepoint).unwrap();
    transaction.put(b"other", value).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn a_cursor_does_not_pass_over_what_it_could_not_give() {
    let database = database(&[("k", 1)]);
    let mut transaction = begin(&database, Serializable);
    transaction.append(b"k", text_batch("of another schema")).unwrap();
    let mut cursor = transaction.open_cursor(KeyRange::all(), Direction::Forward, None).unwrap();
    for _ in 0..2 {
        assert!(matches!(cursor.next(&mut transaction), Err(Error::SchemaMismatch(_))));
        assert_eq!(cursor.key(), None);
    }
}
