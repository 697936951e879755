//! What committed readers leave behind for those who overwrite later what they have read: their low watermark, of which
//! the highest counts (see [`super::dependency_tracker`]).
//!
//! That of a version is kept in the version. An absent key has none: its mark is kept in a table by the key's hash,
//! where keys that share a place are taken for one. Scanned ranges are kept as they are, the newest of them; those that
//! are pushed out count as matching everything. All of this errs on the side of finding a reader where there was none.

use std::array;
use std::sync::Arc;

use crossbeam_epoch::Guard;

use super::key::KeyRange;
use super::memory::{ReaderMark, Recent};
use super::sync;

/// Powers of two. With few of them, a model checker meets what is shared and what is lost.
const ABSENT: usize = if sync::MODELLED { 2 } else { 4096 };
const SCANS: usize = if sync::MODELLED { 2 } else { 1024 };
/// What is kept of one reader: so many ranges, with keys of so many bytes. More are kept as fewer and wider ones.
const RANGES: usize = 16;
const KEY_BYTES: usize = 64;

pub(crate) struct ReaderMarks {
    absent: Box<[ReaderMark; ABSENT]>,
    scans: Box<Recent<Arc<[KeyRange]>, SCANS>>,
}

impl ReaderMarks {
    pub fn new() -> Self {
        ReaderMarks { absent: Box::new(array::from_fn(|_| ReaderMark::new())), scans: Box::new(Recent::new()) }
    }

    pub fn of_absent(&self, hash: u64) -> &ReaderMark {
        &self.absent[hash as usize % ABSENT]
    }

    pub fn scanned(&self, ranges: &Arc<[KeyRange]>, low: u64, guard: &Guard) {
        self.scans.push(low, widened(ranges), guard);
    }

    /// Whether one of the keys, which are sorted, may have been scanned by a reader with a mark of at least `from`.
    pub fn scanned_since(&self, keys: &[&[u8]], from: u64, guard: &Guard) -> bool {
        let holds_a_key = |range: &KeyRange| {
            let first = keys.partition_point(|key| !range.starts_at_or_before(key));
            keys.get(first).is_some_and(|key| range.ends_at_or_after(key))
        };
        self.scans.any_since(from, guard, |ranges| ranges.iter().any(holds_a_key))
    }
}

/// Ranges that hold all keys that these hold, and take little memory, and little time to look through.
fn widened(ranges: &Arc<[KeyRange]>) -> Arc<[KeyRange]> {
    if ranges.len() <= RANGES && ranges.iter().all(|range| range.longest_bound() <= KEY_BYTES) {
        return Arc::clone(ranges);
    }
    let mut sorted: Vec<_> = ranges.iter().collect();
    sorted.sort_unstable_by(|one, other| one.start_order(other));
    sorted.chunks(sorted.len().div_ceil(RANGES)).filter_map(|part| KeyRange::around(part, KEY_BYTES)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Bound;

    #[test]
    fn keys_are_found_in_scanned_ranges() {
        let marks = ReaderMarks::new();
        let participant = crossbeam_epoch::Collector::new().register();
        let guard = participant.pin();
        let range =
            |start: &[u8], end: &[u8]| KeyRange::new(Bound::Excluded(start.to_vec()), Bound::Included(end.to_vec()));
        marks.scanned(&Arc::from([range(b"b", b"d"), range(b"x", b"y")]), 7, &guard);
        let found = |keys: &[&[u8]], from| marks.scanned_since(keys, from, &guard);
        assert!(found(&[b"a", b"b", b"c", b"e"], 7) && found(&[b"d"], 1) && found(&[b"a", b"xx"], 7));
        assert!(!found(&[b"c"], 8) && !found(&[b"a", b"b", b"e", b"x", b"z"], 7) && !found(&[], 7));
    }

    #[test]
    fn what_is_kept_of_many_ranges_is_wider_and_small() {
        let mut random = 1_u64;
        let mut below = |end: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % end
        };
        for _ in 0..200 {
            let mut key = || -> Vec<u8> { (0..1 + below(KEY_BYTES + 4)).map(|_| [0, 7, 255][below(3)]).collect() };
            let mut bound = |number: usize| match number % 97 % 3 {
                0 => Bound::Included(key()),
                1 => Bound::Excluded(key()),
                _ => Bound::Unbounded,
            };
            let ranges = (0..40).map(|number| KeyRange::new(bound(number % 2), bound(number % 2)));
            let ranges: Arc<[_]> = ranges.filter(|range| !range.is_empty()).collect();
            let kept = widened(&ranges);
            assert!(kept.len() <= RANGES && kept.iter().all(|range| range.longest_bound() <= KEY_BYTES));
            for _ in 0..100 {
                let key = key();
                let inside = |ranges: &[KeyRange]| ranges.iter().any(|range| range.contains(&key));
                assert!(!inside(&ranges) || inside(&kept));
            }
        }
    }

    #[test]
    fn marks_of_absent_keys_only_rise() {
        let marks = ReaderMarks::new();
        marks.of_absent(5).raise(9);
        marks.of_absent(5 + ABSENT as u64).raise(8);
        assert_eq!((marks.of_absent(5).highest(), marks.of_absent(6).highest()), (9, 0));
    }
}
