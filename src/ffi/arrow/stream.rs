//! Streams of batches, in and out.

use super::batch::Batch;
use super::convert::describe;
use super::raw::{ArrowArray, ArrowArrayStream, ArrowSchema};
use super::schema::SchemaRef;
use super::{catch, within};
use crate::ffi::error::Failure;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

/// What is still to come.
enum Batches {
    None,
    One(Batch),
    Many(Box<dyn Iterator<Item = Result<Batch, Failure>> + Send>),
}

/// What an exported stream owns.
struct Exported {
    schema: SchemaRef,
    /// None after the end, after a failure and after a panic.
    batches: Batches,
    failure: Option<Failure>,
    /// The text of `failure` as C has it; replaced by the next failure only.
    message: CString,
}

impl Exported {
    /// The next batch. After a failure there is the same failure again, after the end nothing.
    fn next(&mut self) -> Result<Option<Batch>, Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        // Taken out, so that an iterator that panicked is not asked again.
        let mut batches = match std::mem::replace(&mut self.batches, Batches::None) {
            Batches::None => return Ok(None),
            Batches::One(batch) => return Ok(Some(batch)),
            Batches::Many(batches) => batches,
        };
        let failure = match catch(|| batches.next()) {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(batch))) if batch.schema() == &self.schema => {
                self.batches = Batches::Many(batches);
                return Ok(Some(batch));
            }
            Ok(Some(Ok(batch))) => mismatch(&self.schema, batch.schema()),
            Ok(Some(Err(failure))) => failure,
            Err(panic) => Failure::panic(panic),
        };
        self.message = c_text(&failure.message);
        self.failure = Some(failure.clone());
        Err(failure)
    }
}

fn mismatch(expected: &SchemaRef, found: &SchemaRef) -> Failure {
    Failure::schema_mismatch(format!(
        "the stream is of {}, but a batch is of {}",
        describe(expected.arrow()),
        describe(found.arrow())
    ))
}

fn c_text(message: &str) -> CString {
    // Text up to a NUL is better than none.
    let end = message.find('\0').unwrap_or(message.len());
    CString::new(&message[..end]).unwrap_or_default()
}

/// A stream that the consumer pulls the batches through; each must be of `schema`. It may be used and
/// released on any thread. After a failure every further call fails alike.
pub fn export_stream(
    schema: SchemaRef,
    batches: impl Iterator<Item = Result<Batch, Failure>> + Send + 'static,
) -> ArrowArrayStream {
    stream_of(schema, Batches::Many(Box::new(batches)))
}

/// The same of a single batch.
pub fn export_one(batch: Batch) -> ArrowArrayStream {
    stream_of(batch.schema().clone(), Batches::One(batch))
}

fn stream_of(schema: SchemaRef, batches: Batches) -> ArrowArrayStream {
    let exported = Box::new(Exported { schema, batches, failure: None, message: CString::default() });
    ArrowArrayStream {
        get_schema: Some(get_schema),
        get_next: Some(get_next),
        get_last_error: Some(get_last_error),
        release: Some(release_stream),
        private_data: Box::into_raw(exported).cast(),
    }
}

/// # Safety
/// As the C Stream Interface says: a stream exported here and not released, not used by another
/// thread meanwhile; `out` can be written.
unsafe extern "C" fn get_schema(stream: *mut ArrowArrayStream, out: *mut ArrowSchema) -> c_int {
    if stream.is_null() || out.is_null() {
        return libc::EINVAL;
    }
    // SAFETY: a live stream of ours.
    let exported = unsafe { &*(*stream).private_data.cast::<Exported>() };
    let (schema, code) = match catch(|| exported.schema.export()) {
        Ok(schema) => (schema, 0),
        Err(_) => (ArrowSchema::released(), libc::EIO),
    };
    // SAFETY: the consumer's struct, which holds nothing yet.
    unsafe { ptr::write(out, schema) };
    code
}

/// # Safety
/// As for `get_schema`.
unsafe extern "C" fn get_next(stream: *mut ArrowArrayStream, out: *mut ArrowArray) -> c_int {
    if stream.is_null() || out.is_null() {
        return libc::EINVAL;
    }
    // SAFETY: a live stream of ours, used by this thread only.
    let exported = unsafe { &mut *(*stream).private_data.cast::<Exported>() };
    let (array, code) = match catch(|| exported.next()) {
        Ok(Ok(Some(batch))) => (batch.export(), 0),
        Ok(Ok(None)) => (ArrowArray::released(), 0),
        Ok(Err(failure)) => (ArrowArray::released(), errno(&failure)),
        Err(_) => (ArrowArray::released(), libc::EIO),
    };
    // SAFETY: the consumer's struct, which holds nothing yet.
    unsafe { ptr::write(out, array) };
    code
}

/// # Safety
/// As for `get_schema`. The text lives until the next call on the stream.
unsafe extern "C" fn get_last_error(stream: *mut ArrowArrayStream) -> *const c_char {
    if stream.is_null() {
        return ptr::null();
    }
    // SAFETY: a live stream of ours.
    let exported = unsafe { &*(*stream).private_data.cast::<Exported>() };
    match exported.failure {
        Some(_) => exported.message.as_ptr(),
        None => ptr::null(),
    }
}

/// # Safety
/// As the C Stream Interface says: called once for a stream that was exported here.
unsafe extern "C" fn release_stream(stream: *mut ArrowArrayStream) {
    if stream.is_null() {
        return;
    }
    // SAFETY: a stream of ours; it is marked as released, so its box is freed once.
    unsafe {
        if (*stream).release.take().is_none() {
            return;
        }
        let exported = Box::from_raw((*stream).private_data.cast::<Exported>());
        (*stream).private_data = ptr::null_mut();
        // An iterator's destructor must not unwind into C.
        let _ = catch(|| drop(exported));
    }
}

/// The number that stands for a failure where only a number crosses.
fn errno(failure: &Failure) -> c_int {
    match failure.status as i32 {
        // The families of khonsu_status: what the caller gave (a damaged file, too), what the machine could not do.
        200..=202 | 301 => libc::EINVAL,
        203 => libc::ENOMEM,
        110 => libc::ETIMEDOUT,
        111 => libc::ECANCELED,
        100 => libc::EAGAIN,
        _ => libc::EIO,
    }
}

/// A stream that was moved in, as an iterator over its checked batches. It ends after a failure.
pub struct StreamReader {
    schema: SchemaRef,
    source: Option<Source>,
}

enum Source {
    Foreign(ArrowArrayStream),
    /// One of ours: its batches and its failures need not cross the interface.
    Own(Box<Exported>),
}

impl StreamReader {
    /// Moves the stream in and asks it for its schema. The struct is always consumed; the stream is
    /// released when the reader has come to the end, or goes.
    ///
    /// INVALID_ARGUMENT when the stream is NULL, released, or lacks a callback, or when its schema is
    /// malformed; the producer's own failures as STORAGE, INVALID_ARGUMENT (EINVAL) or
    /// LIMIT_EXCEEDED (ENOMEM), with its text.
    ///
    /// # Safety
    /// `stream` is NULL or points to a struct that is initialized as the C Stream Interface says, as
    /// are the schema and the arrays that it gives.
    pub unsafe fn open(stream: *mut ArrowArrayStream) -> Result<StreamReader, Failure> {
        if stream.is_null() {
            return Err(Failure::invalid_argument("the stream is NULL"));
        }
        // SAFETY: the caller's promise.
        let mut stream = unsafe { ArrowArrayStream::take(stream) };
        let Some(release) = stream.release else {
            return Err(Failure::invalid_argument("the ArrowArrayStream is already released"));
        };
        if ptr::fn_addr_eq(release, release_stream as unsafe extern "C" fn(*mut ArrowArrayStream)) {
            stream.release = None;
            // SAFETY: only our own streams have this callback, and this one is not released yet; the
            // mark above leaves the box to us.
            let exported = unsafe { Box::from_raw(stream.private_data.cast::<Exported>()) };
            return Ok(StreamReader { schema: exported.schema.clone(), source: Some(Source::Own(exported)) });
        }
        let (Some(get_schema), Some(_)) = (stream.get_schema, stream.get_next) else {
            return Err(Failure::invalid_argument("a callback of the stream is NULL"));
        };
        let mut schema = ArrowSchema::released();
        // SAFETY: the producer's callback on its own stream, which is not released.
        let code = unsafe { get_schema(&mut stream, &mut schema) };
        if code != 0 {
            // What a producer leaves in an output after a failure is not to be released.
            std::mem::forget(schema);
            return Err(producer_failure(&mut stream, code));
        }
        let schema = SchemaRef::from_c(schema).map_err(|failure| within("stream", failure))?;
        Ok(StreamReader { schema, source: Some(Source::Foreign(stream)) })
    }

    /// The schema of every batch.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn pull(&mut self) -> Result<Option<Batch>, Failure> {
        match &mut self.source {
            None => Ok(None),
            Some(Source::Own(exported)) => exported.next(),
            Some(Source::Foreign(stream)) => {
                let Some(get_next) = stream.get_next else {
                    return Ok(None);
                };
                let mut array = ArrowArray::released();
                // SAFETY: the producer's callback on its own stream, which is not released.
                let code = unsafe { get_next(stream, &mut array) };
                if code != 0 {
                    std::mem::forget(array);
                    return Err(producer_failure(stream, code));
                }
                if array.release.is_none() {
                    return Ok(None);
                }
                Batch::from_c(&mut array, &self.schema, false).map(Some).map_err(|failure| within("stream", failure))
            }
        }
    }
}

impl Iterator for StreamReader {
    type Item = Result<Batch, Failure>;

    fn next(&mut self) -> Option<Result<Batch, Failure>> {
        let next = self.pull();
        if !matches!(next, Ok(Some(_))) {
            self.source = None;
        }
        next.transpose()
    }
}

/// Reads a stream to its end; the struct is always consumed. Fails as [`StreamReader::open`] does, and
/// with INVALID_ARGUMENT when a batch does not match the stream's schema.
///
/// # Safety
/// As for [`StreamReader::open`].
pub unsafe fn import_stream(stream: *mut ArrowArrayStream) -> Result<(SchemaRef, Vec<Batch>), Failure> {
    // SAFETY: the caller's promise.
    let mut reader = unsafe { StreamReader::open(stream) }?;
    let batches = reader.by_ref().collect::<Result<Vec<Batch>, Failure>>()?;
    Ok((reader.schema.clone(), batches))
}

/// What the producer says about its failure.
fn producer_failure(stream: &mut ArrowArrayStream, code: c_int) -> Failure {
    let text = stream.get_last_error.and_then(|get_last_error| {
        // SAFETY: the producer's callback on its own stream, right after the call that failed; the
        // text is NUL-terminated and copied before the next call.
        unsafe {
            let text = get_last_error(stream);
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    });
    let message =
        format!("the stream's producer failed: {} (errno {code})", text.as_deref().unwrap_or("it gives no message"));
    match code {
        libc::EINVAL => Failure::invalid_argument(message),
        libc::ENOMEM => Failure::limit_exceeded(message),
        _ => Failure::storage(message),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn small() -> Batch {
        let batch = samples::small();
        let schema = SchemaRef::from_arrow(&batch.schema()).unwrap();
        Batch::from_record_batch(&batch, &schema).unwrap()
    }

    /// Makes a stream of ours look like somebody else's, and counts its releases.
    struct Wrapped {
        inner: ArrowArrayStream,
        released: Arc<AtomicUsize>,
    }

    unsafe extern "C" fn wrapped_schema(stream: *mut ArrowArrayStream, out: *mut ArrowSchema) -> c_int {
        // SAFETY: set by `wrap`.
        unsafe {
            let inner = &mut (*(*stream).private_data.cast::<Wrapped>()).inner;
            inner.get_schema.unwrap()(inner, out)
        }
    }

    unsafe extern "C" fn wrapped_next(stream: *mut ArrowArrayStream, out: *mut ArrowArray) -> c_int {
        // SAFETY: set by `wrap`.
        unsafe {
            let inner = &mut (*(*stream).private_data.cast::<Wrapped>()).inner;
            inner.get_next.unwrap()(inner, out)
        }
    }

    unsafe extern "C" fn wrapped_error(stream: *mut ArrowArrayStream) -> *const c_char {
        // SAFETY: set by `wrap`.
        unsafe {
            let inner = &mut (*(*stream).private_data.cast::<Wrapped>()).inner;
            inner.get_last_error.unwrap()(inner)
        }
    }

    unsafe extern "C" fn wrapped_release(stream: *mut ArrowArrayStream) {
        // SAFETY: set by `wrap`.
        unsafe {
            (*stream).release = None;
            let wrapped = Box::from_raw((*stream).private_data.cast::<Wrapped>());
            wrapped.released.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn wrap(inner: ArrowArrayStream) -> (ArrowArrayStream, Arc<AtomicUsize>) {
        let released = Arc::new(AtomicUsize::new(0));
        let wrapped = Box::new(Wrapped { inner, released: released.clone() });
        let stream = ArrowArrayStream {
            get_schema: Some(wrapped_schema),
            get_next: Some(wrapped_next),
            get_last_error: Some(wrapped_error),
            release: Some(wrapped_release),
            private_data: Box::into_raw(wrapped).cast(),
        };
        (stream, released)
    }

    fn export(batches: Vec<Result<Batch, Failure>>) -> ArrowArrayStream {
        export_stream(small().schema().clone(), batches.into_iter())
    }

    #[test]
    fn streams_cross_as_ours_and_as_foreign_ones() {
        for foreign in [false, true] {
            let mut stream = export(vec![Ok(small()), Ok(small())]);
            let mut released = None;
            if foreign {
                let (wrapped, count) = wrap(stream);
                (stream, released) = (wrapped, Some(count));
            }
            // SAFETY: made by `export_stream`.
            let (schema, batches) = unsafe { import_stream(&mut stream) }.unwrap();
            assert!(stream.release.is_none());
            assert!(&schema == small().schema());
            assert_eq!(batches.len(), 2);
            assert_eq!(batches[1].to_record_batch().unwrap(), samples::small());
            if let Some(released) = released {
                assert_eq!(released.load(Ordering::Relaxed), 1);
            }
        }
    }

    #[test]
    fn arrow_rs_reads_the_stream() {
        let stream = export(vec![Ok(small()), Ok(small())]);
        // SAFETY: the two structs have the same layout: five pointers.
        let stream =
            unsafe { std::mem::transmute::<ArrowArrayStream, arrow_array::ffi_stream::FFI_ArrowArrayStream>(stream) };
        let reader = arrow_array::ffi_stream::RecordBatchStreamReader::try_new(stream).unwrap();
        assert_eq!(arrow_array::RecordBatchReader::schema(&reader), samples::small().schema());
        let batches: Vec<_> = reader.map(Result::unwrap).collect();
        assert_eq!(batches, [samples::small(), samples::small()]);
    }

    #[test]
    fn a_failed_stream_stays_failed() {
        let mut stream = export(vec![Ok(small()), Err(Failure::corruption("torn\0page")), Ok(small())]);
        let (get_next, get_last_error) = (stream.get_next.unwrap(), stream.get_last_error.unwrap());
        // SAFETY: a stream of ours.
        unsafe {
            let mut array = ArrowArray::released();
            assert!(get_last_error(&mut stream).is_null());
            assert_eq!(get_next(&mut stream, &mut array), 0);
            assert!(array.release.is_some());
            drop(array);
            for _ in 0..3 {
                let mut array = ArrowArray::released();
                assert_eq!(get_next(&mut stream, &mut array), libc::EINVAL);
                assert!(array.release.is_none());
                let text = CStr::from_ptr(get_last_error(&mut stream));
                assert_eq!(text, c"torn");
            }
        }
    }

    #[test]
    fn failures_reach_the_reader() {
        // Ours keep their status, foreign ones give what errno tells.
        let mut own = export(vec![Err(Failure::corruption("torn"))]);
        // SAFETY: made by `export_stream`.
        let failure = unsafe { import_stream(&mut own) }.unwrap_err();
        assert_eq!(failure.status, Failure::corruption("").status);
        assert!(own.release.is_none());
        for (failure, status) in [
            (Failure::corruption("torn"), Failure::invalid_argument("").status),
            (Failure::storage("gone"), Failure::storage("").status),
            (Failure::invalid_argument("bad"), Failure::invalid_argument("").status),
            (Failure::limit_exceeded("much"), Failure::limit_exceeded("").status),
        ] {
            let text = failure.message.clone();
            let (mut stream, released) = wrap(export(vec![Ok(small()), Err(failure)]));
            // SAFETY: made by `export_stream`.
            let failure = unsafe { import_stream(&mut stream) }.unwrap_err();
            assert_eq!(failure.status, status);
            assert!(failure.message.contains(&text), "{}", failure.message);
            assert_eq!(released.load(Ordering::Relaxed), 1);
        }
    }

    #[test]
    fn a_panic_becomes_a_failure() {
        let mut step = 0;
        let (mut stream, _) = wrap(export_stream(
            small().schema().clone(),
            std::iter::from_fn(move || {
                step += 1;
                assert!(step < 2, "planned panic");
                Some(Ok(small()))
            }),
        ));
        // SAFETY: made by `export_stream`.
        let failure = unsafe { import_stream(&mut stream) }.unwrap_err();
        assert!(failure.message.contains("planned panic"), "{}", failure.message);
    }

    #[test]
    fn batches_of_another_schema_are_refused() {
        let other = samples::batch_of(samples::columns(2));
        let schema = SchemaRef::from_arrow(&other.schema()).unwrap();
        let other = Batch::from_record_batch(&other, &schema).unwrap();
        let mut stream = export(vec![Ok(other)]);
        // SAFETY: made by `export_stream`.
        let failure = unsafe { import_stream(&mut stream) }.unwrap_err();
        assert_eq!(failure.status, Failure::schema_mismatch("").status);
    }

    #[test]
    fn hostile_streams_are_refused() {
        // SAFETY: NULL is checked.
        let failure = unsafe { import_stream(ptr::null_mut()) }.unwrap_err();
        assert_eq!(failure.message, "the stream is NULL");
        let mut released = ArrowArrayStream::released();
        // SAFETY: a released struct.
        let failure = unsafe { import_stream(&mut released) }.unwrap_err();
        assert!(failure.message.contains("already released"));
        for spoil in [
            |stream: &mut ArrowArrayStream| stream.get_schema = None,
            |stream: &mut ArrowArrayStream| stream.get_next = None,
        ] {
            let (mut stream, released) = wrap(export(vec![Ok(small())]));
            spoil(&mut stream);
            // SAFETY: made by `export_stream`, but for the callback.
            let failure = unsafe { import_stream(&mut stream) }.unwrap_err();
            assert!(failure.message.contains("callback"), "{}", failure.message);
            assert_eq!(released.load(Ordering::Relaxed), 1);
        }
        // Without a text.
        let (mut stream, released) = wrap(export(vec![Err(Failure::storage("x"))]));
        stream.get_last_error = None;
        // SAFETY: made by `export_stream`, but for the callback.
        let failure = unsafe { import_stream(&mut stream) }.unwrap_err();
        assert!(failure.message.contains("no message"), "{}", failure.message);
        assert_eq!(released.load(Ordering::Relaxed), 1);
    }
}
