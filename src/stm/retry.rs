//! Rerunning a transaction until it commits.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::database::{DatabasePool, Keeper};
use super::error::Error;
use super::options::TransactionOptions;
use super::transaction::{Open, Transaction};
use super::value::Chunk;

/// Conflicts in a row after which a transaction counts as starving and reserves what it touches.
const STARVING_AFTER: u32 = 8;

/// The loop around the attempts of one transaction: it begins them, and after a conflict waits for a random time below
/// a bound that doubles from conflict to conflict, until the attempts or the time are used up. From some number of
/// conflicts on it reserves what it touches against others, for a short time, so that it gets through.
///
/// For each attempt: [`begin`](RetryPolicy::begin), run, commit or roll back, and after a conflict
/// [`conflicted`](RetryPolicy::conflicted).
pub struct RetryPolicy<C: Chunk> {
    pool: Arc<DatabasePool<C>>,
    keeper: Keeper<C>,
    options: TransactionOptions,
    deadline: Option<Instant>,
    conflicts: u32,
    priority: Option<u64>,
    random: u64,
}

impl<C: Chunk> RetryPolicy<C> {
    pub(super) fn new(pool: Arc<DatabasePool<C>>, keeper: Keeper<C>, options: TransactionOptions) -> Self {
        // A timeout that lies beyond what the clock can say is none.
        let deadline = options.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        RetryPolicy { pool, keeper, options, deadline, conflicts: 0, priority: None, random: 0 }
    }

    /// Begins the next attempt.
    pub fn begin(&mut self) -> Transaction<C> {
        if self.conflicts >= STARVING_AFTER && self.priority.is_none() {
            self.priority = Some(self.pool.shared().reservations.draw_priority());
        }
        Transaction::begin(&self.pool, &self.keeper, &self.options, self.priority)
    }

    /// Says that the last attempt, which has ended, failed. Returns when it is time for the next one.
    ///
    /// # Errors
    /// `error` itself when it is no conflict or the attempts are used up, [`Error::Timeout`] when the time is.
    pub fn conflicted(&mut self, error: Error) -> Result<(), Error> {
        if !matches!(error, Error::Conflict(_)) {
            return Err(error);
        }
        self.conflicts = self.conflicts.saturating_add(1);
        if self.options.max_attempts.is_some_and(|most| self.conflicts >= most) {
            return Err(error);
        }
        let mut wait = self.backoff();
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        wait = left.map_or(wait, |left| left.min(wait));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(Error::Timeout(format!(
                "the time is used up after {} attempts; the last: {error}",
                self.conflicts
            )));
        }
        self.pool.shared().meters.retried();
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        Ok(())
    }

    /// A random time below a bound that doubles with each conflict.
    fn backoff(&mut self) -> Duration {
        if self.random == 0 {
            self.random = RandomState::new().hash_one(self.conflicts) | 1;
        }
        // Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8(14), 2003.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let doublings = (self.conflicts - 1).min(31);
        let bound = self.options.backoff_initial.saturating_mul(1 << doublings).min(self.options.backoff_maximum);
        bound.mul_f64((self.random >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

impl<C: Chunk> Drop for RetryPolicy<C> {
    fn drop(&mut self) {
        if let Some(priority) = self.priority {
            let mut open = Open::new(&self.pool, &self.keeper);
            let (context, pool, _) = open.parts();
            pool.shared().reservations.release(priority, &context.participant.pin());
        }
    }
}
