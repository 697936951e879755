//! Records that are sealed and taken out while others link them, install in them and make new ones.

use std::ops::{Bound, ControlFlow};

use crossbeam_epoch::Guard;

use super::{Shared, database, explore, spawn, value};
use crate::stm::memory::{Head, Installation, Phase, Residue};
use crate::stm::options::Direction;
use crate::stm::snapshot::LiveSnapshots;

const KEY: &[u8] = b"k";

/// Trims the record that the key has, as the reclaimer does, knowing of no snapshot.
fn reclaim(database: &Shared) {
    database.owned(|owner| {
        let guard = owner.guard;
        let Some(record) = database.buffer.find(database.buffer.hash(KEY), KEY, guard) else { return };
        let mut live = LiveSnapshots::unknown();
        live.scan(&database.clock, []);
        if record.trim(&live, &owner) == Residue::Sealed {
            database.buffer.remove(record, guard);
        }
    });
}

/// Commits a value, or a tombstone, as a writer does that nobody else competes with. Gives its version.
fn write(database: &Shared, number: Option<u64>) -> u64 {
    database.owned(|owner| {
        let guard = owner.guard;
        let mut installation = Installation::new(0, None, false, 1, owner);
        let mut record = database.record(KEY, guard);
        loop {
            let head = record.head(guard);
            if matches!(head, Head::Sealed) {
                database.buffer.remove(record, guard);
                record = database.record(KEY, guard);
            } else if installation.try_install(record, head, number.and_then(value), false, 8).is_ok() {
                break;
            }
        }
        installation.descriptor().advance(Phase::Installing, Phase::Ready).expect("nobody aborts it");
        database.tracker(guard).stamp(installation.descriptor());
        match installation.descriptor().phase() {
            Phase::Committed(version) => version,
            other => panic!("{other:?}"),
        }
    })
}

/// Whether each record in the order index is alive, and they are those of the hash index. Gives their number.
fn check_indexes(database: &Shared, guard: &Guard) -> usize {
    let mut found = 0;
    database.buffer.walk((Bound::Unbounded, Bound::Unbounded), Direction::Forward, guard, |record| {
        assert!(!record.is_sealed(), "a sealed record is left in the order index");
        let named = database.buffer.find(database.buffer.hash(KEY), KEY, guard);
        assert!(named.is_some_and(|named| std::ptr::eq(named, record)), "the indexes have different records");
        found += 1;
        ControlFlow::Continue(())
    });
    assert_eq!(database.buffer.len(), found, "a record is in the hash index alone");
    found
}

/// One makes the record and links it, the other seals it as soon as it finds it.
#[test]
fn a_record_is_sealed_while_it_is_linked() {
    explore(3, || {
        let database = database();
        database.pinned(|guard| {
            let writer =
                spawn(&database, |database| _ = database.pinned(|guard| database.record(KEY, guard).key().len()));
            let reclaimer = spawn(&database, reclaim);
            writer.join().unwrap();
            reclaimer.join().unwrap();
            check_indexes(&database, guard);
        });
    });
}

/// The record is in the hash index, and two link it at once, of whom each may find it linked by the other.
#[test]
fn a_record_is_sealed_while_two_link_it() {
    explore(2, || {
        let database = database();
        database.pinned(|guard| {
            let link = |database: &Shared| _ = database.pinned(|guard| database.record(KEY, guard).key().len());
            let writers = [spawn(&database, link), spawn(&database, link)];
            reclaim(&database);
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            check_indexes(&database, guard);
        });
    });
}

/// A writer puts the key while its tombstone is reclaimed: in the old record before the seal, or in a new one.
#[test]
fn a_key_is_put_while_its_tombstone_is_reclaimed() {
    explore(3, || {
        let database = database();
        database.pinned(|guard| {
            write(&database, Some(1));
            write(&database, None);
            let reclaimer = spawn(&database, reclaim);
            let writer = spawn(&database, |database| write(database, Some(7)));
            reclaimer.join().unwrap();
            let version = writer.join().unwrap();
            assert_eq!(check_indexes(&database, guard), 1);
            assert_eq!(database.read(KEY, version, guard), Some(7));
        });
    });
}

/// So do two reclaimers, and a reader that takes its snapshot before or after.
#[test]
fn a_reader_meets_a_seal() {
    explore(2, || {
        let database = database();
        database.pinned(|guard| {
            write(&database, None);
            let reclaimer = spawn(&database, reclaim);
            let writer = spawn(&database, |database| write(database, Some(7)));
            let snapshot = database.clock.now();
            let seen = database.read(KEY, snapshot, guard);
            reclaimer.join().unwrap();
            assert_eq!(seen, (writer.join().unwrap() <= snapshot).then_some(7));
        });
    });
}
