//! Chunks as Arrow IPC messages.

use std::io::Cursor;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{Schema, SchemaRef};

use crate::stm::Error;

pub(super) fn encode_schema(schema: &Schema) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    StreamWriter::try_new(&mut bytes, schema).map_err(|cause| Error::Storage(cause.to_string()))?;
    Ok(bytes)
}

pub(super) fn decode_schema(bytes: &[u8]) -> Result<SchemaRef, Error> {
    let reader =
        StreamReader::try_new(Cursor::new(bytes), None).map_err(|cause| Error::Corruption(cause.to_string()))?;
    Ok(reader.schema())
}

pub(super) fn encode_batch(batch: &RecordBatch, bytes: &mut Vec<u8>) -> Result<(), Error> {
    let mut own = Vec::new();
    let write = |own: &mut Vec<u8>| -> Result<(), arrow_schema::ArrowError> {
        let mut writer = StreamWriter::try_new(own, &batch.schema())?;
        writer.write(batch)?;
        writer.finish()
    };
    write(&mut own).map_err(|cause| Error::Storage(cause.to_string()))?;
    bytes.extend_from_slice(&own);
    Ok(())
}

#[derive(Debug)]
pub(super) struct BatchDecoder;

impl BatchDecoder {
    pub(super) fn new(_: SchemaRef) -> BatchDecoder {
        BatchDecoder
    }

    pub(super) fn decode(&self, bytes: &Buffer) -> Result<RecordBatch, Error> {
        let mut reader = StreamReader::try_new(Cursor::new(bytes.as_slice()), None)
            .map_err(|cause| Error::Corruption(cause.to_string()))?;
        let batch = reader.next().ok_or_else(|| Error::Corruption("no batch".into()))?;
        batch.map_err(|cause| Error::Corruption(cause.to_string()))
    }
}
