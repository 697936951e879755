//! The floor for ranges: crossbeam's base skip list, whose nodes hold a cell that is swapped, without transactions.

use std::sync::Arc;

use crossbeam_epoch::{Atomic, Guard, Owned, Shared, default_collector, pin};
use crossbeam_skiplist::base::SkipList;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

use crate::data::{Key, Row, SCAN_KEYS, Value, scanned};
use crate::peer::{Outcome, Peer, Session, View};

/// Null: the key was removed.
struct Slot(Atomic<Value>);

impl Slot {
    fn read(&self, guard: &Guard) -> Row {
        #[allow(unsafe_code)]
        // SAFETY: what a slot points to is not freed while a guard is held that was there before it was swapped out.
        let value = unsafe { self.0.load(Acquire, guard).as_ref() };
        Row::of(value.expect("the key is there"))
    }

    fn swap(&self, value: Shared<'_, Value>, guard: &Guard) {
        let old = self.0.swap(value, AcqRel, guard);
        if !old.is_null() {
            #[allow(unsafe_code)]
            // SAFETY: nobody finds it any more, and whoever has found it holds a guard.
            unsafe {
                guard.defer_destroy(old);
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        #[allow(unsafe_code)]
        // SAFETY: a slot goes with its list, which nobody uses then.
        let value = unsafe { self.0.load(Acquire, crossbeam_epoch::unprotected()).try_into_owned() };
        drop(value);
    }
}

pub struct List(Arc<SkipList<Key, Slot>>);

impl Peer for List {
    const NAME: &'static str = "base::SkipList";
    const TRANSACTIONAL: bool = false;
    type Session = Threaded;

    fn description() -> String {
        "crossbeam-skiplist 0.1.3 base::SkipList, a floor: no transactions, one pin for the operations of each, cells \
         that are swapped"
            .into()
    }

    fn open() -> Self {
        List(Arc::new(SkipList::new(default_collector().clone())))
    }

    fn session(&self) -> Threaded {
        Threaded(Arc::clone(&self.0))
    }
}

pub struct Threaded(Arc<SkipList<Key, Slot>>);

impl Session for Threaded {
    fn run(&mut self, _: bool, body: &dyn Fn(&mut dyn View) -> Outcome<()>) -> u64 {
        body(&mut Pinned { list: &self.0, guard: pin() }).expect("there is nothing to abort");
        0
    }
}

struct Pinned<'a> {
    list: &'a SkipList<Key, Slot>,
    guard: Guard,
}

impl View for Pinned<'_> {
    fn get(&mut self, key: &Key) -> Outcome<Row> {
        Ok(self.list.get(key, &self.guard).expect("the key is there").value().read(&self.guard))
    }

    fn set(&mut self, key: &Key, row: Row) -> Outcome<()> {
        let value = Owned::new(row.to_value()).into_shared(&self.guard);
        match self.list.get(key, &self.guard) {
            Some(entry) => entry.value().swap(value, &self.guard),
            None => {
                let slot = Slot(Atomic::null());
                slot.swap(value, &self.guard);
                self.list.get_or_insert(*key, slot, &self.guard).release(&self.guard);
            }
        }
        Ok(())
    }

    fn remove(&mut self, key: &Key) -> Outcome<()> {
        let entry = self.list.get(key, &self.guard).expect("the key is there");
        entry.value().swap(Shared::null(), &self.guard);
        Ok(())
    }

    fn scan(&mut self, start: &Key) -> Outcome<f64> {
        // Not range(), which leaks.
        let mut entry = self.list.lower_bound(std::ops::Bound::Included(start), &self.guard);
        let mut sum = 0.0;
        for _ in 0..SCAN_KEYS {
            let found = entry.expect("so many keys are there");
            sum += scanned(found.key(), found.value().read(&self.guard));
            entry = found.next();
        }
        Ok(sum)
    }
}
