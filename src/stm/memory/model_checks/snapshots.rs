//! Registered snapshots against the scan of them: what a snapshot sees is never judged superfluous.

use std::sync::Arc;

use super::{explore, spawn};
use crate::stm::clock::Clock;
use crate::stm::memory::Pool;
use crate::stm::snapshot::{LiveSnapshots, SlotWord};

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
        let reader = spawn(&shared, |shared| shared.word.register(&shared.clock));
        let writer = spawn(&shared, |shared| (shared.clock.draw(), shared.clock.draw()));
        let live = scan(&shared);
        let (snapshot, (_, newest)) = (reader.join().unwrap(), writer.join().unwrap());
        check_seen(&live, snapshot, newest);
        check_seen(&scan(&shared), snapshot, newest);
    });
}

/// At read committed: the floor keeps tombstones, and a read above it what it sees.
#[test]
fn reading_above_a_floor() {
    explore(None, || {
        let shared = shared(1);
        let floor = shared.word.register_floor(&shared.clock);
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
        let floor = shared.word.register_floor(&shared.clock);
        writer.join().unwrap();
        assert!(scanner.join().unwrap().floor() <= floor);
    });
}

/// A committer with reads to certify sees at its stamp what the others have committed since its snapshot.
#[test]
fn certifying_at_a_later_stamp() {
    explore(None, || {
        let shared = shared(1);
        let snapshot = shared.word.register(&shared.clock);
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
                let mut claim = pool.claim(|_| ());
                let (_, pool, presence) = claim.parts();
                (presence.word.register(pool.shared()), claim)
            })
        };
        let writer = {
            let pool = Arc::clone(&pool);
            loom::thread::spawn(move || pool.shared().draw())
        };
        let mut live = LiveSnapshots::unknown();
        live.scan(pool.shared(), pool.words());
        let (snapshot, claim) = reader.join().unwrap();
        check_seen(&live, snapshot, writer.join().unwrap());
        drop((held, claim));
    });
}
