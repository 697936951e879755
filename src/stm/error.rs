//! The one error type of the core.

use std::fmt;

use super::conflict::Conflict;
use super::outcome::Outcome;

/// Why a call of the core failed. Nothing is half-applied after any of them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Other transactions committed what this one could not be ordered with. Rerun the transaction.
    Conflict(Vec<Conflict>),
    /// An argument is out of its range; the text names it.
    InvalidArgument(String),
    /// The call does not fit the state of the object, for example a write in an ended transaction.
    InvalidState(&'static str),
    /// Rows of two schemas would have become one value.
    SchemaMismatch(String),
    /// A limit on bytes would have been passed. The transaction can go on.
    LimitExceeded(String),
    /// The deadline of a rerun transaction has passed.
    Timeout(String),
    /// The body of a rerun transaction gave up.
    Cancelled(String),
    /// Stored data could not be read or written; the text has the cause.
    Storage(String),
    /// Stored data are damaged; the text has the place.
    Corruption(String),
    /// The stored database is open already, here or in another process.
    Locked(String),
    /// The database cannot keep a prepared transaction over its end.
    NotDurable(String),
    /// The global id is another transaction's; the text says what has become of that.
    Duplicate(String),
    /// No prepared transaction has that global id, and none is remembered.
    UnknownId(String),
    /// Another call is deciding about the same prepared transaction. Call again.
    Busy(String),
    /// The prepared transaction was decided otherwise before.
    AlreadyDecided(Box<Outcome>),
    /// An operator has decided about the prepared transaction before.
    Heuristic(Box<Outcome>),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Conflict(conflicts) => match conflicts.split_first() {
                Some((first, [])) => write!(formatter, "conflict: {first}"),
                Some((first, others)) => write!(formatter, "conflict: {first}, and {} more", others.len()),
                None => formatter.write_str("conflict"),
            },
            Error::InvalidArgument(text)
            | Error::SchemaMismatch(text)
            | Error::LimitExceeded(text)
            | Error::Timeout(text)
            | Error::Cancelled(text)
            | Error::Storage(text)
            | Error::Corruption(text)
            | Error::Locked(text)
            | Error::NotDurable(text)
            | Error::Duplicate(text)
            | Error::UnknownId(text)
            | Error::Busy(text) => formatter.write_str(text),
            Error::InvalidState(text) => formatter.write_str(text),
            Error::AlreadyDecided(outcome) => {
                write!(formatter, "transaction {} is {} already", outcome.id, outcome.decision.participle())
            }
            Error::Heuristic(outcome) => {
                let done = outcome.decision.participle();
                write!(formatter, "transaction {} was {done} by a heuristic decision", outcome.id)
            }
        }
    }
}

impl std::error::Error for Error {}
