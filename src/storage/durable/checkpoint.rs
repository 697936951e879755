//! Checkpoints: all keys at one version, in a directory of their own.

use std::path::Path;

use arrow_buffer::Buffer;

use super::commit::{self, Prepared};
use super::file::{self, File};
use super::format;
use super::frame::{self, Kind, Summed};
use super::ipc::{self, BatchDecoder};
use crate::stm::Error;
use crate::storage::{Change, Mutation, Snapshot, StoredValue};

pub(super) struct Checkpoint {
    pub(super) version: u64,
    pub(super) bytes: u64,
}

pub(super) fn write(parent: &Path, snapshot: &mut dyn Snapshot) -> Result<Checkpoint, Error> {
    let version = snapshot.version();
    let folder = format::checkpoint_path(parent, version);
    let unfinished = format::temporary(&folder);
    if file::is_directory(&unfinished) {
        file::remove_directory(&unfinished)?;
    }
    file::create_directory(&unfinished)?;
    let file = File::create(&unfinished.join("frames"))?;
    let mut frames = Vec::new();
    snapshot.visit(&mut |StoredValue { key, version: written, chunks }| {
        let schema = Summed::new(ipc::encode_schema(chunks[0].schema_ref())?);
        frame::append(&mut frames, version, 0, Kind::Schema, &[], &schema);
        let prepared = Prepared::new(&[Mutation { key, change: Change::Put(chunks) }])?;
        frame::append(&mut frames, version, 0, Kind::Commit, &commit::head(written, &[0]), &prepared.tail);
        Ok(())
    })?;
    frame::append(&mut frames, version, 0, Kind::End, &[], &Summed::new(Vec::new()));
    file.write_all_at(&frames, 0)?;
    file.sync()?;
    file::sync_directory(&unfinished)?;
    file::rename(&unfinished, &folder)?;
    file::sync_directory(parent)?;
    Ok(Checkpoint { version, bytes: frames.len() as u64 })
}

pub(super) fn read(
    folder: &Path,
    progress: &mut dyn FnMut(u64),
    visit: &mut dyn FnMut(StoredValue) -> Result<(), Error>,
) -> Result<Checkpoint, Error> {
    let corruption = || Error::Corruption(format!("{} at offset 0", folder.display()));
    let name = folder.file_name().and_then(|name| name.to_str()).ok_or_else(corruption)?;
    let version: u64 = name.trim_start_matches("checkpoint-").parse().map_err(|_| corruption())?;
    let file = File::open_read(&folder.join("frames"))?;
    let mut data = vec![0; file.len()? as usize];
    file.read_exact_at(&mut data, 0)?;
    progress(data.len() as u64);
    let (mut offset, mut schema) = (0, None);
    loop {
        let frame = frame::read(&data[offset..], version).ok_or_else(corruption)?;
        match frame.kind {
            Kind::Start => return Err(corruption()),
            Kind::Schema => schema = Some(ipc::decode_schema(frame.body)?),
            Kind::Commit => {
                let decoder = BatchDecoder::new(schema.clone().ok_or_else(corruption)?);
                let version = commit::version(frame.body).ok_or_else(corruption)?;
                commit::read(frame.body, |mutation| {
                    let chunks = mutation.chunks.iter().map(|chunk| decoder.decode(&Buffer::from_slice_ref(*chunk)));
                    let chunks = chunks.collect::<Result<Vec<_>, Error>>()?;
                    visit(StoredValue { key: mutation.key.to_vec(), version, chunks })
                })
                .ok_or_else(corruption)??;
            }
            Kind::End => return Ok(Checkpoint { version, bytes: data.len() as u64 }),
        }
        offset += frame::HEADER + frame.body.len();
    }
}
