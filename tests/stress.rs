//! Threads against invariants. Each test runs a fixed number of transactions, so that its length does not depend on
//! luck.

mod common;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;

use common::{LEVELS, Numbers, Random, at, flat, numbers, only, read_only};
use khonsu::stm::IsolationLevel::{self, ReadCommitted, RepeatableRead, Serializable};
use khonsu::stm::{Direction, Error, KeyRange, Options, Transaction, TransactionManager, TransactionOptions};

const THREADS: u64 = 4;

type Database = TransactionManager<Numbers>;
/// Keys and their rows.
type Entries = Vec<(Vec<u8>, Vec<u64>)>;

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn filled(keys: u64, value: u64) -> Database {
    let database = Database::new(Options::default());
    let mut transaction = database.begin(&TransactionOptions::default());
    for number in 0..keys {
        transaction.put(&key(number), numbers(&[value])).unwrap();
    }
    transaction.commit().unwrap();
    database
}

/// Lets others run, sometimes: transactions are short, and would seldom meet on a machine of few cores.
fn interleave() {
    thread_local!(static RANDOM: Cell<u64> = const { Cell::new(0) });
    let next = Random::new(RANDOM.get()).next();
    RANDOM.set(next);
    if next.is_multiple_of(8) {
        std::thread::yield_now();
    }
}

fn get_one(transaction: &mut Transaction<Numbers>, number: u64) -> Result<u64, Error> {
    interleave();
    Ok(only(&transaction.get(&key(number))?.expect("the key is never deleted")))
}

/// All keys with their rows. No key may come twice or out of order.
fn scan_in_order(
    transaction: &mut Transaction<Numbers>,
    range: KeyRange,
    direction: Direction,
) -> Result<Entries, Error> {
    interleave();
    let found = transaction.scan(range, direction, None)?;
    for pair in found.windows(2) {
        let (before, after) = (&pair[0].0, &pair[1].0);
        match direction {
            Direction::Forward => assert!(before < after, "{before:?} before {after:?}"),
            Direction::Reverse => assert!(before > after, "{before:?} before {after:?}, backwards"),
        }
    }
    Ok(found.into_iter().map(|(key, value)| (key, flat(&value))).collect())
}

fn any_direction(random: &mut Random) -> Direction {
    if random.below(2) == 0 { Direction::Forward } else { Direction::Reverse }
}

/// Runs `work` in each thread, and `watch` in one more until all of them are done.
fn run(work: impl Fn(u64, &mut Random) + Sync, watch: impl Fn(&mut Random) + Sync) {
    let left = AtomicUsize::new(THREADS as usize);
    /// Counts a thread as done also when it panics, so that the watcher ends.
    struct Done<'a>(&'a AtomicUsize);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Release);
        }
    }
    let barrier = Barrier::new(THREADS as usize + 1);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (left, barrier, work) = (&left, &barrier, &work);
            scope.spawn(move || {
                let _done = Done(left);
                barrier.wait();
                work(thread, &mut Random::new(thread));
            });
        }
        barrier.wait();
        let mut random = Random::new(THREADS);
        loop {
            let last = left.load(Ordering::Acquire) == 0;
            watch(&mut random);
            if last {
                break;
            }
        }
    });
}

#[test]
fn transfers_keep_the_total() {
    const ACCOUNTS: u64 = 12;
    const EACH: u64 = 1000;
    const TRANSFERS: u64 = 15_000;
    for level in [Serializable, RepeatableRead] {
        let database = filled(ACCOUNTS, EACH);
        let moved = AtomicU64::new(0);
        run(
            |_, random| {
                for _ in 0..TRANSFERS {
                    let (from, amount) = (random.below(ACCOUNTS), random.below(10));
                    let to = (from + 1 + random.below(ACCOUNTS - 1)) % ACCOUNTS;
                    let transfer = |transaction: &mut Transaction<Numbers>| {
                        let (source, target) = (get_one(transaction, from)?, get_one(transaction, to)?);
                        if source < amount {
                            return Ok(0);
                        }
                        transaction.put(&key(from), numbers(&[source - amount]))?;
                        transaction.put(&key(to), numbers(&[target + amount]))?;
                        Ok(1)
                    };
                    let (done, _) = database.transact(&at(level), transfer).unwrap();
                    moved.fetch_add(done, Ordering::Relaxed);
                }
            },
            |random| {
                let options = if random.below(2) == 0 { read_only(level) } else { at(level) };
                let mut reader = database.begin(&options);
                let accounts = scan_in_order(&mut reader, KeyRange::all(), any_direction(random)).unwrap();
                assert_eq!(accounts.len() as u64, ACCOUNTS);
                assert_eq!(accounts.iter().map(|(_, rows)| rows[0]).sum::<u64>(), ACCOUNTS * EACH, "{level:?}");
                // The same by gets, in another order, while others go on.
                let total: u64 = (0..ACCOUNTS).rev().map(|number| get_one(&mut reader, number).unwrap()).sum();
                assert_eq!(total, ACCOUNTS * EACH, "{level:?}");
                reader.commit().unwrap();
            },
        );
        assert!(moved.into_inner() > 0);
        let stats = database.stats();
        assert_eq!((stats.keys, stats.versions, stats.active_transactions), (ACCOUNTS, ACCOUNTS, 0));
    }
}

#[test]
fn one_scan_at_read_committed_sees_each_commit_whole() {
    // More keys than a cursor reads at a time, all written together with one number.
    const KEYS: u64 = 90;
    const ROUNDS: u64 = 400;
    let database = filled(KEYS, 0);
    run(
        |thread, _| {
            for round in 0..ROUNDS {
                let write_all = |transaction: &mut Transaction<Numbers>| {
                    let own = thread * ROUNDS + round + 1;
                    (0..KEYS).try_for_each(|number| transaction.put(&key(number), numbers(&[own])))
                };
                database.transact(&at(ReadCommitted), write_all).unwrap();
            }
        },
        |random| {
            let mut reader = database.begin(&read_only(ReadCommitted));
            let found = scan_in_order(&mut reader, KeyRange::all(), any_direction(random)).unwrap();
            assert_eq!(found.len() as u64, KEYS);
            assert!(found.iter().all(|(_, rows)| *rows == found[0].1), "two commits in one scan: {found:?}");
        },
    );
}

#[test]
fn reads_at_read_committed_never_go_back() {
    const ROUNDS: u64 = 10_000;
    // Both keys are counted up together; x is read first, so y may only be newer.
    let database = filled(2, 0);
    run(
        |_, _| {
            for _ in 0..ROUNDS {
                let count = |transaction: &mut Transaction<Numbers>| {
                    let next = get_one(transaction, 0)? + 1;
                    transaction.put(&key(0), numbers(&[next]))?;
                    transaction.put(&key(1), numbers(&[next]))
                };
                database.transact(&at(Serializable), count).unwrap();
            }
        },
        |_| {
            let mut reader = database.begin(&at(ReadCommitted));
            let mut newest = 0;
            for step in 0..20 {
                let seen = get_one(&mut reader, step % 2).unwrap();
                assert!(seen >= newest, "{newest} was seen before {seen}");
                newest = seen;
            }
        },
    );
    let mut reader = database.begin(&at(Serializable));
    let total = THREADS * ROUNDS;
    assert_eq!((get_one(&mut reader, 0), get_one(&mut reader, 1)), (Ok(total), Ok(total)), "no update was lost");
}

#[test]
fn write_skew_never_breaks_a_constraint_at_serializable() {
    // In each pair of accounts the sum must stay at or above zero; a withdrawal looks at both and takes from one.
    const PAIRS: u64 = 3;
    const ROUNDS: u64 = 12_000;
    const START: u64 = 10;
    // Balances are kept with this added to them, as they may be negative alone.
    const ZERO: u64 = 1 << 32;
    let database = filled(2 * PAIRS, ZERO + START / 2);
    let denied = AtomicU64::new(0);
    run(
        |_, random| {
            for _ in 0..ROUNDS {
                let (first, second) = (random.below(PAIRS) * 2, 1);
                let (take_from, deposit) = (first + random.below(2), random.below(5) < 2);
                let withdraw = |transaction: &mut Transaction<Numbers>| {
                    let sum = get_one(transaction, first)? + get_one(transaction, first + second)? - 2 * ZERO;
                    if deposit || sum > 0 {
                        let balance = get_one(transaction, take_from)?;
                        let changed = if deposit { balance + 1 } else { balance - 1 };
                        transaction.put(&key(take_from), numbers(&[changed]))?;
                        return Ok(0);
                    }
                    Ok(1)
                };
                let (refused, _) = database.transact(&at(Serializable), withdraw).unwrap();
                denied.fetch_add(refused, Ordering::Relaxed);
            }
        },
        |_| {
            let mut reader = database.begin(&read_only(Serializable));
            for pair in 0..PAIRS {
                let sum = get_one(&mut reader, 2 * pair).unwrap() + get_one(&mut reader, 2 * pair + 1).unwrap();
                assert!(sum >= 2 * ZERO, "pair {pair}: {sum}");
            }
        },
    );
    assert!(denied.into_inner() > 0, "the constraint was never put to the test");
}

#[test]
fn phantoms_never_break_a_constraint_at_serializable() {
    // At most MOST rows under each prefix: whoever inserts has counted them by a scan. Some make room, too.
    const PREFIXES: u64 = 2;
    const MOST: usize = 5;
    const ROUNDS: u64 = 10_000;
    let database = Database::new(Options::default());
    let full = AtomicU64::new(0);
    let count = |transaction: &mut Transaction<Numbers>, prefix: u64, random: &mut Random| {
        let found = scan_in_order(transaction, KeyRange::prefix(&key(prefix)), any_direction(random))?;
        assert!(found.len() <= MOST, "{found:?}");
        Ok::<_, Error>(found)
    };
    run(
        |thread, random| {
            for round in 0..ROUNDS {
                let prefix = random.below(PREFIXES);
                let room = random.below(3) == 0;
                let body = |transaction: &mut Transaction<Numbers>| {
                    let found = transaction.scan(KeyRange::prefix(&key(prefix)), Direction::Forward, None)?;
                    interleave();
                    if room {
                        // By the count alone: which row goes makes no difference.
                        return match found.first() {
                            Some((oldest, _)) => transaction.delete(oldest).map(|()| 0),
                            None => Ok(0),
                        };
                    }
                    if found.len() >= MOST {
                        return Ok(1);
                    }
                    let unique = [key(prefix), key(random.below(1000)), key(thread), key(round)].concat();
                    transaction.put(&unique, numbers(&[round])).map(|()| 0)
                };
                let (refused, _) = database.transact(&at(Serializable), body).unwrap();
                full.fetch_add(refused, Ordering::Relaxed);
            }
        },
        |random| {
            let mut reader = database.begin(&read_only(Serializable));
            for prefix in 0..PREFIXES {
                count(&mut reader, prefix, random).unwrap();
            }
        },
    );
    assert!(full.into_inner() > 0, "the constraint was never put to the test");
    let mut left = 0;
    for prefix in 0..PREFIXES {
        let mut reader = database.begin(&read_only(Serializable));
        left += count(&mut reader, prefix, &mut Random::new(0)).unwrap().len() as u64;
    }
    let stats = database.stats();
    assert_eq!((stats.keys, stats.versions), (left, left), "what was deleted has left");
}

#[test]
fn what_a_serializable_commit_has_read_is_the_newest_at_its_version() {
    // Long certifications, during which the last key of the range is overwritten more than once.
    const KEYS: u64 = 250;
    const ATTEMPTS: u64 = 800;
    let database = filled(KEYS, 0);
    let hot = KEYS - 1;
    let (attempts, readers) = (AtomicU64::new(0), AtomicUsize::new(2));
    // By version: what was put under the hot key, and what a scan has found there.
    let history = std::sync::Mutex::new(BTreeMap::from([(1, (0, true))]));
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (database, attempts, readers, history) = (&database, &attempts, &readers, &history);
            scope.spawn(move || {
                let mut own = Vec::new();
                for _ in 0..ATTEMPTS {
                    let mut transaction = database.begin(&at(Serializable));
                    let found = scan_in_order(&mut transaction, KeyRange::all(), Direction::Forward).unwrap();
                    let seen = found.iter().find(|(key, _)| *key == hot.to_be_bytes()).unwrap().1[0];
                    transaction.rollback().unwrap();
                    let mut transaction = database.begin(&at(Serializable));
                    let range = KeyRange::new(std::ops::Bound::Unbounded, std::ops::Bound::Included(key(hot).into()));
                    let found = transaction.scan(range, Direction::Forward, None).unwrap();
                    let again = only(&found.last().unwrap().1);
                    assert!(again >= seen, "a later snapshot has an older value");
                    // Not in the range, so that the two do not disturb each other; but the writer reads it, and so none
                    // that has seen too little can come before the writer.
                    transaction.put(&[0xff, thread], numbers(&[again])).unwrap();
                    attempts.fetch_add(1, Ordering::Release);
                    match transaction.commit() {
                        Ok(version) => own.push((version, (again, false))),
                        Err(Error::Conflict(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                history.lock().unwrap().extend(own);
                readers.fetch_sub(1, Ordering::Release);
            });
        }
        scope.spawn(|| {
            let (mut value, mut own) = (0, Vec::new());
            while readers.load(Ordering::Acquire) > 0 {
                // A burst while somebody commits, then room for somebody to get through.
                let before = attempts.load(Ordering::Acquire);
                while attempts.load(Ordering::Acquire) == before && readers.load(Ordering::Acquire) > 0 {
                    std::thread::yield_now();
                }
                for _ in 0..value % 7 + 1 {
                    value += 1;
                    let write = |writer: &mut Transaction<Numbers>| {
                        (0..2).try_for_each(|thread| writer.exists(&[0xff, thread]).map(|_| ()))?;
                        writer.put(&key(hot), numbers(&[value]))
                    };
                    let ((), version) = database.transact(&at(Serializable), write).unwrap();
                    own.push((version, (value, true)));
                }
            }
            history.lock().unwrap().extend(own);
        });
    });
    let (mut newest, mut certified) = (0, 0);
    for (version, (value, written)) in history.into_inner().unwrap() {
        if written {
            newest = value;
        } else {
            assert_eq!(value, newest, "read by the transaction that was committed as version {version}");
            certified += 1;
        }
    }
    assert!(certified > 0, "none got through");
}

/// Inserts and deletes of the same few keys, so that their records die and come back all the time. The number of keys
/// is kept constant by moving them: each commit deletes one that is there and inserts one that is not.
fn churn(level: IsolationLevel) {
    const PLACES: u64 = 8;
    const TAKEN: u64 = 4;
    const ROUNDS: u64 = 10_000;
    let database = filled(TAKEN, 7);
    run(
        |_, random| {
            for round in 0..ROUNDS {
                let start = random.below(PLACES);
                let step = |transaction: &mut Transaction<Numbers>| {
                    let mut from = None;
                    let mut to = None;
                    for place in (start..start + PLACES).map(|place| place % PLACES) {
                        interleave();
                        match transaction.exists(&key(place))? {
                            true => from = from.or(Some(place)),
                            false => to = to.or(Some(place)),
                        }
                    }
                    match (from, to) {
                        (Some(from), Some(to)) => {
                            transaction.delete(&key(from))?;
                            transaction.put(&key(to), numbers(&[7]))
                        }
                        _ => {
                            assert_eq!(level, ReadCommitted, "one snapshot has taken and free places");
                            Ok(())
                        }
                    }
                };
                database.transact(&at(level), step).unwrap();
                if round % 64 == 0 {
                    // Reclaims, and so seals, as much as it can, whoever is in the middle of something.
                    let stats = database.stats();
                    assert!(stats.version > 0);
                }
            }
        },
        |random| {
            let mut reader = database.begin(&if random.below(2) == 0 { read_only(level) } else { at(level) });
            let direction = any_direction(random);
            let found = scan_in_order(&mut reader, KeyRange::all(), direction).unwrap();
            assert_eq!(found.len() as u64, TAKEN, "{level:?}: {found:?}");
            assert!(found.iter().all(|(_, rows)| rows == &[7]));
            if level != ReadCommitted {
                // Gets, and another scan, agree with the scan.
                for place in 0..PLACES {
                    let by_scan = found.iter().any(|(key, _)| *key == place.to_be_bytes());
                    assert_eq!(reader.exists(&key(place)).unwrap(), by_scan, "{level:?}: place {place}");
                }
                let mut again = scan_in_order(&mut reader, KeyRange::all(), direction).unwrap();
                assert_eq!(again, found);
                again = scan_in_order(&mut reader, KeyRange::prefix(&[0]), Direction::Forward).unwrap();
                assert_eq!(again.len() as u64, TAKEN);
            }
            reader.commit().unwrap();
        },
    );
    let stats = database.stats();
    assert_eq!((stats.keys, stats.versions, stats.live_bytes), (TAKEN, TAKEN, 8 * TAKEN));
}

#[test]
fn churn_of_a_few_keys_keeps_their_number_at_serializable() {
    churn(Serializable);
}

#[test]
fn churn_of_a_few_keys_keeps_their_number_at_repeatable_read() {
    churn(RepeatableRead);
}

/// Here, too, as what a transaction writes was not committed by others since it looked at it.
#[test]
fn churn_of_a_few_keys_keeps_their_number_at_read_committed() {
    churn(ReadCommitted);
}

#[test]
fn churn_of_one_key_alternates() {
    // Each transaction takes the key away if it is there and brings it back if it is not. So it is there after every
    // second commit: what each saw, in the order of the versions, must alternate.
    const ROUNDS: u64 = 15_000;
    let database = Database::new(Options::default());
    let seen = std::sync::Mutex::new(Vec::new());
    run(
        |_, random| {
            let mut own = Vec::new();
            for round in 0..ROUNDS {
                let by_scan = random.below(3) == 0;
                let toggle = |transaction: &mut Transaction<Numbers>| {
                    let there = match by_scan {
                        true => !transaction.scan(KeyRange::all(), Direction::Reverse, None)?.is_empty(),
                        false => transaction.exists(b"key")?,
                    };
                    interleave();
                    if there {
                        transaction.delete(b"key")?
                    } else {
                        transaction.put(b"key", numbers(&[1]))?
                    }
                    Ok(there)
                };
                let (there, version) = database.transact(&at(Serializable), toggle).unwrap();
                own.push((version, there));
                if round % 128 == 0 {
                    database.stats();
                }
            }
            assert!(own.is_sorted(), "one thread's versions follow its commits");
            seen.lock().unwrap().extend(own);
        },
        |_| {
            let mut reader = database.begin(&read_only(Serializable));
            let (by_get, by_scan) =
                (reader.exists(b"key").unwrap(), reader.scan(KeyRange::all(), Direction::Forward, None).unwrap());
            assert_eq!(by_scan.len(), usize::from(by_get));
        },
    );
    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    assert_eq!(seen.len() as u64, THREADS * ROUNDS);
    assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0), "no version is given twice");
    for (number, (version, there)) in seen.iter().enumerate() {
        assert_eq!(*there, number % 2 == 1, "commit {number}, version {version}");
    }
    let there = (THREADS * ROUNDS) % 2;
    assert_eq!(database.stats().keys, there);
}

#[test]
fn blind_churn_by_replace_never_fails() {
    // Puts and deletes that look at nothing, over each other: none of them may fail, and what is left is what the last
    // commit of each key says.
    const PLACES: u64 = 4;
    const ROUNDS: u64 = 20_000;
    let database = Database::new(Options::default());
    let written = std::sync::Mutex::new(BTreeMap::new());
    let options = TransactionOptions {
        conflict_resolution: Some(khonsu::stm::ConflictResolution::Replace),
        ..TransactionOptions::default()
    };
    run(
        |thread, random| {
            let mut own = Vec::new();
            for round in 0..ROUNDS {
                let mut transaction = database.begin(&options);
                let (place, other) = (random.below(PLACES), random.below(PLACES));
                interleave();
                let value = (random.below(2) == 0).then_some(thread * ROUNDS + round);
                for place in [place, other] {
                    match value {
                        Some(value) => transaction.put(&key(place), numbers(&[value])).unwrap(),
                        None => transaction.delete(&key(place)).unwrap(),
                    }
                }
                let version = transaction.commit().expect("nothing was read, and replace resolves the rest");
                own.extend([(version, place, value), (version, other, value)]);
            }
            let mut written = written.lock().unwrap();
            for (version, place, value) in own {
                let newest = written.entry(place).or_insert((version, value));
                if newest.0 < version {
                    *newest = (version, value);
                }
            }
        },
        |random| {
            _ = scan_in_order(&mut database.begin(&read_only(Serializable)), KeyRange::all(), any_direction(random))
        },
    );
    let mut reader = database.begin(&read_only(Serializable));
    let written = written.into_inner().unwrap();
    for (place, (version, value)) in &written {
        let found = reader.get(&key(*place)).unwrap().map(|value| only(&value));
        assert_eq!(found, *value, "place {place}, last written by version {version}");
    }
    drop(reader);
    let there = written.values().filter(|(_, value)| value.is_some()).count() as u64;
    let stats = database.stats();
    assert_eq!((stats.keys, stats.versions), (there, there));
    assert_eq!((stats.commits, stats.conflicts_write_write), (THREADS * ROUNDS, 0));
}

#[test]
fn appended_rows_are_all_there_once_and_in_order() {
    const KEYS: u64 = 2;
    const ROUNDS: u64 = 4000;
    let database = Database::new(Options::default());
    let checked = AtomicUsize::new(0);
    // Rows are numbered by thread; with the order in which the key has them, each thread's must ascend.
    let check = |rows: &[u64]| {
        let mut next = [0; THREADS as usize];
        for row in rows {
            let (thread, number) = ((row / ROUNDS) as usize, row % ROUNDS);
            assert_eq!(number, next[thread], "rows of thread {thread}");
            next[thread] += 1;
        }
        next
    };
    run(
        |thread, random| {
            for round in 0..ROUNDS {
                let row = thread * ROUNDS + round;
                let mut transaction = database.begin(&at(LEVELS[random.below(3) as usize]));
                interleave();
                for number in 0..KEYS {
                    transaction.append(&key(number), numbers(&[row])).unwrap();
                }
                transaction.commit().expect("appends never conflict");
            }
        },
        |_| {
            let mut reader = database.begin(&read_only(Serializable));
            let all: Vec<_> = (0..KEYS).map(|number| reader.get(&key(number)).unwrap().as_ref().map(flat)).collect();
            assert!(all.iter().all(|rows| *rows == all[0]), "both keys follow the commits");
            check(all[0].as_deref().unwrap_or_default());
            checked.fetch_add(1, Ordering::Relaxed);
        },
    );
    assert!(checked.into_inner() > 0);
    let mut reader = database.begin(&read_only(Serializable));
    let value = reader.get(&key(0)).unwrap().unwrap();
    assert_eq!(check(&flat(&value)), [ROUNDS; THREADS as usize], "every acknowledged row");
    drop(reader);
    assert_eq!(database.stats().live_bytes, KEYS * THREADS * ROUNDS * 8, "each row is counted once");
}

#[test]
fn a_commit_that_returned_is_seen_by_the_next_begin_of_another_thread() {
    const ROUNDS: u64 = 10_000;
    let database = filled(THREADS, 0);
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (database, failed) = (&database, &failed);
            let (sender, receiver) = mpsc::sync_channel::<(u64, u64)>(4);
            scope.spawn(move || {
                for round in 1..=ROUNDS {
                    // Also what everybody writes, so that the commits get into each other's way.
                    let write = |transaction: &mut Transaction<Numbers>| {
                        transaction.put(&key(thread), numbers(&[round]))?;
                        transaction.append(b"all", numbers(&[thread]))
                    };
                    let (_, version) = database.transact(&at(Serializable), write).unwrap();
                    assert_eq!(get_one(&mut database.begin(&at(Serializable)), thread), Ok(round), "one's own");
                    if sender.send((round, version)).is_err() {
                        return;
                    }
                }
            });
            scope.spawn(move || {
                for (round, version) in receiver {
                    for level in LEVELS {
                        let mut reader = database.begin(&read_only(level));
                        let seen = get_one(&mut reader, thread).unwrap();
                        if reader.snapshot_version() < version || seen < round {
                            failed.store(true, Ordering::Relaxed);
                            panic!("{level:?}: version {version} had returned, and {seen} is seen for {round}");
                        }
                    }
                }
            });
        }
    });
    assert!(!failed.into_inner());
    let rows = flat(&database.begin(&at(Serializable)).get(b"all").unwrap().unwrap());
    assert_eq!(rows.len() as u64, THREADS * ROUNDS);
}

#[test]
fn thousands_of_transactions_are_open_at_once() {
    const OPEN: u64 = 5000;
    let database = filled(1, 0);
    let mut open = Vec::new();
    for number in 1..=OPEN {
        let mut transaction = database.begin(&at(if number % 2 == 0 { Serializable } else { RepeatableRead }));
        if number % 8 == 0 {
            // Some have read their snapshot already, and keep it in any case.
            assert_eq!(get_one(&mut transaction, 0), Ok(number - 1));
        }
        transaction.put(&[b"own", &key(number)[..]].concat(), numbers(&[number])).unwrap();
        open.push(transaction);
        let overtaking = |writer: &mut Transaction<Numbers>| {
            assert!(!writer.exists(&[b"own", &key(number)[..]].concat())?);
            writer.put(&key(0), numbers(&[number]))
        };
        database.transact(&at(Serializable), overtaking).unwrap();
    }
    let stats = database.stats();
    assert_eq!(stats.active_transactions, OPEN);
    // One for each snapshot, and the newest.
    assert_eq!((stats.keys, stats.versions), (1, OPEN + 1));
    // They end on other threads than they began on.
    std::thread::scope(|scope| {
        let mut number = 0;
        while !open.is_empty() {
            let part: Vec<_> = open.drain(..open.len().min(OPEN as usize / 4)).collect();
            let first = number;
            number += part.len() as u64;
            scope.spawn(move || {
                for (mine, mut transaction) in (first..).zip(part) {
                    assert_eq!(get_one(&mut transaction, 0), Ok(mine), "the snapshot of number {mine}");
                    match transaction.commit() {
                        Ok(_) => assert!(mine % 2 == 0),
                        // What a serializable one has read was overwritten by somebody who has read what it writes.
                        Err(Error::Conflict(_)) => assert!(mine % 2 == 1),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    let stats = database.stats();
    assert_eq!((stats.active_transactions, stats.keys, stats.versions), (0, 1 + OPEN / 2, 1 + OPEN / 2));
    let mut reader = database.begin(&read_only(Serializable));
    assert_eq!(scan_in_order(&mut reader, KeyRange::prefix(b"own"), Direction::Forward).unwrap().len(), 2500);
}

#[test]
fn a_large_transaction_gets_through_among_small_ones() {
    const KEYS: u64 = 2_000;
    let database = filled(KEYS, 0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (database, done) = (&database, &done);
            scope.spawn(move || {
                let mut random = Random::new(thread + 1);
                while !done.load(Ordering::Relaxed) {
                    let number = random.below(KEYS);
                    let options = TransactionOptions::default();
                    database.transact(&options, |transaction| transaction.put(&key(number), numbers(&[1]))).unwrap();
                }
            });
        }
        let large = database.transact(&TransactionOptions::default(), |transaction| {
            let mut sum = 0;
            for number in 0..KEYS {
                sum += get_one(transaction, number)?;
                transaction.put(&key(number), numbers(&[0]))?;
            }
            transaction.put(&key(KEYS), numbers(&[sum]))
        });
        done.store(true, Ordering::Relaxed);
        large.unwrap();
    });
    let mut transaction = database.begin(&read_only(Serializable));
    assert!(get_one(&mut transaction, KEYS).unwrap() <= KEYS);
}
