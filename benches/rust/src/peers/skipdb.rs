//! skipdb, serializable snapshot isolation over crossbeam's skip list.

use skipdb::ReadTransaction;
use skipdb::serializable::{SerializableDb, SerializableTransaction};
use txn::BTreeCm;
use txn::error::{TransactionError, WtmError};

use crate::data::{Key, Row, SCAN_KEYS, Value, scanned};
use crate::peer::{Outcome, Peer, Session, View};

#[derive(Clone)]
pub struct Skipdb(SerializableDb<Key, Value>);

impl Peer for Skipdb {
    const NAME: &'static str = "skipdb";
    type Session = Self;

    fn description() -> String {
        "skipdb 0.2.1, SerializableDb with serializable_write, compacted between runs".into()
    }

    fn open() -> Self {
        Skipdb(SerializableDb::new())
    }

    fn session(&self) -> Self {
        self.clone()
    }

    fn settle(&self) {
        self.0.compact();
    }
}

impl Session for Skipdb {
    fn run(&mut self, read_only: bool, body: &dyn Fn(&mut dyn View) -> Outcome<()>) -> u64 {
        if read_only {
            body(&mut self.0.read()).expect("readers are not aborted");
            return 0;
        }
        for aborts in 0.. {
            let mut transaction = self.0.serializable_write();
            body(&mut transaction).expect("only the commit can be aborted");
            match transaction.commit() {
                Ok(()) => return aborts,
                Err(WtmError::Transaction(TransactionError::Conflict)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        unreachable!("the loop has no end")
    }
}

impl View for ReadTransaction<Key, Value, SerializableDb<Key, Value>, BTreeCm<Key>> {
    fn get(&mut self, key: &Key) -> Outcome<Row> {
        Ok(Row::of(ReadTransaction::get(self, key).expect("the key is there").value().as_slice()))
    }

    fn set(&mut self, _: &Key, _: Row) -> Outcome<()> {
        unreachable!("read-only")
    }

    fn remove(&mut self, _: &Key) -> Outcome<()> {
        unreachable!("read-only")
    }

    fn scan(&mut self, start: &Key) -> Outcome<f64> {
        let entries = self.range(*start..).take(SCAN_KEYS);
        Ok(entries.map(|entry| scanned(entry.key(), Row::of(entry.value().as_slice()))).sum())
    }
}

impl View for SerializableTransaction<Key, Value> {
    fn get(&mut self, key: &Key) -> Outcome<Row> {
        let value = SerializableTransaction::get(self, key).expect("get").expect("the key is there");
        Ok(Row::of(value.value().as_slice()))
    }

    fn set(&mut self, key: &Key, row: Row) -> Outcome<()> {
        self.insert(*key, row.to_value()).expect("insert");
        Ok(())
    }

    fn remove(&mut self, key: &Key) -> Outcome<()> {
        SerializableTransaction::remove(self, *key).expect("remove");
        Ok(())
    }

    fn scan(&mut self, _: &Key) -> Outcome<f64> {
        unreachable!("scans are read-only")
    }
}
