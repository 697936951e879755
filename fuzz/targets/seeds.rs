//! Writes inputs for the fuzzers to begin with: seeds FOLDER

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).ok_or_else(|| std::io::Error::other("seeds FOLDER"))?;
    khonsu_fuzz::seeds::write(folder.as_ref())
}
