//! Reservations: the way through for transactions that starve.
//!
//! A transaction that has lost many times in a row reserves what its last attempt touched. Until the reservation
//! expires, commits of others that write there fail with a conflict and back off, instead of overtaking it once more.
//! Nobody waits: a holder that never comes back costs the others its expiry at most. Among holders the oldest goes
//! first. One that fails for a transaction in doubt reserves only what that holds, to be the next there.

use std::ops::Bound;
use std::time::{Duration, Instant};

use crossbeam_epoch::{Collector, Guard};
use crossbeam_skiplist::base::{Entry, SkipList};

use super::key::{KeyBytes, KeyRange};
use super::sync::{AtomicU64, AtomicUsize, Ordering};

/// How long a reservation stands: several times what the attempt took that failed, within bounds. A short transaction
/// is over in microseconds, but a descheduled thread comes back in milliseconds.
const EXPIRY: Duration = Duration::from_millis(100);
const LONGEST_EXPIRY: Duration = Duration::from_secs(2);
const ATTEMPTS: u32 = 4;

pub(crate) struct Reservations {
    /// By priority (lower goes first) and number; entries are inserted once and removed.
    held: SkipList<(u64, u64), Reservation>,
    /// Entries of `held`, so that committers need one load where there are none.
    count: AtomicUsize,
    next: AtomicU64,
}

struct Reservation {
    keys: Vec<KeyBytes>,
    ranges: Vec<KeyRange>,
    expires: Instant,
}

impl Reservation {
    fn covers(&self, key: &[u8]) -> bool {
        self.keys.binary_search_by(|reserved| reserved.as_slice().cmp(key)).is_ok()
            || self.ranges.iter().any(|range| range.contains(key))
    }
}

impl Reservations {
    pub fn new(collector: Collector) -> Self {
        Reservations { held: SkipList::new(collector), count: AtomicUsize::new(0), next: AtomicU64::new(0) }
    }

    /// A priority that goes behind all earlier ones.
    pub fn draw_priority(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Reserves keys and ranges; what `priority` has reserved before goes.
    ///
    /// `took` is how long the failed attempt took.
    pub fn hold(&self, priority: u64, mut keys: Vec<KeyBytes>, ranges: Vec<KeyRange>, took: Duration, guard: &Guard) {
        let expiry = took.saturating_mul(ATTEMPTS).clamp(EXPIRY, LONGEST_EXPIRY);
        keys.sort_unstable();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let reservation = Reservation { keys, ranges, expires: Instant::now() + expiry };
        self.count.fetch_add(1, Ordering::Relaxed);
        fail_point!(ReservationCounted);
        self.held.get_or_insert((priority, number), reservation, guard).release(guard);
        fail_point!(ReservationHeld);
        self.remove_before(priority, number, guard);
    }

    /// Gives up what `priority` has reserved.
    pub fn release(&self, priority: u64, guard: &Guard) {
        self.remove_before(priority, u64::MAX, guard);
    }

    fn remove_before(&self, priority: u64, number: u64, guard: &Guard) {
        let mut next = self.held.lower_bound(Bound::Included(&(priority, 0)), guard);
        while let Some(entry) = next
            && *entry.key() < (priority, number)
        {
            next = entry.next();
            self.remove(&entry);
        }
    }

    fn remove(&self, entry: &Entry<'_, '_, (u64, u64), Reservation>) {
        if entry.remove() {
            fail_point!(ReservationRemoved);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether anything is reserved.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// The first of the keys that somebody with a better priority has reserved. `None` goes behind all.
    pub fn blocked<'k>(
        &self,
        priority: Option<u64>,
        keys: impl Fn() -> Box<dyn Iterator<Item = &'k [u8]> + 'k>,
        guard: &Guard,
    ) -> Option<&'k [u8]> {
        let now = Instant::now();
        let mut next = self.held.front(guard);
        while let Some(entry) = next {
            if priority.is_some_and(|priority| priority <= entry.key().0) {
                return None;
            }
            fail_point!(ReservationMet);
            next = entry.next();
            if entry.value().expires <= now {
                self.remove(&entry);
            } else if let Some(key) = keys().find(|key| entry.value().covers(key)) {
                return Some(key);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of an attempt that took so long, the reservation does not end in the midst of a test.
    const LONG: Duration = LONGEST_EXPIRY;

    fn blocked(reservations: &Reservations, priority: Option<u64>, key: &'static [u8], guard: &Guard) -> bool {
        reservations.blocked(priority, || Box::new(std::iter::once(key)), guard).is_some()
    }

    #[test]
    fn the_oldest_goes_first() {
        let collector = Collector::new();
        let handle = collector.register();
        let guard = handle.pin();
        let reservations = Reservations::new(collector.clone());
        let (first, second) = (reservations.draw_priority(), reservations.draw_priority());
        reservations.hold(
            second,
            vec![KeyBytes::new(b"b"), KeyBytes::new(b"a")],
            vec![KeyRange::prefix(b"range/")],
            LONG,
            &guard,
        );
        assert!(blocked(&reservations, None, b"a", &guard) && blocked(&reservations, None, b"range/1", &guard));
        assert!(!blocked(&reservations, None, b"c", &guard));
        assert!(
            !blocked(&reservations, Some(first), b"a", &guard) && !blocked(&reservations, Some(second), b"a", &guard)
        );
        reservations.hold(first, vec![KeyBytes::new(b"a")], vec![], LONG, &guard);
        assert!(
            blocked(&reservations, Some(second), b"a", &guard) && !blocked(&reservations, Some(first), b"a", &guard)
        );
        reservations.hold(second, vec![], vec![], LONG, &guard);
        assert!(!blocked(&reservations, None, b"b", &guard), "a new reservation replaces the old one");
        reservations.release(first, &guard);
        reservations.release(second, &guard);
        assert!(!blocked(&reservations, None, b"a", &guard));
        assert_eq!(reservations.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn reservations_expire() {
        let collector = Collector::new();
        let handle = collector.register();
        let guard = handle.pin();
        let reservations = Reservations::new(collector.clone());
        reservations.hold(reservations.draw_priority(), vec![KeyBytes::new(b"a")], vec![], Duration::ZERO, &guard);
        std::thread::sleep(EXPIRY);
        assert!(!blocked(&reservations, None, b"a", &guard));
        assert_eq!(reservations.count.load(Ordering::Relaxed), 0);
    }
}
