//! Calls with arguments that cannot be right, beside those that the other operations make in passing: refused, without
//! a change.

use std::ptr::{null, null_mut};

use khonsu::ffi::arrow::{ArrowArray, ArrowArrayStream, ArrowSchema};
use khonsu::ffi::cursor::{khonsu_cursor_get, khonsu_cursor_key, khonsu_cursor_next};
use khonsu::ffi::db::*;
use khonsu::ffi::options::*;
use khonsu::ffi::schema::{khonsu_schema_export, khonsu_schema_import};
use khonsu::ffi::status::khonsu_status::{self as Status, InvalidArgument};
use khonsu::ffi::txn::*;
use khonsu::ffi::txn_options::*;

use super::values::{self, Value};
use super::{World, expect_one_of};
use crate::bridge::{c_array, c_schema};
use crate::call::call;

impl World<'_> {
    pub(super) fn bad_arguments(&mut self) {
        let number = self.slot();
        let txn = self.parts(number).0;
        let key = c"a".as_ptr().cast();
        let value = Value { schema: 0, rows: vec![1, 2] };
        let (mut array, mut schema) = (c_array(&value.batch()), c_schema(&values::schema(0)));
        let mut stream = ArrowArrayStream::released();
        let mut handle = null_mut();
        let status = match self.input.below(32) {
            0 => call!(khonsu_txn_put(txn, key, 1, null_mut(), &mut schema)),
            1 => call!(khonsu_txn_put(txn, key, 1, &mut array, null_mut())),
            2 => call!(khonsu_txn_put(txn, key, 1, &mut ArrowArray::released(), &mut schema)),
            3 => call!(khonsu_txn_append(txn, key, 1, &mut array, &mut ArrowSchema::released())),
            4 => call!(khonsu_txn_put_with_schema(txn, key, 1, &mut array, null())),
            5 => call!(khonsu_txn_append_with_schema(null_mut(), key, 1, &mut array, self.schemas[0])),
            6 => call!(khonsu_txn_put_stream(txn, key, 1, &mut stream)),
            7 => call!(khonsu_txn_put_stream(txn, key, 1, null_mut())),
            8 => call!(khonsu_txn_get(txn, key, 1, null_mut(), null_mut())),
            9 => call!(khonsu_txn_get_stream(txn, key, 1, null_mut())),
            10 => call!(khonsu_txn_exists(txn, key, 1, null_mut())),
            11 => call!(khonsu_txn_set_conflict_resolution(txn, key, 1, 0)),
            12 => call!(khonsu_txn_set_conflict_resolution(txn, key, 1, 5)),
            13 => call!(khonsu_txn_scan(txn, null(), 1, null(), 0, 0, 0, &mut handle)),
            14 => call!(khonsu_txn_scan(txn, null(), 0, null(), 2, 0, 0, &mut handle)),
            15 => call!(khonsu_txn_scan(txn, null(), 0, null(), 0, 2, 0, &mut handle)),
            16 => call!(khonsu_txn_scan(txn, null(), 0, null(), 0, 0, 0, null_mut())),
            17 => call!(khonsu_txn_scan_prefix(txn, null(), 3, 0, 0, &mut handle)),
            18 => call!(khonsu_txn_scan_stream(txn, null(), 0, null(), 0, -1, 0, &mut stream)),
            19 => call!(khonsu_txn_scan_stream(txn, null(), 0, null(), 0, 0, 0, null_mut())),
            20 => call!(khonsu_txn_savepoint(txn, null_mut())),
            21 => call!(khonsu_txn_rollback_to(null_mut(), 1)),
            22 => call!(khonsu_cursor_next(null_mut())),
            23 => call!(khonsu_cursor_key(null(), &mut null(), &mut 0)),
            24 => call!(khonsu_cursor_get(null_mut(), &mut ArrowArray::released(), null_mut())),
            25 => call!(khonsu_db_begin(self.db, null(), null_mut())),
            26 => call!(khonsu_db_transact(self.db, null(), None, null_mut(), null_mut())),
            27 => call!(khonsu_db_stats(self.db, null_mut(), 8)),
            28 => call!(khonsu_db_stats(self.db, &mut khonsu_stats::default(), 0)),
            29 => call!(khonsu_schema_import(&mut schema, null_mut())),
            30 => call!(khonsu_schema_export(null(), &mut ArrowSchema::released())),
            _ => self.bad_option(),
        };
        // Which of two mistakes is named is not promised.
        let other = if self.parts(number).1.is_some() { InvalidArgument } else { self.not_open(number) };
        expect_one_of(status, &[InvalidArgument, other]);
        assert!(handle.is_null() && stream.release.is_none());
    }

    fn bad_option(&mut self) -> Status {
        let (options, txn_options) = (khonsu_options_new(), khonsu_txn_options_new());
        let status = match self.input.below(8) {
            0 => call!(khonsu_options_set_isolation(options, 0)),
            1 => call!(khonsu_options_set_conflict_resolution(options, 5)),
            2 => call!(khonsu_options_set_full_validation(options, 2)),
            3 => call!(khonsu_options_set_max_total_bytes(null_mut(), 2)),
            4 => call!(khonsu_txn_options_set_isolation(txn_options, 4)),
            5 => call!(khonsu_txn_options_set_conflict_resolution(txn_options, -1)),
            6 => call!(khonsu_txn_options_set_read_only(txn_options, 2)),
            _ => call!(khonsu_txn_options_set_backoff_us(txn_options, 2, 1)),
        };
        // SAFETY: owned, and not used again.
        unsafe {
            khonsu_options_free(options);
            khonsu_txn_options_free(txn_options);
        }
        status
    }
}
