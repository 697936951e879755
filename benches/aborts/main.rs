//! How many transactions certification aborts, beside what backward validation would abort, and what had to be.
//!
//! Clients take turns, one operation at a time, in an order drawn from a seed: the same run each time, and no clock in
//! it. Writes that conflict with writes are counted apart, as no certification is asked about them. Backward validation
//! runs in the harness: it rolls back whoever has read something that was overwritten since its snapshot.
//!
//! `cargo bench --bench aborts -- [--quick] [--out FILE]`

mod oracle;
#[path = "../../tests/common/random.rs"]
mod random;
mod workload;

use khonsu::stm::{
    Chunk, ConflictKind, Direction, Error, Options, Transaction, TransactionManager, TransactionOptions,
};

use oracle::{Attempt, Oracle};
use random::Random;
use workload::{Operation, Workload, key_bytes};

#[derive(Clone, Copy)]
struct Nothing;

impl Chunk for Nothing {
    fn same_schema(&self, _: &Self) -> bool {
        true
    }

    fn rows(&self) -> u64 {
        1
    }

    fn bytes(&self) -> u64 {
        8
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Policy {
    BackwardValidation,
    Tracker,
}

#[derive(Default)]
struct Counts {
    attempts: u64,
    commits: u64,
    write_conflicts: u64,
    /// By certification, and those among them that would have closed a cycle.
    aborts: u64,
    called_for: u64,
    long_attempts: u64,
    long_commits: u64,
}

struct Client {
    number: usize,
    program: Vec<Operation>,
    position: usize,
    read_only: bool,
    transaction: Transaction<Nothing>,
    attempt: Attempt,
}

struct Run<'a> {
    workload: &'a Workload,
    policy: Policy,
    database: TransactionManager<Nothing>,
    oracle: Oracle,
    random: Random,
    /// Of the simulation: one tick an operation.
    now: u64,
    counts: Counts,
}

impl<'a> Run<'a> {
    fn new(workload: &'a Workload, policy: Policy) -> Self {
        let database = TransactionManager::new(Options::default());
        let mut transaction = database.begin(&TransactionOptions::default());
        for key in 0..workload.keys {
            transaction.put(&key_bytes(key), Nothing).expect("put");
        }
        transaction.commit().expect("nobody is there to conflict with");
        let oracle = Oracle::new(workload.keys as usize);
        Run { workload, policy, database, oracle, random: Random::new(1), now: 0, counts: Counts::default() }
    }

    fn begin(&mut self, number: usize, program: Vec<Operation>) -> Client {
        let read_only = self.workload.is_declared_read_only(&program);
        let transaction = self.database.begin(&TransactionOptions { read_only, ..TransactionOptions::default() });
        let snapshot = transaction.snapshot_version();
        let attempt = Attempt { began: self.now, snapshot, reads: Vec::new(), writes: Vec::new() };
        self.counts.attempts += 1;
        self.counts.long_attempts += u64::from(self.workload.is_long(number));
        Client { number, program, position: 0, read_only, transaction, attempt }
    }

    /// The next operation of a client; behind the last one the commit. True: a transaction has ended.
    fn step(&mut self, client: &mut Client) -> bool {
        self.now += 1;
        let Some(operation) = client.program.get(client.position) else {
            let committed = self.commit(client);
            let program = match committed {
                true => self.workload.program(client.number, &mut self.random),
                false => std::mem::take(&mut client.program),
            };
            *client = self.begin(client.number, program);
            return true;
        };
        client.position += 1;
        let Client { transaction, attempt, .. } = client;
        match *operation {
            Operation::Get(key) => {
                transaction.exists(&key_bytes(key)).expect("exists");
                attempt.reads.push(key);
            }
            Operation::Put(key) => {
                transaction.put(&key_bytes(key), Nothing).expect("put");
                attempt.writes.push(key);
            }
            Operation::Scan(from, to) => {
                let range = workload::key_range(from, to);
                transaction.scan(range, Direction::Forward, None).expect("scan");
                attempt.reads.extend(from..to);
            }
        }
        false
    }

    fn commit(&mut self, client: &mut Client) -> bool {
        let attempt = &mut client.attempt;
        for keys in [&mut attempt.reads, &mut attempt.writes] {
            keys.sort_unstable();
            keys.dedup();
        }
        let overtaken = |keys: &[u32]| keys.iter().any(|key| self.oracle.newest(*key) > attempt.snapshot);
        let write_conflict = overtaken(&attempt.writes);
        let stale = overtaken(&attempt.reads) && !attempt.writes.is_empty();
        if write_conflict {
            self.counts.write_conflicts += 1;
            let committed = client.transaction.commit();
            assert!(
                matches!(committed, Err(Error::Conflict(conflicts)) if conflicts[0].kind == ConflictKind::WriteWrite)
            );
            return false;
        }
        let committed = match self.policy {
            Policy::BackwardValidation if stale => client.transaction.rollback().map(|()| None),
            _ => match client.transaction.commit() {
                Ok(version) => Ok(Some(version)),
                Err(Error::Conflict(_)) => Ok(None),
                Err(error) => Err(error),
            },
        };
        match committed.expect("only conflicts are expected") {
            Some(version) => {
                assert!(!self.oracle.would_close_a_cycle(attempt), "a cycle was committed");
                self.oracle.commit(attempt, version, self.now);
                self.counts.commits += 1;
                self.counts.long_commits += u64::from(self.workload.is_long(client.number));
                true
            }
            None => {
                assert!(!client.read_only, "a read-only transaction was aborted");
                self.counts.aborts += 1;
                self.counts.called_for += u64::from(self.oracle.would_close_a_cycle(attempt));
                false
            }
        }
    }
}

fn run(workload: &Workload, policy: Policy, transactions: u64) -> Counts {
    let mut run = Run::new(workload, policy);
    let mut clients: Vec<Client> = Vec::new();
    for number in 0..workload.clients {
        let program = workload.program(number, &mut run.random);
        clients.push(run.begin(number, program));
    }
    while run.counts.commits < transactions {
        let client = run.random.below(clients.len() as u64) as usize;
        run.step(&mut clients[client]);
    }
    run.counts
}

/// The table as benches/report reads it: one measurement a count.
fn measure(quick: bool) -> String {
    let transactions = if quick { 1_000 } else { 10_000 };
    let option = if quick { " -- --quick" } else { "" };
    let mut measurements = Vec::new();
    for workload in workload::all() {
        for policy in [Policy::BackwardValidation, Policy::Tracker] {
            let counts = run(&workload, policy, transactions);
            let peer = match policy {
                Policy::BackwardValidation => "backward validation",
                Policy::Tracker => "khonsu",
            };
            let mut add = |what: &str, count: u64, of: u64, unit: &str| {
                measurements.push(format!(
                    "{{\"workload\": \"aborts: {}, {} keys: {what}\", \"threads\": {}, \"peer\": \"{peer}\", \
                     \"unit\": \"{unit}\", \"samples\": [{}]}}",
                    workload.name,
                    workload.keys,
                    workload.clients,
                    count as f64 / of as f64,
                ));
            };
            add("write conflicts", counts.write_conflicts, counts.attempts, "of the attempts");
            add("by certification", counts.aborts, counts.attempts, "of the attempts");
            add("called for", counts.called_for, counts.attempts, "of the attempts");
            add("per commit", counts.write_conflicts + counts.aborts, counts.commits, "aborts/commit");
            if counts.long_attempts > 0 {
                add("long commits", counts.long_commits, counts.long_attempts, "of the attempts");
            }
        }
    }
    format!(
        "{{\n\"notes\": {{\"command\": \"cargo bench --bench aborts{option}\", \"transactions\": \"{transactions}\"}},\n\
         \"peers\": {{}},\n\"measurements\": [\n{}\n]\n}}\n",
        measurements.join(",\n")
    )
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let text = measure(quick);
    match arguments.iter().position(|argument| argument == "--out") {
        Some(place) => std::fs::write(&arguments[place + 1], text).expect("the samples can be written"),
        None => print!("{text}"),
    }
}
