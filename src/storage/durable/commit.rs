//! Commits as bodies of frames.
//!
//! The head, made when the commit's place is known: version (8 bytes), number of schemas (4), the number of each in the
//! segment (4 each), filled up to a multiple of 8. The tail, made before: number of mutations (8), and of each: kind
//! (4), length of the key (4), schema as a position in the head's list (4), number of chunks (4), key; and of each
//! chunk its length (8) and its IPC messages. Keys and chunks are filled up to a multiple of 8.

use arrow_schema::SchemaRef;

use super::body::Reader;
use super::frame::{self, Summed};
use super::ipc;
use crate::stm::Error;
use crate::storage::{Change, Mutation, same_schema};

const PUT: u32 = 1;
const APPEND: u32 = 2;
const DELETE: u32 = 3;

/// A commit as [`DurableStorage`](super::DurableStorage) prepares it.
#[derive(Debug)]
pub struct Prepared {
    /// The schemas in the order in which the tail names them.
    pub(super) schemas: Vec<SchemaRef>,
    pub(super) tail: Summed,
}

impl Prepared {
    pub(super) fn new(mutations: &[Mutation]) -> Result<Prepared, Error> {
        let mut schemas: Vec<SchemaRef> = Vec::new();
        let mut tail = Vec::new();
        tail.extend_from_slice(&(mutations.len() as u64).to_le_bytes());
        for Mutation { key, change } in mutations {
            let (kind, chunks) = match change {
                Change::Put(chunks) => (PUT, chunks.as_slice()),
                Change::Append(chunks) => (APPEND, chunks.as_slice()),
                Change::Delete => (DELETE, [].as_slice()),
            };
            let schema = match chunks.first() {
                Some(chunk) => position(&mut schemas, chunk.schema_ref()),
                None if kind == DELETE => 0,
                None => return Err(Error::Storage("a value without chunks cannot be stored".into())),
            };
            for number in [kind, small(key.len())?, schema, small(chunks.len())?] {
                tail.extend_from_slice(&number.to_le_bytes());
            }
            tail.extend_from_slice(key);
            frame::pad(&mut tail);
            for chunk in chunks {
                let length_at = tail.len();
                tail.extend_from_slice(&[0; 8]);
                ipc::encode_batch(chunk, &mut tail)?;
                frame::pad(&mut tail);
                let length = (tail.len() - length_at - 8) as u64;
                tail[length_at..length_at + 8].copy_from_slice(&length.to_le_bytes());
            }
        }
        Ok(Prepared { schemas, tail: Summed::new(tail) })
    }
}

fn small(number: usize) -> Result<u32, Error> {
    u32::try_from(number).map_err(|_| Error::Storage(format!("{number} is more than can be stored")))
}

fn position(schemas: &mut Vec<SchemaRef>, schema: &SchemaRef) -> u32 {
    let found = schemas.iter().rposition(|known| same_schema(known, schema)).unwrap_or_else(|| {
        schemas.push(schema.clone());
        schemas.len() - 1
    });
    found as u32
}

/// The head of a commit.
pub(super) fn head(version: u64, schemas: &[u32]) -> Vec<u8> {
    let mut head = version.to_le_bytes().to_vec();
    head.extend_from_slice(&(schemas.len() as u32).to_le_bytes());
    for number in schemas {
        head.extend_from_slice(&number.to_le_bytes());
    }
    frame::pad(&mut head);
    head
}

/// What a stored mutation does, with the messages of the chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Put,
    Append,
    Delete,
}

/// A mutation in the body of a frame.
pub(super) struct StoredMutation<'a> {
    pub(super) key: &'a [u8],
    pub(super) action: Action,
    /// The schema's number in the segment; none for a deletion.
    pub(super) schema: Option<u32>,
    /// The IPC messages of each chunk.
    pub(super) chunks: Vec<&'a [u8]>,
}

/// The numbers of the schemas that the body of a commit names.
pub(super) fn schemas(body: &[u8]) -> Option<Vec<u32>> {
    let mut reader = Reader(body);
    reader.u64()?;
    read_schemas(&mut reader)
}

/// The mutations in the body of a commit, as [`Prepared`] has them.
pub(super) fn tail(body: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(body);
    reader.u64()?;
    read_schemas(&mut reader)?;
    Some(reader.0)
}

fn read_schemas(reader: &mut Reader<'_>) -> Option<Vec<u32>> {
    let count = reader.u32()? as usize;
    // The count of schemas is 4 bytes beyond a multiple of 8.
    let mut numbers = Reader(reader.take(count.checked_mul(4)?.checked_add(4)?.checked_next_multiple_of(8)? - 4)?);
    (0..count).map(|_| numbers.u32()).collect()
}

/// The version of the commit in a body.
pub(super) fn version(body: &[u8]) -> Option<u64> {
    Reader(body).u64()
}

/// Passes the mutations of a commit to `visit`. `None`: the body is not that of a commit.
pub(super) fn read<'a>(
    body: &'a [u8],
    mut visit: impl FnMut(StoredMutation<'a>) -> Result<(), Error>,
) -> Option<Result<(), Error>> {
    let mut reader = Reader(body);
    reader.u64()?;
    let schemas = read_schemas(&mut reader)?;
    for _ in 0..reader.u64()? {
        let (kind, key_len) = (reader.u32()?, reader.u32()?);
        let (schema, chunk_count) = (reader.u32()?, reader.u32()?);
        let key = reader.padded(key_len as usize)?;
        let action = match kind {
            PUT => Action::Put,
            APPEND => Action::Append,
            DELETE => Action::Delete,
            _ => return None,
        };
        if (action == Action::Delete) != (chunk_count == 0) {
            return None;
        }
        let schema = if action == Action::Delete { None } else { Some(*schemas.get(schema as usize)?) };
        let mut chunks = Vec::new();
        for _ in 0..chunk_count {
            let len = usize::try_from(reader.u64()?).ok()?;
            chunks.push(reader.padded(len)?);
        }
        if let Err(error) = visit(StoredMutation { key, action, schema, chunks }) {
            return Some(Err(error));
        }
    }
    reader.0.is_empty().then_some(Ok(()))
}
