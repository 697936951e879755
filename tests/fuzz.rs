//! Replays the corpora of the fuzzers and the inputs of past findings, without libFuzzer and sanitizers, and holds the
//! corpora to reach what the fuzzers are there for. See fuzz/README.md.
//!
//! The fuzzers are a package of their own. Their modules are taken in here, so that nothing is compiled for them alone.

#[path = "../fuzz/src/bridge.rs"]
mod bridge;
#[path = "../fuzz/src/call.rs"]
mod call;
#[path = "../fuzz/src/import/mod.rs"]
mod import;
#[path = "../fuzz/src/input.rs"]
mod input;
#[path = "../fuzz/src/ipc.rs"]
mod ipc;
#[path = "../fuzz/src/operations/mod.rs"]
mod operations;
// To hush panics is for libFuzzer's programs alone.
#[allow(dead_code)]
#[path = "../fuzz/src/panics.rs"]
mod panics;
#[path = "../fuzz/src/reached.rs"]
mod reached;

use std::fs;
use std::path::{Path, PathBuf};

/// None where there is no such folder: not every fuzzer has found something.
fn inputs(folder: &str, target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder).join(target);
    let entries = fs::read_dir(&folder).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    files.sort();
    files
}

fn replay(target: &str, run: fn(&[u8])) -> reached::Outcomes {
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

#[test]
fn operations() {
    assert_reached(
        &replay("operations", operations::run),
        &[
            ("commit of a serializable transaction", "must succeed"),
            ("commit of a serializable transaction", "must fail: overtaken"),
            ("commit of a serializable transaction", "must fail: schemas differ"),
            ("commit at repeatable read", "must succeed"),
            ("commit at repeatable read", "must fail: overtaken"),
            ("commit at repeatable read", "must fail: schemas differ"),
            ("commit at read committed", "must succeed"),
            ("commit at read committed", "must fail: overtaken"),
            ("commit at read committed", "must fail: schemas differ"),
            ("conflict of kind", "write-write"),
            ("end of khonsu_db_transact", "at once"),
            ("end of khonsu_db_transact", "after a rerun"),
            ("khonsu_cursor_get", "INVALID_STATE"),
            ("khonsu_cursor_get", "OK"),
            ("khonsu_cursor_next", "INVALID_STATE"),
            ("khonsu_cursor_next", "NOT_FOUND"),
            ("khonsu_cursor_next", "OK"),
            ("khonsu_cursor_next", "SCHEMA_MISMATCH"),
            ("khonsu_db_stats", "OK"),
            ("khonsu_txn_append", "LIMIT_EXCEEDED"),
            ("khonsu_txn_append", "OK"),
            ("khonsu_txn_append", "SCHEMA_MISMATCH"),
            ("khonsu_txn_append_with_schema", "OK"),
            ("khonsu_txn_commit", "INVALID_STATE"),
            ("khonsu_txn_delete", "OK"),
            ("khonsu_txn_exists", "OK"),
            ("khonsu_txn_get", "INVALID_ARGUMENT"),
            ("khonsu_txn_get", "INVALID_STATE"),
            ("khonsu_txn_get", "NOT_FOUND"),
            ("khonsu_txn_get", "OK"),
            ("khonsu_txn_get", "SCHEMA_MISMATCH"),
            ("khonsu_txn_get_stream", "OK"),
            ("khonsu_txn_get_with_schema", "OK"),
            ("khonsu_txn_get_with_schema", "SCHEMA_MISMATCH"),
            ("khonsu_txn_put", "INVALID_STATE"),
            ("khonsu_txn_put", "LIMIT_EXCEEDED"),
            ("khonsu_txn_put", "OK"),
            ("khonsu_txn_put_stream", "OK"),
            ("khonsu_txn_put_stream", "STORAGE"),
            ("khonsu_txn_put_with_schema", "OK"),
            ("khonsu_txn_release", "OK"),
            ("khonsu_txn_rollback", "OK"),
            ("khonsu_txn_rollback_to", "OK"),
            ("khonsu_txn_scan_prefix", "OK"),
            ("khonsu_txn_scan_stream", "OK"),
            ("khonsu_txn_scan_stream", "SCHEMA_MISMATCH"),
            ("khonsu_txn_set_conflict_resolution", "OK"),
        ],
    );
}

#[test]
fn import() {
    let mut wanted = vec![
        ("array", "refused"),
        ("array", "taken, valid"),
        ("array", "taken, with invalid values"),
        ("array", "taken, absurd"),
        ("khonsu_schema_import", "INVALID_ARGUMENT"),
        ("khonsu_txn_get", "INVALID_ARGUMENT"),
        ("khonsu_txn_get", "OK"),
    ];
    wanted.extend(import::FORMATS.map(|format| ("sound array taken", format)));
    assert_reached(&replay("import", import::run), &wanted);
}

#[test]
fn ipc() {
    assert_reached(
        &replay("ipc", ipc::run),
        &[
            ("khonsu_ipc_open_stream", "OK"),
            ("khonsu_ipc_open_stream", "CORRUPTION"),
            ("batch of a file", "good"),
            ("batch of a file", "damaged"),
            ("khonsu_txn_put_stream", "OK"),
            ("khonsu_txn_put_stream", "CORRUPTION"),
        ],
    );
}
