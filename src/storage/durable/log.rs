//! The log: commits in the order of their versions, and notes on prepared transactions between them, appended to the
//! last of its segments.
//!
//! What the next write will write is collected in memory behind what is acknowledged there already; a failed write is
//! taken back to that. A segment is on the disk before the next one gets its first frame, so that only the last one
//! with frames can have a torn tail; that first frame says where the one before ended.
//!
//! A checkpoint takes the place of the commits of old segments, but not of their notes. So before those segments go, what
//! counts of their notes is *repeated* at the end of the log: each transaction in doubt, then all outcomes in one frame.
//! That frame says how many of the first notes of the log are not needed any more, as a checkpoint's version does of
//! commits; the first frame of each segment says how many notes there were before it.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use arrow_schema::{Fields, SchemaRef};

use super::body::Reader;
use super::commit::{self, Prepared};
use super::entry::Entry;
use super::file;
use super::format;
use super::frame::{self, Kind, Summed};
use super::ipc;
use super::ledger::{Ledger, Place};
use super::note::{self, Noted};
use super::segment::{self, Segment};
use crate::stm::{Durability, Error};
use crate::storage::{ApplyError, same_schema};

/// What is acknowledged in memory only is written when it has so many bytes.
const PENDING_BYTES: usize = 1 << 20;

/// Where a log goes on.
#[derive(Debug, Default)]
pub(super) struct End {
    /// Segments that are full, ascending.
    pub(super) full: Vec<FullSegment>,
    /// The segment to append to; none for a log without any.
    pub(super) last: Option<LastSegment>,
    /// The newest commit's version.
    pub(super) version: u64,
    /// Notes that were ever appended.
    pub(super) notes: u64,
    /// What they come to.
    pub(super) ledger: Ledger,
}

/// The segment to append to.
#[derive(Debug)]
pub(super) struct LastSegment {
    pub(super) segment: Segment,
    /// Where its frames end. That far it is on the disk.
    pub(super) end: u64,
    /// The schemas that are defined in it.
    pub(super) schemas: Vec<SchemaRef>,
}

/// A segment that is not written any more.
#[derive(Debug)]
pub(super) struct FullSegment {
    pub(super) number: u64,
    /// No commit in it is newer.
    pub(super) version: u64,
    /// Notes that were appended until its end.
    pub(super) notes: u64,
    /// Bytes of its frames.
    pub(super) bytes: u64,
}

/// The segments that a checkpoint makes superfluous.
#[derive(Debug, Clone, Copy)]
pub(super) struct Covered {
    /// The last one.
    last: u64,
    /// Notes that were appended until its end.
    notes: u64,
}

/// A log that is appended to.
#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    segment_bytes: u64,
    full: Vec<FullSegment>,
    segment: Segment,
    schemas: Schemas,
    /// Where the frames in the file end.
    written: u64,
    /// Up to where they are on the disk.
    durable: u64,
    /// Frames that are to be written behind them. Between calls, all are acknowledged.
    pending: Vec<u8>,
    /// The newest acknowledged commit's version.
    version: u64,
    /// Notes that are acknowledged, and what they come to.
    notes: u64,
    ledger: Ledger,
    next: Option<JoinHandle<Result<Segment, Error>>>,
    /// Why nothing is written any more.
    poison: Option<Error>,
}

impl Log {
    /// Goes on with a log, in segments of `segment_bytes` bytes.
    pub(super) fn new(folder: PathBuf, segment_bytes: u64, end: End) -> Result<Log, Error> {
        let mut pending = Vec::new();
        let last = match end.last {
            Some(last) => last,
            None => {
                let segment = Segment::create(&folder, 1, segment_bytes)?;
                pending = start_frame(&segment, 0, end.version, end.notes);
                LastSegment { segment, end: segment::HEADER as u64, schemas: Vec::new() }
            }
        };
        let mut schemas = Schemas::default();
        for schema in last.schemas {
            schemas.define(schema);
        }
        let mut log = Log {
            folder,
            segment_bytes,
            full: end.full,
            segment: last.segment,
            schemas,
            written: last.end,
            durable: last.end,
            pending,
            version: end.version,
            notes: end.notes,
            ledger: end.ledger,
            next: None,
            poison: None,
        };
        if log.segment.version < format::FORMAT_VERSION {
            // Its frames are those that its version has.
            log.rotate()?;
        }
        Ok(log)
    }

    /// Bytes of all frames.
    pub(super) fn bytes(&self) -> u64 {
        self.full.iter().map(|segment| segment.bytes).sum::<u64>() + self.written
    }

    /// Takes entries, each whole or not at all.
    pub(super) fn append(&mut self, entries: &[Entry<'_>], durability: Durability) -> Result<(), ApplyError> {
        let Err(cause) = self.append_group(entries, durability) else { return Ok(()) };
        if entries.len() <= 1 || self.poison.is_some() {
            return Err(ApplyError { applied: 0, cause });
        }
        for (applied, entry) in entries.iter().enumerate() {
            self.append_group(std::slice::from_ref(entry), durability)
                .map_err(|cause| ApplyError { applied, cause })?;
        }
        Ok(())
    }

    /// Takes all of the entries or, with an error, none.
    fn append_group(&mut self, entries: &[Entry<'_>], durability: Durability) -> Result<(), Error> {
        self.check()?;
        let (acknowledged, mut places) = self.collect(entries)?;
        let full = self.pending.len() >= PENDING_BYTES;
        if durability > Durability::None || full {
            let end = self.written + acknowledged.bytes as u64;
            let kept = (durability == Durability::Synced).then_some(end);
            self.write().and_then(|()| kept.map_or(Ok(()), |end| self.sync_or_take_back(end))).inspect_err(|_| {
                self.pending.truncate(acknowledged.bytes);
                self.schemas.truncate(acknowledged.schemas);
            })?;
        }
        for entry in entries {
            self.version = entry.version().unwrap_or(self.version);
            if let Some(noted) = &entry.noted {
                self.notes += 1;
                self.ledger.take(noted, if entry.kind == Kind::Prepared { places.pop_front() } else { None });
            }
        }
        Ok(())
    }

    /// Puts the frames of entries behind what is pending, in the next segment when they do not fit into this one. Says
    /// what was pending before, and where those are that are prepared. Nothing has changed after an error, but perhaps
    /// the segment.
    fn collect(&mut self, entries: &[Entry<'_>]) -> Result<(Acknowledged, VecDeque<Place>), Error> {
        let acknowledged = self.acknowledged();
        let places = self.collect_here(entries).inspect_err(|_| self.forget(&acknowledged))?;
        if self.written + self.pending.len() as u64 <= self.segment_bytes {
            return Ok((acknowledged, places));
        }
        self.forget(&acknowledged);
        self.rotate()?;
        let acknowledged = self.acknowledged();
        let places = self.collect_here(entries).inspect_err(|_| self.forget(&acknowledged))?;
        Ok((acknowledged, places))
    }

    fn acknowledged(&self) -> Acknowledged {
        Acknowledged { bytes: self.pending.len(), schemas: self.schemas.known.len() }
    }

    fn forget(&mut self, acknowledged: &Acknowledged) {
        self.pending.truncate(acknowledged.bytes);
        self.schemas.truncate(acknowledged.schemas);
    }

    /// Puts the frames of entries behind what is pending, and says where those are that are prepared.
    fn collect_here(&mut self, entries: &[Entry<'_>]) -> Result<VecDeque<Place>, Error> {
        let (salt, durable, nothing) = (self.segment.salt, self.durable, Summed::new(Vec::new()));
        let (mut numbers, mut places) = (Vec::new(), VecDeque::new());
        for entry in entries {
            let Some(mutations) = &entry.mutations else {
                frame::append(&mut self.pending, salt, durable, entry.kind, &entry.head, &nothing);
                continue;
            };
            numbers.clear();
            for schema in &mutations.prepared.schemas {
                let (number, new) = self.schemas.number(schema);
                if new {
                    let body = Summed::new(ipc::encode_schema(schema)?);
                    frame::append(&mut self.pending, salt, durable, Kind::Schema, &[], &body);
                }
                numbers.push(number);
            }
            let begin = self.pending.len();
            let mut head = mutations.head(&numbers);
            if !entry.head.is_empty() {
                head.splice(..0, entry.head.iter().copied());
            }
            frame::append(&mut self.pending, salt, durable, entry.kind, &head, &mutations.prepared.tail);
            if entry.kind == Kind::Prepared {
                places.push_back(Place {
                    segment: self.segment.number,
                    salt,
                    offset: self.written + begin as u64,
                    bytes: (self.pending.len() - begin) as u64,
                    schemas: mutations.prepared.schemas.clone(),
                });
            }
        }
        Ok(places)
    }

    /// Goes on in the next segment. Everything is on the disk then.
    fn rotate(&mut self) -> Result<(), Error> {
        self.write()?;
        self.sync_or_take_back(self.written)?;
        let number = self.segment.number + 1;
        let ready = self.next.take().and_then(|next| next.join().ok()).and_then(Result::ok);
        let next = match ready {
            Some(next) => next,
            None => Segment::create(&self.folder, number, self.segment_bytes)?,
        };
        let (version, notes) = (self.version, self.notes);
        self.full.push(FullSegment { number: self.segment.number, version, notes, bytes: self.written });
        self.pending = start_frame(&next, self.written, version, notes);
        self.schemas = Schemas::default();
        self.segment = next;
        self.written = segment::HEADER as u64;
        self.durable = self.written;
        Ok(())
    }

    /// Writes what is pending. After an error it is all pending still, and nothing of it is in the file.
    fn write(&mut self) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if let Err(cause) = self.segment.file.write_all_at(&self.pending, self.written) {
            self.take_back(self.written, &cause);
            return Err(cause);
        }
        self.written += self.pending.len() as u64;
        self.pending.clear();
        if self.next.is_none() && self.written > self.segment_bytes / 2 {
            let (folder, number, bytes) = (self.folder.clone(), self.segment.number + 1, self.segment_bytes);
            let prepare = move || Segment::create(&folder, number, bytes);
            // Without a thread, the commit that needs the segment makes it.
            self.next = std::thread::Builder::new().name("khonsu segment".into()).spawn(prepare).ok();
        }
        Ok(())
    }

    /// Puts all that is written on the disk. After an error nothing is written any more, and what is behind `end` is
    /// not in the file.
    fn sync_or_take_back(&mut self, end: u64) -> Result<(), Error> {
        if self.durable == self.written {
            return Ok(());
        }
        if let Err(cause) = self.segment.file.sync() {
            self.take_back(end, &cause);
            self.poison = Some(cause.clone());
            return Err(cause);
        }
        self.durable = self.written;
        Ok(())
    }

    /// Removes all behind `end` from the file. Where that fails, nothing may be written any more: it would stand behind
    /// what is not to be there.
    fn take_back(&mut self, end: u64, cause: &Error) {
        self.written = end;
        let file = &self.segment.file;
        if file.truncate(end).and_then(|()| file.sync()).is_err() {
            self.poison = Some(cause.clone());
        }
    }

    /// Whether anything can be written.
    pub(super) fn check(&self) -> Result<(), Error> {
        match &self.poison {
            Some(cause) => Err(Error::Storage(format!("nothing is written any more since this failed: {cause}"))),
            None => Ok(()),
        }
    }

    /// Puts all that is acknowledged on the disk.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        self.check()?;
        self.write()?;
        self.sync_or_take_back(self.written)
    }

    /// Puts all on the disk, and says there that it was.
    pub(super) fn close(&mut self) -> Result<(), Error> {
        self.sync()?;
        let body = Summed::new(Vec::new());
        frame::append(&mut self.pending, self.segment.salt, self.durable, Kind::End, &[], &body);
        self.sync()
    }

    /// Whether there can be a checkpoint of what is acknowledged. It must not have what came after a decision, or of it,
    /// when the decision is not on the disk: the transaction would be in doubt again.
    pub(super) fn prepare_checkpoint(&mut self) -> Result<(), Error> {
        if self.notes > 0 { self.sync() } else { self.check() }
    }

    /// The full segments that have no commit newer than `version`.
    pub(super) fn covered(&self, version: u64) -> Option<Covered> {
        let covered = self.full.iter().take_while(|segment| segment.version <= version).last();
        covered.map(|last| Covered { last: last.number, notes: last.notes })
    }

    /// Repeats a transaction that is in doubt and stands in one of these segments. Says whether there was one. Nothing
    /// needs to be on the disk yet.
    pub(super) fn repeat_one(&mut self, covered: Covered) -> Result<bool, Error> {
        let Some(place) = self.ledger.first_up_to(covered.last) else {
            return Ok(false);
        };
        let (noted, head, prepared) = place.read(&self.folder, |body| {
            let read = note::read_prepared(body)?;
            let tail = Summed::new(commit::tail(read.commit)?.to_vec());
            let prepared = Prepared { schemas: place.schemas.clone(), tail };
            Some(Ok((Noted::Prepared(read.id), read.bytes.to_vec(), prepared)))
        })?;
        self.append_group(&[Entry::prepared(noted, head, &prepared)], Durability::Buffered)?;
        Ok(true)
    }

    /// Takes these segments out of the log, in which nobody is in doubt; they can be removed, in their order.
    pub(super) fn take_covered(&mut self, covered: Covered) -> Result<Vec<PathBuf>, Error> {
        if covered.notes > 0 {
            let outcomes = self.ledger.outcomes();
            self.append_group(&[Entry::repeated(covered.notes, outcomes)], Durability::Synced)?;
        }
        let count = self.full.iter().take_while(|segment| segment.number <= covered.last).count();
        let taken = self.full.drain(..count);
        Ok(taken.map(|segment| format::segment_path(&self.folder, segment.number)).collect())
    }

    /// What the notes come to.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // The database is not to be opened again while a file is being made in it.
        if let Some(next) = self.next.take() {
            let _ = next.join();
        }
    }
}

/// What is pending and acknowledged, while more is being collected.
struct Acknowledged {
    bytes: usize,
    schemas: usize,
}

/// The first frame of a segment: where the segment before ended, the newest version until then, and how many notes
/// there were.
fn start_frame(segment: &Segment, previous_end: u64, version: u64, notes: u64) -> Vec<u8> {
    let mut head = previous_end.to_le_bytes().to_vec();
    head.extend_from_slice(&version.to_le_bytes());
    head.extend_from_slice(&notes.to_le_bytes());
    let mut frames = Vec::new();
    frame::append(&mut frames, segment.salt, 0, Kind::Start, &head, &Summed::new(Vec::new()));
    frames
}

/// What a start frame says.
pub(super) struct Start {
    pub(super) previous_end: u64,
    pub(super) version: u64,
    pub(super) notes: u64,
}

impl Start {
    /// Of a segment of a version of the format. `None`: it makes no sense.
    pub(super) fn read(body: &[u8], format: u32) -> Option<Start> {
        let mut reader = Reader(body);
        let (previous_end, version) = (reader.u64()?, reader.u64()?);
        // There were none in the first version.
        let notes = if format > format::OLDEST_VERSION { reader.u64()? } else { 0 };
        reader.0.is_empty().then_some(Start { previous_end, version, notes })
    }
}

/// The schemas that are defined in a segment.
#[derive(Debug, Default)]
struct Schemas {
    known: Vec<SchemaRef>,
    /// By address, which stays theirs as long as they are known here.
    by_address: HashMap<usize, u32>,
    by_fields: HashMap<Fields, Vec<u32>>,
}

impl Schemas {
    /// The number of a schema, and whether it is new and has to be defined.
    fn number(&mut self, schema: &SchemaRef) -> (u32, bool) {
        let address = Arc::as_ptr(schema).addr();
        if let Some(&number) = self.by_address.get(&address) {
            return (number, false);
        }
        let alike = self.by_fields.get(schema.fields()).map_or([].as_slice(), Vec::as_slice);
        match alike.iter().find(|&&number| same_schema(&self.known[number as usize], schema)) {
            Some(&number) => (number, false),
            None => (self.define(schema.clone()), true),
        }
    }

    fn define(&mut self, schema: SchemaRef) -> u32 {
        let number = self.known.len() as u32;
        self.by_address.insert(Arc::as_ptr(&schema).addr(), number);
        self.by_fields.entry(schema.fields().clone()).or_default().push(number);
        self.known.push(schema);
        number
    }

    /// Forgets those that came last.
    fn truncate(&mut self, len: usize) {
        for schema in self.known.drain(len.min(self.known.len())..) {
            self.by_address.remove(&Arc::as_ptr(&schema).addr());
            if let Some(alike) = self.by_fields.get_mut(schema.fields()) {
                alike.retain(|&number| (number as usize) < len);
            }
        }
    }
}

/// Removes files that are not needed any more, the first ones first, so that a crash leaves no gap.
pub(super) fn remove(folder: &std::path::Path, paths: &[PathBuf]) -> Result<(), Error> {
    for path in paths {
        file::remove_file(path)?;
    }
    if paths.is_empty() { Ok(()) } else { file::sync_directory(folder) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::file::File;
    use super::super::replay;
    use super::*;
    use crate::stm::{Decided, Decision, GlobalId, Held, Note, Outcome};
    use crate::storage::{Change, Commit, Mutation};

    fn log(name: &str) -> (Log, PathBuf) {
        let folder = std::env::temp_dir().join(format!("khonsu-log-{}-{name}", std::process::id()));
        file::create_directory(&folder).expect("it can be made");
        let log = Log::new(folder.clone(), 1 << 16, End::default());
        (log.expect("it can be made"), folder)
    }

    fn apply(log: &mut Log, versions: &[u64], durability: Durability) -> Result<(), ApplyError> {
        let delete = Mutation { key: b"key".to_vec(), change: Change::Delete };
        let prepared = Prepared::new(&[delete]).expect("it can be stored");
        let commits = versions.iter().map(|&version| Commit { version, prepared: &prepared, decides: None });
        log.append(&commits.map(|commit| Entry::commit(&commit)).collect::<Vec<_>>(), durability)
    }

    fn frames(path: &Path, salt: u64) -> Vec<Kind> {
        let file = File::open_read(path).expect("it is there");
        let mut data = vec![0; file.len().expect("it has a length") as usize];
        file.read_exact_at(&mut data, 0).expect("it can be read");
        let (mut offset, mut kinds) = (segment::HEADER, Vec::new());
        while let Some(frame) = frame::read(&data[offset..], salt) {
            kinds.push(frame.kind);
            offset += frame::HEADER + frame.body.len();
        }
        kinds
    }

    #[test]
    fn what_is_not_durable_waits_in_memory_for_what_is() {
        let (mut log, folder) = log("waits");
        let path = log.segment.file.path().to_path_buf();
        apply(&mut log, &[1, 2], Durability::None).expect("it is taken");
        assert_eq!(frames(&path, log.segment.salt), []);
        apply(&mut log, &[3], Durability::Buffered).expect("it is written");
        assert_eq!(frames(&path, log.segment.salt), [Kind::Start, Kind::Commit, Kind::Commit, Kind::Commit]);
        assert!(log.durable < log.written);
        log.sync().expect("it is synced");
        assert_eq!(log.durable, log.written);
        // It is not kept for ever.
        let many: Vec<u64> = (4..60_000).collect();
        for group in many.chunks(100) {
            apply(&mut log, group, Durability::None).expect("it is taken");
            assert!(log.pending.len() <= PENDING_BYTES);
        }
        assert!(log.full.len() > 10);
        log.close().expect("it is closed");
        assert_eq!(frames(log.segment.file.path(), log.segment.salt).last(), Some(&Kind::End));
        drop(log);
        file::remove_directory(&folder).expect("it can be removed");
    }

    #[test]
    fn where_a_failed_write_cannot_be_taken_back_nothing_more_is_written() {
        let (mut log, folder) = log("poison");
        let path = log.segment.file.path().to_path_buf();
        apply(&mut log, &[1], Durability::Synced).expect("it is written");
        apply(&mut log, &[2], Durability::None).expect("it is taken");
        // Neither written nor truncated.
        log.segment.file = File::open_read(&path).expect("it is there");
        let failed = apply(&mut log, &[3, 4], Durability::Synced).expect_err("it cannot be written");
        assert_eq!(failed.applied, 0);
        log.segment.file = File::open(&path).expect("it is there");
        for refused in [apply(&mut log, &[5], Durability::None).map_err(|failed| failed.cause), log.sync(), log.close()]
        {
            let text = refused.expect_err("nothing more is written").to_string();
            assert!(text.contains("since this failed: writing "), "{text}");
        }
        assert_eq!(frames(&path, log.segment.salt), [Kind::Start, Kind::Commit]);
        drop(log);
        file::remove_directory(&folder).expect("it can be removed");
    }

    fn note(log: &mut Log, note: &Note<'_, Prepared>) {
        log.append(&[Entry::note(note)], Durability::Synced).expect("it is taken");
    }

    fn names(ledger: &Ledger, folder: &Path) -> (Vec<GlobalId>, Vec<Outcome>) {
        let name = |place: &Place| place.read(folder, |body| note::read_prepared(body).map(|read| Ok(read.id)));
        let mut in_doubt: Vec<_> =
            ledger.in_doubt().into_iter().map(|place| name(place).expect("it is there")).collect();
        in_doubt.sort_unstable();
        (in_doubt, ledger.outcomes())
    }

    /// What a crash would leave in doubt, and remembered. The log goes on.
    fn replayed(folder: &Path, version: u64) -> Result<(Vec<GlobalId>, Vec<Outcome>), Error> {
        struct Ignored;
        impl replay::Replay for Ignored {
            fn define(&mut self, message: &[u8]) -> Result<SchemaRef, Error> {
                ipc::decode_schema(message)
            }

            fn commit(&mut self, _: u64, _: &[u8], _: &[SchemaRef]) -> Option<Result<(), Error>> {
                Some(Ok(()))
            }

            fn progress(&mut self, _: u64) {}
        }
        let segments = format::Contents::of(folder)?.segments;
        let replayed = replay::replay(folder, 1 << 16, version, &segments, &mut Ignored)?;
        Ok(names(replayed.ledger(), folder))
    }

    #[test]
    fn notes_may_be_repeated_and_their_segments_removed_up_to_any_step() {
        let (mut log, folder) = log("repeat");
        let ids: Vec<GlobalId> = (0..6_u8).map(|number| GlobalId::new(&[number; 9]).expect("it is short")).collect();
        let prepared = Prepared::new(&[Mutation { key: vec![7; 10_000], change: Change::Delete }]).expect("it can be");
        let held = Held { keys: vec![vec![1; 60_000]], ranges: Vec::new() };
        let mut version = 0;
        for id in &ids {
            note(&mut log, &Note::Prepared { id, time_micros: 0, mutations: &prepared, held: &held });
            version += 1;
            apply(&mut log, &[version], Durability::Synced).expect("it is taken");
        }
        let decided = |id| Decided { id, decision: Decision::Rollback, heuristic: false, time_micros: 5 };
        for id in [&ids[4], &ids[1]] {
            note(&mut log, &Note::Decided(decided(id)));
        }
        let expected = names(&log.ledger, &folder);
        assert_eq!((expected.0.len(), expected.1.len()), (4, 2));
        let check = |step: &str| assert_eq!(replayed(&folder, version).as_ref(), Ok(&expected), "{step}");
        check("before");
        let covered = log.covered(version).expect("there are full segments");
        let mut repeated = 0;
        while log.repeat_one(covered).expect("it is repeated") {
            repeated += 1;
            check("one more is repeated");
            // What is not whole is as good as not there.
            let (path, end) = (log.segment.file.path().to_path_buf(), log.written);
            let file = File::open(&path).expect("it is there");
            let mut last = [0; 8];
            file.read_exact_at(&mut last, end - 16).expect("it can be read");
            file.write_all_at(&[!last[0]], end - 16).expect("it can be written");
            check("the last one is torn");
            file.write_all_at(&last, end - 16).expect("it can be written");
        }
        assert_eq!(repeated, 4);
        // The first one that has notes.
        let second = format::segment_path(&folder, 2);
        let hidden = folder.join("hidden");
        file::rename(&second, &hidden).expect("it can be renamed");
        let text = replayed(&folder, version).expect_err("not everything was repeated").to_string();
        assert!(text.contains("the log before this segment is missing"), "{text}");
        file::rename(&hidden, &second).expect("it can be renamed");
        let removed = log.take_covered(covered).expect("the outcomes are repeated");
        assert!(removed.len() > 4, "{removed:?}");
        check("all is repeated");
        // In any order: what names a directory has is known only when it is synced.
        for path in removed.iter().rev().step_by(2).chain(removed.iter().rev().skip(1).step_by(2)) {
            file::remove_file(path).expect("it can be removed");
            check("a segment is removed");
        }
        assert_eq!(log.covered(0).map(|covered| covered.last), None);
        drop(log);
        file::remove_directory(&folder).expect("it can be removed");
    }

    #[test]
    fn a_schema_has_one_number_in_a_segment() {
        use arrow_schema::{DataType, Field, Schema};
        let schema = |name: &str| Arc::new(Schema::new(vec![Field::new(name, DataType::Int8, true)]));
        let metadata = std::collections::HashMap::from([("k".to_string(), "v".to_string())]);
        let described = Arc::new(schema("a").as_ref().clone().with_metadata(metadata));
        let mut schemas = Schemas::default();
        let a = schema("a");
        assert_eq!(schemas.number(&a), (0, true));
        assert_eq!(schemas.number(&a), (0, false));
        assert_eq!(schemas.number(&schema("a")), (0, false));
        assert_eq!(schemas.number(&schema("b")), (1, true));
        assert_eq!(schemas.number(&described), (2, true));
        schemas.truncate(1);
        assert_eq!(schemas.number(&described), (1, true));
        assert_eq!(schemas.number(&a), (0, false));
    }
}
