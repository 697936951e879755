//! Runs a scenario under many schedules.

use std::collections::BTreeSet;
use std::env;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};

/// Schedules of each kind.
const SCHEDULES: usize = 1000;
/// Far more than a scenario takes: a thread that gets nowhere.
const STUCK: usize = 200_000;

/// Runs a scenario under each kind of schedule. It panics where something is wrong and else tells how it went; each of
/// the `expected` ways must come up, or the schedules did not meet what the scenario is about.
pub fn explore(expected: &[&str], scenario: fn() -> String) {
    let seconds = number_from("KHONSU_SCHEDULES_SECONDS");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    let seed = number_from("KHONSU_SCHEDULES_SEED").unwrap_or_else(|| if seconds.is_some() { now() } else { 1 });
    let time = seconds.map(|seconds| Duration::from_secs(seconds) / 3);
    let schedules = if time.is_some() { usize::MAX } else { SCHEDULES };

    let ways = Arc::new(Mutex::new(BTreeSet::new()));
    let run = |name: &str, scheduler: Box<dyn Scheduler + Send>| {
        let report = ReportSeed { name, seed, begun: Arc::new(AtomicUsize::new(0)) };
        let mut config = Config::new();
        config.stack_size = 1 << 18;
        config.max_steps = MaxSteps::FailAfter(STUCK);
        config.max_time = time;
        config.silence_warnings = true;
        let (ways, begun) = (Arc::clone(&ways), Arc::clone(&report.begun));
        Runner::new(scheduler, config).run(move || {
            begun.fetch_add(1, Ordering::Relaxed);
            let way = scenario();
            ways.lock().expect("no panic while it is locked").insert(way);
        });
        drop(report);
    };
    run("random", Box::new(RandomScheduler::new_from_seed(seed, schedules)));
    run("PCT of depth 2", Box::new(PctScheduler::new_from_seed(seed, 2, schedules)));
    run("PCT of depth 4", Box::new(PctScheduler::new_from_seed(seed, 4, schedules)));
    let ways = ways.lock().expect("no panic while it is locked");
    for way in expected {
        assert!(ways.contains(*way), "no schedule went {way:?}, only {ways:?}");
    }
}

fn number_from(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}: {text:?} is no number")))
}

/// Says how to repeat a failure.
struct ReportSeed<'a> {
    name: &'a str,
    seed: u64,
    begun: Arc<AtomicUsize>,
}

impl Drop for ReportSeed<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let ReportSeed { name, seed, begun } = self;
            eprintln!("in schedule {} of kind {name}; KHONSU_SCHEDULES_SEED={seed}", begun.load(Ordering::Relaxed));
        }
    }
}
