//! A stack that is pushed to one by one and taken all at once.
//!
//! Treiber ("Systems Programming: Coping with Parallelism", IBM RJ 5118, 1986) without his pop, and so without its ABA
//! problem: a node that was taken belongs to the taker alone. Unlike a queue with reserved places it never lets one
//! thread wait for another that has stopped in the midst of a push.

use std::ptr;

use crate::stm::sync::{AtomicPtr, Ordering};

pub(crate) struct Stack<T> {
    head: AtomicPtr<Node<T>>,
}

struct Node<T> {
    item: T,
    next: *mut Node<T>,
}

/// Nodes that were taken.
pub(crate) struct Taken<T> {
    head: *mut Node<T>,
}

// SAFETY: it owns its nodes, and nodes their items.
unsafe impl<T: Send> Send for Stack<T> {}
// SAFETY: sharing it only moves items between threads.
unsafe impl<T: Send> Sync for Stack<T> {}

impl<T> Stack<T> {
    pub fn new() -> Self {
        Stack { head: AtomicPtr::new(ptr::null_mut()) }
    }

    pub fn push(&self, item: T) {
        let node = Box::into_raw(Box::new(Node { item, next: ptr::null_mut() }));
        fail_point!(BeforePushed);
        // SAFETY: the node is ours until it is linked.
        unsafe { self.link(node, node) };
    }

    /// Links a chain of nodes, from `first` to `last`.
    ///
    /// # Safety
    /// The chain is the caller's, and whole.
    unsafe fn link(&self, first: *mut Node<T>, last: *mut Node<T>) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // SAFETY: the chain is still the caller's.
            unsafe { (*last).next = head };
            // Release: publishes the nodes, for the acquire in `take`.
            match self.head.compare_exchange_weak(head, first, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    pub fn take(&self) -> Taken<T> {
        // Relaxed: nothing is taken then. Mostly it is empty, and its line is left to all.
        if self.head.load(Ordering::Relaxed).is_null() {
            return Taken { head: ptr::null_mut() };
        }
        // Acquire: pairs with the release in `link`; earlier pushes are released by the same chain of swaps.
        Taken { head: self.head.swap(ptr::null_mut(), Ordering::Acquire) }
    }

    /// Puts back what was taken and not used up. It is cheap when the stack is empty.
    pub fn give_back(&self, mut taken: Taken<T>) {
        let first = std::mem::replace(&mut taken.head, ptr::null_mut());
        if first.is_null()
            // Release: as in `link`.
            || self.head.compare_exchange(ptr::null_mut(), first, Ordering::Release, Ordering::Relaxed).is_ok()
        {
            return;
        }
        let mut last = first;
        // SAFETY: the nodes are ours, and end with a null pointer.
        unsafe {
            while !(*last).next.is_null() {
                last = (*last).next;
            }
            self.link(first, last);
        }
    }
}

impl<T> Iterator for Taken<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.head.is_null() {
            return None;
        }
        // SAFETY: the nodes are ours, and came from boxes.
        let node = unsafe { Box::from_raw(self.head) };
        self.head = node.next;
        Some(node.item)
    }
}

impl<T> Drop for Taken<T> {
    fn drop(&mut self) {
        self.by_ref().for_each(drop);
    }
}

impl<T> Drop for Stack<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn every_item_is_taken_once() {
        let stack = Stack::new();
        let taken: Vec<u64> = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4_u64)
                .map(|thread| {
                    let stack = &stack;
                    scope.spawn(move || {
                        let mut found = Vec::new();
                        for number in 0..10_000 {
                            stack.push(thread * 10_000 + number);
                            if number % 7 == thread {
                                let mut taken = stack.take();
                                found.extend(taken.by_ref().take(5));
                                stack.give_back(taken);
                            }
                        }
                        found
                    })
                })
                .collect();
            takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect()
        });
        let mut all: Vec<u64> = taken.into_iter().chain(stack.take()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..40_000).collect::<Vec<_>>());
    }

    #[test]
    fn items_go_with_the_stack() {
        let item = Arc::new(());
        let stack = Stack::new();
        stack.push(Arc::clone(&item));
        stack.push(Arc::clone(&item));
        let mut taken = stack.take();
        assert!(taken.next().is_some());
        stack.push(Arc::clone(&item));
        drop((stack, taken));
        assert_eq!(Arc::strong_count(&item), 1);
    }
}
