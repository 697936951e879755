//! Two-phase commit: what is held between the two phases, who is told what, and how it ends.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;

use common::kept::Kept;
use common::{
    Batches, LEVELS, RESOLUTIONS, assert_conflict, at, batch, begin, committed_rows, conflicts_of, database,
    database_with, delete, get, overtake, put, read_only, resolving, scan_range, select, state, text_batch,
};
use khonsu::stm::{
    ConflictKind, ConflictResolution, Decision, Error, GlobalId, IsolationLevel, KeyRange, Options,
    REMEMBERED_OUTCOMES, TransactionOptions,
};
use khonsu::two_phase_commit::{PrepareOptions, TwoPhaseCommitParticipant, Vote};

use IsolationLevel::{ReadCommitted, RepeatableRead, Serializable};

const VOLATILE: PrepareOptions = PrepareOptions { allow_volatile: true, hold_reads: false };
const HOLDING: PrepareOptions = PrepareOptions { allow_volatile: true, hold_reads: true };

fn id(name: &str) -> GlobalId {
    GlobalId::new(name.as_bytes()).expect("a short name")
}

/// Prepares what `body` does.
fn prepare_at(
    database: &Batches,
    options: &TransactionOptions,
    name: &str,
    body: impl FnOnce(&mut common::BatchTransaction),
) -> Result<Vote, Error> {
    let mut transaction = database.begin(options);
    body(&mut transaction);
    database.prepare(&mut transaction, &id(name), VOLATILE)
}

fn prepare(database: &Batches, name: &str, body: impl FnOnce(&mut common::BatchTransaction)) {
    assert_eq!(prepare_at(database, &at(Serializable), name, body), Ok(Vote::Yes));
}

#[track_caller]
fn assert_held<T: std::fmt::Debug>(outcome: Result<T, Error>, key: &str, holder: &str) {
    let conflicts = conflicts_of(outcome);
    let found = conflicts.iter().any(|conflict| {
        (conflict.kind, conflict.key.as_slice(), conflict.holder.as_ref())
            == (ConflictKind::Prepared, key.as_bytes(), Some(&id(holder)))
    });
    assert!(found, "expected {key} to be held by {holder}: {conflicts:?}");
}

// ---- the way of one that commits, and of one that does not ----

#[test]
fn what_is_prepared_is_seen_when_it_is_committed() {
    let database = database(&[("a", 1), ("b", 2), ("c", 3)]);
    prepare(&database, "one", |transaction| {
        put(transaction, "a", 10);
        common::append(transaction, "b", 20);
        delete(transaction, "c");
        put(transaction, "d", 40);
    });
    let mut before = begin(&database, Serializable);
    let names = |rows: &[(&str, i64)]| common::named(rows);
    assert_eq!(state(&database), names(&[("a", 1), ("b", 2), ("c", 3)]));
    let commits = database.stats().commits;
    let version = database.commit(&id("one")).expect("nothing can be in its way");
    assert_eq!((version, database.stats().commits), (2, commits + 1));
    assert_eq!(committed_rows(&database, "b"), Some(vec![2, 20]));
    assert_eq!((committed_rows(&database, "c"), committed_rows(&database, "d")), (None, Some(vec![40])));
    assert_eq!(scan_range(&mut before, KeyRange::all()), names(&[("a", 1), ("b", 2), ("c", 3)]));
    assert_eq!(database.commit(&id("one")), Ok(version), "it may be repeated");
    overtake(&database, &[("a", 11), ("d", 41)]);
    let stats = database.stats();
    assert_eq!((stats.prepared_transactions, stats.prepared_bytes, stats.remembered_outcomes), (0, 0, 1));
    assert_eq!(stats.commits, commits + 2, "repeated ones do not count");
}

#[test]
fn what_is_rolled_back_was_never_there() {
    let database = database(&[("a", 1)]);
    prepare(&database, "one", |transaction| {
        assert_eq!(get(transaction, "a"), Some(1));
        put(transaction, "b", 2);
        delete(transaction, "a");
    });
    assert_eq!(database.rollback(&id("one")), Ok(()));
    assert_eq!(database.rollback(&id("one")), Ok(()), "it may be repeated");
    overtake(&database, &[("a", 5), ("b", 6)]);
    assert_eq!(state(&database), common::named(&[("a", 5), ("b", 6)]));
}

#[test]
fn one_without_a_write_has_nothing_to_decide() {
    let database = database(&[("a", 1)]);
    for level in LEVELS {
        let mut transaction = begin(&database, level);
        assert_eq!(get(&mut transaction, "a"), Some(1));
        assert_eq!(database.prepare(&mut transaction, &id("one"), PrepareOptions::default()), Ok(Vote::ReadOnly));
        assert!(!transaction.is_open() && transaction.commit_version() == Some(1));
        assert!(matches!(database.commit(&id("one")), Err(Error::UnknownId(_))));
        assert_eq!(database.recover(), Ok(vec![]));
    }
    // At the levels below, and declared read-only, there are no reads to hold.
    for options in [at(ReadCommitted), at(RepeatableRead), read_only(Serializable)] {
        let mut transaction = database.begin(&options);
        assert_eq!(get(&mut transaction, "a"), Some(1));
        assert_eq!(database.prepare(&mut transaction, &id("one"), HOLDING), Ok(Vote::ReadOnly));
    }
    // What it has read must be current even so.
    let mut transaction = begin(&database, Serializable);
    assert_eq!(get(&mut transaction, "a"), Some(1));
    overtake(&database, &[("a", 2)]);
    assert_conflict(database.prepare(&mut transaction, &id("one"), VOLATILE), ConflictKind::ReadWrite);
    let mut transaction = begin(&database, Serializable);
    assert_eq!(get(&mut transaction, "a"), Some(2));
    prepare(&database, "two", |transaction| put(transaction, "a", 3));
    assert_held(database.prepare(&mut transaction, &id("one"), VOLATILE), "a", "two");
}

#[test]
fn reads_are_held_on_demand() {
    let database = database(&[("a", 1), ("range/1", 1)]);
    let mut transaction = begin(&database, Serializable);
    assert_eq!((get(&mut transaction, "a"), get(&mut transaction, "absent")), (Some(1), None));
    assert_eq!(scan_range(&mut transaction, KeyRange::prefix(b"range/")).len(), 1);
    assert_eq!(database.prepare(&mut transaction, &id("reader"), HOLDING), Ok(Vote::Yes));
    for key in ["a", "absent", "range/1", "range/2"] {
        let mut writer = begin(&database, ReadCommitted);
        put(&mut writer, key, 7);
        assert_held(writer.commit(), key, "reader");
    }
    overtake(&database, &[("b", 1), ("rangf", 1)]);
    let listed = database.recover().expect("it can be listed");
    assert_eq!((listed.len(), listed[0].written_keys, listed[0].keys.len()), (1, 0, 0));
    // It has a version like one that writes.
    assert_eq!(database.commit(&id("reader")), Ok(3));
    overtake(&database, &[("a", 2), ("absent", 2), ("range/2", 2)]);
}

// ---- anomalies, by name ----

/// What a participant allows that holds nothing but its writes. At repeatable read, that is what is done here.
#[test]
fn write_skew_between_a_prepared_and_a_local_transaction() {
    let run = |level: IsolationLevel| {
        let database = database(&[("alice", 1), ("bob", 1)]);
        let mut global = begin(&database, level);
        // One of the two has to be on call.
        assert_eq!(select(&mut global, |on_call| on_call == 1).len(), 2);
        put(&mut global, "alice", 0);
        assert_eq!(database.prepare(&mut global, &id("global"), VOLATILE), Ok(Vote::Yes));
        let mut local = begin(&database, level);
        assert_eq!(select(&mut local, |on_call| on_call == 1).len(), 2);
        put(&mut local, "bob", 0);
        let committed = local.commit();
        database.commit(&id("global")).expect("nothing can be in its way");
        (committed, state(&database).iter().map(|(_, on_call)| on_call).sum::<i64>())
    };
    let (naive, on_call) = run(RepeatableRead);
    assert!(naive.is_ok() && on_call == 0, "a naive participant leaves nobody on call");
    let (committed, on_call) = run(Serializable);
    assert_held(committed, "bob", "global");
    assert_eq!(on_call, 1);
}

#[test]
fn write_skew_by_point_reads_between_a_prepared_and_a_local_transaction() {
    let run = |level: IsolationLevel| {
        let database = database(&[("x", 1), ("y", 1)]);
        let mut global = begin(&database, level);
        let sum = get(&mut global, "x").unwrap() + get(&mut global, "y").unwrap();
        put(&mut global, "x", 1 - sum);
        assert_eq!(database.prepare(&mut global, &id("global"), VOLATILE), Ok(Vote::Yes));
        let mut local = begin(&database, level);
        let sum = get(&mut local, "x").unwrap() + get(&mut local, "y").unwrap();
        put(&mut local, "y", 1 - sum);
        let committed = local.commit();
        database.commit(&id("global")).expect("nothing can be in its way");
        (committed, state(&database).iter().map(|(_, number)| number).sum::<i64>())
    };
    let (naive, sum) = run(RepeatableRead);
    assert!(naive.is_ok() && sum == -2, "a naive participant lets the sum fall below zero");
    let (committed, sum) = run(Serializable);
    assert_held(committed, "y", "global");
    assert_eq!(sum, 0);
}

#[test]
fn phantom_between_a_prepared_and_a_local_transaction() {
    let run = |level: IsolationLevel| {
        let database = database(&[("booking/1", 1)]);
        let mut global = begin(&database, level);
        let booked = scan_range(&mut global, KeyRange::prefix(b"booking/")).len() as i64;
        put(&mut global, "total", booked);
        assert_eq!(database.prepare(&mut global, &id("global"), VOLATILE), Ok(Vote::Yes));
        let mut local = begin(&database, level);
        assert_eq!(get(&mut local, "total"), None);
        put(&mut local, "booking/2", 1);
        let committed = local.commit();
        database.commit(&id("global")).expect("nothing can be in its way");
        (committed, state(&database).len())
    };
    let (naive, keys) = run(RepeatableRead);
    assert!(naive.is_ok() && keys == 3, "a naive participant writes a total that was never right");
    let (committed, keys) = run(Serializable);
    assert_held(committed, "booking/2", "global");
    assert_eq!(keys, 2);
}

/// Of Fekete, O'Neil and O'Neil: a reader sees the deposit without the withdrawal that came before it in any order.
#[test]
fn read_only_anomaly_with_a_prepared_transaction() {
    let run = |level: IsolationLevel| {
        let database = database(&[("checking", 0), ("savings", 0)]);
        let mut withdrawal = begin(&database, level);
        let both = get(&mut withdrawal, "checking").unwrap() + get(&mut withdrawal, "savings").unwrap();
        let fee = i64::from(both < 10);
        put(&mut withdrawal, "checking", -10 - fee);
        assert_eq!(database.prepare(&mut withdrawal, &id("withdrawal"), VOLATILE), Ok(Vote::Yes));
        let mut deposit = begin(&database, level);
        let savings = get(&mut deposit, "savings").unwrap();
        put(&mut deposit, "savings", savings + 20);
        let deposited = deposit.commit();
        let mut reader = database.begin(&read_only(level));
        let seen = (get(&mut reader, "checking").unwrap(), get(&mut reader, "savings").unwrap());
        reader.commit().expect("a reader");
        database.commit(&id("withdrawal")).expect("nothing can be in its way");
        (deposited, seen, committed_rows(&database, "checking").unwrap()[0])
    };
    let (naive, seen, checking) = run(RepeatableRead);
    // With the deposit first there is no fee, and with the withdrawal first no such state to see.
    assert!(naive.is_ok() && seen == (0, 20) && checking == -11, "a naive participant shows what never was");
    let (deposited, seen, checking) = run(Serializable);
    assert_held(deposited, "savings", "withdrawal");
    assert_eq!((seen, checking), ((0, 0), -11));
}

/// Two global transactions over two databases, each of which reads in one what the other writes there.
#[test]
fn distributed_write_skew_over_two_databases() {
    // How the parts that only read are prepared, and whether both transactions commit.
    let run = |options: PrepareOptions| {
        let (left, right) = (database(&[("x", 1)]), database(&[("y", 1)]));
        let (mut one_left, mut one_right) = (begin(&left, Serializable), begin(&right, Serializable));
        let (mut two_left, mut two_right) = (begin(&left, Serializable), begin(&right, Serializable));
        let read = get(&mut one_left, "x").unwrap();
        put(&mut one_right, "y", 1 - read);
        let read = get(&mut two_right, "y").unwrap();
        put(&mut two_left, "x", 1 - read);
        let votes = [
            left.prepare(&mut one_left, &id("one"), options),
            right.prepare(&mut two_right, &id("two"), options),
            left.prepare(&mut two_left, &id("two"), options),
            right.prepare(&mut one_right, &id("one"), options),
        ];
        for (name, votes) in [("one", [&votes[0], &votes[3]]), ("two", [&votes[1], &votes[2]])] {
            let all = votes.iter().all(|vote| vote.is_ok());
            for database in [&left, &right] {
                let decided = if all { database.commit(&id(name)).map(drop) } else { database.rollback(&id(name)) };
                assert!(matches!(decided, Ok(()) | Err(Error::UnknownId(_))));
            }
        }
        let sum = committed_rows(&left, "x").unwrap()[0] + committed_rows(&right, "y").unwrap()[0];
        (votes.iter().filter(|vote| vote.is_err()).count(), sum)
    };
    // The read-only vote lets go of what was read before all have voted: the documented price of it.
    assert_eq!(run(VOLATILE), (0, 0));
    // Each excludes the other here: both are rolled back, in the worst case.
    let (refused, sum) = run(HOLDING);
    assert!(refused >= 1 && sum >= 1, "held reads keep one of them out");
}

/// Parts that read and write are held in any case.
#[test]
fn distributed_write_skew_of_parts_that_write() {
    let (left, right) = (database(&[("x", 1), ("a", 0)]), database(&[("y", 1), ("b", 0)]));
    let (mut one_left, mut one_right) = (begin(&left, Serializable), begin(&right, Serializable));
    let (mut two_left, mut two_right) = (begin(&left, Serializable), begin(&right, Serializable));
    let read = get(&mut one_left, "x").unwrap();
    put(&mut one_left, "a", read);
    put(&mut one_right, "y", 1 - read);
    let read = get(&mut two_right, "y").unwrap();
    put(&mut two_right, "b", read);
    put(&mut two_left, "x", 1 - read);
    assert_eq!(left.prepare(&mut one_left, &id("one"), VOLATILE), Ok(Vote::Yes));
    assert_eq!(right.prepare(&mut one_right, &id("one"), VOLATILE), Ok(Vote::Yes));
    assert_held(left.prepare(&mut two_left, &id("two"), VOLATILE), "x", "one");
    assert_held(right.prepare(&mut two_right, &id("two"), VOLATILE), "y", "one");
    left.commit(&id("one")).unwrap();
    right.commit(&id("one")).unwrap();
    assert_eq!((committed_rows(&left, "x"), committed_rows(&right, "y")), (Some(vec![1]), Some(vec![0])));
}

// ---- who meets what is held ----

#[test]
fn writers_of_all_kinds_meet_what_is_held() {
    let database =
        database(&[("written", 1), ("read", 1), ("range/1", 1), ("appended", 1), ("deleted", 1), ("free", 1)]);
    prepare(&database, "holder", |transaction| {
        assert_eq!((get(transaction, "read"), get(transaction, "absent")), (Some(1), None));
        assert_eq!(scan_range(transaction, KeyRange::prefix(b"range/")).len(), 1);
        put(transaction, "written", 2);
        common::append(transaction, "appended", 2);
        delete(transaction, "deleted");
        put(transaction, "new", 2);
    });
    type Act = fn(&mut common::BatchTransaction, &str);
    let acts: [Act; 3] =
        [|transaction, key| put(transaction, key, 9), |transaction, key| common::append(transaction, key, 9), delete];
    let mut met = 0;
    for level in LEVELS {
        for resolution in RESOLUTIONS {
            for act in acts {
                for key in ["written", "read", "absent", "range/1", "range/2", "appended", "deleted", "new"] {
                    for reads_first in [false, true] {
                        let mut writer = database.begin(&resolving(level, resolution));
                        if reads_first {
                            get(&mut writer, key);
                        }
                        put(&mut writer, "free", met);
                        act(&mut writer, key);
                        assert_held(writer.commit(), key, "holder");
                        met += 1;
                    }
                }
            }
        }
    }
    let stats = database.stats();
    assert_eq!(stats.conflicts_prepared, met as u64);
    assert_eq!(committed_rows(&database, "free"), Some(vec![1]), "nothing of them is left");
    // Readers of all kinds go on, and see what was there before.
    for options in LEVELS.map(at).into_iter().chain(LEVELS.map(read_only)) {
        let mut reader = database.begin(&options);
        assert_eq!((get(&mut reader, "written"), get(&mut reader, "new")), (Some(1), None));
        assert_eq!(scan_range(&mut reader, KeyRange::all()).len(), 6);
        reader.commit().expect("it only reads");
    }
    // And so do writers of what is not held, having read what is going to be written.
    let mut writer = begin(&database, Serializable);
    assert_eq!(get(&mut writer, "written"), Some(1));
    put(&mut writer, "free", 2);
    writer.commit().expect("it comes before the one in doubt");
    database.commit(&id("holder")).expect("nothing can be in its way");
    overtake(&database, &[("written", 5), ("read", 5), ("absent", 5), ("range/2", 5), ("new", 5)]);
}

/// It reserves what is held, so that not one after the other is prepared before it, and nothing that is free.
#[test]
fn one_that_starves_for_what_is_held_is_the_next_there_and_keeps_nobody_off_elsewhere() {
    let database = database(&[("held", 1), ("free", 1)]);
    let mut policy = database.retry_policy(&TransactionOptions { max_attempts: None, ..at(Serializable) });
    let mut refused = 0;
    for attempt in 0..20 {
        match prepare_at(&database, &at(Serializable), "holder", |transaction| put(transaction, "held", 2)) {
            Ok(_) => {}
            // Its reservation is not over yet.
            Err(Error::Conflict(conflicts)) if conflicts[0].holder.is_none() => {
                refused += 1;
                continue;
            }
            other => panic!("{other:?}"),
        }
        let mut starving = policy.begin();
        put(&mut starving, "free", attempt);
        put(&mut starving, "held", attempt);
        let failed = starving.commit();
        assert_held(failed.clone(), "held", "holder");
        policy.conflicted(failed.expect_err("it is held")).expect("it may try again");
        overtake(&database, &[("free", attempt)]);
        let mut other = begin(&database, ReadCommitted);
        put(&mut other, "held", attempt);
        assert_held(other.commit(), "held", "holder");
        database.rollback(&id("holder")).unwrap();
        database.forget(&id("holder")).unwrap();
    }
    assert!(refused > 0, "it is the next");
    let mut starving = policy.begin();
    put(&mut starving, "held", 3);
    starving.commit().expect("nothing is held any more");
}

#[test]
fn prepared_transactions_exclude_each_other_at_prepare() {
    let database = database(&[("a", 1), ("b", 1), ("range/1", 1)]);
    prepare(&database, "one", |transaction| {
        get(transaction, "a");
        scan_range(transaction, KeyRange::prefix(b"range/"));
        put(transaction, "b", 2);
    });
    let vote = |body: fn(&mut common::BatchTransaction)| prepare_at(&database, &at(Serializable), "two", body);
    assert_held(vote(|transaction| put(transaction, "a", 2)), "a", "one");
    assert_held(vote(|transaction| put(transaction, "b", 2)), "b", "one");
    assert_held(vote(|transaction| put(transaction, "range/2", 2)), "range/2", "one");
    let reads_b: fn(&mut common::BatchTransaction) = |transaction| {
        get(transaction, "b");
        put(transaction, "c", 1);
    };
    assert_held(vote(reads_b), "b", "one");
    let scans: fn(&mut common::BatchTransaction) = |transaction| {
        scan_range(transaction, KeyRange::all());
        put(transaction, "c", 1);
    };
    assert_held(vote(scans), "b", "one");
    // Reads of two do not exclude each other.
    let reads: fn(&mut common::BatchTransaction) = |transaction| {
        get(transaction, "a");
        scan_range(transaction, KeyRange::prefix(b"range/"));
        put(transaction, "c", 1);
    };
    assert_eq!(vote(reads), Ok(Vote::Yes));
    let listed: Vec<_> = database.recover().unwrap().into_iter().map(|listed| (listed.id, listed.keys)).collect();
    assert_eq!(listed, [(id("one"), vec![b"b".to_vec()]), (id("two"), vec![b"c".to_vec()])]);
    database.commit(&id("two")).unwrap();
    let mut writer = begin(&database, Serializable);
    put(&mut writer, "a", 3);
    assert_held(writer.commit(), "a", "one");
    database.commit(&id("one")).unwrap();
    overtake(&database, &[("a", 3)]);
}

#[test]
fn stale_reads_vote_no_where_a_commit_would_be_let_through() {
    type Read = fn(&mut common::BatchTransaction);
    let reads: [(Read, ConflictKind); 3] = [
        (|transaction| _ = get(transaction, "a"), ConflictKind::ReadWrite),
        (|transaction| _ = get(transaction, "absent"), ConflictKind::Phantom),
        (|transaction| _ = scan_range(transaction, KeyRange::prefix(b"a")), ConflictKind::Phantom),
    ];
    for (read, kind) in reads {
        let attempt = |prepares: bool| {
            let database = database(&[("a", 1)]);
            let mut transaction = begin(&database, Serializable);
            read(&mut transaction);
            put(&mut transaction, "b", 1);
            overtake(&database, &[("a", 2), ("absent", 2)]);
            match prepares {
                true => database.prepare(&mut transaction, &id("one"), VOLATILE).map(drop),
                false => transaction.commit().map(drop),
            }
        };
        assert_eq!(attempt(false), Ok(()));
        assert_conflict(attempt(true), kind);
    }
}

#[test]
fn conflicts_of_two_writes_are_resolved_at_prepare() {
    for level in LEVELS {
        for resolution in RESOLUTIONS {
            let database = database(&[("a", 1), ("b", 1)]);
            let mut transaction = database.begin(&resolving(level, resolution));
            put(&mut transaction, "a", 10);
            put(&mut transaction, "c", 10);
            overtake(&database, &[("a", 2)]);
            let vote = database.prepare(&mut transaction, &id("one"), VOLATILE);
            if resolution == ConflictResolution::Fail {
                assert_eq!(assert_conflict(vote, ConflictKind::WriteWrite), ["a"]);
                assert_eq!(database.recover(), Ok(vec![]));
                overtake(&database, &[("a", 3), ("c", 3)]);
                continue;
            }
            assert_eq!(vote, Ok(Vote::Yes), "{level:?} {resolution:?}");
            let mut writer = begin(&database, level);
            put(&mut writer, "a", 4);
            // A write that is ignored holds nothing.
            let expected = match resolution {
                ConflictResolution::Ignore => {
                    writer.commit().expect("it is not held");
                    vec![4]
                }
                ConflictResolution::Replace => vec![10],
                _ => vec![2, 10],
            };
            database.commit(&id("one")).expect("nothing can be in its way");
            assert_eq!(committed_rows(&database, "a"), Some(expected), "{level:?} {resolution:?}");
            assert_eq!(committed_rows(&database, "c"), Some(vec![10]));
        }
    }
    // Where everything is ignored there is nothing to decide.
    let database = database(&[("a", 1)]);
    let mut transaction = database.begin(&resolving(Serializable, ConflictResolution::Ignore));
    put(&mut transaction, "a", 10);
    overtake(&database, &[("a", 2)]);
    assert_eq!(database.prepare(&mut transaction, &id("one"), VOLATILE), Ok(Vote::ReadOnly));
    overtake(&database, &[("a", 3)]);
}

#[test]
fn rows_of_another_schema_are_refused_at_prepare() {
    let database = database(&[("a", 1)]);
    let mut transaction = begin(&database, Serializable);
    transaction.append(b"a", text_batch("text")).unwrap();
    let refused = database.prepare(&mut transaction, &id("one"), VOLATILE);
    assert!(matches!(refused, Err(Error::SchemaMismatch(_))), "{refused:?}");
    overtake(&database, &[("a", 2)]);
    assert_eq!(database.recover(), Ok(vec![]));
}

#[test]
fn reruns_meet_what_is_held_until_it_is_decided() {
    let database = database(&[("a", 1)]);
    prepare(&database, "one", |transaction| put(transaction, "a", 2));
    let options = TransactionOptions { max_attempts: Some(5), ..TransactionOptions::default() };
    let outcome = database.transact(&options, |transaction| {
        let read = get(transaction, "a").unwrap();
        transaction.put(b"a", batch(&[read + 10]))
    });
    assert_held(outcome, "a", "one");
    let rerun = thread::scope(|scope| {
        let rerun = scope.spawn(|| {
            database.transact(&TransactionOptions::default(), |transaction| {
                let read = get(transaction, "a").unwrap();
                transaction.put(b"a", batch(&[read + 10]))
            })
        });
        while database.stats().retries < 20 {
            thread::yield_now();
        }
        database.commit(&id("one")).expect("nothing can be in its way");
        rerun.join().unwrap()
    });
    assert!(rerun.is_ok());
    assert_eq!(committed_rows(&database, "a"), Some(vec![12]));
}

#[test]
fn savepoints_leave_no_holds() {
    let database = database(&[("a", 1)]);
    prepare(&database, "one", |transaction| {
        put(transaction, "kept", 1);
        let savepoint = transaction.savepoint().unwrap();
        put(transaction, "undone", 1);
        put(transaction, "kept", 2);
        transaction.rollback_to(savepoint).unwrap();
    });
    overtake(&database, &[("undone", 3)]);
    database.commit(&id("one")).unwrap();
    assert_eq!(
        (committed_rows(&database, "kept"), committed_rows(&database, "undone")),
        (Some(vec![1]), Some(vec![3]))
    );
}

// ---- ids and repeated calls ----

#[test]
fn ids_are_any_bytes_within_the_bounds() {
    let database = database(&[]);
    for len in [1, 2, 128, 144] {
        let id = GlobalId::new(&vec![0xff; len]).unwrap();
        let mut transaction = begin(&database, Serializable);
        put(&mut transaction, &format!("{len}"), 1);
        assert_eq!(database.prepare(&mut transaction, &id, VOLATILE), Ok(Vote::Yes));
    }
    for len in [0, 145, 70_000] {
        assert!(matches!(GlobalId::new(&vec![0xff; len]), Err(Error::InvalidArgument(_))));
    }
    assert_eq!(database.recover().unwrap().len(), 4);
    for listed in database.recover().unwrap() {
        database.commit(&listed.id).unwrap();
    }
    assert_eq!(state(&database).len(), 4);
}

/// What each call says in each state of an id.
#[test]
fn every_call_in_every_state() {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Says {
        Ok,
        Unknown,
        Duplicate,
        InDoubt,
        Already(Decision),
        Heuristic(Decision),
    }
    use Decision::{Commit, Rollback};
    use Says::{Already, Duplicate, Heuristic, InDoubt, Unknown};

    let says = |outcome: Result<(), Error>| match outcome {
        Ok(()) => Says::Ok,
        Err(Error::UnknownId(_)) => Unknown,
        Err(Error::Duplicate(_)) => Duplicate,
        Err(Error::InvalidState(_)) => InDoubt,
        Err(Error::AlreadyDecided(outcome)) => Already(outcome.decision),
        Err(Error::Heuristic(outcome)) => Heuristic(outcome.decision),
        Err(other) => panic!("{other:?}"),
    };
    type State = fn(&Batches);
    fn in_doubt(database: &Batches) {
        prepare(database, "id", |transaction| put(transaction, "a", 2));
    }
    let states: [(&str, State); 6] = [
        ("unknown", |_| {}),
        ("in doubt", in_doubt),
        ("committed", |database| {
            in_doubt(database);
            database.commit(&id("id")).unwrap();
        }),
        ("rolled back", |database| {
            in_doubt(database);
            database.rollback(&id("id")).unwrap();
        }),
        ("heuristically committed", |database| {
            in_doubt(database);
            database.decide_heuristically(&id("id"), Commit).unwrap();
        }),
        ("heuristically rolled back", |database| {
            in_doubt(database);
            database.decide_heuristically(&id("id"), Rollback).unwrap();
        }),
    ];
    type Call = fn(&Batches) -> Result<(), Error>;
    let calls: [(&str, Call, [Says; 6]); 6] = [
        (
            "prepare",
            |database| prepare_at(database, &at(Serializable), "id", |transaction| put(transaction, "b", 1)).map(drop),
            [Says::Ok, Duplicate, Duplicate, Duplicate, Duplicate, Duplicate],
        ),
        (
            "commit",
            |database| database.commit(&id("id")).map(drop),
            [Unknown, Says::Ok, Says::Ok, Already(Rollback), Heuristic(Commit), Heuristic(Rollback)],
        ),
        (
            "rollback",
            |database| database.rollback(&id("id")),
            [Unknown, Says::Ok, Already(Commit), Says::Ok, Heuristic(Commit), Heuristic(Rollback)],
        ),
        (
            "heuristic commit",
            |database| database.decide_heuristically(&id("id"), Commit),
            [Unknown, Says::Ok, Already(Commit), Already(Rollback), Says::Ok, Heuristic(Rollback)],
        ),
        (
            "heuristic rollback",
            |database| database.decide_heuristically(&id("id"), Rollback),
            [Unknown, Says::Ok, Already(Commit), Already(Rollback), Heuristic(Commit), Says::Ok],
        ),
        (
            "forget",
            |database| TwoPhaseCommitParticipant::forget(database, &id("id")),
            [Says::Ok, InDoubt, Says::Ok, Says::Ok, Says::Ok, Says::Ok],
        ),
    ];
    let kept = Kept::default();
    let opened: [&dyn Fn() -> Batches; 2] = [&|| database(&[("a", 1)]), &|| {
        kept.with(|state| *state = common::kept::State::default());
        let database = kept.manager();
        overtake(&database, &[("a", 1)]);
        database
    }];
    for (place, open) in opened.into_iter().enumerate() {
        for (number, (state, reach)) in states.iter().enumerate() {
            for (name, call, expected) in &calls {
                let database = open();
                reach(&database);
                // Again over a restart, where there is one.
                let database = if place == 1 && number % 2 == 0 {
                    drop(database);
                    kept.manager()
                } else {
                    database
                };
                let first = call(&database);
                assert_eq!(says(first), expected[number], "{name} of one {state}");
                // A second time it is the same, but that a prepared one is a duplicate then.
                let again = says(call(&database));
                match (*name, number) {
                    ("prepare", 0) => assert_eq!(again, Duplicate),
                    _ => assert_eq!(again, expected[number], "{name} of one {state}, again"),
                }
                // Nothing is held by what is decided.
                let decided = *name != "prepare" && !(number == 1 && *name == "forget");
                if decided {
                    overtake(&database, &[("a", 5)]);
                    assert_eq!(database.stats().prepared_transactions, 0);
                }
            }
        }
    }
}

#[test]
fn an_id_can_be_used_again_when_it_is_forgotten() {
    let database = database(&[]);
    for round in 0..3 {
        for decision in [Decision::Commit, Decision::Rollback] {
            prepare(&database, "id", |transaction| put(transaction, "a", round));
            database.decide_heuristically(&id("id"), decision).unwrap();
            TwoPhaseCommitParticipant::forget(&database, &id("id")).unwrap();
            assert!(matches!(database.commit(&id("id")), Err(Error::UnknownId(_))));
        }
        prepare(&database, "id", |transaction| put(transaction, "a", round));
        database.commit(&id("id")).unwrap();
        TwoPhaseCommitParticipant::forget(&database, &id("id")).unwrap();
        assert_eq!(database.stats().remembered_outcomes, 0);
    }
}

#[test]
fn outcomes_are_remembered_up_to_a_bound_and_heuristic_ones_beyond() {
    let database = database(&[]);
    prepare(&database, "heuristic", |transaction| put(transaction, "h", 1));
    database.decide_heuristically(&id("heuristic"), Decision::Rollback).unwrap();
    let name = |number: usize| format!("number {number}");
    for number in 0..REMEMBERED_OUTCOMES + 10 {
        prepare(&database, &name(number), |transaction| put(transaction, "a", 1));
        match number % 2 {
            0 => _ = database.commit(&id(&name(number))).unwrap(),
            _ => database.rollback(&id(&name(number))).unwrap(),
        }
    }
    assert!(matches!(database.commit(&id(&name(8))), Err(Error::UnknownId(_))));
    assert!(database.commit(&id(&name(10))).is_ok());
    assert!(database.rollback(&id(&name(REMEMBERED_OUTCOMES + 9))).is_ok());
    assert!(matches!(database.commit(&id("heuristic")), Err(Error::Heuristic(_))));
    let listed = database.recover().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].heuristic, listed[0].written_keys), (Some(Decision::Rollback), 1));
    assert_eq!(database.stats().remembered_outcomes, REMEMBERED_OUTCOMES as u64 + 1);
}

#[test]
fn transactions_of_another_database_and_ended_ones_are_refused() {
    let (one, other) = (database(&[]), database(&[]));
    let mut transaction = begin(&one, Serializable);
    put(&mut transaction, "a", 1);
    let refused = other.prepare(&mut transaction, &id("id"), VOLATILE);
    assert!(matches!(refused, Err(Error::InvalidArgument(_))));
    assert!(transaction.is_open());
    let refused = one.prepare(&mut transaction, &id("id"), PrepareOptions::default());
    assert!(matches!(refused, Err(Error::NotDurable(_))));
    assert!(!transaction.is_open());
    let refused = one.prepare(&mut transaction, &id("id"), VOLATILE);
    assert!(matches!(refused, Err(Error::InvalidState(_))));
    assert_eq!(one.recover(), Ok(vec![]));
    overtake(&one, &[("a", 1)]);
}

// ---- what it costs ----

#[test]
fn one_in_doubt_holds_nothing_back() {
    let database = database(&[("in doubt", 1), ("read", 1)]);
    prepare(&database, "one", |transaction| {
        get(transaction, "read");
        put(transaction, "in doubt", 2);
    });
    let floor = database.stats();
    assert_eq!((floor.prepared_transactions, floor.active_transactions), (1, 0));
    assert!(floor.prepared_bytes > 8 && floor.prepared_bytes < 1_000);
    for round in 0..2_000 {
        overtake(&database, &[("hot", round), ("hotter", round)]);
        if round % 10 == 0 {
            let mut transaction = begin(&database, Serializable);
            put(&mut transaction, &format!("short-lived/{round}"), 1);
            transaction.commit().unwrap();
            let mut transaction = begin(&database, Serializable);
            delete(&mut transaction, &format!("short-lived/{round}"));
            transaction.commit().unwrap();
        }
    }
    let stats = database.stats();
    assert_eq!((stats.keys, stats.versions), (floor.keys + 2, floor.versions + 2));
    assert_eq!(stats.oldest_snapshot, stats.version);
    assert!(stats.oldest_prepared_micros > 0);
    database.commit(&id("one")).unwrap();
    let stats = database.stats();
    assert_eq!((stats.keys, stats.versions), (floor.keys + 2, floor.versions + 2));
    assert_eq!((stats.prepared_transactions, stats.prepared_bytes, stats.oldest_prepared_micros), (0, 0, 0));
}

#[test]
fn limits_count_what_is_held() {
    let bytes = khonsu::stm::Chunk::bytes(&batch(&[1]));
    let options = Options { max_total_bytes: Some(3 * bytes), ..Options::default() };
    let database = database_with(options, &[("a", 1)]);
    prepare(&database, "one", |transaction| put(transaction, "b", 1));
    let mut transaction = begin(&database, Serializable);
    // The keys of what is held count a little, too.
    assert!(matches!(transaction.put(b"c", batch(&[1])), Err(Error::LimitExceeded(_))));
    database.rollback(&id("one")).unwrap();
    transaction.put(b"c", batch(&[1])).expect("there is room again");
}

#[test]
fn a_database_that_is_dropped_with_transactions_in_doubt_frees_them() {
    let maker = common::counted::Maker::default();
    let database = khonsu::stm::TransactionManager::new(Options::default());
    for number in 0..10_u64 {
        let mut transaction = database.begin(&TransactionOptions::default());
        transaction.exists(b"read").unwrap();
        transaction.put(&number.to_be_bytes(), maker.chunk(number)).unwrap();
        let id = GlobalId::new(&number.to_be_bytes()).unwrap();
        assert_eq!(transaction.prepare(&id, VOLATILE), Ok(Vote::Yes));
        if number % 3 == 0 {
            database.commit(&id).unwrap();
        }
        if number % 3 == 1 {
            database.rollback(&id).unwrap();
        }
    }
    assert!(maker.living() >= 7);
    drop(database);
    assert_eq!(maker.living(), 0);
}

// ---- stored databases ----

#[test]
fn what_is_in_doubt_comes_back_held() {
    let kept = Kept::default();
    let database = kept.manager();
    overtake(&database, &[("a", 1), ("b", 1), ("read", 1)]);
    prepare(&database, "one", |transaction| {
        get(transaction, "read");
        scan_range(transaction, KeyRange::prefix(b"range/"));
        put(transaction, "a", 2);
        common::append(transaction, "b", 2);
        delete(transaction, "c");
    });
    prepare(&database, "two", |transaction| put(transaction, "d", 2));
    prepare(&database, "three", |transaction| put(transaction, "e", 2));
    database.decide_heuristically(&id("two"), Decision::Rollback).unwrap();
    let committed = database.commit(&id("three")).unwrap();
    let before = database.recover().unwrap();
    drop(database);

    let database = kept.manager();
    let listed = database.recover().unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!((&listed[0], &listed[1].id), (&before[0], &id("two")));
    let keys: BTreeSet<_> = listed[0].keys.iter().map(Vec::as_slice).collect();
    assert_eq!(keys, BTreeSet::from([b"a".as_slice(), b"b", b"c"]));
    for key in ["a", "b", "c", "read", "range/1"] {
        let mut writer = begin(&database, ReadCommitted);
        put(&mut writer, key, 7);
        assert_held(writer.commit(), key, "one");
    }
    assert!(matches!(database.commit(&id("two")), Err(Error::Heuristic(_))));
    assert_eq!(database.commit(&id("three")), Ok(committed));
    assert_eq!(committed_rows(&database, "b"), Some(vec![1]));
    let version = database.commit(&id("one")).unwrap();
    assert!(version > committed);
    assert_eq!((committed_rows(&database, "a"), committed_rows(&database, "b")), (Some(vec![2]), Some(vec![1, 2])));
    overtake(&database, &[("read", 9), ("c", 9)]);
    drop(database);
    let database = kept.manager();
    assert_eq!(database.commit(&id("one")), Ok(version));
    assert_eq!(database.recover().unwrap().len(), 1);
    assert!(
        kept.with(|state| state.groups.iter().any(|(_, durability)| *durability == khonsu::stm::Durability::Synced))
    );
}

#[test]
fn a_log_that_fails_leaves_it_as_it_was() {
    let kept = Kept::default();
    let database = kept.manager();
    overtake(&database, &[("a", 1)]);
    let fails = |outcome: Result<(), Error>| assert!(matches!(outcome, Err(Error::Storage(_))), "{outcome:?}");
    let one_fails = || kept.with(|state| state.failing_notes = 1);
    let write: fn(&mut common::BatchTransaction) = |transaction| put(transaction, "a", 2);

    one_fails();
    fails(prepare_at(&database, &at(Serializable), "one", write).map(drop));
    assert_eq!((database.recover(), database.stats().prepared_bytes), (Ok(vec![]), 0));
    overtake(&database, &[("a", 1)]);

    prepare(&database, "one", write);
    one_fails();
    fails(database.rollback(&id("one")));
    one_fails();
    fails(database.decide_heuristically(&id("one"), Decision::Rollback));
    kept.fail_if(|_| true);
    fails(database.commit(&id("one")).map(drop));
    fails(database.decide_heuristically(&id("one"), Decision::Commit));
    kept.fail_none();
    assert_eq!(database.recover().unwrap()[0].heuristic, None);
    let mut writer = begin(&database, Serializable);
    put(&mut writer, "a", 3);
    assert_held(writer.commit(), "a", "one");
    database.commit(&id("one")).expect("nothing is in its way any more");
    assert_eq!(committed_rows(&database, "a"), Some(vec![2]));
    one_fails();
    fails(TwoPhaseCommitParticipant::forget(&database, &id("one")));
    assert!(database.commit(&id("one")).is_ok());
    TwoPhaseCommitParticipant::forget(&database, &id("one")).unwrap();
    assert!(matches!(database.commit(&id("one")), Err(Error::UnknownId(_))));
    assert!(kept.with(|state| state.prepared.is_empty() && state.outcomes.iter().next().is_none()));
}

#[test]
fn several_prepare_with_one_call_to_the_log() {
    let kept = Kept::default();
    let database = kept.manager();
    kept.hold();
    thread::scope(|scope| {
        scope.spawn(|| overtake(&database, &[("first", 1)]));
        kept.await_held();
        let preparers: Vec<_> = (0..4)
            .map(|number| {
                let database = &database;
                scope.spawn(move || {
                    let name = format!("number {number}");
                    prepare(database, &name, |transaction| put(transaction, &name, number));
                    database.commit(&id(&name)).expect("nothing can be in its way");
                })
            })
            .collect();
        // Until all of them wait for the log, as far as can be seen.
        while database.stats().active_transactions < 5 {
            thread::yield_now();
        }
        thread::sleep(std::time::Duration::from_millis(50));
        kept.let_go();
        preparers.into_iter().for_each(|preparer| preparer.join().unwrap());
    });
    let most = kept.with(|state| state.notes.iter().map(|(count, _)| *count).max());
    assert!(most >= Some(2), "{most:?} in one call");
    assert_eq!(state(&database).len(), 5);
}

#[test]
fn threads_that_decide_at_once_agree() {
    for stored in [false, true] {
        let kept = Kept::default();
        let database = if stored { kept.manager() } else { database(&[]) };
        overtake(&database, &[("a", 0)]);
        for round in 0..200 {
            let name = format!("round {round}");
            prepare(&database, &name, |transaction| common::append(transaction, "a", round));
            let before = committed_rows(&database, "a").unwrap().len();
            let outcomes: Vec<_> = thread::scope(|scope| {
                let deciders: Vec<_> = (0..4)
                    .map(|number| {
                        let (database, name) = (&database, &name);
                        scope.spawn(move || match (number + round) % 4 {
                            0 | 1 => database.commit(&id(name)).map(drop),
                            2 => database.rollback(&id(name)),
                            _ => database.decide_heuristically(&id(name), Decision::Commit),
                        })
                    })
                    .collect();
                deciders.into_iter().map(|decider| decider.join().unwrap()).collect()
            });
            let after = committed_rows(&database, "a").unwrap().len();
            assert!(after - before <= 1, "it is committed once");
            let committed = after > before;
            for outcome in &outcomes {
                match outcome {
                    Ok(()) | Err(Error::Busy(_)) => {}
                    Err(Error::AlreadyDecided(outcome) | Error::Heuristic(outcome)) => {
                        assert_eq!(outcome.decision == Decision::Commit, committed);
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
            assert!(outcomes.iter().any(Result::is_ok));
            overtake(&database, &[("a", 0)]);
        }
        assert_eq!(database.stats().prepared_transactions, 0);
    }
}

/// Money moves between accounts of two databases, by global transactions whose coordinator is a thread; others move it
/// within one, and read it.
#[test]
fn money_over_two_databases() {
    const ACCOUNTS: u64 = 6;
    const EACH: i64 = 100;
    let open = || {
        let names: Vec<_> = (0..ACCOUNTS).map(|number| format!("account/{number}")).collect();
        Arc::new(database(&names.iter().map(|name| (name.as_str(), EACH)).collect::<Vec<_>>()))
    };
    let (left, right) = (open(), open());
    let committed = thread::scope(|scope| {
        let workers: Vec<_> = (0..4_u64)
            .map(|worker| {
                let (left, right) = (&left, &right);
                scope.spawn(move || {
                    let mut random = common::Random::new(worker);
                    let mut committed = 0;
                    for round in 0..400 {
                        let name = format!("{worker}/{round}");
                        let amount = random.below(5) as i64;
                        let mut accounts = || format!("account/{}", random.below(ACCOUNTS));
                        let mut parts = [(left, begin(left, Serializable)), (right, begin(right, Serializable))];
                        for ((_, part), sign) in parts.iter_mut().zip([-1, 1]) {
                            let account = accounts();
                            let balance = get(part, &account).unwrap();
                            put(part, &account, balance + sign * amount);
                        }
                        let votes: Vec<_> = parts
                            .iter_mut()
                            .map(|(database, part)| database.prepare(part, &id(&name), VOLATILE))
                            .collect();
                        let all = votes.iter().all(Result::is_ok);
                        for ((database, _), vote) in parts.iter().zip(&votes) {
                            match (vote, all) {
                                (Ok(_), true) => _ = database.commit(&id(&name)).expect("nothing can be in its way"),
                                (Ok(_), false) => database.rollback(&id(&name)).expect("it was prepared"),
                                (Err(error), _) => _ = conflicts_of::<()>(Err(error.clone())),
                            }
                        }
                        committed += u64::from(all);
                        // Within one database, in one phase.
                        let local = left.transact(&TransactionOptions::default(), |transaction| {
                            let all = scan_range(transaction, KeyRange::prefix(b"account/"));
                            let (from, to) = (&all[0], &all[all.len() - 1]);
                            transaction.put(from.0.as_bytes(), batch(&[from.1 - 1]))?;
                            transaction.put(to.0.as_bytes(), batch(&[to.1 + 1]))
                        });
                        assert!(local.is_ok(), "{local:?}");
                    }
                    committed
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum::<u64>()
    });
    let sum = |database: &Batches| state(database).iter().map(|(_, balance)| balance).sum::<i64>();
    assert_eq!(sum(&left) + sum(&right), 2 * ACCOUNTS as i64 * EACH);
    assert!(committed > 100, "{committed} were committed");
    for database in [&left, &right] {
        let stats = database.stats();
        assert_eq!((stats.prepared_transactions, stats.prepared_bytes), (0, 0));
        assert_eq!((stats.keys, stats.versions), (ACCOUNTS, ACCOUNTS));
    }
}
