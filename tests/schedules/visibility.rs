//! A commit of several keys is seen whole or not at all, at each level and by each kind of read.

use khonsu::stm::IsolationLevel;

use crate::explore::explore;
use crate::history::{History, at, read_only, serializable};

/// Two commits, each of the same number under all keys.
fn write_pairs(history: &History) {
    for number in [2, 3] {
        history.run("writer", &serializable(), |writer| {
            writer.put("a", number);
            writer.put("b", number);
        });
    }
}

#[test]
fn to_read_only_points() {
    explore(&["11"], || {
        let history = History::new(&[("a", 1), ("b", 1)]).concurrently(&[write_pairs, |history| {
            history.run("reader", &read_only(), |reader| {
                assert_eq!(reader.number("a"), reader.number("b"));
            });
        }]);
        history.judge(&["writer", "reader"])
    });
}

#[test]
fn to_scans_in_which_keys_come_and_go() {
    explore(&["111"], || {
        let history = History::new(&[("a", 1), ("b", 1)]).concurrently(&[
            |history| {
                history.run("writer", &serializable(), |writer| {
                    writer.delete("a");
                    writer.put("c", 2);
                    writer.put("d", 2);
                });
            },
            |history| {
                history.run("reader", &read_only(), |reader| {
                    let found = reader.scan("a", "z").len();
                    assert!(found == 2 || found == 3);
                    assert_eq!(reader.get("a").is_some(), reader.get("d").is_none());
                });
            },
            |history| {
                history.run("second reader", &at(IsolationLevel::RepeatableRead), |reader| {
                    assert_eq!(reader.get("d").is_some(), reader.get("a").is_none());
                    reader.scan("a", "z");
                });
            },
        ]);
        history.judge(&["writer", "reader", "second reader"])
    });
}

/// What a transaction reads and writes by is one snapshot, too.
#[test]
fn to_writers() {
    explore(&["10", "11"], || {
        let history = History::new(&[("a", 1), ("b", 1)]).concurrently(&[write_pairs, |history| {
            history.run("second", &serializable(), |second| {
                let (a, b) = (second.number("a"), second.number("b"));
                assert_eq!(a, b);
                second.put("b", b + 10);
                second.put("c", a);
            });
        }]);
        history.judge(&["writer", "second"])
    });
}

/// Each call sees a newer commit or the same, whole.
#[test]
fn to_read_committed() {
    explore(&["11"], || {
        let history = History::new(&[("a", 1), ("b", 1)]).concurrently(&[write_pairs, |history| {
            history.run("reader", &at(IsolationLevel::ReadCommitted), |reader| {
                let mut newest = 0;
                for _ in 0..2 {
                    let found = reader.scan("a", "z");
                    assert_eq!(found[0].1, found[1].1, "one call sees one commit");
                    for number in [found[0].1[0], reader.number("b"), reader.number("a")] {
                        assert!(number >= newest, "it went back in time");
                        newest = number;
                    }
                }
            });
        }]);
        history.judge(&["writer", "reader"])
    });
}

/// Commits that have reads to certify are met READY and STAMPED, and completed, by readers and by each other.
#[test]
fn of_commits_that_others_complete() {
    explore(&["111", "110"], || {
        let history = History::new(&[("a", 1), ("b", 1), ("r", 1)]).concurrently(&[
            |history| {
                history.run("1", &serializable(), |one| {
                    let read = one.number("r");
                    one.put("a", 10 + read);
                    one.put("b", 10 + read);
                });
            },
            |history| {
                history.run("reader", &read_only(), |reader| {
                    assert_eq!(reader.number("b"), reader.number("a"));
                });
            },
            |history| {
                history.run("2", &serializable(), |two| {
                    let read = two.number("b");
                    two.put("r", 20 + read);
                });
            },
        ]);
        history.judge(&["1", "reader", "2"])
    });
}
