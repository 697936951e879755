//! Names the shared library for the dynamic linker. The header is not made here: it is committed, and `tests/header.rs`
//! keeps it in step, so that a build needs no cbindgen.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    let major = std::env::var("CARGO_PKG_VERSION_MAJOR").expect("cargo sets the version of the package");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libkhonsu.so.{major}");
    // Destructors of thread-local state may run after a dlclose: the code has to stay mapped.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
