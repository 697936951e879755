//! Operations that stage writes.

use arrow_schema::ArrowError;
use khonsu::ffi::arrow::{ArrowArray, ArrowSchema};
use khonsu::ffi::status::khonsu_status as Status;
use khonsu::ffi::txn::*;

use super::model::Staged;
use super::values::{self, SCHEMAS, Value};
use super::{KeyArgument, RESOLUTIONS, World, expect, expect_one_of};
use crate::bridge::{c_array, c_schema, c_stream};
use crate::call::call;

impl World<'_> {
    pub(super) fn put(&mut self) {
        let (number, key, value) = (self.slot(), self.key(), self.value());
        let (bytes, length) = key.parts();
        let batch = value.batch();
        let mut array = c_array(&batch);
        let handle = self.parts(number).0;
        let status = if self.input.flag() {
            let mut schema = c_schema(&batch.schema());
            let status = call!(khonsu_txn_put(handle, bytes, length, &mut array, &mut schema));
            assert!(schema.release.is_none());
            status
        } else {
            let schema = self.schemas[value.schema];
            call!(khonsu_txn_put_with_schema(handle, bytes, length, &mut array, schema))
        };
        assert!(array.release.is_none());
        self.staged(number, &key, status, Staged::Put(value));
    }

    pub(super) fn append(&mut self) {
        let (number, key, value) = (self.slot(), self.key(), self.value());
        let (bytes, length) = key.parts();
        let batch = value.batch();
        let mut array = c_array(&batch);
        let handle = self.parts(number).0;
        let status = if self.input.flag() {
            let mut schema = c_schema(&batch.schema());
            let status = call!(khonsu_txn_append(handle, bytes, length, &mut array, &mut schema));
            assert!(schema.release.is_none());
            status
        } else {
            let schema = self.schemas[value.schema];
            call!(khonsu_txn_append_with_schema(handle, bytes, length, &mut array, schema))
        };
        assert!(array.release.is_none());
        self.staged(number, &key, status, Staged::Append(value));
    }

    pub(super) fn delete(&mut self) {
        let (number, key) = (self.slot(), self.key());
        let (bytes, length) = key.parts();
        let status = call!(khonsu_txn_delete(self.parts(number).0, bytes, length));
        self.staged(number, &key, status, Staged::Delete);
    }

    /// A stream of some chunks, which may break off.
    pub(super) fn put_stream(&mut self) {
        let (number, key) = (self.slot(), self.key());
        let schema = self.input.below(2 * SCHEMAS).saturating_sub(SCHEMAS);
        let mut whole = Value { schema, rows: Vec::new() };
        let mut batches = Vec::new();
        for _ in 0..self.input.below(4) {
            let chunk = Value { schema, ..self.value() };
            batches.push(Ok(chunk.batch()));
            whole.rows.extend(chunk.rows);
        }
        let text = "the producer's own text".to_owned();
        let failure = match self.input.byte() {
            250 => Some((Status::Storage, ArrowError::IoError(text.clone(), std::io::Error::other(text)))),
            251 => Some((Status::LimitExceeded, ArrowError::MemoryError(text))),
            252 => Some((Status::InvalidArgument, ArrowError::ComputeError(text))),
            _ => None,
        };
        let failure = failure.map(|(status, error)| {
            batches.push(Err(error));
            status
        });
        let mut stream = c_stream(batches, values::schema(schema));
        let (bytes, length) = key.parts();
        let status = call!(khonsu_txn_put_stream(self.parts(number).0, bytes, length, &mut stream));
        assert!(stream.release.is_none());
        match failure.filter(|_| key.is_good() && self.parts(number).1.is_some()) {
            Some(failure) => expect(status, failure),
            None => self.staged(number, &key, status, Staged::Put(whole)),
        }
    }

    /// Puts what was given out under another key, as it is.
    pub(super) fn copy(&mut self) {
        let (number, from, to) = (self.slot(), self.key(), self.key());
        let (expected, value) = self.read(number, &from);
        let (bytes, length) = from.parts();
        let (mut array, mut schema) = (ArrowArray::released(), ArrowSchema::released());
        let handle = self.parts(number).0;
        expect(call!(khonsu_txn_get(handle, bytes, length, &mut array, &mut schema)), expected);
        let Some(value) = value else { return };
        let (bytes, length) = to.parts();
        let status = call!(khonsu_txn_put(handle, bytes, length, &mut array, &mut schema));
        assert!(array.release.is_none() && schema.release.is_none());
        self.staged(number, &to, status, Staged::Put(value));
    }

    /// What a call that stages has come to.
    fn staged(&mut self, number: usize, key: &KeyArgument, status: Status, what: Staged) {
        let not_open = self.not_open(number);
        let limit = self.slots[number].as_ref().and_then(|slot| slot.max_bytes);
        let limited = limit.is_some() || self.max_total_bytes.is_some();
        let transaction = self.parts(number).1.filter(|transaction| !transaction.read_only);
        let Some(transaction) = transaction else {
            let expected = if key.is_good() { not_open } else { Status::InvalidArgument };
            // Which of two mistakes is named is not promised.
            return expect_one_of(status, &[expected, not_open]);
        };
        let (fits, least_bytes) = match &what {
            Staged::Put(value) => (true, value.least_bytes()),
            Staged::Append(rows) => (transaction.fits(&key.bytes, rows), rows.least_bytes()),
            Staged::Delete => (true, 0),
        };
        if !key.is_good() {
            expect(status, Status::InvalidArgument);
        } else if !fits {
            expect(status, Status::SchemaMismatch);
        } else if status == Status::LimitExceeded {
            assert!(limited, "there is no limit");
        } else {
            expect(status, Status::Ok);
            assert!(limit.is_none_or(|limit| least_bytes <= limit), "{least_bytes} bytes pass {limit:?}");
            transaction.stage(&key.bytes, what).expect("the rows fit");
        }
    }

    pub(super) fn set_resolution(&mut self) {
        let (number, key) = (self.slot(), self.key());
        let resolution = self.input.choice(&RESOLUTIONS);
        let (bytes, length) = key.parts();
        let handle = self.parts(number).0;
        let status = call!(khonsu_txn_set_conflict_resolution(handle, bytes, length, resolution as i32));
        let not_open = self.not_open(number);
        if !key.is_good() {
            return expect(status, Status::InvalidArgument);
        }
        match self.parts(number).1 {
            Some(transaction) => match transaction.set_resolution(&key.bytes, resolution) {
                true => expect(status, Status::Ok),
                false => expect(status, Status::NotFound),
            },
            None => expect(status, not_open),
        }
    }
}
