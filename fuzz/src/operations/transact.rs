//! khonsu_db_transact, whose function runs operations like all others, on its own transaction among them.

use std::ffi::c_void;

use khonsu::ffi::db::khonsu_db_transact;
use khonsu::ffi::status::khonsu_status as Status;
use khonsu::ffi::txn::khonsu_txn;
use khonsu::ffi::txn_options::*;

use super::{LENT, RESOLUTIONS, World, expect};
use crate::call::{call, call_reporting};
use crate::{panics, reached};

struct Attempts<'w, 'i> {
    world: &'w mut World<'i>,
    resolution: super::Resolution,
    /// What the function returned, once for each run.
    returned: Vec<i32>,
}

impl World<'_> {
    pub(super) fn transact(&mut self) {
        if self.slots[LENT].is_some() {
            // One in another would need another slot.
            return;
        }
        let most = 1 + self.input.below(3);
        let resolution = self.input.choice(&RESOLUTIONS);
        let options = khonsu_txn_options_new();
        expect(call!(khonsu_txn_options_set_max_attempts(options, most as u32)), Status::Ok);
        expect(call!(khonsu_txn_options_set_backoff_us(options, 0, 0)), Status::Ok);
        expect(call!(khonsu_txn_options_set_conflict_resolution(options, resolution as i32)), Status::Ok);
        let db = self.db;
        let mut version = 0;
        let mut attempts = Attempts { world: self, resolution, returned: Vec::new() };
        let context = (&raw mut attempts).cast::<c_void>();
        let (status, report) = call_reporting!(khonsu_db_transact(db, options, Some(attempt), context, &mut version));
        // SAFETY: owned, and not used again.
        unsafe { khonsu_txn_options_free(options) };
        let Attempts { world, returned, .. } = attempts;
        let Some(last) = returned.last() else {
            return expect(status, Status::InvalidArgument);
        };
        if *last == Status::Ok as i32 {
            world.ended(LENT, status, version, Some(report.conflicts));
            reached::note("end of khonsu_db_transact", if returned.len() > 1 { "after a rerun" } else { "at once" });
        } else {
            world.counts.rollbacks += 1;
            let known = [Status::Conflict, Status::NotFound, Status::Cancelled, Status::InvalidState];
            let expected = known.into_iter().find(|known| *known as i32 == *last);
            expect(status, expected.unwrap_or(Status::InvalidArgument));
            assert!(report.conflicts.is_empty());
        }
        assert!(status != Status::Conflict || returned.len() == most, "{} runs of {most}", returned.len());
        world.slots[LENT] = None;
    }
}

unsafe extern "C" fn attempt(txn: *mut khonsu_txn, context: *mut c_void) -> i32 {
    // SAFETY: the context of `transact`, which is in the call that this one comes from.
    let attempts = unsafe { &mut *context.cast::<Attempts>() };
    // A panic must not leave a function that C calls.
    panics::finish_or_abort(|| attempts.run(txn))
}

impl Attempts<'_, '_> {
    fn run(&mut self, txn: *mut khonsu_txn) -> i32 {
        let Attempts { world, resolution, returned } = self;
        match returned.last() {
            None => {}
            // The commit of the run before has failed: it would not be run again else.
            Some(last) if *last == Status::Ok as i32 => world.ended(LENT, Status::Conflict, 0, None),
            Some(last) => {
                assert_eq!(*last, Status::Conflict as i32);
                world.counts.rollbacks += 1;
            }
        }
        world.counts.retries += u64::from(!returned.is_empty());
        world.begun(LENT, txn, world.isolation, *resolution, false, world.max_bytes);
        for _ in 0..world.input.below(8) {
            world.step();
        }
        let result = match world.input.byte() {
            0..200 => Status::Ok as i32,
            200..230 => Status::Conflict as i32,
            230 => Status::NotFound as i32,
            231 => Status::Cancelled as i32,
            232 => Status::InvalidState as i32,
            233 => 12345,
            _ => Status::Ok as i32,
        };
        returned.push(result);
        result
    }
}
