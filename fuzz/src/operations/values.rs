//! The values that the operations put: rows of a few schemas, each row made from a number.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::types::{Int8Type, Int32Type};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, Int8Array, Int64Array, ListArray,
    RecordBatch, RecordBatchOptions, StringArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

pub const SCHEMAS: usize = 5;

/// A value as the model has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Below [`SCHEMAS`].
    pub schema: usize,
    pub rows: Vec<u16>,
}

impl Value {
    /// This value with the rows of another one behind its own; `None` where their schemas differ.
    pub fn joined(&self, other: &Value) -> Option<Value> {
        (self.schema == other.schema)
            .then(|| Value { schema: self.schema, rows: [self.rows.as_slice(), &other.rows].concat() })
    }

    pub fn batch(&self) -> RecordBatch {
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows.len()));
        RecordBatch::try_new_with_options(schema(self.schema), columns(self.schema, &self.rows), &options)
            .expect("the columns are those of the schema")
    }

    /// A number of bytes that no form of the value can do without.
    pub fn least_bytes(&self) -> u64 {
        if self.schema == 0 { 8 * self.rows.len() as u64 } else { 0 }
    }
}

pub fn schema(index: usize) -> SchemaRef {
    let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true)));
    let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    let fields = match index {
        // Fixed-width columns without nulls.
        0 => vec![Field::new("n", DataType::Int64, false)],
        1 => vec![Field::new("t", DataType::Utf8, true)],
        2 => vec![Field::new("d", dictionary, false), Field::new("l", list, true)],
        // Rows without columns.
        3 => vec![],
        // Columns of several alignments, in no good order.
        _ => vec![
            Field::new("b", DataType::Boolean, false),
            Field::new("i", DataType::Int8, true),
            Field::new("d", DataType::Decimal128(20, 2), false),
        ],
    };
    let metadata = HashMap::from([("schema".to_owned(), index.to_string())]);
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

fn columns(schema: usize, rows: &[u16]) -> Vec<ArrayRef> {
    let words = |modulus: u16| rows.iter().map(move |row| format!("w{}", row % modulus));
    match schema {
        0 => vec![Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| i64::from(*row))))],
        1 => vec![Arc::new(StringArray::from_iter(words(1000).map(|word| (word != "w5").then_some(word))))],
        2 => {
            let words: Vec<String> = words(40).collect();
            let words: DictionaryArray<Int8Type> = words.iter().map(String::as_str).collect();
            let lists = rows.iter().map(|row| {
                let numbers = (0..i32::from(row % 4)).map(|number| (number != 1).then_some(number));
                (*row != 6).then(|| numbers.collect::<Vec<_>>())
            });
            vec![Arc::new(words), Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))]
        }
        3 => vec![],
        _ => {
            let decimals = Decimal128Array::from_iter_values(rows.iter().map(|row| i128::from(*row)));
            vec![
                Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row % 2 == 1)))),
                Arc::new(Int8Array::from_iter(rows.iter().map(|row| (*row != 9).then_some((row % 100) as i8)))),
                Arc::new(decimals.with_precision_and_scale(20, 2).expect("they have fewer digits")),
            ]
        }
    }
}

/// What a stream of a range gives in all of its batches together, where all values have the same schema.
pub fn keyed_batch(entries: &[(Vec<u8>, Value)]) -> RecordBatch {
    let key = Field::new("key", DataType::Binary, false);
    let keys = entries.iter().flat_map(|(key, value)| std::iter::repeat_n(key.as_slice(), value.rows.len()));
    let keys: ArrayRef = Arc::new(BinaryArray::from_iter_values(keys));
    let Some((_, first)) = entries.first() else {
        return RecordBatch::try_new(Arc::new(Schema::new(vec![key])), vec![keys]).expect("a column of keys");
    };
    let values = schema(first.schema);
    let fields: Vec<_> = std::iter::once(Arc::new(key)).chain(values.fields().iter().cloned()).collect();
    let rows: Vec<u16> = entries.iter().flat_map(|(_, value)| value.rows.iter().copied()).collect();
    let columns = std::iter::once(keys).chain(columns(first.schema, &rows)).collect();
    let schema = Schema::new_with_metadata(fields, values.metadata().clone());
    RecordBatch::try_new(Arc::new(schema), columns).expect("the columns are those of the schema")
}
