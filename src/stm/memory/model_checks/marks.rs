//! The marks that readers leave, against those who overwrite what they have read.

use super::phases::install;
use super::{Shared, database, explore, spawn};
use crate::stm::snapshot::{Registration, SlotWord};

/// The read-only anomaly: the writer comes before somebody whom the reader has seen, and so before the reader, who has
/// not seen the writer. One of the two must find out.
#[test]
fn a_late_reader_and_a_stale_writer() {
    explore(2, || {
        let database = database();
        database.pinned(|guard| {
            database.record(b"x", guard);
        });
        let seen = install(&database, &[b"y"], 1, None).expect("nobody is there to abort it");
        let writer = spawn(&database, |database: &Shared| {
            // Its snapshot is 0.
            install(database, &[b"x"], 2, Some(database.found_absent(b"y")))
        });
        let reader = spawn(&database, move |database: &Shared| {
            database.pinned(|guard| {
                let footprint = database.found_absent(b"x");
                database.tracker(guard).certify_at_snapshot(&footprint, seen).is_ok()
            })
        });
        let (committed, certified) = (writer.join().unwrap().is_some(), reader.join().unwrap());
        assert!(!(committed && certified), "neither has seen the other");
    });
}

/// The same with a reader that has said so when it began, and is never certified.
#[test]
fn a_declared_reader_and_a_stale_writer() {
    explore(None, || {
        let (database, word) = (database(), loom::sync::Arc::new(SlotWord::new()));
        let low = database.clock.draw();
        let other = spawn(&database, |database: &Shared| database.clock.draw());
        let reader = {
            let word = word.clone();
            spawn(&database, move |database: &Shared| {
                let snapshot = word.register(Registration::ReadOnlySnapshot, &database.clock);
                assert!(word.release());
                snapshot.expect("nobody has the slot")
            })
        };
        // What the writer does when it is certified.
        let stamp = database.clock.draw();
        let commits = word.newest_read_only() < low;
        let snapshot = reader.join().unwrap();
        other.join().unwrap();
        assert!(!commits || snapshot < low || snapshot >= stamp, "the reader sees {snapshot}, and not {stamp}");
    });
}
