//! The dependency graph of the committed transactions (Adya's direct serialization graph, with real time): a cycle in
//! it is a violation of strict serializability.
//!
//! Edges: from the writer of a version to the writer of the next one, from the writer of a version to a serializable
//! reader of it, from a serializable reader to the writer of a later version of what it read (absent keys and ranges
//! included), and from a transaction to each that began after its end. An edge of real time never leads back, and the
//! others touch the transaction that commits; so a new cycle goes through it.

use std::collections::BTreeMap;

use super::model::{Key, Seen};

#[derive(Default)]
pub struct Graph {
    nodes: Vec<Node>,
    /// Of each key: the commits that changed it, in order, with their nodes.
    versions: BTreeMap<Key, Vec<(u64, usize)>>,
    now: u64,
}

struct Node {
    /// Committed ones that must come later, and why.
    successors: Vec<(usize, &'static str)>,
    began: u64,
    ended: u64,
    seen: Option<Seen>,
    changed: Vec<Key>,
}

const WROTE_AND_READ: &str = "wrote what was read by";
const WROTE_AND_OVERWRITTEN: &str = "wrote what was overwritten by";
const READ_AND_OVERWRITTEN: &str = "read what was overwritten by";
const BEFORE: &str = "ended before the begin of";

/// A moment, to be asked for when a transaction begins.
#[derive(Clone, Copy)]
pub struct Moment(u64);

impl Graph {
    pub fn moment(&mut self) -> Moment {
        self.now += 1;
        Moment(self.now)
    }

    /// Adds a transaction that was committed just now; panics if that closes a cycle.
    ///
    /// `seen` is what it read if it is serializable, `changed` are the keys whose values its commit changed.
    pub fn commit(&mut self, began: Moment, seen: Option<Seen>, changed: Vec<Key>, version: u64) {
        let this = self.nodes.len();
        let ended = self.moment().0;
        let mut successors = Vec::new();
        for (key, versions) in &self.versions {
            if let Some(seen) = seen.as_ref().filter(|seen| seen.covers(key)) {
                for (version, writer) in versions {
                    match *version <= seen.snapshot {
                        true => self.nodes[*writer].successors.push((this, WROTE_AND_READ)),
                        false => successors.push((*writer, READ_AND_OVERWRITTEN)),
                    }
                }
            }
        }
        for key in &changed {
            if let Some((_, writer)) = self.versions.get(key).and_then(|versions| versions.last()) {
                self.nodes[*writer].successors.push((this, WROTE_AND_OVERWRITTEN));
            }
            for node in &mut self.nodes {
                if node.seen.as_ref().is_some_and(|seen| seen.covers(key)) {
                    node.successors.push((this, READ_AND_OVERWRITTEN));
                }
            }
            self.versions.entry(key.clone()).or_default().push((version, this));
        }
        for node in &mut self.nodes {
            if node.ended < began.0 {
                node.successors.push((this, BEFORE));
            }
        }
        self.nodes.push(Node { successors, began: began.0, ended, seen, changed });
        if let Some(cycle) = self.cycle_through(this) {
            panic!("the committed transactions have no order:\n{cycle}");
        }
    }

    /// A cycle through a node, in words.
    fn cycle_through(&self, start: usize) -> Option<String> {
        let mut reached_from = vec![None; self.nodes.len()];
        let mut left = vec![start];
        while let Some(node) = left.pop() {
            for (successor, why) in &self.nodes[node].successors {
                if reached_from[*successor].is_none() {
                    reached_from[*successor] = Some((node, *why));
                    left.push(*successor);
                }
            }
        }
        let mut lines = Vec::new();
        let mut node = start;
        loop {
            let (before, why) = reached_from[node]?;
            let Node { began, ended, changed, .. } = &self.nodes[before];
            let changed: Vec<_> = changed.iter().map(|key| key.escape_ascii().to_string()).collect();
            lines.push(format!("{before} (from {began} to {ended}, of {}) {why} {node}", changed.join(", ")));
            node = before;
            if node == start {
                lines.reverse();
                return Some(lines.join("\n"));
            }
        }
    }
}
