//! redb on its in-memory backend. Commits are not made durable until the run is over: the fastest it has.

use std::sync::Arc;

use redb::backends::InMemoryBackend;
use redb::{Builder, Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, Table, TableDefinition};

use crate::data::{Key, Row, SCAN_KEYS, Value, scanned};
use crate::peer::{Outcome, Peer, Session, View};

const TABLE: TableDefinition<&Key, &Value> = TableDefinition::new("rows");

pub struct Redb(Arc<Database>);

impl Peer for Redb {
    const NAME: &'static str = "redb";
    type Session = Threaded;

    fn description() -> String {
        "redb 4.5.0, InMemoryBackend, Durability::None with a durable commit between runs; one writer at a time".into()
    }

    fn open() -> Self {
        let database = Builder::new().create_with_backend(InMemoryBackend::new()).expect("create");
        Redb(Arc::new(database))
    }

    fn session(&self) -> Threaded {
        Threaded(Arc::clone(&self.0))
    }

    /// Only a durable commit frees the pages of those before it.
    fn settle(&self) {
        self.0.begin_write().expect("begin").commit().expect("commit");
    }
}

pub struct Threaded(Arc<Database>);

impl Session for Threaded {
    fn run(&mut self, read_only: bool, body: &dyn Fn(&mut dyn View) -> Outcome<()>) -> u64 {
        const NEVER: &str = "no transaction is aborted";
        if read_only {
            let transaction = self.0.begin_read().expect("begin");
            let mut table = transaction.open_table(TABLE).expect("open_table");
            body(&mut table).expect(NEVER);
        } else {
            let mut transaction = self.0.begin_write().expect("begin");
            transaction.set_durability(Durability::None).expect("set_durability");
            body(&mut transaction.open_table(TABLE).expect("open_table")).expect(NEVER);
            transaction.commit().expect("commit");
        }
        0
    }
}

fn get(table: &impl ReadableTable<&'static Key, &'static Value>, key: &Key) -> Row {
    Row::of(table.get(key).expect("get").expect("the key is there").value())
}

impl View for ReadOnlyTable<&'static Key, &'static Value> {
    fn get(&mut self, key: &Key) -> Outcome<Row> {
        Ok(get(self, key))
    }

    fn set(&mut self, _: &Key, _: Row) -> Outcome<()> {
        unreachable!("read-only")
    }

    fn remove(&mut self, _: &Key) -> Outcome<()> {
        unreachable!("read-only")
    }

    fn scan(&mut self, start: &Key) -> Outcome<f64> {
        let entries = ReadableTable::range::<&Key>(self, start..).expect("range").take(SCAN_KEYS);
        Ok(entries
            .map(|entry| {
                let (key, value) = entry.expect("range");
                scanned(key.value(), Row::of(value.value()))
            })
            .sum())
    }
}

impl View for Table<'_, &'static Key, &'static Value> {
    fn get(&mut self, key: &Key) -> Outcome<Row> {
        Ok(get(self, key))
    }

    fn set(&mut self, key: &Key, row: Row) -> Outcome<()> {
        self.insert(key, &row.to_value()).expect("insert");
        Ok(())
    }

    fn remove(&mut self, key: &Key) -> Outcome<()> {
        Table::remove(self, key).expect("remove");
        Ok(())
    }

    fn scan(&mut self, _: &Key) -> Outcome<f64> {
        unreachable!("scans are read-only")
    }
}
