//! How far the two-phase commit of a transaction has come: one word, which all who have to do with it agree by.

use std::ptr;

use crossbeam_epoch::Guard;

use super::descriptor::Descriptor;
use crate::stm::outcome::Decision;
use crate::stm::sync::{AtomicPtr, Ordering};

/// See [`Standing`]. Small numbers are states, others the address of the descriptor of an attempt to commit.
pub(crate) struct DecisionWord<C>(AtomicPtr<Descriptor<C>>);

/// Where a transaction of two-phase commit stands.
pub(crate) enum Standing<'g, C> {
    /// It holds its keys and is validated. Anyone may refuse it.
    Preparing,
    /// It is validated, and on its way to the log.
    Logging,
    /// It is in doubt.
    Prepared,
    /// Somebody commits it. It is in doubt as long as the attempt is undecided or has failed, and committed with it.
    Committing { attempt: &'g Descriptor<C>, heuristic: bool },
    /// It is to be rolled back, and the note of that on its way to the log. It is in doubt.
    RollingBack { heuristic: bool },
    /// It has never been prepared, and never will be.
    Refused,
    /// It is decided.
    Decided { decision: Decision, heuristic: bool },
}

impl<C> Clone for Standing<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Standing<'_, C> {}

const PREPARING: usize = 0;
const LOGGING: usize = 1;
const PREPARED: usize = 2;
const REFUSED: usize = 3;
/// With [`HEURISTIC`] or without.
const ROLLING_BACK: usize = 4;
const COMMITTED: usize = 6;
const ROLLED_BACK: usize = 8;
/// No address is lower: descriptors are aligned, and nothing lives in the first page.
const STATES: usize = 16;

/// Beside a state or an address.
const HEURISTIC: usize = 1;

const _: () = assert!(align_of::<Descriptor<u64>>() > HEURISTIC);

impl<C> DecisionWord<C> {
    pub fn new(standing: Standing<'_, C>) -> Self {
        DecisionWord(AtomicPtr::new(encode(standing)))
    }

    pub fn standing<'g>(&self, _guard: &'g Guard) -> Standing<'g, C> {
        // Acquire: pairs with the release half of `advance`.
        let word = self.0.load(Ordering::Acquire);
        let heuristic = word.addr() & HEURISTIC != 0;
        match word.addr() {
            PREPARING => Standing::Preparing,
            LOGGING => Standing::Logging,
            PREPARED => Standing::Prepared,
            REFUSED => Standing::Refused,
            state if state < STATES => match state & !HEURISTIC {
                ROLLING_BACK => Standing::RollingBack { heuristic },
                COMMITTED => Standing::Decided { decision: Decision::Commit, heuristic },
                _ => Standing::Decided { decision: Decision::Rollback, heuristic },
            },
            _ => {
                let attempt = word.map_addr(|address| address & !HEURISTIC);
                // SAFETY: invariant 5: the word led to the descriptor under this guard, so it is retired later at the
                // earliest.
                Standing::Committing { attempt: unsafe { &*attempt }, heuristic }
            }
        }
    }

    /// Moves it on, unless somebody else has moved it meanwhile. `from` must have been read under a guard that still
    /// lives.
    pub fn advance(&self, from: Standing<'_, C>, to: Standing<'_, C>) -> bool {
        // AcqRel: release publishes what was done before, for `standing`; acquire, as what `from` leads to may be
        // retired next.
        self.0.compare_exchange(encode(from), encode(to), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

fn encode<C>(standing: Standing<'_, C>) -> *mut Descriptor<C> {
    let state = match standing {
        Standing::Preparing => PREPARING,
        Standing::Logging => LOGGING,
        Standing::Prepared => PREPARED,
        Standing::Refused => REFUSED,
        Standing::Committing { attempt, heuristic } => {
            return ptr::from_ref(attempt).cast_mut().map_addr(|address| address | usize::from(heuristic));
        }
        Standing::RollingBack { heuristic } => ROLLING_BACK | usize::from(heuristic),
        Standing::Decided { decision: Decision::Commit, heuristic } => COMMITTED | usize::from(heuristic),
        Standing::Decided { decision: Decision::Rollback, heuristic } => ROLLED_BACK | usize::from(heuristic),
    };
    ptr::without_provenance_mut(state)
}
