//! How prepared transactions ended, and for how long that is remembered.

use std::collections::{BTreeMap, HashMap};

use super::global_id::GlobalId;
use super::sync;

/// What becomes of a prepared transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Its writes become visible.
    Commit,
    /// Its writes are dropped.
    Rollback,
}

impl Decision {
    /// What has been done.
    pub(crate) fn participle(self) -> &'static str {
        match self {
            Decision::Commit => "committed",
            Decision::Rollback => "rolled back",
        }
    }
}

/// How a prepared transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which one.
    pub id: GlobalId,
    /// What became of it.
    pub decision: Decision,
    /// Whether an operator decided, and not the coordinator.
    pub heuristic: bool,
    /// When that was, in microseconds since 1970 UTC.
    pub time_micros: i64,
    /// The version by which it was committed; 0 where it was rolled back.
    pub version: u64,
}

/// Outcomes of which the coordinator knows are remembered until so many newer ones have come, or they are forgotten.
/// Heuristic ones are remembered until they are forgotten.
pub const REMEMBERED_OUTCOMES: usize = if sync::MODELLED { 2 } else { 4096 };

/// The outcomes that are remembered, by that rule. For storages, which have to keep the same ones.
#[derive(Debug, Clone, Default)]
pub struct RememberedOutcomes {
    /// In the order in which they came.
    outcomes: BTreeMap<u64, Outcome>,
    numbers: HashMap<GlobalId, u64>,
    /// Numbers of those that are no heuristic ones, to find the oldest.
    bounded: std::collections::BTreeSet<u64>,
    next: u64,
}

impl RememberedOutcomes {
    /// Takes up an outcome in the place of an earlier one of the same id, and drops the oldest beyond the bound.
    pub fn remember(&mut self, outcome: Outcome) {
        self.forget(&outcome.id);
        let number = self.next;
        self.next += 1;
        self.numbers.insert(outcome.id.clone(), number);
        if !outcome.heuristic {
            self.bounded.insert(number);
        }
        self.outcomes.insert(number, outcome);
        if self.bounded.len() > REMEMBERED_OUTCOMES
            && let Some(oldest) = self.bounded.pop_first()
            && let Some(outcome) = self.outcomes.remove(&oldest)
        {
            self.numbers.remove(&outcome.id);
        }
    }

    /// Drops the outcome of an id, if there is one.
    pub fn forget(&mut self, id: &GlobalId) {
        if let Some(number) = self.numbers.remove(id) {
            self.outcomes.remove(&number);
            self.bounded.remove(&number);
        }
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(number: usize, heuristic: bool) -> Outcome {
        let id = GlobalId::new(&number.to_be_bytes()).expect("it is no longer than it may be");
        Outcome { id, decision: Decision::Commit, heuristic, time_micros: 0, version: number as u64 }
    }

    #[test]
    fn the_oldest_goes_first_and_heuristic_ones_stay() {
        let mut remembered = RememberedOutcomes::default();
        for number in 0..2 * REMEMBERED_OUTCOMES {
            remembered.remember(outcome(number, number == 1));
        }
        let versions: Vec<u64> = remembered.iter().map(|outcome| outcome.version).collect();
        assert_eq!(versions.len(), REMEMBERED_OUTCOMES + 1);
        assert_eq!(versions[..2], [1, REMEMBERED_OUTCOMES as u64]);
        remembered.forget(&outcome(1, true).id);
        remembered.forget(&outcome(1, true).id);
        // One that comes again is new.
        remembered.remember(outcome(REMEMBERED_OUTCOMES, false));
        let versions: Vec<u64> = remembered.iter().map(|outcome| outcome.version).collect();
        assert_eq!((versions.len(), versions.last()), (REMEMBERED_OUTCOMES, Some(&(REMEMBERED_OUTCOMES as u64))));
        assert!(versions[0] == REMEMBERED_OUTCOMES as u64 + 1);
    }
}
