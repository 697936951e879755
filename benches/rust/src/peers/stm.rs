//! The stm crate: one variable a key, found by a hash map and, for scans, in a sorted array. Both are fixed when the
//! keys are loaded, as an STM has no tables of its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};

use foldhash::fast::RandomState;
use stm::{StmError, TVar, Transaction, TransactionControl};

use crate::data::{Key, Row, SCAN_KEYS, Value, scanned};
use crate::peer::{Aborted, Outcome, Peer, Session, View};

type Variable = TVar<Option<Value>>;

#[derive(Default)]
struct Index {
    sorted: Vec<(Key, Variable)>,
    positions: HashMap<Key, usize, RandomState>,
}

#[derive(Default)]
struct Shared {
    loading: Mutex<BTreeMap<Key, Variable>>,
    index: OnceLock<Index>,
}

pub struct Stm(Arc<Shared>);

impl Peer for Stm {
    const NAME: &'static str = "stm";
    type Session = Threaded;

    fn description() -> String {
        "stm 0.4.0, a TVar of each value, in a hash map and a sorted array that are fixed after loading".into()
    }

    fn open() -> Self {
        Stm(Arc::default())
    }

    fn session(&self) -> Threaded {
        Threaded(Arc::clone(&self.0))
    }

    fn settle(&self) {
        self.0.index.get_or_init(|| {
            let sorted: Vec<_> = std::mem::take(&mut *self.0.loading.lock().expect("lock")).into_iter().collect();
            let positions = sorted.iter().enumerate().map(|(position, (key, _))| (*key, position)).collect();
            Index { sorted, positions }
        });
    }
}

pub struct Threaded(Arc<Shared>);

impl Session for Threaded {
    fn run(&mut self, _: bool, body: &dyn Fn(&mut dyn View) -> Outcome<()>) -> u64 {
        let Some(index) = self.0.index.get() else {
            body(&mut Loading(&self.0.loading)).expect("loading is not aborted");
            return 0;
        };
        let mut aborts = 0;
        let count = |_| {
            aborts += 1;
            TransactionControl::Retry
        };
        Transaction::with_control(count, |transaction| {
            body(&mut Running { index, transaction }).map_err(|Aborted| StmError::Failure)
        });
        aborts
    }
}

struct Loading<'a>(&'a Mutex<BTreeMap<Key, Variable>>);

impl View for Loading<'_> {
    fn get(&mut self, _: &Key) -> Outcome<Row> {
        unreachable!("not loaded")
    }

    fn set(&mut self, key: &Key, row: Row) -> Outcome<()> {
        self.0.lock().expect("lock").insert(*key, TVar::new(Some(row.to_value())));
        Ok(())
    }

    fn remove(&mut self, _: &Key) -> Outcome<()> {
        unreachable!("not loaded")
    }

    fn scan(&mut self, _: &Key) -> Outcome<f64> {
        unreachable!("not loaded")
    }
}

struct Running<'a> {
    index: &'a Index,
    transaction: &'a mut Transaction,
}

impl Running<'_> {
    fn write(&mut self, key: &Key, value: Option<Value>) -> Outcome<()> {
        let (_, variable) = &self.index.sorted[self.index.positions[key]];
        self.transaction.write(variable, value).map_err(|_| Aborted)
    }

    fn read(&mut self, position: usize) -> Outcome<Row> {
        let value = self.transaction.read(&self.index.sorted[position].1).map_err(|_| Aborted)?;
        Ok(Row::of(&value.expect("the key is there")))
    }
}

impl View for Running<'_> {
    fn get(&mut self, key: &Key) -> Outcome<Row> {
        self.read(self.index.positions[key])
    }

    fn set(&mut self, key: &Key, row: Row) -> Outcome<()> {
        self.write(key, Some(row.to_value()))
    }

    fn remove(&mut self, key: &Key) -> Outcome<()> {
        self.write(key, None)
    }

    fn scan(&mut self, start: &Key) -> Outcome<f64> {
        let first = self.index.sorted.partition_point(|(key, _)| key < start);
        (first..first + SCAN_KEYS)
            .try_fold(0.0, |sum, position| Ok(sum + scanned(&self.index.sorted[position].0, self.read(position)?)))
    }
}
