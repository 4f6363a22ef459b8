//! Where the inputs of the fuzz targets lie, and what is asked of them together.

use std::fs;
use std::path::{Path, PathBuf};

/// Inputs a target's folder may have.
const INPUTS_MAX: usize = 200;
/// Bytes of all of them together.
const LEN_MAX: u64 = 300 << 10;

/// The folder of a target's inputs.
pub fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// The inputs of a target, in the order of their names; none where the package came without the fuzz targets.
fn inputs(target: &str) -> Vec<PathBuf> {
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").exists() {
        return Vec::new();
    }
    let entries = fs::read_dir(folder(target)).unwrap_or_else(|error| panic!("the inputs of {target}: {error}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a folder can be read").path()).collect();
    assert!(!paths.is_empty(), "{target} has no inputs");
    paths.sort();
    paths
}

/// Gives every input of a target to its body, and judges their number and length.
pub fn replay(target: &str, body: fn(&[u8])) {
    let paths = inputs(target);
    let len: u64 = paths.iter().map(|path| path.metadata().expect("an input can be read").len()).sum();
    assert!(paths.len() <= INPUTS_MAX && len <= LEN_MAX, "{target}: {} inputs, {len} bytes; minimise", paths.len());
    for path in paths {
        println!("{}", path.display());
        body(&fs::read(&path).expect("an input can be read"));
    }
}

/// Writes one seed.
pub fn put(target: &str, name: &str, bytes: &[u8]) {
    fs::create_dir_all(folder(target)).expect("the folder can be made");
    fs::write(folder(target).join(name), bytes).expect("a seed can be written");
}
