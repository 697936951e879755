//! What a database and a transaction can be told.

use std::time::Duration;

use super::conflict::ConflictResolution;

/// What a transaction sees of others, and what it is protected from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IsolationLevel {
    /// Each call sees the newest commit, whole, and never an older one than the call before.
    /// Prevents G0, G1a, G1b, G1c and OTV.
    ReadCommitted,
    /// All calls see the one snapshot taken at begin (snapshot isolation). Prevents PMP, P4 and G-single, too.
    RepeatableRead,
    /// One snapshot, certified at commit; the order of transactions respects real time. Prevents all anomalies.
    #[default]
    Serializable,
}

/// What a commit has survived when it returns. A database in memory has none to offer.
///
/// Whatever is asked for, what a crash leaves is what some first commits came to: none is missing before one that is
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Durability {
    /// Nothing yet: it is on its way.
    None,
    /// The end of the process: the operating system has it.
    Buffered,
    /// The loss of power: it is on the disk.
    #[default]
    Synced,
}

/// How a database is opened.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Isolation of transactions that do not choose their own.
    pub isolation: IsolationLevel,
    /// Resolution of write-write conflicts for transactions that do not choose their own.
    pub conflict_resolution: ConflictResolution,
    /// Durability of transactions that do not choose their own, where the database is stored.
    pub durability: Durability,
    /// Most bytes that one transaction may have staged; `None`: no limit.
    pub max_transaction_bytes: Option<u64>,
    /// Most bytes that all versions together may hold before staging fails; `None`: no limit.
    pub max_total_bytes: Option<u64>,
}

/// How a transaction is begun, and how often it is rerun by
/// [`transact`](super::TransactionManager::transact).
#[derive(Debug, Clone)]
pub struct TransactionOptions {
    /// Isolation; `None`: the database's.
    pub isolation: Option<IsolationLevel>,
    /// Resolution of write-write conflicts; `None`: the database's.
    pub conflict_resolution: Option<ConflictResolution>,
    /// Durability; `None`: the database's.
    pub durability: Option<Durability>,
    /// Whether writes are refused. A read-only transaction never fails to commit and costs writers nothing.
    pub read_only: bool,
    /// Most bytes that it may have staged; `None`: the database's limit.
    pub max_bytes: Option<u64>,
    /// Most attempts of a rerun transaction; `None`: no limit.
    pub max_attempts: Option<u32>,
    /// Time after which a rerun transaction is not tried again; `None`: no limit.
    pub timeout: Option<Duration>,
    /// The first wait between two attempts, at most; it doubles with each conflict.
    pub backoff_initial: Duration,
    /// The longest wait between two attempts.
    pub backoff_maximum: Duration,
}

impl TransactionOptions {
    pub(crate) const DEFAULT: TransactionOptions = TransactionOptions {
        isolation: None,
        conflict_resolution: None,
        durability: None,
        read_only: false,
        max_bytes: None,
        max_attempts: None,
        timeout: None,
        backoff_initial: Duration::from_micros(10),
        backoff_maximum: Duration::from_millis(10),
    };
}

impl Default for TransactionOptions {
    fn default() -> Self {
        TransactionOptions::DEFAULT
    }
}

/// The direction of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// From the lowest key up.
    #[default]
    Forward,
    /// From the highest key down.
    Reverse,
}
