//! Arrow IPC files and streams of batches: reading batch by batch, writing beside and renaming over.
//!
//! A file is not trusted: every length in it is compared with the file's size before memory is taken
//! for it, decoding runs under `catch_unwind`, and the values are validated before a batch goes out.

use super::batch::Batch;
use super::concat::concat_record_batches;
use super::raw::ArrowArrayStream;
use super::schema::SchemaRef;
use super::stream::{StreamReader, export_stream};
use super::{catch, within};
use crate::ffi::error::Failure;
use arrow_array::RecordBatch;
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, StreamDecoder, read_footer_length};
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use arrow_ipc::{Block, CompressionType, Message, root_as_footer, root_as_message};
use arrow_schema::ArrowError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const MAGIC: &[u8; 6] = b"ARROW1";
/// In front of a message's length; old streams lack it.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// What ends a stream.
const END_OF_STREAM: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
/// The most that a byte of a ZSTD frame stands for: four bytes say "128 KiB of this byte". LZ4 stays
/// far below.
const MAX_COMPRESSION_RATIO: u64 = 32 << 10;

/// What [`write`] writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// With a footer, for random access (`.arrow`).
    File,
    /// Without a footer (`.arrows`).
    Stream,
}

/// How [`write`] compresses the buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4 frames.
    Lz4,
    /// ZSTD.
    Zstd,
}

/// Opens an Arrow IPC file, in the file or the stream format, as a stream that reads batch by batch.
///
/// STORAGE when it cannot be read, CORRUPTION when it is no Arrow IPC file or a damaged one; what is
/// found damaged later, the stream says when it comes there.
pub fn open(path: &Path) -> Result<ArrowArrayStream, Failure> {
    let (schema, batches) = Batches::open(path)?;
    Ok(export_stream(schema, batches))
}

/// The batches of a file.
struct Batches {
    source: Source,
    schema: SchemaRef,
    /// For messages.
    path: PathBuf,
}

enum Source {
    File {
        input: Input,
        decoder: FileDecoder,
        blocks: std::vec::IntoIter<Block>,
    },
    Stream {
        input: Input,
        decoder: Box<StreamDecoder>,
        /// What the decoder has not taken yet.
        pending: Buffer,
        /// Decoded on the way to the schema.
        first: Option<RecordBatch>,
        ended: bool,
    },
}

impl Batches {
    fn open(path: &Path) -> Result<(SchemaRef, Batches), Failure> {
        let place = || path.display();
        let (source, schema) = catch(|| Source::open(path))
            .unwrap_or_else(|panic| Err(Failure::corruption(panic)))
            .map_err(|failure| within(place(), failure))?;
        let schema = SchemaRef::from_arrow_ref(&schema)
            .map_err(|failure| within(place(), Failure::corruption(failure.into_details().message)))?;
        let batches = Batches { source, schema: schema.clone(), path: path.to_path_buf() };
        Ok((schema, batches))
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, Failure>;

    fn next(&mut self) -> Option<Result<Batch, Failure>> {
        let next = catch(|| {
            let Some(batch) = self.source.next()? else {
                return Ok(None);
            };
            let batch = Batch::from_untrusted(&batch, &self.schema)
                .map_err(|failure| Failure::corruption(failure.into_details().message))?;
            Ok(Some(batch))
        });
        next.unwrap_or_else(|panic| Err(Failure::corruption(panic)))
            .map_err(|failure| within(self.path.display(), failure))
            .transpose()
    }
}

impl Source {
    fn open(path: &Path) -> Result<(Source, arrow_schema::SchemaRef), Failure> {
        let mut input = Input::open(path)?;
        if input.size >= MAGIC.len() as u64 {
            let mut magic = [0; MAGIC.len()];
            input.read_exact(&mut magic)?;
            if &magic == MAGIC {
                return Source::open_file(input);
            }
            input.seek(0)?;
        }
        Source::open_stream(input)
    }

    fn open_file(mut input: Input) -> Result<(Source, arrow_schema::SchemaRef), Failure> {
        let tail = 10;
        if input.size < tail {
            return Err(Failure::corruption("the file ends before its footer"));
        }
        input.seek(input.size - tail)?;
        let mut end = [0; 10];
        input.read_exact(&mut end)?;
        let length = read_footer_length(end).map_err(damaged)? as u64;
        if length > input.size - tail {
            return Err(Failure::corruption(format!("the footer has {length} bytes, the file {}", input.size)));
        }
        input.seek(input.size - tail - length)?;
        let mut bytes = vec![0; length as usize];
        input.read_exact(&mut bytes)?;
        let footer =
            root_as_footer(&bytes).map_err(|error| Failure::corruption(format!("the footer is malformed: {error}")))?;
        let schema = footer.schema().ok_or_else(|| Failure::corruption("the footer has no schema"))?;
        if !schema.endianness().equals_to_target_endianness() {
            return Err(Failure::corruption("the file was written with another byte order"));
        }
        let schema = Arc::new(try_fb_to_schema(schema).map_err(damaged)?);
        let mut decoder = FileDecoder::new(schema.clone(), footer.version());
        if let Some(dictionaries) = footer.dictionaries() {
            for block in dictionaries {
                let bytes = input.block(block)?;
                decoder.read_dictionary(block, &bytes).map_err(damaged)?;
            }
        }
        let blocks: Vec<Block> =
            footer.recordBatches().map(|blocks| blocks.iter().copied().collect()).unwrap_or_default();
        let source = Source::File { input, decoder, blocks: blocks.into_iter() };
        Ok((source, schema))
    }

    fn open_stream(mut input: Input) -> Result<(Source, arrow_schema::SchemaRef), Failure> {
        let mut decoder = Box::new(StreamDecoder::new());
        let mut first = None;
        let mut pending = Buffer::from(Vec::<u8>::new());
        let mut ended = false;
        // The decoder takes a message that has no body, as the schema has none, with the next one.
        let schema = loop {
            if let Some(schema) = decoder.schema() {
                break schema;
            }
            if ended {
                return Err(Failure::corruption("it has no Arrow schema"));
            }
            pending = input.message()?.unwrap_or_else(|| {
                ended = true;
                Buffer::from(END_OF_STREAM.to_vec())
            });
            first = decoder.decode(&mut pending).map_err(damaged)?;
        };
        let source = Source::Stream { input, decoder, pending, first, ended };
        Ok((source, schema))
    }

    fn next(&mut self) -> Result<Option<RecordBatch>, Failure> {
        match self {
            Source::File { input, decoder, blocks } => {
                let Some(block) = blocks.next() else {
                    return Ok(None);
                };
                let bytes = input.block(&block)?;
                let batch = decoder.read_record_batch(&block, &bytes).map_err(damaged)?;
                batch.map(Some).ok_or_else(|| Failure::corruption("a block holds no batch"))
            }
            Source::Stream { input, decoder, pending, first, ended } => loop {
                if let Some(batch) = first.take() {
                    return Ok(Some(batch));
                }
                if !pending.is_empty() {
                    *first = decoder.decode(pending).map_err(damaged)?;
                } else if *ended {
                    decoder.finish().map_err(damaged)?;
                    return Ok(None);
                } else {
                    *pending = input.message()?.unwrap_or_else(|| {
                        *ended = true;
                        Buffer::from(END_OF_STREAM.to_vec())
                    });
                }
            },
        }
    }
}

/// A file with its size, which bounds what is read into memory.
struct Input {
    reader: BufReader<File>,
    size: u64,
    position: u64,
}

impl Input {
    fn open(path: &Path) -> Result<Input, Failure> {
        // Asked before it is opened: opening a named pipe waits for a writer.
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(Failure::storage("it is not a regular file"));
        }
        let file = File::open(path).map_err(unreadable)?;
        Ok(Input { reader: BufReader::with_capacity(128 << 10, file), size: metadata.len(), position: 0 })
    }

    fn seek(&mut self, position: u64) -> Result<(), Failure> {
        self.reader.seek(SeekFrom::Start(position)).map_err(unreadable)?;
        self.position = position;
        Ok(())
    }

    fn left(&self) -> u64 {
        self.size.saturating_sub(self.position)
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), Failure> {
        if bytes.len() as u64 > self.left() {
            return Err(Failure::corruption(format!(
                "it ends at byte {}, in the middle of {} bytes",
                self.size,
                bytes.len()
            )));
        }
        self.reader.read_exact(bytes).map_err(unreadable)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// A message and its body, from where the footer says they are.
    fn block(&mut self, block: &Block) -> Result<Buffer, Failure> {
        let range =
            (u64::try_from(block.offset()), u64::try_from(block.metaDataLength()), u64::try_from(block.bodyLength()));
        let (Ok(offset), Ok(metadata), Ok(body)) = range else {
            return Err(Failure::corruption("the footer has a negative length"));
        };
        let fits =
            offset.checked_add(metadata).and_then(|end| end.checked_add(body)).is_some_and(|end| end <= self.size);
        if !fits || metadata < 8 {
            return Err(Failure::corruption(format!(
                "the footer has a block of {metadata} and {body} bytes at {offset}"
            )));
        }
        self.seek(offset)?;
        // Both fit into the file.
        let mut bytes = MutableBuffer::from_len_zeroed((metadata + body) as usize);
        self.read_exact(bytes.as_slice_mut())?;
        let (head, tail) = bytes.split_at(metadata as usize);
        let start = if head.starts_with(&CONTINUATION) { 8 } else { 4 };
        let message = root_as_message(&head[start..])
            .map_err(|error| Failure::corruption(format!("a message is malformed: {error}")))?;
        check_sizes(&message, tail)?;
        Ok(bytes.into())
    }

    /// The next message of a stream with its body; None at its end.
    fn message(&mut self) -> Result<Option<Buffer>, Failure> {
        if self.left() == 0 {
            // Writers may leave the end mark out.
            return Ok(None);
        }
        let mut word = [0; 4];
        self.read_exact(&mut word)?;
        if word == CONTINUATION {
            self.read_exact(&mut word)?;
        }
        let length = u64::from(u32::from_le_bytes(word));
        if length == 0 {
            return Ok(None);
        }
        if length > self.left() {
            return Err(Failure::corruption(format!(
                "a message of {length} bytes is cut off, or this is no Arrow IPC file"
            )));
        }
        let metadata = length as usize;
        let mut bytes = MutableBuffer::from_len_zeroed(8 + metadata);
        bytes[..4].copy_from_slice(&CONTINUATION);
        bytes[4..8].copy_from_slice(&word);
        self.read_exact(&mut bytes[8..])?;
        let body = root_as_message(&bytes[8..])
            .map_err(|error| Failure::corruption(format!("a message is malformed: {error}")))?
            .bodyLength();
        let body = u64::try_from(body)
            .ok()
            .filter(|body| *body <= self.left())
            .ok_or_else(|| Failure::corruption(format!("a message's body of {body} bytes is cut off")))?;
        bytes.resize(8 + metadata + body as usize, 0);
        self.read_exact(&mut bytes[8 + metadata..])?;
        let message = root_as_message(&bytes[8..8 + metadata])
            .map_err(|error| Failure::corruption(format!("a message is malformed: {error}")))?;
        check_sizes(&message, &bytes[8 + metadata..])?;
        Ok(Some(bytes.into()))
    }
}

/// Checks the sizes that compressed buffers say they have: the decoder takes as much memory before it
/// decompresses.
fn check_sizes(message: &Message<'_>, body: &[u8]) -> Result<(), Failure> {
    let batch = message
        .header_as_record_batch()
        .or_else(|| message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data()));
    let Some(batch) = batch.filter(|batch| batch.compression().is_some()) else {
        return Ok(());
    };
    for buffer in batch.buffers().into_iter().flatten() {
        let bytes = usize::try_from(buffer.offset())
            .ok()
            .zip(usize::try_from(buffer.length()).ok())
            .and_then(|(offset, length)| body.get(offset..offset.checked_add(length)?))
            .ok_or_else(|| Failure::corruption("a buffer lies outside of its message"))?;
        let Some((prefix, compressed)) = bytes.split_first_chunk::<8>() else {
            // Empty; shorter ones are refused by the decoder.
            continue;
        };
        // 0 stands for none and -1 for "not compressed".
        let Ok(size) = u64::try_from(i64::from_le_bytes(*prefix)) else {
            continue;
        };
        let possible = compressed.len() as u64 * MAX_COMPRESSION_RATIO;
        let fits = || Vec::<u8>::new().try_reserve_exact(usize::try_from(size).unwrap_or(usize::MAX)).is_ok();
        if size > possible || !fits() {
            return Err(Failure::corruption(format!(
                "a buffer of {} bytes cannot hold {size} bytes",
                compressed.len()
            )));
        }
    }
    Ok(())
}

fn unreadable(error: io::Error) -> Failure {
    Failure::storage(error.to_string())
}

/// A failure of the decoder, which reads from memory only: its I/O errors are the decompressors'.
fn damaged(error: ArrowError) -> Failure {
    Failure::corruption(error.to_string())
}

/// Writes the stream's batches as an Arrow IPC file. The stream is always consumed. The file is
/// written beside `path`, synced, and renamed over it: `path` is whole or untouched.
///
/// In the file format a dictionary cannot change from batch to batch, so batches with dictionaries are
/// held in memory and written as one.
///
/// STORAGE when the file cannot be written, LIMIT_EXCEEDED when the dictionaries of all batches do not
/// fit into one, INVALID_ARGUMENT when a type cannot be written as IPC, and what the stream fails with.
///
/// # Safety
/// As for [`StreamReader::open`].
pub unsafe fn write(
    path: &Path,
    stream: *mut ArrowArrayStream,
    format: Format,
    compression: Compression,
) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    let reader = unsafe { StreamReader::open(stream) }?;
    let temporary = Temporary::create(path).map_err(|failure| within(path.display(), failure))?;
    write_batches(temporary, reader, format, compression)
        .and_then(|temporary| temporary.replace(path))
        .map_err(|failure| within(path.display(), failure))
}

enum Writer {
    File(Box<FileWriter<BufWriter<Temporary>>>),
    Stream(Box<StreamWriter<BufWriter<Temporary>>>),
}

fn write_batches(
    temporary: Temporary,
    reader: StreamReader,
    format: Format,
    compression: Compression,
) -> Result<Temporary, Failure> {
    let schema = reader.schema().clone();
    let output = BufWriter::with_capacity(128 << 10, temporary);
    let mut writer = attempt(|| {
        let options = IpcWriteOptions::default().try_with_compression(match compression {
            Compression::None => None,
            Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
            Compression::Zstd => Some(CompressionType::ZSTD),
        })?;
        Ok(match format {
            Format::File => Writer::File(Box::new(FileWriter::try_new_with_options(output, schema.arrow(), options)?)),
            Format::Stream => {
                Writer::Stream(Box::new(StreamWriter::try_new_with_options(output, schema.arrow(), options)?))
            }
        })
    })?;
    let mut write = |batch: &RecordBatch| {
        attempt(|| match &mut writer {
            Writer::File(writer) => writer.write(batch),
            Writer::Stream(writer) => writer.write(batch),
        })
    };
    if format == Format::File && schema.layout().has_dictionary() {
        let parts = reader.map(|batch| batch?.to_record_batch()).collect::<Result<Vec<RecordBatch>, Failure>>()?;
        if !parts.is_empty() {
            write(&concat_record_batches(schema.arrow(), &parts)?)?;
        }
    } else {
        for batch in reader {
            write(&batch?.to_record_batch()?)?;
        }
    }
    let output = attempt(|| match writer {
        Writer::File(writer) => writer.into_inner(),
        Writer::Stream(writer) => writer.into_inner(),
    })?;
    output.into_inner().map_err(|error| Failure::storage(error.to_string()))
}

/// Runs a step of the writing.
fn attempt<T>(step: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, Failure> {
    match catch(step) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(ArrowError::IoError(text, _))) => Err(Failure::storage(text)),
        Ok(Err(error)) => Err(Failure::invalid_argument(error.to_string())),
        Err(panic) => Err(Failure::invalid_argument(panic)),
    }
}

/// A new file beside the one that it is to replace; removed unless it does.
struct Temporary {
    file: File,
    path: PathBuf,
    replaced: bool,
}

impl Temporary {
    fn create(target: &Path) -> Result<Temporary, Failure> {
        /// Tells apart what this process writes at once.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let Some(name) = target.file_name() else {
            return Err(Failure::invalid_argument("the path does not name a file"));
        };
        loop {
            let mut beside = std::ffi::OsString::from(".");
            beside.push(name);
            // Relaxed: the numbers need to differ, nothing more.
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            beside.push(format!(".{}-{number}.tmp", std::process::id()));
            let path = target.with_file_name(beside);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    return Ok(Temporary { file, path, replaced: false });
                }
                // Left behind by a process of the same number that was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Failure::storage(error.to_string())),
            }
        }
    }

    fn replace(mut self, target: &Path) -> Result<(), Failure> {
        let replaced = self.file.sync_all().and_then(|()| fs::rename(&self.path, target));
        replaced.map_err(|error| Failure::storage(error.to_string()))?;
        self.replaced = true;
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // The rename itself is in the directory.
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| Failure::storage(format!("written, but not synced: {error}")))
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.replaced {
            // Nothing is to be done about a file that cannot be removed.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    /// A directory of its own for each test, removed with it.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let path = std::env::temp_dir().join(format!("khonsu-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Directory(path)
        }

        fn file(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn entries(&self) -> usize {
            fs::read_dir(&self.0).unwrap().count()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn stream_of(batches: &[RecordBatch]) -> ArrowArrayStream {
        let schema = SchemaRef::from_arrow(&batches[0].schema()).unwrap();
        let batches: Vec<_> = batches.iter().map(|batch| Batch::from_record_batch(batch, &schema)).collect();
        export_stream(schema, batches.into_iter())
    }

    fn save(path: &Path, batches: &[RecordBatch], format: Format, compression: Compression) {
        let mut stream = stream_of(batches);
        // SAFETY: made by `export_stream`.
        unsafe { write(path, &mut stream, format, compression) }.unwrap();
        assert!(stream.release.is_none());
    }

    fn load(path: &Path) -> Result<Vec<RecordBatch>, Failure> {
        let mut stream = open(path)?;
        // SAFETY: made by `open`.
        let reader = unsafe { StreamReader::open(&mut stream) }?;
        reader.map(|batch| batch?.to_record_batch()).collect()
    }

    const FORMATS: [Format; 2] = [Format::File, Format::Stream];
    const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

    #[test]
    fn every_type_survives_every_form() {
        let directory = Directory::new("forms");
        let path = directory.file("batches");
        let batches: Vec<RecordBatch> = [3, 0, 150].map(|rows| samples::batch_of(samples::columns(rows))).to_vec();
        let rows = arrow_select::concat::concat_batches(&batches[0].schema(), &batches).unwrap();
        for format in FORMATS {
            for compression in COMPRESSIONS {
                save(&path, &batches, format, compression);
                let back = load(&path).unwrap();
                assert_eq!(back[0].schema(), batches[0].schema());
                let whole = arrow_select::concat::concat_batches(&back[0].schema(), &back).unwrap();
                assert_eq!(whole.num_rows(), rows.num_rows());
                for column in 0..rows.num_columns() {
                    for row in 0..rows.num_rows() {
                        assert_eq!(
                            whole.column(column).slice(row, 1).as_ref(),
                            rows.column(column).slice(row, 1).as_ref(),
                            "{format:?} {compression:?} {}",
                            rows.schema().field(column).name()
                        );
                    }
                }
            }
        }
        assert_eq!(directory.entries(), 1);
    }

    #[test]
    fn batches_stay_apart_and_empty_ones_survive() {
        let directory = Directory::new("empty");
        let path = directory.file("batches");
        let without_columns = RecordBatch::try_new_with_options(
            Arc::new(arrow_schema::Schema::empty()),
            vec![],
            &arrow_array::RecordBatchOptions::new().with_row_count(Some(3)),
        )
        .unwrap();
        for format in FORMATS {
            save(&path, &[samples::small(), samples::small()], format, Compression::None);
            assert_eq!(load(&path).unwrap(), [samples::small(), samples::small()]);
            let batches = [without_columns.clone(), without_columns.clone()];
            save(&path, &batches, format, Compression::None);
            assert_eq!(load(&path).unwrap(), batches);
            let schema = SchemaRef::from_arrow(&samples::small().schema()).unwrap();
            let mut none = export_stream(schema, std::iter::empty());
            // SAFETY: made by `export_stream`.
            unsafe { write(&path, &mut none, format, Compression::Zstd) }.unwrap();
            assert_eq!(load(&path).unwrap(), []);
            assert_eq!(open(&path).map(drop).map_err(|failure| failure.into_details().message), Ok(()));
        }
    }

    #[test]
    fn what_cannot_be_read_or_is_no_arrow_is_told_apart() {
        let directory = Directory::new("absent");
        let status = |path: &Path| load(path).unwrap_err().status;
        assert_eq!(status(&directory.file("absent")), Failure::storage("").status);
        assert_eq!(status(&directory.0), Failure::storage("").status);
        for content in [&b""[..], b"ARROW1", b"ARROW1\0\0ARROW1", b"hello, world", &[0; 64], &[0xff; 64]] {
            let path = directory.file("content");
            fs::write(&path, content).unwrap();
            assert_eq!(status(&path), Failure::corruption("").status, "{content:?}");
        }
    }

    #[test]
    fn a_failure_leaves_the_target_untouched() {
        let directory = Directory::new("untouched");
        let path = directory.file("batches");
        save(&path, &[samples::small()], Format::File, Compression::None);
        let schema = SchemaRef::from_arrow(&samples::small().schema()).unwrap();
        for format in FORMATS {
            let batch = Batch::from_record_batch(&samples::small(), &schema);
            let failure = Err(Failure::limit_exceeded("enough"));
            let mut stream = export_stream(schema.clone(), vec![batch, failure].into_iter());
            // SAFETY: made by `export_stream`.
            let failure = unsafe { write(&path, &mut stream, format, Compression::None) }.unwrap_err();
            assert_eq!(failure.status, Failure::limit_exceeded("").status);
            assert!(stream.release.is_none());
            assert_eq!(load(&path).unwrap(), [samples::small()]);
            assert_eq!(directory.entries(), 1);
        }
        // The stream is consumed when there is no place to write to, too.
        for path in [directory.file("no/such/directory"), PathBuf::from("/"), directory.0.clone()] {
            let mut stream = stream_of(&[samples::small()]);
            // SAFETY: made by `export_stream`.
            unsafe { write(&path, &mut stream, Format::File, Compression::None) }.unwrap_err();
            assert!(stream.release.is_none());
        }
        assert_eq!(directory.entries(), 1);
        // SAFETY: NULL is checked.
        unsafe { write(&path, std::ptr::null_mut(), Format::File, Compression::None) }.unwrap_err();
        assert_eq!(load(&path).unwrap(), [samples::small()]);
    }

    #[test]
    fn truncated_files_are_damaged() {
        let directory = Directory::new("truncated");
        let path = directory.file("batches");
        for format in FORMATS {
            save(&path, &[samples::batch_of(samples::columns(20))], format, Compression::None);
            let whole = fs::read(&path).unwrap();
            let mut complete = 0;
            for length in (0..whole.len()).step_by(whole.len() / 150 + 1) {
                fs::write(&path, &whole[..length]).unwrap();
                match load(&path) {
                    Err(failure) => assert_eq!(failure.status, Failure::corruption("").status),
                    // A stream may end after any whole message.
                    Ok(_) => complete += 1,
                }
            }
            assert!(complete <= if format == Format::Stream { 3 } else { 0 });
        }
    }

    /// A compressed buffer that claims to be larger than any machine's memory.
    #[test]
    fn absurd_sizes_take_no_memory() {
        let directory = Directory::new("absurd");
        let path = directory.file("batches");
        let values: arrow_array::Int64Array = (0..4000).map(|value| value % 7).collect();
        let batch = samples::batch_of(vec![("a".to_string(), Arc::new(values) as _)]);
        for format in FORMATS {
            for compression in [Compression::Lz4, Compression::Zstd] {
                save(&path, std::slice::from_ref(&batch), format, compression);
                let whole = fs::read(&path).unwrap();
                let size = 32_000i64.to_le_bytes();
                let place = whole.windows(8).position(|bytes| bytes == size).unwrap();
                for claimed in [1i64 << 46, i64::MAX, 1 << 33] {
                    let mut damaged = whole.clone();
                    damaged[place..place + 8].copy_from_slice(&claimed.to_le_bytes());
                    fs::write(&path, &damaged).unwrap();
                    let failure = load(&path).unwrap_err();
                    assert_eq!(failure.status, Failure::corruption("").status);
                    assert!(failure.message.contains("cannot hold"), "{}", failure.message);
                }
            }
        }
    }

    /// Random damage, from a fixed seed: a status or a batch, never a panic.
    #[test]
    fn damaged_files_give_a_status() {
        let directory = Directory::new("damaged");
        let path = directory.file("batches");
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = move |bound: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % bound as u64) as usize
        };
        let hook = std::panic::take_hook();
        // arrow-rs panics on some of these; the text would drown the tests' own.
        std::panic::set_hook(Box::new(|_| {}));
        let mut statuses = Vec::new();
        for format in FORMATS {
            for compression in COMPRESSIONS {
                save(&path, &[samples::batch_of(samples::columns(5))], format, compression);
                let whole = fs::read(&path).unwrap();
                for _ in 0..500 {
                    let mut damaged = whole.clone();
                    for _ in 0..1 + next(4) {
                        let place = next(damaged.len());
                        damaged[place] = match next(4) {
                            0 => 0,
                            1 => 0xff,
                            2 => damaged[place] ^ (1 << next(8)),
                            _ => next(256) as u8,
                        };
                    }
                    fs::write(&path, &damaged).unwrap();
                    statuses.push(load(&path).map(drop).map_err(|failure| failure.status));
                }
            }
        }
        std::panic::set_hook(hook);
        let damaged = statuses.iter().filter(|status| status.is_err()).count();
        assert!(damaged > statuses.len() / 4);
        for status in statuses.into_iter().filter_map(Result::err) {
            assert_eq!(status, Failure::corruption("").status);
        }
    }
}
