//! Checkpoints: what all keys were at one version, as Arrow IPC streams that other tools can read.
//!
//! A checkpoint is a directory with a stream for each schema of values, `<n>.arrows`, of the columns `key` (binary),
//! `version` (uint64) and `value` (large_list of struct): a row is a chunk, and the chunks of a key follow one another.
//! A batch of the stream, with its dictionaries before it, is a *block* of about 256 KiB, which can be read alone; so
//! are the schema in front and the end of the stream. `MANIFEST` has the length and CRC-32 of each block of each file:
//! no byte is without a checksum.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use arrow_array::{Array, ArrayRef, BinaryArray, LargeListArray, RecordBatch, StructArray, UInt64Array};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use arrow_select::concat::concat_batches;

use super::file::{self, File};
use super::format;
use super::ipc;
use super::value_file::{Block, BlockCache, BlockFile, Rows};
use crate::stm::{Error, Position};
use crate::storage::{Cold, Place, Snapshot, StoredValue, ValueFile, same_schema};

const MANIFEST: &str = "MANIFEST";
const MAGIC: &[u8; 8] = b"khonsucp";
/// Of the layout of a checkpoint, which exports have, too. It has not changed with the format of databases.
const VERSION: u64 = 1;
/// Bytes of values of one schema that make a block.
const BLOCK: u64 = 256 << 10;
/// Bytes of values that wait to become blocks, of all schemas together.
const WAITING: u64 = 64 << 20;
/// Blocks that are read ahead of those whose values are taken up.
const READ_AHEAD: usize = 4;
/// Files of a checkpoint that are kept open for values which are read back: those that have most of them.
const OPEN_FILES: usize = 64;

/// A checkpoint that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) version: u64,
    pub(super) keys: u64,
    /// Of all its files.
    pub(super) bytes: u64,
}

/// A checkpoint that was written, and where its values stand.
pub(super) struct Written {
    pub(super) checkpoint: Checkpoint,
    files: Vec<Vec<Block>>,
    /// In the order in which they were visited, each in one of the files; empty if nobody wants to know.
    positions: Vec<(u32, Position)>,
}

impl Written {
    /// The places of all values, in the order in which they were visited; `None` where the file cannot be kept open.
    pub(super) fn places(&self, parent: &Path, cache: &Arc<BlockCache>) -> impl Iterator<Item = Option<Place>> {
        let folder = format::checkpoint_path(parent, self.checkpoint.version);
        let mut open: Vec<Option<Arc<dyn ValueFile>>> = vec![None; self.files.len()];
        let wanted = if self.positions.is_empty() { HashSet::new() } else { kept_open(&self.files) };
        for number in wanted {
            let file = BlockFile::open(stream_path(&folder, number), &self.files[number], cache);
            open[number] = file.ok().map(|file| Arc::new(file) as Arc<dyn ValueFile>);
        }
        self.positions.iter().map(move |(file, position)| {
            let file = open[*file as usize].clone()?;
            Some(Place { file, position: *position })
        })
    }
}

/// The files of a checkpoint that are kept open for values which are read back.
fn kept_open(files: &[Vec<Block>]) -> HashSet<usize> {
    let mut largest: Vec<usize> = (0..files.len()).collect();
    largest.sort_by_key(|file| std::cmp::Reverse(files[*file].iter().map(|block| block.length).sum::<u64>()));
    largest.into_iter().take(OPEN_FILES).collect()
}

/// Writes what a snapshot has into the directory of a database. Under its name it is there whole, or not at all.
pub(super) fn write(parent: &Path, snapshot: &mut dyn Snapshot) -> Result<Written, Error> {
    let path = format::checkpoint_path(parent, snapshot.version());
    let unfinished = format::temporary(&path);
    if file::is_directory(&unfinished) {
        file::remove_directory(&unfinished)?;
    }
    // One of which it could not be said that it is on the disk: nobody goes on from it. Under another name first, as a
    // crash must not leave a part of it under this one.
    if file::is_directory(&path) {
        file::rename(&path, &unfinished)?;
        file::remove_directory(&unfinished)?;
    }
    let written = write_files(&unfinished, snapshot).and_then(|checkpoint| {
        file::rename(&unfinished, &path)?;
        file::sync_directory(parent)?;
        Ok(checkpoint)
    });
    if written.is_err() && file::is_directory(&unfinished) {
        // It is of no use to anybody, and removed at the next opening if it cannot be now.
        _ = file::remove_directory(&unfinished);
    }
    written
}

/// Writes the files of a checkpoint into a directory that is not there yet, and puts them on the disk.
pub(super) fn write_files(folder: &Path, snapshot: &mut dyn Snapshot) -> Result<Written, Error> {
    file::create_directory(folder)?;
    let version = snapshot.version();
    let positions = snapshot.wants_places().then(Vec::new);
    let mut writer = Writer { folder, streams: Vec::new(), by_address: HashMap::new(), waiting: 0, keys: 0, positions };
    snapshot.visit(&mut |stored| writer.add(stored))?;
    let written = writer.finish(version)?;
    file::sync_directory(folder)?;
    Ok(written)
}

struct Writer<'a> {
    folder: &'a Path,
    streams: Vec<Stream>,
    /// By the address of the schema, which the stream keeps.
    by_address: HashMap<usize, usize>,
    waiting: u64,
    keys: u64,
    /// Of the values in their files, as if each group that is flushed became one block.
    positions: Option<Vec<(u32, Position)>>,
}

impl Writer<'_> {
    fn add(&mut self, stored: StoredValue) -> Result<(), Error> {
        let Some(first) = stored.chunks.first() else {
            return Ok(());
        };
        let number = self.stream(first.schema_ref())?;
        let stream = &mut self.streams[number];
        self.keys += 1;
        // A large value gets a block of its own, so that what is beside it can be read without it.
        if stream.waiting > 0 && stored.chunks.iter().map(chunk_bytes).sum::<usize>() as u64 > BLOCK {
            self.waiting -= stream.flush()?;
        }
        if let Some(positions) = &mut self.positions {
            let (block, row) = (stream.blocks.len() as u32, stream.keys.len() as u32);
            positions.push((number as u32, Position { block, row, chunks: stored.chunks.len() as u32 }));
        }
        for chunk in stored.chunks {
            // At least what a row takes, so that many empty chunks do not wait for ever.
            let bytes = chunk.get_array_memory_size().min(chunk_bytes(&chunk)) as u64 + stored.key.len() as u64 + 16;
            stream.keys.push(stored.key.clone());
            stream.versions.push(stored.version);
            stream.chunks.push(chunk);
            stream.waiting += bytes;
            self.waiting += bytes;
        }
        if stream.waiting >= BLOCK {
            self.waiting -= stream.flush()?;
        } else if self.waiting >= WAITING {
            for stream in &mut self.streams {
                self.waiting -= stream.flush()?;
            }
        }
        Ok(())
    }

    fn stream(&mut self, schema: &SchemaRef) -> Result<usize, Error> {
        let address = Arc::as_ptr(schema).addr();
        if let Some(&number) = self.by_address.get(&address) {
            return Ok(number);
        }
        let number = match self.streams.iter().position(|stream| stream.is_of(schema)) {
            Some(number) => {
                // Kept, so that its address stays its own.
                self.streams[number].schemas.push(schema.clone());
                number
            }
            None => {
                self.streams.push(Stream::create(stream_path(self.folder, self.streams.len()), schema)?);
                self.streams.len() - 1
            }
        };
        self.by_address.insert(address, number);
        Ok(number)
    }

    fn finish(mut self, version: u64) -> Result<Written, Error> {
        let mut manifest = Manifest { version, keys: self.keys, files: Vec::new() };
        let mut bytes = 0;
        for stream in &mut self.streams {
            stream.flush()?;
            stream.append(&ipc::END_OF_STREAM)?;
            File::open(&stream.path)?.sync()?;
            bytes += stream.end;
            manifest.files.push(std::mem::take(&mut stream.blocks));
        }
        let encoded = manifest.encode();
        let file = File::create(&self.folder.join(MANIFEST))?;
        file.write_all_at(&encoded, 0)?;
        file.sync()?;
        let mut positions = self.positions.unwrap_or_default();
        for (file, Position { block, row, .. }) in &mut positions {
            if self.streams[*file as usize].split.contains(block) {
                (*block, *row) = (*block + *row, 0);
            }
        }
        let checkpoint = Checkpoint { version, keys: self.keys, bytes: bytes + encoded.len() as u64 };
        Ok(Written { checkpoint, files: manifest.files, positions })
    }
}

fn chunk_bytes(chunk: &RecordBatch) -> usize {
    chunk.columns().iter().filter_map(|column| column.to_data().get_slice_memory_size().ok()).sum()
}

/// The values of one schema.
struct Stream {
    path: PathBuf,
    /// The schema of the values, in all the objects that it was met in.
    schemas: Vec<SchemaRef>,
    /// That of the rows.
    rows: SchemaRef,
    end: u64,
    blocks: Vec<Block>,
    /// The first blocks of groups of which each row became a block of its own.
    split: HashSet<u32>,
    keys: Vec<Vec<u8>>,
    versions: Vec<u64>,
    chunks: Vec<RecordBatch>,
    waiting: u64,
}

impl Stream {
    fn create(path: PathBuf, schema: &SchemaRef) -> Result<Stream, Error> {
        File::create(&path)?;
        let rows = row_schema(schema);
        let mut stream = Stream {
            path,
            schemas: vec![schema.clone()],
            end: 0,
            blocks: Vec::new(),
            split: HashSet::new(),
            keys: Vec::new(),
            versions: Vec::new(),
            chunks: Vec::new(),
            waiting: 0,
            rows,
        };
        stream.append(&ipc::encode_schema(&stream.rows)?)?;
        Ok(stream)
    }

    fn is_of(&self, schema: &SchemaRef) -> bool {
        self.schemas.first().is_some_and(|first| same_schema(first, schema))
    }

    /// Writes what waits. Gives how many bytes that were.
    fn flush(&mut self) -> Result<u64, Error> {
        let keys = std::mem::take(&mut self.keys);
        let versions = std::mem::take(&mut self.versions);
        let chunks = std::mem::take(&mut self.chunks);
        if chunks.is_empty() {
            return Ok(0);
        }
        let schema = chunks[0].schema();
        match concat_batches(&schema, &chunks) {
            Ok(values) => self.write_block(&keys, versions, chunks.iter().map(RecordBatch::num_rows), values)?,
            // Not all types can be concatenated; alone each chunk can be written.
            Err(_) => {
                self.split.insert(self.blocks.len() as u32);
                for ((key, version), chunk) in keys.into_iter().zip(versions).zip(chunks) {
                    self.write_block(&[key], vec![version], [chunk.num_rows()], chunk)?;
                }
            }
        }
        Ok(std::mem::take(&mut self.waiting))
    }

    fn write_block(
        &mut self,
        keys: &[Vec<u8>],
        versions: Vec<u64>,
        lengths: impl IntoIterator<Item = usize>,
        values: RecordBatch,
    ) -> Result<(), Error> {
        let unwritable = |cause: ArrowError| Error::Storage(format!("writing {}: {cause}", self.path.display()));
        let DataType::LargeList(item) = self.rows.field(2).data_type() else {
            return Err(Error::Storage("the values of a checkpoint are lists".to_owned()));
        };
        let values =
            LargeListArray::try_new(item.clone(), OffsetBuffer::from_lengths(lengths), into_array(values), None)
                .map_err(unwritable)?;
        let keys = BinaryArray::from_iter_values(keys);
        let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(UInt64Array::from(versions)), Arc::new(values)];
        let rows = RecordBatch::try_new(self.rows.clone(), columns).map_err(unwritable)?;
        let mut bytes = Vec::new();
        ipc::encode_batch(&rows, &mut bytes)?;
        self.append(&bytes)
    }

    fn append(&mut self, block: &[u8]) -> Result<(), Error> {
        // Opened each time: there may be more schemas than files can be open.
        File::open(&self.path)?.write_all_at(block, self.end)?;
        self.blocks.push(Block { length: block.len() as u64, checksum: crc32fast::hash(block) });
        self.end += block.len() as u64;
        Ok(())
    }
}

fn into_array(batch: RecordBatch) -> ArrayRef {
    Arc::new(StructArray::from(batch))
}

fn stream_path(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("{number}.arrows"))
}

/// The columns of a stream of values of a schema, whose metadata the column of the values keeps.
fn row_schema(values: &Schema) -> SchemaRef {
    let item = Field::new("item", DataType::Struct(values.fields().clone()), false);
    let value = Field::new("value", DataType::LargeList(Arc::new(item)), false);
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Binary, false),
        Field::new("version", DataType::UInt64, false),
        value.with_metadata(values.metadata().clone()),
    ]))
}

/// What the files of a checkpoint consist of.
#[derive(Debug, PartialEq, Eq)]
struct Manifest {
    version: u64,
    keys: u64,
    /// The blocks of each file, from its beginning to its end.
    files: Vec<Vec<Block>>,
}

impl Manifest {
    /// Magic, version of the format (8 bytes each), version, keys, number of files; of each file number of blocks; of
    /// each block length (8) and checksum (4); and the CRC-32 of all that.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let mut push = |number: u64| bytes.extend_from_slice(&number.to_le_bytes());
        push(VERSION);
        push(self.version);
        push(self.keys);
        push(self.files.len() as u64);
        for file in &self.files {
            bytes.extend_from_slice(&(file.len() as u64).to_le_bytes());
            for block in file {
                bytes.extend_from_slice(&block.length.to_le_bytes());
                bytes.extend_from_slice(&block.checksum.to_le_bytes());
            }
        }
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Manifest> {
        let (content, checksum) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(content).to_le_bytes() != *checksum {
            return None;
        }
        let mut rest = content.strip_prefix(MAGIC)?;
        let mut take = |len: usize| {
            let (taken, left) = rest.split_at_checked(len)?;
            rest = left;
            let mut number = [0; 8];
            number[..len].copy_from_slice(taken);
            Some(u64::from_le_bytes(number))
        };
        if take(8)? != VERSION {
            return None;
        }
        let (version, keys, files) = (take(8)?, take(8)?, take(8)?);
        // What is counted has to be there before anything is reserved for it: each step takes from what is.
        let mut found = Vec::new();
        for _ in 0..files {
            let mut blocks = Vec::new();
            for _ in 0..take(8)? {
                blocks.push(Block { length: take(8)?, checksum: take(4)? as u32 });
            }
            found.push(blocks);
        }
        rest.is_empty().then_some(Manifest { version, keys, files: found })
    }

    fn read(folder: &Path) -> Result<(Manifest, u64), Error> {
        let path = folder.join(MANIFEST);
        let file = File::open_read(&path)?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let manifest = Manifest::decode(&bytes)
            .ok_or_else(|| Error::Corruption(format!("{} at offset 0: the checksum does not fit", path.display())))?;
        Ok((manifest, bytes.len() as u64))
    }
}

/// Passes the values of a checkpoint on, each key once, and what was read to `progress`. With a `cache`, which has the
/// blocks that were read last, the values are cold, as far as their files can be kept open.
pub(super) fn read(
    folder: &Path,
    cache: Option<&Arc<BlockCache>>,
    progress: &mut dyn FnMut(u64),
    visit: &mut dyn FnMut(StoredValue) -> Result<(), Error>,
) -> Result<Checkpoint, Error> {
    let (manifest, bytes) = Manifest::read(folder)?;
    progress(bytes);
    // The values of the others are taken up.
    let kept_open = cache.map_or(HashSet::new(), |_| kept_open(&manifest.files));
    let mut reading = Reading { kept_open, cold: false, visit, last: None, keys: 0, bytes };
    let unused = Arc::default();
    let cache = cache.unwrap_or(&unused);
    std::thread::scope(|scope| {
        // Reading, checking and decoding go on while values are taken up.
        let (sender, steps) = mpsc::sync_channel(READ_AHEAD);
        let files = &manifest.files;
        let read = move || read_blocks(folder, files, cache, |step| sender.send(step).is_ok());
        let thread = std::thread::Builder::new().name("khonsu reader".into());
        let failed = |cause| Error::Storage(format!("reading {}: no thread for it: {cause}", folder.display()));
        thread.spawn_scoped(scope, read).map_err(failed)?;
        steps.iter().try_for_each(|step| reading.step(step?, progress))
    })?;
    if reading.keys != manifest.keys {
        let (folder, keys) = (folder.display(), reading.keys);
        return Err(Error::Corruption(format!("{folder}: it has {keys} keys, and its manifest {}", manifest.keys)));
    }
    Ok(Checkpoint { version: manifest.version, keys: manifest.keys, bytes: reading.bytes })
}

/// What comes of reading the files of a checkpoint, one after the other.
enum Step {
    Opened(usize, Arc<BlockFile>),
    Block(Arc<BlockFile>, u32, Arc<Rows>),
    Ended,
}

/// Passes the steps on until `pass` has had enough.
fn read_blocks(
    folder: &Path,
    files: &[Vec<Block>],
    cache: &Arc<BlockCache>,
    pass: impl Fn(Result<Step, Error>) -> bool,
) {
    let read = || {
        for (number, blocks) in files.iter().enumerate() {
            let file = Arc::new(BlockFile::open(stream_path(folder, number), blocks, cache)?);
            let mut wanted = pass(Ok(Step::Opened(number, Arc::clone(&file))));
            for block in 1.. {
                let Some(rows) = file.rows(block)? else {
                    break;
                };
                wanted = wanted && pass(Ok(Step::Block(Arc::clone(&file), block, Arc::new(rows))));
                if !wanted {
                    return Ok(());
                }
            }
            if !pass(Ok(Step::Ended)) {
                return Ok(());
            }
        }
        Ok(())
    };
    if let Err(error) = read() {
        _ = pass(Err(error));
    }
}

/// Makes values of the steps.
struct Reading<'a> {
    /// The files whose values stay where they are.
    kept_open: HashSet<usize>,
    /// Whether this one is among them.
    cold: bool,
    visit: &'a mut dyn FnMut(StoredValue) -> Result<(), Error>,
    /// The value of the file that may go on.
    last: Option<StoredValue>,
    keys: u64,
    bytes: u64,
}

impl Reading<'_> {
    fn step(&mut self, step: Step, progress: &mut dyn FnMut(u64)) -> Result<(), Error> {
        match step {
            Step::Opened(number, file) => {
                self.cold = self.kept_open.contains(&number);
                self.bytes += file.length();
                progress(file.head());
                Ok(())
            }
            Step::Block(file, number, rows) => {
                progress(rows.bytes());
                if self.cold {
                    file.remember(number, &rows);
                }
                (0..rows.len()).try_for_each(|row| self.row(&file, number, &rows, row))
            }
            Step::Ended => {
                progress(ipc::END_OF_STREAM.len() as u64);
                self.pass_last(None)
            }
        }
    }

    fn row(&mut self, file: &Arc<BlockFile>, block: u32, rows: &Rows, row: usize) -> Result<(), Error> {
        let key = rows.key(row);
        if self.last.as_ref().is_none_or(|last| last.key != key) {
            let position = Position { block, row: row as u32, chunks: 0 };
            let place = || Place { file: Arc::clone(file) as Arc<dyn ValueFile>, position };
            let cold = self.cold.then(|| Cold { place: place(), bytes: 0 });
            let next = StoredValue { key: key.to_vec(), version: rows.version(row), chunks: Vec::new(), cold };
            self.pass_last(Some(next))?;
        }
        match &mut self.last {
            Some(StoredValue { cold: Some(cold), .. }) => {
                cold.place.position.chunks += 1;
                cold.bytes += rows.bytes_of(row);
            }
            Some(last) => last.chunks.push(rows.chunk(row, row + 1)),
            None => {}
        }
        Ok(())
    }

    fn pass_last(&mut self, next: Option<StoredValue>) -> Result<(), Error> {
        match std::mem::replace(&mut self.last, next) {
            Some(whole) => {
                self.keys += 1;
                (self.visit)(whole)
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use arrow_array::RecordBatchOptions;

    use super::*;
    use crate::samples;

    /// A folder of the test's own, gone when it ends.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("khonsu-checkpoint-{}-{name}", std::process::id()));
            _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            _ = fs::remove_dir_all(&self.0);
        }
    }

    struct Values(u64, Vec<StoredValue>);

    impl Snapshot for Values {
        fn version(&self) -> u64 {
            self.0
        }

        fn visit(&mut self, visit: &mut dyn FnMut(StoredValue) -> Result<(), Error>) -> Result<(), Error> {
            self.1.iter().cloned().try_for_each(visit)
        }
    }

    fn value(key: impl Into<Vec<u8>>, version: u64, chunks: Vec<RecordBatch>) -> StoredValue {
        StoredValue { key: key.into(), version, chunks, cold: None }
    }

    fn read_all(folder: &Path) -> Result<(Checkpoint, BTreeMap<Vec<u8>, StoredValue>), Error> {
        let (mut found, mut progress) = (BTreeMap::new(), 0);
        let checkpoint = read(folder, None, &mut |bytes| progress += bytes, &mut |stored| {
            assert!(found.insert(stored.key.clone(), stored).is_none(), "each key once");
            Ok(())
        })?;
        assert_eq!(progress, checkpoint.bytes);
        Ok((checkpoint, found))
    }

    fn assert_survives(values: Vec<StoredValue>, name: &str) -> (Folder, PathBuf) {
        let folder = Folder::new(name);
        let written = write(&folder.0, &mut Values(42, values.clone())).unwrap().checkpoint;
        let path = format::checkpoint_path(&folder.0, 42);
        let (checkpoint, found) = read_all(&path).unwrap();
        assert_eq!((checkpoint, checkpoint.keys), (written, values.len() as u64));
        let sizes = fs::read_dir(&path).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
        assert_eq!(sizes.sum::<u64>(), checkpoint.bytes);
        for value in values {
            let found = &found[&value.key];
            assert_eq!(found.version, value.version);
            assert_eq!(found.chunks, value.chunks, "{:?}", String::from_utf8_lossy(&value.key));
        }
        (folder, path)
    }

    #[test]
    fn values_of_every_type_survive() {
        let mut values = Vec::new();
        for (name, array) in samples::columns(20) {
            for (from, length) in [(0, 20), (3, 11), (5, 0)] {
                let column = vec![(name.clone(), array.slice(from, length))];
                let key = format!("{name} {from}");
                values.push(value(key, 7, vec![samples::batch_of(column)]));
            }
        }
        values.push(value("all", 8, vec![samples::batch_of(samples::columns(9))]));
        values.push(value("chunks", 9, vec![samples::small(), samples::small(), samples::small()]));
        let rows = RecordBatchOptions::new().with_row_count(Some(5));
        let none = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &rows).unwrap();
        values.push(value("no columns", 10, vec![none]));
        assert_survives(values, "types");
    }

    #[test]
    fn many_values_come_in_many_blocks() {
        let values = (0..3000_u64).map(|number| {
            let column: ArrayRef = Arc::new(UInt64Array::from_iter_values(number..number + number % 200));
            value(number.to_be_bytes(), number + 1, vec![samples::batch_of(vec![("n".to_owned(), column)])])
        });
        let (_folder, path) = assert_survives(values.collect(), "many");
        let (manifest, _) = Manifest::read(&path).unwrap();
        assert_eq!(manifest.files.len(), 1);
        assert!(manifest.files[0].len() > 8, "{} blocks", manifest.files[0].len());
        assert_survives(Vec::new(), "nothing");
    }

    #[test]
    fn every_flipped_bit_is_reported_with_its_file() {
        let column = |length: u64| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(0..length)) };
        let batch = |length| samples::batch_of(vec![("n".to_owned(), column(length))]);
        let values = (0..40_u64).map(|key| value(key.to_be_bytes(), 1, vec![batch(key % 7)]));
        let (_folder, path) = assert_survives(values.collect(), "flips");
        for file in fs::read_dir(&path).unwrap() {
            let file = file.unwrap().path();
            let whole = fs::read(&file).unwrap();
            let damaged = |bytes: &[u8]| {
                fs::write(&file, bytes).unwrap();
                match read_all(&path) {
                    Err(Error::Corruption(text)) => assert!(text.contains(file.to_str().unwrap()), "{text}"),
                    other => panic!("{}: {other:?}", file.display()),
                }
            };
            for position in (0..whole.len()).step_by(7) {
                let mut flipped = whole.clone();
                flipped[position] ^= 1 << (position % 8);
                damaged(&flipped);
            }
            for length in [0, 1, whole.len() / 2, whole.len() - 1] {
                damaged(&whole[..length]);
            }
            damaged(&[whole.as_slice(), b"more"].concat());
            fs::write(&file, &whole).unwrap();
        }
        read_all(&path).unwrap();
    }

    #[test]
    fn a_failed_checkpoint_leaves_nothing() {
        struct Failing;
        impl Snapshot for Failing {
            fn version(&self) -> u64 {
                3
            }

            fn visit(&mut self, visit: &mut dyn FnMut(StoredValue) -> Result<(), Error>) -> Result<(), Error> {
                visit(value("k", 1, vec![samples::small()]))?;
                Err(Error::Storage("enough".to_owned()))
            }
        }
        let folder = Folder::new("failed");
        assert_eq!(write(&folder.0, &mut Failing).err(), Some(Error::Storage("enough".to_owned())));
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
        let left = format::temporary(&format::checkpoint_path(&folder.0, 3));
        fs::create_dir(&left).unwrap();
        fs::write(left.join("7.arrows"), "of a crash").unwrap();
        write(&folder.0, &mut Values(3, vec![value("k", 1, vec![samples::small()])])).unwrap();
        assert_eq!(read_all(&format::checkpoint_path(&folder.0, 3)).unwrap().1.len(), 1);
    }
}
