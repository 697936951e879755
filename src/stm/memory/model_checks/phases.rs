//! The phase word: installed, ready, stamped, decided, by owner and helpers; and what readers make of it meanwhile.

use std::sync::Arc;

use super::{Number, Shared, database, explore, spawn, value};
use crate::stm::dependency_tracker::Footprint;
use crate::stm::memory::{Descriptor, Head, Installation, Phase, State};

/// Installs a number under keys, each of which nobody else writes. `None`: the installation was aborted.
pub(super) fn install(
    database: &Shared,
    keys: &[&[u8]],
    number: u64,
    footprint: Option<Footprint<Number>>,
) -> Option<u64> {
    database.owned(|owner| {
        let guard = owner.guard;
        let footprint = footprint.map(Arc::new);
        let mut installation = Installation::new(0, footprint, false, keys.len(), owner);
        for key in keys {
            let record = database.record(key, guard);
            let head = record.head(guard);
            assert!(installation.try_install(record, head, value(number), false, 8).is_ok());
        }
        let descriptor = installation.descriptor();
        descriptor.advance(Phase::Installing, Phase::Ready).ok()?;
        settle(database, descriptor, guard)
    })
}

fn settle<'g>(
    database: &'g Shared,
    descriptor: &'g Descriptor<Number>,
    guard: &'g crossbeam_epoch::Guard,
) -> Option<u64> {
    loop {
        match descriptor.phase() {
            Phase::Installing => unreachable!("only a ready one is settled"),
            Phase::Certified(_) => unreachable!("there is no log"),
            Phase::Ready => database.tracker(guard).stamp(descriptor),
            Phase::Stamped(version) => database.tracker(guard).decide(descriptor, version),
            Phase::Committed(version) => return Some(version),
            Phase::Aborted => return None,
        }
    }
}

/// A reader sees both writes or none, whatever it meets them in; and the same again later.
fn seen_whole(with_footprint: bool) {
    explore(2, move || {
        let database = database();
        database.pinned(|guard| {
            database.record(b"a", guard);
            database.record(b"b", guard);
            let owner = spawn(&database, move |database| {
                let footprint = with_footprint.then(|| database.found_absent(b"read"));
                install(database, &[b"a", b"b"], 7, footprint)
            });
            let reader = spawn(&database, |database| {
                database.pinned(|guard| {
                    let snapshot = database.clock.now();
                    let first = database.read(b"b", snapshot, guard);
                    assert_eq!(first, database.read(b"a", snapshot, guard));
                    (snapshot, first)
                })
            });
            let version = owner.join().unwrap().expect("nobody aborts it");
            let (snapshot, seen) = reader.join().unwrap();
            assert_eq!(seen, (version <= snapshot).then_some(7), "what was seen depends on the stamp alone");
            assert_eq!(database.read(b"b", snapshot, guard), seen);
        });
    });
}

#[test]
fn a_commit_is_seen_whole() {
    seen_whole(false);
}

#[test]
fn a_certified_commit_is_seen_whole() {
    seen_whole(true);
}

/// Who completes a commit that it has met under one key sees it under the others, too.
#[test]
fn a_helper_sees_all_that_it_has_completed() {
    explore(1, || {
        let database = database();
        database.pinned(|guard| {
            database.record(b"a", guard);
            database.record(b"b", guard);
            let owner = spawn(&database, |database| install(database, &[b"a", b"b"], 7, None));
            let helper = spawn(&database, |database| {
                database.pinned(|guard| {
                    database.read(b"a", database.clock.now(), guard);
                    let snapshot = database.clock.now();
                    assert_eq!(database.read(b"a", snapshot, guard), database.read(b"b", snapshot, guard));
                })
            });
            owner.join().unwrap();
            helper.join().unwrap();
        });
    });
}

/// Several stamp and decide it: it gets one version, which nobody else has, and one decision.
fn settled_once(with_footprint: bool) {
    explore(3, move || {
        let database = database();
        database.owned(|owner| {
            let guard = owner.guard;
            let footprint = with_footprint.then(|| Arc::new(database.found_absent(b"read")));
            let mut installation = Installation::new(0, footprint, false, 1, owner);
            let record = database.record(b"a", guard);
            assert!(installation.try_install(record, Head::Empty, value(7), false, 8).is_ok());
            installation.descriptor().advance(Phase::Installing, Phase::Ready).unwrap();
            let helper = |database: &Shared| {
                database.pinned(|guard| {
                    let record = database.record(b"a", guard);
                    let Head::Version(version) = record.head(guard) else { panic!("it is installed") };
                    match version.state(guard) {
                        State::Undecided(descriptor) => settle(database, descriptor, guard),
                        State::Committed(version) => Some(version),
                        State::Certified(_) => unreachable!("there is no log"),
                        State::Aborted => None,
                    }
                })
            };
            let helpers = [spawn(&database, helper), spawn(&database, helper)];
            let other = database.clock.draw();
            let versions = helpers.map(|helper| helper.join().unwrap().expect("nothing speaks against it"));
            assert_eq!(versions[0], versions[1]);
            assert_ne!(versions[0], other);
            assert_eq!(installation.descriptor().phase(), Phase::Committed(versions[0]));
        });
    });
}

#[test]
fn a_commit_has_one_stamp() {
    settled_once(false);
}

#[test]
fn a_certified_commit_has_one_stamp_and_one_decision() {
    settled_once(true);
}

/// Somebody aborts an installation while its owner goes on: it counts whole or not at all.
#[test]
fn an_installation_is_aborted_or_ready() {
    explore(3, || {
        let database = database();
        database.pinned(|guard| {
            database.record(b"a", guard);
            database.record(b"b", guard);
            let owner = spawn(&database, |database| install(database, &[b"a", b"b"], 7, None));
            let aborter = spawn(&database, |database| {
                database.pinned(|guard| {
                    let Head::Version(version) = database.record(b"a", guard).head(guard) else { return false };
                    let State::Undecided(descriptor) = version.state(guard) else { return false };
                    descriptor.advance(Phase::Installing, Phase::Aborted).is_ok()
                })
            });
            let (version, aborted) = (owner.join().unwrap(), aborter.join().unwrap());
            assert_eq!(version.is_none(), aborted);
            let seen = (!aborted).then_some(7);
            assert_eq!((database.read(b"a", 9, guard), database.read(b"b", 9, guard)), (seen, seen));
            // The owner has cleaned up after itself.
            assert_eq!(matches!(database.record(b"b", guard).head(guard), Head::Empty), aborted);
        });
    });
}
