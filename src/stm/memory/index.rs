//! The hash index: point lookups, and the one authority on which record a key has.
//!
//! A split-ordered list (Shalev and Shavit, "Split-Ordered Lists: Lock-Free Extensible Hash Tables", JACM 53(3), 2006)
//! over Michael's lock-free list ("High Performance Dynamic Lock-Free Hash Tables and List-Based Sets", SPAA 2002):
//! one list of all records by the reversed bits of their hashes, into which buckets point; doubling the number of
//! buckets moves nothing. Buckets live inside the table's segments rather than in nodes of their own, which saves a
//! cache miss a lookup. A bucket is linked by the one thread that claims it; until it is linked the others start from
//! its parent, which is slower and needs no waiting.

use std::hash::BuildHasher;
use std::ptr;

use crossbeam_epoch::Guard;
use crossbeam_utils::CachePadded;

use super::prefetch;
use super::record::{Record, RecordRef, give_back};
use super::segments::Segments;
use crate::stm::sync::{self, AtomicU64, AtomicUsize, Ordering};

/// Low bits of a link: the node that holds the link is deleted; the link leads to a bucket.
const DELETED: usize = 1;
const BUCKET: usize = 2;
/// The end of the list: the link to no bucket.
const END: usize = BUCKET;

const FIRST_SEGMENT_BITS: u32 = if sync::MODELLED { 1 } else { 6 };
const SEGMENTS: usize = 40;

#[cfg(not(any(feature = "loom", feature = "shuttle")))]
type Hasher = foldhash::fast::RandomState;
/// A model checker repeats a run step by step, so it needs the same hashes each time.
#[cfg(any(feature = "loom", feature = "shuttle"))]
type Hasher = foldhash::fast::FixedState;

pub(crate) struct HashIndex<C> {
    buckets: Segments<Bucket, FIRST_SEGMENT_BITS, SEGMENTS>,
    /// Number of buckets in use, a power of two.
    bucket_count: AtomicUsize,
    records: CachePadded<AtomicUsize>,
    hasher: Hasher,
    /// The index owns one count of each record.
    owned: std::marker::PhantomData<RecordRef<C>>,
}

/// A place in the list that is never deleted.
#[derive(Default)]
struct Bucket {
    /// Split order (low bits 0) and state: 0 untouched, [`CLAIMED`], [`LINKED`].
    order: AtomicU64,
    next: AtomicUsize,
}

const CLAIMED: u64 = 1;
const LINKED: u64 = 2;

impl Bucket {
    fn split_order(&self) -> u64 {
        self.order.load(Ordering::Relaxed) & !(CLAIMED | LINKED)
    }
}

/// Where a search ended: `link` holds `next`, the first node that does not lie before what was looked for.
struct Position<'g, C> {
    link: &'g AtomicUsize,
    next: usize,
    found: Option<&'g Record<C>>,
}

impl<C> HashIndex<C> {
    pub fn new() -> Self {
        let index = HashIndex {
            buckets: Segments::new(),
            bucket_count: AtomicUsize::new(1 << FIRST_SEGMENT_BITS),
            records: CachePadded::new(AtomicUsize::new(0)),
            hasher: Hasher::default(),
            owned: std::marker::PhantomData,
        };
        let first = index.buckets.get(0);
        first.next.store(END, Ordering::Relaxed);
        first.order.store(LINKED, Ordering::Relaxed);
        index
    }

    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }

    /// Asks for the bucket of a hash, in the cache.
    pub fn prefetch(&self, hash: u64) {
        prefetch(self.buckets.get((hash as usize) & (self.bucket_count.load(Ordering::Relaxed) - 1)));
    }

    /// Asks for the record that stands behind the bucket of a hash, which is mostly the one of the key, when the bucket is
    /// there.
    pub fn prefetch_record(&self, hash: u64) {
        let bucket = self.buckets.get((hash as usize) & (self.bucket_count.load(Ordering::Relaxed) - 1));
        // Relaxed: nothing is read through it.
        let link = bucket.next.load(Ordering::Relaxed);
        if link & BUCKET == 0 {
            prefetch(ptr::without_provenance::<Record<C>>(link & !DELETED));
        }
    }

    /// The nearest linked bucket at or before the place of `hash`.
    #[inline]
    fn bucket_for<'g>(&'g self, hash: u64, guard: &'g Guard) -> &'g Bucket {
        // Relaxed: a stale number of buckets only lengthens the way.
        let number = (hash as usize) & (self.bucket_count.load(Ordering::Relaxed) - 1);
        let bucket = self.buckets.get(number);
        // Acquire: as in `linked_bucket`.
        if bucket.order.load(Ordering::Acquire) & LINKED != 0 { bucket } else { self.linked_bucket(number, guard) }
    }

    /// A bucket, which is linked if nobody else does, or the nearest linked one before it.
    #[cold]
    fn linked_bucket<'g>(&'g self, mut number: usize, guard: &'g Guard) -> &'g Bucket {
        loop {
            let bucket = self.buckets.get(number);
            // Acquire: pairs with the release of LINKED: who sees it sees the bucket in the list.
            let state = bucket.order.load(Ordering::Acquire);
            if state & LINKED != 0 {
                return bucket;
            }
            // The parent: the bucket from which this one was split off.
            let parent = number & !(1 << number.ilog2());
            if state == 0 && bucket.order.compare_exchange(0, CLAIMED, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                self.link_bucket(bucket, number, guard);
                return bucket;
            }
            number = parent;
        }
    }

    fn link_bucket<'g>(&'g self, bucket: &'g Bucket, number: usize, guard: &'g Guard) {
        let order = (number as u64).reverse_bits();
        fail_point!(BucketClaimed);
        bucket.order.store(order | CLAIMED, Ordering::Relaxed);
        let parent = self.bucket_for((number & !(1 << number.ilog2())) as u64, guard);
        let this = ptr::from_ref(bucket).expose_provenance() | BUCKET;
        loop {
            let position = self.search(parent, order, &[], guard);
            bucket.next.store(position.next, Ordering::Relaxed);
            // AcqRel: release publishes the bucket's fields, for the acquire loads of links; acquire, see
            // `get_or_insert`.
            if position.link.compare_exchange(position.next, this, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                break;
            }
        }
        fail_point!(BucketLinked);
        // Release: pairs with the acquire in `bucket_for`.
        bucket.order.store(order | LINKED, Ordering::Release);
    }

    fn bucket_behind(&self, link: usize) -> Option<&Bucket> {
        // SAFETY: links with this bit lead to buckets of our segments or are END; both hold while the index lives.
        unsafe { ptr::with_exposed_provenance::<Bucket>(link & !(DELETED | BUCKET)).as_ref() }
    }

    fn record_behind<'g>(&'g self, link: usize, _guard: &'g Guard) -> &'g Record<C> {
        // SAFETY: links without the bucket bit lead to records, which stay while the guard does (invariants 1 and 2).
        unsafe { &*ptr::with_exposed_provenance::<Record<C>>(link & !DELETED) }
    }

    /// The live record of `key`.
    pub fn get<'g>(&'g self, hash: u64, key: &[u8], guard: &'g Guard) -> Option<&'g Record<C>> {
        let order = record_order(hash);
        // Acquire on links: pairs with the release that published the node behind.
        let mut link = self.bucket_for(hash, guard).next.load(Ordering::Acquire);
        loop {
            if link & BUCKET != 0 {
                let bucket = self.bucket_behind(link)?;
                if bucket.split_order() > order {
                    return None;
                }
                link = bucket.next.load(Ordering::Acquire);
                continue;
            }
            let record = self.record_behind(link, guard);
            link = record.next.load(Ordering::Acquire);
            if record.split_order > order {
                return None;
            }
            if record.split_order == order && link & DELETED == 0 && record.key() == key {
                return Some(record);
            }
        }
    }

    /// Finds the live record of `key`, or the place behind all nodes of this order. Unlinks deleted records on its way.
    fn search<'g>(&'g self, from: &'g Bucket, order: u64, key: &[u8], guard: &'g Guard) -> Position<'g, C> {
        'restart: loop {
            let mut link = &from.next;
            let mut next = link.load(Ordering::Acquire);
            loop {
                if next & BUCKET != 0 {
                    match self.bucket_behind(next) {
                        Some(bucket) if bucket.split_order() <= order => {
                            link = &bucket.next;
                            next = link.load(Ordering::Acquire);
                            continue;
                        }
                        _ => return Position { link, next, found: None },
                    }
                }
                let record = self.record_behind(next, guard);
                let after = record.next.load(Ordering::Acquire);
                if after & DELETED != 0 {
                    let unlinked = link.compare_exchange(next, after & !DELETED, Ordering::AcqRel, Ordering::Relaxed);
                    if unlinked.is_err() {
                        continue 'restart;
                    }
                    fail_point!(UnlinkedFromHashIndex);
                    // SAFETY: the swap has unlinked it, which happens once; the index had a count.
                    unsafe { give_back(record, guard) };
                    next = after & !DELETED;
                    continue;
                }
                if record.split_order > order {
                    return Position { link, next, found: None };
                }
                if record.split_order == order && record.key() == key {
                    return Position { link, next, found: Some(record) };
                }
                link = &record.next;
                next = after;
            }
        }
    }

    /// The live record of `key`, made if there is none.
    pub fn get_or_insert<'g>(&'g self, hash: u64, key: &[u8], guard: &'g Guard) -> &'g Record<C> {
        if let Some(record) = self.get(hash, key, guard) {
            return record;
        }
        let order = record_order(hash);
        let new = RecordRef::new(Record::new(key, order)).into_raw();
        fail_point!(RecordMade);
        let from = self.bucket_for(hash, guard);
        // Counted before it can be found, and so before it can be removed.
        let records = self.records.fetch_add(1, Ordering::Relaxed) + 1;
        loop {
            let position = self.search(from, order, key, guard);
            if let Some(record) = position.found {
                self.records.fetch_sub(1, Ordering::Relaxed);
                // SAFETY: it was not published; this is its only count.
                drop(unsafe { RecordRef::from_raw(new) });
                return record;
            }
            // SAFETY: it lives: its count is ours, or the index's once it is linked.
            let record = unsafe { &*new };
            record.next.store(position.next, Ordering::Relaxed);
            // AcqRel: release publishes the record, for the acquire loads of links. Acquire, because the link may have
            // led to other records of the key since it was loaded, and back to where it does: they must be seen sealed.
            // SeqCst: as in `Record::swap_head`, for preparers that look for the record.
            let this = new.expose_provenance();
            if position.link.compare_exchange(position.next, this, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                fail_point!(RecordInHashIndex);
                let buckets = self.bucket_count.load(Ordering::Relaxed);
                if records * 2 > buckets && buckets < 1 << (FIRST_SEGMENT_BITS as usize + SEGMENTS - 2) {
                    fail_point!(BeforeMoreBuckets);
                    // Somebody else may double it, too; once is enough.
                    _ = self.bucket_count.compare_exchange(buckets, buckets * 2, Ordering::Relaxed, Ordering::Relaxed);
                }
                return record;
            }
        }
    }

    /// Takes a sealed record out; it is unlinked when this returns, whoever did it.
    pub fn remove(&self, record: &Record<C>, guard: &Guard) {
        let mut next = record.next.load(Ordering::Relaxed);
        while next & DELETED == 0 {
            // Release: as for every link; nothing is published with the mark itself.
            match record.next.compare_exchange(next, next | DELETED, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    self.records.fetch_sub(1, Ordering::Relaxed);
                    fail_point!(RemovalMarked);
                    break;
                }
                Err(now) => next = now,
            }
        }
        let hash = (record.split_order & !1).reverse_bits();
        self.search(self.bucket_for(hash, guard), record.split_order, record.key(), guard);
    }
}

/// Records lie behind the bucket of the same order. The lowest bit is what the reversed hash loses for that, so keys
/// may share an order also without sharing a hash; the search compares keys.
fn record_order(hash: u64) -> u64 {
    hash.reverse_bits() | 1
}

impl<C> Drop for HashIndex<C> {
    fn drop(&mut self) {
        let mut link = self.buckets.get(0).next.load(Ordering::Relaxed);
        loop {
            if link & BUCKET != 0 {
                match self.bucket_behind(link) {
                    Some(bucket) => link = bucket.next.load(Ordering::Relaxed),
                    None => break,
                }
                continue;
            }
            let record = ptr::with_exposed_provenance::<Record<C>>(link & !DELETED);
            // SAFETY: nobody else is left; a record that is still linked still has the index's count.
            let record = unsafe { RecordRef::from_raw(record) };
            link = record.next.load(Ordering::Relaxed) & !DELETED;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_epoch::Collector;

    #[test]
    fn finds_what_was_inserted_while_it_grows() {
        let collector = Collector::new();
        let handle = collector.register();
        let index = HashIndex::<u64>::new();
        for number in 0..10_000_u32 {
            let key = number.to_be_bytes();
            let guard = handle.pin();
            let record = index.get_or_insert(index.hash(&key), &key, &guard);
            assert!(ptr::eq(record, index.get_or_insert(index.hash(&key), &key, &guard)));
        }
        assert_eq!(index.len(), 10_000);
        for number in (0..10_000_u32).step_by(3) {
            let key = number.to_be_bytes();
            let guard = handle.pin();
            let record = index.get(index.hash(&key), &key, &guard).unwrap();
            index.remove(record, &guard);
            index.remove(record, &guard);
        }
        let guard = handle.pin();
        for number in 0..10_000_u32 {
            let key = number.to_be_bytes();
            assert_eq!(index.get(index.hash(&key), &key, &guard).is_none(), number % 3 == 0, "{number}");
        }
        assert_eq!(index.len(), 10_000 - 3_334);
    }

    #[test]
    fn keys_of_one_hash_are_told_apart() {
        let collector = Collector::new();
        let handle = collector.register();
        let guard = handle.pin();
        let index = HashIndex::<u64>::new();
        let records: Vec<_> = [b"a", b"b", b"c"].map(|key| ptr::from_ref(index.get_or_insert(7, key, &guard))).into();
        index.remove(index.get(7, b"b", &guard).unwrap(), &guard);
        assert!(index.get(7, b"b", &guard).is_none());
        assert!(ptr::eq(index.get(7, b"c", &guard).unwrap(), records[2]));
        assert!(!ptr::eq(index.get_or_insert(7, b"b", &guard), records[1]));
    }

    #[test]
    fn threads_agree_on_one_record_a_key() {
        let collector = Collector::new();
        let index = HashIndex::<u64>::new();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (collector, index) = (&collector, &index);
                scope.spawn(move || {
                    let handle = collector.register();
                    for round in 0..20_000_u64 {
                        let guard = handle.pin();
                        let key = (round * (thread + 1) % 512).to_be_bytes();
                        let record = index.get_or_insert(index.hash(&key), &key, &guard);
                        assert_eq!(record.key(), key);
                        if round % 5 == thread {
                            index.remove(record, &guard);
                        }
                    }
                });
            }
        });
        let handle = collector.register();
        let guard = handle.pin();
        let found = (0..512_u64).filter(|key| {
            let key = key.to_be_bytes();
            index.get(index.hash(&key), &key, &guard).is_some()
        });
        assert_eq!(found.count(), index.len());
    }
}
