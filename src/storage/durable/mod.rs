//! The storage that comes with khonsu: a log of commits and checkpoints of all keys, in one directory.

mod body;
mod checkpoint;
mod commit;
mod entry;
mod file;
mod format;
mod frame;
mod ipc;
mod ledger;
mod load;
mod log;
mod note;
mod replay;
mod segment;
mod value_file;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use commit::Prepared;

use self::entry::Entry;
use self::file::File;
use self::format::Contents;
use self::load::{Meter, Overlay};
use self::log::Log;
use self::value_file::BlockCache;
use super::{ApplyError, Commit, Mutation, Snapshot, Storage, StoredTransactions, StoredValue};
use crate::stm::{Durability, Error, Note};

/// Writes a snapshot into a new directory that opens as a database. Gives its version.
pub(super) fn write_database(folder: &Path, snapshot: &mut dyn Snapshot) -> Result<u64, Error> {
    write_new(folder, |unfinished| {
        let _lock = format::open(unfinished)?;
        // Version 0 has nothing in it, and a database without a checkpoint says as much.
        if snapshot.version() > 0 {
            checkpoint::write(unfinished, snapshot)?;
        }
        Ok(snapshot.version())
    })
}

/// Writes a snapshot into a new directory as Arrow IPC streams. Gives its version.
pub(super) fn write_export(folder: &Path, snapshot: &mut dyn Snapshot) -> Result<u64, Error> {
    write_new(folder, |unfinished| Ok(checkpoint::write_files(unfinished, snapshot)?.checkpoint.version))
}

/// Has a directory written under another name, which it keeps until it is complete and on the disk.
fn write_new(folder: &Path, write: impl FnOnce(&Path) -> Result<u64, Error>) -> Result<u64, Error> {
    let in_the_way = |what: &Path| Err(Error::Storage(format!("writing {}: it is there already", what.display())));
    if !file::names_if_any(folder)?.is_empty() {
        return in_the_way(folder);
    }
    let unfinished = format::temporary(folder);
    if unfinished.exists() {
        return in_the_way(&unfinished);
    }
    let written = write(&unfinished).and_then(|version| {
        file::rename(&unfinished, folder)?;
        file::sync_directory(format::parent(folder))?;
        Ok(version)
    });
    if written.is_err() && file::is_directory(&unfinished) {
        // It is of no use to anybody.
        _ = file::remove_directory(&unfinished);
    }
    written
}

/// Passes on what [`write_export`] has written.
pub(super) fn read_export(folder: &Path, visit: &mut dyn FnMut(StoredValue) -> Result<(), Error>) -> Result<(), Error> {
    checkpoint::read(folder, None, &mut |_| {}, visit).map(drop)
}

/// Told while a database is opened, now and then: bytes that were read, and bytes that are to be read in all.
pub type Progress = Box<dyn FnMut(u64, u64) + Send>;

/// How a directory is opened.
pub struct DurableOptions {
    /// Bytes that each segment of the log is made with. Commits that are longer than that get a segment of their own.
    pub segment_bytes: u64,
    /// Bytes by which the log grows before a checkpoint is due; more where the last checkpoint is larger.
    pub checkpoint_bytes: u64,
    /// Bytes of values in memory beyond which those that a checkpoint has are read back when they are asked for; 0: all
    /// are in memory.
    pub memory_budget: u64,
    /// Told of the progress of [`load`](Storage::load).
    pub progress: Option<Progress>,
}

impl Default for DurableOptions {
    fn default() -> Self {
        DurableOptions { segment_bytes: 16 << 20, checkpoint_bytes: 64 << 20, memory_budget: 0, progress: None }
    }
}

impl fmt::Debug for DurableOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DurableOptions").field("segment_bytes", &self.segment_bytes).finish_non_exhaustive()
    }
}

/// A database in a directory, which nobody else has open as long as this is there.
///
/// What was not on its way to the disk when it goes without [`close`](Storage::close) is lost.
pub struct DurableStorage {
    folder: PathBuf,
    segment_bytes: u64,
    checkpoint_bytes: u64,
    memory_budget: u64,
    /// Blocks of checkpoints, for values that are read back.
    cache: Arc<BlockCache>,
    state: Mutex<State>,
    /// Held for the time of a checkpoint.
    checkpointing: Mutex<()>,
    /// Its end opens the directory for others.
    directory_lock: Mutex<Option<File>>,
}

impl fmt::Debug for DurableStorage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DurableStorage").field("folder", &self.folder).finish_non_exhaustive()
    }
}

enum State {
    Opened(Option<Progress>),
    Loaded {
        log: Box<Log>,
        /// Version and bytes of the newest checkpoint; 0 where there is none.
        checkpoint: (u64, u64),
        /// Bytes that the log had when that was made.
        log_bytes_then: u64,
    },
    /// Why nothing can be stored: it could not be loaded, or is closed.
    Ended(&'static str),
}

impl fmt::Debug for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Opened(_) => formatter.write_str("Opened"),
            State::Loaded { log, .. } => log.fmt(formatter),
            State::Ended(why) => formatter.write_str(why),
        }
    }
}

impl State {
    fn log(&mut self) -> Result<&mut Log, Error> {
        match self {
            State::Opened(_) => Err(Error::Storage("the storage was not loaded".into())),
            State::Loaded { log, .. } => Ok(log),
            State::Ended(why) => Err(Error::Storage((*why).into())),
        }
    }

    fn checkpoint(&mut self) -> Result<&mut (u64, u64), Error> {
        match self {
            State::Loaded { checkpoint, .. } => Ok(checkpoint),
            State::Opened(_) | State::Ended(_) => Err(Error::Storage("the storage is not open".into())),
        }
    }
}

impl DurableStorage {
    /// Opens the database in a directory, which is made (but not its parent) if there is none.
    ///
    /// # Errors
    /// - [`Error::Locked`] when it is open already, in this process or another.
    /// - [`Error::Corruption`] when the file that says its format is damaged.
    /// - [`Error::Storage`] when it is the directory of something else or of a newer khonsu, and when the file system
    ///   fails.
    pub fn open(folder: &Path, options: DurableOptions) -> Result<DurableStorage, Error> {
        let lock = format::open(folder)?;
        let state = Mutex::new(State::Opened(options.progress));
        Ok(DurableStorage {
            folder: folder.to_path_buf(),
            segment_bytes: options.segment_bytes,
            checkpoint_bytes: options.checkpoint_bytes,
            memory_budget: options.memory_budget,
            cache: Arc::default(),
            state,
            checkpointing: Mutex::new(()),
            directory_lock: Mutex::new(Some(lock)),
        })
    }

    /// Bytes of the log, and of the checkpoint that it goes on from; both 0 before it was loaded.
    pub fn stored_bytes(&self) -> (u64, u64) {
        match &*self.lock() {
            State::Loaded { log, checkpoint, .. } => (log.bytes(), checkpoint.1),
            State::Opened(_) | State::Ended(_) => (0, 0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics with the lock but callbacks of `load`, which leaves an ended state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what the checkpoint of a version has made superfluous.
    fn remove_covered(&self, version: u64) -> Result<(), Error> {
        let covered = self.lock().log()?.covered(version);
        if let Some(covered) = covered {
            // The lock is let go between them: commits go on.
            while self.lock().log()?.repeat_one(covered)? {}
            let removed = self.lock().log()?.take_covered(covered)?;
            log::remove(&self.folder, &removed)?;
        }
        if let State::Loaded { log, log_bytes_then, .. } = &mut *self.lock() {
            *log_bytes_then = log.bytes();
        }
        self.remove_checkpoints_before(version)
    }

    fn remove_checkpoints_before(&self, version: u64) -> Result<(), Error> {
        let checkpoints = Contents::of(&self.folder)?.checkpoints;
        for old in checkpoints.into_iter().filter(|old| *old < version) {
            // Under another name first: what is left of it after a crash must not be taken for a checkpoint.
            let path = format::checkpoint_path(&self.folder, old);
            let unfinished = format::temporary(&path);
            file::rename(&path, &unfinished)?;
            file::remove_directory(&unfinished)?;
        }
        Ok(())
    }

    /// Bytes that are read to open the database.
    fn measure(&self, contents: &Contents) -> Result<u64, Error> {
        let mut total = 0;
        for &number in &contents.segments {
            total += File::open_read(&format::segment_path(&self.folder, number))?.len()?;
        }
        if let Some(&version) = contents.checkpoints.last() {
            let checkpoint = format::checkpoint_path(&self.folder, version);
            for name in file::names(&checkpoint)? {
                total += File::open_read(&checkpoint.join(name))?.len()?;
            }
        }
        Ok(total)
    }
}

impl Storage for DurableStorage {
    type Prepared = Prepared;

    fn memory_budget(&self) -> u64 {
        self.memory_budget
    }

    fn load(&self, visit: &mut dyn FnMut(StoredValue) -> Result<(), Error>) -> Result<u64, Error> {
        let mut state = self.lock();
        let progress = match std::mem::replace(&mut *state, State::Ended("the storage could not be loaded")) {
            State::Opened(progress) => progress,
            other => {
                *state = other;
                return Err(Error::Storage("the storage was loaded before".into()));
            }
        };
        let contents = Contents::of(&self.folder)?;
        let newest = contents.checkpoints.last().copied().unwrap_or(0);
        let mut overlay = Overlay::new(newest, Meter::new(progress, self.measure(&contents)?));
        let log = replay::replay(&self.folder, self.segment_bytes, newest, &contents.segments, &mut overlay)?;
        let mut checkpoint_bytes = 0;
        if newest > 0 {
            let cache = (self.memory_budget > 0).then_some(&self.cache);
            let folder = format::checkpoint_path(&self.folder, newest);
            checkpoint_bytes = overlay.visit_checkpoint(&folder, cache, visit)?;
            self.cache.clear();
        }
        overlay.visit_rest(visit)?;
        let version = log.version();
        format::upgrade(&self.folder)?;
        let end = log.finish(&self.folder, self.segment_bytes)?;
        let log = Box::new(Log::new(self.folder.clone(), self.segment_bytes, end)?);
        *state = State::Loaded { log, checkpoint: (newest, checkpoint_bytes), log_bytes_then: 0 };
        drop(state);
        self.remove_checkpoints_before(newest)?;
        Ok(version)
    }

    fn prepare(&self, mutations: Vec<Mutation>) -> Result<Prepared, Error> {
        Prepared::new(&mutations)
    }

    fn apply(&self, commits: &[Commit<'_, Prepared>], durability: Durability) -> Result<(), ApplyError> {
        let mut state = self.lock();
        let log = state.log().map_err(|cause| ApplyError { applied: 0, cause })?;
        log.append(&commits.iter().map(Entry::commit).collect::<Vec<_>>(), durability)
    }

    fn keeps_prepared(&self) -> bool {
        true
    }

    fn load_prepared(&self) -> Result<StoredTransactions, Error> {
        let mut state = self.lock();
        let ledger = state.log()?.ledger();
        let prepared = ledger.in_doubt().into_iter().map(|place| load::prepared(&self.folder, place));
        let mut prepared = prepared.collect::<Result<Vec<_>, Error>>()?;
        // Those that were repeated stand behind later ones.
        prepared.sort_by_key(|prepared| prepared.time_micros);
        Ok(StoredTransactions { prepared, outcomes: ledger.outcomes() })
    }

    fn note(&self, notes: &[Note<'_, Prepared>], durability: Durability) -> Result<(), ApplyError> {
        let mut state = self.lock();
        let log = state.log().map_err(|cause| ApplyError { applied: 0, cause })?;
        log.append(&notes.iter().map(Entry::note).collect::<Vec<_>>(), durability)
    }

    fn sync(&self) -> Result<(), Error> {
        self.lock().log()?.sync()
    }

    fn checkpoint(&self, snapshot: &mut dyn Snapshot) -> Result<(), Error> {
        let _alone = self.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        let (version, newest) = (snapshot.version(), self.lock().checkpoint()?.0);
        if version > newest {
            self.lock().log()?.prepare_checkpoint()?;
            // Without the lock: commits go on.
            let written = checkpoint::write(&self.folder, snapshot)?;
            *self.lock().checkpoint()? = (version, written.checkpoint.bytes);
            // What is in the old checkpoint can be read until nobody has it open any more.
            snapshot.placed(&mut written.places(&self.folder, &self.cache));
        }
        self.remove_covered(version.max(newest))
    }

    fn is_checkpoint_due(&self) -> bool {
        match &*self.lock() {
            // So the log takes no more room than the data, and each byte is written about twice.
            State::Loaded { log, checkpoint, log_bytes_then } => {
                log.bytes().saturating_sub(*log_bytes_then) > self.checkpoint_bytes.max(checkpoint.1)
            }
            State::Opened(_) | State::Ended(_) => false,
        }
    }

    fn close(&self) -> Result<(), Error> {
        // Before the files are left to others.
        let mut state = self.lock();
        let closed = state.log().and_then(Log::close);
        *state = State::Ended("the storage was closed");
        drop(self.directory_lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        closed
    }
}
