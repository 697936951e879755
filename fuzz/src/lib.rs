//! The fuzzers of khonsu's C API: each takes bytes, turns them into calls, and panics where the library does not do
//! what its header says. What memory errors there are AddressSanitizer finds. README.md says how they are run.

mod bridge;
mod call;
pub mod import;
mod input;
pub mod ipc;
pub mod operations;
pub mod panics;
pub mod reached;
pub mod seeds;
