//! surrealmx, strictly serializable updates over a concurrent radix tree.

use std::sync::Arc;

use surrealmx::{Database, Error, Transaction};

use crate::data::{Key, Row, SCAN_KEYS, scanned};
use crate::peer::{Outcome, Peer, Session, View};

pub struct Surrealmx(Arc<Database>);

impl Peer for Surrealmx {
    const NAME: &'static str = "surrealmx";
    type Session = Threaded;

    fn description() -> String {
        "surrealmx 1.1.0, in memory, default options: strictly serializable updates, reads by with_value and scan_with"
            .into()
    }

    fn open() -> Self {
        Surrealmx(Arc::new(Database::new()))
    }

    fn session(&self) -> Threaded {
        Threaded(Arc::clone(&self.0))
    }
}

pub struct Threaded(Arc<Database>);

impl Session for Threaded {
    fn run(&mut self, read_only: bool, body: &dyn Fn(&mut dyn View) -> Outcome<()>) -> u64 {
        for aborts in 0.. {
            let mut transaction = self.0.transaction(!read_only);
            body(&mut transaction).expect("only the commit can be aborted");
            // A read-only transaction has nothing to commit.
            let committed = if read_only { transaction.cancel() } else { transaction.commit() };
            match committed {
                Ok(()) => return aborts,
                Err(Error::KeyReadConflict | Error::KeyWriteConflict) => {}
                Err(error) => panic!("{error}"),
            }
        }
        unreachable!("the loop has no end")
    }
}

impl View for Transaction {
    fn get(&mut self, key: &Key) -> Outcome<Row> {
        Ok(self.with_value(key, Row::of).expect("get").expect("the key is there"))
    }

    fn set(&mut self, key: &Key, row: Row) -> Outcome<()> {
        Transaction::set(self, key, row.to_value()).expect("set");
        Ok(())
    }

    fn remove(&mut self, key: &Key) -> Outcome<()> {
        self.del(key).expect("del");
        Ok(())
    }

    fn scan(&mut self, start: &Key) -> Outcome<f64> {
        let mut sum = 0.0;
        let found = self.scan_with(start.as_slice()..b"userx".as_slice(), None, Some(SCAN_KEYS), |key, value| {
            sum += scanned(key.as_slice(), Row::of(value));
            true
        });
        assert_eq!(found.expect("scan"), SCAN_KEYS);
        Ok(sum)
    }
}
