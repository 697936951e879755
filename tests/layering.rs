//! The house rules that the compiler does not know: dependencies run one way, unsafe code has its places, sources are
//! ASCII.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn lines_with<'t>(text: &'t str, words: &[&str]) -> Vec<(usize, &'t str)> {
    let code = |line: &&str| !line.trim_start().starts_with("//");
    let numbered = text.lines().enumerate().filter(|(_, line)| code(line));
    numbered.filter(|(_, line)| words.iter().any(|word| line.contains(word))).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[test]
fn the_core_names_nothing_above_it() {
    let core = sources(&root().join("stm"));
    assert!(core.len() > 20, "the core was not found");
    for path in core {
        let text = fs::read_to_string(&path).expect("sources are text");
        let found = lines_with(&text, &["ffi", "extern \"C\"", "libc::", "std::fs", "std::ffi"]);
        assert!(found.is_empty(), "{}: {found:?}", path.display());
    }
}

#[test]
fn storage_names_nothing_above_it() {
    let storage = sources(&root().join("storage"));
    assert!(storage.len() > 10, "the storage was not found");
    for path in storage {
        let text = fs::read_to_string(&path).expect("sources are text");
        let text = text.split("#[cfg(test)]").next().expect("there is a first part").to_owned();
        let found = lines_with(&text, &["crate::ffi", "ffi::", "extern \"C\"", "libc::"]);
        assert!(found.is_empty(), "{}: {found:?}", path.display());
        // The file system has its one place.
        let found = lines_with(&text, &["std::fs", "fs::"]);
        let inside = path.ends_with("storage/durable/file.rs");
        assert!(inside || found.is_empty(), "{}: {found:?}", path.display());
    }
}

#[test]
fn two_phase_commit_names_the_core_alone() {
    let sources = sources(&root().join("two_phase_commit"));
    assert!(!sources.is_empty(), "two-phase commit was not found");
    for path in sources {
        let text = fs::read_to_string(&path).expect("sources are text");
        let found = lines_with(&text, &["ffi", "storage::", "extern \"C\"", "libc::", "std::fs"]);
        assert!(found.is_empty(), "{}: {found:?}", path.display());
    }
}

#[test]
fn unsafe_code_stays_in_its_places() {
    for path in sources(&root()) {
        let text = fs::read_to_string(&path).expect("sources are text");
        let inside = path.starts_with(root().join("ffi")) || path.starts_with(root().join("stm/memory"));
        let found = lines_with(&text, &["unsafe ", "allow(unsafe_code)"]);
        assert!(inside || found.is_empty(), "{}: {found:?}", path.display());
    }
}

#[test]
fn atomics_of_the_core_come_from_one_place() {
    for path in sources(&root().join("stm")) {
        let text = fs::read_to_string(&path).expect("sources are text");
        let found = lines_with(&text, &["std::sync::atomic", "core::sync::atomic"]);
        assert!(path.ends_with("sync.rs") || found.is_empty(), "{}: {found:?}", path.display());
    }
}

#[test]
fn sources_are_ascii() {
    for path in sources(&root()) {
        let text = fs::read_to_string(&path).expect("sources are text");
        assert!(text.is_ascii(), "{}", path.display());
    }
}
