//! One version of a key.

use std::marker::PhantomData;
use std::mem::offset_of;
use std::ptr;

use crossbeam_epoch::Guard;

use super::descriptor::{Descriptor, Phase};
use super::prefetch;
use super::reader_mark::ReaderMark;
use crate::stm::evictable::VersionValue;
use crate::stm::sync::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

/// A value or a tombstone, with the stamp of the transaction that wrote it.
pub(crate) struct Version<C> {
    /// `version << 1 | 1` once the owner has finished the commit, [`ABORTED`] once it has finished an abort, before
    /// that the address of its descriptor (even).
    stamp: AtomicU64,
    /// `None`: the key is deleted.
    value: Option<VersionValue<C>>,
    /// Null in the oldest version. Written before publication, later only by the trimmer.
    pub(super) older: AtomicPtr<Version<C>>,
    /// Bytes that the meters count for this version: what it does not share with the version below it.
    pub(super) charge: AtomicU64,
    /// Whether the value begins with the chunks of the version below it. Written like `older`.
    pub(super) extends_older: AtomicBool,
    /// The low watermark of the transaction that wrote it, or of the one that wrote the oldest of those that were
    /// unlinked below it; 0 until the owner has finished or the trimmer has unlinked one.
    low: AtomicU64,
    /// Of those that read this version and were certified.
    pub readers: ReaderMark,
    descriptor: PhantomData<*const Descriptor<C>>,
}

// SAFETY: the raw pointers in it are shared only as the invariants of the module say; values are `Send + Sync`.
unsafe impl<C: Send + Sync> Send for Version<C> {}
// SAFETY: as above.
unsafe impl<C: Send + Sync> Sync for Version<C> {}

/// No version has the number 0.
const ABORTED: u64 = 1;

/// What is known of the transaction that wrote a version.
pub(crate) enum State<'g, C> {
    Committed(u64),
    /// It has its place in the order, and is on its way to the log. No snapshot sees it.
    Certified(u64),
    Aborted,
    /// Not decided yet.
    Undecided(&'g Descriptor<C>),
}

impl<C> Version<C> {
    pub(super) fn new(
        descriptor: *const Descriptor<C>,
        value: Option<VersionValue<C>>,
        older: *const Version<C>,
        extends_older: bool,
        charge: u64,
    ) -> Self {
        Version {
            stamp: AtomicU64::new(descriptor.expose_provenance() as u64),
            value,
            older: AtomicPtr::new(older.cast_mut()),
            charge: AtomicU64::new(charge),
            extends_older: AtomicBool::new(extends_older),
            low: AtomicU64::new(0),
            readers: ReaderMark::new(),
            descriptor: PhantomData,
        }
    }

    /// Asks for what a reader looks at, which may stand in two lines of the cache.
    pub(super) fn prefetch(version: *const Version<C>) {
        prefetch(version.wrapping_byte_add(offset_of!(Version<C>, value)));
        prefetch(version.wrapping_byte_add(offset_of!(Version<C>, stamp) + size_of::<u64>() - 1));
    }

    /// Bytes that it does not share with the version below it.
    pub fn charge(&self) -> u64 {
        // Relaxed: a number, which the trimmer may change.
        self.charge.load(Ordering::Relaxed)
    }

    pub fn value(&self) -> Option<&VersionValue<C>> {
        self.value.as_ref()
    }

    /// The descriptor, unless the transaction is finished.
    fn descriptor<'g>(&'g self, _guard: &'g Guard) -> Result<&'g Descriptor<C>, u64> {
        // Acquire: pairs with `finish`; as the value and the descriptor were published with the head of the chain,
        // nothing else hangs on it.
        let stamp = self.stamp.load(Ordering::Acquire);
        if stamp & 1 == 1 {
            return Err(stamp >> 1);
        }
        let descriptor: *const Descriptor<C> = ptr::with_exposed_provenance(stamp as usize);
        // SAFETY: invariant 5: the word led to the descriptor under this guard, so it is retired later at the earliest.
        Ok(unsafe { &*descriptor })
    }

    pub fn state<'g>(&'g self, guard: &'g Guard) -> State<'g, C> {
        match self.descriptor(guard) {
            Err(0) => State::Aborted,
            Err(version) => State::Committed(version),
            Ok(descriptor) => match descriptor.phase() {
                Phase::Committed(version) => State::Committed(version),
                Phase::Certified(version) => State::Certified(version),
                Phase::Aborted => State::Aborted,
                Phase::Installing | Phase::Ready | Phase::Stamped(_) => State::Undecided(descriptor),
            },
        }
    }

    /// Whether its owner has finished its commit at or before a snapshot. False also for some whose owner has not.
    #[inline]
    pub fn is_finished_by(&self, snapshot: u64) -> bool {
        // Acquire: as in `descriptor`.
        let stamp = self.stamp.load(Ordering::Acquire);
        // No version has the number 0: it is that of an abort, and wraps.
        stamp & 1 == 1 && (stamp >> 1).wrapping_sub(1) < snapshot
    }

    /// The next older version.
    pub fn older<'g>(&'g self, _guard: &'g Guard) -> Option<&'g Version<C>> {
        // Acquire: pairs with the trimmer's release store. The versions that it links were published before anyway.
        // SAFETY: invariant 1: it is reached under the guard.
        unsafe { self.older.load(Ordering::Acquire).as_ref() }
    }

    /// The newest version, from this one on, that is committed or on its way to the log, and its number. `None` also
    /// when this one is undecided.
    pub fn standing<'g>(&'g self, guard: &'g Guard) -> Option<(&'g Version<C>, u64)> {
        let mut next = Some(self);
        while let Some(version) = next {
            match version.state(guard) {
                State::Committed(number) | State::Certified(number) => return Some((version, number)),
                State::Aborted => next = version.older(guard),
                State::Undecided(_) => return None,
            }
        }
        None
    }

    pub(super) fn into_value(self) -> Option<VersionValue<C>> {
        self.value
    }

    /// The low watermark of the direct overwriter of what is linked below, if this is the oldest version later than the
    /// snapshot for which it is asked. To be read after that link: what is unlinked there leaves its own here first.
    pub fn low_watermark(&self, guard: &Guard) -> u64 {
        // Relaxed: the trimmer's comes before the link that was read, the owner's before the stamp.
        match (self.low.load(Ordering::Relaxed), self.descriptor(guard)) {
            (0, Ok(descriptor)) => descriptor.low_watermark(),
            (0, Err(_)) => self.low.load(Ordering::Relaxed),
            (low, _) => low,
        }
    }

    /// Takes the low watermark of a version that is about to be unlinked below this one.
    pub(super) fn inherit_low_watermark(&self, unlinked: &Version<C>, guard: &Guard) {
        self.low.store(unlinked.low_watermark(guard), Ordering::Relaxed);
    }

    /// Whether the owner has finished an abort: it may be gone, and will not look for the version again.
    pub(super) fn is_left_aborted(&self) -> bool {
        // Acquire: pairs with `finish_aborted`.
        self.stamp.load(Ordering::Acquire) == ABORTED
    }

    /// A version that is committed from its beginning, with nothing below it.
    pub(super) fn restored(value: VersionValue<C>, version: u64, charge: u64) -> Self {
        let made = Version::new(ptr::null(), Some(value), ptr::null(), false, charge);
        made.finish(version, version);
        made
    }

    /// Replaces the descriptor by the word that the commit failed.
    pub(super) fn finish_aborted(&self) {
        // Release: pairs with the acquire in `descriptor`.
        self.stamp.store(ABORTED, Ordering::Release);
    }

    /// Replaces the descriptor by the version number and low watermark that it carries.
    pub(super) fn finish(&self, version: u64, low: u64) {
        // Relaxed: released by the next store. What the trimmer has put there counts more.
        _ = self.low.compare_exchange(0, low, Ordering::Relaxed, Ordering::Relaxed);
        // Release: pairs with the acquire in `descriptor`.
        self.stamp.store(version << 1 | 1, Ordering::Release);
    }
}
