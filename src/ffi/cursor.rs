//! Cursors.

use std::cell::UnsafeCell;
use std::ffi::c_void;

use crate::stm;

use super::arrow::{ArrowArray, ArrowSchema, Batch};
use super::error::{Failure, khonsu_error};
use super::guard::{guard, guard_or};
use super::handle::{Handle, InUse, check_handle, into_handle, object_of};
use super::out::{clear, require, unknown_constant, write_if};
use super::status::khonsu_status;
use super::txn::{export, whole};
use super::txn_cell::{CellRef, Entered};

/// Which way a scan goes.
///
/// Since: 0.1
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum khonsu_direction {
    /// From the lowest key to the highest.
    Forward = 0,
    /// From the highest key to the lowest.
    Reverse = 1,
}

/// The direction of that number.
pub(crate) fn direction(number: i32) -> Result<stm::Direction, Failure> {
    const FORWARD: i32 = khonsu_direction::Forward as i32;
    const REVERSE: i32 = khonsu_direction::Reverse as i32;
    match number {
        FORWARD => Ok(stm::Direction::Forward),
        REVERSE => Ok(stm::Direction::Reverse),
        _ => Err(unknown_constant("direction", number, "khonsu_direction")),
    }
}

/// A position in a scan of a transaction: made by khonsu_txn_scan and khonsu_txn_scan_prefix, freed by
/// khonsu_cursor_free. It is before the first entry, on an entry, or past the last. It may be freed before or after its
/// transaction; when that has ended, its calls fail with KHONSU_STATUS_INVALID_STATE.
///
/// Threads: serialized, together with its transaction and the other cursors of that one. Since: 0.1
pub struct khonsu_cursor {
    _opaque: [u8; 0],
}

/// The object behind a `khonsu_cursor`.
///
/// It has its own [`InUse`] beside the transaction's: a release callback of the transaction may find the cursor between
/// two entries.
pub(crate) struct CursorCell {
    in_use: InUse,
    transaction: CellRef,
    position: UnsafeCell<Position>,
}

// SAFETY: the position is reached only through `Inside`: changed by one that is alone there, by others only asked for
// the key and the value of its entry, which are plain data. The assertions below hold the core to what that needs.
unsafe impl Sync for CursorCell {}

const _: () = {
    const fn is_send<T: Send>() {}
    const fn is_sync<T: Sync>() {}
    is_send::<stm::Cursor<Batch>>();
    is_sync::<stm::Value<Batch>>();
};

struct Position {
    cursor: stm::Cursor<Batch>,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    BeforeFirst,
    OnEntry,
    PastLast,
    /// The last step failed.
    Nowhere,
}

impl Position {
    /// The entry that the cursor is on.
    fn entry(&self) -> Result<(&[u8], &stm::Value<Batch>), Failure> {
        match (self.place, self.cursor.key(), self.cursor.value()) {
            (Place::OnEntry, Some(key), Some(value)) => Ok((key, value)),
            (Place::BeforeFirst, ..) => Err(Failure::invalid_state("the cursor is before the first entry")),
            (Place::PastLast, ..) => Err(Failure::invalid_state("the cursor is past the last entry")),
            _ => Err(Failure::invalid_state("the cursor is on no entry: its last step failed")),
        }
    }
}

impl Handle for khonsu_cursor {
    type Object = CursorCell;
    type Owner = Box<CursorCell>;
}

/// The use of a cursor, until dropped: alone, or with others that only look.
struct Inside {
    /// As `Box::into_raw` made it.
    cell: *const CursorCell,
    alone: bool,
}

impl Inside {
    /// # Safety
    /// Rule 1 holds for `cursor`.
    unsafe fn new(cursor: *const khonsu_cursor, alone: bool) -> Result<Self, Failure> {
        let cell = check_handle(cursor, "cursor")?;
        // SAFETY: rule 1.
        let in_use = unsafe { &(*cell).in_use };
        match if alone { in_use.enter() } else { in_use.enter_shared() } {
            true => Ok(Inside { cell, alone }),
            false => Err(Failure::invalid_state(
                "the cursor is in use: by another thread, or by the call that this one was made from",
            )),
        }
    }

    fn cell(&self) -> &CursorCell {
        // SAFETY: the cursor is freed only when nobody is inside.
        unsafe { &*self.cell }
    }

    /// The position, to look at.
    fn position(&self) -> &Position {
        // SAFETY: whoever is alone inside has the only `Inside`, and changes it through `position_mut` only.
        unsafe { &*self.cell().position.get() }
    }

    /// The position, to move.
    fn position_mut(&mut self) -> &mut Position {
        debug_assert!(self.alone);
        // SAFETY: `self` is alone inside, and lends the position by its own borrow.
        unsafe { &mut *self.cell().position.get() }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let in_use = &self.cell().in_use;
        let freed = if self.alone { in_use.leave() } else { in_use.leave_shared() };
        if freed {
            // SAFETY: the handle was freed while this object was inside, and it is the last to leave.
            drop(unsafe { Box::from_raw(self.cell.cast_mut()) });
        }
    }
}

/// Opens a cursor and writes its handle.
///
/// # Safety
/// Rule 3 holds for `out`.
pub(crate) unsafe fn open(
    transaction: &mut Entered,
    range: stm::KeyRange,
    direction: stm::Direction,
    limit: Option<u64>,
    out: *mut *mut khonsu_cursor,
) -> Result<khonsu_status, Failure> {
    let cursor = transaction.open_cursor(range, direction, limit)?;
    let cell = Box::new(CursorCell {
        in_use: InUse::default(),
        transaction: transaction.share(),
        position: UnsafeCell::new(Position { cursor, place: Place::BeforeFirst }),
    });
    // SAFETY: rule 3.
    unsafe { write_if(out, || into_handle(cell)) };
    Ok(khonsu_status::Ok)
}

/// Moves the cursor to the next entry, to the first one after it was opened.
///
/// @param[in]  cursor Not NULL.
/// @param[out] error  May be NULL.
/// @return
/// - KHONSU_STATUS_OK: the cursor is on an entry.
/// - KHONSU_STATUS_NOT_FOUND: there is no further entry; the cursor is past the last, and stays there.
/// - KHONSU_STATUS_INVALID_ARGUMENT: cursor is NULL.
/// - KHONSU_STATUS_INVALID_STATE: the transaction has ended, or the cursor or the transaction is in use; the cursor
///   stays where it is.
/// - KHONSU_STATUS_SCHEMA_MISMATCH: the transaction has appended rows to the next entry whose schema is not that of the
///   rows there. The cursor is on no entry; the next call tries that one again.
/// - KHONSU_STATUS_STORAGE, KHONSU_STATUS_CORRUPTION: with a memory budget (khonsu_options_set_memory_budget), the value
///   of the next entry is in storage alone and cannot be read, or is damaged; the message says where. The cursor is on
///   no entry; the next call tries that one again.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_cursor_next(
    cursor: *mut khonsu_cursor,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        guard(error, || {
            let mut inside = Inside::new(cursor, true)?;
            // The count that the cursor owns outlives `entered`, which goes first.
            let entered = Entered::new(inside.cell().transaction.as_ptr())?;
            entered.run(|transaction| {
                let position = inside.position_mut();
                if matches!(position.place, Place::PastLast) {
                    return Ok(khonsu_status::NotFound);
                }
                position.place = Place::Nowhere;
                if position.cursor.next(transaction)? {
                    position.place = Place::OnEntry;
                    Ok(khonsu_status::Ok)
                } else {
                    position.place = Place::PastLast;
                    Ok(khonsu_status::NotFound)
                }
            })
        })
    }
}

/// Gives the key of the entry that the cursor is on.
///
/// @param[in]  cursor      Not NULL.
/// @param[out] out_key     Not NULL. The bytes of the key, not terminated by a NUL; borrowed: valid until the next call
///                         of khonsu_cursor_next or khonsu_cursor_free. Written only on KHONSU_STATUS_OK.
/// @param[out] out_key_len Not NULL. Their number; written only on KHONSU_STATUS_OK.
/// @param[out] error       May be NULL.
/// @return
/// - KHONSU_STATUS_OK: written.
/// - KHONSU_STATUS_INVALID_ARGUMENT: cursor, out_key or out_key_len is NULL.
/// - KHONSU_STATUS_INVALID_STATE: the cursor is on no entry, is in use by khonsu_cursor_next, or the transaction has
///   ended.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Threads: any number at once, while no thread is in khonsu_cursor_next. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_cursor_key(
    cursor: *const khonsu_cursor,
    out_key: *mut *const c_void,
    out_key_len: *mut usize,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        guard(error, || {
            require(out_key, "out_key")?;
            require(out_key_len, "out_key_len")?;
            let inside = Inside::new(cursor, false)?;
            inside.cell().transaction.check_open()?;
            let (key, _) = inside.position().entry()?;
            write_if(out_key, || key.as_ptr().cast());
            write_if(out_key_len, || key.len());
            Ok(khonsu_status::Ok)
        })
    }
}

/// Gives the value of the entry that the cursor is on as one batch, as khonsu_txn_get does.
///
/// @param[in]  cursor     Not NULL.
/// @param[out] out_array  Not NULL. As for khonsu_txn_get.
/// @param[out] out_schema May be NULL. As for khonsu_txn_get.
/// @param[out] error      May be NULL.
/// @return
/// - KHONSU_STATUS_OK: given.
/// - KHONSU_STATUS_INVALID_ARGUMENT: cursor or out_array is NULL; or chunks that were put without full validation turn
///   out malformed when they are joined.
/// - KHONSU_STATUS_INVALID_STATE: the cursor is on no entry, is in use, or the transaction has ended.
/// - KHONSU_STATUS_LIMIT_EXCEEDED: the chunks are too large to be one array: use khonsu_txn_get_stream.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Unless it returns KHONSU_STATUS_OK, release is NULL in both outs. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_cursor_get(
    cursor: *mut khonsu_cursor,
    out_array: *mut ArrowArray,
    out_schema: *mut ArrowSchema,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        clear(out_array);
        clear(out_schema);
        guard(error, || {
            require(out_array, "out_array")?;
            let inside = Inside::new(cursor, false)?;
            inside.cell().transaction.check_open()?;
            let (_, value) = inside.position().entry()?;
            export(&whole(value)?, out_array, out_schema)
        })
    }
}

/// Frees a cursor. Keys that it gave go with it, exported arrays stay. In a callback of a call on the cursor it takes
/// effect when that call ends.
///
/// @param[in] cursor Consumed; NULL does nothing.
///
/// Threads: once, by any thread, when no other uses it. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_cursor_free(cursor: *mut khonsu_cursor) {
    guard_or((), || {
        let Some(cell) = object_of(cursor) else { return };
        // SAFETY: rule 1, and this is the last use: the box goes here, or when the last leaves.
        unsafe {
            if (*cell).in_use.free() {
                drop(Box::from_raw(cell.cast_mut()));
            }
        }
    });
}
