//! Operations that read one key.

use std::mem::ManuallyDrop;

use arrow_array::RecordBatch;
use khonsu::ffi::arrow::{ArrowArray, ArrowArrayStream, ArrowSchema};
use khonsu::ffi::status::khonsu_status as Status;
use khonsu::ffi::txn::*;

use super::model::Mismatch;
use super::values::{self, SCHEMAS, Value};
use super::{KeyArgument, MOST_HELD, World, expect, scan};
use crate::bridge::{rust_batch, rust_batches, try_rust_batch};
use crate::call::call;

impl World<'_> {
    /// What a read of a key must come to.
    pub(super) fn read(&mut self, number: usize, key: &KeyArgument) -> (Status, Option<Value>) {
        if !key.is_good() {
            return (Status::InvalidArgument, None);
        }
        let committed = self.committed.clone();
        match self.parts(number).1 {
            Some(transaction) => {
                let read = transaction.read(&key.bytes, &committed);
                (status_of_read(&read), read.unwrap_or(None))
            }
            None => (self.not_open(number), None),
        }
    }

    pub(super) fn hold(&mut self, found: RecordBatch, expected: RecordBatch) {
        assert_eq!(found, expected);
        if self.held.len() < MOST_HELD && self.input.rarely(4) {
            self.held.push((found, expected));
        }
    }

    pub(super) fn get(&mut self) {
        let (number, key) = (self.slot(), self.key());
        let (expected, value) = self.read(number, &key);
        let (bytes, length) = key.parts();
        let (mut array, mut schema) = (unreleased_array(), unreleased_schema());
        let status = call!(khonsu_txn_get(self.parts(number).0, bytes, length, &mut *array, &mut *schema));
        expect(status, expected);
        match value {
            Some(value) => self.hold(rust_batch(take(&mut array), take_schema(&mut schema)), value.batch()),
            None => assert!(array.release.is_none() && schema.release.is_none()),
        }
    }

    pub(super) fn get_with_schema(&mut self) {
        let (number, key) = (self.slot(), self.key());
        let wanted = self.input.below(SCHEMAS);
        let (expected, value) = self.read(number, &key);
        let expected = match &value {
            Some(value) if value.schema != wanted => Status::SchemaMismatch,
            _ => expected,
        };
        let (bytes, length) = key.parts();
        let mut array = unreleased_array();
        let schema = self.schemas[wanted];
        let status = call!(khonsu_txn_get_with_schema(self.parts(number).0, bytes, length, schema, &mut *array));
        expect(status, expected);
        match value.filter(|_| status == Status::Ok) {
            Some(value) => {
                let found = try_rust_batch(take(&mut array), &values::schema(wanted)).expect("a good array");
                self.hold(found, value.batch());
            }
            None => assert!(array.release.is_none()),
        }
    }

    pub(super) fn get_stream(&mut self) {
        let (number, key) = (self.slot(), self.key());
        let (expected, value) = self.read(number, &key);
        let (bytes, length) = key.parts();
        let mut stream = ArrowArrayStream::released();
        expect(call!(khonsu_txn_get_stream(self.parts(number).0, bytes, length, &mut stream)), expected);
        match value {
            Some(value) => scan::expect_batches(rust_batches(stream), value.batch()),
            None => assert!(stream.release.is_none()),
        }
    }

    pub(super) fn exists(&mut self) {
        let (number, key) = (self.slot(), self.key());
        let (expected, value) = self.read(number, &key);
        let expected = if expected == Status::NotFound { Status::Ok } else { expected };
        let (bytes, length) = key.parts();
        let mut exists = false;
        expect(call!(khonsu_txn_exists(self.parts(number).0, bytes, length, &mut exists)), expected);
        assert_eq!(exists, value.is_some());
    }
}

/// An out-parameter with something in it that the call must overwrite, and must not release.
fn unreleased_array() -> ManuallyDrop<ArrowArray> {
    unsafe extern "C" fn release(_: *mut ArrowArray) {
        panic!("an out-parameter was released");
    }
    ManuallyDrop::new(ArrowArray { release: Some(release), ..ArrowArray::released() })
}

fn unreleased_schema() -> ManuallyDrop<ArrowSchema> {
    unsafe extern "C" fn release(_: *mut ArrowSchema) {
        panic!("an out-parameter was released");
    }
    ManuallyDrop::new(ArrowSchema { release: Some(release), ..ArrowSchema::released() })
}

fn take(array: &mut ArrowArray) -> ArrowArray {
    std::mem::replace(array, ArrowArray::released())
}

fn take_schema(schema: &mut ArrowSchema) -> ArrowSchema {
    std::mem::replace(schema, ArrowSchema::released())
}

fn status_of_read(read: &Result<Option<Value>, Mismatch>) -> Status {
    match read {
        Ok(Some(_)) => Status::Ok,
        Ok(None) => Status::NotFound,
        Err(Mismatch) => Status::SchemaMismatch,
    }
}
