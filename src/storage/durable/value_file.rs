//! A file of a checkpoint, of which each block can be read alone.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{Array, BinaryArray, LargeListArray, RecordBatch, RecordBatchOptions, StructArray, UInt64Array};
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_schema::{DataType, Schema, SchemaRef};

use super::file::File;
use super::ipc::{self, BatchDecoder};
use crate::stm::{Error, Position};
use crate::storage::ValueFile;

/// Blocks that a cache has at most, of at most so many bytes.
const CACHED: usize = 16;
const LARGEST_CACHED: u64 = 1 << 20;

/// Part of a file that was written at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) length: u64,
    pub(super) checksum: u32,
}

/// An open file of values: a block with the schema, blocks of rows, and the end of the stream.
pub(super) struct BlockFile {
    file: File,
    /// For the cache.
    number: u64,
    blocks: Vec<(u64, Block)>,
    values: SchemaRef,
    decoder: BatchDecoder,
    cache: Arc<BlockCache>,
}

impl BlockFile {
    /// Opens a file that consists of `blocks`.
    pub(super) fn open(path: PathBuf, blocks: &[Block], cache: &Arc<BlockCache>) -> Result<BlockFile, Error> {
        static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);
        let file = File::open_read(&path)?;
        let length = file.len()?;
        let [first, ..] = blocks else {
            return Err(damaged(&path, 0, "it has no blocks"));
        };
        let mut end = Some(0_u64);
        let with_offset = |block: &Block| {
            let offset = end?;
            end = offset.checked_add(block.length);
            end.map(|_| (offset, *block))
        };
        let placed: Option<Vec<_>> = blocks.iter().map(with_offset).collect();
        let placed = placed.filter(|_| end == Some(length));
        let placed = placed.ok_or_else(|| damaged(&path, length, "the file does not end where it should"))?;
        let definition = read_block(&file, 0, *first)?;
        let rows = ipc::decode_schema(&definition).map_err(|cause| damaged(&path, 0, &cause.to_string()))?;
        let values = value_schema(&rows).ok_or_else(|| damaged(&path, 0, "its columns are not those of values"))?;
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        let (decoder, cache) = (BatchDecoder::new(rows), Arc::clone(cache));
        Ok(BlockFile { file, number, blocks: placed, values, decoder, cache })
    }

    pub(super) fn length(&self) -> u64 {
        self.blocks.last().map_or(0, |(offset, block)| offset + block.length)
    }

    /// Bytes of the schema.
    pub(super) fn head(&self) -> u64 {
        self.blocks.first().map_or(0, |(_, block)| block.length)
    }

    /// Reads and checks a block; `None` for the end of the stream.
    pub(super) fn rows(&self, number: u32) -> Result<Option<Rows>, Error> {
        let path = self.file.path();
        let Some((offset, block)) = self.blocks.get(number as usize).filter(|_| number > 0) else {
            return Err(damaged(path, self.length(), "the end of the stream is missing"));
        };
        let bytes = read_block(&self.file, *offset, *block)?;
        if number as usize + 1 == self.blocks.len() {
            return match bytes.as_slice() == ipc::END_OF_STREAM {
                true => Ok(None),
                false => Err(damaged(path, *offset, "the end of the stream is missing")),
            };
        }
        let decoded = self.decoder.decode(&bytes);
        let decoded = decoded.map_err(|cause| damaged(path, *offset, &cause.to_string()))?;
        let rows = Rows::of(&decoded, self.values.clone(), block.length);
        rows.map(Some).ok_or_else(|| damaged(path, *offset, "its columns are not those of values"))
    }

    /// The same by way of the cache.
    fn cached_rows(&self, number: u32) -> Result<Arc<Rows>, Error> {
        if let Some(rows) = self.cache.get(self.number, number) {
            return Ok(rows);
        }
        let path = self.file.path();
        let rows = self.rows(number)?.ok_or_else(|| damaged(path, self.length(), "a value is not there"))?;
        let rows = Arc::new(rows);
        self.remember(number, &rows);
        Ok(rows)
    }

    /// Lets the cache have a block that was read.
    pub(super) fn remember(&self, number: u32, rows: &Arc<Rows>) {
        self.cache.put(self.number, number, rows);
    }
}

impl ValueFile for BlockFile {
    fn schema(&self) -> SchemaRef {
        self.values.clone()
    }

    fn read(&self, position: Position) -> Result<Vec<RecordBatch>, Error> {
        let Position { mut block, row, chunks } = position;
        let (mut row, mut left) = (row as usize, chunks as usize);
        let mut read = Vec::with_capacity(1);
        while left > 0 {
            let rows = self.cached_rows(block)?;
            let end = rows.len().min(row + left);
            if row < end {
                read.push(rows.chunk(row, end));
                left -= end - row;
            }
            (block, row) = (block + 1, 0);
        }
        Ok(read)
    }
}

/// The blocks that were read last, of all files of a storage. Values that are read one after the other share them.
#[derive(Default)]
pub(super) struct BlockCache(Mutex<VecDeque<CachedBlock>>);

struct CachedBlock {
    file: u64,
    block: u32,
    rows: Arc<Rows>,
}

impl BlockCache {
    fn get(&self, file: u64, block: u32) -> Option<Arc<Rows>> {
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = cached.iter().rposition(|cached| (cached.file, cached.block) == (file, block))?;
        let found = cached.remove(index)?;
        let rows = Arc::clone(&found.rows);
        cached.push_back(found);
        Some(rows)
    }

    /// Forgets all blocks.
    pub(super) fn clear(&self) {
        let forgotten = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        drop(forgotten);
    }

    fn put(&self, file: u64, block: u32, rows: &Arc<Rows>) {
        if rows.bytes > LARGEST_CACHED {
            return;
        }
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cached.push_back(CachedBlock { file, block, rows: Arc::clone(rows) });
        let oldest = if cached.len() > CACHED { cached.pop_front() } else { None };
        drop(cached);
        drop(oldest);
    }
}

/// The schema of the values of a stream.
fn value_schema(rows: &Schema) -> Option<SchemaRef> {
    let [key, version, value] = rows.fields().as_ref() else {
        return None;
    };
    let (DataType::Binary, DataType::UInt64, DataType::LargeList(item)) =
        (key.data_type(), version.data_type(), value.data_type())
    else {
        return None;
    };
    match item.data_type() {
        DataType::Struct(fields) => Some(Arc::new(Schema::new_with_metadata(fields.clone(), value.metadata().clone()))),
        _ => None,
    }
}

fn read_block(file: &File, offset: u64, block: Block) -> Result<Buffer, Error> {
    // The blocks fill the file, so there is as much.
    let mut bytes = MutableBuffer::from_len_zeroed(block.length as usize);
    file.read_exact_at(&mut bytes, offset)?;
    if crc32fast::hash(&bytes) != block.checksum {
        return Err(damaged(file.path(), offset, "the checksum does not fit"));
    }
    Ok(bytes.into())
}

fn damaged(path: &Path, offset: u64, what: &str) -> Error {
    Error::Corruption(format!("{} at offset {offset}: {what}", path.display()))
}

/// The items of all lists, one behind the other.
fn items_of(lists: &LargeListArray, schema: SchemaRef) -> Option<RecordBatch> {
    let items = lists.values().as_any().downcast_ref::<StructArray>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(items.len()));
    RecordBatch::try_new_with_options(schema, items.columns().to_vec(), &options).ok()
}

/// The rows of a block.
pub(super) struct Rows {
    keys: BinaryArray,
    versions: UInt64Array,
    lists: LargeListArray,
    items: RecordBatch,
    bytes: u64,
}

impl Rows {
    fn of(batch: &RecordBatch, schema: SchemaRef, bytes: u64) -> Option<Rows> {
        let lists = batch.column(2).as_any().downcast_ref::<LargeListArray>()?.clone();
        Some(Rows {
            keys: batch.column(0).as_any().downcast_ref::<BinaryArray>()?.clone(),
            versions: batch.column(1).as_any().downcast_ref::<UInt64Array>()?.clone(),
            items: items_of(&lists, schema)?,
            lists,
            bytes,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Of the block in the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn key(&self, row: usize) -> &[u8] {
        self.keys.value(row)
    }

    pub(super) fn version(&self, row: usize) -> u64 {
        self.versions.value(row)
    }

    /// The part of the block that a row takes, about.
    pub(super) fn bytes_of(&self, row: usize) -> u64 {
        let offsets = self.lists.value_offsets();
        // Each chunk for at least a row.
        let (part, all) = (offsets[row + 1] - offsets[row] + 1, self.items.num_rows() + self.len());
        (u128::from(self.bytes) * part as u128 / all as u128) as u64
    }

    /// The chunks of some rows as one, which keeps the whole block.
    pub(super) fn chunk(&self, first: usize, end: usize) -> RecordBatch {
        let (from, to) = (self.lists.value_offsets()[first] as usize, self.lists.value_offsets()[end] as usize);
        self.items.slice(from, to - from)
    }
}
