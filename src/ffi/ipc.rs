//! Arrow IPC files.

use std::ffi::{CStr, c_char};
use std::path::Path;

use super::arrow::{ArrowArrayStream, ipc};
use super::error::{Failure, khonsu_error};
use super::guard::guard;
use super::out::{clear, given, require, take, unknown_constant, write_if};
use super::status::khonsu_status;

/// The two forms that Arrow IPC has.
///
/// Since: 0.1
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum khonsu_ipc_format {
    /// The file format, with a footer that gives access to any batch; also known as Feather version 2.
    File = 1,
    /// The stream format, to be read from front to back.
    Stream = 2,
}

/// How the buffers of an Arrow IPC file are compressed.
///
/// Since: 0.1
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum khonsu_ipc_compression {
    /// Not at all.
    None = 0,
    /// LZ4 frames: fast.
    Lz4 = 1,
    /// Zstandard: smaller.
    Zstd = 2,
}

fn format(number: i32) -> Result<ipc::Format, Failure> {
    const FILE: i32 = khonsu_ipc_format::File as i32;
    const STREAM: i32 = khonsu_ipc_format::Stream as i32;
    match number {
        FILE => Ok(ipc::Format::File),
        STREAM => Ok(ipc::Format::Stream),
        _ => Err(unknown_constant("format", number, "khonsu_ipc_format")),
    }
}

fn compression(number: i32) -> Result<ipc::Compression, Failure> {
    const NONE: i32 = khonsu_ipc_compression::None as i32;
    const LZ4: i32 = khonsu_ipc_compression::Lz4 as i32;
    const ZSTD: i32 = khonsu_ipc_compression::Zstd as i32;
    match number {
        NONE => Ok(ipc::Compression::None),
        LZ4 => Ok(ipc::Compression::Lz4),
        ZSTD => Ok(ipc::Compression::Zstd),
        _ => Err(unknown_constant("compression", number, "khonsu_ipc_compression")),
    }
}

/// # Safety
/// Rule 2 holds for `path`, which ends with a NUL.
pub(crate) unsafe fn path<'a>(path: *const c_char) -> Result<&'a Path, Failure> {
    if path.is_null() {
        return Err(Failure::invalid_argument("path is NULL"));
    }
    // SAFETY: rule 2.
    let path = unsafe { CStr::from_ptr(path) };
    if path.is_empty() {
        return Err(Failure::invalid_argument("path is empty"));
    }
    #[cfg(unix)]
    let path = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path.to_bytes());
    #[cfg(not(unix))]
    let path = path.to_str().map_err(|_| Failure::invalid_argument("path is not UTF-8"))?;
    Ok(Path::new(path))
}

/// Opens an Arrow IPC file, in the file or the stream format, as a stream of its record batches. Which format it is,
/// and how it is compressed, is found out from the file.
///
/// @param[in]  path       Ends with a NUL; borrowed for the call; not NULL. Bytes as the system takes them; UTF-8 on
///                        Windows.
/// @param[out] out_stream Not NULL. The stream, owned by the caller, who releases it; one thread at a time, any thread.
///                        Batches are read as they are asked for; where the file turns out damaged, get_next fails with
///                        EIO, and get_last_error says what is wrong.
/// @param[out] error      May be NULL.
/// @return
/// - KHONSU_STATUS_OK: opened.
/// - KHONSU_STATUS_INVALID_ARGUMENT: path or out_stream is NULL, or path is empty.
/// - KHONSU_STATUS_STORAGE: the file cannot be opened or read.
/// - KHONSU_STATUS_CORRUPTION: it is no Arrow IPC file, or a damaged one.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Unless it returns KHONSU_STATUS_OK, release is NULL in out_stream. Threads: any. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_ipc_open_stream(
    path: *const c_char,
    out_stream: *mut ArrowArrayStream,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 2 and 3.
    unsafe {
        clear(out_stream);
        guard(error, || {
            require(out_stream, "out_stream")?;
            let stream = ipc::open(self::path(path)?)?;
            write_if(out_stream, || stream);
            Ok(khonsu_status::Ok)
        })
    }
}

/// Writes all batches of a stream to an Arrow IPC file. It is written beside path, synced, and takes its name when it
/// is complete: a file that was there stays whole until then. In the file format, batches with dictionaries are held in
/// memory and written as one.
///
/// @param[in]  path        Ends with a NUL; borrowed for the call; not NULL. Bytes as the system takes them; UTF-8 on
///                         Windows.
/// @param[in]  stream      Not NULL; read to its end and consumed on every return, success or failure: its release is
///                         NULL then.
/// @param[in]  format      A khonsu_ipc_format.
/// @param[in]  compression A khonsu_ipc_compression.
/// @param[out] error       May be NULL.
/// @return
/// - KHONSU_STATUS_OK: written.
/// - KHONSU_STATUS_INVALID_ARGUMENT: path or stream is NULL, path is empty, format or compression is none of its enum,
///   stream is released or lacks a callback, what it gives is malformed or of a type that Arrow IPC does not have, or
///   it failed with EINVAL.
/// - KHONSU_STATUS_STORAGE: the file cannot be written, or the stream failed in another way than those named here.
/// - KHONSU_STATUS_CORRUPTION: the stream came from khonsu_ipc_open_stream, and its file is damaged.
/// - KHONSU_STATUS_LIMIT_EXCEEDED: dictionaries are too large to be written as one, or the stream failed with ENOMEM.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure what was at path is as before. Threads: any. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_ipc_write_stream(
    path: *const c_char,
    stream: *mut ArrowArrayStream,
    format: i32,
    compression: i32,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 2 to 4.
    unsafe {
        let stream = take(stream);
        guard(error, move || {
            let mut stream = given(stream, "stream")?;
            let path = self::path(path)?;
            let format = self::format(format)?;
            let compression = self::compression(compression)?;
            ipc::write(path, &mut stream, format, compression)?;
            Ok(khonsu_status::Ok)
        })
    }
}
