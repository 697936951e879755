//! Chunks as Arrow IPC messages: those of the dictionaries, then that of the record batch.

use std::collections::HashMap;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::{read_dictionary, read_record_batch};
use arrow_ipc::writer::{
    DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message,
};
use arrow_ipc::{convert, root_as_message};
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
        let mut dictionaries = HashMap::new();
        let mut rest = messages.clone();
        loop {
            let metadata = metadata(&rest)?;
            let message = root_as_message(metadata).map_err(damaged)?;
            let begin = metadata.len() + 8;
            let len = usize::try_from(message.bodyLength()).map_err(damaged)?;
            let end = begin.checked_add(len).filter(|&end| end <= rest.len());
            let end = end.ok_or_else(|| damaged("a message beyond the end"))?;
            let body = rest.slice_with_length(begin, len);
            if let Some(batch) = message.header_as_record_batch() {
                let (schema, version) = (self.schema.clone(), message.version());
                return read_record_batch(&body, batch, schema, &dictionaries, None, &version).map_err(damaged);
            }
            let dictionary = message.header_as_dictionary_batch().ok_or_else(|| damaged("another message"))?;
            read_dictionary(&body, dictionary, &self.schema, &mut dictionaries, &message.version()).map_err(damaged)?;
            rest = rest.slice(end);
        }
    }
}
