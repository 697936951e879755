//! The descriptor of a committing transaction, and the installation of its versions by the owner.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::{Arc, PoisonError};

use crossbeam_epoch::Guard;

use super::blocks::Block;
use super::participant::Owner;
use super::record::{Head, Record};
use super::version::{State, Version};
use crate::stm::commit_log::Prepared;
use crate::stm::dependency_tracker::Footprint;
use crate::stm::error::Error;
use crate::stm::evictable::VersionValue;
use crate::stm::few::Few;
use crate::stm::global_id::GlobalId;
use crate::stm::options::Durability;
use crate::stm::sync::{AtomicPtr, AtomicU64, Mutex, Ordering, fence};
use crate::stm::value::Chunk;

/// How far a commit has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The owner links its versions; anyone may abort it.
    Installing,
    /// All versions are linked and everything is frozen; anyone may stamp it.
    Ready,
    /// It has its place in the order; anyone may certify and decide it.
    Stamped(u64),
    /// Only where commits are logged: nothing but the log can be in its way now. The leader of the group commit decides
    /// it.
    Certified(u64),
    Committed(u64),
    Aborted,
}

impl Phase {
    const TAG_BITS: u32 = 3;

    /// The stamp, where there is one up to `limit` and no decision.
    pub fn stamped_up_to(self, limit: u64) -> Option<u64> {
        match self {
            Phase::Stamped(version) if version <= limit => Some(version),
            _ => None,
        }
    }

    fn encode(self) -> u64 {
        match self {
            Phase::Installing => 0,
            Phase::Ready => 1,
            Phase::Aborted => 2,
            Phase::Stamped(version) => version << Self::TAG_BITS | 3,
            Phase::Committed(version) => version << Self::TAG_BITS | 4,
            Phase::Certified(version) => version << Self::TAG_BITS | 5,
        }
    }

    fn decode(word: u64) -> Self {
        match word & ((1 << Self::TAG_BITS) - 1) {
            0 => Phase::Installing,
            1 => Phase::Ready,
            2 => Phase::Aborted,
            3 => Phase::Stamped(word >> Self::TAG_BITS),
            5 => Phase::Certified(word >> Self::TAG_BITS),
            _ => Phase::Committed(word >> Self::TAG_BITS),
        }
    }
}

/// What the others must know of a committing transaction. All but the phase and what certification finds is frozen when
/// the transaction is ready.
pub(crate) struct Descriptor<C> {
    phase: AtomicU64,
    /// See [`low_watermark`](Descriptor::low_watermark); 0 until it is certified.
    low: AtomicU64,
    /// The records that it writes and its versions of them. The owner alone touches it before READY, and nobody changes
    /// it from then on.
    installed: UnsafeCell<Few<Installed<C>>>,
    /// What is needed where there is a log; apart, as most have none. What is in the cells is written and read like
    /// `installed`.
    to_log: Option<Box<ToLog<C>>>,
    /// The snapshot that the transaction read.
    pub snapshot: u64,
    /// What has to be certified; `None`: the stamp alone commits it.
    pub footprint: Option<Arc<Footprint<C>>>,
}

struct ToLog<C> {
    logged: UnsafeCell<Option<Logged>>,
    /// Versions that were on their way to the log perhaps when rows were put after theirs.
    bases: UnsafeCell<Vec<NonNull<Version<C>>>>,
}

/// A commit on its way to the log.
pub(crate) struct Logged {
    pub prepared: Prepared,
    pub durability: Durability,
    /// The prepared transaction that it commits.
    pub decides: Option<LoggedDecision>,
    /// Why it did not get there; written by the leader before the transaction is aborted.
    pub failure: Mutex<Option<Error>>,
}

/// A prepared transaction that is committed.
pub(crate) struct LoggedDecision {
    pub id: GlobalId,
    pub heuristic: bool,
    pub time_micros: i64,
}

/// A record, and the version that was put on top of it.
type Installed<C> = (NonNull<Record<C>>, NonNull<Version<C>>);

// SAFETY: it owns no record and no version, and gives access to them as the invariants of the module say; `installed`
// is written before READY is released and only read after it was acquired.
unsafe impl<C: Send + Sync> Send for Descriptor<C> {}
// SAFETY: as above.
unsafe impl<C: Send + Sync> Sync for Descriptor<C> {}

impl<C> Descriptor<C> {
    pub fn phase(&self) -> Phase {
        // Acquire: pairs with the release half of `advance`: who sees READY sees every version linked.
        Phase::decode(self.phase.load(Ordering::Acquire))
    }

    /// Moves from one phase to the next, unless somebody else has moved it meanwhile.
    pub fn advance(&self, from: Phase, to: Phase) -> Result<(), Phase> {
        // AcqRel: the release half publishes what was done before (installs before READY), for `phase`.
        self.phase
            .compare_exchange(from.encode(), to.encode(), Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(Phase::decode)
    }

    pub fn certified_by_stamp(&self) -> bool {
        self.footprint.is_none()
    }

    /// The phase of a transaction that certification has let through.
    pub fn let_through(&self, version: u64) -> Phase {
        if self.to_log.is_some() { Phase::Certified(version) } else { Phase::Committed(version) }
    }

    fn is_announced(&self) -> bool {
        self.to_log.is_some() || !self.certified_by_stamp()
    }

    /// What goes to the log, of a transaction that is on its way there.
    pub fn logged<'g>(&'g self, _guard: &'g Guard) -> Option<&'g Logged> {
        let Phase::Certified(_) = self.phase() else {
            return None;
        };
        // SAFETY: READY was acquired by the look at the phase: the owner is done with it.
        unsafe { &*self.to_log.as_ref()?.logged.get() }.as_ref()
    }

    /// The failure of a transaction that has extended the rows of one that failed on its way to the log.
    pub fn failed_base<'g>(&'g self, guard: &'g Guard) -> bool {
        let (Phase::Certified(_), Some(to_log)) = (self.phase(), &self.to_log) else {
            return false;
        };
        // SAFETY: as in `logged`.
        let bases = unsafe { &*to_log.bases.get() };
        // SAFETY: the owner reached them under a guard that it keeps until after the decision (invariant 5).
        bases.iter().any(|base| matches!(unsafe { base.as_ref() }.state(guard), State::Aborted))
    }

    /// Notes the low watermark, before the commit is published, and gives the one that counts: the first that was
    /// noted. Whoever certifies finds the same, but for one that comes late, and where an overwriter has failed in the
    /// log meanwhile. Each has found that it may commit with its own.
    pub fn certified(&self, low: u64) -> u64 {
        // Relaxed: published by the step to COMMITTED.
        self.low.compare_exchange(0, low, Ordering::Relaxed, Ordering::Relaxed).map_or_else(|noted| noted, |_| low)
    }

    /// Whether somebody has found that it may commit.
    pub fn is_certified(&self) -> bool {
        // Relaxed: who has seen a mark that it left has acquired this.
        self.low.load(Ordering::Relaxed) != 0
    }

    /// The stamp of the earliest transaction that a committed one must come before, as far as certification looks; its
    /// own stamp where there is none earlier.
    pub fn low_watermark(&self) -> u64 {
        match (self.low.load(Ordering::Relaxed), self.phase()) {
            (0, Phase::Committed(version) | Phase::Certified(version)) => version,
            (low, _) => low,
        }
    }

    /// The records that a stamped transaction writes, each with the version that it puts its own on. `None`: it is
    /// decided already.
    pub fn overwritten<'g>(
        &'g self,
        guard: &'g Guard,
    ) -> Option<impl Iterator<Item = (&'g Record<C>, Option<&'g Version<C>>)>> {
        let Phase::Stamped(_) = self.phase() else {
            return None;
        };
        // SAFETY: READY was acquired by the look at the phase: the owner is done with it.
        let installed = unsafe { &*self.installed.get() };
        // SAFETY: invariant 5: it was undecided just now, under the guard.
        Some(installed.iter().map(|(record, version)| unsafe { (record.as_ref(), version.as_ref().older(guard)) }))
    }
}

/// The place in a slot by which others find the descriptor of a transaction that is being certified.
pub(crate) struct Announcement<C>(AtomicPtr<Descriptor<C>>);

impl<C> Announcement<C> {
    pub fn new() -> Self {
        Announcement(AtomicPtr::new(ptr::null_mut()))
    }

    pub fn descriptor<'g>(&self, _guard: &'g Guard) -> Option<&'g Descriptor<C>> {
        // Acquire: pairs with the release in `Installation::new`.
        // SAFETY: invariant 5: it is retired after it was taken back, so later than the guard began.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }
}

/// The owner's side of a commit: it alone links versions, and it cleans up after the decision, also when it unwinds.
pub(crate) struct Installation<'g, C: Chunk> {
    descriptor: NonNull<Descriptor<C>>,
    owner: Owner<'g, C>,
    owned: PhantomData<Descriptor<C>>,
}

impl<'g, C: Chunk> Installation<'g, C> {
    pub fn new(
        snapshot: u64,
        footprint: Option<Arc<Footprint<C>>>,
        is_logged: bool,
        writes: usize,
        owner: Owner<'g, C>,
    ) -> Self {
        let descriptor = Block::new(Descriptor {
            phase: AtomicU64::new(Phase::Installing.encode()),
            low: AtomicU64::new(0),
            installed: UnsafeCell::new(Few::with_capacity(writes)),
            to_log: is_logged
                .then(|| Box::new(ToLog { logged: UnsafeCell::new(None), bases: UnsafeCell::new(Vec::new()) })),
            snapshot,
            footprint,
        })
        .into_raw();
        // SAFETY: it is ours until `drop` retires it.
        if unsafe { descriptor.as_ref() }.is_announced() {
            // Release: pairs with the acquire in `Announcement::descriptor`. It comes before READY, and so before the
            // stamp: whoever has drawn a later one finds it.
            owner.presence.announcement.0.store(descriptor.as_ptr(), Ordering::Release);
            fail_point!(Announced);
        }
        if is_logged {
            // Pairs with the fence in `GroupCommit::fail`: one that is looked for in vain there sees here what failed.
            fence(Ordering::SeqCst);
        }
        Installation { descriptor, owner, owned: PhantomData }
    }

    pub fn descriptor(&self) -> &'g Descriptor<C> {
        // SAFETY: it is retired by `drop` under the guard, so it lives as long as the guard does.
        unsafe { &*self.descriptor.as_ptr() }
    }

    /// Notes what goes to the log. To be called before READY.
    pub fn log(&mut self, prepared: Prepared, durability: Durability, decides: Option<LoggedDecision>) {
        let logged = Logged { prepared, durability, decides, failure: Mutex::new(None) };
        if let Some(to_log) = &self.descriptor().to_log {
            // SAFETY: this is the owner, before READY, so nobody else looks at it.
            unsafe { *to_log.logged.get() = Some(logged) };
        }
    }

    /// Notes that what was installed last has rows that go after those of a version, which may be on its way to the
    /// log.
    pub fn depends_on(&mut self, base: &'g Version<C>) {
        if let Some(to_log) = &self.descriptor().to_log {
            // SAFETY: as in `log`.
            unsafe { (*to_log.bases.get()).push(NonNull::from(base)) };
        }
    }

    /// Takes the reason why the log refused an aborted transaction, if that is why it was aborted.
    pub fn take_failure(&self) -> Option<Error> {
        // SAFETY: only the owner changes it, and not after READY; what is in the lock, the lock guards.
        let logged = unsafe { &*self.descriptor().to_log.as_ref()?.logged.get() }.as_ref()?;
        logged.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub fn installed(&self) -> impl Iterator<Item = (&'g Record<C>, &'g Version<C>)> {
        // SAFETY: only the owner changes it, by an exclusive borrow of `self`, and not after READY.
        let installed = unsafe { &*self.descriptor().installed.get() };
        // SAFETY: both were reached under the guard (invariant 1).
        installed.iter().map(|(record, version)| unsafe { (record.as_ref(), version.as_ref()) })
    }

    /// Links a version on top of `head`, which must be empty, certified, committed or aborted; an aborted one is
    /// replaced.
    ///
    /// `extends_older` says that the value begins with the chunks of the newest committed version, and `charge` how
    /// many bytes are new.
    ///
    /// # Errors
    /// Gives the value back when the head has changed or must be settled first.
    pub fn try_install(
        &mut self,
        record: &'g Record<C>,
        head: Head<'g, C>,
        value: Option<VersionValue<C>>,
        extends_older: bool,
        charge: u64,
    ) -> Result<(), Option<VersionValue<C>>> {
        let (expected, older, replaced) = match head {
            Head::Empty => (ptr::null(), ptr::null(), None),
            Head::Sealed => return Err(value),
            Head::Version(version) => match version.state(self.owner.guard) {
                State::Committed(_) | State::Certified(_) => (ptr::from_ref(version), ptr::from_ref(version), None),
                State::Aborted => (
                    ptr::from_ref(version),
                    version.older(self.owner.guard).map_or(ptr::null(), ptr::from_ref),
                    Some(version),
                ),
                State::Undecided(_) => return Err(value),
            },
        };
        let location = value.as_ref().map_or(ptr::null(), VersionValue::location);
        let new = Block::new(Version::new(self.descriptor.as_ptr(), value, older, extends_older, charge)).into_raw();
        fail_point!(VersionMade);
        if !record.swap_head(expected, new.as_ptr()) {
            // SAFETY: it was not published, this is its only owner.
            let unpublished = unsafe { Block::from_raw(new) };
            return Err(unpublished.into_inner().into_value());
        }
        fail_point!(VersionLinked);
        if let Some(replaced) = replaced {
            fail_point!(AbortedVersionReplaced);
            // SAFETY: invariant 4: the swap above has bypassed it. An undecided version's `older` never changes, so
            // everything below it is still linked.
            unsafe { self.owner.retire(replaced) };
        }
        record.hint_value(location);
        self.owner.presence.tally.installed(charge);
        // SAFETY: this is the owner, before READY, so nobody else looks at it.
        unsafe { (*self.descriptor().installed.get()).push((NonNull::from(record), new)) };
        Ok(())
    }
}

impl<C: Chunk> Drop for Installation<'_, C> {
    /// Gives each version its number, or unlinks it where the transaction has aborted; then the descriptor goes.
    fn drop(&mut self) {
        // SAFETY: the descriptor is retired below, once.
        let descriptor = unsafe { self.descriptor.as_ref() };
        fail_point!(BeforeFinish);
        let committed = loop {
            match descriptor.phase() {
                Phase::Committed(number) => break Some(number),
                Phase::Aborted => break None,
                // Given up, or it unwinds. A failed step means that somebody else has moved it: look again.
                undecided => _ = descriptor.advance(undecided, Phase::Aborted),
            }
        };
        if descriptor.is_announced() {
            // Release: it is decided for everyone who finds it gone. Pairs with the acquire in
            // `Announcement::descriptor`.
            self.owner.presence.announcement.0.store(ptr::null_mut(), Ordering::Release);
            fail_point!(AnnouncementTakenBack);
        }
        for (record, version) in self.installed() {
            match committed {
                Some(number) => {
                    version.finish(number, descriptor.low_watermark());
                    fail_point!(FinishedOne);
                }
                None => {
                    // Where commits are logged, others may have come above it; it stays in the chain then.
                    version.finish_aborted();
                    let older = version.older(self.owner.guard).map_or(ptr::null(), ptr::from_ref);
                    if record.swap_head(version, older) {
                        fail_point!(AbortedVersionUnlinked);
                        // SAFETY: invariant 4: the swap has unlinked it.
                        unsafe { self.owner.retire(version) };
                    }
                    fail_point!(UnlinkedOne);
                }
            }
        }
        fail_point!(BeforeDescriptorRetired);
        // SAFETY: invariant 5: no word of a reachable version leads to it any more.
        unsafe { self.owner.retire_descriptor(self.descriptor) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_survive_their_encoding() {
        for phase in [
            Phase::Installing,
            Phase::Ready,
            Phase::Aborted,
            Phase::Certified(8),
            Phase::Stamped(0),
            Phase::Stamped(1 << 60),
            Phase::Committed(7),
        ] {
            assert_eq!(Phase::decode(phase.encode()), phase);
        }
    }
}
