//! The commit of a transaction, by its owner.
//!
//! 0. Nothing of it may be *held* by a prepared transaction: that is looked up first, so that nothing is installed in
//!    vain, and again after the install, which is the look that counts. See [`super::holds`].
//! 1. *Install.* A pending version goes on top of the chain of each written key. What is beneath is then the newest
//!    committed one and stays it, as nobody else can install above an undecided version; so write-write conflicts are
//!    found, and resolved, here. A transaction met in its own installation is given some patience and then aborted,
//!    which makes its owner start over with more patience; one met later is helped to its decision.
//! 2. *Ready, stamp, certify, decide.* See [`super::dependency_tracker`]. Everyone who is in need of the outcome does
//!    it.
//! 3. *Log*, in a database that is stored: see [`super::group_commit`]. What goes there was encoded before the first
//!    step.
//! 4. *Finish.* The owner puts the stamp into its versions, or unlinks them: see [`super::memory::Installation`].

use std::sync::Arc;

use crossbeam_epoch::Guard;

use super::commit_log::{Change, Mutation, Prepared};
use super::conflict::{Conflict, ConflictKind, ConflictResolution};
use super::database::{Database, DatabasePool};
use super::decide::OnBehalf;
use super::dependency_tracker::{DependencyTracker, Footprint};
use super::error::Error;
use super::evictable::VersionValue;
use super::group_commit::GroupCommit;
use super::memory::{
    Descriptor, Head, Installation, Owner, Participant, Phase, Presence, Record, RecordRef, State, Version,
};
use super::options::Durability;
use super::prepared::{Staged, StagedWrite};
use super::sync::{self, spin_loop};
use super::value::{Chunk, Value};
use super::working_set::Operation;

/// A staged write, ready to be installed.
pub(crate) struct PlannedWrite<'a, C> {
    pub key: &'a [u8],
    pub hash: u64,
    /// Its record, where the transaction has found it.
    pub record: Option<&'a RecordRef<C>>,
    pub operation: &'a Operation<C>,
    /// Of the operation.
    pub bytes: u64,
    /// Versions later than this one conflict.
    pub basis: u64,
    /// `None`: a conflict aborts, because the key was read.
    pub resolution: Option<ConflictResolution>,
}

/// Looks at somebody else's unfinished installation that are waited through, times two a restart, before it is aborted.
const PATIENCE: u32 = if sync::MODELLED { 1 } else { 64 };
/// Restarts after which it is left to the caller to try again: a very large transaction may need a reservation, which a
/// rerun gives it, to get its installation done among many small ones.
const MOST_RESTARTS: u32 = 12;

/// What came of installing one write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Installed {
    AsStaged,
    /// The rows of a put went after the newest ones.
    Appended,
    /// The committed version stays instead.
    Ignored,
}

/// Why an attempt to commit has come to nothing.
enum Interrupted {
    /// Somebody has aborted it.
    ByOther,
    /// A version that was to stay in place of a write is on its way to the log, and may fail there.
    Awaiting(u64),
    Failed(Error),
}

impl From<Error> for Interrupted {
    #[cold]
    fn from(error: Error) -> Self {
        Interrupted::Failed(error)
    }
}

/// The value that a write installs, whether it begins with the chunks of the newest committed version, and what that
/// makes of the write.
type ToInstall<C> = (Option<VersionValue<C>>, bool, Installed);

/// A write and where it goes.
struct Target<'a, 'g, C> {
    write: PlannedWrite<'a, C>,
    record: &'g Record<C>,
    /// In the last attempt.
    installed: Installed,
}

pub(crate) struct Committer<'g, C: Chunk> {
    pub pool: &'g DatabasePool<C>,
    pub guard: &'g Guard,
    pub presence: &'g Presence<C>,
    pub participant: &'g Participant<C>,
    pub snapshot: u64,
    pub durability: Durability,
}

impl<'g, C: Chunk> Committer<'g, C> {
    pub fn tracker(&self) -> DependencyTracker<'g, C> {
        DependencyTracker { pool: self.pool, guard: self.guard }
    }

    fn owner(&self) -> Owner<'g, C> {
        Owner { guard: self.guard, presence: self.presence, participant: self.participant }
    }

    pub fn database(&self) -> &'g Database<C> {
        self.pool.shared()
    }

    /// Commits so many writes, if what the footprint says is still true at the stamp. Gives the version.
    #[inline]
    pub fn commit<'a>(
        &self,
        count: usize,
        mut writes: impl Iterator<Item = PlannedWrite<'a, C>> + Clone,
        footprint: Option<Footprint<C>>,
    ) -> Result<u64, Error>
    where
        C: 'a,
    {
        if self.database().prepared.holds.any() {
            self.check_held(&mut writes.clone().map(|write| (write.hash, write.key)))?;
        }
        let footprint = footprint.map(Arc::new);
        // Most transactions write one key, which takes no list.
        if count == 1 {
            let mut target = writes.next().map(|write| self.target(write));
            fail_point!(RecordsFound);
            return self.commit_as(target.as_mut_slice(), footprint, None);
        }
        self.commit_as(&mut self.targets(count, writes), footprint, None)
    }

    /// Commits what was staged for a prepared transaction. No conflict can come up.
    pub fn commit_on_behalf(&self, on_behalf: &OnBehalf<'_, C>) -> Result<(), Error> {
        let Staged { writes, footprint, .. } = on_behalf.staged;
        let mut targets = self.targets(writes.len(), writes.iter().map(StagedWrite::planned));
        self.commit_as(&mut targets, footprint.clone(), Some(on_behalf)).map(drop)
    }

    #[inline(never)]
    fn targets<'a>(&self, count: usize, writes: impl Iterator<Item = PlannedWrite<'a, C>>) -> Vec<Target<'a, 'g, C>>
    where
        C: 'a,
    {
        let mut targets = Vec::with_capacity(count);
        writes.for_each(|write| targets.push(self.target(write)));
        fail_point!(RecordsFound);
        // One order for all, so that two that write the same keys seldom hold some of them each.
        targets.sort_unstable_by_key(|target| std::ptr::from_ref(target.record).addr());
        targets
    }

    /// A write and its record, which is made where there is none.
    #[inline]
    fn target<'a>(&self, write: PlannedWrite<'a, C>) -> Target<'a, 'g, C> {
        let buffer = &self.database().buffer;
        let known = write.record.and_then(|known| buffer.known_record(known, self.guard));
        let record = known.unwrap_or_else(|| buffer.record(write.hash, write.key, self.guard));
        // The version for the installation, its value for who frees it: both may have left the cache.
        record.prefetch_newest();
        Target { write, record, installed: Installed::AsStaged }
    }

    fn commit_as(
        &self,
        targets: &mut [Target<'_, 'g, C>],
        footprint: Option<Arc<Footprint<C>>>,
        on_behalf: Option<&OnBehalf<'_, C>>,
    ) -> Result<u64, Error> {
        let to_log = match &*self.database().group_commit {
            None => None,
            Some(group_commit) => match self.to_log(group_commit, targets, on_behalf) {
                Ok(prepared) => Some(prepared),
                Err(error) => return Err(self.failed(error, targets)),
            },
        };
        if footprint.is_some() {
            self.presence.word.keep_later(self.snapshot);
        }
        fail_point!(BeforeInstall);
        let mut restarts = 0;
        loop {
            let patience = restarts.min(MOST_RESTARTS);
            match self.attempt(targets, footprint.as_ref(), to_log.as_ref(), on_behalf, patience) {
                Ok(version) => return Ok(version),
                Err(Interrupted::ByOther) => fail_point!(AbortedByOther),
                Err(Interrupted::Awaiting(version)) => self.await_visible(version),
                Err(Interrupted::Failed(error)) => return Err(self.failed(error, targets)),
            }
            restarts += 1;
            if restarts >= MOST_RESTARTS && on_behalf.is_none() {
                let crowded = targets.first().map(|target| target.write.conflict(0));
                return Err(self.failed(Error::Conflict(crowded.into_iter().collect()), targets));
            }
        }
    }

    /// The writes as they go to the log: encoded before anything is installed, as others would not wait for it.
    #[cold]
    fn to_log(
        &self,
        group_commit: &GroupCommit<C>,
        targets: &[Target<'_, 'g, C>],
        on_behalf: Option<&OnBehalf<'_, C>>,
    ) -> Result<Prepared, Error> {
        match on_behalf.and_then(|on_behalf| on_behalf.staged.logged.clone()) {
            Some(prepared) => Ok(prepared),
            None => group_commit.log().prepare(&mutations(targets)),
        }
    }

    /// Tries to commit. What this leaves undecided is aborted when it ends; on behalf of a prepared transaction, first
    /// in its word.
    #[inline(never)]
    fn attempt(
        &self,
        targets: &mut [Target<'_, 'g, C>],
        footprint: Option<&Arc<Footprint<C>>>,
        to_log: Option<&Prepared>,
        on_behalf: Option<&OnBehalf<'_, C>>,
        patience: u32,
    ) -> Result<u64, Interrupted> {
        let mut installation =
            Installation::new(self.snapshot, footprint.cloned(), to_log.is_some(), targets.len(), self.owner());
        let descriptor = installation.descriptor();
        let _attempt = match on_behalf {
            None => None,
            Some(on_behalf) => match self.announce_attempt(on_behalf, descriptor, patience) {
                Ok(attempt) => Some(attempt),
                // Others have decided it.
                Err(ended) => return Ok(ended.map(|()| 0)?),
            },
        };
        self.install(&mut installation, targets, patience)?;
        if on_behalf.is_none() {
            if targets.iter().all(|target| target.installed == Installed::Ignored) {
                // Nothing changes.
                return Ok(self.commit_at_snapshot(footprint.map(|footprint| &**footprint))?);
            }
            // After the last install: see [`super::holds`].
            if self.database().prepared.holds.any() {
                self.check_held(&mut targets.iter().map(|target| (target.write.hash, target.write.key)))?;
            }
        }
        if let Some(prepared) = to_log {
            self.log(&mut installation, targets, prepared, on_behalf)?;
        }
        fail_point!(BeforeReady);
        if descriptor.advance(Phase::Installing, Phase::Ready).is_err() {
            return Err(Interrupted::ByOther);
        }
        fail_point!(Ready);
        match self.settle(descriptor) {
            Ok(version) => {
                self.note_superseded(&installation);
                Ok(version)
            }
            Err(conflicts) => {
                let failure = installation.take_failure();
                debug_assert!(on_behalf.is_none() || failure.is_some(), "what is held has no conflicts");
                Err(Interrupted::Failed(failure.unwrap_or(Error::Conflict(conflicts))))
            }
        }
    }

    /// Gives an installation what goes to the log for it.
    #[cold]
    fn log(
        &self,
        installation: &mut Installation<'g, C>,
        targets: &[Target<'_, 'g, C>],
        prepared: &Prepared,
        on_behalf: Option<&OnBehalf<'_, C>>,
    ) -> Result<(), Error> {
        let resolved = targets.iter().any(|target| target.installed != Installed::AsStaged);
        let prepared = match &*self.database().group_commit {
            Some(group_commit) if resolved => group_commit.log().prepare(&mutations(targets))?,
            _ => prepared.clone(),
        };
        installation.log(prepared, self.durability, on_behalf.map(OnBehalf::decided));
        Ok(())
    }

    /// What is to be done when a commit has failed.
    fn failed(&self, error: Error, targets: &[Target<'_, 'g, C>]) -> Error {
        self.reclaim_unused(targets);
        self.await_conflicts(error)
    }

    /// Waits until those that got in the way are visible: until then, a rerun would only meet them again.
    pub fn await_conflicts(&self, error: Error) -> Error {
        if let Error::Conflict(conflicts) = &error {
            self.await_visible(conflicts.iter().map(|conflict| conflict.version).max().unwrap_or(0));
        }
        error
    }

    /// Waits for a version that may be on its way to the log.
    pub fn await_visible(&self, version: u64) {
        if let Some(group_commit) = &*self.database().group_commit {
            group_commit.settle(version, &self.tracker());
        }
    }

    /// Commits without a write. Gives the version of the snapshot.
    pub fn commit_at_snapshot(&self, footprint: Option<&Footprint<C>>) -> Result<u64, Error> {
        if let Some(footprint) = footprint {
            self.presence.word.keep_later(self.snapshot);
            self.tracker().certify_at_snapshot(footprint, self.snapshot).map_err(Error::Conflict)?;
        }
        Ok(self.snapshot)
    }

    /// Installs all writes.
    fn install(
        &self,
        installation: &mut Installation<'g, C>,
        targets: &mut [Target<'_, 'g, C>],
        patience: u32,
    ) -> Result<(), Interrupted> {
        for number in 0..targets.len() {
            let Target { write, record, installed } = &mut targets[number];
            match self.install_one(installation, write, record, patience) {
                Ok(done) => {
                    *installed = done;
                    fail_point!(InstalledOne);
                }
                Err(interrupted) => return Err(self.with_further_conflicts(interrupted, &targets[number + 1..])),
            }
        }
        Ok(())
    }

    /// Adds those that the further writes have to a conflict.
    #[cold]
    fn with_further_conflicts(&self, interrupted: Interrupted, further: &[Target<'_, 'g, C>]) -> Interrupted {
        let Interrupted::Failed(Error::Conflict(mut conflicts)) = interrupted else {
            return interrupted;
        };
        conflicts.extend(further.iter().filter_map(|Target { write, record, .. }| {
            write.conflict_with(self.newest_committed(record)?).filter(|_| write.resolution_fails())
        }));
        Interrupted::Failed(Error::Conflict(conflicts))
    }

    #[inline]
    fn install_one(
        &self,
        installation: &mut Installation<'g, C>,
        write: &PlannedWrite<'_, C>,
        record: &mut &'g Record<C>,
        patience: u32,
    ) -> Result<Installed, Interrupted> {
        loop {
            let head = record.head(self.guard);
            let base = match &head {
                Head::Empty => None,
                // Below what failed in the log there may be more of the kind.
                Head::Sealed => {
                    fail_point!(InstallMetSeal);
                    *record = self.next_record(write, record);
                    continue;
                }
                Head::Version(version) => match version.state(self.guard) {
                    State::Committed(number) | State::Certified(number) => Some((*version, number)),
                    State::Aborted => version.standing(self.guard),
                    State::Undecided(other) => {
                        self.contend(other, patience);
                        if installation.descriptor().phase() == Phase::Aborted {
                            return Err(Interrupted::ByOther);
                        }
                        continue;
                    }
                },
            };
            let overtaken = base.map(|(_, number)| number).filter(|number| write.is_overtaken_by(*number));
            let (value, extends_older, installed) = match (write.operation, overtaken) {
                (Operation::Put(value), None) => (Some(self.version_value(value)), false, Installed::AsStaged),
                (Operation::Delete, None) => (None, false, Installed::AsStaged),
                (Operation::Append(rows), None) => self.appended(base, rows, Installed::AsStaged)?,
                (_, Some(number)) => match self.resolve_overtaken(write, base, number)? {
                    Some(resolved) => resolved,
                    // What would stay has failed in the log meanwhile.
                    None => continue,
                },
            };
            if installed == Installed::Ignored {
                return Ok(installed);
            }
            if installation.try_install(record, head, value, extends_older, write.bytes).is_ok() {
                // Rows that go after a delete depend on it, too.
                let appends = installed == Installed::Appended || matches!(write.operation, Operation::Append(_));
                if let (true, Some((base, _))) = (appends, base) {
                    installation.depends_on(base);
                }
                return Ok(installed);
            }
        }
    }

    /// The record that comes after a sealed one.
    #[cold]
    #[inline(never)]
    fn next_record(&self, write: &PlannedWrite<'_, C>, sealed: &Record<C>) -> &'g Record<C> {
        self.database().buffer.remove(sealed, self.guard);
        self.database().buffer.record(write.hash, write.key, self.guard)
    }

    #[inline]
    fn version_value(&self, value: &Value<C>) -> VersionValue<C> {
        VersionValue::new(value.clone(), self.database().memory_budget())
    }

    /// What becomes of a write that others have overtaken by a version. `None`: that was not to be.
    #[cold]
    #[inline(never)]
    fn resolve_overtaken(
        &self,
        write: &PlannedWrite<'_, C>,
        base: Option<(&'g Version<C>, u64)>,
        number: u64,
    ) -> Result<Option<ToInstall<C>>, Interrupted> {
        Ok(Some(match (write.resolution, write.operation) {
            // An append conflicts only because its key was read.
            (_, Operation::Append(_)) => return Err(write.lost_to(number)),
            (Some(ConflictResolution::Ignore), _) => match base.map(|(version, _)| version.state(self.guard)) {
                Some(State::Certified(number)) => return Err(Interrupted::Awaiting(number)),
                Some(State::Aborted) => return Ok(None),
                _ => (None, false, Installed::Ignored),
            },
            (Some(ConflictResolution::Replace), Operation::Put(value)) => {
                (Some(self.version_value(value)), false, Installed::AsStaged)
            }
            (Some(ConflictResolution::Replace), _) => (None, false, Installed::AsStaged),
            (Some(ConflictResolution::Append), Operation::Put(rows)) => {
                self.appended(base, rows, Installed::Appended)?
            }
            (None | Some(ConflictResolution::Fail | ConflictResolution::Append), _) => {
                return Err(write.lost_to(number));
            }
        }))
    }

    /// The newest committed value with rows after its own.
    #[inline(never)]
    fn appended(
        &self,
        base: Option<(&'g Version<C>, u64)>,
        rows: &Value<C>,
        installed: Installed,
    ) -> Result<ToInstall<C>, Error> {
        let base = base.and_then(|(version, _)| version.value());
        let value = match base {
            Some(base) => base.append(rows)?,
            None => self.version_value(rows),
        };
        Ok((Some(value), base.is_some(), installed))
    }

    /// Does what it takes to get past somebody else's undecided version.
    #[cold]
    #[inline(never)]
    pub fn contend(&self, other: &'g Descriptor<C>, restarts: u32) {
        match other.phase() {
            Phase::Installing => {
                let patience = PATIENCE << restarts;
                for _ in 0..patience {
                    spin_loop();
                    if other.phase() != Phase::Installing {
                        return;
                    }
                }
                fail_point!(BeforeAbortingOther);
                _ = other.advance(Phase::Installing, Phase::Aborted);
                fail_point!(OtherAborted);
            }
            Phase::Ready => {
                fail_point!(InstallMetReady);
                self.tracker().stamp(other);
            }
            Phase::Stamped(version) => {
                fail_point!(InstallMetStamped);
                self.tracker().decide(other, version);
            }
            Phase::Certified(_) | Phase::Committed(_) | Phase::Aborted => {}
        }
    }

    /// Takes a ready transaction to its decision.
    fn settle(&self, descriptor: &'g Descriptor<C>) -> Result<u64, Vec<Conflict>> {
        let tracker = self.tracker();
        let mut stamp = None;
        loop {
            match descriptor.phase() {
                Phase::Installing | Phase::Ready => tracker.stamp(descriptor),
                Phase::Stamped(version) => {
                    stamp = Some(version);
                    tracker.decide(descriptor, version);
                }
                Phase::Certified(version) => self.await_visible(version),
                Phase::Committed(version) => {
                    self.await_visible(version);
                    return Ok(version);
                }
                // Somebody else may have decided before the stamp was seen here: a later one finds the same and more.
                Phase::Aborted => {
                    let version = stamp.unwrap_or_else(|| self.database().clock.newest() + 1);
                    return Err(tracker.stale_reads(descriptor, version));
                }
            }
        }
    }

    /// The number of the newest committed version, as far as it can be told without helping.
    fn newest_committed(&self, record: &'g Record<C>) -> Option<u64> {
        let Head::Version(version) = record.head(self.guard) else {
            return None;
        };
        let newest = version.standing(self.guard).or_else(|| version.older(self.guard)?.standing(self.guard));
        newest.map(|(_, number)| number)
    }

    /// Notes a record in which there are about so many bytes to reclaim.
    fn note(&self, record: &Record<C>, bytes: u64) {
        if !self.presence.notes.note(record, bytes, self.guard) {
            self.database().reclaimer.leave(record.share(self.guard));
        }
    }

    /// Notes the records of which this commit has made older versions, or all, superfluous.
    fn note_superseded(&self, installation: &Installation<'g, C>) {
        for (record, installed) in installation.installed() {
            let older = installed.older(self.guard);
            if installed.value().is_none() || older.is_some() {
                self.note(record, older.map_or(0, Version::charge));
            }
        }
    }

    /// Notes the records that an aborted commit has left something in, or made and left without a version.
    fn reclaim_unused(&self, targets: &[Target<'_, 'g, C>]) {
        for Target { record, .. } in targets {
            // Where commits are logged, aborted versions may be left below others, or below each other.
            if self.database().group_commit.is_some() || matches!(record.head(self.guard), Head::Empty) {
                self.note(record, 0);
            }
        }
    }
}

/// What the log has to know of the writes.
fn mutations<'t, C>(targets: &'t [Target<'_, '_, C>]) -> Vec<Mutation<'t, C>> {
    targets.iter().filter_map(Target::mutation).collect()
}

impl<C> Target<'_, '_, C> {
    fn mutation(&self) -> Option<Mutation<'_, C>> {
        let change = match (self.write.operation, self.installed) {
            (_, Installed::Ignored) => return None,
            (Operation::Delete, _) => Change::Delete,
            (Operation::Put(value), Installed::AsStaged) => Change::Put(value),
            (Operation::Put(rows), Installed::Appended) | (Operation::Append(rows), _) => Change::Append(rows),
        };
        Some(Mutation { key: self.write.key, change })
    }
}

impl<C> PlannedWrite<'_, C> {
    /// Whether it conflicts with the newest committed version of the key.
    #[inline]
    fn is_overtaken_by(&self, version: u64) -> bool {
        version > self.basis && !(matches!(self.operation, Operation::Append(_)) && self.resolution.is_some())
    }

    /// The conflict with the newest committed version of the key, if it is one.
    pub fn conflict_with(&self, version: u64) -> Option<Conflict> {
        self.is_overtaken_by(version).then(|| self.conflict(version))
    }

    #[cold]
    fn lost_to(&self, version: u64) -> Interrupted {
        Interrupted::Failed(Error::Conflict(vec![self.conflict(version)]))
    }

    fn conflict(&self, version: u64) -> Conflict {
        Conflict { kind: ConflictKind::WriteWrite, key: self.key.to_vec(), range: None, version, holder: None }
    }

    /// Whether a conflict of this write aborts the transaction.
    fn resolution_fails(&self) -> bool {
        match self.resolution {
            None | Some(ConflictResolution::Fail) => true,
            Some(ConflictResolution::Append) => matches!(self.operation, Operation::Delete),
            Some(ConflictResolution::Ignore | ConflictResolution::Replace) => false,
        }
    }
}
