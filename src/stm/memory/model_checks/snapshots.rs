//! Registered snapshots against the scan of them: what a snapshot sees is never judged superfluous.

use std::sync::Arc;

use super::{explore, spawn};
use crate::stm::clock::Clock;
use crate::stm::memory::{Pool, Reuse};
use crate::stm::snapshot::{LiveSnapshots, Registration, SlotWord};

struct Shared {
    clock: Clock,
    word: SlotWord,
}

fn shared(versions: u64) -> Arc<Shared> {
    let shared = Shared { clock: Clock::new(), word: SlotWord::new() };
    for _ in 0..versions {
        shared.clock.draw();
    }
    Arc::new(shared)
}

impl Shared {
    fn register(&self, registration: Registration) -> u64 {
        self.word.register(registration, &self.clock).expect("nobody has the slot")
    }
}

fn scan(shared: &Shared) -> LiveSnapshots {
    let mut live = LiveSnapshots::unknown();
    live.scan(&shared.clock, [&shared.word]);
    live
}

/// A snapshot sees the version that is the newest at it, whichever comes next.
fn check_seen(live: &LiveSnapshots, snapshot: u64, newest: u64) {
    for seen in 0..=snapshot {
        for next in snapshot + 1..=newest + 1 {
            assert!(live.needs(seen, next), "{seen}..{next} at {snapshot}");
        }
    }
    assert!(live.floor() <= snapshot);
}

#[test]
fn registering_a_snapshot() {
    explore(None, || {
        let shared = shared(1);
        let reader = spawn(&shared, |shared| shared.register(Registration::Snapshot));
        let writer = spawn(&shared, |shared| (shared.clock.draw(), shared.clock.draw()));
        let live = scan(&shared);
        let (snapshot, (_, newest)) = (reader.join().unwrap(), writer.join().unwrap());
        check_seen(&live, snapshot, newest);
        check_seen(&scan(&shared), snapshot, newest);
    });
}

/// The same in a slot that somebody has just given up, and whose next transaction follows at once.
#[test]
fn registering_in_a_slot_that_was_used() {
    explore(3, || {
        let shared = shared(1);
        let reader = spawn(&shared, |shared| {
            let first = shared.register(Registration::Snapshot);
            assert!(shared.word.release());
            (first, shared.register(Registration::Snapshot))
        });
        let writer = spawn(&shared, |shared| (shared.clock.draw(), shared.clock.draw()));
        let live = scan(&shared);
        let ((first, snapshot), (_, newest)) = (reader.join().unwrap(), writer.join().unwrap());
        assert!(first <= snapshot);
        check_seen(&live, snapshot, newest);
        check_seen(&scan(&shared), snapshot, newest);
    });
}

/// Of two that want a slot one gets it, and keeps its snapshot beside the other's attempt and the closing of the slot.
#[test]
fn a_slot_that_two_want_while_it_closes() {
    explore(3, || {
        let shared = shared(1);
        let begin = |shared: &Shared| {
            let snapshot = shared.word.register(Registration::Snapshot, &shared.clock)?;
            shared.word.keep_later(snapshot);
            check_seen(&scan(shared), snapshot, snapshot);
            let is_free = shared.word.release();
            if !is_free {
                shared.word.release_closing();
            }
            Some(is_free)
        };
        let beginners = [spawn(&shared, begin), spawn(&shared, begin)];
        let closed = shared.word.close();
        if closed {
            shared.word.release_closing();
        }
        let outcomes = beginners.map(|beginner| beginner.join().unwrap());
        // Whoever had the slot when it closed, or got it afterwards, has found it closing.
        assert!(closed || outcomes.contains(&Some(false)));
        assert!(!shared.word.is_held() && shared.word.claim().is_some() && !shared.word.release());
    });
}

/// At read committed: the floor keeps tombstones, and a read above it what it sees.
#[test]
fn reading_above_a_floor() {
    explore(None, || {
        let shared = shared(1);
        let floor = shared.register(Registration::Floor);
        let reader = spawn(&shared, move |shared| shared.word.read_above_floor(floor, &shared.clock));
        let writer = spawn(&shared, |shared| shared.clock.draw());
        let live = scan(&shared);
        let (snapshot, newest) = (reader.join().unwrap(), writer.join().unwrap());
        check_seen(&live, snapshot, newest);
        assert!(live.floor() <= floor);
        shared.word.back_to_floor(floor);
        assert!(scan(&shared).floor() <= floor);
    });
}

#[test]
fn registering_a_floor() {
    explore(None, || {
        let shared = shared(1);
        let writer = spawn(&shared, |shared| (shared.clock.draw(), shared.clock.draw()));
        let scanner = spawn(&shared, scan);
        let floor = shared.register(Registration::Floor);
        writer.join().unwrap();
        assert!(scanner.join().unwrap().floor() <= floor);
    });
}

/// A committer with reads to certify sees at its stamp what the others have committed since its snapshot.
#[test]
fn certifying_at_a_later_stamp() {
    explore(None, || {
        let shared = shared(1);
        let snapshot = shared.register(Registration::Snapshot);
        let committer = spawn(&shared, move |shared| {
            shared.word.keep_later(snapshot);
            shared.clock.draw()
        });
        let writer = spawn(&shared, |shared| (shared.clock.draw(), shared.clock.draw()));
        let live = scan(&shared);
        let (stamp, (_, newest)) = (committer.join().unwrap(), writer.join().unwrap());
        check_seen(&live, snapshot, newest);
        for seen in snapshot..stamp {
            for next in stamp..=newest.max(stamp) + 1 {
                assert!(live.needs(seen, next), "{seen}..{next} at stamp {stamp}");
            }
        }
    });
}

impl Reuse for () {
    fn clear(&mut self) {}
    fn is_clear(&self) -> bool {
        true
    }
}

/// A transaction takes a slot that did not exist when the scan began.
#[test]
fn registering_in_a_new_slot() {
    explore(2, || {
        let pool = Pool::<(), Clock, u64>::new(Clock::new());
        pool.shared().draw();
        let held: Vec<_> = (0..pool.len()).map(|_| pool.claim(|_| ())).collect();
        let reader = {
            let pool = Arc::clone(&pool);
            loom::thread::spawn(move || {
                pool.claim_by(|word| word.register(Registration::Snapshot, pool.shared()), |_| ())
            })
        };
        let writer = {
            let pool = Arc::clone(&pool);
            loom::thread::spawn(move || pool.shared().draw())
        };
        let mut live = LiveSnapshots::unknown();
        live.scan(pool.shared(), pool.words());
        let (claim, snapshot) = reader.join().unwrap();
        check_seen(&live, snapshot, writer.join().unwrap());
        drop((held, claim));
    });
}
