//! Versions and keys go while transactions run: nothing goes that one of them can see, and what nobody sees does go.

use khonsu::stm::{ConflictResolution, IsolationLevel};
use shuttle::thread;

use crate::explore::explore;
use crate::history::{History, at, read_only, resolving, serializable};

/// Nobody runs any more: what is left is one version of each key that exists.
fn check_what_is_left(history: &History) {
    let mut reader = history.begin("reader", &read_only());
    let found = reader.scan("a", "z");
    for (key, rows) in &found {
        assert_eq!(reader.get(key).as_ref(), Some(rows), "a scan and a point read differ");
    }
    assert!(reader.commit());
    let stats = history.database.stats();
    let rows = found.iter().map(|(_, rows)| rows.len() as u64).sum::<u64>();
    assert_eq!((stats.keys, stats.versions, stats.live_bytes), (found.len() as u64, found.len() as u64, 8 * rows));
}

/// A key is deleted, sealed, taken out and made again, while others read it and look for it in ranges.
#[test]
fn a_key_goes_and_comes_back() {
    explore(&["1111"], || {
        let history = History::new(&[("a", 1), ("k", 1)]).concurrently(&[
            |history| {
                history.run("delete", &resolving(ConflictResolution::Replace), |delete| delete.delete("k"));
                history.database.stats();
            },
            |history| {
                history.run("put", &resolving(ConflictResolution::Replace), |put| put.put("k", 2));
            },
            |history| {
                history.run("get", &read_only(), |reader| {
                    let found = reader.get("k");
                    let scanned = reader.scan("b", "z");
                    assert_eq!(scanned.first().map(|(_, rows)| rows), found.as_ref());
                });
                history.run("scan", &read_only(), |reader| {
                    let scanned = reader.scan("b", "z");
                    assert_eq!(scanned.first().map(|(_, rows)| rows), reader.get("k").as_ref());
                });
            },
        ]);
        check_what_is_left(&history);
        history.judge(&["delete", "put", "get", "scan"])
    });
}

/// The same by way of a bound key that all share, whose record is replaced meanwhile.
#[test]
fn a_bound_key_goes_and_comes_back() {
    explore(&["1111"], || {
        let history = History::new(&[("a", 1), ("k", 1)]);
        let bound = history.database.bind(b"k").expect("a short key");
        thread::scope(|scope| {
            scope.spawn(|| {
                history.run("delete", &resolving(ConflictResolution::Replace), |delete| delete.delete_bound(&bound));
                history.database.stats();
            });
            scope.spawn(|| {
                history.run("put", &resolving(ConflictResolution::Replace), |put| put.put_bound(&bound, 2));
                history.database.stats();
            });
            scope.spawn(|| {
                history.run("get", &read_only(), |reader| {
                    let found = reader.get_bound(&bound);
                    assert_eq!(found, reader.get("k"));
                });
                history.run("many", &read_only(), |reader| {
                    let found = reader.get_many(&["k", "a"]);
                    assert_eq!(found[0], reader.get_bound(&bound));
                });
            });
        });
        check_what_is_left(&history);
        drop(bound);
        history.judge(&["delete", "put", "get", "many"])
    });
}

/// Two that read what the other one writes, by bound keys, of which one has no record at first.
#[test]
fn bound_keys_skew_no_writes() {
    explore(&["10", "01"], || {
        let history = History::new(&[("k", 1)]);
        let keys = ["k", "l"].map(|key| history.database.bind(key.as_bytes()).expect("a short key"));
        thread::scope(|scope| {
            for (name, read, written) in [("1", 0, 1), ("2", 1, 0)] {
                let (history, keys) = (&history, &keys);
                scope.spawn(move || {
                    history.run(name, &serializable(), |one| {
                        one.get_bound(&keys[read]);
                        one.put_bound(&keys[written], 2);
                    });
                });
            }
        });
        history.judge(&["1", "2"])
    });
}

/// The record is sealed by one, met by two writers at once, and replaced by the one or the other.
#[test]
fn a_sealed_key_is_put_by_two() {
    explore(&["11", "10"], || {
        let history = History::new(&[("k", 1)]);
        history.run("delete", &serializable(), |delete| delete.delete("k"));
        let history = history.concurrently(&[
            |history| _ = history.database.stats(),
            |history| _ = history.run("1", &serializable(), |one| one.put("k", 2)),
            |history| {
                history.run("2", &serializable(), |two| {
                    let found = two.scan("a", "z").len() as u64;
                    two.append("k", found);
                });
            },
        ]);
        check_what_is_left(&history);
        history.judge(&["1", "2"])
    });
}

/// Over and over, by three threads of which each does all of it.
#[test]
fn keys_churn() {
    fn churn(history: &History) {
        for round in 0..2 {
            history.run("put", &resolving(ConflictResolution::Replace), |put| put.put("k", round));
            history.run("delete", &resolving(ConflictResolution::Replace), |delete| {
                delete.delete("k");
                delete.put("l", round);
            });
            history.database.stats();
        }
    }
    explore(&["11"], || {
        let history = History::new(&[]).concurrently(&[churn, churn]);
        check_what_is_left(&history);
        history.judge(&["put", "reader"])
    });
}

/// A long reader keeps what it sees, and only that, while the key goes on.
#[test]
fn a_long_snapshot_keeps_its_version() {
    explore(&["111"], || {
        let history = History::new(&[("a", 1), ("b", 1)]);
        let mut long = history.begin("long", &read_only());
        assert_eq!(long.number("a"), 1);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 2..5 {
                    history.run("writer", &serializable(), |writer| {
                        writer.put("a", number);
                        writer.put("b", number);
                    });
                    history.database.stats();
                }
            });
            scope.spawn(|| {
                history.run("short", &read_only(), |short| {
                    assert_eq!(short.number("a"), short.number("b"));
                });
                history.database.stats();
            });
            scope.spawn(|| {
                assert_eq!((long.number("b"), long.number("a")), (1, 1));
                assert!(long.commit());
            });
        });
        check_what_is_left(&history);
        history.judge(&["long", "writer", "short"])
    });
}

/// Snapshots are taken while the versions that they see are superseded and trimmed.
#[test]
fn snapshots_begin_while_versions_are_trimmed() {
    explore(&["11"], || {
        let history = History::new(&[("a", 1), ("b", 1)]).concurrently(&[
            |history| {
                for number in 2..4 {
                    history.run("writer", &serializable(), |writer| {
                        writer.put("a", number);
                        writer.put("b", number);
                    });
                }
            },
            |history| {
                for _ in 0..2 {
                    history.database.stats();
                }
            },
            |history| {
                history.run("reader", &read_only(), |reader| {
                    assert_eq!(reader.number("a"), reader.number("b"));
                    assert_eq!(reader.scan("a", "z").len(), 2);
                });
            },
        ]);
        check_what_is_left(&history);
        history.judge(&["writer", "reader"])
    });
}

/// A commit that fails takes its versions and the records that it made away with it.
#[test]
fn failed_commits_leave_nothing() {
    explore(&["10", "01", "11"], || {
        let history = History::new(&[("a", 1)]).concurrently(&[
            |history| {
                history.run("1", &serializable(), |one| {
                    one.put("a", 10);
                    one.put("b", 10);
                });
            },
            |history| {
                history.run("2", &serializable(), |two| {
                    two.put("c", 20);
                    two.put("a", 20);
                });
            },
        ]);
        check_what_is_left(&history);
        history.judge(&["1", "2"])
    });
}

/// A key was put and deleted since a writer began, and the tombstone is all by which its write can be found to
/// conflict.
fn tombstone_that_a_write_meets(isolation: IsolationLevel) -> String {
    let history = History::new(&[("b", 1)]);
    let mut first = history.begin("1", &at(isolation));
    first.put("a", 10);
    assert!(history.run("2", &serializable(), |two| two.put("a", 20)));
    assert!(history.run("3", &serializable(), |three| three.delete("a")));
    thread::scope(|scope| {
        scope.spawn(|| assert!(!first.commit(), "it has overwritten what it has not seen"));
        scope.spawn(|| history.database.stats());
    });
    check_what_is_left(&history);
    history.judge(&["1", "2", "3"])
}

#[test]
fn a_tombstone_is_kept_for_a_snapshot() {
    explore(&["011"], || tombstone_that_a_write_meets(IsolationLevel::Serializable));
}

#[test]
fn a_tombstone_is_kept_for_a_floor() {
    explore(&["011"], || tombstone_that_a_write_meets(IsolationLevel::ReadCommitted));
}
