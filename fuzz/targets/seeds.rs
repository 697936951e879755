//! Makes corpora for the fuzzers:
//!     seeds FOLDER                             writes inputs to begin with
//!     seeds --complete TARGET CORPUS FROM...   adds those that reach what the corpus does not

use std::io::{Error, Result};
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    khonsu_fuzz::panics::hush();
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    match arguments.as_slice() {
        [folder] => khonsu_fuzz::seeds::write(folder),
        [option, target, corpus, others @ ..] if option == Path::new("--complete") => {
            let target = match target.to_str() {
                Some("operations") => khonsu_fuzz::operations::run,
                Some("import") => khonsu_fuzz::import::run,
                Some("ipc") => khonsu_fuzz::ipc::run,
                _ => return Err(Error::other("no such target")),
            };
            khonsu_fuzz::seeds::complete(target, corpus, others)
        }
        _ => Err(Error::other("seeds FOLDER | --complete TARGET CORPUS FROM...")),
    }
}
