//! A transaction: reads from its snapshot and its own writes, stages writes, ends by commit or rollback.

use std::borrow::Cow;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use super::bound_key::{BoundKey, KeyName};
use super::commit::{Committer, PlannedWrite};
use super::conflict::{Conflict, ConflictKind, ConflictResolution};
use super::cursor::{Cursor, batch_for};
use super::database::{Context, Database, DatabasePool, Keeper};
use super::dependency_tracker::{DependencyTracker, Footprint, PointRead, Seen};
use super::error::Error;
use super::evictable::{Evictable, VersionValue};
use super::global_id::GlobalId;
use super::key::{KeyBytes, KeyRange, check_key};
use super::memory::{Claim, Presence, Reuse, Version};
use super::options::{Direction, Durability, IsolationLevel, TransactionOptions};
use super::prepare::{PrepareOptions, Vote};
use super::snapshot::{Registration, SlotWord};
use super::sync::Ordering;
use super::sync::uncontended::AtomicU64;
use super::value::{Chunk, Value};
use super::working_set::{Entry, Operation, WorkingSet, Write};

/// Keys that a read of many looks for at a time: enough to overlap what they wait for in memory.
const MANY: usize = 16;

const ENDED: Error = Error::InvalidState("transaction: it has ended");

/// A key and its value, as a scan gives them.
pub type ScannedEntry<C> = (Vec<u8>, Value<C>);

/// What a scan has found, wherever the values are.
struct Found<C>(Vec<(Vec<u8>, VersionValue<C>)>);

impl<'a, C: Chunk> Extend<Seen<'a, C>> for Found<C> {
    fn extend<I: IntoIterator<Item = Seen<'a, C>>>(&mut self, seen: I) {
        self.0.extend(seen.into_iter().map(|(key, value)| (key.to_vec(), value.clone())));
    }
}

/// A running transaction. One thread at a time uses it; it may move between threads. Dropped while open, it rolls back.
///
/// Reads see the snapshot (at read committed: the newest commit) and the transaction's own writes; writes are seen by
/// nobody else before [`commit`](Transaction::commit), and then all at once. No call waits for another thread.
pub struct Transaction<C: Chunk> {
    /// `None` once it has ended.
    open: Option<Open<C>>,
    settings: Settings,
    /// Taken at begin; what read committed sees moves on.
    snapshot: u64,
    commit_version: Option<u64>,
    /// For its cursors, from the first one on.
    id: Option<u64>,
}

#[derive(Clone, Copy)]
struct Settings {
    isolation: IsolationLevel,
    conflict_resolution: ConflictResolution,
    durability: Durability,
    read_only: bool,
    max_bytes: Option<u64>,
    /// Of a transaction that starves, and when it began: see [`super::reservation`].
    priority: Option<(u64, Instant)>,
}

/// A claimed context in use.
pub(super) struct Open<C: Chunk> {
    claim: Claim<Context<C>, Database<C>, C>,
    keeper: Keeper<C>,
}

impl<C: Chunk> Open<C> {
    /// Without a snapshot.
    pub fn new(pool: &Arc<DatabasePool<C>>, keeper: &Keeper<C>) -> Self {
        Open { claim: pool.claim(Database::context), keeper: keeper.clone() }
    }

    /// With a snapshot of everything committed so far, which is given as well.
    #[inline(always)]
    pub fn register(pool: &Arc<DatabasePool<C>>, keeper: &Keeper<C>, registration: Registration) -> (Self, u64) {
        let clock = &pool.shared().clock;
        let (claim, snapshot) = pool.claim_by(|word| word.register(registration, clock), Database::context);
        (Open { claim, keeper: keeper.clone() }, snapshot)
    }

    /// What a commit works on.
    pub fn commit_parts(&mut self) -> (&mut Context<C>, &DatabasePool<C>, &Presence<C>) {
        self.claim.parts()
    }

    pub fn parts(&mut self) -> (&mut Context<C>, &DatabasePool<C>, &SlotWord) {
        let (context, pool, presence) = self.claim.parts();
        (context, pool, &presence.word)
    }
}

impl<C: Chunk> Transaction<C> {
    #[inline(always)]
    pub(super) fn begin(
        pool: &Arc<DatabasePool<C>>,
        keeper: &Keeper<C>,
        options: &TransactionOptions,
        priority: Option<u64>,
    ) -> Self {
        let defaults = &pool.shared().options;
        let isolation = options.isolation.unwrap_or(defaults.isolation);
        let registration = match isolation {
            IsolationLevel::ReadCommitted => Registration::Floor,
            IsolationLevel::Serializable if options.read_only => Registration::ReadOnlySnapshot,
            IsolationLevel::RepeatableRead | IsolationLevel::Serializable => Registration::Snapshot,
        };
        fail_point!(BeforeClaim);
        let (open, snapshot) = Open::register(pool, keeper, registration);
        let settings = Settings {
            isolation,
            conflict_resolution: options.conflict_resolution.unwrap_or(defaults.conflict_resolution),
            durability: options.durability.unwrap_or(defaults.durability),
            read_only: options.read_only,
            max_bytes: options.max_bytes.or(defaults.max_transaction_bytes),
            priority: priority.map(|priority| (priority, Instant::now())),
        };
        Transaction { open: Some(open), settings, snapshot, commit_version: None, id: None }
    }

    /// Whether it can still be used.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether writes are refused.
    pub fn is_read_only(&self) -> bool {
        self.settings.read_only
    }

    /// The version up to which it sees commits; at read committed, the one at which it began.
    pub fn snapshot_version(&self) -> u64 {
        self.snapshot
    }

    /// The version by which it was committed: the one of its snapshot if it wrote nothing. `None`: it was not
    /// committed.
    pub fn commit_version(&self) -> Option<u64> {
        self.commit_version
    }

    fn open(&mut self) -> Result<&mut Open<C>, Error> {
        // Not by `ok_or`: it would make and drop an error each time.
        let Some(open) = &mut self.open else { return Err(ENDED) };
        Ok(open)
    }

    /// The value of a key, or `None`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a key out of bounds, [`Error::InvalidState`] after the end,
    /// [`Error::SchemaMismatch`] when rows that this transaction appends do not fit those that they go after,
    /// [`Error::Storage`] and [`Error::Corruption`] when the value cannot be read back from storage. The transaction
    /// can go on.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Value<C>>, Error> {
        self.get_with(key, |value| value.cloned())
    }

    /// Whether a key has a value. It counts as a read of the key.
    ///
    /// # Errors
    /// Those of [`get`](Transaction::get), but for reading from storage.
    pub fn exists(&mut self, key: &[u8]) -> Result<bool, Error> {
        self.find(key, |_| Ok(None), |is_there, _| is_there)
    }

    /// The value of a bound key, or `None`: [`get`](Transaction::get) without looking the key up.
    ///
    /// # Errors
    /// Those of [`get`](Transaction::get), and [`Error::InvalidArgument`] for a key that was bound in another database.
    pub fn get_bound(&mut self, key: &BoundKey<C>) -> Result<Option<Value<C>>, Error> {
        self.get_with(key, |value| value.cloned())
    }

    /// Whether a bound key has a value. It counts as a read of the key.
    ///
    /// # Errors
    /// Those of [`get_bound`](Transaction::get_bound).
    pub fn exists_bound(&mut self, key: &BoundKey<C>) -> Result<bool, Error> {
        self.find(key, |_| Ok(None), |is_there, _| is_there)
    }

    /// The values of many keys, in their order, `None` for each that has none. It reads what a `get` of each would read,
    /// at read committed all of them at one snapshot, and takes less time: what the keys wait for in memory, they wait
    /// for together.
    ///
    /// # Errors
    /// Those of [`get`](Transaction::get); nothing is given then.
    pub fn get_many(&mut self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Value<C>>>, Error> {
        let mut found = Vec::with_capacity(keys.len());
        self.get_many_with(keys.len(), |number| keys[number].as_ref(), |_, value| found.push(value.cloned()))?;
        read_all(found)
    }

    /// The values of many bound keys: see [`get_many`](Transaction::get_many).
    ///
    /// # Errors
    /// Those of [`get_bound`](Transaction::get_bound); nothing is given then.
    pub fn get_many_bound(&mut self, keys: &[&BoundKey<C>]) -> Result<Vec<Option<Value<C>>>, Error> {
        let mut found = Vec::with_capacity(keys.len());
        self.get_many_with(keys.len(), |number| keys[number], |_, value| found.push(value.cloned()))?;
        read_all(found)
    }

    /// Passes the value of a key, or `None`, to `visit`, which spares counting a reference to it. `visit` must be
    /// short: meanwhile nothing is freed.
    ///
    /// # Errors
    /// Those of [`get`](Transaction::get).
    pub(crate) fn get_with<'k, T>(
        &mut self,
        key: impl KeyName<'k, C>,
        visit: impl FnOnce(Option<&Value<C>>) -> T,
    ) -> Result<T, Error> {
        self.find(key, |cell| cell.fetch().map(Some), |_, value| visit(value))
    }

    /// Tells `visit` whether a key has a value, and which. One that may be in storage is the one that `fetch` gives,
    /// outside of the pin.
    #[inline(always)]
    fn find<'k, T>(
        &mut self,
        key: impl KeyName<'k, C>,
        fetch: impl FnOnce(Arc<Evictable<C>>) -> Result<Option<Value<C>>, Error>,
        visit: impl FnOnce(bool, Option<&Value<C>>) -> T,
    ) -> Result<T, Error> {
        let settings = self.settings;
        let snapshot = self.snapshot;
        let (context, pool, word) = self.open()?.parts();
        key.check(pool)?;
        let Database { buffer, clock, .. } = pool.shared();
        let hash = key.hash(buffer);
        let mut appended = None;
        let entry = context.set.position(hash, key.bytes());
        if let Some(entry) = entry {
            match settings.own_write(&mut context.set, snapshot, entry) {
                Some(Operation::Put(value)) => return Ok(visit(true, Some(value))),
                Some(Operation::Delete) => return Ok(visit(false, None)),
                Some(Operation::Append(rows)) => appended = Some(rows.clone()),
                None => {}
            }
        }

        let moving = settings.isolation == IsolationLevel::ReadCommitted;
        let floor = snapshot;
        let snapshot = if moving { word.read_above_floor(floor, clock) } else { snapshot };
        let guard = context.participant.pin();
        fail_point!(ReadPinned);
        let record = key.find(hash, buffer, &guard);
        fail_point!(ReadRecordFound);
        record.inspect(|record| record.prefetch_newest());
        let tracker = DependencyTracker { pool, guard: &guard };
        let newest = record.and_then(|record| tracker.newest_at(record, snapshot));
        let value = newest.and_then(Version::value);
        fail_point!(ReadVersionFound);
        if moving {
            word.back_to_floor(floor);
        }
        if settings.tracks_reads() {
            let entry = entry.unwrap_or_else(|| context.set.entry(hash, key.bytes()));
            context.set.note_read(entry, record, snapshot, value.is_none(), &guard);
        }
        let value = match (appended, value) {
            (None, None) => return Ok(visit(false, None)),
            (None, Some(VersionValue::InMemory(value))) => return Ok(visit(true, Some(value))),
            (None, Some(VersionValue::Evictable(cell))) => VersionValue::Evictable(Arc::clone(cell)),
            (Some(rows), None) => VersionValue::InMemory(rows),
            (Some(rows), Some(value)) => value.append(&rows)?,
        };
        // It may have to be read, and what goes for it may tell others.
        drop(guard);
        match value {
            VersionValue::InMemory(value) => Ok(visit(true, Some(&value))),
            VersionValue::Evictable(cell) => Ok(visit(true, fetch(cell)?.as_ref())),
        }
    }

    /// Passes the values of so many keys, wherever these are, each with its number, to `visit`, in their order, which must
    /// be short: meanwhile nothing is freed.
    ///
    /// # Errors
    /// Those of [`get`](Transaction::get), but for reading from storage; some keys may have been visited then.
    pub(crate) fn get_many_with<'k, N: KeyName<'k, C>>(
        &mut self,
        count: usize,
        key: impl Fn(usize) -> N,
        mut visit: impl FnMut(usize, Option<&VersionValue<C>>),
    ) -> Result<(), Error> {
        let settings = self.settings;
        let floor = self.snapshot;
        let (context, pool, word) = self.open()?.parts();
        (0..count).try_for_each(|number| key(number).check(pool))?;
        let Database { buffer, clock, .. } = pool.shared();
        let moving = settings.isolation == IsolationLevel::ReadCommitted;
        let snapshot = if moving { word.read_above_floor(floor, clock) } else { floor };
        let mut hashes = [0; MANY];
        let mut read = |from: usize| {
            let part = MANY.min(count - from);
            for (position, hash) in hashes[..part].iter_mut().enumerate() {
                *hash = key(from + position).hash(buffer);
            }
            // A pin for each part: many reads must not keep memory from being freed for all their time.
            let guard = context.participant.pin();
            for (position, hash) in hashes[..part].iter().enumerate() {
                key(from + position).prefetch_record(*hash, buffer);
            }
            let mut records = [None; MANY];
            for (position, record) in records[..part].iter_mut().enumerate() {
                *record = key(from + position).find(hashes[position], buffer, &guard);
                record.inspect(|record| record.prefetch_newest());
            }
            fail_point!(ManyRecordsFound);
            let tracker = DependencyTracker { pool, guard: &guard };
            for (position, record) in records[..part].iter().enumerate() {
                let (number, hash) = (from + position, hashes[position]);
                let bytes = key(number).bytes();
                let mut appended = None;
                let entry = context.set.position(hash, bytes);
                if let Some(entry) = entry {
                    match settings.own_write(&mut context.set, snapshot, entry) {
                        Some(Operation::Put(value)) => {
                            visit(number, Some(&VersionValue::InMemory(value.clone())));
                            continue;
                        }
                        Some(Operation::Delete) => {
                            visit(number, None);
                            continue;
                        }
                        Some(Operation::Append(rows)) => appended = Some(rows.clone()),
                        None => {}
                    }
                }
                let newest = record.and_then(|record| tracker.newest_at(record, snapshot));
                let value = newest.and_then(Version::value);
                if settings.tracks_reads() {
                    let entry = entry.unwrap_or_else(|| context.set.entry(hash, bytes));
                    context.set.note_read(entry, *record, snapshot, value.is_none(), &guard);
                }
                match (appended, value) {
                    (None, value) => visit(number, value),
                    (Some(rows), None) => visit(number, Some(&VersionValue::InMemory(rows))),
                    (Some(rows), Some(value)) => visit(number, Some(&value.append(&rows)?)),
                }
            }
            Ok(())
        };
        let outcome = (0..count).step_by(MANY).try_for_each(|from| {
            if from > 0 {
                fail_point!(GetManyBetweenParts);
            }
            read(from)
        });
        if moving {
            word.back_to_floor(floor);
        }
        outcome
    }

    /// Makes `value` the value of a key.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a key out of bounds, [`Error::InvalidState`] after the end or when it is
    /// read-only, [`Error::LimitExceeded`] when too many bytes would be staged or held. Nothing is staged then.
    pub fn put(&mut self, key: &[u8], value: impl Into<Value<C>>) -> Result<(), Error> {
        self.stage(key, Operation::Put(value.into())).map(drop)
    }

    /// Adds rows after whatever is the newest value of the key at commit. Appends of concurrent transactions never
    /// conflict; their rows follow one another in commit order. On an absent key it is a put.
    ///
    /// # Errors
    /// Those of [`put`](Transaction::put), and [`Error::SchemaMismatch`] when rows that this transaction has staged for
    /// the key have another schema. Rows committed by others are compared at commit.
    pub fn append(&mut self, key: &[u8], rows: impl Into<Value<C>>) -> Result<(), Error> {
        self.stage(key, Operation::Append(rows.into())).map(drop)
    }

    /// Deletes a key, whether it exists or not.
    ///
    /// # Errors
    /// Those of [`put`](Transaction::put).
    pub fn delete(&mut self, key: &[u8]) -> Result<(), Error> {
        self.stage(key, Operation::Delete).map(drop)
    }

    /// Makes `value` the value of a bound key: [`put`](Transaction::put) without looking the key up.
    ///
    /// # Errors
    /// Those of [`put`](Transaction::put), and [`Error::InvalidArgument`] for a key that was bound in another database.
    pub fn put_bound(&mut self, key: &BoundKey<C>, value: impl Into<Value<C>>) -> Result<(), Error> {
        self.stage_bound(key, Operation::Put(value.into()))
    }

    /// Adds rows under a bound key, as [`append`](Transaction::append) does.
    ///
    /// # Errors
    /// Those of [`append`](Transaction::append), and [`Error::InvalidArgument`] for a key that was bound in another
    /// database.
    pub fn append_bound(&mut self, key: &BoundKey<C>, rows: impl Into<Value<C>>) -> Result<(), Error> {
        self.stage_bound(key, Operation::Append(rows.into()))
    }

    /// Deletes a bound key, whether it exists or not.
    ///
    /// # Errors
    /// Those of [`put_bound`](Transaction::put_bound).
    pub fn delete_bound(&mut self, key: &BoundKey<C>) -> Result<(), Error> {
        self.stage_bound(key, Operation::Delete)
    }

    fn stage_bound(&mut self, key: &BoundKey<C>, operation: Operation<C>) -> Result<(), Error> {
        let entry = self.stage(key, operation)?;
        let (context, pool, _) = self.open()?.parts();
        let hash = context.set.hash(entry);
        let entry = &mut context.set.entries[entry];
        if entry.record.is_none() {
            let guard = context.participant.pin();
            // An unsealed one: whatever the snapshot sees of the key is in it.
            let record = key.find(hash, &pool.shared().buffer, &guard).filter(|record| !record.is_sealed());
            entry.record = record.map(|record| record.share(&guard));
        }
        Ok(())
    }

    /// Gives the entry of the key.
    fn stage<'k>(&mut self, key: impl KeyName<'k, C>, operation: Operation<C>) -> Result<usize, Error> {
        let (read_only, max_bytes) = (self.settings.read_only, self.settings.max_bytes);
        let (context, pool, presence) = self.open()?.commit_parts();
        check_writable(read_only)?;
        key.check(pool)?;
        let database = pool.shared();
        let hash = key.hash(&database.buffer);
        let entry = context.set.position(hash, key.bytes());
        let is_limited = max_bytes.is_some() || database.options.max_total_bytes.is_some();
        let Some(entry) = entry else {
            let bytes = operation.bytes();
            if is_limited {
                check_limits(max_bytes, context.set.staged_bytes_with(None, bytes), context, pool, presence)?;
            }
            fail_point!(BeforeStaged);
            // For the commit: what `hash` has asked for is there by now.
            key.prefetch_record(hash, &database.buffer);
            return Ok(context.set.stage_new(hash, key.bytes(), operation, bytes));
        };
        let write = context.set.compose(entry, operation)?;
        if is_limited {
            check_limits(max_bytes, context.set.staged_bytes_with(Some(entry), write.bytes), context, pool, presence)?;
        }
        fail_point!(BeforeStaged);
        context.set.stage(entry, write);
        Ok(entry)
    }

    /// Sets how a conflict of the staged write of a key is resolved. False: no write of the key is staged.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a key out of bounds, [`Error::InvalidState`] after the end.
    pub fn set_conflict_resolution(&mut self, key: &[u8], resolution: ConflictResolution) -> Result<bool, Error> {
        let (context, pool, _) = self.open()?.parts();
        check_key(key)?;
        let set = &mut context.set;
        let Some(entry) = set.position(pool.shared().buffer.hash(key), key) else {
            return Ok(false);
        };
        let Some(write) = &set.entries[entry].write else {
            return Ok(false);
        };
        let write = Write { resolution: Some(resolution), ..write.clone() };
        set.stage(entry, write);
        Ok(true)
    }

    /// Begins a scan of at most `limit` keys of a range. It reads as it goes: see [`Cursor`].
    ///
    /// # Errors
    /// [`Error::InvalidState`] after the end.
    pub fn open_cursor(
        &mut self,
        range: KeyRange,
        direction: Direction,
        limit: Option<u64>,
    ) -> Result<Cursor<C>, Error> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        self.open()?;
        let id = *self.id.get_or_insert_with(|| NEXT_ID.fetch_add(1, Ordering::Relaxed));
        Cursor::open(self, id, range, direction, limit)
    }

    /// The keys and values of a range, at most `limit` of them.
    ///
    /// # Errors
    /// Those of [`get`](Transaction::get).
    pub fn scan(
        &mut self,
        range: KeyRange,
        direction: Direction,
        limit: Option<u64>,
    ) -> Result<Vec<ScannedEntry<C>>, Error> {
        let mut found = Found(Vec::new());
        self.scan_into(range, direction, limit, &mut found)?;
        found.0.into_iter().map(|(key, value)| Ok((key, value.into_value()?))).collect()
    }

    /// Adds the keys and values of a range, wherever these are, to `found`, some at a time and at most `limit` of them,
    /// with less work for each than a cursor. Adding must be short: meanwhile nothing is freed.
    ///
    /// # Errors
    /// Those of [`get`](Transaction::get), but for reading from storage; some entries may have been added then.
    pub(crate) fn scan_into(
        &mut self,
        range: KeyRange,
        direction: Direction,
        limit: Option<u64>,
        found: &mut impl for<'a> Extend<Seen<'a, C>>,
    ) -> Result<(), Error> {
        if self.open()?.parts().0.set.writes > 0 {
            let mut cursor = self.open_cursor(range, direction, limit)?;
            while let Some((key, value)) = cursor.step(self)? {
                found.extend(std::iter::once((key.as_slice(), &value)));
            }
            return Ok(());
        }
        let settings = self.settings;
        let moving = settings.isolation == IsolationLevel::ReadCommitted;
        let tracked = settings.tracks_reads() && limit != Some(0);
        let floor = self.snapshot;
        let (context, pool, word) = self.open()?.parts();
        let clock = &pool.shared().clock;
        let snapshot = if moving { word.read_above_floor(floor, clock) } else { floor };
        let mut left = limit.unwrap_or(u64::MAX);
        let mut unread = (left > 0 && !range.is_empty()).then_some(Cow::Borrowed(&range));
        let mut reached = None;
        while let Some(part) = unread.take() {
            // A pin for each part: a long scan must not keep memory from being freed for all its time.
            let guard = context.participant.pin();
            let tracker = DependencyTracker { pool, guard: &guard };
            let most = batch_for(left);
            let records = tracker.find_range(&part, direction, most);
            found.extend(tracker.seen(&records, snapshot).inspect(|_| left -= 1));
            if let Some(last) = records.last().filter(|_| records.len() == most) {
                if left > 0 {
                    fail_point!(ScanBetweenParts);
                    unread = Some(Cow::Owned(behind(last.key(), &part, direction)));
                } else if tracked {
                    reached = Some(last.key().to_vec());
                }
            }
        }
        if moving {
            word.back_to_floor(floor);
        }
        if tracked {
            let scanned = match (reached, direction) {
                (None, _) => range,
                (Some(key), Direction::Forward) => KeyRange::new(range.start, Bound::Included(key)),
                (Some(key), Direction::Reverse) => KeyRange::new(Bound::Included(key), range.end),
            };
            context.set.ranges.push((scanned, snapshot));
        }
        Ok(())
    }

    /// Marks a point to which the staged writes can be rolled back.
    ///
    /// # Errors
    /// [`Error::InvalidState`] after the end.
    pub fn savepoint(&mut self) -> Result<u64, Error> {
        Ok(self.open()?.parts().0.set.savepoint())
    }

    /// Undoes all writes that were staged since the savepoint, which stays; later savepoints go. What was read counts
    /// on.
    ///
    /// # Errors
    /// [`Error::InvalidState`] after the end, [`Error::InvalidArgument`] for a savepoint that is not open.
    pub fn rollback_to(&mut self, savepoint: u64) -> Result<(), Error> {
        self.open()?.parts().0.set.rollback_to(savepoint)
    }

    /// Forgets a savepoint and later ones. What was staged since stays.
    ///
    /// # Errors
    /// Those of [`rollback_to`](Transaction::rollback_to).
    pub fn release(&mut self, savepoint: u64) -> Result<(), Error> {
        self.open()?.parts().0.set.release(savepoint)
    }

    /// Ends the transaction and makes its writes visible, all at once, or none of them. Gives the commit version.
    ///
    /// # Errors
    /// [`Error::Conflict`] when others have committed what it cannot be ordered with, [`Error::SchemaMismatch`] when
    /// appended rows do not fit, [`Error::Storage`] when a database that is stored cannot store it,
    /// [`Error::InvalidState`] after the end. It has ended then, too, and nothing is applied.
    pub fn commit(&mut self) -> Result<u64, Error> {
        if let Some(version) = self.commit_nothing() {
            return Ok(version);
        }
        let Some(mut open) = self.open.take() else { return Err(ENDED) };
        let (context, pool, presence) = open.claim.parts();
        let committed = self.settings.commit(self.snapshot, context, pool, presence);
        self.commit_version = committed.as_ref().ok().copied();
        match &committed {
            Ok(_) => presence.committed(),
            Err(error) => self.settings.failed(error, context, pool.shared()),
        }
        committed
    }

    /// Commits one that has nothing to commit and leaves nothing to clear away, in a few steps that cannot fail. `None`:
    /// there is more to do.
    #[inline(always)]
    pub(crate) fn commit_nothing(&mut self) -> Option<u64> {
        if self.settings.isolation == IsolationLevel::ReadCommitted {
            return None;
        }
        let Open { mut claim, keeper } = self.open.take()?;
        let (context, _, presence) = claim.parts();
        if !context.is_clear() || !keeper.is_none() {
            self.open = Some(Open { claim, keeper });
            return None;
        }
        presence.committed();
        if let Err(mut claim) = claim.end() {
            claim.parts().2.not_committed();
            self.open = Some(Open { claim, keeper });
            return None;
        }
        self.commit_version = Some(self.snapshot);
        Some(self.snapshot)
    }

    /// Ends the transaction by the first phase of a two-phase commit. After [`Vote::Yes`] it is decided by its global id,
    /// and what it has read and is going to write is held until then: see
    /// [`TwoPhaseCommitParticipant`](crate::two_phase_commit::TwoPhaseCommitParticipant).
    ///
    /// # Errors
    /// The vote is no then, and nothing of it is left: [`Error::Conflict`] also when something that it has read is not
    /// the newest, [`Error::Duplicate`] when the id is taken, [`Error::NotDurable`] when the database cannot keep it,
    /// and those of [`commit`](Transaction::commit).
    pub fn prepare(&mut self, id: &GlobalId, options: PrepareOptions) -> Result<Vote, Error> {
        let Some(mut open) = self.open.take() else { return Err(ENDED) };
        let (context, pool, presence) = open.claim.parts();
        let vote = self.settings.prepare(id, options, self.snapshot, context, pool, presence);
        match &vote {
            Ok(Vote::Yes) => {}
            Ok(Vote::ReadOnly) => {
                self.commit_version = Some(self.snapshot);
                presence.committed();
            }
            Err(error) => self.settings.failed(error, context, pool.shared()),
        }
        vote
    }

    /// Whether it belongs to a database.
    pub(super) fn is_of(&self, pool: &Arc<DatabasePool<C>>) -> bool {
        self.open.as_ref().is_none_or(|open| Arc::ptr_eq(open.claim.pool(), pool))
    }

    /// Ends the transaction and drops its writes.
    ///
    /// # Errors
    /// [`Error::InvalidState`] after the end.
    pub fn rollback(&mut self) -> Result<(), Error> {
        let Some(mut open) = self.open.take() else { return Err(ENDED) };
        let (context, pool, _) = open.parts();
        pool.shared().meters.rolled_back();
        self.settings.reserve(context, pool.shared());
        Ok(())
    }

    pub(super) fn scan_parts(&mut self, id: u64) -> Result<ScanParts<'_, C>, Error> {
        let (settings, snapshot) = (self.settings, self.snapshot);
        if self.open.is_some() && self.id != Some(id) {
            return Err(Error::InvalidState("cursor: it belongs to another transaction"));
        }
        let (context, pool, _) = self.open()?.parts();
        Ok(ScanParts { context, pool, snapshot, tracks_reads: settings.tracks_reads() })
    }

    /// A slot of its own for a scan at read committed, which sees one snapshot from its beginning to its end.
    pub(super) fn scan_holder(&mut self) -> Result<Option<(Open<C>, u64)>, Error> {
        let isolation = self.settings.isolation;
        let open = self.open()?;
        if isolation != IsolationLevel::ReadCommitted {
            return Ok(None);
        }
        Ok(Some(Open::register(open.claim.pool(), &Keeper::none(), Registration::Snapshot)))
    }
}

/// What a cursor works on.
pub(super) struct ScanParts<'t, C: Chunk> {
    pub context: &'t mut Context<C>,
    pub pool: &'t DatabasePool<C>,
    pub snapshot: u64,
    pub tracks_reads: bool,
}

impl Settings {
    /// Repeatable read needs no track of them: what it writes is compared with its snapshot in any case.
    fn tracks_reads(&self) -> bool {
        !self.read_only && self.isolation != IsolationLevel::RepeatableRead
    }

    /// The transaction's own write of an entry's key, if it has staged one, which counts as read.
    fn own_write<'s, C>(&self, set: &'s mut WorkingSet<C>, snapshot: u64, entry: usize) -> Option<&'s Operation<C>> {
        let Entry { write: Some(write), read_at, .. } = &mut set.entries[entry] else {
            return None;
        };
        // What follows from the write that was read must not outlive it: no resolution may drop or change it.
        if self.isolation == IsolationLevel::Serializable {
            read_at.get_or_insert(snapshot);
        }
        Some(&write.operation)
    }

    fn commit<C: Chunk>(
        &self,
        snapshot: u64,
        context: &mut Context<C>,
        pool: &DatabasePool<C>,
        presence: &Presence<C>,
    ) -> Result<u64, Error> {
        let database = pool.shared();
        let footprint = match self.isolation {
            IsolationLevel::Serializable => footprint(&mut context.set),
            IsolationLevel::ReadCommitted | IsolationLevel::RepeatableRead => None,
        };
        if context.set.writes == 0 {
            return match (self.isolation, footprint) {
                (IsolationLevel::ReadCommitted, _) => Ok(database.clock.now()),
                (_, None) => Ok(snapshot),
                (_, footprint) => {
                    let guard = context.participant.pin();
                    let (participant, durability) = (&context.participant, self.durability);
                    Committer { pool, guard: &guard, presence, participant, snapshot, durability }
                        .commit_at_snapshot(footprint.as_ref())
                }
            };
        }
        if !context.set.ranges.is_empty() {
            context.set.note_scanned_writes();
        }
        let Context { set, participant, .. } = &*context;
        let (guard, durability) = (participant.pin(), self.durability);
        let committer = Committer { pool, guard: &guard, presence, participant, snapshot, durability };
        self.check_reserved(set, &committer)?;
        let committed = committer.commit(set.writes, self.plan(set, snapshot), footprint);
        let (count, bytes) = (set.writes, set.staged_bytes);
        drop(guard);
        fail_point!(CommitOver);
        database.reclaim_after(count, bytes, context, pool, presence);
        if let Some(budget) = database.memory_budget() {
            budget.shrink();
        }
        committed
    }

    fn prepare<C: Chunk>(
        &self,
        id: &GlobalId,
        options: PrepareOptions,
        snapshot: u64,
        context: &mut Context<C>,
        pool: &DatabasePool<C>,
        presence: &Presence<C>,
    ) -> Result<Vote, Error> {
        let footprint = match self.isolation {
            IsolationLevel::Serializable => footprint(&mut context.set),
            IsolationLevel::ReadCommitted | IsolationLevel::RepeatableRead => None,
        };
        if !context.set.ranges.is_empty() {
            context.set.note_scanned_writes();
        }
        let Context { set, participant, .. } = &*context;
        let guard = participant.pin();
        // Once it is decided it can wait for nothing, so it is stored at once.
        let durability = Durability::Synced;
        let committer = Committer { pool, guard: &guard, presence, participant, snapshot, durability };
        if set.writes == 0 && (!options.hold_reads || footprint.is_none()) {
            return footprint.map_or(Ok(()), |footprint| committer.vote_read_only(&footprint)).map(|()| Vote::ReadOnly);
        }
        self.check_reserved(set, &committer)?;
        let writes: Vec<_> = self.plan(set, snapshot).collect();
        let vote = committer.prepare(id, options, &writes, footprint);
        if vote != Ok(Vote::Yes) {
            // It has let go what it held.
            let held = set.entries.len() + set.ranges.len();
            drop((writes, guard));
            pool.shared().free_after(held, context);
        }
        vote
    }

    /// The staged writes, ready to be installed.
    fn plan<'s, C: Chunk>(
        &self,
        set: &'s WorkingSet<C>,
        snapshot: u64,
    ) -> impl Iterator<Item = PlannedWrite<'s, C>> + Clone {
        let serializable = self.isolation == IsolationLevel::Serializable;
        let conflict_resolution = self.conflict_resolution;
        set.written().map(move |(entry, hash, write)| PlannedWrite {
            key: entry.key.as_slice(),
            hash,
            record: entry.record.as_ref(),
            operation: &write.operation,
            bytes: write.bytes,
            basis: entry.read_at.unwrap_or(snapshot),
            resolution: match entry.read_at {
                Some(_) if serializable => None,
                _ => Some(write.resolution.unwrap_or(conflict_resolution)),
            },
        })
    }

    /// Whether nobody with more need of them has reserved one of the written keys.
    #[inline]
    fn check_reserved<C: Chunk>(&self, set: &WorkingSet<C>, committer: &Committer<'_, C>) -> Result<(), Error> {
        if committer.database().reservations.any() {
            self.check_all_reserved(set, committer)?;
        }
        fail_point!(ReservationsChecked);
        Ok(())
    }

    #[cold]
    fn check_all_reserved<C: Chunk>(&self, set: &WorkingSet<C>, committer: &Committer<'_, C>) -> Result<(), Error> {
        let database = committer.database();
        let written = || set.written().map(|(entry, hash, _)| (hash, entry.key.as_slice()));
        let keys = || -> Box<dyn Iterator<Item = &[u8]>> { Box::new(written().map(|(_, key)| key)) };
        let priority = self.priority.map(|(priority, _)| priority);
        let Some(key) = database.reservations.blocked(priority, keys, committer.guard) else {
            return Ok(());
        };
        // Whoever has reserved it may wait for one in doubt, too; that is the reason to be told.
        if database.prepared.holds.any() {
            committer.check_held(&mut written())?;
        }
        Err(Error::Conflict(vec![Conflict {
            kind: ConflictKind::Prepared,
            key: key.to_vec(),
            range: None,
            version: 0,
            holder: None,
        }]))
    }

    /// Counts a failure, and reserves what a starving transaction has touched in vain; where it fails for one that is
    /// in doubt, no more than what that holds.
    fn failed<C: Chunk>(&self, error: &Error, context: &Context<C>, database: &Database<C>) {
        let Error::Conflict(conflicts) = error else {
            database.meters.rolled_back();
            return;
        };
        conflicts.first().into_iter().for_each(|conflict| database.meters.conflicted(conflict.kind));
        let held = conflicts.iter().filter(|conflict| conflict.holder.is_some());
        let held: Vec<_> = held.map(|conflict| KeyBytes::new(&conflict.key)).collect();
        match self.priority {
            // Who is in doubt may stay so for long: until then others must not be kept off anything else.
            Some(priority) if !held.is_empty() => reserve(priority, held, Vec::new(), context, database),
            _ => self.reserve(context, database),
        }
    }

    /// Reserves what a starving transaction has touched in vain.
    fn reserve<C: Chunk>(&self, context: &Context<C>, database: &Database<C>) {
        if let Some(priority) = self.priority {
            let set = &context.set;
            let keys = set.entries.iter().map(|entry| entry.key.clone()).collect();
            let ranges = set.ranges.iter().map(|(range, _)| range.clone()).collect();
            reserve(priority, keys, ranges, context, database);
        }
    }
}

fn reserve<C: Chunk>(
    (priority, began): (u64, Instant),
    keys: Vec<KeyBytes>,
    ranges: Vec<KeyRange>,
    context: &Context<C>,
    database: &Database<C>,
) {
    database.reservations.hold(priority, keys, ranges, began.elapsed(), &context.participant.pin());
}

/// What must be certified: what was read and is not written. The rest is compared when it is installed.
#[inline]
fn footprint<C: Chunk>(set: &mut WorkingSet<C>) -> Option<Footprint<C>> {
    if set.writes == set.entries.len() && set.ranges.is_empty() { None } else { collect_footprint(set) }
}

#[inline(never)]
fn collect_footprint<C: Chunk>(set: &mut WorkingSet<C>) -> Option<Footprint<C>> {
    let mut reads = Vec::with_capacity(set.entries.len() - set.writes);
    for number in 0..set.entries.len() {
        let hash = set.hash(number);
        let entry = &mut set.entries[number];
        if entry.read_at.is_some() && entry.write.is_none() {
            let (key, record, absent) = (entry.key.clone(), entry.record.take(), entry.absent);
            reads.push(PointRead { key, hash, record, absent });
        }
    }
    let ranges: Arc<[_]> =
        set.ranges.iter().map(|(range, _)| range.clone()).filter(|range| !range.is_empty()).collect();
    (!reads.is_empty() || !ranges.is_empty()).then_some(Footprint { reads, ranges })
}

/// Values that were found, read from storage where they are not in memory, where they stay then.
fn read_all<C: Chunk>(found: Vec<Option<VersionValue<C>>>) -> Result<Vec<Option<Value<C>>>, Error> {
    found.into_iter().map(|value| value.map(VersionValue::fetch).transpose()).collect()
}

fn check_writable(read_only: bool) -> Result<(), Error> {
    if read_only {
        return Err(Error::InvalidState("transaction: it is read-only"));
    }
    Ok(())
}

/// Whether a transaction may hold so many bytes for its writes.
#[cold]
fn check_limits<C: Chunk>(
    max_bytes: Option<u64>,
    staged: u64,
    context: &mut Context<C>,
    pool: &DatabasePool<C>,
    presence: &Presence<C>,
) -> Result<(), Error> {
    // What takes no more than before is within them.
    if staged <= context.set.staged_bytes {
        return Ok(());
    }
    within(max_bytes, staged, "bytes staged by the transaction")?;
    let database = pool.shared();
    let limit = database.options.max_total_bytes;
    let check = || {
        let held = database.resident_bytes(pool).saturating_add(database.prepared.bytes());
        within(limit, held.saturating_add(staged), "bytes held by the database")
    };
    if limit.is_some() && check().is_err() {
        // Some of them may be held by versions that nobody can see any more.
        database.reclaim_all(context, pool, presence);
        fail_point!(StageReclaimed);
        check()?;
    }
    Ok(())
}

fn within(limit: Option<u64>, bytes: u64, what: &str) -> Result<(), Error> {
    match limit {
        Some(limit) if bytes > limit => {
            Err(Error::LimitExceeded(format!("{what} would be {bytes}, and the limit is {limit}")))
        }
        _ => Ok(()),
    }
}

impl<C: Chunk> Drop for Transaction<C> {
    fn drop(&mut self) {
        if self.is_open() {
            _ = self.rollback();
        }
    }
}

/// The bound that continues a walk behind `key`.
pub(super) fn behind(key: &[u8], range: &KeyRange, direction: Direction) -> KeyRange {
    match direction {
        Direction::Forward => KeyRange::new(Bound::Excluded(key.to_vec()), range.end.clone()),
        Direction::Reverse => KeyRange::new(range.start.clone(), Bound::Excluded(key.to_vec())),
    }
}
