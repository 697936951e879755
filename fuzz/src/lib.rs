//! The fuzzers of khonsu's C API: each takes bytes, turns them into calls, and panics where the library does not do what
//! its header says. What memory errors there are AddressSanitizer finds. README.md says how they are run.

mod bridge;
mod call;
pub mod import;
mod input;
pub mod ipc;
pub mod operations;
pub mod reached;
pub mod seeds;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};

/// The fuzzers, by the names of their programs and of their corpora.
pub const TARGETS: [(&str, fn(&[u8])); 3] =
    [("operations", operations::run), ("import", import::run), ("ipc", ipc::run)];

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics are noted instead of printed: many of them are Arrow's, and khonsu turns them into statuses.
pub fn hush_panics() {
    set_hook(Box::new(|panic| LAST_PANIC.set(panic.to_string())));
}

/// Runs a fuzzer on an input. A panic that comes out of it is printed and ends the process.
pub fn run_or_abort(target: fn(&[u8]), input: &[u8]) {
    finish_or_abort(|| target(input));
}

fn finish_or_abort<T>(call: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        eprintln!("{}", LAST_PANIC.take());
        std::process::abort()
    })
}
