//! Peers of khonsu that are Rust crates, behind tables of C functions (benches/rust_peers.h), so that one harness runs
//! all peers by turns.
#![deny(unsafe_code, unsafe_op_in_unsafe_fn)]

mod data;
mod peer;
mod peers;
#[allow(unsafe_code)]
mod table;
