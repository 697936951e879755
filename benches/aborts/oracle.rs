//! The dependency graph of what was committed, asked whether one more transaction would close a cycle in it.
//!
//! Adya's direct serialization graph over a fixed set of keys, with an edge from each transaction to all that began
//! after it had ended. It knows everything and is exact; it is what a certifier can at best come close to.

pub type Key = u32;

/// A transaction that wants to commit.
pub struct Attempt {
    /// When it began, on the clock of the simulation.
    pub began: u64,
    /// The newest commit version that it could see.
    pub snapshot: u64,
    pub reads: Vec<Key>,
    pub writes: Vec<Key>,
}

struct Node {
    began: u64,
    ended: u64,
    successors: Vec<usize>,
}

struct Version {
    /// Commit version of the writer.
    number: u64,
    /// `None`: it was there from the start.
    writer: Option<usize>,
    readers: Vec<usize>,
}

/// Transactions are numbered in the order of their ends.
pub struct Oracle {
    nodes: Vec<Node>,
    /// By key, oldest first.
    versions: Vec<Vec<Version>>,
}

impl Oracle {
    pub fn new(keys: usize) -> Self {
        let initial = || vec![Version { number: 0, writer: None, readers: Vec::new() }];
        Oracle { nodes: Vec::new(), versions: (0..keys).map(|_| initial()).collect() }
    }

    pub fn newest(&self, key: Key) -> u64 {
        self.versions[key as usize].last().map_or(0, |version| version.number)
    }

    fn seen(&self, key: Key, snapshot: u64) -> usize {
        self.versions[key as usize].partition_point(|version| version.number <= snapshot) - 1
    }

    /// Who must come before the attempt, and after it, by what was read and written.
    fn neighbours(&self, attempt: &Attempt) -> (Vec<usize>, Vec<usize>) {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for key in &attempt.reads {
            let versions = &self.versions[*key as usize];
            let seen = self.seen(*key, attempt.snapshot);
            before.extend(versions[seen].writer);
            after.extend(versions.get(seen + 1).and_then(|overwriter| overwriter.writer));
        }
        for key in &attempt.writes {
            if let Some(overwritten) = self.versions[*key as usize].last() {
                before.extend(overwritten.writer);
                before.extend(&overwritten.readers);
            }
        }
        (before, after)
    }

    /// Whether the transaction cannot be ordered with those that have committed.
    pub fn would_close_a_cycle(&self, attempt: &Attempt) -> bool {
        let (before, mut reached) = self.neighbours(attempt);
        let mut is_before = vec![false; self.nodes.len()];
        before.into_iter().for_each(|node| is_before[node] = true);
        let mut visited = vec![false; self.nodes.len()];
        // All that began later than this have been reached.
        let mut earliest_end = u64::MAX;
        while let Some(node) = reached.pop() {
            if std::mem::replace(&mut visited[node], true) {
                continue;
            }
            let Node { ended, successors, .. } = &self.nodes[node];
            if is_before[node] || *ended < attempt.began {
                return true;
            }
            reached.extend(successors);
            if *ended < earliest_end {
                earliest_end = *ended;
                let later = self.nodes.iter().enumerate().skip(node + 1);
                reached.extend(later.filter(|(_, other)| other.began > *ended).map(|(number, _)| number));
            }
        }
        false
    }

    pub fn commit(&mut self, attempt: &Attempt, version: u64, ended: u64) {
        let (before, successors) = self.neighbours(attempt);
        let node = self.nodes.len();
        before.into_iter().for_each(|other| self.nodes[other].successors.push(node));
        self.nodes.push(Node { began: attempt.began, ended, successors });
        for key in &attempt.reads {
            let seen = self.seen(*key, attempt.snapshot);
            self.versions[*key as usize][seen].readers.push(node);
        }
        for key in &attempt.writes {
            let new = Version { number: version, writer: Some(node), readers: Vec::new() };
            self.versions[*key as usize].push(new);
        }
    }
}
