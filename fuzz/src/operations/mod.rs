//! Sequences of calls against the reference: several transactions of one database in one thread, their handles used in
//! all states. Every status and everything that is read must be what the reference says.
//!
//! Certification is held to what it must do, not to one way to do it: a serializable transaction whose reads are all
//! current commits; a commit that closes a cycle in the dependency graph of the committed ones is a violation; between
//! these the library may refuse.

mod arguments;
mod end;
mod graph;
mod model;
mod read;
mod scan;
mod stage;
mod transact;
pub(crate) mod values;

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use arrow_array::RecordBatch;
use khonsu::ffi::arrow::{ArrowArray, ArrowSchema};
use khonsu::ffi::db::*;
use khonsu::ffi::options::khonsu_conflict_resolution as Resolution;
use khonsu::ffi::options::khonsu_isolation as Isolation;
use khonsu::ffi::options::*;
use khonsu::ffi::schema::*;
use khonsu::ffi::status::khonsu_status as Status;
use khonsu::ffi::txn::*;
use khonsu::ffi::txn_options::*;

use crate::bridge::{c_schema, rust_batch};
use crate::call::call;
use crate::input::Input;
use graph::{Graph, Moment};
use model::{Committed, Key, Transaction};
use scan::CursorSlot;
use values::{SCHEMAS, Value};

const ISOLATIONS: [Isolation; 3] = [Isolation::Serializable, Isolation::RepeatableRead, Isolation::ReadCommitted];
const RESOLUTIONS: [Resolution; 4] = [Resolution::Fail, Resolution::Ignore, Resolution::Replace, Resolution::Append];
const LIMITS: [u64; 4] = [1, 100, 1000, 20_000];

/// Of transactions; the last is that of khonsu_db_transact.
const SLOTS: usize = 5;
const LENT: usize = SLOTS - 1;
const CURSORS: usize = 3;
const MOST_OPERATIONS: usize = 250;
const MOST_HELD: usize = 6;

pub fn run(bytes: &[u8]) {
    let mut world = World::open(Input::new(bytes));
    for _ in 0..MOST_OPERATIONS {
        if world.input.is_empty() {
            break;
        }
        world.step();
    }
    world.finish();
}

struct World<'a> {
    input: Input<'a>,
    /// NULL once it is closed.
    db: *mut khonsu_db,
    resolution: Resolution,
    isolation: Isolation,
    max_bytes: Option<u64>,
    max_total_bytes: Option<u64>,
    committed: Committed,
    graph: Graph,
    slots: [Option<Slot>; SLOTS],
    serial: u64,
    cursors: [Option<CursorSlot>; CURSORS],
    schemas: [*mut khonsu_schema; SCHEMAS],
    /// What was read some time ago, with what it must still be.
    held: Vec<(RecordBatch, RecordBatch)>,
    counts: Counts,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    commits: u64,
    rollbacks: u64,
    conflicts: u64,
    retries: u64,
}

/// A transaction's handle.
struct Slot {
    handle: *mut khonsu_txn,
    serial: u64,
    began: Moment,
    max_bytes: Option<u64>,
    state: State,
}

enum State {
    Open(Transaction),
    Committed(u64),
    Ended,
}

impl Slot {
    fn open(&mut self) -> Option<&mut Transaction> {
        match &mut self.state {
            State::Open(transaction) => Some(transaction),
            State::Committed(_) | State::Ended => None,
        }
    }
}

/// A key as it is passed in.
struct KeyArgument {
    bytes: Vec<u8>,
    /// A NULL in place of the bytes.
    null: bool,
}

impl KeyArgument {
    fn is_good(&self) -> bool {
        !self.null && (1..=KHONSU_KEY_MAX_BYTES).contains(&self.bytes.len())
    }

    fn parts(&self) -> (*const c_void, usize) {
        (if self.null { null() } else { self.bytes.as_ptr().cast() }, self.bytes.len())
    }
}

#[track_caller]
fn expect(status: Status, expected: Status) {
    assert_eq!(status, expected);
}

#[track_caller]
fn expect_one_of(status: Status, expected: &[Status]) {
    assert!(expected.contains(&status), "{status:?} is none of {expected:?}");
}

impl<'a> World<'a> {
    fn open(mut input: Input<'a>) -> Self {
        let options = khonsu_options_new();
        let settings = input.byte();
        let isolation = ISOLATIONS[usize::from(settings & 3) % 3];
        let resolution = RESOLUTIONS[usize::from(settings >> 2 & 3)];
        expect(call!(khonsu_options_set_isolation(options, isolation as i32)), Status::Ok);
        expect(call!(khonsu_options_set_conflict_resolution(options, resolution as i32)), Status::Ok);
        expect(call!(khonsu_options_set_full_validation(options, i32::from(settings >> 4 & 1))), Status::Ok);
        let limits = input.byte();
        let limit = |bits: u8| (bits & 7 == 7).then(|| LIMITS[usize::from(bits >> 3 & 3)]);
        let (max_bytes, max_total_bytes) = (limit(limits), limit(limits >> 3));
        if let Some(bytes) = max_bytes {
            expect(call!(khonsu_options_set_max_transaction_bytes(options, bytes)), Status::Ok);
        }
        if let Some(bytes) = max_total_bytes {
            expect(call!(khonsu_options_set_max_total_bytes(options, bytes)), Status::Ok);
        }
        let mut db = null_mut();
        expect(call!(khonsu_db_open(options, &mut db)), Status::Ok);
        // SAFETY: owned, and not used again.
        unsafe { khonsu_options_free(options) };
        let schemas = std::array::from_fn(|index| {
            let mut schema = c_schema(&values::schema(index));
            let mut handle = null_mut();
            expect(call!(khonsu_schema_import(&mut schema, &mut handle)), Status::Ok);
            handle
        });
        World {
            input,
            db,
            resolution,
            isolation,
            max_bytes,
            max_total_bytes,
            committed: Committed::default(),
            graph: Graph::default(),
            slots: [const { None }; SLOTS],
            serial: 0,
            cursors: [const { None }; CURSORS],
            schemas,
            held: Vec::new(),
            counts: Counts::default(),
        }
    }

    fn step(&mut self) {
        match self.input.below(40) {
            0..=3 => self.begin(),
            4..=6 => self.get(),
            7 => self.get_stream(),
            8 => self.get_with_schema(),
            9 => self.exists(),
            10..=14 => self.put(),
            15..=16 => self.append(),
            17..=18 => self.delete(),
            19 => self.set_resolution(),
            20 => self.put_stream(),
            21 => self.copy(),
            22..=23 => self.scan_stream(),
            24..=25 => self.open_cursor(),
            26..=27 => self.step_cursor(),
            28 => self.free_cursor(),
            29 => self.savepoint(),
            30 => self.rollback_to(),
            31 => self.release(),
            32..=35 => self.commit(),
            36 => self.rollback(),
            37 => self.stats(),
            38 => self.transact(),
            _ => self.rare(),
        }
    }

    fn rare(&mut self) {
        match self.input.below(4) {
            0 => self.free(),
            1 => {
                self.held.pop();
            }
            2 => self.bad_arguments(),
            _ => {
                // Its transactions go on.
                if self.input.rarely(4) {
                    self.close();
                }
            }
        }
    }

    fn close(&mut self) {
        // SAFETY: owned or NULL, and not used again.
        unsafe { khonsu_db_free(self.db) };
        self.db = null_mut();
    }

    // ---- choices ----

    /// A transaction's slot; mostly it has an open transaction.
    fn slot(&mut self) -> usize {
        let choice = self.input.byte();
        let number = usize::from(choice & 7);
        if number >= LENT && self.slots[LENT].is_some() {
            return LENT;
        }
        let number = number % LENT;
        if choice < 240 && self.slots[number].as_mut().is_some_and(|slot| slot.open().is_none()) {
            self.free_slot(number);
        }
        if self.slots[number].is_none() && !self.db.is_null() {
            let mut handle = null_mut();
            expect(call!(khonsu_db_begin(self.db, null(), &mut handle)), Status::Ok);
            self.begun(number, handle, self.isolation, self.resolution, false, self.max_bytes);
        }
        number
    }

    fn key(&mut self) -> KeyArgument {
        let good = |bytes: &[u8]| KeyArgument { bytes: bytes.to_vec(), null: false };
        match self.input.byte() {
            200 => good(&[]),
            201 => KeyArgument { bytes: vec![b'k'; KHONSU_KEY_MAX_BYTES + 1], null: false },
            202 => KeyArgument { bytes: vec![b'k'; KHONSU_KEY_MAX_BYTES], null: false },
            203 => KeyArgument { bytes: vec![0; 3], null: true },
            204 => KeyArgument { bytes: Vec::new(), null: true },
            205..=210 => good(b"longer than what fits into a short key"),
            211..=220 => good(self.input.bytes(4)),
            // Many keys: more than a scan reads at a time.
            byte @ 221.. => good(&[b'n', byte]),
            byte => {
                let keys: [&[u8]; 6] = [b"a", b"a\0", b"ab", b"b", b"b\xff", b"\xff\xff"];
                good(keys[usize::from(byte) % keys.len()])
            }
        }
    }

    fn value(&mut self) -> Value {
        // Mostly of one schema, so that rows fit together.
        let schema = match self.input.byte() {
            byte @ 0..8 => usize::from(byte) % SCHEMAS,
            byte if byte >= 128 => 2,
            _ => 0,
        };
        let count = match self.input.byte() {
            byte @ 0..250 => u16::from(byte % 4),
            // More than is copied: the producer's buffers are kept.
            _ => 600,
        };
        let first = u16::from(self.input.byte());
        Value { schema, rows: (first..first + count).collect() }
    }

    // ---- begin ----

    fn begin(&mut self) {
        let number = self.input.below(LENT);
        self.free_slot(number);
        let choice = self.input.byte();
        let (isolation, resolution) = (usize::from(choice & 3), usize::from(choice >> 2 & 7));
        let read_only = choice >> 5 == 7;
        let limit = self.input.rarely(32).then(|| self.input.choice(&LIMITS));
        let options = khonsu_txn_options_new();
        if let Some(isolation) = ISOLATIONS.get(isolation) {
            expect(call!(khonsu_txn_options_set_isolation(options, *isolation as i32)), Status::Ok);
        }
        if let Some(resolution) = RESOLUTIONS.get(resolution) {
            expect(call!(khonsu_txn_options_set_conflict_resolution(options, *resolution as i32)), Status::Ok);
        }
        expect(call!(khonsu_txn_options_set_read_only(options, i32::from(read_only))), Status::Ok);
        if let Some(bytes) = limit {
            expect(call!(khonsu_txn_options_set_max_bytes(options, bytes)), Status::Ok);
        }
        let mut handle = std::ptr::dangling_mut();
        let status = call!(khonsu_db_begin(self.db, options, &mut handle));
        // SAFETY: owned, and not used again.
        unsafe { khonsu_txn_options_free(options) };
        if self.db.is_null() {
            expect(status, Status::InvalidArgument);
            assert!(handle.is_null());
            return;
        }
        expect(status, Status::Ok);
        let isolation = ISOLATIONS.get(isolation).copied().unwrap_or(self.isolation);
        let resolution = RESOLUTIONS.get(resolution).copied().unwrap_or(self.resolution);
        self.begun(number, handle, isolation, resolution, read_only, limit.or(self.max_bytes));
    }

    fn begun(
        &mut self,
        number: usize,
        handle: *mut khonsu_txn,
        isolation: Isolation,
        resolution: Resolution,
        read_only: bool,
        max_bytes: Option<u64>,
    ) {
        self.serial += 1;
        let transaction = Transaction::begin(&self.committed, isolation, resolution, read_only);
        let began = self.graph.moment();
        self.slots[number] =
            Some(Slot { handle, serial: self.serial, began, max_bytes, state: State::Open(transaction) });
    }

    /// The handle and the open transaction of a slot; a NULL handle where there is none.
    fn parts(&mut self, number: usize) -> (*mut khonsu_txn, Option<&mut Transaction>) {
        match &mut self.slots[number] {
            Some(slot) => (slot.handle, slot.open()),
            None => (null_mut(), None),
        }
    }

    /// What a call says whose arguments are good, but whose transaction is not open.
    fn not_open(&self, number: usize) -> Status {
        if self.slots[number].is_none() { Status::InvalidArgument } else { Status::InvalidState }
    }

    // ---- savepoints ----

    fn savepoint(&mut self) {
        let number = self.slot();
        let mut id = u64::MAX;
        let status = call!(khonsu_txn_savepoint(self.parts(number).0, &mut id));
        match self.parts(number).1 {
            Some(transaction) => {
                expect(status, Status::Ok);
                transaction.savepoint(id);
            }
            None => expect(status, self.not_open(number)),
        }
    }

    fn rollback_to(&mut self) {
        let (number, id) = (self.slot(), self.input.below(4) as u64);
        let status = call!(khonsu_txn_rollback_to(self.parts(number).0, id));
        self.expect_savepoint(number, status, |transaction| transaction.rollback_to(id));
    }

    fn release(&mut self) {
        let (number, id) = (self.slot(), self.input.below(4) as u64);
        let status = call!(khonsu_txn_release(self.parts(number).0, id));
        self.expect_savepoint(number, status, |transaction| transaction.release(id));
    }

    fn expect_savepoint(&mut self, number: usize, status: Status, change: impl FnOnce(&mut Transaction) -> bool) {
        match self.parts(number).1 {
            Some(transaction) => expect(status, if change(transaction) { Status::Ok } else { Status::InvalidArgument }),
            None => expect(status, self.not_open(number)),
        }
    }

    // ---- the whole ----

    fn stats(&mut self) {
        let stats = self.read_stats();
        let Some(stats) = stats else { return };
        let live = self.committed.cells.values().filter(|cell| cell.value.is_some()).count() as u64;
        assert!(stats.keys >= live && stats.versions >= live, "{stats:?}");
        assert!(stats.version >= self.committed.version && stats.oldest_snapshot <= stats.version, "{stats:?}");
    }

    fn read_stats(&mut self) -> Option<khonsu_stats> {
        let mut stats = khonsu_stats::default();
        let status = call!(khonsu_db_stats(self.db, &mut stats, size_of::<khonsu_stats>()));
        if self.db.is_null() {
            expect(status, Status::InvalidArgument);
            return None;
        }
        expect(status, Status::Ok);
        let conflicts = stats.conflicts_write_write + stats.conflicts_read_write + stats.conflicts_phantom;
        let counts = Counts { commits: stats.commits, rollbacks: stats.rollbacks, conflicts, retries: stats.retries };
        assert_eq!(counts, self.counts);
        assert_eq!(stats.conflicts_prepared, 0);
        Some(stats)
    }

    /// With nobody left, exactly the newest state is held; and what was given out is as it was.
    fn finish(&mut self) {
        (0..CURSORS).for_each(|number| self.free_cursor_slot(number));
        (0..SLOTS).for_each(|number| self.free_slot(number));
        // SAFETY: owned, and not used again.
        self.schemas.into_iter().for_each(|schema| unsafe { khonsu_schema_free(schema) });
        if !self.db.is_null() {
            let live: Vec<(&Key, &Value)> =
                self.committed.cells.iter().filter_map(|(key, cell)| Some((key, cell.value.as_ref()?))).collect();
            let mut txn = null_mut();
            expect(call!(khonsu_db_begin(self.db, null(), &mut txn)), Status::Ok);
            for (key, value) in &live {
                let (mut array, mut schema) = (ArrowArray::released(), ArrowSchema::released());
                let status = call!(khonsu_txn_get(txn, key.as_ptr().cast(), key.len(), &mut array, &mut schema));
                expect(status, Status::Ok);
                assert_eq!(rust_batch(array, schema), value.batch());
            }
            // SAFETY: owned, and not used again.
            unsafe { khonsu_txn_free(txn) };
            self.counts.rollbacks += 1;
            let live = live.len() as u64;
            let stats = self.read_stats().expect("it is open");
            assert_eq!((stats.keys, stats.versions, stats.active_transactions), (live, live, 0));
            assert!(live > 0 || stats.live_bytes == 0, "{stats:?}");
            self.close();
        }
        for (found, expected) in self.held.drain(..) {
            assert_eq!(found, expected, "what was given out has changed");
        }
    }
}
