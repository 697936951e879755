//! The directory of a database: the names in it, the version of its format, and its lock.

use std::path::{Path, PathBuf};

use super::file::{self, File};
use crate::stm::Error;

/// The version that is written, and the newest that is understood. Since 2 the log has notes on prepared transactions.
pub(super) const FORMAT_VERSION: u32 = 2;
/// The oldest version that is understood. What is opened becomes one of the newest.
pub(super) const OLDEST_VERSION: u32 = 1;

const FORMAT: &str = "FORMAT";
const LOCK: &str = "LOCK";
const TEMPORARY: &str = ".tmp";
const SEGMENT: &str = "log-";
const CHECKPOINT: &str = "checkpoint-";
const PREFIX: &str = "khonsu storage ";

/// Where the segment of a number is.
pub(super) fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{SEGMENT}{number:020}"))
}

/// Where the checkpoint of a version is.
pub(super) fn checkpoint_path(folder: &Path, version: u64) -> PathBuf {
    folder.join(format!("{CHECKPOINT}{version:020}"))
}

/// The directory that a path is in.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The name of a file that is not finished.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(TEMPORARY);
    PathBuf::from(name)
}

/// What is in the directory of a database.
#[derive(Debug)]
pub(super) struct Contents {
    /// Numbers of the segments, ascending.
    pub(super) segments: Vec<u64>,
    /// Versions of the checkpoints, ascending.
    pub(super) checkpoints: Vec<u64>,
}

impl Contents {
    pub(super) fn of(folder: &Path) -> Result<Contents, Error> {
        let names = file::names(folder)?;
        let numbers = |prefix| names.iter().filter_map(|name| number(name, prefix)).collect();
        Ok(Contents { segments: numbers(SEGMENT), checkpoints: numbers(CHECKPOINT) })
    }
}

fn number(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// Locks the directory of a database, which is made where there is none, and cleans up what a crash has left in it.
/// It stays locked until the file is dropped.
pub(super) fn open(folder: &Path) -> Result<File, Error> {
    if !file::is_directory(folder) {
        file::create_directory(folder)?;
        file::sync_directory(parent(folder))?;
    }
    let format = folder.join(FORMAT);
    let names = file::names(folder)?;
    let has_format = names.iter().any(|name| name == FORMAT);
    let unfinished = [LOCK.to_string(), format!("{FORMAT}{TEMPORARY}")];
    if !has_format && names.iter().any(|name| !unfinished.contains(name)) {
        let folder = folder.display();
        return Err(Error::Storage(format!("opening {folder}: it has files but no {FORMAT}, so it is no database")));
    }
    // Before the lock: this may be the database of a later khonsu, whose files are none of ours.
    if has_format {
        check_format(&format)?;
    }
    let path = folder.join(LOCK);
    let lock = if names.iter().any(|name| name == LOCK) { File::open(&path)? } else { File::create(&path)? };
    if !lock.try_lock()? {
        return Err(Error::Locked(format!("opening {}: it is open already", folder.display())));
    }
    for name in file::names(folder)?.iter().filter(|name| name.ends_with(TEMPORARY)) {
        let path = folder.join(name);
        if file::is_directory(&path) { file::remove_directory(&path)? } else { file::remove_file(&path)? }
    }
    if !has_format && !file::names(folder)?.iter().any(|name| name == FORMAT) {
        write_format(folder)?;
    }
    Ok(lock)
}

/// Makes a locked directory one of the newest version, before anything is written in it that older ones do not know.
pub(super) fn upgrade(folder: &Path) -> Result<(), Error> {
    // Again: it was not locked when it was opened.
    if check_format(&folder.join(FORMAT))? < FORMAT_VERSION { write_format(folder) } else { Ok(()) }
}

fn write_format(folder: &Path) -> Result<(), Error> {
    let path = folder.join(FORMAT);
    let unfinished = File::create(&temporary(&path))?;
    unfinished.write_all_at(format!("{PREFIX}{FORMAT_VERSION}\n").as_bytes(), 0)?;
    unfinished.sync()?;
    file::rename(unfinished.path(), &path)?;
    file::sync_directory(folder)
}

fn check_format(path: &Path) -> Result<u32, Error> {
    let file = File::open_read(path)?;
    // A line of ours is shorter.
    let mut text = vec![0; file.len()?.min(64) as usize];
    file.read_exact_at(&mut text, 0)?;
    let line = std::str::from_utf8(&text).ok().and_then(|text| text.strip_suffix('\n'));
    let version = line.and_then(|line| line.strip_prefix(PREFIX)).and_then(|digits| digits.parse::<u32>().ok());
    let path = path.display();
    match version {
        Some(version @ OLDEST_VERSION..=FORMAT_VERSION) => Ok(version),
        Some(version) if version > FORMAT_VERSION => Err(Error::Storage(format!(
            "opening {path}: its format is {version}, and this khonsu reads up to {FORMAT_VERSION}"
        ))),
        _ => Err(Error::Corruption(format!("{path} at offset 0: no version of a format"))),
    }
}
