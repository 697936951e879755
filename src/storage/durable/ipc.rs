//! Batches and schemas as Arrow IPC messages, without compression. A batch is its dictionaries, each in a message, and
//! then a message with its rows; a schema, which is written once for many batches, says which dictionary is whose.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{read_dictionary, read_record_batch};
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message};
use arrow_ipc::{Message, MetadataVersion, root_as_message};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};

use crate::stm::Error;

/// In front of the length of each message.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// Continuation and length.
const PREFIX: usize = 8;

/// What ends a stream of messages.
pub(super) const END_OF_STREAM: [u8; PREFIX] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

fn options() -> Result<IpcWriteOptions, Error> {
    // Most batches are small, and wider types are aligned when they are read.
    IpcWriteOptions::try_new(8, false, MetadataVersion::V5).map_err(unencodable)
}

fn unencodable(cause: ArrowError) -> Error {
    Error::Storage(format!("encoding a batch: {cause}"))
}

/// The message that defines a schema.
pub(super) fn encode_schema(schema: &Schema) -> Result<Vec<u8>, Error> {
    let options = options()?;
    let mut tracker = DictionaryTracker::new(false);
    let message = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(schema, &mut tracker, &options);
    let mut bytes = Vec::new();
    write_message(&mut bytes, message, &options).map_err(unencodable)?;
    Ok(bytes)
}

/// The schema that [`encode_schema`] has encoded.
pub(super) fn decode_schema(bytes: &[u8]) -> Result<SchemaRef, Error> {
    guarded(|| {
        let (_, message) = message(bytes)?;
        let schema = message.header_as_schema().ok_or_else(|| damaged(&"a message that is no schema"))?;
        Ok(SchemaRef::new(try_fb_to_schema(schema).map_err(|cause| damaged(&cause))?))
    })
}

/// Puts the messages of a batch behind `bytes`. Of sliced arrays they have what the slice shows.
pub(super) fn encode_batch(batch: &RecordBatch, bytes: &mut Vec<u8>) -> Result<(), Error> {
    let options = options()?;
    let generator = IpcDataGenerator::default();
    let mut tracker = DictionaryTracker::new(false);
    if batch.schema_ref().fields().iter().any(|field| has_dictionary(field)) {
        // It gives the dictionaries their numbers, those that the message of the schema has.
        generator.schema_to_bytes_with_dictionary_tracker(batch.schema_ref(), &mut tracker, &options);
    }
    let mut context = IpcWriteContext::default();
    let (dictionaries, rows) = generator.encode(batch, &mut tracker, &options, &mut context).map_err(unencodable)?;
    for message in dictionaries.into_iter().chain([rows]) {
        write_message(&mut *bytes, message, &options).map_err(unencodable)?;
    }
    Ok(())
}

fn has_dictionary(field: &Field) -> bool {
    match field.data_type() {
        DataType::Dictionary(..) => true,
        DataType::Union(fields, _) => fields.iter().any(|(_, field)| has_dictionary(field)),
        DataType::Struct(fields) => fields.iter().any(|field| has_dictionary(field)),
        DataType::RunEndEncoded(_, values) => has_dictionary(values),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => has_dictionary(field),
        _ => false,
    }
}

/// Decodes batches of one schema, which must be one that [`decode_schema`] gave.
#[derive(Debug)]
pub(super) struct BatchDecoder {
    schema: SchemaRef,
}

impl BatchDecoder {
    pub(super) fn new(schema: SchemaRef) -> BatchDecoder {
        BatchDecoder { schema }
    }

    /// The batch that begins with `bytes`, which may have more behind it. Its arrays are slices of them where the
    /// alignment allows it.
    pub(super) fn decode(&self, bytes: &Buffer) -> Result<RecordBatch, Error> {
        guarded(|| {
            let mut dictionaries = HashMap::new();
            let mut rest = bytes.clone();
            loop {
                let (extent, message) = message(&rest)?;
                let (body, version) = (rest.slice_with_length(extent.metadata, extent.body), message.version());
                if let Some(rows) = message.header_as_record_batch() {
                    let schema = self.schema.clone();
                    return read_record_batch(&body, rows, schema, &dictionaries, None, &version)
                        .map_err(|cause| damaged(&cause));
                }
                let found = message.header_as_dictionary_batch();
                let dictionary = found.ok_or_else(|| damaged(&"a message of another kind"))?;
                read_dictionary(&body, dictionary, &self.schema, &mut dictionaries, &version)
                    .map_err(|cause| damaged(&cause))?;
                rest = rest.slice(extent.metadata + extent.body);
            }
        })
    }
}

/// Where the parts of a message end.
struct Extent {
    /// Prefix and metadata.
    metadata: usize,
    body: usize,
}

/// The message that `bytes` begin with, all of which is there.
fn message(bytes: &[u8]) -> Result<(Extent, Message<'_>), Error> {
    let short = || damaged(&"a message that ends too early");
    let (prefix, rest) = bytes.split_at_checked(PREFIX).ok_or_else(short)?;
    let (continuation, length) = prefix.split_at(4);
    let length = length.try_into().map(u32::from_le_bytes).map_err(|_| short())? as usize;
    if continuation != CONTINUATION || length > rest.len() || length > i32::MAX as usize - PREFIX {
        return Err(short());
    }
    let (metadata, body) = rest.split_at(length);
    let message = root_as_message(metadata).map_err(|cause| damaged(&cause))?;
    match usize::try_from(message.bodyLength()) {
        Ok(length) if length <= body.len() => Ok((Extent { metadata: PREFIX + metadata.len(), body: length }, message)),
        _ => Err(short()),
    }
}

fn damaged(what: &dyn std::fmt::Display) -> Error {
    Error::Corruption(format!("an Arrow IPC message is damaged: {what}"))
}

/// Some damage makes arrow-ipc panic.
fn guarded<T>(decode: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // What is half-made is dropped.
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| Err(damaged(&"it cannot be decoded")))
}
