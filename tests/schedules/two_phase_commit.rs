//! Transactions that are prepared and decided, beside others. To the judge, a prepared one is committed by its decision.

use khonsu::stm::{ConflictResolution, Decision, Error, GlobalId};
use khonsu::two_phase_commit::TwoPhaseCommitParticipant;

use crate::explore::explore;
use crate::history::{History, read_only, resolving, serializable};

fn over(logged: bool, keys: &[(&str, u64)]) -> History {
    if logged { History::logged(keys, 0) } else { History::new(keys) }
}

/// The race of a committer and a preparer: either sees the other.
fn skew(logged: bool) -> String {
    let history = over(logged, &[("a", 1), ("b", 1)]).concurrently(&[
        |history| {
            let mut global = history.begin("global", &serializable());
            let read = global.number("a");
            global.put("b", 10 + read);
            global.prepare().map(|in_doubt| in_doubt.commit(history));
        },
        |history| {
            history.run("local", &serializable(), |local| {
                let read = local.number("b");
                local.put("a", 20 + read);
            });
        },
        |history| {
            history.run("reader", &read_only(), |reader| {
                reader.number("a");
                reader.number("b");
            });
        },
    ]);
    history.judge(&["global", "local", "reader"])
}

#[test]
fn a_committer_and_a_preparer_cross() {
    explore(&["101", "011", "111"], || skew(false));
}

#[test]
fn a_committer_and_a_preparer_cross_over_a_log() {
    explore(&["101", "011"], || skew(true));
}

/// A committer that looks at nothing but what it writes: a key that was read, one that was absent, a new one in a range.
#[test]
fn blind_writers_of_what_was_read() {
    explore(&["1000", "1111", "0111"], || {
        let history = History::new(&[("a", 1), ("r1", 1)]).concurrently(&[
            |history| {
                let mut global = history.begin("global", &serializable());
                let read = global.number("a") + global.number("n") + global.scan("r", "s").len() as u64;
                global.put("out", 10 + read);
                global.prepare().map(|in_doubt| in_doubt.commit(history));
            },
            |history| {
                history.run("1", &serializable(), |one| one.put("a", 2));
                history.run("2", &serializable(), |two| two.put("n", 3));
            },
            |history| {
                history.run("3", &serializable(), |three| three.put("r2", 4));
            },
        ]);
        history.judge(&["global", "1", "2", "3"])
    });
}

/// Each reads what the other writes. Both may be refused, never none when they meet.
#[test]
fn two_preparers_cross() {
    explore(&["10", "01", "11"], || {
        let history = History::new(&[("a", 1), ("b", 1)]).concurrently(&[
            |history| {
                let mut one = history.begin("1", &serializable());
                let read = one.number("a");
                one.put("b", 10 + read);
                one.prepare().map(|in_doubt| in_doubt.commit(history));
            },
            |history| {
                let mut two = history.begin("2", &serializable());
                let found = two.scan("b", "c").len() as u64 + two.number("b");
                two.put("a", 20 + found);
                two.prepare().map(|in_doubt| in_doubt.commit(history));
            },
        ]);
        history.judge(&["1", "2"])
    });
}

/// Local writers with stale reads, which certification lets through where it can, and one in doubt among them.
#[test]
fn a_prepared_one_in_a_ring_of_stale_readers() {
    explore(&["110", "011"], || {
        let history = History::new(&[("a", 1), ("b", 1), ("c", 1)]).concurrently(&[
            |history| {
                let mut global = history.begin("global", &serializable());
                let read = global.number("a");
                global.put("b", 10 + read);
                global.prepare().map(|in_doubt| in_doubt.commit(history));
            },
            |history| {
                history.run("1", &serializable(), |one| {
                    let read = one.number("b");
                    one.put("c", 20 + read);
                });
            },
            |history| {
                history.run("2", &serializable(), |two| {
                    let read = two.number("c");
                    two.put("a", 30 + read);
                });
            },
        ]);
        history.judge(&["global", "1", "2"])
    });
}

/// Several decide at once, and a writer waits for its chance. What is appended is appended once.
fn deciders(logged: bool) -> String {
    let history = over(logged, &[("a", 1), ("r", 1)]);
    let mut global = history.begin("global", &serializable());
    let read = global.number("r");
    global.append("a", 10 + read);
    global.put("b", 10);
    let in_doubt = global.prepare().expect("nobody else is there");
    let decides: fn(&History) = |history| {
        let version = history.database.commit(&GlobalId::new(b"global").unwrap());
        assert!(matches!(version, Ok(2..)), "{version:?}");
    };
    let history = history.concurrently(&[decides, decides, |history| {
        history.run("1", &serializable(), |one| one.append("a", 20));
        history.run("2", &serializable(), |two| {
            let read = two.number("b");
            two.put("r", 30 + read);
        });
    }]);
    in_doubt.decided_by_others(&history);
    history.judge(&["1", "2"])
}

#[test]
fn deciders_take_turns() {
    explore(&["00", "11", "01"], || deciders(false));
}

#[test]
fn deciders_take_turns_over_a_log() {
    explore(&["00", "11"], || deciders(true));
}

/// An operator rolls back while the coordinator commits: they agree on what was done.
#[test]
fn a_commit_and_a_heuristic_rollback() {
    explore(&["1", "0"], || {
        let history = History::new(&[("a", 1)]);
        let mut global = history.begin("global", &serializable());
        global.append("a", 2);
        let in_doubt = global.prepare().expect("nobody else is there");
        let history = history.concurrently(&[
            |history| {
                let id = GlobalId::new(b"global").unwrap();
                match history.database.commit(&id) {
                    Ok(version) => assert!(version >= 2),
                    Err(Error::Heuristic(outcome)) => assert_eq!(outcome.decision, Decision::Rollback),
                    Err(other) => panic!("{other:?}"),
                }
            },
            |history| {
                let id = GlobalId::new(b"global").unwrap();
                match history.database.decide_heuristically(&id, Decision::Rollback) {
                    Ok(()) => {}
                    Err(Error::AlreadyDecided(outcome)) => assert_eq!(outcome.decision, Decision::Commit),
                    Err(other) => panic!("{other:?}"),
                }
            },
        ]);
        in_doubt.decided_by_others(&history);
        history.judge(&["global"])
    });
}

/// What is prepared goes on top of commits that are on their way to the log, which refuses one of them.
#[test]
fn preparing_over_one_that_fails_in_the_log() {
    explore(&["011", "010"], || {
        let history = History::logged(&[("k", 1), ("x", 1)], 1).concurrently(&[
            |history| {
                history.run("failing", &serializable(), |failing| {
                    failing.append("k", 2);
                    failing.delete("x");
                    failing.put("fails", 2);
                });
            },
            |history| {
                let mut global = history.begin("global", &resolving(ConflictResolution::Append));
                global.append("k", 3);
                global.put("y", 3);
                global.prepare().map(|in_doubt| in_doubt.commit(history));
            },
            |history| {
                let mut reading = history.begin("reading", &serializable());
                let read = reading.number("x");
                reading.put("z", 4 + read);
                reading.prepare().map(|in_doubt| in_doubt.commit(history));
            },
        ]);
        history.judge(&["failing", "global", "reading"])
    });
}

/// The log refuses the commit of one in doubt, which stays in doubt, and holds what it held, until it is accepted.
#[test]
fn a_commit_that_the_log_refuses_at_first() {
    explore(&["10", "11"], || {
        let history = History::logged(&[("k", 1), ("r", 1)], 1).concurrently(&[
            |history| {
                let mut global = history.begin("global", &serializable());
                let read = global.number("r");
                global.put("k", 10 + read);
                global.put("fails", 2);
                global.prepare().map(|in_doubt| in_doubt.commit(history));
            },
            |history| {
                history.run("1", &serializable(), |one| {
                    let read = one.number("k");
                    one.put("r", 20 + read);
                });
            },
            |history| {
                history.run("reader", &read_only(), |reader| {
                    reader.number("k");
                    reader.number("r");
                });
            },
        ]);
        history.judge(&["global", "1"])
    });
}

/// Absent keys whose records are removed, and made anew, while they are looked at.
#[test]
fn removed_keys_are_held_as_absent() {
    explore(&["11", "01", "10"], || {
        let history = History::new(&[("a", 1)]).concurrently(&[
            |history| {
                history.run("delete", &serializable(), |delete| delete.delete("a"));
                history.database.stats();
                history.run("again", &serializable(), |again| again.put("a", 2));
            },
            |history| {
                let mut global = history.begin("global", &serializable());
                let found = u64::from(global.get("a").is_some());
                global.put("b", found);
                global.prepare().map(|in_doubt| in_doubt.commit(history));
            },
            |history| _ = history.database.stats(),
        ]);
        history.judge(&["again", "global"])
    });
}

/// Rolled back, it is as if it had never been; what it held is free at once.
#[test]
fn a_rollback_beside_writers() {
    explore(&["11", "01"], || {
        let history = History::new(&[("a", 1), ("b", 1)]).concurrently(&[
            |history| {
                let mut global = history.begin("global", &serializable());
                let read = global.number("a");
                global.put("b", 10 + read);
                global.prepare().into_iter().for_each(|in_doubt| in_doubt.roll_back(history));
                assert!(history.run("after", &serializable(), |after| after.append("b", 7)));
            },
            |history| {
                history.run("1", &serializable(), |one| one.append("a", 5));
                history.run("2", &serializable(), |two| two.append("b", 6));
            },
        ]);
        history.judge(&["1", "after"])
    });
}
