//! Batches of every type, for the tests.

use arrow_array::builder::{
    FixedSizeBinaryBuilder, Int32Builder, ListBuilder, ListViewBuilder, MapBuilder, StringBuilder, StringViewBuilder,
};
use arrow_array::types::{Float16Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt16Type};
use arrow_array::*;
use arrow_buffer::{IntervalDayTime, IntervalMonthDayNano, NullBuffer, ScalarBuffer, i256};
use arrow_schema::{DataType, Field, Schema, UnionFields};
use std::collections::HashMap;
use std::sync::Arc;

type Half = <Float16Type as ArrowPrimitiveType>::Native;

/// A batch of these columns, all nullable but the first, with metadata on both levels.
pub(crate) fn batch_of(columns: Vec<(String, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| {
            Field::new(name, array.data_type().clone(), true).with_metadata(HashMap::from([
                ("unit".to_string(), format!("of {name}")),
                ("empty".to_string(), String::new()),
            ]))
        })
        .collect();
    let rows = columns.first().map_or(0, |(_, array)| array.len());
    let schema = Schema::new(fields).with_metadata(HashMap::from([
        ("origin".to_string(), "samples".to_string()),
        ("note".to_string(), "\u{e4}\u{1f600}".to_string()),
    ]));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(schema), arrays, &options).unwrap()
}

/// One row of four primitive columns.
pub(crate) fn small() -> RecordBatch {
    batch_of(vec![
        ("a".to_string(), Arc::new(Int64Array::from(vec![1])) as ArrayRef),
        ("b".to_string(), Arc::new(Float64Array::from(vec![2.5]))),
        ("c".to_string(), Arc::new(Int64Array::from(vec![-3]))),
        ("d".to_string(), Arc::new(Float64Array::from(vec![0.5]))),
    ])
}

fn every<T>(rows: usize, value: impl Fn(usize) -> T) -> Vec<Option<T>> {
    (0..rows).map(|row| (row % 3 != 1).then(|| value(row))).collect()
}

/// A column of every type that arrow-rs carries over the C Data Interface, with nulls.
pub(crate) fn columns(rows: usize) -> Vec<(String, ArrayRef)> {
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    let mut add = |name: &str, array: ArrayRef| columns.push((name.to_string(), array));
    macro_rules! primitive {
        ($($name:literal $array:ident $value:expr;)*) => {
            $(add($name, Arc::new($array::from(every(rows, $value))));)*
        };
    }
    primitive! {
        "int8" Int8Array |row| row as i8;
        "uint8" UInt8Array |row| row as u8;
        "int16" Int16Array |row| row as i16;
        "uint16" UInt16Array |row| row as u16;
        "int32" Int32Array |row| row as i32;
        "uint32" UInt32Array |row| row as u32;
        "int64" Int64Array |row| row as i64;
        "uint64" UInt64Array |row| row as u64;
        "float16" Float16Array |row| Half::from_f32(row as f32);
        "float32" Float32Array |row| row as f32;
        "float64" Float64Array |row| row as f64;
        "date32" Date32Array |row| row as i32;
        "date64" Date64Array |row| row as i64 * 86_400_000;
        "time32_s" Time32SecondArray |row| row as i32;
        "time32_ms" Time32MillisecondArray |row| row as i32;
        "time64_us" Time64MicrosecondArray |row| row as i64;
        "time64_ns" Time64NanosecondArray |row| row as i64;
        "timestamp_s" TimestampSecondArray |row| row as i64;
        "timestamp_ms" TimestampMillisecondArray |row| row as i64;
        "timestamp_ns" TimestampNanosecondArray |row| row as i64;
        "duration_s" DurationSecondArray |row| row as i64;
        "duration_ms" DurationMillisecondArray |row| row as i64;
        "duration_us" DurationMicrosecondArray |row| row as i64;
        "duration_ns" DurationNanosecondArray |row| row as i64;
        "months" IntervalYearMonthArray |row| row as i32;
        "days" IntervalDayTimeArray |row| IntervalDayTime::new(row as i32, 1);
        "month_day_nano" IntervalMonthDayNanoArray
            |row| IntervalMonthDayNano::new(row as i32, 2, 3);
        "boolean" BooleanArray |row| row % 2 == 0;
    }
    add(
        "timestamp_zone",
        Arc::new(TimestampMicrosecondArray::from(every(rows, |row| row as i64)).with_timezone("Europe/Berlin")),
    );
    add(
        "decimal32",
        Arc::new(Decimal32Array::from(every(rows, |row| row as i32)).with_precision_and_scale(7, 2).unwrap()),
    );
    add(
        "decimal64",
        Arc::new(Decimal64Array::from(every(rows, |row| row as i64)).with_precision_and_scale(15, 3).unwrap()),
    );
    add(
        "decimal128",
        Arc::new(Decimal128Array::from(every(rows, |row| row as i128 - 5)).with_precision_and_scale(30, 4).unwrap()),
    );
    add(
        "decimal256",
        Arc::new(
            Decimal256Array::from(every(rows, |row| i256::from_i128(row as i128)))
                .with_precision_and_scale(60, -2)
                .unwrap(),
        ),
    );
    add("null", Arc::new(NullArray::new(rows)));
    let text = |row: usize| format!("row {row}");
    add("utf8", Arc::new(StringArray::from(every(rows, text))));
    add("large_utf8", Arc::new(LargeStringArray::from(every(rows, text))));
    let bytes: Vec<Vec<u8>> = (0..rows).map(|row| vec![row as u8; row % 5]).collect();
    let optional = || bytes.iter().enumerate().map(|(row, bytes)| (row % 4 != 2).then_some(bytes.as_slice()));
    add("binary", Arc::new(optional().collect::<BinaryArray>()));
    add("large_binary", Arc::new(optional().collect::<LargeBinaryArray>()));
    add("binary_view", Arc::new(optional().collect::<BinaryViewArray>()));
    let mut views = StringViewBuilder::new().with_fixed_block_size(64);
    for row in 0..rows {
        match row % 3 {
            0 => views.append_value("short"),
            1 => views.append_null(),
            _ => views.append_value(format!("longer than an inline view {row}")),
        }
    }
    add("utf8_view", Arc::new(views.finish()));
    let mut fixed = FixedSizeBinaryBuilder::new(3);
    for row in 0..rows {
        if row % 2 == 0 {
            fixed.append_value([row as u8; 3]).unwrap();
        } else {
            fixed.append_null();
        }
    }
    add("fixed_size_binary", Arc::new(fixed.finish()));

    let lists = || (0..rows).map(|row| (row % 3 != 1).then(|| every(row % 4, |item| (row + item) as i32)));
    add("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists())));
    add("large_list", Arc::new(LargeListArray::from_iter_primitive::<Int32Type, _, _>(lists())));
    add(
        "fixed_size_list",
        Arc::new(FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
            (0..rows).map(|row| (row % 3 != 1).then(|| every(2, |item| (row * 2 + item) as i32))),
            2,
        )),
    );
    let mut list_views = ListViewBuilder::new(Int32Builder::new());
    let mut nested = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    for row in 0..rows {
        for item in 0..row % 3 {
            list_views.values().append_value(item as i32);
            nested.values().values().append_value(format!("{row}/{item}"));
            nested.values().append(item != 1);
            maps.keys().append_value(format!("key {item}"));
            maps.values().append_option((item != 0).then_some(row as i32));
        }
        list_views.append(row % 4 != 3);
        nested.append(row % 5 != 4);
        maps.append(row % 4 != 3).unwrap();
    }
    add("list_view", Arc::new(list_views.finish()));
    add("nested_list", Arc::new(nested.finish()));
    add("map", Arc::new(maps.finish()));

    let nulls = NullBuffer::from_iter((0..rows).map(|row| row % 4 != 1));
    let structs = StructArray::new(
        vec![
            Arc::new(Field::new("number", DataType::Int32, true)),
            Arc::new(
                Field::new("text", DataType::Utf8, true)
                    .with_metadata(HashMap::from([("inner".to_string(), "yes".to_string())])),
            ),
            Arc::new(Field::new("flag", DataType::Boolean, true)),
        ]
        .into(),
        vec![
            Arc::new(Int32Array::from(every(rows, |row| row as i32))),
            Arc::new(StringArray::from(every(rows, text))),
            Arc::new(BooleanArray::from(every(rows, |row| row % 2 == 1))),
        ],
        Some(nulls),
    );
    add("struct", Arc::new(structs));

    add(
        "dictionary",
        Arc::new(
            (0..rows)
                .map(|row| (row % 3 != 1).then_some(["x", "yy", "zzz"][row % 3]))
                .collect::<DictionaryArray<Int8Type>>(),
        ),
    );
    let list_values =
        ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    add(
        "dictionary_of_lists",
        Arc::new(
            DictionaryArray::<UInt16Type>::try_new(
                UInt16Array::from(every(rows, |row| (row % 3) as u16)),
                Arc::new(list_values),
            )
            .unwrap(),
        ),
    );
    let runs = rows.div_ceil(2);
    add(
        "run_end_encoded",
        Arc::new(
            RunArray::<Int16Type>::try_new(
                &Int16Array::from_iter_values((1..=runs).map(|run| (run * 2).min(rows) as i16)),
                &StringArray::from(every(runs, text)),
            )
            .unwrap(),
        ),
    );

    let union_fields = UnionFields::try_new(
        [3, 7],
        [Field::new("int", DataType::Int32, true), Field::new("string", DataType::Utf8, true)],
    )
    .unwrap();
    let ids: ScalarBuffer<i8> = (0..rows).map(|row| [3i8, 7][row % 2]).collect();
    let union_children = |count: usize| -> Vec<ArrayRef> {
        vec![
            Arc::new(Int32Array::from(every(count, |row| row as i32))),
            Arc::new(StringArray::from(every(count, text))),
        ]
    };
    add(
        "sparse_union",
        Arc::new(UnionArray::try_new(union_fields.clone(), ids.clone(), None, union_children(rows)).unwrap()),
    );
    let offsets: ScalarBuffer<i32> = (0..rows).map(|row| (row / 2) as i32).collect();
    add("dense_union", Arc::new(UnionArray::try_new(union_fields, ids, Some(offsets), union_children(runs)).unwrap()));
    columns
}
