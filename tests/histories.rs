//! Random histories of concurrent transactions, judged by what their isolation levels promise.
//!
//! `KHONSU_SEED=N KHONSU_PROFILE=P cargo test --test histories replay -- --ignored` runs a history that failed again,
//! `KHONSU_BUDGET=10m cargo test --release --test histories soak -- --ignored --nocapture` runs others for that long,
//! and `export` writes histories for other checkers (see the Makefile for all three).

mod common;
mod history;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use history::anomalies::{Anomaly, Phenomenon};
use history::data::{Event, History, Outcome};
use history::plan::{Action, Content, Plan, PlannedStep, Profile, Run};
use history::{dbcop, judge, runner, shrink};
use khonsu::stm::IsolationLevel::{self, ReadCommitted, RepeatableRead, Serializable};
use khonsu::stm::{ConflictKind, ConflictResolution};

/// How often a plan that threads race through is run: each time goes another way.
const RACES: u64 = 4;
/// Runs of a raced plan when it is replayed.
const REPLAYED_RACES: u64 = 20_000;

fn forbidden(profile: Profile, history: &History) -> Vec<Anomaly> {
    let mut anomalies = judge::forbidden(history);
    if profile.content == Content::Lists {
        anomalies.extend(judge::forbidden_by_lists(history));
    }
    anomalies
}

fn phenomena(anomalies: &[Anomaly]) -> BTreeSet<Phenomenon> {
    anomalies.iter().map(|anomaly| anomaly.phenomenon).collect()
}

/// Runs the plan of a seed and judges what happened.
#[track_caller]
fn check(profile: Profile, seed: u64) -> History {
    let plan = Plan::random(profile, seed);
    let history = runner::run(&plan, profile);
    if !forbidden(profile, &history).is_empty() {
        fail(profile, seed, &plan, history);
    }
    history
}

/// Prints the smallest history that can be found to fail as well.
#[track_caller]
fn fail(profile: Profile, seed: u64, plan: &Plan, history: History) -> ! {
    let history = match profile.run {
        Run::Interleaved => {
            let fails = |plan: &Plan| !forbidden(profile, &runner::run(plan, profile)).is_empty();
            runner::run(&shrink::shrink_plan(plan, fails), profile)
        }
        // It might not fail again.
        Run::Raced | Run::Logged => shrink::shrink_history(&history, |history| phenomena(&forbidden(profile, history))),
    };
    let anomalies: Vec<String> = forbidden(profile, &history).iter().map(ToString::to_string).collect();
    panic!(
        "\n{}\n\n{history}\nrun it again: KHONSU_SEED={seed} KHONSU_PROFILE={profile} \
         cargo test --test histories replay -- --ignored\n",
        anomalies.join("\n")
    );
}

/// What was seen in many histories, so that the absence of anomalies says something.
#[derive(Default)]
struct Tally {
    histories: u64,
    committed: u64,
    refused: u64,
    phenomena: BTreeSet<Phenomenon>,
}

impl Tally {
    fn count(&mut self, history: &History) {
        self.histories += 1;
        for transaction in &history.transactions {
            self.committed += u64::from(transaction.is_committed());
            self.refused += u64::from(matches!(transaction.outcome, Outcome::Conflict { .. }));
        }
        if self.histories.is_multiple_of(8) {
            self.phenomena.extend(phenomena(&judge::all(history)));
        }
    }
}

/// At least so many histories, and as many as there is time for.
fn explore(profile: Profile, least: u64, time: Duration) -> Tally {
    let started = Instant::now();
    let mut tally = Tally::default();
    for seed in 0.. {
        let runs = if profile.run == Run::Interleaved { 1 } else { RACES };
        (0..runs).for_each(|_| tally.count(&check(profile, seed)));
        if tally.histories >= least && started.elapsed() >= time {
            break;
        }
    }
    let Tally { histories, committed, refused, .. } = tally;
    println!("{profile}: {histories} histories, {committed} transactions committed, {refused} refused");
    assert!(committed > histories, "most transactions commit");
    tally
}

fn interleaved(level: Option<IsolationLevel>) -> Tally {
    let run = Run::Interleaved;
    let tally = explore(Profile { content: Content::Everything, level, run }, 1000, Duration::from_millis(3500));
    assert!(tally.refused * 20 > tally.histories, "some meet");
    explore(Profile { content: Content::Lists, level, run }, 300, Duration::from_millis(1000));
    tally
}

fn raced(level: Option<IsolationLevel>) {
    for (content, milliseconds) in [(Content::Everything, 2500), (Content::Lists, 500)] {
        let profile = Profile { content, level, run: Run::Raced };
        explore(profile, 200, Duration::from_millis(milliseconds));
    }
}

#[test]
fn interleaved_histories_at_read_committed() {
    let seen = interleaved(Some(ReadCommitted)).phenomena;
    assert!(seen.contains(&Phenomenon::GSingle), "what is allowed happens: {seen:?}");
}

#[test]
fn interleaved_histories_at_repeatable_read() {
    let seen = interleaved(Some(RepeatableRead)).phenomena;
    for allowed in [Phenomenon::G2Item, Phenomenon::G2] {
        assert!(seen.contains(&allowed), "what is allowed happens: {seen:?}");
    }
}

#[test]
fn interleaved_histories_at_serializable() {
    let seen = interleaved(Some(Serializable)).phenomena;
    assert!(seen.is_empty(), "{seen:?}");
}

#[test]
fn interleaved_histories_of_mixed_levels() {
    interleaved(None);
}

#[test]
fn raced_histories_at_read_committed() {
    raced(Some(ReadCommitted));
}

#[test]
fn raced_histories_at_repeatable_read() {
    raced(Some(RepeatableRead));
}

#[test]
fn raced_histories_at_serializable() {
    raced(Some(Serializable));
}

#[test]
fn raced_histories_of_mixed_levels() {
    raced(None);
}

#[test]
fn histories_over_a_log() {
    for level in [Some(ReadCommitted), Some(RepeatableRead), Some(Serializable), None] {
        for (content, milliseconds) in [(Content::Everything, 1500), (Content::Lists, 500)] {
            explore(Profile { content, level, run: Run::Logged }, 50, Duration::from_millis(milliseconds));
        }
    }
}

#[test]
fn a_seed_gives_one_history() {
    for profile in Profile::all().into_iter().filter(|profile| profile.run == Run::Interleaved) {
        for seed in 0..20 {
            assert_eq!(check(profile, seed).to_string(), check(profile, seed).to_string(), "{profile}, seed {seed}");
        }
    }
}

#[test]
fn a_wrong_answer_does_not_go_unnoticed() {
    // Of those with one snapshot: what is found under a key becomes what was there before or after, or nothing.
    let mut wrong = 0;
    for level in [RepeatableRead, Serializable] {
        let profile = Profile { content: Content::Everything, level: Some(level), run: Run::Interleaved };
        for seed in 0..100 {
            let history = check(profile, seed);
            for (number, transaction) in history.transactions.iter().enumerate() {
                for (place, step) in transaction.steps.iter().enumerate() {
                    let Event::Get(key, found) = &step.event else {
                        continue;
                    };
                    let others = history.transactions.iter().flat_map(|transaction| &transaction.steps);
                    let other = others.into_iter().find_map(|step| match &step.event {
                        Event::Get(same, other) if same == key && other != found => Some(other.clone()),
                        _ => None,
                    });
                    let mut changed = history.clone();
                    let other = other.or_else(|| found.is_some().then_some(None));
                    changed.transactions[number].steps[place].event = Event::Get(*key, other.unwrap_or(Some(vec![0])));
                    assert!(!judge::forbidden(&changed).is_empty(), "T{number}: {}\n{history}", step.event);
                    wrong += 1;
                }
            }
        }
    }
    assert!(wrong > 1000, "{wrong}");
}

#[test]
fn what_fails_is_made_small() {
    // Write skew is allowed at repeatable read, and here taken for a failure.
    let profile = Profile { content: Content::Everything, level: Some(RepeatableRead), run: Run::Interleaved };
    let skewed = |plan: &Plan| {
        let found = phenomena(&judge::all(&runner::run(plan, profile)));
        found.contains(&Phenomenon::G2Item)
    };
    let plan = (0..).map(|seed| Plan::random(profile, seed)).find(&skewed).expect("there is always another one");
    let smallest = shrink::shrink_plan(&plan, skewed);
    assert!(smallest.steps.len() < plan.steps.len());
    // Two begins, reads, writes, commits, and a third of each if it is the read-only anomaly.
    assert!(smallest.steps.len() <= 12, "{:#?}", smallest.steps);
    let history = runner::run(&smallest, profile);
    let shows = |history: &History| phenomena(&judge::all(history)).contains(&Phenomenon::G2Item);
    let history = shrink::shrink_history(&history, shows);
    // Three of them, and whoever wrote what was there before.
    assert!(history.transactions.len() <= 4, "{history}");
}

#[test]
fn dbcop_files_say_what_was_recorded() {
    let profile = Profile { content: Content::Registers, level: Some(Serializable), run: Run::Interleaved };
    let begin = Action::Begin { level: Serializable, resolution: None, read_only: false };
    let steps = [
        (0, begin.clone()),
        (1, begin),
        (0, Action::Get(7)),
        (0, Action::Get(7)),
        (1, Action::Get(8)),
        (0, Action::Put(7, 2)),
        (1, Action::Put(7, 3)),
        (0, Action::Put(7, 4)),
        (0, Action::Get(7)),
        (0, Action::Get(8)),
        (0, Action::Commit),
        (1, Action::Commit),
    ];
    let steps = steps.map(|(session, action)| PlannedStep { session, action, yields: false }).to_vec();
    let plan = Plan { resolution: ConflictResolution::Fail, sessions: 2, filled: vec![(7, 1)], steps };
    let expected = r#"{"params":{"id":5,"n_node":3,"n_variable":2,"n_transaction":1,"n_event":3},"info":"a test","start":"1970-01-01T00:00:00Z","end":"1970-01-01T00:00:00Z","data":[
[{"events":[{"Read":{"variable":0,"version":1}},{"Read":{"variable":1,"version":null}},{"Write":{"variable":0,"version":4}}],"committed":true}],
[{"events":[{"Write":{"variable":0,"version":1}}],"committed":true}],
[{"events":[{"Read":{"variable":0,"version":4}}],"committed":true}]
]}
"#;
    assert_eq!(dbcop::json(&runner::run(&plan, profile), 5, "a test"), expected);
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str) -> Option<u64> {
    variable(name).map(|value| value.parse().unwrap_or_else(|_| panic!("{name}: {value} is no number")))
}

#[test]
#[ignore = "runs the history of KHONSU_SEED and KHONSU_PROFILE"]
fn replay() {
    let seed = number("KHONSU_SEED").expect("KHONSU_SEED");
    let profile: Profile = variable("KHONSU_PROFILE").expect("KHONSU_PROFILE").parse().expect("KHONSU_PROFILE");
    let runs = if profile.run == Run::Interleaved { 1 } else { REPLAYED_RACES };
    for _ in 1..runs {
        check(profile, seed);
    }
    println!("{}", check(profile, seed));
}

/// How many of the commits that were refused for what they had read would have closed a cycle.
#[test]
#[ignore = "a measurement"]
fn refusals() {
    for run in [Run::Interleaved, Run::Raced] {
        let profile = Profile { content: Content::Everything, level: Some(Serializable), run };
        let (mut committed, mut refused, mut needed) = (0_u64, 0_u64, 0_u64);
        for seed in 0..number("KHONSU_N").unwrap_or(2000) {
            let history = check(profile, seed);
            committed += history.transactions.iter().filter(|transaction| transaction.is_committed()).count() as u64;
            for (number, transaction) in history.transactions.iter().enumerate() {
                if let Outcome::Conflict { kinds, .. } = &transaction.outcome
                    && !kinds.contains(&ConflictKind::WriteWrite)
                {
                    refused += 1;
                    needed += u64::from(judge::would_close_cycle(&history, number));
                }
            }
        }
        println!(
            "{profile}: {committed} committed, {refused} refused by certification, {needed} would have closed a cycle"
        );
        assert!(needed <= refused && committed > 0);
    }
}

#[test]
#[ignore = "takes as long as KHONSU_BUDGET says"]
fn soak() {
    let text = variable("KHONSU_BUDGET").unwrap_or_else(|| "30s".to_owned());
    let budget = budget(&text);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set").as_micros() as u64;
    let first = number("KHONSU_SEED").unwrap_or(now);
    let profiles = Profile::all();
    let started = Instant::now();
    let (mut histories, mut told) = (0_u64, Duration::ZERO);
    for seed in (first..).take_while(|_| started.elapsed() < budget) {
        for profile in &profiles {
            check(*profile, seed);
            histories += 1;
        }
        if started.elapsed() >= told * 2 + Duration::from_secs(10) {
            told = started.elapsed();
            println!("{:6} s, {histories} histories, seeds {first} to {seed}", told.as_secs());
        }
    }
    println!("{:6} s, {histories} histories from seed {first} on, no anomaly", started.elapsed().as_secs());
    assert!(histories > 0);
}

/// 30s, 10m or 2h.
fn budget(text: &str) -> Duration {
    let unit = text.trim_start_matches(|character: char| character.is_ascii_digit());
    let seconds = match unit {
        "s" | "" => 1,
        "m" => 60,
        "h" => 3600,
        _ => panic!("a budget is a number of seconds (s), minutes (m) or hours (h), not {text}"),
    };
    let count: u64 = text[..text.len() - unit.len()].parse().unwrap_or_else(|_| panic!("{text} is no budget"));
    Duration::from_secs(count * seconds)
}

#[test]
#[ignore = "writes histories into the folder KHONSU_OUT"]
fn export() {
    let folder = PathBuf::from(variable("KHONSU_OUT").expect("KHONSU_OUT"));
    let level = variable("KHONSU_LEVEL").unwrap_or_else(|| "serializable".to_owned());
    let (seed, count) = (number("KHONSU_SEED").unwrap_or(1), number("KHONSU_N").unwrap_or(100));
    let profile: Profile = format!("Registers/{level}/Interleaved").parse().expect("KHONSU_LEVEL");
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    for seed in seed..seed + count {
        let text = dbcop::json(&check(profile, seed), seed, &format!("khonsu {level} seed {seed}"));
        std::fs::write(folder.join(format!("{level}-{seed:06}.json")), text).expect("the file can be written");
    }
    println!("{count} histories in {}", folder.display());
}
