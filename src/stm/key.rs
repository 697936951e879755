//! Keys and ranges of keys: byte strings, compared bytewise.

use std::cmp::Ordering;
use std::ops::Bound;

use super::error::Error;

/// The longest key, in bytes.
pub const KEY_MAX_BYTES: usize = 64 * 1024;

const INLINE_BYTES: usize = 22;

/// An owned key; the short ones need no allocation.
#[derive(Clone)]
pub(crate) enum KeyBytes {
    Inline { len: u8, bytes: [u8; INLINE_BYTES] },
    Heap(Box<[u8]>),
}

impl KeyBytes {
    pub fn new(key: &[u8]) -> Self {
        if key.len() <= INLINE_BYTES {
            let mut bytes = [0; INLINE_BYTES];
            match (key.first_chunk::<8>(), key.last_chunk::<8>()) {
                // By pieces of fixed sizes, which may overlap: a call would take longer.
                (Some(first), Some(last)) => {
                    *bytes.first_chunk_mut().expect("it has more") = *first;
                    if let Some(second) = key[8..].first_chunk::<8>() {
                        bytes[8..16].copy_from_slice(second);
                    }
                    bytes[key.len() - 8..key.len()].copy_from_slice(last);
                }
                _ => bytes[..key.len()].copy_from_slice(key),
            }
            KeyBytes::Inline { len: key.len() as u8, bytes }
        } else {
            KeyBytes::Heap(key.into())
        }
    }

    pub fn as_slice(&self) -> &[u8] {
        match self {
            KeyBytes::Inline { len, bytes } => &bytes[..usize::from(*len)],
            KeyBytes::Heap(bytes) => bytes,
        }
    }
}

impl std::borrow::Borrow<[u8]> for KeyBytes {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for KeyBytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for KeyBytes {}

impl PartialOrd for KeyBytes {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KeyBytes {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

#[inline]
pub(crate) fn check_key(key: &[u8]) -> Result<(), Error> {
    if key.is_empty() || key.len() > KEY_MAX_BYTES { Err(no_key(key.len())) } else { Ok(()) }
}

#[cold]
fn no_key(len: usize) -> Error {
    Error::InvalidArgument(match len {
        0 => "key: must not be empty".to_owned(),
        _ => format!("key: {len} bytes are more than the {KEY_MAX_BYTES} that a key may have"),
    })
}

/// A range of keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// Where it starts.
    pub start: Bound<Vec<u8>>,
    /// Where it ends.
    pub end: Bound<Vec<u8>>,
}

impl KeyRange {
    /// A range between two bounds; empty where the start lies behind the end.
    pub fn new(start: Bound<Vec<u8>>, end: Bound<Vec<u8>>) -> Self {
        KeyRange { start, end }
    }

    /// Every key.
    pub fn all() -> Self {
        KeyRange::new(Bound::Unbounded, Bound::Unbounded)
    }

    /// Every key that starts with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        while end.pop_if(|last| *last == u8::MAX).is_some() {}
        let end = match end.last_mut() {
            Some(last) => {
                *last += 1;
                Bound::Excluded(end)
            }
            None => Bound::Unbounded,
        };
        KeyRange::new(Bound::Included(prefix.to_vec()), end)
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.starts_at_or_before(key) && self.ends_at_or_after(key)
    }

    /// Orders ranges by their first keys.
    pub(crate) fn start_order(&self, other: &Self) -> Ordering {
        self.first().cmp(&other.first())
    }

    /// Where it starts, and whether behind that.
    fn first(&self) -> (&[u8], bool) {
        match &self.start {
            Bound::Unbounded => (&[], false),
            Bound::Included(key) => (key, false),
            Bound::Excluded(key) => (key, true),
        }
    }

    pub(crate) fn starts_at_or_before(&self, key: &[u8]) -> bool {
        match &self.start {
            Bound::Included(start) => start.as_slice() <= key,
            Bound::Excluded(start) => start.as_slice() < key,
            Bound::Unbounded => true,
        }
    }

    pub(crate) fn ends_at_or_after(&self, key: &[u8]) -> bool {
        match &self.end {
            Bound::Included(end) => key <= end.as_slice(),
            Bound::Excluded(end) => key < end.as_slice(),
            Bound::Unbounded => true,
        }
    }

    /// Bytes of the longer one of its bounds.
    pub(crate) fn longest_bound(&self) -> usize {
        let length = |bound: &Bound<Vec<u8>>| match bound {
            Bound::Included(key) | Bound::Excluded(key) => key.len(),
            Bound::Unbounded => 0,
        };
        length(&self.start).max(length(&self.end))
    }

    /// A range that holds all keys that the given ones hold, which are ordered by their starts. Its bounds have no more
    /// than `most` bytes. `None`: there are no ranges.
    pub(crate) fn around(ranges: &[&KeyRange], most: usize) -> Option<Self> {
        let cut = |key: &[u8]| key[..key.len().min(most)].to_vec();
        let start = match &ranges.first()?.start {
            Bound::Included(key) | Bound::Excluded(key) => Bound::Included(cut(key)),
            Bound::Unbounded => Bound::Unbounded,
        };
        let mut end = Some(Vec::new());
        for range in ranges {
            end = match (end, &range.end) {
                (Some(end), Bound::Included(key) | Bound::Excluded(key)) => Some(end.max(cut(key))),
                _ => None,
            };
        }
        // The bound, or all that begins as what is left of it.
        let end = end.map_or(Bound::Unbounded, |end| match end.len() == most {
            true => KeyRange::prefix(&end).end,
            false => Bound::Included(end),
        });
        Some(KeyRange { start, end })
    }

    /// No key.
    pub(crate) fn empty() -> Self {
        KeyRange::new(Bound::Unbounded, Bound::Excluded(Vec::new()))
    }

    /// Whether no key can lie in it.
    pub(crate) fn is_empty(&self) -> bool {
        let (start, end) = self.as_bounds();
        bounds_are_empty(start, end)
    }

    pub(crate) fn as_bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (self.start.as_ref().map(Vec::as_slice), self.end.as_ref().map(Vec::as_slice))
    }
}

/// Whether no key can lie between two bounds; standard maps panic when asked for some of these.
pub(crate) fn bounds_are_empty(start: Bound<&[u8]>, end: Bound<&[u8]>) -> bool {
    match (start, end) {
        (Bound::Unbounded, Bound::Excluded(end)) => end.is_empty(),
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end))
        | (Bound::Excluded(start), Bound::Included(end)) => start >= end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_the_highest_byte_have_no_end() {
        assert_eq!(KeyRange::prefix(&[0xff, 0xff]).end, Bound::Unbounded);
        assert_eq!(KeyRange::prefix(&[1, 0xff]).end, Bound::Excluded(vec![2]));
        assert_eq!(KeyRange::prefix(&[]), KeyRange::new(Bound::Included(vec![]), Bound::Unbounded));
        assert!(KeyRange::prefix(&[1, 0xff]).contains(&[1, 0xff, 7]));
        assert!(!KeyRange::prefix(&[1, 0xff]).contains(&[2]));
    }

    #[test]
    fn keys_inline_and_on_the_heap_are_alike() {
        for len in (1..=INLINE_BYTES + 1).chain([KEY_MAX_BYTES]) {
            let key: Vec<_> = (0..len).map(|position| (position % 251) as u8).collect();
            assert_eq!(KeyBytes::new(&key).as_slice(), key);
            assert!(check_key(&key).is_ok());
        }
        assert!(check_key(&[]).is_err() && check_key(&vec![0; KEY_MAX_BYTES + 1]).is_err());
    }
}
