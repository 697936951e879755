//! khonsu
#![deny(unsafe_code, missing_docs, unsafe_op_in_unsafe_fn)]
pub mod stm;
