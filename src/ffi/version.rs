//! The version of the library.

use std::ffi::c_char;

/// The version of the library that runs, as text ("0.1.0").
///
/// Compare it with KHONSU_VERSION_STRING, the version of the header that the program was compiled with.
///
/// @return A string that lives as long as the process; never NULL.
///
/// Threads: any. Since: 0.1
#[unsafe(no_mangle)]
pub extern "C" fn khonsu_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
