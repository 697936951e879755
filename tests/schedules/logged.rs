//! Transactions whose commits go through a log, which may refuse some of them.

use khonsu::stm::{ConflictResolution, IsolationLevel};

use crate::explore::explore;
use crate::history::{History, at, read_only, resolving, serializable};

#[test]
fn commits_are_seen_whole_and_in_the_order_of_the_log() {
    explore(&["111"], || {
        let history = History::logged(&[("a", 1), ("b", 1)], 0).concurrently(&[
            |history| {
                for number in [2, 3] {
                    history.run("writer", &serializable(), |writer| {
                        writer.put("a", number);
                        writer.put("b", number);
                    });
                }
            },
            |history| {
                history.run("second", &serializable(), |second| second.append("c", 4));
            },
            |history| {
                for _ in 0..2 {
                    history.run("reader", &read_only(), |reader| {
                        assert_eq!(reader.number("a"), reader.number("b"));
                        reader.get("c");
                    });
                }
            },
        ]);
        history.judge(&["writer", "second", "reader"])
    });
}

#[test]
fn a_ring_over_a_range_an_absent_key_and_a_point() {
    explore(&["011", "101", "110"], || {
        let history = History::logged(&[("p", 1)], 0).concurrently(&[
            |history| {
                history.run("1", &serializable(), |one| {
                    let found = one.scan("a", "d").len() as u64;
                    one.put("n", 10 + found);
                });
            },
            |history| {
                history.run("2", &serializable(), |two| {
                    let absent = two.get("n").is_none();
                    two.put("p", 20 + u64::from(absent));
                });
            },
            |history| {
                history.run("3", &serializable(), |three| {
                    let read = three.number("p");
                    three.put("b", 30 + read);
                });
            },
        ]);
        history.judge(&["1", "2", "3"])
    });
}

/// The report may begin between the certification of the withdrawal and its visibility, and see the deposit, which is
/// visible before.
#[test]
fn the_read_only_anomaly() {
    explore(&["111", "011"], || {
        let history = History::logged(&[("checking", 0), ("savings", 0)], 0).concurrently(&[
            |history| {
                history.run("withdraw", &serializable(), |withdraw| {
                    let sum = withdraw.number("checking") + withdraw.number("savings");
                    withdraw.put("checking", if sum < 10 { 1 } else { 2 });
                });
            },
            |history| {
                history.run("deposit", &serializable(), |deposit| {
                    let savings = deposit.number("savings");
                    deposit.put("savings", savings + 20);
                });
            },
            |history| {
                let reported = history.run("report", &read_only(), |report| {
                    report.number("checking");
                    report.number("savings");
                });
                assert!(reported, "a read-only transaction has failed");
            },
        ]);
        history.judge(&["withdraw", "deposit", "report"])
    });
}

/// One that only reads and was not declared so, beside writers with stale reads.
#[test]
fn an_undeclared_reader_of_a_skew() {
    explore(&["101", "011"], || {
        let history = History::logged(&[("a", 1), ("b", 1)], 0).concurrently(&[
            |history| {
                history.run("1", &serializable(), |one| {
                    let read = one.number("a");
                    one.put("b", 10 + read);
                });
            },
            |history| {
                history.run("2", &serializable(), |two| {
                    let read = two.number("b");
                    two.put("a", 20 + read);
                });
            },
            |history| {
                history.run("3", &serializable(), |three| {
                    three.number("a");
                    three.number("b");
                });
            },
        ]);
        history.judge(&["1", "2", "3"])
    });
}

/// Rows that were put after the rows of one that fails go with it, those of others stay.
#[test]
fn appends_on_top_of_one_that_fails() {
    explore(&["0011", "0111", "0001"], || {
        let history = History::logged(&[("k", 1)], 1).concurrently(&[
            |history| {
                history.run("failing", &serializable(), |failing| {
                    failing.append("k", 2);
                    failing.put("fails", 2);
                });
            },
            |history| {
                history.run("1", &serializable(), |one| one.append("k", 3));
                history.run("beside", &serializable(), |beside| beside.put("b", 5));
            },
            |history| {
                history.run("2", &serializable(), |two| {
                    two.append("k", 4);
                    two.append("l", 4);
                });
            },
        ]);
        history.judge(&["failing", "1", "2", "beside"])
    });
}

/// What goes over the write of one that fails stays, by whatever resolution, and is logged as what it came to.
#[test]
fn writes_over_one_that_fails() {
    explore(&["0111", "0110"], || {
        let history = History::logged(&[("k", 1)], 1).concurrently(&[
            |history| {
                history.run("failing", &serializable(), |failing| {
                    failing.put("k", 2);
                    failing.put("fails", 2);
                });
            },
            |history| {
                history.run("ignoring", &resolving(ConflictResolution::Ignore), |ignoring| {
                    ignoring.put("k", 3);
                    ignoring.put("i", 3);
                });
                history.run("replacing", &resolving(ConflictResolution::Replace), |replacing| replacing.put("k", 4));
            },
            |history| {
                history.run("appending", &resolving(ConflictResolution::Append), |appending| {
                    appending.put("k", 5);
                    appending.delete("d");
                });
            },
        ]);
        history.judge(&["failing", "ignoring", "replacing", "appending"])
    });
}

/// A key that one that fails has made, or deleted, and readers of it at every level.
#[test]
fn keys_that_failed_commits_made_and_deleted() {
    explore(&["0011"], || {
        let history = History::logged(&[("k", 1)], 2).concurrently(&[
            |history| {
                for number in [2, 3] {
                    history.run("failing", &serializable(), |failing| {
                        failing.delete("k");
                        failing.put("new", number);
                        failing.put("fails", number);
                    });
                }
            },
            |history| {
                history.run("reader", &at(IsolationLevel::RepeatableRead), |reader| {
                    assert_eq!((reader.get("k"), reader.get("new")), (Some(vec![1]), None));
                    assert_eq!(reader.scan("a", "z").iter().filter(|(key, _)| key != "l").count(), 1);
                });
            },
            |history| {
                history.run("writer", &serializable(), |writer| {
                    let read = writer.number("k");
                    writer.put("l", read + 5);
                });
            },
        ]);
        let database = history.database.clone();
        let way = history.judge(&["failing", "failing", "reader", "writer"]);
        let (stats, keys) = (database.stats(), if way.ends_with('1') { 2 } else { 1 });
        assert_eq!((stats.keys, stats.versions), (keys, keys), "nothing of the failed ones is left");
        way
    });
}

/// Rows that go after a delete that fails, and a stale reader beside it, whose overwriter fails.
#[test]
fn appends_on_top_of_a_delete_that_fails() {
    explore(&["0011", "0001"], || {
        let history = History::logged(&[("k", 1), ("x", 1)], 1).concurrently(&[
            |history| {
                history.run("failing", &serializable(), |failing| {
                    failing.delete("k");
                    failing.put("x", 2);
                    failing.put("fails", 2);
                });
            },
            |history| {
                history.run("appending", &serializable(), |appending| appending.append("k", 3));
                history.run("resolving", &resolving(ConflictResolution::Append), |resolving| resolving.put("k", 4));
            },
            |history| {
                history.run("stale", &serializable(), |stale| {
                    let read = stale.number("x");
                    stale.put("y", read);
                });
            },
        ]);
        history.judge(&["failing", "appending", "stale", "resolving"])
    });
}

#[test]
fn whoever_syncs_leads_as_others_do() {
    explore(&["11"], || {
        let history = History::logged(&[("a", 1)], 0).concurrently(&[
            |history| {
                history.run("1", &serializable(), |one| one.put("a", 2));
            },
            |history| {
                history.run("2", &serializable(), |two| two.append("b", 3));
            },
            |history| history.database.sync().expect("nothing is in the way"),
        ]);
        history.judge(&["1", "2"])
    });
}
