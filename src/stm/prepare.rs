//! The first phase of a two-phase commit, by the owner of the transaction.
//!
//! 1. *Claim* the global id.
//! 2. *Enter* all keys that it writes, all that it has read, and all ranges that it has scanned among what is held.
//! 3. *Validate.* Everybody else who has not found them yet is met at the head of a chain: who installs is given some
//!    patience and aborted, who is further is helped to the decision. So whatever is not committed by now will find what
//!    is held. Then everything that was read must be *current*: nothing stale is let through here, as others may come to
//!    depend on what is committed until the decision. Conflicts of writes with writes are resolved, once and for all.
//! 4. *Hold.* One step of the word makes it binding. Before, anyone may refuse the transaction: one that stops while it
//!    validates stops nobody.
//! 5. *Log*, in a database that is stored; then it is in doubt.
//!
//! Two that are being prepared and exclude each other may both be refused; one of them is in any case, and mostly the
//! younger.

use std::sync::Arc;

use super::commit::{Committer, PlannedWrite};
use super::conflict::{Conflict, ConflictKind, ConflictResolution};
use super::dependency_tracker::{Footprint, PointRead};
use super::error::Error;
use super::global_id::GlobalId;
use super::group_commit::OwnedNote;
use super::holds::Access;
use super::key::KeyBytes;
use super::memory::{Head, Phase, Record, Standing, State, Version};
use super::options::{Direction, Durability};
use super::prepared::{PreparedTransaction, Staged, StagedWrite};
use super::sync::{self, spin_loop};
use super::value::Chunk;
use super::working_set::Operation;

/// What a participant says to the coordinator; "no" is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vote {
    /// The transaction is prepared: it will commit if it is told to.
    Yes,
    /// It has written nothing, has ended, and is not to be decided.
    ReadOnly,
}

/// How a transaction is prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrepareOptions {
    /// Whether a database that cannot keep a prepared transaction over its end may vote yes.
    pub allow_volatile: bool,
    /// Whether a serializable transaction that wrote nothing votes yes and holds what it has read, too. What one that
    /// was begun as read-only reads is not noted: it votes that it has only read.
    pub hold_reads: bool,
}

/// Looks at a transaction that is being validated, before it is refused: many times what a short one takes.
const PATIENCE: u32 = if sync::MODELLED { 1 } else { 1024 };

/// Who looks whether something is held.
#[derive(Clone, Copy)]
enum Seeker {
    Committer,
    /// With its number: the older one is the first to lose its patience.
    Preparer(u64),
    /// One that votes without a hold of its own. Whoever is being validated still votes later than it.
    Reader,
}

impl Seeker {
    fn number(self) -> u64 {
        match self {
            Seeker::Committer | Seeker::Reader => 0,
            Seeker::Preparer(number) => number,
        }
    }
}

/// What a write has come to.
enum Resolved<C> {
    Write(Operation<C>),
    /// The committed version stays.
    Ignored,
    Conflict(Conflict),
}

/// How far a preparation has come, and so what is to be undone when it fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Claimed,
    Entered,
    Staged,
    Done,
}

struct Preparation<'a, 'g, C: Chunk> {
    committer: &'a Committer<'g, C>,
    transaction: Arc<PreparedTransaction<C>>,
    written: Vec<(u64, KeyBytes)>,
    footprint: Option<Footprint<C>>,
    progress: Progress,
}

impl<C: Chunk> Drop for Preparation<'_, '_, C> {
    fn drop(&mut self) {
        let Committer { guard, .. } = self.committer;
        let prepared = &self.committer.database().prepared;
        if self.progress == Progress::Done {
            return;
        }
        for from in [Standing::Preparing, Standing::Logging] {
            self.transaction.advance(from, Standing::Refused);
        }
        fail_point!(PreparationRefused);
        if self.progress == Progress::Entered {
            prepared.leave(self.transaction.number, self.keys(), self.footprint.as_ref(), guard);
            prepared.holds.left();
        }
        prepared.give_up(&self.transaction, guard);
    }
}

impl<C: Chunk> Preparation<'_, '_, C> {
    fn keys(&self) -> impl Iterator<Item = (u64, &KeyBytes)> {
        self.written.iter().map(|(hash, key)| (*hash, key))
    }
}

impl<'g, C: Chunk> Committer<'g, C> {
    /// Prepares a transaction.
    ///
    /// # Errors
    /// Its vote is no then, and nothing of it is left.
    pub fn prepare(
        &self,
        id: &GlobalId,
        options: PrepareOptions,
        writes: &[PlannedWrite<'_, C>],
        footprint: Option<Footprint<C>>,
    ) -> Result<Vote, Error> {
        let group_commit = self.database().group_commit.as_ref();
        let is_logged = group_commit.is_some_and(|group_commit| group_commit.log().keeps_prepared());
        if !is_logged && !options.allow_volatile {
            return Err(Error::NotDurable(
                "prepare: the database cannot keep a prepared transaction over its end".to_owned(),
            ));
        }
        let prepared = &self.database().prepared;
        let mut preparation = Preparation {
            committer: self,
            transaction: prepared.claim(id, is_logged, self.guard)?,
            written: writes.iter().map(|write| (write.hash, KeyBytes::new(write.key))).collect(),
            footprint,
            progress: Progress::Claimed,
        };
        prepared.enter(&preparation.transaction, preparation.keys(), preparation.footprint.as_ref(), self.guard);
        preparation.progress = Progress::Entered;

        self.check_others(&preparation)?;
        let resolved = self.validate(&preparation, writes)?;
        fail_point!(PreparationValidated);
        let mut staged = Vec::with_capacity(writes.len());
        for (write, operation) in writes.iter().zip(resolved) {
            let key = KeyBytes::new(write.key);
            match operation {
                Some(operation) => staged.push(StagedWrite { key, hash: write.hash, operation }),
                None => prepared.holds.leave_key(preparation.transaction.number, write.hash, &key, self.guard),
            }
        }
        preparation.written = staged.iter().map(|write| (write.hash, write.key.clone())).collect();
        if staged.is_empty() && (!options.hold_reads || preparation.footprint.is_none()) {
            // Everything was ignored.
            self.commit_at_snapshot(preparation.footprint.as_ref())?;
            return Ok(Vote::ReadOnly);
        }
        let logged = match group_commit {
            Some(group_commit) => {
                let mutations: Vec<_> = staged.iter().map(StagedWrite::mutation).collect();
                Some(group_commit.log().prepare(&mutations)?)
            }
            None => None,
        };
        let transaction = Arc::clone(&preparation.transaction);
        let footprint = preparation.footprint.take().map(|footprint| Arc::new(footprint.without_records()));
        let staged = Staged { transaction: Arc::clone(&transaction), writes: staged, footprint, logged };
        let staged = prepared.stage(staged, self.guard);
        preparation.progress = Progress::Staged;
        let binding = if is_logged { Standing::Logging } else { Standing::Prepared };
        if !transaction.advance(Standing::Preparing, binding) {
            return Err(refused(&staged));
        }
        fail_point!(PreparationHolds);
        if let (true, Some(group_commit), Some(mutations)) = (is_logged, group_commit, &staged.logged) {
            let note = OwnedNote::Prepared {
                id: id.clone(),
                time_micros: transaction.time_micros,
                mutations: Arc::clone(mutations),
                held: staged.held(),
            };
            group_commit.note(note, Durability::Synced, &self.tracker())?;
            transaction.advance(Standing::Logging, Standing::Prepared);
        }
        preparation.progress = Progress::Done;
        fail_point!(PreparationOver);
        Ok(Vote::Yes)
    }

    /// Lets a transaction that has written nothing vote so: what it has read must be current, and nobody in doubt may be
    /// going to overwrite it.
    pub fn vote_read_only(&self, footprint: &Footprint<C>) -> Result<(), Error> {
        let holds = &self.database().prepared.holds;
        if holds.any() {
            self.check_footprint(Seeker::Reader, footprint)?;
        }
        self.check_current(footprint)?;
        self.commit_at_snapshot(Some(footprint)).map(drop)
    }

    /// Looks for others that hold what excludes this one.
    fn check_others(&self, preparation: &Preparation<'_, '_, C>) -> Result<(), Error> {
        let own = Seeker::Preparer(preparation.transaction.number);
        for (hash, key) in preparation.keys() {
            self.check_key(own, hash, key.as_slice(), Access::Write)?;
        }
        preparation.footprint.as_ref().map_or(Ok(()), |footprint| self.check_footprint(own, footprint))
    }

    fn check_footprint(&self, own: Seeker, footprint: &Footprint<C>) -> Result<(), Error> {
        for read in &footprint.reads {
            self.check_key(own, read.hash, read.key.as_slice(), Access::Read)?;
        }
        let holds = &self.database().prepared.holds;
        for range in &*footprint.ranges {
            if let Some((key, holder)) =
                holds.writer_in(own.number(), range, self.guard, |holder| self.binds(holder, own))
            {
                return Err(Error::Conflict(vec![held(&key, &holder)]));
            }
        }
        Ok(())
    }

    fn check_key(&self, own: Seeker, hash: u64, key: &[u8], access: Access) -> Result<(), Error> {
        let holds = &self.database().prepared.holds;
        match holds.holder(own.number(), hash, key, access, self.guard, |holder| self.binds(holder, own)) {
            Some(holder) => Err(Error::Conflict(vec![held(key, &holder)])),
            None => Ok(()),
        }
    }

    /// Whether none of the keys that a transaction is about to write is held by others, where any may be.
    ///
    /// # Errors
    /// The conflicts with their holders.
    #[cold]
    pub fn check_held(&self, keys: &mut dyn Iterator<Item = (u64, &[u8])>) -> Result<(), Error> {
        fail_point!(HoldsMet);
        for (hash, key) in keys {
            self.check_key(Seeker::Committer, hash, key, Access::Write)?;
        }
        Ok(())
    }

    /// Whether a transaction that was met among what is held still holds anything. One that is being validated is given
    /// some time, and refused then.
    fn binds(&self, holder: &PreparedTransaction<C>, seeker: Seeker) -> bool {
        let mut patience = if holder.number < seeker.number() { 4 * PATIENCE } else { PATIENCE };
        loop {
            match holder.standing(self.guard) {
                Standing::Preparing if matches!(seeker, Seeker::Reader) => return false,
                Standing::Preparing if patience > 0 => {
                    patience -= 1;
                    spin_loop();
                }
                Standing::Preparing => {
                    fail_point!(BeforeRefusingOther);
                    if holder.advance(Standing::Preparing, Standing::Refused) {
                        fail_point!(OtherRefused);
                        return false;
                    }
                }
                Standing::Logging | Standing::Prepared | Standing::RollingBack { .. } => return true,
                Standing::Refused | Standing::Decided { .. } => return false,
                Standing::Committing { attempt, .. } => match attempt.phase() {
                    Phase::Ready | Phase::Stamped(_) => self.contend(attempt, 0),
                    // On its way to the log it may fail, and is in doubt again then.
                    Phase::Installing | Phase::Certified(_) | Phase::Aborted => return true,
                    Phase::Committed(_) => return false,
                },
            }
        }
    }

    /// Makes sure that everything that was read is the newest, and resolves the writes. `None` for those that are
    /// ignored.
    fn validate(
        &self,
        preparation: &Preparation<'_, '_, C>,
        writes: &[PlannedWrite<'_, C>],
    ) -> Result<Vec<Option<Operation<C>>>, Error> {
        let mut resolved = Vec::with_capacity(writes.len());
        let mut conflicts = Vec::new();
        for write in writes {
            match self.resolve(write)? {
                Resolved::Write(operation) => resolved.push(Some(operation)),
                Resolved::Ignored => resolved.push(None),
                Resolved::Conflict(conflict) => conflicts.push(conflict),
            }
        }
        if !conflicts.is_empty() {
            return Err(self.await_conflicts(Error::Conflict(conflicts)));
        }
        if let Some(footprint) = &preparation.footprint {
            for read in &footprint.reads {
                self.newest_of(read.hash, read.key.as_slice());
            }
            for range in &*footprint.ranges {
                self.database().buffer.walk(range.as_bounds(), Direction::Forward, self.guard, |record| {
                    self.settle_head(record);
                    std::ops::ControlFlow::Continue(())
                });
            }
            self.check_current(footprint)?;
        }
        Ok(resolved)
    }

    fn check_current(&self, footprint: &Footprint<C>) -> Result<(), Error> {
        match self.tracker().overwritten_since(footprint, self.snapshot) {
            conflicts if conflicts.is_empty() => Ok(()),
            conflicts => Err(self.await_conflicts(Error::Conflict(conflicts))),
        }
    }

    /// What becomes of a write on top of what is newest now, which stays it.
    fn resolve(&self, write: &PlannedWrite<'_, C>) -> Result<Resolved<C>, Error> {
        let newest = self.newest_of(write.hash, write.key);
        let base = newest.and_then(|(version, _)| version.value());
        let conflict = newest.and_then(|(_, number)| write.conflict_with(number));
        let fits = |rows| base.map_or(Ok(()), |base| base.check_appended(rows));
        Ok(Resolved::Write(match (write.operation, conflict) {
            (Operation::Append(rows), None) => {
                fits(rows)?;
                Operation::Append(rows.clone())
            }
            (operation, None) => operation.clone(),
            (operation, Some(conflict)) => match (write.resolution, operation) {
                (Some(ConflictResolution::Ignore), _) => return Ok(Resolved::Ignored),
                (Some(ConflictResolution::Replace), Operation::Put(_) | Operation::Delete) => operation.clone(),
                (Some(ConflictResolution::Append), Operation::Put(rows)) => {
                    fits(rows)?;
                    Operation::Append(rows.clone())
                }
                _ => return Ok(Resolved::Conflict(conflict)),
            },
        }))
    }

    /// The newest version of a key, committed and visible, when nobody is about to put one on top of it that has not
    /// found what is held.
    fn newest_of(&self, hash: u64, key: &[u8]) -> Option<(&'g Version<C>, u64)> {
        let buffer = &self.database().buffer;
        loop {
            let record = buffer.find(hash, key, self.guard)?;
            fail_point!(PreparationLooksAt);
            match self.settle_head(record) {
                Some(newest) => return newest,
                None => buffer.remove(record, self.guard),
            }
        }
    }

    /// Brings whoever installs at the head of a chain to an end. Gives what stands then; `None`: the record is dead.
    fn settle_head(&self, record: &'g Record<C>) -> Option<Option<(&'g Version<C>, u64)>> {
        loop {
            match record.head(self.guard) {
                Head::Empty => return Some(None),
                Head::Sealed => return None,
                Head::Version(version) => match version.state(self.guard) {
                    State::Undecided(other) => self.contend(other, 0),
                    State::Certified(number) => self.await_visible(number),
                    State::Committed(_) | State::Aborted => match version.standing(self.guard) {
                        Some((below, number)) => match below.state(self.guard) {
                            State::Certified(_) => self.await_visible(number),
                            _ => return Some(Some((below, number))),
                        },
                        None => return Some(None),
                    },
                },
            }
        }
    }
}

/// The conflict with a transaction that holds a key.
fn held<C>(key: &[u8], holder: &PreparedTransaction<C>) -> Conflict {
    let holder = Some(holder.id.clone());
    Conflict { kind: ConflictKind::Prepared, key: key.to_vec(), range: None, version: 0, holder }
}

/// What a transaction fails with that somebody has refused while it was validated.
fn refused<C>(staged: &Staged<C>) -> Error {
    let written = staged.writes.first().map(|write| (ConflictKind::WriteWrite, write.key.as_slice()));
    let read = staged.footprint.as_ref().and_then(|footprint| footprint.reads.first());
    let place = written.or(read.map(|read| (ConflictKind::ReadWrite, read.key.as_slice())));
    let conflict = place.map(|(kind, key)| Conflict { kind, key: key.to_vec(), range: None, version: 0, holder: None });
    Error::Conflict(conflict.into_iter().collect())
}

impl<C: Chunk> Footprint<C> {
    /// The same, to be kept for long: the records are looked up again when it is used.
    pub fn without_records(self) -> Self {
        let reads = self.reads.into_iter().map(|read| PointRead { record: None, ..read });
        Footprint { reads: reads.collect(), ranges: self.ranges }
    }
}
