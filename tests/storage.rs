//! Databases over a storage: what is stored when, what is seen when, and what a failure leaves.

mod common;

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::kept::{Kept, one_in};
use common::*;
use khonsu::stm::{
    ConflictKind, ConflictResolution, Durability, Error, GlobalId, IsolationLevel, Options, TransactionOptions,
};
use khonsu::two_phase_commit::{PrepareOptions, TwoPhaseCommitParticipant, Vote};

const SERIALIZABLE: IsolationLevel = IsolationLevel::Serializable;

fn put_one(database: &Batches, key: &str, number: i64) -> Result<u64, Error> {
    let mut transaction = begin(database, SERIALIZABLE);
    put(&mut transaction, key, number);
    transaction.commit()
}

fn storage_failure(outcome: &Result<u64, Error>) -> bool {
    matches!(outcome, Err(Error::Storage(text)) if text.contains("on demand"))
}

/// Waits until the threads of a test have had time to do what they must not; what they must do is awaited otherwise.
fn give_time() {
    thread::sleep(Duration::from_millis(20));
}

/// Waits until so many versions are linked, and then until their transactions are on their way to the storage.
fn await_versions(database: &Batches, count: u64) {
    while database.stats().versions < count {
        thread::yield_now();
    }
    give_time();
}

/// Once it is forgotten, the id may be that of another transaction, which a second call must leave alone.
#[test]
fn one_call_at_a_time_forgets_a_prepared_transaction() {
    let kept = Kept::default();
    let database = kept.manager();
    let id = GlobalId::new(b"id").unwrap();
    let mut transaction = begin(&database, SERIALIZABLE);
    put(&mut transaction, "a", 1);
    assert_eq!(database.prepare(&mut transaction, &id, PrepareOptions::default()), Ok(Vote::Yes));
    database.rollback(&id).unwrap();
    kept.with(|state| state.failing_notes = 1);
    assert!(matches!(database.forget(&id), Err(Error::Storage(_))));
    kept.hold();
    thread::scope(|scope| {
        let first = scope.spawn(|| database.forget(&id));
        kept.await_held();
        assert!(matches!(database.forget(&id), Err(Error::Busy(_))));
        kept.let_go();
        assert_eq!(first.join().unwrap(), Ok(()));
    });
    assert_eq!(database.forget(&id), Ok(()));
    assert_eq!(kept.with(|state| state.outcomes.iter().count()), 0);
}

#[test]
fn a_database_comes_back_as_it_was() {
    let kept = Kept::default();
    let database = kept.manager();
    put_one(&database, "a", 1).unwrap();
    let mut transaction = begin(&database, SERIALIZABLE);
    append(&mut transaction, "a", 2);
    put(&mut transaction, "b", 3);
    put(&mut transaction, "c", 4);
    let version = transaction.commit().unwrap();
    drop(transaction);
    let mut transaction = begin(&database, SERIALIZABLE);
    delete(&mut transaction, "c");
    delete(&mut transaction, "never");
    let deleted = transaction.commit().unwrap();
    assert!(deleted > version && database.stats().version == deleted);
    drop(transaction);
    assert!(!kept.with(|state| state.closed));
    drop(database);
    assert!(kept.with(|state| state.closed));

    let database = kept.manager();
    let mut reader = begin(&database, SERIALIZABLE);
    assert_eq!(get_rows(&mut reader, "a"), Some(vec![1, 2]));
    assert_eq!((get(&mut reader, "b"), get(&mut reader, "c")), (Some(3), None));
    assert_eq!(reader.snapshot_version(), deleted);
    drop(reader);
    assert!(put_one(&database, "d", 5).unwrap() > deleted);
    assert_eq!(database.stats().keys, 3);
}

#[test]
fn commits_are_seen_when_they_are_stored_and_readers_do_not_wait() {
    let kept = Kept::default();
    let database = kept.manager();
    put_one(&database, "a", 1).unwrap();
    kept.hold();
    let (done, outcome) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| done.send(put_one(&database, "a", 2)).unwrap());
        kept.await_held();
        for level in LEVELS {
            let mut reader = database.begin(&read_only(level));
            assert_eq!(get(&mut reader, "a"), Some(1));
            assert_eq!(scan_range(&mut reader, khonsu::stm::KeyRange::all()), named(&[("a", 1)]));
            reader.commit().unwrap();
            let mut reader = begin(&database, level);
            assert_eq!(get(&mut reader, "a"), Some(1));
            reader.commit().unwrap();
        }
        give_time();
        assert!(outcome.try_recv().is_err(), "it returns when it is stored");
        kept.let_go();
        let version = outcome.recv().unwrap().unwrap();
        let mut reader = begin(&database, SERIALIZABLE);
        assert!(reader.snapshot_version() >= version && get(&mut reader, "a") == Some(2));
    });
}

#[test]
fn those_who_come_meanwhile_go_together_with_the_strongest_durability() {
    let kept = Kept::default();
    let options = Options { durability: Durability::None, ..Options::default() };
    let database = kept.open(options).manager().clone();
    kept.hold();
    thread::scope(|scope| {
        scope.spawn(|| put_one(&database, "first", 0).unwrap());
        kept.await_held();
        for number in 0..7 {
            let (database, kept) = (&database, &kept);
            scope.spawn(move || {
                let durability = [None, Some(Durability::Buffered), Some(Durability::Synced)][number % 3];
                let mut transaction = database.begin(&TransactionOptions { durability, ..Default::default() });
                put(&mut transaction, &format!("key{number}"), 1);
                transaction.commit().unwrap();
                assert!(kept.with(|state| state.values.contains_key(format!("key{number}").as_bytes())));
            });
        }
        // They are on their way when they are stamped.
        while database.stats().active_transactions < 8 {
            thread::yield_now();
        }
        give_time();
        kept.let_go();
    });
    let groups = kept.with(|state| state.groups.clone());
    assert_eq!(groups[0], (1, Durability::None));
    assert_eq!(groups.iter().map(|(size, _)| size).sum::<usize>(), 8);
    assert!(groups.iter().any(|(_, durability)| *durability == Durability::Synced));
    database.sync().unwrap();
    assert_eq!(kept.with(|state| state.syncs), 1);
}

#[test]
fn what_cannot_be_stored_was_never_there() {
    let kept = Kept::default();
    let database = kept.manager();
    put_one(&database, "a", 1).unwrap();
    kept.fail_if(|mutations| mutations.iter().any(|mutation| mutation.key == b"bad"));
    let mut transaction = begin(&database, SERIALIZABLE);
    put(&mut transaction, "a", 2);
    put(&mut transaction, "bad", 2);
    append(&mut transaction, "new", 2);
    let outcome = transaction.commit();
    assert!(storage_failure(&outcome), "{outcome:?}");
    assert!(matches!(transaction.commit(), Err(Error::InvalidState(_))));
    drop(transaction);
    assert_eq!(state(&database), named(&[("a", 1)]));
    assert!(matches!(put_one(&database, "unpreparable", 1), Err(Error::Storage(_))));
    put_one(&database, "a", 3).unwrap();
    kept.fail_none();
    put_one(&database, "bad", 4).unwrap();
    assert_eq!(state(&database), named(&[("a", 3), ("bad", 4)]));
    let stats = database.stats();
    assert_eq!((stats.keys, stats.versions, stats.commits, stats.rollbacks), (2, 2, 3, 4));
    drop(database);
    assert_eq!(state(&kept.manager()), named(&[("a", 3), ("bad", 4)]));
}

/// Three commits of one key while the storage is held up; the first of them fails then.
fn above_a_failing_put(
    second: impl Fn(&mut BatchTransaction) + Sync,
    options: &TransactionOptions,
    waits: bool,
) -> (Kept, Batches, Result<u64, Error>) {
    let kept = Kept::default();
    let database = kept.manager();
    put_one(&database, "k", 1).unwrap();
    let mut first_of_k = true;
    kept.fail_if(move |mutations| {
        mutations.iter().any(|mutation| mutation.key == b"k") && std::mem::replace(&mut first_of_k, false)
    });
    kept.hold();
    let outcome = thread::scope(|scope| {
        let leader = scope.spawn(|| put_one(&database, "other", 1));
        kept.await_held();
        let failing = scope.spawn(|| put_one(&database, "k", 2));
        await_versions(&database, 3);
        let above = scope.spawn(|| {
            let mut transaction = database.begin(options);
            second(&mut transaction);
            transaction.commit()
        });
        let beside = scope.spawn(|| put_one(&database, "beside", 1));
        // One that waits for the outcome is not linked.
        await_versions(&database, if waits { 4 } else { 5 });
        kept.let_go();
        leader.join().unwrap().unwrap();
        assert!(storage_failure(&failing.join().unwrap()));
        beside.join().unwrap().expect("it has nothing to do with the failure");
        above.join().unwrap()
    });
    (kept, database, outcome)
}

#[test]
fn rows_that_follow_failed_ones_fail_with_them() {
    let (kept, database, outcome) =
        above_a_failing_put(|transaction| append(transaction, "k", 3), &at(SERIALIZABLE), false);
    assert!(storage_failure(&outcome), "{outcome:?}");
    assert_eq!(state(&database), named(&[("beside", 1), ("k", 1), ("other", 1)]));
    let mut transaction = begin(&database, SERIALIZABLE);
    append(&mut transaction, "k", 4);
    transaction.commit().unwrap();
    assert_eq!(get_rows(&mut begin(&database, SERIALIZABLE), "k"), Some(vec![1, 4]));
    drop(transaction);
    assert_eq!(database.stats().versions, 3);
    drop(database);
    assert_eq!(get_rows(&mut begin(&kept.manager(), SERIALIZABLE), "k"), Some(vec![1, 4]));
}

/// They were appended to nothing, as it seemed, and go with what made it seem so.
#[test]
fn rows_that_follow_a_failed_delete_fail_with_it() {
    for (resolution, appends) in [(ConflictResolution::Fail, true), (ConflictResolution::Append, false)] {
        let kept = Kept::default();
        let database = kept.manager();
        put_one(&database, "k", 1).unwrap();
        kept.fail_if(|mutations| mutations[0].change == khonsu::storage::Change::Delete);
        kept.hold();
        let above = thread::scope(|scope| {
            let leader = scope.spawn(|| put_one(&database, "other", 1));
            kept.await_held();
            let failing = scope.spawn(|| {
                let mut transaction = begin(&database, SERIALIZABLE);
                delete(&mut transaction, "k");
                transaction.commit()
            });
            await_versions(&database, 3);
            let above = scope.spawn(|| {
                let mut transaction = database.begin(&resolving(SERIALIZABLE, resolution));
                match appends {
                    true => append(&mut transaction, "k", 2),
                    false => put(&mut transaction, "k", 2),
                }
                transaction.commit()
            });
            await_versions(&database, 4);
            kept.let_go();
            leader.join().unwrap().unwrap();
            assert!(storage_failure(&failing.join().unwrap()));
            above.join().unwrap()
        });
        let rows = get_rows(&mut begin(&database, SERIALIZABLE), "k");
        drop(database);
        assert_eq!(rows, get_rows(&mut begin(&kept.manager(), SERIALIZABLE), "k"), "memory and storage agree");
        assert_eq!((storage_failure(&above), rows), (true, Some(vec![1])));
    }
}

#[test]
fn what_replaces_a_failed_write_stays() {
    let options = resolving(SERIALIZABLE, ConflictResolution::Replace);
    let (_, database, outcome) = above_a_failing_put(|transaction| put(transaction, "k", 3), &options, false);
    outcome.expect("it does not build on what has failed");
    assert_eq!(get(&mut begin(&database, SERIALIZABLE), "k"), Some(3));
    assert_eq!(database.stats().versions, 3, "the failed version is reclaimed from below it");
}

#[test]
fn a_write_is_not_dropped_for_one_that_fails() {
    let options = resolving(SERIALIZABLE, ConflictResolution::Ignore);
    let (kept, database, outcome) = above_a_failing_put(|transaction| put(transaction, "k", 3), &options, true);
    outcome.expect("there is nothing to be ignored for in the end");
    assert_eq!(get(&mut begin(&database, SERIALIZABLE), "k"), Some(3));
    drop(database);
    assert_eq!(get(&mut begin(&kept.manager(), SERIALIZABLE), "k"), Some(3));
}

#[test]
fn a_write_that_is_ignored_or_appended_is_stored_as_that() {
    let kept = Kept::default();
    let database = kept.manager();
    for (resolution, rows) in [(ConflictResolution::Ignore, vec![1]), (ConflictResolution::Append, vec![1, 2])] {
        let mut late = database.begin(&resolving(SERIALIZABLE, resolution));
        put(&mut late, "k", 2);
        put(&mut late, "else", 2);
        put_one(&database, "k", 1).unwrap();
        late.commit().unwrap();
        assert_eq!(get_rows(&mut begin(&database, SERIALIZABLE), "k"), Some(rows.clone()));
        let stored = kept.with(|state| state.values[b"k".as_slice()].clone());
        assert_eq!(stored.iter().flat_map(|chunk| self::rows(&chunk.clone().into())).collect::<Vec<_>>(), rows);
    }
}

#[test]
fn a_conflict_with_one_on_its_way_returns_when_a_rerun_can_see_it() {
    let kept = Kept::default();
    let database = kept.manager();
    put_one(&database, "k", 1).unwrap();
    kept.hold();
    thread::scope(|scope| {
        scope.spawn(|| put_one(&database, "k", 2).unwrap());
        kept.await_held();
        let late = scope.spawn(|| {
            let mut transaction = begin(&database, SERIALIZABLE);
            let seen = get(&mut transaction, "k");
            put(&mut transaction, "k", 3);
            (seen, transaction.commit(), get(&mut begin(&database, SERIALIZABLE), "k"))
        });
        give_time();
        assert!(!late.is_finished());
        kept.let_go();
        let (seen, outcome, then) = late.join().unwrap();
        assert!(matches!(outcome, Err(Error::Conflict(conflicts)) if conflicts[0].kind == ConflictKind::WriteWrite));
        assert_eq!((seen, then), (Some(1), Some(2)));
    });
}

/// In memory it would commit: the reader of "x" comes before its overwriter. Here a declared reader could begin between
/// its certification and the end of the log's work, see that overwriter, and not what was written on top of it.
#[test]
fn a_stale_read_commits_only_if_what_made_it_stale_was_seen_by_nobody() {
    let kept = Kept::default();
    let database = kept.manager();
    put_one(&database, "x", 1).unwrap();
    let mut stale = begin(&database, SERIALIZABLE);
    assert_eq!(get(&mut stale, "x"), Some(1));
    put(&mut stale, "y", 1);
    put_one(&database, "x", 2).unwrap();
    match stale.commit() {
        Err(Error::Conflict(conflicts)) => assert_eq!(conflicts[0].kind, ConflictKind::ReadWrite),
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(state(&database), named(&[("x", 2)]));
    assert!(!kept.with(|state| state.values.contains_key(b"y".as_slice())));
}

#[test]
fn a_checkpoint_is_what_the_database_is() {
    let kept = Kept::default();
    let stored = kept.open(Options::default());
    for number in 0..2000 {
        put_one(stored.manager(), &format!("{number:04}"), number).unwrap();
    }
    kept.with(|state| state.values.clear());
    stored.checkpoint().unwrap();
    assert_eq!(kept.with(|state| state.values.len()), 2000);
}

#[test]
fn a_checkpoint_that_panics_is_tried_again() {
    let kept = Kept::default();
    let stored = kept.open(Options::default());
    kept.with(|state| (state.is_due, state.panicking_checkpoints) = (true, 1));
    put_one(stored.manager(), "a", 1).unwrap();
    let given_up = Instant::now() + Duration::from_secs(60);
    while kept.with(|state| state.is_due) {
        assert!(Instant::now() < given_up, "nobody makes a checkpoint any more");
        give_time();
    }
    assert_eq!(kept.with(|state| state.panicking_checkpoints), 0);
}

#[test]
fn under_random_failures_memory_and_storage_agree() {
    for seed in 0..6 {
        let kept = Kept::default();
        let database = kept.manager();
        kept.fail_if(one_in(7, seed));
        let committed: BTreeMap<u64, Vec<(String, i64)>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|number| {
                    let database = &database;
                    scope.spawn(move || work(database, seed * 10 + number))
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let versions = kept.with(|state| state.versions.clone());
        assert_eq!(versions, committed.keys().copied().collect::<Vec<_>>(), "what was acknowledged, and no more");
        // Each commit put its own number under all keys that it wrote.
        let now: BTreeMap<_, _> = all_rows(&database);
        let mut replayed = BTreeMap::new();
        for writes in committed.values() {
            for (key, number) in writes {
                match key.strip_prefix('+') {
                    Some(key) => replayed.entry(key.to_owned()).or_insert_with(Vec::new).push(*number),
                    None => _ = replayed.insert(key.clone(), vec![*number]),
                }
            }
        }
        assert_eq!(now, replayed, "seed {seed}");
        let stats = database.stats();
        assert_eq!(stats.versions, now.len() as u64, "seed {seed}: nothing of the failed ones is left");
        drop(database);
        assert_eq!(all_rows(&kept.manager()), now);
    }
}

fn all_rows(database: &Batches) -> BTreeMap<String, Vec<i64>> {
    let found = begin(database, SERIALIZABLE).scan(khonsu::stm::KeyRange::all(), Default::default(), None).unwrap();
    found.into_iter().map(|(key, value)| (String::from_utf8(key).unwrap(), rows(&value))).collect()
}

/// Runs random transactions; gives the writes of those that committed, appends with a "+" in front of the key.
fn work(database: &Batches, seed: u64) -> Vec<(u64, Vec<(String, i64)>)> {
    let mut random = Random::new(seed);
    let mut committed = Vec::new();
    for round in 0..150 {
        let number = (seed * 1000 + round) as i64;
        let resolution = [ConflictResolution::Fail, ConflictResolution::Replace][random.below(2) as usize];
        let level = LEVELS[random.below(3) as usize];
        let mut transaction = database.begin(&resolving(level, resolution));
        let mut writes = BTreeMap::new();
        for _ in 0..1 + random.below(3) {
            let key = format!("{}", random.below(5));
            if random.below(3) == 0 {
                get_rows(&mut transaction, &key);
            }
            if writes.contains_key(&key) {
                continue;
            }
            let appends = random.below(2) == 0;
            match appends {
                true => append(&mut transaction, &key, number),
                false => put(&mut transaction, &key, number),
            }
            writes.insert(key, appends);
        }
        match transaction.commit() {
            Ok(version) => {
                let named = |(key, appends)| (if appends { format!("+{key}") } else { key }, number);
                committed.push((version, writes.into_iter().map(named).collect()));
            }
            Err(Error::Conflict(_)) => {}
            outcome => assert!(storage_failure(&outcome), "{outcome:?}"),
        }
    }
    committed
}
