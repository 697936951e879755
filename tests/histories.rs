//! Random histories of concurrent transactions, judged by what their isolation levels promise.

mod common;
mod history;
