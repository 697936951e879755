//! What each isolation level must prevent.
//!
//! | level | prevents |
//! |---|---|
//! | read committed | G0, G1a, G1b, G1c; reads that fit no committed state, or go back |
//! | repeatable read | those; every cycle in the graph of begins and commits: read skew and long fork, not write skew |
//! | serializable | every cycle; real time included |
//!
//! At every level: lost updates that no strategy allows, lost or invented writes, and a begin that does not see what
//! had been committed before. Levels mix as in Adya's mixed serialization graph: an antidependency obliges only where
//! its reader is serializable, the other dependencies oblige everyone, as all levels are at least read committed.

use khonsu::stm::IsolationLevel;

use super::anomalies::{Anomaly, cycles};
use super::data::History;
use super::graph::{Dependency, Edge, Graph, Order};
use super::lists;
use super::recovery::{self, Recovery, recover};

/// What the levels of the transactions forbid, with the order of versions taken from the commit versions.
pub fn forbidden(history: &History) -> Vec<Anomaly> {
    let Recovery { order, mut anomalies } = recover(history);
    anomalies.extend(forbidden_cycles(history, &order));
    anomalies
}

/// The same for histories in which everything that is written is appended; commit versions are not believed.
pub fn forbidden_by_lists(history: &History) -> Vec<Anomaly> {
    let Recovery { order, mut anomalies } = lists::recover(history);
    anomalies.extend(forbidden_cycles(history, &order));
    anomalies
}

/// Every phenomenon, allowed or not.
pub fn all(history: &History) -> Vec<Anomaly> {
    let Recovery { order, mut anomalies } = recover(history);
    anomalies.extend(cycles(&Graph::of(&order)));
    anomalies
}

fn forbidden_cycles(history: &History, order: &Order) -> Option<Anomaly> {
    let graph = Graph::of(order);
    let level = |number: usize| history.transactions[number].level;

    let information = graph.filtered(|edge| matches!(edge.dependency, Dependency::Write | Dependency::Read));
    let mut cycle = information.cycle();
    if cycle.is_none() {
        cycle =
            graph.split(|number| level(number) != IsolationLevel::ReadCommitted).cycle().map(|cycle| joined(&cycle));
    }
    if cycle.is_none() {
        cycle = mixed(history, &graph).cycle();
    }
    cycle.map(|cycle| Anomaly::of_cycle(&cycle))
}

/// The obligatory edges only.
fn mixed(history: &History, graph: &Graph) -> Graph {
    let serializable = |number: usize| history.transactions[number].level == IsolationLevel::Serializable;
    graph.filtered(|edge| !edge.dependency.is_anti() || serializable(edge.from))
}

/// A cycle of begins and commits as one of transactions.
fn joined(cycle: &[Edge]) -> Vec<Edge> {
    let edges = cycle.iter().filter(|edge| edge.dependency != Dependency::Span);
    edges.map(|edge| Edge { from: edge.from / 2, to: edge.to / 2, ..*edge }).collect()
}

/// Whether an attempt that was not committed would have closed a cycle, had it been committed when it ended.
pub fn would_close_cycle(history: &History, attempt: usize) -> bool {
    let history = recovery::as_if_committed(history, attempt);
    mixed(&history, &Graph::of(&recover(&history).order)).is_on_cycle(attempt)
}
