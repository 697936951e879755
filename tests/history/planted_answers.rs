//! The checker checked: wrong answers, what strategies do, lists, and attempts that were refused.

use khonsu::stm::IsolationLevel::{RepeatableRead, Serializable};
use khonsu::stm::{ConflictKind, ConflictResolution};

use super::anomalies::Phenomenon::{G0, G2Item, LostWrite, OwnWrites, ThinAir, VersionOrder};
use super::data::{Event, Outcome, Row};
use super::judge;
use super::planted::{read_only_anomaly, stale_order, write_skew};
use super::plot::{LEVELS, Plot, X, Y, Z, assert_forbidden, assert_forbidden_by_lists};

#[test]
fn g0_is_found_in_lists() {
    // The lists of two keys put the same two transactions into different orders.
    for level in LEVELS {
        let mut plot = Plot::default();
        let (one, two) = (plot.begin(level), plot.begin(level));
        for (number, row) in [(one, 1), (two, 11)] {
            plot.append(number, X, row);
            plot.append(number, Y, row + 1);
        }
        plot.commit(one);
        plot.commit(two);
        let reader = plot.begin(Serializable);
        plot.get(reader, X, &[1, 11]);
        plot.get(reader, Y, &[12, 2]);
        plot.commit(reader);
        assert_forbidden_by_lists(&plot, &[G0, VersionOrder]);
    }
}

#[test]
fn own_writes_are_seen() {
    for level in LEVELS {
        type Wrong = dyn Fn(&mut Plot, usize);
        let wrong: [&Wrong; 5] = [
            &|plot, own| plot.get(own, X, &[1]),
            &|plot, own| plot.get(own, Y, &[2]),
            &|plot, own| plot.step(own, Event::Exists(X, false)),
            &|plot, own| plot.scan(own, 0..=9, None, &[(Y, 2), (X, 3)]),
            &|plot, own| plot.scan(own, 0..=9, None, &[(Y, 2)]),
        ];
        for read in wrong {
            let mut plot = Plot::filled(&[(X, 1), (Y, 2)]);
            let own = plot.begin(level);
            plot.put(own, X, 3);
            plot.append(own, Y, 4);
            read(&mut plot, own);
            plot.end(own, Outcome::RolledBack);
            assert_forbidden(&plot, &[OwnWrites]);
        }
        let mut plot = Plot::filled(&[(X, 1), (Y, 2)]);
        let own = plot.begin(level);
        plot.put(own, X, 3);
        plot.append(own, Y, 4);
        plot.get(own, Y, &[2, 4]);
        plot.step(own, Event::Savepoint);
        plot.step(own, Event::Delete(X));
        plot.get(own, X, &[]);
        plot.step(own, Event::Savepoint);
        plot.step(own, Event::Release(1));
        plot.step(own, Event::RollbackTo(0));
        plot.scan(own, X..=X, None, &[(X, 3)]);
        plot.commit(own);
        assert_forbidden(&plot, &[]);
    }
}

#[test]
fn rows_do_not_come_from_nowhere_nor_do_they_go() {
    for level in LEVELS {
        let mut plot = Plot::filled(&[(X, 1), (Y, 2)]);
        let reader = plot.begin(level);
        plot.get(reader, X, &[2]);
        plot.get(reader, Y, &[2, 77]);
        plot.commit(reader);
        assert_forbidden(&plot, &[ThinAir]);

        // A commit that says that it has left no version.
        let mut plot = Plot::filled(&[(X, 1)]);
        let writer = plot.begin(level);
        plot.put(writer, X, 2);
        plot.end(writer, Outcome::Committed(plot.version));
        assert_forbidden(&plot, &[LostWrite]);

        let mut plot = Plot::filled(&[(X, 1)]);
        let (one, two) = (plot.begin(level), plot.begin(level));
        plot.put(one, Y, 2);
        plot.put(two, Z, 3);
        plot.end(one, Outcome::Committed(2));
        plot.end(two, Outcome::Committed(2));
        assert_forbidden(&plot, &[VersionOrder]);
    }
}

#[test]
fn strategies_say_what_is_committed() {
    for level in LEVELS {
        for (resolution, result) in [
            (ConflictResolution::Replace, &[3][..]),
            (ConflictResolution::Append, &[2, 3]),
            (ConflictResolution::Ignore, &[2]),
        ] {
            for seen in [&[3][..], &[2, 3], &[2], &[1]] {
                let mut plot = Plot::filled(&[(X, 1)]);
                let (resolving, other) = (plot.begin(level), plot.begin(level));
                plot.put(other, X, 2);
                plot.commit(other);
                plot.put(resolving, X, 3);
                plot.step(resolving, Event::Resolve(X, resolution));
                plot.put(resolving, Y, 4);
                plot.commit(resolving);
                let reader = plot.begin(level);
                plot.get(reader, X, seen);
                plot.end(reader, Outcome::RolledBack);
                let found = judge::forbidden(&plot.history);
                assert_eq!(found.is_empty(), seen == result, "{resolution:?}: {found:?}");
            }
        }
        // Appends that meet do not conflict, and both are there.
        let mut plot = Plot::filled(&[(X, 1)]);
        let (one, two) = (plot.begin(level), plot.begin(level));
        plot.append(one, X, 2);
        plot.append(two, X, 3);
        plot.commit(one);
        plot.commit(two);
        let reader = plot.begin(level);
        plot.get(reader, X, &[1, 2, 3]);
        plot.commit(reader);
        assert_forbidden(&plot, &[]);
    }
}

#[test]
fn lists_tell_their_own_order() {
    let appended = |read: &[Row], versions: [u64; 2]| {
        let mut plot = Plot::default();
        let (one, two) = (plot.begin(Serializable), plot.begin(Serializable));
        plot.append(one, X, 1);
        plot.append(two, X, 2);
        plot.end(one, Outcome::Committed(versions[0]));
        plot.end(two, Outcome::Committed(versions[1]));
        let reader = plot.begin_at(Serializable, 2);
        plot.get(reader, X, read);
        plot.commit(reader);
        plot
    };
    assert_forbidden_by_lists(&appended(&[1, 2], [1, 2]), &[]);
    assert_forbidden_by_lists(&appended(&[2, 1], [2, 1]), &[]);
    assert_forbidden_by_lists(&appended(&[2, 1], [1, 2]), &[VersionOrder]);
    assert_forbidden_by_lists(&appended(&[1], [1, 2]), &[LostWrite]);
    assert_forbidden_by_lists(&appended(&[1, 3, 2], [1, 2]), &[ThinAir]);
    assert_forbidden_by_lists(&appended(&[1, 2, 1], [1, 2]), &[G0]);
    // Two readers, neither of whom reads the beginning of what the other does.
    let mut plot = appended(&[1, 2], [1, 2]);
    let other = plot.begin(Serializable);
    plot.get(other, X, &[2]);
    plot.commit(other);
    assert_forbidden_by_lists(&plot, &[ThinAir]);
}

#[test]
fn write_skew_is_found_in_lists() {
    for level in LEVELS {
        let mut plot = Plot::default();
        let (one, two) = (plot.begin(level), plot.begin(level));
        for (number, read, write, row) in [(one, X, Y, 1), (two, Y, X, 2)] {
            plot.get(number, read, &[]);
            plot.append(number, write, row);
        }
        plot.commit(one);
        plot.commit(two);
        let reader = plot.begin(level);
        plot.scan(reader, 0..=9, None, &[(X, 2), (Y, 1)]);
        plot.commit(reader);
        assert_forbidden_by_lists(&plot, if level == Serializable { &[G2Item] } else { &[] });
    }
}

#[test]
fn whether_a_refused_commit_would_have_closed_a_cycle() {
    let refused = |mut plot: Plot, number: usize| {
        let transaction = &mut plot.history.transactions[number];
        let Outcome::Committed(version) = transaction.outcome else {
            panic!("it is committed so far");
        };
        transaction.outcome = Outcome::Conflict { kinds: vec![ConflictKind::ReadWrite], newest: version - 1 };
        judge::would_close_cycle(&plot.history, number)
    };
    assert!(refused(write_skew(Serializable, Serializable), 2));
    assert!(!refused(write_skew(RepeatableRead, Serializable), 2));
    assert!(refused(read_only_anomaly(Serializable, true), 1));
    assert!(!refused(read_only_anomaly(Serializable, false), 1));
    assert!(refused(stale_order(Serializable, true), 1));
    assert!(!refused(stale_order(Serializable, false), 1));
    // What had not been committed when the attempt ended says nothing about it.
    assert!(!refused(write_skew(Serializable, Serializable), 1));
}
