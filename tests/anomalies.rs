//! The anomalies of Hermitage (github.com/ept/hermitage) and the read-only transaction anomaly (Fekete, O'Neil and
//! O'Neil, SIGMOD Record 33(3), 2004) by name, at each isolation level: what a level must prevent does not happen, and
//! what it allows does. The transactions of a test interleave in one thread.

mod common;

use common::{
    BatchTransaction, LEVELS, RESOLUTIONS, assert_conflict, at, begin, database, delete, get, named, put, read_only,
    resolving, scan_range, select, state,
};
use khonsu::stm::IsolationLevel::{self, ReadCommitted, RepeatableRead, Serializable};
use khonsu::stm::{ConflictKind, ConflictResolution, KeyRange, TransactionOptions};

const TWO: [(&str, i64); 2] = [("x", 10), ("y", 20)];

fn values(transaction: &mut BatchTransaction) -> (i64, i64) {
    (get(transaction, "x").unwrap(), get(transaction, "y").unwrap())
}

#[test]
fn g0_write_cycles_are_prevented_everywhere() {
    for level in LEVELS {
        for resolution in RESOLUTIONS {
            let database = database(&TWO);
            let mut first = database.begin(&resolving(level, resolution));
            let mut second = database.begin(&resolving(level, resolution));
            put(&mut first, "x", 11);
            put(&mut second, "x", 12);
            put(&mut second, "y", 22);
            put(&mut first, "y", 21);
            first.commit().unwrap();
            assert_eq!(state(&database), named(&[("x", 11), ("y", 21)]));
            let second = second.commit();
            let expected = match resolution {
                ConflictResolution::Fail => {
                    assert_eq!(assert_conflict(second, ConflictKind::WriteWrite), ["x", "y"]);
                    [11, 21]
                }
                ConflictResolution::Ignore => [11, 21],
                ConflictResolution::Replace => [12, 22],
                ConflictResolution::Append => {
                    let mut reader = begin(&database, level);
                    assert_eq!(common::get_rows(&mut reader, "x").unwrap(), [11, 12]);
                    assert_eq!(common::get_rows(&mut reader, "y").unwrap(), [21, 22]);
                    continue;
                }
            };
            assert_eq!(state(&database), named(&[("x", expected[0]), ("y", expected[1])]), "{level:?} {resolution:?}");
        }
    }
}

#[test]
fn g1a_aborted_reads_are_prevented_everywhere() {
    for level in LEVELS {
        let database = database(&TWO);
        let mut writer = begin(&database, level);
        let mut reader = begin(&database, level);
        put(&mut writer, "x", 101);
        put(&mut writer, "new", 1);
        assert_eq!(get(&mut reader, "x"), Some(10));
        assert_eq!(get(&mut reader, "new"), None);
        writer.rollback().unwrap();
        assert_eq!(get(&mut reader, "x"), Some(10));
        assert_eq!(select(&mut reader, |_| true), named(&TWO));
        reader.commit().unwrap();

        // A commit that fails has aborted, too.
        let mut writer = begin(&database, level);
        put(&mut writer, "x", 101);
        put(&mut writer, "y", 102);
        common::overtake(&database, &[("y", 21)]);
        let mut reader = begin(&database, level);
        assert_conflict(writer.commit(), ConflictKind::WriteWrite);
        assert_eq!(values(&mut reader), (10, 21));
    }
}

#[test]
fn g1b_intermediate_reads_are_prevented_everywhere() {
    for level in LEVELS {
        let database = database(&TWO);
        let mut writer = begin(&database, level);
        let mut reader = begin(&database, level);
        put(&mut writer, "x", 101);
        assert_eq!(get(&mut reader, "x"), Some(10));
        put(&mut writer, "x", 11);
        writer.commit().unwrap();
        let expected = if level == ReadCommitted { 11 } else { 10 };
        assert_eq!(get(&mut reader, "x"), Some(expected), "{level:?}");
        reader.commit().unwrap();
    }
}

#[test]
fn g1c_circular_information_flow_is_prevented_everywhere() {
    for level in LEVELS {
        let database = database(&TWO);
        let mut first = begin(&database, level);
        let mut second = begin(&database, level);
        put(&mut first, "x", 11);
        put(&mut second, "y", 22);
        assert_eq!(get(&mut first, "y"), Some(20));
        assert_eq!(get(&mut second, "x"), Some(10));
        first.commit().unwrap();
        // Neither has seen the other, so each comes before the other: no level but serializable minds.
        let second = second.commit();
        match level {
            Serializable => assert_eq!(assert_conflict(second, ConflictKind::ReadWrite), ["x"]),
            ReadCommitted | RepeatableRead => _ = second.unwrap(),
        }
    }
}

#[test]
fn otv_an_observed_transaction_does_not_vanish() {
    for level in LEVELS {
        let database = database(&TWO);
        let mut first = begin(&database, level);
        put(&mut first, "x", 11);
        put(&mut first, "y", 19);
        first.commit().unwrap();
        let mut second = begin(&database, level);
        put(&mut second, "x", 12);
        put(&mut second, "y", 18);
        let mut reader = begin(&database, level);
        assert_eq!(get(&mut reader, "x"), Some(11));
        second.commit().unwrap();
        match level {
            ReadCommitted => {
                // It has moved on to the second one, and stays there.
                assert_eq!(get(&mut reader, "y"), Some(18));
                assert_eq!(get(&mut reader, "x"), Some(12));
            }
            RepeatableRead | Serializable => {
                assert_eq!(get(&mut reader, "y"), Some(19));
                assert_eq!(get(&mut reader, "x"), Some(11));
            }
        }
        reader.commit().unwrap();
    }
}

#[test]
fn monotonic_atomic_view_a_scan_at_read_committed_sees_one_state() {
    for level in LEVELS {
        let database = database(&TWO);
        let mut reader = begin(&database, level);
        let mut cursor = reader.open_cursor(KeyRange::all(), Default::default(), None).unwrap();
        assert!(cursor.next(&mut reader).unwrap());
        assert_eq!(common::rows(cursor.value().unwrap()), [10]);
        common::overtake(&database, &[("x", 11), ("y", 21), ("z", 31)]);
        assert!(cursor.next(&mut reader).unwrap());
        assert_eq!((cursor.key(), common::rows(cursor.value().unwrap())), (Some(&b"y"[..]), vec![20]), "{level:?}");
        assert!(!cursor.next(&mut reader).unwrap());
        let next = if level == ReadCommitted { named(&[("x", 11), ("y", 21), ("z", 31)]) } else { named(&TWO) };
        assert_eq!(scan_range(&mut reader, KeyRange::all()), next, "{level:?}");
    }
}

#[test]
fn pmp_predicate_many_preceders_is_prevented_from_repeatable_read_on() {
    for level in LEVELS {
        let database = database(&TWO);
        let mut reader = begin(&database, level);
        assert_eq!(select(&mut reader, |value| value == 30), []);
        common::overtake(&database, &[("z", 30)]);
        let found = select(&mut reader, |value| value % 3 == 0);
        match level {
            ReadCommitted => assert_eq!(found, named(&[("z", 30)])),
            RepeatableRead | Serializable => assert_eq!(found, []),
        }
        reader.commit().unwrap();
    }
}

#[test]
fn pmp_write_predicates_act_on_one_state_from_repeatable_read_on() {
    for level in LEVELS {
        let database = database(&TWO);
        let mut first = begin(&database, level);
        let mut second = begin(&database, level);
        assert_eq!(get(&mut second, "x"), Some(10));
        for (key, value) in select(&mut first, |_| true) {
            put(&mut first, &key, value + 10);
        }
        first.commit().unwrap();
        // Delete where the value is 20: by the first state that is y, by the second x.
        for (key, _) in select(&mut second, |value| value == 20) {
            delete(&mut second, &key);
        }
        let second = second.commit();
        match level {
            ReadCommitted => {
                second.unwrap();
                assert_eq!(state(&database), named(&[("y", 30)]), "it has read x as 10 and deleted it as 20");
            }
            RepeatableRead | Serializable => {
                assert_eq!(assert_conflict(second, ConflictKind::WriteWrite), ["y"]);
                assert_eq!(state(&database), named(&[("x", 20), ("y", 30)]));
            }
        }
    }
}

#[test]
fn p4_lost_update() {
    for level in LEVELS {
        for resolution in RESOLUTIONS {
            let database = database(&TWO);
            let mut first = database.begin(&resolving(level, resolution));
            let mut second = database.begin(&resolving(level, resolution));
            let (by_first, by_second) = (get(&mut first, "x").unwrap(), get(&mut second, "x").unwrap());
            put(&mut first, "x", by_first + 1);
            put(&mut second, "x", by_second + 2);
            first.commit().unwrap();
            let second = second.commit();
            let rows = || common::committed_rows(&database, "x").unwrap();
            match (level, resolution) {
                (Serializable, _) | (_, ConflictResolution::Fail) => {
                    assert_eq!(assert_conflict(second, ConflictKind::WriteWrite), ["x"]);
                    assert_eq!(rows(), [11]);
                }
                // Below serializable the strategies do what they were asked for.
                (_, ConflictResolution::Ignore) => {
                    second.unwrap();
                    assert_eq!(rows(), [11]);
                }
                (_, ConflictResolution::Replace) => {
                    second.unwrap();
                    assert_eq!(rows(), [12], "the update of the first is lost");
                }
                (_, ConflictResolution::Append) => {
                    second.unwrap();
                    assert_eq!(rows(), [11, 12]);
                }
            }
        }
    }
}

#[test]
fn p4_at_read_committed_counts_from_the_last_read() {
    // Read, overtaken, read again, written: by the second read nothing is lost, and there is no conflict.
    let database = database(&TWO);
    let mut transaction = begin(&database, ReadCommitted);
    assert_eq!(get(&mut transaction, "x"), Some(10));
    common::overtake(&database, &[("x", 15)]);
    let now = get(&mut transaction, "x").unwrap();
    put(&mut transaction, "x", now + 1);
    transaction.commit().unwrap();
    assert_eq!(state(&database), named(&[("x", 16), ("y", 20)]));

    // The same by a scan.
    let mut transaction = begin(&database, ReadCommitted);
    common::overtake(&database, &[("x", 20)]);
    assert_eq!(scan_range(&mut transaction, KeyRange::all())[0].1, 20);
    put(&mut transaction, "x", 21);
    transaction.commit().unwrap();
    assert_eq!(state(&database)[0].1, 21);
}

#[test]
fn g_single_read_skew_is_prevented_from_repeatable_read_on() {
    for level in LEVELS {
        let database = database(&TWO);
        let mut reader = begin(&database, level);
        assert_eq!(get(&mut reader, "x"), Some(10));
        let mut writer = begin(&database, level);
        assert_eq!(values(&mut writer), (10, 20));
        put(&mut writer, "x", 12);
        put(&mut writer, "y", 18);
        writer.commit().unwrap();
        let expected = if level == ReadCommitted { 18 } else { 20 };
        assert_eq!(get(&mut reader, "y"), Some(expected), "{level:?}");
        reader.commit().unwrap();
    }
}

#[test]
fn g_single_predicate_dependencies_are_prevented_from_repeatable_read_on() {
    for level in LEVELS {
        let database = database(&TWO);
        let mut reader = begin(&database, level);
        assert_eq!(select(&mut reader, |value| value % 5 == 0), named(&TWO));
        let mut writer = begin(&database, level);
        for (key, _) in select(&mut writer, |value| value == 10) {
            put(&mut writer, &key, 12);
        }
        writer.commit().unwrap();
        let found = select(&mut reader, |value| value % 3 == 0);
        match level {
            ReadCommitted => assert_eq!(found, named(&[("x", 12)])),
            RepeatableRead | Serializable => assert_eq!(found, []),
        }
        reader.commit().unwrap();
    }
}

#[test]
fn g_single_write_skew_with_a_predicate_is_prevented_from_repeatable_read_on() {
    for level in LEVELS {
        let database = database(&TWO);
        let mut first = begin(&database, level);
        assert_eq!(get(&mut first, "x"), Some(10));
        let mut second = begin(&database, level);
        assert_eq!(values(&mut second), (10, 20));
        put(&mut second, "x", 12);
        put(&mut second, "y", 18);
        second.commit().unwrap();
        let found = select(&mut first, |value| value == 20);
        for (key, _) in &found {
            delete(&mut first, key);
        }
        let first = first.commit();
        match level {
            ReadCommitted => {
                first.unwrap();
                assert_eq!(found, [], "it has seen x before the second one, and y after");
            }
            RepeatableRead | Serializable => {
                assert_eq!(found, named(&[("y", 20)]));
                assert_eq!(assert_conflict(first, ConflictKind::WriteWrite), ["y"]);
            }
        }
        assert_eq!(state(&database), named(&[("x", 12), ("y", 18)]));
    }
}

#[test]
fn g_single_the_other_may_commit_when_one_rolls_back() {
    for level in LEVELS {
        let database = database(&TWO);
        let mut first = begin(&database, level);
        let mut second = begin(&database, level);
        assert_eq!(get(&mut first, "x"), Some(10));
        assert_eq!(values(&mut second), (10, 20));
        put(&mut second, "x", 12);
        delete(&mut first, "y");
        put(&mut second, "y", 18);
        first.rollback().unwrap();
        second.commit().unwrap();
        assert_eq!(state(&database), named(&[("x", 12), ("y", 18)]));
    }
}

#[test]
fn g2_item_write_skew_is_prevented_at_serializable() {
    for level in LEVELS {
        for resolution in RESOLUTIONS {
            let database = database(&TWO);
            let mut first = database.begin(&resolving(level, resolution));
            let mut second = database.begin(&resolving(level, resolution));
            assert_eq!(values(&mut first), (10, 20));
            assert_eq!(values(&mut second), (10, 20));
            put(&mut first, "x", 11);
            put(&mut second, "y", 21);
            first.commit().unwrap();
            let second = second.commit();
            if level == Serializable {
                assert_eq!(assert_conflict(second, ConflictKind::ReadWrite), ["x"], "{resolution:?}");
                assert_eq!(state(&database), named(&[("x", 11), ("y", 20)]));
            } else {
                second.unwrap();
                assert_eq!(state(&database), named(&[("x", 11), ("y", 21)]));
            }
        }
    }
}

#[test]
fn g2_item_by_a_deletion_is_prevented_at_serializable() {
    // At least one of the two must stay; each deletes one because it has seen the other.
    for level in LEVELS {
        let database = database(&TWO);
        let mut first = begin(&database, level);
        let mut second = begin(&database, level);
        assert!(first.exists(b"y").unwrap() && second.exists(b"x").unwrap());
        delete(&mut first, "x");
        delete(&mut second, "y");
        first.commit().unwrap();
        let second = second.commit();
        if level == Serializable {
            assert_eq!(assert_conflict(second, ConflictKind::ReadWrite), ["x"]);
            assert_eq!(state(&database), named(&[("y", 20)]));
        } else {
            second.unwrap();
            assert_eq!(state(&database), []);
        }
    }
}

#[test]
fn g2_phantoms_are_prevented_at_serializable() {
    for level in LEVELS {
        let database = database(&TWO);
        let mut first = begin(&database, level);
        let mut second = begin(&database, level);
        assert_eq!(select(&mut first, |value| value % 3 == 0), []);
        assert_eq!(select(&mut second, |value| value % 3 == 0), []);
        put(&mut first, "v", 30);
        put(&mut second, "w", 42);
        first.commit().unwrap();
        let second = second.commit();
        if level == Serializable {
            assert_eq!(assert_conflict(second, ConflictKind::Phantom), ["v"]);
            assert_eq!(state(&database), named(&[("v", 30), ("x", 10), ("y", 20)]));
        } else {
            second.unwrap();
            assert_eq!(state(&database), named(&[("v", 30), ("w", 42), ("x", 10), ("y", 20)]));
        }
    }
}

#[test]
fn g2_phantoms_of_absent_keys_are_prevented_at_serializable() {
    for level in LEVELS {
        let database = database(&TWO);
        let mut first = begin(&database, level);
        let mut second = begin(&database, level);
        assert_eq!((get(&mut first, "b"), get(&mut second, "a")), (None, None));
        put(&mut first, "a", 1);
        put(&mut second, "b", 2);
        first.commit().unwrap();
        let second = second.commit();
        if level == Serializable {
            assert_eq!(assert_conflict(second, ConflictKind::Phantom), ["a"]);
        } else {
            second.unwrap();
        }
        assert_eq!(state(&database).len(), if level == Serializable { 3 } else { 4 });
    }
}

#[test]
fn g2_phantoms_outside_of_what_was_scanned_are_none() {
    let database = database(&[("a", 1), ("m", 2), ("z", 3)]);
    let mut transaction = begin(&database, Serializable);
    assert_eq!(scan_range(&mut transaction, KeyRange::prefix(b"m")), named(&[("m", 2)]));
    let first = transaction.scan(KeyRange::all(), Default::default(), Some(1)).unwrap();
    assert_eq!(first.len(), 1);
    // Neither the range nor the part of the other that was read has changed.
    common::overtake(&database, &[("b", 1), ("l", 1), ("n", 1), ("z", 1)]);
    put(&mut transaction, "out", 1);
    transaction.commit().unwrap();

    // A key before the one at which the limit ended the scan is in that part.
    let mut transaction = begin(&database, Serializable);
    assert_eq!(transaction.scan(KeyRange::all(), Default::default(), Some(2)).unwrap()[1].0, b"b");
    common::overtake_having_read(&database, "out", &[("aa", 1)]);
    put(&mut transaction, "out", 2);
    assert_eq!(assert_conflict(transaction.commit(), ConflictKind::Phantom), ["aa"]);
}

#[test]
fn g2_two_anti_dependencies_in_a_chain_are_prevented_at_serializable() {
    // Fekete's example as Hermitage has it, "G2-two-edges".
    for level in LEVELS {
        let database = database(&TWO);
        let mut first = begin(&database, level);
        assert_eq!(select(&mut first, |_| true), named(&TWO));
        let mut second = begin(&database, level);
        let y = get(&mut second, "y").unwrap();
        put(&mut second, "y", y + 5);
        second.commit().unwrap();
        let mut third = begin(&database, level);
        assert_eq!(select(&mut third, |_| true), named(&[("x", 10), ("y", 25)]));
        third.commit().unwrap();
        put(&mut first, "x", 0);
        let first = first.commit();
        if level == Serializable {
            assert_eq!(assert_conflict(first, ConflictKind::Phantom), ["y"]);
            assert_eq!(state(&database), named(&[("x", 10), ("y", 25)]));
        } else {
            first.unwrap();
            assert_eq!(state(&database), named(&[("x", 0), ("y", 25)]));
        }
    }
}

#[test]
fn the_read_only_transaction_anomaly_is_prevented_at_serializable() {
    // x is a checking, y a savings account; a withdrawal that makes their sum negative costs 1.
    for level in LEVELS {
        for reader_options in [at(level), read_only(level)] {
            let database = database(&[("x", 0), ("y", 0)]);
            let mut withdrawal = begin(&database, level);
            assert_eq!(values(&mut withdrawal), (0, 0));
            let mut deposit = begin(&database, level);
            assert_eq!(get(&mut deposit, "y"), Some(0));
            put(&mut deposit, "y", 20);
            deposit.commit().unwrap();
            // It sees the deposit and not the withdrawal: so the withdrawal cannot come before the deposit.
            let mut report = database.begin(&reader_options);
            assert_eq!(values(&mut report), (0, 20));
            report.commit().unwrap();
            // By what it has read the sum would be -10, which a deposit before it would have prevented.
            put(&mut withdrawal, "x", -11);
            let withdrawal = withdrawal.commit();
            if level == Serializable {
                assert_eq!(assert_conflict(withdrawal, ConflictKind::ReadWrite), ["y"]);
                assert_eq!(state(&database), named(&[("x", 0), ("y", 20)]));
            } else {
                withdrawal.unwrap();
                assert_eq!(state(&database), named(&[("x", -11), ("y", 20)]));
            }
        }
    }
}

#[test]
fn strict_the_order_of_commits_in_time_is_their_order() {
    // The first has read what the second then overwrites: it comes before the second. The third begins when the second
    // has returned, and reads what the first then overwrites: it comes before the first, and so before the second,
    // which in time came before it.
    for level in LEVELS {
        let database = database(&TWO);
        let mut first = begin(&database, level);
        assert_eq!(get(&mut first, "y"), Some(20));
        let second = common::overtake(&database, &[("y", 21)]);
        let mut third = begin(&database, level);
        assert!(third.snapshot_version() >= second);
        assert_eq!(get(&mut third, "x"), Some(10));
        put(&mut third, "z", 1);
        assert!(third.commit().unwrap() > second);
        put(&mut first, "x", 11);
        let first = first.commit();
        if level == Serializable {
            assert_eq!(assert_conflict(first, ConflictKind::ReadWrite), ["y"]);
        } else {
            assert!(first.unwrap() > second);
        }
    }
}

#[test]
fn strict_a_begin_after_a_commit_sees_it() {
    for level in LEVELS {
        for options in [at(level), read_only(level)] {
            let database = database(&[]);
            for number in 0..200 {
                let version = common::overtake(&database, &[("x", number), ("y", -number)]);
                let mut reader = database.begin(&options);
                assert!(reader.snapshot_version() >= version);
                assert_eq!(values(&mut reader), (number, -number));
                assert_eq!(scan_range(&mut reader, KeyRange::all()), named(&[("x", number), ("y", -number)]));
                assert!(reader.commit().unwrap() >= version);
            }
        }
    }
}

#[test]
fn read_only_transactions_neither_fail_nor_make_others_fail() {
    for level in LEVELS {
        let database = database(&TWO);
        let mut reader = database.begin(&read_only(level));
        let mut writer = begin(&database, Serializable);
        assert_eq!(select(&mut reader, |_| true).len(), 2);
        assert_eq!(get(&mut reader, "absent"), None);
        let (x, y) = values(&mut writer);
        put(&mut writer, "x", y);
        put(&mut writer, "y", x);
        put(&mut writer, "absent", 1);
        writer.commit().unwrap();
        assert!(reader.is_read_only() && reader.put(b"x", common::batch(&[1])).is_err());
        assert!(reader.append(b"x", common::batch(&[1])).is_err() && reader.delete(b"x").is_err());
        let expected = if level == ReadCommitted { (20, 10) } else { (10, 20) };
        assert_eq!(values(&mut reader), expected);
        reader.commit().unwrap();
    }
}

#[test]
fn a_transaction_that_wrote_nothing_commits_at_every_level() {
    for level in LEVELS {
        let database = database(&TWO);
        let mut reader = begin(&database, level);
        assert_eq!(values(&mut reader), (10, 20));
        common::overtake(&database, &[("x", 11), ("y", 21)]);
        // What it has read was true at its snapshot: that is its place in the order.
        let version = reader.commit().unwrap();
        assert!(level == ReadCommitted || version == reader.snapshot_version());
    }
}

#[test]
fn the_level_comes_from_the_database_unless_the_transaction_has_its_own() {
    for (of_database, of_transaction, expected) in [
        (ReadCommitted, None, 11),
        (RepeatableRead, None, 10),
        (Serializable, None, 10),
        (Serializable, Some(ReadCommitted), 11),
        (ReadCommitted, Some(RepeatableRead), 10),
    ] {
        let options = khonsu::stm::Options { isolation: of_database, ..Default::default() };
        let database = common::database_with(options, &TWO);
        let mut reader =
            database.begin(&TransactionOptions { isolation: of_transaction, ..TransactionOptions::default() });
        assert_eq!(get(&mut reader, "x"), Some(10));
        common::overtake(&database, &[("x", 11)]);
        assert_eq!(get(&mut reader, "x"), Some(expected));
    }
    assert_eq!(IsolationLevel::default(), Serializable);
}
