//! The tables of benches/rust_peers.h. A panic ends the process: a benchmark has nothing better to do.
//!
//! What all functions rely on: the harness passes peers and sessions that `open` and `session` gave and that it has not
//! closed, a session from one thread at a time, and as many keys as it says.

use std::cell::Cell;
use std::ffi::{CString, c_char};
use std::hint::black_box;
use std::slice;
use std::sync::OnceLock;

use crate::data::{Key, OPERATIONS, Row, make_key};
use crate::peer::{Outcome, Peer, Session, View};
use crate::peers;

#[repr(C)]
pub struct Maker {
    name: *const c_char,
    description: *const c_char,
    can_scan: i32,
    transactional: i32,
    open: extern "C" fn() -> *mut (),
    close: unsafe extern "C" fn(*mut ()),
    settle: unsafe extern "C" fn(*const ()),
    session: unsafe extern "C" fn(*const ()) -> *mut (),
    end_session: unsafe extern "C" fn(*mut ()),
    read: unsafe extern "C" fn(*mut (), *const Key, usize) -> u64,
    scan: unsafe extern "C" fn(*mut (), *const Key) -> u64,
    put: unsafe extern "C" fn(*mut (), *const Key, usize) -> u64,
    remove: unsafe extern "C" fn(*mut (), *const Key, usize) -> u64,
    increment: unsafe extern "C" fn(*mut (), *const Key, usize) -> u64,
    mixed: unsafe extern "C" fn(*mut (), *const Key, *const u8) -> u64,
    empty: unsafe extern "C" fn(*mut (), i32) -> u64,
    load: unsafe extern "C" fn(*mut (), u64, u64),
    sum_counters: unsafe extern "C" fn(*mut (), u64, u64) -> i64,
}

// SAFETY: the pointers are to text that is never freed and never written.
unsafe impl Sync for Maker {}
// SAFETY: as above.
unsafe impl Send for Maker {}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rust_makers(count: *mut usize) -> *const Maker {
    static MAKERS: OnceLock<Vec<Maker>> = OnceLock::new();
    let makers = MAKERS.get_or_init(|| {
        vec![
            maker::<peers::surrealmx::Surrealmx>(),
            maker::<peers::skipdb::Skipdb>(),
            maker::<peers::redb::Redb>(),
            maker::<peers::stm::Stm>(),
            maker::<peers::papaya::Papaya>(),
            maker::<peers::skip_list::List>(),
            maker::<peers::khonsu::WithArrow>(),
            maker::<peers::khonsu::WithoutArrow>(),
        ]
    });
    // SAFETY: the caller gives a place for a number.
    unsafe { *count = makers.len() };
    makers.as_ptr()
}

fn maker<P: Peer>() -> Maker {
    let text = |text: String| CString::new(text).expect("no zero byte").into_raw().cast_const();
    Maker {
        name: text(P::NAME.into()),
        description: text(P::description()),
        can_scan: P::CAN_SCAN.into(),
        transactional: P::TRANSACTIONAL.into(),
        open: open::<P>,
        close: close::<P>,
        settle: settle::<P>,
        session: session::<P>,
        end_session: end_session::<P>,
        read: read::<P>,
        scan: scan::<P>,
        put: put::<P>,
        remove: remove::<P>,
        increment: increment::<P>,
        mixed: mixed::<P>,
        empty: empty::<P>,
        load: load::<P>,
        sum_counters: sum_counters::<P>,
    }
}

extern "C" fn open<P: Peer>() -> *mut () {
    Box::into_raw(Box::new(P::open())).cast()
}

unsafe extern "C" fn close<P: Peer>(peer: *mut ()) {
    // SAFETY: it came out of a box in `open`.
    drop(unsafe { Box::from_raw(peer.cast::<P>()) });
}

unsafe extern "C" fn settle<P: Peer>(peer: *const ()) {
    // SAFETY: a peer that is open.
    unsafe { &*peer.cast::<P>() }.settle();
}

/// A session, and what makes each row that it writes differ from the last.
struct Open<S> {
    session: S,
    next_id: Cell<i64>,
}

impl<S: Session> Open<S> {
    fn run(&mut self, read_only: bool, body: impl Fn(&mut dyn View, &Cell<i64>) -> Outcome<()>) -> u64 {
        let next_id = &self.next_id;
        self.session.run(read_only, &|view| body(view, next_id))
    }
}

fn next_row(next_id: &Cell<i64>) -> Row {
    next_id.set(next_id.get() + 1);
    Row::new(next_id.get(), 0)
}

unsafe extern "C" fn session<P: Peer>(peer: *const ()) -> *mut () {
    // SAFETY: a peer that is open.
    let session = unsafe { &*peer.cast::<P>() }.session();
    Box::into_raw(Box::new(Open { session, next_id: Cell::new(0) })).cast()
}

unsafe extern "C" fn end_session<P: Peer>(session: *mut ()) {
    // SAFETY: it came out of a box in `session`.
    drop(unsafe { Box::from_raw(session.cast::<Open<P::Session>>()) });
}

unsafe fn opened<'a, P: Peer>(session: *mut ()) -> &'a mut Open<P::Session> {
    // SAFETY: a session that is open, used by this thread alone until its call returns.
    unsafe { &mut *session.cast() }
}

unsafe fn listed<'a>(keys: *const Key, count: usize) -> &'a [Key] {
    // SAFETY: so many keys are there, and stay as they are.
    unsafe { slice::from_raw_parts(keys, count) }
}

unsafe extern "C" fn read<P: Peer>(session: *mut (), keys: *const Key, count: usize) -> u64 {
    // SAFETY: said at the top, as for all that follow.
    let (session, keys) = unsafe { (opened::<P>(session), listed(keys, count)) };
    session.run(true, |view, _| {
        let sum = keys.iter().try_fold(0.0, |sum, key| view.get(key).map(|row| sum + row.sum()));
        sum.map(|sum| _ = black_box(sum))
    })
}

unsafe extern "C" fn scan<P: Peer>(session: *mut (), start: *const Key) -> u64 {
    // SAFETY: said at the top.
    let (session, start) = unsafe { (opened::<P>(session), &*start) };
    session.run(true, |view, _| view.scan(start).map(|sum| _ = black_box(sum)))
}

unsafe extern "C" fn put<P: Peer>(session: *mut (), keys: *const Key, count: usize) -> u64 {
    // SAFETY: said at the top.
    let (session, keys) = unsafe { (opened::<P>(session), listed(keys, count)) };
    session.run(false, |view, next_id| keys.iter().try_for_each(|key| view.set(key, next_row(next_id))))
}

unsafe extern "C" fn remove<P: Peer>(session: *mut (), keys: *const Key, count: usize) -> u64 {
    // SAFETY: said at the top.
    let (session, keys) = unsafe { (opened::<P>(session), listed(keys, count)) };
    session.run(false, |view, _| keys.iter().try_for_each(|key| view.remove(key)))
}

unsafe extern "C" fn increment<P: Peer>(session: *mut (), keys: *const Key, count: usize) -> u64 {
    // SAFETY: said at the top.
    let (session, keys) = unsafe { (opened::<P>(session), listed(keys, count)) };
    session.run(false, |view, _| keys.iter().try_for_each(|key| view.increment(key)))
}

unsafe extern "C" fn mixed<P: Peer>(session: *mut (), keys: *const Key, writes: *const u8) -> u64 {
    // SAFETY: said at the top; as many flags as keys.
    let (session, keys, writes) =
        unsafe { (opened::<P>(session), listed(keys, OPERATIONS), slice::from_raw_parts(writes, OPERATIONS)) };
    let read_only = !writes.contains(&1);
    session.run(read_only, |view, next_id| {
        let mut sum = 0.0;
        for (key, write) in keys.iter().zip(writes) {
            match write {
                0 => sum += view.get(key)?.sum(),
                _ => view.set(key, next_row(next_id))?,
            }
        }
        black_box(sum);
        Ok(())
    })
}

unsafe extern "C" fn empty<P: Peer>(session: *mut (), read_only: i32) -> u64 {
    // SAFETY: said at the top.
    let session = unsafe { opened::<P>(session) };
    session.run(read_only != 0, |_, _| Ok(()))
}

unsafe extern "C" fn load<P: Peer>(session: *mut (), first: u64, count: u64) {
    // SAFETY: said at the top.
    let session = unsafe { opened::<P>(session) };
    session.run(false, |view, _| {
        (first..first + count).try_for_each(|id| view.set(&make_key(id), Row::new(id as i64, 0)))
    });
}

unsafe extern "C" fn sum_counters<P: Peer>(session: *mut (), first: u64, count: u64) -> i64 {
    // SAFETY: said at the top.
    let session = unsafe { opened::<P>(session) };
    let sum = Cell::new(0);
    session.run(true, |view, _| {
        sum.set(0);
        (first..first + count).try_for_each(|id| view.get(&make_key(id)).map(|row| sum.set(sum.get() + row.counter)))
    });
    sum.get()
}
