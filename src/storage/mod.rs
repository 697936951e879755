//! Where a database is stored, when it is: the trait of all storages, and the ones that come with khonsu.
//!
//! A storage knows nothing of transactions. It gets commits that are decided, each as one batch of mutations, in the
//! order of their versions, and gives back what they came to when the database is opened again.

mod backup;
mod checkpointer;
mod chunk;
mod durable;
mod log;
mod open;
mod place;
mod snapshot;

use arrow_array::RecordBatch;

use crate::stm::{Decided, Durability, Error, GlobalId, Held, Note, Outcome};

pub use backup::{backup, export, import};
pub use chunk::ArrowChunk;
use chunk::without_unused;
pub(crate) use chunk::{compact, same_schema};
pub use durable::{DurableOptions, DurableStorage, Prepared, Progress};
pub use open::{StoredDatabase, open};
pub use place::{Cold, Place, ValueFile};

/// What becomes of a key. Chunks are in their order, at least one, and of one schema.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The chunks are the key's value.
    Put(Vec<RecordBatch>),
    /// The chunks go after those that the key has, if it has any.
    Append(Vec<RecordBatch>),
    /// The key has no value any more.
    Delete,
}

/// A key, and what a commit does to it. No two of a commit have the same key.
#[derive(Debug, Clone, PartialEq)]
pub struct Mutation {
    /// The key, 1 to 65,536 bytes.
    pub key: Vec<u8>,
    /// What becomes of it.
    pub change: Change,
}

/// A commit that is to be stored.
pub struct Commit<'a, P> {
    /// Later than that of every commit before it; not the next number, as some are never used.
    pub version: u64,
    /// What [`Storage::prepare`] made of its mutations.
    pub prepared: &'a P,
    /// The prepared transaction that this one commits: both are stored at once, or neither.
    pub decides: Option<Decided<'a>>,
}

/// A transaction that is prepared and not decided, as it is loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredPrepared {
    /// Its name.
    pub id: GlobalId,
    /// When it was prepared, in microseconds since 1970 UTC.
    pub time_micros: i64,
    /// What a commit of it does.
    pub mutations: Vec<Mutation>,
    /// What it has read.
    pub held: Held,
}

/// What is loaded of prepared transactions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoredTransactions {
    /// Those in doubt, in the order in which they were prepared.
    pub prepared: Vec<StoredPrepared>,
    /// The outcomes that are remembered, the oldest first: see [`RememberedOutcomes`](crate::stm::RememberedOutcomes).
    pub outcomes: Vec<Outcome>,
}

/// A key with its value, as it is loaded and as it goes into a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredValue {
    /// The key.
    pub key: Vec<u8>,
    /// The commit that wrote it last, or the checkpoint that it comes from, which is later.
    pub version: u64,
    /// Its rows, all of one schema: one chunk or more, unless some are cold. They may be parts of larger batches.
    pub chunks: Vec<RecordBatch>,
    /// Rows that go before those of the chunks, and stay in storage for now. Only a storage with a
    /// [`memory_budget`](Storage::memory_budget) loads such.
    pub cold: Option<Cold>,
}

/// How far [`Storage::apply`] came: the first `applied` commits are stored, the one behind them is what failed, and the
/// others were not tried.
#[derive(Debug)]
pub struct ApplyError {
    /// Commits that were stored.
    pub applied: usize,
    /// Why the next one was not.
    pub cause: Error,
}

/// What all keys are at one version.
pub trait Snapshot {
    /// That version.
    fn version(&self) -> u64;

    /// Passes all keys to `visit`, in ascending order.
    ///
    /// # Errors
    /// That of `visit`, which ends the walk, and whatever else is in the way.
    fn visit(&mut self, visit: &mut dyn FnMut(StoredValue) -> Result<(), Error>) -> Result<(), Error>;

    /// Whether [`placed`](Snapshot::placed) does anything.
    fn wants_places(&self) -> bool {
        false
    }

    /// Tells where the values are, those of which that is known, in the order in which they were visited. Called when
    /// they are as safe there as anything.
    fn placed(&mut self, places: &mut dyn Iterator<Item = Option<Place>>) {
        _ = places;
    }
}

/// Keeps what commits came to. It must not commit to its own database, which would wait for itself. All its errors are
/// [`Error::Storage`] or [`Error::Corruption`].
pub trait Storage: Send + Sync + 'static {
    /// The mutations of a commit in the form in which they are stored.
    type Prepared: Send + Sync + 'static;

    /// Passes each stored key once to `visit`, in any order, and gives the version of the newest commit; 0 for none.
    /// It is called once, before everything else.
    ///
    /// # Errors
    /// Whatever is in the way, damaged data above all; and those of `visit`.
    fn load(&self, visit: &mut dyn FnMut(StoredValue) -> Result<(), Error>) -> Result<u64, Error>;

    /// Bytes of values in memory beyond which those go that the storage can give back; 0: all values are in memory.
    fn memory_budget(&self) -> u64 {
        0
    }

    /// Whether it can keep prepared transactions: whether [`note`](Storage::note) works.
    fn keeps_prepared(&self) -> bool {
        false
    }

    /// What is stored of prepared transactions. Called once, after [`load`](Storage::load), and only where they can be
    /// kept.
    ///
    /// # Errors
    /// Whatever is in the way, damaged data above all.
    fn load_prepared(&self) -> Result<StoredTransactions, Error> {
        Ok(StoredTransactions::default())
    }

    /// Encodes the mutations of a commit. Any number of threads call it, and what it makes may be dropped unused.
    ///
    /// # Errors
    /// Whatever is in the way; only that commit fails.
    fn prepare(&self, mutations: Vec<Mutation>) -> Result<Self::Prepared, Error>;

    /// Stores commits, each whole or not at all, in the order in which they come. There is one call at a time.
    /// `durability` is what they have to survive when it returns; all commits before them have to survive it, too.
    ///
    /// # Errors
    /// Of the first commit that is not stored. It is not there after a restart either.
    fn apply(&self, commits: &[Commit<'_, Self::Prepared>], durability: Durability) -> Result<(), ApplyError>;

    /// Stores news of prepared transactions, in order with all commits: whatever a restart finds of what came later, it
    /// finds these, too. There is one call at a time, and none beside [`apply`](Storage::apply). Checkpoints lose
    /// nothing of what is in doubt or remembered. Backups and exports have committed state alone.
    ///
    /// # Errors
    /// Of the first that is not stored. It is not there after a restart either.
    fn note(&self, _notes: &[Note<'_, Self::Prepared>], _durability: Durability) -> Result<(), ApplyError> {
        Err(ApplyError {
            applied: 0,
            cause: Error::NotDurable("the storage keeps no prepared transactions".to_owned()),
        })
    }

    /// Puts everything that was stored on the disk. It does not run beside [`apply`](Storage::apply).
    ///
    /// # Errors
    /// Whatever is in the way.
    fn sync(&self) -> Result<(), Error>;

    /// Puts the snapshot in the place of all commits up to its version, so that what is stored does not grow with
    /// their number. It may run beside the other calls.
    ///
    /// # Errors
    /// Whatever is in the way; nothing is lost then.
    fn checkpoint(&self, snapshot: &mut dyn Snapshot) -> Result<(), Error>;

    /// Whether enough was stored since the last checkpoint for the next one to pay. Asked after each
    /// [`apply`](Storage::apply).
    fn is_checkpoint_due(&self) -> bool {
        false
    }

    /// Stores what is on its way. It is the last call.
    ///
    /// # Errors
    /// Whatever is in the way.
    fn close(&self) -> Result<(), Error>;
}
