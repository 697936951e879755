//! The storage that comes with khonsu: a log of commits and checkpoints of all keys, in one directory.

mod checkpoint;
mod commit;
mod file;
mod format;
mod frame;
mod ipc;
mod load;
mod log;
mod replay;
mod segment;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use commit::Prepared;

use self::file::File;
use self::format::Contents;
use self::load::{Meter, Overlay};
use self::log::Log;
use super::{ApplyError, Commit, Mutation, Snapshot, Storage, StoredValue};
use crate::stm::{Durability, Error};

/// Told while a database is opened, now and then: bytes that were read, and bytes that are to be read in all.
pub type Progress = Box<dyn FnMut(u64, u64) + Send>;

/// How a directory is opened.
pub struct DurableOptions {
    /// Bytes that each segment of the log is made with. Commits that are longer than that get a segment of their own.
    pub segment_bytes: u64,
    /// Told of the progress of [`load`](Storage::load).
    pub progress: Option<Progress>,
}

impl Default for DurableOptions {
    fn default() -> Self {
        DurableOptions { segment_bytes: 16 << 20, progress: None }
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
#[derive(Debug)]
pub struct DurableStorage {
    folder: PathBuf,
    segment_bytes: u64,
    state: Mutex<State>,
    /// Held while a checkpoint is written. It is locked before `state`.
    checkpointing: Mutex<()>,
    /// The last field, as its end opens the directory for others.
    _lock: File,
}

enum State {
    Opened(Option<Progress>),
    Loaded {
        log: Box<Log>,
        checkpoint_bytes: u64,
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
            state,
            checkpointing: Mutex::new(()),
            _lock: lock,
        })
    }

    /// Bytes of the log, and of the checkpoint that it goes on from; both 0 before it was loaded.
    pub fn stored_bytes(&self) -> (u64, u64) {
        match &*self.lock() {
            State::Loaded { log, checkpoint_bytes } => (log.bytes(), *checkpoint_bytes),
            State::Opened(_) | State::Ended(_) => (0, 0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics with the lock but callbacks of `load`, which leaves an ended state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove_checkpoints(&self, versions: &[u64]) -> Result<(), Error> {
        for &version in versions {
            file::remove_directory(&format::checkpoint_path(&self.folder, version))?;
        }
        if versions.is_empty() { Ok(()) } else { file::sync_directory(&self.folder) }
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
        let checkpoint = contents.checkpoints.last().copied().unwrap_or(0);
        let mut overlay = Overlay::new(checkpoint, Meter::new(progress, self.measure(&contents)?));
        let log = replay::replay(&self.folder, self.segment_bytes, checkpoint, &contents.segments, &mut overlay)?;
        let checkpoint_bytes = match contents.checkpoints.split_last() {
            None => 0,
            Some((newest, older)) => {
                let folder = format::checkpoint_path(&self.folder, *newest);
                let bytes = overlay.visit_checkpoint(&folder, visit)?;
                self.remove_checkpoints(older)?;
                bytes
            }
        };
        overlay.visit_rest(visit)?;
        let version = log.version();
        let end = log.finish(&self.folder, self.segment_bytes)?;
        let log = Box::new(Log::new(self.folder.clone(), self.segment_bytes, end)?);
        *state = State::Loaded { log, checkpoint_bytes };
        Ok(version)
    }

    fn prepare(&self, mutations: Vec<Mutation>) -> Result<Prepared, Error> {
        Prepared::new(&mutations)
    }

    fn apply(&self, commits: &[Commit<'_, Prepared>], durability: Durability) -> Result<(), ApplyError> {
        let mut state = self.lock();
        let log = state.log().map_err(|cause| ApplyError { applied: 0, cause })?;
        log.append(commits, durability)
    }

    fn sync(&self) -> Result<(), Error> {
        self.lock().log()?.sync()
    }

    fn checkpoint(&self, snapshot: &mut dyn Snapshot) -> Result<(), Error> {
        let _one = self.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        let older = Contents::of(&self.folder)?.checkpoints;
        if older.last().is_some_and(|&newest| newest >= snapshot.version()) || snapshot.version() == 0 {
            return Ok(());
        }
        self.lock().log()?;
        let written = checkpoint::write(&self.folder, snapshot)?;
        let covered = match &mut *self.lock() {
            State::Loaded { log, checkpoint_bytes } => {
                *checkpoint_bytes = written.bytes;
                log.take_covered(written.version)
            }
            // What is superfluous is found when it is opened again.
            State::Opened(_) | State::Ended(_) => return Ok(()),
        };
        log::remove(&self.folder, &covered)?;
        self.remove_checkpoints(&older)
    }

    fn close(&self) -> Result<(), Error> {
        let mut state = self.lock();
        state.log()?.close()?;
        *state = State::Ended("the storage was closed");
        Ok(())
    }
}
