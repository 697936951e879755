//! What becomes of panics.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};

thread_local! {
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Notes panics instead of printing them: many are Arrow's, and khonsu turns them into statuses. It also takes the
/// place of libFuzzer's hook, which would make a finding of each of them.
pub fn hush() {
    set_hook(Box::new(|panic| LAST.set(panic.to_string())));
}

/// Runs a call. A panic that comes out of it is a finding: it is printed, and the process ends.
pub fn finish_or_abort<T>(call: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        eprintln!("{}", LAST.take());
        std::process::abort()
    })
}
