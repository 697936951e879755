//! The log: commits in the order of their versions, appended to the last of its segments.
//!
//! What the next write will write is collected in memory behind what is acknowledged there already; a failed write is
//! taken back to that. A segment is on the disk before the next one gets its first frame, so that only the last one
//! with frames can have a torn tail; that first frame says where the one before ended.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use arrow_schema::{Fields, SchemaRef};

use super::commit::{self, Prepared};
use super::file;
use super::format;
use super::frame::{self, Kind, Summed};
use super::ipc;
use super::segment::{self, Segment};
use crate::stm::{Durability, Error};
use crate::storage::{ApplyError, Commit, same_schema};

/// What is acknowledged in memory only is written when it has so many bytes.
const PENDING_BYTES: usize = 1 << 20;

/// Where a log goes on.
#[derive(Debug)]
pub(super) struct End {
    /// Segments that are full, ascending.
    pub(super) full: Vec<FullSegment>,
    /// The segment to append to; none for a log without any.
    pub(super) last: Option<LastSegment>,
    /// The newest commit's version.
    pub(super) version: u64,
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
    /// Bytes of its frames.
    pub(super) bytes: u64,
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
                pending = start_frame(&segment, 0, end.version);
                LastSegment { segment, end: segment::HEADER as u64, schemas: Vec::new() }
            }
        };
        let mut schemas = Schemas::default();
        for schema in last.schemas {
            schemas.define(schema);
        }
        Ok(Log {
            folder,
            segment_bytes,
            full: end.full,
            segment: last.segment,
            schemas,
            written: last.end,
            durable: last.end,
            pending,
            version: end.version,
            next: None,
            poison: None,
        })
    }

    /// Bytes of all frames.
    pub(super) fn bytes(&self) -> u64 {
        self.full.iter().map(|segment| segment.bytes).sum::<u64>() + self.written
    }

    /// Takes commits, each whole or not at all.
    pub(super) fn append(
        &mut self,
        commits: &[Commit<'_, Prepared>],
        durability: Durability,
    ) -> Result<(), ApplyError> {
        let Err(cause) = self.append_group(commits, durability) else { return Ok(()) };
        if commits.len() <= 1 || self.poison.is_some() {
            return Err(ApplyError { applied: 0, cause });
        }
        for (applied, commit) in commits.iter().enumerate() {
            self.append_group(std::slice::from_ref(commit), durability)
                .map_err(|cause| ApplyError { applied, cause })?;
        }
        Ok(())
    }

    /// Takes all of the commits or, with an error, none.
    fn append_group(&mut self, commits: &[Commit<'_, Prepared>], durability: Durability) -> Result<(), Error> {
        self.check()?;
        let acknowledged = self.collect(commits)?;
        let full = self.pending.len() >= PENDING_BYTES;
        if durability > Durability::None || full {
            let end = self.written + acknowledged.bytes as u64;
            let kept = (durability == Durability::Synced).then_some(end);
            self.write().and_then(|()| kept.map_or(Ok(()), |end| self.sync_or_take_back(end))).inspect_err(|_| {
                self.pending.truncate(acknowledged.bytes);
                self.schemas.truncate(acknowledged.schemas);
            })?;
        }
        self.version = commits.last().map_or(self.version, |commit| commit.version);
        Ok(())
    }

    /// Puts the frames of commits behind what is pending, in the next segment when they do not fit into this one. Says
    /// what was pending before. Nothing has changed after an error, but perhaps the segment.
    fn collect(&mut self, commits: &[Commit<'_, Prepared>]) -> Result<Acknowledged, Error> {
        let acknowledged = self.acknowledged();
        let fits = self.collect_here(commits).inspect_err(|_| self.forget(&acknowledged))?;
        if fits {
            return Ok(acknowledged);
        }
        self.forget(&acknowledged);
        self.rotate()?;
        let acknowledged = self.acknowledged();
        self.collect_here(commits).inspect_err(|_| self.forget(&acknowledged))?;
        Ok(acknowledged)
    }

    fn acknowledged(&self) -> Acknowledged {
        Acknowledged { bytes: self.pending.len(), schemas: self.schemas.known.len() }
    }

    fn forget(&mut self, acknowledged: &Acknowledged) {
        self.pending.truncate(acknowledged.bytes);
        self.schemas.truncate(acknowledged.schemas);
    }

    /// Puts the frames of commits behind what is pending, and says whether the segment has room for them.
    fn collect_here(&mut self, commits: &[Commit<'_, Prepared>]) -> Result<bool, Error> {
        let mut numbers = Vec::new();
        for Commit { version, prepared, .. } in commits {
            numbers.clear();
            for schema in &prepared.schemas {
                let (number, new) = self.schemas.number(schema);
                if new {
                    let body = Summed::new(ipc::encode_schema(schema)?);
                    frame::append(&mut self.pending, self.segment.salt, self.durable, Kind::Schema, &[], &body);
                }
                numbers.push(number);
            }
            let head = commit::head(*version, &numbers);
            frame::append(&mut self.pending, self.segment.salt, self.durable, Kind::Commit, &head, &prepared.tail);
        }
        Ok(self.written + self.pending.len() as u64 <= self.segment_bytes)
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
        let full = FullSegment { number: self.segment.number, version: self.version, bytes: self.written };
        self.full.push(full);
        self.pending = start_frame(&next, self.written, self.version);
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

    /// Takes the segments out of the log that have nothing newer than `version`; they can be removed, in their order.
    pub(super) fn take_covered(&mut self, version: u64) -> Vec<PathBuf> {
        let covered = self.full.iter().take_while(|segment| segment.version <= version).count();
        let covered = self.full.drain(..covered);
        covered.map(|segment| format::segment_path(&self.folder, segment.number)).collect()
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

/// The first frame of a segment: where the segment before ended, and the newest version until then.
fn start_frame(segment: &Segment, previous_end: u64, version: u64) -> Vec<u8> {
    let mut head = previous_end.to_le_bytes().to_vec();
    head.extend_from_slice(&version.to_le_bytes());
    let mut frames = Vec::new();
    frame::append(&mut frames, segment.salt, 0, Kind::Start, &head, &Summed::new(Vec::new()));
    frames
}

/// What a start frame says.
pub(super) fn read_start(body: &[u8]) -> Option<(u64, u64)> {
    let (previous_end, version) = body.split_first_chunk()?;
    let version: &[u8; 8] = version.try_into().ok()?;
    Some((u64::from_le_bytes(*previous_end), u64::from_le_bytes(*version)))
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
    use super::*;
    use crate::storage::{Change, Mutation};

    fn log(name: &str) -> (Log, PathBuf) {
        let folder = std::env::temp_dir().join(format!("khonsu-log-{}-{name}", std::process::id()));
        file::create_directory(&folder).expect("it can be made");
        let log = Log::new(folder.clone(), 1 << 16, End { full: Vec::new(), last: None, version: 0 });
        (log.expect("it can be made"), folder)
    }

    fn apply(log: &mut Log, versions: &[u64], durability: Durability) -> Result<(), ApplyError> {
        let delete = Mutation { key: b"key".to_vec(), change: Change::Delete };
        let prepared = Prepared::new(&[delete]).expect("it can be stored");
        let commits = versions.iter().map(|&version| Commit { version, prepared: &prepared, decides: None });
        log.append(&commits.collect::<Vec<_>>(), durability)
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
