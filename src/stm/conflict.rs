//! Conflicts as data, and what to do about those between two writes.

use std::fmt;

use super::global_id::GlobalId;
use super::key::KeyRange;

/// What happens to a write of a key that another transaction has committed meanwhile.
///
/// It can be set for a database, a transaction and a single write; the closest holds. A serializable transaction
/// that has *read* the key fails under every setting, because anything else would lose an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConflictResolution {
    /// The transaction aborts and nothing of it is applied.
    #[default]
    Fail,
    /// The write is dropped, the committed value stays, the rest of the transaction commits.
    Ignore,
    /// The write becomes the newest version all the same.
    Replace,
    /// The rows go after the rows of the newest committed value. A delete fails.
    Append,
}

/// The kinds of conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConflictKind {
    /// A key that the transaction writes was committed by another one since it last read it, or, unread, since it
    /// began.
    WriteWrite,
    /// A key that the transaction read was overwritten.
    ReadWrite,
    /// A range that it scanned, or a key that it found absent, has changed.
    Phantom,
    /// The key is held: by an in-doubt transaction of two-phase commit, or reserved for a starving one.
    Prepared,
}

/// One reason why a transaction could not commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// What kind of conflict it is.
    pub kind: ConflictKind,
    /// The key that the other transaction committed.
    pub key: Vec<u8>,
    /// The scanned range that the key lies in, for phantoms of scans.
    pub range: Option<KeyRange>,
    /// The commit version of the other transaction; 0 where it has none yet.
    pub version: u64,
    /// The global id of the other transaction, where it is one in doubt that holds the key.
    pub holder: Option<GlobalId>,
}

impl fmt::Display for Conflict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            ConflictKind::WriteWrite => "another transaction wrote key",
            ConflictKind::ReadWrite => "another transaction overwrote what was read under key",
            ConflictKind::Phantom => "another transaction changed what was absent or scanned at key",
            ConflictKind::Prepared => "another transaction holds key",
        };
        write!(formatter, "{what} \"{}\"", self.key.escape_ascii())?;
        match &self.holder {
            Some(holder) => write!(formatter, " (in doubt: {holder})"),
            None => write!(formatter, " (version {})", self.version),
        }
    }
}
