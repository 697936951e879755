//! Storages that are written in C.

use std::cell::RefCell;
use std::ffi::{c_char, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::stm::{Durability, Error};
use crate::storage::{self, ApplyError, ArrowChunk, Change, Commit, Snapshot, Storage, StoredValue};

use super::arrow::{self, ArrowArray, ArrowArrayStream, ArrowSchema, Batch, export_stream};
use super::error::{Failure, khonsu_error};
use super::guard::{guard, guard_or};
use super::handle::{Handle, borrow, borrow_mut};
use super::key;
use super::options::durability_number;
use super::out::{clear, require, write_if, write_sized};
use super::status::khonsu_status;

/// Room for the message of a callback, with its NUL.
const MESSAGE_BYTES: usize = 1024;

/// What a mutation does to its key.
///
/// Since: 0.1
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum khonsu_mutation_kind {
    /// The chunks are the key's value.
    Put = 1,
    /// The chunks go after those that the key has; where it has none, they are its value.
    Append = 2,
    /// The key has no value any more. It may have had none before.
    Delete = 3,
}

/// One key of a commit, as khonsu_mutations_get writes it. Its pointer is borrowed.
///
/// Later versions may add fields at the end; the size given to khonsu_mutations_get says which ones the caller knows.
///
/// Since: 0.1
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct khonsu_mutation {
    /// A khonsu_mutation_kind.
    pub kind: i32,
    /// The key; not terminated by a NUL. Valid until the apply callback returns.
    pub key: *const c_void,
    /// Bytes of key.
    pub key_len: usize,
}

/// A commit that a storage of callbacks has to store: lent to its apply callback, valid until that one returns.
///
/// Threads: immutable; any number of threads may read it at once. Since: 0.1
pub struct khonsu_mutations {
    _opaque: [u8; 0],
}

/// What a storage of callbacks had stored on its way into the database: lent to its load callback, valid until that one
/// returns.
///
/// Threads: serialized. Since: 0.1
pub struct khonsu_loader {
    _opaque: [u8; 0],
}

/// Passes everything that is stored to the loader, by khonsu_loader_put. Called once, by khonsu_db_open in its own
/// thread, before all the others.
///
/// @param[in]  context      That of the khonsu_storage_callbacks.
/// @param[in]  loader       Takes the keys; valid until the function returns.
/// @param[out] message      Room for the reason of a failure: UTF-8, terminated by a NUL. It holds "" at first.
/// @param[in]  message_size Bytes of message.
/// @return A khonsu_status; KHONSU_STATUS_OK when all is loaded. Then a call on the loader that failed makes the
///         opening fail with KHONSU_STATUS_CORRUPTION all the same.
///
/// Since: 0.1
pub type khonsu_storage_load_fn = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        loader: *mut khonsu_loader,
        message: *mut c_char,
        message_size: usize,
    ) -> i32,
>;

/// Stores one commit, whole or not at all. Commits come in ascending order of their versions, one call at a time, in
/// the thread of any call that commits, not only of the commit in question.
///
/// @param[in]  context      That of the khonsu_storage_callbacks.
/// @param[in]  mutations    The commit; valid until the function returns. No key is in it twice.
/// @param[in]  durability   A khonsu_durability: what this commit, and all before it, must survive on return.
/// @param[out] message      Room for the reason of a failure: UTF-8, terminated by a NUL. It holds "" at first.
/// @param[in]  message_size Bytes of message.
/// @return A khonsu_status; KHONSU_STATUS_OK when it is stored. On anything else the commit must not come back when
///         the storage is loaded again: its transaction fails, and those that wrote on top of it.
///
/// Since: 0.1
pub type khonsu_storage_apply_fn = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        mutations: *const khonsu_mutations,
        durability: i32,
        message: *mut c_char,
        message_size: usize,
    ) -> i32,
>;

/// The other calls of a storage: sync, checkpoint and close.
///
/// @param[in]  context      That of the khonsu_storage_callbacks.
/// @param[out] message      Room for the reason of a failure: UTF-8, terminated by a NUL. It holds "" at first.
/// @param[in]  message_size Bytes of message.
/// @return A khonsu_status; KHONSU_STATUS_OK when it is done.
///
/// Since: 0.1
pub type khonsu_storage_call_fn =
    Option<unsafe extern "C" fn(context: *mut c_void, message: *mut c_char, message_size: usize) -> i32>;

/// Frees what the storage has.
///
/// @param[in] context That of the khonsu_storage_callbacks; it is not used by khonsu any more.
///
/// Since: 0.1
pub type khonsu_storage_destroy_fn = Option<unsafe extern "C" fn(context: *mut c_void)>;

/// A storage of the caller's own, for khonsu_options_set_storage.
///
/// Failures. A callback that returns KHONSU_STATUS_CORRUPTION or KHONSU_STATUS_LOCKED makes the call that it serves
/// fail with that status; every other number but KHONSU_STATUS_OK, one that is no khonsu_status included, with
/// KHONSU_STATUS_STORAGE. The message becomes part of the khonsu_error.
///
/// Limits. A callback may begin transactions of its database, and read in them; what it must not do is commit writes
/// to it, sync it or make a checkpoint of it: such a call in the thread of the callback fails with
/// KHONSU_STATUS_INVALID_STATE; a callback that waits for another thread that does it waits for ever. It must return:
/// no C++ exception, no longjmp may leave it.
///
/// Later versions may add fields at the end; size says which ones the caller knows.
///
/// Since: 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct khonsu_storage_callbacks {
    /// sizeof(khonsu_storage_callbacks) as the caller knows it. What lies behind the fields that khonsu knows must be
    /// zero.
    pub size: usize,
    /// Handed to each callback as it is; may be NULL. Callbacks come from different threads.
    pub context: *mut c_void,
    /// Not NULL.
    pub load: khonsu_storage_load_fn,
    /// Not NULL.
    pub apply: khonsu_storage_apply_fn,
    /// Not NULL. Makes all commits that were applied as durable as KHONSU_DURABILITY_SYNCED demands. Called by
    /// khonsu_db_sync, and before close; never beside apply.
    pub sync: khonsu_storage_call_fn,
    /// NULL: there is nothing to do. Called by khonsu_db_checkpoint, for the storage to tidy up what has grown with the
    /// number of commits; it may run beside apply and sync, and nothing may be lost when it fails.
    pub checkpoint: khonsu_storage_call_fn,
    /// NULL: there is nothing to do. The last call before destroy, when the database and its last transaction and
    /// cursor are gone, in the thread of whoever freed that; not called after load failed. Its failure is told to
    /// nobody.
    pub close: khonsu_storage_call_fn,
    /// NULL: there is nothing to do. Called exactly once after khonsu_options_set_storage has succeeded: after close,
    /// or when the opening failed, or when the storage was replaced or the options freed before a database was opened.
    pub destroy: khonsu_storage_destroy_fn,
}

/// The fields of the first version: all that there are.
const FIRST_VERSION_BYTES: usize = size_of::<khonsu_storage_callbacks>();

thread_local! {
    /// The storages in whose callbacks this thread is.
    static INSIDE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// For the time of a callback.
struct Inside;

impl Inside {
    fn enter(storage: u64) -> Inside {
        // Without its thread-local storage, at the end of a thread, nothing more is begun in it.
        _ = INSIDE.try_with(|inside| inside.borrow_mut().push(storage));
        Inside
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        _ = INSIDE.try_with(|inside| inside.borrow_mut().pop());
    }
}

/// Fails in a callback of the storage of that number, where the call would wait for itself.
pub(crate) fn check_outside(storage: u64) -> Result<(), Error> {
    if INSIDE.try_with(|inside| inside.borrow().contains(&storage)).unwrap_or(false) {
        return Err(Error::InvalidState("a callback of a storage must not write to its own database, nor sync it"));
    }
    Ok(())
}

/// The callbacks, with the duty to destroy.
pub(crate) struct CallbackStorage {
    callbacks: khonsu_storage_callbacks,
    /// Another one for each storage.
    pub number: u64,
}

// SAFETY: whoever fills in the callbacks promises that they may be called from any thread, with their context.
unsafe impl Send for CallbackStorage {}
// SAFETY: as above.
unsafe impl Sync for CallbackStorage {}

impl CallbackStorage {
    /// Takes the callbacks over: from now on, dropping destroys.
    ///
    /// # Safety
    /// Rule 2 holds for `callbacks`, for as many bytes as its size says, and the callbacks keep what their types
    /// demand.
    pub unsafe fn new(callbacks: *const khonsu_storage_callbacks) -> Result<CallbackStorage, Failure> {
        if callbacks.is_null() {
            return Err(Failure::invalid_argument("callbacks is NULL"));
        }
        // SAFETY: rule 2: the size itself is there.
        let size = unsafe { callbacks.cast::<usize>().read_unaligned() };
        if size < FIRST_VERSION_BYTES || isize::try_from(size).is_err() {
            let message = format!("callbacks.size is {size}, not at least {FIRST_VERSION_BYTES}");
            return Err(Failure::invalid_argument(message));
        }
        // SAFETY: rule 2, for `size` bytes; NULL callbacks and whatever context are values of their types.
        let (callbacks, unknown) = unsafe {
            let behind = callbacks.cast::<u8>().add(FIRST_VERSION_BYTES);
            (callbacks.read_unaligned(), std::slice::from_raw_parts(behind, size - FIRST_VERSION_BYTES))
        };
        if unknown.iter().any(|byte| *byte != 0) {
            return Err(Failure::invalid_argument("callbacks has fields that this version of khonsu does not know"));
        }
        for (name, is_null) in [
            ("load", callbacks.load.is_none()),
            ("apply", callbacks.apply.is_none()),
            ("sync", callbacks.sync.is_none()),
        ] {
            if is_null {
                return Err(Failure::invalid_argument(format!("callbacks.{name} is NULL")));
            }
        }
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: numbers need only differ.
        Ok(CallbackStorage { callbacks, number: NEXT.fetch_add(1, Ordering::Relaxed) })
    }

    /// Runs a callback, and makes an error of what it returns.
    fn call(&self, name: &str, callback: impl FnOnce(*mut c_void, *mut c_char, usize) -> i32) -> Result<(), Error> {
        let mut message = [0_u8; MESSAGE_BYTES];
        let inside = Inside::enter(self.number);
        let returned = callback(self.callbacks.context, message.as_mut_ptr().cast(), MESSAGE_BYTES);
        drop(inside);
        let status = khonsu_status::from_number(returned);
        if status == Some(khonsu_status::Ok) {
            return Ok(());
        }
        let end = message.iter().position(|byte| *byte == 0).unwrap_or(MESSAGE_BYTES);
        let reason = match (status, &message[..end]) {
            (Some(status), []) => status.name().to_string_lossy(),
            (None, []) => format!("it returned {returned}, which is no khonsu_status").into(),
            (_, message) => String::from_utf8_lossy(message),
        };
        let text = format!("{name} of the storage failed: {reason}");
        Err(match status {
            Some(khonsu_status::Corruption) => Error::Corruption(text),
            Some(khonsu_status::Locked) => Error::Locked(text),
            _ => Error::Storage(text),
        })
    }

    /// Runs one of the callbacks that take nothing, if it is there.
    fn call_plain(&self, name: &str, callback: khonsu_storage_call_fn) -> Result<(), Error> {
        let Some(callback) = callback else { return Ok(()) };
        // SAFETY: the callback keeps what its type demands; the message can be written.
        self.call(name, |context, message, size| unsafe { callback(context, message, size) })
    }
}

impl Drop for CallbackStorage {
    fn drop(&mut self) {
        if let Some(destroy) = self.callbacks.destroy {
            let _inside = Inside::enter(self.number);
            // SAFETY: the callback keeps what its type demands; nothing else is called afterwards.
            unsafe { destroy(self.callbacks.context) };
        }
    }
}

/// A key of a commit in the form in which callbacks get it.
pub(crate) struct StoredMutation {
    kind: khonsu_mutation_kind,
    key: Vec<u8>,
    /// None for a delete.
    chunks: Vec<Batch>,
}

/// The object behind a `khonsu_mutations`.
pub(crate) struct Mutations<'a> {
    version: u64,
    mutations: &'a [StoredMutation],
}

impl Handle for khonsu_mutations {
    type Object = Mutations<'static>;
    type Owner = Box<Mutations<'static>>;
}

/// The object behind a `khonsu_loader`.
pub(crate) struct Loader<'a> {
    visit: &'a mut dyn FnMut(StoredValue) -> Result<(), Error>,
    /// The key that was put last, which may get more chunks.
    last: Option<StoredValue>,
    version: u64,
    /// The first failure, after which nothing is taken.
    failure: Option<Failure>,
}

impl Handle for khonsu_loader {
    type Object = Loader<'static>;
    type Owner = Box<Loader<'static>>;
}

impl Loader<'_> {
    /// Changes what is loaded; after a failure each call fails alike.
    fn step<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        step(self).inspect_err(|failure| self.failure = Some(failure.clone()))
    }

    /// The key that was put last gets no more chunks.
    fn finish(&mut self) -> Result<(), Failure> {
        self.last.take().map_or(Ok(()), |value| Ok((self.visit)(value)?))
    }
}

impl Storage for CallbackStorage {
    type Prepared = Vec<StoredMutation>;

    fn load(&self, visit: &mut dyn FnMut(StoredValue) -> Result<(), Error>) -> Result<u64, Error> {
        let mut loader = Loader { visit, last: None, version: 0, failure: None };
        let loaded = self.call("load", |context, message, size| {
            let handle = (&raw mut loader).cast::<khonsu_loader>();
            // SAFETY: the callback keeps what its type demands; the loader lives longer than the call.
            self.callbacks.load.map_or(0, |load| unsafe { load(context, handle, message, size) })
        });
        loaded?;
        loader
            .step(Loader::finish)
            .map_err(|failure| Error::Corruption(format!("load of the storage gave what cannot be: {failure}")))?;
        Ok(loader.version)
    }

    /// It also finds out a commit in a callback, before that waits for itself: whoever commits comes here first.
    fn prepare(&self, mutations: Vec<storage::Mutation>) -> Result<Vec<StoredMutation>, Error> {
        check_outside(self.number)?;
        let mut import = <Batch as ArrowChunk>::importer();
        let convert = |mutation: storage::Mutation| {
            let (kind, chunks) = match mutation.change {
                Change::Put(chunks) => (khonsu_mutation_kind::Put, chunks),
                Change::Append(chunks) => (khonsu_mutation_kind::Append, chunks),
                Change::Delete => (khonsu_mutation_kind::Delete, Vec::new()),
            };
            let chunks = chunks.into_iter().map(&mut import).collect::<Result<_, Error>>()?;
            Ok(StoredMutation { kind, key: mutation.key, chunks })
        };
        mutations.into_iter().map(convert).collect()
    }

    fn apply(&self, commits: &[Commit<'_, Vec<StoredMutation>>], durability: Durability) -> Result<(), ApplyError> {
        for (applied, commit) in commits.iter().enumerate() {
            let mutations = Mutations { version: commit.version, mutations: commit.prepared };
            let stored = self.call("apply", |context, message, size| {
                let (handle, durability) = ((&raw const mutations).cast(), durability_number(durability));
                // SAFETY: the callback keeps what its type demands; the mutations live longer than the call.
                self.callbacks.apply.map_or(0, |apply| unsafe { apply(context, handle, durability, message, size) })
            });
            stored.map_err(|cause| ApplyError { applied, cause })?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        self.call_plain("sync", self.callbacks.sync)
    }

    fn checkpoint(&self, _snapshot: &mut dyn Snapshot) -> Result<(), Error> {
        self.call_plain("checkpoint", self.callbacks.checkpoint)
    }

    fn close(&self) -> Result<(), Error> {
        let synced = self.sync();
        self.call_plain("close", self.callbacks.close).and(synced)
    }
}

/// The version of the commit: its place in the order of commits. Versions ascend, but not one by one.
///
/// @param[in] mutations Not NULL.
/// @return The version; 0 for NULL.
///
/// Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_mutations_version(mutations: *const khonsu_mutations) -> u64 {
    // SAFETY: rule 1.
    guard_or(0, || unsafe { borrow(mutations, "mutations") }.map_or(0, |commit| commit.version))
}

/// How many keys the commit changes.
///
/// @param[in] mutations Not NULL.
/// @return Their number; 0 for NULL.
///
/// Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_mutations_count(mutations: *const khonsu_mutations) -> usize {
    // SAFETY: rule 1.
    guard_or(0, || unsafe { borrow(mutations, "mutations") }.map_or(0, |commit| commit.mutations.len()))
}

/// # Safety
/// Rule 1 holds for `mutations`.
unsafe fn mutation<'a>(mutations: *const khonsu_mutations, index: usize) -> Result<&'a StoredMutation, Failure> {
    // SAFETY: rule 1.
    let mutations = unsafe { borrow(mutations, "mutations") }?.mutations;
    let count = mutations.len();
    mutations.get(index).ok_or_else(|| Failure::invalid_argument(format!("index {index} is not below {count}")))
}

/// Tells what the commit does to one of its keys.
///
/// @param[in]  mutations Not NULL.
/// @param[in]  index     From 0 to before khonsu_mutations_count.
/// @param[out] out       Not NULL. The first out_size bytes of a khonsu_mutation are written, no more than its size.
///                       What its pointer points to is borrowed, and valid until the apply callback returns.
/// @param[in]  out_size  sizeof(khonsu_mutation) as the caller knows it; not 0.
/// @param[out] error     May be NULL.
/// @return
/// - KHONSU_STATUS_OK: written.
/// - KHONSU_STATUS_INVALID_ARGUMENT: mutations or out is NULL, out_size is 0, or there is no such index.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure out is not written. Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_mutations_get(
    mutations: *const khonsu_mutations,
    index: usize,
    out: *mut khonsu_mutation,
    out_size: usize,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        guard(error, || {
            let StoredMutation { kind, key, .. } = mutation(mutations, index)?;
            let value = khonsu_mutation { kind: *kind as i32, key: key.as_ptr().cast(), key_len: key.len() };
            write_sized(out, out_size, &value)?;
            Ok(khonsu_status::Ok)
        })
    }
}

/// Gives the rows that a mutation puts or appends, as a stream of record batches: at least one, all of one schema.
///
/// @param[in]  mutations  Not NULL.
/// @param[in]  index      From 0 to before khonsu_mutations_count.
/// @param[out] out_chunks Not NULL. The stream, owned by the caller, who may keep it after the apply callback has
///                        returned. Its release is NULL on failure. Each call gives another one.
/// @param[out] error      May be NULL.
/// @return
/// - KHONSU_STATUS_OK: given.
/// - KHONSU_STATUS_NOT_FOUND: the mutation is a delete, which has no rows.
/// - KHONSU_STATUS_INVALID_ARGUMENT: mutations or out_chunks is NULL, or there is no such index.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_mutations_chunks(
    mutations: *const khonsu_mutations,
    index: usize,
    out_chunks: *mut ArrowArrayStream,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        clear(out_chunks);
        guard(error, || {
            require(out_chunks, "out_chunks")?;
            let chunks = &mutation(mutations, index)?.chunks;
            let Some(first) = chunks.first() else { return Ok(khonsu_status::NotFound) };
            let stream = export_stream(first.schema().clone(), chunks.clone().into_iter().map(Ok));
            write_if(out_chunks, || stream);
            Ok(khonsu_status::Ok)
        })
    }
}

/// # Safety
/// Rule 4 holds for `array` and `schema`.
unsafe fn chunk(array: *mut ArrowArray, schema: *mut ArrowSchema) -> Result<arrow_array::RecordBatch, Failure> {
    // SAFETY: rule 4.
    unsafe { arrow::import(array, schema, true) }?.to_record_batch()
}

/// Loads a key with the first chunk of its value; khonsu_loader_append adds the others right after it.
///
/// @param[in]  loader  Not NULL.
/// @param[in]  key     The key; readable for key_len bytes. Each key is put once.
/// @param[in]  key_len 1 to KHONSU_KEY_MAX_BYTES.
/// @param[in]  version The version of the commit that wrote the key last; not 0. The database's next commit is later
///                     than all of them.
/// @param[in]  array   A record batch; consumed on every return. Its values are checked.
/// @param[in]  schema  Its schema; consumed on every return.
/// @param[out] error   May be NULL.
/// @return
/// - KHONSU_STATUS_OK: loaded. What is wrong with the key may be told by a later call on the loader.
/// - KHONSU_STATUS_INVALID_ARGUMENT: loader, key, array or schema is NULL; key_len is out of range; version is 0; or
///   the batch is malformed.
/// - KHONSU_STATUS_CORRUPTION: the key before this one was put twice, or its chunks are of different schemas.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// After a failure all calls on the loader fail alike, and so does khonsu_db_open. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_loader_put(
    loader: *mut khonsu_loader,
    key: *const c_void,
    key_len: usize,
    version: u64,
    array: *mut ArrowArray,
    schema: *mut ArrowSchema,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 to 4.
    unsafe {
        guard(error, || {
            let chunk = chunk(array, schema);
            borrow_mut(loader, "loader")?.step(|loader| {
                let key = key::key(key, key_len)?.to_vec();
                if version == 0 {
                    return Err(Failure::invalid_argument("version is 0, which no commit has"));
                }
                let value = StoredValue { key, version, chunks: vec![chunk?], cold: None };
                loader.finish()?;
                loader.version = loader.version.max(version);
                loader.last = Some(value);
                Ok(khonsu_status::Ok)
            })
        })
    }
}

/// Loads another chunk of the key that was put last.
///
/// @param[in]  loader Not NULL.
/// @param[in]  array  A record batch; consumed on every return. Its values are checked.
/// @param[in]  schema Its schema, equal to that of the key's other chunks; consumed on every return.
/// @param[out] error  May be NULL.
/// @return
/// - KHONSU_STATUS_OK: loaded. What is wrong with it may be told by a later call on the loader.
/// - KHONSU_STATUS_INVALID_ARGUMENT: loader, array or schema is NULL, or the batch is malformed.
/// - KHONSU_STATUS_INVALID_STATE: no key was put yet.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// After a failure all calls on the loader fail alike, and so does khonsu_db_open. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_loader_append(
    loader: *mut khonsu_loader,
    array: *mut ArrowArray,
    schema: *mut ArrowSchema,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1, 3 and 4.
    unsafe {
        guard(error, || {
            let chunk = chunk(array, schema);
            borrow_mut(loader, "loader")?.step(|loader| {
                let last = loader.last.as_mut().ok_or_else(|| Failure::invalid_state("no key was put yet"))?;
                last.chunks.push(chunk?);
                Ok(khonsu_status::Ok)
            })
        })
    }
}

/// Tells the version of the newest commit that is stored, where it may be later than those of the keys: one that
/// deleted its keys. The database's next commit is later.
///
/// @param[in]  loader  Not NULL.
/// @param[in]  version The version.
/// @param[out] error   May be NULL.
/// @return
/// - KHONSU_STATUS_OK: heeded.
/// - KHONSU_STATUS_INVALID_ARGUMENT: loader is NULL.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// After a failure of another call on the loader it fails alike. Threads: serialized. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_loader_set_version(
    loader: *mut khonsu_loader,
    version: u64,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        guard(error, || {
            borrow_mut(loader, "loader")?.step(|loader| {
                loader.version = loader.version.max(version);
                Ok(khonsu_status::Ok)
            })
        })
    }
}
