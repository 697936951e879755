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

use super::commit_log::{Change, Mutation};
use super::conflict::{Conflict, ConflictKind, ConflictResolution};
use super::database::{Database, DatabasePool};
use super::decide::{Attempt, OnBehalf};
use super::dependency_tracker::{DependencyTracker, Footprint};
use super::error::Error;
use super::evictable::VersionValue;
use super::few::Few;
use super::memory::{Descriptor, Head, Installation, Owner, Participant, Phase, Presence, Record, RecordRef, State};
use super::options::Durability;
use super::prepared::StagedWrite;
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
    /// Somebody has aborted this attempt.
    Restart,
    /// The version that stays instead is on its way to the log, and may fail there.
    IgnoredFor(u64),
}

/// A write and where it goes.
struct Target<'a, 'g, C> {
    write: &'a PlannedWrite<'a, C>,
    record: &'g Record<C>,
    /// Of the last attempt.
    installed: Installed,
}

/// An attempt of a commit. Its end takes it back from everywhere; first from the word of the prepared transaction on
/// whose behalf it is made.
struct Run<'a, 'g, C: Chunk> {
    attempt: Option<Attempt<'a, 'g, C>>,
    installation: Installation<'g, C>,
}

impl<C: Chunk> Run<'_, '_, C> {
    fn abort(self) {
        self.installation.abort();
    }
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

    /// Commits the writes, if what the footprint says is still true at the stamp. Gives the version.
    pub fn commit(&self, writes: &[PlannedWrite<'_, C>], footprint: Option<Footprint<C>>) -> Result<u64, Error> {
        self.check_held(writes.iter().map(|write| (write.hash, write.key)))?;
        self.commit_as(writes, footprint.map(Arc::new), None)
    }

    /// Commits what was staged for a prepared transaction. No conflict can come up.
    pub fn commit_on_behalf(&self, on_behalf: &OnBehalf<'_, C>) -> Result<(), Error> {
        let writes: Vec<_> = on_behalf.staged.writes.iter().map(StagedWrite::planned).collect();
        self.commit_as(&writes, on_behalf.staged.footprint.clone(), Some(on_behalf)).map(drop)
    }

    fn commit_as(
        &self,
        writes: &[PlannedWrite<'_, C>],
        footprint: Option<Arc<Footprint<C>>>,
        on_behalf: Option<&OnBehalf<'_, C>>,
    ) -> Result<u64, Error> {
        let group_commit = self.database().group_commit.as_ref();
        // Before anything is installed: others would not wait for it.
        let prepared = match (group_commit, on_behalf.and_then(|on_behalf| on_behalf.staged.logged.clone())) {
            (_, Some(prepared)) => Some(prepared),
            (Some(group_commit), None) => {
                let as_staged = writes.iter().filter_map(|write| write.mutation(Installed::AsStaged));
                Some(group_commit.log().prepare(&as_staged.collect::<Vec<_>>())?)
            }
            (None, None) => None,
        };
        // What many records wait for in memory, they wait for together.
        if writes.len() > 1 {
            let unknown = writes.iter().filter(|write| write.record.is_none());
            unknown.for_each(|write| self.database().buffer.prefetch_record(write.hash));
        }
        let mut targets = Few::with_capacity(writes.len()).extend(writes.iter().map(|write| {
            let buffer = &self.database().buffer;
            let known = write.record.and_then(|known| buffer.known_record(known, self.guard));
            let record = known.unwrap_or_else(|| buffer.record(write.hash, write.key, self.guard));
            Target { write, record, installed: Installed::AsStaged }
        }));
        fail_point!(RecordsFound);
        targets.iter().for_each(|target| target.record.prefetch_head());
        // One order for all, so that two that write the same keys seldom hold some of them each.
        targets.sort_unstable_by_key(|target| std::ptr::from_ref(target.record).addr());
        if footprint.is_some() {
            self.presence.word.keep_later(self.snapshot);
        }
        fail_point!(BeforeInstall);

        for restarts in 0.. {
            if restarts >= MOST_RESTARTS && on_behalf.is_none() {
                break;
            }
            let patience = restarts.min(MOST_RESTARTS);
            let installation =
                Installation::new(self.snapshot, footprint.clone(), group_commit.is_some(), writes.len(), self.owner());
            let mut run = Run { attempt: None, installation };
            if let Some(on_behalf) = on_behalf {
                match self.announce_attempt(on_behalf, run.installation.descriptor(), patience) {
                    Ok(attempt) => run.attempt = Some(attempt),
                    // Others have decided it.
                    Err(ended) => return ended.map(|()| 0),
                }
            }
            match self.install(&mut run.installation, &mut targets, patience) {
                Ok(None) => {}
                Ok(Some(Installed::IgnoredFor(version))) => {
                    run.abort();
                    self.await_visible(version);
                    continue;
                }
                Ok(Some(_)) => {
                    fail_point!(AbortedByOther);
                    continue;
                }
                Err(error) => {
                    run.abort();
                    return Err(self.failed(error, &targets));
                }
            }
            if on_behalf.is_none() {
                if run.installation.installed().next().is_none() {
                    // Everything was ignored: nothing changes.
                    run.abort();
                    return self.commit_at_snapshot(footprint.as_deref());
                }
                // After the last install: see [`super::holds`].
                if let Err(error) = self.check_held(targets.iter().map(|target| (target.write.hash, target.write.key)))
                {
                    run.abort();
                    return Err(self.failed(error, &targets));
                }
            }
            if let Some(group_commit) = group_commit {
                let resolved = targets.iter().any(|target| target.installed != Installed::AsStaged);
                let installed = || targets.iter().filter_map(|target| target.write.mutation(target.installed));
                let prepared = match &prepared {
                    Some(prepared) if !resolved => Ok(prepared.clone()),
                    _ => group_commit.log().prepare(&installed().collect::<Vec<_>>()),
                };
                match prepared {
                    Ok(prepared) => {
                        run.installation.log(prepared, self.durability, on_behalf.map(OnBehalf::decided));
                    }
                    Err(error) => {
                        run.abort();
                        return Err(self.failed(error, &targets));
                    }
                }
            }
            let descriptor = run.installation.descriptor();
            fail_point!(BeforeReady);
            if descriptor.advance(Phase::Installing, Phase::Ready).is_err() {
                fail_point!(AbortedByOther);
                continue;
            }
            fail_point!(Ready);
            let settled = self.settle(descriptor);
            if settled.is_ok() {
                self.note_superseded(&run.installation);
            }
            return settled.map_err(|conflicts| {
                let failure = run.installation.take_failure();
                debug_assert!(on_behalf.is_none() || failure.is_some(), "what is held has no conflicts");
                run.abort();
                self.failed(failure.unwrap_or(Error::Conflict(conflicts)), &targets)
            });
        }
        let crowded = writes.first().map(|write| write.conflict(0));
        Err(self.failed(Error::Conflict(crowded.into_iter().collect()), &targets))
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

    /// Installs all writes. Gives the reason why this attempt must start over, if it must.
    fn install(
        &self,
        installation: &mut Installation<'g, C>,
        targets: &mut [Target<'_, 'g, C>],
        restarts: u32,
    ) -> Result<Option<Installed>, Error> {
        for number in 0..targets.len() {
            let Target { write, record, installed } = &mut targets[number];
            match self.install_one(installation, write, record, restarts) {
                Ok(over @ (Installed::Restart | Installed::IgnoredFor(_))) => return Ok(Some(over)),
                Ok(done) => {
                    *installed = done;
                    fail_point!(InstalledOne);
                }
                Err(Error::Conflict(mut conflicts)) => {
                    conflicts.extend(targets[number + 1..].iter().filter_map(|Target { write, record, .. }| {
                        write.conflict_with(self.newest_committed(record)?).filter(|_| write.resolution_fails())
                    }));
                    return Err(Error::Conflict(conflicts));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn install_one(
        &self,
        installation: &mut Installation<'g, C>,
        write: &PlannedWrite<'_, C>,
        record: &mut &'g Record<C>,
        restarts: u32,
    ) -> Result<Installed, Error> {
        loop {
            let head = record.head(self.guard);
            let base = match &head {
                Head::Empty => None,
                // Below what failed in the log there may be more of the kind.
                Head::Sealed => {
                    fail_point!(InstallMetSeal);
                    self.database().buffer.remove(record, self.guard);
                    *record = self.database().buffer.record(write.hash, write.key, self.guard);
                    continue;
                }
                Head::Version(version) => match version.state(self.guard) {
                    State::Committed(_) | State::Certified(_) | State::Aborted => version.standing(self.guard),
                    State::Undecided(other) => {
                        self.contend(other, restarts);
                        if installation.descriptor().phase() == Phase::Aborted {
                            return Ok(Installed::Restart);
                        }
                        continue;
                    }
                },
            };
            let base_value = base.and_then(|(version, _)| version.value());
            let conflict = base.and_then(|(_, number)| write.conflict_with(number));
            let mut installed = Installed::AsStaged;
            let (value, extends_older, charge) = match (write.operation, conflict) {
                (Operation::Append(rows), None) => self.appended(base_value, rows)?,
                // An append that conflicts only because its key was read.
                (Operation::Append(_), Some(conflict)) => return Err(Error::Conflict(vec![conflict])),
                (Operation::Put(value), None) => (Some(self.version_value(value)), false, value.bytes()),
                (Operation::Delete, None) => (None, false, 0),
                (operation, Some(conflict)) => match (write.resolution, operation) {
                    (Some(ConflictResolution::Ignore), _) => {
                        match base.map(|(version, _)| version.state(self.guard)) {
                            Some(State::Certified(number)) => return Ok(Installed::IgnoredFor(number)),
                            // It has failed in the log meanwhile: look again.
                            Some(State::Aborted) => continue,
                            _ => return Ok(Installed::Ignored),
                        }
                    }
                    (Some(ConflictResolution::Replace), Operation::Put(value)) => {
                        (Some(self.version_value(value)), false, value.bytes())
                    }
                    (Some(ConflictResolution::Replace), _) => (None, false, 0),
                    (Some(ConflictResolution::Append), Operation::Put(rows)) => {
                        installed = Installed::Appended;
                        self.appended(base_value, rows)?
                    }
                    (None | Some(ConflictResolution::Fail | ConflictResolution::Append), _) => {
                        return Err(Error::Conflict(vec![conflict]));
                    }
                },
            };
            if installation.try_install(record, head, value, extends_older, charge).is_ok() {
                // Rows that go after a delete depend on it, too.
                let appends = installed == Installed::Appended || matches!(write.operation, Operation::Append(_));
                if let Some((base, _)) = base.filter(|_| appends && self.database().group_commit.is_some()) {
                    installation.depends_on(base);
                }
                return Ok(installed);
            }
        }
    }

    fn version_value(&self, value: &Value<C>) -> VersionValue<C> {
        VersionValue::new(value.clone(), self.database().memory_budget())
    }

    /// The newest committed value with rows after its own: value, whether it extends the committed one, and new bytes.
    fn appended(
        &self,
        base: Option<&VersionValue<C>>,
        rows: &Value<C>,
    ) -> Result<(Option<VersionValue<C>>, bool, u64), Error> {
        let value = match base {
            Some(base) => base.append(rows)?,
            None => self.version_value(rows),
        };
        Ok((Some(value), base.is_some(), rows.bytes()))
    }

    /// Does what it takes to get past somebody else's undecided version.
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

    fn note(&self, record: &Record<C>) {
        if !self.presence.notes.note(record, self.guard) {
            self.database().reclaimer.leave(record.share(self.guard));
        }
    }

    /// Notes the records of which this commit has made older versions, or all, superfluous.
    fn note_superseded(&self, installation: &Installation<'g, C>) {
        for (record, installed) in installation.installed() {
            if installed.value().is_none() || installed.older(self.guard).is_some() {
                self.note(record);
            }
        }
    }

    /// Notes the records that an aborted commit has left something in, or made and left without a version.
    fn reclaim_unused(&self, targets: &[Target<'_, 'g, C>]) {
        for Target { record, .. } in targets {
            // Where commits are logged, aborted versions may be left below others, or below each other.
            if self.database().group_commit.is_some() || matches!(record.head(self.guard), Head::Empty) {
                self.note(record);
            }
        }
    }
}

impl<C> PlannedWrite<'_, C> {
    /// What the log has to know of it.
    fn mutation(&self, installed: Installed) -> Option<Mutation<'_, C>> {
        let change = match (self.operation, installed) {
            (_, Installed::Ignored | Installed::IgnoredFor(_) | Installed::Restart) => return None,
            (Operation::Delete, _) => Change::Delete,
            (Operation::Put(value), Installed::AsStaged) => Change::Put(value),
            (Operation::Put(rows), Installed::Appended) | (Operation::Append(rows), _) => Change::Append(rows),
        };
        Some(Mutation { key: self.key, change })
    }

    /// The conflict with the newest committed version of the key, if it is one.
    pub fn conflict_with(&self, version: u64) -> Option<Conflict> {
        let blind_append = matches!(self.operation, Operation::Append(_)) && self.resolution.is_some();
        (version > self.basis && !blind_append).then(|| self.conflict(version))
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
