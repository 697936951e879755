//! The order index: a skip list of all records by key, for scans.
//!
//! crossbeam-skiplist 0.1.3 is used only in the ways that hold up under concurrency: an entry is inserted once
//! (`get_or_insert`) and never replaced, removed as an entry and never by key, and walked by `lower_bound`,
//! `upper_bound`, `next` and `prev`; never by its ranges, which leak.

use std::borrow::Borrow;
use std::cmp::Ordering as Compared;
use std::marker::PhantomData;
use std::ops::{Bound, ControlFlow};
use std::ptr;

use crossbeam_epoch::{Collector, Guard};
use crossbeam_skiplist::base::SkipList;

use super::prefetch;
use super::record::{Record, RecordRef};
use crate::stm::options::Direction;
use crate::stm::sync::uncontended::AtomicU64;
use crate::stm::sync::{Ordering, fence, foreign};

pub(crate) struct OrderIndex<C: Send + Sync + 'static> {
    list: SkipList<OrderKey<C>, Ahead>,
}

/// How many nodes ahead a walk asks for one: as its first nodes are still waited for one by one, and when it is under way.
const NEAR: usize = 4;
const FAR: usize = 16;

/// In a node, where those stand that are [`NEAR`] and [`FAR`] nodes further on, or were when a walk came along last: hints
/// for the cache, never followed. A list is walked from one node to the next, each of which would be waited for; with
/// these the waits overlap.
///
/// Each half is a distance in units of 16 bytes, which nodes are aligned to, mostly.
#[derive(Default)]
struct Ahead(AtomicU64);

impl Ahead {
    /// Asks for the nodes that are ahead. Their keys and first links may stand in two lines.
    fn prefetch(&self) {
        let hint = self.0.load(Ordering::Relaxed) as i64;
        for distance in [i64::from(hint as i32), hint >> 32] {
            let node = ptr::from_ref(self).cast::<u8>().wrapping_offset((distance << 4) as isize);
            prefetch(node);
            prefetch(node.wrapping_add(NODE_HEAD));
        }
    }

    /// Notes the nodes that are ahead, by what stands first in them.
    fn note(&self, near: &Ahead, far: &Ahead) {
        let distance = |node: &Ahead| (ptr::from_ref(node).addr() as i64 - ptr::from_ref(self).addr() as i64) >> 4;
        // One that is too far for its half leads anywhere.
        let hint = (distance(far) << 32 | distance(near) & i64::from(u32::MAX)) as u64;
        // Hot nodes are written once, and stay in the caches of all.
        if self.0.load(Ordering::Relaxed) != hint {
            self.0.store(hint, Ordering::Relaxed);
        }
    }
}

/// Bytes of a node before its links.
const NODE_HEAD: usize = size_of::<Ahead>() + size_of::<OrderKey<u64>>() + size_of::<usize>();

/// Keeps its record alive.
struct OrderKey<C> {
    probe: Probe<C>,
}

/// A key to compare by. It has the first 16 bytes at hand, as numbers: most comparisons need no look at the record, and
/// the nodes of the list stay small.
struct Probe<C> {
    beginning: (u64, u64),
    /// Address of a record, or of a borrowed key with [`BORROWED`].
    source: *const (),
    record: PhantomData<RecordRef<C>>,
}

const BORROWED: usize = 1;

// SAFETY: what the pointer leads to may be read on any thread: the constant key of a record, or a borrowed key.
unsafe impl<C: Send + Sync> Send for Probe<C> {}
// SAFETY: as above.
unsafe impl<C: Send + Sync> Sync for Probe<C> {}

impl<C> Probe<C> {
    fn new(key: &[u8], source: *const ()) -> Self {
        let mut beginning = [[0; 8]; 2];
        let len = key.len().min(16);
        beginning.as_flattened_mut()[..len].copy_from_slice(&key[..len]);
        let [first, second] = beginning.map(u64::from_be_bytes);
        Probe { beginning: (first, second), source, record: PhantomData }
    }

    /// Must not be used when the key is gone: see [`Probe::key`].
    fn borrowed(key: &&[u8]) -> Self {
        Probe::new(key, ptr::from_ref(key).cast::<()>().map_addr(|address| address | BORROWED))
    }

    fn key(&self) -> &[u8] {
        if self.source.addr() & BORROWED == 0 {
            // SAFETY: such a probe lives inside an `OrderKey`, which owns a count of the record.
            unsafe { &*self.source.cast::<Record<C>>() }.key()
        } else {
            let key = self.source.map_addr(|address| address & !BORROWED).cast::<&[u8]>();
            // SAFETY: such a probe lives in a function of this file that has borrowed the key.
            unsafe { *key }
        }
    }
}

impl<C> OrderKey<C> {
    fn new(record: RecordRef<C>) -> Self {
        let key = record.key();
        let source: *const () = ptr::from_ref(&*record).cast();
        let probe = Probe::new(key, source);
        _ = record.into_raw();
        OrderKey { probe }
    }

    fn record(&self) -> &Record<C> {
        // SAFETY: it owns a count.
        unsafe { &*self.probe.source.cast::<Record<C>>() }
    }
}

impl<C> Drop for OrderKey<C> {
    fn drop(&mut self) {
        // SAFETY: the count that `new` has taken over.
        drop(unsafe { RecordRef::from_raw(self.probe.source.cast::<Record<C>>()) });
    }
}

impl<C> Ord for Probe<C> {
    fn cmp(&self, other: &Self) -> Compared {
        // Padding with zeros keeps the order where the beginnings differ; where they do not, the whole keys decide.
        self.beginning.cmp(&other.beginning).then_with(|| self.key().cmp(other.key()))
    }
}

impl<C> PartialOrd for Probe<C> {
    fn partial_cmp(&self, other: &Self) -> Option<Compared> {
        Some(self.cmp(other))
    }
}

impl<C> PartialEq for Probe<C> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Compared::Equal
    }
}

impl<C> Eq for Probe<C> {}

impl<C> Borrow<Probe<C>> for OrderKey<C> {
    fn borrow(&self) -> &Probe<C> {
        &self.probe
    }
}

impl<C> Ord for OrderKey<C> {
    fn cmp(&self, other: &Self) -> Compared {
        self.probe.cmp(&other.probe)
    }
}

impl<C> PartialOrd for OrderKey<C> {
    fn partial_cmp(&self, other: &Self) -> Option<Compared> {
        Some(self.cmp(other))
    }
}

impl<C> PartialEq for OrderKey<C> {
    fn eq(&self, other: &Self) -> bool {
        self.probe == other.probe
    }
}

impl<C> Eq for OrderKey<C> {}

impl<C: Send + Sync + 'static> OrderIndex<C> {
    pub fn new(collector: Collector) -> Self {
        OrderIndex { list: SkipList::new(collector) }
    }

    /// Makes sure that the record is in the list. False: it is sealed, look the key up again.
    #[inline]
    pub fn link(&self, record: &Record<C>, guard: &Guard) -> bool {
        // Acquire: pairs with the release in `link_new`; who sees it scans with the record in the list.
        record.ordered.load(Ordering::Acquire) || self.link_new(record, guard)
    }

    #[inline(never)]
    fn link_new(&self, record: &Record<C>, guard: &Guard) -> bool {
        loop {
            foreign::publish();
            let entry = self.list.get_or_insert(OrderKey::new(record.share(guard)), Ahead::default(), guard);
            let holder = entry.key().record();
            if ptr::eq(holder, record) {
                entry.release(guard);
                fail_point!(RecordInOrderIndex);
                // Invariant 6: linked, then looked for the seal.
                fence(Ordering::SeqCst);
                if record.is_sealed() {
                    self.remove(record, guard);
                    return false;
                }
                record.ordered.store(true, Ordering::Release);
                return true;
            }
            foreign::found();
            // The hash index lets a key have one unsealed record at a time: theirs is dead, or ours is.
            if holder.is_sealed() {
                foreign::call();
                entry.remove(guard);
                fail_point!(OtherRemovedFromOrderIndex);
            }
            entry.release(guard);
            if record.is_sealed() {
                return false;
            }
        }
    }

    /// Takes a sealed record out, if it is in.
    pub fn remove(&self, record: &Record<C>, guard: &Guard) {
        // Invariant 6: sealed, then unlinked.
        fence(Ordering::SeqCst);
        foreign::call();
        if let Some(entry) = self.list.get(&Probe::borrowed(&record.key()), guard)
            && ptr::eq(entry.key().record(), record)
        {
            fail_point!(BeforeRemovedFromOrderIndex);
            foreign::call();
            entry.remove();
        }
    }

    /// Passes the records between two bounds to `visit`, in the given direction, until it has had enough.
    pub fn walk<'g>(
        &'g self,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
        guard: &'g Guard,
        visit: impl FnMut(&'g Record<C>) -> ControlFlow<()>,
    ) {
        let (start, end) = bounds;
        let start = start.as_ref().map(Probe::borrowed);
        let end = end.as_ref().map(Probe::borrowed);
        match direction {
            Direction::Forward => self.walk_forward(start.as_ref(), end.as_ref(), guard, visit),
            Direction::Reverse => self.walk_back(start.as_ref(), end.as_ref(), guard, visit),
        }
    }

    #[inline]
    fn walk_forward<'g>(
        &'g self,
        start: Bound<&Probe<C>>,
        end: Bound<&Probe<C>>,
        guard: &'g Guard,
        mut visit: impl FnMut(&'g Record<C>) -> ControlFlow<()>,
    ) {
        foreign::call();
        let first = match start {
            Bound::Unbounded => self.list.front(guard),
            start => self.list.lower_bound(start, guard),
        };
        let Some(mut entry) = first else { return };
        // Those that were passed last, in a ring.
        let mut passed: [Option<&Ahead>; FAR] = [None; FAR];
        let mut turn = 0;
        loop {
            let (key, ahead) = (entry.key(), entry.value());
            ahead.prefetch();
            if let (Some(behind), Some(near)) = (passed[turn].replace(ahead), passed[(turn + NEAR) % FAR]) {
                behind.note(near, ahead);
            }
            turn = (turn + 1) % FAR;
            let within = match end {
                Bound::Included(end) => key.probe <= *end,
                Bound::Excluded(end) => key.probe < *end,
                Bound::Unbounded => true,
            };
            foreign::found();
            if !within || visit(key.record()).is_break() {
                return;
            }
            foreign::call();
            if !entry.move_next() {
                return;
            }
        }
    }

    /// Each step is a search.
    #[inline(never)]
    fn walk_back<'g>(
        &'g self,
        start: Bound<&Probe<C>>,
        end: Bound<&Probe<C>>,
        guard: &'g Guard,
        mut visit: impl FnMut(&'g Record<C>) -> ControlFlow<()>,
    ) {
        foreign::call();
        let mut next = match end {
            Bound::Unbounded => self.list.back(guard),
            end => self.list.upper_bound(end, guard),
        };
        while let Some(entry) = next {
            let key = entry.key();
            let within = match start {
                Bound::Included(start) => key.probe >= *start,
                Bound::Excluded(start) => key.probe > *start,
                Bound::Unbounded => true,
            };
            foreign::found();
            if !within || visit(key.record()).is_break() {
                return;
            }
            foreign::call();
            next = entry.prev();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stm::memory::HashIndex;

    #[test]
    fn walks_both_ways_from_any_bound() {
        let collector = Collector::new();
        let handle = collector.register();
        let guard = handle.pin();
        let (hashes, order) = (HashIndex::<u64>::new(), OrderIndex::new(collector.clone()));
        let keys: [&[u8]; 6] = [b"a", b"a\0", b"common beginning 1", b"common beginning 2", b"d", b"\xff"];
        for key in keys.iter().rev() {
            assert!(order.link(hashes.get_or_insert(hashes.hash(key), key, &guard), &guard));
        }
        let walk = |bounds, direction| -> Vec<Vec<u8>> {
            let mut keys = Vec::new();
            order.walk(bounds, direction, &guard, |record| {
                keys.push(record.key().to_vec());
                ControlFlow::Continue(())
            });
            keys
        };
        let everything = (Bound::Unbounded, Bound::Unbounded);
        assert_eq!(walk(everything, Direction::Forward), keys);
        assert_eq!(walk(everything, Direction::Reverse), keys.iter().rev().copied().collect::<Vec<_>>());
        assert_eq!(walk((Bound::Excluded(b"a"), Bound::Unbounded), Direction::Forward), keys[1..]);
        assert_eq!(walk((Bound::Unbounded, Bound::Excluded(b"a\0")), Direction::Reverse), keys[..1]);
        let between = (Bound::Included(&b"a\0"[..]), Bound::Included(&b"common beginning 1"[..]));
        assert_eq!(walk(between, Direction::Forward), keys[1..3]);
        assert_eq!(walk(between, Direction::Reverse), [keys[2], keys[1]]);
        let excluded = (Bound::Excluded(&b"a\0"[..]), Bound::Excluded(&b"common beginning 2"[..]));
        assert_eq!(walk(excluded, Direction::Forward), [keys[2]]);
        assert_eq!(walk(excluded, Direction::Reverse), [keys[2]]);
    }
}
