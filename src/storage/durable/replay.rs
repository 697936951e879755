//! What the log says when a database is opened: its commits in their order, what its notes come to, where it goes on,
//! and whether it is damaged.
//!
//! The first frame that does not check ends the log. It is what a crash left of a write, and is cut off, unless
//! something that was written later says that it was on the disk: a frame with a durable position behind it, or any
//! frame of the next segment.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use arrow_schema::SchemaRef;

use super::commit;
use super::format;
use super::frame::{self, Frame, Kind};
use super::ledger::{Ledger, Place};
use super::log::{self, End, FullSegment, LastSegment, Start};
use super::note::{self, Noted};
use super::segment::{self, Segment};
use crate::stm::{Error, Outcome};

/// What takes the log while it is read.
pub(super) trait Replay {
    /// A schema is defined, the next one of its segment.
    fn define(&mut self, message: &[u8]) -> Result<SchemaRef, Error>;
    /// A commit, whose mutations name `schemas` by number. `None`: it is not the body of a commit.
    fn commit(&mut self, version: u64, body: &[u8], schemas: &[SchemaRef]) -> Option<Result<(), Error>>;
    /// So many more bytes were read.
    fn progress(&mut self, bytes: u64);
}

/// A log that was read.
pub(super) struct Replayed {
    full: Vec<FullSegment>,
    last: Option<Begun>,
    counted: Counted,
    /// How many of the first notes are not needed any more.
    needless: u64,
    /// How many notes there were before the first segment, and that.
    first: Option<(u64, PathBuf)>,
    ledger: Ledger,
    /// Segments behind the last one, which have no frame.
    unused: Vec<u64>,
    /// Segments before a gap in the numbers.
    covered: Vec<u64>,
}

/// What is counted up in a log.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    version: u64,
    notes: u64,
}

/// A segment with frames.
struct Begun {
    segment: Segment,
    end: u64,
    schemas: Vec<SchemaRef>,
    /// Whether all is zero behind the frames, up to the full length.
    clean: bool,
}

/// Reads the log behind the checkpoint of a version (0: there is none), each segment once. It changes nothing.
pub(super) fn replay(
    folder: &Path,
    segment_bytes: u64,
    checkpoint: u64,
    numbers: &[u64],
    replay: &mut dyn Replay,
) -> Result<Replayed, Error> {
    // Segments before a gap were being removed, as the checkpoint has all that is in them; that is checked below.
    let gap = numbers.windows(2).rposition(|pair| pair[0] + 1 != pair[1]).map_or(0, |before| before + 1);
    let (covered, numbers) = numbers.split_at(gap);
    std::thread::scope(|scope| {
        // The next segment is read while this one is understood. Buffers go back and forth.
        let (read, segments) = mpsc::sync_channel(1);
        let (used, buffers) = mpsc::channel();
        let reader = move || {
            for &number in numbers {
                let mut data = buffers.try_recv().unwrap_or_default();
                let segment = Segment::read(folder, number, &mut data);
                if read.send(segment.map(|segment| (segment, data))).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("khonsu reader".into());
        let failed = |cause| Error::Storage(format!("reading {}: no thread for it: {cause}", folder.display()));
        thread.spawn_scoped(scope, reader).map_err(failed)?;
        let mut log = Replayed {
            full: Vec::new(),
            last: None,
            counted: Counted::default(),
            needless: 0,
            first: None,
            ledger: Ledger::default(),
            unused: Vec::new(),
            covered: covered.to_vec(),
        };
        for segment in segments {
            let (segment, data) = segment?;
            replay.progress(data.len() as u64);
            log.take(segment, &data, segment_bytes, checkpoint, replay)?;
            // The reader may be done.
            let _ = used.send(data);
        }
        if log.last.is_none() && checkpoint == 0 && log.unused.first().is_some_and(|&first| first != 1) {
            return Err(Error::Corruption(format!("{}: the beginning of the log is missing", folder.display())));
        }
        if let Some((notes, first)) = &log.first
            && *notes > log.needless
        {
            return Err(segment::corruption(first, segment::HEADER, LOG_IS_MISSING));
        }
        log.counted.version = log.counted.version.max(checkpoint);
        Ok(log)
    })
}

const LOG_IS_MISSING: &str = "the log before this segment is missing";

impl Replayed {
    /// Reads the frames of a segment.
    fn read_frames(
        &mut self,
        segment: Segment,
        data: &[u8],
        segment_bytes: u64,
        replay: &mut dyn Replay,
    ) -> Result<Begun, Error> {
        let mut schemas = Vec::new();
        let mut offset = segment::HEADER;
        while let Some(Frame { kind, body, .. }) = frame::read(&data[offset..], segment.salt) {
            self.read_frame(&segment, offset, kind, body, &mut schemas, replay)?;
            offset += frame::HEADER + body.len();
        }
        let tail = &data[offset..];
        let zeros = tail.iter().all(|&byte| byte == 0);
        if !zeros && frame::vouched(data, offset, offset as u64, segment.salt) {
            return Err(segment.corruption(offset, "no valid frame, but later ones"));
        }
        let clean = zeros && data.len() as u64 >= segment_bytes;
        Ok(Begun { segment, end: offset as u64, schemas, clean })
    }

    fn read_frame(
        &mut self,
        segment: &Segment,
        offset: usize,
        kind: Kind,
        body: &[u8],
        schemas: &mut Vec<SchemaRef>,
        replay: &mut dyn Replay,
    ) -> Result<(), Error> {
        let corruption = |what: &str| segment.corruption(offset, what);
        if segment.version == format::OLDEST_VERSION && kind.is_note() {
            return Err(corruption("a frame of a later format"));
        }
        let without_sense = || corruption("a note on a prepared transaction without sense");
        let mut note = |noted: Noted, place| {
            self.counted.notes += 1;
            self.ledger.take(&noted, place);
        };
        match kind {
            Kind::Start if offset == segment::HEADER => {}
            Kind::Start => return Err(corruption("a first frame behind others")),
            Kind::Schema => {
                let schema = replay.define(body).map_err(|cause| corruption(&cause.to_string()))?;
                schemas.push(schema);
            }
            Kind::Commit | Kind::DecidingCommit => {
                let mut commit = body;
                if kind == Kind::DecidingCommit {
                    let (outcome, rest) = note::read_decided(body).ok_or_else(without_sense)?;
                    let version = commit::version(rest).unwrap_or(0);
                    note(Noted::Decided(Outcome { version, ..outcome }), None);
                    commit = rest;
                }
                let (found, newest) = (commit::version(commit).unwrap_or(0), self.counted.version);
                if found <= newest {
                    return Err(corruption(&format!("commit {found} behind commit {newest}")));
                }
                self.counted.version = found;
                let read = replay.commit(found, commit, schemas).ok_or_else(|| corruption("a commit without sense"))?;
                read.map_err(|cause| corruption(&cause.to_string()))?;
            }
            Kind::Prepared => {
                let read = note::read_prepared(body).ok_or_else(without_sense)?;
                // Its mutations are looked at when it is known that they are needed.
                let numbers = commit::schemas(read.commit).ok_or_else(without_sense)?;
                let named = numbers.iter().map(|&number| schemas.get(number as usize).cloned());
                let place = Place {
                    segment: segment.number,
                    salt: segment.salt,
                    offset: offset as u64,
                    bytes: (frame::HEADER + body.len()) as u64,
                    schemas: named.collect::<Option<_>>().ok_or_else(without_sense)?,
                };
                note(Noted::Prepared(read.id), Some(place));
            }
            Kind::Decided => match note::read_decided(body) {
                Some((outcome, [])) => note(Noted::Decided(outcome), None),
                _ => return Err(without_sense()),
            },
            Kind::Forgotten => note(Noted::Forgotten(note::read_forgotten(body).ok_or_else(without_sense)?), None),
            Kind::Repeated => {
                let (needless, outcomes) = note::read_repeated(body).ok_or_else(without_sense)?;
                note(Noted::Repeated(needless, outcomes), None);
                self.needless = self.needless.max(needless);
            }
            Kind::End => {}
        }
        Ok(())
    }

    /// Goes on with the next segment.
    fn take(
        &mut self,
        segment: Segment,
        data: &[u8],
        segment_bytes: u64,
        checkpoint: u64,
        replay: &mut dyn Replay,
    ) -> Result<(), Error> {
        let begin = segment::HEADER;
        let here = |what| Err(segment.corruption(begin, what));
        let start = frame::read(&data[begin..], segment.salt);
        let Some(Frame { kind: Kind::Start, body, .. }) = start else {
            if start.is_some() || frame::vouched(data, begin, begin as u64, segment.salt) {
                return here("no valid first frame");
            }
            self.unused.push(segment.number);
            return Ok(());
        };
        let Some(Start { previous_end, version, notes }) = Start::read(body, segment.version) else {
            return here("a first frame without sense");
        };
        if !self.unused.is_empty() {
            return here("the segment before has no frame");
        }
        match self.last.take() {
            None if version > checkpoint => return here(LOG_IS_MISSING),
            None => self.first = Some((notes, segment.file.path().to_path_buf())),
            Some(last) if last.end != previous_end || self.counted.version > version || self.counted.notes != notes => {
                return Err(last.segment.corruption(last.end as usize, "no valid frame, but later ones"));
            }
            Some(last) => {
                let Counted { version, notes } = self.counted;
                self.full.push(FullSegment { number: last.segment.number, version, notes, bytes: last.end });
            }
        }
        // More than that of the last frame, where the log went on from a checkpoint that has what it had lost.
        self.counted = Counted { version, notes };
        self.last = Some(self.read_frames(segment, data, segment_bytes, replay)?);
        Ok(())
    }

    /// The newest version that is stored.
    pub(super) fn version(&self) -> u64 {
        self.counted.version
    }

    /// What its notes come to.
    #[cfg(test)]
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Removes what a crash left, and puts the rest on the disk, so that the log can go on.
    pub(super) fn finish(self, folder: &Path, segment_bytes: u64) -> Result<End, Error> {
        let superfluous: Vec<_> =
            self.covered.into_iter().chain(self.unused).map(|number| format::segment_path(folder, number)).collect();
        log::remove(folder, &superfluous)?;
        let last = match self.last {
            Some(Begun { segment, end, schemas, clean }) => {
                if clean {
                    segment.file.sync()?
                } else {
                    segment.cut(end, segment_bytes)?
                }
                Some(LastSegment { segment, end, schemas })
            }
            None => None,
        };
        let Counted { version, notes } = self.counted;
        Ok(End { full: self.full, last, version, notes, ledger: self.ledger })
    }
}
