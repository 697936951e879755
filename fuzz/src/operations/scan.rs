//! Operations on ranges of keys.

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use khonsu::ffi::arrow::{ArrowArray, ArrowArrayStream, ArrowSchema};
use khonsu::ffi::cursor::*;
use khonsu::ffi::status::khonsu_status as Status;
use khonsu::ffi::txn::*;

use super::model::{Cursor, Key, Mismatch, Range, Transaction};
use super::values::{Value, keyed_batch};
use super::{CURSORS, World, expect};
use crate::bridge::{rust_batch, rust_batches};
use crate::call::call;

pub(super) struct CursorSlot {
    handle: *mut khonsu_cursor,
    /// That of its transaction.
    serial: u64,
    model: Cursor,
    entry: Option<(Key, Value)>,
}

/// A range as it is passed in.
struct RangeArgument {
    start: Vec<u8>,
    end: Option<Vec<u8>>,
    reverse: bool,
    limit: u64,
}

impl RangeArgument {
    fn start(&self) -> (*const c_void, usize) {
        (if self.start.is_empty() { null() } else { self.start.as_ptr().cast() }, self.start.len())
    }

    fn end(&self) -> (*const c_void, usize) {
        self.end.as_ref().map_or((null(), 0), |end| (end.as_ptr().cast(), end.len()))
    }

    fn direction(&self) -> i32 {
        (if self.reverse { khonsu_direction::Reverse } else { khonsu_direction::Forward }) as i32
    }

    fn limit(&self) -> Option<u64> {
        (self.limit > 0).then_some(self.limit)
    }

    fn range(&self) -> Range {
        Range { start: self.start.clone(), end: self.end.clone() }
    }
}

/// The batches are rows of the expected one, and together all of them.
#[track_caller]
pub(super) fn expect_batches((schema, batches): (SchemaRef, Vec<RecordBatch>), expected: RecordBatch) {
    assert_eq!(schema, expected.schema());
    let mut given = 0;
    for batch in batches {
        assert_eq!(batch, expected.slice(given, batch.num_rows()));
        given += batch.num_rows();
    }
    assert_eq!(given, expected.num_rows());
}

impl World<'_> {
    fn range(&mut self) -> RangeArgument {
        let choice = self.input.byte();
        let start = if choice & 1 == 1 { self.key().bytes } else { Vec::new() };
        let end = (choice & 2 == 2).then(|| self.key().bytes);
        let limit = if choice & 12 == 12 { self.input.below(40) as u64 } else { 0 };
        RangeArgument { start, end, reverse: choice & 16 == 16, limit }
    }

    /// The transaction that opened a cursor, if it is open.
    fn transaction_of(&mut self, serial: u64) -> Option<&mut Transaction> {
        let slot = self.slots.iter_mut().flatten().find(|slot| slot.serial == serial)?;
        slot.open()
    }

    pub(super) fn scan_stream(&mut self) {
        let (number, argument) = (self.slot(), self.range());
        let ((start, start_len), (end, end_len)) = (argument.start(), argument.end());
        let mut stream = ArrowArrayStream::released();
        let handle = self.parts(number).0;
        let status = call!(khonsu_txn_scan_stream(
            handle,
            start,
            start_len,
            end,
            end_len,
            argument.direction(),
            argument.limit,
            &mut stream
        ));
        let committed = self.committed.clone();
        let Some(transaction) = self.parts(number).1 else {
            return expect(status, self.not_open(number));
        };
        let mut cursor = transaction.open_cursor(&committed, argument.range(), argument.reverse, argument.limit());
        let entries: Result<Vec<_>, Mismatch> =
            std::iter::from_fn(|| transaction.step(&mut cursor).transpose()).collect();
        match entries {
            Ok(entries) if entries.iter().all(|(_, value)| value.schema == entries[0].1.schema) => {
                expect(status, Status::Ok);
                expect_batches(rust_batches(stream), keyed_batch(&entries));
            }
            Ok(_) | Err(Mismatch) => {
                expect(status, Status::SchemaMismatch);
                assert!(stream.release.is_none());
            }
        }
    }

    pub(super) fn open_cursor(&mut self) {
        let (number, which) = (self.slot(), self.input.below(CURSORS));
        self.free_cursor_slot(which);
        let mut argument = self.range();
        let prefix = self.input.rarely(3);
        let handle = self.parts(number).0;
        let (start, start_len) = argument.start();
        let (direction, limit) = (argument.direction(), argument.limit);
        let mut opened = std::ptr::dangling_mut();
        let status = if prefix {
            argument.end = None;
            call!(khonsu_txn_scan_prefix(handle, start, start_len, direction, limit, &mut opened))
        } else {
            let (end, end_len) = argument.end();
            call!(khonsu_txn_scan(handle, start, start_len, end, end_len, direction, limit, &mut opened))
        };
        let committed = self.committed.clone();
        let serial = self.slots[number].as_ref().map_or(0, |slot| slot.serial);
        let Some(transaction) = self.parts(number).1 else {
            assert!(opened.is_null());
            return expect(status, self.not_open(number));
        };
        expect(status, Status::Ok);
        let range = if prefix { Range::prefix(&argument.start) } else { argument.range() };
        let model = transaction.open_cursor(&committed, range, argument.reverse, argument.limit());
        self.cursors[which] = Some(CursorSlot { handle: opened, serial, model, entry: None });
        self.look(which);
    }

    pub(super) fn step_cursor(&mut self) {
        let which = self.input.below(CURSORS);
        let steps = self.input.byte();
        let steps = if steps >= 192 { steps - 190 } else { 1 };
        for _ in 0..steps {
            let Some(mut slot) = self.cursors[which].take() else { return };
            let status = call!(khonsu_cursor_next(slot.handle));
            match self.transaction_of(slot.serial) {
                Some(transaction) => {
                    let step = transaction.step(&mut slot.model);
                    expect(
                        status,
                        match &step {
                            Ok(Some(_)) => Status::Ok,
                            Ok(None) => Status::NotFound,
                            Err(Mismatch) => Status::SchemaMismatch,
                        },
                    );
                    slot.entry = step.unwrap_or(None);
                }
                None => expect(status, Status::InvalidState),
            }
            self.cursors[which] = Some(slot);
            if self.input.flag() {
                self.look(which);
            }
        }
        self.look(which);
    }

    /// Compares the entry that a cursor is on.
    fn look(&mut self, which: usize) {
        let Some(slot) = self.cursors[which].take() else { return };
        let entry = slot.entry.as_ref().filter(|_| self.transaction_of(slot.serial).is_some());
        let expected = if entry.is_some() { Status::Ok } else { Status::InvalidState };
        let (mut key, mut length) = (null(), 0);
        expect(call!(khonsu_cursor_key(slot.handle, &mut key, &mut length)), expected);
        let (mut array, mut schema) = (ArrowArray::released(), ArrowSchema::released());
        expect(call!(khonsu_cursor_get(slot.handle, &mut array, &mut schema)), expected);
        if let Some((expected, value)) = entry {
            // SAFETY: the key is there until the next step.
            let found = unsafe { std::slice::from_raw_parts(key.cast::<u8>(), length) };
            assert_eq!(found, expected);
            self.hold(rust_batch(array, schema), value.batch());
        } else {
            assert!(key.is_null() && array.release.is_none() && schema.release.is_none());
        }
        self.cursors[which] = Some(slot);
    }

    pub(super) fn free_cursor(&mut self) {
        let which = self.input.below(CURSORS);
        self.free_cursor_slot(which);
    }

    pub(super) fn free_cursor_slot(&mut self, which: usize) {
        let handle = self.cursors[which].take().map_or(null_mut(), |slot| slot.handle);
        // SAFETY: owned or NULL, and not used again.
        unsafe { khonsu_cursor_free(handle) };
    }
}
