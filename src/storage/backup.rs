//! Copies of a running database: as a database, and as Arrow IPC files.

use std::path::Path;

use super::durable;
use super::snapshot::DatabaseSnapshot;
use super::{ArrowChunk, StoredValue};
use crate::stm::{Error, TransactionManager, TransactionOptions, Value};

/// Values of so many bytes go into one transaction of an import, and so many keys.
const BYTES: usize = 16 << 20;
const KEYS: usize = 10_000;

/// Writes what the database is now into a new directory, which can be opened as a database. Others go on meanwhile.
/// Gives the version that the copy is of.
///
/// # Errors
/// [`Error::Storage`] when there is something at `path` already, an empty directory excepted, and when writing fails.
/// What is there then does not open as a database.
pub fn backup<C: ArrowChunk>(manager: &TransactionManager<C>, path: &Path) -> Result<u64, Error> {
    durable::write_database(path, &mut DatabaseSnapshot::take(manager))
}

/// Writes what the database is now as Arrow IPC streams into a new directory: one for each schema of values, with the
/// columns key, version and value. Gives the version.
///
/// # Errors
/// Those of [`backup`].
pub fn export<C: ArrowChunk>(manager: &TransactionManager<C>, path: &Path) -> Result<u64, Error> {
    durable::write_export(path, &mut DatabaseSnapshot::take(manager))
}

/// Puts all values that [`export`] has written into a database, over those that are there. Gives how many keys it has
/// put. They go in in several transactions: others may see some of them first.
///
/// # Errors
/// [`Error::Storage`] when the directory cannot be read, [`Error::Corruption`] when it is damaged, and those of a
/// commit. Some of the keys may have been put then.
pub fn import<C: ArrowChunk>(manager: &TransactionManager<C>, path: &Path) -> Result<u64, Error> {
    let mut import = C::importer();
    let mut waiting: Vec<(Vec<u8>, Value<C>)> = Vec::new();
    let (mut bytes, mut keys) = (0, 0);
    let put = |waiting: &mut Vec<(Vec<u8>, Value<C>)>| -> Result<(), Error> {
        let taken = std::mem::take(waiting);
        if taken.is_empty() {
            return Ok(());
        }
        let put_all = |transaction: &mut crate::stm::Transaction<C>| {
            taken.iter().try_for_each(|(key, value)| transaction.put(key, value.clone()))
        };
        manager.transact(&TransactionOptions::default(), put_all).map(drop)
    };
    durable::read_export(path, &mut |StoredValue { key, chunks, .. }| {
        bytes += chunks.iter().map(|chunk| chunk.get_array_memory_size()).sum::<usize>();
        let chunks = chunks.into_iter().map(&mut import).collect::<Result<Vec<_>, Error>>()?;
        if let Some(value) = Value::from_chunks(chunks)? {
            waiting.push((key, value));
            keys += 1;
        }
        if bytes >= BYTES || waiting.len() >= KEYS {
            bytes = 0;
            put(&mut waiting)?;
        }
        Ok(())
    })?;
    put(&mut waiting)?;
    Ok(keys)
}
