//! What the tests of the core share. Each of them is a crate of its own and uses a part of it.
#![allow(dead_code, unused_imports)]

pub mod counted;
pub mod kept;
mod random;
pub mod slow_log;

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use khonsu::stm::{
    Chunk, Conflict, ConflictKind, ConflictResolution, Direction, Error, IsolationLevel, KeyRange, Options,
    Transaction, TransactionManager, TransactionOptions, Value,
};

pub use random::Random;

pub const LEVELS: [IsolationLevel; 3] =
    [IsolationLevel::ReadCommitted, IsolationLevel::RepeatableRead, IsolationLevel::Serializable];

pub const RESOLUTIONS: [ConflictResolution; 4] =
    [ConflictResolution::Fail, ConflictResolution::Ignore, ConflictResolution::Replace, ConflictResolution::Append];

pub type Batches = TransactionManager<RecordBatch>;
pub type BatchTransaction = Transaction<RecordBatch>;

/// A batch of one column of numbers.
pub fn batch(numbers: &[i64]) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from(numbers.to_vec()));
    RecordBatch::try_from_iter([("number", column)]).expect("a batch of one column")
}

/// A batch of another schema.
pub fn text_batch(text: &str) -> RecordBatch {
    let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
    RecordBatch::try_from_iter([("text", column)]).expect("a batch of one column")
}

/// The rows of all chunks.
pub fn rows(value: &Value<RecordBatch>) -> Vec<i64> {
    value.chunks().iter().flat_map(|chunk| chunk.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

/// The rows of a key, none where it has no value.
pub fn get_rows(transaction: &mut BatchTransaction, key: &str) -> Option<Vec<i64>> {
    transaction.get(key.as_bytes()).expect("get").as_ref().map(rows)
}

/// The one row of a key, or `None` where it has no value.
pub fn get(transaction: &mut BatchTransaction, key: &str) -> Option<i64> {
    let rows = get_rows(transaction, key)?;
    assert_eq!(rows.len(), 1, "key {key}");
    Some(rows[0])
}

pub fn put(transaction: &mut BatchTransaction, key: &str, number: i64) {
    transaction.put(key.as_bytes(), batch(&[number])).expect("put");
}

pub fn append(transaction: &mut BatchTransaction, key: &str, number: i64) {
    transaction.append(key.as_bytes(), batch(&[number])).expect("append");
}

pub fn delete(transaction: &mut BatchTransaction, key: &str) {
    transaction.delete(key.as_bytes()).expect("delete");
}

/// Keys and one-row values of a range.
pub fn scan_range(transaction: &mut BatchTransaction, range: KeyRange) -> Vec<(String, i64)> {
    let found = transaction.scan(range, Direction::Forward, None).expect("scan");
    found.into_iter().map(|(key, value)| (String::from_utf8(key).expect("a text key"), rows(&value)[0])).collect()
}

/// Keys and one-row values of all keys whose value `predicate` holds for.
pub fn select(transaction: &mut BatchTransaction, predicate: impl Fn(i64) -> bool) -> Vec<(String, i64)> {
    let mut found = scan_range(transaction, KeyRange::all());
    found.retain(|(_, number)| predicate(*number));
    found
}

pub fn named(rows: &[(&str, i64)]) -> Vec<(String, i64)> {
    rows.iter().map(|(key, number)| ((*key).to_owned(), *number)).collect()
}

pub fn begin(database: &Batches, isolation: IsolationLevel) -> BatchTransaction {
    database.begin(&at(isolation))
}

pub fn at(isolation: IsolationLevel) -> TransactionOptions {
    TransactionOptions { isolation: Some(isolation), ..TransactionOptions::default() }
}

pub fn resolving(isolation: IsolationLevel, resolution: ConflictResolution) -> TransactionOptions {
    TransactionOptions { conflict_resolution: Some(resolution), ..at(isolation) }
}

pub fn read_only(isolation: IsolationLevel) -> TransactionOptions {
    TransactionOptions { read_only: true, ..at(isolation) }
}

/// A database with one-row values.
pub fn database(rows: &[(&str, i64)]) -> Batches {
    database_with(Options::default(), rows)
}

pub fn database_with(options: Options, rows: &[(&str, i64)]) -> Batches {
    let database = Batches::new(options);
    let mut transaction = begin(&database, IsolationLevel::Serializable);
    for (key, number) in rows {
        put(&mut transaction, key, *number);
    }
    transaction.commit().expect("nobody is there to conflict with");
    database
}

/// What is committed now.
pub fn state(database: &Batches) -> Vec<(String, i64)> {
    scan_range(&mut database.begin(&read_only(IsolationLevel::Serializable)), KeyRange::all())
}

/// The rows committed under one key.
pub fn committed_rows(database: &Batches, key: &str) -> Option<Vec<i64>> {
    get_rows(&mut database.begin(&read_only(IsolationLevel::Serializable)), key)
}

/// Commits in the middle of what others do. Gives the version.
pub fn overtake(database: &Batches, rows: &[(&str, i64)]) -> u64 {
    let mut transaction = begin(database, IsolationLevel::ReadCommitted);
    for (key, number) in rows {
        put(&mut transaction, key, *number);
    }
    transaction.commit().expect("nothing came between")
}

/// The same by a serializable transaction that has read something before. One that it overtakes must not write that:
/// either would have to come before the other.
pub fn overtake_having_read(database: &Batches, read: &str, rows: &[(&str, i64)]) -> u64 {
    let mut transaction = begin(database, IsolationLevel::Serializable);
    transaction.exists(read.as_bytes()).expect("exists");
    for (key, number) in rows {
        put(&mut transaction, key, *number);
    }
    transaction.commit().expect("nothing came between")
}

pub fn conflicts_of<T: std::fmt::Debug>(outcome: Result<T, Error>) -> Vec<Conflict> {
    match outcome {
        Err(Error::Conflict(conflicts)) => {
            assert!(!conflicts.is_empty(), "a conflict says what it is");
            conflicts
        }
        other => panic!("expected a conflict, got {other:?}"),
    }
}

/// Asserts that a commit failed by conflicts of this kind only, and gives their keys in order.
#[track_caller]
pub fn assert_conflict<T: std::fmt::Debug>(outcome: Result<T, Error>, kind: ConflictKind) -> Vec<String> {
    let conflicts = conflicts_of(outcome);
    assert!(conflicts.iter().all(|conflict| conflict.kind == kind), "expected {kind:?}: {conflicts:?}");
    let mut keys: Vec<_> =
        conflicts.into_iter().map(|conflict| String::from_utf8(conflict.key).expect("a text key")).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// A chunk for tests of the core: rows of numbers, all of one schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers(pub Arc<[u64]>);

impl Chunk for Numbers {
    fn same_schema(&self, _: &Self) -> bool {
        true
    }

    fn rows(&self) -> u64 {
        self.0.len() as u64
    }

    fn bytes(&self) -> u64 {
        8 * self.rows()
    }
}

pub fn numbers(rows: &[u64]) -> Numbers {
    Numbers(rows.into())
}

pub fn flat(value: &Value<Numbers>) -> Vec<u64> {
    value.chunks().iter().flat_map(|chunk| chunk.0.to_vec()).collect()
}

/// The only row of a value.
pub fn only(value: &Value<Numbers>) -> u64 {
    let chunk = value.single().expect("one chunk");
    assert_eq!(chunk.0.len(), 1);
    chunk.0[0]
}
