//! The floor for points: a lock-free hash map, without transactions.

use std::sync::Arc;

use foldhash::fast::RandomState;
use papaya::{HashMap, HashMapRef, LocalGuard};

use crate::data::{Key, Row, Value};
use crate::peer::{Outcome, Peer, Session, View};

type Map = HashMap<Key, Value, RandomState>;

pub struct Papaya(Arc<Map>);

impl Peer for Papaya {
    const NAME: &'static str = "papaya";
    const CAN_SCAN: bool = false;
    const TRANSACTIONAL: bool = false;
    type Session = Threaded;

    fn description() -> String {
        "papaya 0.2.5, a floor: no transactions, one pin for the operations of each".into()
    }

    fn open() -> Self {
        Papaya(Arc::new(HashMap::with_hasher(RandomState::default())))
    }

    fn session(&self) -> Threaded {
        Threaded(Arc::clone(&self.0))
    }
}

pub struct Threaded(Arc<Map>);

impl Session for Threaded {
    fn run(&mut self, _: bool, body: &dyn Fn(&mut dyn View) -> Outcome<()>) -> u64 {
        body(&mut self.0.pin()).expect("there is nothing to abort");
        0
    }
}

impl View for HashMapRef<'_, Key, Value, RandomState, LocalGuard<'_>> {
    fn get(&mut self, key: &Key) -> Outcome<Row> {
        Ok(Row::of(HashMapRef::get(self, key).expect("the key is there")))
    }

    fn set(&mut self, key: &Key, row: Row) -> Outcome<()> {
        self.insert(*key, row.to_value());
        Ok(())
    }

    fn remove(&mut self, key: &Key) -> Outcome<()> {
        HashMapRef::remove(self, key);
        Ok(())
    }

    fn scan(&mut self, _: &Key) -> Outcome<f64> {
        unreachable!("a hash map has no order")
    }

    fn increment(&mut self, key: &Key) -> Outcome<()> {
        self.update(*key, |value| Row::of(value).incremented().to_value());
        Ok(())
    }
}
