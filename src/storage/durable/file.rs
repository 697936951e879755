//! The file system, as far as the engine uses it: all that it does there goes through here. Errors name what was tried,
//! the path and the cause.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::stm::Error;

fn failed(what: &str, path: &Path, cause: &io::Error) -> Error {
    Error::Storage(format!("{what} {}: {cause}", path.display()))
}

/// An open file that is read and written at given offsets, by any number of threads.
#[derive(Debug)]
pub(super) struct File {
    file: fs::File,
    path: PathBuf,
}

impl File {
    /// Makes an empty file, in the place of one that is there, to be read and written.
    pub(super) fn create(path: &Path) -> Result<File, Error> {
        let mut options = fs::OpenOptions::new();
        File::with(options.read(true).write(true).create(true).truncate(true), "creating", path)
    }

    /// Opens a file to be read and written.
    pub(super) fn open(path: &Path) -> Result<File, Error> {
        File::with(fs::OpenOptions::new().read(true).write(true), "opening", path)
    }

    /// Opens a file to be read.
    pub(super) fn open_read(path: &Path) -> Result<File, Error> {
        File::with(fs::OpenOptions::new().read(true), "opening", path)
    }

    fn with(options: &fs::OpenOptions, what: &str, path: &Path) -> Result<File, Error> {
        let file = options.open(path).map_err(|cause| failed(what, path, &cause))?;
        Ok(File { file, path: path.to_path_buf() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn len(&self) -> Result<u64, Error> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(|cause| failed("measuring", &self.path, &cause))
    }

    /// Writes all of `bytes`, going on after a short write. After an error any first part of them may be there.
    pub(super) fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        self.file.write_all_at(bytes, offset).map_err(|cause| failed("writing", &self.path, &cause))
    }

    /// Fills all of `bytes`; a file that ends before is an error.
    pub(super) fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), Error> {
        self.file.read_exact_at(bytes, offset).map_err(|cause| failed("reading", &self.path, &cause))
    }

    /// Makes the file `len` bytes long; what comes new is zero.
    pub(super) fn truncate(&self, len: u64) -> Result<(), Error> {
        self.file.set_len(len).map_err(|cause| failed("truncating", &self.path, &cause))
    }

    /// Puts on the disk what was written, and the length.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|cause| failed("syncing", &self.path, &cause))
    }

    /// Locks the file until it is closed; says whether nobody else had it locked, in this process or another.
    pub(super) fn try_lock(&self) -> Result<bool, Error> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(cause)) => Err(failed("locking", &self.path, &cause)),
        }
    }
}

/// Puts on the disk which names a directory has.
pub(super) fn sync_directory(path: &Path) -> Result<(), Error> {
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(|cause| failed("syncing", path, &cause))
}

/// Gives a file or directory another name, whose bearer it replaces.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(|cause| failed("renaming", from, &cause))
}

pub(super) fn remove_file(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).map_err(|cause| failed("removing", path, &cause))
}

/// Removes a directory and all that is in it.
pub(super) fn remove_directory(path: &Path) -> Result<(), Error> {
    fs::remove_dir_all(path).map_err(|cause| failed("removing", path, &cause))
}

/// Makes a directory; its parent has to be there, and it may be there itself.
pub(super) fn create_directory(path: &Path) -> Result<(), Error> {
    match fs::create_dir(path) {
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other.map_err(|cause| failed("creating", path, &cause)),
    }
}

pub(super) fn is_directory(path: &Path) -> bool {
    path.is_dir()
}

/// The names of what is in a directory; none where there is no directory.
pub(super) fn names_if_any(path: &Path) -> Result<Vec<String>, Error> {
    if path.exists() { names(path) } else { Ok(Vec::new()) }
}

/// The names of what is in a directory, in ascending order.
pub(super) fn names(path: &Path) -> Result<Vec<String>, Error> {
    let entries = fs::read_dir(path).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    let entries = entries.map_err(|cause| failed("listing", path, &cause))?;
    let mut names: Vec<String> = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    Ok(names)
}
