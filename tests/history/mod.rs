//! Histories of concurrent transactions, and whether their isolation levels allow them.
//!
//! A *history* ([`data`]) is what was asked of the database and what it answered. It is judged from outside: each
//! transaction is first replayed by itself ([`digest`]), which leaves what it read of others and what it wrote. Then
//! the order of each key's versions is recovered, from the commit versions ([`recovery`]) or, without trust in them,
//! from lists that only grow ([`lists`]). From there on it is Adya's theory: the graph of dependencies ([`graph`]), the
//! phenomena in it ([`anomalies`]), and what each level must prevent ([`judge`]).
//!
//! Random programs ([`plan`]) are run ([`runner`]), and a failing one is made small ([`shrink`]). [`dbcop`] writes
//! histories for a checker that is not ours.

pub mod anomalies;
pub mod data;
pub mod dbcop;
pub mod digest;
pub mod graph;
pub mod judge;
pub mod lists;
pub mod plan;
mod planted;
mod planted_answers;
mod plot;
pub mod recovery;
pub mod runner;
pub mod shrink;
