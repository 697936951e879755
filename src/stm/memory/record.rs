//! The record of a key: the head of its version chain, and its place in the two indexes.

use std::ops::Deref;
use std::ptr::{self, NonNull};

use crossbeam_epoch::Guard;

use super::blocks::Block;
use super::participant::Owner;
use super::prefetch;
use super::version::{State, Version};
use crate::stm::evictable::VersionValue;
use crate::stm::key::KeyBytes;
use crate::stm::meters::Tally;
use crate::stm::snapshot::LiveSnapshots;
use crate::stm::sync::{self, AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use crate::stm::value::Chunk;

/// One key. It lives from the first write of the key until the deleted key can be seen by nobody.
///
/// It fills one cache line, as a lookup misses the cache once for each line that it touches; hence also the count of
/// its own in place of an `Arc`'s.
#[repr(C, align(64))]
pub(crate) struct Record<C> {
    /// Link of the hash index, which alone reads and writes it.
    pub(super) next: AtomicUsize,
    /// Place in the hash index.
    pub(super) split_order: u64,
    /// Newest version, null, or [`SEALED`].
    head: AtomicPtr<Version<C>>,
    key: KeyBytes,
    /// Whether the order index is known to hold the record.
    pub(super) ordered: AtomicBool,
    /// See invariant 3.
    trimming: AtomicBool,
    /// In which queues of the reclaimer the record waits: its business alone.
    pub queued: AtomicU8,
    /// Counts of [`RecordRef`]s, those of the indexes included.
    references: AtomicU32,
    /// Where the value of the newest version begins, or began: a hint for the cache, never followed.
    newest_value: AtomicPtr<()>,
}

const _: () = assert!(sync::MODELLED || size_of::<Record<u64>>() == 64);

/// A count of a record: keeps it allocated.
pub(crate) struct RecordRef<C>(NonNull<Record<C>>);

// SAFETY: it is shared access to a record, whose parts are atomics, a constant key and versions; dropping the last one
// drops the versions, whose values are `Send + Sync` by the bound.
unsafe impl<C: Send + Sync> Send for RecordRef<C> {}
// SAFETY: as above.
unsafe impl<C: Send + Sync> Sync for RecordRef<C> {}

impl<C> RecordRef<C> {
    pub(super) fn new(record: Record<C>) -> Self {
        RecordRef(NonNull::from(Box::leak(Box::new(record))))
    }

    pub(super) fn into_raw(self) -> *const Record<C> {
        let record = self.0.as_ptr();
        std::mem::forget(self);
        record
    }

    /// # Safety
    /// A count of the record is the caller's to give, as `into_raw` or `Record::share` made it.
    pub(super) unsafe fn from_raw(record: *const Record<C>) -> Self {
        // SAFETY: it came from a `NonNull`.
        RecordRef(unsafe { NonNull::new_unchecked(record.cast_mut()) })
    }
}

impl<C> RecordRef<C> {
    /// The record for as long as a guard, unless it is sealed.
    pub fn live<'g>(&self, _guard: &'g Guard) -> Option<&'g Record<C>> {
        if self.is_sealed() {
            return None;
        }
        // SAFETY: invariant 2: unsealed it is in the hash index still, which gives its count back later than the guard
        // ends.
        Some(unsafe { self.0.as_ref() })
    }
}

/// Gives a count of a record back when no pin that is there now can need it any more.
///
/// # Safety
/// The count is the caller's to give, and whatever led to the record by this count does not any more.
pub(super) unsafe fn give_back<C>(record: &Record<C>, guard: &Guard) {
    let record = ptr::from_ref(record).expose_provenance();
    // SAFETY: the closure owns nothing but the count. Records may be dropped on any thread: versions and values are
    // `Send`.
    unsafe {
        guard.defer_unchecked(move || {
            drop(RecordRef::from_raw(ptr::with_exposed_provenance::<Record<C>>(record)));
        });
    }
}

impl<C> Deref for RecordRef<C> {
    type Target = Record<C>;

    fn deref(&self) -> &Record<C> {
        // SAFETY: the count keeps it allocated.
        unsafe { self.0.as_ref() }
    }
}

impl<C> Clone for RecordRef<C> {
    fn clone(&self) -> Self {
        // Relaxed: whoever has a count may pass one on. It cannot overflow: each count is held by an index, or by an
        // entry of a working set or queue that takes more than its share of the address space.
        self.references.fetch_add(1, Ordering::Relaxed);
        RecordRef(self.0)
    }
}

impl<C> Drop for RecordRef<C> {
    fn drop(&mut self) {
        // Release: uses by this count come before; pairs with the load of the last one.
        if self.references.fetch_sub(1, Ordering::Release) == 1 {
            // A load and no fence, as ThreadSanitizer does not model fences.
            self.references.load(Ordering::Acquire);
            // SAFETY: the last count is gone, so nobody else has access; it came from a box.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}

/// Bytes of a small value, which may begin in one line of the cache and end in the next.
const SMALL_VALUE: usize = 48;

/// No address of a version: those are aligned.
const SEALED: usize = 1;

/// What a chain begins with.
pub(crate) enum Head<'g, C> {
    /// No version: the key was never committed.
    Empty,
    /// The record is dead; look the key up again.
    Sealed,
    Version(&'g Version<C>),
}

/// What trimming has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Residue {
    /// At most the newest version.
    Newest,
    /// More than the newest, for live snapshots; or a tombstone that some snapshot is older than.
    Needed,
    /// Nothing that anyone can see: the record was sealed and must leave the indexes.
    Sealed,
    /// Somebody else trims this chain, or it has no committed version while one is being decided.
    Busy,
}

impl<C> Record<C> {
    pub fn new(key: &[u8], split_order: u64) -> Self {
        Record {
            next: AtomicUsize::new(0),
            split_order,
            head: AtomicPtr::new(ptr::null_mut()),
            key: KeyBytes::new(key),
            ordered: AtomicBool::new(false),
            trimming: AtomicBool::new(false),
            queued: AtomicU8::new(0),
            references: AtomicU32::new(1),
            newest_value: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// A count of its own for a record found under a guard.
    pub fn share(&self, _guard: &Guard) -> RecordRef<C> {
        // Relaxed: the count is above zero while the guard lives (invariant 2).
        self.references.fetch_add(1, Ordering::Relaxed);
        RecordRef(NonNull::from(self))
    }

    pub fn key(&self) -> &[u8] {
        self.key.as_slice()
    }

    pub fn head<'g>(&'g self, _guard: &'g Guard) -> Head<'g, C> {
        // Acquire: pairs with the release half of `swap_head`, which publishes the version.
        let head = self.head.load(Ordering::Acquire);
        if head.addr() == SEALED {
            return Head::Sealed;
        }
        // SAFETY: invariant 1: it is reached under the guard.
        match unsafe { head.as_ref() } {
            Some(version) => Head::Version(version),
            None => Head::Empty,
        }
    }

    pub fn is_sealed(&self) -> bool {
        // Acquire: as in `head`.
        self.head.load(Ordering::Acquire).addr() == SEALED
    }

    /// Asks for the record itself, in the cache.
    pub fn prefetch(&self) {
        prefetch(self);
    }

    /// Asks for the newest version and its value, when the record is there. The two loads overlap.
    pub fn prefetch_newest(&self) {
        // Relaxed: nothing is read through either.
        Version::prefetch(self.head.load(Ordering::Relaxed));
        let value = self.newest_value.load(Ordering::Relaxed);
        prefetch(value);
        prefetch(value.wrapping_byte_add(SMALL_VALUE - 1));
    }

    /// Notes where the value of the newest version begins.
    pub(super) fn hint_value(&self, location: *const ()) {
        self.newest_value.store(location.cast_mut(), Ordering::Relaxed);
    }

    pub(super) fn swap_head(&self, from: *const Version<C>, to: *const Version<C>) -> bool {
        // Release publishes `to` for `head`; acquire, because what `from` leads to may be retired next; SeqCst: a
        // committer looks at what is held afterwards, and `Gate::entered` stands between the two of a preparer.
        self.head.compare_exchange(from.cast_mut(), to.cast_mut(), Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }
}

impl<C: Chunk> Record<C> {
    /// Gives a record without versions a committed one. False: it has one already.
    pub fn restore(&self, value: VersionValue<C>, version: u64, tally: &Tally) -> bool {
        let (charge, location) = (value.bytes(), value.location());
        let restored = Block::new(Version::restored(value, version, charge)).into_raw();
        if !self.swap_head(ptr::null(), restored.as_ptr()) {
            // SAFETY: it was not published, this is its only owner.
            drop(unsafe { Block::from_raw(restored) });
            return false;
        }
        self.hint_value(location);
        tally.installed(charge);
        true
    }
}

impl<C: Send + Sync + 'static> Record<C> {
    /// Unlinks every version that no live snapshot can see, and seals the record where nothing remains to be seen.
    pub fn trim(&self, live: &LiveSnapshots, owner: &Owner<'_, C>) -> Residue {
        // Acquire pairs with the release below: one trimmer sees the links of the one before.
        if self.trimming.swap(true, Ordering::Acquire) {
            return Residue::Busy;
        }
        fail_point!(TrimBegun);
        let residue = self.trim_alone(live, owner);
        fail_point!(BeforeTrimEnded);
        self.trimming.store(false, Ordering::Release);
        residue
    }

    fn trim_alone(&self, live: &LiveSnapshots, owner: &Owner<'_, C>) -> Residue {
        let guard = owner.guard;
        let head = loop {
            match self.head(guard) {
                Head::Empty => return self.seal(ptr::null(), owner),
                Head::Sealed => return Residue::Newest,
                // Its owner may have gone when others were still above it.
                Head::Version(version) if version.is_left_aborted() => {
                    let older = version.older(guard).map_or(ptr::null(), ptr::from_ref);
                    if self.swap_head(version, older) {
                        // SAFETY: invariant 4: the swap has unlinked it.
                        unsafe { owner.retire(version) };
                    }
                }
                Head::Version(version) => break version,
            }
        };
        // What is above the newest committed version is not the trimmer's (invariant 3).
        let mut next = Some(head);
        let (newest, newest_number) = loop {
            match next.map(|version| (version, version.state(guard))) {
                Some((version, State::Committed(number))) => break (version, number),
                Some((version, _)) => next = version.older(guard),
                None => return Residue::Busy,
            }
        };

        let mut kept = 0;
        let mut keeper = newest;
        let mut newer_number = newest_number;
        let mut next = newest.older(guard);
        while let Some(version) = next {
            let number = match version.state(guard) {
                State::Committed(number) => number,
                State::Aborted => {
                    next = version.older(guard);
                    bypass(version, keeper, next, owner);
                    continue;
                }
                State::Certified(_) | State::Undecided(_) => return Residue::Busy,
            };
            next = version.older(guard);
            if live.needs(number, newer_number) {
                keeper = version;
                kept += 1;
            } else {
                unlink(version, keeper, next, owner);
            }
            newer_number = number;
        }

        if kept > 0 {
            Residue::Needed
        } else if newest.value().is_some() {
            Residue::Newest
        } else if newest_number <= live.floor() && ptr::eq(newest, head) {
            self.seal(newest, owner)
        } else {
            Residue::Needed
        }
    }

    /// Seals the record if its head is still `from`: a tombstone that every snapshot sees, or nothing at all.
    fn seal(&self, from: *const Version<C>, owner: &Owner<'_, C>) -> Residue {
        if !self.swap_head(from, ptr::without_provenance(SEALED)) {
            return Residue::Needed;
        }
        fail_point!(RecordSealed);
        // SAFETY: the pointer is null or was reached under the guard.
        if let Some(tombstone) = unsafe { from.as_ref() } {
            // SAFETY: invariant 4: the swap has unlinked it.
            unsafe { owner.retire(tombstone) };
        }
        Residue::Sealed
    }
}

/// Takes a version out from between `keeper` and `older`, and retires it then: not before, as who pins later must not
/// find it any more. The bytes that a newer value shares with it are the newer one's from now on.
fn unlink<C: Send + Sync + 'static>(
    version: &Version<C>,
    keeper: &Version<C>,
    older: Option<&Version<C>>,
    owner: &Owner<'_, C>,
) {
    keeper.inherit_low_watermark(version, owner.guard);
    // Relaxed: charges and flags are the trimmer's alone, and its flag orders one trimmer after the other.
    if keeper.extends_older.load(Ordering::Relaxed) {
        let charge = version.charge.swap(0, Ordering::Relaxed);
        keeper.charge.fetch_add(charge, Ordering::Relaxed);
        keeper.extends_older.store(version.extends_older.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    bypass(version, keeper, older, owner);
}

/// The same for one that was never committed: nothing is built on it.
fn bypass<C: Send + Sync + 'static>(
    version: &Version<C>,
    keeper: &Version<C>,
    older: Option<&Version<C>>,
    owner: &Owner<'_, C>,
) {
    // Release: pairs with the acquire in `Version::older`.
    keeper.older.store(older.map_or(ptr::null_mut(), |older| ptr::from_ref(older).cast_mut()), Ordering::Release);
    fail_point!(VersionUnlinked);
    // SAFETY: invariant 4: the one trimmer has unlinked it just now, and only this call retires it. Readers on it go on
    // by its own link, to versions that are retired later than they pinned.
    unsafe { owner.retire(version) };
}

impl<C> Drop for Record<C> {
    fn drop(&mut self) {
        // Relaxed, here and below: the last count is gone, and its release has been acquired.
        let mut next = self.head.load(Ordering::Relaxed);
        if next.addr() == SEALED {
            return;
        }
        while let Some(version) = NonNull::new(next) {
            // SAFETY: the last count is gone, so no thread and no index leads here (invariant 2), and each version of a
            // chain has one link to it.
            let version = unsafe { Block::from_raw(version) };
            next = version.older.load(Ordering::Relaxed);
        }
    }
}
