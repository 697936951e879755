//! The direct serialization graph (Adya, "Weak Consistency: A Generalized Theory and Optimistic Implementations for
//! Distributed Transactions", 1999) over numbered transactions. It knows nothing of any database.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Why one transaction comes before another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dependency {
    /// ww: the second one overwrote a version of the first.
    Write,
    /// wr: the second one read a version of the first.
    Read,
    /// rw: the second one overwrote a version that the first had read.
    AntiItem,
    /// rw: the second one changed what the first had found in a range.
    AntiPredicate,
    /// rt: the first had ended before the second began.
    RealTime,
    /// A transaction's commit comes after its own begin: only in a [`Graph::split`] graph.
    Span,
}

impl Dependency {
    pub fn is_anti(self) -> bool {
        matches!(self, Dependency::AntiItem | Dependency::AntiPredicate)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    pub from: usize,
    pub to: usize,
    pub dependency: Dependency,
    pub key: Option<u16>,
}

/// A version that a transaction read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRead {
    pub reader: usize,
    pub key: u16,
    /// 0 is the initial version, 1 the first in the key's chain.
    pub position: usize,
    /// Whether a scan met the key as absent, so that only a change of the range can tell.
    pub predicate: bool,
}

/// What is known of the order of committed transactions.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// The writers of each key's versions, oldest first.
    pub chains: BTreeMap<u16, Vec<usize>>,
    pub reads: Vec<VersionRead>,
    /// Begin and end of each transaction in real time; `None`: it did not commit.
    pub spans: Vec<Option<(u64, u64)>>,
}

#[derive(Debug, Clone)]
pub struct Graph {
    edges: Vec<Edge>,
    outgoing: Vec<Vec<usize>>,
}

impl Graph {
    pub fn new(nodes: usize, edges: impl IntoIterator<Item = Edge>) -> Self {
        let mut edges: Vec<Edge> = edges.into_iter().filter(|edge| edge.from != edge.to).collect();
        edges.sort_unstable();
        edges.dedup();
        let mut outgoing = vec![Vec::new(); nodes];
        for (number, edge) in edges.iter().enumerate() {
            outgoing[edge.from].push(number);
        }
        Graph { edges, outgoing }
    }

    /// The graph of all committed transactions.
    pub fn of(order: &Order) -> Self {
        let mut edges = Vec::new();
        for (key, chain) in &order.chains {
            let overwrite =
                |pair: &[usize]| Edge { from: pair[0], to: pair[1], dependency: Dependency::Write, key: Some(*key) };
            edges.extend(chain.windows(2).map(overwrite));
        }
        for read in &order.reads {
            let chain = order.chains.get(&read.key).map_or(&[][..], Vec::as_slice);
            let key = Some(read.key);
            if read.position > 0 {
                let from = chain[read.position - 1];
                edges.push(Edge { from, to: read.reader, dependency: Dependency::Read, key });
            }
            if let Some(overwriter) = chain.get(read.position) {
                let dependency = if read.predicate { Dependency::AntiPredicate } else { Dependency::AntiItem };
                edges.push(Edge { from: read.reader, to: *overwriter, dependency, key });
            }
        }
        edges.extend(real_time(&order.spans));
        Graph::new(order.spans.len(), edges)
    }

    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    pub fn filtered(&self, keep: impl Fn(&Edge) -> bool) -> Self {
        Graph::new(self.outgoing.len(), self.edges.iter().copied().filter(|edge| keep(edge)))
    }

    /// Begin and commit of each transaction as nodes of their own, 2n and 2n + 1: what is read is read at begin, what
    /// is written is written at commit. Without a cycle, every reader has one snapshot: this is snapshot isolation but
    /// for its rule about writers of one key. Where `snapshot` is false, reads are at some time before the commit.
    pub fn split(&self, snapshot: impl Fn(usize) -> bool) -> Self {
        let (begin, commit) = (|node: usize| 2 * node, |node: usize| 2 * node + 1);
        let spans = (0..self.outgoing.len()).map(|node| Edge {
            from: begin(node),
            to: commit(node),
            dependency: Dependency::Span,
            key: None,
        });
        let dependencies = self.edges.iter().filter_map(|edge| {
            let (from, to) = match edge.dependency {
                Dependency::Read if snapshot(edge.to) => (commit(edge.from), begin(edge.to)),
                Dependency::Read | Dependency::Write => (commit(edge.from), commit(edge.to)),
                Dependency::RealTime => (commit(edge.from), begin(edge.to)),
                Dependency::AntiItem | Dependency::AntiPredicate if snapshot(edge.from) => {
                    (begin(edge.from), commit(edge.to))
                }
                Dependency::AntiItem | Dependency::AntiPredicate | Dependency::Span => return None,
            };
            Some(Edge { from, to, ..*edge })
        });
        Graph::new(2 * self.outgoing.len(), spans.chain(dependencies))
    }

    /// By taking away, again and again, what nothing comes before.
    pub fn is_acyclic(&self) -> bool {
        let mut incoming = vec![0_usize; self.outgoing.len()];
        self.edges.iter().for_each(|edge| incoming[edge.to] += 1);
        let mut free: Vec<usize> = (0..incoming.len()).filter(|node| incoming[*node] == 0).collect();
        let mut taken = 0;
        while let Some(node) = free.pop() {
            taken += 1;
            for edge in &self.outgoing[node] {
                let to = self.edges[*edge].to;
                incoming[to] -= 1;
                if incoming[to] == 0 {
                    free.push(to);
                }
            }
        }
        taken == incoming.len()
    }

    /// The simplest cycle: with as few real-time edges as possible, then antidependencies, then edges.
    pub fn cycle(&self) -> Option<Vec<Edge>> {
        if self.is_acyclic() {
            return None;
        }
        let cycles = self.edges.iter().filter_map(|edge| self.cycle_through(*edge));
        cycles.min_by_key(|cycle| cycle.iter().map(cost).sum::<u64>())
    }

    /// The simplest cycle that one of these edges is part of.
    pub fn cycle_through(&self, edge: Edge) -> Option<Vec<Edge>> {
        let mut cycle = vec![edge];
        cycle.extend(self.path(edge.to, edge.from)?);
        Some(cycle)
    }

    /// Whether a transaction is on any cycle.
    pub fn is_on_cycle(&self, node: usize) -> bool {
        self.outgoing[node].iter().any(|edge| self.path(self.edges[*edge].to, node).is_some())
    }

    fn path(&self, from: usize, to: usize) -> Option<Vec<Edge>> {
        let mut best: Vec<Option<(u64, Option<usize>)>> = vec![None; self.outgoing.len()];
        let mut waiting = BinaryHeap::from([Reverse((0_u64, from))]);
        best[from] = Some((0, None));
        while let Some(Reverse((so_far, node))) = waiting.pop() {
            if node == to {
                break;
            }
            if best[node].is_some_and(|(cost, _)| cost < so_far) {
                continue;
            }
            for number in &self.outgoing[node] {
                let edge = &self.edges[*number];
                let total = so_far + cost(edge);
                if best[edge.to].is_none_or(|(known, _)| total < known) {
                    best[edge.to] = Some((total, Some(*number)));
                    waiting.push(Reverse((total, edge.to)));
                }
            }
        }
        let mut path = Vec::new();
        let mut node = to;
        while let (_, Some(number)) = best[node]? {
            path.push(self.edges[number]);
            node = self.edges[number].from;
        }
        path.reverse();
        Some(path)
    }
}

fn cost(edge: &Edge) -> u64 {
    match edge.dependency {
        Dependency::RealTime => 1 << 48,
        Dependency::AntiPredicate => (1 << 32) + (1 << 16),
        Dependency::AntiItem => 1 << 32,
        Dependency::Write | Dependency::Read => 1,
        Dependency::Span => 0,
    }
}

/// Real-time edges, without those that follow from others.
fn real_time(spans: &[Option<(u64, u64)>]) -> Vec<Edge> {
    let committed: Vec<(usize, u64, u64)> = spans
        .iter()
        .enumerate()
        .filter_map(|(number, span)| span.map(|(began, ended)| (number, began, ended)))
        .collect();
    let mut edges = Vec::new();
    for (to, began, _) in &committed {
        let before = || committed.iter().filter(|(_, _, ended)| ended < began);
        // Who ended before the last of these began comes before that one already.
        let last_begin = before().map(|(_, began, _)| *began).max().unwrap_or(0);
        let direct = before().filter(|(_, _, ended)| *ended >= last_begin);
        edges.extend(direct.map(|(from, _, _)| Edge {
            from: *from,
            to: *to,
            dependency: Dependency::RealTime,
            key: None,
        }));
    }
    edges
}
