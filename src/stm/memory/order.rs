//! The order index: a skip list of all records by key, for scans.
//!
//! crossbeam-skiplist 0.1.3 is used only in the ways that hold up under concurrency: an entry is inserted once
//! (`get_or_insert`) and never replaced, removed as an entry and never by key, and walked by `lower_bound`,
//! `upper_bound`, `next` and `prev`; never by its ranges, which leak.

use std::borrow::Borrow;
use std::cmp::Ordering as Compared;
use std::ops::Bound;

use crossbeam_epoch::{Collector, Guard};
use crossbeam_skiplist::base::{Entry, SkipList};

use super::record::{Record, RecordRef};
use crate::stm::options::Direction;
use crate::stm::sync::{Ordering, fence};

pub(crate) struct OrderIndex<C: Send + Sync + 'static> {
    list: SkipList<OrderKey<C>, ()>,
}

/// Keeps its record alive, and a copy of the beginning of its key at hand: most comparisons need no look at the record.
struct OrderKey<C> {
    probe: Probe,
    record: RecordRef<C>,
}

/// A key to compare by: its first 16 bytes as a number, and the whole.
struct Probe {
    beginning: u128,
    key: *const [u8],
}

// SAFETY: the pointer leads to bytes that nobody changes: the key of the record beside it, or a borrowed key.
unsafe impl Send for Probe {}
// SAFETY: as above.
unsafe impl Sync for Probe {}

impl Probe {
    /// Must not be used when the key is gone: see [`Probe::key`].
    fn new(key: &[u8]) -> Self {
        let mut beginning = [0; 16];
        let len = key.len().min(16);
        beginning[..len].copy_from_slice(&key[..len]);
        Probe { beginning: u128::from_be_bytes(beginning), key }
    }

    fn key(&self) -> &[u8] {
        // SAFETY: a probe lives inside an `OrderKey`, whose record owns the bytes at a fixed address, or in a function
        // of this file that has borrowed them.
        unsafe { &*self.key }
    }
}

impl Ord for Probe {
    fn cmp(&self, other: &Self) -> Compared {
        // Padding with zeros keeps the order where the beginnings differ; where they do not, the whole keys decide.
        self.beginning.cmp(&other.beginning).then_with(|| self.key().cmp(other.key()))
    }
}

impl PartialOrd for Probe {
    fn partial_cmp(&self, other: &Self) -> Option<Compared> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Probe {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Compared::Equal
    }
}

impl Eq for Probe {}

impl<C> Borrow<Probe> for OrderKey<C> {
    fn borrow(&self) -> &Probe {
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
    pub fn link(&self, record: &Record<C>, guard: &Guard) -> bool {
        // Acquire: pairs with the release below; who sees it scans with the record in the list.
        if record.ordered.load(Ordering::Acquire) {
            return true;
        }
        loop {
            let key = OrderKey { probe: Probe::new(record.key()), record: record.share(guard) };
            let entry = self.list.get_or_insert(key, (), guard);
            let holder = entry.key().record.clone();
            if std::ptr::eq(&*holder, record) {
                entry.release(guard);
                // Invariant 6: linked, then looked for the seal.
                fence(Ordering::SeqCst);
                if record.is_sealed() {
                    self.remove(record, guard);
                    return false;
                }
                record.ordered.store(true, Ordering::Release);
                return true;
            }
            // The hash index lets a key have one unsealed record at a time: theirs is dead, or ours is.
            if holder.is_sealed() {
                entry.remove(guard);
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
        if let Some(entry) = self.list.get(&Probe::new(record.key()), guard)
            && std::ptr::eq(&*entry.key().record, record)
        {
            entry.remove();
        }
    }

    /// The records from a bound on, in the given direction.
    pub fn walk<'g>(
        &'g self,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
        guard: &'g Guard,
    ) -> Walk<'g, C> {
        let entry = match direction {
            Direction::Forward => match bounds.0 {
                Bound::Unbounded => self.list.front(guard),
                Bound::Included(key) => self.list.lower_bound(Bound::Included(&Probe::new(key)), guard),
                Bound::Excluded(key) => self.list.lower_bound(Bound::Excluded(&Probe::new(key)), guard),
            },
            Direction::Reverse => match bounds.1 {
                Bound::Unbounded => self.list.back(guard),
                Bound::Included(key) => self.list.upper_bound(Bound::Included(&Probe::new(key)), guard),
                Bound::Excluded(key) => self.list.upper_bound(Bound::Excluded(&Probe::new(key)), guard),
            },
        };
        Walk { entry, direction }
    }
}

/// A walk over records; unlike the list's own iterators it has no end bound.
pub(crate) struct Walk<'g, C: Send + Sync + 'static> {
    entry: Option<Entry<'g, 'g, OrderKey<C>, ()>>,
    direction: Direction,
}

impl<'g, C: Send + Sync + 'static> Iterator for Walk<'g, C> {
    type Item = &'g Record<C>;

    fn next(&mut self) -> Option<&'g Record<C>> {
        let entry = self.entry.take()?;
        self.entry = match self.direction {
            Direction::Forward => entry.next(),
            Direction::Reverse => entry.prev(),
        };
        Some(&*entry.key().record)
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
            order.walk(bounds, direction, &guard).map(|record| record.key().to_vec()).collect()
        };
        let everything = (Bound::Unbounded, Bound::Unbounded);
        assert_eq!(walk(everything, Direction::Forward), keys);
        assert_eq!(walk(everything, Direction::Reverse), keys.iter().rev().copied().collect::<Vec<_>>());
        assert_eq!(walk((Bound::Excluded(b"a"), Bound::Unbounded), Direction::Forward), keys[1..]);
        assert_eq!(walk((Bound::Unbounded, Bound::Excluded(b"a\0")), Direction::Reverse), keys[..1]);
    }
}
