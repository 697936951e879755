//! The checker checked: each phenomenon planted by hand is found, at the levels that forbid it and at no other, and
//! what only looks like one is not.

use khonsu::stm::IsolationLevel::{self, ReadCommitted, RepeatableRead, Serializable};
use khonsu::stm::{ConflictResolution, Direction};

use super::anomalies::Phenomenon::{G1a, G1b, G1c, G2, G2Item, GNonadjacent, GSingle, LostUpdate, RealTime, Unfit};
use super::data::{Event, Outcome, Span};
use super::plot::{LEVELS, Plot, X, Y, Z, assert_all, assert_forbidden, assert_forbidden_by_lists};

#[test]
fn a_serial_history_has_no_anomaly() {
    for level in LEVELS {
        let mut plot = Plot::filled(&[(X, 1), (Y, 2)]);
        for row in 3..8 {
            let next = plot.begin(level);
            plot.get(next, X, &[if row == 3 { 1 } else { row - 1 }]);
            plot.scan(next, 0..=9, None, &[(X, if row == 3 { 1 } else { row - 1 }), (Y, 2)]);
            plot.put(next, X, row);
            plot.get(next, X, &[row]);
            plot.commit(next);
        }
        assert_forbidden(&plot, &[]);
        assert_all(&plot, &[]);
    }
}

#[test]
fn g1a_reads_of_what_was_never_committed() {
    for level in LEVELS {
        let mut plot = Plot::filled(&[(X, 1)]);
        let (writer, reader) = (plot.begin(level), plot.begin(level));
        plot.put(writer, X, 2);
        plot.get(reader, X, &[2]);
        plot.end(writer, Outcome::RolledBack);
        plot.commit(reader);
        assert_forbidden(&plot, &[G1a]);

        // Nor may a transaction see it that does not commit itself.
        plot.history.transactions[reader].outcome = Outcome::RolledBack;
        assert_forbidden(&plot, &[G1a]);
    }
}

#[test]
fn g1a_and_g1b_read_what_a_savepoint_or_a_strategy_undid() {
    for level in LEVELS {
        let mut plot = Plot::filled(&[(X, 1)]);
        let writer = plot.begin(level);
        plot.step(writer, Event::Savepoint);
        plot.put(writer, X, 2);
        plot.step(writer, Event::RollbackTo(0));
        plot.put(writer, Y, 3);
        plot.commit(writer);
        let reader = plot.begin(level);
        plot.get(reader, X, &[2]);
        plot.commit(reader);
        assert_forbidden(&plot, &[G1a]);

        let mut plot = Plot::filled(&[(X, 1)]);
        let (dropped, other) = (plot.begin(level), plot.begin(level));
        plot.resolving(dropped, ConflictResolution::Ignore);
        plot.put(other, X, 2);
        plot.commit(other);
        plot.put(dropped, X, 3);
        plot.put(dropped, Y, 4);
        plot.commit(dropped);
        let reader = plot.begin(level);
        plot.get(reader, X, &[3]);
        plot.commit(reader);
        assert_forbidden(&plot, &[G1a]);

        // What is right is that the other one's value stays.
        plot.history.transactions[reader].steps[0].event = Event::Get(X, Some(vec![2]));
        assert_forbidden(&plot, &[]);
    }
}

#[test]
fn g1b_reads_of_intermediate_values() {
    for level in LEVELS {
        let mut plot = Plot::filled(&[(X, 1)]);
        let writer = plot.begin(level);
        plot.put(writer, X, 2);
        plot.put(writer, X, 3);
        plot.commit(writer);
        let reader = plot.begin(level);
        plot.get(reader, X, &[2]);
        plot.commit(reader);
        assert_forbidden(&plot, &[G1b]);

        let mut plot = Plot::default();
        let writer = plot.begin(level);
        plot.append(writer, X, 2);
        plot.append(writer, X, 3);
        plot.commit(writer);
        let (early, late) = (plot.begin(level), plot.begin(level));
        plot.get(early, X, &[2]);
        plot.get(late, X, &[2, 3]);
        plot.commit(early);
        plot.commit(late);
        assert_forbidden(&plot, &[G1b]);
        assert_forbidden_by_lists(&plot, &[G1b]);
    }
}

#[test]
fn g1c_circular_information() {
    for level in LEVELS {
        let mut plot = Plot::filled(&[(X, 1), (Y, 2)]);
        let (one, two) = (plot.begin(level), plot.begin(level));
        plot.put(one, X, 3);
        plot.put(two, Y, 4);
        plot.get(one, Y, &[4]);
        plot.get(two, X, &[3]);
        plot.commit(one);
        plot.commit(two);
        assert_forbidden(&plot, &[G1c, Unfit]);
    }
}

#[test]
fn read_skew_is_allowed_at_read_committed_only() {
    for level in LEVELS {
        let mut plot = Plot::filled(&[(X, 1), (Y, 2)]);
        let (reader, writer) = (plot.begin(level), plot.begin(level));
        plot.get(reader, X, &[1]);
        plot.put(writer, X, 3);
        plot.put(writer, Y, 4);
        plot.commit(writer);
        plot.get(reader, Y, &[4]);
        plot.commit(reader);
        match level {
            ReadCommitted => {
                assert_forbidden(&plot, &[]);
                assert_all(&plot, &[GSingle]);
            }
            _ => assert_forbidden(&plot, &[Unfit, GSingle]),
        }
    }
}

#[test]
fn reads_do_not_go_back_even_at_read_committed() {
    for level in LEVELS {
        let mut plot = Plot::filled(&[(X, 1), (Y, 2)]);
        let before = plot.version;
        let (reader, writer) = (plot.begin(level), plot.begin(level));
        plot.put(writer, X, 3);
        plot.put(writer, Y, 4);
        plot.commit(writer);
        let window = (before, plot.version);
        plot.step_in(reader, window, Event::Get(X, Some(vec![3])));
        plot.step_in(reader, window, Event::Get(Y, Some(vec![2])));
        plot.commit(reader);
        match level {
            ReadCommitted => assert_forbidden(&plot, &[Unfit]),
            _ => assert_forbidden(&plot, &[Unfit, GSingle]),
        }
    }
    // One call at read committed has one snapshot, too.
    let mut plot = Plot::filled(&[(X, 1), (Y, 2)]);
    let (reader, writer) = (plot.begin(ReadCommitted), plot.begin(ReadCommitted));
    plot.put(writer, X, 3);
    plot.put(writer, Y, 4);
    plot.commit(writer);
    let (span, direction) = (Span { low: X, high: Y }, Direction::Forward);
    let found = vec![(X, vec![1]), (Y, vec![4])];
    plot.step_in(reader, (1, 2), Event::Scan { span, direction, limit: None, by_cursor: false, found });
    plot.commit(reader);
    assert_forbidden(&plot, &[Unfit]);

    // A cursor stays at the snapshot at which it was opened, and only a cursor may.
    let by = |by_cursor| {
        let mut plot = Plot::filled(&[(X, 1)]);
        let (reader, writer) = (plot.begin(ReadCommitted), plot.begin(ReadCommitted));
        plot.put(writer, X, 2);
        plot.commit(writer);
        plot.get(reader, X, &[2]);
        let found = vec![(X, vec![1])];
        plot.step_in(
            reader,
            (1, 1),
            Event::Scan { span: Span { low: X, high: Y }, direction, limit: None, by_cursor, found },
        );
        plot.commit(reader);
        plot
    };
    assert_forbidden(&by(true), &[]);
    assert_forbidden(&by(false), &[Unfit]);
}

#[test]
fn lost_updates_are_found_where_no_strategy_allows_them() {
    let lost = |level, resolution| {
        let mut plot = Plot::filled(&[(X, 1)]);
        let (one, two) = (plot.begin(level), plot.begin(level));
        for (number, row) in [(one, 2), (two, 3)] {
            plot.resolving(number, resolution);
            plot.get(number, X, &[1]);
            plot.put(number, X, row);
        }
        plot.commit(one);
        plot.commit(two);
        plot
    };
    for level in LEVELS {
        let plot = lost(level, ConflictResolution::Fail);
        match level {
            Serializable => assert_forbidden(&plot, &[LostUpdate, GSingle]),
            _ => assert_forbidden(&plot, &[LostUpdate]),
        }
        assert_all(&plot, &[LostUpdate, GSingle]);
    }
    assert_forbidden(&lost(RepeatableRead, ConflictResolution::Replace), &[]);
    assert_forbidden(&lost(Serializable, ConflictResolution::Replace), &[LostUpdate, GSingle]);
    // A blind write, too, may not go over what was committed meanwhile.
    for level in LEVELS {
        let mut plot = Plot::filled(&[(X, 1)]);
        let (one, two) = (plot.begin(level), plot.begin(level));
        plot.put(one, X, 2);
        plot.commit(one);
        plot.put(two, X, 3);
        plot.commit(two);
        assert_forbidden(&plot, &[LostUpdate]);
    }
    // At read committed a key that is read again is compared with what was read then.
    let mut plot = Plot::filled(&[(X, 1)]);
    let (one, two) = (plot.begin(ReadCommitted), plot.begin(ReadCommitted));
    plot.put(one, X, 2);
    plot.commit(one);
    plot.get(two, X, &[2]);
    plot.put(two, X, 3);
    plot.commit(two);
    assert_forbidden(&plot, &[]);
}

pub fn write_skew(first: IsolationLevel, second: IsolationLevel) -> Plot {
    let mut plot = Plot::filled(&[(X, 1), (Y, 2)]);
    let (one, two) = (plot.begin(first), plot.begin(second));
    for number in [one, two] {
        plot.get(number, X, &[1]);
        plot.get(number, Y, &[2]);
    }
    plot.put(one, X, 3);
    plot.put(two, Y, 4);
    plot.commit(one);
    plot.commit(two);
    plot
}

#[test]
fn write_skew_is_forbidden_at_serializable_only() {
    for level in LEVELS {
        let plot = write_skew(level, level);
        assert_all(&plot, &[G2Item]);
        assert_forbidden(&plot, if level == Serializable { &[G2Item] } else { &[] });
    }
    // Only who is serializable itself is promised something.
    assert_forbidden(&write_skew(Serializable, RepeatableRead), &[]);
    assert_forbidden(&write_skew(ReadCommitted, Serializable), &[]);
}

#[test]
fn phantoms_are_forbidden_at_serializable_only() {
    for level in LEVELS {
        let mut plot = Plot::filled(&[(X, 1)]);
        let (one, two) = (plot.begin(level), plot.begin(level));
        for (number, key, row) in [(one, 5, 2), (two, 6, 3)] {
            plot.scan(number, 0..=9, None, &[(X, 1)]);
            plot.put(number, key, row);
        }
        plot.commit(one);
        plot.commit(two);
        assert_all(&plot, &[G2]);
        assert_forbidden(&plot, if level == Serializable { &[G2] } else { &[] });
    }
}

#[test]
fn a_limited_scan_reads_up_to_its_last_key() {
    let with = |limit| {
        let mut plot = Plot::filled(&[(X, 1)]);
        let (one, two) = (plot.begin(Serializable), plot.begin(Serializable));
        for (number, key, row) in [(one, 5, 2), (two, 6, 3)] {
            plot.scan(number, 0..=9, limit, &[(X, 1)]);
            plot.put(number, key, row);
        }
        plot.commit(one);
        plot.commit(two);
        plot
    };
    assert_forbidden(&with(Some(1)), &[]);
    assert_forbidden(&with(Some(2)), &[G2]);
}

#[test]
fn an_absent_key_is_read_like_another() {
    let mut plot = Plot::filled(&[(Z, 1)]);
    let (one, two) = (plot.begin(Serializable), plot.begin(Serializable));
    plot.get(one, X, &[]);
    plot.step(two, Event::Exists(Y, false));
    plot.put(one, Y, 3);
    plot.put(two, X, 4);
    plot.commit(one);
    plot.commit(two);
    assert_forbidden(&plot, &[G2Item]);
}

#[test]
fn a_deleted_key_that_is_still_read_fits_no_state() {
    for level in LEVELS {
        let mut plot = Plot::filled(&[(X, 1)]);
        let writer = plot.begin(level);
        plot.step(writer, Event::Delete(X));
        plot.commit(writer);
        let reader = plot.begin(level);
        plot.scan(reader, 0..=9, None, &[(X, 1)]);
        plot.commit(reader);
        match level {
            // The reader comes after the writer in time and before it by what it sees.
            Serializable | RepeatableRead => assert_forbidden(&plot, &[Unfit, RealTime]),
            ReadCommitted => assert_forbidden(&plot, &[Unfit]),
        }
        plot.history.transactions[reader].steps[0].event = Event::Exists(X, false);
        assert_forbidden(&plot, &[]);
    }
}

/// Who reads nothing else than the state before the second writer's commit, and who writes what that one had read.
pub fn read_only_anomaly(level: IsolationLevel, reader: bool) -> Plot {
    let mut plot = Plot::filled(&[(X, 1), (Y, 2)]);
    let pivot = plot.begin(level);
    plot.get(pivot, X, &[1]);
    plot.get(pivot, Y, &[2]);
    let first = plot.begin(level);
    plot.put(first, Y, 3);
    plot.commit(first);
    if reader {
        let reader = plot.begin(level);
        plot.history.transactions[reader].read_only = true;
        plot.get(reader, X, &[1]);
        plot.get(reader, Y, &[3]);
        plot.commit(reader);
    }
    plot.put(pivot, X, 4);
    plot.commit(pivot);
    plot
}

#[test]
fn the_read_only_anomaly_is_forbidden_at_serializable_only() {
    assert_forbidden(&read_only_anomaly(RepeatableRead, true), &[]);
    assert_forbidden(&read_only_anomaly(Serializable, true), &[G2Item]);
    assert_forbidden(&read_only_anomaly(Serializable, false), &[]);
}

#[test]
fn long_fork_is_forbidden_from_repeatable_read_on() {
    for level in LEVELS {
        let mut plot = Plot::filled(&[(X, 1), (Y, 2)]);
        let before = plot.version;
        let (one, two) = (plot.begin(level), plot.begin(level));
        let readers = [plot.begin(level), plot.begin(level)];
        plot.put(one, X, 3);
        plot.put(two, Y, 4);
        plot.commit(one);
        plot.commit(two);
        let window = (before, plot.version);
        for (reader, first, second) in [(readers[0], (X, 3), (Y, 2)), (readers[1], (X, 1), (Y, 4))] {
            for (key, row) in [first, second] {
                plot.step_in(reader, window, Event::Get(key, Some(vec![row])));
            }
        }
        readers.into_iter().for_each(|reader| plot.commit(reader));
        match level {
            ReadCommitted => {
                assert_forbidden(&plot, &[]);
                assert_all(&plot, &[GNonadjacent]);
            }
            _ => assert_forbidden(&plot, &[Unfit, GNonadjacent]),
        }
    }
}

#[test]
fn a_begin_sees_what_was_committed_before() {
    for level in LEVELS {
        let mut plot = Plot::filled(&[(X, 1)]);
        let before = plot.version;
        let writer = plot.begin(level);
        plot.put(writer, X, 2);
        plot.commit(writer);
        let stale = plot.begin_at(level, before);
        plot.step_in(stale, (before, before), Event::Get(X, Some(vec![1])));
        plot.commit(stale);
        assert_forbidden(&plot, &[RealTime]);
    }
}

/// Serializable as 2, 0, 1: but with `ended`, 1 had ended before 2 began.
pub fn stale_order(level: IsolationLevel, ended: bool) -> Plot {
    let mut plot = Plot::filled(&[(X, 1), (Y, 2)]);
    let first = plot.begin(level);
    plot.get(first, X, &[1]);
    let overwriter = plot.begin(level);
    plot.put(overwriter, X, 3);
    let overlapping = (!ended).then(|| plot.begin(level));
    plot.commit(overwriter);
    let reader = overlapping.unwrap_or_else(|| plot.begin(level));
    plot.get(reader, Y, &[2]);
    plot.commit(reader);
    plot.put(first, Y, 4);
    plot.commit(first);
    plot
}

#[test]
fn serializable_orders_respect_real_time() {
    assert_forbidden(&stale_order(Serializable, true), &[RealTime]);
    assert_forbidden(&stale_order(Serializable, false), &[]);
    assert_forbidden(&stale_order(RepeatableRead, true), &[]);
}
