//! Taking part in transactions that span several databases.
//!
//! A coordinator asks each participant to *prepare* its part of a transaction under one global id, and when all have
//! voted yes, tells each to *commit* it; if one has voted no, to *roll back*. Between its vote and the decision a
//! participant is *in doubt*: it can do either, and decides on nothing. `docs/two-phase-commit.md` has the states, what is
//! promised, and what to do with a transaction that stays in doubt.

mod instance;

use crate::stm::{Decision, Error, GlobalId};

pub use crate::stm::{PrepareOptions, PreparedInfo as PreparedTransaction, Vote};

/// Somebody who takes part in transactions of several. All calls may be repeated: one that finds done what it asks for
/// says so.
///
/// A participant remembers how the transactions ended that it has prepared: the last
/// [`REMEMBERED_OUTCOMES`](crate::stm::REMEMBERED_OUTCOMES), and those that were decided heuristically, until they are
/// forgotten.
pub trait TwoPhaseCommitParticipant {
    /// A running transaction of the participant.
    type Transaction;

    /// Ends a transaction, and keeps it so that it can be committed and rolled back, whatever else happens. It holds what
    /// it has read and is going to write until it is decided: others read what was there before, and fail with a conflict
    /// when they write there.
    ///
    /// # Errors
    /// The vote is no then, and nothing of the transaction is left.
    fn prepare(
        &self,
        transaction: &mut Self::Transaction,
        id: &GlobalId,
        options: PrepareOptions,
    ) -> Result<Vote, Error>;

    /// Commits a prepared transaction. Gives the version.
    ///
    /// # Errors
    /// [`Error::UnknownId`] for one that is neither in doubt nor remembered, [`Error::AlreadyDecided`] for one that was
    /// rolled back, [`Error::Heuristic`] for one about which an operator has decided, be it the same,
    /// [`Error::Busy`] while another call rolls it back; [`Error::Storage`] when it cannot be stored: it is in doubt still.
    /// There is no conflict.
    fn commit(&self, id: &GlobalId) -> Result<u64, Error>;

    /// Rolls a prepared transaction back.
    ///
    /// # Errors
    /// Those of [`commit`](TwoPhaseCommitParticipant::commit), [`Error::AlreadyDecided`] for one that was committed.
    fn rollback(&self, id: &GlobalId) -> Result<(), Error>;

    /// The transactions in doubt, the oldest first, and then those that were decided heuristically and not forgotten.
    ///
    /// # Errors
    /// Of participants that have to ask somebody.
    fn recover(&self) -> Result<Vec<PreparedTransaction>, Error>;

    /// Forgets how a transaction ended; its id may be used again. Without effect on one that is not known.
    ///
    /// # Errors
    /// [`Error::InvalidState`] for one in doubt; [`Error::Busy`] while another call forgets it; [`Error::Storage`] when
    /// that cannot be stored.
    fn forget(&self, id: &GlobalId) -> Result<(), Error>;

    /// Decides in the place of the coordinator, who is told when it asks. The others of the transaction may decide
    /// otherwise: this is for when what is held is needed more than that all agree.
    ///
    /// # Errors
    /// Those of [`commit`](TwoPhaseCommitParticipant::commit); [`Error::AlreadyDecided`] for each that the coordinator has
    /// decided about, and [`Error::Heuristic`] for one about which an operator has decided otherwise.
    fn decide_heuristically(&self, id: &GlobalId, decision: Decision) -> Result<(), Error>;
}
