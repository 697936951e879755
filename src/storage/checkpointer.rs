//! Makes checkpoints in the background, when the storage says that one is due.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::open::make_checkpoint;
use super::{ArrowChunk, Storage};
use crate::stm::{MemoryBudget, WeakTransactionManager};

/// Between two attempts after one that failed; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Through which the thread is told what to do.
#[derive(Default)]
pub(super) struct Checkpointer {
    orders: Mutex<Orders>,
    changed: Condvar,
    /// What a checkpoint that is being written looks at.
    stops: AtomicBool,
}

#[derive(Default)]
struct Orders {
    is_due: bool,
    stops: bool,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread. Without one, checkpoints are made on request alone.
    pub fn start<C: ArrowChunk, S: Storage>(
        self: &Arc<Self>,
        database: WeakTransactionManager<C>,
        storage: Arc<S>,
        budget: Option<Arc<MemoryBudget<C>>>,
    ) {
        let checkpointer = Arc::clone(self);
        let run = move || checkpointer.run(&database, &*storage, budget.as_deref());
        self.orders().thread = thread::Builder::new().name("khonsu checkpoint".to_owned()).spawn(run).ok();
    }

    /// A checkpoint is due.
    pub fn order(&self) {
        let mut orders = self.orders();
        if !orders.is_due {
            orders.is_due = true;
            self.changed.notify_all();
        }
    }

    /// Ends the thread, and waits for it.
    pub fn stop(&self) {
        let mut orders = self.orders();
        orders.stops = true;
        // Relaxed: the join below waits for what comes of it.
        self.stops.store(true, Ordering::Relaxed);
        let thread = orders.thread.take();
        drop(orders);
        self.changed.notify_all();
        thread.map(JoinHandle::join);
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run<C: ArrowChunk, S: Storage>(
        &self,
        database: &WeakTransactionManager<C>,
        storage: &S,
        budget: Option<&MemoryBudget<C>>,
    ) {
        let mut pause = FIRST_PAUSE;
        loop {
            let waited = self.changed.wait_while(self.orders(), |orders| !orders.is_due && !orders.stops);
            let mut orders = waited.unwrap_or_else(PoisonError::into_inner);
            if orders.stops {
                return;
            }
            orders.is_due = false;
            drop(orders);
            let Some(manager) = database.upgrade() else {
                return;
            };
            // One that panics has failed: those after it must not fail to come. What it leaves half-done is removed by them.
            let make = || make_checkpoint(&manager, storage, budget, &self.stops);
            let made = catch_unwind(AssertUnwindSafe(make));
            drop(manager);
            if let Ok(Ok(())) = made {
                pause = FIRST_PAUSE;
                // Much may have come while it was written, and nobody need come after that.
                if budget.is_some_and(MemoryBudget::needs_checkpoint) {
                    self.order();
                }
                continue;
            }
            // Nothing is lost by it but room. Whoever asks for a checkpoint is told the reason.
            let paused = self.changed.wait_timeout_while(self.orders(), pause, |orders| !orders.stops);
            let (mut orders, _) = paused.unwrap_or_else(PoisonError::into_inner);
            orders.is_due = true;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
