//! One file a peer.

pub mod khonsu;
pub mod papaya;
pub mod redb;
pub mod skip_list;
pub mod skipdb;
pub mod stm;
pub mod surrealmx;
