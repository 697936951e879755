//! Imported schemas.

use super::arrow::{ArrowSchema, SchemaRef};
use super::error::{Failure, khonsu_error};
use super::guard::{guard, guard_or};
use super::handle::{Handle, borrow, into_handle, reclaim};
use super::out::{clear, clear_handle, given, require, take, write_if};
use super::status::khonsu_status;

/// A schema, checked once and used often: it spares each put and get the import and export of one. Made by
/// khonsu_schema_import, freed by khonsu_schema_free; values put with it keep what they need.
///
/// Threads: immutable; any number of threads may use it at once. Since: 0.1
pub struct khonsu_schema {
    _opaque: [u8; 0],
}

impl Handle for khonsu_schema {
    type Object = SchemaRef;
    type Owner = Box<SchemaRef>;
}

/// The schema behind a handle that may be NULL.
///
/// # Safety
/// Rule 1 holds for `schema`, which outlives `'a`.
pub(crate) unsafe fn wanted<'a>(schema: *const khonsu_schema) -> Result<Option<&'a SchemaRef>, Failure> {
    // SAFETY: rule 1.
    (!schema.is_null()).then(|| unsafe { borrow(schema, "schema") }).transpose()
}

/// Imports a schema.
///
/// @param[in]  schema That of a struct, whose children are the columns. Not NULL; consumed on every return, success or
///                    failure: its release is NULL then.
/// @param[out] out    Not NULL. The schema, owned by the caller: free it with khonsu_schema_free. NULL on failure.
/// @param[out] error  May be NULL.
/// @return
/// - KHONSU_STATUS_OK: imported.
/// - KHONSU_STATUS_INVALID_ARGUMENT: schema or out is NULL, or schema is released, malformed, of an unknown format, or
///   nested too deep.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// Threads: any. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_schema_import(
    schema: *mut ArrowSchema,
    out: *mut *mut khonsu_schema,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 3 and 4.
    unsafe {
        let schema = take(schema);
        clear_handle(out);
        guard(error, move || {
            let mut schema = given(schema, "schema")?;
            require(out, "out")?;
            let imported = Box::new(SchemaRef::import(&mut schema)?);
            write_if(out, || into_handle(imported));
            Ok(khonsu_status::Ok)
        })
    }
}

/// Exports a schema, equal to the one imported, metadata included.
///
/// @param[in]  schema     Not NULL.
/// @param[out] out_schema Not NULL. Owned by the caller, who releases it; valid after the handle is freed, on any
///                        thread.
/// @param[out] error      May be NULL.
/// @return
/// - KHONSU_STATUS_OK: exported.
/// - KHONSU_STATUS_INVALID_ARGUMENT: schema or out_schema is NULL.
/// - KHONSU_STATUS_PANIC: a defect in khonsu.
///
/// On failure release is NULL in out_schema. Threads: any number at once. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_schema_export(
    schema: *const khonsu_schema,
    out_schema: *mut ArrowSchema,
    error: *mut *mut khonsu_error,
) -> khonsu_status {
    // SAFETY: rules 1 and 3.
    unsafe {
        clear(out_schema);
        guard(error, || {
            require(out_schema, "out_schema")?;
            let exported = borrow(schema, "schema")?.export();
            write_if(out_schema, || exported);
            Ok(khonsu_status::Ok)
        })
    }
}

/// Frees an imported schema. Values put with it are not affected.
///
/// @param[in] schema Consumed; NULL does nothing.
///
/// Threads: once, by any thread, when no other uses the handle. Since: 0.1
#[unsafe(no_mangle)]
pub unsafe extern "C" fn khonsu_schema_free(schema: *mut khonsu_schema) {
    // SAFETY: rule 1, and this is the last use.
    guard_or((), || drop(unsafe { reclaim(schema) }));
}
