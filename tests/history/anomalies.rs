//! The phenomena that isolation levels are defined by, after Adya (1999), and what else no level may show.

use std::fmt;

use super::data::Name;
use super::graph::{Dependency, Edge, Graph};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phenomenon {
    /// Dirty writes: a cycle of ww.
    G0,
    /// A read of what was rolled back, or never became part of the database.
    G1a,
    /// A read of what its writer had replaced by the time that it committed.
    G1b,
    /// Circular flow of information: a cycle of ww and wr.
    G1c,
    /// A cycle with one rw: read skew, and lost updates among others.
    GSingle,
    /// A cycle with several rw, no two of them in a row: long fork among others.
    GNonadjacent,
    /// A cycle with several rw, all of items: write skew among others.
    G2Item,
    /// A cycle with several rw, of ranges, too: phantoms.
    G2,
    /// A cycle that only real time closes.
    RealTime,
    /// A write over a version that its transaction had not seen, and that it said it would not overwrite.
    LostUpdate,
    /// Reads of one snapshot that was never the committed state, or an older one than was seen before.
    Unfit,
    /// A transaction that does not see its own writes.
    OwnWrites,
    /// A committed write that is not there.
    LostWrite,
    /// Rows that nobody has written, or not there, or not in this order.
    ThinAir,
    /// Commit versions that contradict the order of what was committed.
    VersionOrder,
}

#[derive(Debug, Clone)]
pub struct Anomaly {
    pub phenomenon: Phenomenon,
    pub transactions: Vec<usize>,
    pub what: String,
}

impl Anomaly {
    pub fn of(phenomenon: Phenomenon, transactions: impl Into<Vec<usize>>, what: String) -> Self {
        Anomaly { phenomenon, transactions: transactions.into(), what }
    }

    /// The anomaly that a cycle is.
    pub fn of_cycle(cycle: &[Edge]) -> Self {
        let transactions: Vec<usize> = cycle.iter().map(|edge| edge.from).collect();
        let what = cycle.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Anomaly { phenomenon: classify(cycle), transactions, what }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {}", self.phenomenon, self.what)
    }
}

impl fmt::Display for Edge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.dependency {
            Dependency::Write => "ww",
            Dependency::Read => "wr",
            Dependency::AntiItem => "rw",
            Dependency::AntiPredicate => "rw in a range",
            Dependency::RealTime => "real time",
            Dependency::Span => "begin to commit",
        };
        write!(formatter, "T{} -{kind}", self.from)?;
        self.key.iter().try_for_each(|key| write!(formatter, " {}", Name(*key)))?;
        write!(formatter, "-> T{}", self.to)
    }
}

fn classify(cycle: &[Edge]) -> Phenomenon {
    let has = |dependency| cycle.iter().any(|edge| edge.dependency == dependency);
    let anti = |edge: &Edge| edge.dependency.is_anti();
    let adjacent = cycle.iter().zip(cycle.iter().cycle().skip(1)).any(|(edge, next)| anti(edge) && anti(next));
    match cycle.iter().filter(|edge| anti(edge)).count() {
        _ if has(Dependency::RealTime) => Phenomenon::RealTime,
        0 if has(Dependency::Read) => Phenomenon::G1c,
        0 => Phenomenon::G0,
        1 => Phenomenon::GSingle,
        _ if !adjacent => Phenomenon::GNonadjacent,
        _ if has(Dependency::AntiPredicate) => Phenomenon::G2,
        _ => Phenomenon::G2Item,
    }
}

/// The simplest cycle of each phenomenon, whoever the transactions are and whatever their levels allow.
pub fn cycles(graph: &Graph) -> Vec<Anomaly> {
    if graph.is_acyclic() {
        return Vec::new();
    }
    let mut found: Vec<Anomaly> = Vec::new();
    // In parts, as the simplest cycle through an edge may hide another one of a stronger phenomenon.
    let writes = graph.filtered(|edge| edge.dependency == Dependency::Write);
    for graph in [&writes, graph] {
        for edge in graph.edges() {
            if let Some(cycle) = graph.cycle_through(*edge) {
                let anomaly = Anomaly::of_cycle(&cycle);
                let known = found.iter_mut().find(|known| known.phenomenon == anomaly.phenomenon);
                match known {
                    Some(known) if known.transactions.len() > anomaly.transactions.len() => *known = anomaly,
                    Some(_) => {}
                    None => found.push(anomaly),
                }
            }
        }
    }
    found.sort_by_key(|anomaly| anomaly.phenomenon);
    found
}
