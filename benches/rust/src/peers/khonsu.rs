//! khonsu from Rust, for reference: with Arrow's batches, and with rows that cost next to nothing.

use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use arrow_array::{Float64Array, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use khonsu::stm::{Chunk, Direction, Error, KeyRange, Options, Transaction, TransactionManager, TransactionOptions};

use crate::data::{Key, Row, SCAN_KEYS, scanned};
use crate::peer::{Outcome, Peer, Session, View};

/// How a row is kept.
pub trait Kept: Chunk {
    const NAME: &'static str;
    const DESCRIPTION: &'static str;
    fn keep(row: Row) -> Self;
    fn row(&self) -> Row;
}

impl Kept for RecordBatch {
    const NAME: &'static str = "khonsu (Rust)";
    const DESCRIPTION: &'static str = "khonsu from Rust, serializable, each value a RecordBatch of arrow-rs";

    fn keep(row: Row) -> Self {
        static SCHEMA: OnceLock<SchemaRef> = OnceLock::new();
        let schema = SCHEMA.get_or_init(|| {
            let field = |name, kind| Field::new(name, kind, false);
            Arc::new(Schema::new(vec![
                field("id", DataType::Int64),
                field("counter", DataType::Int64),
                field("price", DataType::Float64),
                field("amount", DataType::Float64),
            ]))
        });
        let columns: Vec<arrow_array::ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![row.id])),
            Arc::new(Int64Array::from(vec![row.counter])),
            Arc::new(Float64Array::from(vec![row.price])),
            Arc::new(Float64Array::from(vec![row.amount])),
        ];
        RecordBatch::try_new(Arc::clone(schema), columns).expect("four columns")
    }

    fn row(&self) -> Row {
        let int = |column: usize| self.column(column).as_any().downcast_ref::<Int64Array>().expect("int64").value(0);
        let float =
            |column: usize| self.column(column).as_any().downcast_ref::<Float64Array>().expect("float64").value(0);
        Row { id: int(0), counter: int(1), price: float(2), amount: float(3) }
    }
}

impl Chunk for Row {
    fn same_schema(&self, _: &Self) -> bool {
        true
    }

    fn rows(&self) -> u64 {
        1
    }

    fn bytes(&self) -> u64 {
        size_of::<Self>() as u64
    }
}

impl Kept for Row {
    const NAME: &'static str = "khonsu (Rust, no Arrow)";
    const DESCRIPTION: &'static str = "khonsu from Rust, serializable, each value 32 bytes in the version itself";

    fn keep(row: Row) -> Self {
        row
    }

    fn row(&self) -> Row {
        *self
    }
}

pub type WithArrow = Khonsu<RecordBatch>;
pub type WithoutArrow = Khonsu<Row>;

pub struct Khonsu<C: Kept>(TransactionManager<C>);

impl<C: Kept> Peer for Khonsu<C> {
    const NAME: &'static str = C::NAME;
    type Session = Threaded<C>;

    fn description() -> String {
        C::DESCRIPTION.into()
    }

    fn open() -> Self {
        Khonsu(TransactionManager::new(Options::default()))
    }

    fn session(&self) -> Threaded<C> {
        let reading = TransactionOptions { read_only: true, ..TransactionOptions::default() };
        Threaded { database: self.0.clone(), reading, writing: TransactionOptions::default() }
    }
}

pub struct Threaded<C: Kept> {
    database: TransactionManager<C>,
    reading: TransactionOptions,
    writing: TransactionOptions,
}

impl<C: Kept> Session for Threaded<C> {
    fn run(&mut self, read_only: bool, body: &dyn Fn(&mut dyn View) -> Outcome<()>) -> u64 {
        let options = if read_only { &self.reading } else { &self.writing };
        for aborts in 0.. {
            let mut transaction = self.database.begin(options);
            body(&mut transaction).expect("only the commit can be aborted");
            match transaction.commit() {
                Ok(_) => return aborts,
                Err(Error::Conflict(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        unreachable!("the loop has no end")
    }
}

impl<C: Kept> View for Transaction<C> {
    fn get(&mut self, key: &Key) -> Outcome<Row> {
        let value = Transaction::get(self, key).expect("get").expect("the key is there");
        Ok(value.single().expect("one chunk").row())
    }

    fn set(&mut self, key: &Key, row: Row) -> Outcome<()> {
        self.put(key, C::keep(row)).expect("put");
        Ok(())
    }

    fn remove(&mut self, key: &Key) -> Outcome<()> {
        self.delete(key).expect("delete");
        Ok(())
    }

    fn scan(&mut self, start: &Key) -> Outcome<f64> {
        let range = KeyRange::new(Bound::Included(start.to_vec()), Bound::Unbounded);
        let found = Transaction::scan(self, range, Direction::Forward, Some(SCAN_KEYS as u64)).expect("scan");
        assert_eq!(found.len(), SCAN_KEYS);
        Ok(found.iter().map(|(key, value)| scanned(key, value.single().expect("one chunk").row())).sum())
    }
}
