//! What becomes of concurrent writes: counters, appends, and blind writes with each way to resolve a conflict.

use khonsu::stm::{ConflictResolution, IsolationLevel};

use crate::explore::explore;
use crate::history::{History, at, resolving, serializable};

/// Adds one to a counter until it commits.
fn count(history: &History, name: &'static str, isolation: IsolationLevel) {
    while !history.run(name, &at(isolation), |counter| {
        let number = counter.number("counter");
        counter.put("counter", number + 1);
    }) {}
}

fn counted(history: &History) -> u64 {
    let mut total = 0;
    history.run("total", &serializable(), |reader| total = reader.number("counter"));
    total
}

#[test]
fn counters_lose_nothing() {
    explore(&["1"], || {
        let history = History::new(&[("counter", 0)]).concurrently(&[
            |history| count(history, "1", IsolationLevel::Serializable),
            |history| count(history, "2", IsolationLevel::Serializable),
            |history| count(history, "3", IsolationLevel::Serializable),
        ]);
        assert_eq!(counted(&history), 3);
        history.judge(&["total"])
    });
}

/// The counter does not exist at first, and the levels meet.
#[test]
fn counters_of_all_levels_lose_nothing() {
    explore(&["1"], || {
        let history = History::new(&[]).concurrently(&[
            |history| count(history, "1", IsolationLevel::ReadCommitted),
            |history| count(history, "2", IsolationLevel::RepeatableRead),
            |history| count(history, "3", IsolationLevel::Serializable),
        ]);
        assert_eq!(counted(&history), 3);
        history.judge(&["total"])
    });
}

#[test]
fn appends_all_commit() {
    explore(&["111"], || {
        let history = History::new(&[("list", 1)]).concurrently(&[
            |history| _ = history.run("1", &serializable(), |one| one.append("list", 2)),
            |history| {
                history.run("2", &serializable(), |two| {
                    two.append("list", 3);
                    two.append("other", 4);
                });
            },
            |history| {
                history.run("3", &serializable(), |three| {
                    three.append("other", 5);
                    three.append("list", 6);
                });
            },
        ]);
        let way = history.judge(&["1", "2", "3"]);
        assert_eq!(way, "111", "appends do not conflict");
        way
    });
}

/// Two writers of the same two keys, each key first seen by either.
fn blind_writes(resolution: fn() -> ConflictResolution, both_commit: bool) -> String {
    let history = History::new(&[("a", 1)]);
    let write = |name, number| {
        let history = &history;
        move || {
            history.run(name, &resolving(resolution()), |writer| {
                writer.put("a", number);
                writer.put("b", number + 1);
            })
        }
    };
    let (one, two) = shuttle::thread::scope(|scope| {
        let (one, two) = (scope.spawn(write("1", 10)), scope.spawn(write("2", 20)));
        (one.join().expect("no panic"), two.join().expect("no panic"))
    });
    assert!(one && two || !both_commit, "a blind write that resolves its conflicts has failed");
    history.judge(&["1", "2"])
}

#[test]
fn blind_writes_that_fail() {
    explore(&["10", "01", "11"], || blind_writes(|| ConflictResolution::Fail, false));
}

#[test]
fn blind_writes_that_are_ignored() {
    explore(&["11"], || blind_writes(|| ConflictResolution::Ignore, true));
}

#[test]
fn blind_writes_that_replace() {
    explore(&["11"], || blind_writes(|| ConflictResolution::Replace, true));
}

#[test]
fn blind_writes_that_append() {
    explore(&["11"], || blind_writes(|| ConflictResolution::Append, true));
}

/// An ignored write leaves the reads of its transaction to be certified, and its other writes.
#[test]
fn an_ignored_write_beside_a_read() {
    explore(&["10", "01"], || {
        let history = History::new(&[("a", 1), ("b", 1), ("c", 1)]).concurrently(&[
            |history| {
                history.run("1", &resolving(ConflictResolution::Ignore), |one| {
                    let read = one.number("a");
                    one.put("b", 10 + read);
                    one.put("c", 11);
                });
            },
            |history| {
                history.run("2", &resolving(ConflictResolution::Ignore), |two| {
                    let read = two.number("b");
                    two.put("a", 20 + read);
                    two.put("c", 21);
                });
            },
        ]);
        history.judge(&["1", "2"])
    });
}

/// Three writers of overlapping keys: installs are met, aborted and started over.
#[test]
fn installs_that_meet() {
    explore(&["111"], || {
        let history = History::new(&[("a", 1), ("b", 1), ("c", 1)]).concurrently(&[
            |history| {
                history.run("1", &resolving(ConflictResolution::Replace), |one| {
                    one.put("a", 10);
                    one.put("b", 11);
                });
            },
            |history| {
                history.run("2", &resolving(ConflictResolution::Replace), |two| {
                    two.put("b", 20);
                    two.put("c", 21);
                });
            },
            |history| {
                history.run("3", &resolving(ConflictResolution::Replace), |three| {
                    three.put("c", 30);
                    three.put("a", 31);
                });
            },
        ]);
        history.judge(&["1", "2", "3"])
    });
}
