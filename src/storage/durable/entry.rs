//! What is appended to the log at once: a commit, or a note on a prepared transaction.

use super::commit::{self, Prepared};
use super::frame::Kind;
use super::note::{self, Noted};
use crate::stm::{Decided, Note, Outcome};
use crate::storage::Commit;

/// A frame to be, as far as it is known before its place is.
pub(super) struct Entry<'a> {
    pub(super) kind: Kind,
    /// The beginning of the body.
    pub(super) head: Vec<u8>,
    pub(super) mutations: Option<Mutations<'a>>,
    /// What it says of prepared transactions.
    pub(super) noted: Option<Noted>,
}

/// What a commit does, or will do.
pub(super) struct Mutations<'a> {
    /// 0 for a transaction that is prepared.
    version: u64,
    pub(super) prepared: &'a Prepared,
}

impl Mutations<'_> {
    /// What stands before them, with the numbers of the schemas in the segment.
    pub(super) fn head(&self, schemas: &[u32]) -> Vec<u8> {
        commit::head(self.version, schemas)
    }
}

impl<'a> Entry<'a> {
    pub(super) fn commit(commit: &Commit<'a, Prepared>) -> Entry<'a> {
        let mutations = Some(Mutations { version: commit.version, prepared: commit.prepared });
        match &commit.decides {
            None => Entry { kind: Kind::Commit, head: Vec::new(), mutations, noted: None },
            Some(decided) => {
                let outcome = outcome(decided, commit.version);
                let head = note::decided(&outcome);
                Entry { kind: Kind::DecidingCommit, head, mutations, noted: Some(Noted::Decided(outcome)) }
            }
        }
    }

    pub(super) fn note(note: &Note<'a, Prepared>) -> Entry<'a> {
        match note {
            Note::Prepared { id, time_micros, mutations, held } => {
                let head = note::prepared(id, *time_micros, held);
                Entry::prepared(Noted::Prepared((*id).clone()), head, mutations)
            }
            Note::Decided(decided) => {
                let outcome = outcome(decided, 0);
                let head = note::decided(&outcome);
                Entry { kind: Kind::Decided, head, mutations: None, noted: Some(Noted::Decided(outcome)) }
            }
            Note::Forgotten { id } => {
                let noted = Some(Noted::Forgotten((*id).clone()));
                Entry { kind: Kind::Forgotten, head: note::forgotten(id), mutations: None, noted }
            }
        }
    }

    /// A transaction that is prepared, or was before.
    pub(super) fn prepared(noted: Noted, head: Vec<u8>, prepared: &'a Prepared) -> Entry<'a> {
        let mutations = Some(Mutations { version: 0, prepared });
        Entry { kind: Kind::Prepared, head, mutations, noted: Some(noted) }
    }

    /// What is behind all notes that had to be repeated.
    pub(super) fn repeated(needless: u64, outcomes: Vec<Outcome>) -> Entry<'a> {
        let head = note::repeated(needless, &outcomes);
        Entry { kind: Kind::Repeated, head, mutations: None, noted: Some(Noted::Repeated(needless, outcomes)) }
    }

    /// The version, if it is a commit.
    pub(super) fn version(&self) -> Option<u64> {
        self.mutations.as_ref().map(|mutations| mutations.version).filter(|&version| version > 0)
    }
}

fn outcome(decided: &Decided<'_>, version: u64) -> Outcome {
    let &Decided { id, decision, heuristic, time_micros } = decided;
    Outcome { id: id.clone(), decision, heuristic, time_micros, version }
}
