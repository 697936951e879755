//! What a database is when it is opened: the checkpoint, with what the log does to it on top.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;

use super::Progress;
use super::checkpoint;
use super::commit::{self, Action};
use super::ipc::{self, BatchDecoder};
use super::ledger::Place;
use super::note::{self, PreparedHead};
use super::replay::Replay;
use super::value_file::BlockCache;
use crate::stm::Error;
use crate::storage::{Change, Cold, Mutation, StoredPrepared, StoredValue};

/// Keys are decoded in groups of so many.
const GROUP: usize = 256;

/// What the log does to the keys that it names.
pub(super) struct Overlay {
    /// The log says nothing new up to this version.
    checkpoint: u64,
    keys: HashMap<Vec<u8>, Entry, foldhash::fast::RandomState>,
    /// By the message that defines the schema, so that the same schema in two segments is one.
    schemas: HashMap<Vec<u8>, SchemaRef>,
    decoders: HashMap<usize, Arc<BatchDecoder>>,
    progress: Meter,
}

/// What becomes of a key.
struct Entry {
    version: u64,
    /// Whether the checkpoint's value comes before the chunks.
    appends: bool,
    /// None: the key is deleted.
    chunks: Vec<Encoded>,
}

/// A chunk as it is stored, in memory of its own: the buffers of the decoded one are parts of it, and it must not keep
/// all else that was read with it.
struct Encoded {
    decoder: Arc<BatchDecoder>,
    messages: Buffer,
}

/// Tells how much was read.
pub(super) struct Meter {
    callback: Option<Progress>,
    done: u64,
    total: u64,
}

impl Meter {
    pub(super) fn new(callback: Option<Progress>, total: u64) -> Meter {
        Meter { callback, done: 0, total }
    }

    /// Adds bytes that were read.
    pub(super) fn add(&mut self, bytes: u64) {
        // Files are measured before they are read, and nothing writes them in between.
        self.done = (self.done + bytes).min(self.total);
        if let Some(callback) = &mut self.callback {
            callback(self.done, self.total);
        }
    }
}

impl Overlay {
    /// Of a log behind the checkpoint of a version.
    pub(super) fn new(checkpoint: u64, progress: Meter) -> Overlay {
        Overlay { checkpoint, keys: HashMap::default(), schemas: HashMap::new(), decoders: HashMap::new(), progress }
    }

    /// Passes on the keys of the checkpoint that is in `folder`, as they are with the log on top; with a cache, what
    /// they have from there is cold. Gives its bytes.
    pub(super) fn visit_checkpoint(
        &mut self,
        folder: &Path,
        cache: Option<&Arc<BlockCache>>,
        visit: &mut dyn FnMut(StoredValue) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let (keys, progress) = (&mut self.keys, &mut self.progress);
        let read = checkpoint::read(folder, cache, &mut |bytes| progress.add(bytes), &mut |stored| {
            let covered = match keys.remove(&stored.key) {
                None => Some(joined(stored)),
                Some(entry) if entry.appends => value(stored.key, entry, stored.chunks, stored.cold)?,
                Some(entry) => value(stored.key, entry, Vec::new(), None)?,
            };
            covered.map_or(Ok(()), &mut *visit)
        })?;
        if read.version != self.checkpoint {
            let (folder, version) = (folder.display(), read.version);
            return Err(Error::Corruption(format!("{folder}: it is the checkpoint of version {version}")));
        }
        Ok(read.bytes)
    }

    /// Passes on the keys that the checkpoint does not have. Other threads decode them.
    pub(super) fn visit_rest(self, visit: &mut dyn FnMut(StoredValue) -> Result<(), Error>) -> Result<(), Error> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(self.keys.len() / GROUP + 1);
        let keys = Mutex::new(self.keys.into_iter());
        let next_group = || -> Vec<(Vec<u8>, Entry)> {
            keys.lock().unwrap_or_else(PoisonError::into_inner).by_ref().take(GROUP).collect()
        };
        std::thread::scope(|scope| {
            let (decoded, groups) = mpsc::sync_channel(threads);
            for _ in 0..threads {
                let decoded = decoded.clone();
                let decode = move || {
                    loop {
                        let group = next_group();
                        if group.is_empty() {
                            return;
                        }
                        let values =
                            group.into_iter().filter_map(|(key, entry)| value(key, entry, vec![], None).transpose());
                        let values = values.collect::<Result<Vec<_>, Error>>();
                        if decoded.send(values).is_err() {
                            return;
                        }
                    }
                };
                let thread = std::thread::Builder::new().name("khonsu decoder".into());
                let failed = |cause| Error::Storage(format!("decoding: no thread for it: {cause}"));
                thread.spawn_scoped(scope, decode).map_err(failed)?;
            }
            drop(decoded);
            for group in groups {
                group?.into_iter().try_for_each(&mut *visit)?;
            }
            Ok(())
        })
    }
}

/// The prepared transaction that stands in a place of a log that was just replayed.
pub(super) fn prepared(folder: &Path, place: &Place) -> Result<StoredPrepared, Error> {
    place.read(folder, |body| {
        let PreparedHead { id, time_micros, held, commit, .. } = note::read_prepared(body)?;
        let numbers = commit::schemas(commit)?;
        let mut mutations = Vec::new();
        let read = commit::read(commit, |stored| {
            // Commits name schemas by their numbers in the segment, and this one by those in its list.
            let position = numbers.iter().position(|number| Some(*number) == stored.schema);
            let schema = position.and_then(|position| place.schemas.get(position));
            let decode = |messages: &&[u8]| match schema {
                Some(schema) => BatchDecoder::new(schema.clone()).decode(&Buffer::from_slice_ref(*messages)),
                None => Err(Error::Corruption("a schema was not defined".to_owned())),
            };
            let chunks = stored.chunks.iter().map(decode).collect::<Result<Vec<_>, Error>>()?;
            let change = match stored.action {
                Action::Put => Change::Put(chunks),
                Action::Append => Change::Append(chunks),
                Action::Delete => Change::Delete,
            };
            mutations.push(Mutation { key: stored.key.to_vec(), change });
            Ok(())
        })?;
        Some(read.map(|()| StoredPrepared { id, time_micros, mutations, held }))
    })
}

fn value(
    key: Vec<u8>,
    entry: Entry,
    mut chunks: Vec<RecordBatch>,
    cold: Option<Cold>,
) -> Result<Option<StoredValue>, Error> {
    for Encoded { decoder, messages } in entry.chunks {
        chunks.push(decoder.decode(&messages)?);
    }
    let some = !chunks.is_empty() || cold.is_some();
    Ok(some.then(|| joined(StoredValue { key, version: entry.version, chunks, cold })))
}

/// Makes one chunk of several, where their types allow it.
fn joined(mut stored: StoredValue) -> StoredValue {
    if let [first, _, ..] = stored.chunks.as_slice()
        && let Ok(chunk) = concat_batches(first.schema_ref(), &stored.chunks)
    {
        stored.chunks = vec![chunk];
    }
    stored
}

impl Replay for Overlay {
    fn define(&mut self, message: &[u8]) -> Result<SchemaRef, Error> {
        if let Some(schema) = self.schemas.get(message) {
            return Ok(schema.clone());
        }
        let schema = ipc::decode_schema(message)?;
        self.schemas.insert(message.to_vec(), schema.clone());
        let decoder = Arc::new(BatchDecoder::new(schema.clone()));
        self.decoders.insert(Arc::as_ptr(&schema).addr(), decoder);
        Ok(schema)
    }

    fn commit(&mut self, version: u64, body: &[u8], schemas: &[SchemaRef]) -> Option<Result<(), Error>> {
        if version <= self.checkpoint {
            return Some(Ok(()));
        }
        let (keys, decoders, known) = (&mut self.keys, &self.decoders, version);
        commit::read(body, |mutation| {
            let decoder = match mutation.schema {
                None => None,
                Some(number) => {
                    let schema = schemas.get(number as usize).map(|schema| Arc::as_ptr(schema).addr());
                    let decoder = schema.and_then(|address| decoders.get(&address));
                    Some(decoder.ok_or_else(|| Error::Corruption(format!("schema {number} was not defined")))?)
                }
            };
            let encoded = decoder.iter().flat_map(|decoder| {
                let encoded = |messages: &&[u8]| Encoded {
                    decoder: Arc::clone(decoder),
                    messages: Buffer::from_slice_ref(*messages),
                };
                mutation.chunks.iter().map(encoded)
            });
            match keys.get_mut(mutation.key) {
                Some(entry) => {
                    entry.version = known;
                    if mutation.action != Action::Append {
                        entry.chunks.clear();
                        entry.appends = false;
                    }
                    entry.chunks.extend(encoded);
                }
                None => {
                    let (appends, chunks) = (mutation.action == Action::Append, encoded.collect());
                    keys.insert(mutation.key.to_vec(), Entry { version: known, appends, chunks });
                }
            }
            Ok(())
        })
    }

    fn progress(&mut self, bytes: u64) {
        self.progress.add(bytes);
    }
}
