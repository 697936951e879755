//! What the clients do.

use std::ops::Bound;

use khonsu::stm::KeyRange;

use crate::oracle::Key;
use crate::random::Random;

#[derive(Clone, Copy)]
pub enum Operation {
    Get(Key),
    Put(Key),
    /// From the first key up to the second, which is not part of it.
    Scan(Key, Key),
}

pub struct Workload {
    pub name: &'static str,
    pub keys: Key,
    pub clients: usize,
    kind: Kind,
    /// Cumulated weights of the keys, by rank.
    weights: Vec<f64>,
}

enum Kind {
    /// Ten operations on keys chosen by a zipf distribution, so many percent of them writes; a write reads its key
    /// first or does not.
    Mixed { writes: u64, reads_first: bool, declared: bool },
    /// The first client scans everything in parts and then updates one key; the others update two.
    LongScan,
    /// Two keys read and two updated, of very few.
    Hot,
}

const SKEW: f64 = 0.99;
/// Keys that the long scan reads at a time.
const PART: Key = 50;

pub fn all() -> Vec<Workload> {
    let workload = |name, clients, keys, kind| {
        let mut sum = 0.0;
        let weight = |rank: Key| {
            sum += 1.0 / f64::from(rank + 1).powf(SKEW);
            sum
        };
        Workload { name, keys, clients, kind, weights: (0..keys).map(weight).collect() }
    };
    let mixed = |writes, reads_first, declared| Kind::Mixed { writes, reads_first, declared };
    vec![
        workload("A: 10 operations, half blind writes, zipf", 2, 100_000, mixed(50, false, false)),
        workload("A: 10 operations, half blind writes, zipf", 8, 1000, mixed(50, false, false)),
        workload("A: half read-modify-writes", 8, 1000, mixed(50, true, false)),
        workload("A: half read-modify-writes", 16, 1000, mixed(50, true, false)),
        workload("B: 5 % read-modify-writes", 8, 1000, mixed(5, true, false)),
        workload("B: 5 % read-modify-writes", 16, 1000, mixed(5, true, false)),
        workload("B: and readers are declared", 16, 1000, mixed(5, true, true)),
        workload("a long scan and update beside updates of two", 8, 1000, Kind::LongScan),
        workload("hot: 2 reads, 2 updates of 16 keys", 8, 16, Kind::Hot),
    ]
}

impl Workload {
    pub fn is_long(&self, client: usize) -> bool {
        matches!(self.kind, Kind::LongScan) && client == 0
    }

    pub fn is_declared_read_only(&self, program: &[Operation]) -> bool {
        let reads_only = program.iter().all(|operation| !matches!(operation, Operation::Put(_)));
        reads_only && matches!(self.kind, Kind::Mixed { declared: true, .. })
    }

    pub fn program(&self, client: usize, random: &mut Random) -> Vec<Operation> {
        let update = |key| [Operation::Get(key), Operation::Put(key)];
        let uniform = |random: &mut Random| random.below(u64::from(self.keys)) as Key;
        match self.kind {
            Kind::Mixed { writes, reads_first, .. } => (0..10)
                .flat_map(|_| {
                    let key = self.zipf(random);
                    match (random.below(100) < writes, reads_first) {
                        (false, _) => vec![Operation::Get(key)],
                        (true, false) => vec![Operation::Put(key)],
                        (true, true) => update(key).to_vec(),
                    }
                })
                .collect(),
            Kind::LongScan if self.is_long(client) => {
                let parts = (0..self.keys).step_by(PART as usize).map(|from| Operation::Scan(from, from + PART));
                parts.chain(update(uniform(random))).collect()
            }
            Kind::LongScan => (0..2).flat_map(|_| update(uniform(random))).collect(),
            Kind::Hot => {
                let mut read = || Operation::Get(uniform(random));
                let reads = [read(), read()];
                let updates = (0..2).flat_map(|_| update(random.below(u64::from(self.keys)) as Key));
                reads.into_iter().chain(updates).collect()
            }
        }
    }

    fn zipf(&self, random: &mut Random) -> Key {
        let total = self.weights.last().copied().unwrap_or(0.0);
        let point = random.below(1 << 53) as f64 / (1_u64 << 53) as f64 * total;
        self.weights.partition_point(|weight| *weight <= point) as Key
    }
}

pub fn key_bytes(key: Key) -> [u8; 4] {
    key.to_be_bytes()
}

pub fn key_range(from: Key, to: Key) -> KeyRange {
    KeyRange::new(Bound::Included(key_bytes(from).to_vec()), Bound::Excluded(key_bytes(to).to_vec()))
}
