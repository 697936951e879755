//! Threads that are stopped for good in the midst of what they do, at each fail point in turn. The others must go on,
//! on the same keys and on other ones, at each isolation level, and see nothing but what is consistent. Then those that
//! were stopped go on, too, and in the end everything is consistent and nothing superfluous is left in memory.

#[path = "../common/mod.rs"]
mod common;

mod bank;
mod runner;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bank::{Bank, Deed};
use common::{LEVELS, Random};
use khonsu::stm::IsolationLevel::{self, ReadCommitted, RepeatableRead, Serializable};
use khonsu::stm::{Decision, Error, FailPoint};
use runner::{Runner, Stop, at, must_end, never};

/// Attempts that one thread alone may need for a transaction, beside others that are stopped: each of those may have
/// come so far that it must be brought to its end first, and then be in the way once.
const ATTEMPTS: u32 = 4;

fn open() -> Arc<Bank> {
    Arc::new(must_end("a new bank", Bank::new))
}

/// Lets a thread do something once, until it is to stop.
fn start(bank: &Arc<Bank>, deed: Deed, level: IsolationLevel, seed: u64, stop: Stop) -> Runner {
    let bank = Arc::clone(bank);
    Runner::start(format!("{deed:?} at {level:?}, seed {seed}"), stop, move || {
        match bank.perform(deed, level, &mut Random::new(seed), Some(1)) {
            Ok(()) | Err(Error::Conflict(_)) => {}
            Err(error) => panic!("{error}"),
        }
    })
}

/// One thread alone does everything at each level; then two do some of it at once.
fn others_go_on(bank: &Arc<Bank>, what: &str, seed: u64) {
    let alone = Arc::clone(bank);
    must_end(&format!("one thread beside {what}"), move || {
        let mut random = Random::new(seed);
        for deed in Deed::ORDINARY {
            for level in LEVELS {
                if let Err(error) = alone.perform(deed, level, &mut random, Some(ATTEMPTS)) {
                    panic!("{deed:?} at {level:?}: {error}");
                }
            }
        }
    });
    let together = Arc::clone(bank);
    must_end(&format!("two threads beside {what}"), move || {
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let bank = &together;
                scope.spawn(move || {
                    let mut random = Random::new(seed ^ thread);
                    for _ in 0..12 {
                        let deed = Deed::ORDINARY[random.below(Deed::ORDINARY.len() as u64) as usize];
                        let level = LEVELS[random.below(3) as usize];
                        bank.perform(deed, level, &mut random, None).expect("it is tried until it commits");
                    }
                });
            }
        });
    });
}

/// What has been done to whom so far.
#[derive(Default)]
struct Frozen {
    /// Fail points at which a thread was stopped while the others went on.
    at: BTreeSet<FailPoint>,
    freezes: usize,
}

impl Frozen {
    /// Freezes a thread at each fail point that it comes to, but those in `skipped`; each time with a new bank that
    /// `prepare` may already have frozen a thread in.
    fn freeze_at_each_point(
        &mut self,
        deed: Deed,
        level: IsolationLevel,
        skipped: &BTreeSet<FailPoint>,
        prepare: impl Fn(&Arc<Bank>) -> Option<Runner>,
    ) {
        let bank = open();
        let before = prepare(&bank);
        let reached = start(&bank, deed, level, 0, never()).reached();
        finish(&bank, before.into_iter().collect());

        let mut beyond = BTreeSet::new();
        for (&point, &times) in reached.iter().filter(|(point, _)| !skipped.contains(point)) {
            // The first time, and another.
            let another = (times > 1).then(|| 2 + Random::new(self.freezes as u64).below(times as u64 - 1) as usize);
            for time in [Some(1), another].into_iter().flatten() {
                let bank = open();
                let before = prepare(&bank);
                let mut frozen = start(&bank, deed, level, 0, at(point, time));
                let mut seed = self.freezes as u64;
                while let Some(point) = frozen.stopped_at() {
                    let already = before.as_ref().and_then(Runner::stopped_at);
                    let what = format!("{deed:?} at {level:?} frozen at {point:?} ({time}), another at {already:?}");
                    others_go_on(&bank, &what, seed);
                    self.at.insert(point);
                    self.freezes += 1;
                    seed += 1;
                    // Then it comes to points to which it does not come undisturbed.
                    let known = reached.clone();
                    let mut seen = beyond.clone();
                    frozen.go_on(Box::new(move |point, _| !known.contains_key(&point) && seen.insert(point)));
                    beyond.extend(frozen.stopped_at());
                }
                finish(&bank, before.into_iter().collect());
            }
        }
    }
}

/// Lets those go on that are stopped, and looks at what they leave.
fn finish(bank: &Arc<Bank>, frozen: Vec<Runner>) {
    for mut runner in frozen {
        if runner.stopped_at().is_some() {
            runner.go_on(never());
        }
    }
    let bank = Arc::clone(bank);
    must_end("the end", move || bank.check_when_all_is_over());
}

/// Where the owner of a commit is stopped for others to abort it, or to bring it to its decision.
const LEFT_TO_OTHERS: [FailPoint; 8] = [
    FailPoint::VersionLinked,
    FailPoint::BeforeReady,
    FailPoint::Ready,
    FailPoint::StampDrawn,
    FailPoint::Stamped,
    FailPoint::BeforeReadCertified,
    FailPoint::VerdictFound,
    FailPoint::BeforeFinish,
];

/// Where one is stopped in the midst of taking a key away.
const HALF_REMOVED: [FailPoint; 6] = [
    FailPoint::TrimBegun,
    FailPoint::RecordSealed,
    FailPoint::BeforeRemoved,
    FailPoint::RemovalMarked,
    FailPoint::RemovedFromHashIndex,
    FailPoint::BeforeRemovedFromOrderIndex,
];

#[test]
fn a_thread_that_stops_at_any_step_stops_nobody() {
    let mut frozen = Frozen::default();
    for level in LEVELS {
        for deed in Deed::ORDINARY {
            frozen.freeze_at_each_point(deed, level, &BTreeSet::new(), |_| None);
        }
        let skipped = frozen.at.clone();
        frozen.freeze_at_each_point(Deed::TwoPhase, level, &skipped, |_| None);
        // Two that exclude each other, of which one is stopped.
        for point in [FailPoint::HoldEnteredOne, FailPoint::HoldEntered, FailPoint::PreparationHolds] {
            frozen.freeze_at_each_point(Deed::Hold, level, &skipped, |bank| {
                Some(start(bank, Deed::Hold, level, 1, at(point, 1)))
            });
        }
        let (losing, rest) = Deed::SPECIAL.split_at(2);
        for deed in losing {
            frozen.freeze_at_each_point(*deed, level, &BTreeSet::new(), |_| None);
        }
        // The rest only where they come to something new.
        for deed in rest {
            let skipped = frozen.at.clone();
            frozen.freeze_at_each_point(*deed, level, &skipped, |_| None);
        }
    }
    // Those that help, or undo, what another has left.
    for point in LEFT_TO_OTHERS {
        for (owner, deed, level) in [
            (Deed::Transfer, Deed::Transfer, Serializable),
            (Deed::Transfer, Deed::Gets, Serializable),
            (Deed::Transfer, Deed::Move, RepeatableRead),
            // It writes without a look.
            (Deed::Revive, Deed::Revive, ReadCommitted),
        ] {
            frozen.freeze_at_each_point(deed, level, &BTreeSet::new(), |bank| {
                Some(start(bank, owner, Serializable, 1, at(point, 1)))
            });
        }
    }
    for point in HALF_REMOVED {
        frozen.freeze_at_each_point(Deed::Revive, Serializable, &BTreeSet::new(), |bank| {
            Some(start(bank, Deed::Revive, Serializable, 1, at(point, 1)))
        });
    }
    let missed: Vec<_> = FailPoint::ALL.iter().filter(|point| !frozen.at.contains(point)).collect();
    assert!(missed.is_empty(), "no thread came to {missed:?}");
    println!("{} freezes at {} fail points", frozen.freezes, frozen.at.len());
}

/// A reservation is no lock: what it keeps from others they get when it has expired.
#[test]
fn a_thread_that_stops_with_a_reservation_keeps_others_off_for_a_while_only() {
    for level in LEVELS {
        for point in [FailPoint::ReservationHeld, FailPoint::ReservationMet, FailPoint::ReservationRemoved] {
            let bank = open();
            let frozen = start(&bank, Deed::Starve, level, 0, at(point, 1));
            assert_eq!(frozen.stopped_at(), Some(point));
            let others = Arc::clone(&bank);
            must_end("the reserved key is written", move || others.write_what_is_reserved());
            others_go_on(&bank, &format!("a reservation at {point:?}"), 0);
            finish(&bank, vec![frozen]);
        }
    }
}

/// Before it binds anyone, a transaction that is being prepared is refused by who needs what it holds.
#[test]
fn a_thread_that_stops_while_it_prepares_keeps_nobody_off() {
    const NOT_BINDING: [FailPoint; 6] = [
        FailPoint::GlobalIdClaimed,
        FailPoint::HoldCounted,
        FailPoint::HoldEnteredOne,
        FailPoint::HoldEntered,
        FailPoint::PreparationValidated,
        FailPoint::PreparedStaged,
    ];
    for level in LEVELS {
        for point in NOT_BINDING {
            let bank = open();
            let frozen = start(&bank, Deed::Hold, level, 0, at(point, 1));
            assert_eq!(frozen.stopped_at(), Some(point));
            let others = Arc::clone(&bank);
            must_end("what is to be held is written", move || {
                others.write_what_is_held(level).expect("it does not bind");
                assert!(others.in_doubt().is_empty());
            });
            others_go_on(&bank, &format!("a preparation at {point:?}"), 0);
            finish(&bank, vec![frozen]);
        }
    }
}

/// From then on others fail, but anyone can decide it, at whatever step its own commit was stopped.
#[test]
fn a_thread_that_stops_in_the_second_phase_keeps_nobody_from_deciding() {
    let bank = open();
    let steps = start(&bank, Deed::Hold, Serializable, 0, never()).reached();
    let mut decided = [0, 0];
    for (point, times) in steps {
        for time in 1..=times.min(3) {
            for decision in [Decision::Commit, Decision::Rollback] {
                let bank = open();
                let frozen = start(&bank, Deed::Hold, Serializable, 0, at(point, time));
                let others = Arc::clone(&bank);
                let what = format!("a decision beside {point:?} ({time})");
                let done = must_end(&what, move || {
                    let committed = others.committed_by_holds();
                    let [id] = &others.in_doubt()[..] else {
                        // Not yet in doubt, or not any more.
                        return None;
                    };
                    let held = others.write_what_is_held(Serializable);
                    let is_held =
                        matches!(&held, Err(Error::Conflict(conflicts)) if conflicts[0].holder.as_ref() == Some(id));
                    assert!(committed == 1 || is_held, "{held:?}");
                    let outcome = others.decide(id, decision);
                    match (&outcome, decision) {
                        (Ok(()), _) => {}
                        (Err(Error::AlreadyDecided(_)), Decision::Rollback) => {
                            assert_eq!(others.committed_by_holds(), 1)
                        }
                        _ => panic!("{outcome:?}"),
                    }
                    assert_eq!(others.decide(id, decision), outcome);
                    others.write_what_is_held(Serializable).expect("nothing is held any more");
                    assert!(others.in_doubt().is_empty());
                    Some((outcome.is_ok(), others.committed_by_holds()))
                });
                if let Some((done, committed)) = done {
                    decided[usize::from(decision == Decision::Commit)] += usize::from(done);
                    assert_eq!(committed, usize::from(!(decision == Decision::Rollback && done)));
                }
                finish(&bank, vec![frozen]);
            }
        }
    }
    assert!(decided[0] > 10 && decided[1] > 10, "{decided:?} decisions beside one that was stopped");
}

/// How long `random_freezes` goes on: a number of rounds, or as many seconds as the environment says.
fn rounds() -> impl Iterator<Item = u64> {
    let budget = std::env::var("KHONSU_FREEZE_SECONDS").ok();
    let budget = budget.map(|seconds| Duration::from_secs(seconds.parse().expect("a number of seconds")));
    let began = Instant::now();
    (0..).take_while(move |round| budget.map_or(*round < 150, |budget| began.elapsed() < budget))
}

/// Two or three at once, anywhere, and more than once on their way.
#[test]
fn threads_that_stop_at_random_steps_stop_nobody() {
    let first_seed = std::env::var("KHONSU_FREEZE_SEED").map_or(0, |seed| seed.parse().expect("a number"));
    for seed in rounds().map(|round| first_seed + round) {
        let mut random = Random::new(seed);
        let bank = open();
        let mut frozen: Vec<Runner> = Vec::new();
        let all = [&Deed::ORDINARY[..], &Deed::SPECIAL].concat();
        for _ in 0..2 + random.below(2) {
            let deed = all[random.below(all.len() as u64) as usize];
            let level = LEVELS[random.below(3) as usize];
            frozen.push(start(&bank, deed, level, random.next(), somewhere(&mut random)));
        }
        for _ in 0..4 {
            let at: Vec<_> = frozen.iter().map(Runner::place).collect();
            others_go_on(&bank, &format!("{at:?}, KHONSU_FREEZE_SEED={seed}"), random.next());
            let next = random.below(frozen.len() as u64) as usize;
            if frozen[next].stopped_at().is_some() {
                frozen[next].go_on(somewhere(&mut random));
            }
        }
        finish(&bank, frozen);
    }
}

/// Nobody else is there to help: one stops anywhere, the other comes to some step, the first goes on, then the second.
#[test]
fn two_threads_that_meet_at_any_two_steps_agree() {
    const PAIRS: [(Deed, Deed); 8] = [
        (Deed::Transfer, Deed::Gets),
        (Deed::Transfer, Deed::Scan),
        (Deed::Transfer, Deed::Transfer),
        (Deed::Move, Deed::Gets),
        (Deed::Move, Deed::Move),
        (Deed::Switch, Deed::Switch),
        (Deed::Revive, Deed::Revive),
        (Deed::Transfer, Deed::Reclaim),
    ];
    let mut random = Random::new(0);
    let mut met = 0;
    for (first, second) in PAIRS {
        for level in LEVELS {
            let bank = open();
            let steps = start(&bank, first, level, 1, never()).reached();
            for (point, times) in steps {
                for _ in 0..4 {
                    let bank = open();
                    let time = 1 + random.below(times as u64) as usize;
                    let first = start(&bank, first, level, 1, at(point, time));
                    let second = start(&bank, second, level, random.next(), somewhere(&mut random));
                    met += usize::from(first.stopped_at().is_some() && second.stopped_at().is_some());
                    finish(&bank, vec![first, second]);
                }
            }
        }
    }
    assert!(met > 1000, "only {met} pairs met");
}

/// At the so-manieth fail point from here.
fn somewhere(random: &mut Random) -> Stop {
    // Far ones as often as near ones.
    let most = 1 << random.below(8);
    let mut left = random.below(most);
    Box::new(move |_, _| {
        let now = left == 0;
        left = left.wrapping_sub(1);
        now
    })
}
