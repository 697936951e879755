//! What prepared transactions hold: keys and ranges where nobody else may write before they are decided.
//!
//! A committer looks here after it has installed its versions and before it is ready. A preparer enters here what it
//! holds, and then looks for versions. Between the two steps of each stands a sequentially consistent operation on both
//! sides, so that one of them sees the other: a committer that has missed a hold is met by its preparer, which aborts it
//! or lets it pass and validates against it.
//!
//! Where nothing is held, that is one load for a committer. Where something is, a filter by hash spares it most
//! searches.

use std::ops::Bound;
use std::sync::Arc;

use crossbeam_epoch::{Collector, Guard};
use crossbeam_skiplist::base::SkipList;
use crossbeam_utils::CachePadded;

use super::key::{KeyBytes, KeyRange};
use super::prepared::PreparedTransaction;
use super::sync::{self, AtomicU32, AtomicUsize, Ordering, fence, foreign};

/// A power of two.
const FILTER: usize = if sync::MODELLED { 2 } else { 4096 };

/// What a transaction does with what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

pub(crate) struct Holds<C: 'static> {
    gate: CachePadded<Gate>,
    /// By key and number of the transaction; entries are inserted once and removed.
    keys: SkipList<(KeyBytes, u64), HeldKey<C>>,
    /// By number of the transaction and place in it.
    ranges: SkipList<(u64, usize), HeldRange<C>>,
    /// Held keys, by hash.
    filter: Box<[AtomicU32; FILTER]>,
    range_count: AtomicUsize,
}

struct HeldKey<C> {
    access: Access,
    holder: Arc<PreparedTransaction<C>>,
}

struct HeldRange<C> {
    range: KeyRange,
    holder: Arc<PreparedTransaction<C>>,
}

/// How many transactions hold something: the two sides of the race between preparers and committers.
pub(crate) struct Gate(AtomicUsize);

impl Gate {
    pub fn new() -> Self {
        Gate(AtomicUsize::new(0))
    }

    /// The preparer's first step: before it enters what it holds.
    pub fn enter(&self) {
        // SeqCst: pairs with the load in `is_open`.
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// The preparer's second step: after it has entered everything, before it looks for versions.
    pub fn entered(&self) {
        // Pairs with the operations in `is_open`.
        fence(Ordering::SeqCst);
    }

    pub fn leave(&self) {
        // Release: who sees less has nothing to look for.
        self.0.fetch_sub(1, Ordering::Release);
    }

    /// The committer's step between its last install and its look at what is held: whether there is anything to look
    /// for.
    pub fn is_open(&self) -> bool {
        // SeqCst: the swap that installs is, too. Where nothing is found, whoever enters later sees what is installed.
        let open = self.0.load(Ordering::SeqCst) != 0;
        if open {
            // The same for what is entered behind the count: pairs with the fence in `entered`.
            fence(Ordering::SeqCst);
        }
        open
    }
}

impl<C: Send + Sync + 'static> Holds<C> {
    pub fn new(collector: &Collector) -> Self {
        Holds {
            gate: CachePadded::new(Gate::new()),
            keys: SkipList::new(collector.clone()),
            ranges: SkipList::new(collector.clone()),
            filter: Box::new(std::array::from_fn(|_| AtomicU32::new(0))),
            range_count: AtomicUsize::new(0),
        }
    }

    /// Whether anything may be held. To be asked after the last install: see the head of this file.
    pub fn any(&self) -> bool {
        self.gate.is_open()
    }

    /// Enters all that a transaction holds. What is installed later than this is installed by somebody who finds it.
    pub fn enter<'k>(
        &self,
        holder: &Arc<PreparedTransaction<C>>,
        keys: impl Iterator<Item = (u64, &'k KeyBytes, Access)>,
        ranges: &[KeyRange],
        guard: &Guard,
    ) {
        self.gate.enter();
        fail_point!(HoldCounted);
        for (hash, key, access) in keys {
            // Relaxed, here and below: ordered by the gate.
            self.filter[hash as usize % FILTER].fetch_add(1, Ordering::Relaxed);
            let held = HeldKey { access, holder: Arc::clone(holder) };
            foreign::publish();
            self.keys.get_or_insert((key.clone(), holder.number), held, guard).release(guard);
            fail_point!(HoldEnteredOne);
        }
        for (place, range) in ranges.iter().enumerate() {
            self.range_count.fetch_add(1, Ordering::Relaxed);
            let held = HeldRange { range: range.clone(), holder: Arc::clone(holder) };
            foreign::publish();
            self.ranges.get_or_insert((holder.number, place), held, guard).release(guard);
        }
        self.gate.entered();
        fail_point!(HoldEntered);
    }

    /// Takes out one key of a transaction. Whoever finds it decided may.
    pub fn leave_key(&self, number: u64, hash: u64, key: &KeyBytes, guard: &Guard) {
        foreign::call();
        if let Some(entry) = self.keys.get(&(key.clone(), number), guard)
            && entry.remove()
        {
            self.filter[hash as usize % FILTER].fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub fn leave_ranges(&self, number: u64, guard: &Guard) {
        foreign::call();
        let mut next = self.ranges.lower_bound(Bound::Included(&(number, 0)), guard);
        while let Some(entry) = next
            && entry.key().0 == number
        {
            next = entry.next();
            if entry.remove() {
                self.range_count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// To be called once, when all that the transaction held was taken out.
    pub fn left(&self) {
        self.gate.leave();
    }

    /// The first transaction that holds a key against an access by the transaction `own`, as far as `binds` says that
    /// it still does. Reads of two do not exclude each other.
    pub fn holder(
        &self,
        own: u64,
        hash: u64,
        key: &[u8],
        access: Access,
        guard: &Guard,
        mut binds: impl FnMut(&PreparedTransaction<C>) -> bool,
    ) -> Option<Arc<PreparedTransaction<C>>> {
        let mut excludes = |held: Access, holder: &Arc<PreparedTransaction<C>>| {
            let excluded = held == Access::Write || access == Access::Write;
            excluded && holder.number != own && binds(holder)
        };
        if self.filter[hash as usize % FILTER].load(Ordering::Relaxed) > 0 {
            foreign::call();
            let mut next = self.keys.lower_bound(Bound::Included(&(KeyBytes::new(key), 0)), guard);
            while let Some(entry) = next
                && entry.key().0.as_slice() == key
            {
                foreign::found();
                let HeldKey { access, holder } = entry.value();
                if excludes(*access, holder) {
                    return Some(Arc::clone(holder));
                }
                foreign::call();
                next = entry.next();
            }
        }
        if access == Access::Write && self.range_count.load(Ordering::Relaxed) > 0 {
            foreign::call();
            let mut next = self.ranges.front(guard);
            while let Some(entry) = next {
                foreign::found();
                let HeldRange { range, holder } = entry.value();
                if range.contains(key) && excludes(Access::Read, holder) {
                    return Some(Arc::clone(holder));
                }
                foreign::call();
                next = entry.next();
            }
        }
        None
    }

    /// The first transaction that is going to write a key of a range, and that key.
    pub fn writer_in(
        &self,
        own: u64,
        range: &KeyRange,
        guard: &Guard,
        mut binds: impl FnMut(&PreparedTransaction<C>) -> bool,
    ) -> Option<(Vec<u8>, Arc<PreparedTransaction<C>>)> {
        let first = match &range.start {
            Bound::Included(key) | Bound::Excluded(key) => key.as_slice(),
            Bound::Unbounded => &[],
        };
        foreign::call();
        let mut next = self.keys.lower_bound(Bound::Included(&(KeyBytes::new(first), 0)), guard);
        while let Some(entry) = next
            && range.ends_at_or_after(entry.key().0.as_slice())
        {
            foreign::found();
            let (key, HeldKey { access, holder }) = (entry.key().0.as_slice(), entry.value());
            if *access == Access::Write && holder.number != own && range.contains(key) && binds(holder) {
                return Some((key.to_vec(), Arc::clone(holder)));
            }
            foreign::call();
            next = entry.next();
        }
        None
    }
}
