//! Replays the corpora and the inputs of past findings, without libFuzzer and sanitizers, and holds the corpora to
//! reach what the fuzzers are there for.

use std::fs;
use std::path::{Path, PathBuf};

use khonsu_fuzz::{TARGETS, reached};

fn inputs(folder: &str, target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("the folder can be read").path())
        .collect();
    files.sort();
    files
}

fn replay(target: &str) -> reached::Outcomes {
    let (_, run) = TARGETS.into_iter().find(|(name, _)| *name == target).expect("it is a target");
    let corpus = inputs("corpus", target);
    assert!(!corpus.is_empty(), "corpus/{target} is empty");
    for file in corpus.iter().chain(&inputs("regressions", target)) {
        // The last line of what is printed names the input of a failure.
        println!("{}", file.display());
        run(&fs::read(file).expect("the input can be read"));
    }
    reached::take()
}

#[track_caller]
fn assert_reached(outcomes: &reached::Outcomes, wanted: &[(&str, &str)]) {
    for ((what, outcome), count) in outcomes {
        println!("{count:>8}  {what}: {outcome}");
    }
    let missing: Vec<_> = wanted.iter().filter(|wanted| !outcomes.contains_key(wanted)).collect();
    assert!(missing.is_empty(), "the corpus no longer reaches {missing:?}");
}
