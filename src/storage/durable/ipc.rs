//! Chunks as Arrow IPC messages: those of the dictionaries, then that of the record batch.

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::FileDecoder;
use arrow_ipc::writer::{
    DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message,
};
use arrow_ipc::{Block, MessageHeader, MetadataVersion, convert, root_as_message};
use arrow_schema::{ArrowError, Schema, SchemaRef};

use crate::stm::Error;

/// Before the length of a message's metadata.
const CONTINUATION: [u8; 4] = [0xff; 4];

fn encoding(cause: ArrowError) -> Error {
    Error::Storage(format!("encoding: {cause}"))
}

fn damaged(cause: impl std::fmt::Display) -> Error {
    Error::Corruption(format!("decoding: {cause}"))
}

fn schema_message(schema: &Schema, dictionaries: &mut DictionaryTracker, options: &IpcWriteOptions) -> EncodedData {
    IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(schema, dictionaries, options)
}

/// The message that defines a schema.
pub(super) fn encode_schema(schema: &Schema) -> Result<Vec<u8>, Error> {
    let (options, mut bytes) = (IpcWriteOptions::default(), Vec::new());
    let message = schema_message(schema, &mut DictionaryTracker::new(false), &options);
    write_message(&mut bytes, message, &options).map_err(encoding)?;
    Ok(bytes)
}

/// What a message defines.
pub(super) fn decode_schema(bytes: &[u8]) -> Result<SchemaRef, Error> {
    let metadata = metadata(bytes)?;
    let message = root_as_message(metadata).map_err(damaged)?;
    let schema = message.header_as_schema().ok_or_else(|| damaged("no schema"))?;
    convert::try_fb_to_schema(schema).map(SchemaRef::new).map_err(damaged)
}

/// Appends the messages of a batch.
pub(super) fn encode_batch(batch: &RecordBatch, bytes: &mut Vec<u8>) -> Result<(), Error> {
    let (options, mut tracker) = (IpcWriteOptions::default(), DictionaryTracker::new(false));
    // It numbers the dictionaries.
    schema_message(batch.schema_ref(), &mut tracker, &options);
    let mut context = IpcWriteContext::default();
    let encoded = IpcDataGenerator::default().encode(batch, &mut tracker, &options, &mut context);
    let (dictionaries, batch) = encoded.map_err(encoding)?;
    for message in dictionaries.into_iter().chain([batch]) {
        write_message(&mut *bytes, message, &options).map_err(encoding)?;
    }
    Ok(())
}

/// The metadata of the first message.
fn metadata(bytes: &[u8]) -> Result<&[u8], Error> {
    let found = bytes.strip_prefix(&CONTINUATION).and_then(|rest| {
        let (len, rest) = rest.split_first_chunk()?;
        rest.get(..usize::try_from(i32::from_le_bytes(*len)).ok()?)
    });
    found.ok_or_else(|| damaged("no message"))
}

/// Makes batches of their messages.
#[derive(Debug)]
pub(super) struct BatchDecoder {
    schema: SchemaRef,
}

impl BatchDecoder {
    pub(super) fn new(schema: SchemaRef) -> BatchDecoder {
        BatchDecoder { schema }
    }

    /// The batch, whose buffers are parts of `messages`.
    pub(super) fn decode(&self, messages: &Buffer) -> Result<RecordBatch, Error> {
        let mut decoder = FileDecoder::new(self.schema.clone(), MetadataVersion::V5);
        let mut offset = 0;
        loop {
            let rest = messages.slice(offset);
            let head = metadata(&rest)?;
            let metadata_len = head.len() + 8;
            let message = root_as_message(head).map_err(damaged)?;
            let body = usize::try_from(message.bodyLength()).map_err(damaged)?;
            let end = metadata_len.checked_add(body).filter(|&end| end <= rest.len());
            let end = end.ok_or_else(|| damaged("a message beyond the end"))?;
            let block = Block::new(0, metadata_len as i32, body as i64);
            let rest = rest.slice_with_length(0, end);
            match message.header_type() {
                MessageHeader::DictionaryBatch => decoder.read_dictionary(&block, &rest).map_err(damaged)?,
                _ => {
                    let batch = decoder.read_record_batch(&block, &rest).map_err(damaged)?;
                    return batch.ok_or_else(|| damaged("no batch"));
                }
            }
            offset += end;
        }
    }
}
