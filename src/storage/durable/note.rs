//! Notes on prepared transactions as bodies of frames.
//!
//! | frame | body |
//! |---|---|
//! | prepared | time (8), lengths of the id and of what it holds (8 each), the id, what it holds; then as a commit of version 0 |
//! | deciding commit | time (8), decision (4), length of the id (4), the id; then as a commit |
//! | decided | the same without a commit |
//! | forgotten | length of the id (8), the id |
//! | repeated | how many of the first notes of the log are not needed any more (8), number of outcomes (8), and of each: version (8), then as decided |
//!
//! What is held is the number of keys (8) and of ranges (8); of each key its length (8) and the key; of each range its
//! two bounds, each with its kind (4), its length (4) and the key. Ids and keys are filled up to a multiple of 8. A
//! decision is 1 for commit, 2 for rollback, and 4 more where an operator has taken it.

use std::ops::Bound;

use super::body::Reader;
use super::frame;
use crate::stm::{Decision, GlobalId, Held, KeyRange, Outcome};

const COMMIT: u32 = 1;
const ROLLBACK: u32 = 2;
const HEURISTIC: u32 = 4;

const UNBOUNDED: u32 = 0;
const INCLUDED: u32 = 1;
const EXCLUDED: u32 = 2;

/// What a note says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Noted {
    /// It is in doubt from now on.
    Prepared(GlobalId),
    /// It is decided.
    Decided(Outcome),
    /// Its outcome is not remembered any more.
    Forgotten(GlobalId),
    /// So many of the first notes are not needed any more, and these are all outcomes that are remembered, the oldest
    /// first.
    Repeated(u64, Vec<Outcome>),
}

/// The head of a prepared transaction.
pub(super) fn prepared(id: &GlobalId, time_micros: i64, held: &Held) -> Vec<u8> {
    let held = encode_held(held);
    let mut head = time_micros.to_le_bytes().to_vec();
    push(&mut head, id.as_bytes().len());
    push(&mut head, held.len());
    push_padded(&mut head, id.as_bytes());
    head.extend_from_slice(&held);
    head
}

/// The head of a decision.
pub(super) fn decided(outcome: &Outcome) -> Vec<u8> {
    let mut head = Vec::new();
    push_decided(&mut head, outcome);
    head
}

fn push_decided(head: &mut Vec<u8>, outcome: &Outcome) {
    let id = outcome.id.as_bytes();
    let decision = match outcome.decision {
        Decision::Commit => COMMIT,
        Decision::Rollback => ROLLBACK,
    };
    let heuristic = if outcome.heuristic { HEURISTIC } else { 0 };
    head.extend_from_slice(&outcome.time_micros.to_le_bytes());
    head.extend_from_slice(&(decision | heuristic).to_le_bytes());
    head.extend_from_slice(&(id.len() as u32).to_le_bytes());
    push_padded(head, id);
}

/// The body that forgets an outcome.
pub(super) fn forgotten(id: &GlobalId) -> Vec<u8> {
    let mut body = Vec::new();
    push(&mut body, id.as_bytes().len());
    push_padded(&mut body, id.as_bytes());
    body
}

/// The body behind notes that were repeated.
pub(super) fn repeated(needless: u64, outcomes: &[Outcome]) -> Vec<u8> {
    let mut body = needless.to_le_bytes().to_vec();
    push(&mut body, outcomes.len());
    for outcome in outcomes {
        body.extend_from_slice(&outcome.version.to_le_bytes());
        push_decided(&mut body, outcome);
    }
    body
}

fn push(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend_from_slice(&(number as u64).to_le_bytes());
}

fn push_padded(bytes: &mut Vec<u8>, what: &[u8]) {
    bytes.extend_from_slice(what);
    frame::pad(bytes);
}

fn encode_held(held: &Held) -> Vec<u8> {
    let mut bytes = Vec::new();
    push(&mut bytes, held.keys.len());
    push(&mut bytes, held.ranges.len());
    for key in &held.keys {
        push(&mut bytes, key.len());
        push_padded(&mut bytes, key);
    }
    for bound in held.ranges.iter().flat_map(|range| [&range.start, &range.end]) {
        let (kind, key) = match bound {
            Bound::Unbounded => (UNBOUNDED, [].as_slice()),
            Bound::Included(key) => (INCLUDED, key.as_slice()),
            Bound::Excluded(key) => (EXCLUDED, key.as_slice()),
        };
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
        push_padded(&mut bytes, key);
    }
    bytes
}

fn decode_held(bytes: &[u8]) -> Option<Held> {
    let mut reader = Reader(bytes);
    let (keys, ranges) = (reader.u64()?, reader.u64()?);
    // Nothing is reserved for what is counted: it has to be there first.
    let mut held = Held::default();
    for _ in 0..keys {
        let len = usize::try_from(reader.u64()?).ok()?;
        held.keys.push(reader.padded(len)?.to_vec());
    }
    let bound = |reader: &mut Reader<'_>| {
        let (kind, len) = (reader.u32()?, reader.u32()?);
        let key = reader.padded(len as usize)?.to_vec();
        match kind {
            UNBOUNDED => key.is_empty().then_some(Bound::Unbounded),
            INCLUDED => Some(Bound::Included(key)),
            EXCLUDED => Some(Bound::Excluded(key)),
            _ => None,
        }
    };
    for _ in 0..ranges {
        let (start, end) = (bound(&mut reader)?, bound(&mut reader)?);
        held.ranges.push(KeyRange::new(start, end));
    }
    reader.0.is_empty().then_some(held)
}

/// What stands in front of the commit of a prepared transaction.
pub(super) struct PreparedHead<'a> {
    pub(super) id: GlobalId,
    pub(super) time_micros: i64,
    pub(super) held: Held,
    /// All of that as it is stored.
    pub(super) bytes: &'a [u8],
    /// Its mutations, as those of a commit.
    pub(super) commit: &'a [u8],
}

/// A prepared transaction. `None`: the body is not that of one.
pub(super) fn read_prepared(body: &[u8]) -> Option<PreparedHead<'_>> {
    let mut reader = Reader(body);
    let time_micros = reader.u64()? as i64;
    let (id_len, held_len) = (usize::try_from(reader.u64()?).ok()?, usize::try_from(reader.u64()?).ok()?);
    let id = read_id(&mut reader, id_len)?;
    let held = decode_held(reader.padded(held_len)?)?;
    let commit = reader.0;
    Some(PreparedHead { id, time_micros, held, bytes: &body[..body.len() - commit.len()], commit })
}

/// A decision, without the version of its commit, and what is behind it. `None`: the body does not begin with one.
pub(super) fn read_decided(body: &[u8]) -> Option<(Outcome, &[u8])> {
    let mut reader = Reader(body);
    let (time_micros, decision, id_len) = (reader.u64()? as i64, reader.u32()?, reader.u32()?);
    let (decision, heuristic) = (decision & !HEURISTIC, decision & HEURISTIC != 0);
    let decision = match decision {
        COMMIT => Decision::Commit,
        ROLLBACK => Decision::Rollback,
        _ => return None,
    };
    let id = read_id(&mut reader, id_len as usize)?;
    Some((Outcome { id, decision, heuristic, time_micros, version: 0 }, reader.0))
}

/// Which outcome is forgotten.
pub(super) fn read_forgotten(body: &[u8]) -> Option<GlobalId> {
    let mut reader = Reader(body);
    let len = usize::try_from(reader.u64()?).ok()?;
    let id = read_id(&mut reader, len)?;
    reader.0.is_empty().then_some(id)
}

/// How many notes are not needed any more, and the outcomes.
pub(super) fn read_repeated(body: &[u8]) -> Option<(u64, Vec<Outcome>)> {
    let mut reader = Reader(body);
    let (needless, count) = (reader.u64()?, reader.u64()?);
    let mut outcomes = Vec::new();
    for _ in 0..count {
        let version = reader.u64()?;
        let (outcome, rest) = read_decided(reader.0)?;
        outcomes.push(Outcome { version, ..outcome });
        reader = Reader(rest);
    }
    reader.0.is_empty().then_some((needless, outcomes))
}

fn read_id(reader: &mut Reader<'_>, len: usize) -> Option<GlobalId> {
    GlobalId::new(reader.padded(len)?).ok()
}
