//! A small file in a directory: whole or not at all, and durable when what changes it returns.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};

/// What the file says; None where it is not there.
pub(crate) fn read(directory: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    let path = directory.join(name);
    match fs::read(&path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", &path)(e)),
    }
}

/// Writes a value as JSON, in place of what the file says.
pub(crate) fn write(directory: &Path, name: &str, value: &impl Serialize) -> Result<()> {
    let (path, unfinished) = (directory.join(name), unfinished(directory, name));
    let text = serde_json::to_vec_pretty(value)
        .map_err(|e| Error::Internal(format!("{} cannot be written: {e}", path.display())))?;
    let written = File::create(&unfinished).and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        File::open(directory)?.sync_all()
    });
    written.map_err(Error::io("write", &path))
}

/// Removes it, there or not.
pub(crate) fn remove(directory: &Path, name: &str) -> Result<()> {
    for path in [unfinished(directory, name), directory.join(name)] {
        match fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io("remove", &path)(e)),
            _ => {}
        }
    }
    File::open(directory).and_then(|opened| opened.sync_all()).map_err(Error::io("sync", directory))
}

/// Where a crash may leave what was not finished; the next write begins it anew.
fn unfinished(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.tmp"))
}
