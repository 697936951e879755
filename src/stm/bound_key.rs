//! Keys that are looked up once, and the ways in which a call can name a key.

use std::sync::Arc;

use crossbeam_epoch::Guard;

use super::database::DatabasePool;
use super::error::Error;
use super::key::{KeyBytes, check_key};
use super::memory::{BoundRecord, Record};
use super::txn_buffer::TxnBuffer;
use super::value::Chunk;

/// A key of a database that is looked up once, however often it is read and written: what a variable is to other
/// software transactional memories. Made by [`TransactionManager::bind`](super::TransactionManager::bind).
///
/// It is a name and no more: the key need not exist, may be deleted and come back meanwhile, and can be used by its
/// bytes beside. All threads may use it at once. It keeps the memory of the database, but no stored one open.
pub struct BoundKey<C: Chunk> {
    /// Before `pool`: the record is the database's.
    record: BoundRecord<C>,
    bytes: KeyBytes,
    hash: u64,
    pool: Arc<DatabasePool<C>>,
}

impl<C: Chunk> BoundKey<C> {
    pub(super) fn new(pool: &Arc<DatabasePool<C>>, key: &[u8]) -> Result<Self, Error> {
        check_key(key)?;
        let hash = pool.shared().buffer.hash(key);
        Ok(BoundKey { record: BoundRecord::new(), bytes: KeyBytes::new(key), hash, pool: Arc::clone(pool) })
    }

    /// The bytes of the key.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }
}

/// How a call names a key: by its bytes, or as a bound one.
pub(crate) trait KeyName<'k, C: Chunk>: Copy {
    /// Whether it can be a key of the database.
    fn check(self, pool: &DatabasePool<C>) -> Result<(), Error>;

    fn bytes(self) -> &'k [u8];

    /// Its hash. Asks for what finding it will touch first, in the cache.
    fn hash(self, buffer: &TxnBuffer<C>) -> u64;

    /// Asks for its record, when what `hash` has asked for is there.
    fn prefetch_record(self, hash: u64, buffer: &TxnBuffer<C>);

    /// The record that the key has, if it has one. A sealed one may be given where there is no other.
    fn find<'g>(self, hash: u64, buffer: &'g TxnBuffer<C>, guard: &'g Guard) -> Option<&'g Record<C>>
    where
        'k: 'g;
}

impl<'k, C: Chunk> KeyName<'k, C> for &'k [u8] {
    fn check(self, _: &DatabasePool<C>) -> Result<(), Error> {
        check_key(self)
    }

    fn bytes(self) -> &'k [u8] {
        self
    }

    fn hash(self, buffer: &TxnBuffer<C>) -> u64 {
        let hash = buffer.hash(self);
        buffer.prefetch(hash);
        hash
    }

    fn prefetch_record(self, hash: u64, buffer: &TxnBuffer<C>) {
        buffer.prefetch_record(hash);
    }

    fn find<'g>(self, hash: u64, buffer: &'g TxnBuffer<C>, guard: &'g Guard) -> Option<&'g Record<C>>
    where
        'k: 'g,
    {
        buffer.find(hash, self, guard)
    }
}

impl<'k, C: Chunk> KeyName<'k, C> for &'k BoundKey<C> {
    fn check(self, pool: &DatabasePool<C>) -> Result<(), Error> {
        if std::ptr::eq(&*self.pool, pool) {
            return Ok(());
        }
        Err(Error::InvalidArgument("key: it was bound in another database".to_owned()))
    }

    fn bytes(self) -> &'k [u8] {
        self.as_bytes()
    }

    fn hash(self, _: &TxnBuffer<C>) -> u64 {
        self.record.prefetch();
        self.hash
    }

    fn prefetch_record(self, _: u64, _: &TxnBuffer<C>) {}

    /// An unsealed record is the one that the key has. The key can have got another one only after this one was sealed,
    /// and all that the other one has was installed later still: whoever sees that sees the seal.
    fn find<'g>(self, hash: u64, buffer: &'g TxnBuffer<C>, guard: &'g Guard) -> Option<&'g Record<C>>
    where
        'k: 'g,
    {
        let bound = self.record.get(guard);
        if let Some(record) = bound.filter(|record| !record.is_sealed()) {
            return Some(record);
        }
        let found = buffer.find(hash, self.as_bytes(), guard);
        if let Some(record) = found.filter(|record| !record.is_sealed()) {
            self.record.replace(bound, record, guard);
        }
        found
    }
}
