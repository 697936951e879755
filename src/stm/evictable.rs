//! Values that may stand in storage instead of in memory.
//!
//! A database with a [`MemoryBudget`] has each value of a version in a cell of its own, an [`Evictable`]. The cell stays
//! where it is as long as the version does, so that chains, stamps and reader marks know nothing of it; what is in it
//! comes and goes:
//!
//! - *resident*: the chunks are in memory. Once a checkpoint has them, the cell knows their [`Place`], too.
//! - *cold*: only the place is left. Whoever reads the value reads it from there, in its own thread and outside of any
//!   pin, and may put it back.
//!
//! A value that was made by appending has its own rows and the cell that they go after: appending reads nothing. When a
//! checkpoint has such a value as a whole, it becomes cold, and lets go of the other cell. So a cell needs at most one
//! place to be read, and no old checkpoint for longer than until the next one.
//!
//! The lock of a cell is held for a few instructions, never while something is read.

use std::sync::{Arc, PoisonError};

use super::error::Error;
use super::memory_budget::MemoryBudget;
use super::sync::{AtomicBool, Mutex, MutexGuard, Ordering};
use super::value::{Chunk, Value, check_appended};

/// Reads values back.
pub(crate) trait ValueSource<C>: Send + Sync {
    /// All chunks of a value, in their order.
    ///
    /// # Errors
    /// [`Error::Storage`] and [`Error::Corruption`], with the place.
    fn read(&self, position: Position) -> Result<Vec<C>, Error>;

    /// A chunk with the schema of all values that are there.
    fn sample(&self) -> &C;
}

/// Where a value stands in a file of values: as some rows that follow one another, of which each is a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The part of the file that has its first row.
    pub block: u32,
    /// The number of that row in it.
    pub row: u32,
    /// The number of rows. They may go on in the blocks behind.
    pub chunks: u32,
}

/// Where a value can be read.
pub(crate) struct Place<C> {
    pub source: Arc<dyn ValueSource<C>>,
    pub position: Position,
}

impl<C> Clone for Place<C> {
    fn clone(&self) -> Self {
        Place { source: Arc::clone(&self.source), position: self.position }
    }
}

impl<C: Chunk> Place<C> {
    fn read(&self) -> Result<Value<C>, Error> {
        let damaged = |what: &str| Error::Corruption(format!("a value in storage is not what it was: {what}"));
        let value =
            Value::from_chunks(self.source.read(self.position)?).map_err(|error| damaged(&error.to_string()))?;
        value.ok_or_else(|| damaged("it has no chunk"))
    }
}

/// The value of a version.
pub(crate) enum VersionValue<C> {
    /// In memory for good.
    InMemory(Value<C>),
    /// In memory or in storage.
    Evictable(Arc<Evictable<C>>),
}

impl<C: Clone> Clone for VersionValue<C> {
    fn clone(&self) -> Self {
        match self {
            VersionValue::InMemory(value) => VersionValue::InMemory(value.clone()),
            VersionValue::Evictable(cell) => VersionValue::Evictable(Arc::clone(cell)),
        }
    }
}

impl<C: Chunk> VersionValue<C> {
    /// A value as the versions of a database have it.
    pub fn new(value: Value<C>, budget: Option<&Arc<MemoryBudget<C>>>) -> Self {
        match budget {
            None => VersionValue::InMemory(value),
            Some(budget) => VersionValue::Evictable(Evictable::new(value, budget)),
        }
    }

    /// This value with rows after its own. Nothing is read.
    ///
    /// # Errors
    /// [`Error::SchemaMismatch`] when the schemas differ.
    pub fn append(&self, rows: &Value<C>) -> Result<Self, Error> {
        match self {
            VersionValue::InMemory(value) => value.append(rows).map(VersionValue::InMemory),
            VersionValue::Evictable(cell) => cell.append(rows).map(VersionValue::Evictable),
        }
    }

    /// Whether rows can go after its own. Nothing is read.
    ///
    /// # Errors
    /// [`Error::SchemaMismatch`] when the schemas differ.
    pub fn check_appended(&self, rows: &Value<C>) -> Result<(), Error> {
        match self {
            VersionValue::InMemory(value) => check_appended(value.newest(), rows),
            VersionValue::Evictable(cell) => check_appended(&cell.sample(), rows),
        }
    }

    /// The value, unless it may be in storage.
    #[inline]
    pub fn in_memory(&self) -> Option<&Value<C>> {
        match self {
            VersionValue::InMemory(value) => Some(value),
            VersionValue::Evictable(_) => None,
        }
    }

    /// The chunks, read from storage where they are not in memory. Not to be called under a pin.
    ///
    /// # Errors
    /// [`Error::Storage`] and [`Error::Corruption`], with the place. Another call may succeed.
    pub fn into_value(self) -> Result<Value<C>, Error> {
        match self {
            VersionValue::InMemory(value) => Ok(value),
            VersionValue::Evictable(cell) => cell.read_through(),
        }
    }

    /// The same for one who may read it again: see [`Evictable::fetch`].
    ///
    /// # Errors
    /// Those of [`into_value`](VersionValue::into_value).
    pub fn fetch(self) -> Result<Value<C>, Error> {
        match self {
            VersionValue::InMemory(value) => Ok(value),
            VersionValue::Evictable(cell) => cell.fetch(),
        }
    }

    /// Bytes of memory that the whole value takes when it is resident.
    pub fn bytes(&self) -> u64 {
        match self {
            VersionValue::InMemory(value) => value.bytes(),
            VersionValue::Evictable(cell) => cell.bytes,
        }
    }

    /// A chunk with the schema of the value.
    pub fn sample(&self) -> C {
        match self {
            VersionValue::InMemory(value) => value.newest().clone(),
            VersionValue::Evictable(cell) => cell.sample(),
        }
    }

    /// See [`Chunk::location`].
    pub fn location(&self) -> *const () {
        match self {
            VersionValue::InMemory(value) => value.newest().location(),
            VersionValue::Evictable(cell) => Arc::as_ptr(cell).cast(),
        }
    }
}

// The common form costs no more room than the value itself.
const _: () = assert!(size_of::<Option<VersionValue<Box<u64>>>>() == size_of::<Value<Box<u64>>>());

/// A value that can be evicted.
pub(crate) struct Evictable<C> {
    budget: Arc<MemoryBudget<C>>,
    /// Of the whole value when it is resident; of one that was never in memory an estimate.
    bytes: u64,
    /// Whether it was read since the clock hand passed.
    referenced: AtomicBool,
    state: Mutex<State<C>>,
}

/// A cell without rows of its own has a place, and no base.
struct State<C> {
    /// All chunks, or those behind the base's.
    own: Option<Value<C>>,
    /// Of these.
    own_bytes: u64,
    /// The cell whose value comes first.
    base: Option<Arc<Evictable<C>>>,
    /// Where the whole value stands.
    place: Option<Place<C>>,
    /// Whether the budget's queue has it.
    queued: bool,
}

impl<C> Evictable<C> {
    fn lock(&self) -> MutexGuard<'_, State<C>> {
        // Nobody panics with the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_use(&self) {
        // Relaxed: a hint. Looked at first, as most find it set, and would only take the line from each other.
        if !self.referenced.load(Ordering::Relaxed) {
            self.referenced.store(true, Ordering::Relaxed);
        }
    }

    /// Forgets that it was read; says whether it was.
    pub fn take_use(&self) -> bool {
        self.referenced.swap(false, Ordering::Relaxed)
    }

    /// Lets the clock hand come by, now that it can be evicted.
    fn queue(self: &Arc<Self>, mut state: MutexGuard<'_, State<C>>) {
        let new = !std::mem::replace(&mut state.queued, true);
        drop(state);
        if new {
            self.budget.enqueue(Arc::downgrade(self));
        }
    }

    /// A checkpoint has the whole value there.
    pub fn stored(self: &Arc<Self>, place: Place<C>) {
        let mut state = self.lock();
        let before = state.place.replace(place);
        if state.own.is_some() && before.is_none() {
            self.budget.stored(state.own_bytes);
        }
        match (&state.own, &state.base) {
            (None, _) => drop(state),
            (Some(_), None) => self.queue(state),
            (Some(_), Some(_)) => self.empty(state),
        }
        // Behind the lock: it may be the last that had an old file open.
        drop(before);
    }

    /// Leaves the value in storage alone. To be called with what the queue gave.
    pub fn evict(&self) {
        let mut state = self.lock();
        state.queued = false;
        self.empty(state);
    }

    fn empty(&self, mut state: MutexGuard<'_, State<C>>) {
        if state.place.is_none() {
            return;
        }
        let (own, base) = (state.own.take(), state.base.take());
        if own.is_some() {
            self.budget.evicted(self.bytes, std::mem::take(&mut state.own_bytes));
        }
        // Behind the lock: the producer of a batch is told when it goes.
        drop(state);
        drop((own, base));
    }
}

impl<C: Chunk> Evictable<C> {
    /// A value that is in no checkpoint.
    pub fn new(value: Value<C>, budget: &Arc<MemoryBudget<C>>) -> Arc<Self> {
        Evictable::resident(value, None, budget)
    }

    fn resident(own: Value<C>, base: Option<Arc<Self>>, budget: &Arc<MemoryBudget<C>>) -> Arc<Self> {
        let own_bytes = own.bytes();
        budget.added(own_bytes);
        let bytes = base.as_ref().map_or(0, |base| base.bytes) + own_bytes;
        Evictable::with(State { own: Some(own), own_bytes, base, place: None, queued: false }, bytes, budget)
    }

    /// A value that is in a checkpoint only, and would take so many bytes of memory.
    pub fn cold(place: Place<C>, bytes: u64, budget: &Arc<MemoryBudget<C>>) -> Arc<Self> {
        budget.cooled(bytes);
        let state = State { own: None, own_bytes: 0, base: None, place: Some(place), queued: false };
        Evictable::with(state, bytes, budget)
    }

    fn with(state: State<C>, bytes: u64, budget: &Arc<MemoryBudget<C>>) -> Arc<Self> {
        let (budget, referenced) = (Arc::clone(budget), AtomicBool::new(false));
        Arc::new(Evictable { budget, bytes, referenced, state: Mutex::new(state) })
    }

    fn sample(&self) -> C {
        let state = self.lock();
        match (&state.own, &state.place) {
            (Some(own), _) => own.newest().clone(),
            (None, Some(place)) => place.source.sample().clone(),
            (None, None) => unreachable!("a cell has rows or a place"),
        }
    }

    fn append(self: &Arc<Self>, rows: &Value<C>) -> Result<Arc<Self>, Error> {
        check_appended(&self.sample(), rows)?;
        Ok(Evictable::resident(rows.clone(), Some(Arc::clone(self)), &self.budget))
    }

    /// The chunks for one who may read them again: they stay in memory, and others go if the budget says so.
    ///
    /// # Errors
    /// Those of [`ValueSource::read`].
    pub fn fetch(self: &Arc<Self>) -> Result<Value<C>, Error> {
        self.note_use();
        let read = self.read(true);
        self.budget.shrink();
        read
    }

    /// The chunks for one who passes by: what is cold stays cold.
    ///
    /// # Errors
    /// Those of [`ValueSource::read`].
    pub fn read_through(self: &Arc<Self>) -> Result<Value<C>, Error> {
        self.read(false)
    }

    fn read(self: &Arc<Self>, keep: bool) -> Result<Value<C>, Error> {
        let (mut value, mut base) = self.read_own(keep)?;
        // Newest first.
        let mut behind = Vec::new();
        while let Some(cell) = base {
            let (older, next) = cell.read_own(keep)?;
            behind.push(std::mem::replace(&mut value, older));
            base = next;
        }
        let damaged = |error: Error| Error::Corruption(format!("a value in storage is not what it was: {error}"));
        behind.iter().rev().try_fold(value, |value, rows| value.append(rows)).map_err(damaged)
    }

    /// The value up to its beginning or up to that of the base, and that.
    fn read_own(self: &Arc<Self>, keep: bool) -> Result<(Value<C>, Option<Arc<Self>>), Error> {
        let state = self.lock();
        let place = match (&state.own, &state.place) {
            (Some(own), _) => return Ok((own.clone(), state.base.clone())),
            (None, Some(place)) => place.clone(),
            (None, None) => unreachable!("a cell has rows or a place"),
        };
        drop(state);
        self.budget.count_read();
        let value = place.read()?;
        if keep && self.budget.has_room_for(value.bytes()) {
            self.put_back(value.clone());
        }
        Ok((value, None))
    }

    fn put_back(self: &Arc<Self>, value: Value<C>) {
        let mut state = self.lock();
        if state.own.is_none() {
            state.own_bytes = value.bytes();
            self.budget.warmed(self.bytes, state.own_bytes);
            state.own = Some(value);
            self.queue(state);
        }
    }

    /// Puts a cold value into memory if the budget still has room for it.
    ///
    /// # Errors
    /// Those of [`ValueSource::read`].
    pub fn warm(self: &Arc<Self>) -> Result<(), Error> {
        let fits = self.budget.resident() + self.bytes <= self.budget.limit();
        if fits && self.budget.has_room_for(self.bytes) {
            self.read_own(true)?;
        }
        Ok(())
    }
}

impl<C> Drop for Evictable<C> {
    /// Unlinks its bases step by step: many small appends would overflow the stack by recursion.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        match &state.own {
            Some(_) => self.budget.dropped(state.own_bytes, state.place.is_some()),
            None => self.budget.warmed(self.bytes, 0),
        }
        if state.queued {
            self.budget.queued_gone();
        }
        let mut base = state.base.take();
        while let Some(mut cell) = base.and_then(Arc::into_inner) {
            base = cell.state.get_mut().unwrap_or_else(PoisonError::into_inner).base.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stm::value::tests::{Rows, flat, rows};

    /// Values in storage: the one of a number has the number and its square. Odd ones from 100 on are damaged.
    struct Squares(Rows);

    impl ValueSource<Rows> for Squares {
        fn read(&self, position: Position) -> Result<Vec<Rows>, Error> {
            let number = u64::from(position.block);
            match number {
                100.. if number % 2 == 1 => Err(Error::Corruption("here".to_owned())),
                _ => Ok(vec![Rows { schema: 0, rows: vec![number, number * number] }]),
            }
        }

        fn sample(&self) -> &Rows {
            &self.0
        }
    }

    fn place(number: u32) -> Place<Rows> {
        let sample = Rows { schema: 0, rows: vec![] };
        Place { source: Arc::new(Squares(sample)), position: Position { block: number, row: 0, chunks: 1 } }
    }

    /// Resident, cold and unstored bytes.
    fn bytes(budget: &MemoryBudget<Rows>) -> (u64, u64, u64) {
        (budget.resident(), budget.cold_bytes(), budget.unstored())
    }

    fn is_cold(cell: &Evictable<Rows>) -> bool {
        cell.lock().own.is_none()
    }

    #[test]
    fn only_what_is_stored_goes_and_what_was_read_goes_last() {
        let budget = MemoryBudget::new(64);
        let cells: Vec<_> = (0..10).map(|number| Evictable::new(rows(&[number, number * number]), &budget)).collect();
        budget.shrink_fully();
        assert_eq!(bytes(&budget), (160, 0, 160));
        for (number, cell) in cells.iter().enumerate().skip(1) {
            cell.stored(place(number as u32));
        }
        cells[1].note_use();
        cells[2].note_use();
        budget.shrink_fully();
        assert_eq!(bytes(&budget), (64, 96, 16));
        let cold: Vec<_> = (0..10).filter(|number| is_cold(&cells[*number])).collect();
        assert_eq!(cold, [3, 4, 5, 6, 7, 8], "the first ones that were not read");
        assert_eq!(flat(&cells[3].read_through().unwrap()), [3, 9]);
        assert_eq!((is_cold(&cells[3]), budget.reads()), (true, 1));
        assert_eq!(flat(&cells[3].fetch().unwrap()), [3, 9]);
        assert!(!is_cold(&cells[3]) && is_cold(&cells[9]) && budget.reads() == 2);
        assert_eq!(bytes(&budget), (64, 96, 16));
        drop(cells);
        assert_eq!(bytes(&budget), (0, 0, 0));
    }

    #[test]
    fn appended_rows_go_after_what_is_cold() {
        let budget = MemoryBudget::new(1 << 20);
        let base = VersionValue::Evictable(Evictable::cold(place(7), 16, &budget));
        let value = base.append(&rows(&[1])).unwrap().append(&rows(&[2, 3])).unwrap();
        assert!(matches!(base.append(&Value::new(Rows { schema: 1, rows: vec![] })), Err(Error::SchemaMismatch(_))));
        assert_eq!((value.bytes(), bytes(&budget), budget.reads()), (40, (24, 16, 24), 0));
        assert_eq!(flat(&value.clone().into_value().unwrap()), [7, 49, 1, 2, 3]);
        drop(base);
        let VersionValue::Evictable(cell) = &value else { panic!("it has a budget") };
        assert_eq!(flat(&cell.fetch().unwrap()), [7, 49, 1, 2, 3]);
        assert_eq!(bytes(&budget), (40, 0, 24));
        // As a whole it stands elsewhere now, and needs the others no more.
        cell.stored(place(9));
        assert_eq!(bytes(&budget), (0, 40, 0));
        assert_eq!(flat(&cell.fetch().unwrap()), [9, 81]);
        assert_eq!(bytes(&budget), (16, 0, 0));
    }

    #[test]
    fn what_cannot_be_read_fails_each_time_and_stays() {
        let budget = MemoryBudget::new(1 << 20);
        let cell = Evictable::cold(place(101), 16, &budget);
        for _ in 0..2 {
            assert_eq!(cell.fetch().err(), Some(Error::Corruption("here".to_owned())));
        }
        assert_eq!(bytes(&budget), (0, 16, 0));
        cell.stored(place(102));
        assert_eq!(flat(&cell.fetch().unwrap()), [102, 102 * 102]);
    }

    #[test]
    fn many_appends_are_read_and_dropped_without_recursion() {
        let budget = MemoryBudget::new(1 << 20);
        let mut value = VersionValue::new(rows(&[0]), Some(&budget));
        for number in 1..200_000 {
            value = value.append(&rows(&[number])).unwrap();
        }
        assert_eq!(flat(&value.clone().into_value().unwrap()).len(), 200_000);
        drop(value);
        assert_eq!(bytes(&budget), (0, 0, 0));
    }

    #[test]
    fn the_queue_does_not_grow_with_what_has_gone() {
        let budget = MemoryBudget::new(1 << 20);
        let kept: Vec<_> = (0..100).map(|number| Evictable::cold(place(number), 16, &budget)).collect();
        kept.iter().for_each(|cell| drop(cell.fetch().unwrap()));
        for number in 0..10_000 {
            Evictable::cold(place(2 * number), 16, &budget).fetch().unwrap();
        }
        assert!(budget.queued() < 400, "{}", budget.queued());
    }
}
