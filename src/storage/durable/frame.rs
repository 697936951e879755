//! Frames: what a segment consists of. A frame is
//!
//! | bytes | |
//! |---|---|
//! | 8 | length of the body, a multiple of 8 |
//! | 4 | checksum: CRC-32 of the segment's salt and of everything else in the frame |
//! | 4 | kind |
//! | 8 | durable position: the part of the segment up to there was on the disk when the frame was written |
//! | length | body |
//!
//! with all numbers little-endian. The salt keeps the remains of another file from being taken for frames.

use crc32fast::Hasher;

/// Bytes before the body.
pub(super) const HEADER: usize = 24;

/// What a frame says. The numbers are such as hardly occur in data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first frame of a segment: where the one before it ended.
    Start,
    /// The next schema that commits of the segment refer to.
    Schema,
    /// A commit.
    Commit,
    /// A commit that decides a prepared transaction.
    DecidingCommit,
    /// A transaction that is prepared.
    Prepared,
    /// The decision on a prepared transaction, where it writes nothing.
    Decided,
    /// The outcome of a prepared transaction need not be remembered any more.
    Forgotten,
    /// Older notes on prepared transactions that count still were repeated before this frame and in it.
    Repeated,
    /// The database was closed here.
    End,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::Start,
        Kind::Schema,
        Kind::Commit,
        Kind::DecidingCommit,
        Kind::Prepared,
        Kind::Decided,
        Kind::Forgotten,
        Kind::Repeated,
        Kind::End,
    ];

    /// Whether it says anything of prepared transactions.
    pub(super) fn is_note(self) -> bool {
        !matches!(self, Kind::Start | Kind::Schema | Kind::Commit | Kind::End)
    }

    fn bytes(self) -> [u8; 4] {
        *match self {
            Kind::Start => b"\xa5St\x01",
            Kind::Schema => b"\xa5Sc\x01",
            Kind::Commit => b"\xa5Co\x01",
            Kind::DecidingCommit => b"\xa5Dc\x01",
            Kind::Prepared => b"\xa5Pr\x01",
            Kind::Decided => b"\xa5De\x01",
            Kind::Forgotten => b"\xa5Fo\x01",
            Kind::Repeated => b"\xa5Re\x01",
            Kind::End => b"\xa5En\x01",
        }
    }

    fn of(bytes: &[u8]) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.bytes() == bytes)
    }
}

/// Bytes with the checksum over them, which is computed before it is known what they will stand behind.
#[derive(Debug)]
pub(super) struct Summed {
    bytes: Vec<u8>,
    checksum: Hasher,
}

impl Summed {
    /// Fills up `bytes` to a multiple of 8.
    pub(super) fn new(mut bytes: Vec<u8>) -> Summed {
        pad(&mut bytes);
        let mut checksum = Hasher::new();
        checksum.update(&bytes);
        Summed { bytes, checksum }
    }
}

/// Fills up with zeros to a multiple of 8.
pub(super) fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(8), 0);
}

/// Appends a frame whose body is `head`, of a multiple of 8 bytes, and then `tail`.
pub(super) fn append(frames: &mut Vec<u8>, salt: u64, durable: u64, kind: Kind, head: &[u8], tail: &Summed) {
    let length = (head.len() + tail.bytes.len()) as u64;
    let mut checksum = start_checksum(salt, &length.to_le_bytes(), &kind.bytes(), &durable.to_le_bytes());
    checksum.update(head);
    checksum.combine(&tail.checksum);
    frames.extend_from_slice(&length.to_le_bytes());
    frames.extend_from_slice(&checksum.finalize().to_le_bytes());
    frames.extend_from_slice(&kind.bytes());
    frames.extend_from_slice(&durable.to_le_bytes());
    frames.extend_from_slice(head);
    frames.extend_from_slice(&tail.bytes);
}

fn start_checksum(salt: u64, length: &[u8], kind: &[u8], durable: &[u8]) -> Hasher {
    let mut checksum = Hasher::new();
    checksum.update(&salt.to_le_bytes());
    checksum.update(length);
    checksum.update(kind);
    checksum.update(durable);
    checksum
}

/// A frame that was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    pub(super) durable: u64,
    pub(super) body: &'a [u8],
}

/// The frame at the beginning of `data`, unless something else is there or it is damaged.
pub(super) fn read(data: &[u8], salt: u64) -> Option<Frame<'_>> {
    let (header, rest) = data.split_at_checked(HEADER)?;
    let kind = Kind::of(&header[12..16])?;
    let length = usize::try_from(u64::from_le_bytes(*header.first_chunk()?)).ok()?;
    if length % 8 != 0 {
        return None;
    }
    let body = rest.get(..length)?;
    let mut checksum = start_checksum(salt, &header[..8], &header[12..16], &header[16..]);
    checksum.update(body);
    let durable = u64::from_le_bytes(*header.last_chunk()?);
    (checksum.finalize().to_le_bytes() == header[8..12]).then_some(Frame { kind, durable, body })
}

/// Whether anywhere at or behind `from` there is a frame that says that more than `position` bytes of the segment were
/// on the disk when it was written.
pub(super) fn vouched(segment: &[u8], from: usize, position: u64, salt: u64) -> bool {
    (from.next_multiple_of(8)..segment.len())
        .step_by(8)
        .any(|offset| read(&segment[offset..], salt).is_some_and(|frame| frame.durable > position))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u64 = 0x1234_5678_9abc_def0;

    fn sample() -> Vec<u8> {
        let mut frames = Vec::new();
        append(&mut frames, SALT, 64, Kind::Commit, &7u64.to_le_bytes(), &Summed::new(b"a body".to_vec()));
        frames
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let bytes = sample();
        let frame = read(&bytes, SALT).expect("it is whole");
        assert_eq!((frame.kind, frame.durable), (Kind::Commit, 64));
        assert_eq!(frame.body, b"\x07\0\0\0\0\0\0\0a body\0\0");
    }

    #[test]
    fn no_flipped_bit_and_no_missing_byte_goes_unseen() {
        let bytes = sample();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped, SALT).is_none(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len], SALT).is_none(), "{len} bytes");
        }
        assert!(read(&bytes, SALT + 1).is_none());
    }

    #[test]
    fn later_frames_vouch_for_what_was_durable() {
        let mut segment = vec![0; 40];
        segment.extend_from_slice(&sample());
        assert!(vouched(&segment, 8, 63, SALT));
        assert!(!vouched(&segment, 8, 64, SALT));
        assert!(!vouched(&segment, 48, 63, SALT));
        assert!(!vouched(&segment, 8, 63, SALT + 1));
    }
}
