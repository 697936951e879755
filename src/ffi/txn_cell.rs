//! What stands behind a `khonsu_txn`: the transaction, its use by one at a time, and its end.
//!
//! The handle and each cursor own a count of the cell, so that they can be freed in any order. Freeing the handle rolls
//! an open transaction back at once; cursors that are left then find it ended.

use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use crate::stm::{self, GlobalId, PrepareOptions, Vote, blocks};

use super::arrow::Batch;
use super::error::Failure;
use super::handle::{Handle, InUse, Owner, check_handle, into_handle, object_of};
use super::txn::khonsu_txn;

/// How far a transaction is.
const OPEN: u8 = 0;
const COMMITTED: u8 = 1;
const ROLLED_BACK: u8 = 2;
/// A panic left it half-way through a call.
const BROKEN: u8 = 3;
const PREPARED: u8 = 4;

/// The object behind a `khonsu_txn`.
///
/// Its memory is kept for the next one of the thread, as `malloc` takes as long as a begin. A handle that is freed twice,
/// against rule 1, still says that it is not to be used, until the memory is used again.
#[repr(C)]
pub(crate) struct TransactionCell {
    /// Of [`CellRef`]s. First, as released memory begins with something else.
    references: AtomicUsize,
    in_use: InUse,
    /// One of the constants above. Written by whoever is inside alone, read by anyone.
    progress: AtomicU8,
    /// Set before `progress` becomes COMMITTED.
    commit_version: AtomicU64,
    /// Lent to a function of khonsu_db_transact, which neither ends nor frees it.
    lent: bool,
    /// Whether imported arrays are checked value by value.
    pub(crate) full_validation: bool,
    transaction: UnsafeCell<stm::Transaction<Batch>>,
}

// SAFETY: the transaction is reached only through `Entered`, of which `in_use` admits one at a time, and through
// `close`, when nobody is inside and nobody may enter any more; it is Send, which the assertion below holds the core
// to.
unsafe impl Sync for TransactionCell {}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<stm::Transaction<Batch>>();
};

impl Handle for khonsu_txn {
    type Object = TransactionCell;
    type Owner = CellRef;
}

/// The memory of a cell. What is in it is dropped already, or not there yet.
struct Place(NonNull<TransactionCell>);

impl Drop for Place {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: it was allocated with this size, and nobody uses it any more.
        unsafe { blocks::release(self.0.cast(), size_of::<TransactionCell>()) };
    }
}

/// A count of a cell. No `Arc`, as the handle is mostly alone with its cell, and need not count itself out then.
pub(crate) struct CellRef(NonNull<TransactionCell>);

impl CellRef {
    /// `make` makes the cell where it stays: moving one takes as long as beginning it.
    #[inline(always)]
    fn new(make: impl FnOnce() -> TransactionCell) -> Self {
        const { assert!(align_of::<TransactionCell>() <= blocks::ALIGNMENT) };
        let place = Place(blocks::allocate(size_of::<TransactionCell>()).cast());
        // SAFETY: it has room for a cell.
        unsafe { place.0.write(make()) };
        CellRef(ManuallyDrop::new(place).0)
    }

    pub(crate) fn as_ptr(&self) -> *const TransactionCell {
        self.0.as_ptr()
    }
}

impl Deref for CellRef {
    type Target = TransactionCell;

    fn deref(&self) -> &TransactionCell {
        // SAFETY: the cell lives as long as there is a count of it.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for CellRef {
    fn clone(&self) -> Self {
        // Relaxed: a new count comes from one that is there. It cannot overflow, as each has a cursor on the heap.
        self.references.fetch_add(1, Ordering::Relaxed);
        CellRef(self.0)
    }
}

impl Drop for CellRef {
    fn drop(&mut self) {
        // Whoever finds its count the only one is alone with the cell: further ones come from one that is there. Acquire
        // pairs with the release of those that have counted themselves out: their uses of the cell come first.
        if self.is_alone() || self.references.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: this was the last count.
            unsafe { drop_cell(self.0) };
        }
    }
}

/// Drops a cell.
///
/// # Safety
/// Nobody has a count of it any more.
unsafe fn drop_cell(cell: NonNull<TransactionCell>) {
    let _place = Place(cell);
    // SAFETY: it is ours.
    unsafe {
        cell.as_ref().in_use.gone();
        std::ptr::drop_in_place(&raw mut (*cell.as_ptr()).transaction);
    }
}

impl Owner<TransactionCell> for CellRef {
    fn into_raw(self) -> *const TransactionCell {
        ManuallyDrop::new(self).as_ptr()
    }

    unsafe fn from_raw(raw: *const TransactionCell) -> Self {
        // SAFETY: it came from a `CellRef`, so it is not NULL.
        CellRef(unsafe { NonNull::new_unchecked(raw.cast_mut()) })
    }
}

impl TransactionCell {
    #[inline(always)]
    fn make(begin: impl FnOnce() -> stm::Transaction<Batch>, full_validation: bool, lent: bool) -> CellRef {
        CellRef::new(|| TransactionCell {
            references: AtomicUsize::new(1),
            in_use: InUse::default(),
            progress: AtomicU8::new(OPEN),
            commit_version: AtomicU64::new(0),
            lent,
            full_validation,
            transaction: UnsafeCell::new(begin()),
        })
    }

    /// The handle of a new transaction, to be freed by [`free`].
    #[inline(always)]
    pub(crate) fn handle(begin: impl FnOnce() -> stm::Transaction<Batch>, full_validation: bool) -> *mut khonsu_txn {
        into_handle(Self::make(begin, full_validation, false))
    }

    /// Whether nothing but the handle leads to it.
    fn is_alone(&self) -> bool {
        // Acquire: as in the drop of [`CellRef`].
        self.references.load(Ordering::Acquire) == 1
    }

    fn is_open(&self) -> bool {
        // Acquire: pairs with the release in `end`.
        self.progress.load(Ordering::Acquire) == OPEN
    }

    /// Fails when the transaction has ended.
    #[inline]
    pub(crate) fn check_open(&self) -> Result<(), Failure> {
        if self.is_open() { Ok(()) } else { Err(self.ended()) }
    }

    /// Of one that is not open.
    #[cold]
    fn ended(&self) -> Failure {
        // Acquire: as in `is_open`.
        Failure::invalid_state(match self.progress.load(Ordering::Acquire) {
            COMMITTED => "the transaction has been committed",
            ROLLED_BACK => "the transaction has been rolled back",
            PREPARED => "the transaction has been prepared",
            _ => "the transaction was broken by a panic: free it",
        })
    }

    /// Of one that could not be entered.
    #[cold]
    fn not_entered(&self) -> Failure {
        if !self.is_open() {
            return self.ended();
        }
        Failure::invalid_state(
            "the transaction is in use: by another thread, or by the call that this one was made from",
        )
    }

    /// The version of the commit; None unless committed.
    pub(crate) fn commit_version(&self) -> Option<u64> {
        // Acquire: pairs with the release in `end`, so that the version stored before it is seen; relaxed suffices for
        // that one.
        (self.progress.load(Ordering::Acquire) == COMMITTED).then(|| self.commit_version.load(Ordering::Relaxed))
    }

    fn end(&self, progress: u8) {
        // Release: pairs with the acquires above.
        self.progress.store(progress, Ordering::Release);
    }
}

/// The right to use a transaction, until dropped. The object stays alive that long, even when its handle is freed
/// meanwhile.
pub(crate) struct Entered {
    /// With a count that outlives `self`.
    cell: *const TransactionCell,
    /// Dropped without having been told so, it is a panic that passes.
    settled: bool,
}

impl Entered {
    /// # Safety
    /// `cell` came from a [`CellRef`] (`as_ptr` or `into_raw`), and unless it is freed through [`free`], which waits for
    /// this object to go, a count of it outlives this object.
    #[inline]
    pub(crate) unsafe fn new(cell: *const TransactionCell) -> Result<Self, Failure> {
        // SAFETY: the demands are the same.
        unsafe { Entered::new_or(cell, TransactionCell::not_entered) }
    }

    /// Where it cannot be entered, `failure` is made while the cell is still there.
    ///
    /// # Safety
    /// As for `new`.
    #[inline(always)]
    unsafe fn new_or<E>(cell: *const TransactionCell, failure: impl FnOnce(&TransactionCell) -> E) -> Result<Self, E> {
        // SAFETY: alive by the demand of this function.
        let object = unsafe { &*cell };
        if !object.in_use.enter() {
            return Err(failure(object));
        }
        let mut entered = Entered { cell, settled: true };
        // Only now: nobody else can end it any more.
        if !object.is_open() {
            return Err(failure(object));
        }
        entered.settled = false;
        Ok(entered)
    }

    pub(crate) fn cell(&self) -> &TransactionCell {
        // SAFETY: alive by the demand of `new`.
        unsafe { &*self.cell }
    }

    /// Runs one call on the transaction. A panic in it leaves the transaction broken: it can only be freed then.
    pub(crate) fn run<T>(mut self, call: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        let result = call(&mut self);
        self.settled = true;
        result
    }

    /// A count of the cell, for a cursor.
    pub(crate) fn share(&self) -> CellRef {
        // SAFETY: a count outlives `self`; it is borrowed here, and not dropped.
        let borrowed = ManuallyDrop::new(unsafe { CellRef::from_raw(self.cell) });
        CellRef::clone(&borrowed)
    }

    /// Fails for a transaction that belongs to khonsu_db_transact.
    fn check_owned(&self) -> Result<(), Failure> {
        if self.cell().lent {
            return Err(Failure::invalid_state("khonsu_db_transact ends the transaction, not its function"));
        }
        Ok(())
    }

    /// For the export: commits one that has nothing to commit, and is not lent. It cannot panic.
    #[inline(always)]
    pub(crate) fn commit_nothing(&mut self) -> bool {
        if self.cell().lent {
            return false;
        }
        let Some(version) = stm::Transaction::commit_nothing(self) else { return false };
        self.committed(version);
        self.settled = true;
        true
    }

    /// For the export: ends the transaction unless it is lent.
    pub(crate) fn commit(&mut self) -> Result<(), Failure> {
        self.check_owned()?;
        self.commit_now()?;
        Ok(())
    }

    /// For the export: ends the transaction unless it is lent.
    pub(crate) fn rollback(&mut self) -> Result<(), Failure> {
        self.check_owned()?;
        self.rollback_now()?;
        Ok(())
    }

    /// For the export: ends the transaction unless it is lent.
    pub(crate) fn prepare(&mut self, id: &GlobalId, options: PrepareOptions) -> Result<Vote, Failure> {
        self.check_owned()?;
        let vote = stm::Transaction::prepare(self, id, options);
        match (&vote, stm::Transaction::commit_version(self)) {
            (Ok(Vote::Yes), _) => self.cell().end(PREPARED),
            (Ok(Vote::ReadOnly), Some(version)) => self.committed(version),
            _ if !self.is_open() => self.cell().end(ROLLED_BACK),
            _ => {}
        }
        Ok(vote?)
    }

    fn commit_now(&mut self) -> Result<u64, stm::Error> {
        let committed = stm::Transaction::commit(self);
        match &committed {
            Ok(version) => self.committed(*version),
            Err(_) if !self.is_open() => self.cell().end(ROLLED_BACK),
            Err(_) => {}
        }
        committed
    }

    fn committed(&self, version: u64) {
        // Relaxed: the release in `end` publishes it.
        self.cell().commit_version.store(version, Ordering::Relaxed);
        self.cell().end(COMMITTED);
    }

    fn rollback_now(&mut self) -> Result<(), stm::Error> {
        stm::Transaction::rollback(self)?;
        self.cell().end(ROLLED_BACK);
        Ok(())
    }
}

impl Deref for Entered {
    type Target = stm::Transaction<Batch>;

    fn deref(&self) -> &Self::Target {
        // SAFETY: `in_use` let only this object in, and it lends the transaction by its own borrow.
        unsafe { &*self.cell().transaction.get() }
    }
}

impl DerefMut for Entered {
    fn deref_mut(&mut self) -> &mut Self::Target {
        // SAFETY: as for `deref`.
        unsafe { &mut *self.cell().transaction.get() }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if !self.settled {
            self.cell().end(BROKEN);
        }
        let TransactionCell { in_use, lent, .. } = self.cell();
        // One that is lent goes when its function returns, wherever other threads are.
        let freed = if *lent { in_use.leave_exactly() } else { in_use.leave() };
        if freed {
            // SAFETY: the handle was freed while this object was inside; whoever freed it left the closing to the last
            // to leave.
            unsafe { close(self.cell) };
        }
    }
}

/// Enters the transaction behind the handle.
///
/// # Safety
/// Rule 1 holds for `txn`.
#[inline]
pub(crate) unsafe fn enter(txn: *const khonsu_txn) -> Result<Entered, Failure> {
    // SAFETY: rule 1: the handle's count is there until `free`.
    unsafe { Entered::new(check_handle(txn, "txn")?) }
}

/// The same without a reason why not; it cannot panic.
///
/// # Safety
/// Rule 1 holds for `txn`.
#[inline(always)]
pub(crate) unsafe fn try_enter(txn: *const khonsu_txn) -> Option<Entered> {
    // SAFETY: as in `enter`.
    unsafe { Entered::new_or(object_of(txn)?, |_| ()).ok() }
}

/// Frees the handle: at once, or when the call in progress ends. One that is lent is left alone.
///
/// # Safety
/// Rule 1 holds for `txn`, and this is its last use.
pub(crate) unsafe fn free(txn: *mut khonsu_txn) {
    let Some(cell) = object_of(txn) else { return };
    // SAFETY: rule 1; the handle's count goes only in `close`.
    unsafe {
        let TransactionCell { lent, in_use, .. } = &*cell;
        if *lent {
            return;
        }
        // Whoever is alone with it needs no swap to mark it. Marked it must be: what the rollback releases may call here.
        if (*cell).is_alone() && in_use.is_idle() {
            in_use.gone();
            close(cell);
        } else if in_use.free() {
            close(cell);
        }
    }
}

/// Frees the handle if that is all there is to do: nobody else has a count of the cell, and the transaction has ended. It
/// cannot panic.
///
/// # Safety
/// As for `free`; true is its last use.
#[inline(always)]
pub(crate) unsafe fn free_ended(txn: *mut khonsu_txn) -> bool {
    let Some(cell) = object_of(txn) else { return false };
    // SAFETY: rule 1. Nobody else is there to use the transaction, which owns nothing once it has ended.
    unsafe {
        let TransactionCell { lent, in_use, transaction, .. } = &*cell;
        if *lent || !(*cell).is_alone() || !in_use.is_idle() || (*transaction.get()).is_open() {
            return false;
        }
        in_use.gone();
        drop(Place(NonNull::new_unchecked(cell.cast_mut())));
    }
    true
}

/// Gives the handle's count back, and rolls the transaction back if it is open.
///
/// # Safety
/// The handle of `cell` is marked as freed or the only way to it, nobody is inside, and this is called once.
unsafe fn close(cell: *const TransactionCell) {
    // SAFETY: `into_raw` made the pointer, and its count is given back only here.
    let cell = unsafe { CellRef::from_raw(cell) };
    // A panic here may meet one that passes already, and nobody is left to hear of it: it stops here.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // Not for a broken one: what it holds goes with its memory.
        if cell.is_open() {
            cell.end(ROLLED_BACK);
            // SAFETY: nobody is inside, and nobody can enter a freed cell.
            let _ = unsafe { (*cell.transaction.get()).rollback() };
        }
        drop(cell);
    }));
}

/// One run of a function of khonsu_db_transact: a transaction that is lent to C for that long.
pub(crate) struct Attempt {
    cell: *const TransactionCell,
}

impl Attempt {
    pub(crate) fn new(begin: impl FnOnce() -> stm::Transaction<Batch>, full_validation: bool) -> Self {
        Attempt { cell: TransactionCell::make(begin, full_validation, true).into_raw() }
    }

    /// The handle to lend.
    pub(crate) fn handle(&self) -> *mut khonsu_txn {
        self.cell.cast_mut().cast()
    }

    fn enter(&self) -> Result<Entered, Failure> {
        // SAFETY: the count is given back by the drop of `self`, or later.
        unsafe { Entered::new(self.cell) }
    }

    /// Commits. The outer failure is that of the handle (a thread of the function still uses it, a panic broke it).
    pub(crate) fn commit(&self) -> Result<Result<u64, stm::Error>, Failure> {
        self.enter()?.run(|transaction| Ok(transaction.commit_now()))
    }
}

impl Drop for Attempt {
    /// Rolls back what is not committed.
    fn drop(&mut self) {
        // SAFETY: the count of `new` is still there: `close` alone gives it back, and is called here or, when a thread
        // is still inside, by that one when it leaves.
        unsafe {
            if (*self.cell).in_use.free() {
                close(self.cell);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::status::khonsu_status;

    fn manager() -> stm::TransactionManager<Batch> {
        stm::TransactionManager::new(stm::Options::default())
    }

    fn begin(manager: &stm::TransactionManager<Batch>) -> *mut khonsu_txn {
        TransactionCell::handle(|| manager.begin(&stm::TransactionOptions::default()), false)
    }

    #[test]
    fn a_panic_breaks_the_transaction_and_nothing_else() {
        let manager = manager();
        let txn = begin(&manager);
        // SAFETY: the handle is alive until it is freed below.
        unsafe {
            let passed =
                catch_unwind(AssertUnwindSafe(|| enter(txn).unwrap().run(|_| -> Result<(), _> { panic!("inside") })));
            assert!(passed.is_err());
            let Err(failure) = enter(txn) else { panic!("a broken transaction can be entered") };
            assert_eq!(failure.status, khonsu_status::InvalidState);
            assert!(failure.message.contains("panic"));
            free(txn);
        }
        assert_eq!(manager.stats().active_transactions, 0);
        assert_eq!(manager.begin(&stm::TransactionOptions::default()).commit(), Ok(0));
    }

    #[test]
    fn a_cell_goes_with_its_last_count() {
        let manager = manager();
        let cell = TransactionCell::make(|| manager.begin(&stm::TransactionOptions::default()), false, false);
        let handle: *mut khonsu_txn = into_handle(cell.clone());
        // SAFETY: the handle is alive until it is freed below.
        let shared = unsafe { enter(handle) }.unwrap().run(|entered| Ok(entered.share())).unwrap();
        assert_eq!(cell.references.load(Ordering::Relaxed), 3);
        std::thread::scope(|scope| {
            let address = handle.expose_provenance();
            scope.spawn(move || {
                // SAFETY: the handle is freed once, which any thread may do.
                unsafe { free(std::ptr::with_exposed_provenance_mut(address)) };
            });
        });
        assert_eq!(manager.stats().active_transactions, 0);
        drop(cell);
        assert_eq!(shared.references.load(Ordering::Relaxed), 1);
        assert!(shared.check_open().is_err());
    }

    #[test]
    fn one_is_inside_at_a_time() {
        let manager = manager();
        let txn = begin(&manager);
        // SAFETY: the handle is alive until it is freed below, and the transaction until it is left.
        unsafe {
            let entered = enter(txn).unwrap();
            assert!(enter(txn).is_err());
            entered
                .run(|inside| {
                    assert!(enter(txn).is_err());
                    free(txn);
                    assert!(inside.is_open(), "it is freed when it is left");
                    assert!(inside.get(b"k").unwrap().is_none());
                    Ok(())
                })
                .unwrap();
        }
        assert_eq!(manager.stats().rollbacks, 1);
    }

    #[test]
    fn a_lent_transaction_that_is_still_used_is_not_committed() {
        let manager = manager();
        let attempt = Attempt::new(|| manager.begin(&stm::TransactionOptions::default()), false);
        // SAFETY: the transaction lives until it is left below.
        let entered = unsafe { enter(attempt.handle()) }.unwrap();
        assert_eq!(attempt.commit().map(drop).unwrap_err().status, khonsu_status::InvalidState);
        drop(attempt);
        assert_eq!(manager.stats().active_transactions, 1);
        entered.run(|_| Ok(())).unwrap();
        let stats = manager.stats();
        assert_eq!((stats.active_transactions, stats.rollbacks), (0, 1));
    }
}
