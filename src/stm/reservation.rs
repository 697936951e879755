//! Reservations: the way through for transactions that starve.
//!
//! A transaction that has lost many times in a row reserves what its last attempt touched. Until the reservation expires,
//! commits of others that write there fail with a conflict and back off, instead of overtaking it once more. Nobody
//! waits: a holder that never comes back costs the others its expiry at most. Among holders the oldest goes first.

use std::time::{Duration, Instant};

use crossbeam_skiplist::SkipMap;

use super::key::{KeyBytes, KeyRange};
use super::sync::{AtomicU64, AtomicUsize, Ordering};

/// How long a reservation stands: several times what the attempt took that failed, within bounds. A short transaction is
/// over in microseconds, but a descheduled thread comes back in milliseconds.
const EXPIRY: Duration = Duration::from_millis(100);
const LONGEST_EXPIRY: Duration = Duration::from_secs(2);
const ATTEMPTS: u32 = 4;

pub(crate) struct Reservations {
    /// By priority (lower goes first) and number; entries are inserted once and removed.
    held: SkipMap<(u64, u64), Reservation>,
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
    pub fn new() -> Self {
        Reservations { held: SkipMap::new(), count: AtomicUsize::new(0), next: AtomicU64::new(0) }
    }

    /// A priority that goes behind all earlier ones.
    pub fn draw_priority(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Reserves keys and ranges; what `priority` has reserved before goes.
    ///
    /// `took` is how long the failed attempt took.
    pub fn hold(&self, priority: u64, mut keys: Vec<KeyBytes>, ranges: Vec<KeyRange>, took: Duration) {
        let expiry = took.saturating_mul(ATTEMPTS).clamp(EXPIRY, LONGEST_EXPIRY);
        keys.sort_unstable();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.held.insert((priority, number), Reservation { keys, ranges, expires: Instant::now() + expiry });
        self.remove_before(priority, number);
    }

    /// Gives up what `priority` has reserved.
    pub fn release(&self, priority: u64) {
        self.remove_before(priority, u64::MAX);
    }

    fn remove_before(&self, priority: u64, number: u64) {
        let mut next = self.held.front();
        while let Some(entry) = next {
            next = entry.next();
            let (holder, held) = *entry.key();
            if holder == priority && held < number && entry.remove() {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// The first of the keys that somebody with a better priority has reserved. `None` goes behind all.
    pub fn blocked<'k>(
        &self,
        priority: Option<u64>,
        keys: impl Fn() -> Box<dyn Iterator<Item = &'k [u8]> + 'k>,
    ) -> Option<&'k [u8]> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let now = Instant::now();
        let mut next = self.held.front();
        while let Some(entry) = next {
            if priority.is_some_and(|priority| priority <= entry.key().0) {
                return None;
            }
            if entry.value().expires <= now {
                if entry.remove() {
                    self.count.fetch_sub(1, Ordering::Relaxed);
                }
            } else if let Some(key) = keys().find(|key| entry.value().covers(key)) {
                return Some(key);
            }
            next = entry.next();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocked(reservations: &Reservations, priority: Option<u64>, key: &'static [u8]) -> bool {
        reservations.blocked(priority, || Box::new(std::iter::once(key))).is_some()
    }

    #[test]
    fn the_oldest_goes_first() {
        let reservations = Reservations::new();
        let (first, second) = (reservations.draw_priority(), reservations.draw_priority());
        reservations.hold(
            second,
            vec![KeyBytes::new(b"b"), KeyBytes::new(b"a")],
            vec![KeyRange::prefix(b"range/")],
            Duration::ZERO,
        );
        assert!(blocked(&reservations, None, b"a") && blocked(&reservations, None, b"range/1"));
        assert!(!blocked(&reservations, None, b"c"));
        assert!(!blocked(&reservations, Some(first), b"a") && !blocked(&reservations, Some(second), b"a"));
        reservations.hold(first, vec![KeyBytes::new(b"a")], vec![], Duration::ZERO);
        assert!(blocked(&reservations, Some(second), b"a") && !blocked(&reservations, Some(first), b"a"));
        reservations.hold(second, vec![], vec![], Duration::ZERO);
        assert!(!blocked(&reservations, None, b"b"), "a new reservation replaces the old one");
        reservations.release(first);
        reservations.release(second);
        assert!(!blocked(&reservations, None, b"a"));
        assert_eq!(reservations.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn reservations_expire() {
        let reservations = Reservations::new();
        reservations.hold(reservations.draw_priority(), vec![KeyBytes::new(b"a")], vec![], Duration::ZERO);
        std::thread::sleep(EXPIRY);
        assert!(!blocked(&reservations, None, b"a"));
        assert_eq!(reservations.count.load(Ordering::Relaxed), 0);
    }
}
