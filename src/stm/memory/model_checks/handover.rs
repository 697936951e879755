//! What is handed from thread to thread: items of a stack, contexts of slots, the last count of a record.

use std::ptr;
use std::sync::Arc;

use crossbeam_epoch::Collector;
use loom::cell::UnsafeCell;

use super::{Number, explore, spawn, value};
use crate::stm::memory::blocks::Block;
use crate::stm::memory::notes::Notes;
use crate::stm::memory::record::RecordRef;
use crate::stm::memory::{Head, Pool, Record, Reuse, Stack, Version};

/// Each item is taken once, with what was written into it.
#[test]
fn items_of_a_stack() {
    explore(3, || {
        let stack = Arc::new(Stack::new());
        let pusher = spawn(&stack, |stack: &Stack<Number>| [1, 2].map(|number| stack.push(Number::new(number))));
        let giver = spawn(&stack, |stack| stack.give_back(stack.take()));
        let mut found: Vec<u64> = stack.take().map(|number| number.get()).collect();
        pusher.join().unwrap();
        giver.join().unwrap();
        found.extend(stack.take().map(|number| number.get()));
        found.sort_unstable();
        assert_eq!(found, [1, 2]);
    });
}

/// What two take and give back, nothing gets lost in between.
#[test]
fn items_that_are_given_back() {
    explore(3, || {
        let stack = Arc::new(Stack::new());
        [1, 2, 3].into_iter().for_each(|number| stack.push(Number::new(number)));
        let take_one = |stack: &Stack<Number>| {
            let mut taken = stack.take();
            let found = taken.next().map(|number| number.get());
            stack.give_back(taken);
            found
        };
        let takers = [spawn(&stack, take_one), spawn(&stack, take_one)];
        let found = takers.map(|taker| taker.join().unwrap());
        let mut found: Vec<u64> = found.into_iter().flatten().chain(stack.take().map(|number| number.get())).collect();
        found.sort_unstable();
        assert_eq!(found, [1, 2, 3]);
    });
}

struct Context(UnsafeCell<u32>);

// SAFETY: that one thread at a time uses it is what loom checks.
unsafe impl Send for Context {}

impl Reuse for Context {
    fn clear(&mut self) {}
    fn is_clear(&self) -> bool {
        true
    }
}

impl Context {
    fn count(&mut self) {
        // SAFETY: as above.
        self.0.with_mut(|count| unsafe { *count += 1 });
    }
}

/// A context has one user at a time, who sees what the one before has left.
#[test]
fn contexts_of_slots() {
    explore(2, || {
        let pool = Pool::<Context, (), u64>::new(());
        let users = [(); 2].map(|()| {
            let pool = Arc::clone(&pool);
            loom::thread::spawn(move || pool.claim(|_| Context(UnsafeCell::new(0))).parts().0.count())
        });
        pool.visit_free(Context::count);
        users.into_iter().for_each(|user| user.join().unwrap());
        pool.visit_free(Context::count);
    });
}

/// What the owner of a slot has noted, it or another takes, once, with what was written before.
#[test]
fn notes_of_slots() {
    explore(3, || {
        let notes = Arc::new(Notes::<Number>::new());
        let other = spawn(&notes, |notes| {
            let mut found = Vec::new();
            notes.drain_of_other(|record| found.push(record.split_order));
            found
        });
        let (collector, mut found) = (Collector::new(), Vec::new());
        let participant = collector.register();
        for number in 1..4 {
            let record = RecordRef::new(Record::new(b"k", number));
            assert!(notes.note(&record, 1, &participant.pin()) || number == 3);
            if number == 2 {
                notes.drain(|record| found.push(record.split_order));
            }
        }
        notes.drain(|record| found.push(record.split_order));
        found.extend(other.join().unwrap());
        found.sort_unstable();
        assert_eq!(found, [1, 2, 3]);
    });
}

/// The last handle goes beside a transaction that begins and ends, and no slot keeps a count of the pool.
#[test]
fn a_pool_that_closes_beside_a_claim() {
    explore(2, || {
        let pool = Pool::<Context, (), u64>::new(());
        pool.handle_made();
        // The slot has a count of the pool, which closing is to take.
        drop(pool.claim(|_| Context(UnsafeCell::new(0))));
        let user = {
            let pool = Arc::clone(&pool);
            loom::thread::spawn(move || {
                let mut claim = pool.claim(|_| Context(UnsafeCell::new(0)));
                drop(pool);
                claim.parts().0.count();
            })
        };
        pool.handle_dropped();
        user.join().unwrap();
        // That it goes here, loom can follow; how the counts order what was done before, it does not see.
        assert_eq!(Arc::strong_count(&pool), 1);
    });
}

/// Whoever gives up the last count of a record frees it, after all uses by the others.
#[test]
fn the_last_count_of_a_record() {
    explore(None, || {
        let record = RecordRef::new(Record::<Number>::new(b"k", 1));
        let version = Block::new(Version::new(ptr::null(), value(7), ptr::null(), false, 8));
        assert!(record.swap_head(ptr::null(), version.into_raw().as_ptr()));
        let users = [(); 2].map(|()| {
            let record = record.clone();
            loom::thread::spawn(move || {
                // Any pin will do: the count keeps what is read.
                let guard = Collector::new().register().pin();
                let Head::Version(version) = record.head(&guard) else { panic!("it is there") };
                assert_eq!(version.value().map(|value| value.sample().get()), Some(7));
            })
        });
        drop(record);
        users.into_iter().for_each(|user| user.join().unwrap());
    });
}
