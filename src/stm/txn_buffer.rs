//! The transaction buffer: all records, by hash for points and by key for scans. Both lead to the same version chains.

use std::ops::{Bound, ControlFlow};

use crossbeam_epoch::{Collector, Guard};

use super::memory::{HashIndex, OrderIndex, Participant, Record, RecordRef};
use super::options::Direction;

pub(crate) struct TxnBuffer<C: Send + Sync + 'static> {
    hashes: HashIndex<C>,
    order: OrderIndex<C>,
    /// Frees what was unlinked. It is the database's own, and goes with it: nothing outlives the last handle.
    collector: Collector,
}

impl<C: Send + Sync + 'static> TxnBuffer<C> {
    pub fn new() -> Self {
        let collector = Collector::new();
        TxnBuffer { hashes: HashIndex::new(), order: OrderIndex::new(collector.clone()), collector }
    }

    pub fn participant(&self) -> Participant<C> {
        Participant::new(&self.collector)
    }

    pub fn collector(&self) -> Collector {
        self.collector.clone()
    }

    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hashes.hash(key)
    }

    /// Asks for what looking up a hash will touch first. The steps before the look-up take long enough for it to pay.
    pub fn prefetch(&self, hash: u64) {
        self.hashes.prefetch(hash);
    }

    /// Asks for the record of a hash, as far as it can be told from the bucket.
    pub fn prefetch_record(&self, hash: u64) {
        self.hashes.prefetch_record(hash);
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// The record of a key, if it has one.
    pub fn find<'g>(&'g self, hash: u64, key: &[u8], guard: &'g Guard) -> Option<&'g Record<C>> {
        self.hashes.get(hash, key, guard)
    }

    /// The record that a transaction has found earlier, for a writer, unless it is dead.
    pub fn known_record<'g>(&'g self, known: &RecordRef<C>, guard: &'g Guard) -> Option<&'g Record<C>> {
        known.live(guard).filter(|record| self.order.link(record, guard))
    }

    /// The record of a key for a writer: made if need be, and in both indexes.
    #[inline]
    pub fn record<'g>(&'g self, hash: u64, key: &[u8], guard: &'g Guard) -> &'g Record<C> {
        match self.hashes.get(hash, key, guard) {
            Some(record) if !record.is_sealed() && self.order.link(record, guard) => record,
            _ => self.make_record(hash, key, guard),
        }
    }

    #[inline(never)]
    fn make_record<'g>(&'g self, hash: u64, key: &[u8], guard: &'g Guard) -> &'g Record<C> {
        loop {
            let record = self.hashes.get_or_insert(hash, key, guard);
            if !record.is_sealed() && self.order.link(record, guard) {
                return record;
            }
            self.remove(record, guard);
        }
    }

    /// Takes a sealed record out of both indexes. Anyone who meets it may; doing it twice does no harm.
    pub fn remove(&self, record: &Record<C>, guard: &Guard) {
        debug_assert!(record.is_sealed());
        fail_point!(BeforeRemoved);
        self.hashes.remove(record, guard);
        fail_point!(RemovedFromHashIndex);
        self.order.remove(record, guard);
    }

    /// Passes the records between two bounds to `visit`, in the given direction, until it has had enough.
    pub fn walk<'g>(
        &'g self,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
        guard: &'g Guard,
        visit: impl FnMut(&'g Record<C>) -> ControlFlow<()>,
    ) {
        self.order.walk(bounds, direction, guard, visit);
    }
}
