//! The descriptor of a committing transaction, and the installation of its versions by the owner.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crossbeam_epoch::{Guard, Shared};

use super::record::{Head, Record};
use super::version::{State, Version};
use crate::stm::dependency_tracker::Footprint;
use crate::stm::meters::Meters;
use crate::stm::sync::{AtomicU64, Ordering};
use crate::stm::value::{Chunk, Value};

/// How far a commit has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The owner links its versions; anyone may abort it.
    Installing,
    /// All versions are linked and everything is frozen; anyone may stamp it.
    Ready,
    /// It has its place in the order; anyone may certify and decide it.
    Stamped(u64),
    Committed(u64),
    Aborted,
}

impl Phase {
    const TAG_BITS: u32 = 3;

    fn encode(self) -> u64 {
        match self {
            Phase::Installing => 0,
            Phase::Ready => 1,
            Phase::Aborted => 2,
            Phase::Stamped(version) => version << Self::TAG_BITS | 3,
            Phase::Committed(version) => version << Self::TAG_BITS | 4,
        }
    }

    fn decode(word: u64) -> Self {
        match word & ((1 << Self::TAG_BITS) - 1) {
            0 => Phase::Installing,
            1 => Phase::Ready,
            2 => Phase::Aborted,
            3 => Phase::Stamped(word >> Self::TAG_BITS),
            _ => Phase::Committed(word >> Self::TAG_BITS),
        }
    }
}

/// What the others must know of a committing transaction. All but the phase is frozen when it is published.
pub(crate) struct Descriptor<C> {
    phase: AtomicU64,
    /// The snapshot that the transaction read.
    pub snapshot: u64,
    /// What has to be certified; `None`: the stamp alone commits it.
    pub footprint: Option<Arc<Footprint<C>>>,
}

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
}

/// The owner's side of a commit: it alone links versions, and it cleans up after the decision, also when it unwinds.
pub(crate) struct Installation<'g, C: Send + Sync + 'static> {
    descriptor: NonNull<Descriptor<C>>,
    installed: Vec<(&'g Record<C>, &'g Version<C>)>,
    guard: &'g Guard,
    meters: &'g Meters,
    owned: PhantomData<Descriptor<C>>,
}

impl<'g, C: Chunk> Installation<'g, C> {
    pub fn new(
        snapshot: u64,
        footprint: Option<Arc<Footprint<C>>>,
        writes: usize,
        guard: &'g Guard,
        meters: &'g Meters,
    ) -> Self {
        let descriptor =
            Box::new(Descriptor { phase: AtomicU64::new(Phase::Installing.encode()), snapshot, footprint });
        Installation {
            descriptor: NonNull::from(Box::leak(descriptor)),
            installed: Vec::with_capacity(writes),
            guard,
            meters,
            owned: PhantomData,
        }
    }

    pub fn descriptor(&self) -> &'g Descriptor<C> {
        // SAFETY: it is retired by `drop` under the guard, so it lives as long as the guard does.
        unsafe { &*self.descriptor.as_ptr() }
    }

    pub fn installed(&self) -> impl Iterator<Item = (&'g Record<C>, &'g Version<C>)> + '_ {
        self.installed.iter().copied()
    }

    /// Links a version on top of `head`, which must be empty, committed or aborted; an aborted one is replaced.
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
        value: Option<Value<C>>,
        extends_older: bool,
        charge: u64,
    ) -> Result<(), Option<Value<C>>> {
        let (expected, older, replaced) = match head {
            Head::Empty => (ptr::null(), ptr::null(), None),
            Head::Sealed => return Err(value),
            Head::Version(version) => match version.state(self.guard) {
                State::Committed(_) => (ptr::from_ref(version), ptr::from_ref(version), None),
                State::Aborted => (
                    ptr::from_ref(version),
                    version.older(self.guard).map_or(ptr::null(), ptr::from_ref),
                    Some(version),
                ),
                State::Undecided(_) => return Err(value),
            },
        };
        let location = value.as_ref().map_or(ptr::null(), |value| value.newest().location());
        let new = Box::into_raw(Box::new(Version::new(self.descriptor.as_ptr(), value, older, extends_older, charge)));
        fail_point!(VersionMade);
        if !record.swap_head(expected, new) {
            // SAFETY: it was not published, this is its only owner.
            let unpublished = unsafe { Box::from_raw(new) };
            return Err(unpublished.into_value());
        }
        fail_point!(VersionLinked);
        if let Some(replaced) = replaced {
            fail_point!(AbortedVersionReplaced);
            // SAFETY: invariant 4: the swap above has bypassed it. An undecided version's `older` never changes, so
            // everything below it is still linked.
            unsafe { retire(replaced, self.guard, self.meters) };
        }
        record.hint_value(location);
        self.meters.version_installed(charge);
        // SAFETY: published now, freed only after it was unlinked, and by the collector: it outlives the guard.
        self.installed.push((record, unsafe { &*new }));
        Ok(())
    }

    /// Aborts the commit unless it is decided.
    pub fn abort(&self) {
        let descriptor = self.descriptor();
        let mut phase = descriptor.phase();
        while matches!(phase, Phase::Installing | Phase::Ready | Phase::Stamped(_)) {
            match descriptor.advance(phase, Phase::Aborted) {
                Ok(()) => return,
                Err(now) => phase = now,
            }
        }
    }
}

/// The collector gathers what a participant retires, up to a few dozens, before others can free it. Versions of so many
/// bytes do not wait for that: the participant may be idle for long.
const LARGE: u64 = 64 * 1024;

/// Hands an unlinked version to the collector.
///
/// # Safety
/// Invariant 4: the caller has unlinked it, and nobody else retires it.
pub(super) unsafe fn retire<C: Send + Sync + 'static>(version: &Version<C>, guard: &Guard, meters: &Meters) {
    let bytes = version.charge.load(Ordering::Relaxed);
    meters.version_retired(bytes);
    // SAFETY: it came from a box, is unreachable for later pins, and is retired once.
    unsafe { guard.defer_destroy(Shared::from(ptr::from_ref(version))) };
    if bytes >= LARGE {
        guard.flush();
    }
}

impl<C: Send + Sync + 'static> Drop for Installation<'_, C> {
    /// Gives each version its number, or unlinks it where the transaction has aborted; then the descriptor goes.
    fn drop(&mut self) {
        // SAFETY: the descriptor is retired below, once.
        let descriptor = unsafe { self.descriptor.as_ref() };
        fail_point!(BeforeFinish);
        loop {
            match descriptor.phase() {
                Phase::Committed(number) => {
                    for (_, version) in &self.installed {
                        version.finish(number);
                        fail_point!(FinishedOne);
                    }
                    break;
                }
                Phase::Aborted => {
                    for (record, version) in &self.installed {
                        let older = version.older(self.guard).map_or(ptr::null(), ptr::from_ref);
                        if record.swap_head(*version, older) {
                            fail_point!(AbortedVersionUnlinked);
                            // SAFETY: invariant 4: the swap has unlinked it.
                            unsafe { retire(version, self.guard, self.meters) };
                        }
                        fail_point!(UnlinkedOne);
                    }
                    break;
                }
                undecided => {
                    // Only when it unwinds. A failed step means that somebody else has moved it: look again.
                    _ = descriptor.advance(undecided, Phase::Aborted);
                }
            }
        }
        fail_point!(BeforeDescriptorRetired);
        let retired = Shared::from(self.descriptor.as_ptr().cast_const());
        // SAFETY: invariant 5: no word of a reachable version leads to it any more.
        unsafe { self.guard.defer_destroy(retired) };
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
            Phase::Stamped(0),
            Phase::Stamped(1 << 60),
            Phase::Committed(7),
        ] {
            assert_eq!(Phase::decode(phase.encode()), phase);
        }
    }
}
