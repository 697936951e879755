//! What the notes of the log come to: which transactions are in doubt, where they stand, and what became of others.

use std::collections::HashMap;
use std::path::Path;

use arrow_schema::SchemaRef;

use super::file::File;
use super::format;
use super::frame::{self, Frame, Kind};
use super::note::Noted;
use super::segment;
use crate::stm::{Error, GlobalId, Outcome, RememberedOutcomes};

/// Where the frame of a prepared transaction is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) salt: u64,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    /// The schemas that its mutations name, in the order in which they name them.
    pub(super) schemas: Vec<SchemaRef>,
}

impl Place {
    /// Passes on the body of the frame.
    pub(super) fn read<T>(
        &self,
        folder: &Path,
        understand: impl FnOnce(&[u8]) -> Option<Result<T, Error>>,
    ) -> Result<T, Error> {
        let path = format::segment_path(folder, self.segment);
        let damaged = |what: &str| segment::corruption(&path, self.offset as usize, what);
        let mut data = vec![0; self.bytes as usize];
        File::open_read(&path)?.read_exact_at(&mut data, self.offset)?;
        let Some(Frame { kind: Kind::Prepared, body, .. }) = frame::read(&data, self.salt) else {
            return Err(damaged("the frame of a prepared transaction is damaged"));
        };
        let understood = understand(body).ok_or_else(|| damaged("a prepared transaction without sense"))?;
        understood.map_err(|cause| match cause {
            Error::Corruption(cause) => damaged(&cause),
            other => other,
        })
    }
}

/// What is known of prepared transactions.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    in_doubt: HashMap<GlobalId, Place>,
    outcomes: RememberedOutcomes,
}

impl Ledger {
    /// Takes a note; of a prepared transaction with its place.
    pub(super) fn take(&mut self, noted: &Noted, place: Option<Place>) {
        match noted {
            Noted::Prepared(id) => {
                self.outcomes.forget(id);
                self.in_doubt.extend(place.map(|place| (id.clone(), place)));
            }
            Noted::Decided(outcome) => {
                self.in_doubt.remove(&outcome.id);
                self.outcomes.remember(outcome.clone());
            }
            Noted::Forgotten(id) => self.outcomes.forget(id),
            Noted::Repeated(_, outcomes) => {
                self.outcomes = RememberedOutcomes::default();
                outcomes.iter().for_each(|outcome| self.outcomes.remember(outcome.clone()));
            }
        }
    }

    /// Those in doubt, in the order in which they stand in the log.
    pub(super) fn in_doubt(&self) -> Vec<&Place> {
        let mut places: Vec<_> = self.in_doubt.values().collect();
        places.sort_unstable_by_key(|place| (place.segment, place.offset));
        places
    }

    /// The first in doubt, if it stands in a segment up to this one.
    pub(super) fn first_up_to(&self, segment: u64) -> Option<&Place> {
        let covered = self.in_doubt.values().filter(|place| place.segment <= segment);
        covered.min_by_key(|place| (place.segment, place.offset))
    }

    /// The outcomes that are remembered, the oldest first.
    pub(super) fn outcomes(&self) -> Vec<Outcome> {
        self.outcomes.iter().cloned().collect()
    }
}
