//! Inputs to begin with: bytes at random where any bytes are an input, and good Arrow IPC files; and those to keep.

use std::collections::BTreeSet;
use std::fs;
use std::io::Result;
use std::path::{Path, PathBuf};

use khonsu::ffi::ipc::*;
use khonsu::ffi::status::khonsu_status as Status;

use crate::bridge::c_stream;
use crate::call::call;
use crate::operations::values::{SCHEMAS, Value, schema};

const RANDOM_INPUTS: u64 = 500;

/// Writes the inputs of each target into a folder of its name.
pub fn write(folder: &Path) -> Result<()> {
    for target in ["operations", "import"] {
        fs::create_dir_all(folder.join(target))?;
        for number in 0..RANDOM_INPUTS {
            fs::write(folder.join(target).join(format!("random-{number}")), random(number))?;
        }
    }
    let folder = folder.join("ipc");
    fs::create_dir_all(&folder)?;
    for schema in 0..SCHEMAS {
        for (format, name) in [(khonsu_ipc_format::File, "file"), (khonsu_ipc_format::Stream, "stream")] {
            for compression in [khonsu_ipc_compression::None, khonsu_ipc_compression::Lz4, khonsu_ipc_compression::Zstd]
            {
                write_file(&folder.join(format!("{name}-{schema}-{compression:?}")), schema, format, compression);
            }
        }
    }
    Ok(())
}

/// Adds to a corpus those inputs of other folders that reach an outcome which nothing in it reaches.
pub fn complete(target: fn(&[u8]), corpus: &Path, others: &[PathBuf]) -> Result<()> {
    let mut reached = BTreeSet::new();
    let mut run = |input: &Path| -> Result<bool> {
        target(&fs::read(input)?);
        let before = reached.len();
        reached.extend(crate::reached::take().into_keys());
        Ok(reached.len() > before)
    };
    for input in files(corpus)? {
        run(&input)?;
    }
    for other in others {
        for input in files(other)? {
            if run(&input)? {
                fs::copy(&input, corpus.join(input.file_name().expect("a file has a name")))?;
            }
        }
    }
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
fn random(seed: u64) -> Vec<u8> {
    let mut state = seed << 32;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let length = 50 + next() % 800;
    (0..length).map(|_| next() as u8).collect()
}

fn write_file(path: &Path, schema_index: usize, format: khonsu_ipc_format, compression: khonsu_ipc_compression) {
    let values = [vec![1, 2, 5, 6, 7], vec![9, 40]].map(|rows| Value { schema: schema_index, rows });
    let mut stream = c_stream(values.map(|value| Ok(value.batch())).into(), schema(schema_index));
    let path = crate::ipc::c_path(path);
    let status = call!(khonsu_ipc_write_stream(path.as_ptr(), &mut stream, format as i32, compression as i32));
    assert_eq!(status, Status::Ok);
}
