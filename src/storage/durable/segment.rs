//! Segments: the files that the log consists of. A file has the name of a segment only when all of it is there, so that
//! commits can be written without the length of the file changing, and a bad header is never a crash.
//!
//! The header: magic (8 bytes), version of the format (4), zeros (4), number (8), salt (8), zeros, and the CRC-32 of
//! all that in the last 4. Frames follow, then zeros.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use super::file::{self, File};
use super::format;
use crate::stm::Error;

/// Bytes before the first frame.
pub(super) const HEADER: usize = 64;

const MAGIC: &[u8; 8] = b"khonsulg";
/// Zeros are written in pieces of this size.
const PIECE: usize = 1 << 20;

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: File,
    pub(super) number: u64,
    pub(super) salt: u64,
    /// Of its format: which frames it may have.
    pub(super) version: u32,
}

impl Segment {
    /// Makes a segment of `bytes` bytes, and puts it and its name on the disk. It replaces one of the same number.
    pub(super) fn create(folder: &Path, number: u64, bytes: u64) -> Result<Segment, Error> {
        let path = format::segment_path(folder, number);
        let unfinished = format::temporary(&path);
        let salt = RandomState::new().hash_one(number);
        let file = File::create(&unfinished)?;
        let version = format::FORMAT_VERSION;
        let made = file.write_all_at(&encode_header(version, number, salt), 0).and_then(|()| {
            write_zeros(&file, HEADER as u64, bytes)?;
            file.sync()?;
            file::rename(&unfinished, &path)
        });
        if let Err(cause) = made {
            // Where the disk is full, this makes room again. A failure leaves what the next open removes.
            let _ = file::remove_file(&unfinished);
            return Err(cause);
        }
        file::sync_directory(folder)?;
        Ok(Segment { file: File::open(&path)?, number, salt, version })
    }

    /// Opens a segment and reads all of it into `data`.
    pub(super) fn read(folder: &Path, number: u64, data: &mut Vec<u8>) -> Result<Segment, Error> {
        let path = format::segment_path(folder, number);
        let file = File::open(&path)?;
        let too_long = |_| Error::Storage(format!("reading {}: it does not fit into memory", path.display()));
        data.resize(usize::try_from(file.len()?).map_err(too_long)?, 0);
        file.read_exact_at(data, 0)?;
        match data.first_chunk().and_then(decode_header) {
            Some((version, found, salt)) if found == number => Ok(Segment { file, number, salt, version }),
            _ => Err(corruption(&path, 0, "no header of this segment")),
        }
    }

    /// Cuts off what is behind `end`, and fills up with zeros to `bytes` bytes.
    pub(super) fn cut(&self, end: u64, bytes: u64) -> Result<(), Error> {
        self.file.truncate(end)?;
        write_zeros(&self.file, end, bytes)?;
        self.file.sync()
    }

    pub(super) fn corruption(&self, offset: usize, what: &str) -> Error {
        corruption(self.file.path(), offset, what)
    }
}

pub(super) fn corruption(path: &Path, offset: usize, what: &str) -> Error {
    Error::Corruption(format!("{} at offset {offset}: {what}", path.display()))
}

fn write_zeros(file: &File, from: u64, to: u64) -> Result<(), Error> {
    let zeros = vec![0; PIECE];
    let mut offset = from;
    while offset < to {
        let piece = &zeros[..PIECE.min(usize::try_from(to - offset).unwrap_or(PIECE))];
        file.write_all_at(piece, offset)?;
        offset += piece.len() as u64;
    }
    Ok(())
}

fn encode_header(version: u32, number: u64, salt: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&version.to_le_bytes());
    header[16..24].copy_from_slice(&number.to_le_bytes());
    header[24..32].copy_from_slice(&salt.to_le_bytes());
    let checksum = crc32fast::hash(&header[..HEADER - 4]);
    header[HEADER - 4..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Version of the format, number and salt.
fn decode_header(header: &[u8; HEADER]) -> Option<(u32, u64, u64)> {
    let version = u32::from_le_bytes(*header[8..].first_chunk()?);
    let number = u64::from_le_bytes(*header[16..].first_chunk()?);
    let salt = u64::from_le_bytes(*header[24..].first_chunk()?);
    let known = (format::OLDEST_VERSION..=format::FORMAT_VERSION).contains(&version);
    (known && encode_header(version, number, salt) == *header).then_some((version, number, salt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written_and_no_flipped_bit_goes_unseen() {
        let header = encode_header(2, 7, 0x0102_0304_0506_0708);
        assert_eq!(decode_header(&header), Some((2, 7, 0x0102_0304_0506_0708)));
        assert_eq!(decode_header(&encode_header(1, 7, 8)), Some((1, 7, 8)));
        assert_eq!(decode_header(&encode_header(3, 7, 8)), None);
        for bit in 0..HEADER * 8 {
            let mut flipped = header;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_header(&flipped), None, "bit {bit}");
        }
    }
}
