//! How often which outcome came up: whether the fuzzers reach what they are there for.

use std::cell::RefCell;
use std::collections::BTreeMap;

pub type Outcomes = BTreeMap<(&'static str, &'static str), u64>;

thread_local! {
    static OUTCOMES: RefCell<Outcomes> = const { RefCell::new(BTreeMap::new()) };
}

pub fn note(what: &'static str, outcome: &'static str) {
    OUTCOMES.with_borrow_mut(|outcomes| *outcomes.entry((what, outcome)).or_default() += 1);
}

/// Those of this thread since the last call.
pub fn take() -> Outcomes {
    OUTCOMES.take()
}
