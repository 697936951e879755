//! The three structs of the Arrow C Data and C Stream Interfaces.
//!
//! Owned values release themselves when they are dropped; NULL release means "nothing here".

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

/// One array as the Arrow C Data Interface lays it out.
#[repr(C)]
#[derive(Debug)]
pub struct ArrowArray {
    pub length: i64,
    pub null_count: i64,
    pub offset: i64,
    pub n_buffers: i64,
    pub n_children: i64,
    pub buffers: *mut *const c_void,
    pub children: *mut *mut ArrowArray,
    pub dictionary: *mut ArrowArray,
    pub release: Option<unsafe extern "C" fn(*mut ArrowArray)>,
    pub private_data: *mut c_void,
}

/// One type as the Arrow C Data Interface lays it out.
#[repr(C)]
#[derive(Debug)]
pub struct ArrowSchema {
    pub format: *const c_char,
    pub name: *const c_char,
    pub metadata: *const c_char,
    pub flags: i64,
    pub n_children: i64,
    pub children: *mut *mut ArrowSchema,
    pub dictionary: *mut ArrowSchema,
    pub release: Option<unsafe extern "C" fn(*mut ArrowSchema)>,
    pub private_data: *mut c_void,
}

/// A stream of batches as the Arrow C Stream Interface lays it out.
#[repr(C)]
#[derive(Debug)]
pub struct ArrowArrayStream {
    pub get_schema: Option<unsafe extern "C" fn(*mut ArrowArrayStream, *mut ArrowSchema) -> c_int>,
    pub get_next: Option<unsafe extern "C" fn(*mut ArrowArrayStream, *mut ArrowArray) -> c_int>,
    pub get_last_error: Option<unsafe extern "C" fn(*mut ArrowArrayStream) -> *const c_char>,
    pub release: Option<unsafe extern "C" fn(*mut ArrowArrayStream)>,
    pub private_data: *mut c_void,
}

impl ArrowArray {
    /// The struct that holds nothing.
    pub const fn released() -> Self {
        ArrowArray {
            length: 0,
            null_count: 0,
            offset: 0,
            n_buffers: 0,
            n_children: 0,
            buffers: ptr::null_mut(),
            children: ptr::null_mut(),
            dictionary: ptr::null_mut(),
            release: None,
            private_data: ptr::null_mut(),
        }
    }
}

impl ArrowSchema {
    /// The struct that holds nothing.
    pub const fn released() -> Self {
        ArrowSchema {
            format: ptr::null(),
            name: ptr::null(),
            metadata: ptr::null(),
            flags: 0,
            n_children: 0,
            children: ptr::null_mut(),
            dictionary: ptr::null_mut(),
            release: None,
            private_data: ptr::null_mut(),
        }
    }
}

impl ArrowArrayStream {
    /// The struct that holds nothing.
    pub const fn released() -> Self {
        ArrowArrayStream {
            get_schema: None,
            get_next: None,
            get_last_error: None,
            release: None,
            private_data: ptr::null_mut(),
        }
    }
}

macro_rules! moved_and_released {
    ($name:ident) => {
        impl $name {
            /// Moves the struct out, leaving the source marked as released. NULL, and an address
            /// that cannot hold the struct, give a released one.
            ///
            /// # Safety
            /// `source` is NULL, or valid for reads and writes and initialized as its interface
            /// says; nobody else uses it during the call.
            pub unsafe fn take(source: *mut $name) -> $name {
                if source.is_null() || !source.is_aligned() {
                    return $name::released();
                }
                // SAFETY: not NULL, aligned and, by the caller's promise, valid and exclusive.
                unsafe { (*source).take_out() }
            }

            /// Moves the struct out, leaving this one marked as released.
            pub fn take_out(&mut self) -> $name {
                // SAFETY: with its release callback gone this one is never released a second time.
                let moved = unsafe { ptr::read(self) };
                self.release = None;
                moved
            }

            /// Releases the struct where it is, unless it is released already.
            #[inline]
            pub fn release_in_place(&mut self) {
                if let Some(release) = self.release {
                    // SAFETY: a struct whose release is set is owned here and not released yet; it is the one that the
                    // callback is to mark.
                    unsafe { release(self) }
                    // Whether it has marked it or not.
                    self.release = None;
                }
            }
        }

        impl Drop for $name {
            #[inline]
            fn drop(&mut self) {
                self.release_in_place();
            }
        }

        // SAFETY: the interface has no tie to a thread: an owner may use and release the struct
        // wherever it is, and the producer has to allow for that.
        unsafe impl Send for $name {}
    };
}

moved_and_released!(ArrowArray);
moved_and_released!(ArrowSchema);
moved_and_released!(ArrowArrayStream);

// The structs stand for arrow-rs's own ones, whose fields are private.
const _: () = {
    assert!(size_of::<ArrowArray>() == size_of::<arrow_data::ffi::FFI_ArrowArray>());
    assert!(align_of::<ArrowArray>() == align_of::<arrow_data::ffi::FFI_ArrowArray>());
    assert!(size_of::<ArrowSchema>() == size_of::<arrow_schema::ffi::FFI_ArrowSchema>());
    assert!(align_of::<ArrowSchema>() == align_of::<arrow_schema::ffi::FFI_ArrowSchema>());
};
